/* state: what a key must fulfil, wherever it comes from.
 *
 * The one check of keys that the edge, the client library and the wire share. The sort key counts
 * towards the limit because both lie in one stored key; only the partition key must not be empty,
 * since it is what places the record. Any byte is allowed in both.
 */
#include "proto/state.h"

#include "proto/err.h"
#include "proto/limits.h"

int key_check(const struct key *key)
{
    if (key->partition.len == 0)
        return -ERR_KEY_EMPTY;
    /* Compared one by one first: the sum of two lengths from a caller could wrap. */
    if (key->partition.len > LIMIT_KEY_BYTES || key->sort.len > LIMIT_KEY_BYTES ||
        key->partition.len + key->sort.len > LIMIT_KEY_BYTES)
        return -ERR_KEY_TOO_LARGE;
    return 0;
}
