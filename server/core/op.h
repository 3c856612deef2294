/* op: a client's request under way, and what its slots have done for it. Private to server/core.
 *
 * An operation lives in its worker's table from admission to its one reply. coordinator.c admits it
 * and passes it answers and timers; coordinator_put, _get and _scan decide; what they share (the
 * table, asking a slot, counting, replying) is here and in op.c.
 *
 * A message id names (operation index, generation, slot, round): an answer to an operation that has
 * ended, or to an earlier round, matches nothing.
 */
#ifndef QUOIT_CORE_OP_H
#define QUOIT_CORE_OP_H

#include "server/core/core.h"

/* A whole state that was asked for and does not come is asked for elsewhere as well after this
 * long: it may be large. */
#define COORDINATOR_FETCH_HEDGE_MS 50u
/* What a slot has not answered is asked again (writes with their version: harmless) after this
 * long, or after twice what its node takes of late: questions repeated because a node is slow make
 * it slower. Then after twice as long, and so on. */
#define COORDINATOR_RESEND_MS 250u
#define COORDINATOR_RESEND_MAX_MS 2000u
/* After NOT_YET, OVERLOADED and the like. */
#define COORDINATOR_RETRY_MS 1u
#define COORDINATOR_RETRY_MAX_MS 64u
/* Between two traces of requests that were refused as too many. */
#define COORDINATOR_TELL_MS 1000u
/* Times that one operation stamps anew after being superseded by a purge floor. */
#define COORDINATOR_ROUNDS_MAX 8u

#define OP_INLINE_BYTES 128u

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
    bool late;       /* get: has not answered when it should have: hedge.c */
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
    uint64_t floor; /* what the page lacks is deleted up to here */
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
    uint64_t conn, id, tag;
    uint64_t begun_ms, deadline_ms;
    uint32_t partition;
    uint64_t token;
    struct ring_entry entry;
    struct op_slot slots[LIMIT_SLOTS_MAX];
    struct key key;
    struct blob *bytes; /* key and value, unless they fit in `small` */
    size_t charged;     /* of worker.inflight_bytes */
    bool first_hand;    /* put: stamped for this client and not superseded yet */
    uint32_t holder;    /* get, BACK: a slot that has the state */
    bool reread;        /* get, scan: a live record lay below a floor, so all were asked anew */
    bool have_state;    /* get: state is what the newest answer seen holds, whole */
    struct state state; /* put: what is written; get: newest full state known */
    struct blob *value; /* get: holds state.value */
    struct scan_answer scans[LIMIT_SLOTS_MAX];
    struct slice cursor;
    uint32_t page_bytes;
    uint8_t small[OP_INLINE_BYTES];
};

struct op *op_new(struct worker *w);
void op_free(struct worker *w, struct op *op);
/* When the operation wants to be looked at next; never after its deadline. */
void op_arm(struct worker *w, struct op *op, uint64_t at_ms);
/* Takes the entry of the operation's partition from the present ring. */
void op_enter(struct worker *w, struct op *op);
uint64_t op_message_id(const struct worker *w, const struct op *op, uint32_t slot);
/* Fills the envelope of a message to a slot, but for its id and deadline. */
void op_address(const struct worker *w, const struct op *op, uint32_t slot, struct wire_peer *msg);
/* Sends what is addressed. */
void op_send(struct worker *w, const struct op *op, uint32_t slot, const struct wire_peer *msg,
             struct effects *out);
/* Addresses a message to a slot and sends it: a question of this round. */
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
/* How long the slot's unanswered message is waited for before it is sent again. */
uint64_t op_resend_ms(const struct worker *w, const struct op *op, uint32_t slot);
void op_reply_error(struct worker *w, struct op *op, int err, struct effects *out);
void op_reply(struct worker *w, struct op *op, struct wire_response *res, struct effects *out);
/* Charges bytes that the operation keeps to the worker's budget; they are given back with it.
 * False: there is no room (an operation that is alone always has some). */
bool op_charge(struct worker *w, struct op *op, size_t bytes);
/* The operation and slot that a message answers, or NULL. */
struct op *op_of_message(struct worker *w, const struct wire_peer *msg, uint32_t *ret_slot);

/* ---- the kinds: coordinator_put.c, coordinator_get.c, coordinator_scan.c ------------------- */

void put_start(struct worker *w, struct op *op, struct effects *out);
void put_recv(struct worker *w, struct op *op, uint32_t slot, const struct wire_peer *msg,
              struct effects *out);
void put_review(struct worker *w, struct op *op, struct effects *out);
/* The clock may stamp now. */
void put_stamp(struct worker *w, struct op *op, struct effects *out);

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
/* Drops what was read under an older fence version. */
void get_forget(struct worker *w, struct op *op);

void scan_start(struct worker *w, struct op *op, struct effects *out);
void scan_recv(struct worker *w, struct op *op, uint32_t slot, const struct wire_peer *msg,
               struct effects *out);
void scan_review(struct worker *w, struct op *op, struct effects *out);

#endif
