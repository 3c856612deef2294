/* heal: a record that fails its checksum is replaced by what the other replicas have.
 *
 *   damaged (a get, a merge, a scan, the scrub)
 *      |
 *      v
 *    FIND --> WAIT --> ASK all other slots --enough answers--> MERGE with `heal` --> done
 *               ^         |
 *               '--later--'  too few
 *
 * A damaged record may have held the only newest version that this slot has acknowledged: for its
 * key this slot has lost its memory. So it answers *error* until the state was merged from a
 * majority of all slots without this one (of three: both others), all of one fence version; then
 * every write that was acknowledged at a quorum is in what was merged. With two slots there is no
 * such majority: the record stays an error until somebody writes the key again.
 *
 * If all of them know nothing of the key, nothing was acknowledged at a quorum, or it is deleted
 * for good: a tombstone of the lowest version, or of their closed floor, takes its place.
 *
 * A record that is whole, but older than what a get has found elsewhere, is fetched by the same
 * steps from the one slot that the get has named, when a purge floor forbids to push it here
 * (floor.h): what comes as the answer to a question of ours is no straggler. If that fails, nobody
 * tries again: whoever needs it names it again.
 *
 * No answer counts that was asked for before the slot's floor was frozen or closed.
 */
#include "server/core/heal.h"
#include "server/core/antientropy.h"
#include "server/core/floor.h"
#include "storage/merge.h"
#include <assert.h>
#include <stdlib.h>

/* Where nothing is known of a key: older than whatever is written. */
#define HEAL_LOWEST_HLC 1u

static uint64_t heal_cookie(const struct worker *w, const struct heal *h)
{
    return HEAL_COOKIE | (uint64_t)(h->generation & 0x1fffffffu) << 32 |
           (uint64_t)(h - w->heals->list);
}

static struct heal *heal_of_cookie(struct worker *w, uint64_t cookie)
{
    uint32_t index = (uint32_t)cookie;
    struct heal *h = index < HEAL_MAX ? &w->heals->list[index] : NULL;

    return h && h->stage != HEAL_FREE && heal_cookie(w, h) == cookie ? h : NULL;
}

static struct slice heal_key_slice(const struct heal *h)
{
    return slice_of(h->store_key, h->store_key_len);
}

static void heal_end(struct worker *w, struct heal *h)
{
    worker_bury(w, h->value);
    h->value = NULL;
    h->stage = HEAL_FREE;
    h->generation++;
    w->heals->n--;
}

static void heal_later(struct worker *w, struct heal *h)
{
    uint64_t ms;

    if (h->source) {
        heal_end(w, h);
        return;
    }
    ms = (uint64_t)HEAL_AGAIN_MS << (h->n_vain < 16 ? h->n_vain : 16);

    if (h->n_vain < UINT8_MAX)
        h->n_vain++;
    worker_bury(w, h->value);
    h->value = NULL;
    h->generation++; /* answers that are still under way are not for the next round */
    h->stage = HEAL_WAIT;
    h->until_ms = w->now_ms + (ms < HEAL_AGAIN_MAX_MS ? ms : HEAL_AGAIN_MAX_MS);
}

/* ---- beginnings ---------------------------------------------------------------------------- */

static bool is_known(const struct worker *w, uint64_t token, struct slice store_key)
{
    for (uint32_t i = 0; i < HEAL_MAX; i++) {
        const struct heal *h = &w->heals->list[i];

        if (h->stage != HEAL_FREE && h->token == token &&
            (store_key.len == 0 || h->store_key_len == 0 ||
             slice_equal(heal_key_slice(h), store_key)))
            return true;
    }
    return false;
}

static struct heal *heal_new(struct worker *w, uint64_t token, struct slice store_key)
{
    struct heals *all = w->heals;

    if (!w->ring || w->antientropy->round_ms == 0 || is_known(w, token, store_key))
        return NULL;
    for (uint32_t i = 0; i < HEAL_MAX; i++) {
        struct heal *h = &all->list[i];
        uint32_t generation = h->generation;

        if (h->stage != HEAL_FREE)
            continue;
        *h = (struct heal){
            .generation = generation, .token = token, .partition = ring_partition(w->ring, token)};
        all->n++;
        return h;
    }
    all->n_refused++;
    return NULL;
}

