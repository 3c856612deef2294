/* metrics: this node's figures as Prometheus reads them (text format 0.0.4).
 *
 * One table: a name, what it is, and where its value comes from. To add a figure, add a line; a
 * counter of the workers needs nothing else. Names have the prefix quoit_, base units and, if they
 * only grow, the end _total; figures are per node, never per partition, so that a scrape of a large
 * ring is not larger.
 *
 * Figures of the workers and of the store are those of the last look (load.c), a second old at
 * most; answers and times are up to date.
 */
#include "server/edge/metrics.h"
#include "proto/err.h"
#include "server/core/ring.h"
#include "server/edge/control.h"
#include "server/edge/status.h"
#include "server/edge/worker_loop.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/resource.h>

/* Times are told in buckets with these bounds: powers of two of a microsecond, 64 us to 67 s. */
#define TIME_FIRST 6u
#define TIME_LAST 26u
#define LINE_BYTES 512u

/* What a page is made from. */
struct page {
    const struct control *c;
    struct buf *out;
    struct wire_status_result status; /* if there is a ring */
    bool has_status;
    int rc;
};

/* ---- lines --------------------------------------------------------------------------------- */

static void put(struct page *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void put(struct page *p, const char *fmt, ...)
{
    char line[LINE_BYTES];
    va_list args;
    int n;

    va_start(args, fmt);
    n = vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof(line) || buf_append(p->out, line, (size_t)n) < 0)
        p->rc = -ERR_NO_MEMORY;
}

/* A label's value: printable ASCII here, of which two need escaping. */
struct label {
    char s[2 * LIMIT_NAME_BYTES + 1];
};

static struct label label(struct slice s)
{
    struct label l;
    size_t n = 0;

    for (size_t i = 0; i < s.len && n + 2 < sizeof(l.s); i++) {
        if (s.data[i] == '"' || s.data[i] == '\\')
            l.s[n++] = '\\';
        l.s[n++] = (char)s.data[i];
    }
    l.s[n] = '\0';
    return l;
}

/* ---- those with labels --------------------------------------------------------------------- */

static const char *const verb_names[METER_VERBS] = {
    [OP_HELLO] = "hello", [OP_PING] = "ping", [OP_GET] = "get",   [OP_PUT] = "put",
    [OP_DELETE] = "del",  [OP_SCAN] = "scan", [OP_RING] = "ring", [OP_STATUS] = "status"};

static const char *const outcome_names[METER_OUTCOMES] = {[METER_OK] = "ok",
                                                          [METER_NOT_FOUND] = "not_found",
                                                          [METER_NO_QUORUM] = "no_quorum",
                                                          [METER_UNKNOWN] = "unknown_outcome",
                                                          [METER_DEADLINE] = "deadline",
                                                          [METER_OVERLOADED] = "overloaded",
                                                          [METER_NO_SPACE] = "no_space",
                                                          [METER_CLOCK] = "clock",
                                                          [METER_NOT_SERVING] = "not_serving",
                                                          [METER_CORRUPT] = "corrupt",
                                                          [METER_BAD_REQUEST] = "bad_request",
                                                          [METER_ERROR] = "error"};

static bool is_data(uint32_t verb)
{
    return verb == OP_GET || verb == OP_PUT || verb == OP_DELETE || verb == OP_SCAN;
}

/* Of all workers; offset of a meter in struct meters. */
static uint64_t sum(const struct control *c, size_t offset)
{
    uint64_t n = 0;

    for (uint32_t i = 0; i < c->node->n_workers; i++)
        n += meter_get(
            (const meter *)(const void *)((const char *)&c->node->workers[i]->meters + offset));
    return n;
}

/* Those on data are there from the start, so that a rate finds the first error; of the others only
 * what has happened. */
