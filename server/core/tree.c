/* tree: see tree.h. */
#include "server/core/tree.h"

uint64_t tree_digest(const uint64_t *leaves, uint32_t n)
{
    uint64_t digest = 0;

    for (uint32_t i = 0; i < n; i++)
        digest ^= leaves[i];
    return digest;
}

void tree_parts(const uint64_t *leaves, uint32_t bits, uint32_t arc, uint64_t salt, uint32_t *out)
{
    uint32_t n_each = tree_n_leaves(tree_next_bits(bits));

    leaves += (size_t)arc * tree_n_leaves(bits);
    for (uint32_t i = 0; i < tree_n_parts(bits); i++) {
        uint64_t digest = tree_digest(leaves + (size_t)i * n_each, n_each);
        uint32_t part = (uint32_t)(digest * salt >> 48);

        out[i / 2] = i % 2 ? out[i / 2] | part << 16 : part;
    }
}
