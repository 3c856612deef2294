/* store_log_slice: one transaction of the apply.
 *
 * A slice covers a contiguous range of keys, so it dirties few pages for many records, and holds
 * the summaries of the zones it touches: records, counts and leaves are of one moment at every
 * crash point. It decides by version like everybody else (what the log replays may be on disk
 * already) and reads the old record from the page that it rewrites anyway.
 *
 * A zone's wipes come first, oldest first, then those of its entries that are newer than them. A
 * wipe's number is written into the summary by the transaction that deletes its last record: after
 * a crash it is done once more from the start, or known to be done.
 *
 * A slice ends after so many records or dirty pages. Those are estimated by watching where the
 * bytes of consecutive records go: a long transaction makes the log's syncs wait behind its own.
 *
 * An old record or a summary that fails its checksum is not a reason to stop: what replaces it is
 * known to be newer, or heals it (store.h), and the zone is then counted anew. Of the records of a
 * load that is not known, so it leaves damaged ones where they are and says so.
 */
#include "storage/store_log_impl.h"

#include "storage/bytes.h"
#include "storage/fault_guard.h"
#include "storage/merge.h"

#define SLICE_PAGES_MAX 2000u
/* Of a purge, which is in no hurry. */
#define PURGE_PAGES_MAX 500u
/* What looking at a zone's summary costs a purge, as records. */
#define PURGE_ZONE_RECORDS 64u
/* Misplaced records that one transaction removes: the zone is read again after each. */
#define SLICE_REMOVED_MAX 64u

struct slice_run {
    struct store_log *s;
    struct lmdb_txn txn;
    struct zone *zone;
    uint32_t number; /* of the zone */
    bool recount;    /* its summary is not to be trusted */
    bool spares;     /* a damaged record is left as it is, and noted */
    bool met_damage;
    bool unsure; /* records of the zone stand in no order, and which are at fault is open */
    size_t n, n_max;
    size_t n_purged;
    unsigned n_removed; /* misplaced records */
};

static bool run_is_full(const struct slice_run *run)
{
    return run->n >= run->n_max || run->txn.n_pages >= SLICE_PAGES_MAX;
}

/* ---- zones (all return LMDB codes) --------------------------------------------------------- */

/* Adds up what is whole, until an entry was removed that led searches astray. */
static int count_until_removed(struct slice_run *run, bool *ret_removed)
{
    struct lmdb_sift sift;
    struct lmdb_record rec;
    struct state none = {0};
    int rc;

    *ret_removed = run->unsure = false;
    lmdb_txn_sift(&run->txn, zone_range(run->number), &sift);
    for (rc = lmdb_sift_next(&sift, &rec); rc == 0; rc = lmdb_sift_next(&sift, &rec)) {
        if (rec.order == LMDB_MISPLACED && run->n_removed < SLICE_REMOVED_MAX) {
            rc = lmdb_txn_remove(&run->txn, ret_removed);
            if (rc != 0 || *ret_removed)
                return rc;
        }
        run->unsure = run->unsure || rec.order != LMDB_IN_ORDER;
        if (rec.error == 0 && zone_of(rec.token) == run->number)
            zone_change(run->zone, rec.token, &rec.key, &none, &rec.state);
    }
    return rc == LMDB_SIFT_END ? 0 : rc;
}

/* Summary from the records, without the damaged ones. Keeps what only the summary knows. */
static int zone_recount(struct slice_run *run)
{
    struct zone *z = run->zone;
    struct version max = z->info.max_version;
    uint64_t wiped = z->wiped;
    bool removed;
    int rc;

    do {
        memset(z, 0, sizeof(*z));
        z->info.max_version = max;
        z->wiped = wiped;
        rc = count_until_removed(run, &removed);
        run->n_removed += removed;
    } while (rc == 0 && removed);
    return rc;
}

