/* peers: the other nodes, as one worker dials them.
 *
 *              timer                  name found            connected,          HELLO_REPLY
 *   WAITING ----------> LOOKING_UP -----------> DIALLING ---- hello sent ----> UP
 *      ^                     |                     |  refused, closed, timed out |
 *      +---------------------+---------------------+-----------------------------+
 *        retry after a jittered back-off of 20 ms .. 1 s, or at once when that node dials us
 *
 * A node's first slot leads to its worker 0; its hello tells how many workers there are, and then
 * each of them gets a link of its own. A node is up for the core from its first link to its last.
 * Requests take the link to the wanted worker, else any: the receiver hands them on.
 *
 * Refusals (another cluster, an older boot, ...) are told in the log once per reason, and tried
 * again at the slowest pace: the other side may be repaired.
 */
#include "server/edge/peers.h"
#include "proto/err.h"
#include "server/core/ring.h"
#include "server/edge/lookup.h"
#include "server/edge/worker_loop.h"
#include <stdio.h>
#include <stdlib.h>

static void dial_due(struct peers *p);

static void on_timer(uv_timer_t *timer)
{
    dial_due(timer->data);
}

/* ---- events for the core ------------------------------------------------------------------- */

static void tell_up(struct peer *peer)
{
    struct event event = {.type = EVENT_NODE_UP,
                          .u.node_up = {.node = peer->node, .n_workers = peer->n_workers}};
    worker_loop_feed(peer->peers->wl, &event);
}

static void tell_down(struct peer *peer)
{
    struct event event = {.type = EVENT_NODE_DOWN, .u.node_down = {.node = peer->node}};
    worker_loop_feed(peer->peers->wl, &event);
}

/* ---- waiting ------------------------------------------------------------------------------- */

static void wait_again(struct peer_slot *slot)
{
    struct worker_loop *wl = slot->peer->peers->wl;

    slot->phase = SLOT_WAITING;
    backoff_failed(&slot->backoff, loop_now_ms(&wl->loop), &wl->loop.prng, PEER_BACKOFF_MIN_MS,
                   PEER_BACKOFF_MAX_MS);
}

/* Sets the timer to the earliest slot that waits. */
static void arm(struct peers *p)
{
    uint64_t now_ms = loop_now_ms(&p->wl->loop), first_ms = UINT64_MAX;

    if (p->wl->closing)
        return;
    for (uint32_t node = 0; node < DIRECTORY_NODES_MAX; node++) {
        struct peer *peer = p->by_node[node];
        for (uint32_t i = 0; peer && i < (peer->n_up ? peer->n_workers : 1); i++)
            if (peer->slots[i].phase == SLOT_WAITING && peer->slots[i].backoff.retry_ms < first_ms)
                first_ms = peer->slots[i].backoff.retry_ms;
    }
    if (first_ms == UINT64_MAX)
        uv_timer_stop(&p->timer);
    else
        uv_timer_start(&p->timer, on_timer, first_ms > now_ms ? first_ms - now_ms : 0, 0);
}

/* ---- dialling ------------------------------------------------------------------------------ */

static void dial(struct peer_slot *slot, const struct sockaddr *to)
{
    struct peer *peer = slot->peer;

    slot->phase = SLOT_DIALLING;
    slot->link = link_dial(peer->peers->wl, slot, peer->node, to);
    if (!slot->link)
        wait_again(slot);
}

static void on_looked_up(void *ctx, uint32_t node, uint32_t worker, const struct sockaddr *to)
{
    struct peers *p = ctx;
    struct peer *peer = p->by_node[node];
    struct peer_slot *slot = peer ? &peer->slots[worker] : NULL;

    if (!slot || slot->phase != SLOT_LOOKING_UP || p->wl->closing)
        return;
    if (to)
        dial(slot, to);
    else
        wait_again(slot);
    arm(p);
}

static void slot_dial(struct peer_slot *slot)
{
    struct peer *peer = slot->peer;

    slot->phase = SLOT_LOOKING_UP;
    if (lookup_start(&peer->peers->wl->loop.uv, &peer->address, slot->attempt++, on_looked_up,
                     peer->peers, peer->node, slot->worker) < 0)
        wait_again(slot);
}

