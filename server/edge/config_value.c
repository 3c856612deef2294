/* config_value: sizes, durations, numbers and truths as people write them.
 *
 * A unit is part of the text and never guessed: "64GiB" is 2^36 bytes, "64GB" is 64 * 10^9, "64" is
 * 64 bytes; "5" is no duration. Anything left over after the value is an error, so that "10 s" and
 * "3,5" are told instead of half understood.
 */
#include "proto/err.h"
#include "server/edge/config.h"
#include <errno.h>
#include <stdlib.h>
#include <strings.h>

static int digits_parse(const char *text, uint64_t *ret, const char **ret_rest)
{
    char *end;
    if (text[0] < '0' || text[0] > '9')
        return -ERR_CONFIG;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    if (errno)
        return -ERR_CONFIG;
    *ret = n;
    *ret_rest = end;
    return 0;
}

int config_size_parse(const char *text, uint64_t *ret)
{
    static const struct {
        const char *unit;
        uint64_t bytes;
    } units[] = {
        {"", 1},
        {"B", 1},
        {"KiB", 1u << 10},
        {"MiB", 1u << 20},
        {"GiB", 1u << 30},
        {"TiB", 1ull << 40},
        {"KB", 1000},
        {"MB", 1000000},
        {"GB", 1000000000},
        {"TB", 1000000000000ull},
    };
    uint64_t n;
    const char *unit;

    if (digits_parse(text, &n, &unit) < 0)
        return -ERR_CONFIG;
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
        if (strcasecmp(unit, units[i].unit) == 0) {
            if (n > UINT64_MAX / units[i].bytes)
                return -ERR_CONFIG;
            *ret = n * units[i].bytes;
            return 0;
        }
    return -ERR_CONFIG;
}

int config_duration_parse(const char *text, uint32_t *ret_ms)
{
    static const struct {
        const char *unit;
        uint32_t ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}};
    uint64_t n;
    const char *unit;

    if (digits_parse(text, &n, &unit) < 0)
        return -ERR_CONFIG;
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
        if (strcmp(unit, units[i].unit) == 0) {
            if (n > UINT32_MAX / units[i].ms)
                return -ERR_CONFIG;
            *ret_ms = (uint32_t)n * units[i].ms;
            return 0;
        }
    return -ERR_CONFIG;
}

int config_number_parse(const char *text, uint32_t min, uint32_t max, uint32_t *ret)
{
    uint64_t n;
    const char *rest;
    if (digits_parse(text, &n, &rest) < 0 || rest[0] || n < min || n > max)
        return -ERR_CONFIG;
    *ret = (uint32_t)n;
    return 0;
}

int config_bool_parse(const char *text, bool *ret)
{
    bool yes = !strcmp(text, "true") || !strcmp(text, "yes") || !strcmp(text, "on");
    bool no = !strcmp(text, "false") || !strcmp(text, "no") || !strcmp(text, "off");
    if (!yes && !no)
        return -ERR_CONFIG;
    *ret = yes;
    return 0;
}
