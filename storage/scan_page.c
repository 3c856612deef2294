/* scan_page: see scan_page.h. */
#include "storage/scan_page.h"

#include <string.h>

void scan_page_begin(struct scan_page *p, struct store_page *page, size_t bytes_max, uint64_t lsn)
{
    page->n = page->bytes = page->cursor_len = 0;
    page->lsn = lsn;
    page->more = false;
    *p = (struct scan_page){.page = page, .bytes_max = bytes_max};
}

bool scan_page_add(struct scan_page *p, struct slice store_key, const struct key *key,
                   const struct state *state, uint64_t lsn)
{
    struct store_page *page = p->page;
    size_t bytes = key->partition.len + key->sort.len + state->value.len;

    page->more = page->n == page->cap || (page->n > 0 && page->bytes + bytes > p->bytes_max);
    if (page->more)
        return false;
    page->items[page->n++] = (struct wire_record){.key = *key, .state = *state};
    page->bytes += bytes;
    page->lsn = lsn > page->lsn ? lsn : page->lsn;
    p->last = store_key;
    return true;
}

static void set_cursor(struct store_page *page, struct slice store_key)
{
    page->cursor_len = store_key.len <= sizeof(page->cursor) ? store_key.len : 0;
    if (page->cursor_len)
        memcpy(page->cursor, store_key.data, page->cursor_len);
}

int scan_page_end(struct scan_page *p, int r, struct slice failed)
{
    if (r < 0 && p->page->n == 0) {
        set_cursor(p->page, failed);
        return r;
    }
    p->page->more = p->page->more || r < 0;
    set_cursor(p->page, p->last);
    return 0;
}
