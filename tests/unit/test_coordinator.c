/* test_coordinator: stories of single requests, told by their effects (story.h). */
#include "server/core/hedge.h"
#include "server/core/repair.h"
#include "tests/unit/story.h"
#include "tests/unit/test.h"

#define ACK                                                                                        \
    OUTCOME_STORED, (struct version)                                                               \
    {                                                                                              \
        0                                                                                          \
    }

static struct story *begin(const struct story_options *o)
{
    static struct story s;

    story_start(&s, o);
    return &s;
}

static struct story *three(void)
{
    return begin(&(struct story_options){0});
}

/* The first write of a worker waits for its lease; take that out of the way. */
static struct story *warm(void)
{
    struct story *s = three();

    story_put(s, 1, LEVEL_ONE, "warm");
    story_stored(s, 1, 0, ACK);
    s->lines[0] = '\0';
    return s;
}

static void test_put_is_acked_by_a_majority(void **state)
{
    struct story *s = warm();

    story_put(s, 7, LEVEL_QUORUM, "v");
    story_expect(s, "send n1 put first \"v\"\nsend n2 put first \"v\"\nstore put 2\n");
    story_answer_put(s, 2, 0, ACK);
    story_expect(s, "");
    story_stored(s, 2, 0, ACK);
    story_expect(s, "reply 7 ok\n");
    story_answer_put(s, 1, 0, ACK); /* late: matches nothing */
    story_expect(s, "");
    assert_true(worker_idle(s->worker));
    story_end(s);
}

static void test_put_at_all_waits_for_all(void **state)
{
    struct story *s = warm();

    story_put(s, 7, LEVEL_ALL, "v");
    story_answer_put(s, 2, 0, ACK);
    story_answer_put(s, 1, 0, ACK);
    s->lines[0] = '\0';
    story_stored(s, 2, 0, ACK);
    story_expect(s, "reply 7 ok\n");
    story_end(s);
}

static void test_put_counts_a_slot_once(void **state)
{
    struct story *s = warm();

    story_put(s, 7, LEVEL_QUORUM, "v");
    s->lines[0] = '\0';
    story_answer_put(s, 1, 0, ACK);
    story_answer_put(s, 1, 0, ACK);
    story_expect(s, "");
    story_end(s);
}

static void test_put_without_quorum_is_refused_at_once(void **state)
{
    struct story *s = warm();

    story_down(s, 1);
    story_down(s, 2);
    story_put(s, 7, LEVEL_QUORUM, "v");
    story_expect(s, "reply 7 NO_QUORUM\n");
    story_put(s, 8, LEVEL_ONE, "v");
    story_expect(s, "store put 2\n");
    story_end(s);
}

static void test_put_lost_on_the_way_is_unknown_at_the_deadline(void **state)
{
    struct story *s = warm();

    story_put(s, 7, LEVEL_QUORUM, "v");
    story_stored(s, 2, 0, ACK);
    story_down(s, 1);
    story_down(s, 2);
    s->lines[0] = '\0';
    story_pass(s, 999);
    story_expect(s, "");
    story_pass(s, 1);
    story_expect(s, "reply 7 UNKNOWN_OUTCOME\n");
    story_end(s);
}

static void test_put_is_sent_again_with_its_version_when_a_node_is_back(void **state)
{
    struct story *s = warm();
    struct version first;

    story_put(s, 7, LEVEL_QUORUM, "v");
    story_stored(s, 2, 0, ACK);
    first = s->last_version;
    story_down(s, 1);
    story_down(s, 2);
    s->lines[0] = '\0';
    story_up(s, 2);
    story_expect(s, "send n2 put first \"v\"\n");
    assert_int_equal(version_compare(first, s->last_version), 0);
    story_answer_put(s, 2, 0, OUTCOME_DUPLICATE, first);
    story_expect(s, "reply 7 ok\n");
    story_end(s);
}

static void test_put_unanswered_is_sent_again(void **state)
{
    struct story *s = warm();

    story_put(s, 7, LEVEL_QUORUM, "v");
    story_stored(s, 2, 0, ACK);
    s->lines[0] = '\0';
    story_pass(s, 249);
    story_expect(s, "");
    story_pass(s, 1);
    story_expect(s, "send n1 put first \"v\"\nsend n2 put first \"v\"\n");
    story_end(s);
}

static void test_put_refused_by_all_was_not_written(void **state)
{
    struct story *s = warm();

    story_put(s, 7, LEVEL_QUORUM, "v");
    s->lines[0] = '\0';
    story_answer_put(s, 1, ERR_NO_SPACE, OUTCOME_NONE, (struct version){0});
    story_answer_put(s, 2, ERR_NO_SPACE, OUTCOME_NONE, (struct version){0});
    story_expect(s, ""); /* our own slot may still store it */
    story_stored(s, 2, -ERR_NO_SPACE, OUTCOME_NONE, (struct version){0});
    story_expect(s, "reply 7 NO_SPACE\n");
    story_end(s);
}

