/* test_replica: what a slot answers to other nodes, told by effects (story.h). */
#include "storage/merge.h"
#include "tests/unit/story.h"
#include "tests/unit/test.h"

#include <stdio.h>

#define ACK                                                                                        \
    OUTCOME_STORED, (struct version)                                                               \
    {                                                                                              \
        0                                                                                          \
    }

static struct story *begin(void)
{
    static struct story s;

    story_start(&s, &(struct story_options){0});
    return &s;
}

/* A request of n1 to our slot, right in every respect; tests break one thing. */
static struct wire_peer request(struct story *s, enum wire_peer_type type, uint64_t id)
{
    struct wire_peer m = {.type = type, .id = id, .deadline_ms = 1000};
    struct ring_entry entry;
    uint32_t partition = ring_partition(s->ring, ring_token(s->ring, &story_key));

    ring_lookup(s->ring, partition, &entry);
    m.replica.partition = partition;
    m.replica.fence = entry.fence;
    for (uint32_t i = 0; i < entry.n_slots; i++)
        if (entry.slots[i].node == 0) {
            m.replica.slot = i;
            m.replica.incarnation = entry.slots[i].incarnation;
        }
    if (type == PEER_PUT) {
        m.u.put.key = story_key;
        m.u.put.state = story_state(version_hlc_from_ms(s->wall_ms), "v");
    } else if (type == PEER_GET) {
        m.u.get.key = story_key;
    }
    return m;
}

static void feed_waited(struct story *s, const struct wire_peer *m, uint64_t waited_ms)
{
    struct event e = {.type = EVENT_PEER};

    e.u.peer.from = (struct addr){.kind = ADDR_LINK, .link = 42};
    e.u.peer.node = 1;
    e.u.peer.msg = m;
    e.u.peer.waited_ms = waited_ms;
    story_step(s, &e);
}

static void feed(struct story *s, const struct wire_peer *m)
{
    feed_waited(s, m, 0);
}

static void test_put_is_answered_when_durable(void **state)
{
    struct story *s = begin();
    struct wire_peer m = request(s, PEER_PUT, 5);

    feed(s, &m);
    story_expect(s, "store put 1\n");
    story_stored(s, 1, 0, ACK);
    story_expect(s, "answer 42 stored\n");
    assert_true(worker_idle(s->worker));
    story_end(s);
}

static void test_wrong_addresses_are_refused(void **state)
{
    struct story *s = begin();
    struct wire_peer m = request(s, PEER_PUT, 5);

    m.replica.incarnation++;
    feed(s, &m);
    story_expect(s, "answer 42 NOT_OWNER\n");
    m = request(s, PEER_PUT, 5);
    m.replica.fence++;
    feed(s, &m);
    story_expect(s, "answer 42 NOT_YET\n");
    m = request(s, PEER_GET, 5);
    m.replica.slot = (m.replica.slot + 1) % 3; /* lives on another node */
    feed(s, &m);
    story_expect(s, "answer 42 NOT_OWNER\n");
    m = request(s, PEER_GET, 5);
    m.replica.slot = 7;
    feed(s, &m);
    story_expect(s, "answer 42 NOT_OWNER\n");
    m = request(s, PEER_GET, 5);
    m.replica.partition = 1u << 20;
    feed(s, &m);
    story_expect(s, "answer 42 BAD_REQUEST\n");
    m = request(s, PEER_GET, 5);
    m.u.get.key.partition = slice_str("of another partition");
    feed(s, &m);
    story_expect(s, "answer 42 BAD_REQUEST\n");
    story_end(s);
}

static void test_first_hand_puts_from_the_future_are_refused_and_states_are_not(void **state)
{
    struct story *s = begin();
    struct wire_peer m = request(s, PEER_PUT, 5);

    m.u.put.state.version.hlc = version_hlc_from_ms(s->wall_ms + 501);
    m.u.put.first_hand = true;
    feed(s, &m);
    story_expect(s, "trace CLOCK_AHEAD\nanswer 42 CLOCK\n");
    m.u.put.first_hand = false;
    feed(s, &m);
    story_expect(s, "store put 1\n");
    story_end(s);
}

static void test_who_knows_that_its_clock_is_behind_takes_first_hand_puts(void **state)
{
    const uint64_t behind_ms = 3600000;
    struct story *s = begin();
    struct wire_peer m = request(s, PEER_PUT, 5);
    struct event judged = {.type = EVENT_CLOCK, .u.clock = {.right = true, .behind_ms = behind_ms}};

    judged.u.clock.offset_ms = (int64_t)(s->wall_ms - s->now_ms);
    story_step(s, &judged);
    m.u.put.state.version.hlc = version_hlc_from_ms(s->wall_ms + behind_ms);
    m.u.put.first_hand = true;
    feed(s, &m);
    story_expect(s, "store put 1\n");
    m.u.put.state.version.hlc = version_hlc_from_ms(s->wall_ms + behind_ms + 501);
    feed(s, &m);
    story_expect(s, "trace CLOCK_AHEAD\nanswer 42 CLOCK\n");
    story_end(s);
}

