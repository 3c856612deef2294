/* scrub_rig: a store full of numbered keys for tests of a scrub: whole rounds of it, what the sums
 * say against what is there, and what is done to the store behind its back. Failures of the rig
 * itself abort the test. */
#ifndef QUOIT_TESTS_MODEL_SCRUB_RIG_H
#define QUOIT_TESTS_MODEL_SCRUB_RIG_H

#include "tests/model/fault_tamper.h"
#include "tests/model/store_rig.h"

#define SCRUB_KEYS 2000u
#define SCRUB_KEY_ZONES 16u     /* in which they lie */
#define SCRUB_QUEUE RIG_WORKERS /* that asks for scrubs: control's */
#define SCRUB_SLICE_BYTES 700u  /* some records */
#define SCRUB_SEGMENT_BYTES (256u << 10)

/* Key i, its token, and back. */
struct key scrub_key(unsigned i, char name[16]);
uint64_t scrub_token(unsigned i);
unsigned scrub_number(const struct key *key);
/* Of a store key that can be decoded. */
unsigned scrub_number_at(const uint8_t *bytes, size_t len);

/* A put of key i; the value tells its version. */
struct store_op scrub_put_op(unsigned i, uint64_t hlc, char name[16], char value[32]);
struct store_done scrub_put(struct rig *rig, unsigned i, uint64_t hlc, bool heal);
void scrub_put_all(struct rig *rig, uint64_t hlc);
/* 0 absent, its version, or negative. */
int64_t scrub_get(struct rig *rig, unsigned i);

/* A store with all keys at version 10, all of them in the data file. */
void scrub_set_up(struct rig *rig, enum rig_engine engine);
/* Stops it, does that to n of its records (out[n]: which), starts it. */
void scrub_tamper(struct rig *rig, enum fault_tampering what, size_t n, uint64_t seed,
                  struct fault_tampered *out);

/* Once around: what all slices have found. */
struct scrub_round {
    uint64_t n_records, n_bytes, n_bad, n_slices, n_remade, n_errors;
    bool remade[STORE_ZONES], visited[STORE_ZONES];
    struct store_scrub_bad named[SCRUB_KEYS];
    size_t n_named;
};

struct scrub_round *scrub_round_new(void); /* freed with free */
void scrub_round_run(struct rig *rig, size_t bytes_max, struct scrub_round *ret);

extern const struct store_range scrub_all;

struct scrub_sums {
    struct store_info info;
    uint64_t leaves[1u << STORE_LEAF_BITS];
};

struct scrub_sums *scrub_sums_new(void); /* freed with free */
/* What vnode_info and leaves say of all. */
void scrub_sums_told(struct rig *rig, struct scrub_sums *ret);
bool scrub_sums_agree(const struct scrub_sums *a, const struct scrub_sums *b);
/* They are those that a scan adds up which steps over what is damaged. */
bool scrub_sums_are_true(struct rig *rig);

#endif
