/* The session as stories: what the edge reports, and what the session then wants, as a trace.
 *
 * Vocabulary: "connect A", "close A" (connection A is the node's letter), "send A KEY", and
 * "KEY=OUTCOME" when a request ends. Nodes are named by the order of their endpoints.
 */
#include "tests/unit/test.h"

#include <stdio.h>
#include <stdlib.h>

#include "client/session.h"
#include "client/session_slot.h"

#define TRACE_MAX 8192
#define SENT_MAX 1024

struct sent {
    uint64_t id;
    uint32_t conn, deadline_ms;
    char key[16];
    enum wire_op op;
};

struct story {
    struct session s;
    uint64_t now;
    char trace[TRACE_MAX];
    size_t len;
    struct sent sent[SENT_MAX];
    int n_sent;
    struct arena arena;
};

static void note(struct story *t, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void note(struct story *t, const char *format, ...)
{
    va_list args;

    if (t->len)
        t->len += (size_t)snprintf(t->trace + t->len, TRACE_MAX - t->len, "; ");
    va_start(args, format);
    t->len += (size_t)vsnprintf(t->trace + t->len, TRACE_MAX - t->len, format, args);
    va_end(args);
    assert_true(t->len < TRACE_MAX);
}

static void begin(struct story *t, const char *endpoints, bool direct, uint32_t requests_max)
{
    struct session_config config = {.requests_max = requests_max,
                                    .lanes = 1,
                                    .bytes_max = 1 << 20,
                                    .direct = direct,
                                    .seed = 7,
                                    .client = "test"};
    const char *e;
    char address[16];

    memset(t, 0, sizeof(*t));
    arena_init(&t->arena, WIRE_ARENA_BUDGET_RING);
    t->now = 1000;
    assert_int_equal(session_init(&t->s, &config), 0);
    for (e = endpoints; *e; e++) {
        snprintf(address, sizeof(address), "%c:1", *e);
        assert_int_equal(session_add_endpoint(&t->s, slice_str(address)), e - endpoints);
    }
}

static void end(struct story *t)
{
    arena_deinit(&t->arena);
    session_deinit(&t->s);
}

static char letter(struct story *t, uint32_t conn)
{
    return pool_target_of(&t->s.pool, conn)->address[0];
}

static void note_send(struct story *t, const struct session_action *a)
{
    struct wire_request req;
    struct sent *sent = &t->sent[t->n_sent];
    struct buf out;

    buf_init(&out);
    assert_int_equal(session_pack(&t->s, t->now, a->slot, &out), 0);
    arena_reset(&t->arena, WIRE_ARENA_BUDGET_RING);
    assert_int_equal(wire_request_unpack(slice_of(out.data + 4, out.len - 4), &t->arena, &req), 0);
    assert_true(t->n_sent < SENT_MAX);
    t->n_sent++;
    snprintf(sent->key, sizeof(sent->key), "%.*s", (int)req.key.partition.len,
             req.key.partition.len ? (const char *)req.key.partition.data : "");
    if (req.op == OP_RING)
        snprintf(sent->key, sizeof(sent->key), "ring");
    sent->id = req.id;
    sent->conn = a->conn;
    sent->op = req.op;
    sent->deadline_ms = req.deadline_ms;
    note(t, "send %c %s", letter(t, a->conn), sent->key);
    buf_deinit(&out);
}

static void note_done(struct story *t, const struct session_done *d)
{
    note(t, "%s=%s", (const char *)d->ctx, d->code ? err_name(d->code) : "OK");
}

static void run(struct story *t)
{
    struct session_action a;

    while (session_next(&t->s, t->now, &a)) {
        switch (a.type) {
        case SESSION_CONNECT:
            note(t, "connect %c", letter(t, a.conn));
            break;
        case SESSION_CLOSE:
            note(t, "close %c", letter(t, a.conn));
            break;
        case SESSION_SEND:
            note_send(t, &a);
            break;
        case SESSION_DONE:
            note_done(t, &a.done);
            break;
        }
    }
}

static void forget(struct story *t)
{
    t->len = 0;
    t->trace[0] = '\0';
}

#define EXPECT(t, text)                                                                            \
    do {                                                                                           \
        run(t);                                                                                    \
        assert_string_equal((t)->trace, text);                                                     \
        forget(t);                                                                                 \
    } while (0)

static int submit(struct story *t, enum wire_op op, const char *key, uint32_t flags)
{
    struct session_request req = {.op = op,
                                  .key.partition = slice_str(key),
                                  .value = op == OP_PUT ? slice_str("v") : slice_of(NULL, 0),
                                  .timeout_ms = 3000,
                                  .flags = flags,
                                  .ctx = (void *)(uintptr_t)key};

    return session_submit(&t->s, t->now, &req);
}

static void get(struct story *t, const char *key)
{
    assert_int_equal(submit(t, OP_GET, key, 0), 0);
}

static void put(struct story *t, const char *key)
{
    assert_int_equal(submit(t, OP_PUT, key, 0), 0);
}

static uint32_t conn_of(struct story *t, char node)
{
    uint32_t i;

    for (i = 0; i < t->s.pool.n_targets; i++) {
        if (t->s.pool.targets[i]->address[0] == node)
            return i * t->s.pool.lanes;
    }
    fail_msg("no node %c", node);
    return 0;
}

static void deliver(struct story *t, uint32_t conn, const struct wire_response *res)
{
    struct session_done done;
    int r;

    session_received(&t->s, t->now, conn);
    r = session_answer(&t->s, t->now, conn, res, &done);
    assert_true(r >= 0);
    if (r == 1)
        note_done(t, &done);
}

static void up(struct story *t, char node)
{
    struct wire_response res = {.id = SESSION_HELLO_ID, .type = RESULT_HELLO};

    res.u.hello.protocol = WIRE_PROTOCOL;
    res.u.hello.node_id.b[0] = (uint8_t)node;
    deliver(t, conn_of(t, node), &res);
}

static void down(struct story *t, char node)
{
    session_lost(&t->s, t->now, conn_of(t, node), "connection refused");
}

/* The newest request sent for key. */
static struct sent *sent_of(struct story *t, const char *key)
{
    int i;

    for (i = t->n_sent - 1; i >= 0; i--) {
        if (!strcmp(t->sent[i].key, key))
            return &t->sent[i];
    }
    fail_msg("%s was not sent", key);
    return NULL;
}

static void answer_sent(struct story *t, const struct sent *sent, int code)
{
    struct wire_response res = {.id = sent->id, .error.code = code};

    res.type = sent->op == OP_GET ? RESULT_GET : RESULT_WRITE;
    deliver(t, sent->conn, &res);
}

static void answer(struct story *t, const char *key, int code)
{
    answer_sent(t, sent_of(t, key), code);
}

static void at(struct story *t, uint64_t now)
{
    assert_true(now >= t->now);
    t->now = now;
    session_tick(&t->s, now);
}

/* ---- stories ----------------------------------------------------------------------------- */

static void test_a_request_waits_for_hello_then_is_sent_and_answered(void **state)
{
    struct story t;

    (void)state;
    begin(&t, "a", false, 16);
    get(&t, "k");
    EXPECT(&t, "connect a");
    up(&t, 'a');
    EXPECT(&t, "send a k");
    answer(&t, "k", 0);
    EXPECT(&t, "k=OK");
    assert_int_equal(t.s.n_pending, 0);
    assert_int_equal(t.s.bytes, 0);
    end(&t);
}

static void test_fail_fast_reports_unreachable_once_every_endpoint_failed(void **state)
{
    struct story t;

    (void)state;
    begin(&t, "ab", true, 16);
    assert_int_equal(submit(&t, OP_PUT, "k", SESSION_FAIL_FAST), 0);
    EXPECT(&t, "connect b"); /* the rotation begins behind the first */
    down(&t, 'b');
    EXPECT(&t, "connect a");
    at(&t, t.now + 500); /* b could be tried again by now, and is not */
    down(&t, 'a');
    EXPECT(&t, "k=UNREACHABLE");
    end(&t);
}

static void test_without_fail_fast_it_waits_for_the_node_to_come_back(void **state)
{
    struct story t;

    (void)state;
    begin(&t, "a", false, 16);
    put(&t, "k");
    EXPECT(&t, "connect a");
    down(&t, 'a');
    EXPECT(&t, "");
    at(&t, t.now + POOL_BACKOFF_FIRST_MS);
    EXPECT(&t, "connect a");
    up(&t, 'a');
    EXPECT(&t, "send a k");
    answer(&t, "k", 0);
    EXPECT(&t, "k=OK");
    end(&t);
}

static void test_never_connected_by_the_deadline_is_unreachable(void **state)
{
    struct story t;
    uint64_t start;

    (void)state;
    begin(&t, "a", false, 16);
    start = t.now;
    put(&t, "k");
    EXPECT(&t, "connect a");
    at(&t, start + POOL_CONNECT_MS); /* nobody answers the connection */
    EXPECT(&t, "close a");
    at(&t, start + 2999);
    run(&t);
    forget(&t);
    at(&t, start + 3000);
    run(&t);
    assert_non_null(strstr(t.trace, "k=UNREACHABLE"));
    end(&t);
}

static void test_a_read_moves_on_when_its_connection_is_lost(void **state)
{
    struct story t;

    (void)state;
    begin(&t, "ab", true, 16);
    get(&t, "k");
    EXPECT(&t, "connect b");
    up(&t, 'b');
    EXPECT(&t, "send b k");
    down(&t, 'b');
    EXPECT(&t, "connect a");
    up(&t, 'a');
    EXPECT(&t, "send a k");
    answer(&t, "k", 0);
    EXPECT(&t, "k=OK");
    end(&t);
}

static void test_a_write_that_was_sent_is_never_sent_again(void **state)
{
    struct story t;

    (void)state;
    begin(&t, "ab", true, 16);
    put(&t, "k");
    EXPECT(&t, "connect b");
    up(&t, 'b');
    EXPECT(&t, "send b k");
    down(&t, 'b');
    EXPECT(&t, "k=UNKNOWN_OUTCOME");
    end(&t);
}

static void test_a_write_that_was_queued_but_not_sent_moves_on(void **state)
{
    struct story t;

    (void)state;
    begin(&t, "ab", true, 16);
    put(&t, "1");
    EXPECT(&t, "connect b");
    up(&t, 'b');
    session_block(&t.s, conn_of(&t, 'b'), true); /* the edge has too much to write */
    EXPECT(&t, "");
    down(&t, 'b');
    EXPECT(&t, "connect a");
    up(&t, 'a');
    EXPECT(&t, "send a 1");
    end(&t);
}

static void test_with_repeat_a_lost_write_is_sent_again(void **state)
{
    struct story t;

    (void)state;
    begin(&t, "ab", true, 16);
    assert_int_equal(submit(&t, OP_PUT, "k", SESSION_REPEAT), 0);
    run(&t);
    up(&t, 'b');
    run(&t);
    forget(&t);
    down(&t, 'b');
    EXPECT(&t, "connect a");
    up(&t, 'a');
    EXPECT(&t, "send a k");
    answer(&t, "k", 0);
    EXPECT(&t, "k=OK");
    end(&t);
}

static void test_a_refusal_after_a_lost_attempt_does_not_claim_nothing_was_written(void **state)
{
    struct story t;

    (void)state;
    begin(&t, "ab", true, 16);
    assert_int_equal(submit(&t, OP_PUT, "k", SESSION_REPEAT), 0);
    run(&t);
    up(&t, 'b');
    run(&t);
    down(&t, 'b');
    run(&t);
    up(&t, 'a');
    forget(&t);
    EXPECT(&t, "send a k");
    answer(&t, "k", ERR_NO_SPACE);
    EXPECT(&t, "k=UNKNOWN_OUTCOME");
    end(&t);
}

static void test_no_answer_by_the_deadline(void **state)
{
    struct story t;
    uint64_t start;

    (void)state;
    begin(&t, "a", true, 16);
    start = t.now;
    put(&t, "w");
    get(&t, "r");
    run(&t);
    up(&t, 'a');
    run(&t);
    forget(&t);
    at(&t, start + 1000); /* the share of an attempt: nobody else to ask */
    EXPECT(&t, "");
    at(&t, start + 2999);
    EXPECT(&t, "");
    at(&t, start + 3000);
    /* the node said nothing since: the connection is given up */
    run(&t);
    assert_non_null(strstr(t.trace, "w=UNKNOWN_OUTCOME"));
    assert_non_null(strstr(t.trace, "r="));
    assert_null(strstr(t.trace, "r=UNKNOWN"));
    assert_non_null(strstr(t.trace, "close a"));
    end(&t);
}

static void test_the_node_is_told_a_little_less_time_than_is_left(void **state)
{
    struct story t;

    (void)state;
    begin(&t, "a", true, 16);
    get(&t, "k");
    run(&t);
    t.now += 1000;
    up(&t, 'a');
    run(&t);
    assert_in_range(sent_of(&t, "k")->deadline_ms, 1940, 1999);
    end(&t);
}

static void test_a_silent_node_is_left_for_another_by_reads_and_new_requests(void **state)
{
    struct story t;
    uint64_t start;

    (void)state;
    begin(&t, "ab", true, 16);
    get(&t, "1");
    run(&t);
    up(&t, 'b');
    get(&t, "2"); /* prefers a, uses b meanwhile */
    run(&t);
    up(&t, 'a');
    run(&t);
    forget(&t);
    start = t.now;
    answer(&t, "1", 0);
    answer(&t, "2", 0);
    EXPECT(&t, "1=OK; 2=OK");
    t.now = start + 1;
    get(&t, "3");
    EXPECT(&t, "send b 3");
    at(&t, start + 1001); /* b has been silent for a third of the timeout */
    EXPECT(&t, "send a 3");
    assert_true(pool_conn(&t.s.pool, conn_of(&t, 'b'))->suspect);
    get(&t, "4");
    get(&t, "5");
    EXPECT(&t, "send a 4; send a 5");
    end(&t);
}

static void test_a_late_answer_to_an_abandoned_attempt_is_ignored(void **state)
{
    struct story t;
    struct sent old;

    (void)state;
    begin(&t, "ab", true, 16);
    get(&t, "k");
    run(&t);
    up(&t, 'b');
    run(&t);
    get(&t, "x");
    run(&t);
    up(&t, 'a');
    run(&t);
    old = *sent_of(&t, "k");
    forget(&t);
    at(&t, t.now + 1000);
    run(&t);
    assert_int_equal(sent_of(&t, "k")->conn, conn_of(&t, 'a'));
    forget(&t);
    answer_sent(&t, &old, 0);
    EXPECT(&t, "");
    answer(&t, "k", 0);
    EXPECT(&t, "k=OK");
    end(&t);
}

static void test_refusals_that_wrote_nothing_are_tried_again(void **state)
{
    static const int codes[] = {ERR_OVERLOADED, ERR_NO_MEMORY, ERR_CLOCK, ERR_NOT_READY};
    struct story t;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        begin(&t, "a", true, 16);
        put(&t, "k");
        run(&t);
        up(&t, 'a');
        run(&t);
        forget(&t);
        answer(&t, "k", codes[i]);
        EXPECT(&t, ""); /* with a pause */
        at(&t, t.now + SESSION_BACKOFF_MAX_MS);
        EXPECT(&t, "send a k");
        answer(&t, "k", 0);
        EXPECT(&t, "k=OK");
        end(&t);
    }
}

