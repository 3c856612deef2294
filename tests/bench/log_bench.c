/* log_bench: the log alone, no memtable, no network.
 *
 *   log_bench DIR [SECONDS]        (3)
 *
 * One appender keeps so many records of 150 bytes outstanding: at each wake-up it puts as many into
 * one list as have become durable. Everything durable is released whenever a quarter of the log is
 * used, as the apply would. Prints the time of a bare 4 KiB fdatasync of a block that was written
 * before: figures of synced writes mean nothing without it. Bytes per put are those that the
 * process sent to the device (/proc/self/io: where pages are held in large folios that counts all
 * of a folio of which a block is written). Segments are made before the first figure. DIR is made
 * by the caller; the log stays in it.
 */
#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "storage/log.h"

#define RECORD_BYTES 150u
#define LOG_BYTES (256ull << 20)
#define SYNC_SAMPLES 500u
#define SAMPLES_MAX (4u << 20)

struct bench {
    struct log *l;
    sem_t woken;
    uint32_t *samples_us;
    size_t n_samples;
};

static void die(const char *what, const char *why)
{
    fprintf(stderr, "log_bench: %s: %s\n", what, why);
    exit(1);
}

static void on_durable(void *ctx, uint64_t lsn, const bool *touched)
{
    struct bench *b = ctx;

    sem_post(&b->woken);
}

static void on_room(void *ctx)
{
    struct bench *b = ctx;

    sem_post(&b->woken);
}

static void on_fatal(void *ctx, const char *sentence)
{
    die("fatal", sentence);
}

static int no_record(void *ctx, struct log_pos pos, uint64_t lsn, uint8_t type,
                     struct slice payload)
{
    return 0;
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint64_t written_bytes(void)
{
    unsigned long long bytes = 0;
    char line[128];
    FILE *f = fopen("/proc/self/io", "r");

    while (f && fgets(line, sizeof(line), f)) {
        if (sscanf(line, "write_bytes: %llu", &bytes) == 1)
            break;
    }
    if (f)
        fclose(f);
    return bytes;
}

static int by_value(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

/* The median. */
static uint32_t sync_us(const char *dir)
{
    static uint32_t samples[SYNC_SAMPLES];
    static const uint8_t zero[65536];
    char path[4096];
    int fd;

    snprintf(path, sizeof(path), "%s/sync", dir);
    fd = open(path, O_RDWR | O_CREAT, 0600);
    if (fd < 0 || pwrite(fd, zero, sizeof(zero), 0) < 0 || fsync(fd) != 0)
        die(path, strerror(errno));
    for (unsigned i = 0; i < SYNC_SAMPLES; i++) {
        double began = now();

        if (pwrite(fd, zero, 4096, (off_t)(i % 16 * 4096)) < 0 || fdatasync(fd) != 0)
            die(path, strerror(errno));
        samples[i] = (uint32_t)((now() - began) * 1e6);
    }
    close(fd);
    unlink(path);
    qsort(samples, SYNC_SAMPLES, sizeof(*samples), by_value);
    return samples[SYNC_SAMPLES / 2];
}

/* n records in one list; waits for room. Returns the last LSN. */
static uint64_t put(struct bench *b, size_t n)
{
    static const uint8_t payload[RECORD_BYTES];
    struct slice piece = slice_of(payload, sizeof(payload));
    struct log_list *list = log_list_new(b->l);

    if (!list)
        die("list", "no memory");
    for (size_t i = 0; i < n; i++) {
        if (log_list_add(list, 1, &piece, 1, NULL) < 0)
            die("list", "no memory");
    }
    while (log_admit(b->l, list, log_list_bytes(list), false) < 0)
        sem_wait(&b->woken);
    return log_append(b->l, list, 0, n) + n - 1;
}

static void release_some(struct bench *b)
{
    if (log_used_bytes(b->l) > LOG_BYTES / 4)
        log_release(b->l, log_seq_of(b->l, log_durable(b->l)));
}

static void measure(struct bench *b, size_t n_out, double seconds, bool quiet)
{
    uint64_t first = log_durable(b->l), durable = first, last = first, bytes = written_bytes();
    uint64_t syncs = log_n_syncs(b->l), n;
    double began = now(), wave = began, t = began;

    b->n_samples = 0;
    last = put(b, n_out);
    while (t - began < seconds) {
        uint64_t d;

        sem_wait(&b->woken);
        d = log_durable(b->l);
        if (d == durable)
            continue;
        t = now();
        if (b->n_samples < SAMPLES_MAX)
            b->samples_us[b->n_samples++] = (uint32_t)((t - wave) * 1e6);
        wave = t;
        if (!quiet)
            release_some(b);
        last = put(b, (size_t)(d - durable));
        durable = d;
    }
    while (log_durable(b->l) < last)
        sem_wait(&b->woken);
    t = now() - began;
    if (quiet)
        return;
    n = last - first;
    bytes = written_bytes() - bytes;
    syncs = log_n_syncs(b->l) - syncs;
    qsort(b->samples_us, b->n_samples, sizeof(*b->samples_us), by_value);
    printf(
        "%4zu outstanding %10.0f puts/s %8.0f syncs/s, group p50 %5u p99 %5u us %8.0f bytes/put\n",
        n_out, (double)n / t, (double)syncs / t, b->samples_us[b->n_samples / 2],
        b->samples_us[b->n_samples * 99 / 100], (double)bytes / (double)n);
}

int main(int argc, char **argv)
{
    static struct bench b;
    double seconds = argc > 2 ? atof(argv[2]) : 3;
    struct log_options options = {.bytes_max = LOG_BYTES,
                                  .n_queues = 1,
                                  .on_durable = on_durable,
                                  .on_room = on_room,
                                  .on_fatal = on_fatal,
                                  .ctx = &b};
    struct log_replay replay = {.record = no_record};
    char why[LOG_WHY_BYTES];
    uint64_t id;

    if (argc < 2 || seconds <= 0)
        die("usage", "log_bench DIR [SECONDS]");
    options.dir = argv[1];
    b.samples_us = malloc(SAMPLES_MAX * sizeof(*b.samples_us));
    if (!b.samples_us || sem_init(&b.woken, 0, 0) != 0)
        die("begin", "no memory");
    printf("4 KiB fdatasync %u us\n", sync_us(argv[1]));
    if (log_open(&options, &replay, &b.l, &id, why) < 0)
        die("open", why);
    if (log_start(b.l) < 0)
        die("start", "no threads");
    while (log_used_bytes(b.l) < LOG_BYTES / 4)
        measure(&b, 16, 0.1, true);
    measure(&b, 1, seconds, false);
    measure(&b, 16, seconds, false);
    measure(&b, 64, seconds, false);
    measure(&b, 1024, seconds, false);
    log_stop(b.l);
    log_free(b.l);
    free(b.samples_us);
    return 0;
}
