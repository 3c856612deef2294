/* What must not be believed: truncated, mutated and crafted messages. Bytes are written by hand
 * here where pack would not produce them. Every body lies in a heap block of exactly its size, so
 * that a sanitizer sees a read beyond it.
 */
#include "test.h"

#include "proto/frame.h"
#include "tests/unit/wire_sample.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- the three kinds of message, alike ---------------------------------------------------- */

union any {
    struct wire_request request;
    struct wire_response response;
    struct wire_peer peer;
};

struct kind {
    int (*unpack)(struct slice body, struct arena *arena, union any *ret);
    int (*pack)(const union any *msg, struct buf *out);
};

static int request_unpack(struct slice body, struct arena *arena, union any *ret)
{
    return wire_request_unpack(body, arena, &ret->request);
}

static int request_pack(const union any *msg, struct buf *out)
{
    return wire_request_pack(&msg->request, out);
}

static int response_unpack(struct slice body, struct arena *arena, union any *ret)
{
    return wire_response_unpack(body, arena, &ret->response);
}

static int response_pack(const union any *msg, struct buf *out)
{
    return wire_response_pack(&msg->response, out);
}

static int peer_unpack(struct slice body, struct arena *arena, union any *ret)
{
    return wire_peer_unpack(body, arena, &ret->peer);
}

static int peer_pack(const union any *msg, struct buf *out)
{
    return wire_peer_pack(&msg->peer, out);
}

static const struct kind kinds[] = {
    {request_unpack, request_pack}, {response_unpack, response_pack}, {peer_unpack, peer_pack}};

#define N_SAMPLES (SAMPLE_REQUESTS + SAMPLE_RESPONSES + SAMPLE_PEERS)

struct sample {
    const struct kind *kind;
    struct buf frame;
};

static struct slice sample_body(const struct sample *s)
{
    return slice_of(s->frame.data + LIMIT_FRAME_HEADER_BYTES,
                    s->frame.len - LIMIT_FRAME_HEADER_BYTES);
}

static struct sample samples[N_SAMPLES];

static int build_samples(void **state)
{
    static struct wire_request requests[SAMPLE_REQUESTS];
    static struct wire_response responses[SAMPLE_RESPONSES];
    static struct wire_peer peers[SAMPLE_PEERS];
    size_t n = 0;

    sample_requests(requests);
    sample_responses(responses);
    sample_peers(peers);
    for (size_t i = 0; i < SAMPLE_REQUESTS; i++, n++) {
        samples[n].kind = &kinds[0];
        assert_int_equal(wire_request_pack(&requests[i], &samples[n].frame), 0);
    }
    for (size_t i = 0; i < SAMPLE_RESPONSES; i++, n++) {
        samples[n].kind = &kinds[1];
        assert_int_equal(wire_response_pack(&responses[i], &samples[n].frame), 0);
    }
    for (size_t i = 0; i < SAMPLE_PEERS; i++, n++) {
        samples[n].kind = &kinds[2];
        assert_int_equal(wire_peer_pack(&peers[i], &samples[n].frame), 0);
    }
    return 0;
}

static int free_samples(void **state)
{
    for (size_t i = 0; i < N_SAMPLES; i++)
        buf_deinit(&samples[i].frame);
    return 0;
}

/* Unpacks a private copy of the bytes; what is accepted must survive another round trip. */
static int try_body(const struct kind *kind, struct slice body)
{
    uint8_t *copy = malloc(body.len + !body.len);
    struct arena arena, arena2;
    union any msg, again;

    assert_non_null(copy);
    if (body.len)
        memcpy(copy, body.data, body.len);
    arena_init(&arena, WIRE_ARENA_BUDGET(body.len));
    arena_init(&arena2, WIRE_ARENA_BUDGET(2 * body.len + 4096));
    int r = kind->unpack(slice_of(copy, body.len), &arena, &msg);
    assert_true(r <= 0 && (r == 0 || err_known(r)));
    if (r == 0) {
        struct buf a = {0}, b = {0};
        if (kind->pack(&msg, &a) == 0) {
            struct slice second = slice_of(a.data + 4, a.len - 4);
            assert_int_equal(kind->unpack(second, &arena2, &again), 0);
            assert_int_equal(kind->pack(&again, &b), 0);
            assert_true(slice_equal(buf_slice(&a), buf_slice(&b)));
        }
        buf_deinit(&a);
        buf_deinit(&b);
    }
    arena_deinit(&arena);
    arena_deinit(&arena2);
    free(copy);
    return r;
}

static void truncation_at_every_byte_is_survived(void **state)
{
    for (size_t i = 0; i < N_SAMPLES; i++) {
        struct slice body = sample_body(&samples[i]);
        assert_int_equal(try_body(samples[i].kind, body), 0);
        for (size_t cut = 0; cut < body.len; cut++)
            try_body(samples[i].kind, slice_of(body.data, cut));
        assert_int_equal(try_body(samples[i].kind, slice_of(body.data, 0)), -ERR_BAD_REQUEST);
    }
}

static void every_kind_survives_every_other_kinds_bytes(void **state)
{
    for (size_t i = 0; i < N_SAMPLES; i++) {
        for (size_t k = 0; k < ARRAY_LEN(kinds); k++)
            try_body(&kinds[k], sample_body(&samples[i]));
    }
}

static void mutate(struct test_random *random, struct buf *b)
{
    size_t n = 1 + (size_t)test_random_below(random, 4);

    for (size_t i = 0; i < n && b->len; i++) {
        size_t at = (size_t)test_random_below(random, b->len);
        switch (test_random_below(random, 5)) {
        case 0:
            b->data[at] = (uint8_t)test_random_u64(random);
            break;
        case 1:
            b->data[at] ^= (uint8_t)(1u << test_random_below(random, 8));
            break;
        case 2:
            b->data[at] = 0xff;
            break;
        case 3: /* lose a run */
            memmove(b->data + at, b->data + at + 1, b->len - at - 1);
            b->len--;
            break;
        default: { /* repeat a run at the end */
            size_t len = (size_t)test_random_below(random, b->len - at) + 1;
            assert_int_equal(buf_reserve(b, len), 0);
            memcpy(b->data + b->len, b->data + at, len);
            b->len += len;
        }
        }
    }
}