/* Repeating soon is for nodes that were overloaded for a moment. */
static void test_nodes_that_stay_overloaded_are_asked_seldom(void **state)
{
    struct story t;
    uint32_t i, n_soon = 0;

    (void)state;
    begin(&t, "a", true, 16);
    get(&t, "ok");
    run(&t);
    up(&t, 'a');
    run(&t);
    answer(&t, "ok", 0);
    for (i = 0; i < 2 * SESSION_REPEAT_BURST; i++) {
        t.n_sent = 0;
        get(&t, "k");
        run(&t);
        answer(&t, "k", ERR_OVERLOADED);
        forget(&t);
        at(&t, t.now + SESSION_BACKOFF_MAX_MS);
        run(&t);
        n_soon += t.len > 0;
        if (t.len == 0)
            at(&t, t.now + SESSION_OVERLOADED_MS - SESSION_BACKOFF_MAX_MS);
        EXPECT(&t, "send a k");
        answer(&t, "k", 0);
        EXPECT(&t, "k=OK");
    }
    /* a burst, and then one for so many successes */
    assert_in_range(n_soon, SESSION_REPEAT_BURST,
                    SESSION_REPEAT_BURST + i / SESSION_REPEAT_PER_SUCCESSES + 1);
    end(&t);
}

static void test_not_ready_moves_on_at_once_if_another_node_is_up(void **state)
{
    struct story t;

    (void)state;
    begin(&t, "ab", true, 16);
    get(&t, "1");
    run(&t);
    up(&t, 'b');
    get(&t, "2");
    run(&t);
    up(&t, 'a');
    run(&t);
    forget(&t);
    answer(&t, "1", ERR_NOT_READY);
    EXPECT(&t, "send a 1");
    end(&t);
}

