/* antientropy_pairs: which slots are compared next, and when.
 *
 *   quiet      once per round, spread over it; the lower slot of the two asks
 *   urgent     the other's node has come (back): at once, the lower slot asks, and whoever knows of
 *              something that the other has missed; that first (antientropy_missed.c)
 *   differs    as seen by whoever asked last: both ask, soon, then ever less often while there is
 *              nothing to pull, up to once per round
 *
 * Due times stand in one array over partitions and slots. It is walked only when something is due:
 * a lap that finds nothing notes the next time. One partition has one session at a time, so that
 * what two others have is not fetched twice.
 */
#include "server/core/antientropy.h"
#include "server/core/floor.h"
#include <assert.h>
#include <stdlib.h>

static size_t n_pairs(const struct antientropy *a)
{
    return (size_t)a->n_partitions * a->n_slots;
}

/* Of a partition and a slot that there are. */
static struct pair *pair_at(struct worker *w, uint32_t partition, uint32_t slot)
{
    struct antientropy *a = w->antientropy;

    assert(a->pairs && partition < a->n_partitions && slot < a->n_slots);
    return &a->pairs[(size_t)partition * a->n_slots + slot];
}

struct pair *pair_of(struct worker *w, uint32_t partition, uint32_t slot)
{
    struct antientropy *a = w->antientropy;

    if (!a->pairs || partition >= a->n_partitions || slot >= a->n_slots)
        return NULL;
    return pair_at(w, partition, slot);
}

static void set_due(struct antientropy *a, struct pair *p, uint64_t at_ms)
{
    p->due_ms = at_ms;
    if (at_ms < a->look_ms)
        a->look_ms = at_ms;
}

static void set_differs(struct antientropy *a, struct pair *p, bool differs)
{
    if (p->differs == differs)
        return;
    p->differs = differs;
    if (differs)
        a->stats.n_pairs_differ++;
    else
        a->stats.n_pairs_differ--;
}

static bool owned(const struct worker *w, uint32_t partition)
{
    return worker_owner(w, partition, w->n_workers) == w->index;
}

/* This node's slot of the partition, if it is READY, or -1. */
static int own_slot(const struct worker *w, const struct ring_entry *entry)
{
    int own = ring_entry_slot(entry, w->node);

    return own >= 0 && entry->slots[own].state == SLOT_READY ? own : -1;
}

/* ---- events -------------------------------------------------------------------------------- */

void antientropy_recv_ring(struct worker *w)
{
    struct antientropy *a = w->antientropy;
    const struct wire_ring *ring = ring_wire(w->ring);

    missed_look_who_is_gone(w);
    if (a->n_partitions == ring->n_partitions && a->n_slots == ring->n_slots &&
        (a->pairs || a->round_ms == 0))
        return;
    antientropy_forget(w); /* numbers of partitions, slots and leaves mean something else now */
    missed_forget(a);
    free(a->pairs);
    a->pairs = NULL;
    a->n_partitions = ring->n_partitions;
    a->n_slots = ring->n_slots;
    a->cursor = 0;
    a->look_ms = w->now_ms;
    a->stats.n_pairs_differ = 0;
    if (a->round_ms == 0)
        return;
    a->pairs = calloc(n_pairs(a), sizeof *a->pairs); /* NULL: with the next ring */
    for (size_t i = 0; a->pairs && i < n_pairs(a); i++)
        a->pairs[i].due_ms = w->now_ms + prng_below(&w->prng, a->round_ms);
}

/* Slots of that node, in partitions of which this worker has one. */
static void each_pair_with(struct worker *w, uint32_t node,
                           void (*fn)(struct worker *w, struct pair *p, uint32_t own,
                                      uint32_t slot))
{
    struct antientropy *a = w->antientropy;
    struct ring_entry entry;

    if (!w->ring)
        return;
    for (uint32_t p = 0; a->pairs && p < a->n_partitions; p++) {
        int own;

        if (!owned(w, p))
            continue;
        ring_lookup(w->ring, p, &entry);
        own = own_slot(w, &entry);
        for (uint32_t s = 0; own >= 0 && s < entry.n_slots; s++)
            if (entry.slots[s].state == SLOT_READY && entry.slots[s].node == node)
                fn(w, pair_at(w, p, s), (uint32_t)own, s);
    }
}

static void make_urgent(struct worker *w, struct pair *p, uint32_t own, uint32_t slot)
{
    p->n_vain = 0;
    p->urgent = true;
    if (p->missed_ms > 0)
        set_differs(w->antientropy, p, true);
    if (own > slot && !p->differs)
        return; /* theirs to ask first */
    set_due(w->antientropy, p, w->now_ms);
}

void antientropy_node_back(struct worker *w, uint32_t node)
{
    missed_look_who_is_gone(w);
    each_pair_with(w, node, make_urgent);
    missed_sort(w);
}