static void write_requests(struct page *p, const char *name)
{
    for (uint32_t verb = 1; verb < METER_VERBS; verb++)
        for (uint32_t o = 0; o < METER_OUTCOMES; o++) {
            uint64_t n = sum(p->c, offsetof(struct meters, answers[0][0]) +
                                       (verb * METER_OUTCOMES + o) * sizeof(meter));

            if (n > 0 || is_data(verb))
                put(p, "%s{verb=\"%s\",outcome=\"%s\"} %" PRIu64 "\n", name, verb_names[verb],
                    outcome_names[o], n);
        }
}

static void write_times_of(struct page *p, const char *name, uint32_t verb)
{
    uint64_t n = 0, total_us;
    uint32_t b = 0;

    for (uint32_t e = TIME_FIRST; e <= TIME_LAST; e++) {
        for (; b < METER_BUCKETS && meter_bucket_us(b) < 1ull << e; b++)
            n += sum(p->c, offsetof(struct meters, took[0][0]) +
                               (verb * METER_BUCKETS + b) * sizeof(meter));
        put(p, "%s_bucket{verb=\"%s\",le=\"%.9g\"} %" PRIu64 "\n", name, verb_names[verb],
            (double)(1ull << e) / 1e6, n);
    }
    for (; b < METER_BUCKETS; b++)
        n += sum(p->c,
                 offsetof(struct meters, took[0][0]) + (verb * METER_BUCKETS + b) * sizeof(meter));
    total_us = sum(p->c, offsetof(struct meters, took_us[0]) + verb * sizeof(meter));
    put(p, "%s_bucket{verb=\"%s\",le=\"+Inf\"} %" PRIu64 "\n", name, verb_names[verb], n);
    put(p, "%s_sum{verb=\"%s\"} %.6f\n", name, verb_names[verb], (double)total_us / 1e6);
    put(p, "%s_count{verb=\"%s\"} %" PRIu64 "\n", name, verb_names[verb], n);
}

static void write_times(struct page *p, const char *name)
{
    for (uint32_t verb = 1; verb < METER_VERBS; verb++)
        if (is_data(verb))
            write_times_of(p, name, verb);
}

static void write_info(struct page *p, const char *name)
{
    const struct node *n = p->c->node;
    struct label node = label(slice_str(n->disk.name));
    char cluster[2 * WIRE_ID_BYTES + 1] = "";

    for (size_t i = 0; i < WIRE_ID_BYTES && !wire_id_is_zero(&n->disk.cluster_id); i++)
        snprintf(cluster + 2 * i, 3, "%02x", n->disk.cluster_id.b[i]);
    put(p, "%s{version=\"%s\",node=\"%s\",cluster=\"%s\"} 1\n", name, QUOIT_VERSION, node.s,
        cluster);
}

static void write_peers(struct page *p, const char *name)
{
    for (size_t i = 0; p->has_status && i < p->status.n_members; i++) {
        const struct wire_member_status *m = &p->status.members[i];
        struct label node = label(m->member.name);
        bool up = m->state == MEMBER_ALIVE || m->state == MEMBER_SUSPECT;

        put(p, "%s{node=\"%s\"} %d\n", name, node.s, up);
    }
}

static void write_members(struct page *p, const char *name)
{
    static const char *const states[] = {"unheard", "up", "suspect", "down", "stopped"};
    unsigned n[5] = {0};

    for (size_t i = 0; p->has_status && i < p->status.n_members; i++)
        n[p->status.members[i].state]++;
    for (size_t i = 0; i < 5; i++)
        put(p, "%s{state=\"%s\"} %u\n", name, states[i], n[i]);
}

static void write_partitions(struct page *p, const char *name)
{
    for (uint32_t i = 0; p->has_status && i <= p->status.n_replicas && i <= LIMIT_SLOTS_MAX; i++)
        put(p, "%s{live=\"%u\"} %u\n", name, i, p->status.n_by_live[i]);
}

