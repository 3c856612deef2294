/* A group of the log as a disk may hand it out. The first byte says how: bit 0, the header is made
 * whole around the rest as its records, checksum included, so that the walk over records is
 * reached; otherwise the bytes are looked at as they are. Whatever is accepted lies inside the
 * input, and a group that is accepted must be one that this code would have written.
 */
#include "proto/err.h"
#include "storage/log_group.h"
#include "tests/fuzz/fuzz_check.h"

#define ID 0x0123456789abcdefu

static void walk_records(struct slice records)
{
    size_t at = 0, before = 0;
    struct slice payload;
    uint64_t sum = 0;
    uint8_t type;
    int r;

    while ((r = log_record_next(records, &at, &type, &payload)) == 1) {
        uint8_t header[LOG_RECORD_HEADER_BYTES];

        for (size_t i = 0; i < payload.len; i++)
            sum += payload.data[i];
        FUZZ_CHECK(at == before + LOG_RECORD_HEADER_BYTES + payload.len && at <= records.len);
        log_record_encode(type, (uint32_t)payload.len, header);
        FUZZ_CHECK(memcmp(header, records.data + before, sizeof(header)) == 0);
        before = at;
    }
    FUZZ_CHECK((r == 0 && at == records.len) || (r == -ERR_CORRUPT && at == before));
    FUZZ_CHECK(sum != UINT64_MAX);
}

static void look_at(struct slice bytes, bool must)
{
    struct log_group g;
    bool is = log_group_decode(bytes, 0, &g);

    FUZZ_CHECK(is || !must);
    if (!is)
        return;
    FUZZ_CHECK(g.length <= bytes.len - LOG_GROUP_HEADER_BYTES && g.log_id && g.seq);
    FUZZ_CHECK(log_group_decode(bytes, g.log_id, &g) && !log_group_decode(bytes, ~g.log_id, &g));
    walk_records(slice_of(bytes.data + LOG_GROUP_HEADER_BYTES, g.length));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    if (!(data[0] & 1)) {
        look_at(slice_of(data + 1, size - 1), false);
        return 0;
    }
    struct log_group g = {
        .format = 1, .log_id = ID, .generation = 1, .seq = 1 + data[0], .count = 1};
    uint8_t *group = malloc(LOG_GROUP_HEADER_BYTES + size - 1);
    struct iovec records;

    FUZZ_CHECK(group);
    memcpy(group + LOG_GROUP_HEADER_BYTES, data + 1, size - 1);
    g.length = (uint32_t)(size - 1);
    records = (struct iovec){.iov_base = group + LOG_GROUP_HEADER_BYTES, .iov_len = size - 1};
    log_group_encode(&g, &records, 1, group);
    look_at(slice_of(group, LOG_GROUP_HEADER_BYTES + size - 1), true);
    free(group);
    return 0;
}
