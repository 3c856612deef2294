/* slice, buf, blob, arena: see slice.h for who owns what.
 *
 * The arena is a list of chunks, the newest first, from which allocations are cut by moving a mark.
 * Small ones share chunks of ARENA_CHUNK_BYTES; what would waste most of one gets a chunk of its
 * own, put *behind* the head, so that the half-filled head goes on serving. A reset keeps one
 * ordinary chunk: a message of usual size then costs no malloc at all. There is no free of single
 * allocations: a round is short and the budget bounds it.
 *
 *   head -> [ordinary, filling] -> [large, full] -> [ordinary, full] -> NULL
 *
 * A buf doubles, so that appending n bytes one by one copies less than 2n bytes in all.
 */
#include "proto/slice.h"

#include "proto/err.h"

#include <assert.h>
#include <stdalign.h>
#include <stdlib.h>

#define BUF_CAP_MIN 256u
#define ARENA_ALIGN 16u
#define ARENA_CHUNK_BYTES (16u << 10) /* payload of an ordinary chunk */

struct arena_chunk {
    struct arena_chunk *next;
    size_t cap;
    size_t used;
    alignas(ARENA_ALIGN) uint8_t data[];
};

int slice_compare(struct slice a, struct slice b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int order = n ? memcmp(a.data, b.data, n) : 0;

    if (order != 0)
        return order < 0 ? -1 : 1;
    if (a.len == b.len)
        return 0;
    return a.len < b.len ? -1 : 1;
}

void buf_init(struct buf *b)
{
    *b = (struct buf){0};
}

void buf_deinit(struct buf *b)
{
    if (!b)
        return;
    free(b->data);
    *b = (struct buf){0};
}

int buf_reserve(struct buf *b, size_t more)
{
    if (more <= b->cap - b->len)
        return 0;
    if (more > SIZE_MAX / 2 - b->len)
        return -ERR_NO_MEMORY;

    size_t cap = b->cap < BUF_CAP_MIN ? BUF_CAP_MIN : b->cap * 2;
    if (cap < b->len + more)
        cap = b->len + more;
    uint8_t *data = realloc(b->data, cap);
    if (!data)
        return -ERR_NO_MEMORY;
    b->data = data;
    b->cap = cap;
    return 0;
}

int buf_append(struct buf *b, const void *data, size_t len)
{
    if (len == 0)
        return 0;
    int r = buf_reserve(b, len);
    if (r < 0)
        return r;
    memcpy(b->data + b->len, data, len);
    b->len += len;
    return 0;
}

int buf_append_slice(struct buf *b, struct slice s)
{
    return buf_append(b, s.data, s.len);
}

void buf_consume(struct buf *b, size_t n)
{
    assert(n <= b->len);
    if (n == 0)
        return;
    b->len -= n;
    memmove(b->data, b->data + n, b->len);
}

struct blob *blob_new(size_t len)
{
    if (len > SIZE_MAX / 2)
        return NULL;
    struct blob *b = malloc(sizeof(*b) + len);
    if (!b)
        return NULL;
    atomic_init(&b->refs, 1);
    b->len = len;
    return b;
}

struct blob *blob_copy(struct slice s)
{
    struct blob *b = blob_new(s.len);
    if (b && s.len)
        memcpy(b->data, s.data, s.len);
    return b;
}

struct blob *blob_ref(struct blob *b)
{
    /* Relaxed: who takes a reference already holds one, so nothing is published here. */
    if (b)
        atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
    return b;
}

void blob_unref(struct blob *b)
{
    if (!b)
        return;
    /* Release: our reads of the bytes come before the count falls. Acquire: the last one sees them
     * done before it frees. */
    if (atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) == 1)
        free(b);
}

void arena_init(struct arena *a, size_t budget)
{
    *a = (struct arena){.budget = budget};
}

static void arena_free_list(struct arena_chunk *chunk)
{
    while (chunk) {
        struct arena_chunk *next = chunk->next;
        free(chunk);
        chunk = next;
    }
}

void arena_deinit(struct arena *a)
{
    if (!a)
        return;
    arena_free_list(a->head);
    *a = (struct arena){0};
}

void arena_reset(struct arena *a, size_t budget)
{
    struct arena_chunk *keep = NULL;

    while (a->head) {
        struct arena_chunk *chunk = a->head;
        a->head = chunk->next;
        if (!keep && chunk->cap == ARENA_CHUNK_BYTES) {
            keep = chunk;
            keep->next = NULL;
            keep->used = 0;
        } else {
            free(chunk);
        }
    }
    a->head = keep;
    a->budget = budget;
    a->used = 0;
}

/* A chunk for an allocation of len bytes that does not fit the head, in its place in the list. */
static struct arena_chunk *arena_grow(struct arena *a, size_t len)
{
    bool large = len > ARENA_CHUNK_BYTES / 4;
    size_t cap = large ? len : ARENA_CHUNK_BYTES;
    struct arena_chunk *chunk = malloc(sizeof(*chunk) + cap);

    if (!chunk)
        return NULL;
    chunk->cap = cap;
    chunk->used = 0;
    if (large && a->head) {
        chunk->next = a->head->next;
        a->head->next = chunk;
    } else {
        chunk->next = a->head;
        a->head = chunk;
    }
    return chunk;
}

void *arena_alloc(struct arena *a, size_t len)
{
    /* The budget is compared before rounding, so that the sum cannot wrap. */
    if (len > a->budget - a->used || len > SIZE_MAX / 2)
        return NULL;
    size_t rounded = len ? (len + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1) : ARENA_ALIGN;
    if (rounded > a->budget - a->used)
        return NULL;

    struct arena_chunk *chunk = a->head;
    if (!chunk || rounded > chunk->cap - chunk->used) {
        chunk = arena_grow(a, rounded);
        if (!chunk)
            return NULL;
    }
    void *p = chunk->data + chunk->used;
    chunk->used += rounded;
    a->used += rounded;
    return p;
}
