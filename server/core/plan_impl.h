/* plan_impl: what the parts of plan share. Private to plan*.c.
 */
#ifndef QUOIT_CORE_PLAN_IMPL_H
#define QUOIT_CORE_PLAN_IMPL_H

#include "server/core/claim.h"
#include "server/core/plan.h"

struct plan_work {
    const struct plan_input *in;
    const struct wire_ring *ring;
    struct arena *arena, scratch;
    struct plan plan;
    bool *dead; /* per member: down and to leave, so its slots are replaced and not moved */
    /* Tables of n_slots (the plan's) columns, of members or PLAN_NONE: today's, the one to come,
     * and the one in which the steps so far have been done. And the primary slots in them. */
    uint32_t *before, *after, *now;
    uint32_t *primary_before, *primary_after, *primary_now;
};

static inline uint32_t *plan_row(const struct plan_work *w, uint32_t *table, uint32_t partition)
{
    return &table[(size_t)partition * w->plan.n_slots];
}

/* Counts `n` more of a reason; those of one reason and member are one refusal. */
void plan_refuse(struct plan_work *w, enum plan_reason reason, uint32_t member, uint32_t partition,
                 uint64_t n, uint64_t limit);

/* ---- plan_target.c: the wished members and table ------------------------------------------ */

/* Fills the plan's members, dead and the tables before and after. 1: the request makes no sense,
 * which refusals tell; -ERR_NO_MEMORY. */
int plan_target(struct plan_work *w);

/* ---- plan_steps.c: what leads there ------------------------------------------------------- */

/* Fills steps and switches; refuses those that cannot be done with the nodes that are up. */
int plan_steps(struct plan_work *w);

#endif
