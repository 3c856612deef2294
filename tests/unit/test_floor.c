/* test_floor: purge floors of the slots of a small cluster: what requests below them come to, that
 * they last, and questions of a round that a slot refuses. Floors are opened and closed by hand
 * here, slot by slot; how they come to grow is test_purge's. The stage is round.h.
 */
#include "server/core/floor.h"
#include "tests/unit/round.h"

/* ---- requests below a floor ---------------------------------------------------------------- */

static void a_late_put_is_refused_by_the_floor(void **state)
{
    struct wire_peer msg = {.type = PEER_PUT};
    uint64_t floor;
    char text[32];
    struct round r;

    round_init(&r, 0);
    round_write_all(&r, 1, OLD_MS, "v");
    round_start(&r);
    floor = round_hlc(&r, AGE_MS);
    assert_int_equal(round_ask(&r, 1, PURGE_OPEN, floor), 0);
    for (uint32_t k = 0; k < 2; k++) { /* one that it lacks, and one that it has, but older */
        msg.u.put.key = round_key(&r, k, text);
        msg.u.put.state =
            (struct state){.kind = STATE_LWW, .version = {floor, 9}, .value = slice_str("late")};
        msg.u.put.first_hand = true;
        cluster_ask(r.c, r.p, 1, &msg);
        assert_int_equal(r.c->hand.error, 0);
        assert_int_equal(r.c->hand.u.put_reply.outcome, OUTCOME_SUPERSEDED_FLOOR);
        assert_true(r.c->hand.u.put_reply.version.hlc == floor);
        msg.u.put.first_hand = false;
        cluster_ask(r.c, r.p, 1, &msg);
        assert_int_equal(r.c->hand.u.put_reply.outcome, OUTCOME_SUPERSEDED_FLOOR);
    }
    assert_int_equal(round_held(&r, 1, 0), NOTHING);
    cluster_assert_holds(r.c, round_node(&r, 1), round_key(&r, 1, text), "v");
    msg.u.put.state.version.hlc = floor + 1;
    cluster_ask(r.c, r.p, 1, &msg);
    assert_int_equal(r.c->hand.u.put_reply.outcome, OUTCOME_STORED);
    round_deinit(&r);
}

/* Stamped before the floor, on its way until after. */
static void a_put_below_the_floor_is_stamped_anew(void **state)
{
    struct wire_request req = {.op = OP_PUT, .level = LEVEL_QUORUM, .value = slice_str("late")};
    struct worker_stats stats;
    uint64_t floor;
    char text[32];
    struct round r;

    round_init(&r, 0);
    round_start(&r);
    r.faults[0] = (struct round_fault){
        .fate = CLUSTER_HOLD, .type = PEER_PUT, .from = ALL, .to = ALL, .n = 2};
    req.key = round_key(&r, 0, text);
    cluster_request(r.c, 0, &req);
    assert_int_equal(r.c->n_held, 2);
    cluster_pass(r.c, CLUSTER_TICK_MS);
    floor = round_hlc(&r, 0);
    round_ask_all(&r, PURGE_OPEN, floor);
    cluster_release(r.c);
    cluster_await_answer(r.c);
    assert_int_equal(r.c->answer.error, 0);
    assert_true(r.c->answer.version.hlc > floor);
    worker_stats(r.c->workers[0], &stats);
    assert_int_equal(stats.n_restamped, 1);
    cluster_pass(r.c, 100);
    for (uint32_t i = 0; i < N_NODES; i++) {
        cluster_assert_holds(r.c, i, req.key, "late");
        assert_int_equal(
            version_compare(cluster_state(r.c, i, req.key).version, r.c->answer.version), 0);
    }
    round_deinit(&r);
}

/* Slot 2 is away, no comparison mends anything, and slots 0 and 1 differ in key 0. */
static void leave_two(struct round *r)
{
    round_init(r, 0);
    round_start(r);
    r->faults[0] = (struct round_fault){
        .fate = CLUSTER_LOSE, .type = PEER_PULL, .from = ALL, .to = ALL, .n = ALL};
    cluster_tell_links(r->c, round_node(r, 2), false);
}

static int get_error(struct round *r, uint32_t number, enum wire_level level)
{
    struct wire_request req = {.op = OP_GET, .level = level};
    char text[32];

    req.key = round_key(r, number, text);
    cluster_request(r->c, 0, &req);
    cluster_await_answer(r->c);
    return r->c->answer.error;
}

static void get(struct round *r, uint32_t number, enum wire_level level)
{
    assert_int_equal(get_error(r, number, level), 0);
}

