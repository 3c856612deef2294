/* claim_walk: the shortest paths that a search has found, as many as do not meet.
 *
 * A search leaves for each vertex its distance from the sources and its depth, the number of edges.
 * Edges that cost nothing by the new potentials and lead one deeper make a layered graph of
 * shortest paths. Here they are walked depth first, as in Dinic's algorithm: an edge that led
 * nowhere is not tried again, a vertex with no edge left is closed, and so one search serves for
 * many paths at the price of about one more look at each edge. A partition that was part of a path
 * is left alone until the next search, because its row is another one now; nodes may be on many
 * paths.
 *
 * The nodes that get a partition are again in lists, by zone and depth, from which closed ones go.
 */
#include "server/core/claim_path_impl.h"

/* ---- edges ------------------------------------------------------------------------------- */

/* May a path go from one vertex to the other at this price? */
static bool leads(const struct claim_path *path, uint32_t from, uint32_t to, int32_t price)
{
    const struct claim_work *w = path->w;

    if (path->reached[to] != path->search || path->depth[to] != path->depth[from] + 1 ||
        path->closed[to] == path->search || price + w->potential[from] != w->potential[to])
        return false;
    return to < w->cluster.n_nodes || path->used[claim_vertex_partition(w, to)] != path->search;
}

static uint32_t edge_of_node(struct claim_path *path, uint32_t node)
{
    const struct claim_work *w = path->w;

    for (; path->tried[node] < w->n_held_by[node]; path->tried[node]++) {
        uint32_t p = w->held[w->held_at[node] + path->tried[node]];
        uint32_t to = claim_vertex_zone(w, p, w->cluster.zone[node]);

        if (path->used[p] != path->search &&
            leads(path, node, to, claim_seats_had(w, p, node) ? 0 : -1))
            return to;
    }
    return NONE;
}

/* From a partition to its zones, and back. */
static bool zone_leads(const struct claim_path *path, uint32_t partition, uint32_t zone,
                       uint32_t from, uint32_t to)
{
    const struct claim_work *w = path->w;
    uint32_t n = claim_seats_in_zone(w, partition, zone);
    bool down = from == claim_vertex(w, partition);

    if (down ? n >= w->cluster.cap[zone] || w->cluster.lo[zone] >= w->cluster.cap[zone]
             : n <= w->cluster.lo[zone])
        return false;
    return leads(path, from, to, 0);
}

/* Edge k of those from a partition's vertex to another of it; false: there is none at this k. */
static bool inner_edge(const struct claim_path *path, uint32_t vertex, uint32_t k, uint32_t *ret)
{
    const struct claim_work *w = path->w;
    uint32_t p = claim_vertex_partition(w, vertex), zone = claim_path_zone(w, vertex), node;

    if (zone != NONE) {
        *ret = claim_vertex(w, p);
        return k == 0 && zone_leads(path, p, zone, vertex, *ret);
    }
    *ret = vertex + 1 + k;
    if (k >= w->cluster.n_seats)
        return zone_leads(path, p, w->floor_zone[k - w->cluster.n_seats], vertex, *ret);
    node = w->row[(size_t)p * w->cluster.n_seats + k];
    return node != NOBODY && claim_vertex_zone(w, p, w->cluster.zone[node]) == *ret &&
           zone_leads(path, p, w->cluster.zone[node], vertex, *ret);
}

/* Whether the node, which held the partition before, may have it again from this vertex. */
static bool old_edge(const struct claim_path *path, uint32_t vertex, uint32_t node)
{
    const struct claim_work *w = path->w;
    uint32_t p = claim_vertex_partition(w, vertex);

    return node != NOBODY && !claim_seats_has(w, p, node) &&
           w->cluster.cap[w->cluster.zone[node]] > 0 &&
           claim_vertex_zone(w, p, w->cluster.zone[node]) == vertex && leads(path, vertex, node, 0);
}

/* A node of the group that may have the partition; closed ones leave the list. */
static uint32_t edge_to_group(struct claim_path *path, uint32_t vertex, struct group *group)
{
    const struct claim_work *w = path->w;
    uint32_t p = claim_vertex_partition(w, vertex), *link = &group->first;

    while (*link != NONE) {
        uint32_t node = *link;

        if (path->closed[node] == path->search) {
            *link = path->next[node];
            continue;
        }
        if (leads(path, vertex, node, 1) && !claim_seats_has(w, p, node) &&
            !claim_seats_had(w, p, node))
            return node;
        link = &path->next[node];
    }
    return NONE;
}

