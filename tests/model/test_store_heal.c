/* test_store_heal: records and keys that were damaged on the disk of a stopped store: who is told
 * of them, what they count, and how they are healed; in all engines where it can be.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "storage/zone.h"
#include "tests/model/log_disk.h"
#include "tests/model/scrub_rig.h"

/* ---- damaged records ----------------------------------------------------------------------- */

static bool is_named(const struct scrub_round *r, const struct fault_tampered *t)
{
    for (size_t i = 0; i < r->n_named; i++)
        if (slice_equal(slice_of(r->named[i].cursor, r->named[i].len), slice_of(t->bytes, t->len)))
            return true;
    return false;
}

/* One after the other, as a healer does. */
static void heal_all(struct rig *rig, const struct scrub_round *r)
{
    for (size_t i = 0; i < r->n_named; i++) {
        unsigned k = scrub_number_at(r->named[i].cursor, r->named[i].len);

        assert_int_equal(scrub_get(rig, k), -ERR_CORRUPT);
        assert_int_equal(scrub_put(rig, k, 10, false).error, -ERR_CORRUPT);
        assert_int_equal(scrub_get(rig, k), -ERR_CORRUPT);
        assert_int_equal(scrub_put(rig, k, 10, true).outcome, OUTCOME_STORED);
        assert_int_equal(scrub_get(rig, k), 10);
        assert_int_equal(scrub_put(rig, k, 10, true).outcome, OUTCOME_DUPLICATE);
    }
}

static void damaged_records_are_named_and_healed(enum rig_engine engine)
{
    enum {
        N = 400
    }; /* of a zone more than one slice names */
    struct fault_tampered bad[N];
    struct scrub_sums *before = scrub_sums_new(), *after = scrub_sums_new();
    struct scrub_round *r = scrub_round_new();
    struct rig rig;

    scrub_set_up(&rig, engine);
    scrub_sums_told(&rig, before);
    scrub_tamper(&rig, TAMPER_RECORD, N, 2, bad);
    scrub_round_run(&rig, SIZE_MAX, r);
    assert_int_equal(r->n_bad, N);
    assert_int_equal(r->n_named, N);
    assert_int_equal(r->n_records, SCRUB_KEYS - N);
    assert_int_equal(r->n_errors, 0);
    for (size_t i = 0; i < N; i++)
        assert_true(is_named(r, &bad[i]));
    assert_int_equal(r->n_remade > 0, engine == RIG_LOG);
    scrub_sums_told(&rig, after);
    assert_int_equal(after->info.n_records, SCRUB_KEYS - N); /* what is damaged counts nothing */
    assert_true(scrub_sums_are_true(&rig));
    heal_all(&rig, r);
    for (unsigned restarts = 0; restarts < 2; restarts++) {
        scrub_sums_told(&rig, after);
        assert_true(scrub_sums_agree(before, after));
        rig_reopen(&rig);
    }
    scrub_round_run(&rig, SIZE_MAX, r);
    assert_int_equal(r->n_bad + r->n_remade + r->n_errors, 0);
    assert_int_equal(r->n_records, SCRUB_KEYS);
    rig_close(&rig);
    free(before);
    free(after);
    free(r);
}

static void damaged_records_are_named_and_healed_with_a_log(void **state)
{
    damaged_records_are_named_and_healed(RIG_LOG);
}

static void damaged_records_are_named_and_healed_plain(void **state)
{
    damaged_records_are_named_and_healed(RIG_LMDB);
}

static void damaged_records_are_named_and_healed_in_the_model(void **state)
{
    struct scrub_round *r = scrub_round_new();
    struct rig rig;
    char name[16];

    scrub_set_up(&rig, RIG_MEM);
    for (unsigned i = 0; i < SCRUB_KEYS; i += 100) {
        struct key key = scrub_key(i, name);

        assert_int_equal(store_mem_corrupt(rig.s, scrub_token(i), &key), 0);
    }
    scrub_round_run(&rig, SCRUB_SLICE_BYTES, r);
    assert_int_equal(r->n_bad, SCRUB_KEYS / 100);
    assert_int_equal(r->n_named, SCRUB_KEYS / 100);
    assert_int_equal(r->n_records, SCRUB_KEYS - SCRUB_KEYS / 100);
    assert_true(scrub_sums_are_true(&rig));
    heal_all(&rig, r);
    scrub_round_run(&rig, SCRUB_SLICE_BYTES, r);
    assert_int_equal(r->n_bad, 0);
    assert_int_equal(r->n_records, SCRUB_KEYS);
    rig_close(&rig);
    free(r);
}

