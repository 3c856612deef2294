/* event: what goes into the core and what comes out of it.
 *
 * The core (worker, control) is a set of values with one entry and one question:
 *
 *     int      worker_step(worker, event, effects)   0, or STEP_MORE
 *     uint64_t worker_deadline_ms(worker)            when it next wants an EVENT_TICK
 *
 * An event carries the time. An effect is a value; the caller (server/edge, or the simulator)
 * carries the list out in order, then steps again with what came of it.
 *
 * Who owns the bytes: an event's bytes are borrowed for the step. An effect's bytes live until the
 * next step of the same machine, so the caller sends or copies them at once. Exception both ways:
 * bytes that lie in `owner` may be kept by taking a reference (blob_ref).
 *
 * A full list is not an error: the step keeps what is left, returns STEP_MORE and wants to be
 * called again with EVENT_MORE once the list is carried out. Lists are never cleared, only n = 0.
 *
 * Deadlines. A message says how many milliseconds were left when it was sent, and its event how
 * long it has waited on this node since: in a sibling's mailbox, behind a connection's hold. What
 * has waited too long is not worked on. An effect that still waits somewhere when its time is over
 * (until_ms) need not be carried out: its done event says -ERR_DEADLINE.
 *
 * Reads are effects with done events as well. The edge carries a read out inline, appends the done
 * event to a ring, and steps the worker with each after the effect list; a get that would wait for
 * the disk comes later, in any order. The simulator delays and reorders them all.
 */
#ifndef QUOIT_CORE_EVENT_H
#define QUOIT_CORE_EVENT_H

#include "proto/wire.h"
#include "storage/store.h"

struct ring;
struct floor_fact;

/* Where a peer message comes from or goes to. */
enum addr_kind {
    ADDR_SELF = 1,   /* this worker: never leaves the step */
    ADDR_WORKER = 2, /* another worker of this node: worker */
    ADDR_LINK = 3,   /* back along the link that brought a request: link. Dropped if it is gone */
    ADDR_NODE = 4    /* a request to another node: node, worker (of that node; any of its links
                        will do, the receiver hands it on) */
};

struct addr {
    enum addr_kind kind;
    uint32_t node;   /* process-wide handle, see ring.h */
    uint32_t worker; /* ADDR_WORKER, ADDR_NODE */
    uint64_t link;   /* ADDR_LINK: never reused within a process */
};

enum event_type {
    EVENT_TICK = 1,  /* the deadline asked for has come (or may have) */
    EVENT_MORE,      /* go on after STEP_MORE */
    EVENT_REQUEST,   /* a client's request, checked by wire_request_unpack */
    EVENT_GONE,      /* a client connection is closed: its requests need no answer */
    EVENT_PEER,      /* a message of a peer or of a sibling worker */
    EVENT_NODE_UP,   /* a node has its first link up, or its number of workers changed */
    EVENT_NODE_DOWN, /* a node's last link is gone: requests sent to it may be lost */
    EVENT_NODE_SEEN, /* how the cluster sees a node: membership.h */
    EVENT_CLOCK,     /* our wall clock has been judged: membership.h */
    EVENT_GOT,       /* done: EFFECT_GET */
    EVENT_SCANNED,   /* done: EFFECT_SCAN */
    EVENT_LEAVES,    /* done: EFFECT_LEAVES */
    EVENT_INFO,      /* done: EFFECT_INFO */
    EVENT_DAMAGED,   /* a record of ours fails its checksum: heal.h */
    EVENT_REMADE,    /* leaves of ours were wrong and are right now: antientropy.h */
    EVENT_STORED,    /* done: EFFECT_STORE; durable */
    EVENT_DURABLE,   /* store.durable has moved */
    EVENT_RING,      /* a ring was published; newer than the last */
    EVENT_STOP       /* the node is stopping: finish what is in flight, take nothing new */
};

