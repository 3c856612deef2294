/* test_floor_facts: purge floors as facts in a store.
 */
#include "server/core/floor_facts.h"
#include "tests/unit/cluster.h"

#include <stdlib.h>

#define N_NODES CLUSTER_NODES

static void put_fact(struct store *s, struct slice name, struct slice value)
{
    struct store_op op = {.type = STORE_OP_META, .name = name, .value = value};
    struct store_done done;
    uint64_t lsn;

    assert_int_equal(s->ops->submit(s, 0, &op, 1, &lsn), 0);
    store_mem_sync(s, UINT64_MAX);
    assert_int_equal(s->ops->reap(s, 0, &done, 1), 1);
    assert_int_equal(done.error, 0);
}

static void facts_are_named_by_partition_and_incarnation(void **state)
{
    char name[STORE_META_NAME_MAX + 1];

    assert_true(slice_equal(floor_fact_name(0x2a, 0x1234, name),
                            slice_str("floor/0002a/0000000000001234")));
    assert_true(floor_fact_name(LIMIT_PARTITIONS_MAX - 1, UINT64_MAX, name).len <=
                STORE_META_NAME_MAX);
}

static void facts_are_read_as_they_were_written(void **state)
{
    struct floor_fact fact = {.partition = 3, .incarnation = 9, .opened = 1, .closed = 2};
    char name[STORE_META_NAME_MAX + 1];
    uint8_t bytes[FLOOR_FACT_BYTES];
    struct cluster *c = cluster_new(NULL);
    struct store *s = c->stores[0];

    assert_int_equal(floor_fact_read(s, 0, &fact), 0);
    assert_true(fact.opened == 1 && fact.closed == 2);
    floor_fact_pack(0x0102030405060708u, 0xfffefdfcfbfaf9f8u, bytes);
    assert_memory_equal(bytes, "\1\2\3\4\5\6\7\10\377\376\375\374\373\372\371\370", 16);
    put_fact(s, floor_fact_name(3, 9, name), slice_of(bytes, sizeof(bytes)));
    fact = (struct floor_fact){.partition = 3, .incarnation = 9};
    assert_int_equal(floor_fact_read(s, 0, &fact), 1);
    assert_true(fact.opened == 0x0102030405060708u && fact.closed == 0xfffefdfcfbfaf9f8u);
    fact.incarnation = 8;
    assert_int_equal(floor_fact_read(s, 0, &fact), 0);
    cluster_free(c);
}

static void a_fact_of_another_length_is_corrupt(void **state)
{
    struct cluster *c = cluster_new(NULL);
    struct floor_facts facts;
    char name[STORE_META_NAME_MAX + 1];
    struct ring_entry entry;
    struct floor_fact fact = {.partition = 3};

    ring_lookup(c->ring, 3, &entry);
    fact.incarnation = entry.slots[ring_entry_slot(&entry, 0)].incarnation;
    for (size_t len = 0; len <= FLOOR_FACT_BYTES + 1; len++) {
        bool right = len == FLOOR_FACT_BYTES;

        put_fact(c->stores[0], floor_fact_name(3, fact.incarnation, name),
                 slice_of((const uint8_t *)"0123456789abcdefg", len));
        assert_int_equal(floor_fact_read(c->stores[0], 0, &fact), right ? 1 : -ERR_CORRUPT);
        assert_int_equal(floor_facts_read(c->stores[0], 0, c->ring, 0, 0, 1, &facts),
                         right ? 0 : -ERR_CORRUPT);
        floor_facts_free(&facts);
    }
    cluster_free(c);
}

/* Of the slots that a worker has, as what they are now. */
static void facts_of_own_slots_are_read(void **state)
{
    struct cluster *c = cluster_new(NULL);
    struct floor_facts facts;
    uint32_t n_first;

    for (uint32_t p = 0; p < 64; p++) {
        struct ring_entry entry;
        char name[STORE_META_NAME_MAX + 1];
        uint8_t bytes[FLOOR_FACT_BYTES];

        ring_lookup(c->ring, p, &entry);
        floor_fact_pack(p + 1, p, bytes);
        put_fact(c->stores[0],
                 floor_fact_name(p, entry.slots[ring_entry_slot(&entry, 0)].incarnation, name),
                 slice_of(bytes, sizeof(bytes)));
        if (p == 5)
            put_fact(c->stores[0], floor_fact_name(p, 1000, name), slice_of(bytes, sizeof(bytes)));
    }
    assert_int_equal(floor_facts_read(c->stores[0], 0, c->ring, 0, 0, 1, &facts), 0);
    assert_int_equal(facts.n, 64);
    for (uint32_t p = 0; p < 64; p++)
        assert_true(facts.list[p].partition == p && facts.list[p].opened == p + 1 &&
                    facts.list[p].closed == p);
    floor_facts_free(&facts);
    assert_int_equal(floor_facts_read(c->stores[0], 0, c->ring, 0, 0, 3, &facts), 0);
    n_first = (uint32_t)facts.n;
    assert_in_range(n_first, 1, 63);
    floor_facts_free(&facts);
    for (uint32_t slot = 0; slot < N_NODES; slot++) {
        struct ring_entry entry;

        ring_lookup(c->ring, 5, &entry);
        if (entry.slots[slot].node == 0)
            cluster_change_slot(c, 5, slot, SLOT_READY, 1000, entry.fence);
    }
    assert_int_equal(floor_facts_read(c->stores[0], 0, c->ring, 0, 0, 1, &facts), 0);
    assert_int_equal(facts.n, 64);
    assert_int_equal(facts.list[5].incarnation, 1000);
    floor_facts_free(&facts);
    cluster_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(facts_are_named_by_partition_and_incarnation),
        cmocka_unit_test(facts_are_read_as_they_were_written),
        cmocka_unit_test(a_fact_of_another_length_is_corrupt),
        cmocka_unit_test(facts_of_own_slots_are_read),
    };

    return cmocka_run_group_tests_name("floor_facts", tests, NULL, NULL);
}
