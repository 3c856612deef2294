/* store_log: the store with a log in front of LMDB.
 *
 *   submit --+--> active table --- freeze ---> frozen table --- apply (slices) ---> LMDB
 *            |    (owner's thread)                                                   |
 *            +--> log list --> log thread: group, sync --> durable --> reap          |
 *                              ^                                                     |
 *                              +------ released up to what LMDB holds <--------------+
 *   get, scan, sums: active, frozen, snapshot of LMDB (owner's thread)
 *
 * The log makes an operation durable; LMDB, written later and in key order, makes it cheap: one
 * sync for all that came together, and pages dirtied once for many records. What a crash leaves
 * behind is LMDB as of some finished slice and the log since the last finished pass; merging by
 * version makes replaying idempotent.
 *
 * Closing brings everything to disk, so that the next start has nothing to replay.
 */
#include "storage/store_log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/clean_mark.h"
#include "storage/fault_guard.h"
#include "storage/store_dir.h"
#include "storage/store_log_impl.h"
#include "storage/suspect.h"

#define LOG_DIR_NAME "log"
#define TABLES_PART_OF_FILE 4u
#define TABLES_PART_OF_MEMORY 16u

void store_log_fail(struct store_log *s, const char *sentence)
{
    char told[COMMIT_WHY_BYTES + SUSPECT_SENTENCE_BYTES + 512];

    if (atomic_exchange(&s->failed, true))
        return;
    suspect_mark_told(s->dir, sentence, told, sizeof(told));
    s->config.fatal(s->config.ctx, told);
}

/* ---- what the parts below say -------------------------------------------------------------- */

static void on_damaged(void *ctx, const char *sentence)
{
    store_log_fail(ctx, sentence);
}

static void on_log_fatal(void *ctx, const char *sentence)
{
    store_log_fail(ctx, sentence);
}

static void on_durable(void *ctx, uint64_t lsn, const bool *touched)
{
    struct store_log *s = ctx;

    for (uint32_t q = 0; q < s->n_parts; q++)
        if (touched[q])
            s->config.notify(s->config.ctx, q);
    apply_durable(s, lsn);
}

static void on_room(void *ctx)
{
    notify_held_up(ctx);
}

/* ---- the rest of the table ----------------------------------------------------------------- */

static uint64_t log_store_durable(struct store *store)
{
    return log_durable(log_of(store)->log);
}

static uint64_t records_in_tables(const struct part *p)
{
    return table_count(p->active) + (p->frozen ? table_count(p->frozen) : 0);
}

/* Any thread. */
static uint64_t bytes_in_tables(const struct store_log *s)
{
    uint64_t n = 0;

    for (uint32_t q = 0; q < s->n_parts; q++)
        n += atomic_load_explicit(&s->parts[q].bytes, memory_order_relaxed);
    return n;
}

static uint64_t count_tombstones(const struct store_log *s)
{
    uint64_t n = 0;

    for (uint32_t z = 0; z < ZONES; z++)
        n += atomic_load_explicit(&s->zone_tombstones[z], memory_order_relaxed);
    return n;
}

static int log_store_stats(struct store *store, uint32_t queue, struct store_stats *ret)
{
    struct store_log *s = log_of(store);
    struct store_stats stats = {
        .map_bytes = s->env.map_bytes,
        .used_bytes = atomic_load_explicit(&s->env.used_bytes, memory_order_relaxed),
        .n_records = atomic_load_explicit(&s->env.n_records, memory_order_relaxed) +
                     records_in_tables(&s->parts[queue]),
        .n_in_memory = records_in_tables(&s->parts[queue]),
        .in_memory_bytes = bytes_in_tables(s),
        .n_tombstones = count_tombstones(s),
        .n_syncs = log_n_syncs(s->log),
        .n_ops = atomic_load_explicit(&s->n_ops, memory_order_relaxed),
        .n_purged = atomic_load_explicit(&s->n_purged, memory_order_relaxed),
        .n_fetched = atomic_load_explicit(&s->n_fetched, memory_order_relaxed),
        .durable = log_durable(s->log),
        .space_low = atomic_load_explicit(&s->space.low, memory_order_relaxed),
    };
    int r = space_of_fs(&s->space, &stats.fs_bytes, &stats.fs_free_bytes);

    lmdb_file_stats(&s->env, &stats);
    if (r == 0)
        *ret = stats;
    return r;
}

/* ---- close --------------------------------------------------------------------------------- */

static void part_deinit(struct part *p)
{
    struct load *next;

    table_free(p->active);
    p->active = NULL;
    table_free(p->frozen);
    part_free_retired(p);
    free(p->dones);
    free(p->done_bytes);
    free(p->made);
    for (struct load *load = p->loaded; load; load = next) {
        next = load->next;
        commit_batch_free(load->batch);
        free(load);
    }
    pthread_mutex_destroy(&p->lock);
}