static void random_mutation_is_survived(void **state)
{
    const char *env = getenv("QUOIT_SEED");
    struct test_random random = {.s = env ? strtoull(env, NULL, 0) : 20240229};
    size_t n_accepted = 0;

    print_message("# seed %llu\n", (unsigned long long)random.s);
    for (int i = 0; i < 60000; i++) {
        const struct sample *s = &samples[test_random_below(&random, N_SAMPLES)];
        struct slice body = sample_body(s);
        struct buf b = {0};
        assert_int_equal(buf_append_slice(&b, body), 0);
        mutate(&random, &b);
        n_accepted += try_body(s->kind, buf_slice(&b)) == 0;
        buf_deinit(&b);
    }
    assert_true(n_accepted > 1000); /* else the mutation is too coarse to test anything */
}

/* ---- crafting ---------------------------------------------------------------------------- */

static void put_varint(struct buf *b, uint64_t v)
{
    do {
        uint8_t byte = (uint8_t)((v & 0x7f) | (v > 0x7f ? 0x80 : 0));
        assert_int_equal(buf_append(b, &byte, 1), 0);
        v >>= 7;
    } while (v);
}

static void put_number(struct buf *b, uint32_t field, uint64_t v)
{
    put_varint(b, field << 3 | 0);
    put_varint(b, v);
}

static void put_bytes(struct buf *b, uint32_t field, const void *data, size_t len)
{
    put_varint(b, field << 3 | 2);
    put_varint(b, len);
    assert_int_equal(buf_append(b, data, len), 0);
}

static void put_message(struct buf *b, uint32_t field, struct buf *inner)
{
    put_bytes(b, field, inner->data, inner->len);
    buf_deinit(inner);
}

/* Unpacks a request and frees the bytes. */
static int unpack_request(struct buf *b, struct wire_request *ret)
{
    struct arena arena;

    arena_init(&arena, WIRE_ARENA_BUDGET(b->len));
    int r = wire_request_unpack(buf_slice(b), &arena, ret);
    /* The bytes go; lengths and numbers may still be looked at. */
    arena_deinit(&arena);
    buf_deinit(b);
    return r;
}

/* A get, put or delete with these lengths. */
static int unpack_keyed(uint32_t op, size_t partition, size_t sort, size_t value, uint64_t level,
                        struct wire_request *ret)
{
    struct buf b = {0}, inner = {0}, key = {0};
    uint8_t *bytes = calloc(1, value + partition + sort + 1);

    assert_non_null(bytes);
    put_bytes(&key, 2, bytes, partition);
    put_bytes(&key, 3, bytes, sort);
    put_message(&inner, 1, &key);
    put_number(&inner, 2, level);
    if (op == 11)
        put_bytes(&inner, 3, bytes, value);
    put_number(&b, 1, 4711);
    put_message(&b, op, &inner);
    free(bytes);
    return unpack_request(&b, ret);
}

static void refusals_are_typed_and_keep_the_id(void **state)
{
    static const struct {
        size_t partition, sort, value;
        uint64_t level;
        int expect;
    } cases[] = {
        {1, 0, 0, 0, 0},
        {LIMIT_KEY_BYTES, 0, 0, 3, 0},
        {0, 0, 0, 0, -ERR_KEY_EMPTY},
        {0, 5, 0, 0, -ERR_KEY_EMPTY},
        {LIMIT_KEY_BYTES + 1, 0, 0, 0, -ERR_KEY_TOO_LARGE},
        {LIMIT_KEY_BYTES, 1, 0, 0, -ERR_KEY_TOO_LARGE},
        {1u << 20, 0, 0, 0, -ERR_KEY_TOO_LARGE},
        {1, 0, 0, 4, -ERR_BAD_REQUEST},
        {1, 0, 0, UINT64_MAX, -ERR_BAD_REQUEST},
        {1, 0, 0, 1u << 31, -ERR_BAD_REQUEST},
    };
    struct wire_request req;

    for (uint32_t op = 10; op <= 12; op++) {
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
            assert_int_equal(unpack_keyed(op, cases[i].partition, cases[i].sort, cases[i].value,
                                          cases[i].level, &req),
                             cases[i].expect);
            assert_int_equal(req.id, 4711);
            assert_int_equal(req.key.partition.len, cases[i].partition);
            assert_int_equal(req.key.sort.len, cases[i].sort);
        }
    }
    assert_int_equal(unpack_keyed(11, 1, 0, LIMIT_VALUE_BYTES, 0, &req), 0);
    assert_int_equal(unpack_keyed(11, 1, 0, LIMIT_VALUE_BYTES + 1, 0, &req), -ERR_VALUE_TOO_LARGE);
    assert_int_equal(req.id, 4711);
    assert_int_equal(req.value.len, LIMIT_VALUE_BYTES + 1);
    assert_int_equal(req.op, OP_PUT);
}

static void a_missing_key_is_an_empty_key(void **state)
{
    struct wire_request req;
    struct buf b = {0};

    put_number(&b, 1, 5);
    put_bytes(&b, 10, "", 0);
    assert_int_equal(unpack_request(&b, &req), -ERR_KEY_EMPTY);
    assert_int_equal(req.id, 5);
    assert_int_equal(req.op, OP_GET);
}

static void an_unknown_op_is_unsupported_and_none_is_malformed(void **state)
{
    struct wire_request req;
    struct buf b = {0};

    put_number(&b, 1, 77);
    put_bytes(&b, 200, "future", 6);
    assert_int_equal(unpack_request(&b, &req), -ERR_UNSUPPORTED);
    assert_int_equal(req.id, 77);
    put_number(&b, 1, 78);
    assert_int_equal(unpack_request(&b, &req), -ERR_BAD_REQUEST);
    assert_int_equal(req.id, 78);
}

