/* test_store_log_power: the power goes at every point between two system calls of the store with a
 * log.
 *
 * A workload of puts (also late ones), deletes, facts, wipes, loads and, with rising floors, purges
 * that go on beside all of it runs on a real store while
 * log_shim keeps a journal of all writes and syncs of the data file, and of the segments and the
 * clean mark beside it, with marks for what was submitted and what was reaped. Tables are so small
 * that they freeze all the time, passes have many slices, segments go round, and the store is
 * closed and opened again now and then. Then the files are rebuilt as of each entry of the journal
 * (log_disk.h): with nothing but what a sync covered, with all of it, and with a seeded choice of
 * sectors.
 *
 * What a key may then hold: all operations on it are in one order, of which a crash keeps a prefix
 * that includes everything acknowledged. So it must hold what some such prefix leaves: nothing
 * wiped comes back, nothing put or loaded after a wipe is lost. A tombstone at or below the floor
 * of a purge may be there or not, what it hid may not. Facts likewise. Counts and leaves
 * are compared with the records, and once more after what was replayed has gone to disk.
 *
 * The same with syncs left out, of the log or of the data file, must be found out.
 *
 *   test_store_log_power [STEPS [SEED]]
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/token.h"
#include "storage/zone.h"
#include "tests/model/fault_store.h"
#include "tests/model/log_disk.h"

#define N_KEYS 64u
#define STEPS 110u
#define STEPS_QUICK 60u
#define PASTS_MAX 4096u
#define LOAD_MAX 4u
#define OUTSTANDING_MAX 12u
#define SECOND_LIFE_EVERY 7u
#define CLOSE_EVERY 30u

enum mark_kind {
    MARK_SUBMITTED,
    MARK_ACKED,
    MARK_READY, /* the store has been made */
};

/* One operation, in the order of submission; its index is its cookie. */
struct op {
    bool wipe, purge;
    struct store_range range; /* wipe, purge */
    unsigned first_key, n_keys;
    uint64_t hlc;   /* not of those: version of all its keys; 0: a fact */
    uint64_t floor; /* of a put or a purge; 0: it has none */
};

struct world {
    struct log_shim_journal journal;
    struct op ops[PASTS_MAX];
    size_t n_ops;
    uint64_t hlc;
    uint64_t floor;    /* that puts have */
    uint64_t n_purged; /* of stores that were closed */
};

static unsigned steps;
static uint64_t first_seed = 5;

/* ---- the workload -------------------------------------------------------------------------- */

/* The keys of a zone, in the order of their tokens: FAULT_ZONES apart. */
static unsigned zone_keys(unsigned zone, unsigned out[N_KEYS / FAULT_ZONES])
{
    unsigned n = 0;

    for (unsigned i = zone; i < N_KEYS; i += FAULT_ZONES) {
        unsigned at = n++;

        for (; at > 0 && fault_token(out[at - 1]) > fault_token(i); at--)
            out[at] = out[at - 1];
        out[at] = i;
    }
    return n;
}

static bool is_delete(uint64_t hlc)
{
    return hlc % 4 == 0;
}

static uint64_t op_new(struct world *w, struct op op)
{
    assert_true(w->n_ops < PASTS_MAX);
    w->ops[w->n_ops] = op;
    log_shim_mark(MARK_SUBMITTED, w->n_ops);
    return w->n_ops++;
}

static void reap_some(struct fault_store *f, size_t *n_out)
{
    struct store_done dones[OUTSTANDING_MAX];
    size_t n = fault_store_reap(f, dones, OUTSTANDING_MAX);

    for (size_t i = 0; i < n; i++) {
        assert_int_equal(dones[i].error, 0);
        log_shim_mark(MARK_ACKED, dones[i].cookie);
    }
    *n_out -= n;
}

static void drain(struct fault_store *f, size_t *n_out)
{
    while (*n_out > 0)
        reap_some(f, n_out);
}

static void put_one(struct world *w, struct fault_store *f, struct test_random *random)
{
    unsigned i = (unsigned)test_random_below(random, N_KEYS);
    uint8_t bytes[FAULT_VALUE_MAX];
    char name[16];
    struct store_op op;
    uint64_t hlc = ++w->hlc;

    if (test_random_below(random, 4) == 0) /* late */
        hlc -= test_random_below(random, hlc < 30 ? hlc : 30);
    op = fault_put(i, hlc, name, bytes);
    if (is_delete(hlc)) {
        op.state.deleted = true;
        op.state.value = (struct slice){0};
    }
    op.floor = &w->floor;
    op.cookie = op_new(w, (struct op){.first_key = i, .n_keys = 1, .hlc = hlc, .floor = w->floor});
    assert_int_equal(fault_store_submit(f, fault_queue(op.token), &op, 1), 0);
}

