/* test_ring_form: the first ring of a cluster keeps the promises of its calculation, for hand-made
 * clusters and for some hundred random ones, and never changes from one build to the next. */
#include "server/core/ring.h"

#include "server/base/prng.h"
#include "tests/unit/test.h"

#define MEMBERS 40u

struct cluster {
    struct wire_member members[MEMBERS];
    char names[MEMBERS][8], zones[MEMBERS][8];
    struct ring_form_input in;
    struct arena arena;
    struct wire_ring ring;
};

/* n members with the given weights and zones (NULL: 1, none), ids from the seed. */
static void make(struct cluster *c, uint32_t n, uint32_t replicas, uint32_t q,
                 const uint32_t *weights, const uint32_t *zones, uint64_t seed)
{
    struct prng prng;

    prng_init(&prng, seed);
    memset(c, 0, sizeof(*c));
    arena_init(&c->arena, 16u << 20);
    for (uint32_t i = 0; i < n; i++) {
        snprintf(c->names[i], sizeof(c->names[i]), "n%u", i);
        snprintf(c->zones[i], sizeof(c->zones[i]), "z%u", zones ? zones[i] : 0);
        c->members[i] = (struct wire_member){.name = slice_str(c->names[i]),
                                             .client_address = slice_str("c:1"),
                                             .peer_address = slice_str("p:1"),
                                             .zone = slice_str(c->zones[i]),
                                             .weight = weights ? weights[i] : 1};
        for (size_t k = 0; k < WIRE_ID_BYTES; k++)
            c->members[i].id.b[k] = (uint8_t)prng_next(&prng);
    }
    c->in = (struct ring_form_input){.members = c->members,
                                     .n_members = n,
                                     .replicas = replicas,
                                     .n_partitions = q,
                                     .cluster_id.b = {1},
                                     .space = {.seed = 1}};
}

static void form(struct cluster *c)
{
    struct ring *ring;

    assert_int_equal(ring_form(&c->in, &c->arena, &c->ring), 0);
    /* ring_new checks distinct nodes per row, incarnations, primaries and all the rest */
    assert_int_equal(ring_new(&c->ring, NULL, NULL, &ring), 0);
    ring_unref(ring);
}

static void drop(struct cluster *c)
{
    arena_deinit(&c->arena);
}

static uint32_t slots_of(const struct wire_ring *w, uint32_t member)
{
    uint32_t n = 0;

    for (size_t i = 0; i < (size_t)w->n_partitions * w->n_slots; i++)
        n += w->slot_member[i] == member;
    return n;
}

static uint32_t primaries_of(const struct wire_ring *w, uint32_t member)
{
    uint32_t n = 0;

    for (size_t p = 0; p < w->n_partitions; p++)
        n += w->slot_member[p * w->n_slots + w->primary[p]] == member;
    return n;
}

/* Replicas of one partition in the zone of a member. */
static uint32_t in_zone(const struct wire_ring *w, uint32_t p, struct slice zone)
{
    uint32_t n = 0;

    for (uint32_t s = 0; s < w->n_slots; s++)
        n += slice_equal(w->members[w->slot_member[p * w->n_slots + s]].zone, zone);
    return n;
}

/* Slots of equal members differ by at most one; so do primaries where there is one zone. */
static void assert_even(const struct wire_ring *w, bool primaries)
{
    for (uint32_t a = 0; a < w->n_members; a++)
        for (uint32_t b = 0; b < a; b++) {
            const struct wire_member *x = &w->members[a], *y = &w->members[b];
            int d = (int)slots_of(w, a) - (int)slots_of(w, b);
            int e = (int)primaries_of(w, a) - (int)primaries_of(w, b);

            if (x->weight != y->weight || !slice_equal(x->zone, y->zone))
                continue;
            assert_in_range(d + 1, 0, 2);
            if (primaries)
                assert_in_range(e + 1, 0, 2);
        }
}

/* The zone rule, computed here from its definition and not by water-filling. */
static void assert_zone_rule(const struct wire_ring *w)
{
    for (uint32_t m = 0; m < w->n_members; m++) {
        uint32_t least = UINT32_MAX, most = 0, nodes = 0;

        for (uint32_t i = 0; i < w->n_members; i++)
            nodes +=
                w->members[i].weight > 0 && slice_equal(w->members[i].zone, w->members[m].zone);
        for (uint32_t p = 0; p < w->n_partitions; p++) {
            uint32_t k = in_zone(w, p, w->members[m].zone);

            /* A zone may have one more than another only if the other has no node left. */
            for (uint32_t i = 0; i < w->n_members; i++) {
                uint32_t other = in_zone(w, p, w->members[i].zone), other_nodes = 0;

                for (uint32_t j = 0; j < w->n_members; j++)
                    other_nodes += w->members[j].weight > 0 &&
                                   slice_equal(w->members[j].zone, w->members[i].zone);
                if (k > other + 1)
                    assert_int_equal(other, other_nodes);
            }
            least = k < least ? k : least;
            most = k > most ? k : most;
        }
        assert_in_range(most, 0, nodes);
        assert_in_range(most - least, 0, 1);
    }
}