static int zone_begin(struct slice_run *run, uint32_t number)
{
    struct slice bytes;
    int rc = lmdb_txn_zone_get(&run->txn, number, &bytes);

    run->number = number;
    run->recount = false;
    memset(run->zone, 0, sizeof(*run->zone));
    if (rc == 0 && bytes.data && zone_decode(bytes, number, run->zone) < 0) {
        memset(run->zone, 0, sizeof(*run->zone));
        run->recount = true;
        /* Of a zone that was damaged from the start no wipe is left to be done. */
        if (run->s->zone_wiped[number] != WIPE_UNKNOWN)
            run->zone->wiped = run->s->zone_wiped[number];
    }
    return rc;
}

static int zone_end(struct slice_run *run)
{
    uint8_t bytes[ZONE_BYTES];
    int rc = run->recount ? zone_recount(run) : 0;

    if (rc != 0)
        return rc;
    zone_encode(run->zone, run->number, bytes);
    /* Should the transaction fail, it is told right when the zone is written next. */
    atomic_store_explicit(&run->s->zone_tombstones[run->number], run->zone->info.n_tombstones,
                          memory_order_relaxed);
    run->txn.n_pages += 1 + ZONE_BYTES / 4096;
    return lmdb_txn_zone_put(&run->txn, run->number, slice_of(bytes, sizeof(bytes)));
}

/* ---- records ------------------------------------------------------------------------------- */

static int merge_record(struct slice_run *run, uint64_t token, const struct key *key,
                        struct slice store_key, const struct state *state)
{
    struct state old;
    int error, rc = lmdb_txn_insert(&run->txn, store_key, state, &old, &error);

    run->n++;
    if (rc == LMDB_INSERTED) {
        zone_change(run->zone, token, key, &old, state);
        return 0;
    }
    if (rc != 0)
        return rc;
    if (error < 0 && run->spares) {
        run->met_damage = true;
        return 0;
    }
    if (error < 0) {
        run->recount = true;
        old = (struct state){0};
    }
    if (merge_states(&old, state) != OUTCOME_STORED)
        return 0;
    zone_change(run->zone, token, key, &old, state);
    return lmdb_txn_replace(&run->txn, store_key, state);
}

static int wipe_whole(struct slice_run *run, const struct lmdb_record *rec)
{
    struct state none = {0};

    zone_change(run->zone, rec->token, &rec->key, &rec->state, &none);
    return lmdb_txn_delete(&run->txn);
}

/* Of what a search would miss, or is damaged, the first that lies in the range, or beside it and is
 * nobody's. Damaged ones that cannot be removed without harm stay. *ret_more: there was one. */
static int wipe_hidden(struct slice_run *run, struct store_range range, bool *ret_more)
{
    struct lmdb_record rec;
    struct lmdb_sift sift;
    int rc;

    *ret_more = false;
    lmdb_txn_sift(&run->txn, range, &sift);
    sift.strays = true;
    for (rc = lmdb_sift_next(&sift, &rec); rc == 0; rc = lmdb_sift_next(&sift, &rec)) {
        uint64_t token = store_cursor_token(rec.store_key);
        bool inside = token >= range.first && token <= range.last;

        if (rec.error == 0 && inside) {
            *ret_more = run->recount = true;
            return wipe_whole(run, &rec);
        }
        if (rec.error == 0 || !(inside || rec.order == LMDB_MISPLACED))
            continue;
        run->recount = true;
        if (rec.error == -ERR_FORMAT) { /* whole, whatever it says */
            *ret_more = true;
            return lmdb_txn_delete(&run->txn);
        }
        rc = lmdb_txn_remove(&run->txn, ret_more);
        if (rc == 0 && !*ret_more && run->txn.touched) { /* another transaction knows better */
            run->n = run->n_max;
            *ret_more = true;
        }
        if (rc != 0 || *ret_more)
            return rc;
    }
    return rc == LMDB_SIFT_END ? 0 : rc;
}

/* By searches, as long as they find whole records. *ret_more: the slice is full and there may be
 * more. */
