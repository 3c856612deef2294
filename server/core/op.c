/* op: the table of operations, and what their kinds share: asking a slot, counting, replying.
 *
 * The table grows on demand up to its bound and reuses entries through a free list; a generation
 * per entry makes ids of the past worthless. Deadlines stand in the worker's wheel: one timer per
 * operation, armed for whatever comes first.
 */
#include "server/core/op.h"
#include "server/core/hedge.h"
#include <stdio.h>

/* ---- table --------------------------------------------------------------------------------- */

struct op *op_new(struct worker *w)
{
    struct op *op;

    if (w->ops_free != OP_NONE_INDEX) {
        op = &w->ops[w->ops_free];
        w->ops_free = op->next_free;
    } else if (w->ops_high < w->ops_max) {
        op = &w->ops[w->ops_high++];
    } else {
        return NULL;
    }
    /* `small` and the slots are written before they are read; the rest starts clean. */
    wheel_timer_init(&op->timer);
    list_init(&op->stamping);
    op->used = true;
    op->round = 0;
    op->charged = 0;
    op->first_hand = false;
    op->have_state = false;
    op->bytes = NULL;
    op->value = NULL;
    op->state = (struct state){0};
    w->ops_used++;
    return op;
}

void op_free(struct worker *w, struct op *op)
{
    if (op->kind == OP_GET && op->stage == STAGE_READ)
        hedge_ended(w, op);
    wheel_cancel(&op->timer);
    list_remove(&op->stamping);
    worker_bury(w, op->bytes);
    worker_bury(w, op->value);
    if (op->kind == OP_SCAN)
        for (uint32_t s = 0; s < op->entry.n_slots; s++)
            worker_bury(w, op->scans[s].blob);
    w->inflight_bytes -= op->charged;
    w->ops_used--;
    op->used = false;
    op->generation++;
    op->next_free = w->ops_free;
    w->ops_free = (uint32_t)(op - w->ops);
}

bool op_charge(struct worker *w, struct op *op, size_t bytes)
{
    if (w->inflight_bytes + bytes > w->inflight_bytes_max && w->ops_used > 1)
        return false;
    op->charged += bytes;
    w->inflight_bytes += bytes;
    return true;
}

void op_arm(struct worker *w, struct op *op, uint64_t at_ms)
{
    wheel_set(&w->wheel, &op->timer, at_ms < op->deadline_ms ? at_ms : op->deadline_ms);
}

void op_enter(struct worker *w, struct op *op)
{
    ring_lookup(w->ring, op->partition, &op->entry);
    for (uint32_t s = 0; s < op->entry.n_slots; s++) {
        op->slots[s] = (struct op_slot){.phase = PHASE_IDLE};
        if (op->kind == OP_SCAN)
            op->scans[s] = (struct scan_answer){0};
    }
}

/* generation (32 bits), round (8), slot (4), index (16): see core.h. Bit 63 stays clear because the
 * generation keeps only 31 bits here. */
uint64_t op_message_id(const struct worker *w, const struct op *op, uint32_t slot)
{
    uint64_t index = (uint64_t)(op - w->ops);

    return (uint64_t)(op->generation & 0x7fffffffu) << 32 | (uint64_t)op->round << 24 |
           (uint64_t)slot << 16 | index;
}

struct op *op_of_message(struct worker *w, const struct wire_peer *msg, uint32_t *ret_slot)
{
    uint32_t index = (uint32_t)(msg->id & 0xffff);
    struct op *op;

    if (index >= w->ops_high)
        return NULL;
    op = &w->ops[index];
    *ret_slot = (uint32_t)(msg->id >> 16) & 0xf;
    if (!op->used || *ret_slot >= op->entry.n_slots || op_message_id(w, op, *ret_slot) != msg->id)
        return NULL;
    return op;
}

/* ---- slots --------------------------------------------------------------------------------- */

