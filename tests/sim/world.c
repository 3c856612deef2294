/* world: time, dispatch, and the course of a run.
 *
 *   faults for some seconds, clients at work         nothing that must hold may break
 *   heal, settle
 *   clients at work, every request must succeed
 *   each key read through each node, at quorum and all
 *   silence                                          nothing is in flight any more
 */
#include "tests/sim/sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- small helpers ----------------------------------------------------------------------- */

uint64_t sim_below(struct world *w, uint64_t n)
{
    return prng_below(&w->prng, n);
}

bool sim_chance(struct world *w, uint32_t per_mille)
{
    return per_mille > 0 && prng_below(&w->prng, 1000) < per_mille;
}

/* Half below an eighth of most, some near most. */
uint64_t sim_delay(struct world *w, uint64_t most)
{
    uint64_t a = sim_below(w, 1024), b = sim_below(w, 1024), c = sim_below(w, 1024);

    return most * (a * b / 1024 * c / 1024) / 1024;
}

void sim_fail(struct world *w, const char *format, ...)
{
    va_list args;

    if (w->failed)
        return;
    w->failed = true;
    va_start(args, format);
    vsnprintf(w->why, sizeof(w->why), format, args);
    va_end(args);
    sim_trace(w, "FAILED: %s", w->why);
}

void sim_trace(struct world *w, const char *format, ...)
{
    va_list args;

    if (!w->options.trace)
        return;
    printf("%10.6f ", (double)w->now_us / 1e6);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
}

static bool of_process(enum item_type type)
{
    return type <= ITEM_STOPPED;
}

void sim_push(struct world *w, uint64_t at_us, struct item item)
{
    item.at_us = at_us;
    if (of_process(item.type))
        item.generation = w->nodes[item.node].generation;
    heap_push(&w->heap, item);
}

/* ---- dispatch ---------------------------------------------------------------------------- */

static void mix(struct world *w, uint64_t v)
{
    w->hash = (w->hash ^ v) * 0x9e3779b97f4a7c15u;
    w->hash ^= w->hash >> 29;
}

static void hash_item(struct world *w, const struct item *item)
{
    mix(w, item->at_us);
    mix(w, (uint64_t)item->type << 32 | (uint64_t)item->node << 16 | item->worker);
    mix(w, item->a);
    mix(w, item->b);
    for (size_t i = 0; item->bytes && i < item->bytes->len; i += 8) {
        uint64_t v = 0;
        size_t left = item->bytes->len - i;

        memcpy(&v, item->bytes->data + i, left < 8 ? left : 8);
        mix(w, v);
    }
}

static void start_node(struct world *w, struct item *item)
{
    struct node *n = &w->nodes[item->node];

    if (!n->alive)
        node_start(w, n);
    else if (n->stopping)
        sim_push(w, w->now_us + 50 * MS, *item);
}

static void dispatch_world(struct world *w, struct item *item)
{
    switch ((enum item_type)item->type) {
    case ITEM_START:
        start_node(w, item);
        return;
    case ITEM_CONNECT:
        net_connect(w, item->node, (uint32_t)item->a);
        return;
    case ITEM_TIMEOUT:
        net_timeout(w, item->node, (uint32_t)item->a, item->b);
        return;
    case ITEM_ANSWER:
        client_answer(w, item);
        return;
    case ITEM_CLOSED:
        client_closed(w, item->a);
        return;
    case ITEM_LATE:
        client_late(w, item->a);
        return;
    case ITEM_CLIENT:
        client_act(w, (uint32_t)item->a);
        return;
    case ITEM_PUBLISH:
        node_publish(w, &w->nodes[item->node], (uint32_t)item->a);
        return;
    case ITEM_FAULT:
        fault_item(w, item);
        return;
    default:
        sim_fail(w, "item %d is nobody's", item->type);
        return;
    }
}

static void dispatch(struct world *w, struct item *item)
{
    struct node *n = &w->nodes[item->node];

    if (!of_process(item->type)) {
        dispatch_world(w, item);
        return;
    }
    if (!n->alive || n->generation != item->generation)
        return;
    if (n->paused_us > w->now_us) {
        item->at_us = n->paused_us;
        heap_push(&w->heap, *item);
        item->bytes = NULL;
        item->read = NULL;
        return;
    }
    node_item(w, n, item);
}

static void run_until(struct world *w, uint64_t until_us)
{
    while (!w->failed && w->heap.n > 0 && w->heap.items[0].at_us <= until_us) {
        struct item item = heap_pop(&w->heap);

        w->now_us = item.at_us;
        w->stats.n_items++;
        hash_item(w, &item);
        dispatch(w, &item);
        item_free(&item);
    }
    w->now_us = w->failed ? w->now_us : until_us;
}

/* ---- the run ----------------------------------------------------------------------------- */

