/* session: see session.h. This file is the life of a request; session_choose.c is where it goes. */
#include "client/session.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/session_slot.h"

/* ---- lists of slots ---------------------------------------------------------------------- */

static const struct pool_list list_empty = {.head = POOL_NONE, .tail = POOL_NONE};

static void list_push(struct session *s, struct pool_list *l, uint32_t i)
{
    struct session_slot *r = &s->slots[i];

    r->next = POOL_NONE;
    r->prev = l->tail;
    if (l->tail == POOL_NONE)
        l->head = i;
    else
        s->slots[l->tail].next = i;
    l->tail = i;
    l->n++;
}

static void list_remove(struct session *s, struct pool_list *l, uint32_t i)
{
    struct session_slot *r = &s->slots[i];

    assert(l->n > 0);
    if (r->prev == POOL_NONE)
        l->head = r->next;
    else
        s->slots[r->prev].next = r->next;
    if (r->next == POOL_NONE)
        l->tail = r->prev;
    else
        s->slots[r->next].prev = r->prev;
    l->n--;
}

static struct pool_list *list_of(struct session *s, const struct session_slot *r)
{
    switch ((enum slot_state)r->state) {
    case SLOT_FREE:
        return &s->free;
    case SLOT_WAIT:
        return &s->wait;
    case SLOT_QUEUED:
        return &pool_conn(&s->pool, r->conn)->queued;
    case SLOT_FLIGHT:
        return &pool_conn(&s->pool, r->conn)->flight;
    case SLOT_DONE:
        return &s->done;
    }
    assert(0 && "a slot is in one of these states");
    return &s->free;
}

void slot_move(struct session *s, struct session_slot *r, enum slot_state state, uint32_t conn)
{
    uint32_t i = (uint32_t)(r - s->slots);

    list_remove(s, list_of(s, r), i);
    r->state = (uint8_t)state;
    if (conn != POOL_NONE)
        r->conn = conn;
    list_push(s, list_of(s, r), i);
}

void slot_wake_at(struct session *s, uint64_t ms)
{
    if (ms < s->wake_ms)
        s->wake_ms = ms;
}

/* ---- set-up ------------------------------------------------------------------------------ */

int session_init(struct session *s, const struct session_config *config)
{
    uint32_t i;

    *s = (struct session){.config = *config,
                          .free = list_empty,
                          .wait = list_empty,
                          .done = list_empty,
                          .dirty_head = POOL_NONE,
                          .dirty_tail = POOL_NONE,
                          .repeat_credit = SESSION_REPEAT_BURST * SESSION_REPEAT_PER_SUCCESSES,
                          .wake_ms = SESSION_WAIT_FOREVER};
    pool_init(&s->pool, config->lanes, config->seed);
    /* one more than the caller may use: the fetch of the ring is never refused */
    s->slots = calloc((size_t)config->requests_max + 1, sizeof(*s->slots));
    if (!s->slots)
        return -ERR_NO_MEMORY;
    s->n_slots = config->requests_max + 1;
    for (i = 0; i < s->n_slots; i++) {
        s->slots[i].generation = 1; /* id 0 is the connection's */
        list_push(s, &s->free, i);
    }
    return 0;
}

void session_deinit(struct session *s)
{
    uint32_t i;

    for (i = 0; i < s->n_slots; i++)
        buf_deinit(&s->slots[i].bytes);
    free(s->slots);
    free(s->member_target);
    route_free(s->route);
    pool_deinit(&s->pool);
    *s = (struct session){0};
}

int session_add_endpoint(struct session *s, struct slice address)
{
    return pool_add(&s->pool, address, true);
}

/* ---- actions to hand out ----------------------------------------------------------------- */

void session_mark(struct session *s, uint32_t conn)
{
    struct pool_conn *c = pool_conn(&s->pool, conn);

    if (c->in_dirty)
        return;
    c->in_dirty = true;
    c->dirty_next = POOL_NONE;
    if (s->dirty_tail == POOL_NONE)
        s->dirty_head = conn;
    else
        pool_conn(&s->pool, s->dirty_tail)->dirty_next = conn;
    s->dirty_tail = conn;
}

static void unmark_head(struct session *s)
{
    struct pool_conn *c = pool_conn(&s->pool, s->dirty_head);

    c->in_dirty = false;
    s->dirty_head = c->dirty_next;
    if (s->dirty_head == POOL_NONE)
        s->dirty_tail = POOL_NONE;
}

