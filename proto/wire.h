/* wire: messages as plain structs, and their way into and out of frames.
 *
 * wire*.c are the only files that include generated protobuf code. Unpacking copies into an arena
 * with a budget, so the structs' slices live as long as the arena's round; packing appends one
 * whole frame (header included) to a buf. Nothing from the network is trusted: what unpack accepts
 * has its lengths checked (keys, ids, arrays), enums in range, and nothing else promised.
 *
 * Ownership: every slice is borrowed. To keep bytes past the step, copy them (blob_copy).
 */
#ifndef QUOIT_PROTO_WIRE_H
#define QUOIT_PROTO_WIRE_H

#include "proto/err.h"
#include "proto/limits.h"
#include "proto/slice.h"
#include "proto/state.h"
#include "proto/token.h"
#include "proto/version.h"

#define WIRE_PROTOCOL 1u
#define WIRE_ID_BYTES 16

struct wire_id {
    uint8_t b[WIRE_ID_BYTES];
};

static inline bool wire_id_equal(const struct wire_id *a, const struct wire_id *b)
{
    return memcmp(a->b, b->b, WIRE_ID_BYTES) == 0;
}

static inline bool wire_id_is_zero(const struct wire_id *a)
{
    static const struct wire_id zero;
    return wire_id_equal(a, &zero);
}

/* Allocations that unpacking a frame of n bytes may make: the bytes once more, and the structs of
 * its messages, of which a full page of smallest records has the most (1.5 MiB). What exceeds it is
 * -ERR_NO_MEMORY. An arena allocates only what it hands out. */
#define WIRE_ARENA_BUDGET(n) (2 * (size_t)(n) + (4u << 20))
/* A ring of 16384 partitions x 8 slots unpacks into 4 MiB. */
#define WIRE_ARENA_BUDGET_RING (8u << 20)

/* ---- the ring ---------------------------------------------------------------------------- */

struct wire_member {
    struct wire_id id;
    struct slice name, client_address, peer_address, zone;
    uint32_t weight;
};

enum wire_slot_state {
    SLOT_NONE = 0,
    SLOT_READY = 1,
    SLOT_JOINING = 2
};

struct wire_ring {
    uint64_t epoch;
    struct wire_id cluster_id;
    struct token_space space;
    uint32_t n_partitions, n_replicas, n_slots;
    uint64_t next_incarnation;
    size_t n_members, n_voters, n_buckets;
    const struct wire_member *members;
    const uint32_t *voters;           /* [n_voters] */
    const uint32_t *buckets;          /* [n_buckets] */
    const uint32_t *fence, *primary;  /* [n_partitions] */
    const uint32_t *slot_member;      /* [n_partitions * n_slots] */
    const uint64_t *slot_incarnation; /* same; 0 = no such slot */
    const uint32_t *slot_state;       /* same; enum wire_slot_state */
};

/* ---- client protocol --------------------------------------------------------------------- */

enum wire_level {
    LEVEL_DEFAULT = 0,
    LEVEL_ONE = 1,
    LEVEL_QUORUM = 2,
    LEVEL_ALL = 3
};

enum wire_op {
    OP_NONE,
    OP_HELLO,
    OP_PING,
    OP_GET,
    OP_PUT,
    OP_DELETE,
    OP_SCAN,
    OP_RING,
    OP_STATUS
};

struct wire_hello_request {
    uint32_t protocol;
    struct slice client;
    uint32_t worker; /* 1 + worker wanted, 0 = any */
};

struct wire_scan_request {
    uint32_t partition, n_partitions;
    struct slice cursor;
    uint32_t page_bytes;
};

struct wire_request {
    uint64_t id;
    uint32_t deadline_ms; /* as sent: 0 = default */
    uint64_t ring_epoch;
    uint64_t hlc;
    enum wire_op op;
    enum wire_level level; /* get, put, delete, scan */
    struct key key;        /* get, put, delete; bucket 0 reads as BUCKET_DEFAULT */
    struct slice value;    /* put */
    union {
        struct wire_hello_request hello;
        struct wire_scan_request scan;
        struct {
            bool ring;
        } status;
    } u;
};

struct wire_error {
    int code; /* positive err number, 0 = success */
    struct slice text;
    bool retryable;
    uint64_t limit, actual;
};

struct wire_record {
    struct key key;
    struct state state;
};

struct wire_hello_result {
    uint32_t protocol;
    struct wire_id node_id, cluster_id; /* cluster zero: none yet */
    struct slice software;
    uint32_t n_workers, worker;
};

