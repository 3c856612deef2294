/* test_purge: rounds that let tombstones go, from the driver's side: what goes and what stays, when
 * there is no round, what ends one, and what comes in while it is made. The stage is round.h.
 */
#include "server/core/floor.h"
#include "server/core/purge.h"
#include "tests/unit/round.h"

/* ---- what goes ----------------------------------------------------------------------------- */

static void old_tombstones_go_and_nothing_else(void **state)
{
    struct round r;

    round_init(&r, 0);
    for (uint32_t k = 0; k < 15; k++)
        round_write_all(&r, k, k < 10 ? OLD_MS : 0, k < 5 || k >= 10 ? NULL : "v");
    cluster_start(r.c);
    round_end(&r); /* its turn comes by itself */
    assert_int_equal(round_n_closed(&r), 1);
    assert_int_equal(round_n_abandoned(&r), 0);
    for (uint32_t k = 0; k < 15; k++)
        round_assert_all(&r, k, k < 5 ? NOTHING : k < 10 ? VALUE : TOMBSTONE);
    for (uint32_t i = 0; i < N_NODES; i++) {
        assert_true(round_closed(&r, i) == r.floor);
        assert_true(round_opened(&r, i) == r.floor);
    }
    assert_true(version_wall_ms(r.floor) <= r.c->wall_ms - AGE_MS);
    assert_int_equal(r.c->n_purges, N_NODES);
    round_end(&r); /* when the rest is old enough */
    for (uint32_t k = 0; k < 15; k++)
        round_assert_all(&r, k, k >= 5 && k < 10 ? VALUE : NOTHING);
    assert_true(cluster_is_equal(r.c));
    round_deinit(&r);
}

/* One in so many records, or a day. */
static void few_tombstones_are_not_worth_a_round(void **state)
{
    struct round r;

    round_init(&r, 0);
    for (uint32_t k = 0; k < PURGE_SHARE + 1; k++)
        round_write_all(&r, k, OLD_MS, k == 0 ? NULL : "v");
    round_start(&r);
    for (uint32_t n = 1; n < PURGE_PERIODS_MAX; n++)
        round_begin(&r);
    assert_int_equal(r.n_asked[PURGE_OPEN], 0);
    round_begin(&r);
    round_end(&r);
    assert_int_equal(round_n_closed(&r), 1);
    round_assert_all(&r, 0, NOTHING);
    round_deinit(&r);
}

static void one_slot_agrees_with_itself(void **state)
{
    struct round r;

    round_init(&r, 1);
    round_write_all(&r, 0, OLD_MS, NULL);
    round_write_all(&r, 1, OLD_MS, "v");
    round_write_all(&r, 2, 0, NULL);
    round_start(&r);
    round_make(&r);
    assert_int_equal(round_n_closed(&r), 1);
    assert_int_equal(r.c->n_sent[PEER_PURGE], 0);
    round_assert_all(&r, 0, NOTHING);
    round_assert_all(&r, 1, VALUE);
    round_assert_all(&r, 2, TOMBSTONE);
    round_deinit(&r);
}

/* ---- when there is no round ---------------------------------------------------------------- */

static void assert_no_round(struct round *r)
{
    round_make(r);
    cluster_pass(r->c, 100);
    assert_int_equal(r->n_asked[PURGE_OPEN], 0);
    assert_int_equal(round_n_closed(r) + round_n_abandoned(r), 0);
}

static void assert_round(struct round *r)
{
    round_make(r);
    assert_int_equal(round_n_closed(r), 1);
    round_assert_all(r, 0, NOTHING);
}

static void a_round_waits_for_a_slot_that_is_down(void **state)
{
    for (uint32_t slot = 1; slot < N_NODES; slot++) {
        struct round r;

        round_init(&r, 0);
        round_write_all(&r, 0, OLD_MS, NULL);
        round_start(&r);
        cluster_tell_links(r.c, round_node(&r, slot), false);
        assert_no_round(&r);
        cluster_tell_links(r.c, round_node(&r, slot), true);
        assert_round(&r);
        round_deinit(&r);
    }
}

