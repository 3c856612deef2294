/* form: how the first nodes agree on epoch 1. Pure; the protocol is drawn in form.c.
 *
 * Every first node is started with the same --cluster list of peer addresses. Positions in the
 * *sorted* list name the nodes here; position 0 leads. The edge keeps one control link to each
 * other address and tells this machine what arrives. A lone node is a list of one.
 *
 * Every text that the machine gives out (why) and every ring lives as long as the machine.
 */
#ifndef QUOIT_CORE_FORM_H
#define QUOIT_CORE_FORM_H

#include "proto/wire.h"

#define FORM_WHY_BYTES 512
#define FORM_NODES_MAX 64u

/* The small facts of the store in which this machine keeps its state: a ring, packed. */
#define FORM_META_PROPOSAL "form.proposal"
#define FORM_META_RING "ring"

struct form;

struct form_config {
    struct wire_member self; /* copied; names and addresses as given at the command line */
    const char *const *list; /* sorted, distinct peer addresses, own one included */
    size_t n_list;           /* 1 .. FORM_NODES_MAX: the caller has refused longer lists */
    size_t self_index;
    uint32_t replicas;
    /* Random bytes for the cluster's id and token space; used only by the leader. */
    struct wire_id cluster_id;
    struct token_space space;
    /* A proposal found in the store at start, or NULL. */
    const struct wire_ring *proposal;
};

enum form_event_type {
    FORM_EVENT_TICK = 1,
    FORM_EVENT_LINK_UP,
    FORM_EVENT_LINK_DOWN,
    FORM_EVENT_MESSAGE,
    FORM_EVENT_SYNCED
};

struct form_event {
    enum form_event_type type;
    uint64_t now_ms;
    size_t from;                     /* LINK_*, MESSAGE: position in the list */
    const struct wire_form *message; /* MESSAGE; borrowed */
    int error;                       /* SYNCED: 0 or negative */
};

enum form_effect_type {
    FORM_EFFECT_SEND = 1, /* message to position `to` */
    FORM_EFFECT_PERSIST,  /* sync `ring` under the name `name`, then FORM_EVENT_SYNCED */
    FORM_EFFECT_DECIDED,  /* done: `ring` (durable) is the ring of epoch 1; publish it */
    FORM_EFFECT_FAIL,     /* stop the process: exit 1 with `why` */
    FORM_EFFECT_JOIN,     /* done: a listed node belongs to a cluster already, and this one has
                             promised nothing to anybody: join that */
    FORM_EFFECT_WAIT      /* for the log, at most every few seconds: `why` says for whom we wait */
};

struct form_effect {
    enum form_effect_type type;
    size_t to;
    struct wire_form message;     /* SEND; bytes live until the next step */
    const char *name;             /* PERSIST */
    const struct wire_ring *ring; /* PERSIST, DECIDED; lives as long as the machine */
    const char *why;              /* FAIL, WAIT */
};

/* One step may tell everybody something new and repeat what it said before. */
#define FORM_EFFECTS_MAX (2 * FORM_NODES_MAX + 4u)

struct form_effects {
    size_t n;
    struct form_effect list[FORM_EFFECTS_MAX];
};

struct form *form_new(const struct form_config *config); /* NULL: out of memory */
void form_free(struct form *form);
void form_step(struct form *form, const struct form_event *in, struct form_effects *out);
uint64_t form_deadline_ms(const struct form *form);

/* What a node that has a ring answers to a FORM message, also when it has no such machine any more
 * (it was restarted): fills *ret (its ring borrowed from `ring`). False: nothing. `self` is what
 * this node would say of itself; list_hash is echoed. */
bool form_answer(const struct wire_ring *ring, const struct wire_member *self,
                 const struct wire_form *in, struct wire_form *ret);

#endif
