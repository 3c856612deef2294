/* test_edge_log: what a line looks like in either format, and that repeats are held back. */
#include "server/edge/log.h"

#include "server/edge/log_json.h"
#include "test.h"

#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <unistd.h>

struct fixture {
    struct log log;
    int fds[2];
    char text[8 * LOG_LINE_BYTES];
};

static void fixture_init(struct fixture *f, enum log_format format)
{
    assert_int_equal(pipe(f->fds), 0);
    assert_int_equal(fcntl(f->fds[0], F_SETFL, O_NONBLOCK), 0);
    log_init(&f->log, LOG_INFO, f->fds[1]);
    f->log.format = format;
}

static void fixture_deinit(struct fixture *f)
{
    log_deinit(&f->log);
    close(f->fds[0]);
    close(f->fds[1]);
}

/* All that was written. */
static const char *said(struct fixture *f)
{
    ssize_t n = read(f->fds[0], f->text, sizeof(f->text) - 1);

    f->text[n > 0 ? n : 0] = '\0';
    return f->text;
}

static json_t *said_json(struct fixture *f)
{
    json_t *line = json_loads(said(f), 0, NULL);

    assert_non_null(line);
    assert_int_equal(f->text[strlen(f->text) - 1], '\n');
    return line;
}

static const char *text_of(const json_t *line, const char *name)
{
    const char *text = json_string_value(json_object_get(line, name));

    assert_non_null(text);
    return text;
}

static void a_line_of_logfmt(void **state)
{
    struct fixture f;

    fixture_init(&f, LOG_LOGFMT);
    log_info(&f.log, "serving", "node=%s boot=%u", LOG_STR("n 1"), 3u);
    assert_non_null(strstr(said(&f), " level=info msg=\"quoitd: serving\" node=\"n 1\" boot=3\n"));
    log_warn(&f.log, "nothing to add", "%s", "");
    assert_non_null(strstr(said(&f), " level=warn msg=\"quoitd: nothing to add\"\n"));
    log_debug(&f.log, "not at this level", "a=%d", 1);
    assert_string_equal(said(&f), "");
    fixture_deinit(&f);
}

static void a_line_of_json(void **state)
{
    struct fixture f;
    json_t *line;

    fixture_init(&f, LOG_JSON);
    log_error(&f.log, "member is down", "node=%s id=%s boot=%" PRIu64 " off_ms=%d path=%s",
              LOG_STR("a \"b\" \\ \x1b[2J = \xc3\xa9"), "123456", UINT64_C(18446744073709551), -7,
              LOG_STR(""));
    line = said_json(&f);
    assert_int_equal(strlen(text_of(line, "time")), 24);
    assert_string_equal(text_of(line, "level"), "error");
    assert_string_equal(text_of(line, "msg"), "quoitd: member is down");
    assert_string_equal(text_of(line, "node"), "a \"b\" \\ \\x1b[2J = \\xc3\\xa9");
    assert_string_equal(text_of(line, "id"), "123456"); /* digits, and a string all the same */
    assert_int_equal(json_integer_value(json_object_get(line, "boot")), 18446744073709551);
    assert_int_equal(json_integer_value(json_object_get(line, "off_ms")), -7);
    assert_string_equal(text_of(line, "path"), "");
    assert_int_equal(json_object_size(line), 8);
    json_decref(line);
    fixture_deinit(&f);
}

static void a_line_that_is_too_long_is_json_still(void **state)
{
    char text[2 * LOG_LINE_BYTES];
    struct fixture f;

    fixture_init(&f, LOG_JSON);
    for (size_t len = 0; len < sizeof(text) - 1; len += 61) {
        json_t *line;

        memset(text, '\\', len);
        text[len] = '\0';
        f.log.repeats[0].n = 0; /* none is held back */
        log_info(&f.log, "long", "first=%d text=%s last=%d", 1, text, 2);
        line = said_json(&f);
        assert_int_equal(json_integer_value(json_object_get(line, "first")), 1);
        assert_string_equal(text_of(line, "msg"), "quoitd: long");
        json_decref(line);
    }
    fixture_deinit(&f);
}

static void repeats_are_held_back_and_told(void **state)
{
    static const enum log_format formats[] = {LOG_LOGFMT, LOG_JSON};
    static const char *const told[] = {" held_back=5\n", ",\"held_back\":5}\n"};
    struct fixture f;

    for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
        size_t lines = 0;

        fixture_init(&f, formats[i]);
        for (uint32_t n = 0; n < LOG_REPEATS_MAX + 5; n++)
            log_info(&f.log, "again", "n=%u", n);
        log_info(&f.log, "another", "n=%u", 1u);
        for (const char *at = said(&f); (at = strchr(at, '\n')); at++)
            lines++;
        assert_int_equal(lines, LOG_REPEATS_MAX + 1);
        f.log.repeats[0].since_ms -= LOG_WINDOW_MS; /* the window is over */
        log_info(&f.log, "again", "n=%u", 99u);
        assert_non_null(strstr(said(&f), told[i]));
        fixture_deinit(&f);
    }
}

/* What is no field is left out, and a name is taken whole. */
static void odd_fields_do_no_harm(void **state)
{
    static const struct {
        const char *fmt, *fields, *json;
    } cases[] = {
        {"", "", ""},
        {"%s", "word", ""},
        {"%s a=%u", "word a=1", ",\"a\":1"},
        {"ms=%s a_ms=%u", "ms=1 a_ms=2", ",\"ms\":\"1\",\"a_ms\":2"},
        {"a=%08x b=%-5d", "a=12 b=3", ",\"a\":\"12\",\"b\":3"},
        {"a=%s", "a=\"open", ",\"a\":\"open\""},
        {"a=%s", "a=", ",\"a\":\"\""},
        {"a=--literal", "a=--literal", ",\"a\":\"--literal\""},
    };
    char got[256];

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        size_t n = log_json_fields(got, sizeof(got), cases[i].fmt, cases[i].fields);

        got[n] = '\0';
        assert_string_equal(got, cases[i].json);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_of_logfmt),
        cmocka_unit_test(a_line_of_json),
        cmocka_unit_test(a_line_that_is_too_long_is_json_still),
        cmocka_unit_test(repeats_are_held_back_and_told),
        cmocka_unit_test(odd_fields_do_no_harm),
    };
    return cmocka_run_group_tests_name("edge_log", tests, NULL, NULL);
}
