/* ring_place: the two calculations behind ring_form, on plain numbers. Private to server/core.
 *
 * Nodes are 0 .. n_nodes - 1, all usable (weight > 0); the caller has sorted them, so that the same
 * cluster gives the same numbers everywhere.
 */
#ifndef QUOIT_CORE_RING_PLACE_H
#define QUOIT_CORE_RING_PLACE_H

#include "proto/limits.h"
#include "proto/slice.h"

struct place_input {
    uint32_t n_partitions;
    uint32_t n_slots; /* per partition; <= n_nodes */
    uint32_t n_nodes, n_zones;
    const uint32_t *weight; /* [n_nodes], > 0 */
    const uint32_t *zone;   /* [n_nodes], < n_zones; every zone has a node */
};

/* How many slots each node gets: its share by weight, under the zone rule, rounded so that the sum
 * is exact. Fills quota[n_nodes]. 0 or -ERR_NO_MEMORY (scratch). */
int place_quotas(const struct place_input *in, struct arena *scratch, uint32_t *quota);

/* Which slots: fills table[n_partitions * n_slots] with nodes. Each node has quota[node] cells, no
 * node is twice in a row, and no two rows differ by more than one in any zone's count. */
void place_slots(const struct place_input *in, const uint32_t *quota, uint32_t *table);

/* Fills primary[n_partitions] with slot indices so that the highest load by weight is the least
 * that these rows allow. */
int place_primaries(const struct place_input *in, const uint32_t *table, struct arena *scratch,
                    uint32_t *primary);

#endif
