/* gossip: ears and hands of server/core/membership, on the control thread.
 *
 * Messages go over control links. A node dials another when it has something to say and there is no
 * link between the two, in whichever direction; what it has to say waits meanwhile, within bounds.
 * Links stay: that one breaks is news (the process is gone), and at once. Each side may have
 * dialled, then there are two, and either serves.
 *
 *   nothing --say--> looking up --> dialling --hello, reply--> up
 *      ^                 |             |                        |
 *      +-- back-off -----+-------------+------ closed ----------+
 *
 * Addresses are those that a node says of itself, else those of the ring.
 *
 * What comes of it: the log says who is suspect, down, back; workers are told whom not to ask. A
 * node that is behind is brought the ring (core/membership_ring.c): asked for here, told here, and
 * handed to ring_keeper.c.
 */
#include "server/edge/gossip.h"

#include <inttypes.h>
#include <stdlib.h>

#include "proto/err.h"
#include "server/core/ring.h"
#include "server/edge/control.h"
#include "server/edge/lookup.h"
#include "server/edge/worker_loop.h"

struct gossip_link {
    struct conn conn; /* first */
    struct gossip *gossip;
    struct gossip_peer *peer;
    bool up;
};

struct gossip_peer {
    uint32_t node;
    struct wire_id id;
    char name[LIMIT_NAME_BYTES + 1];
    struct address ring_address;
    enum wire_member_state state; /* as told last */
    struct gossip_link *dialled;  /* dialling or up; NULL: none */
    struct caller *called;
    bool looking_up;
    unsigned attempt;
    struct backoff backoff;
    struct buf waiting; /* packed */
};

static void feed(struct gossip *g, struct membership_event *event);

/* ---- links --------------------------------------------------------------------------------- */

static uint64_t now_ms(const struct gossip *g)
{
    return loop_now_ms(&g->control->loop);
}

static void wait_again(struct gossip *g, struct gossip_peer *p)
{
    backoff_failed(&p->backoff, now_ms(g), &g->control->loop.prng, GOSSIP_BACKOFF_MIN_MS,
                   GOSSIP_BACKOFF_MAX_MS);
    buf_deinit(&p->waiting);
    buf_init(&p->waiting);
}

static void tell_link_down(struct gossip *g, const struct gossip_peer *p)
{
    struct membership_event event = {.type = MEMBERSHIP_LINK_DOWN, .u.link.node = p->node};

    if (!p->called && !p->dialled)
        feed(g, &event);
}

static void tell_link_up(struct gossip *g, struct gossip_peer *p, const struct wire_hello *hello)
{
    struct membership_event event = {
        .type = MEMBERSHIP_LINK_UP,
        .u.link = {
            .node = p->node, .id = p->id, .boot = hello->boot, .ring_epoch = hello->ring_epoch}};

    if (!p->name[0]) /* for the log; the profile may come later */
        snprintf(p->name, sizeof(p->name), "%.*s", (int)hello->name.len,
                 (const char *)hello->name.data);
    feed(g, &event);
}

static void on_open(struct conn *conn)
{
    control_say_hello(((struct gossip_link *)conn)->gossip->control, conn, PEER_HELLO, 0);
}

/* The answering node must be the one that was meant, of our cluster, and no older process. */
static int check_reply(const struct gossip *g, const struct gossip_peer *p,
                       const struct wire_peer *msg)
{
    const struct wire_hello *hello = &msg->u.hello;
    struct node *n = g->control->node;

    if (msg->error)
        return -msg->error;
    if (!wire_id_equal(&hello->cluster_id, &n->disk.cluster_id) ||
        !wire_id_equal(&hello->node_id, &p->id))
        return -ERR_WRONG_CLUSTER;
    return directory_check_boot(n->directory, p->node, hello->boot, hello->start);
}

static void recv_hello_reply(struct gossip_link *link, const struct wire_peer *msg)
{
    struct gossip_peer *p = link->peer;
    struct buf *out = conn_out(&link->conn);
    int r = check_reply(link->gossip, p, msg);

    if (msg->error == ERR_STALE_BOOT)
        control_die_outdated(link->gossip->control);
    if (r < 0 || !out) {
        conn_close(&link->conn, r);
        return;
    }
    link->up = true;
    link->conn.must_ms = 0;
    p->backoff.ms = 0;
    if (p->waiting.len && buf_append_slice(out, buf_slice(&p->waiting)) == 0)
        conn_sent(&link->conn);
    buf_deinit(&p->waiting);
    buf_init(&p->waiting);
    tell_link_up(link->gossip, p, &msg->u.hello);
}

