/* test_store_scrub: what a scrub finds of what was done to a stopped store behind its back, and
 * what becomes of it: records that were removed or set back, summaries that lie; and that a healthy
 * store, whatever it is doing, is never accused of anything. Damaged records are test_store_heal's.
 *
 *   test_store_scrub [STEPS [SEED]]      steps of a_store_at_work_never_disagrees
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "storage/bytes.h"
#include "storage/clean_mark.h"
#include "storage/zone.h"
#include "tests/model/log_disk.h"
#include "tests/model/scrub_rig.h"

#define STEPS 3000u
#define STEPS_QUICK 600u

static unsigned steps;
static uint64_t first_seed = 1;

/* ---- a healthy store ----------------------------------------------------------------------- */

static void a_round_reads_everything_once_and_finds_nothing(void **state)
{
    static const size_t budgets[] = {1, SCRUB_SLICE_BYTES, SIZE_MAX};
    struct scrub_round *r = scrub_round_new();
    struct rig rig;

    for (enum rig_engine engine = 0; engine < RIG_ENGINES; engine++) {
        scrub_set_up(&rig, engine);
        for (size_t i = 0; i < ARRAY_LEN(budgets); i++) {
            scrub_round_run(&rig, budgets[i], r);
            assert_int_equal(r->n_records, SCRUB_KEYS);
            assert_int_equal(r->n_bad + r->n_remade + r->n_errors, 0);
            /* A slice of one record each, or a slice per zone. */
            assert_in_range(r->n_slices, i == 0 ? SCRUB_KEYS : ZONES,
                            i == 2 ? ZONES : SCRUB_KEYS + ZONES);
        }
        rig_close(&rig);
    }
    free(r);
}

static void one_slice_at_a_time_and_only_for_who_asked(void **state)
{
    struct store_scrub_place start = {0};
    struct store_scrub out;
    struct rig rig;

    for (enum rig_engine engine = 0; engine < RIG_ENGINES; engine++) {
        scrub_set_up(&rig, engine);
        assert_false(rig.s->ops->scrubbed(rig.s, SCRUB_QUEUE, &out));
        assert_int_equal(rig.s->ops->scrub(rig.s, SCRUB_QUEUE, &start, 1), 0);
        assert_int_equal(rig.s->ops->scrub(rig.s, SCRUB_QUEUE, &start, 1), -ERR_FULL);
        assert_int_equal(rig.s->ops->scrub(rig.s, 0, &start, 1), -ERR_FULL);
        rig_wait_notified(&rig, SCRUB_QUEUE);
        assert_false(rig.s->ops->scrubbed(rig.s, 0, &out));
        assert_int_equal(rig.s->ops->scrub(rig.s, 0, &start, 1), -ERR_FULL); /* not taken yet */
        assert_true(rig.s->ops->scrubbed(rig.s, SCRUB_QUEUE, &out));
        assert_false(rig.s->ops->scrubbed(rig.s, SCRUB_QUEUE, &out));
        assert_int_equal(rig.s->ops->scrub(rig.s, 0, &start, 1), 0);
        rig_close(&rig); /* with one that nobody will take */
    }
}

/* ---- records removed and set back ---------------------------------------------------------- */

