/* antientropy: one comparison of two slots, from its first question to its end.
 *
 *   LEAVES ----> COMPARE: "mine is D; yours?"          equal: end
 *   own tree        |
 *                   v   for each level, 32 arcs at a time
 *                COMPARE: "of these arcs, the parts?"   down to the leaves that differ
 *                   |
 *                   v   for some leaves at a time
 *                 SCAN own records -> PULL: "this is what I have of them" -> MERGE what came
 *                                                                                    |
 *                                          until all leaves are through <------------'
 *
 * A session answers for nothing: it may end anywhere, and the pair is compared again later. What it
 * says reveals its own store, so it waits at a gate until that is durable. An answer counts only if
 * both slots are still what they were when the question was asked (same fence version, same
 * incarnations): what a slot had in an earlier life must not enter a later one by the back door.
 */
#include "server/core/antientropy.h"
#include "server/core/floor.h"
#include <assert.h>
#include <stdlib.h>

/* ---- views --------------------------------------------------------------------------------- */

const struct tree_view *tree_views_get(const struct worker *w, uint32_t partition)
{
    const struct tree_views *views = &w->antientropy->views;

    for (uint32_t i = 0; i < ANTIENTROPY_VIEWS; i++) {
        const struct tree_view *v = &views->list[i];

        if (v->leaves && v->partition == partition && w->now_ms - v->at_ms <= ANTIENTROPY_VIEW_MS)
            return v;
    }
    return NULL;
}

static struct tree_view *view_slot(struct tree_views *views, uint32_t partition)
{
    for (uint32_t i = 0; i < ANTIENTROPY_VIEWS; i++)
        if (views->list[i].leaves && views->list[i].partition == partition)
            return &views->list[i];
    views->next = (views->next + 1) % ANTIENTROPY_VIEWS;
    return &views->list[views->next];
}

const struct tree_view *tree_views_put(struct worker *w, uint32_t partition, const uint64_t *leaves,
                                       size_t n, uint64_t lsn)
{
    struct blob *copy = blob_copy(slice_of(leaves, n * sizeof *leaves));
    struct tree_view *v = view_slot(&w->antientropy->views, partition);

    if (!copy)
        return NULL;
    worker_bury(w, v->leaves);
    *v = (struct tree_view){.partition = partition, .at_ms = w->now_ms, .lsn = lsn, .leaves = copy};
    return v;
}

/* ---- small helpers ------------------------------------------------------------------------- */

struct store_range partition_range(const struct worker *w, uint32_t partition)
{
    uint32_t n_partitions = ring_wire(w->ring)->n_partitions;
    uint64_t first = token_partition_first(partition, n_partitions);

    return (struct store_range){first, first + (UINT64_MAX >> tree_partition_bits(n_partitions))};
}

/* generation, number, index of the session */
uint64_t session_cookie(const struct worker *w, const struct session *s, uint32_t number)
{
    return ANTIENTROPY_COOKIE | (uint64_t)(s->generation & 0x3fffffffu) << 32 |
           (uint64_t)number << 8 | (uint64_t)(s - w->antientropy->sessions);
}

struct session *session_of_cookie(struct worker *w, uint64_t cookie, uint32_t *ret_number)
{
    uint32_t index = (uint32_t)cookie & 0xff;
    struct session *s = index < ANTIENTROPY_SESSIONS ? &w->antientropy->sessions[index] : NULL;

    *ret_number = (uint32_t)cookie >> 8;
    return s && s->stage != SESSION_FREE && session_cookie(w, s, *ret_number) == cookie ? s : NULL;
}

bool session_holds(const struct worker *w, const struct session *s)
{
    struct ring_entry e;

    if (s->partition >= ring_wire(w->ring)->n_partitions)
        return false;
    ring_lookup(w->ring, s->partition, &e);
    return e.fence == s->fence && s->own_slot < e.n_slots && s->slot < e.n_slots &&
           e.slots[s->own_slot].incarnation == s->own_incarnation &&
           e.slots[s->own_slot].node == w->node && e.slots[s->slot].node == s->node &&
           e.slots[s->slot].incarnation == s->incarnation && floor_takes_in(w, s->partition) &&
           floor_closed(w, s->partition) == s->closed;
}