static void dial_due(struct peers *p)
{
    uint64_t now_ms = loop_now_ms(&p->wl->loop);

    for (uint32_t node = 0; node < DIRECTORY_NODES_MAX; node++) {
        struct peer *peer = p->by_node[node];
        for (uint32_t i = 0; peer && i < (peer->n_up ? peer->n_workers : 1); i++)
            if (peer->slots[i].phase == SLOT_WAITING && peer->slots[i].backoff.retry_ms <= now_ms)
                slot_dial(&peer->slots[i]);
    }
    arm(p);
}

void peers_nudge(struct peers *p, uint32_t node)
{
    struct peer *peer = node < DIRECTORY_NODES_MAX ? p->by_node[node] : NULL;

    for (uint32_t i = 0; peer && i < LIMIT_WORKERS_MAX; i++)
        if (peer->slots[i].phase == SLOT_WAITING && !peer->slots[i].refused) {
            peer->slots[i].backoff.retry_ms = loop_now_ms(&p->wl->loop);
            peer->slots[i].backoff.ms = 0;
        }
    if (peer)
        arm(p);
}

/* ---- what links report --------------------------------------------------------------------- */

static void give_up(struct peer_slot *slot)
{
    struct link *link = slot->link;
    slot->link = NULL;
    if (link) {
        link->slot = NULL;
        conn_close(&link->conn, 0);
    }
}

/* The slot's link is of no use; one that was up may have been the last. */
static void slot_down(struct peer_slot *slot, const char *why)
{
    struct peer *peer = slot->peer;
    bool was_up = slot->phase == SLOT_UP;

    give_up(slot);
    wait_again(slot);
    if (was_up && --peer->n_up == 0) {
        log_warn(&peer->peers->wl->node->log, "node down", "node=%s worker=%u reason=%s",
                 LOG_STR(peer->name), peer->peers->wl->index, LOG_STR(why));
        tell_down(peer);
    }
}

void peers_lost(struct peer_slot *slot, const char *why)
{
    struct peers *p = slot->peer->peers;

    if (p->wl->closing)
        return;
    slot->link = NULL; /* it is being freed */
    slot_down(slot, why);
    arm(p);
}

/* What the answering node says about itself must be what the ring says. */
static int check_reply(const struct peer *peer, const struct wire_peer *msg)
{
    const struct wire_hello *hello = &msg->u.hello;

    if (msg->error)
        return msg->error;
    if (hello->protocol != WIRE_PROTOCOL)
        return ERR_UNSUPPORTED;
    if (!wire_id_equal(&hello->cluster_id, &peer->peers->cluster_id) ||
        !wire_id_equal(&hello->node_id, &peer->id))
        return ERR_WRONG_CLUSTER; /* another node lives at this address */
    if (hello->n_workers == 0 || hello->n_workers > LIMIT_WORKERS_MAX)
        return ERR_BAD_REQUEST;
    return -directory_check_boot(peer->peers->wl->node->directory, peer->node, hello->boot,
                                 hello->start);
}

static void slot_refused(struct peer_slot *slot, int error)
{
    struct peer *peer = slot->peer;

    if (slot->refused != error)
        log_write(&peer->peers->wl->node->log, err_retryable(error) ? LOG_DEBUG : LOG_WARN,
                  "a node refuses our link, or is not the one", "node=%s worker=%u error=%s",
                  LOG_STR(peer->name), peer->peers->wl->index, err_name(error));
    slot->refused = error;
    if (!err_retryable(error))
        slot->backoff.ms = PEER_BACKOFF_MAX_MS;
    slot_down(slot, err_text(error));
    arm(peer->peers);
}

/* The node has another number of workers than before (it was restarted): drop the links beyond. */
static void set_workers(struct peer *peer, uint32_t n_workers)
{
    for (uint32_t i = n_workers; i < peer->n_workers; i++)
        slot_down(&peer->slots[i], "fewer workers");
    peer->n_workers = n_workers;
}

void peers_hello_reply(struct peer_slot *slot, const struct wire_peer *msg)
{
    struct peer *peer = slot->peer;
    int error = check_reply(peer, msg);

    if (error) {
        slot_refused(slot, error);
        return;
    }
    bool news = peer->n_up == 0 || peer->n_workers != msg->u.hello.n_workers;
    slot->phase = SLOT_UP;
    slot->link->conn.must_ms = 0;
    slot->backoff.ms = 0;
    slot->refused = 0;
    if (peer->n_up++ == 0)
        log_info(&peer->peers->wl->node->log, "node up", "node=%s worker=%u workers=%u",
                 LOG_STR(peer->name), peer->peers->wl->index, msg->u.hello.n_workers);
    set_workers(peer, msg->u.hello.n_workers);
    if (news && peer->n_up > 0) /* this very link may have been one beyond */
        tell_up(peer);
    dial_due(peer->peers); /* the links to its other workers */
}

