/* store_log_table: a memtable and the wipes that lie over it.
 *
 * A wipe is not a deletion of entries: it is remembered with its LSN, and entries older than that
 * are not seen any more. So a wipe costs nothing where it happens, bytes lent out stay good, and
 * the apply finds both in their order. Wipes are kept per zone, because zones remember on disk
 * which of them are done.
 *
 * A table has a memtable for each sixteenth of the ring, one behind the other in key order. The
 * apply walks a frozen table in that order, and what it has behind it is given back at once: the
 * memory is the next table's. So a table may take nearly all of the budget before it is frozen, and
 * the fuller it is, the more of its records share a page on disk, which is what a put costs there.
 */
#include "storage/store_log_impl.h"

#include <stdlib.h>

struct table *table_new(void)
{
    struct table *t = calloc(1, sizeof(*t));

    if (!t)
        return NULL;
    for (uint32_t i = 0; i < TABLE_RANGES; i++) {
        t->ranges[i] = memtable_new();
        if (!t->ranges[i]) {
            table_free(t);
            return NULL;
        }
    }
    return t;
}

void table_free(struct table *t)
{
    if (!t)
        return;
    for (uint32_t i = 0; i < TABLE_RANGES; i++)
        memtable_free(t->ranges[i]);
    free(t->wipes);
    free(t);
}

/* ---- records ------------------------------------------------------------------------------- */

static uint32_t range_of(uint64_t token)
{
    return (uint32_t)(token >> (64 - TABLE_RANGE_BITS));
}

/* Of a store key: the token is big-endian. */
static uint32_t range_of_key(struct slice store_key)
{
    return store_key.len ? store_key.data[0] >> (8 - TABLE_RANGE_BITS) : 0;
}

size_t table_count(const struct table *t)
{
    size_t n = 0;

    for (uint32_t i = 0; i < TABLE_RANGES; i++)
        n += t->ranges[i] ? memtable_count(t->ranges[i]) : 0;
    return n;
}

void table_need_add(struct table_need *need, uint64_t token, size_t bytes)
{
    need->n[range_of(token)]++;
    need->bytes[range_of(token)] += bytes;
}

int table_reserve(struct table *t, const struct table_need *need)
{
    int r = 0;

    for (uint32_t i = 0; r == 0 && i < TABLE_RANGES; i++)
        if (need->n[i])
            r = memtable_reserve(t->ranges[i], need->n[i], need->bytes[i]);
    return r;
}

const struct memtable_entry *table_put(struct table *t, struct slice store_key,
                                       const struct state *state, uint64_t lsn, struct blob *owner)
{
    struct memtable *m = t->ranges[range_of_key(store_key)];
    const struct memtable_entry *e;

    t->n_bytes -= memtable_bytes(m);
    e = memtable_put(m, store_key, state, lsn, owner);
    t->n_bytes += memtable_bytes(m);
    return e;
}

bool table_put_newer(struct table *t, struct slice store_key, const struct state *state,
                     uint64_t lsn)
{
    struct memtable *m = t->ranges[range_of_key(store_key)];
    bool put;

    t->n_bytes -= memtable_bytes(m);
    put = memtable_put_newer(m, store_key, state, lsn) != NULL;
    t->n_bytes += memtable_bytes(m);
    return put;
}

const struct memtable_entry *table_get(const struct table *t, struct slice store_key)
{
    const struct memtable *m = t->ranges[range_of_key(store_key)];

    return m ? memtable_get(m, store_key) : NULL;
}

/* On to the first entry of a range from this one on. */
static void skip_to_entry(struct table_iter *it)
{
    while (!it->it.entry && ++it->range < TABLE_RANGES)
        if (it->table->ranges[it->range])
            memtable_seek(it->table->ranges[it->range], (struct slice){0}, &it->it);
    it->entry = it->it.entry;
}

