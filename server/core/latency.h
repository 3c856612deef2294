/* latency: how long answers take of late: a decaying histogram and its 95th percentile. Pure.
 *
 * Milliseconds, since that is the grain of the core's clock. Values up to 7 have a bucket each;
 * from there every power of two is cut into four, so a quantile, answered with the highest value of
 * its bucket, is at least the true one and at most a quarter above it. Whatever takes longer than
 * LATENCY_MS_MAX counts as that.
 *
 * "Of late": all counts are halved when there are LATENCY_COUNT_MAX of them, and once per
 * LATENCY_HALF_MS, so that what a node was like under a load that is over is soon forgotten, and
 * the unknown is said to be unknown.
 */
#ifndef QUOIT_CORE_LATENCY_H
#define QUOIT_CORE_LATENCY_H

#include <stdint.h>

#define LATENCY_MS_MAX 4095u
#define LATENCY_BUCKETS 44u
#define LATENCY_COUNT_MAX 1024u
#define LATENCY_HALF_MS 10000u
/* Fewer answers than this say nothing about one in twenty. */
#define LATENCY_COUNT_MIN 40u
/* The quantile is looked for anew after so many answers, not at each question. */
#define LATENCY_FRESH_MAX 16u

#define LATENCY_UNKNOWN UINT32_MAX

/* Zeroed: nothing is known. */
struct latency {
    uint16_t counts[LATENCY_BUCKETS];
    uint32_t n;     /* their sum */
    uint32_t fresh; /* since p95_ms was found */
    uint32_t p95_ms;
    uint64_t halved_ms; /* when they were last halved for their age */
};

void latency_add(struct latency *l, uint64_t now_ms, uint64_t took_ms);
/* Milliseconds that 95 of 100 answers did not exceed, or LATENCY_UNKNOWN. */
uint32_t latency_p95_ms(const struct latency *l);

#endif
