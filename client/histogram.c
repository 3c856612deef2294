/* histogram: see histogram.h. */
#include "client/histogram.h"

/* Values of [2^(B+e), 2^(B+e+1)) keep their top B+1 bits, of which the first is always set. */
static uint32_t bucket_of(uint64_t value)
{
    uint32_t e;

    if (value < HISTOGRAM_LINEAR)
        return (uint32_t)value;
    e = 63 - (uint32_t)__builtin_clzll(value) - HISTOGRAM_BITS;
    return (e + 1) * HISTOGRAM_LINEAR + (uint32_t)(value >> e) - HISTOGRAM_LINEAR;
}

static uint64_t bucket_highest(uint32_t bucket)
{
    uint32_t e;
    uint64_t first;

    if (bucket < HISTOGRAM_LINEAR)
        return bucket;
    e = bucket / HISTOGRAM_LINEAR - 1;
    first = (uint64_t)(bucket % HISTOGRAM_LINEAR + HISTOGRAM_LINEAR) << e;
    return first + ((1ull << e) - 1);
}

void histogram_add(struct histogram *h, uint64_t value)
{
    h->count++;
    if (value > h->max)
        h->max = value;
    h->buckets[bucket_of(value)]++;
}

void histogram_merge(struct histogram *to, const struct histogram *from)
{
    uint32_t i;

    to->count += from->count;
    if (from->max > to->max)
        to->max = from->max;
    for (i = 0; i < HISTOGRAM_BUCKETS; i++)
        to->buckets[i] += from->buckets[i];
}

uint64_t histogram_quantile(const struct histogram *h, double q)
{
    uint64_t rank, seen = 0, value;
    uint32_t i;

    if (h->count == 0)
        return 0;
    rank = (uint64_t)(q * (double)h->count);
    if ((double)rank < q * (double)h->count)
        rank++;
    if (rank == 0)
        rank = 1;
    for (i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += h->buckets[i];
        if (seen >= rank)
            break;
    }
    value = i < HISTOGRAM_BUCKETS ? bucket_highest(i) : h->max;
    return value < h->max ? value : h->max;
}
