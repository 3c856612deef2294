/* test_store_order: damage that breaks the order of the keys in a page, by which searches find
 * whole neighbours: who is told, what is put right, and that nobody goes in circles.
 *
 * All of it in one zone, of which each record is damaged in turn: what a search meets depends on
 * where in its page a key stands.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "storage/zone.h"
#include "tests/model/log_disk.h"
#include "tests/model/scrub_rig.h"

#define ORDER_ZONE (5u * (ZONES / SCRUB_KEY_ZONES))
/* Of its records each so many-th: all are some pages of them, this takes less long. */
#define ORDER_STEP 8u

struct order_keys {
    struct fault_tampered at[SCRUB_KEYS];
    unsigned number[SCRUB_KEYS];
    size_t n;
};

static int compare_keys(const void *a, const void *b)
{
    const struct fault_tampered *x = a, *y = b;

    return slice_compare(slice_of(x->bytes, x->len), slice_of(y->bytes, y->len));
}

/* The records of the zone, in order. Freed with free. */
static struct order_keys *order_keys_new(void)
{
    struct order_keys *keys = calloc(1, sizeof(*keys));
    char name[16];

    assert_non_null(keys);
    for (unsigned i = 0; i < SCRUB_KEYS; i++) {
        struct key key = scrub_key(i, name);

        if (zone_of(scrub_token(i)) == ORDER_ZONE) {
            struct fault_tampered *to = &keys->at[keys->n++];

            to->len = store_key_encode(scrub_token(i), &key, to->bytes);
        }
    }
    assert_true(keys->n > 100);
    qsort(keys->at, keys->n, sizeof(keys->at[0]), compare_keys);
    for (size_t i = 0; i < keys->n; i++)
        keys->number[i] = scrub_number_at(keys->at[i].bytes, keys->at[i].len);
    return keys;
}

/* A store in which that was done to n records of the zone from the first on. */
static void set_up(struct rig *rig, enum rig_engine engine, enum fault_tampering what,
                   const struct order_keys *keys, size_t first, size_t n)
{
    struct test_random random = {.s = first + 1};

    scrub_set_up(rig, engine);
    rig_stop(rig);
    fault_tamper_these(rig->dir, what, n, &random, &keys->at[first]);
    rig_start(rig);
}

/* Of all that were not damaged, those that read as of that version. */
static unsigned n_read(struct rig *rig, const struct order_keys *keys, size_t first, size_t n,
                       int64_t hlc)
{
    unsigned found = 0;

    for (unsigned i = 0; i < SCRUB_KEYS; i++) {
        bool damaged = false;

        for (size_t k = first; k < first + n; k++)
            damaged = damaged || keys->number[k] == i;
        found += !damaged && scrub_get(rig, i) == hlc;
    }
    return found;
}

/* ---- one key ------------------------------------------------------------------------------- */

/* A key that claims to be elsewhere, or none at all, leads searches for its neighbours astray. */
static void a_scrub_removes_what_hides_others(enum fault_tampering what)
{
    struct order_keys *keys = order_keys_new();
    struct scrub_round *r = scrub_round_new();
    struct rig rig;
    unsigned hidden = 0;

    for (size_t first = 0; first < keys->n; first += ORDER_STEP) {
        set_up(&rig, RIG_LOG, what, keys, first, 1);
        hidden += SCRUB_KEYS - 1 - n_read(&rig, keys, first, 1, 10);
        scrub_round_run(&rig, SCRUB_SLICE_BYTES, r);
        assert_int_equal(r->n_bad, 1);
        assert_int_equal(r->n_named, 0); /* under that key there is nothing to heal */
        assert_int_equal(r->n_errors, 0);
        assert_int_equal(r->n_records, SCRUB_KEYS - 1);
        assert_true(r->n_remade > 0);
        assert_int_equal(n_read(&rig, keys, first, 1, 10), SCRUB_KEYS - 1);
        assert_int_equal(scrub_get(&rig, keys->number[first]), 0);
        assert_true(scrub_sums_are_true(&rig));
        scrub_round_run(&rig, SIZE_MAX, r);
        assert_int_equal(r->n_bad + r->n_errors + r->n_remade, 0);
        scrub_put_all(&rig, 20);
        rig_reopen(&rig);
        assert_int_equal(n_read(&rig, keys, 0, 0, 20), SCRUB_KEYS);
        rig_close(&rig);
    }
    assert_true(hidden > 0); /* else nothing was tried */
    free(r);
    free(keys);
}

static void a_scrub_removes_a_key_that_claims_to_be_elsewhere(void **state)
{
    a_scrub_removes_what_hides_others(TAMPER_KEY_AWAY);
}

static void a_scrub_removes_a_key_without_length(void **state)
{
    a_scrub_removes_what_hides_others(TAMPER_KEY_LENGTH);
}

