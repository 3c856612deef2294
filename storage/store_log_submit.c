/* store_log_submit: an operation on its owner's thread, from the call to its outcome.
 *
 *   merge: what is the key's state? --+-- newer --> log list, active table, zone_max
 *          (blind, if the version is  |                    |
 *          above all of its zone)     +-- not --> no-op    |
 *                                                          v
 *   log_append: LSNs for all of the submit ----> dones (in LSN order) --durable--> reap
 *
 * A version above everything its zone has ever seen needs no look at what is there: the usual case
 * costs one insertion. zone_max is the owner's alone; a load raises it before any of its records
 * can be seen. What is at or below its purge floor is then refused as blindly: it would be stored.
 *
 * What is not stored has an LSN as well and waits for it: it may have been decided by an entry that
 * is not durable yet, and such an entry has a lower LSN.
 *
 * Order matters in three places. `active_first` is set before the log takes the first entry of a
 * table: the apply, which reads `durable` first, never takes for applied what it has not seen. The
 * log admits before anything is changed: what it has admitted it will write. And a refusal as FULL
 * sets held_up before it looks, so that no notify is missed.
 *
 * Pacing: a table may take nearly all of the budget. The memory of a frozen one is given back range
 * by range as the apply goes, and the active one may have so much: beyond it puts are refused as
 * FULL. So a queue of puts slows down to the pace of the disk instead of stopping when both tables
 * are full. Only where nearly all of a table lies in one range it does stop until that is on disk.
 */
#include "storage/store_log_impl.h"

#include <assert.h>
#include <malloc.h>
#include <stdlib.h>

#include "storage/merge.h"
#include "storage/store_check.h"

/* What comes is looked at from this on; less than that fits into what is never given to puts. */
#define SPACE_LARGE_BYTES (1u << 20)

/* ---- tables -------------------------------------------------------------------------------- */

static void publish_bytes(struct part *p)
{
    atomic_store_explicit(&p->bytes,
                          p->active->disk_bytes + (p->frozen ? p->frozen->disk_bytes : 0),
                          memory_order_relaxed);
}

void part_free_retired(struct part *p)
{
    bool idle = p->retired && p->active && table_is_empty(p->active);
    struct table *next;

    for (struct table *t = p->retired; t; t = next) {
        next = t->next;
        table_free(t);
    }
    p->retired = NULL;
    if (idle)
        malloc_trim(0); /* nothing is being written: the memory of tables goes back */
}

/* What reads will see from now on must be on disk: a snapshot from before the apply's last message
 * does not show it. The older one stays for what is lent out. */
static bool snapshot_is_new(struct store_log *s, uint32_t queue)
{
    return !lmdb_snapshot_open(&s->env, queue) || lmdb_snapshot_next(&s->env, queue) == 0;
}

/* Ranges that the apply has behind it, while nothing is lent out. */
static void give_back_ranges(struct store_log *s, uint32_t queue)
{
    struct part *p = &s->parts[queue];
    uint32_t n = atomic_load(&p->n_ranges_applied);

    if (!p->frozen || p->read || n <= p->frozen->n_given_back)
        return;
    assert(!lmdb_snapshot_open(&s->env, queue)); /* the next one shows what is given back */
    table_give_back(p->frozen, n);
}

static void drop_applied(struct store_log *s, uint32_t queue)
{
    struct part *p = &s->parts[queue];

    if (!p->frozen || !atomic_load(&p->applied) || !snapshot_is_new(s, queue))
        return;
    atomic_store(&p->applied, false);
    atomic_store(&p->progress, 0);
    atomic_store(&p->n_ranges_applied, 0);
    p->frozen->next = p->retired;
    p->retired = p->frozen;
    p->frozen = NULL;
    if (!p->read)
        part_free_retired(p);
    publish_bytes(p);
    if (atomic_load(&p->held_up)) /* there is room, and the apply has told already */
        s->config.notify(s->config.ctx, queue);
}

