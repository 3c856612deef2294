/* test_store_log_io: each write and each sync of the log, and of the data file behind it, fails
 * once, in turn, for every k.
 *
 *   log: group or its sync, EIO or short and then not going on   SUSPECT, exit 1
 *   log: a segment in the making, EIO                            the same; ENOSPC: the store lives
 *   data file: as with the plain store (test_store_io), but that a full disk refuses nothing that
 *   the log has taken
 *
 * After each: nothing is acknowledged behind the failure, a SUSPECT store is refused with a
 * sentence, accepted when told so, and everything that was acknowledged is found, counts and leaves
 * included. The load is such that tables freeze, passes have several slices and segments go round.
 *
 *   test_store_log_io [STEP]      every STEP-th call; 1: all of them
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "storage/suspect.h"
#include "tests/model/fault_store.h"
#include "tests/model/log_shim.h"

#define N_KEYS 40u
#define N_ROUNDS 2u
#define CALLS_MAX 400u
#define WAIT_S 30
/* How a run without the failure in reach ends. */
#define EXIT_NOT_REACHED 20
#define EXIT_REACHED 21

static unsigned step; /* 0: each its own */

struct plan {
    const char *name;
    enum log_shim_kind kind;
    int error_number; /* 0: a short write, which the writer goes on with */
    bool lives;
    unsigned k, step; /* which call fails; every step-th is tried */
    char dir[64];
};

/* Puts may be refused for a while, until the store has found room again; deletes may not. */
static int do_with_patience(struct fault_store *f, const struct store_op *op, bool lives)
{
    time_t until = time(NULL) + WAIT_S;
    int r;

    while ((r = fault_store_do(f, op)) == -ERR_NO_SPACE && lives && !op->state.deleted)
        if (time(NULL) > until)
            return r;
    while (r == -ERR_IO)
        pause(); /* the thread that failed ends the process */
    return r;
}

static void put_all(struct fault_store *f, bool lives, int fd)
{
    uint8_t bytes[FAULT_VALUE_MAX];
    char name[16];

    for (unsigned n = 0; n < N_ROUNDS * N_KEYS; n++) {
        struct store_op op = fault_put(n % N_KEYS, 1 + n, name, bytes);
        int r;

        if (n % 8 == 3) {
            op.state.deleted = true;
            op.state.value = (struct slice){0};
        }
        r = do_with_patience(f, &op, lives);
        if (r == 0)
            fault_report(fd, op.cookie);
        else
            _exit(FAULT_EXIT_UNEXPECTED);
    }
}

static void run_plan(const void *arg, int fd)
{
    const struct plan *p = arg;
    struct fault_store f;
    char why[STORE_WHY_BYTES];
    int r;

    log_shim_fail(p->kind, p->k, p->error_number, false);
    r = fault_store_open(&f, p->dir, FAULT_MAP_BYTES, false, why);
    if (r != 0)
        _exit(r == -ERR_IO ? FAULT_EXIT_OPEN_IO : FAULT_EXIT_OPEN);
    put_all(&f, p->lives, fd);
    fault_store_close(&f);
    _exit(log_shim_has_failed() ? EXIT_REACHED : EXIT_NOT_REACHED);
}

static void assert_refused_as_suspect(const char *dir)
{
    struct fault_store f;
    char why[STORE_WHY_BYTES];

    assert_int_equal(fault_store_open(&f, dir, FAULT_MAP_BYTES, false, why), -ERR_SUSPECT);
    assert_non_null(strstr(why, SUSPECT_NAME));
    assert_non_null(strstr(why, dir));
}

/* Opens for good and looks for what was acknowledged. */
static void assert_acked_found(const struct plan *p, const struct fault_acks *acks, bool suspect)
{
    struct fault_store f;
    char why[STORE_WHY_BYTES], what[128];

    if (fault_store_open(&f, p->dir, FAULT_MAP_BYTES, suspect, why) != 0)
        fail_msg("%s, call %u: %s", p->name, p->k, why);
    assert_false(suspect_is_marked(p->dir, why, sizeof(why)));
    for (unsigned i = 0; i < N_KEYS; i++) {
        if (fault_check(f.s, i, acks->hlc[i], what) != 0)
            fail_msg("%s, call %u: %s", p->name, p->k, what);
    }
    f.s->ops->read_end(f.s, 0);
    if (fault_check_sums(f.s, what) != 0)
        fail_msg("%s, call %u: %s", p->name, p->k, what);
    fault_store_close(&f);
}

static void check_status(const struct plan *p, int status, size_t n_acked, bool suspect)
{
    switch (status) {
    case FAULT_EXIT_SENTENCE:
        if (p->lives || !suspect)
            fail_msg("%s, call %u: suspect %d", p->name, p->k, suspect);
        assert_refused_as_suspect(p->dir);
        break;
    case FAULT_EXIT_OPEN_IO:
    case FAULT_EXIT_OPEN:
        /* While the store is being made: nothing was acknowledged, it is begun again. */
        assert_int_equal(n_acked, 0);
        break;
    case EXIT_REACHED:
        if (!p->lives)
            fail_msg("%s, call %u: went on", p->name, p->k);
        __attribute__((fallthrough));
    case EXIT_NOT_REACHED:
        assert_false(suspect);
        assert_int_equal(n_acked, N_ROUNDS * N_KEYS);
        break;
    default:
        fail_msg("%s, call %u: exit status %d", p->name, p->k, status);
    }
}

