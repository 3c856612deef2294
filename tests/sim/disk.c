/* disk: a store_mem behind delays, and a shadow that knows what must be on it.
 *
 * Submits take effect at once, as in the model of a store; a sync begins when there is something to
 * sync and ends after a while, one at a time, making durable what was submitted before it began (or
 * only a part). Each worker reaps on its own, a little later. A read is made after a while, and its
 * result is handed over after another, so that batches overtake reads and reads overtake each
 * other.
 *
 * The shadow follows versions only: of each key the newest submitted and the newest durable one. It
 * shares no code with the stores' merge, so that acknowledgements can be checked against it. */
#include "tests/sim/sim.h"

#include <stdlib.h>

struct read {
    uint64_t cookie, token, until_ms;
    uint32_t worker;
    bool scan, leaves, info, made;
    struct blob *bytes; /* key: partition, sort; or cursor */
    struct key key;
    struct store_range range;
    struct slice cursor;
    uint32_t bytes_max;
    uint32_t cap;
    int error; /* once made */
    struct state state;
    uint64_t lsn;
    struct blob *value;
};

void read_free(struct read *r)
{
    if (!r)
        return;
    blob_unref(r->bytes);
    blob_unref(r->value);
    free(r);
}

/* ---- the shadow -------------------------------------------------------------------------- */

static void raise(struct version *to, struct version v)
{
    if (version_compare(v, *to) > 0)
        *to = v;
}

static void shadow_submit(struct shadow *s, uint64_t lsn, uint32_t key, struct version version)
{
    if (s->n_ops == s->cap_ops) {
        s->cap_ops = s->cap_ops ? s->cap_ops * 2 : 64;
        s->ops = realloc(s->ops, s->cap_ops * sizeof(*s->ops));
        if (!s->ops)
            abort();
    }
    s->ops[s->n_ops++] = (struct shadow_op){lsn, key, version};
    raise(&s->current[key], version);
}

static void shadow_sync(struct shadow *s, uint64_t lsn)
{
    size_t n = 0;

    while (n < s->n_ops && s->ops[n].lsn <= lsn) {
        raise(&s->durable[s->ops[n].key], s->ops[n].version);
        n++;
    }
    if (n == 0)
        return; /* maybe there is no array yet */
    s->n_ops -= n;
    memmove(s->ops, s->ops + n, s->n_ops * sizeof(*s->ops));
}

static void shadow_crash(struct shadow *s, uint64_t keep)
{
    shadow_sync(s, keep);
    s->n_ops = 0;
    memcpy(s->current, s->durable, sizeof(s->current));
}

/* ---- writing ----------------------------------------------------------------------------- */

static void begin_sync(struct world *w, struct node *n)
{
    struct disk *d = &n->disk;
    uint64_t last = store_mem_last_lsn(d->store), durable = d->store->ops->durable(d->store);

    if (d->syncing || last == durable)
        return;
    d->syncing = true;
    if (sim_chance(w, 200)) /* the rest came too late for this one */
        last = durable + 1 + sim_below(w, last - durable);
    sim_push(w, w->now_us + 50 + sim_delay(w, w->sync_us) + sim_delay(w, d->sync_us + 1),
             (struct item){.type = ITEM_SYNC, .node = (uint16_t)n->index, .a = last});
}

static void refuse(struct world *w, struct node *n, uint32_t worker, const struct store_op *ops,
                   size_t n_ops, int error)
{
    for (size_t i = 0; i < n_ops; i++)
        sim_push(w, w->now_us + 1,
                 (struct item){.type = ITEM_REFUSED,
                               .node = (uint16_t)n->index,
                               .worker = (uint16_t)worker,
                               .a = ops[i].cookie,
                               .b = (uint64_t)-error});
}

/* What the damaged record said is known to nobody any more. */
static void heal(struct world *w, struct node *n, uint32_t key)
{
    struct disk *d = &n->disk;

    if (!d->rotten[key])
        return;
    d->rotten[key] = false;
    d->lost[key] = (struct lost){d->shadow.durable[key], w->now_us};
    d->shadow.current[key] = d->shadow.durable[key] = (struct version){0};
    w->stats.covers[COVER_HEALED]++;
}