static void slots_and_primaries_are_balanced_to_one(void **state)
{
    (void)state;
    for (uint32_t n = 1; n <= 20; n++)
        for (uint32_t replicas = 1; replicas <= 5; replicas++) {
            struct cluster c;

            make(&c, n, replicas, 256, NULL, NULL, n * 8 + replicas);
            form(&c);
            assert_int_equal(c.ring.n_slots, replicas < n ? replicas : n);
            assert_int_equal(c.ring.n_replicas, replicas);
            assert_even(&c.ring, true);
            drop(&c);
        }
}

static void the_default_is_1024_partitions_epoch_1_and_the_default_bucket(void **state)
{
    struct cluster c;

    (void)state;
    make(&c, 3, 3, 0, NULL, NULL, 1);
    form(&c);
    assert_int_equal(c.ring.n_partitions, LIMIT_PARTITIONS_DEFAULT);
    assert_int_equal(c.ring.epoch, 1);
    assert_int_equal(c.ring.n_buckets, 1);
    assert_int_equal(c.ring.buckets[0], BUCKET_DEFAULT);
    for (uint32_t p = 0; p < c.ring.n_partitions; p++)
        assert_int_equal(c.ring.fence[p], 1);
    for (uint32_t i = 1; i < c.ring.n_members; i++)
        assert_true(memcmp(c.ring.members[i - 1].id.b, c.ring.members[i].id.b, 16) < 0);
    drop(&c);
}

static void loads_follow_weights(void **state)
{
    static const uint32_t weights[] = {1, 1, 2, 4, 1, 1, 2, 4, 1, 1, 2, 4};
    uint32_t sum = 0;
    struct cluster c;

    (void)state;
    for (size_t i = 0; i < 12; i++)
        sum += weights[i];
    make(&c, 12, 3, 1024, weights, NULL, 5);
    form(&c);
    for (uint32_t i = 0; i < 12; i++) {
        uint32_t w = c.ring.members[i].weight;

        assert_in_range(slots_of(&c.ring, i), 3 * 1024 * w / sum, 3 * 1024 * w / sum + 1);
        assert_in_range(primaries_of(&c.ring, i), 1024 * w / sum, 1024 * w / sum + 1);
    }
    drop(&c);
}

static void a_weight_beyond_its_possible_share_is_held_at_one_slot_per_partition(void **state)
{
    static const uint32_t weights[] = {1, 1, UINT32_MAX, 1};
    struct cluster c;

    (void)state;
    make(&c, 4, 2, 256, weights, NULL, 6);
    form(&c);
    for (uint32_t i = 0; i < 4; i++)
        if (c.ring.members[i].weight == UINT32_MAX)
            assert_int_equal(slots_of(&c.ring, i), 256);
        else
            assert_in_range(slots_of(&c.ring, i), 85, 86);
    drop(&c);
}

static void a_member_of_weight_zero_is_named_and_holds_nothing(void **state)
{
    static const uint32_t weights[] = {1, 0, 1, 1};
    struct cluster c;

    (void)state;
    make(&c, 4, 3, 64, weights, NULL, 7);
    form(&c);
    assert_int_equal(c.ring.n_members, 4);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(slots_of(&c.ring, i), c.ring.members[i].weight ? 64 : 0);
    for (size_t i = 0; i < c.ring.n_voters; i++)
        assert_int_equal(c.ring.members[c.ring.voters[i]].weight, 1);
    drop(&c);
}

static void replicas_spread_over_zones(void **state)
{
    static const uint32_t layouts[][10] = {
        {0, 0, 0, 1, 1, 1, 2, 2, 2, 2}, /* three zones: one replica in each */
        {0, 0, 0, 0, 0, 1, 1, 1, 2, 2}, /* 5/3/2 */
        {0, 0, 0, 0, 0, 0, 0, 0, 1, 2}, /* lone nodes hold everything */
        {0, 0, 0, 0, 0, 0, 1, 1, 1, 1}, /* two zones, three replicas */
        {0, 0, 0, 0, 0, 0, 0, 0, 0, 1},
    };

    (void)state;
    for (size_t k = 0; k < sizeof(layouts) / sizeof(layouts[0]); k++) {
        struct cluster c;

        make(&c, 10, 3, 256, NULL, layouts[k], k);
        form(&c);
        assert_zone_rule(&c.ring);
        assert_even(&c.ring, false);
        drop(&c);
    }
}

