/* form: the first nodes of a cluster agree on epoch 1.
 *
 *      leader (position 0)                       every other node
 *      ------------------                        ----------------
 *   GATHER       <------ EMPTY(self, list) ------   GATHER
 *     | all are here, empty and agree
 *   SYNC_PROPOSAL  makes epoch 1, syncs it
 *     |
 *   PROPOSED     ------- PROPOSE(ring) --------->   SYNC_PROPOSAL  syncs the same bytes
 *     |                                               |
 *     |          <------ SYNCED(ring) -----------   PROPOSED
 *     | all have synced
 *   SYNC_RING      syncs it as decided
 *     |
 *   DECIDED      ------- DECIDED(ring) --------->   SYNC_RING --> DECIDED
 *
 * What must hold: a node serves (DECIDED) only after every node of the list has synced the same
 * proposal. Why it does: only position 0 makes proposals, it syncs one before it shows it, and a
 * node that has synced one never takes another. So a proposal that all have synced is the only one
 * that can ever be decided, whoever crashes, and it is not lost with any one disk's memory.
 *
 * Whoever restarts without a proposal begins at GATHER, with one at PROPOSED, with a decided ring
 * it needs no machine: form_answer tells stragglers. All that waits for an answer is said again on
 * a timer and when a link comes up, so losses and duplicates change nothing. Everybody says EMPTY
 * and SYNCED to all, not only to the leader: so any member can answer DECIDED when the leader is
 * gone, and nodes that were started with different lists or flags find out from each other.
 *
 * Whatever cannot come right by waiting (other lists, equal names or ids, another proposal)
 * ends the process with a sentence; who has promised nothing, and meets a member of a cluster that
 * there is, goes to join that. Nothing is decided here by a
 * majority or by time: a listed node that never comes keeps the others waiting, and they say so.
 */
#include "server/core/form_peers.h"

#include <assert.h>
#include <stdlib.h>

/* Long enough for a sync and a round trip, short enough that starting feels immediate. */
#define FORM_REPEAT_MS 250u
#define FORM_WAIT_MS 5000u

/* ---- effects ----------------------------------------------------------------------------- */

static struct form_effect *emit(struct form_effects *out, enum form_effect_type type)
{
    struct form_effect *e = &out->list[out->n];

    assert(out->n < FORM_EFFECTS_MAX);
    out->n++;
    *e = (struct form_effect){.type = type};
    return e;
}

/* The sentence is in f->why. */
static void fail(struct form *f, struct form_effects *out)
{
    f->state = FORM_STATE_FAILED;
    emit(out, FORM_EFFECT_FAIL)->why = f->why;
}

static void send_phase(struct form *f, size_t to, enum wire_form_phase phase,
                       struct form_effects *out)
{
    struct form_effect *e = emit(out, FORM_EFFECT_SEND);

    e->to = to;
    e->message.phase = phase;
    e->message.list_hash = f->list_hash;
    e->message.self = *form_self(f);
    e->message.replicas = f->replicas;
    if (phase == FORM_SYNCED)
        e->message.ring = &f->bare;
    else if (phase == FORM_PROPOSE || phase == FORM_DECIDED)
        e->message.ring = ring_wire(f->ring);
}

static void persist(struct form *f, enum form_state state, const char *name,
                    struct form_effects *out)
{
    struct form_effect *e = emit(out, FORM_EFFECT_PERSIST);

    f->state = state;
    e->name = name;
    e->ring = ring_wire(f->ring);
}

/* What a peer has to be told in this state, whenever there is reason to think that it does not
 * know: FORM_NONE if nothing. */
static enum wire_form_phase phase_for(const struct form *f, size_t peer)
{
    if (f->state == FORM_STATE_GATHER)
        return FORM_EMPTY;
    if (f->state != FORM_STATE_PROPOSED)
        return FORM_NONE;
    if (!form_is_leader(f))
        return FORM_SYNCED;
    return f->peers[peer].synced ? FORM_NONE : FORM_PROPOSE;
}

