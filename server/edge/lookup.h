/* lookup: an address becomes a socket address without blocking the loop. See lookup.c. */
#ifndef QUOIT_EDGE_LOOKUP_H
#define QUOIT_EDGE_LOOKUP_H

#include "server/edge/address.h"
#include <uv.h>

/* Names that one loop looks up at a time; each takes a thread while it lasts. */
#define LOOKUPS_MAX 16u

/* done(ctx, a, b, to): `to` NULL if there is no such host. Of several addresses, attempt 0, 1, ...
 * name one after the other, so that whoever dials again tries them all. Numbers are answered before
 * this returns, names later. 0, -ERR_OVERLOADED or -ERR_NO_MEMORY (done is not called). */
typedef void lookup_done(void *ctx, uint32_t a, uint32_t b, const struct sockaddr *to);
int lookup_start(uv_loop_t *uv, const struct address *address, unsigned attempt, lookup_done *done,
                 void *ctx, uint32_t a, uint32_t b);
/* None of the loop's lookups will be answered any more, nor keep the loop running. Comes before the
 * loop's handles are closed. */
void lookup_cancel(uv_loop_t *uv);

#endif
