/* replica_compare: what a slot answers when another asks how their trees differ.
 *
 * The first question, about the whole partition, reads the tree anew. The following ones, about
 * parts, are answered from what was read then, for a while: so a descent sees one moment of us, and
 * the tree of a partition under load, which takes milliseconds to read, is read once.
 */
#include "server/core/antientropy.h"
#include "server/core/floor.h"
#include "server/core/replica.h"

/* What was asked, kept in pending.bytes. */
struct compare_ask {
    uint64_t digest, salt;
    uint32_t slot, bits, n_arcs;
    uint32_t arcs[LIMIT_COMPARE_ARCS];
};

/* 0, or the error to answer with. */
static int check_ask(const struct worker *w, const struct wire_peer *msg)
{
    uint32_t bits = tree_partition_bits(ring_wire(w->ring)->n_partitions);
    uint32_t level = msg->u.compare.bits;
    size_t n = msg->u.compare.n_arcs;

    if (level == 0)
        return n == 0 ? 0 : ERR_BAD_REQUEST;
    if (level <= bits || level % TREE_STEP_BITS != 0 || n == 0 ||
        msg->u.compare.arcs[n - 1] >= 1u << (level - bits))
        return ERR_BAD_REQUEST;
    return 0;
}

/* Parts of all arcs that were asked for; NULL: no memory. */
static struct blob *parts_of(const struct worker *w, const struct compare_ask *ask,
                             const uint64_t *leaves, size_t *ret_n)
{
    static const uint32_t whole[] = {0};
    uint32_t bits = ask->bits ? ask->bits : tree_partition_bits(ring_wire(w->ring)->n_partitions);
    const uint32_t *arcs = ask->bits ? ask->arcs : whole;
    uint32_t n_arcs = ask->bits ? ask->n_arcs : 1, n = tree_n_parts(bits) / 2;
    struct blob *blob = blob_new((size_t)n_arcs * n * sizeof(uint32_t));

    for (uint32_t i = 0; blob && i < n_arcs; i++)
        tree_parts(leaves, bits, arcs[i], ask->salt,
                   (uint32_t *)(void *)blob->data + (size_t)i * n);
    *ret_n = (size_t)n_arcs * n;
    return blob;
}

static void answer(struct worker *w, struct pending *p, const struct compare_ask *ask,
                   const struct tree_view *v, struct effects *out)
{
    const uint64_t *leaves = (const uint64_t *)(const void *)v->leaves->data;
    struct wire_peer reply;
    struct blob *parts = NULL;
    size_t n = 0;

    replica_reply_init(w, &reply, PEER_COMPARE_REPLY, p->id, &p->replica, 0);
    reply.u.compare_reply.closed = floor_closed(w, p->replica.partition);
    reply.u.compare_reply.digest = tree_digest(leaves, (uint32_t)(v->leaves->len / sizeof *leaves));
    if (ask->bits == 0)
        antientropy_heard(w, p->replica.partition, ask->slot,
                          reply.u.compare_reply.digest == ask->digest);
    reply.u.compare_reply.later = ask->bits == 0 && reply.u.compare_reply.digest != ask->digest &&
                                  antientropy_is_busy(w, p->replica.partition, ask->slot);
    if (ask->bits ||
        (reply.u.compare_reply.digest != ask->digest && !reply.u.compare_reply.later)) {
        parts = parts_of(w, ask, leaves, &n);
        if (!parts) {
            pending_refuse(w, p, ERR_NO_MEMORY, out);
            return;
        }
        reply.u.compare_reply.parts = (const uint32_t *)(const void *)parts->data;
        reply.u.compare_reply.n_parts = n;
    }
    worker_bury(w, p->bytes);
    p->bytes = parts;
    pending_answer(w, p, &reply, v->lsn, out);
}

void replica_compare(struct worker *w, struct addr from, const struct wire_peer *msg,
                     struct effects *out)
{
    int err = check_ask(w, msg);
    struct compare_ask ask = {.digest = msg->u.compare.digest,
                              .salt = msg->u.compare.salt,
                              .slot = msg->u.compare.slot,
                              .bits = msg->u.compare.bits,
                              .n_arcs = (uint32_t)msg->u.compare.n_arcs};
    const struct tree_view *v;
    struct pending *p;
    struct effect *e;

    floor_close(w, msg->replica.partition, msg->u.compare.closed); /* or it is so already */
    p = err ? NULL : pending_new(w, PENDING_COMPARE, from, msg);
    if (!p) {
        replica_refuse(w, from, msg, err ? err : ERR_OVERLOADED, out);
        return;
    }
    if (ask.n_arcs)
        memcpy(ask.arcs, msg->u.compare.arcs, ask.n_arcs * sizeof *ask.arcs);
    v = ask.bits ? tree_views_get(w, msg->replica.partition) : NULL;
    if (v) {
        answer(w, p, &ask, v, out);
        return;
    }
    p->bytes = blob_copy(slice_of(&ask, sizeof ask));
    if (!p->bytes) {
        pending_refuse(w, p, ERR_NO_MEMORY, out);
        return;
    }
    e = worker_emit(out, EFFECT_LEAVES);
    e->u.leaves.cookie = pending_cookie(w, p);
    e->u.leaves.range = partition_range(w, msg->replica.partition);
}

void replica_leaves(struct worker *w, const struct event *in, struct effects *out)
{
    struct pending *p = pending_of(w, in->u.leaves.cookie);
    const struct tree_view *v;
    struct compare_ask ask;
    int err;

    antientropy_charge(w, in->u.leaves.cost_us);
    if (!p)
        return;
    if (p->kind == PENDING_PURGE) {
        replica_purge_leaves(w, p, in, out);
        return;
    }
    err = in->u.leaves.error ? -in->u.leaves.error : pending_check(w, p);
    if (err) {
        pending_refuse(w, p, err, out);
        return;
    }
    memcpy(&ask, p->bytes->data, sizeof ask);
    v = tree_views_put(w, p->replica.partition, in->u.leaves.leaves, in->u.leaves.n,
                       in->u.leaves.lsn);
    if (v)
        answer(w, p, &ask, v, out);
    else
        pending_refuse(w, p, ERR_NO_MEMORY, out);
}