static uint32_t edge_to_zone(struct claim_path *path, uint32_t vertex, uint32_t zone)
{
    int32_t key = -(int32_t)(path->depth[vertex] + 1);

    for (uint32_t g = path->zone_group[zone]; g < path->zone_group[zone + 1]; g++)
        if (path->groups[g].key == key)
            return edge_to_group(path, vertex, &path->groups[g]);
    return NONE;
}

static uint32_t edge_to_level(struct claim_path *path, uint32_t vertex)
{
    const struct claim_work *w = path->w;
    uint32_t p = claim_vertex_partition(w, vertex), level = 0;
    int32_t key = -(int32_t)(path->depth[vertex] + 1);

    while (level < path->n_levels && path->level_key[level] != key)
        level++;
    if (level == path->n_levels)
        return NONE;
    for (uint32_t *link = &path->levels[level]; *link != NONE;) {
        struct group *group = &path->groups[*link];
        uint32_t node = NONE;

        if (w->cluster.cap[group->zone] > 0 && claim_vertex_zone(w, p, group->zone) == vertex)
            node = edge_to_group(path, vertex, group);
        if (node != NONE)
            return node;
        if (group->first == NONE)
            *link = group->next;
        else
            link = &group->next;
    }
    return NONE;
}

static uint32_t edge_of_partition(struct claim_path *path, uint32_t vertex)
{
    const struct claim_work *w = path->w;
    uint32_t p = claim_vertex_partition(w, vertex), zone = claim_path_zone(w, vertex), to;
    uint32_t n_inner = zone == NONE ? w->n_vertices - 1 : 1;
    uint32_t n_old = w->n_lost[p] > 0 ? w->n_old : 0;

    for (; path->tried[vertex] < n_inner + n_old; path->tried[vertex]++) {
        uint32_t k = path->tried[vertex];

        if (k < n_inner) {
            if (inner_edge(path, vertex, k, &to))
                return to;
        } else {
            to = w->old[(size_t)p * w->n_old + k - n_inner];
            if (old_edge(path, vertex, to))
                return to;
        }
    }
    return zone == NONE ? edge_to_level(path, vertex) : edge_to_zone(path, vertex, zone);
}

/* ---- paths ------------------------------------------------------------------------------- */

/* A path from the source to a node below its quota, in the stack; its length, 0: there is none. */
static uint32_t find_path(struct claim_path *path, uint32_t source)
{
    uint32_t n_nodes = path->w->cluster.n_nodes, n = 0;

    path->stack[n++] = source;
    while (n > 0) {
        uint32_t vertex = path->stack[n - 1], to;

        if (vertex < n_nodes && path->w->surplus[vertex] < 0)
            return n;
        to = vertex < n_nodes ? edge_of_node(path, vertex) : edge_of_partition(path, vertex);
        if (to != NONE) {
            path->stack[n++] = to;
        } else {
            path->closed[vertex] = path->search;
            n--;
        }
    }
    return 0;
}

/* Every node on the path hands a seat to the one behind it. From the end: room is made before it is
 * used. */
static void walk(struct claim_path *path, uint32_t n)
{
    struct claim_work *w = path->w;
    uint32_t n_nodes = w->cluster.n_nodes, to = path->stack[--n];

    w->surplus[to]++;
    while (n > 0) {
        uint32_t p = claim_vertex_partition(w, path->stack[--n]);

        path->used[p] = path->search;
        while (n > 0 && path->stack[n] >= n_nodes)
            n--;
        if (path->stack[n] >= n_nodes) {
            claim_seats_add(w, p, to);
            return;
        }
        claim_seats_swap(w, p, path->stack[n], to);
        to = path->stack[n];
    }
    w->surplus[to]--;
}

static bool may_give(const struct claim_path *path, uint32_t source)
{
    if (path->closed[source] == path->search)
        return false;
    if (source < path->w->cluster.n_nodes)
        return path->w->surplus[source] > 0;
    return path->used[claim_vertex_partition(path->w, source)] != path->search;
}

void claim_path_walk(struct claim_path *path)
{
    for (uint32_t i = 0; i < path->w->cluster.n_nodes; i++)
        path->key[i] = path->reached[i] == path->search ? -(int32_t)path->depth[i] : INT32_MIN;
    claim_path_group(path);
    for (uint32_t k = 0; k < path->n_sources; k++) {
        uint32_t n;

        while (may_give(path, path->sources[k]) && (n = find_path(path, path->sources[k])) > 0)
            walk(path, n);
    }
}