static void a_round_waits_for_a_slot_that_is_being_filled(void **state)
{
    struct round r;

    round_init(&r, 0);
    round_write_all(&r, 0, OLD_MS, NULL);
    round_start(&r);
    cluster_change_slot(r.c, r.p, 2, SLOT_JOINING, 1000, r.entry.fence + 1);
    cluster_publish_all(r.c);
    assert_no_round(&r);
    cluster_change_slot(r.c, r.p, 2, SLOT_READY, 1000, r.entry.fence + 2);
    cluster_publish_all(r.c);
    assert_round(&r);
    round_deinit(&r);
}

static void a_round_waits_for_the_clock(void **state)
{
    struct round r;

    round_init(&r, 0);
    round_write_all(&r, 0, OLD_MS, NULL);
    round_start(&r);
    cluster_judge_clock(r.c, 0, false);
    assert_no_round(&r);
    cluster_judge_clock(r.c, 0, true);
    assert_round(&r);
    round_deinit(&r);
}

/* ---- rounds that are given up -------------------------------------------------------------- */

static void a_slot_that_does_not_answer_ends_the_round(void **state)
{
    static const enum wire_purge_step steps[] = {PURGE_OPEN, PURGE_LIST, PURGE_FREEZE};

    for (uint32_t i = 0; i < ARRAY_LEN(steps) * 2; i++) {
        struct round r;

        round_init(&r, 0);
        round_write_all(&r, 0, OLD_MS, NULL);
        round_start(&r);
        r.faults[0] = (struct round_fault){.fate = CLUSTER_LOSE,
                                           .type = PEER_PURGE,
                                           .step = steps[i / 2],
                                           .from = ALL,
                                           .to = round_node(&r, 1 + i % 2),
                                           .n = 1};
        round_make(&r);
        assert_int_equal(r.faults[0].n, 0);
        assert_int_equal(round_n_abandoned(&r), 1);
        assert_int_equal(r.n_asked[PURGE_CLOSE], 0);
        round_assert_all(&r, 0, TOMBSTONE);
        assert_round(&r);
        round_deinit(&r);
    }
}

/* The ring changes while the last list is on its way. */
static void begin_and_hold_a_list(struct round *r)
{
    round_init(r, 0);
    round_write_all(r, 0, OLD_MS, NULL);
    round_start(r);
    r->faults[0] = (struct round_fault){.fate = CLUSTER_HOLD,
                                        .type = PEER_PURGE_REPLY,
                                        .step = PURGE_LIST,
                                        .from = round_node(r, 2),
                                        .to = 0,
                                        .n = 1};
    round_begin(r);
    assert_int_equal(r->c->n_held, 1);
}

static void another_entry_ends_the_round(void **state)
{
    for (uint32_t i = 0; i < 2; i++) {
        struct round r;

        begin_and_hold_a_list(&r);
        cluster_change_slot(r.c, r.p, 2, SLOT_READY, i == 0 ? r.entry.slots[2].incarnation : 1000,
                            i == 0 ? r.entry.fence + 1 : r.entry.fence);
        cluster_publish_all(r.c);
        cluster_release(r.c);
        assert_int_equal(round_n_abandoned(&r), 1);
        assert_int_equal(r.n_asked[PURGE_FREEZE], 0);
        round_assert_all(&r, 0, TOMBSTONE);
        assert_round(&r);
        round_deinit(&r);
    }
}

static void the_entry_of_another_partition_does_not(void **state)
{
    struct ring_entry entry;
    struct round r;

    begin_and_hold_a_list(&r);
    ring_lookup(r.c->ring, r.p + 1, &entry);
    cluster_change_slot(r.c, r.p + 1, 2, SLOT_READY, 1000, entry.fence + 1);
    cluster_publish_all(r.c);
    cluster_release(r.c);
    round_end(&r);
    assert_int_equal(round_n_closed(&r), 1);
    round_assert_all(&r, 0, NOTHING);
    round_deinit(&r);
}

static void partitions_that_are_split_end_the_round(void **state)
{
    struct round r;

    begin_and_hold_a_list(&r);
    r.c->options.n_partitions = 256;
    cluster_make_ring(r.c, 2);
    cluster_publish_all(r.c);
    assert_int_equal(round_n_abandoned(&r), 1);
    cluster_release(r.c);
    assert_int_equal(round_n_closed(&r), 0);
    assert_int_equal(r.n_asked[PURGE_FREEZE], 0);
    round_deinit(&r);
}

/* ---- slots that differ --------------------------------------------------------------------- */

