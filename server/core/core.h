/* core: what the parts of a worker share. Private to server/core.
 *
 *               client request          peer message (request)
 *                     |                        |
 *             coordinator.c  --- self --->  replica.c ---> store effects
 *              (op table)    <-- queue ---  (pending table) <--- done events
 *                     |                        |
 *                  reply                 reply on the link
 *
 * Units of work. A step handles its event and then drains what has become runnable: messages to
 * itself, expired timers, gated answers, operations that waited for a stamp, sweeps over all
 * operations. Each unit makes at most WORKER_UNIT_EFFECTS effects and starts only when the list has
 * that much room; what does not fit waits for EVENT_MORE. Messages to itself borrow bytes of the
 * unit that made them, so they are drained within that unit, always.
 *
 * Ids. A coordinator's message id names (operation index, its generation, slot, round): an answer
 * to an operation that ended, or to an earlier round, matches nothing. Ids with RELAY_BIT belong to
 * the replica's pending table: requests handed on to the sibling worker that owns the partition.
 */
#ifndef QUOIT_CORE_CORE_H
#define QUOIT_CORE_CORE_H

#include "server/base/list.h"
#include "server/base/prng.h"
#include "server/base/wheel.h"
#include "server/core/clock.h"
#include "server/core/quorum.h"
#include "server/core/ring.h"
#include "server/core/worker.h"

#define WORKER_UNIT_EFFECTS 32u
#define WORKER_UNIT_GRAVES 32u
#define WORKER_SELF_MAX 64u
#define WORKER_NODES_MAX (LIMIT_MEMBERS_MAX + 64u)
#define WORKER_GRAVES_MAX 1024u

/* A get whose answers are late asks one more slot after this long: longer than a busy node's
 * wake-up, shorter than anybody's patience. */
#define COORDINATOR_HEDGE_MS 50u
/* A write that a slot has not answered is sent again (same version: harmless) after this long, then
 * after twice as long, and so on. */
#define COORDINATOR_RESEND_MS 250u
#define COORDINATOR_RESEND_MAX_MS 2000u
/* After NOT_YET, OVERLOADED and the like. */
#define COORDINATOR_RETRY_MS 1u
#define COORDINATOR_RETRY_MAX_MS 64u
/* Times that one operation stamps anew after being superseded by a purge floor. */
#define COORDINATOR_ROUNDS_MAX 8u

#define OP_INLINE_BYTES 128u
#define OP_NONE_INDEX UINT32_MAX

/* What a slot did for the operation's present round.
 *
 *     IDLE --ask--> ASKED --answer--> DONE        the answer counts
 *      ^              |------refusal--> RETRY --timer--> ASKED
 *      |              |------refusal--> REFUSED    for good (no space, clock ...)
 *      +--node up-- DOWN <--node down--+           not reachable; a write may have arrived (maybe)
 */
enum slot_phase {
    PHASE_IDLE,
    PHASE_ASKED,
    PHASE_DONE,
    PHASE_RETRY,
    PHASE_REFUSED,
    PHASE_DOWN
};

struct op_slot {
    uint8_t phase;   /* enum slot_phase */
    uint8_t outcome; /* put: enum wire_outcome once DONE */
    bool maybe;      /* put: the slot may hold this write, in some version */
    bool lost;       /* put: an earlier message went unanswered, so a refusal clears nothing */
    bool full;       /* get: asked for the whole state */
    uint8_t tries;
    uint16_t refusal; /* REFUSED, RETRY: err number */
    uint64_t asked_ms;
    struct quorum_answer answer; /* get: once DONE. put: version, when superseded */
};

enum op_stage {
    STAGE_STAMP = 1, /* put: waits for the clock; in worker.stamping */
    STAGE_WRITE,     /* put: asked all slots */
    STAGE_READ,      /* get: collecting answers */
    STAGE_FETCH,     /* get: the newest state is held by a slot that sent a digest */
    STAGE_BACK,      /* get: writing the merged state back until W slots hold it */
    STAGE_SCAN       /* collecting pages */
};

struct scan_answer {
    struct blob *blob; /* holds records and their bytes */
    const struct wire_record *records;
    size_t n;
    bool more;
};

