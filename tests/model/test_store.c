/* test_store: what store.h promises, case by case, against both engines. */
#include <stdio.h>
#include <stdlib.h>

#include "storage/merge.h"
#include "tests/model/store_rig.h"

static struct rig *rig_of(void **state)
{
    return *state;
}

static void assert_state(struct state s, uint64_t hlc, const char *value)
{
    assert_int_equal(s.kind, STATE_LWW);
    assert_false(s.deleted);
    assert_int_equal(s.version.hlc, hlc);
    assert_true(slice_equal(s.value, slice_str(value)));
}

/* ---- merging ------------------------------------------------------------------------------ */

static void a_put_is_read_back(void **state)
{
    struct rig *rig = rig_of(state);
    struct store_done done = rig_put(rig, "k", 5, "v");

    assert_int_equal(done.error, 0);
    assert_int_equal(done.outcome, OUTCOME_STORED);
    assert_int_equal(done.version.hlc, 5);
    assert_state(rig_get(rig, "k"), 5, "v");
    assert_int_equal(rig_get(rig, "other").kind, STATE_NONE);
}

static void the_same_version_again_is_a_duplicate(void **state)
{
    struct rig *rig = rig_of(state);

    rig_put(rig, "k", 5, "v");
    assert_int_equal(rig_put(rig, "k", 5, "v").outcome, OUTCOME_DUPLICATE);
    assert_state(rig_get(rig, "k"), 5, "v");
}

static void an_older_version_is_superseded_and_told_by_which(void **state)
{
    struct rig *rig = rig_of(state);
    struct store_done done;

    rig_put(rig, "k", 9, "new");
    done = rig_put(rig, "k", 8, "old");
    assert_int_equal(done.outcome, OUTCOME_SUPERSEDED);
    assert_int_equal(done.version.hlc, 9);
    assert_int_equal(done.version.actor, 7);
    assert_state(rig_get(rig, "k"), 9, "new");
}

static void a_tombstone_is_a_state_like_any_other(void **state)
{
    struct rig *rig = rig_of(state);

    rig_put(rig, "k", 5, "v");
    assert_int_equal(rig_delete(rig, "k", 6).outcome, OUTCOME_STORED);
    assert_true(rig_get(rig, "k").deleted);
    assert_int_equal(rig_get(rig, "k").value.len, 0);
    assert_int_equal(rig_put(rig, "k", 5, "v").outcome, OUTCOME_SUPERSEDED);
    rig->s->ops->read_end(rig->s, 0);
    assert_int_equal(rig_put(rig, "k", 7, "again").outcome, OUTCOME_STORED);
    assert_state(rig_get(rig, "k"), 7, "again");
    assert_int_equal(rig_delete(rig, "never", 1).outcome, OUTCOME_STORED);
}

static void operations_of_one_submit_take_effect_in_order(void **state)
{
    struct rig *rig = rig_of(state);
    struct store_op ops[3] = {
        rig_merge_op(slice_str("k"), 2, slice_str("b")),
        rig_merge_op(slice_str("k"), 1, slice_str("a")),
        rig_merge_op(slice_str("k"), 3, slice_str("c")),
    };
    struct store_done dones[3];
    uint64_t lsn;

    assert_int_equal(rig->s->ops->submit(rig->s, 0, ops, 3, &lsn), 0);
    rig_reap(rig, 0, dones, 3);
    assert_int_equal(dones[0].outcome, OUTCOME_STORED);
    assert_int_equal(dones[1].outcome, OUTCOME_SUPERSEDED);
    assert_int_equal(dones[1].version.hlc, 2);
    assert_int_equal(dones[2].outcome, OUTCOME_STORED);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(dones[i].lsn, lsn - 2 + i);
    assert_state(rig_get(rig, "k"), 3, "c");
}

static void queues_share_one_order_and_keep_their_outcomes_apart(void **state)
{
    struct rig *rig = rig_of(state);
    struct store_op op = {.type = STORE_OP_CLOCK, .clock = 4};
    struct store_done done;
    uint64_t lsn[RIG_WORKERS + 1];

    for (uint32_t q = 0; q <= RIG_WORKERS; q++)
        assert_int_equal(rig->s->ops->submit(rig->s, q, &op, 1, &lsn[q]), 0);
    for (uint32_t q = 0; q <= RIG_WORKERS; q++) {
        rig_reap(rig, q, &done, 1);
        assert_int_equal(done.lsn, lsn[q]);
        assert_int_equal(done.error, 0);
        assert_true(q == 0 || lsn[q] == lsn[q - 1] + 1);
    }
}

static void a_restart_loses_nothing(void **state)
{
    struct rig *rig = rig_of(state);

    rig_put(rig, "k", 5, "v");
    rig_delete(rig, "d", 6);
    rig_reopen(rig);
    assert_state(rig_get(rig, "k"), 5, "v");
    assert_true(rig_get(rig, "d").deleted);
    assert_int_equal(rig_put(rig, "k", 4, "old").outcome, OUTCOME_SUPERSEDED);
}

/* ---- floors ------------------------------------------------------------------------------- */

/* With a floor, of which only the value during the call counts. */
static struct store_done put_above(struct rig *rig, const char *key, uint64_t hlc, uint64_t floor)
{
    struct store_op op = rig_merge_op(slice_str(key), hlc, slice_str("late"));
    struct store_done done;
    uint64_t lsn;

    op.floor = &floor;
    assert_int_equal(rig_submit(rig, 0, &op, 1, &lsn), 0);
    floor = 0;
    rig_reap(rig, 0, &done, 1);
    assert_int_equal(done.error, 0);
    return done;
}

static void assert_refused_by_floor(struct store_done done, uint64_t floor)
{
    assert_int_equal(done.outcome, OUTCOME_SUPERSEDED_FLOOR);
    assert_int_equal(done.version.hlc, floor);
    assert_int_equal(done.version.actor, 0);
}

