/* store_mem: the model of a store. Simple on purpose: it is what the real one is compared with.
 *
 *   journal   | op 41 | op 42 | op 43 | ...        operations after `durable`, with how to undo
 * each ^ durable                ^ last
 *
 * Records are a sorted array of pointers to entries; an entry is never changed, a merge puts a new
 * one in its place and the journal keeps the old. sync(lsn) drops the journal up to lsn;
 * crash(keep) walks it backwards from the end to keep + 1 and puts the old entries back. Facts and
 * the clock are shown "as last made durable", so they wait in the journal and are carried out by
 * sync.
 *
 * What it models: reads see at once what was submitted, with the LSN it would take to be sure of it
 * (for an absent key that of the newest wipe or purge); outcomes are reapable only once durable; a
 * crash keeps any prefix >= durable and forgets every outcome that was not reaped. After a crash
 * the LSNs go on from the prefix kept, as a restarted process would count anew. A purge is over at
 * once, and takes what is not durable yet as well: undone or kept with the rest.
 *
 * What it does not: transactions, pages, snapshots (a read sees what was submitted a moment ago),
 * bounds of space (store_mem_set_full stands for them). Replaced entries live until no queue has an
 * open read, because reads lend their bytes. Failing to allocate is answered like the real store
 * does where an answer exists, and aborts in sync and crash, which have none.
 *
 * With auto_sync nothing is notified: whoever submits knows that it can reap.
 */
#include "storage/store_mem.h"

#include <assert.h>
#include <stdlib.h>

#include "storage/bytes.h"
#include "storage/merge.h"
#include "storage/range_fold.h"
#include "storage/record.h"
#include "storage/scrub_box.h"
#include "storage/scrub_fold.h"
#include "storage/store_check.h"

/* gcc's analyzer takes what is kept behind a pointer that it was given for lost; ASan does not. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
#endif

struct entry {
    uint64_t token, lsn;
    struct key key; /* lies in bytes, as do the others */
    struct state state;
    struct slice store_key;
    bool corrupt;
    struct entry *next_dead;
    uint8_t bytes[];
};

struct fact {
    uint8_t name[STORE_META_NAME_MAX];
    size_t name_len;
    struct buf value;
};

enum journal_type {
    JOURNAL_NOTHING,
    JOURNAL_RECORD,
    JOURNAL_CLOCK,
    JOURNAL_META
};

/* A load, a wipe or a purge makes several records with the same lsn. */
struct journal_record {
    enum journal_type type;
    uint64_t lsn;
    struct entry *old, *new; /* RECORD: what was there, what came instead; NULL = absent */
    uint64_t clock;
    struct fact fact;
};

struct mem_queue {
    struct store_done *dones; /* ring of those not reaped, in LSN order */
    size_t n, first, cap, bytes;
    uint64_t purge_lsn; /* of a purge that is not reaped; 0: none */
    bool reading;
};

struct store_mem {
    struct store store;
    struct store_config config;
    struct mem_queue *queues;
    struct entry **entries; /* sorted by store key */
    size_t n_entries, cap_entries;
    struct journal_record *journal;
    size_t n_journal, cap_journal;
    struct fact *facts;
    size_t n_facts;
    struct entry *dead; /* replaced or undone, perhaps lent to a reader */
    uint64_t last_lsn, durable, clock, n_syncs, n_ops, n_purged;
    uint64_t last_gone_lsn; /* of the last wipe or purge */
    struct scrub_box scrub;
    bool auto_sync, full;
};

static struct store_mem *mem_of(struct store *s)
{
    return (struct store_mem *)s;
}

/* The array with room for n elements, or NULL (and nothing changed). n > 0. */
static void *grown(void *array, size_t *cap, size_t n, size_t size)
{
    size_t more = *cap ? *cap : 16;
    void *p = array;

    if (n <= *cap)
        return p;
    while (more < n)
        more *= 2;
    p = realloc(array, more * size);
    if (p)
        *cap = more;
    return p;
}

