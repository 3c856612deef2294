/* test_antientropy: replicas that compare what they hold, as a small cluster of real workers.
 *
 * What goes wrong in between belongs to the simulator; here is what must happen, and what it costs.
 */
#include "server/core/antientropy.h"
#include "server/core/heal.h"
#include "storage/merge.h"
#include "tests/unit/cluster.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define N_NODES CLUSTER_NODES
#define ROUND_MS CLUSTER_COMPARE_MS

/* ---- memory -------------------------------------------------------------------------------- */

static bool no_memory; /* for calloc */

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);

void *__wrap_malloc(size_t n)
{
    return __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return no_memory ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
    return __real_realloc(p, n);
}

static uint64_t pulled_by(struct cluster *c, uint32_t node)
{
    struct worker_repair_stats stats;

    worker_repair_stats(c->workers[node], &stats);
    return stats.n_pulled;
}

static uint32_t pairs_that_differ(struct cluster *c, uint32_t node)
{
    struct worker_repair_stats stats;

    worker_repair_stats(c->workers[node], &stats);
    return stats.n_pairs_differ;
}

/* ---- the tree ------------------------------------------------------------------------------ */

static void levels_stand_at_multiples_of_five_bits(void **state)
{
    assert_int_equal(tree_next_bits(6), 10);
    assert_int_equal(tree_n_parts(6), 16);
    assert_int_equal(tree_next_bits(10), 15);
    assert_int_equal(tree_n_parts(10), 32);
    assert_int_equal(tree_next_bits(14), 15);
    assert_int_equal(tree_n_parts(14), 2);
    assert_int_equal(tree_next_bits(15), TREE_LEAF_BITS);
    assert_int_equal(tree_n_leaves(14), 64);
}

static void parts_are_sums_of_their_leaves(void **state)
{
    static uint64_t leaves[1u << 10];
    uint64_t salt = 0x1234567887654321u, one;
    uint32_t parts[16];

    for (uint32_t i = 0; i < 1u << 10; i++)
        leaves[i] = (uint64_t)i * 0x9e3779b97f4a7c15u;
    tree_parts(leaves, 10, 0, salt, parts);
    for (uint32_t arc = 0; arc < 32; arc++) {
        one = 0;
        for (uint32_t i = 0; i < 32; i++)
            one ^= leaves[arc * 32 + i];
        assert_true(tree_part(parts, arc) == one * salt >> 48);
    }
    tree_parts(leaves, 15, 31, salt, parts);
    assert_true(tree_part(parts, 31) == leaves[1023] * salt >> 48);
}

/* ---- comparing ----------------------------------------------------------------------------- */

static void equals_cost_one_question_per_pair_and_round(void **state)
{
    struct cluster *c = cluster_new(NULL);

    for (uint32_t k = 0; k < 200; k++)
        for (uint32_t i = 0; i < N_NODES; i++)
            cluster_write_key(c, i, k, 60000, "same");
    cluster_start(c);
    cluster_pass(c, 1000);
    assert_int_equal(c->n_sent[PEER_COMPARE], 3 * 64); /* at once: all have just come */
    c->n_sent[PEER_COMPARE] = 0;
    cluster_pass(c, 4 * ROUND_MS);
    assert_in_range(c->n_sent[PEER_COMPARE], 4 * 3 * 64 - 30, 4 * 3 * 64);
    assert_int_equal(c->n_sent[PEER_PULL], 0);
    assert_true(c->n_bytes / (c->n_sent[PEER_COMPARE] + 3 * 64) < 200);
    cluster_free(c);
}

