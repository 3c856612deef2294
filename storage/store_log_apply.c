/* store_log_apply: the apply thread, which brings tables and loads to disk.
 *
 *   owner --apply_give-----> frozen[part] --+
 *   owner --apply_give_load> loads ---------+--> pass: slices in key order, over all tables given
 *   scrub --apply_give_remake> remake ------+
 *   anyone --store_log_purge-> purge -------+    (a slice at a time, between the others)
 *   tick (1 s): idle tables, a full log ----+         |
 *                                                     +--> last slice: facts, "applied up to"
 *   log_release <-- owner told: may drop the table <--+
 *
 * It is the only writer of the environment. A table is applied only when the log holds all of it
 * durably: what is on disk can never be ahead of the log. The log is released up to a sequence
 * number that the last transaction of a pass has made durable together with the records.
 *
 * A disk without room stops a pass, not the store: puts are refused (space), the slices are tried
 * again with less and less, the reserve is given up, and then the pass waits for room. Everything
 * acknowledged is in the log meanwhile.
 *
 * A pass is begun once. If a store is closed in the middle of one, closing goes on from where it
 * stands: to begin again would repeat wipes over records that came after them, and those may be on
 * disk only, when their owner has given the memory back.
 */
#include "storage/store_log_impl.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "storage/thread.h"

#define APPLY_TICK_MS 1000u
/* A table that got nothing for so many ticks goes to disk: reads then pay nothing for it. */
#define APPLY_IDLE_TICKS 5u
/* On a disk that is nearly full: fewer pages have to find room at once. */
#define SLICE_RECORDS_FEW 64u

/* ---- handing over -------------------------------------------------------------------------- */

int apply_init(struct store_log *s)
{
    struct apply *a = &s->apply;
    pthread_condattr_t attr;

    *a = (struct apply){.wait_lsn = LSN_NONE, .remake = ZONES};
    a->loads_tail = &a->loads;
    a->frozen = calloc(s->n_parts, sizeof(struct table *));
    a->taken = calloc(s->n_parts, sizeof(struct table *));
    a->lsn_applied = calloc(s->n_parts, sizeof(*a->lsn_applied));
    a->lsn_seen = calloc(s->n_parts, sizeof(*a->lsn_seen));
    a->ticks_unchanged = calloc(s->n_parts, sizeof(*a->ticks_unchanged));
    a->zone = calloc(1, sizeof(*a->zone));
    pthread_mutex_init(&a->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&a->more, &attr);
    pthread_condattr_destroy(&attr);
    return a->frozen && a->taken && a->lsn_applied && a->lsn_seen && a->ticks_unchanged && a->zone
               ? 0
               : -ERR_NO_MEMORY;
}

void apply_deinit(struct store_log *s)
{
    struct apply *a = &s->apply;
    struct load *next;

    for (struct load *load = a->loads; load; load = next) {
        next = load->next;
        commit_batch_free(load->batch);
        free(load);
    }
    free(a->frozen);
    free(a->taken);
    free(a->lsn_applied);
    free(a->lsn_seen);
    free(a->ticks_unchanged);
    free(a->zone);
    pthread_cond_destroy(&a->more);
    pthread_mutex_destroy(&a->lock);
}

void apply_give(struct store_log *s, uint32_t queue, struct table *frozen)
{
    pthread_mutex_lock(&s->apply.lock);
    s->apply.frozen[queue] = frozen;
    pthread_cond_signal(&s->apply.more);
    pthread_mutex_unlock(&s->apply.lock);
}

void apply_give_load(struct store_log *s, struct load *load)
{
    pthread_mutex_lock(&s->apply.lock);
    *s->apply.loads_tail = load;
    s->apply.loads_tail = &load->next;
    pthread_cond_signal(&s->apply.more);
    pthread_mutex_unlock(&s->apply.lock);
}

void apply_give_remake(struct store_log *s, uint32_t zone)
{
    pthread_mutex_lock(&s->apply.lock);
    s->apply.remake = zone;
    pthread_cond_signal(&s->apply.more);
    pthread_mutex_unlock(&s->apply.lock);
}

void apply_kick(struct store_log *s)
{
    pthread_mutex_lock(&s->apply.lock);
    s->apply.kicked = true;
    pthread_cond_signal(&s->apply.more);
    pthread_mutex_unlock(&s->apply.lock);
}

