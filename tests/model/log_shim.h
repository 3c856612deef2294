/* log_shim: stands between the program and the kernel for the files of the log, and for the data
 * file beside them.
 *
 * Linked into a test, it takes the place of the calls by which storage/log_segment.c, LMDB and
 * storage/clean_mark.c change files. It can keep a journal of them, from which the disk at a power
 * cut can be rebuilt (log_disk.h), and it can let calls fail. Files with other names are passed
 * through untouched. See log_shim.c.
 */
#ifndef QUOIT_TESTS_MODEL_LOG_SHIM_H
#define QUOIT_TESTS_MODEL_LOG_SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum log_shim_kind {
    LOG_SHIM_GROUP,    /* pwritev: a group */
    LOG_SHIM_ZERO,     /* pwrite: a segment in the making */
    LOG_SHIM_RESERVE,  /* fallocate; not in the journal */
    LOG_SHIM_SYNC,     /* of a file */
    LOG_SHIM_SYNC_NEW, /* of one in the making; in the journal it is a SYNC */
    LOG_SHIM_RENAME,   /* data: the new name */
    LOG_SHIM_UNLINK,
    LOG_SHIM_DIR_SYNC,
    LOG_SHIM_DATA,      /* a write to the data file, on disk after the next sync */
    LOG_SHIM_META,      /* through an O_DSYNC descriptor: on disk when it returns */
    LOG_SHIM_DATA_SYNC, /* of the data file; in the journal it is a SYNC */
    LOG_SHIM_CLEAN,     /* of the clean mark: a write; a sync, which in the journal is a SYNC */
    LOG_SHIM_MARK       /* the test's own remark */
};

#define LOG_SHIM_NAME_BYTES 32

struct log_shim_event {
    enum log_shim_kind kind;
    char name[LOG_SHIM_NAME_BYTES]; /* of the file, without its directory */
    uint64_t offset, number;        /* number: MARK's; offset: MARK's kind */
    size_t len;
    uint8_t *data;
};

struct log_shim_journal {
    struct log_shim_event *events;
    size_t n, cap;
};

/* Starts (an empty one), goes on with, or with NULL ends, a journal of the files in dir. */
void log_shim_record(struct log_shim_journal *journal, const char *dir);
void log_shim_mark(uint64_t kind, uint64_t number);
void log_shim_journal_deinit(struct log_shim_journal *journal);

/* The k-th call of the kind from now on (1 = the next) fails with error_number; a write with
 * error_number 0 writes half and says so. All after it too if `forever`. */
void log_shim_fail(enum log_shim_kind kind, unsigned k, int error_number, bool forever);
void log_shim_heal(void);
bool log_shim_has_failed(void);

/* The next sync of a whole segment waits until log_shim_let_go. */
void log_shim_hold_sync(void);
/* The same of the data file, once so many have passed. */
void log_shim_hold_data_sync(unsigned after);
void log_shim_wait_held(void); /* until one waits */
void log_shim_let_go(void);

/* From now on syncs of whole segments, or of the data file, do nothing and are not in the
 * journal. */
void log_shim_lose_syncs(bool of_log, bool of_data);

#endif
