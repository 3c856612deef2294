/* store_log_facts: small facts and the clock bound, on their way from the log to disk.
 *
 * Each fact written since the start stays in memory: its newest value that is durable, and those
 * behind it that are not yet. So reading a fact needs no snapshot of the right moment, and the
 * apply may write all that are dirty in one transaction of its own choosing. The clock bound is a
 * fact like the others, except that it never falls. There are some dozens of them per node;
 * FACTS_MAX keeps a mistake from growing without end.
 *
 * The log takes a fact and it is set here under one lock. So facts are set in the order of their
 * LSNs, whatever queue they come from, and who has read `durable` before it takes the lock finds
 * every fact up to there: the apply cannot take for written what it has not seen.
 *
 * That lock is held for a few assignments, or for the apply's few insertions.
 */
#include "storage/store_log_impl.h"

#include <assert.h>
#include <stdlib.h>

#include "storage/bytes.h"

int facts_init(struct facts *f)
{
    *f = (struct facts){.first = LSN_NONE};
    return pthread_mutex_init(&f->lock, NULL) == 0 ? 0 : -ERR_NO_MEMORY;
}

void fact_value_free(struct fact_value *v)
{
    if (!v)
        return;
    blob_unref(v->bytes);
    free(v);
}

void facts_deinit(struct facts *f)
{
    for (size_t i = 0; i < f->n; i++) {
        struct fact_value *next;

        for (struct fact_value *v = f->fact[i].value; v; v = next) {
            next = v->next;
            fact_value_free(v);
        }
    }
    free(f->fact);
    pthread_mutex_destroy(&f->lock);
}

static struct fact *find(struct facts *f, struct slice name)
{
    for (size_t i = 0; i < f->n; i++)
        if (slice_equal(slice_of(f->fact[i].name, f->fact[i].name_len), name))
            return &f->fact[i];
    return NULL;
}

/* What a newer durable value has replaced is forgotten. */
static void settle(struct fact *fact, uint64_t durable)
{
    struct fact_value *v;

    while ((v = fact->value) && v->next && v->next->lsn <= durable) {
        fact->value = v->next;
        fact_value_free(v);
    }
}

/* The value as last made durable, or NULL. */
static struct fact_value *durable_value(struct fact *fact, uint64_t durable)
{
    settle(fact, durable);
    return fact->value && fact->value->lsn <= durable ? fact->value : NULL;
}

/* The fact of that name, made if need be. NULL: no room. */
static struct fact *find_or_add(struct facts *f, struct slice name)
{
    struct fact *fact = find(f, name), *grown;
    size_t cap = f->cap ? 2 * f->cap : 16;

    if (fact)
        return fact;
    if (f->n == FACTS_MAX)
        return NULL;
    if (f->n == f->cap) {
        grown = realloc(f->fact, cap * sizeof(*grown));
        if (!grown)
            return NULL;
        f->fact = grown;
        f->cap = cap;
    }
    fact = &f->fact[f->n++];
    *fact = (struct fact){.name_len = name.len};
    memcpy(fact->name, name.data, name.len);
    return fact;
}

static void append(struct fact *fact, struct fact_value *value)
{
    struct fact_value **end = &fact->value;

    while (*end && (*end)->lsn < value->lsn)
        end = &(*end)->next;
    value->next = *end;
    *end = value;
}

static uint64_t number_of(struct slice value)
{
    return bytes_get_le(value.data, value.len < 8 ? (unsigned)value.len : 8);
}

struct slice facts_name(const struct store_op *op, uint8_t out[META_NAME_BYTES_MAX])
{
    return op->type == STORE_OP_CLOCK ? slice_str(META_NAME_CLOCK) : lmdb_fact_name(op->name, out);
}

int facts_prepare(struct store_log *s, const struct store_op *op, struct fact_value **ret)
{
    struct facts *f = &s->facts;
    struct fact_value *v = calloc(1, sizeof(*v));
    uint8_t name[META_NAME_BYTES_MAX], clock[8];
    bool ok;

    bytes_put_le(clock, op->clock, 8);
    if (v)
        v->bytes = blob_copy(op->type == STORE_OP_CLOCK ? slice_of(clock, 8) : op->value);
    if (!v || !v->bytes) {
        fact_value_free(v);
        return -ERR_NO_MEMORY;
    }
    pthread_mutex_lock(&f->lock);
    ok = find_or_add(f, facts_name(op, name)) != NULL;
    pthread_mutex_unlock(&f->lock);
    if (!ok) {
        fact_value_free(v);
        return -ERR_NO_MEMORY;
    }
    *ret = v;
    return 0;
}

/* The clock bound never falls: a lower one says again what was said before it. */
static void raise_clock(struct store_log *s, const struct fact *fact, struct fact_value *value)
{
    uint64_t clock = number_of(blob_slice(value->bytes)), before = s->env.clock;

    assert(value->bytes && value->bytes->len == 8);
    for (const struct fact_value *v = fact->value; v; v = v->next)
        if (number_of(blob_slice(v->bytes)) > before)
            before = number_of(blob_slice(v->bytes));
    clock = clock > before ? clock : before;
    bytes_put_le(value->bytes->data, clock, 8);
}

