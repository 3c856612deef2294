/* log_record: what stands in the log, as bytes. Pure.
 *
 *   STATE   u16 length of the store key | store key | record (header of 24 bytes, value: record.h)
 *   FACT    u8 length of the name | name | fact (header of 8 bytes, value: record.h)
 *   WIPE    u64 number | u64 first token | u64 last token
 *
 * Numbers are little-endian. A type that is not known is of a newer format: replay refuses. Room is
 * left for all small durable facts to come: seals, fences, floors, promises.
 */
#ifndef QUOIT_STORAGE_LOG_RECORD_H
#define QUOIT_STORAGE_LOG_RECORD_H

#include "storage/record.h"
#include "storage/store.h"

/* A fact's name with the prefix of whoever it belongs to. */
#define LOG_FACT_NAME_MAX (STORE_META_NAME_MAX + 2u)

enum log_type {
    LOG_STATE = 1,
    LOG_FACT = 2,
    LOG_WIPE = 3
};

/* The pieces of a record: log_list_add takes them. Slices point into head, and at the caller's. */
struct log_pieces {
    struct slice piece[3];
    size_t n;
    uint8_t head[STORE_KEY_BYTES_MAX + 2 + RECORD_HEADER_BYTES];
};

/* Fills *ret in place: do not copy it afterwards. */
void log_record_state(struct slice store_key, const struct state *state, struct log_pieces *ret);
void log_record_fact(struct slice name, struct slice value, struct log_pieces *ret);
void log_record_wipe(struct store_range range, uint64_t number, struct log_pieces *ret);

/* 0, -ERR_CORRUPT, -ERR_FORMAT. Slices borrow from payload. */
int log_record_state_decode(struct slice payload, struct slice *ret_store_key,
                            struct state *ret_state);
int log_record_fact_decode(struct slice payload, struct slice *ret_name, struct slice *ret_value);
int log_record_wipe_decode(struct slice payload, struct store_range *ret, uint64_t *ret_number);

#endif
