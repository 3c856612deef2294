/* range_fold: counts and tree leaves of a range, added up record by record. Pure. For engines that
 * keep no counts of their own: the walk is theirs, the sums are here.
 */
#ifndef QUOIT_STORAGE_RANGE_FOLD_H
#define QUOIT_STORAGE_RANGE_FOLD_H

#include "storage/store.h"

struct range_fold {
    struct store_info info;
    uint64_t first_leaf;
    uint64_t *leaves; /* the caller's, one per leaf of the range; NULL: not wanted */
};

static inline uint64_t range_leaf(uint64_t token)
{
    return token >> (64 - STORE_LEAF_BITS);
}

/* leaves is cleared. */
void range_fold_init(struct range_fold *f, struct store_range range, uint64_t *leaves);
/* A record of the range, and the LSN that it reveals. */
void range_fold_add(struct range_fold *f, uint64_t token, const struct key *key,
                    const struct state *state, uint64_t lsn);
static inline void range_fold_reveal(struct range_fold *f, uint64_t lsn)
{
    f->info.lsn = lsn > f->info.lsn ? lsn : f->info.lsn;
}

#endif
