/* quorum: how many slots make a level, and what a set of read answers amounts to. Pure values.
 *
 * Counted are slots, never nodes, and each slot once. */
#ifndef QUOIT_CORE_QUORUM_H
#define QUOIT_CORE_QUORUM_H

#include "proto/wire.h"

/* Slots needed of n (READY and being replaced): 1, n/2 + 1, n. */
uint32_t quorum_need(enum wire_level level, uint32_t n);

/* One slot's answer to a read, without the value. */
struct quorum_answer {
    bool answered;
    bool absent;
    bool deleted;
    struct version version; /* of a state; none when absent */
    uint64_t digest;        /* hash of the state; 0 when absent or not asked */
    uint64_t floor;         /* absent: versions with hlc <= floor are deleted */
};

struct quorum_view {
    uint32_t n_answered;
    int newest;     /* index of an answer that holds the newest state; -1: all absent */
    bool agree;     /* all answers say the same */
    uint64_t floor; /* highest floor of the absent answers */
    bool dead;      /* the newest state is covered by that floor: it counts as deleted */
};

/* Merges n answers (those with answered set). */
struct quorum_view quorum_merge(const struct quorum_answer *answers, uint32_t n);
/* The slot needs no write-back of the state that newest holds. */
bool quorum_holds(const struct quorum_answer *answer, const struct quorum_answer *newest);

#endif