/* Then a table is frozen, of a part that may have so much. */
static uint64_t table_bytes_max(uint64_t part_bytes_max)
{
    return part_bytes_max - part_bytes_max / TABLE_FREE_PART;
}

static bool should_freeze(struct store_log *s, const struct part *p)
{
    if (p->frozen || table_is_empty(p->active))
        return false;
    return atomic_load(&p->wants_freeze) || p->active->n_wipes >= TABLE_WIPES_MAX / 2 ||
           p->active->n_bytes >= table_bytes_max(atomic_load(&s->part_bytes_max)) ||
           log_used_bytes(s->log) >= s->log_bytes_max / 4 * 3 || log_is_short(s->log);
}

static void freeze(struct store_log *s, uint32_t queue)
{
    struct part *p = &s->parts[queue];
    struct table *fresh = table_new();

    if (!fresh)
        return; /* tried again with the next chores */
    atomic_store(&p->wants_freeze, false);
    p->frozen = p->active;
    p->active = fresh;
    p->frozen->frozen_bytes = p->frozen->n_bytes;
    /* In this order: whoever reads them the other way round misses nothing. */
    atomic_store(&p->frozen_first, atomic_load(&p->active_first));
    atomic_store(&p->active_first, LSN_NONE);
    apply_give(s, queue, p->frozen);
}

/* What a summary that was made anew has found above all that its zone was known to have seen. */
static void take_raised(struct store_log *s, uint32_t queue)
{
    struct part *p = &s->parts[queue];

    pthread_mutex_lock(&p->lock);
    atomic_store(&p->has_raised, false);
    for (uint32_t z = 0; z < ZONES; z++) {
        if (part_of(s, zone_range(z).first) == queue &&
            version_compare(s->zone_raised[z], s->zone_max[z]) > 0)
            s->zone_max[z] = s->zone_raised[z];
    }
    pthread_mutex_unlock(&p->lock);
}

void part_chores(struct store_log *s, uint32_t queue)
{
    struct part *p = &s->parts[queue];

    if (atomic_load_explicit(&p->has_raised, memory_order_acquire))
        take_raised(s, queue);
    drop_applied(s, queue);
    give_back_ranges(s, queue);
    if (should_freeze(s, p))
        freeze(s, queue);
}

/* May the active table take more? What the frozen one leaves it may take at once; the rest up to
 * where it is frozen itself comes as memory is given back. It takes no more than its part of that,
 * so all tables together stay within the budget, and what the progress tells ahead. */
static bool pace_allows(const struct store_log *s, const struct part *p)
{
    uint64_t progress = atomic_load(&p->applied) ? PROGRESS_WHOLE : atomic_load(&p->progress);
    uint64_t part_max = atomic_load(&s->part_bytes_max); /* may shrink at any moment */
    uint64_t most = table_bytes_max(part_max), at_once = part_max - most;

    if (!p->frozen)
        return true;
    if (p->frozen->frozen_bytes < most)
        at_once = part_max - p->frozen->frozen_bytes;
    if (at_once < most)
        at_once += (most - at_once) / PROGRESS_WHOLE * progress;
    return p->active->n_bytes <= at_once;
}

/* Whether so many bytes that grow are refused: what waits in the tables will need room as well. */
static bool space_is_low(const struct store_log *s, size_t bytes)
{
    uint64_t waiting = bytes >= SPACE_LARGE_BYTES ? bytes : 0;

    if (atomic_load_explicit(&s->space.low, memory_order_relaxed))
        return true;
    for (uint32_t q = 0; q < s->n_parts; q++)
        waiting += atomic_load_explicit(&s->parts[q].bytes, memory_order_relaxed);
    return waiting >= atomic_load_explicit(&s->space.room, memory_order_relaxed);
}

/* ---- admission ----------------------------------------------------------------------------- */

