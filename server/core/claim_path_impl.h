/* claim_path_impl: the search for shortest paths, and what it leaves for those who walk them.
 * Private to claim_path.c and claim_walk.c.
 */
#ifndef QUOIT_CORE_CLAIM_PATH_IMPL_H
#define QUOIT_CORE_CLAIM_PATH_IMPL_H

#include "server/core/claim_impl.h"

#define NONE UINT32_MAX

/* Nodes of one zone and key, in a list from which they are taken. */
struct group {
    uint32_t zone, first; /* a node, or NONE */
    int32_t key;
    uint32_t next; /* group of the same key */
};

struct entry {
    uint32_t what, next;
};

struct claim_path {
    struct claim_work *w;
    size_t n_vertices;
    uint32_t search; /* number of this search */
    /* Per vertex; distance, depth and tried hold if reached is this search's number. */
    int32_t *distance;
    uint32_t *depth; /* edges from the source */
    uint32_t *reached, *settled, *offered;
    uint32_t *tried;  /* edges that lead no further (claim_walk.c) ... */
    uint32_t *closed; /* ... and the number of the search in which none does */
    uint32_t *used;   /* per partition: the number of the search whose path went through it */
    uint32_t *visited, n_visited;
    uint32_t *sources, n_sources;
    uint32_t sink;                  /* the one found first, or NONE */
    uint32_t *unfilled, n_unfilled; /* partitions with free seats */
    uint32_t *stack;                /* a path: vertices from its source on */
    /* groups: of a zone from the highest key down, and all of one key by `next` */
    int32_t *key;    /* per node */
    uint32_t *order; /* nodes by zone, then falling key */
    uint32_t *next;  /* per node: the next of its group */
    struct group *groups;
    uint32_t *zone_group;       /* per zone, and one more: its first group */
    uint32_t *levels, n_levels; /* first group of each key, falling */
    int32_t *level_key;
    /* the queue: lists of entries, by distance */
    struct entry *entries;
    uint32_t n_entries, n_used, unused;
    uint32_t *head, *tail;
    int32_t n_buckets;
};

static inline uint32_t claim_vertex_partition(const struct claim_work *w, uint32_t vertex)
{
    return (vertex - w->cluster.n_nodes) / w->n_vertices;
}

/* The zone of a partition's vertex; NONE: it is that of the partition itself. */
uint32_t claim_path_zone(const struct claim_work *w, uint32_t vertex);
/* Makes groups of all nodes by zone and path->key. */
void claim_path_group(struct claim_path *path);
/* Walks shortest paths that do not meet, as the last search left them, at least one. */
void claim_path_walk(struct claim_path *path);

#endif
