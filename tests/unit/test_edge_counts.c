/* A question that goes round the workers to have records counted: two workers without threads, and
 * a store that says what it is told to. */
#include "tests/unit/test.h"

#include "server/core/ring.h"
#include "server/edge/control.h"
#include "server/edge/worker_loop.h"
#include <stdlib.h>

#define N_PARTITIONS 64u

/* ---- the rig --------------------------------------------------------------------------------- */

static struct {
    uint64_t n_asked;
    uint32_t queue[N_PARTITIONS]; /* 1 + who asked, by partition */
    unsigned slow_ms;             /* for each partition */
    int error;
} store_says;

static int told_info(struct store *s, uint32_t queue, struct store_range range,
                     struct store_info *ret)
{
    uint32_t partition = token_partition(range.first, N_PARTITIONS);

    assert_int_equal(token_partition(range.last, N_PARTITIONS), partition);
    assert_true(range.last + 1 == token_partition_first(partition + 1, N_PARTITIONS) ||
                partition + 1 == N_PARTITIONS);
    store_says.n_asked++;
    store_says.queue[partition] = 1 + queue;
    uv_sleep(store_says.slow_ms);
    *ret = (struct store_info){.n_records = 100 + partition, .n_tombstones = partition};
    return store_says.error;
}

static int told_leaves(struct store *s, uint32_t queue, struct store_range range, uint64_t *ret,
                       uint64_t *ret_lsn)
{
    uint32_t n = (1u << STORE_LEAF_BITS) / N_PARTITIONS;

    memset(ret, 0, n * sizeof(*ret));
    ret[0] = 1;
    ret[n - 1] = (uint64_t)token_partition(range.first, N_PARTITIONS) << 1;
    return 0;
}

static const struct store_ops told_ops = {.vnode_info = told_info, .leaves = told_leaves};

struct rig {
    struct worker_loop workers[2];
    struct control control;
    struct node node;
    struct store store;
    struct wire_ring wire;
    uint32_t zero[N_PARTITIONS], one[N_PARTITIONS];
    uint64_t incarnation[N_PARTITIONS];
    struct wire_member member;
    uint32_t bucket;
    struct ring *ring;
    struct list arrived; /* at control */
};

static void take_all(struct loop *l)
{
    struct worker_loop *wl = (struct worker_loop *)l;
    struct list letters;

    list_init(&letters);
    loop_take_letters(l, &letters);
    while (!list_empty(&letters))
        counts_take(wl, letters_pop(&letters));
}

static void nothing(struct loop *l)
{
}

static const struct loop_hooks worker_hooks = {take_all, nothing, nothing};
static const struct loop_hooks control_hooks = {nothing, nothing, nothing};

/* One member, which is this node: it holds a replica of everything. */
static void make_ring(struct rig *r)
{
    for (uint32_t p = 0; p < N_PARTITIONS; p++) {
        r->one[p] = 1;
        r->incarnation[p] = 1 + p;
    }
    r->bucket = 1;
    r->member = (struct wire_member){.id = {{1}},
                                     .name = slice_str("n1"),
                                     .client_address = slice_str("127.0.0.1:7400"),
                                     .peer_address = slice_str("127.0.0.1:7401"),
                                     .weight = 1};
    r->wire = (struct wire_ring){.epoch = 12,
                                 .cluster_id = {{2}},
                                 .n_partitions = N_PARTITIONS,
                                 .n_replicas = 1,
                                 .n_slots = 1,
                                 .next_incarnation = N_PARTITIONS + 1,
                                 .members = &r->member,
                                 .n_members = 1,
                                 .voters = r->zero,
                                 .n_voters = 1,
                                 .buckets = &r->bucket,
                                 .n_buckets = 1,
                                 .fence = r->one,
                                 .primary = r->zero,
                                 .slot_member = r->zero,
                                 .slot_incarnation = r->incarnation,
                                 .slot_state = r->one};
    assert_int_equal(ring_new(&r->wire, NULL, NULL, &r->ring), 0);
}

static struct rig *rig_new(void)
{
    struct loop_limits limits = {60000, 60000, 60000};
    struct rig *r = calloc(1, sizeof(*r));

    assert_non_null(r);
    memset(&store_says, 0, sizeof(store_says));
    list_init(&r->arrived);
    make_ring(r);
    r->store.ops = &told_ops;
    r->node.store = &r->store;
    r->node.n_workers = 2;
    r->node.control = &r->control;
    log_init(&r->node.log, LOG_ERROR, 2);
    assert_int_equal(loop_init(&r->control.loop, 2, &control_hooks, &limits, &r->node.log), 0);
    for (uint32_t i = 0; i < 2; i++) {
        struct worker_loop *wl = &r->workers[i];

        r->node.workers[i] = wl;
        wl->node = &r->node;
        wl->index = i;
        wl->ring = r->ring;
        counts_init(&wl->counts);
        assert_int_equal(loop_init(&wl->loop, i, &worker_hooks, &limits, &r->node.log), 0);
        counts_start(wl);
    }
    return r;
}

static void rig_free(struct rig *r)
{
    for (uint32_t i = 0; i < 2; i++) {
        counts_deinit(&r->workers[i].counts);
        loop_close_all(&r->workers[i].loop);
        loop_run(&r->workers[i].loop);
        loop_deinit(&r->workers[i].loop);
    }
    loop_close_all(&r->control.loop);
    loop_run(&r->control.loop);
    loop_deinit(&r->control.loop);
    log_deinit(&r->node.log);
    letters_free(&r->arrived);
    ring_unref(r->ring);
    free(r);
}