static void test_put_refused_by_most_and_stored_by_one_is_unknown(void **state)
{
    struct story *s = warm();

    story_put(s, 7, LEVEL_QUORUM, "v");
    story_stored(s, 2, 0, ACK);
    s->lines[0] = '\0';
    story_answer_put(s, 1, ERR_NO_SPACE, OUTCOME_NONE, (struct version){0});
    story_answer_put(s, 2, ERR_CLOCK, OUTCOME_NONE, (struct version){0});
    story_expect(s, "reply 7 UNKNOWN_OUTCOME\n");
    story_end(s);
}

static void test_put_overloaded_slot_is_asked_again(void **state)
{
    struct story *s = warm();

    story_put(s, 7, LEVEL_QUORUM, "v");
    s->lines[0] = '\0';
    story_answer_put(s, 1, ERR_OVERLOADED, OUTCOME_NONE, (struct version){0});
    story_expect(s, "");
    story_pass(s, 1);
    story_expect(s, "send n1 put first \"v\"\n");
    story_end(s);
}

static void test_put_superseded_is_stamped_above_as_state(void **state)
{
    struct story *s = warm();
    struct version newer = {.hlc = version_hlc_from_ms(s->wall_ms + 3600000), .actor = 5};

    story_put(s, 7, LEVEL_QUORUM, "v");
    s->lines[0] = '\0';
    story_answer_put(s, 1, 0, OUTCOME_SUPERSEDED, newer);
    story_stored(s, 2, 0, ACK);
    story_expect(s,
                 "trace RESTAMP\nsend n1 put state \"v\"\nsend n2 put state \"v\"\nstore put 3\n");
    assert_true(version_compare(s->last_version, newer) > 0);
    story_answer_put(s, 1, 0, ACK);
    newer.hlc += version_hlc_from_ms(10);
    story_answer_put(s, 2, 0, OUTCOME_SUPERSEDED, newer); /* a concurrent write: as good */
    story_expect(s, "reply 7 ok\n");
    story_end(s);
}

static void test_put_superseded_twice_alike_gets_two_versions(void **state)
{
    struct story *s = warm();
    struct version newer = {.hlc = version_hlc_from_ms(s->wall_ms + 3600000), .actor = 5};
    struct version first;

    story_put(s, 7, LEVEL_ONE, "a");
    story_stored(s, 2, 0, OUTCOME_SUPERSEDED, newer);
    first = s->last_version;
    story_put(s, 8, LEVEL_ONE, "b");
    story_stored(s, 4, 0, OUTCOME_SUPERSEDED, newer);
    assert_int_not_equal(version_compare(first, s->last_version), 0);
    story_end(s);
}

static void test_put_superseded_by_a_floor_never_counts(void **state)
{
    struct story *s = warm();
    struct version floor = {.hlc = version_hlc_from_ms(s->wall_ms + 100)};

    story_put(s, 7, LEVEL_ONE, "v");
    s->lines[0] = '\0';
    story_stored(s, 2, 0, OUTCOME_SUPERSEDED_FLOOR, floor);
    s->lines[0] = '\0';
    story_stored(s, 3, 0, OUTCOME_SUPERSEDED_FLOOR, floor); /* a record would count by now */
    story_expect(s, "trace RESTAMP\nsend n1 put state \"v\"\nsend n2 put state \"v\"\n"
                    "store put 4\n");
    story_stored(s, 4, 0, ACK);
    story_expect(s, "reply 7 ok\n");
    story_end(s);
}

static void test_put_above_the_last_version_there_is_is_refused(void **state)
{
    struct story *s = warm();
    struct version last = {.hlc = UINT64_MAX, .actor = 5};

    story_put(s, 7, LEVEL_ONE, "v");
    s->lines[0] = '\0';
    story_stored(s, 2, 0, OUTCOME_SUPERSEDED, last);
    story_expect(s, "trace RESTAMP\nreply 7 UNKNOWN_OUTCOME\n"); /* n1, n2 may have taken it */
    story_end(s);
}

static void test_put_looks_for_its_quorum_again_after_the_clock(void **state)
{
    struct story *s = three();

    s->quiet_clock = false;
    story_put(s, 7, LEVEL_QUORUM, "v");
    story_down(s, 1);
    story_down(s, 2);
    s->lines[0] = '\0';
    story_stored(s, 1, 0, ACK);
    story_expect(s, "reply 7 NO_QUORUM\n");
    story_end(s);
}

static void test_delete_writes_a_tombstone(void **state)
{
    struct story *s = warm();

    story_del(s, 7, LEVEL_QUORUM);
    story_expect(s, "send n1 put first deleted\nsend n2 put first deleted\nstore put 2\n");
    story_end(s);
}

