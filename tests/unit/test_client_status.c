/* From the wire's status to the public one: nothing that a node says may lead astray. */
#include "tests/unit/test.h"

#include "client/status.h"
#include "tests/unit/wire_sample.h"

/* The sample with a ring, and this said of when its first member was heard. */
static const struct quoit_status *filled(uint64_t heard_ms, struct arena *arena)
{
    struct wire_response answers[SAMPLE_RESPONSES];
    struct wire_member_status members[5];
    struct wire_status_result from;
    const struct quoit_status *to;

    sample_responses(answers);
    from = *answers[11].u.status;
    assert_int_equal(from.n_members, 5);
    memcpy(members, from.members, sizeof(members));
    members[0].heard_ms = heard_ms;
    from.members = members;
    assert_int_equal(status_fill(&from, arena, &to), 0);
    return to;
}

static void any_time_of_hearing_is_a_time(void **state)
{
    static const struct {
        uint64_t wire;
        int64_t expect;
    } cases[] = {{0, -1},
                 {1, 0},
                 {251, 250},
                 {INT64_MAX, INT64_MAX - 1},
                 {(uint64_t)INT64_MAX + 1, INT64_MAX},
                 {(uint64_t)INT64_MAX + 2, INT64_MAX},
                 {UINT64_MAX, INT64_MAX}};
    struct arena arena;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        arena_init(&arena, STATUS_ARENA_BYTES);
        assert_int_equal(filled(cases[i].wire, &arena)->members[0].heard_ms, cases[i].expect);
        arena_deinit(&arena);
    }
}

static void members_problems_and_partitions_are_tied_together(void **state)
{
    struct arena arena;
    const struct quoit_status *s;

    arena_init(&arena, STATUS_ARENA_BYTES);
    s = filled(1, &arena);
    assert_int_equal(s->n_members, 5);
    assert_int_equal(s->n_by_live[4], 58);
    assert_ptr_equal(s->problems[0].member, &s->members[3]);
    assert_null(s->problems[1].member);
    assert_string_equal(s->problems[1].text, "and 7 more");
    assert_int_equal(s->n_partitions, 64);
    for (uint32_t p = 0; p < s->n_partitions; p++)
        for (uint32_t i = 0; i < s->partitions[p].n_replicas; i++)
            assert_in_range(s->partitions[p].replicas[i].member - s->members, 0, 4);
    arena_deinit(&arena);
}

static void counts_are_those_of_the_node_that_answers(void **state)
{
    struct wire_response answers[SAMPLE_RESPONSES];
    struct wire_status_result from;
    const struct quoit_status *s;
    struct arena arena;
    uint32_t n_counted = 0, n_own = 0;

    sample_responses(answers);
    from = *answers[11].u.status;
    from.node_id = from.members[1].member.id;
    arena_init(&arena, STATUS_ARENA_BYTES);
    assert_int_equal(status_fill(&from, &arena, &s), 0);
    for (uint32_t p = 0; p < s->n_partitions; p++) {
        for (uint32_t i = 0; i < s->partitions[p].n_replicas; i++) {
            const struct quoit_replica *r = &s->partitions[p].replicas[i];
            bool own = memcmp(r->member->id, s->node_id, sizeof(s->node_id)) == 0;

            n_own += own;
            n_counted += r->counted;
            assert_int_equal(r->counted, own && p % 5 != 0);
            assert_int_equal(r->n_records, r->counted ? 1000 * p : 0);
            assert_int_equal(r->n_tombstones, r->counted ? p : 0);
            assert_true(r->digest == (r->counted ? (uint64_t)p << 58 | 7 : 0));
        }
    }
    assert_in_range(n_counted, 1, n_own - 1);
    arena_deinit(&arena);
}

static void without_room_there_is_no_status(void **state)
{
    struct wire_response answers[SAMPLE_RESPONSES];
    const struct quoit_status *untouched = NULL;
    struct arena arena;
    int r = -1;

    sample_responses(answers);
    for (size_t budget = 0; r != 0; budget += 64) {
        arena_init(&arena, budget);
        r = status_fill(answers[11].u.status, &arena, &untouched);
        assert_true(r == (untouched ? 0 : -ERR_NO_MEMORY));
        arena_deinit(&arena);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_time_of_hearing_is_a_time),
        cmocka_unit_test(members_problems_and_partitions_are_tied_together),
        cmocka_unit_test(counts_are_those_of_the_node_that_answers),
        cmocka_unit_test(without_room_there_is_no_status),
    };
    return cmocka_run_group_tests_name("client_status", tests, NULL, NULL);
}
