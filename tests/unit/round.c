/* round: see round.h.
 */
#include "tests/unit/round.h"
#include "server/core/purge.h"

static bool is_meant(const struct round_fault *f, uint32_t from, uint32_t to,
                     const struct wire_peer *msg)
{
    if (f->n == 0 || f->type != msg->type || (f->from != ALL && f->from != from) ||
        (f->to != ALL && f->to != to))
        return false;
    if (msg->type == PEER_PURGE)
        return f->step == PURGE_NONE || f->step == msg->u.purge.step;
    if (msg->type == PEER_PURGE_REPLY)
        return (f->step == PURGE_LIST) == (msg->u.purge_reply.n_digests > 0);
    return true;
}

static enum cluster_fate fate(struct cluster *c, uint32_t from, uint32_t to,
                              const struct wire_peer *msg)
{
    struct round *r = c->ctx;

    if (msg->type == PEER_PURGE) {
        r->n_asked[msg->u.purge.step]++;
        r->floor = msg->u.purge.floor;
        if (r->on_question)
            r->on_question(r, msg->u.purge.step);
    }
    for (uint32_t i = 0; i < 2; i++)
        if (is_meant(&r->faults[i], from, to, msg)) {
            r->faults[i].n--;
            return r->faults[i].fate;
        }
    return CLUSTER_CARRY;
}

/* A partition whose primary, which drives its rounds, is slot 0 and on node 0. */
static void look_up(struct round *r)
{
    for (r->p = 0;; r->p++) {
        ring_lookup(r->c->ring, r->p, &r->entry);
        if (r->entry.slots[0].state == SLOT_READY && r->entry.slots[0].node == 0 &&
            r->entry.primary == 0)
            return;
    }
}

void round_init(struct round *r, uint32_t replicas)
{
    struct cluster_options options = {.replicas = replicas, .purge_age_ms = AGE_MS};

    *r = (struct round){.c = cluster_new(&options)};
    r->c->fate = fate;
    r->c->ctx = r;
    look_up(r);
}

void round_start(struct round *r)
{
    cluster_start(r->c);
    cluster_pass(r->c, 100);
}

void round_deinit(struct round *r)
{
    cluster_free(r->c);
}

uint32_t round_node(const struct round *r, uint32_t slot)
{
    return r->entry.slots[slot].node;
}

struct key round_key(struct round *r, uint32_t number, char text[32])
{
    return cluster_key_in(r->c, r->p, number, text);
}

void round_write(struct round *r, uint32_t slot, uint32_t number, uint64_t age_ms,
                 const char *value)
{
    char text[32];

    cluster_write_record(r->c, round_node(r, slot), round_key(r, number, text), age_ms,
                         slice_str(value ? value : ""), !value);
}

void round_write_all(struct round *r, uint32_t number, uint64_t age_ms, const char *value)
{
    for (uint32_t i = 0; i < r->entry.n_slots; i++)
        if (r->entry.slots[i].state != SLOT_NONE)
            round_write(r, i, number, age_ms, value);
}

enum held round_held(struct round *r, uint32_t slot, uint32_t number)
{
    char text[32];
    struct state state = cluster_state(r->c, round_node(r, slot), round_key(r, number, text));

    return state.kind == STATE_NONE ? NOTHING : state.deleted ? TOMBSTONE : VALUE;
}

void round_assert_all(struct round *r, uint32_t number, enum held held)
{
    for (uint32_t i = 0; i < r->entry.n_slots; i++)
        if (r->entry.slots[i].state != SLOT_NONE)
            assert_int_equal(round_held(r, i, number), held);
}

uint32_t round_n_closed(struct round *r)
{
    struct worker_purge_stats stats;

    worker_purge_stats(r->c->workers[0], &stats);
    return (uint32_t)stats.n_closed;
}

uint32_t round_n_abandoned(struct round *r)
{
    struct worker_purge_stats stats;

    worker_purge_stats(r->c->workers[0], &stats);
    return (uint32_t)stats.n_abandoned;
}

uint64_t round_opened(struct round *r, uint32_t slot)
{
    uint64_t opened, closed;

    worker_floors(r->c->workers[round_node(r, slot)], r->p, &opened, &closed);
    return opened;
}

uint64_t round_closed(struct round *r, uint32_t slot)
{
    uint64_t opened, closed;

    worker_floors(r->c->workers[round_node(r, slot)], r->p, &opened, &closed);
    return closed;
}

uint64_t round_pulled(struct round *r, uint32_t slot)
{
    struct worker_repair_stats stats;

    worker_repair_stats(r->c->workers[round_node(r, slot)], &stats);
    return stats.n_pulled;
}

void round_begin(struct round *r)
{
    struct purge *pu = r->c->workers[0]->purge;

    for (uint32_t i = 0; i < pu->n; i++)
        pu->turns[i].due_ms = i == r->p ? r->c->now_ms : r->c->now_ms + 1000000;
    pu->look_ms = r->c->now_ms;
    r->n_before = round_n_closed(r) + round_n_abandoned(r);
    cluster_pass(r->c, CLUSTER_TICK_MS);
}

void round_end(struct round *r)
{
    for (uint32_t ms = 0; ms < (PURGE_TRIES + 1) * (PURGE_AGAIN_MS + PURGE_ANSWER_MS);
         ms += CLUSTER_TICK_MS) {
        if (round_n_closed(r) + round_n_abandoned(r) > r->n_before)
            break;
        cluster_pass(r->c, CLUSTER_TICK_MS);
    }
    r->n_before = round_n_closed(r) + round_n_abandoned(r);
    cluster_pass(r->c, CLUSTER_TICK_MS); /* purges */
}

void round_make(struct round *r)
{
    round_begin(r);
    round_end(r);
}

uint64_t round_hlc(const struct round *r, uint64_t age_ms)
{
    return version_hlc_from_ms(r->c->wall_ms - age_ms);
}

int round_ask(struct round *r, uint32_t slot, enum wire_purge_step step, uint64_t floor)
{
    struct wire_peer msg = {.type = PEER_PURGE};

    msg.u.purge.step = step;
    msg.u.purge.floor = floor;
    cluster_ask(r->c, r->p, slot, &msg);
    assert_int_equal(r->c->hand.type, PEER_PURGE_REPLY);
    return r->c->hand.error;
}

void round_ask_all(struct round *r, enum wire_purge_step step, uint64_t floor)
{
    for (uint32_t i = 0; i < N_NODES; i++)
        assert_int_equal(round_ask(r, i, step, floor), 0);
}