bool op_slot_reachable(const struct worker *w, const struct op *op, uint32_t slot)
{
    const struct ring_slot *s = &op->entry.slots[slot];

    return s->state != SLOT_NONE && worker_node_up(w, s->node);
}

static struct addr op_slot_addr(const struct worker *w, const struct op *op, uint32_t slot)
{
    uint32_t node = op->entry.slots[slot].node;
    struct addr to = {.node = node};

    if (node == w->node) {
        to.worker = worker_owner(w, op->partition, w->n_workers);
        to.kind = to.worker == w->index ? ADDR_SELF : ADDR_WORKER;
    } else {
        to.worker = worker_owner(w, op->partition, w->nodes[node].n_workers);
        to.kind = ADDR_NODE;
    }
    return to;
}

void op_address(const struct worker *w, const struct op *op, uint32_t slot, struct wire_peer *msg)
{
    msg->hlc = w->clock.last;
    msg->ring_epoch = ring_epoch(w->ring);
    msg->error = 0;
    msg->replica = (struct wire_replica){.partition = op->partition,
                                         .slot = slot,
                                         .incarnation = op->entry.slots[slot].incarnation,
                                         .fence = op->entry.fence};
}

void op_send(struct worker *w, const struct op *op, uint32_t slot, const struct wire_peer *msg,
             struct effects *out)
{
    worker_send(w, op_slot_addr(w, op, slot), msg, op->bytes, out);
}

void op_ask(struct worker *w, struct op *op, uint32_t slot, struct wire_peer *msg,
            struct effects *out)
{
    op_address(w, op, slot, msg);
    msg->id = op_message_id(w, op, slot);
    msg->deadline_ms = op->deadline_ms > w->now_ms ? (uint32_t)(op->deadline_ms - w->now_ms) : 1;
    op->slots[slot].phase = PHASE_ASKED;
    op->slots[slot].asked_ms = w->now_ms;
    op->slots[slot].late = op->slots[slot].late && op->slots[slot].tries > 0;
    if (op->slots[slot].tries < UINT8_MAX)
        op->slots[slot].tries++;
    op_send(w, op, slot, msg, out);
}

bool op_refusal_passes(int err)
{
    return err == ERR_NOT_OWNER || err == ERR_NOT_YET || err == ERR_NOT_READY ||
           err == ERR_OVERLOADED || err == ERR_FULL || err == ERR_NO_MEMORY;
}

uint64_t op_backoff_ms(const struct op_slot *slot)
{
    uint32_t shift = slot->tries > 1 ? slot->tries - 1u : 0;
    uint64_t ms = shift > 6 ? COORDINATOR_RETRY_MAX_MS : (uint64_t)COORDINATOR_RETRY_MS << shift;

    return ms < COORDINATOR_RETRY_MAX_MS ? ms : COORDINATOR_RETRY_MAX_MS;
}

uint64_t op_resend_ms(const struct worker *w, const struct op *op, uint32_t slot)
{
    const struct node_state *n = &w->nodes[op->entry.slots[slot].node];
    bool writes = op->stage == STAGE_WRITE || op->stage == STAGE_BACK;
    uint32_t p95 = latency_p95_ms(writes ? &n->writes : &n->reads.latency);
    uint32_t tries = op->slots[slot].tries;
    uint64_t ms = COORDINATOR_RESEND_MS;

    if (p95 != LATENCY_UNKNOWN && 2 * p95 > ms)
        ms = 2 * p95;
    ms <<= tries < 2 ? 0 : tries < 5 ? tries - 1 : 4;

    return ms < COORDINATOR_RESEND_MAX_MS ? ms : COORDINATOR_RESEND_MAX_MS;
}

/* Which refusal tells the client most: causes before mere absence. */
static int refusal_weight(int err)
{
    switch (err) {
    case 0:
        return 0;
    case ERR_NO_SPACE:
        return 5;
    case ERR_CORRUPT:
        return 4;
    case ERR_CLOCK:
        return 3;
    case ERR_IO:
    case ERR_OVERLOADED:
        return 2;
    default:
        return 1;
    }
}

