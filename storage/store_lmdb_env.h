/* store_lmdb_env: the LMDB environment of a store: opening it, snapshots, walks, transactions.
 *
 * What the engines on disk share: the plain store, which is little more than this behind a commit
 * queue, and the store with a log in front. Only the files named store_lmdb* know lmdb.h:
 *
 *   store_lmdb_env.c    open, close, formats, counts
 *   store_lmdb_read.c   snapshots, get, walks, facts: on the callers' threads
 *   store_lmdb_sift.c   walks that trust nothing but checksums
 *   store_lmdb_purge.c  a walk that looks for tombstones
 *   store_lmdb_txn.c    one write transaction: on the engine's writer thread
 *   store_lmdb_write.c  the plain store's groups
 *
 * Databases: "kv" (store key -> record), "meta" (name -> fact) and, with a log, "zones" (number ->
 * summary, zone.h). Functions that return `int rc` return LMDB's codes; the others errors of
 * proto/err.h.
 */
#ifndef QUOIT_STORAGE_STORE_LMDB_ENV_H
#define QUOIT_STORAGE_STORE_LMDB_ENV_H

#include "storage/committer.h"
#include "storage/record.h"
#include "storage/store_lmdb.h"

struct MDB_env;
struct MDB_txn;
struct MDB_cursor;

/* Formats of a store's directory. */
#define STORE_FORMAT_PLAIN 1u
#define STORE_FORMAT_LOG 2u

/* Names in the meta database: "f:" and the caller's name, or the store's own. */
#define META_PREFIX_BYTES 2u
#define META_NAME_BYTES_MAX (META_PREFIX_BYTES + STORE_META_NAME_MAX)
#define META_NAME_FORMAT "s:format"
#define META_NAME_CLOCK "s:clock"

struct reader;
struct scrub_fold;

struct lmdb_env {
    struct MDB_env *env;
    unsigned kv, meta, zones; /* MDB_dbi */
    struct reader *readers;   /* one per queue */
    uint32_t n_queues;
    unsigned format;
    uint64_t map_bytes;
    const char *dir;                        /* the caller's */
    uint64_t clock;                         /* the clock bound as found when it was opened */
    bool is_new;                            /* made by this open */
    _Atomic uint64_t used_bytes, n_records; /* as of the last commit */
    _Atomic uint64_t file_bytes, newest;    /* the same: up to its last page; its number */
    /* LMDB found its own pages in a state that cannot be; must not return to it. */
    void (*damaged)(void *ctx, const char *sentence);
    void *ctx;
};

/* Opens what options say with the given format; the caller has filled dir, n_queues, format,
 * damaged and ctx. The environment is not usable for snapshots before this. 0, or an error with a
 * sentence in why[STORE_WHY_BYTES]. */
int lmdb_env_open(struct lmdb_env *e, const struct store_lmdb_options *options, char *why);
void lmdb_env_close(struct lmdb_env *e); /* accepts what open left half done */
/* See store_lmdb_guard_faults. */
void lmdb_env_guard_faults(struct lmdb_env *e);

int lmdb_err(int rc);
/* A caller's fact as it is named in the meta database; name.len <= STORE_META_NAME_MAX. */
struct slice lmdb_fact_name(struct slice name, uint8_t out[META_NAME_BYTES_MAX]);

/* ---- reading: store_lmdb_read.c; all of a queue from one thread ---- */

/* Opens a snapshot for the queue beside those it holds already: later reads use it, what was lent
 * from the others stays good until lmdb_read_end. 0, -ERR_FULL (too many), -ERR_IO, ... */
int lmdb_snapshot_next(struct lmdb_env *e, uint32_t queue);
/* Commits that the oldest open snapshot of any queue is behind. Any thread. */
uint64_t lmdb_snapshot_age(const struct lmdb_env *e);
/* What the file adds to stats. Any thread. */
void lmdb_file_stats(const struct lmdb_env *e, struct store_stats *ret);
/* The queue holds a snapshot that can be used. */
bool lmdb_snapshot_open(const struct lmdb_env *e, uint32_t queue);
void lmdb_snapshots_end(struct lmdb_env *e, uint32_t queue);