/* Both begin in drain: whoever meets a damaged record may be short of room for effects. */
void heal_token(struct worker *w, uint64_t token)
{
    struct heal *h = heal_new(w, token, (struct slice){0});

    if (h)
        h->stage = HEAL_WAIT;
}

void heal_record(struct worker *w, struct slice store_key)
{
    struct heal *h;
    uint64_t token;
    struct key key;

    if (store_cursor_decode(store_key, &token, &key) < 0)
        return; /* nobody can tell whose it was */
    h = heal_new(w, token, store_key);
    if (!h)
        return;
    memcpy(h->store_key, store_key.data, store_key.len);
    h->store_key_len = store_key.len;
    h->stage = HEAL_WAIT;
}

void heal_fetch(struct worker *w, struct slice store_key, uint32_t slot)
{
    struct heal *h = heal_new(w, store_cursor_token(store_key), store_key);

    if (!h)
        return;
    memcpy(h->store_key, store_key.data, store_key.len);
    h->store_key_len = store_key.len;
    h->source = 1 + slot;
    h->stage = HEAL_WAIT;
}

void heal_freeze(struct worker *w, uint32_t partition)
{
    for (uint32_t i = 0; i < HEAL_MAX && w->heals->n > 0; i++) {
        struct heal *h = &w->heals->list[i];

        if (h->stage == HEAL_ASK && h->partition == partition)
            heal_later(w, h);
    }
}

bool heal_is_merging(const struct worker *w, uint32_t partition)
{
    for (uint32_t i = 0; i < HEAL_MAX && w->heals->n > 0; i++)
        if (w->heals->list[i].stage == HEAL_MERGE && w->heals->list[i].partition == partition)
            return true;
    return false;
}

/* ---- finding the key ----------------------------------------------------------------------- */

static void find(struct worker *w, struct heal *h, struct effects *out)
{
    struct effect *e = worker_emit(out, EFFECT_SCAN);

    h->stage = HEAL_FIND;
    e->u.scan.cookie = heal_cookie(w, h);
    e->u.scan.range = (struct store_range){h->token, h->token};
    e->u.scan.cursor = (struct slice){0};
    e->u.scan.bytes_max = LIMIT_SCAN_PAGE_BYTES;
}

/* The scan stops at a damaged record and names it, after what is whole before it. */
void heal_recv_scanned(struct worker *w, const struct event *in)
{
    struct heal *h = heal_of_cookie(w, in->u.scanned.cookie);
    const struct store_page *page = in->u.scanned.page;
    uint64_t token;
    struct key key;

    if (!h || h->stage != HEAL_FIND)
        return;
    if (in->u.scanned.error != -ERR_CORRUPT || !page || page->cursor_len == 0 ||
        store_cursor_decode(slice_of(page->cursor, page->cursor_len), &token, &key) < 0) {
        heal_end(w, h); /* whole by now, or beyond help, or after whole ones: met again */
        return;
    }
    memcpy(h->store_key, page->cursor, page->cursor_len);
    h->store_key_len = page->cursor_len;
    h->stage = HEAL_WAIT;
}

/* ---- asking -------------------------------------------------------------------------------- */

static uint64_t heal_id(const struct worker *w, const struct heal *h, uint32_t slot)
{
    return HEAL_ID | (uint64_t)(h->generation & 0x3fffffffu) << 16 | (uint64_t)slot << 8 |
           (uint64_t)(h - w->heals->list);
}

static void ask_slot(struct worker *w, struct heal *h, uint32_t slot, const struct key *key,
                     struct effects *out)
{
    const struct ring_slot *s = &h->entry.slots[slot];
    struct wire_peer msg = {.type = PEER_GET};
    struct addr to = {.kind = ADDR_NODE,
                      .node = s->node,
                      .worker = worker_owner(w, h->partition, w->nodes[s->node].n_workers)};

    msg.id = heal_id(w, h, slot);
    msg.deadline_ms = HEAL_ANSWER_MS;
    msg.hlc = w->clock.last;
    msg.ring_epoch = ring_epoch(w->ring);
    msg.replica = (struct wire_replica){.partition = h->partition,
                                        .slot = slot,
                                        .incarnation = s->incarnation,
                                        .fence = h->entry.fence};
    msg.u.get.key = *key;
    worker_send(w, to, &msg, NULL, out);
}

