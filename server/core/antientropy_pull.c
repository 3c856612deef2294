/* antientropy_pull: fetching what differs in the leaves that a comparison has found.
 *
 * Some leaves at a time: read our own records of them, tell the other slot which keys we have in
 * which versions, and merge what it sends back, which is what we lack or have in a lower version.
 * A question is about a stretch of store keys, bounded by what it tells (LIMIT_PULL_KNOWN records);
 * an answer may stop early (its bytes), and the next question goes on after it. So a leaf may be of
 * any size.
 *
 * Of a leaf whose digest is 0 we have nothing, so nothing is read. A record of ours that fails its
 * checksum is not told, so the other's comes; whether it may replace ours is the store's business.
 */
#include "server/core/antientropy.h"
#include "server/core/floor.h"
#include "server/core/heal.h"
#include "server/core/records.h"
#include "storage/merge.h"
#include <assert.h>

/* Merges given to the store by one unit of work. */
#define MERGES_AT_ONCE 16u

/* ---- leaves and tokens --------------------------------------------------------------------- */

static uint64_t leaf_first(const struct worker *w, const struct session *s, uint32_t leaf)
{
    return partition_range(w, s->partition).first + ((uint64_t)leaf << (64 - TREE_LEAF_BITS));
}

static uint64_t leaf_last(const struct worker *w, const struct session *s, uint32_t leaf)
{
    return leaf_first(w, s, leaf) + (UINT64_MAX >> TREE_LEAF_BITS);
}

/* The index of the token's leaf among those that differ, from `from` on; n_arcs: it is none. */
static uint32_t index_of_token(const struct worker *w, const struct session *s, uint64_t token,
                               uint32_t from)
{
    uint32_t i = from;

    while (i < s->n_arcs && leaf_last(w, s, s->arcs[i]) < token)
        i++;
    return i < s->n_arcs && leaf_first(w, s, s->arcs[i]) <= token ? i : s->n_arcs;
}

/* ---- reading our own ----------------------------------------------------------------------- */

static bool knows_nothing_of(const struct session *s, uint32_t index)
{
    const uint64_t *leaves = (const uint64_t *)(const void *)s->leaves->data;

    return leaves[s->arcs[index]] == 0;
}

static bool may_take(const struct pull *p, uint32_t index, uint32_t n_arcs)
{
    return index < n_arcs && index - p->at < LIMIT_PULL_LEAVES;
}

static void emit_scan(struct worker *w, struct session *s, struct effects *out)
{
    struct pull *p = &s->pull;
    struct effect *e = worker_emit(out, EFFECT_SCAN);

    s->stage = SESSION_SCAN;
    e->u.scan.cookie = session_cookie(w, s, 0);
    e->u.scan.range.first = leaf_first(w, s, s->arcs[p->scan_at]);
    e->u.scan.range.last = leaf_last(w, s, s->arcs[p->scan_end - 1]);
    e->u.scan.cursor = place_slice(&p->scanned);
    e->u.scan.bytes_max = LIMIT_SCAN_PAGE_BYTES;
}

/* Neighbours are read in one go. */
static void scan_next(struct worker *w, struct session *s, struct effects *out)
{
    struct pull *p = &s->pull;

    while (may_take(p, p->scan_at, s->n_arcs) && p->scanned.len == 0 &&
           knows_nothing_of(s, p->scan_at))
        p->scan_at++;
    if (!may_take(p, p->scan_at, s->n_arcs)) {
        p->end = p->scan_at;
        session_gate(w, s, SESSION_PULL, out);
        return;
    }
    p->scan_end = p->scan_at + 1;
    while (may_take(p, p->scan_end, s->n_arcs) &&
           s->arcs[p->scan_end] == s->arcs[p->scan_end - 1] + 1)
        p->scan_end++;
    emit_scan(w, s, out);
}

static void begin_question(struct worker *w, struct session *s, struct effects *out)
{
    struct pull *p = &s->pull;

    p->n_known = 0;
    p->until.len = 0;
    p->scan_at = p->at;
    p->scanned = p->after;
    scan_next(w, s, out);
}

void pull_start(struct worker *w, struct session *s, struct effects *out)
{
    struct pull *p = &s->pull;

    s->differs = true;
    p->known_blob = blob_new(LIMIT_PULL_KNOWN * sizeof *p->known);
    if (!p->known_blob) {
        session_end(w, s, SESSION_FAILED);
        return;
    }
    p->known = (struct wire_known *)(void *)p->known_blob->data;
    pull_go_on(w, s, out);
}

