/* test_store_crash: what store_mem forgets when the power goes, by LSN.
 *
 * Besides the single cases: random operations with random syncs and crashes, against a naive
 * history (every operation ever kept, replayed from the start).
 */
#include <stdio.h>
#include <stdlib.h>

#include "storage/merge.h"
#include "tests/model/store_rig.h"

static unsigned n_notified;

static void on_notify(void *ctx, uint32_t queue)
{
    n_notified++;
}

static void on_fatal(void *ctx, const char *sentence)
{
    fail_msg("%s", sentence);
}

static struct store *open_mem(uint32_t n_workers)
{
    struct store_config config = {.n_workers = n_workers, .notify = on_notify, .fatal = on_fatal};
    struct store *s;

    assert_int_equal(store_mem_open(&config, &s), 0);
    return s;
}

static uint64_t submit(struct store *s, const char *key, uint64_t hlc)
{
    struct store_op op = rig_merge_op(slice_str(key), hlc, slice_str("v"));
    uint64_t lsn;

    assert_int_equal(s->ops->submit(s, 0, &op, 1, &lsn), 0);
    return lsn;
}

static uint64_t hlc_of(struct store *s, const char *key, uint64_t *ret_lsn)
{
    struct key k = rig_key(slice_str(key));
    struct state state;

    assert_int_equal(s->ops->get(s, 0, rig_token(k.partition), &k, &state, ret_lsn), 0);
    s->ops->read_end(s, 0);
    return state.kind == STATE_NONE ? 0 : state.version.hlc;
}

static void outcomes_wait_for_the_sync(void **state)
{
    struct store *s = open_mem(1);
    struct store_done dones[4];
    uint64_t a = submit(s, "a", 1), lsn;

    submit(s, "b", 2);
    assert_int_equal(s->ops->reap(s, 0, dones, 4), 0);
    assert_int_equal(hlc_of(s, "a", &lsn), 1);
    assert_int_equal(lsn, a);
    n_notified = 0;
    store_mem_sync(s, a);
    assert_int_equal(n_notified, 2); /* every queue: durable has moved */
    assert_int_equal(s->ops->reap(s, 0, dones, 4), 1);
    hlc_of(s, "a", &lsn);
    assert_int_equal(lsn, 0);
    hlc_of(s, "b", &lsn);
    assert_int_equal(lsn, a + 1);
    s->ops->close(s);
}

static void a_crash_keeps_a_prefix_and_forgets_outcomes(void **state)
{
    struct store *s = open_mem(1);
    struct store_done done;
    uint64_t first = submit(s, "k", 1), lsn;

    submit(s, "k", 2);
    submit(s, "k", 3);
    store_mem_sync(s, first);
    store_mem_crash(s, first + 1, 2);
    assert_int_equal(hlc_of(s, "k", &lsn), 2);
    assert_int_equal(lsn, 0);
    assert_int_equal(store_mem_last_lsn(s), first + 1);
    assert_int_equal(s->ops->durable(s), first + 1);
    for (uint32_t q = 0; q <= 2; q++)
        assert_int_equal(s->ops->reap(s, q, &done, 1), 0);
    store_mem_crash(s, 0, 1); /* never below durable */
    assert_int_equal(hlc_of(s, "k", &lsn), 2);
    s->ops->close(s);
}

static void an_absent_key_after_a_wipe_reveals_the_wipe(void **state)
{
    struct store *s = open_mem(1);
    uint64_t lsn;

    submit(s, "k", 1);
    store_mem_sync(s, UINT64_MAX);
    assert_int_equal(s->ops->wipe(s, 0, 7, (struct store_range){0, UINT64_MAX}), 0);
    assert_int_equal(hlc_of(s, "k", &lsn), 0);
    assert_int_equal(lsn, store_mem_last_lsn(s));
    store_mem_crash(s, 0, 1);
    assert_int_equal(hlc_of(s, "k", &lsn), 1);
    s->ops->close(s);
}

static void bury(struct store *s, const char *key, uint64_t hlc)
{
    struct store_op op = rig_merge_op(slice_str(key), hlc, (struct slice){0});
    uint64_t lsn;

    op.state.deleted = true;
    assert_int_equal(s->ops->submit(s, 0, &op, 1, &lsn), 0);
}