/* What the log needs for it, at most. */
static size_t op_bytes(const struct store_op *op)
{
    switch (op->type) {
    case STORE_OP_MERGE:
        return LOG_RECORD_OVERHEAD_BYTES + STORE_KEY_HEADER_BYTES + RECORD_HEADER_BYTES + 2 +
               op->key.partition.len + op->key.sort.len + op->state.value.len;
    case STORE_OP_META:
        return LOG_RECORD_OVERHEAD_BYTES + 1 + META_NAME_BYTES_MAX + FACT_HEADER_BYTES +
               op->value.len;
    case STORE_OP_CLOCK:
        break;
    }
    return LOG_RECORD_OVERHEAD_BYTES + 1 + META_NAME_BYTES_MAX + FACT_HEADER_BYTES + 8;
}

static bool op_grows(const struct store_op *op)
{
    return op->type == STORE_OP_MERGE && !op->state.deleted;
}

static size_t entry_bytes(const struct store_op *op)
{
    size_t value = op->state.value.len;

    if (op->owner && value >= MEMTABLE_REF_BYTES_MIN)
        value = 0;
    return STORE_KEY_HEADER_BYTES + op->key.partition.len + op->key.sort.len + value;
}

struct submit {
    struct store_log *s;
    struct part *p;
    uint32_t queue;
    struct log_list *list;
    bool no_space;   /* what grows is refused */
    bool refuse_all; /* there is not even room for the rest */
    size_t n_made;
    struct fact_value **facts; /* per operation, or NULL if there are none */
};

static bool bytes_are_too_many(const struct part *p, size_t bytes)
{
    size_t out = p->bytes_out < STORE_QUEUE_BYTES_MAX ? p->bytes_out : STORE_QUEUE_BYTES_MAX;

    return bytes > STORE_QUEUE_BYTES_MAX - out;
}

static bool queue_is_full(const struct part *p, size_t n, size_t bytes)
{
    return p->n_dones > 0 && (n > STORE_QUEUE_OPS_MAX - p->n_dones || bytes_are_too_many(p, bytes));
}

/* Room for all of it. 0, -ERR_FULL, -ERR_NO_MEMORY. */
static int admit(struct submit *m, const struct store_op *ops, size_t n)
{
    size_t bytes = 0, growing = 0;
    struct table_need need = {0};
    bool grows;
    int r;

    for (size_t i = 0; i < n; i++) {
        bytes += op_bytes(&ops[i]);
        if (ops[i].type == STORE_OP_MERGE)
            table_need_add(&need, ops[i].token, entry_bytes(&ops[i]));
        growing += op_grows(&ops[i]) ? op_bytes(&ops[i]) : 0;
    }
    grows = growing > 0;
    atomic_store(&m->p->held_up, true);
    /* Without room there is no pace to keep: the answer is no, and deletes must get through. */
    m->no_space = space_is_low(m->s, growing);
    if (queue_is_full(m->p, n, bytes) || (grows && !m->no_space && !pace_allows(m->s, m->p)))
        return -ERR_FULL;
    r = table_reserve(m->p->active, &need);
    if (r < 0)
        return r;
    r = log_admit(m->s->log, m->list, bytes, !grows);
    if (r == -ERR_NO_SPACE && grows) {
        m->no_space = true; /* deletes and facts among them go on */
        r = log_admit(m->s->log, m->list, bytes, true);
    }
    m->refuse_all = r == -ERR_NO_SPACE;
    if (r < 0 && !m->refuse_all)
        return r;
    atomic_store(&m->p->held_up, false);
    m->p->bytes_out += bytes;
    return 0;
}

/* ---- deciding ------------------------------------------------------------------------------ */

static int list_state(struct submit *m, struct slice store_key, const struct store_op *op)
{
    struct log_pieces pieces;
    bool refer = op->owner && op->state.value.len >= MEMTABLE_REF_BYTES_MIN;

    log_record_state(store_key, &op->state, &pieces);
    return log_list_add(m->list, LOG_STATE, pieces.piece, pieces.n, refer ? op->owner : NULL);
}

