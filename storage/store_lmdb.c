/* store_lmdb: the plain store, one LMDB environment. The only file that includes lmdb.h.
 *
 * Writing: the committer's thread (committer.c) calls engine_transact with a list of items; that is
 * one write transaction, synced by LMDB's commit (data pages, fdatasync, then the meta page written
 * with O_DSYNC). Merging reads the old record inside the transaction. Nobody else ever writes.
 *
 * Reading: on the caller's thread, in a read-only transaction per queue that is begun (renewed) by
 * the first read of a wake-up and reset by read_end. A queue that reaped an outcome newer than its
 * snapshot reads from a second snapshot and keeps the first one for the bytes it has handed out, up
 * to SNAPSHOTS_MAX of them; then -ERR_FULL until read_end. LMDB shows a transaction to readers only
 * after its meta page is on disk, so whatever is read is durable and every lsn returned is 0. For
 * what an earlier process left in the page cache the same is made true by one sync at open.
 *
 * Two databases: "kv" (store key -> record) and "meta" (facts). Not one with a prefix: the ring
 * order of kv needs the token in front, and n_records is then simply the number of entries. Names
 * in meta start with "f:" (facts of the caller) or "s:" (the store's own: format, clock).
 *
 * Never: WRITEMAP (a stray write corrupts, a full disk is SIGBUS), NOSYNC, resizing the map, a
 * value used after read_end, deleting through a cursor and going on with it (LMDB 0.9.24 has had
 * bugs there; a wipe seeks again).
 */
#include "storage/store_lmdb.h"

#include <errno.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "storage/committer.h"
#include "storage/fault_guard.h"
#include "storage/merge.h"
#include "storage/range_fold.h"
#include "storage/record.h"
#include "storage/store_dir.h"
#include "storage/suspect.h"

#define STORE_FORMAT 1u
#define SNAPSHOTS_MAX 8u
#define READERS_SPARE 16u
#define META_PREFIX_BYTES 2u
#define NAME_FORMAT "s:format"
#define NAME_CLOCK "s:clock"

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

static struct store_lmdb *store_of(struct store *s)
{
    return (struct store_lmdb *)s;
}

static MDB_val val_of(struct slice s)
{
    return (MDB_val){.mv_size = s.len, .mv_data = (void *)(uintptr_t)s.data};
}

static struct slice slice_of_val(MDB_val v)
{
    return slice_of(v.mv_data, v.mv_size);
}

static int err_of_mdb(int rc)
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

/* ---- writing: the committer's thread ------------------------------------------------------ */

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
    MDB_val k = val_of(item->key);
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
    MDB_val k = val_of(item->key), v;
    struct state old = {0};
    struct store_done *done = &item->done;
    int rc = mdb_cursor_get(w->kv, &k, &v, MDB_SET);

    if (rc != 0 && rc != MDB_NOTFOUND)
        return rc;
    if (rc == 0) {
        done->error = record_decode(item->key, slice_of_val(v), &old);
        if (done->error < 0)
            return 0;
    }
    done->outcome = merge_states(&old, &item->state);
    done->version = done->outcome == OUTCOME_STORED ? item->state.version : old.version;
    return done->outcome == OUTCOME_STORED ? write_record(w, item) : 0;
}

static int write_fact(struct write *w, struct slice name, struct slice value)
{
    MDB_val k = val_of(name), v = {.mv_size = FACT_HEADER_BYTES + value.len};
    int rc = mdb_put(w->txn, w->s->meta, &k, &v, MDB_RESERVE);

    if (rc != 0)
        return rc;
    fact_header_encode(name, value, v.mv_data);
    if (value.len)
        memcpy((uint8_t *)v.mv_data + FACT_HEADER_BYTES, value.data, value.len);
    return 0;
}

static struct slice fact_name(struct slice name,
                              uint8_t out[META_PREFIX_BYTES + STORE_META_NAME_MAX])
{
    memcpy(out, "f:", META_PREFIX_BYTES);
    memcpy(out + META_PREFIX_BYTES, name.data, name.len);
    return slice_of(out, META_PREFIX_BYTES + name.len);
}

static int write_meta(struct write *w, const struct commit_item *item)
{
    uint8_t name[META_PREFIX_BYTES + STORE_META_NAME_MAX];

    return write_fact(w, fact_name(item->key, name), item->state.value);
}

