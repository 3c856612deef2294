/* gossip: ears and hands of server/core/membership, on the control thread. See gossip.c. */
#ifndef QUOIT_EDGE_GOSSIP_H
#define QUOIT_EDGE_GOSSIP_H

#include "server/core/membership.h"
#include "server/edge/address.h"
#include "server/edge/backoff.h"
#include "server/edge/conn.h"

struct caller;
struct control;

/* Connecting and hello together. */
#define GOSSIP_HELLO_MS 3000u
/* Between attempts to dial a node that does not answer: doubled from one to the other. */
#define GOSSIP_BACKOFF_MIN_MS 50u
#define GOSSIP_BACKOFF_MAX_MS 1000u
/* What waits for a link that is being made, passed by one message at most; more is dropped: it is
 * only gossip. */
#define GOSSIP_WAITING_BYTES_MAX (64u << 10)
/* The same of a link that takes nothing: a few whole tables. */
#define GOSSIP_UNSENT_BYTES_MAX (4u << 20)

struct gossip_peer;

struct gossip {
    struct control *control;
    struct membership *core; /* NULL: there is no ring yet */
    struct membership_effects effects;
    struct gossip_peer *peers[LIMIT_NODES_MAX]; /* by handle */
    uv_timer_t timer;
    struct conn *asker;           /* of this step: who asks for the ring */
    const struct wire_ring *told; /* of this step: the ring that was told */
    bool ring_lost;               /* of this step: it could not be handed to the store */
    bool clock_off; /* our wall clock is not that of the others, and the log says so */
    bool stopped;   /* nothing is done any more */
};

/* Once the ring is known, and with each new one. 0 or -ERR_NO_MEMORY. */
int gossip_set_ring(struct gossip *g, struct control *c);
/* What this node holds and does, to be told with the next messages. */
void gossip_set_load(struct gossip *g, const struct wire_load *load);
/* What membership counts; all zero before there is a ring. */
struct membership_stats gossip_stats(const struct gossip *g);
/* How a node is seen. False: nothing is known of it, not even that it should be there. */
bool gossip_view(const struct gossip *g, uint32_t node, struct membership_view *ret);
/* Says goodbye. */
void gossip_stop(struct gossip *g);
void gossip_close(struct gossip *g); /* before the loop's handles are closed */
void gossip_deinit(struct gossip *g);

/* For caller.c: a member has made a control link; it says something (or one who is no member asks
 * for the ring: DIRECTORY_NONE), and is answered there; it is closed. */
void gossip_called(struct gossip *g, struct caller *caller, const struct wire_hello *hello);
void gossip_recv(struct gossip *g, struct conn *conn, uint32_t node, const struct wire_peer *msg);
void gossip_caller_gone(struct gossip *g, struct caller *caller);

/* For ring_keeper.c: the ring that was to be taken could not be written. */
void gossip_ring_lost(struct gossip *g);

#endif
