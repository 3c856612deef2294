/* reader_pool: see the picture in reader_pool.h. Bounded by its callers: each queue asks for no
 * more than it may have waiting. */
#include "storage/reader_pool.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "proto/err.h"
#include "storage/thread.h"

struct reader_request {
    struct reader_request *next;
    uint64_t cookie;
    uint32_t queue;
    size_t len;
    uint8_t key[];
};

struct reader_thread {
    struct reader_pool *pool;
    uint32_t number;
};

static void list_free(struct reader_request *r)
{
    struct reader_request *next;

    for (; r; r = next) {
        next = r->next;
        free(r);
    }
}

/* ---- threads ------------------------------------------------------------------------------- */

static struct reader_request *take(struct reader_pool *p)
{
    struct reader_request *r;

    pthread_mutex_lock(&p->lock);
    while (!p->asked && !p->stopping)
        pthread_cond_wait(&p->more, &p->lock);
    r = p->stopping ? NULL : p->asked;
    if (r) {
        p->asked = r->next;
        if (!p->asked)
            p->asked_tail = &p->asked;
    }
    pthread_mutex_unlock(&p->lock);
    return r;
}

static void finish(struct reader_pool *p, struct reader_request *r)
{
    struct reader_done *d = &p->done[r->queue];
    uint32_t queue = r->queue;

    r->next = NULL;
    pthread_mutex_lock(&p->lock);
    *d->tail = r;
    d->tail = &r->next;
    atomic_fetch_add(&d->n, 1);
    pthread_mutex_unlock(&p->lock);
    p->notify(p->ctx, queue);
}

static void *thread_main(void *arg)
{
    struct reader_thread t = *(struct reader_thread *)arg;
    struct reader_request *r;

    free(arg);
    while ((r = take(t.pool)) != NULL) {
        t.pool->read(t.pool->ctx, t.number, slice_of(r->key, r->len));
        finish(t.pool, r);
    }
    return NULL;
}

/* Under the lock. As many as can be made at the first time; if none can, that is tried again. */
static bool start_threads(struct reader_pool *p)
{
    while (!p->started && p->n_threads < READER_POOL_THREADS) {
        struct reader_thread *t = malloc(sizeof(*t));

        if (!t)
            break;
        *t = (struct reader_thread){p, p->n_threads};
        if (thread_start(&p->threads[p->n_threads], thread_main, t) < 0) {
            free(t);
            break;
        }
        p->n_threads++;
    }
    p->started = p->n_threads > 0;
    return p->started;
}

/* ---- callers ------------------------------------------------------------------------------- */

bool reader_pool_ask(struct reader_pool *p, uint32_t queue, uint64_t cookie, struct slice key)
{
    struct reader_request *r = malloc(sizeof(*r) + key.len);
    bool taken;

    if (!r)
        return false;
    *r = (struct reader_request){.cookie = cookie, .queue = queue, .len = key.len};
    memcpy(r->key, key.data, key.len);
    pthread_mutex_lock(&p->lock);
    taken = start_threads(p);
    if (taken) {
        *p->asked_tail = r;
        p->asked_tail = &r->next;
    }
    pthread_mutex_unlock(&p->lock);
    if (taken)
        pthread_cond_signal(&p->more);
    else
        free(r);
    return taken;
}

size_t reader_pool_reap(struct reader_pool *p, uint32_t queue, uint64_t *cookies, size_t max)
{
    struct reader_done *d = &p->done[queue];
    struct reader_request *first, **end = &first;
    size_t n = 0;

    if (atomic_load_explicit(&d->n, memory_order_acquire) == 0)
        return 0;
    pthread_mutex_lock(&p->lock);
    first = d->first;
    while (*end && n < max) {
        cookies[n++] = (*end)->cookie;
        end = &(*end)->next;
    }
    d->first = *end;
    *end = NULL;
    if (!d->first)
        d->tail = &d->first;
    atomic_fetch_sub(&d->n, (uint32_t)n);
    pthread_mutex_unlock(&p->lock);
    list_free(first);
    return n;
}

int reader_pool_init(struct reader_pool *p)
{
    p->done = calloc(p->n_queues, sizeof(*p->done));
    if (!p->done)
        return -ERR_NO_MEMORY;
    for (uint32_t q = 0; q < p->n_queues; q++)
        p->done[q].tail = &p->done[q].first;
    p->asked_tail = &p->asked;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->more, NULL);
    return 0;
}

void reader_pool_deinit(struct reader_pool *p)
{
    if (!p->done)
        return;
    pthread_mutex_lock(&p->lock);
    p->stopping = true;
    pthread_cond_broadcast(&p->more);
    pthread_mutex_unlock(&p->lock);
    for (uint32_t i = 0; i < p->n_threads; i++)
        pthread_join(p->threads[i], NULL);
    list_free(p->asked);
    for (uint32_t q = 0; q < p->n_queues; q++)
        list_free(p->done[q].first);
    free(p->done);
    p->done = NULL;
    pthread_cond_destroy(&p->more);
    pthread_mutex_destroy(&p->lock);
}