static int write_u64(struct write *w, const char *name, uint64_t number)
{
    uint8_t bytes[8];

    for (unsigned i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(number >> (8 * i));
    return write_fact(w, slice_str(name), slice_of(bytes, sizeof(bytes)));
}

static int write_clock(struct write *w, uint64_t clock)
{
    if (clock <= w->clock)
        return 0;
    w->clock = clock;
    return write_u64(w, NAME_CLOCK, clock);
}

static void token_bytes(uint64_t token, uint8_t out[8])
{
    for (unsigned i = 0; i < 8; i++)
        out[i] = (uint8_t)(token >> (56 - 8 * i));
}

/* Deletes at most as many records as this transaction may; *ret_more: there may be more of them.
 * Compares keys as bytes: a key too damaged to decode is wiped like any other. */
static int write_wipe(struct write *w, struct store_range range, bool *ret_more)
{
    uint8_t first[8], last[8];

    token_bytes(range.first, first);
    token_bytes(range.last, last);
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
    *ret_more = false;
    w->n_items++;
    w->n_bytes += item->key.len + item->state.value.len;
    if (item->grows && w->refuse_growth) {
        item->done.error = -ERR_NO_SPACE;
        return 0;
    }
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
static int count_pages(struct store_lmdb *s, MDB_txn *txn, uint64_t *ret_used,
                       uint64_t *ret_records)
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
    int rc = count_pages(s, w->txn, &used, &n_records);

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
    int r = err_of_mdb(rc);

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

static int engine_transact(void *ctx, struct commit_pos from, bool refuse_growth,
                           struct commit_pos *ret_to, char why[COMMIT_WHY_BYTES])
{
    struct store_lmdb *s = ctx;
    struct write w;
    int rc = write_begin(s, &w, refuse_growth);

    if (rc != 0)
        return transact_result(rc, false, why);
    rc = write_items(&w, &from);
    if (rc != 0) {
        mdb_cursor_close(w.kv);
        mdb_txn_abort(w.txn);
        return transact_result(rc, false, why);
    }
    rc = write_end(&w);
    if (rc == 0)
        *ret_to = from;
    return transact_result(rc, true, why);
}

static uint64_t engine_used_bytes(void *ctx)
{
    struct store_lmdb *s = ctx;

    return atomic_load_explicit(&s->used_bytes, memory_order_relaxed);
}

static const struct commit_engine engine = {
    .transact = engine_transact,
    .used_bytes = engine_used_bytes,
};

/* ---- the queues --------------------------------------------------------------------------- */

static int lmdb_submit(struct store *store, uint32_t queue, const struct store_op *ops, size_t n,
                       uint64_t *ret_lsn)
{
    struct commit_batch *b = NULL;
    int r = commit_batch_of_ops(ops, n, &b);

    return committer_submit(&store_of(store)->committer, queue, r, b, ret_lsn);
}

static int lmdb_load(struct store *store, uint32_t queue, uint64_t cookie,
                     const struct store_item *items, size_t n)
{
    struct commit_batch *b = NULL;
    uint64_t lsn;
    int r = commit_batch_of_items(items, n, cookie, &b);

    return committer_submit(&store_of(store)->committer, queue, r, b, &lsn);
}

static int lmdb_wipe(struct store *store, uint32_t queue, uint64_t cookie, struct store_range range)
{
    struct commit_batch *b = NULL;
    uint64_t lsn;
    int r = commit_batch_of_wipe(range, cookie, &b);

    return committer_submit(&store_of(store)->committer, queue, r, b, &lsn);
}

static size_t lmdb_reap(struct store *store, uint32_t queue, struct store_done *out, size_t max)
{
    return commit_queue_reap(&store_of(store)->committer.queue, queue, out, max);
}

static uint64_t lmdb_durable(struct store *store)
{
    return atomic_load_explicit(&store_of(store)->committer.durable, memory_order_acquire);
}

static uint64_t lmdb_clock_bound(struct store *store)
{
    return atomic_load_explicit(&store_of(store)->clock, memory_order_acquire);
}

/* ---- reading: the caller's thread --------------------------------------------------------- */

static int reader_open_next(struct store_lmdb *s, struct reader *r)
{
    int rc;

    if (r->n_open == SNAPSHOTS_MAX)
        return -ERR_FULL;
    if (r->n_open < r->n_txn) {
        rc = mdb_txn_renew(r->txn[r->n_open]);
    } else {
        rc = mdb_txn_begin(s->env, NULL, MDB_RDONLY, &r->txn[r->n_open]);
        r->n_txn += rc == 0;
    }
    if (rc != 0)
        return err_of_mdb(rc);
    r->n_open++;
    return 0;
}

/* A snapshot that shows all that the queue has reaped. */
static int reader_txn(struct store_lmdb *s, uint32_t queue, MDB_txn **ret)
{
    struct reader *r = &s->readers[queue];
    uint64_t durable;
    int e;

    if (r->n_open == 0 || r->broken || s->committer.queue.ports[queue].lsn_reaped > r->lsn) {
        durable = lmdb_durable(&s->store); /* before the snapshot: it shows at least this */
        e = reader_open_next(s, r);
        if (e < 0)
            return e;
        r->lsn = durable;
        r->broken = false;
    }
    *ret = r->txn[r->n_open - 1];
    return 0;
}

static void lmdb_read_end(struct store *store, uint32_t queue)
{
    struct reader *r = &store_of(store)->readers[queue];

    for (unsigned i = 0; i < r->n_open; i++)
        mdb_txn_reset(r->txn[i]);
    r->n_open = 0;
}

static int read_failed(struct store_lmdb *s, uint32_t queue, int rc)
{
    s->readers[queue].broken = true;
    return err_of_mdb(rc);
}

static int lmdb_get(struct store *store, uint32_t queue, uint64_t token, const struct key *key,
                    struct state *ret, uint64_t *ret_lsn)
{
    struct store_lmdb *s = store_of(store);
    uint8_t bytes[STORE_KEY_BYTES_MAX];
    struct slice store_key = slice_of(bytes, store_key_encode(token, key, bytes));
    MDB_val k = val_of(store_key), v;
    MDB_txn *txn;
    int r = reader_txn(s, queue, &txn), rc;

    if (r < 0)
        return r;
    rc = mdb_get(txn, s->kv, &k, &v);
    if (rc != 0 && rc != MDB_NOTFOUND)
        return read_failed(s, queue, rc);
    if (rc == 0) {
        r = record_decode(store_key, slice_of_val(v), ret);
        if (r < 0)
            return r;
    } else {
        *ret = (struct state){0};
    }
    *ret_lsn = 0;
    return 0;
}

static int fact_get(struct store_lmdb *s, MDB_txn *txn, struct slice name, struct slice *ret)
{
    MDB_val k = val_of(name), v;
    int rc = mdb_get(txn, s->meta, &k, &v);

    if (rc == MDB_NOTFOUND)
        return 1;
    return rc == 0 ? fact_decode(name, slice_of_val(v), ret) : err_of_mdb(rc);
}

static int lmdb_meta_get(struct store *store, uint32_t queue, struct slice name, struct buf *out)
{
    struct store_lmdb *s = store_of(store);
    uint8_t bytes[META_PREFIX_BYTES + STORE_META_NAME_MAX];
    struct slice value;
    MDB_txn *txn;
    int r;

    if (name.len == 0 || name.len > STORE_META_NAME_MAX)
        return 1;
    r = reader_txn(s, queue, &txn);
    if (r < 0)
        return r;
    r = fact_get(s, txn, fact_name(name, bytes), &value);
    return r == 0 ? buf_append_slice(out, value) : r;
}

/* A walk over a range in key order. Damage in an index page can make LMDB hand out keys in no
 * order; a key that is not above the one before ends the walk, so that no caller goes in circles.
 */
struct walk {
    MDB_cursor *cursor;
    struct store_range range;
    struct slice previous;
    struct slice store_key; /* where it stands; empty: cannot be told */
    uint64_t token;
    struct key key;
    struct state state;
};

/* Looks at what LMDB returned. 0: a record. 1: the range has ended. -ERR_CORRUPT: w->store_key
 * names a bad record, or is empty. -ERR_IO, ... */
static int walk_look(struct walk *w, int rc, MDB_val k, MDB_val v)
{
    uint8_t last[8];
    int r;

    w->store_key = (struct slice){0};
    if (rc != 0)
        return rc == MDB_NOTFOUND ? 1 : err_of_mdb(rc);
    if (w->previous.len && slice_compare(slice_of_val(k), w->previous) <= 0)
        return -ERR_CORRUPT;
    token_bytes(w->range.last, last);
    if (k.mv_size >= sizeof(last) && memcmp(k.mv_data, last, sizeof(last)) > 0)
        return 1;
    w->previous = w->store_key = slice_of_val(k);
    r = store_key_decode(w->store_key, &w->token, &w->key);
    if (r < 0)
        return r;
    return record_decode(w->store_key, slice_of_val(v), &w->state);
}

static int walk_next(struct walk *w)
{
    MDB_val k, v;
    int rc = mdb_cursor_get(w->cursor, &k, &v, MDB_NEXT);

    return walk_look(w, rc, k, v);
}

/* Opens the walk (walk_end it if not negative or -ERR_CORRUPT) at the first record of the range
 * after `after`, which may be empty. */
static int walk_first(struct store_lmdb *s, MDB_txn *txn, struct store_range range,
                      struct slice after, struct walk *w)
{
    uint8_t first[8];
    MDB_val k, v;
    int rc;

    *w = (struct walk){.range = range};
    rc = mdb_cursor_open(txn, s->kv, &w->cursor);
    if (rc != 0)
        return err_of_mdb(rc);
    token_bytes(range.first, first);
    if (slice_compare(after, slice_of(first, sizeof(first))) < 0)
        after = slice_of(first, sizeof(first)); /* shorter than any key, so never equal to one */
    k = val_of(after);
    w->previous = after;
    rc = mdb_cursor_get(w->cursor, &k, &v, MDB_SET_RANGE);
    if (rc == 0 && slice_equal(slice_of_val(k), after))
        rc = mdb_cursor_get(w->cursor, &k, &v, MDB_NEXT);
    return walk_look(w, rc, k, v);
}

static void walk_end(struct walk *w)
{
    if (w->cursor)
        mdb_cursor_close(w->cursor);
}

static void page_set_cursor(struct store_page *page, struct slice store_key)
{
    page->cursor_len = store_key.len <= sizeof(page->cursor) ? store_key.len : 0;
    if (page->cursor_len)
        memcpy(page->cursor, store_key.data, page->cursor_len);
}

/* Fills the page from where the walk stands. r: what walk_first said. */
static int page_fill(struct store_page *page, struct walk *w, int r, size_t bytes_max)
{
    struct slice last = {0};

    for (; r == 0; r = walk_next(w)) {
        size_t bytes = w->key.partition.len + w->key.sort.len + w->state.value.len;

        page->more = page->n == page->cap || (page->n > 0 && page->bytes + bytes > bytes_max);
        if (page->more)
            break;
        page->items[page->n++] = (struct wire_record){.key = w->key, .state = w->state};
        page->bytes += bytes;
        last = w->store_key;
    }
    if (r < 0 && page->n == 0) {
        page_set_cursor(page, w->store_key);
        return r;
    }
    page->more = page->more || r < 0; /* the next page begins with what failed */
    page_set_cursor(page, last);
    return 0;
}

static int lmdb_scan(struct store *store, uint32_t queue, struct store_range range,
                     struct slice cursor, size_t bytes_max, struct store_page *page)
{
    struct store_lmdb *s = store_of(store);
    uint8_t after[STORE_CURSOR_BYTES_MAX]; /* the caller's cursor may be page->cursor itself */
    struct walk w;
    MDB_txn *txn;
    int r;

    if (cursor.len > sizeof(after))
        return -ERR_BAD_REQUEST;
    r = reader_txn(s, queue, &txn);
    if (r < 0)
        return r;
    if (cursor.len)
        memcpy(after, cursor.data, cursor.len);
    page->n = page->bytes = page->cursor_len = 0;
    page->lsn = 0;
    page->more = false;
    r = walk_first(s, txn, range, slice_of(after, cursor.len), &w);
    r = page_fill(page, &w, r, bytes_max);
    walk_end(&w);
    s->readers[queue].broken = s->readers[queue].broken || r < 0;
    return r;
}

static int fold(struct store *store, uint32_t queue, struct store_range range, struct range_fold *f)
{
    struct store_lmdb *s = store_of(store);
    struct walk w;
    MDB_txn *txn;
    int r = reader_txn(s, queue, &txn);

    if (r < 0)
        return r;
    for (r = walk_first(s, txn, range, (struct slice){0}, &w); r == 0; r = walk_next(&w))
        range_fold_add(f, w.token, &w.key, &w.state);
    walk_end(&w);
    s->readers[queue].broken = s->readers[queue].broken || r < 0;
    return r < 0 ? r : 0;
}

static int lmdb_vnode_info(struct store *store, uint32_t queue, struct store_range range,
                           struct store_info *ret)
{
    struct range_fold f;
    int r;

    range_fold_init(&f, range, NULL);
    r = fold(store, queue, range, &f);
    if (r == 0)
        *ret = f.info;
    return r;
}

static int lmdb_leaves(struct store *store, uint32_t queue, struct store_range range, uint64_t *ret)
{
    struct range_fold f;

    range_fold_init(&f, range, ret);
    return fold(store, queue, range, &f);
}

static int lmdb_stats(struct store *store, uint32_t queue, struct store_stats *ret)
{
    struct store_lmdb *s = store_of(store);
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
    for (uint32_t q = 0; s->readers && q < s->n_queues; q++) {
        for (unsigned i = 0; i < s->readers[q].n_txn; i++)
            mdb_txn_abort(s->readers[q].txn[i]);
    }
    free(s->readers);
    if (s->env)
        mdb_env_close(s->env);
    committer_deinit(&s->committer);
    free(s);
}

static void lmdb_close(struct store *store)
{
    committer_stop(&store_of(store)->committer);
    lmdb_free(store_of(store));
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

static int explain(char *why, int error, const char *dir, const char *what)
{
    snprintf(why, STORE_WHY_BYTES, "store %.200s: %.256s", dir, what);
    return error;
}

static int explain_mdb(char *why, const char *dir, const char *step, int rc)
{
    int r = err_of_mdb(rc);

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
    int r = explain_mdb(why, dir, step, rc);

    if (rc == EIO)
        suspect_mark(dir, why);
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
    int r = fact_get(s, txn, slice_str(name), &value);

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
    struct write w = {.s = s, .txn = txn};
    uint64_t format = 0, clock = 0;
    int r = fact_get_u64(s, txn, NAME_FORMAT, &format), rc;

    if (r == 0)
        r = fact_get_u64(s, txn, NAME_CLOCK, &clock);
    if (r < 0 && r != -ERR_FORMAT)
        return explain(why, r, dir, "its own facts cannot be read: the data file is damaged");
    if (r == -ERR_FORMAT || format > STORE_FORMAT)
        return explain(why, -ERR_FORMAT, dir,
                       "written by a newer version of quoit; start that version or a newer one");
    atomic_store(&s->clock, clock);
    rc = format ? 0 : write_u64(&w, NAME_FORMAT, STORE_FORMAT);
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
        rc = count_pages(s, txn, &used, &n_records);
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
    r = env_open(s, o, why);
    if (r == 0)
        r = databases_open(s, o->dir, why);
    if (r < 0 || !is_new)
        return r;
    r = store_dir_finish(o->dir, STORE_FORMAT, what);
    return r < 0 ? explain(why, r, o->dir, what) : 0;
}

static int lmdb_open(struct store_lmdb *s, const struct store_config *config,
                     const struct store_lmdb_options *o, char *why)
{
    int r = committer_init(&s->committer, config, &engine, s, o->dir, s->map_bytes);

    s->readers = aligned_alloc(64, s->n_queues * sizeof(*s->readers));
    if (r < 0 || !s->readers)
        return explain(why, -ERR_NO_MEMORY, o->dir, "out of memory");
    memset(s->readers, 0, s->n_queues * sizeof(*s->readers));
    r = data_open(s, o, why);
    if (r < 0)
        return r;
    if (o->accept_suspect)
        suspect_clear(o->dir);
    r = committer_start(&s->committer);
    return r < 0 ? explain(why, r, o->dir, "cannot start its thread") : 0;
}

int store_lmdb_open(const struct store_config *config, const struct store_lmdb_options *options,
                    struct store **ret, char *why)
{
    struct store_lmdb *s;
    long page = sysconf(_SC_PAGESIZE);
    int r = check_suspect(options, why);

    if (r < 0)
        return r;
    s = calloc(1, sizeof(*s));
    if (!s)
        return explain(why, -ERR_NO_MEMORY, options->dir, "out of memory");
    s->store.ops = &lmdb_ops;
    s->n_queues = config->n_workers + 1;
    s->map_bytes = options->map_bytes ? options->map_bytes : STORE_LMDB_MAP_DEFAULT;
    if (s->map_bytes < STORE_LMDB_MAP_MIN)
        s->map_bytes = STORE_LMDB_MAP_MIN;
    s->map_bytes -= s->map_bytes % (uint64_t)page;
    r = lmdb_open(s, config, options, why);
    if (r < 0) {
        lmdb_free(s);
        return r;
    }
    *ret = &s->store;
    return 0;
}

void store_lmdb_guard_faults(struct store *store)
{
    struct store_lmdb *s = store_of(store);
    char path[1024];
    mdb_filehandle_t fd;

    if (mdb_env_get_fd(s->env, &fd) != 0)
        return;
    snprintf(path, sizeof(path), "%s/" STORE_DIR_DATA, s->committer.space.dir);
    fault_guard_install(fd, path);
}
