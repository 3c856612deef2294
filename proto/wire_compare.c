/* wire_compare: messages of replicas that compare what they hold; see wire_peer.c for the trust
 * that peers get (none). Arrays of numbers go as they stand in memory, so packing copies nothing.
 */
#include "proto/wire_pb.h"

/* A known record is three numbers in a row, in memory as in the message. */
#define KNOWN_NUMBERS 3u
_Static_assert(sizeof(struct wire_known) == KNOWN_NUMBERS * sizeof(uint64_t), "no padding");

/* ---- packing ------------------------------------------------------------------------------- */

/* protobuf-c wants what it only reads as if it might write it. */
static void *lend(const void *array)
{
    return (void *)(uintptr_t)array;
}

void pb_write_compare(const struct wire_peer *msg, Quoit__Peer__Compare *ret)
{
    quoit__peer__compare__init(ret);
    ret->slot = msg->u.compare.slot;
    ret->digest = msg->u.compare.digest;
    ret->bits = msg->u.compare.bits;
    ret->n_arcs = msg->u.compare.n_arcs;
    ret->arcs = lend(msg->u.compare.arcs);
    ret->salt = msg->u.compare.salt;
    ret->closed = msg->u.compare.closed;
}

void pb_write_compare_reply(const struct wire_peer *msg, Quoit__Peer__CompareReply *ret)
{
    quoit__peer__compare_reply__init(ret);
    ret->digest = msg->u.compare_reply.digest;
    ret->later = msg->u.compare_reply.later;
    ret->n_parts = msg->u.compare_reply.n_parts;
    ret->parts = lend(msg->u.compare_reply.parts);
    ret->closed = msg->u.compare_reply.closed;
}

void pb_write_pull(const struct wire_peer *msg, Quoit__Peer__Pull *ret)
{
    quoit__peer__pull__init(ret);
    ret->slot = msg->u.pull.slot;
    ret->quiet_ms = msg->u.pull.quiet_ms;
    ret->n_leaves = msg->u.pull.n_leaves;
    ret->leaves = lend(msg->u.pull.leaves);
    ret->after = pb_bytes(msg->u.pull.after);
    ret->until = pb_bytes(msg->u.pull.until);
    ret->n_known = KNOWN_NUMBERS * msg->u.pull.n_known;
    ret->known = lend(msg->u.pull.known);
}

int pb_write_pull_reply(const struct wire_peer *msg, Quoit__Peer__PullReply *ret, void **ret_block)
{
    quoit__peer__pull_reply__init(ret);
    ret->n_records = msg->u.pull_reply.n_records;
    ret->cursor = pb_bytes(msg->u.pull_reply.cursor);
    ret->young = msg->u.pull_reply.young;
    return pb_write_records(msg->u.pull_reply.records, ret->n_records, &ret->records, ret_block);
}

void pb_write_purge(const struct wire_peer *msg, Quoit__Peer__Purge *ret)
{
    quoit__peer__purge__init(ret);
    ret->step = (Quoit__Peer__PurgeStep)msg->u.purge.step;
    ret->floor = msg->u.purge.floor;
    ret->n_leaves = msg->u.purge.n_leaves;
    ret->leaves = lend(msg->u.purge.leaves);
}

void pb_write_purge_reply(const struct wire_peer *msg, Quoit__Peer__PurgeReply *ret)
{
    quoit__peer__purge_reply__init(ret);
    ret->closed = msg->u.purge_reply.closed;
    ret->entered = msg->u.purge_reply.entered;
    ret->n_digests = msg->u.purge_reply.n_digests;
    ret->digests = lend(msg->u.purge_reply.digests);
}

/* ---- unpacking ----------------------------------------------------------------------------- */

/* Numbers of arcs or leaves, which must grow: then none comes twice. */
static int read_growing(const uint32_t *pb, size_t n, size_t most, const uint32_t **ret)
{
    if (n > most)
        return -ERR_BAD_REQUEST;
    for (size_t i = 1; i < n; i++)
        if (pb[i] <= pb[i - 1])
            return -ERR_BAD_REQUEST;
    *ret = pb;
    return 0;
}

