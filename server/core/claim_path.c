/* claim_path: seats that change hands by way of others, so that as few as possible are moved.
 *
 * The table is a flow. A unit is a seat, and the network is, per partition p,
 *
 *     p  --[lo, cap of the zone]-->  (p, zone)  --[0, 1], price-->  node  --[quota]-->
 *
 * where n_seats units leave each p, and the price of node holding p is 0 if it held p before and 1
 * if p must be copied to it. The cheapest flow is the table with the fewest moves. It is found by
 * successive shortest paths, starting from those who stay (claim_deal.c): that costs nothing, so it
 * is the cheapest flow for what it delivers, and each path that is shortest leaves it so, until each
 * node has its quota. Sources are nodes above their quota and partitions with free seats; sinks are
 * nodes below. That a path exists is McNaughton's wrap-around rule: nodes listed zone by zone and
 * wrapped around the partitions on quota[i] consecutive cells make a legal table.
 *
 * In the residual network a unit goes backward and forward through partitions:
 *
 *     a -> (p, zone of a)            a gives up p: 0, or -1 if p was only just given to it
 *     (p, zone) -> p                 if the zone has more than its floor here
 *     p -> (p, zone)                 if it has less than its cap
 *     (p, zone) -> b                 b gets p: 0 if it had p before, else 1
 *
 * A path passes each vertex once, so all that it does is legal together. Each vertex has a
 * *potential* (its distance when it was last reached, less that of the sinks) which makes all prices
 * in the search nonnegative, whole and small: the search is Dijkstra's with one bucket per distance.
 *
 * From (p, zone) an edge leads to nearly every node of the zone. They are not looked at one by one:
 * nodes that are not yet reached are listed by zone and potential, and a vertex makes an *offer* to
 * a whole list, to be taken up when its distance comes; who takes it leaves the list. So a search
 * looks at each seat and each node a few times, never at all pairs. A zone that has neither a holder
 * in p nor a floor is one with p: the offer goes to the lists of all such zones.
 */
#include "server/core/claim_impl.h"

#include "proto/err.h"

#include <assert.h>

#define NONE UINT32_MAX
#define OFFER 0x80000000u /* in a queue: the vertex makes its next offer */

/* Unreached nodes of one zone and potential, all at one price. */
struct group {
    uint32_t zone, first; /* a node, or NONE */
    int32_t potential;
    uint32_t next; /* group of the same potential */
};

struct entry {
    uint32_t what, next;
};

struct claim_path {
    struct claim_work *w;
    size_t n_vertices;
    /* per vertex; distance and parent hold if reached is this search's number */
    int32_t *distance;
    uint32_t *parent, *reached, *settled, *offered;
    uint32_t search; /* number of this search */
    uint32_t *visited, n_visited;
    uint32_t *sinks, n_sinks;       /* found by this search, all at one distance */
    uint32_t *walked;               /* per vertex: search whose path went through it */
    uint32_t *unfilled, n_unfilled; /* partitions with free seats */
    /* groups: of a zone from the highest potential down, and all of one potential by `next` */
    uint32_t *order; /* nodes by zone, then falling potential */
    uint32_t *next;  /* per node: the next of its group */
    struct group *groups;
    uint32_t *zone_group;       /* per zone, and one more: its first group */
    uint32_t *levels, n_levels; /* first group of each potential, falling */
    int32_t *level_potential;
    /* the queue: lists of entries, by distance */
    struct entry *entries;
    uint32_t n_entries, n_used, unused;
    uint32_t *head, *tail;
    int32_t n_buckets;
};

/* ---- the queue --------------------------------------------------------------------------- */

static void push(struct claim_path *path, int32_t distance, uint32_t what)
{
    uint32_t e = path->unused;

    assert(distance >= 0);
    if (distance >= path->n_buckets)
        return; /* farther than any node can be */
    if (e != NONE)
        path->unused = path->entries[e].next;
    else
        e = path->n_used++;
    assert(e < path->n_entries);
    path->entries[e] = (struct entry){what, NONE};
    if (path->head[distance] == NONE)
        path->head[distance] = e;
    else
        path->entries[path->tail[distance]].next = e;
    path->tail[distance] = e;
}

