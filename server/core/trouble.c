/* trouble: see trouble.h. One line of the table for each kind: when it is there, and its two
 * sentences. Sentences say what is true now, and what to do; never what might have caused it.
 */
#include "server/core/trouble.h"

#include <inttypes.h>
#include <stdio.h>

#define SECOND_MS 1000u
#define MINUTE_MS (60u * SECOND_MS)
#define HOUR_MS (60u * MINUTE_MS)
#define DAY_MS (24ull * HOUR_MS)

void trouble_duration(uint64_t ms, char ret[TROUBLE_DURATION_BYTES])
{
    uint64_t days = ms / DAY_MS, hours = ms % DAY_MS / HOUR_MS;
    uint64_t minutes = ms % HOUR_MS / MINUTE_MS, seconds = ms % MINUTE_MS / SECOND_MS;

    if (ms < SECOND_MS)
        snprintf(ret, TROUBLE_DURATION_BYTES, "%" PRIu64 " ms", ms);
    else if (ms < MINUTE_MS)
        snprintf(ret, TROUBLE_DURATION_BYTES, "%" PRIu64 " s", seconds);
    else if (ms < HOUR_MS)
        snprintf(ret, TROUBLE_DURATION_BYTES, "%" PRIu64 " min %" PRIu64 " s", minutes, seconds);
    else if (ms < DAY_MS)
        snprintf(ret, TROUBLE_DURATION_BYTES, "%" PRIu64 " h %" PRIu64 " min", hours, minutes);
    else
        snprintf(ret, TROUBLE_DURATION_BYTES, "%" PRIu64 " %s %" PRIu64 " h", days,
                 days == 1 ? "day" : "days", hours);
}

/* ---- the kinds ----------------------------------------------------------------------------- */

/* What a sentence may be about. */
struct subject {
    const struct wire_member_status *m;
    int name_len, peer_len;
    const char *name, *peer;
    char since[TROUBLE_DURATION_BYTES];
};

static bool is_down(const struct wire_member_status *m)
{
    return m->state == MEMBER_DOWN;
}

static void tell_down(const struct subject *s, char *text, char *advice)
{
    snprintf(text, TROUBLE_TEXT_BYTES, "%.*s is down for %s: %.*s does not answer", s->name_len,
             s->name, s->since, s->peer_len, s->peer);
    snprintf(advice, TROUBLE_TEXT_BYTES,
             "start quoitd on %.*s, or mend the network between it and the others", s->name_len,
             s->name);
}

static bool never_came(const struct wire_member_status *m)
{
    return m->state == MEMBER_UNKNOWN;
}

static void tell_never_came(const struct subject *s, char *text, char *advice)
{
    snprintf(text, TROUBLE_TEXT_BYTES,
             "%.*s was not heard of since this node started, %s ago: %.*s does not answer",
             s->name_len, s->name, s->since, s->peer_len, s->peer);
    snprintf(advice, TROUBLE_TEXT_BYTES, "start quoitd on %.*s, or mend the way to %.*s",
             s->name_len, s->name, s->peer_len, s->peer);
}

static bool has_stopped(const struct wire_member_status *m)
{
    return m->state == MEMBER_STOPPED;
}

static void tell_stopped(const struct subject *s, char *text, char *advice)
{
    snprintf(text, TROUBLE_TEXT_BYTES, "%.*s was stopped %s ago", s->name_len, s->name, s->since);
    snprintf(advice, TROUBLE_TEXT_BYTES, "start quoitd on %.*s again", s->name_len, s->name);
}

static bool is_full(const struct wire_member_status *m)
{
    return m->load.flags & LOAD_NO_SPACE;
}

static void tell_full(const struct subject *s, char *text, char *advice)
{
    snprintf(text, TROUBLE_TEXT_BYTES,
             "%.*s is out of space (%u %% used): it refuses writes; reads and deletes work",
             s->name_len, s->name, s->m->load.disk_percent);
    snprintf(advice, TROUBLE_TEXT_BYTES,
             "make room in the file system of %.*s, or start it with a larger --map-size",
             s->name_len, s->name);
}

static bool has_bad_clock(const struct wire_member_status *m)
{
    return m->load.flags & LOAD_CLOCK;
}

static void tell_clock(const struct subject *s, char *text, char *advice)
{
    snprintf(text, TROUBLE_TEXT_BYTES,
             "the clock of %.*s is off: it takes no writes of clients, who go to other nodes",
             s->name_len, s->name);
    snprintf(advice, TROUBLE_TEXT_BYTES, "set the clock of %.*s right (NTP), nothing else",
             s->name_len, s->name);
}

