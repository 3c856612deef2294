/* claim: the table of slots, computed anew from the one of today ("flow claim").
 *
 * A table that is a function of the member list alone is simple and pays for it: some nodes get
 * half as much again as others, and a death moves nearly twice of what was lost. Here the old table
 * is an input, and the new one is the nearest that is fair:
 *
 *   spread   how many replicas of one partition each zone may and must have    claim_quota.c
 *   quota    how many seats each node gets: shares by weight, rounded          claim_quota.c
 *   keep     who holds a seat and may keep it, does                            claim_deal.c
 *   deal     free seats, and those of nodes with too many, to nodes with too
 *            few, so that partners spread over the cluster                     claim_deal.c
 *   path     what cannot be given directly goes by way of others, along
 *            shortest paths of a flow: no table of these quotas moves fewer    claim_path.c
 *   slots    newcomers take the slots of those who left, of the same zone
 *            first; whoever stays keeps its slot                               here
 *   roles    primaries                                                         claim_roles.c
 *
 * Why newcomers take slots in that order: a plan goes from row to row one slot at a time, in any
 * order. Pairs of one zone change no count; the other pairs take from zones that only lose and give
 * to zones that only gain. So each zone's count stays between its old and its new value, and no
 * intermediate row is worse than both ends. A slot whose member is gone is taken before one whose
 * member still lives: it needs its replica most.
 *
 * The certificate: a member that has k slots more than before must have got k copies, so the sum of
 * those is a lower bound of what any table with these quotas moves. If `moved` equals it that is
 * seen at a glance; where the zone rule forces more, it is still the least possible.
 */
#include "server/core/claim_impl.h"

#include "proto/err.h"

#include <assert.h>
#include <stdlib.h>

/* The largest claim (16384 partitions x 7, 1024 members) needs 30 MiB. */
#define SCRATCH_BYTES (48u << 20)

struct build {
    const struct claim_input *in;
    struct claim_work work;
    uint32_t *by_id;  /* members, ascending by id */
    uint32_t *zone;   /* per member: the number of its zone; those with usable members come first */
    uint32_t *member; /* per node */
    uint16_t *node;   /* per member; NOBODY: not usable */
    uint32_t n_slots;
    uint16_t *table;   /* [n_partitions * n_slots]: nodes */
    uint16_t *primary; /* per partition: a node */
};

/* ---- members ----------------------------------------------------------------------------- */

static bool input_ok(const struct claim_input *in)
{
    uint32_t q = in->n_partitions;

    return in->n_members >= 1 && in->n_members <= LIMIT_MEMBERS_MAX && in->replicas >= 1 &&
           in->replicas <= LIMIT_REPLICAS_MAX && in->n_slots <= LIMIT_SLOTS_MAX && q >= 1 &&
           q <= LIMIT_PARTITIONS_MAX && (q & (q - 1)) == 0 && (in->n_slots > 0 || !in->table);
}

static int compare_ids(const void *a, const void *b, void *ctx)
{
    const struct wire_member *members = ctx;

    return memcmp(members[*(const uint32_t *)a].id.b, members[*(const uint32_t *)b].id.b,
                  WIRE_ID_BYTES);
}

static int sort_members(struct build *b)
{
    const struct claim_input *in = b->in;
    /* qsort_r wants a context that it may write to; this one is only read */
    void *members = (void *)(uintptr_t)in->members;

    b->by_id = claim_alloc(&b->work.scratch, in->n_members, sizeof(uint32_t), 0);
    if (!b->by_id)
        return -ERR_NO_MEMORY;
    for (uint32_t i = 0; i < in->n_members; i++)
        b->by_id[i] = i;
    qsort_r(b->by_id, in->n_members, sizeof(uint32_t), compare_ids, members);
    for (size_t i = 1; i < in->n_members; i++)
        if (compare_ids(&b->by_id[i - 1], &b->by_id[i], members) == 0)
            return -ERR_CONFIG;
    return 0;
}

