/* test_log_group: groups as bytes.
 */
#include <stdlib.h>

#include "proto/err.h"
#include "storage/log_group.h"
#include "tests/unit/test.h"

#define ID 0x1122334455667788u

struct sample {
    uint8_t bytes[512];
    size_t len;
    struct log_group g;
};

static void add_record(struct sample *s, uint8_t type, const char *payload)
{
    size_t len = strlen(payload);

    log_record_encode(type, (uint32_t)len, s->bytes + s->len);
    memcpy(s->bytes + s->len + LOG_RECORD_HEADER_BYTES, payload, len);
    s->len += LOG_RECORD_HEADER_BYTES + len;
    s->g.count++;
}

static void seal(struct sample *s)
{
    /* In two vectors: the checksum is over the bytes, however they are held. */
    struct iovec iov[2] = {
        {.iov_base = s->bytes + LOG_GROUP_HEADER_BYTES, .iov_len = 3},
        {.iov_base = s->bytes + LOG_GROUP_HEADER_BYTES + 3,
         .iov_len = s->len - LOG_GROUP_HEADER_BYTES - 3},
    };

    s->g.length = (uint32_t)(s->len - LOG_GROUP_HEADER_BYTES);
    log_group_encode(&s->g, iov, 2, s->bytes);
}

static void sample_init(struct sample *s)
{
    *s = (struct sample){.len = LOG_GROUP_HEADER_BYTES,
                         .g = {.format = 1, .log_id = ID, .generation = 5, .seq = 42}};
    add_record(s, 1, "one");
    add_record(s, 2, "");
    add_record(s, 3, "the third");
    seal(s);
}

static void a_group_is_read_as_written(void **state)
{
    struct slice payload;
    struct log_group g;
    struct sample s;
    size_t at = 0;
    uint8_t type;

    sample_init(&s);
    assert_true(log_group_decode(slice_of(s.bytes, sizeof(s.bytes)), ID, &g));
    assert_true(log_group_decode(slice_of(s.bytes, s.len), 0, &g));
    assert_true(g.format == 1 && g.log_id == ID && g.generation == 5 && g.seq == 42);
    assert_true(g.count == 3 && g.length == s.len - LOG_GROUP_HEADER_BYTES);
    struct slice records = slice_of(s.bytes + LOG_GROUP_HEADER_BYTES, g.length);
    assert_int_equal(log_record_next(records, &at, &type, &payload), 1);
    assert_true(type == 1 && slice_equal(payload, slice_str("one")));
    assert_int_equal(log_record_next(records, &at, &type, &payload), 1);
    assert_true(type == 2 && payload.len == 0);
    assert_int_equal(log_record_next(records, &at, &type, &payload), 1);
    assert_true(type == 3 && slice_equal(payload, slice_str("the third")));
    assert_int_equal(log_record_next(records, &at, &type, &payload), 0);
}

/* The format on disk is for ever. */
static void the_bytes_are_these(void **state)
{
    static const uint8_t header[LOG_GROUP_HEADER_BYTES] = {
        'q',  'u',  'o',  'i',  't',  'l',  'o',  'g',  1, 0, 0, 0, 0,  0, 0, 0,
        0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 5, 0, 0, 0, 0,  0, 0, 0,
        42,   0,    0,    0,    0,    0,    0,    0,    3, 0, 0, 0, 36, 0, 0, 0};
    static const uint8_t record[] = {3, 0, 0, 0, 1, 0, 0, 0, 'o', 'n', 'e', 0, 0, 0, 0, 2};
    static const uint8_t crc[4] = {0x8c, 0x3f, 0x33, 0x21};
    struct sample s;

    sample_init(&s);
    assert_memory_equal(s.bytes, header, 12);
    assert_memory_equal(s.bytes + 12, crc, 4);
    assert_memory_equal(s.bytes + 16, header + 16, sizeof(header) - 16);
    assert_memory_equal(s.bytes + 64, record, sizeof(record));
}