static void tell(struct form *f, size_t peer, struct form_effects *out)
{
    enum wire_form_phase phase = phase_for(f, peer);

    if (phase != FORM_NONE && f->peers[peer].up && peer != f->self_index)
        send_phase(f, peer, phase, out);
}

static void tell_all(struct form *f, struct form_effects *out)
{
    for (size_t i = 0; i < f->n; i++)
        tell(f, i, out);
}

/* ---- the leader -------------------------------------------------------------------------- */

/* Goes on when nobody is missing any more. */
static void advance(struct form *f, struct form_effects *out)
{
    bool all = true;

    if (!form_is_leader(f))
        return;
    for (size_t i = 0; i < f->n; i++)
        all &= i == f->self_index ||
               (f->state == FORM_STATE_GATHER ? f->peers[i].heard : f->peers[i].synced);
    if (!all)
        return;
    if (f->state == FORM_STATE_PROPOSED)
        persist(f, FORM_STATE_SYNC_RING, FORM_META_RING, out);
    else if (f->state == FORM_STATE_GATHER && form_propose(f))
        persist(f, FORM_STATE_SYNC_PROPOSAL, FORM_META_PROPOSAL, out);
    else if (f->state == FORM_STATE_GATHER)
        fail(f, out);
}

/* ---- messages ---------------------------------------------------------------------------- */

static void recv_empty(struct form *f, size_t from, const struct wire_form *m,
                       struct form_effects *out)
{
    if (f->state == FORM_STATE_GATHER) {
        if (form_fits(f, from, m))
            advance(f, out);
        else
            fail(f, out);
    } else if (f->state == FORM_STATE_PROPOSED && form_is_leader(f)) {
        if (ring_member_of(f->ring, &m->self.id) ==
            form_member_at(ring_wire(f->ring), f->list[from])) {
            tell(f, from, out);
            return;
        }
        form_explain(
            f,
            "%.*s has a new data directory since the cluster began to form: start all listed "
            "nodes on empty directories",
            TEXT(f->list[from]));
        fail(f, out);
    }
}

static void recv_propose(struct form *f, size_t from, const struct wire_form *m,
                         struct form_effects *out)
{
    if (from != 0 || form_is_leader(f) || !m->ring)
        return;
    if (f->state == FORM_STATE_GATHER) {
        if (form_adopt(f, m->ring, "proposed by the first node of the list"))
            persist(f, FORM_STATE_SYNC_PROPOSAL, FORM_META_PROPOSAL, out);
        else
            fail(f, out);
    } else if (f->state == FORM_STATE_PROPOSED) {
        if (form_same_cluster(f, m->ring)) {
            tell(f, from, out);
            return;
        }
        form_explain(f,
                     "%.*s proposes a first ring and this node holds another one, of an earlier "
                     "attempt: start all listed nodes on empty directories",
                     TEXT(f->list[from]));
        fail(f, out);
    }
}

static void recv_synced(struct form *f, size_t from, const struct wire_form *m,
                        struct form_effects *out)
{
    if (!form_is_leader(f) || (f->state != FORM_STATE_GATHER && f->state != FORM_STATE_PROPOSED))
        return;
    if (f->state == FORM_STATE_PROPOSED && form_same_cluster(f, m->ring) &&
        ring_member_of(f->ring, &m->self.id) == form_member_at(ring_wire(f->ring), f->list[from])) {
        f->peers[from].synced = true;
        advance(f, out);
        return;
    }
    form_explain(
        f,
        "%.*s holds a first ring of an earlier attempt that this node does not know: start "
        "all listed nodes on empty directories",
        TEXT(f->list[from]));
    fail(f, out);
}

static void recv_decided(struct form *f, size_t from, const struct wire_form *m,
                         struct form_effects *out)
{
    if (!m->ring || (f->state != FORM_STATE_GATHER && f->state != FORM_STATE_PROPOSED))
        return;
    if (f->state == FORM_STATE_PROPOSED && !form_same_cluster(f, m->ring)) {
        form_explain(
            f, "%.*s belongs to another cluster than the one that this directory began to form",
            TEXT(f->list[from]));
        fail(f, out);
    } else if (f->ring || form_adopt(f, m->ring, "decided by the other nodes")) {
        persist(f, FORM_STATE_SYNC_RING, FORM_META_RING, out);
    } else {
        fail(f, out);
    }
}

