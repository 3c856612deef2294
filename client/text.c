/* text: see text.h. */
#include "client/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/err.h"

/* ---- numbers ----------------------------------------------------------------------------- */

struct unit {
    const char *name;
    double factor;
};

/* A number with a unit, both required to use up the text. Kept well below 2^63. */
static int parse_unit(const char *text, const struct unit *units, size_t n_units, uint64_t *ret)
{
    char *end;
    double value;
    size_t i;

    if ((*text < '0' || *text > '9') && *text != '.')
        return -ERR_CONFIG; /* strtod takes more than people mean: nan, inf, 0x, blanks, signs */
    if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X'))
        return -ERR_CONFIG;
    value = strtod(text, &end);
    if (end == text)
        return -ERR_CONFIG;
    for (i = 0; i < n_units; i++) {
        if (strcmp(end, units[i].name) == 0)
            break;
    }
    if (i == n_units || !(value * units[i].factor < 1e18))
        return -ERR_CONFIG;
    *ret = (uint64_t)(value * units[i].factor + 0.5);
    return 0;
}

int text_duration_us(const char *text, uint64_t *ret)
{
    static const struct unit units[] = {{"us", 1},   {"ms", 1e3},   {"s", 1e6},   {"", 1e6},
                                        {"m", 60e6}, {"min", 60e6}, {"h", 3600e6}};

    return parse_unit(text, units, sizeof(units) / sizeof(units[0]), ret);
}

int text_size(const char *text, uint64_t *ret)
{
    static const struct unit units[] = {
        {"", 1},          {"k", 1e3},          {"K", 1e3},  {"M", 1e6},  {"G", 1e9},
        {"kB", 1e3},      {"KB", 1e3},         {"MB", 1e6}, {"GB", 1e9}, {"KiB", 1024},
        {"MiB", 1048576}, {"GiB", 1073741824}, {"B", 1}};

    return parse_unit(text, units, sizeof(units) / sizeof(units[0]), ret);
}

/* ---- hex --------------------------------------------------------------------------------- */

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

int text_hex_decode(struct slice hex, struct buf *out)
{
    size_t i = 0, start = out->len;
    int high, low, r;
    uint8_t byte;

    while (i < hex.len) {
        if (hex.data[i] == ' ' || hex.data[i] == ':') {
            i++;
            continue;
        }
        high = hex_digit(hex.data[i]);
        low = i + 1 < hex.len ? hex_digit(hex.data[i + 1]) : -1;
        if (high < 0 || low < 0) {
            out->len = start;
            return -ERR_BAD_REQUEST;
        }
        byte = (uint8_t)(high << 4 | low);
        r = buf_append(out, &byte, 1);
        if (r < 0)
            return r;
        i += 2;
    }
    return 0;
}

int text_hex_encode(struct slice bytes, struct buf *out)
{
    static const char digits[] = "0123456789abcdef";
    int r = buf_reserve(out, 2 * bytes.len);
    size_t i;

    if (r < 0)
        return r;
    for (i = 0; i < bytes.len; i++) {
        out->data[out->len++] = (uint8_t)digits[bytes.data[i] >> 4];
        out->data[out->len++] = (uint8_t)digits[bytes.data[i] & 15];
    }
    return 0;
}

/* ---- escapes ----------------------------------------------------------------------------- */

static char escape_letter(uint8_t c)
{
    return c == '\t' ? 't' : c == '\n' ? 'n' : c == '\\' ? '\\' : '\0';
}

int text_escape(struct slice bytes, struct buf *out)
{
    int r = buf_reserve(out, 2 * bytes.len);
    size_t i;
    char letter;

    if (r < 0)
        return r;
    for (i = 0; i < bytes.len; i++) {
        letter = escape_letter(bytes.data[i]);
        if (letter) {
            out->data[out->len++] = '\\';
            out->data[out->len++] = (uint8_t)letter;
        } else {
            out->data[out->len++] = bytes.data[i];
        }
    }
    return 0;
}

int text_unescape(struct slice text, struct buf *out)
{
    size_t i, start = out->len;
    int r = buf_reserve(out, text.len);
    uint8_t c;

    if (r < 0)
        return r;
    for (i = 0; i < text.len; i++) {
        c = text.data[i];
        if (c == '\\') {
            i++;
            c = i < text.len ? text.data[i] : 0;
            c = c == 't' ? '\t' : c == 'n' ? '\n' : c == '\\' ? '\\' : 0;
            if (!c) {
                out->len = start;
                return -ERR_BAD_REQUEST;
            }
        }
        out->data[out->len++] = c;
    }
    return 0;
}

/* ---- base64 ------------------------------------------------------------------------------ */

static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

int text_base64_encode(struct slice bytes, struct buf *out)
{
    int r = buf_reserve(out, (bytes.len + 2) / 3 * 4);
    uint32_t three;
    size_t i, n;

    if (r < 0)
        return r;
    for (i = 0; i < bytes.len; i += 3) {
        n = bytes.len - i < 3 ? bytes.len - i : 3;
        three = (uint32_t)bytes.data[i] << 16;
        three |= n > 1 ? (uint32_t)bytes.data[i + 1] << 8 : 0;
        three |= n > 2 ? bytes.data[i + 2] : 0;
        out->data[out->len++] = (uint8_t)base64_digits[three >> 18];
        out->data[out->len++] = (uint8_t)base64_digits[three >> 12 & 63];
        out->data[out->len++] = n > 1 ? (uint8_t)base64_digits[three >> 6 & 63] : '=';
        out->data[out->len++] = n > 2 ? (uint8_t)base64_digits[three & 63] : '=';
    }
    return 0;
}

