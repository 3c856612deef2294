/* test_log_crash: the power goes at every point between two system calls of the log.
 *
 * A workload runs while log_shim keeps a journal of all that is written, synced and renamed, with a
 * mark for each acknowledgement and each "applied" that a store would remember. Then the disk is
 * rebuilt as of each entry of the journal, in several ways (log_disk.h): every prefix of the group
 * that was in flight, all but each single sector of it, nothing or everything of what was not
 * synced, and seeded mixtures. On each disk the log is opened as its store would and must bring
 *
 *   - what was acknowledged and not applied, in order, each record once, with its bytes,
 *   - after that perhaps more, again without a gap, and nothing that had been applied;
 *
 * and then it must go on: a record is added, the log reopened, and it is there.
 *
 * Some of the torn disks are where a second workload begins, whose crashes are enumerated in the
 * same way: so every write of a recovery, and what it leaves in front of stale and torn groups.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "proto/err.h"
#include "tests/model/log_disk.h"
#include "tests/model/log_rig.h"
#include "tests/model/store_rig.h"

#define SEQS_MAX 4096u
#define QUEUE 1u

enum mark {
    MARK_ID,     /* the store remembers the log's id */
    MARK_ACKED,  /* all records below this number are durable */
    MARK_APPLIED /* the store remembers this sequence as applied */
};

/* What a store and its clients know at a moment. */
struct known {
    uint64_t log_id, applied_seq, acked;
    uint64_t upto[SEQS_MAX]; /* records in the groups up to this sequence */
};

struct run {
    struct log_rig rig;
    struct log_shim_journal journal;
    struct known start;
    struct test_random random;
    uint64_t next;         /* number of the next record */
    uint64_t upto_applied; /* records that need no replay */
};

/* ---- what is known ------------------------------------------------------------------------ */

static void learn(struct known *k, const struct log_shim_event *e)
{
    struct log_group g;

    if (e->kind == LOG_SHIM_GROUP && log_group_decode(slice_of(e->data, e->len), 0, &g)) {
        assert_true(g.seq < SEQS_MAX);
        k->upto[g.seq] = k->upto[g.seq - 1] + g.count;
    }
    if (e->kind != LOG_SHIM_MARK)
        return;
    if (e->offset == MARK_ID)
        k->log_id = e->number;
    else if (e->offset == MARK_ACKED)
        k->acked = e->number;
    else
        k->applied_seq = e->number;
}

/* ---- the workload ------------------------------------------------------------------------- */

static size_t record_len(struct run *run)
{
    switch (test_random_below(&run->random, 12)) {
    case 0:
        return 20000 + (size_t)test_random_below(&run->random, 12000);
    case 1:
    case 2:
        return 3000 + (size_t)test_random_below(&run->random, 4000);
    default:
        return LOG_RIG_LEN_MIN + (size_t)test_random_below(&run->random, 400);
    }
}

/* A list of a few records; false: no room before something is applied. */
static bool put_list(struct run *run, uint64_t *ret_lsn)
{
    struct log_list *list = log_list_new(run->rig.l);
    size_t n = 1 + test_random_below(&run->random, 3);
    int r;

    for (size_t i = 0; i < n; i++)
        log_rig_add(list, QUEUE, run->next + i, record_len(run),
                    test_random_below(&run->random, 2));
    for (;;) {
        unsigned n_room = log_rig_n_room(&run->rig);

        r = log_admit(run->rig.l, list, log_list_bytes(list), false);
        if (r == 0)
            break;
        assert_int_equal(r, -ERR_FULL);
        if (log_used_bytes(run->rig.l) > LOG_RIG_SEGMENT) {
            log_list_free(run->rig.l, list);
            return false;
        }
        log_rig_wait_room(&run->rig, n_room);
    }
    *ret_lsn = log_append(run->rig.l, list, QUEUE, n) + n - 1;
    run->next += n;
    return true;
}

static void apply(struct run *run, uint64_t lsn)
{
    uint64_t seq = log_seq_of(run->rig.l, lsn);

    assert_true(seq >= run->rig.applied_seq);
    run->rig.applied_seq = seq;
    log_shim_mark(MARK_APPLIED, seq);
    log_release(run->rig.l, seq);
}

/* Records in the groups that the store remembers as applied, from the journal so far. */
static uint64_t upto_applied(const struct run *run)
{
    struct known *k = malloc(sizeof(*k));
    uint64_t n;

    assert_non_null(k);
    *k = run->start;
    for (size_t i = 0; i < run->journal.n; i++)
        learn(k, &run->journal.events[i]);
    n = k->upto[k->applied_seq];
    free(k);
    return n;
}

