/* register: the one place where it is decided which ring follows which. Pure.
 *
 *     void     register_step(r, event, effects)
 *     uint64_t register_deadline_ms(r)               when it next wants a REGISTER_TICK
 *
 * Each member has one. Its voter's half (register_acceptor.c) keeps promises and what it has
 * accepted; its proposer's half (register_proposer.c) reads the ring and changes it, one operation
 * at a time. Only the halves of those named as voters count. (Rystsov: "CASPaxos", 2018.)
 *
 * A ring of epoch e + 1 is computed by the caller from the decided ring of epoch e, and takes its
 * place or does not. The attempt has a ballot, never used again, and two phases:
 *
 *   PREPARE   the voters promise to take nothing of a lower ballot, and tell what each of them has
 *             accepted. Of that, the one with the highest ballot is what the register holds, or may
 *             come to hold: the ring read.
 *   ACCEPT    they are sent a ring under that ballot: the caller's, if the ring read is the one
 *             that it was computed from; else the ring read itself, unchanged.
 *
 * Rules, each of which something is lost without (tests/sim/registers.c, tests/spin/voters.pml):
 *
 *   V1  An attempt asks the voters of one ring, in both phases.
 *   V2  These are the voters of the ring that it reads; to finish what it reads, those of the ring
 *       before that serve as well. If they are neither, the attempt is given up.
 *   V3  A ring differs by one voter from the one before: added or removed, never exchanged.
 *   V4  A new voter is sent the ring that names it, and has it on disk, before the others are
 *       sent it: it is never needed for a majority without being there.
 *   V5  A ring is decided when majorities of its own voters and of those of the ring before it have
 *       accepted it under one ballot; also when it is only written again. So a ring travels with
 *       the voters before it.
 *   V6  A voter keeps apart what it has accepted and what it knows to be decided. Only what is
 *       decided is served, told to others, or believed after a restart.
 *   V7  A ring follows only one that was known to be decided when the attempt began. What was read
 *       and is not is first written again, as it is.
 *
 * Why it holds. Say epoch e is decided, as D, and all later ballots propose D or what follows it.
 * Of the rings that follow D directly let W be the one that is decided first, under ballot b. A
 * later attempt can propose a rival of W only if it reads D or another child of D, from a majority
 * of the voters of that one or of the ring before it. Either set differs from D's voters by one at
 * most, so that majority meets the majority of D's voters that has accepted W; whoever is in both
 * tells W, or has refused it. What is further from D than its children had a decided parent (V7),
 * which is W. So after b there is only W and what follows it, and epoch e + 1 is W for ever.
 *
 * Epoch 1 is decided by form.h: all nodes have synced it before any serves, so where a majority has
 * accepted nothing, that is what the register holds.
 *
 * Everything that a voter says is on disk when it says it. What is lost is asked for again by a new
 * attempt after a while, drawn at random, so that two proposers do not hinder each other for ever.
 */
#ifndef QUOIT_CORE_REGISTER_H
#define QUOIT_CORE_REGISTER_H

#include "proto/wire.h"

/* An attempt that has come so far is given up: longer than the largest ring takes to seven voters
 * and into their logs, on a network of 100 Mbit/s. */
#define REGISTER_ROUND_MS 3000u
/* A rest before the next attempt, doubled each time, half of it to one and a half times at random:
 * from some rounds of two messages and syncs. */
#define REGISTER_REST_MS 20u
#define REGISTER_REST_MAX_MS 1000u
/* Attempts in a row without a rest that each find newer voters, of a later epoch each: more changes
 * of voters are seldom missed. */
#define REGISTER_HOPS 8u
/* Questions that wait while one is being written; of each node the newest. More proposers than that
 * at a time are told nothing, and try again. Each may hold a ring: 3 MiB at 1000 members and 16384
 * partitions, never more than 8 * LIMIT_REGISTER_RING_BYTES. */
#define REGISTER_WAITING_MAX 8u
/* Those named by two neighbouring rings. */
#define REGISTER_ASKED_MAX (LIMIT_VOTERS_MAX + 1u)