/* A fact or the clock, of the value of its own index. */
static void set_fact(struct world *w, struct fault_store *f, struct test_random *random)
{
    uint64_t cookie = op_new(w, (struct op){.n_keys = 0});
    struct store_op op = {.type = STORE_OP_META,
                          .cookie = cookie,
                          .name = slice_str("fact"),
                          .value = slice_of((const uint8_t *)&cookie, sizeof(cookie))};

    if (test_random_below(random, 2))
        op = (struct store_op){.type = STORE_OP_CLOCK, .cookie = cookie, .clock = cookie};
    assert_int_equal(fault_store_submit(f, f->n_queues - 1, &op, 1), 0);
}

static void wipe_some(struct world *w, struct fault_store *f, struct test_random *random,
                      size_t *n_out)
{
    uint64_t token = fault_token((unsigned)test_random_below(random, N_KEYS));
    struct store_range range = zone_range(zone_of(token));
    uint64_t cookie;
    int r;

    if (test_random_below(random, 3) == 0)
        range.last = token;
    cookie = op_new(w, (struct op){.wipe = true, .range = range});
    while ((r = f->s->ops->wipe(f->s, fault_queue(token), cookie, range)) == -ERR_FULL) {
        struct store_done done;

        /* Nothing may be outstanding that it waits for but what a reap brings. */
        if (*n_out > 0)
            reap_some(f, n_out);
        else
            assert_int_equal(fault_store_reap(f, &done, 1), 0);
    }
    assert_int_equal(r, 0);
    ++*n_out;
}

/* Of a zone or of all; not waited for, unless the queue has one that is under way. */
static void purge_some(struct world *w, struct fault_store *f, struct test_random *random,
                       size_t *n_out)
{
    uint64_t token = fault_token((unsigned)test_random_below(random, N_KEYS));
    struct store_range range = zone_range(zone_of(token));
    uint64_t cookie, floor = w->hlc - test_random_below(random, w->hlc < 8 ? w->hlc + 1 : 8);
    int r;

    if (test_random_below(random, 3) == 0)
        range = (struct store_range){0, UINT64_MAX};
    w->floor = floor > w->floor ? floor : w->floor;
    cookie = op_new(w, (struct op){.purge = true, .range = range, .floor = w->floor});
    while ((r = f->s->ops->purge(f->s, fault_queue(token), cookie, range, w->floor)) == -ERR_FULL)
        reap_some(f, n_out);
    assert_int_equal(r, 0);
    ++*n_out;
}

/* Its keys' order against puts is that of acknowledgements, so nothing else is on its way. */
static void load_some(struct world *w, struct fault_store *f, struct test_random *random,
                      size_t *n_out)
{
    static uint8_t bytes[LOAD_MAX][FAULT_VALUE_MAX];
    static char names[LOAD_MAX][16];
    struct store_item items[LOAD_MAX];
    unsigned keys[N_KEYS / FAULT_ZONES], zone = (unsigned)test_random_below(random, FAULT_ZONES);
    unsigned n = zone_keys(zone, keys);
    uint64_t hlc = ++w->hlc, cookie;

    if (test_random_below(random, 3) == 0)
        hlc -= test_random_below(random, hlc < 30 ? hlc : 30);
    hlc = hlc > w->floor ? hlc : w->floor + 1; /* a load has no floor */
    hlc += test_random_below(random, 2) ? is_delete(hlc) : 0;
    w->hlc = hlc > w->hlc ? hlc : w->hlc;
    drain(f, n_out);
    for (unsigned k = 0; k < n; k++) {
        struct store_op op = fault_put(keys[k], hlc, names[k], bytes[k]);

        if (is_delete(hlc)) {
            op.state.deleted = true;
            op.state.value = (struct slice){0};
        }
        items[k] = (struct store_item){.token = op.token, .key = op.key, .state = op.state};
    }
    cookie = op_new(w, (struct op){.first_key = zone, .n_keys = n, .hlc = hlc});
    assert_int_equal(f->s->ops->load(f->s, fault_queue(items[0].token), cookie, items, n), 0);
    ++*n_out;
    drain(f, n_out);
}

