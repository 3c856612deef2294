/* claim_exact: claim's twin. Nothing in here is shared with claim, and nothing is clever. */
#include "tests/model/claim_exact.h"

#include <assert.h>
#include <stdlib.h>

/* ---- the rule and the shares ------------------------------------------------------------- */

static uint32_t min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static uint32_t zone_nodes(const struct exact *e, uint32_t zone)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < e->n_members; i++)
        n += e->usable[i] && e->zone[i] == zone;
    return n;
}

static uint32_t seats_at(const struct exact *e, uint32_t level)
{
    uint32_t n = 0;

    for (uint32_t z = 0; z < e->n_zones; z++)
        n += min_u32(zone_nodes(e, z), level);
    return n;
}

/* With CLAIM_LOOSE another rule: two zones at least, where there are two. */
static void make_rule(struct exact *e)
{
    uint32_t level = 0;

#ifdef CLAIM_LOOSE
    level = e->n_seats > 1 ? e->n_seats - 1 : 1;
#endif
    while (seats_at(e, level) < e->n_seats)
        level++;
    for (uint32_t z = 0; z < e->n_zones; z++)
        e->cap[z] = min_u32(zone_nodes(e, z), level);
    for (uint32_t z = 0; z < e->n_zones; z++) {
        uint32_t others = seats_at(e, level) - e->cap[z];

#ifndef CLAIM_LOOSE
        e->lo[z] = level ? min_u32(zone_nodes(e, z), level - 1) : 0;
#endif
        if (e->n_seats > others && e->lo[z] < e->n_seats - others)
            e->lo[z] = e->n_seats - others;
    }
}

static double at_level(const struct claim_input *in, uint32_t member, double level)
{
    double share = level * in->members[member].weight, most = in->n_partitions;

    return share < most ? share : most;
}

static double zone_at_level(const struct exact *e, const struct claim_input *in, uint32_t zone,
                            double level)
{
    double sum = 0;

    for (uint32_t i = 0; i < e->n_members; i++)
        if (e->usable[i] && e->zone[i] == zone)
            sum += at_level(in, i, level);
    return sum;
}

static double clipped(const struct exact *e, const struct claim_input *in, uint32_t zone,
                      double level)
{
    double v = zone_at_level(e, in, zone, level), q = in->n_partitions;

    if (v < e->lo[zone] * q)
        return e->lo[zone] * q;
    return v > e->cap[zone] * q ? e->cap[zone] * q : v;
}

static void make_shares(struct exact *e, const struct claim_input *in)
{
    double low = 0, high = in->n_partitions;

    for (int k = 0; k < 200; k++) {
        double mid = (low + high) / 2, sum = 0;

        for (uint32_t z = 0; z < e->n_zones; z++)
            sum += clipped(e, in, z, mid);
        if (sum >= (double)e->n_seats * in->n_partitions)
            high = mid;
        else
            low = mid;
    }
    for (uint32_t z = 0; z < e->n_zones; z++) {
        double from = 0, to = in->n_partitions;

        e->zone_share[z] = clipped(e, in, z, high);
        for (int k = 0; k < 200; k++) {
            double mid = (from + to) / 2;

            if (zone_at_level(e, in, z, mid) >= e->zone_share[z] - 1e-9)
                to = mid;
            else
                from = mid;
        }
        for (uint32_t i = 0; i < e->n_members; i++)
            if (e->usable[i] && e->zone[i] == z)
                e->share[i] = at_level(in, i, to);
    }
}

void exact_init(struct exact *e, const struct claim_input *in)
{
    uint32_t n_usable = 0;

    assert(in->n_members <= EXACT_MEMBERS);
    memset(e, 0, sizeof(*e));
    e->n_members = (uint32_t)in->n_members;
    for (uint32_t i = 0; i < e->n_members; i++) {
        uint32_t k = 0;

        while (!slice_equal(in->members[k].zone, in->members[i].zone))
            k++;
        e->zone[i] = k < i ? e->zone[k] : e->n_zones++;
        e->usable[i] = in->members[i].weight > 0;
        n_usable += e->usable[i];
    }
    e->n_seats = min_u32(in->replicas, n_usable);
    make_rule(e);
    make_shares(e, in);
}

bool exact_row_ok(const struct exact *e, const uint32_t *row, uint32_t n_slots)
{
    uint32_t n = 0;

    for (uint32_t s = 0; s < n_slots; s++) {
        if (row[s] == CLAIM_NONE)
            continue;
        n++;
        if (row[s] >= e->n_members || !e->usable[row[s]])
            return false;
        for (uint32_t t = 0; t < s; t++)
            if (row[t] == row[s])
                return false;
    }
    for (uint32_t z = 0; z < e->n_zones; z++) {
        uint32_t in_zone = 0;

        for (uint32_t s = 0; s < n_slots; s++)
            in_zone += row[s] != CLAIM_NONE && e->zone[row[s]] == z;
        if (in_zone < e->lo[z] || in_zone > e->cap[z])
            return false;
    }
    return n == e->n_seats;
}

