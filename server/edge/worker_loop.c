/* worker_loop: one worker thread: a loop, a core worker, and its queue of the store.
 *
 *   sockets, timers, letters, the store's outcomes --> event --> worker_step --> effects
 *        ^                                               ^                          |
 *        |                                               +---- dones (reads) <------+
 *        +---------- flush: submit, outboxes, writes <------ appended <-------------+
 *
 * The thread owns all of it; nothing here is locked. Other threads reach it in two ways: letters in
 * the loop's mailbox, and the store's notify, both of which wake the loop.
 *
 * Stopping: LETTER_STOP closes the listener and tells the core, which finishes what is in flight
 * and refuses what is new. When the core is idle, everything is written and no client has asked for
 * STOP_QUIET_MS, control is told; this worker goes on refusing and serving its siblings. With
 * LETTER_FINISH every connection is finished politely, and control is told again when all are gone
 * or CONN_LINGER_MS is over. LETTER_CLOSE, which may come at any time, waits for nothing.
 */
#include "server/edge/worker_loop.h"
#include "proto/err.h"
#include "server/core/floor_facts.h"
#include "server/core/ring.h"
#include "server/edge/client.h"
#include "server/edge/conn.h"
#include "server/edge/control.h"
#include "server/edge/lookup.h"
#include "server/edge/status.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define REAP_MAX 256u
#define NEVER_MS UINT64_MAX

/* ---- the core ------------------------------------------------------------------------------ */

static void step_once(struct worker_loop *wl, struct event *event)
{
    assert(!wl->stepping);
    wl->stepping = true;
    event->now_ms = loop_now_ms(&wl->loop);
    event->wall_ms = loop_wall_ms(&wl->loop);
    if (wl->stopping && !wl->finishing && event->type == EVENT_REQUEST)
        wl->quiet_ms = event->now_ms;
    int more = worker_step(wl->core, event, wl->effects);
    worker_effects_run(wl, wl->effects);
    while (more == STEP_MORE) {
        struct event again = {
            .type = EVENT_MORE, .now_ms = event->now_ms, .wall_ms = event->wall_ms};
        more = worker_step(wl->core, &again, wl->effects);
        worker_effects_run(wl, wl->effects);
    }
    wl->stepping = false;
}

static void feed_dones(struct worker_loop *wl)
{
    struct done done;
    struct wire_peer msg;

    while (dones_take(&wl->dones, &done)) {
        if (done.event.type == EVENT_PEER) {
            refusal_message(&done.refusal, &msg);
            done.event.u.peer.msg = &msg;
        }
        step_once(wl, &done.event);
        dones_release(&wl->dones, &done);
    }
}

void worker_loop_feed(struct worker_loop *wl, struct event *event)
{
    step_once(wl, event);
    feed_dones(wl);
}

static void tell_healed(struct worker_loop *wl, uint64_t n_healed)
{
    log_info(&wl->node->log, "damaged records were healed from other replicas",
             "worker=%u records=%" PRIu64 " records_since_start=%" PRIu64, wl->index,
             n_healed - wl->heals_told, n_healed);
    wl->heals_told = n_healed;
}

static void tell_pulled(struct worker_loop *wl, const struct worker_repair_stats *stats)
{
    log_info(&wl->node->log, "fetched from other replicas what was missing here",
             "worker=%u records=%" PRIu64 " records_since_start=%" PRIu64
             " replicas_that_differ=%u",
             wl->index, stats->n_pulled - wl->repairs_told, stats->n_pulled, stats->n_pairs_differ);
    wl->repairs_told = stats->n_pulled;
}

/* A line of each kind per while about what came from other replicas, if anything did. */
static void tell_repairs(struct worker_loop *wl)
{
    uint64_t now_ms = loop_now_ms(&wl->loop);
    struct worker_repair_stats stats;
    bool healed, pulled;

    worker_repair_stats(wl->core, &stats);
    healed = stats.n_healed != wl->heals_told;
    pulled = stats.n_pulled != wl->repairs_told;
    if ((!healed && !pulled) || now_ms - wl->repairs_told_ms < REPAIRS_TELL_MS)
        return;
    if (healed)
        tell_healed(wl, stats.n_healed);
    if (pulled)
        tell_pulled(wl, &stats);
    wl->repairs_told_ms = now_ms;
}