static void what_a_node_has_missed_is_there_soon_after_it_is_back(void **state)
{
    struct cluster *c = cluster_new(NULL);

    cluster_start(c);
    cluster_tell_links(c, 2, false);
    for (uint32_t k = 0; k < 3000; k++)
        for (uint32_t i = 0; i < 2; i++)
            cluster_write_key(c, i, k, 100, "missed"); /* young, but not on its way */
    cluster_pass(c, 1000);
    cluster_tell_links(c, 2, true);
    cluster_settle(c);
    cluster_pass(c, 2000);
    assert_true(cluster_is_equal(c));
    assert_int_equal(pulled_by(c, 2), 3000); /* each once, not from both */
    assert_int_equal(pulled_by(c, 0) + pulled_by(c, 1), 0);
    cluster_free(c);
}

#define MISSED 12u
/* A step that puts distant partitions one after the other; odd, so prime to their number. */
#define MISSED_STEP 37u

struct order {
    uint32_t asked[3 * 64], n_asked;   /* partitions that nodes 0 and 1 asked node 2 about */
    uint32_t pulled[3 * 64], n_pulled; /* that node 2 pulled from */
};

static enum cluster_fate note_order(struct cluster *c, uint32_t from, uint32_t to,
                                    const struct wire_peer *msg)
{
    struct order *o = c->ctx;

    if (msg->type == PEER_COMPARE && msg->u.compare.bits == 0 && to == 2 && o->n_asked < 3 * 64)
        o->asked[o->n_asked++] = msg->replica.partition;
    if (msg->type == PEER_PULL && from == 2 && o->n_pulled < 3 * 64)
        o->pulled[o->n_pulled++] = msg->replica.partition;
    return CLUSTER_CARRY;
}

static void put_into(struct cluster *c, uint32_t partition)
{
    struct wire_request r = {.op = OP_PUT, .value = slice_str("missed")};
    char text[32];

    r.key = cluster_key_in(c, partition, 0, text);
    cluster_request(c, 0, &r);
    cluster_await_answer(c);
    assert_int_equal(c->answer.error, 0);
}

/* The n-th last write was into this partition. */
static uint32_t missed_partition(uint32_t n)
{
    return (MISSED - 1 - n) * MISSED_STEP % 64;
}

static bool is_missed(uint32_t partition)
{
    for (uint32_t i = 0; i < MISSED; i++)
        if (missed_partition(i) == partition)
            return true;
    return false;
}

static void what_was_missed_last_comes_first(void **state)
{
    struct cluster *c = cluster_new(NULL);
    struct order order = {0};

    cluster_start(c);
    cluster_pass(c, 1000);
    cluster_tell_links(c, 2, false);
    for (uint32_t i = MISSED; i-- > 0;) {
        put_into(c, missed_partition(i));
        cluster_pass(c, 1000);
    }
    c->ctx = &order;
    c->fate = note_order;
    cluster_tell_links(c, 2, true);
    cluster_settle(c);
    cluster_pass(c, 2000);
    assert_true(cluster_is_equal(c));
    assert_int_equal(pulled_by(c, 2), MISSED);
    /* Before anything else, and of that what is newer first: two nodes offer it side by side, each
     * in its own order, so the first half comes out of the newer two thirds. */
    assert_true(order.n_asked >= 2 * MISSED && order.n_pulled >= MISSED / 2);
    for (uint32_t i = 0; i < 2 * MISSED; i++)
        assert_true(is_missed(order.asked[i]));
    for (uint32_t i = 0; i < MISSED / 2; i++) {
        uint32_t n = 0;

        while (n < MISSED * 2 / 3 && order.pulled[i] != missed_partition(n))
            n++;
        assert_true(n < MISSED * 2 / 3);
    }
    cluster_free(c);
}

static void both_sides_get_what_the_other_has_newer(void **state)
{
    struct cluster *c = cluster_new(NULL);

    for (uint32_t k = 0; k < 300; k++)
        for (uint32_t i = 0; i < N_NODES; i++) {
            bool newer = k % 3 == i;

            cluster_write_key(c, i, k, newer ? 20000 : 30000,
                              k % 2 && newer ? NULL
                              : newer        ? "b"
                                             : "a");
        }
    cluster_start(c);
    cluster_pass(c, 3 * ROUND_MS);
    assert_true(cluster_is_equal(c));
    for (uint32_t k = 0; k < 300; k += 2) {
        char text[32];

        cluster_assert_holds(c, (k + 1) % 3, cluster_key(k, text), "b");
    }
    cluster_free(c);
}

