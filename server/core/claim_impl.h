/* claim_impl: what the parts of claim share. Private to claim*.c.
 *
 * In here a *node* is a usable member: a number 0 .. n_nodes - 1, zone by zone, by id inside a
 * zone. A *seat* is one of the n_seats places of a partition's row; which slot it becomes is
 * decided last. An unfilled seat is NOBODY.
 */
#ifndef QUOIT_CORE_CLAIM_IMPL_H
#define QUOIT_CORE_CLAIM_IMPL_H

#include "proto/limits.h"
#include "proto/slice.h"
#include "server/core/claim.h"

#define NOBODY UINT16_MAX

/* What quotas depend on. */
struct claim_cluster {
    uint32_t n_partitions, n_seats, n_nodes, n_zones;
    uint32_t *weight, *zone; /* per node; weight > 0 */
    uint32_t *zone_first;    /* per zone, and one more: its first node */
    uint32_t *cap, *lo;      /* per zone: most and least replicas of one partition */
};

struct claim_work {
    struct claim_cluster cluster;
    struct arena scratch;

    /* who was there before */
    const uint16_t *old; /* [n_partitions * n_old]: nodes, or NOBODY */
    uint32_t n_old;
    uint32_t *before; /* per node: seats held in old */

    /* the table in the making (claim_seats.c) */
    uint16_t *row;       /* [n_partitions * n_seats] */
    uint8_t *n_held;     /* per partition: seats filled */
    uint8_t *n_lost;     /* per partition: nodes that held it before and do not now */
    uint32_t *quota;     /* per node */
    int32_t *surplus;    /* per node: seats held - quota */
    uint32_t *held;      /* partitions that each node holds, node after node ... */
    uint32_t *held_at;   /* ... where its part begins, per node ... */
    uint32_t *n_held_by; /* ... and how many there are */
    uint32_t *place; /* [n_partitions * n_seats]: where in held the seat's partition is listed */
    uint16_t *pair;  /* [n_nodes * n_nodes]: partitions that two nodes share */

    /* the network of claim_path.c: one vertex per node, then n_vertices per partition */
    uint32_t n_floors;     /* zones with lo > 0 ... */
    uint32_t *floor_zone;  /* ... which */
    uint32_t *floor_index; /* per zone: its place there, or CLAIM_NONE */
    uint32_t n_vertices;
    int32_t *potential; /* per vertex */
};

/* The fixed tie-breaker: part of the table's definition. */
static inline uint64_t claim_mix(uint64_t a, uint64_t b)
{
    uint64_t z = a * 0x9e3779b97f4a7c15u + b * 0xc2b2ae3d27d4eb4fu + 0x165667b19e3779f9u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* n elements of a size, all bytes set to fill; NULL if there is no memory. */
void *claim_alloc(struct arena *arena, size_t n, size_t size, int fill);

/* ---- claim_quota.c: how many seats each node gets ---------------------------------------- */

/* Fills cap and lo: replicas spread as evenly over zones as the zones' nodes allow. */
void claim_spread(struct claim_cluster *c);
/* Shares under cap and lo, rounded so that the sum is exact and as many of the seats `before` as
 * possible stay. Fills quota[n_nodes]. 0, -ERR_NO_MEMORY. */
int claim_quotas(const struct claim_cluster *c, const uint32_t *before, struct arena *scratch,
                 uint32_t *quota);

/* ---- claim_seats.c: the table in the making ----------------------------------------------- */

/* An empty table; cluster, old, before, quota are set. 0, -ERR_NO_MEMORY. */
int claim_seats_init(struct claim_work *w);
bool claim_seats_has(const struct claim_work *w, uint32_t partition, uint32_t node);
bool claim_seats_had(const struct claim_work *w, uint32_t partition, uint32_t node);
uint32_t claim_seats_in_zone(const struct claim_work *w, uint32_t partition, uint32_t zone);
/* Of the free seats of a partition: those that zones below their floor must get. */
uint32_t claim_seats_needed(const struct claim_work *w, uint32_t partition);
/* May node have a free seat; may `to` have the seat of `from`. */
bool claim_seats_may_add(const struct claim_work *w, uint32_t partition, uint32_t node);
bool claim_seats_may_swap(const struct claim_work *w, uint32_t partition, uint32_t from,
                          uint32_t to);
void claim_seats_add(struct claim_work *w, uint32_t partition, uint32_t node);
void claim_seats_swap(struct claim_work *w, uint32_t partition, uint32_t from, uint32_t to);
/* Vertices of a partition: itself, and that of a zone (the partition's own if the zone has neither
 * a holder nor a floor). */
uint32_t claim_vertex(const struct claim_work *w, uint32_t partition);
uint32_t claim_vertex_zone(const struct claim_work *w, uint32_t partition, uint32_t zone);

/* ---- claim_deal.c: what can be given away directly ---------------------------------------- */

/* Seats those who were there before, but for those whom the zone rule does not let stay. */
void claim_deal_keep(struct claim_work *w);
/* Free seats to nodes below their quota; then seats of nodes above it to nodes below. 0,
 * -ERR_NO_MEMORY. */
int claim_deal(struct claim_work *w);

/* ---- claim_path.c: the rest, along shortest paths ----------------------------------------- */

struct claim_path;

int claim_path_new(struct claim_work *w, struct claim_path **ret); /* lives in scratch */
/* Moves along paths that cost nothing, until there is none; then a direct move is shortest. */
void claim_path_costless(struct claim_path *path);
/* Moves along shortest paths until every node has its quota. */
void claim_path_all(struct claim_path *path);

/* ---- claim_roles.c: primaries ------------------------------------------------------------- */

/* table: n_slots nodes or NOBODY per partition; primary: nodes, NOBODY where there is none yet;
 * both are read and primary is filled. 0, -ERR_NO_MEMORY. */
int claim_roles(const struct claim_cluster *c, const uint16_t *table, uint32_t n_slots,
                struct arena *scratch, uint16_t *primary);

#endif