/* ---- the end of a request ---------------------------------------------------------------- */

static const char *address_of(const struct session *s, const struct session_slot *r)
{
    return r->conn == POOL_NONE ? "" : pool_target_of(&s->pool, r->conn)->address;
}

void slot_free(struct session *s, struct session_slot *r)
{
    s->bytes -= r->held;
    if (!(r->flags & SESSION_INTERNAL))
        s->n_pending--;
    if (r->bytes.cap > SESSION_KEEP_BYTES)
        buf_deinit(&r->bytes);
    r->bytes.len = 0;
    r->generation++;
    slot_move(s, r, SLOT_FREE, POOL_NONE);
}

void slot_finish(struct session *s, struct session_slot *r, struct session_done *ret)
{
    *ret = (struct session_done){.op = (enum wire_op)r->op,
                                 .address = address_of(s, r),
                                 .attempts = r->attempts,
                                 .callback = r->callback,
                                 .ctx = r->ctx};
    slot_free(s, r);
}

/* Ends with a failure that is handed out as DONE. `text` may be the slot's own. */
void slot_fail(struct session *s, struct session_slot *r, int code, const char *text)
{
    if (r->lost && slot_is_write(r))
        code = ERR_UNKNOWN_OUTCOME;
    r->code = code;
    if (text != r->text)
        snprintf(r->text, sizeof(r->text), "%s", text ? text : "");
    if (r->flags & SESSION_INTERNAL) {
        s->ring_fetching = false;
        slot_free(s, r);
        return;
    }
    slot_move(s, r, SLOT_DONE, POOL_NONE);
}

/* The deadline has passed, or there will be no other attempt: what is known of it? */
static void slot_expire(struct session *s, struct session_slot *r)
{
    bool sent = r->state == SLOT_FLIGHT;

    if (sent && slot_is_write(r)) {
        r->lost = true;
        slot_fail(s, r, ERR_UNKNOWN_OUTCOME, "no answer in time");
    } else if (r->code) { /* the last refusal says more than the clock */
        slot_fail(s, r, r->code, r->text);
    } else if (sent || r->attempts > 0) {
        slot_fail(s, r, ERR_DEADLINE, "no answer in time");
    } else {
        slot_fail(s, r, ERR_UNREACHABLE, s->pool.targets[0]->reason);
    }
}

/* ---- attempts ---------------------------------------------------------------------------- */

/* Finds a connection, or waits for one. The slot is in WAIT. */
static void slot_route(struct session *s, struct session_slot *r, uint64_t now_ms)
{
    uint64_t wake = 0;
    uint32_t conn = session_choose(s, r, now_ms, &wake);

    r->delayed = false;
    if (conn != POOL_NONE) {
        slot_move(s, r, SLOT_QUEUED, conn);
        session_mark(s, conn);
        slot_wake_at(s, r->deadline_ms);
        return;
    }
    if (wake == 0) {
        slot_fail(s, r, r->code ? r->code : ERR_UNREACHABLE,
                  r->code ? r->text : s->pool.targets[0]->reason);
        return;
    }
    r->attempt_ms = wake;
    slot_wake_at(s, wake < r->deadline_ms ? wake : r->deadline_ms);
}

/* Another attempt after delay_ms, if there is time. */
void slot_again(struct session *s, struct session_slot *r, uint64_t now_ms, uint32_t delay_ms)
{
    r->generation++;
    if (r->conn != POOL_NONE)
        r->avoid = r->conn / s->pool.lanes;
    if (r->attempts >= SESSION_ATTEMPTS_MAX || now_ms + delay_ms >= r->deadline_ms) {
        slot_move(s, r, SLOT_WAIT, POOL_NONE);
        slot_expire(s, r);
        return;
    }
    slot_move(s, r, SLOT_WAIT, POOL_NONE);
    if (delay_ms == 0) {
        slot_route(s, r, now_ms);
        return;
    }
    r->delayed = true;
    r->attempt_ms = now_ms + delay_ms;
    slot_wake_at(s, r->attempt_ms);
}

/* Its connection is gone, or it has waited its share on it. */
void slot_lose(struct session *s, struct session_slot *r, uint64_t now_ms)
{
    if (!slot_may_repeat(r)) {
        r->lost = true;
        slot_fail(s, r, ERR_UNKNOWN_OUTCOME, "the connection was lost before the answer");
        return;
    }
    r->lost |= slot_is_write(r);
    slot_again(s, r, now_ms, 0);
}

