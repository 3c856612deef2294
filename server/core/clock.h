/* clock: one worker's hybrid logical clock, and the lease on its time.
 *
 * A stamp is max(wall clock, last stamp or adopted time + 1). Four rules keep it honest:
 *   guard   a remote time more than LIMIT_CLOCK_AHEAD_MS ahead of our wall clock is not adopted; a
 *           clock of our own that has got so far ahead (the wall clock was set back) stamps nothing
 *   lease   a stamp lies at or below a durable bound, which is renewed while stamping (at half its
 *           length) and lies CLOCK_LEASE_MS ahead of the stamp that asked for it. Where making it
 *           durable takes longer than that, no stamp could ever be made: the lease then doubles,
 *           and shrinks when the disk is quick again. Its length decides how long a start may have
 *           to wait; safety does not depend on it
 *   watch   control compares our wall clock with those of the other nodes (membership_clock.c).
 *           What it takes for wrong stamps nothing; nor does a clock that has just stepped ahead of
 *           what was taken for right, until it is judged: a moment later
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
    enum clock_trust {
        CLOCK_UNWATCHED = 0, /* nobody judges: it is trusted */
        CLOCK_UNJUDGED,      /* since the start */
        CLOCK_RIGHT,         /* up to right_ms */
        CLOCK_OFF
    } trust;
    int64_t offset_ms;  /* wall clock less monotonic clock, in this step */
    uint64_t behind_ms; /* our wall clock is at least so far behind those of the others */
    int64_t right_ms;   /* RIGHT: the offset that was found right, or came of it in small steps */
};

enum clock_verdict {
    CLOCK_OK = 0,
    CLOCK_WAIT_LEASE = 1, /* renew (clock_renewal) and try again when it is durable */
    CLOCK_WAIT_START = 2  /* look again soon: the wall clock will pass the start bound, which lies a
                            lease ahead at most; or it is about to be judged */
};

/* actor: 48 bits of node id and 16 of worker. bound_ms: from the store. */
void clock_init(struct clock *c, uint64_t actor, uint64_t bound_ms);
/* From now on it is judged; until then nothing is stamped. */
void clock_be_watched(struct clock *c);
/* The time of this step. */
void clock_look(struct clock *c, uint64_t now_ms, uint64_t wall_ms);
/* The verdict on the wall clock as it was when it differed that much from the monotonic one. */
void clock_judged(struct clock *c, bool right, int64_t offset_ms, uint64_t behind_ms);
/* 0 and *ret, a positive clock_verdict, or -ERR_CLOCK (this node's clock is off). */
int clock_stamp(struct clock *c, uint64_t wall_ms, struct version *ret);
/* It stamps nothing, and no wait helps: the wall clock is ahead of the others', was set back, or
 * lies far behind the bound found at start. */
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
