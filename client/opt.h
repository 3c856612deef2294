/* opt: the command line, by one table.
 *
 * Every option of every verb has one line in OPTIONS (opt.c); verbs name those they take. The help
 * screens, the man page and the completions are made from the same table, so none of them can be
 * out of date. Options may stand anywhere, before or after the verb; `--` ends them; a lone `-` is
 * an argument. The common ones also come from the environment (lowest priority).
 */
#ifndef QUOIT_CLIENT_OPT_H
#define QUOIT_CLIENT_OPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum opt_id {
    OPT_END = 0, /* ends a verb's list */
    OPT_ENDPOINTS,
    OPT_TIMEOUT,
    OPT_CONSISTENCY,
    OPT_OUTPUT,
    OPT_DIRECT,
    OPT_VERBOSE,
    OPT_QUIET,
    OPT_HELP,
    OPT_VERSION,
    OPT_HEX,
    OPT_HEX_VALUE,
    OPT_VALUE,
    OPT_REPEAT,
    OPT_JSONL,
    OPT_IN_FLIGHT,
    OPT_MAX_ERRORS,
    OPT_MIX,
    OPT_READS,
    OPT_KEYS,
    OPT_VALUE_SIZE,
    OPT_CLIENTS,
    OPT_DEPTH,
    OPT_DISTRIBUTION,
    OPT_RATE,
    OPT_DURATION,
    OPT_WARMUP,
    OPT_THREADS,
    OPT_SEED,
    OPT_PREFIX,
    OPT_NO_LOAD,
    OPT_ASSERT,
    OPT_CHECK,
    OPT_VNODES,
    OPT_COUNT
};

struct opt {
    enum opt_id id;
    char letter;      /* 0: none */
    const char *name; /* without the dashes */
    const char *arg;  /* what follows it, for people; NULL: a switch */
    const char *env;  /* twin in the environment, or NULL; such options are common to all verbs */
    const char *help;
};

#define OPT_ARGS_MAX 16

struct opt_values {
    const char *of[OPT_COUNT]; /* value, "1" for a switch, NULL when not given */
    bool from_env[OPT_COUNT];  /* not given: from the environment */
    const char *args[OPT_ARGS_MAX];
    int n_args;
};

const struct opt *opt_find(enum opt_id id); /* NULL if out of range */

/* Fills *ret from argv[1..] and the environment. args[0] is the verb. 0, or -1 with a sentence in
 * message. Does not know which options fit which verb: opt_check. */
int opt_parse(int argc, char **argv, struct opt_values *ret, char *message, size_t size);
/* Every option given is common or in `allowed`. 0 or -1 with a sentence. */
int opt_check(const struct opt_values *v, const char *verb, const enum opt_id *allowed,
              char *message, size_t size);

/* The entry of names[0..n) that `word` was probably meant to be, or NULL. */
const char *opt_suggest(const char *word, const char *const *names, size_t n);

#endif
