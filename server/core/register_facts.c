/* register_facts: what a voter of the register has on disk: three small facts of its node's store.
 *
 *   register.promise    the highest ballot that it has promised to a proposer: it takes nothing
 *                       of a lower one
 *       1 byte    format, 1
 *       8 bytes   counter of the ballot, most significant byte first, as all numbers here
 *      16 bytes   id of the node that tried
 *       8 bytes   boot of that node
 *
 *   register.accepted   the ring that it has accepted last, and under which ballot
 *      33 bytes   the ballot, as above; it counts as promised, whatever the other fact says
 *       1 byte    how many ids follow, 0 to 7
 *      16 bytes   each: the voters of the ring before this one; none: they are the voters of this
 *       rest      the ring: a packed Ring (proto/ring.proto)
 *
 *   ring                the newest ring that this node knows to be decided, a packed Ring: what it
 *                       serves (form.h, server/edge/ring_keeper). An accepted ring may never come
 *                       to be decided, so it never stands here, and nothing but the register's
 *                       questions and answers is made from it.
 *
 * None of the three is there before it is needed. Each is replaced as a whole, synced before
 * anybody hears of it. A voter that has lost one of the first two must not vote again under its id.
 */
#include "server/core/register_facts.h"

#define FORMAT 1u

static void put_u64(uint8_t *out, uint64_t v)
{
    for (unsigned i = 0; i < 8; i++)
        out[i] = (uint8_t)(v >> (56 - 8 * i));
}

static uint64_t get_u64(const uint8_t *in)
{
    uint64_t v = 0;

    for (unsigned i = 0; i < 8; i++)
        v = v << 8 | in[i];
    return v;
}

void register_promise_pack(const struct wire_ballot *promise, uint8_t out[REGISTER_PROMISE_BYTES])
{
    out[0] = FORMAT;
    put_u64(out + 1, promise->counter);
    memcpy(out + 9, promise->node.b, WIRE_ID_BYTES);
    put_u64(out + 25, promise->boot);
}

/* Of the first bytes of either fact. */
static int unpack_ballot(struct slice fact, struct wire_ballot *ret)
{
    struct wire_ballot ballot;

    if (fact.len > 0 && fact.data[0] > FORMAT)
        return -ERR_FORMAT;
    if (fact.len < REGISTER_PROMISE_BYTES || fact.data[0] != FORMAT)
        return -ERR_CORRUPT;
    ballot.counter = get_u64(fact.data + 1);
    memcpy(ballot.node.b, fact.data + 9, WIRE_ID_BYTES);
    ballot.boot = get_u64(fact.data + 25);
    if (ballot.counter == 0 || ballot.counter > LIMIT_REGISTER_COUNTER ||
        wire_id_is_zero(&ballot.node))
        return -ERR_CORRUPT;
    *ret = ballot;
    return 0;
}

int register_promise_unpack(struct slice fact, struct wire_ballot *ret)
{
    if (fact.len > REGISTER_PROMISE_BYTES && fact.data[0] <= FORMAT)
        return -ERR_CORRUPT;
    return unpack_ballot(fact, ret);
}

int register_accepted_unpack(struct slice fact, struct register_accepted *ret)
{
    struct register_accepted accepted = {0};
    size_t at = REGISTER_PROMISE_BYTES;
    int r = unpack_ballot(fact, &accepted.ballot);

    if (r < 0)
        return r;
    accepted.n_before = fact.len > at ? fact.data[at] : LIMIT_VOTERS_MAX + 1;
    at++;
    if (accepted.n_before > LIMIT_VOTERS_MAX || fact.len <= at + accepted.n_before * WIRE_ID_BYTES)
        return -ERR_CORRUPT;
    for (size_t i = 0; i < accepted.n_before; i++, at += WIRE_ID_BYTES)
        memcpy(accepted.before[i].b, fact.data + at, WIRE_ID_BYTES);
    accepted.ring = slice_of(fact.data + at, fact.len - at);
    *ret = accepted;
    return 0;
}

struct blob *register_accepted_pack(const struct register_accepted *accepted)
{
    size_t n_ids = accepted->n_before * WIRE_ID_BYTES;
    size_t head = REGISTER_PROMISE_BYTES + 1 + n_ids;
    struct blob *out = blob_new(head + accepted->ring.len);

    if (!out)
        return NULL;
    register_promise_pack(&accepted->ballot, out->data);
    out->data[REGISTER_PROMISE_BYTES] = (uint8_t)accepted->n_before;
    for (size_t i = 0; i < accepted->n_before; i++)
        memcpy(out->data + REGISTER_PROMISE_BYTES + 1 + i * WIRE_ID_BYTES, accepted->before[i].b,
               WIRE_ID_BYTES);
    memcpy(out->data + head, accepted->ring.data, accepted->ring.len);
    return out;
}
