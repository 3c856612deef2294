/* token: the hash that places a key; see token.h for the definition.
 *
 * libmurmurhash hashes one contiguous run of bytes, so the three parts are put together on the
 * stack. It yields the algorithm's two 64-bit words as numbers of this machine; we use the first as
 * a number and never as bytes, which keeps the token the same on machines of either byte order. The
 * bucket is written big-endian by hand for the same reason.
 */
#include "proto/token.h"

#include "proto/limits.h"

#include <assert.h>
#include <murmurhash.h>

#define TOKEN_BUCKET_BYTES 4u

uint64_t token_of(const struct token_space *space, uint32_t bucket, struct slice partition_key)
{
    uint8_t input[TOKEN_SECRET_BYTES + TOKEN_BUCKET_BYTES + LIMIT_KEY_BYTES];
    size_t n = TOKEN_SECRET_BYTES;
    uint64_t words[2];

    assert(partition_key.len <= LIMIT_KEY_BYTES);
    memcpy(input, space->secret, TOKEN_SECRET_BYTES);
    input[n++] = (uint8_t)(bucket >> 24);
    input[n++] = (uint8_t)(bucket >> 16);
    input[n++] = (uint8_t)(bucket >> 8);
    input[n++] = (uint8_t)bucket;
    if (partition_key.len)
        memcpy(input + n, partition_key.data, partition_key.len);
    n += partition_key.len;
    lmmh_x64_128(input, (unsigned int)n, space->seed, words);
    return words[0];
}