void session_route_waiting(struct session *s, uint64_t now_ms)
{
    uint32_t i, next;

    for (i = s->wait.head; i != POOL_NONE; i = next) {
        next = s->slots[i].next;
        if (!s->slots[i].delayed)
            slot_route(s, &s->slots[i], now_ms);
    }
}

/* ---- submit ------------------------------------------------------------------------------ */

static int request_check(const struct session_request *req)
{
    int r;

    if (req->op == OP_GET || req->op == OP_PUT || req->op == OP_DELETE) {
        r = key_check(&req->key);
        if (r < 0)
            return r;
    }
    return req->value.len > LIMIT_VALUE_BYTES ? -ERR_VALUE_TOO_LARGE : 0;
}

static int slot_fill(struct session_slot *r, const struct session_request *req)
{
    struct slice rest = req->op == OP_SCAN ? req->scan.cursor : req->value;
    int e = buf_reserve(&r->bytes, req->key.partition.len + req->key.sort.len + rest.len);

    if (e < 0)
        return e;
    buf_append_slice(&r->bytes, req->key.partition);
    buf_append_slice(&r->bytes, req->key.sort);
    buf_append_slice(&r->bytes, rest);
    r->op = (uint8_t)req->op;
    r->level = (uint8_t)req->level;
    r->bucket = req->key.bucket;
    r->partition_len = (uint32_t)req->key.partition.len;
    r->sort_len = (uint32_t)req->key.sort.len;
    r->scan_partition = req->scan.partition;
    r->scan_n_partitions = req->scan.n_partitions;
    r->scan_page_bytes = req->scan.page_bytes;
    r->with_ring = req->with_ring;
    r->flags = req->flags;
    r->lane = req->lane;
    r->callback = req->callback;
    r->ctx = req->ctx;
    r->held = r->bytes.len;
    return 0;
}

static void slot_reset(struct session_slot *r, uint64_t now_ms, uint32_t timeout_ms)
{
    r->lost = r->delayed = r->wide = r->has_token = false;
    r->attempts = r->no_quorum = 0;
    r->conn = r->avoid = POOL_NONE;
    r->code = 0;
    r->limit = r->actual = 0;
    r->text[0] = '\0';
    r->timeout_ms = timeout_ms;
    r->deadline_ms = now_ms + timeout_ms;
}

static int submit(struct session *s, uint64_t now_ms, const struct session_request *req)
{
    uint32_t i = s->free.head;
    struct session_slot *r;
    int e;

    if (i == POOL_NONE)
        return -ERR_FULL;
    r = &s->slots[i];
    e = slot_fill(r, req);
    if (e < 0)
        return e;
    slot_reset(r, now_ms, req->timeout_ms);
    s->bytes += r->held;
    s->rotor++;
    slot_move(s, r, SLOT_WAIT, POOL_NONE);
    slot_route(s, r, now_ms);
    return 0;
}

static void ring_fetch(struct session *s, uint64_t now_ms)
{
    struct session_request req = {
        .op = OP_RING, .timeout_ms = SESSION_RING_TIMEOUT_MS, .flags = SESSION_INTERNAL};

    s->ring_wanted = false;
    s->ring_fetching = true;
    s->ring_next_ms = now_ms + SESSION_RING_PAUSE_MS;
    if (submit(s, now_ms, &req) < 0)
        s->ring_fetching = false;
}

void session_ring_want(struct session *s, uint64_t now_ms)
{
    if (s->config.direct || s->ring_fetching)
        return;
    if (now_ms >= s->ring_next_ms) {
        ring_fetch(s, now_ms);
    } else {
        s->ring_wanted = true;
        slot_wake_at(s, s->ring_next_ms);
    }
}

int session_submit(struct session *s, uint64_t now_ms, const struct session_request *req)
{
    int e = request_check(req);

    if (e < 0)
        return e;
    if (s->closed)
        return -ERR_CLOSED;
    if (s->n_pending >= s->config.requests_max)
        return -ERR_FULL;
    /* a request of any size is taken when it is alone */
    if (s->n_pending > 0 &&
        s->bytes + req->key.partition.len + req->value.len > s->config.bytes_max)
        return -ERR_FULL;
    s->n_pending++;
    e = submit(s, now_ms, req);
    if (e < 0) {
        s->n_pending--;
        return e;
    }
    if (!s->route && ++s->n_submitted >= SESSION_ROUTE_AFTER)
        session_ring_want(s, now_ms);
    return 0;
}