void pull_go_on(struct worker *w, struct session *s, struct effects *out)
{
    struct antientropy *a = w->antientropy;

    if (s->pull.at >= s->n_arcs) {
        session_end(w, s, SESSION_DIFFERED);
        return;
    }
    if (a->pull_us > (w->now_ms + ANTIENTROPY_AHEAD_MS) * 1000) {
        s->stage = SESSION_REST;
        s->until_ms = (a->pull_us + 999) / 1000;
        return;
    }
    begin_question(w, s, out);
}

/* False: the question is full; it ends with the record before. */
static bool tell_record(struct worker *w, struct session *s, const struct wire_record *r)
{
    struct pull *p = &s->pull;
    uint64_t token = ring_token(w->ring, &r->key);

    if (floor_hides(s->closed, &r->state))
        return true; /* the other may have removed it already */
    if (p->n_known == LIMIT_PULL_KNOWN) {
        p->end = index_of_token(w, s, store_cursor_token(place_slice(&p->until)), p->at) + 1;
        return false;
    }
    p->known[p->n_known].key_hash = merge_key_hash(&r->key);
    p->known[p->n_known++].version = r->state.version;
    p->until.len = store_cursor_encode(token, &r->key, p->until.key);
    return true;
}

void antientropy_recv_scanned(struct worker *w, const struct event *in, struct effects *out)
{
    const struct store_page *page = in->u.scanned.page;
    uint32_t number;
    struct session *s = session_of_cookie(w, in->u.scanned.cookie, &number);
    struct pull *p;

    if (!s || s->stage != SESSION_SCAN)
        return;
    p = &s->pull;
    if (in->u.scanned.error == -ERR_CORRUPT && page && page->cursor_len > 0) {
        place_set(&p->scanned, slice_of(page->cursor, page->cursor_len)); /* step over it */
        heal_record(w, place_slice(&p->scanned));
        emit_scan(w, s, out);
        return;
    }
    if (in->u.scanned.error) {
        session_end(w, s, SESSION_FAILED);
        return;
    }
    s->lsn = page->lsn > s->lsn ? page->lsn : s->lsn;
    for (size_t i = 0; i < page->n; i++)
        if (!tell_record(w, s, &page->items[i])) {
            session_gate(w, s, SESSION_PULL, out);
            return;
        }
    if (page->more) {
        place_set(&p->scanned, slice_of(page->cursor, page->cursor_len));
        emit_scan(w, s, out);
        return;
    }
    p->scan_at = p->scan_end;
    p->scanned.len = 0;
    scan_next(w, s, out);
}

/* ---- asking -------------------------------------------------------------------------------- */

void pull_ask(struct worker *w, struct session *s, struct effects *out)
{
    struct pull *p = &s->pull;
    struct wire_peer msg = {.type = PEER_PULL};

    if (p->n_known < LIMIT_PULL_KNOWN)
        p->until.len = 0; /* all of the last leaf was told */
    msg.u.pull.slot = s->own_slot;
    msg.u.pull.quiet_ms = s->urgent ? 0 : ANTIENTROPY_QUIET_MS;
    msg.u.pull.leaves = s->arcs + p->at;
    msg.u.pull.n_leaves = p->end - p->at;
    msg.u.pull.after = place_slice(&p->after);
    msg.u.pull.until = place_slice(&p->until);
    msg.u.pull.known = p->known;
    msg.u.pull.n_known = p->n_known;
    s->stage = SESSION_PULL;
    session_ask(w, s, &msg, out);
}

/* Where the next question begins. False: that is no progress. */
static bool advance(struct worker *w, struct session *s, struct slice cursor)
{
    struct pull *p = &s->pull;
    uint32_t at;

    if (cursor.len == 0 && p->until.len == 0) {
        p->at = p->end;
        p->after.len = 0;
        return true;
    }
    if (cursor.len == 0)
        cursor = place_slice(&p->until);
    at = index_of_token(w, s, store_cursor_token(cursor), p->at);
    if (at >= p->end ||
        (at == p->at && p->after.len && slice_compare(cursor, place_slice(&p->after)) <= 0))
        return false;
    p->at = at;
    place_set(&p->after, cursor);
    return true;
}

/* They are of our partition, all of them: a record elsewhere would never be found again. */
static bool records_belong(const struct worker *w, const struct session *s,
                           const struct wire_record *records, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (ring_partition(w->ring, ring_token(w->ring, &records[i].key)) != s->partition)
            return false;
    return true;
}

/* In microseconds: an answer of a few small records is less than one millisecond's share. */
static void charge_bytes(struct worker *w, uint64_t bytes)
{
    struct antientropy *a = w->antientropy;
    uint64_t now_us = w->now_ms * 1000;

    a->pull_us =
        (a->pull_us > now_us ? a->pull_us : now_us) + bytes * 1000000 / ANTIENTROPY_BYTES_PER_S;
}

