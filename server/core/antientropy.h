/* antientropy: replicas find out in what they differ, and each fetches what it lacks.
 *
 * A worker compares, for each partition that it owns, its own slot with each other READY slot, by
 * the hash tree (tree.h), and pulls the records that the other has and it has not, or has in a
 * higher version. Nothing is ever pushed: both sides of a difference ask. What arrives is merged as
 * state, so it does not matter what else happens to the key meanwhile.
 *
 *   antientropy.c          sessions: one comparison of a pair, from its first question to its end
 *   antientropy_pairs.c    which pair is next, and when
 *   antientropy_missed.c   and in which order, when a node is back
 *   antientropy_pull.c     the part of a session that fetches records
 *   replica_compare.c      the other side: answers to COMPARE
 *   replica_pull.c         and to PULL
 *
 * Private to server/core.
 */
#ifndef QUOIT_CORE_ANTIENTROPY_H
#define QUOIT_CORE_ANTIENTROPY_H

#include "server/core/core.h"
#include "server/core/tree.h"
#include <assert.h>

/* Comparisons that one worker has under way: enough to hide the network's round trips, few enough
 * that their memory (a leaf vector each, 8 KiB of 1024 partitions) is nothing. */
#define ANTIENTROPY_SESSIONS 8u
/* Of these with one node. */
#define ANTIENTROPY_NODE_SESSIONS 6u
/* A question that is not answered so long will not be; the link that carries it is likely gone. */
#define ANTIENTROPY_ANSWER_MS 5000u
/* After that its node is not asked anything for a while. */
#define ANTIENTROPY_MUTE_MS 10000u
/* Versions younger than this are left to the write that is bringing them. Not on the first
 * comparison after a return: what is young there was missed. */
#define ANTIENTROPY_QUIET_MS 5000u
/* Pairs that differ and had nothing to pull are looked at again after so long, then after twice as
 * long and so on, up to a round. */
#define ANTIENTROPY_AGAIN_MS 2000u
/* Whoever hears that another slot differs from its own looks after so long: that one is likely to
 * be fetching what it lacks, and then both are equal. */
#define ANTIENTROPY_ECHO_MS 500u
/* After something was pulled, both should be equal: that is looked at soon. */
#define ANTIENTROPY_VERIFY_MS 100u
/* A pair stays urgent until it is equal, or so many comparisons in a row brought nothing. */
#define ANTIENTROPY_URGENT_TRIES 3u
/* Pairs that become due so close together are begun at one wake-up. */
#define ANTIENTROPY_BATCH_MS 1000u
/* What is due and cannot be begun is looked at again. */
#define ANTIENTROPY_RETRY_MS 100u
/* Bytes of keys and values pulled per second and worker: a fifth of what a disk of today takes. */
#define ANTIENTROPY_BYTES_PER_S (32u << 20)
/* However short a record, it counts as so many: for its place in the log and its share of a page,
 * the disk writes half a kilobyte and more. */
#define ANTIENTROPY_RECORD_BYTES_MIN 512u
/* So far ahead of its share pulling may be before it rests: timers are no finer, and small answers
 * would wait for one each. */
#define ANTIENTROPY_AHEAD_MS 10u
/* Of this worker's time, at most one part in so many goes into reading its own trees, while nobody
 * has just come back. */
#define ANTIENTROPY_TIME_SHARE 20u
/* Leaf vectors that are kept for the second question about the same partition, so long. */
#define ANTIENTROPY_VIEWS 16u
#define ANTIENTROPY_VIEW_MS 2000u

/* Cookies of store effects: this bit, which a pending's never has. Never COOKIE_CLOCK. */
#define ANTIENTROPY_COOKIE ((uint64_t)1 << 63)

/* ---- the leaves of a partition, as last read ------------------------------------------------- */

struct tree_view {
    uint32_t partition;
    uint64_t at_ms;
    uint64_t lsn;        /* what they reveal */
    struct blob *leaves; /* uint64_t each; NULL: none */
};

struct tree_views {
    struct tree_view list[ANTIENTROPY_VIEWS];
    uint32_t next; /* is replaced next */
};

/* Takes a copy. NULL: out of memory. */
const struct tree_view *tree_views_put(struct worker *w, uint32_t partition, const uint64_t *leaves,
                                       size_t n, uint64_t lsn);
/* One that is not old, or NULL. */
const struct tree_view *tree_views_get(const struct worker *w, uint32_t partition);

/* ---- hints ----------------------------------------------------------------------------------- */

/* Whoever asks us for what it lacks tells what it has, and so where we lack something: the leaves,
 * kept for our own question to it, which then needs no descent. */
#define ANTIENTROPY_HINTS 16u
#define ANTIENTROPY_HINT_LEAVES 512u

