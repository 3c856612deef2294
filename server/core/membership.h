/* membership: who is there: SWIM with Lifeguard's refinements, over control links. Pure.
 *
 * Each node has one. It decides nothing but whom to ask first: who is believed to be alive, never
 * who owns what. See membership.c for the protocol, membership_impl.h for its parts.
 *
 *     int      membership_step(m, event, effects)    0, or STEP_MORE (event.h)
 *     uint64_t membership_deadline_ms(m)
 *
 * (Das, Gupta, Motivala: "SWIM", 2002. Dadgar, Phillips, Currey: "Lifeguard", 2017.)
 */
#ifndef QUOIT_CORE_MEMBERSHIP_H
#define QUOIT_CORE_MEMBERSHIP_H

#include "server/core/event.h"
#include "server/core/ring.h"

/* ---- parameters; the table of tests/sim/README.md shows what they lead to -------------------- */

/* One member is probed in so many ms, in random order: a death is met by somebody within about one
 * and a half of them, whatever the size of the cluster. */
#define MEMBERSHIP_PROBE_MS 200u
/* An answer that takes longer is asked for through others as well: some times what a busy node
 * needs. */
#define MEMBERSHIP_PING_MS 100u
/* So many others are asked to ping it. */
#define MEMBERSHIP_HELPERS 3u
/* What has not been told often enough is told to so many members, so often. */
#define MEMBERSHIP_RUMOUR_MS 100u
#define MEMBERSHIP_RUMOUR_NODES 3u
/* Rumours in one message. */
#define MEMBERSHIP_RUMOURS 32u
/* Each is sent this often, times the number of decimal digits of the size of the cluster. */
#define MEMBERSHIP_SENDS 6u
/* A suspect has so many periods, times log10 of the size of the cluster (at least 1), to refute:
 * time for the suspicion to reach it and for its answer to reach everybody. In tenths. */
#define MEMBERSHIP_SUSPECT_TENTHS 25u
/* While nobody else suspects it, so many times longer; with two others, once. */
#define MEMBERSHIP_SUSPECT_ALONE 6u
#define MEMBERSHIP_CONFIRMATIONS 2u
/* All that is known is compared with one member, so often: heals what rumours missed. */
#define MEMBERSHIP_SYNC_MS 10000u
/* One of those that are down is pinged, so often: the end of a partition is noticed. */
#define MEMBERSHIP_REVIVE_MS 1000u
/* Local health (Lifeguard): signs of being slow oneself make one patient with others. */
#define MEMBERSHIP_HEALTH_MAX 8u
/* A step that comes so late shows that it was us who stood still. */
#define MEMBERSHIP_LATE_MS 50u
/* A newer ring is asked for so often at most, and of one node at a time. */
#define MEMBERSHIP_RING_ASK_MS 50u
/* Then another one is asked: longer than the largest ring (1 MiB) takes on 10 Mbit/s. */
#define MEMBERSHIP_RING_ANSWER_MS 2000u
/* One that had no answer, or whose ring could not be kept, is left alone for so long. */
#define MEMBERSHIP_RING_RETRY_MS 500u
/* Rings told in such a time; who asks beyond is told to ask another: by then there are more who
 * have it. */
#define MEMBERSHIP_RING_TELLS 32u
#define MEMBERSHIP_RING_TELL_MS 1000u
/* Our wall clock is judged by what so many others have said of theirs (all, if there are fewer),
 * none of it older than this. */
#define MEMBERSHIP_CLOCK_SAID 3u
#define MEMBERSHIP_CLOCK_SAID_MS 5000u
/* Where nobody is there to be asked for so long, it is taken for right. */
#define MEMBERSHIP_CLOCK_ALONE_MS 2000u

/* ---- the seam -------------------------------------------------------------------------------- */

enum membership_event_type {
    MEMBERSHIP_TICK = 1,
    MEMBERSHIP_MORE,       /* go on after STEP_MORE */
    MEMBERSHIP_MESSAGE,    /* of a node, over its control link */
    MEMBERSHIP_LINK_UP,    /* a control link: the node has said who it is */
    MEMBERSHIP_LINK_DOWN,  /* it broke, or could not be made */
    MEMBERSHIP_EXPECT,     /* members of a ring: they are looked for */
    MEMBERSHIP_RING,       /* the ring that this node serves from now on; it is durable */
    MEMBERSHIP_RING_LOST,  /* the ring that was to be taken could not be made durable */
    MEMBERSHIP_RING_ASKED, /* a node asks for our ring */
    MEMBERSHIP_RING_REPLY, /* a node answers that question of ours */
    MEMBERSHIP_LOAD,       /* what this node holds and does now */
    MEMBERSHIP_STOP        /* this node is stopping: tell them */
};