static void what_was_removed_or_set_back_is_missed(enum fault_tampering what)
{
    const size_t n = SCRUB_KEYS / 100;
    struct fault_tampered gone[SCRUB_KEYS / 100];
    struct scrub_sums *before = scrub_sums_new(), *after = scrub_sums_new();
    bool expected[ZONES] = {0};
    struct scrub_round *r = scrub_round_new();
    struct rig rig;

    scrub_set_up(&rig, RIG_LOG);
    scrub_sums_told(&rig, before);
    scrub_tamper(&rig, what, n, 1, gone);
    for (size_t i = 0; i < n; i++)
        expected[zone_of(bytes_get_be(gone[i].bytes, 8))] = true;
    scrub_sums_told(&rig, after);
    assert_true(scrub_sums_agree(before, after)); /* the summaries still tell the old tale */
    assert_false(scrub_sums_are_true(&rig));
    scrub_round_run(&rig, SCRUB_SLICE_BYTES, r);
    assert_memory_equal(r->remade, expected, sizeof(expected));
    assert_int_equal(r->n_bad + r->n_errors, 0); /* what is there is whole */
    assert_true(scrub_sums_are_true(&rig));
    scrub_sums_told(&rig, after);
    assert_int_equal(after->info.n_records, SCRUB_KEYS - (what == TAMPER_REMOVE ? n : 0));
    assert_int_equal(after->info.max_version.hlc, 10);
    scrub_round_run(&rig, SIZE_MAX, r);
    assert_int_equal(r->n_remade, 0);
    rig_reopen(&rig);
    assert_true(scrub_sums_are_true(&rig));
    rig_close(&rig);
    free(before);
    free(after);
    free(r);
}

static void removed_records_are_missed(void **state)
{
    what_was_removed_or_set_back_is_missed(TAMPER_REMOVE);
}

static void records_set_back_are_missed(void **state)
{
    what_was_removed_or_set_back_is_missed(TAMPER_SET_BACK);
}

/* Entries of the tables, over keys that are gone, damaged or whole on disk, before a summary is
 * made anew and after it. */
static void what_is_in_tables_is_counted_over_a_new_summary(void **state)
{
    const size_t n = SCRUB_KEYS / 100;
    struct fault_tampered gone[SCRUB_KEYS / 100], bad[SCRUB_KEYS / 100];
    struct scrub_round *r = scrub_round_new();
    struct rig rig;

    scrub_set_up(&rig, RIG_LOG);
    scrub_tamper(&rig, TAMPER_REMOVE, n, 1, gone);
    scrub_tamper(&rig, TAMPER_RECORD, n, 2, bad);
    for (size_t i = 0; i < n; i += 2) {
        scrub_put(&rig, scrub_number_at(gone[i].bytes, gone[i].len), 20, false);
        scrub_put(&rig, scrub_number_at(bad[i].bytes, bad[i].len), 10, true);
        scrub_put(&rig, (unsigned)i, 30, false);
    }
    scrub_round_run(&rig, SCRUB_SLICE_BYTES, r);
    assert_true(r->n_remade > 0);
    assert_int_equal(r->n_bad, n); /* on disk nothing is healed yet */
    assert_true(scrub_sums_are_true(&rig));
    for (size_t i = 1; i < n; i += 2) {
        scrub_put(&rig, scrub_number_at(gone[i].bytes, gone[i].len), 20, false);
        scrub_put(&rig, scrub_number_at(bad[i].bytes, bad[i].len), 10, true);
        scrub_put(&rig, (unsigned)i, 30, false);
    }
    assert_true(scrub_sums_are_true(&rig));
    rig_reopen(&rig);
    assert_true(scrub_sums_are_true(&rig));
    scrub_round_run(&rig, SCRUB_SLICE_BYTES, r);
    assert_int_equal(r->n_remade + r->n_bad, 0);
    assert_int_equal(r->n_records, SCRUB_KEYS);
    rig_close(&rig);
    free(r);
}

/* What is not blind must stay so, though the record that had the highest version is gone. */
static void the_highest_version_is_remembered(void **state)
{
    struct test_random random = {.s = 1};
    uint8_t bytes[STORE_KEY_BYTES_MAX];
    struct scrub_round *r = scrub_round_new();
    struct store_info info;
    struct rig rig;
    char name[16];
    struct key key = scrub_key(7, name);

    scrub_set_up(&rig, RIG_LOG);
    scrub_put(&rig, 7, 50, false);
    rig_stop(&rig);
    fault_tamper_one(rig.dir, TAMPER_REMOVE,
                     slice_of(bytes, store_key_encode(scrub_token(7), &key, bytes)), &random);
    rig_start(&rig);
    scrub_round_run(&rig, SIZE_MAX, r);
    assert_int_equal(r->n_remade, 1);
    rig_reopen(&rig);
    assert_int_equal(rig.s->ops->vnode_info(rig.s, 0, zone_range(zone_of(scrub_token(7))), &info),
                     0);
    assert_int_equal(info.max_version.hlc, 50);
    rig.s->ops->read_end(rig.s, 0);
    rig_close(&rig);
    free(r);
}