/* The threads have ended, or never began. */
static void store_free(struct store_log *s)
{
    reader_pool_deinit(&s->pool);
    log_free(s->log);
    lmdb_env_close(&s->env);
    for (uint32_t q = 0; s->parts && q < s->n_parts; q++)
        part_deinit(&s->parts[q]);
    free(s->parts);
    facts_deinit(&s->facts);
    apply_deinit(s);
    space_deinit(&s->space);
    scrubber_deinit(s);
    free(s->zone_max);
    free(s->zone_raised);
    free(s->zone_wiped);
    free(s->zone_tombstones);
    free(s->dir);
    free(s);
}

/* The next start need not search the log; without the mark it does. */
static void say_clean(struct store_log *s)
{
    struct log_place last = log_last(s->log);

    if (last.seq && last.seq == s->apply.seq_applied && !atomic_load(&s->failed))
        clean_mark_write(s->dir, s->log_id, &last);
}

static void log_store_close(struct store *store)
{
    struct store_log *s = log_of(store);

    reader_pool_deinit(&s->pool);
    scrubber_stop(s);
    apply_stop(s);
    log_stop(s->log);
    if (!atomic_load(&s->failed) && apply_rest(s) == 0)
        say_clean(s);
    store_free(s);
}

static const struct store_ops log_ops = {
    .submit = store_log_submit,
    .reap = store_log_reap,
    .durable = log_store_durable,
    .get = store_log_get,
    .scan = store_log_scan,
    .read_end = store_log_read_end,
    .fetch = store_log_fetch,
    .fetched = store_log_fetched,
    .meta_get = store_log_meta_get,
    .clock_bound = store_log_clock_bound,
    .load = store_log_load,
    .wipe = store_log_wipe,
    .purge = store_log_purge,
    .vnode_info = store_log_vnode_info,
    .leaves = store_log_leaves,
    .scrub = store_log_scrub,
    .scrubbed = store_log_scrubbed,
    .stats = log_store_stats,
    .close = log_store_close,
};

void store_log_guard_faults(struct store *store)
{
    lmdb_env_guard_faults(&log_of(store)->env);
}

/* ---- open ---------------------------------------------------------------------------------- */

static int explain(char *why, int error, const char *dir, const char *what)
{
    snprintf(why, STORE_WHY_BYTES, "store %.200s: %.256s", dir, what);
    return error;
}

static int part_init(struct part *p)
{
    memset(p, 0, sizeof(*p));
    p->n_faults = FAULTS_UNKNOWN;
    atomic_store(&p->active_first, LSN_NONE);
    atomic_store(&p->frozen_first, LSN_NONE);
    pthread_mutex_init(&p->lock, NULL);
    p->loaded_tail = &p->loaded;
    p->active = table_new();
    return p->active ? 0 : -ERR_NO_MEMORY;
}

static int parts_init(struct store_log *s)
{
    int r = 0;

    s->zone_max = calloc(ZONES, sizeof(*s->zone_max));
    s->zone_raised = calloc(ZONES, sizeof(*s->zone_raised));
    s->zone_wiped = calloc(ZONES, sizeof(*s->zone_wiped));
    s->zone_tombstones = calloc(ZONES, sizeof(*s->zone_tombstones));
    s->parts = aligned_alloc(64, s->n_parts * sizeof(*s->parts));
    if (!s->zone_max || !s->zone_raised || !s->zone_wiped || !s->zone_tombstones || !s->parts) {
        free(s->parts);
        s->parts = NULL;
        return -ERR_NO_MEMORY;
    }
    for (uint32_t q = 0; q < s->n_parts; q++) {
        int e = part_init(&s->parts[q]);

        r = r < 0 ? r : e;
    }
    return r;
}

static uint64_t clamp(uint64_t n, uint64_t min, uint64_t max)
{
    return n < min ? min : n > max ? max : n;
}

static uint64_t tables_bytes_max(void)
{
    uint64_t memory = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);

    return clamp(memory / TABLES_PART_OF_MEMORY, STORE_LOG_TABLES_BYTES_MIN,
                 STORE_LOG_TABLES_BYTES_MAX);
}

static uint64_t log_bytes_for(uint64_t tables)
{
    uint64_t bytes = tables * STORE_LOG_BYTES_FACTOR;

    return bytes < STORE_LOG_BYTES_MIN ? STORE_LOG_BYTES_MIN : bytes;
}

void store_log_resize(struct store_log *s)
{
    uint64_t tables = s->tables_bytes;

    if (!tables)
        tables = clamp(atomic_load(&s->env.used_bytes) / TABLES_PART_OF_FILE,
                       STORE_LOG_TABLES_BYTES_MIN, tables_bytes_max());
    atomic_store(&s->part_bytes_max, tables / s->n_owners);
    if (!s->log_bytes_fixed)
        atomic_store(&s->log_bytes_max, log_bytes_for(tables));
}

