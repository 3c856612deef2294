/* session: every request of a handle, from the call to its outcome. Pure: events in, actions out.
 *
 * The edge (client_uv.c) reports what happened (connected, lost, a response, time) and then drains
 * session_next for what to do (connect, close, send, tell the caller). Nothing here reads a clock,
 * a socket or randomness, so that a test is a story told in calls.
 *
 * A request is a slot of a fixed table, on exactly one list:
 *
 *                 +------------- not sent, connection lost -----------+
 *                 v                                                   |
 *    submit --> WAIT --- a connection is up ---> QUEUED (on it) --pack--> FLIGHT --answer--> caller
 *                 ^                                                   |
 *                 +-- read, or REPEAT, or refused unwritten: again ---+
 *                                                                     +-- else: DONE ------->
 * caller
 *
 * QUEUED is certainly not sent; FLIGHT may have been. That one line decides what may be repeated:
 *   - from WAIT and QUEUED everything moves on freely;
 *   - from FLIGHT a read moves on; a write only if the caller allows repeats, or if the answer was
 *     a refusal that wrote nothing;
 *   - once an attempt of a write was lost in FLIGHT, no later refusal may claim that nothing was
 *     written: the outcome is UNKNOWN_OUTCOME from then on, unless a later attempt succeeds.
 *
 * Ids on the wire are generation << 32 | slot, the generation bumped at each attempt, so that a
 * late answer to an abandoned attempt never meets another request.
 *
 * Deadlines: the table is scanned when the earliest one noted has come, not kept in a heap: with
 * like timeouts that is once per timeout, whatever the rate.
 */
#ifndef QUOIT_CLIENT_SESSION_H
#define QUOIT_CLIENT_SESSION_H

#include "client/pool.h"
#include "client/quoit.h"
#include "client/route.h"
#include "proto/wire.h"

#define SESSION_ATTEMPTS_MAX 64u /* of one request; back-off makes it unreachable in practice */
/* A coordinator may see less than its neighbour, and the links of a node that has just come back
 * are not all made: about a quarter of a second with their pauses. */
#define SESSION_NO_QUORUM_ATTEMPTS 7u
#define SESSION_BACKOFF_FIRST_MS 4u /* after a refusal */
#define SESSION_BACKOFF_MAX_MS 250u
/* Where nodes refuse because they are overloaded, repeating is what keeps them so. Repeats may be
 * one for so many successes, beyond a burst; further ones wait this long, or half. */
#define SESSION_REPEAT_PER_SUCCESSES 5u
#define SESSION_REPEAT_BURST 100u
#define SESSION_OVERLOADED_MS 1000u
#define SESSION_ATTEMPT_SHARE 3u      /* a read moves on after this share of its timeout */
#define SESSION_WIDEN_MS 250u         /* no connection after this: try all nodes at once */
#define SESSION_LOOK_AGAIN_MS 20u     /* a silent node, and another is being connected to */
#define SESSION_CONN_FLIGHT_MAX 1024u /* requests in flight on one connection */
#define SESSION_KEEP_BYTES 4096u      /* buffers above it are given back with their slot */
#define SESSION_ROUTE_AFTER 8u        /* a handle with fewer requests is not worth a ring */
#define SESSION_RING_PAUSE_MS 100u    /* between fetches of the ring */
#define SESSION_RING_TIMEOUT_MS 2000u
#define SESSION_WAIT_FOREVER UINT64_MAX
#define SESSION_HELLO_ID UINT64_MAX /* no slot has it */

struct session_config {
    uint32_t requests_max, lanes;
    size_t bytes_max;
    bool direct;
    uint64_t seed;
    const char *client; /* for Hello; borrowed for life */
};

enum session_flag {
    SESSION_REPEAT = QUOIT_REPEAT,
    SESSION_FAIL_FAST = QUOIT_FAIL_FAST,
    SESSION_INTERNAL = 1 << 16 /* the handle's own fetch of the ring */
};

