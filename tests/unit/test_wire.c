/* Round trips: every message comes back as it went, field by field; and what the schema leaves open
 * (defaults, absent fields) reads as documented.
 */
#include "test.h"

#include "proto/frame.h"
#include "tests/unit/wire_sample.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- comparing --------------------------------------------------------------------------- */

static void assert_slice(struct slice a, struct slice b)
{
    assert_int_equal(a.len, b.len);
    assert_true(slice_equal(a, b));
}

static void assert_id(const struct wire_id *a, const struct wire_id *b)
{
    assert_memory_equal(a->b, b->b, WIRE_ID_BYTES);
}

static void assert_version(struct version a, struct version b)
{
    assert_true(a.hlc == b.hlc);
    assert_true(a.actor == b.actor);
}

static void assert_key(const struct key *a, const struct key *b)
{
    assert_int_equal(a->bucket, b->bucket);
    assert_slice(a->partition, b->partition);
    assert_slice(a->sort, b->sort);
}

static void assert_state(const struct state *a, const struct state *b)
{
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->deleted, b->deleted);
    assert_version(a->version, b->version);
    assert_slice(a->value, b->value);
}

static void assert_records(const struct wire_record *a, size_t n_a, const struct wire_record *b,
                           size_t n_b)
{
    assert_int_equal(n_a, n_b);
    for (size_t i = 0; i < n_a; i++) {
        assert_key(&a[i].key, &b[i].key);
        assert_state(&a[i].state, &b[i].state);
    }
}

static void assert_member(const struct wire_member *a, const struct wire_member *b)
{
    assert_id(&a->id, &b->id);
    assert_slice(a->name, b->name);
    assert_slice(a->client_address, b->client_address);
    assert_slice(a->peer_address, b->peer_address);
    assert_slice(a->zone, b->zone);
    assert_int_equal(a->weight, b->weight);
}

static void assert_array(const void *a, const void *b, size_t bytes)
{
    assert_int_equal(a != NULL, b != NULL);
    if (a && bytes)
        assert_memory_equal(a, b, bytes);
}

static void assert_ring(const struct wire_ring *a, const struct wire_ring *b)
{
    assert_true(a->epoch == b->epoch);
    assert_id(&a->cluster_id, &b->cluster_id);
    assert_int_equal(a->space.seed, b->space.seed);
    assert_memory_equal(a->space.secret, b->space.secret, TOKEN_SECRET_BYTES);
    assert_int_equal(a->n_partitions, b->n_partitions);
    assert_int_equal(a->n_replicas, b->n_replicas);
    assert_int_equal(a->n_slots, b->n_slots);
    assert_true(a->next_incarnation == b->next_incarnation);
    assert_int_equal(a->n_members, b->n_members);
    for (size_t i = 0; i < a->n_members; i++)
        assert_member(&a->members[i], &b->members[i]);
    assert_int_equal(a->n_voters, b->n_voters);
    assert_array(a->voters, b->voters, a->n_voters * sizeof(uint32_t));
    assert_int_equal(a->n_buckets, b->n_buckets);
    assert_array(a->buckets, b->buckets, a->n_buckets * sizeof(uint32_t));
    size_t n = (size_t)a->n_partitions * a->n_slots;
    assert_array(a->fence, b->fence, a->n_partitions * sizeof(uint32_t));
    assert_array(a->primary, b->primary, a->n_partitions * sizeof(uint32_t));
    assert_array(a->slot_member, b->slot_member, n * sizeof(uint32_t));
    assert_array(a->slot_incarnation, b->slot_incarnation, n * sizeof(uint64_t));
    assert_array(a->slot_state, b->slot_state, n * sizeof(uint32_t));
}

static void assert_request(const struct wire_request *a, const struct wire_request *b)
{
    assert_true(a->id == b->id);
    assert_int_equal(a->deadline_ms, b->deadline_ms);
    assert_true(a->ring_epoch == b->ring_epoch);
    assert_true(a->hlc == b->hlc);
    assert_int_equal(a->op, b->op);
    assert_int_equal(a->level, b->level);
    assert_slice(a->value, b->value);
    if (a->op == OP_GET || a->op == OP_PUT || a->op == OP_DELETE)
        assert_key(&a->key, &b->key);
    if (a->op == OP_HELLO) {
        assert_int_equal(a->u.hello.protocol, b->u.hello.protocol);
        assert_slice(a->u.hello.client, b->u.hello.client);
        assert_int_equal(a->u.hello.worker, b->u.hello.worker);
    }
    if (a->op == OP_STATUS)
        assert_int_equal(a->u.status.ring, b->u.status.ring);
    if (a->op == OP_SCAN) {
        assert_int_equal(a->u.scan.partition, b->u.scan.partition);
        assert_int_equal(a->u.scan.n_partitions, b->u.scan.n_partitions);
        assert_slice(a->u.scan.cursor, b->u.scan.cursor);
        assert_int_equal(a->u.scan.page_bytes, b->u.scan.page_bytes);
    }
}