/* Found out by the round, so that no comparison has had time to mend it. */
static void differ_at_once(struct round *r, enum wire_purge_step step)
{
    if (step != PURGE_OPEN || r->n_written++ > 0)
        return;
    round_write(r, 0, 10, OLD_MS, "v");
    round_write(r, 1, 10, OLD_MS, "v");
    round_write(r, 2, 11, OLD_MS, NULL);
    round_write(r, 1, 12, OLD_MS, "v"); /* deleted elsewhere */
    round_write(r, 0, 12, OLD_MS / 2, NULL);
    round_write(r, 2, 12, OLD_MS / 2, NULL);
}

static void slots_that_differ_are_mended_and_the_round_closes(void **state)
{
    struct round r;
    uint64_t began_ms;

    round_init(&r, 0);
    round_write_all(&r, 0, OLD_MS, NULL);
    round_start(&r);
    r.on_question = differ_at_once;
    began_ms = r.c->now_ms;
    round_make(&r);
    assert_int_equal(round_n_closed(&r), 1);
    assert_int_equal(round_n_abandoned(&r), 0);
    /* Long before the next round of comparisons. */
    assert_in_range(r.c->now_ms - began_ms, PURGE_AGAIN_MS, 8 * PURGE_AGAIN_MS);
    round_assert_all(&r, 0, NOTHING);
    round_assert_all(&r, 10, VALUE);
    round_assert_all(&r, 11, NOTHING);
    round_assert_all(&r, 12, NOTHING);
    assert_true(cluster_is_equal(r.c));
    round_deinit(&r);
}

static void slots_that_go_on_differing_end_the_round(void **state)
{
    struct round r;

    round_init(&r, 0);
    round_write_all(&r, 0, OLD_MS, NULL);
    round_start(&r);
    r.on_question = differ_at_once;
    r.faults[0] = (struct round_fault){
        .fate = CLUSTER_LOSE, .type = PEER_PULL, .from = ALL, .to = ALL, .n = ALL};
    round_make(&r);
    assert_int_equal(round_n_abandoned(&r), 1);
    assert_int_equal(r.n_asked[PURGE_FREEZE], 0);
    round_assert_all(&r, 0, TOMBSTONE);
    round_deinit(&r);
}

/* Something new with each question: beside a tombstone, over one, and on one slot only. */
static void write_above(struct round *r, enum wire_purge_step step)
{
    (void)step;
    round_write(r, r->n_written % N_NODES, 20 + r->n_written, 0, "new");
    round_write(r, (r->n_written + 1) % N_NODES, 1 + r->n_written % 4, 0, "new");
    r->n_written++;
}

static void writes_above_the_floor_do_not_stop_a_round(void **state)
{
    struct round r;

    round_init(&r, 0);
    for (uint32_t k = 0; k < 5; k++)
        round_write_all(&r, k, OLD_MS, NULL);
    round_start(&r);
    r.on_question = write_above;
    round_make(&r);
    assert_true(r.n_written > 6);
    assert_int_equal(round_n_closed(&r), 1);
    assert_int_equal(round_n_abandoned(&r), 0);
    /* Once all, once some leaves: what differs there lies above the floor. Or all again, where
     * another leaf had come to differ; but nothing had to be mended. */
    assert_in_range(r.n_asked[PURGE_LIST], 4, 12);
    round_assert_all(&r, 0, NOTHING);
    for (uint32_t i = 0; i < N_NODES; i++)
        for (uint32_t k = 1; k < 5; k++)
            assert_int_not_equal(round_held(&r, i, k), TOMBSTONE);
    round_deinit(&r);
}

/* ---- what comes in meanwhile --------------------------------------------------------------- */

/* Slot 1 has asked for a record that it lacked, and the answer is on its way; since then the key
 * was deleted everywhere. */
static void hold_a_pull(struct round *r)
{
    struct event e = {.type = EVENT_REMADE, .u.remade.range = {0, UINT64_MAX}};

    round_init(r, 0);
    round_write_all(r, 0, OLD_MS, NULL);
    round_start(r);
    r->faults[0] = (struct round_fault){
        .fate = CLUSTER_HOLD, .type = PEER_PULL_REPLY, .from = ALL, .to = round_node(r, 1), .n = 1};
    round_write(r, 0, 7, OLD_MS, "v");
    round_write(r, 2, 7, OLD_MS, "v");
    cluster_step(r->c, round_node(r, 1), &e);
    for (uint32_t ms = 0; ms < 2000 && r->c->n_held == 0; ms += 20)
        cluster_pass(r->c, 20);
    assert_int_equal(r->c->n_held, 1);
    round_write_all(r, 7, OLD_MS / 2, NULL);
}

