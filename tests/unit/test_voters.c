/* Who decides about rings: how many, from which zones, and that one change at a time leads there
 * from anywhere. */
#include "test.h"

#include "server/core/voters.h"

#define MEMBERS 60u

struct cluster {
    struct wire_ring ring;
    struct wire_member members[MEMBERS];
    uint32_t voters[LIMIT_VOTERS_MAX];
};

static const char *const zone_names[] = {"", "a", "b", "c"};

static void make(struct cluster *c, uint32_t n, uint32_t n_zones)
{
    *c = (struct cluster){0};
    for (uint32_t i = 0; i < n; i++)
        c->members[i] = (struct wire_member){
            .id = {{1, (uint8_t)i}}, .zone = slice_str(zone_names[i % n_zones]), .weight = 1};
    c->ring.members = c->members;
    c->ring.n_members = n;
    c->ring.voters = c->voters;
}

static void apply(struct cluster *c, struct voters_step step)
{
    uint32_t n = 0;

    if (step.move == VOTERS_ADD) {
        c->voters[c->ring.n_voters++] = step.member;
        return;
    }
    for (uint32_t i = 0; i < c->ring.n_voters; i++)
        if (c->voters[i] != step.member)
            c->voters[n++] = c->voters[i];
    assert_int_equal(n, c->ring.n_voters - 1);
    c->ring.n_voters = n;
}

static void as_many_as_the_size_wants(void **state)
{
    static const uint32_t wanted[][2] = {{1, 1}, {2, 1}, {3, 3},  {4, 3},
                                         {5, 5}, {6, 5}, {49, 5}, {50, 7}};
    uint32_t out[LIMIT_VOTERS_MAX];
    struct cluster c;

    for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
        make(&c, wanted[i][0], 1);
        assert_int_equal(voters_wanted(&c.ring, out), wanted[i][1]);
    }
    make(&c, 5, 1);
    c.members[0].weight = c.members[3].weight = c.members[4].weight = 0; /* drained: 2 usable */
    assert_int_equal(voters_wanted(&c.ring, out), 1);
    assert_int_equal(out[0], 1);
}

static void no_zone_has_a_majority_when_that_can_be(void **state)
{
    uint32_t out[LIMIT_VOTERS_MAX];
    struct cluster c;

    for (uint32_t n = 3; n <= MEMBERS; n++) {
        uint32_t in_zone[3] = {0}, n_voters;

        make(&c, n, 3);
        n_voters = voters_wanted(&c.ring, out);
        for (uint32_t i = 0; i < n_voters; i++)
            in_zone[out[i] % 3]++;
        for (uint32_t z = 0; z < 3; z++)
            assert_in_range(in_zone[z], n_voters / 3, (n_voters + 2) / 3);
    }
}

static void who_votes_stays(void **state)
{
    static const uint32_t now[] = {5, 7, 9};
    struct cluster c;

    make(&c, 10, 1);
    c.ring.n_voters = 3;
    memcpy(c.voters, now, sizeof(now));
    for (uint32_t i = 0; i < 3; i++) {
        struct voters_step step = voters_next(&c.ring);

        if (step.move == VOTERS_STAY)
            break;
        assert_int_equal(step.move, VOTERS_ADD); /* ten members want five */
        apply(&c, step);
    }
    assert_int_equal(c.ring.n_voters, 5);
    assert_memory_equal(c.voters, now, sizeof(now));
    assert_int_equal(c.voters[3], 0); /* then the lowest ids */
    assert_int_equal(c.voters[4], 1);
}

