/* store_bench: puts and gets of a store alone, no network.
 *
 *   store_bench log|plain DIR [KEYS [SECONDS [OUTSTANDING]]]     (100000, 3; 1, 16 and 64)
 *   store_bench sorted DIR [KEYS]                                of the store with a log
 *   store_bench kill DIR [KEYS], then store_bench start DIR [KEYS]           the same
 *   store_bench scrub DIR [KEYS]                                             the same
 *
 * "sorted": how fast a partition comes in from elsewhere, as sorted loads of records of 1000 bytes
 * among KEYS others. "kill": puts until both tables are as full as they get, then the process ends
 * itself with SIGKILL; "start" tells how long opening takes, and reads. "scrub": two rounds of a
 * scrub, one slice right after the other. Keys that are there from the last run in DIR are not
 * loaded again.
 *
 * Puts: random keys, 100 byte values, so many outstanding at a time, each wave submitted as
 * outcomes come back. Gets: random keys, a snapshot per 16; then the same after the store was
 * closed and opened, so that nothing is in memory tables. Prints the time of a bare 4 KiB fdatasync
 * on the same file system first: figures of synced writes mean nothing without it. "Worst second"
 * and bytes written (of the whole block device, so others must be quiet) are of the timed part;
 * what lies in tables at its end is not written yet. DIR is made by the caller, is filled, and
 * stays.
 */
#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "storage/store_log.h"

#define VALUE_BYTES 100u
#define NAME_BYTES 32u
#define LOAD_BATCH 4096u
#define OUT_MAX 64u
#define SYNC_SAMPLES 200u
#define GETS_PER_SNAPSHOT 16u
#define SCRUB_BYTES (256u << 10) /* a node's slices */

struct bench {
    struct store *s;
    bool plain;
    const char *dir;
    sem_t woken;
    uint64_t random, n_keys, hlc;
    double seconds;
};

static void on_notify(void *ctx, uint32_t queue)
{
    struct bench *b = ctx;

    sem_post(&b->woken);
}

static void on_fatal(void *ctx, const char *sentence)
{
    fprintf(stderr, "%s\n", sentence);
    exit(1);
}

static void die(const char *what, const char *why)
{
    fprintf(stderr, "store_bench: %s: %s\n", what, why);
    exit(1);
}

static uint64_t next_random(struct bench *b)
{
    b->random ^= b->random << 13;
    b->random ^= b->random >> 7;
    b->random ^= b->random << 17;
    return b->random;
}

