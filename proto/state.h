/* state: keys and record states as plain values, shared by every layer.
 *
 * A record's state is an element of a join-semilattice: merging two states is idempotent,
 * commutative and associative (storage/merge). Replication, repair and moves all say "merge this
 * state".
 */
#ifndef QUOIT_PROTO_STATE_H
#define QUOIT_PROTO_STATE_H

#include "proto/slice.h"
#include "proto/version.h"

#define BUCKET_DEFAULT 1u

struct key {
    uint32_t bucket;
    struct slice partition; /* 1 .. LIMIT_KEY_BYTES together with sort */
    struct slice sort;
};

enum state_kind {
    STATE_NONE = 0, /* absent */
    STATE_LWW = 1,  /* last writer wins: the newer version */
    /* 2 siblings, 3 strong: later bucket kinds */
};

struct state {
    uint8_t kind; /* enum state_kind; STATE_NONE: the other fields mean nothing */
    bool deleted; /* a tombstone: the value is empty */
    struct version version;
    struct slice value; /* borrowed */
};

/* 0, or -ERR_KEY_EMPTY, -ERR_KEY_TOO_LARGE. */
int key_check(const struct key *key);

#endif
