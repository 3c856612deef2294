/* Stories of server/core/register: rings are compared and set, whoever is down and whatever is
 * late; and how a voter's state stands on disk. */
#include "tests/unit/register_rig.h"

#include "server/core/register_facts.h"

/* ---- compare and set ----------------------------------------------------------------------- */

static void a_change_is_two_rounds(void **state)
{
    struct rig rig;

    rig_init(&rig, 3);
    change(&rig, 1, 0);
    ASSERT_OUTCOME(1, REGISTER_DECIDED, 2);
    assert_int_equal(rig.nodes[1].published, 2);
    expect(&rig, "1>2 prepare 1.1\n1>3 prepare 1.1\n2>1 promise 1.1\n3>1 promise 1.1\n"
                 "1>2 accept 1.1\n1>3 accept 1.1\n2>1 accepted 1.1\n3>1 accepted 1.1\n");
    change(&rig, 1, 0);
    ASSERT_OUTCOME(1, REGISTER_DECIDED, 3);
    expect(&rig, "1>2 prepare 2.1\n1>3 prepare 2.1\n2>1 promise 2.1 has 1.1 as known\n"
                 "3>1 promise 2.1 has 1.1 as known\n"
                 "1>2 accept 2.1\n1>3 accept 2.1\n2>1 accepted 2.1\n3>1 accepted 2.1\n");
    rig_deinit(&rig);
}

static void a_voter_alone_asks_itself(void **state)
{
    struct rig rig;

    rig_init(&rig, 1);
    change(&rig, 1, 0);
    ASSERT_OUTCOME(1, REGISTER_DECIDED, 2);
    expect(&rig, "");
    rig_deinit(&rig);
}

static void whoever_is_no_voter_may_propose(void **state)
{
    struct rig rig;

    rig_init(&rig, 3);
    change(&rig, 6, 0);
    ASSERT_OUTCOME(6, REGISTER_DECIDED, 2);
    rig_deinit(&rig);
}

static void a_read_of_what_is_known_needs_one_round(void **state)
{
    struct rig rig;

    rig_init(&rig, 3);
    read_ring(&rig, 1);
    ASSERT_OUTCOME(1, REGISTER_DECIDED, 1);
    assert_int_equal(rig.nodes[1].published, 0);
    change(&rig, 1, 0);
    ASSERT_OUTCOME(1, REGISTER_DECIDED, 2);
    rig.trace[0] = 0;
    read_ring(&rig, 1);
    ASSERT_OUTCOME(1, REGISTER_DECIDED, 2);
    assert_null(strstr(rig.trace, "accept"));
    rig_deinit(&rig);
}

/* Node 2 has not heard of epoch 2: it writes it once more, to be sure, and then knows it. */
static void what_is_read_and_not_known_is_decided_first(void **state)
{
    struct rig rig;

    rig_init(&rig, 3);
    change(&rig, 1, 0);
    ASSERT_OUTCOME(1, REGISTER_DECIDED, 2);
    read_ring(&rig, 2);
    ASSERT_OUTCOME(2, REGISTER_DECIDED, 2);
    assert_int_equal(rig.nodes[2].published, 2);
    assert_non_null(strstr(rig.trace, "2>1 accept 2.2"));
    rig_deinit(&rig);
}

static void whoever_comes_late_is_told_the_ring_that_holds(void **state)
{
    struct rig rig;

    rig_init(&rig, 3);
    change(&rig, 1, 0);
    ASSERT_OUTCOME(1, REGISTER_DECIDED, 2);
    change(&rig, 2, 5); /* from epoch 1 */
    ASSERT_OUTCOME(2, REGISTER_CONFLICT, 2);
    assert_true(slice_equal(buf_slice(&rig.nodes[1].ring), buf_slice(&rig.nodes[2].ring)));
    change(&rig, 2, 5);
    ASSERT_OUTCOME(2, REGISTER_DECIDED, 3);
    gossip(&rig, 2, 1); /* known to be too late without asking anybody */
    rig.trace[0] = 0;
    keep(&rig.nodes[1].ring, (struct slice){0});
    form_ring(&rig.nodes[1].ring, 3);
    change(&rig, 1, 0);
    ASSERT_OUTCOME(1, REGISTER_CONFLICT, 3);
    expect(&rig, "");
    rig_deinit(&rig);
}

