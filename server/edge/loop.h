/* loop: one thread's uv loop, its wake-up and its flush. See loop.c. */
#ifndef QUOIT_EDGE_LOOP_H
#define QUOIT_EDGE_LOOP_H

#include "proto/slice.h"
#include "server/base/list.h"
#include "server/base/prng.h"
#include "server/edge/log.h"
#include "server/edge/mailbox.h"
#include <stdatomic.h>
#include <uv.h>

struct conn;
struct loop;

/* Bytes read from sockets land here first, whoever they are for: an idle connection owns no buffer.
 * Several times CONN_LARGE_BYTES, so that a partial frame put in front leaves room. */
#define LOOP_RECEIVE_BYTES (256u << 10)

/* Bytes of incomplete large frames of clients that one loop may hold; more wait unread in the
 * kernel. At least a few times LIMIT_FRAME_BYTES. */
#define LOOP_LARGE_BYTES_MAX (96u << 20)

/* Bytes that all connections of one loop may have unsent before those with more than
 * CONN_OUT_RESUME_BYTES are no longer read, and before gets and scans are answered OVERLOADED: many
 * slow readers together are no better than one. Passed by one answer at most. */
#define LOOP_UNSENT_BYTES_MAX (256u << 20)

/* Connections of one loop. Bounded above by the process-wide limit of the configuration. */
#define LOOP_CONNS_MAX (1u << 20)

/* How often limits in time are looked at: a quarter of the smallest, within these (ms). */
#define LOOP_SWEEP_MIN_MS 20u
#define LOOP_SWEEP_MAX_MS 1000u

struct loop_hooks {
    /* Woken by another thread: mailbox, store. */
    void (*on_woken)(struct loop *l);
    /* End of a wake-up, before the sockets are written: hand over what was collected. */
    void (*on_flush)(struct loop *l);
    /* After the sockets were written: give back snapshots, arm timers. */
    void (*on_flushed)(struct loop *l);
};

struct loop_limits {
    uint32_t idle_ms, frame_ms, stall_ms;
};

struct loop_slot {
    struct conn *conn;
    uint32_t generation;
    uint32_t next_free;
};

struct loop {
    uv_loop_t uv;
    uint32_t index; /* worker, or n_workers for control: names its mailbox and queue of the store */
    const struct loop_hooks *hooks;
    struct loop_limits limits;
    struct log *log;
    struct mailbox mailbox;

    uv_poll_t wake;
    int wake_fd;
    atomic_bool wake_pending;
    uv_prepare_t prepare;
    uv_check_t check;
    bool polled; /* in a flush: it stands behind the poll, so the sockets were looked at */
    uv_timer_t sweep;

    struct prng prng;
    uint64_t wall_ms, wall_at_ms; /* wall clock, read once per uv_now */
    uint8_t *receive;             /* LOOP_RECEIVE_BYTES */
    struct arena arena;           /* of the frame being handled */
    size_t large_bytes;           /* of incomplete large frames, as announced */
    size_t unsent_bytes;          /* of all connections */

    struct list conns;   /* all */
    struct list dirty;   /* have bytes to write */
    struct list resume;  /* may read on */
    struct list starved; /* wait for large_bytes */
    uint32_t n_conns;
    struct loop_slot *slots;
    uint32_t n_slots, free_slot;
};

/* 0 or -ERR_NO_MEMORY, -ERR_IO. index 0 .. 63 are workers. */
int loop_init(struct loop *l, uint32_t index, const struct loop_hooks *hooks,
              const struct loop_limits *limits, struct log *log);
/* Runs until loop_close_all was called and everything is closed. */
void loop_run(struct loop *l);
/* Closes every handle and connection; loop_run then returns. Loop thread only. */
void loop_close_all(struct loop *l);
/* After loop_run has returned and nobody can call loop_wake any more. */
void loop_deinit(struct loop *l);

void loop_wake(struct loop *l); /* any thread */

static inline uint64_t loop_now_ms(const struct loop *l)
{
    return uv_now(&l->uv);
}
uint64_t loop_wall_ms(struct loop *l);

/* Takes what the loop's mailbox holds. */
static inline void loop_take_letters(struct loop *l, struct list *out)
{
    mailbox_take(&l->mailbox, out);
}
/* Posts letters to another loop and wakes it. What it refuses stays in batch. */
void loop_post(struct loop *to, struct list *batch);
/* One letter that cannot be refused. */
void loop_post_one(struct loop *to, struct letter *letter);

/* Connections by id; ids are unique in the process and never come back. */
int loop_add_conn(struct loop *l, struct conn *c, uint64_t *ret_id);
void loop_remove_conn(struct loop *l, struct conn *c, uint64_t id);
struct conn *loop_find_conn(const struct loop *l, uint64_t id);

#endif
