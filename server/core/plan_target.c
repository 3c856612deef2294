/* plan_target: the wished members, and the table that they should have.
 *
 * First the changes are put to the members: each names one, none is named twice. Who leaves stays
 * in the list with weight 0, because its slots must go somewhere and its zone still counts on the
 * way.
 *
 * Then the table. A newcomer that replaces a dead node takes exactly its slots. If nothing else is
 * asked for that is all: whoever replaces a broken machine wants as little as possible to happen,
 * at that moment most of all, and what it leaves unbalanced is told. With any other change, and
 * with none at all, the table is claimed anew (claim.h), from the one in which the replaced are
 * replaced.
 */
#include "server/core/plan_impl.h"

#include <assert.h>
#include <stdlib.h>

static uint32_t find_member(const struct plan_work *w, const struct wire_id *id)
{
    for (uint32_t i = 0; i < w->plan.n_members; i++)
        if (wire_id_equal(&w->plan.members[i].id, id))
            return i;
    return PLAN_NONE;
}

/* ---- members ----------------------------------------------------------------------------- */

static int compare_members(const void *a, const void *b)
{
    const struct wire_member *x = a, *y = b;

    return memcmp(x->id.b, y->id.b, WIRE_ID_BYTES);
}

static bool brings_member(const struct plan_change *change)
{
    return change->kind == PLAN_CHANGE_ADD || change->kind == PLAN_CHANGE_REPLACE;
}

/* Those of the ring, then the newcomers of sense. */
static int list_members(struct plan_work *w)
{
    const struct plan_input *in = w->in;
    struct plan *plan = &w->plan;
    size_t n = w->ring->n_members;

    for (size_t i = 0; i < in->n_changes; i++)
        n += brings_member(&in->changes[i]);
    plan->members = arena_alloc(w->arena, n * sizeof(*plan->members));
    if (!plan->members)
        return -ERR_NO_MEMORY;
    memcpy(plan->members, w->ring->members, w->ring->n_members * sizeof(*plan->members));
    plan->n_members = w->ring->n_members;
    for (size_t i = 0; i < in->n_changes; i++)
        if (brings_member(&in->changes[i]))
            plan->members[plan->n_members++] = *in->changes[i].member;
    qsort(plan->members, n, sizeof(*plan->members), compare_members);
    plan->shares = arena_alloc(w->arena, n * sizeof(*plan->shares));
    w->dead = arena_alloc(&w->scratch, n);
    if (!plan->shares || !w->dead)
        return -ERR_NO_MEMORY;
    memset(plan->shares, 0, n * sizeof(*plan->shares));
    memset(w->dead, 0, n);
    return 0;
}

static void read_states(struct plan_work *w)
{
    for (size_t k = 0; k < w->in->n_states; k++) {
        const struct plan_state *state = &w->in->states[k];
        uint32_t i = find_member(w, &state->id);

        if (i == PLAN_NONE)
            continue;
        w->plan.shares[i].up = state->up;
        w->plan.shares[i].disk_used_bytes = state->disk_used_bytes;
        w->plan.shares[i].disk_bytes = state->disk_bytes;
    }
}

/* ---- do the changes make sense? ---------------------------------------------------------- */

static bool text_fits(struct slice s, size_t least)
{
    return s.len >= least && s.len <= LIMIT_NAME_BYTES;
}

static bool newcomer_ok(const struct wire_member *m)
{
    return !wire_id_is_zero(&m->id) && text_fits(m->name, 1) && text_fits(m->zone, 0) &&
           m->client_address.len <= LIMIT_ADDRESS_BYTES &&
           m->peer_address.len <= LIMIT_ADDRESS_BYTES;
}

static bool name_taken(const struct plan_work *w, size_t change)
{
    struct slice name = w->in->changes[change].member->name;

    for (size_t i = 0; i < w->ring->n_members; i++)
        if (slice_equal(w->ring->members[i].name, name))
            return true;
    for (size_t k = 0; k < change; k++)
        if (brings_member(&w->in->changes[k]) && slice_equal(w->in->changes[k].member->name, name))
            return true;
    return false;
}

static bool is_member(const struct plan_work *w, const struct wire_id *id)
{
    return ring_member_of(w->in->ring, id) >= 0;
}