/* The number of a member's zone, if one of the first n_before members by id has it as well. */
static uint32_t find_zone(const struct build *b, uint32_t member, uint32_t n_before, bool usable)
{
    const struct wire_member *members = b->in->members;

    for (uint32_t k = 0; k < n_before; k++) {
        uint32_t other = b->by_id[k];

        if ((members[other].weight > 0) == usable &&
            slice_equal(members[other].zone, members[member].zone))
            return b->zone[other];
    }
    return CLAIM_NONE;
}

/* Zones are numbered as they first appear among usable members by id; then those of the others. */
static void number_zones(struct build *b)
{
    const struct claim_input *in = b->in;
    uint32_t n_zones = 0;

    for (int usable = 1; usable >= 0; usable--) {
        for (uint32_t k = 0; k < in->n_members; k++) {
            uint32_t i = b->by_id[k], zone;

            if ((in->members[i].weight > 0) != usable)
                continue;
            zone = usable ? CLAIM_NONE : find_zone(b, i, (uint32_t)in->n_members, true);
            if (zone == CLAIM_NONE)
                zone = find_zone(b, i, k, usable);
            b->zone[i] = zone != CLAIM_NONE ? zone : n_zones++;
        }
        if (usable)
            b->work.cluster.n_zones = n_zones;
    }
}

/* Nodes: usable members, zone by zone, by id inside. */
static void number_nodes(struct build *b)
{
    struct claim_cluster *c = &b->work.cluster;
    uint32_t n = 0;

    for (uint32_t z = 0; z < c->n_zones; z++) {
        c->zone_first[z] = n;
        for (uint32_t k = 0; k < b->in->n_members; k++) {
            uint32_t i = b->by_id[k];

            if (b->in->members[i].weight == 0 || b->zone[i] != z)
                continue;
            b->member[n] = i;
            b->node[i] = (uint16_t)n;
            c->weight[n] = b->in->members[i].weight;
            c->zone[n++] = z;
        }
    }
    c->zone_first[c->n_zones] = n;
    c->n_nodes = n;
}

static int list_nodes(struct build *b)
{
    struct claim_cluster *c = &b->work.cluster;
    struct arena *a = &b->work.scratch;
    size_t n = b->in->n_members;

    b->zone = claim_alloc(a, n, sizeof(uint32_t), 0);
    b->member = claim_alloc(a, n, sizeof(uint32_t), 0);
    b->node = claim_alloc(a, n, sizeof(uint16_t), 0xff);
    c->weight = claim_alloc(a, n, sizeof(uint32_t), 0);
    c->zone = claim_alloc(a, n, sizeof(uint32_t), 0);
    c->zone_first = claim_alloc(a, n + 1, sizeof(uint32_t), 0);
    c->cap = claim_alloc(a, n, sizeof(uint32_t), 0);
    c->lo = claim_alloc(a, n, sizeof(uint32_t), 0);
    if (!b->zone || !b->member || !b->node || !c->weight || !c->zone || !c->zone_first || !c->cap ||
        !c->lo)
        return -ERR_NO_MEMORY;
    number_zones(b);
    number_nodes(b);
    if (c->n_nodes == 0)
        return -ERR_CONFIG;
    c->n_partitions = b->in->n_partitions;
    c->n_seats = b->in->replicas < c->n_nodes ? b->in->replicas : c->n_nodes;
    claim_spread(c);
    return 0;
}

/* ---- the table of today ------------------------------------------------------------------ */

static bool row_ok(const struct claim_input *in, const uint32_t *row)
{
    for (uint32_t s = 0; s < in->n_slots; s++) {
        if (row[s] == CLAIM_NONE)
            continue;
        if (row[s] >= in->n_members)
            return false;
        for (uint32_t t = 0; t < s; t++)
            if (row[t] == row[s])
                return false;
    }
    return true;
}

