/* cmd_import: lines from a file into the store, many under way at once.
 *
 *   read a chunk -> cut into lines -> parse -> put (asynchronous) -> count
 *
 * Bounded everywhere: the chunk buffer by the longest line, the requests by --in-flight and the
 * library's bytes, the messages by --max-errors. While the input has nothing, answers are read;
 * while all slots are taken, the input waits. Two lines of one key are never under way together:
 * the later one is held back, and the input behind it, so that the last line wins. Puts may repeat
 * after a loss: the same line again is the same record again.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/cli.h"
#include "client/histogram.h"
#include "client/lines.h"
#include "client/progress.h"
#include "client/text.h"
#include "proto/err.h"

#define IMPORT_CHUNK_BYTES (256u << 10)
/* JSON may spend six characters on a byte of value; beyond this a line cannot be a record. */
#define IMPORT_LINE_BYTES_MAX (6u * QUOIT_VALUE_BYTES_MAX + (64u << 10))
#define IMPORT_IN_FLIGHT_DEFAULT 512u
#define IMPORT_IN_FLIGHT_MAX 65536u
#define IMPORT_ERRORS_DEFAULT 20u
#define IMPORT_ERROR_BYTES 120
#define IMPORT_COLUMNS 80

struct import;

struct flight {
    struct import *import;
    struct flight *next; /* free, or under way with a hash of the same bucket */
    uint64_t line, start_ns, hash;
    size_t bytes;
};

struct import_error {
    uint64_t line;
    char text[IMPORT_ERROR_BYTES];
};

struct import {
    struct cli *cli;
    struct quoit *q;
    int fd;
    uint64_t file_bytes; /* 0: not known */
    struct buf in, scratch;
    size_t in_at;
    bool skipping; /* the rest of a line that is too long */
    uint64_t bytes_read, lines, stored, stored_bytes, failed;
    struct flight *flights, *free;
    struct flight **buckets; /* those under way, by the hash of their key */
    uint64_t n_buckets;      /* a power of two */
    uint64_t in_flight, max_errors;
    struct import_error *errors;
    uint64_t n_errors;
    struct histogram *latency; /* nanoseconds */
    bool stop;                 /* no node is left to talk to */
    uint64_t start_ns;
    struct progress progress;
};

static void add_error(struct import *im, uint64_t line, const char *text)
{
    struct import_error *e;

    im->failed++;
    if (im->n_errors == im->max_errors)
        return;
    e = &im->errors[im->n_errors++];
    e->line = line;
    text_show(slice_str(text), e->text, sizeof(e->text));
}

static void add_limit_error(struct import *im, uint64_t line, int code, const struct line_record *r)
{
    char text[IMPORT_ERROR_BYTES], size[32];

    if (code == -QUOIT_ERR_KEY_TOO_LARGE) {
        snprintf(text, sizeof(text), "key is %zu bytes, limit %u", r->key.len + r->sort_key.len,
                 QUOIT_KEY_BYTES_MAX);
    } else if (code == -QUOIT_ERR_VALUE_TOO_LARGE) {
        text_show_bytes(r->value.len, size, sizeof(size));
        snprintf(text, sizeof(text), "value is %s, limit 8 MiB", size);
    } else {
        snprintf(text, sizeof(text), "%s", quoit_error_text(code));
    }
    add_error(im, line, text);
}

/* ---- requests ---------------------------------------------------------------------------- */

/* FNV-1a over key and sort key. Equal hashes of different keys only cost a wait. */
static uint64_t hash_key(const struct line_record *r)
{
    uint64_t h = 0xcbf29ce484222325ull;
    size_t i;

    for (i = 0; i < r->key.len; i++)
        h = (h ^ r->key.data[i]) * 0x100000001b3ull;
    h = (h ^ r->key.len) * 0x100000001b3ull;
    for (i = 0; i < r->sort_key.len; i++)
        h = (h ^ r->sort_key.data[i]) * 0x100000001b3ull;
    return h ^ h >> 32;
}

static struct flight **bucket_of(struct import *im, uint64_t hash)
{
    return &im->buckets[hash & (im->n_buckets - 1)];
}

static bool key_under_way(struct import *im, uint64_t hash)
{
    const struct flight *f;

    for (f = *bucket_of(im, hash); f; f = f->next) {
        if (f->hash == hash)
            return true;
    }
    return false;
}

