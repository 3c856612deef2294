/* test_claim: claim against twins that try everything, on small clusters that change at random.
 *
 *   test_claim [TRANSITIONS [SEED]]
 *
 * Clusters of up to a dozen members in up to four zones, with and without weights, live through
 * joins, deaths, drains, changes of weight and zone, and damage to the table. After each claim the
 * table is legal, shares are those of the twin, and the number of slots moved is exactly the least
 * that a minimum-cost flow over the whole graph needs for the same quotas.
 *
 * Built once more with CLAIM_LOOSE the rule of zones is another one, with room between most and
 * least: claim itself must not care.
 */
#include "tests/model/claim_exact.h"
#include "tests/unit/test.h"

#include <math.h>
#include <stdio.h>

#define SLOTS_MAX LIMIT_SLOTS_MAX
#define PARTITIONS_MAX 256u

static uint32_t transitions = 10000;
static uint64_t seed = 20260;

struct life {
    struct test_random random;
    struct wire_member members[EXACT_MEMBERS];
    char zones[EXACT_MEMBERS][16];
    uint32_t n, n_most, n_zones, q, replicas, n_slots, next_id;
    bool weights;
    uint32_t table[PARTITIONS_MAX * SLOTS_MAX], primary[PARTITIONS_MAX];
    bool formed;
};

#ifdef CLAIM_LOOSE
#include "server/core/claim_impl.h"

void __wrap_claim_spread(struct claim_cluster *c);

/* In the place of claim's own rule. */
void __wrap_claim_spread(struct claim_cluster *c)
{
    uint32_t most = c->n_seats > 1 ? c->n_seats - 1 : 1, sum;

    do {
        sum = 0;
        for (uint32_t z = 0; z < c->n_zones; z++) {
            uint32_t n = c->zone_first[z + 1] - c->zone_first[z];

            c->cap[z] = n < most ? n : most;
            sum += c->cap[z];
        }
        most++;
    } while (sum < c->n_seats);
    for (uint32_t z = 0; z < c->n_zones; z++)
        c->lo[z] = c->n_seats > sum - c->cap[z] ? c->n_seats - (sum - c->cap[z]) : 0;
}
#endif

static struct {
    uint64_t moved, exact, bound, at_bound, n, forced;
} sums;

static uint32_t below(struct life *l, uint32_t n)
{
    return (uint32_t)test_random_below(&l->random, n);
}

static void set_zone(struct life *l, uint32_t i)
{
    snprintf(l->zones[i], sizeof(l->zones[i]), "z%u", below(l, l->n_zones));
    l->members[i].zone = slice_str(l->zones[i]);
}

static void add_member(struct life *l)
{
    uint32_t i = l->n++;
    uint64_t id = test_random_u64(&l->random);

    l->members[i] = (struct wire_member){.weight = l->weights ? 1u << below(l, 3) : 1};
    memcpy(l->members[i].id.b, &id, sizeof(id));
    l->members[i].id.b[15] = (uint8_t)++l->next_id;
    set_zone(l, i);
}

/* Gone from the list: its slots are nobody's. */
static void lose_member(struct life *l, uint32_t i)
{
    for (size_t k = 0; k < (size_t)l->q * l->n_slots; k++)
        if (l->table[k] == i)
            l->table[k] = CLAIM_NONE;
        else if (l->table[k] != CLAIM_NONE && l->table[k] > i)
            l->table[k]--;
    for (; i + 1 < l->n; i++) {
        l->members[i] = l->members[i + 1];
        memcpy(l->zones[i], l->zones[i + 1], sizeof(l->zones[i]));
        l->members[i].zone = slice_str(l->zones[i]);
    }
    l->n--;
}

static uint32_t n_usable(const struct life *l)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < l->n; i++)
        n += l->members[i].weight > 0;
    return n;
}

