/* quorum: see quorum.h.
 *
 * An absent answer is not "nothing": with a purge floor it says that every version up to the floor
 * was deleted and its tombstone is gone, so an older value found elsewhere is dead. Floors are 0
 * until tombstones are purged; the rule stands here from the first day because a reader that
 * ignores floors brings deleted values back.
 */
#include "server/core/quorum.h"

uint32_t quorum_need(enum wire_level level, uint32_t n)
{
    switch (level) {
    case LEVEL_ONE:
        return 1;
    case LEVEL_ALL:
        return n;
    case LEVEL_DEFAULT:
    case LEVEL_QUORUM:
        break;
    }
    return n / 2 + 1;
}

bool quorum_holds(const struct quorum_answer *a, const struct quorum_answer *newest)
{
    if (!a->answered)
        return false;
    if (a->absent) /* a closed floor at or above a tombstone stands for it */
        return newest->deleted && newest->version.hlc <= a->floor;
    /* Equal versions are one write, so different digests mean damage: overwrite by the newest. */
    return version_compare(a->version, newest->version) == 0 &&
           (!a->digest || !newest->digest || a->digest == newest->digest);
}

struct quorum_view quorum_merge(const struct quorum_answer *answers, uint32_t n)
{
    struct quorum_view view = {.newest = -1, .agree = true};

    for (uint32_t i = 0; i < n; i++) {
        const struct quorum_answer *a = &answers[i];

        if (!a->answered)
            continue;
        view.n_answered++;
        if (a->absent) {
            if (a->floor > view.floor)
                view.floor = a->floor;
            continue;
        }
        if (view.newest < 0 || version_compare(a->version, answers[view.newest].version) > 0)
            view.newest = (int)i;
    }
    if (view.newest < 0)
        return view;
    view.dead = answers[view.newest].version.hlc <= view.floor;
    for (uint32_t i = 0; i < n; i++)
        if (answers[i].answered && !quorum_holds(&answers[i], &answers[view.newest]))
            view.agree = view.dead && answers[i].absent ? view.agree : false;
    return view;
}
