/* store_log_cold: reads that would wait for the disk are announced, and made when they will not.
 *
 * An owner asks with fetch before it reads: while its reads are cold (cold.h) and nothing in its
 * tables answers, a thread of the pool reads the record first. What is read and decided afterwards
 * is decided by the owner as ever, so cold and warm differ in nothing but time.
 *
 * Reads of ranges are not announced: they go on in key order, a page's worth at a time, and their
 * faults are not counted.
 *
 * Counting costs 0.2 us. So a wake-up is counted once, at its end, as long as nothing has happened;
 * after a fault, which may have been made by anything since the last time, the next wake-ups are
 * counted from their first read on, and only those are believed.
 */
#include <sys/resource.h>

#include "storage/store_log_impl.h"

/* Wake-ups with reads that are counted exactly after one with a fault. */
#define WATCHED_WAKE_UPS 64u

static void read_ahead(void *ctx, uint32_t reader, struct slice store_key)
{
    struct store_log *s = ctx;
    uint32_t queue = s->n_parts + reader;
    struct state unused;

    if (lmdb_snapshot_next(&s->env, queue) != 0)
        return;
    lmdb_env_get(&s->env, queue, store_key, &unused); /* damage is met again by who asked */
    lmdb_snapshots_end(&s->env, queue);
}

static void on_read(void *ctx, uint32_t queue)
{
    struct store_log *s = ctx;
    s->config.notify(s->config.ctx, queue);
}

int store_log_cold_init(struct store_log *s)
{
    s->pool = (struct reader_pool){
        .read = read_ahead, .notify = on_read, .ctx = s, .n_queues = s->n_parts};
    return reader_pool_init(&s->pool);
}

static uint64_t thread_faults(void)
{
    struct rusage usage;
    return getrusage(RUSAGE_THREAD, &usage) == 0 ? (uint64_t)usage.ru_majflt : 0;
}

static bool counts_from_the_first(const struct part *p)
{
    return p->watched > 0 || p->cold.on;
}

void part_count_read(struct part *p)
{
    if (p->n_disk_reads++ == 0 && counts_from_the_first(p))
        p->n_faults = thread_faults();
}

void part_note_reads(struct part *p)
{
    uint32_t n_reads = p->cold.on ? p->n_tried : p->n_disk_reads;
    bool exact = counts_from_the_first(p);
    uint64_t faults, more;

    if (p->n_disk_reads == 0)
        return;
    faults = thread_faults();
    more = p->n_faults == FAULTS_UNKNOWN ? 0 : faults - p->n_faults;
    if (exact || more == 0)
        cold_note(&p->cold, n_reads, more);
    if (more)
        p->watched = WATCHED_WAKE_UPS;
    else if (p->watched)
        p->watched--;
    p->n_faults = faults;
    p->n_disk_reads = p->n_tried = 0;
}

uint64_t part_faults_begin(void)
{
    return thread_faults();
}

void part_faults_end(struct part *p, uint64_t begin)
{
    if (p->n_faults != FAULTS_UNKNOWN)
        p->n_faults += thread_faults() - begin;
}

enum store_fetch store_log_fetch(struct store *store, uint32_t queue, uint64_t cookie,
                                 uint64_t token, const struct key *key, const struct version *put)
{
    struct store_log *s = log_of(store);
    struct part *p = &s->parts[queue];
    uint8_t bytes[STORE_KEY_BYTES_MAX];
    struct slice store_key;

    if (!p->cold.on)
        return STORE_FETCH_NOW;
    if (put && version_compare(*put, s->zone_max[zone_of(token)]) > 0)
        return STORE_FETCH_NOW;
    store_key = slice_of(bytes, store_key_encode(token, key, bytes));
    if (!part_needs_disk(s, queue, token, store_key))
        return STORE_FETCH_NOW;
    if (!cold_defers(&p->cold)) {
        p->n_tried++;
        return STORE_FETCH_NOW;
    }
    if (p->n_fetching >= STORE_FETCH_MAX)
        return STORE_FETCH_FULL;
    if (!reader_pool_ask(&s->pool, queue, cookie, store_key))
        return STORE_FETCH_NOW;
    p->n_fetching++;
    atomic_fetch_add_explicit(&s->n_fetched, 1, memory_order_relaxed);
    return STORE_FETCH_LATER;
}

size_t store_log_fetched(struct store *store, uint32_t queue, uint64_t *cookies, size_t max)
{
    struct store_log *s = log_of(store);
    size_t n = reader_pool_reap(&s->pool, queue, cookies, max);

    s->parts[queue].n_fetching -= (uint32_t)n;
    return n;
}
