/* store_log_cold: reads that would wait for the disk are announced, and made when they will not.
 *
 * An owner asks with fetch before it reads: while its reads are cold (cold.h) and nothing in its
 * tables answers, a thread of the pool reads the record first. What is read and decided afterwards
 * is decided by the owner as ever, so cold and warm differ in nothing but time.
 *
 * Reads of ranges are not announced: they go on in key order, a page's worth at a time, and their
 * faults are not counted.
 */
#include <sys/resource.h>

#include "storage/store_log_impl.h"

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

void part_note_reads(struct part *p)
{
    uint64_t faults, before = p->n_faults;

    if (p->n_disk_reads == 0 && !p->walked)
        return;
    faults = p->n_faults = thread_faults();
    if (!p->walked && before != FAULTS_UNKNOWN)
        cold_note(&p->cold, p->cold.on ? p->n_tried : p->n_disk_reads, faults - before);
    p->n_disk_reads = p->n_tried = 0;
    p->walked = false;
}

bool store_log_fetch(struct store *store, uint32_t queue, uint64_t cookie, uint64_t token,
                     const struct key *key, const struct version *put)
{
    struct store_log *s = log_of(store);
    struct part *p = &s->parts[queue];
    uint8_t bytes[STORE_KEY_BYTES_MAX];
    struct slice store_key;

    if (!p->cold.on || p->n_fetching >= STORE_FETCH_MAX)
        return false;
    if (put && version_compare(*put, s->zone_max[zone_of(token)]) > 0)
        return false;
    store_key = slice_of(bytes, store_key_encode(token, key, bytes));
    if (!part_needs_disk(s, queue, token, store_key))
        return false;
    if (!cold_defers(&p->cold)) {
        p->n_tried++;
        return false;
    }
    if (!reader_pool_ask(&s->pool, queue, cookie, store_key))
        return false;
    p->n_fetching++;
    atomic_fetch_add_explicit(&s->n_fetched, 1, memory_order_relaxed);
    return true;
}

size_t store_log_fetched(struct store *store, uint32_t queue, uint64_t *cookies, size_t max)
{
    struct store_log *s = log_of(store);
    size_t n = reader_pool_reap(&s->pool, queue, cookies, max);

    s->parts[queue].n_fetching -= (uint32_t)n;
    return n;
}