/* The rest needs an open snapshot. */
int lmdb_env_get(struct lmdb_env *e, uint32_t queue, struct slice store_key, struct state *ret);
/* 0, 1 when never set, -ERR_x. name as in the meta database. */
int lmdb_env_fact(struct lmdb_env *e, uint32_t queue, struct slice name, struct slice *ret);
/* 0, 1 when there is none yet. */
int lmdb_env_zone(struct lmdb_env *e, uint32_t queue, uint32_t number, struct slice *ret);

/* A walk over a range in key order. */
struct lmdb_walk {
    struct MDB_cursor *cursor;
    struct store_range range;
    uint8_t first[8]; /* range.first as the beginning of a key */
    struct slice previous;
    struct slice store_key; /* where it stands; empty: cannot be told */
    uint64_t token;
    struct key key;
    struct state state;
};

/* Opens the walk at the first record of the range after `after`, which may be empty (lmdb_walk_end
 * it whatever is returned). 0: a record. 1: the range has ended. -ERR_CORRUPT: w->store_key names a
 * bad record, or is empty. -ERR_IO, ... */
int lmdb_walk_first(struct lmdb_env *e, uint32_t queue, struct store_range range,
                    struct slice after, struct lmdb_walk *w);
int lmdb_walk_next(struct lmdb_walk *w);
/* To the first record after `after`, which is not before where it stands and stays good. */
int lmdb_walk_seek(struct lmdb_walk *w, struct slice after);
/* r: what first or next said last. */
void lmdb_walk_end(struct lmdb_env *e, uint32_t queue, struct lmdb_walk *w, int r);

/* How an entry stands among its whole neighbours. */
enum lmdb_order {
    LMDB_IN_ORDER,
    LMDB_MISPLACED, /* damaged, its key too: searches for others may go astray by it */
    LMDB_UNSURE /* whole or not: others may be hidden, and which of several is at fault is open */
};

struct lmdb_record {
    struct slice store_key; /* empty: there is none */
    int error;              /* -ERR_CORRUPT, -ERR_FORMAT: what follows cannot be told */
    enum lmdb_order order;  /* of a sift's */
    uint64_t token;
    struct key key;
    struct state state;
};

/* A sift: a walk over a range that goes on where a damaged key breaks the order. See
 * store_lmdb_sift.c. All return an LMDB code. */
struct lmdb_sift {
    struct MDB_cursor *cursor;
    struct store_range range;
    uint8_t last[8];                   /* of the range, as the beginning of keys */
    uint8_t from[STORE_KEY_BYTES_MAX]; /* begins behind this */
    uint8_t top[STORE_KEY_BYTES_MAX];  /* the highest whole key so far */
    uint8_t next[STORE_KEY_BYTES_MAX]; /* the whole key behind the damaged ones at hand */
    size_t from_len, top_len, next_len;
    unsigned n_run, run_left; /* the damaged ones at hand: how many, not met yet */
    struct slice before;      /* the damaged one before */
    bool run_ends;            /* a whole one or the end was found behind them */
    bool astray;              /* the whole one before is not above those before it */
    bool first_entry;
    bool strays; /* the caller's: tell also what is out of order at the beginning of the range */
};

/* In the queue's snapshot; lmdb_sift_end it whatever is returned. */
int lmdb_sift_begin(struct lmdb_env *e, uint32_t queue, struct store_range range,
                    struct slice after, struct lmdb_sift *w);
/* The next record of the range, whole or not (ret->error), in order or not. Slices until the next
 * call, or the next change of the transaction; the key may be empty. LMDB_SIFT_END: no more. */
#define LMDB_SIFT_END (-2) /* no code of LMDB's */
int lmdb_sift_next(struct lmdb_sift *w, struct lmdb_record *ret);
void lmdb_sift_end(struct lmdb_sift *w);
/* A slice of a scrub, in the queue's snapshot: where the fold stands until it is full (0) or the
 * zone has ended (1). Negative: pages cannot be read, a record is of a newer format. */
