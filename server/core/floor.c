/* floor: see floor.h for what the numbers mean.
 *
 *   floor_close -> closing --nothing of ours under way--> fact --durable--> closed -> purge
 *
 * A fact holds both numbers, and facts of one slot reach the disk in the order in which they were
 * made, so each says the highest that any before it has said.
 *
 * After a start, tombstones are removed again of whatever was closed: the purge may not have come
 * to its end, and a log that is replayed may have brought some back. Zones without any cost
 * nothing.
 *
 * A ring of another shape begins with what the facts say. No such ring is made yet; whoever splits
 * partitions has to write the facts of the new ones first.
 */
#include "server/core/floor.h"
#include "server/core/antientropy.h"
#include "server/core/heal.h"
#include <assert.h>
#include <stdlib.h>

enum floor_work {
    WORK_CLOSE = 1,
    WORK_PURGE = 2
};

#define WORK_SHIFT 32
#define WORK_MASK ((uint64_t)3 << WORK_SHIFT)
#define INCARNATION_SHIFT 36
#define INCARNATION_MASK 0x1ffffffu /* up to the bits of FLOOR_COOKIE */

/* Tells incarnations apart: what was written for one says nothing about the next. */
static uint64_t floor_cookie(enum floor_work work, uint32_t partition, uint64_t incarnation)
{
    return FLOOR_COOKIE | (incarnation & INCARNATION_MASK) << INCARNATION_SHIFT |
           (uint64_t)work << WORK_SHIFT | partition;
}

/* ---- the table ----------------------------------------------------------------------------- */

struct floor *floor_of(const struct worker *w, uint32_t partition)
{
    const struct floors *fl = w->floors;
    struct floor *f = partition < fl->n ? &fl->list[partition] : NULL;

    return f && f->incarnation ? f : NULL;
}

uint64_t floor_closed(const struct worker *w, uint32_t partition)
{
    const struct floor *f = floor_of(w, partition);

    return f ? f->closed : 0;
}

static bool wants_to_close(const struct floor *f)
{
    return f->closing > f->closed;
}

bool floor_takes_in(const struct worker *w, uint32_t partition)
{
    const struct floor *f = floor_of(w, partition);

    return !f || (f->frozen_ms <= w->now_ms && !wants_to_close(f));
}

void floor_note_entry(struct worker *w, uint32_t partition, struct version version)
{
    struct floor *f = floor_of(w, partition);

    if (f && version.hlc <= f->opened)
        f->entered++;
}

void floors_look(struct worker *w)
{
    w->floors->look_ms = w->now_ms;
}

/* ---- rings --------------------------------------------------------------------------------- */

/* A table for so many partitions; operations that were made may still point into the old one. */
static int new_shape(struct worker *w, uint32_t n)
{
    struct floors *fl = w->floors;
    struct floors *older = malloc(sizeof *older);
    struct floor *list = calloc(n, sizeof *list);

    if (!older || !list) {
        free(older);
        free(list);
        return -ERR_NO_MEMORY;
    }
    *older = *fl;
    fl->list = list;
    fl->n = n;
    fl->older = older;
    fl->n_due = 0;
    return 0;
}

static void enter(struct worker *w, uint32_t partition, uint64_t incarnation)
{
    struct floors *fl = w->floors;
    struct floor *f = &fl->list[partition];

    if (f->incarnation == incarnation)
        return;
    fl->n_due -= wants_to_close(f) + f->purge;
    *f = (struct floor){.incarnation = incarnation, .fresh = true};
    /* Of no other start of this node: whoever remembers the number must see that we do not. */
    if (incarnation)
        f->entered = prng_next(&w->prng);
}

static void want_purge(struct worker *w, struct floor *f, uint8_t n_looks)
{
    w->floors->n_due += !f->purge;
    f->purge = true;
    f->n_looks = n_looks;
    floors_look(w);
}

