/* store_lmdb: the plain store on disk, one LMDB environment. See store_lmdb.c. */
#ifndef QUOIT_STORAGE_STORE_LMDB_H
#define QUOIT_STORAGE_STORE_LMDB_H

#include "storage/store.h"

#define STORE_LMDB_MAP_DEFAULT (64ull << 30)
#define STORE_LMDB_MAP_MIN (4ull << 20)

struct store_lmdb_options {
    const char *dir; /* exists; the environment's files are made in it */
    /* The largest the data can grow to; 0 = default. Fixed while open; one too small for the data
     * that is there already is raised. */
    uint64_t map_bytes;
    /* Open although the directory is marked SUSPECT (see README.md: what may be lost), and take the
     * mark away. An operator's decision, for one start. */
    bool accept_suspect;
#ifdef STORE_LMDB_UNSAFE_TEST
    bool no_sync; /* only in the test that proves that losing syncs is noticed */
#endif
};

/* 0 and *ret; -ERR_IO, -ERR_CORRUPT, -ERR_FORMAT, -ERR_SUSPECT, -ERR_NO_SPACE, -ERR_NO_MEMORY with
 * a sentence in why[STORE_WHY_BYTES]. The directory is not locked here: the caller holds its lock.
 */
#define STORE_WHY_BYTES 512
int store_lmdb_open(const struct store_config *config, const struct store_lmdb_options *options,
                    struct store **ret, char *why);

/* Turns SIGBUS and SIGSEGV inside the open environment's map (a truncated or damaged file), and
 * faults inside LMDB's code, into a sentence on stderr and exit status 1; other faults keep their
 * default action. Process-wide, once, after open, which guards itself while it lasts. */
void store_lmdb_guard_faults(struct store *s);

#endif
