/* register_impl: what the parts of the register share. Private to server/core.
 *
 *   register.c            the step, messages to oneself, effects
 *   register_acceptor.c   the voter's half
 *   register_proposer.c   the proposer's half
 *   register_value.c      rings as the register sees them, sets of voters
 *   register_facts.c      how a voter's state stands on disk
 */
#ifndef QUOIT_CORE_REGISTER_IMPL_H
#define QUOIT_CORE_REGISTER_IMPL_H

#include "server/base/prng.h"
#include "server/core/register.h"

/* ---- register_value.c */

struct voter_set {
    uint32_t n;
    struct wire_id ids[REGISTER_ASKED_MAX];
};

bool set_has(const struct voter_set *set, const struct wire_id *id);
void set_add(struct voter_set *set, const struct wire_id *id); /* unless it has it */
bool set_equal(const struct voter_set *a, const struct voter_set *b);
/* How many are in one and not in the other. */
uint32_t set_distance(const struct voter_set *a, const struct voter_set *b);
/* More than half of `set` are in `answered`. */
bool set_majority(const struct voter_set *set, const struct voter_set *answered);

/* A ring, checked, with the voters before it. Immutable; counted within one machine. */
struct register_value {
    unsigned refs;
    uint64_t epoch;
    struct voter_set voters;
    struct voter_set before;
    struct blob *bytes; /* packed */
};

/* Unpacks the ring and checks it by ring_new: of the cluster (NULL: any), one voter apart at most
 * from those before it. n_before 0: the same voters. 0, -ERR_BAD_REQUEST, -ERR_NO_MEMORY. */
int value_new(struct slice ring, const struct wire_id *before, size_t n_before,
              const struct wire_id *cluster, struct register_value **ret);
struct register_value *value_ref(struct register_value *v); /* NULL stays NULL */
void value_unref(struct register_value *v);                 /* accepts NULL */
bool value_same(const struct register_value *a, const struct register_value *b);
/* Why `next` may not follow `held`, both good rings; NULL: it may. Static text. */
const char *value_next_fault(const struct register_value *held, const struct register_value *next);
/* The cluster of a packed ring. 0 or negative. */
int value_cluster(struct slice ring, struct wire_id *ret);

int ballot_compare(const struct wire_ballot *a, const struct wire_ballot *b);

/* ---- register.c */

/* A question to the voter's half. */
struct register_request {
    struct wire_id from;
    enum wire_peer_type type; /* PREPARE, ACCEPT */
    struct wire_ballot ballot;
    struct wire_ballot known;     /* PREPARE */
    struct register_value *value; /* ACCEPT; owned */
};

/* What is said to oneself waits for the end of the step: two questions and their answers. */
#define REGISTER_OWN_MAX 8u

struct register_own {
    enum wire_peer_type type;
    struct wire_register reg;
    struct register_value *value; /* owned; or NULL */
};

struct register_acceptor {
    struct wire_ballot promise;  /* durable */
    struct wire_ballot accepted; /* durable, with value */
    struct register_value *value;
    bool is_writing; /* `writing`, under this cookie */
    uint64_t cookie;
    struct register_request writing;
    struct register_request waiting[REGISTER_WAITING_MAX];
    uint32_t n_waiting;
};

enum proposer_phase {
    PROPOSER_IDLE = 0,
    PROPOSER_PREPARING,
    PROPOSER_SEEDING, /* the new voter alone has been sent the ring (V4) */
    PROPOSER_ACCEPTING,
    PROPOSER_RESTING
};

struct register_proposer {
    enum proposer_phase phase;
    /* The operation. */
    uint64_t id, until_ms;
    struct register_value *wanted; /* NULL: a read */
    bool sent;                     /* somebody may have accepted it */
    /* The attempt. */
    struct wire_ballot ballot;
    struct voter_set asked;         /* V1 */
    struct voter_set answered;      /* of this phase */
    struct register_value *base;    /* known to be decided when it began (V7) */
    struct wire_ballot best;        /* PREPARING: highest that was told, */
    struct register_value *read;    /* and what was accepted under it */
    struct register_value *offered; /* SEEDING, ACCEPTING */
    uint64_t due_ms;                /* it fails; RESTING: the next begins */
    /* The next one. */
    struct voter_set next;
    unsigned n_hops, n_failed;
    /* Bytes that need not be told again. */
    struct wire_ballot known;
    struct register_value *known_value;
};

struct ring_register {
    struct wire_id self, cluster;
    uint64_t boot;
    uint64_t counter; /* highest that was heard of */
    uint64_t now_ms;
    struct prng prng;
    struct register_value *decided;
    struct register_acceptor acceptor;
    struct register_proposer proposer;
    struct register_stats stats;
    struct register_own own[REGISTER_OWN_MAX];
    uint32_t n_own;
    /* Of this step. */
    struct register_effects *out;
    struct wire_register told[REGISTER_EFFECTS_MAX];
    struct register_value *values[REGISTER_EFFECTS_MAX]; /* told: their bytes */
    struct blob *blobs[REGISTER_EFFECTS_MAX];
    uint32_t n_values, n_blobs;
};

struct register_effect *register_emit(struct ring_register *r, enum register_effect_type type);
/* value: of PREPARE_REPLY and ACCEPT, whose bytes and voters before are told; or NULL. */
void register_say(struct ring_register *r, const struct wire_id *to, enum wire_peer_type type,
                  struct wire_register reg, struct register_value *value);
/* Kept until the next step. */
void register_keep(struct ring_register *r, struct register_value *value);
void register_hear(struct ring_register *r, const struct wire_ballot *ballot);

/* ---- register_acceptor.c */
int acceptor_init(struct ring_register *r, struct slice promise, struct slice accepted);
void acceptor_deinit(struct ring_register *r);
/* Takes the value over. */
void acceptor_recv(struct ring_register *r, struct register_request request);
void acceptor_stored(struct ring_register *r, uint64_t cookie, int error);

/* ---- register_proposer.c */
void proposer_deinit(struct ring_register *r);
void proposer_change(struct ring_register *r, uint64_t id, uint64_t until_ms, struct slice ring);
void proposer_read(struct ring_register *r, uint64_t id, uint64_t until_ms);
/* value: of the reply's ring where it comes from oneself; else NULL. */
void proposer_promised(struct ring_register *r, const struct wire_id *from,
                       const struct wire_register *reg, struct register_value *value);
void proposer_accepted(struct ring_register *r, const struct wire_id *from,
                       const struct wire_register *reg);
void proposer_tick(struct ring_register *r);
uint64_t proposer_deadline_ms(const struct ring_register *r);

#endif
