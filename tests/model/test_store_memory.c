/* test_store_memory: each allocation of a submit, a load and a wipe fails in turn, in all engines.
 *
 * Whatever fails, the answer is -ERR_NO_MEMORY, to the call or to the operation that it hit; what
 * was answered so has changed nothing, what was not has been done, no LSN is missing, and the same
 * call succeeds once there is memory. References to blobs come back and nothing leaks (the
 * sanitizer build looks). Linked with --wrap=malloc and friends, which reach the project's own code
 * and not the libraries; the limit holds for the test's thread alone.
 */
#include <stdlib.h>

#include "storage/commit_queue.h"
#include "tests/model/store_rig.h"

#define ALLOCATIONS_MAX 100

static _Thread_local long allocations_left = -1; /* negative: no limit */

static bool may_allocate(void)
{
    if (allocations_left < 0)
        return true;
    if (allocations_left == 0)
        return false;
    allocations_left--;
    return true;
}

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__real_aligned_alloc(size_t align, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_aligned_alloc(size_t align, size_t n);

void *__wrap_malloc(size_t n)
{
    return may_allocate() ? __real_malloc(n) : NULL;
}

void *__wrap_calloc(size_t n, size_t size)
{
    return may_allocate() ? __real_calloc(n, size) : NULL;
}

void *__wrap_realloc(void *p, size_t n)
{
    return may_allocate() ? __real_realloc(p, n) : NULL;
}

void *__wrap_aligned_alloc(size_t align, size_t n)
{
    return may_allocate() ? __real_aligned_alloc(align, n) : NULL;
}

/* ---- a submit ----------------------------------------------------------------------------- */

enum {
    PUT_OVER,
    PUT_NEW,
    DELETE,
    FACT,
    CLOCK,
    N_OPS = 20 /* the rest are clocks too: more than the model's arrays have room for at first */
};

struct world {
    struct rig rig;
    struct blob *owner;
    struct store_op ops[N_OPS];
};

static void set_up(struct world *w, enum rig_engine engine)
{
    struct store_op fact = {
        .type = STORE_OP_META, .name = slice_str("fact"), .value = slice_str("old")};
    struct store_op clock = {.type = STORE_OP_CLOCK, .clock = 10};

    rig_open(&w->rig, engine, STORE_LMDB_MAP_MIN);
    rig_put(&w->rig, "over", 3, "old");
    rig_put(&w->rig, "delete", 3, "old");
    rig_do(&w->rig, &fact);
    rig_do(&w->rig, &clock);
    w->owner = blob_new(2 * COMMIT_REF_BYTES_MIN);
    assert_non_null(w->owner);
    memset(w->owner->data, 'v', w->owner->len);
    w->ops[PUT_OVER] = rig_merge_op(slice_str("over"), 5, slice_str("new"));
    w->ops[PUT_NEW] = rig_merge_op(slice_str("new"), 5, slice_of(w->owner->data, w->owner->len));
    w->ops[PUT_NEW].owner = w->owner;
    w->ops[DELETE] = rig_merge_op(slice_str("delete"), 5, (struct slice){0});
    w->ops[DELETE].state.deleted = true;
    fact.value = slice_str("new");
    w->ops[FACT] = fact;
    clock.clock = 50;
    for (unsigned i = CLOCK; i < N_OPS; i++)
        w->ops[i] = clock;
}

static void tear_down(struct world *w)
{
    rig_close(&w->rig);
    assert_int_equal(atomic_load(&w->owner->refs), 1);
    blob_unref(w->owner);
}

static void assert_fact(struct rig *rig, const char *value)
{
    struct buf b;

    buf_init(&b);
    assert_int_equal(rig->s->ops->meta_get(rig->s, 0, slice_str("fact"), &b), 0);
    assert_true(slice_equal(buf_slice(&b), slice_str(value)));
    buf_deinit(&b);
}

/* What was done is there, what was not has left no trace. */
static void assert_holds(struct world *w, const bool done[N_OPS])
{
    struct rig *rig = &w->rig;

    assert_int_equal(rig_get(rig, "over").version.hlc, done[PUT_OVER] ? 5 : 3);
    assert_int_equal(rig_get(rig, "new").kind, done[PUT_NEW] ? STATE_LWW : STATE_NONE);
    assert_int_equal(rig_get(rig, "delete").deleted, done[DELETE]);
    rig->s->ops->read_end(rig->s, 0);
    assert_fact(rig, done[FACT] ? "new" : "old");
    assert_int_equal(rig->s->ops->clock_bound(rig->s), done[CLOCK] ? 50 : 10);
}

/* With room for k allocations. True if something failed for want of them. */
static bool submit_with(struct world *w, long k)
{
    struct store *s = w->rig.s;
    struct store_done dones[N_OPS];
    bool done[N_OPS] = {false}, failed = false;
    uint64_t lsn, before = s->ops->durable(s);
    int r;

    allocations_left = k;
    r = s->ops->submit(s, 0, w->ops, N_OPS, &lsn);
    allocations_left = -1;
    if (r < 0) {
        assert_int_equal(r, -ERR_NO_MEMORY);
        assert_int_equal(atomic_load(&w->owner->refs), 1);
        failed = true;
        lsn = before;
    } else {
        assert_int_equal(lsn, before + N_OPS);
        rig_reap(&w->rig, 0, dones, N_OPS);
    }
    for (unsigned i = 0; r == 0 && i < N_OPS; i++) {
        assert_true(dones[i].error == 0 || dones[i].error == -ERR_NO_MEMORY);
        done[i] = dones[i].error == 0;
        failed = failed || !done[i];
        assert_true(done[i] || dones[i].outcome == OUTCOME_NONE);
    }
    assert_holds(w, done);
    assert_int_equal(s->ops->submit(s, 0, w->ops, N_OPS, &before), 0);
    assert_int_equal(before, lsn + N_OPS);
    rig_reap(&w->rig, 0, dones, N_OPS);
    for (unsigned i = 0; i < N_OPS; i++) {
        assert_int_equal(dones[i].error, 0);
        if (i <= DELETE)
            assert_int_equal(dones[i].outcome, done[i] ? OUTCOME_DUPLICATE : OUTCOME_STORED);
        done[i] = true;
    }
    assert_holds(w, done);
    return failed;
}

static void submits_of(enum rig_engine engine)
{
    long k = 0;
    bool failed = true;

    for (; failed && k < ALLOCATIONS_MAX; k++) {
        struct world w;

        set_up(&w, engine);
        failed = submit_with(&w, k);
        tear_down(&w);
    }
    print_message("# %ld allocations failed in turn\n", k - 1);
    assert_true(k > 1 && k < ALLOCATIONS_MAX);
}

static void a_submit_to_the_model(void **state)
{
    submits_of(RIG_MEM);
}

static void a_submit_to_the_real_store(void **state)
{
    submits_of(RIG_LMDB);
}

static void a_submit_to_the_store_with_a_log(void **state)
{
    submits_of(RIG_LOG);
}

/* ---- a load and a wipe -------------------------------------------------------------------- */

#define N_ITEMS 3u

static uint64_t n_records(struct rig *rig)
{
    struct store_info info;

    assert_int_equal(rig->s->ops->vnode_info(rig->s, 0, (struct store_range){0, UINT64_MAX}, &info),
                     0);
    rig->s->ops->read_end(rig->s, 0);
    return info.n_records;
}

static int outcome_of(struct rig *rig, int r)
{
    struct store_done done;

    if (r < 0)
        return r;
    rig_reap(rig, 0, &done, 1);
    return done.error;
}

static bool bulk_with(struct rig *rig, long k)
{
    const char *names[N_ITEMS] = {"x", "y", "z"};
    struct store_item items[N_ITEMS];
    int load, wipe;

    for (unsigned i = 0; i < N_ITEMS; i++)
        items[i] = (struct store_item){
            .token = i,
            .key = rig_key(slice_str(names[i])),
            .state = {.kind = STATE_LWW, .version = {.hlc = 1}, .value = slice_str("v")}};
    allocations_left = k;
    load = rig->s->ops->load(rig->s, 0, 1, items, N_ITEMS);
    allocations_left = -1;
    if (load < 0)
        assert_int_equal(n_records(rig), 0);
    load = outcome_of(rig, load);
    assert_true(load == -ERR_NO_MEMORY || (load == 0 && n_records(rig) == N_ITEMS));
    assert_int_equal(rig_load(rig, items, N_ITEMS), 0);
    assert_int_equal(n_records(rig), N_ITEMS);
    allocations_left = k;
    wipe = rig->s->ops->wipe(rig->s, 0, 2, (struct store_range){0, UINT64_MAX});
    allocations_left = -1;
    wipe = outcome_of(rig, wipe);
    assert_true(wipe == 0 || wipe == -ERR_NO_MEMORY);
    assert_int_equal(n_records(rig), wipe == 0 ? 0 : N_ITEMS);
    rig_wipe(rig, 0, UINT64_MAX);
    assert_int_equal(n_records(rig), 0);
    return load < 0 || wipe < 0;
}

static void bulk_of(enum rig_engine engine)
{
    long k = 0;
    bool failed = true;

    for (; failed && k < ALLOCATIONS_MAX; k++) {
        struct rig rig;

        rig_open(&rig, engine, STORE_LMDB_MAP_MIN);
        failed = bulk_with(&rig, k);
        rig_close(&rig);
    }
    assert_true(k > 1 && k < ALLOCATIONS_MAX);
}

static void a_load_and_a_wipe_of_the_model(void **state)
{
    bulk_of(RIG_MEM);
}

static void a_load_and_a_wipe_of_the_real_store(void **state)
{
    bulk_of(RIG_LMDB);
}

static void a_load_and_a_wipe_of_the_store_with_a_log(void **state)
{
    bulk_of(RIG_LOG);
}

/* ---- the queue itself --------------------------------------------------------------------- */

static void a_queue_without_its_ports_can_be_thrown_away(void **state)
{
    struct commit_queue q;

    allocations_left = 0;
    assert_int_equal(commit_queue_init(&q, 3), -ERR_NO_MEMORY);
    allocations_left = -1;
    commit_queue_deinit(&q);
    assert_int_equal(commit_queue_init(&q, 3), 0);
    commit_queue_deinit(&q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_submit_to_the_model),
        cmocka_unit_test(a_submit_to_the_real_store),
        cmocka_unit_test(a_submit_to_the_store_with_a_log),
        cmocka_unit_test(a_load_and_a_wipe_of_the_model),
        cmocka_unit_test(a_load_and_a_wipe_of_the_real_store),
        cmocka_unit_test(a_load_and_a_wipe_of_the_store_with_a_log),
        cmocka_unit_test(a_queue_without_its_ports_can_be_thrown_away),
    };

    rig_segment_bytes = 1u << 20;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
