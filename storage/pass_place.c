/* pass_place: see pass_place.h. */
#include "storage/pass_place.h"

#include <assert.h>

#include "proto/err.h"
#include "storage/bytes.h"

void pass_place_raise(struct pass_place *p, uint32_t zone, uint64_t seq)
{
    assert(zone < ZONES);
    if (seq > p->seq_of[zone])
        p->seq_of[zone] = seq;
}

uint64_t pass_place_last(const struct pass_place *p)
{
    uint64_t last = 0;

    for (uint32_t zone = 0; zone < ZONES; zone++)
        last = p->seq_of[zone] > last ? p->seq_of[zone] : last;
    return last;
}

struct slice pass_place_encode(const struct pass_place *p, uint8_t out[PASS_PLACE_BYTES])
{
    for (uint32_t zone = 0; zone < ZONES; zone++)
        bytes_put_le(out + 8 * zone, p->seq_of[zone], 8);
    return slice_of(out, PASS_PLACE_BYTES);
}

int pass_place_decode(struct slice bytes, struct pass_place *ret)
{
    if (bytes.len != PASS_PLACE_BYTES)
        return -ERR_CORRUPT;
    for (uint32_t zone = 0; zone < ZONES; zone++)
        ret->seq_of[zone] = bytes_get_le(bytes.data + 8 * zone, 8);
    return 0;
}

bool pass_place_is_behind(const struct pass_place *p, uint64_t token, uint64_t seq)
{
    return seq <= p->seq_of[zone_of(token)];
}
