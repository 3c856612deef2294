/* story: a worker under a microscope.
 *
 * One real worker (node n0 of a ring of n0..n4) with nothing around it. A test feeds events; every
 * effect is written down as one short line in a fixed vocabulary; story_expect compares the lines
 * since the last time. Time stands still unless moved.
 *
 *   store put 1            submit number 1 since the start       reply 7 ok / reply 7 NO_QUORUM
 *   store clock            a lease                               reply 7 found "v" / reply 7 absent
 *   get 1                  read number 1                         send n1 put s1 first|state "v"
 *   scan 1                                                       send n1 get s1 full|digest
 *   answer n1 put stored   a reply of the replica to a peer      trace RESTAMP / trace HEDGE s1
 */
#ifndef QUOIT_TESTS_STORY_H
#define QUOIT_TESTS_STORY_H

#include "server/core/ring.h"
#include "server/core/worker.h"

#define STORY_SENT_MAX 256
#define STORY_STORES_MAX 128 /* effects of each kind of store call in one story */

struct story_sent { /* a request to a peer, kept so that the test can answer it */
    uint32_t node;
    struct wire_peer msg;
};

struct story {
    struct worker *worker;
    struct ring *ring;
    struct arena arena;
    struct effects effects;
    uint64_t now_ms, wall_ms;
    uint64_t waited_ms; /* of client requests, on this node */
    char lines[1 << 14];
    struct story_sent sent[STORY_SENT_MAX];
    uint32_t n_sent;
    uint64_t stores[STORY_STORES_MAX], gets[STORY_STORES_MAX],
        scans[STORY_STORES_MAX]; /* cookies by running number, from 1 */
    uint32_t n_stores, n_gets, n_scans;
    uint64_t leaves;             /* cookie of the last */
    bool quiet_clock;            /* leases are granted at once and not written down (default) */
    struct version last_version; /* of the last put sent or stored */
};

struct story_options {
    uint32_t n_nodes;  /* default 3 */
    uint32_t replicas; /* default 3 */
    uint32_t n_workers;
    uint64_t clock_bound_ms;
    uint32_t ops_max;
    bool no_ring;
    const char *zones[5]; /* of the nodes; NULL: none */
};

void story_start(struct story *s, const struct story_options *options); /* all nodes up */
void story_end(struct story *s);
void story_step(struct story *s, struct event *e);
#define story_expect(s, text) story_expect_(s, text, __FILE__, __LINE__)
void story_expect_(struct story *s, const char *text, const char *file, int line);

void story_up(struct story *s, uint32_t node);
void story_down(struct story *s, uint32_t node);
void story_seen(struct story *s, uint32_t node, enum wire_member_state state);
void story_pass(struct story *s, uint64_t ms); /* time goes by, with a tick at the end */

/* A key whose partition has slot i on node i (with 3 nodes and 3 replicas), primary anywhere. */
extern const struct key story_key;
void story_put(struct story *s, uint64_t id, enum wire_level level, const char *value);
void story_del(struct story *s, uint64_t id, enum wire_level level);
void story_get(struct story *s, uint64_t id, enum wire_level level);

/* Done events of the store, by running number. */
void story_stored(struct story *s, uint32_t n, int error, enum wire_outcome outcome,
                  struct version version);
void story_got(struct story *s, uint32_t n, int error, const struct state *state, uint64_t lsn);

/* Answers to the newest request sent to that node. */
void story_answer_put(struct story *s, uint32_t node, int error, enum wire_outcome outcome,
                      struct version version);
void story_answer_get(struct story *s, uint32_t node, int error, const struct state *state);

struct state story_state(uint64_t hlc, const char *value); /* NULL: a tombstone */

#endif
