/* test_store_power: the power goes at every point between two system calls.
 *
 * A workload runs on a real store while disk_shim keeps a journal of all writes and syncs of the
 * data file, with a mark for each outcome that was reaped. Then the file is rebuilt as of each
 * entry of the journal, in two ways:
 *
 *   strict   what a sync covered, and nothing else
 *   torn     that, and any 4 KiB blocks (by a seeded choice) of what was written since
 *
 * Each time the store is opened on it and asked for every key acknowledged up to there: the version
 * must be that one or newer, and the value the one that belongs to the version found.
 *
 * Built with POWER_WITHOUT_SYNC, against a store that is told not to sync, the same check must
 * fail: otherwise it could not see a lost sync at all.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/model/disk_shim.h"
#include "tests/model/fault_store.h"

#define N_KEYS 60u
#define N_ROUNDS 90u
#define N_ROUNDS_QUICK 20u
#define BATCH_MAX 8u
#define BLOCK_BYTES 4096u
#define MAP_BYTES (16u << 20)

#ifdef POWER_WITHOUT_SYNC
#define NO_SYNC true
#else
#define NO_SYNC false
#endif

/* ---- the workload ------------------------------------------------------------------------- */

/* The store has been opened, so from here on its data file must be there. Other marks are those of
 * fault_store.h: key i is acknowledged at version hlc. */
#define MARK_READY UINT64_MAX

static void run_round(struct rig *rig, struct test_random *random, uint64_t *hlc)
{
    static uint8_t values[BATCH_MAX][FAULT_VALUE_MAX];
    static char names[BATCH_MAX][16];
    struct store_op ops[BATCH_MAX];
    struct store_done dones[BATCH_MAX];
    size_t n = 1 + test_random_below(random, BATCH_MAX);
    uint64_t lsn;

    for (size_t b = 0; b < n; b++)
        ops[b] =
            fault_put((unsigned)test_random_below(random, N_KEYS), ++*hlc, names[b], values[b]);
    assert_int_equal(rig->s->ops->submit(rig->s, 0, ops, n, &lsn), 0);
    for (size_t got = 0; got < n; got++) {
        rig_reap(rig, 0, dones, 1);
        assert_int_equal(dones[0].error, 0);
        shim_mark(dones[0].cookie);
    }
}

static void run_workload(struct shim_journal *journal)
{
    struct test_random random = {.s = 5};
    struct rig rig;
    uint64_t hlc = 0;

    shim_watch("/data.mdb");
    shim_record(journal);
    rig_no_sync = NO_SYNC;
    rig_open(&rig, RIG_LMDB, MAP_BYTES);
    shim_mark(MARK_READY);
    for (unsigned i = 0; i < (test_is_quick() ? N_ROUNDS_QUICK : N_ROUNDS); i++)
        run_round(&rig, &random, &hlc);
    shim_record(NULL);
    rig_close(&rig);
}

/* ---- the disk as a power cut leaves it ---------------------------------------------------- */

struct disk {
    uint8_t *bytes;
    size_t len, cap;
    size_t *waiting; /* events not covered by a sync */
    size_t n_waiting;
    bool ready;
    uint64_t acked[N_KEYS];
};

static void disk_resize(struct disk *d, size_t len)
{
    if (len > d->cap) {
        d->cap = 2 * len;
        d->bytes = realloc(d->bytes, d->cap);
        assert_non_null(d->bytes);
    }
    if (len > d->len)
        memset(d->bytes + d->len, 0, len - d->len);
    d->len = len;
}

static void disk_write(struct disk *d, const uint8_t *data, uint64_t offset, size_t len)
{
    if (offset + len > d->len)
        disk_resize(d, offset + len);
    memcpy(d->bytes + offset, data, len);
}

static void disk_apply(struct disk *d, const struct shim_event *e)
{
    if (e->kind == SHIM_TRUNCATE)
        disk_resize(d, e->offset);
    else
        disk_write(d, e->data, e->offset, e->len);
}

static void disk_event(struct disk *d, const struct shim_journal *j, size_t at)
{
    const struct shim_event *e = &j->events[at];

    switch (e->kind) {
    case SHIM_WRITE:
    case SHIM_TRUNCATE:
        d->waiting[d->n_waiting++] = at;
        break;
    case SHIM_WRITE_SYNC:
        disk_apply(d, e);
        break;
    case SHIM_SYNC:
        for (size_t i = 0; i < d->n_waiting; i++)
            disk_apply(d, &j->events[d->waiting[i]]);
        d->n_waiting = 0;
        break;
    case SHIM_MARK:
        if (e->offset == MARK_READY)
            d->ready = true;
        else
            d->acked[e->offset >> 32] = e->offset & UINT32_MAX;
        break;
    case SHIM_NONE:
        break;
    }
}

