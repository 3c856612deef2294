/* store_log_read: what an owner sees: its active table, its frozen table, the snapshot on disk.
 *
 * The first of the three that knows a key has its newest state, for each is written only after the
 * one before it was looked at. There is one exception: a load goes to disk past the tables, so
 * while one is under way, and for entries that are older than its end, both are looked at and the
 * newer version wins. What a wipe in the tables covers is not looked up on disk at all: it may be
 * there still.
 *
 * The snapshot is taken once per wake-up, after the tables that the apply has finished were
 * dropped: a frozen table and a snapshot that shows its records may stand side by side, the other
 * way round a key would vanish for a moment. Reads of the disk reveal nothing that is not durable;
 * an entry of a table reveals its LSN, and so does a wipe that leaves nothing to see.
 */
#include "storage/store_log_impl.h"

#include <stdlib.h>

#include "storage/bytes.h"
#include "storage/merge.h"
#include "storage/range_fold.h"
#include "storage/scan_page.h"

void part_begin(struct store_log *s, uint32_t queue)
{
    struct part *p = &s->parts[queue];

    if (p->read)
        return;
    part_chores(s, queue);
    p->read = true;
}

/* A snapshot, if there is none. */
static int part_look(struct store_log *s, uint32_t queue)
{
    part_begin(s, queue);
    return lmdb_snapshot_open(&s->env, queue) ? 0 : lmdb_snapshot_next(&s->env, queue);
}

void part_end(struct store_log *s, uint32_t queue)
{
    part_note_reads(&s->parts[queue]);
    lmdb_snapshots_end(&s->env, queue);
    s->parts[queue].read = false;
    part_free_retired(&s->parts[queue]);
    /* Could not be reaped while so much was lent. */
    if (atomic_load(&s->parts[queue].has_loaded) || part_has_purged(&s->parts[queue]))
        s->config.notify(s->config.ctx, queue);
    part_chores(s, queue);
}

void store_log_read_end(struct store *store, uint32_t queue)
{
    part_end(log_of(store), queue);
}

/* Active, then frozen: as table_find. */
static int tables_find(const struct part *p, uint64_t token, struct slice store_key,
                       const struct memtable_entry **ret)
{
    int found = table_find(p->active, token, store_key, ret);

    if (found == 0 && p->frozen && !table_is_behind(p->frozen, token))
        found = table_find(p->frozen, token, store_key, ret);
    return found;
}

/* The LSN of the wipe in the tables that hides what the disk holds; 0: there is none. */
static uint64_t disk_hidden_by(const struct part *p, uint64_t token)
{
    const struct table *tables[2] = {p->active, p->frozen};

    for (int i = 0; i < 2 && tables[i]; i++) {
        bool done;
        uint64_t lsn = table_wiped(tables[i], token, &done);

        if (lsn && !done && !table_is_behind(tables[i], token))
            return lsn;
    }
    return 0;
}

static bool must_look_twice(const struct part *p, uint64_t lsn)
{
    return p->n_loading > 0 || lsn <= p->loaded_lsn;
}

int part_find(struct store_log *s, uint32_t queue, uint64_t token, struct slice store_key,
              struct state *ret, uint64_t *ret_lsn)
{
    struct part *p = &s->parts[queue];
    const struct memtable_entry *e;
    uint64_t hidden_by;
    struct state disk;
    int found, r;

    part_begin(s, queue);
    found = tables_find(p, token, store_key, &e);
    hidden_by = disk_hidden_by(p, token);
    *ret = found == 1 ? memtable_state(e) : (struct state){0};
    *ret_lsn = found == 1 ? e->lsn : hidden_by;
    if (hidden_by || (found == 1 && !must_look_twice(p, e->lsn)))
        return 0;
    part_count_read(p);
    r = part_look(s, queue);
    if (r == 0)
        r = lmdb_env_get(&s->env, queue, store_key, &disk);
    if (r < 0)
        return r;
    if (merge_states(ret, &disk) == OUTCOME_STORED) {
        *ret = disk;
        *ret_lsn = 0;
    }
    return 0;
}

