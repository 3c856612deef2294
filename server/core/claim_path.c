/* claim_path: seats that change hands by way of others, so that as few as possible are moved.
 *
 * The table is a flow. A unit is a seat, and the network is, per partition p,
 *
 *     p  --[lo, cap of the zone]-->  (p, zone)  --[0, 1], price-->  node  --[quota]-->
 *
 * where n_seats units leave each p, and the price of node holding p is 0 if it held p before and 1
 * if p must be copied to it. The cheapest flow is the table with the fewest moves. It is found by
 * successive shortest paths, starting from those who stay (claim_deal.c): that costs nothing, so it
 * is the cheapest flow for what it delivers, and each path that is shortest leaves it so, until
 * each node has its quota. Sources are nodes above their quota and partitions with free seats;
 * sinks are nodes below. That a path exists is McNaughton's wrap-around rule: nodes listed zone by
 * zone and wrapped around the partitions on quota[i] consecutive cells make a legal table.
 *
 * In the residual network a unit goes backward and forward through partitions:
 *
 *     a -> (p, zone of a)            a gives up p: 0, or -1 if p was only just given to it
 *     (p, zone) -> p                 if the zone has more than its floor here
 *     p -> (p, zone)                 if it has less than its cap
 *     (p, zone) -> b                 b gets p: 0 if it had p before, else 1
 *
 * A path passes each vertex once, so all that it does is legal together. Each vertex has a
 * *potential* (its distance when it was last reached, less that of the sinks) which makes all
 * prices in the search nonnegative, whole and small: the search is Dijkstra's with one bucket per
 * distance. Then as many shortest paths as do not meet are walked (claim_walk.c), and it searches
 * again.
 *
 * From (p, zone) an edge leads to nearly every node of the zone. They are not looked at one by one:
 * nodes that are not yet reached are listed by zone and potential, and a vertex makes an *offer* to
 * a whole list, to be taken up when its distance comes; who takes it leaves the list. So a search
 * looks at each seat and each node a few times, never at all pairs. A zone that has neither a
 * holder in p nor a floor is one with p: the offer goes to the lists of all such zones.
 */
#include "server/core/claim_path_impl.h"

#include "proto/err.h"

#include <assert.h>

#define OFFER 0x80000000u /* in a queue: the vertex makes its next offer */

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

static void reach(struct claim_path *path, uint32_t vertex, int32_t distance, uint32_t from)
{
    if (path->settled[vertex] == path->search ||
        (path->reached[vertex] == path->search && path->distance[vertex] <= distance))
        return;
    path->reached[vertex] = path->search;
    path->distance[vertex] = distance;
    path->depth[vertex] = from == NONE ? 0 : path->depth[from] + 1;
    path->tried[vertex] = 0;
    push(path, distance, vertex);
}

/* ---- groups ------------------------------------------------------------------------------ */

/* Insertion sort: the order of the last search is nearly right. */
static void sort_nodes(struct claim_path *path, uint32_t zone)
{
    const struct claim_cluster *c = &path->w->cluster;
    for (uint32_t i = c->zone_first[zone] + 1; i < c->zone_first[zone + 1]; i++) {
        uint32_t node = path->order[i], k = i;

        for (; k > c->zone_first[zone] && path->key[path->order[k - 1]] < path->key[node]; k--)
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
        int32_t key = path->key[path->order[i]];

        if (n_groups > path->zone_group[zone] && path->groups[n_groups - 1].key == key)
            continue;
        if (i > c->zone_first[zone])
            path->next[path->order[i - 1]] = NONE;
        path->groups[n_groups++] =
            (struct group){.zone = zone, .first = path->order[i], .key = key};
    }
    return n_groups;
}