static void what_is_young_is_left_to_its_write(void **state)
{
    struct cluster *c = cluster_new(NULL);
    char text[32];

    cluster_start(c);
    cluster_pass(c, 1000);
    cluster_write_key(c, 0, 7, 0, "on its way");
    cluster_pass(c, 0);
    for (uint32_t ms = 0; ms < ANTIENTROPY_QUIET_MS - 20; ms += 20) {
        cluster_pass(c, 20);
        assert_int_equal(pulled_by(c, 1) + pulled_by(c, 2), 0);
    }
    cluster_pass(c, 2 * ROUND_MS);
    assert_int_equal(pulled_by(c, 1) + pulled_by(c, 2), 2);
    cluster_assert_holds(c, 1, cluster_key(7, text), "on its way");
    assert_true(cluster_is_equal(c));
    cluster_free(c);
}

/* A clock that was off must not keep its records from being repaired until then. */
static void what_is_of_the_future_is_not_young(void **state)
{
    struct cluster *c = cluster_new(NULL);

    cluster_start(c);
    cluster_pass(c, 1000);
    cluster_write_key(c, 0, 7, (uint64_t)0 - 3600000, "of tomorrow");
    cluster_pass(c, 2 * ROUND_MS);
    assert_true(cluster_is_equal(c));
    cluster_free(c);
}

static void a_leaf_may_be_larger_than_a_question(void **state)
{
    struct cluster *c = cluster_new(NULL);
    uint32_t n = 5 * LIMIT_PULL_KNOWN / 2;

    for (uint32_t k = 0; k < n; k++) {
        char sort[32];
        struct key key = {.bucket = BUCKET_DEFAULT, .partition = slice_str("one and the same")};

        snprintf(sort, sizeof(sort), "%08u", k);
        key.sort = slice_str(sort);
        if (k % 5 != 0)
            cluster_write_record(c, 0, key, 60000, slice_str("v"), false);
        if (k % 5 != 1)
            cluster_write_record(c, 1, key, 60000, slice_str("v"), false);
        if (k % 5 > 1)
            cluster_write_record(c, 2, key, 60000, slice_str("v"), false);
    }
    cluster_start(c);
    cluster_pass(c, 3 * ROUND_MS);
    assert_true(cluster_is_equal(c));
    assert_in_range(pulled_by(c, 2), 2 * n / 5, 2 * n / 5);
    cluster_free(c);
}

static void large_values_come_in_pieces_and_not_all_at_once(void **state)
{
    struct cluster *c = cluster_new(NULL);
    struct blob *value = blob_new(1u << 20);
    uint64_t n = 80; /* 80 MiB at 32 MiB/s */

    memset(value->data, 'v', value->len);
    for (uint32_t k = 0; k < n; k++) {
        char text[32];

        cluster_write_record(c, 0, cluster_key(k, text), 60000, blob_slice(value), false);
        cluster_write_record(c, 1, cluster_key(k, text), 60000, blob_slice(value), false);
    }
    cluster_start(c);
    cluster_pass(c, 1000);
    assert_in_range(pulled_by(c, 2), 8, 50);
    cluster_pass(c, 4000);
    assert_int_equal(pulled_by(c, 2), n);
    assert_true(cluster_is_equal(c));
    blob_unref(value);
    cluster_free(c);
}