static void test_first_put_waits_for_the_lease(void **state)
{
    struct story *s = three();

    s->quiet_clock = false;
    story_put(s, 7, LEVEL_QUORUM, "v");
    story_put(s, 8, LEVEL_QUORUM, "w");
    story_expect(s, "store clock 1\ntrace CLOCK_WAIT\ntrace CLOCK_WAIT\n");
    story_stored(s, 1, 0, ACK);
    story_expect(s, "send n1 put first \"v\"\nsend n2 put first \"v\"\nstore put 2\n"
                    "send n1 put first \"w\"\nsend n2 put first \"w\"\nstore put 3\n");
    story_end(s);
}

static void test_lease_is_renewed_before_it_ends(void **state)
{
    struct story *s = warm();

    s->quiet_clock = false;
    story_pass(s, 600);
    story_put(s, 7, LEVEL_ONE, "v");
    story_expect(s,
                 "store clock 2\nsend n1 put first \"v\"\nsend n2 put first \"v\"\nstore put 3\n");
    story_end(s);
}

static void test_nothing_is_stamped_before_the_bound_of_the_last_start(void **state)
{
    struct story *s = begin(&(struct story_options){.clock_bound_ms = 1700000000000 + 300});

    story_put(s, 7, LEVEL_ONE, "v");
    story_expect(s, "trace CLOCK_WAIT\n");
    story_pass(s, 300);
    story_expect(s, "");
    story_pass(s, 1);
    story_expect(s, "send n1 put first \"v\"\nsend n2 put first \"v\"\nstore put 1\n");
    story_end(s);
}

static void test_a_clock_far_behind_its_bound_refuses(void **state)
{
    struct story *s = begin(&(struct story_options){.clock_bound_ms = 1700000000000 + 7200000});

    story_put(s, 7, LEVEL_ONE, "v");
    story_expect(s, "reply 7 CLOCK\n");
    story_end(s);
}

static void test_get_of_agreeing_replicas(void **state)
{
    struct story *s = warm();
    struct state v = story_state(5, "v");

    story_down(s, 2);
    story_get(s, 7, LEVEL_QUORUM);
    story_expect(s, "send n1 get digest\nget 1\n");
    story_got(s, 1, 0, &v, 0);
    story_expect(s, "");
    story_answer_get(s, 1, 0, &v);
    story_expect(s, "reply 7 found \"v\"\n");
    story_end(s);
}

static void test_get_at_one_asks_the_own_slot_alone(void **state)
{
    struct story *s = warm();
    struct state v = story_state(5, "v");

    story_get(s, 7, LEVEL_ONE);
    story_expect(s, "get 1\n");
    story_got(s, 1, 0, &v, 0);
    story_expect(s, "reply 7 found \"v\"\n");
    story_end(s);
}

static void test_get_of_nothing(void **state)
{
    struct story *s = warm();

    story_down(s, 2);
    story_get(s, 7, LEVEL_QUORUM);
    story_got(s, 1, 0, NULL, 0);
    s->lines[0] = '\0';
    story_answer_get(s, 1, 0, NULL);
    story_expect(s, "reply 7 absent\n");
    story_end(s);
}

static void test_get_writes_the_newest_back_before_it_answers(void **state)
{
    struct story *s = warm();
    struct state older = story_state(5, "old"), newer = story_state(6, "new");

    story_down(s, 2);
    story_get(s, 7, LEVEL_QUORUM);
    story_got(s, 1, 0, &newer, 0);
    s->lines[0] = '\0';
    story_answer_get(s, 1, 0, &older);
    story_expect(s, "send n1 put state \"new\"\ntrace REPAIR\n");
    story_answer_put(s, 1, 0, ACK);
    story_expect(s, "reply 7 found \"new\"\n");
    story_end(s);
}

/* Own slot newer, the one asked older: it is written to, and with the ack the read is answered. */
static uint32_t disagree(struct story *s, uint64_t id)
{
    struct state older = story_state(5, "old"), newer = story_state(6, "new");
    uint32_t asked;

    s->n_sent = s->n_gets = 0;
    story_get(s, id, LEVEL_QUORUM);
    asked = s->sent[s->n_sent - 1].node;
    story_got(s, 1, 0, &newer, 0);
    story_answer_get(s, asked, 0, &older);
    s->lines[0] = '\0';
    return asked;
}

static void test_slots_beyond_the_quorum_are_repaired_after_the_answer(void **state)
{
    struct story *s = warm();
    uint32_t asked = disagree(s, 7), other = 3 - asked;

    story_answer_put(s, asked, 0, ACK);
    story_expect(s, other == 1 ? "send n1 put state \"new\"\nreply 7 found \"new\"\n"
                               : "send n2 put state \"new\"\nreply 7 found \"new\"\n");
    assert_true(worker_idle(s->worker));
    story_pass(s, 5000); /* and nobody asks again */
    story_expect(s, "");
    story_end(s);
}

