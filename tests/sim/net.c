/* net: one link for requests from each node to each other, answers on the way back.
 *
 * A link is TCP-like: between a worker and a worker bytes arrive in order, or the link breaks and
 * what is in flight is lost, and only then do both ends start anew under another id. A blocked
 * direction holds bytes back (TCP would send them again) until it is unblocked or a time-out breaks
 * the link. Workers of the dialling end hear of it in order, a little later. On top of that, as
 * stress beyond TCP, single messages may be lost, repeated and reordered when those faults are on.
 *
 * A link's id names its ends, so that "back along the link that brought it" finds its way:
 * counter << 24 | dialling node << 16 | its worker << 8 | worker at the other end. */
#include "tests/sim/sim.h"

#include <stdlib.h>

#define ID_FROM(id) ((uint32_t)((id) >> 16) & 0xff)
#define ID_WORKER(id) ((uint32_t)((id) >> 8) & 0xff)
#define ID_COUNTER(id) ((id) >> 24)

#define CONNECT_US (300 * MS)
#define KEEPALIVE_US (3 * SECOND)

/* ---- messages ---------------------------------------------------------------------------- */

static void hold(struct link *l, bool answer, struct item item)
{
    l->held[answer] = realloc(l->held[answer], (l->n_held[answer] + 1) * sizeof(item));
    if (!l->held[answer])
        abort();
    l->held[answer][l->n_held[answer]++] = item;
}

static void drop_held(struct link *l)
{
    for (int answer = 0; answer < 2; answer++) {
        for (size_t i = 0; i < l->n_held[answer]; i++)
            item_free(&l->held[answer][i]);
        free(l->held[answer]);
        l->held[answer] = NULL;
        l->n_held[answer] = 0;
    }
}

/* Gives one copy of a message its time of arrival. */
static void fly(struct world *w, struct link *l, bool answer, uint32_t from_worker,
                struct item item, uint32_t from, uint32_t to)
{
    uint64_t *last = &l->arrival_us[answer][from_worker][item.worker];
    uint64_t delay =
        l->latency_us + sim_delay(w, 2 * MS) + w->nodes[from].slow_us + w->nodes[to].slow_us;

    if (w->blocked[from][to]) {
        hold(l, answer, item);
        return;
    }
    if (sim_chance(w, w->reorder)) {
        sim_push(w, w->now_us + sim_delay(w, 200 * MS), item);
        return;
    }
    *last = w->now_us + delay > *last ? w->now_us + delay : *last;
    sim_push(w, *last, item);
}

static void transmit(struct world *w, struct link *l, bool answer, uint32_t from,
                     uint32_t from_worker, uint32_t to, struct item item)
{
    w->stats.n_messages++;
    if (sim_chance(w, w->loss)) {
        w->stats.faults[FAULT_LOSS]++;
        blob_unref(item.bytes);
        return;
    }
    if (sim_chance(w, w->duplicate)) {
        struct item copy = item;

        w->stats.faults[FAULT_DUPLICATE]++;
        copy.bytes = blob_ref(item.bytes);
        fly(w, l, answer, from_worker, copy, from, to);
    }
    w->stats.faults[FAULT_REORDER] += w->reorder > 0;
    fly(w, l, answer, from_worker, item, from, to);
}

static struct blob *pack(struct world *w, const struct wire_peer *msg)
{
    w->scratch.len = 0;
    if (wire_peer_pack(msg, &w->scratch) < 0) {
        sim_fail(w, "a message of type %d cannot be packed", msg->type);
        return NULL;
    }
    return blob_copy(buf_slice(&w->scratch));
}

static void send_mail(struct world *w, struct node *n, uint32_t worker, uint32_t to,
                      struct blob *bytes)
{
    uint64_t *last = &n->mail_us[1 + worker][to];
    /* Mostly at once; a sibling that is behind looks later. */
    uint64_t at = w->now_us + sim_delay(w, sim_chance(w, 20) ? 50 * MS + n->slow_us : 200);

    if (to >= n->n_workers) {
        sim_fail(w, "%s mails its worker %u of %u", n->name, to, n->n_workers);
        blob_unref(bytes);
        return;
    }
    *last = at > *last ? at : *last;
    sim_push(w, *last,
             (struct item){.type = ITEM_MAIL,
                           .node = (uint16_t)n->index,
                           .worker = (uint16_t)to,
                           .a = worker,
                           .b = node_mono_ms(w, n),
                           .bytes = bytes});
}

static void send_request(struct world *w, struct node *n, uint32_t worker, const struct addr *to,
                         struct blob *bytes)
{
    struct link *l = &w->links[n->index][to->node];
    uint32_t other = to->worker % w->nodes[to->node].n_workers;
    struct item item = {.type = ITEM_MESSAGE, .node = (uint16_t)to->node, .bytes = bytes};

