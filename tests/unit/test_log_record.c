/* test_log_record: what stands in the log, byte for byte, and what becomes of it damaged.
 *
 * A wipe has no checksum of its own (its group has one): of it only lengths and order are told.
 */
#include "tests/unit/test.h"

#include <stdlib.h>

#include "proto/err.h"
#include "storage/log_record.h"

#define PAYLOAD_MAX (sizeof(((struct log_pieces *)0)->head) + LIMIT_VALUE_BYTES + 1)

/* The pieces one after the other, as the log writes them. */
static struct slice joined(const struct log_pieces *p, uint8_t *out)
{
    size_t len = 0;

    assert_in_range(p->n, 1, ARRAY_LEN(p->piece));
    for (size_t i = 0; i < p->n; i++) {
        assert_true(p->piece[i].len > 0);
        assert_true(len + p->piece[i].len <= PAYLOAD_MAX);
        memcpy(out + len, p->piece[i].data, p->piece[i].len);
        len += p->piece[i].len;
    }
    return slice_of(out, len);
}

static uint8_t *buffer(void)
{
    uint8_t *b = calloc(1, PAYLOAD_MAX);

    assert_non_null(b);
    return b;
}

static struct slice make_key(size_t key_len, uint8_t *out)
{
    static const uint8_t bytes[LIMIT_KEY_BYTES] = "partition and sort";
    struct key key = {.bucket = 7, .partition = slice_of(bytes, key_len - key_len / 3)};

    key.sort = slice_of(bytes, key_len / 3);
    return slice_of(out, store_key_encode(0x0102030405060708u, &key, out));
}

static struct state make_state(struct slice value, bool deleted)
{
    return (struct state){.kind = STATE_LWW,
                          .deleted = deleted,
                          .version = {.hlc = 0x1112131415161718u, .actor = 0x2122232425262728u},
                          .value = value};
}

static void check_state(struct slice payload, struct slice key, const struct state *want)
{
    struct state got;
    struct slice got_key;

    assert_int_equal(log_record_state_decode(payload, &got_key, &got), 0);
    assert_true(slice_equal(got_key, key));
    assert_int_equal(got.kind, want->kind);
    assert_int_equal(got.deleted, want->deleted);
    assert_int_equal(version_compare(got.version, want->version), 0);
    assert_true(slice_equal(got.value, want->value));
    assert_true(got_key.data >= payload.data && /* borrowed, not copied */
                got_key.data + got_key.len <= payload.data + payload.len);
}

/* ---- states -------------------------------------------------------------------------------- */

static void a_state_has_this_layout(void **state)
{
    uint8_t *out = buffer(), key_bytes[STORE_KEY_BYTES_MAX], record[RECORD_HEADER_BYTES];
    struct slice key = make_key(3, key_bytes), payload;
    struct state s = make_state(slice_of("value", 5), false);
    struct log_pieces p;

    log_record_state(key, &s, &p);
    assert_int_equal(p.n, 2);
    assert_ptr_equal(p.piece[0].data, p.head);
    assert_ptr_equal(p.piece[1].data, s.value.data); /* not copied */
    payload = joined(&p, out);
    record_header_encode(key, &s, record);
    assert_int_equal(payload.len, 2 + 17 + RECORD_HEADER_BYTES + 5);
    assert_memory_equal(out, "\x11\x00", 2);
    assert_memory_equal(out + 2, key.data, 17);
    assert_memory_equal(out + 2 + 17, record, RECORD_HEADER_BYTES);
    assert_memory_equal(out + 2 + 17 + RECORD_HEADER_BYTES, "value", 5);
    free(out);
}

static void states_of_all_sizes_come_back(void **state)
{
    static const size_t key_lens[] = {1, 2, 3, 255, LIMIT_KEY_BYTES - 1, LIMIT_KEY_BYTES};
    static const size_t value_lens[] = {0, 1, 100, 4096, LIMIT_VALUE_BYTES};
    uint8_t *out = buffer(), *value = buffer(), key_bytes[STORE_KEY_BYTES_MAX];
    struct log_pieces p;

    for (size_t i = 0; i < ARRAY_LEN(key_lens); i++) {
        struct slice key = make_key(key_lens[i], key_bytes);
        struct state tombstone = make_state((struct slice){0}, true);

        for (size_t k = 0; k < ARRAY_LEN(value_lens); k++) {
            struct state s = make_state(slice_of(value, value_lens[k]), false);

            memset(value, (int)(i + 1), value_lens[k]);
            log_record_state(key, &s, &p);
            check_state(joined(&p, out), key, &s);
        }
        log_record_state(key, &tombstone, &p);
        check_state(joined(&p, out), key, &tombstone);
    }
    free(value);
    free(out);
}

