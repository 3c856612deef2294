/* session_answer: what comes from the other side: greetings, answers, refusals, rings, and the end
 * of connections. What a refusal means for a request is decided here, in refusal_repeats.
 */
#include <stdio.h>
#include <stdlib.h>

#include "client/session_slot.h"

/* ---- connections ------------------------------------------------------------------------- */

void session_lost(struct session *s, uint64_t now_ms, uint32_t conn, const char *reason)
{
    struct pool_conn *c = pool_conn(&s->pool, conn);
    uint32_t n, i;

    if (c->state != POOL_CONNECTING && c->state != POOL_UP)
        return;
    pool_down(&s->pool, conn, reason, now_ms);
    c->want_connect = false;
    for (n = c->queued.n; n > 0; n--) {
        i = c->queued.head;
        slot_again(s, &s->slots[i], now_ms, 0);
    }
    for (n = c->flight.n; n > 0; n--) {
        i = c->flight.head;
        slot_lose(s, &s->slots[i], now_ms);
    }
    session_route_waiting(s, now_ms);
}

/* Ours to close: silent, or no sense in it. */
void session_drop(struct session *s, uint64_t now_ms, uint32_t conn, const char *reason)
{
    pool_conn(&s->pool, conn)->want_close = true;
    session_mark(s, conn);
    session_lost(s, now_ms, conn, reason);
}

void session_received(struct session *s, uint64_t now_ms, uint32_t conn)
{
    struct pool_conn *c = pool_conn(&s->pool, conn);

    c->rx_ms = now_ms;
    c->suspect = false;
}

/* The first cluster met is the handle's: keys of two must not be mixed. */
static bool cluster_fits(struct session *s, const struct wire_id *id)
{
    if (wire_id_is_zero(id)) /* it has none yet */
        return true;
    if (wire_id_is_zero(&s->cluster_id))
        s->cluster_id = *id;
    return wire_id_equal(&s->cluster_id, id);
}

/* What the node says of the connection as a whole is its last word on it. */
static void conn_refused(struct session *s, uint64_t now_ms, uint32_t conn,
                         const struct wire_error *e)
{
    char reason[96];

    snprintf(reason, sizeof(reason), "refused: %.*s", (int)e->text.len,
             e->text.len ? (const char *)e->text.data : "");
    session_drop(s, now_ms, conn, reason);
}

static int hello_answer(struct session *s, uint64_t now_ms, uint32_t conn,
                        const struct wire_response *res)
{
    struct pool_conn *c = pool_conn(&s->pool, conn);

    if (c->state != POOL_CONNECTING)
        return -ERR_BAD_REQUEST;
    if (res->error.code) {
        conn_refused(s, now_ms, conn, &res->error);
        return 0;
    }
    if (res->type != RESULT_HELLO || res->u.hello.protocol < WIRE_PROTOCOL)
        return -ERR_UNSUPPORTED;
    if (!cluster_fits(s, &res->u.hello.cluster_id)) {
        session_drop(s, now_ms, conn, "belongs to another cluster than the first node");
        return 0;
    }
    pool_up(&s->pool, conn, &res->u.hello, now_ms);
    session_route_waiting(s, now_ms);
    return 0;
}

/* ---- answers ----------------------------------------------------------------------------- */

static int ring_set(struct session *s, const struct wire_ring *ring)
{
    struct route *route;
    uint32_t *map, i;
    int r;

    if (s->route && ring->epoch < route_ring(s->route)->epoch)
        return 0;
    r = route_new(ring, &route);
    if (r < 0)
        return r;
    map = calloc(ring->n_members, sizeof(*map));
    if (!map) {
        route_free(route);
        return -ERR_NO_MEMORY;
    }
    for (i = 0; i < ring->n_members; i++) {
        r = pool_add_member(&s->pool, &route_ring(route)->members[i]);
        map[i] = r < 0 ? POOL_NONE : (uint32_t)r;
    }
    route_free(s->route);
    free(s->member_target);
    s->route = route;
    s->member_target = map;
    if (ring->epoch > s->epoch_seen)
        s->epoch_seen = ring->epoch;
    return 0;
}

static bool answer_fits(const struct session_slot *r, const struct wire_response *res)
{
    switch ((enum wire_op)r->op) {
    case OP_GET:
        return res->type == RESULT_GET;
    case OP_PUT:
    case OP_DELETE:
        return res->type == RESULT_WRITE;
    case OP_PING:
        return res->type == RESULT_PING;
    case OP_SCAN:
        return res->type == RESULT_SCAN;
    case OP_RING:
        return res->type == RESULT_RING && res->u.ring;
    case OP_STATUS:
        return res->type == RESULT_STATUS && res->u.status;
    case OP_NONE:
    case OP_HELLO:
        break;
    }
    return false;
}

/* How a refusal that wrote nothing is repeated: -1 not at all, 0 at once elsewhere, 1 after a
 * pause. */