    if (!l->up) {
        blob_unref(bytes);
        return;
    }
    if (w->enabled[FAULT_MISROUTE] && sim_chance(w, 300)) {
        w->stats.faults[FAULT_MISROUTE]++;
        other = (uint32_t)sim_below(w, w->nodes[to->node].n_workers);
    }
    item.worker = (uint16_t)other;
    item.a = l->id << 24 | n->index << 16 | worker << 8 | other;
    item.b = n->index << 8 | 1;
    transmit(w, l, false, n->index, worker, to->node, item);
}

static void send_answer(struct world *w, struct node *n, uint32_t worker, uint64_t id,
                        struct blob *bytes)
{
    uint32_t to = ID_FROM(id);
    struct link *l = &w->links[to][n->index];
    struct item item = {.type = ITEM_MESSAGE,
                        .node = (uint16_t)to,
                        .worker = (uint16_t)ID_WORKER(id),
                        .a = id,
                        .b = n->index << 8,
                        .bytes = bytes};

    if (!l->up || l->id != ID_COUNTER(id)) {
        blob_unref(bytes);
        return;
    }
    transmit(w, l, true, n->index, worker, to, item);
}

static void describe(struct world *w, const struct node *n, uint32_t worker, const struct addr *to,
                     const struct wire_peer *m)
{
    static const char *const types[] = {
        "none",          "hello", "hello reply", "get",   "get reply",  "put",
        "put reply",     "scan",  "scan reply",  "form",  "gossip",     "compare",
        "compare reply", "pull",  "pull reply",  "purge", "purge reply"};
    struct version v = {0};
    int detail = m->error;

    if (m->type == PEER_PUT) {
        v = m->u.put.state.version;
        detail = m->u.put.first_hand;
    } else if (m->type == PEER_PUT_REPLY) {
        v = m->u.put_reply.version;
        detail = m->error ? -m->error : (int)m->u.put_reply.outcome;
    } else if (m->type == PEER_GET_REPLY) {
        v = m->u.get_reply.state.version;
        detail = m->error ? -m->error : (int)m->u.get_reply.found;
    } else if (m->type == PEER_PURGE) {
        v.hlc = m->u.purge.floor;
        detail = (int)m->u.purge.step;
    } else if (m->type == PEER_PURGE_REPLY) {
        v.hlc = m->u.purge_reply.closed;
    } else if (m->type == PEER_PULL_REPLY) {
        detail = m->error ? -m->error : (int)m->u.pull_reply.n_records;
    }
    sim_trace(w, "  %s.%u %s %u.%u: %s %llx slot %u.%u/%u %d %llx.%llx", n->name, worker,
              to->kind == ADDR_LINK ? "answers" : "to",
              to->kind == ADDR_LINK ? ID_FROM(to->link) : to->node,
              to->kind == ADDR_LINK ? ID_WORKER(to->link) : to->worker, types[m->type],
              (unsigned long long)m->id, m->replica.partition, m->replica.slot, m->replica.fence,
              detail, (unsigned long long)v.hlc, (unsigned long long)v.actor);
}

void net_send(struct world *w, struct node *n, uint32_t worker, const struct addr *to,
              const struct wire_peer *msg)
{
    struct blob *bytes = pack(w, msg);

    if (msg->error == ERR_DEADLINE && (to->kind != ADDR_WORKER || !(msg->id >> 63)))
        sim_fail(w, "%s tells more than a relaying worker that it dropped a message", n->name);
    if (to->kind != ADDR_WORKER) /* which may be relaying what another node said */
        check_message(w, n, msg);
    if (w->options.trace)
        describe(w, n, worker, to, msg);

    if (!bytes)
        return;
    switch (to->kind) {
    case ADDR_WORKER:
        send_mail(w, n, worker, to->worker, bytes);
        return;
    case ADDR_NODE:
        if (to->node < w->n_nodes && to->node != n->index) {
            send_request(w, n, worker, to, bytes);
            return;
        }
        break;
    case ADDR_LINK:
        send_answer(w, n, worker, to->link, bytes);
        return;
    case ADDR_SELF:
        break;
    }
    blob_unref(bytes);
    sim_fail(w, "%s.%u sends to nowhere (kind %d, node %u)", n->name, worker, to->kind, to->node);
}

void net_arrive(struct world *w, struct node *n, struct item *item)
{
    uint32_t from = ID_FROM(item->a), sender = (uint32_t)(item->b >> 8);
    struct link *l = item->b & 1 ? &w->links[from][n->index] : &w->links[from][sender];
    struct event in = {.type = EVENT_PEER};
    struct wire_peer msg;
    struct slice body = slice_of(item->bytes->data + LIMIT_FRAME_HEADER_BYTES,
                                 item->bytes->len - LIMIT_FRAME_HEADER_BYTES);

    if (!l->up || l->id != ID_COUNTER(item->a) || item->worker >= n->n_workers)
        return; /* lost with its link */
    if (w->blocked[sender][n->index]) {
        struct item held = *item;

        item->bytes = NULL;
        hold(l, !(item->b & 1), held);
        return;
    }
    arena_reset(&w->arena, WIRE_ARENA_BUDGET(body.len));
    if (wire_peer_unpack(body, &w->arena, &msg) < 0) {
        sim_fail(w, "%s cannot unpack a message", n->name);
        return;
    }
    in.u.peer.from = (struct addr){.kind = ADDR_LINK, .node = sender, .link = item->a};
    in.u.peer.node = sender;
    in.u.peer.msg = &msg;
    node_step(w, n, item->worker, &in);
}

