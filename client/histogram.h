/* histogram: how long things took, in bounded space and with a bounded error.
 *
 * Log-linear: values below 128 have a bucket each; above, every power of two is cut into 128 equal
 * buckets. A quantile is answered with the highest value of its bucket (never above the maximum
 * seen), so it is at least the true one and at most 1/128 = 0.8 % above it. Any u64 has a bucket.
 * Histograms of threads are merged by adding; the result is the histogram of all values.
 */
#ifndef QUOIT_CLIENT_HISTOGRAM_H
#define QUOIT_CLIENT_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_BITS 7
#define HISTOGRAM_LINEAR (1u << HISTOGRAM_BITS)
#define HISTOGRAM_BUCKETS ((64 - HISTOGRAM_BITS + 1) * HISTOGRAM_LINEAR)

struct histogram {
    uint64_t count, max;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *h, uint64_t value);
void histogram_merge(struct histogram *to, const struct histogram *from);
/* The value that the fraction q (0..1) of all values does not exceed; 0 when there are none. */
uint64_t histogram_quantile(const struct histogram *h, double q);

#endif
