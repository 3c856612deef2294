/* test_claim: what a claim promises, for clusters as they are in life: balance, few moves, zones,
 * and the same table whoever computes it. tests/model/test_claim.c compares small ones with the
 * exact minimum; here are the large ones, and the goals that were set for them.
 */
#include "server/core/claim_impl.h"
#include "tests/unit/test.h"

#include <stdio.h>

#define MEMBERS LIMIT_MEMBERS_MAX

struct cluster {
    struct wire_member members[MEMBERS];
    char zones[MEMBERS][16];
    uint32_t n, q, replicas, n_added;
    uint32_t *table, *primary, n_slots; /* of the last claim, or NULL */
    struct arena arena;
    struct claim claim;
};

static struct cluster *make(uint32_t q, uint32_t replicas)
{
    struct cluster *c = calloc(1, sizeof(*c));

    assert_non_null(c);
    c->q = q;
    c->replicas = replicas;
    arena_init(&c->arena, 64u << 20);
    return c;
}

static void drop(struct cluster *c)
{
    arena_deinit(&c->arena);
    free(c->table);
    free(c->primary);
    free(c);
}

static void add(struct cluster *c, uint32_t n, uint32_t zone, uint32_t weight)
{
    for (; n > 0; n--) {
        struct test_random random = {.s = ++c->n_added};
        uint64_t id = test_random_u64(&random);
        uint32_t i = c->n++;

        c->members[i] = (struct wire_member){.weight = weight};
        memcpy(c->members[i].id.b, &id, sizeof(id));
        snprintf(c->zones[i], sizeof(c->zones[i]), "z%u", zone);
        c->members[i].zone = slice_str(c->zones[i]);
    }
}

static struct cluster *make_equal(uint32_t q, uint32_t replicas, uint32_t n, uint32_t n_zones)
{
    struct cluster *c = make(q, replicas);

    for (uint32_t i = 0; i < n; i++)
        add(c, 1, i % n_zones, 1);
    return c;
}

static struct claim_input input_of(const struct cluster *c)
{
    return (struct claim_input){.members = c->members,
                                .n_members = c->n,
                                .n_partitions = c->q,
                                .replicas = c->replicas,
                                .table = c->table,
                                .primary = c->primary,
                                .n_slots = c->n_slots};
}

/* Claims, and takes the new table. */
static const struct claim *claim(struct cluster *c)
{
    struct claim_input in = input_of(c);
    size_t bytes;

    arena_reset(&c->arena, 64u << 20);
    assert_int_equal(claim_compute(&in, &c->arena, &c->claim), 0);
    bytes = (size_t)c->q * c->claim.n_slots * sizeof(uint32_t);
    c->n_slots = c->claim.n_slots;
    c->table = realloc(c->table, bytes);
    c->primary = realloc(c->primary, c->q * sizeof(uint32_t));
    assert_true(c->table && c->primary);
    memcpy(c->table, c->claim.table, bytes);
    memcpy(c->primary, c->claim.primary, c->q * sizeof(uint32_t));
    assert_int_equal(c->claim.violations, 0);
    assert_in_range(c->claim.moved, c->claim.lower_bound, UINT32_MAX);
    return &c->claim;
}

/* It is not in the list any more. */
static void lose(struct cluster *c, uint32_t member)
{
    for (size_t k = 0; k < (size_t)c->q * c->n_slots; k++)
        if (c->table[k] == member)
            c->table[k] = CLAIM_NONE;
        else if (c->table[k] != CLAIM_NONE && c->table[k] > member)
            c->table[k]--;
    for (uint32_t i = member; i + 1 < c->n; i++) {
        c->members[i] = c->members[i + 1];
        memcpy(c->zones[i], c->zones[i + 1], sizeof(c->zones[i]));
        c->members[i].zone = slice_str(c->zones[i]);
    }
    c->n--;
}

static void assert_in_share(const struct cluster *c, bool primaries)
{
    uint64_t weights = 0;

    for (uint32_t i = 0; i < c->n; i++)
        weights += c->members[i].weight;
    for (uint32_t i = 0; i < c->n; i++) {
        uint64_t all = primaries ? c->q : (uint64_t)c->q * c->claim.n_seats;
        uint64_t share = all * c->members[i].weight;
        uint32_t has =
            primaries ? c->claim.shares[i].primaries_after : c->claim.shares[i].slots_after;

        assert_in_range(has, share / weights, (share + weights - 1) / weights);
    }
}

