/* worker: the step function; see core.h for how its parts divide the work.
 *
 * The switch on the event type stands here and nowhere else. After the event, drain() runs whatever
 * became runnable as long as the effect list has room. Nothing in here waits: what needs time arms
 * a timer, what needs the disk or a peer comes back as an event.
 */
#include "server/core/antientropy.h"
#include "server/core/coordinator.h"
#include "server/core/floor.h"
#include "server/core/heal.h"
#include "server/core/hedge.h"
#include "server/core/op.h"
#include "server/core/purge.h"
#include "server/core/replica.h"
#include <assert.h>
#include <stdlib.h>

static void empty_graves(struct worker *w)
{
    while (w->graves_n > 0)
        blob_unref(w->graves[--w->graves_n]);
}

/* ---- messages ------------------------------------------------------------------------------ */

static bool is_comparison(enum wire_peer_type type)
{
    return type == PEER_COMPARE_REPLY || type == PEER_PULL_REPLY;
}

static bool is_reply(enum wire_peer_type type)
{
    return is_comparison(type) || type == PEER_PURGE_REPLY || type == PEER_GET_REPLY ||
           type == PEER_PUT_REPLY || type == PEER_SCAN_REPLY;
}

/* Time of a peer: adopted within the guard. */
static void adopt_time(struct worker *w, uint64_t hlc, struct effects *out)
{
    if (hlc && !clock_adopt(&w->clock, w->wall_ms, hlc)) {
        w->stats.n_clock_refused++;
        worker_trace(out, TRACE_CLOCK_AHEAD, version_wall_ms(hlc), w->wall_ms);
    }
}

/* When it is too late for a message; 0: never. */
static uint64_t until_ms_of(const struct worker *w, const struct wire_peer *msg, uint64_t waited_ms)
{
    if (!msg->deadline_ms)
        return 0;
    return waited_ms < msg->deadline_ms ? w->now_ms + (msg->deadline_ms - waited_ms) : w->now_ms;
}

static void recv_peer(struct worker *w, struct addr from, uint32_t node,
                      const struct wire_peer *msg, uint64_t waited_ms, struct blob *owner,
                      struct effects *out)
{
    adopt_time(w, msg->hlc, out);
    if (!is_reply(msg->type))
        replica_recv(w, from, msg, until_ms_of(w, msg, waited_ms), owner, out);
    else if ((msg->id & RELAY_BIT) && from.kind == ADDR_WORKER)
        replica_relayed(w, msg, owner, out);
    else if (msg->type == PEER_PURGE_REPLY)
        purge_recv_reply(w, msg);
    else if (msg->id & HEAL_ID)
        heal_recv_reply(w, msg);
    else if (is_comparison(msg->type))
        antientropy_recv_reply(w, msg, out);
    else
        coordinator_recv_reply(w, node, msg, out);
}

/* What the unit sent to this worker itself; each message may send more. */
static void drain_self(struct worker *w, struct effects *out)
{
    struct addr self = {.kind = ADDR_SELF, .node = w->node, .worker = w->index};

    while (w->self_at < w->self_n) {
        struct self_message m = w->self[w->self_at++];

        recv_peer(w, self, w->node, &m.msg, 0, m.owner, out);
    }
    w->self_n = w->self_at = 0;
}

/* ---- what becomes runnable ----------------------------------------------------------------- */

static bool drain_timers(struct worker *w, struct effects *out)
{
    while (!list_empty(&w->expired)) {
        struct wheel_timer *t;

        if (!worker_room(w, out))
            return false;
        t = list_entry(w->expired.next, struct wheel_timer, link);
        list_remove(&t->link);
        coordinator_timer(w, list_entry(t, struct op, timer), out);
        drain_self(w, out);
    }
    return true;
}

static bool drain_gate(struct worker *w, struct effects *out)
{
    while (!list_empty(&w->gate)) {
        struct pending *p = list_entry(w->gate.next, struct pending, gated);

        if (p->lsn > w->durable_lsn)
            break;
        if (!worker_room(w, out))
            return false;
        replica_release(w, p, out);
        drain_self(w, out);
    }
    return true;
}

static bool drain_resting(struct worker *w, struct effects *out)
{
    while (!list_empty(&w->resting)) {
        struct pending *p = list_entry(w->resting.next, struct pending, gated);

        if (p->rest_ms > w->now_ms)
            break;
        if (!worker_room(w, out))
            return false;
        replica_purge_go_on(w, p, out);
        drain_self(w, out);
    }
    return true;
}

