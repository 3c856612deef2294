/* store_lmdb_env: opening the environment, and what it is made of.
 *
 * Opening makes sure of three things before anything is served: that the directory is one to be
 * trusted (no SUSPECT mark, STORE says that the data file belongs there, no newer format), that
 * what an earlier process left in the page cache is on disk (one sync: otherwise a read could show
 * what a power cut then takes back), and that no dead reader pins pages.
 *
 * Formats: 1 is a store whose data file holds everything, 2 one with a log in front, which must not
 * be opened without it. The other way round is an upgrade and for the engine with the log to do.
 *
 * Never: WRITEMAP (a stray write corrupts, a full disk is SIGBUS), NOSYNC, resizing the map.
 */
#include "storage/store_lmdb_env.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/bytes.h"
#include "storage/fault_guard.h"
#include "storage/store_dir.h"
#include "storage/store_lmdb_impl.h"
#include "storage/suspect.h"

#define READERS_SPARE 16u
#define DATABASES_MAX 3u

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

struct slice lmdb_fact_name(struct slice name, uint8_t out[META_NAME_BYTES_MAX])
{
    memcpy(out, "f:", META_PREFIX_BYTES);
    memcpy(out + META_PREFIX_BYTES, name.data, name.len);
    return slice_of(out, META_PREFIX_BYTES + name.len);
}

/* LMDB found its own pages in a state that cannot be, and would abort. */
static void on_assert(MDB_env *env, const char *text)
{
    struct lmdb_env *e = mdb_env_get_userctx(env);
    char sentence[STORE_WHY_BYTES];

    snprintf(sentence, sizeof(sentence),
             "store %.200s: the data file is damaged (LMDB: %.100s): move it away and let the node "
             "be replaced, or restore the directory from a backup",
             e->dir, text);
    e->damaged(e->ctx, sentence);
    _exit(1); /* only if that came back: LMDB must not go on */
}

void lmdb_env_guard_faults(struct lmdb_env *e)
{
    char path[1024];
    mdb_filehandle_t fd;

    if (mdb_env_get_fd(e->env, &fd) != 0)
        return;
    snprintf(path, sizeof(path), "%s/" STORE_DIR_DATA, e->dir);
    fault_guard_install(fd, path);
}

/* ---- sentences ----------------------------------------------------------------------------- */

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

/* ---- opening ------------------------------------------------------------------------------- */

static int environment_open(struct lmdb_env *e, const struct store_lmdb_options *o, char *why)
{
    unsigned flags = MDB_NOTLS | MDB_NORDAHEAD;
    int rc = mdb_env_create(&e->env), n_dead;

    if (rc != 0)
        return explain_mdb(why, o->dir, "cannot make an environment", rc);
    mdb_env_set_userctx(e->env, e);
    mdb_env_set_assert(e->env, on_assert);
    mdb_env_set_maxdbs(e->env, DATABASES_MAX);
    mdb_env_set_maxreaders(e->env, e->n_queues * SNAPSHOTS_MAX + READERS_SPARE);
    rc = mdb_env_set_mapsize(e->env, e->map_bytes);
    if (rc != 0)
        return explain_mdb(why, o->dir, "cannot use this map size", rc);
#ifdef STORE_LMDB_UNSAFE_TEST
    flags |= o->no_sync ? MDB_NOSYNC : 0;
#endif
    rc = mdb_env_open(e->env, o->dir, flags, 0600);
    if (rc != 0)
        return explain_disk(why, o->dir, "cannot open", rc);
    lmdb_env_guard_faults(e); /* until opened */
    /* A process that was killed may have left pages in the page cache that no sync covers yet: what
     * we read from now on must be on disk. */
    rc = mdb_env_sync(e->env, 1);
    if (rc != 0)
        return explain_disk(why, o->dir, "cannot sync what an earlier process wrote", rc);
    return explain_mdb(why, o->dir, "cannot check its readers", mdb_reader_check(e->env, &n_dead));
}

