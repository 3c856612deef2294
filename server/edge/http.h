/* http: what monitors ask for: /metrics, /healthz, /readyz. Control thread. See http.c. */
#ifndef QUOIT_EDGE_HTTP_H
#define QUOIT_EDGE_HTTP_H

#include <uv.h>

struct MHD_Daemon;
struct control;

/* Connections at a time: a few monitors, each with one or two. More wait in the kernel. */
#define HTTP_CONNECTIONS_MAX 32u
/* A connection that asks nothing, or does not take its answer, is closed. Longer than the usual
 * time between two scrapes would keep idle ones for nothing. */
#define HTTP_TIMEOUT_S 10u
/* Of one request: its line and headers, and what the library keeps of it. */
#define HTTP_CONNECTION_BYTES (16u << 10)

struct http {
    struct control *control;
    struct MHD_Daemon *daemon; /* NULL: not started, or stopped */
    uv_poll_t poll;
    uv_timer_t timer;
};

/* Takes the listening socket. 0, or -ERR_IO: the library cannot start (the fd is closed). */
int http_start(struct http *h, struct control *c, int fd);
/* Before the loop's handles are closed. More than once, or never started: nothing. */
void http_stop(struct http *h);
/* Why clients should rather go elsewhere, a sentence with its newline; NULL: they need not. */
const char *http_not_ready(const struct control *c);

#endif
