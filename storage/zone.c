/* zone: counts and leaves that follow every change of a record, and their bytes.
 *
 *   offset 0  u8   format, 1
 *          1  u8   0, 0, 0
 *          4  u32  CRC-32C over the zone's number (u32), then all of this with these 4 bytes zero
 *          8  u64  records           16  u64  tombstones        24  u64  bytes
 *         32  u64  max_version.hlc   40  u64  max_version.actor
 *         48  u64  wiped             56  ...  8 bytes of 0
 *         64  u64  leaves, one for each 2^20th part of the ring in the zone     all little-endian
 *
 * The number is under the checksum: a zone that turns up under another number is corrupt. As with
 * records, the first and the second four bytes keep their meaning in every later format, and only
 * what passes its checksum can claim to be newer.
 *
 * Counts wrap when they are told to forget what they never had. That is not looked at here: whoever
 * reads the old record and the zone in one transaction cannot do it, and who suspects a zone folds
 * its records again (range_fold).
 */
#include "storage/zone.h"

#include <assert.h>
#include <isa-l/crc.h>

#include "storage/bytes.h"
#include "storage/merge.h"
#include "storage/range_fold.h"

#define ZONE_FORMAT 1u
#define COMMON_BYTES 8u /* what all formats share: format and checksum */
#define CRC_OFFSET 4u
#define RESERVED_OFFSET 56u
#define ANY_FORMAT_BYTES_MAX (1u << 20)

_Static_assert(STORE_LEAF_BITS >= ZONE_BITS, "a leaf lies in one zone");

struct store_range zone_range(uint32_t zone)
{
    const unsigned shift = 64 - ZONE_BITS;
    uint64_t first = (uint64_t)zone << shift;

    assert(zone < ZONES);
    return (struct store_range){.first = first, .last = first | (((uint64_t)1 << shift) - 1)};
}

static uint64_t n_bytes(const struct key *key, const struct state *state)
{
    return key->partition.len + key->sort.len + state->value.len;
}

void zone_change(struct zone *z, uint64_t token, const struct key *key, const struct state *old,
                 const struct state *new)
{
    if (old->kind != STATE_NONE) {
        z->info.n_records--;
        z->info.n_tombstones -= old->deleted;
        z->info.n_bytes -= n_bytes(key, old);
    }
    if (new->kind != STATE_NONE) {
        z->info.n_records++;
        z->info.n_tombstones += new->deleted;
        z->info.n_bytes += n_bytes(key, new);
        if (version_compare(new->version, z->info.max_version) > 0)
            z->info.max_version = new->version;
    }
    z->leaves[range_leaf(token) % ZONE_LEAVES] ^= merge_digest(key, old) ^ merge_digest(key, new);
}

/* ---- bytes --------------------------------------------------------------------------------- */

/* The library does not write to its input. */
static uint32_t crc_more(uint32_t crc, const uint8_t *data, size_t len)
{
    return len ? crc32_iscsi((unsigned char *)(uintptr_t)data, (int)len, crc) : crc;
}

static uint32_t checksum(uint32_t number, struct slice bytes)
{
    static const uint8_t zero[4];
    uint8_t n[4];
    uint32_t crc;

    bytes_put_le(n, number, 4);
    crc = crc_more(~0u, n, sizeof(n));
    crc = crc_more(crc, bytes.data, CRC_OFFSET);
    crc = crc_more(crc, zero, sizeof(zero));
    return ~crc_more(crc, bytes.data + COMMON_BYTES, bytes.len - COMMON_BYTES);
}

void zone_encode(const struct zone *z, uint32_t number, uint8_t out[ZONE_BYTES])
{
    memset(out, 0, ZONE_HEADER_BYTES);
    out[0] = ZONE_FORMAT;
    bytes_put_le(out + 8, z->info.n_records, 8);
    bytes_put_le(out + 16, z->info.n_tombstones, 8);
    bytes_put_le(out + 24, z->info.n_bytes, 8);
    bytes_put_le(out + 32, z->info.max_version.hlc, 8);
    bytes_put_le(out + 40, z->info.max_version.actor, 8);
    bytes_put_le(out + 48, z->wiped, 8);
    for (size_t i = 0; i < ZONE_LEAVES; i++)
        bytes_put_le(out + ZONE_HEADER_BYTES + 8 * i, z->leaves[i], 8);
    bytes_put_le(out + CRC_OFFSET, checksum(number, slice_of(out, ZONE_BYTES)), 4);
}

static bool all_zero(const uint8_t *bytes, size_t n)
{
    while (n > 0 && bytes[n - 1] == 0)
        n--;
    return n == 0;
}

int zone_decode_info(struct slice bytes, uint32_t number, struct store_info *ret,
                     uint64_t *ret_wiped)
{
    const uint8_t *b = bytes.data;

    if (bytes.len < COMMON_BYTES || bytes.len > ANY_FORMAT_BYTES_MAX)
        return -ERR_CORRUPT;
    if ((uint32_t)bytes_get_le(b + CRC_OFFSET, 4) != checksum(number, bytes))
        return -ERR_CORRUPT;
    if (b[0] > ZONE_FORMAT)
        return -ERR_FORMAT;
    if (b[0] == 0 || bytes.len != ZONE_BYTES || !all_zero(b + 1, CRC_OFFSET - 1) ||
        !all_zero(b + RESERVED_OFFSET, ZONE_HEADER_BYTES - RESERVED_OFFSET))
        return -ERR_CORRUPT;
    *ret = (struct store_info){
        .n_records = bytes_get_le(b + 8, 8),
        .n_tombstones = bytes_get_le(b + 16, 8),
        .n_bytes = bytes_get_le(b + 24, 8),
        .max_version = {.hlc = bytes_get_le(b + 32, 8), .actor = bytes_get_le(b + 40, 8)},
    };
    *ret_wiped = bytes_get_le(b + 48, 8);
    return 0;
}

int zone_decode(struct slice bytes, uint32_t number, struct zone *ret)
{
    int r = zone_decode_info(bytes, number, &ret->info, &ret->wiped);

    for (size_t i = 0; r == 0 && i < ZONE_LEAVES; i++)
        ret->leaves[i] = bytes_get_le(bytes.data + ZONE_HEADER_BYTES + 8 * i, 8);
    return r;
}
