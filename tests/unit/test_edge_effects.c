/* What a worker's edge does with effects when something is full or memory is short. No core and no
 * thread: the effects are written by hand, the store is a counter of bytes. */
#include "tests/unit/test.h"

#include "proto/err.h"
#include "proto/frame.h"
#include "server/edge/client.h"
#include "server/edge/link.h"
#include "server/edge/status.h"
#include "server/edge/worker_loop.h"
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- memory that runs out -------------------------------------------------------------------- */

static int fail_allocations; /* that many from now on */

void *__real_malloc(size_t n);
void *__real_realloc(void *p, size_t n);
void *__real_calloc(size_t n, size_t size);
void *__wrap_malloc(size_t n);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_calloc(size_t n, size_t size);

static bool fails(void)
{
    return fail_allocations > 0 && fail_allocations-- > 0;
}

void *__wrap_malloc(size_t n)
{
    return fails() ? NULL : __real_malloc(n);
}

void *__wrap_realloc(void *p, size_t n)
{
    return fails() ? NULL : __real_realloc(p, n);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return fails() ? NULL : __real_calloc(n, size);
}

/* ---- a store with a bound -------------------------------------------------------------------- */

struct bounded_store {
    struct store store; /* first */
    size_t bytes, bytes_max;
    uint64_t n_taken;
    uint64_t sum; /* of the first bytes of the values: they arrived unharmed */
};

static int bounded_submit(struct store *s, uint32_t queue, const struct store_op *ops, size_t n,
                          uint64_t *ret_lsn)
{
    struct bounded_store *b = (struct bounded_store *)s;
    size_t bytes = 0;

    for (size_t i = 0; i < n; i++)
        bytes += ops[i].state.value.len;
    if (b->bytes > 0 && b->bytes + bytes > b->bytes_max)
        return -ERR_FULL;
    if (bytes > b->bytes_max)
        return -ERR_FULL;
    b->bytes += bytes;
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(ops[i].cookie, b->n_taken); /* in order */
        assert_memory_equal(ops[i].key.partition.data, "key", 3);
        b->n_taken++;
        b->sum += ops[i].state.value.data[0];
    }
    *ret_lsn = b->n_taken;
    return 0;
}

/* What it has been told of and says to come later. */
static struct {
    enum store_fetch says;
    uint64_t asked[8], done[8]; /* cookies */
    unsigned n_asked, n_done;
    const struct version *put; /* of the last one */
} fetching;

static enum store_fetch bounded_fetch(struct store *s, uint32_t queue, uint64_t cookie,
                                      uint64_t token, const struct key *key,
                                      const struct version *put)
{
    if (fetching.says == STORE_FETCH_LATER)
        fetching.asked[fetching.n_asked++] = cookie;
    fetching.put = put;
    return fetching.says;
}

static size_t bounded_fetched(struct store *s, uint32_t queue, uint64_t *cookies, size_t max)
{
    size_t n = fetching.n_done;

    memcpy(cookies, fetching.done, n * sizeof(*cookies));
    fetching.n_done = 0;
    return n;
}

static int bounded_get(struct store *s, uint32_t queue, uint64_t token, const struct key *key,
                       struct state *ret, uint64_t *ret_lsn)
{
    assert_memory_equal(key->partition.data, "key", 3);
    *ret = (struct state){.kind = STATE_LWW, .value = slice_str("value")};
    *ret_lsn = token;
    return 0;
}

static const struct store_ops bounded_ops = {.submit = bounded_submit,
                                             .get = bounded_get,
                                             .fetch = bounded_fetch,
                                             .fetched = bounded_fetched};

/* ---- the rig --------------------------------------------------------------------------------- */

struct rig {
    struct worker_loop wl;
    struct node node;
    struct bounded_store store;
    struct effects effects;
};

static void nothing(struct loop *l)
{
}

static const struct loop_hooks hooks = {nothing, nothing, nothing};

static struct rig *rig_new(void)
{
    struct loop_limits limits = {60000, 60000, 60000};
    struct rig *r = calloc(1, sizeof(*r));

    memset(&fetching, 0, sizeof(fetching));

