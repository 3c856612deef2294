/* cmd_export: all records, partition after partition, page after page.
 *
 * A window of partitions is read ahead so that round trips overlap, but only the first of them
 * prints; the others keep what they got until it is their turn, each at most EXPORT_AHEAD_BYTES and
 * one page. So memory is bounded and two exports of the same data are equal, byte for byte.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/cli.h"
#include "client/lines.h"
#include "client/progress.h"
#include "client/text.h"

#define EXPORT_WINDOW 16u
#define EXPORT_AHEAD_BYTES (1u << 20)
#define EXPORT_ERRORS_SHOWN 3u
/* So many partitions in a row that could not be read, and none could: there is no point in waiting
 * for the timeout of each of the others. */
#define EXPORT_FAILURES_MAX (2 * EXPORT_WINDOW)

struct export;

struct reader {
    struct export *export;
    uint32_t partition;
    bool active, asking, done;
    struct buf cursor, ahead;
};

struct export
{
    struct cli *cli;
    struct quoit *q;
    uint32_t n_partitions, next; /* next partition without a reader */
    uint32_t first;              /* the one that prints */
    struct reader readers[EXPORT_WINDOW];
    uint64_t records, failed, failed_in_row, unprintable;
    bool broken; /* stdout does not take more */
    int code;    /* of the first failure */
    uint64_t start_ns;
    struct progress progress;
};

static struct reader *reader_of(struct export *ex, uint32_t partition)
{
    return &ex->readers[partition % EXPORT_WINDOW];
}

static void on_page(struct quoit *q, const struct quoit_result *r, void *ctx);

static void ask(struct reader *rd)
{
    struct export *ex = rd->export;
    int r = quoit_scan_async(ex->q, rd->partition, rd->cursor.data, rd->cursor.len, 0, NULL,
                             on_page, rd);

    if (r == 0) {
        rd->asking = true;
        return;
    }
    rd->done = true;
    ex->failed++;
    if (ex->code == CLI_OK)
        ex->code = exit_of_code(r);
}

static void write_out(struct export *ex, struct buf *b)
{
    if (b->len > 0 && fwrite(b->data, 1, b->len, stdout) != b->len)
        ex->broken = true;
    b->len = 0;
}

static int add_record(struct export *ex, struct buf *out, const struct quoit_record *from)
{
    struct line_record record = {.key = slice_of(from->key, from->key_len),
                                 .sort_key = slice_of(from->sort_key, from->sort_key_len),
                                 .value = slice_of(from->value, from->value_len)};

    if (ex->cli->opt.of[OPT_JSONL] || ex->cli->output == OUTPUT_JSONL ||
        ex->cli->output == OUTPUT_JSON)
        return line_write_json(&record, out);
    if (record.sort_key.len > 0) {
        ex->unprintable++;
        return 0;
    }
    return line_write_raw(&record, out);
}

static void page_failed(struct reader *rd, const struct quoit_result *r)
{
    struct export *ex = rd->export;
    char what[64];

    snprintf(what, sizeof(what), "export: partition %u", rd->partition);
    rd->done = true;
    ex->failed_in_row++;
    if (ex->failed++ < EXPORT_ERRORS_SHOWN) {
        progress_clear(&ex->progress);
        report_result(ex->cli, what, slice_of(NULL, 0), r);
    }
    if (ex->code == CLI_OK)
        ex->code = exit_of_code(r->code);
}