void table_seek(const struct table *t, struct slice from, struct table_iter *ret)
{
    *ret = (struct table_iter){.table = t, .range = range_of_key(from)};
    if (t->ranges[ret->range])
        memtable_seek(t->ranges[ret->range], from, &ret->it);
    skip_to_entry(ret);
}

void table_next(struct table_iter *it)
{
    memtable_next(&it->it);
    skip_to_entry(it);
}

void table_give_back(struct table *t, uint32_t n)
{
    for (; t->n_given_back < n; t->n_given_back++) {
        struct memtable **m = &t->ranges[t->n_given_back];

        t->n_bytes -= memtable_bytes(*m);
        memtable_free(*m);
        *m = NULL;
    }
}

#define PAGE_BYTES 4096u
#define PAGE_HEADER_BYTES 16u
/* LMDB keeps at least two entries in a page; what is larger gets pages of its own. */
#define ENTRY_BYTES_MAX 2000u
/* Pages in the middle of a tree are about three quarters full. */
#define FILL_PART 3u

uint64_t table_disk_bytes(size_t key_len, size_t value_len)
{
    uint64_t record = RECORD_HEADER_BYTES + value_len, entry = key_len + record + 16;

    if (entry <= ENTRY_BYTES_MAX)
        return entry + entry / FILL_PART;
    return key_len + 32 + (record + PAGE_HEADER_BYTES + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
}

bool table_is_empty(const struct table *t)
{
    return t->n_bytes == 0 && t->n_wipes == 0;
}

uint64_t table_wiped(const struct table *t, uint64_t token, bool *ret_done)
{
    *ret_done = true;
    for (size_t i = t->n_wipes; i-- > 0;) {
        const struct table_wipe *w = &t->wipes[i];

        if (token < w->range.first || token > w->range.last)
            continue;
        *ret_done = w->done;
        return w->lsn;
    }
    return 0;
}

uint64_t table_wiped_until(const struct table *t, uint64_t token)
{
    uint64_t last = token;

    for (size_t i = 0; i < t->n_wipes; i++) {
        const struct table_wipe *w = &t->wipes[i];

        if (!w->done && !table_is_behind(t, w->range.first) && token >= w->range.first &&
            w->range.last > last && token <= w->range.last)
            last = w->range.last;
    }
    return last;
}

int table_find(const struct table *t, uint64_t token, struct slice store_key,
               const struct memtable_entry **ret)
{
    const struct memtable_entry *e = table_get(t, store_key);
    uint64_t wiped;
    bool done;

    *ret = e;
    if (t->n_wipes == 0)
        return e ? 1 : 0;
    wiped = table_wiped(t, token, &done);
    if (e && e->lsn > wiped)
        return 1;
    *ret = NULL;
    return wiped && !done ? 2 : 0;
}

static int wipes_reserve(struct table *t, size_t more)
{
    size_t cap = t->cap_wipes ? t->cap_wipes : 16;
    struct table_wipe *grown;

    while (cap < t->n_wipes + more)
        cap *= 2;
    if (cap == t->cap_wipes)
        return 0;
    grown = realloc(t->wipes, cap * sizeof(*grown));
    if (!grown)
        return -ERR_NO_MEMORY;
    t->wipes = grown;
    t->cap_wipes = cap;
    return 0;
}

int table_wipe(struct table *t, struct store_range range, uint64_t lsn, uint64_t number, bool done)
{
    uint32_t first = zone_of(range.first), last = zone_of(range.last);
    int r = wipes_reserve(t, last - first + 1);

    if (r < 0)
        return r;
    for (uint32_t z = first; z <= last; z++) {
        struct store_range part = zone_range(z);

        part.first = part.first > range.first ? part.first : range.first;
        part.last = part.last < range.last ? part.last : range.last;
        t->wipes[t->n_wipes++] =
            (struct table_wipe){.range = part, .lsn = lsn, .number = number, .done = done};
    }
    if (lsn > t->lsn_last)
        t->lsn_last = lsn;
    return 0;
}