static int read_table(struct build *b)
{
    const struct claim_input *in = b->in;
    struct claim_work *w = &b->work;
    uint32_t n_old = in->table ? in->n_slots : 0;
    uint16_t *old = claim_alloc(&w->scratch, (size_t)in->n_partitions * n_old, sizeof(*old), 0xff);

    w->before = claim_alloc(&w->scratch, w->cluster.n_nodes, sizeof(uint32_t), 0);
    w->quota = claim_alloc(&w->scratch, w->cluster.n_nodes, sizeof(uint32_t), 0);
    if (!old || !w->before || !w->quota)
        return -ERR_NO_MEMORY;
    for (uint32_t p = 0; p < (n_old ? in->n_partitions : 0); p++) {
        const uint32_t *row = &in->table[(size_t)p * n_old];

        if (!row_ok(in, row) || (in->present && !row_ok(in, &in->present[(size_t)p * n_old])))
            return -ERR_BAD_REQUEST;
        for (uint32_t s = 0; s < n_old; s++) {
            uint16_t node = row[s] == CLAIM_NONE ? NOBODY : b->node[row[s]];

            old[(size_t)p * n_old + s] = node;
            if (node != NOBODY)
                w->before[node]++;
        }
    }
    w->old = old;
    w->n_old = n_old;
    return 0;
}

/* ---- slots ------------------------------------------------------------------------------- */

static const uint32_t *present_in(const struct build *b, uint32_t partition)
{
    const uint32_t *table = b->in->present ? b->in->present : b->in->table;

    return &table[(size_t)partition * b->in->n_slots];
}

/* Who left a slot: what the slots of a row are to a newcomer of a zone, the best first. */
enum vacancy {
    VACANT_GONE_SAME_ZONE,
    VACANT_LIVE_SAME_ZONE,
    VACANT_GONE,
    VACANT_LIVE,
    VACANT_NEVER_HELD,
    VACANT_NOT
};

static enum vacancy vacancy_of(const struct build *b, uint32_t partition, uint32_t slot,
                               uint32_t zone)
{
    const struct claim_input *in = b->in;
    uint32_t was;

    if (b->table[(size_t)partition * b->n_slots + slot] != NOBODY)
        return VACANT_NOT;
    was = slot < b->work.n_old ? present_in(b, partition)[slot] : CLAIM_NONE;
    if (was == CLAIM_NONE)
        return VACANT_NEVER_HELD;
    if (b->zone[was] == zone)
        return in->members[was].weight == 0 ? VACANT_GONE_SAME_ZONE : VACANT_LIVE_SAME_ZONE;
    return in->members[was].weight == 0 ? VACANT_GONE : VACANT_LIVE;
}

/* Seats the newcomers of a row that find a vacancy no worse than `worst`; lists the others. */
static uint32_t seat_newcomers(struct build *b, uint32_t partition, uint16_t *nodes, uint32_t n,
                               enum vacancy worst)
{
    uint16_t *row = &b->table[(size_t)partition * b->n_slots];
    uint32_t n_left = 0;

    for (uint32_t k = 0; k < n; k++) {
        uint32_t zone = b->work.cluster.zone[nodes[k]], best = 0;

        for (uint32_t s = 1; s < b->n_slots; s++)
            if (vacancy_of(b, partition, s, zone) < vacancy_of(b, partition, best, zone))
                best = s;
        if (vacancy_of(b, partition, best, zone) <= worst)
            row[best] = nodes[k];
        else
            nodes[n_left++] = nodes[k];
    }
    return n_left;
}

static void seat_row(struct build *b, uint32_t partition)
{
    const struct claim_work *w = &b->work;
    const uint16_t *seats = &w->row[(size_t)partition * w->cluster.n_seats];
    uint16_t *row = &b->table[(size_t)partition * b->n_slots], newcomers[LIMIT_SLOTS_MAX];
    uint32_t n = 0;

    for (uint32_t k = 0; k < w->cluster.n_seats; k++) {
        uint32_t s = 0;

        while (s < w->n_old && present_in(b, partition)[s] != b->member[seats[k]])
            s++;
        if (s < w->n_old)
            row[s] = seats[k];
        else
            newcomers[n++] = seats[k];
    }
    n = seat_newcomers(b, partition, newcomers, n, VACANT_LIVE_SAME_ZONE);
    n = seat_newcomers(b, partition, newcomers, n, VACANT_NEVER_HELD);
    assert(n == 0);
}

