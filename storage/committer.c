/* committer: group commit and the rules for a disk that fails.
 *
 * While one group is being synced the next one gathers in the commit queue; there is no timer. Each
 * group is tried at most three times, each time asking for less:
 *
 *   puts and all the rest --- full ---> puts answered NO_SPACE --- full ---> reserve given up --+
 *        (skipped while space is low)    deletes, facts, wipes                the same again    |
 *                                                                                               |
 *   a batch that still finds no room is answered NO_SPACE whole  <------------ full ------------+
 *
 * A transaction that did not commit changed nothing that a reader or a restart could see, so
 * repeating it is sound. What must never be repeated is a *sync*: after a failed one the kernel may
 * have dropped the dirty pages and report success the next time. So any error other than "no room"
 * ends the store: SUSPECT mark, config.fatal, and nothing is acknowledged any more, not even what
 * had nothing to do with the error.
 *
 * One trap: a write that comes back short on a full disk is EIO to the engine, which cannot say
 * which of its calls it was; a failed sync is EIO as well. It is taken for "no room" only if the
 * file system has next to nothing left: what a short write took stays taken (the file does not
 * shrink), so after one there is nothing. Should a sync have failed at just that moment, the repeat
 * is still sound, because it is not the sync that is repeated: the pages of the failed transaction
 * are forgotten, the next one writes every page it refers to anew (or refers to pages that an
 * earlier, good sync covered) and syncs those; nothing of the failed one was acknowledged. A failed
 * write of the meta page cannot come here twice: the engine then refuses every later transaction.
 *
 * durable moves before outcomes are handed over, so whoever reaps an outcome sees durable >= lsn.
 */
#include "storage/committer.h"

#include <stdio.h>
#include <stdlib.h>

#include "storage/suspect.h"
#include "storage/thread.h"

int committer_init(struct committer *c, const struct store_config *config,
                   const struct commit_engine *engine, void *engine_ctx, const char *dir,
                   uint64_t map_bytes)
{
    uint32_t n_queues = config->n_workers + 1;
    int r;

    *c = (struct committer){.config = *config, .engine = engine, .engine_ctx = engine_ctx};
    c->tail = &c->todo.batch;
    r = space_init(&c->space, dir, map_bytes);
    if (r < 0)
        return r;
    r = commit_queue_init(&c->queue, n_queues);
    if (r < 0)
        return r;
    c->touched = calloc(n_queues, sizeof(*c->touched));
    return c->touched ? 0 : -ERR_NO_MEMORY;
}

void committer_deinit(struct committer *c)
{
    struct commit_batch *next;

    for (struct commit_batch *b = c->todo.batch; b; b = next) {
        next = b->next;
        commit_batch_free(b);
    }
    c->todo.batch = NULL;
    commit_queue_deinit(&c->queue);
    free(c->touched);
    c->touched = NULL;
    space_deinit(&c->space);
}

void committer_fail(struct committer *c, const char *sentence)
{
    char told[COMMIT_WHY_BYTES + SUSPECT_SENTENCE_BYTES + 512];

    if (atomic_exchange(&c->failed, true))
        return;
    suspect_mark_told(c->space.dir, sentence, told, sizeof(told));
    c->config.fatal(c->config.ctx, told);
}

int committer_submit(struct committer *c, uint32_t queue, int r, struct commit_batch *b,
                     uint64_t *ret_lsn)
{
    if (r < 0)
        return r;
    r = atomic_load_explicit(&c->failed, memory_order_relaxed)
            ? -ERR_IO
            : commit_queue_submit(&c->queue, queue, b, ret_lsn);
    if (r < 0)
        commit_batch_free(b);
    return r;
}

static void fail_disk(struct committer *c, const char *why)
{
    char sentence[COMMIT_WHY_BYTES + 512];

    snprintf(sentence, sizeof(sentence),
             "store %.256s: %s. What its disk holds is not known any more: nothing more is "
             "acknowledged",
             c->space.dir, why);
    committer_fail(c, sentence);
}

/* ---- one group ---------------------------------------------------------------------------- */