static void unknown_fields_beside_a_known_op_are_ignored(void **state)
{
    struct wire_request req;
    struct buf b = {0};

    put_number(&b, 1, 79);
    put_bytes(&b, 9, "", 0);
    put_bytes(&b, 200, "future", 6);
    put_number(&b, 201, 1);
    assert_int_equal(unpack_request(&b, &req), 0);
    assert_int_equal(req.op, OP_PING);
}

static void garbage_leaves_a_zero_request(void **state)
{
    struct wire_request req, zero;
    struct buf b = {0};

    memset(&req, 0xaa, sizeof(req));
    memset(&zero, 0, sizeof(zero));
    assert_int_equal(buf_append(&b, "\xff\xff\xff\xff", 4), 0);
    assert_int_equal(unpack_request(&b, &req), -ERR_BAD_REQUEST);
    assert_memory_equal(&req, &zero, sizeof(req));
}

static int unpack_scan(uint64_t partition, uint64_t n_partitions, size_t cursor)
{
    static const uint8_t bytes[LIMIT_CURSOR_BYTES + 1];
    struct wire_request req;
    struct buf b = {0}, inner = {0};

    put_number(&inner, 1, partition);
    put_number(&inner, 2, n_partitions);
    put_bytes(&inner, 4, bytes, cursor);
    put_number(&b, 1, 6);
    put_message(&b, 13, &inner);
    int r = unpack_request(&b, &req);
    assert_int_equal(req.id, 6);
    return r;
}

static void scans_are_checked(void **state)
{
    assert_int_equal(unpack_scan(0, 64, 0), 0);
    assert_int_equal(unpack_scan(63, 64, LIMIT_CURSOR_BYTES), 0);
    assert_int_equal(unpack_scan(64, 64, 0), -ERR_BAD_REQUEST);
    assert_int_equal(unpack_scan(0, 0, 0), -ERR_BAD_REQUEST);
    assert_int_equal(unpack_scan(0, 64, LIMIT_CURSOR_BYTES + 1), -ERR_BAD_REQUEST);
}

static int unpack_hello(const void *client, size_t len)
{
    struct wire_request req;
    struct buf b = {0}, inner = {0};

    put_number(&inner, 1, 1);
    put_bytes(&inner, 2, client, len);
    put_number(&b, 1, 8);
    put_message(&b, 8, &inner);
    int r = unpack_request(&b, &req);
    assert_int_equal(req.id, 8);
    return r;
}

static void client_names_are_short_and_printable(void **state)
{
    char name[LIMIT_NAME_BYTES + 1];

    memset(name, '~', sizeof(name));
    assert_int_equal(unpack_hello("", 0), 0);
    assert_int_equal(unpack_hello(name, LIMIT_NAME_BYTES), 0);
    assert_int_equal(unpack_hello(name, LIMIT_NAME_BYTES + 1), -ERR_BAD_REQUEST);
    assert_int_equal(unpack_hello("a\nb", 3), -ERR_BAD_REQUEST);
    assert_int_equal(unpack_hello("a\0b", 3), -ERR_BAD_REQUEST);
    assert_int_equal(unpack_hello("\x80", 1), -ERR_BAD_REQUEST);
}

/* ---- rings ------------------------------------------------------------------------------- */

static int ring_through_the_wire(const struct wire_ring *ring)
{
    struct buf b = {0};
    struct arena arena;
    struct wire_ring back;

    arena_init(&arena, WIRE_ARENA_BUDGET_RING);
    assert_int_equal(wire_ring_pack(ring, &b), 0);
    int r = wire_ring_unpack(buf_slice(&b), &arena, &back);
    arena_deinit(&arena);
    buf_deinit(&b);
    return r;
}

#define REFUSED_WITH(change)                                                                       \
    do {                                                                                           \
        struct wire_ring bad = *ring;                                                              \
        change;                                                                                    \
        assert_int_equal(ring_through_the_wire(&bad), -ERR_BAD_REQUEST);                           \
    } while (0)

static void rings_out_of_bounds_are_refused(void **state)
{
    struct wire_ring *ring = sample_ring(64, 3, 4);
    static uint32_t voters[LIMIT_VOTERS_MAX + 1];
    static uint32_t buckets[LIMIT_BUCKETS_MAX + 1];

    assert_int_equal(ring_through_the_wire(ring), 0);
    REFUSED_WITH(bad.n_partitions = 0);
    REFUSED_WITH(bad.n_partitions = 32);
    REFUSED_WITH(bad.n_partitions = 63);
    REFUSED_WITH(bad.n_replicas = 0);
    REFUSED_WITH(bad.n_replicas = LIMIT_REPLICAS_MAX + 1);
    REFUSED_WITH(bad.n_slots = 0);
    REFUSED_WITH(bad.n_slots = 2; bad.primary = (uint32_t[64]){[63] = 2});
    REFUSED_WITH(bad.n_members = 0);
    REFUSED_WITH(bad.n_members = 3); /* a slot names the fourth */
    REFUSED_WITH(bad.voters = voters; bad.n_voters = ARRAY_LEN(voters));
    REFUSED_WITH(bad.voters = (uint32_t[1]){4}; bad.n_voters = 1);
    REFUSED_WITH(bad.buckets = buckets; bad.n_buckets = ARRAY_LEN(buckets));
    REFUSED_WITH(bad.primary = (uint32_t[64]){[0] = 3});
    REFUSED_WITH(bad.slot_state = (uint32_t[192]){[191] = 3});
    REFUSED_WITH(bad.slot_member = (uint32_t[192]){[0] = UINT32_MAX});
    REFUSED_WITH(bad.fence = NULL); /* a ring without its table is only for forming */
    sample_ring_free(ring);
}

#define REFUSED_MEMBER(change)                                                                     \
    do {                                                                                           \
        struct wire_member bad = ring->members[0];                                                 \
        struct wire_ring with = *ring;                                                             \
        change;                                                                                    \
        with.members = &bad;                                                                       \
        assert_int_equal(ring_through_the_wire(&with), -ERR_BAD_REQUEST);                          \
    } while (0)

