/* report: messages for people: what happened, what is true now, what to do. To stderr, at most 80
 * columns, the lines after the first indented below the text. Keys and texts of nodes are shown
 * with everything unprintable escaped: a terminal must not obey stored bytes.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "client/cli.h"
#include "client/text.h"

#define REPORT_BYTES_MAX 2048
#define REPORT_COLUMNS 80
#define REPORT_INDENT 7 /* strlen("quoit: ") */

/* Columns of a word: code points, which is right for what messages hold. */
static size_t columns(const char *word, size_t len)
{
    size_t i, n = 0;

    for (i = 0; i < len; i++)
        n += ((unsigned char)word[i] & 0xc0) != 0x80;
    return n;
}

static void print_wrapped(const char *text)
{
    size_t column = REPORT_INDENT, len, width;
    bool first = true;

    fputs("quoit: ", stderr);
    while (*text) {
        if (*text == '\n') {
            fprintf(stderr, "\n%*s", REPORT_INDENT, "");
            column = REPORT_INDENT;
            first = true;
            text++;
            continue;
        }
        len = strcspn(text, " \n");
        width = columns(text, len);
        if (!first && column + 1 + width > REPORT_COLUMNS) {
            fprintf(stderr, "\n%*s", REPORT_INDENT, "");
            column = REPORT_INDENT;
        } else if (!first) {
            fputc(' ', stderr);
            column++;
        }
        fwrite(text, 1, len, stderr);
        column += width;
        first = false;
        text += len;
        if (*text == ' ')
            text++;
    }
    fputc('\n', stderr);
}

void report(const char *format, ...)
{
    char text[REPORT_BYTES_MAX];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    print_wrapped(text);
}

int report_usage(const struct cli *cli, const char *format, ...)
{
    char text[REPORT_BYTES_MAX];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    print_wrapped(text);
    if (cli && cli->verb)
        fprintf(stderr, "       Usage: quoit %s %s      (quoit %s --help)\n", cli->verb->name,
                cli->verb->usage, cli->verb->name);
    return CLI_USAGE;
}

/* Sentences and exit codes differ for what writes. */
static bool is_write(const char *what)
{
    return !strcmp(what, "put") || !strcmp(what, "del") || !strncmp(what, "bench: loading", 14);
}

int exit_of_code(int code)
{
    switch (-code) {
    case 0:
        return CLI_OK;
    case QUOIT_ERR_UNREACHABLE:
    case QUOIT_ERR_NOT_READY:
    case QUOIT_ERR_SHUTTING_DOWN:
    case QUOIT_ERR_TOO_MANY_CONNECTIONS:
        return CLI_UNREACHABLE;
    case QUOIT_ERR_DEADLINE:
    case QUOIT_ERR_UNKNOWN_OUTCOME:
        return CLI_UNKNOWN;
    case QUOIT_ERR_NO_QUORUM:
        return CLI_NO_QUORUM;
    default:
        return code == QUOIT_NOT_FOUND ? CLI_NOT_FOUND : CLI_ERROR;
    }
}

static void report_limit(const char *head, const struct quoit_result *r)
{
    bool key = r->code == -QUOIT_ERR_KEY_TOO_LARGE;
    char limit[32], actual[32];

    text_show_bytes(r->limit, limit, sizeof(limit));
    text_show_bytes(r->actual, actual, sizeof(actual));
    report("%s: %s is %s, the limit is %s.%s", head, key ? "key" : "value", actual, limit,
           key ? "" : " Split it.");
}

static void report_unreachable(const struct cli *cli, const struct quoit_result *r)
{
    const char *why = r->text;

    report("no node answers at %s%s%s%s.\nIs quoitd running? Other address: --endpoints or "
           "QUOIT_ENDPOINTS.",
           cli->opt.of[OPT_ENDPOINTS] ? cli->opt.of[OPT_ENDPOINTS] : "127.0.0.1:7400",
           *why ? " (" : "", why, *why ? ")" : "");
}

static void report_unknown(const struct cli *cli, const char *head, const char *key,
                           const struct quoit_result *r)
{
    char why[300], look[256] = "";

    if (strcmp(r->text, "no answer in time") == 0)
        snprintf(why, sizeof(why), "no answer in %g s", cli->config.timeout_ms / 1e3);
    else
        text_show(slice_str(r->text), why, sizeof(why));
    if (*key)
        snprintf(look, sizeof(look), " (`quoit get %s`)", key);
    report("%s: %s. OUTCOME UNKNOWN: it may have been stored, or may still be. Look first%s, then "
           "decide.",
           head, why, look);
}

int report_result(const struct cli *cli, const char *what, struct slice key,
                  const struct quoit_result *r)
{
    char head[256], shown[200], text[300];

    text_show(key, shown, sizeof(shown));
    text_show(slice_str(r->text), text, sizeof(text));
    snprintf(head, sizeof(head), "%s%s%s", what, key.len ? " " : "", shown);
    switch (-r->code) {
    case QUOIT_ERR_UNREACHABLE:
        report_unreachable(cli, r);
        break;
    case QUOIT_ERR_UNKNOWN_OUTCOME:
        report_unknown(cli, head, shown, r);
        break;
    case QUOIT_ERR_DEADLINE:
        report("%s: no answer in %g s%s%s%s.", head, cli->config.timeout_ms / 1e3,
               *r->node ? " from " : "", r->node, is_write(what) ? "; nothing was written" : "");
        break;
    case QUOIT_ERR_NO_QUORUM:
        report("%s: refused%s: %s.", head, is_write(what) ? ", nothing was written" : "", text);
        break;
    case QUOIT_ERR_KEY_TOO_LARGE:
    case QUOIT_ERR_VALUE_TOO_LARGE:
        report_limit(head, r);
        break;
    case QUOIT_ERR_NO_SPACE:
        report("%s: %s%s%s. Add a node, or raise map-size there.", head, r->node,
               *r->node ? ": " : "", text);
        break;
    case QUOIT_ERR_NOT_READY:
        report("%s: %s is up and serves nothing yet: %s. Try again in a moment, or see its log.",
               head, *r->node ? r->node : "the node", text);
        break;
    default:
        report("%s: %s%s%s%s.", head, text, *r->node ? " (" : "", r->node, *r->node ? ")" : "");
    }
    if (cli->verbose)
        report("error %s, sent %u times, last to %s", quoit_error_name(r->code), r->attempts,
               *r->node ? r->node : "nobody");
    /* 6 would leave a write open */
    return r->code == -QUOIT_ERR_DEADLINE && is_write(what) ? CLI_ERROR : exit_of_code(r->code);
}
