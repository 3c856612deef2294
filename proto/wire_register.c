/* wire_register: messages of the register that decides about rings; see wire_peer.c for the trust
 * that peers get (none).
 *
 * The ring travels as bytes: the register compares, keeps and passes on what was accepted as it
 * came, and whoever uses it unpacks it like any ring (wire_ring_unpack). Its length is bounded
 * here. A ballot that is not there reads as counter 0.
 */
#include "proto/wire_pb.h"

/* ---- packing ------------------------------------------------------------------------------- */

/* NULL: there is none. */
static Quoit__Peer__Ballot *write_ballot(const struct wire_ballot *from, Quoit__Peer__Ballot *ret)
{
    if (from->counter == 0)
        return NULL;
    quoit__peer__ballot__init(ret);
    ret->counter = from->counter;
    ret->node = pb_id(&from->node);
    ret->boot = from->boot;
    return ret;
}

static size_t write_before(const struct wire_register *from, struct pb_register *parts)
{
    for (size_t i = 0; i < from->n_before; i++)
        parts->before[i] = pb_id(&from->before[i]);
    return from->n_before;
}

static void write_prepare_reply(const struct wire_register *from, struct pb_register *parts)
{
    Quoit__Peer__RegisterPrepareReply *ret = &parts->body.prepare_reply;

    quoit__peer__register_prepare_reply__init(ret);
    ret->ballot = write_ballot(&from->ballot, &parts->ballot);
    ret->promised = write_ballot(&from->promised, &parts->promised);
    ret->accepted = write_ballot(&from->accepted, &parts->accepted);
    ret->ring = pb_bytes(from->ring);
    ret->n_before = write_before(from, parts);
    ret->before = parts->before;
}

static void write_accept(const struct wire_register *from, struct pb_register *parts)
{
    Quoit__Peer__RegisterAccept *ret = &parts->body.accept;

    quoit__peer__register_accept__init(ret);
    ret->ballot = write_ballot(&from->ballot, &parts->ballot);
    ret->ring = pb_bytes(from->ring);
    ret->n_before = write_before(from, parts);
    ret->before = parts->before;
}

int pb_write_register(const struct wire_peer *msg, struct pb_register *parts,
                      Quoit__Peer__Message *ret)
{
    const struct wire_register *from = msg->u.reg;

    if (from->n_before > LIMIT_VOTERS_MAX)
        return -ERR_BAD_REQUEST;
    if (msg->type == PEER_REGISTER_PREPARE) {
        quoit__peer__register_prepare__init(&parts->body.prepare);
        parts->body.prepare.ballot = write_ballot(&from->ballot, &parts->ballot);
        parts->body.prepare.known = write_ballot(&from->known, &parts->known);
        ret->body_case = QUOIT__PEER__MESSAGE__BODY_REGISTER_PREPARE;
        ret->register_prepare = &parts->body.prepare;
    } else if (msg->type == PEER_REGISTER_PREPARE_REPLY) {
        write_prepare_reply(from, parts);
        ret->body_case = QUOIT__PEER__MESSAGE__BODY_REGISTER_PREPARE_REPLY;
        ret->register_prepare_reply = &parts->body.prepare_reply;
    } else if (msg->type == PEER_REGISTER_ACCEPT) {
        write_accept(from, parts);
        ret->body_case = QUOIT__PEER__MESSAGE__BODY_REGISTER_ACCEPT;
        ret->register_accept = &parts->body.accept;
    } else {
        quoit__peer__register_accept_reply__init(&parts->body.accept_reply);
        parts->body.accept_reply.ballot = write_ballot(&from->ballot, &parts->ballot);
        parts->body.accept_reply.promised = write_ballot(&from->promised, &parts->promised);
        ret->body_case = QUOIT__PEER__MESSAGE__BODY_REGISTER_ACCEPT_REPLY;
        ret->register_accept_reply = &parts->body.accept_reply;
    }
    return 0;
}

