/* gossip: clusters of server/core/membership in virtual time: how soon does everybody know, what
 * does it cost, and who is wrongly taken for dead?
 *
 *   gossip --nodes 100 [--seed N]                the table's line for that size
 *   gossip --nodes 100 --minutes 60 [--seed N]   false deaths only, for so long
 *   gossip --nodes 100 --rings 15 [--seed N]     that many new rings only
 *   gossip --check [--seed N]                    small clusters, against the goals; exit 1
 *
 * One heap of events, one generator: the seed is the run. Messages cross packed by proto/wire. They
 * take 0.1 to 1.1 ms; some are lost where a line says so (which TCP would not do to them: it would
 * delay them). A slow node handles what reaches it 150 to 450 ms late and its own timers as well. A
 * node that is killed resets its links, so that everybody who had one hears of it at once; one
 * whose machine is gone is silent.
 *
 * What is measured:
 *   death, join   from the event until the last of the others knows; median and worst of the rounds
 *   ring          from when one node has a newer ring until all serve it; each asks for it, is told
 *                 it whole, and syncs it (1 to 11 ms) before it serves it
 *   messages      sent by a node in a second of a quiet cluster; bytes likewise, frames included
 *   false         how often somebody took a living node for down, in so many simulated minutes
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/prng.h"
#include "server/core/membership.h"
#include "tests/sim/heap.h"

#define NODES_MAX 1024u
#define ROUNDS 15u
#define ROUNDS_LARGE 5u
#define LARGE 300u
#define SETTLE_MS 20000u
#define GIVE_UP_MS 60000u
#define NONE UINT32_MAX

/* a: the other node. b: MESSAGE, LINK_DOWN: its life then; TICK: its number, only the last one
 * asked for counts. generation: the life of the node, what was meant for another process is
 * dropped. */
enum item_type {
    ITEM_TICK = 1,
    ITEM_MESSAGE,
    ITEM_LINK_DOWN,
    ITEM_SYNCED
};

struct sim_node {
    struct world *world;
    uint32_t index;
    struct membership *m;
    uint64_t boot;
    uint32_t life;    /* grows with each start and end */
    uint64_t tick_us; /* the earliest tick in the heap */
    uint32_t tick;
    struct ring *ring, *taken; /* served; being synced */
    uint8_t *linked; /* [NODES_MAX]: the boot of the other that it knows a link with, or 0 */
    bool alive, slow;
};

struct world {
    uint32_t n;
    struct sim_node nodes[NODES_MAX];
    struct heap heap;
    uint64_t now_us;
    struct prng prng;
    uint32_t lost_percent;
    uint64_t n_messages, n_bytes, n_false;
    uint32_t false_about_slow;
    struct arena arena, ring_arena;
    struct wire_ring wire; /* the ring of every epoch, but for the epoch */
    struct ring *newest;
    uint64_t n_rings; /* told */
};

/* ---- nodes --------------------------------------------------------------------------------- */

static struct wire_id id_of(uint32_t index)
{
    struct wire_id id = {{'n', (uint8_t)(index >> 8), (uint8_t)index}};

    return id;
}

static uint32_t index_of(const struct wire_id *id)
{
    return (uint32_t)id->b[1] << 8 | id->b[2];
}

/* Handle 0 is the node itself. */
static uint32_t handle_of(uint32_t self, uint32_t index)
{
    return index == self ? 0 : index < self ? index + 1 : index;
}

static uint32_t index_of_handle(uint32_t self, uint32_t handle)
{
    return handle == 0 ? self : handle <= self ? handle - 1 : handle;
}

static uint32_t intern(void *ctx, const struct wire_id *id)
{
    const struct sim_node *n = ctx;

    return handle_of(n->index, index_of(id));
}

static uint64_t delay_us(struct world *w, uint64_t least, uint64_t most)
{
    return least + prng_below(&w->prng, most - least);
}

static uint64_t slowness_us(struct world *w, const struct sim_node *n)
{
    return n->slow ? delay_us(w, 150000, 450000) : 0;
}

static void send(struct world *w, const struct sim_node *from, uint32_t handle,
                 struct wire_peer *msg)
{
    struct sim_node *to = &w->nodes[index_of_handle(from->index, handle)];
    struct buf bytes;

