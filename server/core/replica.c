/* replica: answers for the slots that live here, in the partitions that this worker owns.
 *
 * A request names (partition, slot, incarnation, fence). It is answered only for the incarnation
 * that the ring names as living here, under the same fence; NOT_YET if the sender knows a newer
 * ring, NOT_OWNER if it goes by an older one or the slot lives elsewhere; the check is repeated
 * when the store has answered. A request for a partition of a sibling worker is relayed to it.
 *
 *   request --check--> pending --effect--> store --done event--> check --> gate --> reply
 *
 * The gate: a read may show what a crash could still erase. Its reply carries the LSN that it
 * reveals, and waits, its bytes copied, until the store's durable LSN covers it. Outcomes of puts
 * come when they are durable, so they need no gate.
 *
 * Deadlines: what nobody waits for any more is dropped before the store is asked, and a read that
 * comes back too late is not answered. Dropped means that nothing at all is said, least of all a
 * refusal: whoever sent a put goes on taking this slot for one that may hold it, and says so at its
 * own deadline. Only a sibling that relayed the request is told, to forget it. A put that the store
 * has taken is answered however late it is.
 *
 * Purge floors (floor.h): what is pushed is merged above the slot's opened floor only, which the
 * store looks at when it takes the operation. A write-back that was refused so names a slot that
 * holds the record; it is fetched from there, and the write-back answered NOT_YET meanwhile.
 *
 * First-hand puts (stamped by a coordinator for a client) from a clock too far ahead of ours are
 * refused; what arrives as state is merged whatever its time and moves no clock.
 */
#include "server/core/replica.h"
#include "server/core/antientropy.h"
#include "server/core/floor.h"
#include "server/core/heal.h"
#include "storage/merge.h"
#include <assert.h>

/* ---- pending table ------------------------------------------------------------------------- */

uint64_t pending_cookie(const struct worker *w, const struct pending *p)
{
    return (uint64_t)(p->generation & 0x7fffffffu) << 32 | (uint64_t)(p - w->pendings);
}

struct pending *pending_of(struct worker *w, uint64_t cookie)
{
    uint32_t index = (uint32_t)cookie;
    struct pending *p;

    if (index >= WORKER_PENDING_MAX)
        return NULL;
    p = &w->pendings[index];
    return p->kind != PENDING_FREE && pending_cookie(w, p) == cookie ? p : NULL;
}

struct pending *pending_new(struct worker *w, enum pending_kind kind, struct addr from,
                            const struct wire_peer *msg)
{
    struct pending *p;

    if (w->pendings_free != OP_NONE_INDEX) {
        p = &w->pendings[w->pendings_free];
        w->pendings_free = p->next_free;
    } else if (w->pendings_high < WORKER_PENDING_MAX) {
        p = &w->pendings[w->pendings_high++];
    } else {
        return NULL;
    }
    p->kind = (uint8_t)kind;
    p->from = from;
    p->until_ms = 0;
    p->id = msg->id;
    p->replica = msg->replica;
    p->n_partitions = w->ring ? ring_wire(w->ring)->n_partitions : 0;
    p->bytes = NULL;
    p->pull = NULL;
    p->source = 0;
    p->deleted_hlc = 0;
    list_init(&p->gated);
    w->pendings_used++;
    return p;
}

void pending_free(struct worker *w, struct pending *p)
{
    list_remove(&p->gated);
    worker_bury(w, p->bytes);
    p->bytes = NULL;
    worker_bury(w, pull_job_end(p->pull));
    p->pull = NULL;
    p->kind = PENDING_FREE;
    p->generation++;
    p->next_free = w->pendings_free;
    w->pendings_free = (uint32_t)(p - w->pendings);
    w->pendings_used--;
}

void replica_deinit(struct worker *w)
{
    for (uint32_t i = 0; w->pendings && i < w->pendings_high; i++)
        if (w->pendings[i].kind != PENDING_FREE) {
            blob_unref(w->pendings[i].bytes);
            blob_unref(pull_job_end(w->pendings[i].pull));
        }
}