struct wire_ping_result {
    struct wire_id node_id;
    struct slice name, software;
    bool serving;
};

struct wire_get_result {
    bool found;
    struct slice value;
    struct version version;
    uint32_t replicas;
};

struct wire_write_result {
    struct version version;
    uint32_t replicas;
};

struct wire_scan_result {
    const struct wire_record *records;
    size_t n_records;
    struct slice cursor;
};

enum wire_load_flag {
    LOAD_NO_SPACE = 1, /* refuses writes */
    LOAD_CLOCK = 2     /* its clock is off: it stamps nothing */
};

/* What a node holds and does; quoit.proto says what each figure counts. */
struct wire_load {
    uint32_t number; /* 0: none */
    uint64_t n_keys, n_bytes, ops_per_s;
    uint32_t disk_percent;
    uint64_t p99_us;
    uint32_t flags; /* enum wire_load_flag, and those of later versions */
};

enum wire_member_state {
    MEMBER_UNKNOWN = 0, /* never heard of; never in a rumour */
    MEMBER_ALIVE = 1,
    MEMBER_SUSPECT = 2,
    MEMBER_DOWN = 3,
    MEMBER_STOPPED = 4 /* it said so itself */
};

enum wire_verdict {
    VERDICT_NONE = 0, /* never in a message */
    VERDICT_HEALTHY = 1,
    VERDICT_DEGRADED = 2,
    VERDICT_UNAVAILABLE = 3
};

enum wire_problem_kind {
    PROBLEM_NONE = 0, /* one of a later version */
    PROBLEM_DOWN = 1,
    PROBLEM_STOPPED = 2,
    PROBLEM_NEVER_CAME = 3,
    PROBLEM_NO_SPACE = 4,
    PROBLEM_CLOCK = 5,
    PROBLEM_MORE = 6 /* than LIMIT_PROBLEMS_MAX */
};

struct wire_problem {
    enum wire_problem_kind kind;
    uint32_t member; /* 1 + index in the members, 0: none of them */
    struct slice text, advice;
};

struct wire_member_status {
    struct wire_member member;
    enum wire_member_state state;
    uint64_t state_ms; /* for so long */
    uint64_t heard_ms; /* 1 + time since; 0: never */
    bool voter;
    uint32_t n_slots, n_joining;
    uint64_t boot;
    struct slice software; /* empty: not known */
    struct wire_load load; /* number 0: not known */
};

/* The cluster as one node sees it. */
struct wire_status_result {
    enum wire_verdict verdict;
    struct slice text;
    struct wire_id node_id, cluster_id;
    uint64_t epoch;
    uint32_t n_partitions, n_replicas, n_up;
    uint32_t n_by_live[LIMIT_SLOTS_MAX + 1]; /* partitions with so many replicas up */
    uint32_t n_no_quorum, n_no_write;
    const struct wire_member_status *members; /* as in the ring; at most LIMIT_MEMBERS_MAX */
    size_t n_members;
    const struct wire_problem *problems; /* at most LIMIT_PROBLEMS_MAX */
    size_t n_problems;
    const struct wire_member_status *candidates; /* at most LIMIT_CANDIDATES_MAX */
    size_t n_candidates;
    const struct wire_ring *ring; /* NULL unless asked for; then with the same members */
    /* [ring->n_partitions] each, or all NULL: 1 + what the answering node's replica holds; 0: it
     * has none, or did not count. And the root of its hash tree, which means nothing then. */
    const uint64_t *vnode_records, *vnode_tombstones, *vnode_digests;
};

enum wire_result {
    RESULT_NONE,
    RESULT_HELLO,
    RESULT_PING,
    RESULT_GET,
    RESULT_WRITE,
    RESULT_SCAN,
    RESULT_RING,
    RESULT_STATUS
};

struct wire_response {
    uint64_t id;
    uint64_t ring_epoch;
    uint64_t hlc;
    struct wire_error error;
    enum wire_result type;
    union {
        struct wire_hello_result hello;
        struct wire_ping_result ping;
        struct wire_get_result get;
        struct wire_write_result write;
        struct wire_scan_result scan;
        const struct wire_ring *ring;
        const struct wire_status_result *status;
    } u;
};

/* Append one frame. 0, -ERR_NO_MEMORY, -ERR_FRAME_TOO_LARGE, -ERR_BAD_REQUEST for a message with
 * nothing in it (out unchanged on failure). A response with an error carries no result. */
int wire_request_pack(const struct wire_request *req, struct buf *out);
int wire_response_pack(const struct wire_response *res, struct buf *out);

