/* floor: the purge floors of this node's slots.
 *
 * A tombstone that is removed is a deletion forgotten: any copy of the older value that still
 * travels somewhere would bring it back. So each slot keeps two numbers beside its records, clocks
 * as of versions, which only grow:
 *
 *   opened    what is pushed at or below it (a put, a write-back) is refused, unless the slot holds
 *             that key at that version or newer. Whoever was refused stamps anew, or has the slot
 *             fetch the key itself.
 *   closed    all slots of the partition held the same up to there when it was closed, and nothing
 *             has come in since: so what is absent is deleted up to it. Absent answers say so, and
 *             tombstones up to it may go.
 *
 * Both are facts in the log before anybody hears of them. How they come to grow: purge.h. Between
 * the agreement of all slots and the closing of each, a slot is frozen: it has dropped its own
 * requests for records and makes none, for their answers may be older than the agreement. It thaws
 * when it has closed, or by itself after FLOOR_FREEZE_MS (the round was given up, or its driver is
 * gone); it then has nothing under way that is older than that, and takes in what others hold now.
 *
 * A worker has the floors of the partitions that it owns. Private to server/core, but for the facts
 * (floor_facts.h).
 */
#ifndef QUOIT_CORE_FLOOR_H
#define QUOIT_CORE_FLOOR_H

#include "server/core/core.h"
#include "server/core/floor_facts.h"

/* Longer than the driver waits for all to be frozen and closed. */
#define FLOOR_FREEZE_MS 3000u
/* A fact that could not be written, or a purge that could not begin, is tried again after. */
#define FLOOR_AGAIN_MS 1000u
/* What was in memory on its way to disk is left by a purge: so often it is looked whether something
 * was, at the turns of purge.h. */
#define FLOOR_LOOKS 3u

/* Cookies of store effects: these bits, which neither comparisons nor heals have all of. */
#define FLOOR_COOKIE ((uint64_t)7 << 61)

struct floor {
    uint64_t incarnation; /* of our slot; 0: we have none */
    uint64_t opened;      /* in force; read by the store while it takes an operation */
    uint64_t closed;      /* durable */
    uint64_t closing;     /* to be closed, as soon as nothing of ours is under way */
    uint64_t entered;     /* changes with each record at or below `opened` that we take in */
    uint64_t frozen_ms;   /* until then; 0: it is not */
    uint64_t writing;     /* closes by a fact that is on its way to disk; 0: none is */
    uint8_t n_looks;      /* still to be made: is something left? */
    bool fresh;           /* new with the ring that is being taken */
    bool purge;           /* there may be tombstones to remove */
};

struct floors {
    uint32_t n;
    struct floor *list;   /* [n], by partition */
    struct floors *older; /* of a ring of another shape: operations may point into it */
    uint32_t n_due;       /* how many want to close, and how many to purge */
    uint64_t look_ms;     /* when to look for them; UINT64_MAX: when something has changed */
    bool purging;         /* the store is removing tombstones of one */
};

int floors_init(struct worker *w); /* 0 or -ERR_NO_MEMORY */
void floors_deinit(struct worker *w);
/* 0, or -ERR_NO_MEMORY: this ring must not be used. facts: of all slots; those of slots that are
 * not new to the worker are older than what it knows. */
int floors_recv_ring(struct worker *w, const struct ring *ring, const struct floor_fact *facts,
                     size_t n_facts);

/* Of a partition that this worker owns and of which the node has a slot; else NULL. */
struct floor *floor_of(const struct worker *w, uint32_t partition);
/* 0 where there is none. */
uint64_t floor_closed(const struct worker *w, uint32_t partition);
/* Records may be asked for and taken in, at the moment. */
bool floor_takes_in(const struct worker *w, uint32_t partition);
/* Before a record that we asked for is given to the store. */
void floor_note_entry(struct worker *w, uint32_t partition, struct version version);
/* A tombstone that is as good as gone. */
static inline bool floor_hides(uint64_t closed, const struct state *state)
{
    return state->deleted && state->version.hlc <= closed;
}

/* Puts `floor` in force as opened, and has that written: EVENT_STORED with the cookie. False: no
 * memory, it will not be. */
bool floor_open(struct worker *w, uint32_t partition, uint64_t floor, uint64_t cookie,
                struct effects *out);
/* Ends our own requests. False: some of what they brought is still on its way into the store. */
bool floor_freeze(struct worker *w, uint32_t partition);
/* All slots agree up to `floor`: closes it as soon as nothing of ours is under way. Refused if it
 * is not opened so far. */
void floor_close(struct worker *w, uint32_t partition, uint64_t floor);

/* What was on its way into the store has arrived: a floor may have waited for it. */
void floors_look(struct worker *w);
/* Whether it is worth a look what a purge has left; and what was seen. */
bool floor_wants_look(const struct worker *w, uint32_t partition);
void floor_looked(struct worker *w, uint32_t partition, uint64_t n_tombstones);
void floors_recv_stored(struct worker *w, const struct event *in);
/* False: no room. */
bool floors_drain(struct worker *w, struct effects *out);
uint64_t floors_deadline_ms(const struct worker *w);

#endif
