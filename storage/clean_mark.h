/* clean_mark: the file CLEAN in a store's directory: the log ends with this group, and all of it is
 * applied. Written when a store is closed, taken away before the log of the next process takes
 * anything; so where it is, nothing was written since, and the log need not be searched.
 *
 * It is a fact (record.h) of the name "CLEAN", with its checksum:
 *
 *   u64 log id | u64 sequence number | u64 offset | u32 segment
 *
 * It is a shortcut: without it, or if it is damaged, a start takes longer.
 */
#ifndef QUOIT_STORAGE_CLEAN_MARK_H
#define QUOIT_STORAGE_CLEAN_MARK_H

#include "storage/log.h"

#define CLEAN_MARK_NAME "CLEAN"

/* Synced. False: there is none. */
bool clean_mark_write(const char *dir, uint64_t log_id, const struct log_place *last);
/* ret->seq 0: there is none, or none of this log. */
void clean_mark_read(const char *dir, uint64_t log_id, struct log_place *ret);
/* Durably. False: it may still be there. */
bool clean_mark_clear(const char *dir);

#endif
