/* cluster: see cluster.h.
 *
 * Steps nest: what the effects of one step bring is fed back after all of them, as the edge does,
 * and each of those steps has a list of its own.
 */
#include "tests/unit/cluster.h"
#include "server/core/floor_facts.h"

#include <stdio.h>
#include <stdlib.h>

#define DEFAULT_PARTITIONS 64u
#define DEFAULT_REPLICAS 3u
#define CLIENT 1u
#define ANSWER_MS 30000u /* longer than any deadline */

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

/* ---- carrying out -------------------------------------------------------------------------- */

static void send(struct cluster *c, uint32_t node, const struct effect *e)
{
    const struct addr *to = &e->u.send.to;
    struct cluster_message m = {.from = node};

    assert_true(to->kind == ADDR_NODE || to->kind == ADDR_LINK);
    m.to = to->kind == ADDR_NODE ? to->node : (uint32_t)to->link;
    c->scratch.len = 0;
    assert_int_equal(wire_peer_pack(&e->u.send.msg, &c->scratch), 0);
    c->n_sent[e->u.send.msg.type]++;
    if (!c->refusals[e->u.send.msg.type])
        c->refusals[e->u.send.msg.type] = e->u.send.msg.error;
    c->n_bytes += c->scratch.len;
    if (c->cut[node] || (m.to != CLUSTER_HAND && c->cut[m.to])) {
        c->n_lost++;
        return;
    }
    m.bytes = blob_copy(buf_slice(&c->scratch));
    assert_non_null(m.bytes);
    assert_true(c->n < CLUSTER_QUEUE_MAX);
    c->queue[c->n++] = m;
}

static void reply(struct cluster *c, const struct wire_response *res)
{
    struct cluster_answer *a = &c->answer;

    assert_false(a->done);
    *a = (struct cluster_answer){.done = true, .error = res->error.code};
    if (res->type == RESULT_GET) {
        a->found = res->u.get.found;
        a->version = res->u.get.version;
        a->replicas = res->u.get.replicas;
        assert_true(res->u.get.value.len < sizeof(a->value));
        if (res->u.get.value.len)
            memcpy(a->value, res->u.get.value.data, res->u.get.value.len);
    } else if (res->type == RESULT_WRITE) {
        a->version = res->u.write.version;
        a->replicas = res->u.write.replicas;
    } else if (res->type == RESULT_SCAN) {
        a->n_records = res->u.scan.n_records;
    }
}

static void before_read(struct cluster *c, uint32_t node, enum effect_type type, uint64_t cookie)
{
    if (c->on_read)
        c->on_read(c, node, type, cookie);
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
    before_read(c, node, e->type, e->u.leaves.cookie);
    cluster_step(c, node, &in);
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
    before_read(c, node, e->type, e->u.scan.cookie);
    cluster_step(c, node, &in);
}

static void read_key(struct cluster *c, uint32_t node, const struct effect *e)
{
    struct event in = {.type = EVENT_GOT};
    struct store *s = c->stores[node];

    in.u.got.cookie = e->u.get.cookie;
    in.u.got.error =
        s->ops->get(s, 0, e->u.get.token, &e->u.get.key, &in.u.got.state, &in.u.got.lsn);
    cluster_step(c, node, &in);
}

static void read_info(struct cluster *c, uint32_t node, const struct effect *e)
{
    struct event in = {.type = EVENT_INFO};
    struct store *s = c->stores[node];

    in.u.info.cookie = e->u.info.cookie;
    in.u.info.error = s->ops->vnode_info(s, 0, e->u.info.range, &in.u.info.info);
    before_read(c, node, e->type, e->u.info.cookie);
    cluster_step(c, node, &in);
}

static void reap(struct cluster *c, uint32_t node)
{
    struct store *s = c->stores[node];
    struct event durable = {.type = EVENT_DURABLE};
    struct store_done done;

    if (c->hung[node])
        return;
    store_mem_sync(s, UINT64_MAX);
    while (s->ops->reap(s, 0, &done, 1) == 1) {
        struct event in = {.type = EVENT_STORED, .u.stored = done};

        cluster_step(c, node, &in);
    }
    durable.u.durable.lsn = s->ops->durable(s);
    cluster_step(c, node, &durable);
}

