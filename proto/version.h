/* version: when a record was written, and by whom.
 *
 * A version is a hybrid logical clock (u64: 48 bits of milliseconds since 1970, 16 bits of counter,
 * so it compares as a plain number) and an actor (48 bits of node id, 16 bits of worker and start).
 * Two workers never make equal versions, and one worker never makes one twice (server/core/clock
 * leases its time), so equal versions mean the same write. Compared by clock, then actor. {0, 0} is
 * "none".
 */
#ifndef QUOIT_PROTO_VERSION_H
#define QUOIT_PROTO_VERSION_H

#include <stdbool.h>
#include <stdint.h>

struct version {
    uint64_t hlc;
    uint64_t actor;
};

#define VERSION_COUNTER_BITS 16

static inline int version_compare(struct version a, struct version b)
{
    if (a.hlc != b.hlc)
        return a.hlc < b.hlc ? -1 : 1;
    if (a.actor != b.actor)
        return a.actor < b.actor ? -1 : 1;
    return 0;
}

static inline bool version_is_none(struct version v)
{
    return v.hlc == 0 && v.actor == 0;
}

static inline uint64_t version_wall_ms(uint64_t hlc)
{
    return hlc >> VERSION_COUNTER_BITS;
}

static inline uint64_t version_hlc_from_ms(uint64_t wall_ms)
{
    return wall_ms << VERSION_COUNTER_BITS;
}

#endif