static void assert_load(const struct wire_load *a, const struct wire_load *b)
{
    assert_int_equal(a->number, b->number);
    assert_true(a->n_keys == b->n_keys && a->n_bytes == b->n_bytes);
    assert_true(a->ops_per_s == b->ops_per_s && a->p99_us == b->p99_us);
    assert_int_equal(a->disk_percent, b->disk_percent);
    assert_int_equal(a->flags, b->flags);
}

static void assert_member_statuses(const struct wire_member_status *a,
                                   const struct wire_member_status *b, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct wire_member_status *m = &a[i], *n = &b[i];

        assert_member(&m->member, &n->member);
        assert_int_equal(m->state, n->state);
        assert_true(m->state_ms == n->state_ms && m->heard_ms == n->heard_ms);
        assert_int_equal(m->voter, n->voter);
        assert_int_equal(m->n_slots, n->n_slots);
        assert_int_equal(m->n_joining, n->n_joining);
        assert_true(m->boot == n->boot);
        assert_slice(m->software, n->software);
        assert_load(&m->load, &n->load);
    }
}

static void assert_status(const struct wire_status_result *a, const struct wire_status_result *b)
{
    assert_int_equal(a->verdict, b->verdict);
    assert_slice(a->text, b->text);
    assert_id(&a->node_id, &b->node_id);
    assert_id(&a->cluster_id, &b->cluster_id);
    assert_true(a->epoch == b->epoch);
    assert_int_equal(a->n_partitions, b->n_partitions);
    assert_int_equal(a->n_replicas, b->n_replicas);
    assert_int_equal(a->n_up, b->n_up);
    assert_memory_equal(a->n_by_live, b->n_by_live, sizeof(a->n_by_live));
    assert_int_equal(a->n_no_quorum, b->n_no_quorum);
    assert_int_equal(a->n_no_write, b->n_no_write);
    assert_int_equal(a->n_members, b->n_members);
    assert_member_statuses(a->members, b->members, a->n_members);
    assert_int_equal(a->n_candidates, b->n_candidates);
    assert_member_statuses(a->candidates, b->candidates, a->n_candidates);
    assert_int_equal(a->n_problems, b->n_problems);
    for (size_t i = 0; i < a->n_problems; i++) {
        assert_int_equal(a->problems[i].kind, b->problems[i].kind);
        assert_int_equal(a->problems[i].member, b->problems[i].member);
        assert_slice(a->problems[i].text, b->problems[i].text);
        assert_slice(a->problems[i].advice, b->problems[i].advice);
    }
    assert_int_equal(a->ring != NULL, b->ring != NULL);
    if (a->ring)
        assert_ring(a->ring, b->ring);
    assert_int_equal(a->vnode_records != NULL, b->vnode_records != NULL);
    for (uint32_t p = 0; a->vnode_records && p < a->ring->n_partitions; p++) {
        assert_true(a->vnode_records[p] == b->vnode_records[p]);
        assert_true(a->vnode_tombstones[p] == b->vnode_tombstones[p]);
        assert_true(a->vnode_digests[p] == b->vnode_digests[p]);
    }
}