/* Under the lock. */
static void set(struct store_log *s, const struct store_op *op, uint64_t lsn,
                struct fact_value *value)
{
    struct facts *f = &s->facts;
    uint8_t name[META_NAME_BYTES_MAX];
    struct fact *fact = find(f, facts_name(op, name));

    assert(fact); /* facts_prepare has made it */
    value->lsn = lsn;
    if (op->type == STORE_OP_CLOCK)
        raise_clock(s, fact, value);
    settle(fact, log_durable(s->log));
    append(fact, value);
    fact->dirty = true;
    if (atomic_load(&f->first) > lsn)
        atomic_store(&f->first, lsn);
}

uint64_t facts_append(struct store_log *s, struct log_list *list, uint32_t queue,
                      const struct store_op *ops, size_t n, struct fact_value **values)
{
    uint64_t lsn;

    pthread_mutex_lock(&s->facts.lock);
    lsn = log_append(s->log, list, queue, n);
    for (size_t i = 0; i < n; i++)
        if (values[i])
            set(s, &ops[i], lsn + i, values[i]);
    pthread_mutex_unlock(&s->facts.lock);
    return lsn;
}

int facts_replay(struct store_log *s, struct slice name, struct slice value, uint64_t lsn)
{
    struct facts *f = &s->facts;
    struct fact_value *v = calloc(1, sizeof(*v));
    struct fact *fact = name.len <= META_NAME_BYTES_MAX ? find_or_add(f, name) : NULL;

    if (v)
        v->bytes = blob_copy(value);
    if (!v || !v->bytes || !fact) {
        fact_value_free(v);
        return name.len <= META_NAME_BYTES_MAX ? -ERR_NO_MEMORY : -ERR_CORRUPT;
    }
    v->lsn = lsn;
    if (slice_equal(name, slice_str(META_NAME_CLOCK)))
        raise_clock(s, fact, v);
    append(fact, v);
    settle(fact, lsn);
    fact->dirty = true;
    if (atomic_load(&f->first) > lsn)
        atomic_store(&f->first, lsn);
    return 0;
}

int facts_get(struct store_log *s, struct slice name, struct buf *out)
{
    struct facts *f = &s->facts;
    struct fact_value *value;
    struct blob *bytes = NULL;
    struct fact *fact;
    int r = 1;

    pthread_mutex_lock(&f->lock);
    fact = find(f, name);
    value = fact ? durable_value(fact, log_durable(s->log)) : NULL;
    bytes = value ? blob_ref(value->bytes) : NULL;
    pthread_mutex_unlock(&f->lock);
    if (bytes)
        r = buf_append_slice(out, blob_slice(bytes));
    blob_unref(bytes);
    return r;
}

static uint64_t clock_of(struct store_log *s, struct fact *fact, uint64_t durable)
{
    struct fact_value *v = durable_value(fact, durable);
    uint64_t clock = v ? number_of(blob_slice(v->bytes)) : 0;

    if (clock > s->env.clock)
        s->env.clock = clock;
    return s->env.clock;
}

uint64_t store_log_clock_bound(struct store *store)
{
    struct store_log *s = log_of(store);
    struct fact *fact;
    uint64_t clock;

    pthread_mutex_lock(&s->facts.lock);
    fact = find(&s->facts, slice_str(META_NAME_CLOCK));
    clock = fact ? clock_of(s, fact, log_durable(s->log)) : s->env.clock;
    pthread_mutex_unlock(&s->facts.lock);
    return clock;
}

int facts_write(struct store_log *s, struct lmdb_txn *t, uint64_t durable)
{
    struct facts *f = &s->facts;
    int rc = 0;

    pthread_mutex_lock(&f->lock);
    for (size_t i = 0; rc == 0 && i < f->n; i++) {
        struct fact *fact = &f->fact[i];
        struct slice name = slice_of(fact->name, fact->name_len);
        struct fact_value *v = fact->dirty ? durable_value(fact, durable) : NULL;

        if (v && slice_equal(name, slice_str(META_NAME_CLOCK)))
            rc = lmdb_txn_number_put(t, META_NAME_CLOCK, clock_of(s, fact, durable));
        else if (v)
            rc = lmdb_txn_fact_put(t, name, blob_slice(v->bytes));
    }
    pthread_mutex_unlock(&f->lock);
    return rc;
}

static uint64_t first_after(const struct facts *f, uint64_t durable)
{
    uint64_t first = LSN_NONE;

    for (size_t i = 0; i < f->n; i++) {
        const struct fact_value *v = f->fact[i].value;

        while (v && v->lsn <= durable)
            v = v->next;
        if (v && v->lsn < first)
            first = v->lsn;
    }
    return first;
}

uint64_t facts_first_after(struct store_log *s, uint64_t durable)
{
    uint64_t first;

    pthread_mutex_lock(&s->facts.lock);
    first = first_after(&s->facts, durable);
    pthread_mutex_unlock(&s->facts.lock);
    return first;
}

void facts_written(struct store_log *s, uint64_t durable)
{
    struct facts *f = &s->facts;

    pthread_mutex_lock(&f->lock);
    for (size_t i = 0; i < f->n; i++) {
        struct fact *fact = &f->fact[i];
        const struct fact_value *v = fact->value;

        while (v && v->lsn <= durable)
            v = v->next;
        fact->dirty = fact->dirty && v;
    }
    atomic_store(&f->first, first_after(f, durable));
    pthread_mutex_unlock(&f->lock);
}
