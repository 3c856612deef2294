/* story: see story.h. */
#include "tests/unit/story.h"
#include "storage/merge.h"
#include "tests/unit/test.h"

#include <stdio.h>
#include <stdlib.h>

const struct key story_key = {.bucket = BUCKET_DEFAULT,
                              .partition = {.data = (const uint8_t *)"k", .len = 1}};

static const char *const outcome_names[] = {"none", "stored", "duplicate", "superseded", "floor"};

/* ---- writing down -------------------------------------------------------------------------- */

/* A line. */
#define note(s, format, ...)                                                                       \
    test_note((s)->lines, sizeof((s)->lines), format "\n" __VA_OPT__(, ) __VA_ARGS__)

static const char *value_text(const struct state *state)
{
    static char text[80];

    if (state->deleted)
        return "deleted";
    snprintf(text, sizeof text, "\"%.*s\"", (int)(state->value.len < 64 ? state->value.len : 64),
             (const char *)state->value.data);
    return text;
}

static void note_reply(struct story *s, const struct wire_response *r)
{
    const struct wire_get_result *get = &r->u.get;

    if (r->error.code)
        note(s, "reply %u %s", (unsigned)r->id, err_name(r->error.code));
    else if (r->type == RESULT_GET && get->found)
        note(s, "reply %u found \"%.*s\"", (unsigned)r->id, (int)get->value.len,
             (const char *)get->value.data);
    else if (r->type == RESULT_GET)
        note(s, "reply %u absent", (unsigned)r->id);
    else
        note(s, "reply %u ok", (unsigned)r->id);
}

static void note_answer(struct story *s, uint64_t to, const struct wire_peer *m)
{
    if (m->error)
        note(s, "answer %u %s", (unsigned)to, err_name(m->error));
    else if (m->type == PEER_PUT_REPLY)
        note(s, "answer %u %s", (unsigned)to, outcome_names[m->u.put_reply.outcome]);
    else if (m->type == PEER_GET_REPLY && m->u.get_reply.found == FOUND_ABSENT)
        note(s, "answer %u absent", (unsigned)to);
    else if (m->type == PEER_GET_REPLY && m->u.get_reply.found == FOUND_DIGEST)
        note(s, "answer %u digest", (unsigned)to);
    else if (m->type == PEER_GET_REPLY)
        note(s, "answer %u state %s", (unsigned)to, value_text(&m->u.get_reply.state));
    else
        note(s, "answer %u page of %zu", (unsigned)to, m->u.scan_reply.n_records);
}

static void note_send(struct story *s, const struct addr *to, const struct wire_peer *m)
{
    if (to->kind == ADDR_LINK) {
        note_answer(s, to->link, m);
        return;
    }
    if (to->kind == ADDR_WORKER) {
        note(s, "mail worker %u", to->worker);
    } else if (m->type == PEER_PUT) {
        note(s, "send n%u put %s %s", to->node, m->u.put.first_hand ? "first" : "state",
             value_text(&m->u.put.state));
        s->last_version = m->u.put.state.version;
    } else if (m->type == PEER_GET) {
        note(s, "send n%u get %s", to->node, m->u.get.digest ? "digest" : "full");
    } else {
        note(s, "send n%u scan", to->node);
    }
    assert_true(s->n_sent < STORY_SENT_MAX);
    s->sent[s->n_sent].node = to->kind == ADDR_WORKER ? 1000 + to->worker : to->node;
    s->sent[s->n_sent++].msg = *m;
}

static const char *const trace_names[] = {"",       "CLOCK_AHEAD", "CLOCK_WAIT", "RESTAMP",
                                          "REPAIR", "CORRUPT",     "OVERLOADED", "HEDGE"};

static bool note_store(struct story *s, const struct store_op *op)
{
    if (op->type == STORE_OP_CLOCK && s->quiet_clock)
        return true;
    assert_true(s->n_stores + 1 < STORY_STORES_MAX);
    s->stores[++s->n_stores] = op->cookie;
    if (op->type == STORE_OP_CLOCK) {
        note(s, "store clock %u", s->n_stores);
        return false;
    }
    s->last_version = op->state.version;
    note(s, op->heal ? "store heal %u" : "store put %u", s->n_stores);
    return false;
}