static void hold_an_answer(struct round *r, enum wire_purge_step step)
{
    r->faults[1] = (struct round_fault){.fate = CLUSTER_HOLD,
                                        .type = PEER_PURGE_REPLY,
                                        .step = step,
                                        .from = round_node(r, 2),
                                        .to = 0,
                                        .n = 1};
}

static void what_enters_after_the_list_repeats_the_round(void **state)
{
    struct round r;

    hold_a_pull(&r);
    hold_an_answer(&r, PURGE_LIST);
    round_begin(&r);
    assert_int_equal(r.c->n_held, 2);
    cluster_release(r.c); /* the record enters, and then the last list comes */
    assert_int_equal(round_pulled(&r, 1), 1);
    round_end(&r);
    assert_int_equal(round_n_closed(&r), 1);
    assert_int_equal(r.n_asked[PURGE_OPEN], 2);
    assert_int_equal(r.n_asked[PURGE_LIST], 4);
    assert_int_equal(r.n_asked[PURGE_FREEZE], 4);
    round_assert_all(&r, 0, NOTHING);
    round_assert_all(&r, 7, NOTHING);
    round_deinit(&r);
}

static void what_comes_after_the_freeze_is_dropped(void **state)
{
    struct round r;

    hold_a_pull(&r);
    round_make(&r);
    assert_int_equal(round_n_closed(&r), 1);
    assert_int_equal(r.n_asked[PURGE_FREEZE], 2);
    round_assert_all(&r, 7, NOTHING);
    cluster_release(r.c);
    cluster_pass(r.c, 1000);
    assert_int_equal(round_pulled(&r, 1), 0);
    round_assert_all(&r, 7, NOTHING);
    round_deinit(&r);
}

static void what_comes_to_a_frozen_slot_is_dropped(void **state)
{
    struct round r;

    hold_a_pull(&r);
    assert_int_equal(round_ask(&r, 1, PURGE_OPEN, round_hlc(&r, AGE_MS)), 0);
    assert_int_equal(round_ask(&r, 1, PURGE_FREEZE, round_hlc(&r, AGE_MS)), 0);
    cluster_release(r.c);
    assert_int_equal(round_pulled(&r, 1), 0);
    round_deinit(&r);
}

/* What it lacks it takes in again, for its driver may be gone. */
static void a_frozen_slot_thaws_by_itself(void **state)
{
    struct event e = {.type = EVENT_REMADE, .u.remade.range = {0, UINT64_MAX}};
    struct round r;

    round_init(&r, 0);
    round_start(&r);
    assert_int_equal(round_ask(&r, 1, PURGE_OPEN, round_hlc(&r, AGE_MS)), 0);
    assert_int_equal(round_ask(&r, 1, PURGE_FREEZE, round_hlc(&r, AGE_MS)), 0);
    round_write(&r, 0, 7, OLD_MS, "v");
    round_write(&r, 2, 7, OLD_MS, "v");
    cluster_step(r.c, round_node(&r, 1), &e);
    cluster_pass(r.c, FLOOR_FREEZE_MS - 100);
    assert_int_equal(round_held(&r, 1, 7), NOTHING);
    cluster_pass(r.c, 100 + 1000);
    assert_int_equal(round_held(&r, 1, 7), VALUE);
    round_deinit(&r);
}

static void a_slot_that_has_closed_thaws_at_once(void **state)
{
    struct event e = {.type = EVENT_REMADE, .u.remade.range = {0, UINT64_MAX}};
    struct round r;

    round_init(&r, 0);
    round_start(&r);
    assert_int_equal(round_ask(&r, 1, PURGE_OPEN, round_hlc(&r, AGE_MS)), 0);
    assert_int_equal(round_ask(&r, 1, PURGE_FREEZE, round_hlc(&r, AGE_MS)), 0);
    assert_int_equal(round_ask(&r, 1, PURGE_CLOSE, round_hlc(&r, AGE_MS)), 0);
    round_write(&r, 0, 7, AGE_MS - 1000, "v");
    round_write(&r, 2, 7, AGE_MS - 1000, "v");
    cluster_step(r.c, round_node(&r, 1), &e);
    cluster_pass(r.c, FLOOR_FREEZE_MS / 2);
    assert_int_equal(round_held(&r, 1, 7), VALUE);
    round_deinit(&r);
}

