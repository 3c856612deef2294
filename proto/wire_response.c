/* wire_response: what clients are answered.
 *
 * A response is unpacked by a client, which has nobody to answer to: it is good or BAD_REQUEST. Two
 * exceptions look forward: an error code of a newer server is passed on as it came (its retryable
 * flag and text say what to do), and a result of a newer server reads as RESULT_NONE. An error's
 * text that is too long or could upset a terminal is replaced by the table's sentence.
 *
 * Records of a page are deleted ones left out, so each is a last-writer-wins state with a value.
 */
#include "proto/wire_pb.h"

#include <limits.h>
#include <stdlib.h>

/* ---- packing -----------------------------------------------------------------------------  */

struct response_parts {
    Quoit__Error error;
    Quoit__Version version;
    union {
        Quoit__HelloResult hello;
        Quoit__PingResult ping;
        Quoit__GetResult get;
        Quoit__WriteResult write;
        Quoit__ScanResult scan;
        Quoit__RingResult ring;
        Quoit__StatusResult status;
    } result;
    struct pb_ring ring;
    void *block; /* records of a scan, the parts of a status */
};

static void response_write_version(struct version version, Quoit__Version *ret)
{
    quoit__version__init(ret);
    ret->hlc = version.hlc;
    ret->actor = version.actor;
}

static void response_write_error(const struct wire_error *error, struct response_parts *parts,
                                 Quoit__Response *pb)
{
    quoit__error__init(&parts->error);
    parts->error.code = (uint32_t)error->code;
    parts->error.text = pb_bytes(error->text);
    parts->error.retryable = error->retryable;
    parts->error.limit = error->limit;
    parts->error.actual = error->actual;
    pb->error = &parts->error;
}

static void response_write_hello(const struct wire_hello_result *from, Quoit__HelloResult *ret)
{
    quoit__hello_result__init(ret);
    ret->protocol = from->protocol;
    ret->node_id = pb_id(&from->node_id);
    ret->cluster_id = pb_id_or_none(&from->cluster_id);
    ret->software = pb_bytes(from->software);
    ret->n_workers = from->n_workers;
    ret->worker = from->worker;
}

static void response_write_ping(const struct wire_ping_result *from, Quoit__PingResult *ret)
{
    quoit__ping_result__init(ret);
    ret->node_id = pb_id(&from->node_id);
    ret->name = pb_bytes(from->name);
    ret->software = pb_bytes(from->software);
    ret->serving = from->serving;
}

static void response_write_get(const struct wire_get_result *from, struct response_parts *parts)
{
    Quoit__GetResult *ret = &parts->result.get;

    quoit__get_result__init(ret);
    ret->found = from->found;
    ret->value = pb_bytes(from->value);
    ret->replicas = from->replicas;
    if (!version_is_none(from->version)) {
        response_write_version(from->version, &parts->version);
        ret->version = &parts->version;
    }
}

static int response_write_scan(const struct wire_scan_result *from, struct response_parts *parts)
{
    struct entry {
        Quoit__Record record;
        Quoit__Key key;
        Quoit__Version version;
    };
    size_t n = from->n_records;
    /* One block for all: the entries, then the pointers to them that protobuf-c wants. */
    struct entry *entries = calloc(n + 1, sizeof(*entries) + sizeof(Quoit__Record *));

    if (!entries)
        return -ERR_NO_MEMORY;
    Quoit__Record **pointers = (Quoit__Record **)(entries + n);
    for (size_t i = 0; i < n; i++) {
        struct entry *e = &entries[i];
        quoit__record__init(&e->record);
        pb_write_key(&from->records[i].key, &e->key);
        response_write_version(from->records[i].state.version, &e->version);
        e->record.key = &e->key;
        e->record.version = &e->version;
        e->record.value = pb_bytes(from->records[i].state.value);
        pointers[i] = &e->record;
    }
    quoit__scan_result__init(&parts->result.scan);
    parts->result.scan.n_records = n;
    parts->result.scan.records = pointers;
    parts->result.scan.cursor = pb_bytes(from->cursor);
    parts->block = entries;
    return 0;
}

static int response_write_ring(const struct wire_ring *from, struct response_parts *parts)
{
    int r = pb_write_ring(from, &parts->ring);

    if (r < 0)
        return r;
    quoit__ring_result__init(&parts->result.ring);
    parts->result.ring.ring = &parts->ring.ring;
    return 0;
}

