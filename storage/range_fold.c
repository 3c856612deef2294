/* range_fold: see range_fold.h.
 *
 * A leaf is the XOR of the digests of its records, so the order of the walk does not matter, and
 * two replicas with the same records have the same leaves whatever engine holds them. max_version
 * is the newest version of any record, tombstones included: what a blind put must be above.
 */
#include "storage/range_fold.h"

#include "storage/merge.h"

void range_fold_init(struct range_fold *f, struct store_range range, uint64_t *leaves)
{
    *f = (struct range_fold){.first_leaf = range_leaf(range.first), .leaves = leaves};
    if (leaves)
        memset(leaves, 0, (range_leaf(range.last) - f->first_leaf + 1) * sizeof(*leaves));
}

void range_fold_add(struct range_fold *f, uint64_t token, const struct key *key,
                    const struct state *state, uint64_t lsn)
{
    range_fold_reveal(f, lsn);
    f->info.n_records++;
    f->info.n_tombstones += state->deleted;
    f->info.n_bytes += key->partition.len + key->sort.len + state->value.len;
    if (version_compare(state->version, f->info.max_version) > 0)
        f->info.max_version = state->version;
    if (f->leaves)
        f->leaves[range_leaf(token) - f->first_leaf] ^= merge_digest(key, state);
}
