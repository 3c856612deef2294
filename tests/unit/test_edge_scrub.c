/* How fast a scrub asks, over a store that only says what it is told to: the pause after each slice
 * is looked at, none is waited for. */
#include "tests/unit/test.h"

#include "server/edge/control.h"
#include <stdlib.h>

#define SLICE_RECORDS 100u

/* Every slice is one in the middle of a zone, in which nothing is wrong. */
static bool told_scrubbed(struct store *s, uint32_t queue, struct store_scrub *ret)
{
    *ret = (struct store_scrub){
        .next.after_len = 1, .n_records = SLICE_RECORDS, .n_bytes = SCRUB_SLICE_BYTES};
    return true;
}

static void told_read_end(struct store *s, uint32_t queue)
{
}

static const struct store_ops told_ops = {.scrubbed = told_scrubbed, .read_end = told_read_end};

struct rig {
    struct control control;
    struct node node;
    struct store store;
};

static void nothing(struct loop *l)
{
}

static const struct loop_hooks hooks = {nothing, nothing, nothing};

static struct rig *rig_new(uint64_t rate, uint64_t used_bytes)
{
    struct loop_limits limits = {60000, 60000, 60000};
    struct rig *r = calloc(1, sizeof(*r));

    assert_non_null(r);
    r->store.ops = &told_ops;
    r->node.store = &r->store;
    r->node.config.scrub_rate = rate;
    r->control.node = &r->node;
    r->control.load.store.used_bytes = used_bytes;
    log_init(&r->node.log, LOG_ERROR, 2);
    assert_int_equal(loop_init(&r->control.loop, 0, &hooks, &limits, &r->node.log), 0);
    scrub_start(&r->control.scrub, &r->control);
    return r;
}

static void rig_free(struct rig *r)
{
    scrub_stop(&r->control.scrub);
    loop_close_all(&r->control.loop);
    loop_run(&r->control.loop);
    loop_deinit(&r->control.loop);
    log_deinit(&r->node.log);
    free(r);
}

/* The outcome of a slice comes, as if the pause before it were over; the pause after it. */
static uint64_t pause_after_a_slice(struct rig *r)
{
    r->control.scrub.asked = true;
    scrub_woken(&r->control.scrub);
    return uv_timer_get_due_in(&r->control.scrub.timer);
}

static uint64_t pause_at(uint64_t rate)
{
    return scrub_pause_ms(
        SCRUB_SLICE_COST_BYTES + SCRUB_SLICE_BYTES + SLICE_RECORDS * SCRUB_RECORD_COST_BYTES, rate);
}

/* All of a store in a day, unless that is too much for its disk. */
static void a_round_takes_a_day(void **state)
{
    const uint64_t day_ms = (uint64_t)SCRUB_ROUND_S * 1000;
    const uint64_t sizes[] = {1u << 20, 1ull << 30, 64ull << 30};

    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        uint64_t slice = 100000, n = sizes[i] / slice + 1, rate = scrub_rate_of(sizes[i]);

        assert_in_range(n * scrub_pause_ms(slice, rate), day_ms * 9 / 10, day_ms * 11 / 10);
    }
    assert_int_equal(scrub_rate_of(UINT64_MAX), SCRUB_RATE_MAX);
    assert_true(scrub_pause_ms(0, UINT64_MAX) > 0);
}

static void the_pace_follows_the_store_within_a_round(void **state)
{
    struct rig *r = rig_new(CONFIG_SCRUB_RATE_AUTO, 0);
    const uint64_t grown = 20ull << 30, longest_ms = (uint64_t)SCRUB_ROUND_S * 1000 / STORE_ZONES;

    assert_int_equal(pause_after_a_slice(r), longest_ms);
    r->control.load.store.used_bytes = grown;
    assert_int_equal(pause_after_a_slice(r), pause_at(scrub_rate_of(grown)));
    assert_true(pause_at(scrub_rate_of(grown)) * 10 < longest_ms);
    assert_int_equal(r->control.scrub.n_rounds, 0);
    rig_free(r);
}

static void a_rate_that_was_set_holds_whatever_is_stored(void **state)
{
    struct rig *r = rig_new(5u << 20, 0);

    assert_int_equal(pause_after_a_slice(r), pause_at(5u << 20));
    r->control.load.store.used_bytes = 20ull << 30;
    assert_int_equal(pause_after_a_slice(r), pause_at(5u << 20));
    r->node.config.scrub_rate = 1000; /* slow: kept as well */
    assert_int_equal(pause_after_a_slice(r), pause_at(1000));
    rig_free(r);
}

static void without_a_rate_nothing_is_asked(void **state)
{
    struct rig *r = rig_new(0, 20ull << 30);

    assert_false(uv_is_active((const uv_handle_t *)&r->control.scrub.timer));
    scrub_woken(&r->control.scrub);
    assert_false(uv_is_active((const uv_handle_t *)&r->control.scrub.timer));
    rig_free(r);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_round_takes_a_day),
        cmocka_unit_test(the_pace_follows_the_store_within_a_round),
        cmocka_unit_test(a_rate_that_was_set_holds_whatever_is_stored),
        cmocka_unit_test(without_a_rate_nothing_is_asked),
    };
    return cmocka_run_group_tests_name("edge_scrub", tests, NULL, NULL);
}
