/* store_dir: what is said about a store beside its data file, in the file STORE of its directory.
 */
#ifndef QUOIT_STORAGE_STORE_DIR_H
#define QUOIT_STORAGE_STORE_DIR_H

#include <stdbool.h>
#include <stddef.h>

#define STORE_DIR_NAME "STORE"
#define STORE_DIR_DATA "data.mdb"
#define STORE_DIR_LOCK "lock.mdb"
#define STORE_DIR_WHY_BYTES 256

/* Looks at the directory before the data file is opened, and clears away a creation that never
 * finished. 0: open it. 1: it is new (or was unfinished); call store_dir_finish after the first
 * commit. -ERR_FORMAT, -ERR_CORRUPT, -ERR_IO, and why. */
int store_dir_begin(const char *dir, unsigned format, char why[STORE_DIR_WHY_BYTES]);
/* From now on a missing data file is a loss, not a beginning. 0, -ERR_IO, -ERR_NO_SPACE, and why.
 */
int store_dir_finish(const char *dir, unsigned format, char why[STORE_DIR_WHY_BYTES]);

/* The entries of any directory are durable. False: errno says why not. */
bool store_dir_sync(const char *dir);

#endif
