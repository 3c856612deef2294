/* coordinator_put: put and delete.
 *
 *   STAMP --(clock)--> WRITE --W acks--> reply
 *                        |--superseded, fewer than W acks--> stamp above the highest seen, as
 *                        |                                   state; WRITE again (next round)
 *                        |--too few slots left--> error
 *
 * The write goes to all slots that are up, READY and JOINING, and is acknowledged when W READY
 * slots have it durable. A first superseded answer means that some clock is or was ahead: the write
 * is stamped once more just above the highest version seen, so that an acknowledged write is newer
 * than every write acknowledged before it began, whatever the clocks do. After that, superseded by
 * a record means a concurrent write won: as good as an ack. Superseded by a purge floor stored
 * nothing and never counts: stamp again.
 *
 * The re-stamped version goes out as state, which no replica's clock guard refuses and no clock
 * adopts: a key poisoned by a clock that ran ahead stays writable.
 */
#include "server/core/op.h"
#include "server/core/replica.h"

/* ---- asking -------------------------------------------------------------------------------- */

static void put_ask(struct worker *w, struct op *op, uint32_t slot, struct effects *out)
{
    struct wire_peer msg;

    msg.type = PEER_PUT;
    msg.u.put.key = op->key;
    msg.u.put.state = op->state;
    msg.u.put.first_hand = op->first_hand;
    msg.u.put.source = 0;
    op->slots[slot].maybe = true;
    op_ask(w, op, slot, &msg, out);
}

/* Asks every slot that has not answered and is due; returns when to look again. */
static uint64_t put_ask_due(struct worker *w, struct op *op, struct effects *out)
{
    uint64_t next = op->deadline_ms;

    for (uint32_t i = 0; i < op->entry.n_slots; i++) {
        struct op_slot *s = &op->slots[i];
        uint64_t due = w->now_ms;

        if (op->entry.slots[i].state == SLOT_NONE || s->phase == PHASE_DONE ||
            s->phase == PHASE_REFUSED)
            continue;
        if (!op_slot_reachable(w, op, i)) {
            s->lost = s->lost || s->phase == PHASE_ASKED; /* it may have arrived all the same */
            s->phase = PHASE_DOWN;
            continue;
        }
        if (s->phase == PHASE_RETRY) {
            due = s->asked_ms + op_backoff_ms(s);
        } else if (s->phase == PHASE_ASKED) {
            due = s->asked_ms + op_resend_ms(w, op, i);
        }
        if (due <= w->now_ms) {
            s->lost = s->lost || s->phase == PHASE_ASKED;
            put_ask(w, op, i, out);
            due = w->now_ms + op_resend_ms(w, op, i);
        }
        next = due < next ? due : next;
    }
    return next;
}

/* ---- stamping ------------------------------------------------------------------------------ */

static void put_renew_clock(struct worker *w, struct effects *out)
{
    uint64_t bound = clock_renewal(&w->clock, w->wall_ms);
    struct effect *e;

    if (!bound)
        return;
    e = worker_emit(out, EFFECT_STORE);
    e->u.store.type = STORE_OP_CLOCK;
    e->u.store.cookie = COOKIE_CLOCK;
    e->u.store.until_ms = 0;
    e->u.store.clock = bound;
    e->u.store.owner = NULL;
}

static void put_wait_for_clock(struct worker *w, struct op *op, int verdict, struct effects *out)
{
    if (op->stage != STAGE_STAMP) {
        op->stage = STAGE_STAMP;
        list_append(&w->stamping, &op->stamping);
        worker_trace(out, TRACE_CLOCK_WAIT, w->clock.bound_ms, w->wall_ms);
    }
    /* A lease wakes us up when it is durable; the wall clock must be looked at, each millisecond
     * for the few hundred that this lasts after a start. */
    op_arm(w, op, verdict == CLOCK_WAIT_START ? w->now_ms + 1 : op->deadline_ms);
}

static bool put_has_quorum(const struct worker *w, const struct op *op)
{
    uint32_t up = 0, joining = 0;

    for (uint32_t i = 0; i < op->entry.n_slots; i++) {
        joining += op->entry.slots[i].state == SLOT_JOINING;
        up += op->entry.slots[i].state == SLOT_READY && op_slot_reachable(w, op, i);
    }
    return up >= op->need && !(op->level == LEVEL_ALL && joining);
}