static int wipe_records(struct slice_run *run, struct store_range range, bool *ret_more)
{
    struct lmdb_record rec;
    int rc;

    for (*ret_more = true; *ret_more && !run_is_full(run); run->n += *ret_more) {
        rc = lmdb_txn_seek(&run->txn, range, (struct slice){0}, &rec);
        if (rc == 0 && rec.store_key.len && rec.error == 0)
            rc = wipe_whole(run, &rec);
        else if (rc == 0)
            rc = wipe_hidden(run, range, ret_more);
        if (rc != 0)
            return rc;
    }
    return 0;
}

/* ---- a pass -------------------------------------------------------------------------------- */

static bool wipe_is_of(const struct table_wipe *w, uint32_t zone)
{
    return !w->done && zone_of(w->range.first) == zone;
}

static int apply_wipes(struct slice_run *run, const struct table *t, struct pass *pass,
                       bool *ret_more)
{
    *ret_more = false;
    for (; pass->wipe < t->n_wipes; pass->wipe++) {
        const struct table_wipe *w = &t->wipes[pass->wipe];
        int rc;

        if (!wipe_is_of(w, pass->zone))
            continue;
        rc = wipe_records(run, w->range, ret_more);
        if (rc != 0 || *ret_more)
            return rc;
        run->zone->wiped = w->number > run->zone->wiped ? w->number : run->zone->wiped;
        run->s->zone_wiped[pass->zone] = run->zone->wiped;
    }
    return 0;
}

static int apply_entries(struct slice_run *run, const struct table *t, struct pass *pass,
                         bool *ret_more)
{
    struct store_range range = zone_range(pass->zone);
    struct slice from = slice_of(pass->after, pass->after_len);
    struct table_iter it;
    uint64_t token;
    struct key key;
    bool done;

    table_seek(t, from, &it);
    if (it.entry && slice_equal(memtable_key(it.entry), from))
        table_next(&it);
    for (*ret_more = true; it.entry; table_next(&it)) {
        struct slice store_key = memtable_key(it.entry);
        struct state state = memtable_state(it.entry);
        int rc;

        if (store_key_decode(store_key, &token, &key) < 0 || token > range.last)
            break;
        if (run_is_full(run))
            return 0;
        pass->n_applied++;
        if (t->n_wipes == 0 || it.entry->lsn > table_wiped(t, token, &done)) {
            rc = merge_record(run, token, &key, store_key, &state);
            if (rc != 0)
                return rc;
        }
        pass->after_len = store_key.len;
        memcpy(pass->after, store_key.data, store_key.len);
    }
    *ret_more = false;
    return 0;
}

static void pass_to_zone(struct pass *pass, uint32_t zone)
{
    uint64_t first = zone < ZONES ? zone_range(zone).first : 0;

    if (zone % TABLE_RANGE_ZONES == 0)
        pass->n_applied = 0;
    pass->zone = zone;
    pass->wipe = 0;
    pass->after_len = 8; /* shorter than any key: below the zone's first */
    bytes_put_token(pass->after, first);
}

/* Nothing of the table lies in the zone (or no more). */
static bool zone_is_quiet(const struct table *t, const struct pass *pass)
{
    struct table_iter it;
    uint64_t token;
    struct key key;

    if (!t)
        return true;
    for (size_t i = 0; i < t->n_wipes; i++)
        if (wipe_is_of(&t->wipes[i], pass->zone))
            return false;
    table_seek(t, slice_of(pass->after, pass->after_len), &it);
    return !it.entry || store_key_decode(memtable_key(it.entry), &token, &key) < 0 ||
           zone_of(token) != pass->zone;
}

static int apply_zone(struct slice_run *run, const struct table *t, struct pass *pass,
                      bool *ret_more)
{
    int rc = zone_begin(run, pass->zone);

    if (rc == 0)
        rc = apply_wipes(run, t, pass, ret_more);
    if (rc == 0 && !*ret_more)
        rc = apply_entries(run, t, pass, ret_more);
    return rc == 0 ? zone_end(run) : rc;
}

