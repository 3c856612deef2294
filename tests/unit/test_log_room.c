/* test_log_room: what was admitted fits, whatever the order, sizes and stretches.
 */
#include <stdio.h>

#include "storage/log_group.h"
#include "storage/log_room.h"
#include "tests/unit/test.h"

#define STRETCHES_MAX 12u
#define LISTS_MAX 200u

struct world {
    struct log_room room;
    struct test_random random;
    uint64_t stretch[STRETCHES_MAX];
    size_t n_stretches, at; /* the one being filled, of which so much is left */
    size_t lists[LISTS_MAX];
    size_t first, n; /* admitted, not placed */
};

static uint64_t total(const struct world *w, uint64_t atom)
{
    struct log_room_sum sum = {0};

    for (size_t i = w->at; i < w->n_stretches; i++)
        log_room_add(&sum, atom, w->stretch[i]);
    return log_room_total(&sum);
}

static size_t some_bytes(struct world *w)
{
    size_t most = log_room_record_bytes(&w->room);

    switch (test_random_below(&w->random, 8)) {
    case 0:
        return most - test_random_below(&w->random, 3);
    case 1:
        return 1 + test_random_below(&w->random, 2 * most);
    case 2:
        return log_room_piece_bytes(&w->room) + test_random_below(&w->random, 3) - 1;
    default:
        return 1 + test_random_below(&w->random, 20000);
    }
}

static void admit_some(struct world *w)
{
    while (w->n < LISTS_MAX) {
        size_t bytes = some_bytes(w);

        if (w->room.charged + log_room_charge(&w->room, bytes) >
            total(w, log_room_atom(&w->room, bytes)))
            return;
        log_room_take(&w->room, bytes);
        w->lists[w->n++] = bytes;
    }
}

/* False: nowhere. */
static bool place(struct world *w, uint64_t atom)
{
    while (w->at < w->n_stretches && w->stretch[w->at] < atom)
        w->at++;
    if (w->at == w->n_stretches)
        return false;
    w->stretch[w->at] -= atom;
    return true;
}

/* A list of records of any sizes, cut as log_list_add cuts. Worst are those of which just no two
 * fit a piece. */
static bool place_list(struct world *w, size_t bytes)
{
    size_t piece = log_room_piece_bytes(&w->room), most = log_room_record_bytes(&w->room);
    uint64_t how = test_random_below(&w->random, 3);
    size_t gathered = 0;

    while (bytes > 0) {
        size_t record = how == 0   ? piece / 2 + 1
                        : how == 1 ? 1 + test_random_below(&w->random, most)
                                   : 1 + test_random_below(&w->random, 20000);

        record = record < bytes ? record : bytes;
        bytes -= record;
        if (gathered && gathered + record > piece) {
            if (!place(w, log_group_disk_bytes(gathered)))
                return false;
            gathered = 0;
        }
        gathered += record;
    }
    return place(w, log_group_disk_bytes(gathered));
}

static void run(uint64_t seed, uint32_t segment_bytes)
{
    struct world w = {.random = {.s = seed}};

    log_room_init(&w.room, segment_bytes);
    w.n_stretches = 1 + test_random_below(&w.random, STRETCHES_MAX - 1);
    for (size_t i = 0; i < w.n_stretches; i++)
        w.stretch[i] =
            LOG_BLOCK_BYTES * (1 + test_random_below(&w.random, segment_bytes / LOG_BLOCK_BYTES));
    for (unsigned round = 0; round < 20; round++) {
        size_t n = 1 + test_random_below(&w.random, 10);

        admit_some(&w);
        for (; n > 0 && w.first < w.n; n--) {
            if (!place_list(&w, w.lists[w.first]))
                fail_msg("seed %llu: list %zu of %zu bytes does not fit", (unsigned long long)seed,
                         w.first, w.lists[w.first]);
            log_room_give(&w.room, w.lists[w.first++]);
        }
        if (w.first == w.n)
            w.first = w.n = 0;
    }
    while (w.first < w.n) {
        assert_true(place_list(&w, w.lists[w.first]));
        log_room_give(&w.room, w.lists[w.first++]);
    }
    assert_int_equal(w.room.charged, 0);
}

static void what_is_admitted_fits(void **state)
{
    static const uint32_t sizes[] = {64u << 10, 1u << 20, 17u << 20, 64u << 20};

    for (uint64_t seed = 1; seed <= 20000; seed++)
        run(seed, sizes[seed % ARRAY_LEN(sizes)]);
}

/* One whole segment is enough for the largest record and the reserve, and is what the keeper makes.
 */
static void the_largest_record_fits_an_empty_segment(void **state)
{
    static const uint32_t sizes[] = {
        64u << 10, 128u << 10, 1u << 20, 8u << 20, (16u << 20) + (8u << 10),
        17u << 20, 64u << 20,  1u << 30};

    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct log_room r;

        log_room_init(&r, sizes[i]);
        assert_true(r.limits.segment_bytes_min <= sizes[i]);
        assert_true(log_room_charge(&r, log_room_record_bytes(&r)) + r.limits.reserve_bytes <=
                    r.limits.ahead_bytes);
        assert_true(r.limits.ahead_bytes <= r.limits.segment_bytes_min);
        assert_true(r.limits.atom_bytes <= r.limits.segment_bytes_min);
        if (sizes[i] >= 2 * LOG_RECORD_BYTES_MAX)
            assert_int_equal(log_room_record_bytes(&r),
                             LOG_RECORD_BYTES_MAX + LOG_RECORD_OVERHEAD_BYTES);
    }
}

static void a_charge_never_falls_with_the_bytes(void **state)
{
    struct log_room r;
    uint64_t before = 0;

    log_room_init(&r, 64u << 20);
    assert_int_equal(log_room_charge(&r, 0), 0);
    assert_int_equal(log_room_charge(&r, 1), LOG_BLOCK_BYTES);
    for (size_t bytes = 1; bytes < (5u << 20); bytes += 61) {
        uint64_t charge = log_room_charge(&r, bytes);

        assert_true(charge >= before && charge >= bytes + LOG_GROUP_HEADER_BYTES);
        assert_int_equal(charge % LOG_BLOCK_BYTES, 0);
        before = charge;
    }
}

static void the_largest_atom_is_forgotten_when_it_is_gone(void **state)
{
    struct log_room r;

    log_room_init(&r, 64u << 20);
    log_room_take(&r, 100);
    log_room_take(&r, 8u << 20);
    log_room_take(&r, 5000);
    assert_int_equal(log_room_atom(&r, 1), log_group_disk_bytes(8u << 20));
    log_room_give(&r, 8u << 20);
    assert_int_equal(log_room_atom(&r, 1), 8192);
    log_room_give(&r, 5000);
    log_room_give(&r, 100);
    assert_int_equal(log_room_atom(&r, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_admitted_fits),
        cmocka_unit_test(the_largest_record_fits_an_empty_segment),
        cmocka_unit_test(a_charge_never_falls_with_the_bytes),
        cmocka_unit_test(the_largest_atom_is_forgotten_when_it_is_gone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
