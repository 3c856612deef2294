/* register: the step: events to the two halves, and what they say to others and to each other. See
 * register.h for the protocol.
 *
 *            CHANGE, READ                     REGISTER_MESSAGE
 *                 |                 questions |              | answers
 *                 v                           v              |
 *            +----------+   to oneself   +----------+        |
 *            | proposer | <============> | acceptor |        |
 *            +----------+                +----------+        |
 *              ^   |                       |   ^             |
 *              |   +--- REGISTER_SEND -----+   | STORED      |
 *              +-------------------------------|-------------+
 *                                              v
 *                                        REGISTER_STORE
 *
 * A question to this node's own voter, and its answer, do not leave the step: they wait in a short
 * list until the half that speaks has finished, so neither half is ever entered twice.
 */
#include "server/core/register_impl.h"

#include <assert.h>
#include <stdlib.h>

/* ---- effects ------------------------------------------------------------------------------- */

struct register_effect *register_emit(struct ring_register *r, enum register_effect_type type)
{
    struct register_effect *e = &r->out->list[r->out->n];

    assert(r->out->n < REGISTER_EFFECTS_MAX);
    r->out->n++;
    *e = (struct register_effect){.type = type};
    return e;
}

void register_keep(struct ring_register *r, struct register_value *value)
{
    assert(r->n_values < REGISTER_EFFECTS_MAX);
    r->values[r->n_values++] = value_ref(value);
}

static void release_kept(struct ring_register *r)
{
    while (r->n_values > 0)
        value_unref(r->values[--r->n_values]);
    while (r->n_blobs > 0)
        blob_unref(r->blobs[--r->n_blobs]);
}

static void say_to_oneself(struct ring_register *r, enum wire_peer_type type,
                           const struct wire_register *reg, struct register_value *value)
{
    assert(r->n_own < REGISTER_OWN_MAX);
    r->own[r->n_own++] =
        (struct register_own){.type = type, .reg = *reg, .value = value_ref(value)};
}

void register_say(struct ring_register *r, const struct wire_id *to, enum wire_peer_type type,
                  struct wire_register reg, struct register_value *value)
{
    struct register_effect *e;

    if (value) {
        reg.ring = blob_slice(value->bytes);
        reg.n_before = set_equal(&value->before, &value->voters) ? 0 : value->before.n;
        memcpy(reg.before, value->before.ids, reg.n_before * sizeof(reg.before[0]));
    }
    if (wire_id_equal(to, &r->self)) {
        say_to_oneself(r, type, &reg, value);
        return;
    }
    if (value)
        register_keep(r, value);
    e = register_emit(r, REGISTER_SEND);
    r->told[r->out->n - 1] = reg;
    e->to = *to;
    e->msg = (struct wire_peer){.type = type, .u.reg = &r->told[r->out->n - 1]};
}

void register_hear(struct ring_register *r, const struct wire_ballot *ballot)
{
    if (ballot->counter > r->counter)
        r->counter = ballot->counter;
}

/* ---- messages ------------------------------------------------------------------------------ */

/* A question comes only from the node whose ballot it has: nobody speaks for another. */
static void recv_question(struct ring_register *r, const struct wire_id *from,
                          enum wire_peer_type type, const struct wire_register *reg,
                          struct register_value *value)
{
    struct register_request request = {
        .from = *from, .type = type, .ballot = reg->ballot, .known = reg->known};

    if (!wire_id_equal(from, &reg->ballot.node)) {
        r->stats.n_dropped++;
        return;
    }
    if (type == PEER_REGISTER_ACCEPT) {
        request.value = value_ref(value);
        if (!value &&
            value_new(reg->ring, reg->before, reg->n_before, &r->cluster, &request.value) < 0) {
            r->stats.n_dropped++;
            return;
        }
    }
    acceptor_recv(r, request);
}

static void recv(struct ring_register *r, const struct wire_id *from, enum wire_peer_type type,
                 const struct wire_register *reg, struct register_value *value)
{
    register_hear(r, &reg->ballot);
    register_hear(r, &reg->promised);
    if (type == PEER_REGISTER_PREPARE || type == PEER_REGISTER_ACCEPT)
        recv_question(r, from, type, reg, value);
    else if (type == PEER_REGISTER_PREPARE_REPLY)
        proposer_promised(r, from, reg, value);
    else if (type == PEER_REGISTER_ACCEPT_REPLY)
        proposer_accepted(r, from, reg);
}

static void recv_own(struct ring_register *r)
{
    while (r->n_own > 0) {
        struct register_own own = r->own[0];

        r->n_own--;
        memmove(&r->own[0], &r->own[1], r->n_own * sizeof(r->own[0]));
        recv(r, &r->self, own.type, &own.reg, own.value);
        value_unref(own.value);
    }
}

/* What is newer and decided, however it came here. */
static void recv_ring(struct ring_register *r, struct slice ring)
{
    struct register_value *v;

    if (value_new(ring, NULL, 0, &r->cluster, &v) < 0) {
        r->stats.n_dropped++;
        return;
    }
    if (v->epoch > r->decided->epoch) {
        value_unref(r->decided);
        r->decided = value_ref(v);
    }
    value_unref(v);
}

void register_step(struct ring_register *r, const struct register_event *in,
                   struct register_effects *out)
{
    release_kept(r);
    r->now_ms = in->now_ms;
    r->out = out;
    out->n = 0;
    switch (in->type) {
    case REGISTER_TICK:
        break;
    case REGISTER_MESSAGE:
        recv(r, &in->u.message.from, in->u.message.msg->type, in->u.message.msg->u.reg, NULL);
        break;
    case REGISTER_STORED:
        acceptor_stored(r, in->u.stored.cookie, in->u.stored.error);
        break;
    case REGISTER_RING:
        recv_ring(r, in->u.ring);
        break;
    case REGISTER_CHANGE:
        proposer_change(r, in->u.change.id, in->u.change.until_ms, in->u.change.ring);
        break;
    case REGISTER_READ:
        proposer_read(r, in->u.read.id, in->u.read.until_ms);
        break;
    }
    recv_own(r);
    proposer_tick(r);
    recv_own(r);
}

uint64_t register_deadline_ms(const struct ring_register *r)
{
    return proposer_deadline_ms(r);
}

void register_stats(const struct ring_register *r, struct register_stats *ret)
{
    *ret = r->stats;
}

/* ---- life ---------------------------------------------------------------------------------- */

static int init(struct ring_register *r, const struct register_config *config)
{
    int rc = value_cluster(config->ring, &r->cluster);

    r->self = config->self;
    r->boot = config->boot;
    prng_init(&r->prng, config->seed);
    if (rc == 0)
        rc = value_new(config->ring, NULL, 0, &r->cluster, &r->decided);
    if (rc == 0)
        rc = acceptor_init(r, config->promise, config->accepted);
    return rc;
}

int register_new(const struct register_config *config, struct ring_register **ret)
{
    struct ring_register *r = calloc(1, sizeof(*r));
    int rc = r ? init(r, config) : -ERR_NO_MEMORY;

    if (rc < 0) {
        register_free(r);
        return rc;
    }
    *ret = r;
    return 0;
}

void register_free(struct ring_register *r)
{
    if (!r)
        return;
    release_kept(r);
    proposer_deinit(r);
    acceptor_deinit(r);
    value_unref(r->decided);
    free(r);
}