/* The place is taken until all that was given to the store has arrived: a purge floor may wait for
 * that. */
static void session_free(struct worker *w, struct session *s)
{
    uint32_t n_merging = s->pull.n_merging;

    pull_free(w, s);
    worker_bury(w, s->leaves);
    worker_bury(w, s->arcs_blob);
    s->leaves = s->arcs_blob = NULL;
    if (n_merging > 0) {
        s->pull.n_merging = n_merging;
        s->stage = SESSION_DRAIN;
        return;
    }
    s->stage = SESSION_FREE;
    s->generation++;
    w->antientropy->n_sessions--;
}

void session_drained(struct worker *w, struct session *s)
{
    assert(s->stage == SESSION_DRAIN && s->pull.n_merging == 0);
    session_free(w, s);
    floors_look(w);
}

void session_end(struct worker *w, struct session *s, enum session_end end)
{
    struct antientropy *a = w->antientropy;

    a->stats.n_compared++;
    a->stats.n_equal += end == SESSION_EQUAL;
    a->stats.n_failed += end == SESSION_FAILED;
    pair_ended(w, s, end);
    session_free(w, s);
    if (a->more_due && a->look_ms > w->now_ms)
        a->look_ms = w->now_ms; /* there is room for another */
}

void session_ask(struct worker *w, struct session *s, struct wire_peer *msg, struct effects *out)
{
    struct addr to = {.kind = ADDR_NODE,
                      .node = s->node,
                      .worker = worker_owner(w, s->partition, w->nodes[s->node].n_workers)};

    s->question = ++w->antientropy->n_questions;
    s->until_ms = w->now_ms + ANTIENTROPY_ANSWER_MS;
    msg->id = s->question;
    msg->deadline_ms = ANTIENTROPY_ANSWER_MS;
    msg->hlc = w->clock.last;
    msg->ring_epoch = ring_epoch(w->ring);
    msg->error = 0;
    msg->replica = (struct wire_replica){.partition = s->partition,
                                         .slot = s->slot,
                                         .incarnation = s->incarnation,
                                         .fence = s->fence};
    worker_send(w, to, msg, NULL, out);
}

/* ---- descending ---------------------------------------------------------------------------- */

static void ask_compare(struct worker *w, struct session *s, struct effects *out)
{
    struct wire_peer msg = {.type = PEER_COMPARE};
    uint32_t left = s->n_arcs - s->at;

    msg.u.compare.slot = s->own_slot;
    msg.u.compare.digest = s->digest;
    msg.u.compare.closed = s->closed;
    s->salt = prng_next(&w->prng) | 1;
    msg.u.compare.salt = s->salt;
    s->n_asked = left < LIMIT_COMPARE_ARCS ? left : LIMIT_COMPARE_ARCS;
    if (s->n_arcs > 0) {
        msg.u.compare.bits = s->bits;
        msg.u.compare.arcs = s->arcs + s->at;
        msg.u.compare.n_arcs = s->n_asked;
    }
    s->stage = SESSION_COMPARE;
    session_ask(w, s, &msg, out);
}

void session_gate(struct worker *w, struct session *s, enum session_stage stage,
                  struct effects *out)
{
    if (s->lsn > w->durable_lsn) {
        s->stage = SESSION_GATE;
        s->gate_stage = (uint8_t)stage;
        return;
    }
    if (stage == SESSION_COMPARE)
        ask_compare(w, s, out);
    else
        pull_ask(w, s, out);
}

static void start(struct worker *w, struct session *s, struct effects *out)
{
    struct effect *e = worker_emit(out, EFFECT_LEAVES);

    s->stage = SESSION_LEAVES;
    w->antientropy->n_sessions++;
    e->u.leaves.cookie = session_cookie(w, s, 0);
    e->u.leaves.range = partition_range(w, s->partition);
}

/* Where we lack something is known: no descent. False: it is not, or there is no memory. */
static bool start_from_hint(struct worker *w, struct session *s, struct effects *out)
{
    const struct hint *h = hint_for(w, s);

    if (!h)
        return false;
    s->arcs_blob = blob_new(h->n * sizeof *s->arcs);
    if (!s->arcs_blob)
        return false;
    s->arcs = (uint32_t *)(void *)s->arcs_blob->data;
    memcpy(s->arcs, h->leaves, h->n * sizeof *s->arcs);
    s->n_arcs = h->n;
    hint_drop(w, h);
    pull_start(w, s, out);
    return true;
}

