/* Tokens are for ever: a changed hash would lose every stored key. Checked against the published
 * self-test of MurmurHash3, against known answers, and against the vectors of proto/README.md,
 * which authors of other clients rely on.
 */
#include "test.h"

#include "proto/limits.h"
#include "proto/token.h"

#include <murmurhash.h>
#include <stdio.h>
#include <stdlib.h>

static void library_passes_the_smhasher_self_test(void **state)
{
    /* SMHasher: hash the keys {}, {0}, {0,1} ... with seed 256 - length, then all results at once.
     */
    uint8_t key[256], hashes[256 * 16], final[16];

    for (unsigned int i = 0; i < 256; i++) {
        uint64_t words[2];
        key[i] = (uint8_t)i;
        lmmh_x64_128(key, i, 256 - i, words);
        for (unsigned int b = 0; b < 16; b++)
            hashes[16 * i + b] = (uint8_t)(words[b / 8] >> (8 * (b % 8)));
    }
    uint64_t words[2];
    lmmh_x64_128(hashes, sizeof(hashes), 0, words);
    for (unsigned int b = 0; b < 4; b++)
        final[b] = (uint8_t)(words[0] >> (8 * b));
    assert_memory_equal(final, "\x69\xba\x84\x63", 4); /* 0x6384BA69, little-endian */
}

static void library_gives_the_known_answer(void **state)
{
    static const char text[] = "The quick brown fox jumps over the lazy dog";
    uint64_t words[2];

    lmmh_x64_128(text, sizeof(text) - 1, 0, words);
    assert_true(words[0] == 0xe34bbc7bbc071b6cu);
    assert_true(words[1] == 0x7a433ca9c49a9347u);
}

static size_t read_hex(const char *hex, uint8_t *out, size_t cap)
{
    size_t n = 0;

    for (; hex[0] && hex[1] && n < cap; hex += 2) {
        unsigned int byte;
        assert_int_equal(sscanf(hex, "%2x", &byte), 1);
        out[n++] = (uint8_t)byte;
    }
    return n;
}

static void assert_vector(uint32_t seed, const char *secret_hex, uint32_t bucket,
                          const char *key_hex, const char *token_hex)
{
    struct token_space space = {.seed = seed};
    uint8_t key[LIMIT_KEY_BYTES];
    char got[17];

    assert_int_equal(read_hex(secret_hex, space.secret, TOKEN_SECRET_BYTES), TOKEN_SECRET_BYTES);
    size_t len = read_hex(key_hex, key, sizeof(key));
    snprintf(got, sizeof(got), "%016llx",
             (unsigned long long)token_of(&space, bucket, slice_of(key, len)));
    assert_string_equal(got, token_hex);
}

/* Rows: | seed, hex | secret, hex | bucket | key, hex | token, hex | */
static void readme_vectors_hold(void **state)
{
    const char *root = getenv("QUOIT_SOURCE");
    char path[4096], line[4096];
    size_t n = 0;

    assert_non_null(root);
    snprintf(path, sizeof(path), "%s/proto/README.md", root);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    while (fgets(line, sizeof(line), f)) {
        unsigned int seed, bucket;
        char secret[33], key[2 * LIMIT_KEY_BYTES + 1], token[17];
        if (sscanf(line, "| `%8x` | `%32[0-9a-f]` | %u | `%800[0-9a-f]` | `%16[0-9a-f]` |", &seed,
                   secret, &bucket, key, token) != 5)
            continue;
        assert_vector(seed, secret, bucket, key, token);
        n++;
    }
    fclose(f);
    assert_true(n >= 6);
}

static void golden_vectors_hold(void **state)
{
    static const char zero[] = "00000000000000000000000000000000";
    static const char count[] = "000102030405060708090a0b0c0d0e0f";

    assert_vector(0, zero, 1, "61", "4caaa3bda4ef5bed");
    assert_vector(0x51a3, count, 1, "61", "e42987906fe78e0c");
    assert_vector(0x51a3, count, 2, "61", "c110d4f21175d816");
    assert_vector(0xffffffffu, count, 1, "00ff00", "d66b05a36671e315");
}

static void longest_key_has_a_token(void **state)
{
    uint8_t key[LIMIT_KEY_BYTES];
    struct token_space space = {.seed = 1};

    memset(key, 0xff, sizeof(key));
    uint64_t a = token_of(&space, 1, slice_of(key, sizeof(key)));
    key[LIMIT_KEY_BYTES - 1] = 0;
    assert_true(a != token_of(&space, 1, slice_of(key, sizeof(key))));
    assert_true(a != token_of(&space, 1, slice_of(key, sizeof(key) - 1)));
}

static void partitions_are_equal_arcs(void **state)
{
    for (uint32_t q = 2; q <= LIMIT_PARTITIONS_MAX; q *= 2) {
        assert_int_equal(token_partition(0, q), 0);
        assert_int_equal(token_partition(UINT64_MAX, q), q - 1);
        for (uint32_t p = 1; p<q; p += q / 2> 7 ? q / 7 : 1) {
            uint64_t first = token_partition_first(p, q);
            assert_int_equal(token_partition(first, q), p);
            assert_int_equal(token_partition(first - 1, q), p - 1);
        }
    }
}

static void owner_worker_is_the_top_six_bits(void **state)
{
    assert_int_equal(token_worker(0, 5), 0);
    assert_int_equal(token_worker(UINT64_MAX, 64), 63);
    assert_int_equal(token_worker(UINT64_MAX, 5), 63 % 5);
    assert_int_equal(token_worker((uint64_t)7 << 58, 4), 3);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(library_passes_the_smhasher_self_test),
        cmocka_unit_test(library_gives_the_known_answer),
        cmocka_unit_test(readme_vectors_hold),
        cmocka_unit_test(golden_vectors_hold),
        cmocka_unit_test(longest_key_has_a_token),
        cmocka_unit_test(partitions_are_equal_arcs),
        cmocka_unit_test(owner_worker_is_the_top_six_bits),
    };
    return cmocka_run_group_tests_name("token", tests, NULL, NULL);
}