/* Opens, adds and applies for a while, stops. What was replayed is as good as acknowledged. */
static void session(struct run *run, unsigned n_rounds)
{
    uint64_t lsn, first = run->upto_applied;

    log_rig_start(&run->rig);
    log_shim_mark(MARK_ID, run->rig.log_id);
    log_rig_assert_replayed(&run->rig, QUEUE, first, run->rig.n_replayed);
    run->next = first + run->rig.n_replayed;
    log_shim_mark(MARK_ACKED, run->next);
    lsn = run->rig.n_replayed;
    for (unsigned i = 0; i < n_rounds; i++) {
        size_t n = 1 + test_random_below(&run->random, 4);
        bool room = true;

        for (size_t k = 0; room && k < n; k++)
            room = put_list(run, &lsn);
        log_rig_wait_durable(&run->rig, lsn);
        log_shim_mark(MARK_ACKED, run->next);
        if (!room || test_random_below(&run->random, 4) == 0)
            apply(run, test_random_below(&run->random, 2) && room ? lsn / 2 : lsn);
    }
    log_rig_stop(&run->rig);
    run->upto_applied = upto_applied(run);
}

/* ---- asking the log ----------------------------------------------------------------------- */

static const char *const cut_names[] = {"strict", "killed", "prefix", "drop", "random"};

struct place {
    size_t at, sector;
    enum log_disk_cut cut;
};

static void check_replayed(const struct log_rig *rig, const struct known *k, struct place p)
{
    uint64_t first = k->upto[k->applied_seq];

    if (first + rig->n_replayed < k->acked)
        fail_msg("event %zu, %s %zu: %llu records acknowledged, %llu + %zu found", p.at,
                 cut_names[p.cut], p.sector, (unsigned long long)k->acked,
                 (unsigned long long)first, rig->n_replayed);
    for (size_t i = 0; i < rig->n_replayed; i++) {
        if (rig->replayed[i].number != first + i || rig->replayed[i].queue != QUEUE)
            fail_msg("event %zu, %s %zu: record %llu where %llu ought to be", p.at,
                     cut_names[p.cut], p.sector, (unsigned long long)rig->replayed[i].number,
                     (unsigned long long)(first + i));
    }
}

static void check_image(struct log_rig *rig, const struct known *k, struct place p)
{
    uint64_t number;
    int r;

    rig->log_id = k->log_id;
    rig->applied_seq = k->applied_seq;
    r = log_rig_open(rig);
    if (r < 0)
        fail_msg("event %zu, %s %zu: %s", p.at, cut_names[p.cut], p.sector, rig->why);
    check_replayed(rig, k, p);
    number = k->upto[k->applied_seq] + rig->n_replayed;
    assert_int_equal(log_start(rig->l), 0);
    log_rig_wait_durable(rig, log_rig_must_put(rig, QUEUE, number, 700));
    log_rig_stop(rig);
    r = log_rig_open(rig);
    if (r < 0)
        fail_msg("event %zu, %s %zu, the second time: %s", p.at, cut_names[p.cut], p.sector,
                 rig->why);
    check_replayed(rig, k, p);
    assert_int_equal(k->upto[k->applied_seq] + rig->n_replayed, number + 1);
    log_rig_stop(rig);
}

/* ---- enumeration -------------------------------------------------------------------------- */

struct enumeration {
    struct log_disk disk;
    struct known known;
    struct log_rig rig; /* in whose directory the images are made */
    size_t n_images;
    size_t second_every; /* one torn image out of so many gets a second run; 0: none */
    size_t n_torn, n_killed, n_second, n_second_images;
};

static void run_second(struct enumeration *e, struct place p);

/* Torn disks, and processes that died between a write and its sync or a rename and its sync. */
static bool gets_second_run(struct enumeration *e, struct place p)
{
    enum log_shim_kind kind = e->disk.journal->events[p.at].kind;

    if (e->second_every == 0 || p.cut == LOG_DISK_STRICT || p.cut == LOG_DISK_RANDOM)
        return false;
    if (p.cut != LOG_DISK_KILLED)
        return ++e->n_torn % e->second_every == 0;
    return kind == LOG_SHIM_RENAME || (kind == LOG_SHIM_GROUP && ++e->n_killed % 12 == 0);
}

static void check_cut(struct enumeration *e, struct place p)
{
    struct test_random random = {.s = p.at};

    if (gets_second_run(e, p))
        run_second(e, p);
    log_disk_save(&e->disk, e->rig.dir, p.cut, p.sector, &random);
    check_image(&e->rig, &e->known, p);
    e->n_images++;
}

