/* What people and files write: options, durations, hex, escapes, base64, lines of both formats. */
#include "tests/unit/test.h"

#include <stdio.h>
#include <stdlib.h>

#include "client/lines.h"
#include "client/opt.h"
#include "client/text.h"
#include "proto/err.h"

/* ---- options ----------------------------------------------------------------------------- */

static int parse(struct opt_values *v, char message[256], const char *line)
{
    static char text[512];
    char *argv[32] = {(char *)(uintptr_t) "quoit"}, *save = NULL;
    int argc = 1;

    snprintf(text, sizeof(text), "%s", line);
    for (argv[argc] = strtok_r(text, " ", &save); argv[argc];
         argv[argc] = strtok_r(NULL, " ", &save))
        argc++;
    return opt_parse(argc, argv, v, message, 256);
}

static void test_options_stand_before_or_after_the_verb(void **state)
{
    static const char *const lines[] = {"-e a:1 -o json get k", "get k -e a:1 -ojson",
                                        "--endpoints=a:1 get --output json k"};
    struct opt_values v;
    char message[256];
    size_t i;

    (void)state;
    for (i = 0; i < 3; i++) {
        assert_int_equal(parse(&v, message, lines[i]), 0);
        assert_string_equal(v.of[OPT_ENDPOINTS], "a:1");
        assert_string_equal(v.of[OPT_OUTPUT], "json");
        assert_int_equal(v.n_args, 2);
        assert_string_equal(v.args[0], "get");
        assert_string_equal(v.args[1], "k");
    }
}

static void test_two_dashes_end_the_options_and_one_is_an_argument(void **state)
{
    struct opt_values v;
    char message[256];

    (void)state;
    assert_int_equal(parse(&v, message, "put -v -- --key -"), 0);
    assert_non_null(v.of[OPT_VERBOSE]);
    assert_int_equal(v.n_args, 3);
    assert_string_equal(v.args[1], "--key");
    assert_string_equal(v.args[2], "-");
}

static void test_wrong_options_are_named_and_the_right_one_suggested(void **state)
{
    struct opt_values v;
    char message[256];

    (void)state;
    assert_int_equal(parse(&v, message, "get --consistancy one k"), -1);
    assert_string_equal(message, "unknown option --consistancy (did you mean --consistency?)");
    assert_int_equal(parse(&v, message, "get --xyzzy k"), -1);
    assert_null(strstr(message, "did you mean"));
    assert_int_equal(parse(&v, message, "get k --timeout"), -1);
    assert_non_null(strstr(message, "needs a value"));
    assert_int_equal(parse(&v, message, "get --hex=1 k"), -1);
    assert_non_null(strstr(message, "takes no value"));
    assert_int_equal(parse(&v, message, "get -Z k"), -1);
}

static void test_an_option_of_another_verb_is_refused(void **state)
{
    static const enum opt_id allowed[] = {OPT_HEX, OPT_END};
    struct opt_values v;
    char message[256];

    (void)state;
    assert_int_equal(parse(&v, message, "get --hex -o json k"), 0);
    assert_int_equal(opt_check(&v, "get", allowed, message, sizeof(message)), 0);
    assert_int_equal(parse(&v, message, "get --jsonl k"), 0);
    assert_int_equal(opt_check(&v, "get", allowed, message, sizeof(message)), -1);
    assert_non_null(strstr(message, "--jsonl"));
}

static void test_the_environment_is_a_default(void **state)
{
    struct opt_values v;
    char message[256];

    (void)state;
    setenv("QUOIT_TIMEOUT", "9s", 1);
    setenv("QUOIT_QUIET", "0", 1);
    setenv("QUOIT_VERBOSE", "yes", 1);
    assert_int_equal(parse(&v, message, "get k"), 0);
    assert_string_equal(v.of[OPT_TIMEOUT], "9s");
    assert_null(v.of[OPT_QUIET]);
    assert_non_null(v.of[OPT_VERBOSE]);
    assert_int_equal(parse(&v, message, "get k -t 1s"), 0);
    assert_string_equal(v.of[OPT_TIMEOUT], "1s");
    unsetenv("QUOIT_TIMEOUT");
    unsetenv("QUOIT_QUIET");
    unsetenv("QUOIT_VERBOSE");
}

