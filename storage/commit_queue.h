/* commit_queue: operations on their way to the writer thread, and their outcomes on the way back.
 *
 *   caller of queue q                       writer thread
 *   -----------------                       -------------
 *   commit_batch_of_ops   (one malloc)
 *   commit_queue_submit ----> pending ----> commit_queue_take   (the whole list, one lock)
 *                                           ... one or more synced transactions ...
 *   commit_queue_reap   <---- finished[q] <- commit_queue_finish
 *   (frees the batch)
 *
 * A batch is what one submit brought: its items, the bytes they need, and room for each outcome, in
 * one allocation that the submitting thread also frees. So nothing on the way back can fail for
 * want of memory, and no ring can overflow. See commit_queue.c.
 */
#ifndef QUOIT_STORAGE_COMMIT_QUEUE_H
#define QUOIT_STORAGE_COMMIT_QUEUE_H

#include <pthread.h>

#include "storage/record.h"
#include "storage/store.h"

/* Values of at least this many bytes that lie in a blob are referenced, smaller ones copied: a
 * reference to a small value would keep a whole receive buffer alive. */
#define COMMIT_REF_BYTES_MIN 4096u

enum commit_type {
    COMMIT_MERGE = STORE_OP_MERGE,
    COMMIT_CLOCK = STORE_OP_CLOCK,
    COMMIT_META = STORE_OP_META,
    COMMIT_WIPE,
    COMMIT_PURGE
};

struct commit_item {
    enum commit_type type;
    bool grows;       /* refused while space is low if it would be stored: no delete, fact, wipe */
    bool heal;        /* MERGE: takes the place of a damaged record */
    bool has_floor;   /* MERGE */
    uint64_t floor;   /* MERGE: at or below it nothing is stored; PURGE */
    struct slice key; /* MERGE: store key; META: name */
    struct state state; /* MERGE; META uses its value */
    struct blob *owner; /* reference held while the value lies in it, or NULL */
    union {
        uint64_t clock;
        struct store_range range;
    } u;
    struct store_done done; /* filled by the engine, again if a transaction is repeated */
};

struct commit_batch {
    struct commit_batch *next;
    uint32_t queue;
    bool one_outcome; /* a load: its items are one operation with one LSN and one outcome */
    uint64_t cookie;  /* of that outcome */
    uint64_t lsn_first;
    size_t bytes;      /* what it holds in memory, referenced values included */
    size_t n_reported; /* outcomes taken by reap */
    size_t n;
    struct commit_item items[];
};

/* Outcomes that a batch reports. */
static inline size_t commit_batch_outcomes(const struct commit_batch *b)
{
    return b->one_outcome ? 1 : b->n;
}

static inline uint64_t commit_batch_lsn_last(const struct commit_batch *b)
{
    return b->lsn_first + commit_batch_outcomes(b) - 1;
}

/* 0, -ERR_NO_MEMORY, or the refusal of what should not have come this far (-ERR_KEY_TOO_LARGE,
 * -ERR_KEY_EMPTY, -ERR_VALUE_TOO_LARGE, -ERR_BAD_REQUEST, also for none or too many). */
int commit_batch_of_ops(const struct store_op *ops, size_t n, struct commit_batch **ret);
int commit_batch_of_items(const struct store_item *items, size_t n, uint64_t cookie,
                          struct commit_batch **ret);
int commit_batch_of_wipe(struct store_range range, uint64_t cookie, struct commit_batch **ret);
int commit_batch_of_purge(struct store_range range, uint64_t floor, uint64_t cookie,
                          struct commit_batch **ret);
void commit_batch_free(struct commit_batch *b);

/* One per queue, on its own cache line: the owner's counters are not shared. */
struct commit_port {
    /* the queue's thread only */
    size_t n_out, bytes_out; /* submitted, not reaped */
    struct commit_batch *reaping;
    uint64_t lsn_reaped;
    /* shared, under lock; `waiting` says without it that there is something */
    pthread_mutex_t lock;
    struct commit_batch *finished, **finished_tail;
    atomic_bool waiting;
} __attribute__((aligned(64)));

struct commit_queue {
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct commit_batch *pending, **pending_tail;
    uint64_t lsn_last; /* last one given out */
    bool writer_waits, stopping;
    uint32_t n_ports;
    struct commit_port *ports;
};

int commit_queue_init(struct commit_queue *q, uint32_t n_ports);
/* Frees every batch that is still in it. */
void commit_queue_deinit(struct commit_queue *q);

/* Takes the batch and gives it its LSNs. 0 or -ERR_FULL (the batch stays the caller's), the latter
 * only while something of this port is outstanding. */
int commit_queue_submit(struct commit_queue *q, uint32_t port, struct commit_batch *b,
                        uint64_t *ret_lsn);
size_t commit_queue_reap(struct commit_queue *q, uint32_t port, struct store_done *out, size_t max);

/* Writer: all that is pending, in LSN order. wait: blocks until there is something; NULL then means
 * that commit_queue_stop was called and nothing is left. */
struct commit_batch *commit_queue_take(struct commit_queue *q, bool wait);
/* Writer: hands a list of batches back, in order. Every port that got something is marked in
 * touched[n_ports]. */
void commit_queue_finish(struct commit_queue *q, struct commit_batch *list, bool *touched);
void commit_queue_stop(struct commit_queue *q);

#endif