/* ret untouched if the fact was never set. */
static int fact_get_u64(struct lmdb_env *e, MDB_txn *txn, const char *name, uint64_t *ret)
{
    struct slice value;
    int r = lmdb_fact_get(e, txn, slice_str(name), &value);

    if (r != 0)
        return r < 0 ? r : 0;
    if (value.len != 8)
        return -ERR_CORRUPT;
    *ret = bytes_get_le(value.data, 8);
    return 0;
}

/* In the first transaction: the databases, the format, the clock. */
static int check_format(struct lmdb_env *e, struct lmdb_txn *t, char *why)
{
    uint64_t found = 0;
    int r = fact_get_u64(e, t->txn, META_NAME_FORMAT, &found), rc;

    if (r == 0)
        r = fact_get_u64(e, t->txn, META_NAME_CLOCK, &e->clock);
    if (r < 0 && r != -ERR_FORMAT)
        return explain(why, r, e->dir, "its own facts cannot be read: the data file is damaged");
    if (r == -ERR_FORMAT || found > STORE_FORMAT_LOG)
        return explain(why, -ERR_FORMAT, e->dir,
                       "written by a newer version of quoit; start that version or a newer one");
    if (found > e->format)
        return explain(why, -ERR_FORMAT, e->dir,
                       "it has a log in front, without which it must not be opened");
    e->is_new = found == 0;
    rc = found ? 0 : lmdb_txn_number_put(t, META_NAME_FORMAT, e->format);
    e->format = found ? (unsigned)found : e->format;
    return explain_mdb(why, e->dir, "cannot write the format", rc);
}

static int databases_make(struct lmdb_env *e, MDB_txn *txn)
{
    int rc = mdb_dbi_open(txn, "kv", MDB_CREATE, &e->kv);

    if (rc == 0)
        rc = mdb_dbi_open(txn, "meta", MDB_CREATE, &e->meta);
    if (rc == 0 && e->format >= STORE_FORMAT_LOG)
        rc = mdb_dbi_open(txn, "zones", MDB_CREATE, &e->zones);
    return rc;
}

static int databases_open(struct lmdb_env *e, char *why)
{
    struct lmdb_txn t = {.e = e};
    int rc = mdb_txn_begin(e->env, NULL, 0, &t.txn), r;

    if (rc != 0)
        return explain_mdb(why, e->dir, "cannot begin", rc);
    rc = databases_make(e, t.txn);
    if (rc == 0)
        rc = mdb_cursor_open(t.txn, e->kv, &t.kv);
    r = rc == 0 ? check_format(e, &t, why)
                : explain_mdb(why, e->dir, "cannot open its databases", rc);
    if (r < 0) {
        lmdb_txn_abort(&t);
        return r;
    }
    return explain_disk(why, e->dir, "cannot write", lmdb_txn_commit(&t));
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
static int data_open(struct lmdb_env *e, const struct store_lmdb_options *o, char *why)
{
    char what[STORE_DIR_WHY_BYTES];
    int is_new = store_dir_begin(o->dir, e->format, what), r;

    if (is_new < 0)
        return explain(why, is_new, o->dir, what);
    fault_guard_enter();
    r = environment_open(e, o, why);
    if (r == 0)
        r = databases_open(e, why);
    fault_guard_leave();
    fault_guard_remove();
    if (r < 0 || !is_new)
        return r;
    r = store_dir_finish(o->dir, e->format, what);
    return r < 0 ? explain(why, r, o->dir, what) : 0;
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

int lmdb_env_open(struct lmdb_env *e, const struct store_lmdb_options *options, char *why)
{
    int r = check_suspect(options, why);

    if (r < 0)
        return r;
    e->map_bytes = choose_map_bytes(options);
    r = lmdb_readers_init(e);
    if (r < 0)
        return explain(why, r, options->dir, "out of memory");
    r = data_open(e, options, why);
    if (r == 0 && options->accept_suspect)
        suspect_clear(options->dir);
    return r;
}

void lmdb_env_close(struct lmdb_env *e)
{
    lmdb_readers_deinit(e);
    if (e->env)
        mdb_env_close(e->env);
    e->env = NULL;
}