static int seat_rows(struct build *b)
{
    const struct claim_work *w = &b->work;

    b->n_slots = w->n_old > w->cluster.n_seats ? w->n_old : w->cluster.n_seats;
    b->table = claim_alloc(&b->work.scratch, (size_t)b->in->n_partitions * b->n_slots,
                           sizeof(uint16_t), 0xff);
    if (!b->table)
        return -ERR_NO_MEMORY;
    for (uint32_t p = 0; p < b->in->n_partitions; p++)
        seat_row(b, p);
    return 0;
}

static int choose_primaries(struct build *b)
{
    const struct claim_input *in = b->in;
    const struct claim_work *w = &b->work;

    b->primary = claim_alloc(&b->work.scratch, in->n_partitions, sizeof(uint16_t), 0xff);
    if (!b->primary)
        return -ERR_NO_MEMORY;
    for (uint32_t p = 0; in->primary && p < in->n_partitions; p++)
        if (in->primary[p] < w->n_old)
            b->primary[p] = w->old[(size_t)p * w->n_old + in->primary[p]];
    return claim_roles(&w->cluster, b->table, b->n_slots, &b->work.scratch, b->primary);
}

/* ---- what it comes to -------------------------------------------------------------------- */

static bool breaks_rule(const struct claim_work *w, const uint16_t *row, uint32_t n,
                        uint32_t sum_lo)
{
    const struct claim_cluster *c = &w->cluster;
    uint32_t reached = 0;

    for (uint32_t s = 0; s < n; s++) {
        uint32_t in_zone = 0, before = 0, zone;

        if (row[s] == NOBODY)
            continue;
        zone = c->zone[row[s]];
        for (uint32_t t = 0; t < n; t++)
            if (row[t] != NOBODY && c->zone[row[t]] == zone) {
                in_zone++;
                before += t < s;
            }
        if (in_zone > c->cap[zone])
            return true;
        reached += before < c->lo[zone]; /* one of those that the zone must have */
    }
    return reached < sum_lo;
}

static uint32_t count_broken(const struct claim_work *w, const uint16_t *table, uint32_t n)
{
    uint32_t broken = 0, sum_lo = 0;

    for (uint32_t z = 0; z < w->cluster.n_zones; z++)
        sum_lo += w->cluster.lo[z];
    for (uint32_t p = 0; n > 0 && p < w->cluster.n_partitions; p++)
        broken += breaks_rule(w, &table[(size_t)p * n], n, sum_lo);
    return broken;
}

/* What each node would have if all were in one zone. */
static int count_without_zones(struct build *b, uint32_t *quota)
{
    const struct claim_cluster *c = &b->work.cluster;
    uint32_t *one = claim_alloc(&b->work.scratch, c->n_nodes, sizeof(uint32_t), 0);
    uint32_t first[2] = {0, c->n_nodes}, cap[1] = {c->n_seats}, lo[1] = {c->n_seats};
    struct claim_cluster free = *c;

    if (!one)
        return -ERR_NO_MEMORY;
    free.n_zones = 1;
    free.zone = one;
    free.zone_first = first;
    free.cap = cap;
    free.lo = lo;
    return claim_quotas(&free, b->work.before, &b->work.scratch, quota);
}

static int fill_shares(struct build *b, struct claim *ret)
{
    const struct claim_input *in = b->in;
    struct claim_work *w = &b->work;
    uint32_t *quota = claim_alloc(&w->scratch, w->cluster.n_nodes, sizeof(uint32_t), 0);

    if (!quota || count_without_zones(b, quota) < 0)
        return -ERR_NO_MEMORY;
    for (uint32_t i = 0; i < w->cluster.n_nodes; i++) {
        struct claim_share *share = &ret->shares[b->member[i]];
        uint32_t after = w->n_held_by[i], permille;

        share->slots_after = after;
        share->slots_without_zones = quota[i];
        ret->lower_bound += w->quota[i] > w->before[i] ? w->quota[i] - w->before[i] : 0;
        if (after <= quota[i] + 1) /* what rounding does */
            continue;
        permille = after * 1000 / (quota[i] ? quota[i] : 1);
        if (permille > ret->zone_cost_permille) {
            ret->zone_cost_permille = permille;
            ret->zone_cost_member = b->member[i];
        }
    }
    for (size_t k = 0; in->table && k < (size_t)in->n_partitions * in->n_slots; k++)
        if (in->table[k] != CLAIM_NONE)
            ret->shares[in->table[k]].slots_before++;
    return 0;
}