/* What a crash need not replay: everything that is durable and, in each part, on disk. durable is
 * read first: what the log takes later has a higher LSN. */
static uint64_t applied_lsn(struct store_log *s, const struct pass *pass)
{
    uint64_t lsn = pass->durable, first;

    for (uint32_t q = 0; q < s->n_parts; q++) {
        first = atomic_load(&s->parts[q].active_first);
        lsn = first <= lsn ? first - 1 : lsn;
        first = pass->tables[q] ? LSN_NONE : atomic_load(&s->parts[q].frozen_first);
        lsn = first <= lsn ? first - 1 : lsn;
    }
    first = facts_first_after(s, pass->durable);
    return first <= lsn ? first - 1 : lsn;
}

static int finish_pass(struct slice_run *run, struct pass *pass)
{
    struct store_log *s = run->s;
    int rc;

    pass->durable = log_durable(s->log);
    pass->seq = log_seq_of(s->log, applied_lsn(s, pass));
    rc = facts_write(s, &run->txn, pass->durable);
    if (rc == 0)
        rc = lmdb_txn_number_put(&run->txn, META_NAME_APPLIED, pass->seq);
    pass->finished = rc == 0;
    return rc;
}

/* A replay goes around what passes have behind them. */
static int put_place(struct slice_run *run, const struct pass_place *place)
{
    uint8_t bytes[PASS_PLACE_BYTES];

    return lmdb_txn_fact_put(&run->txn, slice_str(META_NAME_PLACE),
                             pass_place_encode(place, bytes));
}

/* Nothing of the table is left to be done in the zone. */
static void end_zone(struct pass *pass, uint32_t part)
{
    pass_place_raise(&pass->place, pass->zone, pass->seq_of[part]);
    pass_to_zone(pass, pass->zone + 1);
}

static int fill(struct slice_run *run, struct pass *pass)
{
    uint32_t begin = pass->zone;
    bool more = false;
    int rc = 0;

    if (pass->after_len == 0)
        pass_to_zone(pass, pass->zone);
    while (pass->zone < ZONES && !run_is_full(run)) {
        uint32_t part = part_of(run->s, zone_range(pass->zone).first);
        const struct table *t = pass->tables[part];

        if (zone_is_quiet(t, pass)) {
            end_zone(pass, part);
            continue;
        }
        rc = apply_zone(run, t, pass, &more);
        if (rc != 0)
            return rc;
        if (!more)
            end_zone(pass, part);
    }
    if (pass->zone > begin)
        rc = put_place(run, &pass->place);
    return rc == 0 && pass->zone == ZONES ? finish_pass(run, pass) : rc;
}

/* ---- a purge ------------------------------------------------------------------------------- */

static struct store_range purge_range(const struct purge *purge, uint32_t zone)
{
    struct store_range range = zone_range(zone);

    range.first = range.first > purge->range.first ? range.first : purge->range.first;
    range.last = range.last < purge->range.last ? range.last : purge->range.last;
    return range;
}

/* Until the walk has ended, or the slice is full. */
static int purge_records(struct slice_run *run, struct lmdb_purge *walk)
{
    struct state none = {0};
    struct lmdb_record rec;

    walk->seeks = true;
    while (!walk->ended && run->n < run->n_max && run->txn.n_pages < PURGE_PAGES_MAX) {
        int rc = lmdb_txn_purge_next(&run->txn, walk, &run->n, run->n_max, &rec);

        if (rc != 0)
            return rc;
        if (!rec.store_key.len)
            continue;
        zone_change(run->zone, rec.token, &rec.key, &rec.state, &none);
        rc = lmdb_txn_delete(&run->txn);
        if (rc != 0)
            return rc;
        run->n_purged++;
        walk->ended = !run->recount && run->zone->info.n_tombstones == 0;
    }
    return 0;
}

/* A zone that has no tombstone, by its summary, is not read. */
static bool zone_has_tombstones(struct slice bytes, uint32_t number)
{
    struct store_info info;
    uint64_t wiped;

    return bytes.data &&
           (zone_decode_info(bytes, number, &info, &wiped) < 0 || info.n_tombstones > 0);
}

