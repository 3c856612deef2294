/* store_lmdb_sift: a walk that trusts nothing but checksums, for whoever looks for damage.
 *
 * Other walks follow the order of keys and stop where it is broken. A sift goes from entry to entry
 * as they stand in the pages, which one damaged key among them does not disturb:
 *
 *   a  b  [x]  c  d        x was a key between b and c, and a bit of it has flipped
 *
 * x may be above d, below a or beyond the range. It fails its checksum, which covers the key, so it
 * is told as damaged; c and d are told as ever. Only an entry whose checksum holds is believed to
 * be beyond the range, and so to be the end of it, or below it: from where a search leads the sift
 * steps back to such a one before it begins.
 *
 * Damage that keeps the order hides nobody: all searches for others go past it as before. What
 * breaks it (x above c, or not above b) leads searches astray, so that whole neighbours read as
 * absent and may be put a second time. So each entry is told with its order, which the whole ones
 * on either side decide; those after a damaged one are looked at ahead. If it is alone between two
 * that are in order, its key is not the one that it was put under: MISPLACED, nobody loses by its
 * removal. Of more than one side by side, or where whole ones are in no order, nobody can tell
 * which is at fault: UNSURE.
 *
 * Of two ranges that a damaged entry stands between, one is told of it: that of its key if it is in
 * order, else that of the whole entry before it.
 *
 * What it cannot: find entries in pages that no index page leads to.
 */
#include "storage/store_lmdb_impl.h"

#include "storage/bytes.h"
#include "storage/record.h"
#include "storage/scrub_fold.h"

/* Damaged entries in a row of which a whole one is looked for: some pages of them. */
#define SIFT_RUN_MAX 1024u
/* What LMDB keeps in front of a key in a leaf page; instead of a value that has pages of its own;
 * in front of that on these pages. The same in each of its data files, of 64 bits. */
#define NODE_HEADER_BYTES 8u
#define PAGE_NUMBER_BYTES 8u
#define PAGE_HEADER_BYTES 16u
#define PAGE_FLAGS_AT 10u
#define PAGE_FLAG_OVERFLOW 0x04u
#define PAGE_COUNT_AT 12u

static void sift_init(struct lmdb_sift *w, struct store_range range, struct slice after)
{
    *w = (struct lmdb_sift){.range = range, .first_entry = true};
    w->from_len = 8;
    bytes_put_token(w->from, range.first); /* shorter than any key */
    bytes_put_token(w->last, range.last);
    if (after.len > 0 && after.len <= sizeof(w->from) &&
        slice_compare(after, slice_of(w->from, w->from_len)) > 0) {
        w->from_len = after.len;
        memcpy(w->from, after.data, after.len);
    }
}

int lmdb_sift_begin(struct lmdb_env *e, uint32_t queue, struct store_range range,
                    struct slice after, struct lmdb_sift *w)
{
    sift_init(w, range, after);
    return mdb_cursor_open(lmdb_snapshot_txn(e, queue), e->kv, &w->cursor);
}

void lmdb_sift_end(struct lmdb_sift *w)
{
    if (w->cursor)
        mdb_cursor_close(w->cursor);
    w->cursor = NULL;
}

void lmdb_txn_sift(struct lmdb_txn *t, struct store_range range, struct lmdb_sift *w)
{
    sift_init(w, range, (struct slice){0});
    w->cursor = t->kv;
}

/* ---- entries ------------------------------------------------------------------------------- */

static void decode(MDB_val k, MDB_val v, struct lmdb_record *ret)
{
    *ret = (struct lmdb_record){.store_key = lmdb_slice(k)};
    ret->error = store_key_decode(ret->store_key, &ret->token, &ret->key);
    if (ret->error == 0)
        ret->error = record_decode(ret->store_key, lmdb_slice(v), &ret->state);
}

/* A newer format keeps the checksum where it is, and this one holds. */
static bool is_whole(const struct lmdb_record *rec)
{
    return rec->error != -ERR_CORRUPT;
}

static bool is_below(const struct lmdb_sift *w, struct slice store_key)
{
    return slice_compare(store_key, slice_of(w->from, w->from_len)) <= 0;
}

static bool is_beyond(const struct lmdb_sift *w, struct slice store_key)
{
    size_t len = store_key.len < sizeof(w->last) ? store_key.len : sizeof(w->last);

    return slice_compare(slice_of(store_key.data, len), slice_of(w->last, sizeof(w->last))) > 0;
}

static struct slice top_of(const struct lmdb_sift *w)
{
    return slice_of(w->top, w->top_len);
}

/* ---- where it begins ----------------------------------------------------------------------- */

/* A search may lead too far: back to a whole entry that is not behind the beginning. */
static int step_back(struct lmdb_sift *w, MDB_val *k, MDB_val *v)
{
    struct lmdb_record rec;
    int rc = 0;

    for (unsigned n = 0; rc == 0 && n < SIFT_RUN_MAX; n++) {
        decode(*k, *v, &rec);
        if (is_whole(&rec) && is_below(w, rec.store_key))
            return 0;
        rc = mdb_cursor_get(w->cursor, k, v, MDB_PREV);
    }
    return rc == MDB_NOTFOUND ? mdb_cursor_get(w->cursor, k, v, MDB_FIRST) : rc;
}

