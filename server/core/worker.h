/* worker: one thread's share of a node: coordinator of the requests of its own client connections,
 * and replica of the partitions it owns. Pure; see event.h for the seam and worker.c for the parts.
 */
#ifndef QUOIT_CORE_WORKER_H
#define QUOIT_CORE_WORKER_H

#include "server/core/event.h"

struct worker;

/* Requests that a worker has in flight; beyond it OVERLOADED. Each costs about 1 KiB. */
#define WORKER_OPS_MAX 8192u
/* Answers of peers outstanding at the replica: bounded by what all peers may have in flight. */
#define WORKER_PENDING_MAX 65536u

/* A worker's share of the bytes in flight, and never less than two of the largest values. */
#define WORKER_INFLIGHT_BYTES(n_workers)                                                           \
    (LIMIT_INFLIGHT_BYTES / (n_workers) > 2 * LIMIT_VALUE_BYTES                                    \
         ? LIMIT_INFLIGHT_BYTES / (n_workers)                                                      \
         : 2 * LIMIT_VALUE_BYTES)

/* Each pair of replicas of a partition is compared once in so many ms: within a minute all of a
 * quiet cluster, at a small part of a per cent of a core (tests/README.md). */
#define WORKER_COMPARE_MS 45000u
/* Tombstones are kept for at least so long: longer than any write is under way (purge.h). */
#define WORKER_PURGE_AGE_MS 600000u

struct worker_config {
    struct wire_id node_id;
    uint32_t node;      /* own node handle */
    uint32_t worker;    /* 0 .. n_workers - 1 */
    uint32_t n_workers; /* of this node */
    uint64_t boot;      /* of this start of the node: makes forced versions unique over restarts */
    uint64_t clock_bound_ms; /* durable clock bound found at start: nothing is stamped before it */
    uint64_t seed;           /* of the generator (choice of replicas, jitter) */
    struct slice name;       /* the node's, copied */
    struct slice software;   /* "quoitd 0.1.0", copied */
    uint32_t ops_max;        /* 0 = WORKER_OPS_MAX */
    size_t inflight_bytes_max; /* 0 = WORKER_INFLIGHT_BYTES */
    bool clock_watched;        /* EVENT_CLOCK will come; nothing is stamped before */
    uint32_t purge_age_ms; /* tombstones older than that may go; 0: none do, of partitions that this
                              worker would have to drive */
    uint32_t compare_ms;   /* a round of comparisons with other replicas; 0: none are made */
};

/* Comparisons of replicas since start, and what they brought. */
struct worker_repair_stats {
    uint64_t n_compared, n_equal, n_failed; /* of pairs, by this worker; the rest differed */
    uint64_t n_pulled, n_pulled_bytes;      /* records fetched, their keys and values */
    uint64_t n_told, n_told_bytes;          /* the same, given to others */
    uint32_t n_pairs_differ;                /* as last compared */
    uint64_t n_healed;                      /* records that had failed their checksum */
    uint64_t n_heals_refused;               /* that found too many waiting; met again */
    uint32_t n_damaged;                     /* that wait to be healed */
};

/* Rounds that let tombstones go, since start. */
struct worker_purge_stats {
    uint64_t n_closed, n_abandoned;
};

struct worker_stats {
    uint64_t n_requests, n_replies, n_errors; /* of clients */
    uint64_t n_peer_in, n_restamped, n_repairs, n_hedges, n_clock_refused, n_corrupt;
    uint64_t n_repairs_rest,
        n_repairs_left; /* write-backs beyond W: sent, and not for want of room */
    uint64_t n_dropped; /* of nodes: past their deadline before they were worked on, or answered */
    uint32_t n_ops;     /* in flight now */
    size_t inflight_bytes;
};

struct worker *worker_new(const struct worker_config *config); /* NULL: out of memory */
void worker_free(struct worker *w);

/* 0, or STEP_MORE: carry the effects out and call again with EVENT_MORE. */
int worker_step(struct worker *w, const struct event *in, struct effects *out);
/* Monotonic milliseconds; UINT64_MAX: never. */
uint64_t worker_deadline_ms(const struct worker *w);
void worker_stats(const struct worker *w, struct worker_stats *ret);
void worker_purge_stats(const struct worker *w, struct worker_purge_stats *ret);
/* The purge floors of this node's slot of a partition; 0 where the worker has none. */
void worker_floors(const struct worker *w, uint32_t partition, uint64_t *ret_opened,
                   uint64_t *ret_closed);
void worker_repair_stats(const struct worker *w, struct worker_repair_stats *ret);
/* Nothing can be stamped until somebody sets the clock: clients are answered CLOCK. */
bool worker_clock_is_off(const struct worker *w, uint64_t wall_ms);
/* Nothing is in flight (used to stop). */
bool worker_idle(const struct worker *w);

#endif
