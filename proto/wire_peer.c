/* wire_peer: messages between nodes.
 *
 * Peers are our own code, so there are no typed refusals: a message is good, or malformed and then
 * a reason to drop the link. Nevertheless nothing is believed: a peer may be a later version, a
 * damaged one, or no peer at all. A message whose body this version does not know reads as
 * PEER_NONE, to be ignored, so that a later version may add messages.
 *
 * A reply that carries an error has its type and nothing else: its other fields read as zero.
 */
#include "proto/wire_pb.h"

#include <limits.h>
#include <stdlib.h>

/* ---- packing -----------------------------------------------------------------------------  */

struct peer_parts {
    Quoit__Peer__Replica replica;
    Quoit__Key key;
    Quoit__Peer__State state;
    union {
        Quoit__Peer__Hello hello;
        Quoit__Peer__Get get;
        Quoit__Peer__GetReply get_reply;
        Quoit__Peer__Put put;
        Quoit__Peer__PutReply put_reply;
        Quoit__Peer__Scan scan;
        Quoit__Peer__ScanReply scan_reply;
        Quoit__Peer__Form form;
        Quoit__Peer__Gossip gossip;
        Quoit__Peer__Compare compare;
        Quoit__Peer__CompareReply compare_reply;
        Quoit__Peer__Pull pull;
        Quoit__Peer__PullReply pull_reply;
        Quoit__Peer__Purge purge;
        Quoit__Peer__PurgeReply purge_reply;
        Quoit__Peer__RingAsk ring_ask;
        Quoit__Peer__RingReply ring_reply;
    } body;
    Quoit__Member self;
    struct pb_ring ring;
    struct pb_register reg;
    void *block; /* of records, the ring, rumours */
};

static void peer_write_state(const struct state *state, Quoit__Peer__State *ret)
{
    quoit__peer__state__init(ret);
    ret->kind = state->kind;
    ret->deleted = state->deleted;
    ret->hlc = state->version.hlc;
    ret->actor = state->version.actor;
    ret->value = pb_bytes(state->value);
}

static void peer_write_replica(const struct wire_replica *from, struct peer_parts *parts,
                               Quoit__Peer__Message *pb)
{
    if (from->partition == 0 && from->slot == 0 && from->incarnation == 0 && from->fence == 0)
        return;
    quoit__peer__replica__init(&parts->replica);
    parts->replica.partition = from->partition;
    parts->replica.slot = from->slot;
    parts->replica.incarnation = from->incarnation;
    parts->replica.fence = from->fence;
    pb->replica = &parts->replica;
}

static void peer_write_hello(const struct wire_hello *from, Quoit__Peer__Hello *ret)
{
    quoit__peer__hello__init(ret);
    ret->protocol = from->protocol;
    ret->link = (Quoit__Peer__LinkKind)from->link;
    ret->worker_from = from->worker_from;
    ret->worker_to = from->worker_to;
    ret->node_id = pb_id(&from->node_id);
    ret->cluster_id = pb_id_or_none(&from->cluster_id);
    ret->boot = from->boot;
    ret->start = from->start;
    ret->candidate = from->candidate;
    ret->name = pb_bytes(from->name);
    ret->n_workers = from->n_workers;
    ret->ring_epoch = from->ring_epoch;
    ret->software = pb_bytes(from->software);
}

static void peer_write_get_reply(const struct wire_peer *msg, struct peer_parts *parts)
{
    Quoit__Peer__GetReply *ret = &parts->body.get_reply;

    quoit__peer__get_reply__init(ret);
    ret->found = (uint32_t)msg->u.get_reply.found;
    ret->digest = msg->u.get_reply.digest;
    ret->floor = msg->u.get_reply.floor;
    if (msg->u.get_reply.found == FOUND_ABSENT)
        return;
    peer_write_state(&msg->u.get_reply.state, &parts->state);
    if (msg->u.get_reply.found == FOUND_DIGEST)
        parts->state.value = (ProtobufCBinaryData){0};
    ret->state = &parts->state;
}

static void peer_write_put(const struct wire_peer *msg, struct peer_parts *parts)
{
    Quoit__Peer__Put *ret = &parts->body.put;

    quoit__peer__put__init(ret);
    pb_write_key(&msg->u.put.key, &parts->key);
    peer_write_state(&msg->u.put.state, &parts->state);
    ret->key = &parts->key;
    ret->state = &parts->state;
    ret->first_hand = msg->u.put.first_hand;
    ret->source = msg->u.put.source;
}

