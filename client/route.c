/* route: see route.h. The ring is copied by packing and unpacking it into an arena of its own: rare
 * (once per epoch), and no second description of the ring's shape can drift from the first. */
#include "client/route.h"

#include <stdlib.h>

struct route {
    struct arena arena;
    struct wire_ring ring;
};

static bool counts_valid(const struct wire_ring *ring)
{
    uint32_t q = ring->n_partitions;

    return q >= 2 && q <= LIMIT_PARTITIONS_MAX && (q & (q - 1)) == 0 && ring->n_slots >= 1 &&
           ring->n_slots <= LIMIT_SLOTS_MAX && ring->n_members >= 1 &&
           ring->n_members <= LIMIT_MEMBERS_MAX && ring->epoch > 0;
}

static bool table_valid(const struct wire_ring *ring)
{
    size_t i, n = (size_t)ring->n_partitions * ring->n_slots;

    for (i = 0; i < n; i++) {
        if (ring->slot_incarnation[i] != 0 && ring->slot_member[i] >= ring->n_members)
            return false;
    }
    for (i = 0; i < ring->n_partitions; i++) {
        if (ring->primary[i] >= ring->n_slots)
            return false;
    }
    return true;
}

int route_new(const struct wire_ring *ring, struct route **ret)
{
    struct route *route;
    struct buf packed;
    int r;

    if (!counts_valid(ring) || !table_valid(ring))
        return -ERR_BAD_REQUEST;
    route = calloc(1, sizeof(*route));
    if (!route)
        return -ERR_NO_MEMORY;
    arena_init(&route->arena, WIRE_ARENA_BUDGET_RING);
    buf_init(&packed);
    r = wire_ring_pack(ring, &packed);
    if (r == 0)
        r = wire_ring_unpack(buf_slice(&packed), &route->arena, &route->ring);
    buf_deinit(&packed);
    if (r < 0) {
        route_free(route);
        return r;
    }
    *ret = route;
    return 0;
}

void route_free(struct route *route)
{
    if (!route)
        return;
    arena_deinit(&route->arena);
    free(route);
}

const struct wire_ring *route_ring(const struct route *route)
{
    return &route->ring;
}

uint64_t route_token(const struct route *route, const struct key *key)
{
    return token_of(&route->ring.space, key->bucket ? key->bucket : BUCKET_DEFAULT, key->partition);
}

uint32_t route_partition(const struct route *route, uint64_t token)
{
    return token_partition(token, route->ring.n_partitions);
}

static bool slot_ready(const struct wire_ring *ring, size_t at)
{
    return ring->slot_incarnation[at] != 0 && ring->slot_state[at] == SLOT_READY;
}

uint32_t route_primary(const struct route *route, uint32_t partition)
{
    const struct wire_ring *ring = &route->ring;
    size_t first = (size_t)partition * ring->n_slots;
    uint32_t slot;

    if (slot_ready(ring, first + ring->primary[partition]))
        return ring->slot_member[first + ring->primary[partition]];
    for (slot = 0; slot < ring->n_slots; slot++) {
        if (slot_ready(ring, first + slot))
            return ring->slot_member[first + slot];
    }
    return UINT32_MAX;
}

uint32_t route_owners(const struct route *route, uint32_t partition,
                      struct route_owner ret[LIMIT_SLOTS_MAX])
{
    const struct wire_ring *ring = &route->ring;
    size_t first = (size_t)partition * ring->n_slots;
    uint32_t slot, n = 0, primary = ring->primary[partition];

    if (slot_ready(ring, first + primary))
        ret[n++] = (struct route_owner){
            .member = ring->slot_member[first + primary], .slot = primary, .primary = true};
    for (slot = 0; slot < ring->n_slots; slot++) {
        if (slot != primary && slot_ready(ring, first + slot))
            ret[n++] =
                (struct route_owner){.member = ring->slot_member[first + slot], .slot = slot};
    }
    return n;
}