/* Answers that make a majority of all slots without this one. */
static uint32_t answers_needed(const struct heal *h)
{
    return h->source ? 1 : h->entry.n_ready / 2 + 1;
}

static void ask(struct worker *w, struct heal *h, struct effects *out)
{
    uint32_t n_asked = 0;
    struct key key;
    int own;

    ring_lookup(w->ring, h->partition, &h->entry);
    own = ring_entry_slot(&h->entry, w->node);
    if (own < 0 || h->source > h->entry.n_slots || answers_needed(h) >= h->entry.n_ready ||
        store_cursor_decode(heal_key_slice(h), &h->token, &key) < 0) {
        heal_end(w, h); /* not ours any more, or too few slots */
        return;
    }
    memset(h->answered, 0, sizeof h->answered);
    h->state = (struct state){0};
    h->floor = 0;
    h->closed = floor_closed(w, h->partition);
    h->stage = HEAL_ASK;
    h->until_ms = w->now_ms + HEAL_ANSWER_MS;
    for (uint32_t i = 0; i < h->entry.n_slots; i++)
        if (i != (uint32_t)own && h->entry.slots[i].state == SLOT_READY &&
            (!h->source || h->source == 1 + i) && worker_node_up(w, h->entry.slots[i].node)) {
            ask_slot(w, h, i, &key, out);
            n_asked++;
        }
    if (n_asked < answers_needed(h) || !floor_takes_in(w, h->partition))
        heal_later(w, h);
}

/* ---- answers ------------------------------------------------------------------------------- */

static struct heal *heal_of_reply(struct worker *w, const struct wire_peer *msg, uint32_t *ret_slot)
{
    uint32_t index = (uint32_t)(msg->id & 0xff);
    struct heal *h = index < HEAL_MAX ? &w->heals->list[index] : NULL;

    *ret_slot = (uint32_t)(msg->id >> 8) & 0xff;
    if (!h || h->stage != HEAL_ASK || *ret_slot >= h->entry.n_slots ||
        heal_id(w, h, *ret_slot) != msg->id)
        return NULL;
    return msg->replica.partition == h->partition && msg->replica.slot == *ret_slot &&
                   msg->replica.incarnation == h->entry.slots[*ret_slot].incarnation &&
                   msg->replica.fence == h->entry.fence
               ? h
               : NULL;
}

/* False: no memory. */
static bool take_state(struct worker *w, struct heal *h, const struct state *state)
{
    struct blob *copy = NULL;

    if (merge_states(&h->state, state) != OUTCOME_STORED)
        return true;
    if (state->value.len > 0) {
        copy = blob_copy(state->value);
        if (!copy)
            return false;
    }
    worker_bury(w, h->value);
    h->value = copy;
    h->state = *state;
    h->state.value = blob_slice(copy);
    return true;
}

static bool enough(const struct heal *h)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < h->entry.n_slots; i++)
        n += h->answered[i];
    return n >= answers_needed(h);
}

void heal_recv_reply(struct worker *w, const struct wire_peer *msg)
{
    uint32_t slot;
    struct heal *h = heal_of_reply(w, msg, &slot);

    if (!h || msg->error || msg->type != PEER_GET_REPLY || msg->u.get_reply.found == FOUND_DIGEST)
        return;
    if (msg->u.get_reply.found == FOUND_STATE) {
        if (!take_state(w, h, &msg->u.get_reply.state))
            return; /* as if it had not answered */
    } else if (msg->u.get_reply.floor > h->floor) {
        h->floor = msg->u.get_reply.floor;
    }
    h->answered[slot] = true;
    if (enough(h))
        h->until_ms = w->now_ms; /* drain goes on */
}

/* ---- merging ------------------------------------------------------------------------------- */

/* Both the slot that asks and those that answered are what they were. */
static bool still_holds(const struct worker *w, const struct heal *h)
{
    struct ring_entry e;

    if (h->partition >= ring_wire(w->ring)->n_partitions)
        return false;
    ring_lookup(w->ring, h->partition, &e);
    if (e.fence != h->entry.fence || e.n_slots != h->entry.n_slots)
        return false;
    for (uint32_t i = 0; i < e.n_slots; i++)
        if (e.slots[i].incarnation != h->entry.slots[i].incarnation ||
            e.slots[i].state != h->entry.slots[i].state)
            return false;
    return true;
}

