/* test_latency: the recent 95th percentile against the whole truth. */
#include "server/base/prng.h"
#include "server/core/latency.h"
#include "tests/unit/test.h"

#include <stdlib.h>

static void add(struct latency *l, uint64_t now_ms, uint64_t took_ms, uint32_t times)
{
    for (uint32_t i = 0; i < times; i++)
        latency_add(l, now_ms, took_ms);
}

static void test_nothing_is_known_from_few_answers(void **state)
{
    struct latency l = {0};

    assert_int_equal(latency_p95_ms(&l), LATENCY_UNKNOWN);
    add(&l, 5, 3, LATENCY_COUNT_MIN - 1);
    assert_int_equal(latency_p95_ms(&l), LATENCY_UNKNOWN);
    add(&l, 5, 3, 1);
    assert_int_equal(latency_p95_ms(&l), 3);
}

static void test_one_in_twenty_may_take_longer(void **state)
{
    struct latency l = {0};

    for (uint32_t i = 0; i < 400; i++)
        latency_add(&l, 5, i % 25 == 0 ? 500 : 1);
    assert_int_equal(latency_p95_ms(&l), 1);
    for (uint32_t i = 0; i < 400; i++)
        latency_add(&l, 5, i % 10 == 0 ? 500 : 1);
    assert_in_range(latency_p95_ms(&l), 500, 625);
}

static void test_any_time_has_a_bucket(void **state)
{
    static const uint64_t times[] = {0, 1, 3, 4, 7, 8, 9, 4094, 4095, 4096, 1u << 31, UINT64_MAX};

    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        struct latency l = {0};
        uint64_t ms = times[i] < LATENCY_MS_MAX ? times[i] : LATENCY_MS_MAX;

        add(&l, 5, times[i], LATENCY_COUNT_MIN);
        assert_in_range(latency_p95_ms(&l), ms, ms + ms / 4);
    }
}

static void test_a_slow_hour_is_forgotten(void **state)
{
    struct latency l = {0};

    add(&l, 0, 800, 5000);
    assert_in_range(latency_p95_ms(&l), 800, 1000);
    add(&l, 1, 2, 5000); /* by newer answers */
    assert_int_equal(latency_p95_ms(&l), 2);
    add(&l, 2, 800, 5000);
    add(&l, 2 + 20 * LATENCY_HALF_MS, 1, 1); /* or by time, which makes it unknown */
    assert_int_equal(latency_p95_ms(&l), LATENCY_UNKNOWN);
}

static int compare(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

static void test_it_is_the_true_quantile_or_a_quarter_more(void **state)
{
    struct prng p;

    prng_init(&p, 7);
    for (int round = 0; round < 200; round++) {
        struct latency l = {0};
        uint32_t sorted[952], most = 1 + (uint32_t)prng_below(&p, 4000), truth;

        for (uint32_t i = 0; i < 952; i++) { /* fewer than are halved, and looked at just now */
            sorted[i] = (uint32_t)prng_below(&p, prng_below(&p, 10) ? most / 9 + 1 : most);
            latency_add(&l, 9, sorted[i]);
        }
        qsort(sorted, 952, sizeof sorted[0], compare);
        truth = sorted[952 - 1 - 952 / 20];
        assert_in_range(latency_p95_ms(&l), truth, truth + truth / 4);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_is_known_from_few_answers),
        cmocka_unit_test(test_one_in_twenty_may_take_longer),
        cmocka_unit_test(test_any_time_has_a_bucket),
        cmocka_unit_test(test_a_slow_hour_is_forgotten),
        cmocka_unit_test(test_it_is_the_true_quantile_or_a_quarter_more),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
