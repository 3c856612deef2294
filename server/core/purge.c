/* purge: the driver's side of a round; see purge.h for the steps, replica_purge.c for the slots'.
 *
 *   IDLE --due--> INFO --worth it--> OPEN -> LIST -> [DETAIL ...] -> FREEZE -> CLOSE -> IDLE
 *                   |                 |        ^__________|____________|  entered since, or busy
 *                   '--------------<--'--<-----|  no answer, an error, another ring
 *
 * Answers are only noted when they come; what follows from them is done in drain, where there is
 * room for it. One round at a time per worker.
 *
 * What was tried on a model of this protocol (tests/spin/purge.pml: one key, three slots, every
 * order of pushes, slow pulls, two rounds side by side): each of the following brings a deleted
 * value back. A round of a majority; one that leaves out a slot that is down; a floor that is not
 * synced; repair that pushes; lists that are believed although something has entered since; absent
 * answers that do not carry the closed floor; no freeze, while answers asked for before the closing
 * are still taken. That a frozen slot thaws by itself, as it does after a while and at a restart,
 * brings nothing back.
 */
#include "server/core/purge.h"
#include "server/core/antientropy.h"
#include "server/core/floor.h"
#include <assert.h>
#include <stdlib.h>

static uint64_t question_of(const struct purge *pu, uint32_t slot)
{
    return pu->question << 3 | slot;
}

_Static_assert(LIMIT_SLOTS_MAX <= 8, "a slot's number fits into three bits of a question");

/* ---- ends ---------------------------------------------------------------------------------- */

static void forget_lists(struct worker *w)
{
    struct purge *pu = w->purge;

    worker_bury(w, pu->reference);
    pu->reference = NULL;
}

static void end_round(struct worker *w, bool closed)
{
    struct purge *pu = w->purge;
    struct purge_turn *turn = pu->partition < pu->n ? &pu->turns[pu->partition] : NULL;

    forget_lists(w);
    pu->stats.n_closed += closed;
    pu->stats.n_abandoned += !closed;
    if (turn && closed)
        turn->n_passed = 0;
    pu->stage = PURGE_IDLE;
    pu->look_ms = w->now_ms + PURGE_PAUSE_MS;
}

/* ---- asking -------------------------------------------------------------------------------- */

static uint32_t answer_ms(const struct purge *pu)
{
    return pu->step == PURGE_LIST && pu->n_leaves ? PURGE_LIST_MS : PURGE_ANSWER_MS;
}

static void ask(struct worker *w, uint32_t slot, struct effects *out)
{
    const struct purge *pu = w->purge;
    const struct ring_slot *s = &pu->entry.slots[slot];
    struct wire_peer msg = {.type = PEER_PURGE};
    struct addr to = {.kind = ADDR_SELF, .node = w->node, .worker = w->index};

    if (s->node != w->node)
        to = (struct addr){.kind = ADDR_NODE,
                           .node = s->node,
                           .worker = worker_owner(w, pu->partition, w->nodes[s->node].n_workers)};
    msg.id = question_of(pu, slot);
    msg.deadline_ms = answer_ms(pu);
    msg.hlc = w->clock.last;
    msg.ring_epoch = ring_epoch(w->ring);
    msg.replica = (struct wire_replica){.partition = pu->partition,
                                        .slot = slot,
                                        .incarnation = s->incarnation,
                                        .fence = pu->entry.fence};
    msg.u.purge.step = pu->step;
    msg.u.purge.floor = pu->floor;
    if (pu->step == PURGE_LIST) {
        msg.u.purge.leaves = pu->leaves;
        msg.u.purge.n_leaves = pu->n_leaves;
    }
    worker_send(w, to, &msg, NULL, out);
}

static void ask_all(struct worker *w, struct effects *out)
{
    struct purge *pu = w->purge;

    forget_lists(w);
    pu->stage = PURGE_ASKED;
    pu->question++;
    pu->until_ms = w->now_ms + answer_ms(pu);
    pu->error = 0;
    pu->entered_since = false;
    memset(pu->differs, 0, tree_n_leaves(tree_partition_bits(pu->n)));
    pu->n_differ = 0;
    for (uint32_t i = 0; i < pu->entry.n_slots; i++)
        pu->slots[i].answered = pu->entry.slots[i].state != SLOT_READY;
    for (uint32_t i = 0; i < pu->entry.n_slots; i++)
        if (pu->entry.slots[i].state == SLOT_READY)
            ask(w, i, out);
}

