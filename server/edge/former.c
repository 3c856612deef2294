/* former: forms the cluster, joins one, or looks whether the listed peers are of ours.
 *
 * The decisions are those of the pure machine in server/core/form; this file gives it ears, hands
 * and a clock: a control link to each other address of the sorted --cluster list, the store to sync
 * what it wants synced, a timer. A node alone is a list of one and needs no link.
 *
 *   our links      dialled, kept up until the ring is decided: what the machine sends goes there
 *   callers        the others' links to us: their messages come there, and answers of a node that
 *                  has a ring go back there
 *
 * A message on a caller names its sender by node id (known from the hello on our own link to it)
 * or, before that link is up, by the peer address it gives.
 *
 * With --join each listed peer is asked who it is. Those that belong to a cluster must belong to
 * the same one; when all have answered or could not be reached, one of them is asked for its ring.
 * Once that is durable (ring_keeper.c) this node is a candidate of that cluster, and gossips with
 * its members. With --cluster it goes the same way if a listed node belongs to a cluster already
 * and this one has promised nothing.
 *
 * On a used directory nothing is formed. During its first FORMER_LOOK_MS the node asks each listed
 * peer once who it is, and then never again. An answer from another cluster is told in the log; it
 * ends the process, as a mixed-up directory or list, only if no member of our own ring has answered
 * or come by then, and
 *
 *   - it was given at an address that our ring does not know: the list is another cluster's, or
 *   - two listed addresses are held by the same other cluster: the directory is an old one.
 *
 * A single stranger at the address of a member that is down (a new node started there by mistake,
 * which is a cluster of its own) therefore stops nobody: the list is right, and it is the stranger
 * who is wrong. No data can mix either way: links between clusters are refused.
 */
#include "server/edge/former.h"
#include "proto/err.h"
#include "server/core/ring.h"
#include "server/edge/control.h"
#include "server/edge/lookup.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#define FORMER_COOKIE 1u
#define FORMER_ARENA_BYTES WIRE_ARENA_BUDGET_RING

struct pledge_link {
    struct conn conn; /* first */
    struct former *former;
    size_t index; /* SIZE_MAX once given up */
};

static void arm(struct former *f);

/* ---- effects ------------------------------------------------------------------------------- */

static void run_send(struct former *f, const struct form_effect *e)
{
    struct pledge *p = &f->pledges[e->to];
    struct wire_peer msg = {.type = PEER_FORM, .u.form = &e->message};
    struct buf *out = p->phase == PLEDGE_UP ? conn_out(&p->link->conn) : NULL;

    if (out && wire_peer_pack(&msg, out) == 0)
        conn_sent(&p->link->conn);
}

static void run_persist(struct former *f, const struct form_effect *e)
{
    struct buf bytes;

    buf_init(&bytes);
    int rc = wire_ring_pack(e->ring, &bytes);
    if (rc == 0)
        rc = ring_keeper_submit(f->control, e->name, buf_slice(&bytes), FORMER_COOKIE);
    buf_deinit(&bytes);
    f->write_error = rc; /* told after this list of effects */
    f->writing = rc == 0;
}

static void run_effect(struct former *f, const struct form_effect *e)
{
    struct log *log = &f->control->node->log;

    switch (e->type) {
    case FORM_EFFECT_SEND:
        run_send(f, e);
        break;
    case FORM_EFFECT_PERSIST:
        run_persist(f, e);
        break;
    case FORM_EFFECT_DECIDED:
        log_warn(log,
                 f->n == 1 ? "formed a NEW cluster of this node alone" : "formed a NEW cluster",
                 "cluster=%s nodes=%zu data=%s", LOG_ID(&e->ring->cluster_id), e->ring->n_members,
                 LOG_STR(f->control->node->disk.dir));
        control_set_ring(f->control, e->ring);
        former_stop(f); /* stragglers ask, and are answered without the machine */
        break;
    case FORM_EFFECT_FAIL:
        control_die(f->control, "%s.", e->why);
    case FORM_EFFECT_JOIN:
        f->joining = true;
        break;
    case FORM_EFFECT_WAIT:
        log_info(log, "waiting to form a cluster", "why=%s", LOG_STR(e->why));
        break;
    }
}