/* ---- unpacking ----------------------------------------------------------------------------- */

static int read_ballot(const Quoit__Peer__Ballot *pb, struct wire_ballot *ret)
{
    if (!pb || pb->counter == 0 || pb->counter > LIMIT_REGISTER_COUNTER ||
        pb_read_id(pb->node, &ret->node) < 0 || wire_id_is_zero(&ret->node))
        return -ERR_BAD_REQUEST;
    ret->counter = pb->counter;
    ret->boot = pb->boot;
    return 0;
}

static int read_ballot_or_none(const Quoit__Peer__Ballot *pb, struct wire_ballot *ret)
{
    return pb ? read_ballot(pb, ret) : 0;
}

static int read_ring(ProtobufCBinaryData ring, const ProtobufCBinaryData *before, size_t n_before,
                     struct wire_register *ret)
{
    if (ring.len > LIMIT_REGISTER_RING_BYTES || n_before > LIMIT_VOTERS_MAX ||
        (ring.len == 0 && n_before > 0))
        return -ERR_BAD_REQUEST;
    ret->ring = pb_slice(ring);
    ret->n_before = n_before;
    for (size_t i = 0; i < n_before; i++)
        if (pb_read_id(before[i], &ret->before[i]) < 0)
            return -ERR_BAD_REQUEST;
    return 0;
}

/* A refusal says nothing else, and there are no bytes of what was never accepted. */
static int read_prepare_reply(const Quoit__Peer__RegisterPrepareReply *pb,
                              struct wire_register *ret)
{
    if (read_ballot(pb->ballot, &ret->ballot) < 0 ||
        read_ballot_or_none(pb->promised, &ret->promised) < 0 ||
        read_ballot_or_none(pb->accepted, &ret->accepted) < 0 || (pb->promised && pb->accepted) ||
        (!pb->accepted && pb->ring.len > 0))
        return -ERR_BAD_REQUEST;
    return read_ring(pb->ring, pb->before, pb->n_before, ret);
}

static int read_accept(const Quoit__Peer__RegisterAccept *pb, struct wire_register *ret)
{
    if (pb->ring.len == 0 || read_ballot(pb->ballot, &ret->ballot) < 0)
        return -ERR_BAD_REQUEST;
    return read_ring(pb->ring, pb->before, pb->n_before, ret);
}

int pb_read_register(const Quoit__Peer__Message *pb, struct arena *arena, struct wire_peer *ret)
{
    struct wire_register *reg = arena_alloc(arena, sizeof(*reg));

    if (!reg)
        return -ERR_NO_MEMORY;
    *reg = (struct wire_register){0};
    ret->u.reg = reg;
    if (pb->body_case == QUOIT__PEER__MESSAGE__BODY_REGISTER_PREPARE) {
        ret->type = PEER_REGISTER_PREPARE;
        if (read_ballot_or_none(pb->register_prepare->known, &reg->known) < 0)
            return -ERR_BAD_REQUEST;
        return read_ballot(pb->register_prepare->ballot, &reg->ballot);
    }
    if (pb->body_case == QUOIT__PEER__MESSAGE__BODY_REGISTER_PREPARE_REPLY) {
        ret->type = PEER_REGISTER_PREPARE_REPLY;
        return read_prepare_reply(pb->register_prepare_reply, reg);
    }
    if (pb->body_case == QUOIT__PEER__MESSAGE__BODY_REGISTER_ACCEPT) {
        ret->type = PEER_REGISTER_ACCEPT;
        return read_accept(pb->register_accept, reg);
    }
    ret->type = PEER_REGISTER_ACCEPT_REPLY;
    if (read_ballot_or_none(pb->register_accept_reply->promised, &reg->promised) < 0)
        return -ERR_BAD_REQUEST;
    return read_ballot(pb->register_accept_reply->ballot, &reg->ballot);
}
