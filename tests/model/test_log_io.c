/* test_log_io: disks that fail, are full, or are slow.
 *
 *   write or sync of a group, EIO      on_fatal once; nothing that was not durable before ever is
 *   write or sync of a group, ENOSPC   the same: its blocks were there, so the disk is failing
 *   write of a group, short            completed
 *   anything of a new segment, EIO     on_fatal
 *   anything of a new segment, ENOSPC  refusals say NO_SPACE until there is room again
 *   while opening                      an error with a sentence; the next opening is fine
 *
 * Each k-th call of a kind fails in turn, until the workload ends before its turn comes.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "proto/err.h"
#include "tests/model/log_rig.h"
#include "tests/model/log_shim.h"

#define N_PUTS 40u
#define CALLS_MAX 400u

struct plan {
    enum log_shim_kind kind;
    int error_number;
};

/* Puts one after the other, for as long as the log lives; how many it said were durable. */
static uint64_t put_all(struct log_rig *rig)
{
    for (uint64_t i = 0; i < N_PUTS; i++) {
        uint64_t lsn = 0;
        int r = log_rig_put(rig, 1, i, 100 + 300 * (size_t)i, &lsn);

        while (r == -ERR_FULL) {
            /* Made room for, or dead. */
            pthread_mutex_lock(&rig->lock);
            while (!rig->n_room && !rig->n_fatal)
                pthread_cond_wait(&rig->woken, &rig->lock);
            rig->n_room = 0;
            pthread_mutex_unlock(&rig->lock);
            r = log_rig_put(rig, 1, i, 100 + 300 * (size_t)i, &lsn);
        }
        if (r < 0) {
            assert_int_equal(r, -ERR_IO);
            return i;
        }
        pthread_mutex_lock(&rig->lock);
        while (rig->durable < lsn && !rig->n_fatal)
            pthread_cond_wait(&rig->woken, &rig->lock);
        if (rig->durable < lsn) {
            pthread_mutex_unlock(&rig->lock);
            return i;
        }
        pthread_mutex_unlock(&rig->lock);
    }
    return N_PUTS;
}

static void assert_dead(struct log_rig *rig, uint64_t n_acked)
{
    struct log_list *list = log_list_new(rig->l);

    /* An append may have been refused before the log says why. */
    pthread_mutex_lock(&rig->lock);
    while (!rig->n_fatal)
        pthread_cond_wait(&rig->woken, &rig->lock);
    pthread_mutex_unlock(&rig->lock);
    assert_int_equal(rig->n_fatal, 1);
    assert_non_null(strstr(rig->fatal, rig->dir));
    assert_non_null(strstr(rig->fatal, "nothing more is acknowledged"));
    log_append(rig->l, list, 1, 1);
    log_stop(rig->l);
    assert_int_equal(log_durable(rig->l), n_acked);
    assert_int_equal(rig->n_fatal, 1);
}

/* False: call k does not come any more. */
static bool run_fatal(struct plan p, unsigned k)
{
    struct log_rig rig;
    uint64_t n;
    bool failed;

    log_rig_init(&rig);
    log_rig_start(&rig);
    log_shim_fail(p.kind, k, p.error_number, false);
    n = put_all(&rig);
    if (n < N_PUTS)
        assert_dead(&rig, n);
    else
        log_stop(rig.l); /* a segment in the making is given up, or its failure comes now */
    failed = log_shim_has_failed();
    if (n == N_PUTS)
        assert_int_equal(rig.n_fatal, failed);
    log_rig_stop(&rig);
    log_shim_heal();
    log_rig_start(&rig);
    assert_true(rig.n_replayed >= n);
    log_rig_assert_replayed(&rig, 1, 0, rig.n_replayed);
    log_rig_deinit(&rig);
    return failed;
}

static void fail_each(struct plan p, unsigned at_least)
{
    unsigned k = 1;

    while (k < CALLS_MAX && run_fatal(p, k))
        k++;
    print_message("# %u calls failed in turn\n", k - 1);
    assert_true(k > at_least && k < CALLS_MAX);
}

static void a_failed_write_of_a_group_is_fatal(void **state)
{
    fail_each((struct plan){LOG_SHIM_GROUP, EIO}, N_PUTS);
}