/* ---- minimum-cost flow ------------------------------------------------------------------- */

struct edge {
    uint32_t to, left;
    int cost;
};

/* Edge 2k and 2k + 1 are each other's way back. */
struct flow {
    struct edge *edges;
    uint32_t *next, *first; /* per edge, per vertex */
    uint32_t n_edges, n_vertices, edges_max;
    long *distance;
    uint32_t *via, *queue;
    bool *queued;
};

#define NONE UINT32_MAX
#define FAR (1l << 40)

static void *must(size_t n, size_t size)
{
    void *p = calloc(n ? n : 1, size);

    assert(p);
    return p;
}

static void flow_init(struct flow *f, uint32_t n_vertices, uint32_t edges_max)
{
    *f = (struct flow){.n_vertices = n_vertices, .edges_max = 2 * edges_max};
    f->edges = must(f->edges_max, sizeof(struct edge));
    f->next = must(f->edges_max, sizeof(uint32_t));
    f->first = must(n_vertices, sizeof(uint32_t));
    f->distance = must(n_vertices, sizeof(long));
    f->via = must(n_vertices, sizeof(uint32_t));
    f->queue = must(n_vertices, sizeof(uint32_t));
    f->queued = must(n_vertices, sizeof(bool));
    for (uint32_t v = 0; v < n_vertices; v++)
        f->first[v] = NONE;
}

static void flow_deinit(struct flow *f)
{
    free(f->edges);
    free(f->next);
    free(f->first);
    free(f->distance);
    free(f->via);
    free(f->queue);
    free(f->queued);
}

static void flow_edge(struct flow *f, uint32_t from, uint32_t to, uint32_t capacity, int cost)
{
    assert(f->n_edges + 2 <= f->edges_max);
    f->edges[f->n_edges] = (struct edge){to, capacity, cost};
    f->next[f->n_edges] = f->first[from];
    f->first[from] = f->n_edges++;
    f->edges[f->n_edges] = (struct edge){from, 0, -cost};
    f->next[f->n_edges] = f->first[to];
    f->first[to] = f->n_edges++;
}

static void flow_relax(struct flow *f, uint32_t v, uint32_t *tail, uint32_t *n)
{
    for (uint32_t e = f->first[v]; e != NONE; e = f->next[e]) {
        uint32_t to = f->edges[e].to;

        if (f->edges[e].left == 0 || f->distance[v] + f->edges[e].cost >= f->distance[to])
            continue;
        f->distance[to] = f->distance[v] + f->edges[e].cost;
        f->via[to] = e;
        if (!f->queued[to]) {
            f->queued[to] = true;
            f->queue[(*tail)++ % f->n_vertices] = to;
            (*n)++;
        }
    }
}

/* One unit along a shortest path; false: there is none. */
static bool flow_push(struct flow *f, uint32_t source, uint32_t sink, long *cost)
{
    uint32_t head = 0, tail = 0, n = 1;

    for (uint32_t v = 0; v < f->n_vertices; v++)
        f->distance[v] = FAR;
    f->distance[source] = 0;
    f->queue[tail++] = source;
    while (n > 0) {
        uint32_t v = f->queue[head++ % f->n_vertices];

        n--;
        f->queued[v] = false;
        flow_relax(f, v, &tail, &n);
    }
    if (f->distance[sink] >= FAR / 2)
        return false;
    for (uint32_t v = sink; v != source; v = f->edges[f->via[v] ^ 1].to) {
        f->edges[f->via[v]].left--;
        f->edges[f->via[v] ^ 1].left++;
    }
    *cost += f->distance[sink];
    return true;
}

/* ---- moves ------------------------------------------------------------------------------- */

static bool had(const struct claim_input *in, uint32_t partition, uint32_t member)
{
    for (uint32_t s = 0; in->table && s < in->n_slots; s++)
        if (in->table[(size_t)partition * in->n_slots + s] == member)
            return true;
    return false;
}

/* A floor is worth more than all moves. */
#define FLOOR_WORTH 100000

