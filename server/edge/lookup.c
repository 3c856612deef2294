/* lookup: an address becomes a socket address without blocking the loop.
 *
 * The system's resolver blocks, for half a minute if its servers are dead, and cannot be
 * interrupted. libuv's thread pool would make the loop, and then the exit of the process, wait for
 * it. So a name gets a detached thread of its own, which shares nothing with the loop but a small
 * counted block:
 *
 *   lookup (loop: an async handle, who asked) <---owner--- question (name, answer) <-- thread
 *
 * Under the question's lock the owner is either there to be woken or has let go for good. A thread
 * whose question was cancelled ends when the resolver lets it, or with the process.
 *
 * The one who asks may be gone when the answer comes: it is named by two numbers, not by a pointer.
 * The loops have no other async handles, so a walk finds the lookups.
 */
#include "server/edge/lookup.h"
#include "proto/err.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct question {
    pthread_mutex_t lock;
    unsigned refs;        /* thread and lookup */
    struct lookup *owner; /* NULL: let go */
    char host[sizeof(((struct address *)0)->host)], port[8];
    struct addrinfo *list; /* NULL: no answer yet, or none to be had */
};

struct lookup {
    uv_async_t async; /* first */
    struct question *question;
    lookup_done *done;
    void *ctx;
    uint32_t a, b;
    unsigned attempt;
};

static void question_unref(struct question *q)
{
    pthread_mutex_lock(&q->lock);
    unsigned left = --q->refs;
    pthread_mutex_unlock(&q->lock);
    if (left > 0)
        return;
    if (q->list)
        freeaddrinfo(q->list);
    pthread_mutex_destroy(&q->lock);
    free(q);
}

static void *thread_main(void *arg)
{
    static const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct question *q = arg;
    struct addrinfo *list = NULL;

    int status = getaddrinfo(q->host, q->port, &hints, &list);
    pthread_mutex_lock(&q->lock);
    q->list = status == 0 ? list : NULL;
    if (q->owner)
        uv_async_send(&q->owner->async);
    pthread_mutex_unlock(&q->lock);
    question_unref(q);
    return NULL;
}

/* ---- the loop's side ----------------------------------------------------------------------- */

static void on_closed(uv_handle_t *handle)
{
    struct lookup *lookup = (struct lookup *)handle;
    question_unref(lookup->question);
    free(lookup);
}

static void let_go(struct lookup *lookup)
{
    pthread_mutex_lock(&lookup->question->lock);
    lookup->question->owner = NULL;
    pthread_mutex_unlock(&lookup->question->lock);
    uv_close((uv_handle_t *)&lookup->async, on_closed);
}

static const struct sockaddr *nth(const struct addrinfo *list, unsigned attempt)
{
    unsigned n = 0;
    for (const struct addrinfo *at = list; at; at = at->ai_next)
        n++;
    for (attempt = n ? attempt % n : 0; attempt > 0; attempt--)
        list = list->ai_next;
    return list ? list->ai_addr : NULL;
}

/* The thread has written the answer and is done with it. */
static void on_answer(uv_async_t *async)
{
    struct lookup *lookup = (struct lookup *)async;

    let_go(lookup);
    lookup->done(lookup->ctx, lookup->a, lookup->b, nth(lookup->question->list, lookup->attempt));
}

static void count_one(uv_handle_t *handle, void *n)
{
    *(unsigned *)n += handle->type == UV_ASYNC;
}

static void cancel_one(uv_handle_t *handle, void *unused)
{
    if (handle->type == UV_ASYNC && !uv_is_closing(handle))
        let_go((struct lookup *)handle);
}

void lookup_cancel(uv_loop_t *uv)
{
    uv_walk(uv, cancel_one, NULL);
}

/* ---- starting ------------------------------------------------------------------------------ */

static struct question *question_new(const struct address *address)
{
    struct question *q = calloc(1, sizeof(*q));

    if (!q)
        return NULL;
    pthread_mutex_init(&q->lock, NULL);
    q->refs = 2;
    memcpy(q->host, address->host, sizeof(q->host));
    snprintf(q->port, sizeof(q->port), "%u", address->port);
    return q;
}

static int thread_start(struct question *q)
{
    pthread_attr_t attr;
    pthread_t thread;

    if (pthread_attr_init(&attr) != 0)
        return -1;
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    int rc = pthread_create(&thread, &attr, thread_main, q);
    pthread_attr_destroy(&attr);
    return rc == 0 ? 0 : -1;
}

static int ask(uv_loop_t *uv, struct lookup *lookup)
{
    struct question *q = lookup->question;

    if (uv_async_init(uv, &lookup->async, on_answer) < 0) {
        q->refs = 1;
        question_unref(q);
        free(lookup);
        return -ERR_NO_MEMORY;
    }
    q->owner = lookup;
    if (thread_start(q) == 0)
        return 0;
    q->refs = 1;
    let_go(lookup);
    return -ERR_NO_MEMORY;
}

int lookup_start(uv_loop_t *uv, const struct address *address, unsigned attempt, lookup_done *done,
                 void *ctx, uint32_t a, uint32_t b)
{
    struct sockaddr_storage ss;
    socklen_t len;
    unsigned n = 0;

    if (address_numeric(address, &ss, &len) == 0) {
        done(ctx, a, b, (const struct sockaddr *)&ss);
        return 0;
    }
    uv_walk(uv, count_one, &n);
    if (n >= LOOKUPS_MAX)
        return -ERR_OVERLOADED;
    struct lookup *lookup = calloc(1, sizeof(*lookup));
    if (lookup)
        lookup->question = question_new(address);
    if (!lookup || !lookup->question) {
        free(lookup);
        return -ERR_NO_MEMORY;
    }
    lookup->done = done;
    lookup->ctx = ctx;
    lookup->a = a;
    lookup->b = b;
    lookup->attempt = attempt;
    return ask(uv, lookup);
}
