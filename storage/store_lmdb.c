/* store_lmdb: the plain store, one LMDB environment.
 *
 *   submit, load, wipe --> commit_queue --> committer --> store_lmdb_write   (the writer thread)
 *   reap              <--- commit_queue <------+
 *   get, scan, sums   ---> store_lmdb_read                                   (the caller's thread)
 *
 * Two databases: "kv" (store key -> record) and "meta" (facts). Not one with a prefix: the ring
 * order of kv needs the token in front, and n_records is then simply the number of entries.
 *
 * Opening makes sure of three things before anything is served: that the directory is one to be
 * trusted (no SUSPECT mark, STORE says that the data file belongs there, no newer format), that
 * what an earlier process left in the page cache is on disk (one sync: otherwise a read could show
 * what a power cut then takes back), and that no dead reader pins pages.
 *
 * Never: WRITEMAP (a stray write corrupts, a full disk is SIGBUS), NOSYNC, resizing the map.
 */
#include "storage/store_lmdb.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/fault_guard.h"
#include "storage/record.h"
#include "storage/store_dir.h"
#include "storage/store_lmdb_impl.h"
#include "storage/suspect.h"

#define STORE_FORMAT 1u
#define READERS_SPARE 16u

int lmdb_err(int rc)
{
    switch (rc) {
    case 0:
        return 0;
    case ENOMEM:
        return -ERR_NO_MEMORY;
    case MDB_MAP_FULL:
    case ENOSPC:
    case EDQUOT:
        return -ERR_NO_SPACE;
    case MDB_READERS_FULL:
        return -ERR_FULL;
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_CURSOR_FULL:
    case MDB_INVALID:
    case MDB_VERSION_MISMATCH:
    case MDB_BAD_TXN:
    case MDB_BAD_VALSIZE:
        return -ERR_CORRUPT;
    default:
        return -ERR_IO;
    }
}

struct slice lmdb_fact_name(struct slice name, uint8_t out[META_PREFIX_BYTES + STORE_META_NAME_MAX])
{
    memcpy(out, "f:", META_PREFIX_BYTES);
    memcpy(out + META_PREFIX_BYTES, name.data, name.len);
    return slice_of(out, META_PREFIX_BYTES + name.len);
}

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

static size_t lmdb_reap(struct store *store, uint32_t queue, struct store_done *out, size_t max)
{
    return commit_queue_reap(&lmdb_of(store)->committer.queue, queue, out, max);
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
        .map_bytes = s->map_bytes,
        .used_bytes = atomic_load_explicit(&s->used_bytes, memory_order_relaxed),
        .n_records = atomic_load_explicit(&s->n_records, memory_order_relaxed),
        .n_syncs = atomic_load_explicit(&c->n_syncs, memory_order_relaxed),
        .n_ops = atomic_load_explicit(&c->n_ops, memory_order_relaxed),
        .durable = lmdb_durable(store),
        .space_low = atomic_load_explicit(&c->space.low, memory_order_relaxed),
    };
    int r = space_of_fs(&c->space, &stats.fs_bytes, &stats.fs_free_bytes);

    if (r == 0)
        *ret = stats;
    return r;
}

/* ---- open and close ----------------------------------------------------------------------- */

/* The store once its thread has ended, or what open got so far. */
static void lmdb_free(struct store_lmdb *s)
{
    lmdb_readers_deinit(s);
    if (s->env)
        mdb_env_close(s->env);
    committer_deinit(&s->committer);
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
    .vnode_info = lmdb_vnode_info,
    .leaves = lmdb_leaves,
    .stats = lmdb_stats,
    .close = lmdb_close,
};

/* LMDB found its own pages in a state that cannot be, and would abort. */
static void on_assert(MDB_env *env, const char *text)
{
    struct store_lmdb *s = mdb_env_get_userctx(env);
    char sentence[COMMIT_WHY_BYTES];

    snprintf(sentence, sizeof(sentence),
             "store %.200s: the data file is damaged (LMDB: %.100s): move it away and let the node "
             "be replaced, or restore the directory from a backup",
             s->committer.space.dir, text);
    committer_fail(&s->committer, sentence);
    _exit(1); /* only if config.fatal came back: LMDB must not go on */
}

void store_lmdb_guard_faults(struct store *store)
{
    struct store_lmdb *s = lmdb_of(store);
    char path[1024];
    mdb_filehandle_t fd;

    if (mdb_env_get_fd(s->env, &fd) != 0)
        return;
    snprintf(path, sizeof(path), "%s/" STORE_DIR_DATA, s->committer.space.dir);
    fault_guard_install(fd, path);
}

