/* coordinator_read: which slots a read asks, shared by get and scan.
 *
 * A read asks W slots, this node's own first and then those that are alive, near and primary
 * (hedge.c). A slot that goes down or refuses is replaced by the next; one that is slow is hedged:
 * after the recent p95 the next is asked as well and whoever answers counts; one that stays silent
 * is asked again, for messages can be lost without their node going down. When fewer than W answers
 * can still come, the read ends with NO_QUORUM or the most telling refusal. Reads have no effect,
 * so they may be asked anywhere, any number of times.
 */
#include "server/core/hedge.h"
#include <assert.h>

int read_pick(struct worker *w, const struct op *op)
{
    uint32_t n = op->entry.n_slots;
    uint32_t start = n > 1 ? (uint32_t)prng_below(&w->prng, n) : 0;
    int best = -1;

    for (uint32_t i = 0; i < n; i++) {
        uint32_t s = (start + i) % n;

        if (op->entry.slots[s].state != SLOT_READY || op->slots[s].phase != PHASE_IDLE ||
            !op_slot_reachable(w, op, s))
            continue;
        if (op->entry.slots[s].node == w->node)
            return (int)s;
        if (best < 0 || hedge_rank(w, op, s) > hedge_rank(w, op, (uint32_t)best))
            best = (int)s;
    }
    return best;
}

/* Slots that went down since they were asked, and refusals whose pause is over. Returns when the
 * next pause ends. */
static uint64_t read_refresh(struct worker *w, struct op *op)
{
    uint64_t next = op->deadline_ms;

    for (uint32_t i = 0; i < op->entry.n_slots; i++) {
        struct op_slot *s = &op->slots[i];
        uint64_t due = s->asked_ms + op_backoff_ms(s);

        if (s->phase == PHASE_ASKED && !op_slot_reachable(w, op, i))
            s->phase = PHASE_DOWN;
        else if (s->phase == PHASE_DOWN && op_slot_reachable(w, op, i))
            s->phase = PHASE_IDLE;
        else if (s->phase == PHASE_RETRY && due <= w->now_ms)
            s->phase = PHASE_IDLE;
        else if (s->phase == PHASE_RETRY && due < next)
            next = due;
    }
    return next;
}

/* Asks the next slot, and returns it; -1 when there is none. */
static int read_ask_one(struct worker *w, struct op *op, read_ask_fn *ask, struct effects *out)
{
    int slot = read_pick(w, op);

    if (slot >= 0)
        ask(w, op, (uint32_t)slot, out);
    return slot;
}

/* When the slowest outstanding answer deserves a hedge; UINT64_MAX if none is outstanding, or
 * nobody is left to ask. */
static uint64_t read_hedge_ms(const struct worker *w, const struct op *op)
{
    uint32_t delay = hedge_delay_ms(w, op);
    uint64_t last = 0;

    for (uint32_t i = 0; i < op->entry.n_slots; i++)
        if (op->slots[i].phase == PHASE_ASKED && op->slots[i].asked_ms > last)
            last = op->slots[i].asked_ms;
    return last && delay != UINT32_MAX ? last + delay : UINT64_MAX;
}

/* Asks one more slot, if there is credit for it; returns when the next hedge is due. */
static uint64_t read_hedge(struct worker *w, struct op *op, read_ask_fn *ask, struct effects *out)
{
    int slot;

    for (uint32_t i = 0; i < op->entry.n_slots; i++)
        if (op->slots[i].phase == PHASE_ASKED)
            hedge_late(w, op, i);
    if (!hedge_take(w))
        return UINT64_MAX; /* until a silent slot is asked again */
    slot = read_ask_one(w, op, ask, out);
    assert(slot >= 0); /* else none would have been due */
    w->stats.n_hedges++;
    worker_trace(out, TRACE_HEDGE, op->partition, (uint64_t)slot);
    return read_hedge_ms(w, op);
}

/* Asks silent slots again; returns when the next one is due. */
static uint64_t read_resend(struct worker *w, struct op *op, read_ask_fn *ask, struct effects *out)
{
    uint64_t next = op->deadline_ms;

    for (uint32_t i = 0; i < op->entry.n_slots; i++) {
        struct op_slot *s = &op->slots[i];
        uint64_t due;

        if (s->phase != PHASE_ASKED)
            continue;
        if (s->asked_ms + op_resend_ms(w, op, i) <= w->now_ms)
            ask(w, op, i, out);
        due = s->asked_ms + op_resend_ms(w, op, i);
        next = due < next ? due : next;
    }
    return next;
}

void read_review(struct worker *w, struct op *op, read_ask_fn *ask, struct effects *out)
{
    uint64_t next = read_refresh(w, op);
    struct op_tally t = op_tally(op);
    uint64_t hedge, resend;

    while (t.done + t.asked < op->need && read_ask_one(w, op, ask, out) >= 0)
        t = op_tally(op);
    if (t.done + t.asked + t.retry < op->need) {
        op_reply_error(w, op,
                       t.refusal && !op_refusal_passes(t.refusal) ? t.refusal : ERR_NO_QUORUM, out);
        return;
    }
    hedge = read_hedge_ms(w, op);
    if (t.done < op->need && hedge <= w->now_ms)
        hedge = read_hedge(w, op, ask, out);
    resend = read_resend(w, op, ask, out);
    next = resend < next ? resend : next;
    op_arm(w, op, hedge < next ? hedge : next);
}

void read_start(struct worker *w, struct op *op, read_ask_fn *ask, struct effects *out)
{
    for (uint32_t i = 0; op->level == LEVEL_ALL && i < op->entry.n_slots; i++) {
        if (op->entry.slots[i].state != SLOT_JOINING)
            continue;
        op_reply_error(w, op, ERR_NO_QUORUM, out); /* "all" cannot be had while one is filling */
        return;
    }
    hedge_earn(w);
    read_review(w, op, ask, out);
}

void read_refused(struct worker *w, struct op *op, uint32_t slot, int err, read_ask_fn *ask,
                  struct effects *out)
{
    struct op_slot *s = &op->slots[slot];

    s->refusal = (uint16_t)err;
    s->phase = op_refusal_passes(err) ? PHASE_RETRY : PHASE_REFUSED;
    s->asked_ms = w->now_ms;
    read_review(w, op, ask, out);
}
