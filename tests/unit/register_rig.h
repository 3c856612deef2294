/* register_rig: seven nodes with a register each, for stories of server/core/register. Messages and
 * syncs happen when the test says so; messages cross packed. What is said is traced: "1>2 prepare
 * 1.1" is a PREPARE of node 1 to node 2 under the ballot of counter 1 of node 1. */
#ifndef QUOIT_TESTS_UNIT_REGISTER_RIG_H
#define QUOIT_TESTS_UNIT_REGISTER_RIG_H

#include "test.h"

#include "server/core/register.h"

#define N 7u
#define MAILS 256u
#define TRACE_BYTES 4096u
#define UNTIL_MS 10000u

enum outcome_seen {
    NONE_SEEN = 0 /* then enum register_outcome */
};

struct node {
    struct ring_register *r;
    uint64_t boot;
    struct buf promise, accepted, ring; /* on disk */
    bool writing, held, failing;        /* a sync under way; syncs wait; they fail */
    uint64_t cookie;
    char name[32];
    struct buf value;
    int outcome;
    uint64_t epoch; /* of the outcome's ring; 0: none */
    const char *why;
    uint64_t published; /* highest epoch */
};

struct mail {
    uint32_t from, to;
    struct buf bytes;
    enum wire_peer_type type;
};

struct rig {
    struct node nodes[N + 1]; /* from 1 */
    struct mail mails[MAILS];
    uint32_t n_mails;
    uint32_t cut[N + 1]; /* bits: to whom its messages are lost */
    uint64_t now_ms;
    char trace[TRACE_BYTES];
};

struct wire_id id_of(uint32_t n);
/* Epoch 1, of seven members, the first n_voters of which vote. */
void form_ring(struct buf *out, uint32_t n_voters);
/* The ring that follows: the fence of one partition grown; or with other voters ("124"), NULL: the
 * same. */
void next_ring(const struct buf *ring, uint32_t partition, const char *voters, struct buf *out);

void rig_init(struct rig *rig, uint32_t n_voters);
void rig_deinit(struct rig *rig);
/* The trace since it was looked at last. */
void expect(struct rig *rig, const char *what);
void keep(struct buf *to, struct slice bytes);
void feed(struct rig *rig, uint32_t n, struct register_event event);
void start(struct rig *rig, uint32_t n);
/* What is not on disk is lost; what it has said is under way all the same. */
void crash(struct rig *rig, uint32_t n);
void restart(struct rig *rig, uint32_t n);
/* A message comes, as often as wanted; whoever is down or cut off does not hear it. */
void deliver(struct rig *rig, const struct mail *m);
struct mail take_mail(struct rig *rig, uint32_t i);
/* What the node writes is on its disk, or refused. */
void synced(struct rig *rig, uint32_t n);
/* Syncs and messages, until nothing is under way, or so many messages have come. */
void run_some(struct rig *rig, uint32_t n_messages);
void run(struct rig *rig);
/* So much time goes by. */
void pass(struct rig *rig, uint64_t ms);
/* Until the operation of the node has an outcome. */
void wait_for(struct rig *rig, uint32_t n);
/* The node's change of the ring that it serves. */
void change(struct rig *rig, uint32_t n, uint32_t partition);
void change_voters(struct rig *rig, uint32_t n, const char *voters);
void read_ring(struct rig *rig, uint32_t n);
/* What a node serves reaches another. */
void gossip(struct rig *rig, uint32_t from, uint32_t to);
void gossip_to_all(struct rig *rig, uint32_t from);
/* Other voters, decided and known to all. */
void decide(struct rig *rig, uint32_t n, const char *voters);

#define ASSERT_OUTCOME(n, wanted, of_epoch)                                                        \
    do {                                                                                           \
        wait_for(&rig, n);                                                                         \
        assert_int_equal(rig.nodes[n].outcome, wanted);                                            \
        assert_int_equal(rig.nodes[n].epoch, of_epoch);                                            \
    } while (0)

#endif