/* As if nobody had been asked yet: on the links there are it was said that we form. */
static void forget_peers(struct former *f)
{
    for (size_t i = 0; i < f->n; i++) {
        struct pledge *p = &f->pledges[i];

        p->tried = false;
        p->refused = 0;
        p->backoff = (struct backoff){0};
        if (!p->link)
            continue;
        p->link->index = SIZE_MAX;
        conn_close(&p->link->conn, 0);
        p->link = NULL;
        p->phase = PLEDGE_WAITING;
    }
}

static void join_instead(struct former *f)
{
    form_free(f->form);
    f->form = NULL;
    f->look_until_ms = UINT64_MAX;
    log_warn(&f->control->node->log, "a listed node belongs to a cluster: joining that",
             "peers=%zu", f->n);
    forget_peers(f);
}

static void step(struct former *f, const struct form_event *event)
{
    struct form_event in = *event;

    in.now_ms = loop_now_ms(&f->control->loop);
    form_step(f->form, &in, f->effects);
    for (size_t i = 0; i < f->effects->n; i++)
        run_effect(f, &f->effects->list[i]);
    if (f->write_error) {
        struct form_event failed = {.type = FORM_EVENT_SYNCED, .error = f->write_error};
        f->write_error = 0;
        step(f, &failed);
    }
    if (f->form && f->joining)
        join_instead(f);
}

/* ---- our links ----------------------------------------------------------------------------- */

static void ask_for_ring(struct former *f);

static void wait_again(struct former *f, struct pledge *p)
{
    struct loop *l = &f->control->loop;

    p->phase = PLEDGE_WAITING;
    p->tried = true;
    if (f->asked == p)
        f->asked = NULL;
    ask_for_ring(f);
    backoff_failed(&p->backoff, loop_now_ms(l), &l->prng, FORMER_BACKOFF_MIN_MS,
                   FORMER_BACKOFF_MAX_MS);
}

static void pledge_done(struct pledge *p)
{
    p->phase = PLEDGE_DONE;
    if (p->link) {
        p->link->index = SIZE_MAX;
        conn_finish(&p->link->conn); /* what was said last still goes out */
        p->link = NULL;
    }
}

static void on_open(struct conn *conn)
{
    control_say_hello(((struct pledge_link *)conn)->former->control, conn, PEER_HELLO, 0);
}

/* ---- joining ------------------------------------------------------------------------------- */

/* Tells once what keeps us from joining there; it is tried again. */
static void tell_vain(struct former *f, struct pledge *p, int error, const char *why)
{
    if (p->refused != error)
        log_warn(&f->control->node->log, "cannot join yet", "peer=%s why=%s", LOG_STR(p->text),
                 LOG_STR(why));
    p->refused = error;
    conn_close(&p->link->conn, 0);
}

static void check_clusters(struct former *f, const struct pledge *p)
{
    for (size_t i = 0; i < f->n; i++)
        if (!wire_id_is_zero(&f->pledges[i].foreign) &&
            !wire_id_equal(&f->pledges[i].foreign, &p->foreign))
            control_die(f->control,
                        "%s belongs to cluster %s, %s to cluster %s: --join and --cluster must "
                        "list peers of one cluster.",
                        f->pledges[i].text, LOG_ID(&f->pledges[i].foreign), p->text,
                        LOG_ID(&p->foreign));
}

/* One peer, once all have been heard of. */
static void ask_for_ring(struct former *f)
{
    struct wire_peer ask = {.type = PEER_RING_ASK};
    struct buf *out;

    if (!f->joining || f->asked || f->taking)
        return;
    for (size_t i = 0; i < f->n; i++) {
        if (!f->pledges[i].tried && f->pledges[i].phase != PLEDGE_DONE)
            return;
        if (f->pledges[i].phase == PLEDGE_UP)
            f->asked = &f->pledges[i];
    }
    out = f->asked ? conn_out(&f->asked->link->conn) : NULL;
    if (out && wire_peer_pack(&ask, out) == 0)
        conn_sent(&f->asked->link->conn);
}

