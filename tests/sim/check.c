/* check: what must hold, whatever goes wrong.
 *
 * Versions order the writes of a key. `floor` of a key is the newest version that some client knows
 * to be at a quorum: acknowledged at quorum or all, or returned by a get at quorum or all.
 *
 *   fresh      a get at quorum or all returns at least the floor of the moment it was sent
 *   ordered    a write acknowledged at quorum or all is newer than that floor
 *   real       what a get returns was written, under that version, to that key; a version is never
 *              given to two writes
 *   durable    when a node answers, what it acknowledges or reveals is synced on as many slots as
 *              the level says
 *   refused    a write that was refused with "nothing was written" is in no store, then or later
 *              (not claimed when a network repeats requests by itself, which TCP does not)
 *   answered   each request is answered by its deadline, unless its node had an excuse; once all is
 *              healed, each is answered with success
 *   in time    what has waited in a mailbox past its deadline is not worked on, and nobody is told
 *              that it was refused
 *   clock      a node's clock is never further ahead of its wall clock than the guard allows, and
 *              no process of a node stamps at or below what an earlier one has stamped
 *   bounded    operations in flight stay within their limit; at the end nothing is in flight
 */
#include "tests/sim/sim.h"

#include "proto/err.h"

#include <stdlib.h>

#define VERSION(v) (unsigned long long)(v).hlc, (unsigned long long)(v).actor

static bool at_quorum(const struct call *c)
{
    return c->level != LEVEL_ONE;
}

static bool is_write(const struct call *c)
{
    return c->op == OP_PUT || c->op == OP_DELETE;
}

static bool older(struct version a, struct version b)
{
    return version_compare(a, b) < 0;
}

uint32_t check_partition(const struct world *w, uint32_t key)
{
    char text[16];
    struct key k = client_key(key, text);

    return ring_partition(w->rings[0], ring_token(w->rings[0], &k));
}

/* The call that a value names, or 0 for what no call wrote. */
static uint64_t call_of_value(struct slice value)
{
    uint64_t call = 0;

    for (size_t i = 0; i < 20 && i < value.len; i++)
        call = call * 10 + (uint64_t)(value.data[i] - '0');
    return value.len >= 20 ? call : UINT64_MAX;
}

/* ---- what was written -------------------------------------------------------------------- */

static size_t slot_of(const struct history *h, struct version v, uint32_t key)
{
    size_t i = (size_t)((v.hlc * 0x9e3779b97f4a7c15u ^ v.actor * 0xc2b2ae3d27d4eb4fu ^ key) *
                            0x165667b19e3779f9u >>
                        20) &
               (h->cap_written - 1);

    while (!version_is_none(h->written[i].version) &&
           (version_compare(h->written[i].version, v) != 0 || h->written[i].key != key))
        i = (i + 1) & (h->cap_written - 1);
    return i;
}

static void grow_written(struct history *h)
{
    struct history old = *h;

    h->cap_written = h->cap_written ? h->cap_written * 2 : 1024;
    h->written = calloc(h->cap_written, sizeof(*h->written));
    if (!h->written)
        abort();
    for (size_t i = 0; i < old.cap_written; i++)
        if (!version_is_none(old.written[i].version))
            h->written[slot_of(h, old.written[i].version, old.written[i].key)] = old.written[i];
    free(old.written);
}

static const struct written *find_written(const struct history *h, struct version v, uint32_t key)
{
    const struct written *found = h->cap_written ? &h->written[slot_of(h, v, key)] : NULL;

    return found && !version_is_none(found->version) ? found : NULL;
}

static void note_written(struct world *w, uint32_t key, const struct state *state, uint64_t value)
{
    struct history *h = &w->history;
    struct written *x;

    if (h->n_written * 2 >= h->cap_written)
        grow_written(h);
    x = &h->written[slot_of(h, state->version, key)];
    if (version_is_none(x->version)) {
        *x = (struct written){state->version, key, state->deleted, value};
        h->n_written++;
        if (state->deleted && older(h->tombstone[key], state->version))
            h->tombstone[key] = state->version;
    } else if (x->deleted != state->deleted || x->value != value) {
        sim_fail(w, "version %llx.%llx of key %u was given to call %llu and to call %llu",
                 (unsigned long long)state->version.hlc, (unsigned long long)state->version.actor,
                 key, (unsigned long long)x->value, (unsigned long long)value);
    }
}

