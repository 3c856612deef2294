/* merge: see merge.h for what it decides.
 *
 * The digest is XXH3 (64 bits) over an encoding of its own, not over the record on disk: replicas
 * with different engines or record formats must agree on it.
 *
 *   bucket u32 | partition length u16 | sort length u16 | kind u8 | deleted u8 | hlc u64 | actor
 * u64 | value length u32 | partition key | sort key | value          (numbers little-endian)
 *
 * The lengths stand in front, so no two states share an encoding. Small records are hashed from one
 * buffer on the stack; larger ones in pieces, which gives the same number without copying the
 * value.
 */
#include "storage/merge.h"

#define XXH_STATIC_LINKING_ONLY /* the streaming state on the stack */
#include <xxhash.h>

#define ENCODED_HEADER_BYTES 30u
#define ENCODED_AT_ONCE_BYTES 2048u
/* What an unlucky hash of 0 becomes: 0 means absent. */
#define DIGEST_FOR_ZERO 0x9e3779b97f4a7c15ull

enum wire_outcome merge_states(const struct state *old, const struct state *new)
{
    int order;

    if (new->kind == STATE_NONE)
        return OUTCOME_DUPLICATE;
    if (old->kind == STATE_NONE)
        return OUTCOME_STORED;
    order = version_compare(new->version, old->version);
    if (order == 0)
        return OUTCOME_DUPLICATE;
    return order > 0 ? OUTCOME_STORED : OUTCOME_SUPERSEDED;
}

enum wire_outcome merge_above(const struct state *old, const struct state *new,
                              const uint64_t *floor, struct version *ret)
{
    enum wire_outcome outcome = merge_states(old, new);

    *ret = outcome == OUTCOME_STORED ? new->version : old->version;
    if (outcome != OUTCOME_STORED || !floor || new->version.hlc > *floor)
        return outcome;
    *ret = (struct version){.hlc = *floor};
    return OUTCOME_SUPERSEDED_FLOOR;
}

static uint8_t *put_le(uint8_t *out, uint64_t value, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        *out++ = (uint8_t)(value >> (8 * i));
    return out;
}

static void encode_header(const struct key *key, const struct state *state,
                          uint8_t out[ENCODED_HEADER_BYTES])
{
    out = put_le(out, key->bucket, 4);
    out = put_le(out, key->partition.len, 2);
    out = put_le(out, key->sort.len, 2);
    out = put_le(out, state->kind, 1);
    out = put_le(out, state->deleted, 1);
    out = put_le(out, state->version.hlc, 8);
    out = put_le(out, state->version.actor, 8);
    put_le(out, state->value.len, 4);
}

static uint8_t *put_slice(uint8_t *out, struct slice s)
{
    if (s.len)
        memcpy(out, s.data, s.len);
    return out + s.len;
}

static void hash_slice(XXH3_state_t *hash, struct slice s)
{
    if (s.len)
        XXH3_64bits_update(hash, s.data, s.len);
}

static uint64_t digest_in_pieces(const uint8_t *header, const struct key *key, struct slice value)
{
    XXH3_state_t hash;

    XXH3_64bits_reset(&hash);
    XXH3_64bits_update(&hash, header, ENCODED_HEADER_BYTES);
    hash_slice(&hash, key->partition);
    hash_slice(&hash, key->sort);
    hash_slice(&hash, value);
    return XXH3_64bits_digest(&hash);
}

uint64_t merge_digest(const struct key *key, const struct state *state)
{
    uint8_t bytes[ENCODED_AT_ONCE_BYTES], *end = bytes + ENCODED_HEADER_BYTES;
    size_t len = ENCODED_HEADER_BYTES + key->partition.len + key->sort.len + state->value.len;
    uint64_t digest;

    if (state->kind == STATE_NONE)
        return 0;
    encode_header(key, state, bytes);
    if (len > sizeof(bytes)) {
        digest = digest_in_pieces(bytes, key, state->value);
    } else {
        end = put_slice(put_slice(put_slice(end, key->partition), key->sort), state->value);
        digest = XXH3_64bits(bytes, (size_t)(end - bytes));
    }
    return digest ? digest : DIGEST_FOR_ZERO;
}

uint64_t merge_key_hash(const struct key *key)
{
    static const struct state blank = {.kind = STATE_LWW};

    return merge_digest(key, &blank);
}