/* Some blocks of what is waiting reach the disk after all. */
static void disk_tear(struct disk *d, const struct shim_journal *j, struct test_random *random)
{
    for (size_t i = 0; i < d->n_waiting; i++) {
        const struct shim_event *e = &j->events[d->waiting[i]];

        if (e->kind == SHIM_TRUNCATE)
            continue;
        for (size_t at = 0; at < e->len; at += BLOCK_BYTES) {
            size_t len = e->len - at < BLOCK_BYTES ? e->len - at : BLOCK_BYTES;

            if (test_random_below(random, 2))
                disk_write(d, e->data + at, e->offset + at, len);
        }
    }
}

static void save_file(const char *dir, const char *name, struct slice bytes)
{
    char path[128];
    int fd;

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    for (size_t at = 0; at < bytes.len;) {
        ssize_t n = write(fd, bytes.data + at, bytes.len - at);

        assert_true(n > 0);
        at += (size_t)n;
    }
    close(fd);
}

/* STORE as it was then: see storage/store_dir.c. */
static void disk_save(const struct disk *d, const char *dir)
{
    save_file(dir, "data.mdb", slice_of(d->bytes, d->len));
    save_file(dir, "STORE", slice_str(d->ready ? "quoit store 1\n" : "creating\n"));
}

/* ---- asking the store --------------------------------------------------------------------- */

static void lost(const char *how, size_t at, const char *what)
{
    fprintf(stderr, "# power cut after event %zu (%s): %s\n", at, how, what);
    _exit(FAULT_EXIT_LOST);
}

static void check_disk(const struct disk *d, const char *dir, const char *how, size_t at)
{
    char why[STORE_WHY_BYTES], what[128];
    struct fault_store f;

    disk_save(d, dir);
    if (fault_store_open(&f, dir, MAP_BYTES, false, why) != 0)
        lost(how, at, why);
    for (unsigned i = 0; i < N_KEYS; i++) {
        if (fault_check(f.s, i, d->acked[i], what) != 0)
            lost(how, at, what);
    }
    f.s->ops->read_end(f.s, 0);
    fault_store_close(&f);
}

/* In a process of its own, since a lost sync may end in a fault. Exit status as above; 1 is the
 * sentence of a damaged file. The directory is the caller's, whatever the end. */
static void check_all(const struct shim_journal *j, const char *dir)
{
    struct disk d = {.waiting = calloc(j->n, sizeof(size_t))};
    struct test_random random = {.s = 6};
    size_t n_images = 0;

    shim_watch(NULL);
    fault_guarded = true;
    rig_no_sync = false;
    for (size_t at = 0; at < j->n; at++) {
        struct disk torn;

        disk_event(&d, j, at);
        check_disk(&d, dir, "strict", at);
        torn = d;
        torn.cap = d.len + 1;
        torn.bytes = malloc(torn.cap);
        assert_non_null(torn.bytes);
        if (d.len)
            memcpy(torn.bytes, d.bytes, d.len);
        disk_tear(&torn, j, &random);
        check_disk(&torn, dir, "torn", at);
        free(torn.bytes);
        n_images += 2;
    }
    fprintf(stderr, "# %zu images, all that was acknowledged found\n", n_images);
    _exit(n_images > 2 * N_ROUNDS_QUICK ? 0 : FAULT_EXIT_UNEXPECTED);
}

static int run(void)
{
    struct shim_journal journal = {0};
    char dir[64];
    int status;
    pid_t child;

    run_workload(&journal);
    rig_dir_make_in_memory(dir);
    child = fork();
    if (child == 0)
        check_all(&journal, dir);
    assert_true(waitpid(child, &status, 0) == child);
    rig_dir_remove(dir);
    shim_journal_deinit(&journal);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

#ifdef POWER_WITHOUT_SYNC
static void a_store_that_does_not_sync_is_found_out(void **state)
{
    int status = run();

    assert_true(status == FAULT_EXIT_LOST || status == FAULT_EXIT_SENTENCE);
}
#else
static void nothing_acknowledged_is_lost_at_any_power_cut(void **state)
{
    assert_int_equal(run(), 0);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
#ifdef POWER_WITHOUT_SYNC
        cmocka_unit_test(a_store_that_does_not_sync_is_found_out),
#else
        cmocka_unit_test(nothing_acknowledged_is_lost_at_any_power_cut),
#endif
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