/* ---- replies ------------------------------------------------------------------------------- */

static enum wire_peer_type reply_type(enum wire_peer_type request)
{
    switch (request) {
    case PEER_GET:
        return PEER_GET_REPLY;
    case PEER_PUT:
        return PEER_PUT_REPLY;
    case PEER_SCAN:
        return PEER_SCAN_REPLY;
    case PEER_COMPARE:
        return PEER_COMPARE_REPLY;
    case PEER_PULL:
        return PEER_PULL_REPLY;
    case PEER_PURGE:
        return PEER_PURGE_REPLY;
    default:
        return PEER_NONE;
    }
}

void replica_reply_init(const struct worker *w, struct wire_peer *reply, enum wire_peer_type type,
                        uint64_t id, const struct wire_replica *replica, int error)
{
    memset(&reply->u, 0, sizeof reply->u);
    reply->type = type;
    reply->id = id;
    reply->replica = *replica;
    reply->error = error;
    reply->hlc = w->clock.last;
    reply->ring_epoch = w->ring ? ring_epoch(w->ring) : 0;
    reply->deadline_ms = 0;
}

void replica_refuse(struct worker *w, struct addr from, const struct wire_peer *msg, int err,
                    struct effects *out)
{
    struct wire_peer reply;

    replica_reply_init(w, &reply, reply_type(msg->type), msg->id, &msg->replica, err);
    worker_send(w, from, &reply, NULL, out);
}

static enum wire_peer_type pending_reply_type(const struct pending *p)
{
    switch ((enum pending_kind)p->kind) {
    case PENDING_PUT:
        return PEER_PUT_REPLY;
    case PENDING_SCAN:
        return PEER_SCAN_REPLY;
    case PENDING_COMPARE:
        return PEER_COMPARE_REPLY;
    case PENDING_PULL:
        return PEER_PULL_REPLY;
    case PENDING_PURGE:
        return PEER_PURGE_REPLY;
    case PENDING_GET:
    case PENDING_DIGEST:
        return PEER_GET_REPLY;
    case PENDING_FREE:
    case PENDING_RELAY:
        break;
    }
    return PEER_NONE;
}

void pending_refuse(struct worker *w, struct pending *p, int err, struct effects *out)
{
    struct wire_peer reply;

    replica_reply_init(w, &reply, pending_reply_type(p), p->id, &p->replica, err);
    worker_send(w, p->from, &reply, NULL, out);
    pending_free(w, p);
}

/* A relaying sibling keeps an entry until it hears of it. */
static bool is_relayed(struct addr from, uint64_t id)
{
    return from.kind == ADDR_WORKER && (id & RELAY_BIT);
}

/* Nobody waits for it any more. */
static void drop(struct worker *w, struct addr from, const struct wire_peer *msg,
                 struct effects *out)
{
    w->stats.n_dropped++;
    if (is_relayed(from, msg->id))
        replica_refuse(w, from, msg, ERR_DEADLINE, out);
}

bool pending_is_late(const struct worker *w, const struct pending *p)
{
    return p->until_ms && p->until_ms <= w->now_ms;
}

void pending_drop(struct worker *w, struct pending *p, struct effects *out)
{
    w->stats.n_dropped++;
    if (is_relayed(p->from, p->id))
        pending_refuse(w, p, ERR_DEADLINE, out);
    else
        pending_free(w, p);
}

/* ---- may we answer? ------------------------------------------------------------------------ */

int replica_check(const struct worker *w, const struct wire_replica *r)
{
    struct ring_entry entry;

    if (!w->ring)
        return ERR_NOT_READY;
    if (r->partition >= ring_wire(w->ring)->n_partitions)
        return ERR_BAD_REQUEST;
    ring_lookup(w->ring, r->partition, &entry);
    if (r->fence > entry.fence)
        return ERR_NOT_YET;
    if (r->slot >= entry.n_slots || r->fence < entry.fence ||
        entry.slots[r->slot].state == SLOT_NONE || entry.slots[r->slot].node != w->node ||
        entry.slots[r->slot].incarnation != r->incarnation)
        return ERR_NOT_OWNER;
    return 0;
}