/* Two slots trade their members, or one is lost: tables that no claim would make. */
static void damage(struct life *l)
{
    size_t a = below(l, l->q * l->n_slots), b = below(l, l->q * l->n_slots);
    uint32_t was[2] = {l->table[a], l->table[b]};

    l->table[a] = below(l, 2) ? was[1] : CLAIM_NONE;
    l->table[b] = was[0];
    for (size_t k = 0; k < 2; k++) {
        size_t row = (k ? b : a) / l->n_slots * l->n_slots;

        for (size_t s = row; s < row + l->n_slots; s++)
            for (size_t t = row; t < s; t++)
                if (l->table[s] == l->table[t])
                    l->table[s] = CLAIM_NONE;
    }
}

static void change(struct life *l)
{
    uint32_t i = below(l, l->n);

    switch (below(l, 12)) {
    case 0:
    case 1:
    case 2:
    case 3:
        if (l->n > 2 && (n_usable(l) > 1 || l->members[i].weight == 0))
            lose_member(l, i);
        break;
    case 4:
        if (n_usable(l) > 1)
            l->members[i].weight = 0;
        break;
    case 5:
        l->members[i].weight = l->weights ? 1u << below(l, 3) : 1;
        break;
    case 6:
        set_zone(l, i);
        break;
    case 7:
        if (l->formed)
            for (uint32_t k = below(l, 8); k > 0; k--)
                damage(l);
        break;
    default:
        if (l->n < l->n_most)
            add_member(l);
        break;
    }
}

static void begin_life(struct life *l, uint64_t random)
{
    static const uint32_t replicas[] = {1, 2, 3, 3, 5, 7};

    memset(l, 0, sizeof(*l));
    l->random.s = random;
    l->q = below(l, 2) ? 16 : 32;
    l->replicas = replicas[below(l, ARRAY_LEN(replicas))];
    l->n_zones = 1 + below(l, 4);
    l->n_most = 12;
    l->weights = below(l, 5) < 2;
    for (uint32_t k = 1 + below(l, 7); k > 0; k--)
        add_member(l);
}

static struct claim_input input_of(const struct life *l)
{
    return (struct claim_input){.members = l->members,
                                .n_members = l->n,
                                .n_partitions = l->q,
                                .replicas = l->replicas,
                                .table = l->formed ? l->table : NULL,
                                .primary = l->formed ? l->primary : NULL,
                                .n_slots = l->formed ? l->n_slots : 0};
}

static void check_shares(const struct exact *e, const struct claim *c)
{
    double in_zone[EXACT_MEMBERS] = {0};

    for (uint32_t i = 0; i < e->n_members; i++) {
        in_zone[e->zone[i]] += c->shares[i].slots_after;
        if (e->usable[i])
            assert_true(fabs(c->shares[i].slots_after - e->share[i]) < 1);
        else
            assert_int_equal(c->shares[i].slots_after, 0);
    }
    for (uint32_t z = 0; z < e->n_zones; z++)
        assert_true(fabs(in_zone[z] - e->zone_share[z]) < 1 + 1e-6);
}

static void check(const struct claim_input *in, const struct claim *c)
{
    uint32_t quota[EXACT_MEMBERS], primaries[EXACT_MEMBERS], moves;
    struct exact e;

    exact_init(&e, in);
    assert_int_equal(c->n_seats, e.n_seats);
    assert_int_equal(c->violations, 0);
    for (uint32_t p = 0; p < in->n_partitions; p++)
        assert_true(exact_row_ok(&e, &c->table[p * c->n_slots], c->n_slots));
    check_shares(&e, c);
    for (uint32_t i = 0; i < e.n_members; i++) {
        quota[i] = c->shares[i].slots_after;
        primaries[i] = c->shares[i].primaries_after;
    }
    moves = exact_moves(&e, in, quota);
    assert_int_equal(c->moved, moves);
    assert_in_range(c->lower_bound, 0, c->moved);
    assert_int_equal(exact_roles_of(&e, in, primaries), exact_roles(&e, in, c->table, c->n_slots));
    sums.n++;
    sums.moved += c->moved;
    sums.exact += moves;
    sums.bound += c->lower_bound;
    sums.at_bound += c->moved == c->lower_bound;
}

