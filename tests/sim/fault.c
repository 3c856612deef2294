/* fault: what goes wrong in a run, and the healing at its end.
 *
 * Each run draws which kinds of faults it has; each kind then begins again and again, at random
 * times, for a random while, until the world is healed. Whether clocks may jump beyond the guard,
 * whole clusters lose power, rings change under way: all is drawn, nothing is scripted. */
#include "tests/sim/sim.h"

#include <stdlib.h>

static const struct {
    const char *text;
} names[N_FAULTS] = {
#define FAULT_NAME(name, text) {text},
    FAULT_TABLE(FAULT_NAME)
#undef FAULT_NAME
};

/* Mean pause before the next one begins and most it lasts; 0: it is not begun, only enabled. */
static const struct {
    uint64_t pause_us, last_us;
} rhythm[N_FAULTS] = {
    [FAULT_CRASH] = {3 * SECOND, 0},
    [FAULT_STOP] = {5 * SECOND, 0},
    [FAULT_LINK] = {300 * MS, 0},
    [FAULT_PARTITION] = {4 * SECOND, 3 * SECOND},
    [FAULT_ONE_WAY] = {3 * SECOND, 3 * SECOND},
    [FAULT_LOSS] = {2 * SECOND, 4 * SECOND},
    [FAULT_DUPLICATE] = {2 * SECOND, 4 * SECOND},
    [FAULT_REORDER] = {2 * SECOND, 4 * SECOND},
    [FAULT_SLOW_NODE] = {3 * SECOND, 3 * SECOND},
    [FAULT_PAUSE] = {4 * SECOND, 3 * SECOND},
    [FAULT_SLOW_DISK] = {2 * SECOND, 3 * SECOND},
    [FAULT_SLOW_READ] = {2 * SECOND, 3 * SECOND},
    [FAULT_ROT] = {2 * SECOND, 0},
    [FAULT_FULL] = {SECOND, 3 * SECOND},
    [FAULT_BAD_CLOCK] = {2 * SECOND, 0},
    [FAULT_RING] = {100 * MS, 0},
    [FAULT_RUMOUR] = {300 * MS, 0},
};

const char *fault_text(enum fault fault)
{
    return names[fault].text;
}

/* ---- rings ------------------------------------------------------------------------------- */

static void add_ring(struct world *w, const struct wire_ring *wire)
{
    if (ring_new(wire, NULL, NULL, &w->rings[w->n_rings]) < 0) {
        sim_fail(w, "a ring of the simulator's own making is refused");
        return;
    }
    w->n_rings++;
}

static int compare_nodes(const void *a, const void *b)
{
    const struct node *x = a, *y = b;

    return memcmp(x->id.b, y->id.b, WIRE_ID_BYTES);
}

/* Members are sorted by id, and node handles are member indices: so nodes are numbered by id. */
void fault_first_ring(struct world *w)
{
    struct wire_member members[SIM_NODES_MAX];
    struct ring_form_input in = {.members = members,
                                 .n_members = w->n_nodes,
                                 .replicas = w->replicas,
                                 .n_partitions = SIM_PARTITIONS,
                                 .cluster_id.b = {7},
                                 .space.seed = (uint32_t)prng_next(&w->prng)};
    struct wire_id ids[SIM_NODES_MAX];
    struct wire_ring wire;
    struct arena arena;

    qsort(w->nodes, w->n_nodes, sizeof(w->nodes[0]), compare_nodes);
    for (uint32_t i = 0; i < w->n_nodes; i++) {
        ids[i] = w->nodes[i].id;
        w->nodes[i].index = i;
        w->nodes[i].name[1] = (char)('0' + i);
        members[i] = (struct wire_member){.id = ids[i],
                                          .name = slice_str(w->nodes[i].name),
                                          .client_address = slice_str("c"),
                                          .peer_address = slice_str("p"),
                                          .weight = 1};
    }
    arena_init(&arena, 4u << 20);
    if (ring_form(&in, &arena, &wire) < 0)
        abort();
    add_ring(w, &wire);
    arena_deinit(&arena);
}

