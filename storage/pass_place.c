/* pass_place: see pass_place.h. */
#include "storage/pass_place.h"

#include <assert.h>

#include "proto/err.h"
#include "proto/token.h"
#include "storage/bytes.h"
#include "storage/zone.h"

#define HEAD_BYTES 8u

struct slice pass_place_encode(const struct pass_place *p, uint8_t out[PASS_PLACE_BYTES_MAX])
{
    assert(p->n_owners <= LIMIT_WORKERS_MAX);
    bytes_put_le(out, p->zone, 4);
    bytes_put_le(out + 4, p->n_owners, 4);
    for (uint32_t i = 0; i < p->n_owners; i++)
        bytes_put_le(out + HEAD_BYTES + 8 * i, p->seq_of[i], 8);
    return slice_of(out, HEAD_BYTES + 8 * (size_t)p->n_owners);
}

int pass_place_decode(struct slice bytes, struct pass_place *ret)
{
    struct pass_place p = {0};

    if (bytes.len < HEAD_BYTES)
        return -ERR_CORRUPT;
    p.zone = (uint32_t)bytes_get_le(bytes.data, 4);
    p.n_owners = (uint32_t)bytes_get_le(bytes.data + 4, 4);
    if (p.zone > ZONES || p.n_owners == 0 || p.n_owners > LIMIT_WORKERS_MAX ||
        bytes.len != HEAD_BYTES + 8 * (size_t)p.n_owners)
        return -ERR_CORRUPT;
    for (uint32_t i = 0; i < p.n_owners; i++)
        p.seq_of[i] = bytes_get_le(bytes.data + HEAD_BYTES + 8 * i, 8);
    *ret = p;
    return 0;
}

bool pass_place_is_behind(const struct pass_place *p, uint64_t token, uint64_t seq)
{
    return p->n_owners > 0 && zone_of(token) < p->zone &&
           seq <= p->seq_of[token_worker(token, p->n_owners)];
}
