/* commit_queue: see the picture in commit_queue.h.
 *
 * LSNs are given out under the same lock that links the batch, so the order of the list is the
 * order of the LSNs, for all queues together. Encoding keys and copying values happens before the
 * lock is taken; inside it there are a few assignments, however large the batch.
 *
 * Bounds: a queue may have STORE_QUEUE_OPS_MAX outcomes and STORE_QUEUE_BYTES_MAX bytes that it has
 * not reaped. Both counters belong to the queue's own thread (submit adds, reap subtracts), so a
 * queue that does not reap stops itself and nobody else. A queue with nothing outstanding takes any
 * batch, also one that is larger than the bound: nothing would ever wake its caller up to try
 * again.
 *
 * Deliberately not done: no priorities between queues, no merging of batches.
 */
#include "storage/commit_queue.h"

#include <assert.h>
#include <stdlib.h>

#include "storage/store_check.h"

#define COMMIT_BATCH_ITEMS_MAX STORE_SUBMIT_MAX

/* ---- batches ------------------------------------------------------------------------------ */

static struct commit_batch *batch_new(size_t n, size_t n_bytes, uint8_t **ret_bytes)
{
    size_t head = sizeof(struct commit_batch) + n * sizeof(struct commit_item);
    struct commit_batch *b = malloc(head + n_bytes);

    if (!b)
        return NULL;
    *b = (struct commit_batch){.n = n, .bytes = head + n_bytes};
    *ret_bytes = (uint8_t *)b + head;
    return b;
}

void commit_batch_free(struct commit_batch *b)
{
    if (!b)
        return;
    for (size_t i = 0; i < b->n; i++)
        blob_unref(b->items[i].owner);
    free(b);
}

static bool is_referenced(const struct blob *owner, struct slice value)
{
    return owner && value.len >= COMMIT_REF_BYTES_MIN;
}

/* Bytes that the batch must copy for this operation, or why it cannot be taken. */
static int op_check(const struct store_op *op, size_t *ret_bytes)
{
    int r = store_check_op(op);

    *ret_bytes = 0;
    if (op->type == STORE_OP_MERGE) {
        *ret_bytes = STORE_KEY_HEADER_BYTES + op->key.partition.len + op->key.sort.len;
        if (!is_referenced(op->owner, op->state.value))
            *ret_bytes += op->state.value.len;
    } else if (op->type == STORE_OP_META) {
        *ret_bytes = op->name.len + op->value.len;
    }
    return r;
}

static uint8_t *copy_slice(uint8_t *at, struct slice from, struct slice *to)
{
    if (from.len)
        memcpy(at, from.data, from.len);
    *to = slice_of(at, from.len);
    return at + from.len;
}

static uint8_t *fill_merge(struct commit_item *item, uint8_t *at, uint64_t token,
                           const struct key *key, const struct state *state, struct blob *owner)
{
    item->type = COMMIT_MERGE;
    item->grows = !state->deleted;
    item->key = slice_of(at, store_key_encode(token, key, at));
    at += item->key.len;
    item->state = *state;
    if (is_referenced(owner, state->value))
        item->owner = blob_ref(owner);
    else
        at = copy_slice(at, state->value, &item->state.value);
    return at;
}

static uint8_t *fill_op(struct commit_item *item, uint8_t *at, const struct store_op *op)
{
    *item = (struct commit_item){.done = {.cookie = op->cookie}};
    switch (op->type) {
    case STORE_OP_MERGE:
        item->heal = op->heal;
        item->has_floor = op->floor;
        item->floor = op->floor ? *op->floor : 0;
        return fill_merge(item, at, op->token, &op->key, &op->state, op->owner);
    case STORE_OP_CLOCK:
        item->type = COMMIT_CLOCK;
        item->u.clock = op->clock;
        return at;
    case STORE_OP_META:
        item->type = COMMIT_META;
        at = copy_slice(at, op->name, &item->key);
        return copy_slice(at, op->value, &item->state.value);
    }
    return at;
}