/* The only one that is up may have nothing to serve: a node that waits to be added. */
static void test_a_refusal_connects_to_the_others(void **state)
{
    static const int codes[] = {ERR_NOT_READY, ERR_OVERLOADED, ERR_CLOCK, ERR_NO_QUORUM};
    struct story t;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        begin(&t, "ab", true, 16);
        put(&t, "1");
        EXPECT(&t, "connect b");
        up(&t, 'b');
        EXPECT(&t, "send b 1");
        answer(&t, "1", codes[i]);
        EXPECT(&t, "connect a");
        up(&t, 'a');
        at(&t, t.now + SESSION_OVERLOADED_MS);
        EXPECT(&t, "send a 1");
        answer(&t, "1", 0);
        EXPECT(&t, "1=OK");
        end(&t);
    }
}

/* A rolling restart: nothing is sent to a node that says it goes, until it is back. */
static void test_a_node_that_shuts_down_is_left_alone_until_it_says_hello_again(void **state)
{
    struct story t;

    (void)state;
    begin(&t, "ab", true, 16);
    put(&t, "1");
    EXPECT(&t, "connect b");
    up(&t, 'b');
    EXPECT(&t, "send b 1");
    answer(&t, "1", ERR_SHUTTING_DOWN);
    at(&t, t.now + SESSION_BACKOFF_MAX_MS);
    EXPECT(&t, "connect a"); /* b is still up, but what it is sent now may be lost */
    up(&t, 'a');
    EXPECT(&t, "send a 1");
    put(&t, "2");
    EXPECT(&t, "send a 2");
    put(&t, "3");
    EXPECT(&t, "send a 3");
    down(&t, 'b');
    forget(&t);
    at(&t, t.now + POOL_BACKOFF_FIRST_MS);
    put(&t, "4");
    put(&t, "5");
    EXPECT(&t, "send a 4; send a 5; connect b");
    up(&t, 'b');
    put(&t, "6");
    put(&t, "7");
    EXPECT(&t, "send a 6; send b 7");
    end(&t);
}

