/* log_group: bytes of the log. The layout is drawn in log_group.h.
 *
 * What is recognised here decides what a node remembers, so the order is: magic and id (cheap, and
 * wrong for nearly every block looked at), then the length against what there is, then the checksum
 * over everything, and only then the rest. The id makes the search safe: recovery looks for groups
 * at every block, also in the middle of what clients wrote, and a client does not know the id. Even
 * a copy of a part of this very log that someone stored as a value is harmless: the groups in it
 * are older than the one that holds it.
 *
 * The padding is not covered: it is zero by construction and read by nobody.
 */
#include "storage/log_group.h"
#include "storage/bytes.h"

#include <isa-l/crc.h>

#include "proto/err.h"

#define CRC_OFFSET 12u
#define CRC_STEP (1u << 30)

static const uint8_t magic[8] = {'q', 'u', 'o', 'i', 't', 'l', 'o', 'g'};

/* The library takes an int and does not write to its input. */
static uint32_t crc_more(uint32_t crc, const void *data, size_t len)
{
    unsigned char *at = (unsigned char *)(uintptr_t)data;

    for (; len > 0;) {
        size_t n = len < CRC_STEP ? len : CRC_STEP;

        crc = crc32_iscsi(at, (int)n, crc);
        at += n;
        len -= n;
    }
    return crc;
}

static uint32_t checksum(const uint8_t *header, const struct iovec *records, size_t n_records)
{
    static const uint8_t zero[4];
    uint32_t crc = crc_more(~0u, header + 16, 8);

    crc = crc_more(crc, header, CRC_OFFSET);
    crc = crc_more(crc, zero, sizeof(zero));
    crc = crc_more(crc, header + CRC_OFFSET + 4, LOG_GROUP_HEADER_BYTES - CRC_OFFSET - 4);
    for (size_t i = 0; i < n_records; i++)
        crc = crc_more(crc, records[i].iov_base, records[i].iov_len);
    return ~crc;
}

uint64_t log_group_disk_bytes(uint64_t length)
{
    return (length + LOG_GROUP_HEADER_BYTES + LOG_BLOCK_BYTES - 1) / LOG_BLOCK_BYTES *
           LOG_BLOCK_BYTES;
}

void log_group_encode(const struct log_group *g, const struct iovec *records, size_t n_records,
                      uint8_t out[LOG_GROUP_HEADER_BYTES])
{
    memset(out, 0, LOG_GROUP_HEADER_BYTES);
    memcpy(out, magic, sizeof(magic));
    bytes_put_le(out + 8, g->format, 4);
    bytes_put_le(out + 16, g->log_id, 8);
    bytes_put_le(out + 24, g->generation, 8);
    bytes_put_le(out + 32, g->seq, 8);
    bytes_put_le(out + 40, g->count, 4);
    bytes_put_le(out + 44, g->length, 4);
    bytes_put_le(out + CRC_OFFSET, checksum(out, records, n_records), 4);
}

void log_record_encode(uint8_t type, uint32_t len, uint8_t out[LOG_RECORD_HEADER_BYTES])
{
    memset(out, 0, LOG_RECORD_HEADER_BYTES);
    bytes_put_le(out, len, 4);
    out[4] = type;
}

bool log_group_has_magic(struct slice bytes)
{
    return bytes.len >= sizeof(magic) && memcmp(bytes.data, magic, sizeof(magic)) == 0;
}

bool log_group_claims(struct slice bytes, uint64_t log_id, uint64_t *ret_seq)
{
    if (bytes.len < LOG_GROUP_HEADER_BYTES || !log_group_has_magic(bytes) ||
        bytes_get_le(bytes.data + 16, 8) != log_id)
        return false;
    *ret_seq = bytes_get_le(bytes.data + 32, 8);
    return true;
}

bool log_group_decode(struct slice bytes, uint64_t log_id, struct log_group *ret)
{
    const uint8_t *h = bytes.data;
    struct log_group g;
    struct iovec records;

    if (bytes.len < LOG_GROUP_HEADER_BYTES || !log_group_has_magic(bytes))
        return false;
    g = (struct log_group){
        .format = (uint32_t)bytes_get_le(h + 8, 4),
        .log_id = bytes_get_le(h + 16, 8),
        .generation = bytes_get_le(h + 24, 8),
        .seq = bytes_get_le(h + 32, 8),
        .count = (uint32_t)bytes_get_le(h + 40, 4),
        .length = (uint32_t)bytes_get_le(h + 44, 4),
    };
    if (g.log_id == 0 || (log_id && g.log_id != log_id) || g.seq == 0)
        return false;
    if (g.length > bytes.len - LOG_GROUP_HEADER_BYTES)
        return false;
    records = (struct iovec){.iov_base = (void *)(uintptr_t)(h + LOG_GROUP_HEADER_BYTES),
                             .iov_len = g.length};
    if (bytes_get_le(h + CRC_OFFSET, 4) != checksum(h, &records, 1))
        return false;
    *ret = g;
    return true;
}

int log_record_next(struct slice records, size_t *at, uint8_t *ret_type, struct slice *ret_payload)
{
    const uint8_t *h = records.data + *at;
    size_t rest = records.len - *at;
    uint64_t len;

    if (rest == 0)
        return 0;
    if (rest < LOG_RECORD_HEADER_BYTES)
        return -ERR_CORRUPT;
    len = bytes_get_le(h, 4);
    if (len > LOG_RECORD_BYTES_MAX || len > rest - LOG_RECORD_HEADER_BYTES)
        return -ERR_CORRUPT;
    if (h[5] || h[6] || h[7])
        return -ERR_CORRUPT;
    *ret_type = h[4];
    *ret_payload = slice_of(h + LOG_RECORD_HEADER_BYTES, (size_t)len);
    *at += LOG_RECORD_HEADER_BYTES + (size_t)len;
    return 1;
}