static void assert_fetched_below_the_floor(uint32_t holder, const char *value)
{
    struct round r;

    leave_two(&r);
    round_write(&r, holder, 0, OLD_MS, value);
    for (uint32_t i = 0; i < 2; i++)
        assert_int_equal(round_ask(&r, i, PURGE_OPEN, round_hlc(&r, AGE_MS)), 0);
    get(&r, 0, LEVEL_QUORUM);
    assert_int_equal(r.c->answer.found, value != NULL);
    assert_string_equal(r.c->answer.value, value ? value : "");
    assert_int_equal(r.c->answer.replicas, 2);
    for (uint32_t i = 0; i < 2; i++)
        assert_int_equal(round_held(&r, i, 0), value ? VALUE : TOMBSTONE);
    round_deinit(&r);
}

static void what_must_not_be_pushed_is_fetched(void **state)
{
    for (uint32_t holder = 0; holder < 2; holder++) {
        assert_fetched_below_the_floor(holder, "v");
        assert_fetched_below_the_floor(holder, NULL);
    }
}

/* Whoever has closed over it has had it. */
static void a_closed_floor_stands_for_a_tombstone(void **state)
{
    struct wire_peer msg = {.type = PEER_PUT};
    struct round r;
    uint64_t n_puts;
    char text[32];

    leave_two(&r);
    round_write(&r, 0, 0, OLD_MS, NULL);
    assert_int_equal(round_ask(&r, 1, PURGE_OPEN, round_hlc(&r, AGE_MS)), 0);
    assert_int_equal(round_ask(&r, 1, PURGE_CLOSE, round_hlc(&r, AGE_MS)), 0);
    cluster_pass(r.c, 20);
    n_puts = r.c->n_sent[PEER_PUT];
    get(&r, 0, LEVEL_QUORUM);
    assert_false(r.c->answer.found);
    assert_int_equal(r.c->n_sent[PEER_PUT], n_puts);
    msg.u.put.key = round_key(&r, 0, text); /* by whoever has read before it was closed */
    msg.u.put.state = cluster_state(r.c, round_node(&r, 0), msg.u.put.key);
    msg.u.put.source = 1;
    cluster_ask(r.c, r.p, 1, &msg);
    assert_int_equal(r.c->hand.error, 0);
    assert_int_equal(r.c->hand.u.put_reply.outcome, OUTCOME_DUPLICATE);
    assert_int_equal(round_held(&r, 1, 0), NOTHING);
    round_deinit(&r);
}

static size_t scan(struct round *r)
{
    struct wire_request req = {.op = OP_SCAN, .level = LEVEL_QUORUM};

    req.u.scan.partition = r->p;
    req.u.scan.n_partitions = r->c->options.n_partitions;
    cluster_request(r->c, 0, &req);
    cluster_await_answer(r->c);
    return r->c->answer.n_records;
}

static void a_value_below_a_closed_floor_is_not_served(void **state)
{
    for (uint32_t holder = 0; holder < 2; holder++) {
        struct round r;

        leave_two(&r);
        round_write(&r, holder, 0, OLD_MS, "v");
        round_write(&r, holder, 1, 0, "young");
        assert_int_equal(round_ask(&r, 1 - holder, PURGE_OPEN, round_hlc(&r, AGE_MS)), 0);
        assert_int_equal(scan(&r), 2); /* it is only opened */
        assert_int_equal(round_ask(&r, 1 - holder, PURGE_CLOSE, round_hlc(&r, AGE_MS)), 0);
        cluster_pass(r.c, 20);
        assert_true(round_closed(&r, 1 - holder) > 0);
        assert_int_equal(scan(&r), 0); /* one of the two has lost its memory */
        assert_int_equal(r.c->answer.error, ERR_CORRUPT);
        assert_int_equal(get_error(&r, 0, LEVEL_QUORUM), ERR_CORRUPT);
        get(&r, 1, LEVEL_QUORUM);
        assert_true(r.c->answer.found);
        assert_int_equal(round_held(&r, 1 - holder, 0), NOTHING); /* not brought back */
        round_deinit(&r);
    }
}

/* ---- what lasts ---------------------------------------------------------------------------- */

static void a_floor_is_open_once_that_is_on_disk(void **state)
{
    struct wire_peer msg = {.type = PEER_PURGE};
    uint32_t node;
    struct round r;

    round_init(&r, 0);
    round_start(&r);
    node = round_node(&r, 1);
    r.c->hung[node] = true;
    msg.u.purge.step = PURGE_OPEN;
    msg.u.purge.floor = round_hlc(&r, AGE_MS);
    cluster_ask(r.c, r.p, 1, &msg);
    assert_int_equal(r.c->hand.type, 0);
    assert_true(round_opened(&r, 1) == msg.u.purge.floor); /* it refuses already */
    cluster_sync(r.c, node);
    assert_int_equal(r.c->hand.type, PEER_PURGE_REPLY);
    assert_int_equal(r.c->hand.error, 0);
    round_deinit(&r);
}

