/* membership_clock: is our wall clock right?
 *
 * A node whose clock is ahead of the others' must not stamp writes: their replicas refuse them, its
 * own takes them, and what it has once stamped keeps it from stamping anything for as long as its
 * clock was off. So it has to know before it stamps. One whose clock is behind does no such harm,
 * but it must know by how much, or as a replica it would refuse whatever the others stamp.
 *
 * Each answer to a probe says what the answering node's wall clock shows. It was made after the
 * probe had left and before it came, so, however long either message took:
 *     ahead   ours showed more when the probe left than theirs in the answer
 *     behind  ours showed less when the answer came than theirs in it
 * by more than what the nodes grant each other (LIMIT_CLOCK_AHEAD_MS). Then ours is off for
 * certain, or theirs is: the majority of those asked says which. A stall on either side can only
 * hide that, never feign it.
 *
 *   NOT_JUDGED --some have said--> RIGHT <--> OFF (ahead)
 *        ^                            |         |
 *        +-------- our clock steps ---+---------+
 *
 * A step is a change of the wall clock that the monotonic one has not seen: it may be a mistake or
 * the end of one, so what was said before counts no more. The worker sees it by itself
 * (server/core/clock.h) and stamps nothing until the new time is judged.
 *
 * What is one step for a worker that was idle may have been several for us, each too small to count
 * as one. So a clock that is right is announced again when it has moved since it was announced
 * last: else such a worker would wait for a verdict that never comes.
 */
#include "server/core/membership_impl.h"

/* More than half of those who can have said something within MEMBERSHIP_CLOCK_SAID_MS, when one is
 * probed every MEMBERSHIP_PROBE_MS. */
#define SAID_MAX 32u

void clock_watch(struct membership *m, uint64_t wall_ms)
{
    int64_t offset_ms = (int64_t)(wall_ms - m->now_ms);
    int64_t by_ms = offset_ms - m->clock.offset_ms;

    m->wall_ms = wall_ms;
    if (wall_ms == 0)
        return;
    m->clock.offset_ms = offset_ms;
    if (by_ms <= (int64_t)LIMIT_CLOCK_AHEAD_MS && by_ms >= -(int64_t)LIMIT_CLOCK_AHEAD_MS)
        return;
    m->clock.verdict = CLOCK_NOT_JUDGED;
    m->clock.stepped_ms = m->now_ms;
    for (uint32_t i = 0; i < PROBES_MAX; i++)
        m->probes[i].wall_ms = 0; /* of before */
}

void clock_said(struct membership *m, struct node *n, uint64_t asked_ms, uint64_t said_ms)
{
    const uint64_t granted_ms = LIMIT_CLOCK_AHEAD_MS;

    if (asked_ms == 0)
        return;
    n->clock_said_ms = m->now_ms;
    /* One that does not say, of an older version, is taken to agree. */
    n->clock_behind = said_ms != 0 && asked_ms > said_ms + granted_ms;
    n->clock_ahead_ms = said_ms > m->wall_ms + granted_ms ? said_ms - m->wall_ms : 0;
}

static bool is_fresh(const struct membership *m, const struct node *n)
{
    return n->clock_said_ms > m->clock.stepped_ms &&
           n->clock_said_ms + MEMBERSHIP_CLOCK_SAID_MS > m->now_ms;
}

/* What is too small to be a step may add up. */
static bool has_moved(const struct membership *m)
{
    int64_t by_ms = m->clock.offset_ms - m->clock.told_ms;

    return by_ms > (int64_t)LIMIT_CLOCK_AHEAD_MS / 4 || by_ms < -(int64_t)LIMIT_CLOCK_AHEAD_MS / 4;
}

static void decide(struct membership *m, bool right, uint64_t behind_ms)
{
    enum clock_judgement verdict = right ? CLOCK_IS_RIGHT : CLOCK_IS_OFF;
    uint64_t more_ms = behind_ms > m->clock.behind_ms ? behind_ms - m->clock.behind_ms
                                                      : m->clock.behind_ms - behind_ms;

    if (m->clock.verdict == verdict && more_ms <= LIMIT_CLOCK_AHEAD_MS / 4 &&
        !(right && has_moved(m)))
        return;
    m->clock.verdict = verdict;
    m->clock.behind_ms = behind_ms;
    m->clock.changed = true;
}

/* So far behind as more than half of those who have said something agree on. */
static uint64_t agreed_behind(const struct membership *m, uint32_t n_said)
{
    uint64_t most_ms[SAID_MAX] = {0}; /* the greatest, falling */

    for (uint32_t i = 0; i < m->n_order; i++) {
        const struct node *n = m->nodes[m->order[i]];
        uint64_t ahead_ms =
            n->in_ring && node_is_there(n) && is_fresh(m, n) ? n->clock_ahead_ms : 0;

        for (uint32_t j = 0; j < SAID_MAX && ahead_ms > 0; j++) {
            uint64_t other_ms = most_ms[j];

            if (ahead_ms > other_ms) {
                most_ms[j] = ahead_ms;
                ahead_ms = other_ms;
            }
        }
    }
    return n_said / 2 < SAID_MAX ? most_ms[n_said / 2] : 0;
}

void clock_judge(struct membership *m)
{
    uint32_t n_others = 0, n_there = 0, n_said = 0, n_behind = 0;

    if (m->wall_ms == 0)
        return;
    for (uint32_t i = 0; i < m->n_order; i++) {
        const struct node *n = m->nodes[m->order[i]];

        n_others += n->in_ring;
        if (!n->in_ring || !node_is_there(n))
            continue;
        n_there++;
        n_said += is_fresh(m, n);
        n_behind += is_fresh(m, n) && n->clock_behind;
    }
    if (n_said > 0 && n_said >= (n_there < MEMBERSHIP_CLOCK_SAID ? n_there : MEMBERSHIP_CLOCK_SAID))
        decide(m, n_behind * 2 <= n_said, agreed_behind(m, n_said));
    else if (m->clock.verdict != CLOCK_IS_OFF && n_there == 0 &&
             (n_others == 0 || m->now_ms - m->clock.stepped_ms >= MEMBERSHIP_CLOCK_ALONE_MS))
        decide(m, true, m->clock.verdict == CLOCK_IS_RIGHT ? m->clock.behind_ms : 0);
}
