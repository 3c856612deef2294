/* test_memtable: against an array that is kept sorted, with keys made to be hard to tell apart.
 *
 * Every put is made with malloc forbidden: what was reserved must do. Linked with --wrap=malloc and
 * friends; the ban holds for the test's thread alone.
 */
#include "tests/unit/test.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/err.h"
#include "storage/memtable.h"
#include "storage/record.h"

/* What a leaf costs per entry when it is full, and when it is a quarter full, plus inner nodes. */
#define ENTRY_COST_FULL (24 + 2)
#define ENTRY_COST_SPARSE (4 * 24)

static _Thread_local bool no_malloc;

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);

void *__wrap_malloc(size_t n)
{
    return no_malloc ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return no_malloc ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
    return no_malloc ? NULL : __real_realloc(p, n);
}

/* ---- the twin: the same records in a sorted array ----------------------------------------- */

struct twin_record {
    uint64_t lsn;
    size_t key_len;
    uint8_t key[STORE_KEY_BYTES_MAX];
};

struct twin {
    struct memtable *m;
    struct twin_record **records;
    size_t n, cap;
    uint64_t lsn;
};

static void set_up(struct twin *t, size_t cap)
{
    *t = (struct twin){.m = memtable_new(), .cap = cap};
    t->records = calloc(cap, sizeof(struct twin_record *));
    assert_true(t->m && t->records);
}

static void tear_down(struct twin *t)
{
    memtable_free(t->m);
    for (size_t i = 0; i < t->n; i++)
        free(t->records[i]);
    free(t->records);
}

static struct slice twin_key(const struct twin *t, size_t i)
{
    return slice_of(t->records[i]->key, t->records[i]->key_len);
}

