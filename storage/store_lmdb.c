/* store_lmdb: the plain store, one LMDB environment.
 *
 *   submit, load, wipe --> commit_queue --> committer --> store_lmdb_write   (the writer thread)
 *   reap              <--- commit_queue <------+
 *   get, scan, sums   ---> store_lmdb_look                                   (the caller's thread)
 *
 * Two databases: "kv" (store key -> record) and "meta" (facts). Not one with a prefix: the ring
 * order of kv needs the token in front, and n_records is then simply the number of entries.
 */
#include "storage/store_lmdb.h"

#include <stdio.h>
#include <stdlib.h>

#include "storage/store_lmdb_plain.h"

/* ---- the queues --------------------------------------------------------------------------- */

static int lmdb_submit(struct store *store, uint32_t queue, const struct store_op *ops, size_t n,
                       uint64_t *ret_lsn)
{
    struct commit_batch *b = NULL;
    int r = commit_batch_of_ops(ops, n, &b);

    return committer_submit(&lmdb_of(store)->committer, queue, r, b, ret_lsn);
}

static int lmdb_load(struct store *store, uint32_t queue, uint64_t cookie,
                     const struct store_item *items, size_t n)
{
    struct commit_batch *b = NULL;
    uint64_t lsn;
    int r = commit_batch_of_items(items, n, cookie, &b);

    return committer_submit(&lmdb_of(store)->committer, queue, r, b, &lsn);
}

static int lmdb_wipe(struct store *store, uint32_t queue, uint64_t cookie, struct store_range range)
{
    struct commit_batch *b = NULL;
    uint64_t lsn;
    int r = commit_batch_of_wipe(range, cookie, &b);

    return committer_submit(&lmdb_of(store)->committer, queue, r, b, &lsn);
}

static int lmdb_purge(struct store *store, uint32_t queue, uint64_t cookie,
                      struct store_range range, uint64_t floor)
{
    struct store_lmdb *s = lmdb_of(store);
    struct commit_batch *b = NULL;
    int r;

    if (s->purge_lsn[queue])
        return -ERR_FULL;
    r = commit_batch_of_purge(range, floor, cookie, &b);
    return committer_submit(&s->committer, queue, r, b, &s->purge_lsn[queue]);
}

static size_t lmdb_reap(struct store *store, uint32_t queue, struct store_done *out, size_t max)
{
    struct store_lmdb *s = lmdb_of(store);
    size_t n = commit_queue_reap(&s->committer.queue, queue, out, max);

    for (size_t i = 0; i < n && s->purge_lsn[queue]; i++)
        if (out[i].lsn == s->purge_lsn[queue])
            s->purge_lsn[queue] = 0;
    return n;
}

static uint64_t lmdb_durable(struct store *store)
{
    return atomic_load_explicit(&lmdb_of(store)->committer.durable, memory_order_acquire);
}

static uint64_t lmdb_clock_bound(struct store *store)
{
    return atomic_load_explicit(&lmdb_of(store)->clock, memory_order_acquire);
}

static int lmdb_stats(struct store *store, uint32_t queue, struct store_stats *ret)
{
    struct store_lmdb *s = lmdb_of(store);
    struct committer *c = &s->committer;
    struct store_stats stats = {
        .map_bytes = s->env.map_bytes,
        .used_bytes = atomic_load_explicit(&s->env.used_bytes, memory_order_relaxed),
        .n_records = atomic_load_explicit(&s->env.n_records, memory_order_relaxed),
        .n_syncs = atomic_load_explicit(&c->n_syncs, memory_order_relaxed),
        .n_ops = atomic_load_explicit(&c->n_ops, memory_order_relaxed),
        .n_purged = atomic_load_explicit(&s->n_purged, memory_order_relaxed),
        .durable = lmdb_durable(store),
        .space_low = atomic_load_explicit(&c->space.low, memory_order_relaxed),
    };
    int r = space_of_fs(&c->space, &stats.fs_bytes, &stats.fs_free_bytes);

    lmdb_file_stats(&s->env, &stats);
    if (r == 0)
        *ret = stats;
    return r;
}

/* ---- open and close ----------------------------------------------------------------------- */

/* The store once its thread has ended, or what open got so far. */
static void lmdb_free(struct store_lmdb *s)
{
    lmdb_env_close(&s->env);
    committer_deinit(&s->committer);
    free(s->snapshot_lsn);
    free(s->purge_lsn);
    free(s);
}

static void lmdb_close(struct store *store)
{
    committer_stop(&lmdb_of(store)->committer);
    lmdb_free(lmdb_of(store));
}

static const struct store_ops lmdb_ops = {
    .submit = lmdb_submit,
    .reap = lmdb_reap,
    .durable = lmdb_durable,
    .get = lmdb_get,
    .scan = lmdb_scan,
    .read_end = lmdb_read_end,
    .meta_get = lmdb_meta_get,
    .clock_bound = lmdb_clock_bound,
    .load = lmdb_load,
    .wipe = lmdb_wipe,
    .purge = lmdb_purge,
    .vnode_info = lmdb_vnode_info,
    .leaves = lmdb_leaves,
    .scrub = lmdb_scrub,
    .scrubbed = lmdb_scrubbed,
    .stats = lmdb_stats,
    .close = lmdb_close,
};

static void on_damaged(void *ctx, const char *sentence)
{
    committer_fail(&((struct store_lmdb *)ctx)->committer, sentence);
}

void store_lmdb_guard_faults(struct store *store)
{
    lmdb_env_guard_faults(&lmdb_of(store)->env);
}

static int no_memory(char *why, const char *dir)
{
    snprintf(why, STORE_WHY_BYTES, "store %.200s: out of memory", dir);
    return -ERR_NO_MEMORY;
}

static int lmdb_open(struct store_lmdb *s, const struct store_config *config,
                     const struct store_lmdb_options *o, char *why)
{
    int r = committer_init(&s->committer, config, &lmdb_engine, s, o->dir, 0);

    s->snapshot_lsn = calloc(s->env.n_queues, sizeof(*s->snapshot_lsn));
    s->purge_lsn = calloc(s->env.n_queues, sizeof(*s->purge_lsn));
    if (r < 0 || !s->snapshot_lsn || !s->purge_lsn)
        return no_memory(why, o->dir);
    s->env.dir = s->committer.space.dir;
    r = lmdb_env_open(&s->env, o, why);
    if (r < 0)
        return r;
    s->committer.space.map_bytes = s->env.map_bytes;
    atomic_store(&s->clock, s->env.clock);
    r = committer_start(&s->committer);
    if (r < 0)
        snprintf(why, STORE_WHY_BYTES, "store %.200s: cannot start its thread", o->dir);
    return r;
}

int store_lmdb_open(const struct store_config *config, const struct store_lmdb_options *options,
                    struct store **ret, char *why)
{
    struct store_lmdb *s = calloc(1, sizeof(*s));
    int r;

    if (!s)
        return no_memory(why, options->dir);
    s->store.ops = &lmdb_ops;
    s->env = (struct lmdb_env){.n_queues = config->n_workers + 1,
                               .format = STORE_FORMAT_PLAIN,
                               .damaged = on_damaged,
                               .ctx = s};
    r = lmdb_open(s, config, options, why);
    if (r < 0) {
        lmdb_free(s);
        return r;
    }
    *ret = &s->store;
    return 0;
}
