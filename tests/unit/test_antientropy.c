/* test_antientropy: replicas that compare what they hold, as a small cluster of real workers.
 *
 * Three workers over store_mem, messages carried at once and in order (packed and unpacked, and
 * counted), syncs at once, time moved by hand. What goes wrong in between belongs to the simulator;
 * here is what must happen, and what it costs.
 */
#include "server/core/antientropy.h"
#include "server/core/heal.h"
#include "storage/merge.h"
#include "storage/store_mem.h"
#include "tests/unit/test.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define N_NODES 3u
#define ROUND_MS 10000u
#define QUEUE_MAX 65536u
#define N_TYPES (PEER_PULL_REPLY + 1)

struct message {
    uint32_t from, to;
    uint64_t link; /* answers: where the question came from */
    bool request;
    struct blob *bytes;
};

struct cluster {
    struct worker *workers[N_NODES];
    struct store *stores[N_NODES];
    struct effects effects;
    struct ring *ring;
    uint32_t replicas;
    struct arena ring_arena, arena;
    uint64_t now_ms, wall_ms;
    struct message queue[QUEUE_MAX];
    uint32_t at, n;
    uint64_t n_sent[N_TYPES], n_bytes, n_lost;
    bool cut[N_NODES]; /* nothing goes in or out */
    /* Partitions are split while this kind of read is under way for another node. */
    enum effect_type split_at;
    int refusals[N_TYPES]; /* the first error of each type of answer */
    struct buf scratch;
};

/* ---- memory -------------------------------------------------------------------------------- */

static bool no_memory; /* for calloc */

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);

void *__wrap_malloc(size_t n)
{
    return __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return no_memory ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
    return __real_realloc(p, n);
}

/* ---- carrying out -------------------------------------------------------------------------- */

static void step(struct cluster *c, uint32_t node, struct event *e);
static void split_partitions(struct cluster *c, uint32_t node);

static void notify(void *ctx, uint32_t queue)
{
    (void)ctx;
    (void)queue;
}

static void fatal(void *ctx, const char *sentence)
{
    (void)ctx;
    fail_msg("%s", sentence);
}

static void send(struct cluster *c, uint32_t node, const struct effect *e)
{
    const struct addr *to = &e->u.send.to;
    struct message m = {.from = node, .request = to->kind == ADDR_NODE};

    assert_true(to->kind == ADDR_NODE || to->kind == ADDR_LINK);
    m.to = m.request ? to->node : (uint32_t)to->link;
    c->scratch.len = 0;
    assert_int_equal(wire_peer_pack(&e->u.send.msg, &c->scratch), 0);
    c->n_sent[e->u.send.msg.type]++;
    if (!c->refusals[e->u.send.msg.type])
        c->refusals[e->u.send.msg.type] = e->u.send.msg.error;
    c->n_bytes += c->scratch.len;
    if (c->cut[node] || c->cut[m.to]) {
        c->n_lost++;
        return;
    }
    m.bytes = blob_copy(buf_slice(&c->scratch));
    assert_true(c->n < QUEUE_MAX);
    c->queue[c->n++] = m;
}

static void read_leaves(struct cluster *c, uint32_t node, const struct effect *e)
{
    static uint64_t all[1u << (STORE_LEAF_BITS - 6)];
    struct event in = {.type = EVENT_LEAVES};
    struct store *s = c->stores[node];

    in.u.leaves.cookie = e->u.leaves.cookie;
    in.u.leaves.error = s->ops->leaves(s, 0, e->u.leaves.range, all, &in.u.leaves.lsn);
    in.u.leaves.leaves = all;
    in.u.leaves.n =
        (uint32_t)(((e->u.leaves.range.last - e->u.leaves.range.first) >> (64 - STORE_LEAF_BITS)) +
                   1);
    if (c->split_at == EFFECT_LEAVES && !(in.u.leaves.cookie & ANTIENTROPY_COOKIE))
        split_partitions(c, node);
    step(c, node, &in);
}

static void read_page(struct cluster *c, uint32_t node, const struct effect *e)
{
    static struct wire_record items[LIMIT_SCAN_PAGE_RECORDS];
    struct store_page page = {.items = items, .cap = LIMIT_SCAN_PAGE_RECORDS};
    struct event in = {.type = EVENT_SCANNED};
    struct store *s = c->stores[node];

    in.u.scanned.cookie = e->u.scan.cookie;
    in.u.scanned.error =
        s->ops->scan(s, 0, e->u.scan.range, e->u.scan.cursor, e->u.scan.bytes_max, &page);
    in.u.scanned.page = &page;
    if (c->split_at == EFFECT_SCAN && !(in.u.scanned.cookie & ANTIENTROPY_COOKIE))
        split_partitions(c, node);
    step(c, node, &in);
}