int pending_check(const struct worker *w, const struct pending *p)
{
    int err = replica_check(w, &p->replica);

    if (!err && p->n_partitions != ring_wire(w->ring)->n_partitions)
        return ERR_NOT_OWNER;
    return err;
}

/* The key lies in the partition that the request names: what is stored here stays findable. */
static bool key_belongs(const struct worker *w, const struct wire_peer *msg)
{
    const struct key *key = msg->type == PEER_GET ? &msg->u.get.key : &msg->u.put.key;

    if (msg->type != PEER_GET && msg->type != PEER_PUT)
        return true; /* of the whole partition */
    return ring_partition(w->ring, ring_token(w->ring, key)) == msg->replica.partition;
}

/* ---- requests ------------------------------------------------------------------------------ */

static struct slice key_pack(const struct key *key, struct blob *into)
{
    memcpy(into->data, key->partition.data, key->partition.len);
    if (key->sort.len)
        memcpy(into->data + key->partition.len, key->sort.data, key->sort.len);
    return blob_slice(into);
}

static void recv_get(struct worker *w, struct addr from, const struct wire_peer *msg,
                     uint64_t until_ms, struct effects *out)
{
    const struct key *key = &msg->u.get.key;
    enum pending_kind kind = msg->u.get.digest ? PENDING_DIGEST : PENDING_GET;
    struct pending *p = pending_new(w, kind, from, msg);
    struct effect *e;

    if (!p) {
        replica_refuse(w, from, msg, ERR_OVERLOADED, out);
        return;
    }
    if (msg->u.get.digest) { /* hashed with its key when the store has answered */
        p->bytes = blob_new(key->partition.len + key->sort.len);
        if (!p->bytes) {
            pending_refuse(w, p, ERR_NO_MEMORY, out);
            return;
        }
        key_pack(key, p->bytes);
        p->bucket = key->bucket;
        p->partition_len = (uint16_t)key->partition.len;
    }
    p->token = ring_token(w->ring, key);
    p->until_ms = until_ms;
    e = worker_emit(out, EFFECT_GET);
    e->u.get.cookie = pending_cookie(w, p);
    e->u.get.token = p->token;
    e->u.get.key = *key;
    e->u.get.until_ms = until_ms;
}

static struct blob *store_key_of(uint64_t token, const struct key *key)
{
    uint8_t bytes[STORE_CURSOR_BYTES_MAX];

    return blob_copy(slice_of(bytes, store_cursor_encode(token, key, bytes)));
}

static void recv_put(struct worker *w, struct addr from, const struct wire_peer *msg,
                     uint64_t until_ms, struct blob *owner, struct effects *out)
{
    const struct state *state = &msg->u.put.state;
    const struct floor *floor = floor_of(w, msg->replica.partition);
    struct pending *p;
    struct effect *e;

    if (msg->u.put.first_hand) {
        if (!clock_guards(w->wall_ms + w->clock.behind_ms, state->version.hlc)) {
            w->stats.n_clock_refused++;
            worker_trace(out, TRACE_CLOCK_AHEAD, version_wall_ms(state->version.hlc), w->wall_ms);
            replica_refuse(w, from, msg, ERR_CLOCK, out);
            return;
        }
        clock_adopt(&w->clock, w->wall_ms, state->version.hlc);
    }
    p = pending_new(w, PENDING_PUT, from, msg);
    if (!p) {
        replica_refuse(w, from, msg, ERR_OVERLOADED, out);
        return;
    }
    antientropy_note_put(w, msg->replica.partition);
    p->token = ring_token(w->ring, &msg->u.put.key);
    p->until_ms = until_ms;
    p->source = msg->u.put.source;
    p->deleted_hlc = state->deleted ? state->version.hlc : 0;
    if (p->source && floor && state->version.hlc <= floor->opened) {
        p->bytes = store_key_of(p->token, &msg->u.put.key);
        if (!p->bytes) {
            pending_refuse(w, p, ERR_NO_MEMORY, out);
            return;
        }
    }
    e = worker_emit(out, EFFECT_STORE);
    e->u.store.type = STORE_OP_MERGE;
    e->u.store.cookie = pending_cookie(w, p);
    e->u.store.token = p->token;
    e->u.store.key = msg->u.put.key;
    e->u.store.state = *state;
    e->u.store.owner = owner;
    e->u.store.heal = false;
    e->u.store.floor = floor ? &floor->opened : NULL;
    e->u.store.until_ms = until_ms;
}

