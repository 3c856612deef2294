/* store_log_purge: tombstones at or below a floor go from disk.
 *
 *   asker --purge--> [asked] --> apply: a slice at a time, between passes and loads
 *   asker <--reap--- [done]  <-----'  its zones are gone through
 *            notify
 *
 * Nothing is logged: the floor is, by the caller, before it asks. A slice deletes tombstones and
 * changes the summary of their zone in one transaction, so a crash finds each of them whole or
 * gone. A zone without tombstones is skipped by its summary.
 *
 * What a tombstone hid must not come back. On disk its key has one record; what else may be known
 * of the key is in tables, and in the log, which fills tables again after a crash:
 *
 *   newer than the tombstone   the usual case: it was put on top of it, and stays
 *   the tombstone itself       applied already, still in the log: a crash brings it back, to be
 *                              purged again; the log is replayed in its order, so whatever of the
 *                              key is replayed from before the tombstone is followed by it
 *   older                      only beside a load, which goes to disk past tables and log: after
 *                              it an entry of the tables may be older than what is on disk, and so
 *                              may all that was replayed at a start: there may have been loads
 *
 * So a part whose owner has not settled the last case (`unsettled`, an LSN) purges nothing until
 * its entries up to there are on disk, where they have lost against the tombstone, and until no
 * replay can bring them back: they stand in groups of the log that are behind (pass_place), and
 * the transaction that purges makes that durable. The log tells it of whole segments only, so
 * while puts come one on the other this may be as long as it takes to fill one; tables are frozen
 * early meanwhile, so that a moment without puts is enough. A store that was closed, and had no
 * loads since, has nothing to settle.
 *
 * Pace: a slice is bounded by what it reads and by the pages that it dirties, and then the purge
 * rests for as long as the slice took, so at least half of the disk's time is others'.
 */
#include "storage/store_log_impl.h"

#include <assert.h>

/* A slice that waited for much of a cold disk is not made up for. */
#define PURGE_REST_MS_MAX 1000u
/* Records of a slice while space is low: few pages have to find room at once. */
#define PURGE_RECORDS_FEW 64u

/* ---- when it may be done -------------------------------------------------------------------- */

/* All of the part up to this LSN is durable, and on disk: a bound. */
static uint64_t part_applied(struct store_log *s, const struct part *p)
{
    uint64_t lsn = log_durable(s->log), first; /* first of all: what comes later is higher */

    first = atomic_load(&p->active_first);
    lsn = first <= lsn ? first - 1 : lsn;
    first = atomic_load(&p->frozen_first);
    return first <= lsn ? first - 1 : lsn;
}

bool purge_is_settled(struct store_log *s, uint32_t zone, uint64_t *ret_seq)
{
    const struct part *p = &s->parts[part_of(s, zone_range(zone).first)];
    uint64_t unsettled = atomic_load(&p->unsettled), applied;

    *ret_seq = 0;
    if (unsettled == 0)
        return true;
    applied = part_applied(s, p);
    if (applied < unsettled) /* as is any LSN, while there is a load */
        return false;
    *ret_seq = log_seq_of(s->log, applied);
    return log_is_behind(s->log, unsettled, *ret_seq);
}

/* The owner is to freeze its active table: whatever is in there, nothing of the part is in memory
 * alone for a moment, and the log may be behind up to its end. */
static bool wants_freeze(struct store_log *s, uint32_t zone)
{
    const struct part *p = &s->parts[part_of(s, zone_range(zone).first)];
    uint64_t seq;

    return atomic_load(&p->unsettled) != LSN_NONE && atomic_load(&p->active_first) != LSN_NONE &&
           !purge_is_settled(s, zone, &seq);
}

/* ---- the asker's thread -------------------------------------------------------------------- */

int store_log_purge(struct store *store, uint32_t queue, uint64_t cookie, struct store_range range,
                    uint64_t floor)
{
    struct store_log *s = log_of(store);
    struct purge *purge = &s->parts[queue].purge;

    assert(range.first <= range.last);
    if (atomic_load_explicit(&s->failed, memory_order_relaxed))
        return -ERR_IO;
    if (atomic_load(&purge->state) != PURGE_FREE)
        return -ERR_FULL;
    purge->cookie = cookie;
    purge->range = range;
    purge->floor = floor;
    purge->error = 0;
    purge->at = (struct purge_place){.zone = zone_of(range.first)};
    atomic_store(&purge->state, PURGE_ASKED);
    if (part_of(s, range.first) == queue && wants_freeze(s, zone_of(range.first)))
        atomic_store(&s->parts[queue].wants_freeze, true); /* at once, as it is the owner's */
    part_chores(s, queue);
    apply_kick(s);
    return 0;
}

