/* bytes: numbers as bytes, for everything that is written to disk. n is 1 .. 8. */
#ifndef QUOIT_STORAGE_BYTES_H
#define QUOIT_STORAGE_BYTES_H

#include <stdint.h>

static inline void bytes_put_le(uint8_t *out, uint64_t value, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        out[i] = (uint8_t)(value >> (8 * i));
}

static inline uint64_t bytes_get_le(const uint8_t *in, unsigned n)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < n; i++)
        value |= (uint64_t)in[i] << (8 * i);
    return value;
}

static inline void bytes_put_be(uint8_t *out, uint64_t value, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        out[i] = (uint8_t)(value >> (8 * (n - 1 - i)));
}

static inline uint64_t bytes_get_be(const uint8_t *in, unsigned n)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < n; i++)
        value = value << 8 | in[i];
    return value;
}

/* A token as the first bytes of a store key: shorter than any key, so below all of the token's. */
static inline void bytes_put_token(uint8_t out[8], uint64_t token)
{
    bytes_put_be(out, token, 8);
}

#endif
