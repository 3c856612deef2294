/* test_store_purge: what a purge of the store with a log must not do, one case at a time, beside
 * what test_store says of all engines: bring back what a tombstone hid, from tables or from the
 * log; touch what is damaged; read zones that have no tombstone; make others wait.
 *
 * Where the moment matters, log_shim holds a sync until the test lets it go; nothing waits for time
 * to pass.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "proto/token.h"
#include "storage/store_lmdb_env.h"
#include "storage/zone.h"
#include "tests/model/log_shim.h"
#include "tests/model/scrub_rig.h"

#define SEGMENT_BYTES (256u << 10)
#define N_DELETED 300u
#define SLICE_RECORDS 20u

static uint64_t n_purged(struct rig *rig)
{
    struct store_stats stats;

    assert_int_equal(rig->s->ops->stats(rig->s, 0, &stats), 0);
    return stats.n_purged;
}

static struct store_op delete_op(unsigned i, uint64_t hlc, char name[16])
{
    char value[32];
    struct store_op op = scrub_put_op(i, hlc, name, value);

    op.state.deleted = true;
    op.state.value = (struct slice){0};
    return op;
}

static void bury(struct rig *rig, unsigned i, uint64_t hlc)
{
    char name[16];
    struct store_op op = delete_op(i, hlc, name);

    assert_int_equal(rig_do(rig, &op).outcome, OUTCOME_STORED);
}

/* As a load brings it, past log and tables. */
static void load_tombstone(struct rig *rig, unsigned i, uint64_t hlc)
{
    char name[16];
    struct store_op op = delete_op(i, hlc, name);
    struct store_item item = {.token = op.token, .key = op.key, .state = op.state};

    assert_int_equal(rig_load(rig, &item, 1), 0);
}

static void purge_all(struct rig *rig, uint64_t floor)
{
    rig_purge(rig, 0, UINT64_MAX, floor);
}

static void begin_purge(struct rig *rig, uint64_t floor)
{
    assert_int_equal(rig->s->ops->purge(rig->s, 0, 7, scrub_all, floor), 0);
}

static int end_purge(struct rig *rig)
{
    struct store_done done;

    rig_reap(rig, 0, &done, 1);
    assert_int_equal(done.cookie, 7);
    return done.error;
}

/* All keys at version 10 but the first N_DELETED, which are tombstones of version 20, on disk. */
static void set_up(struct rig *rig)
{
    scrub_set_up(rig, RIG_LOG);
    for (unsigned i = 0; i < N_DELETED; i++)
        bury(rig, i, 20);
    rig_reopen(rig);
}

/* The store as a process that is killed now leaves it, opened; what it was goes on nowhere. */
static void kill_and_reopen(struct rig *rig)
{
    char command[256];

    snprintf(command, sizeof(command), "cp -a %s %s.copy 2>/dev/null; test -f %s.copy/data.mdb",
             rig->dir, rig->dir, rig->dir);
    assert_int_equal(system(command), 0);
    rig_stop(rig);
    rig_dir_remove(rig->dir);
    snprintf(command, sizeof(command), "mv %s.copy %s", rig->dir, rig->dir);
    assert_int_equal(system(command), 0);
    rig_start(rig);
}

/* Deleted, and perhaps purged. */
static void assert_gone(struct rig *rig, unsigned i, uint64_t hlc)
{
    int64_t found = scrub_get(rig, i);

    assert_true(found == 0 || found == (int64_t)hlc);
}

/* ---- tables -------------------------------------------------------------------------------- */

static void what_is_in_memory_stays_for_another_time(void **state)
{
    struct rig rig;

    scrub_set_up(&rig, RIG_LOG);
    bury(&rig, 0, 20);
    purge_all(&rig, 30);
    assert_int_equal(n_purged(&rig), 0);
    assert_int_equal(scrub_get(&rig, 0), 20);
    rig_reopen(&rig);
    purge_all(&rig, 30);
    assert_int_equal(n_purged(&rig), 1);
    assert_int_equal(scrub_get(&rig, 0), 0);
    assert_true(scrub_sums_are_true(&rig));
    rig_close(&rig);
}

