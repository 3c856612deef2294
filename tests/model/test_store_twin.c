/* test_store_twin: random operations given to the model and an engine on disk at once, which must
 * agree in every answer: outcomes, reads, scans with random cursors and budgets, facts, counts,
 * leaves, before and after restarts. Few keys and few versions, so that merges meet; few tokens, so
 * that ranges do. A scrub between any two of them has nothing to complain of.
 */
#include <stdio.h>
#include <stdlib.h>

#include "storage/zone.h"
#include "tests/model/store_rig.h"

#define N_STEPS 1500u
#define N_STEPS_QUICK 500u
#define N_KEYS 40u
#define BATCH_MAX 20u
/* So few that tables freeze and go to disk all the time. */
#define TABLES_BYTES (96u << 10)
#define SLICE_RECORDS 40u /* many to a pass: ranges of a table are given back between them */
#define VALUE_MAX 6000u   /* beyond a page, and beyond where values are taken by reference */

struct twins {
    struct rig mem, disk;
    struct test_random random;
    struct blob *values; /* what values are cut from */
    char keys[N_KEYS][48];
    uint64_t floors[3];
    struct store_scrub_place at; /* of the scrub */
};

static uint64_t below(struct twins *t, uint64_t n)
{
    return test_random_below(&t->random, n);
}

/* Tokens collide often and reach both ends. */
static uint64_t token_of_key(unsigned i)
{
    return i % 8 == 7 ? UINT64_MAX : (uint64_t)(i % 8) << 61;
}

static struct store_op random_op(struct twins *t, uint64_t cookie)
{
    unsigned i = (unsigned)below(t, N_KEYS);
    size_t len = below(t, 4) ? below(t, 60) : below(t, VALUE_MAX);
    struct store_op op = rig_merge_op(slice_str(t->keys[i]), 1 + below(t, 60), (struct slice){0});
    static const char *const names[] = {"ring", "floor", "x"};

    op.cookie = cookie;
    op.token = token_of_key(i);
    op.state.version.actor = below(t, 3);
    /* Equal versions are the same write. */
    op.state.deleted = (op.state.version.hlc * 5 + op.state.version.actor) % 7 == 0;
    if (!op.state.deleted) {
        /* The value follows from the version, as it does in life. */
        uint64_t at = op.state.version.hlc * 3 + op.state.version.actor;

        op.state.value = slice_of(t->values->data + at, len);
        op.state.value.len = (at * 2654435761u) % 4 ? at % 60 : at * 31 % VALUE_MAX;
        op.owner = below(t, 2) ? t->values : NULL;
    }
    if (below(t, 4) == 0)
        op.floor = &t->floors[below(t, ARRAY_LEN(t->floors))];
    if (below(t, 12) == 0)
        op = (struct store_op){.type = STORE_OP_CLOCK, .cookie = cookie, .clock = below(t, 1000)};
    else if (below(t, 12) == 0)
        op = (struct store_op){.type = STORE_OP_META,
                               .cookie = cookie,
                               .name = slice_str(names[below(t, 3)]),
                               .value = slice_of(t->values->data, len)};
    return op;
}

static void assert_same_done(const struct store_done *a, const struct store_done *b)
{
    assert_int_equal(a->cookie, b->cookie);
    assert_int_equal(a->error, b->error);
    assert_int_equal(a->outcome, b->outcome);
    assert_int_equal(version_compare(a->version, b->version), 0);
}

static void assert_same_state(const struct state *a, const struct state *b)
{
    assert_int_equal(a->kind, b->kind);
    if (a->kind == STATE_NONE)
        return;
    assert_int_equal(a->deleted, b->deleted);
    assert_int_equal(version_compare(a->version, b->version), 0);
    assert_true(slice_equal(a->value, b->value));
}

static void end_wake_up(struct twins *t)
{
    t->mem.s->ops->read_end(t->mem.s, 0);
    t->disk.s->ops->read_end(t->disk.s, 0);
}

