/* test_ring: what ring_new refuses, that it copies, and that lookups say what the wire said.
 *
 * The base of every case is a small ring that is right; a case breaks one thing. */
#include "server/core/ring.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define Q 64u
#define S 3u
#define M 4u

struct fixture {
    struct wire_ring wire;
    struct wire_member members[M];
    uint32_t voters[3], buckets[2], fence[Q], primary[Q], member[Q * S], state[Q * S];
    uint64_t incarnation[Q * S];
};

static void fill(struct fixture *f)
{
    static const char *names[M] = {"a", "b", "c", "d"};

    memset(f, 0, sizeof(*f));
    for (uint32_t i = 0; i < M; i++) {
        f->members[i] = (struct wire_member){.name = slice_str(names[i]),
                                             .client_address = slice_str("127.0.0.1:1"),
                                             .peer_address = slice_str("127.0.0.1:2"),
                                             .zone = slice_str(i < 2 ? "x" : ""),
                                             .weight = 1};
        /* descending, so that an index by id has something to sort */
        f->members[i].id.b[0] = (uint8_t)(200 - i);
    }
    for (uint32_t p = 0; p < Q; p++) {
        f->fence[p] = 1 + p % 3;
        f->primary[p] = p % S;
        for (uint32_t s = 0; s < S; s++) {
            f->member[p * S + s] = (p + s) % M;
            f->state[p * S + s] = SLOT_READY;
            f->incarnation[p * S + s] = 1 + p * S + s;
        }
    }
    f->voters[0] = 2;
    f->voters[1] = 0;
    f->voters[2] = 3;
    f->buckets[0] = 1;
    f->buckets[1] = 7;
    f->wire = (struct wire_ring){.epoch = 5,
                                 .cluster_id.b = {1},
                                 .space = {.seed = 3, .secret = {9}},
                                 .n_partitions = Q,
                                 .n_replicas = S,
                                 .n_slots = S,
                                 .next_incarnation = Q * S + 1,
                                 .n_members = M,
                                 .n_voters = 3,
                                 .n_buckets = 2,
                                 .members = f->members,
                                 .voters = f->voters,
                                 .buckets = f->buckets,
                                 .fence = f->fence,
                                 .primary = f->primary,
                                 .slot_member = f->member,
                                 .slot_incarnation = f->incarnation,
                                 .slot_state = f->state};
}

static int try_ring(const struct fixture *f)
{
    struct ring *ring = NULL;
    int r = ring_new(&f->wire, NULL, NULL, &ring);

    if (r < 0)
        assert_null(ring);
    ring_unref(ring);
    return r;
}

static uint32_t intern_ten(void *ctx, const struct wire_id *id)
{
    (void)ctx;
    return 10u * id->b[0];
}

static void lookups_say_what_the_wire_said(void **state)
{
    struct fixture f;
    struct ring *ring;
    struct ring_entry e;

    (void)state;
    fill(&f);
    f.state[5 * S + 1] = SLOT_JOINING;
    f.state[6 * S + 2] = SLOT_NONE;
    f.incarnation[6 * S + 2] = 0;
    f.primary[6] = 1;
    f.primary[5] = 2;
    assert_int_equal(ring_new(&f.wire, intern_ten, NULL, &ring), 0);
    assert_int_equal(ring_epoch(ring), 5);
    for (uint32_t p = 0; p < Q; p++) {
        ring_lookup(ring, p, &e);
        assert_int_equal(e.fence, f.fence[p]);
        assert_int_equal(e.primary, f.primary[p]);
        assert_int_equal(e.n_slots, S);
        assert_int_equal(e.n_ready, p == 5 || p == 6 ? S - 1 : S);
        for (uint32_t s = 0; s < S; s++) {
            assert_int_equal(e.slots[s].state, f.state[p * S + s]);
            if (e.slots[s].state == SLOT_NONE)
                continue;
            assert_int_equal(e.slots[s].member, f.member[p * S + s]);
            assert_int_equal(e.slots[s].incarnation, f.incarnation[p * S + s]);
            assert_int_equal(e.slots[s].node, 10 * f.members[e.slots[s].member].id.b[0]);
            assert_int_equal(e.slots[s].node, ring_member_node(ring, e.slots[s].member));
        }
    }
    ring_unref(ring);
}

static void a_ring_keeps_nothing_of_what_it_was_made_from(void **state)
{
    struct fixture *f = malloc(sizeof(*f)), copy;
    char *name = strdup("somebody");
    struct ring *ring;

    (void)state;
    fill(f);
    fill(&copy);
    f->members[1].name = slice_str(name);
    assert_int_equal(ring_new(&f->wire, NULL, NULL, &ring), 0);
    memset(name, 'z', strlen(name));
    free(name);
    memset(f, 0xee, sizeof(*f));
    free(f);
    const struct wire_ring *w = ring_wire(ring);
    assert_true(slice_equal(w->members[1].name, slice_str("somebody")));
    assert_true(slice_equal(w->members[0].zone, slice_str("x")));
    assert_memory_equal(w->slot_member, copy.member, sizeof(copy.member));
    assert_memory_equal(w->slot_incarnation, copy.incarnation, sizeof(copy.incarnation));
    assert_memory_equal(w->fence, copy.fence, sizeof(copy.fence));
    assert_memory_equal(w->voters, copy.voters, sizeof(copy.voters));
    assert_int_equal(w->space.seed, 3);
    ring_unref(ring);
}

