/* replica: requests of other nodes (and of this one) that are being answered. See replica.c.
 * Private to server/core. */
#ifndef QUOIT_CORE_REPLICA_H
#define QUOIT_CORE_REPLICA_H

#include "server/core/core.h"

/* In message ids: not an operation, but a request relayed to a sibling worker: a pending entry. */
#define RELAY_BIT ((uint64_t)1 << 63)
enum pending_kind {
    PENDING_FREE,
    PENDING_GET,
    PENDING_DIGEST,
    PENDING_PUT,
    PENDING_SCAN,
    PENDING_RELAY
};

/* A request that the replica has taken and not answered. */
struct pending {
    uint8_t kind;
    uint32_t generation;
    uint32_t next_free;
    struct addr from;
    uint64_t id; /* as the requester sent it */
    struct wire_replica replica;
    struct blob *bytes;     /* DIGEST: the key, both parts; gated: the value */
    uint32_t bucket;        /* DIGEST */
    uint16_t partition_len; /* DIGEST: where the sort key begins */
    struct list gated;      /* in worker.gate */
    uint64_t lsn;           /* gated: answer when durable */
    struct wire_peer reply; /* gated */
};

/* store_done cookies: pending index and generation, or this. */
#define COOKIE_CLOCK UINT64_MAX

void replica_recv(struct worker *w, struct addr from, const struct wire_peer *msg,
                  struct blob *owner, struct effects *out);
void replica_got(struct worker *w, const struct event *in, struct effects *out);
void replica_scanned(struct worker *w, const struct event *in, struct effects *out);
void replica_stored(struct worker *w, const struct event *in, struct effects *out);
/* Answers one gated request whose LSN is durable. */
void replica_release(struct worker *w, struct pending *p, struct effects *out);
/* Hands a request on to the sibling that owns its partition. */
void replica_relay(struct worker *w, struct addr from, const struct wire_peer *msg,
                   struct blob *owner, struct effects *out);
/* The sibling's answer to such a request. */
void replica_relayed(struct worker *w, const struct wire_peer *msg, struct blob *owner,
                     struct effects *out);
void replica_deinit(struct worker *w);

#endif