static void test_get_waits_until_what_it_shows_is_durable(void **state)
{
    struct story *s = begin();
    struct wire_peer m = request(s, PEER_GET, 5);
    char text[] = "v";
    struct state v = story_state(5, text);
    struct event e = {.type = EVENT_DURABLE};

    feed(s, &m);
    story_expect(s, "get 1\n");
    story_got(s, 1, 0, &v, 9);
    story_expect(s, "");
    text[0] = 'x'; /* the store's bytes are gone by now: the gate must have a copy */
    e.u.durable.lsn = 8;
    story_step(s, &e);
    story_expect(s, "");
    e = (struct event){.type = EVENT_DURABLE};
    e.u.durable.lsn = 9;
    story_step(s, &e);
    story_expect(s, "answer 42 state \"v\"\n");
    assert_true(worker_idle(s->worker));
    story_end(s);
}

static void test_digest_does_not_carry_the_value(void **state)
{
    struct story *s = begin();
    struct wire_peer m = request(s, PEER_GET, 5);
    struct state v = story_state(5, "v");

    m.u.get.digest = true;
    feed(s, &m);
    s->lines[0] = '\0';
    story_got(s, 1, 0, &v, 0);
    story_expect(s, "answer 42 digest\n");
    assert_int_equal(s->effects.list[0].u.send.msg.u.get_reply.digest,
                     merge_digest(&story_key, &v));
    assert_int_equal(s->effects.list[0].u.send.msg.u.get_reply.state.value.len, 0);
    story_end(s);
}

static void test_corrupt_is_an_error_and_not_absent(void **state)
{
    struct story *s = begin();
    struct wire_peer m = request(s, PEER_GET, 5);

    feed(s, &m);
    s->lines[0] = '\0';
    story_got(s, 1, -ERR_CORRUPT, NULL, 0);
    story_expect(s, "answer 42 CORRUPT\n");
    story_end(s);
}

static void test_without_a_ring_nothing_is_owned(void **state)
{
    static struct story s;
    struct wire_peer m;

    story_start(&s, &(struct story_options){.no_ring = true});
    m = request(&s, PEER_GET, 5);
    feed(&s, &m);
    story_expect(&s, "answer 42 NOT_READY\n");
    story_end(&s);
}

static void test_a_request_for_a_sibling_is_relayed_both_ways(void **state)
{
    static struct story s;
    struct wire_peer m, back;
    struct event e = {.type = EVENT_PEER};
    uint64_t token;

    story_start(&s, &(struct story_options){.n_workers = 2});
    token = ring_token(s.ring, &story_key);
    m = request(&s, PEER_GET, 5);
    if (token_worker(token, 2) == 0) { /* a partition of the other worker */
        struct ring_entry entry;

        m.replica.partition ^= 1024 / 64;
        ring_lookup(s.ring, m.replica.partition, &entry);
        for (uint32_t i = 0; i < entry.n_slots; i++)
            if (entry.slots[i].node == 0) {
                m.replica.slot = i;
                m.replica.incarnation = entry.slots[i].incarnation;
            }
    }
    feed(&s, &m);
    story_expect(&s, "mail worker 1\n");
    back = s.sent[0].msg;
    back.type = PEER_GET_REPLY;
    memset(&back.u, 0, sizeof back.u);
    e.u.peer.from = (struct addr){.kind = ADDR_WORKER, .worker = 1};
    e.u.peer.msg = &back;
    story_step(&s, &e);
    story_expect(&s, "answer 42 absent\n");
    assert_int_equal(s.effects.list[0].u.send.msg.id, 5);
    assert_true(worker_idle(s.worker));
    story_end(&s);
}

/* ---- deadlines ------------------------------------------------------------------------------- */

static void test_what_waited_past_its_deadline_is_not_worked_on(void **state)
{
    static const enum wire_peer_type types[] = {PEER_GET, PEER_PUT, PEER_SCAN};
    struct story *s = begin();
    struct worker_stats stats;

    for (size_t i = 0; i < 3; i++) {
        struct wire_peer m = request(s, types[i], 5);

        feed_waited(s, &m, 1000);
        story_expect(s, ""); /* not even a refusal: the sender goes on expecting the worst */
        assert_true(worker_idle(s->worker));
        feed_waited(s, &m, 999);
        assert_false(worker_idle(s->worker));
        s->lines[0] = '\0';
        story_end(s);
        s = begin();
    }
    for (size_t i = 0; i < 3; i++) {
        struct wire_peer m = request(s, types[i], 5);

        feed_waited(s, &m, 5000);
    }
    worker_stats(s->worker, &stats);
    assert_int_equal(stats.n_dropped, 3);
    story_end(s);
}