static enum conn_verdict on_frame(struct conn *conn, struct slice body)
{
    struct gossip_link *link = (struct gossip_link *)conn;
    struct wire_peer msg;
    int r;

    arena_reset(&conn->loop->arena, WIRE_ARENA_BUDGET(body.len));
    r = wire_peer_unpack(body, &conn->loop->arena, &msg);
    if (r < 0)
        conn_close(conn, r);
    else if (!link->up && msg.type == PEER_HELLO_REPLY)
        recv_hello_reply(link, &msg);
    else if (link->up)
        gossip_recv(link->gossip, conn, link->peer->node, &msg);
    return CONN_NEXT;
}

static void on_broken(struct conn *c, int error, uint64_t limit, uint64_t actual)
{
    log_debug(c->loop->log, "closed a control link", "error=%s", err_name(error));
}

static void on_closed(struct conn *conn)
{
    struct gossip_link *link = (struct gossip_link *)conn;
    struct gossip_peer *p = link->peer;
    struct gossip *g = link->gossip;

    free(link);
    if (g->stopped)
        return;
    p->dialled = NULL;
    wait_again(g, p);
    tell_link_down(g, p);
}

static const struct conn_handler handler = {.on_open = on_open,
                                            .on_frame = on_frame,
                                            .on_broken = on_broken,
                                            .on_closed = on_closed,
                                            .peer = true,
                                            .trusted = true};

/* ---- dialling ------------------------------------------------------------------------------ */

static void on_looked_up(void *ctx, uint32_t node, uint32_t unused, const struct sockaddr *to)
{
    struct gossip *g = ctx;
    struct gossip_peer *p = g->peers[node];
    struct gossip_link *link;

    if (g->stopped || !p->looking_up)
        return;
    p->looking_up = false;
    link = to ? calloc(1, sizeof(*link)) : NULL;
    if (!link) {
        wait_again(g, p);
        return;
    }
    link->gossip = g;
    link->peer = p;
    p->dialled = link;
    if (conn_dial(&link->conn, &g->control->loop, &handler, to, now_ms(g) + GOSSIP_HELLO_MS) == 0)
        return;
    p->dialled = NULL;
    free(link);
    wait_again(g, p);
}

static void address_of(const struct gossip *g, const struct gossip_peer *p, struct address *ret)
{
    char text[ADDRESS_TEXT_BYTES];
    struct membership_view view;

    *ret = p->ring_address;
    if (!membership_view(g->core, p->node, &view) || !view.profile ||
        !view.profile->member.peer_address.len)
        return;
    snprintf(text, sizeof(text), "%.*s", (int)view.profile->member.peer_address.len,
             (const char *)view.profile->member.peer_address.data);
    if (address_parse(text, ret) < 0)
        *ret = p->ring_address;
}

static void dial(struct gossip *g, struct gossip_peer *p)
{
    struct address address;

    if (p->dialled || p->looking_up || now_ms(g) < p->backoff.retry_ms)
        return;
    address_of(g, p, &address);
    p->looking_up = true;
    if (!address.host[0] || lookup_start(&g->control->loop.uv, &address, p->attempt++, on_looked_up,
                                         g, p->node, 0) < 0) {
        p->looking_up = false;
        wait_again(g, p);
    }
}

/* ---- what membership wants ----------------------------------------------------------------- */

static struct gossip_peer *peer_of(struct gossip *g, uint32_t node, const struct wire_id *id)
{
    struct gossip_peer *p = g->peers[node];

    if (p || node == 0)
        return p;
    p = calloc(1, sizeof(*p));
    if (!p)
        return NULL;
    p->node = node;
    p->id = *id;
    buf_init(&p->waiting);
    g->peers[node] = p;
    return p;
}

static void say_to(struct conn *conn, const struct wire_peer *msg)
{
    struct buf *out = conn_unsent(conn) < GOSSIP_UNSENT_BYTES_MAX ? conn_out(conn) : NULL;

    if (out && wire_peer_pack(msg, out) == 0)
        conn_sent(conn);
}