static void on_timer(uv_timer_t *timer)
{
    struct worker_loop *wl = timer->data;
    struct event tick = {.type = EVENT_TICK};
    wl->armed_ms = NEVER_MS;
    worker_loop_feed(wl, &tick);
    tell_repairs(wl);
}

static void arm_timer(struct worker_loop *wl)
{
    uint64_t due_ms = worker_deadline_ms(wl->core), now_ms = loop_now_ms(&wl->loop);

    if (due_ms == wl->armed_ms || wl->closing)
        return;
    wl->armed_ms = due_ms;
    if (due_ms == NEVER_MS)
        uv_timer_stop(&wl->timer);
    else
        uv_timer_start(&wl->timer, on_timer, due_ms > now_ms ? due_ms - now_ms : 0, 0);
}

/* ---- woken by other threads ---------------------------------------------------------------- */

static void reap(struct worker_loop *wl)
{
    struct store *s = wl->node->store;
    struct store_done done[REAP_MAX];
    size_t n;

    do {
        n = s->ops->reap(s, wl->index, done, REAP_MAX);
        for (size_t i = 0; i < n; i++) {
            struct event event = {.type = EVENT_STORED, .u.stored = done[i]};
            worker_loop_feed(wl, &event);
        }
    } while (n == REAP_MAX);
    do {
        n = worker_effects_fetched(wl);
        feed_dones(wl);
    } while (n == FETCHED_MAX);
    uint64_t durable = s->ops->durable(s);
    if (durable != wl->durable) {
        struct event event = {.type = EVENT_DURABLE, .u.durable.lsn = durable};
        wl->durable = durable;
        worker_loop_feed(wl, &event);
    }
}

static void take_ring(struct worker_loop *wl, struct ring *ring)
{
    struct event event = {.type = EVENT_RING, .u.ring.ring = ring};
    struct floor_facts facts;
    int rc = floor_facts_read(wl->node->store, wl->index, ring, 0, wl->index, wl->node->n_workers,
                              &facts);

    wl->read = true;
    if (rc < 0) /* without them deleted values could come back */
        control_die(wl->node->control, "the purge floors in %s cannot be read: %s.",
                    wl->node->disk.dir, err_text(-rc));
    ring_unref(wl->ring);
    wl->ring = ring_ref(ring);
    event.u.ring.facts = facts.list;
    event.u.ring.n_facts = facts.n;
    worker_loop_feed(wl, &event);
    floor_facts_free(&facts);
    peers_set_ring(&wl->peers, ring);
}

static void take_peer(struct worker_loop *wl, const struct letter *letter)
{
    uint64_t now_ms = loop_now_ms(&wl->loop), sent_ms = letter->u.peer.sent_ms;
    struct event event = {.type = EVENT_PEER,
                          .u.peer = {.from = {.kind = ADDR_WORKER, .worker = letter->from},
                                     .msg = &letter->u.peer.msg,
                                     .owner = letter->u.peer.owner,
                                     .waited_ms = now_ms > sent_ms ? now_ms - sent_ms : 0}};
    worker_loop_feed(wl, &event);
}

/* Only so that on_flushed looks again. */
static void on_stop_tick(uv_timer_t *timer)
{
}

static void take_seen(struct worker_loop *wl, uint32_t node, enum wire_member_state state)
{
    struct event event = {.type = EVENT_NODE_SEEN, .u.node_seen = {.node = node, .state = state}};

    worker_loop_feed(wl, &event);
}

static void take_damaged(struct worker_loop *wl, const struct blob *store_key)
{
    struct event event = {.type = EVENT_DAMAGED, .u.damaged.store_key = blob_slice(store_key)};

    worker_loop_feed(wl, &event);
}

static void take_remade(struct worker_loop *wl, struct store_range range)
{
    struct event event = {.type = EVENT_REMADE, .u.remade.range = range};

    worker_loop_feed(wl, &event);
}