static void tally_done(struct op_tally *t, const struct op_slot *s)
{
    t->done++;
    if (s->outcome == OUTCOME_STORED || s->outcome == OUTCOME_DUPLICATE)
        t->acks++;
    else if (s->outcome != OUTCOME_NONE)
        t->superseded++;
}

struct op_tally op_tally(const struct op *op)
{
    struct op_tally t = {0};

    for (uint32_t i = 0; i < op->entry.n_slots; i++) {
        const struct op_slot *s = &op->slots[i];

        t.maybe = t.maybe || s->maybe;
        if (op->entry.slots[i].state != SLOT_READY)
            continue; /* JOINING slots get every put, uncounted */
        switch ((enum slot_phase)s->phase) {
        case PHASE_IDLE:
            t.idle++;
            break;
        case PHASE_ASKED:
            t.asked++;
            break;
        case PHASE_DONE:
            tally_done(&t, s);
            break;
        case PHASE_RETRY:
            t.retry++;
            break;
        case PHASE_REFUSED:
            t.refused++;
            break;
        case PHASE_DOWN:
            t.down++;
            break;
        }
        if ((s->phase == PHASE_RETRY || s->phase == PHASE_REFUSED) &&
            refusal_weight(s->refusal) > refusal_weight(t.refusal))
            t.refusal = s->refusal;
    }
    return t;
}

/* ---- replies ------------------------------------------------------------------------------- */

void op_reply(struct worker *w, struct op *op, struct wire_response *res, struct effects *out)
{
    res->id = op->id;
    admission_ended(&w->admission, w->now_ms, op->begun_ms, op->deadline_ms - op->begun_ms);
    w->tag = op->tag;
    worker_reply(w, op->conn, res, out);
    op_free(w, op);
}

/* "1 of 3 replicas is up, 2 are needed. Down: n2, n3"; that nothing was written, the code says. */
static struct blob *no_quorum_text(const struct worker *w, const struct op *op)
{
    const struct wire_ring *ring = ring_wire(w->ring);
    char text[512];
    size_t len;
    uint32_t up = 0;
    int n;

    for (uint32_t s = 0; s < op->entry.n_slots; s++)
        up += op->entry.slots[s].state == SLOT_READY && op_slot_reachable(w, op, s);
    n = snprintf(text, sizeof text, "%u of %u replicas %s up, %u %s needed", up, op->entry.n_ready,
                 up == 1 ? "is" : "are", (unsigned)op->need, op->need == 1 ? "is" : "are");
    len = (size_t)n;
    for (uint32_t s = 0, listed = 0; s < op->entry.n_slots; s++) {
        const struct slice *name;

        if (op->entry.slots[s].state == SLOT_NONE || op_slot_reachable(w, op, s) ||
            op->entry.slots[s].member >= ring->n_members) /* of an older ring */
            continue;
        name = &ring->members[op->entry.slots[s].member].name;
        n = snprintf(text + len, sizeof text - len, "%s%.*s",
                     listed++ ? ", " : ". Down: ", (int)name->len, (const char *)name->data);
        if (n < 0 || (size_t)n >= sizeof text - len)
            break;
        len += (size_t)n;
    }
    return blob_copy(slice_of(text, len));
}

void op_reply_error(struct worker *w, struct op *op, int err, struct effects *out)
{
    struct wire_response res = {0};

    res.error.code = err;
    res.error.text = slice_str(err_text(err));
    res.error.retryable = err_retryable(err);
    if (err == ERR_NO_QUORUM) {
        struct blob *text = no_quorum_text(w, op);

        if (text)
            res.error.text = blob_slice(text);
        res.error.limit = op->need;
        worker_bury(w, text);
    }
    op_reply(w, op, &res, out);
}
