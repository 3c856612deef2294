/* registers: some nodes, each with a register (server/core/register), a small disk and somebody who
 * changes rings, in virtual time.
 *
 *   registers --seeds 1..2000 [--quiet] [--trace]    a range; exit 1 at the first that fails
 *   registers --twice --seeds 1..20                  each must be the same run again
 *
 * The seed is the run. Three to seven nodes, one to five of which vote at first; some of them or
 * all propose changes, a fifth of which add or remove a voter, and some exchange one, which must be
 * refused. For FAULTS_MS:
 *
 *   messages   are lost, doubled, late by up to seconds, and overtake each other
 *   nodes      crash and start again: what was being written is on the disk or not, as it happens;
 *              what they had decided and not yet written they do not know any more
 *   disks      are slow at times, and refuse some writes
 *   networks   are cut in two, and healed
 *   rings      that are decided reach others by gossip, late
 *
 * Each run draws how often; half of them are storms, in which nobody waits long, messages are late
 * by as much as an operation takes, and nodes crash while they write. Then everything is healed,
 * and every node in turn must have a change decided. What must hold at all times is in
 * registers_check.c; besides, a read that began after a ring was decided shows that ring or a later
 * one.
 */
#include "tests/sim/registers.h"

#include <stdio.h>
#include <stdlib.h>

#include "server/base/prng.h"
#include "server/core/register_facts.h"
#include "server/core/ring.h"
#include "tests/sim/heap.h"

#define FAULTS_MS 20000u
/* An operation that begins when all is healed must be through. */
#define HEALED_MS 15000u
#define ANY_LIFE UINT32_MAX

/* node: whose. generation: its life, or ANY_LIFE. MESSAGE: a is who sent it. TICK: a is its number,
 * only the last one asked for counts. SYNCED: a is the cookie, b 1 if it is refused. */
enum item_type {
    ITEM_TICK = 1,
    ITEM_MESSAGE,
    ITEM_SYNCED,
    ITEM_CRASH,
    ITEM_KEPT,  /* a published ring is on disk, and served */
    ITEM_START, /* if it is down */
    ITEM_DRIVE, /* it wants a change */
    ITEM_GOSSIP,
    ITEM_FAULT
};

enum op_kind {
    OP_IDLE = 0,
    OP_CHANGED,
    OP_READ_RING,
    OP_SWAPPED
};

struct sim_node {
    uint32_t index, life;
    struct ring_register *r; /* NULL: down */
    uint64_t boot, tick_us;
    uint32_t tick;
    bool drives;
    /* Disk. */
    struct buf promise, accepted, ring;
    /* A fact under way to it. */
    bool writing, of_promise;
    uint64_t cookie;
    struct buf value;
    /* The operation under way. */
    enum op_kind kind;
    uint64_t began_epoch;
    struct buf wanted;
    enum register_outcome outcome; /* of the last one */
};

struct world {
    uint32_t n;
    struct sim_node nodes[NODES_MAX];
    struct heap heap;
    uint64_t now_us;
    struct prng prng;
    struct arena arena;
    struct history *history;
    bool healed, trace, storm;
    uint32_t side; /* bits: a network cut in two: who is on one side; 0: whole */
    /* Of this run. */
    uint32_t lost_percent, double_percent, late_percent, refused_percent, fault_ms, drive_ms;
    uint32_t most_down, cut_percent, crash_percent;
    uint64_t n_ops, n_events, hash;
    uint64_t n_outcomes[REGISTER_BUSY + 1], n_crashes, n_voter_changes;
};

/* ---- small things -------------------------------------------------------------------------- */

static uint64_t draw(struct world *w, uint64_t least, uint64_t most)
{
    return least + prng_below(&w->prng, most - least + 1);
}

static bool chance(struct world *w, uint32_t percent)
{
    return prng_below(&w->prng, 100) < percent;
}

static struct wire_id id_of(uint32_t index)
{
    struct wire_id id = {{(uint8_t)(index + 1)}};

    return id;
}

static void keep(struct buf *to, struct slice bytes)
{
    to->len = 0;
    if (buf_append_slice(to, bytes) < 0)
        abort();
}

static struct slice held(const struct buf *b)
{
    return buf_slice(b);
}