static void submit_a_batch(struct twins *t)
{
    struct store_op ops[BATCH_MAX];
    struct store_done a[BATCH_MAX], b[BATCH_MAX];
    size_t n = 1 + below(t, BATCH_MAX);
    uint32_t queue = (uint32_t)below(t, RIG_WORKERS + 1);
    uint64_t lsn;

    for (size_t i = 0; i < n; i++) {
        ops[i] = random_op(t, i);
        if (ops[i].type == STORE_OP_MERGE && t->disk.engine == RIG_LOG)
            queue = 0; /* which owns all tokens */
    }
    assert_int_equal(rig_submit(&t->mem, queue, ops, n, &lsn), 0);
    assert_int_equal(rig_submit(&t->disk, queue, ops, n, &lsn), 0);
    rig_reap(&t->mem, queue, a, n);
    rig_reap(&t->disk, queue, b, n);
    for (size_t i = 0; i < n; i++)
        assert_same_done(&a[i], &b[i]);
    /* A snapshot is promised to show only what its own queue has reaped. */
    if (queue != 0)
        end_wake_up(t);
}

static int by_key(const void *a, const void *b)
{
    const struct store_item *x = a, *y = b;

    if (x->token != y->token)
        return x->token < y->token ? -1 : 1;
    if (x->key.partition.len != y->key.partition.len)
        return x->key.partition.len < y->key.partition.len ? -1 : 1;
    return slice_compare(x->key.partition, y->key.partition);
}

static void load_some(struct twins *t)
{
    struct store_item items[BATCH_MAX];
    size_t n = below(t, BATCH_MAX);

    for (size_t i = 0; i < n;) {
        struct store_op op = random_op(t, 0);

        if (op.type != STORE_OP_MERGE)
            continue;
        items[i++] = (struct store_item){.token = op.token, .key = op.key, .state = op.state};
    }
    qsort(items, n, sizeof(*items), by_key);
    assert_int_equal(rig_load(&t->mem, items, n), rig_load(&t->disk, items, n));
}

static struct store_range random_range(struct twins *t)
{
    uint64_t a = token_of_key((unsigned)below(t, 8)), b = token_of_key((unsigned)below(t, 8));

    a += below(t, 3);
    return (struct store_range){a < b ? a : b, a < b ? b : a};
}

static void wipe_some(struct twins *t)
{
    struct store_range range = random_range(t);

    rig_wipe(&t->mem, range.first, range.last);
    rig_wipe(&t->disk, range.first, range.last);
}

static void put_back(struct twins *t, unsigned i, const struct state *s)
{
    struct store_op op = {.type = STORE_OP_MERGE,
                          .token = token_of_key(i),
                          .key = rig_key(slice_str(t->keys[i])),
                          .state = *s};

    assert_int_equal(rig_do(&t->mem, &op).outcome, OUTCOME_STORED);
}

static struct state get_from(struct rig *rig, unsigned i, const char *name)
{
    struct key key = rig_key(slice_str(name));
    struct state s;
    uint64_t lsn;

    assert_int_equal(rig->s->ops->get(rig->s, 0, token_of_key(i), &key, &s, &lsn), 0);
    return s;
}

/* With a log what is still in memory stays, to be put back into the model, which keeps nothing. */
static void purge_some(struct twins *t)
{
    struct store_range range = random_range(t);
    uint64_t floor = below(t, 70);
    struct state before[N_KEYS], after;
    bool cold = below(t, 3) == 0; /* all is on disk */

    end_wake_up(t);
    if (cold) {
        rig_reopen(&t->mem);
        rig_reopen(&t->disk);
    }
    for (unsigned i = 0; i < N_KEYS; i++)
        before[i] = get_from(&t->mem, i, t->keys[i]);
    end_wake_up(t); /* of tombstones no bytes are asked for */
    rig_purge(&t->disk, range.first, range.last, floor);
    rig_purge(&t->mem, range.first, range.last, floor);
    for (unsigned i = 0; i < N_KEYS; i++) {
        struct state gone = get_from(&t->mem, i, t->keys[i]);

        after = get_from(&t->disk, i, t->keys[i]);
        if (before[i].kind == STATE_NONE || gone.kind != STATE_NONE || after.kind == STATE_NONE) {
            assert_same_state(&gone, &after);
            continue;
        }
        assert_true(t->disk.engine == RIG_LOG && !cold);
        assert_same_state(&before[i], &after);
        put_back(t, i, &before[i]);
    }
    end_wake_up(t);
}