/* There was no room for it until it was too late. */
static bool is_held_up(struct world *w, struct node *n, uint32_t worker, const struct store_op *op)
{
    uint64_t now_ms = node_mono_ms(w, n);

    if (!op->until_ms || !sim_chance(w, w->healed ? 0 : 2))
        return false;
    sim_push(w, w->now_us + (op->until_ms > now_ms ? op->until_ms - now_ms : 0) * MS + 1,
             (struct item){.type = ITEM_REFUSED,
                           .node = (uint16_t)n->index,
                           .worker = (uint16_t)worker,
                           .a = op->cookie,
                           .b = ERR_DEADLINE});
    return true;
}

void disk_submit(struct world *w, struct node *n, uint32_t worker, const struct store_op *ops,
                 size_t n_ops)
{
    struct disk *d = &n->disk;
    uint64_t lsn;
    int r;

    if (n_ops == 1 && is_held_up(w, n, worker, ops))
        return;

    if (d->near_full) {
        d->full = sim_chance(w, 700);
        store_mem_set_full(d->store, d->full);
    }
    r = sim_chance(w, w->healed ? 0 : 1)
            ? -ERR_FULL
            : d->store->ops->submit(d->store, worker, ops, n_ops, &lsn);

    if (r < 0) {
        refuse(w, n, worker, ops, n_ops, r);
        return;
    }
    for (size_t i = 0; i < n_ops; i++) {
        bool merge = ops[i].type == STORE_OP_MERGE;
        int key = merge ? client_key_index(w, &ops[i].key) : -1;
        bool room = !merge || !d->full || ops[i].state.deleted;

        if (key >= 0 && ops[i].heal && room)
            heal(w, n, (uint32_t)key);
        room = room && (key < 0 || !d->rotten[key]);
        if (merge && ops[i].floor && ops[i].state.version.hlc <= *ops[i].floor) {
            w->stats.covers[COVER_BELOW_FLOOR]++;
            room = false;
        }
        if (!merge)
            continue;
        if (key < 0) {
            sim_fail(w, "%s was given a key that nobody wrote", n->name);
            return;
        }
        check_stored(w, n->index, &ops[i],
                     room && version_compare(ops[i].state.version, d->shadow.current[key]) > 0);
        if (room)
            shadow_submit(&d->shadow, lsn - n_ops + i + 1, (uint32_t)key, ops[i].state.version);
    }
    begin_sync(w, n);
}

static void synced(struct world *w, struct node *n, uint64_t lsn)
{
    struct disk *d = &n->disk;

    d->syncing = false;
    shadow_sync(&d->shadow, lsn);
    store_mem_sync(d->store, lsn);
    for (uint32_t i = 0; i < n->n_workers; i++)
        if (!n->reaping[i]) {
            n->reaping[i] = true;
            sim_push(w, w->now_us + sim_delay(w, MS),
                     (struct item){
                         .type = ITEM_REAP, .node = (uint16_t)n->index, .worker = (uint16_t)i});
        }
    begin_sync(w, n);
}

static void tell_durable(struct world *w, struct node *n, uint32_t worker)
{
    struct event in = {.type = EVENT_DURABLE};

    in.u.durable.lsn = n->disk.store->ops->durable(n->disk.store);
    node_step(w, n, worker, &in);
}

static void reap(struct world *w, struct node *n, uint32_t worker)
{
    struct store *s = n->disk.store;
    struct store_done dones[16];
    size_t n_dones;

    n->reaping[worker] = false;
    if (sim_chance(w, 500))
        tell_durable(w, n, worker);
    while ((n_dones = s->ops->reap(s, worker, dones, 16)) > 0)
        for (size_t i = 0; i < n_dones; i++) {
            struct event in = {.type = EVENT_STORED};

            in.u.stored = dones[i];
            node_step(w, n, worker, &in);
        }
    tell_durable(w, n, worker);
}

/* ---- reading ----------------------------------------------------------------------------- */

static struct slice put_bytes(uint8_t **at, struct slice s)
{
    struct slice copy = slice_of(*at, s.len);

    if (s.len)
        memcpy(*at, s.data, s.len);
    *at += s.len;
    return copy;
}

static uint64_t read_delay(struct world *w, const struct node *n)
{
    return sim_chance(w, 700) ? 0 : sim_delay(w, MS + n->disk.read_us);
}