static uint64_t epoch_of(struct slice ring)
{
    struct wire_ring wire;
    struct arena arena;

    arena_init(&arena, WIRE_ARENA_BUDGET_RING);
    if (wire_ring_unpack(ring, &arena, &wire) < 0)
        failed("not a ring");
    arena_deinit(&arena);
    return wire.epoch;
}

static void later(struct world *w, uint64_t us, struct item item)
{
    item.at_us = w->now_us + us;
    heap_push(&w->heap, item);
}

static void feed(struct world *w, struct sim_node *n, struct register_event event);

/* ---- effects ------------------------------------------------------------------------------- */

static bool is_cut(const struct world *w, uint32_t a, uint32_t b)
{
    return w->side && (w->side >> a & 1) != (w->side >> b & 1);
}

static void deliver_later(struct world *w, uint32_t from, uint32_t to, struct slice body)
{
    bool late = !w->healed && chance(w, w->late_percent);

    later(w, late ? draw(w, 2000, w->storm ? 100000 : 4000000) : draw(w, 100, 3000),
          (struct item){.type = ITEM_MESSAGE,
                        .node = (uint16_t)to,
                        .generation = ANY_LIFE,
                        .a = from,
                        .bytes = blob_copy(body)});
}

static void send(struct world *w, const struct sim_node *n, const struct register_effect *e)
{
    uint32_t to = e->to.b[0] - 1u;
    struct buf bytes;
    struct slice body;

    if (e->msg.type == PEER_REGISTER_ACCEPT)
        history_offered(w->history, &e->msg.u.reg->ballot, e->msg.u.reg->ring);
    if (!w->healed && chance(w, w->lost_percent))
        return;
    buf_init(&bytes);
    if (wire_peer_pack(&e->msg, &bytes) < 0)
        abort();
    body = slice_of(bytes.data + LIMIT_FRAME_HEADER_BYTES, bytes.len - LIMIT_FRAME_HEADER_BYTES);
    deliver_later(w, n->index, to, body);
    if (!w->healed && chance(w, w->double_percent))
        deliver_later(w, n->index, to, body);
    buf_deinit(&bytes);
}

static void store(struct world *w, struct sim_node *n, const struct register_effect *e)
{
    bool slow = !w->healed && chance(w, 5), refused = !w->healed && chance(w, w->refused_percent);

    if (n->writing)
        failed("two facts are written at a time");
    n->writing = true;
    if (!w->healed && chance(w, w->crash_percent))
        later(w, draw(w, 0, 4000),
              (struct item){.type = ITEM_CRASH, .node = (uint16_t)n->index, .generation = n->life});
    n->of_promise = strcmp(e->name, REGISTER_FACT_PROMISE) == 0;
    n->cookie = e->cookie;
    keep(&n->value, e->value);
    later(w, slow ? draw(w, 50000, 800000) : draw(w, 200, 4000),
          (struct item){.type = ITEM_SYNCED,
                        .node = (uint16_t)n->index,
                        .generation = n->life,
                        .a = e->cookie,
                        .b = refused});
}

static void publish(struct world *w, struct sim_node *n, const struct register_effect *e)
{
    history_decided(w->history, e->epoch, e->ring);
    later(w, draw(w, 200, 20000),
          (struct item){.type = ITEM_KEPT,
                        .node = (uint16_t)n->index,
                        .generation = n->life,
                        .bytes = blob_copy(e->ring)});
}

static void check_change(struct world *w, struct sim_node *n, const struct register_effect *e)
{
    switch (e->outcome) {
    case REGISTER_DECIDED:
        if (!slice_equal(e->ring, held(&n->wanted)))
            failed("node %u was told that another ring is its own", n->index);
        history_acked(w->history, e->epoch, e->ring);
        break;
    case REGISTER_CONFLICT:
        history_decided(w->history, e->epoch, e->ring);
        history_lost(w->history, held(&n->wanted));
        break;
    case REGISTER_NOTHING:
        history_lost(w->history, held(&n->wanted));
        break;
    case REGISTER_UNKNOWN:
        if (e->epoch)
            history_decided(w->history, e->epoch, e->ring);
        break;
    case REGISTER_REFUSED:
        failed("node %u's change is refused: %s", n->index, e->why);
    case REGISTER_BUSY:
        failed("node %u is told to be busy and is not", n->index);
    }
}