/* What they cost is not the bytes of their values. */
static void many_small_records_come_no_faster(void **state)
{
    struct cluster *c = cluster_new(NULL);
    uint64_t n = 20000, per_ms = ANTIENTROPY_BYTES_PER_S / 1000 / ANTIENTROPY_RECORD_BYTES_MIN;

    for (uint32_t k = 0; k < n; k++)
        for (uint32_t i = 0; i < 2; i++)
            cluster_write_key(c, i, k, 60000, "v");
    cluster_start(c);
    cluster_pass(c, 100);
    /* A question of each session is under way when the share is used up. */
    assert_in_range(pulled_by(c, 2), 100, 100 * per_ms + ANTIENTROPY_SESSIONS * n / 64);
    cluster_pass(c, 1000);
    assert_int_equal(pulled_by(c, 2), n);
    assert_true(cluster_is_equal(c));
    cluster_free(c);
}

static void few_differences_cost_little_more_than_themselves(void **state)
{
    struct cluster *c = cluster_new(NULL);
    char value[101] = {0};
    uint64_t before;

    memset(value, 'v', 100);
    for (uint32_t k = 0; k < 60000; k++)
        for (uint32_t i = 0; i < N_NODES; i++)
            if (i != 2 || k % 100 != 0) /* one in a hundred, about nine per partition */
                cluster_write_key(c, i, k, 60000, value);
    before = c->n_bytes;
    cluster_start(c);
    cluster_pass(c, 2000);
    assert_true(cluster_is_equal(c));
    assert_int_equal(pulled_by(c, 2), 600);
    print_message("# %" PRIu64 " bytes for 600 records of 100: %" PRIu64 " questions, %" PRIu64
                  " pulls\n",
                  c->n_bytes - before, c->n_sent[PEER_COMPARE], c->n_sent[PEER_PULL]);
    assert_true(c->n_bytes - before < 4 * 600 * 109);
    cluster_free(c);
}

static void a_node_that_does_not_answer_holds_up_nobody(void **state)
{
    struct cluster *c = cluster_new(NULL);

    cluster_start(c);
    c->cut[1] = true; /* nobody knows */
    for (uint32_t k = 0; k < 200; k++)
        cluster_write_key(c, 0, k, 60000, "v");
    cluster_pass(c, 6 * ROUND_MS);
    assert_true(c->n_lost > 0);
    assert_int_equal(pulled_by(c, 2), 200);
    c->cut[1] = false;
    cluster_pass(c, 3 * ROUND_MS);
    assert_true(cluster_is_equal(c));
    cluster_free(c);
}

/* What they held is given up in a step that may have no room for it left. */
static void questions_that_time_out_wait_for_room(void **state)
{
    static struct effects out;
    struct cluster *c = cluster_new(NULL);
    struct worker *w = c->workers[0];
    uint32_t n, graves_n;

    c->cut[0] = true;
    cluster_start(c);
    n = w->antientropy->n_sessions;
    assert_true(n > 0);
    w->now_ms = c->now_ms + ANTIENTROPY_ANSWER_MS;
    out.n = 0;
    graves_n = w->graves_n;
    w->graves_n = WORKER_GRAVES_MAX;
    assert_false(antientropy_drain(w, &out));
    assert_int_equal(w->antientropy->n_sessions, n);
    w->graves_n = graves_n;
    assert_true(antientropy_drain(w, &out));
    assert_int_equal(w->antientropy->stats.n_failed, n);
    cluster_free(c);
}

/* ---- leaves that were wrong ----------------------------------------------------------------- */

static void tell_remade(struct cluster *c, uint32_t node, struct store_range range)
{
    struct event e = {.type = EVENT_REMADE, .u.remade.range = range};

    cluster_step(c, node, &e);
    cluster_settle(c);
}

