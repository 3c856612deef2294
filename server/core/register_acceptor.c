/* register_acceptor: a voter: what it has promised, what it has accepted, and what it answers.
 *
 *   PREPARE b    b lower than what was promised    refused, with that
 *                the same                          told what was accepted
 *                higher                            promised: written, then told
 *   ACCEPT b     b lower                           refused
 *                accepted already                  said again
 *                else                              accepted and promised: written, then said
 *
 * What has been accepted under a ballot is promised too, so one fact is written for either: never
 * is one of two on disk without the other.
 *
 * One fact is written at a time, and what is asked meanwhile waits: of each node the newest, for
 * a node has one attempt under way. Nothing is answered that is not on disk; a write that fails is
 * answered by nothing, and may be there after a restart all the same, which is as if the answer had
 * been lost.
 *
 * That a node is no voter, or no longer, does not keep it from answering: who is counted is decided
 * by whoever asks, from the ring that it reads. A new voter cannot know yet that it is one.
 */
#include "server/core/register_facts.h"
#include "server/core/register_impl.h"

#include <assert.h>

/* What binds: nothing lower is taken. */
static const struct wire_ballot *bound(const struct register_acceptor *a)
{
    return ballot_compare(&a->accepted, &a->promise) > 0 ? &a->accepted : &a->promise;
}

/* ---- answers ------------------------------------------------------------------------------- */

static enum wire_peer_type reply_type(const struct register_request *q)
{
    return q->type == PEER_REGISTER_PREPARE ? PEER_REGISTER_PREPARE_REPLY
                                            : PEER_REGISTER_ACCEPT_REPLY;
}

static void refuse(struct ring_register *r, const struct register_request *q)
{
    struct wire_register reg = {.ballot = q->ballot, .promised = *bound(&r->acceptor)};

    register_say(r, &q->from, reply_type(q), reg, NULL);
}

static void answer(struct ring_register *r, const struct register_request *q)
{
    const struct register_acceptor *a = &r->acceptor;
    struct wire_register reg = {.ballot = q->ballot};
    bool known = ballot_compare(&q->known, &a->accepted) == 0;

    if (q->type == PEER_REGISTER_PREPARE)
        reg.accepted = a->accepted;
    register_say(r, &q->from, reply_type(q), reg,
                 q->type == PEER_REGISTER_PREPARE && !known ? a->value : NULL);
}

/* ---- writing ------------------------------------------------------------------------------- */

static struct blob *pack(const struct register_request *q)
{
    struct register_accepted accepted = {.ballot = q->ballot};
    struct blob *fact;

    if (q->type == PEER_REGISTER_PREPARE) {
        fact = blob_new(REGISTER_PROMISE_BYTES);
        if (fact)
            register_promise_pack(&q->ballot, fact->data);
        return fact;
    }
    accepted.ring = blob_slice(q->value->bytes);
    accepted.n_before = q->value->before.n;
    memcpy(accepted.before, q->value->before.ids, accepted.n_before * WIRE_ID_BYTES);
    return register_accepted_pack(&accepted);
}

/* Takes the question over. */
static void write_fact(struct ring_register *r, struct register_request *q)
{
    struct register_acceptor *a = &r->acceptor;
    struct blob *fact = pack(q);
    struct register_effect *e;

    if (!fact) {
        value_unref(q->value);
        return;
    }
    assert(r->n_blobs < REGISTER_EFFECTS_MAX);
    r->blobs[r->n_blobs++] = fact;
    a->is_writing = true;
    a->writing = *q;
    e = register_emit(r, REGISTER_STORE);
    e->cookie = ++a->cookie;
    e->name = q->type == PEER_REGISTER_PREPARE ? REGISTER_FACT_PROMISE : REGISTER_FACT_ACCEPTED;
    e->value = blob_slice(fact);
}

/* Nothing is being written. Takes the question over. */
static void consider(struct ring_register *r, struct register_request *q)
{
    const struct register_acceptor *a = &r->acceptor;
    int order = ballot_compare(&q->ballot, bound(a));
    bool again = ballot_compare(&q->ballot, &a->accepted) == 0;

    if (order < 0)
        refuse(r, q);
    else if (q->type == PEER_REGISTER_PREPARE ? order == 0 : again)
        answer(r, q);
    else {
        write_fact(r, q);
        return;
    }
    value_unref(q->value);
}

/* ---- waiting ------------------------------------------------------------------------------- */

/* Of one ballot, what is to be accepted comes after what is to be promised. */
static bool is_newer(const struct register_request *q, const struct register_request *than)
{
    int order = ballot_compare(&q->ballot, &than->ballot);

    return order > 0 || (order == 0 && than->type == PEER_REGISTER_PREPARE);
}

static void put_by(struct ring_register *r, struct register_request *q)
{
    struct register_acceptor *a = &r->acceptor;
    uint32_t i = 0;

    while (i < a->n_waiting && !wire_id_equal(&a->waiting[i].from, &q->from))
        i++;
    if (i == REGISTER_WAITING_MAX || (i < a->n_waiting && !is_newer(q, &a->waiting[i]))) {
        r->stats.n_dropped++;
        value_unref(q->value);
        return;
    }
    if (i == a->n_waiting)
        a->n_waiting++;
    else
        value_unref(a->waiting[i].value);
    a->waiting[i] = *q;
}

static void go_on(struct ring_register *r)
{
    struct register_acceptor *a = &r->acceptor;

    while (!a->is_writing && a->n_waiting > 0) {
        struct register_request q = a->waiting[0];

        a->n_waiting--;
        memmove(&a->waiting[0], &a->waiting[1], a->n_waiting * sizeof(a->waiting[0]));
        consider(r, &q);
    }
}

void acceptor_recv(struct ring_register *r, struct register_request request)
{
    if (r->acceptor.is_writing)
        put_by(r, &request);
    else
        consider(r, &request);
}

void acceptor_stored(struct ring_register *r, uint64_t cookie, int error)
{
    struct register_acceptor *a = &r->acceptor;
    struct register_request q = a->writing;

    if (!a->is_writing || cookie != a->cookie)
        return;
    a->is_writing = false;
    if (error == 0) {
        if (q.type == PEER_REGISTER_PREPARE) {
            a->promise = q.ballot;
        } else {
            value_unref(a->value);
            a->accepted = q.ballot;
            a->value = value_ref(q.value);
        }
        answer(r, &q);
    }
    value_unref(q.value);
    go_on(r);
}

/* ---- life ---------------------------------------------------------------------------------- */

int acceptor_init(struct ring_register *r, struct slice promise, struct slice accepted)
{
    struct register_acceptor *a = &r->acceptor;
    struct register_accepted fact;
    int rc = promise.len ? register_promise_unpack(promise, &a->promise) : 0;

    if (rc == 0 && accepted.len) {
        rc = register_accepted_unpack(accepted, &fact);
        if (rc == 0)
            rc = value_new(fact.ring, fact.before, fact.n_before, &r->cluster, &a->value);
        if (rc == -ERR_BAD_REQUEST)
            rc = -ERR_CORRUPT;
        if (rc == 0)
            a->accepted = fact.ballot;
    }
    if (rc < 0)
        return rc;
    register_hear(r, &a->promise);
    register_hear(r, &a->accepted);
    return 0;
}

void acceptor_deinit(struct ring_register *r)
{
    struct register_acceptor *a = &r->acceptor;

    if (a->is_writing)
        value_unref(a->writing.value);
    for (uint32_t i = 0; i < a->n_waiting; i++)
        value_unref(a->waiting[i].value);
    value_unref(a->value);
}