/* It has no summary, and with it nobody who would put that right: it says so. */
static void a_plain_store_tells_of_a_broken_order(void **state)
{
    struct order_keys *keys = order_keys_new();
    struct scrub_round *r = scrub_round_new();
    struct rig rig;

    set_up(&rig, RIG_LMDB, TAMPER_KEY_AWAY, keys, keys->n / 2, 1);
    scrub_round_run(&rig, SCRUB_SLICE_BYTES, r);
    assert_int_equal(r->n_bad, 1);
    assert_int_equal(r->n_errors, 1);
    assert_int_equal(r->n_records, SCRUB_KEYS - 1);
    rig_close(&rig);
    free(r);
    free(keys);
}

/* Before the scrub comes by, what reads as absent is put again, and others beside it, so that pages
 * are split: the order of whole records may be broken by then. All are found again as they were put
 * last, or the store says that they may not be. */
static void what_is_put_beside_a_damaged_key_is_found_or_told(void **state)
{
    struct order_keys *keys = order_keys_new();
    struct scrub_round *r = scrub_round_new();
    struct rig rig;
    unsigned told = 0;

    for (size_t first = 0; first < keys->n; first += ORDER_STEP) {
        bool again[SCRUB_KEYS] = {0};

        set_up(&rig, RIG_LOG, TAMPER_KEY_AWAY, keys, first, 1);
        for (size_t i = 0; i < keys->n; i++)
            again[i] = i != first && scrub_get(&rig, keys->number[i]) == 0;
        for (size_t i = 0; i < keys->n; i++)
            if (again[i])
                assert_int_equal(scrub_put(&rig, keys->number[i], 20, false).outcome,
                                 OUTCOME_STORED);
        rig_reopen(&rig);
        for (unsigned i = 0; i < SCRUB_KEYS / 4; i++) {
            unsigned k = SCRUB_KEYS + i * SCRUB_KEY_ZONES + keys->number[0] % SCRUB_KEY_ZONES;

            scrub_put(&rig, k, 30, false);
            if (i % 100 == 0)
                rig_reopen(&rig);
        }
        rig_reopen(&rig);
        scrub_round_run(&rig, SCRUB_SLICE_BYTES * 10, r);
        told += r->n_errors > 0;
        for (size_t i = 0; i < keys->n && r->n_errors == 0; i++)
            if (i != first)
                assert_int_equal(scrub_get(&rig, keys->number[i]), again[i] ? 20 : 10);
        rig_close(&rig);
    }
    printf("# %u of %zu are told\n", told, (keys->n + ORDER_STEP - 1) / ORDER_STEP);
    free(r);
    free(keys);
}

/* ---- more than one ------------------------------------------------------------------------- */

/* Which of them is at fault cannot be told: neither is removed, and it is said each time. */
static void several_side_by_side_are_told_and_left(void **state)
{
    struct order_keys *keys = order_keys_new();
    struct scrub_round *r = scrub_round_new();
    struct rig rig;

    for (size_t first = 0; first + 2 <= keys->n; first += 5 * ORDER_STEP) {
        set_up(&rig, RIG_LOG, TAMPER_KEY_AWAY, keys, first, 2);
        for (unsigned rounds = 0; rounds < 2; rounds++) {
            scrub_round_run(&rig, SCRUB_SLICE_BYTES, r);
            assert_int_equal(r->n_bad, 2);
            assert_int_equal(r->n_errors, 1);
            assert_int_equal(r->n_records, SCRUB_KEYS - 2);
        }
        rig_close(&rig);
    }
    free(r);
    free(keys);
}

/* More keys without a length than a slice names: a search for the place after them leads before
 * them. */
static void damaged_keys_lead_no_scrub_in_a_circle(void **state)
{
    enum {
        N = STORE_SCRUB_BAD_MAX
    };
    struct order_keys *keys = order_keys_new();
    struct rig rig;

    for (size_t first = 0; first + N <= keys->n; first += 5 * ORDER_STEP) {
        struct store_scrub_place at = {.zone = ORDER_ZONE};
        uint64_t n_bad = 0, n_records = 0;

        set_up(&rig, RIG_LOG, TAMPER_KEY_LENGTH, keys, first, N);
        for (unsigned slices = 0; at.zone == ORDER_ZONE; slices++) {
            struct store_scrub out = rig_scrub(&rig, SCRUB_QUEUE, &at, SCRUB_SLICE_BYTES);

            assert_true(slices < keys->n);
            assert_int_equal(out.n_named, 0);
            n_bad += out.n_bad;
            n_records += out.n_records;
            at = out.next;
        }
        assert_int_equal(n_bad, first > 0 ? N : 0); /* else of the zone before */
        assert_int_equal(n_records, keys->n - N);
        rig_close(&rig);
    }
    free(keys);
}