/* ---- answers ------------------------------------------------------------------------------- */

static bool entry_holds(const struct worker *w)
{
    const struct purge *pu = w->purge;
    struct ring_entry e;

    if (pu->n != ring_wire(w->ring)->n_partitions)
        return false;
    ring_lookup(w->ring, pu->partition, &e);
    if (e.fence != pu->entry.fence || e.n_slots != pu->entry.n_slots)
        return false;
    for (uint32_t i = 0; i < e.n_slots; i++)
        if (e.slots[i].incarnation != pu->entry.slots[i].incarnation ||
            e.slots[i].node != pu->entry.slots[i].node ||
            e.slots[i].state != pu->entry.slots[i].state)
            return false;
    return true;
}

/* Which leaves differ from the first list that came. */
static void take_list(struct purge *pu, const uint64_t *digests, uint32_t n)
{
    const uint64_t *first;

    if (!pu->reference) {
        pu->reference = blob_copy(slice_of(digests, n * sizeof *digests));
        if (!pu->reference)
            pu->error = ERR_NO_MEMORY;
        return;
    }
    first = (const uint64_t *)(const void *)pu->reference->data;
    for (uint32_t i = 0; i < n; i++)
        if (first[i] != digests[i] && !pu->differs[i]) {
            pu->differs[i] = true;
            pu->n_differ++;
        }
}

static void take_answer(struct worker *w, struct purge_slot *s, const struct wire_peer *msg)
{
    struct purge *pu = w->purge;
    uint32_t n = pu->n_leaves ? pu->n_leaves : tree_n_leaves(tree_partition_bits(pu->n));

    if (pu->step != PURGE_LIST && pu->step != PURGE_FREEZE)
        return;
    if (!s->listed) {
        s->listed = true;
        s->entered = msg->u.purge_reply.entered;
    }
    pu->entered_since |= s->entered != msg->u.purge_reply.entered;
    if (pu->step != PURGE_LIST)
        return;
    if (msg->u.purge_reply.n_digests == n)
        take_list(pu, msg->u.purge_reply.digests, n);
    else
        pu->error = ERR_BAD_REQUEST;
}

void purge_recv_reply(struct worker *w, const struct wire_peer *msg)
{
    struct purge *pu = w->purge;
    uint32_t slot = (uint32_t)msg->id & 7;
    struct purge_slot *s = &pu->slots[slot];

    if (pu->stage != PURGE_ASKED || slot >= pu->entry.n_slots || s->answered ||
        msg->id != question_of(pu, slot) || msg->replica.partition != pu->partition ||
        msg->replica.slot != slot ||
        msg->replica.incarnation != pu->entry.slots[slot].incarnation ||
        msg->replica.fence != pu->entry.fence)
        return;
    s->answered = true;
    if (!msg->error)
        take_answer(w, s, msg);
    else if (!pu->error || pu->error == ERR_NOT_YET)
        pu->error = msg->error;
}

/* ---- deciding ------------------------------------------------------------------------------ */

/* Our slot with all others, which then know whether they lack something. Once per round: slots that
 * are about to fetch put off whoever wants to compare with them. */
static void compare_soon(struct worker *w)
{
    const struct purge *pu = w->purge;

    for (uint32_t i = 0; i < pu->entry.n_slots; i++)
        if (pu->entry.slots[i].state == SLOT_READY && pu->entry.slots[i].node != w->node)
            antientropy_heard(w, pu->partition, i, false);
}

/* From the first list on, after a pause; or the end. */
static void again(struct worker *w, bool afresh)
{
    struct purge *pu = w->purge;

    if (++pu->n_tries > PURGE_TRIES) {
        end_round(w, false);
        return;
    }
    if (pu->n_tries == 1)
        compare_soon(w);
    if (afresh) {
        pu->step = PURGE_LIST;
        pu->n_leaves = 0;
        for (uint32_t i = 0; i < pu->entry.n_slots; i++)
            pu->slots[i].listed = false;
    }
    pu->stage = PURGE_WAITING;
    pu->until_ms = w->now_ms + PURGE_AGAIN_MS;
}

/* The leaves that differ, of all or of those that were asked for. */
static void note_differing(struct purge *pu)
{
    uint32_t n = pu->n_leaves ? pu->n_leaves : tree_n_leaves(tree_partition_bits(pu->n)), k = 0;

    for (uint32_t i = 0; i < n; i++)
        if (pu->differs[i])
            pu->leaves[k++] = pu->n_leaves ? pu->leaves[i] : i;
    assert(k == pu->n_differ && k <= PURGE_DIFFER_MAX);
    pu->n_leaves = k;
}