static int response_write_result(const struct wire_response *res, struct response_parts *parts,
                                 Quoit__Response *pb)
{
    int r = 0;

    switch (res->type) {
    case RESULT_NONE:
        break;
    case RESULT_HELLO:
        response_write_hello(&res->u.hello, &parts->result.hello);
        pb->result_case = QUOIT__RESPONSE__RESULT_HELLO;
        pb->hello = &parts->result.hello;
        break;
    case RESULT_PING:
        response_write_ping(&res->u.ping, &parts->result.ping);
        pb->result_case = QUOIT__RESPONSE__RESULT_PING;
        pb->ping = &parts->result.ping;
        break;
    case RESULT_GET:
        response_write_get(&res->u.get, parts);
        pb->result_case = QUOIT__RESPONSE__RESULT_GET;
        pb->get = &parts->result.get;
        break;
    case RESULT_WRITE:
        response_write_version(res->u.write.version, &parts->version);
        quoit__write_result__init(&parts->result.write);
        parts->result.write.version = &parts->version;
        parts->result.write.replicas = res->u.write.replicas;
        pb->result_case = QUOIT__RESPONSE__RESULT_WRITE;
        pb->write = &parts->result.write;
        break;
    case RESULT_SCAN:
        r = response_write_scan(&res->u.scan, parts);
        pb->result_case = QUOIT__RESPONSE__RESULT_SCAN;
        pb->scan = &parts->result.scan;
        break;
    case RESULT_RING:
        r = response_write_ring(res->u.ring, parts);
        pb->result_case = QUOIT__RESPONSE__RESULT_RING;
        pb->ring = &parts->result.ring;
        break;
    case RESULT_STATUS:
        r = pb_write_status(res->u.status, &parts->result.status, &parts->ring, &parts->block);
        pb->result_case = QUOIT__RESPONSE__RESULT_STATUS;
        pb->status = &parts->result.status;
        break;
    }
    return r;
}

int wire_response_pack(const struct wire_response *res, struct buf *out)
{
    Quoit__Response pb = QUOIT__RESPONSE__INIT;
    struct response_parts parts;
    int r = 0;

    parts.block = parts.ring.block = NULL;
    pb.id = res->id;
    pb.ring_epoch = res->ring_epoch;
    pb.hlc = res->hlc;
    if (res->error.code)
        response_write_error(&res->error, &parts, &pb);
    else
        r = response_write_result(res, &parts, &pb);
    if (r == 0)
        r = pb_pack_frame(&pb.base, out);
    free(parts.block);
    free(parts.ring.block);
    return r;
}

/* ---- unpacking ---------------------------------------------------------------------------  */

static struct version response_read_version(const Quoit__Version *pb)
{
    return pb ? (struct version){.hlc = pb->hlc, .actor = pb->actor} : (struct version){0};
}

static int response_read_error(const Quoit__Error *pb, struct wire_error *ret)
{
    if (pb->code == 0 || pb->code > INT_MAX)
        return -ERR_BAD_REQUEST;
    ret->code = (int)pb->code;
    ret->retryable = pb->retryable;
    ret->limit = pb->limit;
    ret->actual = pb->actual;
    if (pb->text.len == 0 || pb_read_text(pb->text, LIMIT_ERROR_TEXT_BYTES, &ret->text) < 0)
        ret->text = slice_str(err_text(ret->code));
    return 0;
}

static int response_read_hello(const Quoit__HelloResult *pb, struct wire_hello_result *ret)
{
    if (pb_read_id(pb->node_id, &ret->node_id) < 0 ||
        pb_read_id_or_none(pb->cluster_id, &ret->cluster_id) < 0 ||
        pb_read_text(pb->software, LIMIT_NAME_BYTES, &ret->software) < 0 ||
        pb->n_workers > LIMIT_WORKERS_MAX)
        return -ERR_BAD_REQUEST;
    ret->protocol = pb->protocol;
    ret->n_workers = pb->n_workers;
    ret->worker = pb->worker;
    return 0;
}

