/* slice, buf, blob, arena, and the check of keys built on them.
 */
#include "test.h"

#include "proto/err.h"
#include "proto/limits.h"
#include "proto/slice.h"
#include "proto/state.h"

#include <pthread.h>
#include <stdlib.h>

/* ---- slice ------------------------------------------------------------------------------- */

static void slices_order_by_unsigned_bytes_shorter_first(void **state)
{
    static const struct {
        const char *data;
        size_t len;
    } sorted[] = {{"", 0},  {"\0", 1}, {"\0\0", 2}, {"a", 1},    {"a\0", 2},  {"a\xff", 2},
                  {"b", 1}, {"ba", 2}, {"\x7f", 1}, {"\x80", 1}, {"\xff", 1}, {"\xff\0", 2}};

    for (size_t i = 0; i < ARRAY_LEN(sorted); i++) {
        for (size_t j = 0; j < ARRAY_LEN(sorted); j++) {
            struct slice a = slice_of(sorted[i].data, sorted[i].len);
            struct slice b = slice_of(sorted[j].data, sorted[j].len);
            assert_int_equal(slice_compare(a, b), i == j ? 0 : i < j ? -1 : 1);
            assert_int_equal(slice_equal(a, b), i == j);
        }
    }
}

static void empty_slices_may_have_no_address(void **state)
{
    struct slice none = {0};

    assert_true(slice_equal(none, slice_str("")));
    assert_int_equal(slice_compare(none, slice_str("")), 0);
    assert_int_equal(slice_compare(none, slice_str("a")), -1);
    assert_int_equal(slice_compare(slice_str("a"), none), 1);
}

/* ---- buf --------------------------------------------------------------------------------- */

static void buf_matches_a_plain_array(void **state)
{
    static uint8_t model[1 << 16];
    struct test_random random = {.s = 1};
    struct buf b;
    size_t n = 0;

    buf_init(&b);
    for (int i = 0; i < 20000; i++) {
        uint8_t chunk[300];
        size_t len = (size_t)test_random_below(&random, sizeof(chunk));
        for (size_t j = 0; j < len; j++)
            chunk[j] = (uint8_t)test_random_u64(&random);
        if (n + len <= sizeof(model)) {
            assert_int_equal(buf_append_slice(&b, slice_of(chunk, len)), 0);
            if (len)
                memcpy(model + n, chunk, len);
            n += len;
        }
        size_t drop = (size_t)test_random_below(&random, n + 1);
        if (i % 3 == 0) {
            buf_consume(&b, drop);
            memmove(model, model + drop, n - drop);
            n -= drop;
        }
        assert_int_equal(b.len, n);
        assert_true(b.cap >= b.len);
        if (n)
            assert_memory_equal(b.data, model, n);
    }
    buf_deinit(&b);
    assert_null(b.data);
    buf_deinit(&b);
    buf_deinit(NULL);
}

static void buf_refuses_impossible_sizes_and_stays(void **state)
{
    struct buf b;

    buf_init(&b);
    assert_int_equal(buf_append(&b, "abc", 3), 0);
    struct buf before = b;
    assert_int_equal(buf_reserve(&b, SIZE_MAX), -ERR_NO_MEMORY);
    assert_int_equal(buf_reserve(&b, SIZE_MAX - 2), -ERR_NO_MEMORY);
    assert_int_equal(buf_reserve(&b, SIZE_MAX / 2), -ERR_NO_MEMORY);
    assert_memory_equal(&b, &before, sizeof(b));
    assert_memory_equal(b.data, "abc", 3);
    assert_int_equal(buf_reserve(&b, 0), 0);
    assert_int_equal(buf_append(&b, NULL, 0), 0);
    buf_deinit(&b);
}

static void buf_grows_by_doubling(void **state)
{
    struct buf b;
    size_t n_grown = 0, cap = 0;

    buf_init(&b);
    for (size_t i = 0; i < 1u << 20; i++) {
        assert_int_equal(buf_append(&b, "x", 1), 0);
        if (b.cap != cap)
            n_grown++;
        cap = b.cap;
    }
    assert_true(n_grown <= 14);
    buf_deinit(&b);
}

/* ---- blob -------------------------------------------------------------------------------- */

static void blob_holds_a_copy(void **state)
{
    char bytes[] = "bytes";
    struct blob *b = blob_copy(slice_str(bytes));

    assert_non_null(b);
    bytes[0] = 'X';
    assert_true(slice_equal(blob_slice(b), slice_str("bytes")));
    assert_ptr_equal(blob_ref(b), b);
    blob_unref(b);
    assert_true(slice_equal(blob_slice(b), slice_str("bytes")));
    blob_unref(b);
    blob_unref(NULL);
    assert_null(blob_ref(NULL));
    assert_int_equal(blob_slice(NULL).len, 0);
    b = blob_copy((struct slice){0});
    assert_non_null(b);
    assert_int_equal(blob_slice(b).len, 0);
    blob_unref(b);
    assert_null(blob_new(SIZE_MAX));
}

static void *ref_and_unref(void *arg)
{
    for (int i = 0; i < 100000; i++) {
        blob_ref(arg);
        blob_unref(arg);
    }
    blob_unref(arg);
    return NULL;
}

