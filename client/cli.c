/* cli: see cli.h. */
#include "client/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "client/text.h"

/* ---- options ----------------------------------------------------------------------------- */

/* `name` is an item of "a|b|c". */
static bool has_item(const char *items, const char *name)
{
    size_t len = strlen(name), n;

    for (; *items; items += n + (items[n] == '|')) {
        n = strcspn(items, "|");
        if (n == len && memcmp(items, name, n) == 0)
            return true;
    }
    return false;
}

static int set_output(struct cli *cli, const char *name)
{
    static const char *const names[] = {"", "raw", "json", "jsonl", "table"};
    size_t i;

    for (i = 1; i < sizeof(names) / sizeof(names[0]); i++) {
        if (!strcmp(name, names[i])) {
            cli->output = (enum cli_output)i;
            break;
        }
    }
    if (cli->output == OUTPUT_DEFAULT)
        return report_usage(cli, "-o %s: not a format; there are raw, json, jsonl, table", name);
    if (!cli->verb->outputs || has_item(cli->verb->outputs, name))
        return CLI_OK;
    if (!cli->opt.from_env[OPT_OUTPUT])
        return report_usage(cli, "%s has no format %s; it has %s", cli->verb->name, name,
                            cli->verb->outputs);
    cli->output = OUTPUT_DEFAULT; /* the environment speaks to all verbs, whatever they have */
    return CLI_OK;
}

static int set_level(struct cli *cli, const char *name)
{
    if (!strcmp(name, "one"))
        cli->config.level = QUOIT_ONE;
    else if (!strcmp(name, "quorum"))
        cli->config.level = QUOIT_QUORUM;
    else if (!strcmp(name, "all"))
        cli->config.level = QUOIT_ALL;
    else
        return report_usage(cli, "--consistency %s: it is one, quorum or all", name);
    return CLI_OK;
}

int cli_setup(struct cli *cli)
{
    const char *const *of = cli->opt.of;
    uint64_t us = 0;
    int r = CLI_OK;

    quoit_config_init(&cli->config);
    cli->config.client = "quoit " QUOIT_VERSION;
    if (of[OPT_ENDPOINTS])
        cli->config.endpoints = of[OPT_ENDPOINTS];
    cli->config.direct = of[OPT_DIRECT] != NULL;
    cli->verbose = of[OPT_VERBOSE] != NULL;
    cli->quiet = of[OPT_QUIET] != NULL;
    cli->out_tty = isatty(STDOUT_FILENO);
    cli->err_tty = isatty(STDERR_FILENO);
    if (of[OPT_OUTPUT])
        r = set_output(cli, of[OPT_OUTPUT]);
    if (r == CLI_OK && of[OPT_CONSISTENCY])
        r = set_level(cli, of[OPT_CONSISTENCY]);
    if (r != CLI_OK || !of[OPT_TIMEOUT])
        return r;
    if (text_duration_us(of[OPT_TIMEOUT], &us) < 0 || us < 1000 ||
        us > QUOIT_TIMEOUT_MS_MAX * 1000ull)
        return report_usage(cli, "--timeout %s: a time from 1ms to 60s, like 5s or 250ms",
                            of[OPT_TIMEOUT]);
    cli->config.timeout_ms = (uint32_t)(us / 1000);
    return CLI_OK;
}

int cli_connect(struct cli *cli, struct quoit **ret)
{
    int r = quoit_new(&cli->config, ret);

    if (r == -QUOIT_ERR_CONFIG)
        return report_usage(cli,
                            "--endpoints %s: not a list of HOST:PORT,... ([::1]:7400 for IPv6)",
                            cli->config.endpoints);
    if (r < 0) {
        report("%s", quoit_error_text(r));
        return CLI_ERROR;
    }
    return CLI_OK;
}

int cli_number(const struct cli *cli, enum opt_id id, uint64_t min, uint64_t max, uint64_t *ret)
{
    uint64_t value;

    if (!cli->opt.of[id])
        return CLI_OK;
    if (text_size(cli->opt.of[id], &value) < 0 || value < min || value > max)
        return report_usage(cli, "--%s %s: a number from %" PRIu64 " to %" PRIu64,
                            opt_find(id)->name, cli->opt.of[id], min, max);
    *ret = value;
    return CLI_OK;
}

int cli_duration_us(const struct cli *cli, enum opt_id id, uint64_t *ret)
{
    if (!cli->opt.of[id])
        return CLI_OK;
    if (text_duration_us(cli->opt.of[id], ret) < 0)
        return report_usage(cli, "--%s %s: a time like 5s, 250ms or 1m", opt_find(id)->name,
                            cli->opt.of[id]);
    return CLI_OK;
}

