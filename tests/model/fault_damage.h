/* fault_damage: a store on damaged files, used by a child as its owner would: what the suites of
 * both engines have in common. */
#ifndef QUOIT_TESTS_MODEL_FAULT_DAMAGE_H
#define QUOIT_TESTS_MODEL_FAULT_DAMAGE_H

#include "proto/slice.h"
#include "tests/model/fault_store.h"

/* Keys 0 .. n_keys - 1 were put at version 1, those below n_acked are known to be acknowledged. */
struct fault_damaged {
    const char *dir;
    unsigned n_keys, n_acked, n_writes;
    bool strict; /* nothing may be missing or refused, and sums must be right */
};

/* The child's part: opens, reads every key, scans, adds up, writes. Exits with a FAULT_EXIT_x and a
 * sentence if what it finds is wrong; returns if it is not. */
void fault_use_damaged(const struct fault_damaged *d);

/* Whole files; the test fails if they cannot be read or written. */
void fault_file_read(const char *path, struct buf *out);
void fault_file_write(const char *path, const uint8_t *bytes, size_t len);

#endif
