/* address: see address.h. */
#include "client/address.h"

#include <ctype.h>
#include <string.h>

#include "proto/err.h"

static int parse_port(const char *text, size_t len, uint16_t *ret)
{
    uint32_t port = 0;
    size_t i;

    if (len == 0 || len > 5)
        return -ERR_CONFIG;
    for (i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return -ERR_CONFIG;
        port = port * 10 + (uint32_t)(text[i] - '0');
    }
    if (port == 0 || port > UINT16_MAX)
        return -ERR_CONFIG;
    *ret = (uint16_t)port;
    return 0;
}

static int copy_host(const char *text, size_t len, struct address *ret)
{
    size_t i;

    if (len == 0 || len > LIMIT_ADDRESS_BYTES)
        return -ERR_CONFIG;
    for (i = 0; i < len; i++) {
        if (!isgraph((unsigned char)text[i]))
            return -ERR_CONFIG;
    }
    memcpy(ret->host, text, len);
    ret->host[len] = '\0';
    return 0;
}

int address_parse(const char *text, size_t len, uint16_t default_port, struct address *ret)
{
    struct address out = {.port = default_port};
    const char *close, *colon;
    size_t host_len;
    int r;

    if (len > 0 && text[0] == '[') {
        close = memchr(text, ']', len);
        if (!close)
            return -ERR_CONFIG;
        host_len = (size_t)(close - text) - 1;
        r = copy_host(text + 1, host_len, &out);
        text += host_len + 2;
        len -= host_len + 2;
        if (r == 0 && len > 0)
            r = text[0] == ':' ? parse_port(text + 1, len - 1, &out.port) : -ERR_CONFIG;
    } else {
        colon = memchr(text, ':', len);
        host_len = colon ? (size_t)(colon - text) : len;
        r = copy_host(text, host_len, &out);
        /* a second colon (a bare IPv6 address) fails here: which colon is the port's is a guess */
        if (r == 0 && colon)
            r = parse_port(colon + 1, len - host_len - 1, &out.port);
    }
    if (r < 0)
        return r;
    *ret = out;
    return 0;
}

int address_next(const char **cursor, const char **ret_entry, size_t *ret_len)
{
    const char *at = *cursor, *end;
    size_t len;

    if (!at)
        return 0;
    end = strchrnul(at, ',');
    *cursor = *end ? end + 1 : NULL;
    len = (size_t)(end - at);
    while (len > 0 && isspace((unsigned char)at[0])) {
        at++;
        len--;
    }
    while (len > 0 && isspace((unsigned char)at[len - 1]))
        len--;
    if (len == 0)
        return -ERR_CONFIG;
    *ret_entry = at;
    *ret_len = len;
    return 1;
}