static void finish(struct world *w, struct sim_node *n, const struct register_effect *e)
{
    if (w->trace)
        printf("%9.3f node %u: outcome %d, epoch %llu\n", (double)w->now_us / 1e3, n->index,
               (int)e->outcome, (unsigned long long)e->epoch);
    w->n_outcomes[e->outcome]++;
    if (n->kind == OP_CHANGED) {
        check_change(w, n, e);
    } else if (n->kind == OP_SWAPPED) {
        /* It would be decided, or at least computed from what is not the newest. */
        if (e->outcome != REGISTER_REFUSED && e->outcome != REGISTER_CONFLICT)
            failed("two voters were exchanged at once");
    } else if (e->outcome == REGISTER_DECIDED) {
        history_decided(w->history, e->epoch, e->ring);
        if (e->epoch < n->began_epoch)
            failed("node %u reads epoch %llu, and %llu was decided before", n->index,
                   (unsigned long long)e->epoch, (unsigned long long)n->began_epoch);
    }
    n->kind = OP_IDLE;
    n->outcome = e->outcome;
}

static void feed(struct world *w, struct sim_node *n, struct register_event event)
{
    static struct register_effects fx;
    struct register_stats stats;
    uint64_t due_us;

    event.now_ms = w->now_us / 1000;
    register_step(n->r, &event, &fx);
    register_stats(n->r, &stats);
    if (stats.n_forgotten)
        failed("node %u is told less by a majority than was decided before", n->index);
    for (uint32_t i = 0; i < fx.n; i++) {
        const struct register_effect *e = &fx.list[i];

        w->hash = (w->hash ^ e->type ^ e->epoch << 8 ^ w->now_us) * 0x100000001b3u;
        if (e->type == REGISTER_SEND)
            send(w, n, e);
        else if (e->type == REGISTER_STORE)
            store(w, n, e);
        else if (e->type == REGISTER_PUBLISH)
            publish(w, n, e);
        else
            finish(w, n, e);
    }
    due_us = register_deadline_ms(n->r);
    due_us = due_us == UINT64_MAX ? UINT64_MAX : due_us * 1000;
    if (due_us >= n->tick_us)
        return;
    n->tick_us = due_us;
    later(
        w, due_us > w->now_us ? due_us - w->now_us : 0,
        (struct item){
            .type = ITEM_TICK, .node = (uint16_t)n->index, .generation = n->life, .a = ++n->tick});
}

/* ---- nodes --------------------------------------------------------------------------------- */

static void start(struct world *w, struct sim_node *n)
{
    struct register_config config = {.self = id_of(n->index),
                                     .boot = ++n->boot,
                                     .seed = prng_next(&w->prng),
                                     .promise = held(&n->promise),
                                     .accepted = held(&n->accepted),
                                     .ring = held(&n->ring)};

    n->life++;
    n->tick_us = UINT64_MAX;
    if (register_new(&config, &n->r) < 0)
        failed("node %u does not start", n->index);
}

static void write_down(struct sim_node *n)
{
    keep(n->of_promise ? &n->promise : &n->accepted, held(&n->value));
}

static void crash(struct world *w, struct sim_node *n)
{
    if (n->writing && chance(w, 50))
        write_down(n); /* it is there, and nobody heard of it */
    n->writing = false;
    n->kind = OP_IDLE;
    n->life++;
    register_free(n->r);
    n->r = NULL;
    w->n_crashes++;
    later(w, draw(w, 0, chance(w, 50) ? 20000 : 1000000),
          (struct item){.type = ITEM_START, .node = (uint16_t)n->index, .generation = n->life});
}

/* A decided ring that this node did not serve yet. */
static void serve(struct world *w, struct sim_node *n, struct slice ring)
{
    if (epoch_of(ring) <= epoch_of(held(&n->ring)))
        return;
    keep(&n->ring, ring);
    feed(w, n, (struct register_event){.type = REGISTER_RING, .u.ring = held(&n->ring)});
}

/* ---- changes ------------------------------------------------------------------------------- */

