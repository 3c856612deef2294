/* address: "host:port" and "[ipv6]:port" as users write them, and as the kernel wants them.
 *
 * An address is kept as text until it is used: rings carry text, and a name is looked up each time
 * a link is dialled, so that a node that moves is found. An IPv6 address stands in brackets, as in
 * URLs: without them "::1:7400" could mean two things, so it is refused.
 */
#include "server/edge/address.h"
#include "proto/err.h"
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int port_parse(const char *text, uint16_t *ret)
{
    char *end;
    size_t n = strspn(text, "0123456789");
    if (n == 0 || n > 5 || text[n])
        return -ERR_CONFIG;
    unsigned long port = strtoul(text, &end, 10);
    if (port > UINT16_MAX)
        return -ERR_CONFIG;
    *ret = (uint16_t)port;
    return 0;
}

static bool host_is_clean(const char *host, size_t len, bool bracketed)
{
    if (len == 0)
        return false;
    for (size_t i = 0; i < len; i++) {
        char c = host[i];
        if (c <= ' ' || c >= 127 || c == '[' || c == ']' || c == ',' || c == '"')
            return false;
        if (c == ':' && !bracketed)
            return false;
    }
    return true;
}

int address_parse(const char *text, struct address *ret)
{
    const char *host = text, *colon;
    size_t len;
    bool bracketed = text[0] == '[';
    struct in6_addr ip6;

    if (bracketed) {
        host = text + 1;
        const char *close = strchr(host, ']');
        if (!close || close[1] != ':')
            return -ERR_CONFIG;
        len = (size_t)(close - host);
        colon = close + 1;
    } else {
        colon = strrchr(text, ':');
        if (!colon)
            return -ERR_CONFIG;
        len = (size_t)(colon - text);
    }
    struct address a = {0};
    if (len + 10 > LIMIT_ADDRESS_BYTES || !host_is_clean(host, len, bracketed) ||
        port_parse(colon + 1, &a.port) < 0)
        return -ERR_CONFIG;
    memcpy(a.host, host, len);
    if (bracketed && inet_pton(AF_INET6, a.host, &ip6) != 1)
        return -ERR_CONFIG;
    *ret = a;
    return 0;
}

void address_text(const struct address *a, char out[ADDRESS_TEXT_BYTES])
{
    if (strchr(a->host, ':'))
        snprintf(out, ADDRESS_TEXT_BYTES, "[%s]:%u", a->host, a->port);
    else
        snprintf(out, ADDRESS_TEXT_BYTES, "%s:%u", a->host, a->port);
}

int address_numeric(const struct address *a, struct sockaddr_storage *ret, socklen_t *ret_len)
{
    struct sockaddr_in ip4 = {.sin_family = AF_INET, .sin_port = htons(a->port)};
    struct sockaddr_in6 ip6 = {.sin6_family = AF_INET6, .sin6_port = htons(a->port)};

    if (inet_pton(AF_INET, a->host, &ip4.sin_addr) == 1) {
        memset(ret, 0, sizeof(*ret));
        memcpy(ret, &ip4, sizeof(ip4));
        *ret_len = sizeof(ip4);
        return 0;
    }
    if (inet_pton(AF_INET6, a->host, &ip6.sin6_addr) == 1) {
        memset(ret, 0, sizeof(*ret));
        memcpy(ret, &ip6, sizeof(ip6));
        *ret_len = sizeof(ip6);
        return 0;
    }
    return 1;
}

int address_resolve(const struct address *a, struct sockaddr_storage *ret, socklen_t *ret_len)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list;
    char port[8];

    if (address_numeric(a, ret, ret_len) == 0)
        return 0;
    snprintf(port, sizeof(port), "%u", a->port);
    if (getaddrinfo(a->host, port, &hints, &list) != 0)
        return -ERR_UNREACHABLE;
    memset(ret, 0, sizeof(*ret));
    memcpy(ret, list->ai_addr, list->ai_addrlen);
    *ret_len = list->ai_addrlen;
    freeaddrinfo(list);
    return 0;
}

void address_from_sockaddr(const struct sockaddr_storage *ss, struct address *ret)
{
    struct address a = {.port = address_sockaddr_port(ss)};
    if (ss->ss_family == AF_INET6)
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)ss)->sin6_addr, a.host, sizeof(a.host));
    else
        inet_ntop(AF_INET, &((const struct sockaddr_in *)ss)->sin_addr, a.host, sizeof(a.host));
    *ret = a;
}

uint16_t address_sockaddr_port(const struct sockaddr_storage *ss)
{
    return ntohs(ss->ss_family == AF_INET6 ? ((const struct sockaddr_in6 *)ss)->sin6_port
                                           : ((const struct sockaddr_in *)ss)->sin_port);
}

bool address_is_loopback(const struct sockaddr_storage *ss)
{
    if (ss->ss_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)ss)->sin_addr.s_addr) >> 24 == 127;
    const struct in6_addr *ip6 = &((const struct sockaddr_in6 *)ss)->sin6_addr;
    return IN6_IS_ADDR_LOOPBACK(ip6) || (IN6_IS_ADDR_V4MAPPED(ip6) && ip6->s6_addr[12] == 127);
}

bool address_is_wildcard(const struct sockaddr_storage *ss)
{
    if (ss->ss_family == AF_INET)
        return ((const struct sockaddr_in *)ss)->sin_addr.s_addr == htonl(INADDR_ANY);
    return IN6_IS_ADDR_UNSPECIFIED(&((const struct sockaddr_in6 *)ss)->sin6_addr);
}
