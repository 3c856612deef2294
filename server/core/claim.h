/* claim: who owns what. The slots of every partition, computed from the members and the table of
 * today (server/core/claim.c tells how).
 *
 * A pure function of values: the same input gives the same table on every node, with every compiler
 * and byte order, whatever order the members come in. What it promises of the new table:
 *
 *   - no member is twice in a row, and each has its share by weight to within one slot;
 *   - replicas of a partition spread over the zones as evenly as their nodes allow;
 *   - of all tables with the same share of slots for each member it is one that has the fewest
 *     slots in new places: `moved` is minimal;
 *   - primaries: each member has its share by weight to within one, where the rows allow that.
 *
 * Members are asked for id, zone and weight alone. A member of weight 0 gives up what it has; one
 * that is not in the list is gone, and its slots are CLAIM_NONE in the table.
 */
#ifndef QUOIT_CORE_CLAIM_H
#define QUOIT_CORE_CLAIM_H

#include "proto/wire.h"

/* Changes with every change of what is computed: nodes of different builds must not mix. */
#define CLAIM_VERSION 1u

#define CLAIM_NONE UINT32_MAX

struct claim_input {
    const struct wire_member *members; /* distinct ids, in any order */
    size_t n_members;                  /* 1 .. LIMIT_MEMBERS_MAX */
    uint32_t n_partitions;             /* a power of two, at most LIMIT_PARTITIONS_MAX */
    uint32_t replicas;                 /* wanted, 1 .. LIMIT_REPLICAS_MAX */
    /* Today's table: per partition n_slots indices of members, or CLAIM_NONE. */
    const uint32_t *table;   /* [n_partitions * n_slots]; NULL: there is none yet */
    const uint32_t *primary; /* [n_partitions], slots; NULL: none yet */
    /* Who is in those slots, if the table names others that are to be treated as if they were there
     * (a plan's newcomers in the place of the dead); NULL: those of the table. Slots are handed on
     * from these. */
    const uint32_t *present;
    uint32_t n_slots; /* at most LIMIT_SLOTS_MAX */
};

/* One member, before and after. */
struct claim_share {
    uint32_t slots_before, slots_after;
    uint32_t primaries_before, primaries_after;
    uint32_t slots_without_zones; /* what it would have if there were no zones */
};

struct claim {
    uint32_t n_seats;           /* replicas of each partition: min(wanted, usable members) */
    uint32_t n_slots;           /* columns of the table: n_seats, or more if today's has more */
    uint32_t *table;            /* [n_partitions * n_slots]: who stays keeps its slot */
    uint32_t *primary;          /* [n_partitions]: slots */
    struct claim_share *shares; /* [n_members], in the order of the input */
    uint32_t moved;             /* slots whose member did not hold the partition before */
    uint32_t lower_bound;       /* slots that members have more than before: moved is never less */
    uint32_t
        violations_before; /* partitions of today's table that break these members' zone rule */
    uint32_t violations;   /* of the new table: 0 */
    /* The price of the zone rule: the member whose slots are most above what it would have without,
     * and by how much (1000: as much as without). CLAIM_NONE, 1000: it costs nothing. */
    uint32_t zone_cost_member, zone_cost_permille;
};

/* Fills *ret with arrays in arena. 0, -ERR_NO_MEMORY, -ERR_CONFIG (no usable member, numbers out of
 * range, an id twice), -ERR_BAD_REQUEST (the table names what is no member, or a member twice in a
 * row); *ret is untouched then. */
int claim_compute(const struct claim_input *in, struct arena *arena, struct claim *ret);

/* Counts the partitions of the table that break the zone rule of the members: more replicas in a
 * zone than need be, or fewer than must be. Who has weight 0 does not count. Errors as above. */
int claim_violations(const struct claim_input *in, uint32_t *ret);

#endif
