/* cold: when reads are handed to threads that may wait, and when they are taken back. */
#include "tests/unit/test.h"

#include "storage/cold.h"

static void warm_reads_are_never_deferred(void **state)
{
    struct cold c = {0};

    for (int i = 0; i < 10000; i++) {
        assert_false(cold_defers(&c));
        cold_note(&c, 1, i % 100 == 0); /* 1 %: a page now and then */
    }
    assert_false(c.on);
}

static void faults_at_once_make_it_cold(void **state)
{
    struct cold c = {0};

    cold_note(&c, 50, COLD_FAULTS_AT_ONCE - 1);
    assert_false(c.on);
    cold_note(&c, 50, COLD_FAULTS_AT_ONCE);
    assert_true(c.on);
}

/* One client that waits for each answer never meets two faults in one wake-up. */
static void a_share_of_faults_makes_it_cold(void **state)
{
    struct cold c = {0};
    unsigned n = 0;

    for (; !c.on; n++) {
        assert_in_range(n, 0, COLD_WINDOW_READS);
        cold_note(&c, 1, n % 10 == 0);
    }
    assert_in_range(n, 10 * COLD_WINDOW_FAULTS, 10 * COLD_WINDOW_FAULTS + 10);
}

/* Reads until it is warm again, each try with a fault that often per mille. Returns how many. */
static unsigned reads_until_warm(struct cold *c, unsigned faults_per_mille, unsigned max)
{
    unsigned n_tried = 0, n_faults = 0, n = 0;

    while (c->on && n < max) {
        n++;
        if (cold_defers(c)) {
            cold_note(c, 0, 0); /* made later: tells nothing */
            continue;
        }
        n_tried++;
        unsigned fault = n_tried * faults_per_mille / 1000 > n_faults;
        n_faults += fault;
        cold_note(c, 1, fault);
    }
    return n;
}

static void some_are_tried_and_end_it(void **state)
{
    struct cold c = {.on = true};

    assert_int_equal(reads_until_warm(&c, 0, 1u << 20), COLD_TRIES * COLD_TRY_ONE_IN);
    assert_false(c.on);
    c = (struct cold){.on = true};
    reads_until_warm(&c, 20, 1u << 20); /* 2 %: too many to end it */
    assert_true(c.on);
}

/* Pages that the pool has brought in and that are gone again when they are needed. */
static void faults_of_deferred_reads_keep_it_cold(void **state)
{
    struct cold c = {.on = true};

    for (unsigned i = 0; i < 100 * COLD_TRIES; i++) {
        cold_note(&c, 1, 0); /* no try meets one */
        if (i % 50 == 0)
            cold_note(&c, 0, 1);
    }
    assert_true(c.on);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(warm_reads_are_never_deferred),
        cmocka_unit_test(faults_at_once_make_it_cold),
        cmocka_unit_test(a_share_of_faults_makes_it_cold),
        cmocka_unit_test(some_are_tried_and_end_it),
        cmocka_unit_test(faults_of_deferred_reads_keep_it_cold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