static uint32_t pop(struct claim_path *path, int32_t distance)
{
    uint32_t e = path->head[distance];

    path->head[distance] = path->entries[e].next;
    path->entries[e].next = path->unused;
    path->unused = e;
    return path->entries[e].what;
}

static void reach(struct claim_path *path, uint32_t vertex, int32_t distance, uint32_t parent)
{
    if (path->settled[vertex] == path->search ||
        (path->reached[vertex] == path->search && path->distance[vertex] <= distance))
        return;
    path->reached[vertex] = path->search;
    path->distance[vertex] = distance;
    path->parent[vertex] = parent;
    push(path, distance, vertex);
}

/* ---- groups ------------------------------------------------------------------------------ */

/* Insertion sort: the order of the last search is nearly right. */
static void sort_nodes(struct claim_path *path, uint32_t zone)
{
    const struct claim_cluster *c = &path->w->cluster;
    const int32_t *potential = path->w->potential;

    for (uint32_t i = c->zone_first[zone] + 1; i < c->zone_first[zone + 1]; i++) {
        uint32_t node = path->order[i], k = i;

        for (; k > c->zone_first[zone] && potential[path->order[k - 1]] < potential[node]; k--)
            path->order[k] = path->order[k - 1];
        path->order[k] = node;
    }
}

static uint32_t group_zone(struct claim_path *path, uint32_t zone, uint32_t n_groups)
{
    const struct claim_cluster *c = &path->w->cluster;

    path->zone_group[zone] = n_groups;
    sort_nodes(path, zone);
    for (uint32_t i = c->zone_first[zone + 1]; i-- > c->zone_first[zone];) {
        uint32_t node = path->order[i];

        path->next[node] = i + 1 < c->zone_first[zone + 1] ? path->order[i + 1] : NONE;
    }
    for (uint32_t i = c->zone_first[zone]; i < c->zone_first[zone + 1]; i++) {
        int32_t potential = path->w->potential[path->order[i]];

        if (n_groups > path->zone_group[zone] && path->groups[n_groups - 1].potential == potential)
            continue;
        if (i > c->zone_first[zone])
            path->next[path->order[i - 1]] = NONE;
        path->groups[n_groups++] =
            (struct group){.zone = zone, .first = path->order[i], .potential = potential};
    }
    return n_groups;
}

/* Groups of one potential in a row, the highest first; in a row by zone. Few potentials exist. */
static void sort_levels(struct claim_path *path, uint32_t n_groups)
{
    int32_t level = INT32_MAX;
    uint32_t n = 0;

    path->n_levels = 0;
    while (n < n_groups) {
        int32_t below = INT32_MIN;
        uint32_t last = NONE;

        for (uint32_t g = 0; g < n_groups; g++)
            if (path->groups[g].potential < level && path->groups[g].potential > below)
                below = path->groups[g].potential;
        level = below;
        for (uint32_t g = 0; g < n_groups; g++)
            if (path->groups[g].potential == level) {
                path->groups[g].next = NONE;
                if (last == NONE)
                    path->levels[path->n_levels] = g;
                else
                    path->groups[last].next = g;
                last = g;
                n++;
            }
        path->level_potential[path->n_levels++] = level;
    }
}

static void make_groups(struct claim_path *path)
{
    uint32_t n_groups = 0;

    for (uint32_t z = 0; z < path->w->cluster.n_zones; z++)
        n_groups = group_zone(path, z, n_groups);
    path->zone_group[path->w->cluster.n_zones] = n_groups;
    sort_levels(path, n_groups);
}

/* ---- the search -------------------------------------------------------------------------- */

