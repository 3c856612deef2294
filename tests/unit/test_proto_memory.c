/* Fails each allocation in turn: packing and unpacking answer -ERR_NO_MEMORY, leave their outputs
 * alone, and leak nothing (the sanitizer build looks). Linked with --wrap=malloc and friends.
 */
#include "test.h"

#include "tests/unit/wire_sample.h"

#include <stdlib.h>

static long allocations_left = -1; /* negative: no limit */

static bool may_allocate(void)
{
    if (allocations_left < 0)
        return true;
    if (allocations_left == 0)
        return false;
    allocations_left--;
    return true;
}

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);

void *__wrap_malloc(size_t n)
{
    return may_allocate() ? __real_malloc(n) : NULL;
}

void *__wrap_calloc(size_t n, size_t size)
{
    return may_allocate() ? __real_calloc(n, size) : NULL;
}

void *__wrap_realloc(void *p, size_t n)
{
    return may_allocate() ? __real_realloc(p, n) : NULL;
}

enum what {
    REQUEST,
    RESPONSE,
    PEER,
    RING
};

static int pack(enum what what, const void *msg, struct buf *out)
{
    switch (what) {
    case REQUEST:
        return wire_request_pack(msg, out);
    case RESPONSE:
        return wire_response_pack(msg, out);
    case PEER:
        return wire_peer_pack(msg, out);
    case RING:
        return wire_ring_pack(msg, out);
    }
    return -1;
}

static int unpack(enum what what, struct slice body, struct arena *arena)
{
    union {
        struct wire_request request;
        struct wire_response response;
        struct wire_peer peer;
        struct wire_ring ring;
    } msg;

    switch (what) {
    case REQUEST:
        return wire_request_unpack(body, arena, &msg.request);
    case RESPONSE:
        return wire_response_unpack(body, arena, &msg.response);
    case PEER:
        return wire_peer_unpack(body, arena, &msg.peer);
    case RING:
        return wire_ring_unpack(body, arena, &msg.ring);
    }
    return -1;
}

static size_t n_failed;

static void fail_each(enum what what, const void *msg)
{
    struct buf out = {0};
    struct arena arena;
    int r = -ERR_NO_MEMORY;

    for (long k = 0; r != 0; k++) {
        buf_deinit(&out);
        allocations_left = k;
        r = pack(what, msg, &out);
        allocations_left = -1;
        assert_true(r == 0 || r == -ERR_NO_MEMORY);
        if (r != 0)
            assert_int_equal(out.len, 0);
        n_failed += r != 0;
    }
    size_t header = what == RING ? 0 : LIMIT_FRAME_HEADER_BYTES;
    struct slice body = slice_of(out.data + header, out.len - header);
    r = -ERR_NO_MEMORY;
    for (long k = 0; r != 0; k++) {
        arena_init(&arena, WIRE_ARENA_BUDGET_RING);
        allocations_left = k;
        r = unpack(what, body, &arena);
        allocations_left = -1;
        assert_true(r == 0 || r == -ERR_NO_MEMORY);
        n_failed += r != 0;
        arena_deinit(&arena);
    }
    buf_deinit(&out);
}

static void every_failing_allocation_is_an_outcome(void **state)
{
    struct wire_request requests[SAMPLE_REQUESTS];
    struct wire_response responses[SAMPLE_RESPONSES];
    struct wire_peer peers[SAMPLE_PEERS];
    struct wire_ring *ring = sample_ring(1024, 3, 64);

    sample_requests(requests);
    sample_responses(responses);
    sample_peers(peers);
    n_failed = 0;
    for (size_t i = 0; i < SAMPLE_REQUESTS; i++)
        fail_each(REQUEST, &requests[i]);
    for (size_t i = 0; i < SAMPLE_RESPONSES; i++)
        fail_each(RESPONSE, &responses[i]);
    for (size_t i = 0; i < SAMPLE_PEERS; i++)
        fail_each(PEER, &peers[i]);
    fail_each(RING, ring);
    assert_true(n_failed >= 2 * (SAMPLE_REQUESTS + SAMPLE_RESPONSES + SAMPLE_PEERS));
    sample_ring_free(ring);
}

static void blobs_and_bufs_survive_no_memory(void **state)
{
    struct buf b = {0};

    assert_int_equal(buf_append(&b, "abc", 3), 0);
    allocations_left = 0;
    assert_null(blob_new(10));
    assert_null(blob_copy(slice_str("abc")));
    assert_int_equal(buf_reserve(&b, 1000), -ERR_NO_MEMORY);
    allocations_left = -1;
    assert_int_equal(b.len, 3);
    assert_memory_equal(b.data, "abc", 3);
    buf_deinit(&b);
}

static void arena_goes_on_after_no_memory(void **state)
{
    struct arena a;

    arena_init(&a, 1u << 20);
    allocations_left = 0;
    assert_null(arena_alloc(&a, 100));
    assert_int_equal(a.used, 0);
    allocations_left = 1;
    assert_non_null(arena_alloc(&a, 100));
    assert_null(arena_alloc(&a, 100000));
    assert_non_null(arena_alloc(&a, 100));
    allocations_left = -1;
    arena_deinit(&a);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_failing_allocation_is_an_outcome),
        cmocka_unit_test(blobs_and_bufs_survive_no_memory),
        cmocka_unit_test(arena_goes_on_after_no_memory),
    };
    return cmocka_run_group_tests_name("proto_memory", tests, NULL, NULL);
}
