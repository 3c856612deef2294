/* merge: old state + new state -> the state to keep. The only place where that is decided.
 *
 * Pure. For last-writer-wins records the newer version wins; equal versions are the same write (see
 * proto/version.h) and change nothing. Idempotent, commutative, associative: tests/unit/test_merge
 * tries all orders.
 *
 * The tree delta of a merge is state_digest(old) ^ state_digest(new), 0 for an absent state: the
 * hash of a range of keys is the XOR over its records, so it follows every change in O(1).
 */
#ifndef QUOIT_STORAGE_MERGE_H
#define QUOIT_STORAGE_MERGE_H

#include "proto/state.h"
#include "proto/wire.h"

/* What happens when `new` meets `old` (either may be STATE_NONE; `new` normally is not):
 * OUTCOME_STORED (keep new), OUTCOME_DUPLICATE or OUTCOME_SUPERSEDED (keep old). */
enum wire_outcome merge_states(const struct state *old, const struct state *new);

/* The same with a purge floor, which may be NULL: what would be stored with a clock at or below it
 * is not: OUTCOME_SUPERSEDED_FLOOR. *ret: the version that the outcome tells of (store_done). */
enum wire_outcome merge_above(const struct state *old, const struct state *new,
                              const uint64_t *floor, struct version *ret);

/* Hash of a record: key, kind, deletion, version and value. 0 for STATE_NONE, never 0 otherwise.
 * Equal digests are taken for equal states. Not keyed: an honest replica's answer, not a defence.
 */
uint64_t merge_digest(const struct key *key, const struct state *state);

/* Names a key in lists of what replicas have: equal hashes in one leaf are taken for one key. */
uint64_t merge_key_hash(const struct key *key);

#endif
