/* log: appending, admission, and release.
 *
 *   appender         log_admit  ->  charge            (room, under the lock)
 *                    log_append ->  LSNs, pending     (one short lock)
 *   log thread       log_writer.c   groups of what is pending: written, synced, told
 *   keeper           log_keeper.c   makes segments ahead of the head
 *   releasing thread log_seq_of, log_release: used segments become free
 *
 *   segment:  made --> FREE --head moves on to it--> HEAD --a group did not fit--> USED
 *                        ^                                                           |
 *                        +----------- all its groups are released <------------------+
 *
 * The head is never freed, so the last durable group is not overwritten before the next one, in
 * another segment, is durable: whatever is released, recovery finds a group at or above the
 * sequence that the store remembers, or knows that something is missing.
 *
 * Neither appenders nor the log thread wait for the keeper: what was admitted fits (log_room.c).
 * After a failed write or sync nothing is tried again: the kernel may have dropped what it could
 * not write and report success the next time.
 *
 * One lock for everything, held for moments. Callbacks are called without it.
 */
#include "storage/log_impl.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include "proto/err.h"
#include "storage/thread.h"

void log_publish_used(struct log *l)
{
    uint64_t bytes = l->seq_last > l->seq_released ? l->head_offset : 0;

    for (size_t i = 0; i < l->n_segments; i++)
        if (l->segments[i]->use == LOG_SEGMENT_USED)
            bytes += l->segments[i]->size;
    atomic_store_explicit(&l->used_bytes, bytes, memory_order_relaxed);
}

/* ---- room --------------------------------------------------------------------------------- */

static uint64_t room_total(const struct log *l, uint64_t atom)
{
    struct log_room_sum sum = {0};

    if (l->head)
        log_room_add(&sum, atom, l->head->size - l->head_offset);
    for (const struct log_segment *s = l->free; s; s = s->next)
        log_room_add(&sum, atom, s->size);
    return log_room_total(&sum);
}

/* What must be left for it. */
static uint64_t room_needed(const struct log *l, size_t bytes, bool reserve)
{
    return log_room_charge(&l->room, bytes) + (reserve ? 0 : l->room.limits.reserve_bytes);
}

bool log_fits(const struct log *l, size_t bytes, bool reserve)
{
    return l->room.charged + room_needed(l, bytes, reserve) <=
           room_total(l, log_room_atom(&l->room, bytes));
}

uint64_t log_segment_bytes_next(const struct log *l)
{
    uint64_t most = l->n_segments ? l->room.limits.segment_bytes : l->room.limits.segment_bytes_min;
    uint64_t rest =
        l->segments_bytes < l->options.bytes_max
            ? (l->options.bytes_max - l->segments_bytes) / LOG_BLOCK_BYTES * LOG_BLOCK_BYTES
            : 0;

    return most < rest ? most : rest;
}

bool log_wants_segment(const struct log *l)
{
    if (l->n_segments >= LOG_SEGMENTS_MAX ||
        log_segment_bytes_next(l) < l->room.limits.segment_bytes_min)
        return false;
    return room_total(l, l->room.limits.atom_bytes) <
               l->room.charged + l->room.limits.ahead_bytes ||
           (l->wanted && !log_fits(l, l->wanted_bytes, l->wanted_reserve));
}

void log_wake_keeper(struct log *l)
{
    if (l->keeper_waits)
        pthread_cond_signal(&l->work);
}

void log_free_segment(struct log *l, struct log_segment *s)
{
    s->use = LOG_SEGMENT_FREE;
    s->last_seq = 0;
    s->lsn_max = 0;
    s->next = NULL;
    *l->free_tail = s;
    l->free_tail = &s->next;
}

