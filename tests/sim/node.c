/* node: the real workers of one node, and a small edge that carries their effects out.
 *
 * A worker's step is instantaneous; what comes of it (messages, reads, syncs, answers) becomes
 * items with delays of their own. Bytes cross from one machine to another packed, so no worker can
 * lean on the memory of another. Control's part (links that come and go, rings) reaches each worker
 * in order, but each worker at its own time. */
#include "tests/sim/sim.h"

#include <stdio.h>
#include <stdlib.h>

/* The cluster's clocks start here; the year does not matter. */
#define WALL_BASE_MS 1700000000000ull

static uint64_t drifted_us(const struct world *w, const struct node *n)
{
    int64_t t = (int64_t)w->now_us;

    return (uint64_t)(t + t / 1000000 * n->drift_ppm);
}

uint64_t node_mono_ms(const struct world *w, const struct node *n)
{
    return 1000 * (n->index + 1) + drifted_us(w, n) / 1000;
}

uint64_t node_wall_ms(const struct world *w, const struct node *n)
{
    return WALL_BASE_MS + drifted_us(w, n) / 1000 + (uint64_t)n->skew_ms;
}

/* ---- effects ----------------------------------------------------------------------------- */

static void reply(struct world *w, struct node *n, const struct effect *e)
{
    struct item item = {.type = ITEM_ANSWER, .a = e->u.reply.conn};

    check_reply(w, n, e->u.reply.conn, &e->u.reply.response);
    w->scratch.len = 0;
    if (wire_response_pack(&e->u.reply.response, &w->scratch) < 0) {
        sim_fail(w, "%s made an answer that cannot be packed", n->name);
        return;
    }
    item.bytes = blob_copy(buf_slice(&w->scratch));
    sim_push(w, w->now_us + n->slow_us + sim_delay(w, 2 * MS), item);
}

static void trace(struct world *w, struct node *n, uint32_t worker, const struct effect *e)
{
    w->stats.covers[COVER_TRACE + e->u.trace.type]++;
    sim_trace(w, "%s.%u trace %d %llu %llu", n->name, worker, e->u.trace.type,
              (unsigned long long)e->u.trace.a, (unsigned long long)e->u.trace.b);
}

static void carry_out(struct world *w, struct node *n, uint32_t worker)
{
    struct store_op ops[EFFECTS_MAX];
    size_t n_ops = 0;

    for (uint32_t i = 0; i < w->effects.n; i++) {
        const struct effect *e = &w->effects.list[i];

        switch (e->type) {
        case EFFECT_REPLY:
            reply(w, n, e);
            break;
        case EFFECT_SEND:
            net_send(w, n, worker, &e->u.send.to, &e->u.send.msg);
            break;
        case EFFECT_GET:
        case EFFECT_SCAN:
        case EFFECT_LEAVES:
        case EFFECT_INFO:
            disk_read(w, n, worker, e);
            break;
        case EFFECT_PURGE:
            disk_purge(w, n, worker, e);
            break;
        case EFFECT_STORE:
            ops[n_ops++] = e->u.store;
            break;
        case EFFECT_TRACE:
            trace(w, n, worker, e);
            break;
        }
    }
    if (n_ops > 0)
        disk_submit(w, n, worker, ops, n_ops);
}

/* ---- steps ------------------------------------------------------------------------------- */

static void arm_tick(struct world *w, struct node *n, uint32_t worker)
{
    uint64_t at_ms = worker_deadline_ms(n->workers[worker]), now_ms = node_mono_ms(w, n);
    uint64_t at_us;

    if (at_ms == UINT64_MAX) {
        n->tick_us[worker] = SIM_NEVER;
        return;
    }
    at_us = w->now_us + (at_ms > now_ms ? (at_ms - now_ms) * MS : 0) + 1;
    if (at_us == n->tick_us[worker])
        return;
    n->tick_us[worker] = at_us;
    sim_push(
        w, at_us,
        (struct item){
            .type = ITEM_TICK, .node = (uint16_t)n->index, .worker = (uint16_t)worker, .a = at_us});
}

void node_step(struct world *w, struct node *n, uint32_t worker, struct event *in)
{
    uint32_t generation = n->generation;
    struct event more = {.type = EVENT_MORE};
    int r;

    in->now_ms = more.now_ms = node_mono_ms(w, n);
    in->wall_ms = more.wall_ms = node_wall_ms(w, n);
    if (in->wall_ms > n->wall_most_ms)
        n->wall_most_ms = in->wall_ms;
    do {
        r = worker_step(n->workers[worker], in, &w->effects);
        carry_out(w, n, worker);
        in = &more;
    } while (r == STEP_MORE && !w->failed);
    if (n->alive && n->generation == generation)
        arm_tick(w, n, worker);
}

void node_tell(struct world *w, struct node *n, uint32_t worker, uint64_t delay_us,
               struct item item)
{
    uint64_t *last = &n->mail_us[0][worker];

