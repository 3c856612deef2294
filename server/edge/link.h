/* link: a peer connection of a worker, dialled by it or handed over to it. See link.c. */
#ifndef QUOIT_EDGE_LINK_H
#define QUOIT_EDGE_LINK_H

#include "server/edge/conn.h"

struct worker_loop;
struct peer_slot;

/* Above that many bytes that wait for a peer, requests to it are refused on this side, and what it
 * would read is answered OVERLOADED. Small replies are always sent: they are bounded by its
 * requests, which are not read while much is unsent. */
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
/* Appends one message, or in place of a read reply that would be too much, its refusal. False: it
 * was not sent, and if it is a request, its sender is to be told. */
bool link_send(struct link *link, const struct wire_peer *msg);

#endif