/* Copied to its exact length, so that a sanitizer sees reading past the end. */
static int decode_state_copy(const uint8_t *bytes, size_t len)
{
    uint8_t *copy = malloc(len ? len : 1);
    struct slice key = slice_of("untouched", 9);
    struct state s = {.kind = 99};
    int r;

    assert_non_null(copy);
    memcpy(copy, bytes, len);
    r = log_record_state_decode(slice_of(copy, len), &key, &s);
    free(copy);
    if (r != 0) {
        assert_int_equal(key.len, 9);
        assert_int_equal(s.kind, 99);
    }
    return r;
}

static void damaged_states_are_corrupt(void **state)
{
    static const size_t key_lens[] = {1, 5, 300};
    uint8_t *out = buffer(), key_bytes[STORE_KEY_BYTES_MAX];
    struct log_pieces p;

    for (size_t i = 0; i < ARRAY_LEN(key_lens); i++) {
        struct state s = make_state(slice_of("value", i == 1 ? 0 : 5), i == 1);
        struct slice payload;

        log_record_state(make_key(key_lens[i], key_bytes), &s, &p);
        payload = joined(&p, out);
        for (size_t n = 0; n < payload.len; n++)
            assert_int_equal(decode_state_copy(out, n), -ERR_CORRUPT);
        assert_int_equal(decode_state_copy(out, payload.len + 1), -ERR_CORRUPT);
        for (size_t b = 0; b < 8 * payload.len; b++) {
            out[b / 8] ^= (uint8_t)(1 << b % 8);
            assert_int_equal(decode_state_copy(out, payload.len), -ERR_CORRUPT);
            out[b / 8] ^= (uint8_t)(1 << b % 8);
        }
        assert_int_equal(decode_state_copy(out, payload.len), 0);
    }
    free(out);
}

/* A state under a key of any bytes, with the right checksum. */
static struct slice state_of_any_key(struct slice key, struct slice value, uint8_t *out)
{
    struct state s = make_state(value, false);

    out[0] = (uint8_t)key.len;
    out[1] = (uint8_t)(key.len >> 8);
    memcpy(out + 2, key.data, key.len);
    record_header_encode(key, &s, out + 2 + key.len);
    memcpy(out + 2 + key.len + RECORD_HEADER_BYTES, value.data, value.len);
    return slice_of(out, 2 + key.len + RECORD_HEADER_BYTES + value.len);
}

static void states_beyond_the_limits_are_corrupt_although_their_checksum_is_right(void **state)
{
    uint8_t *out = buffer(), *value = buffer(), key[STORE_KEY_BYTES_MAX + 1];
    struct slice payload;

    make_key(LIMIT_KEY_BYTES, key);
    key[STORE_KEY_BYTES_MAX] = 'x';
    payload = state_of_any_key(slice_of(key, STORE_KEY_BYTES_MAX), slice_of(value, 1), out);
    assert_int_equal(decode_state_copy(payload.data, payload.len), 0);
    payload = state_of_any_key(slice_of(key, STORE_KEY_BYTES_MAX + 1), slice_of(value, 1), out);
    assert_int_equal(decode_state_copy(payload.data, payload.len), -ERR_CORRUPT);
    for (size_t len = 0; len <= STORE_KEY_HEADER_BYTES; len++) {
        payload = state_of_any_key(slice_of(key, len), slice_of(value, 1), out);
        assert_int_equal(decode_state_copy(payload.data, payload.len), -ERR_CORRUPT);
    }
    key[12] = 0xff; /* a partition key longer than the whole */
    payload = state_of_any_key(slice_of(key, 20), slice_of(value, 1), out);
    assert_int_equal(decode_state_copy(payload.data, payload.len), -ERR_CORRUPT);
    key[12] = 0;
    key[13] = 1;
    payload = state_of_any_key(slice_of(key, 20), slice_of(value, LIMIT_VALUE_BYTES), out);
    assert_int_equal(decode_state_copy(payload.data, payload.len), 0);
    payload = state_of_any_key(slice_of(key, 20), slice_of(value, LIMIT_VALUE_BYTES + 1), out);
    assert_int_equal(decode_state_copy(payload.data, payload.len), -ERR_CORRUPT);
    free(value);
    free(out);
}