static void test_repairs_under_way_are_bounded(void **state)
{
    struct story *s = warm();
    struct wire_peer last = {0};
    uint32_t last_node = 0, n_left = 0;
    struct worker_stats stats;

    for (uint32_t i = 0; i < REPAIRS_MAX + 3; i++) {
        uint32_t asked = disagree(s, i);

        story_answer_put(s, asked, 0, ACK);
        n_left += strstr(s->lines, "send n") == NULL;
        if (i + 1 == REPAIRS_MAX) {
            last = s->sent[s->n_sent - 1].msg;
            last_node = s->sent[s->n_sent - 1].node;
        }
        s->lines[0] = '\0';
    }
    assert_int_equal(n_left, 3);
    s->sent[0].msg = last; /* one is answered: there is room for one */
    s->sent[0].node = last_node;
    s->n_sent = 1;
    story_answer_put(s, last_node, 0, ACK);
    story_answer_put(s, last_node, 0, ACK); /* repeated: counts once */
    for (uint32_t i = 0; i < 2; i++) {
        story_answer_put(s, disagree(s, i), 0, ACK);
        assert_int_equal(strstr(s->lines, "send n") != NULL, i == 0);
    }
    story_pass(s, REPAIR_PATIENCE_MS); /* the others are given up */
    s->lines[0] = '\0';
    story_answer_put(s, disagree(s, 9), 0, ACK);
    assert_non_null(strstr(s->lines, "send n"));
    worker_stats(s->worker, &stats);
    assert_int_equal(stats.n_repairs_rest, REPAIRS_MAX + 2);
    assert_int_equal(stats.n_repairs_left, 4);
    story_end(s);
}

static void test_repairs_of_large_values_are_bounded_too(void **state)
{
    struct story *s = warm();
    static char large[3 << 20];
    struct state older = story_state(5, "old"), newer = story_state(6, "");
    uint32_t n_sent = 0;

    newer.value = slice_of(large, sizeof large);
    for (uint32_t i = 0; i < 3; i++) {
        uint32_t asked;

        s->n_sent = s->n_gets = 0;
        story_get(s, i, LEVEL_QUORUM);
        asked = s->sent[s->n_sent - 1].node;
        story_got(s, 1, 0, &newer, 0);
        story_answer_get(s, asked, 0, &older);
        s->lines[0] = '\0';
        story_answer_put(s, asked, 0, ACK);
        n_sent += strstr(s->lines, "send n") != NULL;
    }
    assert_int_equal(n_sent, 1);
    story_end(s);
}

/* The slot that was written to has a purge floor above the version: it holds nothing. */
static void test_get_refused_by_a_floor_finds_another_holder(void **state)
{
    struct story *s = warm();
    struct state older = story_state(5, "old"), newer = story_state(6, "new");
    struct version floor = {.hlc = version_hlc_from_ms(s->wall_ms)};
    uint32_t asked;

    story_get(s, 7, LEVEL_QUORUM);
    asked = s->sent[s->n_sent - 1].node;
    story_got(s, 1, 0, &newer, 0);
    story_answer_get(s, asked, 0, &older);
    s->lines[0] = '\0';
    story_answer_put(s, asked, 0, OUTCOME_SUPERSEDED_FLOOR, floor);
    story_expect(s, asked == 1 ? "send n2 put state \"new\"\n" : "send n1 put state \"new\"\n");
    story_answer_put(s, 3 - asked, 0, ACK);
    assert_non_null(strstr(s->lines, "reply 7 found \"new\"\n"));
    story_end(s);
}

static void test_get_fetches_what_a_digest_announced(void **state)
{
    struct story *s = warm();
    struct state older = story_state(5, "old"), newer = story_state(6, "new");

    story_down(s, 2);
    story_get(s, 7, LEVEL_QUORUM);
    story_got(s, 1, 0, &older, 0);
    s->lines[0] = '\0';
    story_answer_get(s, 1, 0, &newer);
    story_expect(s, "send n1 get full\n");
    story_answer_get(s, 1, 0, &newer);
    story_expect(s, "trace REPAIR\nstore put 2\n");
    story_stored(s, 2, 0, ACK);
    story_expect(s, "reply 7 found \"new\"\n");
    story_end(s);
}

static void test_get_of_a_deletion_one_slot_missed(void **state)
{
    struct story *s = warm();
    struct state older = story_state(5, "old"), gone = story_state(6, NULL);

    story_down(s, 2);
    story_get(s, 7, LEVEL_QUORUM);
    story_got(s, 1, 0, &older, 0);
    s->lines[0] = '\0';
    story_answer_get(s, 1, 0, &gone);
    story_expect(s, "trace REPAIR\nstore put 2\n"); /* a digest of a tombstone is the whole of it */
    story_stored(s, 2, 0, ACK);
    story_expect(s, "reply 7 absent\n");
    story_end(s);
}

