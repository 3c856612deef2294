/* store_lmdb_read: reading on the caller's thread.
 *
 * A queue reads from a read-only transaction that its first read of a wake-up begins (renews) and
 * read_end resets. If it has reaped an outcome newer than that snapshot, it reads from a second one
 * and keeps the first for the bytes it has handed out, up to SNAPSHOTS_MAX of them; then -ERR_FULL
 * until read_end.
 *
 * LMDB shows a transaction to readers only after its meta page is on disk, so whatever is read is
 * durable and every lsn returned is 0.
 *
 * Nothing read is believed: lengths, order of keys and checksums are looked at first. What LMDB
 * itself trips over (a page that cannot be) is -ERR_CORRUPT and costs the snapshot; a page that is
 * not there at all is fault_guard's business.
 */
#include "storage/store_lmdb_impl.h"

#include <stdlib.h>

#include "storage/fault_guard.h"
#include "storage/range_fold.h"
#include "storage/record.h"

int lmdb_readers_init(struct store_lmdb *s)
{
    s->readers = aligned_alloc(64, s->n_queues * sizeof(*s->readers));
    if (!s->readers)
        return -ERR_NO_MEMORY;
    memset(s->readers, 0, s->n_queues * sizeof(*s->readers));
    return 0;
}

void lmdb_readers_deinit(struct store_lmdb *s)
{
    for (uint32_t q = 0; s->readers && q < s->n_queues; q++) {
        for (unsigned i = 0; i < s->readers[q].n_txn; i++)
            mdb_txn_abort(s->readers[q].txn[i]);
    }
    free(s->readers);
    s->readers = NULL;
}

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
        return lmdb_err(rc);
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
        /* Before the snapshot: it shows at least this. */
        durable = atomic_load_explicit(&s->committer.durable, memory_order_acquire);
        e = reader_open_next(s, r);
        if (e < 0)
            return e;
        r->lsn = durable;
        r->broken = false;
    }
    *ret = r->txn[r->n_open - 1];
    return 0;
}

void lmdb_read_end(struct store *store, uint32_t queue)
{
    struct reader *r = &lmdb_of(store)->readers[queue];

    for (unsigned i = 0; i < r->n_open; i++)
        mdb_txn_reset(r->txn[i]);
    r->n_open = 0;
}

static int read_failed(struct store_lmdb *s, uint32_t queue, int rc)
{
    s->readers[queue].broken = true;
    return lmdb_err(rc);
}

static int get_record(struct store_lmdb *s, uint32_t queue, struct slice store_key,
                      struct state *ret)
{
    MDB_val k = lmdb_val(store_key), v;
    MDB_txn *txn;
    int r = reader_txn(s, queue, &txn), rc;

    if (r < 0)
        return r;
    rc = mdb_get(txn, s->kv, &k, &v);
    if (rc == 0)
        return record_decode(store_key, lmdb_slice(v), ret);
    if (rc != MDB_NOTFOUND)
        return read_failed(s, queue, rc);
    *ret = (struct state){0};
    return 0;
}

int lmdb_get(struct store *store, uint32_t queue, uint64_t token, const struct key *key,
             struct state *ret, uint64_t *ret_lsn)
{
    uint8_t bytes[STORE_KEY_BYTES_MAX];
    size_t len = store_key_encode(token, key, bytes);
    int r;

    fault_guard_enter();
    r = get_record(lmdb_of(store), queue, slice_of(bytes, len), ret);
    fault_guard_leave();
    if (r == 0)
        *ret_lsn = 0;
    return r;
}

int lmdb_fact_get(struct store_lmdb *s, MDB_txn *txn, struct slice name, struct slice *ret)
{
    MDB_val k = lmdb_val(name), v;
    int rc = mdb_get(txn, s->meta, &k, &v);

    if (rc == MDB_NOTFOUND)
        return 1;
    return rc == 0 ? fact_decode(name, lmdb_slice(v), ret) : lmdb_err(rc);
}