struct hint {
    uint32_t partition, slot, n; /* n 0: none */
    uint32_t leaves[ANTIENTROPY_HINT_LEAVES];
};

/* leaves: growing. */
void antientropy_hint(struct worker *w, uint32_t partition, uint32_t slot, const uint32_t *leaves,
                      uint32_t n);

/* ---- pairs ----------------------------------------------------------------------------------- */

/* This node's slot of a partition, and the other slot of that number. */
struct pair {
    uint64_t due_ms;
    uint64_t missed_ms; /* we took a put that it did not get, its node being away; 0: none known */
    bool urgent;        /* the other's node has just come back */
    bool differs;       /* as of the last comparison, ours or theirs */
    uint8_t n_vain;
};

/* Urgent pairs that have missed something, the newest first. */
struct missed_pair {
    uint64_t missed_ms;
    uint32_t pair; /* index into pairs */
};

struct missed {
    bool anyone_gone; /* of the ring's members */
    struct missed_pair *list;
    uint32_t n, at; /* what is before `at` is done with */
};

/* Of the list, so many are looked at for one that can be begun. */
#define MISSED_LOOKS 64u

/* ---- sessions -------------------------------------------------------------------------------- */

enum session_stage {
    SESSION_FREE,
    SESSION_LEAVES,  /* reads its own leaves */
    SESSION_GATE,    /* what it is about to say is not durable yet */
    SESSION_COMPARE, /* asked for parts */
    SESSION_SCAN,    /* reads its own records of leaves that differ */
    SESSION_REST,    /* has pulled more than its share; goes on at until_ms */
    SESSION_PULL,    /* asked for records */
    SESSION_MERGE,   /* gives them to the store */
    SESSION_DRAIN    /* has ended; what it gave to the store has not all arrived */
};

/* A store key, or none. */
struct place {
    size_t len;
    uint8_t key[STORE_CURSOR_BYTES_MAX];
};

static inline struct slice place_slice(const struct place *p)
{
    return slice_of(p->key, p->len);
}

/* key: a store key; wire.h bounds those of messages. */
static inline void place_set(struct place *p, struct slice key)
{
    assert(key.len <= sizeof(p->key));
    p->len = key.len;
    if (key.len)
        memcpy(p->key, key.data, key.len);
}

/* Where a session stands among the leaves that differ (session.arcs, by index). One question is
 * about the leaves at .. end - 1, of the first only what comes after `after`, of the last only up
 * to `until`. */
struct pull {
    uint32_t at, end;
    struct place after, until;
    uint32_t scan_at, scan_end; /* the scan for it covers scan_at .. scan_end - 1 */
    struct place scanned;       /* and stands here */
    struct blob *known_blob;
    struct wire_known *known;
    size_t n_known;
    struct blob *blob; /* records that came, and their bytes */
    const struct wire_record *records;
    uint32_t n_records, n_emitted, n_merging;
};

struct session {
    uint8_t stage;
    uint8_t gate_stage; /* GATE: which stage asked */
    uint32_t generation;
    uint32_t partition, own_slot, slot, node, fence;
    uint64_t own_incarnation, incarnation;
    uint64_t closed; /* own purge floor when it began */
    bool urgent;
    bool young, differs; /* seen on the way */
    bool failed;         /* a record could not be merged */
    uint64_t question;   /* id of the message that is to be answered */
    uint64_t until_ms;   /* COMPARE, PULL: given up then */
    uint64_t lsn;        /* what its questions reveal */
    uint64_t digest;     /* own, of the partition */
    uint64_t salt;       /* of the question */
    struct blob *leaves; /* own */
    struct blob *arcs_blob;
    uint32_t bits;         /* level of arcs */
    uint32_t *arcs, *next; /* those that differ; and of the next level */
    uint32_t n_arcs, at, n_asked, n_next;
    uint64_t n_pulled;
    struct pull pull;
};

struct antientropy {
    uint64_t round_ms; /* 0: off */
    uint32_t n_partitions, n_slots;
    struct pair *pairs; /* [n_partitions * n_slots] */
    uint32_t cursor;    /* is looked at next */
    struct missed missed;
    uint64_t look_ms; /* when to look for due pairs */
    uint64_t rest_us; /* no further tree of a pair that is not urgent before this */
    uint64_t pull_us; /* what was pulled is its share up to here */
    uint64_t n_questions;
    bool more_due; /* the last look did not go all the way round */
    uint32_t n_sessions;
    struct session sessions[ANTIENTROPY_SESSIONS];
    struct tree_views views;
    struct hint hints[ANTIENTROPY_HINTS];
    uint32_t next_hint; /* is replaced next */
    struct worker_repair_stats stats;
};

