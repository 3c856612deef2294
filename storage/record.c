/* record: bytes on disk. The layout is drawn in record.h.
 *
 * Everything read here may be damaged: lengths are checked before the bytes they promise are
 * touched, and the checksum is computed before any field is believed. The order matters for the
 * verdict too: a flip in the format byte fails the checksum and reads as corrupt, while a newer
 * format, which must keep the checksum where it is, reads as newer.
 *
 * Deliberately not done: no compression, no padding, no length field (the store knows the length).
 */
#include "storage/record.h"
#include "storage/bytes.h"
#include "storage/store.h"

#include <assert.h>
#include <isa-l/crc.h>

#include "proto/err.h"

#define RECORD_FLAG_DELETED 0x01u
#define CRC_OFFSET 4u

/* Lengths are bounded by the callers far below INT_MAX; the library does not write to its input. */
static uint32_t crc_more(uint32_t crc, const uint8_t *data, size_t len)
{
    return len ? crc32_iscsi((unsigned char *)(uintptr_t)data, (int)len, crc) : crc;
}

/* name (or key), header with the checksum's bytes zero, value. */
static uint32_t checksum(struct slice name, const uint8_t *header, size_t header_len,
                         struct slice value)
{
    static const uint8_t zero[4];
    uint32_t crc = ~0u;

    crc = crc_more(crc, name.data, name.len);
    crc = crc_more(crc, header, CRC_OFFSET);
    crc = crc_more(crc, zero, sizeof(zero));
    crc = crc_more(crc, header + CRC_OFFSET + 4, header_len - CRC_OFFSET - 4);
    crc = crc_more(crc, value.data, value.len);
    return ~crc;
}

size_t store_key_encode(uint64_t token, const struct key *key, uint8_t *out)
{
    size_t len = STORE_KEY_HEADER_BYTES;

    assert(key->partition.len + key->sort.len <= LIMIT_KEY_BYTES);
    bytes_put_be(out, token, 8);
    bytes_put_be(out + 8, key->bucket, 4);
    bytes_put_be(out + 12, key->partition.len, 2);
    if (key->partition.len)
        memcpy(out + len, key->partition.data, key->partition.len);
    len += key->partition.len;
    if (key->sort.len)
        memcpy(out + len, key->sort.data, key->sort.len);
    return len + key->sort.len;
}

int store_key_decode(struct slice bytes, uint64_t *ret_token, struct key *ret)
{
    size_t partition_len, rest;

    if (bytes.len <= STORE_KEY_HEADER_BYTES || bytes.len > STORE_KEY_BYTES_MAX)
        return -ERR_CORRUPT;
    partition_len = (size_t)bytes_get_be(bytes.data + 12, 2);
    rest = bytes.len - STORE_KEY_HEADER_BYTES;
    if (partition_len == 0 || partition_len > rest)
        return -ERR_CORRUPT;
    *ret_token = bytes_get_be(bytes.data, 8);
    *ret = (struct key){
        .bucket = (uint32_t)bytes_get_be(bytes.data + 8, 4),
        .partition = slice_of(bytes.data + STORE_KEY_HEADER_BYTES, partition_len),
        .sort = slice_of(bytes.data + STORE_KEY_HEADER_BYTES + partition_len, rest - partition_len),
    };
    return 0;
}

void record_header_encode(struct slice store_key, const struct state *state,
                          uint8_t out[RECORD_HEADER_BYTES])
{
    out[0] = RECORD_FORMAT;
    out[1] = state->kind;
    out[2] = state->deleted ? RECORD_FLAG_DELETED : 0;
    out[3] = 0;
    bytes_put_le(out + 8, state->version.hlc, 8);
    bytes_put_le(out + 16, state->version.actor, 8);
    bytes_put_le(out + CRC_OFFSET, checksum(store_key, out, RECORD_HEADER_BYTES, state->value), 4);
}

int record_decode(struct slice store_key, struct slice record, struct state *ret)
{
    const uint8_t *h = record.data;
    struct slice value;

    if (record.len < RECORD_HEADER_BYTES || record.len > RECORD_HEADER_BYTES + LIMIT_VALUE_BYTES)
        return -ERR_CORRUPT;
    value = slice_of(h + RECORD_HEADER_BYTES, record.len - RECORD_HEADER_BYTES);
    if (bytes_get_le(h + CRC_OFFSET, 4) != checksum(store_key, h, RECORD_HEADER_BYTES, value))
        return -ERR_CORRUPT;
    if (h[0] > RECORD_FORMAT || h[1] > STATE_LWW)
        return -ERR_FORMAT;
    if (h[0] == 0 || h[1] == STATE_NONE || (h[2] & ~RECORD_FLAG_DELETED) || h[3])
        return -ERR_CORRUPT;
    if ((h[2] & RECORD_FLAG_DELETED) && value.len)
        return -ERR_CORRUPT;
    *ret = (struct state){
        .kind = h[1],
        .deleted = h[2] & RECORD_FLAG_DELETED,
        .version = {.hlc = bytes_get_le(h + 8, 8), .actor = bytes_get_le(h + 16, 8)},
        .value = value,
    };
    return 0;
}

bool record_claims_tombstone(struct slice record, uint64_t hlc_max)
{
    return record.len >= RECORD_HEADER_BYTES && (record.data[2] & RECORD_FLAG_DELETED) &&
           bytes_get_le(record.data + 8, 8) <= hlc_max;
}

void fact_header_encode(struct slice name, struct slice value, uint8_t out[FACT_HEADER_BYTES])
{
    memset(out, 0, FACT_HEADER_BYTES);
    out[0] = RECORD_FORMAT;
    bytes_put_le(out + CRC_OFFSET, checksum(name, out, FACT_HEADER_BYTES, value), 4);
}

int fact_decode(struct slice name, struct slice fact, struct slice *ret_value)
{
    struct slice value;

    if (fact.len < FACT_HEADER_BYTES || fact.len > FACT_HEADER_BYTES + LIMIT_VALUE_BYTES)
        return -ERR_CORRUPT;
    value = slice_of(fact.data + FACT_HEADER_BYTES, fact.len - FACT_HEADER_BYTES);
    if (bytes_get_le(fact.data + CRC_OFFSET, 4) !=
        checksum(name, fact.data, FACT_HEADER_BYTES, value))
        return -ERR_CORRUPT;
    if (fact.data[0] > RECORD_FORMAT)
        return -ERR_FORMAT;
    if (fact.data[0] == 0 || fact.data[1] || fact.data[2] || fact.data[3])
        return -ERR_CORRUPT;
    *ret_value = value;
    return 0;
}

size_t store_cursor_encode(uint64_t token, const struct key *key, uint8_t *out)
{
    return store_key_encode(token, key, out);
}

uint64_t store_cursor_token(struct slice cursor)
{
    return cursor.len >= 8 ? bytes_get_be(cursor.data, 8) : 0;
}

int store_cursor_decode(struct slice cursor, uint64_t *ret_token, struct key *ret)
{
    return store_key_decode(cursor, ret_token, ret);
}