/* Unpack one frame body. 0, -ERR_BAD_REQUEST, -ERR_NO_MEMORY (budget), or for a request the typed
 * refusal of its content (-ERR_KEY_TOO_LARGE, -ERR_KEY_EMPTY, -ERR_VALUE_TOO_LARGE,
 * -ERR_UNSUPPORTED for an op this version does not know): then ret->id is valid, so that the
 * refusal can be answered, and ret->key / ret->value hold the offending lengths. BAD_REQUEST of a
 * request that could be parsed (level or scan out of range, no op) has its id as well; *ret is all
 * zero if it could not. */
int wire_request_unpack(struct slice body, struct arena *arena, struct wire_request *ret);
int wire_response_unpack(struct slice body, struct arena *arena, struct wire_response *ret);

/* ---- peer protocol ----------------------------------------------------------------------- */

struct wire_replica {
    uint32_t partition, slot;
    uint64_t incarnation;
    uint32_t fence;
};

enum wire_link {
    LINK_NONE = 0,
    LINK_CONTROL = 1,
    LINK_WORKER = 2
};

struct wire_hello {
    uint32_t protocol;
    enum wire_link link;
    uint32_t worker_from, worker_to;
    struct wire_id node_id, cluster_id; /* cluster zero: none yet */
    uint64_t boot, start;               /* start: random, chosen at each start */
    bool candidate;                     /* no ring has ever named it */
    struct slice name, software;
    uint32_t n_workers;
    uint64_t ring_epoch;
};

enum wire_found {
    FOUND_ABSENT = 0,
    FOUND_STATE = 1,
    FOUND_DIGEST = 2
};

enum wire_outcome {
    OUTCOME_NONE = 0,
    OUTCOME_STORED = 1,
    OUTCOME_DUPLICATE = 2,
    OUTCOME_SUPERSEDED = 3,      /* by a newer record: version says which */
    OUTCOME_SUPERSEDED_FLOOR = 4 /* by a purge floor: nothing was stored */
};

enum wire_form_phase {
    FORM_NONE = 0,
    FORM_EMPTY = 1,
    FORM_PROPOSE = 2,
    FORM_SYNCED = 3,
    FORM_DECIDED = 4,
    FORM_MEMBER = 5
};

struct wire_form {
    enum wire_form_phase phase;
    uint64_t list_hash;
    struct wire_member self;
    const struct wire_ring *ring; /* may be NULL */
    uint32_t replicas;
};

struct wire_profile {
    uint32_t number;
    struct wire_member member;
    struct slice software;
    bool candidate; /* as in wire_hello */
};

struct wire_rumour {
    struct wire_id id;
    uint64_t boot;
    uint32_t refutation;
    enum wire_member_state state;
    struct wire_id by;                  /* suspect; else zero */
    const struct wire_profile *profile; /* may be NULL; its member has the rumour's id */
    struct wire_load load;
};

enum wire_gossip_kind {
    GOSSIP_NONE = 0,
    GOSSIP_PING = 1,
    GOSSIP_ACK = 2,
    GOSSIP_PING_REQUEST = 3,
    GOSSIP_NACK = 4,
    GOSSIP_SYNC = 5,
    GOSSIP_SYNC_REPLY = 6,
    GOSSIP_RUMOURS = 7
};

struct wire_gossip {
    enum wire_gossip_kind kind;
    uint64_t number;
    struct wire_id target; /* PING_REQUEST; else zero */
    uint64_t digest;
    uint64_t wall_ms; /* ACK: the sender's wall clock; 0: it does not say */
    struct wire_load load;
    const struct wire_rumour *rumours; /* at most LIMIT_RUMOURS_MAX */
    size_t n_rumours;
};

/* Orders the attempts of the register: by counter, then node, then boot. */
struct wire_ballot {
    uint64_t counter; /* 0: none */
    struct wire_id node;
    uint64_t boot;
};

/* All four messages of the register (peer.proto says which has what). */
struct wire_register {
    struct wire_ballot ballot;
    struct wire_ballot known;    /* PREPARE */
    struct wire_ballot promised; /* replies: refused for this one */
    struct wire_ballot accepted; /* PREPARE_REPLY */
    struct slice ring;           /* PREPARE_REPLY, ACCEPT: packed, not looked into; or empty */
    size_t n_before;             /* at most LIMIT_VOTERS_MAX */
    struct wire_id before[LIMIT_VOTERS_MAX];
};