static int base64_value(uint8_t c)
{
    const char *at = c ? strchr(base64_digits, c) : NULL;

    return at ? (int)(at - base64_digits) : -1;
}

int text_base64_decode(struct slice text, struct buf *out)
{
    uint32_t bits = 0, n_bits = 0;
    size_t i, start = out->len, len = text.len;
    int r = buf_reserve(out, text.len), v;

    if (r < 0)
        return r;
    while (len > 0 && text.len - len < 2 && text.data[len - 1] == '=')
        len--;
    if (len % 4 == 1 || (len != text.len && text.len % 4 != 0))
        goto bad;
    for (i = 0; i < len; i++) {
        v = base64_value(text.data[i]);
        if (v < 0)
            goto bad;
        bits = bits << 6 | (uint32_t)v;
        n_bits += 6;
        if (n_bits >= 8) {
            n_bits -= 8;
            out->data[out->len++] = (uint8_t)(bits >> n_bits);
            bits &= (1u << n_bits) - 1;
        }
    }
    if (bits == 0)
        return 0;
bad:
    out->len = start;
    return -ERR_BAD_REQUEST;
}

/* ---- UTF-8 ------------------------------------------------------------------------------- */

/* Length of the well-formed sequence at the front, or 0 (Unicode 15, table 3-7). */
static size_t utf8_length(struct slice s)
{
    const uint8_t *b = s.data;
    uint8_t low = 0x80, high = 0xbf;
    size_t n, i;

    if (b[0] < 0x80)
        return 1;
    n = b[0] >= 0xc2 && b[0] <= 0xdf   ? 2
        : b[0] >= 0xe0 && b[0] <= 0xef ? 3
        : b[0] >= 0xf0 && b[0] <= 0xf4 ? 4
                                       : 0;
    if (n == 0 || s.len < n)
        return 0;
    if (b[0] == 0xe0)
        low = 0xa0;
    else if (b[0] == 0xed)
        high = 0x9f;
    else if (b[0] == 0xf0)
        low = 0x90;
    else if (b[0] == 0xf4)
        high = 0x8f;
    if (b[1] < low || b[1] > high)
        return 0;
    for (i = 2; i < n; i++) {
        if ((b[i] & 0xc0) != 0x80)
            return 0;
    }
    return n;
}

bool text_is_utf8(struct slice bytes)
{
    size_t n;

    while (bytes.len > 0) {
        n = utf8_length(bytes);
        if (n == 0)
            return false;
        bytes.data += n;
        bytes.len -= n;
    }
    return true;
}

/* ---- for people -------------------------------------------------------------------------- */

void text_show(struct slice bytes, char *ret, size_t size)
{
    size_t at = 0, n;
    bool plain;

    while (bytes.len > 0) {
        n = utf8_length(bytes);
        /* C1 controls are two bytes c2 80 .. c2 9f, and terminals obey some of them */
        plain = n > 1 ? !(bytes.data[0] == 0xc2 && bytes.data[1] < 0xa0)
                      : n == 1 && bytes.data[0] >= 0x20 && bytes.data[0] != 0x7f;
        if (at + (plain ? n : 4) + 4 > size) {
            at += (size_t)snprintf(ret + at, size - at, "...");
            break;
        }
        if (plain) {
            memcpy(ret + at, bytes.data, n);
            at += n;
        } else {
            n = 1;
            at += (size_t)snprintf(ret + at, size - at, "\\x%02x", bytes.data[0]);
        }
        bytes.data += n;
        bytes.len -= n;
    }
    ret[at < size ? at : size - 1] = '\0';
}

void text_show_bytes(uint64_t n, char *ret, size_t size)
{
    static const char *const names[] = {"KiB", "MiB", "GiB", "TiB"};
    double value = (double)n / 1024;
    int i = 0;

    if (n < 1024) {
        snprintf(ret, size, "%" PRIu64 " bytes", n);
        return;
    }
    while (value >= 1024 && i < 3) {
        value /= 1024;
        i++;
    }
    if (value == (double)(uint64_t)value)
        snprintf(ret, size, "%.0f %s", value, names[i]);
    else
        snprintf(ret, size, "%.1f %s", value, names[i]);
}

void text_show_count(uint64_t n, char *ret, size_t size)
{
    char digits[24];
    int len = snprintf(digits, sizeof(digits), "%" PRIu64, n), i;
    size_t at = 0;

    for (i = 0; i < len && at + 2 < size; i++) {
        if (i > 0 && (len - i) % 3 == 0)
            ret[at++] = ',';
        ret[at++] = digits[i];
    }
    ret[at] = '\0';
}

void text_show_us(uint64_t us, char *ret, size_t size)
{
    if (us < 1000)
        snprintf(ret, size, "%" PRIu64 " us", us);
    else if (us < 1000000)
        snprintf(ret, size, "%.1f ms", (double)us / 1e3);
    else
        snprintf(ret, size, "%.1f s", (double)us / 1e6);
}