void check_stored(struct world *w, uint32_t node, const struct store_op *op, bool kept)
{
    uint32_t key = (uint32_t)client_key_index(w, &op->key);
    uint64_t value = op->state.deleted ? 0 : call_of_value(op->state.value);
    struct call *c;

    note_written(w, key, &op->state, value);
    if (op->state.deleted)
        return;
    if (value >= w->history.n_calls || w->history.calls[value].key != key) {
        sim_fail(w, "n%u stores a value that no call wrote to key %u", node, key);
        return;
    }
    c = &w->history.calls[value];
    c->n_stored += kept;
    if (kept && c->status == CALL_REFUSED && !w->enabled[FAULT_DUPLICATE])
        sim_fail(w, "call %llu was refused and is stored by n%u afterwards",
                 (unsigned long long)value, node);
}

/* ---- calls ------------------------------------------------------------------------------- */

void check_started(struct world *w, struct call *c)
{
    c->floor = w->history.floor[c->key];
}

/* A call may count a slot that held the version when it was asked, and whose record went bad and
 * was healed since. */
static bool is_held(const struct disk *d, const struct call *c, struct version v)
{
    const struct lost *lost = &d->lost[c->key];

    return !older(d->shadow.durable[c->key], v) ||
           (c->start_us <= lost->healed_us && !older(lost->version, v));
}

/* Slots of the call's key that hold the version, or a newer one, durably. */
static uint32_t holders(const struct world *w, const struct call *c, struct version v)
{
    struct ring_entry e;
    uint32_t n = 0;

    ring_lookup(w->rings[0], check_partition(w, c->key), &e);
    for (uint32_t s = 0; s < e.n_slots; s++)
        n += e.slots[s].state == SLOT_READY && is_held(&w->nodes[e.slots[s].node].disk, c, v);
    return n;
}

/* The node whose id is in the version's actor. */
static struct node *stamper(struct world *w, struct version v)
{
    for (uint32_t i = 0; i < w->n_nodes; i++) {
        uint64_t id = 0;

        for (int k = 0; k < 6; k++)
            id = id << 8 | w->nodes[i].id.b[k];
        if (v.actor >> 16 == id)
            return &w->nodes[i];
    }
    return NULL;
}

void check_message(struct world *w, const struct node *n, const struct wire_peer *msg)
{
    struct version v = msg->u.put.state.version;
    struct node *by;

    if (version_wall_ms(msg->hlc) > n->wall_most_ms + LIMIT_CLOCK_AHEAD_MS)
        sim_fail(w, "%s says it is %llu ms ahead of its wall clock", n->name,
                 (unsigned long long)(version_wall_ms(msg->hlc) - n->wall_most_ms));
    if (msg->type != PEER_PUT || !msg->u.put.first_hand)
        return;
    by = stamper(w, v);
    if (!by) {
        sim_fail(w, "%s passes on a stamp that nobody made", n->name);
        return;
    }
    if (by != n)
        return; /* relayed */
    if (v.hlc <= by->stamp_before)
        sim_fail(w, "%s stamps below what it stamped before its restart", n->name);
    if (version_wall_ms(v.hlc) > n->disk.store->ops->clock_bound(n->disk.store))
        sim_fail(w, "%s stamps beyond the lease on its disk", n->name);
    by->stamp_most = v.hlc > by->stamp_most ? v.hlc : by->stamp_most;
}

void check_waited(struct world *w, const struct node *n, const struct wire_peer *msg,
                  uint64_t waited_ms, uint64_t n_dropped)
{
    bool request = msg->type == PEER_GET || msg->type == PEER_PUT || msg->type == PEER_SCAN;

    w->stats.covers[COVER_DROPPED] += n_dropped;
    if (request && waited_ms >= msg->deadline_ms && n_dropped == 0)
        sim_fail(w, "%s works on a message that came %llu ms ago and had %u", n->name,
                 (unsigned long long)waited_ms, msg->deadline_ms);
}

static uint32_t needed(const struct world *w, enum wire_level level)
{
    uint32_t n = w->replicas;

    return level == LEVEL_ONE ? 1 : level == LEVEL_ALL ? n : n / 2 + 1;
}

