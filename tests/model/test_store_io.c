/* test_store_io: each write and each sync of the data file fails once, in turn, for every k.
 *
 *   sync, EIO                      SUSPECT, exit 1; the same while the store is being opened
 *   data write, EIO or short       the same: the disk is not full, so it is failing
 *   meta write (O_DSYNC), any      the same
 *   data write, ENOSPC             the store lives: one put is answered NO_SPACE, the rest goes on
 *
 * After each: nothing is acknowledged behind the failure, a SUSPECT store is refused with a
 * sentence, accepted when told so, and everything that was acknowledged is found.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "storage/suspect.h"
#include "tests/model/disk_shim.h"
#include "tests/model/fault_store.h"

#define N_KEYS 12u
#define CALLS_MAX 200u

struct plan {
    const char *name;
    enum shim_kind kind;
    int error_number;
    bool short_write;
    bool lives; /* expected of failures after the store has been opened */
    unsigned k; /* which call fails */
    char dir[64];
};

/* How a run without the failure in reach ends. */
#define EXIT_NOT_REACHED 20

static void put_all(struct fault_store *f, bool lives, int fd)
{
    uint8_t bytes[FAULT_VALUE_MAX];
    char name[16];
    unsigned n_refused = 0;

    for (unsigned i = 0; i < N_KEYS; i++) {
        struct store_op op = fault_put(i, 1 + i, name, bytes);
        int r;

        /* Deletes and facts must get through where puts may be refused. */
        if (i % 4 == 3) {
            op.state.deleted = true;
            op.state.value = (struct slice){0};
        }
        r = fault_store_do(f, &op);
        if (r == 0)
            fault_report(fd, op.cookie);
        else if (lives && r == -ERR_NO_SPACE && !op.state.deleted)
            n_refused++;
        else
            _exit(FAULT_EXIT_UNEXPECTED);
    }
    if (n_refused > 1)
        _exit(FAULT_EXIT_UNEXPECTED);
}

static void run_plan(const void *arg, int fd)
{
    const struct plan *p = arg;
    struct fault_store f;
    char why[STORE_WHY_BYTES];
    int r;

    shim_watch("/data.mdb");
    shim_fail(p->kind, p->k, p->error_number, p->short_write);
    r = fault_store_open(&f, p->dir, FAULT_MAP_BYTES, false, why);
    if (r != 0)
        _exit(r == -ERR_IO ? FAULT_EXIT_OPEN_IO : FAULT_EXIT_OPEN);
    put_all(&f, p->lives, fd);
    fault_store_close(&f);
    _exit(shim_has_failed() ? 0 : EXIT_NOT_REACHED);
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
static void assert_acked_found(const char *dir, const struct fault_acks *acks, bool suspect)
{
    struct fault_store f;
    char why[STORE_WHY_BYTES], what[128];

    if (fault_store_open(&f, dir, FAULT_MAP_BYTES, suspect, why) != 0)
        fail_msg("%s", why);
    assert_false(suspect_is_marked(dir, why, sizeof(why)));
    for (unsigned i = 0; i < N_KEYS; i++) {
        if (fault_check(f.s, i, acks->hlc[i], what) != 0)
            fail_msg("%s", what);
    }
    f.s->ops->read_end(f.s, 0);
    fault_store_close(&f);
}

/* One run; false if call k does not come any more. */
static bool run_once(struct plan *p, unsigned *ret_n_failed)
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
    assert_true(WIFEXITED(status));
    status = WEXITSTATUS(status);
    suspect = suspect_is_marked(p->dir, why, sizeof(why));
    if (status == FAULT_EXIT_SENTENCE || status == FAULT_EXIT_OPEN_IO) {
        assert_false(p->lives && acks.n > 0);
        assert_true(suspect);
        assert_refused_as_suspect(p->dir);
    } else if (status == FAULT_EXIT_OPEN) {
        /* A full disk, or what looks like one, while the store is being created. */
        assert_true((p->error_number == ENOSPC || p->short_write) && acks.n == 0);
        assert_false(suspect);
    } else {
        assert_int_equal(status, p->lives && status != EXIT_NOT_REACHED ? 0 : EXIT_NOT_REACHED);
        assert_false(suspect);
        assert_int_equal(acks.n < N_KEYS - 1, 0);
    }
    *ret_n_failed += status != EXIT_NOT_REACHED;
    assert_acked_found(p->dir, &acks, suspect);
    rig_dir_remove(p->dir);
    return status != EXIT_NOT_REACHED;
}

static void run_for_every_k(struct plan p)
{
    unsigned n_failed = 0;

    for (p.k = 1; p.k <= CALLS_MAX; p.k++) {
        if (!run_once(&p, &n_failed))
            break;
    }
    print_message("# %s: %u calls failed in turn\n", p.name, n_failed);
    assert_true(n_failed >= N_KEYS && n_failed < CALLS_MAX);
}

static void a_failed_sync_is_fatal(void **state)
{
    run_for_every_k((struct plan){.name = "sync, EIO", .kind = SHIM_SYNC, .error_number = EIO});
}

static void a_failed_data_write_is_fatal(void **state)
{
    run_for_every_k(
        (struct plan){.name = "data write, EIO", .kind = SHIM_WRITE, .error_number = EIO});
}

static void a_short_write_on_a_disk_with_room_is_fatal(void **state)
{
    run_for_every_k(
        (struct plan){.name = "data write, short", .kind = SHIM_WRITE, .short_write = true});
}

static void a_failed_meta_write_is_fatal(void **state)
{
    run_for_every_k(
        (struct plan){.name = "meta write, EIO", .kind = SHIM_WRITE_SYNC, .error_number = EIO});
}

static void a_full_disk_at_the_meta_write_is_fatal(void **state)
{
    run_for_every_k((struct plan){
        .name = "meta write, ENOSPC", .kind = SHIM_WRITE_SYNC, .error_number = ENOSPC});
}

static void a_full_disk_at_a_data_write_is_not(void **state)
{
    run_for_every_k((struct plan){
        .name = "data write, ENOSPC", .kind = SHIM_WRITE, .error_number = ENOSPC, .lives = true});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failed_sync_is_fatal),
        cmocka_unit_test(a_failed_data_write_is_fatal),
        cmocka_unit_test(a_short_write_on_a_disk_with_room_is_fatal),
        cmocka_unit_test(a_failed_meta_write_is_fatal),
        cmocka_unit_test(a_full_disk_at_the_meta_write_is_fatal),
        cmocka_unit_test(a_full_disk_at_a_data_write_is_not),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
