/* claim_roles: one primary per partition.
 *
 * A node's share of primaries is its weight's part of the partitions, from the floor to the ceiling
 * of that. What is minimised is, first, how far all nodes together are from there, and then the
 * greatest load for its weight, the second greatest and so on: so that what the rows do not let be
 * even is spread, and rounding favours the strong. Both grow convexly with a node's load, and then
 * a choice is the best possible as soon as no single path of hand-overs makes it better (path
 * elimination of optimal semi-matchings).
 *
 * A primary that still holds its partition stays; the others go to the holder with the least load
 * for its weight. Then nodes that lack primaries fetch them, the neediest first, along the shortest
 * path back to a node that can spare one; then nodes with too many hand them on, the fullest first.
 * When a node finds no path, then all nodes that it has reached have none either, now and later: so
 * searches that fail look at each partition once in all.
 */
#include "server/core/claim_impl.h"

#include "proto/err.h"

#define NONE UINT32_MAX

struct roles {
    const struct claim_cluster *c;
    const uint16_t *table;
    uint32_t n_slots;
    uint16_t *primary; /* per partition: a node */
    uint32_t *floor, *ceil, *load;
    /* partitions by primary: per node the first, per partition its neighbours in the list */
    uint32_t *first, *next, *prev;
    /* partitions by holder: where each node's part of `held` begins */
    uint32_t *held_at, *held;
    /* of a search: per node the neighbour it was reached from and by which partition */
    uint32_t *from, *via, *queue;
    bool *closed; /* per node: nothing can be gained here any more */
};

/* What one primary more means to a node. Exact: load <= 2^14, weight < 2^32. */
struct gain {
    int step;              /* -1: nearer to the share, 0: inside it, 1: farther */
    uint32_t load, weight; /* then the load that it has with it, for its weight */
};

static struct gain gain_at(const struct roles *r, uint32_t node, uint32_t load)
{
    struct gain g = {.load = load + 1, .weight = r->c->weight[node]};

    g.step = load < r->floor[node] ? -1 : load < r->ceil[node] ? 0 : 1;
    return g;
}

static struct gain gain_more(const struct roles *r, uint32_t node)
{
    return gain_at(r, node, r->load[node]);
}

static struct gain gain_less(const struct roles *r, uint32_t node)
{
    return gain_at(r, node, r->load[node] - 1);
}

static bool gain_below(struct gain a, struct gain b)
{
    if (a.step != b.step)
        return a.step < b.step;
    return (uint64_t)a.load * b.weight < (uint64_t)b.load * a.weight;
}

/* ---- who is primary ---------------------------------------------------------------------- */

static void role_take(struct roles *r, uint32_t p, uint32_t node)
{
    r->primary[p] = (uint16_t)node;
    r->load[node]++;
    r->prev[p] = NONE;
    r->next[p] = r->first[node];
    if (r->next[p] != NONE)
        r->prev[r->next[p]] = p;
    r->first[node] = p;
}

static void role_drop(struct roles *r, uint32_t p)
{
    uint32_t node = r->primary[p];

    r->load[node]--;
    if (r->prev[p] != NONE)
        r->next[r->prev[p]] = r->next[p];
    else
        r->first[node] = r->next[p];
    if (r->next[p] != NONE)
        r->prev[r->next[p]] = r->prev[p];
}

static bool row_has(const struct roles *r, uint32_t p, uint32_t node)
{
    for (uint32_t s = 0; s < r->n_slots; s++)
        if (r->table[(size_t)p * r->n_slots + s] == node)
            return true;
    return false;
}

static void take_least_loaded(struct roles *r, uint32_t p)
{
    const uint16_t *row = &r->table[(size_t)p * r->n_slots];
    uint32_t best = NONE;

    for (uint32_t k = 0; k < r->n_slots; k++) {
        uint32_t node = row[(p + k) % r->n_slots]; /* or slot 0 would win all ties */
        uint64_t weight;

        if (node == NOBODY)
            continue;
        weight = r->c->weight[node];
        if (best == NONE ||
            (r->load[node] + 1) * (uint64_t)r->c->weight[best] < (r->load[best] + 1) * weight)
            best = node;
    }
    role_take(r, p, best);
}