int commit_batch_of_ops(const struct store_op *ops, size_t n, struct commit_batch **ret)
{
    struct commit_batch *b;
    size_t n_bytes = 0, more;
    uint8_t *at;
    int r;

    if (n == 0 || n > COMMIT_BATCH_ITEMS_MAX)
        return -ERR_BAD_REQUEST;
    for (size_t i = 0; i < n; i++) {
        r = op_check(&ops[i], &more);
        if (r < 0)
            return r;
        n_bytes += more;
    }
    b = batch_new(n, n_bytes, &at);
    if (!b)
        return -ERR_NO_MEMORY;
    for (size_t i = 0; i < n; i++) {
        at = fill_op(&b->items[i], at, &ops[i]);
        if (b->items[i].owner)
            b->bytes += b->items[i].state.value.len;
    }
    *ret = b;
    return 0;
}

int commit_batch_of_items(const struct store_item *items, size_t n, uint64_t cookie,
                          struct commit_batch **ret)
{
    struct commit_batch *b;
    size_t n_bytes = 0;
    uint8_t *at;
    int r;

    if (n > STORE_QUEUE_BYTES_MAX / sizeof(struct commit_item))
        return -ERR_BAD_REQUEST;
    for (size_t i = 0; i < n; i++) {
        r = store_check_record(&items[i].key, &items[i].state);
        if (r < 0)
            return r;
        n_bytes += STORE_KEY_HEADER_BYTES + items[i].key.partition.len + items[i].key.sort.len +
                   items[i].state.value.len;
    }
    if (n_bytes > STORE_QUEUE_BYTES_MAX)
        return -ERR_BAD_REQUEST;
    b = batch_new(n, n_bytes, &at);
    if (!b)
        return -ERR_NO_MEMORY;
    b->one_outcome = true;
    b->cookie = cookie;
    for (size_t i = 0; i < n; i++) {
        b->items[i] = (struct commit_item){0};
        at = fill_merge(&b->items[i], at, items[i].token, &items[i].key, &items[i].state, NULL);
    }
    *ret = b;
    return 0;
}

static int batch_of_range(struct commit_item item, struct commit_batch **ret)
{
    uint8_t *at;
    struct commit_batch *b = batch_new(1, 0, &at);

    if (!b)
        return -ERR_NO_MEMORY;
    b->items[0] = item;
    *ret = b;
    return 0;
}

int commit_batch_of_wipe(struct store_range range, uint64_t cookie, struct commit_batch **ret)
{
    return batch_of_range(
        (struct commit_item){.type = COMMIT_WIPE, .u.range = range, .done = {.cookie = cookie}},
        ret);
}

int commit_batch_of_purge(struct store_range range, uint64_t floor, uint64_t cookie,
                          struct commit_batch **ret)
{
    return batch_of_range(
        (struct commit_item){
            .type = COMMIT_PURGE, .floor = floor, .u.range = range, .done = {.cookie = cookie}},
        ret);
}

/* The i-th outcome. A load's error is the first one among its items. */
static void batch_outcome(const struct commit_batch *b, size_t i, struct store_done *ret)
{
    if (!b->one_outcome) {
        *ret = b->items[i].done;
        ret->lsn = b->lsn_first + i;
        return;
    }
    *ret = (struct store_done){.cookie = b->cookie, .lsn = b->lsn_first};
    for (size_t k = 0; k < b->n && ret->error == 0; k++)
        ret->error = b->items[k].done.error;
}

static void list_free(struct commit_batch *list)
{
    struct commit_batch *next;

    for (; list; list = next) {
        next = list->next;
        commit_batch_free(list);
    }
}

/* ---- the queue ---------------------------------------------------------------------------- */

int commit_queue_init(struct commit_queue *q, uint32_t n_ports)
{
    *q = (struct commit_queue){.n_ports = n_ports};
    q->ports = aligned_alloc(64, n_ports * sizeof(*q->ports));
    if (!q->ports)
        return -ERR_NO_MEMORY;
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->more, NULL);
    q->pending_tail = &q->pending;
    for (uint32_t i = 0; i < n_ports; i++) {
        struct commit_port *p = &q->ports[i];

        memset(p, 0, sizeof(*p));
        pthread_mutex_init(&p->lock, NULL);
        p->finished_tail = &p->finished;
    }
    return 0;
}