void disk_read(struct world *w, struct node *n, uint32_t worker, const struct effect *e)
{
    struct read *r = calloc(1, sizeof(*r));
    uint8_t *at;

    if (!r)
        abort();
    r->worker = worker;
    r->scan = e->type == EFFECT_SCAN;
    r->leaves = e->type == EFFECT_LEAVES;
    r->info = e->type == EFFECT_INFO;
    if (r->info) {
        r->cookie = e->u.info.cookie;
        r->range = e->u.info.range;
    } else if (r->leaves) {
        r->cookie = e->u.leaves.cookie;
        r->range = e->u.leaves.range;
    } else if (r->scan) {
        r->cookie = e->u.scan.cookie;
        r->range = e->u.scan.range;
        r->bytes_max = e->u.scan.bytes_max;
        r->cap = 1 + (uint32_t)sim_below(w, 2 * SIM_KEYS_MAX);
        r->bytes = blob_copy(e->u.scan.cursor);
        r->cursor = blob_slice(r->bytes);
    } else {
        r->cookie = e->u.get.cookie;
        r->token = e->u.get.token;
        r->until_ms = e->u.get.until_ms;
        r->bytes = blob_new(e->u.get.key.partition.len + e->u.get.key.sort.len);
        at = r->bytes->data;
        r->key.bucket = e->u.get.key.bucket;
        r->key.partition = put_bytes(&at, e->u.get.key.partition);
        r->key.sort = put_bytes(&at, e->u.get.key.sort);
    }
    sim_push(
        w, w->now_us + read_delay(w, n),
        (struct item){
            .type = ITEM_READ, .node = (uint16_t)n->index, .worker = (uint16_t)worker, .read = r});
}

static void hand_over(struct world *w, struct node *n, const struct read *r)
{
    struct event in = {.type = EVENT_GOT};

    in.u.got.cookie = r->cookie;
    in.u.got.error = r->error;
    in.u.got.state = r->state;
    in.u.got.lsn = r->lsn;
    if (r->lsn > n->disk.store->ops->durable(n->disk.store))
        w->stats.covers[COVER_GATED]++;
    node_step(w, n, r->worker, &in);
}

/* A page is handed over as it is read: an edge may not keep what the store lends. */
static void scan(struct world *w, struct node *n, const struct read *r)
{
    struct store *s = n->disk.store;
    struct wire_record items[2 * SIM_KEYS_MAX];
    struct store_page page = {.items = items, .cap = r->cap};
    struct event in = {.type = EVENT_SCANNED};

    in.u.scanned.cookie = r->cookie;
    in.u.scanned.error = s->ops->scan(s, r->worker, r->range, r->cursor, r->bytes_max, &page);
    in.u.scanned.page = &page;
    node_step(w, n, r->worker, &in);
    if (n->alive)
        s->ops->read_end(s, r->worker);
}

static void leaves(struct world *w, struct node *n, const struct read *r)
{
    static uint64_t all[1u << (STORE_LEAF_BITS - 6)]; /* of 64 partitions, one */
    struct store *s = n->disk.store;
    struct event in = {.type = EVENT_LEAVES};

    in.u.leaves.cookie = r->cookie;
    in.u.leaves.error = s->ops->leaves(s, r->worker, r->range, all, &in.u.leaves.lsn);
    in.u.leaves.leaves = all;
    in.u.leaves.n = sizeof(all) / sizeof(all[0]);
    in.u.leaves.cost_us = (uint32_t)sim_below(w, 200);
    node_step(w, n, r->worker, &in);
    if (n->alive)
        s->ops->read_end(s, r->worker);
}

static void info(struct world *w, struct node *n, const struct read *r)
{
    struct store *s = n->disk.store;
    struct event in = {.type = EVENT_INFO};

    in.u.info.cookie = r->cookie;
    in.u.info.error = s->ops->vnode_info(s, r->worker, r->range, &in.u.info.info);
    node_step(w, n, r->worker, &in);
}

void disk_purge(struct world *w, struct node *n, uint32_t worker, const struct effect *e)
{
    struct disk *d = &n->disk;
    struct store *s = n->disk.store;
    int error =
        sim_chance(w, w->healed ? 0 : 100)
            ? -ERR_FULL
            : s->ops->purge(s, worker, e->u.purge.cookie, e->u.purge.range, e->u.purge.floor);

    if (error < 0) {
        sim_push(w, w->now_us + 1,
                 (struct item){.type = ITEM_REFUSED,
                               .node = (uint16_t)n->index,
                               .worker = (uint16_t)worker,
                               .a = e->u.purge.cookie,
                               .b = (uint64_t)-error});
        return;
    }
    d->purged[ring_partition(w->rings[0], e->u.purge.range.first)] = e->u.purge.floor;
    w->stats.covers[COVER_PURGED]++;
    begin_sync(w, n);
}