/* A put that is above all that the zone has seen is not looked up. What came from elsewhere must
 * count as seen once it is known. */
static void a_put_is_not_blind_to_what_came_from_elsewhere(void **state)
{
    struct fault_tampered one;
    struct store_done done;
    struct scrub_round *r = scrub_round_new();
    struct rig rig;
    uint64_t token;
    struct key key;

    scrub_set_up(&rig, RIG_LOG);
    scrub_tamper(&rig, TAMPER_SET_ON, 1, 1, &one);
    scrub_round_run(&rig, SIZE_MAX, r);
    assert_int_equal(r->n_remade, 1);
    assert_int_equal(store_cursor_decode(slice_of(one.bytes, one.len), &token, &key), 0);
    done = scrub_put(&rig, scrub_number(&key), 20, false);
    assert_int_equal(done.outcome, OUTCOME_SUPERSEDED);
    assert_int_equal(done.version.hlc, 10 + TAMPER_ON);
    rig_close(&rig);
    free(r);
}

static void a_damaged_summary_is_made_anew(void **state)
{
    struct fault_tampered near;
    struct scrub_round *r = scrub_round_new();
    struct rig rig;

    scrub_set_up(&rig, RIG_LOG);
    scrub_tamper(&rig, TAMPER_SUMMARY, 1, 1, &near);
    scrub_round_run(&rig, SCRUB_SLICE_BYTES, r);
    assert_int_equal(r->n_remade, 1);
    assert_true(r->remade[zone_of(bytes_get_be(near.bytes, 8))]);
    assert_true(scrub_sums_are_true(&rig));
    scrub_round_run(&rig, SCRUB_SLICE_BYTES, r);
    assert_int_equal(r->n_remade, 0);
    rig_reopen(&rig);
    assert_int_equal(scrub_put(&rig, scrub_number_at(near.bytes, near.len), 9, false).outcome,
                     OUTCOME_SUPERSEDED);
    rig_close(&rig);
    free(r);
}

/* ---- a leaf that is larger than a slice ---------------------------------------------------- */

#define LEAF_KEYS 40u

static struct store_op leaf_op(unsigned i, uint64_t hlc, char name[16], char value[32])
{
    struct store_op op = scrub_put_op(i, hlc, name, value);

    op.token = 12345; /* as of one partition key with many sort keys */
    return op;
}

static void put_leaf(struct rig *rig, uint64_t hlc, unsigned first, unsigned step)
{
    char name[16], value[32];

    for (unsigned i = first; i < LEAF_KEYS; i += step) {
        struct store_op op = leaf_op(i, hlc, name, value);

        assert_int_equal(rig_do(rig, &op).error, 0);
    }
}

/* From the first record to the end of the zone, writing between the slices if asked to. */
static bool scrub_leaf(struct rig *rig, bool disturb)
{
    struct store_scrub_place at = {0};
    uint64_t hlc = 100;
    bool remade = false;

    do {
        struct store_scrub out = rig_scrub(rig, SCRUB_QUEUE, &at, 1);

        remade |= out.remade;
        at = out.next;
        if (disturb && at.zone == 0) {
            hlc++;
            put_leaf(rig, hlc, (unsigned)(hlc % LEAF_KEYS), LEAF_KEYS);
            rig_reopen(rig);
        }
    } while (at.zone == 0);
    return remade;
}

