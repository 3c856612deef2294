/* ring_next: may this ring follow that one?
 *
 * Rings are decided by others and come over the network. A ring of a higher epoch replaces the one
 * held, on disk too, so it is compared with it first: numbers that may only grow must not have
 * shrunk, whatever the reason is (a bug, a damaged peer, a disk set back and decided upon anew). To
 * stay with the older ring is always safe: whoever goes by it is at most refused by others.
 *
 * What may change: members, addresses, voters, primaries, states of slots, n_slots, n_replicas,
 * buckets. Partitions may be split: then each part is compared with what it was a part of. That an
 * incarnation is new is not asked of next_incarnation: a number may be given out in one ring and
 * appear in a slot in a later one.
 */
#include "server/core/ring.h"

static bool same_space(const struct wire_ring *a, const struct wire_ring *b)
{
    return a->space.seed == b->space.seed &&
           memcmp(a->space.secret, b->space.secret, TOKEN_SECRET_BYTES) == 0;
}

/* One residence of one slot on one node: none of the three ever changes. */
static bool slots_follow(const struct ring *held, uint32_t old, const struct ring *next,
                         uint32_t partition)
{
    struct ring_entry before, after;

    ring_lookup(held, old, &before);
    ring_lookup(next, partition, &after);
    for (uint32_t s = 0; s < after.n_slots; s++)
        for (uint32_t o = 0; after.slots[s].state != SLOT_NONE && o < before.n_slots; o++) {
            const struct wire_member *was, *is;

            if (before.slots[o].state == SLOT_NONE ||
                before.slots[o].incarnation != after.slots[s].incarnation)
                continue;
            was = &ring_wire(held)->members[before.slots[o].member];
            is = &ring_wire(next)->members[after.slots[s].member];
            if (o != s || !wire_id_equal(&was->id, &is->id))
                return false;
        }
    return true;
}

const char *ring_next_fault(const struct ring *held, const struct ring *next)
{
    const struct wire_ring *a = ring_wire(held), *b = ring_wire(next);

    if (!wire_id_equal(&a->cluster_id, &b->cluster_id))
        return "it is another cluster's";
    if (b->epoch <= a->epoch)
        return "it is not newer";
    if (!same_space(a, b))
        return "it places keys by other tokens";
    if (b->n_partitions < a->n_partitions)
        return "it has fewer partitions";
    if (b->next_incarnation < a->next_incarnation)
        return "its number of the next incarnation goes backward";
    for (uint32_t p = 0; p < b->n_partitions; p++) {
        uint32_t old = p / (b->n_partitions / a->n_partitions);

        if (b->fence[p] < a->fence[old])
            return "a fence version goes backward";
        if (!slots_follow(held, old, next, p))
            return "an incarnation has moved to another slot or node";
    }
    return NULL;
}
