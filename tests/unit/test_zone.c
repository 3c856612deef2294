/* test_zone: a zone that followed every change knows what adding up its records says.
 */
#include "tests/unit/test.h"

#include <stdlib.h>

#include "proto/err.h"
#include "storage/merge.h"
#include "storage/range_fold.h"
#include "storage/zone.h"

static void zones_cut_the_ring_without_gap_or_overlap(void **state)
{
    uint64_t next = 0;

    for (uint32_t i = 0; i < ZONES; i++) {
        struct store_range r = zone_range(i);

        assert_true(r.first == next && r.last > r.first);
        assert_int_equal(zone_of(r.first), i);
        assert_int_equal(zone_of(r.last), i);
        assert_int_equal(range_leaf(r.last) - range_leaf(r.first) + 1, ZONE_LEAVES);
        next = r.last + 1;
    }
    assert_true(next == 0); /* once around */
}

/* ---- changes ------------------------------------------------------------------------------- */

enum {
    N_KEYS = 200,
    VALUE_MAX = 5000
};

struct model_record {
    uint64_t token;
    struct key key;
    struct state state;
    uint8_t name[24];
};

struct model {
    uint32_t number;
    struct zone zone;
    struct model_record records[N_KEYS];
    struct version max_version; /* of all that ever were */
};

static const uint8_t any_bytes[VALUE_MAX] = {1, 2, 3};

static uint64_t random_token(struct test_random *r, struct store_range range)
{
    switch (test_random_below(r, 8)) {
    case 0:
        return range.first;
    case 1:
        return range.last;
    case 2: /* the edges of a leaf */
        return range.first + ((test_random_below(r, ZONE_LEAVES)) << (64 - STORE_LEAF_BITS));
    default:
        return range.first + test_random_below(r, range.last - range.first + 1);
    }
}

static struct model *model_new(struct test_random *r, uint32_t number)
{
    struct model *m = calloc(1, sizeof(*m));

    assert_non_null(m);
    m->number = number;
    for (size_t i = 0; i < N_KEYS; i++) {
        struct model_record *rec = &m->records[i];
        size_t partition_len = 1 + (size_t)test_random_below(r, 10);

        for (size_t k = 0; k < sizeof(rec->name); k++)
            rec->name[k] = (uint8_t)test_random_u64(r);
        rec->token = random_token(r, zone_range(number));
        rec->key = (struct key){
            .bucket = 1 + (uint32_t)test_random_below(r, 3),
            .partition = slice_of(rec->name, partition_len),
            .sort = slice_of(rec->name + partition_len, (size_t)test_random_below(r, 10))};
    }
    return m;
}

static struct state random_state(struct test_random *r)
{
    struct state s = {.kind = STATE_LWW, .deleted = test_random_below(r, 4) == 0};

    s.version.hlc = test_random_below(r, 1000);
    s.version.actor = test_random_u64(r);
    if (!s.deleted)
        s.value = slice_of(any_bytes, (size_t)test_random_below(r, VALUE_MAX));
    if (test_random_below(r, 8) == 0) /* the other fields mean nothing then */
        s.kind = STATE_NONE;
    return s;
}

/* Half of the changes are those of a merge; the others, older versions and removals among them, are
 * what a wipe does, or a repair. */
static void change(struct model *m, struct test_random *r)
{
    struct model_record *rec = &m->records[test_random_below(r, N_KEYS)];
    struct state new = random_state(r);

    if (test_random_below(r, 2) && merge_states(&rec->state, &new) != OUTCOME_STORED)
        return;
    zone_change(&m->zone, rec->token, &rec->key, &rec->state, &new);
    rec->state = new;
    if (new.kind != STATE_NONE && version_compare(new.version, m->max_version) > 0)
        m->max_version = new.version;
}

static void check(const struct model *m)
{
    static uint64_t leaves[ZONE_LEAVES];
    const struct store_info *info = &m->zone.info;
    struct range_fold f;

    range_fold_init(&f, zone_range(m->number), leaves);
    for (size_t i = 0; i < N_KEYS; i++) {
        const struct model_record *rec = &m->records[i];

        if (rec->state.kind != STATE_NONE)
            range_fold_add(&f, rec->token, &rec->key, &rec->state, 0);
    }
    assert_int_equal(info->n_records, f.info.n_records);
    assert_int_equal(info->n_tombstones, f.info.n_tombstones);
    assert_int_equal(info->n_bytes, f.info.n_bytes);
    assert_memory_equal(m->zone.leaves, leaves, sizeof(leaves));
    assert_int_equal(version_compare(info->max_version, m->max_version), 0);
    assert_true(version_compare(info->max_version, f.info.max_version) >= 0);
}

