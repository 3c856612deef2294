/* disk_shim: stands between the program and the kernel for the store's data file.
 *
 * Linked into a test, it takes the place of pwrite, writev, ftruncate, fsync, fdatasync and msync
 * for every library in the process. It can keep a journal of what was written and synced, and it
 * can let the k-th call of a kind fail. Other files are passed through untouched. See disk_shim.c.
 */
#ifndef QUOIT_TESTS_MODEL_DISK_SHIM_H
#define QUOIT_TESTS_MODEL_DISK_SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum shim_kind {
    SHIM_NONE,
    SHIM_WRITE,      /* through an ordinary descriptor: on disk after the next sync */
    SHIM_WRITE_SYNC, /* through an O_DSYNC descriptor: on disk when it returns */
    SHIM_TRUNCATE,
    SHIM_SYNC,
    SHIM_MARK /* by shim_mark: the test's own remark */
};

struct shim_event {
    enum shim_kind kind;
    uint64_t offset; /* WRITE; TRUNCATE: the new size; MARK: its number */
    size_t len;
    uint8_t *data;
};

struct shim_journal {
    struct shim_event *events;
    size_t n, cap;
};

/* Calls on files whose path ends with this are looked at. */
void shim_watch(const char *path_end);
/* Starts an empty journal, in order of completion; NULL stops. */
void shim_record(struct shim_journal *journal);
void shim_mark(uint64_t number);
void shim_journal_deinit(struct shim_journal *journal);

/* The k-th call of the kind from now on (1 = the next) fails with error_number and does nothing;
 * with short_write, it writes the first half and says so. */
void shim_fail(enum shim_kind kind, unsigned k, int error_number, bool short_write);
/* Whether that call has come. */
bool shim_has_failed(void);

#endif
