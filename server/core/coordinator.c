/* coordinator: takes clients' requests, keeps one operation for each, and sees it to its answer.
 *
 * Here: admission, the operation table, the envelope of messages, the dispatch of answers, replies.
 * What each kind of operation does with its slots stands in coordinator_put, _get and _scan; all
 * three are "ask slots, count answers, decide" over the same table of slots:
 *
 *   start    choose slots, ask
 *   recv     an answer of a slot for the present round
 *   review   timer, a node came or went, a new ring: ask again whoever should be, give up if
 *            nothing can come of it any more
 *
 * An operation keeps the version of its write through all retries and the ring entry it goes by. On
 * a newer fence version it starts its round again, on a changed incarnation it asks that slot
 * again. It ends in exactly one reply; what arrives later finds another generation and is dropped.
 *
 * What an error says about a write: DEADLINE, NO_QUORUM, NO_SPACE, CLOCK, OVERLOADED ...: nothing
 * was written, no slot holds it. UNKNOWN_OUTCOME: some slot may hold it, now or later.
 */
#include "server/core/core.h"
#include <assert.h>
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

static struct op *op_of_message(struct worker *w, const struct wire_peer *msg, uint32_t *ret_slot)
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

void op_ask(struct worker *w, struct op *op, uint32_t slot, struct wire_peer *msg,
            struct effects *out)
{
    const struct ring_slot *s = &op->entry.slots[slot];

    msg->id = op_message_id(w, op, slot);
    msg->deadline_ms = op->deadline_ms > w->now_ms ? (uint32_t)(op->deadline_ms - w->now_ms) : 1;
    msg->hlc = w->clock.last;
    msg->ring_epoch = ring_epoch(w->ring);
    msg->error = 0;
    msg->replica = (struct wire_replica){.partition = op->partition,
                                         .slot = slot,
                                         .incarnation = s->incarnation,
                                         .fence = op->entry.fence};
    op->slots[slot].phase = PHASE_ASKED;
    op->slots[slot].asked_ms = w->now_ms;
    if (op->slots[slot].tries < UINT8_MAX)
        op->slots[slot].tries++;
    worker_send(w, op_slot_addr(w, op, slot), msg, op->bytes, out);
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

void worker_reply(struct worker *w, uint64_t conn, struct wire_response *res, struct effects *out)
{
    struct effect *e = worker_emit(out, EFFECT_REPLY);

    res->ring_epoch = w->ring ? ring_epoch(w->ring) : 0;
    res->hlc = w->clock.last;
    e->u.reply.conn = conn;
    e->u.reply.response = *res;
    w->stats.n_replies++;
    if (res->error.code)
        w->stats.n_errors++;
}

void worker_reply_error(struct worker *w, uint64_t conn, uint64_t id, int err, struct effects *out)
{
    struct wire_response res = {.id = id};

    res.error.code = err;
    res.error.text = slice_str(err_text(err));
    res.error.retryable = err_retryable(err);
    worker_reply(w, conn, &res, out);
}

void op_reply(struct worker *w, struct op *op, struct wire_response *res, struct effects *out)
{
    res->id = op->id;
    worker_reply(w, op->conn, res, out);
    op_free(w, op);
}

/* "1 of 3 replicas is up, 2 are needed; down: n2 n3; nothing was written" */
static struct blob *no_quorum_text(const struct worker *w, const struct op *op)
{
    const struct wire_ring *ring = ring_wire(w->ring);
    char text[512];
    size_t len;
    uint32_t up = 0;
    int n;