static void take_clock(struct worker_loop *wl, const struct letter *letter)
{
    struct event event = {.type = EVENT_CLOCK,
                          .u.clock = {.right = letter->u.clock.right,
                                      .offset_ms = letter->u.clock.offset_ms,
                                      .behind_ms = letter->u.clock.behind_ms}};

    worker_loop_feed(wl, &event);
}

static void take_stop(struct worker_loop *wl)
{
    struct event event = {.type = EVENT_STOP};

    wl->stopping = true;
    wl->quiet_ms = loop_now_ms(&wl->loop);
    uv_timer_start(&wl->tick, on_stop_tick, STOP_TICK_MS, STOP_TICK_MS);
    listener_finish(&wl->listener);
    worker_loop_feed(wl, &event);
}

static void take_finish(struct worker_loop *wl)
{
    wl->finishing = true;
    wl->idle_told = false;
    wl->quiet_ms = loop_now_ms(&wl->loop);
    peers_stop(&wl->peers);
    for (struct list *at = wl->loop.conns.next; at != &wl->loop.conns; at = at->next)
        conn_finish(list_entry(at, struct conn, all));
}

static void take_close(struct worker_loop *wl)
{
    wl->closing = true;
    listener_stop(&wl->listener);
    peers_stop(&wl->peers);
    lookup_cancel(&wl->loop.uv);
    loop_close_all(&wl->loop);
}

static void look_at_core(const struct worker *core, struct meters *m)
{
    struct worker_stats stats;
    struct worker_repair_stats repair;
    struct worker_purge_stats purge;

    worker_stats(core, &stats);
    worker_purge_stats(core, &purge);
    worker_repair_stats(core, &repair);
    meter_set(&m->peer_requests, stats.n_peer_in);
    meter_set(&m->peer_dropped, stats.n_dropped);
    meter_set(&m->restamped, stats.n_restamped);
    meter_set(&m->repairs, stats.n_repairs);
    meter_set(&m->hedges, stats.n_hedges);
    meter_set(&m->clock_refused, stats.n_clock_refused);
    meter_set(&m->corrupt, stats.n_corrupt);
    meter_set(&m->ops, stats.n_ops);
    meter_set(&m->ops_bytes, stats.inflight_bytes);
    meter_set(&m->compared, repair.n_compared);
    meter_set(&m->compared_equal, repair.n_equal);
    meter_set(&m->compare_failed, repair.n_failed);
    meter_set(&m->pulled, repair.n_pulled);
    meter_set(&m->pulled_bytes, repair.n_pulled_bytes);
    meter_set(&m->told, repair.n_told);
    meter_set(&m->told_bytes, repair.n_told_bytes);
    meter_set(&m->purge_rounds, purge.n_closed);
    meter_set(&m->purge_abandoned, purge.n_abandoned);
    meter_set(&m->pairs_differ, repair.n_pairs_differ);
    meter_set(&m->healed, repair.n_healed);
    meter_set(&m->heals_refused, repair.n_heals_refused);
    meter_set(&m->damaged, repair.n_damaged);
}

/* What only this thread may look at, for control to see. */
static void take_look(struct worker_loop *wl)
{
    struct meters *m = &wl->meters;
    struct store_stats store;

    look_at_core(wl->core, m);
    meter_set(&m->conns, wl->loop.n_conns);
    meter_set(&m->unsent_bytes, wl->loop.unsent_bytes);
    meter_set(&m->store_waiting, wl->batch.n);
    meter_set(&m->clock_off, worker_clock_is_off(wl->core, loop_wall_ms(&wl->loop)));
    if (wl->node->store->ops->stats(wl->node->store, wl->index, &store) == 0)
        meter_set(&m->records_in_memory, store.n_in_memory);
    meter_set(&m->looked_ms, loop_now_ms(&wl->loop));
}

