/* pass_place: how far the apply is in its walk around the ring, as a fact on disk (META_NAME_PASS).
 *
 *   u32 zone | u32 number of owners n | n times u64: sequence number of a group
 *
 * Every record of owner i (by token_worker among the n) in a zone below `zone` that stands in the
 * log in a group up to the i-th number is on disk. Written by every transaction of a pass, so that
 * a replay after a crash brings back what was in the tables, and not what had been given back
 * already: tables may take the whole budget. Without it, or with an older one, a replay does more
 * than it must.
 */
#ifndef QUOIT_STORAGE_PASS_PLACE_H
#define QUOIT_STORAGE_PASS_PLACE_H

#include "proto/limits.h"
#include "proto/slice.h"

#define PASS_PLACE_BYTES_MAX (8u + 8u * LIMIT_WORKERS_MAX)

/* Zeroed: nothing is behind. */
struct pass_place {
    uint32_t zone, n_owners;
    uint64_t seq_of[LIMIT_WORKERS_MAX]; /* [n_owners] */
};

/* The bytes, in out. */
struct slice pass_place_encode(const struct pass_place *p, uint8_t out[PASS_PLACE_BYTES_MAX]);
/* 0, -ERR_CORRUPT. */
int pass_place_decode(struct slice bytes, struct pass_place *ret);
/* A record of that token, in that group of the log, is on disk. */
bool pass_place_is_behind(const struct pass_place *p, uint64_t token, uint64_t seq);

#endif