static void a_full_disk_at_a_group_is_fatal(void **state)
{
    fail_each((struct plan){LOG_SHIM_GROUP, ENOSPC}, N_PUTS);
}

static void a_failed_sync_is_fatal(void **state)
{
    fail_each((struct plan){LOG_SHIM_SYNC, EIO}, N_PUTS);
}

static void a_segment_that_cannot_be_made_is_fatal(void **state)
{
    fail_each((struct plan){LOG_SHIM_ZERO, EIO}, 4);
    fail_each((struct plan){LOG_SHIM_SYNC_NEW, EIO}, 4);
    fail_each((struct plan){LOG_SHIM_RENAME, EIO}, 4);
    fail_each((struct plan){LOG_SHIM_DIR_SYNC, EIO}, 4);
}

static void a_short_write_is_completed(void **state)
{
    struct log_rig rig;

    for (unsigned k = 1; k <= 5; k++) {
        log_rig_init(&rig);
        log_rig_start(&rig);
        log_shim_fail(k == 5 ? LOG_SHIM_ZERO : LOG_SHIM_GROUP, k == 5 ? 1 : k, 0, k > 3);
        assert_int_equal(put_all(&rig), N_PUTS);
        assert_true(log_shim_has_failed());
        log_shim_heal();
        log_rig_stop(&rig);
        log_rig_start(&rig);
        log_rig_assert_replayed(&rig, 1, 0, N_PUTS);
        log_rig_deinit(&rig);
    }
}

/* ---- no space for a segment --------------------------------------------------------------- */

/* Puts until the disk has no room. Either the keeper has met that by the time of a refusal, or it
 * tells that the reason has changed. Returns the last LSN. */
static uint64_t fill_disk(struct log_rig *rig, uint64_t *next)
{
    uint64_t lsn = log_durable(rig->l);
    unsigned n_room;
    int r;

    for (;;) {
        n_room = log_rig_n_room(rig);
        r = log_rig_put(rig, 1, *next, 4000, &lsn);
        if (r == 0)
            ++*next;
        else if (r == -ERR_FULL)
            log_rig_wait_room(rig, n_room);
        else
            break;
    }
    assert_int_equal(r, -ERR_NO_SPACE);
    log_rig_wait_durable(rig, lsn);
    return lsn;
}

static void check_no_space(enum log_shim_kind kind, int error_number)
{
    struct log_rig rig;
    uint64_t next = 0, lsn = 0;
    unsigned n_room;

    log_rig_init(&rig);
    assert_int_equal(log_rig_open(&rig), 0);
    log_shim_fail(kind, 1, error_number, true);
    assert_int_equal(log_start(rig.l), 0);
    fill_disk(&rig, &next);
    assert_int_equal(log_rig_n_segments(&rig), 1);
    n_room = log_rig_n_room(&rig);
    assert_int_equal(log_rig_put(&rig, 1, next, 4000, &lsn), -ERR_NO_SPACE);
    log_shim_heal();
    log_rig_wait_room(&rig, n_room);
    lsn = log_rig_must_put(&rig, 1, next++, 4000);
    log_rig_wait_durable(&rig, lsn);
    assert_int_equal(rig.n_fatal, 0);
    log_rig_stop(&rig);
    log_rig_start(&rig);
    log_rig_assert_replayed(&rig, 1, 0, (size_t)next);
    log_rig_deinit(&rig);
}

static void a_full_disk_refuses_until_there_is_room(void **state)
{
    check_no_space(LOG_SHIM_RESERVE, ENOSPC);
    check_no_space(LOG_SHIM_ZERO, ENOSPC);
    check_no_space(LOG_SHIM_ZERO, EDQUOT);
    check_no_space(LOG_SHIM_SYNC_NEW, ENOSPC);
    check_no_space(LOG_SHIM_RENAME, ENOSPC);
    check_no_space(LOG_SHIM_DIR_SYNC, ENOSPC);
}