/* Groups of one key in a row, the highest first; in a row by zone. Few keys exist. */
static void sort_levels(struct claim_path *path, uint32_t n_groups)
{
    uint32_t n = 0;

    path->n_levels = 0;
    while (n < n_groups) {
        int32_t level = 0;
        uint32_t last = NONE;
        bool found = false;

        for (uint32_t g = 0; g < n_groups; g++)
            if ((path->n_levels == 0 ||
                 path->groups[g].key < path->level_key[path->n_levels - 1]) &&
                (!found || path->groups[g].key > level)) {
                level = path->groups[g].key;
                found = true;
            }
        for (uint32_t g = 0; g < n_groups; g++)
            if (path->groups[g].key == level) {
                path->groups[g].next = NONE;
                if (last == NONE)
                    path->levels[path->n_levels] = g;
                else
                    path->groups[last].next = g;
                last = g;
                n++;
            }
        path->level_key[path->n_levels++] = level;
    }
}

void claim_path_group(struct claim_path *path)
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
    offer(path, vertex, path->level_key[0]);
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
    offer(path, vertex, path->groups[path->offered[vertex]].key);
}

uint32_t claim_path_zone(const struct claim_work *w, uint32_t vertex)
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
    zone = claim_path_zone(w, vertex);
    if (zone == NONE)
        settle_partition(path, claim_vertex_partition(w, vertex), vertex);
    else
        settle_zone(path, claim_vertex_partition(w, vertex), zone, vertex);
}

/* All of the group get the partition, but for those that hold it, which stay in the list. */
static void take_group(struct claim_path *path, struct group *group, uint32_t partition,
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
        if (!there)
            reach(path, node, distance, vertex);
    }
}

/* The same in all zones that are one with the partition. */
static void take_level(struct claim_path *path, uint32_t level, uint32_t partition, uint32_t vertex,
                       int32_t distance)
{
    const struct claim_work *w = path->w;
    uint32_t *link = &path->levels[level];

    while (*link != NONE) {
        struct group *group = &path->groups[*link];

        if (w->cluster.cap[group->zone] > 0 &&
            claim_vertex_zone(w, partition, group->zone) == vertex)
            take_group(path, group, partition, vertex, distance);
        if (group->first == NONE)
            *link = group->next;
        else
            link = &group->next;
    }
}

static void make_offer(struct claim_path *path, uint32_t vertex, int32_t distance)
{
    uint32_t p = claim_vertex_partition(path->w, vertex), zone = claim_path_zone(path->w, vertex);
    uint32_t k = path->offered[vertex]++;

    if (zone == NONE) {
        take_level(path, k, p, vertex, distance);
        if (++k < path->n_levels)
            offer(path, vertex, path->level_key[k]);
    } else {
        take_group(path, &path->groups[k], p, vertex, distance);
        if (++k < path->zone_group[zone + 1])
            offer(path, vertex, path->groups[k].key);
    }
}

static void reach_source(struct claim_path *path, uint32_t vertex)
{
    path->sources[path->n_sources++] = vertex;
    reach(path, vertex, 0, NONE);
}

static void reach_sources(struct claim_path *path)
{
    const struct claim_work *w = path->w;
    uint32_t n = 0;

    path->n_sources = 0;
    for (uint32_t i = 0; i < w->cluster.n_nodes; i++)
        if (w->surplus[i] > 0)
            reach_source(path, i);
    for (uint32_t k = 0; k < path->n_unfilled; k++) {
        uint32_t p = path->unfilled[k], free = w->cluster.n_seats - w->n_held[p];

        if (free == 0)
            continue;
        path->unfilled[n++] = p;
        for (uint32_t f = 0; f < w->n_floors; f++)
            if (claim_seats_in_zone(w, p, w->floor_zone[f]) < w->cluster.lo[w->floor_zone[f]])
                reach_source(path, claim_vertex_zone(w, p, w->floor_zone[f]));
        if (claim_seats_needed(w, p) < free)
            reach_source(path, claim_vertex(w, p));
    }
    path->n_unfilled = n;
}

/* Everything that is at one distance, in the order in which it was reached. Once there is a sink,
 * nothing farther from a source than that is looked at. */