/* One block for all: the entries, then the pointers to them that protobuf-c wants. */
int pb_write_records(const struct wire_record *records, size_t n, Quoit__Peer__ScanRecord ***ret,
                     void **ret_block)
{
    struct entry {
        Quoit__Peer__ScanRecord record;
        Quoit__Key key;
        Quoit__Peer__State state;
    };
    struct entry *entries = calloc(n + 1, sizeof(*entries) + sizeof(Quoit__Peer__ScanRecord *));

    if (!entries)
        return -ERR_NO_MEMORY;
    Quoit__Peer__ScanRecord **pointers = (Quoit__Peer__ScanRecord **)(entries + n);
    for (size_t i = 0; i < n; i++) {
        struct entry *e = &entries[i];
        quoit__peer__scan_record__init(&e->record);
        pb_write_key(&records[i].key, &e->key);
        peer_write_state(&records[i].state, &e->state);
        e->record.key = &e->key;
        e->record.state = &e->state;
        pointers[i] = &e->record;
    }
    *ret_block = entries;
    *ret = pointers;
    return 0;
}

static int peer_write_scan_reply(const struct wire_peer *msg, struct peer_parts *parts)
{
    Quoit__Peer__ScanReply *ret = &parts->body.scan_reply;

    quoit__peer__scan_reply__init(ret);
    ret->n_records = msg->u.scan_reply.n_records;
    ret->cursor = pb_bytes(msg->u.scan_reply.cursor);
    ret->floor = msg->u.scan_reply.floor;
    return pb_write_records(msg->u.scan_reply.records, ret->n_records, &ret->records,
                            &parts->block);
}

static int peer_write_form(const struct wire_form *from, struct peer_parts *parts)
{
    Quoit__Peer__Form *ret = &parts->body.form;

    quoit__peer__form__init(ret);
    ret->phase = (Quoit__Peer__FormPhase)from->phase;
    ret->list_hash = from->list_hash;
    ret->replicas = from->replicas;
    if (!wire_id_is_zero(&from->self.id)) {
        pb_write_member(&from->self, &parts->self);
        ret->self = &parts->self;
    }
    if (!from->ring)
        return 0;
    int r = pb_write_ring(from->ring, &parts->ring);
    if (r < 0)
        return r;
    ret->ring = &parts->ring.ring;
    parts->block = parts->ring.block;
    return 0;
}

static int peer_write_ring_reply(const struct wire_peer *msg, struct peer_parts *parts)
{
    Quoit__Peer__RingReply *ret = &parts->body.ring_reply;

    quoit__peer__ring_reply__init(ret);
    if (!msg->u.ring_reply)
        return msg->error ? 0 : -ERR_BAD_REQUEST;
    int r = pb_write_ring(msg->u.ring_reply, &parts->ring);
    if (r < 0)
        return r;
    ret->ring = &parts->ring.ring;
    parts->block = parts->ring.block;
    return 0;
}

