/* log_rig: a log on the bench. Records carry a queue and a number of that queue, so that whatever
 * is replayed can be told to be whole, in order and complete. Nothing polls: waiting is for a
 * callback of the log.
 */
#ifndef QUOIT_TESTS_MODEL_LOG_RIG_H
#define QUOIT_TESTS_MODEL_LOG_RIG_H

#include <pthread.h>

#include "storage/log.h"
#include "storage/log_group.h"
#include "tests/unit/test.h"

#define LOG_RIG_QUEUES 5u
#define LOG_RIG_WAIT_S 60
#define LOG_RIG_SEGMENT (64u << 10)
#define LOG_RIG_TYPE 9

struct log_rig_record {
    struct log_pos pos;
    uint64_t lsn;
    uint32_t queue;
    uint64_t number;
    size_t len;
};

struct log_rig {
    char dir[64];
    struct log_options options;
    struct log *l;
    uint64_t log_id, applied_seq; /* what a store would remember */
    char why[LOG_WHY_BYTES];
    /* of the last opening */
    struct log_rig_record *replayed;
    size_t n_replayed, cap_replayed;
    int replay_error; /* what the callback says from replay_error_at on */
    size_t replay_error_at;
    /* callbacks */
    pthread_mutex_t lock;
    pthread_cond_t woken;
    uint64_t durable;
    unsigned n_touched[LOG_RIG_QUEUES], n_room, n_fatal;
    char fatal[1024];
};

/* A new directory, small segments; nothing is opened. */
void log_rig_init(struct log_rig *rig);
void log_rig_deinit(struct log_rig *rig); /* and removes the directory */
/* log_open's result; remembers the id. Starts no thread. */
int log_rig_open(struct log_rig *rig);
void log_rig_start(struct log_rig *rig); /* opens and starts, or fails the test */
void log_rig_stop(struct log_rig *rig);  /* stops and frees */

/* The bytes of a record; len >= LOG_RIG_LEN_MIN. */
#define LOG_RIG_LEN_MIN 12u
void log_rig_payload(uint32_t queue, uint64_t number, uint8_t *out, size_t len);
/* Adds it to a list. blob: by reference. */
void log_rig_add(struct log_list *list, uint32_t queue, uint64_t number, size_t len, bool blob);
/* A list of one such record, admitted. log_admit's result; *ret_lsn. */
int log_rig_put(struct log_rig *rig, uint32_t queue, uint64_t number, size_t len,
                uint64_t *ret_lsn);
/* The same, waiting for room as long as it takes. */
uint64_t log_rig_must_put(struct log_rig *rig, uint32_t queue, uint64_t number, size_t len);
void log_rig_wait_durable(struct log_rig *rig, uint64_t lsn);
void log_rig_wait_fatal(struct log_rig *rig);
unsigned log_rig_n_room(struct log_rig *rig);
void log_rig_wait_room(struct log_rig *rig, unsigned n_before);
/* Waits until a list of so many bytes is admitted (and gives it back). */
void log_rig_wait_admissible(struct log_rig *rig, size_t bytes);

/* Everything up to lsn is applied: what the store remembers, and the release. */
void log_rig_apply(struct log_rig *rig, uint64_t lsn);
/* The replayed records are `first`.. `first + n - 1` of the queue, in this order, if no other queue
 * is there. */
void log_rig_assert_replayed(const struct log_rig *rig, uint32_t queue, uint64_t first, size_t n);

/* Files. */
void log_rig_path(const struct log_rig *rig, unsigned segment, char path[128]);
void log_rig_poke(const struct log_rig *rig, unsigned segment, uint64_t offset, const void *bytes,
                  size_t len);
void log_rig_peek(const struct log_rig *rig, unsigned segment, uint64_t offset, void *bytes,
                  size_t len);
void log_rig_flip(const struct log_rig *rig, unsigned segment, uint64_t offset);
unsigned log_rig_n_segments(const struct log_rig *rig);

#endif