void apply_durable(struct store_log *s, uint64_t lsn)
{
    if (lsn >= atomic_load(&s->apply.wait_lsn))
        apply_kick(s);
}

void notify_held_up(struct store_log *s)
{
    for (uint32_t q = 0; q < s->n_parts; q++)
        if (atomic_load(&s->parts[q].held_up))
            s->config.notify(s->config.ctx, q);
}

/* ---- waiting ------------------------------------------------------------------------------- */

uint64_t apply_now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* Under the lock: until signalled, or so much time has passed. */
static void wait_ms(struct apply *a, uint64_t ms)
{
    uint64_t until_ms = apply_now_ms() + ms;
    struct timespec end = {.tv_sec = (time_t)(until_ms / 1000),
                           .tv_nsec = (long)(until_ms % 1000) * 1000000};

    pthread_cond_timedwait(&a->more, &a->lock, &end);
}

static void wait_tick(struct apply *a)
{
    wait_ms(a, APPLY_TICK_MS);
}

/* 0, or -ERR_IO: the store has failed meanwhile. */
static int wait_durable(struct store_log *s, uint64_t lsn)
{
    struct apply *a = &s->apply;

    atomic_store(&a->wait_lsn, lsn);
    pthread_mutex_lock(&a->lock);
    while (log_durable(s->log) < lsn && !atomic_load(&s->failed))
        wait_tick(a);
    pthread_mutex_unlock(&a->lock);
    atomic_store(&a->wait_lsn, LSN_NONE);
    return atomic_load(&s->failed) ? -ERR_IO : 0;
}

/* ---- transactions on a disk that may be full ----------------------------------------------- */

static void fail_disk(struct store_log *s, const char *why)
{
    char sentence[COMMIT_WHY_BYTES + 512];

    snprintf(sentence, sizeof(sentence),
             "store %.256s: %s. What its disk holds is not known any more: nothing more is "
             "acknowledged",
             s->dir, why);
    store_log_fail(s, sentence);
}

int apply_try_slice(struct store_log *s, slice_fn *slice, void *what, size_t records_max)
{
    char why[COMMIT_WHY_BYTES] = "";
    int r = slice(s, what, records_max, why);

    if (r == COMMIT_IO_ERROR) {
        if (space_fs_is_full(&s->space, COMMIT_FULL_DISK_BYTES))
            return COMMIT_FULL;
        r = -ERR_IO;
    }
    if (r < 0)
        fail_disk(s, why);
    return r;
}

/* Waits until there may be room. false: there is no time to wait, the store is being closed. */
static bool wait_for_room(struct store_log *s)
{
    struct apply *a = &s->apply;
    bool stopping;

    pthread_mutex_lock(&a->lock);
    if (!a->stopping)
        wait_tick(a);
    stopping = a->stopping;
    pthread_mutex_unlock(&a->lock);
    space_refresh(&s->space, atomic_load(&s->env.used_bytes));
    return !stopping && !atomic_load(&s->failed);
}

/* 0; COMMIT_FULL: given up, the store is being closed; negative: it has failed. */
static int run_slice(struct store_log *s, slice_fn *slice, void *what)
{
    size_t max = s->slice_records;
    int r;

    for (;;) {
        r = apply_try_slice(s, slice, what, max);
        if (r <= 0)
            break;
        atomic_store(&s->space.low, true);
        notify_held_up(s); /* to be told so */
        if (max > SLICE_RECORDS_FEW)
            max = SLICE_RECORDS_FEW;
        else if ((r != COMMIT_FULL || !space_release_reserve(&s->space)) && !wait_for_room(s))
            return COMMIT_FULL;
    }
    space_refresh(&s->space, atomic_load(&s->env.used_bytes));
    return r;
}

/* ---- loads --------------------------------------------------------------------------------- */

static int load_slice(struct store_log *s, void *what, size_t records_max,
                      char why[COMMIT_WHY_BYTES])
{
    return slice_load(s, what, records_max, why);
}

static void load_finish(struct store_log *s, struct load *load)
{
    struct part *p = &s->parts[load->queue];
    uint32_t queue = load->queue;

    pthread_mutex_lock(&p->lock);
    load->next = NULL;
    *p->loaded_tail = load;
    p->loaded_tail = &load->next;
    atomic_store_explicit(&p->has_loaded, true, memory_order_release);
    pthread_mutex_unlock(&p->lock);
    s->config.notify(s->config.ctx, queue);
}

