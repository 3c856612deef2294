/* store_lmdb_impl: what the files that know lmdb.h share beyond store_lmdb_env.h. */
#ifndef QUOIT_STORAGE_STORE_LMDB_IMPL_H
#define QUOIT_STORAGE_STORE_LMDB_IMPL_H

#include <lmdb.h>

#include "storage/store_lmdb_env.h"

/* Snapshots that one queue may hold between two read_end. */
#define SNAPSHOTS_MAX 8u

struct reader {
    MDB_txn *txn[SNAPSHOTS_MAX];
    unsigned n_txn, n_open;  /* made; in use since the last end: the last of those is current */
    bool broken;             /* the current one met a damaged page: LMDB refuses its further use */
    _Atomic uint64_t oldest; /* any thread: the commit that its oldest snapshot shows; 0: none */
} __attribute__((aligned(64)));

static inline MDB_val lmdb_val(struct slice s)
{
    return (MDB_val){.mv_size = s.len, .mv_data = (void *)(uintptr_t)s.data};
}

static inline struct slice lmdb_slice(MDB_val v)
{
    return slice_of(v.mv_data, v.mv_size);
}

/* Bytes of the trees and the meta pages (the free list's content is not counted), and records. rc.
 */
int lmdb_count(struct lmdb_env *e, MDB_txn *txn, uint64_t *ret_used, uint64_t *ret_records);
/* After a commit: what the file has come to. */
void lmdb_note_file(struct lmdb_env *e);
/* Of any transaction. 0, 1 when never set, -ERR_x. */
int lmdb_fact_get(struct lmdb_env *e, MDB_txn *txn, struct slice name, struct slice *ret);
/* The same for a zone's summary. */
int lmdb_zone_get(struct lmdb_env *e, MDB_txn *txn, uint32_t number, struct slice *ret);

/* The queue's newest snapshot. */
MDB_txn *lmdb_snapshot_txn(struct lmdb_env *e, uint32_t queue);

int lmdb_readers_init(struct lmdb_env *e);
void lmdb_readers_deinit(struct lmdb_env *e);

#endif