static void floors_are_there_after_a_restart(void **state)
{
    uint64_t opened, closed;
    struct round r;

    round_init(&r, 0);
    round_write_all(&r, 0, OLD_MS, NULL);
    round_start(&r);
    round_make(&r);
    closed = r.floor;
    cluster_pass(r.c, 1000);
    opened = round_hlc(&r, AGE_MS);
    round_ask_all(&r, PURGE_OPEN, opened);
    /* Or it would learn what is closed from the others. */
    r.faults[0] = (struct round_fault){
        .fate = CLUSTER_LOSE, .type = PEER_COMPARE, .from = ALL, .to = ALL, .n = ALL};
    for (uint32_t i = 0; i < N_NODES; i++) {
        cluster_restart(r.c, round_node(&r, i));
        assert_true(round_opened(&r, i) == opened);
        assert_true(round_closed(&r, i) == closed);
    }
    round_write_all(&r, 1, OLD_MS, NULL);
    round_make(&r); /* and they grow again */
    assert_int_equal(round_n_closed(&r), 1);
    for (uint32_t i = 0; i < N_NODES; i++)
        assert_true(round_closed(&r, i) == r.floor && r.floor > opened);
    round_assert_all(&r, 1, NOTHING);
    round_deinit(&r);
}

/* Whoever remembers how many records had entered sees that the slot does not. */
static void a_slot_that_starts_again_counts_anew(void **state)
{
    struct round r;
    uint64_t entered;

    round_init(&r, 0);
    round_start(&r);
    assert_int_equal(round_ask(&r, 1, PURGE_OPEN, round_hlc(&r, AGE_MS)), 0);
    assert_int_equal(round_ask(&r, 1, PURGE_LIST, round_hlc(&r, AGE_MS)), 0);
    entered = r.c->hand.u.purge_reply.entered;
    assert_int_equal(round_ask(&r, 1, PURGE_FREEZE, round_hlc(&r, AGE_MS)), 0);
    assert_true(r.c->hand.u.purge_reply.entered == entered);
    cluster_restart(r.c, round_node(&r, 1));
    assert_int_equal(round_ask(&r, 1, PURGE_FREEZE, round_hlc(&r, AGE_MS)), 0);
    assert_true(r.c->hand.u.purge_reply.entered != entered);
    round_deinit(&r);
}

static void a_slot_that_missed_the_end_learns_it_by_comparison(void **state)
{
    for (uint32_t slot = 1; slot < N_NODES; slot++) {
        struct round r;

        round_init(&r, 0);
        round_write_all(&r, 0, OLD_MS, NULL);
        round_start(&r);
        r.faults[0] = (struct round_fault){.fate = CLUSTER_LOSE,
                                           .type = PEER_PURGE,
                                           .step = PURGE_CLOSE,
                                           .from = ALL,
                                           .to = round_node(&r, slot),
                                           .n = 1};
        round_make(&r);
        assert_int_equal(round_n_closed(&r), 1);
        assert_true(round_opened(&r, slot) == r.floor);
        cluster_pass(r.c, 2 * CLUSTER_COMPARE_MS);
        assert_true(round_closed(&r, slot) == r.floor);
        assert_int_equal(r.n_asked[PURGE_OPEN], 2);
        round_assert_all(&r, 0, NOTHING);
        round_deinit(&r);
    }
}

/* Which never opened that floor: it may still take in what lies below. */
static void a_slot_that_did_not_open_it_does_not_adopt_a_floor(void **state)
{
    struct round r;

    round_init(&r, 0);
    round_write_all(&r, 0, OLD_MS, "v"); /* there is no round */
    round_start(&r);
    for (uint32_t i = 0; i < 2; i++) {
        assert_int_equal(round_ask(&r, i, PURGE_OPEN, round_hlc(&r, AGE_MS)), 0);
        assert_int_equal(round_ask(&r, i, PURGE_CLOSE, round_hlc(&r, AGE_MS)), 0);
    }
    cluster_pass(r.c, 2 * CLUSTER_COMPARE_MS);
    assert_true(round_closed(&r, 0) > 0 && round_closed(&r, 1) > 0);
    assert_true(round_opened(&r, 2) == 0 && round_closed(&r, 2) == 0);
    round_deinit(&r);
}

