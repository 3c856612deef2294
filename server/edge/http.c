/* http: what monitors ask for, on a port of its own, in clear text and read-only.
 *
 *   GET /metrics   figures for Prometheus (metrics.c)
 *   GET /healthz   200 while the process serves its control thread: else restart it
 *   GET /readyz    200 while clients are served here: else send them elsewhere; 503 says why
 *
 * libmicrohttpd does HTTP; it has no thread of its own here. Its epoll descriptor is polled by the
 * control loop, which runs it when something is there, when it asks for time (its descriptor is
 * edge-triggered: without the timer it would stall), and once a second in any case: at its limit of
 * connections it stops listening, and it listens again only in the run after the one that has seen
 * some of them go, which nothing announces. So a scrape costs the data path nothing but the
 * processor. Connections, their memory and their patience are bounded.
 */
#include "server/edge/http.h"
#include "proto/err.h"
#include "server/edge/control.h"
#include "server/edge/metrics.h"
#include "server/edge/worker_loop.h"
#include <microhttpd.h>
#include <string.h>
#include <unistd.h>

/* A worker that has not looked at its letters for so long hangs, or its disk does. */
#define WORKER_SILENT_MS 5000u

/* The longest that it is not run. */
#define HTTP_RUN_MS 1000u

static const char text_type[] = "text/plain; charset=utf-8";

/* ---- answers ------------------------------------------------------------------------------- */

static enum MHD_Result reply(struct MHD_Connection *conn, unsigned status, const char *type,
                             size_t len, const void *body)
{
    struct MHD_Response *res =
        MHD_create_response_from_buffer(len, (void *)(uintptr_t)body, MHD_RESPMEM_MUST_COPY);
    enum MHD_Result r;

    if (!res)
        return MHD_NO;
    MHD_add_response_header(res, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    MHD_add_response_header(res, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    r = MHD_queue_response(conn, status, res);
    MHD_destroy_response(res);
    return r;
}

static enum MHD_Result say(struct MHD_Connection *conn, unsigned status, const char *sentence)
{
    return reply(conn, status, text_type, strlen(sentence), sentence);
}

static enum MHD_Result get_metrics(struct control *c, struct MHD_Connection *conn)
{
    enum MHD_Result r;
    struct buf page;

    buf_init(&page);
    if (metrics_write(c, &page) < 0)
        r = say(conn, MHD_HTTP_INTERNAL_SERVER_ERROR, "out of memory\n");
    else
        r = reply(conn, MHD_HTTP_OK, METRICS_CONTENT_TYPE, page.len, page.data);
    buf_deinit(&page);
    return r;
}

static enum MHD_Result get_health(struct control *c, struct MHD_Connection *conn)
{
    return say(conn, MHD_HTTP_OK, "ok\n");
}

const char *http_not_ready(const struct control *c)
{
    uint64_t now_ms = loop_now_ms(&c->loop);

    if (c->stopping)
        return "not ready: the node is stopping\n";
    if (!c->ring)
        return "not ready: the node belongs to no ring yet\n";
    if (!c->serving)
        return "not ready: the node waits to be added to its cluster\n";
    for (uint32_t i = 0; i < c->node->n_workers; i++) {
        const struct meters *m = &c->node->workers[i]->meters;
        uint64_t looked_ms = meter_get(&m->looked_ms);

        if (looked_ms == 0 || (now_ms > looked_ms && now_ms - looked_ms > WORKER_SILENT_MS))
            return "not ready: a worker does not answer\n";
        if (meter_get(&m->clock_off))
            return "not ready: the clock is off, writes are refused\n";
    }
    return NULL;
}

static enum MHD_Result get_ready(struct control *c, struct MHD_Connection *conn)
{
    const char *why_not = http_not_ready(c);

    return why_not ? say(conn, MHD_HTTP_SERVICE_UNAVAILABLE, why_not)
                   : say(conn, MHD_HTTP_OK, "ready\n");
}

/* ---- requests ------------------------------------------------------------------------------ */

static const struct {
    const char *path;
    enum MHD_Result (*get)(struct control *c, struct MHD_Connection *conn);
} pages[] = {{"/metrics", get_metrics}, {"/healthz", get_health}, {"/readyz", get_ready}};

/* Called twice per request at least: with *seen NULL, its headers are there; then until its body is
 * through, of which nothing is kept. */
static enum MHD_Result on_request(void *ctx, struct MHD_Connection *conn, const char *path,
                                  const char *method, const char *version, const char *body,
                                  size_t *body_len, void **seen)
{
    struct http *h = ctx;

    if (!*seen) {
        *seen = h;
        return MHD_YES;
    }
    if (*body_len > 0) {
        *body_len = 0;
        return MHD_YES;
    }
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
        return say(conn, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET and HEAD are answered here\n");
    for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++)
        if (strcmp(path, pages[i].path) == 0)
            return pages[i].get(h->control, conn);
    return say(conn, MHD_HTTP_NOT_FOUND, "there are /metrics, /healthz and /readyz\n");
}

/* ---- in the loop --------------------------------------------------------------------------- */

static void run(struct http *h);

static void on_timer(uv_timer_t *timer)
{
    run(timer->data);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    run(poll->data);
}

static void run(struct http *h)
{
    MHD_UNSIGNED_LONG_LONG ms;

    MHD_run(h->daemon);
    if (MHD_get_timeout(h->daemon, &ms) == MHD_NO || ms > HTTP_RUN_MS)
        ms = HTTP_RUN_MS;
    uv_timer_start(&h->timer, on_timer, ms, 0);
}

int http_start(struct http *h, struct control *c, int fd)
{
    const union MHD_DaemonInfo *info;

    h->control = c;
    h->daemon = MHD_start_daemon(MHD_USE_EPOLL, 0, NULL, NULL, on_request, h,
                                 MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT,
                                 HTTP_CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT,
                                 HTTP_TIMEOUT_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                                 (size_t)HTTP_CONNECTION_BYTES, MHD_OPTION_END);
    info = h->daemon ? MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
    if (!info) {
        close(fd);
        return -ERR_IO;
    }
    uv_poll_init(&c->loop.uv, &h->poll, info->epoll_fd);
    uv_timer_init(&c->loop.uv, &h->timer);
    h->poll.data = h->timer.data = h;
    uv_poll_start(&h->poll, UV_READABLE, on_poll);
    return 0;
}

void http_stop(struct http *h)
{
    if (!h->daemon)
        return;
    uv_poll_stop(&h->poll);
    uv_timer_stop(&h->timer);
    MHD_stop_daemon(h->daemon); /* closes its sockets, the listening one included */
    h->daemon = NULL;
}
