/* store_lmdb_impl: what the files of store_lmdb share. The only ones that know lmdb.h:
 *
 *   store_lmdb.c        open, close, the queues, the table of functions
 *   store_lmdb_write.c  one transaction of a group, on the committer's thread
 *   store_lmdb_read.c   snapshots, get, scan, sums, on the callers' threads
 *
 * Functions that return `int rc` return LMDB's codes; the others errors of proto/err.h.
 */
#ifndef QUOIT_STORAGE_STORE_LMDB_IMPL_H
#define QUOIT_STORAGE_STORE_LMDB_IMPL_H

#include <lmdb.h>

#include "storage/committer.h"
#include "storage/store_lmdb.h"

/* Snapshots that one queue may hold between two read_end. */
#define SNAPSHOTS_MAX 8u

/* Names in the meta database: "f:" and the caller's name, or the store's own. */
#define META_PREFIX_BYTES 2u
#define META_NAME_FORMAT "s:format"
#define META_NAME_CLOCK "s:clock"

struct reader {
    MDB_txn *txn[SNAPSHOTS_MAX];
    unsigned n_txn, n_open; /* made; in use since the last read_end: the last of those is current */
    uint64_t lsn;           /* the current one shows at least this */
    bool broken;            /* the current one met a damaged page: LMDB refuses its further use */
} __attribute__((aligned(64)));

struct store_lmdb {
    struct store store;
    struct committer committer;
    MDB_env *env;
    MDB_dbi kv, meta;
    struct reader *readers; /* one per queue */
    uint32_t n_queues;
    uint64_t map_bytes;
    _Atomic uint64_t used_bytes, n_records, clock;
};

static inline struct store_lmdb *lmdb_of(struct store *s)
{
    return (struct store_lmdb *)s;
}

static inline MDB_val lmdb_val(struct slice s)
{
    return (MDB_val){.mv_size = s.len, .mv_data = (void *)(uintptr_t)s.data};
}

static inline struct slice lmdb_slice(MDB_val v)
{
    return slice_of(v.mv_data, v.mv_size);
}

/* A token as the first bytes of a store key. */
static inline void lmdb_token_bytes(uint64_t token, uint8_t out[8])
{
    for (unsigned i = 0; i < 8; i++)
        out[i] = (uint8_t)(token >> (56 - 8 * i));
}

int lmdb_err(int rc);
/* A caller's fact as it is named in the meta database; name.len <= STORE_META_NAME_MAX. */
struct slice lmdb_fact_name(struct slice name,
                            uint8_t out[META_PREFIX_BYTES + STORE_META_NAME_MAX]);

/* ---- store_lmdb_write.c */
extern const struct commit_engine lmdb_engine;
/* Bytes of the trees and the meta pages (the free list's content is not counted), and records. rc.
 */
int lmdb_count(struct store_lmdb *s, MDB_txn *txn, uint64_t *ret_used, uint64_t *ret_records);
int lmdb_write_u64(struct store_lmdb *s, MDB_txn *txn, const char *name, uint64_t number); /* rc */

/* ---- store_lmdb_read.c */
int lmdb_readers_init(struct store_lmdb *s);
void lmdb_readers_deinit(struct store_lmdb *s);
/* 0, 1 when never set, -ERR_x. */
int lmdb_fact_get(struct store_lmdb *s, MDB_txn *txn, struct slice name, struct slice *ret);
int lmdb_get(struct store *store, uint32_t queue, uint64_t token, const struct key *key,
             struct state *ret, uint64_t *ret_lsn);
int lmdb_scan(struct store *store, uint32_t queue, struct store_range range, struct slice cursor,
              size_t bytes_max, struct store_page *page);
void lmdb_read_end(struct store *store, uint32_t queue);
int lmdb_meta_get(struct store *store, uint32_t queue, struct slice name, struct buf *out);
int lmdb_vnode_info(struct store *store, uint32_t queue, struct store_range range,
                    struct store_info *ret);
int lmdb_leaves(struct store *store, uint32_t queue, struct store_range range, uint64_t *ret);

#endif