bool part_needs_disk(struct store_log *s, uint32_t queue, uint64_t token, struct slice store_key)
{
    const struct part *p = &s->parts[queue];
    const struct memtable_entry *e;

    if (disk_hidden_by(p, token))
        return false;
    return tables_find(p, token, store_key, &e) != 1 || must_look_twice(p, e->lsn);
}

/* 0: it is durable already. */
static uint64_t lsn_to_wait_for(const struct store_log *s, uint64_t lsn)
{
    return lsn && lsn > log_durable(s->log) ? lsn : 0;
}

int store_log_get(struct store *store, uint32_t queue, uint64_t token, const struct key *key,
                  struct state *ret, uint64_t *ret_lsn)
{
    uint8_t bytes[STORE_KEY_BYTES_MAX];
    size_t len = store_key_encode(token, key, bytes);

    struct store_log *s = log_of(store);
    int r = part_find(s, queue, token, slice_of(bytes, len), ret, ret_lsn);

    *ret_lsn = lsn_to_wait_for(s, *ret_lsn);
    return r;
}

/* ---- the merged walk ----------------------------------------------------------------------- */

/* The three sources of a part side by side, in key order. */
struct merge_walk {
    struct store_log *s;
    uint32_t queue;
    struct store_range range;
    uint8_t last_bytes[8], next_bytes[8];
    const struct table *table[2];
    struct table_iter it[2];
    struct lmdb_walk disk;
    int disk_r; /* what the walk on disk said: 0 a record, 1 the end, negative */
    /* the current record */
    struct slice store_key;
    uint64_t token;
    struct key key;
    struct state state;
    uint64_t lsn;
};

/* An entry beyond the range is as good as none. */
static const struct memtable_entry *entry_at(const struct merge_walk *w, int i)
{
    const struct memtable_entry *e = w->table[i] ? w->it[i].entry : NULL;

    return e && memcmp(e->key, w->last_bytes, sizeof(w->last_bytes)) <= 0 ? e : NULL;
}

static int walk_open(struct merge_walk *w, struct store_log *s, uint32_t queue,
                     struct store_range range, struct slice after)
{
    struct part *p = &s->parts[queue];
    uint8_t first[8];
    struct slice from = after;
    int r = part_look(s, queue);

    if (r < 0)
        return r;
    *w = (struct merge_walk){.s = s, .queue = queue, .range = range};
    bytes_put_token(first, range.first);
    bytes_put_token(w->last_bytes, range.last);
    if (slice_compare(from, slice_of(first, sizeof(first))) < 0)
        from = slice_of(first, sizeof(first));
    w->table[0] = p->active;
    w->table[1] = p->frozen;
    for (int i = 0; i < 2; i++) {
        if (!w->table[i])
            continue;
        table_seek(w->table[i], from, &w->it[i]);
        if (w->it[i].entry && slice_equal(memtable_key(w->it[i].entry), after))
            table_next(&w->it[i]);
    }
    w->disk_r = lmdb_walk_first(&s->env, queue, range, after, &w->disk);
    return 0;
}

static void walk_close(struct merge_walk *w)
{
    lmdb_walk_end(&w->s->env, w->queue, &w->disk, w->disk_r);
}

static bool disk_has_key(const struct merge_walk *w)
{
    return w->disk_r == 0 || (w->disk_r < 0 && w->disk.store_key.len > 0);
}

/* The least key among the three; false: all are at their end, or the disk failed without a key. */
static bool least_key(const struct merge_walk *w, struct slice *ret)
{
    bool any = false;

    for (int i = 0; i < 2; i++) {
        const struct memtable_entry *e = entry_at(w, i);

        if (e && (!any || slice_compare(memtable_key(e), *ret) < 0)) {
            *ret = memtable_key(e);
            any = true;
        }
    }
    if (disk_has_key(w) && (!any || slice_compare(w->disk.store_key, *ret) < 0)) {
        *ret = w->disk.store_key;
        any = true;
    }
    return any;
}

