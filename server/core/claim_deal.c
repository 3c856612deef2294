/* claim_deal: seats that can be given away directly.
 *
 * Three passes. *Keep* seats those who were there before; where the zone rule lets not all of them
 * stay, the one that has most above its quota goes. *Fill* gives free seats to nodes below their
 * quota, round by round over the partitions in a scattered order. *Move* gives seats of nodes above
 * their quota to nodes below: the neediest node takes one from the richest that has a suitable one,
 * and so on in turn.
 *
 * Which of many equal choices is taken decides how partners spread: two nodes that share many
 * partitions would repair each other alone when one dies. So fill and move look at some candidates,
 * and take the one whose co-holders it shares the least with (the growth of the sum of squares of
 * what pairs share). Fill looks first at how full the candidates are, in steps of 1/64: a node left
 * behind could not be placed at the end, when the same partition would have to seat it twice.
 *
 * Each seat that fill or move gives away is a shortest augmenting path of length one, so what is
 * left for claim_path.c starts from an optimal position, and the whole is minimal (claim_path.c
 * says why that holds whatever is chosen here).
 */
#include "server/core/claim_impl.h"

#include "proto/err.h"

/* Candidates looked at for one seat: enough that one of them fits well. */
#define FILL_CANDIDATES 32u
#define MOVE_CANDIDATES 64u
/* Steps of fullness that fill tells apart. */
#define FILL_STEPS 64u

/* ---- keep -------------------------------------------------------------------------------- */

struct keep {
    uint32_t partition, n;
    uint16_t nodes[LIMIT_SLOTS_MAX];
};

static uint32_t kept_in_zone(const struct claim_work *w, const struct keep *k, uint32_t zone)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < k->n; i++)
        n += w->cluster.zone[k->nodes[i]] == zone;
    return n;
}

/* Too many: those that stay, with what zones below their floor must get, have not seats enough. */
static bool too_many(const struct claim_work *w, const struct keep *k)
{
    uint32_t needed = 0;

    for (uint32_t f = 0; f < w->n_floors; f++) {
        uint32_t lo = w->cluster.lo[w->floor_zone[f]], n = kept_in_zone(w, k, w->floor_zone[f]);

        needed += n < lo ? lo - n : 0;
    }
    return k->n + needed > w->cluster.n_seats;
}

/* Of the nodes in zones with more than most[zone] the one with the greatest surplus; n: none. */
static uint32_t find_offender(const struct claim_work *w, const struct keep *k,
                              const uint32_t *most)
{
    uint32_t worst = k->n;

    for (uint32_t i = 0; i < k->n; i++) {
        uint32_t zone = w->cluster.zone[k->nodes[i]];
        int32_t more;

        if (kept_in_zone(w, k, zone) <= most[zone])
            continue;
        more = worst == k->n ? 1 : w->surplus[k->nodes[i]] - w->surplus[k->nodes[worst]];
        if (more > 0 || (more == 0 && claim_mix(k->nodes[i], k->partition) >
                                          claim_mix(k->nodes[worst], k->partition)))
            worst = i;
    }
    return worst;
}

static void keep_row(struct claim_work *w, uint32_t partition)
{
    const uint16_t *old = &w->old[(size_t)partition * w->n_old];
    struct keep k = {.partition = partition};

    for (uint32_t s = 0; s < w->n_old; s++)
        if (old[s] != NOBODY)
            k.nodes[k.n++] = old[s];
    for (;;) {
        uint32_t offender = find_offender(w, &k, w->cluster.cap);

        if (offender == k.n && too_many(w, &k))
            offender = find_offender(w, &k, w->cluster.lo);
        if (offender == k.n)
            break;
        w->surplus[k.nodes[offender]]--;
        k.nodes[offender] = k.nodes[--k.n];
    }
    for (uint32_t i = 0; i < k.n; i++)
        claim_seats_add(w, partition, k.nodes[i]);
}

void claim_deal_keep(struct claim_work *w)
{
    for (uint32_t p = 0; p < w->cluster.n_partitions; p++)
        keep_row(w, p);
}

/* ---- fill -------------------------------------------------------------------------------- */

struct deal {
    struct claim_work *w;
    uint32_t *needy, n_needy; /* nodes below their quota */
    uint8_t *hopeless;        /* per pair of nodes, one bit: no seat of the one suits the other */
};

/* What the sum of squares of shared partitions grows by, halved, when the node joins the row (less
 * `without`, or NOBODY). */
static int64_t pair_cost(const struct claim_work *w, uint32_t partition, uint32_t node,
                         uint32_t without)
{
    uint32_t n = w->cluster.n_seats;
    const uint16_t *row = &w->row[(size_t)partition * n];
    const uint16_t *pairs = &w->pair[(size_t)node * w->cluster.n_nodes];
    int64_t cost = 0;

    for (uint32_t s = 0; s < n; s++)
        if (row[s] != NOBODY && row[s] != without && row[s] != node)
            cost += pairs[row[s]];
    return cost;
}

static void list_needy(struct deal *d)
{
    d->n_needy = 0;
    for (uint32_t i = 0; i < d->w->cluster.n_nodes; i++)
        if (d->w->surplus[i] < 0)
            d->needy[d->n_needy++] = i;
}

static uint32_t fullness(const struct claim_work *w, uint32_t node)
{
    uint32_t quota = w->quota[node];

    return (uint32_t)((int32_t)quota + w->surplus[node]) * FILL_STEPS / quota;
}