bool floor_wants_look(const struct worker *w, uint32_t partition)
{
    const struct floor *f = floor_of(w, partition);

    return f && f->n_looks > 0 && !f->purge;
}

void floor_looked(struct worker *w, uint32_t partition, uint64_t n_tombstones)
{
    struct floor *f = floor_of(w, partition);

    if (!f || f->n_looks == 0)
        return;
    if (n_tombstones > 0)
        want_purge(w, f, f->n_looks - 1);
    else
        f->n_looks = 0;
}

static void take_fact(struct worker *w, const struct floor_fact *fact)
{
    struct floor *f = floor_of(w, fact->partition);

    if (!f || !f->fresh || f->incarnation != fact->incarnation)
        return;
    f->opened = fact->opened;
    f->closed = fact->closed;
    if (f->closed > 0)
        want_purge(w, f, FLOOR_LOOKS);
}

int floors_recv_ring(struct worker *w, const struct ring *ring, const struct floor_fact *facts,
                     size_t n_facts)
{
    struct floors *fl = w->floors;
    uint32_t n = ring_wire(ring)->n_partitions;

    if (fl->n != n && new_shape(w, n) < 0)
        return -ERR_NO_MEMORY;
    for (uint32_t p = 0; p < n; p++) {
        struct ring_entry entry;
        int own = -1;

        ring_lookup(ring, p, &entry);
        if (token_worker(token_partition_first(p, n), w->n_workers) == w->index)
            own = ring_entry_slot(&entry, w->node);
        enter(w, p, own < 0 ? 0 : entry.slots[own].incarnation);
    }
    for (size_t i = 0; i < n_facts; i++)
        take_fact(w, &facts[i]);
    for (uint32_t p = 0; p < n; p++)
        fl->list[p].fresh = false;
    return 0;
}

/* ---- opening, freezing, closing ------------------------------------------------------------ */

/* False: no memory. */
static bool write_fact(struct worker *w, uint32_t partition, uint64_t closed, uint64_t cookie,
                       struct effects *out)
{
    const struct floor *f = &w->floors->list[partition];
    struct blob *bytes = blob_new(FLOOR_FACT_BYTES + STORE_META_NAME_MAX + 1);
    struct effect *e;

    if (!bytes)
        return false;
    worker_bury(w, bytes);
    floor_fact_pack(f->opened, closed, bytes->data);
    e = worker_emit(out, EFFECT_STORE);
    e->u.store = (struct store_op){.type = STORE_OP_META, .cookie = cookie};
    e->u.store.value = slice_of(bytes->data, FLOOR_FACT_BYTES);
    e->u.store.name =
        floor_fact_name(partition, f->incarnation, (char *)bytes->data + FLOOR_FACT_BYTES);
    return true;
}

bool floor_open(struct worker *w, uint32_t partition, uint64_t floor, uint64_t cookie,
                struct effects *out)
{
    struct floor *f = &w->floors->list[partition];

    f->opened = floor > f->opened ? floor : f->opened;
    return write_fact(w, partition, f->writing > f->closed ? f->writing : f->closed, cookie, out);
}

/* What we have asked for is not taken any more; what came may be on its way into the store. */
static bool drop_requests(struct worker *w, uint32_t partition)
{
    antientropy_freeze(w, partition);
    heal_freeze(w, partition);
    return !antientropy_is_merging(w, partition) && !heal_is_merging(w, partition);
}

bool floor_freeze(struct worker *w, uint32_t partition)
{
    struct floor *f = floor_of(w, partition);

    assert(f);
    f->frozen_ms = w->now_ms + FLOOR_FREEZE_MS;
    return drop_requests(w, partition);
}

void floor_close(struct worker *w, uint32_t partition, uint64_t floor)
{
    struct floor *f = floor_of(w, partition);

    if (!f || floor > f->opened || floor <= f->closing || floor <= f->closed)
        return;
    w->floors->n_due += !wants_to_close(f);
    f->closing = floor;
    drop_requests(w, partition);
    floors_look(w);
}

