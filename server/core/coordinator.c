/* coordinator: takes clients' requests, keeps one operation for each, and sees it to its answer.
 *
 * Here: admission, and the dispatch of answers and timers. The table of operations stands in op.c;
 * what each kind does with its slots in coordinator_put, _get and _scan. All three are "ask slots,
 * count answers, decide":
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
#include "server/core/coordinator.h"
#include "server/core/op.h"
#include "server/core/repair.h"

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

static bool overloaded(struct worker *w, const struct wire_request *req)
{
    if (!admission_takes(&w->admission, w->ops_used))
        return true;
    return w->inflight_bytes + req->value.len > w->inflight_bytes_max && w->ops_used > 0;
}

/* Refusing must cost little: a line of the log each would cost more than the request. */
static void tell_overloaded(struct worker *w, struct effects *out)
{
    w->n_refused++;
    if (w->refused_told_ms && w->now_ms - w->refused_told_ms < COORDINATOR_TELL_MS)
        return;
    worker_trace(out, TRACE_OVERLOADED, w->ops_used, w->n_refused);
    w->refused_told_ms = w->now_ms;
    w->n_refused = 0;
}

/* How long the client waits from its sending on. */
static uint64_t request_patience_ms(const struct wire_request *req)
{
    uint32_t ms = req->deadline_ms ? req->deadline_ms : LIMIT_DEADLINE_DEFAULT_MS;

    return ms < LIMIT_DEADLINE_MAX_MS ? ms : LIMIT_DEADLINE_MAX_MS;
}

static void start_data(struct worker *w, uint64_t conn, const struct wire_request *req,
                       uint64_t waited_ms, struct effects *out)
{
    uint64_t ms = request_patience_ms(req);
    int err = waited_ms >= ms ? ERR_DEADLINE : request_refusal(w, req);
    struct op *op = err || overloaded(w, req) ? NULL : op_new(w);

    if (!op) {
        if (!err)
            tell_overloaded(w, out);
        worker_reply_error(w, conn, req->id, err ? err : ERR_OVERLOADED, out);
        return;
    }
    op->kind = (uint8_t)req->op;
    op->level = (uint8_t)req->level;
    op->conn = conn;
    op->id = req->id;
    op->begun_ms = w->now_ms;
    op->deadline_ms = w->now_ms + ms - waited_ms;
    op->tag = w->tag;
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
                              uint64_t waited_ms, struct effects *out)
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
        start_data(w, conn, req, waited_ms, out);
        return;
    case OP_STATUS: /* of more than a worker knows: the edge answers it */
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

    if (repair_recv(w, msg) || !op || !is_answer_to(op, msg->type))
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
        if (op->kind == OP_GET && op->stage != STAGE_BACK)
            get_forget(w, op);
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
    op->need = (uint8_t)quorum_need((enum wire_level)op->level, now.n_ready);
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