/* Adds a member, removes a voter, or both. */
static bool change_voters(struct world *w, struct wire_ring *ring, uint32_t *voters, bool swap)
{
    uint32_t n = (uint32_t)ring->n_voters, member = (uint32_t)draw(w, 0, w->n - 1), at = n;

    memcpy(voters, ring->voters, n * sizeof(voters[0]));
    for (uint32_t i = 0; i < n; i++)
        at = voters[i] == member ? i : at;
    if (swap && at < n)
        return false;
    if (swap)
        voters[draw(w, 0, n - 1)] = member;
    else if (at == n)
        voters[n++] = member;
    else if (n > 1)
        voters[at] = voters[--n];
    else
        return false;
    ring->voters = voters;
    ring->n_voters = n;
    return true;
}

static void next_ring(struct world *w, struct sim_node *n, bool voters, bool swap)
{
    uint32_t changed[LIMIT_VOTERS_MAX + 1], fence[PARTITIONS];
    struct wire_ring ring;
    struct arena arena;

    arena_init(&arena, WIRE_ARENA_BUDGET_RING);
    if (wire_ring_unpack(held(&n->ring), &arena, &ring) < 0)
        abort();
    ring.epoch++;
    memcpy(fence, ring.fence, sizeof(fence));
    fence[n->index]++;
    ring.fence = fence;
    ring.next_incarnation += ++w->n_ops; /* no two changes are the same bytes */
    n->kind = OP_CHANGED;
    if (voters && change_voters(w, &ring, changed, swap)) {
        n->kind = swap ? OP_SWAPPED : OP_CHANGED;
        w->n_voter_changes++;
    }
    n->wanted.len = 0;
    if (wire_ring_pack(&ring, &n->wanted) < 0)
        abort();
    history_computed(w->history, held(&n->wanted), held(&n->ring));
    arena_deinit(&arena);
}

static void begin_change(struct world *w, struct sim_node *n, bool voters, bool swap, uint64_t ms)
{
    struct register_event event = {.type = REGISTER_CHANGE};

    next_ring(w, n, voters, swap);
    event.u.change.until_ms = w->now_us / 1000 + ms;
    event.u.change.ring = held(&n->wanted);
    feed(w, n, event);
}

static void begin_read(struct world *w, struct sim_node *n, uint64_t ms)
{
    struct register_event event = {.type = REGISTER_READ};

    n->kind = OP_READ_RING;
    n->began_epoch = history_epoch(w->history);
    event.u.read.until_ms = w->now_us / 1000 + ms;
    feed(w, n, event);
}

static void drive(struct world *w, struct sim_node *n)
{
    uint64_t ms = w->storm || chance(w, 30) ? draw(w, 5, 100) : draw(w, 100, 6000);
    uint32_t what = (uint32_t)draw(w, 0, 99);

    if (w->healed)
        return;
    later(w, draw(w, 100, 2000 * w->drive_ms),
          (struct item){.type = ITEM_DRIVE, .node = (uint16_t)n->index, .generation = ANY_LIFE});
    if (!n->r || n->kind != OP_IDLE || !n->drives)
        return;
    if (what < 15)
        begin_read(w, n, ms);
    else
        begin_change(w, n, what < 45, what < 20, ms);
}

/* ---- faults -------------------------------------------------------------------------------- */

static void crash_within_bounds(struct world *w, struct sim_node *n)
{
    uint32_t n_down = 0;

    for (uint32_t i = 0; i < w->n; i++)
        n_down += !w->nodes[i].r;
    if (n->r && n_down < w->most_down)
        crash(w, n);
}

static void fault(struct world *w)
{
    struct sim_node *n = &w->nodes[draw(w, 0, w->n - 1)];

    if (w->healed)
        return;
    later(w, draw(w, 1000, 2000 * w->fault_ms), (struct item){.type = ITEM_FAULT});
    if (w->side ? chance(w, 50) : chance(w, w->cut_percent))
        w->side = w->side ? 0 : (uint32_t)draw(w, 1, (1u << w->n) - 2);
    else
        crash_within_bounds(w, n);
}

static void gossip(struct world *w)
{
    struct sim_node *from = &w->nodes[draw(w, 0, w->n - 1)];
    struct sim_node *to = &w->nodes[draw(w, 0, w->n - 1)];

    later(w, draw(w, 1000, w->healed ? 5000 : 100000), (struct item){.type = ITEM_GOSSIP});
    if (from->r && to->r && from != to && !is_cut(w, from->index, to->index))
        serve(w, to, held(&from->ring));
}