static int store_state(struct submit *m, struct slice store_key, const struct store_op *op)
{
    struct version *max = &m->s->zone_max[zone_of(op->token)];
    int r;

    if (op_grows(op) && m->no_space)
        return -ERR_NO_SPACE;
    r = list_state(m, store_key, op);
    if (r < 0)
        return r;
    /* The LSN is known when the log has taken the list: see number_entries. */
    m->p->made[m->n_made++] = (struct memtable_entry *)(uintptr_t)table_put(
        m->p->active, store_key, &op->state, LSN_NONE, op->owner);
    m->p->active->disk_bytes += table_disk_bytes(store_key.len, op->state.value.len);
    if (version_compare(op->state.version, *max) > 0)
        *max = op->state.version;
    return 0;
}

static void submit_merge(struct submit *m, const struct store_op *op, struct store_done *done)
{
    uint8_t bytes[STORE_KEY_BYTES_MAX];
    struct slice store_key = slice_of(bytes, store_key_encode(op->token, &op->key, bytes));
    struct state old = {0};
    uint64_t lsn;

    assert(part_of(m->s, op->token) == m->queue);
    m->p->made[m->n_made] = NULL;
    if (version_compare(op->state.version, m->s->zone_max[zone_of(op->token)]) <= 0) {
        done->error = part_find(m->s, m->queue, op->token, store_key, &old, &lsn);
        /* A page that cannot be read, which costs the snapshot, could not be written either. */
        if (done->error == -ERR_CORRUPT && op->heal && lmdb_snapshot_open(&m->s->env, m->queue))
            done->error = 0; /* old is what the tables know */
        if (done->error < 0)
            return;
    }
    done->outcome = merge_above(&old, &op->state, op->floor, &done->version);
    if (done->outcome != OUTCOME_STORED)
        return;
    done->error = store_state(m, store_key, op);
    if (done->error < 0) {
        done->outcome = OUTCOME_NONE;
        done->version = (struct version){0};
    }
}

static void submit_fact(struct submit *m, const struct store_op *op, struct fact_value **ret,
                        struct store_done *done)
{
    uint8_t name[META_NAME_BYTES_MAX];
    struct log_pieces pieces;

    done->error = facts_prepare(m->s, op, ret);
    if (done->error < 0)
        return;
    log_record_fact(facts_name(op, name), blob_slice((*ret)->bytes), &pieces);
    done->error = log_list_add(m->list, LOG_FACT, pieces.piece, pieces.n, NULL);
    if (done->error < 0) {
        fact_value_free(*ret);
        *ret = NULL;
    }
}

/* ---- outcomes ------------------------------------------------------------------------------ */

static struct store_done *done_add(struct part *p, uint64_t cookie, size_t bytes)
{
    size_t at = (p->dones_at + p->n_dones++) % p->cap_dones;

    p->done_bytes[at] = bytes;
    p->dones[at] = (struct store_done){.cookie = cookie};
    return &p->dones[at];
}

/* Makes room for n more. Grows up to what a queue may have outstanding and one submit. */
static int dones_reserve(struct part *p, size_t n)
{
    size_t cap = p->cap_dones ? p->cap_dones : 256;
    struct store_done *dones;
    size_t *bytes;

    while (cap < p->n_dones + n)
        cap *= 2;
    if (cap == p->cap_dones)
        return 0;
    dones = malloc(cap * sizeof(*dones));
    bytes = malloc(cap * sizeof(*bytes));
    if (!dones || !bytes) {
        free(dones);
        free(bytes);
        return -ERR_NO_MEMORY;
    }
    for (size_t i = 0; p->cap_dones && i < p->n_dones; i++) {
        dones[i] = p->dones[(p->dones_at + i) % p->cap_dones];
        bytes[i] = p->done_bytes[(p->dones_at + i) % p->cap_dones];
    }
    free(p->dones);
    free(p->done_bytes);
    p->dones = dones;
    p->done_bytes = bytes;
    p->cap_dones = cap;
    p->dones_at = 0;
    return 0;
}