static void entries_over_a_tombstone_are_counted_with_it_and_without(void **state)
{
    char name[16], value[32];
    struct rig rig;

    set_up(&rig);
    for (unsigned i = 0; i < N_DELETED; i += 2)
        assert_int_equal(scrub_put(&rig, i, 30, false).outcome, OUTCOME_STORED);
    for (unsigned i = 0; i < N_DELETED; i += 4) { /* the tombstone itself, as a replay has it */
        struct store_op op = delete_op(i + 1, 20, name);

        assert_int_equal(rig_do(&rig, &op).outcome, OUTCOME_DUPLICATE);
        op = scrub_put_op(i + 1, 15, name, value);
        assert_int_equal(rig_do(&rig, &op).outcome, OUTCOME_SUPERSEDED);
    }
    assert_true(scrub_sums_are_true(&rig));
    purge_all(&rig, 20);
    assert_int_equal(n_purged(&rig), N_DELETED);
    assert_true(scrub_sums_are_true(&rig));
    for (unsigned i = 0; i < N_DELETED; i++)
        assert_int_equal(scrub_get(&rig, i), i % 2 == 0 ? 30 : 0);
    rig_reopen(&rig);
    assert_true(scrub_sums_are_true(&rig));
    for (unsigned i = 0; i < N_DELETED; i++)
        assert_int_equal(scrub_get(&rig, i), i % 2 == 0 ? 30 : 0);
    rig_close(&rig);
}

/* A load has gone past an older value that is still in a table. */
static void what_a_loaded_tombstone_hides_in_a_table_stays_hidden(void **state)
{
    struct rig rig;

    scrub_set_up(&rig, RIG_LOG);
    scrub_put(&rig, 0, 15, false);
    load_tombstone(&rig, 0, 20);
    purge_all(&rig, 30);
    assert_int_equal(n_purged(&rig), 1);
    assert_int_equal(scrub_get(&rig, 0), 0);
    assert_true(scrub_sums_are_true(&rig));
    rig_reopen(&rig);
    assert_int_equal(scrub_get(&rig, 0), 0);
    rig_close(&rig);
}

/* The same when the load comes while the purge is under way. */
static void a_purge_waits_for_loads(void **state)
{
    char name[16];
    struct store_op op = delete_op(SCRUB_KEYS - 1, 20, name);
    struct store_item item = {.token = op.token, .key = op.key, .state = op.state};
    struct store_done dones[2];
    struct rig rig;

    rig_slice_records = SLICE_RECORDS;
    set_up(&rig);
    scrub_put(&rig, SCRUB_KEYS - 1, 15, false);
    log_shim_hold_data_sync(2); /* somewhere in the middle */
    begin_purge(&rig, 30);
    log_shim_wait_held();
    assert_int_equal(rig.s->ops->load(rig.s, 0, 8, &item, 1), 0);
    log_shim_let_go();
    rig_reap(&rig, 0, dones, 2);
    assert_int_equal(dones[0].cookie, 8); /* it did */
    assert_int_equal(dones[1].cookie, 7);
    assert_int_equal(dones[0].error | dones[1].error, 0);
    assert_int_equal(n_purged(&rig), N_DELETED + 1);
    assert_int_equal(scrub_get(&rig, SCRUB_KEYS - 1), 0);
    assert_true(scrub_sums_are_true(&rig));
    rig_close(&rig);
    rig_slice_records = 0;
}

/* ---- the log ------------------------------------------------------------------------------- */