static void test_the_only_node_that_shuts_down_is_asked_again_when_it_is_back_or_later(void **state)
{
    struct story t;

    (void)state;
    begin(&t, "a", true, 16);
    put(&t, "1");
    run(&t);
    up(&t, 'a');
    run(&t);
    answer(&t, "1", ERR_SHUTTING_DOWN);
    forget(&t);
    at(&t, t.now + POOL_LEAVE_MS - 1);
    EXPECT(&t, "");
    at(&t, t.now + 1);
    EXPECT(&t, "send a 1"); /* it has stayed after all */
    answer(&t, "1", ERR_SHUTTING_DOWN);
    forget(&t);
    down(&t, 'a');
    at(&t, t.now + SESSION_BACKOFF_MAX_MS);
    EXPECT(&t, "connect a");
    up(&t, 'a');
    EXPECT(&t, "send a 1");
    end(&t);
}

static void test_final_refusals_end_the_request(void **state)
{
    static const int codes[] = {ERR_NO_SPACE,       ERR_CORRUPT,        ERR_BAD_REQUEST,
                                ERR_UNSUPPORTED,    ERR_UNKNOWN_BUCKET, ERR_VALUE_TOO_LARGE,
                                ERR_UNKNOWN_OUTCOME};
    struct story t;
    char expected[64];
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        begin(&t, "a", true, 16);
        put(&t, "k");
        run(&t);
        up(&t, 'a');
        run(&t);
        forget(&t);
        answer(&t, "k", codes[i]);
        snprintf(expected, sizeof(expected), "k=%s", err_name(codes[i]));
        EXPECT(&t, expected);
        end(&t);
    }
}

static void test_no_quorum_is_tried_a_few_times_then_reported(void **state)
{
    struct story t;
    uint32_t i;

    (void)state;
    begin(&t, "a", true, 16);
    put(&t, "k");
    run(&t);
    up(&t, 'a');
    for (i = 1; i < SESSION_NO_QUORUM_ATTEMPTS; i++) {
        run(&t);
        answer(&t, "k", ERR_NO_QUORUM);
        at(&t, t.now + SESSION_BACKOFF_MAX_MS);
    }
    forget(&t);
    EXPECT(&t, "send a k");
    answer(&t, "k", ERR_NO_QUORUM);
    EXPECT(&t, "k=NO_QUORUM");
    end(&t);
}

static void test_the_last_refusal_is_the_reason_when_time_runs_out(void **state)
{
    struct story t;
    uint64_t start;

    (void)state;
    begin(&t, "a", true, 16);
    start = t.now;
    put(&t, "k");
    run(&t);
    up(&t, 'a');
    run(&t);
    at(&t, start + 2990);
    answer(&t, "k", ERR_OVERLOADED);
    forget(&t);
    at(&t, start + 3000);
    EXPECT(&t, "k=OVERLOADED");
    end(&t);
}

static void test_the_table_is_bounded(void **state)
{
    struct story t;

    (void)state;
    begin(&t, "a", true, 2);
    get(&t, "1");
    get(&t, "2");
    assert_int_equal(submit(&t, OP_GET, "3", 0), -ERR_FULL);
    run(&t);
    up(&t, 'a');
    run(&t);
    answer(&t, "1", 0);
    assert_int_equal(submit(&t, OP_GET, "3", 0), 0);
    end(&t);
}

static void test_the_bytes_held_are_bounded_but_one_request_is_always_taken(void **state)
{
    struct story t;
    static uint8_t big[700 << 10];
    struct session_request req = {.op = OP_PUT,
                                  .key.partition = slice_str("k"),
                                  .value = slice_of(big, sizeof(big)),
                                  .timeout_ms = 1000,
                                  .ctx = (void *)(uintptr_t) "k"};

    (void)state;
    begin(&t, "a", true, 16);
    assert_int_equal(session_submit(&t.s, t.now, &req), 0);
    assert_int_equal(session_submit(&t.s, t.now, &req), -ERR_FULL);
    at(&t, t.now + 1000);
    run(&t);
    assert_int_equal(t.s.bytes, 0);
    req.value.len = LIMIT_VALUE_BYTES + 1;
    assert_int_equal(session_submit(&t.s, t.now, &req), -ERR_VALUE_TOO_LARGE);
    end(&t);
}