static void visit(struct claim_path *path, int32_t distance)
{
    while (path->head[distance] != NONE) {
        uint32_t what = pop(path, distance), vertex = what & ~OFFER;

        if (path->sink != NONE && path->depth[vertex] >= path->depth[path->sink])
            continue;
        if (what & OFFER)
            make_offer(path, vertex, distance);
        else if (path->settled[vertex] == path->search)
            continue;
        else if (vertex >= path->w->cluster.n_nodes || path->w->surplus[vertex] >= 0)
            settle_vertex(path, vertex);
        else if (path->sink == NONE)
            path->sink = vertex;
    }
}

/* Finds the nearest nodes below their quota; false: there is none. */
static bool search(struct claim_path *path)
{
    path->search++;
    path->n_visited = path->n_used = 0;
    path->sink = path->unused = NONE;
    memset(path->head, 0xff, (size_t)path->n_buckets * sizeof(uint32_t));
    memcpy(path->key, path->w->potential, path->w->cluster.n_nodes * sizeof(int32_t));
    claim_path_group(path);
    reach_sources(path);
    for (int32_t distance = 0; distance < path->n_buckets && path->sink == NONE; distance++)
        visit(path, distance);
    return path->sink != NONE;
}

/* ---- what a search leads to -------------------------------------------------------------- */

/* Potentials become distances; only what is nearer than the sinks need be touched. */
static void set_potentials(struct claim_path *path)
{
    int32_t limit = path->distance[path->sink];

    for (uint32_t k = 0; k < path->n_visited; k++) {
        uint32_t vertex = path->visited[k];

        if (path->distance[vertex] < limit)
            path->w->potential[vertex] -= limit - path->distance[vertex];
    }
}

void claim_path_costless(struct claim_path *path)
{
    while (search(path)) {
        set_potentials(path);
        if (path->distance[path->sink] > 0)
            return;
        claim_path_walk(path);
    }
}

void claim_path_all(struct claim_path *path)
{
    while (search(path)) {
        set_potentials(path);
        claim_path_walk(path);
    }
    /* A legal table exists whatever the quotas are, so a path did as long as one lacked a seat. */
    for (uint32_t i = 0; i < path->w->cluster.n_nodes; i++)
        assert(path->w->surplus[i] == 0);
}

/* ---- making ------------------------------------------------------------------------------ */

static uint32_t *numbers(struct arena *a, size_t n)
{
    return claim_alloc(a, n, sizeof(uint32_t), 0);
}

static bool alloc_vertices(struct claim_path *path, struct arena *a)
{
    size_t n = path->n_vertices;

    path->distance = claim_alloc(a, n, sizeof(int32_t), 0);
    path->depth = numbers(a, n);
    path->reached = numbers(a, n);
    path->settled = numbers(a, n);
    path->offered = numbers(a, n);
    path->tried = numbers(a, n);
    path->closed = numbers(a, n);
    path->visited = numbers(a, n);
    path->sources = numbers(a, n);
    path->stack = numbers(a, n);
    path->used = numbers(a, path->w->cluster.n_partitions);
    return path->distance && path->depth && path->reached && path->settled && path->offered &&
           path->tried && path->closed && path->visited && path->sources && path->stack &&
           path->used;
}

static bool alloc_groups(struct claim_path *path, struct arena *a)
{
    const struct claim_cluster *c = &path->w->cluster;

    path->key = claim_alloc(a, c->n_nodes, sizeof(int32_t), 0);
    path->order = numbers(a, c->n_nodes);
    path->next = numbers(a, c->n_nodes);
    path->groups = claim_alloc(a, c->n_nodes, sizeof(struct group), 0);
    path->zone_group = numbers(a, c->n_zones + 1);
    path->levels = numbers(a, c->n_nodes);
    path->level_key = claim_alloc(a, c->n_nodes, sizeof(int32_t), 0);
    path->unfilled = numbers(a, c->n_partitions);
    return path->key && path->order && path->next && path->groups && path->zone_group &&
           path->levels && path->level_key && path->unfilled;
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