    r->store.store.ops = &bounded_ops;
    r->node.store = &r->store.store;
    r->node.n_workers = 2;
    r->node.clients_max = 10;
    r->node.workers[0] = &r->wl;
    r->wl.node = &r->node;
    log_init(&r->node.log, LOG_ERROR, 2);
    assert_int_equal(loop_init(&r->wl.loop, 0, &hooks, &limits, &r->node.log), 0);
    assert_int_equal(worker_effects_init(&r->wl), 0);
    r->wl.outboxes = calloc(2, sizeof(*r->wl.outboxes));
    list_init(&r->wl.outboxes[0]);
    list_init(&r->wl.outboxes[1]);
    return r;
}

static void rig_free(struct rig *r)
{
    r->wl.closing = true;
    loop_close_all(&r->wl.loop);
    loop_run(&r->wl.loop);
    worker_effects_deinit(&r->wl);
    letters_free(&r->wl.outboxes[1]);
    free(r->wl.outboxes);
    loop_deinit(&r->wl.loop);
    log_deinit(&r->node.log);
    free(r);
}

static uint64_t until_ms; /* of the effects that follow */

static void put(struct rig *r, uint64_t cookie, struct slice value)
{
    r->effects.n = 1;
    r->effects.list[0] =
        (struct effect){.type = EFFECT_STORE,
                        .u.store = {.type = STORE_OP_MERGE,
                                    .cookie = cookie,
                                    .until_ms = until_ms,
                                    .key = {.bucket = 1, .partition = slice_str("key")},
                                    .state = {.kind = STATE_LWW, .value = value}}};
    worker_effects_run(&r->wl, &r->effects);
}

static void get(struct rig *r, uint64_t cookie)
{
    char name[4] = "key"; /* gone when it is read */

    r->effects.n = 1;
    r->effects.list[0] = (struct effect){.type = EFFECT_GET,
                                         .u.get = {.cookie = cookie,
                                                   .token = 7,
                                                   .key = {.partition = slice_str(name)},
                                                   .until_ms = until_ms}};
    worker_effects_run(&r->wl, &r->effects);
    memset(name, 0, sizeof(name));
}

static void put_fact(struct rig *r, uint64_t cookie)
{
    r->effects.n = 1;
    r->effects.list[0] = (struct effect){.type = EFFECT_STORE,
                                         .u.store = {.type = STORE_OP_META,
                                                     .cookie = cookie,
                                                     .key = {.partition = slice_str("key")},
                                                     .state.value = slice_str("v"),
                                                     .name = slice_str("key")}};
    worker_effects_run(&r->wl, &r->effects);
}

static void fetch_is_done(unsigned i)
{
    fetching.done[fetching.n_done++] = fetching.asked[i];
}

