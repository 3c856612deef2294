/* verbs: the table of the command's verbs, and what is printed from it: help, and the dump that man
 * page and completions are generated from. Texts here are wrapped by hand at 80 columns.
 */
#include <stdio.h>
#include <string.h>

#include "client/cli.h"

#define OPTIONS(...)                                                                               \
    (const enum opt_id[])                                                                          \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }

static const struct verb verbs[] = {
    {
        .name = "get",
        .usage = "KEY",
        .summary = "Print the value of KEY.",
        .about = "The bytes go to stdout exactly as stored; on a terminal a newline is added.",
        .examples = "  quoit get user:42\n"
                    "  quoit get photo:7 > photo.jpg\n"
                    "  quoit get --hex 00ff10              a key that is not text\n"
                    "  quoit get -o json user:42           value, version, replicas that answered\n"
                    "  quoit get -- --odd                  a key that starts with a dash\n",
        .outputs = "raw|json|jsonl|table",
        .options = OPTIONS(OPT_HEX, OPT_END),
        .common =
            OPTIONS(OPT_CONSISTENCY, OPT_TIMEOUT, OPT_ENDPOINTS, OPT_OUTPUT, OPT_DIRECT, OPT_END),
        .exits = "0 found, 3 not found, 5 no node reachable, 6 timed out, 8 no quorum",
        .see_also = "quoit put, quoit where, `quoit help exit-codes`",
        .min_args = 1,
        .max_args = 1,
        .run = cmd_get,
    },
    {
        .name = "put",
        .usage = "KEY VALUE|-|@FILE",
        .summary = "Store VALUE under KEY, replacing what was there.",
        .about = "Done means: as many replicas as --consistency asks for have it on disk, synced.\n"
                 "Keys have up to 400 bytes, values up to 8 MiB.",
        .examples = "  quoit put user:42 Ada\n"
                    "  quoit put photo:7 @photo.jpg        the bytes of a file\n"
                    "  date | quoit put now -              standard input, newline included\n"
                    "  quoit put at --value @home          literally: no @ and no -\n"
                    "  quoit put --hex-value flags 00ff    bytes that are not text\n"
                    "  quoit put -c all user:42 Ada        only if every replica has it\n",
        .outputs = "raw|json|jsonl",
        .options = OPTIONS(OPT_HEX, OPT_VALUE, OPT_HEX_VALUE, OPT_REPEAT, OPT_END),
        .common =
            OPTIONS(OPT_CONSISTENCY, OPT_TIMEOUT, OPT_ENDPOINTS, OPT_OUTPUT, OPT_DIRECT, OPT_END),
        .exits = "0 stored, 5 no node reachable (not stored), 6 outcome unknown,\n"
                 "      8 no quorum (not stored), 1 other refusals (not stored)",
        .see_also = "quoit get, quoit import, `quoit help exit-codes`",
        .min_args = 1,
        .max_args = 2,
        .run = cmd_put,
    },
    {
        .name = "del",
        .usage = "KEY",
        .summary = "Delete KEY.",
        .about = "Deleting a key that does not exist succeeds: afterwards it does not exist.",
        .examples = "  quoit del user:42\n"
                    "  quoit del --hex 00ff10              a key that is not text\n",
        .outputs = "raw|json|jsonl",
        .options = OPTIONS(OPT_HEX, OPT_REPEAT, OPT_END),
        .common =
            OPTIONS(OPT_CONSISTENCY, OPT_TIMEOUT, OPT_ENDPOINTS, OPT_OUTPUT, OPT_DIRECT, OPT_END),
        .exits = "0 deleted, 5 no node reachable (not deleted), 6 outcome unknown,\n"
                 "      8 no quorum (not deleted)",
        .see_also = "quoit put, `quoit help exit-codes`",
        .min_args = 1,
        .max_args = 1,
        .run = cmd_del,
    },
    {
        .name = "import",
        .usage = "-|@FILE",
        .summary = "Store many records, read from a file or standard input.",
        .about =
            "One record per line: key, TAB, value. Inside them TAB, newline and backslash\n"
            "are written \\t, \\n and \\\\; all other bytes stand for themselves. With --jsonl\n"
            "each line is an object with key and value, or key_b64 and value_b64 (base64).\n"
            "Lines that cannot be stored are named on stderr and the others are stored.\n"
            "Of several lines with one key the last one wins.\n"
            "Importing a line twice does no harm, so an import that was interrupted is\n"
            "simply run again; for the same reason lost requests are sent again.",
        .examples = "  quoit import @people.tsv\n"
                    "  quoit export | quoit -e other:7400 import -\n"
                    "  quoit import --jsonl -o json - < people.jsonl\n",
        .outputs = "json|jsonl|raw",
        .options = OPTIONS(OPT_JSONL, OPT_IN_FLIGHT, OPT_MAX_ERRORS, OPT_END),
        .common = OPTIONS(OPT_CONSISTENCY, OPT_TIMEOUT, OPT_ENDPOINTS, OPT_OUTPUT, OPT_DIRECT,
                          OPT_QUIET, OPT_END),
        .exits = "0 all stored, 10 some stored, 1 none stored, 5 no node reachable",
        .see_also = "quoit export",
        .min_args = 1,
        .max_args = 1,
        .run = cmd_import,
    },
    {
        .name = "export",
        .usage = "",
        .summary = "Print all records, in the format that import reads.",
        .about = "Partition by partition, each read at --consistency. What is written meanwhile\n"
                 "may be in it or not. Two exports of the same data have the same order.\n"
                 "Of many records -o json means -o jsonl: an object a line.",
        .examples = "  quoit export > backup.tsv\n"
                    "  quoit export --jsonl | jq .key\n",
        .outputs = "raw|json|jsonl",
        .options = OPTIONS(OPT_JSONL, OPT_END),
        .common = OPTIONS(OPT_CONSISTENCY, OPT_TIMEOUT, OPT_ENDPOINTS, OPT_OUTPUT, OPT_DIRECT,
                          OPT_QUIET, OPT_END),
        .exits = "0 all printed, 10 incomplete, 5 no node reachable",
        .see_also = "quoit import",
        .min_args = 0,
        .max_args = 0,
        .run = cmd_export,
    },
    {
        .name = "where",
        .usage = "KEY",
        .summary = "Show which nodes hold KEY, whether it exists or not.",
        .about = "Computed from the ring of the first endpoint that answers.",
        .examples = "  quoit where user:42\n"
                    "  quoit where user:42 -o json\n",
        .outputs = "table|json|jsonl",
        .options = OPTIONS(OPT_HEX, OPT_END),
        .common = OPTIONS(OPT_TIMEOUT, OPT_ENDPOINTS, OPT_OUTPUT, OPT_END),
        .exits = "0 shown, 5 no node reachable or none in a ring, 6 timed out",
        .see_also = "quoit get, quoit ping",
        .min_args = 1,
        .max_args = 1,
        .run = cmd_where,
    },
    {
        .name = "ping",
        .usage = "",
        .summary = "Ask each endpoint whether it is up and serving.",
        .about = "One line per endpoint: address, node, software, state, time of a round trip.",
        .examples = "  quoit ping\n"
                    "  quoit ping -e n1:7400,n2:7400,n3:7400\n",
        .outputs = "table|json|jsonl",
        .options = OPTIONS(OPT_END),
        .common = OPTIONS(OPT_TIMEOUT, OPT_ENDPOINTS, OPT_OUTPUT, OPT_END),
        .exits = "0 all serve, 10 some do, 5 none does",
        .see_also = "quoit where",
        .min_args = 0,
        .max_args = 0,
        .run = cmd_ping,
    },
    {
        .name = "bench",
        .usage = "",
        .summary = "Put load on the cluster and measure it.",
        .about = "Loads its own keys, warms up, then measures. Mixes after YCSB: a 50 % reads and\n"
                 "50 % puts, b 95 / 5, c reads only, d 95 % reads of the newest keys and 5 %\n"
                 "inserts, f reads and read-then-put in equal parts; a, b, c and f are zipf, d is\n"
                 "latest. Without --rate each client sends the next request when an answer comes;\n"
                 "with it, requests start on schedule and latency counts from then, so a stall is\n"
                 "not hidden. Rates are successes per second of the window; with --rate, up to\n"
                 "the last success if that came later. Failures stretch neither.",
        .examples = "  quoit bench\n"
                    "  quoit bench --mix b --clients 16 --duration 30s\n"
                    "  quoit bench --rate 5000 --assert 'p99_us<5000,errors=0' -o json\n",
        .outputs = "table|json|jsonl",
        .options = OPTIONS(OPT_MIX, OPT_READS, OPT_KEYS, OPT_VALUE_SIZE, OPT_CLIENTS, OPT_DEPTH,
                           OPT_DISTRIBUTION, OPT_RATE, OPT_DURATION, OPT_WARMUP, OPT_THREADS,
                           OPT_SEED, OPT_PREFIX, OPT_NO_LOAD, OPT_REPEAT, OPT_ASSERT, OPT_END),
        .common = OPTIONS(OPT_CONSISTENCY, OPT_TIMEOUT, OPT_ENDPOINTS, OPT_OUTPUT, OPT_DIRECT,
                          OPT_QUIET, OPT_END),
        .exits = "0 measured, 11 an assertion failed, 5 no node reachable, 1 nothing worked",
        .see_also = "quoit ping",
        .min_args = 0,
        .max_args = 0,
        .run = cmd_bench,
    },
    {
        .name = "admin status",
        .usage = "[NODE]",
        .summary = "Is the cluster healthy? If not, what to do.",
        .about =
            "The first word is the verdict. HEALTHY: every key has all its replicas.\n"
            "DEGRADED: something is wrong, but every key can be read and written at quorum.\n"
            "UNAVAILABLE: some cannot. Any node answers, as it sees things. With NODE, a name\n"
            "or the beginning of an id, only what concerns that one.",
        .examples = "  quoit admin status\n"
                    "  quoit admin status n4\n"
                    "  quoit admin status --check -q       for a monitor: only the exit code\n"
                    "  quoit admin status -o json | jq '.nodes[] | select(.state != \"up\")'\n",
        .outputs = "table|json|jsonl",
        .options = OPTIONS(OPT_CHECK, OPT_VNODES, OPT_END),
        .common = OPTIONS(OPT_TIMEOUT, OPT_ENDPOINTS, OPT_OUTPUT, OPT_QUIET, OPT_END),
        .exits = "0 shown, 3 no such node, 5 no node reachable, 11 with --check: not healthy",
        .see_also = "quoit ping, quoit where",
        .min_args = 0,
        .max_args = 1,
        .run = cmd_admin_status,
    },
};