static void assert_result(const struct wire_response *a, const struct wire_response *b)
{
    switch (a->type) {
    case RESULT_NONE:
        break;
    case RESULT_HELLO:
        assert_int_equal(a->u.hello.protocol, b->u.hello.protocol);
        assert_id(&a->u.hello.node_id, &b->u.hello.node_id);
        assert_id(&a->u.hello.cluster_id, &b->u.hello.cluster_id);
        assert_slice(a->u.hello.software, b->u.hello.software);
        assert_int_equal(a->u.hello.n_workers, b->u.hello.n_workers);
        assert_int_equal(a->u.hello.worker, b->u.hello.worker);
        break;
    case RESULT_PING:
        assert_id(&a->u.ping.node_id, &b->u.ping.node_id);
        assert_slice(a->u.ping.name, b->u.ping.name);
        assert_slice(a->u.ping.software, b->u.ping.software);
        assert_int_equal(a->u.ping.serving, b->u.ping.serving);
        break;
    case RESULT_GET:
        assert_int_equal(a->u.get.found, b->u.get.found);
        assert_slice(a->u.get.value, b->u.get.value);
        assert_version(a->u.get.version, b->u.get.version);
        assert_int_equal(a->u.get.replicas, b->u.get.replicas);
        break;
    case RESULT_WRITE:
        assert_version(a->u.write.version, b->u.write.version);
        assert_int_equal(a->u.write.replicas, b->u.write.replicas);
        break;
    case RESULT_SCAN:
        assert_records(a->u.scan.records, a->u.scan.n_records, b->u.scan.records,
                       b->u.scan.n_records);
        assert_slice(a->u.scan.cursor, b->u.scan.cursor);
        break;
    case RESULT_RING:
        assert_ring(a->u.ring, b->u.ring);
        break;
    case RESULT_STATUS:
        assert_status(a->u.status, b->u.status);
        break;
    }
}

static void assert_response(const struct wire_response *a, const struct wire_response *b)
{
    assert_true(a->id == b->id);
    assert_true(a->ring_epoch == b->ring_epoch);
    assert_true(a->hlc == b->hlc);
    assert_int_equal(a->error.code, b->error.code);
    assert_slice(a->error.text, b->error.text);
    assert_int_equal(a->error.retryable, b->error.retryable);
    assert_true(a->error.limit == b->error.limit);
    assert_true(a->error.actual == b->error.actual);
    assert_int_equal(a->type, b->type);
    assert_result(a, b);
}

static void assert_hello(const struct wire_hello *a, const struct wire_hello *b)
{
    assert_int_equal(a->protocol, b->protocol);
    assert_int_equal(a->link, b->link);
    assert_int_equal(a->worker_from, b->worker_from);
    assert_int_equal(a->worker_to, b->worker_to);
    assert_id(&a->node_id, &b->node_id);
    assert_id(&a->cluster_id, &b->cluster_id);
    assert_true(a->boot == b->boot);
    assert_true(a->start == b->start);
    assert_int_equal(a->candidate, b->candidate);
    assert_slice(a->name, b->name);
    assert_slice(a->software, b->software);
    assert_int_equal(a->n_workers, b->n_workers);
    assert_true(a->ring_epoch == b->ring_epoch);
}

static void assert_form(const struct wire_form *a, const struct wire_form *b)
{
    assert_int_equal(a->phase, b->phase);
    assert_true(a->list_hash == b->list_hash);
    assert_int_equal(a->replicas, b->replicas);
    assert_member(&a->self, &b->self);
    assert_int_equal(a->ring != NULL, b->ring != NULL);
    if (a->ring)
        assert_ring(a->ring, b->ring);
}

static void assert_rumour(const struct wire_rumour *a, const struct wire_rumour *b)
{
    assert_true(wire_id_equal(&a->id, &b->id) && wire_id_equal(&a->by, &b->by));
    assert_true(a->boot == b->boot);
    assert_int_equal(a->refutation, b->refutation);
    assert_int_equal(a->state, b->state);
    assert_load(&a->load, &b->load);
    assert_int_equal(a->profile != NULL, b->profile != NULL);
    if (!a->profile)
        return;
    assert_int_equal(a->profile->number, b->profile->number);
    assert_member(&a->profile->member, &b->profile->member);
    assert_slice(a->profile->software, b->profile->software);
    assert_int_equal(a->profile->candidate, b->profile->candidate);
}

static void assert_gossip(const struct wire_gossip *a, const struct wire_gossip *b)
{
    assert_int_equal(a->kind, b->kind);
    assert_true(a->number == b->number && a->digest == b->digest && a->wall_ms == b->wall_ms);
    assert_true(wire_id_equal(&a->target, &b->target));
    assert_load(&a->load, &b->load);
    assert_int_equal(a->n_rumours, b->n_rumours);
    for (size_t i = 0; i < a->n_rumours; i++)
        assert_rumour(&a->rumours[i], &b->rumours[i]);
}

static void assert_numbers(const uint32_t *a, size_t n, const uint32_t *b, size_t n_b)
{
    assert_int_equal(n, n_b);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(a[i], b[i]);
}