static void two_proposers_end_their_duel(void **state)
{
    int outcomes[2];
    struct rig rig;

    rig_init(&rig, 3);
    for (uint32_t k = 0; k < 50; k++) {
        change(&rig, 1, 1);
        change(&rig, 2, 2);
        wait_for(&rig, 1);
        wait_for(&rig, 2);
        outcomes[0] = rig.nodes[1].outcome;
        outcomes[1] = rig.nodes[2].outcome;
        assert_true(outcomes[0] != outcomes[1]);
        for (int i = 0; i < 2; i++)
            assert_true(outcomes[i] == REGISTER_DECIDED || outcomes[i] == REGISTER_CONFLICT);
        assert_int_equal(rig.nodes[1].epoch, k + 2);
        assert_int_equal(rig.nodes[2].epoch, k + 2);
        rig.trace[0] = 0;
    }
    rig_deinit(&rig);
}

static void one_operation_at_a_time(void **state)
{
    struct rig rig;

    rig_init(&rig, 3);
    change(&rig, 1, 0);
    read_ring(&rig, 1);
    assert_int_equal(rig.nodes[1].outcome, REGISTER_BUSY);
    change(&rig, 1, 0);
    assert_int_equal(rig.nodes[1].outcome, REGISTER_BUSY);
    rig.nodes[1].outcome = NONE_SEEN;
    ASSERT_OUTCOME(1, REGISTER_DECIDED, 2); /* the first */
    rig_deinit(&rig);
}

/* ---- who is not there ---------------------------------------------------------------------- */

static void one_voter_of_three_may_be_down(void **state)
{
    struct rig rig;

    rig_init(&rig, 3);
    crash(&rig, 3);
    change(&rig, 1, 0);
    ASSERT_OUTCOME(1, REGISTER_DECIDED, 2);
    change(&rig, 1, 0);
    ASSERT_OUTCOME(1, REGISTER_DECIDED, 3);
    start(&rig, 3); /* what it missed, it reads from the others */
    read_ring(&rig, 3);
    ASSERT_OUTCOME(3, REGISTER_DECIDED, 3);
    rig_deinit(&rig);
}

static void without_a_majority_nothing_is_proposed(void **state)
{
    struct rig rig;

    rig_init(&rig, 3);
    crash(&rig, 2);
    crash(&rig, 3);
    change(&rig, 1, 0);
    ASSERT_OUTCOME(1, REGISTER_NOTHING, 0);
    assert_in_range(rig.now_ms, 1000 + UNTIL_MS, 1000 + UNTIL_MS + 10);
    assert_int_equal(rig.nodes[1].accepted.len, 0);
    rig_deinit(&rig);
}

/* The majority goes when the ring has been sent: nobody can tell, until it is back. */
static void what_cannot_be_told_is_read_again(void **state)
{
    struct rig rig;

    rig_init(&rig, 3);
    rig.nodes[2].held = rig.nodes[3].held = true;
    change(&rig, 1, 0);
    run(&rig);
    synced(&rig, 2); /* promises */
    synced(&rig, 3);
    run(&rig);
    crash(&rig, 2); /* has not accepted it */
    crash(&rig, 3);
    ASSERT_OUTCOME(1, REGISTER_UNKNOWN, 0);
    assert_int_equal(rig.nodes[1].published, 0);
    rig.nodes[2].held = rig.nodes[3].held = false;
    start(&rig, 2);
    start(&rig, 3);
    crash(&rig, 1);
    read_ring(&rig, 2); /* without node 1, which alone has it */
    ASSERT_OUTCOME(2, REGISTER_DECIDED, 1);
    change(&rig, 2, 9);
    ASSERT_OUTCOME(2, REGISTER_DECIDED, 2);
    start(&rig, 1);
    read_ring(&rig, 1);
    ASSERT_OUTCOME(1, REGISTER_DECIDED, 2);
    assert_true(slice_equal(buf_slice(&rig.nodes[1].ring), buf_slice(&rig.nodes[2].ring)));
    rig_deinit(&rig);
}