static void a_crash_brings_back_tombstones_and_nothing_older(void **state)
{
    struct rig rig;

    scrub_set_up(&rig, RIG_LOG);
    for (unsigned i = 0; i < N_DELETED; i++) {
        scrub_put(&rig, i, 15, false);
        bury(&rig, i, 20);
    }
    for (unsigned round = 0; round < 3; round++) {
        kill_and_reopen(&rig); /* all of it is in the log, some perhaps on disk */
        assert_true(scrub_sums_are_true(&rig));
        for (unsigned i = 0; i < N_DELETED; i++)
            assert_gone(&rig, i, 20);
        purge_all(&rig, 20);
        assert_true(scrub_sums_are_true(&rig));
    }
    rig_close(&rig);
}

/* The log has the value, and only the log. */
static void what_a_loaded_tombstone_hides_in_the_log_stays_hidden(void **state)
{
    struct rig rig;

    scrub_set_up(&rig, RIG_LOG);
    for (unsigned i = 0; i < N_DELETED; i++)
        scrub_put(&rig, i, 15, false);
    for (unsigned i = 0; i < N_DELETED; i += 10)
        load_tombstone(&rig, i, 20);
    kill_and_reopen(&rig);
    purge_all(&rig, 20); /* what was replayed may be older than what is on disk */
    assert_int_equal(n_purged(&rig), N_DELETED / 10);
    scrub_put(&rig, SCRUB_KEYS - 1, 15, false);
    kill_and_reopen(&rig);
    for (unsigned i = 0; i < N_DELETED; i++)
        assert_int_equal(scrub_get(&rig, i), i % 10 ? 15 : 0);
    assert_true(scrub_sums_are_true(&rig));
    rig_close(&rig);
}

/* Its entry is on disk, where it has lost, but a later one of the same part holds the log back: it
 * came when the table was frozen, and before the pass looked how far the log is behind. */
static void a_log_that_cannot_be_left_behind_yet_is_waited_for(void **state)
{
    char names[2][16], values[2][32];
    struct store_op ops[2] = {scrub_put_op(1, 15, names[0], values[0]),
                              scrub_put_op(2, 15, names[1], values[1])};
    struct store_done dones[3];
    uint64_t lsn;
    struct rig rig;

    scrub_set_up(&rig, RIG_LOG);
    scrub_put(&rig, 0, 15, false);
    load_tombstone(&rig, 0, 20);
    log_shim_hold_sync();
    assert_int_equal(rig_submit(&rig, 0, &ops[0], 1, &lsn), 0);
    log_shim_wait_held();
    begin_purge(&rig, 20); /* freezes; the pass waits for the log */
    assert_int_equal(rig_submit(&rig, 0, &ops[1], 1, &lsn), 0);
    log_shim_let_go();
    rig_reap(&rig, 0, dones, 3);
    assert_int_equal(n_purged(&rig), 1);
    kill_and_reopen(&rig);
    assert_int_equal(scrub_get(&rig, 0), 0);
    assert_int_equal(scrub_get(&rig, 1), 15);
    assert_int_equal(scrub_get(&rig, 2), 15);
    assert_true(scrub_sums_are_true(&rig));
    rig_close(&rig);
}

/* A put of version hlc, a delete if that is odd, of the first token that belongs to the queue. */
static struct store_op op_on(uint32_t queue, uint64_t hlc)
{
    struct store_op op = rig_merge_op(slice_str("k"), hlc, slice_str("value"));

    for (op.token = 0; token_worker(op.token, 2) != queue;)
        op.token += (uint64_t)1 << (64 - TOKEN_WORKER_BITS);
    op.state.deleted = hlc % 2;
    op.state.value = op.state.deleted ? (struct slice){0} : op.state.value;
    return op;
}

static void put_on(struct rig *rig, uint32_t queue, uint64_t hlc)
{
    struct store_op op = op_on(queue, hlc);
    struct store_done done;
    uint64_t lsn;

    assert_int_equal(rig_submit(rig, queue, &op, 1, &lsn), 0);
    rig_reap(rig, queue, &done, 1);
    assert_int_equal(done.outcome, OUTCOME_STORED);
}

