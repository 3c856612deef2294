/* bench_assert: see bench_assert.h. */
#include "client/bench_assert.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/err.h"

#define NAME_MAX_BYTES 64
#define ERR_CODES_MAX 64

struct assertion {
    char name[NAME_MAX_BYTES];
    char op[3];
    double limit;
};

static const char *skip_blanks(const char *at)
{
    return at + strspn(at, " \t");
}

/* Parses one and moves behind it and its comma. */
static bool parse(const char **cursor, struct assertion *ret)
{
    const char *at = skip_blanks(*cursor);
    size_t name = strcspn(at, "<>=! \t,"), op;
    char *end;

    if (name == 0 || name >= sizeof(ret->name))
        return false;
    memcpy(ret->name, at, name);
    ret->name[name] = '\0';
    at = skip_blanks(at + name);
    op = strspn(at, "<>=!");
    if (op == 0 || op >= sizeof(ret->op))
        return false;
    memcpy(ret->op, at, op);
    ret->op[op] = '\0';
    if (!strcmp(ret->op, "!") || !strcmp(ret->op, "<>") || !strcmp(ret->op, "><"))
        return false;
    ret->limit = strtod(at + op, &end);
    if (end == at + op)
        return false;
    at = skip_blanks(end);
    if (*at != ',' && *at != '\0')
        return false;
    *cursor = *at ? at + 1 : at;
    return true;
}

/* ---- names ------------------------------------------------------------------------------- */

static bool one_of(const char *name, const char *const *names, size_t n)
{
    size_t i;

    for (i = 0; i < n; i++) {
        if (!strcmp(name, names[i]))
            return true;
    }
    return false;
}

/* What a result has (cmd_bench.c): a wrong name is known before the load, not after it. */
static bool name_known(const char *name)
{
    static const char *const plain[] = {
        "seconds",       "errors", "not_found",  "client_cpu_seconds",
        "reads_percent", "keys",   "value_size", "clients",
        "depth",         "rate"};
    static const char *const sides[] = {"ops",    "ops_per_s", "p50_us",
                                        "p99_us", "p999_us",   "max_us"};
    int code;

    if (one_of(name, plain, sizeof(plain) / sizeof(plain[0])))
        return true;
    if (!strncmp(name, "error_codes.", 12)) {
        for (code = 1; code < ERR_CODES_MAX; code++) {
            if (err_known(code) && !strcmp(name + 12, err_name(code)))
                return true;
        }
        return false;
    }
    name += !strncmp(name, "reads.", 6) ? 6 : !strncmp(name, "writes.", 7) ? 7 : 0;
    return one_of(name, sides, sizeof(sides) / sizeof(sides[0]));
}

static const json_t *find(const json_t *object, const char *name)
{
    char part[NAME_MAX_BYTES];
    const char *dot = strchr(name, '.');

    if (!dot)
        return json_object_get(object, name);
    snprintf(part, sizeof(part), "%.*s", (int)(dot - name), name);
    object = json_object_get(object, part);
    return object ? find(object, dot + 1) : NULL;
}

static bool holds(double value, const char *op, double limit)
{
    if (op[0] == '<')
        return value < limit || (op[1] == '=' && !(value > limit) && !(value < limit));
    if (op[0] == '>')
        return value > limit || (op[1] == '=' && !(value > limit) && !(value < limit));
    if (op[0] == '!')
        return value < limit || value > limit;
    return !(value < limit) && !(value > limit);
}

/* Error codes that did not occur are not in the result: none of them. */
static double value_of(const json_t *value)
{
    return value ? json_number_value(value) : 0.0;
}

static bool well_formed(const char *cursor, char *message, size_t size)
{
    struct assertion a;

    do {
        if (!parse(&cursor, &a)) {
            snprintf(message, size, "'%s' is not NAME<NUMBER,...", cursor);
            return false;
        }
        if (!name_known(a.name)) {
            snprintf(message, size, "no result is named '%s'; see the numbers of `-o json`",
                     a.name);
            return false;
        }
    } while (*cursor);
    return true;
}

int bench_assert(const char *text, const json_t *result, char *message, size_t size)
{
    const char *cursor = text;
    struct assertion a;
    const json_t *value;

    if (!well_formed(text, message, size))
        return -ERR_CONFIG;
    while (result && *cursor && parse(&cursor, &a)) {
        value = find(result, a.name);
        if (!json_is_number(value) && strncmp(a.name, "error_codes.", 12) != 0) {
            snprintf(message, size, "the result has no number '%s'", a.name);
            return -ERR_CONFIG;
        }
        if (!holds(value_of(value), a.op, a.limit)) {
            snprintf(message, size, "%s is %.6g, not %s %g", a.name, value_of(value), a.op,
                     a.limit);
            return 0;
        }
    }
    return 1;
}