static void take_letter(struct worker_loop *wl, struct letter *letter)
{
    if (letter->type == LETTER_STATUS) { /* it goes on */
        counts_take(wl, letter);
        return;
    }
    switch (letter->type) {
    case LETTER_PEER:
        take_peer(wl, letter);
        break;
    case LETTER_SOCKET:
        if (wl->closing || wl->finishing)
            break;
        if (letter->u.socket.kind == SOCKET_CLIENT)
            client_take(wl, letter);
        else
            link_accept(wl, letter);
        break;
    case LETTER_RING:
        take_ring(wl, letter->u.ring.ring);
        break;
    case LETTER_DIAL:
        peers_nudge(&wl->peers, letter->u.dial.node);
        break;
    case LETTER_SEEN:
        take_seen(wl, letter->u.seen.node, letter->u.seen.state);
        break;
    case LETTER_DAMAGED:
        take_damaged(wl, letter->u.damaged.store_key);
        break;
    case LETTER_REMADE:
        take_remade(wl, letter->u.remade.range);
        break;
    case LETTER_CLOCK:
        take_clock(wl, letter);
        break;
    case LETTER_STOP:
        take_stop(wl);
        break;
    case LETTER_FINISH:
        take_finish(wl);
        break;
    case LETTER_CLOSE:
        take_close(wl);
        break;
    case LETTER_LOOK:
        take_look(wl);
        break;
    case LETTER_ANSWER:
        status_take(wl, letter);
        break;
    case LETTER_STATUS:
    case LETTER_IDLE:
        break; /* control's */
    }
    letter_free(letter);
}

static void on_woken(struct loop *l)
{
    struct worker_loop *wl = (struct worker_loop *)l;
    struct list letters;

    list_init(&letters);
    loop_take_letters(l, &letters);
    while (!list_empty(&letters)) {
        take_letter(wl, letters_pop(&letters));
    }
    reap(wl);
}

/* ---- flush --------------------------------------------------------------------------------- */

/* The sibling's mailbox had no room for a request: the core hears what the sibling would say. */
static void bounce(struct worker_loop *wl, uint32_t to, struct letter *letter)
{
    struct wire_peer reply;
    struct event event = {.type = EVENT_PEER,
                          .u.peer = {.from = {.kind = ADDR_WORKER, .worker = to}, .msg = &reply}};

    peer_refusal(&letter->u.peer.msg, ERR_OVERLOADED, &reply);
    worker_loop_feed(wl, &event);
    letter_free(letter);
}

/* Returns whether something came back. */
static bool post_outboxes(struct worker_loop *wl)
{
    bool bounced = false;

    for (uint32_t i = 0; i < wl->node->n_workers; i++) {
        struct list refused;
        if (list_empty(&wl->outboxes[i]))
            continue;
        loop_post(&wl->node->workers[i]->loop, &wl->outboxes[i]);
        list_init(&refused);
        list_splice(&refused, &wl->outboxes[i]);
        while (!list_empty(&refused)) {
            bounce(wl, i, letters_pop(&refused));
            bounced = true;
        }
    }
    return bounced;
}

static void on_flush(struct loop *l)
{
    struct worker_loop *wl = (struct worker_loop *)l;
    bool again = true;

    for (unsigned round = 0; again && round < FLUSH_ROUNDS_MAX; round++) {
        worker_effects_submit(wl);
        again = wl->dones.n > 0;
        feed_dones(wl);
        again |= post_outboxes(wl);
    }
    if (again)
        loop_wake(l);
}

static bool all_written(const struct loop *l)
{
    for (struct list *at = l->conns.next; at != &l->conns; at = at->next)
        if (conn_unsent(list_entry(at, struct conn, all)) > 0)
            return false;
    return true;
}

/* Whether the present step of stopping is done. It is quiet only if the sockets were looked at when
 * the time was over: a thread that was held up finds the time over and requests waiting. */
static bool stop_step_done(struct worker_loop *wl)
{
    uint64_t passed_ms = loop_now_ms(&wl->loop) - wl->quiet_ms;

    if (wl->finishing)
        return wl->loop.n_conns == 0 || passed_ms >= CONN_LINGER_MS;
    return passed_ms >= STOP_QUIET_MS && wl->loop.polled && worker_idle(wl->core) &&
           wl->batch.n == 0 && all_written(&wl->loop);
}