static void say(struct gossip *g, uint32_t node, struct wire_peer *msg)
{
    struct gossip_peer *p = g->peers[node];
    struct conn *conn;

    if (!p)
        return;
    msg->ring_epoch = ring_epoch(g->control->ring);
    conn = p->dialled && p->dialled->up ? &p->dialled->conn : p->called ? &p->called->conn : NULL;
    if (conn) {
        say_to(conn, msg);
        return;
    }
    if (p->waiting.len < GOSSIP_WAITING_BYTES_MAX)
        (void)wire_peer_pack(msg, &p->waiting);
    dial(g, p);
}

static void say_gossip(struct gossip *g, uint32_t node, const struct wire_gossip *gossip)
{
    struct wire_peer msg = {.type = PEER_GOSSIP, .u.gossip = gossip};

    say(g, node, &msg);
}

static void ask_for_ring(struct gossip *g, uint32_t node)
{
    struct wire_peer msg = {.type = PEER_RING_ASK};

    say(g, node, &msg);
}

static void tell_ring(struct gossip *g, int error)
{
    struct wire_peer msg = {.type = PEER_RING_REPLY,
                            .ring_epoch = ring_epoch(g->control->decided),
                            .error = error,
                            .u.ring_reply = error ? NULL : ring_wire(g->control->decided)};

    say_to(g->asker, &msg);
}

static void take_ring(struct gossip *g, uint32_t node)
{
    struct control *c = g->control;

    log_info(&c->node->log, "a member has a newer ring", "node=%s epoch=%" PRIu64 " ours=%" PRIu64,
             LOG_STR(g->peers[node]->name), g->told->epoch, ring_epoch(c->ring));
    g->ring_lost = ring_keeper_take(&c->keeper, c, g->told) < 0;
}

static void log_refused(struct gossip *g, uint32_t node, const char *why)
{
    log_error(&g->control->node->log, "the ring that a member has is not taken",
              "node=%s epoch=%" PRIu64 " ours=%" PRIu64 " why=%s", LOG_STR(g->peers[node]->name),
              g->told->epoch, ring_epoch(g->control->ring), LOG_STR(why));
}

static const char *const state_text[] = {"not heard of yet", "member is there",
                                         "member is suspected to be down", "member is down",
                                         "member has stopped"};
static const char *const outside_text[] = {"not heard of yet", "candidate is there",
                                           "candidate is suspected to be down", "candidate is down",
                                           "candidate has stopped"};

static void tell_workers(struct gossip *g, uint32_t node, enum wire_member_state state)
{
    for (uint32_t i = 0; i < g->control->node->n_workers; i++) {
        struct letter *letter = letter_new(LETTER_SEEN, g->control->loop.index);

        if (!letter)
            return; /* they find out by their links */
        letter->u.seen.node = node;
        letter->u.seen.state = state;
        loop_post_one(&g->control->node->workers[i]->loop, letter);
    }
}

static void look_at(struct gossip *g, uint32_t node)
{
    struct membership_view view;
    struct gossip_peer *p;

    if (!membership_view(g->core, node, &view))
        return;
    p = peer_of(g, node, &view.id);
    if (!p)
        return;
    if (view.profile)
        snprintf(p->name, sizeof(p->name), "%.*s", (int)view.profile->member.name.len,
                 (const char *)view.profile->member.name.data);
    bool member = ring_member_of(g->control->ring, &p->id) >= 0;
    if (p->state == view.state || (!member && !p->name[0])) /* its name comes with its profile */
        return;
    p->state = view.state;
    log_write(&g->control->node->log, member && view.state == MEMBER_DOWN ? LOG_WARN : LOG_INFO,
              member ? state_text[view.state] : outside_text[view.state],
              "node=%s id=%s boot=%" PRIu64, LOG_STR(p->name), LOG_ID(&p->id), view.boot);
    tell_workers(g, node, view.state);
}

