/* worker_effects: carries out what the core asks for.
 *
 * Replies and sends are packed at once into the out-buffer of their connection: the core's bytes
 * live only until its next step. Reads are done inline on this thread; what they found waits in the
 * dones until the list is through, and is fed back then. Operations for the store are collected,
 * with their bytes, and submitted once per wake-up in the flush, so that one sync covers them all.
 *
 * A get or a merge that would wait for the disk is announced to the store and parked, and carried
 * out when the store says that it will not wait. Merges may overtake each other so; a META
 * overtakes none, for it may say that no more of them are taken.
 *
 * A read or merge that has waited here (parked, or for room in the store) past the time until which
 * it is of use is not made: its done event says DEADLINE.
 *
 * What cannot be carried out comes back as a done event that says so, if it is the store's or a
 * request (no memory for a copy, a link with too much before it). Otherwise (no connection, no
 * link) it is dropped: the core hears of that by itself.
 */
#include "proto/err.h"
#include "server/edge/client.h"
#include "server/edge/worker_loop.h"
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

/* ---- done events --------------------------------------------------------------------------- */

static void store_failed(struct worker_loop *wl, uint64_t cookie, int error)
{
    struct done *done = dones_add(&wl->dones, EVENT_STORED);
    done->event.u.stored = (struct store_done){.cookie = cookie, .error = error};
}

/* ---- messages ------------------------------------------------------------------------------ */

/* Bytes that an answer may be without. Not an estimate of the whole: envelopes are small. */
static size_t payload_size(const struct wire_response *res)
{
    size_t size = 0;

    if (res->error.code)
        return 0;
    if (res->type == RESULT_GET)
        return res->u.get.value.len;
    for (size_t i = 0; res->type == RESULT_SCAN && i < res->u.scan.n_records; i++) {
        const struct wire_record *r = &res->u.scan.records[i];
        size += r->key.partition.len + r->key.sort.len + r->state.value.len;
    }
    return size;
}

/* Packs it, or what can be said instead. The code that the client is told. */
static int pack_reply(struct conn *c, const struct wire_response *res, size_t size)
{
    struct buf *out = conn_out(c);

    if (!out)
        return -ERR_CLOSED;
    int rc = conn_takes_answer(c, size) ? wire_response_pack(res, out) : -ERR_OVERLOADED;
    if (rc < 0 && res->type == RESULT_WRITE && !res->error.code)
        rc = -ERR_UNKNOWN_OUTCOME; /* stored, in truth: nothing that may be repeated blindly */
    if (rc < 0) {
        client_send_error(c, res->id, rc, 0, 0);
        return rc;
    }
    conn_sent(c);
    return res->error.code;
}

static void run_reply(struct worker_loop *wl, const struct effect *e)
{
    struct conn *c = loop_find_conn(&wl->loop, e->u.reply.conn);
    const struct wire_response *res = &e->u.reply.response;
    enum meter_outcome outcome = meter_outcome_of(res->error.code);
    size_t size = payload_size(res);

    if (c) {
        conn_answered(c, size);
        outcome = meter_outcome_of(pack_reply(c, res, size));
    }
    if (outcome == METER_OK && res->type == RESULT_GET && !res->u.get.found)
        outcome = METER_NOT_FOUND;
    meter_answered(&wl->meters, e->u.reply.tag, outcome);
}

/* To a sibling: a copy goes into this wake-up's outbox. */
static void send_sibling(struct worker_loop *wl, const struct effect *e)
{
    uint32_t to = e->u.send.to.worker;
    struct letter *letter = letter_peer(wl->index, &e->u.send.msg, e->u.send.owner);

    assert(to < wl->node->n_workers && to != wl->index);
    if (letter) {
        letter->u.peer.sent_ms = loop_now_ms(&wl->loop);
        list_append(&wl->outboxes[to], &letter->link);
    } else if (peer_is_request(&e->u.send.msg)) { /* as if its mailbox were full */
        dones_refuse(&wl->dones, &e->u.send.to, 0, &e->u.send.msg);
    } /* else like a lost message: its deadline ends it */
}