static void decide_list(struct worker *w, struct effects *out)
{
    struct purge *pu = w->purge;
    bool whole = pu->n_leaves == 0;

    if (pu->entered_since || pu->n_differ > PURGE_DIFFER_MAX) {
        again(w, true);
        return;
    }
    if (pu->n_differ == 0) {
        pu->step = PURGE_FREEZE;
        ask_all(w, out);
        return;
    }
    note_differing(pu);
    if (whole)
        ask_all(w, out); /* at once: what differs is likely to lie above the floor */
    else
        again(w, false);
}

static void decide(struct worker *w, struct effects *out)
{
    struct purge *pu = w->purge;

    if (pu->error == ERR_NOT_YET && (pu->step == PURGE_LIST || pu->step == PURGE_FREEZE)) {
        again(w, false);
        return;
    }
    if (pu->error || !entry_holds(w)) {
        end_round(w, pu->step == PURGE_CLOSE);
        return;
    }
    switch (pu->step) {
    case PURGE_NONE:
        break;
    case PURGE_OPEN:
        pu->step = PURGE_LIST;
        ask_all(w, out);
        break;
    case PURGE_LIST:
        decide_list(w, out);
        break;
    case PURGE_FREEZE:
        if (pu->entered_since) {
            again(w, true);
            break;
        }
        pu->step = PURGE_CLOSE;
        ask_all(w, out);
        break;
    case PURGE_CLOSE:
        end_round(w, true);
        break;
    }
}

/* ---- whose turn it is ---------------------------------------------------------------------- */

/* Ours to drive, and all slots are there: none is being filled, or down. */
static bool may_begin(const struct worker *w, uint32_t partition, struct ring_entry *entry)
{
    if (worker_owner(w, partition, w->n_workers) != w->index)
        return false;
    ring_lookup(w->ring, partition, entry);
    for (uint32_t i = 0; i < entry->n_slots; i++) {
        const struct ring_slot *s = &entry->slots[i];

        if (s->state == SLOT_NONE)
            continue;
        if (s->state != SLOT_READY || (s->node != w->node && !worker_node_up(w, s->node)))
            return false;
    }
    return entry->slots[entry->primary].node == w->node && !clock_is_off(&w->clock, w->wall_ms);
}

/* The next partition whose turn has come; false: none. Notes when to look again. */
static bool next_turn(struct worker *w)
{
    struct purge *pu = w->purge;
    uint64_t next_ms = UINT64_MAX;

    for (uint32_t k = 0; k < pu->n; k++) {
        uint32_t p = pu->cursor;
        struct purge_turn *turn = &pu->turns[p];

        pu->cursor = p + 1 < pu->n ? p + 1 : 0;
        if (turn->due_ms <= w->now_ms) {
            turn->due_ms = w->now_ms + pu->age_ms;
            pu->drives = may_begin(w, p, &pu->entry);
            if (pu->drives || floor_wants_look(w, p)) {
                turn->n_passed += pu->drives;
                pu->partition = p;
                return true;
            }
        }
        next_ms = turn->due_ms < next_ms ? turn->due_ms : next_ms;
    }
    pu->look_ms = next_ms > w->now_ms + PURGE_BATCH_MS ? next_ms : w->now_ms + PURGE_BATCH_MS;
    return false;
}

/* Of partitions that are smaller than a zone, the zone is counted, which is cheap; what else lies
 * in it is likely to be of the same kind. */
static void begin_info(struct worker *w, struct effects *out)
{
    struct purge *pu = w->purge;
    struct effect *e = worker_emit(out, EFFECT_INFO);
    uint64_t zone = UINT64_MAX / STORE_ZONES;

    pu->stage = PURGE_INFO;
    e->u.info.cookie = ++pu->generation;
    e->u.info.range = partition_range(w, pu->partition);
    if (pu->n > STORE_ZONES)
        e->u.info.range =
            (struct store_range){e->u.info.range.first & ~zone, e->u.info.range.first | zone};
}

static bool is_worth_it(const struct purge *pu, const struct store_info *info)
{
    return info->n_tombstones > 0 && (info->n_tombstones * PURGE_SHARE >= info->n_records ||
                                      pu->turns[pu->partition].n_passed >= PURGE_PERIODS_MAX);
}