static void ask(struct rig *r, uint64_t id)
{
    struct letter *letter = letter_new(LETTER_STATUS, 1);

    letter->u.status.id = id;
    letter->u.status.ring = true;
    counts_ask(&r->workers[1], letter);
}

/* Lets both workers run until a question has arrived at control, and not been taken here before. */
static struct letter *next_at_control(struct rig *r)
{
    while (list_empty(&r->arrived)) {
        for (uint32_t i = 0; i < 2; i++)
            uv_run(&r->workers[i].loop.uv, UV_RUN_NOWAIT);
        loop_take_letters(&r->control.loop, &r->arrived);
    }
    return letters_pop(&r->arrived);
}

static uint32_t n_counted(const struct rig *r, const struct letter *letter)
{
    struct wire_status_result told = {0};
    uint32_t n = 0;

    counts_of(letter, r->ring, &told);
    for (uint32_t p = 0; told.vnode_records && p < N_PARTITIONS; p++) {
        bool counted = told.vnode_records[p] > 0;

        assert_true(told.vnode_records[p] == (counted ? 101 + p : 0));
        assert_true(told.vnode_tombstones[p] == (counted ? 1 + p : 0));
        assert_true(told.vnode_digests[p] == (counted ? p << 1 | 1 : 0));
        n += counted;
    }
    return n;
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void each_partition_is_counted_by_its_worker(void **state)
{
    struct rig *r = rig_new();
    struct letter *letter;

    ask(r, 5);
    letter = next_at_control(r);
    assert_int_equal(letter->u.status.id, 5);
    assert_int_equal(letter->from, 1);
    assert_int_equal(n_counted(r, letter), N_PARTITIONS);
    assert_int_equal(store_says.n_asked, N_PARTITIONS);
    for (uint32_t p = 0; p < N_PARTITIONS; p++)
        assert_int_equal(store_says.queue[p],
                         1 + token_worker(token_partition_first(p, N_PARTITIONS), 2));
    letter_free(letter);
    rig_free(r);
}

static void what_cannot_be_counted_is_not_told(void **state)
{
    struct rig *r = rig_new();
    struct letter *letter;

    store_says.error = -ERR_CORRUPT;
    ask(r, 5);
    letter = next_at_control(r);
    assert_int_equal(n_counted(r, letter), 0);
    assert_int_equal(store_says.n_asked, N_PARTITIONS);
    letter_free(letter);
    rig_free(r);
}

static void a_slow_store_is_not_waited_for(void **state)
{
    struct rig *r = rig_new();
    struct letter *letter;
    uint64_t begin_ns = uv_hrtime();

    store_says.slow_ms = 40; /* 64 of them: 2.5 s */
    ask(r, 5);
    letter = next_at_control(r);
    assert_in_range(n_counted(r, letter), 1, N_PARTITIONS - 1);
    assert_true(uv_hrtime() - begin_ns >= COUNTS_MS_MAX / 2 * 1000000ull);
    letter_free(letter);
    rig_free(r);
}

static void more_questions_than_wait_go_on_without(void **state)
{
    struct rig *r = rig_new();
    struct letter *letter;

    for (uint64_t id = 1; id <= COUNTS_WAITING_MAX + 1; id++)
        ask(r, id);
    letter = next_at_control(r); /* it overtakes at the first worker */
    assert_int_equal(letter->u.status.id, COUNTS_WAITING_MAX + 1);
    assert_in_range(n_counted(r, letter), 1, N_PARTITIONS - 1);
    letter_free(letter);
    for (uint64_t id = 1; id <= COUNTS_WAITING_MAX; id++) {
        letter = next_at_control(r);
        assert_int_equal(letter->u.status.id, id);
        assert_int_equal(n_counted(r, letter), N_PARTITIONS);
        letter_free(letter);
    }
    rig_free(r);
}

static void counts_of_another_ring_are_not_taken(void **state)
{
    struct rig *r = rig_new();
    struct wire_ring newer = r->wire;
    struct wire_status_result told = {0};
    struct letter *letter;
    struct ring *ring;

    newer.epoch++;
    assert_int_equal(ring_new(&newer, NULL, NULL, &ring), 0);
    ask(r, 5);
    r->workers[0].ring = ring; /* published meanwhile, and not everywhere */
    letter = next_at_control(r);
    assert_int_equal(n_counted(r, letter), N_PARTITIONS / 2);
    counts_of(letter, ring, &told);
    assert_null(told.vnode_records);
    letter_free(letter);
    ring_unref(ring);
    rig_free(r);
}

static void without_a_ring_there_is_nothing_to_count(void **state)
{
    struct rig *r = rig_new();
    struct letter *letter;

    r->workers[1].ring = NULL;
    ask(r, 5);
    letter = next_at_control(r);
    assert_null(letter->u.status.counts);
    assert_int_equal(store_says.n_asked, 0);
    letter_free(letter);
    rig_free(r);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_partition_is_counted_by_its_worker),
        cmocka_unit_test(what_cannot_be_counted_is_not_told),
        cmocka_unit_test(a_slow_store_is_not_waited_for),
        cmocka_unit_test(more_questions_than_wait_go_on_without),
        cmocka_unit_test(counts_of_another_ring_are_not_taken),
        cmocka_unit_test(without_a_ring_there_is_nothing_to_count),
    };
    return cmocka_run_group_tests_name("edge_counts", tests, NULL, NULL);
}
