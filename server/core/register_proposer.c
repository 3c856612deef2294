/* register_proposer: reads the ring and changes it: one operation at a time, one attempt at a time.
 *
 *   IDLE --CHANGE, READ--> PREPARING --majority of the voters asked--> what was read?
 *
 *     it wants others than those asked (V2)                     --> PREPARING, asking those
 *     the one that the caller's ring follows, with a new voter  --> SEEDING: the caller's (V4)
 *                                             without           --> ACCEPTING: the caller's
 *     one that is known to be decided                           --> settled
 *     one that is not (V7)                                      --> ACCEPTING: the same again
 *
 *   SEEDING --the new voter has it--> ACCEPTING --both majorities (V5)--> decided: settled
 *
 *   refused, or no majority in time: --> RESTING --> PREPARING, asking the decided ring's voters
 *
 * What is decided settles the operation, or it is one more thing that is known, and the operation
 * goes on. What of an operation cannot be told is not guessed: once its ring has been sent to
 * anybody, only a ring of the same epoch shows what became of it; a later one does not, for it may
 * have been in between.
 */
#include "server/core/register_impl.h"

#include <assert.h>

static void end_attempt(struct register_proposer *p)
{
    value_unref(p->base);
    value_unref(p->read);
    value_unref(p->offered);
    p->base = p->read = p->offered = NULL;
    p->best = (struct wire_ballot){0};
    p->answered.n = 0;
}

/* ---- outcomes ------------------------------------------------------------------------------ */

static struct register_effect *done(struct ring_register *r, uint64_t id,
                                    enum register_outcome outcome, struct register_value *value)
{
    struct register_effect *e = register_emit(r, REGISTER_DONE);

    e->id = id;
    e->outcome = outcome;
    if (value) {
        register_keep(r, value);
        e->epoch = value->epoch;
        e->ring = blob_slice(value->bytes);
    }
    return e;
}

static void finish(struct ring_register *r, enum register_outcome outcome,
                   struct register_value *value)
{
    struct register_proposer *p = &r->proposer;

    done(r, p->id, outcome, value);
    end_attempt(p);
    value_unref(p->wanted);
    p->wanted = NULL;
    p->phase = PROPOSER_IDLE;
}

/* `value` holds. What does that mean for the operation? */
static void settle(struct ring_register *r, struct register_value *value)
{
    const struct register_proposer *p = &r->proposer;

    if (!p->wanted)
        finish(r, REGISTER_DECIDED, value);
    else if (value->epoch == p->wanted->epoch)
        finish(r, value_same(value, p->wanted) ? REGISTER_DECIDED : REGISTER_CONFLICT, value);
    else
        finish(r, p->sent ? REGISTER_UNKNOWN : REGISTER_CONFLICT, value);
}

/* ---- attempts ------------------------------------------------------------------------------ */

/* The newest that is at hand: the own voter's, or the one read last. */
static void choose_known(struct ring_register *r)
{
    struct register_proposer *p = &r->proposer;

    if (ballot_compare(&r->acceptor.accepted, &p->known) <= 0)
        return;
    value_unref(p->known_value);
    p->known = r->acceptor.accepted;
    p->known_value = value_ref(r->acceptor.value);
}

static void begin(struct ring_register *r)
{
    struct register_proposer *p = &r->proposer;
    struct wire_register reg;

    choose_known(r);
    p->ballot = (struct wire_ballot){.counter = ++r->counter, .node = r->self, .boot = r->boot};
    p->phase = PROPOSER_PREPARING;
    p->asked = p->next;
    p->base = value_ref(r->decided);
    p->due_ms = r->now_ms + REGISTER_ROUND_MS;
    r->stats.n_rounds++;
    reg = (struct wire_register){.ballot = p->ballot, .known = p->known};
    for (uint32_t i = 0; i < p->asked.n; i++)
        register_say(r, &p->asked.ids[i], PEER_REGISTER_PREPARE, reg, NULL);
}

static void rest(struct ring_register *r)
{
    struct register_proposer *p = &r->proposer;
    uint64_t ms = REGISTER_REST_MAX_MS;

    if (p->n_failed < 8 && (uint64_t)REGISTER_REST_MS << p->n_failed < ms)
        ms = (uint64_t)REGISTER_REST_MS << p->n_failed;
    p->n_failed++;
    p->n_hops = 0;
    end_attempt(p);
    p->phase = PROPOSER_RESTING;
    p->due_ms = r->now_ms + ms / 2 + prng_below(&r->prng, ms);
}

static void fail(struct ring_register *r)
{
    r->stats.n_failed++;
    r->proposer.next = r->decided->voters;
    rest(r);
}

/* A higher ballot was promised to somebody. The first time that may be long ago, so that only our
 * counter was too low; later it is a duel. */
