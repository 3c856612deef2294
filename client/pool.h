/* pool: the nodes that a handle may talk to, and the state of its connections to them. Pure.
 *
 * A target is an address: one of the endpoints given, or a member that the ring named. Each has
 * `lanes` connections, made only when a request wants one.
 *
 *              want                  hello answered
 *      IDLE ---------> CONNECTING ------------------> UP
 *                       ^    |  failed, timed out      |  lost
 *                  want |    v                         v
 *                       +-- BACKOFF <------------------+
 *
 * A connection counts as UP only once the node has answered its Hello: the kernel of a stopped
 * process still accepts connections, and a write must not be sent into one. The back-off of a
 * target doubles with each failure in a row, jittered; it is the target's, not the connection's.
 * A SUSPECT connection is up, but has been silent while a request on it waited for its share of the
 * timeout: others are preferred until it says something.
 *
 * A target that is LEAVING has said that it shuts down: it answers what it has, its connections
 * stay until it closes them, and nothing more is sent to it for a while, or until it says Hello
 * again.
 *
 * Connections have dense numbers, target * lanes + lane, so that the edge can keep its own array.
 */
#ifndef QUOIT_CLIENT_POOL_H
#define QUOIT_CLIENT_POOL_H

#include "proto/wire.h"

#define POOL_NONE UINT32_MAX
#define POOL_ENDPOINTS_MAX 64u
#define POOL_TARGETS_MAX (POOL_ENDPOINTS_MAX + 4 * LIMIT_MEMBERS_MAX)
#define POOL_BACKOFF_FIRST_MS 20u
#define POOL_BACKOFF_MAX_MS 2000u
#define POOL_LEAVE_MS 2000u   /* a target that said it is shutting down is not chosen */
#define POOL_CONNECT_MS 2000u /* connection and Hello together */

enum pool_state {
    POOL_IDLE = 0,
    POOL_CONNECTING,
    POOL_UP,
    POOL_BACKOFF
};

/* An intrusive list of slots; session.c owns the links. */
struct pool_list {
    uint32_t head, tail, n;
};

struct pool_conn {
    uint8_t state; /* enum pool_state */
    bool suspect;
    bool served;  /* has answered a request since it is up */
    bool blocked; /* the edge has enough to write */
    bool open;    /* the edge has it: CONNECT was handed out, and neither side has closed it */
    bool want_connect, want_close, in_dirty; /* the session's: actions to hand out */
    uint32_t dirty_next;
    uint32_t worker;         /* of the node that serves it */
    uint64_t timeout_ms;     /* CONNECTING: when to give up */
    uint64_t rx_ms;          /* when something last arrived */
    struct pool_list queued; /* chosen, not packed: certainly not sent */
    struct pool_list flight; /* packed: may have been sent */
};

struct pool_target {
    char *address;
    bool configured;
    bool known; /* node_id is valid: it said Hello, or the ring names it */
    struct wire_id node_id;
    uint32_t n_workers;   /* 0: not known yet */
    uint32_t failures;    /* in a row */
    uint64_t failed_ms;   /* when it failed last */
    uint64_t retry_at_ms; /* no attempt before, while failures > 0 */
    uint64_t leaving_ms;  /* it is shutting down: not chosen before */
    char reason[96];      /* of the last failure, for people */
    struct pool_conn *conns;
};

struct pool {
    struct pool_target **targets;
    uint32_t n_targets, n_configured, lanes;
    uint32_t n_connecting;
    uint64_t random;
};

void pool_init(struct pool *p, uint32_t lanes, uint64_t seed);
void pool_deinit(struct pool *p);

/* Index of the target, found or added; -ERR_NO_MEMORY, -ERR_FULL. Configured ones come first: add
 * them before any other. */
int pool_add(struct pool *p, struct slice address, bool configured);
/* The target of a ring member: by node id, then by address, then added. */
int pool_add_member(struct pool *p, const struct wire_member *member);

static inline struct pool_target *pool_target_of(const struct pool *p, uint32_t conn)
{
    return p->targets[conn / p->lanes];
}

static inline struct pool_conn *pool_conn(const struct pool *p, uint32_t conn)
{
    return &p->targets[conn / p->lanes]->conns[conn % p->lanes];
}

/* Uniform in [0, n), n > 0. */
uint32_t pool_random(struct pool *p, uint32_t n);

/* True when the connection may be started now; it is then CONNECTING and the caller tells the edge.
 */
bool pool_start(struct pool *p, uint32_t conn, uint64_t now_ms);
/* Start would be refused now because of the back-off. */
bool pool_backing_off(const struct pool *p, uint32_t conn, uint64_t now_ms);
void pool_up(struct pool *p, uint32_t conn, const struct wire_hello_result *hello, uint64_t now_ms);
/* The target refused a request because it shuts down. */
void pool_leaving(struct pool *p, uint32_t conn, uint64_t now_ms);
/* Failed or lost; reason is copied. */
void pool_down(struct pool *p, uint32_t conn, const char *reason, uint64_t now_ms);

#endif
