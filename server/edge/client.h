/* client: a connection of a client. See client.c. */
#ifndef QUOIT_EDGE_CLIENT_H
#define QUOIT_EDGE_CLIENT_H

#include "server/edge/conn.h"

struct worker_loop;

/* A new connection (counted against the limit here). */
void client_accept(void *worker_loop, int fd);
/* One that another worker has handed over (already counted). */
void client_take(struct worker_loop *wl, struct letter *letter);

/* Appends an error response, or closes the connection if there is no memory for one. */
void client_send_error(struct conn *c, uint64_t id, int error, uint64_t limit, uint64_t actual);

#endif
