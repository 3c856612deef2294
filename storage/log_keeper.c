/* log_keeper: makes segments ahead of the head.
 *
 *   enough ready, or bytes_max reached      sleeps until the log thread, a refusal or a release
 *                                           wakes it
 *   too little                              makes one, without the lock
 *   no space on the disk                    says so to those who are refused, and tries again after
 *                                           a second and after each release
 *   any other error                         the log has failed
 *
 * Only this thread makes and extends files, so nobody who has a client waiting ever does. In the
 * long run it has nothing to do: the log has grown to the size that it needs, and segments go
 * round.
 */
#include "storage/log_impl.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "proto/err.h"

#define RETRY_S 1

/* With the lock held. Until it was tried long enough ago, something was released, or the end. */
static void wait_for_space(struct log *l)
{
    struct timespec until;
    int r = 0;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += RETRY_S;
    l->keeper_waits = true;
    while (r != ETIMEDOUT && !l->try_again && !atomic_load(&l->stopping))
        r = pthread_cond_timedwait(&l->work, &l->lock, &until);
    l->keeper_waits = false;
}

static uint32_t next_number(const struct log *l)
{
    return l->n_segments ? l->segments[l->n_segments - 1]->number + 1 : 1;
}

/* With the lock held, which it lets go of meanwhile. 0, 1: stopping, or as log_segment_make. */
static int make_segment(struct log *l, char why[LOG_WHY_BYTES])
{
    uint64_t size = log_segment_bytes_next(l);
    uint32_t number = next_number(l);
    struct log_segment *s = NULL;
    int r;

    pthread_mutex_unlock(&l->lock);
    r = log_segment_make(l->dir_fd, number, size, &l->stopping, &s, why);
    pthread_mutex_lock(&l->lock);
    if (r == 0) {
        r = log_add_segment(l, s);
        if (r < 0)
            log_segment_free(s);
    }
    return r;
}

/* Tells those who were refused, if there is anything to tell. */
static void tell(struct log *l)
{
    if (!log_room_is_news(l))
        return;
    pthread_mutex_unlock(&l->lock);
    l->options.on_room(l->options.ctx);
    pthread_mutex_lock(&l->lock);
}

/* Memory for a few bytes that is not there is waited for like space. */
static bool may_pass(int r)
{
    return r == -ERR_NO_SPACE || r == -ERR_NO_MEMORY;
}

void *log_keeper_main(void *arg)
{
    struct log *l = arg;
    char why[LOG_WHY_BYTES];
    int r;

    pthread_mutex_lock(&l->lock);
    while (!atomic_load(&l->stopping) && !atomic_load(&l->failed)) {
        if (!log_wants_segment(l)) {
            l->no_space = false;
            tell(l);
            if (log_wants_segment(l) || atomic_load(&l->stopping))
                continue;
            l->keeper_waits = true;
            pthread_cond_wait(&l->work, &l->lock);
            l->keeper_waits = false;
            continue;
        }
        l->try_again = false;
        r = make_segment(l, why);
        if (r < 0 && !may_pass(r)) {
            pthread_mutex_unlock(&l->lock);
            log_fail(l, why);
            return NULL;
        }
        l->no_space = may_pass(r);
        tell(l);
        if (l->no_space)
            wait_for_space(l);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}
