/* ring: the placement of one epoch, as an immutable, reference-counted value.
 *
 * Wraps the plain struct of proto/wire.h with what lookups need. A ring never changes after
 * ring_new; a new epoch is a new ring, published to the workers as a message.
 *
 * `node` handles: the process gives every other node that it has ever heard of a small number, for
 * life. ring_new asks for it through `intern`, so that a worker goes from slot to link without a
 * search. Handles never leave the process.
 */
#ifndef QUOIT_CORE_RING_H
#define QUOIT_CORE_RING_H

#include "proto/wire.h"

struct ring;

/* Copies and validates (counts, indices, distinct ids and names, one node at most once per
 * partition, power of two, primary among READY slots ...). 0, -ERR_BAD_REQUEST, -ERR_NO_MEMORY.
 * intern(ctx, id) yields a node handle; NULL: handles are the member indices. */
int ring_new(const struct wire_ring *wire, uint32_t (*intern)(void *, const struct wire_id *),
             void *ctx, struct ring **ret);
struct ring *ring_ref(struct ring *ring); /* thread-safe */
void ring_unref(struct ring *ring);       /* accepts NULL */

const struct wire_ring *ring_wire(const struct ring *ring);
uint64_t ring_epoch(const struct ring *ring);
uint64_t ring_token(const struct ring *ring, const struct key *key);
uint32_t ring_partition(const struct ring *ring, uint64_t token);
bool ring_has_bucket(const struct ring *ring, uint32_t bucket);
/* Index into members, or -1. */
int ring_member_of(const struct ring *ring, const struct wire_id *id);
uint32_t ring_member_node(const struct ring *ring, uint32_t member);

struct ring_slot {
    uint32_t member, node;
    uint64_t incarnation;
    enum wire_slot_state state;
};

/* One partition's entry, copied out. */
struct ring_entry {
    uint32_t fence, primary;
    uint32_t n_slots; /* including those that do not exist (SLOT_NONE) */
    uint32_t n_ready;
    struct ring_slot slots[LIMIT_SLOTS_MAX];
};

void ring_lookup(const struct ring *ring, uint32_t partition, struct ring_entry *ret);
/* The slot that lives on the node, in whatever state, or -1. */
int ring_entry_slot(const struct ring_entry *entry, uint32_t node);

/* Whether `next` may replace the ring held (server/core/ring_next.c): NULL, or why not. */
const char *ring_next_fault(const struct ring *held, const struct ring *next);

/* The first ring of a cluster (server/core/ring_form.c): members sorted by id, 1024 partitions
 * unless said otherwise, min(replicas, members) slots, balanced to one slot by weight and zone,
 * primaries balanced, voters chosen. Deterministic: same input, same bytes.
 * Fills *ret with arrays in arena. 0, -ERR_NO_MEMORY, -ERR_CONFIG (no usable member ...). */
struct ring_form_input {
    const struct wire_member *members;
    size_t n_members;
    uint32_t replicas;     /* wanted, 1 .. LIMIT_REPLICAS_MAX */
    uint32_t n_partitions; /* 0 = default */
    struct wire_id cluster_id;
    struct token_space space;
};
int ring_form(const struct ring_form_input *in, struct arena *arena, struct wire_ring *ret);

#endif
