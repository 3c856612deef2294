/* wire_request: what clients ask for.
 *
 * A server cannot choose its clients, so a request is refused with a type: whatever could be parsed
 * stays in *ret, above all the id, so that the refusal reaches the right caller. What cannot be
 * parsed at all leaves *ret zero: then only closing the connection is left.
 *
 *   parse fails                    -> BAD_REQUEST or NO_MEMORY, id 0
 *   no op, and nothing unknown     -> BAD_REQUEST
 *   no op, but an unknown field    -> UNSUPPORTED: an op of a newer client
 *   level, cursor, partition wrong -> BAD_REQUEST
 *   key, then value                -> KEY_EMPTY, KEY_TOO_LARGE, VALUE_TOO_LARGE
 *
 * Whether a bucket exists, whether a partition count is the ring's and how long a deadline may be
 * is judged where the ring and the clock are.
 */
#include "proto/wire_pb.h"

int wire_request_pack(const struct wire_request *req, struct buf *out)
{
    Quoit__Request pb = QUOIT__REQUEST__INIT;
    Quoit__Key key;
    Quoit__Level level = (Quoit__Level)req->level;
    union {
        Quoit__HelloRequest hello;
        Quoit__PingRequest ping;
        Quoit__GetRequest get;
        Quoit__PutRequest put;
        Quoit__DeleteRequest del;
        Quoit__ScanRequest scan;
        Quoit__RingRequest ring;
        Quoit__StatusRequest status;
    } op;

    pb.id = req->id;
    pb.deadline_ms = req->deadline_ms;
    pb.ring_epoch = req->ring_epoch;
    pb.hlc = req->hlc;
    pb_write_key(&req->key, &key);

    switch (req->op) {
    case OP_NONE:
        return -ERR_BAD_REQUEST;
    case OP_HELLO:
        quoit__hello_request__init(&op.hello);
        op.hello.protocol = req->u.hello.protocol;
        op.hello.client = pb_bytes(req->u.hello.client);
        op.hello.worker = req->u.hello.worker;
        pb.op_case = QUOIT__REQUEST__OP_HELLO;
        pb.hello = &op.hello;
        break;
    case OP_PING:
        quoit__ping_request__init(&op.ping);
        pb.op_case = QUOIT__REQUEST__OP_PING;
        pb.ping = &op.ping;
        break;
    case OP_GET:
        quoit__get_request__init(&op.get);
        op.get.key = &key;
        op.get.level = level;
        pb.op_case = QUOIT__REQUEST__OP_GET;
        pb.get = &op.get;
        break;
    case OP_PUT:
        quoit__put_request__init(&op.put);
        op.put.key = &key;
        op.put.level = level;
        op.put.value = pb_bytes(req->value);
        pb.op_case = QUOIT__REQUEST__OP_PUT;
        pb.put = &op.put;
        break;
    case OP_DELETE:
        quoit__delete_request__init(&op.del);
        op.del.key = &key;
        op.del.level = level;
        pb.op_case = QUOIT__REQUEST__OP_DEL;
        pb.del = &op.del;
        break;
    case OP_SCAN:
        quoit__scan_request__init(&op.scan);
        op.scan.partition = req->u.scan.partition;
        op.scan.n_partitions = req->u.scan.n_partitions;
        op.scan.level = level;
        op.scan.cursor = pb_bytes(req->u.scan.cursor);
        op.scan.page_bytes = req->u.scan.page_bytes;
        pb.op_case = QUOIT__REQUEST__OP_SCAN;
        pb.scan = &op.scan;
        break;
    case OP_RING:
        quoit__ring_request__init(&op.ring);
        pb.op_case = QUOIT__REQUEST__OP_RING;
        pb.ring = &op.ring;
        break;
    case OP_STATUS:
        quoit__status_request__init(&op.status);
        op.status.ring = req->u.status.ring;
        pb.op_case = QUOIT__REQUEST__OP_STATUS;
        pb.status = &op.status;
        break;
    }
    return pb_pack_frame(&pb.base, out);
}