static void assert_got(struct rig *r, uint64_t cookie)
{
    struct done done;

    assert_true(dones_take(&r->wl.dones, &done));
    assert_int_equal(done.event.type, EVENT_GOT);
    assert_int_equal(done.event.u.got.cookie, cookie);
    assert_int_equal(done.event.u.got.error, 0);
    assert_int_equal(done.event.u.got.lsn, 7);
    assert_true(slice_equal(done.event.u.got.state.value, slice_str("value")));
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void what_would_wait_for_the_disk_is_parked(void **state)
{
    struct rig *r = rig_new();

    r->store.bytes_max = SIZE_MAX;
    get(r, 90); /* warm */
    assert_null(fetching.put);
    assert_got(r, 90);
    fetching.says = STORE_FETCH_LATER;
    get(r, 91);
    put(r, 0, slice_str("a"));
    assert_non_null(fetching.put);
    get(r, 92);
    assert_int_equal(fetching.n_asked, 3);
    assert_int_equal(r->wl.dones.n + r->wl.batch.n, 0);
    fetch_is_done(2);
    fetch_is_done(1);
    assert_int_equal(worker_effects_fetched(&r->wl), 2);
    assert_got(r, 92);
    assert_int_equal(r->wl.batch.n, 1);
    worker_effects_submit(&r->wl);
    assert_int_equal(r->store.n_taken, 1);
    assert_int_equal(r->store.sum, 'a');
    fetch_is_done(0);
    assert_int_equal(worker_effects_fetched(&r->wl), 1);
    assert_got(r, 91);
    assert_int_equal(r->wl.batch.bytes, 0);
    get(r, 93); /* still waits when the worker ends */
    rig_free(r);
}

/* It may say that no more merges are taken here. */
static void a_fact_overtakes_no_merge(void **state)
{
    struct rig *r = rig_new();

    r->store.bytes_max = SIZE_MAX;
    fetching.says = STORE_FETCH_LATER;
    put(r, 0, slice_str("a"));
    get(r, 90);
    put(r, 1, slice_str("b"));
    assert_int_equal(r->wl.batch.n, 0);
    put_fact(r, 2);
    assert_int_equal(r->wl.batch.n, 3);
    worker_effects_submit(&r->wl);
    assert_int_equal(r->store.n_taken, 3);
    for (unsigned i = 0; i < 3; i++) /* the cookies of the merges come nevertheless */
        fetch_is_done(i);
    assert_int_equal(worker_effects_fetched(&r->wl), 3);
    assert_got(r, 90);
    assert_int_equal(r->wl.batch.n + r->wl.batch.bytes, 0);
    rig_free(r);
}

static void without_memory_to_park_it_is_read_at_once(void **state)
{
    struct rig *r = rig_new();

    fetching.says = STORE_FETCH_LATER;
    get(r, 91);
    fail_allocations = 1; /* the copy of the key */
    get(r, 92);
    assert_int_equal(fetching.n_asked, 2);
    assert_got(r, 92);
    fetch_is_done(1);
    assert_int_equal(worker_effects_fetched(&r->wl), 1);
    assert_int_equal(r->wl.dones.n, 0);
    fetch_is_done(0);
    assert_int_equal(worker_effects_fetched(&r->wl), 1);
    assert_got(r, 91);
    rig_free(r);
}

static void too_much_that_waits_is_refused(void **state)
{
    struct rig *r = rig_new();
    struct done done;

    r->store.bytes_max = SIZE_MAX;
    fetching.says = STORE_FETCH_FULL;
    get(r, 90);
    assert_true(dones_take(&r->wl.dones, &done));
    assert_int_equal(done.event.type, EVENT_GOT);
    assert_int_equal(done.event.u.got.cookie, 90);
    assert_int_equal(done.event.u.got.error, -ERR_OVERLOADED);
    put(r, 91, slice_str("a"));
    assert_true(dones_take(&r->wl.dones, &done));
    assert_int_equal(done.event.type, EVENT_STORED);
    assert_int_equal(done.event.u.stored.cookie, 91);
    assert_int_equal(done.event.u.stored.error, -ERR_OVERLOADED);
    assert_int_equal(r->wl.batch.n + r->wl.batch.bytes, 0);
    rig_free(r);
}

static void what_was_parked_too_long_is_not_made(void **state)
{
    struct rig *r = rig_new();
    struct done done;

    r->store.bytes_max = SIZE_MAX;
    fetching.says = STORE_FETCH_LATER;
    until_ms = loop_now_ms(&r->wl.loop); /* by the time it is fetched */
    get(r, 90);
    put(r, 91, slice_str("a"));
    until_ms += 60000;
    get(r, 92);
    for (unsigned i = 0; i < 3; i++)
        fetch_is_done(i);
    assert_int_equal(worker_effects_fetched(&r->wl), 3);
    assert_true(dones_take(&r->wl.dones, &done));
    assert_int_equal(done.event.type, EVENT_GOT);
    assert_int_equal(done.event.u.got.cookie, 90);
    assert_int_equal(done.event.u.got.error, -ERR_DEADLINE);
    assert_true(dones_take(&r->wl.dones, &done));
    assert_int_equal(done.event.type, EVENT_STORED);
    assert_int_equal(done.event.u.stored.cookie, 91);
    assert_int_equal(done.event.u.stored.error, -ERR_DEADLINE);
    assert_got(r, 92);
    assert_int_equal(r->wl.batch.n + r->wl.batch.bytes, 0);
    until_ms = 0;
    rig_free(r);
}

static void what_waited_too_long_for_the_store_is_not_stored(void **state)
{
    struct rig *r = rig_new();
    struct done done;

    put(r, 0, slice_str("a"));
    until_ms = loop_now_ms(&r->wl.loop);
    put(r, 90, slice_str("b"));
    until_ms = 0;
    put(r, 1, slice_str("c"));
    worker_effects_submit(&r->wl); /* full: nothing is taken */
    assert_int_equal(r->wl.batch.n, 3);
    until_ms = loop_now_ms(&r->wl.loop);
    put(r, 2, slice_str("d")); /* late as well, but it has not waited */
    until_ms = 0;
    r->store.bytes_max = SIZE_MAX;
    worker_effects_submit(&r->wl);
    assert_int_equal(r->store.n_taken, 3);
    assert_int_equal(r->store.sum, 'a' + 'c' + 'd');
    assert_true(dones_take(&r->wl.dones, &done));
    assert_int_equal(done.event.u.stored.cookie, 90);
    assert_int_equal(done.event.u.stored.error, -ERR_DEADLINE);
    assert_int_equal(r->wl.batch.n + r->wl.batch.bytes, 0);
    rig_free(r);
}

/* All places are taken, and are free again afterwards. */
static void places_are_bounded(void **state)
{
    struct parked *p = calloc(1, sizeof(*p));
    struct store_op op = {0};

    assert_non_null(p);
    for (unsigned i = 0; i < STORE_FETCH_MAX; i++) {
        assert_int_equal(parked_next(p), i);
        op.cookie = 1000 + i;
        parked_put(p, PARKED_GET, &op);
    }
    assert_int_equal(parked_next(p), STORE_FETCH_MAX);
    assert_int_equal(parked_take(p, 7, &op), PARKED_GET);
    assert_int_equal(op.cookie, 1007);
    assert_int_equal(parked_take(p, 9, &op), PARKED_GET);
    assert_int_equal(parked_next(p), 9);
    parked_put(p, PARKED_MERGE, &op);
    assert_int_equal(parked_next(p), 7);
    parked_put(p, PARKED_GONE, NULL);
    assert_int_equal(parked_next(p), STORE_FETCH_MAX);
    assert_true(parked_hurry(p, &op));
    assert_false(parked_hurry(p, &op));
    assert_int_equal(parked_take(p, 9, &op), PARKED_GONE);
    parked_deinit(p);
    free(p);
}

static void a_batch_larger_than_the_stores_bound_drains(void **state)
{
    struct rig *r = rig_new();
    size_t len = 1u << 20;
    uint8_t *value = malloc(len);
    uint64_t n = 0, sum = 0;
    struct done done;

    r->store.bytes_max = 10 * len;
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 9; i++) { /* 180 MiB in all, and never an empty batch in between */
            memset(value, (int)(n % 251), len);
            sum += n % 251;
            put(r, n++, slice_of(value, len));
        }
        for (int i = 0; r->wl.batch.n > 5; i++) {
            assert_true(i < 10); /* each look at the store makes some progress */
            worker_effects_submit(&r->wl);
            r->store.bytes = 0; /* it has written them */
        }
        put(r, n, slice_of(value, len));
        sum += value[0];
        n++;
    }
    for (int i = 0; r->wl.batch.n > 0; i++) {
        assert_true(i < 10);
        worker_effects_submit(&r->wl);
        r->store.bytes = 0;
    }
    assert_int_equal(r->store.n_taken, n);
    assert_int_equal(r->store.sum, sum);
    assert_int_equal(r->wl.batch.bytes, 0);
    assert_false(dones_take(&r->wl.dones, &done)); /* none was refused */
    free(value);
    rig_free(r);
}