#define N_VERBS (sizeof(verbs) / sizeof(verbs[0]))

static const char exit_codes[] =
    "  0  done\n"
    "  1  error; for a write: nothing was written\n"
    "  2  the command line is not right; nothing was done\n"
    "  3  not found\n"
    "  4  a condition was not met\n"
    "  5  no node could be reached, or none serves; nothing was written\n"
    "  6  a read: no answer in time; a write: sent, and its OUTCOME is UNKNOWN\n"
    "  7  not permitted\n"
    "  8  refused for want of a quorum; nothing was written\n"
    "  9  refused by a safety check; nothing was done\n"
    " 10  done in part\n"
    " 11  an assertion failed (bench --assert, admin status --check)\n"
    "130  interrupted\n";

const struct verb *verb_at(size_t i)
{
    return i < N_VERBS ? &verbs[i] : NULL;
}

const struct verb *verb_find(const char *name)
{
    size_t i;

    for (i = 0; i < N_VERBS; i++) {
        if (!strcmp(verbs[i].name, name))
            return &verbs[i];
    }
    return NULL;
}

const char *verb_suggest(const char *word)
{
    const char *names[N_VERBS + 1];
    size_t i;

    for (i = 0; i < N_VERBS; i++)
        names[i] = verbs[i].name;
    names[N_VERBS] = "help";
    return opt_suggest(word, names, N_VERBS + 1);
}

