/* log_rig: see log_rig.h.
 */
#include "tests/model/log_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "proto/err.h"
#include "tests/model/store_rig.h"

/* ---- callbacks ---------------------------------------------------------------------------- */

static void on_durable(void *ctx, uint64_t lsn, const bool *touched)
{
    struct log_rig *rig = ctx;

    pthread_mutex_lock(&rig->lock);
    rig->durable = lsn;
    for (unsigned q = 0; q < LOG_RIG_QUEUES; q++)
        rig->n_touched[q] += touched[q];
    pthread_cond_broadcast(&rig->woken);
    pthread_mutex_unlock(&rig->lock);
}

static void on_room(void *ctx)
{
    struct log_rig *rig = ctx;

    pthread_mutex_lock(&rig->lock);
    rig->n_room++;
    pthread_cond_broadcast(&rig->woken);
    pthread_mutex_unlock(&rig->lock);
}

static void on_fatal(void *ctx, const char *sentence)
{
    struct log_rig *rig = ctx;

    pthread_mutex_lock(&rig->lock);
    rig->n_fatal++;
    snprintf(rig->fatal, sizeof(rig->fatal), "%s", sentence);
    pthread_cond_broadcast(&rig->woken);
    pthread_mutex_unlock(&rig->lock);
}

/* With the lock held. */
static void wait_more(struct log_rig *rig, const char *what)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += LOG_RIG_WAIT_S;
    if (pthread_cond_timedwait(&rig->woken, &rig->lock, &until) != 0)
        fail_msg("the log never told: %s", what);
}

void log_rig_wait_durable(struct log_rig *rig, uint64_t lsn)
{
    pthread_mutex_lock(&rig->lock);
    while (rig->durable < lsn)
        wait_more(rig, "durable");
    pthread_mutex_unlock(&rig->lock);
    assert_true(log_durable(rig->l) >= lsn);
}

void log_rig_wait_fatal(struct log_rig *rig)
{
    pthread_mutex_lock(&rig->lock);
    while (!rig->n_fatal)
        wait_more(rig, "fatal");
    pthread_mutex_unlock(&rig->lock);
}

unsigned log_rig_n_room(struct log_rig *rig)
{
    unsigned n;

    pthread_mutex_lock(&rig->lock);
    n = rig->n_room;
    pthread_mutex_unlock(&rig->lock);
    return n;
}

void log_rig_wait_room(struct log_rig *rig, unsigned n_before)
{
    pthread_mutex_lock(&rig->lock);
    while (rig->n_room == n_before)
        wait_more(rig, "room");
    pthread_mutex_unlock(&rig->lock);
}

/* ---- life --------------------------------------------------------------------------------- */

void log_rig_init(struct log_rig *rig)
{
    memset(rig, 0, sizeof(*rig));
    rig_dir_make(rig->dir);
    rig->options = (struct log_options){
        .dir = rig->dir,
        .segment_bytes = LOG_RIG_SEGMENT,
        .bytes_max = 64ull * LOG_RIG_SEGMENT,
        .n_queues = LOG_RIG_QUEUES,
        .on_durable = on_durable,
        .on_room = on_room,
        .on_fatal = on_fatal,
        .ctx = rig,
    };
    pthread_mutex_init(&rig->lock, NULL);
    pthread_cond_init(&rig->woken, NULL);
}

void log_rig_deinit(struct log_rig *rig)
{
    log_rig_stop(rig);
    free(rig->replayed);
    pthread_mutex_destroy(&rig->lock);
    pthread_cond_destroy(&rig->woken);
    rig_dir_remove(rig->dir);
}

static int take_record(void *ctx, struct log_pos pos, uint64_t lsn, uint8_t type,
                       struct slice payload)
{
    struct log_rig *rig = ctx;
    struct log_rig_record r = {.pos = pos, .lsn = lsn, .len = payload.len};
    uint8_t *same;

    if (rig->replay_error && rig->n_replayed == rig->replay_error_at)
        return rig->replay_error;
    assert_int_equal(type, LOG_RIG_TYPE);
    assert_true(payload.len >= LOG_RIG_LEN_MIN);
    memcpy(&r.queue, payload.data, sizeof(r.queue));
    memcpy(&r.number, payload.data + sizeof(r.queue), sizeof(r.number));
    same = malloc(payload.len);
    assert_non_null(same);
    log_rig_payload(r.queue, r.number, same, payload.len);
    assert_memory_equal(same, payload.data, payload.len);
    free(same);
    assert_int_equal(lsn, rig->n_replayed + 1);
    if (rig->n_replayed == rig->cap_replayed) {
        rig->cap_replayed = rig->cap_replayed ? 2 * rig->cap_replayed : 64;
        rig->replayed = realloc(rig->replayed, rig->cap_replayed * sizeof(r));
        assert_non_null(rig->replayed);
    }
    rig->replayed[rig->n_replayed++] = r;
    return 0;
}

int log_rig_open(struct log_rig *rig)
{
    struct log_replay replay = {
        .record = take_record,
        .ctx = rig,
        .log_id = rig->log_id,
        .applied_seq = rig->applied_seq,
    };
    int r;

    assert_null(rig->l);
    rig->n_replayed = 0;
    *rig->why = 0;
    r = log_open(&rig->options, &replay, &rig->l, &rig->log_id, rig->why);
    if (r < 0)
        return r;
    rig->durable = log_durable(rig->l);
    assert_int_equal(rig->durable, rig->n_replayed);
    assert_int_equal(log_n_replayed(rig->l), rig->n_replayed);
    return 0;
}

