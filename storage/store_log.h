/* store_log: the store with a log in front of LMDB. See store_log.c. */
#ifndef QUOIT_STORAGE_STORE_LOG_H
#define QUOIT_STORAGE_STORE_LOG_H

#include "storage/store_lmdb.h"

/* Memory of all memtables of a node, active and frozen: a quarter of the data file, within these
 * and a sixteenth of the machine's memory. */
#define STORE_LOG_TABLES_BYTES_MIN (32ull << 20)
#define STORE_LOG_TABLES_BYTES_MAX (512ull << 20)
/* The log may hold so many times what the tables hold (a lone small put takes a whole block of it),
 * and at least so much. */
#define STORE_LOG_BYTES_FACTOR 4u
#define STORE_LOG_BYTES_MIN (512ull << 20)

struct store_log_options {
    struct store_lmdb_options lmdb;
    const char *log_dir;   /* made if need be; NULL: "log" in the store's directory */
    uint64_t tables_bytes; /* 0: chosen as above */
    /* For tests: small segments, a small log, passes of many slices. 0: the default. */
    uint32_t segment_bytes;
    uint64_t log_bytes_max;
    uint32_t slice_records;
};

/* Like store_lmdb_open. A store without a log is given one. Operations on records, reads, loads and
 * wipes of a token belong to the queue of its worker (token_worker); ranges must lie within the
 * tokens of one. With no workers everything belongs to control's queue. */
int store_log_open(const struct store_config *config, const struct store_log_options *options,
                   struct store **ret, char *why);
/* See store_lmdb_guard_faults. */
void store_log_guard_faults(struct store *s);

#endif