int log_add_segment(struct log *l, struct log_segment *s)
{
    struct log_segment **more =
        realloc(l->segments, (l->n_segments + 1) * sizeof(struct log_segment *));

    if (!more)
        return -ERR_NO_MEMORY;
    l->segments = more;
    l->segments[l->n_segments++] = s;
    l->segments_bytes += s->size;
    log_free_segment(l, s);
    return 0;
}

static int refusal(const struct log *l)
{
    return l->no_space ? -ERR_NO_SPACE : -ERR_FULL;
}

bool log_room_is_news(struct log *l)
{
    if (!l->wanted)
        return false;
    if (!log_fits(l, l->wanted_bytes, l->wanted_reserve) && l->wanted_error == refusal(l))
        return false;
    l->wanted = false;
    return true;
}

int log_admit(struct log *l, struct log_list *list, size_t bytes, bool reserve)
{
    int r = 0;

    assert(list->admitted == 0);
    if (atomic_load_explicit(&l->failed, memory_order_relaxed))
        return -ERR_IO;
    pthread_mutex_lock(&l->lock);
    if (bytes == 0 || log_fits(l, bytes, reserve)) {
        log_room_take(&l->room, bytes);
        list->admitted = bytes;
    } else {
        r = refusal(l);
        if (!l->wanted ||
            room_needed(l, bytes, reserve) < room_needed(l, l->wanted_bytes, l->wanted_reserve)) {
            l->wanted_bytes = bytes;
            l->wanted_reserve = reserve;
        }
        l->wanted = true;
        l->wanted_error = r;
    }
    if (log_wants_segment(l))
        log_wake_keeper(l);
    pthread_mutex_unlock(&l->lock);
    return r;
}

/* ---- appending ---------------------------------------------------------------------------- */

struct log_list *log_list_new(struct log *l)
{
    struct log_list *list;

    pthread_mutex_lock(&l->lock);
    list = l->spares;
    if (list) {
        l->spares = list->next;
        l->n_spares--;
    }
    pthread_mutex_unlock(&l->lock);
    if (!list)
        return log_list_make(&l->room);
    list->next = NULL;
    return list;
}

void log_recycle_lists(struct log *l, struct log_list *lists)
{
    struct log_list *next, *surplus = NULL;

    for (struct log_list *list = lists; list; list = next) {
        next = list->next;
        log_list_clear(list);
        list->next = next;
    }
    pthread_mutex_lock(&l->lock);
    for (; lists; lists = next) {
        struct log_list **to = l->n_spares < LOG_SPARES_MAX ? &l->spares : &surplus;

        next = lists->next;
        l->n_spares += to == &l->spares;
        lists->next = *to;
        *to = lists;
    }
    pthread_mutex_unlock(&l->lock);
    for (; surplus; surplus = next) {
        next = surplus->next;
        log_list_destroy(surplus);
    }
}

void log_list_free(struct log *l, struct log_list *list)
{
    bool news;

    if (!list)
        return;
    pthread_mutex_lock(&l->lock);
    log_room_give(&l->room, list->admitted);
    list->admitted = 0;
    news = log_room_is_news(l);
    pthread_mutex_unlock(&l->lock);
    list->next = NULL;
    log_recycle_lists(l, list);
    if (news)
        l->options.on_room(l->options.ctx);
}

uint64_t log_append(struct log *l, struct log_list *list, uint32_t queue, uint64_t n_ops)
{
    uint64_t first;

    assert(queue < l->options.n_queues && list->bytes <= list->admitted);
    list->queue = queue;
    list->next = NULL;
    pthread_mutex_lock(&l->lock);
    first = l->lsn_last + 1;
    l->lsn_last += n_ops;
    list->lsn_last = l->lsn_last;
    *l->pending_tail = list;
    l->pending_tail = &list->next;
    if (l->log_waits)
        pthread_cond_signal(&l->more);
    pthread_mutex_unlock(&l->lock);
    return first;
}

