/* log_json: a log line as a JSON object, for collectors that want one.
 *
 * Callers write fields once, as a logfmt format, and know nothing of JSON. So the printed fields
 * are taken apart again here: name=value, or name="value" with \" and \\ escaped. The kind of a
 * member is decided by the format and never by the value: an id of nothing but digits stays a
 * string, as collectors that give each name a type want it.
 */
#include "server/edge/log_json.h"
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* What is written so far; full: something did not fit. */
struct json {
    char *out;
    size_t cap, len;
    bool full;
};

static void put(struct json *j, char c)
{
    if (j->len < j->cap)
        j->out[j->len++] = c;
    else
        j->full = true;
}

static void put_text(struct json *j, const char *text)
{
    for (; *text; text++)
        put(j, *text);
}

static void put_escaped(struct json *j, char c)
{
    char code[8];

    if (c == '"' || c == '\\') {
        put(j, '\\');
        put(j, c);
    } else if ((unsigned char)c < ' ' || (unsigned char)c >= 127) {
        snprintf(code, sizeof(code), "\\u%04x", (unsigned char)c);
        put_text(j, code);
    } else {
        put(j, c);
    }
}

size_t log_json_string(char *out, size_t cap, const char *name, const char *text, size_t len)
{
    struct json j = {.out = out, .cap = cap};

    put(&j, '"');
    put_text(&j, name);
    put_text(&j, "\":\"");
    for (size_t i = 0; i < len; i++)
        put_escaped(&j, text[i]);
    put(&j, '"');
    return j.full ? 0 : j.len;
}

/* Whether the format prints the field as a decimal number: the conversion behind name= is d, i or
 * u. */
static bool is_number(const char *fmt, const char *name, size_t len)
{
    for (const char *at = fmt; (at = strstr(at, "=%")) != NULL; at++) {
        const char *begin = at;

        while (begin > fmt && begin[-1] != ' ')
            begin--;
        if ((size_t)(at - begin) == len && memcmp(begin, name, len) == 0) {
            at += 2 + strspn(at + 2, "0123456789.-+lzjth");
            return *at == 'd' || *at == 'i' || *at == 'u';
        }
    }
    return false;
}

/* The value from *at on, without its quotes; *at is moved behind it. */
static void put_value(struct json *j, const char **at)
{
    const char *p = *at;
    bool quoted = *p == '"';

    for (p += quoted; *p && (quoted ? *p != '"' : *p != ' '); p++) {
        if (quoted && *p == '\\' && (p[1] == '"' || p[1] == '\\'))
            p++;
        put_escaped(j, *p);
    }
    *at = p + (quoted && *p == '"');
}

size_t log_json_fields(char *out, size_t cap, const char *fmt, const char *fields)
{
    struct json j = {.out = out, .cap = cap};
    size_t whole = 0;

    while (*fields && !j.full) {
        size_t name = strcspn(fields, "= ");
        bool number = is_number(fmt, fields, name);

        if (fields[name] != '=') { /* cut there, or no field: nothing that can be named */
            fields += name + (fields[name] == ' ');
            continue;
        }
        put_text(&j, ",\"");
        for (size_t i = 0; i < name; i++)
            put_escaped(&j, fields[i]);
        put_text(&j, number ? "\":" : "\":\"");
        fields += name + 1;
        put_value(&j, &fields);
        if (!number)
            put(&j, '"');
        if (!j.full)
            whole = j.len;
        fields += *fields == ' ';
    }
    return whole;
}
