/* store_lmdb_plain: what the three files of the plain store share:
 *
 *   store_lmdb.c        open, close, the queues, the table of functions
 *   store_lmdb_write.c  one transaction of a group, on the committer's thread
 *   store_lmdb_look.c   get, scan, sums, on the callers' threads
 */
#ifndef QUOIT_STORAGE_STORE_LMDB_PLAIN_H
#define QUOIT_STORAGE_STORE_LMDB_PLAIN_H

#include "storage/committer.h"
#include "storage/scrub_box.h"
#include "storage/store_lmdb_env.h"

struct store_lmdb {
    struct store store;
    struct committer committer;
    struct lmdb_env env;
    uint64_t *snapshot_lsn; /* per queue: its newest snapshot shows at least this */
    _Atomic uint64_t clock;
    struct scrub_box scrub;
    uint64_t *purge_lsn;     /* per queue: of a purge that is not reaped; 0: none */
    struct lmdb_purge purge; /* the writer's: where the one at hand stands */
    uint64_t purging;        /* its LSN */
    _Atomic uint64_t n_purged;
};

static inline struct store_lmdb *lmdb_of(struct store *s)
{
    return (struct store_lmdb *)s;
}

extern const struct commit_engine lmdb_engine;

int lmdb_get(struct store *store, uint32_t queue, uint64_t token, const struct key *key,
             struct state *ret, uint64_t *ret_lsn);
int lmdb_scan(struct store *store, uint32_t queue, struct store_range range, struct slice cursor,
              size_t bytes_max, struct store_page *page);
void lmdb_read_end(struct store *store, uint32_t queue);
int lmdb_meta_get(struct store *store, uint32_t queue, struct slice name, struct buf *out);
int lmdb_vnode_info(struct store *store, uint32_t queue, struct store_range range,
                    struct store_info *ret);
int lmdb_scrub(struct store *store, uint32_t queue, const struct store_scrub_place *from,
               size_t bytes_max);
bool lmdb_scrubbed(struct store *store, uint32_t queue, struct store_scrub *ret);
int lmdb_leaves(struct store *store, uint32_t queue, struct store_range range, uint64_t *ret,
                uint64_t *ret_lsn);

#endif
