/* link: a peer connection of a worker, dialled by it or handed over to it.
 *
 *   dialled       HELLO out, HELLO_REPLY in, then requests out and replies in
 *   handed over   control has read and accepted the HELLO; HELLO_REPLY out, then requests in and
 *                 replies out, which go back along the same link
 *
 * Messages are small structs to and from the core; what is not a message ends the link: two nodes
 * of one cluster that do not understand each other must not guess.
 */
#include "server/edge/link.h"
#include "proto/err.h"
#include "server/core/ring.h"
#include "server/edge/worker_loop.h"
#include <stdlib.h>

static size_t records_size(const struct wire_record *records, size_t n)
{
    size_t size = 0;

    for (size_t i = 0; i < n; i++)
        size += records[i].state.value.len + records[i].key.partition.len + records[i].key.sort.len;
    return size;
}

/* Bytes of records in a message: what a refusal goes without. */
static size_t payload_size(const struct wire_peer *msg)
{
    if (msg->error)
        return 0;
    if (msg->type == PEER_GET_REPLY)
        return msg->u.get_reply.state.value.len;
    if (msg->type == PEER_SCAN_REPLY)
        return records_size(msg->u.scan_reply.records, msg->u.scan_reply.n_records);
    if (msg->type == PEER_PULL_REPLY)
        return records_size(msg->u.pull_reply.records, msg->u.pull_reply.n_records);
    return 0;
}

static bool link_pack(struct link *link, const struct wire_peer *msg)
{
    int rc = wire_peer_pack(msg, conn_out(&link->conn));
    if (rc == 0)
        conn_sent(&link->conn);
    else
        log_warn(link->conn.loop->log, "a message to a peer was dropped", "error=%s", err_name(rc));
    return rc == 0;
}

bool link_send(struct link *link, const struct wire_peer *msg)
{
    bool read_reply =
        msg->type == PEER_GET_REPLY || msg->type == PEER_SCAN_REPLY || msg->type == PEER_PULL_REPLY;
    struct wire_peer refusal;

    if (!conn_out(&link->conn))
        return false;
    if (conn_unsent(&link->conn) > LINK_OUT_BYTES_MAX &&
        (peer_is_request(msg) || payload_size(msg) > CONN_ANSWER_SMALL_BYTES)) {
        log_warn(link->conn.loop->log, "a peer takes messages too slowly: some are refused",
                 "worker=%u", link->wl->index);
    } else if (link_pack(link, msg)) {
        return true;
    }
    if (!read_reply)
        return false;
    peer_refusal(msg, ERR_OVERLOADED, &refusal); /* whoever waits for it can ask elsewhere */
    return link_pack(link, &refusal);
}

static void send_hello(struct link *link, enum wire_peer_type type, uint32_t worker_to)
{
    struct worker_loop *wl = link->wl;
    struct wire_peer msg = {.type = type};

    node_hello(wl->node, &msg.u.hello);
    msg.u.hello.link = LINK_WORKER;
    msg.u.hello.worker_from = wl->index;
    msg.u.hello.worker_to = worker_to;
    if (wl->ring) {
        msg.u.hello.cluster_id = ring_wire(wl->ring)->cluster_id;
        msg.u.hello.ring_epoch = ring_epoch(wl->ring);
    }
    link_send(link, &msg);
}

static void on_open(struct conn *c)
{
    struct link *link = (struct link *)c;
    if (!link->slot) { /* given up meanwhile */
        conn_close(c, 0);
        return;
    }
    send_hello(link, PEER_HELLO, link->slot->worker);
}

static void recv_hello_reply(struct link *link, const struct wire_peer *msg)
{
    if (!link->slot || link->greeted) {
        conn_close(&link->conn, -ERR_BAD_REQUEST);
        return;
    }
    link->greeted = true;
    peers_hello_reply(link->slot, msg);
}

