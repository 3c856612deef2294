/* mailbox: what loops send one another. Many writers, one reader. See mailbox.c. */
#ifndef QUOIT_EDGE_MAILBOX_H
#define QUOIT_EDGE_MAILBOX_H

#include "proto/wire.h"
#include "server/base/list.h"
#include "server/core/event.h"
#include <pthread.h>

/* Peer requests that may wait in one mailbox; more are answered OVERLOADED by the sender's edge.
 * A worker takes in all that waits at each wake-up, so a full box means that it is behind by tens
 * of milliseconds. Replies and orders are always taken: replies are bounded by the requests that
 * their reader has sent, orders by the number of loops. */
#define MAILBOX_REQUESTS_MAX 8192u

enum letter_type {
    LETTER_PEER = 1, /* a peer message of a sibling worker */
    LETTER_SOCKET,   /* a connection changes its loop */
    LETTER_RING,     /* control -> workers: a ring is published */
    LETTER_DIAL,     /* control -> workers: that node is up, dial it now */
    LETTER_SEEN,     /* control -> workers: how the cluster sees a node */
    LETTER_DAMAGED,  /* control -> the owner: a record fails its checksum */
    LETTER_REMADE,   /* control -> the owner: leaves were wrong and are right now */
    LETTER_CLOCK,    /* control -> workers: our wall clock has been judged */
    LETTER_STOP,     /* control -> workers: finish what is in flight */
    LETTER_FINISH,   /* control -> workers: end the connections politely */
    LETTER_IDLE,     /* worker -> control: that is done */
    LETTER_CLOSE,    /* control -> workers: close everything and return */
    LETTER_LOOK,     /* control -> workers: bring your meters up to date */
    LETTER_STATUS,   /* worker -> workers -> control: a client asks how the cluster is */
    LETTER_ANSWER    /* control -> worker: the answer to it */
};

enum socket_kind {
    SOCKET_CLIENT = 1,
    SOCKET_LINK
};

struct letter {
    struct list link;
    enum letter_type type;
    uint32_t from; /* index of the loop that wrote it */
    union {
        struct {
            struct wire_peer msg; /* its bytes follow the letter, or lie in owner */
            struct blob *owner;   /* a reference, or NULL */
            uint64_t sent_ms;     /* the sender's loop time; all loops have one clock */
        } peer;
        struct {
            enum socket_kind kind;
            int fd;              /* owned by the letter */
            struct blob *unread; /* bytes already taken from the socket, or NULL */
            uint32_t node;       /* SOCKET_LINK: who dialled */
            uint32_t worker_from;
        } socket;
        struct {
            struct ring *ring; /* a reference */
        } ring;
        struct {
            uint32_t node;
        } dial;
        struct {
            uint32_t node;
            enum wire_member_state state;
        } seen;
        struct {
            struct blob *store_key; /* a reference */
        } damaged;
        struct {
            struct store_range range;
        } remade;
        struct {
            uint64_t conn, id, tag; /* of the request */
            bool ring;
            uint64_t epoch;      /* of the ring that the counts are of */
            struct blob *counts; /* of records: see counts.c; or NULL */
            struct blob *frame;  /* ANSWER: the packed response, or NULL: no memory */
        } status;
        struct {
            bool right;
            int64_t offset_ms;
            uint64_t behind_ms;
        } clock;
    } u;
};

struct mailbox {
    pthread_mutex_t lock;
    struct list letters;
    uint32_t n_requests; /* LETTER_PEER letters that are requests */
};

void mailbox_init(struct mailbox *m);
void mailbox_deinit(struct mailbox *m); /* frees what was not read */

/* Puts the letters of `batch` in, in order, under one lock. Requests beyond the bound stay in
 * `batch`. Returns whether the box was empty before (the reader needs waking) and now is not. */
bool mailbox_post(struct mailbox *m, struct list *batch);
/* The first letter of a list that is not empty, taken out of it. */
struct letter *letters_pop(struct list *letters);
void letters_free(struct list *letters);
/* Moves all letters to `out` (an initialised list). */
void mailbox_take(struct mailbox *m, struct list *out);

struct letter *letter_new(enum letter_type type, uint32_t from); /* NULL: out of memory */
/* A letter with a deep copy of a peer message. Bytes that lie in owner are shared by reference.
 * sent_ms is the caller's to set. */
struct letter *letter_peer(uint32_t from, const struct wire_peer *msg, struct blob *owner);
/* Frees the letter and what it still owns (owner, fd, unread, ring, counts, frame). */
void letter_free(struct letter *letter);

bool peer_is_request(const struct wire_peer *msg);

#endif
