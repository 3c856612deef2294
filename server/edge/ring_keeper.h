/* ring_keeper: makes a ring that a member has told durable, before it is served. See
 * ring_keeper.c. */
#ifndef QUOIT_EDGE_RING_KEEPER_H
#define QUOIT_EDGE_RING_KEEPER_H

#include "proto/wire.h"
#include "storage/store.h"

struct control;

struct ring_keeper {
    struct buf bytes; /* the ring, packed */
    bool writing;     /* under way to the disk; nothing else is kept meanwhile */
};

/* Hands a packed ring to the store as the small fact `name`; its done event has the cookie. On the
 * control thread. 0 or negative, then nothing comes. */
int ring_keeper_submit(struct control *c, const char *name, struct slice bytes, uint64_t cookie);
/* Begins to write the ring, which is copied. 0 or negative: nothing was begun. */
int ring_keeper_take(struct ring_keeper *k, struct control *c, const struct wire_ring *ring);
/* The store is done with an operation of control: a ring that is durable is served. */
void ring_keeper_synced(struct ring_keeper *k, struct control *c, const struct store_done *done);
void ring_keeper_deinit(struct ring_keeper *k); /* also of one that is all zero */

#endif