static void on_page(struct quoit *q, const struct quoit_result *r, void *ctx)
{
    struct reader *rd = ctx;
    size_t i;

    (void)q;
    rd->asking = false;
    if (r->code == -QUOIT_ERR_CLOSED)
        return; /* we are leaving */
    if (r->code < 0) {
        page_failed(rd, r);
        return;
    }
    for (i = 0; i < r->n_records; i++) {
        if (add_record(rd->export, &rd->ahead, &r->records[i]) < 0) {
            struct quoit_result full = {.code = -QUOIT_ERR_NO_MEMORY,
                                        .text = quoit_error_text(QUOIT_ERR_NO_MEMORY),
                                        .node = ""};

            page_failed(rd, &full);
            return;
        }
    }
    rd->export->records += r->n_records;
    rd->export->failed_in_row = 0;
    rd->cursor.len = 0;
    buf_append(&rd->cursor, r->cursor, r->cursor_len);
    rd->done = r->cursor_len == 0;
}

/* Starts readers, prints what is first, asks for more. */
static void step(struct export *ex)
{
    struct reader *rd;
    uint32_t p;

    while (ex->next < ex->n_partitions && ex->next - ex->first < EXPORT_WINDOW) {
        rd = reader_of(ex, ex->next);
        rd->partition = ex->next++;
        rd->done = rd->asking = false;
        rd->cursor.len = rd->ahead.len = 0;
    }
    while (ex->first < ex->next) {
        rd = reader_of(ex, ex->first);
        write_out(ex, &rd->ahead);
        if (!rd->done)
            break;
        ex->first++;
    }
    for (p = ex->first; p < ex->next; p++) {
        rd = reader_of(ex, p);
        if (!rd->asking && !rd->done && rd->ahead.len < EXPORT_AHEAD_BYTES)
            ask(rd);
    }
}

static int finish(struct export *ex)
{
    progress_clear(&ex->progress);
    if (interrupted())
        return CLI_INTERRUPTED;
    if (ex->unprintable > 0)
        report("export: %" PRIu64 " records have a sort key and were left out; --jsonl has them",
               ex->unprintable);
    if (ex->failed_in_row >= EXPORT_FAILURES_MAX)
        report("export: INCOMPLETE: given up after %u of %u partitions", ex->first,
               ex->n_partitions);
    else if (ex->failed > 0)
        report("export: INCOMPLETE: %" PRIu64 " of %u partitions could not be read to their end",
               ex->failed, ex->n_partitions);
    if (ex->failed == 0 && ex->unprintable == 0)
        return CLI_OK;
    return ex->records > 0 ? CLI_PARTIAL : ex->code;
}

static int export_all(struct export *ex)
{
    double seconds;

    ex->start_ns = clock_ns();
    while (ex->first < ex->n_partitions && !ex->broken && !interrupted() &&
           ex->failed_in_row < EXPORT_FAILURES_MAX) {
        step(ex);
        if (quoit_pending(ex->q) > 0)
            quoit_poll(ex->q, -1);
        seconds = (double)(clock_ns() - ex->start_ns) / 1e9;
        progress_show(&ex->progress, (double)ex->first / ex->n_partitions, ex->records,
                      seconds > 0 ? (double)ex->records / seconds : 0);
    }
    return finish(ex);
}

int cmd_export(struct cli *cli)
{
    struct quoit_options options = {.flags = QUOIT_FAIL_FAST};
    struct export ex = {.cli = cli};
    struct quoit_result r;
    int code = cli_connect(cli, &ex.q);
    uint32_t i;

    if (code != CLI_OK)
        return code;
    if (quoit_ring(ex.q, &options, &r) < 0) {
        code = report_result(cli, "export", slice_of(NULL, 0), &r);
    } else {
        ex.n_partitions = r.n_partitions;
        for (i = 0; i < EXPORT_WINDOW; i++)
            ex.readers[i].export = &ex;
        interrupt_catch();
        progress_init(&ex.progress, cli, "export");
        ex.progress.shown &= !cli->out_tty; /* the records are to be seen then */
        code = export_all(&ex);
    }
    quoit_free(ex.q); /* runs the callbacks of what is under way */
    for (i = 0; i < EXPORT_WINDOW; i++) {
        buf_deinit(&ex.readers[i].cursor);
        buf_deinit(&ex.readers[i].ahead);
    }
    return code;
}
