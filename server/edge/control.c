/* control: the main thread: starts the node, owns the ring, forms the cluster, stops it all.
 *
 * Start, each step only after the one before: lock and identity (boot + 1 synced) -> listening
 * sockets -> store -> guard against damaged files -> the ring, if one was decided -> workers ->
 * serve. Without a ring the workers answer NOT_READY until the former has one. A ring is durable in
 * the store before quoit.json names its cluster, and both before it is published; a crash between
 * them is repaired at the next start.
 *
 * Publishing: one immutable ring, a reference per worker, by letter. Handles for its members come
 * from the directory. This node's own entry shows the addresses that it has now, but for what other
 * nodes are told: that is the ring as it was decided, the same everywhere.
 *
 * A candidate holds a ring that does not name it: it gossips, and serves nothing. Its workers learn
 * of no ring before one names it; from then on it is a member like all others.
 *
 * Stop (SIGTERM, SIGINT): no new connections; every worker finishes what is in flight, refuses what
 * is new with SHUTTING_DOWN, and tells when that has come to rest; when all have, connections are
 * finished politely, so that nobody loses an answer; when they are gone, or stop_ms have passed
 * since the signal, everything is closed, the threads joined, the store closed. A second signal
 * does not wait. Exit status 0.
 *
 * What cannot go on ends in control_die or store_fatal: a sentence on stderr, status 1, at once.
 * The store is made to be killed, so nothing is tidied on that way.
 */
#include "server/edge/control.h"
#include "proto/err.h"
#include "server/core/ring.h"
#include "server/edge/lookup.h"
#include "server/edge/status.h"
#include "server/edge/worker_loop.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CONTROL_REAP_MAX 16u

/* ---- the way out --------------------------------------------------------------------------- */

void control_die(struct control *c, const char *fmt, ...)
{
    char text[1024];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    dprintf(STDERR_FILENO, "quoitd: %s\n", text);
    _exit(1);
}

void control_die_outdated(struct control *c)
{
    struct disk *d = &c->node->disk;
    char why[DISK_WHY_BYTES] = "";

    (void)disk_set_outdated(d, why);
    control_die(c,
                "another process has run with this node's id and a later start than ours, which is "
                "%" PRIu64 ": the data in %s is an old copy. Remove it.%s%s",
                d->boot, d->dir, why[0] ? " It could not be marked as such: " : "", why);
}

/* ---- who we are ---------------------------------------------------------------------------- */

void control_self(const struct control *c, struct wire_member *ret)
{
    const struct node *n = c->node;
    *ret = (struct wire_member){.id = n->disk.node_id,
                                .name = slice_str(n->disk.name),
                                .client_address = slice_str(n->client_text),
                                .peer_address = slice_str(n->peer_text),
                                .zone = slice_str(n->config.zone),
                                .weight = n->config.weight};
}

void control_say_hello(const struct control *c, struct conn *conn, enum wire_peer_type type,
                       int error)
{
    struct wire_peer msg = {.type = type, .error = error};
    struct buf *out = conn_out(conn);

    node_hello(c->node, &msg.u.hello);
    msg.u.hello.link = LINK_CONTROL;
    msg.u.hello.cluster_id = c->node->disk.cluster_id;
    msg.u.hello.candidate = c->node->disk.candidate;
    msg.u.hello.ring_epoch = c->ring ? ring_epoch(c->ring) : 0;
    if (out && wire_peer_pack(&msg, out) == 0)
        conn_sent(conn);
}

/* ---- the ring ------------------------------------------------------------------------------ */

static uint32_t intern(void *ctx, const struct wire_id *id)
{
    return directory_intern(ctx, id);
}

static void warn_address(struct node *n, const char *msg, struct slice theirs, const char *ours)
{
    log_warn(&n->log, msg, "ring=%s now=%s", LOG_SLICE(theirs), LOG_STR(ours));
}

/* Own addresses and flags against what the ring says: the ring wins, but for our own addresses in
 * our own copy, which clients of this node are given. True: those differ. */
static bool settle_self(struct control *c, const struct wire_ring *wire, struct wire_member *self)
{
    struct node *n = c->node;
    bool others = wire->n_members > 1;
    bool differs = !slice_equal(self->client_address, slice_str(n->client_text)) ||
                   !slice_equal(self->peer_address, slice_str(n->peer_text));

    if (others && !slice_equal(self->client_address, slice_str(n->client_text)))
        warn_address(n, "the ring has another client address for this node", self->client_address,
                     n->client_text);
    if (others && !slice_equal(self->peer_address, slice_str(n->peer_text)))
        warn_address(n, "the ring has another peer address for this node: others dial that",
                     self->peer_address, n->peer_text);
    if (!slice_equal(self->name, slice_str(n->disk.name)))
        log_warn(&n->log, "the ring has another name for this node, which stands",
                 "ring=%s name=%s", LOG_SLICE(self->name), LOG_STR(n->disk.name));
    self->client_address = slice_str(n->client_text);
    self->peer_address = slice_str(n->peer_text);
    return differs;
}