/* 0 or -ERR_NO_MEMORY. round_ms 0: only answers. */
int antientropy_init(struct worker *w, uint64_t round_ms);
void antientropy_deinit(struct worker *w);
void antientropy_recv_ring(struct worker *w);
/* A node has come (back): compare with it at once. */
void antientropy_node_back(struct worker *w, uint32_t node);
void antientropy_node_gone(struct worker *w, uint32_t node);
/* A slot of ours takes a put of a client. */
void antientropy_note_put(struct worker *w, uint32_t partition);
/* Our own records there are not what they were, though nobody has written: compare them at once. */
void antientropy_range_changed(struct worker *w, struct store_range range);
void antientropy_recv_leaves(struct worker *w, const struct event *in, struct effects *out);
void antientropy_recv_scanned(struct worker *w, const struct event *in, struct effects *out);
void antientropy_recv_stored(struct worker *w, const struct event *in);
void antientropy_recv_reply(struct worker *w, const struct wire_peer *msg, struct effects *out);
/* Time was spent on reading a tree. */
void antientropy_charge(struct worker *w, uint32_t cost_us);
/* Whoever asks us differs from us, or is equal. slot: theirs. */
void antientropy_heard(struct worker *w, uint32_t partition, uint32_t slot, bool equal);
/* Ends the partition's sessions: no answer to what they asked is taken any more. */
void antientropy_freeze(struct worker *w, uint32_t partition);
/* Records of the partition that were fetched are on their way into the store. */
bool antientropy_is_merging(const struct worker *w, uint32_t partition);
/* Whether this worker has something of the partition to fetch from another slot than that one, now
 * or soon. */
bool antientropy_is_busy(const struct worker *w, uint32_t partition, uint32_t slot);
/* Begins and goes on with what is due. False: no room for all of it. */
bool antientropy_drain(struct worker *w, struct effects *out);
uint64_t antientropy_deadline_ms(const struct worker *w);

/* ---- between the parts of antientropy -------------------------------------------------------- */

enum session_end {
    SESSION_EQUAL,
    SESSION_DIFFERED, /* and what there was to pull is pulled */
    SESSION_FAILED
};

/* antientropy.c: all sessions, views and hints. */
void antientropy_forget(struct worker *w);

/* antientropy_pairs.c */
struct pair *pair_of(struct worker *w, uint32_t partition, uint32_t slot);
void pair_ended(struct worker *w, struct session *s, enum session_end end);
/* The hint for the session's pair; NULL: none. */
const struct hint *hint_for(struct worker *w, const struct session *s);
void hint_drop(struct worker *w, const struct hint *h);
/* The next due pair as a session that is not begun; false: none. */
bool pair_next(struct worker *w, struct session *s);

/* antientropy_missed.c */
/* After every change of the ring or of who is there. */
void missed_look_who_is_gone(struct worker *w);
/* Puts the pairs that are urgent now in order. */
void missed_sort(struct worker *w);
/* The first due one at or after *at; false: none. */
bool missed_next(struct antientropy *a, uint32_t *at, uint64_t now_ms, uint32_t *ret_pair);
void missed_forget(struct antientropy *a);

/* antientropy.c */
/* Both slots are what they were when the session began. */
bool session_holds(const struct worker *w, const struct session *s);
/* Asks what `stage` asks (COMPARE, PULL), once what that reveals is durable. */
void session_gate(struct worker *w, struct session *s, enum session_stage stage,
                  struct effects *out);
struct store_range partition_range(const struct worker *w, uint32_t partition);
void session_end(struct worker *w, struct session *s, enum session_end end);
/* Of a session that has ended: the last of its merges has arrived. */
void session_drained(struct worker *w, struct session *s);
/* number: tells one effect of the session from another. */
uint64_t session_cookie(const struct worker *w, const struct session *s, uint32_t number);
struct session *session_of_cookie(struct worker *w, uint64_t cookie, uint32_t *ret_number);
/* Fills the envelope and sends it. */
void session_ask(struct worker *w, struct session *s, struct wire_peer *msg, struct effects *out);

/* antientropy_pull.c: with s->arcs the leaves that differ. */
void pull_start(struct worker *w, struct session *s, struct effects *out);
/* The next question, or the end. */
void pull_go_on(struct worker *w, struct session *s, struct effects *out);
void pull_ask(struct worker *w, struct session *s, struct effects *out);
void pull_recv(struct worker *w, struct session *s, const struct wire_peer *msg,
               struct effects *out);
/* False: no room. */
bool pull_merge(struct worker *w, struct session *s, struct effects *out);
void pull_free(struct worker *w, struct session *s);

#endif