/* ---- the run ------------------------------------------------------------------------------- */

static void recv_message(struct world *w, struct sim_node *n, const struct item *item)
{
    struct register_event event = {.type = REGISTER_MESSAGE};
    struct wire_peer msg;

    if (is_cut(w, n->index, (uint32_t)item->a))
        return;
    arena_reset(&w->arena, WIRE_ARENA_BUDGET(item->bytes->len));
    if (wire_peer_unpack(blob_slice(item->bytes), &w->arena, &msg) < 0)
        failed("a message cannot be unpacked");
    if (w->trace)
        printf("%9.3f %u > %u: %s %llu.%u%s\n", (double)w->now_us / 1e3, (unsigned)item->a,
               n->index,
               (const char *[]){"prepare", "promise", "accept",
                                "accepted"}[msg.type - PEER_REGISTER_PREPARE],
               (unsigned long long)msg.u.reg->ballot.counter, msg.u.reg->ballot.node.b[0] - 1u,
               msg.u.reg->promised.counter ? " refused" : "");
    event.u.message.from = id_of((uint32_t)item->a);
    event.u.message.msg = &msg;
    feed(w, n, event);
}

static void recv_synced(struct world *w, struct sim_node *n, const struct item *item)
{
    struct register_event event = {.type = REGISTER_STORED};

    n->writing = false;
    if (!item->b)
        write_down(n);
    event.u.stored.cookie = item->a;
    event.u.stored.error = item->b ? -ERR_NO_SPACE : 0;
    feed(w, n, event);
}

static void handle(struct world *w, const struct item *item)
{
    struct sim_node *n = &w->nodes[item->node];
    enum item_type type = (enum item_type)item->type;

    w->n_events++;
    if (type == ITEM_FAULT)
        fault(w);
    else if (type == ITEM_GOSSIP)
        gossip(w);
    else if (type == ITEM_DRIVE)
        drive(w, n);
    else if (type == ITEM_START && !n->r && n->life == item->generation)
        start(w, n);
    if (type >= ITEM_START || !n->r ||
        (item->generation != ANY_LIFE && item->generation != n->life))
        return;
    if (type == ITEM_MESSAGE) {
        recv_message(w, n, item);
    } else if (type == ITEM_SYNCED) {
        recv_synced(w, n, item);
    } else if (type == ITEM_CRASH) {
        crash_within_bounds(w, n);
    } else if (type == ITEM_KEPT) {
        serve(w, n, blob_slice(item->bytes));
    } else if (item->a == n->tick) {
        n->tick_us = UINT64_MAX;
        feed(w, n, (struct register_event){.type = REGISTER_TICK});
    }
}

/* Until the time is over, or (if not NULL) the node has no operation under way. */
static void run(struct world *w, uint64_t ms, const struct sim_node *until)
{
    uint64_t end_us = w->now_us + ms * 1000;

    while (w->heap.n > 0 && w->heap.items[0].at_us <= end_us) {
        struct item item = heap_pop(&w->heap);

        w->now_us = item.at_us;
        handle(w, &item);
        blob_unref(item.bytes);
        if (until && until->kind == OP_IDLE)
            return;
    }
    w->now_us = end_us;
}

static void form(struct world *w, struct buf *out)
{
    static char names[NODES_MAX][12];
    struct wire_member members[NODES_MAX] = {0};
    struct ring_form_input in = {.members = members,
                                 .n_members = w->n,
                                 .replicas = 1,
                                 .n_partitions = PARTITIONS,
                                 .cluster_id = {{99}}};
    uint32_t voters[NODES_MAX], most = chance(w, 50) ? 3 : 5;
    struct wire_ring ring;
    struct arena arena;

    for (uint32_t i = 0; i < w->n; i++) {
        snprintf(names[i], sizeof(names[i]), "n%u", i);
        members[i] = (struct wire_member){.id = id_of(i), .name = slice_str(names[i]), .weight = 1};
        voters[i] = i;
    }
    arena_init(&arena, WIRE_ARENA_BUDGET_RING);
    if (ring_form(&in, &arena, &ring) < 0)
        abort();
    ring.voters = voters;
    ring.n_voters = draw(w, 1, w->n < most ? w->n : most);
    if (wire_ring_pack(&ring, out) < 0)
        abort();
    arena_deinit(&arena);
}

