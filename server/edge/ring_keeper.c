/* ring_keeper: makes a ring that a member has told durable, before it is served.
 *
 *   gossip: a good ring --> packed --> the store, as the ring of this node --> control_set_ring
 *
 * The order is that of the first ring: on disk, then to the workers, then (its epoch is in every
 * message) to others. A crash before the sync leaves the older ring, one after it the newer; either
 * is whole, and the rest is told again. The loop does not wait: the store syncs on its own thread.
 *
 * What is served are the bytes that were synced, unpacked again: the arena of the frame that they
 * came in is long used for others.
 */
#include "server/edge/ring_keeper.h"

#include "proto/err.h"
#include "server/core/form.h"
#include "server/edge/control.h"

#include <assert.h>

/* Tells our writes from the former's, which come to the same queue. */
#define RING_KEEPER_COOKIE 2u

int ring_keeper_submit(struct control *c, const char *name, struct slice bytes, uint64_t cookie)
{
    struct store *s = c->node->store;
    struct store_op op = {
        .type = STORE_OP_META, .cookie = cookie, .name = slice_str(name), .value = bytes};
    uint64_t lsn;

    return s->ops->submit(s, c->loop.index, &op, 1, &lsn);
}

int ring_keeper_take(struct ring_keeper *k, struct control *c, const struct wire_ring *ring)
{
    int r;

    assert(!k->writing); /* membership takes one at a time */
    r = wire_ring_pack(ring, &k->bytes);
    if (r == 0)
        r = ring_keeper_submit(c, FORM_META_RING, buf_slice(&k->bytes), RING_KEEPER_COOKIE);
    k->writing = r == 0;
    if (r < 0)
        buf_deinit(&k->bytes);
    return r;
}

static void serve(struct ring_keeper *k, struct control *c)
{
    struct wire_ring ring;
    struct arena arena;
    int r;

    arena_init(&arena, WIRE_ARENA_BUDGET_RING);
    r = wire_ring_unpack(buf_slice(&k->bytes), &arena, &ring);
    if (r < 0)
        control_die(c, "a newer ring cannot be used: %s.", err_text(r));
    control_set_ring(c, &ring);
    if (c->former.joining)
        former_stop(&c->former); /* a candidate now */
    arena_deinit(&arena);
}

void ring_keeper_synced(struct ring_keeper *k, struct control *c, const struct store_done *done)
{
    if (done->cookie != RING_KEEPER_COOKIE || !k->writing)
        return;
    k->writing = false;
    if (done->error < 0) {
        log_error(&c->node->log, "a newer ring cannot be written", "error=%s",
                  err_name(done->error));
        gossip_ring_lost(&c->gossip);
        former_ring_lost(&c->former);
    } else if (!c->stopping) { /* else the next start serves it */
        serve(k, c);
    }
    buf_deinit(&k->bytes);
}

void ring_keeper_deinit(struct ring_keeper *k)
{
    buf_deinit(&k->bytes);
}
