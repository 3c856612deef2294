/* slice, buf, blob, arena: the four ways bytes are held.
 *
 *   slice  borrowed bytes: someone else owns them, and the function that takes a slice says for how
 *          long. Passed by value.
 *   buf    owned, growable bytes of one thread: building a frame, collecting a file.
 *   blob   owned, immutable, reference-counted bytes: what outlives the step that brought it, or
 *          crosses threads. The count is atomic; the bytes do not change once shared.
 *   arena  many small allocations freed together, with a budget: what a peer sends may never make
 *          us allocate more than the budget. Unpacking a message uses one.
 *
 * Allocation failure is an outcome (-ERR_NO_MEMORY or NULL), never an abort.
 */
#ifndef QUOIT_PROTO_SLICE_H
#define QUOIT_PROTO_SLICE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
    const uint8_t *data; /* may be NULL when len is 0 */
    size_t len;
};

static inline struct slice slice_of(const void *data, size_t len)
{
    return (struct slice){.data = data, .len = len};
}

static inline struct slice slice_str(const char *text)
{
    return slice_of(text, strlen(text));
}

static inline bool slice_equal(struct slice a, struct slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

/* Lexicographic by unsigned bytes, shorter first: the order of keys everywhere. */
int slice_compare(struct slice a, struct slice b);

struct buf {
    uint8_t *data;
    size_t len;
    size_t cap;
};

void buf_init(struct buf *b);
void buf_deinit(struct buf *b);
/* Makes room for `more` bytes after len. 0 or -ERR_NO_MEMORY (unchanged then). */
int buf_reserve(struct buf *b, size_t more);
int buf_append(struct buf *b, const void *data, size_t len);
int buf_append_slice(struct buf *b, struct slice s);
/* Drops the first n bytes, moving the rest down. n <= len. */
void buf_consume(struct buf *b, size_t n);

static inline struct slice buf_slice(const struct buf *b)
{
    return slice_of(b->data, b->len);
}

struct blob {
    atomic_uint refs;
    size_t len;
    uint8_t data[];
};

/* A blob with one reference and uninitialised bytes (fill before sharing), or NULL. */
struct blob *blob_new(size_t len);
struct blob *blob_copy(struct slice s);
struct blob *blob_ref(struct blob *b); /* NULL stays NULL */
void blob_unref(struct blob *b);       /* accepts NULL */

static inline struct slice blob_slice(const struct blob *b)
{
    return b ? slice_of(b->data, b->len) : (struct slice){0};
}

struct arena_chunk;

struct arena {
    struct arena_chunk *head; /* newest chunk; older ones behind it */
    size_t budget;            /* bytes that may be handed out in all */
    size_t used;              /* bytes handed out since the last reset */
};

void arena_init(struct arena *a, size_t budget);
void arena_deinit(struct arena *a);
/* Forgets all allocations and keeps one small chunk for the next round. */
void arena_reset(struct arena *a, size_t budget);
/* 16-byte aligned, uninitialised; NULL when the budget or memory is used up. */
void *arena_alloc(struct arena *a, size_t len);

#endif
