/* Stories of server/core/register: who votes changes, and what must not be is refused. */
#include "tests/unit/register_rig.h"

/* ---- voters -------------------------------------------------------------------------------- */

static void voters_are_added_and_removed_one_at_a_time(void **state)
{
    struct rig rig;

    rig_init(&rig, 1);
    decide(&rig, 1, "12");
    decide(&rig, 2, "123");
    crash(&rig, 1); /* not needed any more */
    decide(&rig, 6, "23");
    decide(&rig, 3, "234");
    decide(&rig, 3, "2345");
    decide(&rig, 3, "23456");
    start(&rig, 1); /* it has slept through all of it */
    read_ring(&rig, 1);
    ASSERT_OUTCOME(1, REGISTER_DECIDED, 7);
    rig_deinit(&rig);
}

static void a_swap_is_refused(void **state)
{
    struct rig rig;

    rig_init(&rig, 3);
    change_voters(&rig, 1, "124");
    assert_int_equal(rig.nodes[1].outcome, REGISTER_REFUSED);
    assert_non_null(rig.nodes[1].why);
    change_voters(&rig, 1, "12345");
    assert_int_equal(rig.nodes[1].outcome, REGISTER_REFUSED);
    change_voters(&rig, 1, "1");
    assert_int_equal(rig.nodes[1].outcome, REGISTER_REFUSED);
    expect(&rig, "");
    rig_deinit(&rig);
}

/* Nor from others: a ring that says it follows one with two other voters is not accepted. */
static void a_swap_is_not_accepted(void **state)
{
    struct wire_register reg = {.ballot = {1, id_of(6), 1}};
    struct wire_peer msg = {.type = PEER_REGISTER_ACCEPT, .u.reg = &reg};
    struct register_event event = {.type = REGISTER_MESSAGE};
    struct buf next = {0};
    struct rig rig;

    rig_init(&rig, 3);
    next_ring(&rig.nodes[1].ring, 0, "124", &next);
    reg.ring = buf_slice(&next);
    reg.n_before = 3;
    for (uint32_t i = 0; i < 3; i++)
        reg.before[i] = id_of(i + 1);
    event.u.message.from = id_of(6);
    event.u.message.msg = &msg;
    feed(&rig, 2, event);
    assert_false(rig.nodes[2].writing);
    reg.before[2] = id_of(5); /* "125" to "124" is one as well */
    feed(&rig, 2, event);
    assert_false(rig.nodes[2].writing);
    reg.n_before = 2; /* "12" to "124" is none */
    feed(&rig, 2, event);
    assert_true(rig.nodes[2].writing);
    buf_deinit(&next);
    rig_deinit(&rig);
}

/* A second voter that is not there would hold up the first for ever, had that accepted it. */
static void a_new_voter_has_the_ring_before_the_others_are_asked(void **state)
{
    struct rig rig;

    rig_init(&rig, 1);
    crash(&rig, 2);
    change_voters(&rig, 1, "12");
    ASSERT_OUTCOME(1, REGISTER_UNKNOWN, 0);
    change(&rig, 1, 0); /* life goes on */
    ASSERT_OUTCOME(1, REGISTER_DECIDED, 2);
    start(&rig, 2);
    gossip(&rig, 1, 2);
    rig.trace[0] = 0;
    change_voters(&rig, 1, "12");
    ASSERT_OUTCOME(1, REGISTER_DECIDED, 3);
    assert_non_null(strstr(rig.trace, "1>2 accept"));
    rig_deinit(&rig);
}