/* The same, but somebody reads it: then it is the ring, and was it all along. */
static void what_was_left_half_done_is_finished_by_a_read(void **state)
{
    struct rig rig;

    rig_init(&rig, 3);
    rig.nodes[2].held = rig.nodes[3].held = true;
    change(&rig, 1, 0);
    run(&rig);
    synced(&rig, 2);
    synced(&rig, 3);
    run(&rig);
    crash(&rig, 2);
    crash(&rig, 3);
    ASSERT_OUTCOME(1, REGISTER_UNKNOWN, 0);
    rig.nodes[2].held = rig.nodes[3].held = false;
    start(&rig, 2);
    read_ring(&rig, 2); /* of 1 and 2 */
    ASSERT_OUTCOME(2, REGISTER_DECIDED, 2);
    rig_deinit(&rig);
}

/* Sent, and then another ring two epochs further is read: the own one may lie between. */
static void a_later_ring_does_not_tell_what_became_of_ours(void **state)
{
    struct rig rig;

    rig_init(&rig, 3);
    rig.nodes[2].held = rig.nodes[3].held = true;
    change(&rig, 1, 1);
    run(&rig);
    synced(&rig, 2);
    synced(&rig, 3);
    run(&rig); /* 1 has sent it, and is cut off */
    rig.cut[1] = ~0u;
    rig.cut[2] = rig.cut[3] = 1u << 1;
    rig.nodes[2].held = rig.nodes[3].held = false;
    run(&rig);
    change(&rig, 2, 2);
    ASSERT_OUTCOME(2, REGISTER_CONFLICT, 2); /* it was 1's, which 2 does not know to be so */
    change(&rig, 2, 2);
    ASSERT_OUTCOME(2, REGISTER_DECIDED, 3);
    rig.cut[1] = rig.cut[2] = rig.cut[3] = 0;
    ASSERT_OUTCOME(1, REGISTER_UNKNOWN, 3);
    rig_deinit(&rig);
}

/* ---- disks --------------------------------------------------------------------------------- */

static void nothing_is_said_before_it_is_on_disk(void **state)
{
    struct rig rig;

    rig_init(&rig, 3);
    rig.nodes[2].held = rig.nodes[3].held = true;
    change(&rig, 1, 0);
    run(&rig);
    expect(&rig, "1>2 prepare 1.1\n1>3 prepare 1.1\n");
    synced(&rig, 2);
    run(&rig);
    expect(&rig, "2>1 promise 1.1\n1>2 accept 1.1\n1>3 accept 1.1\n");
    assert_int_equal(rig.nodes[1].outcome, NONE_SEEN);
    synced(&rig, 2);
    run(&rig);
    expect(&rig, "2>1 accepted 1.1\n");
    assert_int_equal(rig.nodes[1].outcome, REGISTER_DECIDED);
    rig_deinit(&rig);
}

static void a_promise_that_was_not_synced_was_not_made(void **state)
{
    struct rig rig;

    rig_init(&rig, 3);
    rig.nodes[2].held = true;
    change(&rig, 1, 0);
    crash(&rig, 3);
    run(&rig);
    restart(&rig, 2); /* before its promise was on disk */
    rig.nodes[2].held = false;
    run(&rig);
    assert_int_equal(rig.nodes[2].promise.len, 0);
    assert_int_equal(rig.nodes[1].outcome, NONE_SEEN);
    ASSERT_OUTCOME(1, REGISTER_DECIDED, 2); /* by another attempt */
    rig_deinit(&rig);
}

static void a_promise_outlives_a_restart(void **state)
{
    struct mail old;
    struct rig rig;

    rig_init(&rig, 3);
    change(&rig, 1, 0); /* 1 prepares 1.1 */
    old = take_mail(&rig, 0);
    rig.cut[1] = ~0u;
    for (uint32_t i = 0; i < 3; i++) {
        change(&rig, 3, 3); /* 3 goes on without it */
        wait_for(&rig, 3);
    }
    restart(&rig, 2);
    rig.trace[0] = 0;
    rig.cut[1] = 0;
    deliver(&rig, &old);
    run(&rig);
    assert_non_null(strstr(rig.trace, "1>2 prepare 1.1\n2>1 no 1.1\n"));
    buf_deinit(&old.bytes);
    rig_deinit(&rig);
}

