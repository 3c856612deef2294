/* test_core_values: the small pure parts: clock, quorum, wheel. */
#include "proto/err.h"
#include "proto/limits.h"
#include "server/base/wheel.h"
#include "server/core/clock.h"
#include "server/core/quorum.h"
#include "tests/unit/test.h"

#include <stdlib.h>

/* ---- clock --------------------------------------------------------------------------------- */

#define WALL 1700000000000u

static struct clock leased(uint64_t until_ms)
{
    struct clock c;

    clock_init(&c, 77, 0);
    c.bound_ms = until_ms;
    return c;
}

static void test_stamps_grow_while_time_stands(void **state)
{
    struct clock c = leased(WALL + 1000);
    struct version a, b;

    assert_int_equal(clock_stamp(&c, WALL, &a), CLOCK_OK);
    assert_int_equal(clock_stamp(&c, WALL, &b), CLOCK_OK);
    assert_true(version_compare(b, a) > 0);
    assert_int_equal(b.actor, 77);
    assert_int_equal(version_wall_ms(a.hlc), WALL);
}

static void test_stamps_grow_when_time_goes_back(void **state)
{
    struct clock c = leased(WALL + 1000);
    struct version a, b;

    clock_stamp(&c, WALL, &a);
    assert_int_equal(clock_stamp(&c, WALL - 400, &b), CLOCK_OK);
    assert_true(version_compare(b, a) > 0);
    assert_int_equal(clock_stamp(&c, WALL - 501, &b), -ERR_CLOCK); /* too far: wait for it */
}

static void a_clock_is_off_when_no_wait_helps(void **state)
{
    struct clock c = leased(WALL + 1000), started;
    struct version v;

    assert_int_equal(clock_stamp(&c, WALL, &v), CLOCK_OK);
    assert_false(clock_is_off(&c, WALL));
    assert_false(clock_is_off(&c, WALL + 5000)); /* the lease is over, which is asked for anew */
    assert_false(clock_is_off(&c, WALL - 400));
    assert_true(clock_is_off(&c, WALL - LIMIT_CLOCK_AHEAD_MS - 1));
    clock_init(&started, 77, WALL); /* the bound of the process before */
    assert_false(clock_is_off(&started, WALL - CLOCK_LEASE_MAX_MS - LIMIT_CLOCK_AHEAD_MS));
    assert_true(clock_is_off(&started, WALL - CLOCK_LEASE_MAX_MS - LIMIT_CLOCK_AHEAD_MS - 1));
    assert_int_equal(clock_stamp(&started, WALL - CLOCK_LEASE_MAX_MS - LIMIT_CLOCK_AHEAD_MS, &v),
                     CLOCK_WAIT_START);
}

/* Monotonic time when the wall clock shows WALL. */
#define NOW 5000u
#define OFFSET ((int64_t)(WALL - NOW))

static void test_a_watched_clock_stamps_once_it_is_judged(void **state)
{
    struct clock c = leased(WALL + 1000);
    struct version v;

    clock_be_watched(&c);
    clock_look(&c, NOW, WALL);
    assert_int_equal(clock_stamp(&c, WALL, &v), CLOCK_WAIT_START);
    clock_judged(&c, true, OFFSET, 0);
    assert_int_equal(clock_stamp(&c, WALL, &v), CLOCK_OK);
    clock_judged(&c, false, OFFSET, 0);
    assert_int_equal(clock_stamp(&c, WALL, &v), -ERR_CLOCK);
    clock_judged(&c, true, OFFSET, 0);
    assert_int_equal(clock_stamp(&c, WALL, &v), CLOCK_OK);
}

