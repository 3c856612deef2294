/* former: forms the cluster, joins one, or looks whether the listed peers are of ours. See
 * former.c. */
#ifndef QUOIT_EDGE_FORMER_H
#define QUOIT_EDGE_FORMER_H

#include "server/core/form.h"
#include "server/edge/address.h"
#include "server/edge/backoff.h"
#include "server/edge/conn.h"

struct control;
struct caller;
struct former;

#define FORMER_BACKOFF_MIN_MS 50u
#define FORMER_BACKOFF_MAX_MS 1000u
#define FORMER_HELLO_MS 3000u
/* A used directory's node looks this long after its start who answers at the listed addresses. */
#define FORMER_LOOK_MS 3000u

enum pledge_phase {
    PLEDGE_WAITING = 1, /* dialled when backoff.retry_ms comes */
    PLEDGE_LOOKING_UP,
    PLEDGE_DIALLING, /* until the hello is answered */
    PLEDGE_UP,
    PLEDGE_DONE /* nothing more is wanted of it */
};

/* One listed peer. */
struct pledge {
    struct address address;
    char text[ADDRESS_TEXT_BYTES];
    enum pledge_phase phase;
    struct pledge_link *link;
    struct wire_id node_id; /* UP: as it said */
    struct wire_id foreign; /* looking: the other cluster it belongs to; zero: it does not. Joining:
                               the cluster it belongs to */
    struct backoff backoff;
    unsigned attempt;
    bool tried;  /* joining: it has answered or failed */
    int refused; /* error last told in the log */
};

struct former {
    struct control *control;
    struct form *form; /* NULL: only looking (a used directory), or done */
    struct form_effects *effects;
    uv_timer_t timer;
    bool active;
    bool joining;           /* or about to, once the present step of the machine is over */
    struct pledge *asked;   /* joining: for its ring; NULL: nobody */
    bool taking;            /* joining: that ring is being made durable */
    bool confirmed;         /* looking: a member of our ring has answered, or come by itself */
    uint64_t look_until_ms; /* looking: then it ends */
    size_t n, self_index;   /* self_index == n: this node is not in the list */
    struct pledge *pledges; /* sorted by text */
    bool writing;           /* a write of the machine is under way */
    int write_error;        /* it failed at once; not yet told */
    struct arena arena;     /* the proposal found on disk */
};

/* This node's directory is empty: form a cluster of the listed peers, or of itself alone. 0 or
 * negative. */
int former_start(struct former *f, struct control *c);
/* It is empty: learn of the cluster of a peer in --join, and become a candidate of it. 0 or
 * negative. */
int former_join(struct former *f, struct control *c);
/* The ring that was to be taken could not be made durable. */
void former_ring_lost(struct former *f);
/* It is not empty: find out whether the listed peers belong to another cluster. */
int former_look(struct former *f, struct control *c);
/* A member of our ring has linked to us: the data is where it belongs. */
void former_confirm(struct former *f);
/* A FORM message that came over a control link. */
void former_recv(struct former *f, struct caller *caller, const struct wire_form *msg);
/* The store is done with an operation of control. */
void former_synced(struct former *f, const struct store_done *done);
void former_stop(struct former *f);
void former_deinit(struct former *f);

#endif
