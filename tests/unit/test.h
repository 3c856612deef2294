/* test: what every unit test includes first. cmocka wants these headers in front of its own.
 */
#ifndef QUOIT_TESTS_UNIT_TEST_H
#define QUOIT_TESTS_UNIT_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

/* A seeded generator (splitmix64): tests that vary their input print the seed when they fail. */
struct test_random {
    uint64_t s;
};

static inline uint64_t test_random_u64(struct test_random *r)
{
    uint64_t z = (r->s += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* The longer tests do less under QUOIT_TEST_QUICK: sanitized runs of scripts/test, and failing
 * disks under TSan in scripts/check. */
static inline bool test_is_quick(void)
{
    const char *s = getenv("QUOIT_TEST_QUICK");

    return s && *s && strcmp(s, "0") != 0;
}

/* 0 .. n - 1; n > 0. */
static inline uint64_t test_random_below(struct test_random *r, uint64_t n)
{
    return test_random_u64(r) % n;
}

#endif