/* Returns true when a quiet lease is to be granted. */
static bool note_effect(struct story *s, const struct effect *e)
{
    switch (e->type) {
    case EFFECT_REPLY:
        note_reply(s, &e->u.reply.response);
        break;
    case EFFECT_SEND:
        note_send(s, &e->u.send.to, &e->u.send.msg);
        break;
    case EFFECT_GET:
        s->gets[++s->n_gets] = e->u.get.cookie;
        note(s, "get %u", s->n_gets);
        break;
    case EFFECT_SCAN:
        s->scans[++s->n_scans] = e->u.scan.cookie;
        note(s, "scan %u", s->n_scans);
        break;
    case EFFECT_LEAVES:
        s->leaves = e->u.leaves.cookie;
        note(s, "leaves");
        break;
    case EFFECT_INFO:
    case EFFECT_PURGE:
        fail_msg("no story purges");
        break;
    case EFFECT_STORE:
        return note_store(s, &e->u.store);
    case EFFECT_TRACE:
        if (e->u.trace.type == TRACE_HEDGE)
            note(s, "trace HEDGE s%u", (unsigned)e->u.trace.b);
        else
            note(s, "trace %s", trace_names[e->u.trace.type]);
        break;
    }
    return false;
}

void story_step(struct story *s, struct event *e)
{
    bool grant = false;
    int rc;

    e->now_ms = s->now_ms;
    e->wall_ms = s->wall_ms;
    do {
        /* The list is never cleared: what an effect does not set is what was there before. */
        memset(s->effects.list, 1, sizeof(s->effects.list));
        rc = worker_step(s->worker, e, &s->effects);
        for (uint32_t i = 0; i < s->effects.n; i++)
            grant |= note_effect(s, &s->effects.list[i]);
        *e = (struct event){.type = EVENT_MORE, .now_ms = s->now_ms, .wall_ms = s->wall_ms};
    } while (rc == STEP_MORE);
    if (grant) {
        struct event done = {.type = EVENT_STORED};

        done.u.stored.cookie = UINT64_MAX;
        story_step(s, &done);
    }
}

void story_expect_(struct story *s, const char *text, const char *file, int line)
{
    if (strcmp(s->lines, text) != 0) {
        print_error("%s:%d: expected\n%s---- but it was\n%s----\n", file, line, text, s->lines);
        _fail(file, line);
    }
    s->lines[0] = '\0';
}

/* ---- life ---------------------------------------------------------------------------------- */

static void make_ring(struct story *s, uint32_t n_nodes, uint32_t replicas,
                      const char *const zones[])
{
    static const char *names[] = {"n0", "n1", "n2", "n3", "n4"};
    struct wire_member members[5] = {0};
    struct ring_form_input in = {.members = members, .n_members = n_nodes, .replicas = replicas};
    struct wire_ring wire;

    for (uint32_t i = 0; i < n_nodes; i++) {
        members[i].id.b[0] = (uint8_t)(i + 1);
        members[i].name = slice_str(names[i]);
        members[i].client_address = slice_str("127.0.0.1:1");
        members[i].peer_address = slice_str("127.0.0.1:2");
        members[i].weight = 1;
        if (zones[i])
            members[i].zone = slice_str(zones[i]);
    }
    in.cluster_id.b[0] = 7;
    arena_init(&s->arena, WIRE_ARENA_BUDGET_RING);
    assert_int_equal(ring_form(&in, &s->arena, &wire), 0);
    assert_int_equal(ring_new(&wire, NULL, NULL, &s->ring), 0);
}

void story_start(struct story *s, const struct story_options *given)
{
    struct story_options o = *given;
    struct worker_config config = {.node = 0, .worker = 0, .seed = 1};
    struct event e = {.type = EVENT_RING};

    o.n_nodes = o.n_nodes ? o.n_nodes : 3;
    o.replicas = o.replicas ? o.replicas : 3;
    memset(s, 0, sizeof *s);
    s->now_ms = 1000;
    s->wall_ms = 1700000000000;
    s->quiet_clock = true;
    make_ring(s, o.n_nodes, o.replicas, o.zones);
    config.node_id.b[0] = 1;
    config.n_workers = o.n_workers ? o.n_workers : 1;
    config.clock_bound_ms = o.clock_bound_ms;
    config.ops_max = o.ops_max;
    config.name = slice_str("n0");
    config.software = slice_str("quoitd test");
    s->worker = worker_new(&config);
    assert_non_null(s->worker);
    e.u.ring.ring = s->ring;
    if (!o.no_ring)
        story_step(s, &e);
    for (uint32_t i = 1; i < o.n_nodes; i++)
        story_up(s, i);
    story_expect(s, "");
}

void story_end(struct story *s)
{
    worker_free(s->worker);
    ring_unref(s->ring);
    arena_deinit(&s->arena);
}

/* ---- events -------------------------------------------------------------------------------- */