/* Whether something is to be reaped. */
static bool give_to_store(struct cluster *c, uint32_t node, const struct effect *e)
{
    struct store *s = c->stores[node];
    uint64_t lsn;

    if (e->type == EFFECT_STORE)
        assert_int_equal(s->ops->submit(s, 0, &e->u.store, 1, &lsn), 0);
    if (e->type == EFFECT_PURGE) {
        assert_int_equal(s->ops->purge(s, 0, e->u.purge.cookie, e->u.purge.range, e->u.purge.floor),
                         0);
        c->n_purges++;
    }
    return e->type == EFFECT_STORE || e->type == EFFECT_PURGE;
}

/* First what borrows from this step alone, then what leads to others. */
static void carry_out(struct cluster *c, uint32_t node, const struct effect *list, uint32_t n)
{
    bool stored = false;

    for (uint32_t i = 0; i < n; i++) {
        if (list[i].type == EFFECT_SEND)
            send(c, node, &list[i]);
        if (list[i].type == EFFECT_REPLY)
            reply(c, &list[i].u.reply.response);
        stored |= give_to_store(c, node, &list[i]);
    }
    for (uint32_t i = 0; i < n; i++) {
        if (list[i].type == EFFECT_LEAVES)
            read_leaves(c, node, &list[i]);
        if (list[i].type == EFFECT_SCAN)
            read_page(c, node, &list[i]);
        if (list[i].type == EFFECT_GET)
            read_key(c, node, &list[i]);
        if (list[i].type == EFFECT_INFO)
            read_info(c, node, &list[i]);
    }
    if (stored)
        reap(c, node);
}