static void a_drained_voter_is_replaced_by_adding_first(void **state)
{
    struct voters_step step;
    struct cluster c;

    make(&c, 4, 1);
    c.ring.n_voters = 3;
    for (uint32_t i = 0; i < 3; i++)
        c.voters[i] = i;
    assert_int_equal(voters_next(&c.ring).move, VOTERS_STAY);
    c.members[1].weight = 0;
    step = voters_next(&c.ring);
    assert_int_equal(step.move, VOTERS_ADD);
    assert_int_equal(step.member, 3);
    apply(&c, step);
    step = voters_next(&c.ring);
    assert_int_equal(step.move, VOTERS_REMOVE);
    assert_int_equal(step.member, 1);
    apply(&c, step);
    assert_int_equal(voters_next(&c.ring).move, VOTERS_STAY);
}

/* With seven there is no room for an eighth. */
static void the_seventh_is_replaced_by_removing_first(void **state)
{
    struct voters_step step;
    struct cluster c;

    make(&c, MEMBERS, 1);
    c.ring.n_voters = 7;
    for (uint32_t i = 0; i < 7; i++)
        c.voters[i] = 2 * i;
    c.members[4].weight = 0;
    step = voters_next(&c.ring);
    assert_int_equal(step.move, VOTERS_REMOVE);
    assert_int_equal(step.member, 4);
    apply(&c, step);
    assert_int_equal(voters_next(&c.ring).move, VOTERS_ADD);
}

static void where_all_are_drained_nothing_changes(void **state)
{
    uint32_t out[LIMIT_VOTERS_MAX];
    struct cluster c;

    make(&c, 3, 1);
    for (uint32_t i = 0; i < 3; i++)
        c.members[i].weight = 0;
    c.ring.n_voters = 1;
    c.voters[0] = 2;
    assert_int_equal(voters_next(&c.ring).move, VOTERS_STAY);
    assert_int_equal(voters_wanted(&c.ring, out), 1);
    assert_int_equal(out[0], 2);
}

/* From random voters of random clusters: within as many steps as there are differences, never
 * beyond the limits, and there it stays. */
static void single_steps_lead_to_what_is_wanted(void **state)
{
    struct test_random random = {5};

    for (uint32_t k = 0; k < 20000; k++) {
        uint32_t n = 1 + (uint32_t)test_random_below(&random, MEMBERS), steps = 0;
        uint32_t out[LIMIT_VOTERS_MAX], n_wanted;
        struct cluster c;
        struct voters_step step;

        make(&c, n, 1 + (uint32_t)test_random_below(&random, 4));
        for (uint32_t i = 0; i < n; i++)
            c.members[i].weight = (uint32_t)test_random_below(&random, 3);
        for (uint32_t i = 0; i < n && c.ring.n_voters < LIMIT_VOTERS_MAX; i++)
            if (test_random_below(&random, n) < 5 || (i + 1 == n && c.ring.n_voters == 0))
                c.voters[c.ring.n_voters++] = i;
        for (; (step = voters_next(&c.ring)).move != VOTERS_STAY; steps++) {
            assert_in_range(steps, 0, 2 * LIMIT_VOTERS_MAX);
            apply(&c, step);
            assert_in_range(c.ring.n_voters, 1, LIMIT_VOTERS_MAX);
        }
        n_wanted = voters_wanted(&c.ring, out);
        assert_int_equal(n_wanted, c.ring.n_voters);
        for (uint32_t i = 0; i < n_wanted; i++) {
            bool is_voter = false;

            for (uint32_t j = 0; j < n_wanted; j++)
                is_voter |= c.voters[j] == out[i];
            assert_true(is_voter);
            assert_true(i == 0 || out[i] > out[i - 1]);
        }
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_many_as_the_size_wants),
        cmocka_unit_test(no_zone_has_a_majority_when_that_can_be),
        cmocka_unit_test(who_votes_stays),
        cmocka_unit_test(a_drained_voter_is_replaced_by_adding_first),
        cmocka_unit_test(the_seventh_is_replaced_by_removing_first),
        cmocka_unit_test(where_all_are_drained_nothing_changes),
        cmocka_unit_test(single_steps_lead_to_what_is_wanted),
    };
    return cmocka_run_group_tests_name("voters", tests, NULL, NULL);
}