/* By walking too, as sums of a part of a zone are made, or beside a wipe that is not applied. */
static void sums_step_over_what_is_damaged(void **state)
{
    /* The ring, cut in the middle of its first zone, in which there are keys. */
    const struct store_range halves[2] = {{0, UINT64_MAX >> (ZONE_BITS + 1)},
                                          {(UINT64_MAX >> (ZONE_BITS + 1)) + 1, UINT64_MAX}};
    struct fault_tampered bad[20];
    struct store_info info[2];
    struct rig rig;
    char name[16];

    for (enum rig_engine engine = 0; engine < RIG_ENGINES; engine++) {
        scrub_set_up(&rig, engine);
        if (engine != RIG_MEM)
            scrub_tamper(&rig, TAMPER_RECORD, ARRAY_LEN(bad), 6, bad);
        for (unsigned i = 0; engine == RIG_MEM && i < ARRAY_LEN(bad); i++) {
            struct key key = scrub_key(i, name);

            assert_int_equal(store_mem_corrupt(rig.s, scrub_token(i), &key), 0);
        }
        rig_wipe(&rig, 1, 1); /* nobody */
        assert_true(scrub_sums_are_true(&rig));
        for (unsigned i = 0; i < 2; i++)
            assert_int_equal(rig.s->ops->vnode_info(rig.s, 0, halves[i], &info[i]), 0);
        assert_int_equal(info[0].n_records + info[1].n_records, SCRUB_KEYS - ARRAY_LEN(bad));
        rig.s->ops->read_end(rig.s, 0);
        rig_close(&rig);
    }
}

/* A state that heals is merged with all that is whole, wherever it is. */
static void healing_is_a_merge_where_nothing_is_damaged(void **state)
{
    struct fault_tampered bad;
    struct rig rig;
    unsigned k;

    for (enum rig_engine engine = 0; engine < RIG_ENGINES; engine++) {
        scrub_set_up(&rig, engine);
        assert_int_equal(scrub_put(&rig, 1, 9, true).outcome, OUTCOME_SUPERSEDED);
        assert_int_equal(scrub_put(&rig, 1, 10, true).outcome, OUTCOME_DUPLICATE);
        assert_int_equal(scrub_put(&rig, 1, 11, true).outcome, OUTCOME_STORED);
        assert_int_equal(scrub_get(&rig, 1), 11);
        rig_close(&rig);
    }
    scrub_set_up(&rig, RIG_LOG);
    scrub_tamper(&rig, TAMPER_RECORD, 1, 3, &bad);
    k = scrub_number_at(bad.bytes, bad.len);
    assert_int_equal(scrub_put(&rig, k, 20, false).outcome,
                     OUTCOME_STORED); /* in the table, blind */
    assert_int_equal(scrub_put(&rig, k, 15, true).outcome, OUTCOME_SUPERSEDED);
    assert_int_equal(scrub_get(&rig, k), 20);
    rig_close(&rig);
}

/* While a load is under way reads look at disk and table: what heals must not replace a newer state
 * in the table because the disk has a damaged one. */
static void healing_beside_a_load_keeps_what_is_newer(void **state)
{
    struct fault_tampered bad;
    char name[16], value[32];
    struct store_op op;
    struct store_item item;
    struct store_done done;
    struct rig rig;
    unsigned k;

    scrub_set_up(&rig, RIG_LOG);
    scrub_tamper(&rig, TAMPER_RECORD, 1, 4, &bad);
    k = scrub_number_at(bad.bytes, bad.len);
    assert_int_equal(scrub_put(&rig, k, 20, false).outcome, OUTCOME_STORED);
    op = scrub_put_op(k == 5 ? 6 : 5, 12, name, value);
    item = (struct store_item){.token = op.token, .key = op.key, .state = op.state};
    log_shim_hold_data_sync(0);
    assert_int_equal(rig.s->ops->load(rig.s, 0, 1, &item, 1), 0);
    log_shim_wait_held();
    assert_int_equal(scrub_get(&rig, k), -ERR_CORRUPT); /* what the load brings may be newer */
    done = scrub_put(&rig, k, 15, true);
    assert_int_equal(done.outcome, OUTCOME_SUPERSEDED);
    assert_int_equal(done.version.hlc, 20);
    log_shim_let_go();
    rig_reap(&rig, 0, &done, 1);
    rig_reopen(&rig);
    assert_int_equal(scrub_get(&rig, k), 20);
    rig_close(&rig);
}

