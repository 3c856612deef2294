/* counts: what each replica of this node holds, for those who ask for the status with everything.
 * See counts.c. */
#ifndef QUOIT_EDGE_COUNTS_H
#define QUOIT_EDGE_COUNTS_H

#include "server/edge/mailbox.h"
#include <uv.h>

struct worker_loop;

/* Of a worker's time in one go, and the pause behind it: whoever is served waits no longer. */
#define COUNTS_SLICE_US 500u
#define COUNTS_PAUSE_MS 1u
/* All workers together take no longer for one question; what was not reached is not told. */
#define COUNTS_MS_MAX 1000u
/* Questions that wait at one worker; more go on without its counts. */
#define COUNTS_WAITING_MAX 4u

struct counts {
    struct list letters; /* LETTER_STATUS; the first one is being counted for */
    uint32_t n_letters;
    uint32_t at;       /* the partition to go on with */
    uint64_t until_ms; /* of the first one */
    uv_timer_t timer;
};

/* Before anything else can fail; the timer once there is a loop. */
void counts_init(struct counts *c);
void counts_start(struct worker_loop *wl);
void counts_deinit(struct counts *c); /* frees what waits */

/* Asking worker: sends the question round the workers, and then to control. Takes the letter. */
void counts_ask(struct worker_loop *wl, struct letter *letter);
/* Each worker, in turn. Takes the letter. */
void counts_take(struct worker_loop *wl, struct letter *letter);

/* Control: n_partitions numbers each into the vnode_... of *ret, which borrow from the letter; NULL
 * if there are none of this ring. */
void counts_of(const struct letter *letter, const struct ring *ring,
               struct wire_status_result *ret);

#endif