/* Entries and outcomes get the LSNs of their operations. */
static void number_entries(struct submit *m, const struct store_op *ops, size_t n, uint64_t lsn)
{
    struct part *p = m->p;
    size_t made = 0;

    for (size_t i = 0; i < n; i++) {
        struct store_done *done = &p->dones[(p->dones_at + p->n_dones - n + i) % p->cap_dones];

        done->lsn = lsn + i;
        if (ops[i].type == STORE_OP_MERGE && done->error == 0 && done->outcome == OUTCOME_STORED) {
            p->made[made++]->lsn = lsn + i;
            p->active->lsn_last = lsn + i;
        }
    }
    assert(made == m->n_made);
    if (made)
        atomic_store_explicit(&p->active_last, p->active->lsn_last, memory_order_relaxed);
}

/* ---- submit -------------------------------------------------------------------------------- */

static int check_all(const struct store_op *ops, size_t n, bool *ret_facts)
{
    *ret_facts = false;
    if (n == 0 || n > STORE_SUBMIT_MAX)
        return -ERR_BAD_REQUEST;
    for (size_t i = 0; i < n; i++) {
        int r = store_check_op(&ops[i]);

        if (r < 0)
            return r;
        *ret_facts = *ret_facts || ops[i].type != STORE_OP_MERGE;
    }
    return 0;
}

static void announce(struct submit *m)
{
    if (atomic_load(&m->p->active_first) == LSN_NONE)
        atomic_store(&m->p->active_first, log_durable(m->s->log) + 1);
}

static void submit_all(struct submit *m, const struct store_op *ops, size_t n, uint64_t *ret_lsn)
{
    uint64_t lsn;

    announce(m);
    for (size_t i = 0; i < n; i++) {
        struct store_done *done = done_add(m->p, ops[i].cookie, op_bytes(&ops[i]));

        if (m->refuse_all)
            done->error = -ERR_NO_SPACE;
        else if (ops[i].type == STORE_OP_MERGE)
            submit_merge(m, &ops[i], done);
        else
            submit_fact(m, &ops[i], &m->facts[i], done);
    }
    lsn = m->facts ? facts_append(m->s, m->list, m->queue, ops, n, m->facts)
                   : log_append(m->s->log, m->list, m->queue, n);
    number_entries(m, ops, n, lsn);
    if (table_is_empty(m->p->active))
        atomic_store(&m->p->active_first, LSN_NONE);
    publish_bytes(m->p);
    atomic_fetch_add_explicit(&m->s->n_ops, n, memory_order_relaxed);
    *ret_lsn = lsn + n - 1;
}

/* What is needed before anything is admitted. */
static int submit_begin(struct submit *m, const struct store_op *ops, size_t n)
{
    bool facts;
    int r = check_all(ops, n, &facts);

    if (r == 0)
        r = dones_reserve(m->p, n);
    if (r == 0 && !m->p->made) {
        m->p->made = malloc((STORE_SUBMIT_MAX + 1) * sizeof(struct memtable_entry *));
        r = m->p->made ? 0 : -ERR_NO_MEMORY;
    }
    if (r < 0)
        return r;
    m->facts = facts ? calloc(n, sizeof(struct fact_value *)) : NULL;
    m->list = log_list_new(m->s->log);
    return (facts && !m->facts) || !m->list ? -ERR_NO_MEMORY : 0;
}

int store_log_submit(struct store *store, uint32_t queue, const struct store_op *ops, size_t n,
                     uint64_t *ret_lsn)
{
    struct store_log *s = log_of(store);
    struct submit m = {.s = s, .p = &s->parts[queue], .queue = queue};
    bool was_reading = m.p->read;
    int r;

    if (atomic_load_explicit(&s->failed, memory_order_relaxed))
        return -ERR_IO;
    part_begin(s, queue);
    r = submit_begin(&m, ops, n);
    if (r == 0)
        r = admit(&m, ops, n);
    if (r == 0)
        submit_all(&m, ops, n, ret_lsn);
    else
        log_list_free(s->log, m.list);
    free(m.facts);
    if (!was_reading)
        part_end(s, queue);
    return r;
}