static void open_store(struct fault_store *f, const char *dir, struct test_random *random)
{
    static const uint32_t workers[] = {0, 1, 3};
    char why[STORE_WHY_BYTES];

    fault_engine.n_workers = workers[test_random_below(random, ARRAY_LEN(workers))];
    fault_engine.n_owners = fault_engine.n_workers == 3 && test_random_below(random, 2) ? 1 : 0;
    if (fault_store_open(f, dir, FAULT_MAP_BYTES, false, why) != 0)
        fail_msg("%s", why);
}

static void run_step(struct world *w, struct fault_store *f, struct test_random *random,
                     size_t *n_out)
{
    uint64_t dice = test_random_below(random, 100);

    if (dice < 4) {
        wipe_some(w, f, random, n_out);
    } else if (dice < 8) {
        load_some(w, f, random, n_out);
    } else if (dice < 14) {
        purge_some(w, f, random, n_out);
    } else {
        if (dice < 20)
            set_fact(w, f, random);
        else
            put_one(w, f, random);
        ++*n_out;
    }
    while (*n_out >= OUTSTANDING_MAX)
        reap_some(f, n_out);
}

static void close_store(struct world *w, struct fault_store *f, size_t *n_out)
{
    struct store_stats stats;

    drain(f, n_out);
    assert_int_equal(f->s->ops->stats(f->s, 0, &stats), 0);
    w->n_purged += stats.n_purged;
    fault_store_close(f);
}

static void run_workload(struct world *w, unsigned n_steps, bool lose_log, bool lose_data)
{
    struct test_random random = {.s = first_seed};
    struct fault_store f;
    char dir[64];
    size_t n_out = 0;

    rig_dir_make(dir);
    log_shim_record(&w->journal, dir);
    open_store(&f, dir, &random);
    log_shim_mark(MARK_READY, 0);
    log_shim_lose_syncs(lose_log, lose_data);
    for (unsigned i = 0; i < n_steps; i++) {
        run_step(w, &f, &random, &n_out);
        if (test_random_below(&random, CLOSE_EVERY) == 0) {
            close_store(w, &f, &n_out);
            open_store(&f, dir, &random);
        }
    }
    close_store(w, &f, &n_out);
    log_shim_record(NULL, NULL);
    rig_dir_remove(dir);
}

/* ---- what may be there --------------------------------------------------------------------- */

struct known {
    size_t n_submitted;
    bool *acked; /* [n_ops] */
    bool ready;
};

static bool touches(const struct op *op, unsigned key)
{
    uint64_t token = fault_token(key);

    if (op->wipe || op->purge)
        return token >= op->range.first && token <= op->range.last;
    return op->n_keys && key % FAULT_ZONES == op->first_key % FAULT_ZONES &&
           (op->n_keys > 1 || key == op->first_key);
}

/* The highest floor below which a tombstone of the key may be gone. */
static uint64_t purged_below(const struct world *w, const struct known *known, unsigned key)
{
    uint64_t floor = 0;

    for (size_t i = 0; i < known->n_submitted; i++)
        if (w->ops[i].purge && touches(&w->ops[i], key) && w->ops[i].floor > floor)
            floor = w->ops[i].floor;
    return floor;
}

/* Whether the key may hold this version (0: nothing). */
static bool is_allowed(const struct world *w, const struct known *known, unsigned key, uint64_t hlc)
{
    uint64_t now = 0, purged = purged_below(w, known, key);
    bool allowed = hlc == 0, same;

    for (size_t i = 0; i < known->n_submitted; i++) {
        const struct op *op = &w->ops[i];

        if (op->purge || !touches(op, key))
            continue;
        if (op->wipe)
            now = 0;
        else if (op->hlc > now && op->hlc > op->floor)
            now = op->hlc;
        same = now == hlc || (hlc == 0 && is_delete(now) && now <= purged);
        if (known->acked[i])
            allowed = same; /* from here on */
        else
            allowed = allowed || same;
    }
    return allowed;
}

__attribute__((format(printf, 3, 4), noreturn)) static void lost(const char *how, size_t at,
                                                                 const char *format, ...)
{
    va_list args;

    fprintf(stderr, "# power cut after event %zu (%s): ", at, how);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, "\n");
    _exit(FAULT_EXIT_LOST);
}

