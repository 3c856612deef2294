/* replica_purge: what a slot does and answers in a round that lets tombstones go (purge.h).
 *
 *   OPEN     floor in force, fact on its way ----> durable ----> "opened"
 *   LIST     of all leaves: from the tree; of some: from their records at or below the floor ----->
 *            digests, once what they show is durable, and the number of entries before they were
 *            read: whatever enters after that shows in the number
 *   FREEZE   own requests dropped, nothing of them on its way into the store ----> the number now
 *   CLOSE    closed as soon as possible; nobody waits for it
 *
 * A list or a freeze is refused, to be asked for again, while records that were fetched are on
 * their way into the store: they would enter behind the list's back.
 *
 * Tombstones that are closed over count as absent in lists of records: one slot has removed them,
 * another has not.
 */
#include "server/core/antientropy.h"
#include "server/core/floor.h"
#include "server/core/heal.h"
#include "server/core/replica.h"
#include "storage/merge.h"

/* Records of a list that are read in one go: some milliseconds. A leaf may be of any size, and this
 * thread has other work. */
#define PURGE_LOOKED_MAX 4096u
#define PURGE_REST_MS 1u

/* What was asked, and how far it is; kept in pending.bytes. */
struct purge_ask {
    enum wire_purge_step step;
    uint64_t floor, closed, entered;
    uint64_t lsn;
    uint32_t n, at;     /* leaves, and which is being read; n 0: all, from the tree */
    uint32_t n_looked;  /* since the last rest */
    struct place after; /* goes on behind it */
    uint32_t leaves[LIMIT_PULL_LEAVES];
    uint64_t digests[LIMIT_PULL_LEAVES];
};

static struct purge_ask *ask_of(struct pending *p)
{
    return (struct purge_ask *)(void *)p->bytes->data;
}

static void answer(struct worker *w, struct pending *p, uint64_t entered, const uint64_t *digests,
                   size_t n, uint64_t lsn, struct effects *out)
{
    struct wire_peer reply;

    replica_reply_init(w, &reply, PEER_PURGE_REPLY, p->id, &p->replica, 0);
    reply.u.purge_reply.closed = floor_closed(w, p->replica.partition);
    reply.u.purge_reply.entered = entered;
    reply.u.purge_reply.digests = digests;
    reply.u.purge_reply.n_digests = n;
    pending_answer(w, p, &reply, lsn, out);
}

/* ---- lists --------------------------------------------------------------------------------- */

static void read_all(struct worker *w, struct pending *p, struct effects *out)
{
    struct effect *e = worker_emit(out, EFFECT_LEAVES);

    e->u.leaves.cookie = pending_cookie(w, p);
    e->u.leaves.range = partition_range(w, p->replica.partition);
}

static void read_leaf(struct worker *w, struct pending *p, struct effects *out)
{
    struct purge_ask *ask = ask_of(p);
    struct effect *e = worker_emit(out, EFFECT_SCAN);

    e->u.scan.cookie = pending_cookie(w, p);
    e->u.scan.range.first = partition_range(w, p->replica.partition).first +
                            ((uint64_t)ask->leaves[ask->at] << (64 - TREE_LEAF_BITS));
    e->u.scan.range.last = e->u.scan.range.first + (UINT64_MAX >> TREE_LEAF_BITS);
    e->u.scan.cursor = place_slice(&ask->after);
    e->u.scan.bytes_max = LIMIT_SCAN_PAGE_BYTES;
}

/* 0, or the error to answer with. */
static int check_again(const struct worker *w, const struct pending *p, int error)
{
    return error ? -error : pending_check(w, p);
}

void replica_purge_leaves(struct worker *w, struct pending *p, const struct event *in,
                          struct effects *out)
{
    int err = check_again(w, p, in->u.leaves.error);
    uint64_t entered = ask_of(p)->entered;
    struct blob *copy;

    if (err) {
        pending_refuse(w, p, err, out);
        return;
    }
    copy = blob_copy(slice_of(in->u.leaves.leaves, in->u.leaves.n * sizeof *in->u.leaves.leaves));
    if (!copy) {
        pending_refuse(w, p, ERR_NO_MEMORY, out);
        return;
    }
    worker_bury(w, p->bytes);
    p->bytes = copy;
    answer(w, p, entered, (const uint64_t *)(const void *)copy->data, in->u.leaves.n,
           in->u.leaves.lsn, out);
}

static void count(struct purge_ask *ask, const struct wire_record *r)
{
    if (r->state.version.hlc <= ask->floor && !floor_hides(ask->closed, &r->state))
        ask->digests[ask->at] ^= merge_digest(&r->key, &r->state);
}

void replica_purge_scanned(struct worker *w, struct pending *p, const struct event *in,
                           struct effects *out)
{
    const struct store_page *page = in->u.scanned.page;
    struct purge_ask *ask = ask_of(p);
    int err = check_again(w, p, in->u.scanned.error);