/* COMMIT_OK, COMMIT_FULL, COMMIT_NO_MEMORY; negative: the store has failed. */
static int try_group(struct committer *c, bool refuse_growth, struct commit_pos *ret_to)
{
    char why[COMMIT_WHY_BYTES] = "";
    int r = c->engine->transact(c->engine_ctx, c->todo, refuse_growth, ret_to, why);

    if (r == COMMIT_IO_ERROR) {
        if (space_fs_is_full(&c->space, COMMIT_FULL_DISK_BYTES))
            return COMMIT_FULL;
        r = -ERR_IO;
    }
    if (r < 0)
        fail_disk(c, why);
    return r;
}

static int group_within_space(struct committer *c, struct commit_pos *ret_to)
{
    bool refuse;
    int r;

    space_refresh(&c->space, c->engine->used_bytes(c->engine_ctx));
    refuse = atomic_load_explicit(&c->space.low, memory_order_relaxed);
    r = try_group(c, refuse, ret_to);
    if (r == COMMIT_FULL && !refuse)
        r = try_group(c, true, ret_to);
    if (r == COMMIT_FULL && space_release_reserve(&c->space))
        r = try_group(c, true, ret_to);
    return r;
}

/* The rest of the first batch gets nothing, whatever the attempts that failed left in it. */
static struct commit_pos refuse_batch(struct commit_pos from, int error)
{
    for (size_t i = from.index; i < from.batch->n; i++) {
        struct store_done *done = &from.batch->items[i].done;

        *done = (struct store_done){.cookie = done->cookie, .error = error};
    }
    return (struct commit_pos){.batch = from.batch->next};
}

/* The last operation before `to`. */
static uint64_t lsn_before(const struct committer *c, struct commit_pos to)
{
    const struct commit_batch *b;

    if (to.batch)
        return to.batch->lsn_first + (to.batch->one_outcome ? 0 : to.index) - 1;
    for (b = c->todo.batch; b->next; b = b->next)
        continue;
    return commit_batch_lsn_last(b);
}

/* Hands over the batches in front of `to` and makes `to` the next one. */
static void finish_group(struct committer *c, struct commit_pos to)
{
    struct commit_batch *list = c->todo.batch, **end = &list;
    uint64_t lsn = lsn_before(c, to), before = atomic_load(&c->durable);

    atomic_fetch_add_explicit(&c->n_ops, lsn - before, memory_order_relaxed);
    atomic_fetch_add_explicit(&c->n_syncs, 1, memory_order_relaxed);
    atomic_store_explicit(&c->durable, lsn, memory_order_release);
    while (*end != to.batch)
        end = &(*end)->next;
    *end = NULL;
    c->todo = to;
    if (!to.batch)
        c->tail = &c->todo.batch;
    commit_queue_finish(&c->queue, list, c->touched);
    for (uint32_t q = 0; q <= c->config.n_workers; q++) {
        if (!c->touched[q])
            continue;
        c->touched[q] = false;
        c->config.notify(c->config.ctx, q);
    }
}

/* 0, or negative: the store has failed. */
static int commit_group(struct committer *c)
{
    struct commit_pos to = c->todo;
    int r = group_within_space(c, &to);

    if (r < 0)
        return r;
    if (r == COMMIT_FULL)
        to = refuse_batch(c->todo, -ERR_NO_SPACE);
    else if (r == COMMIT_NO_MEMORY)
        to = refuse_batch(c->todo, -ERR_NO_MEMORY);
    finish_group(c, to);
    return 0;
}

/* ---- the thread --------------------------------------------------------------------------- */

/* Appends what is pending. False: stopped, and nothing left. */
static bool gather(struct committer *c)
{
    bool idle = !c->todo.batch;
    struct commit_batch *list = commit_queue_take(&c->queue, idle);

    if (idle) {
        c->todo = (struct commit_pos){.batch = list};
        c->tail = &c->todo.batch;
    } else {
        *c->tail = list;
    }
    while (*c->tail)
        c->tail = &(*c->tail)->next;
    return c->todo.batch != NULL;
}

static void *writer_main(void *arg)
{
    struct committer *c = arg;

    while (gather(c)) {
        if (commit_group(c) < 0 || atomic_load(&c->failed))
            break;
    }
    return NULL;
}

int committer_start(struct committer *c)
{
    int r;

    space_refresh(&c->space, c->engine->used_bytes(c->engine_ctx));
    r = thread_start(&c->thread, writer_main, c);
    c->started = r == 0;
    return r;
}

void committer_stop(struct committer *c)
{
    if (!c->started)
        return;
    commit_queue_stop(&c->queue);
    pthread_join(c->thread, NULL);
    c->started = false;
}