/* All that was to be done to a key, for whoever looks at a failure. */
static void print_past(const struct world *w, const struct known *known, unsigned key)
{
    for (size_t i = 0; i < known->n_submitted; i++) {
        const struct op *op = &w->ops[i];

        if (touches(op, key))
            fprintf(stderr, "#   %zu: %s %llu, floor %llu%s\n", i,
                    op->wipe         ? "wipe"
                    : op->purge      ? "purge"
                    : op->n_keys > 1 ? "load"
                                     : "put",
                    (unsigned long long)op->hlc, (unsigned long long)op->floor,
                    known->acked[i] ? ", acknowledged" : "");
    }
}

struct image {
    const struct world *w;
    const struct known *known;
    const char *how;
    size_t at;
};

static void check_keys(const struct image *im, struct store *s)
{
    uint8_t bytes[FAULT_VALUE_MAX];
    char name[16];

    for (unsigned i = 0; i < N_KEYS; i++) {
        struct store_op op = fault_put(i, 1, name, bytes);
        struct state state;
        uint64_t lsn, hlc;
        int r = s->ops->get(s, fault_queue(op.token), op.token, &op.key, &state, &lsn);

        hlc = r == 0 && state.kind != STATE_NONE ? state.version.hlc : 0;
        if (r < 0 || !is_allowed(im->w, im->known, i, hlc)) {
            print_past(im->w, im->known, i);
            lost(im->how, im->at, "%s holds version %llu (error %d)", name, (unsigned long long)hlc,
                 r);
        }
        if (hlc && (state.deleted != is_delete(hlc) ||
                    (!state.deleted && !slice_equal(state.value, fault_value(i, hlc, bytes)))))
            lost(im->how, im->at, "%s: a value that was never written", name);
    }
    for (uint32_t q = 0; q <= fault_engine.n_workers; q++)
        s->ops->read_end(s, q);
}

/* Facts carry the index of their operation. */
static void check_facts(const struct image *im, struct store *s)
{
    struct buf b;
    uint64_t clock = s->ops->clock_bound(s), fact = 0, least = 0;
    int r;

    buf_init(&b);
    r = s->ops->meta_get(s, 0, slice_str("fact"), &b);
    if (r < 0 || (r == 0 && b.len != sizeof(fact)))
        lost(im->how, im->at, "the fact cannot be read (%d)", r);
    if (r == 0)
        memcpy(&fact, b.data, sizeof(fact));
    buf_deinit(&b);
    s->ops->read_end(s, 0);
    for (size_t i = 0; i < im->known->n_submitted; i++)
        if (im->known->acked[i] && !im->w->ops[i].wipe && !im->w->ops[i].purge &&
            im->w->ops[i].n_keys == 0)
            least = i;
    /* One of the two carries it. */
    if (least > (fact > clock ? fact : clock) || fact > im->known->n_submitted ||
        clock > im->known->n_submitted)
        lost(im->how, im->at, "fact %llu, clock %llu, acknowledged %llu", (unsigned long long)fact,
             (unsigned long long)clock, (unsigned long long)least);
}

static void check_store(const struct image *im, struct store *s)
{
    char what[128];

    check_keys(im, s);
    check_facts(im, s);
    if (fault_check_sums(s, what) != 0)
        lost(im->how, im->at, "%s", what);
}

static void open_image(const struct image *im, struct fault_store *f, const char *dir)
{
    char why[STORE_WHY_BYTES];

    if (fault_store_open(f, dir, FAULT_MAP_BYTES, false, why) != 0)
        lost(im->how, im->at, "%s", why);
}

static void check_image(const struct image *im, const char *dir, struct test_random *random)
{
    static const uint32_t workers[] = {0, 1, 3};
    struct fault_store f;

    fault_engine.n_workers = workers[test_random_below(random, ARRAY_LEN(workers))];
    fault_engine.n_owners = 0;
    open_image(im, &f, dir);
    check_store(im, f.s);
    fault_store_close(&f);
    if (test_random_below(random, SECOND_LIFE_EVERY) != 0)
        return;
    open_image(im, &f, dir);
    check_store(im, f.s);
    fault_store_close(&f);
}

/* STORE as it was then: see storage/store_dir.c. */
static void save_store_file(const char *dir, bool ready)
{
    char path[128];
    FILE *file;

    snprintf(path, sizeof(path), "%s/STORE", dir);
    file = fopen(path, "w");
    assert_non_null(file);
    fputs(ready ? "quoit store 2\n" : "creating\n", file);
    fclose(file);
}

