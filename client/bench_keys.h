/* bench_keys: which key comes next. Pure and seeded: the same seed asks for the same keys.
 *
 * Keys are numbers 0 .. n-1, written with a fixed width behind a prefix. Distributions:
 *   uniform  each as likely as any other
 *   zipf     rank r with probability ~ 1 / r^0.99, as YCSB does it (Gray et al., "Quickly
 * generating billion-record synthetic databases", 1994); ranks are scattered over the keys by a
 * hash, so that the popular ones are not neighbours latest   zipf counted back from the newest key
 */
#ifndef QUOIT_CLIENT_BENCH_KEYS_H
#define QUOIT_CLIENT_BENCH_KEYS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BENCH_KEYS_MAX 100000000ull
#define BENCH_KEY_DIGITS 12
#define BENCH_PREFIX_MAX 64
#define BENCH_INSERT_BITS 20 /* inserts from the oldest to the newest under way */

enum bench_distribution {
    BENCH_UNIFORM,
    BENCH_ZIPF,
    BENCH_LATEST
};

struct bench_zipf {
    uint64_t n;
    double theta, alpha, zeta_n, eta, half_power;
};

/* Time proportional to n: once, shared by all threads. */
void bench_zipf_init(struct bench_zipf *z, uint64_t n);
/* A rank, 0 the most popular; u uniform in [0, 1). */
uint64_t bench_zipf_rank(const struct bench_zipf *z, double u);

struct bench_random {
    uint64_t state;
};

void bench_random_init(struct bench_random *r, uint64_t seed);
uint64_t bench_random_next(struct bench_random *r);
double bench_random_unit(struct bench_random *r); /* [0, 1) */

/* The next key among n (n grows when keys are inserted). */
uint64_t bench_key_next(struct bench_random *r, enum bench_distribution d,
                        const struct bench_zipf *z, uint64_t n);

/* Which of the inserted keys may be read: all below the first that is not stored yet. Keys are
 * taken by any thread, and stored in any order. */
struct bench_inserts {
    atomic_uint_fast64_t taken, stored; /* stored: all below are */
    atomic_flag advancing;
    atomic_uchar done[1 << BENCH_INSERT_BITS]; /* of keys not far above `stored` */
};

void bench_inserts_init(struct bench_inserts *in, uint64_t n_keys);
/* False when too many are under way. */
bool bench_inserts_take(struct bench_inserts *in, uint64_t *ret_key);
void bench_inserts_stored(struct bench_inserts *in, uint64_t key);

/* prefix + BENCH_KEY_DIGITS digits at `to`, prefix already there. */
void bench_key_write(char *to, uint64_t key);

#endif
