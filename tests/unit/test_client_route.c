/* From keys to owners, and addresses as text. */
#include "tests/unit/test.h"

#include <stdio.h>
#include <stdlib.h>

#include "client/address.h"
#include "client/route.h"

#define Q LIMIT_PARTITIONS_MIN
#define SLOTS 3u

struct fixture {
    struct wire_ring ring;
    struct wire_member members[4];
    uint32_t fence[Q], primary[Q], slot_member[Q * SLOTS], slot_state[Q * SLOTS];
    uint32_t voters[1], buckets[1];
    uint64_t slot_incarnation[Q * SLOTS];
    char names[4][8];
};

static void fill(struct fixture *f)
{
    uint32_t i;

    memset(f, 0, sizeof(*f));
    f->ring = (struct wire_ring){.epoch = 3,
                                 .n_partitions = Q,
                                 .n_replicas = 3,
                                 .n_slots = SLOTS,
                                 .next_incarnation = 1000,
                                 .n_members = 4,
                                 .n_voters = 1,
                                 .n_buckets = 1,
                                 .members = f->members,
                                 .voters = f->voters,
                                 .buckets = f->buckets,
                                 .fence = f->fence,
                                 .primary = f->primary,
                                 .slot_member = f->slot_member,
                                 .slot_incarnation = f->slot_incarnation,
                                 .slot_state = f->slot_state};
    f->ring.cluster_id.b[0] = 9;
    f->ring.space.seed = 42;
    f->buckets[0] = BUCKET_DEFAULT;
    for (i = 0; i < 4; i++) {
        snprintf(f->names[i], sizeof(f->names[i]), "n%u:1", i);
        f->members[i].id.b[0] = (uint8_t)(i + 1);
        f->members[i].name = slice_of(f->names[i], 2);
        f->members[i].client_address = f->members[i].peer_address = slice_str(f->names[i]);
        f->members[i].weight = 1;
    }
    for (i = 0; i < Q * SLOTS; i++) {
        f->fence[i / SLOTS] = 1;
        f->primary[i / SLOTS] = (i / SLOTS) % SLOTS;
        f->slot_member[i] = (i / SLOTS + i) % 4;
        f->slot_incarnation[i] = i + 1;
        f->slot_state[i] = SLOT_READY;
    }
}

static void test_owners_are_the_ready_slots_with_the_primary_first(void **state)
{
    struct route_owner owners[LIMIT_SLOTS_MAX];
    struct fixture f;
    struct route *route;

    (void)state;
    fill(&f);
    f.slot_state[5 * SLOTS + 0] = SLOT_JOINING;
    f.slot_incarnation[6 * SLOTS + 1] = 0;
    assert_int_equal(route_new(&f.ring, &route), 0);
    assert_int_equal(route_owners(route, 4, owners), 3);
    assert_true(owners[0].primary);
    assert_int_equal(owners[0].slot, 4 % SLOTS);
    assert_int_equal(owners[0].member, f.slot_member[4 * SLOTS + 4 % SLOTS]);
    assert_false(owners[1].primary);
    assert_int_equal(route_primary(route, 4), owners[0].member);
    assert_int_equal(route_owners(route, 5, owners), 2);
    assert_int_equal(route_owners(route, 6, owners), 2);
    route_free(route);
}

static void test_without_a_ready_primary_another_owner_takes_its_place(void **state)
{
    struct fixture f;
    struct route *route;

    (void)state;
    fill(&f);
    f.slot_state[4 * SLOTS + 4 % SLOTS] = SLOT_JOINING;
    assert_int_equal(route_new(&f.ring, &route), 0);
    assert_int_equal(route_primary(route, 4), f.slot_member[4 * SLOTS]);
    route_free(route);
    f.slot_incarnation[4 * SLOTS] = f.slot_incarnation[4 * SLOTS + 2] = 0;
    assert_int_equal(route_new(&f.ring, &route), 0);
    assert_int_equal(route_primary(route, 4), UINT32_MAX);
    route_free(route);
}

static void test_the_copy_outlives_what_it_was_made_from(void **state)
{
    struct fixture *f = malloc(sizeof(*f));
    struct route *route;

    (void)state;
    fill(f);
    assert_int_equal(route_new(&f->ring, &route), 0);
    memset(f, 0xee, sizeof(*f));
    free(f);
    assert_true(slice_equal(route_ring(route)->members[2].name, slice_str("n2")));
    assert_int_equal(route_ring(route)->epoch, 3);
    route_free(route);
}