static void what_would_be_stored_at_or_below_its_floor_is_refused(void **state)
{
    struct rig *rig = rig_of(state);

    assert_refused_by_floor(put_above(rig, "k", 5, 5), 5); /* above all that was ever seen */
    assert_refused_by_floor(put_above(rig, "k", 5, 9), 9);
    assert_int_equal(rig_get(rig, "k").kind, STATE_NONE);
    assert_int_equal(put_above(rig, "k", 6, 5).outcome, OUTCOME_STORED);
    assert_refused_by_floor(put_above(rig, "absent", 6, 6), 6);
    assert_int_equal(rig_get(rig, "absent").kind, STATE_NONE);
    assert_refused_by_floor(put_above(rig, "k", 7, 8), 8); /* although older than 7 is there */
    assert_state(rig_get(rig, "k"), 6, "late");
    rig_reopen(rig);
    assert_refused_by_floor(put_above(rig, "k", 7, 8), 8);
    assert_state(rig_get(rig, "k"), 6, "late");
}

static void what_is_there_or_newer_is_told_as_ever_below_a_floor(void **state)
{
    struct rig *rig = rig_of(state);
    struct store_done done;

    rig_put(rig, "k", 6, "v");
    rig_delete(rig, "d", 6);
    for (unsigned round = 0; round < 2; round++) {
        done = put_above(rig, "k", 6, 9);
        assert_int_equal(done.outcome, OUTCOME_DUPLICATE);
        assert_int_equal(done.version.hlc, 6);
        done = put_above(rig, "d", 5, 9);
        assert_int_equal(done.outcome, OUTCOME_SUPERSEDED);
        assert_int_equal(done.version.hlc, 6);
        assert_int_equal(done.version.actor, 7);
        rig_reopen(rig);
    }
}

static void operations_of_one_submit_have_floors_of_their_own(void **state)
{
    struct rig *rig = rig_of(state);
    const uint64_t low = 2, high = 4;
    struct store_op ops[4] = {
        rig_merge_op(slice_str("k"), 3, slice_str("a")),
        rig_merge_op(slice_str("k"), 4, slice_str("b")),
        rig_merge_op(slice_str("k"), 3, slice_str("a")),
        rig_merge_op(slice_str("k"), 4, slice_str("c")),
    };
    struct store_done dones[4];
    uint64_t lsn;

    ops[0].floor = &low;
    ops[1].floor = ops[2].floor = &high;
    assert_int_equal(rig_submit(rig, 0, ops, 4, &lsn), 0);
    rig_reap(rig, 0, dones, 4);
    assert_int_equal(dones[0].outcome, OUTCOME_STORED);
    assert_refused_by_floor(dones[1], 4);
    assert_int_equal(dones[2].outcome, OUTCOME_DUPLICATE);
    assert_int_equal(dones[3].outcome, OUTCOME_STORED); /* an answer to one's own question */
    assert_state(rig_get(rig, "k"), 4, "c");
}

/* ---- keys and values ---------------------------------------------------------------------- */

static void keys_of_the_largest_size_and_any_bytes_work(void **state)
{
    struct rig *rig = rig_of(state);
    uint8_t bytes[4][LIMIT_KEY_BYTES];

    memset(bytes[0], 0x00, LIMIT_KEY_BYTES);
    memset(bytes[1], 0xff, LIMIT_KEY_BYTES);
    memset(bytes[2], 0xff, LIMIT_KEY_BYTES);
    memset(bytes[3], 0x00, LIMIT_KEY_BYTES);
    bytes[2][LIMIT_KEY_BYTES - 1] = 0xfe;
    bytes[3][LIMIT_KEY_BYTES - 1] = 0x01;
    for (unsigned i = 0; i < 4; i++) {
        struct store_op op =
            rig_merge_op(slice_of(bytes[i], LIMIT_KEY_BYTES), 10 + i, slice_of(bytes[i], 3));

        op.token = i < 2 ? (i == 0 ? 0 : UINT64_MAX) : op.token;
        assert_int_equal(rig_do(rig, &op).outcome, OUTCOME_STORED);
    }
    rig_reopen(rig);
    for (unsigned i = 0; i < 4; i++) {
        struct key key = rig_key(slice_of(bytes[i], LIMIT_KEY_BYTES));
        uint64_t token = i < 2 ? (i == 0 ? 0 : UINT64_MAX) : rig_token(key.partition), lsn;
        struct state s;

        assert_int_equal(rig->s->ops->get(rig->s, 0, token, &key, &s, &lsn), 0);
        assert_int_equal(s.version.hlc, 10 + i);
        assert_true(slice_equal(s.value, slice_of(bytes[i], 3)));
    }
}

static void partition_key_and_sort_key_are_not_run_together(void **state)
{
    struct rig *rig = rig_of(state);
    struct store_op op = rig_merge_op(slice_str("ab"), 1, slice_str("ab|"));
    struct state s;
    uint64_t lsn;

    rig_do(rig, &op);
    op.key =
        (struct key){.bucket = BUCKET_DEFAULT, .partition = slice_str("a"), .sort = slice_str("b")};
    assert_int_equal(rig->s->ops->get(rig->s, 0, op.token, &op.key, &s, &lsn), 0);
    assert_int_equal(s.kind, STATE_NONE);
    op.state.value = slice_str("a|b");
    rig->s->ops->read_end(rig->s, 0);
    assert_int_equal(rig_do(rig, &op).outcome, OUTCOME_STORED);
    assert_state(rig_get(rig, "ab"), 1, "ab|");
}

