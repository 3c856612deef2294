/* wire_pb: what the wire_*.c files share, and the one door to generated protobuf code.
 *
 * Private to proto/: the only includers are the wire*.c. Names begin with pb_. Packing borrows: a
 * generated struct on the stack points at the caller's bytes. Unpacking yields generated structs in
 * the arena; the plain structs then borrow from them, so a value is copied once, by protobuf-c.
 */
#ifndef QUOIT_PROTO_WIRE_PB_H
#define QUOIT_PROTO_WIRE_PB_H

#include "proto/wire.h"

#include "peer.pb-c.h"
#include "quoit.pb-c.h"
#include "ring.pb-c.h"

/* Appends a frame, or with bare only the message. 0, -ERR_NO_MEMORY, -ERR_FRAME_TOO_LARGE,
 * -ERR_BAD_REQUEST (nothing is set: an empty message cannot be framed); out unchanged on failure.
 */
int pb_pack_frame(const ProtobufCMessage *msg, struct buf *out);
int pb_pack_bare(const ProtobufCMessage *msg, struct buf *out);

/* 0 and *ret in the arena, -ERR_BAD_REQUEST, -ERR_NO_MEMORY. */
int pb_unpack(const ProtobufCMessageDescriptor *type, struct slice body, struct arena *arena,
              ProtobufCMessage **ret);

static inline ProtobufCBinaryData pb_bytes(struct slice s)
{
    return (ProtobufCBinaryData){.len = s.len, .data = (uint8_t *)s.data};
}

static inline struct slice pb_slice(ProtobufCBinaryData b)
{
    return slice_of(b.data, b.len);
}

static inline ProtobufCBinaryData pb_id(const struct wire_id *id)
{
    return (ProtobufCBinaryData){.len = WIRE_ID_BYTES, .data = (uint8_t *)id->b};
}

/* Empty when zero, which says "none". */
static inline ProtobufCBinaryData pb_id_or_none(const struct wire_id *id)
{
    if (wire_id_is_zero(id))
        return (ProtobufCBinaryData){.len = 0};
    return pb_id(id);
}

/* Each: 0 or -ERR_BAD_REQUEST. An id has exactly WIRE_ID_BYTES; text is printable ASCII. */
int pb_read_id(ProtobufCBinaryData b, struct wire_id *ret);
int pb_read_id_or_none(ProtobufCBinaryData b, struct wire_id *ret);
int pb_read_text(ProtobufCBinaryData b, size_t bytes_max, struct slice *ret);
int pb_read_cursor(ProtobufCBinaryData b, struct slice *ret);

/* pb may be NULL. The key's lengths are not checked; bucket 0 reads as BUCKET_DEFAULT. */
struct key pb_read_key(const Quoit__Key *pb);
void pb_write_key(const struct key *key, Quoit__Key *ret);

/* The ring: arrays and member structs come from (and go to) one block for packing, the arena for
 * unpacking. */
struct pb_ring {
    Quoit__Ring ring;
    void *block; /* free() it after packing */
};

/* 0 or -ERR_NO_MEMORY. */
int pb_write_ring(const struct wire_ring *ring, struct pb_ring *ret);
void pb_write_member(const struct wire_member *member, Quoit__Member *ret);

/* A ring without its table (five empty arrays) is accepted only with table_optional. 0,
 * -ERR_BAD_REQUEST, -ERR_NO_MEMORY. */
int pb_read_ring(const Quoit__Ring *pb, struct arena *arena, bool table_optional,
                 struct wire_ring *ret);
int pb_read_member(const Quoit__Member *pb, struct wire_member *ret);

/* wire_status.c. Packing a status: free() *ret_block and ring->block afterwards, whatever is
 * returned; both NULL before. 0 or -ERR_NO_MEMORY, -ERR_BAD_REQUEST. */
Quoit__Load *pb_write_load(const struct wire_load *load,
                           Quoit__Load *ret);                    /* NULL: there is none */
void pb_read_load(const Quoit__Load *pb, struct wire_load *ret); /* pb may be NULL */
int pb_write_status(const struct wire_status_result *status, Quoit__StatusResult *ret,
                    struct pb_ring *ring, void **ret_block);
int pb_read_status(const Quoit__StatusResult *pb, struct arena *arena,
                   const struct wire_status_result **ret);

/* wire_gossip.c. Packing: free() *ret_block afterwards. 0 or -ERR_NO_MEMORY, -ERR_BAD_REQUEST. */
int pb_write_gossip(const struct wire_gossip *gossip, Quoit__Peer__Gossip *ret, void **ret_block);
int pb_read_gossip(const Quoit__Peer__Gossip *pb, struct arena *arena,
                   const struct wire_gossip **ret);

/* wire_peer.c: records of a page. Packing: free() *ret_block afterwards. 0, -ERR_NO_MEMORY,
 * -ERR_BAD_REQUEST. */
int pb_write_records(const struct wire_record *records, size_t n, Quoit__Peer__ScanRecord ***ret,
                     void **ret_block);
int pb_read_records(Quoit__Peer__ScanRecord *const *pb, size_t n, struct arena *arena,
                    const struct wire_record **ret);

/* wire_register.c. Packing borrows from *parts. 0, -ERR_BAD_REQUEST, -ERR_NO_MEMORY. */
struct pb_register {
    union {
        Quoit__Peer__RegisterPrepare prepare;
        Quoit__Peer__RegisterPrepareReply prepare_reply;
        Quoit__Peer__RegisterAccept accept;
        Quoit__Peer__RegisterAcceptReply accept_reply;
    } body;
    Quoit__Peer__Ballot ballot, known, promised, accepted;
    ProtobufCBinaryData before[LIMIT_VOTERS_MAX];
};
int pb_write_register(const struct wire_peer *msg, struct pb_register *parts,
                      Quoit__Peer__Message *ret);
int pb_read_register(const Quoit__Peer__Message *pb, struct arena *arena, struct wire_peer *ret);

/* wire_compare.c: between the union of msg and its message. As above. */
void pb_write_compare(const struct wire_peer *msg, Quoit__Peer__Compare *ret);
void pb_write_compare_reply(const struct wire_peer *msg, Quoit__Peer__CompareReply *ret);
void pb_write_pull(const struct wire_peer *msg, Quoit__Peer__Pull *ret);
int pb_write_pull_reply(const struct wire_peer *msg, Quoit__Peer__PullReply *ret, void **ret_block);
void pb_write_purge(const struct wire_peer *msg, Quoit__Peer__Purge *ret);
void pb_write_purge_reply(const struct wire_peer *msg, Quoit__Peer__PurgeReply *ret);
int pb_read_purge(const Quoit__Peer__Purge *pb, struct wire_peer *ret);
int pb_read_purge_reply(const Quoit__Peer__PurgeReply *pb, struct wire_peer *ret);
int pb_read_compare(const Quoit__Peer__Compare *pb, struct wire_peer *ret);
int pb_read_compare_reply(const Quoit__Peer__CompareReply *pb, struct wire_peer *ret);
int pb_read_pull(const Quoit__Peer__Pull *pb, struct wire_peer *ret);
int pb_read_pull_reply(const Quoit__Peer__PullReply *pb, struct arena *arena,
                       struct wire_peer *ret);

#endif
