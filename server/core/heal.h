/* heal: single records that are fetched from other replicas: those of ours that fail their
 * checksum, and those that a purge floor kept out. See heal.c. Private to server/core. */
#ifndef QUOIT_CORE_HEAL_H
#define QUOIT_CORE_HEAL_H

#include "server/core/core.h"

/* Records healed at a time; a damaged one that finds no room is met again by the next read, scrub
 * or comparison. */
#define HEAL_MAX 16u
/* Answers that have not come by then are not waited for. */
#define HEAL_ANSWER_MS 5000u
/* After fewer answers than are needed; then twice as long, and so on. */
#define HEAL_AGAIN_MS 2000u
#define HEAL_AGAIN_MAX_MS 300000u
/* In ids of its messages, which no operation's has. (Ids of requests that are relayed to a sibling
 * have it too, but those answers come from there.) */
#define HEAL_ID ((uint64_t)1 << 63)
/* Cookies of its store effects: of antientropy's kind, with this bit. */
#define HEAL_COOKIE ((uint64_t)3 << 62)

enum heal_stage {
    HEAL_FREE,
    HEAL_FIND,  /* reads which key of the token is damaged */
    HEAL_WAIT,  /* asks again at until_ms */
    HEAL_ASK,   /* has asked the other slots */
    HEAL_MERGE, /* has given what they have to the store */
};

struct heal {
    uint8_t stage;
    bool all_asked;
    uint8_t n_vain;
    uint32_t generation;
    uint32_t partition, fence;
    uint32_t source; /* fetch from this slot alone, 1 + its number; 0: it is damaged */
    uint64_t closed; /* own purge floor when it asked */
    uint64_t token;
    uint8_t store_key[STORE_CURSOR_BYTES_MAX];
    size_t store_key_len; /* 0: not known yet */
    uint64_t until_ms;
    struct ring_entry entry;        /* as asked */
    bool answered[LIMIT_SLOTS_MAX]; /* a state, or absent */
    uint64_t floor;
    struct state state; /* merged from those */
    struct blob *value;
};

struct heals {
    uint32_t n;
    struct heal list[HEAL_MAX];
    uint64_t n_healed, n_refused; /* refused: there was no room for it */
};

/* A record of this token is damaged: which, is still to be found. */
void heal_token(struct worker *w, uint64_t token);
/* This one is: its store key. */
void heal_record(struct worker *w, struct slice store_key);
/* Ours is older than what that slot has, which a purge floor keeps from being pushed here. */
void heal_fetch(struct worker *w, struct slice store_key, uint32_t slot);
/* No answer to what was asked for the partition is taken any more. */
void heal_freeze(struct worker *w, uint32_t partition);
/* A record of the partition is on its way into the store. */
bool heal_is_merging(const struct worker *w, uint32_t partition);
void heal_recv_reply(struct worker *w, const struct wire_peer *msg);
void heal_recv_scanned(struct worker *w, const struct event *in);
void heal_recv_stored(struct worker *w, const struct event *in);
/* False: no room. */
bool heal_drain(struct worker *w, struct effects *out);
uint64_t heal_deadline_ms(const struct worker *w);
uint32_t heal_n_damaged(const struct worker *w);
int heal_init(struct worker *w); /* 0 or -ERR_NO_MEMORY */
void heal_deinit(struct worker *w);

#endif