struct op {
    struct wheel_timer timer;
    struct list stamping; /* in worker.stamping while STAGE_STAMP */
    uint32_t generation;
    uint32_t next_free;
    bool used;
    uint8_t kind; /* enum wire_op */
    uint8_t level;
    uint8_t stage; /* enum op_stage */
    uint8_t round; /* of stamps (put), of write-backs (get) */
    uint8_t need;  /* W */
    uint64_t conn, id;
    uint64_t deadline_ms;
    uint32_t partition;
    uint64_t token;
    struct ring_entry entry;
    struct op_slot slots[LIMIT_SLOTS_MAX];
    struct key key;
    struct blob *bytes; /* key and value, unless they fit in `small` */
    size_t charged;     /* of worker.inflight_bytes */
    bool first_hand;    /* put: stamped for this client and not superseded yet */
    bool have_state;    /* get: state is what the newest answer seen holds, whole */
    struct state state; /* put: what is written; get: newest full state known */
    struct blob *value; /* get: holds state.value */
    struct scan_answer scans[LIMIT_SLOTS_MAX];
    struct slice cursor;
    uint32_t page_bytes;
    uint8_t small[OP_INLINE_BYTES];
};

enum pending_kind {
    PENDING_FREE,
    PENDING_GET,
    PENDING_DIGEST,
    PENDING_PUT,
    PENDING_SCAN,
    PENDING_RELAY
};

/* A request that the replica has taken and not answered. */
struct pending {
    uint8_t kind;
    uint32_t generation;
    uint32_t next_free;
    struct addr from;
    uint64_t id; /* as the requester sent it */
    struct wire_replica replica;
    struct blob *bytes;     /* DIGEST: the key, both parts; gated: the value */
    uint32_t bucket;        /* DIGEST */
    uint16_t partition_len; /* DIGEST: where the sort key begins */
    struct list gated;      /* in worker.gate */
    uint64_t lsn;           /* gated: answer when durable */
    struct wire_peer reply; /* gated */
};

struct node_state {
    bool up;
    uint32_t n_workers;
};

struct self_message {
    struct wire_peer msg;
    struct blob *owner;
};

/* A walk over all operations because the world changed. */
struct sweep {
    bool active;
    uint32_t next; /* operation index */
};

struct worker {
    struct wire_id node_id;
    uint32_t node, index, n_workers;
    struct blob *name, *software;
    struct prng prng;
    struct clock clock;
    uint64_t forced_actor; /* of versions stamped above what the clock may reach */
    uint64_t forced_n;     /* how many */
    struct ring *ring;
    bool stopping;
    uint64_t now_ms, wall_ms; /* of the step under way */
    uint64_t durable_lsn;

    struct op *ops;
    uint32_t ops_max, ops_free, ops_used, ops_high;
    size_t inflight_bytes, inflight_bytes_max;
    struct wheel wheel;
    struct list expired;
    struct list stamping;
    struct sweep sweep;

    struct pending *pendings;
    uint32_t pendings_free, pendings_used, pendings_high;
    struct list gate;

    struct self_message self[WORKER_SELF_MAX];
    uint32_t self_n, self_at;
    /* References given back at the start of the next step: effects may still point into them. */
    struct blob *graves[WORKER_GRAVES_MAX];
    uint32_t graves_n;

    struct node_state nodes[WORKER_NODES_MAX];
    struct worker_stats stats;
};

#define RELAY_BIT ((uint64_t)1 << 63)
/* store_done cookies: pending index and generation, or this. */
#define COOKIE_CLOCK UINT64_MAX

/* ---- worker.c ---------------------------------------------------------------------------- */

/* Room for one more unit of work: its effects, and the blobs that it gives up. */
static inline bool worker_room(const struct worker *w, const struct effects *out)
{
    return EFFECTS_MAX - out->n >= WORKER_UNIT_EFFECTS &&
           WORKER_GRAVES_MAX - w->graves_n >= WORKER_UNIT_GRAVES;
}

struct effect *worker_emit(struct effects *out, enum effect_type type);
void worker_trace(struct effects *out, enum trace_type type, uint64_t a, uint64_t b);
/* Sends to any address; to itself through the self queue. owner: where the bytes lie, or NULL. */
void worker_send(struct worker *w, struct addr to, const struct wire_peer *msg, struct blob *owner,
                 struct effects *out);
/* Gives up a reference once this step's effects are carried out. Accepts NULL. */
void worker_bury(struct worker *w, struct blob *blob);
/* The worker of this node that owns the partition. */
uint32_t worker_owner(const struct worker *w, uint32_t partition, uint32_t n_workers);
bool worker_node_up(const struct worker *w, uint32_t node);

/* ---- coordinator*.c ----------------------------------------------------------------------- */