/* Begins the first round once the clock gives a version; the deadline's timer stays armed. */
void put_stamp(struct worker *w, struct op *op, struct effects *out)
{
    int verdict = clock_stamp(&w->clock, w->wall_ms, &op->state.version);

    if (verdict < 0) {
        op_reply_error(w, op, -verdict, out);
        return;
    }
    put_renew_clock(w, out);
    if (verdict > 0) {
        put_wait_for_clock(w, op, verdict, out);
        return;
    }
    list_remove(&op->stamping);
    if (!put_has_quorum(w, op)) { /* it was there when the wait for the clock began */
        op_reply_error(w, op, ERR_NO_QUORUM, out);
        return;
    }
    op->stage = STAGE_WRITE;
    op->first_hand = true;
    put_review(w, op, out);
}

void put_start(struct worker *w, struct op *op, struct effects *out)
{
    op->state.kind = STATE_LWW;
    op->state.deleted = op->kind == OP_DELETE;
    op->stage = 0;
    if (!put_has_quorum(w, op)) {
        op_reply_error(w, op, ERR_NO_QUORUM, out);
        return;
    }
    if (!list_empty(&w->stamping)) { /* in turn: who came first is stamped first */
        put_wait_for_clock(w, op, CLOCK_WAIT_LEASE, out);
        return;
    }
    put_stamp(w, op, out);
}

/* A version just above `highest` that our clock cannot or must not reach. It must differ from every
 * other version of this key. From normal stamps it differs by its actor, which also names this
 * start of the node; from other forced ones by its low bits, a running number: a repetition takes
 * 65,536 re-stamped writes and the same millisecond. */
static struct version put_force_version(struct worker *w, uint64_t highest)
{
    uint64_t n = w->forced_n++;
    uint64_t ms = version_wall_ms(highest) + 1;

    if (ms > version_wall_ms(UINT64_MAX)) /* no honest clock: there is nothing above it */
        return (struct version){0};
    return (struct version){.hlc = version_hlc_from_ms(ms) | (n & 0xffff),
                            .actor = w->forced_actor};
}

/* Above the highest version seen, and not below our own clock. */
static void put_restamp(struct worker *w, struct op *op, struct effects *out)
{
    uint64_t highest = op->state.version.hlc;
    struct version own;

    for (uint32_t i = 0; i < op->entry.n_slots; i++) {
        const struct op_slot *s = &op->slots[i];

        if (s->phase == PHASE_DONE && s->answer.version.hlc > highest)
            highest = s->answer.version.hlc;
    }
    if (clock_stamp(&w->clock, w->wall_ms, &own) == CLOCK_OK && own.hlc > highest)
        op->state.version = own;
    else
        op->state.version = put_force_version(w, highest);
    op->first_hand = false;
    op->round++;
    w->stats.n_restamped++;
    worker_trace(out, TRACE_RESTAMP, op->partition, op->state.version.hlc);
    for (uint32_t i = 0; i < op->entry.n_slots; i++) {
        struct op_slot *s = &op->slots[i];

        if (s->phase == PHASE_DONE && s->outcome >= OUTCOME_SUPERSEDED)
            s->maybe = s->lost; /* this slot kept nothing of the round */
        else
            s->lost = s->maybe;
        s->phase = PHASE_IDLE;
        s->outcome = OUTCOME_NONE;
        s->tries = 0;
    }
}

/* ---- deciding ------------------------------------------------------------------------------ */

static void put_reply(struct worker *w, struct op *op, uint32_t acks, struct effects *out)
{
    struct wire_response res = {.type = RESULT_WRITE};

    res.u.write.version = op->state.version;
    res.u.write.replicas = acks;
    op_reply(w, op, &res, out);
}

/* Superseded by a record counts once the write has been stamped anew: a concurrent write. (Not
 * "from the second round on": a new ring begins a round under the same stamp.) */
