/* backoff: when to try again: pauses that double from `min_ms` to `max_ms`, each with jitter of a
 * half, so that those who lost one node do not all come back to it at once. */
#ifndef QUOIT_EDGE_BACKOFF_H
#define QUOIT_EDGE_BACKOFF_H

#include "server/base/prng.h"

struct backoff {
    uint64_t retry_ms; /* not before; 0: at once */
    uint32_t ms;       /* the next pause; 0: the shortest */
};

/* It has failed. */
static inline void backoff_failed(struct backoff *b, uint64_t now_ms, struct prng *prng,
                                  uint32_t min_ms, uint32_t max_ms)
{
    uint32_t pause = b->ms ? b->ms : min_ms;

    b->retry_ms = now_ms + pause / 2 + prng_below(prng, pause);
    b->ms = 2 * pause < max_ms ? 2 * pause : max_ms;
}

#endif