static void the_batch_is_bounded_and_says_so(void **state)
{
    struct rig *r = rig_new();
    size_t len = 8u << 20;
    uint8_t *value = calloc(1, len);
    unsigned n_max = STORE_QUEUE_BYTES_MAX / (8u << 20);
    struct done done;

    for (unsigned i = 0; i < n_max; i++) /* the last one does not fit with its key */
        put(r, i, slice_of(value, len));
    assert_true(dones_take(&r->wl.dones, &done));
    assert_int_equal(done.event.type, EVENT_STORED);
    assert_int_equal(done.event.u.stored.cookie, n_max - 1);
    assert_int_equal(done.event.u.stored.error, -ERR_OVERLOADED);
    r->store.bytes_max = SIZE_MAX;
    worker_effects_submit(&r->wl);
    put(r, n_max - 1, slice_of(value, len)); /* room again */
    worker_effects_submit(&r->wl);
    assert_int_equal(r->store.n_taken, n_max);
    assert_false(dones_take(&r->wl.dones, &done));
    free(value);
    rig_free(r);
}

/* Answers along a client's connection with a number of allocations failing; returns the error code
 * that arrives, or -1 if the connection ends without. */
static int answer_without_memory(struct rig *r, const struct wire_response *res, int n_failing)
{
    static uint8_t bytes[65536];
    struct wire_response got;
    struct arena arena;
    struct slice body;
    size_t used, want;
    int fds[2], code = -1;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    client_accept(&r->wl, fds[1]);
    struct conn *c = list_entry(r->wl.loop.conns.prev, struct conn, all);
    r->effects.n = 1;
    r->effects.list[0] = (struct effect){.type = EFFECT_REPLY, .u.reply.conn = c->id};
    r->effects.list[0].u.reply.response = *res;
    fail_allocations = n_failing;
    worker_effects_run(&r->wl, &r->effects);
    fail_allocations = 0;
    uv_run(&r->wl.loop.uv, UV_RUN_NOWAIT);
    uv_run(&r->wl.loop.uv, UV_RUN_NOWAIT);
    ssize_t n = recv(fds[0], bytes, sizeof(bytes), 0);
    arena_init(&arena, 1u << 20);
    if (n > 0) {
        assert_int_equal(frame_next(slice_of(bytes, (size_t)n), &body, &used, &want), 1);
        assert_int_equal(wire_response_unpack(body, &arena, &got), 0);
        assert_int_equal(got.id, res->id);
        code = got.error.code;
    }
    arena_deinit(&arena);
    close(fds[0]);
    return code;
}