/* ---- sending ----------------------------------------------------------------------------- */

int session_hello(struct session *s, uint32_t conn, struct buf *out)
{
    struct wire_request req = {.id = SESSION_HELLO_ID, .op = OP_HELLO, .hlc = s->hlc};
    uint32_t n_workers = pool_target_of(&s->pool, conn)->n_workers, lane = conn % s->pool.lanes;

    req.u.hello.protocol = WIRE_PROTOCOL;
    req.u.hello.client = slice_str(s->config.client);
    /* a worker for each of several lanes; one that does not exist is as good as any */
    if (s->pool.lanes > 1)
        req.u.hello.worker = 1 + (n_workers ? lane % n_workers : lane);
    return wire_request_pack(&req, out);
}

static uint32_t deadline_left(const struct session_slot *r, uint64_t now_ms)
{
    uint64_t left = r->deadline_ms > now_ms ? r->deadline_ms - now_ms : 1;

    /* a little less than the truth, so that the node's typed answer is here before our timer */
    left -= left / 16 < 50 ? left / 16 : 50;
    return (uint32_t)left;
}

int session_pack(struct session *s, uint64_t now_ms, uint32_t slot, struct buf *out)
{
    struct session_slot *r = &s->slots[slot];
    uint64_t share = r->timeout_ms / SESSION_ATTEMPT_SHARE;
    struct wire_request req = {
        .id = (uint64_t)r->generation << 32 | slot,
        .deadline_ms = deadline_left(r, now_ms),
        .ring_epoch = s->route ? route_ring(s->route)->epoch : 0,
        .hlc = s->hlc,
        .op = (enum wire_op)r->op,
        .level = (enum wire_level)r->level,
        .key = slot_key(r),
    };
    int e;

    if (r->op == OP_PUT)
        req.value = slot_rest(r);
    if (r->op == OP_SCAN)
        req.u.scan = (struct wire_scan_request){.partition = r->scan_partition,
                                                .n_partitions = r->scan_n_partitions,
                                                .cursor = slot_rest(r),
                                                .page_bytes = r->scan_page_bytes};
    if (r->op == OP_STATUS)
        req.u.status.ring = r->with_ring;
    e = wire_request_pack(&req, out);
    if (e < 0) {
        slot_fail(s, r, -e, "");
        return e;
    }
    r->attempts++;
    r->sent_ms = now_ms;
    r->attempt_ms = now_ms + (share ? share : 1);
    slot_move(s, r, SLOT_FLIGHT, POOL_NONE);
    slot_wake_at(s, r->attempt_ms);
    return 0;
}

void session_block(struct session *s, uint32_t conn, bool blocked)
{
    struct pool_conn *c = pool_conn(&s->pool, conn);

    c->blocked = blocked;
    if (!blocked && c->queued.n > 0)
        session_mark(s, conn);
}

static bool next_done(struct session *s, struct session_action *ret)
{
    struct session_slot *r;

    if (s->done.head == POOL_NONE)
        return false;
    r = &s->slots[s->done.head];
    ret->type = SESSION_DONE;
    slot_finish(s, r, &ret->done);
    ret->done.code = -r->code;
    ret->done.text =
        slice_str(r->text); /* the slot is free, its text stays until it is used again */
    ret->done.limit = r->limit;
    ret->done.actual = r->actual;
    return true;
}

static bool next_of_conn(struct session *s, uint32_t conn, struct session_action *ret)
{
    struct pool_conn *c = pool_conn(&s->pool, conn);

    ret->conn = conn;
    if (c->want_close) {
        c->want_close = false;
        ret->type = SESSION_CLOSE;
        return true;
    }
    if (c->want_connect) {
        c->want_connect = false;
        ret->type = SESSION_CONNECT;
        ret->address = pool_target_of(&s->pool, conn)->address;
        return true;
    }
    if (c->state == POOL_UP && !c->blocked && c->queued.n > 0 &&
        c->flight.n < SESSION_CONN_FLIGHT_MAX) {
        ret->type = SESSION_SEND;
        ret->slot = c->queued.head;
        return true;
    }
    return false;
}

