/* test: what every unit test includes first. cmocka wants these headers in front of its own.
 */
#ifndef QUOIT_TESTS_UNIT_TEST_H
#define QUOIT_TESTS_UNIT_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
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

/* Appends to a text of so many bytes: what was done, to be compared with what was to be done. */
__attribute__((format(printf, 3, 4))) static inline void test_note(char *text, size_t size,
                                                                   const char *fmt, ...)
{
    size_t len = strlen(text);
    va_list args;

    va_start(args, fmt);
    vsnprintf(text + len, size - len, fmt, args);
    va_end(args);
    assert_true(strlen(text) + 1 < size);
}

/* FNV-1a, word by word: the golden numbers of tables. */
#define TEST_FNV 0xcbf29ce484222325u

static inline uint64_t test_fnv(uint64_t h, const uint32_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * 0x100000001b3u;
    return h;
}

/* 0 .. n - 1; n > 0. */
static inline uint64_t test_random_below(struct test_random *r, uint64_t n)
{
    return test_random_u64(r) % n;
}

#endif