static void fill_table(const struct build *b, struct claim *ret)
{
    const struct claim_input *in = b->in;

    for (uint32_t p = 0; p < in->n_partitions; p++)
        for (uint32_t s = 0; s < b->n_slots; s++) {
            size_t at = (size_t)p * b->n_slots + s;

            ret->table[at] = CLAIM_NONE;
            if (b->table[at] == NOBODY)
                continue;
            ret->table[at] = b->member[b->table[at]];
            ret->moved += !claim_seats_had(&b->work, p, b->table[at]);
            if (b->table[at] == b->primary[p]) {
                ret->primary[p] = s;
                ret->shares[ret->table[at]].primaries_after++;
            }
        }
    for (uint32_t p = 0; in->table && in->primary && p < in->n_partitions; p++)
        if (in->primary[p] < in->n_slots) {
            uint32_t was = in->table[(size_t)p * in->n_slots + in->primary[p]];

            if (was != CLAIM_NONE)
                ret->shares[was].primaries_before++;
        }
}

static int finish(struct build *b, struct arena *arena, struct claim *ret)
{
    const struct claim_input *in = b->in;
    struct claim c = {.n_seats = b->work.cluster.n_seats,
                      .n_slots = b->n_slots,
                      .zone_cost_member = CLAIM_NONE,
                      .zone_cost_permille = 1000};

    c.table = claim_alloc(arena, (size_t)in->n_partitions * b->n_slots, sizeof(uint32_t), 0);
    c.primary = claim_alloc(arena, in->n_partitions, sizeof(uint32_t), 0);
    c.shares = claim_alloc(arena, in->n_members, sizeof(*c.shares), 0);
    if (!c.table || !c.primary || !c.shares || fill_shares(b, &c) < 0)
        return -ERR_NO_MEMORY;
    fill_table(b, &c);
    c.violations_before = count_broken(&b->work, b->work.old, b->work.n_old);
    c.violations = count_broken(&b->work, b->table, b->n_slots);
    *ret = c;
    return 0;
}

/* ---- the steps --------------------------------------------------------------------------- */

static int begin(struct build *b)
{
    int r = sort_members(b);

    if (r == 0)
        r = list_nodes(b);
    if (r == 0)
        r = read_table(b);
    return r;
}

static int build(struct build *b)
{
    struct claim_work *w = &b->work;
    struct claim_path *path = NULL;
    int r = begin(b);

    if (r == 0)
        r = claim_quotas(&w->cluster, w->before, &w->scratch, w->quota);
    if (r == 0)
        r = claim_seats_init(w);
    if (r == 0)
        r = claim_path_new(w, &path);
    if (r < 0)
        return r;
    claim_deal_keep(w);
    claim_path_costless(path);
    r = claim_deal(w);
    if (r < 0)
        return r;
    claim_path_all(path);
    r = seat_rows(b);
    return r < 0 ? r : choose_primaries(b);
}

int claim_compute(const struct claim_input *in, struct arena *arena, struct claim *ret)
{
    struct build b = {.in = in};
    int r;

    if (!input_ok(in))
        return -ERR_CONFIG;
    arena_init(&b.work.scratch, SCRATCH_BYTES);
    r = build(&b);
    if (r == 0)
        r = finish(&b, arena, ret);
    arena_deinit(&b.work.scratch);
    return r;
}

int claim_violations(const struct claim_input *in, uint32_t *ret)
{
    struct build b = {.in = in};
    int r;

    if (!input_ok(in) || !in->table)
        return -ERR_CONFIG;
    arena_init(&b.work.scratch, SCRATCH_BYTES);
    r = begin(&b);
    if (r == 0)
        *ret = count_broken(&b.work, b.work.old, b.work.n_old);
    arena_deinit(&b.work.scratch);
    return r;
}