static void members_are_found_by_id(void **state)
{
    struct wire_id absent = {.b = {123}}, below = {.b = {1}}, above = {.b = {255}};
    struct fixture f;
    struct ring *ring;

    (void)state;
    fill(&f);
    assert_int_equal(ring_new(&f.wire, NULL, NULL, &ring), 0);
    for (uint32_t i = 0; i < M; i++)
        assert_int_equal(ring_member_of(ring, &f.members[i].id), i);
    assert_int_equal(ring_member_of(ring, &absent), -1);
    assert_int_equal(ring_member_of(ring, &below), -1);
    assert_int_equal(ring_member_of(ring, &above), -1);
    ring_unref(ring);
}

static void buckets_are_known_or_not(void **state)
{
    struct fixture f;
    struct ring *ring;

    (void)state;
    fill(&f);
    assert_int_equal(ring_new(&f.wire, NULL, NULL, &ring), 0);
    for (uint32_t b = 0; b < 10; b++)
        assert_int_equal(ring_has_bucket(ring, b), b == 1 || b == 7);
    assert_false(ring_has_bucket(ring, UINT32_MAX));
    ring_unref(ring);
}

static void a_token_is_of_the_ring_s_space_and_its_top_bits_name_the_partition(void **state)
{
    struct key key = {.bucket = 1, .partition = slice_str("k"), .sort = slice_str("s")};
    struct fixture f;
    struct ring *ring;

    (void)state;
    fill(&f);
    assert_int_equal(ring_new(&f.wire, NULL, NULL, &ring), 0);
    assert_true(ring_token(ring, &key) == token_of(&f.wire.space, 1, key.partition));
    assert_int_equal(ring_partition(ring, 0), 0);
    assert_int_equal(ring_partition(ring, UINT64_MAX), Q - 1);
    for (uint32_t p = 0; p < Q; p++)
        assert_int_equal(ring_partition(ring, token_partition_first(p, Q)), p);
    ring_unref(ring);
}

/* ---- refusals ---------------------------------------------------------------------------- */

#define REFUSED(change)                                                                            \
    do {                                                                                           \
        struct fixture f;                                                                          \
        fill(&f);                                                                                  \
        assert_int_equal(try_ring(&f), 0);                                                         \
        change;                                                                                    \
        assert_int_equal(try_ring(&f), -ERR_BAD_REQUEST);                                          \
    } while (0)

static void counts_out_of_range_are_refused(void **state)
{
    (void)state;
    REFUSED(f.wire.epoch = 0);
    REFUSED(memset(&f.wire.cluster_id, 0, sizeof(f.wire.cluster_id)));
    REFUSED(f.wire.n_partitions = 0);
    REFUSED(f.wire.n_partitions = 63);
    REFUSED(f.wire.n_partitions = 32);
    REFUSED(f.wire.n_partitions = LIMIT_PARTITIONS_MAX * 2);
    REFUSED(f.wire.n_partitions = 1u << 31);
    REFUSED(f.wire.n_slots = 0);
    REFUSED(f.wire.n_slots = LIMIT_SLOTS_MAX + 1);
    REFUSED(f.wire.n_slots = UINT32_MAX);
    REFUSED(f.wire.n_replicas = 0);
    REFUSED(f.wire.n_replicas = LIMIT_REPLICAS_MAX + 1);
    REFUSED(f.wire.n_members = 0);
    REFUSED(f.wire.n_members = LIMIT_MEMBERS_MAX + 1);
    REFUSED(f.wire.n_members = SIZE_MAX);
    REFUSED(f.wire.n_voters = 0);
    REFUSED(f.wire.n_voters = LIMIT_VOTERS_MAX + 1);
    REFUSED(f.wire.n_buckets = 0);
    REFUSED(f.wire.n_buckets = LIMIT_BUCKETS_MAX + 1);
    REFUSED(f.wire.n_buckets = SIZE_MAX / 4);
}

static void a_ring_without_its_table_is_refused(void **state)
{
    (void)state;
    REFUSED(f.wire.members = NULL);
    REFUSED(f.wire.fence = NULL);
    REFUSED(f.wire.primary = NULL);
    REFUSED(f.wire.slot_member = NULL);
    REFUSED(f.wire.slot_incarnation = NULL);
    REFUSED(f.wire.slot_state = NULL);
}

