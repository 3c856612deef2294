/* lookup: an address becomes a socket address without blocking the loop.
 *
 * The system's resolver blocks, so names go to libuv's thread pool, which does nothing else here.
 * The one who asks may be gone when the answer comes: it is named by two numbers, not by a pointer.
 */
#include "server/edge/lookup.h"
#include "proto/err.h"
#include <stdio.h>
#include <stdlib.h>

struct lookup {
    uv_getaddrinfo_t req; /* first */
    lookup_done *done;
    void *ctx;
    uint32_t a, b;
    unsigned attempt;
};

static const struct sockaddr *nth(const struct addrinfo *list, unsigned attempt)
{
    unsigned n = 0;
    for (const struct addrinfo *at = list; at; at = at->ai_next)
        n++;
    for (attempt = n ? attempt % n : 0; attempt > 0; attempt--)
        list = list->ai_next;
    return list ? list->ai_addr : NULL;
}

static void on_answer(uv_getaddrinfo_t *req, int status, struct addrinfo *list)
{
    struct lookup lookup = *(struct lookup *)req;
    free(req);
    lookup.done(lookup.ctx, lookup.a, lookup.b, status == 0 ? nth(list, lookup.attempt) : NULL);
    uv_freeaddrinfo(list);
}

int lookup_start(uv_loop_t *uv, const struct address *address, unsigned attempt, lookup_done *done,
                 void *ctx, uint32_t a, uint32_t b)
{
    static const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct sockaddr_storage ss;
    socklen_t len;
    char port[8];

    if (address_numeric(address, &ss, &len) == 0) {
        done(ctx, a, b, (const struct sockaddr *)&ss);
        return 0;
    }
    struct lookup *lookup = calloc(1, sizeof(*lookup));
    if (!lookup)
        return -ERR_NO_MEMORY;
    lookup->done = done;
    lookup->ctx = ctx;
    lookup->a = a;
    lookup->b = b;
    lookup->attempt = attempt;
    snprintf(port, sizeof(port), "%u", address->port);
    if (uv_getaddrinfo(uv, &lookup->req, on_answer, address->host, port, &hints) < 0) {
        free(lookup);
        return -ERR_NO_MEMORY;
    }
    return 0;
}
