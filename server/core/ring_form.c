/* ring_form: the first ring of a cluster, from its members.
 *
 * A pure function: the same members in any order give the same ring, byte for byte, with every
 * compiler, so any node can check what another one computed. Members are sorted by id; those of
 * weight 0 are in the ring and hold nothing. ring_quota says how many slots each node gets,
 * ring_place where.
 *
 * Voters: those that voters.h wants.
 *
 * Incarnations are numbered through the table; fence versions start at 1.
 */
#include "server/core/ring.h"
#include "server/core/ring_place.h"
#include "server/core/voters.h"

#include <stdlib.h>

/* Scratch for the largest ring: a few words per partition and node. */
#define SCRATCH_BYTES (4u << 20)

struct build {
    struct wire_member *members; /* sorted by id */
    size_t n_members;
    uint32_t *usable;        /* member index of each node of the calculation */
    uint32_t *zone, *weight; /* per node of the calculation */
    struct place_input place;
    struct arena *out, scratch;
};

static int compare_members(const void *a, const void *b)
{
    const struct wire_member *x = a, *y = b;

    return memcmp(x->id.b, y->id.b, WIRE_ID_BYTES);
}

static bool input_ok(const struct ring_form_input *in)
{
    uint32_t q = in->n_partitions ? in->n_partitions : LIMIT_PARTITIONS_DEFAULT;

    return in->n_members >= 1 && in->n_members <= LIMIT_MEMBERS_MAX && in->replicas >= 1 &&
           in->replicas <= LIMIT_REPLICAS_MAX && q >= LIMIT_PARTITIONS_MIN &&
           q <= LIMIT_PARTITIONS_MAX && (q & (q - 1)) == 0 && !wire_id_is_zero(&in->cluster_id);
}

static int sort_members(struct build *b, const struct ring_form_input *in)
{
    b->n_members = in->n_members;
    b->members = arena_alloc(b->out, in->n_members * sizeof(*b->members));
    if (!b->members)
        return -ERR_NO_MEMORY;
    memcpy(b->members, in->members, in->n_members * sizeof(*b->members));
    qsort(b->members, in->n_members, sizeof(*b->members), compare_members);
    for (size_t i = 1; i < in->n_members; i++)
        if (compare_members(&b->members[i - 1], &b->members[i]) == 0)
            return -ERR_CONFIG;
    return 0;
}

/* The number of the member's zone: zones are numbered as they first appear. */
static uint32_t zone_number(struct build *b, uint32_t n_before, struct slice zone)
{
    for (uint32_t i = 0; i < n_before; i++)
        if (slice_equal(b->members[b->usable[i]].zone, zone))
            return b->zone[i];
    return b->place.n_zones++;
}

static int list_nodes(struct build *b, const struct ring_form_input *in)
{
    uint32_t n = 0;

    b->usable = arena_alloc(&b->scratch, b->n_members * sizeof(uint32_t));
    b->zone = arena_alloc(&b->scratch, b->n_members * sizeof(uint32_t));
    b->weight = arena_alloc(&b->scratch, b->n_members * sizeof(uint32_t));
    if (!b->usable || !b->zone || !b->weight)
        return -ERR_NO_MEMORY;
    for (uint32_t i = 0; i < b->n_members; i++) {
        if (b->members[i].weight == 0)
            continue;
        b->usable[n] = i;
        b->zone[n] = zone_number(b, n, b->members[i].zone);
        b->weight[n] = b->members[i].weight;
        n++;
    }
    if (n == 0)
        return -ERR_CONFIG;
    b->place.n_partitions = in->n_partitions ? in->n_partitions : LIMIT_PARTITIONS_DEFAULT;
    b->place.n_slots = in->replicas < n ? in->replicas : n;
    b->place.n_nodes = n;
    b->place.zone = b->zone;
    b->place.weight = b->weight;
    return 0;
}

static int choose_voters(struct build *b, struct wire_ring *ring)
{
    uint32_t *voters = arena_alloc(b->out, LIMIT_VOTERS_MAX * sizeof(uint32_t));
    struct wire_ring of = {.members = b->members, .n_members = b->n_members};

    if (!voters)
        return -ERR_NO_MEMORY;
    ring->n_voters = voters_wanted(&of, voters);
    ring->voters = voters;
    return 0;
}

static int build_table(struct build *b, struct wire_ring *ring)
{
    size_t n_partitions = b->place.n_partitions, n_flat = n_partitions * b->place.n_slots;
    uint32_t *quota = arena_alloc(&b->scratch, b->place.n_nodes * sizeof(uint32_t));
    uint32_t *member = arena_alloc(b->out, n_flat * sizeof(uint32_t));
    uint32_t *state = arena_alloc(b->out, n_flat * sizeof(uint32_t));
    uint64_t *incarnation = arena_alloc(b->out, n_flat * sizeof(uint64_t));
    uint32_t *fence = arena_alloc(b->out, n_partitions * sizeof(uint32_t));
    uint32_t *primary = arena_alloc(b->out, n_partitions * sizeof(uint32_t));
    int r;

    if (!quota || !member || !state || !incarnation || !fence || !primary)
        return -ERR_NO_MEMORY;
    r = place_quotas(&b->place, &b->scratch, quota);
    if (r < 0)
        return r;
    place_slots(&b->place, quota, member);
    r = place_primaries(&b->place, member, &b->scratch, primary);
    if (r < 0)
        return r;
    for (size_t i = 0; i < n_flat; i++) {
        member[i] = b->usable[member[i]];
        state[i] = SLOT_READY;
        incarnation[i] = i + 1;
    }
    for (size_t p = 0; p < n_partitions; p++)
        fence[p] = 1;
    ring->slot_member = member;
    ring->slot_state = state;
    ring->slot_incarnation = incarnation;
    ring->fence = fence;
    ring->primary = primary;
    ring->next_incarnation = n_flat + 1;
    return 0;
}

static int build_ring(struct build *b, const struct ring_form_input *in, struct wire_ring *ret)
{
    struct wire_ring ring = {.epoch = 1, .cluster_id = in->cluster_id, .space = in->space};
    uint32_t *buckets = arena_alloc(b->out, sizeof(uint32_t));
    int r = buckets ? sort_members(b, in) : -ERR_NO_MEMORY;

    if (r == 0)
        r = list_nodes(b, in);
    if (r == 0)
        r = choose_voters(b, &ring);
    if (r == 0)
        r = build_table(b, &ring);
    if (r < 0)
        return r;
    buckets[0] = BUCKET_DEFAULT;
    ring.buckets = buckets;
    ring.n_buckets = 1;
    ring.members = b->members;
    ring.n_members = b->n_members;
    ring.n_partitions = b->place.n_partitions;
    ring.n_replicas = in->replicas;
    ring.n_slots = b->place.n_slots;
    *ret = ring;
    return 0;
}

int ring_form(const struct ring_form_input *in, struct arena *arena, struct wire_ring *ret)
{
    struct build b = {.out = arena};
    int r;

    if (!input_ok(in))
        return -ERR_CONFIG;
    arena_init(&b.scratch, SCRATCH_BYTES);
    r = build_ring(&b, in, ret);
    arena_deinit(&b.scratch);
    return r;
}