void coordinator_recv_request(struct worker *w, uint64_t conn, const struct wire_request *req,
                              struct effects *out);
/* An answer of a slot; false: it is nobody's. */
void coordinator_recv_reply(struct worker *w, uint32_t node, const struct wire_peer *msg,
                            struct effects *out);
void coordinator_timer(struct worker *w, struct op *op, struct effects *out);
/* Nodes came or went, or a ring was published: looks at one operation again. */
void coordinator_review(struct worker *w, struct op *op, struct effects *out);
/* The clock may stamp now. */
void coordinator_stamp(struct worker *w, struct op *op, struct effects *out);
void coordinator_renew_clock(struct worker *w, struct effects *out);

struct op *op_new(struct worker *w);
void op_free(struct worker *w, struct op *op);
/* When the operation wants to be looked at next; never after its deadline. */
void op_arm(struct worker *w, struct op *op, uint64_t at_ms);
/* Takes the entry of the operation's partition from the present ring. */
void op_enter(struct worker *w, struct op *op);
uint64_t op_message_id(const struct worker *w, const struct op *op, uint32_t slot);
/* Fills the envelope of a message to a slot and sends it. */
void op_ask(struct worker *w, struct op *op, uint32_t slot, struct wire_peer *msg,
            struct effects *out);
/* Counts of slots by what may still come of them. */
struct op_tally {
    uint32_t done, asked, retry, refused, down, idle;
    uint32_t acks, superseded; /* put: of done */
    bool maybe;                /* put: some slot may hold it */
    int refusal;               /* the most telling refusal */
};
struct op_tally op_tally(const struct op *op);
bool op_slot_reachable(const struct worker *w, const struct op *op, uint32_t slot);
/* Whether the refusal may pass within the deadline. */
bool op_refusal_passes(int err);
uint64_t op_backoff_ms(const struct op_slot *slot);
void op_reply_error(struct worker *w, struct op *op, int err, struct effects *out);
void op_reply(struct worker *w, struct op *op, struct wire_response *res, struct effects *out);
void worker_reply_error(struct worker *w, uint64_t conn, uint64_t id, int err, struct effects *out);
void worker_reply(struct worker *w, uint64_t conn, struct wire_response *res, struct effects *out);

void put_start(struct worker *w, struct op *op, struct effects *out);
void put_recv(struct worker *w, struct op *op, uint32_t slot, const struct wire_peer *msg,
              struct effects *out);
void put_review(struct worker *w, struct op *op, struct effects *out);

/* Asks until `need` answers are there or on their way; see coordinator_read.c. */
typedef void read_ask_fn(struct worker *w, struct op *op, uint32_t slot, struct effects *out);
/* The next slot worth asking, or -1. */
int read_pick(struct worker *w, const struct op *op);
void read_start(struct worker *w, struct op *op, read_ask_fn *ask, struct effects *out);
void read_review(struct worker *w, struct op *op, read_ask_fn *ask, struct effects *out);
void read_refused(struct worker *w, struct op *op, uint32_t slot, int err, read_ask_fn *ask,
                  struct effects *out);

void get_start(struct worker *w, struct op *op, struct effects *out);
void get_recv(struct worker *w, struct op *op, uint32_t slot, const struct wire_peer *msg,
              struct effects *out);
void get_review(struct worker *w, struct op *op, struct effects *out);

void scan_start(struct worker *w, struct op *op, struct effects *out);
void scan_recv(struct worker *w, struct op *op, uint32_t slot, const struct wire_peer *msg,
               struct effects *out);
void scan_review(struct worker *w, struct op *op, struct effects *out);

/* ---- replica.c ---------------------------------------------------------------------------- */

void replica_recv(struct worker *w, struct addr from, const struct wire_peer *msg,
                  struct blob *owner, struct effects *out);
void replica_got(struct worker *w, const struct event *in, struct effects *out);
void replica_scanned(struct worker *w, const struct event *in, struct effects *out);
void replica_stored(struct worker *w, const struct event *in, struct effects *out);
/* Answers one gated request whose LSN is durable. */
void replica_release(struct worker *w, struct pending *p, struct effects *out);
/* Hands a request on to the sibling that owns its partition. */
void replica_relay(struct worker *w, struct addr from, const struct wire_peer *msg,
                   struct blob *owner, struct effects *out);
/* The sibling's answer to such a request. */
void replica_relayed(struct worker *w, const struct wire_peer *msg, struct blob *owner,
                     struct effects *out);
void replica_deinit(struct worker *w);

#endif
