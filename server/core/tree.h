/* tree: the hash tree of a partition, from its leaves.
 *
 * A leaf is a 2^20th of the ring and its digest the XOR of its records' (storage/merge.h); an arc's
 * is the XOR of its leaves'. Levels stand at the partition itself, then at the multiples of five
 * token bits, so that a step down has at most 32 parts, whatever the number of partitions. Arcs and
 * leaves are numbered from the partition's first.
 *
 *     1024 partitions:   10 bits (the partition) -> 15 (32 arcs) -> 20 (1024 leaves)
 *
 * Of a part only 16 bits are told and compared, of its digest times a salt that is another one each
 * time: that is what makes a descent cheap beside the records it is for, and a difference that is
 * overlooked once in 65536 shows in the partition's whole digest and is found by the next descent.
 * Pure.
 */
#ifndef QUOIT_CORE_TREE_H
#define QUOIT_CORE_TREE_H

#include "proto/token.h"

#define TREE_STEP_BITS 5u

static inline uint32_t tree_partition_bits(uint32_t n_partitions)
{
    return (uint32_t)__builtin_ctz(n_partitions);
}

/* Of a partition or any other arc of so many bits. */
static inline uint32_t tree_n_leaves(uint32_t bits)
{
    return 1u << (TREE_LEAF_BITS - bits);
}

/* The level of the parts of an arc; bits < TREE_LEAF_BITS. */
static inline uint32_t tree_next_bits(uint32_t bits)
{
    return (bits / TREE_STEP_BITS + 1) * TREE_STEP_BITS;
}

static inline uint32_t tree_n_parts(uint32_t bits)
{
    return 1u << (tree_next_bits(bits) - bits);
}

uint64_t tree_digest(const uint64_t *leaves, uint32_t n);
/* What is told of the parts of one arc, two in each: out[tree_n_parts(bits) / 2]. leaves: the
 * partition's. */
void tree_parts(const uint64_t *leaves, uint32_t bits, uint32_t arc, uint64_t salt, uint32_t *out);

static inline uint32_t tree_part(const uint32_t *parts, uint32_t i)
{
    return parts[i / 2] >> (i % 2 * 16) & 0xffff;
}

#endif
