/* bench: the load that `quoit bench` makes, and what it measures.
 *
 * A client is one connection to each node with `depth` operations under way. Clients are spread
 * over threads, each with a handle of its own; nothing is shared while running but the counter of
 * inserted keys. Closed loop: an operation starts when the one before ends, and its latency counts
 * from then. Open loop: operations have a schedule; if none of the clients is free at its time an
 * operation starts late, and its latency counts from the time it should have started. So a node
 * that stops for a second shows as a thousand slow operations, not as one (no coordinated
 * omission).
 *
 * Measured are the operations that start inside the measuring window; they are waited for to the
 * end. A rate is what succeeded, divided by the window; in open loop, by the time up to the last
 * success if that is longer, since a schedule that could not be kept took longer. What failed
 * stretches neither: its waiting for a timeout is not work.
 */
#ifndef QUOIT_CLIENT_BENCH_H
#define QUOIT_CLIENT_BENCH_H

#include <stdatomic.h>

#include "client/bench_keys.h"
#include "client/cli.h"
#include "client/histogram.h"

#define BENCH_ERROR_CODES 64

struct bench_config {
    char mix;       /* a b c d f, or 0 */
    uint64_t reads; /* percent */
    uint64_t keys, value_size, clients, depth, threads, seed;
    uint64_t rate; /* operations per second, 0 = closed loop */
    uint64_t duration_us, warmup_us;
    enum bench_distribution distribution;
    const char *prefix;
    bool no_load, repeat;
};

struct bench_stats {
    uint64_t errors, not_found;
    uint64_t error_codes[BENCH_ERROR_CODES];
    struct histogram reads, writes; /* nanoseconds */
    uint64_t last_ns;               /* of the last success that counts */
};

/* Shared by the threads. */
struct bench {
    struct cli *cli;
    const struct bench_config *config;
    struct bench_zipf zipf;
    uint8_t *values;               /* random bytes; a value is a piece of them */
    struct bench_inserts *inserts; /* keys there are */
    uint64_t start_ns, stop_ns;    /* the window */
    atomic_uint_fast64_t n_done;   /* for the progress line */
};

struct bench_thread;

/* Thread i of config->threads. CLI_OK, or another code with a message given. */
int bench_thread_new(struct bench *bench, uint64_t index, struct bench_thread **ret);
void bench_thread_free(struct bench_thread *t);
/* Stores keys [first, first + n). CLI_OK or a code with a message given. */
int bench_thread_load(struct bench_thread *t, uint64_t first, uint64_t n);
/* Runs until the window is over and everything is answered. */
void bench_thread_run(struct bench_thread *t);
const struct bench_stats *bench_thread_stats(const struct bench_thread *t);

#endif