static void a_stored_write_is_never_called_unwritten(void **state)
{
    struct wire_response write = {.id = 7, .type = RESULT_WRITE, .u.write = {.replicas = 2}};
    struct wire_response get = {.id = 8, .type = RESULT_GET, .u.get = {.found = false}};
    struct rig *r = rig_new();

    assert_int_equal(answer_without_memory(r, &write, 0), 0);
    assert_int_equal(answer_without_memory(r, &write, 1), ERR_UNKNOWN_OUTCOME);
    assert_int_equal(answer_without_memory(r, &write, 100), -1);
    assert_int_equal(answer_without_memory(r, &get, 1), ERR_NO_MEMORY);
    rig_free(r);
}

/* The error code of the last answer in what is unsent, from there on. */
static uint32_t last_answer(const struct conn *c, size_t from, uint64_t *ret_id)
{
    struct wire_response got;
    struct arena arena;
    struct slice body;
    size_t used, want;

    assert_int_equal(
        frame_next(slice_of(c->out.data + from, c->out.len - from), &body, &used, &want), 1);
    assert_int_equal(used, c->out.len - from);
    arena_init(&arena, 1u << 20);
    assert_int_equal(wire_response_unpack(body, &arena, &got), 0);
    *ret_id = got.id;
    arena_deinit(&arena);
    return got.error.code;
}

/* As control answers, with a frame of so many bytes more than its few own. */
static struct letter *status_letter(const struct conn *c, uint64_t id, size_t len)
{
    struct letter *letter = letter_new(LETTER_ANSWER, 2);
    uint8_t *value = calloc(1, len);
    struct wire_response res = {
        .id = id, .type = RESULT_GET, .u.get = {.found = true, .value = slice_of(value, len)}};
    struct buf out = {0};

    assert_int_equal(wire_response_pack(&res, &out), 0);
    letter->u.status.conn = c->id;
    letter->u.status.id = id;
    letter->u.status.frame = blob_copy(buf_slice(&out));
    buf_deinit(&out);
    free(value);
    return letter;
}

/* A client that asks for the ring again and again and takes nothing is refused like one that asks
 * for large values. */