/* ---- links ------------------------------------------------------------------------------- */

static void try_later(struct world *w, uint32_t from, uint32_t to)
{
    struct link *l = &w->links[from][to];

    if (l->connecting || l->up)
        return;
    l->connecting = true;
    sim_push(w, w->now_us + MS + sim_delay(w, CONNECT_US),
             (struct item){.type = ITEM_CONNECT, .node = (uint16_t)from, .a = to});
}

void net_connect(struct world *w, uint32_t from, uint32_t to)
{
    struct link *l = &w->links[from][to];
    struct node *n = &w->nodes[from], *other = &w->nodes[to];

    l->connecting = false;
    if (!n->alive || !other->alive || l->up)
        return; /* whoever starts begins anew */
    if (w->blocked[from][to] || w->blocked[to][from] || n->paused_us > w->now_us ||
        other->paused_us > w->now_us) {
        try_later(w, from, to);
        return;
    }
    l->up = true;
    l->id = ++w->link_ids;
    memset(l->arrival_us, 0, sizeof(l->arrival_us));
    sim_trace(w, "link %u -> %u is up", from, to);
    for (uint32_t i = 0; i < n->n_workers; i++)
        node_tell(w, n, i, sim_delay(w, MS),
                  (struct item){.type = ITEM_NODE_UP, .a = to, .b = other->n_workers});
}

void net_break(struct world *w, uint32_t from, uint32_t to, uint64_t detect_us)
{
    struct link *l = &w->links[from][to];
    struct node *n = &w->nodes[from];

    if (!l->up)
        return;
    sim_trace(w, "link %u -> %u breaks", from, to);
    l->up = false;
    drop_held(l);
    for (uint32_t i = 0; n->alive && i < n->n_workers; i++)
        node_tell(w, n, i, sim_delay(w, detect_us), (struct item){.type = ITEM_NODE_DOWN, .a = to});
    if (n->alive)
        try_later(w, from, to);
}

void net_timeout(struct world *w, uint32_t from, uint32_t to, uint64_t id)
{
    if (w->links[from][to].id == id &&
        (w->blocked[from][to] || w->blocked[to][from] || w->nodes[from].paused_us > w->now_us ||
         w->nodes[to].paused_us > w->now_us))
        net_break(w, from, to, MS);
}

static void release_held(struct world *w, struct link *l, bool answer, uint32_t from)
{
    struct item *items = l->held[answer];
    size_t n = l->n_held[answer];

    l->held[answer] = NULL;
    l->n_held[answer] = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t from_worker = answer ? (uint32_t)(items[i].a & 0xff) : ID_WORKER(items[i].a);

        fly(w, l, answer, from_worker, items[i], from, items[i].node);
    }
    free(items);
}

/* Silence: after a while somebody gives the link up, unless it has ended by then. */
void net_watch(struct world *w, uint32_t a, uint32_t b)
{
    uint64_t at = w->now_us + 200 * MS + sim_delay(w, KEEPALIVE_US);

    sim_push(
        w, at,
        (struct item){.type = ITEM_TIMEOUT, .node = (uint16_t)a, .a = b, .b = w->links[a][b].id});
}

void net_block(struct world *w, uint32_t from, uint32_t to, bool blocked)
{
    struct link *requests = &w->links[from][to], *answers = &w->links[to][from];

    if (w->blocked[from][to] == blocked)
        return;
    w->blocked[from][to] = blocked;
    if (!blocked) {
        release_held(w, requests, false, from);
        release_held(w, answers, true, from);
        return;
    }
    net_watch(w, from, to);
    net_watch(w, to, from);
}

void net_node_up(struct world *w, uint32_t node)
{
    for (uint32_t i = 0; i < w->n_nodes; i++)
        if (i != node && w->nodes[i].alive) {
            try_later(w, node, i);
            try_later(w, i, node);
        }
}

void net_node_down(struct world *w, uint32_t node)
{
    for (uint32_t i = 0; i < w->n_nodes; i++) {
        if (i == node)
            continue;
        net_break(w, i, node, sim_chance(w, 800) ? 20 * MS : KEEPALIVE_US);
        net_break(w, node, i, MS);
    }
}

void net_init(struct world *w)
{
    for (uint32_t a = 0; a < w->n_nodes; a++)
        for (uint32_t b = 0; b < w->n_nodes; b++)
            w->links[a][b].latency_us = 30 + sim_delay(w, 3 * MS);
}

void net_deinit(struct world *w)
{
    for (uint32_t a = 0; a < w->n_nodes; a++)
        for (uint32_t b = 0; b < w->n_nodes; b++)
            drop_held(&w->links[a][b]);
}