static void test_a_read_that_comes_back_too_late_is_not_answered(void **state)
{
    struct story *s = begin();
    struct wire_peer m = request(s, PEER_GET, 5);
    struct state v = story_state(5, "v");

    feed_waited(s, &m, 400);
    story_pass(s, 600);
    s->lines[0] = '\0';
    story_got(s, 1, 0, &v, 0);
    story_expect(s, "");
    assert_true(worker_idle(s->worker));
    story_end(s);
}

static void test_a_read_that_was_gated_too_long_is_not_answered(void **state)
{
    struct story *s = begin();
    struct wire_peer m = request(s, PEER_GET, 5);
    struct state v = story_state(5, "v");
    struct event e = {.type = EVENT_DURABLE, .u.durable.lsn = 9};

    feed(s, &m);
    story_got(s, 1, 0, &v, 9);
    story_pass(s, 1000);
    s->lines[0] = '\0';
    story_step(s, &e);
    story_expect(s, "");
    assert_true(worker_idle(s->worker));
    story_end(s);
}

static void test_a_put_that_is_stored_is_answered_however_late(void **state)
{
    struct story *s = begin();
    struct wire_peer m = request(s, PEER_PUT, 5);

    feed(s, &m);
    story_pass(s, 5000);
    s->lines[0] = '\0';
    story_stored(s, 1, 0, ACK);
    story_expect(s, "answer 42 stored\n");
    story_end(s);
}

static void test_a_put_that_the_edge_dropped_is_no_refusal(void **state)
{
    struct story *s = begin();
    struct wire_peer m = request(s, PEER_PUT, 5);

    feed(s, &m);
    s->lines[0] = '\0';
    story_stored(s, 1, -ERR_DEADLINE, OUTCOME_NONE, (struct version){0});
    story_expect(s, "");
    assert_true(worker_idle(s->worker));
    story_end(s);
}

/* A message for the other of two workers. */
static struct wire_peer request_of_sibling(struct story *s, enum wire_peer_type type)
{
    struct wire_peer m = request(s, type, 5);
    struct ring_entry entry;

    if (token_worker(ring_token(s->ring, &story_key), 2) != 0)
        return m;
    m.replica.partition ^= 1024 / 64;
    ring_lookup(s->ring, m.replica.partition, &entry);
    for (uint32_t i = 0; i < entry.n_slots; i++)
        if (entry.slots[i].node == 0) {
            m.replica.slot = i;
            m.replica.incarnation = entry.slots[i].incarnation;
        }
    return m;
}

static void test_a_relayed_request_has_less_time_and_its_end_is_told(void **state)
{
    static struct story s;
    struct event e = {.type = EVENT_PEER};
    struct wire_peer m, back;

    story_start(&s, &(struct story_options){.n_workers = 2});
    m = request_of_sibling(&s, PEER_PUT);
    feed_waited(&s, &m, 300);
    story_expect(&s, "mail worker 1\n");
    assert_int_equal(s.sent[0].msg.deadline_ms, 700);
    back = s.sent[0].msg;
    back.type = PEER_PUT_REPLY;
    back.error = ERR_DEADLINE;
    memset(&back.u, 0, sizeof back.u);
    e.u.peer.from = (struct addr){.kind = ADDR_WORKER, .worker = 1};
    e.u.peer.msg = &back;
    story_step(&s, &e);
    story_expect(&s, ""); /* the other node hears nothing */
    assert_true(worker_idle(s.worker));
    story_end(&s);
}

static void test_who_relays_is_told_of_a_drop_and_who_coordinates_is_not(void **state)
{
    struct story *s = begin();
    struct wire_peer m = request(s, PEER_PUT, (uint64_t)1 << 63 | 5);
    struct event e = {.type = EVENT_PEER, .u.peer.waited_ms = 1000};

    e.u.peer.from = (struct addr){.kind = ADDR_WORKER, .worker = 1};
    e.u.peer.msg = &m;
    story_step(s, &e);
    story_expect(s, "mail worker 1\n");
    assert_int_equal(s->sent[0].msg.error, ERR_DEADLINE);
    m.id = 5;
    e = (struct event){.type = EVENT_PEER, .u.peer.waited_ms = 1000};
    e.u.peer.from = (struct addr){.kind = ADDR_WORKER, .worker = 1};
    e.u.peer.msg = &m;
    story_step(s, &e);
    story_expect(s, "");
    story_end(s);
}

/* ---- scans ----------------------------------------------------------------------------------- */

static struct wire_record record(const char *key, uint64_t hlc, const char *value)
{
    struct wire_record r = {.key = {.bucket = 1, .partition = slice_str(key)}};