static bool load_is_due(const struct store_log *s, const struct load *load)
{
    return load->after_lsn <= s->apply.lsn_applied[load->queue];
}

/* The first load that may be done now, or NULL. Under the lock. */
static struct load *load_take(struct store_log *s)
{
    struct apply *a = &s->apply;
    struct load **at = &a->loads, *load;

    while (*at && !load_is_due(s, *at))
        at = &(*at)->next;
    load = *at;
    if (!load)
        return NULL;
    *at = load->next;
    for (a->loads_tail = at; *a->loads_tail;)
        a->loads_tail = &(*a->loads_tail)->next;
    return load;
}

/* One slice of the load at hand; it is told when it is done. A disk without room ends it: it may be
 * tried again, and must not take what is kept for deletes. Negative: the store has failed. */
static int run_load(struct store_log *s, struct load *load)
{
    int r = atomic_load(&s->space.low) ? COMMIT_FULL : 0;

    if (r == 0 && load->next_item < load->batch->n)
        r = apply_try_slice(s, load_slice, load, s->slice_records);
    if (r < 0)
        return r;
    space_refresh(&s->space, atomic_load(&s->env.used_bytes));
    if (r > 0)
        load->error = r == COMMIT_NO_MEMORY ? -ERR_NO_MEMORY : -ERR_NO_SPACE;
    if (r > 0 || load->next_item == load->batch->n) {
        s->apply.loading = NULL;
        load_finish(s, load);
    }
    return 0;
}

/* When the thread has ended and all tables are on disk: no wipe is left that they wait for. */
static void rest_of_loads(struct store_log *s)
{
    struct apply *a = &s->apply;
    int r = 0;

    while (r == 0 && (a->loading || a->loads)) {
        if (!a->loading) {
            a->loading = a->loads;
            a->loads = a->loads->next;
        }
        r = run_load(s, a->loading);
    }
}

/* ---- passes -------------------------------------------------------------------------------- */

static int pass_slice(struct store_log *s, void *what, size_t records_max,
                      char why[COMMIT_WHY_BYTES])
{
    return slice_apply(s, what, records_max, why);
}

/* How much of the tables' memory is given back, in parts of PROGRESS_WHOLE. Of the range where the
 * pass stands nothing is yet; it is told ahead, so that puts need not wait for the end of a range,
 * but never more than an even range's share: all may lie in one. */
static uint32_t pass_progress(const struct pass *pass)
{
    uint32_t at = pass->zone / TABLE_RANGE_ZONES;
    uint64_t total = 0, done = 0, ahead = 0;

    for (uint32_t i = 0; i < TABLE_RANGES; i++) {
        total += pass->ranges[i].bytes;
        done += i < at ? pass->ranges[i].bytes : 0;
    }
    if (total == 0)
        return PROGRESS_WHOLE;
    if (at < TABLE_RANGES && pass->ranges[at].n_entries)
        ahead = pass->ranges[at].bytes / pass->ranges[at].n_entries * pass->n_applied;
    if (ahead > total / TABLE_RANGES)
        ahead = total / TABLE_RANGES;
    return (uint32_t)((done + ahead) * PROGRESS_WHOLE / total);
}

static void publish_progress(struct store_log *s, const struct pass *pass)
{
    uint32_t progress = pass_progress(pass), n_ranges = pass->zone / TABLE_RANGE_ZONES;

    for (uint32_t q = 0; q < s->n_parts; q++) {
        if (!pass->tables[q])
            continue;
        atomic_store(&s->parts[q].progress, progress);
        if (atomic_exchange(&s->parts[q].n_ranges_applied, n_ranges) < n_ranges)
            s->config.notify(s->config.ctx, q); /* gives them back, even if it is idle */
    }
    notify_held_up(s);
}

/* Everything is on disk: the log may forget it, the owners may drop their tables. */
static void pass_end(struct store_log *s, struct pass *pass)
{
    store_log_resize(s);
    facts_written(s, pass->durable);
    log_release(s->log, pass->seq);
    s->apply.seq_applied = pass->seq;
    s->apply.passing = false;
    for (uint32_t q = 0; q < s->n_parts; q++) {
        if (!pass->tables[q])
            continue;
        s->apply.lsn_applied[q] = pass->tables[q]->lsn_last;
        pass->tables[q] = NULL;
        atomic_store(&s->parts[q].frozen_first, LSN_NONE);
        atomic_store(&s->parts[q].applied, true);
        s->config.notify(s->config.ctx, q);
    }
}

