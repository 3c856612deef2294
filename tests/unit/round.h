/* round: a small cluster on whose stage rounds that let tombstones go are made.
 *
 * All records lie in one partition whose rounds node 0 drives; its slots are those of the ring. A
 * test makes its turn come (round_begin), loses or holds what it names in a fault, and looks what
 * the stores hold in the end. Every question of a round that goes to another node is counted.
 */
#ifndef QUOIT_TESTS_ROUND_H
#define QUOIT_TESTS_ROUND_H

#include "tests/unit/cluster.h"

#define N_NODES CLUSTER_NODES
#define AGE_MS 10000u /* tombstones younger than this stay */
#define OLD_MS 60000u
#define ALL UINT32_MAX

/* The next n messages of that kind meet that fate. */
struct round_fault {
    enum cluster_fate fate;
    enum wire_peer_type type;
    enum wire_purge_step
        step;          /* of PURGE: NONE is any. Of PURGE_REPLY: LIST has digests, else not */
    uint32_t from, to; /* ALL: any */
    uint32_t n;
};

struct round {
    struct cluster *c;
    uint32_t p;
    struct ring_entry entry;
    uint32_t n_asked[PURGE_CLOSE + 1]; /* of other nodes */
    uint64_t floor;                    /* last asked for */
    struct round_fault faults[2];
    void (*on_question)(struct round *r, enum wire_purge_step step);
    uint32_t n_written; /* by on_question */
    uint32_t n_before;  /* rounds that had ended before this one */
};

enum held {
    NOTHING,
    TOMBSTONE,
    VALUE
};

/* replicas 0: 3. Nothing runs yet. */
void round_init(struct round *r, uint32_t replicas);
/* All are up, and have compared what they hold. */
void round_start(struct round *r);
void round_deinit(struct round *r);

/* The partition's turn comes now, and for an age not again; nor does any other's. */
void round_begin(struct round *r);
/* Lets time go by until it has ended: at most so long that every retry and time-out is over. */
void round_end(struct round *r);
/* Both. */
void round_make(struct round *r);
uint32_t round_n_closed(struct round *r);
uint32_t round_n_abandoned(struct round *r);

uint32_t round_node(const struct round *r, uint32_t slot);
/* The clock of a version that was written so long ago. */
uint64_t round_hlc(const struct round *r, uint64_t age_ms);
/* A question to a slot as of another driver; its error. */
int round_ask(struct round *r, uint32_t slot, enum wire_purge_step step, uint64_t floor);
/* Asserts that no slot refuses. */
void round_ask_all(struct round *r, enum wire_purge_step step, uint64_t floor);
/* Of a slot: its floors, and how many records it has fetched from others. */
uint64_t round_opened(struct round *r, uint32_t slot);
uint64_t round_closed(struct round *r, uint32_t slot);
uint64_t round_pulled(struct round *r, uint32_t slot);

/* The number-th key of the partition. */
struct key round_key(struct round *r, uint32_t number, char text[32]);
/* Straight into the store of a slot, or of all. value NULL: a tombstone. */
void round_write(struct round *r, uint32_t slot, uint32_t number, uint64_t age_ms,
                 const char *value);
void round_write_all(struct round *r, uint32_t number, uint64_t age_ms, const char *value);
enum held round_held(struct round *r, uint32_t slot, uint32_t number);
void round_assert_all(struct round *r, uint32_t number, enum held held);

#endif
