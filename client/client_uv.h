/* client_uv: sockets, names and time for a session; the only file of the client that knows libuv.
 *
 * One turn: after a pause look at the sockets; carry out the session's actions, write what they
 * queued (one write per connection), wait, read, hand whole frames to the session, and again.
 * Callbacks of libuv only move bytes into buffers; whatever decides runs between two calls of
 * uv_run.
 */
#ifndef QUOIT_CLIENT_CLIENT_UV_H
#define QUOIT_CLIENT_CLIENT_UV_H

#include "client/session.h"

struct client_uv;

/* Called for each finished request, inside client_uv_turn; may submit. */
typedef void (*client_uv_done)(void *ctx, const struct session_done *done);

/* 0, -ERR_NO_MEMORY, -ERR_IO. The session must outlive it. */
int client_uv_new(struct session *session, client_uv_done done, void *ctx, struct client_uv **ret);
void client_uv_free(struct client_uv *e); /* accepts NULL */

/* One turn, waiting at most timeout_ms (0: not at all) when nothing is at hand. Returns how many
 * requests finished. */
int client_uv_turn(struct client_uv *e, uint64_t timeout_ms);
/* Only what needs no waiting: hands out what is finished already. */
int client_uv_flush(struct client_uv *e);
/* Another turn is wanted before the descriptor is waited for: it does not show everything yet. */
bool client_uv_pending(const struct client_uv *e);

uint64_t client_uv_now(const struct client_uv *e); /* as of the last turn or refresh */
void client_uv_refresh(struct client_uv *e);
int client_uv_fd(const struct client_uv *e);
/* A seed for jitter: not secret. */
uint64_t client_uv_seed(void);

#endif