static void recv_message(struct link *link, const struct wire_peer *msg)
{
    struct event event = {
        .type = EVENT_PEER,
        .u.peer = {.from = {.kind = ADDR_LINK, .node = link->node, .link = link->conn.id},
                   .node = link->node,
                   .msg = msg,
                   .waited_ms = link->conn.waited_ms}};
    if (!link->greeted) {
        conn_close(&link->conn, -ERR_BAD_REQUEST);
        return;
    }
    worker_loop_feed(link->wl, &event);
}

static enum conn_verdict on_frame(struct conn *c, struct slice body)
{
    struct link *link = (struct link *)c;
    struct wire_peer msg;

    arena_reset(&c->loop->arena, WIRE_ARENA_BUDGET(body.len));
    int rc = wire_peer_unpack(body, &c->loop->arena, &msg);
    if (rc < 0) {
        log_warn(c->loop->log, "a peer sent what is no message", "error=%s", err_name(rc));
        conn_close(c, rc);
        return CONN_NEXT;
    }
    switch (msg.type) {
    case PEER_HELLO_REPLY:
        recv_hello_reply(link, &msg);
        break;
    case PEER_GET:
    case PEER_GET_REPLY:
    case PEER_PUT:
    case PEER_PUT_REPLY:
    case PEER_SCAN:
    case PEER_SCAN_REPLY:
    case PEER_COMPARE:
    case PEER_COMPARE_REPLY:
    case PEER_PULL:
    case PEER_PULL_REPLY:
    case PEER_PURGE:
    case PEER_PURGE_REPLY:
        recv_message(link, &msg);
        break;
    case PEER_HELLO: /* control's business */
    case PEER_FORM:
    case PEER_GOSSIP:
    case PEER_RING_ASK:
    case PEER_RING_REPLY:
    case PEER_REGISTER_PREPARE:
    case PEER_REGISTER_PREPARE_REPLY:
    case PEER_REGISTER_ACCEPT:
    case PEER_REGISTER_ACCEPT_REPLY:
    case PEER_NONE: /* of a future version */
        break;
    }
    return CONN_NEXT;
}

static void on_broken(struct conn *c, int error, uint64_t limit, uint64_t actual)
{
    log_warn(c->loop->log, "closed a link", "error=%s", err_name(error));
}

static void on_closed(struct conn *c)
{
    struct link *link = (struct link *)c;
    if (link->slot)
        peers_lost(link->slot, conn_why(c));
    free(link);
}

/* Whoever dials must always take the answers: pausing there could make both sides wait. */
static const struct conn_handler dialled = {.on_open = on_open,
                                            .on_frame = on_frame,
                                            .on_broken = on_broken,
                                            .on_closed = on_closed,
                                            .peer = true,
                                            .trusted = true};
static const struct conn_handler handed_over = {.on_frame = on_frame,
                                                .on_broken = on_broken,
                                                .on_closed = on_closed,
                                                .pauses = true,
                                                .peer = true,
                                                .trusted = true};

static struct link *link_new(struct worker_loop *wl, uint32_t node)
{
    struct link *link = calloc(1, sizeof(*link));
    if (link) {
        link->wl = wl;
        link->node = node;
    }
    return link;
}

struct link *link_dial(struct worker_loop *wl, struct peer_slot *slot, uint32_t node,
                       const struct sockaddr *to)
{
    struct link *link = link_new(wl, node);
    if (!link)
        return NULL;
    link->slot = slot;
    if (conn_dial(&link->conn, &wl->loop, &dialled, to, loop_now_ms(&wl->loop) + PEER_HELLO_MS) <
        0) {
        free(link);
        return NULL;
    }
    return link;
}

void link_accept(struct worker_loop *wl, struct letter *letter)
{
    struct link *link = link_new(wl, letter->u.socket.node);
    int fd = letter->u.socket.fd;

    if (!link)
        return; /* the letter closes the socket */
    letter->u.socket.fd = -1;
    link->greeted = true;
    if (conn_open(&link->conn, &wl->loop, &handed_over, fd, blob_slice(letter->u.socket.unread)) <
        0) {
        free(link);
        return;
    }
    send_hello(link, PEER_HELLO_REPLY, letter->u.socket.worker_from);
}