static void values_of_no_bytes_and_of_8_mib_work(void **state)
{
    struct rig *rig = rig_of(state);
    struct blob *owner = blob_new(LIMIT_VALUE_BYTES + 8);
    struct test_random random = {.s = 1};
    struct store_op op;
    struct state s;

    assert_non_null(owner);
    for (size_t i = 0; i + 8 <= owner->len; i += 8)
        memcpy(owner->data + i, (uint64_t[]){test_random_u64(&random)}, 8);
    op = rig_merge_op(slice_str("big"), 1, slice_of(owner->data + 8, LIMIT_VALUE_BYTES));
    op.owner = owner;
    assert_int_equal(rig_do(rig, &op).outcome, OUTCOME_STORED);
    rig_put(rig, "empty", 1, "");
    s = rig_get(rig, "big");
    assert_true(slice_equal(s.value, op.state.value));
    s = rig_get(rig, "empty");
    assert_int_equal(s.kind, STATE_LWW);
    assert_int_equal(s.value.len, 0);
    rig_reopen(rig);
    assert_true(slice_equal(rig_get(rig, "big").value, op.state.value));
    rig->s->ops->read_end(rig->s, 0);
    assert_int_equal(atomic_load(&owner->refs), 1);
    blob_unref(owner);
}

static void what_exceeds_a_limit_is_refused_whole(void **state)
{
    struct rig *rig = rig_of(state);
    static uint8_t bytes[LIMIT_VALUE_BYTES + 1];
    struct store_op ops[2] = {
        rig_merge_op(slice_str("k"), 1, slice_str("v")),
        rig_merge_op(slice_of(bytes, LIMIT_KEY_BYTES + 1), 1, slice_str("v"))};
    uint64_t lsn;

    assert_int_equal(rig->s->ops->submit(rig->s, 0, ops, 2, &lsn), -ERR_KEY_TOO_LARGE);
    ops[1] = rig_merge_op(slice_of(bytes, 0), 1, slice_str("v"));
    assert_int_equal(rig->s->ops->submit(rig->s, 0, ops, 2, &lsn), -ERR_KEY_EMPTY);
    ops[1] = rig_merge_op(slice_str("x"), 1, slice_of(bytes, sizeof(bytes)));
    assert_int_equal(rig->s->ops->submit(rig->s, 0, ops, 2, &lsn), -ERR_VALUE_TOO_LARGE);
    ops[1] = (struct store_op){.type = STORE_OP_META, .name = slice_of(bytes, 33)};
    assert_int_equal(rig->s->ops->submit(rig->s, 0, ops, 2, &lsn), -ERR_BAD_REQUEST);
    assert_int_equal(rig->s->ops->submit(rig->s, 0, ops, 0, &lsn), -ERR_BAD_REQUEST);
    assert_int_equal(rig_get(rig, "k").kind, STATE_NONE);
}

static void a_queue_that_does_not_reap_is_full_and_others_are_not(void **state)
{
    struct rig *rig = rig_of(state);
    static struct store_op ops[STORE_SUBMIT_MAX];
    static struct store_done dones[STORE_SUBMIT_MAX];
    uint64_t lsn;

    for (size_t i = 0; i < STORE_SUBMIT_MAX; i++)
        ops[i] = (struct store_op){.type = STORE_OP_CLOCK, .cookie = i, .clock = i};
    for (size_t n = 0; n < STORE_QUEUE_OPS_MAX; n += STORE_SUBMIT_MAX)
        assert_int_equal(rig->s->ops->submit(rig->s, 0, ops, STORE_SUBMIT_MAX, &lsn), 0);
    assert_int_equal(rig->s->ops->submit(rig->s, 0, ops, 1, &lsn), -ERR_FULL);
    assert_int_equal(rig->s->ops->submit(rig->s, 1, ops, 1, &lsn), 0);
    rig_reap(rig, 0, dones, STORE_SUBMIT_MAX);
    assert_int_equal(dones[STORE_SUBMIT_MAX - 1].cookie, STORE_SUBMIT_MAX - 1);
    assert_int_equal(rig->s->ops->submit(rig->s, 0, ops, 1, &lsn), 0);
    assert_int_equal(rig->s->ops->submit(rig->s, 0, ops, 0, &lsn), -ERR_BAD_REQUEST);
}

/* A store with a log takes what its log has room for: whoever hears FULL offers less. */
static void submit_and_reap_some_at_a_time(struct rig *rig, const struct store_op *ops,
                                           struct store_done *dones, size_t n)
{
    size_t at = 0, offer = n, some;
    uint64_t lsn;

    while (at < n) {
        some = n - at < offer ? n - at : offer;
        if (some > 1 && rig->s->ops->submit(rig->s, 0, ops + at, some, &lsn) == -ERR_FULL) {
            offer = some / 2;
            continue;
        }
        if (some == 1)
            assert_int_equal(rig_submit(rig, 0, ops + at, 1, &lsn), 0);
        rig_reap(rig, 0, dones + at, some);
        at += some;
    }
    assert_true(offer < n); /* and did hear it */
}

