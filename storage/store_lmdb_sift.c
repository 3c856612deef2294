/* store_lmdb_sift: a walk that trusts nothing but checksums, for whoever looks for damage.
 *
 * Other walks follow the order of keys and stop where it is broken. A sift goes from entry to entry
 * as they stand in the pages, which one damaged key among them does not disturb:
 *
 *   a  b  [x]  c  d        x was a key between b and c, and a bit of it has flipped
 *
 * x may be above d, below a or beyond the range. It fails its checksum, which covers the key, so it
 * is told as damaged; c and d are told as ever. Only an entry whose checksum holds is believed to
 * be beyond the range, and so to be the end of it. After SIFT_BEYOND_MAX damaged ones in a row that
 * claim to be beyond it, the end is believed without that.
 *
 * What it cannot: find entries in pages that no index page leads to, or know that its first entry
 * is the first one, if the index page above it is damaged.
 */
#include "storage/store_lmdb_impl.h"

#include "storage/bytes.h"
#include "storage/record.h"
#include "storage/scrub_fold.h"

/* Damaged records at the beginning of the next range are not ours: a few may be. */
#define SIFT_BEYOND_MAX 16u

int lmdb_sift_begin(struct lmdb_env *e, uint32_t queue, struct store_range range,
                    struct slice after, struct lmdb_sift *w)
{
    *w = (struct lmdb_sift){.range = range, .after = after};
    return mdb_cursor_open(lmdb_snapshot_txn(e, queue), e->kv, &w->cursor);
}

void lmdb_sift_end(struct lmdb_sift *w)
{
    if (w->cursor)
        mdb_cursor_close(w->cursor);
    w->cursor = NULL;
}

struct lmdb_sift lmdb_txn_sift(struct lmdb_txn *t, struct store_range range)
{
    return (struct lmdb_sift){.cursor = t->kv, .range = range};
}

/* The entry to look at next, in the order of the pages. */
static int step(struct lmdb_sift *w, MDB_val *k, MDB_val *v)
{
    uint8_t first[8];
    struct slice from = w->after;
    int rc;

    if (w->begun)
        return mdb_cursor_get(w->cursor, k, v, MDB_NEXT);
    w->begun = true;
    bytes_put_token(first, w->range.first);
    if (slice_compare(from, slice_of(first, sizeof(first))) < 0)
        from = slice_of(first, sizeof(first));
    *k = lmdb_val(from);
    rc = mdb_cursor_get(w->cursor, k, v, MDB_SET_RANGE);
    if (rc == 0 && slice_equal(lmdb_slice(*k), w->after))
        rc = mdb_cursor_get(w->cursor, k, v, MDB_NEXT);
    return rc;
}

static bool is_beyond(const struct lmdb_sift *w, struct slice store_key)
{
    uint8_t last[8];

    bytes_put_token(last, w->range.last);
    return store_key.len >= sizeof(last) && memcmp(store_key.data, last, sizeof(last)) > 0;
}

int lmdb_sift_next(struct lmdb_sift *w, struct lmdb_record *ret)
{
    MDB_val k, v;
    int rc;

    for (*ret = (struct lmdb_record){0};; *ret = (struct lmdb_record){0}) {
        rc = step(w, &k, &v);
        if (rc != 0)
            return rc == MDB_NOTFOUND ? 0 : rc;
        ret->store_key = lmdb_slice(k);
        ret->error = store_key_decode(ret->store_key, &ret->token, &ret->key);
        if (ret->error == 0)
            ret->error = record_decode(ret->store_key, lmdb_slice(v), &ret->state);
        if (!is_beyond(w, ret->store_key)) {
            w->n_strays += w->n_beyond;
            w->n_beyond = 0;
            return 0;
        }
        if (ret->error == 0 || ++w->n_beyond > SIFT_BEYOND_MAX) {
            *ret = (struct lmdb_record){0};
            return 0;
        }
    }
}

/* ---- a scrub ------------------------------------------------------------------------------- */

static int fold_records(struct scrub_fold *f, struct lmdb_sift *w)
{
    struct lmdb_record rec;

    while (!scrub_fold_is_full(f)) {
        int rc = lmdb_sift_next(w, &rec);

        if (rc != 0)
            return lmdb_err(rc);
        if (!rec.store_key.len)
            return 1;
        if (rec.error == -ERR_FORMAT)
            return rec.error;
        if (rec.error < 0)
            scrub_fold_bad(f, rec.store_key);
        else
            scrub_fold_record(f, rec.store_key, rec.token, &rec.key, &rec.state);
    }
    return 0;
}

int lmdb_scrub_zone(struct lmdb_env *e, uint32_t queue, struct scrub_fold *f)
{
    uint8_t after[STORE_CURSOR_BYTES_MAX]; /* the fold moves on */
    size_t len = f->at.after_len;
    struct lmdb_sift w;
    int r;

    memcpy(after, f->at.after, len);
    r = lmdb_err(lmdb_sift_begin(e, queue, zone_range(f->at.zone), slice_of(after, len), &w));
    if (r == 0)
        r = fold_records(f, &w);
    f->out->n_bad += w.n_strays;
    lmdb_sift_end(&w);
    return r;
}