bool session_next(struct session *s, uint64_t now_ms, struct session_action *ret)
{
    if (s->ring_wanted && now_ms >= s->ring_next_ms)
        session_ring_want(s, now_ms);
    while (s->dirty_head != POOL_NONE) {
        if (next_of_conn(s, s->dirty_head, ret))
            return true;
        unmark_head(s);
    }
    return next_done(s, ret);
}

/* ---- time -------------------------------------------------------------------------------- */

/* Its share is over, or its deadline. A connection that has said nothing since the request went out
 * is suspect after the first and closed at the second: its node is stopped, or the path is cut. */
static void tick_flight(struct session *s, uint64_t now_ms, struct session_slot *r)
{
    struct pool_conn *c = pool_conn(&s->pool, r->conn);
    uint32_t conn = r->conn;
    bool silent = c->rx_ms <= r->sent_ms;

    if (now_ms >= r->deadline_ms) {
        slot_expire(s, r);
        if (silent && c->suspect)
            session_drop(s, now_ms, conn, "does not answer");
        return;
    }
    if (now_ms < r->attempt_ms)
        return;
    r->attempt_ms = r->deadline_ms;
    if (silent)
        c->suspect = true;
    if (slot_may_repeat(r) && session_has_other(s, r, now_ms))
        slot_lose(s, r, now_ms);
    else if (silent && session_start_others(s, r, now_ms))
        r->attempt_ms = now_ms + SESSION_LOOK_AGAIN_MS; /* one of them may be up by then */
}

static void tick_slot(struct session *s, uint64_t now_ms, struct session_slot *r)
{
    switch ((enum slot_state)r->state) {
    case SLOT_FREE:
    case SLOT_DONE:
        return;
    case SLOT_FLIGHT:
        tick_flight(s, now_ms, r);
        break;
    case SLOT_WAIT:
        if (now_ms >= r->deadline_ms) {
            slot_expire(s, r);
        } else if (now_ms >= r->attempt_ms) {
            r->wide = !r->delayed;
            slot_route(s, r, now_ms);
        }
        break;
    case SLOT_QUEUED:
        if (now_ms >= r->deadline_ms)
            slot_expire(s, r);
        break;
    }
    if (r->state == SLOT_WAIT || r->state == SLOT_FLIGHT)
        slot_wake_at(s, r->attempt_ms < r->deadline_ms ? r->attempt_ms : r->deadline_ms);
    else if (r->state == SLOT_QUEUED)
        slot_wake_at(s, r->deadline_ms);
}

static void tick_connecting(struct session *s, uint64_t now_ms)
{
    uint32_t i, n = s->pool.n_targets * s->pool.lanes;
    struct pool_conn *c;

    for (i = 0; i < n && s->pool.n_connecting > 0; i++) {
        c = pool_conn(&s->pool, i);
        if (c->state != POOL_CONNECTING)
            continue;
        if (now_ms >= c->timeout_ms)
            session_drop(s, now_ms, i, "no answer to the connection");
        else
            slot_wake_at(s, c->timeout_ms);
    }
}

void session_tick(struct session *s, uint64_t now_ms)
{
    uint32_t i;

    if (now_ms < s->wake_ms)
        return;
    s->wake_ms = SESSION_WAIT_FOREVER;
    tick_connecting(s, now_ms);
    for (i = 0; i < s->n_slots; i++)
        tick_slot(s, now_ms, &s->slots[i]);
    if (s->ring_wanted)
        slot_wake_at(s, s->ring_next_ms);
}

void session_close(struct session *s)
{
    struct session_slot *r;
    uint32_t i;

    s->closed = true;
    for (i = 0; i < s->n_slots; i++) {
        r = &s->slots[i];
        if (r->state == SLOT_FREE || r->state == SLOT_DONE)
            continue;
        if (r->state == SLOT_FLIGHT && slot_is_write(r))
            r->lost = true;
        slot_fail(s, r, ERR_CLOSED, "the handle was closed");
    }
}

bool session_has_to_send(const struct session *s)
{
    return s->dirty_head != POOL_NONE;
}

uint64_t session_deadline(const struct session *s)
{
    if (s->done.head != POOL_NONE || s->dirty_head != POOL_NONE)
        return 0;
    return s->wake_ms;
}