void log_fail(struct log *l, const char *why)
{
    char sentence[LOG_WHY_BYTES + 512];

    if (atomic_exchange(&l->failed, true))
        return;
    snprintf(sentence, sizeof(sentence),
             "log %.256s: %s. What its disk holds is not known any more: nothing more is "
             "acknowledged",
             l->dir, why);
    l->options.on_fatal(l->options.ctx, sentence);
}

/* ---- any thread --------------------------------------------------------------------------- */

uint64_t log_durable(const struct log *l)
{
    return atomic_load_explicit(&l->durable, memory_order_acquire);
}

uint64_t log_n_syncs(const struct log *l)
{
    return atomic_load_explicit(&l->n_syncs, memory_order_relaxed);
}

uint64_t log_n_replayed(const struct log *l)
{
    return l->n_replayed;
}

bool log_is_short(const struct log *l)
{
    return atomic_load_explicit(&l->no_space, memory_order_relaxed);
}

uint64_t log_used_bytes(const struct log *l)
{
    return atomic_load_explicit(&l->used_bytes, memory_order_relaxed);
}

/* ---- releasing ---------------------------------------------------------------------------- */

struct log_place log_last(const struct log *l)
{
    return l->last;
}

uint64_t log_seq_of(struct log *l, uint64_t lsn)
{
    uint64_t seq;

    pthread_mutex_lock(&l->lock);
    seq = l->seq_released;
    for (size_t i = 0; i < l->n_segments; i++) {
        const struct log_segment *s = l->segments[i];

        if (s->last_seq > seq && s->lsn_max <= lsn)
            seq = s->last_seq;
    }
    pthread_mutex_unlock(&l->lock);
    return seq;
}

bool log_is_behind(struct log *l, uint64_t lsn, uint64_t seq)
{
    bool behind = true;

    pthread_mutex_lock(&l->lock);
    for (size_t i = 0; i < l->n_segments; i++)
        behind = behind && (l->segments[i]->last_seq <= seq || l->segments[i]->lsn_before >= lsn);
    pthread_mutex_unlock(&l->lock);
    return behind;
}

void log_release(struct log *l, uint64_t seq)
{
    bool news = false;

    pthread_mutex_lock(&l->lock);
    assert(seq <= l->seq_last);
    if (seq > l->seq_released)
        l->seq_released = seq;
    for (size_t i = 0; i < l->n_segments; i++) {
        struct log_segment *s = l->segments[i];

        if (s->use == LOG_SEGMENT_USED && s->last_seq <= l->seq_released)
            log_free_segment(l, s);
    }
    log_publish_used(l);
    l->try_again = true;
    log_wake_keeper(l);
    news = log_room_is_news(l);
    pthread_mutex_unlock(&l->lock);
    if (news)
        l->options.on_room(l->options.ctx);
}

/* ---- life --------------------------------------------------------------------------------- */

static int check_options(const struct log_options *o, char why[LOG_WHY_BYTES])
{
    assert(o->n_queues <= LOG_QUEUES_MAX && o->on_durable && o->on_room && o->on_fatal);
    assert(o->segment_bytes % LOG_BLOCK_BYTES == 0 && o->segment_bytes >= LOG_SEGMENT_BYTES_MIN);
    if (o->bytes_max >= 2 * (uint64_t)o->segment_bytes)
        return 0;
    snprintf(why, LOG_WHY_BYTES, "a log of %llu bytes is too small: it takes two segments of %u",
             (unsigned long long)o->bytes_max, o->segment_bytes);
    return -ERR_CONFIG;
}

static struct log *log_make(const struct log_options *options)
{
    struct log *l = calloc(1, sizeof(*l));
    pthread_condattr_t monotonic;

    if (!l)
        return NULL;
    l->options = *options;
    l->dir = strdup(options->dir);
    l->options.dir = l->dir;
    l->dir_fd = -1;
    l->pending_tail = &l->pending;
    l->free_tail = &l->free;
    log_room_init(&l->room, options->segment_bytes);
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->more, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&l->work, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if (l->dir)
        return l;
    log_free(l);
    return NULL;
}

