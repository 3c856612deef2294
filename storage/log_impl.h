/* log_impl: what the files of the log share. See log.c for threads and locks.
 */
#ifndef QUOIT_STORAGE_LOG_IMPL_H
#define QUOIT_STORAGE_LOG_IMPL_H

#include <pthread.h>

#include "storage/log.h"
#include "storage/log_group.h"
#include "storage/log_room.h"
#include "storage/log_segment.h"

/* ---- lists (log_list.c) ---- */

/* Copied bytes of a list. */
#define LOG_CHUNK_BYTES (32u << 10)
/* Vectors of one write; a piece has fewer (see log_list.c), with room for header and padding. */
#define LOG_GROUP_IOVS 1024u
/* Lists kept for reuse. */
#define LOG_SPARES_MAX 64u

struct log_chunk {
    struct log_chunk *next;
    size_t cap, used;
    uint8_t data[];
};

/* Records that stay together in one group: an atom of log_room.c. */
struct log_piece {
    size_t iov_first, n_iov;
    uint32_t bytes, count;
};

struct log_list {
    struct log_list *next;
    size_t piece_bytes_max, record_bytes_max;
    struct log_chunk *chunks; /* the one being filled first */
    struct iovec *iov;
    size_t n_iov, cap_iov;
    struct blob **owners;
    size_t n_owners, cap_owners;
    struct log_piece *pieces;
    size_t n_pieces, cap_pieces;
    size_t bytes;
    size_t admitted; /* charged */
    /* appended */
    uint32_t queue;
    uint64_t lsn_last;
    size_t n_placed; /* pieces */
};

struct log_list *log_list_make(const struct log_room *room);
/* Drops its references and all but a little memory. */
void log_list_clear(struct log_list *list);
void log_list_destroy(struct log_list *list);

/* ---- the log ---- */

/* The group in the making. Log thread only. */
struct log_round {
    struct log_group group;
    struct iovec iov[LOG_GROUP_IOVS];
    size_t n_iov; /* the first is for the header */
    uint8_t header[LOG_GROUP_HEADER_BYTES];
    struct log_segment *segment;
    uint64_t offset, disk_bytes;
    struct log_list *done; /* lists of which nothing is left */
    struct log_list **done_tail;
    uint64_t lsn;     /* durable after this round */
    uint64_t lsn_max; /* of what has a record in the group: the whole of a list cut in pieces */
    bool touched[LOG_QUEUES_MAX];
};

struct log {
    struct log_options options;
    char *dir;
    int dir_fd;
    uint64_t log_id, generation;
    uint64_t n_replayed, n_replayed_bytes; /* records */

    pthread_mutex_t lock; /* guards all down to `round` */
    pthread_cond_t more;  /* for the log thread */
    pthread_cond_t work;  /* for the keeper; monotonic clock */
    struct log_list *pending, **pending_tail;
    struct log_list *spares;
    size_t n_spares;
    uint64_t lsn_last; /* given out */
    uint64_t seq_last; /* written, or being written */
    uint64_t seq_released;
    struct log_room room;
    struct log_segment **segments; /* by number, ascending */
    size_t n_segments;
    uint64_t segments_bytes;
    struct log_segment *head;
    uint64_t head_offset;  /* of the next group */
    struct log_place last; /* the last durable group */
    _Atomic uint64_t used_bytes;
    struct log_segment *free, **free_tail;
    /* The smallest list that was refused, if any. */
    bool wanted, wanted_reserve;
    size_t wanted_bytes;
    int wanted_error;
    atomic_bool no_space; /* the keeper's last attempt found none */
    bool try_again;       /* something was released since */
    bool log_waits;       /* the log thread sleeps */
    bool keeper_waits;
    bool started;

    struct log_round round;

    atomic_bool stopping, failed;
    _Atomic uint64_t durable, n_syncs;
    pthread_t log_thread, keeper_thread;
};

/* With the lock held. */
bool log_fits(const struct log *l, size_t bytes, bool reserve);
/* Or before the threads: what log_used_bytes tells from now on. It is asked at every wake-up. */
void log_publish_used(struct log *l);
/* The keeper ought to make a segment, and may. */
bool log_wants_segment(const struct log *l);
void log_free_segment(struct log *l, struct log_segment *s);
/* Takes a segment that was made; free. 0 or -ERR_NO_MEMORY. */
int log_add_segment(struct log *l, struct log_segment *s);
uint64_t log_segment_bytes_next(const struct log *l);
/* Who was refused shall look again: the caller calls on_room once it has let go of the lock. */
bool log_room_is_news(struct log *l);
void log_wake_keeper(struct log *l);

/* Nothing is made durable any more; on_fatal, once. Without the lock. */
void log_fail(struct log *l, const char *why);

/* Keeps a few of the lists for later. Without the lock. */
void log_recycle_lists(struct log *l, struct log_list *lists);

/* log_writer.c: the log thread. */
/* The head, if there is one, does not take the next group: a free segment does. */
void log_move_head(struct log *l);
void *log_writer_main(void *arg);

/* log_keeper.c: the thread. */
void *log_keeper_main(void *arg);

/* log_replay.c: reads what is there and makes head and free segments of it. */
int log_replay_run(struct log *l, const struct log_replay *replay, char why[LOG_WHY_BYTES]);

#endif
