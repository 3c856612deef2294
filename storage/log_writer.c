/* log_writer: the log thread: makes groups of what was appended, writes and syncs them.
 *
 *   place_group    pending -> vectors of one group, head moves (under the lock)
 *   write_group    checksum, pwritev, fdatasync                (no lock)
 *   finish_group   durable, on_durable
 *
 * Groups gather by themselves: while one is being synced the lists of the next one wait in
 * `pending`; there is no timer. Lists go whole into a group; one that is larger was cut into pieces
 * when it was filled, and its LSNs are durable with its last piece.
 */
#include "storage/log_impl.h"

#include <assert.h>

static const uint8_t zero_block[LOG_BLOCK_BYTES];

void log_move_head(struct log *l)
{
    struct log_segment *old = l->head, *next = l->free;

    /* log_room.c promises one. */
    assert(next);
    l->free = next->next;
    if (!l->free)
        l->free_tail = &l->free;
    next->next = NULL;
    next->use = LOG_SEGMENT_HEAD;
    l->head = next;
    l->head_offset = 0;
    if (!old)
        return;
    if (old->last_seq <= l->seq_released)
        log_free_segment(l, old);
    else
        old->use = LOG_SEGMENT_USED;
}

static void begin_group(struct log *l, const struct log_piece *piece)
{
    struct log_round *round = &l->round;

    if (log_group_disk_bytes(piece->bytes) > l->head->size - l->head_offset)
        log_move_head(l);
    assert(log_group_disk_bytes(piece->bytes) <= l->head->size - l->head_offset);
    round->segment = l->head;
    round->offset = l->head_offset;
    round->group = (struct log_group){
        .format = LOG_GROUP_FORMAT,
        .log_id = l->log_id,
        .generation = l->generation,
        .seq = ++l->seq_last,
    };
    round->iov[0] = (struct iovec){.iov_base = round->header, .iov_len = LOG_GROUP_HEADER_BYTES};
    round->n_iov = 1;
}

/* False: it has to wait for the next group. */
static bool place_piece(struct log *l, const struct log_list *list, const struct log_piece *piece)
{
    struct log_round *round = &l->round;
    uint64_t disk_bytes;

    if (round->group.count == 0) {
        begin_group(l, piece);
    } else {
        disk_bytes = log_group_disk_bytes((uint64_t)round->group.length + piece->bytes);
        if (disk_bytes > l->room.limits.group_bytes || disk_bytes > l->head->size - round->offset ||
            round->n_iov + piece->n_iov > LOG_GROUP_IOVS - 1)
            return false;
    }
    assert(round->n_iov + piece->n_iov <= LOG_GROUP_IOVS - 1);
    memcpy(round->iov + round->n_iov, list->iov + piece->iov_first,
           piece->n_iov * sizeof(*round->iov));
    round->n_iov += piece->n_iov;
    round->group.count += piece->count;
    round->group.length += piece->bytes;
    round->lsn_max = list->lsn_last;
    return true;
}

/* Takes what fits one group off the front of pending. */
static void place_group(struct log *l)
{
    struct log_round *round = &l->round;
    struct log_list *list;

    round->group.count = 0;
    round->group.length = 0;
    round->lsn = atomic_load_explicit(&l->durable, memory_order_relaxed);
    round->done = NULL;
    round->done_tail = &round->done;
    while ((list = l->pending)) {
        while (list->n_placed < list->n_pieces &&
               place_piece(l, list, &list->pieces[list->n_placed]))
            list->n_placed++;
        if (list->n_placed < list->n_pieces)
            break;
        l->pending = list->next;
        if (!l->pending)
            l->pending_tail = &l->pending;
        list->next = NULL;
        *round->done_tail = list;
        round->done_tail = &list->next;
        log_room_give(&l->room, list->admitted);
        list->admitted = 0;
        round->lsn = list->lsn_last;
        round->touched[list->queue] = true;
    }
    round->disk_bytes = round->group.count ? log_group_disk_bytes(round->group.length) : 0;
    l->head_offset += round->disk_bytes;
    log_publish_used(l);
    if (log_wants_segment(l))
        log_wake_keeper(l);
}

/* 0 or -ERR_IO. */
static int write_group(struct log *l, char why[LOG_WHY_BYTES])
{
    struct log_round *round = &l->round;
    size_t used = LOG_GROUP_HEADER_BYTES + round->group.length;
    int r;

    log_group_encode(&round->group, round->iov + 1, round->n_iov - 1, round->header);
    if (round->disk_bytes > used)
        round->iov[round->n_iov++] = (struct iovec){.iov_base = (void *)(uintptr_t)zero_block,
                                                    .iov_len = round->disk_bytes - used};
    r = log_segment_write(round->segment, round->iov, round->n_iov, round->offset, why);
    if (r == 0)
        atomic_fetch_add_explicit(&l->n_syncs, 1, memory_order_relaxed);
    return r;
}

static void finish_group(struct log *l)
{
    struct log_round *round = &l->round;
    bool news;

    pthread_mutex_lock(&l->lock);
    if (round->group.count) {
        if (!round->segment->last_seq)
            round->segment->lsn_before = atomic_load(&l->durable);
        round->segment->last_seq = round->group.seq;
        round->segment->lsn_max = round->lsn_max;
        l->last = (struct log_place){
            .seq = round->group.seq, .segment = round->segment->number, .offset = round->offset};
    }
    atomic_store_explicit(&l->durable, round->lsn, memory_order_release);
    news = log_room_is_news(l);
    pthread_mutex_unlock(&l->lock);
    if (round->done) {
        l->options.on_durable(l->options.ctx, round->lsn, round->touched);
        memset(round->touched, 0, sizeof(round->touched));
        log_recycle_lists(l, round->done);
        round->done = NULL;
    }
    if (news)
        l->options.on_room(l->options.ctx);
}

/* False: stopped, and nothing left. */
static bool gather(struct log *l)
{
    bool some;

    pthread_mutex_lock(&l->lock);
    while (!l->pending && !atomic_load(&l->stopping)) {
        l->log_waits = true;
        pthread_cond_wait(&l->more, &l->lock);
        l->log_waits = false;
    }
    some = l->pending && !atomic_load(&l->failed);
    if (some)
        place_group(l);
    pthread_mutex_unlock(&l->lock);
    return some;
}

void *log_writer_main(void *arg)
{
    struct log *l = arg;
    char why[LOG_WHY_BYTES];

    while (gather(l)) {
        if (l->round.group.count && write_group(l, why) < 0) {
            log_fail(l, why);
            break;
        }
        /* The keeper may have failed meanwhile: then nothing is acknowledged any more. */
        if (atomic_load(&l->failed))
            break;
        finish_group(l);
    }
    return NULL;
}
