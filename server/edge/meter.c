/* meter: what a worker counts: answers by verb and outcome, how long they took, and what it has in
 * hand.
 *
 * Counters live in the worker and are written by its thread with plain relaxed stores; whoever
 * reads them sees each at some moment of late, which is all that figures for operators need.
 *
 * Time is taken twice per wake-up, not per request: everything that arrived together began when
 * the first of it was looked at, and is answered when the sockets have been written. So a figure
 * includes what a client waits for here: the queue of the wake-up, the other replicas, the disk,
 * the write. A clock reading costs as much as a fifth of a cached get otherwise.
 *
 * Log-linear buckets: below 4 us one each, above four for each power of two.
 */
#include "server/edge/meter.h"
#include "proto/err.h"
#include <uv.h>

/* A tag: microseconds since some start, and the verb in the lowest bits. */
#define TAG_VERB_BITS 4u
_Static_assert(METER_VERBS <= 1u << TAG_VERB_BITS, "a verb fits its bits");

static uint64_t now_us(void)
{
    return uv_hrtime() / 1000;
}

uint64_t meter_tag(struct meters *m, enum wire_op op)
{
    if (m->began_us == 0)
        m->began_us = now_us();
    return m->began_us << TAG_VERB_BITS | (uint64_t)op;
}

void meter_refused(struct meters *m, enum wire_op op, enum meter_outcome outcome)
{
    meter_add(&m->answers[op][outcome], 1);
}

void meter_answered(struct meters *m, uint64_t tag, enum meter_outcome outcome)
{
    uint32_t verb = tag & ((1u << TAG_VERB_BITS) - 1);

    if (tag == 0)
        return;
    meter_add(&m->answers[verb][outcome], 1);
    m->pending[m->n_pending++] = tag;
    if (m->n_pending == METER_PENDING_MAX)
        meter_flush(m);
}

void meter_flush(struct meters *m)
{
    uint64_t now = m->n_pending > 0 ? now_us() : 0;

    for (uint32_t i = 0; i < m->n_pending; i++) {
        uint32_t verb = m->pending[i] & ((1u << TAG_VERB_BITS) - 1);
        uint64_t us = now - (m->pending[i] >> TAG_VERB_BITS);

        meter_add(&m->took[verb][meter_bucket(us)], 1);
        meter_add(&m->took_us[verb], us);
    }
    m->n_pending = 0;
    m->began_us = 0;
}

enum meter_outcome meter_outcome_of(int code)
{
    switch (code < 0 ? -code : code) {
    case 0:
        return METER_OK;
    case ERR_NO_QUORUM:
        return METER_NO_QUORUM;
    case ERR_UNKNOWN_OUTCOME:
        return METER_UNKNOWN;
    case ERR_DEADLINE:
        return METER_DEADLINE;
    case ERR_OVERLOADED:
    case ERR_FULL:
    case ERR_NO_MEMORY:
        return METER_OVERLOADED;
    case ERR_NO_SPACE:
        return METER_NO_SPACE;
    case ERR_CLOCK:
        return METER_CLOCK;
    case ERR_NOT_READY:
    case ERR_SHUTTING_DOWN:
        return METER_NOT_SERVING;
    case ERR_CORRUPT:
        return METER_CORRUPT;
    case ERR_BAD_REQUEST:
    case ERR_UNSUPPORTED:
    case ERR_KEY_TOO_LARGE:
    case ERR_KEY_EMPTY:
    case ERR_VALUE_TOO_LARGE:
    case ERR_UNKNOWN_BUCKET:
        return METER_BAD_REQUEST;
    default:
        return METER_ERROR;
    }
}

/* ---- buckets ------------------------------------------------------------------------------- */

uint32_t meter_bucket(uint64_t us)
{
    uint32_t e, bucket;

    if (us < 4)
        return (uint32_t)us;
    e = 63u - (uint32_t)__builtin_clzll(us);
    bucket = 4 * (e - 1) + (uint32_t)(us >> (e - 2) & 3);
    return bucket < METER_BUCKETS ? bucket : METER_BUCKETS - 1;
}

uint64_t meter_bucket_us(uint32_t bucket)
{
    uint32_t e = bucket / 4 + 1;

    if (bucket < 4)
        return bucket;
    return ((uint64_t)(bucket % 4 + 5) << (e - 2)) - 1;
}

uint64_t meter_quantile_us(const uint64_t buckets[METER_BUCKETS], double q)
{
    uint64_t total = 0, seen = 0;
    uint32_t i;
    double rank;

    for (i = 0; i < METER_BUCKETS; i++)
        total += buckets[i];
    if (total == 0)
        return 0;
    rank = q * (double)total;
    for (i = 0; i < METER_BUCKETS - 1; i++) {
        seen += buckets[i];
        if ((double)seen >= rank)
            break;
    }
    return meter_bucket_us(i);
}