/* ---- keys and values --------------------------------------------------------------------- */

int cli_key(const struct cli *cli, const char *arg, struct buf *out)
{
    if (!cli->opt.of[OPT_HEX]) {
        buf_append(out, arg, strlen(arg));
    } else if (text_hex_decode(slice_str(arg), out) < 0) {
        return report_usage(cli, "--hex %s: pairs of hexadecimal digits, like 00ff10", arg);
    }
    return CLI_OK;
}

static void report_too_large(const char *name, const struct stat *st)
{
    char size[32];

    if (!S_ISREG(st->st_mode)) {
        report("put: %s has more than 8 MiB, the limit of a value. Split it.", name);
        return;
    }
    text_show_bytes((uint64_t)st->st_size, size, sizeof(size));
    report("put %s: value is %s, the limit is 8 MiB. Split it.", name, size);
}

static int read_all(int fd, const char *name, struct buf *out)
{
    struct stat st = {0};
    ssize_t n;

    if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) {
        report("%s: is a directory", name);
        return CLI_ERROR;
    }
    for (;;) {
        if (buf_reserve(out, 64u << 10) < 0) {
            report("%s: out of memory", name);
            return CLI_ERROR;
        }
        n = read(fd, out->data + out->len, out->cap - out->len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            report("%s: %s", name, strerror(errno));
            return CLI_ERROR;
        }
        if (n == 0)
            return CLI_OK;
        out->len += (size_t)n;
        if (out->len > QUOIT_VALUE_BYTES_MAX) {
            report_too_large(name, &st);
            return CLI_ERROR;
        }
    }
}

int cli_value(const struct cli *cli, const char *arg, bool literal, struct buf *out)
{
    int fd, r;

    (void)cli;
    if (literal || (arg[0] != '@' && strcmp(arg, "-") != 0))
        return buf_append(out, arg, strlen(arg)) < 0 ? CLI_ERROR : CLI_OK;
    if (arg[0] == '-')
        return read_all(STDIN_FILENO, "standard input", out);
    fd = open(arg + 1, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        report("%s: %s. A value that starts with @ itself: --value '%s'", arg + 1, strerror(errno),
               arg);
        return CLI_ERROR;
    }
    r = read_all(fd, arg + 1, out);
    close(fd);
    return r;
}

int cli_finish(int code)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return code;
    if (errno != EPIPE)
        report("cannot write to standard output: %s", strerror(errno));
    return code == CLI_OK ? CLI_ERROR : code;
}

/* ---- JSON -------------------------------------------------------------------------------- */

void cli_json_bytes(json_t *object, const char *name, struct slice bytes)
{
    const char *data = bytes.len ? (const char *)bytes.data : "";
    char name_b64[64];
    struct buf b64;

    if (text_is_utf8(bytes)) {
        json_object_set_new(object, name, json_stringn(data, bytes.len));
        return;
    }
    buf_init(&b64);
    if (text_base64_encode(bytes, &b64) == 0) {
        snprintf(name_b64, sizeof(name_b64), "%s_b64", name);
        json_object_set_new(object, name_b64, json_stringn((char *)b64.data, b64.len));
    }
    buf_deinit(&b64);
}

void cli_json_version(json_t *object, const struct quoit_version *version)
{
    char text[64];
    struct tm tm;
    time_t seconds = (time_t)((version->hlc >> 16) / 1000);

    if (version->hlc == 0 && version->actor == 0)
        return;
    snprintf(text, sizeof(text), "%016" PRIx64 "-%016" PRIx64, version->hlc, version->actor);
    json_object_set_new(object, "version", json_string(text));
    if (!gmtime_r(&seconds, &tm))
        return;
    snprintf(text, sizeof(text), "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", tm.tm_year + 1900,
             tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
             (int)((version->hlc >> 16) % 1000));
    json_object_set_new(object, "written", json_string(text));
}

int cli_json_print(const struct cli *cli, json_t *object)
{
    size_t flags = JSON_REAL_PRECISION(9);
    int r = -1;

    flags |= cli->output == OUTPUT_JSONL ? JSON_COMPACT : JSON_INDENT(2);
    if (object)
        r = json_dumpf(object, stdout, flags);
    putchar('\n');
    json_decref(object);
    return r < 0 ? CLI_ERROR : CLI_OK;
}