static int peer_write_body(const struct wire_peer *msg, struct peer_parts *parts,
                           Quoit__Peer__Message *pb)
{
    switch (msg->type) {
    case PEER_NONE:
        return -ERR_BAD_REQUEST;
    case PEER_HELLO:
        peer_write_hello(&msg->u.hello, &parts->body.hello);
        pb->body_case = QUOIT__PEER__MESSAGE__BODY_HELLO;
        pb->hello = &parts->body.hello;
        return 0;
    case PEER_HELLO_REPLY:
        peer_write_hello(&msg->u.hello, &parts->body.hello);
        pb->body_case = QUOIT__PEER__MESSAGE__BODY_HELLO_REPLY;
        pb->hello_reply = &parts->body.hello;
        return 0;
    case PEER_GET:
        quoit__peer__get__init(&parts->body.get);
        pb_write_key(&msg->u.get.key, &parts->key);
        parts->body.get.key = &parts->key;
        parts->body.get.digest = msg->u.get.digest;
        pb->body_case = QUOIT__PEER__MESSAGE__BODY_GET;
        pb->get = &parts->body.get;
        return 0;
    case PEER_GET_REPLY:
        peer_write_get_reply(msg, parts);
        pb->body_case = QUOIT__PEER__MESSAGE__BODY_GET_REPLY;
        pb->get_reply = &parts->body.get_reply;
        return 0;
    case PEER_PUT:
        peer_write_put(msg, parts);
        pb->body_case = QUOIT__PEER__MESSAGE__BODY_PUT;
        pb->put = &parts->body.put;
        return 0;
    case PEER_PUT_REPLY:
        quoit__peer__put_reply__init(&parts->body.put_reply);
        parts->body.put_reply.outcome = (uint32_t)msg->u.put_reply.outcome;
        parts->body.put_reply.hlc = msg->u.put_reply.version.hlc;
        parts->body.put_reply.actor = msg->u.put_reply.version.actor;
        pb->body_case = QUOIT__PEER__MESSAGE__BODY_PUT_REPLY;
        pb->put_reply = &parts->body.put_reply;
        return 0;
    case PEER_SCAN:
        quoit__peer__scan__init(&parts->body.scan);
        parts->body.scan.cursor = pb_bytes(msg->u.scan.cursor);
        parts->body.scan.page_bytes = msg->u.scan.page_bytes;
        pb->body_case = QUOIT__PEER__MESSAGE__BODY_SCAN;
        pb->scan = &parts->body.scan;
        return 0;
    case PEER_SCAN_REPLY:
        pb->body_case = QUOIT__PEER__MESSAGE__BODY_SCAN_REPLY;
        pb->scan_reply = &parts->body.scan_reply;
        return peer_write_scan_reply(msg, parts);
    case PEER_FORM:
        pb->body_case = QUOIT__PEER__MESSAGE__BODY_FORM;
        pb->form = &parts->body.form;
        return peer_write_form(msg->u.form, parts);
    case PEER_GOSSIP:
        pb->body_case = QUOIT__PEER__MESSAGE__BODY_GOSSIP;
        pb->gossip = &parts->body.gossip;
        return pb_write_gossip(msg->u.gossip, &parts->body.gossip, &parts->block);
    case PEER_COMPARE:
        pb_write_compare(msg, &parts->body.compare);
        pb->body_case = QUOIT__PEER__MESSAGE__BODY_COMPARE;
        pb->compare = &parts->body.compare;
        return 0;
    case PEER_COMPARE_REPLY:
        pb->body_case = QUOIT__PEER__MESSAGE__BODY_COMPARE_REPLY;
        pb->compare_reply = &parts->body.compare_reply;
        pb_write_compare_reply(msg, &parts->body.compare_reply);
        return 0;
    case PEER_PULL:
        pb->body_case = QUOIT__PEER__MESSAGE__BODY_PULL;
        pb->pull = &parts->body.pull;
        pb_write_pull(msg, &parts->body.pull);
        return 0;
    case PEER_PULL_REPLY:
        pb->body_case = QUOIT__PEER__MESSAGE__BODY_PULL_REPLY;
        pb->pull_reply = &parts->body.pull_reply;
        return pb_write_pull_reply(msg, &parts->body.pull_reply, &parts->block);
    case PEER_PURGE:
        pb->body_case = QUOIT__PEER__MESSAGE__BODY_PURGE;
        pb->purge = &parts->body.purge;
        pb_write_purge(msg, &parts->body.purge);
        return 0;
    case PEER_PURGE_REPLY:
        pb->body_case = QUOIT__PEER__MESSAGE__BODY_PURGE_REPLY;
        pb->purge_reply = &parts->body.purge_reply;
        pb_write_purge_reply(msg, &parts->body.purge_reply);
        return 0;
    case PEER_RING_ASK:
        quoit__peer__ring_ask__init(&parts->body.ring_ask);
        pb->body_case = QUOIT__PEER__MESSAGE__BODY_RING_ASK;
        pb->ring_ask = &parts->body.ring_ask;
        return 0;
    case PEER_RING_REPLY:
        pb->body_case = QUOIT__PEER__MESSAGE__BODY_RING_REPLY;
        pb->ring_reply = &parts->body.ring_reply;
        return peer_write_ring_reply(msg, parts);
    case PEER_REGISTER_PREPARE:
    case PEER_REGISTER_PREPARE_REPLY:
    case PEER_REGISTER_ACCEPT:
    case PEER_REGISTER_ACCEPT_REPLY:
        return pb_write_register(msg, &parts->reg, pb);
    }
    return -ERR_BAD_REQUEST;
}