static double now_s(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int by_double(const void *a, const void *b)
{
    const double *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

static void measure_sync(const char *dir)
{
    static uint8_t block[4096];
    double took[SYNC_SAMPLES];
    char path[4096];
    int fd;

    snprintf(path, sizeof(path), "%s/sync-probe", dir);
    fd = open(path, O_RDWR | O_CREAT, 0600);
    if (fd < 0)
        die(path, strerror(errno));
    for (unsigned i = 0; i < SYNC_SAMPLES; i++) {
        double start = now_s(CLOCK_MONOTONIC);

        if (pwrite(fd, block, sizeof(block), 0) != (ssize_t)sizeof(block) || fdatasync(fd) != 0)
            die(path, strerror(errno));
        took[i] = now_s(CLOCK_MONOTONIC) - start;
    }
    close(fd);
    unlink(path);
    qsort(took, SYNC_SAMPLES, sizeof(*took), by_double);
    printf("fdatasync of 4 KiB: p50 %.0f us, p99 %.0f us\n", took[SYNC_SAMPLES / 2] * 1e6,
           took[SYNC_SAMPLES * 99 / 100] * 1e6);
}

/* Key i, with tokens spread like hashes. */
static struct store_op put_op(struct bench *b, uint64_t i, char name[NAME_BYTES])
{
    static const uint8_t value[VALUE_BYTES];

    snprintf(name, NAME_BYTES, "user%012llu", (unsigned long long)i);
    return (struct store_op){
        .type = STORE_OP_MERGE,
        .token = i * 0x9e3779b97f4a7c15u,
        .key = {.bucket = BUCKET_DEFAULT, .partition = slice_str(name)},
        .state = {.kind = STATE_LWW, .version = {.hlc = ++b->hlc}, .value = {value, sizeof(value)}},
    };
}

/* False: not now. */
static bool submit(struct bench *b, const struct store_op *ops, size_t n)
{
    uint64_t lsn;
    int r = b->s->ops->submit(b->s, 0, ops, n, &lsn);

    if (r != 0 && r != -ERR_FULL)
        die("submit", err_name(r));
    return r == 0;
}

static void wait_woken(struct bench *b)
{
    while (sem_wait(&b->woken) != 0)
        continue;
}

static size_t reap(struct bench *b, struct store_done *dones, size_t max)
{
    size_t n;

    while ((n = b->s->ops->reap(b->s, 0, dones, max)) == 0)
        wait_woken(b);
    for (size_t i = 0; i < n; i++) {
        if (dones[i].error)
            die("put", err_name(dones[i].error));
    }
    return n;
}

/* Unless they are there from the last run. */
static void load(struct bench *b)
{
    struct store_stats stats;
    struct store_op *ops = calloc(LOAD_BATCH, sizeof(*ops));
    struct store_done *dones = calloc(LOAD_BATCH, sizeof(*dones));
    char(*names)[NAME_BYTES] = calloc(LOAD_BATCH, sizeof(*names));

    if (!ops || !dones || !names)
        die("load", "out of memory");
    b->s->ops->stats(b->s, 0, &stats);
    for (uint64_t i = stats.n_records < b->n_keys ? 0 : b->n_keys; i < b->n_keys;) {
        size_t n = 0;

        for (; n < LOAD_BATCH && i < b->n_keys; n++, i++)
            ops[n] = put_op(b, i, names[n]);
        while (!submit(b, ops, n)) {
            wait_woken(b);
            b->s->ops->reap(b->s, 0, dones, 1); /* nothing is outstanding: its chores */
        }
        while (n)
            n -= reap(b, dones, n);
    }
    free(names);
    free(dones);
    free(ops);
}

#define SECONDS_MAX 3600u
#define SAMPLES_MAX (1u << 22)

/* Latencies, a ring of the last ones, and puts per second of the run. */
struct puts {
    float *took;
    uint64_t n;
    uint32_t per_second[SECONDS_MAX];
};

/* A number of a line "name: number" of a file below /proc/self. */
static uint64_t proc_number(const char *file, const char *name)
{
    char path[64], line[128];
    unsigned long long number = 0;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/self/%s", file);
    f = fopen(path, "r");
    while (f && fgets(line, sizeof(line), f))
        if (strncmp(line, name, strlen(name)) == 0)
            sscanf(line + strlen(name), ": %llu", &number);
    if (f)
        fclose(f);
    return number;
}

/* Written to the block device under the directory since it was there. */
static uint64_t device_bytes(const struct bench *b)
{
    unsigned long long sectors = 0;
    char path[64];
    struct stat st;
    FILE *f;

    if (stat(b->dir, &st) != 0)
        return 0;
    snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/stat", major(st.st_dev), minor(st.st_dev));
    f = fopen(path, "r");
    if (!f)
        return 0;
    if (fscanf(f, "%*u %*u %*u %*u %*u %*u %llu", &sectors) != 1)
        sectors = 0;
    fclose(f);
    return sectors * 512;
}

static int by_float(const void *a, const void *b)
{
    const float *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

static uint32_t worst_second(const struct puts *p, double took)
{
    uint32_t worst = UINT32_MAX;

    for (uint32_t i = 0; i + 1 <= (uint32_t)took && i < SECONDS_MAX; i++)
        worst = p->per_second[i] < worst ? p->per_second[i] : worst;
    return worst == UINT32_MAX ? 0 : worst;
}

/* To see what the worst second was about. */
static void print_seconds(const struct puts *p, double took)
{
    printf("   k/s:");
    for (uint32_t i = 0; i < (uint32_t)took && i < SECONDS_MAX; i++)
        printf(" %u", (p->per_second[i] + 500) / 1000);
    printf("\n");
}

static void print_puts(struct puts *p, size_t outstanding, double took, double cpu, uint64_t syncs,
                       uint64_t bytes)
{
    size_t n = p->n < SAMPLES_MAX ? p->n : SAMPLES_MAX;

    qsort(p->took, n, sizeof(*p->took), by_float);
    printf("put, %2zu outstanding: %8.0f/s (worst second %u), p50 %.2f ms, p99 %.2f ms, max %.0f "
           "ms, %.1f us CPU, %.1f per sync, %.0f bytes written each, %llu MB anonymous\n",
           outstanding, (double)p->n / took, worst_second(p, took), p->took[n / 2] * 1e3,
           p->took[n * 99 / 100] * 1e3, p->took[n - 1] * 1e3, cpu / (double)p->n * 1e6,
           (double)p->n / (double)(syncs ? syncs : 1), (double)bytes / (double)p->n,
           (unsigned long long)proc_number("status", "RssAnon") / 1024);
    print_seconds(p, took);
}

static void measure_puts(struct bench *b, size_t outstanding)
{
    struct store_op ops[OUT_MAX];
    struct store_done dones[OUT_MAX];
    char names[OUT_MAX][NAME_BYTES];
    double began[OUT_MAX], start, cpu, now;
    struct store_stats before, after;
    struct puts p = {.took = malloc(SAMPLES_MAX * sizeof(float))};
    uint64_t bytes = device_bytes(b);
    size_t n_free = outstanding, free_slots[OUT_MAX], n_new = 0;

    if (!p.took)
        die("measure", "out of memory");
    for (size_t i = 0; i < outstanding; i++)
        free_slots[i] = i;
    b->s->ops->stats(b->s, 0, &before);
    start = now = now_s(CLOCK_MONOTONIC);
    cpu = now_s(CLOCK_PROCESS_CPUTIME_ID);
    while (now - start < b->seconds) {
        for (; n_new < n_free; n_new++) {
            ops[n_new] = put_op(b, next_random(b) % b->n_keys, names[n_new]);
            ops[n_new].cookie = free_slots[n_new];
            began[free_slots[n_new]] = now;
        }
        if (n_new && submit(b, ops, n_new))
            n_free = n_new = 0;
        if (n_free == outstanding)
            wait_woken(b); /* all was refused */
        size_t n = n_free == outstanding ? b->s->ops->reap(b->s, 0, dones, outstanding)
                                         : reap(b, dones, outstanding);
        now = now_s(CLOCK_MONOTONIC);
        for (size_t i = 0; i < n; i++) {
            p.took[p.n++ % SAMPLES_MAX] = (float)(now - began[dones[i].cookie]);
            p.per_second[(size_t)(now - start) % SECONDS_MAX]++;
            free_slots[n_free++] = dones[i].cookie;
        }
    }
    b->s->ops->stats(b->s, 0, &after);
    cpu = now_s(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    bytes = device_bytes(b) - bytes;
    for (size_t left = outstanding - n_free; left;)
        left -= reap(b, dones, left);
    print_puts(&p, outstanding, now - start, cpu, after.n_syncs - before.n_syncs, bytes);
    free(p.took);
}

static long major_faults(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return u.ru_majflt;
}

static void measure_gets(struct bench *b)
{
    long faults = major_faults();
    double start = now_s(CLOCK_MONOTONIC), took;
    uint64_t n = 0, sum = 0;
    char name[NAME_BYTES];

    do {
        for (unsigned i = 0; i < GETS_PER_SNAPSHOT; i++, n++) {
            struct store_op op = put_op(b, next_random(b) % b->n_keys, name);
            struct state s;
            uint64_t lsn;
            int r = b->s->ops->get(b->s, 0, op.token, &op.key, &s, &lsn);

            if (r != 0 || s.kind != STATE_LWW)
                die("get", r ? err_name(r) : "not found");
            sum += s.value.data[n % VALUE_BYTES];
        }
        b->s->ops->read_end(b->s, 0);
        took = now_s(CLOCK_MONOTONIC) - start;
    } while (took < b->seconds);
    printf("get, one thread:     %8.0f/s, %.2f us each, %ld major faults%s\n", (double)n / took,
           took / (double)n * 1e6, major_faults() - faults, sum ? "!" : "");
}

/* ---- sorted loads --------------------------------------------------------------------------- */

#define SORTED_BATCH 4096u
#define SORTED_BATCHES 100u
#define SORTED_OUT 4u
#define SORTED_VALUE_BYTES 1000u
/* All of them lie in a 1024th of the ring; of a million other keys there, one comes after 512 of
 * them. */
#define SORTED_STEP (1ull << 35)

static void fill_sorted(struct bench *b, struct store_item *items, char (*names)[NAME_BYTES],
                        uint64_t first)
{
    static const uint8_t value[SORTED_VALUE_BYTES];

    for (unsigned i = 0; i < SORTED_BATCH; i++) {
        snprintf(names[i], NAME_BYTES, "moved%012llu", (unsigned long long)(first + i));
        items[i] = (struct store_item){
            .token = (1ull << 62) + (first + i) * SORTED_STEP,
            .key = {.bucket = BUCKET_DEFAULT, .partition = slice_str(names[i])},
            .state = {.kind = STATE_LWW,
                      .version = {.hlc = ++b->hlc},
                      .value = {value, sizeof(value)}},
        };
    }
}

static void measure_sorted(struct bench *b)
{
    struct store_item *items = calloc(SORTED_BATCH, sizeof(*items));
    char(*names)[NAME_BYTES] = calloc(SORTED_BATCH, sizeof(*names));
    struct store_done dones[SORTED_OUT];
    double start = now_s(CLOCK_MONOTONIC), cpu = now_s(CLOCK_PROCESS_CPUTIME_ID);
    uint64_t bytes = device_bytes(b), n_bytes = 0;
    unsigned n_out = 0, n = 0;
    int r;

    if (!items || !names)
        die("sorted", "out of memory");
    while (n < SORTED_BATCHES || n_out) {
        while (n < SORTED_BATCHES && n_out < SORTED_OUT) {
            fill_sorted(b, items, names, (uint64_t)n * SORTED_BATCH);
            r = b->s->ops->load(b->s, 0, n, items, SORTED_BATCH);
            if (r != 0)
                die("load", err_name(r));
            n++;
            n_out++;
            n_bytes += SORTED_BATCH * (SORTED_VALUE_BYTES + strlen(names[0]));
        }
        n_out -= (unsigned)reap(b, dones, n_out);
    }
    double took = now_s(CLOCK_MONOTONIC) - start;
    printf("sorted load: %.0f MB/s of keys and values, %.0f k records/s, %.2f bytes written each, "
           "%.1f us CPU per record\n",
           (double)n_bytes / took / 1e6, SORTED_BATCHES * SORTED_BATCH / took / 1e3,
           (double)(device_bytes(b) - bytes) / (double)n_bytes,
           (now_s(CLOCK_PROCESS_CPUTIME_ID) - cpu) / (SORTED_BATCHES * SORTED_BATCH) * 1e6);
    free(names);
    free(items);
}

/* ---- the end ------------------------------------------------------------------------------- */

/* Puts until the tables have nine tenths of what they may have; or twice the keys. */
static void fill_tables(struct bench *b)
{
    struct store_op *ops = calloc(LOAD_BATCH, sizeof(*ops));
    struct store_done *dones = calloc(LOAD_BATCH, sizeof(*dones));
    char(*names)[NAME_BYTES] = calloc(LOAD_BATCH, sizeof(*names));
    uint64_t n = 0, mb_full = (STORE_LOG_TABLES_BYTES_MAX >> 20) / 10 * 9;

    if (!ops || !dones || !names)
        die("fill", "out of memory");
    while (proc_number("status", "RssAnon") / 1024 < mb_full && n < 2 * b->n_keys) {
        for (unsigned i = 0; i < LOAD_BATCH; i++)
            ops[i] = put_op(b, next_random(b) % b->n_keys, names[i]);
        while (!submit(b, ops, LOAD_BATCH)) {
            wait_woken(b);
            b->s->ops->reap(b->s, 0, dones, 1); /* nothing is outstanding: its chores */
        }
        for (unsigned left = LOAD_BATCH; left;)
            left -= (unsigned)reap(b, dones, left);
        n += LOAD_BATCH;
    }
    printf("%llu puts, %llu MB anonymous: killed\n", (unsigned long long)n,
           (unsigned long long)proc_number("status", "RssAnon") / 1024);
    fflush(stdout);
    kill(getpid(), SIGKILL);
}

static void open_store(struct bench *b)
{
    struct store_config config = {.notify = on_notify, .fatal = on_fatal, .ctx = b};
    struct store_log_options options = {.lmdb = {.dir = b->dir}};
    double start = now_s(CLOCK_MONOTONIC);
    char why[STORE_WHY_BYTES];
    int r = b->plain ? store_lmdb_open(&config, &options.lmdb, &b->s, why)
                     : store_log_open(&config, &options, &b->s, why);

    if (r != 0)
        die("open", why);
    printf("opened in %.2f s\n", now_s(CLOCK_MONOTONIC) - start);
}

static void run_all(struct bench *b, size_t only)
{
    load(b);
    for (size_t n = 1; n <= OUT_MAX; n = n == 1 ? 16 : n * 4)
        if (!only || n == only)
            measure_puts(b, n);
    measure_gets(b);
    b->s->ops->close(b->s);
    open_store(b);
    measure_gets(b);
}

static void run_start(struct bench *b)
{
    printf("%llu MB anonymous\n", (unsigned long long)proc_number("status", "RssAnon") / 1024);
    measure_gets(b);
}

static void scrub_round(struct bench *b)
{
    double start = now_s(CLOCK_MONOTONIC), cpu = now_s(CLOCK_PROCESS_CPUTIME_ID), took;
    uint64_t n_records = 0, n_bytes = 0, n_slices = 0, n_wrong = 0;
    long faults = major_faults();
    struct store_scrub out = {0};

    do {
        struct store_scrub_place at = out.next;

        if (b->s->ops->scrub(b->s, 0, &at, SCRUB_BYTES) != 0)
            die("scrub", "it is not taken");
        while (!b->s->ops->scrubbed(b->s, 0, &out))
            wait_woken(b);
        n_records += out.n_records;
        n_bytes += out.n_bytes;
        n_wrong += out.n_bad + out.remade + (out.error != 0);
        n_slices++;
    } while (out.next.zone != 0 || !store_scrub_at_zone(&out.next));
    took = now_s(CLOCK_MONOTONIC) - start;
    cpu = now_s(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    printf("scrub: %llu records in %.2f s, %llu slices, %.0f MB/s, %.2f us CPU per record, "
           "%ld faults, %llu wrong\n",
           (unsigned long long)n_records, took, (unsigned long long)n_slices,
           (double)n_bytes / took / 1e6, cpu * 1e6 / (double)(n_records ? n_records : 1),
           major_faults() - faults, (unsigned long long)n_wrong);
}

static void run_scrub(struct bench *b)
{
    load(b);
    b->s->ops->close(b->s);
    open_store(b);
    for (unsigned i = 0; i < 2; i++)
        scrub_round(b);
}

int main(int argc, char **argv)
{
    struct bench b = {.random = 88172645463325252u, .n_keys = 100000, .seconds = 3};
    const char *mode = argc > 1 ? argv[1] : "";
    bool sorted = strcmp(mode, "sorted") == 0, kills = strcmp(mode, "kill") == 0;
    bool starts = strcmp(mode, "start") == 0, scrubs = strcmp(mode, "scrub") == 0;
    size_t only = 0;

    b.plain = strcmp(mode, "plain") == 0;
    if (argc < 3 || argc > 6 ||
        !(b.plain || sorted || kills || starts || scrubs || strcmp(mode, "log") == 0))
        die("usage",
            "store_bench log|plain|sorted|kill|start|scrub DIR [KEYS [SECONDS [OUTSTANDING]]]");
    b.dir = argv[2];
    if (argc > 3)
        b.n_keys = strtoull(argv[3], NULL, 10);
    if (argc > 4)
        b.seconds = strtod(argv[4], NULL);
    if (argc > 5)
        only = strtoull(argv[5], NULL, 10);
    if (b.n_keys == 0 || !(b.seconds > 0) || b.seconds > SECONDS_MAX || only > OUT_MAX)
        die("usage", "KEYS and SECONDS are positive numbers, OUTSTANDING at most 64");
    sem_init(&b.woken, 0, 0);
    measure_sync(b.dir);
    open_store(&b);
    b.hlc = (uint64_t)(now_s(CLOCK_REALTIME) * 1e9); /* newer than what a used directory holds */
    if (sorted) {
        load(&b);
        measure_sorted(&b);
    } else if (kills) {
        load(&b);
        fill_tables(&b);
    } else if (starts) {
        run_start(&b);
    } else if (scrubs) {
        run_scrub(&b);
    } else {
        run_all(&b, only);
    }
    b.s->ops->close(b.s);
    return 0;
}