bool verb_is_group(const char *word)
{
    size_t i, len = strlen(word);

    for (i = 0; i < N_VERBS; i++) {
        if (!strncmp(verbs[i].name, word, len) && verbs[i].name[len] == ' ')
            return true;
    }
    return false;
}

/* ---- help -------------------------------------------------------------------------------- */

static void print_option(enum opt_id id, const char *outputs)
{
    const struct opt *o = opt_find(id);
    const char *arg = id == OPT_OUTPUT && outputs ? outputs : o->arg;
    char left[80];
    int n;

    if (o->letter)
        n = snprintf(left, sizeof(left), "  -%c, --%s", o->letter, o->name);
    else
        n = snprintf(left, sizeof(left), "      --%s", o->name);
    if (arg)
        snprintf(left + n, sizeof(left) - (size_t)n, " %s", arg);
    if (strlen(left) > 37)
        printf("%s\n%37s %s\n", left, "", o->help);
    else
        printf("%-37s %s\n", left, o->help);
}

void verb_help(const struct verb *verb)
{
    const enum opt_id *id;
    char usage[80];

    snprintf(usage, sizeof(usage), "quoit %s %s", verb->name, verb->usage);
    if (strlen(usage) + strlen(verb->summary) < 60)
        printf("Usage: %-24s %s\n\n", usage, verb->summary);
    else
        printf("Usage: %s\n%s\n\n", usage, verb->summary);
    printf("%s\n%s\n", verb->about, verb->examples);
    for (id = verb->options; *id != OPT_END; id++)
        print_option(*id, verb->outputs);
    for (id = verb->common; *id != OPT_END; id++)
        print_option(*id, verb->outputs);
    printf("Common options have a twin in the environment: QUOIT_ENDPOINTS and so on.\n"
           "Exit: %s\nSee also: %s\n",
           verb->exits, verb->see_also);
}