/* ---- balance ----------------------------------------------------------------------------- */

static void slots_and_primaries_are_even_after_every_join_and_death(void **state)
{
    struct cluster *c = make(1024, 3);

    (void)state;
    for (uint32_t n = 1; n <= 12; n++) {
        add(c, 1, 0, 1);
        claim(c);
        assert_in_share(c, false);
        assert_in_share(c, true);
        assert_int_equal(c->claim.moved, c->claim.lower_bound);
    }
    for (uint32_t n = 12; n > 3; n--) {
        lose(c, n / 2);
        claim(c);
        assert_in_share(c, false);
        assert_in_share(c, true);
        assert_int_equal(c->claim.moved, c->claim.lower_bound);
    }
    drop(c);
}

static void thousand_nodes_are_even(void **state)
{
    struct cluster *c = make_equal(LIMIT_PARTITIONS_MAX, 3, 1000, 1);

    (void)state;
    claim(c);
    assert_in_share(c, false);
    assert_in_share(c, true);
    add(c, 1, 0, 1);
    claim(c);
    assert_in_share(c, false);
    assert_in_share(c, true);
    assert_int_equal(c->claim.moved, c->claim.lower_bound);
    drop(c);
}

static void loads_follow_weights_and_their_changes(void **state)
{
    static const uint32_t weights[] = {1, 1, 2, 4};
    struct cluster *c = make(1024, 3);

    (void)state;
    for (uint32_t i = 0; i < 12; i++)
        add(c, 1, 0, weights[i % 4]);
    claim(c);
    assert_in_share(c, false);
    assert_in_share(c, true);
    for (uint32_t i = 0; i < 12; i++)
        c->members[i].weight = weights[3 - i % 4];
    claim(c);
    assert_in_share(c, false);
    assert_in_share(c, true);
    assert_int_equal(c->claim.moved, c->claim.lower_bound);
    drop(c);
}

static void primaries_are_even_where_zones_keep_slots_from_being_so(void **state)
{
    struct cluster *c = make(1024, 3);

    (void)state;
    add(c, 5, 0, 1);
    add(c, 3, 1, 1);
    add(c, 2, 2, 1);
    claim(c);
    assert_in_share(c, true);
    assert_in_range(c->claim.shares[0].slots_after, 204, 205);
    assert_in_range(c->claim.shares[9].slots_after, 512, 512);
    drop(c);
}

/* Rows that no claim makes: one node holds two partitions, one the next two and the last ones. */
static void rows_that_cannot_be_even_are_as_even_as_can_be(void **state)
{
    uint32_t weight[5] = {1, 1, 1, 1, 1}, load[5] = {0};
    struct claim_cluster c = {.n_partitions = 64, .n_seats = 2, .n_nodes = 5, .weight = weight};
    uint16_t table[64 * 2], primary[64];
    struct arena arena;

    (void)state;
    for (uint16_t p = 0; p < 64; p++) {
        table[p * 2] = p < 2 ? 0 : p < 4 || p >= 60 ? 1 : 2;
        table[p * 2 + 1] = p < 60 ? 3 : 4;
        primary[p] = 3;
    }
    arena_init(&arena, 1u << 20);
    assert_int_equal(claim_roles(&c, table, 2, &arena, primary), 0);
    for (uint32_t p = 0; p < 64; p++) {
        assert_true(primary[p] == table[p * 2] || primary[p] == table[p * 2 + 1]);
        load[primary[p]]++;
    }
    /* a fifth of 64 would be fair */
    assert_int_equal(load[0], 2);
    assert_int_equal(load[1] + load[4], 6);
    assert_int_equal(load[2], 28);
    assert_int_equal(load[3], 28);
    arena_deinit(&arena);
}

/* ---- moves ------------------------------------------------------------------------------- */

static void two_hundred_joins_and_deaths_move_what_they_must(void **state)
{
    static const uint32_t n_zones[] = {1, 3};

    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(n_zones); k++) {
        struct cluster *c = make_equal(256, 3, 10, n_zones[k]);
        struct test_random random = {.s = k + 1};
        uint64_t moved = 0, bound = 0;

        claim(c);
        for (int i = 0; i < 200; i++) {
            if (c->n < 9 || (c->n < 17 && test_random_below(&random, 2)))
                add(c, 1, (uint32_t)test_random_below(&random, n_zones[k]), 1);
            else
                lose(c, (uint32_t)test_random_below(&random, c->n));
            claim(c);
            moved += c->claim.moved;
            bound += c->claim.lower_bound;
        }
        assert_in_range(moved * 100, bound * 100, bound * 101);
        drop(c);
    }
}