    for (uint32_t s = 0; s < op->entry.n_slots; s++)
        up += op->entry.slots[s].state == SLOT_READY && op_slot_reachable(w, op, s);
    n = snprintf(text, sizeof text, "%u of %u replicas %s up, %u %s needed; nothing was written",
                 up, op->entry.n_ready, up == 1 ? "is" : "are", (unsigned)op->need,
                 op->need == 1 ? "is" : "are");
    len = (size_t)n;
    for (uint32_t s = 0, listed = 0; s < op->entry.n_slots; s++) {
        const struct slice *name;

        if (op->entry.slots[s].state == SLOT_NONE || op_slot_reachable(w, op, s))
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

/* ---- requests ------------------------------------------------------------------------------ */

/* Copies what of the request must outlive this step: key, then value or cursor. */
static int op_keep_bytes(struct worker *w, struct op *op, const struct wire_request *req)
{
    struct slice tail = op->kind == OP_SCAN ? req->u.scan.cursor : req->value;
    size_t n = req->key.partition.len + req->key.sort.len + tail.len;
    uint8_t *to = op->small;
    struct slice *parts[] = {&op->key.partition, &op->key.sort, &op->state.value};
    const struct slice from[] = {req->key.partition, req->key.sort, tail};

    if (n > sizeof op->small) {
        op->bytes = blob_new(n);
        if (!op->bytes)
            return -ERR_NO_MEMORY;
        to = op->bytes->data;
    }
    for (size_t i = 0; i < 3; i++) {
        if (from[i].len)
            memcpy(to, from[i].data, from[i].len);
        *parts[i] = slice_of(to, from[i].len);
        to += from[i].len;
    }
    op->charged = n + sizeof *op / 4;
    w->inflight_bytes += op->charged;
    return 0;
}

/* 0, or the refusal that the request deserves before anything is begun. */
static int request_refusal(const struct worker *w, const struct wire_request *req)
{
    const struct wire_ring *ring;

    if (w->stopping)
        return ERR_SHUTTING_DOWN;
    if (!w->ring)
        return ERR_NOT_READY;
    ring = ring_wire(w->ring);
    if (req->op == OP_SCAN)
        return req->u.scan.n_partitions != ring->n_partitions ||
                       req->u.scan.partition >= ring->n_partitions ||
                       req->u.scan.cursor.len > STORE_CURSOR_BYTES_MAX
                   ? ERR_BAD_REQUEST
                   : 0;
    return ring_has_bucket(w->ring, req->key.bucket) ? 0 : ERR_UNKNOWN_BUCKET;
}

static bool overloaded(const struct worker *w, const struct wire_request *req)
{
    return w->inflight_bytes + req->value.len > w->inflight_bytes_max && w->ops_used > 0;
}

static void start_data(struct worker *w, uint64_t conn, const struct wire_request *req,
                       struct effects *out)
{
    int err = request_refusal(w, req);
    uint32_t ms = req->deadline_ms ? req->deadline_ms : LIMIT_DEADLINE_DEFAULT_MS;
    struct op *op = err || overloaded(w, req) ? NULL : op_new(w);

    if (!op) {
        if (!err)
            worker_trace(out, TRACE_OVERLOADED, w->ops_used, w->inflight_bytes);
        worker_reply_error(w, conn, req->id, err ? err : ERR_OVERLOADED, out);
        return;
    }
    op->kind = (uint8_t)req->op;
    op->level = (uint8_t)req->level;
    op->conn = conn;
    op->id = req->id;
    op->deadline_ms = w->now_ms + (ms < LIMIT_DEADLINE_MAX_MS ? ms : LIMIT_DEADLINE_MAX_MS);
    op->key.bucket = req->key.bucket;
    op->entry.n_slots = 0;
    if (op_keep_bytes(w, op, req) < 0) {
        op_reply_error(w, op, ERR_NO_MEMORY, out);
        return;
    }
    if (req->op == OP_SCAN) {
        op->partition = req->u.scan.partition;
        op->page_bytes = req->u.scan.page_bytes;
        op->cursor = op->state.value;
        op->state.value = (struct slice){0};
    } else {
        op->token = ring_token(w->ring, &op->key);
        op->partition = ring_partition(w->ring, op->token);
    }
    op_enter(w, op);
    op->need = (uint8_t)quorum_need(req->level, op->entry.n_ready);
    op_arm(w, op, op->deadline_ms);
    if (op->kind == OP_GET)
        get_start(w, op, out);
    else if (op->kind == OP_SCAN)
        scan_start(w, op, out);
    else
        put_start(w, op, out);
}

static void reply_hello(struct worker *w, uint64_t conn, const struct wire_request *req,
                        struct effects *out)
{
    struct wire_response res = {.id = req->id, .type = RESULT_HELLO};

    res.u.hello = (struct wire_hello_result){.protocol = WIRE_PROTOCOL,
                                             .node_id = w->node_id,
                                             .software = blob_slice(w->software),
                                             .n_workers = w->n_workers,
                                             .worker = w->index};
    if (w->ring)
        res.u.hello.cluster_id = ring_wire(w->ring)->cluster_id;
    worker_reply(w, conn, &res, out);
}

static void reply_ping(struct worker *w, uint64_t conn, const struct wire_request *req,
                       struct effects *out)
{
    struct wire_response res = {.id = req->id, .type = RESULT_PING};

    res.u.ping = (struct wire_ping_result){.node_id = w->node_id,
                                           .name = blob_slice(w->name),
                                           .software = blob_slice(w->software),
                                           .serving = w->ring && !w->stopping};
    worker_reply(w, conn, &res, out);
}

static void reply_ring(struct worker *w, uint64_t conn, const struct wire_request *req,
                       struct effects *out)
{
    struct wire_response res = {.id = req->id, .type = RESULT_RING};

    if (!w->ring) {
        worker_reply_error(w, conn, req->id, ERR_NOT_READY, out);
        return;
    }
    res.u.ring = ring_wire(w->ring);
    worker_reply(w, conn, &res, out);
}

void coordinator_recv_request(struct worker *w, uint64_t conn, const struct wire_request *req,
                              struct effects *out)
{
    w->stats.n_requests++;
    switch (req->op) {
    case OP_HELLO:
        reply_hello(w, conn, req, out);
        return;
    case OP_PING:
        reply_ping(w, conn, req, out);
        return;
    case OP_RING:
        reply_ring(w, conn, req, out);
        return;
    case OP_GET:
    case OP_PUT:
    case OP_DELETE:
    case OP_SCAN:
        start_data(w, conn, req, out);
        return;
    case OP_NONE:
        break;
    }
    worker_reply_error(w, conn, req->id, ERR_UNSUPPORTED, out);
}

/* ---- answers and reviews ------------------------------------------------------------------- */

static bool is_answer_to(const struct op *op, enum wire_peer_type type)
{
    switch ((enum op_stage)op->stage) {
    case STAGE_STAMP:
        return false;
    case STAGE_WRITE:
    case STAGE_BACK:
        return type == PEER_PUT_REPLY;
    case STAGE_READ:
    case STAGE_FETCH:
        return type == PEER_GET_REPLY;
    case STAGE_SCAN:
        return type == PEER_SCAN_REPLY;
    }
    return false;
}

void coordinator_recv_reply(struct worker *w, uint32_t node, const struct wire_peer *msg,
                            struct effects *out)
{
    uint32_t slot;
    struct op *op = op_of_message(w, msg, &slot);
    const struct ring_slot *s;

    if (!op || !is_answer_to(op, msg->type))
        return;
    s = &op->entry.slots[slot];
    if (s->node != node || msg->replica.partition != op->partition || msg->replica.slot != slot ||
        msg->replica.incarnation != s->incarnation || msg->replica.fence != op->entry.fence)
        return; /* counted are answers of one fence version, one per slot and incarnation */
    if (op->slots[slot].phase == PHASE_DONE)
        return; /* duplicated by the network */
    if (op->kind == OP_GET)
        get_recv(w, op, slot, msg, out);
    else if (op->kind == OP_SCAN)
        scan_recv(w, op, slot, msg, out);
    else
        put_recv(w, op, slot, msg, out);
}

/* Follows the ring: a newer fence starts the round again, a changed incarnation asks again. */
static void op_follow_ring(struct worker *w, struct op *op)
{
    struct ring_entry now;

    ring_lookup(w->ring, op->partition, &now);
    if (now.fence != op->entry.fence || now.n_slots != op->entry.n_slots) {
        bool maybe = op_tally(op).maybe;

        if (op->kind == OP_SCAN)
            for (uint32_t s = 0; s < op->entry.n_slots; s++)
                worker_bury(w, op->scans[s].blob);
        op_enter(w, op);
        op->round++;
        op->need = (uint8_t)quorum_need((enum wire_level)op->level, op->entry.n_ready);
        /* What was sent before may still be stored, whatever slot 0 answers from now on. */
        op->slots[0].maybe = op->slots[0].lost = maybe;
        return;
    }
    for (uint32_t s = 0; s < now.n_slots; s++)
        if (now.slots[s].incarnation != op->entry.slots[s].incarnation) {
            op->slots[s].lost = op->slots[s].lost || op->slots[s].maybe;
            op->slots[s].phase = PHASE_IDLE;
        }
    op->entry = now;
}

void coordinator_review(struct worker *w, struct op *op, struct effects *out)
{
    op_follow_ring(w, op);
    if (op->kind == OP_GET)
        get_review(w, op, out);
    else if (op->kind == OP_SCAN)
        scan_review(w, op, out);
    else
        put_review(w, op, out);
}

void coordinator_timer(struct worker *w, struct op *op, struct effects *out)
{
    if (w->now_ms < op->deadline_ms) {
        coordinator_review(w, op, out);
        return;
    }
    if ((op->kind == OP_PUT || op->kind == OP_DELETE) && op_tally(op).maybe)
        op_reply_error(w, op, ERR_UNKNOWN_OUTCOME, out);
    else
        op_reply_error(w, op, ERR_DEADLINE, out);
}
