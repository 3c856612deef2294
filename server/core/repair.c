/* repair: write-backs that no client waits for.
 *
 * A get whose answers disagreed replies as soon as W slots hold the merged state. The slots beyond
 * W get it as well, but nobody waits for that, and nobody asks again: a few of them may be under
 * way per worker (in number, and in bytes), each for REPAIR_PATIENCE_MS at most, and what finds no
 * room is left to the replicas' own comparison in the background. So a replica that comes back
 * with much behind does not take the place of requests.
 *
 * Also slots that were not asked get it: one disagreement makes it likely that they miss the same
 * write, and a state that is there already costs them one look. A slot whose write-back is still
 * unanswered needs no second one.
 */
#include "server/core/repair.h"
#include "server/core/op.h"

_Static_assert(WORKER_OPS_MAX <= REPAIR_INDEX && REPAIR_INDEX + REPAIRS_MAX <= 0x10000,
               "no operation's index is taken for a repair's");

static uint64_t repair_id(const struct worker *w, const struct repair *r)
{
    uint64_t place = (uint64_t)(r - w->repairs.all);

    return (uint64_t)(r->number & 0x7fffffffu) << 32 | (REPAIR_INDEX + place);
}

static void repair_free(struct worker *w, struct repair *r)
{
    w->repairs.bytes -= r->bytes;
    r->number++;
    r->busy = false;
}

/* A place for a write of so many bytes, or NULL. A write that is alone always has one. */
static struct repair *repair_new(struct worker *w, size_t bytes)
{
    struct repair *found = NULL;

    for (uint32_t i = 0; i < REPAIRS_MAX; i++) {
        struct repair *r = &w->repairs.all[i];

        if (r->busy && r->sent_ms + REPAIR_PATIENCE_MS <= w->now_ms)
            repair_free(w, r);
        if (!r->busy)
            found = r;
    }
    if (!found || (w->repairs.bytes > 0 && w->repairs.bytes + bytes > REPAIR_BYTES_MAX))
        return NULL;
    found->busy = true;
    found->sent_ms = w->now_ms;
    found->bytes = bytes;
    w->repairs.bytes += bytes;
    return found;
}

void repair_rest(struct worker *w, struct op *op, struct effects *out)
{
    for (uint32_t i = 0; i < op->entry.n_slots; i++) {
        struct wire_peer msg;
        struct repair *r;

        if (op->entry.slots[i].state != SLOT_READY || op->slots[i].phase != PHASE_IDLE ||
            !op_slot_reachable(w, op, i))
            continue;
        r = repair_new(w, op->key.partition.len + op->key.sort.len + op->state.value.len);
        if (!r) {
            w->stats.n_repairs_left++;
            continue;
        }
        msg.type = PEER_PUT;
        msg.u.put.key = op->key;
        msg.u.put.state = op->state;
        msg.u.put.first_hand = false;
        msg.u.put.source = 1 + op->holder;
        op_address(w, op, i, &msg);
        msg.id = repair_id(w, r);
        msg.deadline_ms = REPAIR_PATIENCE_MS;
        w->stats.n_repairs_rest++;
        op_send(w, op, i, &msg, out);
    }
}

bool repair_recv(struct worker *w, const struct wire_peer *msg)
{
    uint32_t place = (uint32_t)(msg->id & 0xffff) - REPAIR_INDEX;
    struct repair *r;

    if (place >= REPAIRS_MAX)
        return false;
    r = &w->repairs.all[place];
    if (r->busy && repair_id(w, r) == msg->id)
        repair_free(w, r);
    return true;
}