static void test_every_option_has_one_line_and_distinct_names(void **state)
{
    const struct opt *a, *b;
    int i, j;

    (void)state;
    for (i = OPT_END + 1; i < OPT_COUNT; i++) {
        a = opt_find((enum opt_id)i);
        assert_non_null(a);
        for (j = i + 1; j < OPT_COUNT; j++) {
            b = opt_find((enum opt_id)j);
            assert_non_null(b);
            assert_string_not_equal(a->name, b->name);
            assert_true(!a->letter || a->letter != b->letter);
        }
    }
}

static void test_suggestions_are_close_or_none(void **state)
{
    static const char *const verbs[] = {"get", "put", "del", "import", "export", "where", "bench"};

    (void)state;
    assert_string_equal(opt_suggest("improt", verbs, 7), "import");
    assert_string_equal(opt_suggest("gte", verbs, 7), "get");
    assert_string_equal(opt_suggest("benhc", verbs, 7), "bench");
    assert_null(opt_suggest("completely", verbs, 7));
    assert_null(opt_suggest("", verbs, 7));
}

/* ---- numbers ----------------------------------------------------------------------------- */

static void test_durations_and_sizes(void **state)
{
    static const struct {
        const char *text;
        uint64_t us;
    } good[] = {{"5s", 5000000},  {"5", 5000000},        {"250ms", 250000}, {"0.5s", 500000},
                {"1m", 60000000}, {"2h", 7200000000ull}, {"10us", 10}};
    static const char *const bad[] = {"",    "s",   "-1s",  " 5s",   "5 s", "5x",
                                      "nan", "inf", "0x10", "1e30s", "5s "};
    uint64_t n;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_int_equal(text_duration_us(good[i].text, &n), 0);
        assert_int_equal(n, good[i].us);
    }
    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(text_duration_us(bad[i], &n), -ERR_CONFIG);
    assert_int_equal(text_size("8MiB", &n), 0);
    assert_int_equal(n, 8 << 20);
    assert_int_equal(text_size("10k", &n), 0);
    assert_int_equal(n, 10000);
    assert_int_equal(text_size("7", &n), 0);
    assert_int_equal(n, 7);
    assert_int_equal(text_size("7Q", &n), -ERR_CONFIG);
}

static void test_numbers_for_people(void **state)
{
    char text[32];

    (void)state;
    text_show_count(34924, text, sizeof(text));
    assert_string_equal(text, "34,924");
    text_show_count(999, text, sizeof(text));
    assert_string_equal(text, "999");
    text_show_count(1000000, text, sizeof(text));
    assert_string_equal(text, "1,000,000");
    text_show_bytes(612, text, sizeof(text));
    assert_string_equal(text, "612 bytes");
    text_show_bytes(8 << 20, text, sizeof(text));
    assert_string_equal(text, "8 MiB");
    text_show_bytes(13002342, text, sizeof(text));
    assert_string_equal(text, "12.4 MiB");
    text_show_us(930, text, sizeof(text));
    assert_string_equal(text, "930 us");
    text_show_us(2600, text, sizeof(text));
    assert_string_equal(text, "2.6 ms");
}

static void test_nothing_a_terminal_obeys_is_shown(void **state)
{
    char text[64];

    (void)state;
    text_show(slice_str("a\x1b[2Jb\n"), text, sizeof(text));
    assert_string_equal(text, "a\\x1b[2Jb\\x0a");
    text_show(slice_str("\xc2\x9b"
                        "31m"),
              text, sizeof(text)); /* CSI as one character */
    assert_string_equal(text, "\\xc2\\x9b31m");
    text_show(slice_str("gr\xc3\xbc\xc3\x9f"), text, sizeof(text));
    assert_string_equal(text, "gr\xc3\xbc\xc3\x9f");
    text_show(slice_str("abcdefghijklmnopqrstuvwxyz"), text, 12);
    assert_string_equal(text, "abcdefgh...");
}

/* ---- bytes ------------------------------------------------------------------------------- */

static void check_hex(const char *text, int expected, const char *bytes, size_t n)
{
    struct buf b;

    buf_init(&b);
    assert_int_equal(text_hex_decode(slice_str(text), &b), expected);
    assert_int_equal(b.len, n);
    if (n)
        assert_memory_equal(b.data, bytes, n);
    buf_deinit(&b);
}