/* Operations that wait for the clock, oldest first; the first that still has to wait stops it. */
static bool drain_stamping(struct worker *w, struct effects *out)
{
    while (!list_empty(&w->stamping)) {
        struct op *op = list_entry(w->stamping.next, struct op, stamping);

        if (!worker_room(w, out))
            return false;
        put_stamp(w, op, out);
        drain_self(w, out);
        if (w->stamping.next == &op->stamping)
            break;
    }
    return true;
}

static bool drain_sweep(struct worker *w, struct effects *out)
{
    while (w->sweep.active && w->sweep.next < w->ops_high) {
        struct op *op;

        if (!worker_room(w, out))
            return false;
        op = &w->ops[w->sweep.next++];
        if (op->used)
            coordinator_review(w, op, out);
        drain_self(w, out);
    }
    w->sweep.active = false;
    return true;
}

static void start_sweep(struct worker *w)
{
    w->sweep.active = true;
    w->sweep.next = 0;
}

/* A round asks this worker, too. */
static bool drain_purge(struct worker *w, struct effects *out)
{
    bool room = purge_drain(w, out);

    drain_self(w, out);
    return room;
}

static int drain(struct worker *w, struct effects *out)
{
    drain_self(w, out);
    return drain_timers(w, out) && drain_gate(w, out) && drain_resting(w, out) &&
                   drain_sweep(w, out) && drain_stamping(w, out) && heal_drain(w, out) &&
                   drain_purge(w, out) && floors_drain(w, out) && antientropy_drain(w, out)
               ? 0
               : STEP_MORE;
}

/* ---- events -------------------------------------------------------------------------------- */

/* Whether it can be asked has changed, or its workers have. */
static void node_changed(struct worker *w, uint32_t node)
{
    w->nodes[node].mute_ms = 0;
    if (worker_node_up(w, node))
        antientropy_node_back(w, node);
    else
        antientropy_node_gone(w, node);
    start_sweep(w);
}

static void recv_node(struct worker *w, uint32_t node, bool up, uint32_t n_workers)
{
    if (node >= WORKER_NODES_MAX || node == w->node)
        return;
    w->nodes[node].up = up;
    if (up)
        w->nodes[node].n_workers = n_workers ? n_workers : 1;
    node_changed(w, node);
}

static void recv_seen(struct worker *w, uint32_t node, enum wire_member_state state)
{
    bool gone = state == MEMBER_DOWN || state == MEMBER_STOPPED;
    struct node_state *n = node < WORKER_NODES_MAX ? &w->nodes[node] : NULL;

    if (!n || node == w->node)
        return;
    n->suspect = state == MEMBER_SUSPECT;
    if (n->gone == gone)
        return;
    n->gone = gone;
    node_changed(w, node);
}

/* Who lives in this node's zone. */
static void note_zones(struct worker *w)
{
    const struct wire_ring *ring = ring_wire(w->ring);
    int own = ring_member_of(w->ring, &w->node_id);

    for (uint32_t i = 0; i < ring->n_members; i++) {
        uint32_t node = ring_member_node(w->ring, i);

        if (node < WORKER_NODES_MAX)
            w->nodes[node].near =
                own >= 0 && slice_equal(ring->members[i].zone, ring->members[own].zone);
    }
}

static void recv_ring(struct worker *w, const struct event *in)
{
    struct ring *ring = in->u.ring.ring;

    if (w->ring && ring_epoch(ring) <= ring_epoch(w->ring))
        return;
    if (floors_recv_ring(w, ring, in->u.ring.facts, in->u.ring.n_facts) < 0)
        return; /* no memory: go by the old one */
    ring_unref(w->ring);
    w->ring = ring_ref(ring);
    note_zones(w);
    antientropy_recv_ring(w);
    purge_recv_ring(w);
    start_sweep(w);
}

static void recv_stored(struct worker *w, const struct event *in, struct effects *out)
{
    if (in->u.stored.cookie == COOKIE_CLOCK)
        clock_renewed(&w->clock, w->wall_ms, in->u.stored.error);
    else if ((in->u.stored.cookie & FLOOR_COOKIE) == FLOOR_COOKIE)
        floors_recv_stored(w, in);
    else if ((in->u.stored.cookie & HEAL_COOKIE) == HEAL_COOKIE)
        heal_recv_stored(w, in);
    else if (in->u.stored.cookie & ANTIENTROPY_COOKIE)
        antientropy_recv_stored(w, in);
    else
        replica_stored(w, in, out);
}

