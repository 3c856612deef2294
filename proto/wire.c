/* wire: frames <-> plain structs. This file holds what all messages share; the messages themselves
 * are in wire_peer.c, wire_request.c, wire_response.c and wire_ring.c.
 *
 * Packing is one pass: the size is asked for first, the room is made, and protobuf-c writes
 * straight into the buf behind the four bytes of the frame header. Its pack does not look at the
 * end of the buffer, so the size asked for is asserted afterwards.
 *
 * Unpacking hands protobuf-c an allocator that cuts from the arena. protobuf-c answers NULL both
 * for a malformed message and for a failed allocation; the allocator remembers which it was, so
 * that a peer is not blamed for our memory. Frees are ignored: the arena's round ends soon, and its
 * budget bounds what a message full of empty sub-messages can cost.
 */
#include "proto/wire.h"

#include "proto/frame.h"
#include "proto/wire_pb.h"

#include <assert.h>

static int pb_pack(const ProtobufCMessage *msg, struct buf *out, size_t n_header)
{
    size_t len = protobuf_c_message_get_packed_size(msg);

    if (len > LIMIT_FRAME_BYTES)
        return -ERR_FRAME_TOO_LARGE;
    if (len == 0)
        return -ERR_BAD_REQUEST;
    int r = buf_reserve(out, n_header + len);
    if (r < 0)
        return r;

    uint8_t *to = out->data + out->len;
    if (n_header)
        frame_header(to, (uint32_t)len);
    size_t written = protobuf_c_message_pack(msg, to + n_header);
    assert(written == len);
    out->len += n_header + len;
    return 0;
}

int pb_pack_frame(const ProtobufCMessage *msg, struct buf *out)
{
    return pb_pack(msg, out, LIMIT_FRAME_HEADER_BYTES);
}

int pb_pack_bare(const ProtobufCMessage *msg, struct buf *out)
{
    return pb_pack(msg, out, 0);
}

struct pb_arena {
    struct arena *arena;
    bool exhausted;
};

static void *pb_arena_alloc(void *data, size_t len)
{
    struct pb_arena *a = data;
    void *p = arena_alloc(a->arena, len);

    if (!p)
        a->exhausted = true;
    return p;
}

static void pb_arena_free(void *data, void *p)
{
}

int pb_unpack(const ProtobufCMessageDescriptor *type, struct slice body, struct arena *arena,
              ProtobufCMessage **ret)
{
    struct pb_arena a = {.arena = arena};
    ProtobufCAllocator allocator = {
        .alloc = pb_arena_alloc, .free = pb_arena_free, .allocator_data = &a};
    /* No message of ours is empty, and protobuf-c wants a pointer even for no bytes. */
    if (body.len == 0 || body.len > LIMIT_FRAME_BYTES)
        return -ERR_BAD_REQUEST;
    ProtobufCMessage *msg = protobuf_c_message_unpack(type, &allocator, body.len, body.data);
    if (!msg)
        return a.exhausted ? -ERR_NO_MEMORY : -ERR_BAD_REQUEST;
    *ret = msg;
    return 0;
}

int pb_read_id(ProtobufCBinaryData b, struct wire_id *ret)
{
    if (b.len != WIRE_ID_BYTES)
        return -ERR_BAD_REQUEST;
    memcpy(ret->b, b.data, WIRE_ID_BYTES);
    return 0;
}

int pb_read_id_or_none(ProtobufCBinaryData b, struct wire_id *ret)
{
    if (b.len != 0)
        return pb_read_id(b, ret);
    *ret = (struct wire_id){0};
    return 0;
}

int pb_read_text(ProtobufCBinaryData b, size_t bytes_max, struct slice *ret)
{
    if (b.len > bytes_max)
        return -ERR_BAD_REQUEST;
    for (size_t i = 0; i < b.len; i++) {
        if (b.data[i] < 0x20 || b.data[i] > 0x7e)
            return -ERR_BAD_REQUEST;
    }
    *ret = pb_slice(b);
    return 0;
}

int pb_read_cursor(ProtobufCBinaryData b, struct slice *ret)
{
    if (b.len > LIMIT_CURSOR_BYTES)
        return -ERR_BAD_REQUEST;
    *ret = pb_slice(b);
    return 0;
}

struct key pb_read_key(const Quoit__Key *pb)
{
    if (!pb)
        return (struct key){.bucket = BUCKET_DEFAULT};
    return (struct key){.bucket = pb->bucket ? pb->bucket : BUCKET_DEFAULT,
                        .partition = pb_slice(pb->partition_key),
                        .sort = pb_slice(pb->sort_key)};
}

void pb_write_key(const struct key *key, Quoit__Key *ret)
{
    quoit__key__init(ret);
    ret->bucket = key->bucket;
    ret->partition_key = pb_bytes(key->partition);
    ret->sort_key = pb_bytes(key->sort);
}