static void recv_member(struct form *f, size_t from, struct form_effects *out)
{
    if (f->state == FORM_STATE_GATHER) {
        f->state = FORM_STATE_FAILED; /* to form one */
        emit(out, FORM_EFFECT_JOIN);
    } else if (f->state == FORM_STATE_PROPOSED) {
        form_explain(
            f, "%.*s belongs to another cluster than the one that this directory began to form",
            TEXT(f->list[from]));
        fail(f, out);
    }
}

static void recv_message(struct form *f, size_t from, const struct wire_form *m,
                         struct form_effects *out)
{
    struct wire_form answer;

    if (f->state == FORM_STATE_DECIDED) {
        if (form_answer(ring_wire(f->ring), form_self(f), m, &answer)) {
            struct form_effect *e = emit(out, FORM_EFFECT_SEND);

            e->to = from;
            e->message = answer;
        }
        return;
    }
    switch (m->phase) {
    case FORM_EMPTY:
        recv_empty(f, from, m, out);
        return;
    case FORM_PROPOSE:
        recv_propose(f, from, m, out);
        return;
    case FORM_SYNCED:
        recv_synced(f, from, m, out);
        return;
    case FORM_DECIDED:
        recv_decided(f, from, m, out);
        return;
    case FORM_MEMBER:
        recv_member(f, from, out);
        return;
    case FORM_NONE:
        return;
    }
}

bool form_answer(const struct wire_ring *ring, const struct wire_member *self,
                 const struct wire_form *in, struct wire_form *ret)
{
    bool knows = in->ring && wire_id_equal(&in->ring->cluster_id, &ring->cluster_id);

    if (in->phase != FORM_EMPTY && in->phase != FORM_PROPOSE && in->phase != FORM_SYNCED)
        return false;
    for (size_t i = 0; in->phase == FORM_EMPTY && !knows && i < ring->n_members; i++)
        knows = wire_id_equal(&ring->members[i].id, &in->self.id);
    *ret = (struct wire_form){.phase = knows ? FORM_DECIDED : FORM_MEMBER,
                              .list_hash = in->list_hash,
                              .self = *self,
                              .ring = knows ? ring : NULL,
                              .replicas = ring->n_replicas};
    return true;
}

/* ---- time and disk ----------------------------------------------------------------------- */

static void repeat(struct form *f, uint64_t now_ms, struct form_effects *out)
{
    if (now_ms < f->repeat_ms || f->state == FORM_STATE_DECIDED || f->state == FORM_STATE_FAILED)
        return;
    f->repeat_ms = now_ms + FORM_REPEAT_MS;
    tell_all(f, out);
    if (f->wait_ms == 0)
        f->wait_ms = now_ms + FORM_WAIT_MS;
    if (now_ms >= f->wait_ms) {
        f->wait_ms = now_ms + FORM_WAIT_MS;
        if (form_explain_wait(f))
            emit(out, FORM_EFFECT_WAIT)->why = f->why;
    }
}

static void recv_disk(struct form *f, int error, struct form_effects *out)
{
    if (f->state != FORM_STATE_SYNC_PROPOSAL && f->state != FORM_STATE_SYNC_RING)
        return;
    if (error < 0) {
        form_explain(f, "cannot write the first ring to the data directory: %s", err_text(error));
        fail(f, out);
    } else if (f->state == FORM_STATE_SYNC_PROPOSAL) {
        f->state = FORM_STATE_PROPOSED;
        advance(f, out);
        tell_all(f, out);
    } else {
        f->state = FORM_STATE_DECIDED;
        for (size_t i = 0; form_is_leader(f) && i < f->n; i++)
            if (i != f->self_index && f->peers[i].up)
                send_phase(f, i, FORM_DECIDED, out);
        emit(out, FORM_EFFECT_DECIDED)->ring = ring_wire(f->ring);
    }
}

