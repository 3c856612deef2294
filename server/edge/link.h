/* link: a peer connection of a worker, dialled by it or handed over to it. See link.c. */
#ifndef QUOIT_EDGE_LINK_H
#define QUOIT_EDGE_LINK_H

#include "server/edge/conn.h"

struct worker_loop;
struct peer_slot;

/* A message to a peer that has this many bytes waiting for it is dropped, like a lost one: whoever
 * waits for it asks again, and closing the link would lose all of them. Half of what closes it. */
#define LINK_OUT_BYTES_MAX (32u << 20)

struct link {
    struct conn conn; /* first */
    struct worker_loop *wl;
    uint32_t node;
    struct peer_slot *slot; /* dialled: whose it is, NULL once given up; handed over: NULL */
    bool greeted;           /* the hello has been answered */
};

/* Dials for a slot; NULL: not even begun. */
struct link *link_dial(struct worker_loop *wl, struct peer_slot *slot, uint32_t node,
                       const struct sockaddr *to);
/* Takes a socket whose hello control has accepted, and answers that hello. */
void link_accept(struct worker_loop *wl, struct letter *letter);
/* Appends one message; false if it was dropped. */
bool link_send(struct link *link, const struct wire_peer *msg);

#endif