static void test_a_key_without_a_bucket_is_of_the_default_one(void **state)
{
    struct key with = {.bucket = BUCKET_DEFAULT, .partition = slice_str("k")};
    struct key without = {.partition = slice_str("k")};
    struct fixture f;
    struct route *route;

    (void)state;
    fill(&f);
    assert_int_equal(route_new(&f.ring, &route), 0);
    assert_int_equal(route_token(route, &with), route_token(route, &without));
    assert_int_equal(route_token(route, &with),
                     token_of(&f.ring.space, BUCKET_DEFAULT, slice_str("k")));
    route_free(route);
}

static void test_rings_that_make_no_sense_are_refused(void **state)
{
    struct fixture f;
    struct route *route = NULL;

    (void)state;
    fill(&f);
    f.slot_member[7] = 4;
    assert_int_equal(route_new(&f.ring, &route), -ERR_BAD_REQUEST);
    fill(&f);
    f.primary[3] = SLOTS;
    assert_int_equal(route_new(&f.ring, &route), -ERR_BAD_REQUEST);
    fill(&f);
    f.ring.n_partitions = Q - 1;
    assert_int_equal(route_new(&f.ring, &route), -ERR_BAD_REQUEST);
    fill(&f);
    f.ring.n_members = 0;
    assert_int_equal(route_new(&f.ring, &route), -ERR_BAD_REQUEST);
    fill(&f);
    f.ring.epoch = 0;
    assert_int_equal(route_new(&f.ring, &route), -ERR_BAD_REQUEST);
    assert_null(route);
}

static void check_address(const char *text, const char *host, uint16_t port)
{
    struct address a;
    int r = address_parse(text, strlen(text), 7400, &a);

    if (!host) {
        assert_int_equal(r, -ERR_CONFIG);
        return;
    }
    assert_int_equal(r, 0);
    assert_string_equal(a.host, host);
    assert_int_equal(a.port, port);
}

static void test_addresses(void **state)
{
    (void)state;
    check_address("n1:7401", "n1", 7401);
    check_address("n1", "n1", 7400);
    check_address("10.0.0.1:1", "10.0.0.1", 1);
    check_address("[::1]:7401", "::1", 7401);
    check_address("[::1]", "::1", 7400);
    check_address("", NULL, 0);
    check_address(":7400", NULL, 0);
    check_address("n1:", NULL, 0);
    check_address("n1:0", NULL, 0);
    check_address("n1:65536", NULL, 0);
    check_address("n1:74x", NULL, 0);
    check_address("::1", NULL, 0);
    check_address("[::1", NULL, 0);
    check_address("[::1]x", NULL, 0);
    check_address("[]:1", NULL, 0);
    check_address("n 1:7400", NULL, 0);
}

static void test_address_lists(void **state)
{
    const char *cursor = "a:1, b:2 ,c", *entry;
    size_t len;

    (void)state;
    assert_int_equal(address_next(&cursor, &entry, &len), 1);
    assert_true(slice_equal(slice_of(entry, len), slice_str("a:1")));
    assert_int_equal(address_next(&cursor, &entry, &len), 1);
    assert_true(slice_equal(slice_of(entry, len), slice_str("b:2")));
    assert_int_equal(address_next(&cursor, &entry, &len), 1);
    assert_true(slice_equal(slice_of(entry, len), slice_str("c")));
    assert_int_equal(address_next(&cursor, &entry, &len), 0);
    cursor = "a:1,,b";
    assert_int_equal(address_next(&cursor, &entry, &len), 1);
    assert_int_equal(address_next(&cursor, &entry, &len), -ERR_CONFIG);
    cursor = "";
    assert_int_equal(address_next(&cursor, &entry, &len), -ERR_CONFIG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_owners_are_the_ready_slots_with_the_primary_first),
        cmocka_unit_test(test_without_a_ready_primary_another_owner_takes_its_place),
        cmocka_unit_test(test_the_copy_outlives_what_it_was_made_from),
        cmocka_unit_test(test_a_key_without_a_bucket_is_of_the_default_one),
        cmocka_unit_test(test_rings_that_make_no_sense_are_refused),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_address_lists),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