/* The entry to look at next, in the order of the pages. */
static int step(struct lmdb_sift *w, MDB_val *k, MDB_val *v)
{
    int rc;

    if (!w->first_entry)
        return mdb_cursor_get(w->cursor, k, v, MDB_NEXT);
    w->first_entry = false;
    *k = lmdb_val(slice_of(w->from, w->from_len));
    rc = mdb_cursor_get(w->cursor, k, v, MDB_SET_RANGE);
    if (rc == MDB_NOTFOUND)
        rc = mdb_cursor_get(w->cursor, k, v, MDB_LAST);
    return rc == 0 ? step_back(w, k, v) : rc;
}

/* ---- damaged ones -------------------------------------------------------------------------- */

/* How many there are side by side from here on, and the whole one behind them; then back. */
static int look_ahead(struct lmdb_sift *w)
{
    struct lmdb_record rec;
    MDB_val k, v;
    int rc = 0;

    w->n_run = 0;
    w->next_len = 0;
    do {
        rc = mdb_cursor_get(w->cursor, &k, &v, MDB_NEXT);
        if (rc == 0)
            decode(k, v, &rec);
        w->n_run++;
    } while (rc == 0 && !is_whole(&rec) && w->n_run < SIFT_RUN_MAX);
    w->run_ends = rc == MDB_NOTFOUND || (rc == 0 && is_whole(&rec));
    if (rc == 0 && is_whole(&rec)) {
        w->next_len = rec.store_key.len;
        memcpy(w->next, rec.store_key.data, w->next_len);
    }
    /* At the end LMDB stays at the last entry. */
    for (unsigned n = rc == MDB_NOTFOUND ? w->n_run - 1 : w->n_run; n > 0; n--) {
        int back = mdb_cursor_get(w->cursor, &k, &v, MDB_PREV);

        if (back != 0)
            return back;
    }
    return rc == MDB_NOTFOUND ? 0 : rc;
}

/* Whether it stands between its whole neighbours, and above the damaged one before it. */
static bool is_between(const struct lmdb_sift *w, struct slice store_key)
{
    struct slice next = slice_of(w->next, w->next_len);

    return store_key.len > 0 && slice_compare(store_key, top_of(w)) > 0 &&
           slice_compare(store_key, w->before) > 0 &&
           (next.len == 0 || slice_compare(store_key, next) < 0);
}

/* Whether what is out of order here is to be told to this range: behind where it begins. */
static bool is_told_of_strays(const struct lmdb_sift *w)
{
    if (w->top_len == 0)
        return w->range.first == 0;
    return w->strays || slice_compare(top_of(w), slice_of(w->from, w->from_len)) >= 0;
}

/* How it stands, and whether that is to be told to this range. */
static bool judge(struct lmdb_sift *w, struct lmdb_record *rec)
{
    struct slice next = slice_of(w->next, w->next_len);
    bool sure = !w->astray && w->run_ends && w->n_run == 1 &&
                (next.len == 0 || slice_compare(next, top_of(w)) > 0);

    if (!w->astray && is_between(w, rec->store_key)) {
        rec->order = LMDB_IN_ORDER;
        return !is_below(w, rec->store_key) && !is_beyond(w, rec->store_key);
    }
    rec->order = sure ? LMDB_MISPLACED : LMDB_UNSURE;
    return is_told_of_strays(w);
}

/* The next damaged entry: whether it is to be told. *ret_end: as good as the end of the range. */
static int meet_damaged(struct lmdb_sift *w, struct lmdb_record *rec, bool *ret_tell, bool *ret_end)
{
    MDB_val k, v;
    int rc;

    if (w->run_left == 0) {
        rc = look_ahead(w);
        if (rc == 0) /* looking has moved what was lent */
            rc = mdb_cursor_get(w->cursor, &k, &v, MDB_GET_CURRENT);
        if (rc != 0)
            return rc;
        decode(k, v, rec);
        w->run_left = w->n_run;
        w->before = (struct slice){0};
    }
    w->run_left--;
    *ret_tell = judge(w, rec);
    w->before = rec->store_key;
    *ret_end = !w->run_ends && is_beyond(w, rec->store_key);
    return 0;
}

/* ---- the walk ------------------------------------------------------------------------------ */

/* A whole entry: whether it is to be told. */
static bool meet_whole(struct lmdb_sift *w, struct lmdb_record *rec, bool *ret_end)
{
    w->run_left = 0;
    w->astray = w->top_len > 0 && slice_compare(rec->store_key, top_of(w)) <= 0;
    if (w->astray) {
        rec->order = LMDB_UNSURE;
        return is_told_of_strays(w);
    }
    *ret_end = is_beyond(w, rec->store_key);
    w->top_len = rec->store_key.len;
    memcpy(w->top, rec->store_key.data, w->top_len);
    return !is_below(w, rec->store_key);
}

