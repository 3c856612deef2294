/* test_edge_meter: buckets and quantiles against the values themselves; what is counted when. */
#include "server/edge/meter.h"

#include "proto/err.h"
#include "test.h"

static void buckets_follow_each_other_without_gaps(void **state)
{
    for (uint32_t b = 0; b + 1 < METER_BUCKETS; b++) {
        uint64_t highest = meter_bucket_us(b);

        assert_int_equal(meter_bucket(highest), b);
        assert_int_equal(meter_bucket(highest + 1), b + 1);
    }
    assert_int_equal(meter_bucket(0), 0);
    assert_int_equal(meter_bucket_us(METER_BUCKETS - 1), (1u << METER_OCTAVES) - 1);
    assert_int_equal(meter_bucket(1u << METER_OCTAVES), METER_BUCKETS - 1);
    assert_int_equal(meter_bucket(UINT64_MAX), METER_BUCKETS - 1);
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

/* Never below the true one, and at most a quarter above. */
static void a_quantile_is_at_most_a_quarter_too_high(void **state)
{
    struct test_random random = {20261122};
    static const double shares[] = {0.01, 0.5, 0.9, 0.99, 0.999, 1};
    uint64_t values[1000];

    for (int round = 0; round < 50; round++) {
        uint64_t buckets[METER_BUCKETS] = {0};

        for (size_t i = 0; i < ARRAY_LEN(values); i++) {
            values[i] = test_random_below(&random, 1ull << test_random_below(&random, 27));
            buckets[meter_bucket(values[i])]++;
        }
        qsort(values, ARRAY_LEN(values), sizeof(values[0]), compare_u64);
        for (size_t i = 0; i < ARRAY_LEN(shares); i++) {
            size_t rank = (size_t)(shares[i] * (double)ARRAY_LEN(values) + 0.9999);
            uint64_t true_us = values[rank - 1], got = meter_quantile_us(buckets, shares[i]);

            assert_true(got >= true_us);
            assert_true(got <= true_us + true_us / 4);
        }
    }
}

static void of_nothing_there_is_no_quantile(void **state)
{
    const uint64_t buckets[METER_BUCKETS] = {0};

    assert_int_equal(meter_quantile_us(buckets, 0.99), 0);
}

static uint64_t timed(const struct meters *m, enum wire_op op)
{
    uint64_t n = 0;

    for (uint32_t b = 0; b < METER_BUCKETS; b++)
        n += meter_get(&m->took[op][b]);
    return n;
}

static void an_answer_counts_at_once_and_its_time_when_it_is_written(void **state)
{
    struct meters *m = calloc(1, sizeof(*m));
    uint64_t get = meter_tag(m, OP_GET), put = meter_tag(m, OP_PUT);

    assert_true(get != 0 && put != 0 && get != put);
    meter_answered(m, get, METER_NOT_FOUND);
    meter_answered(m, put, METER_OK);
    meter_answered(m, 0, METER_OK); /* of nobody's request */
    assert_int_equal(meter_get(&m->answers[OP_GET][METER_NOT_FOUND]), 1);
    assert_int_equal(meter_get(&m->answers[OP_PUT][METER_OK]), 1);
    assert_int_equal(meter_get(&m->answers[OP_GET][METER_OK]), 0);
    assert_int_equal(timed(m, OP_GET), 0);
    meter_flush(m);
    assert_int_equal(timed(m, OP_GET), 1);
    assert_int_equal(timed(m, OP_PUT), 1);
    meter_flush(m);
    assert_int_equal(timed(m, OP_PUT), 1);
    meter_refused(m, OP_PUT, METER_BAD_REQUEST);
    meter_flush(m);
    assert_int_equal(meter_get(&m->answers[OP_PUT][METER_BAD_REQUEST]), 1);
    assert_int_equal(timed(m, OP_PUT), 1);
    free(m);
}

static void a_wake_up_with_many_answers_takes_their_times_earlier(void **state)
{
    struct meters *m = calloc(1, sizeof(*m));

    for (uint32_t i = 0; i < 3 * METER_PENDING_MAX + 7; i++)
        meter_answered(m, meter_tag(m, OP_SCAN), METER_OK);
    assert_int_equal(timed(m, OP_SCAN), 3 * METER_PENDING_MAX);
    meter_flush(m);
    assert_int_equal(timed(m, OP_SCAN), 3 * METER_PENDING_MAX + 7);
    free(m);
}

static void every_error_has_an_outcome(void **state)
{
    assert_int_equal(meter_outcome_of(0), METER_OK);
    for (int code = 1; err_known(code); code++) {
        enum meter_outcome outcome = meter_outcome_of(-code);

        assert_int_equal(outcome, meter_outcome_of(code));
        assert_true(outcome > METER_NOT_FOUND && outcome < METER_OUTCOMES);
    }
    assert_int_equal(meter_outcome_of(-ERR_UNKNOWN_OUTCOME), METER_UNKNOWN);
    assert_int_equal(meter_outcome_of(ERR_NO_QUORUM), METER_NO_QUORUM);
    assert_int_equal(meter_outcome_of(ERR_VALUE_TOO_LARGE), METER_BAD_REQUEST);
    assert_int_equal(meter_outcome_of(12345), METER_ERROR);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(buckets_follow_each_other_without_gaps),
        cmocka_unit_test(a_quantile_is_at_most_a_quarter_too_high),
        cmocka_unit_test(of_nothing_there_is_no_quantile),
        cmocka_unit_test(an_answer_counts_at_once_and_its_time_when_it_is_written),
        cmocka_unit_test(a_wake_up_with_many_answers_takes_their_times_earlier),
        cmocka_unit_test(every_error_has_an_outcome),
    };
    return cmocka_run_group_tests_name("edge_meter", tests, NULL, NULL);
}