static void zones_do_not_unbalance_primaries_where_that_can_be_avoided(void **state)
{
    static const uint32_t zones[] = {0, 0, 0, 0, 0, 1, 1, 1, 2, 2};
    struct cluster c;

    (void)state;
    make(&c, 10, 3, 1024, NULL, zones, 3);
    form(&c);
    for (uint32_t i = 0; i < 10; i++)
        assert_in_range(primaries_of(&c.ring, i), 102, 103);
    drop(&c);
}

static void random_clusters_keep_all_rules(void **state)
{
    struct prng prng;

    (void)state;
    prng_init(&prng, 2024);
    for (int round = 0; round < 300; round++) {
        uint32_t n = 1 + (uint32_t)prng_below(&prng, 12), weights[MEMBERS], zones[MEMBERS];
        bool weighted = prng_below(&prng, 2), usable = false;
        uint32_t n_zones = 1 + (uint32_t)prng_below(&prng, 5);
        struct cluster c;

        for (uint32_t i = 0; i < n; i++) {
            weights[i] = weighted ? (uint32_t)prng_below(&prng, 5) : 1;
            zones[i] = (uint32_t)prng_below(&prng, n_zones);
            usable |= weights[i] > 0;
        }
        make(&c, n, 1 + (uint32_t)prng_below(&prng, 5), 64, weights, zones, prng_next(&prng));
        if (usable) {
            form(&c);
            assert_zone_rule(&c.ring);
            assert_even(&c.ring, n_zones == 1 && !weighted);
        } else {
            assert_int_equal(ring_form(&c.in, &c.arena, &c.ring), -ERR_CONFIG);
        }
        drop(&c);
    }
}

static void every_node_shares_partitions_with_every_other(void **state)
{
    uint32_t shared[10][10] = {{0}}, most = 0, least = UINT32_MAX;
    struct cluster c;

    (void)state;
    make(&c, 10, 3, 1024, NULL, NULL, 8);
    form(&c);
    for (uint32_t p = 0; p < 1024; p++)
        for (uint32_t s = 0; s < 3; s++)
            for (uint32_t t = 0; t < 3; t++)
                shared[c.ring.slot_member[p * 3 + s]][c.ring.slot_member[p * 3 + t]]++;
    for (uint32_t i = 0; i < 10; i++)
        for (uint32_t j = 0; j < 10; j++)
            if (i != j) {
                most = shared[i][j] > most ? shared[i][j] : most;
                least = shared[i][j] < least ? shared[i][j] : least;
            }
    /* the mean is 1024 * 6 / 90 = 68 */
    assert_in_range(least, 40, 68);
    assert_in_range(most, 68, 100);
    drop(&c);
}

static bool same_table(const struct wire_ring *a, const struct wire_ring *b)
{
    size_t n = (size_t)a->n_partitions * a->n_slots;
    bool same = a->n_members == b->n_members && a->n_voters == b->n_voters &&
                memcmp(a->voters, b->voters, a->n_voters * 4) == 0 &&
                memcmp(a->slot_member, b->slot_member, n * 4) == 0 &&
                memcmp(a->primary, b->primary, a->n_partitions * 4) == 0;

    for (size_t i = 0; same && i < a->n_members; i++)
        same = wire_id_equal(&a->members[i].id, &b->members[i].id);
    return same;
}

static void the_order_of_members_does_not_matter(void **state)
{
    static const uint32_t weights[] = {1, 2, 1, 3, 1, 1, 2}, zones[] = {0, 1, 2, 0, 1, 2, 0};
    struct prng prng;
    struct cluster a, b;

    (void)state;
    prng_init(&prng, 1);
    make(&a, 7, 3, 256, weights, zones, 4);
    form(&a);
    for (int round = 0; round < 20; round++) {
        make(&b, 7, 3, 256, weights, zones, 4);
        for (size_t i = 6; i > 0; i--) {
            size_t j = prng_below(&prng, i + 1);
            struct wire_member m = b.members[i];

            b.members[i] = b.members[j];
            b.members[j] = m;
        }
        form(&b);
        assert_true(same_table(&a.ring, &b.ring));
        drop(&b);
    }
    drop(&a);
}

/* The table is part of the contract between nodes of different builds: these numbers may only
 * change together with CLAIM_VERSION. */