static void write_verdict(struct page *p, const char *name)
{
    static const char *const verdicts[] = {"", "healthy", "degraded", "unavailable"};

    for (uint32_t v = VERDICT_HEALTHY; p->has_status && v <= VERDICT_UNAVAILABLE; v++)
        put(p, "%s{verdict=\"%s\"} %d\n", name, verdicts[v], p->status.verdict == v);
}

/* ---- single values ------------------------------------------------------------------------- */

static double ready(const struct control *c)
{
    return http_not_ready(c) == NULL;
}

static double epoch(const struct control *c)
{
    return c->ring ? (double)ring_epoch(c->ring) : 0;
}

static double boot(const struct control *c)
{
    return (double)c->node->disk.boot;
}

static double workers(const struct control *c)
{
    return c->node->n_workers;
}

static double clients(const struct control *c)
{
    return atomic_load_explicit(&c->node->n_clients, memory_order_relaxed);
}

static double cpu_seconds(const struct control *c)
{
    struct rusage u;

    if (getrusage(RUSAGE_SELF, &u) < 0)
        return 0;
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static double keys(const struct control *c)
{
    return (double)c->load.now.n_keys;
}

static double space_low(const struct control *c)
{
    return c->load.store.space_low;
}

static double clock_off(const struct control *c)
{
    return (c->load.now.flags & LOAD_CLOCK) != 0;
}

static double gossip_sent(const struct control *c)
{
    return (double)gossip_stats(&c->gossip).n_sent;
}

static double gossip_probes(const struct control *c)
{
    return (double)gossip_stats(&c->gossip).n_probes;
}

static double gossip_failed(const struct control *c)
{
    return (double)gossip_stats(&c->gossip).n_failed_probes;
}

static double gossip_refuted(const struct control *c)
{
    return (double)gossip_stats(&c->gossip).n_refuted;
}

static double gossip_health(const struct control *c)
{
    return gossip_stats(&c->gossip).health;
}

static double scrubbed_records(const struct control *c)
{
    return (double)c->scrub.total.n_records;
}

static double scrubbed_bytes(const struct control *c)
{
    return (double)c->scrub.total.n_bytes;
}

static double scrubbed_bad(const struct control *c)
{
    return (double)c->scrub.total.n_bad;
}

static double scrub_rounds(const struct control *c)
{
    return (double)c->scrub.n_rounds;
}

/* ---- the table ----------------------------------------------------------------------------- */

enum kind {
    COUNTER,
    GAUGE,
    HISTOGRAM
};

static const char *const kind_names[] = {"counter", "gauge", "histogram"};

struct metric {
    const char *name;
    enum kind kind;
    const char *help;
    /* One of these: */
    void (*write)(struct page *p, const char *name);
    double (*value)(const struct control *c);
    size_t meter; /* 1 + offset in struct meters: the sum over the workers */
    size_t store; /* 1 + offset of a uint64_t in struct store_stats */
};

#define METER(field) .meter = 1 + offsetof(struct meters, field)
#define STORE(field) .store = 1 + offsetof(struct store_stats, field)

static const struct metric metrics[] = {
    {"quoit_info", GAUGE, "Always 1; the labels tell what runs here.", .write = write_info},
    {"quoit_ready", GAUGE, "1 while /readyz says so.", .value = ready},
    {"quoit_boot", GAUGE, "Starts of this data directory.", .value = boot},
    {"quoit_workers", GAUGE, "Threads that serve requests.", .value = workers},
    {"process_cpu_seconds_total", COUNTER, "User and system time of the process.",
     .value = cpu_seconds},

    {"quoit_requests_total", COUNTER, "Requests of clients that were answered, by outcome.",
     .write = write_requests},
    {"quoit_request_seconds", HISTOGRAM,
     "From the wake-up that read a request to the write of its answer.", .write = write_times},
    {"quoit_requests_in_flight", GAUGE, "Requests on data being served.", METER(ops)},
    {"quoit_requests_in_flight_bytes", GAUGE, "Keys and values of these.", METER(ops_bytes)},
    {"quoit_client_connections", GAUGE, "Connections of clients.", .value = clients},
    {"quoit_connections", GAUGE,
     "Connections of the workers: of clients, and links to other nodes.", METER(conns)},
    {"quoit_unsent_bytes", GAUGE, "Packed for these and not taken by the kernel yet.",
     METER(unsent_bytes)},
    {"quoit_peer_messages_total", COUNTER, "Messages of other nodes and workers.",
     METER(peer_requests)},
    {"quoit_peer_requests_dropped_total", COUNTER,
     "Requests of other nodes that were past their deadline.", METER(peer_dropped)},
    {"quoit_restamped_writes_total", COUNTER, "Writes that were superseded and stamped anew.",
     METER(restamped)},
    {"quoit_read_repairs_total", COUNTER, "Gets that wrote the newest state back to replicas.",
     METER(repairs)},
    {"quoit_repair_comparisons_total", COUNTER, "Replicas compared with others in the background.",
     METER(compared)},
    {"quoit_repair_comparisons_equal_total", COUNTER, "Those of them that held the same.",
     METER(compared_equal)},
    {"quoit_repair_comparisons_failed_total", COUNTER, "Those that came to no result.",
     METER(compare_failed)},
    {"quoit_repair_fetched_records_total", COUNTER, "Records that were missing and were fetched.",
     METER(pulled)},
    {"quoit_repair_fetched_bytes_total", COUNTER, "Their keys and values.", METER(pulled_bytes)},
    {"quoit_repair_given_records_total", COUNTER, "Records that others fetched from here.",
     METER(told)},
    {"quoit_repair_given_bytes_total", COUNTER, "Their keys and values.", METER(told_bytes)},
    {"quoit_repair_differing_pairs", GAUGE, "Pairs of replicas that differed when last compared.",
     METER(pairs_differ)},
    {"quoit_purge_rounds_total", COUNTER,
     "Partitions of which all replicas let their tombstones go, driven from here.",
     METER(purge_rounds)},
    {"quoit_purge_rounds_abandoned_total", COUNTER,
     "Rounds that came to no end; they are tried again.", METER(purge_abandoned)},
    {"quoit_repair_healed_records_total", COUNTER,
     "Damaged records that were healed from other replicas.", METER(healed)},
    {"quoit_repair_damaged_records", GAUGE, "Damaged records that wait to be healed.",
     METER(damaged)},
    {"quoit_repair_heals_put_off_total", COUNTER,
     "Damaged records that found too many waiting, and are healed when they are met again.",
     METER(heals_refused)},
    {"quoit_hedged_reads_total", COUNTER, "Slow replicas that a read did not wait for.",
     METER(hedges)},
    {"quoit_clocks_refused_total", COUNTER, "Times of others that were too far ahead.",
     METER(clock_refused)},
    {"quoit_corrupt_records_total", COUNTER, "Records that failed their checksum when read.",
     METER(corrupt)},
    {"quoit_clock_off", GAUGE, "1 while this node's clock is off, so that it stamps no write.",
     .value = clock_off},

    {"quoit_store_keys", GAUGE, "Records, deleted ones included until they are purged.",
     .value = keys},
    {"quoit_store_tombstones", GAUGE, "Deleted records in the data file, to be purged.",
     STORE(n_tombstones)},
    {"quoit_store_purged_total", COUNTER, "Deleted records that were purged.", STORE(n_purged)},
    {"quoit_store_map_bytes", GAUGE, "The largest that the data file may grow to.",
     STORE(map_bytes)},
    {"quoit_store_used_bytes", GAUGE, "Pages of the data file in use.", STORE(used_bytes)},
    {"quoit_store_free_bytes", GAUGE, "Pages of the data file to be used again.",
     STORE(free_bytes)},
    {"quoit_store_snapshot_age_commits", GAUGE,
     "Commits since the oldest snapshot being read; it keeps what they freed.",
     STORE(snapshot_age)},
    {"quoit_store_memory_records", GAUGE, "Records on their way from the log to the data file.",
     METER(records_in_memory)},
    {"quoit_store_memory_bytes", GAUGE, "What these may take there.", STORE(in_memory_bytes)},
    {"quoit_store_waiting_operations", GAUGE, "Operations that the store had no room for yet.",
     METER(store_waiting)},
    {"quoit_store_operations_total", COUNTER, "Operations that the store was given.", STORE(n_ops)},
    {"quoit_store_syncs_total", COUNTER, "Syncs of the log.", STORE(n_syncs)},
    {"quoit_store_deferred_reads_total", COUNTER, "Reads that waited for the disk elsewhere.",
     STORE(n_fetched)},
    {"quoit_store_space_low", GAUGE, "1 while puts are refused for want of space.",
     .value = space_low},
    {"quoit_filesystem_bytes", GAUGE, "Size of the file system of the data.", STORE(fs_bytes)},
    {"quoit_filesystem_free_bytes", GAUGE, "Free of it.", STORE(fs_free_bytes)},

    {"quoit_scrub_records_total", COUNTER, "Records that were read again in the background.",
     .value = scrubbed_records},
    {"quoit_scrub_bytes_total", COUNTER, "Their keys and values.", .value = scrubbed_bytes},
    {"quoit_scrub_bad_records_total", COUNTER, "Those of them that were found damaged.",
     .value = scrubbed_bad},
    {"quoit_scrub_rounds_total", COUNTER, "Times that all was read again.", .value = scrub_rounds},

    {"quoit_ring_epoch", GAUGE, "Epoch of the ring; 0 while there is none.", .value = epoch},
    {"quoit_cluster_verdict", GAUGE, "1 for the verdict of `quoit admin status`.",
     .write = write_verdict},
    {"quoit_cluster_members", GAUGE, "Members of the ring, by state as seen from here.",
     .write = write_members},
    {"quoit_cluster_partitions", GAUGE, "Partitions by how many live replicas they have.",
     .write = write_partitions},
    {"quoit_peer_up", GAUGE, "1 for each member that is taken to be up from here.",
     .write = write_peers},
    {"quoit_gossip_messages_total", COUNTER, "Gossip messages sent.", .value = gossip_sent},
    {"quoit_gossip_probes_total", COUNTER, "Members asked whether they are there.",
     .value = gossip_probes},
    {"quoit_gossip_failed_probes_total", COUNTER, "Those of them that did not answer.",
     .value = gossip_failed},
    {"quoit_gossip_refuted_total", COUNTER, "Suspicions of this node that it refuted.",
     .value = gossip_refuted},
    {"quoit_gossip_slowness", GAUGE, "0 while this node is quick enough to judge others; up to 8.",
     .value = gossip_health},
};

static uint64_t stored(const struct control *c, size_t offset)
{
    return *(const uint64_t *)(const void *)((const char *)&c->load.store + offset);
}

static void write_metric(struct page *p, const struct metric *m)
{
    put(p, "# HELP %s %s\n# TYPE %s %s\n", m->name, m->help, m->name, kind_names[m->kind]);
    if (m->write)
        m->write(p, m->name);
    else if (m->value)
        put(p, "%s %.15g\n", m->name, m->value(p->c));
    else if (m->meter)
        put(p, "%s %" PRIu64 "\n", m->name, sum(p->c, m->meter - 1));
    else
        put(p, "%s %" PRIu64 "\n", m->name, stored(p->c, m->store - 1));
}

int metrics_write(struct control *c, struct buf *out)
{
    struct page p = {.c = c, .out = out};
    struct arena arena;

    arena_init(&arena, STATUS_ARENA_BYTES);
    p.has_status = status_look(c, &arena, &p.status) == 0;
    for (size_t i = 0; i < sizeof(metrics) / sizeof(metrics[0]); i++)
        write_metric(&p, &metrics[i]);
    arena_deinit(&arena);
    return p.rc;
}
