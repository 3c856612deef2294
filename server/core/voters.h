/* voters: which members decide about rings (register.h). Pure functions of a ring's members and
 * voters; nothing else of the ring is looked at. See voters.c. */
#ifndef QUOIT_CORE_VOTERS_H
#define QUOIT_CORE_VOTERS_H

#include "proto/wire.h"

/* Members from which on there are so many voters: a majority of one, three, five, seven is reached
 * without none, any one, any two, any three. Below three members a second voter would only be one
 * more that must not fail. Seven, which cost each change seven syncs, are for clusters in which
 * three machines down at once are ordinary. */
#define VOTERS_THREE_FROM 3u
#define VOTERS_FIVE_FROM 5u
#define VOTERS_SEVEN_FROM 50u

enum voters_move {
    VOTERS_STAY = 0,
    VOTERS_ADD,
    VOTERS_REMOVE
};

struct voters_step {
    enum voters_move move;
    uint32_t member; /* index into members */
};

/* How many voters so many usable members want. */
uint32_t voters_count(size_t n_usable);
/* Writes their indices into members, ascending, and returns how many. */
uint32_t voters_wanted(const struct wire_ring *ring, uint32_t out[LIMIT_VOTERS_MAX]);
/* The one change that leads towards them. */
struct voters_step voters_next(const struct wire_ring *ring);

#endif
