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
 */
#ifndef QUOIT_CORE_CORE_H
#define QUOIT_CORE_CORE_H

#include "server/base/list.h"
#include "server/base/prng.h"
#include "server/base/wheel.h"
#include "server/core/admission.h"
#include "server/core/clock.h"
#include "server/core/latency.h"
#include "server/core/quorum.h"
#include "server/core/ring.h"
#include "server/core/worker.h"

#define WORKER_UNIT_EFFECTS 32u
#define WORKER_UNIT_GRAVES 64u
#define WORKER_SELF_MAX 64u
#define WORKER_NODES_MAX (LIMIT_MEMBERS_MAX + 64u)
#define WORKER_GRAVES_MAX 1024u

/* Write-backs that no client waits for, under way at a time, and their bytes (repair.c). Small
 * beside what clients may have in flight. */
#define REPAIRS_MAX 32u
#define REPAIR_BYTES_MAX (4u << 20)

/* End of a free list. */
#define OP_NONE_INDEX UINT32_MAX

struct op;
struct pending;
struct antientropy;
struct heals;
struct floors;
struct purge;

/* What is known of a node's answers to reads: hedge.c. */
struct hedge_node {
    struct latency latency;
    uint32_t n_late;        /* in a row */
    uint64_t late_since_ms; /* the first of them */
    uint64_t slow_until_ms; /* asked after the others until then */
};

struct node_state {
    struct latency writes; /* of its answers to puts */
    bool up;               /* there is a link */
    bool gone;             /* the cluster takes it for down or stopped, whatever the link says */
    bool suspect;          /* asked last */
    bool near;             /* in our zone, by the ring */
    uint32_t n_workers;
    uint64_t mute_ms; /* has not answered a comparison: is not asked for one before this */
    struct hedge_node reads;
};

struct repair {
    uint32_t number; /* of the place's uses */
    bool busy;
    uint64_t sent_ms;
    size_t bytes;
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
    uint64_t tag;             /* of the request that is taken or answered just now */
    uint64_t durable_lsn;

    struct op *ops;
    uint32_t ops_max, ops_free, ops_used, ops_high;
    size_t inflight_bytes, inflight_bytes_max;
    struct wheel wheel;
    struct list expired;
    struct list stamping;
    struct sweep sweep;
    uint32_t hedge_credit; /* hundredths of a hedge that may be made now */

    struct pending *pendings;
    uint32_t pendings_free, pendings_used, pendings_high;
    struct list gate;
    struct list resting; /* pendings that read on at their rest_ms, soonest first */

    struct self_message self[WORKER_SELF_MAX];
    uint32_t self_n, self_at;
    /* References given back at the start of the next step: effects may still point into them. */
    struct blob *graves[WORKER_GRAVES_MAX];
    uint32_t graves_n;

    struct {
        struct repair all[REPAIRS_MAX];
        size_t bytes;
    } repairs;
    struct admission admission;
    uint64_t refused_told_ms; /* a trace of refusals was made; 0: never */
    uint64_t n_refused;       /* since */

    struct node_state nodes[WORKER_NODES_MAX];
    struct antientropy *antientropy;
    struct heals *heals;
    struct floors *floors;
    struct purge *purge;
    struct worker_stats stats;
};

/* ---- emit.c ------------------------------------------------------------------------------ */

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
/* Fills in what every answer to a client carries. */
void worker_reply_error(struct worker *w, uint64_t conn, uint64_t id, int err, struct effects *out);
void worker_reply(struct worker *w, uint64_t conn, struct wire_response *res, struct effects *out);

#endif
