/* address: "host:port" and "[ipv6]:port" as users write them, and as the kernel wants them. */
#ifndef QUOIT_EDGE_ADDRESS_H
#define QUOIT_EDGE_ADDRESS_H

#include "proto/limits.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct address {
    char host[LIMIT_ADDRESS_BYTES + 1]; /* without brackets */
    uint16_t port;
};

#define ADDRESS_TEXT_BYTES (LIMIT_ADDRESS_BYTES + 10)

/* 0 or -ERR_CONFIG. A port is needed; an IPv6 host stands in brackets; host may not be empty. */
int address_parse(const char *text, struct address *ret);
/* "host:port", brackets added where needed. */
void address_text(const struct address *a, char out[ADDRESS_TEXT_BYTES]);
/* Host is a number: fills *ret. 0, or 1: it is a name. */
int address_numeric(const struct address *a, struct sockaddr_storage *ret, socklen_t *ret_len);
/* Numeric, or looked up by the system's resolver (blocks). 0 or -ERR_UNREACHABLE. */
int address_resolve(const struct address *a, struct sockaddr_storage *ret, socklen_t *ret_len);
/* From a bound socket. */
void address_from_sockaddr(const struct sockaddr_storage *ss, struct address *ret);

uint16_t address_sockaddr_port(const struct sockaddr_storage *ss);
bool address_is_loopback(const struct sockaddr_storage *ss);
bool address_is_wildcard(const struct sockaddr_storage *ss);

#endif
