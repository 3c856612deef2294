/* route: from a key to the nodes that own it, by the ring last fetched.
 *
 * An immutable value made from one ring. A route is a hint: ownership may have changed since, and
 * every node coordinates whatever it receives, so a wrong route costs one hop and never an answer.
 * Owners are ordered by usefulness: the primary, then the other READY slots. JOINING slots are not
 * owners yet. Validated on the way in: an index out of range in a ring from the network is refused.
 */
#ifndef QUOIT_CLIENT_ROUTE_H
#define QUOIT_CLIENT_ROUTE_H

#include "proto/wire.h"

struct route;

/* Copies the ring. 0, -ERR_BAD_REQUEST (not a ring), -ERR_NO_MEMORY. */
int route_new(const struct wire_ring *ring, struct route **ret);
void route_free(struct route *route); /* accepts NULL */

const struct wire_ring *route_ring(const struct route *route);
uint64_t route_token(const struct route *route, const struct key *key);
uint32_t route_partition(const struct route *route, uint64_t token);

/* Member index of the primary's node, or of another READY slot if the primary is not; UINT32_MAX
 * when the partition has no READY slot. */
uint32_t route_primary(const struct route *route, uint32_t partition);

struct route_owner {
    uint32_t member, slot;
    bool primary;
};

/* READY owners, primary first. Returns how many. */
uint32_t route_owners(const struct route *route, uint32_t partition,
                      struct route_owner ret[LIMIT_SLOTS_MAX]);

#endif
