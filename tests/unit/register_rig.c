/* register_rig: see the header. */
#include "tests/unit/register_rig.h"

#include <stdio.h>

#include "proto/frame.h"
#include "server/core/register_facts.h"
#include "server/core/ring.h"

/* ---- rings --------------------------------------------------------------------------------- */

struct wire_id id_of(uint32_t n)
{
    struct wire_id id = {{(uint8_t)n}};

    return id;
}

/* Epoch 1, of seven members, the first n_voters of which vote. */
void form_ring(struct buf *out, uint32_t n_voters)
{
    static char names[N][12];
    struct wire_member members[N] = {0};
    struct ring_form_input in = {
        .members = members, .n_members = N, .replicas = 1, .n_partitions = 64};
    uint32_t voters[N];
    struct wire_ring ring;
    struct arena arena;

    in.cluster_id = id_of(99);
    for (uint32_t i = 0; i < N; i++) {
        snprintf(names[i], sizeof(names[i]), "n%u", i + 1);
        members[i] =
            (struct wire_member){.id = id_of(i + 1), .name = slice_str(names[i]), .weight = 1};
        voters[i] = i;
    }
    arena_init(&arena, WIRE_ARENA_BUDGET_RING);
    assert_int_equal(ring_form(&in, &arena, &ring), 0);
    ring.voters = voters;
    ring.n_voters = n_voters;
    assert_int_equal(wire_ring_pack(&ring, out), 0);
    arena_deinit(&arena);
}

/* The ring that follows: the fence of one partition grown, or with other voters (1 .. n; 0: as
 * before). */
void next_ring(const struct buf *ring, uint32_t partition, const char *voters, struct buf *out)
{
    uint32_t indices[N], fence[64];
    struct wire_ring w;
    struct arena arena;

    arena_init(&arena, WIRE_ARENA_BUDGET_RING);
    assert_int_equal(wire_ring_unpack(buf_slice(ring), &arena, &w), 0);
    w.epoch++;
    memcpy(fence, w.fence, sizeof(fence));
    fence[partition] += !voters;
    w.fence = fence;
    for (size_t i = 0; voters && i < strlen(voters); i++)
        indices[i] = (uint32_t)(voters[i] - '1');
    if (voters) {
        w.voters = indices;
        w.n_voters = strlen(voters);
    }
    out->len = 0;
    assert_int_equal(wire_ring_pack(&w, out), 0);
    arena_deinit(&arena);
}

/* ---- the rig ------------------------------------------------------------------------------- */

#define note(rig, ...) test_note((rig)->trace, sizeof((rig)->trace), __VA_ARGS__)

void expect(struct rig *rig, const char *what)
{
    assert_string_equal(rig->trace, what);
    rig->trace[0] = 0;
}

static void note_message(struct rig *rig, uint32_t from, uint32_t to, const struct wire_peer *msg)
{
    static const char *const names[] = {"prepare", "promise", "accept", "accepted"};
    const struct wire_register *reg = msg->u.reg;

    note(rig, "%u>%u %s %llu.%u", from, to,
         reg->promised.counter ? "no" : names[msg->type - PEER_REGISTER_PREPARE],
         (unsigned long long)reg->ballot.counter, reg->ballot.node.b[0]);
    if (reg->accepted.counter)
        note(rig, " has %llu.%u%s", (unsigned long long)reg->accepted.counter,
             reg->accepted.node.b[0], reg->ring.len ? "" : " as known");
    note(rig, "\n");
}

static void send(struct rig *rig, uint32_t from, const struct register_effect *e)
{
    struct mail *m = &rig->mails[rig->n_mails];

    assert_true(rig->n_mails < MAILS);
    rig->n_mails++;
    *m = (struct mail){.from = from, .to = e->to.b[0], .type = e->msg.type};
    assert_true(m->to != from);
    assert_int_equal(wire_peer_pack(&e->msg, &m->bytes), 0);
}