struct event {
    enum event_type type;
    uint64_t now_ms;  /* monotonic */
    uint64_t wall_ms; /* since 1970 */
    union {
        struct {
            uint64_t conn; /* never reused within a worker */
            const struct wire_request *request;
            struct blob *owner; /* holds the request's bytes, or NULL */
            uint64_t waited_ms; /* on this node */
            uint64_t tag;       /* the edge's: comes back with the reply */
        } request;
        struct {
            uint64_t conn;
        } gone;
        struct {
            struct addr from; /* ADDR_LINK or ADDR_WORKER; replies go there */
            uint32_t node;    /* which node said it (own node for a sibling) */
            const struct wire_peer *msg;
            struct blob *owner;
            uint64_t waited_ms; /* on this node, since it came or a sibling sent it */
        } peer;
        struct {
            uint32_t node;
            uint32_t n_workers;
        } node_up;
        struct {
            uint32_t node;
        } node_down;
        struct {
            uint32_t node;
            enum wire_member_state state;
        } node_seen;
        struct {
            bool right;
            int64_t offset_ms;
            uint64_t behind_ms;
        } clock;
        struct {
            uint64_t cookie;
            int error; /* 0 or negative */
            struct state state;
            uint64_t lsn;
        } got;
        struct {
            uint64_t cookie;
            int error;
            const struct store_page *page;
        } scanned;
        struct {
            uint64_t cookie;
            int error;
            const uint64_t *leaves; /* of the range, in order */
            uint32_t n;
            uint64_t lsn;     /* what they reveal */
            uint32_t cost_us; /* of this thread's time */
        } leaves;
        struct {
            uint64_t cookie;
            int error;
            struct store_info info;
        } info;
        struct {
            struct slice store_key;
        } damaged;
        struct {
            struct store_range range;
        } remade;
        struct store_done stored;
        struct {
            uint64_t lsn;
        } durable;
        struct {
            struct ring *ring; /* the worker takes its own reference */
            /* Of all slots of this worker: floor_facts.h. */
            const struct floor_fact *facts;
            size_t n_facts;
        } ring;
    } u;
};

enum effect_type {
    EFFECT_REPLY = 1, /* answer a client; dropped if the connection is gone */
    EFFECT_SEND,      /* a peer message; dropped if there is no link */
    EFFECT_GET,       /* read a key -> EVENT_GOT */
    EFFECT_SCAN,      /* read a page -> EVENT_SCANNED */
    EFFECT_LEAVES,    /* read leaves of the hash tree -> EVENT_LEAVES */
    EFFECT_INFO,      /* count the records of a range -> EVENT_INFO */
    EFFECT_PURGE,     /* remove tombstones for good -> EVENT_STORED */
    EFFECT_STORE,     /* submit -> EVENT_STORED; all of one wake-up may go in one submit */
    EFFECT_TRACE      /* for the log and for tests; carries no meaning */
};

/* Traces: small fixed vocabulary, so that tests can expect them and logs can filter them. */
enum trace_type {
    TRACE_CLOCK_AHEAD = 1, /* a remote clock was not adopted; a = its ms, b = ours */
    TRACE_CLOCK_WAIT,      /* stamping waits for the lease; a = bound ms, b = wall ms */
    TRACE_RESTAMP,         /* a put was superseded and stamped anew; a = partition */
    TRACE_READ_REPAIR,     /* a get wrote the merged state back; a = partition, b = slots */
    TRACE_CORRUPT,         /* a record failed its checksum; a = partition, b = token */
    TRACE_OVERLOADED,      /* requests were refused; a = in flight, b = how many, since the last */
    TRACE_HEDGE            /* a slow slot was not waited for; a = partition, b = slot asked next */
};

struct effect {
    enum effect_type type;
    union {
        struct {
            uint64_t conn, tag;
            struct wire_response response;
        } reply;
        struct {
            struct addr to; /* never ADDR_SELF */
            struct wire_peer msg;
            struct blob *owner; /* where the message's bytes lie, or NULL */
        } send;
        struct {
            uint64_t cookie, token;
            struct key key;
            uint64_t until_ms; /* monotonic; 0: never too late */
        } get;
        struct {
            uint64_t cookie;
            struct store_range range;
            struct slice cursor;
            uint32_t bytes_max;
        } scan;
        struct {
            uint64_t cookie;
            struct store_range range; /* whole leaves */
        } leaves;
        struct {
            uint64_t cookie;
            struct store_range range;
        } info;
        struct {
            uint64_t cookie;
            struct store_range range;
            uint64_t floor;
        } purge;
        struct store_op store; /* with until_ms */
        struct {
            enum trace_type type;
            uint64_t a, b;
        } trace;
    } u;
};

#define EFFECTS_MAX 256u

struct effects {
    uint32_t n;
    struct effect list[EFFECTS_MAX];
};

#define STEP_MORE 1

#endif