static void assert_pull(const struct wire_peer *a, const struct wire_peer *b)
{
    assert_int_equal(a->u.pull.slot, b->u.pull.slot);
    assert_int_equal(a->u.pull.quiet_ms, b->u.pull.quiet_ms);
    assert_numbers(a->u.pull.leaves, a->u.pull.n_leaves, b->u.pull.leaves, b->u.pull.n_leaves);
    assert_slice(a->u.pull.after, b->u.pull.after);
    assert_slice(a->u.pull.until, b->u.pull.until);
    assert_int_equal(a->u.pull.n_known, b->u.pull.n_known);
    for (size_t i = 0; i < a->u.pull.n_known; i++) {
        assert_true(a->u.pull.known[i].key_hash == b->u.pull.known[i].key_hash);
        assert_version(a->u.pull.known[i].version, b->u.pull.known[i].version);
    }
}

static void assert_ballot(const struct wire_ballot *a, const struct wire_ballot *b)
{
    assert_true(a->counter == b->counter && a->boot == b->boot);
    assert_id(&a->node, &b->node);
}

static void assert_register(const struct wire_register *a, const struct wire_register *b)
{
    assert_ballot(&a->ballot, &b->ballot);
    assert_ballot(&a->known, &b->known);
    assert_ballot(&a->promised, &b->promised);
    assert_ballot(&a->accepted, &b->accepted);
    assert_slice(a->ring, b->ring);
    assert_int_equal(a->n_before, b->n_before);
    for (size_t i = 0; i < a->n_before; i++)
        assert_id(&a->before[i], &b->before[i]);
}

static void assert_peer_body(const struct wire_peer *a, const struct wire_peer *b)
{
    switch (a->type) {
    case PEER_NONE:
        break;
    case PEER_HELLO:
    case PEER_HELLO_REPLY:
        assert_hello(&a->u.hello, &b->u.hello);
        break;
    case PEER_GET:
        assert_key(&a->u.get.key, &b->u.get.key);
        assert_int_equal(a->u.get.digest, b->u.get.digest);
        break;
    case PEER_GET_REPLY:
        assert_int_equal(a->u.get_reply.found, b->u.get_reply.found);
        assert_state(&a->u.get_reply.state, &b->u.get_reply.state);
        assert_true(a->u.get_reply.digest == b->u.get_reply.digest);
        assert_true(a->u.get_reply.floor == b->u.get_reply.floor);
        break;
    case PEER_PUT:
        assert_key(&a->u.put.key, &b->u.put.key);
        assert_state(&a->u.put.state, &b->u.put.state);
        assert_int_equal(a->u.put.first_hand, b->u.put.first_hand);
        assert_int_equal(a->u.put.source, b->u.put.source);
        break;
    case PEER_PUT_REPLY:
        assert_int_equal(a->u.put_reply.outcome, b->u.put_reply.outcome);
        assert_version(a->u.put_reply.version, b->u.put_reply.version);
        break;
    case PEER_SCAN:
        assert_slice(a->u.scan.cursor, b->u.scan.cursor);
        assert_int_equal(a->u.scan.page_bytes, b->u.scan.page_bytes);
        break;
    case PEER_SCAN_REPLY:
        assert_records(a->u.scan_reply.records, a->u.scan_reply.n_records, b->u.scan_reply.records,
                       b->u.scan_reply.n_records);
        assert_slice(a->u.scan_reply.cursor, b->u.scan_reply.cursor);
        assert_true(a->u.scan_reply.floor == b->u.scan_reply.floor);
        break;
    case PEER_FORM:
        assert_form(a->u.form, b->u.form);
        break;
    case PEER_GOSSIP:
        assert_gossip(a->u.gossip, b->u.gossip);
        break;
    case PEER_COMPARE:
        assert_int_equal(a->u.compare.slot, b->u.compare.slot);
        assert_true(a->u.compare.digest == b->u.compare.digest);
        assert_int_equal(a->u.compare.bits, b->u.compare.bits);
        assert_true(a->u.compare.salt == b->u.compare.salt);
        assert_true(a->u.compare.closed == b->u.compare.closed);
        assert_numbers(a->u.compare.arcs, a->u.compare.n_arcs, b->u.compare.arcs,
                       b->u.compare.n_arcs);
        break;
    case PEER_COMPARE_REPLY:
        assert_true(a->u.compare_reply.digest == b->u.compare_reply.digest);
        assert_int_equal(a->u.compare_reply.later, b->u.compare_reply.later);
        assert_true(a->u.compare_reply.closed == b->u.compare_reply.closed);
        assert_numbers(a->u.compare_reply.parts, a->u.compare_reply.n_parts,
                       b->u.compare_reply.parts, b->u.compare_reply.n_parts);
        break;
    case PEER_PULL:
        assert_pull(a, b);
        break;
    case PEER_PURGE:
        assert_int_equal(a->u.purge.step, b->u.purge.step);
        assert_true(a->u.purge.floor == b->u.purge.floor);
        assert_numbers(a->u.purge.leaves, a->u.purge.n_leaves, b->u.purge.leaves,
                       b->u.purge.n_leaves);
        break;
    case PEER_PURGE_REPLY:
        assert_true(a->u.purge_reply.closed == b->u.purge_reply.closed);
        assert_true(a->u.purge_reply.entered == b->u.purge_reply.entered);
        assert_int_equal(a->u.purge_reply.n_digests, b->u.purge_reply.n_digests);
        for (size_t i = 0; i < a->u.purge_reply.n_digests; i++)
            assert_true(a->u.purge_reply.digests[i] == b->u.purge_reply.digests[i]);
        break;
    case PEER_PULL_REPLY:
        assert_records(a->u.pull_reply.records, a->u.pull_reply.n_records, b->u.pull_reply.records,
                       b->u.pull_reply.n_records);
        assert_slice(a->u.pull_reply.cursor, b->u.pull_reply.cursor);
        assert_int_equal(a->u.pull_reply.young, b->u.pull_reply.young);
        break;
    case PEER_RING_ASK:
        break;
    case PEER_RING_REPLY:
        assert_int_equal(a->u.ring_reply != NULL, b->u.ring_reply != NULL);
        if (a->u.ring_reply)
            assert_ring(a->u.ring_reply, b->u.ring_reply);
        break;
    case PEER_REGISTER_PREPARE:
    case PEER_REGISTER_PREPARE_REPLY:
    case PEER_REGISTER_ACCEPT:
    case PEER_REGISTER_ACCEPT_REPLY:
        assert_register(a->u.reg, b->u.reg);
        break;
    }
}