int wire_peer_pack(const struct wire_peer *msg, struct buf *out)
{
    Quoit__Peer__Message pb = QUOIT__PEER__MESSAGE__INIT;
    struct peer_parts parts;

    parts.block = NULL;
    pb.id = msg->id;
    pb.deadline_ms = msg->deadline_ms;
    pb.hlc = msg->hlc;
    pb.ring_epoch = msg->ring_epoch;
    pb.error = (uint32_t)msg->error;
    peer_write_replica(&msg->replica, &parts, &pb);
    int r = peer_write_body(msg, &parts, &pb);
    if (r == 0)
        r = pb_pack_frame(&pb.base, out);
    free(parts.block);
    return r;
}

/* ---- unpacking ---------------------------------------------------------------------------  */

static int peer_read_state(const Quoit__Peer__State *pb, struct state *ret)
{
    if (!pb || pb->kind != STATE_LWW || pb->value.len > LIMIT_VALUE_BYTES ||
        (pb->deleted && pb->value.len != 0))
        return -ERR_BAD_REQUEST;
    *ret = (struct state){.kind = STATE_LWW,
                          .deleted = pb->deleted,
                          .version = {.hlc = pb->hlc, .actor = pb->actor},
                          .value = pb_slice(pb->value)};
    return 0;
}

static int peer_read_key(const Quoit__Key *pb, struct key *ret)
{
    *ret = pb_read_key(pb);
    return key_check(ret) < 0 ? -ERR_BAD_REQUEST : 0;
}

static int peer_read_hello(const Quoit__Peer__Hello *pb, struct wire_hello *ret)
{
    if ((unsigned int)pb->link > LINK_WORKER || pb_read_id(pb->node_id, &ret->node_id) < 0 ||
        pb_read_id_or_none(pb->cluster_id, &ret->cluster_id) < 0 ||
        pb_read_text(pb->name, LIMIT_NAME_BYTES, &ret->name) < 0 ||
        pb_read_text(pb->software, LIMIT_NAME_BYTES, &ret->software) < 0 ||
        pb->n_workers > LIMIT_WORKERS_MAX)
        return -ERR_BAD_REQUEST;
    ret->protocol = pb->protocol;
    ret->link = (enum wire_link)pb->link;
    ret->worker_from = pb->worker_from;
    ret->worker_to = pb->worker_to;
    ret->boot = pb->boot;
    ret->start = pb->start;
    ret->candidate = pb->candidate;
    ret->n_workers = pb->n_workers;
    ret->ring_epoch = pb->ring_epoch;
    return 0;
}

static int peer_read_get_reply(const Quoit__Peer__GetReply *pb, struct wire_peer *ret)
{
    if (pb->found > FOUND_DIGEST)
        return -ERR_BAD_REQUEST;
    ret->u.get_reply.found = (enum wire_found)pb->found;
    ret->u.get_reply.digest = pb->digest;
    ret->u.get_reply.floor = pb->floor;
    if (pb->found == FOUND_ABSENT)
        return 0;
    if (pb->found == FOUND_DIGEST && pb->state && pb->state->value.len != 0)
        return -ERR_BAD_REQUEST;
    return peer_read_state(pb->state, &ret->u.get_reply.state);
}

static int peer_read_put(const Quoit__Peer__Put *pb, struct wire_peer *ret)
{
    int r = peer_read_key(pb->key, &ret->u.put.key);

    if (r < 0)
        return r;
    if (pb->source > LIMIT_SLOTS_MAX)
        return -ERR_BAD_REQUEST;
    ret->u.put.first_hand = pb->first_hand;
    ret->u.put.source = pb->source;
    return peer_read_state(pb->state, &ret->u.put.state);
}

/* An outcome must not be missing where there is no error: what was not said is not "stored". */
static int peer_read_put_reply(const Quoit__Peer__PutReply *pb, struct wire_peer *ret)
{
    if (pb->outcome > OUTCOME_SUPERSEDED_FLOOR || (pb->outcome == OUTCOME_NONE && ret->error == 0))
        return -ERR_BAD_REQUEST;
    ret->u.put_reply.outcome = (enum wire_outcome)pb->outcome;
    ret->u.put_reply.version = (struct version){.hlc = pb->hlc, .actor = pb->actor};
    return 0;
}