static void a_purge_is_kept_or_undone_like_an_operation(void **state)
{
    const struct store_range all = {0, UINT64_MAX};
    struct store *s = open_mem(1);
    struct store_done dones[4];
    struct store_stats stats;
    uint64_t lsn, last;

    bury(s, "k", 5);
    bury(s, "newer", 6);
    submit(s, "value", 5);
    store_mem_sync(s, UINT64_MAX);
    assert_int_equal(s->ops->reap(s, 0, dones, 4), 3);
    assert_int_equal(s->ops->purge(s, 0, 7, all, 5), 0);
    assert_int_equal(hlc_of(s, "k", &lsn), 0);
    assert_int_equal(lsn, store_mem_last_lsn(s));
    assert_int_equal(hlc_of(s, "newer", &lsn), 6);
    assert_int_equal(hlc_of(s, "value", &lsn), 5);
    assert_int_equal(s->ops->purge(s, 0, 8, all, 9), -ERR_FULL);
    store_mem_crash(s, 0, 1);
    assert_int_equal(hlc_of(s, "k", &lsn), 5);
    assert_int_equal(s->ops->reap(s, 0, dones, 4), 0);

    assert_int_equal(s->ops->purge(s, 0, 9, all, 5), 0);
    last = store_mem_last_lsn(s);
    assert_int_equal(s->ops->reap(s, 0, dones, 4), 0);
    store_mem_sync(s, last);
    assert_int_equal(s->ops->purge(s, 0, 10, all, 9), -ERR_FULL); /* until it is reaped */
    assert_int_equal(s->ops->reap(s, 0, dones, 4), 1);
    assert_int_equal(dones[0].cookie, 9);
    assert_int_equal(dones[0].lsn, last);
    assert_int_equal(s->ops->purge(s, 0, 10, all, 9), 0);
    assert_int_equal(s->ops->stats(s, 0, &stats), 0);
    assert_int_equal(stats.n_purged, 3); /* one of them twice */
    s->ops->close(s);
}

static void facts_and_clock_show_what_is_durable(void **state)
{
    struct store *s = open_mem(1);
    struct store_op ops[2] = {
        {.type = STORE_OP_CLOCK, .clock = 5},
        {.type = STORE_OP_META, .name = slice_str("n"), .value = slice_str("v")}};
    struct buf b;
    uint64_t lsn;

    buf_init(&b);
    assert_int_equal(s->ops->submit(s, 0, ops, 2, &lsn), 0);
    assert_int_equal(s->ops->clock_bound(s), 0);
    assert_int_equal(s->ops->meta_get(s, 0, slice_str("n"), &b), 1);
    store_mem_sync(s, lsn - 1);
    assert_int_equal(s->ops->clock_bound(s), 5);
    assert_int_equal(s->ops->meta_get(s, 0, slice_str("n"), &b), 1);
    store_mem_crash(s, lsn, 1);
    assert_int_equal(s->ops->meta_get(s, 0, slice_str("n"), &b), 0);
    assert_true(slice_equal(buf_slice(&b), slice_str("v")));
    buf_deinit(&b);
    s->ops->close(s);
}

static void faults_can_be_planted(void **state)
{
    struct store *s = open_mem(1);
    struct store_op op = rig_merge_op(slice_str("k"), 2, slice_str("v"));
    struct store_done done;
    struct state st;
    uint64_t lsn;

    store_mem_auto_sync(s, true);
    submit(s, "k", 1);
    assert_int_equal(s->ops->reap(s, 0, &done, 1), 1);
    store_mem_set_full(s, true);
    assert_int_equal(s->ops->submit(s, 0, &op, 1, &lsn), 0);
    assert_int_equal(s->ops->reap(s, 0, &done, 1), 1);
    assert_int_equal(done.error, -ERR_NO_SPACE);
    store_mem_set_full(s, false);
    assert_int_equal(store_mem_corrupt(s, op.token, &op.key), 0);
    assert_int_equal(s->ops->get(s, 0, op.token, &op.key, &st, &lsn), -ERR_CORRUPT);
    assert_int_equal(s->ops->submit(s, 0, &op, 1, &lsn), 0);
    assert_int_equal(s->ops->reap(s, 0, &done, 1), 1);
    assert_int_equal(done.error, -ERR_CORRUPT);
    op.key.partition = slice_str("none");
    assert_int_equal(store_mem_corrupt(s, op.token, &op.key), 1);
    s->ops->close(s);
}

static void a_scan_stops_before_a_bad_record_and_then_names_it(void **state)
{
    struct store *s = open_mem(1);
    struct wire_record items[4];
    struct store_page page = {.items = items, .cap = 4};
    const struct store_range all = {0, UINT64_MAX};
    struct store_op op;
    uint64_t lsn;

    for (uint64_t i = 0; i < 3; i++) {
        op = rig_merge_op(slice_str("k"), 1, slice_str("v"));
        op.token = i;
        assert_int_equal(s->ops->submit(s, 0, &op, 1, &lsn), 0);
    }
    assert_int_equal(store_mem_corrupt(s, 1, &op.key), 0);
    assert_int_equal(s->ops->scan(s, 0, all, (struct slice){0}, SIZE_MAX, &page), 0);
    assert_int_equal(page.n, 1);
    assert_true(page.more);
    assert_int_equal(
        s->ops->scan(s, 0, all, slice_of(page.cursor, page.cursor_len), SIZE_MAX, &page),
        -ERR_CORRUPT);
    assert_int_equal(
        s->ops->scan(s, 0, all, slice_of(page.cursor, page.cursor_len), SIZE_MAX, &page), 0);
    assert_int_equal(page.n, 1);
    assert_false(page.more);
    s->ops->close(s);
}