void antientropy_heard(struct worker *w, uint32_t partition, uint32_t slot, bool equal)
{
    struct pair *p = pair_of(w, partition, slot);
    uint64_t echo_ms = w->now_ms + ANTIENTROPY_ECHO_MS;

    if (!p)
        return;
    /* Else it has its time already: hearing the same again and again must not put it off. */
    if (!equal && (!p->differs || (p->n_vain == 0 && echo_ms < p->due_ms)))
        set_due(w->antientropy, p, echo_ms);
    if (equal) {
        p->n_vain = 0;
        p->urgent = false;
        p->missed_ms = 0;
    }
    set_differs(w->antientropy, p, !equal);
}

/* Ours to ask, whoever is the lower. */
static void make_ours(struct worker *w, struct pair *p)
{
    set_differs(w->antientropy, p, true);
    p->urgent = true;
    p->n_vain = 0;
    set_due(w->antientropy, p, w->now_ms);
}

void antientropy_range_changed(struct worker *w, struct store_range range)
{
    struct antientropy *a = w->antientropy;
    struct ring_entry entry;
    uint32_t last;

    if (!a->pairs)
        return;
    last = ring_partition(w->ring, range.last);
    for (uint32_t p = ring_partition(w->ring, range.first); p <= last && p < a->n_partitions; p++) {
        int own;

        if (!owned(w, p))
            continue;
        ring_lookup(w->ring, p, &entry);
        own = own_slot(w, &entry);
        for (uint32_t s = 0; own >= 0 && s < entry.n_slots; s++)
            if (s != (uint32_t)own && entry.slots[s].state == SLOT_READY)
                make_ours(w, pair_at(w, p, s));
    }
}

/* ---- hints --------------------------------------------------------------------------------- */

static struct hint *hint_of(struct antientropy *a, uint32_t partition, uint32_t slot)
{
    for (uint32_t i = 0; i < ANTIENTROPY_HINTS; i++)
        if (a->hints[i].n > 0 && a->hints[i].partition == partition && a->hints[i].slot == slot)
            return &a->hints[i];
    return NULL;
}

void antientropy_hint(struct worker *w, uint32_t partition, uint32_t slot, const uint32_t *leaves,
                      uint32_t n)
{
    struct antientropy *a = w->antientropy;
    struct pair *p = pair_of(w, partition, slot);
    struct hint *h = p ? hint_of(a, partition, slot) : NULL;

    if (!p)
        return;
    if (!h) {
        h = &a->hints[a->next_hint];
        a->next_hint = (a->next_hint + 1) % ANTIENTROPY_HINTS;
        *h = (struct hint){.partition = partition, .slot = slot};
    }
    for (uint32_t i = 0; i < n && h->n < ANTIENTROPY_HINT_LEAVES; i++)
        if (h->n == 0 || leaves[i] > h->leaves[h->n - 1])
            h->leaves[h->n++] = leaves[i];
    set_differs(a, p, true);
    set_due(a, p, w->now_ms);
}

const struct hint *hint_for(struct worker *w, const struct session *s)
{
    return hint_of(w->antientropy, s->partition, s->slot);
}

void hint_drop(struct worker *w, const struct hint *h)
{
    w->antientropy->hints[h - w->antientropy->hints].n = 0;
}

bool antientropy_is_busy(const struct worker *w, uint32_t partition, uint32_t slot)
{
    const struct antientropy *a = w->antientropy;

    for (uint32_t i = 0; i < ANTIENTROPY_SESSIONS; i++)
        if (a->sessions[i].stage != SESSION_FREE && a->sessions[i].partition == partition &&
            a->sessions[i].slot != slot)
            return true;
    for (uint32_t s = 0; a->pairs && partition < a->n_partitions && s < a->n_slots; s++) {
        const struct pair *p = &a->pairs[(size_t)partition * a->n_slots + s];

        if (s != slot && p->differs && p->due_ms <= w->now_ms + ANTIENTROPY_ECHO_MS)
            return true;
    }
    return false;
}

/* ---- ends ---------------------------------------------------------------------------------- */

/* Not all at the same time again: two that told each other "later" would do so for ever. */
static uint64_t again_ms(struct worker *w, const struct pair *p)
{
    uint64_t ms = (uint64_t)ANTIENTROPY_AGAIN_MS << (p->n_vain < 16 ? p->n_vain : 16);

    ms = ms < w->antientropy->round_ms ? ms : w->antientropy->round_ms;
    return ms / 2 + prng_below(&w->prng, ms / 2 + 1);
}

void pair_ended(struct worker *w, struct session *s, enum session_end end)
{
    struct antientropy *a = w->antientropy;
    struct pair *p = pair_of(w, s->partition, s->slot);

    if (!p)
        return;
    if (end == SESSION_EQUAL) {
        set_differs(a, p, false);
        p->urgent = false;
        p->n_vain = 0;
        p->missed_ms = 0;
        set_due(a, p, w->now_ms + a->round_ms);
        return;
    }
    if (end == SESSION_DIFFERED)
        set_differs(a, p, true);
    if (p->n_vain >= ANTIENTROPY_URGENT_TRIES) /* what could be had at once is here */
        p->urgent = false;
    if (end == SESSION_DIFFERED && s->n_pulled > 0 && !s->young && !s->failed) {
        p->n_vain = 0;
        set_due(a, p, w->now_ms + ANTIENTROPY_VERIFY_MS);
        return;
    }
    set_due(a, p, w->now_ms + again_ms(w, p));
    if (p->n_vain < UINT8_MAX)
        p->n_vain++;
}