static void a_status_for_a_client_that_takes_nothing_is_refused(void **state)
{
    struct rig *r = rig_new();
    struct letter *large, *small;
    size_t before, len = CONN_OUT_REFUSE_BYTES + 1;
    uint8_t *unsent = calloc(1, len);
    uint64_t id;
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    client_accept(&r->wl, fds[1]);
    struct conn *c = list_entry(r->wl.loop.conns.prev, struct conn, all);
    large = status_letter(c, 21, CONN_ANSWER_SMALL_BYTES);
    small = status_letter(c, 22, 100);
    large->u.status.tag = meter_tag(&r->wl.meters, OP_STATUS);
    r->wl.n_statuses = 3;
    status_take(&r->wl, large);
    assert_int_equal(last_answer(c, 0, &id), 0);
    assert_int_equal(buf_append(conn_out(c), unsent, len), 0);
    conn_sent(c);
    before = c->out.len;
    status_take(&r->wl, large);
    assert_int_equal(last_answer(c, before, &id), ERR_OVERLOADED);
    assert_int_equal(id, 21);
    before = c->out.len;
    status_take(&r->wl, small);
    assert_int_equal(last_answer(c, before, &id), 0);
    assert_int_equal(r->wl.n_statuses, 0);
    assert_int_equal(meter_get(&r->wl.meters.answers[OP_STATUS][METER_OVERLOADED]), 1);
    letter_free(large);
    letter_free(small);
    free(unsent);
    close(fds[0]);
    rig_free(r);
}

static void send_peer(struct rig *r, struct addr to, const struct wire_peer *msg)
{
    r->effects.n = 1;
    r->effects.list[0] = (struct effect){.type = EFFECT_SEND, .u.send = {.to = to, .msg = *msg}};
    worker_effects_run(&r->wl, &r->effects);
}

/* The core is told that this request was refused, with all that it is known by. */
static void assert_refused(struct rig *r, const struct wire_peer *request,
                           enum wire_peer_type reply, enum addr_kind from)
{
    struct wire_peer msg;
    struct done done;

    assert_true(dones_take(&r->wl.dones, &done));
    assert_int_equal(done.event.type, EVENT_PEER);
    assert_int_equal(done.event.u.peer.from.kind, from);
    assert_null(done.event.u.peer.owner);
    refusal_message(&done.refusal, &msg);
    assert_int_equal(msg.type, reply);
    assert_int_equal(msg.error, ERR_OVERLOADED);
    assert_int_equal(msg.id, request->id);
    assert_int_equal(msg.replica.partition, request->replica.partition);
    assert_int_equal(msg.replica.slot, request->replica.slot);
    assert_int_equal(msg.replica.incarnation, request->replica.incarnation);
}

static struct wire_peer put_request(uint64_t id)
{
    return (struct wire_peer){.type = PEER_PUT,
                              .id = id,
                              .replica = {.partition = 3, .slot = 1, .incarnation = 9, .fence = 2},
                              .u.put = {.key = {.bucket = 1, .partition = slice_str("key")},
                                        .state = {.kind = STATE_LWW, .value = slice_str("v")}}};
}

static void a_request_without_memory_for_its_letter_bounces(void **state)
{
    struct rig *r = rig_new();
    struct addr sibling = {.kind = ADDR_WORKER, .worker = 1};
    struct wire_peer request = put_request(5), reply = {.type = PEER_PUT_REPLY, .id = 6};
    struct done done;

    fail_allocations = 1;
    send_peer(r, sibling, &request);
    fail_allocations = 0;
    assert_true(list_empty(&r->wl.outboxes[1]));
    assert_refused(r, &request, PEER_PUT_REPLY, ADDR_WORKER);
    fail_allocations = 1;
    send_peer(r, sibling, &reply);
    fail_allocations = 0;
    assert_false(dones_take(&r->wl.dones, &done)); /* nobody here waits for a reply */
    send_peer(r, sibling, &request);
    assert_false(list_empty(&r->wl.outboxes[1]));
    assert_false(dones_take(&r->wl.dones, &done));
    rig_free(r);
}

static void refusals_are_bounded(void **state)
{
    struct rig *r = rig_new();
    struct addr sibling = {.kind = ADDR_WORKER, .worker = 1};
    struct wire_peer request = put_request(5);

    for (unsigned i = 0; i < DONES_REFUSALS_MAX + 10; i++) {
        fail_allocations = 1;
        send_peer(r, sibling, &request);
    }
    fail_allocations = 0;
    for (unsigned i = 0; i < DONES_REFUSALS_MAX; i++)
        assert_refused(r, &request, PEER_PUT_REPLY, ADDR_WORKER);
    assert_int_equal(r->wl.dones.n, 0);
    assert_int_equal(r->wl.dones.n_refusals, 0);
    rig_free(r);
}

