/* Framing: every way in which a stream can be cut gives the same frames, and lengths beyond the
 * limits are refused from the header alone.
 */
#include "test.h"

#include "proto/err.h"
#include "proto/frame.h"
#include "proto/limits.h"

#include <stdlib.h>

static struct buf stream_of(const size_t *lens, size_t n)
{
    struct buf b;

    buf_init(&b);
    for (size_t i = 0; i < n; i++) {
        uint8_t header[LIMIT_FRAME_HEADER_BYTES];
        frame_header(header, (uint32_t)lens[i]);
        assert_int_equal(buf_append(&b, header, sizeof(header)), 0);
        for (size_t j = 0; j < lens[i]; j++) {
            uint8_t byte = (uint8_t)(i * 31 + j);
            assert_int_equal(buf_append(&b, &byte, 1), 0);
        }
    }
    return b;
}

static void assert_body(struct slice body, size_t i, size_t len)
{
    assert_int_equal(body.len, len);
    for (size_t j = 0; j < len; j++)
        assert_int_equal(body.data[j], (uint8_t)(i * 31 + j));
}

/* Takes all whole frames off the front, checking each; returns how many in all were seen. */
static size_t drain(struct buf *in, const size_t *lens, size_t seen)
{
    for (;;) {
        struct slice body;
        size_t used, want;
        int r = frame_next(buf_slice(in), &body, &used, &want);
        assert_true(r >= 0);
        if (r == 0) {
            assert_int_equal(used, 0);
            size_t expect = in->len < LIMIT_FRAME_HEADER_BYTES
                                ? LIMIT_FRAME_HEADER_BYTES
                                : LIMIT_FRAME_HEADER_BYTES + lens[seen];
            assert_int_equal(want, expect);
            assert_true(want > in->len);
            return seen;
        }
        assert_body(body, seen, lens[seen]);
        assert_int_equal(used, LIMIT_FRAME_HEADER_BYTES + lens[seen]);
        buf_consume(in, used);
        seen++;
    }
}

static const size_t lens[] = {1, 2, 255, 3, 1, 256, 300, 7};

static void every_split_point_gives_the_same_frames(void **state)
{
    struct buf stream = stream_of(lens, ARRAY_LEN(lens));

    for (size_t cut = 0; cut <= stream.len; cut++) {
        struct buf in;
        buf_init(&in);
        assert_int_equal(buf_append(&in, stream.data, cut), 0);
        size_t seen = drain(&in, lens, 0);
        assert_int_equal(buf_append(&in, stream.data + cut, stream.len - cut), 0);
        assert_int_equal(drain(&in, lens, seen), ARRAY_LEN(lens));
        assert_int_equal(in.len, 0);
        buf_deinit(&in);
    }
    buf_deinit(&stream);
}

static void byte_by_byte_gives_the_same_frames(void **state)
{
    struct buf stream = stream_of(lens, ARRAY_LEN(lens)), in;
    size_t seen = 0;

    buf_init(&in);
    for (size_t i = 0; i < stream.len; i++) {
        assert_int_equal(buf_append(&in, stream.data + i, 1), 0);
        seen = drain(&in, lens, seen);
    }
    assert_int_equal(seen, ARRAY_LEN(lens));
    buf_deinit(&in);
    buf_deinit(&stream);
}

static int next_of_header(uint32_t len, size_t *ret_want)
{
    /* On the heap and exactly as long, so that a sanitizer sees a look beyond the header. */
    uint8_t *header = malloc(LIMIT_FRAME_HEADER_BYTES);
    struct slice body;
    size_t used = 99;

    assert_non_null(header);
    frame_header(header, len);
    int r = frame_next(slice_of(header, LIMIT_FRAME_HEADER_BYTES), &body, &used, ret_want);
    free(header);
    return r;
}

static void limits_are_judged_by_the_header(void **state)
{
    size_t want = 0;

    assert_int_equal(next_of_header(0, &want), -ERR_BAD_REQUEST);
    assert_int_equal(next_of_header(1, &want), 0);
    assert_int_equal(want, 5);
    assert_int_equal(next_of_header(LIMIT_FRAME_BYTES, &want), 0);
    assert_int_equal(want, LIMIT_FRAME_BYTES + 4u);
    assert_int_equal(next_of_header(LIMIT_FRAME_BYTES + 1, &want), -ERR_FRAME_TOO_LARGE);
    assert_int_equal(next_of_header(1u << 31, &want), -ERR_FRAME_TOO_LARGE);
    assert_int_equal(next_of_header(UINT32_MAX, &want), -ERR_FRAME_TOO_LARGE);
}

static void largest_frame_arrives_whole(void **state)
{
    size_t total = LIMIT_FRAME_HEADER_BYTES + LIMIT_FRAME_BYTES;
    uint8_t *bytes = calloc(1, total);
    struct slice body;
    size_t used, want;

    assert_non_null(bytes);
    frame_header(bytes, LIMIT_FRAME_BYTES);
    assert_int_equal(frame_next(slice_of(bytes, total - 1), &body, &used, &want), 0);
    assert_int_equal(want, total);
    assert_int_equal(frame_next(slice_of(bytes, total), &body, &used, &want), 1);
    assert_int_equal(used, total);
    assert_ptr_equal(body.data, bytes + LIMIT_FRAME_HEADER_BYTES);
    assert_int_equal(body.len, LIMIT_FRAME_BYTES);
    free(bytes);
}

static void header_is_big_endian(void **state)
{
    uint8_t header[4];

    frame_header(header, 0x01020304u);
    assert_memory_equal(header, "\x01\x02\x03\x04", 4);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_split_point_gives_the_same_frames),
        cmocka_unit_test(byte_by_byte_gives_the_same_frames),
        cmocka_unit_test(limits_are_judged_by_the_header),
        cmocka_unit_test(largest_frame_arrives_whole),
        cmocka_unit_test(header_is_big_endian),
    };
    return cmocka_run_group_tests_name("frame", tests, NULL, NULL);
}