int lmdb_scrub_zone(struct lmdb_env *e, uint32_t queue, struct scrub_fold *f);

/* ---- writing: store_lmdb_txn.c; one thread. All return an LMDB code ---- */

struct lmdb_txn {
    struct lmdb_env *e;
    struct MDB_txn *txn;
    struct MDB_cursor *kv;
    size_t n_pages;       /* dirtied by puts, as an estimate */
    const uint8_t *where; /* the last put went there */
    bool touched;         /* records were put or deleted */
};

int lmdb_txn_begin(struct lmdb_env *e, struct lmdb_txn *ret);
void lmdb_txn_abort(struct lmdb_txn *t);
/* Commits, synced, and publishes the counts. The transaction has ended, whatever is returned. */
int lmdb_txn_commit(struct lmdb_txn *t);
/* The record of the key: *ret_error 0 with ret->kind STATE_NONE when absent, or -ERR_CORRUPT,
 * -ERR_FORMAT. Slices until the next change. */
int lmdb_txn_get(struct lmdb_txn *t, struct slice store_key, struct state *ret, int *ret_error);
int lmdb_txn_put(struct lmdb_txn *t, struct slice store_key, const struct state *state);
/* Both in one search: puts the record if the key has none (LMDB_INSERTED; *ret is STATE_NONE), else
 * as lmdb_txn_get; then lmdb_txn_replace, before anything else, may put another in its place. */
#define LMDB_INSERTED (-1) /* no code of LMDB's */
int lmdb_txn_insert(struct lmdb_txn *t, struct slice store_key, const struct state *state,
                    struct state *ret, int *ret_error);
int lmdb_txn_replace(struct lmdb_txn *t, struct slice store_key, const struct state *state);
int lmdb_txn_fact_put(struct lmdb_txn *t, struct slice name, struct slice value);
int lmdb_txn_number_put(struct lmdb_txn *t, const char *name, uint64_t number);
/* Deletes records of the range, at most max; *ret_n says how many, *ret_more that there may be
 * more. */
int lmdb_txn_wipe(struct lmdb_txn *t, struct store_range range, size_t max, size_t *ret_n,
                  bool *ret_more);
/* The first record of the range whose key is above `after`; slices until the next change. */
int lmdb_txn_seek(struct lmdb_txn *t, struct store_range range, struct slice after,
                  struct lmdb_record *ret);
/* A sift over the range in the transaction; it needs no end. Nothing else until it is over. */
void lmdb_txn_sift(struct lmdb_txn *t, struct store_range range, struct lmdb_sift *w);
/* A purge of a range: where it stands from one transaction to the next. */
struct lmdb_purge {
    struct store_range range;
    uint64_t floor;
    uint8_t after[STORE_KEY_BYTES_MAX]; /* gone through up to this key */
    size_t after_len;
    bool ended;
    bool seeks; /* the cursor stands elsewhere: set at the beginning of a transaction */
};
/* The next whole tombstone at or below the floor, to be deleted before anything else is done; none
 * (ret->store_key empty) when the range has ended, or *n, to which each record on the way adds one,
 * has reached n_max. */
int lmdb_txn_purge_next(struct lmdb_txn *t, struct lmdb_purge *p, size_t *n, size_t n_max,
                        struct lmdb_record *ret);
/* The record that was found last. */
int lmdb_txn_delete(struct lmdb_txn *t);
/* The same for a damaged one, if LMDB can do that without harm to others in its page, which is
 * known best in a transaction that has touched nothing yet. A sift has ended by it. */
int lmdb_txn_remove(struct lmdb_txn *t, bool *ret_removed);
int lmdb_txn_zone_put(struct lmdb_txn *t, uint32_t number, struct slice bytes);
/* ret->data NULL when there is none. */
int lmdb_txn_zone_get(struct lmdb_txn *t, uint32_t number, struct slice *ret);
/* What a code means for the transaction as a whole: enum commit_result, or a negative error: the
 * store is beyond repair, why says so. */
int lmdb_txn_result(int rc, bool committing, char why[COMMIT_WHY_BYTES]);

#endif