static void a_newcomer_gets_what_a_dead_node_had(void **state)
{
    (void)state;
    for (uint32_t dead = 0; dead < 10; dead++) {
        struct cluster *c = make_equal(1024, 3, 10, 1);
        uint32_t had;

        claim(c);
        had = c->claim.shares[dead].slots_after;
        lose(c, dead);
        add(c, 1, 0, 1);
        claim(c);
        assert_int_equal(c->claim.moved, had);
        drop(c);
    }
}

/* 128 slots in three zones, 42 and two thirds each: who is rounded up stays so, whatever the order
 * in which zones are met, which is that of ids. */
static void zones_keep_how_they_were_rounded(void **state)
{
    (void)state;
    for (uint32_t k = 0; k < 120; k++) {
        struct cluster *c = make_equal(64, 2, 6, 3);
        uint32_t dead = k % 6, had;

        claim(c);
        had = c->claim.shares[dead].slots_after;
        lose(c, dead);
        c->n_added = 100 + k;
        add(c, 1, dead % 3, 1);
        claim(c);
        assert_int_equal(c->claim.moved, had);
        drop(c);
    }
}

static void a_drained_node_gives_up_everything_and_nobody_else_anything(void **state)
{
    struct cluster *c = make_equal(1024, 3, 5, 1);
    uint32_t had;

    (void)state;
    claim(c);
    had = c->claim.shares[2].slots_after;
    c->members[2].weight = 0;
    claim(c);
    assert_int_equal(c->claim.moved, had);
    assert_int_equal(c->claim.shares[2].slots_after, 0);
    assert_int_equal(c->claim.shares[2].slots_before, had);
    drop(c);
}

static void joining_together_moves_less_than_one_by_one(void **state)
{
    struct cluster *together = make_equal(1024, 3, 3, 1), *single = make_equal(1024, 3, 3, 1);
    uint32_t sum = 0;

    (void)state;
    claim(together);
    claim(single);
    add(together, 3, 0, 1);
    claim(together);
    for (int i = 0; i < 3; i++) {
        add(single, 1, 0, 1);
        sum += claim(single)->moved;
    }
    assert_int_equal(together->claim.moved, 1536);
    assert_int_equal(sum, 768 + 614 + 512);
    drop(together);
    drop(single);
}

/* Slots that each member gives up and gets. */
static void count_changes(const struct cluster *c, const uint32_t *before, uint32_t *out,
                          uint32_t *in)
{
    memset(out, 0, MEMBERS * sizeof(*out));
    memset(in, 0, MEMBERS * sizeof(*in));
    for (size_t k = 0; k < (size_t)c->q * c->n_slots; k++)
        if (before[k] != c->table[k]) {
            if (before[k] != CLAIM_NONE)
                out[before[k]]++;
            in[c->table[k]]++;
        }
}

static void a_joining_node_takes_from_all_alike(void **state)
{
    static const struct {
        uint32_t q, n, n_zones;
    } shapes[] = {{1024, 6, 1}, {1024, 9, 3}, {4096, 50, 1}, {4096, 99, 3}, {4096, 100, 1}};
    static uint32_t out[MEMBERS], in[MEMBERS];

    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(shapes); k++) {
        struct cluster *c = make_equal(shapes[k].q, 3, shapes[k].n, shapes[k].n_zones);
        uint32_t *before, n_sources = 0, n_givers = 0, most = 0;

        claim(c);
        before = malloc((size_t)c->q * c->n_slots * sizeof(uint32_t));
        assert_non_null(before);
        memcpy(before, c->table, (size_t)c->q * c->n_slots * sizeof(uint32_t));
        add(c, 1, shapes[k].n % shapes[k].n_zones, 1);
        claim(c);
        count_changes(c, before, out, in);
        for (uint32_t i = 0; i < shapes[k].n; i++) {
            n_sources += out[i] > 0;
            n_givers += c->claim.shares[i].slots_after < c->claim.shares[i].slots_before;
            most = out[i] > most ? out[i] : most;
        }
        assert_true(n_sources * 10 >= n_givers * 9);
        assert_int_equal(in[c->n - 1], c->claim.moved);
        if (c->claim.moved >= 10 * shapes[k].n)
            assert_true(most * n_sources * 10 <= c->claim.moved * 11);
        free(before);
        drop(c);
    }
}