static void recv_scan(struct worker *w, struct addr from, const struct wire_peer *msg,
                      uint64_t until_ms, struct effects *out)
{
    uint32_t n_partitions = ring_wire(w->ring)->n_partitions;
    uint32_t partition = msg->replica.partition;
    uint32_t bytes = msg->u.scan.page_bytes;
    struct pending *p = pending_new(w, PENDING_SCAN, from, msg);
    struct effect *e;

    if (!p) {
        replica_refuse(w, from, msg, ERR_OVERLOADED, out);
        return;
    }
    p->until_ms = until_ms;
    e = worker_emit(out, EFFECT_SCAN);
    e->u.scan.cookie = pending_cookie(w, p);
    e->u.scan.range.first = token_partition_first(partition, n_partitions);
    e->u.scan.range.last = e->u.scan.range.first + (UINT64_MAX >> __builtin_ctz(n_partitions));
    e->u.scan.cursor = msg->u.scan.cursor;
    e->u.scan.bytes_max = bytes && bytes < LIMIT_SCAN_PAGE_BYTES ? bytes : LIMIT_SCAN_PAGE_BYTES;
}

void replica_recv(struct worker *w, struct addr from, const struct wire_peer *msg,
                  uint64_t until_ms, struct blob *owner, struct effects *out)
{
    int err = replica_check(w, &msg->replica);

    if (reply_type(msg->type) == PEER_NONE)
        return; /* a message of the future */
    if (until_ms && until_ms <= w->now_ms) {
        drop(w, from, msg, out);
        return;
    }
    if (!err && w->stopping && from.kind != ADDR_SELF)
        err = ERR_SHUTTING_DOWN;
    if (err) {
        replica_refuse(w, from, msg, err, out);
        return;
    }
    if (worker_owner(w, msg->replica.partition, w->n_workers) != w->index) {
        replica_relay(w, from, msg, until_ms, owner, out);
        return;
    }
    if (!key_belongs(w, msg)) {
        replica_refuse(w, from, msg, ERR_BAD_REQUEST, out);
        return;
    }
    if (msg->type == PEER_GET)
        recv_get(w, from, msg, until_ms, out);
    else if (msg->type == PEER_PUT)
        recv_put(w, from, msg, until_ms, owner, out);
    else if (msg->type == PEER_COMPARE)
        replica_compare(w, from, msg, out);
    else if (msg->type == PEER_PULL)
        replica_pull(w, from, msg, out);
    else if (msg->type == PEER_PURGE)
        replica_purge(w, from, msg, until_ms, out);
    else
        recv_scan(w, from, msg, until_ms, out);
}

/* ---- relays -------------------------------------------------------------------------------- */

void replica_relay(struct worker *w, struct addr from, const struct wire_peer *msg,
                   uint64_t until_ms, struct blob *owner, struct effects *out)
{
    struct addr to = {.kind = ADDR_WORKER,
                      .node = w->node,
                      .worker = worker_owner(w, msg->replica.partition, w->n_workers)};
    struct wire_peer copy = *msg;
    struct pending *p;

    if (from.kind != ADDR_LINK) { /* a sibling knows the owner as well as we do */
        replica_refuse(w, from, msg, ERR_NOT_OWNER, out);
        return;
    }
    p = pending_new(w, PENDING_RELAY, from, msg);
    if (!p) {
        replica_refuse(w, from, msg, ERR_OVERLOADED, out);
        return;
    }
    copy.id = pending_cookie(w, p) | RELAY_BIT;
    copy.deadline_ms = until_ms ? (uint32_t)(until_ms - w->now_ms) : 0;
    worker_send(w, to, &copy, owner, out);
}