    w->n_messages++;
    msg->ring_epoch = ring_epoch(from->ring);
    buf_init(&bytes);
    if (wire_peer_pack(msg, &bytes) < 0)
        abort();
    w->n_bytes += bytes.len;
    if (to->alive && prng_below(&w->prng, 100) >= w->lost_percent) {
        struct slice body =
            slice_of(bytes.data + LIMIT_FRAME_HEADER_BYTES, bytes.len - LIMIT_FRAME_HEADER_BYTES);

        heap_push(&w->heap,
                  (struct item){.at_us = w->now_us + delay_us(w, 100, 1100) + slowness_us(w, to),
                                .type = ITEM_MESSAGE,
                                .node = (uint16_t)to->index,
                                .generation = to->life,
                                .a = from->index,
                                .b = from->life,
                                .bytes = blob_copy(body)});
    }
    buf_deinit(&bytes);
}

static void look_at_change(struct world *w, struct sim_node *n, uint32_t handle)
{
    const struct sim_node *about = &w->nodes[index_of_handle(n->index, handle)];
    struct membership_view view;

    if (!membership_view(n->m, handle, &view) || view.state != MEMBER_DOWN || !about->alive ||
        view.boot != about->boot)
        return;
    w->n_false++;
    w->false_about_slow += about->slow;
}

static void send_gossip(struct world *w, const struct sim_node *n,
                        const struct membership_effect *e)
{
    struct wire_peer msg = {.type = PEER_GOSSIP, .u.gossip = &e->gossip};

    send(w, n, e->node, &msg);
}

static void ask_for_ring(struct world *w, const struct sim_node *n, uint32_t handle)
{
    struct wire_peer msg = {.type = PEER_RING_ASK};

    send(w, n, handle, &msg);
}

static void tell_ring(struct world *w, const struct sim_node *n, const struct membership_effect *e)
{
    struct wire_peer msg = {.type = PEER_RING_REPLY, .error = e->error};

    msg.u.ring_reply = e->error ? NULL : ring_wire(n->ring);
    w->n_rings += !e->error;
    send(w, n, e->node, &msg);
}

static void take_ring(struct world *w, struct sim_node *n, const struct wire_ring *ring)
{
    if (ring_new(ring, NULL, NULL, &n->taken) < 0)
        abort();
    heap_push(&w->heap, (struct item){.at_us = w->now_us + delay_us(w, 1000, 11000),
                                      .type = ITEM_SYNCED,
                                      .node = (uint16_t)n->index,
                                      .generation = n->life});
}

/* told: the ring of the event, if it brings one. */
static void carry_out(struct world *w, struct sim_node *n, const struct membership_effect *e,
                      const struct wire_ring *told)
{
    switch (e->type) {
    case MEMBERSHIP_SEND:
        send_gossip(w, n, e);
        break;
    case MEMBERSHIP_CHANGED:
        look_at_change(w, n, e->node);
        break;
    case MEMBERSHIP_RING_ASK:
        ask_for_ring(w, n, e->node);
        break;
    case MEMBERSHIP_RING_TELL:
        tell_ring(w, n, e);
        break;
    case MEMBERSHIP_RING_TAKE:
        take_ring(w, n, told);
        break;
    case MEMBERSHIP_RING_REFUSED:
        printf("FAILED: a ring is refused: %s\n", e->why);
        exit(1);
    case MEMBERSHIP_OUTDATED:
    case MEMBERSHIP_CLOCK:
        break;
    }
}

static void feed(struct world *w, struct sim_node *n, struct membership_event *event)
{
    const struct wire_ring *told =
        event->type == MEMBERSHIP_RING_REPLY ? event->u.reply.ring : NULL;
    static struct membership_effects effects;
    int r;

    event->now_ms = w->now_us / 1000;
    do {
        r = membership_step(n->m, event, &effects);
        for (uint32_t i = 0; i < effects.n; i++)
            carry_out(w, n, &effects.list[i], told);
        event->type = MEMBERSHIP_MORE;
    } while (r == STEP_MORE);
    uint64_t due_us = membership_deadline_ms(n->m) * 1000;
    due_us = due_us > w->now_us ? due_us : w->now_us + 1000;
    if (due_us < n->tick_us) {
        n->tick_us = due_us;
        n->tick++;
        heap_push(&w->heap, (struct item){.at_us = due_us + slowness_us(w, n),
                                          .type = ITEM_TICK,
                                          .node = (uint16_t)n->index,
                                          .generation = n->life,
                                          .b = n->tick});
    }
}