static void all_survivors_of_a_death_get_their_part(void **state)
{
    static uint32_t out[MEMBERS], in[MEMBERS];

    (void)state;
    for (uint32_t n = 5; n <= 12; n++) {
        struct cluster *c = make_equal(1024, 3, n, 1);
        uint32_t *before, most = 0;

        claim(c);
        lose(c, 1);
        before = malloc((size_t)c->q * c->n_slots * sizeof(uint32_t));
        assert_non_null(before);
        memcpy(before, c->table, (size_t)c->q * c->n_slots * sizeof(uint32_t));
        claim(c);
        count_changes(c, before, out, in);
        for (uint32_t i = 0; i < c->n; i++) {
            assert_int_not_equal(in[i], 0);
            most = in[i] > most ? in[i] : most;
        }
        assert_true(most * c->n * 10 <= c->claim.moved * 11);
        free(before);
        drop(c);
    }
}

/* ---- zones ------------------------------------------------------------------------------- */

static uint32_t in_zone(const struct cluster *c, uint32_t p, const char *zone)
{
    uint32_t n = 0;

    for (uint32_t s = 0; s < c->n_slots; s++)
        if (c->table[(size_t)p * c->n_slots + s] != CLAIM_NONE)
            n +=
                slice_equal(c->members[c->table[(size_t)p * c->n_slots + s]].zone, slice_str(zone));
    return n;
}

static void new_zones_get_a_replica_of_everything(void **state)
{
    struct cluster *c = make_equal(1024, 3, 6, 1);

    (void)state;
    claim(c);
    add(c, 2, 1, 1);
    add(c, 1, 2, 1);
    claim(c);
    assert_int_equal(c->claim.violations_before, 1024);
    for (uint32_t p = 0; p < c->q; p++)
        for (int z = 0; z < 3; z++) {
            char name[16];

            snprintf(name, sizeof(name), "z%d", z);
            assert_int_equal(in_zone(c, p, name), 1);
        }
    assert_int_equal(c->claim.moved, 2048);
    drop(c);
}

static void the_price_of_zones_is_told(void **state)
{
    struct cluster *c = make(1024, 3);

    (void)state;
    add(c, 8, 0, 1);
    claim(c);
    assert_int_equal(c->claim.zone_cost_permille, 1000);
    assert_true(c->claim.zone_cost_member == CLAIM_NONE);
    add(c, 1, 1, 1);
    add(c, 1, 2, 1);
    claim(c);
    /* alone in its zone: a replica of everything, where a tenth of three would be fair */
    assert_int_equal(c->claim.shares[8].slots_after, 1024);
    assert_in_range(c->claim.shares[8].slots_without_zones, 307, 308);
    assert_in_range(c->claim.zone_cost_permille, 3300, 3400);
    assert_true(c->claim.zone_cost_member == 8 || c->claim.zone_cost_member == 9);
    drop(c);
}

static void violations_are_counted(void **state)
{
    struct cluster *c = make_equal(64, 2, 4, 2);
    struct claim_input in;
    uint32_t n = 99;

    (void)state;
    claim(c);
    in = input_of(c);
    assert_int_equal(claim_violations(&in, &n), 0);
    assert_int_equal(n, 0);
    c->table[0] = 0; /* both in one zone */
    c->table[1] = 2;
    c->table[2] = CLAIM_NONE; /* and one without a replica in the other */
    assert_int_equal(claim_violations(&in, &n), 0);
    assert_int_equal(n, 2);
    drop(c);
}

/* ---- slots ------------------------------------------------------------------------------- */

static void who_stays_keeps_its_slot(void **state)
{
    struct cluster *c = make_equal(256, 3, 9, 3);
    uint32_t before[256 * 3];

    (void)state;
    claim(c);
    memcpy(before, c->table, sizeof(before));
    add(c, 2, 1, 1);
    c->members[0].weight = 0;
    claim(c);
    assert_int_equal(c->n_slots, 3);
    for (size_t k = 0; k < 256 * 3; k++) {
        size_t row = k / 3 * 3;

        for (size_t s = row; s < row + 3; s++)
            if (c->table[s] == before[k])
                assert_int_equal(s, k);
    }
    drop(c);
}