void replica_relayed(struct worker *w, const struct wire_peer *msg, struct blob *owner,
                     struct effects *out)
{
    struct pending *p = pending_of(w, msg->id & ~RELAY_BIT);
    struct wire_peer copy = *msg;

    if (!p || p->kind != PENDING_RELAY)
        return;
    if (msg->error != ERR_UNKNOWN_OUTCOME && msg->error != ERR_DEADLINE) { /* not answered there */
        copy.id = p->id;
        worker_send(w, p->from, &copy, owner, out);
    }
    pending_free(w, p);
}

/* ---- the gate ------------------------------------------------------------------------------ */

/* A get's answer that must wait: its value is copied out of the store. */
static void gate_get(struct worker *w, struct pending *p, const struct wire_peer *reply,
                     uint64_t lsn, struct effects *out)
{
    struct slice value = reply->u.get_reply.state.value;
    struct blob *copy = value.len ? blob_copy(value) : NULL;

    if (value.len && !copy) {
        pending_refuse(w, p, ERR_NO_MEMORY, out);
        return;
    }
    worker_bury(w, p->bytes);
    p->bytes = copy;
    p->reply = *reply;
    p->reply.u.get_reply.state.value = blob_slice(copy);
    p->lsn = lsn;
    list_append(&w->gate, &p->gated);
}

void pending_answer(struct worker *w, struct pending *p, const struct wire_peer *reply,
                    uint64_t lsn, struct effects *out)
{
    if (lsn > w->durable_lsn) {
        p->reply = *reply;
        p->lsn = lsn;
        list_append(&w->gate, &p->gated);
        return;
    }
    worker_send(w, p->from, reply, p->bytes, out);
    pending_free(w, p);
}

void replica_release(struct worker *w, struct pending *p, struct effects *out)
{
    int err = replica_check(w, &p->replica);

    if (pending_is_late(w, p)) {
        pending_drop(w, p, out);
        return;
    }
    if (err) {
        pending_refuse(w, p, err, out);
        return;
    }
    worker_send(w, p->from, &p->reply, p->bytes, out);
    pending_free(w, p);
}

/* ---- done events --------------------------------------------------------------------------- */

static uint64_t pending_digest(const struct pending *p, const struct state *state)
{
    struct key key = {
        .bucket = p->bucket,
        .partition = slice_of(p->bytes->data, p->partition_len),
        .sort = slice_of(p->bytes->data + p->partition_len, p->bytes->len - p->partition_len)};

    return merge_digest(&key, state);
}

static void fill_get_reply(const struct worker *w, const struct pending *p,
                           const struct state *state, struct wire_peer *reply)
{
    if (state->kind == STATE_NONE) {
        reply->u.get_reply.found = FOUND_ABSENT;
        reply->u.get_reply.floor = floor_closed(w, p->replica.partition);
        return;
    }
    reply->u.get_reply.state = *state;
    if (p->kind == PENDING_GET) {
        reply->u.get_reply.found = FOUND_STATE;
        return;
    }
    reply->u.get_reply.found = FOUND_DIGEST;
    reply->u.get_reply.digest = pending_digest(p, state);
    reply->u.get_reply.state.value = (struct slice){0};
}

void replica_got(struct worker *w, const struct event *in, struct effects *out)
{
    struct pending *p = pending_of(w, in->u.got.cookie);
    struct wire_peer reply;
    int err;

    if (!p)
        return;
    err = in->u.got.error ? -in->u.got.error : replica_check(w, &p->replica);
    if (err == ERR_CORRUPT)
        heal_token(w, p->token);
    if (pending_is_late(w, p)) {
        pending_drop(w, p, out);
        return;
    }
    if (err) {
        pending_refuse(w, p, err, out);
        return;
    }
    replica_reply_init(w, &reply, PEER_GET_REPLY, p->id, &p->replica, 0);
    fill_get_reply(w, p, &in->u.got.state, &reply);
    if (in->u.got.lsn > w->durable_lsn) {
        gate_get(w, p, &reply, in->u.got.lsn, out);
        return;
    }
    worker_send(w, p->from, &reply, NULL, out);
    pending_free(w, p);
}

