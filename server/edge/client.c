/* client: a connection of a client: frames become requests for the core, its replies frames.
 *
 * What the protocol can refuse is refused here and typed: content beyond a limit (the connection
 * goes on), bytes that are no request (told, then closed: whoever sends that is not in step with
 * us).
 *
 * A connection is accepted by whichever worker's listener the kernel chose. If its first request is
 * a hello that asks for another worker, the socket moves there with everything not yet handled, the
 * hello included, and that worker answers it. Later the core has requests of it, so it stays; so
 * does one whose hello is so large that it was received into a buffer of its own.
 */
#include "server/edge/client.h"
#include "proto/err.h"
#include "server/edge/status.h"
#include "server/edge/worker_loop.h"
#include <stdlib.h>
#include <unistd.h>

struct client {
    struct conn conn; /* first */
    struct worker_loop *wl;
    uint32_t move_to; /* with CONN_MOVE_WITH: the worker asked for */
    bool counted;     /* in node.n_clients */
    bool refused;     /* in wl->n_refused */
    bool known;       /* the core has seen a request of it */
};

void client_send_error(struct conn *c, uint64_t id, int error, uint64_t limit, uint64_t actual)
{
    struct buf *out = conn_out(c);
    struct wire_response res = {.id = id,
                                .error = {.code = error < 0 ? -error : error,
                                          .text = slice_str(err_text(error)),
                                          .retryable = err_retryable(error),
                                          .limit = limit,
                                          .actual = actual}};
    if (!out)
        return;
    if (wire_response_pack(&res, out) == 0)
        conn_sent(c);
    else /* the end of the connection is an answer too */
        conn_close(c, -ERR_NO_MEMORY);
}

/* The content of a request was refused by its checks. */
static void refuse(struct conn *c, const struct wire_request *req, int rc)
{
    uint64_t limit = 0, actual = 0;

    if (rc == -ERR_KEY_TOO_LARGE) {
        limit = LIMIT_KEY_BYTES;
        actual = req->key.partition.len + req->key.sort.len;
    } else if (rc == -ERR_VALUE_TOO_LARGE) {
        limit = LIMIT_VALUE_BYTES;
        actual = req->value.len;
    }
    meter_refused(&((struct client *)c)->wl->meters, req->op, meter_outcome_of(rc));
    client_send_error(c, req->id, rc, limit, actual);
    if (req->id == 0 && (rc == -ERR_BAD_REQUEST || rc == -ERR_NO_MEMORY)) {
        log_warn(c->loop->log, "closed a client that sent no request", "error=%s", err_name(rc));
        conn_finish(c);
    }
}

/* The worker a hello asks for, if this connection can still move there. */
static bool wants_move(struct client *cl, const struct wire_request *req)
{
    uint32_t wanted = req->op == OP_HELLO ? req->u.hello.worker : 0;

    if (wanted == 0 || wanted > cl->wl->node->n_workers || wanted - 1 == cl->wl->index)
        return false;
    cl->move_to = wanted - 1;
    return !cl->known && conn_unsent(&cl->conn) == 0;
}

static enum conn_verdict on_frame(struct conn *c, struct slice body)
{
    struct client *cl = (struct client *)c;
    struct wire_request req;

    arena_reset(&c->loop->arena, WIRE_ARENA_BUDGET(body.len));
    int rc = wire_request_unpack(body, &c->loop->arena, &req);
    if (rc < 0) {
        refuse(c, &req, rc);
        return CONN_NEXT;
    }
    if (!c->large && wants_move(cl, &req))
        return CONN_MOVE_WITH;
    cl->known = true;
    conn_owe_answer(c);
    uint64_t tag = meter_tag(&cl->wl->meters, req.op);
    if (req.op == OP_STATUS) {
        status_ask(cl->wl, c, &req, tag);
        return CONN_NEXT;
    }
    struct event event = {
        .type = EVENT_REQUEST,
        .u.request = {.conn = c->id, .request = &req, .waited_ms = c->waited_ms, .tag = tag}};
    worker_loop_feed(cl->wl, &event);
    return CONN_NEXT;
}