static void a_leaf_larger_than_a_slice_is_compared(void **state)
{
    struct fault_tampered gone;
    struct rig rig;

    rig_open(&rig, RIG_LOG, RIG_MAP_BYTES);
    put_leaf(&rig, 1, 0, 1);
    rig_reopen(&rig);
    assert_false(scrub_leaf(&rig, false));
    assert_false(scrub_leaf(&rig, true)); /* what changes under the scrub is not its business */
    scrub_tamper(&rig, TAMPER_REMOVE, 1, 1, &gone);
    assert_true(scrub_leaf(&rig, false));
    assert_false(scrub_leaf(&rig, false));
    rig_close(&rig);
}

/* ---- a disk that is full ------------------------------------------------------------------- */

static void without_room_a_summary_waits_for_the_next_time(void **state)
{
    struct fault_tampered gone;
    struct store_scrub_place at = {0};
    struct store_scrub out;
    struct rig rig;

    scrub_set_up(&rig, RIG_LOG);
    scrub_tamper(&rig, TAMPER_REMOVE, 1, 1, &gone);
    at.zone = zone_of(bytes_get_be(gone.bytes, 8));
    log_shim_fail(LOG_SHIM_DATA, 1, ENOSPC, false);
    out = rig_scrub(&rig, SCRUB_QUEUE, &at, SIZE_MAX);
    assert_true(log_shim_has_failed());
    assert_int_equal(out.error, -ERR_NO_SPACE);
    assert_false(out.remade);
    assert_int_equal(out.next.zone, at.zone);
    assert_true(store_scrub_at_zone(&out.next));
    log_shim_heal();
    assert_false(scrub_sums_are_true(&rig));
    at = out.next;
    out = rig_scrub(&rig, SCRUB_QUEUE, &at, SIZE_MAX);
    assert_int_equal(out.error, 0);
    assert_true(out.remade);
    assert_int_equal(out.next.zone, at.zone + 1);
    assert_true(scrub_sums_are_true(&rig));
    assert_int_equal(scrub_put(&rig, 1, 20, false).outcome, OUTCOME_STORED);
    rig_close(&rig);
}

/* ---- crashes ------------------------------------------------------------------------------- */

static const enum log_disk_cut cuts[] = {LOG_DISK_STRICT, LOG_DISK_RANDOM, LOG_DISK_KILLED};

static void save_store_file(const char *dir)
{
    char path[128];
    FILE *file;

    snprintf(path, sizeof(path), "%s/STORE", dir);
    file = fopen(path, "w");
    assert_non_null(file);
    fputs("quoit store 2\n", file);
    fclose(file);
}

/* As a power cut left it: it opens, whatever it says of sums is put right by a round, and no record
 * that was there is missing. */
static void check_image(const char *dir, struct scrub_round *r)
{
    struct rig rig = {.engine = RIG_LOG, .map_bytes = RIG_MAP_BYTES};

    assert_true(clean_mark_clear(dir)); /* of the image before this one */
    snprintf(rig.dir, sizeof(rig.dir), "%s", dir);
    pthread_mutex_init(&rig.lock, NULL);
    pthread_cond_init(&rig.woken, NULL);
    rig_start(&rig);
    scrub_round_run(&rig, SIZE_MAX, r);
    assert_int_equal(r->n_records, SCRUB_KEYS - SCRUB_KEYS / 100);
    assert_int_equal(r->n_bad + r->n_errors, 0);
    assert_true(scrub_sums_are_true(&rig));
    rig_stop(&rig);
    pthread_cond_destroy(&rig.woken);
    pthread_mutex_destroy(&rig.lock);
}

