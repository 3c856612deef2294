/* ring_quota: how many slots each node gets.
 *
 * The zone rule. Let L be the least level at which zones, each filled with at most L of its nodes,
 * can hold the n_slots replicas of one partition. A zone then holds at most cap = min(nodes, L) of
 * them and at least lo = what is left when all other zones are at their cap, or min(nodes, L - 1).
 * So replicas spread over zones as evenly as the zones allow, and never more evenly than is
 * possible.
 *
 * The share. Water-filling: one level lambda for all nodes, a node's share being lambda * weight
 * but at most one slot of each partition, a zone's being the sum clipped to [lo, cap] * partitions;
 * lambda is found by bisection so that the shares add up to all slots. Inside a clipped zone the
 * level is found again. The result is max-min fair under the rule.
 *
 * The rounding. Zones first, nodes inside their zone second, each to the floor or the ceiling of
 * its share with exact sums; the largest remainder is rounded up first, then the lower index.
 *
 * Integers only (fixed point, 128 bits wide), so every compiler computes the same table. With Q
 * partitions <= 2^14, weights < 2^32 and 2^10 nodes the widest sum is 2^(14 + 60 + 32 + 10).
 */
#include "server/core/ring_place.h"

#include "proto/err.h"

#define SHIFT 60
/* Bisection leaves an error below weight * 2^-60; whatever is nearer to an integer than this is it.
 */
#define EPSILON ((fixed)1 << (SHIFT - 24))

typedef unsigned __int128 fixed;

struct quota {
    const struct place_input *in;
    uint32_t *zone_nodes, *cap, *lo; /* per zone: nodes, most and least replicas of a partition */
    fixed *zone_share, *node_share;
    uint32_t *zone_quota;
};

static uint32_t min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static fixed clip(fixed v, fixed low, fixed high)
{
    return v < low ? low : v > high ? high : v;
}

static uint32_t floor_of(fixed v)
{
    return (uint32_t)((v + EPSILON) >> SHIFT);
}

static uint32_t ceil_of(fixed v)
{
    uint32_t low = floor_of(v);

    return v > ((fixed)low << SHIFT) + EPSILON ? low + 1 : low;
}

static void zone_rule(struct quota *q)
{
    const struct place_input *in = q->in;
    uint32_t level = 0, reached = 0, sum_cap = 0;

    for (uint32_t i = 0; i < in->n_nodes; i++)
        q->zone_nodes[in->zone[i]]++;
    while (reached < in->n_slots) {
        level++;
        reached = 0;
        for (uint32_t z = 0; z < in->n_zones; z++)
            reached += min_u32(q->zone_nodes[z], level);
    }
    for (uint32_t z = 0; z < in->n_zones; z++) {
        q->cap[z] = min_u32(q->zone_nodes[z], level);
        sum_cap += q->cap[z];
    }
    for (uint32_t z = 0; z < in->n_zones; z++) {
        uint32_t others = sum_cap - q->cap[z];
        uint32_t rest = in->n_slots > others ? in->n_slots - others : 0;

        q->lo[z] = min_u32(q->zone_nodes[z], level - 1);
        if (q->lo[z] < rest)
            q->lo[z] = rest;
    }
}

static fixed node_share(const struct place_input *in, uint32_t node, fixed level)
{
    fixed share = level * in->weight[node], most = (fixed)in->n_partitions << SHIFT;

    return share < most ? share : most;
}

/* The sum of all zones' clipped shares at a level; also left in zone_share. */
static fixed total_at(struct quota *q, fixed level)
{
    const struct place_input *in = q->in;
    fixed total = 0;

    for (uint32_t z = 0; z < in->n_zones; z++)
        q->zone_share[z] = 0;
    for (uint32_t i = 0; i < in->n_nodes; i++)
        q->zone_share[in->zone[i]] += node_share(in, i, level);
    for (uint32_t z = 0; z < in->n_zones; z++) {
        fixed unit = (fixed)in->n_partitions << SHIFT;

        q->zone_share[z] = clip(q->zone_share[z], q->lo[z] * unit, q->cap[z] * unit);
        total += q->zone_share[z];
    }
    return total;
}

static fixed zone_at(const struct quota *q, uint32_t zone, fixed level)
{
    fixed total = 0;

    for (uint32_t i = 0; i < q->in->n_nodes; i++)
        if (q->in->zone[i] == zone)
            total += node_share(q->in, i, level);
    return total;
}