void pull_recv(struct worker *w, struct session *s, const struct wire_peer *msg,
               struct effects *out)
{
    struct pull *p = &s->pull;
    const struct wire_record *records = msg->u.pull_reply.records;
    size_t n = msg->u.pull_reply.n_records, bytes = 0, charged = 0;

    if (!records_belong(w, s, records, n) || !advance(w, s, msg->u.pull_reply.cursor)) {
        session_end(w, s, SESSION_FAILED);
        return;
    }
    s->young |= msg->u.pull_reply.young;
    if (n == 0) {
        pull_go_on(w, s, out);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        size_t size = record_bytes(&records[i]);

        bytes += size;
        charged += size > ANTIENTROPY_RECORD_BYTES_MIN ? size : ANTIENTROPY_RECORD_BYTES_MIN;
    }
    charge_bytes(w, charged);
    w->antientropy->stats.n_pulled += n;
    w->antientropy->stats.n_pulled_bytes += bytes;
    s->n_pulled += n;
    p->blob = records_copy(records, n, &p->records);
    if (!p->blob) {
        session_end(w, s, SESSION_FAILED);
        return;
    }
    p->n_records = (uint32_t)n;
    p->n_emitted = 0;
    s->stage = SESSION_MERGE; /* goes on in pull_merge */
}

/* ---- merging ------------------------------------------------------------------------------- */

static void emit_merge(struct worker *w, struct session *s, uint32_t number, struct effects *out)
{
    const struct wire_record *r = &s->pull.records[number];
    struct effect *e = worker_emit(out, EFFECT_STORE);

    e->u.store = (struct store_op){.type = STORE_OP_MERGE,
                                   .cookie = session_cookie(w, s, number),
                                   .token = ring_token(w->ring, &r->key),
                                   .key = r->key,
                                   .state = r->state,
                                   .owner = s->pull.blob};
    s->pull.n_merging++;
    floor_note_entry(w, s->partition, r->state.version);
}

/* A tombstone that we have closed over, of a slot that has not yet. Where we have something older
 * all the same, which nothing but damage explains, it is needed. */
static bool is_buried(const struct session *s, const struct wire_record *r)
{
    uint64_t hash;

    if (!floor_hides(s->closed, &r->state))
        return false;
    hash = merge_key_hash(&r->key);
    for (size_t i = 0; i < s->pull.n_known; i++)
        if (s->pull.known[i].key_hash == hash)
            return false;
    return true;
}

bool pull_merge(struct worker *w, struct session *s, struct effects *out)
{
    struct pull *p = &s->pull;

    while (p->n_emitted < p->n_records) {
        if (is_buried(s, &p->records[p->n_emitted])) {
            p->n_emitted++;
            continue;
        }
        if (!worker_room(w, out))
            return false;
        if (!session_holds(w, s)) { /* the slot that asked may be gone, and its range wiped */
            session_end(w, s, SESSION_FAILED);
            return true;
        }
        for (uint32_t i = 0; i < MERGES_AT_ONCE && p->n_emitted < p->n_records &&
                             !is_buried(s, &p->records[p->n_emitted]);
             i++)
            emit_merge(w, s, p->n_emitted++, out);
    }
    if (p->n_merging > 0)
        return true;
    if (!worker_room(w, out))
        return false;
    worker_bury(w, p->blob);
    p->blob = NULL;
    p->n_records = p->n_emitted = 0;
    pull_go_on(w, s, out);
    return true;
}

/* The record in whose place it was to go is damaged, and the leaf did not show that we have one. */
static void heal_pulled(struct worker *w, const struct wire_record *r)
{
    uint8_t key[STORE_CURSOR_BYTES_MAX];
    size_t len = store_cursor_encode(ring_token(w->ring, &r->key), &r->key, key);

    heal_record(w, slice_of(key, len));
}

void antientropy_recv_stored(struct worker *w, const struct event *in)
{
    uint32_t number;
    struct session *s = session_of_cookie(w, in->u.stored.cookie, &number);

    if (!s || (s->stage != SESSION_MERGE && s->stage != SESSION_DRAIN))
        return;
    assert(s->pull.n_merging > 0);
    s->pull.n_merging--;
    if (s->stage == SESSION_DRAIN) {
        if (s->pull.n_merging == 0)
            session_drained(w, s);
        return;
    }
    assert(number < s->pull.n_records);
    s->failed |= in->u.stored.error != 0;
    if (in->u.stored.error == -ERR_CORRUPT)
        heal_pulled(w, &s->pull.records[number]);
}

void pull_free(struct worker *w, struct session *s)
{
    worker_bury(w, s->pull.blob);
    worker_bury(w, s->pull.known_blob);
    s->pull = (struct pull){0};
}
