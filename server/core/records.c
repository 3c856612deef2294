/* records: see records.h. */
#include "server/core/records.h"

static struct slice put_bytes(uint8_t **at, struct slice s)
{
    struct slice copy = slice_of(*at, s.len);

    if (s.len)
        memcpy(*at, s.data, s.len);
    *at += s.len;
    return copy;
}

size_t records_size(const struct wire_record *records, size_t n)
{
    size_t bytes = n * sizeof *records + _Alignof(struct wire_record);

    for (size_t i = 0; i < n; i++)
        bytes += record_bytes(&records[i]);
    return bytes;
}

struct blob *records_copy(const struct wire_record *records, size_t n,
                          const struct wire_record **ret)
{
    struct blob *blob = blob_new(records_size(records, n));
    struct wire_record *copy;
    uint8_t *at;

    if (!blob)
        return NULL;
    at = blob->data;
    at += (_Alignof(struct wire_record) - (uintptr_t)at % _Alignof(struct wire_record)) %
          _Alignof(struct wire_record);
    copy = (struct wire_record *)(void *)at;
    at += n * sizeof *records;
    for (size_t i = 0; i < n; i++) {
        copy[i] = records[i];
        copy[i].key.partition = put_bytes(&at, records[i].key.partition);
        copy[i].key.sort = put_bytes(&at, records[i].key.sort);
        copy[i].state.value = put_bytes(&at, records[i].state.value);
    }
    *ret = copy;
    return blob;
}