static void test_a_step_ahead_neither_stamps_nor_renews(void **state)
{
    const uint64_t jump_ms = 3600000;
    struct clock c = leased(WALL + 1000);
    struct version v;

    clock_be_watched(&c);
    clock_judged(&c, true, OFFSET, 0);
    clock_look(&c, NOW, WALL + LIMIT_CLOCK_AHEAD_MS); /* a small one passes */
    assert_int_equal(clock_stamp(&c, WALL + LIMIT_CLOCK_AHEAD_MS, &v), CLOCK_OK);
    clock_look(&c, NOW + 1, WALL + jump_ms);
    assert_int_equal(clock_stamp(&c, WALL + jump_ms, &v), CLOCK_WAIT_START);
    assert_int_equal(clock_renewal(&c, WALL + jump_ms), 0);
    assert_int_equal(c.bound_ms, WALL + 1000);
    clock_look(&c, NOW + 2, WALL + LIMIT_CLOCK_AHEAD_MS + 2); /* and back: it was right before */
    assert_int_equal(clock_stamp(&c, WALL + LIMIT_CLOCK_AHEAD_MS + 2, &v), CLOCK_OK);
    clock_look(&c, NOW + 3, WALL + jump_ms);
    clock_judged(&c, true, (int64_t)(WALL + jump_ms - NOW - 3), 0); /* it was right to step */
    assert_int_equal(clock_stamp(&c, WALL + jump_ms, &v), CLOCK_WAIT_LEASE);
    assert_int_not_equal(clock_renewal(&c, WALL + jump_ms), 0);
}

/* Of an idle worker; membership may have seen two small steps. It says so all the same. */
static void test_a_step_is_over_when_the_new_time_is_judged(void **state)
{
    const uint64_t ahead_ms = LIMIT_CLOCK_AHEAD_MS + 100;
    struct clock c = leased(WALL + 1000);
    struct version v;

    clock_be_watched(&c);
    clock_judged(&c, true, OFFSET, 0);
    for (uint64_t ms = 0; ms < 10000; ms += 1000) { /* by itself it does not end */
        clock_look(&c, NOW + ms, WALL + ahead_ms + ms);
        assert_int_equal(clock_stamp(&c, WALL + ahead_ms + ms, &v), CLOCK_WAIT_START);
    }
    clock_judged(&c, true, OFFSET + (int64_t)ahead_ms, 0);
    clock_look(&c, NOW, WALL + ahead_ms);
    assert_int_equal(clock_stamp(&c, WALL + ahead_ms, &v), CLOCK_OK);
}

static void test_no_stamp_beyond_the_lease(void **state)
{
    struct clock c = leased(WALL + 10);
    struct version v;

    assert_int_equal(clock_stamp(&c, WALL + 10, &v), CLOCK_OK);
    assert_int_equal(clock_stamp(&c, WALL + 11, &v), CLOCK_WAIT_LEASE);
    assert_int_equal(clock_renewal(&c, WALL + 11), WALL + 11 + CLOCK_LEASE_MS);
    assert_int_equal(clock_renewal(&c, WALL + 11), 0); /* asked for once */
    assert_int_equal(clock_stamp(&c, WALL + 11, &v), CLOCK_WAIT_LEASE);
    clock_renewed(&c, WALL + 12, 0);
    assert_int_equal(clock_stamp(&c, WALL + 11, &v), CLOCK_OK);
}

static void test_a_failed_renewal_gives_nothing(void **state)
{
    struct clock c = leased(WALL);
    struct version v;

    clock_renewal(&c, WALL + 5);
    clock_renewed(&c, WALL + 6, -ERR_NO_SPACE);
    assert_int_equal(clock_stamp(&c, WALL + 5, &v), CLOCK_WAIT_LEASE);
    assert_int_not_equal(clock_renewal(&c, WALL + 5), 0);
}