int pb_read_records(Quoit__Peer__ScanRecord *const *pb, size_t n, struct arena *arena,
                    const struct wire_record **ret)
{
    if (n > LIMIT_SCAN_PAGE_RECORDS)
        return -ERR_BAD_REQUEST;
    struct wire_record *records = arena_alloc(arena, n * sizeof(*records));
    if (!records)
        return -ERR_NO_MEMORY;
    for (size_t i = 0; i < n; i++) {
        if (peer_read_key(pb[i]->key, &records[i].key) < 0 ||
            peer_read_state(pb[i]->state, &records[i].state) < 0)
            return -ERR_BAD_REQUEST;
    }
    *ret = records;
    return 0;
}

static int peer_read_scan_reply(const Quoit__Peer__ScanReply *pb, struct arena *arena,
                                struct wire_peer *ret)
{
    if (pb_read_cursor(pb->cursor, &ret->u.scan_reply.cursor) < 0)
        return -ERR_BAD_REQUEST;
    ret->u.scan_reply.n_records = pb->n_records;
    ret->u.scan_reply.floor = pb->floor;
    return pb_read_records(pb->records, pb->n_records, arena, &ret->u.scan_reply.records);
}

/* Only a proposal and a decision bring the whole ring; others may name it without its table. */
static int peer_read_form_ring(const Quoit__Peer__Form *pb, struct arena *arena,
                               struct wire_form *ret)
{
    bool whole = ret->phase == FORM_PROPOSE || ret->phase == FORM_DECIDED;

    if (!pb->ring)
        return whole ? -ERR_BAD_REQUEST : 0;
    struct wire_ring *ring = arena_alloc(arena, sizeof(*ring));
    if (!ring)
        return -ERR_NO_MEMORY;
    int r = pb_read_ring(pb->ring, arena, !whole, ring);
    if (r < 0)
        return r;
    ret->ring = ring;
    return 0;
}

static int peer_read_form(const Quoit__Peer__Form *pb, struct arena *arena, struct wire_peer *ret)
{
    if (pb->phase == QUOIT__PEER__FORM_PHASE__FORM_NONE || (unsigned int)pb->phase > FORM_MEMBER)
        return -ERR_BAD_REQUEST;
    struct wire_form *form = arena_alloc(arena, sizeof(*form));
    if (!form)
        return -ERR_NO_MEMORY;
    *form = (struct wire_form){.phase = (enum wire_form_phase)pb->phase,
                               .list_hash = pb->list_hash,
                               .replicas = pb->replicas};
    if (pb->self && pb_read_member(pb->self, &form->self) < 0)
        return -ERR_BAD_REQUEST;
    int r = peer_read_form_ring(pb, arena, form);
    if (r < 0)
        return r;
    ret->u.form = form;
    return 0;
}

static int peer_read_ring_reply(const Quoit__Peer__RingReply *pb, struct arena *arena,
                                struct wire_peer *ret)
{
    struct wire_ring *ring;

    if (ret->error)
        return 0;
    if (!pb->ring)
        return -ERR_BAD_REQUEST;
    ring = arena_alloc(arena, sizeof(*ring));
    if (!ring)
        return -ERR_NO_MEMORY;
    int r = pb_read_ring(pb->ring, arena, false, ring);
    if (r < 0)
        return r;
    ret->u.ring_reply = ring;
    return 0;
}

