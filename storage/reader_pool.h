/* reader_pool: threads that wait for the disk so that others need not.
 *
 *   owner of a queue --ask(key)--> asked --> a thread: read(key), thrown away --> done --> notify
 *         ^                                                                        |
 *         +----------------------------- reap(cookies) <--------------------------+
 *
 * What a thread reads is thrown away. The point is that its pages are in memory afterwards: whoever
 * asked then makes the read itself, with all the rules of reading, and no result has to be checked
 * against what was written meanwhile. A read made twice costs 2 us; the disk it waited for, 60 and
 * more.
 *
 * Threads begin with the first ask and sleep while there is none.
 */
#ifndef QUOIT_STORAGE_READER_POOL_H
#define QUOIT_STORAGE_READER_POOL_H

#include <pthread.h>

#include "proto/slice.h"

/* A disk's queue: with 8 reads under way it gives most of what it has. */
#define READER_POOL_THREADS 8u

struct reader_request;

struct reader_done {
    struct reader_request *first, **tail;
    _Atomic uint32_t n;
};

struct reader_pool {
    /* From a thread of the pool, `reader` < READER_POOL_THREADS is its number. */
    void (*read)(void *ctx, uint32_t reader, struct slice key);
    /* From a thread of the pool: the queue has something to reap. Must only wake it up. */
    void (*notify)(void *ctx, uint32_t queue);
    void *ctx;
    uint32_t n_queues;
    pthread_t threads[READER_POOL_THREADS];
    pthread_mutex_t lock;
    pthread_cond_t more;
    /* under lock */
    uint32_t n_threads;
    struct reader_request *asked, **asked_tail;
    struct reader_done *done; /* [n_queues] */
    bool started, stopping;
};

/* The caller has filled read, notify, ctx, n_queues. 0 or -ERR_NO_MEMORY. */
int reader_pool_init(struct reader_pool *p);
/* Ends the threads; what was not reaped is forgotten. */
void reader_pool_deinit(struct reader_pool *p);
/* Any thread. The key is copied. False: not taken (no memory, no threads). */
bool reader_pool_ask(struct reader_pool *p, uint32_t queue, uint64_t cookie, struct slice key);
/* The queue's thread. Up to max cookies of asks whose pages have been brought in, in any order. */
size_t reader_pool_reap(struct reader_pool *p, uint32_t queue, uint64_t *cookies, size_t max);

#endif