static void build(struct world *w)
{
    w->n_nodes = w->options.n_nodes ? w->options.n_nodes : 1 + (uint32_t)sim_below(w, 6);
    w->replicas = sim_chance(w, 600) ? 3 : 1 + (uint32_t)sim_below(w, 5);
    w->replicas = w->replicas < w->n_nodes ? w->replicas : w->n_nodes;
    w->n_clients = 1 + (uint32_t)sim_below(w, SIM_CLIENTS_MAX);
    w->sync_us = sim_chance(w, 700) ? 2 * MS : 60 * MS;
    w->n_keys = 1 + (uint32_t)sim_below(w, SIM_KEYS_MAX);
    w->compare_ms = sim_chance(w, 250) ? 500 + (uint32_t)sim_below(w, 2000) : 0;
    if (w->options.purge && w->compare_ms % 2 == 0)
        w->compare_ms = 1501; /* much less, and all are always about to compare */
    w->purge_age_ms = w->compare_ms % 2 ? 100 + w->compare_ms / 4 : 0;
    w->storm = sim_chance(w, 120);
    if (w->storm) { /* short, and all at once on one key */
        w->n_keys = 1;
        w->n_clients = SIM_CLIENTS_MAX;
    }
    for (uint32_t i = 0; i < w->n_nodes; i++)
        node_init(w, i);
    fault_first_ring(w);
    fault_init(w);
    net_init(w);
    for (uint32_t i = 0; i < w->n_nodes; i++)
        sim_push(w, sim_below(w, 500 * MS), (struct item){.type = ITEM_START, .node = (uint16_t)i});
    client_init(w);
}

/* Reads every key through every node. */
static void read_all(struct world *w)
{
    for (uint32_t key = 0; key < w->n_keys; key++)
        for (uint32_t node = 0; node < w->n_nodes; node++)
            for (int all = 0; all < 2; all++)
                client_call(w, 0,
                            (struct call){.op = OP_GET,
                                          .level = all ? LEVEL_ALL : LEVEL_QUORUM,
                                          .node = node,
                                          .key = key,
                                          .deadline_us = 3 * SECOND,
                                          .must_succeed = !all || !w->rotten[key]});
}

static void set_clients(struct world *w, bool active)
{
    for (uint32_t i = 0; i < w->n_clients; i++) {
        w->clients[i].active = active;
        if (active)
            sim_push(w, w->now_us, (struct item){.type = ITEM_CLIENT, .a = i});
    }
}

static bool is_idle(const struct world *w)
{
    for (uint32_t i = 0; i < w->n_nodes; i++)
        for (uint32_t k = 0; w->nodes[i].alive && k < w->nodes[i].n_workers; k++)
            if (!worker_idle(w->nodes[i].workers[k]))
                return false;
    return true;
}

static void run(struct world *w)
{
    run_until(w, w->storm ? 5 * SECOND : 6 * SECOND + sim_below(w, 12 * SECOND));
    sim_trace(w, "healing");
    if (w->compare_ms) /* what requests repair shows nothing */
        set_clients(w, false);
    fault_heal(w);
    run_until(w, w->now_us + (w->enabled[FAULT_BAD_CLOCK] ? 9 : 5) * SECOND);
    if (w->compare_ms) {
        run_until(w, w->now_us + 12 * SECOND);
        check_converged(w);
        set_clients(w, true);
    }
    sim_trace(w, "now everything must succeed");
    w->demanding = true;
    run_until(w, w->now_us + 2 * SECOND);
    set_clients(w, false);
    run_until(w, w->now_us + 4 * SECOND);
    read_all(w);
    run_until(w, w->now_us + 4 * SECOND);
    for (int i = 0; i < 1000 && !w->failed && !is_idle(w); i++) /* replicas go on comparing */
        run_until(w, w->now_us + MS);
    if (!w->failed)
        check_idle(w);
}

void item_free(struct item *item)
{
    blob_unref(item->bytes);
    read_free(item->read);
    item->bytes = NULL;
    item->read = NULL;
}

static void demolish(struct world *w)
{
    for (size_t i = 0; i < w->heap.n; i++)
        item_free(&w->heap.items[i]);
    free(w->heap.items);
    net_deinit(w);
    for (uint32_t i = 0; i < w->n_nodes; i++)
        node_deinit(w, &w->nodes[i]);
    for (uint32_t i = 0; i < w->n_rings; i++)
        ring_unref(w->rings[i]);
    free(w->history.calls);
    free(w->history.written);
    arena_deinit(&w->arena);
    buf_deinit(&w->scratch);
    free(w);
}

bool sim_run(const struct sim_options *options, struct stats *stats, uint64_t *ret_hash,
             uint64_t *ret_us, char why[512])
{
    struct world *w = calloc(1, sizeof(*w));
    bool ok;

    if (!w)
        abort();
    w->options = *options;
    prng_init(&w->prng, options->seed);
    arena_init(&w->arena, 0);
    buf_init(&w->scratch);
    build(w);
    run(w);
    ok = !w->failed;
    memcpy(why, w->why, sizeof(w->why));
    *ret_hash = w->hash;
    *ret_us = w->now_us;
    stats->n_items += w->stats.n_items;
    stats->n_messages += w->stats.n_messages;
    stats->n_requests += w->stats.n_requests;
    for (uint32_t i = 0; i < N_FAULTS; i++)
        stats->faults[i] += w->stats.faults[i] > 0;
    for (uint32_t i = 0; i < N_COVERS; i++)
        stats->covers[i] += w->stats.covers[i];
    demolish(w);
    return ok;
}