static void link_up(struct world *w, struct sim_node *n, const struct sim_node *other)
{
    struct membership_event event = {.type = MEMBERSHIP_LINK_UP,
                                     .u.link = {.node = handle_of(n->index, other->index),
                                                .id = id_of(other->index),
                                                .boot = other->boot,
                                                .ring_epoch = ring_epoch(other->ring)}};

    n->linked[other->index] = (uint8_t)other->boot;
    feed(w, n, &event);
}

/* From now on; takes the reference over. */
static void serve(struct world *w, struct sim_node *n, struct ring *ring)
{
    struct membership_event event = {.type = MEMBERSHIP_RING, .u.ring = ring};

    if (ring != n->ring)
        ring_unref(n->ring);
    n->ring = ring;
    feed(w, n, &event);
}

static void start(struct world *w, uint32_t index, const struct wire_member *members,
                  size_t n_known)
{
    struct sim_node *n = &w->nodes[index];
    struct membership_event expect = {.type = MEMBERSHIP_EXPECT,
                                      .u.expect = {.members = members, .n = n_known}};
    struct membership_config config = {
        .profile = {.member = {.id = id_of(index),
                               .name = slice_str("node-12"),
                               .client_address = slice_str("10.20.30.40:7400"),
                               .peer_address = slice_str("10.20.30.40:7401"),
                               .zone = slice_str("zone-a")},
                    .software = slice_str("quoitd 0.1.0")},
        .boot = ++n->boot,
        .seed = prng_next(&w->prng),
        .now_ms = w->now_us / 1000,
        .intern = intern,
        .ctx = n,
    };

    n->world = w;
    n->index = index;
    n->alive = true;
    n->life++;
    n->tick_us = UINT64_MAX;
    memset(n->linked, 0, NODES_MAX);
    n->m = membership_new(&config);
    if (!n->m)
        abort();
    if (!n->ring)
        n->ring = ring_ref(w->newest);
    feed(w, n, &expect);
    serve(w, n, n->ring);
}

/* reset: its machine lives and says that nobody listens there any more. */
static void end(struct world *w, uint32_t index, bool reset)
{
    struct sim_node *n = &w->nodes[index];

    for (uint32_t i = 0; reset && i < w->n; i++)
        if (w->nodes[i].alive && w->nodes[i].linked[index])
            heap_push(&w->heap, (struct item){.at_us = w->now_us + delay_us(w, 100, 1100),
                                              .type = ITEM_LINK_DOWN,
                                              .node = (uint16_t)i,
                                              .generation = w->nodes[i].life,
                                              .a = index,
                                              .b = n->life});
    membership_free(n->m);
    n->m = NULL;
    ring_unref(n->taken);
    n->taken = NULL;
    n->alive = false;
    n->life++;
}

/* ---- the run ------------------------------------------------------------------------------- */

static void deliver(struct world *w, struct sim_node *n, const struct item *item)
{
    const struct sim_node *from = &w->nodes[item->a];
    uint32_t handle = handle_of(n->index, (uint32_t)item->a);
    struct membership_event event;
    struct wire_peer msg;

    if (from->life == item->b && n->linked[from->index] != (uint8_t)from->boot)
        link_up(w, n, from);
    arena_reset(&w->arena, WIRE_ARENA_BUDGET(item->bytes->len));
    if (wire_peer_unpack(blob_slice(item->bytes), &w->arena, &msg) < 0)
        abort();
    if (msg.type == PEER_GOSSIP)
        event = (struct membership_event){
            .type = MEMBERSHIP_MESSAGE,
            .u.message = {.node = handle, .gossip = msg.u.gossip, .ring_epoch = msg.ring_epoch}};
    else if (msg.type == PEER_RING_ASK)
        event = (struct membership_event){.type = MEMBERSHIP_RING_ASKED,
                                          .u.asked = {handle, msg.ring_epoch}};
    else if (msg.type == PEER_RING_REPLY)
        event = (struct membership_event){.type = MEMBERSHIP_RING_REPLY,
                                          .u.reply = {handle, msg.u.ring_reply}};
    else
        abort();
    feed(w, n, &event);
}

