/* prng: a small seeded generator (xoshiro256** by Blackman and Vigna, public domain algorithm,
 * prng.di.unimi.it; seeded by splitmix64). For choices and jitter, never for secrets. */
#ifndef QUOIT_BASE_PRNG_H
#define QUOIT_BASE_PRNG_H

#include <stdint.h>

struct prng {
    uint64_t s[4];
};

void prng_init(struct prng *p, uint64_t seed);
uint64_t prng_next(struct prng *p);
/* 0 .. n - 1; n > 0. */
uint64_t prng_below(struct prng *p, uint64_t n);

#endif