bool part_has_purged(const struct part *p)
{
    return atomic_load(&p->purge.state) == PURGE_DONE;
}

size_t part_reap_purge(struct store_log *s, uint32_t queue, struct store_done *out, size_t max)
{
    struct part *p = &s->parts[queue];

    if (max == 0 || !part_has_purged(p))
        return 0;
    /* What is reaped will be seen. */
    if (lmdb_snapshot_open(&s->env, queue) && lmdb_snapshot_next(&s->env, queue) < 0)
        return 0;
    *out = (struct store_done){
        .cookie = p->purge.cookie, .error = p->purge.error, .lsn = log_durable(s->log)};
    atomic_store(&p->purge.state, PURGE_FREE);
    return 1;
}

/* ---- the apply's thread -------------------------------------------------------------------- */

static bool is_asked(const struct part *p)
{
    return atomic_load(&p->purge.state) == PURGE_ASKED;
}

void purge_ask_owners(struct store_log *s)
{
    for (uint32_t q = 0; q < s->n_parts; q++) {
        uint32_t owner;

        if (!is_asked(&s->parts[q]) || !wants_freeze(s, s->parts[q].purge.at.zone))
            continue;
        owner = part_of(s, zone_range(s->parts[q].purge.at.zone).first);
        atomic_store(&s->parts[owner].wants_freeze, true);
        s->config.notify(s->config.ctx, owner);
    }
}

/* The next queue whose purge can go on, from `from` on; n_parts: none. */
static uint32_t next_queue(struct store_log *s, uint32_t from)
{
    for (uint32_t i = 0; i < s->n_parts; i++) {
        uint32_t q = (from + i) % s->n_parts;
        uint64_t seq;

        if (is_asked(&s->parts[q]) && purge_is_settled(s, s->parts[q].purge.at.zone, &seq))
            return q;
    }
    return s->n_parts;
}

bool purge_is_due(struct store_log *s, uint64_t *ret_wait_ms)
{
    struct apply *a = &s->apply;
    uint64_t now_ms;

    a->purge_queue = next_queue(s, a->purge_queue);
    if (a->purge_queue == s->n_parts) {
        a->purge_queue = 0;
        return false;
    }
    now_ms = apply_now_ms();
    if (now_ms >= a->purge_ms)
        return true;
    if (a->purge_ms - now_ms < *ret_wait_ms)
        *ret_wait_ms = a->purge_ms - now_ms;
    return false;
}

static int run_slice(struct store_log *s, void *what, size_t records_max,
                     char why[COMMIT_WHY_BYTES])
{
    return slice_purge(s, what, records_max, why);
}

int purge_run(struct store_log *s)
{
    struct apply *a = &s->apply;
    uint32_t queue = a->purge_queue;
    struct purge *purge = &s->parts[queue].purge;
    bool few = atomic_load(&s->space.low) && s->slice_records > PURGE_RECORDS_FEW;
    uint64_t begin_ms = apply_now_ms(), rest_ms;
    int r = apply_try_slice(s, run_slice, purge, few ? PURGE_RECORDS_FEW : s->slice_records);

    if (r < 0)
        return r;
    space_refresh(&s->space, atomic_load(&s->env.used_bytes));
    rest_ms = apply_now_ms() - begin_ms;
    a->purge_ms = begin_ms + rest_ms + (rest_ms < PURGE_REST_MS_MAX ? rest_ms : PURGE_REST_MS_MAX);
    a->purge_queue = (queue + 1) % s->n_parts;
    if (r > 0)
        purge->error = r == COMMIT_NO_MEMORY ? -ERR_NO_MEMORY : -ERR_NO_SPACE;
    if (r > 0 || purge->at.zone > zone_of(purge->range.last)) {
        atomic_store(&purge->state, PURGE_DONE);
        s->config.notify(s->config.ctx, queue);
    }
    return 0;
}