static void water_fill(struct quota *q)
{
    const struct place_input *in = q->in;
    fixed highest = (fixed)in->n_partitions << SHIFT; /* any weight is then at its most */
    fixed want = in->n_slots * highest, low = 0, high = highest;

    while (low < high) {
        fixed mid = low + (high - low) / 2;

        if (total_at(q, mid) >= want)
            high = mid;
        else
            low = mid + 1;
    }
    total_at(q, low);
    for (uint32_t z = 0; z < in->n_zones; z++) {
        low = 0;
        high = highest;
        while (low < high) {
            fixed mid = low + (high - low) / 2;

            if (zone_at(q, z, mid) >= q->zone_share[z])
                high = mid;
            else
                low = mid + 1;
        }
        for (uint32_t i = 0; i < in->n_nodes; i++)
            if (in->zone[i] == z)
                q->node_share[i] = node_share(in, i, low);
    }
}

/* Zones to the floor or ceiling of their share, within what their nodes' floors and ceilings allow.
 */
static void round_zones(struct quota *q, uint32_t *zone_most)
{
    const struct place_input *in = q->in;
    uint32_t left = in->n_slots * in->n_partitions;

    for (uint32_t z = 0; z < in->n_zones; z++) {
        uint32_t floors = 0, ceils = 0, share = floor_of(q->zone_share[z]);

        for (uint32_t i = 0; i < in->n_nodes; i++)
            if (in->zone[i] == z) {
                floors += floor_of(q->node_share[i]);
                ceils += ceil_of(q->node_share[i]);
            }
        q->zone_quota[z] = share < floors ? floors : min_u32(share, ceils);
        zone_most[z] = min_u32(ceils, q->cap[z] * in->n_partitions);
        left -= q->zone_quota[z];
    }
    while (left > 0) {
        uint32_t best = in->n_zones;
        fixed best_rest = 0;

        for (uint32_t z = 0; z < in->n_zones; z++) {
            fixed given = (fixed)q->zone_quota[z] << SHIFT;
            fixed rest = q->zone_share[z] > given ? q->zone_share[z] - given : 0;

            if (q->zone_quota[z] < zone_most[z] && (best == in->n_zones || rest > best_rest)) {
                best = z;
                best_rest = rest;
            }
        }
        q->zone_quota[best]++;
        left--;
    }
}

static void round_nodes(const struct quota *q, uint32_t zone, uint32_t *quota)
{
    const struct place_input *in = q->in;
    uint32_t left = q->zone_quota[zone];

    for (uint32_t i = 0; i < in->n_nodes; i++)
        if (in->zone[i] == zone) {
            quota[i] = floor_of(q->node_share[i]);
            left -= quota[i];
        }
    while (left > 0) {
        uint32_t best = in->n_nodes;
        fixed best_rest = 0;

        for (uint32_t i = 0; i < in->n_nodes; i++) {
            fixed rest;

            if (in->zone[i] != zone || quota[i] >= ceil_of(q->node_share[i]))
                continue;
            /* In steps of EPSILON: equal weights have equal remainders, whatever the bisection's
             * last bit says. */
            rest = (q->node_share[i] - ((fixed)quota[i] << SHIFT)) / EPSILON;
            if (best == in->n_nodes || rest > best_rest) {
                best = i;
                best_rest = rest;
            }
        }
        quota[best]++;
        left--;
    }
}

static void *zeroed(struct arena *a, size_t n, size_t size)
{
    void *p = arena_alloc(a, n * size);

    if (p)
        memset(p, 0, n * size);
    return p;
}

int place_quotas(const struct place_input *in, struct arena *scratch, uint32_t *quota)
{
    struct quota q = {.in = in};
    uint32_t *zone_most = zeroed(scratch, in->n_zones, sizeof(uint32_t));

    q.zone_nodes = zeroed(scratch, in->n_zones, sizeof(uint32_t));
    q.cap = zeroed(scratch, in->n_zones, sizeof(uint32_t));
    q.lo = zeroed(scratch, in->n_zones, sizeof(uint32_t));
    q.zone_quota = zeroed(scratch, in->n_zones, sizeof(uint32_t));
    q.zone_share = zeroed(scratch, in->n_zones, sizeof(fixed));
    q.node_share = zeroed(scratch, in->n_nodes, sizeof(fixed));
    if (!zone_most || !q.zone_nodes || !q.cap || !q.lo || !q.zone_quota || !q.zone_share ||
        !q.node_share)
        return -ERR_NO_MEMORY;
    zone_rule(&q);
    water_fill(&q);
    round_zones(&q, zone_most);
    for (uint32_t z = 0; z < in->n_zones; z++)
        round_nodes(&q, z, quota);
    return 0;
}