/* The merged state of the key at which some of the sources stand. 0, or what the disk said. */
static int walk_merge(struct merge_walk *w)
{
    struct part *p = &w->s->parts[w->queue];
    bool on_disk = disk_has_key(w) && slice_equal(w->disk.store_key, w->store_key);
    const struct memtable_entry *e = NULL;
    int found, r = store_key_decode(w->store_key, &w->token, &w->key);

    if (r < 0)
        return r;
    found = tables_find(p, w->token, w->store_key, &e);
    w->state = found == 1 ? memtable_state(e) : (struct state){0};
    w->lsn = found == 1 ? e->lsn : 0;
    if (!on_disk || disk_hidden_by(p, w->token) || (found == 1 && !must_look_twice(p, e->lsn)))
        return 0;
    if (w->disk_r < 0)
        return w->disk_r;
    if (merge_states(&w->state, &w->disk.state) == OUTCOME_STORED) {
        w->state = w->disk.state;
        w->lsn = 0;
    }
    return 0;
}

/* What a wipe in the tables covers may be there still: the walk on disk goes around it. */
static void skip_wiped(struct merge_walk *w)
{
    const struct part *p = &w->s->parts[w->queue];

    while (w->disk_r == 0 && disk_hidden_by(p, w->disk.token)) {
        uint64_t last = w->disk.token;

        for (int i = 0; i < 2; i++)
            last = w->table[i] ? table_wiped_until(w->table[i], last) : last;
        if (last >= w->range.last) {
            w->disk_r = 1;
            return;
        }
        bytes_put_token(w->next_bytes, last + 1);
        w->disk_r = lmdb_walk_seek(&w->disk, slice_of(w->next_bytes, sizeof(w->next_bytes)));
    }
}

/* Past the current key, in every source that stands on it. */
static void walk_step(struct merge_walk *w)
{
    struct slice key = w->store_key;

    for (int i = 0; i < 2; i++) {
        const struct memtable_entry *e = entry_at(w, i);

        if (e && slice_equal(memtable_key(e), key))
            table_next(&w->it[i]);
    }
    if (disk_has_key(w) && slice_equal(w->disk.store_key, key))
        w->disk_r = lmdb_walk_next(&w->disk);
}

/* The next record that is there. 0; 1: the end; negative: w->store_key names the bad record, or is
 * empty. Call walk_step between. */
static int walk_next(struct merge_walk *w)
{
    int r;

    for (;;) {
        w->store_key = (struct slice){0};
        skip_wiped(w);
        if (w->disk_r < 0 && w->disk.store_key.len == 0)
            return w->disk_r; /* what comes next on disk cannot be told */
        if (!least_key(w, &w->store_key))
            return w->disk_r < 0 ? w->disk_r : 1;
        r = walk_merge(w);
        if (r < 0 || w->state.kind != STATE_NONE)
            return r;
        walk_step(w);
    }
}

/* ---- scan ---------------------------------------------------------------------------------- */

static int page_fill(struct scan_page *fill, struct merge_walk *w)
{
    int r = walk_next(w);

    while (r == 0 && scan_page_add(fill, w->store_key, &w->key, &w->state, w->lsn)) {
        walk_step(w);
        r = walk_next(w);
    }
    return scan_page_end(fill, r, w->store_key);
}

/* Of the wipes of the range that are in the tables and not durable, the last one's LSN; 0: none. */
static uint64_t range_wiped(const struct store_log *s, const struct part *p,
                            struct store_range range)
{
    const struct table *tables[2] = {p->active, p->frozen};
    uint64_t durable = log_durable(s->log);

    for (int i = 0; i < 2 && tables[i]; i++) {
        for (size_t n = tables[i]->n_wipes; n-- > 0;) {
            const struct table_wipe *w = &tables[i]->wipes[n];

            if (w->lsn <= durable)
                return 0;
            if (w->range.first <= range.last && w->range.last >= range.first)
                return w->lsn;
        }
    }
    return 0;
}

