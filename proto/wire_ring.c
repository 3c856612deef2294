/* wire_ring: the ring as a message, for clients, for peers and for the disk.
 *
 * A ring is rare and large (a few MiB at 16384 partitions), so its checks are thorough: whoever
 * holds an unpacked ring may index its arrays by partition and slot, and members by slot_member of
 * slots that exist, without looking. What needs more than one field of several entries to judge
 * (distinct ids, a READY primary, one slot per node) is left to server/core/ring, which refuses it
 * there.
 *
 * While a cluster forms, nodes also exchange a ring without its table: the five arrays are then
 * empty, and NULL in the plain struct.
 */
#include "proto/wire_pb.h"

#include <stdlib.h>

void pb_write_member(const struct wire_member *member, Quoit__Member *ret)
{
    quoit__member__init(ret);
    ret->id = pb_id(&member->id);
    ret->name = pb_bytes(member->name);
    ret->client_address = pb_bytes(member->client_address);
    ret->peer_address = pb_bytes(member->peer_address);
    ret->zone = pb_bytes(member->zone);
    ret->weight = member->weight;
}

/* The table, unless the ring comes without. The generated struct knows no const. */
static void pb_write_table(const struct wire_ring *ring, Quoit__Ring *ret)
{
    size_t n_entries = ring->fence ? ring->n_partitions : 0;
    size_t n_slots = n_entries * ring->n_slots;

    ret->n_fence = n_entries;
    ret->fence = (uint32_t *)ring->fence;
    ret->n_primary = n_entries;
    ret->primary = (uint32_t *)ring->primary;
    ret->n_slot_member = n_slots;
    ret->slot_member = (uint32_t *)ring->slot_member;
    ret->n_slot_incarnation = n_slots;
    ret->slot_incarnation = (uint64_t *)ring->slot_incarnation;
    ret->n_slot_state = n_slots;
    ret->slot_state = (uint32_t *)ring->slot_state;
}

int pb_write_ring(const struct wire_ring *ring, struct pb_ring *ret)
{
    size_t n = ring->n_members;
    Quoit__Member *members = calloc(n + 1, sizeof(*members) + sizeof(Quoit__Member *));

    if (!members)
        return -ERR_NO_MEMORY;
    /* One block: the members, then the pointers to them that protobuf-c wants. */
    Quoit__Member **pointers = (Quoit__Member **)(members + n);
    for (size_t i = 0; i < n; i++) {
        pb_write_member(&ring->members[i], &members[i]);
        pointers[i] = &members[i];
    }

    quoit__ring__init(&ret->ring);
    ret->block = members;
    ret->ring.epoch = ring->epoch;
    ret->ring.cluster_id = pb_id(&ring->cluster_id);
    ret->ring.token_seed = ring->space.seed;
    ret->ring.token_secret = pb_bytes(slice_of(ring->space.secret, TOKEN_SECRET_BYTES));
    ret->ring.n_partitions = ring->n_partitions;
    ret->ring.n_replicas = ring->n_replicas;
    ret->ring.n_slots = ring->n_slots;
    ret->ring.n_members = n;
    ret->ring.members = pointers;
    ret->ring.n_voters = ring->n_voters;
    ret->ring.voters = (uint32_t *)ring->voters;
    ret->ring.n_buckets = ring->n_buckets;
    ret->ring.buckets = (uint32_t *)ring->buckets;
    ret->ring.next_incarnation = ring->next_incarnation;
    pb_write_table(ring, &ret->ring);
    return 0;
}

int pb_read_member(const Quoit__Member *pb, struct wire_member *ret)
{
    if (pb_read_id(pb->id, &ret->id) < 0 ||
        pb_read_text(pb->name, LIMIT_NAME_BYTES, &ret->name) < 0 ||
        pb_read_text(pb->client_address, LIMIT_ADDRESS_BYTES, &ret->client_address) < 0 ||
        pb_read_text(pb->peer_address, LIMIT_ADDRESS_BYTES, &ret->peer_address) < 0 ||
        pb_read_text(pb->zone, LIMIT_NAME_BYTES, &ret->zone) < 0)
        return -ERR_BAD_REQUEST;
    ret->weight = pb->weight;
    return 0;
}

