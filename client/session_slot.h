/* session_slot: what the session's files share and nobody else may see. */
#ifndef QUOIT_CLIENT_SESSION_SLOT_H
#define QUOIT_CLIENT_SESSION_SLOT_H

#include "client/session.h"

enum slot_state {
    SLOT_FREE = 0,
    SLOT_WAIT,
    SLOT_QUEUED,
    SLOT_FLIGHT,
    SLOT_DONE
};

struct session_slot {
    uint32_t next, prev;
    uint32_t generation;
    uint8_t state; /* enum slot_state */
    uint8_t op;    /* enum wire_op */
    uint8_t level;
    bool lost;    /* a write of which an attempt may have been stored */
    bool delayed; /* WAIT: for attempt_ms, whatever connects meanwhile */
    bool has_token;
    bool with_ring;
    bool wide; /* no connection for long: try all nodes */
    uint32_t flags, lane;
    uint32_t attempts, no_quorum;
    uint32_t conn;  /* QUEUED, FLIGHT: on it; else where it was last, or POOL_NONE */
    uint32_t avoid; /* target that failed it last, or POOL_NONE */
    uint32_t timeout_ms;
    uint64_t token;
    uint64_t deadline_ms, sent_ms;
    uint64_t attempt_ms; /* WAIT: look again; FLIGHT: the share of this attempt is over */
    struct buf bytes;    /* partition key, sort key, value or cursor */
    uint32_t bucket, partition_len, sort_len;
    uint32_t scan_partition, scan_n_partitions, scan_page_bytes;
    size_t held;
    int code; /* of the last refusal, or the outcome of a DONE: positive err number */
    uint64_t limit, actual;
    char text[160];
    quoit_callback callback;
    void *ctx;
};

static inline bool slot_is_write(const struct session_slot *r)
{
    return r->op == OP_PUT || r->op == OP_DELETE;
}

static inline bool slot_may_repeat(const struct session_slot *r)
{
    return !slot_is_write(r) || (r->flags & SESSION_REPEAT);
}

static inline struct key slot_key(const struct session_slot *r)
{
    return (struct key){
        .bucket = r->bucket,
        .partition = slice_of(r->bytes.data, r->partition_len),
        .sort = slice_of(r->bytes.data ? r->bytes.data + r->partition_len : NULL, r->sort_len),
    };
}

/* The bytes behind the key: a value or a cursor. */
static inline struct slice slot_rest(const struct session_slot *r)
{
    size_t at = (size_t)r->partition_len + r->sort_len;

    return slice_of(r->bytes.data ? r->bytes.data + at : NULL, r->bytes.len - at);
}

/* ---- session.c: the life of a request ---- */

/* To another list; conn is set unless it is POOL_NONE. */
void slot_move(struct session *s, struct session_slot *r, enum slot_state state, uint32_t conn);
/* session_tick is wanted at ms. */
void slot_wake_at(struct session *s, uint64_t ms);
void slot_free(struct session *s, struct session_slot *r);
/* Frees the slot and says whose it was; code 0. */
void slot_finish(struct session *s, struct session_slot *r, struct session_done *ret);
/* Ends with a failure that is handed out as DONE. `text` may be the slot's own. */
void slot_fail(struct session *s, struct session_slot *r, int code, const char *text);
/* Another attempt after delay_ms, if there is time. */
void slot_again(struct session *s, struct session_slot *r, uint64_t now_ms, uint32_t delay_ms);
/* Its connection is gone, or it has waited its share on it. */
void slot_lose(struct session *s, struct session_slot *r, uint64_t now_ms);
void session_route_waiting(struct session *s, uint64_t now_ms);
void session_ring_want(struct session *s, uint64_t now_ms);

/* session_answer.c: closes a connection of our own accord: silent, or no sense in it. */
void session_drop(struct session *s, uint64_t now_ms, uint32_t conn, const char *reason);

/* session_choose.c: the connection to use now, or POOL_NONE; then *ret_wake is when to look again,
 * or 0 when every node has failed already. Starts connections that it would rather have. */
uint32_t session_choose(struct session *s, struct session_slot *r, uint64_t now_ms,
                        uint64_t *ret_wake);
/* Another usable connection than the one it is on? Starts nothing. */
bool session_has_other(struct session *s, const struct session_slot *r, uint64_t now_ms);
/* Starts connections to the other nodes that it could use. True if one is being made. */
bool session_start_others(struct session *s, struct session_slot *r, uint64_t now_ms);
/* session.c: connection `conn` has an action to hand out. */
void session_mark(struct session *s, uint32_t conn);

#endif
