/* store_lmdb_read: snapshots and reading on the caller's thread.
 *
 * A queue reads from a read-only transaction that lmdb_snapshot_next begins (renews) and
 * lmdb_snapshots_end resets; it may hold SNAPSHOTS_MAX of them, and reads from the newest.
 *
 * LMDB shows a transaction to readers only after its meta page is on disk, so whatever is read is
 * durable.
 *
 * Nothing read is believed: lengths, order of keys and checksums are looked at first. What LMDB
 * itself trips over (a page that cannot be) is -ERR_CORRUPT and costs the snapshot; a page that is
 * not there at all is fault_guard's business.
 */
#include "storage/store_lmdb_impl.h"

#include "storage/bytes.h"

#include <assert.h>
#include <stdlib.h>

#include "storage/fault_guard.h"

int lmdb_readers_init(struct lmdb_env *e)
{
    e->readers = aligned_alloc(64, e->n_queues * sizeof(*e->readers));
    if (!e->readers)
        return -ERR_NO_MEMORY;
    memset(e->readers, 0, e->n_queues * sizeof(*e->readers));
    return 0;
}

void lmdb_readers_deinit(struct lmdb_env *e)
{
    for (uint32_t q = 0; e->readers && q < e->n_queues; q++) {
        for (unsigned i = 0; i < e->readers[q].n_txn; i++)
            mdb_txn_abort(e->readers[q].txn[i]);
    }
    free(e->readers);
    e->readers = NULL;
}

int lmdb_snapshot_next(struct lmdb_env *e, uint32_t queue)
{
    struct reader *r = &e->readers[queue];
    int rc;

    if (r->n_open == SNAPSHOTS_MAX)
        return -ERR_FULL;
    if (r->n_open < r->n_txn) {
        rc = mdb_txn_renew(r->txn[r->n_open]);
    } else {
        rc = mdb_txn_begin(e->env, NULL, MDB_RDONLY, &r->txn[r->n_open]);
        r->n_txn += rc == 0;
    }
    if (rc != 0)
        return lmdb_err(rc);
    if (r->n_open == 0)
        atomic_store_explicit(&r->oldest, mdb_txn_id(r->txn[0]), memory_order_relaxed);
    r->n_open++;
    r->broken = false;
    return 0;
}

bool lmdb_snapshot_open(const struct lmdb_env *e, uint32_t queue)
{
    return e->readers[queue].n_open > 0 && !e->readers[queue].broken;
}

void lmdb_snapshots_end(struct lmdb_env *e, uint32_t queue)
{
    struct reader *r = &e->readers[queue];

    for (unsigned i = 0; i < r->n_open; i++)
        mdb_txn_reset(r->txn[i]);
    r->n_open = 0;
    atomic_store_explicit(&r->oldest, 0, memory_order_relaxed);
}

uint64_t lmdb_snapshot_age(const struct lmdb_env *e)
{
    uint64_t newest = atomic_load_explicit(&e->newest, memory_order_relaxed), oldest = newest;

    for (uint32_t q = 0; q < e->n_queues; q++) {
        uint64_t at = atomic_load_explicit(&e->readers[q].oldest, memory_order_relaxed);

        oldest = at != 0 && at < oldest ? at : oldest;
    }
    return newest - oldest;
}

MDB_txn *lmdb_snapshot_txn(struct lmdb_env *e, uint32_t queue)
{
    struct reader *r = &e->readers[queue];

    assert(r->n_open > 0);
    return r->txn[r->n_open - 1];
}

int lmdb_env_get(struct lmdb_env *e, uint32_t queue, struct slice store_key, struct state *ret)
{
    MDB_val k = lmdb_val(store_key), v;
    int rc, r = 0;

    *ret = (struct state){0};
    fault_guard_enter();
    rc = mdb_get(lmdb_snapshot_txn(e, queue), e->kv, &k, &v);
    if (rc == 0)
        r = record_decode(store_key, lmdb_slice(v), ret);
    fault_guard_leave();
    if (rc == 0 || rc == MDB_NOTFOUND)
        return r;
    e->readers[queue].broken = true;
    return lmdb_err(rc);
}

int lmdb_fact_get(struct lmdb_env *e, MDB_txn *txn, struct slice name, struct slice *ret)
{
    MDB_val k = lmdb_val(name), v;
    int rc = mdb_get(txn, e->meta, &k, &v);

    if (rc == MDB_NOTFOUND)
        return 1;
    return rc == 0 ? fact_decode(name, lmdb_slice(v), ret) : lmdb_err(rc);
}

int lmdb_env_fact(struct lmdb_env *e, uint32_t queue, struct slice name, struct slice *ret)
{
    int r;

    fault_guard_enter();
    r = lmdb_fact_get(e, lmdb_snapshot_txn(e, queue), name, ret);
    fault_guard_leave();
    return r;
}

int lmdb_env_zone(struct lmdb_env *e, uint32_t queue, uint32_t number, struct slice *ret)
{
    int r;

    fault_guard_enter();
    r = lmdb_zone_get(e, lmdb_snapshot_txn(e, queue), number, ret);
    fault_guard_leave();
    return r;
}

/* Damage in an index page can make LMDB hand out keys in no order; a key that is not above the one
 * before ends the walk, so that no caller goes in circles. 0: a record. 1: the range has ended.
 * -ERR_CORRUPT: w->store_key names a bad record, or is empty. -ERR_IO, ... */
static int walk_look(struct lmdb_walk *w, int rc, MDB_val k, MDB_val v)
{
    uint8_t last[8];
    int r;

    w->store_key = (struct slice){0};
    if (rc != 0)
        return rc == MDB_NOTFOUND ? 1 : lmdb_err(rc);
    if (w->previous.len && slice_compare(lmdb_slice(k), w->previous) <= 0)
        return -ERR_CORRUPT;
    bytes_put_token(last, w->range.last);
    if (k.mv_size >= sizeof(last) && memcmp(k.mv_data, last, sizeof(last)) > 0)
        return 1;
    w->previous = w->store_key = lmdb_slice(k);
    r = store_key_decode(w->store_key, &w->token, &w->key);
    if (r < 0)
        return r;
    return record_decode(w->store_key, lmdb_slice(v), &w->state);
}

int lmdb_walk_next(struct lmdb_walk *w)
{
    MDB_val k, v;
    int rc, r;

    fault_guard_enter();
    rc = mdb_cursor_get(w->cursor, &k, &v, MDB_NEXT);
    r = walk_look(w, rc, k, v);
    fault_guard_leave();
    return r;
}

static int walk_start(struct lmdb_walk *w, struct slice after)
{
    MDB_val k, v;
    int rc;

    bytes_put_token(w->first, w->range.first);
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

int lmdb_walk_seek(struct lmdb_walk *w, struct slice after)
{
    int r;

    fault_guard_enter();
    r = walk_start(w, after);
    fault_guard_leave();
    return r;
}

int lmdb_walk_first(struct lmdb_env *e, uint32_t queue, struct store_range range,
                    struct slice after, struct lmdb_walk *w)
{
    int rc;

    *w = (struct lmdb_walk){.range = range};
    rc = mdb_cursor_open(lmdb_snapshot_txn(e, queue), e->kv, &w->cursor);
    return rc == 0 ? lmdb_walk_seek(w, after) : lmdb_err(rc);
}

void lmdb_walk_end(struct lmdb_env *e, uint32_t queue, struct lmdb_walk *w, int r)
{
    if (w->cursor)
        mdb_cursor_close(w->cursor);
    if (r < 0)
        e->readers[queue].broken = true;
}