static void blob_is_counted_across_threads(void **state)
{
    struct blob *b = blob_copy(slice_str("shared"));
    pthread_t threads[4];

    assert_non_null(b);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, ref_and_unref, blob_ref(b)), 0);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(atomic_load(&b->refs), 1);
    blob_unref(b);
}

/* ---- arena ------------------------------------------------------------------------------- */

static void arena_hands_out_aligned_distinct_memory(void **state)
{
    struct test_random random = {.s = 2};
    struct arena a;
    enum {
        N = 2000
    };
    static uint8_t *p[N];
    static size_t len[N];

    arena_init(&a, 64u << 20);
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < N; i++) {
            len[i] = (size_t)test_random_below(&random, i % 50 == 0 ? 60000 : 200);
            p[i] = arena_alloc(&a, len[i]);
            assert_non_null(p[i]);
            assert_int_equal((uintptr_t)p[i] % 16, 0);
            memset(p[i], (int)(i & 0xff), len[i]);
        }
        for (size_t i = 0; i < N; i++) {
            for (size_t j = 0; j < len[i]; j++)
                assert_int_equal(p[i][j], i & 0xff);
        }
        arena_reset(&a, 64u << 20);
        assert_int_equal(a.used, 0);
    }
    arena_deinit(&a);
    arena_deinit(NULL);
}

static void arena_stops_at_its_budget(void **state)
{
    struct arena a;
    size_t sum = 0;

    arena_init(&a, 1000);
    assert_null(arena_alloc(&a, 1001));
    assert_null(arena_alloc(&a, SIZE_MAX));
    assert_null(arena_alloc(&a, SIZE_MAX - 8));
    while (arena_alloc(&a, 48))
        sum += 48;
    assert_true(sum <= 1000 && sum > 1000 - 48);
    assert_true(a.used <= a.budget);
    assert_null(arena_alloc(&a, 48));
    assert_non_null(arena_alloc(&a, 1));
    arena_reset(&a, 0);
    assert_null(arena_alloc(&a, 1));
    arena_reset(&a, 16);
    assert_non_null(arena_alloc(&a, 0));
    assert_null(arena_alloc(&a, 0)); /* an empty allocation still is one */
    arena_deinit(&a);
}

static void arena_keeps_one_chunk_across_resets(void **state)
{
    struct arena a;

    arena_init(&a, 1u << 20);
    void *first = arena_alloc(&a, 100);
    for (int i = 0; i < 100; i++) {
        assert_non_null(arena_alloc(&a, 1000));
        assert_non_null(arena_alloc(&a, 9000));
        arena_reset(&a, 1u << 20);
    }
    void *again = arena_alloc(&a, 100);
    assert_non_null(first);
    assert_non_null(again);
    assert_non_null(a.head);
    arena_reset(&a, 1u << 20);
    void *chunk = a.head;
    assert_ptr_equal(arena_alloc(&a, 100), again);
    assert_ptr_equal(a.head, chunk);
    arena_deinit(&a);
}

/* ---- keys -------------------------------------------------------------------------------- */

static int check(size_t partition, size_t sort)
{
    static const uint8_t bytes[2 * LIMIT_KEY_BYTES];
    struct key key = {.bucket = 1, .partition = {bytes, partition}, .sort = {bytes, sort}};

    return key_check(&key);
}

static void keys_have_limits(void **state)
{
    assert_int_equal(check(0, 0), -ERR_KEY_EMPTY);
    assert_int_equal(check(0, 10), -ERR_KEY_EMPTY);
    assert_int_equal(check(1, 0), 0);
    assert_int_equal(check(LIMIT_KEY_BYTES, 0), 0);
    assert_int_equal(check(1, LIMIT_KEY_BYTES - 1), 0);
    assert_int_equal(check(LIMIT_KEY_BYTES + 1, 0), -ERR_KEY_TOO_LARGE);
    assert_int_equal(check(LIMIT_KEY_BYTES, 1), -ERR_KEY_TOO_LARGE);
    assert_int_equal(check(1, LIMIT_KEY_BYTES), -ERR_KEY_TOO_LARGE);
    assert_int_equal(check(SIZE_MAX, 2), -ERR_KEY_TOO_LARGE);
    assert_int_equal(check(2, SIZE_MAX), -ERR_KEY_TOO_LARGE);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(slices_order_by_unsigned_bytes_shorter_first),
        cmocka_unit_test(empty_slices_may_have_no_address),
        cmocka_unit_test(buf_matches_a_plain_array),
        cmocka_unit_test(buf_refuses_impossible_sizes_and_stays),
        cmocka_unit_test(buf_grows_by_doubling),
        cmocka_unit_test(blob_holds_a_copy),
        cmocka_unit_test(blob_is_counted_across_threads),
        cmocka_unit_test(arena_hands_out_aligned_distinct_memory),
        cmocka_unit_test(arena_stops_at_its_budget),
        cmocka_unit_test(arena_keeps_one_chunk_across_resets),
        cmocka_unit_test(keys_have_limits),
    };
    return cmocka_run_group_tests_name("slice", tests, NULL, NULL);
}
