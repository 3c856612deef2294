/* test_merge: merging is idempotent, commutative and associative, in all orders; digests tell
 * states apart. */
#include <stdlib.h>

#include "proto/limits.h"
#include "storage/merge.h"
#include "tests/unit/test.h"

static struct state merge(struct state a, struct state b)
{
    return merge_states(&a, &b) == OUTCOME_STORED ? b : a;
}

static bool same(struct state a, struct state b)
{
    if (a.kind != b.kind || a.kind == STATE_NONE)
        return a.kind == b.kind;
    return a.deleted == b.deleted && version_compare(a.version, b.version) == 0 &&
           slice_equal(a.value, b.value);
}

/* A few versions only, so that equal ones meet; the content follows from the version. */
static struct state random_state(struct test_random *r)
{
    static const uint8_t bytes[32] = "merging is decided at one place";
    struct state s = {.kind = test_random_below(r, 8) ? STATE_LWW : STATE_NONE};

    s.version = (struct version){test_random_below(r, 4), test_random_below(r, 4)};
    s.deleted = (s.version.hlc + s.version.actor) % 3 == 0;
    if (!s.deleted)
        s.value = slice_of(bytes, s.version.hlc * 5 + s.version.actor);
    return s;
}

static void the_newer_version_wins_and_the_outcome_says_so(void **state)
{
    struct state none = {0};
    struct state a = {.kind = STATE_LWW, .version = {1, 9}};
    struct state b = {.kind = STATE_LWW, .version = {2, 0}};
    struct state c = {.kind = STATE_LWW, .version = {2, 1}, .deleted = true};

    assert_int_equal(merge_states(&none, &a), OUTCOME_STORED);
    assert_int_equal(merge_states(&a, &b), OUTCOME_STORED);
    assert_int_equal(merge_states(&b, &a), OUTCOME_SUPERSEDED);
    assert_int_equal(merge_states(&b, &c), OUTCOME_STORED); /* by actor; a tombstone is no less */
    assert_int_equal(merge_states(&c, &c), OUTCOME_DUPLICATE);
    assert_int_equal(merge_states(&a, &none), OUTCOME_DUPLICATE);
    assert_int_equal(merge_states(&none, &none), OUTCOME_DUPLICATE);
}

static void what_would_be_stored_at_or_below_a_floor_is_not(void **state)
{
    struct state none = {0};
    struct state a = {.kind = STATE_LWW, .version = {10, 9}};
    struct state b = {.kind = STATE_LWW, .version = {11, 1}, .deleted = true};
    const uint64_t below = 9, at = 10;
    struct version v;

    assert_int_equal(merge_above(&none, &a, &below, &v), OUTCOME_STORED);
    assert_int_equal(version_compare(v, a.version), 0);
    assert_int_equal(merge_above(&none, &a, NULL, &v), OUTCOME_STORED);
    assert_int_equal(merge_above(&none, &a, &at, &v), OUTCOME_SUPERSEDED_FLOOR);
    assert_int_equal(version_compare(v, (struct version){.hlc = 10}), 0); /* whatever the actor */
    assert_int_equal(merge_above(&a, &b, &at, &v), OUTCOME_STORED);
    assert_int_equal(merge_above(&b, &a, &at, &v), OUTCOME_SUPERSEDED);
    assert_int_equal(version_compare(v, b.version), 0); /* by what is there, which is no floor */
    assert_int_equal(merge_above(&a, &a, &at, &v), OUTCOME_DUPLICATE);
}

static void merging_is_a_semilattice(void **state)
{
    struct test_random random = {.s = 7};

    for (unsigned i = 0; i < 100000; i++) {
        struct state a = random_state(&random), b = random_state(&random),
                     c = random_state(&random);

        assert_true(same(merge(a, a), a));
        assert_true(same(merge(a, b), merge(b, a)));
        assert_true(same(merge(merge(a, b), c), merge(a, merge(b, c))));
        assert_true(same(merge(merge(a, b), b), merge(a, b)));
    }
}

static void merge_all_orders(struct state *states, unsigned n, unsigned k, struct state expected)
{
    struct state result = {0};

    if (k == n) {
        for (unsigned i = 0; i < n; i++)
            result = merge(result, states[i]);
        assert_true(same(result, expected));
        return;
    }
    for (unsigned i = k; i < n; i++) {
        struct state keep = states[k];

        states[k] = states[i];
        states[i] = keep;
        merge_all_orders(states, n, k + 1, expected);
        states[i] = states[k];
        states[k] = keep;
    }
}

