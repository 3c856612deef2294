/* log_group: a group of records as bytes, the unit that is written and synced. Pure.
 *
 *   group    offset 0  8 bytes  magic "quoitlog"
 *                   8  u32      format, 1
 *                  12  u32      CRC-32C over the log id (8 bytes), then this header with these 4
 *                               bytes zero, then the records
 *                  16  u64      log id, random, never 0
 *                  24  u64      generation: which opening of the log wrote it, from 1 on
 *                  32  u64      sequence: 1 for the first group of a log, then one more per group
 *                  40  u32      count of records
 *                  44  u32      length of the records in bytes
 *                  48  u64 u64  0
 *                  64  ...      records, then zeroes up to a multiple of 4 KiB
 *
 *   record   offset 0  u32      length of the payload
 *                   4  u8       type
 *                   5  u8 * 3   0
 *                   8  ...      payload; the next record follows without a gap
 *
 * Numbers are little-endian. Magic, format, CRC, log id, sequence and length keep their places and
 * meaning in every later format: only what passes its checksum can claim to be newer, a flipped bit
 * cannot. A group begins at a multiple of 4 KiB of its file.
 */
#ifndef QUOIT_STORAGE_LOG_GROUP_H
#define QUOIT_STORAGE_LOG_GROUP_H

#include <sys/uio.h>

#include "storage/log.h"

#define LOG_GROUP_FORMAT 1u
#define LOG_GROUP_HEADER_BYTES 64u
#define LOG_RECORD_HEADER_BYTES LOG_RECORD_OVERHEAD_BYTES

struct log_group {
    uint32_t format;
    uint64_t log_id, generation, seq;
    uint32_t count, length;
};

/* What a group of so many bytes of records takes on disk. */
uint64_t log_group_disk_bytes(uint64_t length);

/* The header, checksum included, in front of the records. */
void log_group_encode(const struct log_group *g, const struct iovec *records, size_t n_records,
                      uint8_t out[LOG_GROUP_HEADER_BYTES]);
void log_record_encode(uint8_t type, uint32_t len, uint8_t out[LOG_RECORD_HEADER_BYTES]);

/* Whether whole bytes begin with a whole group of the log (log_id 0: of any), of whatever format,
 * as its checksum says. *ret only then. Nothing of bytes is believed before it was bounded. */
bool log_group_decode(struct slice bytes, uint64_t log_id, struct log_group *ret);
/* Whether bytes begin with the header of a group of the log, whole or not; *ret_seq as it says.
 * Nothing is checked: good for suspecting that a group is there, not for believing what it says. */
bool log_group_claims(struct slice bytes, uint64_t log_id, uint64_t *ret_seq);
/* Something that may once have been a group begins here. */
bool log_group_has_magic(struct slice bytes);

/* The record at *at of a group's records, and moves *at behind it. 1; 0: no more; -ERR_CORRUPT. */
int log_record_next(struct slice records, size_t *at, uint8_t *ret_type, struct slice *ret_payload);

#endif
