/* lines: see lines.h. Writing JSON is done here, byte by byte, because an export is nothing else;
 * reading it is left to jansson. */
#include "client/lines.h"

#include <jansson.h>
#include <stdio.h>

#include "client/text.h"
#include "proto/err.h"

/* ---- raw --------------------------------------------------------------------------------- */

int line_write_raw(const struct line_record *record, struct buf *out)
{
    int r = text_escape(record->key, out);

    if (r == 0)
        r = buf_append(out, "\t", 1);
    if (r == 0)
        r = text_escape(record->value, out);
    return r < 0 ? r : buf_append(out, "\n", 1);
}

static int unescape_part(struct slice part, struct buf *scratch, size_t *ret_at)
{
    *ret_at = scratch->len;
    return text_unescape(part, scratch);
}

int line_read_raw(struct slice line, struct buf *scratch, struct line_record *ret,
                  const char **ret_why)
{
    const uint8_t *tab = line.len ? memchr(line.data, '\t', line.len) : NULL;
    struct slice key, value;
    size_t value_at = 0, key_at;
    int r;

    if (!tab) {
        *ret_why = "no TAB";
        return -ERR_BAD_REQUEST;
    }
    key = slice_of(line.data, (size_t)(tab - line.data));
    value = slice_of(tab + 1, line.len - key.len - 1);
    scratch->len = 0;
    *ret = (struct line_record){.key = key, .value = value};
    if (!memchr(line.data, '\\', line.len))
        return 0; /* the usual line: nothing to copy */
    r = unescape_part(key, scratch, &key_at);
    if (r == 0)
        r = unescape_part(value, scratch, &value_at);
    if (r == -ERR_BAD_REQUEST)
        *ret_why = "a backslash that is not \\t, \\n or \\\\";
    if (r < 0)
        return r;
    ret->key = slice_of(scratch->data, value_at);
    ret->value = slice_of(scratch->data + value_at, scratch->len - value_at);
    return 0;
}

/* ---- JSON -------------------------------------------------------------------------------- */

static int json_text(struct slice s, struct buf *out)
{
    static const char hex[] = "0123456789abcdef";
    int r = buf_reserve(out, 6 * s.len + 2);
    uint8_t c;
    size_t i;

    if (r < 0)
        return r;
    out->data[out->len++] = '"';
    for (i = 0; i < s.len; i++) {
        c = s.data[i];
        if (c == '"' || c == '\\') {
            out->data[out->len++] = '\\';
            out->data[out->len++] = c;
        } else if (c < 0x20) {
            memcpy(out->data + out->len, "\\u00", 4);
            out->data[out->len + 4] = (uint8_t)hex[c >> 4];
            out->data[out->len + 5] = (uint8_t)hex[c & 15];
            out->len += 6;
        } else {
            out->data[out->len++] = c;
        }
    }
    out->data[out->len++] = '"';
    return 0;
}

static int json_part(const char *name, struct slice s, char before, struct buf *out)
{
    char head[32];
    bool utf8 = text_is_utf8(s);
    int n = snprintf(head, sizeof(head), "%c\"%s%s\":", before, name, utf8 ? "" : "_b64");
    int r = buf_append(out, head, (size_t)n);

    if (r < 0)
        return r;
    if (utf8)
        return json_text(s, out);
    r = buf_append(out, "\"", 1);
    if (r == 0)
        r = text_base64_encode(s, out);
    return r < 0 ? r : buf_append(out, "\"", 1);
}

int line_write_json(const struct line_record *record, struct buf *out)
{
    int r = json_part("key", record->key, '{', out);

    if (r == 0 && record->sort_key.len > 0)
        r = json_part("sort_key", record->sort_key, ',', out);
    if (r == 0)
        r = json_part("value", record->value, ',', out);
    return r < 0 ? r : buf_append(out, "}\n", 2);
}

/* One of `name` and `name`_b64, appended to scratch. 1 found, 0 neither. */
static int read_part(const json_t *object, const char *name, struct buf *scratch,
                     const char **ret_why)
{
    char name_b64[32];
    const json_t *text = json_object_get(object, name), *b64;
    struct slice s;
    int r;

    snprintf(name_b64, sizeof(name_b64), "%s_b64", name);
    b64 = json_object_get(object, name_b64);
    if (!text && !b64)
        return 0;
    if ((text && b64) || !json_is_string(text ? text : b64)) {
        *ret_why = text && b64 ? "both the plain and the _b64 form of a field"
                               : "a field that is not a string";
        return -ERR_BAD_REQUEST;
    }
    s = slice_of(json_string_value(text ? text : b64), json_string_length(text ? text : b64));
    r = text ? buf_append_slice(scratch, s) : text_base64_decode(s, scratch);
    if (r == -ERR_BAD_REQUEST)
        *ret_why = "a _b64 field that is not base64";
    return r < 0 ? r : 1;
}

static int read_object(const json_t *object, struct buf *scratch, struct line_record *ret,
                       const char **ret_why)
{
    size_t key_len, sort_len;
    int r;

    scratch->len = 0;
    r = read_part(object, "key", scratch, ret_why);
    if (r == 0)
        *ret_why = "no key";
    if (r <= 0)
        return r < 0 ? r : -ERR_BAD_REQUEST;
    key_len = scratch->len;
    r = read_part(object, "sort_key", scratch, ret_why);
    if (r < 0)
        return r;
    sort_len = scratch->len - key_len;
    r = read_part(object, "value", scratch, ret_why);
    if (r == 0)
        *ret_why = "no value";
    if (r <= 0)
        return r < 0 ? r : -ERR_BAD_REQUEST;
    ret->key = slice_of(scratch->data, key_len);
    ret->sort_key = slice_of(scratch->data + key_len, sort_len);
    ret->value = slice_of(scratch->data + key_len + sort_len, scratch->len - key_len - sort_len);
    return 0;
}

int line_read_json(struct slice line, struct buf *scratch, struct line_record *ret,
                   const char **ret_why)
{
    json_error_t error;
    json_t *object = json_loadb(line.len ? (const char *)line.data : "", line.len,
                                JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &error);
    int r = -ERR_BAD_REQUEST;

    if (!object)
        *ret_why = "not JSON";
    else if (!json_is_object(object))
        *ret_why = "not a JSON object";
    else
        r = read_object(object, scratch, ret, ret_why);
    json_decref(object);
    return r;
}
