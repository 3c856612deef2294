/* scrub_box: where the outcome of a slice waits for `scrubbed`, in engines that make the slice at
 * once. Zeroed: empty. Any threads: whoever has filled it owns it until the asker has emptied it.
 */
#ifndef QUOIT_STORAGE_SCRUB_BOX_H
#define QUOIT_STORAGE_SCRUB_BOX_H

#include <stdatomic.h>

#include "storage/store.h"

enum scrub_box_state {
    SCRUB_BOX_EMPTY,
    SCRUB_BOX_FILLING,
    SCRUB_BOX_FULL
};

struct scrub_box {
    atomic_int state;
    _Atomic uint32_t queue;
    struct store_scrub out;
};

/* True: the caller fills box->out, then scrub_box_filled. */
static inline bool scrub_box_claim(struct scrub_box *box, uint32_t queue)
{
    int empty = SCRUB_BOX_EMPTY;

    if (!atomic_compare_exchange_strong(&box->state, &empty, SCRUB_BOX_FILLING))
        return false;
    atomic_store(&box->queue, queue);
    return true;
}

static inline void scrub_box_filled(struct scrub_box *box)
{
    atomic_store(&box->state, SCRUB_BOX_FULL);
}

static inline bool scrub_box_empty(struct scrub_box *box, uint32_t queue, struct store_scrub *ret)
{
    if (atomic_load(&box->state) != SCRUB_BOX_FULL || atomic_load(&box->queue) != queue)
        return false;
    *ret = box->out;
    atomic_store(&box->state, SCRUB_BOX_EMPTY);
    return true;
}

#endif