static int refusal_repeats(struct session_slot *r, const struct wire_error *e)
{
    switch (e->code) {
    case ERR_NOT_READY:
    case ERR_SHUTTING_DOWN:
    case ERR_TOO_MANY_CONNECTIONS:
        return 0;
    case ERR_OVERLOADED:
    case ERR_NO_MEMORY:
    case ERR_CLOCK:
    case ERR_NOT_OWNER:
    case ERR_NOT_YET:
    case ERR_FULL:
        return 1;
    case ERR_NO_QUORUM:
        return ++r->no_quorum < SESSION_NO_QUORUM_ATTEMPTS ? 1 : -1;
    case ERR_UNKNOWN_OUTCOME:
        return slot_may_repeat(r) ? 1 : -1;
    default: /* of a newer node: it says itself */
        return !err_known(e->code) && e->retryable ? 1 : -1;
    }
}

/* Whether a node that is overloaded may be asked again soon. */
static bool repeat_take(struct session *s)
{
    if (s->repeat_credit < SESSION_REPEAT_PER_SUCCESSES)
        return false;
    s->repeat_credit -= SESSION_REPEAT_PER_SUCCESSES;
    return true;
}

static void repeat_earn(struct session *s)
{
    if (s->repeat_credit < SESSION_REPEAT_BURST * SESSION_REPEAT_PER_SUCCESSES)
        s->repeat_credit++;
}

static uint32_t refusal_pause(struct session *s, const struct session_slot *r)
{
    uint32_t shift = r->attempts < 8 ? r->attempts : 8;
    uint32_t pause = SESSION_BACKOFF_FIRST_MS << shift;

    if (pause > SESSION_BACKOFF_MAX_MS)
        pause = SESSION_BACKOFF_MAX_MS;
    if (r->code == ERR_OVERLOADED && !repeat_take(s))
        pause = SESSION_OVERLOADED_MS;
    return pause / 2 + pool_random(&s->pool, pause / 2 + 1);
}

static void answer_refused(struct session *s, uint64_t now_ms, struct session_slot *r,
                           const struct wire_error *e)
{
    int repeats = refusal_repeats(r, e), n;

    r->code = e->code;
    r->limit = e->limit;
    r->actual = e->actual;
    n = e->text.len < sizeof(r->text) - 1 ? (int)e->text.len : (int)sizeof(r->text) - 1;
    memcpy(r->text, e->text.data ? e->text.data : (const uint8_t *)"", (size_t)n);
    r->text[n] = '\0';
    if ((e->code == ERR_UNKNOWN_OUTCOME || e->code == ERR_INTERNAL) && slot_is_write(r))
        r->lost = true;
    if (e->code == ERR_SHUTTING_DOWN)
        pool_leaving(&s->pool, r->conn, now_ms);
    if (repeats < 0) {
        slot_fail(s, r, e->code, r->text);
        return;
    }
    bool other = session_has_other(s, r, now_ms);
    if (!other) /* else this one would be asked again and again, being all that is up */
        session_start_others(s, r, now_ms);
    if (repeats == 0 && other && r->attempts < s->pool.n_targets)
        slot_again(s, r, now_ms, 0);
    else
        slot_again(s, r, now_ms, refusal_pause(s, r));
}

static int answer_ok(struct session *s, struct session_slot *r, const struct wire_response *res,
                     struct session_done *ret)
{
    bool internal = r->flags & SESSION_INTERNAL;

    if (r->op == OP_RING && ring_set(s, res->u.ring) < 0) {
        slot_fail(s, r, ERR_BAD_REQUEST, "the node's ring makes no sense");
        return 0;
    }
    if (internal) {
        s->ring_fetching = false;
        slot_free(s, r);
        return 0;
    }
    repeat_earn(s);
    slot_finish(s, r, ret);
    ret->response = res;
    return 1;
}

int session_answer(struct session *s, uint64_t now_ms, uint32_t conn,
                   const struct wire_response *res, struct session_done *ret)
{
    uint32_t i = (uint32_t)res->id;
    struct session_slot *r;

    if (res->hlc > s->hlc)
        s->hlc = res->hlc;
    if (res->ring_epoch > s->epoch_seen)
        s->epoch_seen = res->ring_epoch;
    if (s->route && res->ring_epoch > route_ring(s->route)->epoch)
        session_ring_want(s, now_ms);
    if (res->id == SESSION_HELLO_ID)
        return hello_answer(s, now_ms, conn, res);
    if (res->id == 0) {
        conn_refused(s, now_ms, conn, &res->error);
        return 0;
    }
    if (i >= s->n_slots)
        return 0;
    r = &s->slots[i];
    if (r->state != SLOT_FLIGHT || r->conn != conn || r->generation != (uint32_t)(res->id >> 32))
        return 0; /* an attempt given up */
    if (pool_conn(&s->pool, conn)->queued.n > 0)
        session_mark(s, conn); /* there is room in flight again */
    if (res->error.code) {
        answer_refused(s, now_ms, r, &res->error);
        return 0;
    }
    if (!answer_fits(r, res))
        return -ERR_BAD_REQUEST;
    pool_conn(&s->pool, conn)->served = true;
    return answer_ok(s, r, res, ret);
}
