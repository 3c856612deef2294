/* store_lmdb_txn: one write transaction, on the engine's writer thread.
 *
 * Records are encoded straight into the page that LMDB hands out (MDB_RESERVE).
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

#include "storage/bytes.h"

#define ZONE_KEY_BYTES 4u
#define PAGE_BYTES 4096

int lmdb_txn_begin(struct lmdb_env *e, struct lmdb_txn *ret)
{
    int rc;

    *ret = (struct lmdb_txn){.e = e};
    rc = mdb_txn_begin(e->env, NULL, 0, &ret->txn);
    if (rc != 0)
        return rc;
    rc = mdb_cursor_open(ret->txn, e->kv, &ret->kv);
    if (rc != 0)
        mdb_txn_abort(ret->txn);
    return rc;
}

void lmdb_txn_abort(struct lmdb_txn *t)
{
    if (t->kv)
        mdb_cursor_close(t->kv);
    mdb_txn_abort(t->txn);
}

int lmdb_count(struct lmdb_env *e, MDB_txn *txn, uint64_t *ret_used, uint64_t *ret_records)
{
    /* 0: free list, 1: the names of the others */
    const MDB_dbi dbis[] = {0, 1, e->kv, e->meta, e->zones};
    size_t n = sizeof(dbis) / sizeof(dbis[0]) - (e->zones ? 0 : 1);
    uint64_t pages = 2;
    MDB_stat st = {0};

    for (size_t i = 0; i < n; i++) {
        int rc = mdb_stat(txn, dbis[i], &st);

        if (rc != 0)
            return rc;
        pages += st.ms_branch_pages + st.ms_leaf_pages + st.ms_overflow_pages;
        if (dbis[i] == e->kv)
            *ret_records = st.ms_entries;
    }
    *ret_used = pages * st.ms_psize;
    return 0;
}

void lmdb_note_file(struct lmdb_env *e)
{
    MDB_envinfo info;
    MDB_stat st;

    if (mdb_env_info(e->env, &info) != 0 || mdb_env_stat(e->env, &st) != 0)
        return;
    atomic_store_explicit(&e->file_bytes, (info.me_last_pgno + 1) * st.ms_psize,
                          memory_order_relaxed);
    atomic_store_explicit(&e->newest, info.me_last_txnid, memory_order_relaxed);
}

void lmdb_file_stats(const struct lmdb_env *e, struct store_stats *ret)
{
    uint64_t file_bytes = atomic_load_explicit(&e->file_bytes, memory_order_relaxed);

    /* The two were stored one after the other. */
    ret->free_bytes = file_bytes > ret->used_bytes ? file_bytes - ret->used_bytes : 0;
    ret->snapshot_age = lmdb_snapshot_age(e);
}

int lmdb_txn_commit(struct lmdb_txn *t)
{
    struct lmdb_env *e = t->e;
    uint64_t used = 0, n_records = 0;
    int rc = lmdb_count(e, t->txn, &used, &n_records);

    mdb_cursor_close(t->kv);
    if (rc != 0) {
        mdb_txn_abort(t->txn);
        return rc;
    }
    rc = mdb_txn_commit(t->txn);
    if (rc != 0)
        return rc;
    atomic_store_explicit(&e->used_bytes, used, memory_order_relaxed);
    atomic_store_explicit(&e->n_records, n_records, memory_order_relaxed);
    lmdb_note_file(e);
    return 0;
}