/* One value often: bytes count per operation, and a duplicate costs no disk. */
static void an_empty_queue_takes_more_than_the_bound_of_bytes(void **state)
{
    struct rig *rig = rig_of(state);
    struct blob *owner = blob_new(LIMIT_VALUE_BYTES);
    struct store_op ops[STORE_QUEUE_BYTES_MAX / LIMIT_VALUE_BYTES + 1];
    struct store_done dones[ARRAY_LEN(ops)], done;
    uint64_t lsn;

    assert_non_null(owner);
    memset(owner->data, 'v', owner->len);
    ops[0] = rig_merge_op(slice_str("big"), 1, slice_of(owner->data, owner->len));
    ops[0].owner = owner;
    for (size_t i = 1; i < ARRAY_LEN(ops); i++)
        ops[i] = ops[0];
    for (unsigned round = 0; round < 2; round++) {
        if (rig->engine == RIG_LOG) {
            submit_and_reap_some_at_a_time(rig, ops, dones, ARRAY_LEN(ops));
            for (size_t i = 0; i < ARRAY_LEN(ops); i++)
                assert_int_equal(dones[i].outcome, round || i ? OUTCOME_DUPLICATE : OUTCOME_STORED);
            continue;
        }
        assert_int_equal(rig->s->ops->submit(rig->s, 0, ops, ARRAY_LEN(ops), &lsn), 0);
        if (rig->engine == RIG_LMDB) /* the model has no bound of bytes */
            assert_int_equal(rig->s->ops->submit(rig->s, 0, ops, 1, &lsn), -ERR_FULL);
        assert_int_equal(rig->s->ops->submit(rig->s, 1, ops, 1, &lsn), 0);
        rig_reap(rig, 0, dones, ARRAY_LEN(ops));
        rig_reap(rig, 1, &done, 1);
        for (size_t i = 0; i < ARRAY_LEN(ops); i++)
            assert_int_equal(dones[i].outcome, round || i ? OUTCOME_DUPLICATE : OUTCOME_STORED);
    }
    assert_int_equal(rig->s->ops->submit(rig->s, 0, ops, STORE_SUBMIT_MAX + 1, &lsn),
                     -ERR_BAD_REQUEST);
    if (rig->engine == RIG_LOG)
        rig_reopen(rig); /* its tables hold references until they are on disk */
    assert_int_equal(atomic_load(&owner->refs), 1);
    blob_unref(owner);
}

/* ---- facts -------------------------------------------------------------------------------- */

static struct slice fact(struct rig *rig, const char *name, struct buf *b)
{
    int r;

    buf_deinit(b);
    buf_init(b);
    r = rig->s->ops->meta_get(rig->s, 0, slice_str(name), b);
    assert_true(r == 0 || r == 1);
    return r == 0 ? buf_slice(b) : slice_str("(never set)");
}

static void facts_are_set_replaced_and_survive(void **state)
{
    struct rig *rig = rig_of(state);
    struct store_op op = {.type = STORE_OP_META, .name = slice_str("ring")};
    struct buf b;

    buf_init(&b);
    assert_true(slice_equal(fact(rig, "ring", &b), slice_str("(never set)")));
    rig->s->ops->read_end(rig->s, 0);
    op.value = slice_str("one");
    assert_int_equal(rig_do(rig, &op).error, 0);
    assert_true(slice_equal(fact(rig, "ring", &b), slice_str("one")));
    rig->s->ops->read_end(rig->s, 0);
    op.value = slice_str("two, and longer");
    rig_do(rig, &op);
    op.name = slice_str("a name of thirty-two bytes......");
    assert_int_equal(op.name.len, STORE_META_NAME_MAX);
    op.value = (struct slice){0};
    rig_do(rig, &op);
    rig_reopen(rig);
    assert_true(slice_equal(fact(rig, "ring", &b), slice_str("two, and longer")));
    assert_int_equal(fact(rig, "a name of thirty-two bytes......", &b).len, 0);
    assert_true(slice_equal(fact(rig, "rin", &b), slice_str("(never set)")));
    buf_deinit(&b);
}

static void the_clock_bound_only_grows(void **state)
{
    struct rig *rig = rig_of(state);
    struct store_op op = {.type = STORE_OP_CLOCK, .clock = 1000};

    assert_int_equal(rig->s->ops->clock_bound(rig->s), 0);
    rig_do(rig, &op);
    assert_int_equal(rig->s->ops->clock_bound(rig->s), 1000);
    op.clock = 900;
    rig_do(rig, &op);
    assert_int_equal(rig->s->ops->clock_bound(rig->s), 1000);
    rig_reopen(rig);
    assert_int_equal(rig->s->ops->clock_bound(rig->s), 1000);
}

/* ---- reading ------------------------------------------------------------------------------ */

static void a_read_sees_what_its_queue_has_reaped_in_the_same_wake_up(void **state)
{
    struct rig *rig = rig_of(state);
    struct state first;

    rig_put(rig, "k", 1, "one");
    first = rig_get(rig, "k");
    rig_put(rig, "k", 2, "two");
    assert_state(rig_get(rig, "k"), 2, "two");
    rig_put(rig, "k", 3, "three");
    assert_state(rig_get(rig, "k"), 3, "three");
    assert_state(first, 1, "one"); /* still lent */
    rig->s->ops->read_end(rig->s, 0);
}

#define SCAN_CAP 64u

/* Fills the store with n keys of 3 bytes with tokens 0, step, 2 step, ... and returns it sorted. */
static void put_sequence(struct rig *rig, unsigned n, uint64_t step)
{
    static struct store_op ops[512];
    static struct store_done dones[512];
    static char names[512][8];
    uint64_t lsn;

    for (unsigned i = 0; i < n; i++) {
        snprintf(names[i], sizeof(names[i]), "%03u", i % 1000);
        ops[i] = rig_merge_op(slice_str(names[i]), i + 1, slice_str("1234567"));
        ops[i].token = i * step;
        ops[i].state.deleted = i % 10 == 9;
        if (ops[i].state.deleted)
            ops[i].state.value = (struct slice){0};
    }
    assert_int_equal(rig->s->ops->submit(rig->s, 0, ops, n, &lsn), 0);
    rig_reap(rig, 0, dones, n);
}

/* Walks the range in pages and asserts keys first .. last of put_sequence. */
static void assert_scan(struct rig *rig, struct store_range range, unsigned first, unsigned last,
                        size_t cap, size_t bytes_max)
{
    struct wire_record items[SCAN_CAP];
    struct store_page page = {.items = items, .cap = cap};
    char name[8];
    unsigned i = first;

    do {
        struct slice cursor = slice_of(page.cursor, page.cursor_len);

        assert_int_equal(rig->s->ops->scan(rig->s, 0, range, cursor, bytes_max, &page), 0);
        assert_true(page.n <= cap && (page.n == 1 || page.bytes <= bytes_max));
        assert_true(!page.more || page.n > 0);
        for (size_t k = 0; k < page.n; k++, i++) {
            snprintf(name, sizeof(name), "%03u", i);
            assert_true(slice_equal(items[k].key.partition, slice_str(name)));
            assert_int_equal(items[k].state.version.hlc, i + 1);
            assert_int_equal(items[k].state.deleted, i % 10 == 9);
        }
    } while (page.more);
    assert_int_equal(i, last + 1);
    rig->s->ops->read_end(rig->s, 0);
}