/* Nobody knows whether it is newer than the damaged one. */
static void a_load_leaves_damaged_records_alone(void **state)
{
    struct fault_tampered bad;
    char names[2][16], values[2][32];
    struct store_item items[2];
    struct rig rig;

    for (enum rig_engine engine = RIG_LMDB; engine < RIG_ENGINES; engine++) {
        unsigned k;

        scrub_set_up(&rig, engine);
        scrub_tamper(&rig, TAMPER_RECORD, 1, 5, &bad);
        k = scrub_number_at(bad.bytes, bad.len);
        for (unsigned i = 0; i < 2; i++) {
            struct store_op op =
                scrub_put_op(i ? k + SCRUB_KEYS * SCRUB_KEY_ZONES : k, 30, names[i], values[i]);

            items[i] = (struct store_item){.token = op.token, .key = op.key, .state = op.state};
        }
        if (items[0].token > items[1].token) {
            struct store_item first = items[1];

            items[1] = items[0];
            items[0] = first;
        }
        assert_int_equal(rig_load(&rig, items, 2), -ERR_CORRUPT);
        assert_int_equal(scrub_get(&rig, k), -ERR_CORRUPT);
        assert_int_equal(scrub_get(&rig, k + SCRUB_KEYS * SCRUB_KEY_ZONES),
                         30); /* the others are taken */
        rig_wipe(&rig, 0, UINT64_MAX);
        assert_int_equal(rig_load(&rig, items, 2), 0);
        assert_int_equal(scrub_get(&rig, k), 30);
        rig_close(&rig);
    }
}

/* ---- damaged keys and summaries ------------------------------------------------------------ */

/* Wherever the damaged keys seem to belong, all others are found and counted. */
static void damaged_keys_hide_nobody_from_a_scrub(void **state)
{
    enum {
        N = 8
    };
    struct fault_tampered bad[N];
    struct scrub_round *r = scrub_round_new();
    struct scrub_sums *told = scrub_sums_new();
    struct rig rig;

    for (uint64_t seed = 1; seed <= 12; seed++) {
        scrub_set_up(&rig, RIG_LOG);
        scrub_tamper(&rig, TAMPER_KEY, N, seed, bad);
        scrub_round_run(&rig, SCRUB_SLICE_BYTES * 4, r);
        assert_int_equal(r->n_errors, 0);
        assert_int_equal(r->n_bad, N);
        assert_true(r->n_remade > 0);
        assert_int_equal(r->n_records, SCRUB_KEYS - N);
        scrub_sums_told(&rig, told);
        assert_int_equal(told->info.n_records, r->n_records);
        for (size_t i = 0; i < N; i++) /* nobody can know whose they were */
            assert_int_equal(scrub_get(&rig, scrub_number_at(bad[i].bytes, bad[i].len)), 0);
        scrub_round_run(&rig, SIZE_MAX, r);
        assert_int_equal(r->n_remade, 0);
        rig_close(&rig);
    }
    free(told);
    free(r);
}

/* A plain store that is given a log: its first summaries count what is whole. */
static void an_upgrade_counts_what_is_whole(void **state)
{
    enum {
        N = 20
    };
    struct fault_tampered bad[N];
    struct scrub_round *r = scrub_round_new();
    struct store_info info;
    struct rig rig;

    scrub_set_up(&rig, RIG_LMDB);
    scrub_tamper(&rig, TAMPER_RECORD, N, 7, bad);
    rig_stop(&rig);
    rig.engine = RIG_LOG;
    rig_start(&rig);
    assert_int_equal(rig.s->ops->vnode_info(rig.s, 0, scrub_all, &info), 0);
    assert_int_equal(info.n_records, SCRUB_KEYS - N);
    rig.s->ops->read_end(rig.s, 0);
    assert_true(scrub_sums_are_true(&rig));
    scrub_round_run(&rig, SCRUB_SLICE_BYTES, r);
    assert_int_equal(r->n_remade, 0);
    assert_int_equal(r->n_bad, N);
    heal_all(&rig, r);
    rig_reopen(&rig);
    scrub_round_run(&rig, SCRUB_SLICE_BYTES, r);
    assert_int_equal(r->n_remade + r->n_bad, 0);
    rig_close(&rig);
    free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(damaged_records_are_named_and_healed_with_a_log),
        cmocka_unit_test(damaged_records_are_named_and_healed_plain),
        cmocka_unit_test(damaged_records_are_named_and_healed_in_the_model),
        cmocka_unit_test(sums_step_over_what_is_damaged),
        cmocka_unit_test(healing_is_a_merge_where_nothing_is_damaged),
        cmocka_unit_test(healing_beside_a_load_keeps_what_is_newer),
        cmocka_unit_test(a_load_leaves_damaged_records_alone),
        cmocka_unit_test(damaged_keys_hide_nobody_from_a_scrub),
        cmocka_unit_test(an_upgrade_counts_what_is_whole),
    };

    /* Nothing here is about syncs. */
    if (access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 1);
    rig_segment_bytes = SCRUB_SEGMENT_BYTES;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
