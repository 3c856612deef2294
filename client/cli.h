/* cli: what the verbs of the command share: options made values, keys and values from the command
 * line, the handle, messages, exit codes, JSON.
 *
 * stdout carries results and nothing else; everything for people goes to stderr through report().
 */
#ifndef QUOIT_CLIENT_CLI_H
#define QUOIT_CLIENT_CLI_H

#include <jansson.h>

#include "client/opt.h"
#include "client/quoit.h"
#include "proto/slice.h"

/* The same for all verbs, no collisions. */
enum cli_exit {
    CLI_OK = 0,
    CLI_ERROR = 1,
    CLI_USAGE = 2,
    CLI_NOT_FOUND = 3,
    CLI_CONDITION = 4,   /* a condition was not met */
    CLI_UNREACHABLE = 5, /* no node, or none that serves */
    CLI_UNKNOWN = 6,     /* a read: no answer in time; a write: outcome unknown */
    CLI_DENIED = 7,
    CLI_NO_QUORUM = 8, /* refused, nothing was written */
    CLI_SAFETY = 9,
    CLI_PARTIAL = 10,
    CLI_ASSERTION = 11,
    CLI_INTERRUPTED = 130
};

enum cli_output {
    OUTPUT_DEFAULT,
    OUTPUT_RAW,
    OUTPUT_JSON,
    OUTPUT_JSONL,
    OUTPUT_TABLE
};

struct verb;

struct cli {
    const struct verb *verb;
    struct opt_values opt;
    struct quoit_config config;
    enum cli_output output;
    bool verbose, quiet;
    bool out_tty, err_tty;
};

struct verb {
    const char *name;    /* one word, or two: "admin status" */
    const char *usage;   /* arguments, behind the name */
    const char *summary; /* one line */
    const char *about;   /* paragraphs, wrapped by the author at 80 columns */
    const char *examples;
    const char *outputs;        /* formats of -o, or NULL */
    const enum opt_id *options; /* its own, ended by OPT_END */
    const enum opt_id *common;  /* common ones worth naming in its help */
    const char *exits;
    const char *see_also;
    int min_args, max_args;      /* behind the verb */
    int (*run)(struct cli *cli); /* returns enum cli_exit */
};

/* verbs.c */
const struct verb *verb_find(const char *name);
const struct verb *verb_at(size_t i); /* NULL behind the last */
const char *verb_suggest(const char *word);
bool verb_is_group(const char *word); /* the first word of verbs of two: "admin" */
void verb_help(const struct verb *verb);
int help_main(const char *topic); /* `quoit help [TOPIC]` */
/* The tables as JSON on stdout, for the scripts that write man page and completions. */
int help_dump(void);

/* The verbs, each in its file. */
int cmd_get(struct cli *cli);
int cmd_put(struct cli *cli);
int cmd_del(struct cli *cli);
int cmd_ping(struct cli *cli);
int cmd_where(struct cli *cli);
int cmd_import(struct cli *cli);
int cmd_export(struct cli *cli);
int cmd_bench(struct cli *cli);
int cmd_admin_status(struct cli *cli);

/* ---- report.c: messages ---- */

/* "quoit: ..." on stderr, wrapped at 80 columns, continued under the text. */
void report(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* A usage error: the message, how to get help; returns CLI_USAGE. */
int report_usage(const struct cli *cli, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* What became of a request that did not succeed, and what to do. Returns the exit code. `key` may
 * be empty. */
int report_result(const struct cli *cli, const char *what, struct slice key,
                  const struct quoit_result *result);
int exit_of_code(int code);

/* ---- cli.c ---- */

/* Options to fields. CLI_OK or CLI_USAGE with a message given. */
int cli_setup(struct cli *cli);
/* CLI_OK and *ret, or another code with a message given. */
int cli_connect(struct cli *cli, struct quoit **ret);
/* An option that is a number within bounds; keeps *ret when it is not given. CLI_OK, CLI_USAGE. */
int cli_number(const struct cli *cli, enum opt_id id, uint64_t min, uint64_t max, uint64_t *ret);
int cli_duration_us(const struct cli *cli, enum opt_id id, uint64_t *ret);
/* Appends the key given as an argument (hexadecimal with --hex). */
int cli_key(const struct cli *cli, const char *arg, struct buf *out);
/* Appends the value: literal, `-` standard input, `@file`. */
int cli_value(const struct cli *cli, const char *arg, bool literal, struct buf *out);
/* Flushes stdout. CLI_OK, or CLI_ERROR with a message given (none for a closed pipe). */
int cli_finish(int code);

/* Sets name, or name_b64 when the bytes are not UTF-8. */
void cli_json_bytes(json_t *object, const char *name, struct slice bytes);
void cli_json_version(json_t *object, const struct quoit_version *version);
/* Prints and drops the object: indented for json, one line for jsonl. */
int cli_json_print(const struct cli *cli, json_t *object);

#endif