static void on_flushed(struct loop *l)
{
    struct worker_loop *wl = (struct worker_loop *)l;
    struct store *s = wl->node->store;

    if (wl->read)
        s->ops->read_end(s, wl->index);
    wl->read = false;
    meter_flush(&wl->meters);
    if (wl->closing)
        return;
    arm_timer(wl);
    if (wl->stopping && !wl->idle_told && stop_step_done(wl)) {
        wl->idle_told = true;
        control_tell_idle(wl->node->control, wl->index);
    }
}

/* ---- life ---------------------------------------------------------------------------------- */

static const struct loop_hooks hooks = {
    .on_woken = on_woken, .on_flush = on_flush, .on_flushed = on_flushed};

static int core_new(struct worker_loop *wl, uint64_t clock_bound_ms)
{
    const struct node *node = wl->node;
    struct worker_config config = {.node_id = node->disk.node_id,
                                   .node = 0,
                                   .worker = wl->index,
                                   .n_workers = node->n_workers,
                                   .boot = node->disk.boot,
                                   .clock_bound_ms = clock_bound_ms,
                                   .clock_watched = true,
                                   .seed = prng_next(&wl->loop.prng),
                                   .name = slice_str(node->disk.name),
                                   .software = slice_str("quoitd " QUOIT_VERSION),
                                   .compare_ms = WORKER_COMPARE_MS,
                                   .purge_age_ms = node->config.purge_age_ms};
    wl->core = worker_new(&config);
    return wl->core ? 0 : -ERR_NO_MEMORY;
}

int worker_loop_new(struct node *node, uint32_t index, int fd, uint64_t clock_bound_ms,
                    struct worker_loop **ret)
{
    struct loop_limits limits = {.idle_ms = node->config.idle_ms,
                                 .frame_ms = node->config.frame_ms,
                                 .stall_ms = node->config.stall_ms};
    struct worker_loop *wl = calloc(1, sizeof(*wl));

    *ret = wl;
    if (!wl) {
        close(fd);
        return -ERR_NO_MEMORY;
    }
    wl->node = node;
    wl->index = index;
    wl->armed_ms = NEVER_MS;
    counts_init(&wl->counts);
    wl->outboxes = calloc(node->n_workers, sizeof(*wl->outboxes));
    for (uint32_t i = 0; wl->outboxes && i < node->n_workers; i++)
        list_init(&wl->outboxes[i]);
    int rc = loop_init(&wl->loop, index, &hooks, &limits, &node->log);
    if (rc < 0 || !wl->outboxes || worker_effects_init(wl) < 0 ||
        core_new(wl, clock_bound_ms) < 0) {
        close(fd);
        return rc < 0 ? rc : -ERR_NO_MEMORY;
    }
    peers_init(&wl->peers, wl);
    counts_start(wl);
    uv_timer_init(&wl->loop.uv, &wl->timer);
    uv_timer_init(&wl->loop.uv, &wl->tick);
    wl->timer.data = wl->tick.data = wl;
    return listener_start(&wl->listener, &wl->loop, fd, client_accept, wl);
}

static void thread_main(void *arg)
{
    struct worker_loop *wl = arg;
    char name[16]; /* the kernel's limit */

    snprintf(name, sizeof(name), "worker-%u", wl->index);
    pthread_setname_np(pthread_self(), name);
    loop_run(&wl->loop);
}

int worker_loop_start(struct worker_loop *wl)
{
    return uv_thread_create(&wl->thread, thread_main, wl) < 0 ? -ERR_IO : 0;
}

void worker_loop_join(struct worker_loop *wl)
{
    uv_thread_join(&wl->thread);
}

void worker_loop_free(struct worker_loop *wl)
{
    if (!wl)
        return;
    peers_deinit(&wl->peers);
    worker_free(wl->core);
    worker_effects_deinit(wl);
    counts_deinit(&wl->counts);
    ring_unref(wl->ring);
    for (uint32_t i = 0; wl->outboxes && i < wl->node->n_workers; i++)
        letters_free(&wl->outboxes[i]);
    free(wl->outboxes);
    loop_deinit(&wl->loop);
    free(wl);
}