static void members_with_bad_names_are_refused(void **state)
{
    struct wire_ring *ring = sample_ring(64, 1, 1);
    char text[LIMIT_ADDRESS_BYTES + 1];

    memset(text, 'x', sizeof(text));
    REFUSED_MEMBER(bad.name = slice_of(text, LIMIT_NAME_BYTES + 1));
    REFUSED_MEMBER(bad.zone = slice_of(text, LIMIT_NAME_BYTES + 1));
    REFUSED_MEMBER(bad.client_address = slice_of(text, LIMIT_ADDRESS_BYTES + 1));
    REFUSED_MEMBER(bad.peer_address = slice_of(text, LIMIT_ADDRESS_BYTES + 1));
    REFUSED_MEMBER(bad.name = slice_str("\x1b[31m"));
    REFUSED_MEMBER(bad.peer_address = slice_of("a\0", 2));
    sample_ring_free(ring);
}

/* Array lengths that do not fit the counts, which pack cannot produce: cut one array by hand. */
static void arrays_of_the_wrong_length_are_refused(void **state)
{
    static const uint32_t fields[] = {11, 12, 13, 14, 15};

    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        struct wire_ring *ring = sample_ring(64, 1, 1), back;
        struct buf b = {0};
        struct arena arena;
        arena_init(&arena, WIRE_ARENA_BUDGET_RING);
        assert_int_equal(wire_ring_pack(ring, &b), 0);
        put_bytes(&b, fields[i], "\x00", 1); /* packed runs add up: one element too many */
        assert_int_equal(wire_ring_unpack(buf_slice(&b), &arena, &back), -ERR_BAD_REQUEST);
        arena_deinit(&arena);
        buf_deinit(&b);
        sample_ring_free(ring);
    }
}

static void ids_have_sixteen_bytes(void **state)
{
    for (size_t len = 0; len <= 20; len++) {
        struct wire_response res;
        struct buf b = {0}, ping = {0};
        struct arena arena;
        put_bytes(&ping, 1, "01234567890123456789", len);
        put_message(&b, 9, &ping);
        arena_init(&arena, WIRE_ARENA_BUDGET(b.len));
        assert_int_equal(wire_response_unpack(buf_slice(&b), &arena, &res),
                         len == 16 ? 0 : -ERR_BAD_REQUEST);
        arena_deinit(&arena);
        buf_deinit(&b);
    }
}

/* ---- peers ------------------------------------------------------------------------------- */

static int unpack_peer(struct buf *b, struct wire_peer *ret)
{
    struct arena arena;

    arena_init(&arena, WIRE_ARENA_BUDGET(b->len));
    int r = wire_peer_unpack(buf_slice(b), &arena, ret);
    arena_deinit(&arena);
    buf_deinit(b);
    return r;
}

static void a_peer_message_of_the_future_is_none(void **state)
{
    struct wire_peer msg;
    struct buf b = {0};

    put_number(&b, 1, 3);
    put_bytes(&b, 99, "future", 6);
    assert_int_equal(unpack_peer(&b, &msg), 0);
    assert_int_equal(msg.type, PEER_NONE);
    assert_int_equal(msg.id, 3);
}

static int unpack_put_reply(uint64_t outcome, uint64_t error)
{
    struct wire_peer msg;
    struct buf b = {0}, inner = {0};

    put_number(&inner, 1, outcome);
    put_number(&b, 6, error);
    put_message(&b, 13, &inner);
    return unpack_peer(&b, &msg);
}

static void what_was_not_said_is_not_stored(void **state)
{
    assert_int_equal(unpack_put_reply(OUTCOME_STORED, 0), 0);
    assert_int_equal(unpack_put_reply(OUTCOME_SUPERSEDED_FLOOR, 0), 0);
    assert_int_equal(unpack_put_reply(OUTCOME_NONE, ERR_IO), 0);
    assert_int_equal(unpack_put_reply(OUTCOME_NONE, 0), -ERR_BAD_REQUEST);
    assert_int_equal(unpack_put_reply(OUTCOME_SUPERSEDED_FLOOR + 1, 0), -ERR_BAD_REQUEST);
    assert_int_equal(unpack_put_reply(UINT32_MAX, 0), -ERR_BAD_REQUEST);
    assert_int_equal(unpack_put_reply(OUTCOME_NONE, 1u << 31), -ERR_BAD_REQUEST);
}

static int peer_through_the_wire(const struct wire_peer *msg)
{
    struct wire_peer back;
    struct buf b = {0};

    assert_int_equal(wire_peer_pack(msg, &b), 0);
    buf_consume(&b, LIMIT_FRAME_HEADER_BYTES);
    return unpack_peer(&b, &back);
}

static void peer_states_and_keys_are_checked(void **state)
{
    struct wire_peer put = {.type = PEER_PUT}, bad;
    static const uint8_t key[LIMIT_KEY_BYTES + 1];

    put.u.put.key = (struct key){1, slice_str("k"), {0}};
    put.u.put.state = (struct state){.kind = STATE_LWW, .version = {1, 1}};
    assert_int_equal(peer_through_the_wire(&put), 0);
    bad = put;
    bad.u.put.state.kind = STATE_NONE;
    assert_int_equal(peer_through_the_wire(&bad), -ERR_BAD_REQUEST);
    bad.u.put.state.kind = 2;
    assert_int_equal(peer_through_the_wire(&bad), -ERR_BAD_REQUEST);
    bad = put;
    bad.u.put.state.deleted = true;
    assert_int_equal(peer_through_the_wire(&bad), 0);
    bad.u.put.state.value = slice_str("a deleted value");
    assert_int_equal(peer_through_the_wire(&bad), -ERR_BAD_REQUEST);
    bad = put;
    bad.u.put.key.partition = slice_str("");
    assert_int_equal(peer_through_the_wire(&bad), -ERR_BAD_REQUEST);
    bad.u.put.key.partition = slice_of(key, sizeof(key));
    assert_int_equal(peer_through_the_wire(&bad), -ERR_BAD_REQUEST);
}