static void a_summary_is_the_old_or_the_new_one_at_every_power_cut(void **state)
{
    struct fault_tampered gone[SCRUB_KEYS / 100];
    struct log_shim_journal journal = {0};
    struct test_random random = {.s = 1};
    struct scrub_round *r = scrub_round_new();
    struct log_disk disk;
    unsigned n_images = 0, n_old = 0;
    char dir[64];
    struct rig rig;

    rig_log_beside = true;
    scrub_set_up(&rig, RIG_LOG);
    scrub_tamper(&rig, TAMPER_REMOVE, SCRUB_KEYS / 100, 1, gone);
    rig_stop(&rig);
    log_disk_load(&disk, rig.dir);
    disk.journal = &journal;
    log_shim_record(&journal, rig.dir);
    rig_start(&rig);
    scrub_round_run(&rig, SIZE_MAX, r);
    assert_true(r->n_remade >= 5);
    rig_stop(&rig);
    log_shim_record(NULL, NULL);
    rig_dir_make_in_memory(dir);
    save_store_file(dir);
    for (size_t at = 0; at < journal.n; at++) {
        log_disk_event(&disk, at);
        if (test_is_quick() && test_random_below(&random, 3) != 0)
            continue;
        log_disk_save(&disk, dir, cuts[test_random_below(&random, ARRAY_LEN(cuts))], 0, &random);
        check_image(dir, r);
        n_images++;
        n_old += r->n_remade > 0;
    }
    assert_true(n_images > 10 && n_old > 5 && n_old < n_images);
    log_disk_deinit(&disk);
    log_shim_journal_deinit(&journal);
    rig_dir_remove(dir);
    rig_start(&rig);
    rig_close(&rig);
    rig_log_beside = false;
    free(r);
}

/* ---- a healthy store at work --------------------------------------------------------------- */

#define WORK_TABLES_BYTES (96u << 10) /* so few that tables freeze and go to disk all the time */
#define WORK_SLICE_RECORDS 40u
#define WORK_BATCH 32u
#define WORK_LOAD 8u

struct work {
    struct rig rig;
    struct test_random random;
    struct store_scrub_place at;
    bool asked;
    uint64_t hlc, n_slices, n_records;
};

static uint64_t below(struct work *w, uint64_t n)
{
    return test_random_below(&w->random, n);
}

static uint64_t any_version(struct work *w)
{
    return below(w, 4) ? ++w->hlc : 1 + below(w, w->hlc);
}

static void work_put(struct work *w)
{
    static char names[WORK_BATCH][16], values[WORK_BATCH][32];
    struct store_op ops[WORK_BATCH];
    struct store_done done[WORK_BATCH];
    size_t n = 1 + below(w, WORK_BATCH);
    uint64_t lsn;

    for (size_t i = 0; i < n; i++) {
        ops[i] = scrub_put_op((unsigned)below(w, SCRUB_KEYS), any_version(w), names[i], values[i]);
        ops[i].heal = below(w, 4) == 0;
        if (ops[i].state.version.hlc % 7 == 0) {
            ops[i].state.deleted = true;
            ops[i].state.value = (struct slice){0};
        }
    }
    assert_int_equal(rig_submit(&w->rig, 0, ops, n, &lsn), 0);
    rig_reap(&w->rig, 0, done, n);
}

static void work_wipe(struct work *w)
{
    struct store_range range = zone_range(zone_of(scrub_token((unsigned)below(w, SCRUB_KEYS))));

    if (below(w, 2))
        range.last = scrub_token((unsigned)below(w, SCRUB_KEYS));
    if (range.first <= range.last)
        rig_wipe(&w->rig, range.first, range.last);
}

static int by_token(const void *a, const void *b)
{
    const struct store_item *x = a, *y = b;

    return x->token < y->token ? -1 : x->token > y->token;
}

static void work_load(struct work *w)
{
    char names[WORK_LOAD][16], values[WORK_LOAD][32];
    struct store_item items[WORK_LOAD];
    unsigned first = (unsigned)below(w, SCRUB_KEYS);

    for (unsigned i = 0; i < WORK_LOAD; i++) {
        uint64_t hlc = any_version(w);
        struct store_op op =
            scrub_put_op((first + i) % SCRUB_KEYS, hlc + (hlc % 7 == 0), names[i], values[i]);

        items[i] = (struct store_item){.token = op.token, .key = op.key, .state = op.state};
    }
    qsort(items, WORK_LOAD, sizeof(*items), by_token);
    assert_int_equal(rig_load(&w->rig, items, WORK_LOAD), 0);
}

