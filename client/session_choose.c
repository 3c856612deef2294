/* session_choose: which connection a request takes.
 *
 * Order of preference: the primary owner of the key, its other owners, the endpoints given (rotated
 * per request, so that load spreads), any other node that is up. The first one that is up and not
 * suspect wins, and connections to those before it are started for the requests to come: a request
 * never waits for a better connection while a usable one is up. The target that failed this request
 * last is taken only when nothing else is up. One that is shutting down is not taken even then:
 * what would be sent to it may be lost with its connections, so others are connected to instead.
 */
#include "client/session_slot.h"

#define CANDIDATES_MAX (LIMIT_SLOTS_MAX + POOL_ENDPOINTS_MAX)

struct candidates {
    uint32_t targets[CANDIDATES_MAX];
    uint32_t n;
};

static uint32_t partition_of(const struct session *s, struct session_slot *r)
{
    struct key key = slot_key(r);

    if (r->op == OP_SCAN)
        return r->scan_n_partitions == route_ring(s->route)->n_partitions ? r->scan_partition
                                                                          : UINT32_MAX;
    if (r->op != OP_GET && r->op != OP_PUT && r->op != OP_DELETE)
        return UINT32_MAX;
    r->token = route_token(s->route, &key);
    r->has_token = true;
    return route_partition(s->route, r->token);
}

static void candidate_add(struct candidates *c, uint32_t target)
{
    uint32_t i;

    if (target == POOL_NONE || c->n == CANDIDATES_MAX)
        return;
    for (i = 0; i < c->n; i++) {
        if (c->targets[i] == target)
            return;
    }
    c->targets[c->n++] = target;
}

static void candidates_fill(struct session *s, uint32_t partition, struct candidates *c)
{
    struct route_owner owners[LIMIT_SLOTS_MAX];
    uint32_t i, n = 0;

    c->n = 0;
    if (partition != UINT32_MAX)
        n = route_owners(s->route, partition, owners);
    for (i = 0; i < n; i++)
        candidate_add(c, s->member_target[owners[i].member]);
    for (i = 0; i < s->pool.n_configured; i++)
        candidate_add(c, (s->rotor + i) % s->pool.n_configured);
}

/* The connection of a target that the request would use: its lane; or one that the worker of its
 * token serves, so that it needs no hop inside the node; or the next that is up. */
static uint32_t conn_for(struct session *s, const struct session_slot *r, uint32_t target)
{
    uint32_t lanes = s->pool.lanes, first = target * lanes, i, at, any = POOL_NONE;
    uint32_t n_workers = s->pool.targets[target]->n_workers;
    uint32_t worker = r->has_token && n_workers > 1 ? token_worker(r->token, n_workers) : POOL_NONE;
    const struct pool_conn *c;

    if (r->lane || lanes == 1)
        return first + (r->lane ? r->lane - 1 : 0) % lanes;
    for (i = 0; i < lanes; i++) {
        at = first + (s->rotor + i) % lanes;
        c = pool_conn(&s->pool, at);
        if (c->state != POOL_UP)
            continue;
        if (worker == POOL_NONE || c->worker == worker)
            return at;
        any = any == POOL_NONE ? at : any;
    }
    return any != POOL_NONE ? any : first + s->rotor % lanes;
}

static bool leaving(const struct session *s, uint32_t target, uint64_t now_ms)
{
    return now_ms < s->pool.targets[target]->leaving_ms;
}

static bool conn_up(const struct session *s, uint32_t conn, uint64_t now_ms)
{
    return pool_conn(&s->pool, conn)->state == POOL_UP && !leaving(s, conn / s->pool.lanes, now_ms);
}

static bool conn_good(const struct session *s, const struct session_slot *r, uint32_t conn,
                      uint64_t now_ms)
{
    const struct pool_conn *c = pool_conn(&s->pool, conn);

    return c->state == POOL_UP && !c->suspect && conn / s->pool.lanes != r->avoid &&
           !leaving(s, conn / s->pool.lanes, now_ms);
}

static void start(struct session *s, uint32_t conn, uint64_t now_ms)
{
    if (!pool_start(&s->pool, conn, now_ms))
        return;
    pool_conn(&s->pool, conn)->want_connect = true;
    if (pool_conn(&s->pool, conn)->timeout_ms < s->wake_ms)
        s->wake_ms = pool_conn(&s->pool, conn)->timeout_ms;
    session_mark(s, conn);
}

static uint32_t choose_good(struct session *s, const struct session_slot *r,
                            const struct candidates *c, uint64_t now_ms)
{
    uint32_t i, j, conn;

    for (i = 0; i < c->n; i++) {
        conn = conn_for(s, r, c->targets[i]);
        if (!conn_good(s, r, conn, now_ms))
            continue;
        for (j = 0; j < i; j++)
            start(s, conn_for(s, r, c->targets[j]), now_ms);
        return conn;
    }
    return POOL_NONE;
}