void commit_queue_deinit(struct commit_queue *q)
{
    if (!q->ports)
        return;
    list_free(q->pending);
    for (uint32_t i = 0; i < q->n_ports; i++) {
        list_free(q->ports[i].reaping);
        list_free(q->ports[i].finished);
        pthread_mutex_destroy(&q->ports[i].lock);
    }
    free(q->ports);
    q->ports = NULL;
    pthread_cond_destroy(&q->more);
    pthread_mutex_destroy(&q->lock);
}

/* Something is outstanding, so there will be a notify, and with this batch it would be too much. */
static bool port_is_full(const struct commit_port *p, const struct commit_batch *b)
{
    size_t bytes = p->bytes_out < STORE_QUEUE_BYTES_MAX ? p->bytes_out : STORE_QUEUE_BYTES_MAX;

    return p->n_out > 0 && (commit_batch_outcomes(b) > STORE_QUEUE_OPS_MAX - p->n_out ||
                            b->bytes > STORE_QUEUE_BYTES_MAX - bytes);
}

int commit_queue_submit(struct commit_queue *q, uint32_t port, struct commit_batch *b,
                        uint64_t *ret_lsn)
{
    struct commit_port *p = &q->ports[port];
    size_t n = commit_batch_outcomes(b);
    bool wake;

    assert(port < q->n_ports);
    if (port_is_full(p, b))
        return -ERR_FULL;
    p->n_out += n;
    p->bytes_out += b->bytes;
    b->queue = port;
    b->next = NULL;

    pthread_mutex_lock(&q->lock);
    b->lsn_first = q->lsn_last + 1;
    q->lsn_last += n;
    *ret_lsn = q->lsn_last;
    *q->pending_tail = b;
    q->pending_tail = &b->next;
    wake = q->writer_waits;
    q->writer_waits = false;
    pthread_mutex_unlock(&q->lock);
    if (wake)
        pthread_cond_signal(&q->more);
    return 0;
}

static void reap_refill(struct commit_port *p)
{
    if (p->reaping || !atomic_load_explicit(&p->waiting, memory_order_acquire))
        return;
    pthread_mutex_lock(&p->lock);
    p->reaping = p->finished;
    p->finished = NULL;
    p->finished_tail = &p->finished;
    atomic_store_explicit(&p->waiting, false, memory_order_relaxed);
    pthread_mutex_unlock(&p->lock);
}

size_t commit_queue_reap(struct commit_queue *q, uint32_t port, struct store_done *out, size_t max)
{
    struct commit_port *p = &q->ports[port];
    size_t n = 0;

    assert(port < q->n_ports);
    while (n < max) {
        struct commit_batch *b;

        reap_refill(p);
        b = p->reaping;
        if (!b)
            break;
        while (n < max && b->n_reported < commit_batch_outcomes(b))
            batch_outcome(b, b->n_reported++, &out[n++]);
        if (b->n_reported < commit_batch_outcomes(b))
            break;
        p->n_out -= commit_batch_outcomes(b);
        p->bytes_out -= b->bytes;
        p->reaping = b->next;
        commit_batch_free(b);
    }
    if (n)
        p->lsn_reaped = out[n - 1].lsn;
    return n;
}

struct commit_batch *commit_queue_take(struct commit_queue *q, bool wait)
{
    struct commit_batch *list;

    pthread_mutex_lock(&q->lock);
    while (wait && !q->pending && !q->stopping) {
        q->writer_waits = true;
        pthread_cond_wait(&q->more, &q->lock);
    }
    q->writer_waits = false;
    list = q->pending;
    q->pending = NULL;
    q->pending_tail = &q->pending;
    pthread_mutex_unlock(&q->lock);
    return list;
}

void commit_queue_finish(struct commit_queue *q, struct commit_batch *list, bool *touched)
{
    struct commit_batch *next;

    for (; list; list = next) {
        struct commit_port *p = &q->ports[list->queue];

        next = list->next;
        list->next = NULL;
        touched[list->queue] = true;
        pthread_mutex_lock(&p->lock);
        *p->finished_tail = list;
        p->finished_tail = &list->next;
        atomic_store_explicit(&p->waiting, true, memory_order_release);
        pthread_mutex_unlock(&p->lock);
    }
}

void commit_queue_stop(struct commit_queue *q)
{
    pthread_mutex_lock(&q->lock);
    q->stopping = true;
    pthread_cond_signal(&q->more);
    pthread_mutex_unlock(&q->lock);
}