/* A purge is in no log, so a crash may undo it. */
static void a_tombstone_that_came_back_holds_up_no_round(void **state)
{
    struct round r;

    round_init(&r, 0);
    round_write_all(&r, 0, OLD_MS, NULL);
    round_start(&r);
    round_make(&r);
    assert_int_equal(round_n_closed(&r), 1);
    round_assert_all(&r, 0, NOTHING);
    round_write(&r, 1, 0, OLD_MS, NULL);
    round_write_all(&r, 1, OLD_MS, NULL);
    cluster_pass(r.c, 100);
    round_make(&r);
    assert_int_equal(round_n_closed(&r), 2);
    assert_int_equal(r.n_asked[PURGE_FREEZE], 4);
    round_assert_all(&r, 0, NOTHING);
    round_assert_all(&r, 1, NOTHING);
    round_deinit(&r);
}

/* ---- two drivers --------------------------------------------------------------------------- */

/* By another driver, with a floor of its own, while ours waits for a list. */
static void two_rounds_side_by_side_do_no_harm(void **state)
{
    uint64_t floor, ours, digest = 0;
    struct round r;

    begin_and_hold_a_list(&r);
    ours = r.floor;
    round_write_all(&r, 1, AGE_MS - 500, NULL); /* above our floor, below the other's */
    round_write_all(&r, 2, 0, NULL);
    round_write_all(&r, 3, OLD_MS, "v");
    floor = round_hlc(&r, AGE_MS - 1000);
    round_ask_all(&r, PURGE_OPEN, floor);
    for (uint32_t i = 0; i < N_NODES; i++) {
        uint64_t sum = 0;

        assert_int_equal(round_ask(&r, i, PURGE_LIST, floor), 0);
        for (size_t k = 0; k < r.c->hand.u.purge_reply.n_digests; k++)
            sum ^= r.c->hand.u.purge_reply.digests[k];
        assert_true(i == 0 || sum == digest);
        digest = sum;
    }
    round_ask_all(&r, PURGE_FREEZE, floor);
    round_ask_all(&r, PURGE_CLOSE, floor);
    cluster_pass(r.c, 20);
    round_assert_all(&r, 0, NOTHING);
    cluster_release(r.c);
    round_end(&r);
    assert_int_equal(round_n_closed(&r), 1);
    for (uint32_t i = 0; i < N_NODES; i++) {
        assert_true(round_opened(&r, i) == floor && floor > ours);
        assert_true(round_closed(&r, i) == floor);
    }
    round_assert_all(&r, 1, NOTHING);
    round_assert_all(&r, 2, TOMBSTONE);
    round_assert_all(&r, 3, VALUE);
    round_deinit(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(old_tombstones_go_and_nothing_else),
        cmocka_unit_test(few_tombstones_are_not_worth_a_round),
        cmocka_unit_test(one_slot_agrees_with_itself),
        cmocka_unit_test(a_round_waits_for_a_slot_that_is_down),
        cmocka_unit_test(a_round_waits_for_a_slot_that_is_being_filled),
        cmocka_unit_test(a_round_waits_for_the_clock),
        cmocka_unit_test(a_slot_that_does_not_answer_ends_the_round),
        cmocka_unit_test(another_entry_ends_the_round),
        cmocka_unit_test(the_entry_of_another_partition_does_not),
        cmocka_unit_test(partitions_that_are_split_end_the_round),
        cmocka_unit_test(slots_that_differ_are_mended_and_the_round_closes),
        cmocka_unit_test(slots_that_go_on_differing_end_the_round),
        cmocka_unit_test(writes_above_the_floor_do_not_stop_a_round),
        cmocka_unit_test(what_enters_after_the_list_repeats_the_round),
        cmocka_unit_test(what_comes_after_the_freeze_is_dropped),
        cmocka_unit_test(what_comes_to_a_frozen_slot_is_dropped),
        cmocka_unit_test(a_frozen_slot_thaws_by_itself),
        cmocka_unit_test(a_slot_that_has_closed_thaws_at_once),
        cmocka_unit_test(a_tombstone_that_came_back_holds_up_no_round),
        cmocka_unit_test(two_rounds_side_by_side_do_no_harm),
    };

    return cmocka_run_group_tests_name("purge", tests, NULL, NULL);
}
