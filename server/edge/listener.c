/* listener: a listening socket on a loop.
 *
 * The clients' address is bound once per worker with SO_REUSEPORT: the kernel spreads connections
 * over the workers. Since SO_REUSEPORT would also let a second quoitd of the same user share the
 * port and steal half of the connections, the address is first bound once without it, which fails
 * if anybody listens there.
 *
 * Accepting is done with accept4 behind uv_poll instead of uv_listen: a connection is a plain file
 * descriptor until somebody wants it (it may belong to another worker), and running out of
 * descriptors is seen: the listener then rests for a moment and says so, instead of spinning or of
 * closing connections unheard.
 */
#include "server/edge/listener.h"
#include "proto/err.h"
#include <errno.h>
#include <netinet/in.h>
#include <unistd.h>

static int bind_one(const struct sockaddr_storage *ss, socklen_t len, bool shared)
{
    int one = 1;
    int fd = socket(ss->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (ss->ss_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
    if ((shared && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one)) < 0) ||
        bind(fd, (const struct sockaddr *)ss, len) < 0) {
        int saved = errno;
        close(fd);
        errno = saved;
        return -1;
    }
    return fd;
}

int listener_bind(struct sockaddr_storage *ss, socklen_t len, bool shared)
{
    int fd = bind_one(ss, len, shared);
    if (fd < 0)
        return -1;
    if (listen(fd, LISTENER_BACKLOG) < 0 || getsockname(fd, (struct sockaddr *)ss, &len) < 0) {
        int saved = errno;
        close(fd);
        errno = saved;
        return -1;
    }
    return fd;
}

static void on_readable(uv_poll_t *handle, int status, int events);

static void on_pause_over(uv_timer_t *timer)
{
    struct listener *s = timer->data;
    if (s->fd >= 0)
        uv_poll_start(&s->poll, UV_READABLE, on_readable);
}

/* false: the system has no descriptor or no memory for another connection. */
static bool accept_waiting(struct listener *s, unsigned max)
{
    for (unsigned i = 0; i < max && s->fd >= 0; i++) {
        int fd = accept4(s->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            s->on_accept(s->ctx, fd);
            continue;
        }
        if (errno == EAGAIN)
            return true;
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
            return false;
        /* others concern the one connection only: ECONNABORTED, EPERM, network errors */
    }
    return true;
}

static void on_readable(uv_poll_t *handle, int status, int events)
{
    struct listener *s = handle->data;

    if (accept_waiting(s, LISTENER_ACCEPTS_MAX))
        return;
    log_warn(s->loop->log, "cannot take connections for a moment", "reason=%s",
             LOG_STR(strerror(errno)));
    uv_poll_stop(&s->poll);
    uv_timer_start(&s->pause, on_pause_over, LISTENER_PAUSE_MS, 0);
}

int listener_start(struct listener *s, struct loop *l, int fd, void (*on_accept)(void *ctx, int fd),
                   void *ctx)
{
    *s = (struct listener){.fd = fd, .loop = l, .on_accept = on_accept, .ctx = ctx};
    if (uv_poll_init(&l->uv, &s->poll, fd) < 0) {
        close(fd);
        s->fd = -1;
        return -ERR_IO;
    }
    uv_timer_init(&l->uv, &s->pause);
    s->poll.data = s->pause.data = s;
    uv_poll_start(&s->poll, UV_READABLE, on_readable);
    return 0;
}

/* The descriptor goes only when libuv has let go of it: until then its number must not come back as
 * another connection's. */
static void on_close(uv_handle_t *handle)
{
    struct listener *s = handle->data;
    close(s->closing_fd);
}

void listener_finish(struct listener *s)
{
    if (!s->loop || s->fd < 0)
        return;
    accept_waiting(s, LISTENER_BACKLOG);
    listener_stop(s);
}

void listener_stop(struct listener *s)
{
    if (!s->loop || s->fd < 0)
        return;
    s->closing_fd = s->fd;
    s->fd = -1;
    uv_close((uv_handle_t *)&s->poll, on_close);
    uv_close((uv_handle_t *)&s->pause, NULL);
}