/* Time spent on trees is a small share of all time: ours count, and those that others ask for. */
void antientropy_charge(struct worker *w, uint32_t cost_us)
{
    struct antientropy *a = w->antientropy;
    uint64_t now_us = w->now_ms * 1000;

    a->rest_us = (a->rest_us > now_us ? a->rest_us : now_us) +
                 (uint64_t)cost_us * (ANTIENTROPY_TIME_SHARE - 1);
}

void antientropy_recv_leaves(struct worker *w, const struct event *in, struct effects *out)
{
    uint32_t number;
    struct session *s = session_of_cookie(w, in->u.leaves.cookie, &number);
    const struct tree_view *v;

    antientropy_charge(w, in->u.leaves.cost_us);
    if (!s)
        return;
    assert(s->stage == SESSION_LEAVES);
    if (in->u.leaves.error || !session_holds(w, s)) {
        session_end(w, s, SESSION_FAILED);
        return;
    }
    v = tree_views_put(w, s->partition, in->u.leaves.leaves, in->u.leaves.n, in->u.leaves.lsn);
    if (!v) {
        session_end(w, s, SESSION_FAILED);
        return;
    }
    s->leaves = blob_ref(v->leaves);
    s->digest = tree_digest(in->u.leaves.leaves, in->u.leaves.n);
    s->lsn = in->u.leaves.lsn;
    if (!start_from_hint(w, s, out))
        session_gate(w, s, SESSION_COMPARE, out);
}

static const uint64_t *own_leaves(const struct session *s)
{
    return (const uint64_t *)(const void *)s->leaves->data;
}

/* Notes the parts of one arc that differ. */
static void note_parts(struct session *s, uint32_t bits, uint32_t arc, const uint32_t *theirs)
{
    uint32_t ours[(1u << TREE_STEP_BITS) / 2], n = tree_n_parts(bits);

    tree_parts(own_leaves(s), bits, arc, s->salt, ours);
    for (uint32_t i = 0; i < n; i++)
        if (tree_part(ours, i) != tree_part(theirs, i))
            s->next[s->n_next++] = arc * n + i;
}

/* The first answer: what of the whole differs? 0, or negative: it is no answer. */
static int recv_root(struct worker *w, struct session *s, const struct wire_peer *msg)
{
    uint32_t bits = tree_partition_bits(ring_wire(w->ring)->n_partitions);
    uint32_t n_leaves = tree_n_leaves(bits);

    if (msg->u.compare_reply.n_parts != tree_n_parts(bits) / 2)
        return -ERR_BAD_REQUEST;
    s->arcs_blob = blob_new(2 * (size_t)n_leaves * sizeof *s->arcs);
    if (!s->arcs_blob)
        return -ERR_NO_MEMORY;
    s->arcs = (uint32_t *)(void *)s->arcs_blob->data;
    s->next = s->arcs + n_leaves;
    note_parts(s, bits, 0, msg->u.compare_reply.parts);
    s->bits = bits;
    return 0;
}

static int recv_arcs(struct session *s, const struct wire_peer *msg)
{
    uint32_t n = tree_n_parts(s->bits) / 2;

    if (msg->u.compare_reply.n_parts != (size_t)s->n_asked * n)
        return -ERR_BAD_REQUEST;
    for (uint32_t i = 0; i < s->n_asked; i++)
        note_parts(s, s->bits, s->arcs[s->at + i], msg->u.compare_reply.parts + (size_t)i * n);
    s->at += s->n_asked;
    return 0;
}

static void descend(struct worker *w, struct session *s, struct effects *out)
{
    uint32_t *arcs = s->arcs;

    if (s->at < s->n_arcs) {
        ask_compare(w, s, out);
        return;
    }
    s->arcs = s->next;
    s->next = arcs;
    s->n_arcs = s->n_next;
    s->at = s->n_next = 0;
    s->bits = tree_next_bits(s->bits);
    if (s->n_arcs == 0) /* it has changed meanwhile */
        session_end(w, s, SESSION_DIFFERED);
    else if (s->bits < TREE_LEAF_BITS)
        ask_compare(w, s, out);
    else
        pull_start(w, s, out);
}