void keep(struct buf *to, struct slice bytes)
{
    to->len = 0;
    assert_int_equal(buf_append_slice(to, bytes), 0);
}

static void collect(struct rig *rig, uint32_t n, const struct register_effects *fx)
{
    struct node *node = &rig->nodes[n];

    for (uint32_t i = 0; i < fx->n; i++) {
        const struct register_effect *e = &fx->list[i];

        if (e->type == REGISTER_SEND) {
            send(rig, n, e);
        } else if (e->type == REGISTER_STORE) {
            assert_false(node->writing);
            node->writing = true;
            node->cookie = e->cookie;
            snprintf(node->name, sizeof(node->name), "%s", e->name);
            keep(&node->value, e->value);
        } else if (e->type == REGISTER_PUBLISH) {
            assert_true(e->epoch > node->published);
            node->published = e->epoch;
            keep(&node->ring, e->ring);
        } else {
            node->outcome = (int)e->outcome;
            node->epoch = e->epoch;
            node->why = e->why;
        }
    }
}

void feed(struct rig *rig, uint32_t n, struct register_event event)
{
    static struct register_effects fx;

    event.now_ms = rig->now_ms;
    register_step(rig->nodes[n].r, &event, &fx);
    collect(rig, n, &fx);
}

void start(struct rig *rig, uint32_t n)
{
    struct node *node = &rig->nodes[n];
    struct register_config config = {.self = id_of(n),
                                     .boot = ++node->boot,
                                     .seed = n,
                                     .promise = buf_slice(&node->promise),
                                     .accepted = buf_slice(&node->accepted),
                                     .ring = buf_slice(&node->ring)};

    assert_int_equal(register_new(&config, &node->r), 0);
}

/* What is not on disk is lost, and what it has said is under way all the same. */
void crash(struct rig *rig, uint32_t n)
{
    register_free(rig->nodes[n].r);
    rig->nodes[n].r = NULL;
    rig->nodes[n].writing = false;
}

void restart(struct rig *rig, uint32_t n)
{
    crash(rig, n);
    start(rig, n);
}

void rig_init(struct rig *rig, uint32_t n_voters)
{
    memset(rig, 0, sizeof(*rig));
    rig->now_ms = 1000;
    for (uint32_t n = 1; n <= N; n++) {
        form_ring(&rig->nodes[n].ring, n_voters);
        start(rig, n);
    }
}

void rig_deinit(struct rig *rig)
{
    for (uint32_t i = 0; i < rig->n_mails; i++)
        buf_deinit(&rig->mails[i].bytes);
    for (uint32_t n = 1; n <= N; n++) {
        struct node *node = &rig->nodes[n];

        register_free(node->r);
        buf_deinit(&node->promise);
        buf_deinit(&node->accepted);
        buf_deinit(&node->ring);
        buf_deinit(&node->value);
    }
}

/* A message comes, as often as wanted; whoever is down or cut off does not hear it. */
void deliver(struct rig *rig, const struct mail *m)
{
    struct register_event event = {.type = REGISTER_MESSAGE};
    struct wire_peer msg;
    struct arena arena;
    struct slice body;
    size_t used, want;

    if (!rig->nodes[m->to].r || (rig->cut[m->from] >> m->to & 1))
        return;
    arena_init(&arena, WIRE_ARENA_BUDGET(m->bytes.len));
    assert_int_equal(frame_next(buf_slice(&m->bytes), &body, &used, &want), 1);
    assert_int_equal(wire_peer_unpack(body, &arena, &msg), 0);
    note_message(rig, m->from, m->to, &msg);
    event.u.message.from = id_of(m->from);
    event.u.message.msg = &msg;
    feed(rig, m->to, event);
    arena_deinit(&arena);
}

struct mail take_mail(struct rig *rig, uint32_t i)
{
    struct mail m = rig->mails[i];

    rig->n_mails--;
    memmove(&rig->mails[i], &rig->mails[i + 1], (rig->n_mails - i) * sizeof(m));
    return m;
}

