/* fuzz_message: the body of a fuzzer for one kind of message. Include it after defining
 *
 *   FUZZ_STRUCT   the plain struct
 *   FUZZ_UNPACK   its unpack
 *   FUZZ_PACK     its pack
 *   FUZZ_HEADER   bytes of frame header that pack writes
 *
 * The first byte of the input chooses the arena's budget, so that running out of it is fuzzed too.
 * What unpack accepts is packed, unpacked and packed again: both packed forms must be the same.
 */
#include "tests/fuzz/fuzz_check.h"

/* Packing what was accepted can fail in one way only: a request or message without a body. */
static void again(const struct FUZZ_STRUCT *msg, size_t size)
{
    struct buf first = {0}, second = {0};
    struct arena arena;
    struct FUZZ_STRUCT back;

    int r = FUZZ_PACK(msg, &first);
    if (r < 0) {
        FUZZ_CHECK(r == -ERR_BAD_REQUEST && first.len == 0);
        return;
    }
    /* Defaults may be written out that were not there, and error texts filled in. */
    FUZZ_CHECK(first.len <= 4 * size + 4096);
    struct slice body = slice_of(first.data + FUZZ_HEADER, first.len - FUZZ_HEADER);
    arena_init(&arena, WIRE_ARENA_BUDGET_RING + WIRE_ARENA_BUDGET(body.len));
    FUZZ_CHECK(FUZZ_UNPACK(body, &arena, &back) == 0);
    FUZZ_CHECK(FUZZ_PACK(&back, &second) == 0);
    FUZZ_CHECK(slice_equal(buf_slice(&first), buf_slice(&second)));
    arena_deinit(&arena);
    buf_deinit(&first);
    buf_deinit(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena;
    struct FUZZ_STRUCT msg;

    if (size == 0)
        return 0;
    size_t budget = data[0] < 64 ? (size_t)data[0] * 32 : WIRE_ARENA_BUDGET(size);
    arena_init(&arena, budget);
    int r = FUZZ_UNPACK(slice_of(data + 1, size - 1), &arena, &msg);
    FUZZ_CHECK(r <= 0 && (r == 0 || err_known(r)));
    FUZZ_CHECK(arena.used <= budget);
    if (r == 0)
        again(&msg, size);
    arena_deinit(&arena);
    return 0;
}