static void test_get_replaces_a_slot_that_goes_down(void **state)
{
    struct story *s = warm();
    uint32_t asked, other;

    story_get(s, 7, LEVEL_QUORUM);
    asked = s->sent[s->n_sent - 1].node;
    other = 3 - asked;
    s->lines[0] = '\0';
    story_down(s, asked);
    story_expect(s, other == 1 ? "send n1 get digest\n" : "send n2 get digest\n");
    story_down(s, other);
    story_expect(s, "reply 7 NO_QUORUM\n");
    story_end(s);
}

/* Its links may be whole: a process that hangs, a machine whose cable is out. */
static void test_who_is_taken_for_down_is_not_asked(void **state)
{
    static const enum wire_member_state gone[] = {MEMBER_DOWN, MEMBER_STOPPED};
    struct story *s = warm();

    for (int i = 0; i < 2; i++) {
        uint32_t asked, other;

        story_get(s, 7, LEVEL_QUORUM);
        asked = s->sent[s->n_sent - 1].node;
        other = 3 - asked;
        s->lines[0] = '\0';
        story_seen(s, asked, gone[i]);
        story_expect(s, other == 1 ? "send n1 get digest\n" : "send n2 get digest\n");
        story_seen(s, other, MEMBER_DOWN);
        story_expect(s, "reply 7 NO_QUORUM\n");
        story_seen(s, asked, MEMBER_ALIVE);
        story_seen(s, other, MEMBER_ALIVE);
    }
    story_get(s, 8, LEVEL_ALL);
    s->lines[0] = '\0';
    story_seen(s, 1, MEMBER_DOWN);
    story_expect(s, "reply 8 NO_QUORUM\n");
    story_end(s);
}

static void test_a_suspect_is_asked_last(void **state)
{
    struct story *s = warm();

    for (uint32_t suspect = 1; suspect <= 2; suspect++) {
        story_seen(s, suspect, MEMBER_SUSPECT);
        for (int i = 0; i < 20; i++) {
            story_get(s, 7, LEVEL_QUORUM);
            assert_int_equal(s->sent[s->n_sent - 1].node, 3 - suspect);
        }
        s->lines[0] = '\0';
        story_get(s, 8, LEVEL_ALL); /* it is not taken for down */
        assert_non_null(strstr(s->lines, suspect == 1 ? "send n1 get" : "send n2 get"));
        story_seen(s, suspect, MEMBER_ALIVE);
    }
    story_end(s);
}

static void test_the_same_zone_is_asked_before_another(void **state)
{
    for (uint32_t near = 1; near <= 2; near++) { /* one of the two may be primary */
        struct story_options o = {.zones = {"a", "b", "b"}};
        struct story *s;

        o.zones[near] = "a";
        s = begin(&o);
        for (int i = 0; i < 20; i++) {
            story_get(s, 7, LEVEL_QUORUM);
            assert_int_equal(s->sent[s->n_sent - 1].node, near);
        }
        story_seen(s, near, MEMBER_SUSPECT); /* but alive before near */
        story_get(s, 8, LEVEL_QUORUM);
        assert_int_equal(s->sent[s->n_sent - 1].node, 3 - near);
        story_end(s);
    }
}

static void test_get_hedges_a_slow_slot(void **state)
{
    struct story *s = warm();
    struct state v = story_state(5, "v");
    uint32_t asked, other;

    story_get(s, 7, LEVEL_QUORUM);
    asked = s->sent[s->n_sent - 1].node;
    other = 3 - asked;
    story_got(s, 1, 0, &v, 0);
    s->lines[0] = '\0';
    story_pass(s, 50);
    story_expect(s, other == 1 ? "send n1 get digest\ntrace HEDGE s1\n"
                               : "send n2 get digest\ntrace HEDGE s2\n");
    story_answer_get(s, other, 0, &v);
    story_expect(s, "reply 7 found \"v\"\n");
    story_end(s);
}

/* Answers that both other nodes gave at once, so that their recent p95 is known. */
static void teach(struct story *s, uint32_t answers)
{
    struct state v = story_state(5, "v");

    for (uint32_t i = 0; i < answers; i++) {
        s->n_sent = s->n_gets = 0;
        story_get(s, 100 + i, LEVEL_ALL);
        story_got(s, 1, 0, &v, 0);
        story_answer_get(s, 1, 0, &v);
        story_answer_get(s, 2, 0, &v);
        s->lines[0] = '\0';
    }
    s->n_sent = s->n_gets = 0;
}