static void forms_are_checked(void **state)
{
    struct wire_ring *ring = sample_ring(64, 2, 2), bare = *ring;
    struct wire_form form = {.phase = FORM_PROPOSE};
    struct wire_peer msg = {.type = PEER_FORM, .u.form = &form};

    bare.fence = NULL;
    assert_int_equal(peer_through_the_wire(&msg), -ERR_BAD_REQUEST);
    form.ring = ring;
    assert_int_equal(peer_through_the_wire(&msg), 0);
    form.ring = &bare;
    assert_int_equal(peer_through_the_wire(&msg), -ERR_BAD_REQUEST);
    form.phase = FORM_DECIDED;
    assert_int_equal(peer_through_the_wire(&msg), -ERR_BAD_REQUEST);
    form.phase = FORM_SYNCED;
    assert_int_equal(peer_through_the_wire(&msg), 0);
    form.ring = NULL;
    assert_int_equal(peer_through_the_wire(&msg), 0);
    form.phase = FORM_NONE;
    assert_int_equal(peer_through_the_wire(&msg), -ERR_BAD_REQUEST);
    form.phase = (enum wire_form_phase)(FORM_MEMBER + 1);
    assert_int_equal(peer_through_the_wire(&msg), -ERR_BAD_REQUEST);
    sample_ring_free(ring);
}

/* A ring without its table is none; a refusal brings no ring. */
static void rings_told_are_checked(void **state)
{
    static const uint8_t empty[] = {0xca, 0x01, 0x00}; /* field 25, no bytes */
    struct wire_ring *ring = sample_ring(64, 2, 2), bare = *ring;
    struct wire_peer msg = {.type = PEER_RING_REPLY, .u.ring_reply = ring}, back;
    struct buf b = {0};

    bare.fence = NULL;
    assert_int_equal(peer_through_the_wire(&msg), 0);
    msg.u.ring_reply = &bare;
    assert_int_equal(peer_through_the_wire(&msg), -ERR_BAD_REQUEST);
    msg.error = ERR_OVERLOADED;
    assert_int_equal(peer_through_the_wire(&msg), 0);
    msg.u.ring_reply = NULL;
    assert_int_equal(peer_through_the_wire(&msg), 0);
    assert_int_equal(buf_append(&b, empty, sizeof(empty)), 0);
    assert_int_equal(unpack_peer(&b, &back), -ERR_BAD_REQUEST); /* neither ring nor error */
    sample_ring_free(ring);
}

#define REFUSED_REGISTER(kind, change)                                                             \
    do {                                                                                           \
        struct wire_register bad = {.ballot = ballot};                                             \
        struct wire_peer of_bad = {.type = kind, .u.reg = &bad};                                   \
        change;                                                                                    \
        assert_int_equal(peer_through_the_wire(&of_bad), -ERR_BAD_REQUEST);                        \
    } while (0)

static void messages_of_the_register_are_checked(void **state)
{
    static const struct wire_ballot ballot = {1, {"n"}, 1}, none = {0};
    static const struct wire_ballot beyond = {LIMIT_REGISTER_COUNTER + 1, {"n"}, 1};
    static const struct wire_ballot nobody = {1, {{0}}, 1};
    struct slice ring = slice_str("ring");

    for (int kind = PEER_REGISTER_PREPARE; kind <= PEER_REGISTER_ACCEPT_REPLY; kind++) {
        struct wire_register good = {.ballot = ballot, .ring = ring};
        struct wire_peer of_good = {.type = (enum wire_peer_type)kind, .u.reg = &good};

        good.accepted = kind == PEER_REGISTER_PREPARE_REPLY ? ballot : none;
        assert_int_equal(peer_through_the_wire(&of_good), 0);
        REFUSED_REGISTER((enum wire_peer_type)kind, bad.ring = ring; bad.ballot = beyond);
        REFUSED_REGISTER((enum wire_peer_type)kind, bad.ring = ring; bad.ballot = nobody);
    }
    /* without a ballot the body is empty or only the ring, which is no attempt at all */
    REFUSED_REGISTER(PEER_REGISTER_ACCEPT, bad.ballot = none; bad.ring = ring);
    REFUSED_REGISTER(PEER_REGISTER_ACCEPT, bad.ballot = ballot); /* accept what? */
    REFUSED_REGISTER(PEER_REGISTER_PREPARE, bad.known = beyond);
    REFUSED_REGISTER(PEER_REGISTER_PREPARE, bad.ballot = none; bad.known = ballot);
    REFUSED_REGISTER(PEER_REGISTER_PREPARE_REPLY, bad.ring = ring); /* of which ballot? */
    REFUSED_REGISTER(PEER_REGISTER_PREPARE_REPLY, bad.promised = bad.accepted = ballot);
    REFUSED_REGISTER(PEER_REGISTER_PREPARE_REPLY, bad.accepted = beyond);
    REFUSED_REGISTER(PEER_REGISTER_PREPARE_REPLY, bad.accepted = ballot; bad.n_before = 1);
    REFUSED_REGISTER(PEER_REGISTER_ACCEPT_REPLY, bad.promised = beyond);
}

static void rings_of_the_register_are_bounded(void **state)
{
    uint8_t *bytes = calloc(1, LIMIT_REGISTER_RING_BYTES + 1);
    struct wire_register reg = {.ballot = {1, {"n"}, 1},
                                .ring = {bytes, LIMIT_REGISTER_RING_BYTES}};
    struct wire_peer msg = {.type = PEER_REGISTER_ACCEPT, .u.reg = &reg};
    struct wire_ring *ring = sample_ring(LIMIT_PARTITIONS_MAX, LIMIT_SLOTS_MAX, LIMIT_MEMBERS_MAX);
    struct buf b = {0};

    assert_non_null(bytes);
    reg.n_before = LIMIT_VOTERS_MAX;
    assert_int_equal(peer_through_the_wire(&msg), 0);
    reg.ring.len++;
    assert_int_equal(peer_through_the_wire(&msg), -ERR_BAD_REQUEST);
    reg.n_before++;
    assert_int_equal(wire_peer_pack(&msg, &b), -ERR_BAD_REQUEST);
    /* The largest ring fits, with every text and number at its longest. */
    for (size_t i = 0; i < ring->n_members; i++) {
        struct wire_member *m = (struct wire_member *)&ring->members[i];

        m->name = m->zone = slice_of(bytes, LIMIT_NAME_BYTES);
        m->client_address = m->peer_address = slice_of(bytes, LIMIT_ADDRESS_BYTES);
        m->weight = UINT32_MAX;
    }
    for (size_t i = 0; i < (size_t)ring->n_partitions * ring->n_slots; i++)
        ((uint64_t *)ring->slot_incarnation)[i] = UINT64_MAX;
    for (size_t i = 0; i < ring->n_partitions; i++)
        ((uint32_t *)ring->fence)[i] = UINT32_MAX;
    assert_int_equal(wire_ring_pack(ring, &b), 0);
    assert_in_range(b.len, 2u << 20, LIMIT_REGISTER_RING_BYTES);
    buf_deinit(&b);
    sample_ring_free(ring);
    free(bytes);
}