static void recv_join_hello(struct former *f, struct pledge *p, const struct wire_peer *msg)
{
    if (msg->error || wire_id_is_zero(&msg->u.hello.cluster_id) || !msg->u.hello.ring_epoch) {
        tell_vain(f, p, msg->error ? msg->error : ERR_NOT_READY,
                  msg->error ? err_text(msg->error) : "it belongs to no cluster yet");
        return;
    }
    p->foreign = msg->u.hello.cluster_id;
    check_clusters(f, p);
    p->phase = PLEDGE_UP;
    p->tried = true;
    p->refused = 0;
    ask_for_ring(f);
}

/* The ring is checked as one from a file would be: whoever answers was named by the operator. */
static void recv_join_ring(struct former *f, struct pledge *p, const struct wire_peer *msg)
{
    struct control *c = f->control;
    const struct wire_ring *wire = msg->u.ring_reply;
    struct ring *ring = NULL;
    int error = msg->error;

    if (f->taking)
        return;
    if (!error && (!wire || !wire_id_equal(&wire->cluster_id, &p->foreign)))
        error = ERR_BAD_REQUEST;
    if (!error)
        error = -ring_new(wire, NULL, NULL, &ring);
    ring_unref(ring);
    if (!error)
        error = -ring_keeper_take(&c->keeper, c, wire);
    if (error) {
        tell_vain(f, p, error, err_text(error));
        return;
    }
    f->taking = true;
    log_info(&c->node->log, "joining a cluster", "cluster=%s epoch=%" PRIu64 " peer=%s",
             LOG_ID(&wire->cluster_id), wire->epoch, LOG_STR(p->text));
}

void former_ring_lost(struct former *f)
{
    f->taking = false; /* links that broke meanwhile, and those that will, are dialled again */
}

/* ---- looking ------------------------------------------------------------------------------- */

static bool in_ring(const struct ring *ring, const char *address)
{
    const struct wire_ring *w = ring_wire(ring);

    for (size_t i = 0; i < w->n_members; i++)
        if (slice_equal(w->members[i].peer_address, slice_str(address)))
            return true;
    return false;
}

/* Whether what this peer answered means that our data does not belong here; see above. */
static bool condemns(const struct former *f, const struct pledge *p)
{
    if (wire_id_is_zero(&p->foreign))
        return false;
    if (!in_ring(f->control->ring, p->text))
        return true;
    for (size_t i = 0; i < f->n; i++)
        if (&f->pledges[i] != p && wire_id_equal(&f->pledges[i].foreign, &p->foreign))
            return true;
    return false;
}

static void end_look(struct former *f)
{
    const struct wire_id *ours = &f->control->node->disk.cluster_id;

    for (size_t i = 0; i < f->n && !f->confirmed; i++)
        if (condemns(f, &f->pledges[i]))
            control_die(f->control,
                        "%s belongs to cluster %s, this data to %s. They cannot be mixed. Wrong "
                        "--cluster or --join, or a used --data directory?",
                        f->pledges[i].text, LOG_ID(&f->pledges[i].foreign), LOG_ID(ours));
    former_stop(f);
    log_info(&f->control->node->log, "the listed peers have been looked at", "confirmed=%s",
             f->confirmed ? "yes" : "no");
}

static void recv_look(struct former *f, struct pledge *p, const struct wire_hello *hello)
{
    struct node *n = f->control->node;
    bool ours = wire_id_equal(&hello->cluster_id, &n->disk.cluster_id);

    if (ours && !wire_id_equal(&hello->node_id, &n->disk.node_id)) {
        former_confirm(f);
    } else if (!ours && !wire_id_is_zero(&hello->cluster_id)) {
        p->foreign = hello->cluster_id;
        log_error(&n->log, "a listed peer's address is answered by a node of another cluster",
                  "peer=%s cluster=%s ours=%s", LOG_STR(p->text), LOG_ID(&hello->cluster_id),
                  LOG_ID(&n->disk.cluster_id));
    }
    pledge_done(p);
    for (size_t i = 0; i < f->n; i++)
        if (f->pledges[i].phase != PLEDGE_DONE)
            return;
    end_look(f);
}

void former_confirm(struct former *f)
{
    f->confirmed = true;
}

/* ---- answers to our hello ------------------------------------------------------------------ */