static void run_send(struct worker_loop *wl, const struct effect *e)
{
    const struct addr *to = &e->u.send.to;
    struct link *link = NULL;

    switch (to->kind) {
    case ADDR_WORKER:
        send_sibling(wl, e);
        return;
    case ADDR_LINK:
        link = (struct link *)loop_find_conn(&wl->loop, to->link);
        break;
    case ADDR_NODE:
        link = peers_pick(&wl->peers, to->node, to->worker);
        break;
    case ADDR_SELF:
        assert(to->kind != ADDR_SELF); /* the core does that inside a step */
    }
    if (!link || link_send(link, &e->u.send.msg) || !peer_is_request(&e->u.send.msg))
        return;
    struct addr from = {.kind = ADDR_LINK, .node = link->node, .link = link->conn.id};
    dones_refuse(&wl->dones, &from, link->node, &e->u.send.msg);
}

/* ---- bytes of operations ------------------------------------------------------------------- */

static bool in_blob(const struct blob *b, struct slice s)
{
    return s.len == 0 || (s.data >= b->data && s.data + s.len <= b->data + b->len);
}

static void move_slice(struct slice *s, uint8_t **at)
{
    if (s->len == 0)
        return;
    memcpy(*at, s->data, s->len);
    s->data = *at;
    *at += s->len;
}

/* The operation's bytes live until it is submitted, in a blob of which it has a reference: the one
 * they came in, or a copy. 0, or why it cannot be kept. */
static int keep_op(struct store_batch *b, struct store_op *op)
{
    struct slice *parts[] = {&op->key.partition, &op->key.sort, &op->state.value};
    size_t n = 3, len = 0;

    if (op->type == STORE_OP_META) {
        parts[0] = &op->name;
        parts[1] = &op->value;
        n = 2;
    } else if (op->type != STORE_OP_MERGE) {
        n = 0;
    }
    bool shared = op->owner != NULL;
    for (size_t i = 0; i < n; i++) {
        shared = shared && in_blob(op->owner, *parts[i]);
        len += parts[i]->len;
    }
    if (b->bytes + len > STORE_QUEUE_BYTES_MAX)
        return -ERR_OVERLOADED;
    op->owner = shared ? blob_ref(op->owner) : blob_new(len);
    if (!op->owner)
        return -ERR_NO_MEMORY;
    uint8_t *at = op->owner->data;
    for (size_t i = 0; i < n && !shared; i++)
        move_slice(parts[i], &at);
    b->bytes += op->owner->len;
    return 0;
}

static void batch_drop(struct store_batch *b, struct store_op *op)
{
    b->bytes -= op->owner->len;
    blob_unref(op->owner);
}

/* ---- waiting for the disk ------------------------------------------------------------------ */

/* To be told, once in a while, when reads begin to wait for the disk. */
static void tell_cold(struct worker_loop *wl)
{
    uint64_t now_ms = loop_now_ms(&wl->loop);

    if (wl->cold_told_ms && now_ms - wl->cold_told_ms < COLD_TELL_MS)
        return;
    wl->cold_told_ms = now_ms;
    log_info(&wl->node->log, "the data is not in memory: reads wait for the disk", "worker=%u",
             wl->index);
}

/* LATER: it is parked. A get's bytes are not in a blob yet. */
static enum store_fetch park(struct worker_loop *wl, enum parked_kind kind, struct store_op *op)
{
    struct store *s = wl->node->store;
    const struct version *put = kind == PARKED_MERGE ? &op->state.version : NULL;

    if (!s->ops->fetch)
        return STORE_FETCH_NOW;
    enum store_fetch when =
        s->ops->fetch(s, wl->index, parked_next(&wl->parked), op->token, &op->key, put);
    if (when != STORE_FETCH_LATER)
        return when;
    tell_cold(wl);
    if (kind == PARKED_GET && keep_op(&wl->batch, op) < 0) {
        parked_put(&wl->parked, PARKED_GONE, NULL);
        return STORE_FETCH_NOW;
    }
    parked_put(&wl->parked, kind, op);
    return STORE_FETCH_LATER;
}