static void newcomers_take_slots_of_their_zone(void **state)
{
    struct cluster *c = make_equal(256, 3, 9, 3);
    uint32_t before[256 * 3];

    (void)state;
    claim(c);
    memcpy(before, c->table, sizeof(before));
    for (uint32_t z = 0; z < 3; z++)
        add(c, 1, z, 1);
    claim(c);
    for (size_t k = 0; k < 256 * 3; k++)
        assert_true(slice_equal(c->members[before[k]].zone, c->members[c->table[k]].zone));
    drop(c);
}

static void rows_grow_to_the_right(void **state)
{
    struct cluster *c = make_equal(64, 3, 1, 1);
    uint32_t first[64 * 2];

    (void)state;
    claim(c);
    assert_int_equal(c->n_slots, 1);
    add(c, 1, 0, 1);
    claim(c);
    assert_int_equal(c->n_slots, 2);
    memcpy(first, c->table, sizeof(first));
    for (uint32_t p = 0; p < 64; p++)
        assert_true(first[p * 2] == 0 && first[p * 2 + 1] == 1);
    add(c, 2, 0, 1);
    claim(c);
    assert_int_equal(c->n_slots, 3);
    assert_int_equal(c->claim.n_seats, 3);
    drop(c);
}

static void newcomers_in_the_place_of_others_are_seated_where_those_are(void **state)
{
    struct cluster *c = make_equal(64, 3, 4, 1);
    uint32_t present[64 * 3];
    struct claim_input in;
    struct claim after;

    (void)state;
    claim(c);
    add(c, 1, 0, 1);
    memcpy(present, c->table, sizeof(present));
    for (size_t k = 0; k < 64 * 3; k++)
        if (c->table[k] == 0)
            c->table[k] = 4;
    c->members[0].weight = 0;
    in = input_of(c);
    in.present = present;
    assert_int_equal(claim_compute(&in, &c->arena, &after), 0);
    assert_int_equal(after.moved, 0);
    assert_memory_equal(after.table, c->table, sizeof(present));
    drop(c);
}

/* ---- the same everywhere ----------------------------------------------------------------- */

static void a_claim_of_its_own_table_changes_nothing(void **state)
{
    static const uint32_t n_zones[] = {1, 2, 3, 5};

    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(n_zones); k++) {
        struct cluster *c = make_equal(1024, 3, 11, n_zones[k]);
        size_t bytes = 1024 * 3 * sizeof(uint32_t);
        uint32_t *table = malloc(bytes);

        assert_non_null(table);
        for (uint32_t i = 0; i < c->n; i++)
            c->members[i].weight = 1 + i % 3;
        claim(c);
        memcpy(table, c->table, bytes);
        claim(c);
        assert_int_equal(c->claim.moved, 0);
        assert_memory_equal(table, c->table, bytes);
        for (uint32_t i = 0; i < c->n; i++)
            assert_int_equal(c->claim.shares[i].primaries_before,
                             c->claim.shares[i].primaries_after);
        free(table);
        drop(c);
    }
}

static void swap_members(struct cluster *c, uint32_t a, uint32_t b)
{
    struct wire_member m = c->members[a];

    c->members[a] = c->members[b];
    c->members[b] = m;
    for (size_t k = 0; k < (size_t)c->q * c->n_slots; k++)
        if (c->table[k] == a || c->table[k] == b)
            c->table[k] = c->table[k] == a ? b : a;
}

static void the_order_of_members_does_not_matter(void **state)
{
    struct test_random random = {.s = 5};

    (void)state;
    for (int round = 0; round < 10; round++) {
        struct cluster *a = make_equal(256, 3, 9, 3), *b = make_equal(256, 3, 9, 3);

        claim(a);
        claim(b);
        a->members[2].weight = b->members[2].weight = 3;
        a->members[5].weight = b->members[5].weight = 0;
        add(a, 2, 1, 2);
        add(b, 2, 1, 2);
        for (uint32_t i = b->n - 1; i > 0; i--)
            swap_members(b, i, (uint32_t)test_random_below(&random, i + 1));
        claim(a);
        claim(b);
        for (size_t k = 0; k < 256 * 3; k++)
            assert_true(wire_id_equal(&a->members[a->table[k]].id, &b->members[b->table[k]].id));
        assert_memory_equal(a->primary, b->primary, 256 * sizeof(uint32_t));
        drop(a);
        drop(b);
    }
}

