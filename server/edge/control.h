/* control: the main thread: owns the ring and publishes it, takes peers in, stops it all. See
 * control.c. */
#ifndef QUOIT_EDGE_CONTROL_H
#define QUOIT_EDGE_CONTROL_H

#include "server/edge/caller.h"
#include "server/edge/former.h"
#include "server/edge/gossip.h"
#include "server/edge/http.h"
#include "server/edge/listener.h"
#include "server/edge/load.h"
#include "server/edge/node.h"
#include "server/edge/ring_keeper.h"
#include "server/edge/scrub.h"

struct control {
    struct loop loop; /* first */
    struct node *node;
    struct listener listener; /* of peers */
    struct former former;
    struct gossip gossip;
    struct ring_keeper keeper;
    struct scrub scrub;
    struct load load;
    struct http http;
    struct ring *ring;    /* the decided ring with our present addresses; NULL: there is none */
    struct ring *decided; /* as it was decided: what others are told */
    bool serving;         /* the ring names this node */
    uv_signal_t term, interrupt;
    uv_timer_t stop_timer;
    uint64_t n_refused, refused_told_ms; /* connections at the peer address beyond the limit */
    uint32_t n_idle; /* workers that have told so in the present step of stopping */
    bool stopping, finishing, closing;
};

/* The loop, once node.n_workers is known. 0 or negative. */
int control_init(struct control *c);
/* Takes peers, signals and monitors from now on; takes the fds (http_fd -1: no monitors). The
 * workers run. 0; -ERR_IO: the system cannot watch one of them. */
int control_start(struct control *c, int peer_fd, int http_fd);
/* After loop_run has returned and the store is closed. */
void control_deinit(struct control *c);

/* A worker has nothing in flight any more, or no connection. Any thread. */
void control_tell_idle(struct control *c, uint32_t worker);

/* ---- for caller.c and former.c, on the control thread ------------------------------------------
 */

/* What this node is as a member; slices borrow from the node. */
void control_self(const struct control *c, struct wire_member *ret);
/* Says who this node is over a control link: HELLO, or HELLO_REPLY with an error or 0. */
void control_say_hello(const struct control *c, struct conn *conn, enum wire_peer_type type,
                       int error);
/* The ring is decided and durable: from now on it is served. */
void control_set_ring(struct control *c, const struct wire_ring *wire);
/* Tells every worker that a node is there. */
void control_nudge(struct control *c, uint32_t node);
/* Cannot go on: the sentence goes to stderr, the process ends with status 1. */
__attribute__((noreturn, format(printf, 2, 3))) void control_die(struct control *c, const char *fmt,
                                                                 ...);
/* A member knows of a later start of this node: marks the directory, so that it is not started
 * again, and dies. */
__attribute__((noreturn)) void control_die_outdated(struct control *c);

#endif
