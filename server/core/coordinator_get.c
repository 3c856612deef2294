/* coordinator_get: reads of one key.
 *
 *   READ --W answers agree, state at hand--> reply
 *     |    W answers agree, only digests --> FETCH the state from a holder --> (as below)
 *     |    W answers disagree -------------> FETCH the newest if needed --> BACK: write it to slots
 *     |                                      until W hold it --> reply
 *     '--all absent------------------------> reply "not found"
 *
 * One slot is asked for the whole state and the others for a digest. A get at quorum or all answers
 * a value only once W slots hold it: then no later quorum read can return an older one, although
 * the write that it saw may never have been acknowledged. What is written back is the state as it
 * is, under its own version: merging it anywhere is harmless. Slots beyond W get it after the
 * answer, within bounds: repair.c.
 *
 * A fetch that is slow is hedged like any read: the next slot is asked for its whole state in the
 * same round, and the announced one is still waited for. Only a slot that goes down or refuses is
 * given up.
 *
 * A slot that answers absent says up to where deletions are closed (quorum.c). A live value below
 * that was deleted and purged between the two answers; then all are asked anew. If it is so once
 * more, one of the slots has lost the record, or another has brought an old one back: that is
 * damage, and answered as such, not as "not found".
 *
 * Each change of stage starts a new round, so that answers to the stage before match nothing.
 */
#include "server/core/hedge.h"
#include "server/core/repair.h"
#include "storage/merge.h"

static void get_decide(struct worker *w, struct op *op, struct effects *out);

/* ---- asking -------------------------------------------------------------------------------- */

/* Somebody has sent the whole state, or was asked for it a moment ago. */
static bool get_has_full(const struct worker *w, const struct op *op)
{
    uint32_t delay = hedge_delay_ms(w, op);

    for (uint32_t i = 0; i < op->entry.n_slots; i++) {
        const struct op_slot *s = &op->slots[i];

        if (s->full && (s->phase == PHASE_DONE ||
                        (s->phase == PHASE_ASKED && w->now_ms < s->asked_ms + delay)))
            return true;
    }
    return false;
}

static void get_ask(struct worker *w, struct op *op, uint32_t slot, struct effects *out)
{
    struct wire_peer msg;

    op->slots[slot].full = op->stage == STAGE_FETCH || !get_has_full(w, op);
    msg.type = PEER_GET;
    msg.u.get.key = op->key;
    msg.u.get.digest = !op->slots[slot].full;
    op_ask(w, op, slot, &msg, out);
}

/* ---- replying ------------------------------------------------------------------------------ */

/* What is known and held by `replicas` slots. state may borrow from the event under way. */
static void get_reply(struct worker *w, struct op *op, const struct state *state, uint32_t replicas,
                      struct effects *out)
{
    struct wire_response res = {.type = RESULT_GET};

    res.u.get.replicas = replicas;
    if (state->kind != STATE_NONE) {
        res.u.get.found = !state->deleted;
        res.u.get.version = state->version;
        if (!state->deleted)
            res.u.get.value = state->value;
    }
    op_reply(w, op, &res, out);
}

/* ---- stages -------------------------------------------------------------------------------- */

static void get_new_round(struct op *op, enum op_stage stage)
{
    op->stage = (uint8_t)stage;
    op->round++;
    for (uint32_t i = 0; i < op->entry.n_slots; i++)
        if (op->slots[i].phase == PHASE_ASKED) /* its answer will match nothing */
            op->slots[i].phase = PHASE_IDLE;
}

/* The slot that holds the newest state answered with a digest: ask it for the state. */
static void get_fetch(struct worker *w, struct op *op, uint32_t slot, struct effects *out)
{
    get_new_round(op, STAGE_FETCH);
    op->slots[slot].tries = 0;
    get_ask(w, op, slot, out);
    op_arm(w, op, w->now_ms + COORDINATOR_FETCH_HEDGE_MS);
}

static void get_back_ask(struct worker *w, struct op *op, uint32_t slot, struct effects *out)
{
    struct wire_peer msg;

    msg.type = PEER_PUT;
    msg.u.put.key = op->key;
    msg.u.put.state = op->state;
    msg.u.put.first_hand = false;
    msg.u.put.source = 1 + op->holder;
    op_ask(w, op, slot, &msg, out);
}

/* Holders become DONE; of the slots that answered with less, as many as are needed are written to;
 * the rest stands by. holder: has the newest. */
static void get_back(struct worker *w, struct op *op, uint32_t holder, struct effects *out)
{
    uint32_t n = op->entry.n_slots;
    struct quorum_answer top = op->slots[holder].answer;
    uint32_t written = 0, done = 0;

    get_new_round(op, STAGE_BACK);
    op->holder = holder;
    for (uint32_t i = 0; i < n; i++) {
        op->slots[i].tries = 0;
        op->slots[i].phase = quorum_holds(&op->slots[i].answer, &top) ? PHASE_DONE : PHASE_IDLE;
        done += op->slots[i].phase == PHASE_DONE && op->entry.slots[i].state == SLOT_READY;
    }
    for (uint32_t i = 0; i < n && done + written < op->need; i++) {
        if (op->slots[i].phase != PHASE_IDLE || !op->slots[i].answer.answered ||
            op->entry.slots[i].state != SLOT_READY || !op_slot_reachable(w, op, i))
            continue;
        get_back_ask(w, op, i, out);
        written++;
    }
    w->stats.n_repairs++;
    worker_trace(out, TRACE_READ_REPAIR, op->partition, written);
    get_decide(w, op, out);
}