static void on_move(struct conn *c, struct slice unread)
{
    struct client *cl = (struct client *)c;
    struct letter *letter = letter_new(LETTER_SOCKET, cl->wl->index);
    struct blob *bytes = blob_copy(unread);
    int fd = conn_dup(c);

    if (!letter || !bytes || fd < 0) {
        free(letter);
        blob_unref(bytes);
        if (fd >= 0)
            close(fd);
        client_send_error(c, 0, ERR_NO_MEMORY, 0, 0);
        conn_finish(c);
        return;
    }
    letter->u.socket.kind = SOCKET_CLIENT;
    letter->u.socket.fd = fd;
    letter->u.socket.unread = bytes;
    cl->counted = false; /* the count moves along */
    conn_close(c, 0);
    list_append(&cl->wl->outboxes[cl->move_to], &letter->link);
}

static void on_broken(struct conn *c, int error, uint64_t limit, uint64_t actual)
{
    client_send_error(c, 0, error, limit, actual);
    log_warn(c->loop->log, "closed a client", "error=%s", err_name(error));
}

static void on_closed(struct conn *c)
{
    struct client *cl = (struct client *)c;
    struct worker_loop *wl = cl->wl;
    uint64_t id = c->id;
    bool known = cl->known;

    if (cl->counted)
        atomic_fetch_sub(&wl->node->n_clients, 1);
    if (cl->refused)
        wl->n_refused--;
    free(cl);
    if (known && !wl->closing) {
        struct event event = {.type = EVENT_GONE, .u.gone.conn = id};
        worker_loop_feed(wl, &event);
    }
}

static const struct conn_handler handler = {.on_frame = on_frame,
                                            .on_move = on_move,
                                            .on_broken = on_broken,
                                            .on_closed = on_closed,
                                            .idle_closes = true,
                                            .pauses = true};

static struct client *client_new(struct worker_loop *wl, int fd, struct slice unread, bool counted)
{
    struct client *cl = calloc(1, sizeof(*cl));
    if (!cl) {
        close(fd);
        return NULL;
    }
    cl->wl = wl;
    cl->counted = counted;
    if (conn_open(&cl->conn, &wl->loop, &handler, fd, unread) < 0) {
        free(cl);
        return NULL;
    }
    return cl;
}

static void refuse_connection(struct worker_loop *wl, int fd)
{
    log_warn(&wl->node->log, "too many connections", "limit=%u", wl->node->clients_max);
    if (wl->n_refused >= REFUSED_MAX) {
        close(fd);
        return;
    }
    struct client *cl = client_new(wl, fd, (struct slice){0}, false);
    if (!cl)
        return;
    cl->refused = true;
    wl->n_refused++;
    client_send_error(&cl->conn, 0, ERR_TOO_MANY_CONNECTIONS, wl->node->clients_max,
                      wl->node->clients_max + 1);
    conn_finish(&cl->conn);
}

void client_accept(void *worker_loop, int fd)
{
    struct worker_loop *wl = worker_loop;

    if (atomic_fetch_add(&wl->node->n_clients, 1) >= wl->node->clients_max) {
        atomic_fetch_sub(&wl->node->n_clients, 1);
        refuse_connection(wl, fd);
        return;
    }
    if (!client_new(wl, fd, (struct slice){0}, true))
        atomic_fetch_sub(&wl->node->n_clients, 1);
}

void client_take(struct worker_loop *wl, struct letter *letter)
{
    int fd = letter->u.socket.fd;
    letter->u.socket.fd = -1;
    if (!client_new(wl, fd, blob_slice(letter->u.socket.unread), true))
        atomic_fetch_sub(&wl->node->n_clients, 1);
}