/* The ring with handles, and with our present addresses. 0 or negative: neither. */
static int make_rings(struct control *c, const struct wire_ring *wire, struct ring **ret_decided,
                      struct ring **ret)
{
    bool differs = false;
    struct wire_member *members = calloc(wire->n_members, sizeof(*members));
    struct wire_ring mine = *wire;

    if (!members)
        return -ERR_NO_MEMORY;
    memcpy(members, wire->members, wire->n_members * sizeof(*members));
    for (size_t i = 0; i < wire->n_members; i++)
        if (wire_id_equal(&members[i].id, &c->node->disk.node_id))
            differs = settle_self(c, wire, &members[i]);
    mine.members = members;
    int rc = ring_new(wire, intern, c->node->directory, ret_decided);
    if (rc == 0 && !differs)
        *ret = ring_ref(*ret_decided);
    else if (rc == 0 && (rc = ring_new(&mine, intern, c->node->directory, ret)) < 0)
        ring_unref(*ret_decided);
    free(members);
    return rc;
}

static void publish(struct control *c)
{
    for (uint32_t i = 0; i < c->node->n_workers; i++) {
        struct letter *letter = letter_new(LETTER_RING, c->loop.index);
        if (!letter)
            control_die(c, "out of memory while a ring was published.");
        letter->u.ring.ring = ring_ref(c->ring);
        loop_post_one(&c->node->workers[i]->loop, letter);
    }
}

static void log_serving(struct node *n, const struct wire_ring *wire)
{
    log_info(&n->log, "serving",
             "cluster=%s epoch=%" PRIu64 " node=%s nodes=%zu partitions=%u replicas=%u workers=%u "
             "clients=%s peers=%s",
             LOG_ID(&wire->cluster_id), wire->epoch, LOG_STR(n->disk.name), wire->n_members,
             wire->n_partitions, wire->n_replicas, n->n_workers, n->client_text, n->peer_text);
}

void control_set_ring(struct control *c, const struct wire_ring *wire)
{
    struct node *n = c->node;
    struct ring *decided = NULL, *ring = NULL;
    char why[DISK_WHY_BYTES];

    int rc = make_rings(c, wire, &decided, &ring);
    if (rc < 0)
        control_die(c, "the ring in %s cannot be used: %s.", n->disk.dir, err_text(rc));
    bool named = ring_member_of(ring, &n->disk.node_id) >= 0;
    bool is_new = wire_id_is_zero(&n->disk.cluster_id);
    if (!named && !is_new && !n->disk.candidate)
        control_die(c, "the ring in %s does not name this node.", n->disk.dir);
    if (!is_new && !wire_id_equal(&n->disk.cluster_id, &wire->cluster_id))
        control_die(c, "quoit.json in %s names cluster %s, and the ring in its store cluster %s.",
                    n->disk.dir, LOG_ID(&n->disk.cluster_id), LOG_ID(&wire->cluster_id));
    if ((is_new || (named && n->disk.candidate)) &&
        disk_set_cluster(&n->disk, &wire->cluster_id, !named, why) < 0)
        control_die(c, "%s.", why);
    ring_unref(c->ring);
    ring_unref(c->decided);
    c->ring = ring;
    c->decided = decided;
    c->serving = named;
    if (named)
        publish(c);
    if (gossip_set_ring(&c->gossip, c) < 0)
        control_die(c, "out of memory.");
    if (named)
        log_serving(n, wire);
    else
        log_info(&n->log, "waiting to be added to the cluster",
                 "cluster=%s epoch=%" PRIu64 " node=%s id=%s nodes=%zu", LOG_ID(&wire->cluster_id),
                 wire->epoch, LOG_STR(n->disk.name), LOG_ID(&n->disk.node_id), wire->n_members);
}

/* ---- letters and the store ----------------------------------------------------------------- */

void control_nudge(struct control *c, uint32_t node)
{
    for (uint32_t i = 0; i < c->node->n_workers; i++) {
        struct letter *letter = letter_new(LETTER_DIAL, c->loop.index);
        if (!letter)
            return; /* they dial by themselves, a little later */
        letter->u.dial.node = node;
        loop_post_one(&c->node->workers[i]->loop, letter);
    }
}

void control_tell_idle(struct control *c, uint32_t worker)
{
    struct letter *letter = letter_new(LETTER_IDLE, worker);
    if (letter) /* else the time limit ends the wait */
        loop_post_one(&c->loop, letter);
}

static void tell_workers(struct control *c, enum letter_type type)
{
    for (uint32_t i = 0; i < c->node->n_workers; i++) {
        struct letter *letter = letter_new(type, c->loop.index);
        if (!letter)
            control_die(c, "out of memory while stopping.");
        loop_post_one(&c->node->workers[i]->loop, letter);
    }
}