struct membership_event {
    enum membership_event_type type;
    uint64_t now_ms;
    uint64_t wall_ms; /* since 1970; 0: nobody wants to know whether it is right */
    union {
        struct {
            uint32_t node;
            const struct wire_gossip *gossip;
            uint64_t ring_epoch; /* of its envelope */
        } message;
        struct {
            uint32_t node;
            struct wire_id id;
            uint64_t boot, ring_epoch; /* LINK_UP: of its hello */
        } link;
        struct {
            const struct wire_member *members; /* this node may be among them */
            size_t n;
        } expect;
        struct ring *ring; /* RING; a reference is taken */
        struct {
            uint32_t node; /* UINT32_MAX: no member of our ring */
            uint64_t ring_epoch;
        } asked;
        struct {
            uint32_t node;
            const struct wire_ring *ring; /* NULL: it refuses */
        } reply;
        struct wire_load load; /* its number is not looked at */
    } u;
};

enum membership_effect_type {
    MEMBERSHIP_SEND = 1, /* over the control link, which is made if there is none; may be lost */
    MEMBERSHIP_CHANGED,  /* a node's state, boot or profile: ask membership_view */
    MEMBERSHIP_OUTDATED, /* another process with our id has a higher boot: ours is an old image */
    MEMBERSHIP_CLOCK,    /* our wall clock has been judged */
    MEMBERSHIP_RING_ASK, /* ask the node for its ring; may be lost */
    /* Answer who asked, within this step, with the ring, or with `error`. */
    MEMBERSHIP_RING_TELL,
    /* The ring of this step's REPLY, of `node`, is good: sync it, then serve it, and say RING; or
     * RING_LOST. */
    MEMBERSHIP_RING_TAKE,
    MEMBERSHIP_RING_REFUSED /* the ring of `node` is not taken: `why` */
};

struct membership_effect {
    enum membership_effect_type type;
    uint32_t node;
    struct wire_gossip gossip; /* SEND; its rumours live until the next step */
    uint64_t boot;             /* OUTDATED */
    int error;                 /* RING_TELL: positive err number, 0 = none */
    const char *why;           /* RING_REFUSED: static */
    struct {
        bool right;         /* not ahead */
        int64_t offset_ms;  /* wall clock less monotonic clock: what was judged */
        uint64_t behind_ms; /* so far behind at least; 0: not, or less than what is granted */
    } clock;                /* CLOCK */
};

#define MEMBERSHIP_EFFECTS_MAX 64u

struct membership_effects {
    uint32_t n;
    struct membership_effect list[MEMBERSHIP_EFFECTS_MAX];
};

struct membership_config {
    struct wire_profile profile; /* this node's, copied; its number is not looked at */
    uint64_t boot;
    uint64_t seed;
    uint64_t now_ms;
    /* A node's handle (ring.h) below LIMIT_NODES_MAX, or UINT32_MAX when there are too many. Handle
     * 0 is this node. */
    uint32_t (*intern)(void *ctx, const struct wire_id *id);
    void *ctx;
};

/* How a node is seen from here. Slices live until the next step. */
struct membership_view {
    struct wire_id id;
    enum wire_member_state state;
    uint64_t boot;
    uint64_t since_ms;                  /* in this state */
    uint64_t heard_ms;                  /* of the node itself; 0: never */
    const struct wire_profile *profile; /* NULL: not known */
    struct wire_load load;
};

struct membership_stats {
    uint64_t n_sent, n_probes, n_failed_probes, n_refuted; /* refuted: suspicions of this node */
    uint32_t health;                                       /* 0: well */
};

struct membership;

struct membership *membership_new(const struct membership_config *config); /* NULL: no memory */
void membership_free(struct membership *m);
int membership_step(struct membership *m, const struct membership_event *in,
                    struct membership_effects *out);
uint64_t membership_deadline_ms(const struct membership *m);
/* False: never heard of. */
bool membership_view(const struct membership *m, uint32_t node, struct membership_view *ret);
void membership_stats(const struct membership *m, struct membership_stats *ret);

#endif
