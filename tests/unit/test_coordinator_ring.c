/* test_coordinator_ring: operations under way while a ring with higher fence versions is published.
 *
 * Each of these was once wrong and was found by the simulator; there a schedule has to come about
 * by chance, here it is told. Node n0 is the coordinator and holds slot 0. */
#include "tests/unit/story.h"
#include "tests/unit/test.h"

#include <stdlib.h>

/* Outcome and version of an answer that is an ack. */
#define ACK OUTCOME_STORED, no_version

static const struct version no_version;

static struct story *begin(void)
{
    struct story *s = calloc(1, sizeof(*s));

    assert_non_null(s);
    story_start(s, &(struct story_options){0});
    story_put(s, 1, LEVEL_ONE, "first"); /* waits for the lease */
    story_stored(s, 1, 0, ACK);
    s->lines[0] = '\0';
    return s;
}

static void end(struct story *s)
{
    story_end(s);
    free(s);
}

/* The next epoch: every partition's fence version grows by one. */
static void publish(struct story *s)
{
    struct wire_ring wire = *ring_wire(s->ring);
    struct event e = {.type = EVENT_RING};
    uint32_t *fence = malloc(wire.n_partitions * sizeof(*fence));
    struct ring *ring;

    assert_non_null(fence);
    for (uint32_t p = 0; p < wire.n_partitions; p++)
        fence[p] = wire.fence[p] + 1;
    wire.epoch++;
    wire.fence = fence;
    assert_int_equal(ring_new(&wire, NULL, NULL, &ring), 0);
    e.u.ring.ring = ring;
    story_step(s, &e);
    ring_unref(ring);
    free(fence);
}

static struct version above(struct version v)
{
    v.hlc += 1u << 20;
    return v;
}

static void superseded_after_a_new_ring_is_not_an_ack(void **state)
{
    struct story *s = begin();
    struct version newer;

    (void)state;
    story_put(s, 7, LEVEL_QUORUM, "v");
    publish(s);
    newer = above(s->last_version);
    s->lines[0] = '\0';
    story_answer_put(s, 1, 0, OUTCOME_SUPERSEDED, newer);
    story_answer_put(s, 2, 0, OUTCOME_SUPERSEDED, newer);
    story_expect(s,
                 "trace RESTAMP\nsend n1 put state \"v\"\nsend n2 put state \"v\"\nstore put 4\n");
    assert_true(version_compare(s->last_version, newer) > 0);
    story_answer_put(s, 1, 0, ACK);
    story_answer_put(s, 2, 0, OUTCOME_SUPERSEDED, above(s->last_version));
    story_expect(s, "reply 7 ok\n");
    end(s);
}

static void a_write_sent_before_a_new_ring_may_be_stored(void **state)
{
    struct story *s = begin();

    (void)state;
    story_put(s, 7, LEVEL_QUORUM, "v");
    publish(s);
    s->lines[0] = '\0';
    story_stored(s, 3, -ERR_NO_SPACE, OUTCOME_NONE, no_version);
    story_answer_put(s, 1, ERR_NO_SPACE, OUTCOME_NONE, no_version);
    story_answer_put(s, 2, ERR_NO_SPACE, OUTCOME_NONE, no_version);
    story_expect(s, "reply 7 UNKNOWN_OUTCOME\n");
    end(s);
}

static void all_stamps_anew_when_one_slot_has_something_newer(void **state)
{
    struct story *s = begin();
    struct version newer;

    (void)state;
    story_put(s, 7, LEVEL_ALL, "v");
    newer = above(s->last_version);
    s->lines[0] = '\0';
    story_answer_put(s, 1, 0, OUTCOME_SUPERSEDED, newer);
    story_answer_put(s, 2, 0, OUTCOME_SUPERSEDED, newer);
    story_expect(s, "");
    story_stored(s, 2, 0, OUTCOME_SUPERSEDED, newer);
    story_expect(s,
                 "trace RESTAMP\nsend n1 put state \"v\"\nsend n2 put state \"v\"\nstore put 3\n");
    end(s);
}

/* Three versions on three slots. What n0 has is newest, but n0 goes by the old ring still when the
 * get begins anew, so only what n1 and n2 have may count. */
static void a_get_takes_nothing_over_from_an_older_fence(void **state)
{
    struct story *s = begin();
    struct state newest = story_state(30, "newest"), middle = story_state(20, "middle"),
                 oldest = story_state(10, "oldest");

    (void)state;
    story_get(s, 7, LEVEL_QUORUM);
    story_got(s, 1, 0, &newest, 0);
    publish(s);
    s->lines[0] = '\0';
    story_got(s, 2, -ERR_CORRUPT, NULL, 0);
    s->lines[0] = '\0';
    story_answer_get(s, 1, 0, &middle);
    story_answer_get(s, 2, 0, &oldest);
    story_expect(s, "send n1 get full\n");
    story_answer_get(s, 1, 0, &middle);
    story_expect(s, "send n2 put state \"middle\"\ntrace REPAIR\n");
    story_answer_put(s, 2, 0, ACK);
    story_expect(s, "reply 7 found \"middle\"\nstore put 2\n"); /* beyond W, for what it is worth */
    end(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(superseded_after_a_new_ring_is_not_an_ack),
        cmocka_unit_test(a_write_sent_before_a_new_ring_may_be_stored),
        cmocka_unit_test(all_stamps_anew_when_one_slot_has_something_newer),
        cmocka_unit_test(a_get_takes_nothing_over_from_an_older_fence),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