static void refused(struct ring_register *r)
{
    struct register_proposer *p = &r->proposer;

    if (p->phase != PROPOSER_PREPARING || p->n_failed > 0) {
        fail(r);
        return;
    }
    r->stats.n_failed++;
    p->n_failed++;
    p->next = r->decided->voters;
    end_attempt(p);
    begin(r);
}

/* V2: others were asked than the ring that was read wants. Those before it are asked next: they
 * know it, and all its rivals, so that two of these are not run after in turn. */
static void hop(struct ring_register *r, const struct voter_set *voters)
{
    struct register_proposer *p = &r->proposer;

    r->stats.n_hops++;
    p->next = *voters;
    if (++p->n_hops > REGISTER_HOPS) {
        rest(r);
        return;
    }
    end_attempt(p);
    begin(r);
}

/* ---- the second phase ---------------------------------------------------------------------- */

/* The voter that this ring adds, or NULL. */
static const struct wire_id *added(const struct register_value *v)
{
    for (uint32_t i = 0; i < v->voters.n; i++)
        if (!set_has(&v->before, &v->voters.ids[i]))
            return &v->voters.ids[i];
    return NULL;
}

static void send_accept(struct ring_register *r, const struct wire_id *to)
{
    const struct register_proposer *p = &r->proposer;

    register_say(r, to, PEER_REGISTER_ACCEPT, (struct wire_register){.ballot = p->ballot},
                 p->offered);
}

/* To all that have not answered yet. */
static void send_accepts(struct ring_register *r)
{
    struct register_proposer *p = &r->proposer;

    p->phase = PROPOSER_ACCEPTING;
    p->asked = p->offered->before;
    for (uint32_t i = 0; i < p->offered->voters.n; i++)
        set_add(&p->asked, &p->offered->voters.ids[i]);
    for (uint32_t i = 0; i < p->asked.n; i++)
        if (!set_has(&p->answered, &p->asked.ids[i]))
            send_accept(r, &p->asked.ids[i]);
}

/* What was read, as it is: some may have it already, and others have to decide it without those. */
static void offer_again(struct ring_register *r)
{
    struct register_proposer *p = &r->proposer;

    p->offered = value_ref(p->read);
    p->answered.n = 0;
    p->due_ms = r->now_ms + REGISTER_ROUND_MS;
    send_accepts(r);
}

/* The caller's. A new voter that is not there would be missing in every majority of two, so nobody
 * else hears of the ring before it has it. */
static void offer_wanted(struct ring_register *r)
{
    struct register_proposer *p = &r->proposer;
    const struct wire_id *newcomer = added(p->wanted);

    p->offered = value_ref(p->wanted);
    p->answered.n = 0;
    p->due_ms = r->now_ms + REGISTER_ROUND_MS;
    p->sent = true;
    if (!newcomer) {
        send_accepts(r);
        return;
    }
    p->phase = PROPOSER_SEEDING;
    p->asked = (struct voter_set){.n = 1, .ids = {*newcomer}};
    send_accept(r, newcomer);
}

static void decided(struct ring_register *r)
{
    struct register_proposer *p = &r->proposer;
    struct register_value *value = value_ref(p->offered);

    if (value->epoch > r->decided->epoch) {
        struct register_effect *e = register_emit(r, REGISTER_PUBLISH);

        register_keep(r, value);
        e->epoch = value->epoch;
        e->ring = blob_slice(value->bytes);
        value_unref(r->decided);
        r->decided = value_ref(value);
    }
    settle(r, value);
    value_unref(value);
}

void proposer_accepted(struct ring_register *r, const struct wire_id *from,
                       const struct wire_register *reg)
{
    struct register_proposer *p = &r->proposer;

    if ((p->phase != PROPOSER_SEEDING && p->phase != PROPOSER_ACCEPTING) ||
        ballot_compare(&reg->ballot, &p->ballot) != 0 || !set_has(&p->asked, from))
        return;
    if (reg->promised.counter) {
        refused(r);
        return;
    }
    set_add(&p->answered, from);
    if (p->phase == PROPOSER_SEEDING)
        send_accepts(r);
    else if (set_majority(&p->offered->before, &p->answered) &&
             set_majority(&p->offered->voters, &p->answered))
        decided(r);
}

/* ---- the first phase ----------------------------------------------------------------------- */

/* A majority has promised: what was read? */
static void judge(struct ring_register *r)
{
    struct register_proposer *p = &r->proposer;
    struct register_value *read = p->read;

    if (!read && p->base->epoch == 1)
        read = p->base; /* nothing was ever accepted */
    if (!read || read->epoch < p->base->epoch) {
        /* Those asked may be of long ago, if the decided ring has come meanwhile; else never. */
        r->stats.n_forgotten += set_equal(&p->asked, &p->base->voters);
        fail(r);
    } else if (read->epoch > p->base->epoch) {
        if (set_equal(&read->voters, &p->asked) || set_equal(&read->before, &p->asked))
            offer_again(r);
        else
            hop(r, &read->before);
    } else if (!set_equal(&read->voters, &p->asked)) {
        hop(r, &read->voters);
    } else if (p->wanted && p->wanted->epoch == read->epoch + 1) {
        offer_wanted(r);
    } else {
        settle(r, read);
    }
}