static void what_was_remade_is_compared_with_the_other_slots(void **state)
{
    struct cluster *c = cluster_new(NULL);
    struct store_range all = {0, UINT64_MAX};

    for (uint32_t k = 0; k < 200; k++)
        for (uint32_t i = 0; i < N_NODES; i++)
            cluster_write_key(c, i, k, 60000, "same");
    cluster_start(c);
    cluster_pass(c, 2 * ROUND_MS);
    c->cut[1] = true; /* nothing is found equal meanwhile */
    tell_remade(c, 1, all);
    assert_int_equal(pairs_that_differ(c, 1), 64 * 2);
    c->cut[1] = false;
    cluster_pass(c, 3 * ROUND_MS);
    for (uint32_t i = 0; i < N_NODES; i++)
        assert_int_equal(pairs_that_differ(c, i), 0);
    assert_int_equal(pulled_by(c, 0) + pulled_by(c, 1) + pulled_by(c, 2), 0);
    cluster_free(c);
}

/* Leaves of a store are remade whoever its partitions belong to. */
static void what_was_remade_of_others_is_not_compared(void **state)
{
    struct cluster *c = cluster_new(NULL);
    struct store_range all = {0, UINT64_MAX};
    uint32_t n_own = 0;

    c->options.replicas = 2;
    cluster_make_ring(c, 1);
    for (uint32_t p = 0; p < 64; p++) {
        struct ring_entry entry;

        ring_lookup(c->ring, p, &entry);
        n_own += ring_entry_slot(&entry, 1) >= 0;
    }
    assert_in_range(n_own, 1, 63);
    cluster_start(c);
    cluster_pass(c, 2 * ROUND_MS);
    c->cut[1] = true;
    tell_remade(c, 1, all);
    assert_int_equal(pairs_that_differ(c, 1), n_own);
    c->cut[1] = false;
    cluster_pass(c, 3 * ROUND_MS);
    assert_int_equal(pairs_that_differ(c, 1), 0);
    cluster_free(c);
}

/* ---- healing ------------------------------------------------------------------------------- */

#define DAMAGED_KEY 7u
#define DAMAGED_NODE 1u

/* One key, on all three. */
static struct cluster *cluster_of_one_key(void)
{
    struct cluster *c = cluster_new(NULL);

    for (uint32_t i = 0; i < N_NODES; i++)
        cluster_write_key(c, i, DAMAGED_KEY, 60000, "v");
    return c;
}

static void damage(struct cluster *c, uint32_t number)
{
    char text[32];
    struct key key = cluster_key(number, text);

    assert_int_equal(store_mem_corrupt(c->stores[DAMAGED_NODE], ring_token(c->ring, &key), &key),
                     0);
}

static void tell_damaged(struct cluster *c, uint32_t number)
{
    char text[32];
    struct key key = cluster_key(number, text);
    uint8_t store_key[STORE_CURSOR_BYTES_MAX];
    struct event e = {.type = EVENT_DAMAGED};

    e.u.damaged.store_key =
        slice_of(store_key, store_cursor_encode(ring_token(c->ring, &key), &key, store_key));
    cluster_step(c, DAMAGED_NODE, &e);
    cluster_settle(c);
}

static void assert_healed(struct cluster *c, bool healed)
{
    struct worker_repair_stats stats;
    char text[32];

    worker_repair_stats(c->workers[DAMAGED_NODE], &stats);
    assert_int_equal(stats.n_healed, healed);
    assert_int_equal(stats.n_damaged, !healed);
    if (healed)
        cluster_assert_holds(c, DAMAGED_NODE, cluster_key(DAMAGED_KEY, text), "v");
}

/* Its leaf then looks as if there were nothing in it. */
static void a_damaged_record_alone_in_its_leaf_is_healed(void **state)
{
    struct cluster *c = cluster_of_one_key();

    damage(c, DAMAGED_KEY);
    cluster_start(c);
    cluster_pass(c, 2 * ROUND_MS);
    assert_healed(c, true);
    assert_true(cluster_is_equal(c));
    cluster_free(c);
}

