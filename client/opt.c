/* opt: see opt.h. */
#include "client/opt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct opt options[] = {
    {OPT_ENDPOINTS, 'e', "endpoints", "HOST:PORT,...", "QUOIT_ENDPOINTS",
     "any nodes [127.0.0.1:7400]"},
    {OPT_TIMEOUT, 't', "timeout", "5s", "QUOIT_TIMEOUT", "give up after this long [5s]"},
    {OPT_CONSISTENCY, 'c', "consistency", "one|quorum|all", "QUOIT_CONSISTENCY",
     "replicas that must answer [quorum]"},
    {OPT_OUTPUT, 'o', "output", "FORMAT", "QUOIT_OUTPUT", "raw, json, jsonl or table"},
    {OPT_DIRECT, 0, "direct", NULL, "QUOIT_DIRECT", "use exactly the endpoints given"},
    {OPT_VERBOSE, 'v', "verbose", NULL, "QUOIT_VERBOSE", "say on stderr what was done"},
    {OPT_QUIET, 'q', "quiet", NULL, "QUOIT_QUIET", "no progress, no notes; errors only"},
    {OPT_HELP, 'h', "help", NULL, NULL, "explain the verb"},
    {OPT_VERSION, 0, "version", NULL, NULL, "print the version"},
    {OPT_HEX, 0, "hex", NULL, NULL, "KEY is hexadecimal"},
    {OPT_HEX_VALUE, 0, "hex-value", NULL, NULL, "VALUE is hexadecimal: no @ and no -"},
    {OPT_VALUE, 0, "value", "BYTES", NULL, "the value, literally: no @ and no -"},
    {OPT_REPEAT, 0, "repeat", NULL, NULL, "after a loss send again, maybe twice"},
    {OPT_JSONL, 0, "jsonl", NULL, NULL, "JSON lines instead of key<TAB>value"},
    {OPT_IN_FLIGHT, 0, "in-flight", "N", NULL, "requests under way at once [512]"},
    {OPT_MAX_ERRORS, 0, "max-errors", "N", NULL, "bad lines to name on stderr [20]"},
    {OPT_MIX, 0, "mix", "a|b|c|d|f", NULL, "YCSB workload"},
    {OPT_READS, 0, "reads", "PERCENT", NULL, "reads, the rest are puts [50]"},
    {OPT_KEYS, 0, "keys", "N", NULL, "keys, loaded first [100000]"},
    {OPT_VALUE_SIZE, 0, "value-size", "BYTES", NULL, "of each value [100]"},
    {OPT_CLIENTS, 0, "clients", "N", NULL, "connections to each node [50]"},
    {OPT_DEPTH, 0, "depth", "N", NULL, "requests under way per client [1]"},
    {OPT_DISTRIBUTION, 0, "distribution", "uniform|zipf|latest", NULL,
     "which keys [uniform, or the mix's]"},
    {OPT_RATE, 0, "rate", "OPS", NULL, "open loop: operations per second to start"},
    {OPT_DURATION, 0, "duration", "5s", NULL, "how long to measure [5s]"},
    {OPT_WARMUP, 0, "warmup", "1s", NULL, "how long to run before [1s]"},
    {OPT_THREADS, 0, "threads", "N", NULL, "threads to spread the clients over [1]"},
    {OPT_SEED, 0, "seed", "N", NULL, "of the random choices [1]"},
    {OPT_PREFIX, 0, "prefix", "TEXT", NULL, "of the keys it writes [bench:]"},
    {OPT_NO_LOAD, 0, "no-load", NULL, NULL, "the keys are there from a run before"},
    {OPT_ASSERT, 0, "assert", "'p99_us<5000,...'", NULL, "exit 11 unless all hold"},
    {OPT_CHECK, 0, "check", NULL, NULL, "exit 11 unless it is HEALTHY, for monitors"},
    {OPT_VNODES, 0, "vnodes", NULL, NULL, "with -o json: who holds each partition"},
};

#define N_OPTIONS (sizeof(options) / sizeof(options[0]))

const struct opt *opt_find(enum opt_id id)
{
    size_t i;

    for (i = 0; i < N_OPTIONS; i++) {
        if (options[i].id == id)
            return &options[i];
    }
    return NULL;
}

/* ---- did you mean ------------------------------------------------------------------------ */

#define WORD_MAX 32

/* Edits (insert, drop, replace, swap neighbours) between two short words. */
static size_t edits(const char *a, const char *b)
{
    size_t d[WORD_MAX + 1][WORD_MAX + 1], n = strlen(a), m = strlen(b), i, j, best;

    if (n > WORD_MAX || m > WORD_MAX)
        return WORD_MAX;
    for (i = 0; i <= n; i++)
        d[i][0] = i;
    for (j = 0; j <= m; j++)
        d[0][j] = j;
    for (i = 1; i <= n; i++) {
        for (j = 1; j <= m; j++) {
            best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            if (d[i - 1][j] + 1 < best)
                best = d[i - 1][j] + 1;
            if (d[i][j - 1] + 1 < best)
                best = d[i][j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                d[i - 2][j - 2] + 1 < best)
                best = d[i - 2][j - 2] + 1;
            d[i][j] = best;
        }
    }
    return d[n][m];
}