static void test_hex(void **state)
{
    (void)state;
    check_hex("00ff10", 0, "\0\xff\x10", 3);
    check_hex("DE:ad be", 0, "\xde\xad\xbe", 3);
    check_hex("", 0, "", 0);
    check_hex("0", -ERR_BAD_REQUEST, "", 0);
    check_hex("0g", -ERR_BAD_REQUEST, "", 0);
    check_hex("00f", -ERR_BAD_REQUEST, "", 0);
}

static void test_base64_knows_the_vectors_of_rfc_4648_and_refuses_the_rest(void **state)
{
    static const char *const pairs[][2] = {{"", ""},
                                           {"f", "Zg=="},
                                           {"fo", "Zm8="},
                                           {"foo", "Zm9v"},
                                           {"foob", "Zm9vYg=="},
                                           {"fooba", "Zm9vYmE="},
                                           {"foobar", "Zm9vYmFy"}};
    static const char *const bad[] = {"Z",    "Zg=", "Zh==",     "Zm9v!",
                                      "Z===", "=",   "Zg==Zg==", "Zm9v\n"};
    struct buf b;
    size_t i;

    (void)state;
    buf_init(&b);
    for (i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        b.len = 0;
        assert_int_equal(text_base64_encode(slice_str(pairs[i][0]), &b), 0);
        assert_true(slice_equal(buf_slice(&b), slice_str(pairs[i][1])));
        b.len = 0;
        assert_int_equal(text_base64_decode(slice_str(pairs[i][1]), &b), 0);
        assert_true(slice_equal(buf_slice(&b), slice_str(pairs[i][0])));
    }
    b.len = 0;
    assert_int_equal(text_base64_decode(slice_str("Zm8"), &b), 0); /* padding may be left out */
    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        b.len = 0;
        assert_int_equal(text_base64_decode(slice_str(bad[i]), &b), -ERR_BAD_REQUEST);
        assert_int_equal(b.len, 0);
    }
    buf_deinit(&b);
}

static void test_utf8_is_what_json_may_carry(void **state)
{
    static const char *const good[] = {"",
                                       "abc",
                                       "\xc3\xa9",
                                       "\xe2\x82\xac",
                                       "\xf0\x9f\x98\x80",
                                       "\xf4\x8f\xbf\xbf",
                                       "\xed\x9f\xbf",
                                       "\xee\x80\x80"};
    static const char *const bad[] = {"\x80",
                                      "\xc3",
                                      "\xc0\x80",
                                      "\xc1\xbf",
                                      "\xe0\x80\x80",
                                      "\xed\xa0\x80",
                                      "\xf0\x80\x80\x80",
                                      "\xf4\x90\x80\x80",
                                      "\xf5\x80\x80\x80",
                                      "\xff",
                                      "a\xe2\x82"};
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_true(text_is_utf8(slice_str(good[i])));
    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(text_is_utf8(slice_str(bad[i])));
}

/* ---- lines ------------------------------------------------------------------------------- */

static uint64_t random_state = 88172645463325252ull;

static uint32_t random_below(uint32_t n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 33) % n;
}

/* Bytes that are likely to hurt: escapes, quotes, UTF-8 and its fragments, NUL. */
static struct slice random_bytes(uint8_t *to, uint32_t max)
{
    static const char *const pieces[] = {"\\",           "\t",   "\n",   "\"", "\\n", "\xc3\xa9",
                                         "\xe2\x82\xac", "\xc3", "\xff", "\r", "{",   "a",
                                         "_b64",         "\x7f", "\x1f"};
    size_t n = 0, len;
    uint32_t want = random_below(max);

    while (n < want) {
        const char *piece = pieces[random_below(15)];

        if (random_below(8) == 0) {
            to[n++] = (uint8_t)random_below(256);
            continue;
        }
        len = strlen(piece);
        memcpy(to + n, piece, len);
        n += len;
    }
    return slice_of(to, n);
}

typedef int (*line_writer)(const struct line_record *, struct buf *);
typedef int (*line_reader)(struct slice, struct buf *, struct line_record *, const char **);