/* Returns the most that the log may ever hold. */
static uint64_t choose_sizes(struct store_log *s, const struct store_log_options *o)
{
    s->slice_records = o->slice_records ? o->slice_records : SLICE_RECORDS_MAX;
    s->tables_bytes = o->tables_bytes;
    s->log_bytes_fixed = o->log_bytes_max > 0;
    atomic_store(&s->log_bytes_max, o->log_bytes_max);
    store_log_resize(s);
    return o->log_bytes_max ? o->log_bytes_max
                            : log_bytes_for(o->tables_bytes ? o->tables_bytes : tables_bytes_max());
}

/* Its entry in the directory above must be as durable as what will be in it. */
static int sync_parent(const char *dir)
{
    char parent[4096 + sizeof("/..")];
    int n = snprintf(parent, sizeof(parent), "%s/..", dir);

    return n > 0 && (size_t)n < sizeof(parent) && store_dir_sync(parent) ? 0 : -ERR_IO;
}

static int choose_log_dir(const struct store_log_options *o, char *out, size_t size, char *why)
{
    int n = o->log_dir ? snprintf(out, size, "%s", o->log_dir)
                       : snprintf(out, size, "%s/" LOG_DIR_NAME, o->lmdb.dir);

    if (n < 0 || (size_t)n >= size)
        return explain(why, -ERR_IO, o->lmdb.dir, "the name of its log's directory is too long");
    if (mkdir(out, 0700) != 0 && errno != EEXIST)
        return explain(why, errno == ENOSPC ? -ERR_NO_SPACE : -ERR_IO, o->lmdb.dir,
                       "cannot make the directory of its log");
    if (sync_parent(out) < 0)
        return explain(why, -ERR_IO, o->lmdb.dir, "cannot sync the directory of its log");
    return 0;
}

/* A store without a log is given one: zones for what is there, and the format that says so. */
static int upgrade(struct store_log *s, char *why)
{
    char what[STORE_DIR_WHY_BYTES + COMMIT_WHY_BYTES] = "";
    int r;

    if (s->env.format == STORE_FORMAT_LOG)
        return 0;
    r = slice_make_zones(s, what);
    if (r == 0)
        r = store_dir_finish(s->dir, STORE_FORMAT_LOG, what);
    if (r == 0)
        return 0;
    return explain(why, r == COMMIT_FULL ? -ERR_NO_SPACE : r > 0 ? -ERR_IO : r, s->dir, what);
}

static int start(struct store_log *s, const struct store_log_options *o, char *why)
{
    char log_dir[4096];
    struct log_options log = {.dir = log_dir,
                              .segment_bytes = o->segment_bytes,
                              .n_queues = s->n_parts,
                              .on_durable = on_durable,
                              .on_room = on_room,
                              .on_fatal = on_log_fatal,
                              .ctx = s};
    int r = upgrade(s, why);

    if (r == 0)
        r = choose_log_dir(o, log_dir, sizeof(log_dir), why);
    if (r < 0)
        return r;
    log.bytes_max = choose_sizes(s, o);
    r = store_log_recover(s, &log, why);
    if (r < 0)
        return r;
    r = log_start(s->log);
    if (r == 0)
        r = apply_start(s);
    if (r < 0)
        log_stop(s->log);
    return r < 0 ? explain(why, r, s->dir, "cannot start its threads") : 0;
}

static int store_open(struct store_log *s, const struct store_log_options *o, char *why)
{
    int r = parts_init(s);

    if (r == 0)
        r = space_init(&s->space, o->lmdb.dir, 0);
    if (r < 0 || !s->dir)
        return explain(why, -ERR_NO_MEMORY, o->lmdb.dir, "out of memory");
    s->env.dir = s->dir;
    r = lmdb_env_open(&s->env, &o->lmdb, why);
    if (r < 0)
        return r;
    s->space.map_bytes = s->env.map_bytes;
    lmdb_env_guard_faults(&s->env); /* until opened */
    r = start(s, o, why);
    fault_guard_remove();
    return r;
}

int store_log_open(const struct store_config *config, const struct store_log_options *options,
                   struct store **ret, char *why)
{
    struct store_log *s = calloc(1, sizeof(*s));
    int r;

    if (!s)
        return explain(why, -ERR_NO_MEMORY, options->lmdb.dir, "out of memory");
    s->store.ops = &log_ops;
    s->config = *config;
    s->n_parts = config->n_workers + 1;
    s->n_owners = config->n_owners ? config->n_owners : s->n_parts > 1 ? s->n_parts - 1 : 1;
    s->dir = strdup(options->lmdb.dir);
    s->env = (struct lmdb_env){.n_queues = s->n_parts + READER_POOL_THREADS + 1, /* and scrub */
                               .format = STORE_FORMAT_LOG,
                               .damaged = on_damaged,
                               .ctx = s};
    scrubber_init(s);
    r = facts_init(&s->facts);
    if (r == 0)
        r = store_log_cold_init(s);
    if (r == 0)
        r = apply_init(s);
    if (r == 0)
        r = store_open(s, options, why);
    if (r < 0) {
        store_free(s);
        return r;
    }
    *ret = &s->store;
    return 0;
}
