/* antientropy_missed: what was missed last is compared first.
 *
 * While a node is away, each slot that takes a put notes for the slots on that node that they miss
 * it, and when. At its return those pairs are asked at once, whoever is the lower slot, the newest
 * first: what is written now is likely what is read now. The returned node does not know what it
 * has missed. It learns it from the hints that come with our questions, and takes hinted pairs
 * before others.
 *
 * Only an order: nothing depends on it being complete. What no note speaks of is found as always.
 */
#include "server/core/antientropy.h"
#include <stdlib.h>

void missed_look_who_is_gone(struct worker *w)
{
    const struct wire_ring *ring = w->ring ? ring_wire(w->ring) : NULL;

    w->antientropy->missed.anyone_gone = false;
    for (size_t i = 0; ring && i < ring->n_members; i++)
        if (!worker_node_up(w, ring_member_node(w->ring, (uint32_t)i)))
            w->antientropy->missed.anyone_gone = true;
}

void antientropy_note_put(struct worker *w, uint32_t partition)
{
    struct ring_entry entry;

    if (!w->antientropy->missed.anyone_gone)
        return;
    ring_lookup(w->ring, partition, &entry);
    for (uint32_t s = 0; s < entry.n_slots; s++) {
        struct pair *p = pair_of(w, partition, s);

        if (p && entry.slots[s].state == SLOT_READY && !worker_node_up(w, entry.slots[s].node))
            p->missed_ms = w->now_ms;
    }
}

/* ---- the order ----------------------------------------------------------------------------- */

static bool belongs(const struct pair *p)
{
    return p->urgent && p->missed_ms > 0;
}

/* Newest first. */
static int by_time(const void *a, const void *b)
{
    const struct missed_pair *x = a, *y = b;

    if (x->missed_ms != y->missed_ms)
        return x->missed_ms > y->missed_ms ? -1 : 1;
    return x->pair < y->pair ? -1 : 1;
}

void missed_sort(struct worker *w)
{
    struct antientropy *a = w->antientropy;
    size_t n_pairs = (size_t)a->n_partitions * a->n_slots, n = 0;

    missed_forget(a);
    for (size_t i = 0; a->pairs && i < n_pairs; i++)
        n += belongs(&a->pairs[i]);
    if (n == 0)
        return;
    a->missed.list = malloc(n * sizeof *a->missed.list);
    if (!a->missed.list)
        return; /* in the order of partitions, then */
    for (size_t i = 0; i < n_pairs; i++)
        if (belongs(&a->pairs[i]))
            a->missed.list[a->missed.n++] =
                (struct missed_pair){a->pairs[i].missed_ms, (uint32_t)i};
    qsort(a->missed.list, a->missed.n, sizeof *a->missed.list, by_time);
}

bool missed_next(struct antientropy *a, uint32_t *at, uint64_t now_ms, uint32_t *ret_pair)
{
    struct missed *m = &a->missed;

    for (; *at < m->n; ++*at) {
        const struct pair *p = &a->pairs[m->list[*at].pair];

        if (p->urgent && p->due_ms <= now_ms) {
            *ret_pair = m->list[*at].pair;
            return true;
        }
        if (*at == m->at) /* it has been compared since */
            m->at++;
    }
    if (m->at == m->n)
        missed_forget(a);
    return false;
}

void missed_forget(struct antientropy *a)
{
    free(a->missed.list);
    a->missed.list = NULL;
    a->missed.n = a->missed.at = 0;
}