static void handle(struct world *w, const struct item *item)
{
    struct sim_node *n = &w->nodes[item->node];
    struct membership_event event = {.type = MEMBERSHIP_TICK};

    if (!n->alive || n->life != item->generation)
        return;
    switch ((enum item_type)item->type) {
    case ITEM_TICK:
        if (item->b != n->tick)
            break;
        n->tick_us = UINT64_MAX;
        feed(w, n, &event);
        break;
    case ITEM_MESSAGE:
        deliver(w, n, item);
        break;
    case ITEM_LINK_DOWN:
        n->linked[item->a] = 0;
        event.type = MEMBERSHIP_LINK_DOWN;
        event.u.link.node = handle_of(n->index, (uint32_t)item->a);
        feed(w, n, &event);
        break;
    case ITEM_SYNCED:
        serve(w, n, n->taken);
        n->taken = NULL;
        break;
    }
}

typedef bool until_fn(const struct world *w, uint32_t about);

/* Returns after how many ms `until` held, or GIVE_UP_MS. Looked at every 10 ms. */
static uint64_t run(struct world *w, uint64_t ms, until_fn *until, uint32_t about)
{
    uint64_t began_us = w->now_us, end_us = began_us + ms * 1000, look_us = began_us;

    while (w->heap.n > 0 && w->heap.items[0].at_us <= end_us) {
        struct item item = heap_pop(&w->heap);

        w->now_us = item.at_us;
        handle(w, &item);
        blob_unref(item.bytes);
        if (until && w->now_us >= look_us) {
            if (until(w, about))
                return (w->now_us - began_us) / 1000;
            look_us = w->now_us + 10000;
        }
    }
    w->now_us = end_us;
    return GIVE_UP_MS;
}

static bool all_see(const struct world *w, uint32_t about, enum wire_member_state state)
{
    for (uint32_t i = 0; i < w->n; i++) {
        struct membership_view view;

        if (i == about || !w->nodes[i].alive)
            continue;
        if (!membership_view(w->nodes[i].m, handle_of(i, about), &view) || view.state != state ||
            view.boot != w->nodes[about].boot)
            return false;
    }
    return true;
}

static bool all_see_it_down(const struct world *w, uint32_t about)
{
    return all_see(w, about, MEMBER_DOWN);
}

static bool all_see_it_alive(const struct world *w, uint32_t about)
{
    return all_see(w, about, MEMBER_ALIVE);
}

static bool all_serve_the_newest(const struct world *w, uint32_t unused)
{
    for (uint32_t i = 0; i < w->n; i++)
        if (w->nodes[i].alive && ring_epoch(w->nodes[i].ring) < ring_epoch(w->newest))
            return false;
    return true;
}

static void settle(struct world *w)
{
    for (uint32_t i = 0; i < w->n; i++)
        if (w->nodes[i].alive && run(w, GIVE_UP_MS, all_see_it_alive, i) == GIVE_UP_MS) {
            printf("FAILED: the cluster does not come to know node %u\n", i);
            exit(1);
        }
    run(w, SETTLE_MS, NULL, 0);
}

/* A ring of the next epoch; the first is that of a cluster that has just been formed. */
static void decide_ring(struct world *w)
{
    ring_unref(w->newest);
    if (ring_new(&w->wire, NULL, NULL, &w->newest) < 0)
        abort();
    w->wire.epoch++;
}

static void form_ring(struct world *w, const struct wire_member *members)
{
    struct ring_form_input in = {
        .members = members, .n_members = w->n, .replicas = 3, .cluster_id = {{1}}};

    arena_init(&w->ring_arena, WIRE_ARENA_BUDGET_RING);
    if (ring_form(&in, &w->ring_arena, &w->wire) < 0)
        abort();
    decide_ring(w);
}

static struct world *world_new(uint32_t n, uint64_t seed)
{
    struct world *w = calloc(1, sizeof(*w));
    struct wire_member *members = calloc(n, sizeof(*members));
    static char names[NODES_MAX][8];

    if (!w || !members)
        abort();
    w->n = n;
    w->now_us = 1000000;
    prng_init(&w->prng, seed);
    arena_init(&w->arena, WIRE_ARENA_BUDGET(0));
    for (uint32_t i = 0; i < n; i++) {
        snprintf(names[i], sizeof(names[i]), "n%u", i);
        members[i] = (struct wire_member){.id = id_of(i),
                                          .name = slice_str(names[i]),
                                          .client_address = slice_str("10.20.30.40:7400"),
                                          .peer_address = slice_str("10.20.30.40:7401"),
                                          .weight = 1};
        w->nodes[i].linked = calloc(NODES_MAX, 1);
        if (!w->nodes[i].linked)
            abort();
    }
    form_ring(w, members);
    for (uint32_t i = 0; i < n; i++)
        start(w, i, members, n);
    free(members);
    settle(w);
    return w;
}