/* The other part's entries hold the log as a whole back: the purge says itself what is behind. */
static void what_other_parts_hold_in_the_log_is_not_waited_for(void **state)
{
    struct store_op op = op_on(0, 21);
    struct store_item item = {.token = op.token, .key = op.key, .state = op.state};
    struct state found;
    uint64_t lsn;
    struct rig rig;

    rig_owners = 2;
    rig_open(&rig, RIG_LOG, RIG_MAP_BYTES);
    put_on(&rig, 1, 14);
    put_on(&rig, 0, 14);
    assert_int_equal(rig_load(&rig, &item, 1), 0);
    put_on(&rig, 1, 16);
    rig_purge(&rig, op.token, op.token, 21);
    assert_int_equal(n_purged(&rig), 1);
    kill_and_reopen(&rig);
    assert_int_equal(rig.s->ops->get(rig.s, 0, op.token, &op.key, &found, &lsn), 0);
    assert_int_equal(found.kind, STATE_NONE);
    rig_close(&rig);
    rig_owners = 0;
}

/* ---- beside others ------------------------------------------------------------------------- */

static void puts_do_not_wait_for_a_purge(void **state)
{
    struct store_op op;
    struct store_done done;
    char name[16], value[32];
    uint64_t lsn;
    struct rig rig;

    set_up(&rig);
    log_shim_hold_data_sync(0);
    begin_purge(&rig, 20);
    log_shim_wait_held(); /* in its commit */
    op = scrub_put_op(1, 30, name, value);
    op.cookie = 1;
    assert_int_equal(rig_submit(&rig, 0, &op, 1, &lsn), 0);
    rig_reap(&rig, 0, &done, 1);
    assert_int_equal(done.cookie, 1);
    assert_int_equal(scrub_get(&rig, 2), 20); /* as long as it is not on disk */
    log_shim_let_go();
    assert_int_equal(end_purge(&rig), 0);
    assert_int_equal(scrub_get(&rig, 1), 30);
    assert_int_equal(scrub_get(&rig, 2), 0);
    assert_true(scrub_sums_are_true(&rig));
    rig_close(&rig);
}

static void a_purge_that_was_reaped_is_seen(void **state)
{
    char name[16];
    struct key key;
    struct state s;
    uint64_t lsn;
    struct rig rig;

    set_up(&rig);
    key = scrub_key(1, name);
    assert_int_equal(rig.s->ops->get(rig.s, 0, scrub_token(1), &key, &s, &lsn), 0);
    assert_true(s.deleted); /* and the snapshot stays open */
    purge_all(&rig, 20);
    assert_int_equal(rig.s->ops->get(rig.s, 0, scrub_token(1), &key, &s, &lsn), 0);
    assert_int_equal(s.kind, STATE_NONE);
    rig_close(&rig);
}

static void a_wipe_that_is_not_on_disk_does_not_mind(void **state)
{
    struct store_done done;
    struct rig rig;

    set_up(&rig);
    log_shim_hold_sync();
    assert_int_equal(rig.s->ops->wipe(rig.s, 0, 8, scrub_all), 0);
    log_shim_wait_held();
    begin_purge(&rig, 20);
    assert_int_equal(end_purge(&rig), 0);
    assert_int_equal(n_purged(&rig), N_DELETED);
    assert_true(scrub_sums_are_true(&rig));
    log_shim_let_go();
    rig_reap(&rig, 0, &done, 1);
    scrub_put(&rig, 5, 30, false);
    rig_reopen(&rig);
    assert_true(scrub_sums_are_true(&rig));
    assert_int_equal(scrub_get(&rig, 5), 30);
    assert_int_equal(scrub_get(&rig, SCRUB_KEYS - 1), 0);
    rig_close(&rig);
}