static void know(struct known *known, const struct log_shim_event *e)
{
    if (e->kind != LOG_SHIM_MARK)
        return;
    if (e->offset == MARK_READY)
        known->ready = true;
    else if (e->offset == MARK_SUBMITTED)
        known->n_submitted = e->number + 1;
    else
        known->acked[e->number] = true;
}

/* Ends the process; the directory is the caller's, whatever the end. */
static void check_all(const struct world *w, const char *dir)
{
    static const enum log_disk_cut cuts[] = {LOG_DISK_STRICT, LOG_DISK_RANDOM, LOG_DISK_KILLED};
    static const char *const names[] = {"strict", "torn", "killed"};
    struct log_disk disk = {.journal = &w->journal};
    struct known known = {.acked = calloc(w->n_ops + 1, sizeof(bool))};
    struct test_random random = {.s = first_seed + 1};
    size_t n_images = 0;

    fault_guarded = true;
    for (size_t at = 0; at < w->journal.n; at++) {
        const struct log_shim_event *e = &w->journal.events[at];
        /* A mark changes what must be there, not what is. */
        bool twice = e->kind != LOG_SHIM_MARK;

        log_disk_event(&disk, at);
        know(&known, e);
        if (!known.ready)
            continue; /* what comes before is test_store_log's */
        for (size_t c = 0; c < (twice ? 2 : 1); c++) {
            size_t cut = c == 0 ? 0 : 1 + test_random_below(&random, 2);
            struct image im = {.w = w, .known = &known, .how = names[cut], .at = at};

            log_disk_save(&disk, dir, cuts[cut], 0, &random);
            save_store_file(dir, known.ready);
            check_image(&im, dir, &random);
            n_images++;
        }
    }
    fprintf(stderr, "# %zu operations, %llu tombstones purged, %zu events, %zu images\n", w->n_ops,
            (unsigned long long)w->n_purged, w->journal.n, n_images);
    _exit(n_images > STEPS_QUICK ? 0 : FAULT_EXIT_UNEXPECTED);
}

/* ---- runs ---------------------------------------------------------------------------------- */

static int run(unsigned n_steps, bool lose_log, bool lose_data, uint64_t *ret_purged)
{
    struct world *w = calloc(1, sizeof(*w));
    char dir[64];
    int status;
    pid_t child;

    assert_non_null(w);
    run_workload(w, n_steps, lose_log, lose_data);
    log_shim_lose_syncs(false, false);
    rig_dir_make_in_memory(dir);
    fflush(NULL);
    child = fork();
    if (child == 0)
        check_all(w, dir);
    assert_true(waitpid(child, &status, 0) == child);
    rig_dir_remove(dir);
    log_shim_journal_deinit(&w->journal);
    *ret_purged = w->n_purged;
    free(w);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void nothing_acknowledged_is_lost_at_any_power_cut(void **state)
{
    uint64_t n_purged;

    assert_int_equal(run(steps, false, false, &n_purged), 0);
    assert_true(n_purged > 0 || steps <= STEPS_QUICK); /* which may be over before one is */
}

static void a_log_that_does_not_sync_is_found_out(void **state)
{
    uint64_t n_purged;

    assert_int_equal(run(STEPS_QUICK, true, false, &n_purged), FAULT_EXIT_LOST);
}

static void a_data_file_that_is_not_synced_is_found_out(void **state)
{
    uint64_t n_purged;
    int status = run(STEPS_QUICK, false, true, &n_purged);

    assert_true(status == FAULT_EXIT_LOST || status == FAULT_EXIT_SENTENCE);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_acknowledged_is_lost_at_any_power_cut),
        cmocka_unit_test(a_log_that_does_not_sync_is_found_out),
        cmocka_unit_test(a_data_file_that_is_not_synced_is_found_out),
    };

    fault_engine = (struct fault_engine){.log = true,
                                         .log_beside = true,
                                         .few_zones = true,
                                         .tables_bytes = 48u << 10,
                                         .segment_bytes = 64u << 10,
                                         .log_bytes_max = 256u << 10,
                                         .slice_records = 3};
    steps = test_is_quick() ? STEPS_QUICK : STEPS;
    if (argc > 1)
        steps = (unsigned)strtoul(argv[1], NULL, 10);
    if (argc > 2)
        first_seed = strtoull(argv[2], NULL, 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