/* What is told on must be right: a profile is of the node that the rumour names. */
static void rumours_are_checked(void **state)
{
    struct wire_profile profile = {.number = 1,
                                   .member = {.id = {{1}}, .name = slice_str("n1")},
                                   .software = slice_str("quoitd")};
    struct wire_rumour rumour = {
        .id = {{1}}, .boot = 1, .state = MEMBER_ALIVE, .profile = &profile};
    struct wire_gossip gossip = {.kind = GOSSIP_RUMOURS, .rumours = &rumour, .n_rumours = 1};
    struct wire_peer msg = {.type = PEER_GOSSIP, .u.gossip = &gossip};

    assert_int_equal(peer_through_the_wire(&msg), 0);
    profile.member.id.b[0] = 2;
    assert_int_equal(peer_through_the_wire(&msg), -ERR_BAD_REQUEST);
    profile.member.id.b[0] = 1;
    profile.number = 0;
    assert_int_equal(peer_through_the_wire(&msg), -ERR_BAD_REQUEST);
    profile.number = 1;
    profile.software = slice_str("\033[2J");
    assert_int_equal(peer_through_the_wire(&msg), -ERR_BAD_REQUEST);
    rumour.profile = NULL;
    assert_int_equal(peer_through_the_wire(&msg), 0);
    rumour.state = MEMBER_UNKNOWN;
    assert_int_equal(peer_through_the_wire(&msg), -ERR_BAD_REQUEST);
    rumour.state = (enum wire_member_state)(MEMBER_STOPPED + 1);
    assert_int_equal(peer_through_the_wire(&msg), -ERR_BAD_REQUEST);
    gossip.n_rumours = 0;
    assert_int_equal(peer_through_the_wire(&msg), 0);
    gossip.kind = GOSSIP_NONE;
    assert_int_equal(peer_through_the_wire(&msg), -ERR_BAD_REQUEST);
    gossip.kind = GOSSIP_PING_REQUEST; /* of whom? */
    assert_int_equal(peer_through_the_wire(&msg), -ERR_BAD_REQUEST);
    gossip.kind = (enum wire_gossip_kind)(GOSSIP_RUMOURS + 1);
    assert_int_equal(peer_through_the_wire(&msg), -ERR_BAD_REQUEST);
}

static void rumours_are_bounded(void **state)
{
    size_t n = LIMIT_RUMOURS_MAX + 1;
    struct wire_rumour *rumours = calloc(n, sizeof(*rumours));
    struct wire_gossip gossip = {.kind = GOSSIP_RUMOURS, .rumours = rumours, .n_rumours = n};
    struct wire_peer msg = {.type = PEER_GOSSIP, .u.gossip = &gossip};

    assert_non_null(rumours);
    for (size_t i = 0; i < n; i++)
        rumours[i] = (struct wire_rumour){.id = {{1}}, .state = MEMBER_ALIVE};
    assert_int_equal(peer_through_the_wire(&msg), -ERR_BAD_REQUEST);
    gossip.n_rumours--;
    assert_int_equal(peer_through_the_wire(&msg), 0);
    free(rumours);
}

static void comparisons_are_checked(void **state)
{
    uint32_t numbers[LIMIT_PULL_LEAVES + 1];
    static struct wire_known known[LIMIT_PULL_KNOWN + 1];
    static uint32_t parts[LIMIT_COMPARE_PARTS + 1];
    struct wire_peer compare = {.type = PEER_COMPARE}, pull = {.type = PEER_PULL};
    struct wire_peer reply = {.type = PEER_COMPARE_REPLY};

    for (uint32_t i = 0; i <= LIMIT_PULL_LEAVES; i++)
        numbers[i] = i;
    compare.u.compare.arcs = pull.u.pull.leaves = numbers;
    compare.u.compare.n_arcs = LIMIT_COMPARE_ARCS;
    assert_int_equal(peer_through_the_wire(&compare), 0);
    compare.u.compare.n_arcs++;
    assert_int_equal(peer_through_the_wire(&compare), -ERR_BAD_REQUEST);
    compare.u.compare.n_arcs = 2;
    compare.u.compare.bits = TREE_LEAF_BITS; /* leaves have no parts */
    assert_int_equal(peer_through_the_wire(&compare), -ERR_BAD_REQUEST);
    compare.u.compare.bits = 0;
    compare.u.compare.slot = LIMIT_SLOTS_MAX;
    assert_int_equal(peer_through_the_wire(&compare), -ERR_BAD_REQUEST);
    reply.u.compare_reply.parts = parts;
    reply.u.compare_reply.n_parts = LIMIT_COMPARE_PARTS;
    assert_int_equal(peer_through_the_wire(&reply), 0);
    reply.u.compare_reply.n_parts++;
    assert_int_equal(peer_through_the_wire(&reply), -ERR_BAD_REQUEST);
    pull.u.pull.n_leaves = LIMIT_PULL_LEAVES;
    pull.u.pull.known = known;
    pull.u.pull.n_known = LIMIT_PULL_KNOWN;
    assert_int_equal(peer_through_the_wire(&pull), 0);
    pull.u.pull.n_known++;
    assert_int_equal(peer_through_the_wire(&pull), -ERR_BAD_REQUEST);
    pull.u.pull.n_known = 0;
    pull.u.pull.n_leaves++;
    assert_int_equal(peer_through_the_wire(&pull), -ERR_BAD_REQUEST);
    pull.u.pull.n_leaves = 2;
    numbers[1] = numbers[0]; /* twice */
    assert_int_equal(peer_through_the_wire(&pull), -ERR_BAD_REQUEST);
    compare.u.compare.slot = 0;
    assert_int_equal(peer_through_the_wire(&compare), -ERR_BAD_REQUEST);
}

