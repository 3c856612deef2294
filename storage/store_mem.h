/* store_mem: a store in memory that models syncs and crashes by LSN. The simulator's disk and the
 * tests' oracle. Single-threaded: all queues are driven by one thread.
 *
 * submit applies at once (reads see it, with its LSN) and syncs nothing; sync() moves durable and
 * makes outcomes reapable; crash() forgets a suffix of what was never synced and every outcome not
 * reaped, as a power cut would. See store_mem.c.
 */
#ifndef QUOIT_STORAGE_STORE_MEM_H
#define QUOIT_STORAGE_STORE_MEM_H

#include "storage/store.h"

int store_mem_open(const struct store_config *config, struct store **ret);

/* With auto_sync every submit is durable at once (default: off). */
void store_mem_auto_sync(struct store *s, bool on);
/* Makes everything up to lsn durable (UINT64_MAX: all) and notifies. */
void store_mem_sync(struct store *s, uint64_t lsn);
/* Highest LSN given out. */
uint64_t store_mem_last_lsn(struct store *s);
/* Power cut: keeps the prefix up to keep_lsn (clamped to durable .. last); the store is then as
 * after a restart, with n_workers queues. */
void store_mem_crash(struct store *s, uint64_t keep_lsn, uint32_t n_workers);
/* Faults: the next puts answer -ERR_NO_SPACE while full; a key's record reads as corrupt. */
void store_mem_set_full(struct store *s, bool full);
int store_mem_corrupt(struct store *s, uint64_t token, const struct key *key); /* 1: absent */

#endif