/* Two processes on one log would overwrite each other. */
static int open_dir(struct log *l, char why[LOG_WHY_BYTES])
{
    l->dir_fd = open(l->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (l->dir_fd < 0) {
        snprintf(why, LOG_WHY_BYTES, "cannot open the directory: %.64s", strerror(errno));
        return -ERR_IO;
    }
    if (flock(l->dir_fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
        snprintf(why, LOG_WHY_BYTES, "another process uses it");
        return -ERR_IN_USE;
    }
    return 0;
}

/* What is ready when the first appender comes. */
static int make_first_segment(struct log *l, char why[LOG_WHY_BYTES])
{
    struct log_segment *s;
    int r;

    if (l->n_segments == 0) {
        r = log_segment_make(l->dir_fd, 1, log_segment_bytes_next(l), NULL, &s, why);
        if (r < 0)
            return r;
        r = log_add_segment(l, s);
        if (r < 0) {
            log_segment_free(s);
            return r;
        }
    }
    if (!l->head)
        log_move_head(l);
    return 0;
}

int log_open(const struct log_options *options, const struct log_replay *replay, struct log **ret,
             uint64_t *ret_log_id, char why[LOG_WHY_BYTES])
{
    struct log_options o = *options;
    char inner[LOG_WHY_BYTES] = "";
    struct log *l = NULL;
    int r;

    if (o.segment_bytes == 0)
        o.segment_bytes = LOG_SEGMENT_BYTES_DEFAULT;
    r = check_options(&o, inner);
    if (r == 0) {
        l = log_make(&o);
        r = l ? open_dir(l, inner) : -ERR_NO_MEMORY;
    }
    if (r == 0)
        r = log_replay_run(l, replay, inner);
    if (r == 0)
        r = make_first_segment(l, inner);
    if (r < 0) {
        snprintf(why, LOG_WHY_BYTES, "log %.128s: %.320s", o.dir, *inner ? inner : err_text(r));
        log_free(l);
        return r;
    }
    *ret = l;
    *ret_log_id = l->log_id;
    return 0;
}

int log_start(struct log *l)
{
    int r;

    r = thread_start(&l->log_thread, log_writer_main, l);
    if (r == 0) {
        r = thread_start(&l->keeper_thread, log_keeper_main, l);
        l->started = r == 0;
        if (r != 0) {
            pthread_mutex_lock(&l->lock);
            atomic_store(&l->stopping, true);
            pthread_cond_signal(&l->more);
            pthread_mutex_unlock(&l->lock);
            pthread_join(l->log_thread, NULL);
        }
    }
    return r;
}

void log_stop(struct log *l)
{
    if (!l || !l->started)
        return;
    pthread_mutex_lock(&l->lock);
    atomic_store(&l->stopping, true);
    pthread_cond_signal(&l->more);
    pthread_cond_signal(&l->work);
    pthread_mutex_unlock(&l->lock);
    pthread_join(l->log_thread, NULL);
    pthread_join(l->keeper_thread, NULL);
    l->started = false;
}

static void destroy_lists(struct log_list *lists)
{
    struct log_list *next;

    for (; lists; lists = next) {
        next = lists->next;
        log_list_destroy(lists);
    }
}

void log_free(struct log *l)
{
    if (!l)
        return;
    assert(!l->started);
    destroy_lists(l->pending);
    destroy_lists(l->round.done);
    destroy_lists(l->spares);
    for (size_t i = 0; i < l->n_segments; i++)
        log_segment_free(l->segments[i]);
    free(l->segments);
    if (l->dir_fd >= 0)
        close(l->dir_fd);
    pthread_mutex_destroy(&l->lock);
    pthread_cond_destroy(&l->more);
    pthread_cond_destroy(&l->work);
    free(l->dir);
    free(l);
}