static void test_get_hedges_after_the_recent_p95(void **state)
{
    struct story *s = warm();
    struct state v = story_state(5, "v");
    uint32_t asked, other;

    teach(s, LATENCY_COUNT_MIN);
    story_get(s, 7, LEVEL_QUORUM);
    asked = s->sent[s->n_sent - 1].node;
    other = 3 - asked;
    story_got(s, 1, 0, &v, 0);
    s->lines[0] = '\0';
    story_pass(s, HEDGE_MIN_MS - 1);
    story_expect(s, "");
    story_pass(s, 1);
    story_expect(s, other == 1 ? "send n1 get digest\ntrace HEDGE s1\n"
                               : "send n2 get digest\ntrace HEDGE s2\n");
    story_answer_get(s, other, 0, &v);
    story_expect(s, "reply 7 found \"v\"\n");
    story_end(s);
}

static void test_a_slow_whole_answer_is_asked_whole_elsewhere(void **state)
{
    struct story *s = warm();
    struct state v = story_state(5, "v");

    teach(s, LATENCY_COUNT_MIN);
    story_get(s, 7, LEVEL_ONE);
    s->lines[0] = '\0';
    story_pass(s, HEDGE_MIN_MS);
    assert_non_null(strstr(s->lines, "get full\ntrace HEDGE s"));
    s->lines[0] = '\0';
    story_answer_get(s, s->sent[s->n_sent - 1].node, 0, &v);
    story_expect(s, "reply 7 found \"v\"\n");
    story_end(s);
}

/* Where all are slow, hedges must not make it worse. */
static void test_hedges_are_a_small_share_of_the_reads(void **state)
{
    struct story *s = warm();
    struct worker_stats stats;

    for (uint32_t i = 0; i < 2000; i++) {
        s->n_sent = s->n_gets = 0;
        story_get(s, 7, LEVEL_QUORUM);
        story_pass(s, 200);
        s->lines[0] = '\0';
        story_pass(s, 800); /* its deadline */
        s->lines[0] = '\0';
    }
    worker_stats(s->worker, &stats);
    assert_in_range(stats.n_hedges, 2000 * HEDGE_SHARE_PERCENT / 100,
                    2000 * HEDGE_SHARE_PERCENT / 100 + HEDGE_BURST);
    story_end(s);
}

/* A replica that hangs costs a few reads a hedge, and the others nothing. */
static void test_a_node_that_is_late_again_and_again_is_asked_last(void **state)
{
    struct story *s = warm();
    struct state v = story_state(5, "v");
    uint32_t n_slow = 0, n_late = 0;

    teach(s, LATENCY_COUNT_MIN);
    for (uint32_t i = 0; i < 200; i++) {
        uint32_t asked;

        s->n_sent = s->n_gets = 0;
        story_get(s, 7, LEVEL_QUORUM);
        asked = s->sent[s->n_sent - 1].node;
        story_got(s, 1, 0, &v, 0);
        n_slow += asked == 1;
        if (asked == 1) { /* n1 hangs */
            story_pass(s, HEDGE_MIN_MS);
            n_late++;
        }
        story_answer_get(s, 2, 0, &v);
        assert_non_null(strstr(s->lines, "reply 7 found"));
        s->lines[0] = '\0';
        story_pass(s, 1);
    }
    assert_in_range(n_slow, HEDGE_LATE_MIN, 20);
    story_pass(s, HEDGE_SLOW_MS); /* and it is tried again */
    for (uint32_t i = 0; i < 50 && n_late > 0; i++) {
        s->n_sent = s->n_gets = 0;
        story_get(s, 8, LEVEL_QUORUM);
        n_late = s->sent[s->n_sent - 1].node == 1 ? 0 : n_late;
        s->lines[0] = '\0';
    }
    assert_int_equal(n_late, 0);
    story_end(s);
}

static void test_get_asks_a_silent_slot_again(void **state)
{
    struct story *s = warm();
    struct state v = story_state(5, "v");

    story_down(s, 2);
    story_get(s, 7, LEVEL_QUORUM);
    story_got(s, 1, 0, &v, 0);
    s->lines[0] = '\0';
    story_pass(s, 249);
    story_expect(s, "");
    story_pass(s, 1);
    story_expect(s, "send n1 get digest\n");
    story_answer_get(s, 1, 0, &v);
    story_expect(s, "reply 7 found \"v\"\n");
    story_end(s);
}

