/* test_log: the log on a disk that works.
 */
#include <stdio.h>
#include <stdlib.h>

#include "proto/err.h"
#include "tests/model/log_rig.h"

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

static void a_segment_is_kept_until_all_in_it_is_applied(void **state)
{
    struct log_rig rig;
    uint64_t lsn[100], seq;

    log_rig_init(&rig);
    log_rig_start(&rig);
    for (uint64_t i = 0; i < 100; i++) {
        lsn[i] = log_rig_must_put(&rig, 1, i, 3500);
        log_rig_wait_durable(&rig, lsn[i]);
    }
    seq = log_seq_of(rig.l, lsn[49]);
    assert_true(seq > 0 && seq <= 50);
    assert_int_equal(log_seq_of(rig.l, lsn[99]), 100);
    assert_int_equal(log_seq_of(rig.l, lsn[99] + 5), 100);
    log_rig_apply(&rig, lsn[49]);
    log_rig_stop(&rig);
    log_rig_start(&rig);
    log_rig_assert_replayed(&rig, 1, seq, 100 - (size_t)seq);
    log_rig_deinit(&rig);
}

/* ---- many appenders ----------------------------------------------------------------------- */

struct appender {
    struct log_rig *rig;
    pthread_t thread;
    uint32_t queue;
    uint64_t n;
};

static void *append_some(void *arg)
{
    struct appender *a = arg;
    struct test_random random = {.s = a->queue};
    uint64_t before = 0;

    for (uint64_t i = 0; i < a->n; i++) {
        uint64_t lsn = log_rig_must_put(a->rig, a->queue, i,
                                        LOG_RIG_LEN_MIN + test_random_below(&random, 5000));

        assert_true(lsn > before);
        before = lsn;
        if (i % 16 == 15)
            log_rig_wait_durable(a->rig, lsn);
    }
    return NULL;
}

static void appenders_keep_their_order(void **state)
{
    struct appender all[LOG_RIG_QUEUES];
    uint64_t next[LOG_RIG_QUEUES] = {0};
    struct log_rig rig;

    log_rig_init(&rig);
    log_rig_start(&rig);
    for (uint32_t q = 0; q < LOG_RIG_QUEUES; q++) {
        all[q] = (struct appender){.rig = &rig, .queue = q, .n = 100};
        assert_int_equal(pthread_create(&all[q].thread, NULL, append_some, &all[q]), 0);
    }
    for (uint32_t q = 0; q < LOG_RIG_QUEUES; q++)
        pthread_join(all[q].thread, NULL);
    log_rig_wait_durable(&rig, 100 * LOG_RIG_QUEUES);
    for (uint32_t q = 0; q < LOG_RIG_QUEUES; q++)
        assert_true(rig.n_touched[q] > 0 && rig.n_touched[q] <= 100);
    log_rig_stop(&rig);
    log_rig_start(&rig);
    assert_int_equal(rig.n_replayed, 100 * LOG_RIG_QUEUES);
    for (size_t i = 0; i < rig.n_replayed; i++)
        assert_int_equal(rig.replayed[i].number, next[rig.replayed[i].queue]++);
    log_rig_deinit(&rig);
}

/* ---- large -------------------------------------------------------------------------------- */

static void a_list_larger_than_a_group_is_cut_between_records(void **state)
{
    struct log_rig rig;
    struct log_list *list;

    log_rig_init(&rig);
    rig.options.segment_bytes = 4u << 20;
    rig.options.bytes_max = 16u << 20;
    log_rig_start(&rig);
    list = log_list_new(rig.l);
    for (uint64_t i = 0; i < 50; i++)
        log_rig_add(list, 3, i, 40000 + (size_t)i, i % 3 == 0);
    assert_int_equal(log_admit(rig.l, list, log_list_bytes(list), false), 0);
    assert_int_equal(log_append(rig.l, list, 3, 50), 1);
    log_rig_wait_durable(&rig, 50);
    assert_int_equal(log_durable(rig.l), 50);
    assert_int_equal(log_n_syncs(rig.l), 2);
    assert_int_equal(rig.n_touched[3], 1);
    log_rig_stop(&rig);
    log_rig_start(&rig);
    log_rig_assert_replayed(&rig, 3, 0, 50);
    assert_int_equal(rig.replayed[49].pos.seq, 2);
    log_rig_deinit(&rig);
}