static void a_failed_write_is_answered_by_nothing(void **state)
{
    struct rig rig;

    rig_init(&rig, 3);
    rig.nodes[2].failing = rig.nodes[3].failing = true;
    change(&rig, 1, 0);
    run(&rig);
    expect(&rig, "1>2 prepare 1.1\n1>3 prepare 1.1\n");
    rig.nodes[2].failing = false;
    ASSERT_OUTCOME(1, REGISTER_DECIDED, 2);
    rig_deinit(&rig);
}

/* What was accepted and never decided is not taken for decided after a restart. */
static void accepted_is_not_decided(void **state)
{
    struct rig rig;

    rig_init(&rig, 3);
    crash(&rig, 2);
    rig.nodes[3].held = true;
    change(&rig, 1, 0);
    run(&rig);
    synced(&rig, 3);
    run(&rig); /* 1 has accepted it alone */
    assert_true(rig.nodes[1].accepted.len > 0);
    crash(&rig, 3);
    restart(&rig, 1);
    start(&rig, 2);
    start(&rig, 3);
    change(&rig, 1, 7); /* computed from epoch 1, the only one that it may know */
    ASSERT_OUTCOME(1, REGISTER_CONFLICT, 2);
    rig_deinit(&rig);
}

static void a_restarted_proposer_never_uses_a_ballot_again(void **state)
{
    struct wire_ballot before, after;
    struct rig rig;

    rig_init(&rig, 3);
    change(&rig, 6, 0); /* no voter: nothing of its ballots is on its disk */
    run(&rig);
    assert_int_equal(register_promise_unpack(buf_slice(&rig.nodes[2].promise), &before), 0);
    keep(&rig.nodes[6].ring, (struct slice){0});
    form_ring(&rig.nodes[6].ring, 3); /* it was not quick enough to keep what it decided */
    rig.nodes[6].published = 0;
    restart(&rig, 6);
    change(&rig, 6, 4);
    ASSERT_OUTCOME(6, REGISTER_CONFLICT, 2);
    assert_int_equal(register_promise_unpack(buf_slice(&rig.nodes[2].promise), &after), 0);
    assert_int_equal(before.boot, 1);
    assert_int_equal(after.boot, 2);
    rig_deinit(&rig);
}

/* ---- old messages -------------------------------------------------------------------------- */

static void messages_come_late_twice_and_in_any_order(void **state)
{
    struct test_random random = {7};
    struct mail old[MAILS];
    uint32_t n_old = 0;
    struct rig rig;

    rig_init(&rig, 3);
    for (uint32_t k = 0; k < 60; k++) {
        uint32_t n = 1 + k % 3;

        gossip_to_all(&rig, 1 + (k + 2) % 3); /* who has decided before */
        change(&rig, n, k % 64);
        for (uint32_t i = 0; rig.nodes[n].outcome == NONE_SEEN && i < 100000; i++) {
            uint32_t at = (uint32_t)test_random_below(&random, rig.n_mails + 1);

            if (n_old > 0 && test_random_below(&random, 3) == 0)
                deliver(&rig, &old[test_random_below(&random, n_old)]);
            for (uint32_t v = 1; v <= 3; v++)
                if (rig.nodes[v].writing && test_random_below(&random, 2))
                    synced(&rig, v);
            if (at < rig.n_mails) {
                struct mail m = take_mail(&rig, at);

                deliver(&rig, &m);
                if (n_old == MAILS)
                    buf_deinit(&old[--n_old].bytes);
                old[n_old++] = m;
            } else if (rig.n_mails == 0) {
                rig.now_ms += 10;
                feed(&rig, n, (struct register_event){.type = REGISTER_TICK});
            }
            rig.trace[0] = 0;
        }
        assert_int_equal(rig.nodes[n].outcome, REGISTER_DECIDED);
        assert_int_equal(rig.nodes[n].epoch, k + 2);
    }
    while (n_old > 0)
        buf_deinit(&old[--n_old].bytes);
    rig_deinit(&rig);
}