static void check_again(const struct claim_input *in, const struct claim *c, struct arena *arena)
{
    struct claim_input again = *in;
    struct claim same;

    again.table = c->table;
    again.primary = c->primary;
    again.n_slots = c->n_slots;
    assert_int_equal(claim_compute(&again, arena, &same), 0);
    assert_int_equal(same.moved, 0);
    assert_memory_equal(same.table, c->table, in->n_partitions * c->n_slots * sizeof(uint32_t));
    assert_memory_equal(same.primary, c->primary, in->n_partitions * sizeof(uint32_t));
}

static void step(struct life *l)
{
    struct claim_input in = input_of(l);
    struct arena arena;
    struct claim c;

    arena_init(&arena, 1u << 20);
    assert_int_equal(claim_compute(&in, &arena, &c), 0);
    check(&in, &c);
    check_again(&in, &c, &arena);
    l->n_slots = c.n_slots;
    memcpy(l->table, c.table, l->q * c.n_slots * sizeof(uint32_t));
    memcpy(l->primary, c.primary, l->q * sizeof(uint32_t));
    l->formed = true;
    arena_deinit(&arena);
}

static void no_more_slots_move_than_must(void **state)
{
    (void)state;
    for (uint64_t k = 0; sums.n < transitions; k++) {
        struct life l;

        begin_life(&l, seed + k);
        step(&l);
        for (int i = 0; i < 9 && sums.n < transitions; i++) {
            for (uint32_t n = 1 + below(&l, 3); n > 0; n--)
                change(&l);
            step(&l);
        }
    }
    print_message("# seed %llu: %llu claims moved %llu slots, the least possible is %llu; "
                  "%llu %% met the bound by load (%llu)\n",
                  (unsigned long long)seed, (unsigned long long)sums.n,
                  (unsigned long long)sums.moved, (unsigned long long)sums.exact,
                  (unsigned long long)(100 * sums.at_bound / sums.n),
                  (unsigned long long)sums.bound);
}

static void nor_in_larger_clusters(void **state)
{
    int n_lives = test_is_quick() ? 2 : 10;

    (void)state;
    for (int k = 0; k < n_lives; k++) {
        struct life l;

        begin_life(&l, seed + 2000000 + (uint64_t)k);
        l.q = PARTITIONS_MAX;
        l.n_most = EXACT_MEMBERS;
        while (l.n < 16)
            add_member(&l);
        step(&l);
        for (int i = 0; i < 4; i++) {
            for (uint32_t n = 1 + below(&l, 4); n > 0; n--)
                change(&l);
            step(&l);
        }
    }
}

/* The flow itself against all tables there are. */
static void the_flow_agrees_with_trying_all_tables(void **state)
{
    uint32_t wanted = test_is_quick() ? 100 : 400;

    (void)state;
    for (uint64_t k = 0; sums.forced < wanted; k++) {
        struct life l;

        begin_life(&l, seed + 1000000 + k);
        l.q = 4;
        l.replicas = 1 + below(&l, 3);
        while (l.n > 4)
            lose_member(&l, l.n - 1);
        step(&l);
        for (int i = 0; i < 4; i++) {
            uint32_t quota[EXACT_MEMBERS];
            struct claim_input in;
            struct arena arena;
            struct exact e;
            struct claim c;

            change(&l);
            if (l.n > 5)
                lose_member(&l, 0);
            if (n_usable(&l) == 0)
                break;
            in = input_of(&l);
            arena_init(&arena, 1u << 20);
            assert_int_equal(claim_compute(&in, &arena, &c), 0);
            for (uint32_t m = 0; m < l.n; m++)
                quota[m] = c.shares[m].slots_after;
            exact_init(&e, &in);
            assert_int_equal(exact_moves_by_force(&e, &in, quota), exact_moves(&e, &in, quota));
            assert_int_equal(exact_moves_by_force(&e, &in, quota), c.moved);
            arena_deinit(&arena);
            step(&l);
            sums.forced++;
        }
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_more_slots_move_than_must),
        cmocka_unit_test(nor_in_larger_clusters),
        cmocka_unit_test(the_flow_agrees_with_trying_all_tables),
    };

    if (test_is_quick())
        transitions = 1000;
    if (argc > 1)
        transitions = (uint32_t)strtoul(argv[1], NULL, 10);
    if (argc > 2)
        seed = strtoull(argv[2], NULL, 10);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
