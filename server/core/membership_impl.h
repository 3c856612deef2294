/* membership_impl: what the parts of membership share. Private to server/core.
 *
 *   membership.c         the step: messages, timers, what follows from them
 *   membership_probe.c   probes: is it there?
 *   membership_table.c   what is known of each node, which of two rumours is newer, suspicions
 *   membership_tell.c    which rumours go out next, and messages with them
 *   membership_ring.c    the ring of those who have a newer one
 *   membership_clock.c   is our wall clock right?
 */
#ifndef QUOIT_CORE_MEMBERSHIP_IMPL_H
#define QUOIT_CORE_MEMBERSHIP_IMPL_H

#include "server/base/list.h"
#include "server/base/prng.h"
#include "server/core/membership.h"

#define NODE_NONE UINT32_MAX
/* More than one at a time only because links broke. */
#define PROBES_MAX 16u
/* Pings on behalf of others. */
#define FAVOURS_MAX 64u
/* Most times that a rumour is sent: MEMBERSHIP_SENDS times the digits of LIMIT_NODES_MAX. */
#define SENDS_MAX 24u
/* A unit of work needs room for so many effects: a probe that asks its helpers. */
#define UNIT_EFFECTS 5u
/* Rumours in all messages of one step. */
#define STEP_RUMOURS (16 * MEMBERSHIP_RUMOURS)

struct node {
    struct wire_id id;
    uint32_t handle;
    uint32_t refutation;
    uint64_t boot;
    enum wire_member_state state;
    uint8_t n_sent, n_profile_sent; /* of its rumour, of its profile; SENDS_MAX: enough */
    uint8_t n_confirmers;
    uint32_t confirmers[MEMBERSHIP_CONFIRMATIONS + 1]; /* handles: who suspects it */
    struct wire_id by;                                 /* the last of them */
    uint64_t since_ms, heard_ms;
    struct blob *profile_bytes;
    struct wire_profile profile; /* in profile_bytes; number 0: none */
    struct wire_load load;
    bool in_ring;            /* our ring names it, or we have none: it is more than a candidate */
    uint64_t ring_epoch;     /* as it said last */
    uint64_t ring_refused;   /* its ring of this epoch could not be taken: not asked for again */
    uint64_t ring_failed_ms; /* when it last had no good answer; 0: it had, or was not asked */
    bool ring_asked;         /* and has not answered */
    uint64_t clock_said_ms;  /* when it last said what its clock shows; 0: never */
    bool clock_behind;       /* by more than LIMIT_CLOCK_AHEAD_MS, for certain */
    uint64_t clock_ahead_ms; /* the same; 0: not */
    struct list telling;     /* in membership.telling[n_sent] */
    struct list suspects;    /* in membership.suspects */
    struct list changed;     /* in membership.changed: to be announced */
};

/* A probe:  DIRECT --no answer--> INDIRECT --no answer--> failed */
struct probe {
    uint32_t target; /* NODE_NONE: free */
    uint64_t number;
    uint64_t indirect_ms, end_ms;
    uint64_t wall_ms; /* ours, when it began */
    bool indirect;
    uint8_t n_helpers, n_nacks;
};

/* A ping on behalf of another. */
struct favour {
    uint32_t from; /* NODE_NONE: free */
    uint64_t from_number, number;
    uint64_t nack_ms, end_ms;
    bool nacked;
};

struct membership {
    struct node *nodes[LIMIT_NODES_MAX]; /* by handle; 0 is this node */
    uint32_t order[LIMIT_NODES_MAX];     /* handles of all others, shuffled at times */
    uint32_t n_order, order_at;
    uint32_t n_there; /* alive or suspect, this node included */
    uint32_t (*intern)(void *ctx, const struct wire_id *id);
    void *ctx;
    struct prng prng;
    uint64_t now_ms;
    uint64_t wall_ms;
    struct {
        enum clock_judgement {
            CLOCK_NOT_JUDGED,
            CLOCK_IS_RIGHT,
            CLOCK_IS_OFF
        } verdict;
        uint64_t behind_ms;
        int64_t offset_ms;   /* wall clock less monotonic clock */
        int64_t told_ms;     /* the same, as last announced */
        uint64_t stepped_ms; /* the last time that it changed all at once; at first, the start */
        bool changed;        /* to be announced */
    } clock;
    struct {
        struct ring *held; /* NULL: none yet */
        enum ring_hunt {
            RING_IDLE,
            RING_ASKED,
            RING_TAKEN
        } hunt;
        bool behind;         /* somebody may have a newer one that we want */
        uint32_t asked;      /* ASKED: whom */
        uint64_t rest_ms;    /* nobody is asked before */
        uint64_t due_ms;     /* IDLE: not asked for before; ASKED: then another is asked */
        uint64_t without_us; /* highest epoch of a ring that does not name this node */
        uint64_t tell_ms;    /* when this time of telling began */
        uint32_t n_told;     /* rings in it */
    } ring;
    uint64_t next_number;
    struct probe probes[PROBES_MAX];
    struct favour favours[FAVOURS_MAX];
    uint64_t probe_ms, rumour_ms, sync_ms, revive_ms; /* when they are due */
    struct list telling[SENDS_MAX];
    struct list suspects;
    struct list changed;
    uint32_t n_telling;
    bool outdated; /* to be announced */
    uint64_t outdated_boot;
    bool stopping;
    struct membership_stats stats;
    /* Of this step: */
    struct wire_rumour told[STEP_RUMOURS];
    uint32_t n_told;
    struct wire_rumour *all; /* a whole table, or NULL */
};