/* ---- reads --------------------------------------------------------------------------------- */

static void get_now(struct worker_loop *wl, const struct store_op *op)
{
    struct store *s = wl->node->store;
    struct done *done = dones_add(&wl->dones, EVENT_GOT);
    struct event *ev = &done->event;

    ev->u.got.cookie = op->cookie;
    ev->u.got.lsn = 0;
    ev->u.got.state = (struct state){0};
    ev->u.got.error =
        s->ops->get(s, wl->index, op->token, &op->key, &ev->u.got.state, &ev->u.got.lsn);
    wl->read = true;
}

static void get_failed(struct worker_loop *wl, uint64_t cookie, int error)
{
    struct event *ev = &dones_add(&wl->dones, EVENT_GOT)->event;

    ev->u.got.cookie = cookie;
    ev->u.got.lsn = 0;
    ev->u.got.state = (struct state){0};
    ev->u.got.error = error;
}

static void run_get(struct worker_loop *wl, const struct effect *e)
{
    struct store_op op = {.type = STORE_OP_MERGE, /* as far as its bytes go */
                          .cookie = e->u.get.cookie,
                          .until_ms = e->u.get.until_ms,
                          .token = e->u.get.token,
                          .key = e->u.get.key};

    switch (park(wl, PARKED_GET, &op)) {
    case STORE_FETCH_NOW:
        get_now(wl, &op);
        break;
    case STORE_FETCH_LATER:
        break;
    case STORE_FETCH_FULL:
        get_failed(wl, op.cookie, -ERR_OVERLOADED); /* it is asked again a little later */
        break;
    }
}

static void run_scan(struct worker_loop *wl, const struct effect *e)
{
    struct store *s = wl->node->store;
    struct scan_page *page = dones_page(&wl->dones);
    int error = -ERR_NO_MEMORY;

    if (page) {
        error = s->ops->scan(s, wl->index, e->u.scan.range, e->u.scan.cursor, e->u.scan.bytes_max,
                             &page->page);
        wl->read = true;
    }
    struct done *done = dones_add(&wl->dones, EVENT_SCANNED);
    done->page = page;
    done->event.u.scanned.cookie = e->u.scan.cookie;
    done->event.u.scanned.error = error;
    done->event.u.scanned.page = page ? &page->page : NULL;
}

static void run_leaves(struct worker_loop *wl, const struct effect *e)
{
    struct store *s = wl->node->store;
    struct store_range range = e->u.leaves.range;
    uint32_t n = (uint32_t)((range.last >> (64 - STORE_LEAF_BITS)) -
                            (range.first >> (64 - STORE_LEAF_BITS)) + 1);
    uint64_t *leaves = malloc(n * sizeof(*leaves)), begin_ns = uv_hrtime(), lsn = 0;
    int error = -ERR_NO_MEMORY;

    if (leaves) {
        error = s->ops->leaves(s, wl->index, range, leaves, &lsn);
        wl->read = true;
    }
    struct done *done = dones_add(&wl->dones, EVENT_LEAVES);
    done->leaves = leaves;
    done->event.u.leaves.cookie = e->u.leaves.cookie;
    done->event.u.leaves.error = error;
    done->event.u.leaves.leaves = leaves;
    done->event.u.leaves.n = n;
    done->event.u.leaves.lsn = lsn;
    done->event.u.leaves.cost_us = (uint32_t)((uv_hrtime() - begin_ns) / 1000);
}

static void run_info(struct worker_loop *wl, const struct effect *e)
{
    struct store *s = wl->node->store;
    struct store_info info = {0};
    int error = s->ops->vnode_info(s, wl->index, e->u.info.range, &info);
    struct done *done = dones_add(&wl->dones, EVENT_INFO);

    wl->read = true;
    done->event.u.info.cookie = e->u.info.cookie;
    done->event.u.info.error = error;
    done->event.u.info.info = info;
}

static void run_purge(struct worker_loop *wl, const struct effect *e)
{
    struct store *s = wl->node->store;
    int error = s->ops->purge(s, wl->index, e->u.purge.cookie, e->u.purge.range, e->u.purge.floor);

    if (error < 0)
        store_failed(wl, e->u.purge.cookie, error);
}