static void pass_begin(struct store_log *s)
{
    struct apply *a = &s->apply;
    struct pass *pass = &a->pass;

    assert(!a->passing);
    a->passing = true;
    *pass = (struct pass){.tables = a->taken, .zone = ZONES, .place = pass->place};
    for (uint32_t q = 0; q < s->n_parts; q++) {
        if (!a->taken[q])
            continue;
        pass->zone = 0;
        for (uint32_t i = 0; i < TABLE_RANGES; i++) {
            pass->ranges[i].bytes += memtable_bytes(a->taken[q]->ranges[i]);
            pass->ranges[i].n_entries += memtable_count(a->taken[q]->ranges[i]);
        }
        if (q < s->n_owners)
            pass->seq_of[q] = log_seq_of(s->log, a->taken[q]->lsn_last);
    }
}

/* From where the pass stands. 0: to its end; COMMIT_FULL: the store is being closed and there is no
 * room; negative: it has failed. */
static int pass_run(struct store_log *s)
{
    struct pass *pass = &s->apply.pass;
    int r = 0;

    while (r == 0 && !pass->finished) {
        r = run_slice(s, pass_slice, pass);
        publish_progress(s, pass);
    }
    if (r == 0)
        pass_end(s, pass);
    return r;
}

/* The tables that were taken, and facts. As pass_run. */
static int apply_taken(struct store_log *s)
{
    struct apply *a = &s->apply;
    uint64_t lsn = 0;
    int r;

    for (uint32_t q = 0; q < s->n_parts; q++)
        if (a->taken[q] && a->taken[q]->lsn_last > lsn)
            lsn = a->taken[q]->lsn_last;
    r = wait_durable(s, lsn);
    if (r < 0)
        return r;
    pass_begin(s);
    return pass_run(s);
}

static void take_rest(struct store_log *s, bool frozen)
{
    for (uint32_t q = 0; q < s->n_parts; q++) {
        struct part *p = &s->parts[q];

        if (frozen)
            s->apply.taken[q] = atomic_load(&p->applied) ? NULL : p->frozen;
        else
            s->apply.taken[q] = table_is_empty(p->active) ? NULL : p->active;
        if (!frozen && s->apply.taken[q])
            atomic_store(&p->active_first, LSN_NONE);
    }
}

int apply_rest(struct store_log *s)
{
    int r = s->apply.passing ? pass_run(s) : 0;

    for (int frozen = 1; r == 0 && frozen >= 0; frozen--) {
        take_rest(s, frozen);
        r = apply_taken(s);
    }
    if (r == 0)
        rest_of_loads(s);
    return r;
}

/* ---- summaries ----------------------------------------------------------------------------- */

struct remake {
    uint32_t zone;
    int error;
};

static int remake_slice(struct store_log *s, void *what, size_t records_max,
                        char why[COMMIT_WHY_BYTES])
{
    struct remake *m = what;

    return slice_remake(s, m->zone, &m->error, why);
}

/* On a disk without room it is given up, and asked for again some other time. Negative: the store
 * has failed. */
static int run_remake(struct store_log *s, uint32_t zone)
{
    struct remake m = {.zone = zone};
    int r = apply_try_slice(s, remake_slice, &m, 0);

    if (r < 0)
        return r;
    if (r > 0)
        m.error = r == COMMIT_NO_MEMORY ? -ERR_NO_MEMORY : -ERR_NO_SPACE;
    scrubber_remade(s, m.error);
    return 0;
}

/* ---- the thread ---------------------------------------------------------------------------- */

static bool log_is_filling(const struct store_log *s)
{
    return log_used_bytes(s->log) >= s->log_bytes_max / 4 * 3;
}

/* Asks the owners of tables that stand idle, or all when the log fills, to hand them over. */
static void look_at_parts(struct store_log *s)
{
    struct apply *a = &s->apply;
    bool filling = log_is_filling(s);

    for (uint32_t q = 0; q < s->n_parts; q++) {
        struct part *p = &s->parts[q];
        uint64_t last = atomic_load_explicit(&p->active_last, memory_order_relaxed);

        a->ticks_unchanged[q] = last == a->lsn_seen[q] ? a->ticks_unchanged[q] + 1 : 0;
        a->lsn_seen[q] = last;
        if (atomic_load(&p->active_first) == LSN_NONE ||
            (!filling && a->ticks_unchanged[q] < APPLY_IDLE_TICKS))
            continue;
        atomic_store(&p->wants_freeze, true);
        s->config.notify(s->config.ctx, q);
    }
}

