/* wheel: a hashed timer wheel: set and cancel in O(1), whatever the deadlines.
 *
 * One slot per millisecond, WHEEL_SLOTS of them; a timer further away than one turn stays in its
 * slot and is looked at once per turn. A bitmap of used slots makes "when is the next?" a few word
 * scans. Most timers are request deadlines that are cancelled long before they are due.
 * (Varghese and Lauck, "Hashed and hierarchical timing wheels", 1987, scheme 6.)
 *
 * Times are monotonic milliseconds. Not thread-safe.
 */
#ifndef QUOIT_BASE_WHEEL_H
#define QUOIT_BASE_WHEEL_H

#include "server/base/list.h"
#include <stdint.h>

#define WHEEL_SLOTS 4096u
#define WHEEL_NEVER UINT64_MAX

struct wheel_timer {
    struct list link; /* in a slot, in an expired list, or in none */
    uint64_t at_ms;
};

struct wheel {
    uint64_t done_ms; /* all slots up to and including this time have been looked at */
    uint64_t used[WHEEL_SLOTS / 64];
    struct list slots[WHEEL_SLOTS];
};

void wheel_init(struct wheel *w, uint64_t now_ms);
void wheel_timer_init(struct wheel_timer *t);
/* (Re)arms t for at_ms; a time already past expires at the next wheel_expire with a later now. */
void wheel_set(struct wheel *w, struct wheel_timer *t, uint64_t at_ms);
/* Also takes a timer out of an expired list. */
void wheel_cancel(struct wheel_timer *t);
/* Moves all timers due at now_ms to the end of expired. */
void wheel_expire(struct wheel *w, uint64_t now_ms, struct list *expired);
/* A time not later than the next timer's, at which wheel_expire should be called; WHEEL_NEVER when
 * there is none. May be early by whole turns for far timers. */
uint64_t wheel_next_ms(const struct wheel *w);

#endif
