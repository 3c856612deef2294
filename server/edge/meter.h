/* meter: what a worker counts. See meter.c. */
#ifndef QUOIT_EDGE_METER_H
#define QUOIT_EDGE_METER_H

#include "proto/wire.h"
#include <stdatomic.h>

/* Times have four buckets for each power of two, up to 2^27 us = 134 s: more than the longest
 * deadline. */
#define METER_OCTAVES 27u
#define METER_BUCKETS (4u * (METER_OCTAVES - 1))

/* By enum wire_op. */
#define METER_VERBS (OP_STATUS + 1)

/* How requests ended, as far as operators act differently on it. */
enum meter_outcome {
    METER_OK,
    METER_NOT_FOUND,
    METER_NO_QUORUM,
    METER_UNKNOWN, /* UNKNOWN_OUTCOME: a write that may be stored */
    METER_DEADLINE,
    METER_OVERLOADED,
    METER_NO_SPACE,
    METER_CLOCK,
    METER_NOT_SERVING, /* no ring yet, or stopping */
    METER_CORRUPT,
    METER_BAD_REQUEST, /* the client's mistake */
    METER_ERROR,       /* anything else */
    METER_OUTCOMES
};

/* Answers of one wake-up whose time is taken at its end. More take it earlier. */
#define METER_PENDING_MAX 256u

/* A counter or a gauge: written by the worker's thread alone, read by any. */
typedef _Atomic uint64_t meter;

struct meters {
    meter answers[METER_VERBS][METER_OUTCOMES];
    meter took[METER_VERBS][METER_BUCKETS]; /* answers of which the time is known */
    meter took_us[METER_VERBS];

    /* Copied when control asks (LETTER_LOOK). Counters since start: */
    meter peer_requests, peer_dropped; /* of nodes and siblings; past their deadline */
    meter restamped, repairs, hedges, clock_refused, corrupt;
    meter compared, compared_equal, compare_failed; /* pairs of replicas */
    meter purge_rounds, purge_abandoned;            /* that this worker has driven */
    meter pulled, pulled_bytes, told, told_bytes;   /* records that repair fetched, and gave */
    meter healed, heals_refused;
    /* and what is now: */
    meter ops, ops_bytes;      /* in flight */
    meter conns, unsent_bytes; /* of clients and links */
    meter store_waiting;       /* operations that the store had no room for */
    meter records_in_memory;   /* of the store, on their way to the data file */
    meter pairs_differ;        /* of replicas, as last compared */
    meter damaged;             /* records that wait to be healed */
    meter clock_off;           /* 0 or 1 */
    meter looked_ms;           /* when this was brought up to date; 0: never */

    /* The worker's own. */
    uint64_t began_us; /* of this wake-up; 0: no request yet */
    uint32_t n_pending;
    uint64_t pending[METER_PENDING_MAX];
};

static inline void meter_add(meter *m, uint64_t n)
{
    /* One writer: no locked instruction is needed. */
    atomic_store_explicit(m, atomic_load_explicit(m, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

static inline void meter_set(meter *m, uint64_t value)
{
    atomic_store_explicit(m, value, memory_order_relaxed);
}

static inline uint64_t meter_get(const meter *m)
{
    return atomic_load_explicit(m, memory_order_relaxed);
}

/* ---- the worker's thread ------------------------------------------------------------------- */

/* A tag for a request that is taken now: when, and which verb. Never 0. */
uint64_t meter_tag(struct meters *m, enum wire_op op);
/* It is answered. tag 0 counts nothing. */
void meter_answered(struct meters *m, uint64_t tag, enum meter_outcome outcome);
/* It was refused before it could be taken: counted without a time. */
void meter_refused(struct meters *m, enum wire_op op, enum meter_outcome outcome);
/* The wake-up is over, its answers are written. */
void meter_flush(struct meters *m);

/* ---- any thread ---------------------------------------------------------------------------- */

/* By the code of the answer: 0, or an err number of either sign. */
enum meter_outcome meter_outcome_of(int code);
uint32_t meter_bucket(uint64_t us);
/* The highest time that falls into the bucket. */
uint64_t meter_bucket_us(uint32_t bucket);
/* The time that the share q of all did not exceed, at most a quarter too high; 0: there are none.
 */
uint64_t meter_quantile_us(const uint64_t buckets[METER_BUCKETS], double q);

#endif
