/* store_check: what every engine refuses before it takes an operation. Pure. */
#ifndef QUOIT_STORAGE_STORE_CHECK_H
#define QUOIT_STORAGE_STORE_CHECK_H

#include "storage/store.h"

/* 0, or the refusal of what should not have come this far: -ERR_KEY_TOO_LARGE, -ERR_KEY_EMPTY,
 * -ERR_VALUE_TOO_LARGE, -ERR_BAD_REQUEST. */
int store_check_op(const struct store_op *op);
int store_check_record(const struct key *key, const struct state *state);

#endif