int store_log_scan(struct store *store, uint32_t queue, struct store_range range,
                   struct slice cursor, size_t bytes_max, struct store_page *page)
{
    uint8_t after[STORE_CURSOR_BYTES_MAX]; /* the caller's cursor may be page->cursor itself */
    struct part *p = &log_of(store)->parts[queue];
    uint64_t faults = part_faults_begin();
    struct scan_page fill;
    struct merge_walk w;
    int r;

    if (cursor.len > sizeof(after))
        return -ERR_BAD_REQUEST;
    if (cursor.len)
        memcpy(after, cursor.data, cursor.len);
    scan_page_begin(&fill, page, bytes_max, 0);
    r = walk_open(&w, log_of(store), queue, range, slice_of(after, cursor.len));
    if (r < 0)
        return r;
    page->lsn = range_wiped(w.s, &w.s->parts[queue], range);
    r = page_fill(&fill, &w);
    page->lsn = lsn_to_wait_for(log_of(store), page->lsn);
    walk_close(&w);
    part_faults_end(p, faults);
    return r;
}

/* ---- sums ---------------------------------------------------------------------------------- */

static int fold_range(struct store_log *s, uint32_t queue, struct store_range range,
                      struct range_fold *f)
{
    struct merge_walk w;
    int r = walk_open(&w, s, queue, range, (struct slice){0});

    if (r < 0)
        return r;
    r = walk_next(&w);
    for (; r == 0 || (r == -ERR_CORRUPT && w.store_key.len > 0); r = walk_next(&w)) {
        if (r == 0) /* what is damaged counts nothing, as in a summary that is made anew */
            range_fold_add(f, w.token, &w.key, &w.state, w.lsn);
        walk_step(&w);
    }
    walk_close(&w);
    return r < 0 ? r : 0;
}

static bool table_has_wipes(const struct table *t)
{
    return t && t->n_wipes > 0;
}

/* What the entries of the tables change about a zone as it is on disk. */
static int zone_overlay(struct store_log *s, uint32_t queue, uint32_t number, struct zone *z,
                        uint64_t *ret_lsn)
{
    struct part *p = &s->parts[queue];
    const struct table *tables[2] = {p->active, p->frozen};
    struct store_range range = zone_range(number);
    struct table_iter it;
    struct state old, now;
    struct key key;
    uint64_t token, lsn = 0;
    uint8_t first[8];

    bytes_put_token(first, range.first);
    for (int i = 0; i < 2 && tables[i]; i++) {
        table_seek(tables[i], slice_of(first, sizeof(first)), &it);
        for (; it.entry; table_next(&it)) {
            struct slice store_key = memtable_key(it.entry);
            int r = store_key_decode(store_key, &token, &key);

            if (r < 0)
                return r;
            if (token > range.last)
                break;
            if (i == 1 && table_get(p->active, store_key))
                continue; /* told already */
            r = lmdb_env_get(&s->env, queue, store_key, &old);
            if (r == 0)
                r = part_find(s, queue, token, store_key, &now, &lsn);
            if (r < 0)
                return r;
            zone_change(z, token, &key, &old, &now);
            *ret_lsn = lsn > *ret_lsn ? lsn : *ret_lsn;
        }
    }
    return 0;
}

/* A whole zone: what is on disk, and the tables' entries over it. */
static int zone_sum(struct store_log *s, uint32_t queue, uint32_t number, struct zone *z,
                    uint64_t *ret_lsn)
{
    struct slice bytes;
    int r = part_look(s, queue);

    *ret_lsn = 0;
    memset(z, 0, sizeof(*z));
    if (r < 0)
        return r;
    r = lmdb_env_zone(&s->env, queue, number, &bytes);
    if (r == 0)
        r = zone_decode(bytes, number, z);
    return r < 0 ? r : zone_overlay(s, queue, number, z, ret_lsn);
}