static void settle(struct claim_path *path, uint32_t vertex)
{
    path->settled[vertex] = path->search;
    path->visited[path->n_visited++] = vertex;
}

/* A node gives up each of its seats. */
static void settle_node(struct claim_path *path, uint32_t node)
{
    const struct claim_work *w = path->w;
    uint32_t zone = w->cluster.zone[node];

    settle(path, node);
    for (uint32_t i = 0; i < w->n_held_by[node]; i++) {
        uint32_t p = w->held[w->held_at[node] + i];
        uint32_t vertex = claim_vertex_zone(w, p, zone);
        int32_t price = claim_seats_had(w, p, node) ? 0 : -1;

        reach(path, vertex,
              path->distance[node] + price + w->potential[node] - w->potential[vertex], node);
    }
}

/* An offer that seems to lower a price is one that nobody in its list can take: then it is made at
 * once, and passes. */
static void offer(struct claim_path *path, uint32_t vertex, int32_t potential)
{
    int32_t price = 1 + path->w->potential[vertex] - potential;

    push(path, path->distance[vertex] + (price > 0 ? price : 0), OFFER | vertex);
}

/* Those who held the partition before, and reach it through this vertex, would have it for nothing.
 */
static void reach_old(struct claim_path *path, uint32_t partition, uint32_t vertex)
{
    const struct claim_work *w = path->w;
    const uint16_t *old = &w->old[(size_t)partition * w->n_old];

    for (uint32_t s = 0; w->n_lost[partition] > 0 && s < w->n_old; s++)
        if (old[s] != NOBODY && !claim_seats_has(w, partition, old[s]) &&
            w->cluster.cap[w->cluster.zone[old[s]]] > 0 &&
            claim_vertex_zone(w, partition, w->cluster.zone[old[s]]) == vertex)
            reach(path, old[s],
                  path->distance[vertex] + w->potential[vertex] - w->potential[old[s]], vertex);
}

static void reach_zone(struct claim_path *path, uint32_t partition, uint32_t zone, uint32_t to)
{
    const struct claim_work *w = path->w;
    uint32_t vertex = claim_vertex(w, partition);

    if (w->cluster.lo[zone] < w->cluster.cap[zone] &&
        claim_seats_in_zone(w, partition, zone) < w->cluster.cap[zone])
        reach(path, to, path->distance[vertex] + w->potential[vertex] - w->potential[to], vertex);
}

static void settle_partition(struct claim_path *path, uint32_t partition, uint32_t vertex)
{
    const struct claim_work *w = path->w;
    uint32_t n = w->cluster.n_seats;
    const uint16_t *row = &w->row[(size_t)partition * n];

    settle(path, vertex);
    for (uint32_t f = 0; f < w->n_floors; f++)
        reach_zone(path, partition, w->floor_zone[f], vertex + 1 + n + f);
    for (uint32_t s = 0; s < n; s++)
        if (row[s] != NOBODY &&
            claim_vertex_zone(w, partition, w->cluster.zone[row[s]]) == vertex + 1 + s)
            reach_zone(path, partition, w->cluster.zone[row[s]], vertex + 1 + s);
    reach_old(path, partition, vertex);
    path->offered[vertex] = 0;
    offer(path, vertex, path->level_potential[0]);
}

static void settle_zone(struct claim_path *path, uint32_t partition, uint32_t zone, uint32_t vertex)
{
    const struct claim_work *w = path->w;
    uint32_t up = claim_vertex(w, partition);

    settle(path, vertex);
    if (claim_seats_in_zone(w, partition, zone) > w->cluster.lo[zone])
        reach(path, up, path->distance[vertex] + w->potential[vertex] - w->potential[up], vertex);
    reach_old(path, partition, vertex);
    path->offered[vertex] = path->zone_group[zone];
    offer(path, vertex, path->groups[path->offered[vertex]].potential);
}

static uint32_t partition_of(const struct claim_work *w, uint32_t vertex)
{
    return (vertex - w->cluster.n_nodes) / w->n_vertices;
}

