/* dones: done events that wait for the end of the effect list. See dones.c. */
#ifndef QUOIT_EDGE_DONES_H
#define QUOIT_EDGE_DONES_H

#include "server/core/event.h"
#include "server/core/worker.h"

/* Each belongs to an operation or a pending answer of the core, so those bound what there can be.
 * Memory is touched only as far as it is used. */
#define DONES_MAX (WORKER_PENDING_MAX + 2u * WORKER_OPS_MAX + 2u * EFFECTS_MAX + DONES_REFUSALS_MAX)

/* Requests that could not be sent and wait to be told so; one more is like a lost message. */
#define DONES_REFUSALS_MAX 8192u

struct scan_page {
    struct store_page page;
    struct wire_record items[LIMIT_SCAN_PAGE_RECORDS];
};

/* What is left of a request that was refused on this side. */
struct refusal {
    enum wire_peer_type type; /* of the reply */
    uint64_t id, hlc, ring_epoch;
    struct wire_replica replica;
    int error;
};

struct done {
    struct event event;
    struct scan_page *page; /* SCANNED: what the event points at, or NULL */
    uint64_t *leaves;       /* LEAVES: the same */
    struct refusal refusal; /* PEER: makes the message */
};

struct dones {
    struct done *ring; /* [DONES_MAX] */
    uint32_t head, n, n_refusals;
    struct scan_page *spare; /* half a megabyte: one is kept for the next scan */
};

int dones_init(struct dones *d); /* 0 or -ERR_NO_MEMORY */
void dones_deinit(struct dones *d);
/* A new last one, with its type set and the rest undefined but page NULL. */
struct done *dones_add(struct dones *d, enum event_type type);
/* The answer OVERLOADED to a request of ours, as if `from` of that node had said it. */
void dones_refuse(struct dones *d, const struct addr *from, uint32_t node,
                  const struct wire_peer *request);
/* The small reply with that error. */
void peer_refusal(const struct wire_peer *request, int error, struct wire_peer *ret);
/* The message of a refusal. */
void refusal_message(const struct refusal *r, struct wire_peer *ret);
/* The first one, which the caller then gives back with dones_release. False: there is none. */
bool dones_take(struct dones *d, struct done *ret);
void dones_release(struct dones *d, struct done *done);
/* An empty page, or NULL. */
struct scan_page *dones_page(struct dones *d);

#endif