static void members_that_cannot_be_told_apart_are_refused(void **state)
{
    (void)state;
    REFUSED(f.members[3].id = f.members[0].id);
    REFUSED(f.members[3].name = f.members[0].name);
    REFUSED(memset(&f.members[2].id, 0, WIRE_ID_BYTES));
}

static void texts_of_members_are_checked(void **state)
{
    static char longer[LIMIT_ADDRESS_BYTES + 2];

    (void)state;
    memset(longer, 'n', sizeof(longer));
    REFUSED(f.members[1].name = slice_str(""));
    REFUSED(f.members[1].name = slice_of(longer, LIMIT_NAME_BYTES + 1));
    REFUSED(f.members[1].zone = slice_of(longer, LIMIT_NAME_BYTES + 1));
    REFUSED(f.members[1].client_address = slice_of(longer, LIMIT_ADDRESS_BYTES + 1));
    REFUSED(f.members[1].peer_address = slice_of(longer, LIMIT_ADDRESS_BYTES + 1));
    REFUSED(f.members[1].name = slice_str("a\nb"));
    REFUSED(f.members[1].name = slice_of("a\0b", 3));
    REFUSED(f.members[1].zone = slice_str("\x7f"));
    REFUSED(f.members[1].name = slice_of(NULL, 3));
}

static void voters_and_buckets_are_checked(void **state)
{
    (void)state;
    REFUSED(f.voters[1] = M);
    REFUSED(f.voters[1] = f.voters[0]);
    REFUSED(f.buckets[0] = 0);
    REFUSED(f.buckets[1] = f.buckets[0]);
    REFUSED(f.buckets[0] = 9);
}

static void entries_that_break_a_rule_are_refused(void **state)
{
    (void)state;
    REFUSED(f.fence[Q - 1] = 0);
    REFUSED(f.primary[Q - 1] = S);
    REFUSED(f.primary[Q - 1] = UINT32_MAX);
    REFUSED(f.state[f.primary[9] + 9 * S] = SLOT_JOINING);
    REFUSED((f.state[f.primary[9] + 9 * S] = SLOT_NONE, f.incarnation[f.primary[9] + 9 * S] = 0));
    REFUSED(f.state[0] = SLOT_JOINING + 1);
    REFUSED(f.state[2] = SLOT_NONE);
    REFUSED(f.incarnation[2] = 0);
    REFUSED(f.incarnation[2] = f.incarnation[1]);
    REFUSED(f.incarnation[2] = f.wire.next_incarnation);
    REFUSED(f.member[2] = f.member[1]);
    REFUSED(f.member[2] = M);
    REFUSED(f.member[2] = UINT32_MAX);
    REFUSED(f.wire.n_replicas = S - 1);
}

static void a_slot_that_does_not_exist_may_hold_any_member_number(void **state)
{
    struct fixture f;
    struct ring *ring;
    struct ring_entry e;

    (void)state;
    fill(&f);
    f.state[2] = SLOT_NONE;
    f.incarnation[2] = 0;
    f.member[2] = UINT32_MAX;
    assert_int_equal(ring_new(&f.wire, NULL, NULL, &ring), 0);
    ring_lookup(ring, 0, &e);
    assert_int_equal(e.slots[2].state, SLOT_NONE);
    assert_int_equal(e.slots[2].incarnation, 0);
    ring_unref(ring);
}

static void *ref_and_unref(void *arg)
{
    struct ring *ring = arg;

    for (int i = 0; i < 100000; i++)
        ring_unref(ring_ref(ring));
    ring_unref(ring);
    return NULL;
}

static void references_are_counted_across_threads(void **state)
{
    struct fixture f;
    struct ring *ring;
    pthread_t threads[3];

    (void)state;
    ring_unref(NULL);
    assert_null(ring_ref(NULL));
    fill(&f);
    assert_int_equal(ring_new(&f.wire, NULL, NULL, &ring), 0);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, ref_and_unref, ring_ref(ring)), 0);
    ref_and_unref(ring);
    for (size_t i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lookups_say_what_the_wire_said),
        cmocka_unit_test(a_ring_keeps_nothing_of_what_it_was_made_from),
        cmocka_unit_test(members_are_found_by_id),
        cmocka_unit_test(buckets_are_known_or_not),
        cmocka_unit_test(a_token_is_of_the_ring_s_space_and_its_top_bits_name_the_partition),
        cmocka_unit_test(counts_out_of_range_are_refused),
        cmocka_unit_test(a_ring_without_its_table_is_refused),
        cmocka_unit_test(members_that_cannot_be_told_apart_are_refused),
        cmocka_unit_test(texts_of_members_are_checked),
        cmocka_unit_test(voters_and_buckets_are_checked),
        cmocka_unit_test(entries_that_break_a_rule_are_refused),
        cmocka_unit_test(a_slot_that_does_not_exist_may_hold_any_member_number),
        cmocka_unit_test(references_are_counted_across_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