/* The zone of a partition's vertex; NONE: it is that of the partition itself. */
static uint32_t zone_of(const struct claim_work *w, uint32_t vertex)
{
    uint32_t n = w->cluster.n_seats, at = vertex - w->cluster.n_nodes;
    uint32_t p = at / w->n_vertices, k = at % w->n_vertices;

    if (k == 0)
        return NONE;
    if (k <= n)
        return w->cluster.zone[w->row[(size_t)p * n + k - 1]];
    return w->floor_zone[k - 1 - n];
}

static void settle_vertex(struct claim_path *path, uint32_t vertex)
{
    const struct claim_work *w = path->w;
    uint32_t zone;

    if (vertex < w->cluster.n_nodes) {
        settle_node(path, vertex);
        return;
    }
    zone = zone_of(w, vertex);
    if (zone == NONE)
        settle_partition(path, partition_of(w, vertex), vertex);
    else
        settle_zone(path, partition_of(w, vertex), zone, vertex);
}

/* The first of the group that does not hold the partition, and could not be there sooner, gets it.
 * Those that are there already leave the list on the way. */
static bool take_one(struct claim_path *path, struct group *group, uint32_t partition,
                     uint32_t vertex, int32_t distance)
{
    uint32_t *link = &group->first;

    while (*link != NONE) {
        uint32_t node = *link;
        bool there = path->reached[node] == path->search && path->distance[node] <= distance;

        if (!there && claim_seats_has(path->w, partition, node)) {
            link = &path->next[node];
            continue;
        }
        *link = path->next[node];
        if (!there) {
            reach(path, node, distance, vertex);
            return true;
        }
    }
    return false;
}

/* The same in all zones that are one with the partition. */
static bool take_one_of_level(struct claim_path *path, uint32_t level, uint32_t partition,
                              uint32_t vertex, int32_t distance)
{
    const struct claim_work *w = path->w;
    uint32_t *link = &path->levels[level];

    while (*link != NONE) {
        struct group *group = &path->groups[*link];
        bool taken = w->cluster.cap[group->zone] > 0 &&
                     claim_vertex_zone(w, partition, group->zone) == vertex &&
                     take_one(path, group, partition, vertex, distance);

        if (group->first == NONE)
            *link = group->next;
        else
            link = &group->next;
        if (taken)
            return true;
    }
    return false;
}

/* One node at a time, and then the others' offers of the same price: so the paths of one search
 * begin at many sources, and many of them can be walked. */
static void make_offer(struct claim_path *path, uint32_t vertex, int32_t distance)
{
    uint32_t p = partition_of(path->w, vertex), zone = zone_of(path->w, vertex);
    uint32_t k = path->offered[vertex];
    bool taken = zone == NONE ? take_one_of_level(path, k, p, vertex, distance)
                              : take_one(path, &path->groups[k], p, vertex, distance);

    if (taken) {
        push(path, distance, OFFER | vertex);
        return;
    }
    path->offered[vertex] = ++k;
    if (zone == NONE && k < path->n_levels)
        offer(path, vertex, path->level_potential[k]);
    else if (zone != NONE && k < path->zone_group[zone + 1])
        offer(path, vertex, path->groups[k].potential);
}

static void reach_sources(struct claim_path *path)
{
    const struct claim_work *w = path->w;
    uint32_t n = 0;

    for (uint32_t i = 0; i < w->cluster.n_nodes; i++)
        if (w->surplus[i] > 0)
            reach(path, i, 0, NONE);
    for (uint32_t k = 0; k < path->n_unfilled; k++) {
        uint32_t p = path->unfilled[k], free = w->cluster.n_seats - w->n_held[p];

        if (free == 0)
            continue;
        path->unfilled[n++] = p;
        for (uint32_t f = 0; f < w->n_floors; f++)
            if (claim_seats_in_zone(w, p, w->floor_zone[f]) < w->cluster.lo[w->floor_zone[f]])
                reach(path, claim_vertex_zone(w, p, w->floor_zone[f]), 0, NONE);
        if (claim_seats_needed(w, p) < free)
            reach(path, claim_vertex(w, p), 0, NONE);
    }
    path->n_unfilled = n;
}