    if (err == ERR_CORRUPT && page && page->cursor_len > 0)
        heal_record(w, slice_of(page->cursor, page->cursor_len));
    if (err) { /* a damaged record: what it says is not known, so no round can end well */
        pending_refuse(w, p, err, out);
        return;
    }
    for (size_t i = 0; i < page->n; i++)
        count(ask, &page->items[i]);
    ask->lsn = page->lsn > ask->lsn ? page->lsn : ask->lsn;
    ask->n_looked += (uint32_t)page->n;
    place_set(&ask->after,
              page->more ? slice_of(page->cursor, page->cursor_len) : (struct slice){0});
    ask->at += !page->more;
    if (ask->at == ask->n) {
        answer(w, p, ask->entered, ask->digests, ask->n, ask->lsn, out);
    } else if (ask->n_looked < PURGE_LOOKED_MAX) {
        read_leaf(w, p, out);
    } else {
        ask->n_looked = 0;
        p->rest_ms = w->now_ms + PURGE_REST_MS;
        list_append(&w->resting, &p->gated);
    }
}

void replica_purge_go_on(struct worker *w, struct pending *p, struct effects *out)
{
    list_remove(&p->gated);
    if (pending_is_late(w, p))
        pending_drop(w, p, out);
    else
        read_leaf(w, p, out);
}

/* ---- steps --------------------------------------------------------------------------------- */

static bool is_taking_in(const struct worker *w, uint32_t partition)
{
    return antientropy_is_merging(w, partition) || heal_is_merging(w, partition);
}

/* 0, or the error to answer with. */
static int check_step(struct worker *w, const struct wire_peer *msg)
{
    const struct floor *f = floor_of(w, msg->replica.partition);
    uint32_t n = ring_wire(w->ring)->n_partitions;
    size_t n_leaves = msg->u.purge.n_leaves;

    if (!f || (n_leaves > 0 &&
               msg->u.purge.leaves[n_leaves - 1] >= tree_n_leaves(tree_partition_bits(n))))
        return ERR_BAD_REQUEST;
    /* A floor in our future would have all our puts stamped anew. */
    if (msg->u.purge.step == PURGE_OPEN && version_wall_ms(msg->u.purge.floor) > w->wall_ms)
        return ERR_CLOCK;
    if (msg->u.purge.step != PURGE_OPEN && msg->u.purge.floor > f->opened)
        return ERR_BAD_REQUEST;
    if (msg->u.purge.step == PURGE_LIST && is_taking_in(w, msg->replica.partition))
        return ERR_NOT_YET;
    if (msg->u.purge.step == PURGE_FREEZE && !floor_freeze(w, msg->replica.partition))
        return ERR_NOT_YET;
    return 0;
}

static void take_step(struct worker *w, struct pending *p, const struct wire_peer *msg,
                      struct effects *out)
{
    struct floor *f = floor_of(w, msg->replica.partition);
    struct purge_ask *ask = ask_of(p);

    ask->entered = f->entered;
    switch (msg->u.purge.step) {
    case PURGE_NONE:
        break;
    case PURGE_OPEN:
        if (!floor_open(w, msg->replica.partition, msg->u.purge.floor, pending_cookie(w, p), out))
            pending_refuse(w, p, ERR_NO_MEMORY, out);
        return;
    case PURGE_LIST:
        if (ask->n)
            read_leaf(w, p, out);
        else
            read_all(w, p, out);
        return;
    case PURGE_FREEZE:
        break;
    case PURGE_CLOSE:
        floor_close(w, msg->replica.partition, msg->u.purge.floor);
        break;
    }
    answer(w, p, f->entered, NULL, 0, 0, out);
}

void replica_purge(struct worker *w, struct addr from, const struct wire_peer *msg,
                   uint64_t until_ms, struct effects *out)
{
    int err = check_step(w, msg);
    struct purge_ask ask = {.step = msg->u.purge.step,
                            .floor = msg->u.purge.floor,
                            .closed = floor_closed(w, msg->replica.partition),
                            .n = (uint32_t)msg->u.purge.n_leaves};
    struct pending *p;

    p = err ? NULL : pending_new(w, PENDING_PURGE, from, msg);
    if (!p) {
        replica_refuse(w, from, msg, err ? err : ERR_OVERLOADED, out);
        return;
    }
    p->until_ms = until_ms;
    if (ask.n)
        memcpy(ask.leaves, msg->u.purge.leaves, ask.n * sizeof *ask.leaves);
    p->bytes = blob_copy(slice_of(&ask, sizeof ask));
    if (p->bytes)
        take_step(w, p, msg, out);
    else
        pending_refuse(w, p, ERR_NO_MEMORY, out);
}

/* The floor is opened, for good. */
void replica_purge_stored(struct worker *w, struct pending *p, const struct event *in,
                          struct effects *out)
{
    int err = check_again(w, p, in->u.stored.error);

    if (err)
        pending_refuse(w, p, err, out);
    else
        answer(w, p, ask_of(p)->entered, NULL, 0, 0, out);
}