int lmdb_sift_next(struct lmdb_sift *w, struct lmdb_record *ret)
{
    bool tell = false, end = false;
    MDB_val k, v;
    int rc;

    while (!tell) {
        rc = step(w, &k, &v);
        if (rc != 0)
            return rc == MDB_NOTFOUND ? LMDB_SIFT_END : rc;
        decode(k, v, ret);
        if (is_whole(ret))
            tell = meet_whole(w, ret, &end);
        else
            rc = meet_damaged(w, ret, &tell, &end);
        if (rc != 0 || end)
            return rc != 0 ? rc : LMDB_SIFT_END;
    }
    return 0;
}

/* ---- removal ------------------------------------------------------------------------------- */

/* The bytes of an entry in its page. */
struct spot {
    const uint8_t *start, *end;
    ptrdiff_t page_bytes;
    bool clear; /* of its neighbours */
    bool below; /* one of them, so it is not the last in its page */
};

static void look_at_neighbour(struct spot *s, const MDB_val *key)
{
    const uint8_t *other = (const uint8_t *)key->mv_data - NODE_HEADER_BYTES;

    s->below = s->below || other >= s->end;
    s->clear = s->clear && (other < s->start || other >= s->end);
}

/* At all on one side of it that may be of its page; then back. rc */
static int look_aside(MDB_cursor *cursor, MDB_cursor_op there, MDB_cursor_op back, struct spot *s)
{
    unsigned n = 0;
    MDB_val k, v;
    int rc = mdb_cursor_get(cursor, &k, &v, there);

    for (; rc == 0; n++) {
        ptrdiff_t distance = (const uint8_t *)k.mv_data - s->start;

        if (distance >= s->page_bytes || -distance >= s->page_bytes)
            break;
        look_at_neighbour(s, &k);
        rc = mdb_cursor_get(cursor, &k, &v, there);
    }
    n += rc == 0; /* that one is too far away */
    for (rc = rc == MDB_NOTFOUND ? 0 : rc; rc == 0 && n > 0; n--)
        rc = mdb_cursor_get(cursor, &k, &v, back);
    return rc;
}

/* Whether a value that is not behind its key is on pages of its own, as many as it needs. */
static bool is_on_own_pages(const MDB_val *value, size_t page_bytes)
{
    const uint8_t *page = (const uint8_t *)value->mv_data - PAGE_HEADER_BYTES;
    uint16_t flags;
    uint32_t n;

    memcpy(&flags, page + PAGE_FLAGS_AT, sizeof(flags));
    memcpy(&n, page + PAGE_COUNT_AT, sizeof(n));
    return flags == PAGE_FLAG_OVERFLOW &&
           n == (PAGE_HEADER_BYTES + value->mv_size + page_bytes - 1) / page_bytes;
}

/* LMDB closes the gap that an entry leaves by what its header says of its length, and gives back
 * the pages that the header names: one that may be damaged must lie in its page, clear of all
 * others, and so must its pages. */
static int is_sound(struct lmdb_txn *t, bool *ret)
{
    struct spot s = {.clear = true};
    MDB_val k, v;
    MDB_stat st;
    int rc = mdb_stat(t->txn, t->e->kv, &st);

    if (rc == 0)
        rc = mdb_cursor_get(t->kv, &k, &v, MDB_GET_CURRENT);
    if (rc != 0)
        return rc;
    s.page_bytes = (ptrdiff_t)st.ms_psize;
    s.start = (const uint8_t *)k.mv_data - NODE_HEADER_BYTES;
    s.end = (const uint8_t *)k.mv_data + k.mv_size;
    *ret = v.mv_data == s.end || is_on_own_pages(&v, st.ms_psize);
    s.end += v.mv_data == s.end ? v.mv_size : PAGE_NUMBER_BYTES;
    rc = look_aside(t->kv, MDB_NEXT, MDB_PREV, &s);
    if (rc == 0)
        rc = look_aside(t->kv, MDB_PREV, MDB_NEXT, &s);
    /* Where its page ends is known as long as that is one of the file's. */
    if (!s.below)
        s.clear = s.clear && !t->touched &&
                  (uintptr_t)s.start / st.ms_psize == (uintptr_t)(s.end - 1) / st.ms_psize;
    *ret = *ret && s.clear;
    return rc;
}

int lmdb_txn_remove(struct lmdb_txn *t, bool *ret_removed)
{
    int rc = is_sound(t, ret_removed);

    return rc == 0 && *ret_removed ? lmdb_txn_delete(t) : rc;
}

/* ---- a scrub ------------------------------------------------------------------------------- */

static int fold_records(struct scrub_fold *f, struct lmdb_sift *w)
{
    struct lmdb_record rec;

    while (!scrub_fold_is_full(f)) {
        int rc = lmdb_sift_next(w, &rec);

        if (rc != 0)
            return rc == LMDB_SIFT_END ? 1 : lmdb_err(rc);
        if (rec.error == -ERR_FORMAT)
            return rec.error;
        if (rec.order != LMDB_IN_ORDER)
            scrub_fold_misplaced(f, rec.store_key, rec.error < 0);
        else if (rec.error < 0)
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
    lmdb_sift_end(&w);
    return r;
}