static void flight_take(struct import *im, struct flight *f)
{
    struct flight **bucket = bucket_of(im, f->hash);

    im->free = f->next;
    f->next = *bucket;
    *bucket = f;
}

static void flight_give(struct import *im, struct flight *f)
{
    struct flight **at = bucket_of(im, f->hash);

    while (*at != f)
        at = &(*at)->next;
    *at = f->next;
    f->next = im->free;
    im->free = f;
}

static void on_stored(struct quoit *q, const struct quoit_result *r, void *ctx)
{
    struct flight *f = ctx;
    struct import *im = f->import;

    (void)q;
    if (r->code == 0) {
        im->stored++;
        im->stored_bytes += f->bytes;
        histogram_add(im->latency, clock_ns() - f->start_ns);
    } else {
        add_error(im, f->line, r->text);
        im->stop |= r->code == -QUOIT_ERR_UNREACHABLE;
    }
    flight_give(im, f);
}

static void put_record(struct import *im, const struct line_record *record)
{
    struct quoit_options options = {.flags = QUOIT_REPEAT,
                                    .sort_key = record->sort_key.data,
                                    .sort_key_len = record->sort_key.len};
    uint64_t hash = hash_key(record);
    struct flight *f;
    int r;

    while (!im->free || key_under_way(im, hash))
        quoit_poll(im->q, -1);
    for (;;) {
        f = im->free;
        f->line = im->lines;
        f->hash = hash;
        f->bytes = record->key.len + record->sort_key.len + record->value.len;
        f->start_ns = clock_ns();
        r = quoit_put_async(im->q, record->key.data, record->key.len, record->value.data,
                            record->value.len, &options, on_stored, f);
        if (r != -QUOIT_ERR_FULL)
            break;
        quoit_poll(im->q, -1); /* callbacks give slots back: another may be the first free one */
    }
    if (r < 0)
        add_limit_error(im, im->lines, r, record);
    else
        flight_take(im, f);
}

/* ---- input ------------------------------------------------------------------------------- */

static void take_line(struct import *im, struct slice line)
{
    struct line_record record = {0};
    const char *why = "out of memory";
    int r;

    im->lines++;
    if (line.len == 0)
        return; /* an empty line is no record, and no mistake */
    r = im->cli->opt.of[OPT_JSONL] ? line_read_json(line, &im->scratch, &record, &why)
                                   : line_read_raw(line, &im->scratch, &record, &why);
    if (r < 0)
        add_error(im, im->lines, why);
    else
        put_record(im, &record);
}

static void take_lines(struct import *im)
{
    const uint8_t *newline;
    struct slice rest;

    while (!im->stop && !interrupted()) {
        rest = slice_of(im->in.data + im->in_at, im->in.len - im->in_at);
        newline = rest.len ? memchr(rest.data, '\n', rest.len) : NULL;
        if (!newline)
            break;
        im->in_at += (size_t)(newline - rest.data) + 1;
        if (!im->skipping)
            take_line(im, slice_of(rest.data, (size_t)(newline - rest.data)));
        im->skipping = false;
    }
    buf_consume(&im->in, im->in_at);
    im->in_at = 0;
    if (im->in.len > IMPORT_LINE_BYTES_MAX) {
        if (!im->skipping)
            add_error(im, ++im->lines, "longer than any record");
        im->skipping = true;
        im->in.len = 0;
    }
}

/* Waits for input, reading answers meanwhile. False on an interrupt. */
static bool wait_input(struct import *im)
{
    struct pollfd fds[2] = {{.fd = im->fd, .events = POLLIN},
                            {.fd = quoit_fd(im->q), .events = POLLIN}};

    for (;;) {
        quoit_poll(im->q, 0);
        if (interrupted() || im->stop)
            return false;
        if (poll(fds, 2, quoit_wait_ms(im->q)) < 0 && errno != EINTR)
            return true;
        if (fds[0].revents)
            return true;
    }
}

/* 1 something was read, 0 the end, negative: failed, with a message given. */
static int read_chunk(struct import *im)
{
    ssize_t n;

    if (buf_reserve(&im->in, IMPORT_CHUNK_BYTES) < 0) {
        report("import: out of memory");
        return -1;
    }
    if (im->file_bytes == 0 && !wait_input(im))
        return 0;
    n = read(im->fd, im->in.data + im->in.len, im->in.cap - im->in.len);
    if (n < 0 && errno == EINTR)
        return interrupted() ? 0 : 1;
    if (n < 0) {
        report("import: cannot read: %s", strerror(errno));
        return -1;
    }
    im->in.len += (size_t)n;
    im->bytes_read += (uint64_t)n;
    return n > 0;
}

