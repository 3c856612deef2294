/* test_admission: a queue that is served at a steady rate, and more comes than it can serve. */
#include "server/core/admission.h"
#include "tests/unit/test.h"

#include <stdlib.h>

#define QUEUE_MAX 8192u

/* First come, first served; who has waited longer than its patience is served for nothing. */
struct server {
    struct admission a;
    uint64_t begun_ms[QUEUE_MAX];
    uint32_t head, n;
    uint64_t now_ms, patience_ms;
    uint64_t n_good, n_late, n_refused, most_ms;
};

static void come(struct server *s, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (!admission_takes(&s->a, s->n)) {
            s->n_refused++;
            continue;
        }
        s->begun_ms[(s->head + s->n++) % QUEUE_MAX] = s->now_ms;
    }
}

static void serve(struct server *s, uint32_t n)
{
    for (uint32_t i = 0; i < n && s->n > 0; i++) {
        uint64_t begun_ms = s->begun_ms[s->head], took_ms = s->now_ms - begun_ms;

        if (took_ms > s->patience_ms)
            s->n_late++;
        else
            s->n_good++;
        s->most_ms = took_ms > s->most_ms ? took_ms : s->most_ms;
        admission_ended(&s->a, s->now_ms, begun_ms, s->patience_ms);
        s->head = (s->head + 1) % QUEUE_MAX;
        s->n--;
    }
}

static void run(struct server *s, uint32_t ms, uint32_t come_per_ms, uint32_t serve_per_ms)
{
    s->n_good = s->n_late = s->n_refused = s->most_ms = 0;
    for (uint32_t i = 0; i < ms; i++) {
        s->now_ms++;
        come(s, come_per_ms);
        serve(s, serve_per_ms);
    }
}

static struct server *begin(uint64_t patience_ms)
{
    static struct server s;

    s = (struct server){.now_ms = 1000, .patience_ms = patience_ms};
    admission_init(&s.a, QUEUE_MAX);
    return &s;
}

static void test_all_are_taken_while_they_are_done_in_time(void **state)
{
    struct server *s = begin(1000);

    come(s, ADMISSION_FIRST); /* a burst from nothing */
    assert_int_equal(s->n, ADMISSION_FIRST);
    run(s, 5000, 10, 50);
    run(s, 5000, 10, 10);
    assert_int_equal(s->n_refused + s->n_late, 0);
}

static void test_who_is_fast_gets_all_the_room_there_is(void **state)
{
    struct server *s = begin(1000);

    for (uint32_t i = 0; i < 1000; i++) { /* bursts of more and more */
        s->now_ms++;
        come(s, s->a.limit + 1);
        serve(s, QUEUE_MAX);
    }
    assert_int_equal(s->a.limit, QUEUE_MAX);
}

static void test_an_overloaded_server_goes_on_doing_what_it_can(void **state)
{
    static const uint32_t rates[] = {1, 2, 5, 10, 40}; /* per ms */
    static const uint64_t patience[] = {1000, 2000, 5000};

    for (size_t p = 0; p < 3; p++)
        for (size_t r = 0; r < 5; r++)
            for (uint32_t factor = 2; factor <= 8; factor *= 2) {
                struct server *s = begin(patience[p]);

                run(s, (uint32_t)patience[p] * 4, factor * rates[r], rates[r]); /* it learns */
                assert_true(s->n_late <= ADMISSION_FIRST);
                run(s, 10000, factor * rates[r], rates[r]);
                assert_int_equal(s->n_late, 0);
                assert_true(s->n_good >= 9900 * rates[r]);
                assert_true(s->most_ms <= patience[p] * 2 / 3);
            }
}

static void test_the_limit_comes_back_when_the_load_goes(void **state)
{
    struct server *s = begin(1000);

    run(s, 5000, 20, 2);
    assert_true(s->a.limit < 1000);
    run(s, 3000, 1, 2);   /* nobody is refused: no need to grow */
    run(s, 5000, 40, 39); /* the server is well again */
    assert_true(s->a.limit > 4000);
    assert_int_equal(s->n_late, 0); /* though it found its limit from below */
}

/* Who is in a hurry must not make the server small for all. */
static void test_short_patience_counts_for_little(void **state)
{
    struct server *s = begin(1000);

    for (uint32_t i = 0; i < 2000; i++) {
        s->now_ms++;
        admission_ended(&s->a, s->now_ms, s->now_ms - 60, 60);
    }
    assert_int_equal(s->a.limit, ADMISSION_FIRST);
}

/* A replica that hangs makes some late, always: those at level all. */
static void test_a_late_minority_changes_nothing(void **state)
{
    struct server *s = begin(1000);

    for (uint32_t i = 0; i < 2000; i++) {
        s->now_ms += i % 3 == 0;
        admission_ended(&s->a, s->now_ms, s->now_ms - (i % 3 ? 2 : 1000), 1000);
    }
    assert_int_equal(s->a.limit, ADMISSION_FIRST);
}

static void test_some_are_always_taken(void **state)
{
    struct server *s = begin(1000);

    for (uint32_t i = 0; i < 20000; i++) {
        s->now_ms += 10;
        admission_ended(&s->a, s->now_ms, s->now_ms, 1000); /* begun since the last change */
        admission_ended(&s->a, s->now_ms + 1000, s->now_ms, 1000);
        admission_ended(&s->a, s->now_ms + 1000, s->now_ms, 1000);
    }
    assert_int_equal(s->a.limit, ADMISSION_MIN);
    assert_true(admission_takes(&s->a, ADMISSION_MIN - 1));
    assert_false(admission_takes(&s->a, ADMISSION_MIN));
    admission_init(&s->a, 3); /* but no more than there is room for */
    assert_true(admission_takes(&s->a, 2));
    assert_false(admission_takes(&s->a, 3));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_are_taken_while_they_are_done_in_time),
        cmocka_unit_test(test_who_is_fast_gets_all_the_room_there_is),
        cmocka_unit_test(test_an_overloaded_server_goes_on_doing_what_it_can),
        cmocka_unit_test(test_the_limit_comes_back_when_the_load_goes),
        cmocka_unit_test(test_short_patience_counts_for_little),
        cmocka_unit_test(test_a_late_minority_changes_nothing),
        cmocka_unit_test(test_some_are_always_taken),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