static void read_one(struct twins *t)
{
    unsigned i = (unsigned)below(t, N_KEYS);
    struct key key = rig_key(slice_str(t->keys[i]));
    struct state a, b;
    uint64_t lsn;

    assert_int_equal(t->mem.s->ops->get(t->mem.s, 0, token_of_key(i), &key, &a, &lsn), 0);
    assert_int_equal(t->disk.s->ops->get(t->disk.s, 0, token_of_key(i), &key, &b, &lsn), 0);
    assert_same_state(&a, &b);
}

/* Pages of both, side by side, through a whole range. */
static void scan_some(struct twins *t)
{
    struct store_range range = random_range(t);
    struct wire_record items_a[N_KEYS], items_b[N_KEYS];
    struct store_page a = {.items = items_a, .cap = 1 + below(t, N_KEYS)}, b = a;
    size_t bytes_max = below(t, 10000);

    b.items = items_b;
    do {
        struct slice cursor_a = slice_of(a.cursor, a.cursor_len);
        struct slice cursor_b = slice_of(b.cursor, b.cursor_len);

        assert_int_equal(t->mem.s->ops->scan(t->mem.s, 0, range, cursor_a, bytes_max, &a), 0);
        assert_int_equal(t->disk.s->ops->scan(t->disk.s, 0, range, cursor_b, bytes_max, &b), 0);
        assert_int_equal(a.n, b.n);
        assert_int_equal(a.bytes, b.bytes);
        assert_int_equal(a.more, b.more);
        assert_true(
            slice_equal(slice_of(a.cursor, a.cursor_len), slice_of(b.cursor, b.cursor_len)));
        for (size_t i = 0; i < a.n; i++) {
            assert_true(slice_equal(items_a[i].key.partition, items_b[i].key.partition));
            assert_same_state(&items_a[i].state, &items_b[i].state);
        }
    } while (a.more);
}

/* The model and the plain store have the same on disk at each moment; with a log it comes later. */
static void scrub_some(struct twins *t)
{
    static const size_t budgets[] = {1, 500, SIZE_MAX};
    size_t bytes_max = budgets[below(t, ARRAY_LEN(budgets))];
    struct store_scrub a, b;

    if (store_scrub_at_zone(&t->at))
        t->at.zone = zone_of(token_of_key((unsigned)below(t, 8)));
    a = rig_scrub(&t->mem, 0, &t->at, bytes_max);
    b = rig_scrub(&t->disk, 0, &t->at, bytes_max);
    assert_int_equal(b.error, 0);
    assert_int_equal(b.n_bad, 0);
    assert_false(b.remade);
    t->at = b.next;
    if (t->disk.engine == RIG_LOG)
        return;
    assert_int_equal(a.n_records, b.n_records);
    assert_int_equal(a.n_bytes, b.n_bytes);
    assert_int_equal(a.next.zone, b.next.zone);
    assert_true(slice_equal(slice_of(a.next.after, a.next.after_len),
                            slice_of(b.next.after, b.next.after_len)));
}

static void compare_sums(struct twins *t)
{
    struct store_range range = {0, UINT64_MAX};
    size_t n_leaves = (size_t)1 << STORE_LEAF_BITS;
    uint64_t *a = malloc(n_leaves * sizeof(*a)), *b = malloc(n_leaves * sizeof(*b));
    struct store_info info_a, info_b;
    struct store_stats stats_a, stats_b;
    uint64_t lsn;

    assert_true(a && b);
    assert_int_equal(t->mem.s->ops->leaves(t->mem.s, 0, range, a, &lsn), 0);
    assert_int_equal(t->disk.s->ops->leaves(t->disk.s, 0, range, b, &lsn), 0);
    assert_memory_equal(a, b, n_leaves * sizeof(*a));
    assert_int_equal(t->mem.s->ops->vnode_info(t->mem.s, 0, range, &info_a), 0);
    assert_int_equal(t->disk.s->ops->vnode_info(t->disk.s, 0, range, &info_b), 0);
    if (t->disk.engine == RIG_LOG) { /* remembers higher ones */
        assert_true(version_compare(info_b.max_version, info_a.max_version) >= 0);
        info_b.max_version = info_a.max_version;
    }
    assert_memory_equal(&info_a, &info_b, sizeof(info_a));
    assert_int_equal(t->mem.s->ops->stats(t->mem.s, 0, &stats_a), 0);
    assert_int_equal(t->disk.s->ops->stats(t->disk.s, 0, &stats_b), 0);
    assert_int_equal(stats_a.n_records, info_b.n_records);
    if (t->disk.engine != RIG_LOG) /* which counts twice what is in tables and on disk */
        assert_int_equal(stats_a.n_records, stats_b.n_records);
    free(a);
    free(b);
}