static bool same_id_before(const struct plan_work *w, size_t change, bool newcomer)
{
    const struct plan_change *changes = w->in->changes;

    for (size_t k = 0; k < change; k++)
        if (newcomer ? brings_member(&changes[k]) &&
                           wire_id_equal(&changes[k].member->id, &changes[change].member->id)
                     : changes[k].kind != PLAN_CHANGE_ADD &&
                           wire_id_equal(&changes[k].id, &changes[change].id))
            return true;
    return false;
}

static bool state_up(const struct plan_work *w, const struct wire_id *id)
{
    for (size_t k = 0; k < w->in->n_states; k++)
        if (wire_id_equal(&w->in->states[k].id, id))
            return w->in->states[k].up;
    return false;
}

static void check_newcomer(struct plan_work *w, size_t k)
{
    const struct wire_member *m = w->in->changes[k].member;

    if (!newcomer_ok(m))
        plan_refuse(w, PLAN_BAD_MEMBER, PLAN_NONE, PLAN_NONE, k, 0);
    else if (is_member(w, &m->id))
        plan_refuse(w, PLAN_ALREADY_MEMBER, PLAN_NONE, PLAN_NONE, k, 0);
    else if (same_id_before(w, k, true))
        plan_refuse(w, PLAN_CHANGED_TWICE, PLAN_NONE, PLAN_NONE, k, 0);
    else if (name_taken(w, k))
        plan_refuse(w, PLAN_NAME_TAKEN, PLAN_NONE, PLAN_NONE, k, 0);
    else if (m->weight == 0)
        plan_refuse(w, PLAN_BAD_WEIGHT, PLAN_NONE, PLAN_NONE, k, 0);
}

static void check_change(struct plan_work *w, size_t k)
{
    const struct plan_change *change = &w->in->changes[k];

    if (brings_member(change)) {
        assert(change->member);
        check_newcomer(w, k);
    }
    if (change->kind == PLAN_CHANGE_ADD)
        return;
    if (!is_member(w, &change->id))
        plan_refuse(w, PLAN_UNKNOWN_MEMBER, PLAN_NONE, PLAN_NONE, k, 0);
    else if (same_id_before(w, k, false))
        plan_refuse(w, PLAN_CHANGED_TWICE, PLAN_NONE, PLAN_NONE, k, 0);
    else if (change->kind == PLAN_CHANGE_WEIGHT && change->weight == 0)
        plan_refuse(w, PLAN_BAD_WEIGHT, PLAN_NONE, PLAN_NONE, k, 0);
    else if (change->kind == PLAN_CHANGE_REPLACE && state_up(w, &change->id))
        plan_refuse(w, PLAN_STILL_UP, PLAN_NONE, PLAN_NONE, k, 0);
}

static void check_ring(struct plan_work *w)
{
    size_t n = w->ring->n_members;
    uint64_t n_busy = 0;

    for (size_t k = 0; k < w->in->n_changes; k++)
        n += brings_member(&w->in->changes[k]);
    if (n > LIMIT_MEMBERS_MAX)
        plan_refuse(w, PLAN_TOO_MANY, PLAN_NONE, PLAN_NONE, n, LIMIT_MEMBERS_MAX);
    for (size_t p = 0; p < w->ring->n_partitions; p++) {
        bool busy = false;

        for (uint32_t s = 0; s < w->ring->n_slots; s++)
            busy |= w->ring->slot_state[p * w->ring->n_slots + s] == SLOT_JOINING;
        n_busy += busy;
    }
    if (n_busy > 0)
        plan_refuse(w, PLAN_BUSY, PLAN_NONE, PLAN_NONE, n_busy, 0);
}

static void apply_changes(struct plan_work *w)
{
    for (size_t k = 0; k < w->in->n_changes; k++) {
        const struct plan_change *change = &w->in->changes[k];
        uint32_t i;

        if (brings_member(change))
            w->plan.shares[find_member(w, &change->member->id)].joins = true;
        if (change->kind == PLAN_CHANGE_ADD)
            continue;
        i = find_member(w, &change->id);
        w->plan.members[i].weight = change->kind == PLAN_CHANGE_WEIGHT ? change->weight : 0;
        if (change->kind == PLAN_CHANGE_REMOVE || change->kind == PLAN_CHANGE_REPLACE) {
            w->plan.shares[i].leaves = true;
            w->dead[i] = !w->plan.shares[i].up;
        }
    }
}