int pb_read_compare(const Quoit__Peer__Compare *pb, struct wire_peer *ret)
{
    if (pb->bits >= TREE_LEAF_BITS || pb->slot >= LIMIT_SLOTS_MAX)
        return -ERR_BAD_REQUEST;
    ret->u.compare.slot = pb->slot;
    ret->u.compare.digest = pb->digest;
    ret->u.compare.bits = pb->bits;
    ret->u.compare.n_arcs = pb->n_arcs;
    ret->u.compare.salt = pb->salt;
    ret->u.compare.closed = pb->closed;
    return read_growing(pb->arcs, pb->n_arcs, LIMIT_COMPARE_ARCS, &ret->u.compare.arcs);
}

int pb_read_compare_reply(const Quoit__Peer__CompareReply *pb, struct wire_peer *ret)
{
    if (pb->n_parts > LIMIT_COMPARE_PARTS)
        return -ERR_BAD_REQUEST;
    ret->u.compare_reply.digest = pb->digest;
    ret->u.compare_reply.later = pb->later;
    ret->u.compare_reply.parts = pb->parts;
    ret->u.compare_reply.n_parts = pb->n_parts;
    ret->u.compare_reply.closed = pb->closed;
    return 0;
}

int pb_read_pull(const Quoit__Peer__Pull *pb, struct wire_peer *ret)
{
    if (pb->slot >= LIMIT_SLOTS_MAX || pb->n_known % KNOWN_NUMBERS ||
        pb->n_known > (size_t)KNOWN_NUMBERS * LIMIT_PULL_KNOWN ||
        pb_read_cursor(pb->after, &ret->u.pull.after) < 0 ||
        pb_read_cursor(pb->until, &ret->u.pull.until) < 0)
        return -ERR_BAD_REQUEST;
    ret->u.pull.slot = pb->slot;
    ret->u.pull.quiet_ms = pb->quiet_ms;
    ret->u.pull.n_leaves = pb->n_leaves;
    ret->u.pull.known = (const struct wire_known *)(const void *)pb->known;
    ret->u.pull.n_known = pb->n_known / KNOWN_NUMBERS;
    return read_growing(pb->leaves, pb->n_leaves, LIMIT_PULL_LEAVES, &ret->u.pull.leaves);
}

int pb_read_pull_reply(const Quoit__Peer__PullReply *pb, struct arena *arena, struct wire_peer *ret)
{
    if (pb_read_cursor(pb->cursor, &ret->u.pull_reply.cursor) < 0)
        return -ERR_BAD_REQUEST;
    ret->u.pull_reply.n_records = pb->n_records;
    ret->u.pull_reply.young = pb->young;
    return pb_read_records(pb->records, pb->n_records, arena, &ret->u.pull_reply.records);
}

int pb_read_purge(const Quoit__Peer__Purge *pb, struct wire_peer *ret)
{
    if (pb->step == QUOIT__PEER__PURGE_STEP__PURGE_NONE || (unsigned int)pb->step > PURGE_CLOSE ||
        pb->floor == 0)
        return -ERR_BAD_REQUEST;
    ret->u.purge.step = (enum wire_purge_step)pb->step;
    ret->u.purge.floor = pb->floor;
    ret->u.purge.n_leaves = pb->n_leaves;
    return read_growing(pb->leaves, pb->n_leaves, LIMIT_PULL_LEAVES, &ret->u.purge.leaves);
}

int pb_read_purge_reply(const Quoit__Peer__PurgeReply *pb, struct wire_peer *ret)
{
    if (pb->n_digests > LIMIT_PURGE_DIGESTS)
        return -ERR_BAD_REQUEST;
    ret->u.purge_reply.closed = pb->closed;
    ret->u.purge_reply.entered = pb->entered;
    ret->u.purge_reply.digests = pb->digests;
    ret->u.purge_reply.n_digests = pb->n_digests;
    return 0;
}