/* Majorities are of voters, not of answers. */
static void an_answer_counts_once(void **state)
{
    struct mail m;
    struct rig rig;

    rig_init(&rig, 5);
    change(&rig, 6, 0);
    rig.cut[6] = 1u << 2 | 1u << 3 | 1u << 4 | 1u << 5;
    while (rig.n_mails > 0) {
        m = take_mail(&rig, 0);
        deliver(&rig, &m);
        buf_deinit(&m.bytes);
    }
    synced(&rig, 1);
    assert_int_equal(rig.n_mails, 1);
    m = take_mail(&rig, 0);
    for (uint32_t i = 0; i < 5; i++)
        deliver(&rig, &m);
    assert_int_equal(rig.n_mails, 0); /* nothing is sent for acceptance */
    buf_deinit(&m.bytes);
    rig_deinit(&rig);
}

static void nobody_speaks_for_another(void **state)
{
    struct register_stats stats;
    struct mail m;
    struct rig rig;

    rig_init(&rig, 3);
    change(&rig, 1, 0);
    m = take_mail(&rig, 0);
    m.from = 5;
    deliver(&rig, &m);
    assert_false(rig.nodes[2].writing);
    register_stats(rig.nodes[2].r, &stats);
    assert_int_equal(stats.n_dropped, 1);
    buf_deinit(&m.bytes);
    rig_deinit(&rig);
}

/* Nine ask while the disk is busy: eight are answered, the ninth asks again. */
static void questions_wait_within_bounds(void **state)
{
    struct register_event event = {.type = REGISTER_MESSAGE};
    struct wire_register reg = {.ballot = {.boot = 1}};
    struct wire_peer msg = {.type = PEER_REGISTER_PREPARE, .u.reg = &reg};
    struct register_stats stats;
    struct rig rig;

    rig_init(&rig, 3);
    event.u.message.msg = &msg;
    for (uint32_t round = 1; round <= 3; round++)
        for (uint32_t i = 0; i < REGISTER_WAITING_MAX + 2; i++) {
            reg.ballot.counter = round;
            reg.ballot.node = event.u.message.from = id_of(100 + i);
            feed(&rig, 2, event);
        }
    register_stats(rig.nodes[2].r, &stats);
    /* One is written; it waits with its second and third, in the place of the last but one. */
    assert_int_equal(stats.n_dropped, 1 + 2 + 2);
    for (uint32_t i = 0; i < REGISTER_WAITING_MAX + 1; i++)
        synced(&rig, 2);
    assert_false(rig.nodes[2].writing);
    assert_int_equal(rig.n_mails, 1 + REGISTER_WAITING_MAX);
    for (uint32_t i = 0; i < rig.n_mails; i++)
        rig.mails[i].to = 6; /* they are nobody */
    rig_deinit(&rig);
}

/* ---- facts --------------------------------------------------------------------------------- */

static void facts_come_back(void **state)
{
    struct register_accepted accepted = {.ballot = {3, id_of(4), 5},
                                         .n_before = 2,
                                         .before = {id_of(1), id_of(2)},
                                         .ring = slice_str("ring")},
                             back;
    uint8_t promise[REGISTER_PROMISE_BYTES];
    struct wire_ballot ballot;
    struct blob *fact;

    register_promise_pack(&accepted.ballot, promise);
    assert_int_equal(register_promise_unpack(slice_of(promise, sizeof(promise)), &ballot), 0);
    assert_memory_equal(&ballot, &accepted.ballot, sizeof(ballot));
    fact = register_accepted_pack(&accepted);
    assert_int_equal(fact->len, 33 + 1 + 32 + 4);
    assert_int_equal(register_accepted_unpack(blob_slice(fact), &back), 0);
    assert_memory_equal(&back.ballot, &accepted.ballot, sizeof(ballot));
    assert_int_equal(back.n_before, 2);
    assert_true(wire_id_equal(&back.before[1], &accepted.before[1]));
    assert_true(slice_equal(back.ring, accepted.ring));
    for (size_t len = 0; len < fact->len - 3; len++) {
        struct slice part = slice_of(fact->data, len);

        assert_int_equal(register_accepted_unpack(part, &back), -ERR_CORRUPT);
        if (len != sizeof(promise))
            assert_int_equal(register_promise_unpack(part, &ballot), -ERR_CORRUPT);
    }
    fact->data[33] = LIMIT_VOTERS_MAX + 1;
    assert_int_equal(register_accepted_unpack(blob_slice(fact), &back), -ERR_CORRUPT);
    fact->data[0] = promise[0] = 2; /* of a later version */
    assert_int_equal(register_accepted_unpack(blob_slice(fact), &back), -ERR_FORMAT);
    assert_int_equal(register_promise_unpack(slice_of(promise, sizeof(promise)), &ballot),
                     -ERR_FORMAT);
    blob_unref(fact);
}