static void recv_reply(struct former *f, size_t index, const struct wire_peer *msg)
{
    struct pledge *p = &f->pledges[index];
    const struct wire_hello *hello = &msg->u.hello;

    if (!f->form && !f->joining) {
        recv_look(f, p, hello);
        return;
    }
    bool self = wire_id_equal(&hello->node_id, &f->control->node->disk.node_id);
    if (self)
        control_die(f->control,
                    "%s is this node itself, or a copy of its data directory: list every node "
                    "once, and give each an own directory.",
                    p->text);
    if (f->joining) {
        recv_join_hello(f, p, msg);
        return;
    }
    if (msg->error) {
        if (p->refused != msg->error)
            log_warn(&f->control->node->log, "a listed node refuses our link", "peer=%s error=%s",
                     LOG_STR(p->text), err_name(msg->error));
        p->refused = msg->error;
        conn_close(&p->link->conn, 0);
        return;
    }
    p->refused = 0;
    p->backoff.ms = 0;
    p->node_id = hello->node_id;
    p->phase = PLEDGE_UP;
    p->link->conn.must_ms = 0;
    struct form_event event = {.type = FORM_EVENT_LINK_UP, .from = index};
    step(f, &event);
}

static void recv_form(struct former *f, size_t index, const struct wire_form *msg)
{
    struct form_event event = {.type = FORM_EVENT_MESSAGE, .from = index, .message = msg};
    if (f->form)
        step(f, &event);
}

static enum conn_verdict on_frame(struct conn *conn, struct slice body)
{
    struct pledge_link *link = (struct pledge_link *)conn;
    struct former *f = link->former;
    struct wire_peer msg;

    arena_reset(&conn->loop->arena, WIRE_ARENA_BUDGET(body.len));
    int rc = wire_peer_unpack(body, &conn->loop->arena, &msg);
    if (rc < 0)
        conn_close(conn, rc);
    else if (msg.type == PEER_HELLO_REPLY && f->pledges[link->index].phase == PLEDGE_DIALLING)
        recv_reply(f, link->index, &msg);
    else if (msg.type == PEER_FORM && msg.u.form && f->pledges[link->index].phase == PLEDGE_UP)
        recv_form(f, link->index, msg.u.form);
    else if (msg.type == PEER_RING_REPLY && f->joining &&
             f->pledges[link->index].phase == PLEDGE_UP)
        recv_join_ring(f, &f->pledges[link->index], &msg);
    if (f->active)
        arm(f);
    return CONN_NEXT;
}

static void on_broken(struct conn *c, int error, uint64_t limit, uint64_t actual)
{
    log_warn(c->loop->log, "closed a link", "error=%s", err_name(error));
}

static void on_closed(struct conn *conn)
{
    struct pledge_link *link = (struct pledge_link *)conn;
    struct former *f = link->former;

    if (link->index != SIZE_MAX && f->active) {
        struct pledge *p = &f->pledges[link->index];
        struct form_event event = {.type = FORM_EVENT_LINK_DOWN, .from = link->index};
        bool was_up = p->phase == PLEDGE_UP;
        p->link = NULL;
        wait_again(f, p);
        if (was_up && f->form)
            step(f, &event);
        if (f->active)
            arm(f);
    }
    free(link);
}

static const struct conn_handler handler = {.on_open = on_open,
                                            .on_frame = on_frame,
                                            .on_broken = on_broken,
                                            .on_closed = on_closed,
                                            .peer = true};

static void on_looked_up(void *ctx, uint32_t index, uint32_t unused, const struct sockaddr *to)
{
    struct former *f = ctx;
    struct pledge *p = &f->pledges[index];

    if (!f->active || p->phase != PLEDGE_LOOKING_UP)
        return;
    struct pledge_link *link = to ? calloc(1, sizeof(*link)) : NULL;
    if (link) {
        struct loop *l = &f->control->loop;
        link->former = f;
        link->index = index;
        p->phase = PLEDGE_DIALLING;
        p->link = link;
        if (conn_dial(&link->conn, l, &handler, to, loop_now_ms(l) + FORMER_HELLO_MS) == 0)
            return;
        p->link = NULL;
        free(link);
    }
    wait_again(f, p);
    arm(f);
}

/* ---- time ---------------------------------------------------------------------------------- */