/* A disk whose syncs take longer than a lease must not keep a node from stamping for ever. */
static void test_the_lease_outgrows_a_slow_disk(void **state)
{
    struct clock c = leased(WALL);
    struct version v;
    uint64_t now = WALL;
    int stamped = 0;

    for (int i = 0; i < 20; i++) {
        clock_renewal(&c, now);
        now += 3000; /* one sync */
        clock_renewed(&c, now, 0);
        stamped += clock_stamp(&c, now, &v) == CLOCK_OK;
    }
    assert_true(stamped >= 17);
    assert_true(c.lease_ms <= CLOCK_LEASE_MAX_MS);
    for (int i = 0; i < 20; i++) { /* quick again: a restart waits a second, not sixteen */
        now += 20000;
        clock_renewal(&c, now);
        clock_renewed(&c, now + 1, 0);
    }
    assert_int_equal(c.lease_ms, CLOCK_LEASE_MS);
}

static void test_start_waits_for_the_old_bound(void **state)
{
    struct clock c;
    struct version v;

    clock_init(&c, 1, WALL);
    assert_int_equal(clock_stamp(&c, WALL - 900, &v), CLOCK_WAIT_START);
    assert_int_equal(clock_stamp(&c, WALL, &v), CLOCK_WAIT_START);
    assert_int_equal(clock_stamp(&c, WALL + 1, &v), CLOCK_WAIT_LEASE);
    assert_int_equal(clock_stamp(&c, WALL - 7200000, &v), -ERR_CLOCK);
}

static void test_remote_time_is_adopted_within_the_guard(void **state)
{
    struct clock c = leased(WALL + 2000);
    struct version v;

    assert_true(clock_adopt(&c, WALL, version_hlc_from_ms(WALL + 500)));
    assert_false(clock_adopt(&c, WALL, version_hlc_from_ms(WALL + 501)));
    assert_int_equal(clock_stamp(&c, WALL, &v), CLOCK_OK);
    assert_true(v.hlc > version_hlc_from_ms(WALL + 500));
    assert_true(v.hlc < version_hlc_from_ms(WALL + 501));
}

/* ---- quorum -------------------------------------------------------------------------------- */

static void test_levels(void **state)
{
    static const uint32_t quorum[] = {0, 1, 2, 2, 3, 3, 4, 4};

    for (uint32_t n = 1; n <= 7; n++) {
        assert_int_equal(quorum_need(LEVEL_ONE, n), 1);
        assert_int_equal(quorum_need(LEVEL_ALL, n), n);
        assert_int_equal(quorum_need(LEVEL_QUORUM, n), quorum[n]);
        assert_int_equal(quorum_need(LEVEL_DEFAULT, n), quorum[n]);
    }
}

static struct quorum_answer value_of(uint64_t hlc)
{
    return (struct quorum_answer){.answered = true, .version = {hlc, 1}, .digest = hlc};
}

static void test_merge_of_answers(void **state)
{
    struct quorum_answer a[3] = {value_of(5), value_of(7), {0}};
    struct quorum_view v = quorum_merge(a, 3);

    assert_int_equal(v.n_answered, 2);
    assert_int_equal(v.newest, 1);
    assert_false(v.agree);
    a[0] = value_of(7);
    v = quorum_merge(a, 3);
    assert_true(v.agree);
    a[2] = (struct quorum_answer){.answered = true, .absent = true};
    v = quorum_merge(a, 3);
    assert_int_equal(v.n_answered, 3);
    assert_false(v.agree);
    assert_false(v.dead);
}

static void test_a_floor_deletes_what_lies_below(void **state)
{
    struct quorum_answer a[2] = {value_of(5), {.answered = true, .absent = true, .floor = 5}};
    struct quorum_view v = quorum_merge(a, 2);

    assert_true(v.dead);
    assert_int_equal(v.floor, 5);
    a[1].floor = 4;
    v = quorum_merge(a, 2);
    assert_false(v.dead);
    assert_false(v.agree);
    a[0].deleted = true; /* a tombstone at or below the floor is held by the absence itself */
    a[1].floor = 5;
    assert_true(quorum_holds(&a[1], &a[0]));
    assert_true(quorum_merge(a, 2).agree);
}

static void test_merge_of_nothing(void **state)
{
    struct quorum_answer a[2] = {{.answered = true, .absent = true},
                                 {.answered = true, .absent = true}};
    struct quorum_view v = quorum_merge(a, 2);

    assert_int_equal(v.newest, -1);
    assert_true(v.agree);
}