    *last = w->now_us + delay_us > *last ? w->now_us + delay_us : *last;
    item.node = (uint16_t)n->index;
    item.worker = (uint16_t)worker;
    sim_push(w, *last, item);
}

void node_publish(struct world *w, struct node *n, uint32_t ring)
{
    n->ring = ring > n->ring ? ring : n->ring;
    for (uint32_t i = 0; n->alive && i < n->n_workers; i++)
        node_tell(w, n, i, sim_delay(w, 20 * MS), (struct item){.type = ITEM_RING, .a = n->ring});
}

static void recv_mail(struct world *w, struct node *n, struct item *item)
{
    struct event in = {.type = EVENT_PEER};
    struct worker_stats before, after;
    struct wire_peer msg;
    struct slice body = slice_of(item->bytes->data + LIMIT_FRAME_HEADER_BYTES,
                                 item->bytes->len - LIMIT_FRAME_HEADER_BYTES);

    arena_reset(&w->arena, WIRE_ARENA_BUDGET(body.len));
    if (wire_peer_unpack(body, &w->arena, &msg) < 0) {
        sim_fail(w, "%s cannot unpack its own mail", n->name);
        return;
    }
    in.u.peer.from =
        (struct addr){.kind = ADDR_WORKER, .node = n->index, .worker = (uint32_t)item->a};
    in.u.peer.node = n->index;
    in.u.peer.msg = &msg;
    in.u.peer.waited_ms = node_mono_ms(w, n) - item->b;
    worker_stats(n->workers[item->worker], &before);
    node_step(w, n, item->worker, &in);
    worker_stats(n->workers[item->worker], &after);
    check_waited(w, n, &msg, in.u.peer.waited_ms, after.n_dropped - before.n_dropped);
}

static void recv_request(struct world *w, struct node *n, struct item *item)
{
    struct event in = {.type = EVENT_REQUEST};
    struct wire_request req;
    struct slice body = slice_of(item->bytes->data + LIMIT_FRAME_HEADER_BYTES,
                                 item->bytes->len - LIMIT_FRAME_HEADER_BYTES);

    arena_reset(&w->arena, WIRE_ARENA_BUDGET(body.len));
    if (wire_request_unpack(body, &w->arena, &req) < 0) {
        sim_fail(w, "%s cannot unpack a request", n->name);
        return;
    }
    in.u.request.conn = item->a;
    in.u.request.request = &req;
    node_step(w, n, item->worker, &in);
}

/* The purge floors of the node's slot: a slot that has become another incarnation has taken along
 * what it had promised as any before. */
static struct floor_fact floors_of(struct world *w, struct node *n, uint32_t worker, uint32_t ring,
                                   uint32_t partition)
{
    struct floor_fact found = {.partition = partition};

    for (uint32_t i = 0; i <= ring; i++) {
        struct floor_fact fact = {.partition = partition};
        struct ring_entry e;
        int slot;

        ring_lookup(w->rings[i], partition, &e);
        slot = ring_entry_slot(&e, n->index);
        if (slot < 0 || e.slots[slot].state != SLOT_READY)
            continue;
        found.incarnation = fact.incarnation = e.slots[slot].incarnation;
        if (floor_fact_read(n->disk.store, worker, &fact) < 0)
            sim_fail(w, "%s cannot read its floors", n->name);
        found.opened = fact.opened > found.opened ? fact.opened : found.opened;
        found.closed = fact.closed > found.closed ? fact.closed : found.closed;
    }
    return found;
}

static void recv_ring(struct world *w, struct node *n, const struct item *item)
{
    struct event in = {.type = EVENT_RING};
    struct floor_fact facts[SIM_PARTITIONS];

    for (uint32_t p = 0; p < SIM_PARTITIONS; p++)
        facts[p] = floors_of(w, n, item->worker, (uint32_t)item->a, p);
    in.u.ring.ring = w->rings[item->a];
    in.u.ring.facts = facts;
    in.u.ring.n_facts = SIM_PARTITIONS;
    node_step(w, n, item->worker, &in);
}

static void recv_stopped(struct world *w, struct node *n)
{
    bool idle = true;

    for (uint32_t i = 0; i < n->n_workers; i++)
        idle &= worker_idle(n->workers[i]);
    if (idle && store_mem_last_lsn(n->disk.store) == n->disk.store->ops->durable(n->disk.store)) {
        node_crash(w, n); /* nothing is left that a crash could take */
        return;
    }
    sim_push(w, w->now_us + 10 * MS,
             (struct item){.type = ITEM_STOPPED, .node = (uint16_t)n->index});
}