/* ---- reap ---------------------------------------------------------------------------------- */

/* The first loads that are on disk, as a list. */
static struct load *loads_take(struct part *p, size_t max)
{
    struct load *first, **end = &first;

    pthread_mutex_lock(&p->lock);
    first = p->loaded;
    while (*end && max-- > 0)
        end = &(*end)->next;
    p->loaded = *end;
    *end = NULL;
    if (!p->loaded)
        p->loaded_tail = &p->loaded;
    atomic_store(&p->has_loaded, p->loaded != NULL);
    pthread_mutex_unlock(&p->lock);
    return first;
}

static void loads_put_back(struct part *p, struct load *loads)
{
    struct load **end = &loads;

    while (*end)
        end = &(*end)->next;
    pthread_mutex_lock(&p->lock);
    *end = p->loaded;
    if (!p->loaded)
        p->loaded_tail = end;
    p->loaded = loads;
    atomic_store(&p->has_loaded, true);
    pthread_mutex_unlock(&p->lock);
}

/* What was taken will be seen: the table with the wipe that it waited for goes first, and the
 * snapshot is from after it. */
static bool loads_are_seen(struct store_log *s, uint32_t queue)
{
    struct part *p = &s->parts[queue];

    drop_applied(s, queue);
    return !(p->frozen && atomic_load(&p->applied)) && snapshot_is_new(s, queue);
}

/* Loads that are on disk. Entries older than their end may be older than what they brought. */
static size_t reap_loads(struct store_log *s, struct part *p, struct store_done *out, size_t max)
{
    struct load *loads, *next;
    size_t n = 0;

    if (max == 0 || !atomic_load_explicit(&p->has_loaded, memory_order_acquire))
        return 0;
    loads = loads_take(p, max);
    if (!loads_are_seen(s, (uint32_t)(p - s->parts))) {
        loads_put_back(p, loads);
        return 0;
    }
    for (; loads; loads = next) {
        next = loads->next;
        out[n++] = (struct store_done){
            .cookie = loads->batch->cookie, .error = loads->error, .lsn = log_durable(s->log)};
        p->bytes_out -= loads->batch->bytes;
        p->n_loading--;
        commit_batch_free(loads->batch);
        free(loads);
    }
    p->loaded_lsn = p->active->lsn_last > p->loaded_lsn ? p->active->lsn_last : p->loaded_lsn;
    if (p->frozen && p->frozen->lsn_last > p->loaded_lsn)
        p->loaded_lsn = p->frozen->lsn_last;
    if (p->n_loading == 0) {
        atomic_store(&p->unsettled, p->loaded_lsn);
        apply_kick(s); /* a purge may have waited */
    }
    return n;
}

size_t store_log_reap(struct store *store, uint32_t queue, struct store_done *out, size_t max)
{
    struct store_log *s = log_of(store);
    struct part *p = &s->parts[queue];
    uint64_t durable = log_durable(s->log);
    size_t n = 0;

    if (atomic_load_explicit(&s->failed, memory_order_relaxed))
        return 0;
    while (n < max && p->n_dones > 0 && p->dones[p->dones_at].lsn <= durable) {
        out[n++] = p->dones[p->dones_at];
        p->bytes_out -= p->done_bytes[p->dones_at];
        p->dones_at = (p->dones_at + 1) % p->cap_dones;
        p->n_dones--;
    }
    n += reap_loads(s, p, out + n, max - n);
    n += part_reap_purge(s, queue, out + n, max - n);
    part_chores(s, queue);
    return n;
}

/* ---- load and wipe ------------------------------------------------------------------------- */