/* A JOINING slot on a node that has none of the partition, in the place after the others. */
static void add_joining(struct world *w, struct wire_ring *wire, uint32_t p, uint32_t *member,
                        uint64_t *incarnation, uint32_t *state)
{
    size_t first = (size_t)p * wire->n_slots, at = first + wire->n_slots - 1;
    uint32_t node = (uint32_t)sim_below(w, w->n_nodes);

    for (size_t i = first; i < at; i++)
        if (member[i] == node)
            return;
    member[at] = node;
    state[at] = SLOT_JOINING;
    incarnation[at] = wire->next_incarnation++;
}

/* The next epoch: READY slots stay where they are, some as another incarnation (as if the slot had
 * moved and had taken along all it knew), or some fence versions grow, and some partitions get a
 * joining slot. */
static void next_ring(struct world *w, bool joining)
{
    const struct wire_ring *old = ring_wire(w->rings[w->n_rings - 1]);
    struct wire_ring wire = *old;
    uint32_t fence[SIM_PARTITIONS], member[SIM_PARTITIONS * LIMIT_SLOTS_MAX] = {0};
    uint32_t state[SIM_PARTITIONS * LIMIT_SLOTS_MAX] = {0};
    uint64_t incarnation[SIM_PARTITIONS * LIMIT_SLOTS_MAX] = {0};

    uint32_t renamed = sim_chance(w, 300) ? 300 : 0;

    if (w->n_rings == SIM_RINGS_MAX)
        return;
    wire.epoch++;
    wire.n_slots = w->replicas + (joining || old->n_slots > w->replicas);
    for (uint32_t p = 0; p < SIM_PARTITIONS; p++) {
        for (uint32_t s = 0; s < w->replicas; s++) {
            size_t from = (size_t)p * old->n_slots + s, to = (size_t)p * wire.n_slots + s;

            member[to] = old->slot_member[from];
            state[to] = old->slot_state[from];
            incarnation[to] =
                sim_chance(w, renamed) ? wire.next_incarnation++ : old->slot_incarnation[from];
        }
        fence[p] = old->fence[p] + (renamed ? 0 : (uint32_t)sim_below(w, 2));
        if (joining && sim_chance(w, 500))
            add_joining(w, &wire, p, member, incarnation, state);
    }
    wire.fence = fence;
    wire.slot_member = member;
    wire.slot_state = state;
    wire.slot_incarnation = incarnation;
    add_ring(w, &wire);
}

static void publish(struct world *w, uint64_t delay_us)
{
    for (uint32_t i = 0; i < w->n_nodes; i++)
        sim_push(w, w->now_us + sim_delay(w, delay_us),
                 (struct item){.type = ITEM_PUBLISH, .node = (uint16_t)i, .a = w->n_rings - 1});
}

/* ---- single faults ----------------------------------------------------------------------- */

static struct node *some_node(struct world *w)
{
    return &w->nodes[sim_below(w, w->n_nodes)];
}

static void restart_later(struct world *w, const struct node *n)
{
    sim_push(w, w->now_us + 10 * MS + sim_delay(w, 2 * SECOND),
             (struct item){.type = ITEM_START, .node = (uint16_t)n->index});
}

static void crash(struct world *w, struct node *n)
{
    if (!n->alive)
        return;
    node_crash(w, n);
    restart_later(w, n);
}

static void begin_crash(struct world *w)
{
    if (sim_chance(w, 150)) { /* the power of all goes */
        for (uint32_t i = 0; i < w->n_nodes; i++)
            crash(w, &w->nodes[i]);
        return;
    }
    crash(w, some_node(w));
}

static void begin_stop(struct world *w)
{
    struct node *n = some_node(w);

    if (!n->alive || n->stopping || n->paused_us > w->now_us)
        return;
    node_stop(w, n);
    restart_later(w, n);
}

static void begin_partition(struct world *w, bool one_way)
{
    uint64_t side = sim_below(w, 1u << w->n_nodes);

    for (uint32_t a = 0; a < w->n_nodes; a++)
        for (uint32_t b = 0; b < w->n_nodes; b++)
            if ((side >> a & 1) && !(side >> b & 1)) {
                net_block(w, a, b, true);
                if (!one_way)
                    net_block(w, b, a, true);
            }
}

static void unblock_all(struct world *w)
{
    for (uint32_t a = 0; a < w->n_nodes; a++)
        for (uint32_t b = 0; b < w->n_nodes; b++)
            if (a != b)
                net_block(w, a, b, false);
}

