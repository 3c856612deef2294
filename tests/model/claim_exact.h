/* claim_exact: what claim must come to, computed in other ways that are slow and obviously right.
 *
 * Shares by filling water in steps of a floating point number; the least number of moves by a
 * minimum-cost flow over the whole graph (successive shortest paths, Bellman and Ford's), and once
 * more by trying all tables of a tiny cluster; the best primaries by another flow.
 */
#ifndef QUOIT_TESTS_MODEL_CLAIM_EXACT_H
#define QUOIT_TESTS_MODEL_CLAIM_EXACT_H

#include "server/core/claim.h"

#define EXACT_MEMBERS 24u

/* The zone rule and fair shares of members, by definition. Zones are numbered. */
struct exact {
    uint32_t n_members, n_zones, n_seats;
    uint32_t zone[EXACT_MEMBERS];     /* per member */
    bool usable[EXACT_MEMBERS];       /* per member */
    uint32_t cap[EXACT_MEMBERS];      /* per zone */
    uint32_t lo[EXACT_MEMBERS];       /* per zone */
    double share[EXACT_MEMBERS];      /* per member */
    double zone_share[EXACT_MEMBERS]; /* per zone */
};

void exact_init(struct exact *e, const struct claim_input *in);
/* Distinct usable members, n_seats of them, each zone between lo and cap. */
bool exact_row_ok(const struct exact *e, const uint32_t *row, uint32_t n_slots);
/* The fewest slots in new places of any table in which member i has quota[i] slots. */
uint32_t exact_moves(const struct exact *e, const struct claim_input *in, const uint32_t *quota);
/* The same by trying everything: for some 10^5 tables at most. UINT32_MAX: there is no table. */
uint32_t exact_moves_by_force(const struct exact *e, const struct claim_input *in,
                              const uint32_t *quota);
/* How far all members together must be from their share of primaries (its floor to its ceiling), at
 * least; and how far they are. */
uint32_t exact_roles(const struct exact *e, const struct claim_input *in, const uint32_t *table,
                     uint32_t n_slots);
uint32_t exact_roles_of(const struct exact *e, const struct claim_input *in,
                        const uint32_t *primaries);

#endif