/* Wherever the head stands, a record of the largest size is admitted in the end. */
static void the_largest_records_always_find_room(void **state)
{
    struct log_rig rig;
    uint64_t lsn, next = 0;

    log_rig_init(&rig);
    rig.options.segment_bytes =
        (2 * LOG_RECORD_BYTES_MAX + LOG_BLOCK_BYTES - 1) / LOG_BLOCK_BYTES * LOG_BLOCK_BYTES;
    rig.options.bytes_max = 2ull * rig.options.segment_bytes;
    log_rig_start(&rig);
    for (unsigned i = 0; i < 6; i++) {
        lsn = log_rig_must_put(&rig, 0, next++, 3000000 + 777777 * i);
        lsn = log_rig_must_put(&rig, 0, next++, 20);
        log_rig_wait_durable(&rig, lsn);
        log_rig_apply(&rig, lsn);
        lsn = log_rig_must_put(&rig, 0, next++, LOG_RECORD_BYTES_MAX);
        log_rig_wait_durable(&rig, lsn);
        if (i == 4) {
            log_rig_stop(&rig);
            log_rig_start(&rig);
            log_rig_assert_replayed(&rig, 0, next - 1, 1);
            assert_int_equal(rig.replayed[0].len, LOG_RECORD_BYTES_MAX);
            lsn = 1;
        }
        log_rig_apply(&rig, lsn);
    }
    assert_true(log_rig_n_segments(&rig) <= 2);
    log_rig_deinit(&rig);
}

static void references_are_given_back(void **state)
{
    struct blob *blob = blob_new(20000);
    struct slice piece = blob_slice(blob);
    struct log_list *list;
    struct log_rig rig;

    log_rig_init(&rig);
    log_rig_start(&rig);
    log_rig_payload(1, 0, blob->data, blob->len);
    list = log_list_new(rig.l);
    assert_int_equal(log_list_add(list, LOG_RIG_TYPE, &piece, 1, blob), 0);
    assert_int_equal(atomic_load(&blob->refs), 2);
    log_list_free(rig.l, list);
    assert_int_equal(atomic_load(&blob->refs), 1);
    list = log_list_new(rig.l);
    assert_int_equal(log_list_bytes(list), 0);
    assert_int_equal(log_list_add(list, LOG_RIG_TYPE, &piece, 1, blob), 0);
    assert_int_equal(log_admit(rig.l, list, log_list_bytes(list), false), 0);
    log_append(rig.l, list, 0, 1);
    log_stop(rig.l);
    assert_int_equal(atomic_load(&blob->refs), 1);
    blob_unref(blob);
    log_rig_stop(&rig);
    log_rig_start(&rig);
    log_rig_assert_replayed(&rig, 1, 0, 1);
    log_rig_deinit(&rig);
}

/* ---- full --------------------------------------------------------------------------------- */

/* Fills until refused for good; returns the LSN of the last. */
static uint64_t fill(struct log_rig *rig, uint64_t *next)
{
    uint64_t lsn = 0, durable = 0;

    for (;;) {
        unsigned n = log_rig_n_room(rig);
        int r = log_rig_put(rig, 1, *next, 8000, &lsn);

        if (r == 0) {
            ++*next;
            continue;
        }
        assert_int_equal(r, -ERR_FULL);
        /* Nothing is under way any more, and the head is in the last segment there may be. */
        if (durable == lsn &&
            log_used_bytes(rig->l) > rig->options.bytes_max - rig->options.segment_bytes)
            return lsn;
        if (durable == lsn)
            log_rig_wait_room(rig, n);
        log_rig_wait_durable(rig, lsn);
        durable = lsn;
    }
}