static void make_read(struct world *w, struct node *n, struct item *item)
{
    struct read *r = item->read;
    struct store *s = n->disk.store;

    if (r->scan || r->leaves || r->info) {
        if (r->scan)
            scan(w, n, r);
        else if (r->info)
            info(w, n, r);
        else
            leaves(w, n, r);
        return;
    }
    r->error = s->ops->get(s, r->worker, r->token, &r->key, &r->state, &r->lsn);
    if (r->until_ms && r->until_ms <= node_mono_ms(w, n)) { /* it was parked: no need to make it */
        r->error = -ERR_DEADLINE;
        r->state = (struct state){0};
    }
    if (sim_chance(w, 700)) { /* inline: the worker sees the store's own bytes */
        hand_over(w, n, r);
    } else {
        if (r->state.value.len)
            r->value = blob_copy(r->state.value);
        r->state.value = blob_slice(r->value);
        item->read = NULL;
        sim_push(
            w, w->now_us + read_delay(w, n),
            (struct item){
                .type = ITEM_GOT, .node = (uint16_t)n->index, .worker = item->worker, .read = r});
    }
    if (n->alive)
        s->ops->read_end(s, item->worker);
}

static bool is_rotten(const struct world *w, struct node *n, uint32_t key)
{
    struct store *s = n->disk.store;
    char text[16];
    struct key k = client_key(key, text);
    struct state state;
    uint64_t lsn;
    int r = s->ops->get(s, 0, ring_token(w->rings[0], &k), &k, &state, &lsn);

    s->ops->read_end(s, 0);
    return r == -ERR_CORRUPT;
}

bool disk_rot(struct world *w, struct node *n, uint32_t key)
{
    struct disk *d = &n->disk;
    char text[16];
    struct key k = client_key(key, text);

    if (version_is_none(d->shadow.durable[key]) ||
        version_compare(d->shadow.durable[key], d->shadow.current[key]) != 0 ||
        d->shadow.current[key].hlc <= d->purged[check_partition(w, key)])
        return false; /* on its way, or nothing is there to go bad */
    if (store_mem_corrupt(d->store, ring_token(w->rings[0], &k), &k) != 0)
        sim_fail(w, "%s has no record of a key that its shadow knows", n->name);
    d->rotten[key] = true;
    return true;
}

/* ---- items and life ---------------------------------------------------------------------- */

void disk_item(struct world *w, struct node *n, struct item *item)
{
    struct event in = {.type = EVENT_STORED};

    switch ((enum item_type)item->type) {
    case ITEM_SYNC:
        synced(w, n, item->a);
        return;
    case ITEM_REAP:
        reap(w, n, item->worker);
        return;
    case ITEM_READ:
        make_read(w, n, item);
        return;
    case ITEM_GOT:
        hand_over(w, n, item->read);
        return;
    case ITEM_REFUSED:
        in.u.stored.cookie = item->a;
        in.u.stored.error = -(int)item->b;
        node_step(w, n, item->worker, &in);
        return;
    default:
        sim_fail(w, "item %d is nobody's", item->type);
        return;
    }
}

static void notify(void *ctx, uint32_t queue)
{
    (void)ctx; /* synced() wakes all workers itself */
    (void)queue;
}

static void fatal(void *ctx, const char *sentence)
{
    sim_fail(ctx, "the store gave up: %s", sentence);
}

void disk_init(struct world *w, struct node *n)
{
    struct store_config config = {
        .n_workers = n->n_workers, .notify = notify, .fatal = fatal, .ctx = w};

    if (store_mem_open(&config, &n->disk.store) < 0)
        abort();
}

void disk_deinit(struct node *n)
{
    n->disk.store->ops->close(n->disk.store);
    free(n->disk.shadow.ops);
}

void disk_crash(struct world *w, struct node *n, uint32_t n_workers)
{
    struct disk *d = &n->disk;
    uint64_t last = store_mem_last_lsn(d->store), durable = d->store->ops->durable(d->store);
    uint64_t keep = durable + sim_below(w, last - durable + 1);

    w->stats.covers[COVER_LOST_UNSYNCED] += last - keep;
    store_mem_crash(d->store, keep, n_workers);
    shadow_crash(&d->shadow, keep);
    d->syncing = false;
    for (uint32_t i = 0; i < w->n_keys; i++) /* what was healed and not synced is damaged again */
        d->rotten[i] = is_rotten(w, n, i);
}