void synced(struct rig *rig, uint32_t n)
{
    struct node *node = &rig->nodes[n];
    struct register_event event = {.type = REGISTER_STORED};

    assert_true(node->writing);
    node->writing = false;
    event.u.stored.cookie = node->cookie;
    event.u.stored.error = node->failing ? -ERR_NO_SPACE : 0;
    if (!node->failing)
        keep(strcmp(node->name, REGISTER_FACT_PROMISE) == 0 ? &node->promise : &node->accepted,
             buf_slice(&node->value));
    feed(rig, n, event);
}

/* Syncs and messages, until nothing is under way, or so many messages have come. */
void run_some(struct rig *rig, uint32_t n_messages)
{
    for (bool more = true; more && n_messages > 0;) {
        more = false;
        for (uint32_t n = 1; n <= N; n++)
            if (rig->nodes[n].writing && !rig->nodes[n].held) {
                synced(rig, n);
                more = true;
            }
        if (rig->n_mails > 0) {
            struct mail m = take_mail(rig, 0);

            deliver(rig, &m);
            buf_deinit(&m.bytes);
            n_messages--;
            more = true;
        }
    }
}

void run(struct rig *rig)
{
    run_some(rig, UINT32_MAX);
}

/* So much time goes by. */
void pass(struct rig *rig, uint64_t ms)
{
    for (uint64_t end_ms = rig->now_ms + ms; rig->now_ms < end_ms; rig->now_ms += 5) {
        for (uint32_t n = 1; n <= N; n++)
            if (rig->nodes[n].r && register_deadline_ms(rig->nodes[n].r) <= rig->now_ms)
                feed(rig, n, (struct register_event){.type = REGISTER_TICK});
        run(rig);
    }
}

/* Until the operation of the node has an outcome. */
void wait_for(struct rig *rig, uint32_t n)
{
    run(rig);
    for (uint32_t i = 0; i < 10000 && rig->nodes[n].outcome == NONE_SEEN; i++)
        pass(rig, 5);
}

static void change_to(struct rig *rig, uint32_t n, uint32_t partition, const char *voters)
{
    struct register_event event = {.type = REGISTER_CHANGE};
    struct buf next = {0};

    next_ring(&rig->nodes[n].ring, partition, voters, &next);
    rig->nodes[n].outcome = NONE_SEEN;
    event.u.change.id = n;
    event.u.change.until_ms = rig->now_ms + UNTIL_MS;
    event.u.change.ring = buf_slice(&next);
    feed(rig, n, event);
    buf_deinit(&next);
}

void change(struct rig *rig, uint32_t n, uint32_t partition)
{
    change_to(rig, n, partition, NULL);
}

void change_voters(struct rig *rig, uint32_t n, const char *voters)
{
    change_to(rig, n, 0, voters);
}

void read_ring(struct rig *rig, uint32_t n)
{
    rig->nodes[n].outcome = NONE_SEEN;
    feed(rig, n,
         (struct register_event){.type = REGISTER_READ,
                                 .u.read = {.id = n, .until_ms = rig->now_ms + UNTIL_MS}});
}

/* What a node serves reaches another. */
void gossip(struct rig *rig, uint32_t from, uint32_t to)
{
    keep(&rig->nodes[to].ring, buf_slice(&rig->nodes[from].ring));
    feed(rig, to,
         (struct register_event){.type = REGISTER_RING, .u.ring = buf_slice(&rig->nodes[to].ring)});
}

void gossip_to_all(struct rig *rig, uint32_t from)
{
    for (uint32_t n = 1; n <= N; n++)
        if (n != from && rig->nodes[n].r)
            gossip(rig, from, n);
}

void decide(struct rig *rig, uint32_t n, const char *voters)
{
    change_voters(rig, n, voters);
    wait_for(rig, n);
    assert_int_equal(rig->nodes[n].outcome, REGISTER_DECIDED);
    gossip_to_all(rig, n);
}