void check_reply(struct world *w, const struct node *n, uint64_t id,
                 const struct wire_response *res)
{
    const struct call *c = &w->history.calls[id];
    struct version v = is_write(c) ? res->u.write.version : res->u.get.version;

    if (res->error.code || c->op == OP_SCAN || version_is_none(v))
        return;
    if (holders(w, c, v) < needed(w, c->level))
        sim_fail(w, "%s answers call %llu with a version that is durable on %u slots only", n->name,
                 (unsigned long long)id, holders(w, c, v));
}

static void raise_floor(struct world *w, uint32_t key, struct version v)
{
    if (older(w->history.floor[key], v))
        w->history.floor[key] = v;
}

static void check_write(struct world *w, uint64_t id, const struct call *c, struct version v)
{
    const struct written *x = find_written(&w->history, v, c->key);

    w->stats.covers[COVER_ACKED]++;
    if (!x || x->deleted != (c->op == OP_DELETE) || (!x->deleted && x->value != id))
        sim_fail(w, "call %llu was acknowledged under a version that it was not stored with",
                 (unsigned long long)id);
    if (!at_quorum(c))
        return;
    if (!older(c->floor, v))
        sim_fail(w, "call %llu was acknowledged, older than what was at a quorum before it began",
                 (unsigned long long)id);
    raise_floor(w, c->key, v);
}

static void check_value(struct world *w, uint64_t id, uint32_t key, struct version v, bool found,
                        struct slice value)
{
    const struct written *x = find_written(&w->history, v, key);

    if (version_is_none(v)
            ? found
            : !x || x->deleted == found || (found && call_of_value(value) != x->value))
        sim_fail(w, "call %llu returned what was not written", (unsigned long long)id);
}

static uint64_t closed_at(const struct world *w, uint32_t node, uint32_t key)
{
    const struct node *n = &w->nodes[node];
    uint64_t most = 0, opened, closed;

    for (uint32_t k = 0; n->alive && k < n->n_workers; k++) {
        worker_floors(n->workers[k], check_partition(w, key), &opened, &closed);
        most = closed > most ? closed : most;
    }
    return most;
}

/* The highest purge floor that is closed somewhere, of the key's partition. */
static uint64_t closed_of(const struct world *w, uint32_t key)
{
    uint64_t most = 0;

    for (uint32_t i = 0; i < w->n_nodes; i++) {
        uint64_t closed = closed_at(w, i, key);

        most = closed > most ? closed : most;
    }
    return most;
}

/* What an absent key stands for: the newest deletion that a purge floor may have hidden. */
static struct version hidden(const struct world *w, uint32_t key)
{
    const struct history *h = &w->history;
    uint64_t closed = closed_of(w, key);
    struct version newest = {0};

    for (size_t i = 0; closed && i < h->cap_written; i++)
        if (h->written[i].key == key && h->written[i].deleted &&
            h->written[i].version.hlc <= closed && older(newest, h->written[i].version))
            newest = h->written[i].version;
    return newest;
}

static void check_get(struct world *w, uint64_t id, const struct call *c,
                      const struct wire_get_result *from)
{
    struct wire_get_result copy = *from, *get = &copy;

    w->stats.covers[get->found ? COVER_FOUND : COVER_NOT_FOUND]++;
    check_value(w, id, c->key, get->version, get->found, get->value);
    if (!at_quorum(c))
        return;
    if (version_is_none(get->version)) {
        get->version = hidden(w, c->key);
        w->stats.covers[COVER_ABSENT_BELOW] += !version_is_none(get->version);
    }
    if (older(get->version, c->floor))
        sim_fail(w,
                 "call %llu returned less than what was at a quorum before it began: "
                 "%llx.%llx < %llx.%llx",
                 (unsigned long long)id, (unsigned long long)get->version.hlc,
                 (unsigned long long)get->version.actor, (unsigned long long)c->floor.hlc,
                 (unsigned long long)c->floor.actor);
    raise_floor(w, c->key, get->version);
}

