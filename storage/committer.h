/* committer: the one writer thread of a store, and what it does when the disk does not want to.
 *
 * It drains the commit queue in groups; the engine makes one synced transaction of each; outcomes
 * go back only after that. See committer.c.
 */
#ifndef QUOIT_STORAGE_COMMITTER_H
#define QUOIT_STORAGE_COMMITTER_H

#include "storage/commit_queue.h"
#include "storage/space.h"

/* A group ends after this many items or bytes of keys and values (the item that crosses the bound
 * is still in it). At most three pages are dirtied per item besides the value's own, so a group
 * stays far below the 128 k dirty pages at which LMDB starts to spill. */
#define COMMIT_GROUP_ITEMS_MAX 4096u
#define COMMIT_GROUP_BYTES_MAX (8u << 20)
/* Records deleted by a wipe, or looked at by a purge, in one transaction. */
#define COMMIT_WIPE_RECORDS_MAX 8192u
/* A file system with less than this free is full, if a write failed: tells a write that came back
 * short from a failing disk. A few pages that others give back meanwhile do not matter. */
#define COMMIT_FULL_DISK_BYTES (1u << 20)

#define COMMIT_WHY_BYTES 512

/* An item of a list of batches; batch NULL: the end of the list. */
struct commit_pos {
    struct commit_batch *batch;
    size_t index;
};

enum commit_result {
    COMMIT_OK = 0,
    COMMIT_FULL = 1,     /* no room; nothing changed */
    COMMIT_IO_ERROR = 2, /* a write failed or came back short; nothing changed that can be seen */
    COMMIT_NO_MEMORY = 3 /* nothing changed */
};

struct commit_engine {
    /* One synced transaction with the items from `from` on, as many as fit a group, at least one.
     * Fills each item's done (but lsn and cookie), and says in *ret_to where to go on: an item that
     * is not finished yet (a wipe, a purge) is named again. refuse_growth: items that grow and
     * would be stored are answered -ERR_NO_SPACE. enum commit_result, or a negative error: the
     * store is beyond repair, why says so. */
    int (*transact)(void *ctx, struct commit_pos from, bool refuse_growth,
                    struct commit_pos *ret_to, char why[COMMIT_WHY_BYTES]);
    uint64_t (*used_bytes)(void *ctx); /* of the map; writer thread */
};

struct committer {
    struct store_config config;
    const struct commit_engine *engine;
    void *engine_ctx;
    struct commit_queue queue;
    struct space space;
    struct commit_pos todo;     /* writer: what comes next */
    struct commit_batch **tail; /* writer: where the list behind it ends */
    bool *touched;              /* writer: queues to notify, one per queue */
    pthread_t thread;
    bool started;
    _Atomic uint64_t durable, n_syncs, n_ops;
    atomic_bool failed;
};

int committer_init(struct committer *c, const struct store_config *config,
                   const struct commit_engine *engine, void *engine_ctx, const char *dir,
                   uint64_t map_bytes);
int committer_start(struct committer *c);
/* Finishes what was submitted (unless the store has failed), ends the thread. */
void committer_stop(struct committer *c);
void committer_deinit(struct committer *c);

/* Takes the batch, also on failure. r: what making it returned; passed through if negative. */
int committer_submit(struct committer *c, uint32_t queue, int r, struct commit_batch *b,
                     uint64_t *ret_lsn);

/* Any thread: marks the directory SUSPECT and calls config.fatal with the sentence and whether the
 * mark could be made. Once; later calls do nothing. */
void committer_fail(struct committer *c, const char *sentence);

#endif