static void tell_clock(struct gossip *g, const struct membership_effect *e)
{
    struct control *c = g->control;
    bool off = !e->clock.right || e->clock.behind_ms > 0;

    if (!e->clock.right)
        log_error(&c->node->log,
                  "this node's clock is ahead: it stamps no writes until it is right",
                  "wall_ms=%" PRIu64, loop_wall_ms(&c->loop));
    else if (off)
        log_error(&c->node->log, "this node's clock is behind", "by_ms=%" PRIu64,
                  e->clock.behind_ms);
    else if (g->clock_off)
        log_info(&c->node->log, "this node's clock is right again", "wall_ms=%" PRIu64,
                 loop_wall_ms(&c->loop));
    g->clock_off = off;
    for (uint32_t i = 0; i < c->node->n_workers; i++) {
        struct letter *letter = letter_new(LETTER_CLOCK, c->loop.index);

        if (!letter) /* they would wait for it for ever */
            control_die(c, "out of memory.");
        letter->u.clock.right = e->clock.right;
        letter->u.clock.offset_ms = e->clock.offset_ms;
        letter->u.clock.behind_ms = e->clock.behind_ms;
        loop_post_one(&c->node->workers[i]->loop, letter);
    }
}

static void carry_out(struct gossip *g)
{
    for (uint32_t i = 0; i < g->effects.n; i++) {
        const struct membership_effect *e = &g->effects.list[i];

        switch (e->type) {
        case MEMBERSHIP_SEND:
            say_gossip(g, e->node, &e->gossip);
            break;
        case MEMBERSHIP_CHANGED:
            look_at(g, e->node);
            break;
        case MEMBERSHIP_CLOCK:
            tell_clock(g, e);
            break;
        case MEMBERSHIP_RING_ASK:
            ask_for_ring(g, e->node);
            break;
        case MEMBERSHIP_RING_TELL:
            tell_ring(g, e->error);
            break;
        case MEMBERSHIP_RING_TAKE:
            take_ring(g, e->node);
            break;
        case MEMBERSHIP_RING_REFUSED:
            log_refused(g, e->node, e->why);
            break;
        case MEMBERSHIP_OUTDATED:
            log_warn(&g->control->node->log, "this node has been started later elsewhere",
                     "boot=%" PRIu64 " ours=%" PRIu64, e->boot, g->control->node->disk.boot);
            control_die_outdated(g->control);
        }
    }
}

static void on_timer(uv_timer_t *timer)
{
    struct membership_event event = {.type = MEMBERSHIP_TICK};

    feed(timer->data, &event);
}

static void feed(struct gossip *g, struct membership_event *event)
{
    uint64_t due_ms;
    int r;

    if (!g->core || g->stopped)
        return;
    event->now_ms = now_ms(g);
    event->wall_ms = loop_wall_ms(&g->control->loop);
    do {
        r = membership_step(g->core, event, &g->effects);
        carry_out(g);
        event->type = MEMBERSHIP_MORE;
    } while (r == STEP_MORE);
    if (g->ring_lost) {
        gossip_ring_lost(g);
        return;
    }
    due_ms = membership_deadline_ms(g->core);
    if (due_ms == UINT64_MAX)
        uv_timer_stop(&g->timer);
    else
        uv_timer_start(&g->timer, on_timer, due_ms > event->now_ms ? due_ms - event->now_ms : 0, 0);
}

/* ---- links of others ----------------------------------------------------------------------- */

void gossip_called(struct gossip *g, struct caller *caller, const struct wire_hello *hello)
{
    struct gossip_peer *p =
        g->core && !g->stopped ? peer_of(g, caller->node, &caller->node_id) : NULL;

    if (!p)
        return;
    p->called = caller; /* the last one: the one before is of a process that has gone */
    p->backoff = (struct backoff){0};
    tell_link_up(g, p, hello);
}

static void recv_gossip(struct gossip *g, uint32_t node, const struct wire_peer *msg)
{
    struct membership_event event = {
        .type = MEMBERSHIP_MESSAGE,
        .u.message = {.node = node, .gossip = msg->u.gossip, .ring_epoch = msg->ring_epoch}};

    feed(g, &event);
}

static void recv_ring_ask(struct gossip *g, struct conn *conn, uint32_t node,
                          const struct wire_peer *msg)
{
    struct membership_event event = {.type = MEMBERSHIP_RING_ASKED,
                                     .u.asked = {.node = node, .ring_epoch = msg->ring_epoch}};

    g->asker = conn;
    feed(g, &event);
    g->asker = NULL;
}

static void recv_ring_reply(struct gossip *g, uint32_t node, const struct wire_peer *msg)
{
    struct membership_event event = {.type = MEMBERSHIP_RING_REPLY,
                                     .u.reply = {.node = node, .ring = msg->u.ring_reply}};

    g->told = msg->u.ring_reply;
    feed(g, &event);
    g->told = NULL;
}