void cluster_step(struct cluster *c, uint32_t node, struct event *e)
{
    struct effects *effects = malloc(sizeof(*effects));
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

/* ---- messages and time --------------------------------------------------------------------- */

static struct slice body_of(const struct blob *bytes)
{
    return slice_of(bytes->data + LIMIT_FRAME_HEADER_BYTES, bytes->len - LIMIT_FRAME_HEADER_BYTES);
}

static void recv_by_hand(struct cluster *c, struct cluster_message *m)
{
    blob_unref(c->hand_bytes);
    c->hand_bytes = blob_ref(m->bytes);
    arena_reset(&c->hand_arena, WIRE_ARENA_BUDGET(m->bytes->len));
    assert_int_equal(wire_peer_unpack(body_of(m->bytes), &c->hand_arena, &c->hand), 0);
}

static void deliver(struct cluster *c, struct cluster_message *m)
{
    struct event in = {.type = EVENT_PEER};
    enum cluster_fate fate;
    struct wire_peer msg;

    if (m->to == CLUSTER_HAND) {
        recv_by_hand(c, m);
        return;
    }
    arena_reset(&c->arena, WIRE_ARENA_BUDGET(m->bytes->len));
    assert_int_equal(wire_peer_unpack(body_of(m->bytes), &c->arena, &msg), 0);
    fate = c->fate && m->from != CLUSTER_HAND ? c->fate(c, m->from, m->to, &msg) : CLUSTER_CARRY;
    if (fate == CLUSTER_HOLD) {
        assert_true(c->n_held < CLUSTER_HELD_MAX);
        c->held[c->n_held++] = (struct cluster_message){m->from, m->to, blob_ref(m->bytes)};
    }
    if (fate != CLUSTER_CARRY)
        return;
    in.u.peer.node = m->from == CLUSTER_HAND ? (m->to + 1) % CLUSTER_NODES : m->from;
    in.u.peer.from = (struct addr){.kind = ADDR_LINK, .node = in.u.peer.node, .link = m->from};
    in.u.peer.msg = &msg;
    cluster_step(c, m->to, &in);
}

void cluster_sync(struct cluster *c, uint32_t node)
{
    c->hung[node] = false;
    reap(c, node);
    cluster_settle(c);
}

bool cluster_deliver(struct cluster *c)
{
    struct cluster_message m;

    if (c->at == c->n)
        return false;
    m = c->queue[c->at++];
    deliver(c, &m);
    blob_unref(m.bytes);
    if (c->at == c->n)
        c->at = c->n = 0;
    return true;
}

void cluster_settle(struct cluster *c)
{
    while (cluster_deliver(c))
        ;
}

void cluster_release(struct cluster *c)
{
    for (uint32_t i = 0; i < c->n_held; i++) {
        assert_true(c->n < CLUSTER_QUEUE_MAX);
        c->queue[c->n++] = c->held[i];
    }
    c->n_held = 0;
    cluster_settle(c);
}

void cluster_pass(struct cluster *c, uint64_t ms)
{
    for (uint64_t end = c->now_ms + ms; c->now_ms < end;) {
        uint64_t by = end - c->now_ms < CLUSTER_TICK_MS ? end - c->now_ms : CLUSTER_TICK_MS;

        c->now_ms += by;
        c->wall_ms += by;
        for (uint32_t i = 0; i < CLUSTER_NODES; i++) {
            struct event tick = {.type = EVENT_TICK};

            if (worker_deadline_ms(c->workers[i]) <= c->now_ms)
                cluster_step(c, i, &tick);
            cluster_settle(c);
        }
    }
}

void cluster_ask(struct cluster *c, uint32_t partition, uint32_t slot, struct wire_peer *msg)
{
    struct cluster_message m = {.from = CLUSTER_HAND};
    struct ring_entry entry;

    ring_lookup(c->ring, partition, &entry);
    m.to = entry.slots[slot].node;
    msg->id = 7;
    msg->deadline_ms = 1000;
    msg->ring_epoch = ring_epoch(c->ring);
    msg->replica = (struct wire_replica){.partition = partition,
                                         .slot = slot,
                                         .incarnation = entry.slots[slot].incarnation,
                                         .fence = entry.fence};
    c->scratch.len = 0;
    assert_int_equal(wire_peer_pack(msg, &c->scratch), 0);
    m.bytes = blob_copy(buf_slice(&c->scratch));
    assert_non_null(m.bytes);
    c->hand = (struct wire_peer){0};
    c->queue[c->n++] = m;
    cluster_settle(c);
}

/* ---- clients ------------------------------------------------------------------------------- */

void cluster_request(struct cluster *c, uint32_t node, struct wire_request *r)
{
    struct event e = {.type = EVENT_REQUEST};

    r->id = 1;
    e.u.request.conn = CLIENT;
    e.u.request.request = r;
    c->answer = (struct cluster_answer){0};
    cluster_step(c, node, &e);
    cluster_settle(c);
}

void cluster_await_answer(struct cluster *c)
{
    for (uint64_t ms = 0; ms < ANSWER_MS && !c->answer.done; ms += CLUSTER_TICK_MS)
        cluster_pass(c, CLUSTER_TICK_MS);
    assert_true(c->answer.done);
}

/* ---- rings --------------------------------------------------------------------------------- */

static void set_ring(struct cluster *c, const struct wire_ring *wire)
{
    struct ring *ring;

    assert_int_equal(ring_new(wire, NULL, NULL, &ring), 0);
    ring_unref(c->ring);
    c->ring = ring;
}

void cluster_make_ring(struct cluster *c, uint64_t epoch)
{
    static const char *const names[] = {"n0", "n1", "n2"};
    struct wire_member members[CLUSTER_NODES] = {0};
    struct ring_form_input in = {.members = members,
                                 .n_members = CLUSTER_NODES,
                                 .replicas = c->options.replicas,
                                 .n_partitions = c->options.n_partitions};
    struct wire_ring wire;

    for (uint32_t i = 0; i < CLUSTER_NODES; i++) {
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
    set_ring(c, &wire);
}

static void *copy_of(const void *from, size_t bytes)
{
    void *copy = malloc(bytes);

    assert_non_null(copy);
    memcpy(copy, from, bytes);
    return copy;
}

void cluster_change_slot(struct cluster *c, uint32_t partition, uint32_t slot,
                         enum wire_slot_state state, uint64_t incarnation, uint32_t fence)
{
    struct wire_ring wire = *ring_wire(c->ring);
    size_t n = (size_t)wire.n_partitions * wire.n_slots, at = partition * wire.n_slots + slot;
    uint32_t *fences = copy_of(wire.fence, wire.n_partitions * sizeof(*fences));
    uint32_t *states = copy_of(wire.slot_state, n * sizeof(*states));
    uint64_t *incarnations = copy_of(wire.slot_incarnation, n * sizeof(*incarnations));

    fences[partition] = fence;
    states[at] = state;
    incarnations[at] = incarnation;
    wire.fence = fences;
    wire.slot_state = states;
    wire.slot_incarnation = incarnations;
    wire.next_incarnation =
        incarnation >= wire.next_incarnation ? incarnation + 1 : wire.next_incarnation;
    wire.epoch++;
    set_ring(c, &wire);
    free(fences);
    free(states);
    free(incarnations);
}

void cluster_publish(struct cluster *c, uint32_t node)
{
    struct event e = {.type = EVENT_RING};
    struct floor_facts facts;

    assert_int_equal(floor_facts_read(c->stores[node], 0, c->ring, node, 0, 1, &facts), 0);
    e.u.ring.ring = c->ring;
    e.u.ring.facts = facts.list;
    e.u.ring.n_facts = facts.n;
    cluster_step(c, node, &e);
    floor_facts_free(&facts);
}

void cluster_publish_all(struct cluster *c)
{
    for (uint32_t i = 0; i < CLUSTER_NODES; i++)
        cluster_publish(c, i);
}

/* ---- life ---------------------------------------------------------------------------------- */

void cluster_tell_link(struct cluster *c, uint32_t node, uint32_t other, bool up)
{
    struct event e = {.type = up ? EVENT_NODE_UP : EVENT_NODE_DOWN};

    if (up) {
        e.u.node_up.node = other;
        e.u.node_up.n_workers = 1;
    } else {
        e.u.node_down.node = other;
    }
    cluster_step(c, node, &e);
}

void cluster_tell_links(struct cluster *c, uint32_t node, bool up)
{
    c->cut[node] = !up;
    for (uint32_t i = 0; i < CLUSTER_NODES; i++) {
        if (i == node)
            continue;
        cluster_tell_link(c, i, node, up);
        cluster_tell_link(c, node, i, up);
    }
}

void cluster_judge_clock(struct cluster *c, uint32_t node, bool right)
{
    struct event e = {.type = EVENT_CLOCK};

    e.u.clock.right = right;
    e.u.clock.offset_ms = (int64_t)(c->wall_ms - c->now_ms);
    cluster_step(c, node, &e);
}

static void start_worker(struct cluster *c, uint32_t node)
{
    struct worker_config config = {.node = node,
                                   .n_workers = 1,
                                   .boot = c->boots[node],
                                   .seed = 1 + node + CLUSTER_NODES * c->boots[node],
                                   .compare_ms = CLUSTER_COMPARE_MS,
                                   .purge_age_ms = c->options.purge_age_ms,
                                   .name = slice_str("n"),
                                   .software = slice_str("quoitd test")};

    config.node_id.b[0] = (uint8_t)(node + 1);
    config.clock_bound_ms = c->stores[node]->ops->clock_bound(c->stores[node]);
    c->workers[node] = worker_new(&config);
    assert_non_null(c->workers[node]);
}

void cluster_restart(struct cluster *c, uint32_t node)
{
    cluster_tell_links(c, node, false);
    worker_free(c->workers[node]);
    c->boots[node]++;
    start_worker(c, node);
    cluster_publish(c, node);
    cluster_tell_links(c, node, true);
    cluster_settle(c);
}

struct cluster *cluster_new(const struct cluster_options *options)
{
    struct cluster *c = calloc(1, sizeof(*c));
    struct store_config store = {.n_workers = 1, .notify = notify, .fatal = fatal};

    assert_non_null(c);
    if (options)
        c->options = *options;
    if (!c->options.n_partitions)
        c->options.n_partitions = DEFAULT_PARTITIONS;
    if (!c->options.replicas)
        c->options.replicas = DEFAULT_REPLICAS;
    c->now_ms = 1000;
    c->wall_ms = 1700000000000;
    arena_init(&c->arena, 0);
    arena_init(&c->hand_arena, 0);
    buf_init(&c->scratch);
    arena_init(&c->ring_arena, 0);
    cluster_make_ring(c, 1);
    for (uint32_t i = 0; i < CLUSTER_NODES; i++) {
        assert_int_equal(store_mem_open(&store, &c->stores[i]), 0);
        start_worker(c, i);
    }
    return c;
}

void cluster_start(struct cluster *c)
{
    cluster_publish_all(c);
    for (uint32_t i = 0; i < CLUSTER_NODES; i++)
        for (uint32_t k = 0; k < CLUSTER_NODES; k++)
            if (i != k)
                cluster_tell_link(c, i, k, true);
    cluster_settle(c);
}

void cluster_free(struct cluster *c)
{
    for (uint32_t i = 0; i < CLUSTER_NODES; i++) {
        worker_free(c->workers[i]);
        c->stores[i]->ops->close(c->stores[i]);
    }
    for (uint32_t i = c->at; i < c->n; i++)
        blob_unref(c->queue[i].bytes);
    for (uint32_t i = 0; i < c->n_held; i++)
        blob_unref(c->held[i].bytes);
    blob_unref(c->hand_bytes);
    ring_unref(c->ring);
    arena_deinit(&c->ring_arena);
    arena_deinit(&c->hand_arena);
    arena_deinit(&c->arena);
    buf_deinit(&c->scratch);
    free(c);
}

/* ---- records ------------------------------------------------------------------------------- */

struct key cluster_key(uint32_t number, char text[32])
{
    snprintf(text, 32, "key %u", number);
    return (struct key){.bucket = BUCKET_DEFAULT, .partition = slice_str(text)};
}

struct key cluster_key_in(struct cluster *c, uint32_t partition, uint32_t number, char text[32])
{
    struct key key;

    for (uint32_t i = 0, n = 0;; i++) {
        key = cluster_key(i, text);
        if (ring_partition(c->ring, ring_token(c->ring, &key)) == partition && n++ == number)
            return key;
    }
}

void cluster_write_record(struct cluster *c, uint32_t node, struct key key, uint64_t age_ms,
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

void cluster_write_key(struct cluster *c, uint32_t node, uint32_t number, uint64_t age_ms,
                       const char *value)
{
    char text[32];

    cluster_write_record(c, node, cluster_key(number, text), age_ms, slice_str(value ? value : ""),
                         !value);
}

struct state cluster_state(struct cluster *c, uint32_t node, struct key key)
{
    struct store *s = c->stores[node];
    struct state state;
    uint64_t lsn;

    assert_int_equal(s->ops->get(s, 0, ring_token(c->ring, &key), &key, &state, &lsn), 0);
    return state;
}

void cluster_assert_holds(struct cluster *c, uint32_t node, struct key key, const char *value)
{
    struct state state = cluster_state(c, node, key);

    assert_int_equal(state.kind, value ? STATE_LWW : STATE_NONE);
    if (value)
        assert_true(slice_equal(state.value, slice_str(value)));
    c->stores[node]->ops->read_end(c->stores[node], 0);
}

bool cluster_is_equal(struct cluster *c)
{
    static uint64_t a[1u << STORE_LEAF_BITS], b[1u << STORE_LEAF_BITS];
    struct store_range all = {0, UINT64_MAX};
    uint64_t lsn;

    assert_int_equal(c->stores[0]->ops->leaves(c->stores[0], 0, all, a, &lsn), 0);
    for (uint32_t i = 1; i < CLUSTER_NODES; i++) {
        assert_int_equal(c->stores[i]->ops->leaves(c->stores[i], 0, all, b, &lsn), 0);
        if (memcmp(a, b, sizeof(a)) != 0)
            return false;
    }
    return true;
}
