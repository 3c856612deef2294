/* log_list: records gathered by one thread on their way to the log.
 *
 *   pieces   [ 0: iov 0..2, 3 records ][ 1: iov 3, 1 record ] ...
 *   iov      | copied run | blob | copied run || blob ...
 *   chunks   bytes that were copied, in runs: small records one after the other are one iov
 *
 * Pieces are cut while the list is filled, at the same places whatever the log thread does later:
 * the promise of log_room.c counts on it. A record joins the last piece if that stays within a
 * group, else it begins a new one; one that is larger than a group is a piece of its own.
 *
 * A value is referenced in its blob from LOG_REF_BYTES_MIN on and copied below: a reference to a
 * few bytes would keep a whole receive buffer alive, and it bounds the vectors of a piece: at most
 * 2 per 4 KiB referenced, and one more per chunk begun, of which two neighbours hold a chunk's
 * bytes. That is below 600 for a piece of 1 MiB.
 */
#include "storage/log_impl.h"

#include <assert.h>
#include <stdlib.h>

#include "proto/err.h"

#define SPARE_ITEMS_MAX 1024u

static void *grown(void *vector, size_t *cap, size_t need, size_t item_bytes)
{
    size_t n = *cap ? 2 * *cap : 16;
    void *p;

    if (need <= *cap)
        return vector;
    while (n < need)
        n *= 2;
    p = realloc(vector, n * item_bytes);
    if (p)
        *cap = n;
    return p;
}

/* Room for one more record: two vectors, an owner, the beginning of a piece. */
static bool grow_vectors(struct log_list *list)
{
    void *p = grown(list->iov, &list->cap_iov, list->n_iov + 2, sizeof(*list->iov));

    if (!p)
        return false;
    list->iov = p;
    p = grown(list->owners, &list->cap_owners, list->n_owners + 1, sizeof(struct blob *));
    if (!p)
        return false;
    list->owners = p;
    p = grown(list->pieces, &list->cap_pieces, list->n_pieces + 1, sizeof(*list->pieces));
    if (!p)
        return false;
    list->pieces = p;
    return true;
}

/* A chunk in front with so many bytes of room. */
static bool reserve_bytes(struct log_list *list, size_t bytes)
{
    struct log_chunk *c = list->chunks;
    size_t cap = bytes > LOG_CHUNK_BYTES ? bytes : LOG_CHUNK_BYTES;

    if (c && bytes <= c->cap - c->used)
        return true;
    c = malloc(sizeof(*c) + cap);
    if (!c)
        return false;
    c->next = list->chunks;
    c->cap = cap;
    c->used = 0;
    list->chunks = c;
    return true;
}

struct log_list *log_list_make(const struct log_room *room)
{
    struct log_list *list = calloc(1, sizeof(*list));

    if (!list)
        return NULL;
    list->piece_bytes_max = log_room_piece_bytes(room);
    list->record_bytes_max = log_room_record_bytes(room);
    return list;
}

void log_list_clear(struct log_list *list)
{
    struct log_chunk *keep = NULL, *next;

    for (size_t i = 0; i < list->n_owners; i++)
        blob_unref(list->owners[i]);
    for (struct log_chunk *c = list->chunks; c; c = next) {
        next = c->next;
        if (!keep && c->cap == LOG_CHUNK_BYTES) {
            keep = c;
            keep->used = 0;
        } else {
            free(c);
        }
    }
    if (keep)
        keep->next = NULL;
    list->chunks = keep;
    if (list->cap_iov > SPARE_ITEMS_MAX) {
        free(list->iov);
        list->iov = NULL;
        list->cap_iov = 0;
    }
    list->next = NULL;
    list->n_iov = list->n_owners = list->n_pieces = list->bytes = list->n_placed = 0;
}

void log_list_destroy(struct log_list *list)
{
    if (!list)
        return;
    log_list_clear(list);
    free(list->chunks);
    free(list->iov);
    free(list->owners);
    free(list->pieces);
    free(list);
}

static void push_iov(struct log_list *list, const void *data, size_t len)
{
    struct log_piece *piece = &list->pieces[list->n_pieces - 1];
    struct iovec *last = piece->n_iov ? &list->iov[list->n_iov - 1] : NULL;

    if (last && (const uint8_t *)last->iov_base + last->iov_len == data) {
        last->iov_len += len;
        return;
    }
    assert(list->iov && list->n_iov < list->cap_iov);
    list->iov[list->n_iov++] = (struct iovec){.iov_base = (void *)(uintptr_t)data, .iov_len = len};
    piece->n_iov++;
}

static uint8_t *copy_bytes(struct log_list *list, const void *data, size_t len)
{
    struct log_chunk *c = list->chunks;
    uint8_t *to = c->data + c->used;

    if (len)
        memcpy(to, data, len);
    c->used += len;
    return to;
}

static void begin_piece(struct log_list *list, size_t bytes)
{
    struct log_piece *last = list->n_pieces ? &list->pieces[list->n_pieces - 1] : NULL;

    if (last && last->bytes + bytes <= list->piece_bytes_max)
        return;
    list->pieces[list->n_pieces++] = (struct log_piece){.iov_first = list->n_iov};
}

int log_list_add(struct log_list *list, uint8_t type, const struct slice *pieces, size_t n_pieces,
                 struct blob *owner)
{
    uint8_t header[LOG_RECORD_HEADER_BYTES];
    struct slice reference = {0};
    size_t len = 0, n_copied = n_pieces;
    uint8_t *at;

    for (size_t i = 0; i < n_pieces; i++)
        len += pieces[i].len;
    assert(len <= LOG_RECORD_BYTES_MAX);
    assert(LOG_RECORD_HEADER_BYTES + len <= list->record_bytes_max);
    if (owner && n_pieces && pieces[n_pieces - 1].len >= LOG_REF_BYTES_MIN)
        reference = pieces[--n_copied];

    if (!grow_vectors(list) || !reserve_bytes(list, LOG_RECORD_HEADER_BYTES + len - reference.len))
        return -ERR_NO_MEMORY;

    begin_piece(list, LOG_RECORD_HEADER_BYTES + len);
    log_record_encode(type, (uint32_t)len, header);
    at = copy_bytes(list, header, sizeof(header));
    for (size_t i = 0; i < n_copied; i++)
        copy_bytes(list, pieces[i].data, pieces[i].len);
    push_iov(list, at, LOG_RECORD_HEADER_BYTES + len - reference.len);
    if (reference.len) {
        push_iov(list, reference.data, reference.len);
        list->owners[list->n_owners++] = blob_ref(owner);
    }
    list->pieces[list->n_pieces - 1].bytes += (uint32_t)(LOG_RECORD_HEADER_BYTES + len);
    list->pieces[list->n_pieces - 1].count++;
    list->bytes += LOG_RECORD_HEADER_BYTES + len;
    return 0;
}

size_t log_list_bytes(const struct log_list *list)
{
    return list->bytes;
}