static void test_bad_keys_are_refused_before_anything_is_sent(void **state)
{
    struct story t;
    char key[LIMIT_KEY_BYTES + 2];

    (void)state;
    begin(&t, "a", true, 16);
    memset(key, 'x', sizeof(key) - 1);
    key[sizeof(key) - 1] = '\0';
    assert_int_equal(submit(&t, OP_GET, key, 0), -ERR_KEY_TOO_LARGE);
    assert_int_equal(submit(&t, OP_GET, "", 0), -ERR_KEY_EMPTY);
    EXPECT(&t, "");
    end(&t);
}

static void test_a_connection_takes_a_bounded_number_in_flight(void **state)
{
    struct story t;
    uint32_t i;
    struct session_action a;
    struct buf out;
    uint32_t n = 0;

    (void)state;
    begin(&t, "a", true, SESSION_CONN_FLIGHT_MAX + 10);
    for (i = 0; i < SESSION_CONN_FLIGHT_MAX + 10; i++)
        get(&t, "k");
    buf_init(&out);
    while (session_next(&t.s, t.now, &a))
        ;
    up(&t, 'a');
    while (session_next(&t.s, t.now, &a)) {
        assert_int_equal(a.type, SESSION_SEND);
        assert_int_equal(session_pack(&t.s, t.now, a.slot, &out), 0);
        n++;
    }
    assert_int_equal(n, SESSION_CONN_FLIGHT_MAX);
    buf_deinit(&out);
    end(&t);
}

static void test_close_ends_everything_and_says_what_may_have_happened(void **state)
{
    struct story t;

    (void)state;
    begin(&t, "a", true, 16);
    put(&t, "1");
    run(&t);
    up(&t, 'a');
    run(&t);
    get(&t, "2");
    session_close(&t.s);
    assert_int_equal(submit(&t, OP_GET, "3", 0), -ERR_CLOSED);
    forget(&t);
    EXPECT(&t, "1=UNKNOWN_OUTCOME; 2=CLOSED");
    assert_int_equal(t.s.n_pending, 0);
    end(&t);
}

static void test_an_idle_connection_that_closes_is_no_failure(void **state)
{
    struct story t;

    (void)state;
    begin(&t, "a", true, 16);
    get(&t, "1");
    run(&t);
    up(&t, 'a');
    run(&t);
    answer(&t, "1", 0);
    down(&t, 'a');
    run(&t);
    forget(&t);
    get(&t, "2");
    EXPECT(&t, "connect a"); /* at once, no back-off */
    end(&t);
}

static void test_a_request_meant_for_a_connection_that_closed_connects_again_at_once(void **state)
{
    struct story t;

    (void)state;
    begin(&t, "a", true, 16);
    get(&t, "1");
    run(&t);
    up(&t, 'a');
    run(&t);
    answer(&t, "1", 0);
    forget(&t);
    assert_int_equal(submit(&t, OP_PUT, "2", SESSION_FAIL_FAST), 0);
    assert_true(session_has_to_send(&t.s));
    down(&t, 'a'); /* seen before it was sent */
    EXPECT(&t, "connect a");
    up(&t, 'a');
    EXPECT(&t, "send a 2");
    end(&t);
}

static void test_a_node_that_closes_before_it_served_is_given_a_pause(void **state)
{
    struct story t;

    (void)state;
    begin(&t, "a", true, 16);
    put(&t, "1");
    run(&t);
    up(&t, 'a');
    session_block(&t.s, conn_of(&t, 'a'), true);
    forget(&t);
    down(&t, 'a');
    EXPECT(&t, "");
    at(&t, t.now + POOL_BACKOFF_FIRST_MS);
    EXPECT(&t, "connect a");
    end(&t);
}

static void test_back_off_grows_and_stays_below_its_limit(void **state)
{
    struct story t;
    uint64_t last, gap, max = 0;
    int i;

    (void)state;
    begin(&t, "a", true, 16);
    for (i = 0; i < 20; i++) {
        assert_true(pool_start(&t.s.pool, 0, t.now));
        pool_down(&t.s.pool, 0, "x", t.now);
        last = t.now;
        while (pool_backing_off(&t.s.pool, 0, t.now))
            t.now++;
        gap = t.now - last;
        assert_true(gap <= POOL_BACKOFF_MAX_MS);
        assert_true(gap >= (i < 6 ? (uint64_t)POOL_BACKOFF_FIRST_MS << i : 1000) / 2);
        max = gap > max ? gap : max;
    }
    assert_true(max > POOL_BACKOFF_MAX_MS / 2);
    end(&t);
}

static void test_the_highest_clock_seen_is_sent_back(void **state)
{
    struct story t;
    struct wire_response res = {.type = RESULT_GET, .hlc = 77};

    (void)state;
    begin(&t, "a", true, 16);
    get(&t, "1");
    run(&t);
    up(&t, 'a');
    run(&t);
    res.id = sent_of(&t, "1")->id;
    deliver(&t, 0, &res);
    assert_int_equal(t.s.hlc, 77);
    get(&t, "2");
    run(&t);
    res.id = sent_of(&t, "2")->id;
    res.hlc = 5;
    deliver(&t, 0, &res);
    assert_int_equal(t.s.hlc, 77);
    end(&t);
}