struct session_request {
    enum wire_op op; /* GET, PUT, DELETE, PING, SCAN, RING, STATUS */
    enum wire_level level;
    struct key key;
    struct slice value;
    struct wire_scan_request scan;
    bool with_ring; /* STATUS */
    uint32_t timeout_ms, lane, flags;
    quoit_callback callback;
    void *ctx;
};

/* A finished request. Everything is borrowed until the next call of the session. */
struct session_done {
    enum wire_op op;
    int code;          /* 0 or negative */
    struct slice text; /* sentence of the node or of the session; may be empty */
    uint64_t limit, actual;
    const char *address; /* "" if it never had a node */
    uint32_t attempts;
    const struct wire_response *response; /* on success */
    quoit_callback callback;
    void *ctx;
};

enum session_action_type {
    SESSION_CONNECT, /* conn, address: report with session_connected or session_lost */
    SESSION_CLOSE,   /* conn: close it; it is forgotten already, report nothing */
    SESSION_SEND,    /* conn, slot: call session_pack at once */
    SESSION_DONE     /* done */
};

struct session_action {
    enum session_action_type type;
    uint32_t conn, slot;
    const char *address;
    struct session_done done;
};

struct session_slot;

struct session {
    struct session_config config;
    struct pool pool;
    struct route *route;
    uint32_t *member_target; /* of the route: member index -> target */
    struct session_slot *slots;
    uint32_t n_slots;
    struct pool_list free, wait, done;
    size_t bytes; /* held by requests */
    uint32_t n_pending;
    uint32_t dirty_head, dirty_tail; /* connections with an action to hand out */
    uint64_t wake_ms;
    struct wire_id cluster_id; /* zero: none met yet */
    uint64_t hlc, epoch_seen;
    uint64_t n_submitted;
    uint32_t repeat_credit; /* for requests refused as too many; in parts of one */
    uint64_t ring_next_ms;  /* no fetch before */
    bool ring_fetching, ring_wanted, closed;
    uint32_t rotor;
};

/* 0 or -ERR_NO_MEMORY; deinit accepts a half-built one. */
int session_init(struct session *s, const struct session_config *config);
void session_deinit(struct session *s);
int session_add_endpoint(struct session *s, struct slice address);

/* ---- events ---- */
/* 0; -ERR_FULL, -ERR_NO_MEMORY, -ERR_KEY_EMPTY, -ERR_KEY_TOO_LARGE, -ERR_VALUE_TOO_LARGE. Copies.
 */
int session_submit(struct session *s, uint64_t now_ms, const struct session_request *req);
/* The socket is connected: send what session_hello packs. */
int session_hello(struct session *s, uint32_t conn, struct buf *out);
/* Could not connect, or closed, or broken by the other side. */
void session_lost(struct session *s, uint64_t now_ms, uint32_t conn, const char *reason);
/* Bytes arrived. */
void session_received(struct session *s, uint64_t now_ms, uint32_t conn);
/* 1: *ret is a finished request (its callback may submit); 0: nothing to tell; negative: the stream
 * makes no sense, the caller reports session_lost. */
int session_answer(struct session *s, uint64_t now_ms, uint32_t conn,
                   const struct wire_response *res, struct session_done *ret);
/* The edge has more to write than it likes: no SEND for it until `blocked` is false again. */
void session_block(struct session *s, uint32_t conn, bool blocked);
void session_tick(struct session *s, uint64_t now_ms);
/* Ends everything: requests become DONE with CLOSED or UNKNOWN_OUTCOME, new ones are refused. */
void session_close(struct session *s);

/* ---- actions ---- */
bool session_next(struct session *s, uint64_t now_ms, struct session_action *ret);
/* Appends the frame of a SEND. 0, or negative: the request is DONE with that instead. */
int session_pack(struct session *s, uint64_t now_ms, uint32_t slot, struct buf *out);
/* Something may be handed out to a connection. */
bool session_has_to_send(const struct session *s);
/* When session_tick has something to do; SESSION_WAIT_FOREVER: nothing. */
uint64_t session_deadline(const struct session *s);

#endif
