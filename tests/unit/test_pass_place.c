/* Where the apply is in its walk around the ring, as bytes and as an answer. */
#include "test.h"

#include "proto/err.h"
#include "proto/token.h"
#include "storage/bytes.h"
#include "storage/pass_place.h"
#include "storage/zone.h"

static struct slice some(uint8_t out[PASS_PLACE_BYTES_MAX], struct pass_place *ret)
{
    *ret = (struct pass_place){.zone = 40, .n_owners = 2, .seq_of = {10, 20}};
    return pass_place_encode(ret, out);
}

static void what_is_written_is_read(void **state)
{
    struct pass_place p, back, full = {.zone = ZONES, .n_owners = LIMIT_WORKERS_MAX};
    uint8_t bytes[PASS_PLACE_BYTES_MAX];

    assert_int_equal(pass_place_decode(some(bytes, &p), &back), 0);
    assert_memory_equal(&p, &back, sizeof(p));
    full.seq_of[LIMIT_WORKERS_MAX - 1] = UINT64_MAX;
    assert_int_equal(pass_place_decode(pass_place_encode(&full, bytes), &back), 0);
    assert_memory_equal(&full, &back, sizeof(full));
}

static void what_makes_no_sense_is_refused(void **state)
{
    uint8_t bytes[PASS_PLACE_BYTES_MAX] = {0};
    struct pass_place p, back = {.zone = 77};
    struct slice good = some(bytes, &p);

    for (size_t len = 0; len < sizeof(bytes); len++)
        if (len != good.len)
            assert_int_equal(pass_place_decode(slice_of(bytes, len), &back), -ERR_CORRUPT);
    bytes_put_le(bytes, ZONES + 1, 4);
    assert_int_equal(pass_place_decode(good, &back), -ERR_CORRUPT);
    good = some(bytes, &p);
    bytes_put_le(bytes + 4, 0, 4);
    assert_int_equal(pass_place_decode(slice_of(bytes, 8), &back), -ERR_CORRUPT);
    bytes_put_le(bytes + 4, LIMIT_WORKERS_MAX + 1, 4);
    assert_int_equal(pass_place_decode(good, &back), -ERR_CORRUPT);
    assert_int_equal(back.zone, 77);
}

/* By the owner of its token, in zones that are done, in groups that the pass holds whole. */
static void only_what_the_pass_has_behind_it_is_behind(void **state)
{
    struct pass_place p, none = {0};
    uint8_t bytes[PASS_PLACE_BYTES_MAX];

    some(bytes, &p);
    for (uint32_t zone = 0; zone < 80; zone++) {
        uint64_t token = zone_range(zone).last;
        uint64_t seq = p.seq_of[token_worker(token, p.n_owners)];

        assert_int_equal(pass_place_is_behind(&p, token, seq), zone < 40);
        assert_int_equal(pass_place_is_behind(&p, token, 1), zone < 40);
        assert_false(pass_place_is_behind(&p, token, seq + 1));
        assert_false(pass_place_is_behind(&none, token, 0));
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(what_makes_no_sense_is_refused),
        cmocka_unit_test(only_what_the_pass_has_behind_it_is_behind),
    };

    return cmocka_run_group_tests_name("pass_place", tests, NULL, NULL);
}
