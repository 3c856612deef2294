/* claim_quota: how many seats each node gets.
 *
 * The zone rule. Let L be the least level at which zones, each filled with at most L of its nodes,
 * can hold the n_seats replicas of one partition. A zone then holds at most cap = min(nodes, L) of
 * them and at least lo = what is left when all other zones are at their cap, or min(nodes, L - 1).
 * So replicas spread over zones as evenly as the zones allow, and never more evenly than is
 * possible.
 *
 * The share. Water-filling: one level lambda for all nodes, a node's share being lambda * weight
 * but at most one seat of each partition, a zone's being the sum clipped to [lo, cap] * partitions;
 * lambda is found by bisection so that the shares add up to all seats. Inside a clipped zone the
 * level is found again. The result is max-min fair under the rule.
 *
 * The rounding. Zones first, nodes inside their zone second, each to the floor or the ceiling of
 * its share with exact sums. What is rounded up first: who holds more than the floor today, so that
 * it may keep that; then the largest remainder; then the lower number. A table that meets its
 * quotas therefore gets the same ones again.
 *
 * Integers only (fixed point, 128 bits wide), so every compiler computes the same table. With Q
 * partitions <= 2^14, weights < 2^32 and 2^10 nodes the widest sum is 2^(14 + 60 + 32 + 10).
 */
#include "server/core/claim_impl.h"

#include "proto/err.h"

#define SHIFT 60
/* Bisection leaves an error below weight * 2^-60; whatever is nearer to an integer than this is it.
 */
#define EPSILON_SHIFT (SHIFT - 24)
#define EPSILON ((fixed)1 << EPSILON_SHIFT)

typedef unsigned __int128 fixed;