/* Keeps the state if it is the newest whole one so far. False: no room for it. */
static bool get_keep(struct worker *w, struct op *op, const struct state *state)
{
    struct blob *copy;

    if (op->have_state && version_compare(op->state.version, state->version) >= 0)
        return true;
    if (!op_charge(w, op, state->value.len))
        return false;
    copy = state->value.len ? blob_copy(state->value) : NULL;
    if (state->value.len && !copy)
        return false;
    worker_bury(w, op->value);
    op->value = copy;
    op->state = *state;
    op->state.value = blob_slice(copy);
    op->have_state = true;
    return true;
}

/* A slot that announced this version has been asked for the whole of it. */
static bool get_is_coming(const struct op *op, struct version newest)
{
    for (uint32_t i = 0; op->stage == STAGE_FETCH && i < op->entry.n_slots; i++)
        if (op->slots[i].phase == PHASE_ASKED && op->slots[i].answer.answered &&
            version_compare(op->slots[i].answer.version, newest) == 0)
            return true;
    return false;
}

/* A live value and an absence that closes over it. */
static void get_contradiction(struct worker *w, struct op *op, struct effects *out)
{
    if (op->reread) {
        w->stats.n_corrupt++;
        worker_trace(out, TRACE_CORRUPT, op->partition, op->token);
        op_reply_error(w, op, ERR_CORRUPT, out);
        return;
    }
    op->reread = true;
    get_new_round(op, STAGE_READ);
    for (uint32_t i = 0; i < op->entry.n_slots; i++) {
        op->slots[i].answer.answered = false;
        if (op->slots[i].phase == PHASE_DONE)
            op->slots[i].phase = PHASE_IDLE;
    }
    read_review(w, op, get_ask, out);
}

static void get_decide_read(struct worker *w, struct op *op, const struct state *fresh,
                            struct effects *out)
{
    struct quorum_answer answers[LIMIT_SLOTS_MAX];
    struct quorum_view view;
    const struct state *state = &op->state;

    for (uint32_t i = 0; i < op->entry.n_slots; i++)
        answers[i] = op->slots[i].answer;
    view = quorum_merge(answers, op->entry.n_slots);
    if (view.n_answered < op->need)
        return;
    if (view.newest >= 0 && view.dead && !answers[view.newest].deleted) {
        get_contradiction(w, op, out);
        return;
    }
    if (view.newest < 0 || view.dead) {
        get_reply(w, op, &(struct state){0}, view.n_answered, out);
        return;
    }
    if (fresh && version_compare(fresh->version, answers[view.newest].version) == 0)
        state = fresh;
    else if (!op->have_state ||
             version_compare(op->state.version, answers[view.newest].version) != 0)
        state = NULL;
    if (!state && get_is_coming(op, answers[view.newest].version))
        return;
    if (!state)
        get_fetch(w, op, (uint32_t)view.newest, out);
    else if (view.agree)
        get_reply(w, op, state, view.n_answered, out);
    else if (state == fresh && !get_keep(w, op, fresh))
        op_reply_error(w, op, ERR_OVERLOADED, out);
    else
        get_back(w, op, (uint32_t)view.newest, out);
}

/* READ and FETCH decide on answers, BACK on holders. */
static void get_decide(struct worker *w, struct op *op, struct effects *out)
{
    struct op_tally t;

    if (op->stage != STAGE_BACK) {
        get_decide_read(w, op, NULL, out);
        return;
    }
    t = op_tally(op);
    if (t.done < op->need) {
        read_review(w, op, get_back_ask, out);
        return;
    }
    repair_rest(w, op, out);
    get_reply(w, op, &op->state, t.done, out);
}

/* ---- answers ------------------------------------------------------------------------------- */

static void get_take(struct op *op, uint32_t slot, const struct wire_peer *msg)
{
    struct quorum_answer *a = &op->slots[slot].answer;

    *a = (struct quorum_answer){.answered = true};
    if (msg->u.get_reply.found == FOUND_ABSENT) {
        a->absent = true;
        a->floor = msg->u.get_reply.floor;
        return;
    }
    a->version = msg->u.get_reply.state.version;
    a->deleted = msg->u.get_reply.state.deleted;
    if (msg->u.get_reply.found == FOUND_DIGEST)
        a->digest = msg->u.get_reply.digest;
    else if (op->need > 1)
        a->digest = merge_digest(&op->key, &msg->u.get_reply.state);
}

