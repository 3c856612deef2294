/* records: a page of records, kept past the step that brought it. Private to server/core. */
#ifndef QUOIT_CORE_RECORDS_H
#define QUOIT_CORE_RECORDS_H

#include "proto/wire.h"

/* Bytes of a record's key and value. */
static inline size_t record_bytes(const struct wire_record *r)
{
    return r->key.partition.len + r->key.sort.len + r->state.value.len;
}

/* What a copy of them takes. */
size_t records_size(const struct wire_record *records, size_t n);
/* Records and their bytes in one blob, the caller's; NULL: out of memory. */
struct blob *records_copy(const struct wire_record *records, size_t n,
                          const struct wire_record **ret);

#endif