static void keep_and_take(struct roles *r)
{
    for (uint32_t p = 0; p < r->c->n_partitions; p++)
        if (r->primary[p] != NOBODY && row_has(r, p, r->primary[p]))
            role_take(r, p, r->primary[p]);
        else
            r->primary[p] = NOBODY;
    for (uint32_t p = 0; p < r->c->n_partitions; p++)
        if (r->primary[p] == NOBODY)
            take_least_loaded(r, p);
}

/* ---- nodes that lack primaries ----------------------------------------------------------- */

static void close_reached(struct roles *r, uint32_t n_reached)
{
    for (uint32_t k = 0; k < n_reached; k++)
        r->closed[r->queue[k]] = true;
}

static uint32_t find_neediest(const struct roles *r)
{
    uint32_t best = NONE;

    for (uint32_t i = 0; i < r->c->n_nodes; i++)
        if (!r->closed[i] && r->load[i] < r->floor[i] &&
            (best == NONE || gain_below(gain_more(r, i), gain_more(r, best))))
            best = i;
    return best;
}

static void begin(struct roles *r, uint32_t start)
{
    memset(r->from, 0xff, r->c->n_nodes * sizeof(uint32_t));
    r->from[start] = start;
    r->queue[0] = start;
}

/* Breadth first over "holds what the other is primary of". Returns the first node met that can
 * spare a role and still have its floor, else the one that `start` gains most from, or NONE: then
 * all of the queue is closed. */
static uint32_t search_back(struct roles *r, uint32_t start)
{
    uint32_t head = 0, tail = 1, best = NONE;

    begin(r, start);
    while (head < tail) {
        uint32_t b = r->queue[head++];

        for (uint32_t k = r->held_at[b]; k < r->held_at[b + 1]; k++) {
            uint32_t a = r->primary[r->held[k]];

            if (r->from[a] != NONE || r->closed[a])
                continue;
            r->from[a] = b;
            r->via[a] = r->held[k];
            r->queue[tail++] = a;
            if (r->load[a] > r->floor[a])
                return a;
            if (gain_below(gain_more(r, start), gain_less(r, a)) &&
                (best == NONE || gain_below(gain_less(r, best), gain_less(r, a))))
                best = a;
        }
    }
    if (best == NONE)
        close_reached(r, tail);
    return best;
}

static void fetch(struct roles *r)
{
    uint32_t start, end;

    while ((start = find_neediest(r)) != NONE)
        if ((end = search_back(r, start)) != NONE)
            for (uint32_t a = end; a != start; a = r->from[a]) {
                role_drop(r, r->via[a]);
                role_take(r, r->via[a], r->from[a]);
            }
}

/* ---- nodes that have too many ------------------------------------------------------------ */

static uint32_t find_fullest(const struct roles *r)
{
    uint32_t best = NONE;

    for (uint32_t i = 0; i < r->c->n_nodes; i++)
        if (!r->closed[i] && r->load[i] > r->floor[i] &&
            (best == NONE || gain_below(gain_less(r, best), gain_less(r, i))))
            best = i;
    return best;
}

/* Breadth first over "is primary of what the other holds": the first node met that is below its
 * ceiling and gains by the role, else the one that gains most, or NONE. */
static uint32_t search_on(struct roles *r, uint32_t start)
{
    uint32_t head = 0, tail = 1, best = NONE;

    begin(r, start);
    while (head < tail) {
        uint32_t a = r->queue[head++];

        for (uint32_t p = r->first[a]; p != NONE; p = r->next[p])
            for (uint32_t s = 0; s < r->n_slots; s++) {
                uint32_t b = r->table[(size_t)p * r->n_slots + s];

                if (b == NOBODY || r->from[b] != NONE || r->closed[b])
                    continue;
                r->from[b] = a;
                r->via[b] = p;
                r->queue[tail++] = b;
                if (!gain_below(gain_more(r, b), gain_less(r, start)))
                    continue;
                if (r->load[b] < r->ceil[b])
                    return b;
                if (best == NONE || gain_below(gain_more(r, b), gain_more(r, best)))
                    best = b;
            }
    }
    if (best == NONE)
        close_reached(r, tail);
    return best;
}

