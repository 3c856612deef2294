/* store_log_table: a memtable and the wipes that lie over it.
 *
 * A wipe is not a deletion of entries: it is remembered with its LSN, and entries older than that
 * are not seen any more. So a wipe costs nothing where it happens, bytes lent out stay good, and
 * the apply finds both in their order. Wipes are kept per zone, because zones remember on disk
 * which of them are done.
 */
#include "storage/store_log_impl.h"

#include <stdlib.h>

struct table *table_new(void)
{
    struct table *t = calloc(1, sizeof(*t));

    if (!t)
        return NULL;
    t->records = memtable_new();
    if (!t->records) {
        free(t);
        return NULL;
    }
    return t;
}

void table_free(struct table *t)
{
    if (!t)
        return;
    memtable_free(t->records);
    free(t->wipes);
    free(t);
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
    return memtable_count(t->records) == 0 && t->n_wipes == 0;
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

        if (!w->done && token >= w->range.first && w->range.last > last && token <= w->range.last)
            last = w->range.last;
    }
    return last;
}

int table_find(const struct table *t, uint64_t token, struct slice store_key,
               const struct memtable_entry **ret)
{
    const struct memtable_entry *e = memtable_get(t->records, store_key);
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