static int purge_zone(struct slice_run *run, struct purge_place *at)
{
    size_t n_before = run->n_purged;
    struct slice bytes;
    int rc = lmdb_txn_zone_get(&run->txn, at->zone, &bytes);

    at->walk.ended = rc == 0 && !zone_has_tombstones(bytes, at->zone);
    if (rc != 0 || at->walk.ended)
        return rc;
    rc = zone_begin(run, at->zone);
    if (rc == 0)
        rc = purge_records(run, &at->walk);
    return rc == 0 && run->n_purged > n_before ? zone_end(run) : rc;
}

static int purge_zones(struct slice_run *run, const struct purge *purge, struct purge_place *at,
                       struct pass_place *place)
{
    uint32_t last = zone_of(purge->range.last);
    bool said = true;
    uint64_t seq;

    while (at->zone <= last && run->n < run->n_max && run->txn.n_pages < PURGE_PAGES_MAX) {
        int rc;

        if (!purge_is_settled(run->s, at->zone, &seq))
            break;
        at->walk.range = purge_range(purge, at->zone);
        at->walk.floor = purge->floor;
        rc = purge_zone(run, at);
        if (rc != 0)
            return rc;
        run->n += PURGE_ZONE_RECORDS;
        if (seq > place->seq_of[at->zone]) {
            pass_place_raise(place, at->zone, seq);
            said = false;
        }
        if (at->walk.ended)
            *at = (struct purge_place){.zone = at->zone + 1};
    }
    return said || run->n_purged == 0 ? 0 : put_place(run, place);
}

/* ---- transactions -------------------------------------------------------------------------- */

/* Ends the transaction: rc is what filling it said. */
static int run_end(struct slice_run *run, int rc, char why[COMMIT_WHY_BYTES])
{
    if (rc == 0)
        return lmdb_txn_result(lmdb_txn_commit(&run->txn), true, why);
    lmdb_txn_abort(&run->txn);
    return lmdb_txn_result(rc, false, why);
}

int slice_apply(struct store_log *s, struct pass *pass, size_t records_max,
                char why[COMMIT_WHY_BYTES])
{
    struct slice_run run = {.s = s, .zone = s->apply.zone, .n_max = records_max};
    struct pass next = *pass;
    int r, rc;

    fault_guard_enter();
    rc = lmdb_txn_begin(&s->env, &run.txn);
    r = rc == 0 ? run_end(&run, fill(&run, &next), why) : lmdb_txn_result(rc, false, why);
    fault_guard_leave();
    if (r == COMMIT_OK)
        *pass = next;
    return r;
}

int slice_purge(struct store_log *s, struct purge *purge, size_t records_max,
                char why[COMMIT_WHY_BYTES])
{
    struct slice_run run = {.s = s, .zone = s->apply.zone, .n_max = records_max};
    struct pass_place place = s->apply.pass.place;
    struct purge_place at = purge->at;
    int r, rc;

    fault_guard_enter();
    rc = lmdb_txn_begin(&s->env, &run.txn);
    r = lmdb_txn_result(rc, false, why);
    if (rc == 0)
        rc = purge_zones(&run, purge, &at, &place);
    if (r == COMMIT_OK && rc == 0 && run.n_purged == 0)
        lmdb_txn_abort(&run.txn); /* nothing is written for having looked */
    else if (r == COMMIT_OK)
        r = run_end(&run, rc, why);
    fault_guard_leave();
    if (r != COMMIT_OK)
        return r;
    purge->at = at;
    if (run.n_purged)
        s->apply.pass.place = place;
    atomic_fetch_add_explicit(&s->n_purged, run.n_purged, memory_order_relaxed);
    return COMMIT_OK;
}

