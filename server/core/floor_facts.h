/* floor_facts: how purge floors (floor.h) stand on disk: a small fact per slot of this node.
 *
 * The core reads no disk by itself, so whoever hands a ring to a worker reads the facts of its
 * slots first, and hands them over together with the ring.
 */
#ifndef QUOIT_CORE_FLOOR_FACTS_H
#define QUOIT_CORE_FLOOR_FACTS_H

#include "storage/store.h"

struct ring;

struct floor_fact {
    uint32_t partition;
    uint64_t incarnation, opened, closed;
};

struct floor_facts {
    struct floor_fact *list;
    size_t n;
};

#define FLOOR_FACT_BYTES 16u

/* The fact's name: at most STORE_META_NAME_MAX bytes, into out. */
struct slice floor_fact_name(uint32_t partition, uint64_t incarnation,
                             char out[STORE_META_NAME_MAX + 1]);
void floor_fact_pack(uint64_t opened, uint64_t closed, uint8_t out[FLOOR_FACT_BYTES]);

/* Fills in the floors of a fact whose partition and incarnation are set. 1: there is such a fact,
 * 0: there is none, or negative as below. */
int floor_fact_read(struct store *store, uint32_t queue, struct floor_fact *fact);

/* Reads the facts of this node's slots in the partitions of one worker. On the thread of the queue.
 * 0, -ERR_NO_MEMORY; -ERR_IO, -ERR_CORRUPT: the worker must not serve. Ends with floor_facts_free,
 * in any case. */
int floor_facts_read(struct store *store, uint32_t queue, const struct ring *ring, uint32_t node,
                     uint32_t worker, uint32_t n_workers, struct floor_facts *ret);
void floor_facts_free(struct floor_facts *facts);

#endif