/* The bytes, for whoever has to read a disk. */
static void facts_stand_as_the_essay_says(void **state)
{
    static const uint8_t bytes[] = {1,   0,   0,   0,   0,   0,   0,   1,   2,   'n', 'o',
                                    'd', 'e', '-', 'i', 'd', '-', 'o', 'f', '-', '1', '6',
                                    '.', '.', '.', 0,   0,   0,   0,   0,   0,   0,   7};
    struct wire_ballot promise = {258, {"node-id-of-16..."}, 7};
    uint8_t packed[REGISTER_PROMISE_BYTES];

    register_promise_pack(&promise, packed);
    assert_memory_equal(packed, bytes, sizeof(bytes));
}

static void damaged_facts_stop_the_start(void **state)
{
    struct register_config config = {.self = id_of(1), .boot = 1};
    struct ring_register *r = NULL;
    struct buf ring = {0};

    form_ring(&ring, 3);
    config.ring = buf_slice(&ring);
    config.promise = slice_str("\1short");
    assert_int_equal(register_new(&config, &r), -ERR_CORRUPT);
    config.promise = (struct slice){0};
    config.accepted = slice_str("\1 a fact that is long enough to have a ballot in it and some");
    assert_int_equal(register_new(&config, &r), -ERR_CORRUPT);
    config.accepted = (struct slice){0};
    config.ring = slice_str("no ring");
    assert_int_equal(register_new(&config, &r), -ERR_BAD_REQUEST);
    assert_null(r);
    buf_deinit(&ring);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_change_is_two_rounds),
        cmocka_unit_test(a_voter_alone_asks_itself),
        cmocka_unit_test(whoever_is_no_voter_may_propose),
        cmocka_unit_test(a_read_of_what_is_known_needs_one_round),
        cmocka_unit_test(what_is_read_and_not_known_is_decided_first),
        cmocka_unit_test(whoever_comes_late_is_told_the_ring_that_holds),
        cmocka_unit_test(two_proposers_end_their_duel),
        cmocka_unit_test(one_operation_at_a_time),
        cmocka_unit_test(one_voter_of_three_may_be_down),
        cmocka_unit_test(without_a_majority_nothing_is_proposed),
        cmocka_unit_test(what_cannot_be_told_is_read_again),
        cmocka_unit_test(what_was_left_half_done_is_finished_by_a_read),
        cmocka_unit_test(a_later_ring_does_not_tell_what_became_of_ours),
        cmocka_unit_test(nothing_is_said_before_it_is_on_disk),
        cmocka_unit_test(a_promise_that_was_not_synced_was_not_made),
        cmocka_unit_test(a_promise_outlives_a_restart),
        cmocka_unit_test(a_failed_write_is_answered_by_nothing),
        cmocka_unit_test(accepted_is_not_decided),
        cmocka_unit_test(a_restarted_proposer_never_uses_a_ballot_again),
        cmocka_unit_test(messages_come_late_twice_and_in_any_order),
        cmocka_unit_test(an_answer_counts_once),
        cmocka_unit_test(nobody_speaks_for_another),
        cmocka_unit_test(questions_wait_within_bounds),
        cmocka_unit_test(facts_come_back),
        cmocka_unit_test(facts_stand_as_the_essay_says),
        cmocka_unit_test(damaged_facts_stop_the_start),
    };
    return cmocka_run_group_tests_name("register", tests, NULL, NULL);
}
