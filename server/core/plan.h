/* plan: from the ring of today to the one an operator wishes, one slot at a time.
 *
 * A pure function of values. It says which slots change hands and in which order, what that means
 * for each node, and why it should not be done, if so. Nothing is changed by a plan; whoever
 * commits it makes a job of its steps.
 *
 * Steps. Each is one slot of one partition:
 *
 *   MOVE     from -> to, copied from `from` alone, which serves until it is switched
 *   REPLACE  the slot of a node that is down and to be removed or replaced; `to` copies `source`
 *   GROW     a slot more: there is no `from`
 *
 * They are in the order in which they should begin: partitions with the fewest live replicas first,
 * then drains, then the rest; of one partition one at a time, in the order of the list. After each
 * step the partition's replicas are on distinct nodes, and each zone has a number of them between
 * that of today and that at the end, so a plan may be stopped anywhere. When all steps are done,
 * the switches of primaries come, which cost nothing.
 *
 * Refusals are a list of reasons, each with the member and the figure that it is about. A plan with
 * refusals is complete all the same, so that it can be shown, except where what was asked for makes
 * no sense (the first group of enum plan_reason): then it has no steps, and may have no members.
 */
#ifndef QUOIT_CORE_PLAN_H
#define QUOIT_CORE_PLAN_H

#include "server/core/ring.h"

#define PLAN_NONE UINT32_MAX

/* Reasons told; more than anybody reads before acting on the first. */
#define PLAN_REFUSALS_MAX 64u
/* A disk is never filled further than this: beyond it puts are refused. Of 1000. */
#define PLAN_DISK_PERMILLE 850u

enum plan_change_kind {
    PLAN_CHANGE_ADD,    /* `member` joins */
    PLAN_CHANGE_DRAIN,  /* gives up all slots and stays a member, of weight 0 */
    PLAN_CHANGE_REMOVE, /* gives up all slots and leaves; if it is down, its copies are lost */
    PLAN_CHANGE_WEIGHT,
    PLAN_CHANGE_REPLACE /* a node that is down leaves, `member` gets its slots and no others */
};

struct plan_change {
    enum plan_change_kind kind;
    struct wire_id id;                /* whom it is about; ADD: not used */
    const struct wire_member *member; /* ADD, REPLACE: the newcomer, with zone and weight */
    uint32_t weight;                  /* WEIGHT: > 0 */
};

/* What is known of a node, member or newcomer. One that is not told of is down. */
struct plan_state {
    struct wire_id id;
    bool up;
    uint64_t disk_used_bytes, disk_bytes; /* of its file system; 0: not known, not checked */
};

struct plan_input {
    const struct ring *ring;
    const struct plan_change *changes; /* none: balance what there is, and grow */
    size_t n_changes;
    const struct plan_state *states;
    size_t n_states;
    const uint64_t *partition_bytes; /* [n_partitions], of one replica; NULL: not known */
};

enum plan_step_kind {
    PLAN_STEP_MOVE,
    PLAN_STEP_REPLACE,
    PLAN_STEP_GROW
};

/* Members are indices in the plan's list. */
struct plan_step {
    enum plan_step_kind kind;
    uint32_t partition, slot;
    uint32_t from; /* GROW: PLAN_NONE */
    uint32_t to;
    uint32_t
        source; /* whose copy `to` reads; of a REPLACE or GROW another holder will do as well */
    /* The slot is primary: this one takes the role before the step begins. PLAN_NONE: it is not, or
     * there is no other slot to take it. */
    uint32_t role_to;
};

struct plan_switch {
    uint32_t partition, slot;
};

struct plan_share {
    bool joins, leaves, up;
    uint32_t slots_before, slots_after, primaries_before, primaries_after;
    uint32_t
        slots_without_zones; /* what it would have by weight if there were no zones; 0: leaves */
    uint32_t in, out;        /* copies that it reads and that are read from it */
    uint64_t bytes_before, bytes_after, bytes_in, bytes_out;
    uint64_t disk_used_bytes, disk_bytes;
    uint64_t disk_peak_bytes; /* used and all that comes in: what goes out is dropped later */
};

enum plan_reason {
    /* the request makes no sense: there are no steps */
    PLAN_UNKNOWN_MEMBER, /* figure: which change, as in all of this group */
    PLAN_ALREADY_MEMBER,
    PLAN_NAME_TAKEN,
    PLAN_CHANGED_TWICE,
    PLAN_BAD_WEIGHT, /* 0 */
    PLAN_BAD_MEMBER, /* no id, no name, or longer than the limits */
    PLAN_STILL_UP,   /* only a node that is down is replaced */
    PLAN_TOO_MANY,   /* members; figure: so many, limit */
    PLAN_BUSY,       /* a slot is JOINING; figure: partitions */
    PLAN_FEW_NODES,  /* usable ones; figure: so many, limit: slots that partitions have */
    /* the plan is whole, and not safe */
    PLAN_ZONE_RULE,     /* figure: partitions that break it at the end; limit: now */
    PLAN_DISK,          /* member; figure: per mille of its disk at the peak; limit */
    PLAN_TARGET_DOWN,   /* member; figure: steps, as in all that follow */
    PLAN_SOURCE_DOWN,   /* a MOVE from it: replace or remove it instead */
    PLAN_NO_QUORUM,     /* member: one of those that are down */
    PLAN_NO_SPARE,      /* same: without the slot under way there would be no quorum */
    PLAN_GROW_NEEDS_ALL /* same: to grow, all slots of a partition must be up */
};

struct plan_refusal {
    enum plan_reason reason;
    uint32_t member;    /* or PLAN_NONE */
    uint32_t partition; /* the first one, or PLAN_NONE */
    uint64_t figure, limit;
};

struct plan {
    uint64_t epoch; /* of the ring that it was made for */
    /* Those of today and the newcomers, ascending by id; weights as wished, 0 for who leaves. */
    struct wire_member *members;
    struct plan_share *shares; /* [n_members] */
    size_t n_members;
    struct plan_step *steps;
    size_t n_steps;
    struct plan_switch *switches;
    size_t n_switches;
    struct plan_refusal *refusals;      /* at most PLAN_REFUSALS_MAX */
    size_t n_refusals, n_refusals_more; /* and so many that are not in the list */
    uint32_t n_slots;                   /* columns of the ring's table at the end */
    uint64_t bytes;                     /* that all steps copy */
    uint32_t lower_bound;               /* of steps, for these shares of slots (claim.h) */
    uint32_t violations_before, violations_after;  /* partitions that break the zone rule */
    uint32_t zone_cost_member, zone_cost_permille; /* claim.h; PLAN_NONE */
    uint32_t left_moves; /* that balancing would take afterwards: only REPLACE leaves any */
};

/* Fills *ret with arrays in arena (strings of members are borrowed from the input). 0, or
 * -ERR_NO_MEMORY: *ret is untouched then. */
int plan_make(const struct plan_input *in, struct arena *arena, struct plan *ret);

/* "NO_SPARE"; static storage. */
const char *plan_reason_name(enum plan_reason reason);

#endif