/* Nodes of different builds must agree: these numbers may only change with CLAIM_VERSION. */
static void golden_tables(void **state)
{
    static const struct {
        uint32_t q, replicas, n, n_zones;
        bool weighted;
        uint64_t fresh, later;
    } golden[] = {
        {64, 3, 3, 1, false, 0x9e981e6b8edf64c2u, 0x468c9c0961110a7du},
        {1024, 3, 10, 1, false, 0xe7aa0fa96b5a7fddu, 0x8b7e3bda42911f6bu},
        {1024, 3, 10, 3, true, 0x9660b3edfd5fb46cu, 0x6dd9b1fe15390e4du},
        {1024, 3, 11, 2, false, 0x71e1a0c7d7e0fbd4u, 0xf079a0090b85d684u},
        {4096, 5, 60, 7, true, 0x6a5f0afca9acb73au, 0xfd827dc47aeb4811u},
    };

    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(golden); k++) {
        struct cluster *c =
            make_equal(golden[k].q, golden[k].replicas, golden[k].n, golden[k].n_zones);
        uint64_t h[2];

        for (uint32_t i = 0; golden[k].weighted && i < c->n; i++)
            c->members[i].weight = 1 + i % 4;
        for (int step = 0; step < 2; step++) {
            claim(c);
            h[step] = test_fnv(TEST_FNV, c->table, (size_t)c->q * c->n_slots);
            h[step] = test_fnv(h[step], c->primary, c->q);
            lose(c, 1);
            add(c, 2, 0, 1);
        }
        assert_int_equal(h[0], golden[k].fresh);
        assert_int_equal(h[1], golden[k].later);
        drop(c);
    }
}

/* ---- stopping half-way ------------------------------------------------------------------- */

/* The table with only some of the slots changed, as a plan that is stopped leaves it. */
static uint32_t go_half_way(struct cluster *c, const uint32_t *before, struct test_random *random)
{
    uint32_t done = 0;

    for (size_t k = 0; k < (size_t)c->q * c->n_slots; k++)
        if (before[k] != c->table[k]) {
            if (test_random_below(random, 2))
                done++;
            else
                c->table[k] = before[k];
        }
    return done;
}

static void stopped_half_way_the_rest_and_the_way_back_cost_what_is_left_of_them(void **state)
{
    static const struct {
        uint32_t n, n_zones, joins;
        bool drain;
    } cases[] = {{6, 1, 1, false}, {3, 1, 3, false}, {9, 3, 1, false},
                 {5, 1, 0, true},  {8, 2, 1, false}, {9, 3, 2, true}};
    struct test_random random = {.s = 3};

    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(cases); k++)
        for (int back = 0; back < 2; back++) {
            struct cluster *c = make_equal(1024, 3, cases[k].n, cases[k].n_zones);
            uint32_t *before = malloc(1024 * 3 * sizeof(uint32_t)), total, done;

            assert_non_null(before);
            claim(c);
            memcpy(before, c->table, 1024 * 3 * sizeof(uint32_t));
            for (uint32_t i = 0; i < cases[k].joins; i++)
                add(c, 1, i % cases[k].n_zones, 1);
            if (cases[k].drain)
                c->members[2].weight = 0;
            total = claim(c)->moved;
            done = go_half_way(c, before, &random);
            for (uint32_t i = cases[k].n; back && i < c->n; i++)
                c->members[i].weight = 0;
            if (back)
                c->members[2].weight = 1;
            claim(c);
            if (back)
                assert_in_range(c->claim.moved, done - c->n, done);
            else
                assert_in_range((done + c->claim.moved) * 100, total * 100, total * 101);
            free(before);
            drop(c);
        }
}

/* ---- errors ------------------------------------------------------------------------------ */