static int read_all(struct import *im)
{
    double seconds;
    int r;

    while ((r = read_chunk(im)) == 1) {
        take_lines(im);
        if (im->stop || interrupted())
            break;
        seconds = (double)(clock_ns() - im->start_ns) / 1e9;
        progress_show(&im->progress,
                      im->file_bytes ? (double)im->bytes_read / (double)im->file_bytes : -1.0,
                      im->stored, seconds > 0 ? (double)im->stored / seconds : 0);
    }
    if (r == 0 && im->in.len > 0 && !im->skipping && !im->stop && !interrupted())
        take_line(im, buf_slice(&im->in)); /* the last line need not end in a newline */
    while (quoit_pending(im->q) > 0)
        quoit_poll(im->q, -1);
    progress_clear(&im->progress);
    return r < 0 ? CLI_ERROR : CLI_OK;
}

/* ---- summary ----------------------------------------------------------------------------- */

/* Items like "line 17: no TAB", as many to a line as fit. */
static void report_items(const struct import *im)
{
    size_t column = 0, i;
    char item[IMPORT_ERROR_BYTES + 64], line[32];
    int n;

    for (i = 0; i < im->n_errors; i++) {
        text_show_count(im->errors[i].line, line, sizeof(line));
        n = snprintf(item, sizeof(item), "line %s: %s%s", line, im->errors[i].text,
                     i + 1 < im->n_errors ? ";" : "");
        if (column == 0 || column + 2 + (size_t)n > IMPORT_COLUMNS) {
            fprintf(stderr, "%s       ", column ? "\n" : "");
            column = 7;
        } else {
            fputs("  ", stderr);
            column += 2;
        }
        fputs(item, stderr);
        column += (size_t)n;
    }
    if (im->failed > im->n_errors)
        fprintf(stderr, "%sand %" PRIu64 " more", column ? ";  " : "       ",
                im->failed - im->n_errors);
    fputs(".\n", stderr);
}

static void report_errors(const struct import *im)
{
    char stored[32], all[32], failed[32];

    text_show_count(im->stored, stored, sizeof(stored));
    text_show_count(im->stored + im->failed, all, sizeof(all));
    text_show_count(im->failed, failed, sizeof(failed));
    report("import: %s of %s lines stored, %s refused:", stored, all, failed);
    report_items(im);
    fputs("       Correct them and run it again: importing a line twice does no harm.\n", stderr);
}

static int summary_json(const struct import *im, double seconds)
{
    json_t *o = json_object();

    json_object_set_new(o, "records", json_integer((json_int_t)im->stored));
    json_object_set_new(o, "bytes", json_integer((json_int_t)im->stored_bytes));
    json_object_set_new(o, "seconds", json_real(seconds));
    json_object_set_new(o, "ops_per_s", json_real((double)im->stored / seconds));
    json_object_set_new(o, "errors", json_integer((json_int_t)im->failed));
    json_object_set_new(o, "p50_us", json_real((double)histogram_quantile(im->latency, 0.5) / 1e3));
    json_object_set_new(o, "p99_us",
                        json_real((double)histogram_quantile(im->latency, 0.99) / 1e3));
    json_object_set_new(o, "max_us", json_real((double)im->latency->max / 1e3));
    return cli_json_print(im->cli, o);
}

static void summary_line(const struct import *im, double seconds)
{
    char count[32], rate[32], p50[32], p99[32];

    text_show_count(im->stored, count, sizeof(count));
    text_show_count((uint64_t)((double)im->stored / seconds), rate, sizeof(rate));
    text_show_us(histogram_quantile(im->latency, 0.5) / 1000, p50, sizeof(p50));
    text_show_us(histogram_quantile(im->latency, 0.99) / 1000, p99, sizeof(p99));
    report("import: %s records, %.1f MB in %.1f s\n%s/s, p50 %s, p99 %s", count,
           (double)im->stored_bytes / 1e6, seconds, rate, p50, p99);
}

