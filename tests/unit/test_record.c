/* test_record: the formats on disk, byte for byte, and what becomes of damaged ones. */
#include "proto/err.h"
#include "storage/record.h"
#include "tests/unit/test.h"

static const struct key sample_key = {.bucket = 0x01020304,
                                      .partition = {(const uint8_t *)"user", 4},
                                      .sort = {(const uint8_t *)"7", 1}};

static void a_store_key_has_this_layout(void **state)
{
    static const uint8_t golden[] = {0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x01, 0x02,
                                     0x03, 0x04, 0x00, 0x04, 'u',  's',  'e',  'r',  '7'};
    uint8_t out[STORE_KEY_BYTES_MAX];

    assert_int_equal(store_key_encode(0x1122334455667788u, &sample_key, out), sizeof(golden));
    assert_memory_equal(out, golden, sizeof(golden));
}

static void a_store_key_decodes_to_what_it_was(void **state)
{
    uint8_t out[STORE_KEY_BYTES_MAX];
    struct key key;
    uint64_t token;
    size_t len = store_key_encode(42, &sample_key, out);

    assert_int_equal(store_key_decode(slice_of(out, len), &token, &key), 0);
    assert_int_equal(token, 42);
    assert_int_equal(key.bucket, sample_key.bucket);
    assert_true(slice_equal(key.partition, sample_key.partition));
    assert_true(slice_equal(key.sort, sample_key.sort));
}

static void damaged_store_keys_are_corrupt(void **state)
{
    uint8_t out[STORE_KEY_BYTES_MAX + 1] = {0};
    struct key key;
    uint64_t token;
    size_t len = store_key_encode(42, &sample_key, out);

    for (size_t n = 0; n <= STORE_KEY_HEADER_BYTES + 3; n++) /* cut inside the partition key */
        assert_int_equal(store_key_decode(slice_of(out, n), &token, &key), -ERR_CORRUPT);
    assert_int_equal(store_key_decode(slice_of(out, sizeof(out)), &token, &key), -ERR_CORRUPT);
    out[13] = 0;
    assert_int_equal(store_key_decode(slice_of(out, len), &token, &key), -ERR_CORRUPT);
    out[12] = 0xff;
    assert_int_equal(store_key_decode(slice_of(out, len), &token, &key), -ERR_CORRUPT);
}

static void keys_sort_by_token_then_bucket_then_key(void **state)
{
    const struct key a = {.bucket = 1, .partition = slice_of("b", 1)};
    const struct key b = {.bucket = 2, .partition = slice_of("a", 1)};
    const struct key c = {.bucket = 2, .partition = slice_of("a", 1), .sort = slice_of("\0", 1)};
    const struct {
        uint64_t token;
        const struct key *key;
    } order[] = {{0, &b}, {1, &a}, {1, &b}, {1, &c}, {256, &a}, {UINT64_MAX, &a}};
    uint8_t x[STORE_KEY_BYTES_MAX], y[STORE_KEY_BYTES_MAX];

    for (size_t i = 0; i + 1 < ARRAY_LEN(order); i++) {
        size_t n = store_key_encode(order[i].token, order[i].key, x);
        size_t m = store_key_encode(order[i + 1].token, order[i + 1].key, y);

        assert_true(slice_compare(slice_of(x, n), slice_of(y, m)) < 0);
    }
}

/* A record of sample_key under token 42. */
static size_t sample_record(uint8_t *store_key, size_t *ret_key_len, uint8_t *record, bool deleted)
{
    struct state s = {.kind = STATE_LWW,
                      .deleted = deleted,
                      .version = {.hlc = 0x0102030405060708u, .actor = 0x1112131415161718u},
                      .value = deleted ? (struct slice){0} : slice_of("value", 5)};

    *ret_key_len = store_key_encode(42, &sample_key, store_key);
    record_header_encode(slice_of(store_key, *ret_key_len), &s, record);
    memcpy(record + RECORD_HEADER_BYTES, "value", 5);
    return RECORD_HEADER_BYTES + s.value.len;
}

static void a_record_has_this_layout(void **state)
{
    static const uint8_t golden[] = {1,    1,    0,    0,    /* checksum: */ 0,
                                     0,    0,    0,    0x08, 0x07,
                                     0x06, 0x05, 0x04, 0x03, 0x02,
                                     0x01, 0x18, 0x17, 0x16, 0x15,
                                     0x14, 0x13, 0x12, 0x11, 'v',
                                     'a',  'l',  'u',  'e'};
    uint8_t key[STORE_KEY_BYTES_MAX], record[64], zeroed[64];
    size_t key_len, len = sample_record(key, &key_len, record, false);

    assert_int_equal(len, sizeof(golden));
    memcpy(zeroed, record, len);
    memset(zeroed + 4, 0, 4);
    assert_memory_equal(zeroed, golden, len);
    /* CRC-32C of key, header and value, computed with another program. */
    assert_int_equal(record[4] | record[5] << 8 | record[6] << 16 | (uint32_t)record[7] << 24,
                     0x44478bc4u);
}