static void test_a_silent_node_makes_a_read_connect_to_another(void **state)
{
    struct story t;
    uint64_t start;

    (void)state;
    begin(&t, "ab", true, 16);
    start = t.now;
    get(&t, "r");
    run(&t);
    up(&t, 'b');
    run(&t);
    forget(&t);
    at(&t, start + 1001);
    EXPECT(&t, "connect a");
    up(&t, 'a');
    EXPECT(&t, "");
    at(&t, start + 1001 + SESSION_LOOK_AGAIN_MS);
    EXPECT(&t, "send a r");
    answer(&t, "r", 0);
    EXPECT(&t, "r=OK");
    end(&t);
}

static void test_a_word_about_the_connection_closes_it(void **state)
{
    struct wire_response res = {.error.code = ERR_TOO_MANY_CONNECTIONS,
                                .error.text = slice_str("full")};
    struct story t;

    (void)state;
    begin(&t, "a", true, 16);
    assert_int_equal(submit(&t, OP_PUT, "k", SESSION_FAIL_FAST), 0);
    run(&t);
    forget(&t);
    deliver(&t, 0, &res); /* id 0, instead of the hello */
    EXPECT(&t, "close a; k=UNREACHABLE");
    assert_string_equal(t.s.pool.targets[0]->reason, "refused: full");
    end(&t);
}

static void test_a_node_of_another_cluster_is_not_used(void **state)
{
    struct wire_response res = {.id = SESSION_HELLO_ID, .type = RESULT_HELLO};
    struct story t;

    (void)state;
    begin(&t, "ab", true, 16);
    res.u.hello.protocol = WIRE_PROTOCOL;
    get(&t, "1");
    run(&t);
    res.u.hello.cluster_id.b[0] = 1;
    deliver(&t, conn_of(&t, 'b'), &res);
    get(&t, "2");
    run(&t);
    forget(&t);
    res.u.hello.cluster_id.b[0] = 2;
    deliver(&t, conn_of(&t, 'a'), &res);
    EXPECT(&t, "close a");
    res.u.hello.cluster_id.b[0] = 0; /* a node without a cluster yet may become one of ours */
    at(&t, t.now + POOL_BACKOFF_MAX_MS);
    get(&t, "3");
    run(&t);
    forget(&t);
    deliver(&t, conn_of(&t, 'a'), &res);
    EXPECT(&t, "");
    assert_int_equal(pool_conn(&t.s.pool, conn_of(&t, 'a'))->state, POOL_UP);
    end(&t);
}

static void test_an_internal_error_leaves_a_write_open(void **state)
{
    struct story t;

    (void)state;
    begin(&t, "a", true, 16);
    put(&t, "w");
    get(&t, "r");
    run(&t);
    up(&t, 'a');
    run(&t);
    forget(&t);
    answer(&t, "w", ERR_INTERNAL);
    answer(&t, "r", ERR_INTERNAL);
    EXPECT(&t, "w=UNKNOWN_OUTCOME; r=INTERNAL");
    end(&t);
}

static void test_codes_of_newer_nodes_say_themselves_whether_to_repeat(void **state)
{
    struct wire_response res = {.error.code = 4711, .error.retryable = true};
    struct story t;

    (void)state;
    begin(&t, "a", true, 16);
    put(&t, "k");
    run(&t);
    up(&t, 'a');
    run(&t);
    forget(&t);
    res.id = sent_of(&t, "k")->id;
    deliver(&t, 0, &res);
    at(&t, t.now + SESSION_BACKOFF_MAX_MS);
    EXPECT(&t, "send a k");
    res.id = sent_of(&t, "k")->id;
    res.error.retryable = false;
    deliver(&t, 0, &res);
    EXPECT(&t, "k=INTERNAL");
    end(&t);
}

static void test_an_answer_of_the_wrong_kind_breaks_the_connection(void **state)
{
    struct wire_response res = {.type = RESULT_PING};
    struct session_done done;
    struct story t;

    (void)state;
    begin(&t, "a", true, 16);
    put(&t, "k");
    run(&t);
    up(&t, 'a');
    run(&t);
    res.id = sent_of(&t, "k")->id;
    assert_int_equal(session_answer(&t.s, t.now, 0, &res, &done), -ERR_BAD_REQUEST);
    end(&t);
}

/* ---- with a ring ------------------------------------------------------------------------- */

#define Q LIMIT_PARTITIONS_MIN

/* Nodes a, b, c; partition p has its primary on p % 3 and the others behind it. */
static void give_ring(struct story *t, uint64_t epoch)
{
    static const uint8_t names[] = "abc";
    struct wire_member members[3] = {0};
    uint32_t fence[Q], primary[Q], slot_member[Q * 3], slot_state[Q * 3], buckets[] = {1},
                                                                          voters[] = {0, 1, 2};
    uint64_t slot_incarnation[Q * 3];
    struct wire_ring ring = {.epoch = epoch,
                             .n_partitions = Q,
                             .n_replicas = 3,
                             .n_slots = 3,
                             .next_incarnation = 100,
                             .n_members = 3,
                             .n_voters = 3,
                             .n_buckets = 1,
                             .members = members,
                             .voters = voters,
                             .buckets = buckets,
                             .fence = fence,
                             .primary = primary,
                             .slot_member = slot_member,
                             .slot_incarnation = slot_incarnation,
                             .slot_state = slot_state};
    struct wire_response res = {.type = RESULT_RING, .ring_epoch = epoch};
    char addresses[3][8];
    uint32_t i;

    ring.cluster_id.b[0] = 1;
    for (i = 0; i < 3; i++) {
        snprintf(addresses[i], sizeof(addresses[i]), "%c:1", names[i]);
        members[i].id.b[0] = names[i];
        members[i].name = slice_of(&names[i], 1);
        members[i].client_address = slice_str(addresses[i]);
        members[i].peer_address = slice_str(addresses[i]);
        members[i].weight = 1;
    }
    for (i = 0; i < Q * 3; i++) {
        fence[i / 3] = 1;
        primary[i / 3] = (i / 3) % 3;
        slot_member[i] = i % 3;
        slot_incarnation[i] = i + 1;
        slot_state[i] = SLOT_READY;
    }
    res.u.ring = &ring;
    res.id = sent_of(t, "ring")->id;
    deliver(t, sent_of(t, "ring")->conn, &res);
}