const char *opt_suggest(const char *word, const char *const *names, size_t n)
{
    size_t i, e, best = 1 + strlen(word) / 3;
    const char *ret = NULL;

    for (i = 0; i < n; i++) {
        e = edits(word, names[i]);
        if (e <= best && e < strlen(names[i])) {
            if (!ret || e < best)
                ret = names[i];
            best = e;
        }
    }
    return ret;
}

/* ---- parsing ----------------------------------------------------------------------------- */

static int unknown_option(const char *text, size_t len, char *message, size_t size)
{
    const char *names[N_OPTIONS], *meant;
    char word[WORD_MAX + 1];
    size_t i;

    for (i = 0; i < N_OPTIONS; i++)
        names[i] = options[i].name;
    snprintf(word, sizeof(word), "%.*s", (int)len, text);
    meant = opt_suggest(word, names, N_OPTIONS);
    if (meant)
        snprintf(message, size, "unknown option --%s (did you mean --%s?)", word, meant);
    else
        snprintf(message, size, "unknown option --%s; `quoit help` lists them", word);
    return -1;
}

struct cursor {
    int argc, at;
    char **argv;
};

/* The value of an option: glued to it, or the next word. */
static int take_value(struct cursor *c, const struct opt *o, const char *glued,
                      struct opt_values *ret, char *message, size_t size)
{
    if (!o->arg) {
        if (glued) {
            snprintf(message, size, "--%s takes no value", o->name);
            return -1;
        }
        ret->of[o->id] = "1";
        return 0;
    }
    if (!glued) {
        if (c->at + 1 >= c->argc) {
            snprintf(message, size, "--%s needs a value (%s)", o->name, o->arg);
            return -1;
        }
        glued = c->argv[++c->at];
    }
    ret->of[o->id] = glued;
    return 0;
}

static int parse_long(struct cursor *c, const char *text, struct opt_values *ret, char *message,
                      size_t size)
{
    const char *equals = strchrnul(text, '=');
    size_t i, len = (size_t)(equals - text);

    for (i = 0; i < N_OPTIONS; i++) {
        if (strlen(options[i].name) == len && memcmp(options[i].name, text, len) == 0)
            return take_value(c, &options[i], *equals ? equals + 1 : NULL, ret, message, size);
    }
    return unknown_option(text, len, message, size);
}

/* -v, -qv, -ojson, -o json */
static int parse_short(struct cursor *c, const char *text, struct opt_values *ret, char *message,
                       size_t size)
{
    size_t i;

    for (; *text; text++) {
        for (i = 0; i < N_OPTIONS && options[i].letter != *text; i++)
            ;
        if (i == N_OPTIONS) {
            snprintf(message, size,
                     "unknown option -%c; a key that starts with a dash goes behind `--`", *text);
            return -1;
        }
        if (options[i].arg)
            return take_value(c, &options[i], text[1] ? text + 1 : NULL, ret, message, size);
        ret->of[options[i].id] = "1";
    }
    return 0;
}

static bool env_false(const char *value)
{
    return !*value || !strcmp(value, "0") || !strcmp(value, "no") || !strcmp(value, "false");
}

static void from_environment(struct opt_values *ret)
{
    const char *value;
    size_t i;

    for (i = 0; i < N_OPTIONS; i++) {
        if (!options[i].env || ret->of[options[i].id])
            continue;
        value = getenv(options[i].env);
        if (value && *value && (options[i].arg || !env_false(value))) {
            ret->of[options[i].id] = options[i].arg ? value : "1";
            ret->from_env[options[i].id] = true;
        }
    }
}

int opt_parse(int argc, char **argv, struct opt_values *ret, char *message, size_t size)
{
    struct cursor c = {.argc = argc, .at = 1, .argv = argv};
    bool only_args = false;
    const char *text;
    int r = 0;

    *ret = (struct opt_values){0};
    for (; c.at < argc && r == 0; c.at++) {
        text = argv[c.at];
        if (only_args || text[0] != '-' || !text[1]) {
            if (ret->n_args == OPT_ARGS_MAX) {
                snprintf(message, size, "too many arguments");
                return -1;
            }
            ret->args[ret->n_args++] = text;
        } else if (!strcmp(text, "--")) {
            only_args = true;
        } else if (text[1] == '-') {
            r = parse_long(&c, text + 2, ret, message, size);
        } else {
            r = parse_short(&c, text + 1, ret, message, size);
        }
    }
    from_environment(ret);
    return r;
}

int opt_check(const struct opt_values *v, const char *verb, const enum opt_id *allowed,
              char *message, size_t size)
{
    const enum opt_id *a;
    size_t i;

    for (i = 0; i < N_OPTIONS; i++) {
        if (!v->of[options[i].id] || options[i].env || options[i].id == OPT_HELP ||
            options[i].id == OPT_VERSION)
            continue;
        for (a = allowed; *a != OPT_END && *a != options[i].id; a++)
            ;
        if (*a == OPT_END) {
            snprintf(message, size, "%s does not take --%s; see `quoit %s --help`", verb,
                     options[i].name, verb);
            return -1;
        }
    }
    return 0;
}