void replica_scanned(struct worker *w, const struct event *in, struct effects *out)
{
    const struct store_page *page = in->u.scanned.page;
    struct pending *p = pending_of(w, in->u.scanned.cookie);
    struct wire_peer reply;
    int err;

    if (!p)
        return;
    if (p->kind == PENDING_PULL) {
        replica_pull_scanned(w, p, in, out);
        return;
    }
    if (p->kind == PENDING_PURGE) {
        replica_purge_scanned(w, p, in, out);
        return;
    }
    err = in->u.scanned.error ? -in->u.scanned.error : replica_check(w, &p->replica);
    if (err == ERR_CORRUPT && page && page->cursor_len > 0)
        heal_record(w, slice_of(page->cursor, page->cursor_len));
    if (pending_is_late(w, p)) {
        pending_drop(w, p, out);
        return;
    }
    /* A page that shows what is not durable yet is asked for again rather than copied: NOT_YET is
     * retried by the coordinator, and by then it is. */
    if (!err && page->lsn > w->durable_lsn)
        err = ERR_NOT_YET;
    if (err) {
        pending_refuse(w, p, err, out);
        return;
    }
    replica_reply_init(w, &reply, PEER_SCAN_REPLY, p->id, &p->replica, 0);
    reply.u.scan_reply.records = page->items;
    reply.u.scan_reply.n_records = page->n;
    reply.u.scan_reply.floor = floor_closed(w, p->replica.partition);
    if (page->more)
        reply.u.scan_reply.cursor = slice_of(page->cursor, page->cursor_len);
    worker_send(w, p->from, &reply, NULL, out);
    pending_free(w, p);
}

/* The record is not here, and must not be pushed. A tombstone that is closed over is as good as
 * here. False: the refusal stands. */
static bool answer_below_floor(struct worker *w, struct pending *p, struct wire_peer *reply,
                               struct effects *out)
{
    if (!p->source || !p->bytes)
        return false;
    if (p->deleted_hlc && p->deleted_hlc <= floor_closed(w, p->replica.partition)) {
        reply->u.put_reply.outcome = OUTCOME_DUPLICATE;
        return false;
    }
    if (floor_takes_in(w, p->replica.partition))
        heal_fetch(w, blob_slice(p->bytes), p->source - 1);
    pending_refuse(w, p, ERR_NOT_YET, out);
    return true;
}

void replica_stored(struct worker *w, const struct event *in, struct effects *out)
{
    const struct store_done *done = &in->u.stored;
    struct pending *p = pending_of(w, done->cookie);
    struct wire_peer reply;

    if (!p)
        return;
    if (p->kind == PENDING_PURGE) {
        replica_purge_stored(w, p, in, out);
        return;
    }
    if (done->error == -ERR_CORRUPT)
        heal_token(w, p->token);
    if (done->error == -ERR_DEADLINE) {
        pending_drop(w, p, out);
        return;
    }
    if (done->error) {
        pending_refuse(w, p, -done->error, out);
        return;
    }
    if (replica_check(w, &p->replica)) {
        /* Stored, and no answer for this slot any more: not a refusal. A sibling that relayed it is
         * told to forget it. */
        if (is_relayed(p->from, p->id))
            pending_refuse(w, p, ERR_UNKNOWN_OUTCOME, out);
        else
            pending_free(w, p);
        return;
    }
    replica_reply_init(w, &reply, PEER_PUT_REPLY, p->id, &p->replica, 0);
    reply.u.put_reply.outcome = done->outcome;
    reply.u.put_reply.version = done->version;
    if (done->outcome == OUTCOME_SUPERSEDED_FLOOR && answer_below_floor(w, p, &reply, out))
        return;
    worker_send(w, p->from, &reply, NULL, out);
    pending_free(w, p);
}