static void check_all_cuts(struct enumeration *e, size_t at, bool in_flight)
{
    size_t n = in_flight ? log_disk_waiting_sectors(&e->disk) : 0;

    for (size_t i = 1; i < n; i++)
        check_cut(e, (struct place){at, i, LOG_DISK_PREFIX});
    for (size_t i = 0; i < n; i++)
        check_cut(e, (struct place){at, i, LOG_DISK_DROP});
    check_cut(e, (struct place){at, 0, LOG_DISK_STRICT});
    check_cut(e, (struct place){at, 0, LOG_DISK_KILLED});
    check_cut(e, (struct place){at, 0, LOG_DISK_RANDOM});
}

/* Crashes after each event from `first` on. */
static void enumerate(struct enumeration *e, const struct log_shim_journal *journal, size_t first)
{
    e->disk.journal = journal;
    for (size_t at = 0; at < journal->n; at++) {
        log_disk_event(&e->disk, at);
        learn(&e->known, &journal->events[at]);
        if (at < first)
            continue;
        check_all_cuts(e, at, journal->events[at].kind == LOG_SHIM_GROUP);
    }
}

static struct enumeration *enumeration_new(const char *initial_dir, const struct known *known)
{
    struct enumeration *e = calloc(1, sizeof(*e));

    assert_non_null(e);
    log_rig_init(&e->rig);
    e->rig.options.bytes_max = 8ull * LOG_RIG_SEGMENT;
    log_disk_load(&e->disk, initial_dir);
    e->known = *known;
    return e;
}

static void enumeration_free(struct enumeration *e)
{
    log_disk_deinit(&e->disk);
    log_rig_deinit(&e->rig);
    free(e);
}

static struct run *run_new(uint64_t seed)
{
    struct run *run = calloc(1, sizeof(*run));

    assert_non_null(run);
    log_rig_init(&run->rig);
    run->rig.options.bytes_max = 4ull * LOG_RIG_SEGMENT;
    run->random.s = seed;
    return run;
}

static void run_free(struct run *run)
{
    log_shim_journal_deinit(&run->journal);
    log_rig_deinit(&run->rig);
    free(run);
}

static void copy_journal(struct log_shim_journal *to, const struct log_shim_journal *from, size_t n)
{
    to->events = calloc(n, sizeof(*to->events));
    assert_non_null(to->events);
    for (size_t i = 0; i < n; i++) {
        to->events[i] = from->events[i];
        if (from->events[i].data) {
            to->events[i].data = malloc(from->events[i].len);
            assert_non_null(to->events[i].data);
            memcpy(to->events[i].data, from->events[i].data, from->events[i].len);
        }
    }
    to->n = to->cap = n;
}

/* A run that begins on such a disk, and all its crashes. After a power cut the disk is what it is;
 * after a kill what no sync covered is still in the balance, so the journal goes on. */
static void run_second(struct enumeration *e, struct place p)
{
    static const struct known nothing;
    struct test_random random = {.s = p.at};
    struct run *run = run_new(100 + e->n_torn + e->n_killed);
    bool killed = p.cut == LOG_DISK_KILLED;
    struct enumeration *second;
    size_t first;

    run->start = e->known;
    run->upto_applied = e->known.upto[e->known.applied_seq];
    run->rig.log_id = e->known.log_id;
    run->rig.applied_seq = e->known.applied_seq;
    if (killed) {
        second = enumeration_new(run->rig.dir, &nothing);
        copy_journal(&run->journal, e->disk.journal, p.at + 1);
    }
    log_disk_save(&e->disk, run->rig.dir, p.cut, p.sector, &random);
    if (!killed)
        second = enumeration_new(run->rig.dir, &e->known);
    first = run->journal.n;
    log_shim_record(&run->journal, run->rig.dir);
    session(run, 2);
    session(run, 2);
    log_shim_record(NULL, NULL);
    enumerate(second, &run->journal, first);
    e->n_second++;
    e->n_second_images += second->n_images;
    enumeration_free(second);
    run_free(run);
}

static void nothing_acknowledged_is_lost_at_any_power_cut(void **state)
{
    static const struct known nothing;
    struct run *run = run_new(21);
    struct enumeration *e = enumeration_new(run->rig.dir, &nothing);

    log_shim_record(&run->journal, run->rig.dir);
    for (unsigned i = 0; i < 4; i++)
        session(run, test_is_quick() ? 4 : 12);
    log_shim_record(NULL, NULL);
    e->second_every = test_is_quick() ? 500 : 200;
    enumerate(e, &run->journal, 0);
    print_message("# %zu images of %zu events; %zu second runs with %zu images\n", e->n_images,
                  run->journal.n, e->n_second, e->n_second_images);
    assert_true(e->n_images > 300 && e->n_second >= 1);
    enumeration_free(e);
    run_free(run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_acknowledged_is_lost_at_any_power_cut),
    };

    /* A disk in memory: what matters is the order of calls, not where they end. */
    if (access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