/* A key of the partition. */
static const char *key_in(struct story *t, uint32_t partition)
{
    static char text[16];
    struct key key = {0};
    int i;

    for (i = 0; i < 100 * (int)Q; i++) {
        snprintf(text, sizeof(text), "key%d", i);
        key.partition = slice_str(text);
        if (route_partition(t->s.route, route_token(t->s.route, &key)) == partition)
            return text;
    }
    fail_msg("no key in partition %u", partition);
    return NULL;
}

static void begin_with_ring(struct story *t)
{
    uint32_t i;

    begin(t, "a", false, 64);
    for (i = 0; i < SESSION_ROUTE_AFTER; i++)
        get(t, "x");
    run(t);
    up(t, 'a');
    run(t);
    give_ring(t, 1);
    assert_non_null(t->s.route);
    t->n_sent = 0;
    forget(t);
}

static void test_the_ring_is_fetched_after_a_few_requests(void **state)
{
    struct story t;
    uint32_t i;

    (void)state;
    begin(&t, "a", false, 64);
    for (i = 0; i < SESSION_ROUTE_AFTER - 1; i++)
        get(&t, "x");
    run(&t);
    up(&t, 'a');
    run(&t);
    assert_null(strstr(t.trace, "ring"));
    get(&t, "x");
    run(&t);
    assert_non_null(strstr(t.trace, "send a ring"));
    end(&t);
}

static void test_direct_never_fetches_the_ring(void **state)
{
    struct story t;
    uint32_t i;

    (void)state;
    begin(&t, "a", true, 64);
    for (i = 0; i < 4 * SESSION_ROUTE_AFTER; i++)
        get(&t, "x");
    run(&t);
    up(&t, 'a');
    run(&t);
    assert_null(strstr(t.trace, "ring"));
    end(&t);
}

static void test_requests_go_to_the_primary_and_elsewhere_until_it_is_connected(void **state)
{
    struct story t;
    const char *k;

    (void)state;
    begin_with_ring(&t);
    k = key_in(&t, 1); /* primary b */
    get(&t, k);
    run(&t);
    assert_non_null(strstr(t.trace, "connect b"));
    assert_non_null(strstr(t.trace, "send a"));
    up(&t, 'b');
    forget(&t);
    put(&t, k);
    run(&t);
    assert_int_equal(sent_of(&t, k)->conn, conn_of(&t, 'b'));
    end(&t);
}

static void test_another_owner_serves_while_the_primary_is_down(void **state)
{
    struct story t;
    const char *k;

    (void)state;
    begin_with_ring(&t);
    k = key_in(&t, 1);
    get(&t, k);
    run(&t);
    down(&t, 'b');
    get(&t, k);
    run(&t);
    assert_int_equal(sent_of(&t, k)->conn, conn_of(&t, 'a'));
    end(&t);
}

static void test_a_newer_epoch_in_an_answer_fetches_the_ring_again(void **state)
{
    struct story t;
    struct wire_response res = {.type = RESULT_GET, .ring_epoch = 2};
    const char *k;

    (void)state;
    begin_with_ring(&t);
    k = key_in(&t, 0); /* primary a */
    get(&t, k);
    run(&t);
    res.id = sent_of(&t, k)->id;
    deliver(&t, 0, &res);
    at(&t, t.now + SESSION_RING_PAUSE_MS);
    forget(&t);
    run(&t);
    assert_non_null(strstr(t.trace, "send a ring"));
    give_ring(&t, 2);
    assert_int_equal(route_ring(t.s.route)->epoch, 2);
    end(&t);
}

static void test_an_older_ring_never_replaces_a_newer_one(void **state)
{
    struct story t;
    struct session_request req = {
        .op = OP_RING, .timeout_ms = 1000, .ctx = (void *)(uintptr_t) "R"};

    (void)state;
    begin_with_ring(&t);
    assert_int_equal(session_submit(&t.s, t.now, &req), 0);
    run(&t);
    give_ring(&t, 5);
    assert_int_equal(session_submit(&t.s, t.now, &req), 0);
    run(&t);
    give_ring(&t, 3);
    assert_int_equal(route_ring(t.s.route)->epoch, 5);
    end(&t);
}

/* Random events against the rules: every request ends exactly once, at its deadline at the latest,
 * no write is packed twice without REPEAT, and nothing is held at the end. */
