/* plan_steps: which slots change, in which order, and whether they can.
 *
 * claim keeps who stays in its slot and seats newcomers in slots of their own zone first, so the
 * steps of a partition are simply the slots whose member differs. Any order of them is legal; the
 * one chosen is the one that an operator would want if the plan were stopped at any point:
 *
 *   1. slots that have lost their replica or never had it, partitions with the fewest live replicas
 *      first;
 *   2. slots of nodes that are to be emptied;
 *   3. the rest, scattered over the partitions, so that no node is the target of many in a row.
 *
 * Then the list is gone through as if it were done, one step at a time. That finds out what cannot
 * be: a node on either side that is down, or a partition in which too few others are up to fence
 * and copy (REPLACE: a quorum of those that stay; GROW: all), or that would be without a quorum
 * while its slot changes hands, though it would not be if all were up. It also deals out the
 * sources of copies whose own is lost, to the holder that reads least, and the role of primary,
 * which leaves a slot before it changes and goes to its final place when all is done.
 */
#include "server/core/plan_impl.h"

#include <stdlib.h>

/* A step with what it is ordered by. */
struct ranked {
    struct plan_step step;
    uint32_t urgency;
    uint64_t scatter; /* of the partition */
};

/* Urgency: live replicas of what lacks one, then these. */
#define URGENCY_DRAIN (LIMIT_SLOTS_MAX + 1)
#define URGENCY_BALANCE (LIMIT_SLOTS_MAX + 2)