/* A whole value may take longer than a hedge: asking elsewhere must not throw it away. */
static void test_get_waits_for_a_slow_fetch_while_it_asks_elsewhere(void **state)
{
    struct story *s = warm();
    struct state older = story_state(5, "old"), newer = story_state(6, "new");
    struct story_sent announced;
    uint32_t asked;

    story_get(s, 7, LEVEL_QUORUM);
    asked = s->sent[s->n_sent - 1].node;
    story_got(s, 1, 0, &older, 0);
    s->lines[0] = '\0';
    story_answer_get(s, asked, 0, &newer);
    announced = s->sent[s->n_sent - 1];
    assert_int_equal(announced.node, asked);
    s->lines[0] = '\0';
    story_pass(s, 60); /* the other slot is asked as well, in the same round */
    story_expect(s, asked == 1 ? "send n2 get full\n" : "send n1 get full\n");
    story_answer_get(s, asked, 0, &newer);
    assert_non_null(strstr(s->lines, "trace REPAIR"));
    story_end(s);
}

static void test_values_kept_for_gets_are_charged(void **state)
{
    struct story *s = warm();
    static char large[1 << 20];
    struct state v = story_state(5, "");
    struct worker_stats stats;

    v.value = slice_of(large, sizeof large);
    story_down(s, 2);
    for (uint32_t i = 1; i <= 80 && i < STORY_STORES_MAX; i++) {
        story_get(s, i, LEVEL_QUORUM);
        story_got(s, i, 0, &v, 0);
        s->n_sent = 0;
        s->lines[0] = '\0';
    }
    worker_stats(s->worker, &stats);
    assert_true(stats.inflight_bytes > 32u << 20);
    assert_true(stats.inflight_bytes <= LIMIT_INFLIGHT_BYTES);
    story_end(s);
}

static void test_get_asks_another_slot_when_a_record_is_corrupt(void **state)
{
    struct story *s = warm();
    struct state v = story_state(5, "v");

    story_get(s, 7, LEVEL_QUORUM);
    s->lines[0] = '\0';
    story_got(s, 1, -ERR_CORRUPT, NULL, 0);
    assert_non_null(strstr(s->lines, "trace CORRUPT"));
    assert_non_null(strstr(s->lines, "get full"));
    story_answer_get(s, 1, 0, &v);
    s->lines[0] = '\0';
    story_answer_get(s, 2, 0, &v);
    story_expect(s, "reply 7 found \"v\"\n");
    story_end(s);
}

static void test_get_alone_with_a_corrupt_record_says_so(void **state)
{
    struct story *s = warm();

    story_down(s, 1);
    story_down(s, 2);
    story_get(s, 7, LEVEL_ONE);
    s->lines[0] = '\0';
    story_got(s, 1, -ERR_CORRUPT, NULL, 0);
    story_expect(s, "trace CORRUPT\nreply 7 CORRUPT\n");
    story_end(s);
}

static void test_get_without_answers_ends_at_the_deadline(void **state)
{
    struct story *s = warm();

    story_get(s, 7, LEVEL_ALL);
    s->lines[0] = '\0';
    story_pass(s, 1000);
    story_expect(s, "reply 7 DEADLINE\n");
    assert_false(worker_idle(s->worker)); /* the own read is still out */
    story_got(s, 1, 0, NULL, 0);
    assert_true(worker_idle(s->worker));
    story_end(s);
}

static void test_a_request_that_waited_has_less_time_left(void **state)
{
    struct story *s = warm();

    s->waited_ms = 1000;
    story_put(s, 7, LEVEL_ONE, "v");
    story_get(s, 8, LEVEL_ONE);
    story_expect(s, "reply 7 DEADLINE\nreply 8 DEADLINE\n"); /* not begun */
    s->waited_ms = 400;
    story_get(s, 9, LEVEL_ALL);
    assert_int_equal(s->sent[s->n_sent - 1].msg.deadline_ms, 600);
    s->lines[0] = '\0';
    story_pass(s, 600);
    story_expect(s, "reply 9 DEADLINE\n");
    story_end(s);
}

static void test_requests_without_a_ring(void **state)
{
    struct story *s = begin(&(struct story_options){.no_ring = true});

    story_put(s, 7, LEVEL_ONE, "v");
    story_get(s, 8, LEVEL_ONE);
    story_expect(s, "reply 7 NOT_READY\nreply 8 NOT_READY\n");
    story_end(s);
}

static void test_requests_beyond_the_table_are_refused(void **state)
{
    struct story *s = begin(&(struct story_options){.ops_max = 2});

    story_get(s, 7, LEVEL_ONE);
    story_get(s, 8, LEVEL_ONE);
    s->lines[0] = '\0';
    story_get(s, 9, LEVEL_ONE);
    story_expect(s, "trace OVERLOADED\nreply 9 OVERLOADED\n");
    story_end(s);
}

static void test_a_stopping_node_takes_nothing_new(void **state)
{
    struct story *s = warm();
    struct event e = {.type = EVENT_STOP};

    story_get(s, 7, LEVEL_ONE);
    story_step(s, &e);
    s->lines[0] = '\0';
    story_get(s, 8, LEVEL_ONE);
    story_expect(s, "reply 8 SHUTTING_DOWN\n");
    story_got(s, 1, 0, NULL, 0);
    story_expect(s, "reply 7 absent\n");
    story_end(s);
}