static void world_init(struct world *w, uint64_t seed, bool trace)
{
    struct buf ring;

    memset(w, 0, sizeof(*w));
    prng_init(&w->prng, seed);
    arena_init(&w->arena, WIRE_ARENA_BUDGET(0));
    w->trace = trace;
    w->now_us = 1000000;
    w->storm = chance(w, 50);
    w->n = (uint32_t)draw(w, 3, NODES_MAX);
    w->lost_percent = (uint32_t)draw(w, 0, 30);
    w->double_percent = (uint32_t)draw(w, 0, 30);
    w->late_percent = (uint32_t)draw(w, 0, 30);
    w->refused_percent = chance(w, 30) ? (uint32_t)draw(w, 1, 10) : 0;
    w->fault_ms = (uint32_t)draw(w, 50, 1000);
    w->drive_ms = chance(w, 50) ? (uint32_t)draw(w, 5, 20) : (uint32_t)draw(w, 20, 300);
    w->most_down = (uint32_t)draw(w, 0, chance(w, 70) ? (w->n - 1) / 2 : w->n);
    w->crash_percent = chance(w, 50) ? (uint32_t)draw(w, 1, 10) : 0;
    w->cut_percent = chance(w, 50) ? 0 : (uint32_t)draw(w, 5, 40);
    if (w->storm) {
        w->drive_ms = (uint32_t)draw(w, 1, 20);
        w->crash_percent = (uint32_t)draw(w, 2, 40);
        w->late_percent = (uint32_t)draw(w, 10, 50);
        w->lost_percent = (uint32_t)draw(w, 0, 15);
        w->cut_percent = 0;
    }
    buf_init(&ring);
    form(w, &ring);
    w->history = history_new(buf_slice(&ring));
    for (uint32_t i = 0; i < w->n; i++) {
        struct sim_node *n = &w->nodes[i];

        n->index = i;
        n->drives = i == 0 || chance(w, 60);
        keep(&n->ring, buf_slice(&ring));
        start(w, n);
        later(w, draw(w, 0, 20000),
              (struct item){.type = ITEM_DRIVE, .node = (uint16_t)i, .generation = ANY_LIFE});
    }
    later(w, draw(w, 0, 1000000), (struct item){.type = ITEM_FAULT});
    later(w, 0, (struct item){.type = ITEM_GOSSIP});
    buf_deinit(&ring);
}

static void world_deinit(struct world *w)
{
    for (uint32_t i = 0; i < w->n; i++) {
        struct sim_node *n = &w->nodes[i];

        register_free(n->r);
        buf_deinit(&n->promise);
        buf_deinit(&n->accepted);
        buf_deinit(&n->ring);
        buf_deinit(&n->value);
        buf_deinit(&n->wanted);
    }
    for (size_t i = 0; i < w->heap.n; i++)
        blob_unref(w->heap.items[i].bytes);
    free(w->heap.items);
    arena_deinit(&w->arena);
    history_free(w->history);
}

/* All is well: whoever asks is answered, and everybody comes to know. */
static void check_liveness(struct world *w)
{
    w->healed = true;
    w->side = 0;
    for (uint32_t i = 0; i < w->n; i++)
        if (!w->nodes[i].r)
            start(w, &w->nodes[i]);
    run(w, HEALED_MS, NULL);
    for (uint32_t i = 0; i < w->n; i++) {
        struct sim_node *n = &w->nodes[i];

        if (n->kind != OP_IDLE)
            failed("node %u's operation does not end", i);
        /* What somebody has left half done may come to be read and finished first, each once. */
        for (uint32_t k = 0; k < LIMIT_VOTERS_MAX; k++) {
            begin_change(w, n, false, false, HEALED_MS);
            run(w, 2 * HEALED_MS, n);
            if (n->outcome != REGISTER_CONFLICT)
                break;
            run(w, 1000, NULL);
        }
        if (n->outcome != REGISTER_DECIDED)
            failed("node %u's change comes to outcome %d when all is well", i, (int)n->outcome);
        run(w, 1000, NULL);
        begin_read(w, n, HEALED_MS);
        run(w, 2 * HEALED_MS, n);
        if (n->outcome != REGISTER_DECIDED)
            failed("node %u's read comes to outcome %d when all is well", i, (int)n->outcome);
    }
    run(w, 2000, NULL);
    for (uint32_t i = 0; i < w->n; i++) {
        if (epoch_of(held(&w->nodes[i].ring)) != history_epoch(w->history))
            failed("node %u does not come to know the ring", i);
        if (w->nodes[i].writing || register_deadline_ms(w->nodes[i].r) != UINT64_MAX)
            failed("node %u does not come to rest", i);
    }
}

