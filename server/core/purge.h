/* purge: rounds that let the tombstones of a partition go.
 *
 * A tombstone may go when no older value of its key can come back: when every slot of the partition
 * holds it (or something newer), and refuses everything older from then on. A round makes sure of
 * both. Any one owner drives it; here the primary's:
 *
 *   INFO     are there tombstones worth a round?
 *   OPEN     every slot refuses what is pushed at or below the floor, which is now minus an age
 *   LIST     every slot says what it holds; leaves in which not all are equal are asked for again,
 *   DETAIL   now without what lies above the floor: that may go on changing
 *   FREEZE   every slot drops its own requests, and says whether anything at or below the floor has
 *            come in since it was asked for its list
 *   CLOSE    all equal, all frozen, nothing came in: tombstones up to the floor may go
 *
 * Everything is bound to the slots, incarnations and fence version with which the round began: a
 * ring that changes the partition's entry abandons it, as does a slot that is down or does not
 * answer. An abandoned round costs nothing but its work: slots thaw by themselves, and a floor that
 * stays opened refuses only what is older than the age. Rounds of two drivers side by side do no
 * harm. What a slot missed of CLOSE it learns from its next comparison with another.
 *
 * Lists that differ are not mended here: that is antientropy's work, which is told to look soon;
 * then the slots are asked again, of the leaves in which they still differ. An agreement on a leaf
 * holds as long as nothing at or below the floor enters, whatever is written above it.
 *
 * The age only keeps floors out of the way of writes that are under way; nothing depends on it, or
 * on any clock being right.
 *
 * The order of the steps, and what goes wrong without each, was found with a model: purge.c.
 * Private to server/core.
 */
#ifndef QUOIT_CORE_PURGE_H
#define QUOIT_CORE_PURGE_H

#include "server/core/core.h"

/* A round reads the whole zone to find its tombstones, so it waits until one record in so many is
 * one, or for PURGE_PERIODS_MAX periods: a day by default. */
#define PURGE_SHARE 16u
#define PURGE_PERIODS_MAX 144u
/* All answers to a step. Shorter than FLOOR_FREEZE_MS. */
#define PURGE_ANSWER_MS 2000u
/* Lists of leaves, which may be large and are read beside other work. */
#define PURGE_LIST_MS 30000u
/* Before slots that differed, or were busy, are asked again; and how often. */
#define PURGE_AGAIN_MS 500u
#define PURGE_TRIES 10u
/* Leaves that may differ: more than writes under way explain. */
#define PURGE_DIFFER_MAX LIMIT_PULL_LEAVES
/* Begun at most so often by one worker: a thousand partitions within minutes, in the background. */
#define PURGE_PAUSE_MS 50u
/* Turns that come so close together are taken at one wake-up. */
#define PURGE_BATCH_MS 1000u

/* Cookies of EFFECT_INFO need no marks: nobody else asks. */

enum purge_stage {
    PURGE_IDLE,
    PURGE_INFO,   /* counts of the partition are on their way */
    PURGE_ASKED,  /* all slots have been asked for `step` */
    PURGE_WAITING /* asks for `step` at until_ms */
};

struct purge_slot {
    bool answered, listed;
    uint64_t entered; /* as of its first list */
};

struct purge {
    uint64_t age_ms; /* 0: no rounds are made */
    uint32_t n;      /* partitions */
    struct purge_turn {
        uint64_t due_ms;
        uint32_t n_passed; /* turns since the last round */
    } * turns;
    uint32_t cursor;
    uint64_t look_ms;

    uint8_t stage; /* enum purge_stage */
    enum wire_purge_step step;
    uint32_t generation, partition;
    uint64_t question, until_ms, floor;
    uint32_t n_tries;
    bool drives; /* the round of the partition is ours; else it is only looked at */
    struct ring_entry entry;
    struct purge_slot slots[LIMIT_SLOTS_MAX];
    int error;              /* of an answer to this step */
    bool entered_since;     /* by an answer to this step */
    struct blob *reference; /* the first list of this step */
    bool *differs;          /* [leaves of a partition] */
    uint32_t n_differ;
    uint32_t n_leaves; /* asked for in detail; 0: all */
    uint32_t leaves[PURGE_DIFFER_MAX];
    struct worker_purge_stats stats;
};

int purge_init(struct worker *w, uint64_t age_ms); /* 0 or -ERR_NO_MEMORY */
void purge_deinit(struct worker *w);
/* 0 or -ERR_NO_MEMORY */
int purge_recv_ring(struct worker *w);
void purge_recv_info(struct worker *w, const struct event *in);
void purge_recv_reply(struct worker *w, const struct wire_peer *msg);
/* False: no room. */
bool purge_drain(struct worker *w, struct effects *out);
uint64_t purge_deadline_ms(const struct worker *w);

#endif