/* V5: 1 and 3 are a majority of 1 2 3, and none of 1 2. */
static void the_new_voters_are_asked(void **state)
{
    struct rig rig;

    rig_init(&rig, 3);
    rig.nodes[2].held = true;
    change_voters(&rig, 1, "12");
    run(&rig);
    assert_true(rig.nodes[1].accepted.len > 0 && rig.nodes[3].accepted.len > 0);
    assert_int_equal(rig.nodes[1].outcome, NONE_SEEN);
    synced(&rig, 2); /* promises, */
    run(&rig);
    assert_int_equal(rig.nodes[1].outcome, NONE_SEEN);
    synced(&rig, 2); /* and accepts */
    run(&rig);
    assert_int_equal(rig.nodes[1].outcome, REGISTER_DECIDED);
    rig_deinit(&rig);
}

/* V5: 1 and 2 are a majority of 1 2 3, and none of 1 2 3 4. */
static void the_old_voters_are_asked(void **state)
{
    struct rig rig;

    rig_init(&rig, 4);
    rig.nodes[3].held = rig.nodes[4].held = true;
    change_voters(&rig, 1, "123");
    run(&rig);
    synced(&rig, 3); /* promises */
    run(&rig);
    assert_true(rig.nodes[1].accepted.len > 0 && rig.nodes[2].accepted.len > 0);
    assert_int_equal(rig.nodes[1].outcome, NONE_SEEN);
    synced(&rig, 3);
    run(&rig);
    assert_int_equal(rig.nodes[1].outcome, REGISTER_DECIDED);
    rig_deinit(&rig);
}

/* V2: node 7 goes by voters of long ago. */
static void whoever_has_old_voters_asks_the_new_ones(void **state)
{
    struct register_stats stats;
    struct rig rig;

    rig_init(&rig, 3);
    crash(&rig, 7);
    decide(&rig, 1, "1234");
    decide(&rig, 1, "124");
    start(&rig, 7);
    change(&rig, 7, 3);
    ASSERT_OUTCOME(7, REGISTER_CONFLICT, 3);
    register_stats(rig.nodes[7].r, &stats);
    assert_in_range(stats.n_hops, 1, REGISTER_HOPS);
    change(&rig, 7, 3);
    ASSERT_OUTCOME(7, REGISTER_DECIDED, 4);
    rig_deinit(&rig);
}

/* V5 again, by somebody else: 1 and 3 are a majority of the new voters, and none of the old. */
static void who_finishes_a_change_of_voters_needs_both_majorities(void **state)
{
    struct rig rig;

    rig_init(&rig, 2);
    rig.nodes[2].held = true;
    change_voters(&rig, 1, "123");
    run(&rig);
    synced(&rig, 2);
    run(&rig);
    assert_true(rig.nodes[1].accepted.len > 0 && rig.nodes[3].accepted.len > 0);
    restart(&rig, 1); /* which began it, */
    restart(&rig, 2); /* and which has not accepted it */
    read_ring(&rig, 7);
    run(&rig);
    synced(&rig, 2); /* promises */
    rig.trace[0] = 0;
    run(&rig);
    assert_non_null(strstr(rig.trace, "1>7 accepted"));
    assert_non_null(strstr(rig.trace, "3>7 accepted"));
    assert_int_equal(rig.nodes[7].outcome, NONE_SEEN);
    synced(&rig, 2);
    run(&rig);
    assert_int_equal(rig.nodes[7].outcome, REGISTER_DECIDED);
    assert_int_equal(rig.nodes[7].epoch, 2);
    rig_deinit(&rig);
}

/* V7: what was begun by somebody else is finished first, and only then followed. */
static void nothing_follows_what_is_not_decided(void **state)
{
    struct rig rig;

    rig_init(&rig, 3);
    rig.nodes[2].held = rig.nodes[3].held = true;
    change_voters(&rig, 1, "1234");
    run(&rig);
    synced(&rig, 2);
    synced(&rig, 3);
    run(&rig); /* 1 and 4 have accepted it */
    restart(&rig, 1);
    restart(&rig, 2);
    restart(&rig, 3);
    rig.nodes[2].held = rig.nodes[3].held = false;
    crash(&rig, 3);
    change(&rig, 2, 9); /* computed from epoch 1 */
    ASSERT_OUTCOME(2, REGISTER_CONFLICT, 2);
    change_voters(&rig, 2, "124");
    ASSERT_OUTCOME(2, REGISTER_DECIDED, 3);
    rig_deinit(&rig);
}