uint32_t exact_moves(const struct exact *e, const struct claim_input *in, const uint32_t *quota)
{
    uint32_t q = in->n_partitions, nz = e->n_zones, nm = e->n_members, n_units = 0;
    uint32_t source = 0, sink = 1, partitions = 2, zones = 2 + q, members = zones + q * nz;
    long cost = 0, floors = 0;
    struct flow f;

    flow_init(&f, members + nm, q * (1 + 2 * nz + nm) + nm);
    for (uint32_t p = 0; p < q; p++) {
        flow_edge(&f, source, partitions + p, e->n_seats, 0);
        for (uint32_t z = 0; z < nz; z++) {
            flow_edge(&f, partitions + p, zones + p * nz + z, e->lo[z], -FLOOR_WORTH);
            flow_edge(&f, partitions + p, zones + p * nz + z, e->cap[z] - e->lo[z], 0);
            floors += e->lo[z];
        }
        for (uint32_t i = 0; i < nm; i++)
            if (e->usable[i])
                flow_edge(&f, zones + p * nz + e->zone[i], members + i, 1, !had(in, p, i));
    }
    for (uint32_t i = 0; i < nm; i++)
        flow_edge(&f, members + i, sink, quota[i], 0);
    while (flow_push(&f, source, sink, &cost))
        n_units++;
    flow_deinit(&f);
    assert(n_units == q * e->n_seats);
    return (uint32_t)(cost + FLOOR_WORTH * floors);
}

struct force {
    const struct exact *e;
    const struct claim_input *in;
    uint32_t left[EXACT_MEMBERS], best;
};

static void force_row(struct force *f, uint32_t partition, uint32_t moves);

static void force_seat(struct force *f, uint32_t partition, uint32_t moves, uint32_t *row,
                       uint32_t n, uint32_t from)
{
    if (n == f->e->n_seats) {
        if (exact_row_ok(f->e, row, n))
            force_row(f, partition + 1, moves);
        return;
    }
    for (uint32_t i = from; i < f->e->n_members; i++)
        if (f->left[i] > 0) {
            f->left[i]--;
            row[n] = i;
            force_seat(f, partition, moves + !had(f->in, partition, i), row, n + 1, i + 1);
            f->left[i]++;
        }
}

static void force_row(struct force *f, uint32_t partition, uint32_t moves)
{
    uint32_t row[LIMIT_SLOTS_MAX];

    if (moves >= f->best)
        return;
    if (partition == f->in->n_partitions)
        f->best = moves;
    else
        force_seat(f, partition, moves, row, 0, 0);
}

uint32_t exact_moves_by_force(const struct exact *e, const struct claim_input *in,
                              const uint32_t *quota)
{
    struct force f = {.e = e, .in = in, .best = UINT32_MAX};

    memcpy(f.left, quota, e->n_members * sizeof(uint32_t));
    force_row(&f, 0, 0);
    return f.best;
}

/* ---- primaries --------------------------------------------------------------------------- */

static void role_share(const struct claim_input *in, uint32_t member, uint32_t *floor,
                       uint32_t *ceil)
{
    uint64_t sum = 0, part = (uint64_t)in->n_partitions * in->members[member].weight;

    for (size_t i = 0; i < in->n_members; i++)
        sum += in->members[i].weight;
    *floor = (uint32_t)(part / sum);
    *ceil = (uint32_t)((part + sum - 1) / sum);
}

uint32_t exact_roles(const struct exact *e, const struct claim_input *in, const uint32_t *table,
                     uint32_t n_slots)
{
    uint32_t q = in->n_partitions, nm = e->n_members, source = 0, sink = 1, members = 2 + q;
    uint32_t floor, ceil;
    long cost = 0, floors = 0;
    struct flow f;

    flow_init(&f, members + nm, q * (1 + n_slots) + 3 * nm);
    for (uint32_t p = 0; p < q; p++) {
        flow_edge(&f, source, 2 + p, 1, 0);
        for (uint32_t s = 0; s < n_slots; s++)
            if (table[(size_t)p * n_slots + s] != CLAIM_NONE)
                flow_edge(&f, 2 + p, members + table[(size_t)p * n_slots + s], 1, 0);
    }
    for (uint32_t i = 0; i < nm; i++) {
        role_share(in, i, &floor, &ceil);
        flow_edge(&f, members + i, sink, floor, -1);
        flow_edge(&f, members + i, sink, ceil - floor, 0);
        flow_edge(&f, members + i, sink, q, 1);
        floors += floor;
    }
    while (flow_push(&f, source, sink, &cost))
        ;
    flow_deinit(&f);
    return (uint32_t)(floors + cost);
}

uint32_t exact_roles_of(const struct exact *e, const struct claim_input *in,
                        const uint32_t *primaries)
{
    uint32_t sum = 0, floor, ceil;

    for (uint32_t i = 0; i < e->n_members; i++) {
        role_share(in, i, &floor, &ceil);
        sum += primaries[i] < floor ? floor - primaries[i] : 0;
        sum += primaries[i] > ceil ? primaries[i] - ceil : 0;
    }
    return sum;
}