/* In the middle of zones and of leaves. */
static void a_scrub_beside_a_purge_finds_nothing(void **state)
{
    struct scrub_round *r = scrub_round_new();
    struct rig rig;

    rig_slice_records = SLICE_RECORDS;
    set_up(&rig);
    begin_purge(&rig, 20);
    scrub_round_run(&rig, SCRUB_SLICE_BYTES, r);
    assert_int_equal(r->n_bad + r->n_errors + r->n_remade, 0);
    assert_int_equal(end_purge(&rig), 0);
    scrub_round_run(&rig, SIZE_MAX, r);
    assert_int_equal(r->n_bad + r->n_errors + r->n_remade, 0);
    assert_int_equal(r->n_records, SCRUB_KEYS - N_DELETED);
    rig_close(&rig);
    rig_slice_records = 0;
    free(r);
}

static void a_store_is_closed_in_the_middle(void **state)
{
    uint64_t before;
    struct rig rig;

    rig_slice_records = SLICE_RECORDS;
    set_up(&rig);
    log_shim_hold_data_sync(2);
    begin_purge(&rig, 20);
    log_shim_wait_held();
    before = n_purged(&rig);
    assert_true(before > 0 && before < N_DELETED);
    log_shim_let_go();
    rig_reopen(&rig);
    assert_true(scrub_sums_are_true(&rig));
    purge_all(&rig, 20);
    assert_true(n_purged(&rig) <= N_DELETED - before);
    for (unsigned i = 0; i < N_DELETED; i++)
        assert_int_equal(scrub_get(&rig, i), 0);
    assert_true(scrub_sums_are_true(&rig));
    rig_close(&rig);
    rig_slice_records = 0;
}

/* ---- what is read -------------------------------------------------------------------------- */

static uint64_t n_looks;

int __real_lmdb_txn_purge_next(struct lmdb_txn *t, struct lmdb_purge *p, size_t *n, size_t n_max,
                               struct lmdb_record *ret);
int __wrap_lmdb_txn_purge_next(struct lmdb_txn *t, struct lmdb_purge *p, size_t *n, size_t n_max,
                               struct lmdb_record *ret);

int __wrap_lmdb_txn_purge_next(struct lmdb_txn *t, struct lmdb_purge *p, size_t *n, size_t n_max,
                               struct lmdb_record *ret)
{
    size_t before = *n;
    int rc = __real_lmdb_txn_purge_next(t, p, n, n_max, ret);

    n_looks += *n - before;
    return rc;
}

static void zones_without_tombstones_are_not_read(void **state)
{
    const uint64_t of_a_zone = SCRUB_KEYS / SCRUB_KEY_ZONES;
    struct rig rig;

    scrub_set_up(&rig, RIG_LOG);
    n_looks = 0;
    purge_all(&rig, 30);
    assert_int_equal(n_looks, 0);
    bury(&rig, 3, 20);
    bury(&rig, 3 + SCRUB_KEY_ZONES, 20);
    rig_reopen(&rig);
    purge_all(&rig, 19); /* there are some, but above it: only reading tells */
    assert_true(n_looks > 0 && n_looks <= of_a_zone);
    n_looks = 0;
    purge_all(&rig, 20);
    assert_true(n_looks > 0 && n_looks <= of_a_zone); /* up to the last one */
    assert_int_equal(n_purged(&rig), 2);
    n_looks = 0;
    purge_all(&rig, 30);
    assert_int_equal(n_looks, 0);
    rig_close(&rig);
}

/* ---- damage, and disks without room -------------------------------------------------------- */

static void a_damaged_tombstone_stays_and_is_named(void **state)
{
    const unsigned bad = 7;
    uint8_t bytes[STORE_KEY_BYTES_MAX];
    char name[16];
    struct key key = scrub_key(bad, name);
    struct slice store_key = slice_of(bytes, store_key_encode(scrub_token(bad), &key, bytes));
    struct scrub_round *r = scrub_round_new();
    struct test_random random = {.s = 1};
    struct rig rig;

    set_up(&rig);
    rig_stop(&rig);
    fault_tamper_one(rig.dir, TAMPER_RECORD, store_key, &random);
    rig_start(&rig);
    purge_all(&rig, 20);
    assert_int_equal(n_purged(&rig), N_DELETED - 1);
    assert_int_equal(scrub_get(&rig, bad), -ERR_CORRUPT);
    scrub_round_run(&rig, SIZE_MAX, r);
    assert_int_equal(r->n_named, 1);
    assert_int_equal(scrub_number_at(r->named[0].cursor, r->named[0].len), bad);
    assert_true(scrub_sums_are_true(&rig));
    rig_close(&rig);
    free(r);
}

