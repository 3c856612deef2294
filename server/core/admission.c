/* admission: how many requests a worker takes at a time.
 *
 * A node that takes all that comes does, once it is overloaded, nothing any more in time: the queue
 * grows until each request waits longer than its client does, and all work is for those who have
 * gone. So it takes as many as it can do within a part of their time and refuses the others at
 * once, which costs little and which clients repeat.
 *
 * How many that is nobody knows beforehand; it is found as TCP finds its window. When most requests
 * that end were late, the node does all that it can, and the limit falls to what it does in half of
 * the time allowed (in flight = rate x time, Little's law). When most were in time and somebody was
 * refused, it grows: to the double until it was too high for the first time, then by an eighth. A
 * limit is judged by requests that were begun under it, so that it does not change again before its
 * effect is seen. So requests take a part of their patience, and the node is always busy.
 *
 * "Most": a replica that hangs makes all writes at level all late and leaves the others alone.
 */
#include "server/core/admission.h"

void admission_init(struct admission *a, uint32_t max)
{
    *a = (struct admission){.max = max, .limit = max < ADMISSION_FIRST ? max : ADMISSION_FIRST};
}

bool admission_takes(struct admission *a, uint32_t in_flight)
{
    if (in_flight < a->limit)
        return true;
    a->full = true;
    return false;
}

static uint64_t late_ms(uint64_t patience_ms)
{
    uint64_t ms = patience_ms / ADMISSION_LATE_PART;

    return ms > ADMISSION_LATE_MS ? ms : ADMISSION_LATE_MS;
}

static void shrink(struct admission *a, uint64_t now_ms)
{
    uint32_t least = a->max < ADMISSION_MIN ? a->max : ADMISSION_MIN;
    uint64_t to = a->allowed_ms / 2 / (now_ms - a->window_ms); /* n / time x mean / 2 */

    if (to < a->limit / 16) /* one bad moment is not the truth */
        to = a->limit / 16;
    if (to > a->limit - a->limit / 8)
        to = a->limit - a->limit / 8;
    a->limit = to > least ? (uint32_t)to : least;
    a->fell = true;
}

static void grow(struct admission *a)
{
    uint32_t to = a->limit + (a->fell ? a->limit / 8 + 1 : a->limit);

    a->limit = to < a->max ? to : a->max;
}

/* Only what is begun from now on tells whether the limit is right. */
static void begin_window(struct admission *a, uint64_t now_ms)
{
    a->changed_ms = now_ms;
    a->n = a->n_late = 0;
    a->allowed_ms = 0;
    a->full = false;
}

void admission_ended(struct admission *a, uint64_t now_ms, uint64_t begun_ms, uint64_t patience_ms)
{
    uint64_t took_ms = now_ms - begun_ms, allowed_ms = late_ms(patience_ms);

    if (begun_ms < a->changed_ms)
        return;
    if (a->n == 0)
        a->window_ms = now_ms;
    a->n++;
    a->n_late += took_ms >= allowed_ms;
    a->allowed_ms += allowed_ms;
    if (now_ms - a->window_ms < ADMISSION_WINDOW_MS || a->n < ADMISSION_WINDOW_MIN)
        return;
    if (2 * a->n_late > a->n)
        shrink(a, now_ms);
    else if (a->full)
        grow(a);
    begin_window(a, now_ms);
}