/* One run; false if call k does not come any more. */
static bool run_once(struct plan *p)
{
    uint64_t hlc[N_KEYS] = {0};
    struct fault_acks acks = {.hlc = hlc, .n_keys = N_KEYS};
    struct fault_child child;
    char why[256];
    int status;
    bool suspect;

    rig_dir_make(p->dir);
    child = fault_child_start(run_plan, p);
    status = fault_child_end(&child, &acks);
    if (!WIFEXITED(status))
        fail_msg("%s, call %u: killed by signal %d", p->name, p->k, WTERMSIG(status));
    status = WEXITSTATUS(status);
    suspect = suspect_is_marked(p->dir, why, sizeof(why));
    check_status(p, status, acks.n, suspect);
    assert_acked_found(p, &acks, suspect);
    rig_dir_remove(p->dir);
    return status != EXIT_NOT_REACHED;
}

/* Every call while the store is being made, then every step-th. */
static void run_for_every_k(struct plan p)
{
    unsigned n_failed = 0;

    if (step || test_is_quick())
        p.step = step ? step : 17;
    for (p.k = 1; p.k <= CALLS_MAX; p.k += p.k < 6 ? 1 : p.step) {
        if (!run_once(&p))
            break;
        n_failed++;
    }
    print_message("# %s: %u calls of %u failed in turn\n", p.name, n_failed, p.k - 1);
    assert_true(n_failed > 3 && p.k < CALLS_MAX);
}

static void a_group_that_cannot_be_written_is_fatal(void **state)
{
    run_for_every_k((struct plan){
        .name = "group, EIO", .kind = LOG_SHIM_GROUP, .error_number = EIO, .step = 13});
}

static void a_full_disk_under_a_group_is_fatal(void **state)
{
    run_for_every_k((struct plan){
        .name = "group, ENOSPC", .kind = LOG_SHIM_GROUP, .error_number = ENOSPC, .step = 17});
}

static void a_group_written_in_two_parts_is_whole(void **state)
{
    run_for_every_k(
        (struct plan){.name = "group, short", .kind = LOG_SHIM_GROUP, .lives = true, .step = 17});
}

static void a_failed_sync_of_the_log_is_fatal(void **state)
{
    run_for_every_k((struct plan){
        .name = "log sync, EIO", .kind = LOG_SHIM_SYNC, .error_number = EIO, .step = 13});
}

static void a_segment_that_cannot_be_made_is_fatal(void **state)
{
    run_for_every_k((struct plan){
        .name = "new segment, EIO", .kind = LOG_SHIM_ZERO, .error_number = EIO, .step = 1});
    run_for_every_k((struct plan){.name = "sync of a new segment, EIO",
                                  .kind = LOG_SHIM_SYNC_NEW,
                                  .error_number = EIO,
                                  .step = 1});
}

static void a_full_disk_under_a_new_segment_is_not(void **state)
{
    run_for_every_k((struct plan){.name = "new segment, ENOSPC",
                                  .kind = LOG_SHIM_ZERO,
                                  .error_number = ENOSPC,
                                  .lives = true,
                                  .step = 1});
}

static void a_failed_data_write_is_fatal(void **state)
{
    run_for_every_k((struct plan){
        .name = "data write, EIO", .kind = LOG_SHIM_DATA, .error_number = EIO, .step = 11});
}

static void a_short_data_write_on_a_disk_with_room_is_fatal(void **state)
{
    run_for_every_k((struct plan){.name = "data write, short", .kind = LOG_SHIM_DATA, .step = 13});
}

static void a_full_disk_at_a_data_write_is_not(void **state)
{
    run_for_every_k((struct plan){.name = "data write, ENOSPC",
                                  .kind = LOG_SHIM_DATA,
                                  .error_number = ENOSPC,
                                  .lives = true,
                                  .step = 11});
}

static void a_failed_sync_of_the_data_is_fatal(void **state)
{
    run_for_every_k((struct plan){
        .name = "data sync, EIO", .kind = LOG_SHIM_DATA_SYNC, .error_number = EIO, .step = 3});
}

static void a_failed_meta_write_is_fatal(void **state)
{
    run_for_every_k((struct plan){
        .name = "meta write, EIO", .kind = LOG_SHIM_META, .error_number = EIO, .step = 3});
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_group_that_cannot_be_written_is_fatal),
        cmocka_unit_test(a_full_disk_under_a_group_is_fatal),
        cmocka_unit_test(a_group_written_in_two_parts_is_whole),
        cmocka_unit_test(a_failed_sync_of_the_log_is_fatal),
        cmocka_unit_test(a_segment_that_cannot_be_made_is_fatal),
        cmocka_unit_test(a_full_disk_under_a_new_segment_is_not),
        cmocka_unit_test(a_failed_data_write_is_fatal),
        cmocka_unit_test(a_short_data_write_on_a_disk_with_room_is_fatal),
        cmocka_unit_test(a_full_disk_at_a_data_write_is_not),
        cmocka_unit_test(a_failed_sync_of_the_data_is_fatal),
        cmocka_unit_test(a_failed_meta_write_is_fatal),
    };

    if (argc > 1)
        step = (unsigned)strtoul(argv[1], NULL, 10);
    fault_engine = (struct fault_engine){.log = true,
                                         .few_zones = true,
                                         .tables_bytes = 64u << 10,
                                         .segment_bytes = 64u << 10,
                                         .log_bytes_max = 256u << 10,
                                         .slice_records = 6};
    /* Syncs fail here because we say so. */
    if (access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