void story_up(struct story *s, uint32_t node)
{
    struct event e = {.type = EVENT_NODE_UP};

    e.u.node_up.node = node;
    e.u.node_up.n_workers = 1;
    story_step(s, &e);
}

void story_down(struct story *s, uint32_t node)
{
    struct event e = {.type = EVENT_NODE_DOWN};

    e.u.node_down.node = node;
    story_step(s, &e);
}

void story_seen(struct story *s, uint32_t node, enum wire_member_state state)
{
    struct event e = {.type = EVENT_NODE_SEEN, .u.node_seen = {.node = node, .state = state}};

    story_step(s, &e);
}

void story_pass(struct story *s, uint64_t ms)
{
    struct event e = {.type = EVENT_TICK};

    s->now_ms += ms;
    s->wall_ms += ms;
    story_step(s, &e);
}

static void request(struct story *s, struct wire_request *r, enum wire_op op, uint64_t id,
                    enum wire_level level)
{
    struct event e = {.type = EVENT_REQUEST};

    r->op = op;
    r->id = id;
    r->level = level;
    r->deadline_ms = 1000;
    r->key = story_key;
    e.u.request.conn = 1;
    e.u.request.request = r;
    e.u.request.waited_ms = s->waited_ms;
    story_step(s, &e);
}

void story_put(struct story *s, uint64_t id, enum wire_level level, const char *value)
{
    struct wire_request r = {.value = slice_str(value)};

    request(s, &r, OP_PUT, id, level);
}

void story_del(struct story *s, uint64_t id, enum wire_level level)
{
    struct wire_request r = {0};

    request(s, &r, OP_DELETE, id, level);
}

void story_get(struct story *s, uint64_t id, enum wire_level level)
{
    struct wire_request r = {0};

    request(s, &r, OP_GET, id, level);
}

void story_stored(struct story *s, uint32_t n, int error, enum wire_outcome outcome,
                  struct version version)
{
    struct event e = {.type = EVENT_STORED};

    e.u.stored = (struct store_done){
        .cookie = s->stores[n], .error = error, .outcome = outcome, .version = version};
    story_step(s, &e);
}

void story_got(struct story *s, uint32_t n, int error, const struct state *state, uint64_t lsn)
{
    struct event e = {.type = EVENT_GOT};

    e.u.got.cookie = s->gets[n];
    e.u.got.error = error;
    if (state)
        e.u.got.state = *state;
    e.u.got.lsn = lsn;
    story_step(s, &e);
}

/* The newest request to the node, turned into the envelope of its answer. */
static struct wire_peer answer_to(struct story *s, uint32_t node, enum wire_peer_type type,
                                  int error, bool *ret_digest)
{
    for (uint32_t i = s->n_sent; i-- > 0;) {
        struct wire_peer m = s->sent[i].msg;

        if (s->sent[i].node != node)
            continue;
        *ret_digest = m.type == PEER_GET && m.u.get.digest;
        memset(&m.u, 0, sizeof m.u);
        m.type = type;
        m.error = error;
        m.hlc = 0;
        return m;
    }
    fail_msg("nothing was sent to n%u", node);
    abort();
}

static void answer(struct story *s, uint32_t node, const struct wire_peer *m)
{
    struct event e = {.type = EVENT_PEER};

    e.u.peer.from = (struct addr){.kind = ADDR_LINK, .link = 1};
    e.u.peer.node = node;
    e.u.peer.msg = m;
    story_step(s, &e);
}

void story_answer_put(struct story *s, uint32_t node, int error, enum wire_outcome outcome,
                      struct version version)
{
    bool digest;
    struct wire_peer m = answer_to(s, node, PEER_PUT_REPLY, error, &digest);

    m.u.put_reply.outcome = outcome;
    m.u.put_reply.version = version;
    answer(s, node, &m);
}

void story_answer_get(struct story *s, uint32_t node, int error, const struct state *state)
{
    bool digest;
    struct wire_peer m = answer_to(s, node, PEER_GET_REPLY, error, &digest);

    if (state && state->kind) {
        m.u.get_reply.found = digest ? FOUND_DIGEST : FOUND_STATE;
        m.u.get_reply.state = *state;
        if (digest) {
            m.u.get_reply.digest = merge_digest(&story_key, state);
            m.u.get_reply.state.value = (struct slice){0};
        }
    }
    answer(s, node, &m);
}

struct state story_state(uint64_t hlc, const char *value)
{
    struct state state = {.kind = STATE_LWW, .deleted = !value};

    state.version = (struct version){.hlc = hlc, .actor = 9};
    if (value)
        state.value = slice_str(value);
    return state;
}
