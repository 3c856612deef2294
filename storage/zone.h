/* zone: what an engine with a log keeps about a part of the ring: counts, highest version, leaves.
 *
 * The token space is cut into ZONES equal arcs, whatever the ring's number of partitions is: a
 * partition is some zones, or a part of one. A zone's summary is one value on disk, changed in the
 * same transaction as its records, so it is exact at every moment: leaf = XOR of merge_digest over
 * the leaf's records. Pure.
 */
#ifndef QUOIT_STORAGE_ZONE_H
#define QUOIT_STORAGE_ZONE_H

#include "storage/store.h"

#define ZONE_BITS 10u
#define ZONES (1u << ZONE_BITS)
_Static_assert(ZONES == STORE_ZONES, "a scrub goes through zones");
#define ZONE_LEAVES (1u << (STORE_LEAF_BITS - ZONE_BITS))
#define ZONE_HEADER_BYTES 64u
#define ZONE_BYTES (ZONE_HEADER_BYTES + 8u * ZONE_LEAVES)

struct zone {
    struct store_info info;
    uint64_t wiped; /* highest number of a wipe that is done here: replay does not repeat it */
    uint64_t leaves[ZONE_LEAVES];
};

static inline uint32_t zone_of(uint64_t token)
{
    return (uint32_t)(token >> (64 - ZONE_BITS));
}

/* First and last token of it. */
struct store_range zone_range(uint32_t zone);

/* The record of the key goes from old to new (either may be STATE_NONE). max_version only grows. */
void zone_change(struct zone *z, uint64_t token, const struct key *key, const struct state *old,
                 const struct state *new);

/* On disk: format, CRC-32C over the zone's number and the rest, counts, version, wiped, leaves. */
void zone_encode(const struct zone *z, uint32_t number, uint8_t out[ZONE_BYTES]);
/* 0, -ERR_CORRUPT, -ERR_FORMAT. */
int zone_decode(struct slice bytes, uint32_t number, struct zone *ret);
/* The same, without the leaves (checksum looked at). */
int zone_decode_info(struct slice bytes, uint32_t number, struct store_info *ret,
                     uint64_t *ret_wiped);

#endif