static void assert_peer(const struct wire_peer *a, const struct wire_peer *b)
{
    assert_int_equal(a->type, b->type);
    assert_true(a->id == b->id);
    assert_int_equal(a->deadline_ms, b->deadline_ms);
    assert_true(a->hlc == b->hlc);
    assert_true(a->ring_epoch == b->ring_epoch);
    assert_int_equal(a->replica.partition, b->replica.partition);
    assert_int_equal(a->replica.slot, b->replica.slot);
    assert_true(a->replica.incarnation == b->replica.incarnation);
    assert_int_equal(a->replica.fence, b->replica.fence);
    assert_int_equal(a->error, b->error);
    assert_peer_body(a, b);
}

/* ---- round trips ------------------------------------------------------------------------- */

struct fixture {
    struct buf out;
    struct arena arena;
};

static void fixture_init(struct fixture *f)
{
    buf_init(&f->out);
    arena_init(&f->arena, 0);
}

static void fixture_deinit(struct fixture *f)
{
    buf_deinit(&f->out);
    arena_deinit(&f->arena);
}

/* The body of the single frame in out; the arena is made ready for it. */
static struct slice body_of(struct fixture *f)
{
    struct slice body;
    size_t used, want;

    assert_int_equal(frame_next(buf_slice(&f->out), &body, &used, &want), 1);
    assert_int_equal(used, f->out.len);
    arena_reset(&f->arena, WIRE_ARENA_BUDGET(body.len));
    f->out.len = 0; /* the bytes stay where they are until the next pack */
    return body;
}

static void requests_come_back(void **state)
{
    struct wire_request samples[SAMPLE_REQUESTS], back;
    struct fixture f;

    sample_requests(samples);
    fixture_init(&f);
    for (size_t i = 0; i < SAMPLE_REQUESTS; i++) {
        assert_int_equal(wire_request_pack(&samples[i], &f.out), 0);
        assert_int_equal(wire_request_unpack(body_of(&f), &f.arena, &back), 0);
        assert_request(&samples[i], &back);
    }
    fixture_deinit(&f);
}