/* ---- the store's batch --------------------------------------------------------------------- */

static bool batch_room(struct store_batch *b)
{
    if (b->n < b->cap)
        return true;
    uint32_t cap = b->cap ? 2 * b->cap : 256;
    if (cap > STORE_QUEUE_OPS_MAX)
        return false;
    struct store_op *ops = realloc(b->ops, cap * sizeof(*ops));
    if (!ops)
        return false;
    b->ops = ops;
    b->cap = cap;
    return true;
}

static void batch_add(struct worker_loop *wl, struct store_op *op)
{
    struct store_batch *b = &wl->batch;

    if (batch_room(b)) {
        b->ops[b->n++] = *op;
        return;
    }
    batch_drop(b, op);
    store_failed(wl, op->cookie, -ERR_NO_MEMORY);
}

static void hurry_merges(struct worker_loop *wl)
{
    struct store_op op;

    while (parked_hurry(&wl->parked, &op))
        batch_add(wl, &op);
}

static void run_store(struct worker_loop *wl, const struct effect *e)
{
    struct store_batch *b = &wl->batch;
    struct store_op op = e->u.store;

    int rc = keep_op(b, &op);
    if (rc < 0) {
        store_failed(wl, op.cookie, rc);
        return;
    }
    if (op.type == STORE_OP_META)
        hurry_merges(wl);
    enum store_fetch when =
        op.type == STORE_OP_MERGE ? park(wl, PARKED_MERGE, &op) : STORE_FETCH_NOW;
    if (when == STORE_FETCH_NOW)
        batch_add(wl, &op);
    if (when != STORE_FETCH_FULL)
        return;
    batch_drop(b, &op);
    store_failed(wl, op.cookie, -ERR_OVERLOADED);
}

/* Nobody waits for it any more. */
static bool op_is_late(struct worker_loop *wl, const struct store_op *op)
{
    return op->until_ms && op->until_ms <= loop_now_ms(&wl->loop);
}

static void fetched_get(struct worker_loop *wl, struct store_op *op)
{
    if (op_is_late(wl, op))
        get_failed(wl, op->cookie, -ERR_DEADLINE);
    else
        get_now(wl, op);
    batch_drop(&wl->batch, op);
}

static void fetched_merge(struct worker_loop *wl, struct store_op *op)
{
    if (!op_is_late(wl, op)) {
        batch_add(wl, op);
        return;
    }
    batch_drop(&wl->batch, op);
    store_failed(wl, op->cookie, -ERR_DEADLINE);
}

size_t worker_effects_fetched(struct worker_loop *wl)
{
    struct store *s = wl->node->store;
    uint64_t cookies[FETCHED_MAX];
    struct store_op op;

    if (!s->ops->fetched)
        return 0;
    size_t n = s->ops->fetched(s, wl->index, cookies, FETCHED_MAX);
    for (size_t i = 0; i < n; i++) {
        enum parked_kind kind = parked_take(&wl->parked, cookies[i], &op);
        if (kind == PARKED_GET)
            fetched_get(wl, &op);
        else if (kind == PARKED_MERGE)
            fetched_merge(wl, &op);
    }
    return n;
}

/* Of what the store had no room for, drops what came too late to be stored. */
static void batch_drop_late(struct worker_loop *wl)
{
    struct store_batch *b = &wl->batch;
    uint32_t kept = 0;

    for (uint32_t i = 0; i < b->n; i++) {
        if (i >= b->n_waiting || !op_is_late(wl, &b->ops[i])) {
            b->ops[kept++] = b->ops[i];
            continue;
        }
        batch_drop(b, &b->ops[i]);
        store_failed(wl, b->ops[i].cookie, -ERR_DEADLINE);
    }
    b->n = kept;
}

/* The store takes all that it is offered or nothing, and its bound is in bytes: what is too much
 * for it is offered in halves. So is what it refuses, until it is known which operation it means:
 * the others belong to others. */
