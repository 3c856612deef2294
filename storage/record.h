/* record: a state as bytes on disk, and store keys.
 *
 *   record   offset 0  u8   format, 1
 *                   1  u8   kind (enum state_kind)
 *                   2  u8   flags: bit 0 deleted
 *                   3  u8   0
 *                   4  u32  CRC-32C over the store key, then this header with these 4 bytes
 *                           zero, then the value
 *                   8  u64  version.hlc
 *                  16  u64  version.actor
 *                  24  ...  value                              all little-endian
 *
 *   key      offset 0  u64  token, big-endian: the order of keys is the order of the ring, so a
 *                           vnode, each half of it after a split and each leaf of its tree is one
 *                           contiguous range
 *                   8  u32  bucket, big-endian
 *                  12  u16  length of the partition key, big-endian
 *                  14  ...  partition key, then sort key; nothing is escaped
 *
 *   fact     offset 0  u8   format, 1
 *                   1  u8   0, 0, 0
 *                   4  u32  CRC-32C over the name, this header with these 4 bytes zero, the value
 *                   8  ...  value; facts are kept by name, apart from the records
 *
 * The checksum covers the key, so a record that turns up under another key is corrupt as well. The
 * first and the second four bytes keep their meaning in every later format: only what passes its
 * checksum can claim to be newer, a flipped bit cannot.
 */
#ifndef QUOIT_STORAGE_RECORD_H
#define QUOIT_STORAGE_RECORD_H

#include "proto/limits.h"
#include "proto/state.h"

#define RECORD_FORMAT 1u
#define RECORD_HEADER_BYTES 24u
#define STORE_KEY_HEADER_BYTES 14u
#define STORE_KEY_BYTES_MAX (STORE_KEY_HEADER_BYTES + LIMIT_KEY_BYTES)

/* Writes the store key to out (STORE_KEY_BYTES_MAX bytes) and returns its length. The key has
 * passed key_check. */
size_t store_key_encode(uint64_t token, const struct key *key, uint8_t *out);
/* 0 or -ERR_CORRUPT; ret's slices borrow from bytes. */
int store_key_decode(struct slice bytes, uint64_t *ret_token, struct key *ret);

/* Writes the 24 bytes in front of the value, checksum included. */
void record_header_encode(struct slice store_key, const struct state *state,
                          uint8_t out[RECORD_HEADER_BYTES]);
/* 0, -ERR_CORRUPT (checksum, length, unknown flags), -ERR_FORMAT (a newer format). ret->value
 * borrows from record. */
int record_decode(struct slice store_key, struct slice record, struct state *ret);

/* Whether a record says of itself that it is a tombstone with a clock of at most so much. Its
 * checksum is not looked at, nor is its value: for whoever looks for them among many. */
bool record_claims_tombstone(struct slice record, uint64_t hlc_max);

#define FACT_HEADER_BYTES 8u

/* The same for a small fact. */
void fact_header_encode(struct slice name, struct slice value, uint8_t out[FACT_HEADER_BYTES]);
int fact_decode(struct slice name, struct slice fact, struct slice *ret_value);

#endif