static void recv_closed(struct worker *w, struct floor *f, int error)
{
    struct floors *fl = w->floors;

    if (!error && f->writing > f->closed) {
        f->closed = f->writing;
        f->frozen_ms = 0;
        fl->n_due -= !wants_to_close(f);
        want_purge(w, f, FLOOR_LOOKS);
    }
    f->writing = 0;
    fl->look_ms = error ? w->now_ms + FLOOR_AGAIN_MS : w->now_ms;
}

static void recv_purged(struct worker *w, struct floor *f, int error)
{
    struct floors *fl = w->floors;

    fl->purging = false;
    fl->look_ms = w->now_ms;
    if (!error || !f || f->purge)
        return;
    f->purge = true;
    fl->n_due++;
    fl->look_ms = w->now_ms + FLOOR_AGAIN_MS;
}

void floors_recv_stored(struct worker *w, const struct event *in)
{
    uint64_t cookie = in->u.stored.cookie;
    uint32_t partition = (uint32_t)cookie;
    enum floor_work work = (enum floor_work)((cookie & WORK_MASK) >> WORK_SHIFT);
    struct floor *f = floor_of(w, partition);

    if (f && cookie != floor_cookie(work, partition, f->incarnation))
        f = NULL; /* of an incarnation that is gone */
    if (work == WORK_PURGE)
        recv_purged(w, f, in->u.stored.error);
    else if (f)
        recv_closed(w, f, in->u.stored.error);
}

/* ---- what becomes runnable ----------------------------------------------------------------- */

static void begin_close(struct worker *w, uint32_t partition, struct effects *out)
{
    struct floor *f = &w->floors->list[partition];

    if (f->writing || !drop_requests(w, partition))
        return; /* it is looked at again when that has come */
    if (write_fact(w, partition, f->closing, floor_cookie(WORK_CLOSE, partition, f->incarnation),
                   out))
        f->writing = f->closing;
}

static void begin_purge(struct worker *w, uint32_t partition, struct effects *out)
{
    struct floors *fl = w->floors;
    struct floor *f = &fl->list[partition];
    struct effect *e;

    if (fl->purging)
        return;
    fl->purging = true;
    f->purge = false;
    fl->n_due--;
    e = worker_emit(out, EFFECT_PURGE);
    e->u.purge.cookie = floor_cookie(WORK_PURGE, partition, f->incarnation);
    e->u.purge.range = partition_range(w, partition);
    e->u.purge.floor = f->closed;
}

bool floors_drain(struct worker *w, struct effects *out)
{
    struct floors *fl = w->floors;

    if (fl->look_ms > w->now_ms || w->stopping)
        return true;
    fl->look_ms = fl->n_due > 0 ? w->now_ms + FLOOR_AGAIN_MS : UINT64_MAX;
    for (uint32_t p = 0; p < fl->n && fl->n_due > 0; p++) {
        struct floor *f = &fl->list[p];

        if (!wants_to_close(f) && !f->purge)
            continue;
        if (!worker_room(w, out)) {
            fl->look_ms = w->now_ms;
            return false;
        }
        if (wants_to_close(f))
            begin_close(w, p, out);
        else
            begin_purge(w, p, out);
    }
    return true;
}

uint64_t floors_deadline_ms(const struct worker *w)
{
    return w->stopping || w->floors->n_due == 0 ? UINT64_MAX : w->floors->look_ms;
}

/* ---- life ---------------------------------------------------------------------------------- */

int floors_init(struct worker *w)
{
    w->floors = calloc(1, sizeof *w->floors);
    if (!w->floors)
        return -ERR_NO_MEMORY;
    w->floors->look_ms = UINT64_MAX;
    return 0;
}

void floors_deinit(struct worker *w)
{
    struct floors *fl = w->floors, *older;

    while (fl) {
        older = fl->older;
        free(fl->list);
        free(fl);
        fl = older;
    }
}
