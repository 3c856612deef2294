/* store_rig: a store of either engine on the bench, so that one suite runs against both.
 *
 * All failures of the rig itself (a store that will not open, an operation that is never answered)
 * abort the test through cmocka. Nothing polls: waiting for outcomes waits for the store's notify.
 */
#ifndef QUOIT_TESTS_MODEL_STORE_RIG_H
#define QUOIT_TESTS_MODEL_STORE_RIG_H

#include <pthread.h>

#include "storage/record.h"
#include "storage/store.h"
#include "storage/store_lmdb.h"
#include "storage/store_log.h"
#include "storage/store_mem.h"
#include "tests/unit/test.h"

enum rig_engine {
    RIG_MEM,
    RIG_LMDB,
    RIG_LOG,
    RIG_ENGINES
};

#define RIG_WORKERS 2u
#define RIG_MAP_BYTES (256ull << 20)
/* An outcome that takes longer never comes. */
#define RIG_WAIT_S 60

/* In tests that are built against a store that can be told not to sync. */
extern bool rig_no_sync;
/* Of a log: it zero-writes its first segment, so small ones open fast. 0: the default. */
extern uint32_t rig_segment_bytes;
/* Records of a transaction of the apply. 0: the default. */
extern uint32_t rig_slice_records;
/* Queues among which tokens are shared out. 0: 1, which writes them all. */
extern uint32_t rig_owners;
/* The files of the log lie in the store's directory itself. */
extern bool rig_log_beside;

struct rig {
    enum rig_engine engine;
    struct store *s;
    char dir[64];
    uint64_t map_bytes;
    uint64_t tables_bytes; /* RIG_LOG: 0 for the default */
    pthread_mutex_t lock;
    pthread_cond_t woken;
    unsigned n_notified[RIG_WORKERS + 1]; /* since the queue last looked */
    char fatal[1024];                     /* what config.fatal was told, or empty */
};

/* An empty store in a new directory. */
void rig_open(struct rig *rig, enum rig_engine engine, uint64_t map_bytes);
/* The same, with so much memory for tables if it has any. */
void rig_open_with(struct rig *rig, enum rig_engine engine, uint64_t map_bytes,
                   uint64_t tables_bytes);
void rig_close(struct rig *rig); /* and removes the directory */
/* A restart: a clean one loses nothing. */
void rig_reopen(struct rig *rig);
/* The same of a store on disk, in two steps. */
void rig_stop(struct rig *rig);
void rig_start(struct rig *rig);

/* Until the queue has been notified since it last looked. */
void rig_wait_notified(struct rig *rig, uint32_t queue);
/* Makes everything submitted durable and waits for n outcomes of the queue. */
void rig_reap(struct rig *rig, uint32_t queue, struct store_done *out, size_t n);

/* Again and again while the store says FULL and then notifies. */
int rig_submit(struct rig *rig, uint32_t queue, const struct store_op *ops, size_t n,
               uint64_t *ret_lsn);
/* One operation on queue 0, waited for. */
struct store_done rig_put(struct rig *rig, const char *key, uint64_t hlc, const char *value);
struct store_done rig_delete(struct rig *rig, const char *key, uint64_t hlc);
struct store_done rig_do(struct rig *rig, const struct store_op *op);
/* One slice, waited for. */
struct store_scrub rig_scrub(struct rig *rig, uint32_t queue, const struct store_scrub_place *from,
                             size_t bytes_max);
int rig_load(struct rig *rig, const struct store_item *items, size_t n);
void rig_wipe(struct rig *rig, uint64_t first, uint64_t last);
void rig_purge(struct rig *rig, uint64_t first, uint64_t last, uint64_t floor);

/* Tests need no murmur: this spreads keys over the tokens, leaves included. */
uint64_t rig_token(struct slice partition_key);
struct key rig_key(struct slice partition_key);
struct store_op rig_merge_op(struct slice partition_key, uint64_t hlc, struct slice value);

/* Reads on queue 0; the snapshot stays open. */
struct state rig_get(struct rig *rig, const char *key);

/* mkdtemp under TMPDIR or /tmp; and its removal with all that is in it. */
void rig_dir_make(char dir[64]);
/* The same in memory, if there is such a file system: for files whose syncs are of no interest. */
void rig_dir_make_in_memory(char dir[64]);
void rig_dir_remove(const char *dir);

#endif