static size_t twin_find(const struct twin *t, struct slice key)
{
    size_t low = 0, high = t->n;

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (slice_compare(twin_key(t, middle), key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void twin_put(struct twin *t, struct slice key)
{
    size_t at = twin_find(t, key);
    struct twin_record *r;

    if (at == t->n || !slice_equal(twin_key(t, at), key)) {
        assert_true(t->n < t->cap);
        r = calloc(1, sizeof(*r));
        assert_non_null(r);
        r->key_len = key.len;
        memcpy(r->key, key.data, key.len);
        memmove(t->records + at + 1, t->records + at, (t->n - at) * sizeof(struct twin_record *));
        t->records[at] = r;
        t->n++;
    }
    t->records[at]->lsn = t->lsn;
}

/* Every field follows from the LSN, so that the twin need not keep more. */
static struct state state_of(uint64_t lsn, uint8_t value[64])
{
    struct state s = {.kind = STATE_LWW,
                      .deleted = lsn % 7 == 0,
                      .version = {.hlc = lsn * 3, .actor = lsn ^ 0x55}};

    memset(value, (int)(lsn & 0xff), 64);
    if (!s.deleted)
        s.value = slice_of(value, lsn % 64);
    return s;
}

static void check_entry(const struct memtable_entry *e, struct slice key, uint64_t lsn)
{
    uint8_t value[64];
    struct state want = state_of(lsn, value), got;

    assert_non_null(e);
    got = memtable_state(e);
    assert_true(slice_equal(memtable_key(e), key));
    assert_int_equal(e->lsn, lsn);
    assert_int_equal(got.kind, want.kind);
    assert_int_equal(got.deleted, want.deleted);
    assert_int_equal(version_compare(got.version, want.version), 0);
    assert_true(slice_equal(got.value, want.value));
}

static void put(struct twin *t, struct slice key)
{
    uint8_t value[64];
    uint64_t lsn = ++t->lsn;
    struct state s = state_of(lsn, value);
    const struct memtable_entry *e;

    assert_int_equal(memtable_reserve(t->m, 1, key.len + s.value.len), 0);
    no_malloc = true;
    e = memtable_put(t->m, key, &s, lsn, NULL);
    no_malloc = false;
    check_entry(e, key, lsn);
    twin_put(t, key);
}

/* A walk from `from`, `steps` long at most, shows what the twin has there. */
static void check_seek(const struct twin *t, struct slice from, size_t steps)
{
    struct memtable_iter it;
    size_t at = twin_find(t, from);

    memtable_seek(t->m, from, &it);
    for (; steps > 0 && at < t->n; steps--, at++) {
        check_entry(it.entry, twin_key(t, at), t->records[at]->lsn);
        memtable_next(&it);
    }
    if (at == t->n) {
        assert_null(it.entry);
        memtable_next(&it);
        assert_null(it.entry);
    }
}

static void check_all(const struct twin *t)
{
    assert_int_equal(memtable_count(t->m), t->n);
    check_seek(t, slice_of(NULL, 0), SIZE_MAX);
    for (size_t i = 0; i < t->n; i++)
        check_entry(memtable_get(t->m, twin_key(t, i)), twin_key(t, i), t->records[i]->lsn);
}

/* Around a key, where searches go wrong: it, just behind it, each of its beginnings. */
static void check_boundaries(const struct twin *t, struct slice key)
{
    uint8_t more[STORE_KEY_BYTES_MAX + 2];

    check_seek(t, key, 3);
    memcpy(more, key.data, key.len);
    more[key.len] = 0;
    check_seek(t, slice_of(more, key.len + 1), 3);
    more[key.len] = 0xff;
    check_seek(t, slice_of(more, key.len + 1), 3);
    for (size_t len = 0; len < key.len; len += len < 20 || key.len - len < 4 ? 1 : 13)
        check_seek(t, slice_of(key.data, len), 3);
    more[key.len - 1]++;
    check_seek(t, slice_of(more, key.len), 3);
    more[key.len - 1] = (uint8_t)(more[key.len - 1] - 2);
    check_seek(t, slice_of(more, key.len), 3);
}

/* ---- keys --------------------------------------------------------------------------------- */

enum shape {
    SPREAD,   /* tokens like hashes */
    FEW,      /* four tokens, the least and the greatest among them, short endings */
    PREFIXES, /* one token, 300 bytes in common, short endings */
    ZEROS,    /* nothing but zeros (or, half of them, ones), of all lengths */
    N_SHAPES
};

static struct slice random_key(struct test_random *r, enum shape shape, uint8_t *out)
{
    static const uint8_t ends[] = {0, 1, 0x7f, 0x80, 0xff};
    static const uint8_t token[] = {0, 1, 0xfe, 0xff};
    size_t len = STORE_KEY_HEADER_BYTES + (size_t)test_random_below(r, 3 * 64 + 1);
    size_t same = 0;

    memset(out, 0x20, STORE_KEY_BYTES_MAX);
    switch (shape) {
    case SPREAD:
        for (size_t i = 0; i < 8; i++)
            out[i] = (uint8_t)test_random_u64(r);
        return slice_of(out, len);
    case FEW:
        memset(out, token[test_random_below(r, ARRAY_LEN(token))], 8);
        same = len = STORE_KEY_HEADER_BYTES;
        break;
    case PREFIXES:
        same = len = 300;
        break;
    default:
        memset(out, test_random_below(r, 2) ? 0xff : 0, STORE_KEY_BYTES_MAX);
        len = STORE_KEY_BYTES_MAX - STORE_KEY_HEADER_BYTES + 1;
        return slice_of(out, STORE_KEY_HEADER_BYTES + (size_t)test_random_below(r, len));
    }
    len += (size_t)test_random_below(r, 7);
    for (size_t i = same; i < len; i++)
        out[i] = ends[test_random_below(r, ARRAY_LEN(ends))];
    return slice_of(out, len);
}

/* A key under this token, ending in n. */
static struct slice numbered_key(uint64_t token, uint32_t n, uint8_t *out)
{
    struct key key = {.bucket = BUCKET_DEFAULT, .partition = slice_str("partition")};
    uint8_t sort[4] = {(uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n};

    key.sort = slice_of(sort, sizeof(sort));
    return slice_of(out, store_key_encode(token, &key, out));
}

/* ---- content ------------------------------------------------------------------------------ */

static void an_empty_table_has_nothing(void **state)
{
    uint8_t key[STORE_KEY_BYTES_MAX] = {0};
    struct twin t;

    set_up(&t, 1);
    check_all(&t);
    check_seek(&t, slice_of(key, sizeof(key)), 1);
    assert_null(memtable_get(t.m, slice_of(key, sizeof(key))));
    assert_int_equal(memtable_bytes(t.m), 0);
    assert_int_equal(memtable_reserve(t.m, 64, 64 * 100), 0);
    assert_int_equal(memtable_bytes(t.m), 0);
    tear_down(&t);
    memtable_free(NULL);
}

static void run_history(enum shape shape, uint64_t seed)
{
    const size_t n_ops = test_is_quick() ? 5000 : 12000;
    struct test_random r = {.s = seed};
    uint8_t bytes[STORE_KEY_BYTES_MAX];
    struct twin t;

    set_up(&t, n_ops);
    for (size_t i = 0; i < n_ops; i++) {
        struct slice key = random_key(&r, shape, bytes);
        size_t at;

        if (test_random_below(&r, 4) > 0)
            put(&t, key);
        key = random_key(&r, shape, bytes);
        at = twin_find(&t, key);
        if (at < t.n && slice_equal(twin_key(&t, at), key))
            check_entry(memtable_get(t.m, key), key, t.records[at]->lsn);
        else
            assert_null(memtable_get(t.m, key));
        if (i % 8 == 0)
            check_seek(&t, key, 5);
        if (i % 4096 == 0)
            check_all(&t);
    }
    check_all(&t);
    for (size_t i = 0; i < t.n; i += 1 + t.n / 500)
        check_boundaries(&t, twin_key(&t, i));
    check_boundaries(&t, twin_key(&t, t.n - 1));
    tear_down(&t);
}

static void random_histories_match_a_sorted_array(void **state)
{
    for (enum shape shape = 0; shape < N_SHAPES; shape++) {
        for (uint64_t seed = 1; seed <= (test_is_quick() ? 1 : 3); seed++)
            run_history(shape, seed);
    }
}

static void keys_of_all_lengths_and_nothing_but_zeros_are_told_apart(void **state)
{
    uint8_t zeros[STORE_KEY_BYTES_MAX] = {0}, ones[STORE_KEY_BYTES_MAX + 8];
    struct twin t;

    memset(ones, 0xff, sizeof(ones));
    set_up(&t, 2 * STORE_KEY_BYTES_MAX);
    for (size_t i = 0; i <= LIMIT_KEY_BYTES; i++) {
        size_t len = STORE_KEY_HEADER_BYTES + (i * 7) % (LIMIT_KEY_BYTES + 1);

        put(&t, slice_of(zeros, len));
        put(&t, slice_of(ones, len));
    }
    assert_int_equal(t.n, 2 * (LIMIT_KEY_BYTES + 1));
    check_all(&t);
    for (size_t i = 0; i < t.n; i++)
        check_boundaries(&t, twin_key(&t, i));
    for (size_t len = 0; len <= sizeof(zeros); len++)
        check_seek(&t, slice_of(zeros, len), 2);
    for (size_t len = 0; len <= sizeof(ones); len++)
        check_seek(&t, slice_of(ones, len), 2);
    tear_down(&t);
}

/* ---- order of insertion, and what the tree costs then ------------------------------------- */

enum order {
    ASCENDING,
    DESCENDING,
    INWARD,   /* least, greatest, second least, ... */
    SHUFFLED, /* by a step that shares no factor with the number */
    N_ORDERS
};

static uint32_t ordered(enum order order, uint32_t i, uint32_t n)
{
    switch (order) {
    case ASCENDING:
        return i;
    case DESCENDING:
        return n - 1 - i;
    case INWARD:
        return i % 2 ? n - 1 - i / 2 : i / 2;
    default:
        return (uint32_t)((uint64_t)i * 7919 % n);
    }
}

/* Bytes per entry besides the entry itself, after n keys under one token that has neighbours on
 * both sides. Those in front fill their leaves, the last one in ascending order. */
static size_t cost_of_order(enum order order, uint32_t n)
{
    uint8_t bytes[STORE_KEY_BYTES_MAX];
    size_t before, entries = 0;
    struct twin t;

    set_up(&t, n + 512);
    for (uint32_t i = 0; i < 256; i++)
        put(&t, numbered_key(3, i, bytes));
    for (uint32_t i = 0; i < 256; i++)
        put(&t, numbered_key(1, i, bytes));
    before = memtable_bytes(t.m);
    for (uint32_t i = 0; i < n; i++) {
        struct slice key = numbered_key(2, ordered(order, i, n), bytes);
        const struct memtable_entry *e;

        put(&t, key);
        e = memtable_get(t.m, key);
        entries += (sizeof(*e) + e->key_len + e->value_len + 7) & ~(size_t)7;
    }
    check_all(&t);
    before = memtable_bytes(t.m) - before - entries;
    tear_down(&t);
    return before / n;
}

static void all_orders_of_insertion_give_the_same_and_ascending_fills_nodes(void **state)
{
    size_t cost[N_ORDERS];

    for (enum order order = 0; order < N_ORDERS; order++) {
        cost[order] = cost_of_order(order, 9973);
        assert_in_range(cost[order], 1, ENTRY_COST_SPARSE);
    }
    assert_in_range(cost[ASCENDING], 1, ENTRY_COST_FULL);
}

/* ---- what was lent, values ----------------------------------------------------------------- */

static void what_was_lent_stays_when_the_key_is_written_again(void **state)
{
    enum {
        N = 3000
    };
    static const struct memtable_entry *lent[2][N];
    uint8_t bytes[STORE_KEY_BYTES_MAX];
    size_t before;
    struct twin t;

    set_up(&t, N);
    for (uint32_t round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < N; i++) {
            struct slice key = numbered_key(i * 0x9e3779b97f4a7c15u, i, bytes);

            before = memtable_bytes(t.m);
            put(&t, key);
            lent[round][i] = memtable_get(t.m, key);
            assert_true(memtable_bytes(t.m) > before); /* superseded ones count */
        }
    }
    assert_int_equal(memtable_count(t.m), N);
    for (uint32_t i = 0; i < N; i++) {
        struct slice key = numbered_key(i * 0x9e3779b97f4a7c15u, i, bytes);

        check_entry(lent[0][i], key, i + 1);
        check_entry(lent[1][i], key, N + i + 1);
    }
    check_all(&t);
    tear_down(&t);
}

static const struct memtable_entry *put_value(struct memtable *m, struct slice key,
                                              struct slice value, struct blob *owner)
{
    struct state s = {.kind = STATE_LWW, .version = {.hlc = 1}, .value = value};
    size_t copied = owner && value.len >= MEMTABLE_REF_BYTES_MIN ? 0 : value.len;
    const struct memtable_entry *e;

    assert_int_equal(memtable_reserve(m, 1, key.len + copied), 0);
    no_malloc = true;
    e = memtable_put(m, key, &s, 1, owner);
    no_malloc = false;
    assert_true(slice_equal(memtable_state(e).value, value));
    return e;
}

static unsigned refs_of(struct blob *b)
{
    return atomic_load(&b->refs);
}

static void large_values_are_referenced_and_given_back(void **state)
{
    uint8_t bytes[STORE_KEY_BYTES_MAX];
    struct slice key = numbered_key(1, 1, bytes);
    struct memtable *m = memtable_new();
    struct blob *b = blob_new(3 * MEMTABLE_REF_BYTES_MIN);
    const struct memtable_entry *e;
    size_t before;

    assert_true(m && b);
    memset(b->data, 'x', b->len);
    e = put_value(m, key, slice_of(b->data + 10, MEMTABLE_REF_BYTES_MIN), b);
    assert_ptr_equal(e->value, b->data + 10);
    assert_int_equal(refs_of(b), 2);
    before = memtable_bytes(m);
    put_value(m, key, slice_of(b->data, 2 * MEMTABLE_REF_BYTES_MIN), b); /* the first one stays */
    assert_int_equal(refs_of(b), 3);
    assert_in_range(memtable_bytes(m) - before, 2 * MEMTABLE_REF_BYTES_MIN,
                    2 * MEMTABLE_REF_BYTES_MIN + 200);
    e = put_value(m, key, slice_of(b->data, MEMTABLE_REF_BYTES_MIN - 1), b);
    assert_int_equal(refs_of(b), 3);
    assert_ptr_equal(e->value, e->key + e->key_len);
    e = put_value(m, key, slice_of(b->data, MEMTABLE_REF_BYTES_MIN), NULL);
    assert_int_equal(refs_of(b), 3);
    assert_ptr_equal(e->value, e->key + e->key_len);
    memtable_free(m);
    assert_int_equal(refs_of(b), 1);
    blob_unref(b);
}

/* Values larger than a chunk, between small ones. */
static void the_largest_values_can_be_copied(void **state)
{
    static uint8_t value[LIMIT_VALUE_BYTES];
    uint8_t bytes[STORE_KEY_BYTES_MAX];
    const struct memtable_entry *lent[60];
    struct memtable *m = memtable_new();
    size_t len, total = 0;

    assert_non_null(m);
    for (uint32_t i = 0; i < ARRAY_LEN(lent); i++) {
        len = i % 9 == 8 ? sizeof(value) : (size_t)i * 19997;
        memset(value, (int)i, len);
        lent[i] = put_value(m, numbered_key(i, i, bytes), slice_of(value, len), NULL);
        total += len;
    }
    for (uint32_t i = 0; i < ARRAY_LEN(lent); i++) {
        for (size_t k = 0; k < lent[i]->value_len; k += 997)
            assert_int_equal(lent[i]->value[k], i);
    }
    assert_in_range(memtable_bytes(m), total, total + 20000);
    memtable_free(m);
}

/* ---- reservations -------------------------------------------------------------------------- */

static void without_memory_a_reservation_fails_and_changes_nothing(void **state)
{
    uint8_t bytes[STORE_KEY_BYTES_MAX];
    size_t n_refused = 0, bytes_before;
    struct twin t;

    set_up(&t, 60000);
    no_malloc = true;
    assert_null(memtable_new());
    no_malloc = false;
    for (uint32_t i = 0; i < 60000; i++) {
        int r;

        bytes_before = memtable_bytes(t.m);
        no_malloc = true;
        r = memtable_reserve(t.m, 64, 64 * 100);
        no_malloc = false;
        if (r != 0) {
            assert_int_equal(r, -ERR_NO_MEMORY);
            assert_int_equal(memtable_bytes(t.m), bytes_before);
            assert_int_equal(memtable_count(t.m), t.n);
            n_refused++;
        }
        put(&t, numbered_key(i * 0x9e3779b97f4a7c15u, i, bytes));
    }
    assert_in_range(n_refused, 5, 60000 / 2); /* often it is a look at what is there */
    check_all(&t);
    assert_int_equal(memtable_reserve(t.m, SIZE_MAX, 0), -ERR_NO_MEMORY);
    assert_int_equal(memtable_reserve(t.m, SIZE_MAX / 4000, SIZE_MAX), -ERR_NO_MEMORY);
    assert_int_equal(memtable_reserve(t.m, 0, SIZE_MAX), -ERR_NO_MEMORY);
    assert_int_equal(memtable_reserve(t.m, 1, SIZE_MAX - 4096), -ERR_NO_MEMORY);
    check_all(&t);
    tear_down(&t);
}

/* n puts of one reservation, with malloc forbidden. */
static void put_reserved(struct twin *t, const uint32_t *numbers, size_t n)
{
    uint8_t bytes[STORE_KEY_BYTES_MAX], value[64];
    size_t total = 0;

    for (size_t i = 0; i < n; i++)
        total += numbered_key(1, numbers[i], bytes).len + state_of(t->lsn + i + 1, value).value.len;
    assert_int_equal(memtable_reserve(t->m, n, total), 0);
    no_malloc = true;
    for (size_t i = 0; i < n; i++) {
        struct state s = state_of(t->lsn + i + 1, value);

        memtable_put(t->m, numbered_key(1, numbers[i], bytes), &s, t->lsn + i + 1, NULL);
    }
    no_malloc = false;
    for (size_t i = 0; i < n; i++) {
        t->lsn++;
        twin_put(t, numbered_key(1, numbers[i], bytes));
    }
}

/* Leaves filled in ascending order are full: a put into the middle of each splits every one of
 * them, and their parents. From an empty table, in steps, and all in one. */
static void a_reservation_covers_the_worst_splits(void **state)
{
    enum {
        N = 20000,
        STRIDE = 4
    };
    static uint32_t numbers[N];
    static const size_t batches[] = {1, 2, 64, 313, N};

    for (size_t b = 0; b < ARRAY_LEN(batches); b++) {
        size_t n = 0;
        struct twin t;

        set_up(&t, N + N / 20);
        for (uint32_t i = 0; i < N; i++)
            numbers[n++] = i * STRIDE;
        for (size_t i = 0; i < N; i += batches[b])
            put_reserved(&t, numbers + i, N - i < batches[b] ? N - i : batches[b]);
        n = 0;
        for (uint32_t i = 20; i < N; i += 64)
            numbers[n++] = i * STRIDE + 1;
        for (size_t i = 0; i < n; i += batches[b])
            put_reserved(&t, numbers + i, n - i < batches[b] ? n - i : batches[b]);
        check_all(&t);
        tear_down(&t);
    }
}

static void a_reservation_for_references_needs_no_room_for_values(void **state)
{
    uint8_t bytes[STORE_KEY_BYTES_MAX];
    struct blob *b = blob_new(LIMIT_VALUE_BYTES);
    struct state s = {.kind = STATE_LWW, .version = {.hlc = 1}};
    struct memtable *m = memtable_new();

    assert_true(m && b);
    s.value = blob_slice(b);
    assert_int_equal(memtable_reserve(m, 5000, 5000 * 32), 0);
    no_malloc = true;
    for (uint32_t i = 0; i < 5000; i++)
        memtable_put(m, numbered_key(i, i, bytes), &s, 1, b);
    no_malloc = false;
    assert_int_equal(refs_of(b), 5001);
    memtable_free(m);
    assert_int_equal(refs_of(b), 1);
    blob_unref(b);
}

static bool reserve_without_malloc(struct memtable *m, size_t n, size_t bytes)
{
    int r;

    no_malloc = true;
    r = memtable_reserve(m, n, bytes);
    no_malloc = false;
    return r == 0;
}

/* The most bytes, beside n puts, that there is room for. */
static size_t room_beside(struct memtable *m, size_t n)
{
    size_t low = 0, high = 4u << 20;

    assert_true(reserve_without_malloc(m, n, 0));
    while (high - low > 1) {
        size_t middle = (low + high) / 2;

        if (reserve_without_malloc(m, n, middle))
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* All nodes full, so that one put splits one per level and makes a new root, and takes a reference;
 * and hardly a byte more left than what a reservation of one put wants. */
static void a_reservation_of_one_covers_a_split_of_every_level(void **state)
{
    static const uint32_t full[] = {64, 64 * 64}; /* one level, two */
    static uint8_t filler[4u << 20];
    struct blob *b = blob_new(MEMTABLE_REF_BYTES_MIN);

    assert_non_null(b);
    memset(b->data, 'x', b->len);
    for (size_t f = 0; f < ARRAY_LEN(full); f++) {
        uint8_t bytes[STORE_KEY_BYTES_MAX];
        struct slice key = numbered_key(1, 0, bytes);
        struct memtable *m = memtable_new();
        size_t entry = sizeof(struct memtable_entry) + key.len, count;

        assert_non_null(m);
        for (uint32_t i = 0; i < full[f]; i++)
            put_value(m, numbered_key(1, 2 * i, bytes), slice_of(NULL, 0), NULL);
        /* Writing a key again takes an entry and no node. */
        while (room_beside(m, 1) < 2 * entry + key.len)
            put_value(m, numbered_key(1, 0, bytes), slice_of(NULL, 0), NULL);
        count = ((room_beside(m, 1) - key.len) & ~(size_t)7) - entry;
        assert_true(count <= sizeof(filler));
        put_value(m, numbered_key(1, 0, bytes), slice_of(filler, count), NULL);
        assert_in_range(room_beside(m, 1), key.len, key.len + 15);
        put_value(m, numbered_key(1, full[f] + 1, bytes), blob_slice(b), b);
        assert_int_equal(memtable_count(m), full[f] + 1);
        memtable_free(m);
    }
    blob_unref(b);
}

static void a_large_value_does_not_cost_the_room_of_small_ones(void **state)
{
    static uint8_t value[1u << 20];
    uint8_t bytes[STORE_KEY_BYTES_MAX];
    struct memtable *m = memtable_new();

    assert_non_null(m);
    put_value(m, numbered_key(1, 1, bytes), slice_of(value, 1), NULL);
    put_value(m, numbered_key(1, 2, bytes), slice_of(value, sizeof(value)), NULL);
    assert_true(reserve_without_malloc(m, 1, sizeof(value) / 2));
    memtable_free(m);
}

/* Of this process: all that is mapped, and what of it is in memory. */
static void measure_bytes(size_t *ret_mapped, size_t *ret_resident)
{
    FILE *f = fopen("/proc/self/statm", "r");
    unsigned long mapped, resident;

    assert_non_null(f);
    assert_int_equal(fscanf(f, "%lu %lu", &mapped, &resident), 2);
    fclose(f);
    *ret_mapped = mapped * (size_t)sysconf(_SC_PAGESIZE);
    *ret_resident = resident * (size_t)sysconf(_SC_PAGESIZE);
}

static void reservations_that_grow_and_are_not_used_do_not_add_up(void **state)
{
    const size_t step = 1u << 20;
    struct memtable *m = memtable_new();
    size_t before, after, resident;

    assert_non_null(m);
    measure_bytes(&before, &resident);
    for (size_t i = 64; i < 104; i++) /* 3.3 GiB in all */
        assert_int_equal(memtable_reserve(m, 1, i * step), 0);
    measure_bytes(&after, &resident);
    assert_true(after - before < 1024 * step); /* sanitizers give memory back late */
    memtable_free(m);
}

static void what_is_reserved_and_not_used_is_not_touched(void **state)
{
    const size_t much = (size_t)1 << 30;
    struct memtable *m = memtable_new();
    size_t mapped, before, after;

    assert_non_null(m);
    measure_bytes(&mapped, &before);
    assert_int_equal(memtable_reserve(m, 1, much), 0);
    measure_bytes(&mapped, &after);
    assert_true(after < before + much / 4); /* sanitizers keep notes of their own */
    memtable_free(m);
}

/* By version, whatever the LSNs say; what is refused leaves no trace. */
static void a_put_of_the_newer_puts_nothing_older(void **state)
{
    static const struct {
        struct version version;
        bool put;
    } steps[] = {{{5, 1}, true}, {{5, 1}, false}, {{4, 9}, false},
                 {{5, 2}, true}, {{5, 1}, false}, {{6, 0}, true}};
    struct memtable *m = memtable_new();
    uint8_t bytes[STORE_KEY_BYTES_MAX];
    struct slice key = numbered_key(1, 1, bytes);
    struct version held = {0};
    uint64_t held_lsn = 0;

    assert_non_null(m);
    for (uint64_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        struct state s = {.kind = STATE_LWW, .version = steps[i].version};
        size_t n_bytes = memtable_bytes(m);

        assert_int_equal(memtable_reserve(m, 1, key.len), 0);
        assert_int_equal(memtable_put_newer(m, key, &s, i + 1) != NULL, steps[i].put);
        assert_int_equal(memtable_bytes(m) > n_bytes, steps[i].put);
        held = steps[i].put ? s.version : held;
        held_lsn = steps[i].put ? i + 1 : held_lsn;
        assert_int_equal(version_compare(memtable_get(m, key)->version, held), 0);
        assert_int_equal(memtable_get(m, key)->lsn, held_lsn);
        assert_int_equal(memtable_count(m), 1);
    }
    memtable_free(m);
}

static void a_put_beyond_what_was_reserved_is_a_bug(void **state)
{
    uint8_t bytes[STORE_KEY_BYTES_MAX];
    struct state s = {.kind = STATE_LWW, .version = {.hlc = 1}};
    struct memtable *m = memtable_new();
    int status;
    pid_t pid;

    assert_non_null(m);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        signal(SIGABRT, SIG_DFL);
        fclose(stderr);
        memtable_put(m, numbered_key(1, 1, bytes), &s, 1, NULL);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    memtable_free(m);
}

/* ---- threads ------------------------------------------------------------------------------- */

struct reader {
    const struct twin *t;
    pthread_t thread;
    size_t n_found, n_walked;
};

/* cmocka's assertions belong to the test's thread: this one counts. */
static void *read_frozen(void *arg)
{
    struct reader *r = arg;
    struct memtable_iter it;

    for (size_t i = 0; i < r->t->n; i++) {
        const struct memtable_entry *e = memtable_get(r->t->m, twin_key(r->t, i));

        r->n_found += e && e->lsn == r->t->records[i]->lsn;
    }
    for (memtable_seek(r->t->m, slice_of(NULL, 0), &it); it.entry; memtable_next(&it))
        r->n_walked += slice_equal(memtable_key(it.entry), twin_key(r->t, r->n_walked));
    return NULL;
}

static void a_frozen_table_is_read_by_threads_at_once(void **state)
{
    struct test_random random = {.s = 7};
    uint8_t bytes[STORE_KEY_BYTES_MAX];
    struct reader readers[2];
    struct twin t;

    set_up(&t, 20000);
    for (uint32_t i = 0; i < 20000; i++)
        put(&t, random_key(&random, i % 2 ? SPREAD : PREFIXES, bytes));
    for (size_t i = 0; i < ARRAY_LEN(readers); i++) {
        readers[i] = (struct reader){.t = &t};
        assert_int_equal(pthread_create(&readers[i].thread, NULL, read_frozen, &readers[i]), 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(readers); i++) {
        assert_int_equal(pthread_join(readers[i].thread, NULL), 0);
        assert_int_equal(readers[i].n_found, t.n);
        assert_int_equal(readers[i].n_walked, t.n);
    }
    tear_down(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_table_has_nothing),
        cmocka_unit_test(random_histories_match_a_sorted_array),
        cmocka_unit_test(keys_of_all_lengths_and_nothing_but_zeros_are_told_apart),
        cmocka_unit_test(all_orders_of_insertion_give_the_same_and_ascending_fills_nodes),
        cmocka_unit_test(what_was_lent_stays_when_the_key_is_written_again),
        cmocka_unit_test(large_values_are_referenced_and_given_back),
        cmocka_unit_test(the_largest_values_can_be_copied),
        cmocka_unit_test(without_memory_a_reservation_fails_and_changes_nothing),
        cmocka_unit_test(a_reservation_covers_the_worst_splits),
        cmocka_unit_test(a_reservation_for_references_needs_no_room_for_values),
        cmocka_unit_test(a_reservation_of_one_covers_a_split_of_every_level),
        cmocka_unit_test(a_large_value_does_not_cost_the_room_of_small_ones),
        cmocka_unit_test(reservations_that_grow_and_are_not_used_do_not_add_up),
        cmocka_unit_test(what_is_reserved_and_not_used_is_not_touched),
        cmocka_unit_test(a_put_of_the_newer_puts_nothing_older),
        cmocka_unit_test(a_put_beyond_what_was_reserved_is_a_bug),
        cmocka_unit_test(a_frozen_table_is_read_by_threads_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
