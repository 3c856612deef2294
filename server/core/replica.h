/* replica: requests of other nodes (and of this one) that are being answered. See replica.c.
 * Private to server/core. */
#ifndef QUOIT_CORE_REPLICA_H
#define QUOIT_CORE_REPLICA_H

#include "server/core/core.h"

/* In message ids: not an operation, but a request relayed to a sibling worker: a pending entry. */
#define RELAY_BIT ((uint64_t)1 << 63)
enum pending_kind {
    PENDING_FREE,
    PENDING_GET,
    PENDING_DIGEST,
    PENDING_PUT,
    PENDING_SCAN,
    PENDING_COMPARE,
    PENDING_PULL,
    PENDING_PURGE,
    PENDING_RELAY
};

struct pull_job;

/* A request that the replica has taken and not answered. */
struct pending {
    uint8_t kind;
    uint32_t generation;
    uint32_t next_free;
    struct addr from;
    uint64_t id;       /* as the requester sent it */
    uint64_t token;    /* GET, DIGEST, PUT */
    uint64_t until_ms; /* nobody waits for the answer any more; 0: never */
    struct wire_replica replica;
    uint32_t n_partitions;  /* COMPARE, PULL, PURGE: of the ring when it came */
    struct blob *bytes;     /* DIGEST: the key, both parts; PUT that a purge floor may refuse: its
                               store key; COMPARE, PURGE: what is asked; gated: what the answer
                               consists of */
    uint32_t bucket;        /* DIGEST */
    uint16_t partition_len; /* DIGEST: where the sort key begins */
    uint64_t deleted_hlc;   /* PUT of a tombstone: its version's clock; else 0 */
    uint32_t source;        /* PUT: 1 + the slot that holds it, as far as that was said */
    struct pull_job *pull;  /* PULL: how far it is */
    struct list gated;      /* in worker.gate, or in worker.resting */
    uint64_t rest_ms;       /* resting: until then */
    uint64_t lsn;           /* gated: answer when durable */
    struct wire_peer reply; /* gated */
};

/* store_done cookies: pending index and generation, or this. */
#define COOKIE_CLOCK UINT64_MAX

/* until_ms: when it is too late for it; 0: never. */
void replica_recv(struct worker *w, struct addr from, const struct wire_peer *msg,
                  uint64_t until_ms, struct blob *owner, struct effects *out);
void replica_got(struct worker *w, const struct event *in, struct effects *out);
void replica_scanned(struct worker *w, const struct event *in, struct effects *out);
void replica_stored(struct worker *w, const struct event *in, struct effects *out);
/* Answers one gated request whose LSN is durable. */
void replica_release(struct worker *w, struct pending *p, struct effects *out);
/* Hands a request on to the sibling that owns its partition. */
void replica_relay(struct worker *w, struct addr from, const struct wire_peer *msg,
                   uint64_t until_ms, struct blob *owner, struct effects *out);
/* The sibling's answer to such a request. */
void replica_relayed(struct worker *w, const struct wire_peer *msg, struct blob *owner,
                     struct effects *out);
void replica_deinit(struct worker *w);

/* ---- between the parts of replica ------------------------------------------------------------ */

/* NULL: too many. */
struct pending *pending_new(struct worker *w, enum pending_kind kind, struct addr from,
                            const struct wire_peer *msg);
void pending_free(struct worker *w, struct pending *p);
uint64_t pending_cookie(const struct worker *w, const struct pending *p);
struct pending *pending_of(struct worker *w, uint64_t cookie);
/* Nobody waits for it any more, so nothing is said; frees. */
bool pending_is_late(const struct worker *w, const struct pending *p);
void pending_drop(struct worker *w, struct pending *p, struct effects *out);
/* Answers with an error, and frees. */
void pending_refuse(struct worker *w, struct pending *p, int err, struct effects *out);
/* Sends the answer, or lets it wait until lsn is durable; its bytes lie in p->bytes. */
void pending_answer(struct worker *w, struct pending *p, const struct wire_peer *reply,
                    uint64_t lsn, struct effects *out);
/* May the slot that is asked answer? 0, or the error to answer with. */
int replica_check(const struct worker *w, const struct wire_replica *r);
/* The same of COMPARE and PULL when their read is done: numbers of leaves must also mean what they
 * meant when it was asked. */
int pending_check(const struct worker *w, const struct pending *p);
void replica_reply_init(const struct worker *w, struct wire_peer *reply, enum wire_peer_type type,
                        uint64_t id, const struct wire_replica *replica, int error);
void replica_refuse(struct worker *w, struct addr from, const struct wire_peer *msg, int err,
                    struct effects *out);

/* replica_compare.c */
void replica_compare(struct worker *w, struct addr from, const struct wire_peer *msg,
                     struct effects *out);
void replica_leaves(struct worker *w, const struct event *in, struct effects *out);

/* replica_purge.c */
void replica_purge(struct worker *w, struct addr from, const struct wire_peer *msg,
                   uint64_t until_ms, struct effects *out);
/* A list whose rest is over. */
void replica_purge_go_on(struct worker *w, struct pending *p, struct effects *out);
void replica_purge_stored(struct worker *w, struct pending *p, const struct event *in,
                          struct effects *out);
void replica_purge_leaves(struct worker *w, struct pending *p, const struct event *in,
                          struct effects *out);
void replica_purge_scanned(struct worker *w, struct pending *p, const struct event *in,
                           struct effects *out);

/* replica_pull.c */
void replica_pull(struct worker *w, struct addr from, const struct wire_peer *msg,
                  struct effects *out);
/* A page that the pull has asked for. */
void replica_pull_scanned(struct worker *w, struct pending *p, const struct event *in,
                          struct effects *out);
/* The job itself lies in the blob that is returned: what is being sent may point into it. Accepts
 * NULL. */
struct blob *pull_job_end(struct pull_job *job);

#endif
