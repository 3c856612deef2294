/* fault_tamper: changes the data file of a stopped store behind its back: what LMDB's own tools
 * could do to records, or what a disk does to bytes. Summaries, log and the rest stay as they are.
 */
#ifndef QUOIT_TESTS_MODEL_FAULT_TAMPER_H
#define QUOIT_TESTS_MODEL_FAULT_TAMPER_H

#include "storage/record.h"
#include "tests/unit/test.h"

enum fault_tampering {
    TAMPER_REMOVE,   /* the record is gone */
    TAMPER_SET_BACK, /* an older version, with another value, in its place; whole */
    TAMPER_SET_ON,   /* the same with a newer version than anybody has seen */
    TAMPER_RECORD,   /* a bit flips in the record, where it lies in the file */
    TAMPER_KEY, /* a bit flips in its key, where it lies: the order of the page may be broken */
    TAMPER_KEY_AWAY,   /* the same; the key seems to belong half a ring away */
    TAMPER_KEY_LENGTH, /* the length of its key becomes 0 in what LMDB keeps in front of it */
    TAMPER_PLACE,  /* there it becomes one that is kept on pages of its own; they are not there */
    TAMPER_SUMMARY /* a bit flips in the summary of the zone; the key's record is untouched */
};

/* How far on a version is set. */
#define TAMPER_ON 1000000u

struct fault_tampered {
    uint8_t bytes[STORE_KEY_BYTES_MAX]; /* store key, as it was */
    size_t len;
};

/* Picks n different records of the store in dir, at random, does that to each and says in out[n]
 * which they were. The test fails if that is impossible. */
void fault_tamper(const char *dir, enum fault_tampering what, size_t n, struct test_random *random,
                  struct fault_tampered *out);
/* The same to these n records. */
void fault_tamper_these(const char *dir, enum fault_tampering what, size_t n,
                        struct test_random *random, const struct fault_tampered *these);
/* The same to the record of that key. */
void fault_tamper_one(const char *dir, enum fault_tampering what, struct slice store_key,
                      struct test_random *random);

#endif