static void begin_pause(struct world *w, uint64_t last_us)
{
    struct node *n = some_node(w);

    if (!n->alive)
        return;
    /* Never shortened: what waits for the end of a pause keeps its order. */
    if (w->now_us + last_us > n->paused_us)
        n->paused_us = w->now_us + last_us;
    n->disturbed_us = n->paused_us;
    for (uint32_t i = 0; i < w->n_nodes; i++)
        if (i != n->index) {
            net_watch(w, i, n->index);
            net_watch(w, n->index, i);
        }
}

static void jump_clock(struct world *w, struct node *n)
{
    n->skew_ms += (int64_t)sim_below(w, 5000) - 2500;
    n->skew_ms = n->skew_ms > 4000 ? 4000 : n->skew_ms < -4000 ? -4000 : n->skew_ms;
    sim_trace(w, "%s: clock off by %lld ms", n->name, (long long)n->skew_ms);
}

static void set_slow(struct world *w, struct node *n, uint64_t slow_us)
{
    n->slow_us = slow_us;
    n->disturbed_us = w->now_us + 2 * slow_us;
}

/* Near its limit a disk has room for one and not for the next: see disk_submit. */
static void set_full(struct node *n, bool full)
{
    n->disk.near_full = full;
    n->disk.full = false;
    store_mem_set_full(n->disk.store, false);
}

/* One link, or all: somebody has restarted the switch. */
static void begin_break(struct world *w, const struct node *n)
{
    uint32_t other = (uint32_t)sim_below(w, w->n_nodes);
    bool all = sim_chance(w, 600);

    for (uint32_t a = 0; a < w->n_nodes; a++)
        for (uint32_t b = 0; b < w->n_nodes; b++)
            if (all || (a == n->index && b == other))
                net_break(w, a, b, 5 * MS);
}

/* One slot of a key at most, where two others can still answer for it. */
static void begin_rot(struct world *w, struct node *n)
{
    uint32_t key = (uint32_t)sim_below(w, w->n_keys);

    if (w->replicas >= 3 && !w->rotten[key] && disk_rot(w, n, key)) {
        w->rotten[key] = true;
        sim_trace(w, "%s: the record of key %u is corrupt", n->name, key);
    }
}

/* Gossip may be wrong about anybody, and workers hear of it at different times. */
static void tell_seen(struct world *w, struct node *n, uint32_t about, enum wire_member_state state)
{
    for (uint32_t i = 0; i < n->n_workers; i++)
        node_tell(w, n, i, sim_delay(w, 50 * MS),
                  (struct item){.type = ITEM_NODE_SEEN, .a = about, .b = state});
}

/* Disks that were bought together fill up together. */
static void begin_full(struct world *w, struct node *n)
{
    bool all = sim_chance(w, 500);

    for (uint32_t i = 0; i < w->n_nodes; i++)
        if (all || i == n->index)
            set_full(&w->nodes[i], true);
}

/* Returns the node that the end concerns. */
static uint32_t begin(struct world *w, enum fault fault)
{
    struct node *n = some_node(w);

    switch (fault) {
    case FAULT_CRASH:
        begin_crash(w);
        break;
    case FAULT_STOP:
        begin_stop(w);
        break;
    case FAULT_LINK:
        begin_break(w, n);
        break;
    case FAULT_PARTITION:
    case FAULT_ONE_WAY:
        begin_partition(w, fault == FAULT_ONE_WAY);
        break;
    case FAULT_LOSS:
        w->loss = 1 + (uint32_t)sim_below(w, 200);
        break;
    case FAULT_DUPLICATE:
        w->duplicate = 1 + (uint32_t)sim_below(w, 300);
        break;
    case FAULT_REORDER:
        w->reorder = 1 + (uint32_t)sim_below(w, 300);
        break;
    case FAULT_SLOW_NODE:
        set_slow(w, n, sim_delay(w, 100 * MS));
        break;
    case FAULT_PAUSE:
        begin_pause(w, sim_delay(w, rhythm[fault].last_us));
        break;
    case FAULT_SLOW_DISK:
        n->disk.sync_us = sim_delay(w, SECOND);
        break;
    case FAULT_SLOW_READ:
        n->disk.read_us = sim_delay(w, 300 * MS);
        break;
    case FAULT_ROT:
        begin_rot(w, n);
        break;
    case FAULT_FULL:
        begin_full(w, n);
        break;
    case FAULT_BAD_CLOCK:
        jump_clock(w, n);
        break;
    case FAULT_RING:
        next_ring(w, sim_chance(w, 500));
        publish(w, SECOND);
        break;
    case FAULT_RUMOUR:
        if (n->alive)
            tell_seen(w, n, (uint32_t)sim_below(w, w->n_nodes),
                      MEMBER_ALIVE + (enum wire_member_state)sim_below(w, MEMBER_STOPPED));
        break;
    default:
        break;
    }
    return n->index;
}