static void any_history_of_changes_adds_up(void **state)
{
    static const uint32_t numbers[] = {0, 1, 513, ZONES - 1};

    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        struct test_random r = {.s = i + 1};
        struct model *m = model_new(&r, numbers[i]);

        for (int k = 0; k < 6000; k++) {
            change(m, &r);
            if (k % 50 == 0)
                check(m);
        }
        check(m);
        assert_true(m->zone.info.n_tombstones > 0);
        free(m);
    }
}

static void what_is_taken_out_again_leaves_nothing_but_the_version(void **state)
{
    static const struct zone empty;
    struct test_random r = {.s = 9};
    struct model *m = model_new(&r, 77);
    struct state none = {.kind = STATE_NONE, .deleted = true, .value = {any_bytes, 9}};

    for (int k = 0; k < 1000; k++)
        change(m, &r);
    for (size_t i = 0; i < N_KEYS; i++) {
        struct model_record *rec = &m->records[i];

        zone_change(&m->zone, rec->token, &rec->key, &rec->state, &none);
        rec->state = none;
    }
    check(m);
    assert_true(version_compare(m->zone.info.max_version, (struct version){0}) > 0);
    m->zone.info.max_version = (struct version){0};
    assert_memory_equal(&m->zone, &empty, sizeof(empty));
    free(m);
}

/* ---- bytes --------------------------------------------------------------------------------- */

