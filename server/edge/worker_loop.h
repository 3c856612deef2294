/* worker_loop: one worker thread: a loop, a core worker, and its queue of the store. See
 * worker_loop.c; effects are carried out in worker_effects.c. */
#ifndef QUOIT_EDGE_WORKER_LOOP_H
#define QUOIT_EDGE_WORKER_LOOP_H

#include "server/core/worker.h"
#include "server/edge/counts.h"
#include "server/edge/dones.h"
#include "server/edge/listener.h"
#include "server/edge/meter.h"
#include "server/edge/node.h"
#include "server/edge/parked.h"
#include "server/edge/peers.h"

/* Rounds of one flush: what it hands over can fail and come back as events. */
#define FLUSH_ROUNDS_MAX 4u

/* Reads that waited for the disk: taken from the store at once. */
#define FETCHED_MAX 64u
/* Between two sentences about that in the log. */
#define COLD_TELL_MS 60000u
/* Lines about what was healed, or fetched, from other replicas are no closer together. */
#define REPAIRS_TELL_MS 1000u

/* Connections refused for their number that may linger to read why. */
#define REFUSED_MAX 64u

/* Operations that the store has not taken yet: those of one wake-up, and what it had no room for.
 * Each has a reference to the blob with its bytes, so that they go one by one. */
struct store_batch {
    struct store_op *ops;
    uint32_t n, cap;
    uint32_t n_waiting; /* the first of them: the store had no room */
    size_t bytes;       /* of the blobs; at most about STORE_QUEUE_BYTES_MAX */
};

/* Told to stop, a worker is done only after this long without a client's request: what was sent
 * before the client heard SHUTTING_DOWN is still answered. Looked at every tick. */
#define STOP_QUIET_MS 100u
#define STOP_TICK_MS 10u

struct worker_loop {
    struct loop loop; /* first: hooks get this */
    struct node *node;
    uint32_t index;
    struct worker *core;
    struct effects *effects;
    struct dones dones;
    struct store_batch batch;
    struct parked parked;
    uint64_t cold_told_ms; /* 0: never */
    uint64_t repairs_told, heals_told, repairs_told_ms;
    struct list *outboxes; /* [n_workers] letters of this wake-up */
    struct peers peers;
    struct listener listener;
    uv_timer_t timer;  /* of the core */
    uv_timer_t tick;   /* while stopping */
    uint64_t quiet_ms; /* stopping: the last request of a client; finishing: when that began */
    uint64_t armed_ms; /* what it is set to; UINT64_MAX = not set */
    uint64_t durable;  /* last told to the core */
    struct ring *ring; /* last told to the core, or NULL */
    uint32_t n_refused;
    uint32_t n_statuses; /* asked of control and not answered yet */
    struct counts counts;
    struct meters meters;
    bool stepping, read, stopping, finishing, idle_told, closing;
    uv_thread_t thread;
};

/* 0 or negative; then worker_loop_free. fd: its listening socket for clients, taken. */
int worker_loop_new(struct node *node, uint32_t index, int fd, uint64_t clock_bound_ms,
                    struct worker_loop **ret);
int worker_loop_start(struct worker_loop *wl); /* starts the thread; 0 or -ERR_IO */
void worker_loop_join(struct worker_loop *wl);
/* After the thread has ended and the store is closed. Accepts NULL. */
void worker_loop_free(struct worker_loop *wl);

/* Steps the core with an event (its times are filled in), carries out what comes of it. Loop
 * thread, outside of a step. */
void worker_loop_feed(struct worker_loop *wl, struct event *event);

/* worker_effects.c */
/* Carries out what has waited for the disk, at most FETCHED_MAX of it; gets go to the dones.
 * Returns how many: with FETCHED_MAX there may be more. */
size_t worker_effects_fetched(struct worker_loop *wl);
void worker_effects_run(struct worker_loop *wl, const struct effects *effects);
/* Submits what is collected. Outcomes of what failed at once go to the dones. */
void worker_effects_submit(struct worker_loop *wl);
int worker_effects_init(struct worker_loop *wl);
void worker_effects_deinit(struct worker_loop *wl);

#endif
