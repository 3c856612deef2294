/* bench_assert: see bench_assert.h. */
#include "client/bench_assert.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/err.h"

#define NAME_MAX_BYTES 64

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

static bool well_formed(const char *cursor, char *message, size_t size)
{
    struct assertion a;

    do {
        if (!parse(&cursor, &a)) {
            snprintf(message, size, "'%s' is not NAME<NUMBER,...", cursor);
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
        if (!json_is_number(value)) {
            snprintf(message, size, "the result has no number '%s'", a.name);
            return -ERR_CONFIG;
        }
        if (!holds(json_number_value(value), a.op, a.limit)) {
            snprintf(message, size, "%s is %.6g, not %s %g", a.name, json_number_value(value), a.op,
                     a.limit);
            return 0;
        }
    }
    return 1;
}
