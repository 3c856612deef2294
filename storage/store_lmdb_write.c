/* store_lmdb_write: one write transaction of a group of items, on the committer's thread.
 *
 * Merging reads the old record inside the transaction and decides by version, so nothing is read
 * before and written after. Records are encoded straight into the page that LMDB hands out
 * (MDB_RESERVE). An item's own outcome (superseded, corrupt, refused) goes to its `done` and leaves
 * the transaction alone; what concerns the transaction stops it: nothing of it is then visible to
 * anyone, and the committer decides whether to try again.
 *
 * A put is refused for want of room only after the merge: one that is superseded or there already
 * takes none, and a repeated put must be told so, or what is stored would look unknown.
 *
 * The commit is LMDB's: data pages, fdatasync, then the meta page through an O_DSYNC descriptor. A
 * failure of that last write makes LMDB refuse every later transaction (MDB_PANIC), which is how a
 * repeated attempt tells it from a full disk.
 *
 * A wipe seeks again after each delete: LMDB 0.9.24 has had bugs in going on with a cursor that
 * deleted.
 */
#include "storage/store_lmdb_impl.h"

#include <errno.h>
#include <stdio.h>

#include "storage/fault_guard.h"
#include "storage/merge.h"
#include "storage/record.h"

struct write {
    struct store_lmdb *s;
    MDB_txn *txn;
    MDB_cursor *kv;
    uint64_t clock; /* bound as of this transaction */
    bool refuse_growth;
    size_t n_items, n_bytes, n_wiped;
};

/* All of these return an LMDB code; what one item's own outcome is goes to item->done. */
static int write_record(struct write *w, struct commit_item *item)
{
    MDB_val k = lmdb_val(item->key);
    MDB_val v = {.mv_size = RECORD_HEADER_BYTES + item->state.value.len};
    uint8_t *out;
    int rc = mdb_cursor_put(w->kv, &k, &v, MDB_RESERVE);

    if (rc != 0)
        return rc;
    out = v.mv_data;
    record_header_encode(item->key, &item->state, out);
    if (item->state.value.len)
        memcpy(out + RECORD_HEADER_BYTES, item->state.value.data, item->state.value.len);
    return 0;
}

static int write_merge(struct write *w, struct commit_item *item)
{
    MDB_val k = lmdb_val(item->key), v;
    struct state old = {0};
    struct store_done *done = &item->done;
    int rc = mdb_cursor_get(w->kv, &k, &v, MDB_SET);

    if (rc != 0 && rc != MDB_NOTFOUND)
        return rc;
    if (rc == 0) {
        done->error = record_decode(item->key, lmdb_slice(v), &old);
        if (done->error < 0)
            return 0;
    }
    done->outcome = merge_states(&old, &item->state);
    if (done->outcome != OUTCOME_STORED) {
        done->version = old.version;
        return 0;
    }
    if (item->grows && w->refuse_growth) {
        done->outcome = OUTCOME_NONE;
        done->error = -ERR_NO_SPACE;
        return 0;
    }
    done->version = item->state.version;
    return write_record(w, item);
}

/* rc */
static int write_fact(struct store_lmdb *s, MDB_txn *txn, struct slice name, struct slice value)
{
    MDB_val k = lmdb_val(name), v = {.mv_size = FACT_HEADER_BYTES + value.len};
    int rc = mdb_put(txn, s->meta, &k, &v, MDB_RESERVE);

    if (rc != 0)
        return rc;
    fact_header_encode(name, value, v.mv_data);
    if (value.len)
        memcpy((uint8_t *)v.mv_data + FACT_HEADER_BYTES, value.data, value.len);
    return 0;
}

