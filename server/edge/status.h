/* status: how the cluster is, as this node sees it; and a client's question on its way. See
 * status.c. */
#ifndef QUOIT_EDGE_STATUS_H
#define QUOIT_EDGE_STATUS_H

#include "proto/wire.h"

struct conn;
struct control;
struct letter;
struct worker_loop;

/* Questions of one worker that wait for control; more are answered OVERLOADED. Nobody asks so
 * often, and one of a large ring takes control a millisecond. */
#define STATUS_WAITING_MAX 64u
/* Texts of problems, members: what a status takes, at most. */
#define STATUS_ARENA_BYTES (1u << 20)

/* Control thread. Fills *ret from the ring, the members' states and loads; its arrays and texts
 * live in the arena, names and addresses until the loop goes on. 0, -ERR_NOT_READY without a ring,
 * -ERR_NO_MEMORY. */
int status_look(struct control *c, struct arena *arena, struct wire_status_result *ret);

/* The question's way: a worker's client asks, control answers, the worker takes the answer. */
void status_ask(struct worker_loop *wl, struct conn *conn, const struct wire_request *req,
                uint64_t tag);
void status_answer(struct control *c, struct letter *letter); /* takes the letter */
void status_take(struct worker_loop *wl, const struct letter *letter);

#endif