static void fold_zone(struct range_fold *f, uint32_t number, const struct zone *z, uint64_t lsn)
{
    uint64_t first = range_leaf(zone_range(number).first) - f->first_leaf;

    range_fold_reveal(f, lsn);
    f->info.n_records += z->info.n_records;
    f->info.n_tombstones += z->info.n_tombstones;
    f->info.n_bytes += z->info.n_bytes;
    if (version_compare(z->info.max_version, f->info.max_version) > 0)
        f->info.max_version = z->info.max_version;
    for (uint32_t i = 0; f->leaves && i < ZONE_LEAVES; i++)
        f->leaves[first + i] ^= z->leaves[i];
}

/* Whole zones from their summaries, the rest by walking. */
static int sum_range(struct store_log *s, uint32_t queue, struct store_range range,
                     struct range_fold *f)
{
    struct part *p = &s->parts[queue];
    bool walk_all = table_has_wipes(p->active) || table_has_wipes(p->frozen);
    struct zone *z = malloc(sizeof(*z));
    int r = z ? 0 : -ERR_NO_MEMORY;
    uint64_t lsn, faults = part_faults_begin();

    range_fold_reveal(f, range_wiped(s, p, range));
    for (uint32_t n = zone_of(range.first); r == 0 && n <= zone_of(range.last); n++) {
        struct store_range zone = zone_range(n), part = zone;

        part.first = part.first > range.first ? part.first : range.first;
        part.last = part.last < range.last ? part.last : range.last;
        if (walk_all || part.first != zone.first || part.last != zone.last) {
            r = fold_range(s, queue, part, f);
            continue;
        }
        r = zone_sum(s, queue, n, z, &lsn);
        if (r == 0)
            fold_zone(f, n, z, lsn);
        else if (r == -ERR_CORRUPT) /* the summary, or a record: the walk tells */
            r = fold_range(s, queue, zone, f);
    }
    free(z);
    part_faults_end(p, faults);
    f->info.lsn = lsn_to_wait_for(s, f->info.lsn);
    return r;
}

/* The highest version that its zones have ever seen: a bound. Of a zone whose summary was damaged
 * nothing is known but what is there. */
static void raise_to_zones(const struct store_log *s, struct store_range range, struct version *max)
{
    for (uint32_t n = zone_of(range.first); n <= zone_of(range.last); n++)
        if (s->zone_max[n].hlc != UINT64_MAX && version_compare(s->zone_max[n], *max) > 0)
            *max = s->zone_max[n];
}

int store_log_vnode_info(struct store *store, uint32_t queue, struct store_range range,
                         struct store_info *ret)
{
    struct store_log *s = log_of(store);
    struct range_fold f;
    int r;

    range_fold_init(&f, range, NULL);
    r = sum_range(s, queue, range, &f);
    if (r < 0)
        return r;
    raise_to_zones(s, range, &f.info.max_version);
    *ret = f.info;
    return 0;
}

int store_log_meta_get(struct store *store, uint32_t queue, struct slice name, struct buf *out)
{
    struct store_log *s = log_of(store);
    uint8_t bytes[META_NAME_BYTES_MAX];
    struct slice value = {0};
    int r;

    if (name.len == 0 || name.len > STORE_META_NAME_MAX)
        return 1;
    name = lmdb_fact_name(name, bytes);
    r = facts_get(s, name, out);
    if (r <= 0)
        return r;
    r = part_look(s, queue);
    if (r == 0)
        r = lmdb_env_fact(&s->env, queue, name, &value);
    return r == 0 ? buf_append_slice(out, value) : r;
}

int store_log_leaves(struct store *store, uint32_t queue, struct store_range range, uint64_t *ret,
                     uint64_t *ret_lsn)
{
    struct range_fold f;
    int r;

    range_fold_init(&f, range, ret);
    r = sum_range(log_of(store), queue, range, &f);
    if (r == 0)
        *ret_lsn = f.info.lsn;
    return r;
}