void gossip_recv(struct gossip *g, struct conn *conn, uint32_t node, const struct wire_peer *msg)
{
    if (msg->type == PEER_GOSSIP)
        recv_gossip(g, node, msg);
    else if (msg->type == PEER_RING_ASK)
        recv_ring_ask(g, conn, node, msg);
    else if (msg->type == PEER_RING_REPLY)
        recv_ring_reply(g, node, msg);
}

void gossip_ring_lost(struct gossip *g)
{
    struct membership_event event = {.type = MEMBERSHIP_RING_LOST};

    g->ring_lost = false;
    feed(g, &event);
}

void gossip_caller_gone(struct gossip *g, struct caller *caller)
{
    struct gossip_peer *p = caller->node < LIMIT_NODES_MAX ? g->peers[caller->node] : NULL;

    if (!p || p->called != caller || g->stopped)
        return;
    p->called = NULL;
    tell_link_down(g, p);
}

/* ---- life ---------------------------------------------------------------------------------- */

static uint32_t intern(void *ctx, const struct wire_id *id)
{
    return directory_intern(ctx, id);
}

static int start(struct gossip *g, struct control *c)
{
    struct membership_config config = {.boot = c->node->disk.boot,
                                       .seed = prng_next(&c->loop.prng),
                                       .intern = intern,
                                       .ctx = c->node->directory};

    g->control = c;
    control_self(c, &config.profile.member);
    config.profile.software = slice_str("quoitd " QUOIT_VERSION);
    config.profile.candidate = c->node->disk.candidate;
    config.now_ms = now_ms(g);
    g->core = membership_new(&config);
    if (!g->core)
        return -ERR_NO_MEMORY;
    uv_timer_init(&c->loop.uv, &g->timer);
    g->timer.data = g;
    return 0;
}

static void take_member(struct gossip *g, uint32_t node, const struct wire_member *m)
{
    char text[ADDRESS_TEXT_BYTES];
    struct gossip_peer *p = node < LIMIT_NODES_MAX ? peer_of(g, node, &m->id) : NULL;

    if (!p)
        return;
    snprintf(p->name, sizeof(p->name), "%.*s", (int)m->name.len, (const char *)m->name.data);
    snprintf(text, sizeof(text), "%.*s", (int)m->peer_address.len,
             (const char *)m->peer_address.data);
    if (address_parse(text, &p->ring_address) < 0) /* peers.c has told */
        p->ring_address = (struct address){0};
}

int gossip_set_ring(struct gossip *g, struct control *c)
{
    const struct wire_ring *w = ring_wire(c->ring);
    struct membership_event event = {.type = MEMBERSHIP_EXPECT,
                                     .u.expect = {.members = w->members, .n = w->n_members}};
    int r = g->core ? 0 : start(g, c);

    if (r < 0)
        return r;
    for (uint32_t i = 0; i < w->n_members; i++)
        take_member(g, ring_member_node(c->ring, i), &w->members[i]);
    feed(g, &event);
    event = (struct membership_event){.type = MEMBERSHIP_RING, .u.ring = c->decided};
    feed(g, &event);
    return 0;
}

void gossip_set_load(struct gossip *g, const struct wire_load *load)
{
    struct membership_event event = {.type = MEMBERSHIP_LOAD, .u.load = *load};

    feed(g, &event);
}

struct membership_stats gossip_stats(const struct gossip *g)
{
    struct membership_stats stats = {0};

    if (g->core)
        membership_stats(g->core, &stats);
    return stats;
}

bool gossip_view(const struct gossip *g, uint32_t node, struct membership_view *ret)
{
    return g->core && membership_view(g->core, node, ret);
}

void gossip_stop(struct gossip *g)
{
    struct membership_event event = {.type = MEMBERSHIP_STOP};

    feed(g, &event);
}

void gossip_close(struct gossip *g)
{
    if (g->core && !g->stopped)
        uv_timer_stop(&g->timer);
    g->stopped = true;
}

void gossip_deinit(struct gossip *g)
{
    for (uint32_t i = 0; i < LIMIT_NODES_MAX; i++) {
        if (g->peers[i])
            buf_deinit(&g->peers[i]->waiting);
        free(g->peers[i]);
    }
    membership_free(g->core);
}