static void compare_facts(struct twins *t)
{
    static const char *const names[] = {"ring", "floor", "x", "never"};

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct buf a, b;

        buf_init(&a);
        buf_init(&b);
        assert_int_equal(t->mem.s->ops->meta_get(t->mem.s, 0, slice_str(names[i]), &a),
                         t->disk.s->ops->meta_get(t->disk.s, 0, slice_str(names[i]), &b));
        assert_true(slice_equal(buf_slice(&a), buf_slice(&b)));
        buf_deinit(&a);
        buf_deinit(&b);
    }
    assert_int_equal(t->mem.s->ops->clock_bound(t->mem.s), t->disk.s->ops->clock_bound(t->disk.s));
}

static void step(struct twins *t)
{
    uint64_t dice = below(t, 1000);

    if (dice < 400)
        submit_a_batch(t);
    else if (dice < 700)
        read_one(t);
    else if (dice < 850)
        scan_some(t);
    else if (dice < 880)
        load_some(t);
    else if (dice < 900)
        wipe_some(t);
    else if (dice < 910)
        purge_some(t);
    else if (dice < 940)
        compare_facts(t);
    else if (dice < 950)
        compare_sums(t);
    else if (dice < 990)
        scrub_some(t);
    if (below(t, 3) == 0)
        end_wake_up(t);
    if (dice == 999 || dice == 998) {
        end_wake_up(t);
        rig_reopen(&t->mem);
        rig_reopen(&t->disk);
    }
}

static void twins_init(struct twins *t, enum rig_engine engine, uint64_t seed)
{
    *t = (struct twins){.random = {.s = seed}, .floors = {10, 30, 50}};
    rig_open(&t->mem, RIG_MEM, 0);
    rig_slice_records = SLICE_RECORDS;
    rig_open_with(&t->disk, engine, RIG_MAP_BYTES, TABLES_BYTES);
    t->values = blob_new(VALUE_MAX + 1024);
    assert_non_null(t->values);
    for (size_t i = 0; i < t->values->len; i++)
        t->values->data[i] = (uint8_t)test_random_u64(&t->random);
    for (unsigned i = 0; i < N_KEYS; i++)
        snprintf(t->keys[i], sizeof(t->keys[i]), "%.*s%u", (int)(i % 30),
                 "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkk", i);
}

static void run(enum rig_engine engine, uint64_t seed)
{
    struct twins t;

    print_message("# seed %llu\n", (unsigned long long)seed);
    twins_init(&t, engine, seed);
    for (unsigned i = 0; i < (test_is_quick() ? N_STEPS_QUICK : N_STEPS); i++) {
        step(&t);
        /* Snapshots of one wake-up are bounded. */
        if (i % 4 == 0)
            end_wake_up(&t);
    }
    compare_sums(&t);
    end_wake_up(&t);
    rig_close(&t.mem);
    rig_close(&t.disk);
    assert_int_equal(atomic_load(&t.values->refs), 1);
    blob_unref(t.values);
}

static void the_plain_store_agrees_seed_1(void **state)
{
    run(RIG_LMDB, 1);
}

static void the_plain_store_agrees_seed_2(void **state)
{
    run(RIG_LMDB, 2);
}

static void the_store_with_a_log_agrees_seed_1(void **state)
{
    run(RIG_LOG, 1);
}

static void the_store_with_a_log_agrees_seed_2(void **state)
{
    run(RIG_LOG, 2);
}

static void the_store_with_a_log_agrees_seed_3(void **state)
{
    run(RIG_LOG, 3);
}

/* With an argument: that seed alone, on both. */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_plain_store_agrees_seed_1),
        cmocka_unit_test(the_plain_store_agrees_seed_2),
        cmocka_unit_test(the_store_with_a_log_agrees_seed_1),
        cmocka_unit_test(the_store_with_a_log_agrees_seed_2),
        cmocka_unit_test(the_store_with_a_log_agrees_seed_3),
    };

    if (argc > 1) {
        run(RIG_LMDB, strtoull(argv[1], NULL, 0));
        run(RIG_LOG, strtoull(argv[1], NULL, 0));
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