static int request_read_level(Quoit__Level level, struct wire_request *ret)
{
    /* Compared unsigned: an enum of protobuf-c holds whatever number came. */
    if ((unsigned int)level > LEVEL_ALL)
        return -ERR_BAD_REQUEST;
    ret->level = (enum wire_level)level;
    return 0;
}

static int request_read_keyed(enum wire_op op, const Quoit__Key *key, Quoit__Level level,
                              struct wire_request *ret)
{
    ret->op = op;
    ret->key = pb_read_key(key);
    int r = request_read_level(level, ret);
    return r < 0 ? r : key_check(&ret->key);
}

static int request_read_put(const Quoit__PutRequest *pb, struct wire_request *ret)
{
    ret->value = pb_slice(pb->value);
    int r = request_read_keyed(OP_PUT, pb->key, pb->level, ret);
    if (r < 0)
        return r;
    return pb->value.len > LIMIT_VALUE_BYTES ? -ERR_VALUE_TOO_LARGE : 0;
}

static int request_read_hello(const Quoit__HelloRequest *pb, struct wire_request *ret)
{
    ret->op = OP_HELLO;
    ret->u.hello.protocol = pb->protocol;
    ret->u.hello.worker = pb->worker;
    return pb_read_text(pb->client, LIMIT_NAME_BYTES, &ret->u.hello.client);
}

static int request_read_scan(const Quoit__ScanRequest *pb, struct wire_request *ret)
{
    ret->op = OP_SCAN;
    ret->u.scan.partition = pb->partition;
    ret->u.scan.n_partitions = pb->n_partitions;
    ret->u.scan.page_bytes = pb->page_bytes;
    int r = request_read_level(pb->level, ret);
    if (r < 0)
        return r;
    if (pb->partition >= pb->n_partitions)
        return -ERR_BAD_REQUEST;
    return pb_read_cursor(pb->cursor, &ret->u.scan.cursor);
}

static int request_read_op(const Quoit__Request *pb, struct wire_request *ret)
{
    switch (pb->op_case) {
    case QUOIT__REQUEST__OP_HELLO:
        return request_read_hello(pb->hello, ret);
    case QUOIT__REQUEST__OP_PING:
        ret->op = OP_PING;
        return 0;
    case QUOIT__REQUEST__OP_GET:
        return request_read_keyed(OP_GET, pb->get->key, pb->get->level, ret);
    case QUOIT__REQUEST__OP_PUT:
        return request_read_put(pb->put, ret);
    case QUOIT__REQUEST__OP_DEL:
        return request_read_keyed(OP_DELETE, pb->del->key, pb->del->level, ret);
    case QUOIT__REQUEST__OP_SCAN:
        return request_read_scan(pb->scan, ret);
    case QUOIT__REQUEST__OP_RING:
        ret->op = OP_RING;
        return 0;
    case QUOIT__REQUEST__OP_STATUS:
        ret->op = OP_STATUS;
        ret->u.status.ring = pb->status->ring;
        return 0;
    default:
        return pb->base.n_unknown_fields ? -ERR_UNSUPPORTED : -ERR_BAD_REQUEST;
    }
}

int wire_request_unpack(struct slice body, struct arena *arena, struct wire_request *ret)
{
    ProtobufCMessage *msg;

    memset(ret, 0, sizeof(*ret));
    int r = pb_unpack(&quoit__request__descriptor, body, arena, &msg);
    if (r < 0)
        return r;

    const Quoit__Request *pb = (const Quoit__Request *)msg;
    ret->id = pb->id;
    ret->deadline_ms = pb->deadline_ms;
    ret->ring_epoch = pb->ring_epoch;
    ret->hlc = pb->hlc;
    return request_read_op(pb, ret);
}