/* ---- the tables -------------------------------------------------------------------------- */

static uint32_t slots_of_ring(const struct plan_work *w)
{
    uint32_t most = 0;

    for (size_t p = 0; p < w->ring->n_partitions; p++) {
        uint32_t n = 0;

        for (uint32_t s = 0; s < w->ring->n_slots; s++)
            n += w->ring->slot_state[p * w->ring->n_slots + s] != SLOT_NONE;
        most = n > most ? n : most;
    }
    return most;
}

static uint32_t *copy_table(struct plan_work *w, const uint32_t *from, uint32_t n_columns)
{
    size_t q = w->ring->n_partitions;
    uint32_t *table = arena_alloc(&w->scratch, q * w->plan.n_slots * sizeof(uint32_t));

    for (size_t p = 0; table && p < q; p++)
        for (uint32_t s = 0; s < w->plan.n_slots; s++)
            table[p * w->plan.n_slots + s] = s < n_columns ? from[p * n_columns + s] : PLAN_NONE;
    return table;
}

/* The ring's table, in the plan's numbers of members. */
static uint32_t *read_ring(struct plan_work *w)
{
    size_t n_flat = (size_t)w->ring->n_partitions * w->ring->n_slots;
    uint32_t *table = arena_alloc(&w->scratch, n_flat * sizeof(uint32_t));
    uint32_t *number = arena_alloc(&w->scratch, w->ring->n_members * sizeof(uint32_t));

    if (!table || !number)
        return NULL;
    for (size_t i = 0; i < w->ring->n_members; i++)
        number[i] = find_member(w, &w->ring->members[i].id);
    for (size_t k = 0; k < n_flat; k++)
        table[k] =
            w->ring->slot_state[k] == SLOT_NONE ? PLAN_NONE : number[w->ring->slot_member[k]];
    return table;
}

/* Newcomers in the places of those that they replace. True: there is another change, or none. */
static bool replace_in(struct plan_work *w, uint32_t *table, uint32_t n_columns)
{
    size_t n_flat = (size_t)w->ring->n_partitions * n_columns;
    bool others = w->in->n_changes == 0;

    for (size_t k = 0; k < w->in->n_changes; k++) {
        const struct plan_change *change = &w->in->changes[k];
        uint32_t from, to;

        if (change->kind != PLAN_CHANGE_REPLACE) {
            others = true;
            continue;
        }
        from = find_member(w, &change->id);
        to = find_member(w, &change->member->id);
        for (size_t i = 0; i < n_flat; i++)
            if (table[i] == from)
                table[i] = to;
    }
    return others;
}

static struct claim_input claim_of(const struct plan_work *w, const uint32_t *table,
                                   const uint32_t *primary, uint32_t n_slots)
{
    return (struct claim_input){.members = w->plan.members,
                                .n_members = w->plan.n_members,
                                .n_partitions = w->ring->n_partitions,
                                .replicas = w->ring->n_replicas,
                                .table = table,
                                .primary = primary,
                                .n_slots = n_slots};
}

static void take_figures(struct plan_work *w, const struct claim *claim, bool claimed)
{
    struct plan *plan = &w->plan;

    plan->zone_cost_member = claim->zone_cost_member;
    plan->zone_cost_permille = claim->zone_cost_permille;
    plan->violations_after = claimed ? claim->violations : claim->violations_before;
    plan->left_moves = claimed ? 0 : claim->moved;
    for (size_t i = 0; i < plan->n_members; i++)
        plan->shares[i].slots_without_zones = claim->shares[i].slots_without_zones;
}

