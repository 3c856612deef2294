/* peers: the other nodes, as one worker dials them. See peers.c. */
#ifndef QUOIT_EDGE_PEERS_H
#define QUOIT_EDGE_PEERS_H

#include "server/edge/address.h"
#include "server/edge/backoff.h"
#include "server/edge/conn.h"
#include "server/edge/directory.h"
#include "server/edge/link.h"

struct worker_loop;
struct ring;

/* Between attempts to dial: doubled from one to the other, with jitter of a half. */
#define PEER_BACKOFF_MIN_MS 20u
#define PEER_BACKOFF_MAX_MS 1000u
/* Connecting and hello together. */
#define PEER_HELLO_MS 3000u

enum slot_phase {
    SLOT_WAITING = 1, /* dialled when backoff.retry_ms comes */
    SLOT_LOOKING_UP,  /* the address is a name */
    SLOT_DIALLING,    /* until the hello is answered */
    SLOT_UP
};

/* One link to one worker of a node. */
struct peer_slot {
    struct peer *peer;
    uint32_t worker;
    enum slot_phase phase;
    struct link *link;
    struct backoff backoff;
    unsigned attempt;
    int refused; /* error last told in the log, so that it is told once */
};

struct peer {
    struct peers *peers;
    uint32_t node;
    struct wire_id id;
    struct address address;
    char name[LIMIT_NAME_BYTES + 1];
    uint32_t n_up;
    uint32_t n_workers; /* as learnt from a hello; slots[0] is tried first */
    struct peer_slot slots[LIMIT_WORKERS_MAX];
};

struct peers {
    struct worker_loop *wl;
    struct wire_id cluster_id;
    uv_timer_t timer;
    struct peer *by_node[DIRECTORY_NODES_MAX];
};

void peers_init(struct peers *p, struct worker_loop *wl);
void peers_deinit(struct peers *p); /* the loop is closed */
void peers_stop(struct peers *p);   /* dial no more */
/* The nodes to dial are those of this ring. */
void peers_set_ring(struct peers *p, const struct ring *ring);
/* That node dialled us, so it is there: try again at once. */
void peers_nudge(struct peers *p, uint32_t node);
/* A link to that worker, or to any of the node; NULL if none is up. */
struct link *peers_pick(struct peers *p, uint32_t node, uint32_t worker);

/* Called by link.c for dialled links. */
void peers_hello_reply(struct peer_slot *slot, const struct wire_peer *msg);
void peers_lost(struct peer_slot *slot, const char *why);

#endif
