/* The stream of a connection, cut as the network pleases. The first byte says how: pieces of that
 * length arrive one after the other. The frames must be those of the whole stream at once, lie
 * inside it, and whatever breaks the stream must break it in both.
 */
#include "proto/err.h"
#include "proto/frame.h"
#include "proto/limits.h"
#include "tests/fuzz/fuzz_check.h"

#include <sanitizer/asan_interface.h>

struct walk {
    uint64_t hash; /* of all bodies and their lengths */
    size_t n;
    int end; /* 0, or the failure */
};

static void walk_body(struct walk *w, struct slice body)
{
    w->n++;
    w->hash = w->hash * 31 + body.len;
    for (size_t i = 0; i < body.len; i++)
        w->hash = w->hash * 1099511628211u + body.data[i];
}

/* Takes whole frames off the front of `in`; returns how many bytes. */
static size_t walk_frames(struct walk *w, struct slice in)
{
    size_t at = 0;

    while (w->end == 0) {
        struct slice body, rest = slice_of(in.data + at, in.len - at);
        size_t used = 0, want = 0;
        int r = frame_next(rest, &body, &used, &want);
        if (r < 0) {
            FUZZ_CHECK(r == -ERR_FRAME_TOO_LARGE || r == -ERR_BAD_REQUEST);
            w->end = r;
        } else if (r == 0) {
            FUZZ_CHECK(used == 0 && want > rest.len);
            FUZZ_CHECK(want <= LIMIT_FRAME_HEADER_BYTES + LIMIT_FRAME_BYTES);
            break;
        } else {
            /* Read first: a body that is longer than its stream is for the sanitizer to find. */
            walk_body(w, body);
            FUZZ_CHECK(used == want && used == body.len + LIMIT_FRAME_HEADER_BYTES);
            FUZZ_CHECK(body.len >= 1 && used <= rest.len);
            at += used;
        }
    }
    return at;
}

/* The stream arrives in place: what has not arrived yet is poisoned, byte for byte, so that the
 * sanitizer sees a look at it. Costs no copy per piece. */
static void walk_pieces(struct walk *w, struct slice stream, size_t piece)
{
    uint8_t *copy = malloc((stream.len + 7) & ~(size_t)7);
    size_t taken = 0;

    FUZZ_CHECK(copy);
    memcpy(copy, stream.data, stream.len);
    __asan_poison_memory_region(copy, (stream.len + 7) & ~(size_t)7);
    for (size_t at = 0; at < stream.len && w->end == 0; at += piece) {
        size_t n = stream.len - at < piece ? stream.len - at : piece;
        __asan_unpoison_memory_region(copy + at, n);
        taken += walk_frames(w, slice_of(copy + taken, at + n - taken));
    }
    __asan_unpoison_memory_region(copy, stream.len);
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct walk whole = {0}, pieces = {0};

    if (size < 2)
        return 0;
    struct slice stream = slice_of(data + 1, size - 1);
    walk_frames(&whole, stream);
    walk_pieces(&pieces, stream, data[0] ? data[0] : 1);
    FUZZ_CHECK(whole.n == pieces.n && whole.hash == pieces.hash && whole.end == pieces.end);
    return 0;
}
