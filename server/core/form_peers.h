/* form_peers: the forming machine's state, and what it knows of the listed nodes. Private to
 * form.c and form_peers.c. */
#ifndef QUOIT_CORE_FORM_PEERS_H
#define QUOIT_CORE_FORM_PEERS_H

#include "server/core/form.h"
#include "server/core/ring.h"

/* Own strings, one member per listed node, and one ring of the default size while it is built. */
#define FORM_ARENA_BYTES (4u << 20)

enum form_state {
    FORM_STATE_BROKEN, /* what form_new found; told by the first step */
    FORM_STATE_GATHER,
    FORM_STATE_SYNC_PROPOSAL,
    FORM_STATE_PROPOSED,
    FORM_STATE_SYNC_RING,
    FORM_STATE_DECIDED,
    FORM_STATE_FAILED
};

struct form_peer {
    bool up;
    bool heard;  /* GATHER: member is what its EMPTY said */
    bool synced; /* PROPOSED, leader */
    struct wire_member member;
    uint8_t text[3 * LIMIT_NAME_BYTES + 2 * LIMIT_ADDRESS_BYTES];
};

struct form {
    enum form_state state;
    size_t n, self_index;
    uint32_t replicas;
    struct wire_id cluster_id;
    struct token_space space;
    uint64_t list_hash;
    uint64_t repeat_ms, wait_ms; /* when to repeat, when to complain */
    struct slice *list;
    struct form_peer *peers; /* own place included */
    struct ring *ring;       /* the proposal */
    struct wire_ring bare;   /* the same without its table, for SYNCED */
    struct arena arena;
    char why[FORM_WHY_BYTES];
};

/* A slice for "%.*s". */
#define TEXT(s) (int)(s).len, (const char *)(s).data

static inline bool form_is_leader(const struct form *f)
{
    return f->self_index == 0;
}

static inline const struct wire_member *form_self(const struct form *f)
{
    return &f->peers[f->self_index].member;
}

/* Writes a sentence to f->why. What returns false below has done so. */
void form_explain(struct form *f, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Who is missing; false: nobody. */
bool form_explain_wait(struct form *f);

/* Keeps a copy of what a node says of itself; false (nothing explained): a text is too long. */
bool form_keep_member(struct form_peer *peer, const struct wire_member *m);
/* Whether an empty node belongs to what this node is forming. Remembers it. */
bool form_fits(struct form *f, size_t from, const struct wire_form *m);
/* The node that the ring names at an address: index, or -1. */
int form_member_at(const struct wire_ring *w, struct slice peer_address);
/* Takes a ring as this machine's proposal; false if it is not sound, or not of these nodes. */
bool form_adopt(struct form *f, const struct wire_ring *wire, const char *whence);
/* A cluster's id is random and belongs to one proposal: it tells proposals apart. */
bool form_same_cluster(const struct form *f, const struct wire_ring *ring);
/* The leader makes epoch 1 of all that it has heard of. */
bool form_propose(struct form *f);

#endif
