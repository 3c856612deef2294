/* store_lmdb_look: the plain store's reads.
 *
 * The first read of a wake-up takes a snapshot, read_end gives it back. If the queue has reaped an
 * outcome newer than that, it reads from a second one and keeps the first for the bytes it has
 * handed out, up to the environment's bound; then -ERR_FULL until read_end. What LMDB shows is
 * durable, so every lsn returned is 0. A scrub is a read like the others here; there are no
 * summaries to compare with.
 */
#include "storage/fault_guard.h"
#include "storage/range_fold.h"
#include "storage/scan_page.h"
#include "storage/scrub_fold.h"
#include "storage/store_lmdb_plain.h"

/* A snapshot that shows all that the queue has reaped. */
static int look_begin(struct store_lmdb *s, uint32_t queue)
{
    uint64_t durable;
    int r;

    if (lmdb_snapshot_open(&s->env, queue) &&
        s->committer.queue.ports[queue].lsn_reaped <= s->snapshot_lsn[queue])
        return 0;
    /* Before the snapshot: it shows at least this. */
    durable = atomic_load_explicit(&s->committer.durable, memory_order_acquire);
    r = lmdb_snapshot_next(&s->env, queue);
    if (r == 0)
        s->snapshot_lsn[queue] = durable;
    return r;
}

void lmdb_read_end(struct store *store, uint32_t queue)
{
    lmdb_snapshots_end(&lmdb_of(store)->env, queue);
}

int lmdb_get(struct store *store, uint32_t queue, uint64_t token, const struct key *key,
             struct state *ret, uint64_t *ret_lsn)
{
    struct store_lmdb *s = lmdb_of(store);
    uint8_t bytes[STORE_KEY_BYTES_MAX];
    size_t len = store_key_encode(token, key, bytes);
    int r = look_begin(s, queue);

    if (r == 0)
        r = lmdb_env_get(&s->env, queue, slice_of(bytes, len), ret);
    if (r == 0)
        *ret_lsn = 0;
    return r;
}

int lmdb_meta_get(struct store *store, uint32_t queue, struct slice name, struct buf *out)
{
    struct store_lmdb *s = lmdb_of(store);
    uint8_t bytes[META_NAME_BYTES_MAX];
    struct slice value = {0};
    int r;

    if (name.len == 0 || name.len > STORE_META_NAME_MAX)
        return 1;
    r = look_begin(s, queue);
    if (r == 0)
        r = lmdb_env_fact(&s->env, queue, lmdb_fact_name(name, bytes), &value);
    return r == 0 ? buf_append_slice(out, value) : r;
}

int lmdb_scan(struct store *store, uint32_t queue, struct store_range range, struct slice cursor,
              size_t bytes_max, struct store_page *page)
{
    struct store_lmdb *s = lmdb_of(store);
    uint8_t after[STORE_CURSOR_BYTES_MAX]; /* the caller's cursor may be page->cursor itself */
    struct scan_page fill;
    struct lmdb_walk w;
    int r;

    if (cursor.len > sizeof(after))
        return -ERR_BAD_REQUEST;
    r = look_begin(s, queue);
    if (r < 0)
        return r;
    if (cursor.len)
        memcpy(after, cursor.data, cursor.len);
    scan_page_begin(&fill, page, bytes_max, 0);
    r = lmdb_walk_first(&s->env, queue, range, slice_of(after, cursor.len), &w);
    while (r == 0 && scan_page_add(&fill, w.store_key, &w.key, &w.state, 0))
        r = lmdb_walk_next(&w);
    r = scan_page_end(&fill, r, w.store_key);
    lmdb_walk_end(&s->env, queue, &w, r);
    return r;
}

static int fold(struct store *store, uint32_t queue, struct store_range range, struct range_fold *f)
{
    struct store_lmdb *s = lmdb_of(store);
    struct lmdb_walk w;
    int r = look_begin(s, queue);

    if (r < 0)
        return r;
    r = lmdb_walk_first(&s->env, queue, range, (struct slice){0}, &w);
    for (; r == 0 || (r == -ERR_CORRUPT && w.store_key.len > 0); r = lmdb_walk_next(&w))
        if (r == 0)
            range_fold_add(f, w.token, &w.key, &w.state, 0);
    lmdb_walk_end(&s->env, queue, &w, r);
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

int lmdb_leaves(struct store *store, uint32_t queue, struct store_range range, uint64_t *ret,
                uint64_t *ret_lsn)
{
    struct range_fold f;

    *ret_lsn = 0;
    range_fold_init(&f, range, ret);
    return fold(store, queue, range, &f);
}

static int scrub_slice(struct store_lmdb *s, uint32_t queue, const struct store_scrub_place *from,
                       size_t bytes_max)
{
    struct scrub_fold f;
    int r = look_begin(s, queue);

    scrub_fold_begin(&f, NULL, from, bytes_max, &s->scrub.out);
    if (r < 0)
        return r;
    fault_guard_enter();
    r = lmdb_scrub_zone(&s->env, queue, &f);
    fault_guard_leave();
    if (r >= 0 && scrub_fold_end(&f, r == 1))
        r = -ERR_CORRUPT; /* there is no summary: records stand in no order */
    return r;
}

int lmdb_scrub(struct store *store, uint32_t queue, const struct store_scrub_place *from,
               size_t bytes_max)
{
    struct store_lmdb *s = lmdb_of(store);
    int r;

    if (!scrub_box_claim(&s->scrub, queue))
        return -ERR_FULL;
    r = scrub_slice(s, queue, from, bytes_max);
    if (r < 0)
        scrub_fold_fail(&s->scrub.out, from, r);
    scrub_box_filled(&s->scrub);
    s->committer.config.notify(s->committer.config.ctx, queue);
    return 0;
}

bool lmdb_scrubbed(struct store *store, uint32_t queue, struct store_scrub *ret)
{
    return scrub_box_empty(&lmdb_of(store)->scrub, queue, ret);
}