int lmdb_write_u64(struct store_lmdb *s, MDB_txn *txn, const char *name, uint64_t number)
{
    uint8_t bytes[8];

    for (unsigned i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(number >> (8 * i));
    return write_fact(s, txn, slice_str(name), slice_of(bytes, sizeof(bytes)));
}

static int write_meta(struct write *w, const struct commit_item *item)
{
    uint8_t name[META_PREFIX_BYTES + STORE_META_NAME_MAX];

    return write_fact(w->s, w->txn, lmdb_fact_name(item->key, name), item->state.value);
}

static int write_clock(struct write *w, uint64_t clock)
{
    if (clock <= w->clock)
        return 0;
    w->clock = clock;
    return lmdb_write_u64(w->s, w->txn, META_NAME_CLOCK, clock);
}

/* Deletes at most as many records as this transaction may; *ret_more: there may be more of them.
 * Compares keys as bytes: a key too damaged to decode is wiped like any other. */
static int write_wipe(struct write *w, struct store_range range, bool *ret_more)
{
    uint8_t first[8], last[8];

    lmdb_token_bytes(range.first, first);
    lmdb_token_bytes(range.last, last);
    for (*ret_more = true; w->n_wiped < COMMIT_WIPE_RECORDS_MAX; w->n_wiped++) {
        MDB_val k = {.mv_size = sizeof(first), .mv_data = first}, v;
        int rc = mdb_cursor_get(w->kv, &k, &v, MDB_SET_RANGE);

        if (rc == MDB_NOTFOUND ||
            (rc == 0 && k.mv_size >= sizeof(last) && memcmp(k.mv_data, last, sizeof(last)) > 0)) {
            *ret_more = false;
            return 0;
        }
        if (rc == 0)
            rc = mdb_cursor_del(w->kv, 0);
        if (rc != 0)
            return rc;
    }
    return 0;
}

/* *ret_more: this item is not finished. */
static int write_item(struct write *w, struct commit_item *item, bool *ret_more)
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
            int rc = write_item(w, &at->batch->items[at->index], &more);

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

/* Pages of the trees and the two meta pages; the free list's content is not counted. */
int lmdb_count(struct store_lmdb *s, MDB_txn *txn, uint64_t *ret_used, uint64_t *ret_records)
{
    const MDB_dbi dbis[] = {0, 1, s->kv, s->meta}; /* 0: free list, 1: the names of the others */
    uint64_t pages = 2;
    MDB_stat st = {0};

    for (size_t i = 0; i < sizeof(dbis) / sizeof(dbis[0]); i++) {
        int rc = mdb_stat(txn, dbis[i], &st);

        if (rc != 0)
            return rc;
        pages += st.ms_branch_pages + st.ms_leaf_pages + st.ms_overflow_pages;
        if (dbis[i] == s->kv)
            *ret_records = st.ms_entries;
    }
    *ret_used = pages * st.ms_psize;
    return 0;
}

static int write_begin(struct store_lmdb *s, struct write *w, bool refuse_growth)
{
    int rc;

    *w = (struct write){.s = s, .refuse_growth = refuse_growth, .clock = atomic_load(&s->clock)};
    rc = mdb_txn_begin(s->env, NULL, 0, &w->txn);
    if (rc != 0)
        return rc;
    rc = mdb_cursor_open(w->txn, s->kv, &w->kv);
    if (rc != 0)
        mdb_txn_abort(w->txn);
    return rc;
}

/* Commits (synced) and publishes the counts that go with it. */
static int write_end(struct write *w)
{
    struct store_lmdb *s = w->s;
    uint64_t used = 0, n_records = 0;
    int rc = lmdb_count(s, w->txn, &used, &n_records);

    mdb_cursor_close(w->kv);
    if (rc != 0) {
        mdb_txn_abort(w->txn);
        return rc;
    }
    rc = mdb_txn_commit(w->txn);
    if (rc != 0)
        return rc;
    atomic_store_explicit(&s->used_bytes, used, memory_order_relaxed);
    atomic_store_explicit(&s->n_records, n_records, memory_order_relaxed);
    atomic_store_explicit(&s->clock, w->clock, memory_order_release);
    return 0;
}

static int transact_result(int rc, bool committing, char why[COMMIT_WHY_BYTES])
{
    int r = lmdb_err(rc);

    if (rc == 0)
        return COMMIT_OK;
    snprintf(why, COMMIT_WHY_BYTES, "%s failed: %s",
             committing ? "writing or syncing a transaction" : "a transaction", mdb_strerror(rc));
    if (r == -ERR_NO_SPACE)
        return COMMIT_FULL;
    if (r == -ERR_NO_MEMORY)
        return COMMIT_NO_MEMORY;
    return committing && rc == EIO ? COMMIT_IO_ERROR : r;
}

static int transact(struct store_lmdb *s, struct commit_pos *at, bool refuse_growth,
                    char why[COMMIT_WHY_BYTES])
{
    struct write w;
    int rc = write_begin(s, &w, refuse_growth);

    if (rc != 0)
        return transact_result(rc, false, why);
    rc = write_items(&w, at);
    if (rc != 0) {
        mdb_cursor_close(w.kv);
        mdb_txn_abort(w.txn);
        return transact_result(rc, false, why);
    }
    return transact_result(write_end(&w), true, why);
}

static int engine_transact(void *ctx, struct commit_pos from, bool refuse_growth,
                           struct commit_pos *ret_to, char why[COMMIT_WHY_BYTES])
{
    int r;

    fault_guard_enter();
    r = transact(ctx, &from, refuse_growth, why);
    fault_guard_leave();
    if (r == COMMIT_OK)
        *ret_to = from;
    return r;
}

static uint64_t engine_used_bytes(void *ctx)
{
    struct store_lmdb *s = ctx;

    return atomic_load_explicit(&s->used_bytes, memory_order_relaxed);
}

const struct commit_engine lmdb_engine = {
    .transact = engine_transact,
    .used_bytes = engine_used_bytes,
};
