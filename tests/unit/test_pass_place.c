/* What of the log is on disk, as bytes and as an answer. */
#include "test.h"

#include "proto/err.h"
#include "storage/pass_place.h"

static struct pass_place some(void)
{
    struct pass_place p = {0};

    for (uint32_t zone = 0; zone < ZONES; zone++)
        pass_place_raise(&p, zone, zone < 40 ? 10 + zone : 0);
    pass_place_raise(&p, ZONES - 1, UINT64_MAX);
    return p;
}

static void what_is_written_is_read(void **state)
{
    struct pass_place p = some(), back;
    uint8_t bytes[PASS_PLACE_BYTES];

    assert_int_equal(pass_place_decode(pass_place_encode(&p, bytes), &back), 0);
    assert_memory_equal(&p, &back, sizeof(p));
}

static void what_is_too_short_or_too_long_is_refused(void **state)
{
    static const uint8_t bytes[PASS_PLACE_BYTES + 1];
    struct pass_place back = some(), before = back;

    for (size_t len = 0; len <= sizeof(bytes); len++)
        if (len != PASS_PLACE_BYTES)
            assert_int_equal(pass_place_decode(slice_of(bytes, len), &back), -ERR_CORRUPT);
    assert_memory_equal(&back, &before, sizeof(back));
}

static void a_number_never_falls(void **state)
{
    struct pass_place p = some();

    pass_place_raise(&p, 7, 16);
    assert_int_equal(p.seq_of[7], 17);
    pass_place_raise(&p, 7, 18);
    assert_int_equal(p.seq_of[7], 18);
    assert_int_equal(pass_place_last(&p), UINT64_MAX);
    p.seq_of[ZONES - 1] = 0;
    assert_int_equal(pass_place_last(&p), 49);
}

static void each_zone_is_behind_up_to_its_number(void **state)
{
    struct pass_place p = some();

    for (uint32_t zone = 0; zone < 80; zone++) {
        struct store_range range = zone_range(zone);

        for (uint64_t seq = 1; seq < 60; seq++) {
            assert_int_equal(pass_place_is_behind(&p, range.first, seq), seq <= p.seq_of[zone]);
            assert_int_equal(pass_place_is_behind(&p, range.last, seq), seq <= p.seq_of[zone]);
        }
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(what_is_too_short_or_too_long_is_refused),
        cmocka_unit_test(a_number_never_falls),
        cmocka_unit_test(each_zone_is_behind_up_to_its_number),
    };

    return cmocka_run_group_tests_name("pass_place", tests, NULL, NULL);
}