static void merge(struct worker *w, struct heal *h, struct effects *out)
{
    uint64_t lowest = h->floor > HEAL_LOWEST_HLC ? h->floor : HEAL_LOWEST_HLC;
    struct state deleted = {.kind = STATE_LWW, .deleted = true, .version = {.hlc = lowest}};
    bool dead = h->state.kind == STATE_NONE || h->state.version.hlc <= h->floor;
    struct effect *e;
    struct key key;
    uint64_t token;

    if (h->source && dead) {
        heal_end(w, h); /* they have it no more */
        return;
    }
    if (dead && h->state.kind != STATE_NONE && !h->state.deleted) {
        heal_later(w, h); /* live at one, absent at another: it was deleted meanwhile, or lost */
        return;
    }
    if (!still_holds(w, h) || !floor_takes_in(w, h->partition) ||
        floor_closed(w, h->partition) != h->closed ||
        store_cursor_decode(heal_key_slice(h), &token, &key) < 0) {
        heal_later(w, h);
        return;
    }
    e = worker_emit(out, EFFECT_STORE);
    e->u.store = (struct store_op){.type = STORE_OP_MERGE,
                                   .cookie = heal_cookie(w, h),
                                   .token = token,
                                   .key = key,
                                   .state = dead ? deleted : h->state,
                                   .heal = !h->source};
    floor_note_entry(w, h->partition, e->u.store.state.version);
    h->stage = HEAL_MERGE;
}

void heal_recv_stored(struct worker *w, const struct event *in)
{
    struct heal *h = heal_of_cookie(w, in->u.stored.cookie);

    if (!h || h->stage != HEAL_MERGE)
        return;
    floors_look(w);
    if (in->u.stored.error) {
        heal_later(w, h);
        return;
    }
    w->heals->n_healed += !h->source;
    heal_end(w, h);
}

/* ---- what becomes runnable ----------------------------------------------------------------- */

static void heal_go_on(struct worker *w, struct heal *h, struct effects *out)
{
    if (h->stage == HEAL_WAIT && h->store_key_len == 0)
        find(w, h, out);
    else if (h->stage == HEAL_WAIT)
        ask(w, h, out);
    else if (enough(h))
        merge(w, h, out);
    else
        heal_later(w, h);
}

static bool is_due(const struct heal *h, uint64_t now_ms)
{
    return (h->stage == HEAL_WAIT || h->stage == HEAL_ASK) && h->until_ms <= now_ms;
}

bool heal_drain(struct worker *w, struct effects *out)
{
    for (uint32_t i = 0; i < HEAL_MAX && w->heals->n > 0; i++) {
        struct heal *h = &w->heals->list[i];

        if (!is_due(h, w->now_ms) || w->stopping)
            continue;
        if (!worker_room(w, out))
            return false;
        heal_go_on(w, h, out);
    }
    return true;
}

uint64_t heal_deadline_ms(const struct worker *w)
{
    uint64_t at_ms = UINT64_MAX;

    for (uint32_t i = 0; i < HEAL_MAX && w->heals->n > 0 && !w->stopping; i++) {
        const struct heal *h = &w->heals->list[i];

        if (is_due(h, UINT64_MAX) && h->until_ms < at_ms)
            at_ms = h->until_ms;
    }
    return at_ms;
}

/* ---- life ---------------------------------------------------------------------------------- */

uint32_t heal_n_damaged(const struct worker *w)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < HEAL_MAX; i++)
        n += w->heals->list[i].stage != HEAL_FREE && !w->heals->list[i].source;
    return n;
}

int heal_init(struct worker *w)
{
    w->heals = calloc(1, sizeof *w->heals);
    return w->heals ? 0 : -ERR_NO_MEMORY;
}

void heal_deinit(struct worker *w)
{
    for (uint32_t i = 0; w->heals && i < HEAL_MAX; i++)
        blob_unref(w->heals->list[i].value);
    free(w->heals);
}