/* ---- questions that make no sense ---------------------------------------------------------- */

static void a_floor_in_the_future_is_refused(void **state)
{
    struct round r;

    round_init(&r, 0);
    round_start(&r);
    assert_int_equal(round_ask(&r, 1, PURGE_OPEN, round_hlc(&r, (uint64_t)0 - 1)), ERR_CLOCK);
    assert_true(round_opened(&r, 1) == 0);
    assert_int_equal(round_ask(&r, 1, PURGE_OPEN, round_hlc(&r, 0)), 0);
    assert_true(round_opened(&r, 1) == round_hlc(&r, 0));
    round_deinit(&r);
}

static void a_floor_does_not_fall(void **state)
{
    struct round r;

    round_init(&r, 0);
    round_start(&r);
    assert_int_equal(round_ask(&r, 1, PURGE_OPEN, round_hlc(&r, 10)), 0);
    assert_int_equal(round_ask(&r, 1, PURGE_OPEN, round_hlc(&r, 20)), 0);
    assert_true(round_opened(&r, 1) == round_hlc(&r, 10));
    cluster_restart(r.c, round_node(&r, 1));
    assert_true(round_opened(&r, 1) == round_hlc(&r, 10));
    round_deinit(&r);
}

static void nothing_is_done_above_the_opened_floor(void **state)
{
    struct round r;

    round_init(&r, 0);
    round_start(&r);
    assert_int_equal(round_ask(&r, 1, PURGE_OPEN, round_hlc(&r, AGE_MS)), 0);
    for (enum wire_purge_step step = PURGE_LIST; step <= PURGE_CLOSE; step++) {
        assert_int_equal(round_ask(&r, 1, step, round_hlc(&r, AGE_MS) + 1), ERR_BAD_REQUEST);
        assert_int_equal(round_ask(&r, 1, step, round_hlc(&r, AGE_MS)), 0);
    }
    cluster_pass(r.c, 20);
    assert_true(round_closed(&r, 1) == round_hlc(&r, AGE_MS + 20));
    round_deinit(&r);
}

static void leaves_lie_in_the_partition(void **state)
{
    uint32_t n_leaves = (1u << STORE_LEAF_BITS) / 64;
    uint32_t leaves[] = {0, n_leaves - 1};
    struct wire_peer msg = {.type = PEER_PURGE};
    struct round r;

    round_init(&r, 0);
    round_start(&r);
    assert_int_equal(round_ask(&r, 1, PURGE_OPEN, round_hlc(&r, AGE_MS)), 0);
    assert_int_equal(round_ask(&r, 1, PURGE_LIST, round_hlc(&r, AGE_MS)), 0);
    assert_int_equal(r.c->hand.u.purge_reply.n_digests, n_leaves);
    msg.u.purge.step = PURGE_LIST;
    msg.u.purge.floor = round_hlc(&r, AGE_MS);
    msg.u.purge.leaves = leaves;
    msg.u.purge.n_leaves = 2;
    cluster_ask(r.c, r.p, 1, &msg);
    assert_int_equal(r.c->hand.error, 0);
    assert_int_equal(r.c->hand.u.purge_reply.n_digests, 2);
    leaves[1]++;
    cluster_ask(r.c, r.p, 1, &msg);
    assert_int_equal(r.c->hand.type, PEER_PURGE_REPLY);
    assert_int_equal(r.c->hand.error, ERR_BAD_REQUEST);
    round_deinit(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_late_put_is_refused_by_the_floor),
        cmocka_unit_test(a_put_below_the_floor_is_stamped_anew),
        cmocka_unit_test(what_must_not_be_pushed_is_fetched),
        cmocka_unit_test(a_closed_floor_stands_for_a_tombstone),
        cmocka_unit_test(a_value_below_a_closed_floor_is_not_served),
        cmocka_unit_test(a_floor_is_open_once_that_is_on_disk),
        cmocka_unit_test(floors_are_there_after_a_restart),
        cmocka_unit_test(a_slot_that_starts_again_counts_anew),
        cmocka_unit_test(a_slot_that_missed_the_end_learns_it_by_comparison),
        cmocka_unit_test(a_slot_that_did_not_open_it_does_not_adopt_a_floor),
        cmocka_unit_test(a_floor_in_the_future_is_refused),
        cmocka_unit_test(a_floor_does_not_fall),
        cmocka_unit_test(nothing_is_done_above_the_opened_floor),
        cmocka_unit_test(leaves_lie_in_the_partition),
    };

    return cmocka_run_group_tests_name("floor", tests, NULL, NULL);
}