/* The place in needy of the node that takes a free seat of the partition; n_needy: none can. */
static uint32_t choose_for_seat(const struct deal *d, uint32_t partition)
{
    const struct claim_work *w = d->w;
    uint64_t random = claim_mix(partition, w->n_held[partition]);
    uint32_t at = d->n_needy ? (uint32_t)(random % d->n_needy) : 0, best = d->n_needy, seen = 0;
    int64_t best_cost = 0;

    for (uint32_t k = 0; k < d->n_needy && seen < FILL_CANDIDATES; k++) {
        int64_t cost;

        if (claim_seats_may_add(w, partition, d->needy[at])) {
            cost = (int64_t)fullness(w, d->needy[at]) << 32 |
                   pair_cost(w, partition, d->needy[at], NOBODY);
            if (best == d->n_needy || cost < best_cost) {
                best = at;
                best_cost = cost;
            }
            seen++;
        }
        at = at + 1 < d->n_needy ? at + 1 : 0;
    }
    return best;
}

static void fill_seat(struct deal *d, uint32_t partition)
{
    uint32_t at = choose_for_seat(d, partition);

    if (at == d->n_needy)
        return;
    claim_seats_add(d->w, partition, d->needy[at]);
    if (++d->w->surplus[d->needy[at]] == 0)
        d->needy[at] = d->needy[--d->n_needy];
}

static void fill(struct deal *d)
{
    const struct claim_cluster *c = &d->w->cluster;

    list_needy(d);
    for (uint32_t round = 0; round < c->n_seats; round++)
        for (uint32_t i = 0; i < c->n_partitions; i++) {
            /* odd, so that each comes up once: the number of partitions is a power of two */
            uint32_t p = i * 0x9e3779b1u % c->n_partitions;

            if (d->w->n_held[p] < c->n_seats)
                fill_seat(d, p);
        }
}

/* ---- move -------------------------------------------------------------------------------- */

static bool is_hopeless(const struct deal *d, uint32_t from, uint32_t to)
{
    const struct claim_cluster *c = &d->w->cluster;
    size_t bit = (size_t)to * c->n_nodes + from;
    uint32_t zone_from = c->zone[from], zone_to = c->zone[to];

    if (zone_from != zone_to &&
        (c->lo[zone_from] == c->cap[zone_from] || c->lo[zone_to] == c->cap[zone_to]))
        return true;
    return d->hopeless[bit / 8] >> bit % 8 & 1;
}

static void set_hopeless(struct deal *d, uint32_t from, uint32_t to)
{
    size_t bit = (size_t)to * d->w->cluster.n_nodes + from;

    d->hopeless[bit / 8] = (uint8_t)(d->hopeless[bit / 8] | 1u << bit % 8);
}

/* The partition whose seat `to` takes from `from`, or CLAIM_NONE. */
static uint32_t choose_partition(const struct deal *d, uint32_t from, uint32_t to)
{
    const struct claim_work *w = d->w;
    uint32_t n = w->n_held_by[from], best = CLAIM_NONE, seen = 0;
    uint32_t at = (uint32_t)(claim_mix(from, (uint32_t)w->surplus[from]) % n);
    int64_t best_cost = 0;

    for (uint32_t k = 0; k < n && seen < MOVE_CANDIDATES; k++) {
        uint32_t p = w->held[w->held_at[from] + at];
        int64_t cost;

        if (claim_seats_may_swap(w, p, from, to)) {
            cost = pair_cost(w, p, to, from) - pair_cost(w, p, from, NOBODY);
            if (best == CLAIM_NONE || cost < best_cost) {
                best = p;
                best_cost = cost;
            }
            seen++;
        }
        at = at + 1 < n ? at + 1 : 0;
    }
    return best;
}

/* The richest node that may have something for `to`, or CLAIM_NONE. */
static uint32_t find_rich(const struct deal *d, uint32_t to)
{
    uint32_t best = CLAIM_NONE;

    for (uint32_t i = 0; i < d->w->cluster.n_nodes; i++)
        if (d->w->surplus[i] > 0 && !is_hopeless(d, i, to) &&
            (best == CLAIM_NONE || d->w->surplus[i] > d->w->surplus[best]))
            best = i;
    return best;
}

static bool move_to(struct deal *d, uint32_t to)
{
    struct claim_work *w = d->w;
    uint32_t from;

    while ((from = find_rich(d, to)) != CLAIM_NONE) {
        uint32_t p = choose_partition(d, from, to);

        if (p != CLAIM_NONE) {
            claim_seats_swap(w, p, from, to);
            w->surplus[from]--;
            w->surplus[to]++;
            return true;
        }
        set_hopeless(d, from, to);
    }
    return false;
}

/* The place in needy of the node that lacks most. */
static uint32_t find_neediest(const struct deal *d)
{
    uint32_t best = 0;

    for (uint32_t i = 1; i < d->n_needy; i++)
        if (d->w->surplus[d->needy[i]] < d->w->surplus[d->needy[best]])
            best = i;
    return best;
}

static void move(struct deal *d)
{
    list_needy(d);
    while (d->n_needy > 0) {
        uint32_t at = find_neediest(d), to = d->needy[at];

        if (!move_to(d, to) || d->w->surplus[to] == 0)
            d->needy[at] = d->needy[--d->n_needy];
    }
}

int claim_deal(struct claim_work *w)
{
    size_t n = w->cluster.n_nodes;
    struct deal d = {.w = w};

    d.needy = claim_alloc(&w->scratch, n, sizeof(uint32_t), 0);
    d.hopeless = claim_alloc(&w->scratch, (n * n + 7) / 8, 1, 0);
    if (!d.needy || !d.hopeless)
        return -ERR_NO_MEMORY;
    fill(&d);
    move(&d);
    return 0;
}
