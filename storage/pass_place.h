/* pass_place: what of the log is on disk, zone by zone, as a fact on disk (META_NAME_PLACE).
 *
 *   ZONES times u64: sequence number of a group
 *
 * Every record of a zone that stands in the log in a group up to its number is on disk. Written by
 * every transaction of a pass, for the zones that it has come past, so that a replay after a crash
 * brings back what was in the tables, and not what had been given back already: tables may take the
 * whole budget. A number never falls, so a pass takes over what those before it had behind them,
 * whether they came to their end or not, and however far `applied` is held back meanwhile. Without
 * the fact a replay does more than it must.
 */
#ifndef QUOIT_STORAGE_PASS_PLACE_H
#define QUOIT_STORAGE_PASS_PLACE_H

#include "storage/zone.h"

#define PASS_PLACE_BYTES (8u * ZONES)

/* Zeroed: nothing is on disk. */
struct pass_place {
    uint64_t seq_of[ZONES];
};

/* The records of the zone are on disk, up to there. */
void pass_place_raise(struct pass_place *p, uint32_t zone, uint64_t seq);
/* The highest group in it. */
uint64_t pass_place_last(const struct pass_place *p);
/* The bytes, in out. */
struct slice pass_place_encode(const struct pass_place *p, uint8_t out[PASS_PLACE_BYTES]);
/* 0, -ERR_CORRUPT. */
int pass_place_decode(struct slice bytes, struct pass_place *ret);
/* A record of that token, in that group of the log, is on disk. */
bool pass_place_is_behind(const struct pass_place *p, uint64_t token, uint64_t seq);

#endif
