/* cluster: three real workers, one per node, over store_mem.
 *
 * Messages are packed, counted, carried at once and in order, and unpacked; syncs come at once,
 * unless the disk hangs;
 * time is moved by hand. What goes wrong in between at random belongs to the simulator; here a test
 * says what does, and sees what must happen, and what it costs.
 *
 * `fate` may lose a message, or hold it until cluster_release; `on_read` is told of each read just
 * before the worker is. A node is cut off (its messages are lost, whether anybody knows or not),
 * told down, or started again over the same store. A test may ask a slot by hand, as if it were
 * another driver or coordinator.
 *
 * Fails the test by itself where something cannot be. One thread.
 */
#ifndef QUOIT_TESTS_CLUSTER_H
#define QUOIT_TESTS_CLUSTER_H

#include "server/core/ring.h"
#include "server/core/worker.h"
#include "storage/store_mem.h"
#include "tests/unit/test.h"

#define CLUSTER_NODES 3u
#define CLUSTER_COMPARE_MS 10000u
#define CLUSTER_QUEUE_MAX 65536u
#define CLUSTER_HELD_MAX 64u
#define CLUSTER_TYPES (PEER_PURGE_REPLY + 1)
#define CLUSTER_TICK_MS 20u
/* Where answers to what a test has asked by hand go. */
#define CLUSTER_HAND CLUSTER_NODES

enum cluster_fate {
    CLUSTER_CARRY = 0,
    CLUSTER_LOSE,
    CLUSTER_HOLD
};

struct cluster_message {
    uint32_t from, to;
    struct blob *bytes;
};

/* To a client. */
struct cluster_answer {
    bool done;
    int error;
    bool found;
    char value[32];
    struct version version;
    uint32_t replicas;
    size_t n_records;
};

struct cluster_options {
    uint32_t n_partitions; /* 0: 64 */
    uint32_t replicas;     /* 0: 3 */
    uint32_t purge_age_ms;
};

struct cluster {
    struct cluster_options options;
    struct worker *workers[CLUSTER_NODES];
    struct store *stores[CLUSTER_NODES];
    uint32_t boots[CLUSTER_NODES];
    struct ring *ring; /* the next to be published */
    struct arena ring_arena, arena, hand_arena;
    uint64_t now_ms, wall_ms;
    struct cluster_message queue[CLUSTER_QUEUE_MAX], held[CLUSTER_HELD_MAX];
    uint32_t at, n, n_held;
    uint64_t n_sent[CLUSTER_TYPES], n_bytes, n_lost;
    int refusals[CLUSTER_TYPES]; /* the first error of each type of answer */
    uint64_t n_purges;           /* carried out by a store */
    bool cut[CLUSTER_NODES];     /* nothing goes in or out */
    bool hung[CLUSTER_NODES];    /* its disk: no sync ends, until cluster_sync */
    enum cluster_fate (*fate)(struct cluster *c, uint32_t from, uint32_t to,
                              const struct wire_peer *msg);
    void (*on_read)(struct cluster *c, uint32_t node, enum effect_type type, uint64_t cookie);
    void *ctx; /* the test's */
    struct cluster_answer answer;
    struct wire_peer hand; /* the last answer to what was asked by hand; its bytes until the next */
    struct blob *hand_bytes;
    struct buf scratch;
};

/* options: NULL for three replicas of 64 partitions, and no purges. Nothing is published yet. */
struct cluster *cluster_new(const struct cluster_options *options);
/* All nodes learn of the ring, and of each other. */
void cluster_start(struct cluster *c);
void cluster_free(struct cluster *c);

/* ---- rings and nodes ---- */

/* A new one in c->ring, of the shape in c->options. */
void cluster_make_ring(struct cluster *c, uint64_t epoch);
/* The next epoch in c->ring: another state and incarnation of one slot, under another fence. */
void cluster_change_slot(struct cluster *c, uint32_t partition, uint32_t slot,
                         enum wire_slot_state state, uint64_t incarnation, uint32_t fence);
/* c->ring, with the facts of slots that are new in it. */
void cluster_publish(struct cluster *c, uint32_t node);
void cluster_publish_all(struct cluster *c);
void cluster_tell_link(struct cluster *c, uint32_t node, uint32_t other, bool up);
/* Down: cut off, and all know. */
void cluster_tell_links(struct cluster *c, uint32_t node, bool up);
/* The worker is freed, as by a kill; another one over the same store takes its place. */
void cluster_restart(struct cluster *c, uint32_t node);
void cluster_judge_clock(struct cluster *c, uint32_t node, bool right);

/* ---- time and messages ---- */

void cluster_step(struct cluster *c, uint32_t node, struct event *e);
/* Its disk works again. */
void cluster_sync(struct cluster *c, uint32_t node);
/* Delivers the next message under way; false: there is none. */
bool cluster_deliver(struct cluster *c);
/* Delivers what is under way, and what comes of it. */
void cluster_settle(struct cluster *c);
void cluster_release(struct cluster *c);
/* In ticks of CLUSTER_TICK_MS. */
void cluster_pass(struct cluster *c, uint64_t ms);
/* A request to a slot, its answer in c->hand. The envelope is filled in from c->ring. */
void cluster_ask(struct cluster *c, uint32_t partition, uint32_t slot, struct wire_peer *msg);

/* ---- clients ---- */

/* As of a client of this node; the answer in c->answer, if it came without time going by. */
void cluster_request(struct cluster *c, uint32_t node, struct wire_request *r);
/* Lets time go by until it is there. */
void cluster_await_answer(struct cluster *c);

/* ---- records ---- */

struct key cluster_key(uint32_t number, char text[32]);
/* The number-th key that lies in the partition. */
struct key cluster_key_in(struct cluster *c, uint32_t partition, uint32_t number, char text[32]);
/* Straight into the store: age_ms ago, by the clock of the cluster. */
void cluster_write_record(struct cluster *c, uint32_t node, struct key key, uint64_t age_ms,
                          struct slice value, bool deleted);
/* value NULL: a tombstone. */
void cluster_write_key(struct cluster *c, uint32_t node, uint32_t number, uint64_t age_ms,
                       const char *value);
/* What it has of the key. Bytes until the store is used again. */
struct state cluster_state(struct cluster *c, uint32_t node, struct key key);
/* value NULL: nothing at all. */
void cluster_assert_holds(struct cluster *c, uint32_t node, struct key key, const char *value);
bool cluster_is_equal(struct cluster *c);

#endif
