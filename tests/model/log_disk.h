/* log_disk: the files of a log as a power cut leaves them, rebuilt from a journal. See log_disk.c.
 */
#ifndef QUOIT_TESTS_MODEL_LOG_DISK_H
#define QUOIT_TESTS_MODEL_LOG_DISK_H

#include "tests/model/log_shim.h"
#include "tests/unit/test.h"

#define LOG_DISK_FILES_MAX 16u
#define LOG_DISK_SECTOR 512u

struct log_disk_file {
    char name[LOG_SHIM_NAME_BYTES];     /* as the running system sees it; empty: none */
    char name_old[LOG_SHIM_NAME_BYTES]; /* as the disk does for certain; empty: not at all */
    uint8_t *bytes;                     /* as synced */
    size_t len;
    size_t *waiting; /* events not covered by a sync */
    size_t n_waiting, cap_waiting;
};

struct log_disk {
    const struct log_shim_journal *journal;
    struct log_disk_file files[LOG_DISK_FILES_MAX];
    size_t n_files;
};

/* What became of the writes that no sync covered. */
enum log_disk_cut {
    LOG_DISK_STRICT, /* nothing of them is there */
    LOG_DISK_KILLED, /* all of them: only the process died */
    LOG_DISK_PREFIX, /* of the last group the first `sector` sectors */
    LOG_DISK_DROP,   /* of the last group all but this sector */
    LOG_DISK_RANDOM  /* sectors and names by a seeded choice */
};

/* Whole files of a directory, all of them durable. */
void log_disk_load(struct log_disk *d, const char *dir);
void log_disk_deinit(struct log_disk *d);
void log_disk_event(struct log_disk *d, size_t at);
/* Sectors of the group that is waiting; 0: none is. */
size_t log_disk_waiting_sectors(const struct log_disk *d);
/* Replaces the files of dir. */
void log_disk_save(const struct log_disk *d, const char *dir, enum log_disk_cut cut, size_t sector,
                   struct test_random *random);

#endif
