/* ring_place: from quotas to a table, and one primary per row.
 *
 * Rows. McNaughton's rule: nodes are listed zone by zone and wrapped around the partitions, node i
 * on quota[i] consecutive cells. A quota is at most the number of partitions, so no node meets
 * itself in a row; a zone's cells are consecutive too, so each row has the floor or the ceiling of
 * its mean. A legal table therefore always exists. It has one fault: neighbours in the list share
 * all their partitions, so the death of a node would be repaired by two others. So the table is
 * then shuffled by swaps that keep all counts: two nodes of one zone trade their places in two rows
 * where neither is already. That spreads each node's partners over the cluster.
 *
 * Primaries. Each partition starts with the holder that has the least load for its weight. Then, as
 * long as a shorter maximum exists, roles are handed along a shortest path from the most loaded
 * node to one that stays below it (path elimination of optimal semi-matchings: when no node has
 * such a path, the maximum is the least possible).
 *
 * Deterministic: integers, and the generator of the shuffle has a fixed seed.
 */
#include "server/core/ring_place.h"

#include "proto/err.h"

#define NONE UINT32_MAX
#define SHUFFLE_ROUNDS 4u

/* ---- rows -------------------------------------------------------------------------------- */

static void wrap(const struct place_input *in, const uint32_t *quota, uint32_t *table)
{
    uint32_t cell = 0;

    for (uint32_t z = 0; z < in->n_zones; z++)
        for (uint32_t i = 0; i < in->n_nodes; i++)
            for (uint32_t k = 0; in->zone[i] == z && k < quota[i]; k++, cell++)
                table[(size_t)(cell % in->n_partitions) * in->n_slots + cell / in->n_partitions] =
                    i;
}

static bool row_has(const struct place_input *in, const uint32_t *row, uint32_t node)
{
    for (uint32_t s = 0; s < in->n_slots; s++)
        if (row[s] == node)
            return true;
    return false;
}

/* splitmix64 */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static void shuffle(const struct place_input *in, uint32_t *table)
{
    uint64_t random = 1;

    for (uint32_t round = 0; round < SHUFFLE_ROUNDS; round++)
        for (uint32_t p = 0; p < in->n_partitions; p++)
            for (uint32_t s = 0; s < in->n_slots; s++) {
                uint32_t *row = &table[(size_t)p * in->n_slots];
                uint64_t r = next_random(&random);
                uint32_t *other = &table[(r % in->n_partitions) * in->n_slots];
                uint32_t t = (uint32_t)((r >> 32) % in->n_slots), a = row[s], b = other[t];

                if (in->zone[a] != in->zone[b] || row_has(in, other, a) || row_has(in, row, b))
                    continue;
                row[s] = b;
                other[t] = a;
            }
}

void place_slots(const struct place_input *in, const uint32_t *quota, uint32_t *table)
{
    wrap(in, quota, table);
    shuffle(in, table);
}

/* ---- primaries --------------------------------------------------------------------------- */

struct roles {
    const struct place_input *in;
    const uint32_t *table;
    uint32_t *holder;      /* per partition: the node that is primary */
    uint32_t *first;       /* per node: its first partition as primary, NONE at the end ... */
    uint32_t *next, *prev; /* ... and per partition: the list's links */
    uint32_t *load;        /* per node */
    uint32_t *from, *via;  /* per node, of a search: reached from which node, by which partition */
    uint32_t *queue;
    bool *blocked;
    uint64_t weight_sum;
};

static void role_take(struct roles *r, uint32_t p, uint32_t node)
{
    r->holder[p] = node;
    r->load[node]++;
    r->prev[p] = NONE;
    r->next[p] = r->first[node];
    if (r->next[p] != NONE)
        r->prev[r->next[p]] = p;
    r->first[node] = p;
}

static void role_drop(struct roles *r, uint32_t p)
{
    uint32_t node = r->holder[p];

    r->load[node]--;
    if (r->prev[p] != NONE)
        r->next[r->prev[p]] = r->next[p];
    else
        r->first[node] = r->next[p];
    if (r->next[p] != NONE)
        r->prev[r->next[p]] = r->prev[p];
}

/* load / weight of a < of b */
static bool less(const struct roles *r, uint64_t load_a, uint32_t a, uint64_t load_b, uint32_t b)
{
    return load_a * r->in->weight[b] < load_b * r->in->weight[a];
}

static void take_least_loaded(struct roles *r)
{
    for (uint32_t p = 0; p < r->in->n_partitions; p++) {
        const uint32_t *row = &r->table[(size_t)p * r->in->n_slots];
        uint32_t best = row[p % r->in->n_slots];

        for (uint32_t s = 0; s < r->in->n_slots; s++)
            if (less(r, r->load[row[s]] + 1ull, row[s], r->load[best] + 1ull, best))
                best = row[s];
        role_take(r, p, best);
    }
}

static uint32_t most_loaded(const struct roles *r)
{
    uint32_t most = NONE;

    for (uint32_t i = 0; i < r->in->n_nodes; i++)
        if (!r->blocked[i] && r->load[i] > 0 &&
            (most == NONE || less(r, r->load[most], most, r->load[i], i)))
            most = i;
    return most;
}