static void test_random_events_keep_the_promises(void **state)
{
    static char names[64][8];
    struct story t;
    int round, i, sends[64], refusals[64], repeat[64];

    (void)state;
    for (round = 0; round < 300; round++) {
        int n = 0, open;

        begin(&t, "abc", round % 2, 64);
        t.s.pool.random = (uint64_t)round * 7919 + 1;
        memset(sends, 0, sizeof(sends));
        memset(refusals, 0, sizeof(refusals));
        for (i = 0; i < 400; i++) {
            struct pool *rng = &t.s.pool;
            uint32_t what = pool_random(rng, 10);
            uint32_t conn = pool_random(rng, t.s.pool.n_targets);
            struct pool_conn *c = pool_conn(&t.s.pool, conn);
            int k;

            if (what < 3 && n < 60) {
                snprintf(names[n], sizeof(names[n]), "k%d", n);
                repeat[n] = (int)pool_random(rng, 2);
                assert_int_equal(submit(&t, pool_random(rng, 2) ? OP_PUT : OP_GET, names[n],
                                        repeat[n] ? SESSION_REPEAT : 0),
                                 0);
                n++;
            } else if (what < 5 && c->state == POOL_CONNECTING) {
                up(&t, pool_target_of(&t.s.pool, conn)->address[0]);
            } else if (what == 5) {
                session_lost(&t.s, t.now, conn, "lost");
            } else if (what == 6) {
                at(&t, t.now + pool_random(rng, 400));
            } else if (t.n_sent > 0) {
                struct sent *s = &t.sent[pool_random(rng, (uint32_t)t.n_sent)];
                static const int codes[] = {0, 0, 0, ERR_OVERLOADED, ERR_NOT_READY, ERR_NO_QUORUM};

                int code = codes[pool_random(rng, 6)];

                if (pool_conn(&t.s.pool, s->conn)->state == POOL_UP && s->op != OP_RING) {
                    refusals[atoi(s->key + 1)] += code != 0;
                    answer_sent(&t, s, code);
                }
            }
            open = t.n_sent;
            if (open > SENT_MAX - 20) { /* forget the oldest */
                memmove(t.sent, t.sent + 30, (size_t)(open - 30) * sizeof(t.sent[0]));
                t.n_sent -= 30;
                open = t.n_sent;
            }
            run(&t);
            for (; open < t.n_sent; open++) {
                struct sent *s = &t.sent[open];

                if (s->op != OP_PUT)
                    continue;
                k = atoi(s->key + 1);
                sends[k]++;
                if (!repeat[k])
                    assert_true(sends[k] <= 1 + refusals[k]);
            }
        }
        at(&t, t.now + 10000);
        run(&t);
        assert_int_equal(t.s.n_pending, 0);
        assert_int_equal(t.s.bytes, 0);
        for (i = 0; i < n; i++) {
            char *first, want[16];

            snprintf(want, sizeof(want), "k%d=", i);
            first = strstr(t.trace, want);
            assert_non_null(first);
            assert_null(strstr(first + 1, want));
        }
        end(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_request_waits_for_hello_then_is_sent_and_answered),
        cmocka_unit_test(test_fail_fast_reports_unreachable_once_every_endpoint_failed),
        cmocka_unit_test(test_without_fail_fast_it_waits_for_the_node_to_come_back),
        cmocka_unit_test(test_never_connected_by_the_deadline_is_unreachable),
        cmocka_unit_test(test_a_read_moves_on_when_its_connection_is_lost),
        cmocka_unit_test(test_a_write_that_was_sent_is_never_sent_again),
        cmocka_unit_test(test_a_write_that_was_queued_but_not_sent_moves_on),
        cmocka_unit_test(test_with_repeat_a_lost_write_is_sent_again),
        cmocka_unit_test(test_a_refusal_after_a_lost_attempt_does_not_claim_nothing_was_written),
        cmocka_unit_test(test_no_answer_by_the_deadline),
        cmocka_unit_test(test_the_node_is_told_a_little_less_time_than_is_left),
        cmocka_unit_test(test_a_silent_node_is_left_for_another_by_reads_and_new_requests),
        cmocka_unit_test(test_a_late_answer_to_an_abandoned_attempt_is_ignored),
        cmocka_unit_test(test_refusals_that_wrote_nothing_are_tried_again),
        cmocka_unit_test(test_nodes_that_stay_overloaded_are_asked_seldom),
        cmocka_unit_test(test_not_ready_moves_on_at_once_if_another_node_is_up),
        cmocka_unit_test(test_a_node_that_shuts_down_is_left_alone_until_it_says_hello_again),
        cmocka_unit_test(
            test_the_only_node_that_shuts_down_is_asked_again_when_it_is_back_or_later),
        cmocka_unit_test(test_a_refusal_connects_to_the_others),
        cmocka_unit_test(test_final_refusals_end_the_request),
        cmocka_unit_test(test_no_quorum_is_tried_a_few_times_then_reported),
        cmocka_unit_test(test_the_last_refusal_is_the_reason_when_time_runs_out),
        cmocka_unit_test(test_the_table_is_bounded),
        cmocka_unit_test(test_the_bytes_held_are_bounded_but_one_request_is_always_taken),
        cmocka_unit_test(test_bad_keys_are_refused_before_anything_is_sent),
        cmocka_unit_test(test_a_connection_takes_a_bounded_number_in_flight),
        cmocka_unit_test(test_close_ends_everything_and_says_what_may_have_happened),
        cmocka_unit_test(test_an_idle_connection_that_closes_is_no_failure),
        cmocka_unit_test(test_a_request_meant_for_a_connection_that_closed_connects_again_at_once),
        cmocka_unit_test(test_a_node_that_closes_before_it_served_is_given_a_pause),
        cmocka_unit_test(test_back_off_grows_and_stays_below_its_limit),
        cmocka_unit_test(test_the_highest_clock_seen_is_sent_back),
        cmocka_unit_test(test_a_silent_node_makes_a_read_connect_to_another),
        cmocka_unit_test(test_a_word_about_the_connection_closes_it),
        cmocka_unit_test(test_a_node_of_another_cluster_is_not_used),
        cmocka_unit_test(test_an_internal_error_leaves_a_write_open),
        cmocka_unit_test(test_codes_of_newer_nodes_say_themselves_whether_to_repeat),
        cmocka_unit_test(test_an_answer_of_the_wrong_kind_breaks_the_connection),
        cmocka_unit_test(test_the_ring_is_fetched_after_a_few_requests),
        cmocka_unit_test(test_direct_never_fetches_the_ring),
        cmocka_unit_test(test_requests_go_to_the_primary_and_elsewhere_until_it_is_connected),
        cmocka_unit_test(test_another_owner_serves_while_the_primary_is_down),
        cmocka_unit_test(test_a_newer_epoch_in_an_answer_fetches_the_ring_again),
        cmocka_unit_test(test_an_older_ring_never_replaces_a_newer_one),
        cmocka_unit_test(test_random_events_keep_the_promises),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