static void every_flipped_bit_is_noticed(void **state)
{
    struct log_group g;
    struct sample s;

    sample_init(&s);
    for (size_t bit = 0; bit < 8 * s.len; bit++) {
        s.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_false(log_group_decode(slice_of(s.bytes, sizeof(s.bytes)), 0, &g));
        s.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_true(log_group_decode(slice_of(s.bytes, sizeof(s.bytes)), ID, &g));
}

static void the_id_is_part_of_the_checksum(void **state)
{
    struct log_group g;
    struct sample s;

    sample_init(&s);
    assert_false(log_group_decode(slice_of(s.bytes, s.len), ID + 1, &g));
    s.bytes[16]++;
    assert_false(log_group_decode(slice_of(s.bytes, s.len), ID + 1, &g));
}

/* On memory of just that length, for the sanitizer. */
static void nothing_behind_the_end_is_read(void **state)
{
    struct sample s;

    sample_init(&s);
    for (size_t len = 0; len < s.len; len++) {
        uint8_t *bytes = malloc(len ? len : 1);
        struct log_group g;

        memcpy(bytes, s.bytes, len);
        assert_false(log_group_decode(slice_of(bytes, len), ID, &g));
        free(bytes);
    }
}

static void a_newer_format_is_still_recognised(void **state)
{
    struct log_group g;
    struct sample s;

    sample_init(&s);
    s.g.format = 7;
    seal(&s);
    assert_true(log_group_decode(slice_of(s.bytes, s.len), ID, &g));
    assert_int_equal(g.format, 7);
}

/* By the header alone, however much of the group is there, and only of this log. */
static void a_header_claims_a_group(void **state)
{
    struct sample s;
    uint64_t seq = 7;

    sample_init(&s);
    s.bytes[s.len - 1] ^= 1;
    for (size_t len = 0; len < LOG_GROUP_HEADER_BYTES; len++)
        assert_false(log_group_claims(slice_of(s.bytes, len), ID, &seq));
    assert_false(log_group_claims(slice_of(s.bytes, s.len), ID + 1, &seq));
    assert_int_equal(seq, 7);
    assert_true(log_group_claims(slice_of(s.bytes, LOG_GROUP_HEADER_BYTES), ID, &seq));
    assert_int_equal(seq, 42);
    s.bytes[0] ^= 1;
    assert_false(log_group_claims(slice_of(s.bytes, s.len), ID, &seq));
}

static void records_that_do_not_fit_are_corrupt(void **state)
{
    static const struct {
        uint8_t bytes[12];
        size_t len;
    } cases[] = {
        {{1, 0, 0, 0, 1}, 8},              /* a byte too many */
        {{0, 0, 0, 0, 1}, 7},              /* no whole header */
        {{0, 0, 0, 0, 1, 1}, 8},           /* not zero */
        {{0, 0, 0, 0, 1, 0, 0, 9}, 12},    /* not zero */
        {{0xff, 0xff, 0xff, 0xff, 1}, 12}, /* far beyond */
    };
    struct slice payload;
    uint8_t type;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        size_t at = 0;

        assert_int_equal(
            log_record_next(slice_of(cases[i].bytes, cases[i].len), &at, &type, &payload),
            -ERR_CORRUPT);
    }
}

static void groups_take_whole_blocks(void **state)
{
    assert_int_equal(log_group_disk_bytes(1), 4096);
    assert_int_equal(log_group_disk_bytes(4096 - 64), 4096);
    assert_int_equal(log_group_disk_bytes(4096 - 63), 8192);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_group_is_read_as_written),
        cmocka_unit_test(the_bytes_are_these),
        cmocka_unit_test(every_flipped_bit_is_noticed),
        cmocka_unit_test(the_id_is_part_of_the_checksum),
        cmocka_unit_test(nothing_behind_the_end_is_read),
        cmocka_unit_test(a_newer_format_is_still_recognised),
        cmocka_unit_test(a_header_claims_a_group),
        cmocka_unit_test(records_that_do_not_fit_are_corrupt),
        cmocka_unit_test(groups_take_whole_blocks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
