/* caller: a connection that another node made to our peer address. See caller.c. */
#ifndef QUOIT_EDGE_CALLER_H
#define QUOIT_EDGE_CALLER_H

#include "server/edge/conn.h"

struct control;

/* Strangers must say who they are within this time (ms), in a frame of at most this size. */
#define CALLER_HELLO_MS 3000u
#define CALLER_HELLO_BYTES 4096u
/* A control link without a word for this long is closed: whoever forms repeats every 250 ms. */
#define CALLER_IDLE_MS 10000u
/* Once a ring is decided, a node that is not in it may ask what it wants, and is then closed. */
#define CALLER_STRANGER_MS 2000u
/* Connections on the control loop: two per node and worker at worst, while they say hello. */
#define CALLERS_MAX 4096u

struct caller {
    struct conn conn; /* first */
    struct control *control;
    bool greeted, stranger;
    bool gossips; /* a control link of a member or a candidate: node is its handle */
    struct wire_id node_id;
    uint32_t node, worker_from, worker_to; /* of a worker's link, until it moves there */
};

void caller_accept(void *control, int fd);
bool caller_send(struct caller *caller, const struct wire_peer *msg);

#endif
