/* counts: how many records each replica of this node holds, and the root of its hash tree.
 *
 *     asking worker --LETTER_STATUS--> worker 0 --> worker 1 ... --> control --> the answer
 *                                      each adds what it owns
 *
 * Only the worker that owns a partition may look at its records, so the question goes round with a
 * table that each fills in. That takes a summary of 8 KiB per partition, and a look at the disk for
 * each record on its way there: some milliseconds as a rule, seconds at worst. So it is done only
 * when somebody asks, in slices, with a limit in time. Partitions smaller than a summary's part of
 * the ring would have to be read through, and are not counted.
 *
 * Counts may show what is not durable yet: they are figures, from which nobody may conclude what a
 * crash leaves.
 */
#include "server/edge/counts.h"

#include "server/core/ring.h"
#include "server/core/tree.h"
#include "server/edge/control.h"
#include "server/edge/worker_loop.h"
#include <stdlib.h>

/* ---- the table ----------------------------------------------------------------------------- */

/* Of every partition: records, then tombstones, then digests. */
static uint64_t *table_of(const struct letter *letter)
{
    return (uint64_t *)(void *)letter->u.status.counts->data;
}

/* For this ring. NULL: no memory, or nothing to be counted. */
static struct blob *table_new(const struct ring *ring)
{
    uint32_t n = ring_wire(ring)->n_partitions;
    struct blob *table = n <= STORE_ZONES ? blob_new(3 * n * sizeof(uint64_t)) : NULL;

    if (table)
        memset(table->data, 0, table->len);
    return table;
}

void counts_of(const struct letter *letter, const struct ring *ring, struct wire_status_result *ret)
{
    uint32_t n = ring_wire(ring)->n_partitions;

    if (!letter->u.status.counts || letter->u.status.epoch != ring_epoch(ring))
        return;
    ret->vnode_records = table_of(letter);
    ret->vnode_tombstones = ret->vnode_records + n;
    ret->vnode_digests = ret->vnode_tombstones + n;
}

/* ---- counting ------------------------------------------------------------------------------ */

static bool is_ours(const struct worker_loop *wl, uint32_t partition, uint64_t first)
{
    struct ring_entry entry;

    if (token_worker(first, wl->node->n_workers) != wl->index)
        return false;
    ring_lookup(wl->ring, partition, &entry);
    return ring_entry_slot(&entry, 0) >= 0;
}

/* leaves: room for those of a partition. */
static void count_one(struct worker_loop *wl, uint32_t partition, uint64_t *leaves, uint64_t *table)
{
    uint32_t n = ring_wire(wl->ring)->n_partitions;
    uint64_t first = token_partition_first(partition, n);
    struct store_range range = {first, first + (UINT64_MAX / n)};
    struct store *s = wl->node->store;
    struct store_info info;
    uint64_t lsn;

    if (!is_ours(wl, partition, first))
        return;
    wl->read = true;
    if (s->ops->vnode_info(s, wl->index, range, &info) < 0 ||
        s->ops->leaves(s, wl->index, range, leaves, &lsn) < 0)
        return;
    table[partition] = 1 + info.n_records;
    table[n + partition] = 1 + info.n_tombstones;
    table[2 * n + partition] = tree_digest(leaves, tree_n_leaves(tree_partition_bits(n)));
}

/* One slice for the first question. Returns whether that is through. */
static bool count_slice(struct worker_loop *wl)
{
    struct counts *c = &wl->counts;
    const struct letter *letter = list_entry(c->letters.next, struct letter, link);
    uint64_t until_ns = uv_hrtime() + COUNTS_SLICE_US * 1000ull, *leaves;
    uint32_t n;

    if (!wl->ring || ring_epoch(wl->ring) != letter->u.status.epoch)
        return true;
    n = tree_n_leaves(tree_partition_bits(ring_wire(wl->ring)->n_partitions));
    leaves = malloc(n * sizeof(*leaves));
    if (!leaves)
        return true; /* what was not counted is not told */
    while (c->at < ring_wire(wl->ring)->n_partitions && uv_hrtime() < until_ns)
        count_one(wl, c->at++, leaves, table_of(letter));
    free(leaves);
    return c->at == ring_wire(wl->ring)->n_partitions || loop_now_ms(&wl->loop) >= c->until_ms;
}

/* ---- the way ------------------------------------------------------------------------------- */

static void pass_on(struct worker_loop *wl, struct letter *letter)
{
    struct node *n = wl->node;

    if (wl->index + 1 < n->n_workers)
        loop_post_one(&n->workers[wl->index + 1]->loop, letter);
    else
        loop_post_one(&n->control->loop, letter);
}

static void begin(struct worker_loop *wl);

static void on_timer(uv_timer_t *timer)
{
    struct worker_loop *wl = timer->data;
    struct counts *c = &wl->counts;

    if (!count_slice(wl)) {
        uv_timer_start(&c->timer, on_timer, COUNTS_PAUSE_MS, 0);
        return;
    }
    c->n_letters--;
    pass_on(wl, letters_pop(&c->letters));
    if (c->n_letters > 0)
        begin(wl);
}

static void begin(struct worker_loop *wl)
{
    struct counts *c = &wl->counts;

    c->at = 0;
    c->until_ms = loop_now_ms(&wl->loop) + COUNTS_MS_MAX / wl->node->n_workers;
    uv_timer_start(&c->timer, on_timer, 0, 0);
}

void counts_ask(struct worker_loop *wl, struct letter *letter)
{
    if (wl->ring) {
        letter->u.status.epoch = ring_epoch(wl->ring);
        letter->u.status.counts = table_new(wl->ring);
    }
    if (letter->u.status.counts)
        loop_post_one(&wl->node->workers[0]->loop, letter);
    else
        loop_post_one(&wl->node->control->loop, letter);
}

void counts_take(struct worker_loop *wl, struct letter *letter)
{
    struct counts *c = &wl->counts;

    if (wl->closing || c->n_letters == COUNTS_WAITING_MAX) {
        pass_on(wl, letter);
        return;
    }
    list_append(&c->letters, &letter->link);
    if (++c->n_letters == 1)
        begin(wl);
}

/* ---- life ---------------------------------------------------------------------------------- */

void counts_init(struct counts *c)
{
    list_init(&c->letters);
}

void counts_start(struct worker_loop *wl)
{
    uv_timer_init(&wl->loop.uv, &wl->counts.timer);
    wl->counts.timer.data = wl;
}

void counts_deinit(struct counts *c)
{
    letters_free(&c->letters);
}