/* ---- a page -------------------------------------------------------------------------------- */

/* What cannot be read cannot be replaced either: the healer hears so, and the store lives. */
static void a_page_that_cannot_be_read_is_not_healed(void **state)
{
    struct order_keys *keys = order_keys_new();
    struct scrub_round *r = scrub_round_new();
    struct rig rig;

    for (size_t first = 1; first < keys->n; first += 5 * ORDER_STEP) {
        unsigned k = keys->number[first], other = keys->number[first - 1];

        set_up(&rig, RIG_LOG, TAMPER_PLACE, keys, first, 1);
        assert_int_equal(scrub_get(&rig, k), -ERR_CORRUPT);
        assert_int_equal(scrub_put(&rig, k, 10, true).error, -ERR_CORRUPT);
        assert_int_equal(scrub_put(&rig, k, 10, false).error, -ERR_CORRUPT);
        assert_int_equal(scrub_put(&rig, other, 20, false).outcome, OUTCOME_STORED);
        rig_reopen(&rig);
        assert_string_equal(rig.fatal, "");
        assert_int_equal(scrub_get(&rig, other), 20);
        assert_int_equal(scrub_get(&rig, k), -ERR_CORRUPT);
        scrub_round_run(&rig, SIZE_MAX, r);
        assert_int_equal(r->n_errors, 1);
        rig_close(&rig);
    }
    free(r);
    free(keys);
}

/* ---- a wipe -------------------------------------------------------------------------------- */

/* Records of the zone that a scan meets, or a get. */
static unsigned n_of_zone(struct rig *rig)
{
    struct wire_record items[STORE_SCRUB_BAD_MAX];
    struct store_page page = {.items = items, .cap = ARRAY_LEN(items)};
    unsigned found = 0;

    assert_int_equal(
        rig->s->ops->scan(rig->s, 0, zone_range(ORDER_ZONE), (struct slice){0}, 1 << 16, &page), 0);
    rig->s->ops->read_end(rig->s, 0);
    for (unsigned i = 0; i < SCRUB_KEYS; i++)
        found += zone_of(scrub_token(i)) == ORDER_ZONE && scrub_get(rig, i) != 0;
    return found + (unsigned)page.n;
}

static void a_wipe_leaves_nothing(enum fault_tampering what, size_t n)
{
    struct order_keys *keys = order_keys_new();
    struct scrub_round *r = scrub_round_new();
    struct store_range range = zone_range(ORDER_ZONE);
    struct rig rig;

    for (size_t first = 0; first + n <= keys->n; first += ORDER_STEP) {
        set_up(&rig, RIG_LOG, what, keys, first, n);
        rig_wipe(&rig, range.first, range.last);
        rig_reopen(&rig);
        assert_int_equal(n_of_zone(&rig), 0);
        scrub_round_run(&rig, SCRUB_SLICE_BYTES, r);
        assert_int_equal(r->n_records, SCRUB_KEYS - keys->n);
        if (n == 1) {
            assert_int_equal(r->n_bad + r->n_remade + r->n_errors, 0);
            assert_true(scrub_sums_are_true(&rig));
        }
        rig_close(&rig);
    }
    free(r);
    free(keys);
}

static void a_wipe_leaves_nothing_that_a_damaged_key_hides(void **state)
{
    a_wipe_leaves_nothing(TAMPER_KEY_AWAY, 1);
}

static void a_wipe_leaves_nothing_that_a_key_without_length_hides(void **state)
{
    a_wipe_leaves_nothing(TAMPER_KEY_LENGTH, 1);
}

static void a_wipe_leaves_nothing_whole_beside_many_damaged_keys(void **state)
{
    a_wipe_leaves_nothing(TAMPER_KEY_AWAY, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_scrub_removes_a_key_that_claims_to_be_elsewhere),
        cmocka_unit_test(a_scrub_removes_a_key_without_length),
        cmocka_unit_test(what_is_put_beside_a_damaged_key_is_found_or_told),
        cmocka_unit_test(a_plain_store_tells_of_a_broken_order),
        cmocka_unit_test(several_side_by_side_are_told_and_left),
        cmocka_unit_test(damaged_keys_lead_no_scrub_in_a_circle),
        cmocka_unit_test(a_page_that_cannot_be_read_is_not_healed),
        cmocka_unit_test(a_wipe_leaves_nothing_that_a_damaged_key_hides),
        cmocka_unit_test(a_wipe_leaves_nothing_that_a_key_without_length_hides),
        cmocka_unit_test(a_wipe_leaves_nothing_whole_beside_many_damaged_keys),
    };

    /* Nothing here is about syncs. */
    if (access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 1);
    rig_segment_bytes = SCRUB_SEGMENT_BYTES;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