/* splitmix64's finish */
static uint64_t scatter(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* ---- the list ---------------------------------------------------------------------------- */

static bool is_up(const struct plan_work *w, uint32_t member)
{
    return member != PLAN_NONE && w->plan.shares[member].up;
}

/* Slots of a row whose member is up, and how many there are at all. */
static uint32_t count_up(const struct plan_work *w, const uint32_t *row, uint32_t *ret_slots)
{
    uint32_t n_up = 0, n = 0;

    for (uint32_t s = 0; s < w->plan.n_slots; s++) {
        n += row[s] != PLAN_NONE;
        n_up += is_up(w, row[s]);
    }
    if (ret_slots)
        *ret_slots = n;
    return n_up;
}

static enum plan_step_kind kind_of(const struct plan_work *w, uint32_t from)
{
    if (from == PLAN_NONE)
        return PLAN_STEP_GROW;
    return w->dead[from] ? PLAN_STEP_REPLACE : PLAN_STEP_MOVE;
}

/* Appends the steps of one kind; what lacks a replica has one more after each. */
static uint32_t list_kind(struct plan_work *w, uint32_t partition, enum plan_step_kind kind,
                          struct ranked *list, uint32_t live)
{
    const uint32_t *before = plan_row(w, w->before, partition);
    const uint32_t *after = plan_row(w, w->after, partition);
    uint32_t n = 0;

    for (uint32_t s = 0; s < w->plan.n_slots; s++) {
        struct ranked *r = &list[n];

        if (before[s] == after[s] || kind_of(w, before[s]) != kind)
            continue;
        r->step = (struct plan_step){.kind = kind,
                                     .partition = partition,
                                     .slot = s,
                                     .from = before[s],
                                     .to = after[s],
                                     .source = before[s],
                                     .role_to = PLAN_NONE};
        r->scatter = scatter(partition + 1);
        r->urgency = kind != PLAN_STEP_MOVE                   ? live + n
                     : w->plan.members[before[s]].weight == 0 ? URGENCY_DRAIN
                                                              : URGENCY_BALANCE;
        n++;
    }
    return n;
}

static uint32_t list_partition(struct plan_work *w, uint32_t partition, struct ranked *list)
{
    uint32_t live = count_up(w, plan_row(w, w->before, partition), NULL), n;

    n = list_kind(w, partition, PLAN_STEP_REPLACE, list, live);
    n += list_kind(w, partition, PLAN_STEP_GROW, list + n, live + n);
    return n + list_kind(w, partition, PLAN_STEP_MOVE, list + n, 0);
}

static int compare_ranked(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;

    if (x->urgency != y->urgency)
        return x->urgency < y->urgency ? -1 : 1;
    if (x->scatter != y->scatter)
        return x->scatter < y->scatter ? -1 : 1;
    return (x->step.slot > y->step.slot) - (x->step.slot < y->step.slot);
}

static int list_steps(struct plan_work *w)
{
    struct plan *plan = &w->plan;
    struct ranked *list;
    size_t n = 0;

    for (size_t k = 0; k < (size_t)w->ring->n_partitions * plan->n_slots; k++)
        n += w->before[k] != w->after[k];
    list = arena_alloc(&w->scratch, n * sizeof(*list));
    plan->steps = arena_alloc(w->arena, n * sizeof(*plan->steps));
    if (!list || !plan->steps)
        return -ERR_NO_MEMORY;
    for (uint32_t p = 0; p < w->ring->n_partitions; p++)
        plan->n_steps += list_partition(w, p, &list[plan->n_steps]);
    qsort(list, plan->n_steps, sizeof(*list), compare_ranked);
    for (size_t k = 0; k < plan->n_steps; k++)
        plan->steps[k] = list[k].step;
    return 0;
}

/* ---- going through it -------------------------------------------------------------------- */

static uint32_t first_down(const struct plan_work *w, const uint32_t *row, uint32_t besides)
{
    for (uint32_t s = 0; s < w->plan.n_slots; s++)
        if (row[s] != PLAN_NONE && row[s] != besides && !is_up(w, row[s]))
            return row[s];
    return PLAN_NONE;
}

/* Whether enough others are up. */
static void check_row(struct plan_work *w, const struct plan_step *step)
{
    const uint32_t *row = plan_row(w, w->now, step->partition);
    uint32_t n, n_up = count_up(w, row, &n), quorum = n / 2 + 1;
    enum plan_reason reason;

    if (step->kind == PLAN_STEP_GROW && n_up < n)
        reason = PLAN_GROW_NEEDS_ALL;
    else if (n_up < quorum)
        reason = PLAN_NO_QUORUM;
    else if (step->kind == PLAN_STEP_MOVE && n - 1 >= quorum && is_up(w, step->from) &&
             n_up - 1 < quorum)
        reason = PLAN_NO_SPARE;
    else
        return;
    plan_refuse(w, reason, first_down(w, row, PLAN_NONE), step->partition, 1, 0);
}

static void check_step(struct plan_work *w, const struct plan_step *step)
{
    if (!is_up(w, step->to))
        plan_refuse(w, PLAN_TARGET_DOWN, step->to, step->partition, 1, 0);
    if (step->kind == PLAN_STEP_MOVE && !is_up(w, step->from))
        plan_refuse(w, PLAN_SOURCE_DOWN, step->from, step->partition, 1, 0);
    check_row(w, step);
}

/* Of those that hold the partition and are up the one that others read from least so far. */
static uint32_t choose_source(const struct plan_work *w, const struct plan_step *step)
{
    const uint32_t *row = plan_row(w, w->now, step->partition);
    uint32_t best = PLAN_NONE;

    if (step->kind == PLAN_STEP_MOVE)
        return step->from;
    for (uint32_t k = 0; k < w->plan.n_slots; k++) {
        /* not always from the first slot, or it would win all ties */
        uint32_t member = row[(step->partition + k) % w->plan.n_slots];

        if (is_up(w, member) &&
            (best == PLAN_NONE || w->plan.shares[member].out < w->plan.shares[best].out))
            best = member;
    }
    return best;
}

/* Slots that can be primary while another one changes: the better ones are greater. */
static int role_rank(const struct plan_work *w, uint32_t partition, uint32_t slot)
{
    const uint32_t *now = plan_row(w, w->now, partition);
    bool stays = now[slot] == plan_row(w, w->after, partition)[slot];

    if (!is_up(w, now[slot]))
        return 0;
    if (slot == w->primary_after[partition] && stays)
        return 3;
    return stays ? 2 : 1;
}

static uint32_t choose_role(const struct plan_work *w, const struct plan_step *step)
{
    uint32_t best = PLAN_NONE;
    int rank = 0;

    if (step->kind == PLAN_STEP_GROW || w->primary_now[step->partition] != step->slot)
        return PLAN_NONE;
    for (uint32_t s = 0; s < w->plan.n_slots; s++)
        if (s != step->slot && role_rank(w, step->partition, s) > rank) {
            best = s;
            rank = role_rank(w, step->partition, s);
        }
    return best;
}

static void count_step(struct plan_work *w, const struct plan_step *step)
{
    uint64_t bytes = w->in->partition_bytes ? w->in->partition_bytes[step->partition] : 0;

    w->plan.bytes += bytes;
    w->plan.shares[step->to].in++;
    w->plan.shares[step->to].bytes_in += bytes;
    if (step->source != PLAN_NONE) {
        w->plan.shares[step->source].out++;
        w->plan.shares[step->source].bytes_out += bytes;
    }
}

static void go_through(struct plan_work *w)
{
    for (size_t k = 0; k < w->plan.n_steps; k++) {
        struct plan_step *step = &w->plan.steps[k];

        check_step(w, step);
        step->source = choose_source(w, step);
        step->role_to = choose_role(w, step);
        if (step->role_to != PLAN_NONE)
            w->primary_now[step->partition] = step->role_to;
        plan_row(w, w->now, step->partition)[step->slot] = step->to;
        count_step(w, step);
    }
}

static int list_switches(struct plan_work *w)
{
    struct plan *plan = &w->plan;
    size_t n = 0;

    for (uint32_t p = 0; p < w->ring->n_partitions; p++)
        n += w->primary_now[p] != w->primary_after[p];
    plan->switches = arena_alloc(w->arena, n * sizeof(*plan->switches));
    if (!plan->switches)
        return -ERR_NO_MEMORY;
    for (uint32_t p = 0; p < w->ring->n_partitions; p++)
        if (w->primary_now[p] != w->primary_after[p])
            plan->switches[plan->n_switches++] =
                (struct plan_switch){.partition = p, .slot = w->primary_after[p]};
    return 0;
}

int plan_steps(struct plan_work *w)
{
    if (list_steps(w) < 0)
        return -ERR_NO_MEMORY;
    go_through(w);
    return list_switches(w);
}