static int explain(char *why, int error, const char *dir, const char *what)
{
    snprintf(why, STORE_WHY_BYTES, "store %.200s: %.256s", dir, what);
    return error;
}

static int explain_mdb(char *why, const char *dir, const char *step, int rc)
{
    int r = lmdb_err(rc);

    if (rc == 0)
        return 0;
    snprintf(why, STORE_WHY_BYTES, "store %.256s: %s: %s%s", dir, step, mdb_strerror(rc),
             r == -ERR_CORRUPT
                 ? ": the data file is damaged; restore it or let the node be replaced"
                 : "");
    return r;
}

/* A disk that fails before the store is open leaves the same doubt as later. A full one does not:
 * opening writes only while the store is being created, which is begun again. */
static int explain_disk(char *why, const char *dir, const char *step, int rc)
{
    char sentence[STORE_WHY_BYTES];
    int r = explain_mdb(why, dir, step, rc);

    if (rc == EIO) {
        memcpy(sentence, why, STORE_WHY_BYTES);
        suspect_mark_told(dir, sentence, why, STORE_WHY_BYTES);
    }
    return r;
}

static int env_open(struct store_lmdb *s, const struct store_lmdb_options *o, char *why)
{
    unsigned flags = MDB_NOTLS | MDB_NORDAHEAD;
    int rc = mdb_env_create(&s->env), n_dead;

    if (rc != 0)
        return explain_mdb(why, o->dir, "cannot make an environment", rc);
    mdb_env_set_userctx(s->env, s);
    mdb_env_set_assert(s->env, on_assert);
    mdb_env_set_maxdbs(s->env, 2);
    mdb_env_set_maxreaders(s->env, s->n_queues * SNAPSHOTS_MAX + READERS_SPARE);
    rc = mdb_env_set_mapsize(s->env, s->map_bytes);
    if (rc != 0)
        return explain_mdb(why, o->dir, "cannot use this map size", rc);
#ifdef STORE_LMDB_UNSAFE_TEST
    flags |= o->no_sync ? MDB_NOSYNC : 0;
#endif
    rc = mdb_env_open(s->env, o->dir, flags, 0600);
    if (rc != 0)
        return explain_disk(why, o->dir, "cannot open", rc);
    store_lmdb_guard_faults(&s->store); /* until opened */
    /* A process that was killed may have left pages in the page cache that no sync covers yet: what
     * we read from now on must be on disk. */
    rc = mdb_env_sync(s->env, 1);
    if (rc != 0)
        return explain_disk(why, o->dir, "cannot sync what an earlier process wrote", rc);
    return explain_mdb(why, o->dir, "cannot check its readers", mdb_reader_check(s->env, &n_dead));
}

/* ret untouched if the fact was never set. */
static int fact_get_u64(struct store_lmdb *s, MDB_txn *txn, const char *name, uint64_t *ret)
{
    struct slice value;
    int r = lmdb_fact_get(s, txn, slice_str(name), &value);

    if (r != 0)
        return r < 0 ? r : 0;
    if (value.len != 8)
        return -ERR_CORRUPT;
    *ret = 0;
    for (unsigned i = 0; i < 8; i++)
        *ret |= (uint64_t)value.data[i] << (8 * i);
    return 0;
}

/* In the first transaction: the databases, the format, the clock. */
static int check_format(struct store_lmdb *s, MDB_txn *txn, const char *dir, char *why)
{
    uint64_t format = 0, clock = 0;
    int r = fact_get_u64(s, txn, META_NAME_FORMAT, &format), rc;

    if (r == 0)
        r = fact_get_u64(s, txn, META_NAME_CLOCK, &clock);
    if (r < 0 && r != -ERR_FORMAT)
        return explain(why, r, dir, "its own facts cannot be read: the data file is damaged");
    if (r == -ERR_FORMAT || format > STORE_FORMAT)
        return explain(why, -ERR_FORMAT, dir,
                       "written by a newer version of quoit; start that version or a newer one");
    atomic_store(&s->clock, clock);
    rc = format ? 0 : lmdb_write_u64(s, txn, META_NAME_FORMAT, STORE_FORMAT);
    return explain_mdb(why, dir, "cannot write the format", rc);
}

