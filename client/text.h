/* text: between bytes and what people and files write: hex, escapes, durations, sizes. Pure. */
#ifndef QUOIT_CLIENT_TEXT_H
#define QUOIT_CLIENT_TEXT_H

#include "proto/slice.h"

/* Durations: 250us, 5ms, 5s, 2m, 1h; a bare number is seconds; fractions are allowed (0.5s).
 * In microseconds. 0 or -ERR_CONFIG. */
int text_duration_us(const char *text, uint64_t *ret);
/* Counts and sizes: 100, 100k, 10M, 1G (1000s), 4KiB, 8MiB, 1GiB (1024s). 0 or -ERR_CONFIG. */
int text_size(const char *text, uint64_t *ret);

/* Appends the bytes of "00ff10" (blanks and colons between bytes are ignored). 0, -ERR_BAD_REQUEST
 * (odd or not hexadecimal), -ERR_NO_MEMORY. */
int text_hex_decode(struct slice hex, struct buf *out);
int text_hex_encode(struct slice bytes, struct buf *out);

/* The raw line format: TAB, newline and backslash travel as \t, \n and \\; all other bytes as they
 * are. Decoding refuses a backslash before anything else: -ERR_BAD_REQUEST. */
int text_escape(struct slice bytes, struct buf *out);
int text_unescape(struct slice text, struct buf *out);

int text_base64_encode(struct slice bytes, struct buf *out);
/* With or without padding. 0, -ERR_BAD_REQUEST, -ERR_NO_MEMORY. */
int text_base64_decode(struct slice text, struct buf *out);

/* Well-formed UTF-8 as JSON may carry it: no surrogates, nothing overlong, <= U+10FFFF. */
bool text_is_utf8(struct slice bytes);

/* For messages and terminals: printable UTF-8 as it is, everything else as \xHH, cut to size - 1
 * with "..." at the end when longer. */
void text_show(struct slice bytes, char *ret, size_t size);

/* "12.4 MiB", "8 MiB", "612 bytes" */
void text_show_bytes(uint64_t n, char *ret, size_t size);
/* "34,924" */
void text_show_count(uint64_t n, char *ret, size_t size);
/* "930 us", "2.6 ms", "1.3 s" */
void text_show_us(uint64_t us, char *ret, size_t size);

#endif