struct link *peers_pick(struct peers *p, uint32_t node, uint32_t worker)
{
    struct peer *peer = node < DIRECTORY_NODES_MAX ? p->by_node[node] : NULL;

    if (!peer || peer->n_up == 0)
        return NULL;
    if (worker < peer->n_workers && peer->slots[worker].phase == SLOT_UP)
        return peer->slots[worker].link;
    for (uint32_t i = 0; i < peer->n_workers; i++)
        if (peer->slots[i].phase == SLOT_UP)
            return peer->slots[i].link;
    return NULL;
}

/* ---- the ring ------------------------------------------------------------------------------ */

static void peer_remove(struct peer *peer)
{
    struct peers *p = peer->peers;
    bool was_up = peer->n_up > 0;

    for (uint32_t i = 0; i < LIMIT_WORKERS_MAX; i++)
        give_up(&peer->slots[i]);
    p->by_node[peer->node] = NULL;
    if (was_up)
        tell_down(peer);
    free(peer);
}

static struct peer *peer_add(struct peers *p, uint32_t node, const struct wire_member *m)
{
    struct peer *peer = calloc(1, sizeof(*peer));

    if (!peer)
        return NULL;
    peer->peers = p;
    peer->node = node;
    peer->id = m->id;
    peer->n_workers = 1;
    for (uint32_t i = 0; i < LIMIT_WORKERS_MAX; i++)
        peer->slots[i] = (struct peer_slot){.peer = peer, .worker = i, .phase = SLOT_WAITING};
    p->by_node[node] = peer;
    return peer;
}

static void take_member(struct peers *p, uint32_t node, const struct wire_member *m)
{
    char text[ADDRESS_TEXT_BYTES];
    struct address address;
    struct peer *peer = p->by_node[node];

    snprintf(text, sizeof(text), "%.*s", (int)m->peer_address.len,
             (const char *)m->peer_address.data);
    if (address_parse(text, &address) < 0) {
        log_error(&p->wl->node->log, "the ring holds an address that cannot be dialled",
                  "node=%s address=%s", LOG_SLICE(m->name), LOG_SLICE(m->peer_address));
        return;
    }
    if (!peer)
        peer = peer_add(p, node, m);
    if (!peer)
        return;
    peer->address = address; /* used from the next attempt on */
    snprintf(peer->name, sizeof(peer->name), "%.*s", (int)m->name.len, (const char *)m->name.data);
}

void peers_set_ring(struct peers *p, const struct ring *ring)
{
    const struct wire_ring *w = ring_wire(ring);

    p->cluster_id = w->cluster_id;
    for (uint32_t node = 1; node < DIRECTORY_NODES_MAX; node++)
        if (p->by_node[node] && ring_member_of(ring, &p->by_node[node]->id) < 0)
            peer_remove(p->by_node[node]);
    for (uint32_t i = 0; i < w->n_members; i++) {
        uint32_t node = ring_member_node(ring, i);
        if (node > 0 && node < DIRECTORY_NODES_MAX) /* 0 is this node */
            take_member(p, node, &w->members[i]);
    }
    dial_due(p);
}

/* ---- life ---------------------------------------------------------------------------------- */

void peers_init(struct peers *p, struct worker_loop *wl)
{
    p->wl = wl;
    uv_timer_init(&wl->loop.uv, &p->timer);
    p->timer.data = p;
}

void peers_stop(struct peers *p)
{
    uv_timer_stop(&p->timer);
    for (uint32_t node = 0; node < DIRECTORY_NODES_MAX; node++)
        for (uint32_t i = 0; p->by_node[node] && i < LIMIT_WORKERS_MAX; i++)
            give_up(&p->by_node[node]->slots[i]);
}

void peers_deinit(struct peers *p)
{
    for (uint32_t node = 0; node < DIRECTORY_NODES_MAX; node++)
        free(p->by_node[node]);
}
