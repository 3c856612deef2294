/* latency: see latency.h. */
#include "server/core/latency.h"

/* Values of [2^e, 2^(e+1)), e >= 2, keep their top three bits. */
static uint32_t bucket_of(uint64_t ms)
{
    uint32_t e;

    if (ms > LATENCY_MS_MAX)
        ms = LATENCY_MS_MAX;
    if (ms < 4)
        return (uint32_t)ms;
    e = 63 - (uint32_t)__builtin_clzll(ms);
    return 4 * (e - 2) + (uint32_t)(ms >> (e - 2));
}

static uint32_t bucket_highest(uint32_t bucket)
{
    uint32_t e;

    if (bucket < 4)
        return bucket;
    e = bucket / 4 + 1;
    return ((bucket % 4 + 5) << (e - 2)) - 1;
}

static void halve(struct latency *l)
{
    l->n = 0;
    for (uint32_t i = 0; i < LATENCY_BUCKETS; i++) {
        l->counts[i] /= 2;
        l->n += l->counts[i];
    }
}

static void forget(struct latency *l, uint64_t now_ms)
{
    if (l->n == 0)
        l->halved_ms = now_ms;
    for (; l->n > 0 && now_ms - l->halved_ms >= LATENCY_HALF_MS; l->halved_ms += LATENCY_HALF_MS)
        halve(l);
    if (l->n >= LATENCY_COUNT_MAX)
        halve(l);
}

static uint32_t find_p95(const struct latency *l)
{
    uint32_t above = l->n / 20; /* that many may lie higher */
    uint32_t i = LATENCY_BUCKETS - 1;

    for (uint32_t seen = l->counts[i]; i > 0 && seen <= above; seen += l->counts[i])
        i--;
    return bucket_highest(i);
}

void latency_add(struct latency *l, uint64_t now_ms, uint64_t took_ms)
{
    forget(l, now_ms);
    if (l->n == 0)
        l->halved_ms = now_ms;
    l->counts[bucket_of(took_ms)]++;
    l->n++;
    if (++l->fresh < LATENCY_FRESH_MAX && l->n != LATENCY_COUNT_MIN)
        return;
    l->fresh = 0;
    l->p95_ms = find_p95(l);
}

uint32_t latency_p95_ms(const struct latency *l)
{
    return l->n < LATENCY_COUNT_MIN ? LATENCY_UNKNOWN : l->p95_ms;
}