static void scans_return_each_record_once_in_key_order(void **state)
{
    const uint64_t step = UINT64_MAX / 499;
    const struct store_range all = {0, UINT64_MAX};

    put_sequence(rig_of(state), 500, step);
    assert_scan(rig_of(state), all, 0, 499, SCAN_CAP, SIZE_MAX);
    assert_scan(rig_of(state), all, 0, 499, 7, SIZE_MAX);
    assert_scan(rig_of(state), all, 0, 499, 1, SIZE_MAX);
    assert_scan(rig_of(state), all, 0, 499, SCAN_CAP, 100); /* ten per page */
    assert_scan(rig_of(state), all, 0, 499, SCAN_CAP, 1);   /* at least one */
}

static void a_range_includes_both_ends_and_nothing_else(void **state)
{
    const uint64_t step = UINT64_MAX / 499;

    put_sequence(rig_of(state), 500, step);
    assert_scan(rig_of(state), (struct store_range){100 * step, 200 * step}, 100, 200, 9, 1000);
    assert_scan(rig_of(state), (struct store_range){100 * step + 1, 200 * step - 1}, 101, 199, 9,
                1000);
    assert_scan(rig_of(state), (struct store_range){499 * step, UINT64_MAX}, 499, 499, 9, 1000);
    assert_scan(rig_of(state), (struct store_range){0, 0}, 0, 0, 9, 1000);
    assert_scan(rig_of(state), (struct store_range){1, step - 1}, 1, 0, 9, 1000);
}

static void a_cursor_need_not_exist_any_more(void **state)
{
    struct rig *rig = rig_of(state);
    const uint64_t step = UINT64_MAX / 499;
    struct wire_record items[10];
    struct store_page page = {.items = items, .cap = 10};
    const struct store_range all = {0, UINT64_MAX};

    put_sequence(rig, 500, step);
    assert_int_equal(rig->s->ops->scan(rig->s, 0, all, (struct slice){0}, SIZE_MAX, &page), 0);
    rig->s->ops->read_end(rig->s, 0);
    rig_wipe(rig, 0, 20 * step);
    assert_int_equal(
        rig->s->ops->scan(rig->s, 0, all, slice_of(page.cursor, page.cursor_len), SIZE_MAX, &page),
        0);
    assert_true(slice_equal(items[0].key.partition, slice_str("021")));
    rig->s->ops->read_end(rig->s, 0);
}

/* ---- bulk --------------------------------------------------------------------------------- */

static void a_load_merges_and_a_wipe_leaves_no_tombstones(void **state)
{
    struct rig *rig = rig_of(state);
    const uint64_t step = UINT64_MAX / 499;
    static struct store_item items[600];
    static char names[600][8];
    struct store_info info;
    const struct store_range all = {0, UINT64_MAX};

    put_sequence(rig, 500, step);
    for (unsigned i = 0; i < 600; i++) {
        snprintf(names[i], sizeof(names[i]), "%03u", i);
        items[i] =
            (struct store_item){.token = i < 500 ? i * step : UINT64_MAX,
                                .key = rig_key(slice_str(names[i])),
                                .state = {.kind = STATE_LWW, .version = {.hlc = 250, .actor = 7}}};
    }
    assert_int_equal(rig_load(rig, items, 600), 0);
    assert_int_equal(rig->s->ops->vnode_info(rig->s, 0, all, &info), 0);
    assert_int_equal(info.n_records, 600);
    assert_int_equal(info.n_tombstones, 26); /* versions 250 (the same), 260, ... 500 stay */
    assert_int_equal(info.max_version.hlc, 500);
    rig->s->ops->read_end(rig->s, 0);
    rig_wipe(rig, 100 * step, UINT64_MAX);
    assert_int_equal(rig->s->ops->vnode_info(rig->s, 0, all, &info), 0);
    assert_int_equal(info.n_records, 100);
    assert_int_equal(rig_load(rig, items, 0), 0);
    rig_reopen(rig);
    assert_int_equal(rig->s->ops->vnode_info(rig->s, 0, all, &info), 0);
    assert_int_equal(info.n_records, 100);
    rig->s->ops->read_end(rig->s, 0);
}

/* More than fits one transaction of the real store. */
static void a_load_and_a_wipe_of_many_records_are_one_operation_each(void **state)
{
    struct rig *rig = rig_of(state);
    const unsigned n = 20000;
    struct store_item *items = calloc(n, sizeof(*items));
    char(*names)[8] = calloc(n, sizeof(*names));
    const struct store_range all = {0, UINT64_MAX};
    struct store_stats stats;
    struct store_info info;

    assert_true(items && names);
    for (unsigned i = 0; i < n; i++) {
        snprintf(names[i], sizeof(names[i]), "%05u", i);
        items[i] = (struct store_item){
            .token = i,
            .key = rig_key(slice_str(names[i])),
            .state = {.kind = STATE_LWW, .version = {.hlc = 1}, .value = slice_str(names[i])}};
    }
    assert_int_equal(rig_load(rig, items, n), 0);
    assert_int_equal(rig->s->ops->vnode_info(rig->s, 0, all, &info), 0);
    assert_int_equal(info.n_records, n);
    rig->s->ops->read_end(rig->s, 0);
    rig_wipe(rig, 1, n);
    assert_int_equal(rig->s->ops->vnode_info(rig->s, 0, all, &info), 0);
    assert_int_equal(info.n_records, 1);
    rig->s->ops->read_end(rig->s, 0);
    rig_reopen(rig);
    assert_int_equal(rig->s->ops->stats(rig->s, 0, &stats), 0);
    assert_int_equal(stats.n_records, 1);
    free(names);
    free(items);
}

