/* store_log_scrub: reads again what is on disk, on a thread of its own.
 *
 *   asker --scrub--> [asked] --> thread: snapshot, records of a zone against its summary
 *                                  |                 | the zone has ended and they disagree
 *   asker <--scrubbed-- [done] <---+<-- scrubber_remade <-- apply: summary anew, in a transaction
 *            notify
 *
 * A thread of its own, because a slice reads what nobody has read for long: it waits for the disk,
 * and neither an owner nor the apply may wait with it. It opens a snapshot for each slice and looks
 * at nothing else, so it needs no word with owners: tables, loads half done and wipes that are not
 * applied are not in the snapshot, or are in it with the summary that fits them.
 *
 * Only the apply writes summaries. It folds the zone's records as they are in its own transaction;
 * what the snapshot showed is only the reason to. By then the scrub has just read these records, so
 * they are in memory and the apply does not wait for the disk either.
 *
 * The thread begins with the first slice that is asked for, and sleeps between them.
 */
#include "storage/store_log_impl.h"

#include <assert.h>

#include "storage/fault_guard.h"
#include "storage/scrub_fold.h"
#include "storage/thread.h"

void scrubber_init(struct store_log *s)
{
    pthread_mutex_init(&s->scrubber.lock, NULL);
    pthread_cond_init(&s->scrubber.more, NULL);
}

void scrubber_deinit(struct store_log *s)
{
    pthread_cond_destroy(&s->scrubber.more);
    pthread_mutex_destroy(&s->scrubber.lock);
}

/* ---- the apply's part ---------------------------------------------------------------------- */

void scrubber_remade(struct store_log *s, int error)
{
    struct scrubber *c = &s->scrubber;

    pthread_mutex_lock(&c->lock);
    c->remaking = false;
    c->remake_error = error;
    pthread_cond_broadcast(&c->more);
    pthread_mutex_unlock(&c->lock);
}

/* 0; why not; 1: the store is being closed. */
static int have_remade(struct store_log *s, uint32_t zone)
{
    struct scrubber *c = &s->scrubber;
    int r;

    pthread_mutex_lock(&c->lock);
    c->remaking = true;
    pthread_mutex_unlock(&c->lock);
    apply_give_remake(s, zone);
    pthread_mutex_lock(&c->lock);
    while (c->remaking && !c->stopping)
        pthread_cond_wait(&c->more, &c->lock);
    r = c->remaking ? 1 : c->remake_error;
    pthread_mutex_unlock(&c->lock);
    return r;
}

/* ---- a slice ------------------------------------------------------------------------------- */

static uint32_t reader_of(const struct store_log *s)
{
    return s->n_parts + READER_POOL_THREADS;
}

/* The zone's summary in the snapshot: 0; 1: it is damaged; negative. */
static int read_told(struct store_log *s, uint32_t zone)
{
    struct slice bytes;
    int r = lmdb_env_zone(&s->env, reader_of(s), zone, &bytes);

    memset(&s->scrubber.told, 0, sizeof(s->scrubber.told));
    if (r == 0)
        r = zone_decode(bytes, zone, &s->scrubber.told);
    else if (r == 1)
        r = 0; /* nothing was written there yet */
    return r == -ERR_CORRUPT ? 1 : r;
}

/* *ret_disagrees: the zone has ended, and its summary is to be made anew. 0 or negative. */
static int run_slice(struct store_log *s, const struct store_scrub_place *from, size_t bytes_max,
                     struct store_scrub *out, bool *ret_disagrees)
{
    struct scrub_fold f;
    int told = read_told(s, from->zone), r;

    *ret_disagrees = false;
    scrub_fold_begin(&f, told == 0 ? &s->scrubber.told : NULL, from, bytes_max, out);
    if (told < 0)
        return told;
    f.at.differs = f.at.differs || told > 0;
    r = lmdb_scrub_zone(&s->env, reader_of(s), &f);
    if (r >= 0)
        *ret_disagrees = scrub_fold_end(&f, r == 1);
    return r < 0 ? r : 0;
}

static void scrub_slice(struct store_log *s, const struct store_scrub_place *from, size_t bytes_max,
                        struct store_scrub *out)
{
    bool disagrees = false;
    int r = lmdb_snapshot_next(&s->env, reader_of(s));

    *out = (struct store_scrub){.zone = from->zone};
    if (r == 0) {
        fault_guard_enter();
        r = run_slice(s, from, bytes_max, out, &disagrees);
        fault_guard_leave();
        lmdb_snapshots_end(&s->env, reader_of(s));
    }
    if (r == 0 && disagrees) {
        r = have_remade(s, from->zone);
        out->remade = r == 0;
    }
    if (r < 0)
        scrub_fold_fail(out, from, r);
}

/* ---- the thread ---------------------------------------------------------------------------- */

/* Under the lock: whether there is something to do; waits for it. */
static bool wait_asked(struct scrubber *c)
{
    while (c->state != SCRUB_ASKED && !c->stopping)
        pthread_cond_wait(&c->more, &c->lock);
    return !c->stopping;
}

static void *scrubber_main(void *arg)
{
    struct store_log *s = arg;
    struct scrubber *c = &s->scrubber;

    pthread_mutex_lock(&c->lock);
    while (wait_asked(c)) {
        uint32_t queue = c->queue;

        pthread_mutex_unlock(&c->lock);
        scrub_slice(s, &c->from, c->bytes_max, &c->out);
        pthread_mutex_lock(&c->lock);
        c->state = SCRUB_DONE;
        pthread_mutex_unlock(&c->lock);
        s->config.notify(s->config.ctx, queue);
        pthread_mutex_lock(&c->lock);
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

void scrubber_stop(struct store_log *s)
{
    struct scrubber *c = &s->scrubber;
    bool started;

    pthread_mutex_lock(&c->lock);
    c->stopping = true;
    started = c->started;
    c->started = false;
    pthread_cond_broadcast(&c->more);
    pthread_mutex_unlock(&c->lock);
    if (started)
        pthread_join(c->thread, NULL);
}

/* ---- callers ------------------------------------------------------------------------------- */

/* Under the lock. */
static int start(struct store_log *s)
{
    struct scrubber *c = &s->scrubber;
    int r = c->started ? 0 : thread_start(&c->thread, scrubber_main, s);

    c->started = r == 0;
    return r;
}

int store_log_scrub(struct store *store, uint32_t queue, const struct store_scrub_place *from,
                    size_t bytes_max)
{
    struct store_log *s = log_of(store);
    struct scrubber *c = &s->scrubber;
    int r;

    assert(from->zone < ZONES);
    if (atomic_load_explicit(&s->failed, memory_order_relaxed))
        return -ERR_IO;
    pthread_mutex_lock(&c->lock);
    r = c->state == SCRUB_IDLE ? start(s) : -ERR_FULL;
    if (r == 0) {
        c->queue = queue;
        c->from = *from;
        c->bytes_max = bytes_max;
        c->state = SCRUB_ASKED;
        pthread_cond_broadcast(&c->more);
    }
    pthread_mutex_unlock(&c->lock);
    return r;
}

bool store_log_scrubbed(struct store *store, uint32_t queue, struct store_scrub *ret)
{
    struct scrubber *c = &log_of(store)->scrubber;
    bool done;

    pthread_mutex_lock(&c->lock);
    done = c->state == SCRUB_DONE && c->queue == queue;
    if (done) {
        *ret = c->out;
        c->state = SCRUB_IDLE;
    }
    pthread_mutex_unlock(&c->lock);
    return done;
}