static void a_record_decodes_to_what_it_was(void **state)
{
    uint8_t key[STORE_KEY_BYTES_MAX], record[64];
    size_t key_len, len = sample_record(key, &key_len, record, false);
    struct state s;

    assert_int_equal(record_decode(slice_of(key, key_len), slice_of(record, len), &s), 0);
    assert_int_equal(s.kind, STATE_LWW);
    assert_false(s.deleted);
    assert_true(s.version.hlc == 0x0102030405060708u && s.version.actor == 0x1112131415161718u);
    assert_true(slice_equal(s.value, slice_of("value", 5)));
    len = sample_record(key, &key_len, record, true);
    assert_int_equal(record_decode(slice_of(key, key_len), slice_of(record, len), &s), 0);
    assert_true(s.deleted && s.value.len == 0);
}

static void every_flipped_bit_is_noticed(void **state)
{
    uint8_t key[STORE_KEY_BYTES_MAX], record[64];
    size_t key_len, len = sample_record(key, &key_len, record, false);
    struct state s;

    for (size_t i = 0; i < 8 * (len + key_len); i++) {
        uint8_t *byte = i / 8 < len ? &record[i / 8] : &key[i / 8 - len];

        *byte ^= (uint8_t)(1 << i % 8);
        assert_int_equal(record_decode(slice_of(key, key_len), slice_of(record, len), &s),
                         -ERR_CORRUPT);
        *byte ^= (uint8_t)(1 << i % 8);
    }
    for (size_t n = 0; n < len; n++)
        assert_int_equal(record_decode(slice_of(key, key_len), slice_of(record, n), &s),
                         -ERR_CORRUPT);
}

static uint32_t crc32c(uint32_t crc, const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        crc ^= data[i];
        for (int k = 0; k < 8; k++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return crc;
}

/* Changes a header byte and makes the checksum right again, bit by bit. */
static int decode_with(size_t at, uint8_t byte)
{
    uint8_t key[STORE_KEY_BYTES_MAX], record[64];
    size_t key_len, len = sample_record(key, &key_len, record, false);
    struct state s;
    uint32_t crc;

    record[at] = byte;
    memset(record + 4, 0, 4);
    crc = ~crc32c(crc32c(~0u, key, key_len), record, len);
    for (unsigned i = 0; i < 4; i++)
        record[4 + i] = (uint8_t)(crc >> (8 * i));
    return record_decode(slice_of(key, key_len), slice_of(record, len), &s);
}

static void what_a_later_version_wrote_is_told_from_damage(void **state)
{
    assert_int_equal(decode_with(0, 1), 0);
    assert_int_equal(decode_with(0, 2), -ERR_FORMAT);
    assert_int_equal(decode_with(0, 0), -ERR_CORRUPT);
    assert_int_equal(decode_with(1, 2), -ERR_FORMAT); /* a bucket kind of the future */
    assert_int_equal(decode_with(1, 0), -ERR_CORRUPT);
    assert_int_equal(decode_with(2, 2), -ERR_CORRUPT);
    assert_int_equal(decode_with(2, 1), -ERR_CORRUPT); /* a tombstone with a value */
    assert_int_equal(decode_with(3, 1), -ERR_CORRUPT);
}

static void facts_are_checked_like_records(void **state)
{
    uint8_t fact[FACT_HEADER_BYTES + 5];
    struct slice name = slice_of("ring", 4), value;

    fact_header_encode(name, slice_of("value", 5), fact);
    memcpy(fact + FACT_HEADER_BYTES, "value", 5);
    assert_int_equal(fact_decode(name, slice_of(fact, sizeof(fact)), &value), 0);
    assert_true(slice_equal(value, slice_of("value", 5)));
    assert_int_equal(fact_decode(slice_of("rinh", 4), slice_of(fact, sizeof(fact)), &value),
                     -ERR_CORRUPT);
    for (size_t i = 0; i < 8 * sizeof(fact); i++) {
        fact[i / 8] ^= (uint8_t)(1 << i % 8);
        assert_int_equal(fact_decode(name, slice_of(fact, sizeof(fact)), &value), -ERR_CORRUPT);
        fact[i / 8] ^= (uint8_t)(1 << i % 8);
    }
    for (size_t n = 0; n < sizeof(fact); n++)
        assert_int_equal(fact_decode(name, slice_of(fact, n), &value), -ERR_CORRUPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_store_key_has_this_layout),
        cmocka_unit_test(a_store_key_decodes_to_what_it_was),
        cmocka_unit_test(damaged_store_keys_are_corrupt),
        cmocka_unit_test(keys_sort_by_token_then_bucket_then_key),
        cmocka_unit_test(a_record_has_this_layout),
        cmocka_unit_test(a_record_decodes_to_what_it_was),
        cmocka_unit_test(every_flipped_bit_is_noticed),
        cmocka_unit_test(what_a_later_version_wrote_is_told_from_damage),
        cmocka_unit_test(facts_are_checked_like_records),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