static void get_recv_read(struct worker *w, struct op *op, uint32_t slot,
                          const struct wire_peer *msg, struct effects *out)
{
    const struct state *state = &msg->u.get_reply.state;
    uint32_t generation = op->generation;
    bool whole = msg->u.get_reply.found == FOUND_STATE ||
                 (msg->u.get_reply.found == FOUND_DIGEST && state->deleted);

    if (op->stage == STAGE_READ)
        hedge_answered(w, op, slot);
    op->slots[slot].phase = PHASE_DONE;
    get_take(op, slot, msg);
    /* The last answer goes out as it lies in the store's map or in the message; earlier ones wait
     * for it in a copy. */
    get_decide_read(w, op, whole ? state : NULL, out);
    if (whole && op->used && op->generation == generation && op->stage == STAGE_READ)
        get_keep(w, op, state); /* no room: it is fetched once it can go out at once */
}

static void get_fetch_failed(struct worker *w, struct op *op, uint32_t slot, int err,
                             struct effects *out)
{
    /* The slot that held the newest state is of no use any more: W others must answer. */
    op->slots[slot].answer.answered = false;
    get_new_round(op, STAGE_READ);
    if (err) {
        read_refused(w, op, slot, err, get_ask, out);
    } else {
        op->slots[slot].phase = PHASE_DOWN;
        read_review(w, op, get_ask, out);
    }
}

void get_recv(struct worker *w, struct op *op, uint32_t slot, const struct wire_peer *msg,
              struct effects *out)
{
    if (msg->error == ERR_CORRUPT) {
        w->stats.n_corrupt++;
        worker_trace(out, TRACE_CORRUPT, op->partition, op->token);
    }
    if (op->stage == STAGE_FETCH && msg->error) {
        get_fetch_failed(w, op, slot, msg->error, out);
    } else if (msg->error) {
        read_refused(w, op, slot, msg->error, op->stage == STAGE_BACK ? get_back_ask : get_ask,
                     out);
    } else if (op->stage == STAGE_BACK && msg->u.put_reply.outcome == OUTCOME_SUPERSEDED_FLOOR) {
        read_refused(w, op, slot, ERR_NOT_YET, get_back_ask, out); /* it holds nothing */
    } else if (op->stage == STAGE_BACK) {
        /* stored, had it, or has something newer: it holds what we answer with */
        op->slots[slot].phase = PHASE_DONE;
        get_decide(w, op, out);
    } else {
        get_recv_read(w, op, slot, msg, out);
    }
}

/* Begins to read anew under another fence version. A state from before it must go too: it would be
 * taken for the newest of the new round, and slots that hold less for its holders. */
void get_forget(struct worker *w, struct op *op)
{
    worker_bury(w, op->value);
    op->value = NULL;
    op->have_state = false;
    op->stage = STAGE_READ;
}

/* ---- start and review ---------------------------------------------------------------------- */

void get_start(struct worker *w, struct op *op, struct effects *out)
{
    op->stage = STAGE_READ;
    op->reread = false;
    read_start(w, op, get_ask, out);
}

/* Slots that went down take their announcements with them; then hedge, and ask again. */
static void get_review_fetch(struct worker *w, struct op *op, struct effects *out)
{
    uint64_t next = op->deadline_ms;
    int other;

    for (uint32_t i = 0; i < op->entry.n_slots; i++)
        if (op->slots[i].phase == PHASE_ASKED && !op_slot_reachable(w, op, i)) {
            get_fetch_failed(w, op, i, 0, out);
            return;
        }
    if (op_tally(op).asked == 0) { /* a new incarnation took the place of the one asked */
        get_decide(w, op, out);
        return;
    }
    for (uint32_t i = 0; i < op->entry.n_slots; i++) {
        struct op_slot *s = &op->slots[i];

        if (s->phase != PHASE_ASKED)
            continue;
        if (s->asked_ms + op_resend_ms(w, op, i) <= w->now_ms)
            get_ask(w, op, i, out);
        else if (s->tries == 1 && s->asked_ms + COORDINATOR_FETCH_HEDGE_MS <= w->now_ms &&
                 (other = read_pick(w, op)) >= 0 && hedge_take(w))
            get_ask(w, op, (uint32_t)other, out);
    }
    for (uint32_t i = 0; i < op->entry.n_slots; i++) {
        const struct op_slot *s = &op->slots[i];
        uint64_t hedge = s->asked_ms + COORDINATOR_FETCH_HEDGE_MS;
        uint64_t due = s->asked_ms + op_resend_ms(w, op, i);

        if (s->phase != PHASE_ASKED)
            continue;
        if (hedge > w->now_ms && read_pick(w, op) >= 0)
            due = hedge;
        next = due < next ? due : next;
    }
    op_arm(w, op, next);
}

void get_review(struct worker *w, struct op *op, struct effects *out)
{
    if (op->stage == STAGE_FETCH)
        get_review_fetch(w, op, out);
    else
        read_review(w, op, op->stage == STAGE_BACK ? get_back_ask : get_ask, out);
}