static void world_free(struct world *w)
{
    for (uint32_t i = 0; i < w->n; i++) {
        membership_free(w->nodes[i].m);
        ring_unref(w->nodes[i].ring);
        ring_unref(w->nodes[i].taken);
        free(w->nodes[i].linked);
    }
    for (size_t i = 0; i < w->heap.n; i++)
        blob_unref(w->heap.items[i].bytes);
    ring_unref(w->newest);
    arena_deinit(&w->ring_arena);
    arena_deinit(&w->arena);
    free(w->heap.items);
    free(w);
}

/* ---- what is measured ---------------------------------------------------------------------- */

struct times {
    uint64_t ms[ROUNDS];
    uint32_t n;
};

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static uint64_t median(struct times *t)
{
    qsort(t->ms, t->n, sizeof(t->ms[0]), compare);
    return t->ms[t->n / 2];
}

static uint64_t worst(const struct times *t)
{
    uint64_t most = 0;

    for (uint32_t i = 0; i < t->n; i++)
        most = t->ms[i] > most ? t->ms[i] : most;
    return most;
}

/* A member comes back knowing the ring, as it does after a restart. */
static void restart(struct world *w, uint32_t index)
{
    struct wire_member *members = calloc(w->n, sizeof(*members));

    if (!members)
        abort();
    for (uint32_t i = 0; i < w->n; i++)
        members[i].id = id_of(i);
    start(w, index, members, w->n);
    free(members);
}

static void measure_deaths(struct world *w, bool reset, struct times *deaths, struct times *joins)
{
    uint32_t rounds = w->n >= LARGE ? ROUNDS_LARGE : ROUNDS;

    for (uint32_t i = 0; i < rounds; i++) {
        uint32_t victim = (uint32_t)prng_below(&w->prng, w->n);

        end(w, victim, reset);
        deaths->ms[deaths->n++] = run(w, GIVE_UP_MS, all_see_it_down, victim);
        run(w, SETTLE_MS, NULL, 0);
        restart(w, victim);
        joins->ms[joins->n++] = run(w, GIVE_UP_MS, all_see_it_alive, victim);
        run(w, SETTLE_MS, NULL, 0);
    }
}

/* One node has it, by whatever decides about rings. */
static void measure_rings(struct world *w, uint32_t rounds, struct times *rings, double *ret_told)
{
    w->n_rings = 0;
    for (uint32_t i = 0; i < rounds; i++) {
        decide_ring(w);
        serve(w, &w->nodes[prng_below(&w->prng, w->n)], ring_ref(w->newest));
        rings->ms[rings->n++] = run(w, GIVE_UP_MS, all_serve_the_newest, 0);
        run(w, SETTLE_MS, NULL, 0);
    }
    *ret_told = (double)w->n_rings / (w->n - 1) / rounds;
}

static void measure_cost(struct world *w, double *ret_messages, double *ret_bytes)
{
    const uint64_t seconds = 60;

    w->n_messages = w->n_bytes = 0;
    run(w, seconds * 1000, NULL, 0);
    *ret_messages = (double)w->n_messages / (double)w->n / (double)seconds;
    *ret_bytes = (double)w->n_bytes / (double)w->n / (double)seconds;
}

struct line {
    struct times silent, killed, join, ring;
    double messages, bytes, told;
    uint64_t false_lost, false_slow, about_slow;
};

static void measure_false(struct world *w, uint64_t minutes, struct line *line)
{
    w->n_false = w->false_about_slow = 0;
    w->lost_percent = 5;
    run(w, minutes * 60000, NULL, 0);
    line->false_lost = w->n_false;
    w->lost_percent = 0;
    run(w, SETTLE_MS, NULL, 0);
    w->n_false = w->false_about_slow = 0;
    w->nodes[0].slow = true;
    run(w, minutes * 60000, NULL, 0);
    line->about_slow = w->false_about_slow;
    line->false_slow = w->n_false - w->false_about_slow;
    w->nodes[0].slow = false;
    run(w, SETTLE_MS, NULL, 0);
}

