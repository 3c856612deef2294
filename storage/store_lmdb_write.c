/* store_lmdb_write: one write transaction of a group of items, on the committer's thread.
 *
 * Merging reads the old record inside the transaction and decides by version, so nothing is read
 * before and written after. An item's own outcome (superseded, corrupt, refused) goes to its `done`
 * and leaves the transaction alone; what concerns the transaction stops it: nothing of it is then
 * visible to anyone, and the committer decides whether to try again.
 *
 * A put is refused for want of room only after the merge: one that is superseded or there already
 * takes none, and a repeated put must be told so, or what is stored would look unknown.
 */
#include <errno.h>
#include <stdio.h>

#include "storage/fault_guard.h"
#include "storage/merge.h"
#include "storage/store_lmdb_impl.h"
#include "storage/store_lmdb_plain.h"

struct write {
    struct store_lmdb *s;
    struct lmdb_txn txn;
    uint64_t clock; /* bound as of this transaction */
    bool refuse_growth;
    size_t n_items, n_bytes;
    size_t n_wiped;          /* or looked at by a purge */
    struct lmdb_purge purge; /* as of this transaction */
    uint64_t purging;        /* its LSN; 0: none is half done */
    size_t n_purged;
};

/* All of these return an LMDB code; what one item's own outcome is goes to item->done. */
static int write_merge(struct write *w, struct commit_item *item)
{
    struct state old;
    struct store_done *done = &item->done;
    int rc = lmdb_txn_get(&w->txn, item->key, &old, &done->error);

    if (done->error == -ERR_CORRUPT && item->heal)
        done->error = 0; /* and old is nothing */
    if (rc != 0 || done->error < 0)
        return rc;
    done->outcome =
        merge_above(&old, &item->state, item->has_floor ? &item->floor : NULL, &done->version);
    if (done->outcome != OUTCOME_STORED)
        return 0;
    if (item->grows && w->refuse_growth) {
        done->outcome = OUTCOME_NONE;
        done->version = (struct version){0};
        done->error = -ERR_NO_SPACE;
        return 0;
    }
    return lmdb_txn_put(&w->txn, item->key, &item->state);
}

static int write_meta(struct write *w, const struct commit_item *item)
{
    uint8_t name[META_NAME_BYTES_MAX];

    return lmdb_txn_fact_put(&w->txn, lmdb_fact_name(item->key, name), item->state.value);
}

static int write_clock(struct write *w, uint64_t clock)
{
    if (clock <= w->clock)
        return 0;
    w->clock = clock;
    return lmdb_txn_number_put(&w->txn, META_NAME_CLOCK, clock);
}

static int write_wipe(struct write *w, struct store_range range, bool *ret_more)
{
    size_t n = 0;
    int rc = lmdb_txn_wipe(&w->txn, range, COMMIT_WIPE_RECORDS_MAX - w->n_wiped, &n, ret_more);

    w->n_wiped += n;
    return rc;
}

static int write_purge(struct write *w, uint64_t lsn, const struct commit_item *item,
                       bool *ret_more)
{
    struct lmdb_record rec;
    int rc;

    if (w->purging != lsn)
        w->purge = (struct lmdb_purge){.range = item->u.range, .floor = item->floor};
    w->purging = lsn;
    w->purge.seeks = true;
    while ((rc = lmdb_txn_purge_next(&w->txn, &w->purge, &w->n_wiped, COMMIT_WIPE_RECORDS_MAX,
                                     &rec)) == 0 &&
           rec.store_key.len) {
        rc = lmdb_txn_delete(&w->txn);
        if (rc != 0)
            return rc;
        w->n_purged++;
    }
    *ret_more = !w->purge.ended;
    return rc;
}

/* *ret_more: this item is not finished. */
static int write_item(struct write *w, uint64_t lsn, struct commit_item *item, bool *ret_more)
{
    item->done.error = 0;
    item->done.outcome = OUTCOME_NONE;
    item->done.version = (struct version){0};
    *ret_more = false;
    w->n_items++;
    w->n_bytes += item->key.len + item->state.value.len;
    switch (item->type) {
    case COMMIT_MERGE:
        return write_merge(w, item);
    case COMMIT_CLOCK:
        return write_clock(w, item->u.clock);
    case COMMIT_META:
        return write_meta(w, item);
    case COMMIT_WIPE:
        return write_wipe(w, item->u.range, ret_more);
    case COMMIT_PURGE:
        return write_purge(w, lsn, item, ret_more);
    }
    return 0;
}

static bool write_is_full(const struct write *w)
{
    return w->n_items >= COMMIT_GROUP_ITEMS_MAX || w->n_bytes >= COMMIT_GROUP_BYTES_MAX ||
           w->n_wiped >= COMMIT_WIPE_RECORDS_MAX;
}

static int write_items(struct write *w, struct commit_pos *at)
{
    bool more = false;

    while (at->batch && !write_is_full(w)) {
        if (at->index < at->batch->n) {
            int rc = write_item(w, at->batch->lsn_first + at->index, &at->batch->items[at->index],
                                &more);

            if (rc != 0)
                return rc;
        }
        if (more)
            continue; /* only when this transaction is full */
        if (++at->index >= at->batch->n)
            *at = (struct commit_pos){.batch = at->batch->next};
    }
    return 0;
}

static int write_group(struct write *w, struct commit_pos *at, bool *ret_committing)
{
    int rc = lmdb_txn_begin(&w->s->env, &w->txn);

    if (rc != 0)
        return rc;
    rc = write_items(w, at);
    if (rc != 0) {
        lmdb_txn_abort(&w->txn);
        return rc;
    }
    *ret_committing = true;
    rc = lmdb_txn_commit(&w->txn);
    if (rc != 0)
        return rc;
    atomic_store_explicit(&w->s->clock, w->clock, memory_order_release);
    atomic_fetch_add_explicit(&w->s->n_purged, w->n_purged, memory_order_relaxed);
    w->s->purge = w->purge;
    w->s->purging = w->purging;
    return 0;
}

static int engine_transact(void *ctx, struct commit_pos from, bool refuse_growth,
                           struct commit_pos *ret_to, char why[COMMIT_WHY_BYTES])
{
    struct store_lmdb *s = ctx;
    struct write w = {.s = s,
                      .refuse_growth = refuse_growth,
                      .clock = atomic_load(&s->clock),
                      .purge = s->purge,
                      .purging = s->purging};
    bool committing = false;
    int r;

    fault_guard_enter();
    r = lmdb_txn_result(write_group(&w, &from, &committing), committing, why);
    fault_guard_leave();
    if (r == COMMIT_OK)
        *ret_to = from;
    return r;
}

static uint64_t engine_used_bytes(void *ctx)
{
    struct store_lmdb *s = ctx;

    return atomic_load_explicit(&s->env.used_bytes, memory_order_relaxed);
}

const struct commit_engine lmdb_engine = {
    .transact = engine_transact,
    .used_bytes = engine_used_bytes,
};