enum register_event_type {
    REGISTER_TICK = 1,
    REGISTER_MESSAGE, /* of a node, over its control link */
    REGISTER_STORED,  /* done: REGISTER_STORE */
    REGISTER_RING,    /* a newer decided ring has come to this node */
    REGISTER_CHANGE,  /* compare and set */
    REGISTER_READ     /* which ring holds? */
};

struct register_event {
    enum register_event_type type;
    uint64_t now_ms; /* monotonic */
    union {
        struct {
            struct wire_id from;
            const struct wire_peer *msg; /* one of PEER_REGISTER_...; borrowed */
        } message;
        struct {
            uint64_t cookie;
            int error; /* 0: durable; negative */
        } stored;
        struct slice ring; /* RING: packed; borrowed */
        struct {
            uint64_t id;       /* the caller's: comes back with the outcome */
            uint64_t until_ms; /* no outcome later than this */
            struct slice
                ring; /* packed, of the epoch after the one it was computed from; borrowed */
        } change;
        struct {
            uint64_t id, until_ms;
        } read;
    } u;
};

enum register_outcome {
    REGISTER_DECIDED = 1, /* the caller's ring, or for a read the ring that holds */
    REGISTER_CONFLICT, /* another ring holds: the caller's has lost, or was not proposed at all */
    /* The caller's ring may be decided, or come to be, or not: read again. With the ring that
     * holds, if one was read: it is later than the caller's, which may be before it. */
    REGISTER_UNKNOWN,
    REGISTER_NOTHING, /* no quorum in time; the caller's ring was not proposed to anybody */
    REGISTER_REFUSED, /* the caller's ring must not follow: why */
    REGISTER_BUSY     /* another operation is under way */
};

enum register_effect_type {
    REGISTER_SEND = 1, /* msg to node `to`, over its control link; may be lost */
    REGISTER_STORE,    /* make the fact durable, then REGISTER_STORED */
    /* It is decided that this is the ring of its epoch: newer than any that this machine knew. To
     * be synced and served (REGISTER_RING need not be said then), and told to others. */
    REGISTER_PUBLISH,
    REGISTER_DONE /* an operation has its outcome */
};

struct register_effect {
    enum register_effect_type type;
    struct wire_id to;    /* SEND; never this node */
    struct wire_peer msg; /* SEND; its bytes live until the next step */
    uint64_t cookie;      /* STORE */
    const char *name;     /* STORE: a name of register_facts.h */
    struct slice value;   /* STORE; lives until the next step */
    uint64_t id;          /* DONE */
    enum register_outcome outcome;
    const char *why;   /* DONE, REFUSED: static */
    uint64_t epoch;    /* PUBLISH, DONE with a ring */
    struct slice ring; /* the same: packed; lives until the next step */
};

/* Two rounds of questions in one step, and what comes of them. */
#define REGISTER_EFFECTS_MAX (4 * REGISTER_ASKED_MAX)

struct register_effects {
    uint32_t n;
    struct register_effect list[REGISTER_EFFECTS_MAX];
};

struct register_config {
    struct wire_id self;
    uint64_t boot; /* synced, higher at each start: with the id it makes ballots unique for ever */
    uint64_t seed; /* for the length of rests */
    /* Facts of register_facts.h, as found in the store; empty: not there. */
    struct slice promise, accepted;
    struct slice ring; /* the ring that this node serves, packed: decided */
};

struct register_stats {
    uint64_t n_rounds;    /* attempts begun */
    uint64_t n_hops;      /* given up for other voters (V2) */
    uint64_t n_failed;    /* given up because refused, or for time */
    uint64_t n_dropped;   /* messages that were malformed, or too many */
    uint64_t n_forgotten; /* majorities that knew less than was decided: disks were set back */
};

struct ring_register;

/* 0, -ERR_CORRUPT, -ERR_FORMAT (a fact), -ERR_BAD_REQUEST (the ring), -ERR_NO_MEMORY. */
int register_new(const struct register_config *config, struct ring_register **ret);
void register_free(struct ring_register *r); /* accepts NULL */
void register_step(struct ring_register *r, const struct register_event *in,
                   struct register_effects *out);
uint64_t register_deadline_ms(const struct ring_register *r);
void register_stats(const struct ring_register *r, struct register_stats *ret);

#endif