static void responses_come_back(void **state)
{
    struct wire_response samples[SAMPLE_RESPONSES], back;
    struct fixture f;

    sample_responses(samples);
    fixture_init(&f);
    for (size_t i = 0; i < SAMPLE_RESPONSES; i++) {
        assert_int_equal(wire_response_pack(&samples[i], &f.out), 0);
        assert_int_equal(wire_response_unpack(body_of(&f), &f.arena, &back), 0);
        assert_response(&samples[i], &back);
    }
    fixture_deinit(&f);
}

static void peer_messages_come_back(void **state)
{
    struct wire_peer samples[SAMPLE_PEERS], back;
    struct fixture f;

    sample_peers(samples);
    fixture_init(&f);
    for (size_t i = 0; i < SAMPLE_PEERS; i++) {
        assert_int_equal(wire_peer_pack(&samples[i], &f.out), 0);
        assert_int_equal(wire_peer_unpack(body_of(&f), &f.arena, &back), 0);
        assert_peer(&samples[i], &back);
    }
    fixture_deinit(&f);
}

static void frames_are_appended(void **state)
{
    struct wire_request samples[SAMPLE_REQUESTS], back;
    struct fixture f;
    size_t at = 0;

    sample_requests(samples);
    fixture_init(&f);
    for (size_t i = 0; i < SAMPLE_REQUESTS; i++)
        assert_int_equal(wire_request_pack(&samples[i], &f.out), 0);
    for (size_t i = 0; i < SAMPLE_REQUESTS; i++) {
        struct slice body;
        size_t used, want;
        struct slice rest = slice_of(f.out.data + at, f.out.len - at);
        assert_int_equal(frame_next(rest, &body, &used, &want), 1);
        arena_reset(&f.arena, WIRE_ARENA_BUDGET(body.len));
        assert_int_equal(wire_request_unpack(body, &f.arena, &back), 0);
        assert_request(&samples[i], &back);
        at += used;
    }
    assert_int_equal(at, f.out.len);
    fixture_deinit(&f);
}

static void rings_of_all_sizes_come_back(void **state)
{
    static const uint32_t sizes[][3] = {{LIMIT_PARTITIONS_MIN, 1, 1},
                                        {1024, 3, 3},
                                        {LIMIT_PARTITIONS_MAX, LIMIT_SLOTS_MAX, LIMIT_MEMBERS_MAX}};
    struct fixture f;

    fixture_init(&f);
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct wire_ring *ring = sample_ring(sizes[i][0], sizes[i][1], sizes[i][2]), back;
        assert_int_equal(wire_ring_pack(ring, &f.out), 0);
        arena_reset(&f.arena, WIRE_ARENA_BUDGET_RING);
        assert_int_equal(wire_ring_unpack(buf_slice(&f.out), &f.arena, &back), 0);
        assert_ring(ring, &back);
        f.out.len = 0;

        struct wire_response res = {.id = 1, .type = RESULT_RING, .u.ring = ring}, got;
        assert_int_equal(wire_response_pack(&res, &f.out), 0);
        assert_int_equal(wire_response_unpack(body_of(&f), &f.arena, &got), 0);
        assert_response(&res, &got);
        f.out.len = 0;

        struct wire_peer reply = {.type = PEER_RING_REPLY, .u.ring_reply = ring}, peer;
        assert_int_equal(wire_peer_pack(&reply, &f.out), 0);
        assert_int_equal(wire_peer_unpack(body_of(&f), &f.arena, &peer), 0);
        assert_peer(&reply, &peer);
        f.out.len = 0;
        sample_ring_free(ring);
    }
    fixture_deinit(&f);
}

/* The budget of an ordinary frame is enough for the fullest page that is allowed. */
static void full_pages_fit_the_budget(void **state)
{
    static struct wire_record records[LIMIT_SCAN_PAGE_RECORDS];
    struct fixture f;

    for (size_t i = 0; i < LIMIT_SCAN_PAGE_RECORDS; i++)
        records[i] = (struct wire_record){
            .key = {.bucket = 1, .partition = slice_str("k")},
            .state = {.kind = STATE_LWW, .version = {i, 1}, .value = slice_str("v")}};
    fixture_init(&f);
    struct wire_response res = {.type = RESULT_SCAN, .u.scan = {records, ARRAY_LEN(records), {0}}};
    struct wire_response got;
    assert_int_equal(wire_response_pack(&res, &f.out), 0);
    assert_int_equal(wire_response_unpack(body_of(&f), &f.arena, &got), 0);
    assert_response(&res, &got);

    struct wire_peer msg = {.type = PEER_SCAN_REPLY}, back;
    msg.u.scan_reply.records = records;
    msg.u.scan_reply.n_records = ARRAY_LEN(records);
    assert_int_equal(wire_peer_pack(&msg, &f.out), 0);
    assert_int_equal(wire_peer_unpack(body_of(&f), &f.arena, &back), 0);
    assert_peer(&msg, &back);
    fixture_deinit(&f);
}