void form_step(struct form *f, const struct form_event *in, struct form_effects *out)
{
    out->n = 0;
    if (f->state == FORM_STATE_BROKEN) {
        fail(f, out);
        return;
    }
    if (f->state == FORM_STATE_FAILED)
        return;
    switch (in->type) {
    case FORM_EVENT_TICK:
        advance(f, out); /* a list of one waits for nobody */
        break;
    case FORM_EVENT_LINK_UP:
        assert(in->from < f->n);
        f->peers[in->from].up = true;
        tell(f, in->from, out);
        break;
    case FORM_EVENT_LINK_DOWN:
        assert(in->from < f->n);
        f->peers[in->from].up = false;
        /* What comes back may be another node on the same address. What it synced, stays synced. */
        if (in->from != f->self_index)
            f->peers[in->from].heard = false;
        break;
    case FORM_EVENT_MESSAGE:
        assert(in->from < f->n);
        if (in->from != f->self_index)
            recv_message(f, in->from, in->message, out);
        break;
    case FORM_EVENT_SYNCED:
        recv_disk(f, in->error, out);
        break;
    }
    repeat(f, in->now_ms, out);
}

uint64_t form_deadline_ms(const struct form *f)
{
    return f->state == FORM_STATE_DECIDED || f->state == FORM_STATE_FAILED ? UINT64_MAX
                                                                           : f->repeat_ms;
}

/* ---- life -------------------------------------------------------------------------------- */

/* FNV-1a over the addresses, each with a separator: names the list, hides nothing. */
static uint64_t hash_list(const struct slice *list, size_t n)
{
    uint64_t h = 0xcbf29ce484222325u;

    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < list[i].len; k++)
            h = (h ^ list[i].data[k]) * 0x100000001b3u;
        h = (h ^ '\n') * 0x100000001b3u;
    }
    return h;
}

static bool copy_list(struct form *f, const struct form_config *config)
{
    f->list = arena_alloc(&f->arena, f->n * sizeof(f->list[0]));
    if (!f->list)
        return false;
    for (size_t i = 0; i < f->n; i++) {
        size_t len = strlen(config->list[i]);
        uint8_t *text = arena_alloc(&f->arena, len + 1);

        if (!text)
            return false;
        memcpy(text, config->list[i], len + 1);
        f->list[i] = slice_of(text, len);
    }
    f->list_hash = hash_list(f->list, f->n);
    return true;
}

/* What can be wrong before the first message; the first step tells. */
static void begin(struct form *f, const struct form_config *config)
{
    f->state = FORM_STATE_BROKEN;
    if (!form_keep_member(&f->peers[f->self_index], &config->self))
        form_explain(f, "the node's name, zone or an address is too long");
    else if (!slice_equal(config->self.peer_address, f->list[f->self_index]))
        form_explain(f, "--cluster names this node %.*s, but its peer address is %.*s",
                     TEXT(f->list[f->self_index]), TEXT(config->self.peer_address));
    else if (!config->proposal)
        f->state = FORM_STATE_GATHER;
    else if (form_adopt(f, config->proposal, "in this data directory"))
        f->state = FORM_STATE_PROPOSED;
}

struct form *form_new(const struct form_config *config)
{
    struct form *f = calloc(1, sizeof(*f));

    assert(config->n_list >= 1 && config->n_list <= FORM_NODES_MAX);
    assert(config->self_index < config->n_list);
    if (!f)
        return NULL;
    arena_init(&f->arena, FORM_ARENA_BYTES);
    f->n = config->n_list;
    f->self_index = config->self_index;
    f->replicas = config->replicas;
    f->cluster_id = config->cluster_id;
    f->space = config->space;
    f->peers = calloc(f->n, sizeof(f->peers[0]));
    if (!f->peers || !copy_list(f, config)) {
        form_free(f);
        return NULL;
    }
    begin(f, config);
    return f;
}

void form_free(struct form *f)
{
    if (!f)
        return;
    ring_unref(f->ring);
    free(f->peers);
    arena_deinit(&f->arena);
    free(f);
}