static void print_line(uint32_t n, struct line *l, uint64_t minutes)
{
    printf("| %u | %.2f / %.2f s | %.2f / %.2f s | %.2f / %.2f s | %.2f / %.2f s, %.2f | %.1f | "
           "%.1f KB | %llu in %llu min | %llu, of the slow one %llu |\n",
           n, (double)median(&l->silent) / 1e3, (double)worst(&l->silent) / 1e3,
           (double)median(&l->killed) / 1e3, (double)worst(&l->killed) / 1e3,
           (double)median(&l->join) / 1e3, (double)worst(&l->join) / 1e3,
           (double)median(&l->ring) / 1e3, (double)worst(&l->ring) / 1e3, l->told, l->messages,
           l->bytes / 1e3, (unsigned long long)l->false_lost, (unsigned long long)minutes,
           (unsigned long long)l->false_slow, (unsigned long long)l->about_slow);
    fflush(stdout);
}

static void measure(uint32_t n, uint64_t seed, uint64_t minutes, struct line *ret)
{
    struct times more_joins = {0};
    struct world *w = world_new(n, seed);

    *ret = (struct line){0};
    measure_cost(w, &ret->messages, &ret->bytes);
    measure_deaths(w, false, &ret->silent, &ret->join);
    measure_deaths(w, true, &ret->killed, &more_joins);
    measure_rings(w, n >= LARGE ? ROUNDS_LARGE : ROUNDS, &ret->ring, &ret->told);
    measure_false(w, minutes, ret);
    world_free(w);
}

/* The goals, where they can be had in seconds. */
static int check(uint64_t seed)
{
    static const uint32_t sizes[] = {3, 30, 100};
    int status = 0;

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct line l;

        if (sizes[i] >= 100 && getenv("QUOIT_TEST_QUICK"))
            continue;
        measure(sizes[i], seed, 3, &l);
        print_line(sizes[i], &l, 3);
        if (worst(&l.silent) > 2000 || worst(&l.killed) > 2000 || worst(&l.join) > 2000 ||
            worst(&l.ring) > 2000 || l.told > 1.5 || l.messages > 25 || l.false_lost > 0 ||
            l.false_slow > 0) {
            printf("FAILED: a goal is missed at %u nodes, seed %llu\n", sizes[i],
                   (unsigned long long)seed);
            status = 1;
        }
    }
    return status;
}

int main(int argc, char **argv)
{
    uint64_t seed = 1, minutes = 0;
    uint32_t nodes = 0, rings = 0;
    struct line line = {0};

    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 1; i + 1 < argc; i++) {
        if (strcmp(argv[i], "--nodes") == 0)
            nodes = (uint32_t)strtoul(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--rings") == 0)
            rings = (uint32_t)strtoul(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--seed") == 0)
            seed = strtoull(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--minutes") == 0)
            minutes = strtoull(argv[i + 1], NULL, 10);
    }
    if (argc > 1 && strcmp(argv[1], "--check") == 0)
        return check(seed);
    if (nodes < 2 || nodes > NODES_MAX - 1 || rings > ROUNDS) {
        fprintf(stderr,
                "usage: gossip --nodes 2..%u [--minutes M | --rings 1..%u] [--seed N] | --check\n",
                NODES_MAX - 1, ROUNDS);
        return 2;
    }
    if (rings) {
        struct world *w = world_new(nodes, seed);

        measure_rings(w, rings, &line.ring, &line.told);
        world_free(w);
        printf("%u nodes: a new ring is served by all after %.2f / %.2f s, told %.2f times each\n",
               nodes, (double)median(&line.ring) / 1e3, (double)worst(&line.ring) / 1e3, line.told);
        return worst(&line.ring) >= GIVE_UP_MS;
    }
    if (minutes) {
        struct world *w = world_new(nodes, seed);

        measure_false(w, minutes, &line);
        world_free(w);
        printf("%u nodes, %llu min each: %llu false deaths with 5 %% of messages lost; with a slow "
               "node %llu, and %llu of itself\n",
               nodes, (unsigned long long)minutes, (unsigned long long)line.false_lost,
               (unsigned long long)line.false_slow, (unsigned long long)line.about_slow);
        return line.false_lost > 0 || line.false_slow > 0;
    }
    measure(nodes, seed, 10, &line);
    print_line(nodes, &line, 10);
    return 0;
}