static void read_key(struct cluster *c, uint32_t node, const struct effect *e)
{
    struct event in = {.type = EVENT_GOT};
    struct store *s = c->stores[node];

    in.u.got.cookie = e->u.get.cookie;
    in.u.got.error =
        s->ops->get(s, 0, e->u.get.token, &e->u.get.key, &in.u.got.state, &in.u.got.lsn);
    step(c, node, &in);
}

static void reap(struct cluster *c, uint32_t node)
{
    struct store *s = c->stores[node];
    struct event durable = {.type = EVENT_DURABLE};
    struct store_done done;

    store_mem_sync(s, UINT64_MAX);
    while (s->ops->reap(s, 0, &done, 1) == 1) {
        struct event in = {.type = EVENT_STORED, .u.stored = done};

        step(c, node, &in);
    }
    durable.u.durable.lsn = s->ops->durable(s);
    step(c, node, &durable);
}

/* What the effects of one step bring is fed back after all of them, as the edge does. */
static void carry_out(struct cluster *c, uint32_t node, const struct effect *list, uint32_t n)
{
    bool stored = false;
    uint64_t lsn;

    for (uint32_t i = 0; i < n; i++) {
        if (list[i].type == EFFECT_SEND)
            send(c, node, &list[i]);
        if (list[i].type == EFFECT_STORE) {
            assert_int_equal(
                c->stores[node]->ops->submit(c->stores[node], 0, &list[i].u.store, 1, &lsn), 0);
            stored = true;
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        if (list[i].type == EFFECT_LEAVES)
            read_leaves(c, node, &list[i]);
        if (list[i].type == EFFECT_SCAN)
            read_page(c, node, &list[i]);
        if (list[i].type == EFFECT_GET)
            read_key(c, node, &list[i]);
    }
    if (stored)
        reap(c, node);
}

static void step(struct cluster *c, uint32_t node, struct event *e)
{
    struct effects *effects = malloc(sizeof(*effects)); /* steps nest here */
    int r;

    assert_non_null(effects);
    do {
        e->now_ms = c->now_ms;
        e->wall_ms = c->wall_ms;
        r = worker_step(c->workers[node], e, effects);
        /* Effects' bytes live until the next step, and what is read leads to one: scans keep their
         * cursor in the worker, which copies; so only the list is kept. */
        carry_out(c, node, effects->list, effects->n);
        *e = (struct event){.type = EVENT_MORE};
    } while (r == STEP_MORE);
    free(effects);
}

static void deliver(struct cluster *c, struct message *m)
{
    struct event in = {.type = EVENT_PEER};
    struct wire_peer msg;
    struct slice body = slice_of(m->bytes->data + LIMIT_FRAME_HEADER_BYTES,
                                 m->bytes->len - LIMIT_FRAME_HEADER_BYTES);

    arena_reset(&c->arena, WIRE_ARENA_BUDGET(body.len));
    assert_int_equal(wire_peer_unpack(body, &c->arena, &msg), 0);
    in.u.peer.from = (struct addr){.kind = ADDR_LINK, .node = m->from, .link = m->from};
    in.u.peer.node = m->from;
    in.u.peer.msg = &msg;
    step(c, m->to, &in);
}

static void settle(struct cluster *c)
{
    while (c->at < c->n) {
        struct message m = c->queue[c->at++];

        deliver(c, &m);
        blob_unref(m.bytes);
        if (c->at == c->n)
            c->at = c->n = 0;
    }
}

static void pass(struct cluster *c, uint64_t ms)
{
    for (uint64_t end = c->now_ms + ms; c->now_ms < end;) {
        uint64_t by = end - c->now_ms < 20 ? end - c->now_ms : 20;

        c->now_ms += by;
        c->wall_ms += by;
        for (uint32_t i = 0; i < N_NODES; i++) {
            struct event tick = {.type = EVENT_TICK};

            if (worker_deadline_ms(c->workers[i]) <= c->now_ms)
                step(c, i, &tick);
            settle(c);
        }
    }
}

/* ---- life ---------------------------------------------------------------------------------- */

static void make_ring(struct cluster *c, uint32_t n_partitions, uint64_t epoch)
{
    static const char *const names[] = {"n0", "n1", "n2"};
    struct wire_member members[N_NODES] = {0};
    struct ring_form_input in = {.members = members,
                                 .n_members = N_NODES,
                                 .replicas = c->replicas,
                                 .n_partitions = n_partitions};
    struct wire_ring wire;

    for (uint32_t i = 0; i < N_NODES; i++) {
        members[i].id.b[0] = (uint8_t)(i + 1);
        members[i].name = slice_str(names[i]);
        members[i].client_address = slice_str("127.0.0.1:1");
        members[i].peer_address = slice_str("127.0.0.1:2");
        members[i].weight = 1;
    }
    in.cluster_id.b[0] = 7;
    arena_reset(&c->ring_arena, WIRE_ARENA_BUDGET_RING);
    assert_int_equal(ring_form(&in, &c->ring_arena, &wire), 0);
    wire.epoch = epoch;
    ring_unref(c->ring);
    assert_int_equal(ring_new(&wire, NULL, NULL, &c->ring), 0);
}

static void tell_link(struct cluster *c, uint32_t node, uint32_t other, bool up)
{
    struct event e = {.type = up ? EVENT_NODE_UP : EVENT_NODE_DOWN};

    if (up) {
        e.u.node_up.node = other;
        e.u.node_up.n_workers = 1;
    } else {
        e.u.node_down.node = other;
    }
    step(c, node, &e);
}

static void tell_links(struct cluster *c, uint32_t node, bool up)
{
    c->cut[node] = !up;
    for (uint32_t i = 0; i < N_NODES; i++) {
        if (i == node)
            continue;
        tell_link(c, i, node, up);
        tell_link(c, node, i, up);
    }
}

static struct cluster *cluster_new(void)
{
    struct cluster *c = calloc(1, sizeof(*c));
    struct store_config store = {.n_workers = 1, .notify = notify, .fatal = fatal};

    assert_non_null(c);
    c->replicas = 3;
    c->now_ms = 1000;
    c->wall_ms = 1700000000000;
    arena_init(&c->arena, 0);
    buf_init(&c->scratch);
    arena_init(&c->ring_arena, 0);
    make_ring(c, 64, 1);
    for (uint32_t i = 0; i < N_NODES; i++) {
        struct worker_config config = {.node = i,
                                       .n_workers = 1,
                                       .seed = i + 1,
                                       .compare_ms = ROUND_MS,
                                       .name = slice_str("n"),
                                       .software = slice_str("quoitd test")};

        config.node_id.b[0] = (uint8_t)(i + 1);
        assert_int_equal(store_mem_open(&store, &c->stores[i]), 0);
        c->workers[i] = worker_new(&config);
        assert_non_null(c->workers[i]);
    }
    return c;
}

static void publish(struct cluster *c, uint32_t node)
{
    struct event e = {.type = EVENT_RING};

    e.u.ring.ring = c->ring;
    step(c, node, &e);
}

static void split_partitions(struct cluster *c, uint32_t node)
{
    c->split_at = 0;
    make_ring(c, 256, 2);
    publish(c, node);
}

/* All nodes learn of the ring, and of each other. */
static void cluster_start(struct cluster *c)
{
    for (uint32_t i = 0; i < N_NODES; i++)
        publish(c, i);
    for (uint32_t i = 0; i < N_NODES; i++)
        for (uint32_t k = 0; k < N_NODES; k++)
            if (i != k)
                tell_link(c, i, k, true);
    settle(c);
}

static void cluster_free(struct cluster *c)
{
    for (uint32_t i = 0; i < N_NODES; i++) {
        worker_free(c->workers[i]);
        c->stores[i]->ops->close(c->stores[i]);
    }
    for (uint32_t i = c->at; i < c->n; i++)
        blob_unref(c->queue[i].bytes);
    ring_unref(c->ring);
    arena_deinit(&c->ring_arena);
    arena_deinit(&c->arena);
    buf_deinit(&c->scratch);
    free(c);
}

/* ---- records ------------------------------------------------------------------------------- */

static struct key key_of(uint32_t number, char text[32])
{
    snprintf(text, 32, "key %u", number);
    return (struct key){.bucket = BUCKET_DEFAULT, .partition = slice_str(text)};
}

/* Straight into the store: age_ms ago, by the clock of the cluster. */
static void write_record(struct cluster *c, uint32_t node, struct key key, uint64_t age_ms,
                         struct slice value, bool deleted)
{
    struct store_op op = {.type = STORE_OP_MERGE, .token = ring_token(c->ring, &key), .key = key};
    struct store *s = c->stores[node];
    struct store_done done;
    uint64_t lsn;

    op.state = (struct state){.kind = STATE_LWW,
                              .deleted = deleted,
                              .version = {version_hlc_from_ms(c->wall_ms - age_ms), 1},
                              .value = deleted ? (struct slice){0} : value};
    assert_int_equal(s->ops->submit(s, 0, &op, 1, &lsn), 0);
    store_mem_sync(s, UINT64_MAX);
    while (s->ops->reap(s, 0, &done, 1) == 1)
        ;
}

static void write_key(struct cluster *c, uint32_t node, uint32_t number, uint64_t age_ms,
                      const char *value)
{
    char text[32];

    write_record(c, node, key_of(number, text), age_ms, slice_str(value ? value : ""), !value);
}

static void assert_holds(struct cluster *c, uint32_t node, struct key key, const char *value)
{
    struct state state;
    uint64_t lsn;
    int r = c->stores[node]->ops->get(c->stores[node], 0, ring_token(c->ring, &key), &key, &state,
                                      &lsn);

    assert_int_equal(r, 0);
    assert_int_equal(state.kind, value ? STATE_LWW : STATE_NONE);
    if (value)
        assert_true(slice_equal(state.value, slice_str(value)));
    c->stores[node]->ops->read_end(c->stores[node], 0);
}

static bool nodes_equal(struct cluster *c)
{
    static uint64_t a[1u << STORE_LEAF_BITS], b[1u << STORE_LEAF_BITS];
    struct store_range all = {0, UINT64_MAX};
    uint64_t lsn;

    assert_int_equal(c->stores[0]->ops->leaves(c->stores[0], 0, all, a, &lsn), 0);
    for (uint32_t i = 1; i < N_NODES; i++) {
        assert_int_equal(c->stores[i]->ops->leaves(c->stores[i], 0, all, b, &lsn), 0);
        if (memcmp(a, b, sizeof(a)) != 0)
            return false;
    }
    return true;
}

static uint64_t pulled_by(struct cluster *c, uint32_t node)
{
    struct worker_repair_stats stats;

    worker_repair_stats(c->workers[node], &stats);
    return stats.n_pulled;
}

static uint32_t pairs_that_differ(struct cluster *c, uint32_t node)
{
    struct worker_repair_stats stats;

    worker_repair_stats(c->workers[node], &stats);
    return stats.n_pairs_differ;
}

/* ---- the tree ------------------------------------------------------------------------------ */

static void levels_stand_at_multiples_of_five_bits(void **state)
{
    assert_int_equal(tree_next_bits(6), 10);
    assert_int_equal(tree_n_parts(6), 16);
    assert_int_equal(tree_next_bits(10), 15);
    assert_int_equal(tree_n_parts(10), 32);
    assert_int_equal(tree_next_bits(14), 15);
    assert_int_equal(tree_n_parts(14), 2);
    assert_int_equal(tree_next_bits(15), TREE_LEAF_BITS);
    assert_int_equal(tree_n_leaves(14), 64);
}

static void parts_are_sums_of_their_leaves(void **state)
{
    static uint64_t leaves[1u << 10];
    uint64_t salt = 0x1234567887654321u, one;
    uint32_t parts[16];

    for (uint32_t i = 0; i < 1u << 10; i++)
        leaves[i] = (uint64_t)i * 0x9e3779b97f4a7c15u;
    tree_parts(leaves, 10, 0, salt, parts);
    for (uint32_t arc = 0; arc < 32; arc++) {
        one = 0;
        for (uint32_t i = 0; i < 32; i++)
            one ^= leaves[arc * 32 + i];
        assert_true(tree_part(parts, arc) == one * salt >> 48);
    }
    tree_parts(leaves, 15, 31, salt, parts);
    assert_true(tree_part(parts, 31) == leaves[1023] * salt >> 48);
}

/* ---- comparing ----------------------------------------------------------------------------- */

static void equals_cost_one_question_per_pair_and_round(void **state)
{
    struct cluster *c = cluster_new();

    for (uint32_t k = 0; k < 200; k++)
        for (uint32_t i = 0; i < N_NODES; i++)
            write_key(c, i, k, 60000, "same");
    cluster_start(c);
    pass(c, 1000);
    assert_int_equal(c->n_sent[PEER_COMPARE], 3 * 64); /* at once: all have just come */
    c->n_sent[PEER_COMPARE] = 0;
    pass(c, 4 * ROUND_MS);
    assert_in_range(c->n_sent[PEER_COMPARE], 4 * 3 * 64 - 30, 4 * 3 * 64);
    assert_int_equal(c->n_sent[PEER_PULL], 0);
    assert_true(c->n_bytes / (c->n_sent[PEER_COMPARE] + 3 * 64) < 200);
    cluster_free(c);
}

static void what_a_node_has_missed_is_there_soon_after_it_is_back(void **state)
{
    struct cluster *c = cluster_new();

    cluster_start(c);
    tell_links(c, 2, false);
    for (uint32_t k = 0; k < 3000; k++)
        for (uint32_t i = 0; i < 2; i++)
            write_key(c, i, k, 100, "missed"); /* young, but not on its way */
    pass(c, 1000);
    tell_links(c, 2, true);
    settle(c);
    pass(c, 2000);
    assert_true(nodes_equal(c));
    assert_int_equal(pulled_by(c, 2), 3000); /* each once, not from both */
    assert_int_equal(pulled_by(c, 0) + pulled_by(c, 1), 0);
    cluster_free(c);
}

static void both_sides_get_what_the_other_has_newer(void **state)
{
    struct cluster *c = cluster_new();

    for (uint32_t k = 0; k < 300; k++)
        for (uint32_t i = 0; i < N_NODES; i++) {
            bool newer = k % 3 == i;

            write_key(c, i, k, newer ? 20000 : 30000, k % 2 && newer ? NULL : newer ? "b" : "a");
        }
    cluster_start(c);
    pass(c, 3 * ROUND_MS);
    assert_true(nodes_equal(c));
    for (uint32_t k = 0; k < 300; k += 2) {
        char text[32];

        assert_holds(c, (k + 1) % 3, key_of(k, text), "b");
    }
    cluster_free(c);
}

static void what_is_young_is_left_to_its_write(void **state)
{
    struct cluster *c = cluster_new();
    char text[32];

    cluster_start(c);
    pass(c, 1000);
    write_key(c, 0, 7, 0, "on its way");
    pass(c, 0);
    for (uint32_t ms = 0; ms < ANTIENTROPY_QUIET_MS - 20; ms += 20) {
        pass(c, 20);
        assert_int_equal(pulled_by(c, 1) + pulled_by(c, 2), 0);
    }
    pass(c, 2 * ROUND_MS);
    assert_int_equal(pulled_by(c, 1) + pulled_by(c, 2), 2);
    assert_holds(c, 1, key_of(7, text), "on its way");
    assert_true(nodes_equal(c));
    cluster_free(c);
}

/* A clock that was off must not keep its records from being repaired until then. */
static void what_is_of_the_future_is_not_young(void **state)
{
    struct cluster *c = cluster_new();

    cluster_start(c);
    pass(c, 1000);
    write_key(c, 0, 7, (uint64_t)0 - 3600000, "of tomorrow");
    pass(c, 2 * ROUND_MS);
    assert_true(nodes_equal(c));
    cluster_free(c);
}

static void a_leaf_may_be_larger_than_a_question(void **state)
{
    struct cluster *c = cluster_new();
    uint32_t n = 5 * LIMIT_PULL_KNOWN / 2;

    for (uint32_t k = 0; k < n; k++) {
        char sort[32];
        struct key key = {.bucket = BUCKET_DEFAULT, .partition = slice_str("one and the same")};

        snprintf(sort, sizeof(sort), "%08u", k);
        key.sort = slice_str(sort);
        if (k % 5 != 0)
            write_record(c, 0, key, 60000, slice_str("v"), false);
        if (k % 5 != 1)
            write_record(c, 1, key, 60000, slice_str("v"), false);
        if (k % 5 > 1)
            write_record(c, 2, key, 60000, slice_str("v"), false);
    }
    cluster_start(c);
    pass(c, 3 * ROUND_MS);
    assert_true(nodes_equal(c));
    assert_in_range(pulled_by(c, 2), 2 * n / 5, 2 * n / 5);
    cluster_free(c);
}

static void large_values_come_in_pieces_and_not_all_at_once(void **state)
{
    struct cluster *c = cluster_new();
    struct blob *value = blob_new(1u << 20);
    uint64_t n = 80; /* 80 MiB at 32 MiB/s */

    memset(value->data, 'v', value->len);
    for (uint32_t k = 0; k < n; k++) {
        char text[32];

        write_record(c, 0, key_of(k, text), 60000, blob_slice(value), false);
        write_record(c, 1, key_of(k, text), 60000, blob_slice(value), false);
    }
    cluster_start(c);
    pass(c, 1000);
    assert_in_range(pulled_by(c, 2), 8, 50);
    pass(c, 4000);
    assert_int_equal(pulled_by(c, 2), n);
    assert_true(nodes_equal(c));
    blob_unref(value);
    cluster_free(c);
}

/* What they cost is not the bytes of their values. */
static void many_small_records_come_no_faster(void **state)
{
    struct cluster *c = cluster_new();
    uint64_t n = 20000, per_ms = ANTIENTROPY_BYTES_PER_S / 1000 / ANTIENTROPY_RECORD_BYTES_MIN;

    for (uint32_t k = 0; k < n; k++)
        for (uint32_t i = 0; i < 2; i++)
            write_key(c, i, k, 60000, "v");
    cluster_start(c);
    pass(c, 100);
    /* A question of each session is under way when the share is used up. */
    assert_in_range(pulled_by(c, 2), 100, 100 * per_ms + ANTIENTROPY_SESSIONS * n / 64);
    pass(c, 1000);
    assert_int_equal(pulled_by(c, 2), n);
    assert_true(nodes_equal(c));
    cluster_free(c);
}

static void few_differences_cost_little_more_than_themselves(void **state)
{
    struct cluster *c = cluster_new();
    char value[101] = {0};
    uint64_t before;

    memset(value, 'v', 100);
    for (uint32_t k = 0; k < 60000; k++)
        for (uint32_t i = 0; i < N_NODES; i++)
            if (i != 2 || k % 100 != 0) /* one in a hundred, about nine per partition */
                write_key(c, i, k, 60000, value);
    before = c->n_bytes;
    cluster_start(c);
    pass(c, 2000);
    assert_true(nodes_equal(c));
    assert_int_equal(pulled_by(c, 2), 600);
    print_message("# %" PRIu64 " bytes for 600 records of 100: %" PRIu64 " questions, %" PRIu64
                  " pulls\n",
                  c->n_bytes - before, c->n_sent[PEER_COMPARE], c->n_sent[PEER_PULL]);
    assert_true(c->n_bytes - before < 4 * 600 * 109);
    cluster_free(c);
}

static void a_node_that_does_not_answer_holds_up_nobody(void **state)
{
    struct cluster *c = cluster_new();

    cluster_start(c);
    c->cut[1] = true; /* nobody knows */
    for (uint32_t k = 0; k < 200; k++)
        write_key(c, 0, k, 60000, "v");
    pass(c, 6 * ROUND_MS);
    assert_true(c->n_lost > 0);
    assert_int_equal(pulled_by(c, 2), 200);
    c->cut[1] = false;
    pass(c, 3 * ROUND_MS);
    assert_true(nodes_equal(c));
    cluster_free(c);
}

/* What they held is given up in a step that may have no room for it left. */
static void questions_that_time_out_wait_for_room(void **state)
{
    static struct effects out;
    struct cluster *c = cluster_new();
    struct worker *w = c->workers[0];
    uint32_t n, graves_n;

    c->cut[0] = true;
    cluster_start(c);
    n = w->antientropy->n_sessions;
    assert_true(n > 0);
    w->now_ms = c->now_ms + ANTIENTROPY_ANSWER_MS;
    out.n = 0;
    graves_n = w->graves_n;
    w->graves_n = WORKER_GRAVES_MAX;
    assert_false(antientropy_drain(w, &out));
    assert_int_equal(w->antientropy->n_sessions, n);
    w->graves_n = graves_n;
    assert_true(antientropy_drain(w, &out));
    assert_int_equal(w->antientropy->stats.n_failed, n);
    cluster_free(c);
}

/* ---- leaves that were wrong ----------------------------------------------------------------- */

static void tell_remade(struct cluster *c, uint32_t node, struct store_range range)
{
    struct event e = {.type = EVENT_REMADE, .u.remade.range = range};

    step(c, node, &e);
    settle(c);
}

static void what_was_remade_is_compared_with_the_other_slots(void **state)
{
    struct cluster *c = cluster_new();
    struct store_range all = {0, UINT64_MAX};

    for (uint32_t k = 0; k < 200; k++)
        for (uint32_t i = 0; i < N_NODES; i++)
            write_key(c, i, k, 60000, "same");
    cluster_start(c);
    pass(c, 2 * ROUND_MS);
    c->cut[1] = true; /* nothing is found equal meanwhile */
    tell_remade(c, 1, all);
    assert_int_equal(pairs_that_differ(c, 1), 64 * 2);
    c->cut[1] = false;
    pass(c, 3 * ROUND_MS);
    for (uint32_t i = 0; i < N_NODES; i++)
        assert_int_equal(pairs_that_differ(c, i), 0);
    assert_int_equal(pulled_by(c, 0) + pulled_by(c, 1) + pulled_by(c, 2), 0);
    cluster_free(c);
}

/* Leaves of a store are remade whoever its partitions belong to. */
static void what_was_remade_of_others_is_not_compared(void **state)
{
    struct cluster *c = cluster_new();
    struct store_range all = {0, UINT64_MAX};
    uint32_t n_own = 0;

    c->replicas = 2;
    make_ring(c, 64, 1);
    for (uint32_t p = 0; p < 64; p++) {
        struct ring_entry entry;

        ring_lookup(c->ring, p, &entry);
        n_own += ring_entry_slot(&entry, 1) >= 0;
    }
    assert_in_range(n_own, 1, 63);
    cluster_start(c);
    pass(c, 2 * ROUND_MS);
    c->cut[1] = true;
    tell_remade(c, 1, all);
    assert_int_equal(pairs_that_differ(c, 1), n_own);
    c->cut[1] = false;
    pass(c, 3 * ROUND_MS);
    assert_int_equal(pairs_that_differ(c, 1), 0);
    cluster_free(c);
}

/* ---- healing ------------------------------------------------------------------------------- */

#define DAMAGED_KEY 7u
#define DAMAGED_NODE 1u

/* One key, on all three. */
static struct cluster *cluster_of_one_key(void)
{
    struct cluster *c = cluster_new();

    for (uint32_t i = 0; i < N_NODES; i++)
        write_key(c, i, DAMAGED_KEY, 60000, "v");
    return c;
}

static void damage(struct cluster *c, uint32_t number)
{
    char text[32];
    struct key key = key_of(number, text);

    assert_int_equal(store_mem_corrupt(c->stores[DAMAGED_NODE], ring_token(c->ring, &key), &key),
                     0);
}

static void tell_damaged(struct cluster *c, uint32_t number)
{
    char text[32];
    struct key key = key_of(number, text);
    uint8_t store_key[STORE_CURSOR_BYTES_MAX];
    struct event e = {.type = EVENT_DAMAGED};

    e.u.damaged.store_key =
        slice_of(store_key, store_cursor_encode(ring_token(c->ring, &key), &key, store_key));
    step(c, DAMAGED_NODE, &e);
    settle(c);
}

static void assert_healed(struct cluster *c, bool healed)
{
    struct worker_repair_stats stats;
    char text[32];

    worker_repair_stats(c->workers[DAMAGED_NODE], &stats);
    assert_int_equal(stats.n_healed, healed);
    assert_int_equal(stats.n_damaged, !healed);
    if (healed)
        assert_holds(c, DAMAGED_NODE, key_of(DAMAGED_KEY, text), "v");
}

/* Its leaf then looks as if there were nothing in it. */
static void a_damaged_record_alone_in_its_leaf_is_healed(void **state)
{
    struct cluster *c = cluster_of_one_key();

    damage(c, DAMAGED_KEY);
    cluster_start(c);
    pass(c, 2 * ROUND_MS);
    assert_healed(c, true);
    assert_true(nodes_equal(c));
    cluster_free(c);
}

/* As the scrub finds it: no comparison is needed. */
static void a_record_that_is_told_to_be_damaged_is_healed(void **state)
{
    struct cluster *c = cluster_of_one_key();
    uint64_t n_compared;

    cluster_start(c);
    pass(c, 1000);
    damage(c, DAMAGED_KEY);
    n_compared = c->n_sent[PEER_COMPARE];
    tell_damaged(c, DAMAGED_KEY);
    pass(c, 20);
    assert_healed(c, true);
    assert_true(nodes_equal(c));
    assert_int_equal(c->n_sent[PEER_COMPARE], n_compared);
    cluster_free(c);
}

/* Of two slots there is no majority without the damaged one; nor of three while one is away. */
static void nothing_is_healed_by_a_minority(void **state)
{
    struct cluster *c = cluster_of_one_key();

    cluster_start(c);
    tell_links(c, 2, false);
    damage(c, DAMAGED_KEY);
    pass(c, 5 * ROUND_MS);
    assert_healed(c, false);
    tell_links(c, 2, true);
    pass(c, HEAL_AGAIN_MAX_MS);
    assert_healed(c, true);
    cluster_free(c);
}

/* Those that find no room are met again: by a comparison, here. */
static void few_records_are_healed_at_a_time(void **state)
{
    struct cluster *c = cluster_new();
    struct worker_repair_stats stats;

    for (uint32_t k = 0; k < HEAL_MAX + 4; k++)
        for (uint32_t i = 0; i < N_NODES; i++)
            write_key(c, i, k, 60000, "v");
    cluster_start(c);
    tell_links(c, 2, false);
    for (uint32_t k = 0; k < HEAL_MAX + 4; k++) {
        damage(c, k);
        tell_damaged(c, k);
    }
    worker_repair_stats(c->workers[DAMAGED_NODE], &stats);
    assert_int_equal(stats.n_damaged, HEAL_MAX);
    assert_int_equal(stats.n_heals_refused, 4);
    assert_int_equal(stats.n_healed, 0);
    tell_links(c, 2, true);
    pass(c, HEAL_AGAIN_MAX_MS);
    worker_repair_stats(c->workers[DAMAGED_NODE], &stats);
    assert_int_equal(stats.n_damaged, 0);
    assert_int_equal(stats.n_healed, HEAL_MAX + 4);
    assert_true(nodes_equal(c));
    cluster_free(c);
}

/* ---- other rings --------------------------------------------------------------------------- */

/* What partitions and leaves were called before the ring changed means nothing afterwards. */
static void partitions_may_be_split_in_the_middle_of_it(void **state)
{
    struct cluster *c = cluster_new();

    for (uint32_t k = 0; k < 2000; k++)
        for (uint32_t i = 0; i < N_NODES; i++)
            if (k % 7 != i)
                write_key(c, i, k, 60000, "v");
    for (uint32_t i = 0; i < N_NODES; i++)
        publish(c, i);
    for (uint32_t i = 0; i < N_NODES; i++)
        tell_link(c, i, (i + 1) % N_NODES, true);
    for (uint32_t n = 0; n < 20 && c->at < c->n; n++) { /* some of the way */
        struct message m = c->queue[c->at++];

        deliver(c, &m);
        blob_unref(m.bytes);
    }
    make_ring(c, 256, 2);
    for (uint32_t i = 0; i < N_NODES; i++)
        publish(c, i);
    cluster_start(c);
    pass(c, 3 * ROUND_MS);
    assert_true(nodes_equal(c));
    cluster_free(c);
}

static void what_found_no_memory_is_made_with_the_next_ring(void **state)
{
    struct cluster *c = cluster_new();

    for (uint32_t k = 0; k < 200; k++)
        write_key(c, 0, k, 60000, "v");
    no_memory = true;
    for (uint32_t i = 0; i < N_NODES; i++)
        publish(c, i);
    no_memory = false;
    make_ring(c, 64, 2); /* of the same shape */
    cluster_start(c);
    pass(c, 3 * ROUND_MS);
    assert_true(nodes_equal(c));
    cluster_free(c);
}

/* An answer made of two rings would name leaves that the asker does not have. */
static void assert_not_answered_across_a_split(enum effect_type split_at,
                                               enum wire_peer_type answer)
{
    struct cluster *c = cluster_new();

    for (uint32_t k = 0; k < 2000; k++)
        for (uint32_t i = 0; i < N_NODES; i++)
            if (k % 7 != i)
                write_key(c, i, k, 60000, "v");
    c->split_at = split_at;
    cluster_start(c);
    assert_int_equal(c->split_at, 0);
    assert_int_equal(c->refusals[answer], ERR_NOT_OWNER);
    for (uint32_t i = 0; i < N_NODES; i++)
        publish(c, i);
    pass(c, 3 * ROUND_MS);
    assert_true(nodes_equal(c));
    cluster_free(c);
}

static void what_was_compared_across_a_split_is_not_answered(void **state)
{
    assert_not_answered_across_a_split(EFFECT_LEAVES, PEER_COMPARE_REPLY);
}

static void what_was_pulled_across_a_split_is_not_answered(void **state)
{
    assert_not_answered_across_a_split(EFFECT_SCAN, PEER_PULL_REPLY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(levels_stand_at_multiples_of_five_bits),
        cmocka_unit_test(parts_are_sums_of_their_leaves),
        cmocka_unit_test(equals_cost_one_question_per_pair_and_round),
        cmocka_unit_test(what_a_node_has_missed_is_there_soon_after_it_is_back),
        cmocka_unit_test(both_sides_get_what_the_other_has_newer),
        cmocka_unit_test(what_is_young_is_left_to_its_write),
        cmocka_unit_test(what_is_of_the_future_is_not_young),
        cmocka_unit_test(a_leaf_may_be_larger_than_a_question),
        cmocka_unit_test(large_values_come_in_pieces_and_not_all_at_once),
        cmocka_unit_test(many_small_records_come_no_faster),
        cmocka_unit_test(few_differences_cost_little_more_than_themselves),
        cmocka_unit_test(a_node_that_does_not_answer_holds_up_nobody),
        cmocka_unit_test(questions_that_time_out_wait_for_room),
        cmocka_unit_test(what_was_remade_is_compared_with_the_other_slots),
        cmocka_unit_test(what_was_remade_of_others_is_not_compared),
        cmocka_unit_test(a_damaged_record_alone_in_its_leaf_is_healed),
        cmocka_unit_test(a_record_that_is_told_to_be_damaged_is_healed),
        cmocka_unit_test(nothing_is_healed_by_a_minority),
        cmocka_unit_test(few_records_are_healed_at_a_time),
        cmocka_unit_test(partitions_may_be_split_in_the_middle_of_it),
        cmocka_unit_test(what_found_no_memory_is_made_with_the_next_ring),
        cmocka_unit_test(what_was_compared_across_a_split_is_not_answered),
        cmocka_unit_test(what_was_pulled_across_a_split_is_not_answered),
    };

    return cmocka_run_group_tests_name("antientropy", tests, NULL, NULL);
}