static void largest_values_fit_frame_and_budget(void **state)
{
    uint8_t *value = calloc(1, LIMIT_VALUE_BYTES);
    uint8_t key[LIMIT_KEY_BYTES];
    struct fixture f;

    assert_non_null(value);
    memset(key, 0xff, sizeof(key));
    value[LIMIT_VALUE_BYTES - 1] = 1;
    fixture_init(&f);
    struct wire_request req = {.id = UINT64_MAX,
                               .deadline_ms = UINT32_MAX,
                               .ring_epoch = UINT64_MAX,
                               .hlc = UINT64_MAX,
                               .op = OP_PUT,
                               .level = LEVEL_ALL,
                               .key = {UINT32_MAX, slice_of(key, sizeof(key)), {0}},
                               .value = slice_of(value, LIMIT_VALUE_BYTES)};
    struct wire_request back;
    assert_int_equal(wire_request_pack(&req, &f.out), 0);
    assert_int_equal(wire_request_unpack(body_of(&f), &f.arena, &back), 0);
    assert_request(&req, &back);

    struct wire_response res = {.id = 1,
                                .type = RESULT_GET,
                                .u.get = {true, slice_of(value, LIMIT_VALUE_BYTES), {1, 1}, 1}};
    struct wire_response got;
    assert_int_equal(wire_response_pack(&res, &f.out), 0);
    assert_int_equal(wire_response_unpack(body_of(&f), &f.arena, &got), 0);
    assert_response(&res, &got);
    fixture_deinit(&f);
    free(value);
}

static void what_exceeds_a_frame_is_not_packed(void **state)
{
    uint8_t *value = calloc(1, LIMIT_FRAME_BYTES);
    struct buf out;

    assert_non_null(value);
    buf_init(&out);
    assert_int_equal(buf_append(&out, "before", 6), 0);
    struct wire_request req = {
        .op = OP_PUT, .key = {1, slice_str("k"), {0}}, .value = slice_of(value, LIMIT_FRAME_BYTES)};
    assert_int_equal(wire_request_pack(&req, &out), -ERR_FRAME_TOO_LARGE);
    struct wire_response res = {.type = RESULT_GET,
                                .u.get = {true, slice_of(value, LIMIT_FRAME_BYTES), {1, 1}, 1}};
    assert_int_equal(wire_response_pack(&res, &out), -ERR_FRAME_TOO_LARGE);
    struct wire_peer msg = {.type = PEER_PUT};
    msg.u.put.key = req.key;
    msg.u.put.state = (struct state){.kind = STATE_LWW, .value = req.value};
    assert_int_equal(wire_peer_pack(&msg, &out), -ERR_FRAME_TOO_LARGE);
    assert_int_equal(out.len, 6);
    assert_memory_equal(out.data, "before", 6);
    buf_deinit(&out);
    free(value);
}

static void messages_with_nothing_in_them_are_not_packed(void **state)
{
    struct buf out;

    buf_init(&out);
    assert_int_equal(wire_request_pack(&(struct wire_request){.id = 1}, &out), -ERR_BAD_REQUEST);
    assert_int_equal(wire_response_pack(&(struct wire_response){0}, &out), -ERR_BAD_REQUEST);
    assert_int_equal(wire_peer_pack(&(struct wire_peer){.id = 1}, &out), -ERR_BAD_REQUEST);
    assert_int_equal(wire_peer_pack(&(struct wire_peer){.type = PEER_RING_REPLY}, &out),
                     -ERR_BAD_REQUEST);
    assert_int_equal(out.len, 0);
    buf_deinit(&out);
}

static void bucket_0_reads_as_the_default(void **state)
{
    struct wire_request req = {.op = OP_GET, .key = {0, slice_str("k"), {0}}}, back;
    struct fixture f;

    fixture_init(&f);
    assert_int_equal(wire_request_pack(&req, &f.out), 0);
    assert_int_equal(wire_request_unpack(body_of(&f), &f.arena, &back), 0);
    assert_int_equal(back.key.bucket, BUCKET_DEFAULT);
    fixture_deinit(&f);
}

