/* clock: one worker's hybrid logical clock, and the lease on its time.
 *
 * A stamp is max(wall clock, last stamp or adopted time + 1). Three rules keep it honest:
 *   guard   a remote time more than LIMIT_CLOCK_AHEAD_MS ahead of our wall clock is not adopted; a
 *           clock of our own that has got so far ahead (the wall clock was set back) stamps nothing
 *   lease   a stamp lies at or below a durable bound, which is renewed while stamping (at half its
 *           length) and lies CLOCK_LEASE_MS ahead of the stamp that asked for it. Where making it
 *           durable takes longer than that, no stamp could ever be made: the lease then doubles,
 *           and shrinks when the disk is quick again. Its length decides how long a start may have
 *           to wait; safety does not depend on it
 *   start   nothing is stamped until the wall clock has passed the bound found in the store, so
 *           that no stamp is ever made twice, even if the process before us stamped ahead of its
 *           clock
 * (Kulkarni et al., "Logical physical clocks", 2014, for the clock; the lease is ours.)
 */
#ifndef QUOIT_CORE_CLOCK_H
#define QUOIT_CORE_CLOCK_H

#include "proto/version.h"

#define CLOCK_LEASE_MS 1000u
#define CLOCK_LEASE_MAX_MS 16000u

struct clock {
    uint64_t actor;
    uint64_t last;        /* highest stamp made or time adopted */
    uint64_t start_ms;    /* bound found at start */
    uint64_t bound_ms;    /* durable bound: stamps up to here */
    uint64_t asked_ms;    /* bound on its way to the disk; 0 = none */
    uint64_t asked_at_ms; /* the wall clock when it was asked for */
    uint64_t lease_ms;    /* CLOCK_LEASE_MS, or more while the disk is slow */
};

enum clock_verdict {
    CLOCK_OK = 0,
    CLOCK_WAIT_LEASE = 1, /* renew (clock_renewal) and try again when it is durable */
    CLOCK_WAIT_START =
        2 /* the wall clock will pass the start bound: it lies a lease ahead at most */
};

/* actor: 48 bits of node id and 16 of worker. bound_ms: from the store. */
void clock_init(struct clock *c, uint64_t actor, uint64_t bound_ms);
/* 0 and *ret, a positive clock_verdict, or -ERR_CLOCK (this node's clock is off). */
int clock_stamp(struct clock *c, uint64_t wall_ms, struct version *ret);
/* It stamps nothing, and no wait helps: the wall clock was set back, or lies far behind the bound
 * found at start. */
bool clock_is_off(const struct clock *c, uint64_t wall_ms);
/* The bound to make durable now, or 0 when the lease is long enough or already asked for. */
uint64_t clock_renewal(struct clock *c, uint64_t wall_ms);
/* The renewal asked for is durable, or failed. */
void clock_renewed(struct clock *c, uint64_t wall_ms, int error);
/* Adopts a remote time. False: too far ahead, not adopted. */
bool clock_adopt(struct clock *c, uint64_t wall_ms, uint64_t hlc);
/* A remote first-hand stamp is acceptable. */
bool clock_guards(uint64_t wall_ms, uint64_t hlc);

#endif