static int response_read_ping(const Quoit__PingResult *pb, struct wire_ping_result *ret)
{
    if (pb_read_id(pb->node_id, &ret->node_id) < 0 ||
        pb_read_text(pb->name, LIMIT_NAME_BYTES, &ret->name) < 0 ||
        pb_read_text(pb->software, LIMIT_NAME_BYTES, &ret->software) < 0)
        return -ERR_BAD_REQUEST;
    ret->serving = pb->serving;
    return 0;
}

static int response_read_get(const Quoit__GetResult *pb, struct wire_get_result *ret)
{
    if (pb->value.len > LIMIT_VALUE_BYTES)
        return -ERR_BAD_REQUEST;
    ret->found = pb->found;
    ret->value = pb_slice(pb->value);
    ret->version = response_read_version(pb->version);
    ret->replicas = pb->replicas;
    return 0;
}

static int response_read_scan(const Quoit__ScanResult *pb, struct arena *arena,
                              struct wire_scan_result *ret)
{
    if (pb->n_records > LIMIT_SCAN_PAGE_RECORDS || pb_read_cursor(pb->cursor, &ret->cursor) < 0)
        return -ERR_BAD_REQUEST;
    struct wire_record *records = arena_alloc(arena, pb->n_records * sizeof(*records));
    if (!records)
        return -ERR_NO_MEMORY;
    for (size_t i = 0; i < pb->n_records; i++) {
        const Quoit__Record *from = pb->records[i];
        records[i].key = pb_read_key(from->key);
        records[i].state = (struct state){.kind = STATE_LWW,
                                          .version = response_read_version(from->version),
                                          .value = pb_slice(from->value)};
        if (key_check(&records[i].key) < 0 || from->value.len > LIMIT_VALUE_BYTES)
            return -ERR_BAD_REQUEST;
    }
    ret->records = records;
    ret->n_records = pb->n_records;
    return 0;
}

static int response_read_ring(const Quoit__RingResult *pb, struct arena *arena,
                              const struct wire_ring **ret)
{
    if (!pb->ring)
        return -ERR_BAD_REQUEST;
    struct wire_ring *ring = arena_alloc(arena, sizeof(*ring));
    if (!ring)
        return -ERR_NO_MEMORY;
    int r = pb_read_ring(pb->ring, arena, false, ring);
    if (r < 0)
        return r;
    *ret = ring;
    return 0;
}

static int response_read_result(const Quoit__Response *pb, struct arena *arena,
                                struct wire_response *ret)
{
    switch (pb->result_case) {
    case QUOIT__RESPONSE__RESULT_HELLO:
        ret->type = RESULT_HELLO;
        return response_read_hello(pb->hello, &ret->u.hello);
    case QUOIT__RESPONSE__RESULT_PING:
        ret->type = RESULT_PING;
        return response_read_ping(pb->ping, &ret->u.ping);
    case QUOIT__RESPONSE__RESULT_GET:
        ret->type = RESULT_GET;
        return response_read_get(pb->get, &ret->u.get);
    case QUOIT__RESPONSE__RESULT_WRITE:
        ret->type = RESULT_WRITE;
        ret->u.write.version = response_read_version(pb->write->version);
        ret->u.write.replicas = pb->write->replicas;
        return 0;
    case QUOIT__RESPONSE__RESULT_SCAN:
        ret->type = RESULT_SCAN;
        return response_read_scan(pb->scan, arena, &ret->u.scan);
    case QUOIT__RESPONSE__RESULT_RING:
        ret->type = RESULT_RING;
        return response_read_ring(pb->ring, arena, &ret->u.ring);
    case QUOIT__RESPONSE__RESULT_STATUS:
        ret->type = RESULT_STATUS;
        return pb_read_status(pb->status, arena, &ret->u.status);
    default:
        return 0;
    }
}

int wire_response_unpack(struct slice body, struct arena *arena, struct wire_response *ret)
{
    ProtobufCMessage *msg;

    memset(ret, 0, sizeof(*ret));
    int r = pb_unpack(&quoit__response__descriptor, body, arena, &msg);
    if (r < 0)
        return r;

    const Quoit__Response *pb = (const Quoit__Response *)msg;
    ret->id = pb->id;
    ret->ring_epoch = pb->ring_epoch;
    ret->hlc = pb->hlc;
    return pb->error ? response_read_error(pb->error, &ret->error)
                     : response_read_result(pb, arena, ret);
}