static void close_all(struct control *c)
{
    if (c->closing)
        return;
    c->closing = true;
    tell_workers(c, LETTER_CLOSE);
    for (uint32_t i = 0; i < c->node->n_workers; i++)
        worker_loop_join(c->node->workers[i]);
    former_stop(&c->former);
    gossip_close(&c->gossip);
    http_stop(&c->http);
    lookup_cancel(&c->loop.uv);
    loop_close_all(&c->loop);
}

/* Every worker has done the present one. */
static void next_stop_step(struct control *c)
{
    c->n_idle = 0;
    if (c->finishing) {
        close_all(c);
        return;
    }
    c->finishing = true;
    tell_workers(c, LETTER_FINISH);
}

static void on_woken(struct loop *l)
{
    struct control *c = (struct control *)l;
    struct store *s = c->node->store;
    struct store_done done[CONTROL_REAP_MAX];
    struct list letters;
    size_t n;

    list_init(&letters);
    loop_take_letters(l, &letters);
    while (!list_empty(&letters)) {
        struct letter *letter = letters_pop(&letters);
        if (letter->type == LETTER_STATUS) {
            status_answer(c, letter);
            continue;
        }
        c->n_idle += letter->type == LETTER_IDLE;
        letter_free(letter);
    }
    n = s->ops->reap(s, l->index, done, CONTROL_REAP_MAX); /* at most one write of each */
    for (size_t i = 0; i < n; i++) {
        former_synced(&c->former, &done[i]);
        ring_keeper_synced(&c->keeper, c, &done[i]);
    }
    scrub_woken(&c->scrub);
    if (c->n_idle == c->node->n_workers)
        next_stop_step(c);
}

static void on_flush(struct loop *l)
{
}

static const struct loop_hooks hooks = {
    .on_woken = on_woken, .on_flush = on_flush, .on_flushed = on_flush};

/* ---- stopping ------------------------------------------------------------------------------ */

static void on_stop_timeout(uv_timer_t *timer)
{
    struct control *c = timer->data;
    log_warn(&c->node->log, "requests were still in flight at the end of the stop time",
             "stop_ms=%u", c->node->config.stop_ms);
    close_all(c);
}

static void on_signal(uv_signal_t *handle, int signum)
{
    struct control *c = handle->data;

    if (c->stopping) {
        close_all(c);
        return;
    }
    c->stopping = true;
    log_info(&c->node->log, "stopping", "signal=%d", signum);
    listener_stop(&c->listener);
    former_stop(&c->former);
    gossip_stop(&c->gossip);
    scrub_stop(&c->scrub);
    tell_workers(c, LETTER_STOP);
    uv_timer_start(&c->stop_timer, on_stop_timeout, c->node->config.stop_ms, 0);
}

/* ---- life ---------------------------------------------------------------------------------- */

static void tell_listening(struct node *n, const char *whom, const struct address *a)
{
    char text[ADDRESS_TEXT_BYTES];
    address_text(a, text);
    log_info(&n->log, "listening", "for=%s address=%s", whom, text);
}

int control_start(struct control *c, int peer_fd, int http_fd)
{
    struct node *n = c->node;
    struct loop *l = &c->loop;
    int rc = listener_start(&c->listener, l, peer_fd, caller_accept, c);

    if (rc == 0 && http_fd >= 0)
        rc = http_start(&c->http, c, http_fd);
    if (rc < 0)
        return rc;
    uv_signal_init(&l->uv, &c->term);
    uv_signal_init(&l->uv, &c->interrupt);
    uv_timer_init(&l->uv, &c->stop_timer);
    c->term.data = c->interrupt.data = c->stop_timer.data = c;
    uv_signal_start(&c->term, on_signal, SIGTERM);
    uv_signal_start(&c->interrupt, on_signal, SIGINT);
    load_start(&c->load, c);
    tell_listening(n, "clients", &n->client_address);
    tell_listening(n, "peers", &n->peer_address);
    scrub_start(&c->scrub, c);
    if (http_fd >= 0)
        tell_listening(n, "monitors", &n->http_address);
    return 0;
}

int control_init(struct control *c)
{
    struct node *n = c->node;
    struct loop_limits limits = {.idle_ms = n->config.idle_ms,
                                 .frame_ms = n->config.frame_ms,
                                 .stall_ms = n->config.stall_ms};
    return loop_init(&c->loop, n->n_workers, &hooks, &limits, &n->log);
}

void control_deinit(struct control *c)
{
    former_deinit(&c->former);
    gossip_deinit(&c->gossip);
    ring_keeper_deinit(&c->keeper);
    ring_unref(c->ring);
    ring_unref(c->decided);
    loop_deinit(&c->loop);
}