/* Everything that is at one distance, in the order in which it was reached. Once there is a sink, for
 * as long again at most. */
static void visit(struct claim_path *path, int32_t distance)
{
    uint32_t limit = UINT32_MAX;

    while (path->head[distance] != NONE && path->n_visited < limit) {
        uint32_t what = pop(path, distance);

        if (what & OFFER)
            make_offer(path, what & ~OFFER, distance);
        else if (path->settled[what] == path->search)
            continue;
        else if (what < path->w->cluster.n_nodes && path->w->surplus[what] < 0) {
            path->sinks[path->n_sinks++] = what;
            limit = limit < UINT32_MAX ? limit : 2 * path->n_visited;
        } else
            settle_vertex(path, what);
    }
}

/* Finds the nearest nodes below their quota; false: there is none. */
static bool search(struct claim_path *path)
{
    path->search++;
    path->n_visited = path->n_used = path->n_sinks = 0;
    path->unused = NONE;
    memset(path->head, 0xff, (size_t)path->n_buckets * sizeof(uint32_t));
    make_groups(path);
    reach_sources(path);
    for (int32_t distance = 0; distance < path->n_buckets && path->n_sinks == 0; distance++)
        visit(path, distance);
    return path->n_sinks > 0;
}

/* ---- what a search leads to -------------------------------------------------------------- */

/* Potentials become distances; only what is nearer than the sinks need be touched. */
static void set_potentials(struct claim_path *path)
{
    int32_t limit = path->distance[path->sinks[0]];

    for (uint32_t k = 0; k < path->n_visited; k++) {
        uint32_t vertex = path->visited[k];

        if (path->distance[vertex] < limit)
            path->w->potential[vertex] -= limit - path->distance[vertex];
    }
}

/* No path of this search was here before, except at its source, if that has more to give. */
static bool is_clear(const struct claim_path *path, uint32_t sink)
{
    uint32_t vertex = sink;

    for (; path->parent[vertex] != NONE; vertex = path->parent[vertex])
        if (path->walked[vertex] == path->search)
            return false;
    return vertex < path->w->cluster.n_nodes ? path->w->surplus[vertex] > 0
                                             : path->walked[vertex] != path->search;
}

/* Every node on the path hands a seat to the one behind it. From the end: room is made before it is
 * used. */
static void walk(struct claim_path *path, uint32_t sink)
{
    struct claim_work *w = path->w;
    uint32_t to = sink, vertex = sink;

    w->surplus[sink]++;
    while (path->parent[vertex] != NONE) {
        uint32_t p = partition_of(w, path->parent[vertex]);

        for (to = vertex; path->parent[vertex] != NONE;) {
            path->walked[vertex] = path->search;
            vertex = path->parent[vertex];
            if (vertex < w->cluster.n_nodes)
                break;
        }
        if (vertex < w->cluster.n_nodes)
            claim_seats_swap(w, p, vertex, to);
        else
            claim_seats_add(w, p, to);
    }
    path->walked[vertex] = path->search;
    if (vertex < w->cluster.n_nodes)
        w->surplus[vertex]--;
}

static void walk_all(struct claim_path *path)
{
    for (uint32_t k = 0; k < path->n_sinks; k++)
        if (is_clear(path, path->sinks[k]))
            walk(path, path->sinks[k]);
}

void claim_path_free(struct claim_path *path)
{
    while (search(path)) {
        set_potentials(path);
        if (path->distance[path->sinks[0]] > 0)
            return;
        walk_all(path);
    }
}