static void a_release_makes_room_on_a_full_disk(void **state)
{
    struct log_rig rig;
    uint64_t next = 0, lsn;
    unsigned n_room;

    log_rig_init(&rig);
    log_rig_start(&rig);
    for (; next < 9; next++)
        log_rig_wait_durable(&rig, lsn = log_rig_must_put(&rig, 1, next, 7000));
    log_shim_fail(LOG_SHIM_RESERVE, 1, ENOSPC, true);
    lsn = fill_disk(&rig, &next);
    n_room = log_rig_n_room(&rig);
    log_rig_apply(&rig, lsn);
    log_rig_wait_room(&rig, n_room);
    log_rig_wait_durable(&rig, log_rig_must_put(&rig, 1, next, 4000));
    log_shim_heal();
    log_rig_deinit(&rig);
}

/* ---- while opening ------------------------------------------------------------------------ */

static void check_open_fails(enum log_shim_kind kind, int error_number, int error, bool fresh)
{
    struct log_rig rig;
    unsigned k = 1, n = 0;

    log_rig_init(&rig);
    if (!fresh) {
        log_rig_start(&rig);
        assert_int_equal(put_all(&rig), N_PUTS);
        log_rig_stop(&rig);
    }
    for (;; k++) {
        int r;

        log_shim_fail(kind, k, error_number, false);
        r = log_rig_open(&rig);
        if (r == 0)
            break;
        n++;
        assert_int_equal(r, -error);
        assert_non_null(strstr(rig.why, rig.dir));
        assert_null(rig.l);
    }
    assert_true(n >= 1);
    log_shim_heal();
    log_rig_stop(&rig);
    log_rig_start(&rig);
    if (!fresh)
        log_rig_assert_replayed(&rig, 1, 0, N_PUTS);
    log_rig_deinit(&rig);
}

static void an_opening_that_fails_says_why_and_is_repeated(void **state)
{
    check_open_fails(LOG_SHIM_RESERVE, ENOSPC, ERR_NO_SPACE, true);
    check_open_fails(LOG_SHIM_ZERO, EIO, ERR_IO, true);
    check_open_fails(LOG_SHIM_ZERO, ENOSPC, ERR_NO_SPACE, true);
    check_open_fails(LOG_SHIM_SYNC_NEW, EIO, ERR_IO, true);
    check_open_fails(LOG_SHIM_RENAME, EIO, ERR_IO, true);
    check_open_fails(LOG_SHIM_DIR_SYNC, EIO, ERR_IO, true);
    check_open_fails(LOG_SHIM_GROUP, EIO, ERR_IO, false);
    check_open_fails(LOG_SHIM_SYNC, EIO, ERR_IO, false);
    check_open_fails(LOG_SHIM_DIR_SYNC, EIO, ERR_IO, false);
}

/* ---- grouping ----------------------------------------------------------------------------- */

static void what_comes_during_a_sync_is_the_next_group(void **state)
{
    struct log_rig rig;
    uint64_t lsn, syncs;

    log_rig_init(&rig);
    log_rig_start(&rig);
    syncs = log_n_syncs(rig.l);
    log_shim_hold_sync();
    log_rig_must_put(&rig, 0, 0, 100);
    log_shim_wait_held();
    for (uint64_t i = 0; i < 50; i++)
        lsn = log_rig_must_put(&rig, 1 + i % 2, i, 100);
    assert_int_equal(log_durable(rig.l), 0);
    log_shim_let_go();
    log_rig_wait_durable(&rig, lsn);
    assert_int_equal(log_n_syncs(rig.l), syncs + 2);
    assert_true(rig.n_touched[0] == 1 && rig.n_touched[1] == 1 && rig.n_touched[2] == 1);
    log_rig_deinit(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failed_write_of_a_group_is_fatal),
        cmocka_unit_test(a_full_disk_at_a_group_is_fatal),
        cmocka_unit_test(a_failed_sync_is_fatal),
        cmocka_unit_test(a_segment_that_cannot_be_made_is_fatal),
        cmocka_unit_test(a_short_write_is_completed),
        cmocka_unit_test(a_full_disk_refuses_until_there_is_room),
        cmocka_unit_test(a_release_makes_room_on_a_full_disk),
        cmocka_unit_test(an_opening_that_fails_says_why_and_is_repeated),
        cmocka_unit_test(what_comes_during_a_sync_is_the_next_group),
    };

    if (access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