int lmdb_txn_get(struct lmdb_txn *t, struct slice store_key, struct state *ret, int *ret_error)
{
    MDB_val k = lmdb_val(store_key), v;
    int rc = mdb_cursor_get(t->kv, &k, &v, MDB_SET);

    *ret = (struct state){0};
    *ret_error = 0;
    if (rc == 0)
        *ret_error = record_decode(store_key, lmdb_slice(v), ret);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

/* MDB_KEYEXIST: *ret is what is there. */
static int put_record(struct lmdb_txn *t, struct slice store_key, const struct state *state,
                      unsigned flags, struct slice *ret)
{
    MDB_val k = lmdb_val(store_key);
    MDB_val v = {.mv_size = RECORD_HEADER_BYTES + state->value.len};
    uint8_t *out;
    int rc = mdb_cursor_put(t->kv, &k, &v, MDB_RESERVE | flags);

    t->touched = true;
    if (rc == MDB_KEYEXIST)
        *ret = lmdb_slice(v);
    if (rc != 0)
        return rc;
    out = v.mv_data;
    if (!t->where || out - t->where >= PAGE_BYTES || t->where - out >= PAGE_BYTES)
        t->n_pages += 1 + state->value.len / PAGE_BYTES;
    t->where = out;
    record_header_encode(store_key, state, out);
    if (state->value.len)
        memcpy(out + RECORD_HEADER_BYTES, state->value.data, state->value.len);
    return 0;
}

int lmdb_txn_put(struct lmdb_txn *t, struct slice store_key, const struct state *state)
{
    struct slice none;

    return put_record(t, store_key, state, 0, &none);
}

int lmdb_txn_insert(struct lmdb_txn *t, struct slice store_key, const struct state *state,
                    struct state *ret, int *ret_error)
{
    struct slice there;
    int rc = put_record(t, store_key, state, MDB_NOOVERWRITE, &there);

    *ret = (struct state){0};
    *ret_error = 0;
    if (rc == 0)
        return LMDB_INSERTED;
    if (rc == MDB_KEYEXIST) {
        *ret_error = record_decode(store_key, there, ret);
        return 0;
    }
    return rc;
}

int lmdb_txn_replace(struct lmdb_txn *t, struct slice store_key, const struct state *state)
{
    struct slice none;

    return put_record(t, store_key, state, MDB_CURRENT, &none);
}

int lmdb_txn_fact_put(struct lmdb_txn *t, struct slice name, struct slice value)
{
    MDB_val k = lmdb_val(name), v = {.mv_size = FACT_HEADER_BYTES + value.len};
    int rc = mdb_put(t->txn, t->e->meta, &k, &v, MDB_RESERVE);

    if (rc != 0)
        return rc;
    fact_header_encode(name, value, v.mv_data);
    if (value.len)
        memcpy((uint8_t *)v.mv_data + FACT_HEADER_BYTES, value.data, value.len);
    return 0;
}

int lmdb_txn_number_put(struct lmdb_txn *t, const char *name, uint64_t number)
{
    uint8_t bytes[8];

    bytes_put_le(bytes, number, sizeof(bytes));
    return lmdb_txn_fact_put(t, slice_str(name), slice_of(bytes, sizeof(bytes)));
}

/* Compares keys as bytes: a key too damaged to decode is wiped like any other. */
int lmdb_txn_wipe(struct lmdb_txn *t, struct store_range range, size_t max, size_t *ret_n,
                  bool *ret_more)
{
    uint8_t first[8], last[8];

    bytes_put_token(first, range.first);
    bytes_put_token(last, range.last);
    *ret_more = true;
    for (*ret_n = 0; *ret_n < max; ++*ret_n) {
        MDB_val k = {.mv_size = sizeof(first), .mv_data = first}, v;
        int rc = mdb_cursor_get(t->kv, &k, &v, MDB_SET_RANGE);

        if (rc == MDB_NOTFOUND ||
            (rc == 0 && k.mv_size >= sizeof(last) && memcmp(k.mv_data, last, sizeof(last)) > 0)) {
            *ret_more = false;
            return 0;
        }
        if (rc == 0)
            rc = mdb_cursor_del(t->kv, 0);
        if (rc != 0)
            return rc;
    }
    return 0;
}

int lmdb_txn_seek(struct lmdb_txn *t, struct store_range range, struct slice after,
                  struct lmdb_record *ret)
{
    uint8_t first[8], last[8];
    struct slice from = after;
    MDB_val k, v;
    int rc;

    *ret = (struct lmdb_record){0};
    bytes_put_token(first, range.first);
    bytes_put_token(last, range.last);
    if (slice_compare(from, slice_of(first, sizeof(first))) < 0)
        from = slice_of(first, sizeof(first)); /* shorter than any key */
    k = lmdb_val(from);
    rc = mdb_cursor_get(t->kv, &k, &v, MDB_SET_RANGE);
    if (rc == 0 && slice_equal(lmdb_slice(k), after))
        rc = mdb_cursor_get(t->kv, &k, &v, MDB_NEXT);
    if (rc == MDB_NOTFOUND ||
        (rc == 0 && k.mv_size >= sizeof(last) && memcmp(k.mv_data, last, sizeof(last)) > 0))
        return 0;
    if (rc != 0)
        return rc;
    if (slice_compare(lmdb_slice(k), from) < 0)
        return 0; /* damage has led the search astray */
    ret->store_key = lmdb_slice(k);
    ret->error = store_key_decode(ret->store_key, &ret->token, &ret->key);
    if (ret->error == 0)
        ret->error = record_decode(ret->store_key, lmdb_slice(v), &ret->state);
    return 0;
}

int lmdb_txn_delete(struct lmdb_txn *t)
{
    t->touched = true;
    return mdb_cursor_del(t->kv, 0);
}

static MDB_val zone_key(uint32_t number, uint8_t out[ZONE_KEY_BYTES])
{
    bytes_put_be(out, number, ZONE_KEY_BYTES);
    return (MDB_val){.mv_size = ZONE_KEY_BYTES, .mv_data = out};
}

int lmdb_txn_zone_put(struct lmdb_txn *t, uint32_t number, struct slice bytes)
{
    uint8_t key[ZONE_KEY_BYTES];
    MDB_val k = zone_key(number, key), v = lmdb_val(bytes);

    return mdb_put(t->txn, t->e->zones, &k, &v, 0);
}

int lmdb_txn_zone_get(struct lmdb_txn *t, uint32_t number, struct slice *ret)
{
    uint8_t key[ZONE_KEY_BYTES];
    MDB_val k = zone_key(number, key), v;
    int rc = mdb_get(t->txn, t->e->zones, &k, &v);

    *ret = rc == 0 ? lmdb_slice(v) : (struct slice){0};
    return rc == MDB_NOTFOUND ? 0 : rc;
}

int lmdb_zone_get(struct lmdb_env *e, MDB_txn *txn, uint32_t number, struct slice *ret)
{
    struct lmdb_txn t = {.e = e, .txn = txn};
    int rc = lmdb_txn_zone_get(&t, number, ret);

    return rc != 0 ? lmdb_err(rc) : ret->data ? 0 : 1;
}

int lmdb_txn_result(int rc, bool committing, char why[COMMIT_WHY_BYTES])
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