static void six_states_merge_to_the_same_in_all_720_orders(void **state)
{
    struct test_random random = {.s = 8};

    for (unsigned round = 0; round < 50; round++) {
        struct state states[6], expected = {0};

        for (unsigned i = 0; i < 6; i++) {
            states[i] = random_state(&random);
            if (states[i].kind != STATE_NONE &&
                (expected.kind == STATE_NONE ||
                 version_compare(states[i].version, expected.version) > 0))
                expected = states[i];
        }
        merge_all_orders(states, 6, 0, expected);
    }
}

static void absent_has_digest_0_and_nothing_else_has(void **state)
{
    struct key key = {.bucket = 1, .partition = slice_of("k", 1)};
    struct state s = {0};

    assert_true(merge_digest(&key, &s) == 0);
    s.kind = STATE_LWW;
    assert_true(merge_digest(&key, &s) != 0);
}

static void the_digest_of_a_state_never_changes(void **state)
{
    struct key key = {.bucket = 1, .partition = slice_of("user", 4), .sort = slice_of("7", 1)};
    struct state s = {.kind = STATE_LWW,
                      .version = {0x0102030405060708u, 0x1112131415161718u},
                      .value = slice_of("value", 5)};
    static uint8_t large[5000];

    /* From another program's encoding: nodes of different builds compare these. */
    assert_true(merge_digest(&key, &s) == 0x16d3bf8a4e9fafd3ull);
    s.value = slice_of(large, sizeof(large));
    assert_true(merge_digest(&key, &s) == 0x37a272b5e7732a28ull);
}

static void every_part_of_a_state_counts(void **state)
{
    struct key k = {.bucket = 1, .partition = slice_of("ab", 2), .sort = slice_of("c", 1)};
    struct state s = {.kind = STATE_LWW, .version = {1, 2}, .value = slice_of("v", 1)};
    struct key other = k;
    struct state changed = s;
    uint64_t d = merge_digest(&k, &s);

    other.bucket = 2;
    assert_true(merge_digest(&other, &s) != d);
    other = (struct key){.bucket = 1, .partition = slice_of("a", 1), .sort = slice_of("bc", 2)};
    assert_true(merge_digest(&other, &s) != d);
    other = (struct key){.bucket = 1, .partition = slice_of("ab", 2)};
    changed.value = slice_of("cv", 2);
    assert_true(merge_digest(&other, &changed) != d);
    changed = s;
    changed.version.hlc = 3;
    assert_true(merge_digest(&k, &changed) != d);
    changed = s;
    changed.version.actor = 3;
    assert_true(merge_digest(&k, &changed) != d);
    changed = s;
    changed.deleted = true;
    assert_true(merge_digest(&k, &changed) != d);
    changed = s;
    changed.kind = 2;
    assert_true(merge_digest(&k, &changed) != d);
    changed = s;
    changed.value = slice_of("w", 1);
    assert_true(merge_digest(&k, &changed) != d);
}

/* One buffer or pieces: the digest must not depend on which, around the border and far beyond. */
static void values_of_all_sizes_have_their_own_digest(void **state)
{
    static uint8_t value[3000];
    struct key k = {.bucket = 1, .partition = slice_of("k", 1)};
    uint64_t seen[sizeof(value)];
    uint8_t *huge = calloc(1, LIMIT_VALUE_BYTES);
    struct state s = {.kind = STATE_LWW};

    for (size_t n = 0; n < sizeof(value); n++) {
        s.value = slice_of(value, n);
        seen[n] = merge_digest(&k, &s);
        for (size_t i = n > 40 ? n - 40 : 0; i < n; i++)
            assert_true(seen[i] != seen[n]);
    }
    assert_non_null(huge);
    s.value = slice_of(huge, LIMIT_VALUE_BYTES);
    seen[0] = merge_digest(&k, &s);
    huge[LIMIT_VALUE_BYTES - 1] = 1;
    assert_true(merge_digest(&k, &s) != seen[0]);
    free(huge);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_newer_version_wins_and_the_outcome_says_so),
        cmocka_unit_test(what_would_be_stored_at_or_below_a_floor_is_not),
        cmocka_unit_test(merging_is_a_semilattice),
        cmocka_unit_test(six_states_merge_to_the_same_in_all_720_orders),
        cmocka_unit_test(absent_has_digest_0_and_nothing_else_has),
        cmocka_unit_test(the_digest_of_a_state_never_changes),
        cmocka_unit_test(every_part_of_a_state_counts),
        cmocka_unit_test(values_of_all_sizes_have_their_own_digest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