/* ---- the next one -------------------------------------------------------------------------- */

static bool has_session(const struct antientropy *a, uint32_t partition)
{
    for (uint32_t i = 0; i < ANTIENTROPY_SESSIONS; i++)
        if (a->sessions[i].stage != SESSION_FREE && a->sessions[i].partition == partition)
            return true;
    return false;
}

/* One node that is slow to answer does not get all the sessions. */
static bool node_is_busy(const struct antientropy *a, uint32_t node)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < ANTIENTROPY_SESSIONS; i++)
        n += a->sessions[i].stage != SESSION_FREE && a->sessions[i].node == node;
    return n >= ANTIENTROPY_NODE_SESSIONS;
}

/* Whether there is anybody to ask, and it is ours to ask. Fills in who. */
static bool pair_enter(const struct worker *w, uint32_t partition, uint32_t slot,
                       const struct pair *p, struct session *s)
{
    struct ring_entry entry;
    int own;

    ring_lookup(w->ring, partition, &entry);
    own = own_slot(w, &entry);
    if (own < 0 || slot >= entry.n_slots || slot == (uint32_t)own ||
        entry.slots[slot].state != SLOT_READY || !worker_node_up(w, entry.slots[slot].node) ||
        (!p->differs && (uint32_t)own > slot))
        return false;
    s->partition = partition;
    s->own_slot = (uint32_t)own;
    s->slot = slot;
    s->node = entry.slots[slot].node;
    s->fence = entry.fence;
    s->own_incarnation = entry.slots[own].incarnation;
    s->incarnation = entry.slots[slot].incarnation;
    s->closed = floor_closed(w, partition);
    s->urgent = p->urgent;
    return true;
}

/* A pair that is due and not to be compared from here now is looked at again in a round: when its
 * node comes back, it is urgent. */
static bool pair_take(struct worker *w, uint32_t partition, uint32_t slot, struct session *s)
{
    struct antientropy *a = w->antientropy;
    struct pair *p = pair_at(w, partition, slot);

    if (has_session(a, partition) || !floor_takes_in(w, partition))
        return false;
    if (!pair_enter(w, partition, slot, p, s)) {
        p->due_ms = w->now_ms + a->round_ms;
        return false;
    }
    return w->nodes[s->node].mute_ms <= w->now_ms && !node_is_busy(a, s->node);
}

/* Of those whose hints say where they differ. */
static bool next_hinted(struct worker *w, struct session *s)
{
    struct antientropy *a = w->antientropy;

    for (uint32_t i = 0; i < ANTIENTROPY_HINTS; i++) {
        const struct hint *h = &a->hints[i];
        const struct pair *p = h->n > 0 ? pair_of(w, h->partition, h->slot) : NULL;

        if (p && p->urgent && p->due_ms <= w->now_ms && pair_take(w, h->partition, h->slot, s))
            return true;
    }
    return false;
}

static bool next_missed(struct worker *w, struct session *s)
{
    struct antientropy *a = w->antientropy;
    uint32_t pair;

    for (uint32_t at = a->missed.at, n = 0;
         n < MISSED_LOOKS && missed_next(a, &at, w->now_ms, &pair); at++, n++)
        if (pair_take(w, pair / a->n_slots, pair % a->n_slots, s))
            return true;
    return false;
}

bool pair_next(struct worker *w, struct session *s)
{
    struct antientropy *a = w->antientropy;
    uint64_t next_ms = UINT64_MAX, wait_ms;
    bool waiting = false; /* for a session to end */
    bool resting = a->rest_us > w->now_ms * 1000;

    if (next_hinted(w, s) || next_missed(w, s)) {
        a->more_due = true;
        return true;
    }
    for (size_t n = n_pairs(a); n > 0; n--) {
        uint32_t at = a->cursor, partition = at / a->n_slots, slot = at % a->n_slots;
        struct pair *p = &a->pairs[at];

        a->cursor = at + 1 < n_pairs(a) ? at + 1 : 0;
        if (!owned(w, partition))
            continue;
        if (p->due_ms <= w->now_ms && (p->urgent || !resting)) {
            if (pair_take(w, partition, slot, s)) {
                a->more_due = true;
                return true;
            }
            waiting |= p->due_ms <= w->now_ms;
        }
        next_ms = p->due_ms < next_ms ? p->due_ms : next_ms;
    }
    /* Nothing now. What is due waits for a session to end, or until we may work again; what is not
     * yet is begun together with others: wake-ups cost more than comparisons. */
    a->more_due = waiting;
    wait_ms = waiting || resting ? ANTIENTROPY_RETRY_MS : ANTIENTROPY_BATCH_MS;
    a->look_ms = next_ms > w->now_ms + wait_ms ? next_ms : w->now_ms + wait_ms;
    return false;
}