/* As the scrub finds it: no comparison is needed. */
static void a_record_that_is_told_to_be_damaged_is_healed(void **state)
{
    struct cluster *c = cluster_of_one_key();
    uint64_t n_compared;

    cluster_start(c);
    cluster_pass(c, 1000);
    damage(c, DAMAGED_KEY);
    n_compared = c->n_sent[PEER_COMPARE];
    tell_damaged(c, DAMAGED_KEY);
    cluster_pass(c, 20);
    assert_healed(c, true);
    assert_true(cluster_is_equal(c));
    assert_int_equal(c->n_sent[PEER_COMPARE], n_compared);
    cluster_free(c);
}

/* Of two slots there is no majority without the damaged one; nor of three while one is away. */
static void nothing_is_healed_by_a_minority(void **state)
{
    struct cluster *c = cluster_of_one_key();

    cluster_start(c);
    cluster_tell_links(c, 2, false);
    damage(c, DAMAGED_KEY);
    cluster_pass(c, 5 * ROUND_MS);
    assert_healed(c, false);
    cluster_tell_links(c, 2, true);
    cluster_pass(c, HEAL_AGAIN_MAX_MS);
    assert_healed(c, true);
    cluster_free(c);
}

/* Those that find no room are met again: by a comparison, here. */
static void few_records_are_healed_at_a_time(void **state)
{
    struct cluster *c = cluster_new(NULL);
    struct worker_repair_stats stats;

    for (uint32_t k = 0; k < HEAL_MAX + 4; k++)
        for (uint32_t i = 0; i < N_NODES; i++)
            cluster_write_key(c, i, k, 60000, "v");
    cluster_start(c);
    cluster_tell_links(c, 2, false);
    for (uint32_t k = 0; k < HEAL_MAX + 4; k++) {
        damage(c, k);
        tell_damaged(c, k);
    }
    worker_repair_stats(c->workers[DAMAGED_NODE], &stats);
    assert_int_equal(stats.n_damaged, HEAL_MAX);
    assert_int_equal(stats.n_heals_refused, 4);
    assert_int_equal(stats.n_healed, 0);
    cluster_tell_links(c, 2, true);
    cluster_pass(c, HEAL_AGAIN_MAX_MS);
    worker_repair_stats(c->workers[DAMAGED_NODE], &stats);
    assert_int_equal(stats.n_damaged, 0);
    assert_int_equal(stats.n_healed, HEAL_MAX + 4);
    assert_true(cluster_is_equal(c));
    cluster_free(c);
}

/* ---- other rings --------------------------------------------------------------------------- */

/* What partitions and leaves were called before the ring changed means nothing afterwards. */
static void partitions_may_be_split_in_the_middle_of_it(void **state)
{
    struct cluster *c = cluster_new(NULL);

    for (uint32_t k = 0; k < 2000; k++)
        for (uint32_t i = 0; i < N_NODES; i++)
            if (k % 7 != i)
                cluster_write_key(c, i, k, 60000, "v");
    for (uint32_t i = 0; i < N_NODES; i++)
        cluster_publish(c, i);
    for (uint32_t i = 0; i < N_NODES; i++)
        cluster_tell_link(c, i, (i + 1) % N_NODES, true);
    for (uint32_t n = 0; n < 20; n++) /* some of the way */
        cluster_deliver(c);
    c->options.n_partitions = 256;
    cluster_make_ring(c, 2);
    for (uint32_t i = 0; i < N_NODES; i++)
        cluster_publish(c, i);
    cluster_start(c);
    cluster_pass(c, 3 * ROUND_MS);
    assert_true(cluster_is_equal(c));
    cluster_free(c);
}

static void what_found_no_memory_is_made_with_the_next_ring(void **state)
{
    struct cluster *c = cluster_new(NULL);

    for (uint32_t k = 0; k < 200; k++)
        cluster_write_key(c, 0, k, 60000, "v");
    no_memory = true;
    for (uint32_t i = 0; i < N_NODES; i++)
        cluster_publish(c, i);
    no_memory = false;
    cluster_make_ring(c, 2); /* of the same shape */
    cluster_start(c);
    cluster_pass(c, 3 * ROUND_MS);
    assert_true(cluster_is_equal(c));
    cluster_free(c);
}