static void raise_max(struct store_log *s, const struct store_item *items, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct version *max = &s->zone_max[zone_of(items[i].token)];

        if (version_compare(items[i].state.version, *max) > 0)
            *max = items[i].state.version;
    }
}

static uint64_t last_wipe(const struct part *p)
{
    const struct table *t = p->active->n_wipes || !p->frozen ? p->active : p->frozen;

    return t->n_wipes ? t->wipes[t->n_wipes - 1].lsn : 0;
}

int store_log_load(struct store *store, uint32_t queue, uint64_t cookie,
                   const struct store_item *items, size_t n)
{
    struct store_log *s = log_of(store);
    struct part *p = &s->parts[queue];
    struct load *load;
    int r;

    if (atomic_load_explicit(&s->failed, memory_order_relaxed))
        return -ERR_IO;
    load = calloc(1, sizeof(*load));
    if (!load)
        return -ERR_NO_MEMORY;
    r = commit_batch_of_items(items, n, cookie, &load->batch);
    if (r == 0 && p->n_loading > 0 && bytes_are_too_many(p, load->batch->bytes))
        r = -ERR_FULL;
    if (r < 0) {
        commit_batch_free(load->batch);
        free(load);
        return r;
    }
    load->queue = queue;
    load->after_lsn = last_wipe(p);
    if (load->after_lsn)
        atomic_store(&p->wants_freeze, true);
    p->bytes_out += load->batch->bytes;
    p->n_loading++;
    atomic_store(&p->unsettled, LSN_NONE);
    raise_max(s, items, n);
    apply_give_load(s, load);
    part_chores(s, queue);
    return 0;
}

/* One operation: its record, its place over the active table, its outcome. */
static int wipe(struct submit *m, uint64_t cookie, struct store_range range)
{
    uint64_t number = atomic_fetch_add(&m->s->wipe_number, 1) + 1, lsn;
    struct table *t = m->p->active;
    size_t n_before = t->n_wipes;
    struct log_pieces pieces;
    int r;

    log_record_wipe(range, number, &pieces);
    r = log_list_add(m->list, LOG_WIPE, pieces.piece, pieces.n, NULL);
    if (r == 0)
        r = table_wipe(t, range, 0, number, false);
    if (r == 0)
        r = log_admit(m->s->log, m->list, log_list_bytes(m->list), true);
    if (r < 0) {
        t->n_wipes = n_before;
        return r;
    }
    announce(m);
    done_add(m->p, cookie, 0);
    lsn = log_append(m->s->log, m->list, m->queue, 1);
    m->p->dones[(m->p->dones_at + m->p->n_dones - 1) % m->p->cap_dones].lsn = lsn;
    for (size_t i = n_before; i < t->n_wipes; i++)
        t->wipes[i].lsn = lsn;
    t->lsn_last = lsn;
    atomic_store_explicit(&m->p->active_last, lsn, memory_order_relaxed);
    return 0;
}

int store_log_wipe(struct store *store, uint32_t queue, uint64_t cookie, struct store_range range)
{
    struct store_log *s = log_of(store);
    struct submit m = {.s = s, .p = &s->parts[queue], .queue = queue};
    int r = 0;

    if (atomic_load_explicit(&s->failed, memory_order_relaxed))
        return -ERR_IO;
    part_chores(s, queue);
    atomic_store(&m.p->held_up, true);
    /* A load goes to disk past the log: a wipe behind it must not come before it. */
    if (queue_is_full(m.p, 1, 0) || m.p->n_loading > 0 || m.p->active->n_wipes > TABLE_WIPES_MAX)
        return -ERR_FULL;
    r = dones_reserve(m.p, 1);
    m.list = r == 0 ? log_list_new(s->log) : NULL;
    if (!m.list)
        return -ERR_NO_MEMORY;
    r = wipe(&m, cookie, range);
    if (r < 0)
        log_list_free(s->log, m.list);
    else
        atomic_store(&m.p->held_up, false);
    return r;
}