static void on_timer(uv_timer_t *timer)
{
    struct former *f = timer->data;
    struct loop *l = &f->control->loop;
    uint64_t now_ms = loop_now_ms(l);
    struct form_event tick = {.type = FORM_EVENT_TICK};

    for (size_t i = 0; i < f->n; i++) {
        struct pledge *p = &f->pledges[i];
        if (p->phase != PLEDGE_WAITING || p->backoff.retry_ms > now_ms)
            continue;
        p->phase = PLEDGE_LOOKING_UP;
        if (lookup_start(&l->uv, &p->address, p->attempt++, on_looked_up, f, (uint32_t)i, 0) < 0)
            wait_again(f, p);
    }
    if (f->form && form_deadline_ms(f->form) <= now_ms)
        step(f, &tick);
    if (f->active && !f->form && now_ms >= f->look_until_ms)
        end_look(f);
    if (f->active)
        arm(f);
}

static void arm(struct former *f)
{
    uint64_t now_ms = loop_now_ms(&f->control->loop);
    uint64_t first_ms = f->form ? form_deadline_ms(f->form) : f->look_until_ms;

    for (size_t i = 0; i < f->n; i++)
        if (f->pledges[i].phase == PLEDGE_WAITING && f->pledges[i].backoff.retry_ms < first_ms)
            first_ms = f->pledges[i].backoff.retry_ms;
    if (first_ms == UINT64_MAX)
        uv_timer_stop(&f->timer);
    else
        uv_timer_start(&f->timer, on_timer, first_ms > now_ms ? first_ms - now_ms : 0, 0);
}

/* ---- callers ------------------------------------------------------------------------------- */

static size_t sender_of(const struct former *f, const struct caller *caller,
                        const struct wire_form *msg)
{
    for (size_t i = 0; i < f->n; i++)
        if (f->pledges[i].phase == PLEDGE_UP &&
            wire_id_equal(&f->pledges[i].node_id, &caller->node_id))
            return i;
    for (size_t i = 0; i < f->n; i++)
        if (slice_equal(slice_str(f->pledges[i].text), msg->self.peer_address))
            return i;
    return f->n;
}

void former_recv(struct former *f, struct caller *caller, const struct wire_form *msg)
{
    struct control *c = f->control;

    if (c->ring) {
        struct wire_member self;
        struct wire_form answer;
        struct wire_peer out = {.type = PEER_FORM, .u.form = &answer};
        control_self(c, &self);
        if (form_answer(ring_wire(c->decided), &self, msg, &answer))
            caller_send(caller, &out);
        return;
    }
    size_t from = f->form ? sender_of(f, caller, msg) : 0;
    if (!f->form)
        return;
    if (from == f->n) {
        log_warn(&c->node->log, "a node that is not in our --cluster list wants to form with us",
                 "peer=%s", LOG_SLICE(msg->self.peer_address));
        return;
    }
    recv_form(f, from, msg);
    if (f->active)
        arm(f);
}

void former_synced(struct former *f, const struct store_done *done)
{
    struct form_event event = {.type = FORM_EVENT_SYNCED, .error = done->error};

    if (done->cookie != FORMER_COOKIE || !f->form || !f->writing)
        return;
    f->writing = false;
    step(f, &event);
    if (f->active)
        arm(f);
}

/* ---- life ---------------------------------------------------------------------------------- */

static int by_text(const void *a, const void *b)
{
    return strcmp(((const struct pledge *)a)->text, ((const struct pledge *)b)->text);
}

static int set_list(struct former *f, const struct config_addresses *list)
{
    const struct node *node = f->control->node;

    f->n = list->n ? list->n : 1;
    f->pledges = calloc(f->n, sizeof(*f->pledges));
    f->effects = malloc(sizeof(*f->effects));
    if (!f->pledges || !f->effects)
        return -ERR_NO_MEMORY;
    f->pledges[0].address = node->peer_address; /* alone: the list is this node */
    for (size_t i = 0; i < list->n; i++)
        f->pledges[i].address = list->list[i];
    for (size_t i = 0; i < f->n; i++) {
        address_text(&f->pledges[i].address, f->pledges[i].text);
        f->pledges[i].phase = PLEDGE_WAITING;
    }
    qsort(f->pledges, f->n, sizeof(*f->pledges), by_text);
    f->self_index = f->n;
    for (size_t i = 0; i < f->n; i++)
        if (strcmp(f->pledges[i].text, node->peer_text) == 0) {
            f->self_index = i;
            f->pledges[i].phase = PLEDGE_DONE;
        }
    return 0;
}