static void recv_compare_reply(struct worker *w, struct session *s, const struct wire_peer *msg,
                               struct effects *out)
{
    bool root = s->n_arcs == 0;
    int r;

    if (msg->u.compare_reply.closed > s->closed) { /* it was closed while we were away */
        floor_close(w, s->partition, msg->u.compare_reply.closed);
        if (!floor_takes_in(w, s->partition))
            return; /* which has ended this session */
    }
    if (root && msg->u.compare_reply.digest == s->digest) {
        session_end(w, s, SESSION_EQUAL);
        return;
    }
    if (root && msg->u.compare_reply.later) {
        session_end(w, s, SESSION_DIFFERED);
        return;
    }
    r = root ? recv_root(w, s, msg) : recv_arcs(s, msg);
    if (r < 0)
        session_end(w, s, SESSION_FAILED);
    else
        descend(w, s, out);
}

/* ---- answers ------------------------------------------------------------------------------- */

static struct session *session_of_question(struct worker *w, const struct wire_peer *msg)
{
    struct antientropy *a = w->antientropy;

    for (uint32_t i = 0; i < ANTIENTROPY_SESSIONS; i++) {
        struct session *s = &a->sessions[i];
        enum session_stage stage = msg->type == PEER_COMPARE_REPLY ? SESSION_COMPARE : SESSION_PULL;

        if (s->stage == stage && s->question == msg->id && msg->replica.partition == s->partition &&
            msg->replica.slot == s->slot && msg->replica.incarnation == s->incarnation &&
            msg->replica.fence == s->fence)
            return s;
    }
    return NULL;
}

void antientropy_recv_reply(struct worker *w, const struct wire_peer *msg, struct effects *out)
{
    struct session *s = session_of_question(w, msg);

    if (!s)
        return;
    if (msg->error || !session_holds(w, s))
        session_end(w, s, SESSION_FAILED);
    else if (s->stage == SESSION_COMPARE)
        recv_compare_reply(w, s, msg, out);
    else
        pull_recv(w, s, msg, out);
}

static bool session_lives(const struct session *s)
{
    return s->stage != SESSION_FREE && s->stage != SESSION_DRAIN;
}

void antientropy_node_gone(struct worker *w, uint32_t node)
{
    struct antientropy *a = w->antientropy;

    missed_look_who_is_gone(w);
    for (uint32_t i = 0; i < ANTIENTROPY_SESSIONS; i++)
        if (a->sessions[i].node == node && session_lives(&a->sessions[i]))
            session_end(w, &a->sessions[i], SESSION_FAILED);
}

void antientropy_freeze(struct worker *w, uint32_t partition)
{
    struct antientropy *a = w->antientropy;

    for (uint32_t i = 0; i < ANTIENTROPY_SESSIONS; i++)
        if (a->sessions[i].partition == partition && session_lives(&a->sessions[i]))
            session_end(w, &a->sessions[i], SESSION_FAILED);
}

bool antientropy_is_merging(const struct worker *w, uint32_t partition)
{
    const struct antientropy *a = w->antientropy;

    for (uint32_t i = 0; i < ANTIENTROPY_SESSIONS; i++)
        if (a->sessions[i].stage != SESSION_FREE && a->sessions[i].partition == partition &&
            a->sessions[i].pull.n_merging > 0)
            return true;
    return false;
}

/* ---- what becomes runnable ----------------------------------------------------------------- */

/* False: no room. */
static bool session_drain(struct worker *w, struct session *s, struct effects *out)
{
    switch ((enum session_stage)s->stage) {
    case SESSION_FREE:
    case SESSION_LEAVES:
    case SESSION_SCAN:
    case SESSION_DRAIN:
        return true;
    case SESSION_GATE:
        if (s->lsn > w->durable_lsn)
            return true;
        if (!worker_room(w, out))
            return false;
        session_gate(w, s, (enum session_stage)s->gate_stage, out);
        return true;
    case SESSION_REST:
        if (s->until_ms > w->now_ms)
            return true;
        if (!worker_room(w, out))
            return false;
        pull_go_on(w, s, out);
        return true;
    case SESSION_COMPARE:
    case SESSION_PULL:
        if (s->until_ms > w->now_ms)
            return true;
        if (!worker_room(w, out)) /* it gives up its blobs */
            return false;
        w->nodes[s->node].mute_ms = w->now_ms + ANTIENTROPY_MUTE_MS;
        session_end(w, s, SESSION_FAILED);
        return true;
    case SESSION_MERGE:
        return pull_merge(w, s, out);
    }
    return true;
}