    r.state = story_state(hlc, value);
    return r;
}

/* Keys of one partition in store order, found by trying. */
static size_t keys_of_partition(struct story *s, char (*keys)[16], size_t n)
{
    uint64_t tokens[8];
    size_t found = 0;

    assert_true(n <= 8);
    for (uint32_t i = 0; found < n; i++) {
        char text[16];
        struct key key = {.bucket = 1};
        size_t at;
        uint64_t token;

        key.partition = slice_of(text, (size_t)snprintf(text, sizeof text, "key%u", i));
        token = ring_token(s->ring, &key);
        if (ring_partition(s->ring, token) != 3)
            continue;
        for (at = found; at > 0 && tokens[at - 1] > token; at--) {
            tokens[at] = tokens[at - 1];
            memcpy(keys[at], keys[at - 1], 16);
        }
        tokens[at] = token;
        memcpy(keys[at], text, 16);
        found++;
    }
    return found;
}

static void test_scan_merges_pages_up_to_where_one_breaks_off(void **state)
{
    static struct story s;
    char keys[5][16];
    struct wire_record ours[4], theirs[3];
    struct store_page page = {.items = ours, .n = 4};
    struct wire_request r = {.op = OP_SCAN, .id = 7, .level = LEVEL_QUORUM};
    struct event e = {.type = EVENT_REQUEST};
    struct wire_peer m;
    const struct wire_response *res;

    story_start(&s, &(struct story_options){0});
    story_down(&s, 2);
    keys_of_partition(&s, keys, 5);
    r.u.scan.partition = 3;
    r.u.scan.n_partitions = 1024;
    r.deadline_ms = 1000;
    e.u.request.request = &r;
    story_step(&s, &e);
    story_expect(&s, "send n1 scan\nscan 1\n");

    ours[0] = record(keys[0], 5, "a");
    ours[1] = record(keys[1], 5, "old");
    ours[2] = record(keys[2], 5, "gone");
    ours[3] = record(keys[4], 5, "beyond");
    e = (struct event){.type = EVENT_SCANNED};
    e.u.scanned.cookie = s.scans[1];
    e.u.scanned.page = &page;
    story_step(&s, &e);
    story_expect(&s, "");

    theirs[0] = record(keys[1], 6, "new");
    theirs[1] = record(keys[2], 6, NULL);
    theirs[2] = record(keys[3], 6, "last");
    m = s.sent[s.n_sent - 1].msg;
    m.type = PEER_SCAN_REPLY;
    memset(&m.u, 0, sizeof m.u);
    m.u.scan_reply.records = theirs;
    m.u.scan_reply.n_records = 3;
    m.u.scan_reply.cursor = slice_str("anything"); /* breaks off after keys[3] */
    feed(&s, &m);
    story_expect(&s, "reply 7 ok\n");
    res = &s.effects.list[0].u.reply.response;
    assert_int_equal(res->u.scan.n_records, 3);
    assert_memory_equal(res->u.scan.records[0].state.value.data, "a", 1);
    assert_memory_equal(res->u.scan.records[1].state.value.data, "new", 3);
    assert_memory_equal(res->u.scan.records[2].state.value.data, "last", 4);
    assert_memory_equal(res->u.scan.cursor.data + 14, keys[3], strlen(keys[3]));
    story_end(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put_is_answered_when_durable),
        cmocka_unit_test(test_wrong_addresses_are_refused),
        cmocka_unit_test(test_first_hand_puts_from_the_future_are_refused_and_states_are_not),
        cmocka_unit_test(test_who_knows_that_its_clock_is_behind_takes_first_hand_puts),
        cmocka_unit_test(test_get_waits_until_what_it_shows_is_durable),
        cmocka_unit_test(test_digest_does_not_carry_the_value),
        cmocka_unit_test(test_corrupt_is_an_error_and_not_absent),
        cmocka_unit_test(test_without_a_ring_nothing_is_owned),
        cmocka_unit_test(test_a_request_for_a_sibling_is_relayed_both_ways),
        cmocka_unit_test(test_what_waited_past_its_deadline_is_not_worked_on),
        cmocka_unit_test(test_a_read_that_comes_back_too_late_is_not_answered),
        cmocka_unit_test(test_a_read_that_was_gated_too_long_is_not_answered),
        cmocka_unit_test(test_a_put_that_is_stored_is_answered_however_late),
        cmocka_unit_test(test_a_put_that_the_edge_dropped_is_no_refusal),
        cmocka_unit_test(test_a_relayed_request_has_less_time_and_its_end_is_told),
        cmocka_unit_test(test_who_relays_is_told_of_a_drop_and_who_coordinates_is_not),
        cmocka_unit_test(test_scan_merges_pages_up_to_where_one_breaks_off),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