static int status_through_the_wire(const struct wire_status_result *status)
{
    struct wire_response msg = {.id = 1, .type = RESULT_STATUS, .u.status = status}, back;
    struct arena arena;
    struct buf b = {0};
    int r;

    assert_int_equal(wire_response_pack(&msg, &b), 0);
    buf_consume(&b, LIMIT_FRAME_HEADER_BYTES);
    arena_init(&arena, WIRE_ARENA_BUDGET(b.len));
    r = wire_response_unpack(buf_slice(&b), &arena, &back);
    arena_deinit(&arena);
    buf_deinit(&b);
    return r;
}

static void statuses_are_checked(void **state)
{
    struct wire_response answers[SAMPLE_RESPONSES];
    struct wire_member_status members[5];
    struct wire_problem problem = {.kind = PROBLEM_DOWN, .member = 5};
    struct wire_status_result good, bad;

    sample_responses(answers);
    good = *answers[11].u.status; /* the one with a ring */
    memcpy(members, good.members, sizeof(members));
    good.members = members;
    good.problems = &problem;
    good.n_problems = 1;
    assert_int_equal(status_through_the_wire(&good), 0);
    problem.kind =
        (enum wire_problem_kind)(PROBLEM_MORE + 1); /* of a later version: it has texts */
    assert_int_equal(status_through_the_wire(&good), 0);
    problem.member = 6;
    assert_int_equal(status_through_the_wire(&good), -ERR_BAD_REQUEST);
    problem.member = 0;
    problem.advice = slice_str("\033[2J");
    assert_int_equal(status_through_the_wire(&good), -ERR_BAD_REQUEST);
    problem.advice = slice_str("");
    members[2].state = (enum wire_member_state)(MEMBER_STOPPED + 1);
    assert_int_equal(status_through_the_wire(&good), -ERR_BAD_REQUEST);
    members[2].state = MEMBER_UNKNOWN;
    bad = good;
    bad.verdict = VERDICT_NONE;
    assert_int_equal(status_through_the_wire(&bad), -ERR_BAD_REQUEST);
    bad.verdict = (enum wire_verdict)(VERDICT_UNAVAILABLE + 1);
    assert_int_equal(status_through_the_wire(&bad), -ERR_BAD_REQUEST);
    bad = good;
    bad.n_replicas = LIMIT_SLOTS_MAX; /* readers count in n_by_live by it */
    assert_int_equal(status_through_the_wire(&bad), 0);
    bad.n_replicas++;
    assert_int_equal(status_through_the_wire(&bad), -ERR_BAD_REQUEST);
    bad.n_replicas = UINT32_MAX;
    assert_int_equal(status_through_the_wire(&bad), -ERR_BAD_REQUEST);
    bad = good;
    bad.n_members = 4; /* and the ring has 5 */
    assert_int_equal(status_through_the_wire(&bad), -ERR_BAD_REQUEST);
    bad.ring = NULL;
    assert_int_equal(status_through_the_wire(&bad), 0);
}

/* Where the status begins, which is the last field of the answer and goes on to its end. */
static size_t status_at(struct slice body)
{
    for (size_t at = 0; at + 3 < body.len; at++) {
        size_t len = 0, n = 1;

        if (body.data[at] != (14 << 3 | 2))
            continue;
        for (unsigned int shift = 0; n < 6; shift += 7) {
            len |= (size_t)(body.data[at + n] & 0x7f) << shift;
            if (!(body.data[at + n++] & 0x80))
                break;
        }
        if (at + n + len == body.len)
            return at + n;
    }
    fail();
    return 0;
}

/* The sample answer, with one number more in that field of its status (0: none). */
static int with_one_more(size_t sample, uint32_t field)
{
    struct wire_response answers[SAMPLE_RESPONSES], back;
    struct buf good = {0}, b = {0}, status = {0};
    struct arena arena;
    size_t at;
    int r;

    sample_responses(answers);
    assert_int_equal(wire_response_pack(&answers[sample], &good), 0);
    buf_consume(&good, LIMIT_FRAME_HEADER_BYTES);
    at = status_at(buf_slice(&good));
    assert_int_equal(buf_append(&status, good.data + at, good.len - at), 0);
    if (field)
        put_bytes(&status, field, "\1", 1);
    put_number(&b, 1, 1);
    put_message(&b, 14, &status);
    arena_init(&arena, WIRE_ARENA_BUDGET(b.len));
    r = wire_response_unpack(buf_slice(&b), &arena, &back);
    arena_deinit(&arena);
    buf_deinit(&good);
    buf_deinit(&b);
    return r;
}

static void counts_of_a_status_are_as_many_as_the_ring_has_partitions(void **state)
{
    assert_int_equal(with_one_more(10, 0), 0);
    assert_int_equal(with_one_more(10, 15), -ERR_BAD_REQUEST); /* no ring */
    assert_int_equal(with_one_more(11, 0), 0);
    assert_int_equal(with_one_more(11, 15), -ERR_BAD_REQUEST); /* one too many */
    assert_int_equal(with_one_more(11, 16), -ERR_BAD_REQUEST);
}

