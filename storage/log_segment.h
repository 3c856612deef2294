/* log_segment: the files of the log. See log_segment.c.
 */
#ifndef QUOIT_STORAGE_LOG_SEGMENT_H
#define QUOIT_STORAGE_LOG_SEGMENT_H

#include <sys/uio.h>

#include "storage/log.h"

#define LOG_SEGMENTS_MAX 4096u
#define LOG_SEGMENT_BYTES_MIN (64u << 10)
/* Zeroes go out in steps of this, each synced, so that groups do not wait behind many of them. */
#define LOG_STEP_BYTES (2u << 20)
#define LOG_FILE_NAME_BYTES 24

enum log_segment_use {
    LOG_SEGMENT_FREE, /* nothing in it is needed: will be written from its beginning */
    LOG_SEGMENT_HEAD, /* groups are added to it */
    LOG_SEGMENT_USED
};

struct log_segment {
    struct log_segment *next; /* of those that are free */
    uint32_t number;
    int fd;
    uint64_t size;
    /* Under the lock of the log. */
    enum log_segment_use use;
    uint64_t last_seq;   /* of the durable groups in it; 0: none since it was begun */
    uint64_t lsn_max;    /* of their records */
    uint64_t lsn_before; /* all of their records have higher ones */
};

void log_segment_name(uint32_t number, char name[LOG_FILE_NAME_BYTES]);

/* Numbers of all whole segments, ascending; those that were never finished are removed. The
 * directory is synced. Free *ret. 0, -ERR_IO, -ERR_NO_SPACE, -ERR_NO_MEMORY, -ERR_CORRUPT. */
int log_segment_list(int dir_fd, uint32_t **ret, size_t *ret_n, char why[LOG_WHY_BYTES]);
int log_segment_open(int dir_fd, uint32_t number, struct log_segment **ret,
                     char why[LOG_WHY_BYTES]);
/* A new one, zero-written and synced with its directory. 0; 1: cancelled; -ERR_NO_SPACE,
 * -ERR_NO_MEMORY: as if nothing had been tried; -ERR_IO. */
int log_segment_make(int dir_fd, uint32_t number, uint64_t size, const atomic_bool *cancel,
                     struct log_segment **ret, char why[LOG_WHY_BYTES]);
void log_segment_free(struct log_segment *s); /* accepts NULL */

/* Writes all of it (iov is used up) and syncs. 0 or -ERR_IO. */
int log_segment_write(const struct log_segment *s, struct iovec *iov, size_t n_iov, uint64_t offset,
                      char why[LOG_WHY_BYTES]);
int log_segment_read(const struct log_segment *s, uint64_t offset, void *to, size_t len,
                     char why[LOG_WHY_BYTES]);

#endif
