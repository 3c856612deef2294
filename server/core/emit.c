/* emit: making effects, and what every part of a worker asks about its surroundings.
 *
 * References that a step gives up are buried, not dropped: effects of the same step may still point
 * into the bytes. The next step empties the graves.
 */
#include "server/core/core.h"
#include <assert.h>

struct effect *worker_emit(struct effects *out, enum effect_type type)
{
    struct effect *e;

    assert(out->n < EFFECTS_MAX); /* units are bounded: see WORKER_UNIT_EFFECTS */
    e = &out->list[out->n++];
    e->type = type;
    return e;
}

void worker_trace(struct effects *out, enum trace_type type, uint64_t a, uint64_t b)
{
    struct effect *e = worker_emit(out, EFFECT_TRACE);

    e->u.trace.type = type;
    e->u.trace.a = a;
    e->u.trace.b = b;
}

void worker_send(struct worker *w, struct addr to, const struct wire_peer *msg, struct blob *owner,
                 struct effects *out)
{
    struct effect *e;

    if (to.kind == ADDR_SELF) {
        assert(w->self_n < WORKER_SELF_MAX);
        w->self[w->self_n].msg = *msg;
        w->self[w->self_n++].owner = owner;
        return;
    }
    e = worker_emit(out, EFFECT_SEND);
    e->u.send.to = to;
    e->u.send.msg = *msg;
    e->u.send.owner = owner;
}

void worker_bury(struct worker *w, struct blob *blob)
{
    if (!blob)
        return;
    assert(w->graves_n < WORKER_GRAVES_MAX); /* a step frees at most what its effects allow */
    w->graves[w->graves_n++] = blob;
}

uint32_t worker_owner(const struct worker *w, uint32_t partition, uint32_t n_workers)
{
    uint32_t n_partitions = ring_wire(w->ring)->n_partitions;

    return token_worker(token_partition_first(partition, n_partitions), n_workers);
}

bool worker_node_up(const struct worker *w, uint32_t node)
{
    return node == w->node ||
           (node < WORKER_NODES_MAX && w->nodes[node].up && !w->nodes[node].gone);
}

void worker_reply(struct worker *w, uint64_t conn, struct wire_response *res, struct effects *out)
{
    struct effect *e = worker_emit(out, EFFECT_REPLY);

    res->ring_epoch = w->ring ? ring_epoch(w->ring) : 0;
    res->hlc = w->clock.last;
    e->u.reply.conn = conn;
    e->u.reply.tag = w->tag;
    e->u.reply.response = *res;
    w->stats.n_replies++;
    if (res->error.code)
        w->stats.n_errors++;
}

void worker_reply_error(struct worker *w, uint64_t conn, uint64_t id, int err, struct effects *out)
{
    struct wire_response res = {.id = id};

    res.error.code = err;
    res.error.text = slice_str(err_text(err));
    res.error.retryable = err_retryable(err);
    worker_reply(w, conn, &res, out);
}
