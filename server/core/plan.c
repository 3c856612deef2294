/* plan: the order of work, and reasons to refuse it.
 *
 *   target   the wished members, and the table that they should have    plan_target.c
 *   steps    which slots change, in which order, and whether they can   plan_steps.c
 *   checks   what the whole comes to: zones and disks                   here
 *
 * Disks. What comes in is written before what goes out is dropped, so a node needs room for all
 * that comes in beside what it has. Most plans have the fewest steps that their shares allow, and
 * then no node both gives and takes, so that this is exact and the order of steps does not matter.
 */
#include "server/core/plan_impl.h"

/* Tables of the largest ring, claims of it and ranked steps: 16384 partitions x 8. */
#define SCRATCH_BYTES (32u << 20)

void plan_refuse(struct plan_work *w, enum plan_reason reason, uint32_t member, uint32_t partition,
                 uint64_t n, uint64_t limit)
{
    struct plan *plan = &w->plan;

    for (size_t k = 0; k < plan->n_refusals; k++)
        if (plan->refusals[k].reason == reason && plan->refusals[k].member == member &&
            member != PLAN_NONE) {
            plan->refusals[k].figure += n;
            return;
        }
    if (plan->n_refusals == PLAN_REFUSALS_MAX) {
        plan->n_refusals_more++;
        return;
    }
    plan->refusals[plan->n_refusals++] = (struct plan_refusal){
        .reason = reason, .member = member, .partition = partition, .figure = n, .limit = limit};
}

static void check_zones(struct plan_work *w)
{
    if (w->plan.violations_after > w->plan.violations_before)
        plan_refuse(w, PLAN_ZONE_RULE, PLAN_NONE, PLAN_NONE, w->plan.violations_after,
                    w->plan.violations_before);
}

static void check_disks(struct plan_work *w)
{
    for (uint32_t i = 0; i < w->plan.n_members; i++) {
        struct plan_share *share = &w->plan.shares[i];
        uint64_t permille;

        share->disk_peak_bytes = share->disk_used_bytes + share->bytes_in;
        if (share->disk_bytes == 0 || share->in == 0)
            continue;
        permille = (uint64_t)((unsigned __int128)share->disk_peak_bytes * 1000 / share->disk_bytes);
        if (permille > PLAN_DISK_PERMILLE)
            plan_refuse(w, PLAN_DISK, i, PLAN_NONE, permille, PLAN_DISK_PERMILLE);
    }
}

static int make(struct plan_work *w)
{
    int r;

    w->plan.refusals = arena_alloc(w->arena, PLAN_REFUSALS_MAX * sizeof(*w->plan.refusals));
    if (!w->plan.refusals)
        return -ERR_NO_MEMORY;
    r = plan_target(w);
    if (r != 0)
        return r < 0 ? r : 0;
    r = plan_steps(w);
    if (r < 0)
        return r;
    check_zones(w);
    check_disks(w);
    return 0;
}

int plan_make(const struct plan_input *in, struct arena *arena, struct plan *ret)
{
    struct plan_work w = {.in = in,
                          .ring = ring_wire(in->ring),
                          .arena = arena,
                          .plan = {.epoch = ring_epoch(in->ring),
                                   .zone_cost_member = PLAN_NONE,
                                   .zone_cost_permille = 1000}};
    int r;

    arena_init(&w.scratch, SCRATCH_BYTES);
    r = make(&w);
    if (r == 0)
        *ret = w.plan;
    arena_deinit(&w.scratch);
    return r;
}

const char *plan_reason_name(enum plan_reason reason)
{
    switch (reason) {
    case PLAN_UNKNOWN_MEMBER:
        return "UNKNOWN_MEMBER";
    case PLAN_ALREADY_MEMBER:
        return "ALREADY_MEMBER";
    case PLAN_NAME_TAKEN:
        return "NAME_TAKEN";
    case PLAN_CHANGED_TWICE:
        return "CHANGED_TWICE";
    case PLAN_BAD_WEIGHT:
        return "BAD_WEIGHT";
    case PLAN_BAD_MEMBER:
        return "BAD_MEMBER";
    case PLAN_STILL_UP:
        return "STILL_UP";
    case PLAN_TOO_MANY:
        return "TOO_MANY";
    case PLAN_BUSY:
        return "BUSY";
    case PLAN_FEW_NODES:
        return "FEW_NODES";
    case PLAN_ZONE_RULE:
        return "ZONE_RULE";
    case PLAN_DISK:
        return "DISK";
    case PLAN_TARGET_DOWN:
        return "TARGET_DOWN";
    case PLAN_SOURCE_DOWN:
        return "SOURCE_DOWN";
    case PLAN_NO_QUORUM:
        return "NO_QUORUM";
    case PLAN_NO_SPARE:
        return "NO_SPARE";
    case PLAN_GROW_NEEDS_ALL:
        return "GROW_NEEDS_ALL";
    }
    return "UNKNOWN";
}