static struct session *free_session(struct antientropy *a)
{
    for (uint32_t i = 0; i < ANTIENTROPY_SESSIONS; i++)
        if (a->sessions[i].stage == SESSION_FREE)
            return &a->sessions[i];
    return NULL;
}

static bool begin_due(struct worker *w, struct effects *out)
{
    struct antientropy *a = w->antientropy;
    struct session *s;

    while (a->look_ms <= w->now_ms && (s = free_session(a)) != NULL) {
        uint32_t generation = s->generation;

        if (!worker_room(w, out))
            return false;
        *s = (struct session){.generation = generation};
        if (pair_next(w, s))
            start(w, s, out);
    }
    return true;
}

static void end_all(struct worker *w)
{
    struct antientropy *a = w->antientropy;

    for (uint32_t i = 0; i < ANTIENTROPY_SESSIONS; i++)
        if (session_lives(&a->sessions[i]))
            session_free(w, &a->sessions[i]);
}

void antientropy_forget(struct worker *w)
{
    struct antientropy *a = w->antientropy;

    end_all(w);
    for (uint32_t i = 0; i < ANTIENTROPY_VIEWS; i++) {
        worker_bury(w, a->views.list[i].leaves);
        a->views.list[i].leaves = NULL;
    }
    for (uint32_t i = 0; i < ANTIENTROPY_HINTS; i++)
        a->hints[i].n = 0;
}

bool antientropy_drain(struct worker *w, struct effects *out)
{
    struct antientropy *a = w->antientropy;

    if (!a->pairs)
        return true;
    if (w->stopping && a->n_sessions > 0) {
        if (!worker_room(w, out))
            return false;
        end_all(w);
    }
    if (w->stopping)
        return true;
    for (uint32_t i = 0; i < ANTIENTROPY_SESSIONS && a->n_sessions > 0; i++)
        if (!session_drain(w, &a->sessions[i], out))
            return false;
    return begin_due(w, out);
}

uint64_t antientropy_deadline_ms(const struct worker *w)
{
    const struct antientropy *a = w->antientropy;
    uint64_t at_ms = UINT64_MAX;

    if (!a->pairs || w->stopping)
        return at_ms;
    if (a->n_sessions < ANTIENTROPY_SESSIONS)
        at_ms = a->look_ms;
    for (uint32_t i = 0; i < ANTIENTROPY_SESSIONS && a->n_sessions > 0; i++) {
        const struct session *s = &a->sessions[i];
        bool waits =
            s->stage == SESSION_REST || s->stage == SESSION_COMPARE || s->stage == SESSION_PULL;

        if (waits && s->until_ms < at_ms)
            at_ms = s->until_ms;
    }
    return at_ms;
}

/* ---- life ---------------------------------------------------------------------------------- */

int antientropy_init(struct worker *w, uint64_t round_ms)
{
    w->antientropy = calloc(1, sizeof *w->antientropy);
    if (!w->antientropy)
        return -ERR_NO_MEMORY;
    w->antientropy->round_ms = round_ms;
    w->antientropy->look_ms = UINT64_MAX;
    return 0;
}

void antientropy_deinit(struct worker *w)
{
    struct antientropy *a = w->antientropy;

    for (uint32_t i = 0; a && i < ANTIENTROPY_SESSIONS; i++) {
        struct session *s = &a->sessions[i];

        if (s->stage == SESSION_FREE)
            continue;
        blob_unref(s->leaves);
        blob_unref(s->arcs_blob);
        blob_unref(s->pull.blob);
        blob_unref(s->pull.known_blob);
    }
    for (uint32_t i = 0; a && i < ANTIENTROPY_VIEWS; i++)
        blob_unref(a->views.list[i].leaves);
    if (a) {
        missed_forget(a);
        free(a->pairs);
    }
    free(a);
}