static void a_full_log_refuses_and_tells_when_there_is_room(void **state)
{
    struct log_list *list;
    struct log_rig rig;
    uint64_t next = 0, lsn;
    unsigned n_room;

    log_rig_init(&rig);
    rig.options.bytes_max = 4ull * LOG_RIG_SEGMENT;
    log_rig_start(&rig);
    lsn = fill(&rig, &next);
    assert_true(log_used_bytes(rig.l) > 3 * LOG_RIG_SEGMENT);
    assert_true(log_used_bytes(rig.l) <= rig.options.bytes_max);
    list = log_list_new(rig.l);
    log_rig_add(list, 1, next++, 8000, false);
    n_room = log_rig_n_room(&rig);
    assert_int_equal(log_admit(rig.l, list, log_list_bytes(list), false), -ERR_FULL);
    assert_int_equal(log_admit(rig.l, list, log_list_bytes(list), true), 0);
    lsn = log_append(rig.l, list, 1, 1);
    log_rig_wait_durable(&rig, lsn);
    log_rig_apply(&rig, lsn);
    log_rig_wait_room(&rig, n_room);
    lsn = log_rig_must_put(&rig, 1, next++, 8000);
    log_rig_wait_durable(&rig, lsn);
    log_rig_stop(&rig);
    log_rig_start(&rig);
    log_rig_assert_replayed(&rig, 1, next - 1, 1);
    log_rig_deinit(&rig);
}

static void all_that_fits_a_full_log_is_replayed(void **state)
{
    struct log_rig rig;
    uint64_t next = 0;

    log_rig_init(&rig);
    rig.options.bytes_max = 4ull * LOG_RIG_SEGMENT;
    log_rig_start(&rig);
    fill(&rig, &next);
    log_rig_stop(&rig);
    log_rig_start(&rig);
    log_rig_assert_replayed(&rig, 1, 0, (size_t)next);
    log_rig_deinit(&rig);
}

/* Three groups fill segment 1, and two of them are released. What is added then would reach the
 * third if it began there. */
static void a_segment_with_one_group_left_is_not_reused(void **state)
{
    static const size_t len[] = {5000, 28000, 28000, 100};
    struct log_rig rig;
    uint64_t next = 0;

    log_rig_init(&rig);
    rig.options.bytes_max = 3ull * LOG_RIG_SEGMENT;
    log_rig_start(&rig);
    for (; next < ARRAY_LEN(len); next++)
        log_rig_wait_durable(&rig, log_rig_must_put(&rig, 1, next, len[next]));
    rig.applied_seq = 2;
    log_release(rig.l, 2);
    fill(&rig, &next);
    log_rig_stop(&rig);
    log_rig_start(&rig);
    log_rig_assert_replayed(&rig, 1, 2, (size_t)next - 2);
    log_rig_deinit(&rig);
}

static void a_list_given_back_gives_its_room_back(void **state)
{
    struct log_list *list;
    struct log_rig rig;

    log_rig_init(&rig);
    rig.options.bytes_max = 2ull * LOG_RIG_SEGMENT;
    log_rig_start(&rig);
    for (unsigned i = 0; i < 100; i++) {
        list = log_list_new(rig.l);
        assert_int_equal(log_admit(rig.l, list, 30000, false), 0);
        log_list_free(rig.l, list);
    }
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
        cmocka_unit_test(a_segment_is_kept_until_all_in_it_is_applied),
        cmocka_unit_test(appenders_keep_their_order),
        cmocka_unit_test(a_list_larger_than_a_group_is_cut_between_records),
        cmocka_unit_test(the_largest_records_always_find_room),
        cmocka_unit_test(references_are_given_back),
        cmocka_unit_test(a_full_log_refuses_and_tells_when_there_is_room),
        cmocka_unit_test(all_that_fits_a_full_log_is_replayed),
        cmocka_unit_test(a_segment_with_one_group_left_is_not_reused),
        cmocka_unit_test(a_list_given_back_gives_its_room_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
