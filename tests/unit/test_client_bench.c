/* The parts of bench that can be wrong quietly: the histogram's error, the distributions,
 * assertions.
 */
#include "tests/unit/test.h"

#include <stdio.h>
#include <stdlib.h>

#include "client/bench_assert.h"
#include "client/bench_keys.h"
#include "client/histogram.h"
#include "proto/err.h"

#define N 20000

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

/* Values of every magnitude. */
static uint64_t random_value(struct bench_random *r)
{
    return bench_random_next(r) >> (bench_random_next(r) % 64);
}

static void test_a_quantile_is_at_most_one_part_in_128_above_the_true_one(void **state)
{
    static const double quantiles[] = {0, 0.001, 0.1, 0.5, 0.9, 0.99, 0.999, 1};
    static uint64_t values[N];
    struct histogram *h = calloc(1, sizeof(*h));
    struct bench_random r;
    uint64_t truth, got, rank;
    size_t round, i, n;

    (void)state;
    bench_random_init(&r, 11);
    for (round = 0; round < 50; round++) {
        memset(h, 0, sizeof(*h));
        n = 1 + bench_random_next(&r) % N;
        for (i = 0; i < n; i++) {
            values[i] = random_value(&r);
            histogram_add(h, values[i]);
        }
        qsort(values, n, sizeof(values[0]), compare);
        for (i = 0; i < sizeof(quantiles) / sizeof(quantiles[0]); i++) {
            rank = (uint64_t)(quantiles[i] * (double)n);
            rank += (double)rank < quantiles[i] * (double)n;
            truth = values[rank ? rank - 1 : 0];
            got = histogram_quantile(h, quantiles[i]);
            assert_true(got >= truth);
            assert_true(got - truth <= truth / 128);
        }
        assert_int_equal(h->count, n);
        assert_int_equal(h->max, values[n - 1]);
    }
    free(h);
}

static void test_the_ends_of_the_range_have_buckets(void **state)
{
    struct histogram *h = calloc(1, sizeof(*h));

    (void)state;
    assert_int_equal(histogram_quantile(h, 0.5), 0);
    histogram_add(h, UINT64_MAX);
    assert_int_equal(histogram_quantile(h, 0.5), UINT64_MAX);
    histogram_add(h, 0);
    assert_int_equal(histogram_quantile(h, 0.5), 0);
    free(h);
}

static void test_merged_histograms_equal_the_histogram_of_all(void **state)
{
    struct histogram *h = calloc(3, sizeof(*h));
    struct bench_random r;
    uint64_t v;
    int i;

    (void)state;
    bench_random_init(&r, 3);
    for (i = 0; i < N; i++) {
        v = random_value(&r);
        histogram_add(&h[i % 2], v);
        histogram_add(&h[2], v);
    }
    histogram_merge(&h[0], &h[1]);
    assert_memory_equal(&h[0], &h[2], sizeof(h[0]));
    free(h);
}

/* ---- keys -------------------------------------------------------------------------------- */

static void count_keys(enum bench_distribution d, uint64_t n, uint32_t *counts, int draws)
{
    struct bench_random r;
    struct bench_zipf z = {0};
    uint64_t key;

    bench_random_init(&r, 5);
    bench_zipf_init(&z, n);
    memset(counts, 0, n * sizeof(counts[0]));
    while (draws-- > 0) {
        key = bench_key_next(&r, d, &z, n);
        assert_true(key < n);
        counts[key]++;
    }
}

static void test_uniform_draws_every_key_about_equally(void **state)
{
    uint32_t counts[100];
    int i;

    (void)state;
    count_keys(BENCH_UNIFORM, 100, counts, 100000);
    for (i = 0; i < 100; i++)
        assert_in_range(counts[i], 850, 1150); /* 1000 +- 4.8 sigma */
}

static void test_zipf_ranks_follow_the_law(void **state)
{
    static uint32_t counts[1000];
    struct bench_random r;
    struct bench_zipf z;
    int i;

    (void)state;
    bench_random_init(&r, 5);
    bench_zipf_init(&z, 1000);
    memset(counts, 0, sizeof(counts));
    for (i = 0; i < 1000000; i++)
        counts[bench_zipf_rank(&z, bench_random_unit(&r))]++;
    /* the generator is exact for the first two ranks: 1/zeta and 2^-0.99/zeta */
    assert_in_range(counts[0], (uint32_t)(0.98e6 / z.zeta_n), (uint32_t)(1.02e6 / z.zeta_n));
    assert_in_range(counts[1], (uint32_t)(0.98e6 * z.half_power / z.zeta_n),
                    (uint32_t)(1.02e6 * z.half_power / z.zeta_n));
    assert_true(counts[9] > counts[99] && counts[99] > counts[999]);
    assert_in_range(counts[99], 800, 2200); /* about 1e6 / zeta / 100^0.99 = 1380 */
}