static void golden_tables(void **state)
{
    static const struct {
        uint32_t n, replicas, q;
        bool weighted, zoned;
        uint64_t hash;
    } golden[] = {
        {1, 3, 1024, false, false, 0x724d5fe33c7597dfu},
        {3, 3, 1024, false, false, 0x77ffd80e9ed1ef41u},
        {10, 3, 1024, false, false, 0x33fa3befbbf3028au},
        {12, 3, 256, true, true, 0x159450c37e740760u},
        {40, 5, 4096, true, true, 0xc500df960844aa52u},
    };
    uint32_t weights[MEMBERS], zones[MEMBERS];

    (void)state;
    for (uint32_t i = 0; i < MEMBERS; i++) {
        weights[i] = 1 + i % 4;
        zones[i] = i % 3;
    }
    for (size_t k = 0; k < sizeof(golden) / sizeof(golden[0]); k++) {
        struct cluster c;
        uint64_t h = TEST_FNV;

        make(&c, golden[k].n, golden[k].replicas, golden[k].q, golden[k].weighted ? weights : NULL,
             golden[k].zoned ? zones : NULL, 77);
        form(&c);
        h = test_fnv(h, c.ring.slot_member, (size_t)c.ring.n_partitions * c.ring.n_slots);
        h = test_fnv(h, c.ring.primary, c.ring.n_partitions);
        h = test_fnv(h, c.ring.voters, c.ring.n_voters);
        assert_int_equal(h, golden[k].hash);
        drop(&c);
    }
}

static void voters_grow_with_the_cluster_and_spread_over_zones(void **state)
{
    static const uint32_t zones[] = {0, 0, 0, 0, 1, 1, 2};
    static const uint32_t wanted[] = {0, 1, 1, 3, 3, 5, 5, 5};
    struct cluster c;

    (void)state;
    for (uint32_t n = 1; n <= 7; n++) {
        make(&c, n, 3, 64, NULL, NULL, n);
        form(&c);
        assert_int_equal(c.ring.n_voters, wanted[n]);
        drop(&c);
    }
    make(&c, 7, 3, 64, NULL, zones, 9);
    form(&c);
    for (uint32_t z = 0; z < 3; z++) {
        uint32_t n = 0;

        for (size_t i = 0; i < c.ring.n_voters; i++)
            n += slice_equal(c.ring.members[c.ring.voters[i]].zone, slice_str(c.zones[z * 4]));
        assert_in_range(n, 0, 2);
    }
    drop(&c);
}

static void input_without_sense_is_refused(void **state)
{
    struct cluster c;

    (void)state;
    make(&c, 3, 3, 64, NULL, NULL, 1);
    c.in.n_members = 0;
    assert_int_equal(ring_form(&c.in, &c.arena, &c.ring), -ERR_CONFIG);
    c.in.n_members = 3;
    c.in.replicas = 0;
    assert_int_equal(ring_form(&c.in, &c.arena, &c.ring), -ERR_CONFIG);
    c.in.replicas = LIMIT_REPLICAS_MAX + 1;
    assert_int_equal(ring_form(&c.in, &c.arena, &c.ring), -ERR_CONFIG);
    c.in.replicas = 3;
    c.in.n_partitions = 100;
    assert_int_equal(ring_form(&c.in, &c.arena, &c.ring), -ERR_CONFIG);
    c.in.n_partitions = 64;
    c.members[2].id = c.members[0].id;
    assert_int_equal(ring_form(&c.in, &c.arena, &c.ring), -ERR_CONFIG);
    drop(&c);
}

static void a_small_arena_is_an_error_and_leaves_the_result_alone(void **state)
{
    size_t budget = 0;
    int r = -ERR_NO_MEMORY;

    (void)state;
    for (; r != 0; budget += 256) {
        struct cluster c;

        make(&c, 5, 3, 64, NULL, NULL, 1);
        arena_reset(&c.arena, budget);
        r = ring_form(&c.in, &c.arena, &c.ring);
        if (r < 0) {
            assert_int_equal(r, -ERR_NO_MEMORY);
            assert_int_equal(c.ring.epoch, 0);
        }
        drop(&c);
        assert_in_range(budget, 0, 1u << 20);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slots_and_primaries_are_balanced_to_one),
        cmocka_unit_test(the_default_is_1024_partitions_epoch_1_and_the_default_bucket),
        cmocka_unit_test(loads_follow_weights),
        cmocka_unit_test(a_weight_beyond_its_possible_share_is_held_at_one_slot_per_partition),
        cmocka_unit_test(a_member_of_weight_zero_is_named_and_holds_nothing),
        cmocka_unit_test(replicas_spread_over_zones),
        cmocka_unit_test(zones_do_not_unbalance_primaries_where_that_can_be_avoided),
        cmocka_unit_test(random_clusters_keep_all_rules),
        cmocka_unit_test(every_node_shares_partitions_with_every_other),
        cmocka_unit_test(the_order_of_members_does_not_matter),
        cmocka_unit_test(golden_tables),
        cmocka_unit_test(voters_grow_with_the_cluster_and_spread_over_zones),
        cmocka_unit_test(input_without_sense_is_refused),
        cmocka_unit_test(a_small_arena_is_an_error_and_leaves_the_result_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
