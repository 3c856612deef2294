/* test_log: the log on a disk that works, and on one that was tampered with between two openings.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/err.h"
#include "tests/model/log_rig.h"

#define BLOCK LOG_BLOCK_BYTES

static void a_new_log_is_empty_and_has_an_id(void **state)
{
    struct log_rig rig;

    log_rig_init(&rig);
    log_rig_start(&rig);
    assert_true(rig.log_id != 0);
    assert_int_equal(log_durable(rig.l), 0);
    assert_int_equal(log_used_bytes(rig.l), 0);
    assert_int_equal(log_seq_of(rig.l, 1000), 0);
    log_rig_stop(&rig);
    log_rig_start(&rig);
    assert_int_equal(rig.n_replayed, 0);
    log_rig_deinit(&rig);
}

static void what_was_durable_is_replayed_in_order(void **state)
{
    struct log_rig rig;
    uint64_t lsn = 0;

    log_rig_init(&rig);
    log_rig_start(&rig);
    for (uint64_t i = 0; i < 100; i++) {
        lsn = log_rig_must_put(&rig, 1, i, 20 + (size_t)i * 80);
        assert_int_equal(lsn, i + 1);
        if (i % 3 == 0)
            log_rig_wait_durable(&rig, lsn);
    }
    log_rig_wait_durable(&rig, lsn);
    assert_true(log_n_syncs(rig.l) >= 34 && log_n_syncs(rig.l) <= 100);
    assert_true(rig.n_touched[1] >= 34 && rig.n_touched[0] == 0);
    for (unsigned again = 0; again < 2; again++) {
        log_rig_stop(&rig);
        log_rig_start(&rig);
        log_rig_assert_replayed(&rig, 1, 0, 100);
    }
    log_rig_deinit(&rig);
}

static void a_stop_makes_durable_what_is_pending(void **state)
{
    struct log_rig rig;

    log_rig_init(&rig);
    log_rig_start(&rig);
    for (uint64_t i = 0; i < 200; i++)
        log_rig_must_put(&rig, 0, i, 3000);
    log_stop(rig.l);
    assert_int_equal(log_durable(rig.l), 200);
    log_rig_stop(&rig);
    log_rig_start(&rig);
    log_rig_assert_replayed(&rig, 0, 0, 200);
    log_rig_deinit(&rig);
}

static void lsns_count_operations_and_go_on_after_replay(void **state)
{
    struct log_rig rig;
    struct log_list *list;

    log_rig_init(&rig);
    log_rig_start(&rig);
    list = log_list_new(rig.l);
    log_rig_add(list, 2, 0, 100, false);
    log_rig_add(list, 2, 1, 100, false);
    assert_int_equal(log_admit(rig.l, list, log_list_bytes(list), false), 0);
    assert_int_equal(log_append(rig.l, list, 2, 7), 1);
    assert_int_equal(log_append(rig.l, log_list_new(rig.l), 3, 4), 8);
    log_rig_wait_durable(&rig, 11);
    assert_int_equal(log_durable(rig.l), 11);
    assert_true(rig.n_touched[2] == 1 && rig.n_touched[3] == 1);
    log_rig_stop(&rig);
    log_rig_start(&rig);
    log_rig_assert_replayed(&rig, 2, 0, 2);
    assert_int_equal(log_rig_must_put(&rig, 2, 2, 100), 3);
    log_rig_deinit(&rig);
}

static void an_empty_list_costs_no_sync(void **state)
{
    struct log_rig rig;

    log_rig_init(&rig);
    log_rig_start(&rig);
    assert_int_equal(log_append(rig.l, log_list_new(rig.l), 4, 1), 1);
    log_rig_wait_durable(&rig, 1);
    assert_int_equal(rig.n_touched[4], 1);
    assert_int_equal(log_n_syncs(rig.l), 0);
    log_rig_deinit(&rig);
}

/* ---- release ------------------------------------------------------------------------------ */

static void what_is_applied_is_not_replayed(void **state)
{
    struct log_rig rig;
    uint64_t lsn = 0;

    log_rig_init(&rig);
    log_rig_start(&rig);
    for (uint64_t i = 0; i < 10; i++)
        lsn = log_rig_must_put(&rig, 1, i, 500);
    log_rig_wait_durable(&rig, lsn);
    log_rig_apply(&rig, lsn);
    assert_int_equal(log_used_bytes(rig.l), 0);
    for (uint64_t i = 10; i < 13; i++)
        log_rig_wait_durable(&rig, log_rig_must_put(&rig, 1, i, 500));
    assert_true(log_used_bytes(rig.l) > 0);
    log_rig_stop(&rig);
    log_rig_start(&rig);
    log_rig_assert_replayed(&rig, 1, 10, 3);
    log_rig_apply(&rig, 3);
    log_rig_stop(&rig);
    log_rig_start(&rig);
    log_rig_assert_replayed(&rig, 1, 0, 0);
    log_rig_deinit(&rig);
}

static void segments_go_round(void **state)
{
    struct log_rig rig;
    uint64_t next = 0, lsn = 0;

    log_rig_init(&rig);
    rig.options.bytes_max = 4ull * LOG_RIG_SEGMENT;
    log_rig_start(&rig);
    for (unsigned round = 0; round < 60; round++) {
        for (unsigned i = 0; i < 25; i++)
            lsn = log_rig_must_put(&rig, 1, next++, 1500 + 37 * i);
        log_rig_wait_durable(&rig, lsn);
        if (round % 7 == 6) {
            log_rig_stop(&rig);
            log_rig_start(&rig);
            log_rig_assert_replayed(&rig, 1, next - 25, 25);
            lsn = 25;
        }
        log_rig_apply(&rig, lsn);
    }
    assert_true(log_rig_n_segments(&rig) <= 4);
    log_rig_deinit(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_log_is_empty_and_has_an_id),
        cmocka_unit_test(what_was_durable_is_replayed_in_order),
        cmocka_unit_test(a_stop_makes_durable_what_is_pending),
        cmocka_unit_test(lsns_count_operations_and_go_on_after_replay),
        cmocka_unit_test(an_empty_list_costs_no_sync),
        cmocka_unit_test(what_is_applied_is_not_replayed),
        cmocka_unit_test(segments_go_round),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