struct quota {
    const struct claim_cluster *c;
    const uint32_t *before;
    fixed *zone_share, *node_share;
    uint32_t *zone_quota, *zone_most;
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

/* How much of a share is beyond `given`; in steps of EPSILON: equal weights have equal remainders,
 * whatever the bisection's last bit says. */
static uint64_t remainder_of(fixed share, uint32_t given)
{
    fixed whole = (fixed)given << SHIFT;

    return share > whole ? (uint64_t)((share - whole) >> EPSILON_SHIFT) : 0;
}

static uint32_t zone_nodes(const struct claim_cluster *c, uint32_t zone)
{
    return c->zone_first[zone + 1] - c->zone_first[zone];
}

void claim_spread(struct claim_cluster *c)
{
    uint32_t level = 0, reached = 0, sum_cap = 0;

    while (reached < c->n_seats) {
        level++;
        reached = 0;
        for (uint32_t z = 0; z < c->n_zones; z++)
            reached += min_u32(zone_nodes(c, z), level);
    }
    for (uint32_t z = 0; z < c->n_zones; z++) {
        c->cap[z] = min_u32(zone_nodes(c, z), level);
        sum_cap += c->cap[z];
    }
    for (uint32_t z = 0; z < c->n_zones; z++) {
        uint32_t others = sum_cap - c->cap[z];
        uint32_t rest = c->n_seats > others ? c->n_seats - others : 0;

        c->lo[z] = min_u32(zone_nodes(c, z), level - 1);
        if (c->lo[z] < rest)
            c->lo[z] = rest;
    }
}

/* ---- shares ------------------------------------------------------------------------------ */

static fixed node_share(const struct claim_cluster *c, uint32_t node, fixed level)
{
    fixed share = level * c->weight[node], most = (fixed)c->n_partitions << SHIFT;

    return share < most ? share : most;
}

static fixed zone_at(const struct claim_cluster *c, uint32_t zone, fixed level)
{
    fixed total = 0;

    for (uint32_t i = c->zone_first[zone]; i < c->zone_first[zone + 1]; i++)
        total += node_share(c, i, level);
    return total;
}

/* The sum of all zones' clipped shares at a level; also left in zone_share. */
static fixed total_at(struct quota *q, fixed level)
{
    const struct claim_cluster *c = q->c;
    fixed total = 0, unit = (fixed)c->n_partitions << SHIFT;

    for (uint32_t z = 0; z < c->n_zones; z++) {
        q->zone_share[z] = clip(zone_at(c, z, level), c->lo[z] * unit, c->cap[z] * unit);
        total += q->zone_share[z];
    }
    return total;
}

static void water_fill(struct quota *q)
{
    const struct claim_cluster *c = q->c;
    fixed highest = (fixed)c->n_partitions << SHIFT; /* any weight is then at its most */
    fixed want = c->n_seats * highest, low = 0, high = highest;

    while (low < high) {
        fixed mid = low + (high - low) / 2;

        if (total_at(q, mid) >= want)
            high = mid;
        else
            low = mid + 1;
    }
    total_at(q, low);
    for (uint32_t z = 0; z < c->n_zones; z++) {
        low = 0;
        high = highest;
        while (low < high) {
            fixed mid = low + (high - low) / 2;

            if (zone_at(c, z, mid) >= q->zone_share[z])
                high = mid;
            else
                low = mid + 1;
        }
        for (uint32_t i = c->zone_first[z]; i < c->zone_first[z + 1]; i++)
            q->node_share[i] = node_share(c, i, low);
    }
}

/* ---- rounding ---------------------------------------------------------------------------- */

/* The seats that a zone's nodes keep if each that holds more than its floor is rounded up. */
static uint32_t zone_keeps(const struct quota *q, uint32_t zone)
{
    uint32_t n = 0;

    for (uint32_t i = q->c->zone_first[zone]; i < q->c->zone_first[zone + 1]; i++) {
        uint32_t low = floor_of(q->node_share[i]);

        n += low + (q->before[i] > low && ceil_of(q->node_share[i]) > low);
    }
    return n;
}

/* Zones to the floor or ceiling of their share, within what their nodes' floors and ceilings allow.
 */
static void round_zones(struct quota *q, uint32_t *keeps)
{
    const struct claim_cluster *c = q->c;
    uint32_t left = c->n_seats * c->n_partitions;

    for (uint32_t z = 0; z < c->n_zones; z++) {
        uint32_t floors = 0, ceils = 0, share = floor_of(q->zone_share[z]);

        for (uint32_t i = c->zone_first[z]; i < c->zone_first[z + 1]; i++) {
            floors += floor_of(q->node_share[i]);
            ceils += ceil_of(q->node_share[i]);
        }
        q->zone_quota[z] = share < floors ? floors : min_u32(share, ceils);
        q->zone_most[z] = min_u32(ceils, ceil_of(q->zone_share[z]));
        keeps[z] = zone_keeps(q, z);
        left -= q->zone_quota[z];
    }
    for (; left > 0; left--) {
        uint32_t best = c->n_zones;
        uint64_t best_rest = 0;

        for (uint32_t z = 0; z < c->n_zones; z++) {
            /* one more bit than a remainder has: who keeps seats by it comes first */
            uint64_t rest = remainder_of(q->zone_share[z], q->zone_quota[z]) |
                            (uint64_t)(keeps[z] > q->zone_quota[z]) << 63;

            if (q->zone_quota[z] < q->zone_most[z] && (best == c->n_zones || rest > best_rest)) {
                best = z;
                best_rest = rest;
            }
        }
        q->zone_quota[best]++;
    }
}

static void round_nodes(const struct quota *q, uint32_t zone, uint32_t *quota)
{
    const struct claim_cluster *c = q->c;
    uint32_t left = q->zone_quota[zone];

    for (uint32_t i = c->zone_first[zone]; i < c->zone_first[zone + 1]; i++) {
        quota[i] = floor_of(q->node_share[i]);
        left -= quota[i];
    }
    for (; left > 0; left--) {
        uint32_t best = c->n_nodes;
        uint64_t best_rest = 0;

        for (uint32_t i = c->zone_first[zone]; i < c->zone_first[zone + 1]; i++) {
            uint64_t rest;

            if (quota[i] >= ceil_of(q->node_share[i]))
                continue;
            rest = remainder_of(q->node_share[i], quota[i]) | (uint64_t)(q->before[i] > quota[i])
                                                                  << 63;
            if (best == c->n_nodes || rest > best_rest) {
                best = i;
                best_rest = rest;
            }
        }
        quota[best]++;
    }
}

int claim_quotas(const struct claim_cluster *c, const uint32_t *before, struct arena *scratch,
                 uint32_t *quota)
{
    struct quota q = {.c = c, .before = before};
    uint32_t *keeps = claim_alloc(scratch, c->n_zones, sizeof(uint32_t), 0);

    q.zone_quota = claim_alloc(scratch, c->n_zones, sizeof(uint32_t), 0);
    q.zone_most = claim_alloc(scratch, c->n_zones, sizeof(uint32_t), 0);
    q.zone_share = claim_alloc(scratch, c->n_zones, sizeof(fixed), 0);
    q.node_share = claim_alloc(scratch, c->n_nodes, sizeof(fixed), 0);
    if (!keeps || !q.zone_quota || !q.zone_most || !q.zone_share || !q.node_share)
        return -ERR_NO_MEMORY;
    water_fill(&q);
    round_zones(&q, keeps);
    for (uint32_t z = 0; z < c->n_zones; z++)
        round_nodes(&q, z, quota);
    return 0;
}