/* Partitions are split while this kind of read is under way for another node. */
struct split {
    enum effect_type at; /* 0: it is done */
};

static void split_partitions(struct cluster *c, uint32_t node, enum effect_type type,
                             uint64_t cookie)
{
    struct split *split = c->ctx;

    if (type != split->at || (cookie & ANTIENTROPY_COOKIE))
        return;
    split->at = 0;
    c->options.n_partitions = 256;
    cluster_make_ring(c, 2);
    cluster_publish(c, node);
}

/* An answer made of two rings would name leaves that the asker does not have. */
static void assert_not_answered_across_a_split(enum effect_type split_at,
                                               enum wire_peer_type answer)
{
    struct split split = {.at = split_at};
    struct cluster *c = cluster_new(NULL);

    for (uint32_t k = 0; k < 2000; k++)
        for (uint32_t i = 0; i < N_NODES; i++)
            if (k % 7 != i)
                cluster_write_key(c, i, k, 60000, "v");
    c->on_read = split_partitions;
    c->ctx = &split;
    cluster_start(c);
    assert_int_equal(split.at, 0);
    assert_int_equal(c->refusals[answer], ERR_NOT_OWNER);
    for (uint32_t i = 0; i < N_NODES; i++)
        cluster_publish(c, i);
    cluster_pass(c, 3 * ROUND_MS);
    assert_true(cluster_is_equal(c));
    cluster_free(c);
}

static void what_was_compared_across_a_split_is_not_answered(void **state)
{
    assert_not_answered_across_a_split(EFFECT_LEAVES, PEER_COMPARE_REPLY);
}

static void what_was_pulled_across_a_split_is_not_answered(void **state)
{
    assert_not_answered_across_a_split(EFFECT_SCAN, PEER_PULL_REPLY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(levels_stand_at_multiples_of_five_bits),
        cmocka_unit_test(parts_are_sums_of_their_leaves),
        cmocka_unit_test(equals_cost_one_question_per_pair_and_round),
        cmocka_unit_test(what_a_node_has_missed_is_there_soon_after_it_is_back),
        cmocka_unit_test(what_was_missed_last_comes_first),
        cmocka_unit_test(both_sides_get_what_the_other_has_newer),
        cmocka_unit_test(what_is_young_is_left_to_its_write),
        cmocka_unit_test(what_is_of_the_future_is_not_young),
        cmocka_unit_test(a_leaf_may_be_larger_than_a_question),
        cmocka_unit_test(large_values_come_in_pieces_and_not_all_at_once),
        cmocka_unit_test(many_small_records_come_no_faster),
        cmocka_unit_test(few_differences_cost_little_more_than_themselves),
        cmocka_unit_test(a_node_that_does_not_answer_holds_up_nobody),
        cmocka_unit_test(questions_that_time_out_wait_for_room),
        cmocka_unit_test(what_was_remade_is_compared_with_the_other_slots),
        cmocka_unit_test(what_was_remade_of_others_is_not_compared),
        cmocka_unit_test(a_damaged_record_alone_in_its_leaf_is_healed),
        cmocka_unit_test(a_record_that_is_told_to_be_damaged_is_healed),
        cmocka_unit_test(nothing_is_healed_by_a_minority),
        cmocka_unit_test(few_records_are_healed_at_a_time),
        cmocka_unit_test(partitions_may_be_split_in_the_middle_of_it),
        cmocka_unit_test(what_found_no_memory_is_made_with_the_next_ring),
        cmocka_unit_test(what_was_compared_across_a_split_is_not_answered),
        cmocka_unit_test(what_was_pulled_across_a_split_is_not_answered),
    };

    return cmocka_run_group_tests_name("antientropy", tests, NULL, NULL);
}