static void end(struct world *w, enum fault fault, struct node *n)
{
    switch (fault) {
    case FAULT_PARTITION:
    case FAULT_ONE_WAY:
        unblock_all(w);
        break;
    case FAULT_LOSS:
        w->loss = 0;
        break;
    case FAULT_DUPLICATE:
        w->duplicate = 0;
        break;
    case FAULT_REORDER:
        w->reorder = 0;
        break;
    case FAULT_SLOW_NODE:
        set_slow(w, n, 0);
        break;
    case FAULT_SLOW_DISK:
        n->disk.sync_us = 0;
        break;
    case FAULT_SLOW_READ:
        n->disk.read_us = 0;
        break;
    case FAULT_FULL:
        for (uint32_t i = 0; i < w->n_nodes; i++)
            set_full(&w->nodes[i], false);
        break;
    default:
        break;
    }
}

void fault_item(struct world *w, struct item *item)
{
    enum fault fault = (enum fault)item->a;
    struct item next = {.type = ITEM_FAULT, .a = fault};
    uint64_t last = rhythm[fault].last_us;

    if (w->healed)
        return;
    if (item->b) {
        end(w, fault, &w->nodes[item->node]);
        return;
    }
    sim_trace(w, "fault: %s", names[fault].text);
    w->stats.faults[fault]++;
    next.node = (uint16_t)begin(w, fault);
    sim_push(w, w->now_us + 100 * MS + sim_below(w, 2 * rhythm[fault].pause_us), next);
    next.b = 1;
    if (last)
        sim_push(w, w->now_us + 10 * MS + sim_below(w, last), next);
}

/* ---- the beginning and the end ----------------------------------------------------------- */

static void draw_clocks(struct world *w)
{
    int64_t most = w->enabled[FAULT_SKEW] ? 200 : 5;

    w->stats.faults[FAULT_SKEW] += w->enabled[FAULT_SKEW];
    for (uint32_t i = 0; i < w->n_nodes; i++) {
        w->nodes[i].skew_ms = (int64_t)sim_below(w, (uint64_t)(2 * most + 1)) - most;
        w->nodes[i].drift_ppm = w->enabled[FAULT_SKEW] ? (int32_t)sim_below(w, 2000) - 1000 : 0;
    }
}

void fault_init(struct world *w)
{
    uint64_t share = 100 + sim_below(w, 600); /* calm runs and wild ones */

    for (uint32_t f = 0; f < N_FAULTS; f++) {
        w->enabled[f] = sim_chance(w, (uint32_t)share);
        if (w->enabled[f] && rhythm[f].pause_us)
            sim_push(w, SECOND + sim_below(w, 2 * rhythm[f].pause_us),
                     (struct item){.type = ITEM_FAULT, .a = f});
    }
    w->stats.faults[FAULT_TIGHT] += w->enabled[FAULT_TIGHT];
    draw_clocks(w);
}

void fault_heal(struct world *w)
{
    w->healed = true;
    w->loss = w->duplicate = w->reorder = 0;
    unblock_all(w);
    for (uint32_t i = 0; i < w->n_nodes; i++) {
        struct node *n = &w->nodes[i];

        set_slow(w, n, 0);
        set_full(n, false);
        n->disturbed_us = n->paused_us > w->now_us ? n->paused_us : w->now_us;
        n->disk.sync_us = n->disk.read_us = 0;
        n->skew_ms = (int64_t)sim_below(w, 200) - 100;
        n->drift_ppm = 0;
        if (n->alive && w->enabled[FAULT_TIGHT])
            crash(w, n); /* comes back with room for all */
        else if (!n->alive)
            restart_later(w, n);
        for (uint32_t k = 0; n->alive && k < w->n_nodes; k++)
            tell_seen(w, n, k, MEMBER_ALIVE);
    }
    if (w->n_rings > 1 && w->n_rings < SIM_RINGS_MAX)
        next_ring(w, false);
    publish(w, SECOND);
}