static void voters_change_while_others_change_the_ring(void **state)
{
    static const char *const steps[] = {"1234", "234", "2345", "345", "3456", "456", "4567", "45"};
    uint32_t at = 0, n_decided = 0;
    struct rig rig;

    rig_init(&rig, 3);
    for (uint32_t k = 0; k < 400 && at < 7; k++) {
        change_voters(&rig, 1, steps[at]);
        run_some(&rig, k % 20); /* whoever is first is not always too late */
        change(&rig, 4, 4);
        change(&rig, 7, 7);
        wait_for(&rig, 1);
        wait_for(&rig, 4);
        wait_for(&rig, 7);
        at += rig.nodes[1].outcome == REGISTER_DECIDED;
        for (uint32_t n = 1; n <= 7; n += 3) {
            assert_true(rig.nodes[n].outcome == REGISTER_DECIDED ||
                        rig.nodes[n].outcome == REGISTER_CONFLICT ||
                        rig.nodes[n].outcome == REGISTER_UNKNOWN);
            n_decided += rig.nodes[n].outcome == REGISTER_DECIDED;
            read_ring(&rig, n);
            wait_for(&rig, n);
        }
        rig.trace[0] = 0;
    }
    assert_int_equal(at, 7);
    assert_true(n_decided >= 7);
    rig_deinit(&rig);
}

/* ---- what is refused ----------------------------------------------------------------------- */

static void rings_that_must_not_follow_are_refused(void **state)
{
    struct register_event event = {.type = REGISTER_CHANGE,
                                   .u.change = {.id = 1, .until_ms = 9999}};
    struct buf one = {0}, two = {0};
    struct rig rig;

    rig_init(&rig, 3);
    next_ring(&rig.nodes[1].ring, 0, NULL, &one);
    next_ring(&one, 0, NULL, &two);
    event.u.change.ring = buf_slice(&two); /* follows what is not known to be decided */
    feed(&rig, 1, event);
    assert_int_equal(rig.nodes[1].outcome, REGISTER_REFUSED);
    rig.nodes[1].outcome = NONE_SEEN;
    event.u.change.ring = slice_str("no ring at all");
    feed(&rig, 1, event);
    assert_int_equal(rig.nodes[1].outcome, REGISTER_REFUSED);
    change(&rig, 1, 3);
    ASSERT_OUTCOME(1, REGISTER_DECIDED, 2);
    rig.nodes[1].outcome = NONE_SEEN;
    event.u.change.ring = buf_slice(&two); /* its fence of partition 3 goes backward */
    feed(&rig, 1, event);
    assert_int_equal(rig.nodes[1].outcome, REGISTER_REFUSED);
    assert_string_equal(rig.nodes[1].why, "a fence version goes backward");
    buf_deinit(&one);
    buf_deinit(&two);
    rig_deinit(&rig);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(voters_are_added_and_removed_one_at_a_time),
        cmocka_unit_test(a_swap_is_refused),
        cmocka_unit_test(a_swap_is_not_accepted),
        cmocka_unit_test(a_new_voter_has_the_ring_before_the_others_are_asked),
        cmocka_unit_test(the_new_voters_are_asked),
        cmocka_unit_test(the_old_voters_are_asked),
        cmocka_unit_test(whoever_has_old_voters_asks_the_new_ones),
        cmocka_unit_test(who_finishes_a_change_of_voters_needs_both_majorities),
        cmocka_unit_test(nothing_follows_what_is_not_decided),
        cmocka_unit_test(voters_change_while_others_change_the_ring),
        cmocka_unit_test(rings_that_must_not_follow_are_refused),
    };
    return cmocka_run_group_tests_name("register_voters", tests, NULL, NULL);
}