static void info_and_leaves_are_sums_over_the_records(void **state)
{
    struct rig *rig = rig_of(state);
    const uint64_t step = UINT64_MAX / 499;
    const struct store_range range = {100 * step, 110 * step};
    const uint64_t shift = 64 - STORE_LEAF_BITS, first = range.first >> shift;
    const size_t n_leaves = (range.last >> shift) - first + 1;
    uint64_t *leaves = malloc(n_leaves * sizeof(*leaves)), expected, lsn;
    char name[8];
    struct store_info info;

    assert_non_null(leaves);
    put_sequence(rig, 500, step);
    assert_int_equal(rig->s->ops->vnode_info(rig->s, 0, range, &info), 0);
    assert_int_equal(info.n_records, 11);
    assert_int_equal(info.n_tombstones, 1);
    assert_int_equal(info.n_bytes, 11 * 3 + 10 * 7);
    assert_int_equal(info.max_version.hlc, 111);
    assert_int_equal(rig->s->ops->leaves(rig->s, 0, range, leaves, &lsn), 0);
    for (unsigned i = 100; i <= 110; i++) {
        struct state s = {.kind = STATE_LWW,
                          .deleted = i % 10 == 9,
                          .version = {.hlc = i + 1, .actor = 7},
                          .value = i % 10 == 9 ? (struct slice){0} : slice_str("1234567")};
        struct key key;

        snprintf(name, sizeof(name), "%03u", i);
        key = rig_key(slice_str(name));
        expected = merge_digest(&key, &s);
        assert_true(leaves[(i * step >> shift) - first] == expected); /* one record per leaf */
        leaves[(i * step >> shift) - first] = 0;
    }
    for (size_t i = 0; i < n_leaves; i++)
        assert_true(leaves[i] == 0);
    rig->s->ops->read_end(rig->s, 0);
    free(leaves);
}

/* A partition of so many as a range. */
static struct store_range partition_range(uint32_t partition, uint32_t n)
{
    uint64_t first = token_partition_first(partition, n);

    return (struct store_range){first, first + (UINT64_MAX >> __builtin_ctz(n))};
}

static void add_info(struct store_info *to, const struct store_info *more)
{
    to->n_records += more->n_records;
    to->n_tombstones += more->n_tombstones;
    to->n_bytes += more->n_bytes;
    if (version_compare(more->max_version, to->max_version) > 0)
        to->max_version = more->max_version;
}

/* Twice as many partitions: each half is a range of its own, with its counts, leaves and records,
 * and nothing is written for it. */
static void partitions_are_doubled_without_a_write(void **state)
{
    const size_t n_leaves = (size_t)1 << (STORE_LEAF_BITS - 3);
    struct rig *rig = rig_of(state);
    const struct store_ops *ops = rig->s->ops;
    uint64_t *whole = malloc(n_leaves * sizeof(*whole)),
             *halves = malloc(n_leaves * sizeof(*halves));
    struct store_stats before, after;
    struct store_info info, half;
    unsigned n = 0;
    uint64_t lsn;

    assert_true(whole && halves);
    put_sequence(rig, 500, UINT64_MAX / 499);
    assert_int_equal(ops->stats(rig->s, 0, &before), 0);
    for (uint32_t i = 0; i < 8; i++) {
        struct store_info sum = {0};

        assert_int_equal(ops->vnode_info(rig->s, 0, partition_range(i, 8), &info), 0);
        assert_int_equal(ops->leaves(rig->s, 0, partition_range(i, 8), whole, &lsn), 0);
        for (uint32_t k = 0; k < 2; k++) {
            struct store_range range = partition_range(2 * i + k, 16);

            assert_int_equal(ops->vnode_info(rig->s, 0, range, &half), 0);
            assert_int_equal(ops->leaves(rig->s, 0, range, halves + k * n_leaves / 2, &lsn), 0);
            assert_scan(rig, range, n, n + (unsigned)half.n_records - 1, 7, SIZE_MAX);
            n += (unsigned)half.n_records;
            add_info(&sum, &half);
        }
        assert_memory_equal(&sum, &info, sizeof(sum));
        assert_memory_equal(whole, halves, n_leaves * sizeof(*whole));
    }
    assert_int_equal(n, 500);
    assert_int_equal(ops->stats(rig->s, 0, &after), 0);
    assert_int_equal(after.n_ops, before.n_ops);
    assert_int_equal(after.n_syncs, before.n_syncs);
    ops->read_end(rig->s, 0);
    free(whole);
    free(halves);
}

/* ---- purges ------------------------------------------------------------------------------- */

static uint64_t n_purged(struct rig *rig)
{
    struct store_stats stats;

    assert_int_equal(rig->s->ops->stats(rig->s, 0, &stats), 0);
    return stats.n_purged;
}

/* Of records that the test knows to be alone in their leaves. */
static void assert_sums(struct rig *rig, uint64_t n_records, uint64_t n_tombstones)
{
    const struct store_range all = {0, UINT64_MAX};
    size_t n_leaves = (size_t)1 << STORE_LEAF_BITS, n = 0;
    uint64_t *leaves = malloc(n_leaves * sizeof(*leaves)), lsn;
    struct store_info info;

    assert_non_null(leaves);
    assert_int_equal(rig->s->ops->vnode_info(rig->s, 0, all, &info), 0);
    assert_int_equal(info.n_records, n_records);
    assert_int_equal(info.n_tombstones, n_tombstones);
    assert_int_equal(rig->s->ops->leaves(rig->s, 0, all, leaves, &lsn), 0);
    for (size_t i = 0; i < n_leaves; i++)
        n += leaves[i] != 0;
    assert_int_equal(n, n_records);
    rig->s->ops->read_end(rig->s, 0);
    free(leaves);
}