/* ---- against a naive history -------------------------------------------------------------- */

#define N_KEYS 6u
#define N_HISTORY 4000u

struct past {
    enum {
        PAST_MERGE,
        PAST_WIPE,
        PAST_PURGE
    } what;
    unsigned key;   /* WIPE, PURGE: keys 0 .. key */
    uint64_t hlc;   /* MERGE */
    uint64_t floor; /* MERGE, PURGE */
};

/* The content follows from the version. */
static bool is_tombstone(uint64_t hlc)
{
    return hlc % 3 == 0;
}

/* What key k holds after the first n operations. */
static uint64_t replay(const struct past *history, size_t n, unsigned k)
{
    uint64_t hlc = 0;

    for (size_t i = 0; i < n; i++) {
        const struct past *p = &history[i];

        if (p->what == PAST_MERGE && p->key == k && p->hlc > hlc && p->hlc > p->floor)
            hlc = p->hlc;
        if (p->what == PAST_WIPE && k <= p->key)
            hlc = 0;
        if (p->what == PAST_PURGE && k <= p->key && is_tombstone(hlc) && hlc <= p->floor)
            hlc = 0;
    }
    return hlc;
}

/* false: one purge is enough. */
static bool do_random(struct store *s, struct test_random *random, struct past *ret)
{
    uint64_t dice = test_random_below(random, 20), lsn;
    struct store_range range = {0, test_random_below(random, N_KEYS)};
    struct store_op op;
    int r = 0;

    *ret = (struct past){.what = dice == 0   ? PAST_WIPE
                                 : dice == 1 ? PAST_PURGE
                                             : PAST_MERGE,
                         .key = (unsigned)range.last,
                         .hlc = 1 + test_random_below(random, 1000),
                         .floor = test_random_below(random, 500)};
    if (ret->what == PAST_WIPE)
        r = s->ops->wipe(s, 0, 0, range);
    else if (ret->what == PAST_PURGE)
        r = s->ops->purge(s, 0, 0, range, ret->floor);
    if (ret->what != PAST_MERGE) {
        assert_true(r == 0 || (r == -ERR_FULL && ret->what == PAST_PURGE));
        return r == 0;
    }
    op = rig_merge_op(slice_str("k"), ret->hlc, slice_str("value"));
    op.token = ret->key;
    op.floor = &ret->floor;
    if (is_tombstone(ret->hlc)) {
        op.state.deleted = true;
        op.state.value = (struct slice){0};
    }
    assert_int_equal(s->ops->submit(s, 0, &op, 1, &lsn), 0);
    return true;
}

static void assert_history(struct store *s, const struct past *history, size_t n)
{
    struct key key = rig_key(slice_str("k"));

    for (unsigned k = 0; k < N_KEYS; k++) {
        struct state state;
        uint64_t lsn;

        assert_int_equal(s->ops->get(s, 0, k, &key, &state, &lsn), 0);
        assert_int_equal(state.kind == STATE_NONE ? 0 : state.version.hlc, replay(history, n, k));
        s->ops->read_end(s, 0);
    }
}

static void any_sequence_of_syncs_and_crashes_matches_the_history(void **state)
{
    static struct past history[N_HISTORY]; /* [i] has LSN i + 1 */
    struct store_done dones[64];
    struct test_random random = {.s = 42};
    struct store *s = open_mem(1);
    size_t n = 0;

    for (unsigned i = 0; i < N_HISTORY; i++) {
        uint64_t dice = test_random_below(&random, 100), durable = s->ops->durable(s);

        if (dice < 80) {
            n += do_random(s, &random, &history[n]);
            assert_int_equal(store_mem_last_lsn(s), n);
        } else if (dice < 95) {
            store_mem_sync(s, durable + test_random_below(&random, n - durable + 1));
        } else {
            n = durable + test_random_below(&random, n - durable + 1);
            store_mem_crash(s, n, 1);
        }
        s->ops->reap(s, 0, dones, ARRAY_LEN(dones));
        if (i % 20 == 0)
            assert_history(s, history, n);
    }
    assert_history(s, history, n);
    s->ops->close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(outcomes_wait_for_the_sync),
        cmocka_unit_test(a_crash_keeps_a_prefix_and_forgets_outcomes),
        cmocka_unit_test(an_absent_key_after_a_wipe_reveals_the_wipe),
        cmocka_unit_test(a_purge_is_kept_or_undone_like_an_operation),
        cmocka_unit_test(facts_and_clock_show_what_is_durable),
        cmocka_unit_test(faults_can_be_planted),
        cmocka_unit_test(a_scan_stops_before_a_bad_record_and_then_names_it),
        cmocka_unit_test(any_sequence_of_syncs_and_crashes_matches_the_history),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