static void hand_on(struct roles *r)
{
    uint32_t start, end;

    memset(r->closed, 0, r->c->n_nodes);
    while ((start = find_fullest(r)) != NONE)
        if ((end = search_on(r, start)) != NONE)
            for (uint32_t b = end; b != start; b = r->from[b]) {
                role_drop(r, r->via[b]);
                role_take(r, r->via[b], b);
            }
}

/* ---- making ------------------------------------------------------------------------------ */

static void list_holders(struct roles *r)
{
    size_t n_rows = (size_t)r->c->n_partitions * r->n_slots;
    uint32_t at = 0;

    for (size_t k = 0; k < n_rows; k++)
        if (r->table[k] != NOBODY)
            r->held_at[r->table[k]]++;
    for (uint32_t i = 0; i <= r->c->n_nodes; i++) {
        uint32_t n = r->held_at[i];

        r->held_at[i] = at;
        at += n;
    }
    for (size_t k = 0; k < n_rows; k++)
        if (r->table[k] != NOBODY)
            r->held[r->held_at[r->table[k]] + r->load[r->table[k]]++] = (uint32_t)(k / r->n_slots);
    memset(r->load, 0, r->c->n_nodes * sizeof(uint32_t));
}

static void share_roles(struct roles *r)
{
    uint64_t q = r->c->n_partitions, sum = 0;

    for (uint32_t i = 0; i < r->c->n_nodes; i++)
        sum += r->c->weight[i];
    for (uint32_t i = 0; i < r->c->n_nodes; i++) {
        r->floor[i] = (uint32_t)(q * r->c->weight[i] / sum);
        r->ceil[i] = (uint32_t)((q * r->c->weight[i] + sum - 1) / sum);
    }
}

static bool alloc_roles(struct roles *r, struct arena *a)
{
    size_t q = r->c->n_partitions, n = r->c->n_nodes;

    r->floor = claim_alloc(a, n, sizeof(uint32_t), 0);
    r->ceil = claim_alloc(a, n, sizeof(uint32_t), 0);
    r->load = claim_alloc(a, n, sizeof(uint32_t), 0);
    r->first = claim_alloc(a, n, sizeof(uint32_t), 0xff);
    r->next = claim_alloc(a, q, sizeof(uint32_t), 0);
    r->prev = claim_alloc(a, q, sizeof(uint32_t), 0);
    r->held_at = claim_alloc(a, n + 1, sizeof(uint32_t), 0);
    r->held = claim_alloc(a, q * r->n_slots, sizeof(uint32_t), 0);
    r->from = claim_alloc(a, n, sizeof(uint32_t), 0);
    r->via = claim_alloc(a, n, sizeof(uint32_t), 0);
    r->queue = claim_alloc(a, n, sizeof(uint32_t), 0);
    r->closed = claim_alloc(a, n, 1, 0);
    return r->floor && r->ceil && r->load && r->first && r->next && r->prev && r->held_at &&
           r->held && r->from && r->via && r->queue && r->closed;
}

int claim_roles(const struct claim_cluster *c, const uint16_t *table, uint32_t n_slots,
                struct arena *scratch, uint16_t *primary)
{
    struct roles r = {.c = c, .table = table, .n_slots = n_slots, .primary = primary};

    if (!alloc_roles(&r, scratch))
        return -ERR_NO_MEMORY;
    list_holders(&r);
    share_roles(&r);
    keep_and_take(&r);
    fetch(&r);
    hand_on(&r);
    return 0;
}
