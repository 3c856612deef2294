/* caller: a connection that another node made to our peer address.
 *
 *   accepted --HELLO--> checked --refused--> HELLO_REPLY with an error, closed
 *                          |
 *                          +-- LINK_WORKER: the socket moves to the worker wanted, which answers
 *                          +-- LINK_CONTROL: HELLO_REPLY; stays here: of a member, for gossip; else
 *                                            (forming the cluster) until it is silent for
 *                                            CALLER_IDLE_MS
 *
 * Ids cost nothing, so a control link is no friend for being greeted: once a ring is decided, a
 * node that is not in it gets the answer to one question (which ring that is), and never more than
 * CALLER_STRANGER_MS. Candidates may stay, but no more of them than LIMIT_CANDIDATES_MAX in the
 * life of this process: each takes a number for good. Beyond CALLERS_MAX connections are closed
 * unheard, and the log says so.
 *
 * Checked: the protocol; that it is not this node or a copy of it; that both belong to the same
 * cluster (or, over a control link, to none yet); that a worker's link comes from a member of our
 * ring; that its boot is not older than one seen before, nor shared with another process.
 */
#include "server/edge/caller.h"
#include "proto/err.h"
#include "server/core/ring.h"
#include "server/edge/control.h"
#include "server/edge/worker_loop.h"
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

bool caller_send(struct caller *caller, const struct wire_peer *msg)
{
    struct buf *out = conn_out(&caller->conn);
    if (!out || wire_peer_pack(msg, out) < 0)
        return false;
    conn_sent(&caller->conn);
    return true;
}

static void send_reply(struct caller *caller, int error)
{
    control_say_hello(caller->control, &caller->conn, PEER_HELLO_REPLY, error);
}

/* ---- the hello ----------------------------------------------------------------------------- */

static int check_start(const struct control *c, const struct wire_hello *hello, uint32_t node)
{
    if (node == DIRECTORY_NONE)
        return ERR_OVERLOADED;
    return -directory_check_boot(c->node->directory, node, hello->boot, hello->start);
}

/* Of a node that gossips. *ret_node: its handle. */
static int check_gossip(const struct control *c, const struct wire_hello *hello, uint32_t *ret_node)
{
    struct directory *d = c->node->directory;
    bool member = ring_member_of(c->ring, &hello->node_id) >= 0;

    if (!member && directory_find(d, &hello->node_id) == DIRECTORY_NONE &&
        directory_n(d) >= ring_wire(c->ring)->n_members + LIMIT_CANDIDATES_MAX)
        return ERR_OVERLOADED;
    *ret_node = directory_intern(d, &hello->node_id);
    return check_start(c, hello, *ret_node);
}

/* A worker's link needs a common ring that names both. *ret_node: its handle. */
static int check_member(const struct control *c, const struct wire_hello *hello, uint32_t *ret_node)
{
    if (!c->serving)
        return ERR_NOT_READY;
    if (wire_id_is_zero(&hello->cluster_id))
        return ERR_WRONG_CLUSTER;
    int member = ring_member_of(c->ring, &hello->node_id);
    if (member < 0)
        return hello->ring_epoch > ring_epoch(c->ring) ? ERR_NOT_YET : ERR_WRONG_CLUSTER;
    *ret_node = ring_member_node(c->ring, (uint32_t)member);
    return check_start(c, hello, *ret_node);
}

static int check_hello(const struct control *c, const struct wire_hello *hello, uint32_t *ret_node)
{
    const struct wire_id *ours = &c->node->disk.cluster_id;

    if (hello->protocol != WIRE_PROTOCOL)
        return ERR_UNSUPPORTED;
    if (hello->link != LINK_CONTROL && hello->link != LINK_WORKER)
        return ERR_UNSUPPORTED;
    if (wire_id_equal(&hello->node_id, &c->node->disk.node_id)) /* this node, or a copy of it */
        return hello->boot == c->node->disk.boot && hello->start == c->node->start ? ERR_BAD_REQUEST
                                                                                   : ERR_STALE_BOOT;
    if (!wire_id_is_zero(ours) && !wire_id_is_zero(&hello->cluster_id) &&
        !wire_id_equal(ours, &hello->cluster_id))
        return ERR_WRONG_CLUSTER;
    return hello->link == LINK_WORKER ? check_member(c, hello, ret_node) : 0;
}

/* A control link of a member of our ring, or of a candidate: for gossip, or what former asks. */
static bool gossips(const struct control *c, const struct wire_hello *hello)
{
    return hello->link == LINK_CONTROL && c->ring && !wire_id_is_zero(&hello->cluster_id) &&
           (hello->candidate || ring_member_of(c->ring, &hello->node_id) >= 0);
}

static enum conn_verdict recv_hello(struct caller *caller, const struct wire_hello *hello)
{
    struct control *c = caller->control;
    bool gossip = gossips(c, hello);
    int error = check_hello(c, hello, &caller->node);

