/* The table of errors is a promise to every client ever written: names, numbers and the retry flag
 * never change and a number is never used twice. The golden list below is that promise; a new error
 * adds a line here, and nothing else may change.
 */
#include "test.h"

#include "proto/err.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

static const struct {
    const char *name;
    int number;
    bool retryable;
} golden[] = {
    {"INTERNAL", 1, false},
    {"BAD_REQUEST", 2, false},
    {"UNSUPPORTED", 3, false},
    {"KEY_TOO_LARGE", 4, false},
    {"KEY_EMPTY", 5, false},
    {"VALUE_TOO_LARGE", 6, false},
    {"FRAME_TOO_LARGE", 7, false},
    {"UNKNOWN_BUCKET", 8, false},
    {"OVERLOADED", 9, true},
    {"TOO_MANY_CONNECTIONS", 10, true},
    {"DEADLINE", 11, true},
    {"UNKNOWN_OUTCOME", 12, false},
    {"NO_QUORUM", 13, true},
    {"NO_SPACE", 14, true},
    {"CLOCK", 15, true},
    {"NOT_OWNER", 16, true},
    {"NOT_YET", 17, true},
    {"CORRUPT", 18, false},
    {"NOT_READY", 19, true},
    {"SHUTTING_DOWN", 20, true},
    {"WRONG_CLUSTER", 21, false},
    {"STALE_BOOT", 22, false},
    {"NO_MEMORY", 23, true},
    {"IO", 24, false},
    {"UNREACHABLE", 25, true},
    {"CLOSED", 26, true},
    {"FORMAT", 27, false},
    {"IN_USE", 28, false},
    {"CONFIG", 29, false},
    {"FULL", 30, true},
    {"SLOW", 31, true},
    {"SUSPECT", 32, false},
};

static void golden_list_holds(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(golden); i++) {
        assert_true(err_known(golden[i].number));
        assert_string_equal(err_name(golden[i].number), golden[i].name);
        assert_int_equal(err_retryable(golden[i].number), golden[i].retryable);
    }
}

/* What is in the table but not in the golden list has not been promised yet: add it there. */
static void table_has_nothing_more(void **state)
{
    static const int numbers[] = {
#define NUMBER(name, number, retry, text) number,
        ERR_TABLE(NUMBER)
#undef NUMBER
    };
    assert_int_equal(ARRAY_LEN(numbers), ARRAY_LEN(golden));
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        assert_true(numbers[i] > 0);
        for (size_t j = 0; j < i; j++)
            assert_int_not_equal(numbers[i], numbers[j]);
    }
}

static void sentences_are_sentences(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(golden); i++) {
        const char *text = err_text(golden[i].number);
        assert_true(strlen(text) >= 8 && strlen(text) < 100);
        assert_true(text[strlen(text) - 1] != '.');
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(text, err_text(golden[j].number));
    }
}

static void either_sign_means_the_same(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(golden); i++) {
        int n = golden[i].number;
        assert_ptr_equal(err_name(-n), err_name(n));
        assert_ptr_equal(err_text(-n), err_text(n));
        assert_int_equal(err_retryable(-n), err_retryable(n));
        assert_true(err_known(-n));
    }
}

static void unknown_reads_as_internal(void **state)
{
    static const int unknown[] = {33, -33, 1000, INT_MAX, INT_MIN, -INT_MAX};

    for (size_t i = 0; i < ARRAY_LEN(unknown); i++) {
        assert_false(err_known(unknown[i]));
        assert_false(err_retryable(unknown[i]));
        assert_string_equal(err_name(unknown[i]), "INTERNAL");
        assert_string_equal(err_text(unknown[i]), err_text(ERR_INTERNAL));
    }
    assert_false(err_known(0));
    assert_string_equal(err_name(0), "OK");
}

/* The table that authors of clients read: a row | code | name | retry | sentence | for each. */
static void readme_has_the_table(void **state)
{
    const char *root = getenv("QUOIT_SOURCE");
    char path[4096], line[1024];
    size_t n = 0;

    assert_non_null(root);
    snprintf(path, sizeof(path), "%s/proto/README.md", root);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    while (fgets(line, sizeof(line), f)) {
        int code;
        char name[32], retry[4], text[128];
        if (sscanf(line, "| %d | %31[A-Z_] | %3[a-z] | %127[^|]|", &code, name, retry, text) != 4)
            continue;
        text[strcspn(text, "|")] = '\0';
        text[strlen(text) - 1] = '\0'; /* the blank in front of the bar */
        assert_string_equal(name, err_name(code));
        assert_string_equal(retry, err_retryable(code) ? "yes" : "no");
        assert_string_equal(text, err_text(code));
        n++;
        assert_int_equal(code, golden[n - 1].number);
    }
    fclose(f);
    assert_int_equal(n, ARRAY_LEN(golden));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_list_holds),         cmocka_unit_test(table_has_nothing_more),
        cmocka_unit_test(sentences_are_sentences),   cmocka_unit_test(either_sign_means_the_same),
        cmocka_unit_test(unknown_reads_as_internal), cmocka_unit_test(readme_has_the_table),
    };
    return cmocka_run_group_tests_name("err", tests, NULL, NULL);
}