static int summary(const struct import *im)
{
    double seconds = (double)(clock_ns() - im->start_ns) / 1e9;

    if (im->cli->output == OUTPUT_JSON || im->cli->output == OUTPUT_JSONL)
        summary_json(im, seconds);
    if (!im->cli->quiet)
        summary_line(im, seconds);
    if (im->failed > 0)
        report_errors(im);
    if (im->stop)
        report("import stopped at line %" PRIu64 ": no node answers", im->lines);
    if (interrupted()) {
        report("interrupted at line %" PRIu64 ". Run it again: importing a line twice does no "
               "harm.",
               im->lines);
        return CLI_INTERRUPTED;
    }
    if (im->failed == 0)
        return CLI_OK;
    return im->stored > 0 ? CLI_PARTIAL : im->stop ? CLI_UNREACHABLE : CLI_ERROR;
}

/* ---- set-up ------------------------------------------------------------------------------ */

static int open_input(struct import *im, const char *arg)
{
    struct stat st;

    if (!strcmp(arg, "-")) {
        im->fd = STDIN_FILENO;
    } else if (arg[0] == '@') {
        im->fd = open(arg + 1, O_RDONLY | O_CLOEXEC);
        if (im->fd < 0) {
            report("import: %s: %s", arg + 1, strerror(errno));
            return CLI_ERROR;
        }
    } else {
        return report_usage(im->cli, "import takes @FILE or `-`; did you mean @%s?", arg);
    }
    if (fstat(im->fd, &st) == 0 && S_ISREG(st.st_mode))
        im->file_bytes = (uint64_t)st.st_size;
    return CLI_OK;
}

static int make_room(struct import *im)
{
    uint64_t i;

    im->flights = calloc(im->in_flight, sizeof(*im->flights));
    for (im->n_buckets = 1; im->n_buckets < im->in_flight;)
        im->n_buckets *= 2;
    im->buckets = calloc(im->n_buckets, sizeof(struct flight *));
    im->errors = calloc(im->max_errors + 1, sizeof(*im->errors));
    im->latency = calloc(1, sizeof(*im->latency));
    if (!im->flights || !im->buckets || !im->errors || !im->latency) {
        report("import: out of memory");
        return CLI_ERROR;
    }
    for (i = 0; i < im->in_flight; i++) {
        im->flights[i].import = im;
        im->flights[i].next = im->free;
        im->free = &im->flights[i];
    }
    return CLI_OK;
}

/* Somebody is there, and we know the ring: better learnt before the first line than at each. */
static int greet(struct import *im)
{
    struct quoit_options options = {.flags = QUOIT_FAIL_FAST};
    struct quoit_result r;

    if (im->cli->config.direct)
        quoit_ping(im->q, &options, &r);
    else
        quoit_ring(im->q, &options, &r);
    return r.code < 0 ? report_result(im->cli, "import", slice_of(NULL, 0), &r) : CLI_OK;
}

static int import(struct import *im)
{
    int code = make_room(im);

    if (code != CLI_OK)
        return code;
    im->cli->config.max_requests = (uint32_t)im->in_flight;
    code = cli_connect(im->cli, &im->q);
    if (code != CLI_OK)
        return code;
    code = greet(im);
    if (code == CLI_OK) {
        interrupt_catch();
        progress_init(&im->progress, im->cli, "import");
        im->start_ns = clock_ns();
        code = read_all(im);
        if (code == CLI_OK)
            code = summary(im);
        else
            summary(im);
    }
    quoit_free(im->q);
    return code;
}

int cmd_import(struct cli *cli)
{
    struct import im = {.cli = cli,
                        .fd = -1,
                        .in_flight = IMPORT_IN_FLIGHT_DEFAULT,
                        .max_errors = IMPORT_ERRORS_DEFAULT};
    int code = cli_number(cli, OPT_IN_FLIGHT, 1, IMPORT_IN_FLIGHT_MAX, &im.in_flight);

    if (code == CLI_OK)
        code = cli_number(cli, OPT_MAX_ERRORS, 0, 10000, &im.max_errors);
    if (code == CLI_OK)
        code = open_input(&im, cli->opt.args[1]);
    if (code == CLI_OK)
        code = import(&im);
    if (im.fd > STDIN_FILENO)
        close(im.fd);
    buf_deinit(&im.in);
    buf_deinit(&im.scratch);
    free(im.flights);
    free(im.buckets);
    free(im.errors);
    free(im.latency);
    return code;
}
