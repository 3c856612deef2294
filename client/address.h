/* address: "host:port" and lists of it, as text.
 *
 * Accepted: host, host:port, [v6], [v6]:port. A bare host gets the default port. The host is not
 * resolved here; the result is what a resolver takes. A list is separated by commas; blanks around
 * an entry are ignored, empty entries are an error.
 */
#ifndef QUOIT_CLIENT_ADDRESS_H
#define QUOIT_CLIENT_ADDRESS_H

#include <stddef.h>
#include <stdint.h>

#include "proto/limits.h"

struct address {
    char host[LIMIT_ADDRESS_BYTES + 1];
    uint16_t port;
};

/* 0 or -ERR_CONFIG. `text` need not end in NUL. */
int address_parse(const char *text, size_t len, uint16_t default_port, struct address *ret);

/* Cuts the first entry off a list: 1 and the trimmed entry, 0 at the end, -ERR_CONFIG when the
 * entry is empty. *cursor moves behind it. */
int address_next(const char **cursor, const char **ret_entry, size_t *ret_len);

#endif