void node_item(struct world *w, struct node *n, struct item *item)
{
    struct event in = {.type = EVENT_TICK};

    switch ((enum item_type)item->type) {
    case ITEM_TICK:
        if (n->tick_us[item->worker] != item->a)
            return; /* armed for another time since */
        n->tick_us[item->worker] = 0;
        node_step(w, n, item->worker, &in);
        return;
    case ITEM_MAIL:
        recv_mail(w, n, item);
        return;
    case ITEM_MESSAGE:
        net_arrive(w, n, item);
        return;
    case ITEM_NODE_UP:
        sim_trace(w, "%s.%u hears that n%llu is up", n->name, item->worker,
                  (unsigned long long)item->a);
        in.type = EVENT_NODE_UP;
        in.u.node_up.node = (uint32_t)item->a;
        in.u.node_up.n_workers = (uint32_t)item->b;
        node_step(w, n, item->worker, &in);
        return;
    case ITEM_NODE_DOWN:
        sim_trace(w, "%s.%u hears that n%llu is down", n->name, item->worker,
                  (unsigned long long)item->a);
        in.type = EVENT_NODE_DOWN;
        in.u.node_down.node = (uint32_t)item->a;
        node_step(w, n, item->worker, &in);
        return;
    case ITEM_NODE_SEEN:
        sim_trace(w, "%s.%u hears that n%llu is in state %llu", n->name, item->worker,
                  (unsigned long long)item->a, (unsigned long long)item->b);
        in.type = EVENT_NODE_SEEN;
        in.u.node_seen.node = (uint32_t)item->a;
        in.u.node_seen.state = (enum wire_member_state)item->b;
        node_step(w, n, item->worker, &in);
        return;
    case ITEM_RING:
        recv_ring(w, n, item);
        return;
    case ITEM_REQUEST:
        recv_request(w, n, item);
        return;
    case ITEM_GONE:
        in.type = EVENT_GONE;
        in.u.gone.conn = item->a;
        node_step(w, n, item->worker, &in);
        return;
    case ITEM_STOPPED:
        recv_stopped(w, n);
        return;
    default:
        disk_item(w, n, item);
        return;
    }
}

/* ---- life -------------------------------------------------------------------------------- */

void node_init(struct world *w, uint32_t index)
{
    struct node *n = &w->nodes[index];

    n->index = index;
    snprintf(n->name, sizeof(n->name), "n%u", index);
    for (size_t i = 0; i < WIRE_ID_BYTES; i++)
        n->id.b[i] = (uint8_t)prng_next(&w->prng);
    n->n_workers = 1 + (uint32_t)sim_below(w, SIM_WORKERS_MAX);
    disk_init(w, n);
}

static void free_workers(struct node *n)
{
    for (uint32_t i = 0; i < SIM_WORKERS_MAX; i++) {
        worker_free(n->workers[i]);
        n->workers[i] = NULL;
        n->tick_us[i] = 0;
        n->reaping[i] = false;
    }
    memset(n->mail_us, 0, sizeof(n->mail_us));
}

void node_deinit(struct world *w, struct node *n)
{
    free_workers(n);
    disk_deinit(n);
}

void node_start(struct world *w, struct node *n)
{
    struct worker_config config = {.node_id = n->id,
                                   .node = n->index,
                                   .n_workers = n->n_workers,
                                   .boot = ++n->boot,
                                   .clock_bound_ms = n->disk.store->ops->clock_bound(n->disk.store),
                                   .name = slice_str(n->name),
                                   .software = slice_str("sim"),
                                   .ops_max = 256,
                                   .compare_ms = w->compare_ms,
                                   .purge_age_ms = w->purge_age_ms};

    if (w->enabled[FAULT_TIGHT] && !w->healed) {
        config.ops_max = 2 + (uint32_t)sim_below(w, 8);
        config.inflight_bytes_max = 2000;
    }
    n->alive = true;
    n->stopping = false;
    n->wall_most_ms = 0;
    n->stamp_before = n->stamp_most;
    sim_trace(w, "%s starts: boot %llu, %u workers, clock bound %llu", n->name,
              (unsigned long long)n->boot, n->n_workers, (unsigned long long)config.clock_bound_ms);
    for (uint32_t i = 0; i < n->n_workers; i++) {
        config.worker = i;
        config.seed = prng_next(&w->prng);
        n->workers[i] = worker_new(&config);
        if (!n->workers[i])
            abort();
    }
    node_publish(w, n, n->ring);
    net_node_up(w, n->index);
}

void node_crash(struct world *w, struct node *n)
{
    uint32_t n_workers = 1 + (uint32_t)sim_below(w, SIM_WORKERS_MAX);

    sim_trace(w, "%s is down", n->name);
    n->alive = false;
    n->generation++;
    n->disturbed_us = w->now_us;
    n->paused_us = 0;
    free_workers(n);
    disk_crash(w, n, n_workers);
    n->n_workers = n_workers;
    net_node_down(w, n->index);
    client_lost_node(w, n->index);
}

void node_stop(struct world *w, struct node *n)
{
    n->stopping = true;
    n->disturbed_us = w->now_us;
    for (uint32_t i = 0; i < n->n_workers && n->alive; i++) {
        struct event in = {.type = EVENT_STOP};

        node_step(w, n, i, &in);
    }
    sim_push(w, w->now_us + MS, (struct item){.type = ITEM_STOPPED, .node = (uint16_t)n->index});
}