static int peer_read_body(const Quoit__Peer__Message *pb, struct arena *arena,
                          struct wire_peer *ret)
{
    switch (pb->body_case) {
    case QUOIT__PEER__MESSAGE__BODY_HELLO:
        ret->type = PEER_HELLO;
        return peer_read_hello(pb->hello, &ret->u.hello);
    case QUOIT__PEER__MESSAGE__BODY_HELLO_REPLY:
        ret->type = PEER_HELLO_REPLY;
        return peer_read_hello(pb->hello_reply, &ret->u.hello);
    case QUOIT__PEER__MESSAGE__BODY_GET:
        ret->type = PEER_GET;
        ret->u.get.digest = pb->get->digest;
        return peer_read_key(pb->get->key, &ret->u.get.key);
    case QUOIT__PEER__MESSAGE__BODY_GET_REPLY:
        ret->type = PEER_GET_REPLY;
        return peer_read_get_reply(pb->get_reply, ret);
    case QUOIT__PEER__MESSAGE__BODY_PUT:
        ret->type = PEER_PUT;
        return peer_read_put(pb->put, ret);
    case QUOIT__PEER__MESSAGE__BODY_PUT_REPLY:
        ret->type = PEER_PUT_REPLY;
        return peer_read_put_reply(pb->put_reply, ret);
    case QUOIT__PEER__MESSAGE__BODY_SCAN:
        ret->type = PEER_SCAN;
        ret->u.scan.page_bytes = pb->scan->page_bytes;
        return pb_read_cursor(pb->scan->cursor, &ret->u.scan.cursor);
    case QUOIT__PEER__MESSAGE__BODY_SCAN_REPLY:
        ret->type = PEER_SCAN_REPLY;
        return peer_read_scan_reply(pb->scan_reply, arena, ret);
    case QUOIT__PEER__MESSAGE__BODY_FORM:
        ret->type = PEER_FORM;
        return peer_read_form(pb->form, arena, ret);
    case QUOIT__PEER__MESSAGE__BODY_GOSSIP:
        ret->type = PEER_GOSSIP;
        return pb_read_gossip(pb->gossip, arena, &ret->u.gossip);
    case QUOIT__PEER__MESSAGE__BODY_COMPARE:
        ret->type = PEER_COMPARE;
        return pb_read_compare(pb->compare, ret);
    case QUOIT__PEER__MESSAGE__BODY_COMPARE_REPLY:
        ret->type = PEER_COMPARE_REPLY;
        return pb_read_compare_reply(pb->compare_reply, ret);
    case QUOIT__PEER__MESSAGE__BODY_PULL:
        ret->type = PEER_PULL;
        return pb_read_pull(pb->pull, ret);
    case QUOIT__PEER__MESSAGE__BODY_PULL_REPLY:
        ret->type = PEER_PULL_REPLY;
        return pb_read_pull_reply(pb->pull_reply, arena, ret);
    case QUOIT__PEER__MESSAGE__BODY_PURGE:
        ret->type = PEER_PURGE;
        return pb_read_purge(pb->purge, ret);
    case QUOIT__PEER__MESSAGE__BODY_PURGE_REPLY:
        ret->type = PEER_PURGE_REPLY;
        return pb_read_purge_reply(pb->purge_reply, ret);
    case QUOIT__PEER__MESSAGE__BODY_RING_ASK:
        ret->type = PEER_RING_ASK;
        return 0;
    case QUOIT__PEER__MESSAGE__BODY_RING_REPLY:
        ret->type = PEER_RING_REPLY;
        return peer_read_ring_reply(pb->ring_reply, arena, ret);
    case QUOIT__PEER__MESSAGE__BODY_REGISTER_PREPARE:
    case QUOIT__PEER__MESSAGE__BODY_REGISTER_PREPARE_REPLY:
    case QUOIT__PEER__MESSAGE__BODY_REGISTER_ACCEPT:
    case QUOIT__PEER__MESSAGE__BODY_REGISTER_ACCEPT_REPLY:
        return pb_read_register(pb, arena, ret);
    default:
        return 0;
    }
}

int wire_peer_unpack(struct slice body, struct arena *arena, struct wire_peer *ret)
{
    ProtobufCMessage *msg;

    memset(ret, 0, sizeof(*ret));
    int r = pb_unpack(&quoit__peer__message__descriptor, body, arena, &msg);
    if (r < 0)
        return r;

    const Quoit__Peer__Message *pb = (const Quoit__Peer__Message *)msg;
    if (pb->error > INT_MAX)
        return -ERR_BAD_REQUEST;
    ret->id = pb->id;
    ret->deadline_ms = pb->deadline_ms;
    ret->hlc = pb->hlc;
    ret->ring_epoch = pb->ring_epoch;
    ret->error = (int)pb->error;
    if (pb->replica)
        ret->replica = (struct wire_replica){.partition = pb->replica->partition,
                                             .slot = pb->replica->slot,
                                             .incarnation = pb->replica->incarnation,
                                             .fence = pb->replica->fence};
    return peer_read_body(pb, arena, ret);
}