enum wire_peer_type {
    PEER_NONE,
    PEER_HELLO,
    PEER_HELLO_REPLY,
    PEER_GET,
    PEER_GET_REPLY,
    PEER_PUT,
    PEER_PUT_REPLY,
    PEER_SCAN,
    PEER_SCAN_REPLY,
    PEER_FORM,
    PEER_GOSSIP,
    PEER_COMPARE,
    PEER_COMPARE_REPLY,
    PEER_PULL,
    PEER_PULL_REPLY,
    PEER_PURGE,
    PEER_PURGE_REPLY,
    PEER_RING_ASK,
    PEER_RING_REPLY,
    PEER_REGISTER_PREPARE,
    PEER_REGISTER_PREPARE_REPLY,
    PEER_REGISTER_ACCEPT,
    PEER_REGISTER_ACCEPT_REPLY
};

enum wire_purge_step {
    PURGE_NONE = 0, /* never in a message */
    PURGE_OPEN = 1,
    PURGE_LIST = 2,
    PURGE_FREEZE = 3,
    PURGE_CLOSE = 4
};

/* What the asker of a PULL has: one record. On the wire three numbers, in this order. */
struct wire_known {
    uint64_t key_hash; /* merge_key_hash */
    struct version version;
};

struct wire_peer {
    enum wire_peer_type type;
    uint64_t id;
    uint32_t deadline_ms;
    uint64_t hlc;
    uint64_t ring_epoch;
    struct wire_replica replica;
    int error; /* positive err number, 0 = none; replies only */
    union {
        struct wire_hello hello; /* PEER_HELLO and PEER_HELLO_REPLY */
        struct {
            struct key key;
            bool digest;
        } get;
        struct {
            enum wire_found found;
            struct state state; /* FOUND_DIGEST: value empty */
            uint64_t digest;
            uint64_t floor;
        } get_reply;
        struct {
            struct key key;
            struct state state;
            bool first_hand;
            uint32_t source; /* write-back: 1 + the slot that holds it; 0: none is named */
        } put;
        struct {
            enum wire_outcome outcome;
            struct version version;
        } put_reply;
        struct {
            struct slice cursor; /* a store key, or empty */
            uint32_t page_bytes;
        } scan;
        struct {
            const struct wire_record *records;
            size_t n_records;
            struct slice cursor; /* last store key looked at; empty: done */
            uint64_t floor;
        } scan_reply;
        const struct wire_form *form;
        const struct wire_gossip *gossip;
        struct {
            uint32_t slot;
            uint64_t digest;
            uint32_t bits;
            const uint32_t *arcs; /* growing; at most LIMIT_COMPARE_ARCS */
            size_t n_arcs;
            uint64_t salt;
            uint64_t closed; /* purge floor */
        } compare;
        struct {
            uint64_t digest;
            bool later;            /* no parts: ask again */
            const uint32_t *parts; /* pairs of them; at most LIMIT_COMPARE_PARTS */
            size_t n_parts;
            uint64_t closed;
        } compare_reply;
        struct {
            uint32_t slot;
            uint32_t quiet_ms;
            const uint32_t *leaves; /* growing; at most LIMIT_PULL_LEAVES */
            size_t n_leaves;
            struct slice after, until;      /* store keys, or empty */
            const struct wire_known *known; /* at most LIMIT_PULL_KNOWN */
            size_t n_known;
        } pull;
        struct {
            const struct wire_record *records;
            size_t n_records;
            struct slice cursor; /* last store key looked at; empty: done */
            bool young;
        } pull_reply;
        struct {
            enum wire_purge_step step;
            uint64_t floor;
            const uint32_t *leaves; /* growing; at most LIMIT_PULL_LEAVES */
            size_t n_leaves;
        } purge;
        struct {
            uint64_t closed, entered;
            const uint64_t *digests; /* at most LIMIT_PURGE_DIGESTS */
            size_t n_digests;
        } purge_reply;
        const struct wire_ring *ring_reply; /* NULL: there is an error */
        const struct wire_register *reg;    /* PEER_REGISTER_...; never NULL when unpacked */
    } u;
};

int wire_peer_pack(const struct wire_peer *msg, struct buf *out);
/* 0, -ERR_BAD_REQUEST, -ERR_NO_MEMORY. A message of the future yields type PEER_NONE: ignore. */
int wire_peer_unpack(struct slice body, struct arena *arena, struct wire_peer *ret);

/* The ring alone, for the disk. Pack appends the bare message (no frame header). */
int wire_ring_pack(const struct wire_ring *ring, struct buf *out);
int wire_ring_unpack(struct slice bytes, struct arena *arena, struct wire_ring *ret);

#endif