/* There is always one under way. */
static void work_scrub(struct work *w)
{
    static const size_t budgets[] = {1, SCRUB_SLICE_BYTES, SIZE_MAX};
    const struct store_ops *ops = w->rig.s->ops;
    struct store_scrub out;

    if (w->asked && ops->scrubbed(w->rig.s, SCRUB_QUEUE, &out)) {
        if (out.remade || out.n_bad || out.error)
            fail_msg("zone %u: %s, %llu bad, error %d", out.zone,
                     out.remade ? "was made anew" : "as it was", (unsigned long long)out.n_bad,
                     out.error);
        w->asked = false;
        w->n_slices++;
        w->n_records += out.n_records;
        w->at = out.next;
        if (store_scrub_at_zone(&w->at)) /* most zones are empty */
            w->at.zone = zone_of(scrub_token((unsigned)below(w, SCRUB_KEYS)));
    }
    if (!w->asked)
        assert_int_equal(ops->scrub(w->rig.s, SCRUB_QUEUE, &w->at, budgets[below(w, 3)]), 0);
    w->asked = true;
}

static void work_step(struct work *w)
{
    uint64_t dice = below(w, 200);

    if (dice < 2)
        work_wipe(w);
    else if (dice < 10)
        work_load(w);
    else
        work_put(w);
    work_scrub(w);
    w->rig.s->ops->read_end(w->rig.s, 0);
    if (dice == 199 && below(w, 4) == 0) {
        rig_reopen(&w->rig);
        w->asked = false;
    }
}

static void a_store_at_work_never_disagrees(void **state)
{
    struct work w = {.random = {.s = first_seed}, .hlc = 1};

    print_message("# seed %llu\n", (unsigned long long)first_seed);
    rig_slice_records = WORK_SLICE_RECORDS;
    rig_open_with(&w.rig, RIG_LOG, RIG_MAP_BYTES, WORK_TABLES_BYTES);
    for (unsigned i = 0; i < steps; i++)
        work_step(&w);
    print_message("# %llu slices, %llu records\n", (unsigned long long)w.n_slices,
                  (unsigned long long)w.n_records);
    assert_true(w.n_slices > steps / 10 && w.n_records > steps);
    assert_true(scrub_sums_are_true(&w.rig));
    rig_close(&w.rig);
    rig_slice_records = 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_round_reads_everything_once_and_finds_nothing),
        cmocka_unit_test(one_slice_at_a_time_and_only_for_who_asked),
        cmocka_unit_test(removed_records_are_missed),
        cmocka_unit_test(records_set_back_are_missed),
        cmocka_unit_test(what_is_in_tables_is_counted_over_a_new_summary),
        cmocka_unit_test(the_highest_version_is_remembered),
        cmocka_unit_test(a_put_is_not_blind_to_what_came_from_elsewhere),
        cmocka_unit_test(a_damaged_summary_is_made_anew),
        cmocka_unit_test(a_leaf_larger_than_a_slice_is_compared),
        cmocka_unit_test(without_room_a_summary_waits_for_the_next_time),
        cmocka_unit_test(a_summary_is_the_old_or_the_new_one_at_every_power_cut),
        cmocka_unit_test(a_store_at_work_never_disagrees),
    };

    /* Syncs are counted here, not needed. */
    if (access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 1);
    rig_segment_bytes = SCRUB_SEGMENT_BYTES;
    steps = test_is_quick() ? STEPS_QUICK : STEPS;
    if (argc > 2)
        first_seed = strtoull(argv[2], NULL, 0);
    if (argc > 1) {
        const struct CMUnitTest one[] = {cmocka_unit_test(a_store_at_work_never_disagrees)};

        steps = (unsigned)strtoul(argv[1], NULL, 10);
        return cmocka_run_group_tests(one, NULL, NULL);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
