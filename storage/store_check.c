/* store_check: limits of keys, values and names, and the kinds of state that engines know. */
#include "storage/store_check.h"

int store_check_record(const struct key *key, const struct state *state)
{
    int r = key_check(key);

    if (r < 0)
        return r;
    if (state->kind != STATE_LWW || (state->deleted && state->value.len))
        return -ERR_BAD_REQUEST;
    return state->value.len > LIMIT_VALUE_BYTES ? -ERR_VALUE_TOO_LARGE : 0;
}

int store_check_op(const struct store_op *op)
{
    switch (op->type) {
    case STORE_OP_MERGE:
        return store_check_record(&op->key, &op->state);
    case STORE_OP_CLOCK:
        return 0;
    case STORE_OP_META:
        if (op->name.len == 0 || op->name.len > STORE_META_NAME_MAX)
            return -ERR_BAD_REQUEST;
        return op->value.len > LIMIT_VALUE_BYTES ? -ERR_VALUE_TOO_LARGE : 0;
    }
    return -ERR_BAD_REQUEST;
}