static void error_text_that_could_upset_a_terminal_is_replaced(void **state)
{
    static const char *bad[] = {"\x1b[2J", "line\nbreak", "\x7f", "caf\xc3\xa9", ""};
    struct wire_response res = {.id = 1, .error = {.code = ERR_NO_SPACE}}, back;
    struct fixture f;

    fixture_init(&f);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        res.error.text = slice_str(bad[i]);
        assert_int_equal(wire_response_pack(&res, &f.out), 0);
        assert_int_equal(wire_response_unpack(body_of(&f), &f.arena, &back), 0);
        assert_slice(back.error.text, slice_str(err_text(ERR_NO_SPACE)));
    }
    fixture_deinit(&f);
}

static void an_error_carries_no_result(void **state)
{
    struct wire_response res = {.id = 1, .error = {.code = ERR_IO}, .type = RESULT_WRITE}, back;
    struct fixture f;

    fixture_init(&f);
    res.u.write.replicas = 3;
    assert_int_equal(wire_response_pack(&res, &f.out), 0);
    assert_int_equal(wire_response_unpack(body_of(&f), &f.arena, &back), 0);
    assert_int_equal(back.error.code, ERR_IO);
    assert_int_equal(back.type, RESULT_NONE);
    fixture_deinit(&f);
}

/* ---- the example of proto/README.md ------------------------------------------------------- */

/* The frame as the README prints it: its header on one line, its body from the next one on. */
static void assert_in_readme(const struct buf *frame)
{
    static char readme[1 << 17], hex[3 * 256];
    const char *root = getenv("QUOIT_SOURCE");
    char path[4096];
    size_t n = 0;

    assert_non_null(root);
    snprintf(path, sizeof(path), "%s/proto/README.md", root);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    size_t len = fread(readme, 1, sizeof(readme) - 1, f);
    fclose(f);
    readme[len] = '\0';
    /* Any run of blanks and line ends is one blank. */
    for (size_t i = 0; i < len; i++) {
        bool blank = readme[i] == ' ' || readme[i] == '\n';
        if (!blank || n == 0 || readme[n - 1] != ' ')
            readme[n++] = blank ? ' ' : readme[i];
    }
    readme[n] = '\0';
    assert_true(frame->len < 256);
    for (size_t i = 0; i < frame->len; i++)
        snprintf(hex + 3 * i, 4, i + 1 < frame->len ? "%02x " : "%02x", frame->data[i]);
    assert_non_null(strstr(readme, hex));
}

static void readme_example_is_what_we_send(void **state)
{
    const uint64_t hlc = 0x019b76daa8000001u;
    struct wire_request req = {.id = 1,
                               .deadline_ms = 1000,
                               .op = OP_PUT,
                               .key = {1, slice_str("greeting"), {0}},
                               .value = slice_str("hello")};
    struct wire_response res = {.id = 1,
                                .ring_epoch = 1,
                                .hlc = hlc,
                                .type = RESULT_WRITE,
                                .u.write = {{hlc, 0x0102030405060000u}, 1}};
    struct buf b = {0};

    assert_int_equal(wire_request_pack(&req, &b), 0);
    assert_in_readme(&b);
    b.len = 0;
    assert_int_equal(wire_response_pack(&res, &b), 0);
    assert_in_readme(&b);
    buf_deinit(&b);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_come_back),
        cmocka_unit_test(responses_come_back),
        cmocka_unit_test(peer_messages_come_back),
        cmocka_unit_test(frames_are_appended),
        cmocka_unit_test(rings_of_all_sizes_come_back),
        cmocka_unit_test(full_pages_fit_the_budget),
        cmocka_unit_test(largest_values_fit_frame_and_budget),
        cmocka_unit_test(what_exceeds_a_frame_is_not_packed),
        cmocka_unit_test(messages_with_nothing_in_them_are_not_packed),
        cmocka_unit_test(bucket_0_reads_as_the_default),
        cmocka_unit_test(error_text_that_could_upset_a_terminal_is_replaced),
        cmocka_unit_test(an_error_carries_no_result),
        cmocka_unit_test(readme_example_is_what_we_send),
    };
    return cmocka_run_group_tests_name("wire", tests, NULL, NULL);
}
