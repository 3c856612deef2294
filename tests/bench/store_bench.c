/* store_bench: puts and gets of the plain store alone, no network.
 *
 *   store_bench DIR [KEYS [SECONDS]]        (100000, 3)
 *
 * Puts: random keys, 100 byte values, so many outstanding at a time, each wave submitted as
 * outcomes come back. Gets: random keys, a snapshot per 16. Prints the time of a bare 4 KiB
 * fdatasync on the same file system first: figures of synced writes mean nothing without it. DIR is
 * made by the caller, is filled, and stays.
 */
#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "storage/store_lmdb.h"

#define VALUE_BYTES 100u
#define NAME_BYTES 32u
#define LOAD_BATCH 4096u
#define OUT_MAX 64u
#define SYNC_SAMPLES 200u
#define GETS_PER_SNAPSHOT 16u

struct bench {
    struct store *s;
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

static void submit(struct bench *b, const struct store_op *ops, size_t n)
{
    uint64_t lsn;
    int r = b->s->ops->submit(b->s, 0, ops, n, &lsn);

    if (r != 0)
        die("submit", err_name(r));
}

static size_t reap(struct bench *b, struct store_done *dones, size_t max)
{
    size_t n;

    while ((n = b->s->ops->reap(b->s, 0, dones, max)) == 0) {
        while (sem_wait(&b->woken) != 0)
            continue;
    }
    for (size_t i = 0; i < n; i++) {
        if (dones[i].error)
            die("put", err_name(dones[i].error));
    }
    return n;
}

static void load(struct bench *b)
{
    struct store_op *ops = calloc(LOAD_BATCH, sizeof(*ops));
    struct store_done *dones = calloc(LOAD_BATCH, sizeof(*dones));
    char(*names)[NAME_BYTES] = calloc(LOAD_BATCH, sizeof(*names));

    if (!ops || !dones || !names)
        die("load", "out of memory");
    for (uint64_t i = 0; i < b->n_keys;) {
        size_t n = 0;

        for (; n < LOAD_BATCH && i < b->n_keys; n++, i++)
            ops[n] = put_op(b, i, names[n]);
        submit(b, ops, n);
        while (n)
            n -= reap(b, dones, n);
    }
    free(names);
    free(dones);
    free(ops);
}

static void measure_puts(struct bench *b, size_t outstanding)
{
    struct store_op ops[OUT_MAX];
    struct store_done dones[OUT_MAX];
    char names[OUT_MAX][NAME_BYTES];
    struct store_stats before, after;
    double start = now_s(CLOCK_MONOTONIC), cpu = now_s(CLOCK_PROCESS_CPUTIME_ID), took;
    size_t n_free = outstanding, n_done = 0;

    b->s->ops->stats(b->s, 0, &before);
    do {
        for (size_t i = 0; i < n_free; i++)
            ops[i] = put_op(b, next_random(b) % b->n_keys, names[i]);
        if (n_free)
            submit(b, ops, n_free);
        n_free = reap(b, dones, outstanding);
        n_done += n_free;
        took = now_s(CLOCK_MONOTONIC) - start;
    } while (took < b->seconds);
    b->s->ops->stats(b->s, 0, &after);
    cpu = now_s(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    for (size_t left = outstanding - n_free; left;)
        left -= reap(b, dones, left);
    printf("put, %2zu outstanding: %8.0f/s, %5.1f us CPU, %4.1f puts per sync\n", outstanding,
           (double)n_done / took, cpu / (double)n_done * 1e6,
           (double)n_done / (double)(after.n_syncs - before.n_syncs));
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

int main(int argc, char **argv)
{
    struct bench b = {.random = 88172645463325252u, .n_keys = 100000, .seconds = 3};
    struct store_config config = {.notify = on_notify, .fatal = on_fatal, .ctx = &b};
    struct store_lmdb_options options = {0};
    char why[STORE_WHY_BYTES];

    if (argc < 2 || argc > 4)
        die("usage", "store_bench DIR [KEYS [SECONDS]]");
    options.dir = argv[1];
    if (argc > 2)
        b.n_keys = strtoull(argv[2], NULL, 10);
    if (argc > 3)
        b.seconds = strtod(argv[3], NULL);
    if (b.n_keys == 0 || !(b.seconds > 0))
        die("usage", "KEYS and SECONDS are positive numbers");
    sem_init(&b.woken, 0, 0);
    measure_sync(argv[1]);
    if (store_lmdb_open(&config, &options, &b.s, why) != 0)
        die("open", why);
    b.hlc = (uint64_t)(now_s(CLOCK_REALTIME) * 1e9); /* newer than what a used directory holds */
    load(&b);
    for (size_t n = 1; n <= OUT_MAX; n = n == 1 ? 16 : n * 4)
        measure_puts(&b, n);
    measure_gets(&b);
    b.s->ops->close(b.s);
    return 0;
}