void log_rig_start(struct log_rig *rig)
{
    int r = log_rig_open(rig);

    if (r < 0)
        fail_msg("%s: %s", err_name(r), rig->why);
    assert_int_equal(log_start(rig->l), 0);
}

void log_rig_stop(struct log_rig *rig)
{
    log_stop(rig->l);
    log_free(rig->l);
    rig->l = NULL;
}

/* ---- records ------------------------------------------------------------------------------ */

void log_rig_payload(uint32_t queue, uint64_t number, uint8_t *out, size_t len)
{
    struct test_random random = {.s = number * 64 + queue};

    assert_true(len >= LOG_RIG_LEN_MIN);
    memcpy(out, &queue, sizeof(queue));
    memcpy(out + sizeof(queue), &number, sizeof(number));
    for (size_t i = LOG_RIG_LEN_MIN; i < len; i += 8) {
        uint64_t x = test_random_u64(&random);

        memcpy(out + i, &x, len - i < 8 ? len - i : 8);
    }
}

void log_rig_add(struct log_list *list, uint32_t queue, uint64_t number, size_t len, bool blob)
{
    struct blob *b = blob_new(len);
    struct slice pieces[2];

    assert_non_null(b);
    log_rig_payload(queue, number, b->data, len);
    pieces[0] = slice_of(b->data, LOG_RIG_LEN_MIN);
    pieces[1] = slice_of(b->data + LOG_RIG_LEN_MIN, len - LOG_RIG_LEN_MIN);
    assert_int_equal(log_list_add(list, LOG_RIG_TYPE, pieces, 2, blob ? b : NULL), 0);
    blob_unref(b);
}

int log_rig_put(struct log_rig *rig, uint32_t queue, uint64_t number, size_t len, uint64_t *ret_lsn)
{
    struct log_list *list = log_list_new(rig->l);
    int r;

    assert_non_null(list);
    log_rig_add(list, queue, number, len, number % 2);
    assert_int_equal(log_list_bytes(list), len + LOG_RECORD_OVERHEAD_BYTES);
    r = log_admit(rig->l, list, log_list_bytes(list), false);
    if (r < 0)
        log_list_free(rig->l, list);
    else
        *ret_lsn = log_append(rig->l, list, queue, 1);
    return r;
}

uint64_t log_rig_must_put(struct log_rig *rig, uint32_t queue, uint64_t number, size_t len)
{
    uint64_t lsn = 0;

    for (;;) {
        unsigned n = log_rig_n_room(rig);
        int r = log_rig_put(rig, queue, number, len, &lsn);

        if (r == 0)
            return lsn;
        assert_int_equal(r, -ERR_FULL);
        log_rig_wait_room(rig, n);
    }
}

void log_rig_wait_admissible(struct log_rig *rig, size_t bytes)
{
    struct log_list *list = log_list_new(rig->l);

    assert_non_null(list);
    for (;;) {
        unsigned n = log_rig_n_room(rig);

        if (log_admit(rig->l, list, bytes, false) == 0)
            break;
        log_rig_wait_room(rig, n);
    }
    log_list_free(rig->l, list);
}

void log_rig_apply(struct log_rig *rig, uint64_t lsn)
{
    uint64_t seq = log_seq_of(rig->l, lsn);

    assert_true(seq >= rig->applied_seq);
    rig->applied_seq = seq;
    log_release(rig->l, seq);
}

void log_rig_assert_replayed(const struct log_rig *rig, uint32_t queue, uint64_t first, size_t n)
{
    assert_int_equal(rig->n_replayed, n);
    for (size_t i = 0; i < n; i++) {
        const struct log_rig_record *r = &rig->replayed[i];

        assert_int_equal(r->queue, queue);
        assert_int_equal(r->number, first + i);
        if (i == 0)
            continue;
        if (r->pos.seq == r[-1].pos.seq)
            assert_int_equal(r->pos.index, r[-1].pos.index + 1);
        else
            assert_true(r->pos.seq == r[-1].pos.seq + 1 && r->pos.index == 0);
    }
}

/* ---- files -------------------------------------------------------------------------------- */

void log_rig_path(const struct log_rig *rig, unsigned segment, char path[128])
{
    snprintf(path, 128, "%.80s/log.%06u", rig->dir, segment);
}

static int open_segment(const struct log_rig *rig, unsigned segment)
{
    char path[128];
    int fd;

    log_rig_path(rig, segment, path);
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        fail_msg("%s: %s", path, strerror(errno));
    return fd;
}

void log_rig_poke(const struct log_rig *rig, unsigned segment, uint64_t offset, const void *bytes,
                  size_t len)
{
    int fd = open_segment(rig, segment);

    assert_int_equal(pwrite(fd, bytes, len, (off_t)offset), len);
    close(fd);
}

void log_rig_peek(const struct log_rig *rig, unsigned segment, uint64_t offset, void *bytes,
                  size_t len)
{
    int fd = open_segment(rig, segment);

    assert_int_equal(pread(fd, bytes, len, (off_t)offset), len);
    close(fd);
}

void log_rig_flip(const struct log_rig *rig, unsigned segment, uint64_t offset)
{
    uint8_t byte;

    log_rig_peek(rig, segment, offset, &byte, 1);
    byte ^= 4;
    log_rig_poke(rig, segment, offset, &byte, 1);
}

unsigned log_rig_n_segments(const struct log_rig *rig)
{
    char path[128];
    unsigned n = 0;

    for (;; n++) {
        log_rig_path(rig, n + 1, path);
        if (access(path, F_OK) != 0)
            return n;
    }
}