static void a_purge_takes_tombstones_at_or_below_its_floor(void **state)
{
    struct rig *rig = rig_of(state);

    rig_put(rig, "value", 3, "v");
    rig_delete(rig, "below", 4);
    rig_delete(rig, "at", 5);
    rig_delete(rig, "above", 6);
    rig_reopen(rig); /* to disk */
    rig_purge(rig, 0, UINT64_MAX, 5);
    assert_int_equal(n_purged(rig), 2);
    for (unsigned round = 0; round < 2; round++) {
        assert_int_equal(rig_get(rig, "below").kind, STATE_NONE);
        assert_int_equal(rig_get(rig, "at").kind, STATE_NONE);
        assert_true(rig_get(rig, "above").deleted);
        assert_state(rig_get(rig, "value"), 3, "v");
        assert_sums(rig, 2, 1);
        rig_reopen(rig);
    }
}

static void after_a_purge_the_floor_refuses_what_the_tombstone_hid(void **state)
{
    struct rig *rig = rig_of(state);

    rig_put(rig, "k", 3, "v");
    rig_delete(rig, "k", 5);
    rig_reopen(rig);
    rig_purge(rig, 0, UINT64_MAX, 5);
    assert_refused_by_floor(put_above(rig, "k", 3, 5), 5);
    rig_reopen(rig);
    assert_refused_by_floor(put_above(rig, "k", 4, 5), 5);
    assert_int_equal(rig_get(rig, "k").kind, STATE_NONE);
    rig->s->ops->read_end(rig->s, 0);
    assert_int_equal(put_above(rig, "k", 6, 5).outcome, OUTCOME_STORED);
    assert_state(rig_get(rig, "k"), 6, "late");
}

static void a_key_put_again_is_not_a_tombstone_any_more(void **state)
{
    struct rig *rig = rig_of(state);

    rig_delete(rig, "k", 5);
    rig_reopen(rig);
    rig_put(rig, "k", 6, "v"); /* with a log: in memory, over the tombstone on disk */
    rig_purge(rig, 0, UINT64_MAX, 9);
    assert_state(rig_get(rig, "k"), 6, "v");
    assert_sums(rig, 1, 0);
    rig_reopen(rig);
    assert_state(rig_get(rig, "k"), 6, "v");
    assert_sums(rig, 1, 0);
}

/* Twice as many as a wipe or a purge looks at in one transaction, every third one a tombstone. */
static void a_purge_of_many_records_takes_those_of_its_range(void **state)
{
    struct rig *rig = rig_of(state);
    const uint64_t shift = 64 - STORE_LEAF_BITS, first = 5000, last = 39999;
    const unsigned n = 45000;
    struct store_item *items = calloc(n, sizeof(*items));
    const struct store_range all = {0, UINT64_MAX};
    struct store_info info;
    uint64_t gone = 0;

    assert_non_null(items);
    for (unsigned i = 0; i < n; i++) {
        items[i] = (struct store_item){
            .token = (uint64_t)i << shift,
            .key = rig_key(slice_str("k")),
            .state = {.kind = STATE_LWW, .deleted = i % 3 == 0, .version = {.hlc = 1 + i % 2}}};
        gone += i % 6 == 0 && i >= first && i <= last;
    }
    assert_int_equal(rig_load(rig, items, n), 0);
    rig_reopen(rig);
    rig_purge(rig, first << shift, (last << shift) + (((uint64_t)1 << shift) - 1), 1);
    assert_int_equal(n_purged(rig), gone);
    assert_int_equal(rig->s->ops->vnode_info(rig->s, 0, all, &info), 0);
    assert_int_equal(info.n_records, n - gone);
    assert_int_equal(info.n_tombstones, n / 3 - gone);
    assert_sums(rig, n - gone, n / 3 - gone);
    rig_reopen(rig);
    assert_sums(rig, n - gone, n / 3 - gone);
    free(items);
}

static void a_queue_has_one_purge_at_a_time(void **state)
{
    struct rig *rig = rig_of(state);
    const struct store_range all = {0, UINT64_MAX};
    const struct store_ops *ops = rig->s->ops;
    struct store_done done;

    assert_int_equal(ops->purge(rig->s, 0, 1, all, 5), 0);
    assert_int_equal(ops->purge(rig->s, 0, 2, all, 5), -ERR_FULL);
    assert_int_equal(ops->purge(rig->s, 1, 3, all, 5), 0);
    rig_reap(rig, 1, &done, 1);
    assert_int_equal(done.cookie, 3);
    assert_int_equal(ops->purge(rig->s, 0, 4, all, 5), -ERR_FULL); /* until it is reaped */
    rig_reap(rig, 0, &done, 1);
    assert_int_equal(done.cookie, 1);
    assert_int_equal(ops->purge(rig->s, 0, 5, all, 5), 0);
    rig_reap(rig, 0, &done, 1);
    assert_int_equal(done.cookie, 5);
}

static void stats_count(void **state)
{
    struct rig *rig = rig_of(state);
    struct store_stats stats;

    rig_put(rig, "a", 1, "v");
    rig_put(rig, "b", 1, "v");
    rig_put(rig, "a", 2, "v");
    assert_int_equal(rig->s->ops->stats(rig->s, 0, &stats), 0);
    assert_int_equal(stats.n_records, 2);
    assert_int_equal(stats.n_ops, 3);
    assert_int_equal(stats.n_syncs, 3);
    assert_int_equal(stats.durable, 3);
    assert_false(stats.space_low);
}

/* ---- without room ------------------------------------------------------------------------- */

/* Until a put is refused. Only the real store has a map to fill: a small one, made anew. */
static void fill_up(struct rig *rig)
{
    static uint8_t bytes[100000];
    struct store_op op;
    char name[16];

    if (rig->engine == RIG_MEM) {
        store_mem_set_full(rig->s, true);
        return;
    }
    for (unsigned i = 0;; i++) {
        snprintf(name, sizeof(name), "fill %u", i);
        op = rig_merge_op(slice_str(name), 1, slice_of(bytes, sizeof(bytes)));
        if (rig_do(rig, &op).error != 0)
            break;
    }
}

