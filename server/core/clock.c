/* clock: see clock.h. All states are plain numbers; there is no hidden time in here. */
#include "server/core/clock.h"
#include "proto/err.h"
#include "proto/limits.h"

void clock_init(struct clock *c, uint64_t actor, uint64_t bound_ms)
{
    *c = (struct clock){
        .actor = actor, .start_ms = bound_ms, .bound_ms = bound_ms, .lease_ms = CLOCK_LEASE_MS};
}

bool clock_guards(uint64_t wall_ms, uint64_t hlc)
{
    return version_wall_ms(hlc) <= wall_ms + LIMIT_CLOCK_AHEAD_MS;
}

void clock_be_watched(struct clock *c)
{
    c->trust = CLOCK_UNJUDGED;
}

static bool clock_has_stepped(const struct clock *c)
{
    return c->offset_ms > c->right_ms + (int64_t)LIMIT_CLOCK_AHEAD_MS;
}

void clock_look(struct clock *c, uint64_t now_ms, uint64_t wall_ms)
{
    c->offset_ms = (int64_t)(wall_ms - now_ms);
    if (c->trust == CLOCK_RIGHT && !clock_has_stepped(c))
        c->right_ms = c->offset_ms; /* drift, slewing, a step back */
}

void clock_judged(struct clock *c, bool right, int64_t offset_ms, uint64_t behind_ms)
{
    c->trust = right ? CLOCK_RIGHT : CLOCK_OFF;
    c->right_ms = offset_ms;
    c->behind_ms = behind_ms;
}

static bool clock_is_trusted(const struct clock *c)
{
    return c->trust == CLOCK_UNWATCHED || (c->trust == CLOCK_RIGHT && !clock_has_stepped(c));
}

/* The stamp that would be made now. */
static uint64_t clock_next(const struct clock *c, uint64_t wall_ms)
{
    uint64_t wall = version_hlc_from_ms(wall_ms);

    return wall > c->last ? wall : c->last + 1;
}

bool clock_is_off(const struct clock *c, uint64_t wall_ms)
{
    if (c->trust == CLOCK_OFF)
        return true;
    if (wall_ms <= c->start_ms) /* a lease is short, a wrong clock is not */
        return c->start_ms - wall_ms > CLOCK_LEASE_MAX_MS + LIMIT_CLOCK_AHEAD_MS;
    return !clock_guards(wall_ms, clock_next(c, wall_ms));
}

int clock_stamp(struct clock *c, uint64_t wall_ms, struct version *ret)
{
    uint64_t next = clock_next(c, wall_ms);

    if (clock_is_off(c, wall_ms))
        return -ERR_CLOCK;
    if (!clock_is_trusted(c) || wall_ms <= c->start_ms) /* waited for once */
        return CLOCK_WAIT_START;
    if (version_wall_ms(next) > c->bound_ms)
        return CLOCK_WAIT_LEASE;
    c->last = next;
    *ret = (struct version){.hlc = next, .actor = c->actor};
    return CLOCK_OK;
}

uint64_t clock_renewal(struct clock *c, uint64_t wall_ms)
{
    uint64_t next_ms = version_wall_ms(clock_next(c, wall_ms));

    if (!clock_is_trusted(c)) /* the next start would have to wait for a time that never was */
        return 0;
    if (c->asked_ms || c->bound_ms > next_ms + c->lease_ms / 2)
        return 0;
    c->asked_at_ms = wall_ms;
    return c->asked_ms = next_ms + c->lease_ms;
}

void clock_renewed(struct clock *c, uint64_t wall_ms, int error)
{
    uint64_t took_ms = wall_ms > c->asked_at_ms ? wall_ms - c->asked_at_ms : 0;

    if (!error && c->asked_ms > c->bound_ms)
        c->bound_ms = c->asked_ms;
    c->asked_ms = 0;
    if (took_ms > c->lease_ms / 2 && c->lease_ms < CLOCK_LEASE_MAX_MS)
        c->lease_ms *= 2;
    else if (took_ms < c->lease_ms / 8 && c->lease_ms > CLOCK_LEASE_MS)
        c->lease_ms /= 2;
}

bool clock_adopt(struct clock *c, uint64_t wall_ms, uint64_t hlc)
{
    if (!clock_guards(wall_ms, hlc))
        return false;
    if (hlc > c->last)
        c->last = hlc;
    return true;
}