/* ---- entries ------------------------------------------------------------------------------ */

static struct entry *entry_new(uint64_t token, const struct key *key, const struct state *state,
                               uint64_t lsn)
{
    uint8_t store_key[STORE_KEY_BYTES_MAX];
    size_t len = store_key_encode(token, key, store_key);
    struct entry *e = malloc(sizeof(*e) + len + state->value.len);
    uint64_t same;

    if (!e)
        return NULL;
    *e = (struct entry){.token = token, .lsn = lsn, .state = *state};
    memcpy(e->bytes, store_key, len);
    if (state->value.len)
        memcpy(e->bytes + len, state->value.data, state->value.len);
    e->store_key = slice_of(e->bytes, len);
    e->state.value = slice_of(e->bytes + len, state->value.len);
    store_key_decode(e->store_key, &same, &e->key);
    return e;
}

static void entry_bury(struct store_mem *m, struct entry *e)
{
    if (!e)
        return;
    e->next_dead = m->dead;
    m->dead = e;
}

static void free_dead(struct store_mem *m)
{
    struct entry *next;

    for (; m->dead; m->dead = next) {
        next = m->dead->next_dead;
        free(m->dead);
    }
}

/* Index of the first entry whose key is not below store_key. */
static size_t find(const struct store_mem *m, struct slice store_key)
{
    size_t low = 0, high = m->n_entries;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (slice_compare(m->entries[mid]->store_key, store_key) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static size_t find_token(const struct store_mem *m, uint64_t token)
{
    uint8_t bytes[8];

    bytes_put_token(bytes, token);
    return find(m, slice_of(bytes, sizeof(bytes)));
}

static struct entry *entry_at(const struct store_mem *m, size_t i, struct slice store_key)
{
    if (i < m->n_entries && slice_equal(m->entries[i]->store_key, store_key))
        return m->entries[i];
    return NULL;
}

static struct entry *lookup(const struct store_mem *m, uint64_t token, const struct key *key)
{
    uint8_t bytes[STORE_KEY_BYTES_MAX];
    struct slice store_key = slice_of(bytes, store_key_encode(token, key, bytes));

    return entry_at(m, find(m, store_key), store_key);
}

static void take_away(struct store_mem *m, const struct entry *old)
{
    size_t i = find(m, old->store_key);

    m->n_entries--;
    memmove(&m->entries[i], &m->entries[i + 1], (m->n_entries - i) * sizeof(*m->entries));
}

/* Puts e where its key is or belongs. Room has been made. */
static void put_in_place(struct store_mem *m, struct entry *e)
{
    size_t i = find(m, e->store_key);

    if (!entry_at(m, i, e->store_key)) {
        memmove(&m->entries[i + 1], &m->entries[i], (m->n_entries - i) * sizeof(*m->entries));
        m->n_entries++;
    }
    m->entries[i] = e;
}

/* ---- the journal -------------------------------------------------------------------------- */

/* Room for so many more. */
static int reserve(struct store_mem *m, size_t n_journal, size_t n_entries)
{
    struct journal_record *journal =
        grown(m->journal, &m->cap_journal, m->n_journal + n_journal + 1, sizeof(*journal));
    struct entry **entries;

    if (!journal)
        return -ERR_NO_MEMORY;
    m->journal = journal;
    entries = grown(m->entries, &m->cap_entries, m->n_entries + n_entries + 1, sizeof(*entries));
    if (!entries)
        return -ERR_NO_MEMORY;
    m->entries = entries;
    return 0;
}

static void journal_add(struct store_mem *m, struct journal_record record)
{
    m->journal[m->n_journal++] = record;
}

static struct fact *fact_find(struct store_mem *m, const uint8_t *name, size_t len)
{
    for (size_t i = 0; i < m->n_facts; i++) {
        if (slice_equal(slice_of(m->facts[i].name, m->facts[i].name_len), slice_of(name, len)))
            return &m->facts[i];
    }
    return NULL;
}

/* Takes the journal's fact over. Room for one more fact was made when it was journaled. */
static void fact_carry_out(struct store_mem *m, struct fact *from)
{
    struct fact *to = fact_find(m, from->name, from->name_len);

    if (to)
        buf_deinit(&to->value);
    else
        to = &m->facts[m->n_facts++];
    *to = *from;
    from->value = (struct buf){0};
}

static void carry_out(struct store_mem *m, struct journal_record *j)
{
    switch (j->type) {
    case JOURNAL_RECORD:
        entry_bury(m, j->old);
        break;
    case JOURNAL_CLOCK:
        m->clock = j->clock > m->clock ? j->clock : m->clock;
        break;
    case JOURNAL_META:
        fact_carry_out(m, &j->fact);
        break;
    case JOURNAL_NOTHING:
        break;
    }
}

static void undo(struct store_mem *m, struct journal_record *j)
{
    if (j->type == JOURNAL_RECORD) {
        if (j->old)
            put_in_place(m, j->old); /* never grows beyond what it was */
        else
            take_away(m, j->new);
        entry_bury(m, j->new);
    }
    if (j->type == JOURNAL_META)
        buf_deinit(&j->fact.value);
}

static bool anyone_reads(const struct store_mem *m)
{
    for (uint32_t q = 0; q <= m->config.n_workers; q++) {
        if (m->queues[q].reading)
            return true;
    }
    return false;
}

static void make_durable(struct store_mem *m, uint64_t lsn)
{
    size_t n = 0;

    lsn = lsn < m->last_lsn ? lsn : m->last_lsn;
    if (lsn <= m->durable)
        return;
    while (n < m->n_journal && m->journal[n].lsn <= lsn)
        carry_out(m, &m->journal[n++]);
    m->n_journal -= n;
    memmove(m->journal, m->journal + n, m->n_journal * sizeof(*m->journal));
    m->durable = lsn;
    m->n_syncs++;
    if (!anyone_reads(m))
        free_dead(m);
}

/* ---- operations --------------------------------------------------------------------------- */

/* 0 or an error for the outcome. *ret: what the merge did. */
static int merge_into(struct store_mem *m, uint64_t lsn, const struct store_op *op,
                      struct store_done *ret)
{
    struct entry *old = lookup(m, op->token, &op->key), *new;
    const struct state absent = {0}, *state = &op->state;
    const struct state *before = old && !old->corrupt ? &old->state : &absent;
    int r;

    if (old && old->corrupt && !op->heal)
        return -ERR_CORRUPT;
    ret->outcome = merge_above(before, state, op->floor, &ret->version);
    if (ret->outcome != OUTCOME_STORED)
        return 0;
    r = m->full && !state->deleted ? -ERR_NO_SPACE : 0;
    new = r == 0 ? entry_new(op->token, &op->key, state, lsn) : NULL;
    if (!new) {
        ret->outcome = OUTCOME_NONE;
        ret->version = (struct version){0};
        return r < 0 ? r : -ERR_NO_MEMORY;
    }
    put_in_place(m, new);
    journal_add(
        m, (struct journal_record){.type = JOURNAL_RECORD, .lsn = lsn, .old = old, .new = new});
    return 0;
}

static int set_fact(struct store_mem *m, uint64_t lsn, const struct store_op *op)
{
    struct journal_record j = {.type = JOURNAL_META, .lsn = lsn};
    struct fact *more = realloc(m->facts, (m->n_facts + m->n_journal + 1) * sizeof(*more));

    if (!more)
        return -ERR_NO_MEMORY;
    m->facts = more;
    buf_init(&j.fact.value);
    if (buf_append_slice(&j.fact.value, op->value) < 0)
        return -ERR_NO_MEMORY;
    memcpy(j.fact.name, op->name.data, op->name.len);
    j.fact.name_len = op->name.len;
    journal_add(m, j);
    return 0;
}

static struct store_done apply(struct store_mem *m, const struct store_op *op, uint64_t lsn)
{
    struct store_done done = {.cookie = op->cookie, .lsn = lsn};

    switch (op->type) {
    case STORE_OP_MERGE:
        done.error = merge_into(m, lsn, op, &done);
        break;
    case STORE_OP_CLOCK:
        journal_add(m,
                    (struct journal_record){.type = JOURNAL_CLOCK, .lsn = lsn, .clock = op->clock});
        break;
    case STORE_OP_META:
        done.error = set_fact(m, lsn, op);
        break;
    }
    return done;
}

/* Room for n more outcomes of the queue. */
static int queue_reserve(struct mem_queue *q, size_t n)
{
    struct store_done *dones;

    if (n > STORE_QUEUE_OPS_MAX - q->n)
        return -ERR_FULL;
    if (q->first) {
        memmove(q->dones, q->dones + q->first, q->n * sizeof(*q->dones));
        q->first = 0;
    }
    dones = grown(q->dones, &q->cap, q->n + n, sizeof(*dones));
    if (!dones)
        return -ERR_NO_MEMORY;
    q->dones = dones;
    return 0;
}

static void queue_add(struct mem_queue *q, struct store_done done)
{
    q->dones[q->first + q->n++] = done;
}

static void submitted(struct store_mem *m)
{
    if (m->auto_sync)
        make_durable(m, m->last_lsn);
}

static int mem_submit(struct store *s, uint32_t queue, const struct store_op *ops, size_t n,
                      uint64_t *ret_lsn)
{
    struct store_mem *m = mem_of(s);
    struct mem_queue *q = &m->queues[queue];
    int r;

    assert(queue <= m->config.n_workers);
    if (n == 0 || n > STORE_SUBMIT_MAX)
        return -ERR_BAD_REQUEST;
    for (size_t i = 0; i < n; i++) {
        r = store_check_op(&ops[i]);
        if (r < 0)
            return r;
    }
    r = queue_reserve(q, n);
    if (r == 0)
        r = reserve(m, n, n);
    if (r < 0)
        return r;
    for (size_t i = 0; i < n; i++)
        queue_add(q, apply(m, &ops[i], ++m->last_lsn));
    m->n_ops += n;
    *ret_lsn = m->last_lsn;
    submitted(m);
    return 0;
}

static int mem_load(struct store *s, uint32_t queue, uint64_t cookie,
                    const struct store_item *items, size_t n)
{
    struct store_mem *m = mem_of(s);
    struct mem_queue *q = &m->queues[queue];
    struct store_done done = {.cookie = cookie}, one;
    int r;

    for (size_t i = 0; i < n; i++) {
        r = store_check_record(&items[i].key, &items[i].state);
        if (r < 0)
            return r;
    }
    r = queue_reserve(q, 1);
    if (r == 0)
        r = reserve(m, n, n);
    if (r < 0)
        return r;
    done.lsn = ++m->last_lsn;
    for (size_t i = 0; i < n; i++) {
        const struct store_op op = {
            .token = items[i].token, .key = items[i].key, .state = items[i].state};

        r = merge_into(m, done.lsn, &op, &one);
        done.error = done.error ? done.error : r;
    }
    queue_add(q, done);
    m->n_ops++;
    submitted(m);
    return 0;
}

static int mem_wipe(struct store *s, uint32_t queue, uint64_t cookie, struct store_range range)
{
    struct store_mem *m = mem_of(s);
    struct mem_queue *q = &m->queues[queue];
    struct store_done done = {.cookie = cookie};
    size_t first = find_token(m, range.first), n = 0;
    int r = queue_reserve(q, 1);

    while (first + n < m->n_entries && m->entries[first + n]->token <= range.last)
        n++;
    if (r == 0)
        r = reserve(m, n, 0);
    if (r < 0)
        return r;
    done.lsn = m->last_gone_lsn = ++m->last_lsn;
    for (size_t i = 0; i < n; i++)
        journal_add(m, (struct journal_record){
                           .type = JOURNAL_RECORD, .lsn = done.lsn, .old = m->entries[first + i]});
    m->n_entries -= n;
    memmove(&m->entries[first], &m->entries[first + n],
            (m->n_entries - first) * sizeof(*m->entries));
    queue_add(q, done);
    m->n_ops++;
    submitted(m);
    return 0;
}

static bool is_purged(const struct entry *e, uint64_t floor)
{
    return !e->corrupt && e->state.deleted && e->state.version.hlc <= floor;
}

static int mem_purge(struct store *s, uint32_t queue, uint64_t cookie, struct store_range range,
                     uint64_t floor)
{
    struct store_mem *m = mem_of(s);
    struct mem_queue *q = &m->queues[queue];
    size_t first = find_token(m, range.first), last = first, to = first;
    int r = q->purge_lsn ? -ERR_FULL : queue_reserve(q, 1);

    while (last < m->n_entries && m->entries[last]->token <= range.last)
        last++;
    if (r == 0)
        r = reserve(m, last - first, 0);
    if (r < 0)
        return r;
    q->purge_lsn = m->last_gone_lsn = ++m->last_lsn;
    for (size_t i = first; i < m->n_entries; i++) {
        if (i < last && is_purged(m->entries[i], floor))
            journal_add(m, (struct journal_record){
                               .type = JOURNAL_RECORD, .lsn = m->last_lsn, .old = m->entries[i]});
        else
            m->entries[to++] = m->entries[i];
    }
    m->n_purged += m->n_entries - to;
    m->n_entries = to;
    queue_add(q, (struct store_done){.cookie = cookie, .lsn = m->last_lsn});
    m->n_ops++;
    submitted(m);
    return 0;
}

static size_t mem_reap(struct store *s, uint32_t queue, struct store_done *out, size_t max)
{
    struct store_mem *m = mem_of(s);
    struct mem_queue *q = &m->queues[queue];
    size_t n = 0;

    while (n < max && q->n && q->dones[q->first].lsn <= m->durable) {
        q->purge_lsn = q->dones[q->first].lsn == q->purge_lsn ? 0 : q->purge_lsn;
        out[n++] = q->dones[q->first++];
        q->n--;
    }
    return n;
}

/* ---- reading ------------------------------------------------------------------------------ */

/* What it takes to be sure of something written at lsn. */
static uint64_t revealed(const struct store_mem *m, uint64_t lsn)
{
    return lsn > m->durable ? lsn : 0;
}

static int mem_get(struct store *s, uint32_t queue, uint64_t token, const struct key *key,
                   struct state *ret, uint64_t *ret_lsn)
{
    struct store_mem *m = mem_of(s);
    const struct entry *e = lookup(m, token, key);

    m->queues[queue].reading = true;
    if (e && e->corrupt)
        return -ERR_CORRUPT;
    *ret = e ? e->state : (struct state){0};
    *ret_lsn = revealed(m, e ? e->lsn : m->last_gone_lsn);
    return 0;
}

static size_t scan_first(const struct store_mem *m, struct store_range range, struct slice cursor)
{
    size_t first = find_token(m, range.first), after;

    if (cursor.len == 0)
        return first;
    after = find(m, cursor);
    after += entry_at(m, after, cursor) != NULL;
    return after > first ? after : first;
}

static void page_set_cursor(struct store_page *page, const struct entry *e)
{
    memcpy(page->cursor, e->store_key.data, e->store_key.len);
    page->cursor_len = e->store_key.len;
}

static int mem_scan(struct store *s, uint32_t queue, struct store_range range, struct slice cursor,
                    size_t bytes_max, struct store_page *page)
{
    struct store_mem *m = mem_of(s);
    size_t i = scan_first(m, range, cursor);

    m->queues[queue].reading = true;
    page->n = page->bytes = page->cursor_len = 0;
    page->lsn = revealed(m, m->last_gone_lsn);
    page->more = false;
    for (; i < m->n_entries && m->entries[i]->token <= range.last; i++) {
        const struct entry *e = m->entries[i];
        size_t bytes = e->key.partition.len + e->key.sort.len + e->state.value.len;

        page->more = page->n == page->cap || (page->n > 0 && page->bytes + bytes > bytes_max) ||
                     (page->n > 0 && e->corrupt);
        if (page->more)
            return 0;
        page_set_cursor(page, e);
        if (e->corrupt)
            return -ERR_CORRUPT;
        page->items[page->n++] = (struct wire_record){.key = e->key, .state = e->state};
        page->bytes += bytes;
        page->lsn = revealed(m, e->lsn) > page->lsn ? e->lsn : page->lsn;
    }
    return 0;
}

static void mem_read_end(struct store *s, uint32_t queue)
{
    struct store_mem *m = mem_of(s);

    m->queues[queue].reading = false;
    if (!anyone_reads(m))
        free_dead(m);
}

static int mem_meta_get(struct store *s, uint32_t queue, struct slice name, struct buf *out)
{
    struct fact *f = fact_find(mem_of(s), name.data, name.len);

    return f ? buf_append_slice(out, buf_slice(&f->value)) : 1;
}

static uint64_t mem_clock_bound(struct store *s)
{
    return mem_of(s)->clock;
}

static uint64_t mem_durable(struct store *s)
{
    return mem_of(s)->durable;
}

static int fold(struct store_mem *m, struct store_range range, struct range_fold *f)
{
    range_fold_reveal(f, revealed(m, m->last_gone_lsn));
    for (size_t i = find_token(m, range.first); i < m->n_entries; i++) {
        const struct entry *e = m->entries[i];

        if (e->token > range.last)
            break;
        if (!e->corrupt)
            range_fold_add(f, e->token, &e->key, &e->state, revealed(m, e->lsn));
    }
    return 0;
}

static int mem_vnode_info(struct store *s, uint32_t queue, struct store_range range,
                          struct store_info *ret)
{
    struct range_fold f;
    int r;

    range_fold_init(&f, range, NULL);
    r = fold(mem_of(s), range, &f);
    if (r == 0)
        *ret = f.info;
    return r;
}

static int mem_leaves(struct store *s, uint32_t queue, struct store_range range, uint64_t *ret,
                      uint64_t *ret_lsn)
{
    struct range_fold f;
    int r;

    range_fold_init(&f, range, ret);
    r = fold(mem_of(s), range, &f);
    *ret_lsn = f.info.lsn;
    return r;
}

/* There is no summary that could disagree: sums are added up when they are asked for. */
static int mem_scrub(struct store *s, uint32_t queue, const struct store_scrub_place *from,
                     size_t bytes_max)
{
    struct store_mem *m = mem_of(s);
    struct store_range range = zone_range(from->zone);
    size_t i = scan_first(m, range, slice_of(from->after, from->after_len));
    bool ended = false; /* seen to: what is full has not looked */
    struct scrub_fold f;

    if (!scrub_box_claim(&m->scrub, queue))
        return -ERR_FULL;
    scrub_fold_begin(&f, NULL, from, bytes_max, &m->scrub.out);
    for (; !ended && !scrub_fold_is_full(&f); i++) {
        const struct entry *e = i < m->n_entries ? m->entries[i] : NULL;

        ended = !e || e->token > range.last;
        if (!ended && e->corrupt)
            scrub_fold_bad(&f, e->store_key);
        else if (!ended)
            scrub_fold_record(&f, e->store_key, e->token, &e->key, &e->state);
    }
    scrub_fold_end(&f, ended);
    scrub_box_filled(&m->scrub);
    m->config.notify(m->config.ctx, queue);
    return 0;
}

static bool mem_scrubbed(struct store *s, uint32_t queue, struct store_scrub *ret)
{
    return scrub_box_empty(&mem_of(s)->scrub, queue, ret);
}

static int mem_stats(struct store *s, uint32_t queue, struct store_stats *ret)
{
    struct store_mem *m = mem_of(s);

    *ret = (struct store_stats){.n_records = m->n_entries,
                                .n_syncs = m->n_syncs,
                                .n_ops = m->n_ops,
                                .n_purged = m->n_purged,
                                .durable = m->durable,
                                .space_low = m->full};
    return 0;
}

/* ---- its life ----------------------------------------------------------------------------- */

static void queues_free(struct store_mem *m)
{
    for (uint32_t q = 0; m->queues && q <= m->config.n_workers; q++)
        free(m->queues[q].dones);
    free(m->queues);
    m->queues = NULL;
}

static void mem_close(struct store *s)
{
    struct store_mem *m = mem_of(s);

    make_durable(m, UINT64_MAX);
    queues_free(m);
    for (size_t i = 0; i < m->n_entries; i++)
        free(m->entries[i]);
    for (size_t i = 0; i < m->n_facts; i++)
        buf_deinit(&m->facts[i].value);
    free_dead(m);
    free(m->entries);
    free(m->facts);
    free(m->journal);
    free(m);
}

static const struct store_ops mem_ops = {
    .submit = mem_submit,
    .reap = mem_reap,
    .durable = mem_durable,
    .get = mem_get,
    .scan = mem_scan,
    .read_end = mem_read_end,
    .meta_get = mem_meta_get,
    .clock_bound = mem_clock_bound,
    .load = mem_load,
    .wipe = mem_wipe,
    .purge = mem_purge,
    .vnode_info = mem_vnode_info,
    .leaves = mem_leaves,
    .scrub = mem_scrub,
    .scrubbed = mem_scrubbed,
    .stats = mem_stats,
    .close = mem_close,
};

int store_mem_open(const struct store_config *config, struct store **ret)
{
    struct store_mem *m = calloc(1, sizeof(*m));

    if (!m)
        return -ERR_NO_MEMORY;
    m->store.ops = &mem_ops;
    m->config = *config;
    m->queues = calloc(config->n_workers + 1, sizeof(*m->queues));
    if (!m->queues) {
        free(m);
        return -ERR_NO_MEMORY;
    }
    *ret = &m->store;
    return 0;
}

void store_mem_auto_sync(struct store *s, bool on)
{
    mem_of(s)->auto_sync = on;
    submitted(mem_of(s));
}

void store_mem_sync(struct store *s, uint64_t lsn)
{
    struct store_mem *m = mem_of(s);
    uint64_t before = m->durable;

    make_durable(m, lsn);
    for (uint32_t q = 0; m->durable > before && q <= m->config.n_workers; q++)
        m->config.notify(m->config.ctx, q);
}

uint64_t store_mem_last_lsn(struct store *s)
{
    return mem_of(s)->last_lsn;
}

void store_mem_crash(struct store *s, uint64_t keep_lsn, uint32_t n_workers)
{
    struct store_mem *m = mem_of(s);

    keep_lsn = keep_lsn < m->durable ? m->durable : keep_lsn;
    keep_lsn = keep_lsn > m->last_lsn ? m->last_lsn : keep_lsn;
    while (m->n_journal && m->journal[m->n_journal - 1].lsn > keep_lsn)
        undo(m, &m->journal[--m->n_journal]);
    m->last_lsn = keep_lsn;
    m->last_gone_lsn = m->last_gone_lsn > keep_lsn ? keep_lsn : m->last_gone_lsn;
    make_durable(m, keep_lsn);
    queues_free(m);
    atomic_store(&m->scrub.state, SCRUB_BOX_EMPTY);
    m->config.n_workers = n_workers;
    m->queues = calloc(n_workers + 1, sizeof(*m->queues));
    if (!m->queues)
        abort();
    free_dead(m);
}

void store_mem_set_full(struct store *s, bool full)
{
    mem_of(s)->full = full;
}

int store_mem_corrupt(struct store *s, uint64_t token, const struct key *key)
{
    struct entry *e = lookup(mem_of(s), token, key);

    if (e)
        e->corrupt = true;
    return e ? 0 : 1;
}