struct totals {
    uint64_t n_seeds, n_events, n_epochs, n_crashes, n_voter_changes;
    uint64_t n_outcomes[REGISTER_BUSY + 1];
    uint64_t n_hops, n_rounds;
};

static uint64_t run_seed(uint64_t seed, bool trace, struct totals *totals)
{
    static struct world w;
    uint64_t hash;

    world_init(&w, seed, trace);
    run(&w, FAULTS_MS, NULL);
    check_liveness(&w);
    totals->n_seeds++;
    totals->n_events += w.n_events;
    totals->n_epochs += history_epoch(w.history);
    totals->n_crashes += w.n_crashes;
    totals->n_voter_changes += w.n_voter_changes;
    for (uint32_t i = 0; i <= REGISTER_BUSY; i++)
        totals->n_outcomes[i] += w.n_outcomes[i];
    for (uint32_t i = 0; i < w.n; i++) {
        struct register_stats stats;

        register_stats(w.nodes[i].r, &stats);
        totals->n_hops += stats.n_hops;
        totals->n_rounds += stats.n_rounds;
    }
    hash = w.hash;
    world_deinit(&w);
    return hash;
}

static void print_totals(const struct totals *t)
{
    printf(
        "%llu seeds, %llu events, %llu epochs, %llu voter changes tried, %llu crashes; outcomes: "
        "%llu decided, %llu conflict, %llu unknown, %llu nothing, %llu refused; since the last "
        "starts %llu rounds, %llu of them given up for other voters\n",
        (unsigned long long)t->n_seeds, (unsigned long long)t->n_events,
        (unsigned long long)t->n_epochs, (unsigned long long)t->n_voter_changes,
        (unsigned long long)t->n_crashes, (unsigned long long)t->n_outcomes[REGISTER_DECIDED],
        (unsigned long long)t->n_outcomes[REGISTER_CONFLICT],
        (unsigned long long)t->n_outcomes[REGISTER_UNKNOWN],
        (unsigned long long)t->n_outcomes[REGISTER_NOTHING],
        (unsigned long long)t->n_outcomes[REGISTER_REFUSED], (unsigned long long)t->n_rounds,
        (unsigned long long)t->n_hops);
    for (uint32_t i = REGISTER_DECIDED; i < REGISTER_BUSY; i++)
        if (t->n_outcomes[i] == 0 && t->n_seeds >= 20)
            failed("no operation came to outcome %u: nothing is tested of it", i);
}

int main(int argc, char **argv)
{
    uint64_t first = 1, last = 100;
    bool trace = false, twice = false;
    struct totals totals = {0};

    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 1; i < argc; i++) {
        char *end;

        if (strcmp(argv[i], "--trace") == 0) {
            trace = true;
        } else if (strcmp(argv[i], "--twice") == 0) {
            twice = true;
        } else if (strcmp(argv[i], "--seeds") == 0 && i + 1 < argc) {
            first = last = strtoull(argv[++i], &end, 10);
            if (strncmp(end, "..", 2) == 0)
                last = strtoull(end + 2, NULL, 10);
        } else {
            fprintf(stderr, "usage: registers [--trace] [--twice] [--seeds FIRST..LAST]\n");
            return 2;
        }
    }
    for (uint64_t seed = first; seed <= last; seed++) {
        uint64_t hash;

        if (trace || last > first)
            printf("%sseed %llu%s", trace ? "" : "\r", (unsigned long long)seed, trace ? "\n" : "");
        hash = run_seed(seed, trace, &totals);
        if (twice && run_seed(seed, false, &totals) != hash)
            failed("seed %llu is another run the second time", (unsigned long long)seed);
    }
    print_totals(&totals);
    return 0;
}