static int count_violations_now(struct plan_work *w)
{
    struct claim_input in = {.members = w->ring->members,
                             .n_members = w->ring->n_members,
                             .n_partitions = w->ring->n_partitions,
                             .replicas = w->ring->n_replicas,
                             .n_slots = w->ring->n_slots};
    uint32_t *table =
        arena_alloc(&w->scratch, (size_t)in.n_partitions * in.n_slots * sizeof(uint32_t));

    int r;

    if (!table)
        return -ERR_NO_MEMORY;
    for (size_t k = 0; k < (size_t)in.n_partitions * in.n_slots; k++)
        table[k] = w->ring->slot_state[k] == SLOT_NONE ? CLAIM_NONE : w->ring->slot_member[k];
    in.table = table;
    r = claim_violations(&in, &w->plan.violations_before);
    return r == -ERR_CONFIG ? 0 : r; /* nobody is usable today: there is no rule */
}

/* Slots that members have more than before: what any plan to these shares must copy. */
static void count_bound(struct plan_work *w)
{
    for (size_t i = 0; i < w->plan.n_members; i++) {
        const struct plan_share *share = &w->plan.shares[i];

        if (share->slots_after > share->slots_before)
            w->plan.lower_bound += share->slots_after - share->slots_before;
    }
}

static void count_shares(struct plan_work *w)
{
    for (uint32_t p = 0; p < w->ring->n_partitions; p++) {
        const uint32_t *before = plan_row(w, w->before, p), *after = plan_row(w, w->after, p);
        uint64_t bytes = w->in->partition_bytes ? w->in->partition_bytes[p] : 0;

        for (uint32_t s = 0; s < w->plan.n_slots; s++) {
            if (before[s] != PLAN_NONE) {
                w->plan.shares[before[s]].slots_before++;
                w->plan.shares[before[s]].bytes_before += bytes;
            }
            if (after[s] != PLAN_NONE) {
                w->plan.shares[after[s]].slots_after++;
                w->plan.shares[after[s]].bytes_after += bytes;
            }
        }
        w->plan.shares[before[w->primary_before[p]]].primaries_before++;
        w->plan.shares[after[w->primary_after[p]]].primaries_after++;
    }
    count_bound(w);
}

static uint32_t *copy_primaries(struct plan_work *w, const uint32_t *from)
{
    uint32_t *primary = arena_alloc(&w->scratch, w->ring->n_partitions * sizeof(uint32_t));

    return primary ? memcpy(primary, from, w->ring->n_partitions * sizeof(uint32_t)) : NULL;
}

static int make_tables(struct plan_work *w)
{
    uint32_t n_columns = w->ring->n_slots, n_slots = slots_of_ring(w);
    uint32_t *today = read_ring(w), *next = NULL;
    struct claim claim;
    struct claim_input in;
    bool claimed;
    int r;

    w->plan.n_slots = n_columns;
    if (!today || !(next = copy_table(w, today, n_columns)))
        return -ERR_NO_MEMORY;
    claimed = replace_in(w, next, n_columns);
    in = claim_of(w, next, w->ring->primary, n_columns);
    in.present = today;
    r = claim_compute(&in, &w->scratch, &claim);
    if (r == -ERR_NO_MEMORY)
        return r;
    if (r < 0 || claim.n_seats < n_slots) {
        plan_refuse(w, PLAN_FEW_NODES, PLAN_NONE, PLAN_NONE, r < 0 ? 0 : claim.n_seats, n_slots);
        return 1;
    }
    w->plan.n_slots = claimed ? claim.n_slots : n_columns;
    take_figures(w, &claim, claimed);
    w->before = copy_table(w, today, n_columns);
    w->after = claimed ? claim.table : next;
    w->now = copy_table(w, today, n_columns);
    w->primary_before = copy_primaries(w, w->ring->primary);
    w->primary_after = copy_primaries(w, claimed ? claim.primary : w->ring->primary);
    w->primary_now = copy_primaries(w, w->ring->primary);
    if (!w->before || !w->now || !w->primary_before || !w->primary_after || !w->primary_now)
        return -ERR_NO_MEMORY;
    count_shares(w);
    return count_violations_now(w);
}

int plan_target(struct plan_work *w)
{
    check_ring(w);
    for (size_t k = 0; k < w->in->n_changes; k++)
        check_change(w, k);
    if (w->plan.n_refusals > 0)
        return 1;
    if (list_members(w) < 0)
        return -ERR_NO_MEMORY;
    read_states(w);
    apply_changes(w);
    return make_tables(w);
}