/* In the order in which they are told. */
static const struct {
    enum wire_problem_kind kind;
    bool (*is_so)(const struct wire_member_status *m);
    void (*tell)(const struct subject *s, char *text, char *advice);
    bool of_absence;
} kinds[] = {
    {PROBLEM_DOWN, is_down, tell_down, true},
    {PROBLEM_NEVER_CAME, never_came, tell_never_came, true},
    {PROBLEM_STOPPED, has_stopped, tell_stopped, true},
    {PROBLEM_NO_SPACE, is_full, tell_full, false},
    {PROBLEM_CLOCK, has_bad_clock, tell_clock, false},
};
#define N_KINDS (sizeof(kinds) / sizeof(kinds[0]))

/* The node that waits to be added under the name of a member that is away: its disk was lost. */
static const struct wire_member_status *heir_of(const struct wire_status_result *status,
                                                const struct wire_member_status *m)
{
    for (size_t i = 0; i < status->n_candidates; i++)
        if (slice_equal(status->candidates[i].member.name, m->member.name))
            return &status->candidates[i];
    return NULL;
}

static void tell_heir(const struct subject *s, const struct wire_member_status *heir, char *advice)
{
    const uint8_t *id = heir->member.id.b;

    snprintf(advice, TROUBLE_TEXT_BYTES,
             "bring back the data directory of %.*s: the node of that name that is there now (id "
             "%02x%02x%02x) has an empty one, so it is another node. It can take the place of the "
             "lost one in a later version",
             s->name_len, s->name, id[0], id[1], id[2]);
}

/* ---- the list ------------------------------------------------------------------------------ */

static int keep(struct arena *arena, const char *text, struct slice *ret)
{
    size_t len = strlen(text);
    uint8_t *copy = arena_alloc(arena, len + 1);

    if (!copy)
        return -ERR_NO_MEMORY;
    memcpy(copy, text, len + 1);
    *ret = slice_of(copy, len);
    return 0;
}

static int tell(size_t kind, const struct wire_status_result *status, size_t index,
                struct arena *arena, struct wire_problem *ret)
{
    char text[TROUBLE_TEXT_BYTES], advice[TROUBLE_TEXT_BYTES];
    const struct wire_member_status *m = &status->members[index], *heir = heir_of(status, m);
    struct subject s = {.m = m,
                        .name = (const char *)m->member.name.data,
                        .name_len = (int)m->member.name.len,
                        .peer = (const char *)m->member.peer_address.data,
                        .peer_len = (int)m->member.peer_address.len};

    trouble_duration(m->state_ms, s.since);
    kinds[kind].tell(&s, text, advice);
    if (heir && kinds[kind].of_absence)
        tell_heir(&s, heir, advice);
    *ret = (struct wire_problem){.kind = kinds[kind].kind, .member = (uint32_t)index + 1};
    return keep(arena, text, &ret->text) < 0 || keep(arena, advice, &ret->advice) < 0
               ? -ERR_NO_MEMORY
               : 0;
}

static int tell_more(size_t n, struct arena *arena, struct wire_problem *ret)
{
    char text[TROUBLE_TEXT_BYTES];

    snprintf(text, sizeof(text), "and %zu more", n);
    *ret = (struct wire_problem){.kind = PROBLEM_MORE};
    return keep(arena, text, &ret->text);
}

int trouble_list(const struct wire_status_result *status, struct arena *arena,
                 struct wire_problem *out)
{
    const struct wire_member_status *members = status->members;
    size_t n = status->n_members, n_all = 0, n_told = 0;
    int r = 0;

    for (size_t k = 0; k < N_KINDS; k++)
        for (size_t i = 0; i < n; i++)
            n_all += kinds[k].is_so(&members[i]);
    for (size_t k = 0; k < N_KINDS; k++)
        for (size_t i = 0; r == 0 && i < n; i++) {
            bool last = n_told + 1 == LIMIT_PROBLEMS_MAX && n_all > LIMIT_PROBLEMS_MAX;

            if (!kinds[k].is_so(&members[i]))
                continue;
            if (last)
                return tell_more(n_all - n_told, arena, &out[n_told]) < 0 ? -ERR_NO_MEMORY
                                                                          : (int)n_told + 1;
            r = tell(k, status, i, arena, &out[n_told]);
            n_told++;
        }
    return r < 0 ? r : (int)n_told;
}