/* Facts alone: written when they are old enough, or the log wants room. */
static bool facts_are_due(struct store_log *s)
{
    struct apply *a = &s->apply;

    if (atomic_load(&s->facts.first) > log_durable(s->log)) {
        a->facts_ticks = 0;
        return false;
    }
    return ++a->facts_ticks >= APPLY_IDLE_TICKS || log_is_filling(s);
}

static bool take_tables(struct store_log *s)
{
    struct apply *a = &s->apply;
    bool any = false;

    for (uint32_t q = 0; q < s->n_parts; q++) {
        a->taken[q] = a->frozen[q];
        a->frozen[q] = NULL;
        any = any || a->taken[q];
    }
    return any;
}

static bool has_tables(const struct store_log *s)
{
    for (uint32_t q = 0; q < s->n_parts; q++)
        if (s->apply.frozen[q])
            return true;
    return false;
}

static bool has_load(const struct store_log *s)
{
    const struct load *load = s->apply.loads;

    while (load && !load_is_due(s, load))
        load = load->next;
    return load || s->apply.loading;
}

/* When the store is closed nobody waits for it any more. */
static bool has_remake(const struct apply *a)
{
    return a->remake < ZONES && !a->stopping;
}

/* Under the lock, which is given up meanwhile. Negative: the store has failed. */
static int work(struct store_log *s, bool tick, bool purge)
{
    struct apply *a = &s->apply;
    uint32_t remake = has_remake(a) ? a->remake : ZONES;
    bool load, tables;
    int r = 0;

    if (!a->loading)
        a->loading = load_take(s);
    /* In turn: none waits for more than one of another. A remake, which is rare, is first. */
    purge = purge && remake == ZONES && (!a->purged_last || !(has_tables(s) || a->loading));
    tables = remake == ZONES && !purge && has_tables(s) && (!a->loading || a->loaded_last) &&
             take_tables(s);
    load = remake == ZONES && !purge && a->loading && !tables;
    a->remake = ZONES;
    a->loaded_last = load || (purge && a->loaded_last);
    a->purged_last = purge;
    pthread_mutex_unlock(&a->lock);
    if (tick) {
        space_refresh(&s->space, atomic_load(&s->env.used_bytes));
        look_at_parts(s);
        purge_ask_owners(s);
    }
    if (remake < ZONES)
        r = run_remake(s, remake);
    else if (purge)
        r = purge_run(s);
    else if (load)
        r = run_load(s, a->loading);
    else if (tables || (tick && facts_are_due(s)))
        r = apply_taken(s);
    pthread_mutex_lock(&a->lock);
    return r;
}

static void *apply_main(void *arg)
{
    struct store_log *s = arg;
    struct apply *a = &s->apply;
    uint64_t tick_ms = apply_now_ms() + APPLY_TICK_MS;
    int r = 0;

    pthread_mutex_lock(&a->lock);
    while (r >= 0) {
        bool tick = apply_now_ms() >= tick_ms;
        uint64_t ms = APPLY_TICK_MS;
        bool purge = !a->stopping && purge_is_due(s, &ms);
        bool busy = has_tables(s) || has_load(s) || has_remake(a) || purge;

        if (!busy && a->stopping)
            break;
        if (!busy && !tick && !a->kicked) {
            wait_ms(a, ms);
            continue;
        }
        if (tick)
            tick_ms = apply_now_ms() + APPLY_TICK_MS;
        a->kicked = false;
        r = work(s, tick, purge);
        if (r > 0)
            break; /* closing, and no room: the log has it all */
    }
    pthread_mutex_unlock(&a->lock);
    return NULL;
}

int apply_start(struct store_log *s)
{
    int r;

    space_refresh(&s->space, atomic_load(&s->env.used_bytes));
    r = thread_start(&s->apply.thread, apply_main, s);
    s->apply.started = r == 0;
    return r;
}

void apply_stop(struct store_log *s)
{
    struct apply *a = &s->apply;

    if (!a->started)
        return;
    pthread_mutex_lock(&a->lock);
    a->stopping = true;
    pthread_cond_signal(&a->more);
    pthread_mutex_unlock(&a->lock);
    pthread_join(a->thread, NULL);
    a->started = false;
}