static void members_and_problems_of_a_status_are_bounded(void **state)
{
    size_t n = LIMIT_MEMBERS_MAX + 1;
    struct wire_member_status *members = calloc(n, sizeof(*members));
    struct wire_problem problems[LIMIT_PROBLEMS_MAX + 1] = {0};
    struct wire_status_result status = {.verdict = VERDICT_HEALTHY,
                                        .node_id = {{1}},
                                        .cluster_id = {{1}},
                                        .members = members,
                                        .n_members = n,
                                        .problems = problems};

    assert_non_null(members);
    for (size_t i = 0; i < n; i++)
        members[i].member = (struct wire_member){.id = {{1}}, .name = slice_str("n")};
    assert_int_equal(status_through_the_wire(&status), -ERR_BAD_REQUEST);
    status.n_members--;
    assert_int_equal(status_through_the_wire(&status), 0);
    status.n_problems = LIMIT_PROBLEMS_MAX + 1;
    assert_int_equal(status_through_the_wire(&status), -ERR_BAD_REQUEST);
    status.n_problems--;
    assert_int_equal(status_through_the_wire(&status), 0);
    free(members);
}

/* ---- amplification ----------------------------------------------------------------------- */

/* A frame of n empty records, tag and length 0 each: two bytes that become two hundred. */
static struct buf empty_records(uint32_t result, size_t n)
{
    struct buf b = {0}, inner = {0};

    for (size_t i = 0; i < n; i++)
        put_bytes(&inner, 1, "", 0);
    put_message(&b, result, &inner);
    return b;
}

static void empty_records_exhaust_the_budget_not_the_memory(void **state)
{
    struct buf responses = empty_records(12, 1u << 19), peers = empty_records(15, 1u << 19);
    struct arena arena;
    struct wire_response res;
    struct wire_peer msg;

    arena_init(&arena, WIRE_ARENA_BUDGET(responses.len));
    assert_int_equal(wire_response_unpack(buf_slice(&responses), &arena, &res), -ERR_NO_MEMORY);
    assert_true(arena.used <= arena.budget);
    arena_reset(&arena, WIRE_ARENA_BUDGET(peers.len));
    assert_int_equal(wire_peer_unpack(buf_slice(&peers), &arena, &msg), -ERR_NO_MEMORY);
    assert_true(arena.used <= arena.budget);
    arena_deinit(&arena);
    buf_deinit(&responses);
    buf_deinit(&peers);
}

static void unknown_fields_exhaust_the_budget_not_the_memory(void **state)
{
    struct buf b = {0};
    struct arena arena;
    struct wire_request req;

    for (size_t i = 0; i < 1u << 20; i++)
        put_number(&b, 15, 0);
    arena_init(&arena, WIRE_ARENA_BUDGET(b.len));
    assert_int_equal(wire_request_unpack(buf_slice(&b), &arena, &req), -ERR_NO_MEMORY);
    assert_true(arena.used <= arena.budget);
    arena_deinit(&arena);
    buf_deinit(&b);
}

static void more_records_than_a_page_are_refused(void **state)
{
    struct buf b = empty_records(12, LIMIT_SCAN_PAGE_RECORDS + 1);
    struct arena arena;
    struct wire_response res;

    arena_init(&arena, 64u << 20);
    assert_int_equal(wire_response_unpack(buf_slice(&b), &arena, &res), -ERR_BAD_REQUEST);
    arena_deinit(&arena);
    buf_deinit(&b);
}

/* Whatever the budget is: success or NO_MEMORY, nothing else, and never more than the budget. */
static void every_budget_is_kept(void **state)
{
    for (size_t i = 0; i < N_SAMPLES; i++) {
        struct slice body = sample_body(&samples[i]);
        struct arena arena;
        union any msg;
        int r = -1;
        arena_init(&arena, 0);
        for (size_t budget = 0; r != 0; budget += budget < 4096 ? 16 : 997) {
            arena_reset(&arena, budget);
            r = samples[i].kind->unpack(body, &arena, &msg);
            assert_true(r == 0 || r == -ERR_NO_MEMORY);
            assert_true(arena.used <= budget);
        }
        arena_deinit(&arena);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(truncation_at_every_byte_is_survived),
        cmocka_unit_test(every_kind_survives_every_other_kinds_bytes),
        cmocka_unit_test(random_mutation_is_survived),
        cmocka_unit_test(refusals_are_typed_and_keep_the_id),
        cmocka_unit_test(a_missing_key_is_an_empty_key),
        cmocka_unit_test(an_unknown_op_is_unsupported_and_none_is_malformed),
        cmocka_unit_test(unknown_fields_beside_a_known_op_are_ignored),
        cmocka_unit_test(garbage_leaves_a_zero_request),
        cmocka_unit_test(scans_are_checked),
        cmocka_unit_test(client_names_are_short_and_printable),
        cmocka_unit_test(rings_out_of_bounds_are_refused),
        cmocka_unit_test(members_with_bad_names_are_refused),
        cmocka_unit_test(arrays_of_the_wrong_length_are_refused),
        cmocka_unit_test(ids_have_sixteen_bytes),
        cmocka_unit_test(a_peer_message_of_the_future_is_none),
        cmocka_unit_test(what_was_not_said_is_not_stored),
        cmocka_unit_test(peer_states_and_keys_are_checked),
        cmocka_unit_test(forms_are_checked),
        cmocka_unit_test(rings_told_are_checked),
        cmocka_unit_test(messages_of_the_register_are_checked),
        cmocka_unit_test(rings_of_the_register_are_bounded),
        cmocka_unit_test(rumours_are_checked),
        cmocka_unit_test(rumours_are_bounded),
        cmocka_unit_test(comparisons_are_checked),
        cmocka_unit_test(statuses_are_checked),
        cmocka_unit_test(counts_of_a_status_are_as_many_as_the_ring_has_partitions),
        cmocka_unit_test(members_and_problems_of_a_status_are_bounded),
        cmocka_unit_test(empty_records_exhaust_the_budget_not_the_memory),
        cmocka_unit_test(unknown_fields_exhaust_the_budget_not_the_memory),
        cmocka_unit_test(more_records_than_a_page_are_refused),
        cmocka_unit_test(every_budget_is_kept),
    };
    return cmocka_run_group_tests_name("wire_bad", tests, build_samples, free_samples);
}
