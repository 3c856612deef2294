/* cold: whether reads of the data file may be made on a thread that must not wait.
 *
 *        2 faults in one wake-up, or > 2 % of the last 1000 reads
 *   warm ---------------------------------------------------------> cold
 *        <---------------------------------------------------------
 *        1 in 64 is tried nevertheless: <= 0.5 % of the last 256 of those
 *
 * A read that meets a page which is not in memory stops its thread, and with it everybody that the
 * thread serves, for a read of the disk (60 us to milliseconds). Nothing tells beforehand whether
 * it will, so the thread's count of major page faults tells afterwards. A few faults in large
 * wake-ups may take it back and forth; both are right then. Pure: no clock, no I/O.
 */
#ifndef QUOIT_STORAGE_COLD_H
#define QUOIT_STORAGE_COLD_H

#include <stdbool.h>
#include <stdint.h>

#define COLD_FAULTS_AT_ONCE 2u
#define COLD_WINDOW_READS 1000u
#define COLD_WINDOW_FAULTS 20u
#define COLD_TRY_ONE_IN 64u
#define COLD_TRIES 256u
#define COLD_TRY_FAULTS 1u

struct cold {
    bool on;
    uint32_t n_reads, n_faults; /* of the window; while cold n_reads counts the tries only */
    uint32_t turn;
};

/* The next read is to be handed to a thread that may wait. */
bool cold_defers(struct cold *c);
/* After a wake-up with reads: how many of them the thread made that it did not hand over before,
 * and the major page faults of all. */
void cold_note(struct cold *c, uint32_t n_reads, uint64_t n_faults);

#endif
