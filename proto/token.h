/* token: where a key lies on the ring.
 *
 *   token = first 64 bits of murmur3_x64_128(seed; secret[16], bucket as 4 bytes big-endian,
 *           partition key)
 *
 * The secret is random per cluster, so that nobody who picks keys can aim them at one partition.
 * The sort key takes no part: all records of a partition key live together. "First 64 bits" is the
 * first of the two 64-bit words that the algorithm yields, as a number (test vectors: README.md).
 * A ring of Q = 2^k partitions cuts the token space into equal arcs: the top k bits name the arc.
 */
#ifndef QUOIT_PROTO_TOKEN_H
#define QUOIT_PROTO_TOKEN_H

#include "proto/slice.h"

#define TOKEN_SECRET_BYTES 16
#define TOKEN_WORKER_BITS 6 /* owner worker = top six bits modulo the number of workers */

struct token_space {
    uint32_t seed;
    uint8_t secret[TOKEN_SECRET_BYTES];
};

/* The leaves of the hash tree (storage/README.md) are arcs of so many bits, whatever the number of
 * partitions. */
#define TREE_LEAF_BITS 20u

/* partition_key.len <= LIMIT_KEY_BYTES. */
uint64_t token_of(const struct token_space *space, uint32_t bucket, struct slice partition_key);

/* n_partitions is a power of two >= 2. */
static inline uint32_t token_partition(uint64_t token, uint32_t n_partitions)
{
    return (uint32_t)(token >> (64 - __builtin_ctz(n_partitions)));
}

/* First token of a partition; the last one is the next partition's first minus one. */
static inline uint64_t token_partition_first(uint32_t partition, uint32_t n_partitions)
{
    return (uint64_t)partition << (64 - __builtin_ctz(n_partitions));
}

static inline uint32_t token_worker(uint64_t token, uint32_t n_workers)
{
    return (uint32_t)(token >> (64 - TOKEN_WORKER_BITS)) % n_workers;
}

#endif
