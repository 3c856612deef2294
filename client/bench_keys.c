/* bench_keys: see bench_keys.h. */
#include "client/bench_keys.h"

#include <math.h>

#define ZIPF_THETA 0.99

void bench_zipf_init(struct bench_zipf *z, uint64_t n)
{
    double zeta_2 = 1 + pow(0.5, ZIPF_THETA), zeta_n = 0;
    uint64_t i;

    for (i = 1; i <= n; i++)
        zeta_n += pow(1.0 / (double)i, ZIPF_THETA);
    *z = (struct bench_zipf){.n = n,
                             .theta = ZIPF_THETA,
                             .alpha = 1 / (1 - ZIPF_THETA),
                             .zeta_n = zeta_n,
                             .half_power = pow(0.5, ZIPF_THETA)};
    z->eta = (1 - pow(2.0 / (double)n, 1 - ZIPF_THETA)) / (1 - zeta_2 / zeta_n);
}

uint64_t bench_zipf_rank(const struct bench_zipf *z, double u)
{
    double uz = u * z->zeta_n;
    uint64_t rank;

    if (uz < 1 || z->n < 2)
        return 0;
    if (uz < 1 + z->half_power || z->n < 3)
        return 1;
    rank = (uint64_t)((double)z->n * pow(z->eta * u - z->eta + 1, z->alpha));
    return rank < z->n ? rank : z->n - 1;
}

/* splitmix64: any seed gives a good start, and it is the hash that scatters ranks. */
static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

void bench_random_init(struct bench_random *r, uint64_t seed)
{
    r->state = mix(seed) | 1;
}

uint64_t bench_random_next(struct bench_random *r)
{
    r->state ^= r->state >> 12;
    r->state ^= r->state << 25;
    r->state ^= r->state >> 27;
    return r->state * 2685821657736338717ull;
}

double bench_random_unit(struct bench_random *r)
{
    return (double)(bench_random_next(r) >> 11) * 0x1p-53;
}

uint64_t bench_key_next(struct bench_random *r, enum bench_distribution d,
                        const struct bench_zipf *z, uint64_t n)
{
    uint64_t rank;

    switch (d) {
    case BENCH_UNIFORM:
        return (uint64_t)(((unsigned __int128)bench_random_next(r) * n) >> 64);
    case BENCH_ZIPF:
        return mix(bench_zipf_rank(z, bench_random_unit(r))) % n;
    case BENCH_LATEST:
        rank = bench_zipf_rank(z, bench_random_unit(r));
        return rank < n ? n - 1 - rank : 0;
    }
    return 0;
}

void bench_key_write(char *to, uint64_t key)
{
    int i;

    for (i = BENCH_KEY_DIGITS - 1; i >= 0; i--) {
        to[i] = (char)('0' + key % 10);
        key /= 10;
    }
}

void bench_inserts_init(struct bench_inserts *in, uint64_t n_keys)
{
    atomic_store(&in->taken, n_keys);
    atomic_store(&in->stored, n_keys);
    atomic_flag_clear(&in->advancing);
}

#define INSERT_MASK ((1u << BENCH_INSERT_BITS) - 1)

bool bench_inserts_take(struct bench_inserts *in, uint64_t *ret_key)
{
    uint64_t key = atomic_load_explicit(&in->taken, memory_order_relaxed);

    do {
        if (key - atomic_load(&in->stored) >= INSERT_MASK)
            return false;
    } while (!atomic_compare_exchange_weak(&in->taken, &key, key + 1));
    *ret_key = key;
    return true;
}

/* Whoever finds the gap closed moves the line; if another is at it, that one sees our mark, or the
 * next to come does. */
void bench_inserts_stored(struct bench_inserts *in, uint64_t key)
{
    uint64_t line;

    atomic_store(&in->done[key & INSERT_MASK], 1);
    if (atomic_flag_test_and_set(&in->advancing))
        return;
    line = atomic_load(&in->stored);
    while (atomic_exchange(&in->done[line & INSERT_MASK], 0))
        line++;
    atomic_store(&in->stored, line);
    atomic_flag_clear(&in->advancing);
}