static int databases_open(struct store_lmdb *s, const char *dir, char *why)
{
    uint64_t used = 0, n_records = 0;
    MDB_txn *txn;
    int rc = mdb_txn_begin(s->env, NULL, 0, &txn), r;

    if (rc != 0)
        return explain_mdb(why, dir, "cannot begin", rc);
    rc = mdb_dbi_open(txn, "kv", MDB_CREATE, &s->kv);
    if (rc == 0)
        rc = mdb_dbi_open(txn, "meta", MDB_CREATE, &s->meta);
    if (rc == 0)
        rc = lmdb_count(s, txn, &used, &n_records);
    r = rc == 0 ? check_format(s, txn, dir, why)
                : explain_mdb(why, dir, "cannot open its databases", rc);
    if (r < 0) {
        mdb_txn_abort(txn);
        return r;
    }
    atomic_store(&s->used_bytes, used);
    atomic_store(&s->n_records, n_records);
    return explain_disk(why, dir, "cannot write", mdb_txn_commit(txn));
}

static int check_suspect(const struct store_lmdb_options *o, char *why)
{
    char reason[256];

    if (!suspect_is_marked(o->dir, reason, sizeof(reason)) || o->accept_suspect)
        return 0;
    snprintf(why, STORE_WHY_BYTES,
             "store %.150s is marked " SUSPECT_NAME " (%.200s): a write or sync failed here, so "
             "acknowledged writes may be missing; let the node be replaced, or accept the loss",
             o->dir, reason);
    return -ERR_SUSPECT;
}

/* The data file, made if the directory is new. */
static int data_open(struct store_lmdb *s, const struct store_lmdb_options *o, char *why)
{
    char what[STORE_DIR_WHY_BYTES];
    int is_new = store_dir_begin(o->dir, STORE_FORMAT, what), r;

    if (is_new < 0)
        return explain(why, is_new, o->dir, what);
    fault_guard_enter();
    r = env_open(s, o, why);
    if (r == 0)
        r = databases_open(s, o->dir, why);
    fault_guard_leave();
    fault_guard_remove();
    if (r < 0 || !is_new)
        return r;
    r = store_dir_finish(o->dir, STORE_FORMAT, what);
    return r < 0 ? explain(why, r, o->dir, what) : 0;
}

static int lmdb_open(struct store_lmdb *s, const struct store_config *config,
                     const struct store_lmdb_options *o, char *why)
{
    int r = committer_init(&s->committer, config, &lmdb_engine, s, o->dir, s->map_bytes);

    if (r == 0)
        r = lmdb_readers_init(s);
    if (r < 0)
        return explain(why, -ERR_NO_MEMORY, o->dir, "out of memory");
    r = data_open(s, o, why);
    if (r < 0)
        return r;
    if (o->accept_suspect)
        suspect_clear(o->dir);
    r = committer_start(&s->committer);
    return r < 0 ? explain(why, r, o->dir, "cannot start its thread") : 0;
}

/* A map that the data fills to the last page could not even take deletes, so one that is too small
 * is made somewhat larger than the data: puts are then refused, and deletes make room. */
static uint64_t choose_map_bytes(const struct store_lmdb_options *o)
{
    uint64_t bytes = o->map_bytes ? o->map_bytes : STORE_LMDB_MAP_DEFAULT, least;
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    char path[4096];
    struct stat st;

    if (bytes < STORE_LMDB_MAP_MIN)
        bytes = STORE_LMDB_MAP_MIN;
    if (snprintf(path, sizeof(path), "%s/" STORE_DIR_DATA, o->dir) < (int)sizeof(path) &&
        stat(path, &st) == 0) {
        least = (uint64_t)st.st_size + (uint64_t)st.st_size / 8;
        bytes = bytes < least ? least : bytes;
    }
    return bytes - bytes % page;
}

int store_lmdb_open(const struct store_config *config, const struct store_lmdb_options *options,
                    struct store **ret, char *why)
{
    struct store_lmdb *s;
    int r = check_suspect(options, why);

    if (r < 0)
        return r;
    s = calloc(1, sizeof(*s));
    if (!s)
        return explain(why, -ERR_NO_MEMORY, options->dir, "out of memory");
    s->store.ops = &lmdb_ops;
    s->n_queues = config->n_workers + 1;
    s->map_bytes = choose_map_bytes(options);
    r = lmdb_open(s, config, options, why);
    if (r < 0) {
        lmdb_free(s);
        return r;
    }
    *ret = &s->store;
    return 0;
}
