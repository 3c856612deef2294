/* scan_page: filling the page of a scan (store.h), as both engines on disk do. The model does it in
 * its own words, to be compared with. */
#ifndef QUOIT_STORAGE_SCAN_PAGE_H
#define QUOIT_STORAGE_SCAN_PAGE_H

#include "storage/store.h"

struct scan_page {
    struct store_page *page;
    size_t bytes_max;
    struct slice last; /* store key of the last record on it */
};

/* Empties the page, which reveals lsn even if it stays so. */
void scan_page_begin(struct scan_page *p, struct store_page *page, size_t bytes_max, uint64_t lsn);
/* False: it begins the next page. */
bool scan_page_add(struct scan_page *p, struct slice store_key, const struct key *key,
                   const struct state *state, uint64_t lsn);
/* Sets the cursor. r: what the walk said after the last record, negative if it failed at `failed`
 * (which may be empty). Returns what the scan says: what failed begins the next page, if there is
 * anything on this one. */
int scan_page_end(struct scan_page *p, int r, struct slice failed);

#endif