static uint32_t put_acks(const struct op *op)
{
    uint32_t acks = 0;

    for (uint32_t i = 0; i < op->entry.n_slots; i++) {
        const struct op_slot *s = &op->slots[i];

        if (op->entry.slots[i].state != SLOT_READY || s->phase != PHASE_DONE)
            continue;
        acks += s->outcome == OUTCOME_STORED || s->outcome == OUTCOME_DUPLICATE ||
                (s->outcome == OUTCOME_SUPERSEDED && !op->first_hand &&
                 version_compare(s->answer.version, op->state.version) > 0);
    }
    return acks;
}

/* W acks cannot be had any more. If the only slots that may hold the write are still to answer,
 * they are waited for: their refusal turns "unknown" into "nothing was written". */
static bool put_give_up(struct worker *w, struct op *op, const struct op_tally *t,
                        struct effects *out)
{
    bool settled = t->asked == 0;

    for (uint32_t i = 0; i < op->entry.n_slots; i++)
        settled = settled || (op->slots[i].maybe && op->slots[i].phase != PHASE_ASKED);
    if (!settled)
        return false;
    if (t->maybe)
        op_reply_error(w, op, ERR_UNKNOWN_OUTCOME, out);
    else if (t->refusal && !op_refusal_passes(t->refusal))
        op_reply_error(w, op, t->refusal, out);
    else
        op_reply_error(w, op, ERR_NO_QUORUM, out);
    return true;
}

/* True when the operation has ended. */
static bool put_decide(struct worker *w, struct op *op, struct effects *out)
{
    struct op_tally t = op_tally(op);
    uint32_t acks = put_acks(op);
    bool may_restamp = op->round < COORDINATOR_ROUNDS_MAX;

    if (acks >= op->need) {
        put_reply(w, op, acks, out);
        return true;
    }
    if (t.done >= op->need && may_restamp) {
        put_restamp(w, op, out); /* W answers, and not all of them acks: superseded */
        if (!version_is_none(op->state.version))
            return false;
        op_reply_error(w, op, t.maybe ? ERR_UNKNOWN_OUTCOME : ERR_CLOCK, out);
        return true;
    }
    /* A superseded slot will take the next stamp. Slots that are down may come back within the
     * deadline; as long as nobody can hold the write it is better to say so at once. */
    if ((may_restamp ? t.done : acks) + t.asked + t.retry + t.idle + (t.maybe ? t.down : 0) <
        op->need)
        return put_give_up(w, op, &t, out);
    return false;
}

void put_review(struct worker *w, struct op *op, struct effects *out)
{
    if (op->stage == STAGE_STAMP) {
        op_arm(w, op, op->deadline_ms); /* drain_stamping looks at it in turn */
        return;
    }
    op_arm(w, op, put_ask_due(w, op, out));
    if (!put_decide(w, op, out)) /* which may have begun a round: ask for it */
        op_arm(w, op, put_ask_due(w, op, out));
}

/* A refusal before anything was stored. The slot may still hold the write from an earlier message,
 * but only if one went unanswered. */
static void put_refused(struct op *op, uint32_t slot, int err)
{
    struct op_slot *s = &op->slots[slot];

    s->refusal = (uint16_t)err;
    s->phase = op_refusal_passes(err) ? PHASE_RETRY : PHASE_REFUSED;
    if (!s->lost)
        s->maybe = false;
}

void put_recv(struct worker *w, struct op *op, uint32_t slot, const struct wire_peer *msg,
              struct effects *out)
{
    struct op_slot *s = &op->slots[slot];
    uint8_t round = op->round;

    if (msg->error) {
        put_refused(op, slot, msg->error);
    } else {
        if (s->tries == 1 && s->phase == PHASE_ASKED)
            latency_add(&w->nodes[op->entry.slots[slot].node].writes, w->now_ms,
                        w->now_ms - s->asked_ms);
        s->phase = PHASE_DONE;
        s->outcome = (uint8_t)msg->u.put_reply.outcome;
        s->answer.version = msg->u.put_reply.version;
    }
    if (put_decide(w, op, out))
        return;
    if (msg->error || op->round != round)
        op_arm(w, op, put_ask_due(w, op, out));
}