static void without_room_only_what_would_be_stored_is_refused(void **state)
{
    struct rig *rig = rig_of(state);
    struct store_done done;
    enum rig_engine engine = rig->engine;

    rig_close(rig);
    rig_open(rig, engine, STORE_LMDB_MAP_MIN);
    rig_put(rig, "k", 5, "v");
    rig_delete(rig, "gone", 5);
    fill_up(rig);
    done = rig_put(rig, "k", 5, "v");
    assert_int_equal(done.error, 0);
    assert_int_equal(done.outcome, OUTCOME_DUPLICATE);
    assert_int_equal(done.version.hlc, 5);
    done = rig_put(rig, "gone", 4, "v");
    assert_int_equal(done.error, 0);
    assert_int_equal(done.outcome, OUTCOME_SUPERSEDED);
    assert_int_equal(done.version.hlc, 5);
    done = rig_put(rig, "k", 6, "w");
    assert_int_equal(done.error, -ERR_NO_SPACE);
    assert_int_equal(done.outcome, OUTCOME_NONE);
    assert_int_equal(done.version.hlc, 0);
    assert_int_equal(rig_put(rig, "new", 1, "v").error, -ERR_NO_SPACE);
    assert_refused_by_floor(put_above(rig, "new", 7, 7), 7);
    /* The first is not there, so the second is no duplicate of it. */
    assert_int_equal(rig_put(rig, "new", 1, "v").error, -ERR_NO_SPACE);
    assert_state(rig_get(rig, "k"), 5, "v");
    assert_int_equal(rig_get(rig, "new").kind, STATE_NONE);
    rig->s->ops->read_end(rig->s, 0);
    assert_int_equal(rig_delete(rig, "k", 6).outcome, OUTCOME_STORED);
}

/* ---- the table ---------------------------------------------------------------------------- */

struct named_case {
    const char *name;
    void (*run)(void **state);
};

#define CASE(f)                                                                                    \
    {                                                                                              \
#f, f                                                                                      \
    }

static const struct named_case cases[] = {
    CASE(a_put_is_read_back),
    CASE(the_same_version_again_is_a_duplicate),
    CASE(an_older_version_is_superseded_and_told_by_which),
    CASE(a_tombstone_is_a_state_like_any_other),
    CASE(operations_of_one_submit_take_effect_in_order),
    CASE(queues_share_one_order_and_keep_their_outcomes_apart),
    CASE(a_restart_loses_nothing),
    CASE(what_would_be_stored_at_or_below_its_floor_is_refused),
    CASE(what_is_there_or_newer_is_told_as_ever_below_a_floor),
    CASE(operations_of_one_submit_have_floors_of_their_own),
    CASE(keys_of_the_largest_size_and_any_bytes_work),
    CASE(partition_key_and_sort_key_are_not_run_together),
    CASE(values_of_no_bytes_and_of_8_mib_work),
    CASE(what_exceeds_a_limit_is_refused_whole),
    CASE(a_queue_that_does_not_reap_is_full_and_others_are_not),
    CASE(an_empty_queue_takes_more_than_the_bound_of_bytes),
    CASE(facts_are_set_replaced_and_survive),
    CASE(the_clock_bound_only_grows),
    CASE(a_read_sees_what_its_queue_has_reaped_in_the_same_wake_up),
    CASE(scans_return_each_record_once_in_key_order),
    CASE(a_range_includes_both_ends_and_nothing_else),
    CASE(a_cursor_need_not_exist_any_more),
    CASE(a_load_merges_and_a_wipe_leaves_no_tombstones),
    CASE(a_load_and_a_wipe_of_many_records_are_one_operation_each),
    CASE(info_and_leaves_are_sums_over_the_records),
    CASE(partitions_are_doubled_without_a_write),
    CASE(a_purge_takes_tombstones_at_or_below_its_floor),
    CASE(after_a_purge_the_floor_refuses_what_the_tombstone_hid),
    CASE(a_key_put_again_is_not_a_tombstone_any_more),
    CASE(a_purge_of_many_records_takes_those_of_its_range),
    CASE(a_queue_has_one_purge_at_a_time),
    CASE(stats_count),
    CASE(without_room_only_what_would_be_stored_is_refused),
};

static int set_up(void **state, enum rig_engine engine)
{
    struct rig *rig = malloc(sizeof(*rig));

    if (!rig)
        return -1;
    rig_open(rig, engine, RIG_MAP_BYTES);
    *state = rig;
    return 0;
}

static int set_up_mem(void **state)
{
    return set_up(state, RIG_MEM);
}

static int set_up_lmdb(void **state)
{
    return set_up(state, RIG_LMDB);
}

static int set_up_log(void **state)
{
    return set_up(state, RIG_LOG);
}

static int tear_down(void **state)
{
    rig_close(*state);
    free(*state);
    return 0;
}

int main(void)
{
    static const char *const engines[] = {"mem", "lmdb", "log"};
    static int (*const set_ups[])(void **) = {set_up_mem, set_up_lmdb, set_up_log};
    static struct CMUnitTest tests[RIG_ENGINES * ARRAY_LEN(cases)];
    static char names[RIG_ENGINES * ARRAY_LEN(cases)][128];

    for (size_t i = 0; i < ARRAY_LEN(tests); i++) {
        size_t engine = i % RIG_ENGINES, c = i / RIG_ENGINES;

        snprintf(names[i], sizeof(names[i]), "%s: %s", engines[engine], cases[c].name);
        tests[i] = (struct CMUnitTest){.name = names[i],
                                       .test_func = cases[c].run,
                                       .setup_func = set_ups[engine],
                                       .teardown_func = tear_down};
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