/* A scan is sent for the sake of one key, whose floor it remembers; the others may come along. */
static void check_scan(struct world *w, uint64_t id, const struct call *c,
                       const struct wire_scan_result *scan)
{
    bool seen[SIM_KEYS_MAX] = {false};

    w->stats.covers[COVER_SCANNED]++;
    for (size_t i = 0; i < scan->n_records; i++) {
        const struct wire_record *r = &scan->records[i];
        int key = client_key_index(w, &r->key);

        if (key < 0 || seen[key] || check_partition(w, (uint32_t)key) != c->partition) {
            sim_fail(w, "call %llu scanned a key that is not there", (unsigned long long)id);
            return;
        }
        seen[key] = true;
        check_value(w, id, (uint32_t)key, r->state.version, true, r->state.value);
        if (at_quorum(c) && (uint32_t)key == c->key && older(r->state.version, c->floor))
            sim_fail(w, "call %llu scanned less than what was at a quorum before it began",
                     (unsigned long long)id);
    }
    /* What is missing from a whole page is deleted, by something not older than the floor. */
    if (at_quorum(c) && c->whole && scan->cursor.len == 0 && !seen[c->key] &&
        older(w->history.tombstone[c->key], c->floor))
        sim_fail(w, "call %llu scanned past a key that is there", (unsigned long long)id);
}

void check_answer(struct world *w, uint64_t id, const struct wire_response *res)
{
    const struct call *c = &w->history.calls[id];

    if (res->error.code == 0) {
        if (is_write(c))
            check_write(w, id, c, res->u.write.version);
        else if (c->op == OP_GET)
            check_get(w, id, c, &res->u.get);
        else
            check_scan(w, id, c, &res->u.scan);
        return;
    }
    if (c->must_succeed)
        sim_fail(w, "call %llu fails although everything is healed: %s", (unsigned long long)id,
                 err_name(res->error.code));
    if (!is_write(c))
        return;
    w->stats.covers[c->status == CALL_UNKNOWN ? COVER_UNKNOWN : COVER_REFUSED]++;
    if (c->status == CALL_REFUSED && c->n_stored > 0 && !w->enabled[FAULT_DUPLICATE])
        sim_fail(w, "call %llu was refused (%s) and %u stores had it", (unsigned long long)id,
                 err_name(res->error.code), c->n_stored);
}

/* ---- the end ----------------------------------------------------------------------------- */

void check_idle(struct world *w)
{
    for (uint32_t i = 0; i < w->n_nodes; i++)
        for (uint32_t k = 0; w->nodes[i].alive && k < w->nodes[i].n_workers; k++) {
            struct worker_stats stats;

            worker_stats(w->nodes[i].workers[k], &stats);
            if (!worker_idle(w->nodes[i].workers[k]) || stats.n_ops || stats.inflight_bytes)
                sim_fail(w, "n%u.%u is not idle at the end: %u operations, %zu bytes", i, k,
                         stats.n_ops, stats.inflight_bytes);
        }
}

/* A deletion that the node has closed over: absent there, and as good as held. */
static bool is_buried(const struct world *w, uint32_t key, struct version v, uint32_t node)
{
    const struct written *x = find_written(&w->history, v, key);

    return x && x->deleted && v.hlc <= closed_at(w, node, key);
}

/* Without faults and writes, all slots come to hold the same. */
void check_converged(struct world *w)
{
    const struct ring *ring = w->rings[w->n_rings - 1];

    for (uint32_t key = 0; key < w->n_keys; key++) {
        struct version newest = {0};
        struct ring_entry e;

        ring_lookup(ring, check_partition(w, key), &e);
        for (uint32_t s = 0; s < e.n_slots; s++) {
            struct version v = w->nodes[e.slots[s].node].disk.shadow.current[key];

            if (e.slots[s].state == SLOT_READY && older(newest, v))
                newest = v;
        }
        for (uint32_t s = 0; s < e.n_slots; s++)
            if (e.slots[s].state == SLOT_READY && !is_buried(w, key, newest, e.slots[s].node) &&
                (w->nodes[e.slots[s].node].disk.rotten[key] ||
                 older(w->nodes[e.slots[s].node].disk.shadow.current[key], newest)))
                sim_fail(w, "n%u has not come to hold key %u as others do: %s%llx.%llx < %llx.%llx",
                         e.slots[s].node, key,
                         w->nodes[e.slots[s].node].disk.rotten[key] ? "damaged " : "",
                         VERSION(w->nodes[e.slots[s].node].disk.shadow.current[key]),
                         VERSION(newest));
    }
}