static void test_latest_prefers_the_newest_keys(void **state)
{
    static uint32_t counts[1000];

    (void)state;
    count_keys(BENCH_LATEST, 1000, counts, 100000);
    assert_true(counts[999] > counts[990] && counts[990] > counts[500]);
    assert_true(counts[999] > 10000);
}

static void test_tiny_key_spaces_work(void **state)
{
    uint32_t counts[3];
    uint64_t n;

    (void)state;
    for (n = 1; n <= 3; n++) {
        count_keys(BENCH_UNIFORM, n, counts, 1000);
        count_keys(BENCH_ZIPF, n, counts, 1000);
        count_keys(BENCH_LATEST, n, counts, 1000);
    }
}

static void test_keys_have_a_fixed_width(void **state)
{
    char text[BENCH_KEY_DIGITS + 1] = {0};

    (void)state;
    bench_key_write(text, 0);
    assert_string_equal(text, "000000000000");
    bench_key_write(text, 99999999);
    assert_string_equal(text, "000099999999");
}

/* ---- assertions -------------------------------------------------------------------------- */

static void test_assertions_hold_fail_or_make_no_sense(void **state)
{
    static const struct {
        const char *text;
        int expected;
    } cases[] = {
        {"p99_us<5000", 1},
        {"p99_us < 5000 , ops_per_s > 10000", 1},
        {"p99_us<=4000", 1},
        {"p99_us>=4000", 1},
        {"errors=0", 1},
        {"errors==0", 1},
        {"errors!=0", 0},
        {"p99_us<4000", 0},
        {"p99_us>4000", 0},
        {"reads.p99_us<10", 1},
        {"reads.p99_us<9", 0},
        {"p99_us<5000,errors>0", 0},
        {"error_codes.NO_QUORUM=0", 1},
        {"error_codes.OVERLOADED<5", 0},
        {"error_codes.NONSENSE=0", -ERR_CONFIG},
        {"writes.p99_us<5", -ERR_CONFIG},
        {"nothing<5", -ERR_CONFIG},
        {"reads<5", -ERR_CONFIG},
        {"reads.x<5", -ERR_CONFIG},
        {"", -ERR_CONFIG},
        {"p99_us", -ERR_CONFIG},
        {"p99_us<", -ERR_CONFIG},
        {"p99_us<x", -ERR_CONFIG},
        {"p99_us<5ms", -ERR_CONFIG},
        {"<5", -ERR_CONFIG},
        {"p99_us!5", -ERR_CONFIG},
        {"p99_us<5,,errors=0", -ERR_CONFIG},
    };
    json_t *result = json_loads("{\"p99_us\":4000.0,\"ops_per_s\":12345.6,\"errors\":0,"
                                "\"error_codes\":{\"OVERLOADED\":7},"
                                "\"reads\":{\"p99_us\":9.5}}",
                                0, NULL);
    char message[256];
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(bench_assert(cases[i].text, result, message, sizeof(message)),
                         cases[i].expected);
    assert_int_equal(bench_assert("ops<5,p50_us>=1", NULL, message, sizeof(message)), 1);
    assert_int_equal(bench_assert("ops<5,whatever>=1", NULL, message, sizeof(message)),
                     -ERR_CONFIG);
    assert_non_null(strstr(message, "'whatever'"));
    assert_int_equal(bench_assert("ops<5,x", NULL, message, sizeof(message)), -ERR_CONFIG);
    json_decref(result);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_quantile_is_at_most_one_part_in_128_above_the_true_one),
        cmocka_unit_test(test_the_ends_of_the_range_have_buckets),
        cmocka_unit_test(test_merged_histograms_equal_the_histogram_of_all),
        cmocka_unit_test(test_uniform_draws_every_key_about_equally),
        cmocka_unit_test(test_zipf_ranks_follow_the_law),
        cmocka_unit_test(test_latest_prefers_the_newest_keys),
        cmocka_unit_test(test_tiny_key_spaces_work),
        cmocka_unit_test(test_keys_have_a_fixed_width),
        cmocka_unit_test(test_assertions_hold_fail_or_make_no_sense),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