/* What was accepted under the highest ballot so far. False: this reply cannot be used. */
static bool read_better(struct ring_register *r, const struct wire_register *reg,
                        struct register_value *value)
{
    struct register_proposer *p = &r->proposer;
    struct register_value *read = NULL;

    if (value)
        read = value_ref(value);
    else if (reg->ring.len == 0 && ballot_compare(&reg->accepted, &p->known) == 0)
        read = value_ref(p->known_value);
    else if (value_new(reg->ring, reg->before, reg->n_before, &r->cluster, &read) < 0)
        return false;
    value_unref(p->read);
    p->read = read;
    p->best = reg->accepted;
    if (ballot_compare(&p->best, &p->known) > 0) {
        value_unref(p->known_value);
        p->known_value = value_ref(read);
        p->known = p->best;
    }
    return true;
}

void proposer_promised(struct ring_register *r, const struct wire_id *from,
                       const struct wire_register *reg, struct register_value *value)
{
    struct register_proposer *p = &r->proposer;

    if (p->phase != PROPOSER_PREPARING || ballot_compare(&reg->ballot, &p->ballot) != 0 ||
        !set_has(&p->asked, from))
        return;
    if (reg->promised.counter) {
        refused(r);
        return;
    }
    if (ballot_compare(&reg->accepted, &p->best) > 0 && !read_better(r, reg, value)) {
        r->stats.n_dropped++;
        return;
    }
    set_add(&p->answered, from);
    if (set_majority(&p->asked, &p->answered))
        judge(r);
}

/* ---- operations ---------------------------------------------------------------------------- */

static void start(struct ring_register *r, uint64_t id, uint64_t until_ms)
{
    struct register_proposer *p = &r->proposer;

    p->id = id;
    p->until_ms = until_ms;
    p->sent = false;
    p->n_hops = p->n_failed = 0;
    p->next = r->decided->voters;
    begin(r);
}

void proposer_read(struct ring_register *r, uint64_t id, uint64_t until_ms)
{
    if (r->proposer.phase != PROPOSER_IDLE)
        done(r, id, REGISTER_BUSY, NULL);
    else
        start(r, id, until_ms);
}

/* The caller's ring, if it may follow the one that holds; else NULL: the outcome is told. */
static struct register_value *take_wanted(struct ring_register *r, uint64_t id, struct slice ring)
{
    struct register_value *wanted, *held = r->decided;
    const char *why = "it is not a ring of this cluster";

    if (value_new(ring, NULL, 0, &r->cluster, &wanted) < 0) {
        done(r, id, REGISTER_REFUSED, NULL)->why = why;
        return NULL;
    }
    if (wanted->epoch <= held->epoch) { /* somebody was quicker */
        done(r, id, value_same(wanted, held) ? REGISTER_DECIDED : REGISTER_CONFLICT, held);
    } else {
        why = value_next_fault(held, wanted);
        wanted->before = held->voters;
        if (!why)
            return wanted;
        done(r, id, REGISTER_REFUSED, NULL)->why = why;
    }
    value_unref(wanted);
    return NULL;
}

void proposer_change(struct ring_register *r, uint64_t id, uint64_t until_ms, struct slice ring)
{
    struct register_proposer *p = &r->proposer;
    struct register_value *wanted;

    if (p->phase != PROPOSER_IDLE) {
        done(r, id, REGISTER_BUSY, NULL);
        return;
    }
    wanted = take_wanted(r, id, ring);
    if (!wanted)
        return;
    p->wanted = wanted;
    start(r, id, until_ms);
}

/* ---- time ---------------------------------------------------------------------------------- */

void proposer_tick(struct ring_register *r)
{
    struct register_proposer *p = &r->proposer;

    if (p->phase == PROPOSER_IDLE)
        return;
    if (r->now_ms >= p->until_ms)
        finish(r, p->sent ? REGISTER_UNKNOWN : REGISTER_NOTHING, NULL);
    else if (r->now_ms >= p->due_ms && p->phase == PROPOSER_RESTING)
        begin(r);
    else if (r->now_ms >= p->due_ms)
        fail(r);
}

uint64_t proposer_deadline_ms(const struct ring_register *r)
{
    const struct register_proposer *p = &r->proposer;

    if (p->phase == PROPOSER_IDLE)
        return UINT64_MAX;
    return p->due_ms < p->until_ms ? p->due_ms : p->until_ms;
}

void proposer_deinit(struct ring_register *r)
{
    struct register_proposer *p = &r->proposer;

    end_attempt(p);
    value_unref(p->wanted);
    value_unref(p->known_value);
}
