/* log_record: the bytes are drawn in log_record.h; the parts with a checksum are record.c's.
 *
 * A STATE holds the very record that the engine puts on disk under the key, a FACT the very fact:
 * each has its checksum, over the name as well, in addition to that of the group in which it
 * stands. A WIPE has no more than its group's; a range that ends before it begins is corrupt, so
 * that replay never has to guess.
 *
 * Damage and lengths that do not fit are told before anything is believed, as in record.c. Names
 * and keys beyond the limits are corrupt too: nobody who keeps to the contract writes them.
 */
#include "storage/log_record.h"
#include "storage/bytes.h"

#include <assert.h>

#include "proto/err.h"

#define STATE_LENGTH_BYTES 2u
#define FACT_LENGTH_BYTES 1u
#define WIPE_BYTES 24u

static struct slice behind(struct slice s, size_t n)
{
    return slice_of(s.data + n, s.len - n);
}

/* Head and value; an empty value is no piece. */
static void set_pieces(struct log_pieces *p, size_t head_len, struct slice value)
{
    p->piece[0] = slice_of(p->head, head_len);
    p->n = 1;
    if (value.len)
        p->piece[p->n++] = value;
}

void log_record_state(struct slice store_key, const struct state *state, struct log_pieces *ret)
{
    size_t len = STATE_LENGTH_BYTES + store_key.len;

    assert(store_key.len > STORE_KEY_HEADER_BYTES && store_key.len <= STORE_KEY_BYTES_MAX);
    assert(state->kind != STATE_NONE && state->value.len <= LIMIT_VALUE_BYTES);
    bytes_put_le(ret->head, store_key.len, STATE_LENGTH_BYTES);
    memcpy(ret->head + STATE_LENGTH_BYTES, store_key.data, store_key.len);
    record_header_encode(store_key, state, ret->head + len);
    set_pieces(ret, len + RECORD_HEADER_BYTES, state->value);
}

void log_record_fact(struct slice name, struct slice value, struct log_pieces *ret)
{
    size_t len = FACT_LENGTH_BYTES + name.len;

    assert(name.len > 0 && name.len <= LOG_FACT_NAME_MAX && value.len <= LIMIT_VALUE_BYTES);
    bytes_put_le(ret->head, name.len, FACT_LENGTH_BYTES);
    memcpy(ret->head + FACT_LENGTH_BYTES, name.data, name.len);
    fact_header_encode(name, value, ret->head + len);
    set_pieces(ret, len + FACT_HEADER_BYTES, value);
}

void log_record_wipe(struct store_range range, uint64_t number, struct log_pieces *ret)
{
    assert(range.first <= range.last);
    bytes_put_le(ret->head, number, 8);
    bytes_put_le(ret->head + 8, range.first, 8);
    bytes_put_le(ret->head + 16, range.last, 8);
    set_pieces(ret, WIPE_BYTES, (struct slice){0});
}

int log_record_state_decode(struct slice payload, struct slice *ret_store_key,
                            struct state *ret_state)
{
    struct slice store_key;
    struct key key;
    uint64_t token;
    size_t len;
    int r;

    if (payload.len < STATE_LENGTH_BYTES)
        return -ERR_CORRUPT;
    len = (size_t)bytes_get_le(payload.data, STATE_LENGTH_BYTES);
    payload = behind(payload, STATE_LENGTH_BYTES);
    if (len > payload.len)
        return -ERR_CORRUPT;
    store_key = slice_of(payload.data, len);
    r = store_key_decode(store_key, &token, &key);
    if (r != 0)
        return r;
    r = record_decode(store_key, behind(payload, len), ret_state);
    if (r == 0)
        *ret_store_key = store_key;
    return r;
}

int log_record_fact_decode(struct slice payload, struct slice *ret_name, struct slice *ret_value)
{
    struct slice name;
    size_t len;
    int r;

    if (payload.len < FACT_LENGTH_BYTES)
        return -ERR_CORRUPT;
    len = payload.data[0];
    payload = behind(payload, FACT_LENGTH_BYTES);
    if (len == 0 || len > LOG_FACT_NAME_MAX || len > payload.len)
        return -ERR_CORRUPT;
    name = slice_of(payload.data, len);
    r = fact_decode(name, behind(payload, len), ret_value);
    if (r == 0)
        *ret_name = name;
    return r;
}

int log_record_wipe_decode(struct slice payload, struct store_range *ret, uint64_t *ret_number)
{
    struct store_range range;

    if (payload.len != WIPE_BYTES)
        return -ERR_CORRUPT;
    range.first = bytes_get_le(payload.data + 8, 8);
    range.last = bytes_get_le(payload.data + 16, 8);
    if (range.first > range.last)
        return -ERR_CORRUPT;
    *ret = range;
    *ret_number = bytes_get_le(payload.data, 8);
    return 0;
}