static void test_ten_thousand_operations_leave_nothing(void **state)
{
    struct story *s = warm();
    struct state v = story_state(5, "v");

    for (uint64_t i = 0; i < 10000; i++) {
        s->n_sent = s->n_stores = s->n_gets = 0;
        if (i % 2) {
            story_put(s, i, LEVEL_QUORUM, "some value");
            story_stored(s, 1, 0, ACK);
            story_answer_put(s, 1, 0, ACK);
        } else {
            story_get(s, i, LEVEL_ONE);
            story_got(s, 1, 0, &v, 0);
        }
        assert_non_null(strstr(s->lines, "reply"));
        s->lines[0] = '\0';
    }
    assert_true(worker_idle(s->worker));
    story_end(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put_is_acked_by_a_majority),
        cmocka_unit_test(test_put_at_all_waits_for_all),
        cmocka_unit_test(test_put_counts_a_slot_once),
        cmocka_unit_test(test_put_without_quorum_is_refused_at_once),
        cmocka_unit_test(test_put_lost_on_the_way_is_unknown_at_the_deadline),
        cmocka_unit_test(test_put_is_sent_again_with_its_version_when_a_node_is_back),
        cmocka_unit_test(test_put_unanswered_is_sent_again),
        cmocka_unit_test(test_put_refused_by_all_was_not_written),
        cmocka_unit_test(test_put_refused_by_most_and_stored_by_one_is_unknown),
        cmocka_unit_test(test_put_overloaded_slot_is_asked_again),
        cmocka_unit_test(test_put_superseded_is_stamped_above_as_state),
        cmocka_unit_test(test_put_superseded_twice_alike_gets_two_versions),
        cmocka_unit_test(test_put_superseded_by_a_floor_never_counts),
        cmocka_unit_test(test_put_above_the_last_version_there_is_is_refused),
        cmocka_unit_test(test_put_looks_for_its_quorum_again_after_the_clock),
        cmocka_unit_test(test_get_asks_a_silent_slot_again),
        cmocka_unit_test(test_get_waits_for_a_slow_fetch_while_it_asks_elsewhere),
        cmocka_unit_test(test_values_kept_for_gets_are_charged),
        cmocka_unit_test(test_delete_writes_a_tombstone),
        cmocka_unit_test(test_first_put_waits_for_the_lease),
        cmocka_unit_test(test_lease_is_renewed_before_it_ends),
        cmocka_unit_test(test_nothing_is_stamped_before_the_bound_of_the_last_start),
        cmocka_unit_test(test_a_clock_far_behind_its_bound_refuses),
        cmocka_unit_test(test_get_of_agreeing_replicas),
        cmocka_unit_test(test_get_at_one_asks_the_own_slot_alone),
        cmocka_unit_test(test_get_of_nothing),
        cmocka_unit_test(test_get_writes_the_newest_back_before_it_answers),
        cmocka_unit_test(test_slots_beyond_the_quorum_are_repaired_after_the_answer),
        cmocka_unit_test(test_repairs_under_way_are_bounded),
        cmocka_unit_test(test_repairs_of_large_values_are_bounded_too),
        cmocka_unit_test(test_get_refused_by_a_floor_finds_another_holder),
        cmocka_unit_test(test_get_fetches_what_a_digest_announced),
        cmocka_unit_test(test_get_of_a_deletion_one_slot_missed),
        cmocka_unit_test(test_get_replaces_a_slot_that_goes_down),
        cmocka_unit_test(test_who_is_taken_for_down_is_not_asked),
        cmocka_unit_test(test_a_suspect_is_asked_last),
        cmocka_unit_test(test_the_same_zone_is_asked_before_another),
        cmocka_unit_test(test_get_hedges_a_slow_slot),
        cmocka_unit_test(test_get_hedges_after_the_recent_p95),
        cmocka_unit_test(test_a_slow_whole_answer_is_asked_whole_elsewhere),
        cmocka_unit_test(test_hedges_are_a_small_share_of_the_reads),
        cmocka_unit_test(test_a_node_that_is_late_again_and_again_is_asked_last),
        cmocka_unit_test(test_get_asks_another_slot_when_a_record_is_corrupt),
        cmocka_unit_test(test_get_alone_with_a_corrupt_record_says_so),
        cmocka_unit_test(test_get_without_answers_ends_at_the_deadline),
        cmocka_unit_test(test_a_request_that_waited_has_less_time_left),
        cmocka_unit_test(test_requests_without_a_ring),
        cmocka_unit_test(test_requests_beyond_the_table_are_refused),
        cmocka_unit_test(test_a_stopping_node_takes_nothing_new),
        cmocka_unit_test(test_ten_thousand_operations_leave_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