int lmdb_meta_get(struct store *store, uint32_t queue, struct slice name, struct buf *out)
{
    struct store_lmdb *s = lmdb_of(store);
    uint8_t bytes[META_PREFIX_BYTES + STORE_META_NAME_MAX];
    struct slice value = {0};
    MDB_txn *txn;
    int r;

    if (name.len == 0 || name.len > STORE_META_NAME_MAX)
        return 1;
    fault_guard_enter();
    r = reader_txn(s, queue, &txn);
    if (r == 0)
        r = lmdb_fact_get(s, txn, lmdb_fact_name(name, bytes), &value);
    fault_guard_leave();
    return r == 0 ? buf_append_slice(out, value) : r;
}

/* A walk over a range in key order. Damage in an index page can make LMDB hand out keys in no
 * order; a key that is not above the one before ends the walk, so that no caller goes in circles.
 */
struct walk {
    MDB_cursor *cursor;
    struct store_range range;
    uint8_t first[8]; /* range.first as the beginning of a key */
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
        return rc == MDB_NOTFOUND ? 1 : lmdb_err(rc);
    if (w->previous.len && slice_compare(lmdb_slice(k), w->previous) <= 0)
        return -ERR_CORRUPT;
    lmdb_token_bytes(w->range.last, last);
    if (k.mv_size >= sizeof(last) && memcmp(k.mv_data, last, sizeof(last)) > 0)
        return 1;
    w->previous = w->store_key = lmdb_slice(k);
    r = store_key_decode(w->store_key, &w->token, &w->key);
    if (r < 0)
        return r;
    return record_decode(w->store_key, lmdb_slice(v), &w->state);
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
    MDB_val k, v;
    int rc;

    *w = (struct walk){.range = range};
    rc = mdb_cursor_open(txn, s->kv, &w->cursor);
    if (rc != 0)
        return lmdb_err(rc);
    lmdb_token_bytes(range.first, w->first);
    if (slice_compare(after, slice_of(w->first, sizeof(w->first))) < 0)
        after =
            slice_of(w->first, sizeof(w->first)); /* shorter than any key, so never equal to one */
    k = lmdb_val(after);
    w->previous = after;
    rc = mdb_cursor_get(w->cursor, &k, &v, MDB_SET_RANGE);
    if (rc == 0 && slice_equal(lmdb_slice(k), after))
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

int lmdb_scan(struct store *store, uint32_t queue, struct store_range range, struct slice cursor,
              size_t bytes_max, struct store_page *page)
{
    struct store_lmdb *s = lmdb_of(store);
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
    fault_guard_enter();
    r = walk_first(s, txn, range, slice_of(after, cursor.len), &w);
    r = page_fill(page, &w, r, bytes_max);
    walk_end(&w);
    fault_guard_leave();
    s->readers[queue].broken = s->readers[queue].broken || r < 0;
    return r;
}

static int fold(struct store *store, uint32_t queue, struct store_range range, struct range_fold *f)
{
    struct store_lmdb *s = lmdb_of(store);
    struct walk w;
    MDB_txn *txn;
    int r = reader_txn(s, queue, &txn);

    if (r < 0)
        return r;
    fault_guard_enter();
    for (r = walk_first(s, txn, range, (struct slice){0}, &w); r == 0; r = walk_next(&w))
        range_fold_add(f, w.token, &w.key, &w.state);
    walk_end(&w);
    fault_guard_leave();
    s->readers[queue].broken = s->readers[queue].broken || r < 0;
    return r < 0 ? r : 0;
}

int lmdb_vnode_info(struct store *store, uint32_t queue, struct store_range range,
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

int lmdb_leaves(struct store *store, uint32_t queue, struct store_range range, uint64_t *ret)
{
    struct range_fold f;

    range_fold_init(&f, range, ret);
    return fold(store, queue, range, &f);
}