static void recv_scanned(struct worker *w, const struct event *in, struct effects *out)
{
    if ((in->u.scanned.cookie & HEAL_COOKIE) == HEAL_COOKIE)
        heal_recv_scanned(w, in);
    else if (in->u.scanned.cookie & ANTIENTROPY_COOKIE)
        antientropy_recv_scanned(w, in, out);
    else
        replica_scanned(w, in, out);
}

static void recv_leaves(struct worker *w, const struct event *in, struct effects *out)
{
    if (in->u.leaves.cookie & ANTIENTROPY_COOKIE)
        antientropy_recv_leaves(w, in, out);
    else
        replica_leaves(w, in, out);
}

static void recv_event(struct worker *w, const struct event *in, struct effects *out)
{
    switch (in->type) {
    case EVENT_TICK:
    case EVENT_MORE:
        break;
    case EVENT_REQUEST:
        adopt_time(w, in->u.request.request->hlc, out);
        w->tag = in->u.request.tag;
        coordinator_recv_request(w, in->u.request.conn, in->u.request.request,
                                 in->u.request.waited_ms, out);
        break;
    case EVENT_GONE:
        break; /* its operations end by themselves; their replies are dropped */
    case EVENT_PEER:
        w->stats.n_peer_in++;
        recv_peer(w, in->u.peer.from, in->u.peer.node, in->u.peer.msg, in->u.peer.waited_ms,
                  in->u.peer.owner, out);
        break;
    case EVENT_NODE_UP:
        recv_node(w, in->u.node_up.node, true, in->u.node_up.n_workers);
        break;
    case EVENT_NODE_DOWN:
        recv_node(w, in->u.node_down.node, false, 0);
        break;
    case EVENT_NODE_SEEN:
        recv_seen(w, in->u.node_seen.node, in->u.node_seen.state);
        break;
    case EVENT_CLOCK:
        clock_judged(&w->clock, in->u.clock.right, in->u.clock.offset_ms, in->u.clock.behind_ms);
        break;
    case EVENT_GOT:
        replica_got(w, in, out);
        break;
    case EVENT_SCANNED:
        recv_scanned(w, in, out);
        break;
    case EVENT_LEAVES:
        recv_leaves(w, in, out);
        break;
    case EVENT_INFO:
        purge_recv_info(w, in);
        break;
    case EVENT_DAMAGED:
        heal_record(w, in->u.damaged.store_key);
        break;
    case EVENT_REMADE:
        antientropy_range_changed(w, in->u.remade.range);
        break;
    case EVENT_STORED:
        recv_stored(w, in, out);
        break;
    case EVENT_DURABLE:
        if (in->u.durable.lsn > w->durable_lsn)
            w->durable_lsn = in->u.durable.lsn;
        break;
    case EVENT_RING:
        recv_ring(w, in);
        break;
    case EVENT_STOP:
        w->stopping = true;
        break;
    }
}

int worker_step(struct worker *w, const struct event *in, struct effects *out)
{
    out->n = 0;
    empty_graves(w);
    w->now_ms = in->now_ms;
    w->wall_ms = in->wall_ms;
    clock_look(&w->clock, in->now_ms, in->wall_ms);
    recv_event(w, in, out);
    wheel_expire(&w->wheel, w->now_ms, &w->expired);
    return drain(w, out);
}

uint64_t worker_deadline_ms(const struct worker *w)
{
    uint64_t at_ms = wheel_next_ms(&w->wheel), compare_ms = antientropy_deadline_ms(w);
    uint64_t heal_ms = heal_deadline_ms(w), floor_ms = floors_deadline_ms(w);
    uint64_t purge_ms = purge_deadline_ms(w);

    if (!list_empty(&w->resting)) {
        uint64_t rest_ms = list_entry(w->resting.next, struct pending, gated)->rest_ms;

        at_ms = rest_ms < at_ms ? rest_ms : at_ms;
    }
    at_ms = floor_ms < at_ms ? floor_ms : at_ms;
    at_ms = purge_ms < at_ms ? purge_ms : at_ms;
    at_ms = compare_ms < at_ms ? compare_ms : at_ms;
    return heal_ms < at_ms ? heal_ms : at_ms;
}