static void round_trip(line_writer write, line_reader read, bool sort_keys)
{
    uint8_t key[64], sort[64], value[200];
    struct line_record in = {0}, out;
    struct buf line, scratch;
    const char *why;
    int i;

    buf_init(&line);
    buf_init(&scratch);
    for (i = 0; i < 20000; i++) {
        in.key = random_bytes(key, 40);
        in.value = random_bytes(value, 150);
        in.sort_key = sort_keys && random_below(2) ? random_bytes(sort, 40) : slice_of(NULL, 0);
        line.len = 0;
        assert_int_equal(write(&in, &line), 0);
        assert_int_equal(line.data[line.len - 1], '\n');
        assert_ptr_equal(memchr(line.data, '\n', line.len), line.data + line.len - 1);
        assert_int_equal(read(slice_of(line.data, line.len - 1), &scratch, &out, &why), 0);
        assert_true(slice_equal(in.key, out.key));
        assert_true(slice_equal(in.sort_key, out.sort_key));
        assert_true(slice_equal(in.value, out.value));
    }
    buf_deinit(&line);
    buf_deinit(&scratch);
}

static void test_any_bytes_survive_the_raw_format(void **state)
{
    (void)state;
    round_trip(line_write_raw, line_read_raw, false);
}

static void test_any_bytes_survive_json_lines(void **state)
{
    (void)state;
    round_trip(line_write_json, line_read_json, true);
}

static void test_bad_lines_say_what_is_wrong(void **state)
{
    static const struct {
        line_reader read;
        const char *line, *why;
    } bad[] = {
        {line_read_raw, "no tab here", "no TAB"},
        {line_read_raw, "k\tv\\x", "a backslash that is not \\t, \\n or \\\\"},
        {line_read_raw, "k\\\tv", "a backslash that is not \\t, \\n or \\\\"},
        {line_read_json, "", "not JSON"},
        {line_read_json, "{", "not JSON"},
        {line_read_json, "{\"key\":\"a\",\"key\":\"b\",\"value\":\"c\"}", "not JSON"},
        {line_read_json, "[]", "not a JSON object"},
        {line_read_json, "{\"value\":\"v\"}", "no key"},
        {line_read_json, "{\"key\":\"k\"}", "no value"},
        {line_read_json, "{\"key\":\"k\",\"value\":7}", "a field that is not a string"},
        {line_read_json, "{\"key\":\"k\",\"value_b64\":\"!\"}", "a _b64 field that is not base64"},
        {line_read_json, "{\"key\":\"k\",\"key_b64\":\"aw==\",\"value\":\"v\"}",
         "both the plain and the _b64 form of a field"},
    };
    struct line_record out;
    struct buf scratch;
    const char *why;
    size_t i;

    (void)state;
    buf_init(&scratch);
    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(bad[i].read(slice_str(bad[i].line), &scratch, &out, &why),
                         -ERR_BAD_REQUEST);
        assert_string_equal(why, bad[i].why);
    }
    buf_deinit(&scratch);
}

static void test_json_keeps_nul_and_unicode_escapes(void **state)
{
    struct line_record out;
    struct buf scratch;
    const char *why;

    (void)state;
    buf_init(&scratch);
    assert_int_equal(line_read_json(slice_str("{\"key\":\"a\\u0000b\",\"value\":\"\\u20ac\"}"),
                                    &scratch, &out, &why),
                     0);
    assert_true(slice_equal(out.key, slice_of("a\0b", 3)));
    assert_true(slice_equal(out.value, slice_str("\xe2\x82\xac")));
    buf_deinit(&scratch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options_stand_before_or_after_the_verb),
        cmocka_unit_test(test_two_dashes_end_the_options_and_one_is_an_argument),
        cmocka_unit_test(test_wrong_options_are_named_and_the_right_one_suggested),
        cmocka_unit_test(test_an_option_of_another_verb_is_refused),
        cmocka_unit_test(test_the_environment_is_a_default),
        cmocka_unit_test(test_every_option_has_one_line_and_distinct_names),
        cmocka_unit_test(test_suggestions_are_close_or_none),
        cmocka_unit_test(test_durations_and_sizes),
        cmocka_unit_test(test_numbers_for_people),
        cmocka_unit_test(test_nothing_a_terminal_obeys_is_shown),
        cmocka_unit_test(test_hex),
        cmocka_unit_test(test_base64_knows_the_vectors_of_rfc_4648_and_refuses_the_rest),
        cmocka_unit_test(test_utf8_is_what_json_may_carry),
        cmocka_unit_test(test_any_bytes_survive_the_raw_format),
        cmocka_unit_test(test_any_bytes_survive_json_lines),
        cmocka_unit_test(test_bad_lines_say_what_is_wrong),
        cmocka_unit_test(test_json_keeps_nul_and_unicode_escapes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