/* ---- facts --------------------------------------------------------------------------------- */

static void a_fact_has_this_layout(void **state)
{
    uint8_t *out = buffer(), header[FACT_HEADER_BYTES];
    struct slice name = slice_str("ring"), value = slice_str("value"), payload;
    struct log_pieces p;

    log_record_fact(name, value, &p);
    assert_ptr_equal(p.piece[1].data, value.data);
    payload = joined(&p, out);
    fact_header_encode(name, value, header);
    assert_int_equal(payload.len, 1 + 4 + FACT_HEADER_BYTES + 5);
    assert_memory_equal(out, "\x04ring", 5);
    assert_memory_equal(out + 5, header, FACT_HEADER_BYTES);
    assert_memory_equal(out + 5 + FACT_HEADER_BYTES, "value", 5);
    free(out);
}

static int decode_fact_copy(const uint8_t *bytes, size_t len)
{
    uint8_t *copy = malloc(len ? len : 1);
    struct slice name = slice_of("untouched", 9), value = slice_of("untouched", 9);
    int r;

    assert_non_null(copy);
    memcpy(copy, bytes, len);
    r = log_record_fact_decode(slice_of(copy, len), &name, &value);
    free(copy);
    if (r != 0) {
        assert_int_equal(name.len, 9);
        assert_int_equal(value.len, 9);
    }
    return r;
}

static void facts_come_back_and_damaged_ones_are_corrupt(void **state)
{
    static const char names[] = "a fact's name of thirty two bytes";
    static const size_t name_lens[] = {1, 2, LOG_FACT_NAME_MAX};
    static const size_t value_lens[] = {0, 1, 64};
    uint8_t *out = buffer(), value[64];
    struct slice got_name, got_value, payload;
    struct log_pieces p;

    memset(value, 'v', sizeof(value));
    for (size_t i = 0; i < ARRAY_LEN(name_lens) * ARRAY_LEN(value_lens); i++) {
        struct slice name = slice_of(names, name_lens[i / ARRAY_LEN(value_lens)]);
        struct slice v = slice_of(value, value_lens[i % ARRAY_LEN(value_lens)]);

        log_record_fact(name, v, &p);
        payload = joined(&p, out);
        assert_int_equal(log_record_fact_decode(payload, &got_name, &got_value), 0);
        assert_true(slice_equal(got_name, name) && slice_equal(got_value, v));
        for (size_t n = 0; n < payload.len; n++)
            assert_int_equal(decode_fact_copy(out, n), -ERR_CORRUPT);
        for (size_t b = 0; b < 8 * payload.len; b++) {
            out[b / 8] ^= (uint8_t)(1 << b % 8);
            assert_int_equal(decode_fact_copy(out, payload.len), -ERR_CORRUPT);
            out[b / 8] ^= (uint8_t)(1 << b % 8);
        }
    }
    free(out);
}

static void facts_beyond_the_limits_are_corrupt_although_their_checksum_is_right(void **state)
{
    uint8_t *out = buffer(), *value = buffer();
    static const uint8_t name[LOG_FACT_NAME_MAX + 1] = "name";
    static const struct {
        size_t name_len, value_len;
        int verdict;
    } cases[] = {{LOG_FACT_NAME_MAX, LIMIT_VALUE_BYTES, 0},
                 {LOG_FACT_NAME_MAX, LIMIT_VALUE_BYTES + 1, -ERR_CORRUPT},
                 {LOG_FACT_NAME_MAX + 1, 1, -ERR_CORRUPT},
                 {0, 1, -ERR_CORRUPT}};

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        size_t n = cases[i].name_len;

        out[0] = (uint8_t)n;
        memcpy(out + 1, name, n);
        fact_header_encode(slice_of(name, n), slice_of(value, cases[i].value_len), out + 1 + n);
        memcpy(out + 1 + n + FACT_HEADER_BYTES, value, cases[i].value_len);
        assert_int_equal(decode_fact_copy(out, 1 + n + FACT_HEADER_BYTES + cases[i].value_len),
                         cases[i].verdict);
    }
    free(value);
    free(out);
}

/* ---- what a later version wrote ------------------------------------------------------------ */