void claim_path_all(struct claim_path *path)
{
    while (search(path)) {
        set_potentials(path);
        walk_all(path);
    }
    /* A legal table exists whatever the quotas are, so a path did as long as one lacked a seat. */
    for (uint32_t i = 0; i < path->w->cluster.n_nodes; i++)
        assert(path->w->surplus[i] == 0);
}

/* ---- making ------------------------------------------------------------------------------ */

static bool alloc_vertices(struct claim_path *path, struct arena *a)
{
    size_t n = path->n_vertices;

    path->distance = claim_alloc(a, n, sizeof(int32_t), 0);
    path->parent = claim_alloc(a, n, sizeof(uint32_t), 0);
    path->reached = claim_alloc(a, n, sizeof(uint32_t), 0);
    path->settled = claim_alloc(a, n, sizeof(uint32_t), 0);
    path->offered = claim_alloc(a, n, sizeof(uint32_t), 0);
    path->visited = claim_alloc(a, n, sizeof(uint32_t), 0);
    path->walked = claim_alloc(a, n, sizeof(uint32_t), 0);
    return path->distance && path->parent && path->reached && path->settled && path->offered &&
           path->visited && path->walked;
}

static bool alloc_groups(struct claim_path *path, struct arena *a)
{
    const struct claim_cluster *c = &path->w->cluster;

    path->order = claim_alloc(a, c->n_nodes, sizeof(uint32_t), 0);
    path->next = claim_alloc(a, c->n_nodes, sizeof(uint32_t), 0);
    path->groups = claim_alloc(a, c->n_nodes, sizeof(struct group), 0);
    path->zone_group = claim_alloc(a, c->n_zones + 1, sizeof(uint32_t), 0);
    path->levels = claim_alloc(a, c->n_nodes, sizeof(uint32_t), 0);
    path->level_potential = claim_alloc(a, c->n_nodes, sizeof(int32_t), 0);
    path->unfilled = claim_alloc(a, c->n_partitions, sizeof(uint32_t), 0);
    path->sinks = claim_alloc(a, c->n_nodes, sizeof(uint32_t), 0);
    return path->order && path->next && path->groups && path->zone_group && path->levels &&
           path->level_potential && path->unfilled && path->sinks;
}

/* Of each edge one entry at a time, and of each vertex one offer. */
static bool alloc_queue(struct claim_path *path, struct arena *a)
{
    const struct claim_work *w = path->w;
    uint32_t n_seats = w->cluster.n_seats;
    uint32_t per_partition = n_seats + w->n_old + 4 * w->n_vertices;

    path->n_entries = w->cluster.n_partitions * per_partition + 2 * w->cluster.n_nodes;
    path->n_buckets = 2 * (int32_t)w->cluster.n_nodes + 4;
    path->entries = claim_alloc(a, path->n_entries, sizeof(struct entry), 0);
    path->head = claim_alloc(a, (size_t)path->n_buckets, sizeof(uint32_t), 0);
    path->tail = claim_alloc(a, (size_t)path->n_buckets, sizeof(uint32_t), 0);
    return path->entries && path->head && path->tail;
}

int claim_path_new(struct claim_work *w, struct claim_path **ret)
{
    struct claim_path *path = claim_alloc(&w->scratch, 1, sizeof(*path), 0);

    if (!path)
        return -ERR_NO_MEMORY;
    path->w = w;
    path->n_vertices = w->cluster.n_nodes + (size_t)w->cluster.n_partitions * w->n_vertices;
    if (!alloc_vertices(path, &w->scratch) || !alloc_groups(path, &w->scratch) ||
        !alloc_queue(path, &w->scratch))
        return -ERR_NO_MEMORY;
    for (uint32_t i = 0; i < w->cluster.n_nodes; i++)
        path->order[i] = i;
    for (uint32_t p = 0; p < w->cluster.n_partitions; p++)
        path->unfilled[p] = p;
    path->n_unfilled = w->cluster.n_partitions;
    *ret = path;
    return 0;
}