static int begin(struct former *f, struct control *c, const struct config_addresses *list)
{
    f->control = c;
    arena_init(&f->arena, FORMER_ARENA_BYTES);
    int rc = set_list(f, list);
    if (rc < 0)
        return rc;
    uv_timer_init(&c->loop.uv, &f->timer);
    f->timer.data = f;
    f->active = true;
    return 0;
}

/* A proposal that this node has synced before: it must go on with it. 0, 1 (none), negative. */
static int load_proposal(struct former *f, struct wire_ring *ret)
{
    struct store *s = f->control->node->store;
    struct buf bytes;

    buf_init(&bytes);
    int rc = s->ops->meta_get(s, f->control->loop.index, slice_str(FORM_META_PROPOSAL), &bytes);
    s->ops->read_end(s, f->control->loop.index); /* nothing ends it otherwise */
    if (rc == 0)
        rc = wire_ring_unpack(buf_slice(&bytes), &f->arena, ret);
    buf_deinit(&bytes);
    return rc;
}

int former_start(struct former *f, struct control *c)
{
    const struct config *config = &c->node->config;
    struct form_config fc = {.replicas = config->replicas};
    const char *list[FORM_NODES_MAX];
    struct wire_ring proposal;

    int rc = begin(f, c, &config->cluster);
    if (rc < 0)
        return rc;
    assert(f->self_index < f->n); /* config_check has seen to it */
    for (size_t i = 0; i < f->n; i++)
        list[i] = f->pledges[i].text;
    control_self(c, &fc.self);
    fc.list = list;
    fc.n_list = f->n;
    fc.self_index = f->self_index;
    if (getrandom(&fc.cluster_id, sizeof(fc.cluster_id), 0) != sizeof(fc.cluster_id) ||
        getrandom(&fc.space, sizeof(fc.space), 0) != sizeof(fc.space))
        return -ERR_IO;
    rc = load_proposal(f, &proposal);
    if (rc < 0)
        return rc;
    fc.proposal = rc == 0 ? &proposal : NULL;
    f->form = form_new(&fc);
    if (!f->form)
        return -ERR_NO_MEMORY;
    arm(f);
    return 0;
}

int former_join(struct former *f, struct control *c)
{
    struct wire_ring proposal;
    int rc = begin(f, c, &c->node->config.join);

    if (rc == 0)
        rc = load_proposal(f, &proposal);
    if (rc < 0)
        return rc;
    if (rc == 0)
        control_die(c,
                    "%s has begun to form a cluster, and others may count on it: start it with "
                    "--cluster as before; or remove the directory, to join with an empty one.",
                    c->node->disk.dir);
    if (f->n == 1 && f->self_index == 0)
        control_die(c, "--join lists this node alone: it takes the peer addresses of members.");
    f->joining = true;
    f->look_until_ms = UINT64_MAX;
    log_info(&c->node->log, "looking for a cluster to join", "peers=%zu", f->n);
    arm(f);
    return 0;
}

int former_look(struct former *f, struct control *c)
{
    const struct config *config = &c->node->config;
    const struct config_addresses *list = config->cluster.n ? &config->cluster : &config->join;

    f->control = c;
    if (list->n == 0)
        return 0;
    log_info(&c->node->log,
             "this data directory is in use already: --cluster and --join form and "
             "join nothing",
             "cluster=%s", LOG_ID(&c->node->disk.cluster_id));
    int rc = begin(f, c, list);
    if (rc < 0)
        return rc;
    f->look_until_ms = loop_now_ms(&c->loop) + FORMER_LOOK_MS;
    arm(f);
    return 0;
}

void former_stop(struct former *f)
{
    if (!f->active)
        return;
    f->active = false;
    uv_timer_stop(&f->timer);
    for (size_t i = 0; i < f->n; i++)
        pledge_done(&f->pledges[i]);
}

void former_deinit(struct former *f)
{
    form_free(f->form);
    free(f->effects);
    free(f->pledges);
    if (f->control)
        arena_deinit(&f->arena);
}