static uint32_t crc32c(uint32_t crc, const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        crc ^= data[i];
        for (int k = 0; k < 8; k++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return crc;
}

/* Sets the format of the record or fact that begins at `at`, after its name, and its checksum. */
static void set_format(uint8_t *payload, size_t len, size_t name_at, size_t at, uint8_t format)
{
    uint32_t crc;

    payload[at] = format;
    memset(payload + at + 4, 0, 4);
    crc = ~crc32c(~0u, payload + name_at, len - name_at);
    for (unsigned i = 0; i < 4; i++)
        payload[at + 4 + i] = (uint8_t)(crc >> (8 * i));
}

static void what_a_later_version_wrote_is_told_from_damage(void **state)
{
    uint8_t *out = buffer(), key_bytes[STORE_KEY_BYTES_MAX];
    struct slice key = make_key(3, key_bytes), payload;
    struct state s = make_state(slice_of("value", 5), false);
    struct log_pieces p;

    log_record_state(key, &s, &p);
    payload = joined(&p, out);
    set_format(out, payload.len, 2, 2 + key.len, RECORD_FORMAT);
    assert_int_equal(decode_state_copy(out, payload.len), 0);
    set_format(out, payload.len, 2, 2 + key.len, RECORD_FORMAT + 1);
    assert_int_equal(decode_state_copy(out, payload.len), -ERR_FORMAT);
    log_record_fact(slice_str("ring"), slice_str("value"), &p);
    payload = joined(&p, out);
    set_format(out, payload.len, 1, 5, RECORD_FORMAT);
    assert_int_equal(decode_fact_copy(out, payload.len), 0);
    set_format(out, payload.len, 1, 5, RECORD_FORMAT + 1);
    assert_int_equal(decode_fact_copy(out, payload.len), -ERR_FORMAT);
    free(out);
}

/* ---- wipes --------------------------------------------------------------------------------- */

static void a_wipe_has_this_layout_and_comes_back(void **state)
{
    static const uint8_t golden[] = {9, 0, 0, 0, 0,    0,    0,    0,    8,    7,    6,    5,
                                     4, 3, 2, 1, 0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11};
    static const struct store_range ranges[] = {
        {0, 0}, {0, UINT64_MAX}, {UINT64_MAX, UINT64_MAX}, {1, 2}};
    struct store_range range = {0x0102030405060708u, 0x1112131415161718u};
    uint8_t *out = buffer();
    struct log_pieces p;
    struct slice payload;
    uint64_t number;

    log_record_wipe(range, 9, &p);
    payload = joined(&p, out);
    assert_int_equal(payload.len, sizeof(golden));
    assert_memory_equal(payload.data, golden, sizeof(golden));
    for (size_t i = 0; i < ARRAY_LEN(ranges); i++) {
        log_record_wipe(ranges[i], i, &p);
        assert_int_equal(log_record_wipe_decode(joined(&p, out), &range, &number), 0);
        assert_true(number == i && range.first == ranges[i].first && range.last == ranges[i].last);
    }
    free(out);
}

static void a_wipe_of_another_length_or_that_ends_before_it_begins_is_corrupt(void **state)
{
    uint8_t *out = buffer();
    struct store_range range = {1, 2};
    struct log_pieces p;
    uint64_t number;

    log_record_wipe((struct store_range){5, 5}, 1, &p);
    joined(&p, out);
    for (size_t n = 0; n < 40; n++)
        assert_int_equal(log_record_wipe_decode(slice_of(out, n), &range, &number),
                         n == 24 ? 0 : -ERR_CORRUPT);
    range = (struct store_range){1, 2};
    out[16] = 4;
    assert_int_equal(log_record_wipe_decode(slice_of(out, 24), &range, &number), -ERR_CORRUPT);
    assert_true(range.first == 1 && range.last == 2);
    free(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_state_has_this_layout),
        cmocka_unit_test(states_of_all_sizes_come_back),
        cmocka_unit_test(damaged_states_are_corrupt),
        cmocka_unit_test(states_beyond_the_limits_are_corrupt_although_their_checksum_is_right),
        cmocka_unit_test(a_fact_has_this_layout),
        cmocka_unit_test(facts_come_back_and_damaged_ones_are_corrupt),
        cmocka_unit_test(facts_beyond_the_limits_are_corrupt_although_their_checksum_is_right),
        cmocka_unit_test(what_a_later_version_wrote_is_told_from_damage),
        cmocka_unit_test(a_wipe_has_this_layout_and_comes_back),
        cmocka_unit_test(a_wipe_of_another_length_or_that_ends_before_it_begins_is_corrupt),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