static void fill(struct zone *z)
{
    struct test_random r = {.s = 3};

    z->info = (struct store_info){
        .n_records = 0x0102030405060708u,
        .n_tombstones = 0x1112131415161718u,
        .n_bytes = 0x2122232425262728u,
        .max_version = {.hlc = 0x3132333435363738u, .actor = 0x4142434445464748u}};
    for (size_t i = 0; i < ZONE_LEAVES; i++)
        z->leaves[i] = test_random_u64(&r);
    z->wiped = 0x6162636465666768u;
    z->leaves[0] = 0x5152535455565758u;
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

/* Makes the checksum right, bit by bit. */
static void seal(uint8_t *bytes, size_t len, uint32_t number)
{
    uint8_t n[4];
    uint32_t crc;

    for (unsigned i = 0; i < 4; i++)
        n[i] = (uint8_t)(number >> (8 * i));
    memset(bytes + 4, 0, 4);
    crc = ~crc32c(crc32c(~0u, n, sizeof(n)), bytes, len);
    for (unsigned i = 0; i < 4; i++)
        bytes[4 + i] = (uint8_t)(crc >> (8 * i));
}

static void a_zone_has_this_layout(void **state)
{
    static const uint8_t golden[] = {
        1,    0,    0,    0,    0,    0,    0,    0,    0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02,
        0x01, 0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11, 0x28, 0x27, 0x26, 0x25, 0x24, 0x23,
        0x22, 0x21, 0x38, 0x37, 0x36, 0x35, 0x34, 0x33, 0x32, 0x31, 0x48, 0x47, 0x46, 0x45, 0x44,
        0x43, 0x42, 0x41, 0x68, 0x67, 0x66, 0x65, 0x64, 0x63, 0x62, 0x61, 0,    0,    0,    0,
        0,    0,    0,    0,    0x58, 0x57, 0x56, 0x55, 0x54, 0x53, 0x52, 0x51};
    static uint8_t bytes[ZONE_BYTES], sealed[ZONE_BYTES];
    static struct zone z;

    assert_int_equal(ZONE_BYTES, 8256);
    fill(&z);
    memset(bytes, 0xee, sizeof(bytes));
    zone_encode(&z, 0x01020304, bytes);
    memcpy(sealed, bytes, sizeof(sealed));
    seal(sealed, sizeof(sealed), 0x01020304);
    assert_memory_equal(bytes, sealed, sizeof(bytes));
    memset(bytes + 4, 0, 4);
    assert_memory_equal(bytes, golden, sizeof(golden));
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(bytes[ZONE_BYTES - 8 + i], z.leaves[ZONE_LEAVES - 1] >> (8 * i) & 0xff);
}

static void a_zone_comes_back(void **state)
{
    static uint8_t bytes[ZONE_BYTES];
    static struct zone z, got;
    struct store_info info;
    uint64_t wiped;

    fill(&z);
    zone_encode(&z, 5, bytes);
    assert_int_equal(zone_decode(slice_of(bytes, sizeof(bytes)), 5, &got), 0);
    assert_memory_equal(&got, &z, sizeof(z));
    assert_int_equal(zone_decode_info(slice_of(bytes, sizeof(bytes)), 5, &info, &wiped), 0);
    assert_int_equal(wiped, z.wiped);
    assert_memory_equal(&info, &z.info, sizeof(info));
    memset(&z, 0, sizeof(z));
    zone_encode(&z, ZONES - 1, bytes);
    assert_int_equal(zone_decode(slice_of(bytes, sizeof(bytes)), ZONES - 1, &got), 0);
    assert_memory_equal(&got, &z, sizeof(z));
}

/* What both decoders say; of exactly these bytes, and with outputs untouched. */
static int verdict(const uint8_t *bytes, size_t len, uint32_t number)
{
    static struct zone z;
    struct store_info info = {.n_records = 99};
    uint64_t wiped = 97;
    uint8_t *copy = malloc(len ? len : 1);
    int r;

    assert_non_null(copy);
    memcpy(copy, bytes, len);
    z.info.n_records = 99;
    z.wiped = 97;
    z.leaves[3] = 98;
    r = zone_decode(slice_of(copy, len), number, &z);
    assert_int_equal(zone_decode_info(slice_of(copy, len), number, &info, &wiped), r);
    free(copy);
    if (r != 0) {
        assert_true(z.info.n_records == 99 && z.wiped == 97 && z.leaves[3] == 98);
        assert_true(info.n_records == 99 && wiped == 97);
    }
    return r;
}

static void every_flipped_bit_is_noticed(void **state)
{
    static uint8_t bytes[ZONE_BYTES];
    static struct zone z;

    fill(&z);
    zone_encode(&z, 5, bytes);
    for (size_t i = 0; i < 8 * sizeof(bytes); i++) {
        bytes[i / 8] ^= (uint8_t)(1 << i % 8);
        assert_int_equal(verdict(bytes, sizeof(bytes), 5), -ERR_CORRUPT);
        bytes[i / 8] ^= (uint8_t)(1 << i % 8);
    }
    for (uint32_t bit = 0; bit < 32; bit++)
        assert_int_equal(verdict(bytes, sizeof(bytes), 5 ^ (1u << bit)), -ERR_CORRUPT);
    assert_int_equal(verdict(bytes, sizeof(bytes), 5), 0);
}

static void a_zone_that_was_cut_or_has_more_is_corrupt(void **state)
{
    static uint8_t bytes[ZONE_BYTES + 8];
    static struct zone z;

    fill(&z);
    zone_encode(&z, 5, bytes);
    for (size_t n = 0; n < sizeof(bytes); n++) {
        if (n != ZONE_BYTES)
            assert_int_equal(verdict(bytes, n, 5), -ERR_CORRUPT);
    }
    seal(bytes, ZONE_BYTES - 8, 5); /* also when the checksum is right */
    assert_int_equal(verdict(bytes, ZONE_BYTES - 8, 5), -ERR_CORRUPT);
    seal(bytes, ZONE_BYTES + 8, 5);
    assert_int_equal(verdict(bytes, ZONE_BYTES + 8, 5), -ERR_CORRUPT);
    seal(bytes, 8, 5);
    assert_int_equal(verdict(bytes, 8, 5), -ERR_CORRUPT);
    seal(bytes, ZONE_BYTES, 5);
    assert_int_equal(verdict(bytes, ZONE_BYTES, 5), 0);
}

static void what_a_later_version_wrote_is_told_from_damage(void **state)
{
    static const struct {
        size_t at;
        uint8_t byte;
        int want;
    } cases[] = {{0, 1, 0},
                 {0, 2, -ERR_FORMAT},
                 {0, 255, -ERR_FORMAT},
                 {0, 0, -ERR_CORRUPT},
                 {1, 1, -ERR_CORRUPT},
                 {3, 1, -ERR_CORRUPT},
                 {55, 0, 0},
                 {56, 1, -ERR_CORRUPT},
                 {63, 1, -ERR_CORRUPT}};
    static uint8_t bytes[ZONE_BYTES + 100];
    static struct zone z;

    fill(&z);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        zone_encode(&z, 5, bytes);
        bytes[cases[i].at] = cases[i].byte;
        seal(bytes, ZONE_BYTES, 5);
        assert_int_equal(verdict(bytes, ZONE_BYTES, 5), cases[i].want);
    }
    bytes[0] = 2; /* of any length */
    seal(bytes, 20, 5);
    assert_int_equal(verdict(bytes, 20, 5), -ERR_FORMAT);
    seal(bytes, sizeof(bytes), 5);
    assert_int_equal(verdict(bytes, sizeof(bytes), 5), -ERR_FORMAT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zones_cut_the_ring_without_gap_or_overlap),
        cmocka_unit_test(any_history_of_changes_adds_up),
        cmocka_unit_test(what_is_taken_out_again_leaves_nothing_but_the_version),
        cmocka_unit_test(a_zone_has_this_layout),
        cmocka_unit_test(a_zone_comes_back),
        cmocka_unit_test(every_flipped_bit_is_noticed),
        cmocka_unit_test(a_zone_that_was_cut_or_has_more_is_corrupt),
        cmocka_unit_test(what_a_later_version_wrote_is_told_from_damage),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