/* Room for one more unit of work. */
static inline bool has_room(const struct membership_effects *out)
{
    return out->n + UNIT_EFFECTS <= MEMBERSHIP_EFFECTS_MAX;
}

/* ---- membership_table.c */
/* The node's entry, made if need be; NULL: no memory, or no handle. */
struct node *table_intern(struct membership *m, const struct wire_id *id);
struct node *table_node(const struct membership *m, uint32_t handle);
/* Takes what is newer in it. */
void table_learn(struct membership *m, const struct wire_rumour *r);
/* It was heard, with that boot. */
void table_heard(struct membership *m, struct node *n, uint64_t boot);
/* It does not answer this node, unless it is known to be gone. */
void table_suspect(struct membership *m, struct node *n);
/* Suspects whose time is over are down. */
void table_expire(struct membership *m);
uint64_t table_expiry_ms(const struct membership *m);
/* The clock stood still for us. */
void table_postpone(struct membership *m, uint64_t ms);
uint64_t table_digest(const struct membership *m);
bool node_is_there(const struct node *n);
void table_set_load(struct node *n, const struct wire_load *load);
void table_stop(struct membership *m);
int table_set_profile(struct membership *m, struct node *n, const struct wire_profile *profile);

/* ---- membership_tell.c */
/* Sends with as many rumours as fit; those about the receiver first. */
void tell(struct membership *m, struct node *to, enum wire_gossip_kind kind, uint64_t number,
          const struct wire_id *target, struct membership_effects *out);
/* All that is known. */
void tell_all(struct membership *m, struct node *to, enum wire_gossip_kind kind,
              struct membership_effects *out);
/* There is news of this node: from now on it is told. */
void tell_news(struct membership *m, struct node *n, bool of_profile);
/* A random node that fits and is none of `except`, handles; or NULL. */
typedef bool node_fits_fn(const struct node *n);
struct node *pick_node(struct membership *m, node_fits_fn *fits, const uint32_t *except,
                       uint32_t n_except);

/* ---- membership_clock.c */
/* The time of this step. */
void clock_watch(struct membership *m, uint64_t wall_ms);
/* A node that was asked when our clock showed asked_ms has answered that its own shows said_ms. */
void clock_said(struct membership *m, struct node *n, uint64_t asked_ms, uint64_t said_ms);
/* The verdict, from what is known now. */
void clock_judge(struct membership *m);

/* ---- membership_ring.c */
/* A node says which ring it has. */
void ring_said(struct membership *m, struct node *n, uint64_t epoch);
void ring_said_hello(struct membership *m, struct node *n, uint64_t epoch);
void ring_set(struct membership *m, struct ring *ring);
void ring_lost(struct membership *m);
void ring_asked(struct membership *m, uint32_t handle, uint64_t epoch,
                struct membership_effects *out);
void ring_replied(struct membership *m, uint32_t handle, const struct wire_ring *wire,
                  struct membership_effects *out);
/* What is due. There is room. */
void ring_run(struct membership *m, struct membership_effects *out);
uint64_t ring_deadline_ms(const struct membership *m);

/* ---- membership_probe.c */
void probe_start(struct membership *m, struct node *target, struct membership_effects *out);
/* The next in order, or NULL. */
struct node *probe_next(struct membership *m);
void probe_acked(struct membership *m, struct node *from, const struct wire_gossip *g,
                 struct membership_effects *out);
void probe_nacked(struct membership *m, uint64_t number);
void probe_favour(struct membership *m, struct node *from, uint64_t number,
                  const struct wire_id *target, struct membership_effects *out);
/* What is due, as far as there is room. False: there is more. */
bool probe_run(struct membership *m, struct membership_effects *out);
uint64_t probe_deadline_ms(const struct membership *m);
void probe_postpone(struct membership *m, uint64_t ms);
void health_change(struct membership *m, int by);
/* A time, while we are well; longer while we are not. */
uint64_t patience(const struct membership *m, uint64_t ms);

#endif