static int load_items(struct slice_run *run, struct load *load, size_t *at)
{
    const struct commit_batch *b = load->batch;
    bool open = false;
    int rc = 0;

    for (; rc == 0 && *at < b->n && !run_is_full(run); ++*at) {
        const struct commit_item *item = &b->items[*at];
        uint64_t token;
        struct key key;

        if (store_key_decode(item->key, &token, &key) < 0)
            continue; /* made by us a moment ago */
        if (open && zone_of(token) != run->number) {
            rc = zone_end(run);
            open = false;
        }
        if (rc == 0 && !open)
            rc = zone_begin(run, zone_of(token));
        open = true;
        if (rc == 0)
            rc = merge_record(run, token, &key, item->key, &item->state);
    }
    return rc == 0 && open ? zone_end(run) : rc;
}

int slice_load(struct store_log *s, struct load *load, size_t records_max,
               char why[COMMIT_WHY_BYTES])
{
    struct slice_run run = {.s = s, .zone = s->apply.zone, .n_max = records_max, .spares = true};
    size_t at = load->next_item;
    int r, rc;

    fault_guard_enter();
    rc = lmdb_txn_begin(&s->env, &run.txn);
    r = rc == 0 ? run_end(&run, load_items(&run, load, &at), why) : lmdb_txn_result(rc, false, why);
    fault_guard_leave();
    if (r == COMMIT_OK)
        load->next_item = at;
    if (r == COMMIT_OK && run.met_damage)
        load->error = -ERR_CORRUPT;
    return r;
}

static int make_zones(struct slice_run *run)
{
    int rc = 0;

    for (uint32_t number = 0; rc == 0 && number < ZONES; number++) {
        memset(run->zone, 0, sizeof(*run->zone));
        run->number = number;
        run->recount = true;
        rc = zone_end(run);
    }
    return rc == 0 ? lmdb_txn_number_put(&run->txn, META_NAME_FORMAT, STORE_FORMAT_LOG) : rc;
}

int slice_make_zones(struct store_log *s, char why[COMMIT_WHY_BYTES])
{
    struct slice_run run = {.s = s, .zone = s->apply.zone};
    int r, rc;

    fault_guard_enter();
    rc = lmdb_txn_begin(&s->env, &run.txn);
    r = rc == 0 ? run_end(&run, make_zones(&run), why) : lmdb_txn_result(rc, false, why);
    fault_guard_leave();
    return r;
}

/* ---- a summary made anew ------------------------------------------------------------------- */

/* Newest versions of a zone that are above what its summary knew come from elsewhere: its owner is
 * told, lest it take what is older for new. */
static void tell_owner(struct store_log *s, uint32_t number, struct version max)
{
    struct part *p = &s->parts[part_of(s, zone_range(number).first)];

    pthread_mutex_lock(&p->lock);
    s->zone_raised[number] = max;
    atomic_store_explicit(&p->has_raised, true, memory_order_release);
    pthread_mutex_unlock(&p->lock);
}

static int remake(struct slice_run *run, uint32_t number, struct version *ret_before)
{
    int rc = zone_begin(run, number);

    *ret_before = run->zone->info.max_version;
    run->recount = true;
    return rc == 0 ? zone_end(run) : rc;
}

int slice_remake(struct store_log *s, uint32_t number, int *ret_error, char why[COMMIT_WHY_BYTES])
{
    struct slice_run run = {.s = s, .zone = s->apply.zone};
    struct version before = {0};
    int r, rc;

    *ret_error = 0;
    fault_guard_enter();
    rc = lmdb_txn_begin(&s->env, &run.txn);
    if (rc == 0) {
        rc = remake(&run, number, &before);
        *ret_error = run.unsure || lmdb_err(rc) == -ERR_CORRUPT ? -ERR_CORRUPT : 0;
        r = run_end(&run, rc, why);
    } else {
        r = lmdb_txn_result(rc, false, why);
    }
    fault_guard_leave();
    if (r == COMMIT_OK && version_compare(run.zone->info.max_version, before) > 0)
        tell_owner(s, number, run.zone->info.max_version);
    return *ret_error < 0 ? COMMIT_OK : r; /* the store is no worse than before */
}