static void input_without_sense_is_refused(void **state)
{
    struct cluster *c = make_equal(64, 3, 3, 1);
    struct claim_input in, good;
    struct claim out = {.n_slots = 77};

    (void)state;
    claim(c);
    good = input_of(c);
#define REFUSED(code, field, value)                                                                \
    in = good;                                                                                     \
    in.field = (value);                                                                            \
    assert_int_equal(claim_compute(&in, &c->arena, &out), -(code));                                \
    assert_int_equal(out.n_slots, 77)
    REFUSED(ERR_CONFIG, n_members, 0);
    REFUSED(ERR_CONFIG, n_members, LIMIT_MEMBERS_MAX + 1);
    REFUSED(ERR_CONFIG, replicas, 0);
    REFUSED(ERR_CONFIG, replicas, LIMIT_REPLICAS_MAX + 1);
    REFUSED(ERR_CONFIG, n_partitions, 48);
    REFUSED(ERR_CONFIG, n_partitions, 2 * LIMIT_PARTITIONS_MAX);
    REFUSED(ERR_CONFIG, n_slots, LIMIT_SLOTS_MAX + 1);
    c->table[5] = 3; /* nobody */
    REFUSED(ERR_BAD_REQUEST, replicas, 3);
    c->table[5] = c->table[4]; /* twice in a row */
    REFUSED(ERR_BAD_REQUEST, replicas, 3);
    c->table[5] = CLAIM_NONE;
    c->members[1].id = c->members[2].id;
    REFUSED(ERR_CONFIG, replicas, 3);
    for (uint32_t i = 0; i < 3; i++)
        c->members[i].weight = 0;
    c->members[1].id.b[0] ^= 1;
    REFUSED(ERR_CONFIG, replicas, 3);
#undef REFUSED
    drop(c);
}

static void a_small_arena_is_an_error_and_leaves_the_result_alone(void **state)
{
    struct cluster *c = make_equal(64, 3, 5, 2);
    struct claim_input in = input_of(c);
    struct claim out = {0};
    size_t budget = 0;
    int r = -ERR_NO_MEMORY;

    (void)state;
    for (; r != 0; budget += 64) {
        arena_reset(&c->arena, budget);
        r = claim_compute(&in, &c->arena, &out);
        if (r < 0) {
            assert_int_equal(r, -ERR_NO_MEMORY);
            assert_int_equal(out.n_slots, 0);
        }
        assert_in_range(budget, 0, 1u << 20);
    }
    drop(c);
}

/* Seven replicas on as many members as there may be, in zones of every size. */
static void the_largest_cluster_fits(void **state)
{
    struct cluster *c = make(test_is_quick() ? 1024 : LIMIT_PARTITIONS_MAX, LIMIT_REPLICAS_MAX);

    (void)state;
    for (uint32_t i = 0; i < LIMIT_MEMBERS_MAX; i++)
        add(c, 1, i % 32 * (i % 17), 1 + i % 5);
    claim(c);
    for (uint32_t i = 0; i < LIMIT_MEMBERS_MAX; i += 9)
        c->members[i].weight = i % 2 ? 0 : UINT32_MAX;
    claim(c);
    drop(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slots_and_primaries_are_even_after_every_join_and_death),
        cmocka_unit_test(thousand_nodes_are_even),
        cmocka_unit_test(loads_follow_weights_and_their_changes),
        cmocka_unit_test(primaries_are_even_where_zones_keep_slots_from_being_so),
        cmocka_unit_test(rows_that_cannot_be_even_are_as_even_as_can_be),
        cmocka_unit_test(two_hundred_joins_and_deaths_move_what_they_must),
        cmocka_unit_test(a_newcomer_gets_what_a_dead_node_had),
        cmocka_unit_test(zones_keep_how_they_were_rounded),
        cmocka_unit_test(a_drained_node_gives_up_everything_and_nobody_else_anything),
        cmocka_unit_test(joining_together_moves_less_than_one_by_one),
        cmocka_unit_test(a_joining_node_takes_from_all_alike),
        cmocka_unit_test(all_survivors_of_a_death_get_their_part),
        cmocka_unit_test(new_zones_get_a_replica_of_everything),
        cmocka_unit_test(the_price_of_zones_is_told),
        cmocka_unit_test(violations_are_counted),
        cmocka_unit_test(who_stays_keeps_its_slot),
        cmocka_unit_test(newcomers_take_slots_of_their_zone),
        cmocka_unit_test(rows_grow_to_the_right),
        cmocka_unit_test(newcomers_in_the_place_of_others_are_seated_where_those_are),
        cmocka_unit_test(a_claim_of_its_own_table_changes_nothing),
        cmocka_unit_test(the_order_of_members_does_not_matter),
        cmocka_unit_test(golden_tables),
        cmocka_unit_test(stopped_half_way_the_rest_and_the_way_back_cost_what_is_left_of_them),
        cmocka_unit_test(input_without_sense_is_refused),
        cmocka_unit_test(a_small_arena_is_an_error_and_leaves_the_result_alone),
        cmocka_unit_test(the_largest_cluster_fits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