/* Handing one role from a to b lowers the maximum. */
static bool lowers_maximum(const struct roles *r, uint32_t a, uint32_t b)
{
    return less(r, r->load[b] + 1ull, b, r->load[a], a);
}

/* Handing one role from a to b brings one of them nearer to the floor and ceiling of its share, and
 * takes none away from there. */
static bool nears_share(const struct roles *r, uint32_t a, uint32_t b)
{
    uint64_t q = r->in->n_partitions, rest = r->weight_sum - 1;
    uint64_t floor_a = q * r->in->weight[a] / r->weight_sum;
    uint64_t floor_b = q * r->in->weight[b] / r->weight_sum;
    uint64_t ceil_a = (q * r->in->weight[a] + rest) / r->weight_sum;
    uint64_t ceil_b = (q * r->in->weight[b] + rest) / r->weight_sum;

    return (r->load[a] > ceil_a && r->load[b] < ceil_b) ||
           (r->load[a] > floor_a && r->load[b] < floor_b);
}

/* Breadth first over "is primary of p, which the next one holds too". Returns the reached node that
 * will be least loaded, of those to which a hand-over is good; else NONE. */
static uint32_t search(struct roles *r, uint32_t start,
                       bool (*good)(const struct roles *, uint32_t, uint32_t))
{
    uint32_t head = 0, tail = 0, best = NONE;

    for (uint32_t i = 0; i < r->in->n_nodes; i++)
        r->from[i] = NONE;
    r->from[start] = start;
    r->queue[tail++] = start;
    while (head < tail) {
        uint32_t a = r->queue[head++];

        if (a != start && good(r, start, a) &&
            (best == NONE || less(r, r->load[a] + 1ull, a, r->load[best] + 1ull, best)))
            best = a;
        for (uint32_t p = r->first[a]; p != NONE; p = r->next[p])
            for (uint32_t s = 0; s < r->in->n_slots; s++) {
                uint32_t b = r->table[(size_t)p * r->in->n_slots + s];

                if (r->from[b] == NONE) {
                    r->from[b] = a;
                    r->via[b] = p;
                    r->queue[tail++] = b;
                }
            }
    }
    return best;
}

/* Along the path that search found, from the end back: each hand-over keeps those before it valid.
 */
static void hand_over(struct roles *r, uint32_t start, uint32_t end)
{
    for (uint32_t b = end; b != start; b = r->from[b]) {
        role_drop(r, r->via[b]);
        role_take(r, r->via[b], b);
    }
}

static void lower_maximum(struct roles *r)
{
    uint32_t start;

    while ((start = most_loaded(r)) != NONE) {
        uint32_t end = search(r, start, lowers_maximum);

        if (end == NONE)
            r->blocked[start] = true;
        else
            hand_over(r, start, end);
    }
}

/* Ends: every hand-over brings the sum of all distances from the rounded shares down. */
static void near_shares(struct roles *r)
{
    bool moved = true;

    while (moved) {
        moved = false;
        for (uint32_t start = 0; start < r->in->n_nodes; start++) {
            uint32_t end = search(r, start, nears_share);

            if (end != NONE) {
                hand_over(r, start, end);
                moved = true;
            }
        }
    }
}

static uint32_t *numbers(struct arena *a, size_t n, uint8_t fill)
{
    uint32_t *p = arena_alloc(a, n * sizeof(uint32_t));

    if (p)
        memset(p, fill, n * sizeof(uint32_t));
    return p;
}

int place_primaries(const struct place_input *in, const uint32_t *table, struct arena *scratch,
                    uint32_t *primary)
{
    struct roles r = {.in = in, .table = table};

    r.holder = numbers(scratch, in->n_partitions, 0);
    r.next = numbers(scratch, in->n_partitions, 0);
    r.prev = numbers(scratch, in->n_partitions, 0);
    r.first = numbers(scratch, in->n_nodes, 0xff);
    r.load = numbers(scratch, in->n_nodes, 0);
    r.from = numbers(scratch, in->n_nodes, 0);
    r.via = numbers(scratch, in->n_nodes, 0);
    r.queue = numbers(scratch, in->n_nodes, 0);
    r.blocked = arena_alloc(scratch, in->n_nodes);
    if (!r.holder || !r.next || !r.prev || !r.first || !r.load || !r.from || !r.via || !r.queue ||
        !r.blocked)
        return -ERR_NO_MEMORY;
    memset(r.blocked, 0, in->n_nodes);
    for (uint32_t i = 0; i < in->n_nodes; i++)
        r.weight_sum += in->weight[i];
    take_least_loaded(&r);
    lower_maximum(&r);
    near_shares(&r);
    for (uint32_t p = 0; p < in->n_partitions; p++)
        for (uint32_t s = 0; s < in->n_slots; s++)
            if (table[(size_t)p * in->n_slots + s] == r.holder[p])
                primary[p] = s;
    return 0;
}