static bool pb_ring_counts_ok(const Quoit__Ring *pb)
{
    uint32_t q = pb->n_partitions;

    return q >= LIMIT_PARTITIONS_MIN && q <= LIMIT_PARTITIONS_MAX && (q & (q - 1)) == 0 &&
           pb->n_replicas >= 1 && pb->n_replicas <= LIMIT_REPLICAS_MAX && pb->n_slots >= 1 &&
           pb->n_slots <= LIMIT_SLOTS_MAX && pb->n_members >= 1 &&
           pb->n_members <= LIMIT_MEMBERS_MAX && pb->n_voters <= LIMIT_VOTERS_MAX &&
           pb->n_buckets <= LIMIT_BUCKETS_MAX;
}

static bool pb_ring_has_no_table(const Quoit__Ring *pb)
{
    return pb->n_fence == 0 && pb->n_primary == 0 && pb->n_slot_member == 0 &&
           pb->n_slot_incarnation == 0 && pb->n_slot_state == 0;
}

/* Every index in range, so that readers need not look. */
static bool pb_ring_table_ok(const Quoit__Ring *pb)
{
    size_t n = (size_t)pb->n_partitions * pb->n_slots;

    if (pb->n_fence != pb->n_partitions || pb->n_primary != pb->n_partitions ||
        pb->n_slot_member != n || pb->n_slot_incarnation != n || pb->n_slot_state != n)
        return false;
    for (size_t i = 0; i < pb->n_partitions; i++) {
        if (pb->primary[i] >= pb->n_slots)
            return false;
    }
    for (size_t i = 0; i < n; i++) {
        bool exists = pb->slot_incarnation[i] != 0 || pb->slot_state[i] != SLOT_NONE;
        if (pb->slot_state[i] > SLOT_JOINING || (exists && pb->slot_member[i] >= pb->n_members))
            return false;
    }
    return true;
}

static int pb_read_members(const Quoit__Ring *pb, struct arena *arena, struct wire_ring *ret)
{
    struct wire_member *members = arena_alloc(arena, pb->n_members * sizeof(*members));

    if (!members)
        return -ERR_NO_MEMORY;
    for (size_t i = 0; i < pb->n_members; i++) {
        int r = pb_read_member(pb->members[i], &members[i]);
        if (r < 0)
            return r;
    }
    ret->members = members;
    ret->n_members = pb->n_members;
    return 0;
}

int pb_read_ring(const Quoit__Ring *pb, struct arena *arena, bool table_optional,
                 struct wire_ring *ret)
{
    if (!pb_ring_counts_ok(pb) || pb_read_id(pb->cluster_id, &ret->cluster_id) < 0 ||
        pb->token_secret.len != TOKEN_SECRET_BYTES)
        return -ERR_BAD_REQUEST;
    for (size_t i = 0; i < pb->n_voters; i++) {
        if (pb->voters[i] >= pb->n_members)
            return -ERR_BAD_REQUEST;
    }
    bool has_table = !(table_optional && pb_ring_has_no_table(pb));
    if (has_table && !pb_ring_table_ok(pb))
        return -ERR_BAD_REQUEST;
    int r = pb_read_members(pb, arena, ret);
    if (r < 0)
        return r;

    ret->epoch = pb->epoch;
    ret->space.seed = pb->token_seed;
    memcpy(ret->space.secret, pb->token_secret.data, TOKEN_SECRET_BYTES);
    ret->n_partitions = pb->n_partitions;
    ret->n_replicas = pb->n_replicas;
    ret->n_slots = pb->n_slots;
    ret->next_incarnation = pb->next_incarnation;
    ret->n_voters = pb->n_voters;
    ret->voters = pb->voters;
    ret->n_buckets = pb->n_buckets;
    ret->buckets = pb->buckets;
    ret->fence = has_table ? pb->fence : NULL;
    ret->primary = has_table ? pb->primary : NULL;
    ret->slot_member = has_table ? pb->slot_member : NULL;
    ret->slot_incarnation = has_table ? pb->slot_incarnation : NULL;
    ret->slot_state = has_table ? pb->slot_state : NULL;
    return 0;
}

int wire_ring_pack(const struct wire_ring *ring, struct buf *out)
{
    struct pb_ring pb;
    int r = pb_write_ring(ring, &pb);

    if (r < 0)
        return r;
    r = pb_pack_bare(&pb.ring.base, out);
    free(pb.block);
    return r;
}

int wire_ring_unpack(struct slice bytes, struct arena *arena, struct wire_ring *ret)
{
    ProtobufCMessage *msg;
    struct wire_ring ring = {0};
    int r = pb_unpack(&quoit__ring__descriptor, bytes, arena, &msg);

    if (r < 0)
        return r;
    r = pb_read_ring((const Quoit__Ring *)msg, arena, false, &ring);
    if (r < 0)
        return r;
    *ret = ring;
    return 0;
}