static void test_equal_versions_with_other_digests_do_not_agree(void **state)
{
    struct quorum_answer a[2] = {value_of(5), value_of(5)};

    a[1].digest = 6;
    assert_false(quorum_merge(a, 2).agree);
}

/* ---- wheel --------------------------------------------------------------------------------- */

#define TIMERS 500

/* Against a plain array: the same timers expire at the same calls, and next is never late. */
static void test_wheel_against_a_list(void **state)
{
    static struct wheel w;
    static struct wheel_timer t[TIMERS];
    static uint64_t due[TIMERS]; /* 0 = not armed */
    struct test_random r = {.s = 11};
    uint64_t now = 123456;

    wheel_init(&w, now);
    for (int i = 0; i < TIMERS; i++)
        wheel_timer_init(&t[i]);
    for (int round = 0; round < 20000; round++) {
        struct list expired;
        uint64_t earliest = UINT64_MAX;
        size_t i = test_random_below(&r, TIMERS);

        if (test_random_below(&r, 4)) {
            due[i] = now + 1 + test_random_below(&r, test_random_below(&r, 3) ? 300 : 20000);
            wheel_set(&w, &t[i], due[i]);
        } else {
            due[i] = 0;
            wheel_cancel(&t[i]);
        }
        for (i = 0; i < TIMERS; i++)
            if (due[i] && due[i] < earliest)
                earliest = due[i];
        assert_true(wheel_next_ms(&w) <= earliest);
        assert_true(wheel_next_ms(&w) > now);
        if (test_random_below(&r, 3))
            continue;
        now += test_random_below(&r, test_random_below(&r, 50) ? 20 : 30000);
        list_init(&expired);
        wheel_expire(&w, now, &expired);
        while (!list_empty(&expired)) {
            struct wheel_timer *x = list_entry(expired.next, struct wheel_timer, link);

            i = (size_t)(x - t);
            assert_true(due[i] && due[i] <= now);
            due[i] = 0;
            list_remove(&x->link);
        }
        for (i = 0; i < TIMERS; i++)
            assert_true(!due[i] || due[i] > now);
    }
}

static void test_wheel_takes_times_already_past(void **state)
{
    static struct wheel w;
    struct wheel_timer t;
    struct list expired;

    wheel_init(&w, 1000);
    wheel_timer_init(&t);
    list_init(&expired);
    assert_true(wheel_next_ms(&w) == WHEEL_NEVER);
    wheel_set(&w, &t, 5);
    assert_int_equal(wheel_next_ms(&w), 1001);
    wheel_expire(&w, 1001, &expired);
    assert_false(list_empty(&expired));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stamps_grow_while_time_stands),
        cmocka_unit_test(a_clock_is_off_when_no_wait_helps),
        cmocka_unit_test(test_stamps_grow_when_time_goes_back),
        cmocka_unit_test(test_a_watched_clock_stamps_once_it_is_judged),
        cmocka_unit_test(test_a_step_ahead_neither_stamps_nor_renews),
        cmocka_unit_test(test_a_step_is_over_when_the_new_time_is_judged),
        cmocka_unit_test(test_no_stamp_beyond_the_lease),
        cmocka_unit_test(test_a_failed_renewal_gives_nothing),
        cmocka_unit_test(test_the_lease_outgrows_a_slow_disk),
        cmocka_unit_test(test_start_waits_for_the_old_bound),
        cmocka_unit_test(test_remote_time_is_adopted_within_the_guard),
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_merge_of_answers),
        cmocka_unit_test(test_a_floor_deletes_what_lies_below),
        cmocka_unit_test(test_merge_of_nothing),
        cmocka_unit_test(test_equal_versions_with_other_digests_do_not_agree),
        cmocka_unit_test(test_wheel_against_a_list),
        cmocka_unit_test(test_wheel_takes_times_already_past),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