/* The last message in the link's out-buffer. */
static void last_message(struct conn *c, size_t from, struct arena *arena, struct wire_peer *ret)
{
    struct slice body;
    size_t used, want;

    assert_int_equal(
        frame_next(slice_of(c->out.data + from, c->out.len - from), &body, &used, &want), 1);
    assert_int_equal(used, c->out.len - from);
    assert_int_equal(wire_peer_unpack(body, arena, ret), 0);
}

static void a_full_link_refuses_instead_of_losing(void **state)
{
    struct rig *r = rig_new();
    size_t len = 8u << 20, before;
    uint8_t *value = calloc(1, len);
    struct wire_peer request = put_request(5), got;
    struct wire_peer read = {
        .type = PEER_GET_REPLY,
        .id = 11,
        .replica = {.partition = 3, .slot = 1, .incarnation = 9, .fence = 2},
        .u.get_reply = {.found = FOUND_STATE,
                        .state = {.kind = STATE_LWW, .value = slice_of(value, len)}}};
    struct wire_peer wrote = {
        .type = PEER_PUT_REPLY, .id = 12, .u.put_reply = {.outcome = OUTCOME_STORED}};
    struct letter *letter = letter_new(LETTER_SOCKET, 0);
    struct arena arena;
    struct done done;
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    letter->u.socket.kind = SOCKET_LINK;
    letter->u.socket.fd = fds[1];
    letter->u.socket.node = 1;
    link_accept(&r->wl, letter);
    letter_free(letter);
    struct conn *c = list_entry(r->wl.loop.conns.prev, struct conn, all);
    struct addr back = {.kind = ADDR_LINK, .node = 1, .link = c->id};

    arena_init(&arena, 1u << 20);
    send_peer(r, back, &request);
    assert_false(dones_take(&r->wl.dones, &done)); /* sent */
    while (conn_unsent(c) <= LINK_OUT_BYTES_MAX)
        send_peer(r, back, &read);
    before = c->out.len;
    send_peer(r, back, &read);
    last_message(c, before, &arena, &got);
    assert_int_equal(got.type, PEER_GET_REPLY);
    assert_int_equal(got.error, ERR_OVERLOADED);
    assert_int_equal(got.id, 11);
    assert_int_equal(got.replica.partition, 3);
    assert_int_equal(got.replica.incarnation, 9);
    before = c->out.len;
    send_peer(r, back, &wrote); /* small, and the truth */
    last_message(c, before, &arena, &got);
    assert_int_equal(got.type, PEER_PUT_REPLY);
    assert_int_equal(got.error, 0);
    assert_int_equal(got.u.put_reply.outcome, OUTCOME_STORED);
    before = c->out.len;
    assert_false(dones_take(&r->wl.dones, &done));
    send_peer(r, back, &request);
    assert_int_equal(c->out.len, before);
    assert_refused(r, &request, PEER_PUT_REPLY, ADDR_LINK);
    arena_deinit(&arena);
    free(value);
    close(fds[0]);
    rig_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_would_wait_for_the_disk_is_parked),
        cmocka_unit_test(a_fact_overtakes_no_merge),
        cmocka_unit_test(without_memory_to_park_it_is_read_at_once),
        cmocka_unit_test(too_much_that_waits_is_refused),
        cmocka_unit_test(what_was_parked_too_long_is_not_made),
        cmocka_unit_test(what_waited_too_long_for_the_store_is_not_stored),
        cmocka_unit_test(places_are_bounded),
        cmocka_unit_test(a_batch_larger_than_the_stores_bound_drains),
        cmocka_unit_test(the_batch_is_bounded_and_says_so),
        cmocka_unit_test(a_stored_write_is_never_called_unwritten),
        cmocka_unit_test(a_status_for_a_client_that_takes_nothing_is_refused),
        cmocka_unit_test(a_request_without_memory_for_its_letter_bounces),
        cmocka_unit_test(refusals_are_bounded),
        cmocka_unit_test(a_full_link_refuses_instead_of_losing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