void purge_recv_info(struct worker *w, const struct event *in)
{
    struct purge *pu = w->purge;

    if (pu->stage != PURGE_INFO || in->u.info.cookie != pu->generation)
        return;
    if (!in->u.info.error && !pu->drives)
        floor_looked(w, pu->partition, in->u.info.info.n_tombstones);
    if (!pu->drives || in->u.info.error || !is_worth_it(pu, &in->u.info.info) || !entry_holds(w) ||
        w->wall_ms <= pu->age_ms) {
        pu->stage = PURGE_IDLE;
        pu->look_ms = w->now_ms + PURGE_PAUSE_MS;
        return;
    }
    pu->floor = version_hlc_from_ms(w->wall_ms - pu->age_ms);
    pu->step = PURGE_OPEN;
    pu->n_leaves = pu->n_tries = 0;
    memset(pu->slots, 0, sizeof pu->slots);
    pu->stage = PURGE_WAITING;
    pu->until_ms = w->now_ms;
}

/* ---- what becomes runnable ----------------------------------------------------------------- */

static bool all_answered(const struct purge *pu)
{
    for (uint32_t i = 0; i < pu->entry.n_slots; i++)
        if (!pu->slots[i].answered)
            return false;
    return true;
}

static void go_on(struct worker *w, struct effects *out)
{
    struct purge *pu = w->purge;

    switch ((enum purge_stage)pu->stage) {
    case PURGE_IDLE:
        if (next_turn(w))
            begin_info(w, out);
        break;
    case PURGE_INFO:
        break;
    case PURGE_WAITING:
        if (entry_holds(w))
            ask_all(w, out);
        else
            end_round(w, false);
        break;
    case PURGE_ASKED:
        if (all_answered(pu))
            decide(w, out);
        else
            end_round(w, pu->step == PURGE_CLOSE); /* whoever missed it learns it by comparison */
        break;
    }
}

static bool is_due(const struct worker *w)
{
    const struct purge *pu = w->purge;

    if (pu->stage == PURGE_IDLE)
        return pu->look_ms <= w->now_ms;
    if (pu->stage == PURGE_ASKED && all_answered(pu))
        return true;
    return pu->stage != PURGE_INFO && pu->until_ms <= w->now_ms;
}

bool purge_drain(struct worker *w, struct effects *out)
{
    if (!w->purge->turns || w->stopping || !is_due(w))
        return true;
    if (!worker_room(w, out))
        return false;
    go_on(w, out);
    return true;
}

uint64_t purge_deadline_ms(const struct worker *w)
{
    const struct purge *pu = w->purge;

    if (!pu->turns || w->stopping || pu->stage == PURGE_INFO)
        return UINT64_MAX;
    if (pu->stage == PURGE_ASKED && all_answered(pu))
        return w->now_ms;
    return pu->stage == PURGE_IDLE ? pu->look_ms : pu->until_ms;
}

/* ---- life ---------------------------------------------------------------------------------- */

int purge_recv_ring(struct worker *w)
{
    struct purge *pu = w->purge;
    uint32_t n = ring_wire(w->ring)->n_partitions;

    if (pu->age_ms == 0 || (pu->turns && pu->n == n))
        return 0;
    if (pu->stage != PURGE_IDLE)
        end_round(w, false);
    free(pu->turns);
    free(pu->differs);
    pu->turns = calloc(n, sizeof *pu->turns);
    pu->differs = calloc(tree_n_leaves(tree_partition_bits(n)), sizeof *pu->differs);
    if (!pu->turns || !pu->differs) {
        free(pu->turns);
        free(pu->differs);
        pu->turns = NULL;
        pu->differs = NULL;
        return -ERR_NO_MEMORY;
    }
    pu->n = n;
    pu->cursor = 0;
    pu->look_ms = w->now_ms;
    for (uint32_t i = 0; i < n; i++)
        pu->turns[i].due_ms = worker_owner(w, i, w->n_workers) == w->index
                                  ? w->now_ms + prng_below(&w->prng, pu->age_ms)
                                  : UINT64_MAX;
    return 0;
}

int purge_init(struct worker *w, uint64_t age_ms)
{
    w->purge = calloc(1, sizeof *w->purge);
    if (!w->purge)
        return -ERR_NO_MEMORY;
    w->purge->age_ms = age_ms;
    return 0;
}

void purge_deinit(struct worker *w)
{
    if (!w->purge)
        return;
    blob_unref(w->purge->reference);
    free(w->purge->turns);
    free(w->purge->differs);
    free(w->purge);
}
