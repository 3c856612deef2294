/* store_lmdb_purge: a walk over a range, in a write transaction, that looks for tombstones.
 *
 * It asks each record what it is by its header, and believes it only once its checksum holds: so
 * values are not read, and what is damaged stays, for a scrub to name.
 *
 * After a delete it seeks, as wipes do (store_lmdb_txn.c). `after` only rises: should a damaged key
 * break the order, the walk leaves out what it cannot find its way to, and comes to an end all the
 * same.
 */
#include "storage/store_lmdb_impl.h"

#include "storage/bytes.h"

#define PAGE_BYTES 4096

static int go_on(struct lmdb_txn *t, struct lmdb_purge *p, MDB_val *k, MDB_val *v)
{
    struct slice after = slice_of(p->after, p->after_len);
    uint8_t first[8];
    int rc;

    if (!p->seeks)
        return mdb_cursor_get(t->kv, k, v, MDB_NEXT);
    p->seeks = false;
    bytes_put_token(first, p->range.first);
    *k = lmdb_val(after.len ? after : slice_of(first, sizeof(first))); /* shorter than any key */
    rc = mdb_cursor_get(t->kv, k, v, MDB_SET_RANGE);
    if (rc == 0 && slice_equal(lmdb_slice(*k), after))
        rc = mdb_cursor_get(t->kv, k, v, MDB_NEXT);
    return rc;
}

static bool is_beyond(const struct lmdb_purge *p, struct slice store_key)
{
    uint8_t last[8];

    bytes_put_token(last, p->range.last);
    return store_key.len >= sizeof(last) && memcmp(store_key.data, last, sizeof(last)) > 0;
}

static void note_place(struct lmdb_purge *p, struct slice store_key)
{
    if (store_key.len > sizeof(p->after) ||
        slice_compare(store_key, slice_of(p->after, p->after_len)) <= 0)
        return;
    memcpy(p->after, store_key.data, store_key.len);
    p->after_len = store_key.len;
}

/* The page that a delete will dirty, unless the last one did. */
static void count_page(struct lmdb_txn *t, const uint8_t *where)
{
    if (!t->where || where - t->where >= PAGE_BYTES || t->where - where >= PAGE_BYTES)
        t->n_pages++;
    t->where = where;
}

int lmdb_txn_purge_next(struct lmdb_txn *t, struct lmdb_purge *p, size_t *n, size_t n_max,
                        struct lmdb_record *ret)
{
    MDB_val k, v;

    *ret = (struct lmdb_record){0};
    while (!p->ended && *n < n_max) {
        int rc = go_on(t, p, &k, &v);

        if (rc != 0 && rc != MDB_NOTFOUND)
            return rc;
        p->ended = rc == MDB_NOTFOUND || is_beyond(p, lmdb_slice(k));
        if (p->ended)
            break;
        ++*n;
        note_place(p, lmdb_slice(k));
        if (!record_claims_tombstone(lmdb_slice(v), p->floor) ||
            store_key_decode(lmdb_slice(k), &ret->token, &ret->key) < 0 ||
            record_decode(lmdb_slice(k), lmdb_slice(v), &ret->state) < 0)
            continue;
        ret->store_key = lmdb_slice(k);
        count_page(t, v.mv_data);
        p->seeks = true;
        return 0;
    }
    return 0;
}
