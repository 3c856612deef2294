/* hedge: which slots a read asks first, and when it asks one more.
 *
 * Order: this node's own slot (coordinator_read.c); then nodes that answer before those that have
 * been late of late, and those before suspects; among equals the same zone, then the primary; then
 * whoever a random start gives, so that readers spread.
 *
 * When: after the time in which the fastest slot not yet asked would almost surely have answered,
 * the recent 95th percentile of its node's answers. So it is not the slow node's own slowness that
 * is waited for, and a near slot is not hedged by a far one sooner than the way there takes. (Dean
 * and Barroso, "The tail at scale", 2013.) Hedges are a small share of the reads at most; a read
 * that gets none waits until its question is asked again.
 *
 * A node that is slow for longer would use that share up and leave most reads waiting. So after
 * some late answers in a row it goes to the end of the order, but is tried again each second: a
 * replica that hangs costs a few reads a hedge, per second, and none a time-out.
 *
 * Counted are first questions alone; whose answer it was that came after a second one, nobody can
 * tell (Karn's rule).
 */
#include "server/core/hedge.h"

void hedge_init(struct worker *w)
{
    w->hedge_credit = 100 * HEDGE_BURST;
}

void hedge_earn(struct worker *w)
{
    if (w->hedge_credit + HEDGE_SHARE_PERCENT <= 100 * HEDGE_BURST)
        w->hedge_credit += HEDGE_SHARE_PERCENT;
}

bool hedge_take(struct worker *w)
{
    if (w->hedge_credit < 100)
        return false;
    w->hedge_credit -= 100;
    return true;
}

uint32_t hedge_rank(const struct worker *w, const struct op *op, uint32_t slot)
{
    const struct node_state *n = &w->nodes[op->entry.slots[slot].node];
    uint32_t trust = n->suspect ? 0 : w->now_ms < n->reads.slow_until_ms ? 1 : 2;

    return 4 * trust + 2 * n->near + (slot == op->entry.primary);
}

uint32_t hedge_delay_ms(const struct worker *w, const struct op *op)
{
    bool known = op->kind == OP_GET && op->stage == STAGE_READ; /* pages and writes take longer */
    uint32_t best = UINT32_MAX;

    for (uint32_t i = 0; i < op->entry.n_slots; i++) {
        uint32_t ms;

        if (op->entry.slots[i].state != SLOT_READY || op->slots[i].phase != PHASE_IDLE ||
            !op_slot_reachable(w, op, i))
            continue;
        ms = latency_p95_ms(&w->nodes[op->entry.slots[i].node].reads.latency);
        if (!known || ms == LATENCY_UNKNOWN)
            ms = HEDGE_UNKNOWN_MS;
        else if (ms < HEDGE_MIN_MS)
            ms = HEDGE_MIN_MS;
        else if (ms > HEDGE_MAX_MS)
            ms = HEDGE_MAX_MS;
        best = ms < best ? ms : best;
    }
    return best;
}

void hedge_late(struct worker *w, struct op *op, uint32_t slot)
{
    struct hedge_node *n = &w->nodes[op->entry.slots[slot].node].reads;
    struct op_slot *s = &op->slots[slot];

    if (s->late || s->tries != 1 || op->kind != OP_GET || op->stage != STAGE_READ)
        return;
    s->late = true;
    if (n->n_late == 0)
        n->late_since_ms = s->asked_ms;
    if (n->n_late < HEDGE_LATE_MIN)
        n->n_late++;
    if (n->n_late == HEDGE_LATE_MIN && w->now_ms - n->late_since_ms >= HEDGE_LATE_MS)
        n->slow_until_ms = w->now_ms + HEDGE_SLOW_MS;
}

void hedge_answered(struct worker *w, struct op *op, uint32_t slot)
{
    struct hedge_node *n = &w->nodes[op->entry.slots[slot].node].reads;
    struct op_slot *s = &op->slots[slot];

    if (s->tries != 1)
        return;
    latency_add(&n->latency, w->now_ms, w->now_ms - s->asked_ms);
    if (!s->late)
        n->n_late = 0;
    s->late = false;
}

void hedge_ended(struct worker *w, const struct op *op)
{
    for (uint32_t i = 0; i < op->entry.n_slots; i++) {
        const struct op_slot *s = &op->slots[i];

        if (s->late && s->phase == PHASE_ASKED && s->tries == 1)
            latency_add(&w->nodes[op->entry.slots[i].node].reads.latency, w->now_ms,
                        w->now_ms - s->asked_ms);
    }
}