static void help_overview(void)
{
    size_t i;
    int id;

    printf("Usage: quoit [OPTIONS] VERB [ARGUMENTS]     A distributed key-value store.\n\n"
           "  quoit put user:42 Ada      store         quoit get user:42      read\n\n");
    for (i = 0; i < N_VERBS; i++)
        printf("  %-13s %s\n", verbs[i].name, verbs[i].summary);
    printf("  %-13s %s\n\n", "help", "Explain a verb, `exit-codes` or `environment`.");
    for (id = OPT_END + 1; id < OPT_COUNT; id++) {
        if (opt_find((enum opt_id)id)->env)
            print_option((enum opt_id)id, NULL);
    }
    print_option(OPT_HELP, NULL);
    print_option(OPT_VERSION, NULL);
    printf("\nOptions may stand before or after the verb; `--` ends them.\n"
           "Results go to stdout, everything else to stderr. See `quoit VERB --help`.\n");
}

static void help_group(const char *word)
{
    size_t i, len = strlen(word);

    printf("Usage: quoit %s VERB [ARGUMENTS]\n\n", word);
    for (i = 0; i < N_VERBS; i++) {
        if (!strncmp(verbs[i].name, word, len) && verbs[i].name[len] == ' ')
            printf("  %-13s %s\n", verbs[i].name, verbs[i].summary);
    }
    printf("\nSee `quoit %s VERB --help`.\n", word);
}

static void help_environment(void)
{
    int id;

    printf("Each of these is used when the option is not given:\n\n");
    for (id = OPT_END + 1; id < OPT_COUNT; id++) {
        if (opt_find((enum opt_id)id)->env)
            printf("  %-20s --%-14s %s\n", opt_find((enum opt_id)id)->env,
                   opt_find((enum opt_id)id)->name, opt_find((enum opt_id)id)->help);
    }
}

int help_main(const char *topic)
{
    const struct verb *verb = topic ? verb_find(topic) : NULL;

    if (!topic) {
        help_overview();
    } else if (verb) {
        verb_help(verb);
    } else if (verb_is_group(topic)) {
        help_group(topic);
    } else if (!strcmp(topic, "exit-codes")) {
        printf("Exit codes, the same for all verbs:\n\n%s", exit_codes);
    } else if (!strcmp(topic, "environment")) {
        help_environment();
    } else {
        report("no help on %s; there are the verbs, exit-codes and environment", topic);
        return CLI_USAGE;
    }
    return CLI_OK;
}

/* ---- the tables, for generators ---------------------------------------------------------- */

static void set_string(json_t *object, const char *name, const char *value)
{
    if (value)
        json_object_set_new(object, name, json_string(value));
}

static json_t *dump_option(const struct opt *o)
{
    json_t *object = json_object();
    char letter[2] = {o->letter, '\0'};

    set_string(object, "name", o->name);
    set_string(object, "letter", o->letter ? letter : NULL);
    set_string(object, "arg", o->arg);
    set_string(object, "env", o->env);
    set_string(object, "help", o->help);
    return object;
}

static json_t *dump_ids(const enum opt_id *ids)
{
    json_t *list = json_array();

    for (; *ids != OPT_END; ids++)
        json_array_append_new(list, json_string(opt_find(*ids)->name));
    return list;
}

static json_t *dump_verb(const struct verb *v)
{
    json_t *object = json_object();

    set_string(object, "name", v->name);
    set_string(object, "usage", v->usage);
    set_string(object, "summary", v->summary);
    set_string(object, "about", v->about);
    set_string(object, "examples", v->examples);
    set_string(object, "outputs", v->outputs);
    set_string(object, "exits", v->exits);
    set_string(object, "see_also", v->see_also);
    json_object_set_new(object, "options", dump_ids(v->options));
    return object;
}

int help_dump(void)
{
    json_t *root = json_object(), *list = json_array();
    size_t i;
    int id;

    for (id = OPT_END + 1; id < OPT_COUNT; id++)
        json_array_append_new(list, dump_option(opt_find((enum opt_id)id)));
    json_object_set_new(root, "options", list);
    list = json_array();
    for (i = 0; i < N_VERBS; i++)
        json_array_append_new(list, dump_verb(&verbs[i]));
    json_object_set_new(root, "verbs", list);
    set_string(root, "exit_codes", exit_codes);
    set_string(root, "version", quoit_version_string());
    json_dumpf(root, stdout, JSON_INDENT(1));
    putchar('\n');
    json_decref(root);
    return CLI_OK;
}