/* ---- life ---------------------------------------------------------------------------------- */

/* 48 bits of node id, 9 of the boot number, 1 for forced versions (coordinator_put.c), 6 of worker
 */
static uint64_t actor_of(const struct worker_config *config, bool forced)
{
    uint64_t actor = 0;

    for (int i = 0; i < 6; i++)
        actor = actor << 8 | config->node_id.b[i];
    return actor << 16 | (config->boot & 0x1ff) << 7 | (uint64_t)forced << 6 | config->worker;
}

static int init_tables(struct worker *w)
{
    w->ops = calloc(w->ops_max, sizeof *w->ops);
    w->pendings = calloc(WORKER_PENDING_MAX, sizeof *w->pendings);
    if (!w->ops || !w->pendings)
        return -ERR_NO_MEMORY;
    /* Free lists grow on demand (ops_high, pendings_used), so that an idle worker touches nothing.
     */
    w->ops_free = OP_NONE_INDEX;
    w->pendings_free = OP_NONE_INDEX;
    return 0;
}

struct worker *worker_new(const struct worker_config *config)
{
    struct worker *w = calloc(1, sizeof *w);

    if (!w)
        return NULL;
    w->node_id = config->node_id;
    w->node = config->node;
    w->index = config->worker;
    w->n_workers = config->n_workers;
    w->ops_max = config->ops_max ? config->ops_max : WORKER_OPS_MAX;
    w->inflight_bytes_max = config->inflight_bytes_max ? config->inflight_bytes_max
                                                       : WORKER_INFLIGHT_BYTES(config->n_workers);
    prng_init(&w->prng, config->seed);
    hedge_init(w);
    admission_init(&w->admission, w->ops_max);
    clock_init(&w->clock, actor_of(config, false), config->clock_bound_ms);
    if (config->clock_watched)
        clock_be_watched(&w->clock);
    w->forced_actor = actor_of(config, true);
    wheel_init(&w->wheel, 0);
    list_init(&w->expired);
    list_init(&w->stamping);
    list_init(&w->gate);
    list_init(&w->resting);
    w->name = blob_copy(config->name);
    w->software = blob_copy(config->software);
    if (!w->name || !w->software || init_tables(w) < 0 ||
        antientropy_init(w, config->compare_ms) < 0 || heal_init(w) < 0 || floors_init(w) < 0 ||
        purge_init(w, config->purge_age_ms) < 0) {
        worker_free(w);
        return NULL;
    }
    return w;
}

void worker_free(struct worker *w)
{
    if (!w)
        return;
    for (uint32_t i = 0; w->ops && i < w->ops_high; i++)
        if (w->ops[i].used) {
            op_free(w, &w->ops[i]);
            empty_graves(w);
        }
    empty_graves(w);
    antientropy_deinit(w);
    heal_deinit(w);
    purge_deinit(w);
    floors_deinit(w);
    replica_deinit(w);
    ring_unref(w->ring);
    blob_unref(w->name);
    blob_unref(w->software);
    free(w->ops);
    free(w->pendings);
    free(w);
}

void worker_stats(const struct worker *w, struct worker_stats *ret)
{
    *ret = w->stats;
    ret->n_ops = w->ops_used;
    ret->inflight_bytes = w->inflight_bytes;
}

void worker_repair_stats(const struct worker *w, struct worker_repair_stats *ret)
{
    *ret = w->antientropy->stats;
    ret->n_healed = w->heals->n_healed;
    ret->n_heals_refused = w->heals->n_refused;
    ret->n_damaged = heal_n_damaged(w);
}

void worker_purge_stats(const struct worker *w, struct worker_purge_stats *ret)
{
    *ret = w->purge->stats;
}

void worker_floors(const struct worker *w, uint32_t partition, uint64_t *ret_opened,
                   uint64_t *ret_closed)
{
    const struct floor *f = floor_of(w, partition);

    *ret_opened = f ? f->opened : 0;
    *ret_closed = f ? f->closed : 0;
}

bool worker_clock_is_off(const struct worker *w, uint64_t wall_ms)
{
    return clock_is_off(&w->clock, wall_ms);
}

bool worker_idle(const struct worker *w)
{
    return w->ops_used == 0 && w->pendings_used == 0;
}