    if (!error && gossip)
        error = check_gossip(c, hello, &caller->node);
    if (error) {
        log_write(&c->node->log, err_retryable(error) ? LOG_DEBUG : LOG_WARN, "refused a node",
                  "node=%s id=%s error=%s", LOG_SLICE(hello->name), LOG_ID(&hello->node_id),
                  err_name(error));
        send_reply(caller, error);
        conn_finish(&caller->conn);
        return CONN_NEXT;
    }
    caller->greeted = true;
    caller->node_id = hello->node_id;
    if (hello->link == LINK_WORKER) {
        former_confirm(&c->former); /* checked: a member */
        caller->worker_from = hello->worker_from;
        caller->worker_to = hello->worker_to % c->node->n_workers;
        return CONN_MOVE;
    }
    caller->stranger = c->ring && !gossip && ring_member_of(c->ring, &hello->node_id) < 0;
    caller->conn.must_ms =
        loop_now_ms(&c->loop) + (caller->stranger ? CALLER_STRANGER_MS : CALLER_IDLE_MS);
    send_reply(caller, 0);
    if (gossip) {
        caller->gossips = true;
        gossip_called(&c->gossip, caller, hello);
    }
    return CONN_NEXT;
}

static void on_move(struct conn *conn, struct slice unread)
{
    struct caller *caller = (struct caller *)conn;
    struct control *c = caller->control;
    struct letter *letter = letter_new(LETTER_SOCKET, c->loop.index);
    struct blob *bytes = unread.len ? blob_copy(unread) : NULL;
    int fd = conn_dup(conn);

    conn_close(conn, 0);
    if (!letter || (unread.len && !bytes) || fd < 0) { /* the other side dials again */
        free(letter);
        blob_unref(bytes);
        if (fd >= 0)
            close(fd);
        return;
    }
    letter->u.socket.kind = SOCKET_LINK;
    letter->u.socket.fd = fd;
    letter->u.socket.unread = bytes;
    letter->u.socket.node = caller->node;
    letter->u.socket.worker_from = caller->worker_from;
    loop_post_one(&c->node->workers[caller->worker_to]->loop, letter);
    control_nudge(c, caller->node);
}

/* ---- frames -------------------------------------------------------------------------------- */

static enum conn_verdict on_frame(struct conn *conn, struct slice body)
{
    struct caller *caller = (struct caller *)conn;
    struct wire_peer msg;
    int rc = -ERR_FRAME_TOO_LARGE;

    if (caller->greeted || body.len <= CALLER_HELLO_BYTES) {
        arena_reset(&conn->loop->arena, WIRE_ARENA_BUDGET(body.len));
        rc = wire_peer_unpack(body, &conn->loop->arena, &msg);
    }
    if (rc == 0 && !caller->greeted && msg.type == PEER_HELLO)
        return recv_hello(caller, &msg.u.hello);
    if (rc < 0 || !caller->greeted) {
        log_warn(conn->loop->log, "somebody who is no node came to the peer address", "error=%s",
                 err_name(rc ? rc : ERR_BAD_REQUEST));
        conn_close(conn, rc);
        return CONN_NEXT;
    }
    if (!caller->stranger)
        conn->must_ms = loop_now_ms(conn->loop) + CALLER_IDLE_MS;
    if (msg.type == PEER_FORM && msg.u.form)
        former_recv(&caller->control->former, caller, msg.u.form);
    if (msg.type == PEER_GOSSIP && caller->gossips)
        conn->must_ms = 0; /* it stays: that it breaks is news */
    if (caller->gossips)
        gossip_recv(&caller->control->gossip, conn, caller->node, &msg);
    else if (msg.type == PEER_RING_ASK) /* one that was a member, perhaps, and has not heard */
        gossip_recv(&caller->control->gossip, conn, DIRECTORY_NONE, &msg);
    if (caller->stranger)
        conn_finish(conn); /* it has its answer */
    return CONN_NEXT;
}

static void on_broken(struct conn *c, int error, uint64_t limit, uint64_t actual)
{
    log_warn(c->loop->log, "closed a link", "error=%s", err_name(error));
}

static void on_closed(struct conn *c)
{
    struct caller *caller = (struct caller *)c;

    if (caller->gossips)
        gossip_caller_gone(&caller->control->gossip, caller);
    free(caller);
}

static const struct conn_handler handler = {.on_frame = on_frame,
                                            .on_move = on_move,
                                            .on_broken = on_broken,
                                            .on_closed = on_closed,
                                            .pauses = true,
                                            .peer = true};

/* Told once a second at most: whoever fills the port does not fill the disk. */
static void tell_refused(struct control *c)
{
    uint64_t now_ms = loop_now_ms(&c->loop);

    c->n_refused++;
    if (c->refused_told_ms && now_ms - c->refused_told_ms < 1000)
        return;
    c->refused_told_ms = now_ms;
    log_warn(&c->node->log, "too many connections at the peer address", "limit=%u refused=%" PRIu64,
             CALLERS_MAX, c->n_refused);
}

void caller_accept(void *control, int fd)
{
    struct control *c = control;
    struct caller *caller = c->loop.n_conns < CALLERS_MAX ? calloc(1, sizeof(*caller)) : NULL;

    if (!caller) {
        tell_refused(c);
        close(fd);
        return;
    }
    caller->control = c;
    if (conn_open(&caller->conn, &c->loop, &handler, fd, (struct slice){0}) < 0) {
        free(caller);
        return;
    }
    caller->conn.must_ms = loop_now_ms(&c->loop) + CALLER_HELLO_MS;
}
