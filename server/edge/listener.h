/* listener: a listening socket on a loop. See listener.c. */
#ifndef QUOIT_EDGE_LISTENER_H
#define QUOIT_EDGE_LISTENER_H

#include "server/edge/loop.h"
#include <sys/socket.h>

#define LISTENER_BACKLOG 1024
/* Connections taken per wake-up, so that a storm of them does not starve those that are there. */
#define LISTENER_ACCEPTS_MAX 64u
/* Out of file descriptors: look again after this. */
#define LISTENER_PAUSE_MS 100u

struct listener {
    uv_poll_t poll;
    uv_timer_t pause;
    int fd; /* -1 once stopped */
    int closing_fd;
    struct loop *loop;
    /* Takes the descriptor of a new connection (non-blocking, close-on-exec). */
    void (*on_accept)(void *ctx, int fd);
    void *ctx;
};

/* Binds and listens; shared: SO_REUSEPORT, so that several loops may listen on the same address.
 * *ss gets the real port. An fd, or -1 with errno. */
int listener_bind(struct sockaddr_storage *ss, socklen_t len, bool shared);
/* Takes the fd. Loop thread, or before the loop runs. 0 or -ERR_IO (fd closed). */
int listener_start(struct listener *s, struct loop *l, int fd, void (*on_accept)(void *ctx, int fd),
                   void *ctx);
/* As listener_stop, but first takes who is connected and waits in the backlog: closing it would
 * reset connections of clients that know nothing yet. */
void listener_finish(struct listener *s);
/* Stops listening for good. Must come before loop_close_all. */
void listener_stop(struct listener *s);

#endif
