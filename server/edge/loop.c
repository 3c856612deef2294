/* loop: one thread's uv loop, its wake-up and its flush.
 *
 *      timers --> prepare: flush --> poll: sockets, wake-up --> check: flush --> closing --> timers
 *
 * Whatever happens in a wake-up (frames read, the store's outcomes, letters of siblings, timers)
 * only appends: to connections' out-buffers, to the batch for the store, to the outboxes. The flush
 * carries it out once: resume held connections, on_flush (store, mailboxes), one write per dirty
 * connection, on_flushed. It stands behind both hooks of libuv because timers fire before the poll
 * and sockets after it. So sixty requests that arrive together cost one submit and one write each
 * way, and a reply never leaves before the store was told everything it was promised.
 *
 * Waking from other threads: an eventfd behind uv_poll, which is an order of magnitude cheaper than
 * uv_async when both threads share a core. Many wakes before the loop looks are one write.
 *
 * A connection's id carries loop, generation and slot, so a late answer to a closed connection
 * finds nothing instead of somebody else.
 */
#include "server/edge/loop.h"
#include "proto/err.h"
#include "server/edge/conn.h"
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#define ID_SLOT_BITS 24
#define ID_GENERATION_BITS 32
#define NO_SLOT UINT32_MAX

uint64_t loop_wall_ms(struct loop *l)
{
    uint64_t now_ms = loop_now_ms(l);
    if (l->wall_at_ms != now_ms) {
        struct timespec ts;
        clock_gettime(CLOCK_REALTIME, &ts);
        l->wall_ms = (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
        l->wall_at_ms = now_ms;
    }
    return l->wall_ms;
}

/* ---- wake-up and flush --------------------------------------------------------------------- */

void loop_wake(struct loop *l)
{
    static const uint64_t one = 1;
    if (!atomic_exchange(&l->wake_pending, true)) {
        ssize_t n = write(l->wake_fd, &one, sizeof(one));
        (void)n; /* the counter cannot be full: one write per read */
    }
}

static void on_wake(uv_poll_t *handle, int status, int events)
{
    struct loop *l = handle->data;
    uint64_t count;
    ssize_t n = read(l->wake_fd, &count, sizeof(count));
    (void)n;
    atomic_store(&l->wake_pending, false); /* before looking: what comes later wakes again */
    l->hooks->on_woken(l);
}

static void loop_flush(struct loop *l)
{
    struct list batch;

    if (!list_empty(&l->resume)) {
        list_init(&batch);
        list_splice(&batch, &l->resume);
        while (!list_empty(&batch)) {
            struct conn *c = list_entry(batch.next, struct conn, resume);
            list_remove(&c->resume);
            conn_resume(c);
        }
    }
    l->hooks->on_flush(l);
    while (!list_empty(&l->dirty)) {
        struct conn *c = list_entry(l->dirty.next, struct conn, dirty);
        list_remove(&c->dirty);
        conn_flush(c);
    }
    l->hooks->on_flushed(l);
    if (!list_empty(&l->resume)) /* released while flushing: do not sleep on it */
        loop_wake(l);
}

static void on_prepare(uv_prepare_t *handle)
{
    struct loop *l = handle->data;

    l->polled = false;
    loop_flush(l);
}

static void on_check(uv_check_t *handle)
{
    struct loop *l = handle->data;

    l->polled = true;
    loop_flush(l);
}

static void on_sweep(uv_timer_t *handle)
{
    struct loop *l = handle->data;
    uint64_t now_ms = loop_now_ms(l);

    /* conn_sweep may close the connection, which leaves the list only in its close callback. */
    for (struct list *at = l->conns.next; at != &l->conns; at = at->next)
        conn_sweep(list_entry(at, struct conn, all), now_ms);
    for (struct list *at = l->conns.next; at != &l->conns && !list_empty(&l->starved);
         at = at->next)
        conn_sweep_large(list_entry(at, struct conn, all), now_ms);
    if (list_empty(&l->conns))
        uv_timer_stop(&l->sweep);
}

static uint64_t sweep_ms(const struct loop_limits *limits)
{
    uint32_t ms = limits->idle_ms;
    if (limits->frame_ms < ms)
        ms = limits->frame_ms;
    if (limits->stall_ms < ms)
        ms = limits->stall_ms;
    ms /= 4;
    return ms < LOOP_SWEEP_MIN_MS   ? LOOP_SWEEP_MIN_MS
           : ms > LOOP_SWEEP_MAX_MS ? LOOP_SWEEP_MAX_MS
                                    : ms;
}

/* ---- life ---------------------------------------------------------------------------------- */

static void start_handles(struct loop *l)
{
    uv_prepare_init(&l->uv, &l->prepare);
    uv_check_init(&l->uv, &l->check);
    uv_timer_init(&l->uv, &l->sweep);
    l->wake.data = l->prepare.data = l->check.data = l->sweep.data = l;
    uv_poll_start(&l->wake, UV_READABLE, on_wake);
    uv_prepare_start(&l->prepare, on_prepare);
    uv_check_start(&l->check, on_check);
}

int loop_init(struct loop *l, uint32_t index, const struct loop_hooks *hooks,
              const struct loop_limits *limits, struct log *log)
{
    uint64_t seed;

    memset(l, 0, sizeof(*l));
    l->wake_fd = -1;
    l->index = index;
    l->hooks = hooks;
    l->limits = *limits;
    l->log = log;
    l->free_slot = NO_SLOT;
    list_init(&l->conns);
    list_init(&l->dirty);
    list_init(&l->resume);
    list_init(&l->starved);
    mailbox_init(&l->mailbox);
    arena_init(&l->arena, 0);
    atomic_init(&l->wake_pending, false);
    if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
        return -ERR_IO;
    prng_init(&l->prng, seed);
    l->receive = malloc(LOOP_RECEIVE_BYTES);
    l->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (!l->receive)
        return -ERR_NO_MEMORY;
    if (l->wake_fd < 0 || uv_loop_init(&l->uv) < 0)
        return -ERR_IO;
    if (uv_poll_init(&l->uv, &l->wake, l->wake_fd) < 0) {
        uv_loop_close(&l->uv);
        return -ERR_IO;
    }
    start_handles(l);
    return 0;
}

void loop_run(struct loop *l)
{
    uv_run(&l->uv, UV_RUN_DEFAULT);
    int rc = uv_loop_close(&l->uv);
    assert(rc == 0); /* a handle that was not closed would be a leak */
}

static void close_handle(uv_handle_t *handle, void *arg)
{
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

void loop_close_all(struct loop *l)
{
    for (struct list *at = l->conns.next; at != &l->conns; at = at->next)
        conn_close(list_entry(at, struct conn, all), -ERR_SHUTTING_DOWN);
    uv_walk(&l->uv, close_handle, NULL);
}

void loop_deinit(struct loop *l)
{
    if (l->wake_fd >= 0)
        close(l->wake_fd);
    mailbox_deinit(&l->mailbox);
    arena_deinit(&l->arena);
    free(l->receive);
    free(l->slots);
}

/* ---- letters ------------------------------------------------------------------------------- */

void loop_post(struct loop *to, struct list *batch)
{
    if (mailbox_post(&to->mailbox, batch))
        loop_wake(to);
}

void loop_post_one(struct loop *to, struct letter *letter)
{
    struct list batch;
    list_init(&batch);
    list_append(&batch, &letter->link);
    loop_post(to, &batch);
    assert(list_empty(&batch));
}

/* ---- connections by id --------------------------------------------------------------------- */

static int grow_slots(struct loop *l)
{
    uint32_t n = l->n_slots ? 2 * l->n_slots : 64;
    if (n > LOOP_CONNS_MAX)
        return -ERR_TOO_MANY_CONNECTIONS;
    struct loop_slot *slots = realloc(l->slots, n * sizeof(*slots));
    if (!slots)
        return -ERR_NO_MEMORY;
    for (uint32_t i = n; i-- > l->n_slots;) {
        slots[i] = (struct loop_slot){.next_free = l->free_slot};
        l->free_slot = i;
    }
    l->slots = slots;
    l->n_slots = n;
    return 0;
}

int loop_add_conn(struct loop *l, struct conn *c, uint64_t *ret_id)
{
    if (l->free_slot == NO_SLOT) {
        int rc = grow_slots(l);
        if (rc < 0)
            return rc;
    }
    uint32_t i = l->free_slot;
    struct loop_slot *slot = &l->slots[i];
    l->free_slot = slot->next_free;
    slot->conn = c;
    slot->generation++;
    *ret_id = (uint64_t)l->index << (ID_SLOT_BITS + ID_GENERATION_BITS) |
              (uint64_t)slot->generation << ID_SLOT_BITS | i;
    list_append(&l->conns, &c->all);
    l->n_conns++;
    if (!uv_is_active((const uv_handle_t *)&l->sweep) &&
        !uv_is_closing((const uv_handle_t *)&l->sweep))
        uv_timer_start(&l->sweep, on_sweep, sweep_ms(&l->limits), sweep_ms(&l->limits));
    return 0;
}

void loop_remove_conn(struct loop *l, struct conn *c, uint64_t id)
{
    uint32_t i = (uint32_t)(id & ((1u << ID_SLOT_BITS) - 1));
    assert(l->slots[i].conn == c);
    l->slots[i].conn = NULL;
    l->slots[i].next_free = l->free_slot;
    l->free_slot = i;
    list_remove(&c->all);
    l->n_conns--;
}

struct conn *loop_find_conn(const struct loop *l, uint64_t id)
{
    uint32_t i = (uint32_t)(id & ((1u << ID_SLOT_BITS) - 1));
    if (i >= l->n_slots || !l->slots[i].conn ||
        l->slots[i].generation != (uint32_t)(id >> ID_SLOT_BITS))
        return NULL;
    return l->slots[i].conn;
}
