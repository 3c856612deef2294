/* ring_form: the first ring of a cluster, from its members.
 *
 * A pure function: the same members in any order give the same ring, byte for byte, with every
 * compiler, so any node can check what another one computed. Members are sorted by id; those of
 * weight 0 are in the ring and hold nothing. Who owns what is a claim (claim.h) on an empty table.
 *
 * Voters: those that voters.h wants.
 *
 * Incarnations are numbered through the table; fence versions start at 1.
 */
#include "server/core/claim.h"
#include "server/core/ring.h"
#include "server/core/voters.h"

#include <stdlib.h>

struct build {
    struct wire_member *members; /* sorted by id */
    size_t n_members;
    uint32_t n_partitions;
    struct arena *out;
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

static int build_table(struct build *b, uint32_t replicas, struct wire_ring *ring)
{
    struct claim_input in = {.members = b->members,
                             .n_members = b->n_members,
                             .n_partitions = b->n_partitions,
                             .replicas = replicas};
    struct claim claim;
    size_t n_flat;
    uint32_t *state, *fence;
    uint64_t *incarnation;
    int r = claim_compute(&in, b->out, &claim);

    if (r < 0)
        return r;
    n_flat = (size_t)b->n_partitions * claim.n_slots;
    state = arena_alloc(b->out, n_flat * sizeof(uint32_t));
    incarnation = arena_alloc(b->out, n_flat * sizeof(uint64_t));
    fence = arena_alloc(b->out, b->n_partitions * sizeof(uint32_t));
    if (!state || !incarnation || !fence)
        return -ERR_NO_MEMORY;
    for (size_t i = 0; i < n_flat; i++) {
        state[i] = SLOT_READY;
        incarnation[i] = i + 1;
    }
    for (size_t p = 0; p < b->n_partitions; p++)
        fence[p] = 1;
    ring->n_slots = claim.n_slots;
    ring->slot_member = claim.table;
    ring->slot_state = state;
    ring->slot_incarnation = incarnation;
    ring->fence = fence;
    ring->primary = claim.primary;
    ring->next_incarnation = n_flat + 1;
    return 0;
}

static int build_ring(struct build *b, const struct ring_form_input *in, struct wire_ring *ret)
{
    struct wire_ring ring = {.epoch = 1, .cluster_id = in->cluster_id, .space = in->space};
    uint32_t *buckets = arena_alloc(b->out, sizeof(uint32_t));
    int r = buckets ? sort_members(b, in) : -ERR_NO_MEMORY;

    if (r == 0)
        r = build_table(b, in->replicas, &ring);
    if (r == 0)
        r = choose_voters(b, &ring);
    if (r < 0)
        return r;
    buckets[0] = BUCKET_DEFAULT;
    ring.buckets = buckets;
    ring.n_buckets = 1;
    ring.members = b->members;
    ring.n_members = b->n_members;
    ring.n_partitions = b->n_partitions;
    ring.n_replicas = in->replicas;
    *ret = ring;
    return 0;
}

int ring_form(const struct ring_form_input *in, struct arena *arena, struct wire_ring *ret)
{
    struct build b = {.out = arena};

    if (!input_ok(in))
        return -ERR_CONFIG;
    b.n_partitions = in->n_partitions ? in->n_partitions : LIMIT_PARTITIONS_DEFAULT;
    return build_ring(&b, in, ret);
}