/* Anything that is up, the candidates first. */
static uint32_t choose_any(struct session *s, const struct session_slot *r,
                           const struct candidates *c, uint64_t now_ms)
{
    uint32_t i, conn;

    for (i = 0; i < c->n; i++) {
        conn = conn_for(s, r, c->targets[i]);
        if (conn_up(s, conn, now_ms) && !pool_conn(&s->pool, conn)->suspect)
            return conn;
    }
    for (i = 0; !s->config.direct && i < s->pool.n_targets; i++) {
        conn = conn_for(s, r, i);
        if (conn_good(s, r, conn, now_ms))
            return conn;
    }
    for (i = 0; i < c->n; i++) {
        conn = conn_for(s, r, c->targets[i]);
        if (conn_up(s, conn, now_ms))
            return conn;
    }
    return POOL_NONE;
}

static bool failed_since(const struct pool_target *t, uint64_t since_ms)
{
    return t->failures > 0 && t->failed_ms >= since_ms;
}

/* Nothing is up: starts the first connection that may be started, or all when `wide`. */
static uint64_t start_some(struct session *s, const struct session_slot *r,
                           const struct candidates *c, uint64_t now_ms)
{
    uint64_t retry = SESSION_WAIT_FOREVER, since = r->deadline_ms - r->timeout_ms;
    bool connecting = false, all_failed = true;
    const struct pool_target *t;
    uint32_t i, conn;

    for (i = 0; i < c->n; i++) {
        conn = conn_for(s, r, c->targets[i]);
        t = s->pool.targets[c->targets[i]];
        connecting |= pool_conn(&s->pool, conn)->state == POOL_CONNECTING;
        all_failed &= pool_backing_off(&s->pool, conn, now_ms) || failed_since(t, since);
    }
    if (!connecting && all_failed && (r->flags & SESSION_FAIL_FAST))
        return 0;
    for (i = 0; i < c->n; i++) {
        conn = conn_for(s, r, c->targets[i]);
        t = s->pool.targets[c->targets[i]];
        if (failed_since(t, since) && (r->flags & SESSION_FAIL_FAST))
            continue; /* once each is enough for it */
        if (leaving(s, c->targets[i], now_ms)) {
            if (t->leaving_ms < retry)
                retry = t->leaving_ms;
            if (pool_conn(&s->pool, conn)->state == POOL_UP)
                continue;
        }
        if (r->wide || !connecting)
            start(s, conn, now_ms);
        connecting |= pool_conn(&s->pool, conn)->state == POOL_CONNECTING;
        if (t->failures > 0 && t->retry_at_ms < retry)
            retry = t->retry_at_ms;
    }
    if (connecting || retry > now_ms + SESSION_WIDEN_MS)
        return now_ms + SESSION_WIDEN_MS;
    return retry > now_ms ? retry : now_ms + 1;
}

uint32_t session_choose(struct session *s, struct session_slot *r, uint64_t now_ms,
                        uint64_t *ret_wake)
{
    uint32_t partition = UINT32_MAX, member, conn;
    struct candidates c;

    if (s->route && !s->config.direct)
        partition = partition_of(s, r);
    if (partition != UINT32_MAX) {
        /* the usual case, without a list */
        member = route_primary(s->route, partition);
        if (member != UINT32_MAX && s->member_target[member] != POOL_NONE) {
            conn = conn_for(s, r, s->member_target[member]);
            if (conn_good(s, r, conn, now_ms))
                return conn;
        }
    }
    candidates_fill(s, partition, &c);
    conn = choose_good(s, r, &c, now_ms);
    if (conn == POOL_NONE)
        conn = choose_any(s, r, &c, now_ms);
    if (conn == POOL_NONE)
        *ret_wake = start_some(s, r, &c, now_ms);
    return conn;
}

bool session_has_other(struct session *s, const struct session_slot *r, uint64_t now_ms)
{
    uint32_t i, own = r->conn / s->pool.lanes;
    uint32_t n = s->config.direct ? s->pool.n_configured : s->pool.n_targets;
    const struct pool_conn *c;

    for (i = 0; i < n; i++) {
        c = pool_conn(&s->pool, conn_for(s, r, i));
        if (i != own && c->state == POOL_UP && !c->suspect && !leaving(s, i, now_ms))
            return true;
    }
    return false;
}

bool session_start_others(struct session *s, struct session_slot *r, uint64_t now_ms)
{
    uint32_t i, conn, own = r->conn / s->pool.lanes;
    struct candidates c;
    bool any = false;

    candidates_fill(s, s->route && !s->config.direct ? partition_of(s, r) : UINT32_MAX, &c);
    for (i = 0; i < c.n; i++) {
        if (c.targets[i] == own)
            continue;
        conn = conn_for(s, r, c.targets[i]);
        start(s, conn, now_ms);
        any |= pool_conn(&s->pool, conn)->state == POOL_CONNECTING;
    }
    return any;
}
