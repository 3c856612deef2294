/* heap: what is to happen in a simulator, earliest first; of equal times what was pushed first.
 * What an item means, and who frees its bytes, is its simulator's business. */
#ifndef QUOIT_SIM_HEAP_H
#define QUOIT_SIM_HEAP_H

#include "proto/slice.h"

struct read;

struct item {
    uint64_t at_us, sequence;
    int type; /* the simulator's own */
    uint16_t node, worker;
    uint32_t generation;
    uint64_t a, b;
    struct blob *bytes; /* owned */
    struct read *read;  /* owned */
};

struct heap {
    struct item *items;
    size_t n, cap;
    uint64_t sequence;
};

void heap_push(struct heap *h, struct item item);
struct item heap_pop(struct heap *h);

#endif