static void damaged_keys_do_not_stop_it_for_ever(void **state)
{
    struct fault_tampered bad[20];
    struct rig rig;

    rig_slice_records = SLICE_RECORDS;
    set_up(&rig);
    scrub_tamper(&rig, TAMPER_KEY, ARRAY_LEN(bad), 3, bad);
    purge_all(&rig, 20);
    assert_true(n_purged(&rig) > N_DELETED / 2);
    for (unsigned i = N_DELETED; i < SCRUB_KEYS; i++) {
        int64_t found = scrub_get(&rig, i);

        /* A damaged key hides itself, and neighbours from a search. */
        assert_true(found == 10 || found == 0 || found == -ERR_CORRUPT);
    }
    rig_close(&rig);
    rig_slice_records = 0;
}

static void a_damaged_summary_is_made_anew(void **state)
{
    struct fault_tampered bad[4];
    struct rig rig;

    set_up(&rig);
    scrub_tamper(&rig, TAMPER_SUMMARY, ARRAY_LEN(bad), 1, bad);
    purge_all(&rig, 20);
    assert_int_equal(n_purged(&rig), N_DELETED);
    assert_true(scrub_sums_are_true(&rig));
    rig_reopen(&rig);
    assert_true(scrub_sums_are_true(&rig));
    rig_close(&rig);
}

static void without_room_it_ends_and_is_tried_again(void **state)
{
    struct rig rig;

    set_up(&rig);
    log_shim_fail(LOG_SHIM_DATA, 1, ENOSPC, true);
    begin_purge(&rig, 20);
    assert_int_equal(end_purge(&rig), -ERR_NO_SPACE);
    assert_true(log_shim_has_failed());
    log_shim_heal();
    assert_int_equal(n_purged(&rig), 0);
    assert_true(scrub_sums_are_true(&rig));
    purge_all(&rig, 20);
    assert_int_equal(n_purged(&rig), N_DELETED);
    assert_true(scrub_sums_are_true(&rig));
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_in_memory_stays_for_another_time),
        cmocka_unit_test(entries_over_a_tombstone_are_counted_with_it_and_without),
        cmocka_unit_test(what_a_loaded_tombstone_hides_in_a_table_stays_hidden),
        cmocka_unit_test(a_purge_waits_for_loads),
        cmocka_unit_test(a_crash_brings_back_tombstones_and_nothing_older),
        cmocka_unit_test(what_a_loaded_tombstone_hides_in_the_log_stays_hidden),
        cmocka_unit_test(a_log_that_cannot_be_left_behind_yet_is_waited_for),
        cmocka_unit_test(what_other_parts_hold_in_the_log_is_not_waited_for),
        cmocka_unit_test(puts_do_not_wait_for_a_purge),
        cmocka_unit_test(a_purge_that_was_reaped_is_seen),
        cmocka_unit_test(a_wipe_that_is_not_on_disk_does_not_mind),
        cmocka_unit_test(a_scrub_beside_a_purge_finds_nothing),
        cmocka_unit_test(a_store_is_closed_in_the_middle),
        cmocka_unit_test(zones_without_tombstones_are_not_read),
        cmocka_unit_test(a_damaged_tombstone_stays_and_is_named),
        cmocka_unit_test(damaged_keys_do_not_stop_it_for_ever),
        cmocka_unit_test(a_damaged_summary_is_made_anew),
        cmocka_unit_test(without_room_it_ends_and_is_tried_again),
    };

    /* Syncs are held here, not needed. */
    if (access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 1);
    rig_segment_bytes = SEGMENT_BYTES;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