void worker_effects_submit(struct worker_loop *wl)
{
    struct store *s = wl->node->store;
    struct store_batch *b = &wl->batch;
    uint32_t at = 0, offer = STORE_SUBMIT_MAX;
    uint64_t lsn;

    if (b->n_waiting > 0)
        batch_drop_late(wl);
    while (at < b->n) {
        uint32_t n = b->n - at < offer ? b->n - at : offer;
        int rc = s->ops->submit(s, wl->index, b->ops + at, n, &lsn);
        if (rc == -ERR_FULL && n == 1)
            break; /* the store wakes us when it has finished some */
        if (rc < 0 && n > 1) {
            offer = n / 2;
            continue;
        }
        offer = rc < 0 ? STORE_SUBMIT_MAX : offer;
        for (uint32_t i = at; i < at + n; i++) {
            if (rc < 0)
                store_failed(wl, b->ops[i].cookie, rc);
            batch_drop(b, &b->ops[i]);
        }
        at += n;
    }
    b->n -= at;
    b->n_waiting = b->n;
    if (b->n > 0)
        memmove(b->ops, b->ops + at, b->n * sizeof(*b->ops));
}

/* ---- traces -------------------------------------------------------------------------------- */

static void run_trace(struct worker_loop *wl, const struct effect *e)
{
    struct log *log = &wl->node->log;
    uint64_t a = e->u.trace.a, b = e->u.trace.b;

    switch (e->u.trace.type) {
    case TRACE_CLOCK_AHEAD:
        log_warn(log, "another clock is too far ahead and was not adopted",
                 "theirs_ms=%" PRIu64 " ours_ms=%" PRIu64, a, b);
        break;
    case TRACE_CLOCK_WAIT:
        log_debug(log, "writes wait for the clock's lease", "bound_ms=%" PRIu64 " wall_ms=%" PRIu64,
                  a, b);
        break;
    case TRACE_RESTAMP:
        log_debug(log, "a put was stamped anew", "partition=%" PRIu64, a);
        break;
    case TRACE_READ_REPAIR:
        log_debug(log, "a get repaired replicas", "partition=%" PRIu64 " slots=%" PRIu64, a, b);
        break;
    case TRACE_CORRUPT:
        log_error(log, "a stored record fails its checksum",
                  "partition=%" PRIu64 " token=%016" PRIx64, a, b);
        break;
    case TRACE_OVERLOADED:
        log_warn(log, "refusing requests: overloaded", "in_flight=%" PRIu64 " refused=%" PRIu64, a,
                 b);
        break;
    case TRACE_HEDGE:
        log_debug(log, "a slow slot was not waited for",
                  "partition=%" PRIu64 " asked_slot=%" PRIu64, a, b);
        break;
    }
}

void worker_effects_run(struct worker_loop *wl, const struct effects *effects)
{
    for (uint32_t i = 0; i < effects->n; i++) {
        const struct effect *e = &effects->list[i];
        switch (e->type) {
        case EFFECT_REPLY:
            run_reply(wl, e);
            break;
        case EFFECT_SEND:
            run_send(wl, e);
            break;
        case EFFECT_GET:
            run_get(wl, e);
            break;
        case EFFECT_SCAN:
            run_scan(wl, e);
            break;
        case EFFECT_LEAVES:
            run_leaves(wl, e);
            break;
        case EFFECT_INFO:
            run_info(wl, e);
            break;
        case EFFECT_PURGE:
            run_purge(wl, e);
            break;
        case EFFECT_STORE:
            run_store(wl, e);
            break;
        case EFFECT_TRACE:
            run_trace(wl, e);
            break;
        }
    }
}

int worker_effects_init(struct worker_loop *wl)
{
    wl->effects = malloc(sizeof(*wl->effects));
    return wl->effects ? dones_init(&wl->dones) : -ERR_NO_MEMORY;
}

void worker_effects_deinit(struct worker_loop *wl)
{
    for (uint32_t i = 0; i < wl->batch.n; i++)
        blob_unref(wl->batch.ops[i].owner);
    free(wl->batch.ops);
    parked_deinit(&wl->parked);
    dones_deinit(&wl->dones);
    free(wl->effects);
}
