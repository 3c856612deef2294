/* quoit: the command. Reads the command line, finds the verb, runs it. */
#include <stdio.h>
#include <string.h>

#include "client/cli.h"

static int unknown_verb(const char *word)
{
    const char *meant = verb_suggest(word);

    if (verb_is_group(word))
        report("%s needs a verb; `quoit help %s` lists them", word, word);
    else if (meant)
        report("unknown verb %s (did you mean %s?)", word, meant);
    else
        report("unknown verb %s; `quoit help` lists them", word);
    return CLI_USAGE;
}

static int run_verb(struct cli *cli)
{
    int n = cli->opt.n_args - 1, code;
    char message[256];

    if (cli->opt.of[OPT_HELP]) {
        verb_help(cli->verb);
        return CLI_OK;
    }
    if (opt_check(&cli->opt, cli->verb->name, cli->verb->options, message, sizeof(message)) < 0)
        return report_usage(cli, "%s", message);
    if (n < cli->verb->min_args)
        return report_usage(cli, "%s needs %s", cli->verb->name, cli->verb->usage);
    if (n > cli->verb->max_args)
        return report_usage(cli, "%s: too many arguments; quote what belongs together",
                            cli->verb->name);
    code = cli_setup(cli);
    return code == CLI_OK ? cli->verb->run(cli) : code;
}

/* A verb of two words becomes args[0]: "admin status". `word` is where it is written. */
static void join_verb(struct opt_values *v, char *word, size_t size)
{
    if (v->n_args < 2 || !verb_is_group(v->args[0]))
        return;
    snprintf(word, size, "%s %s", v->args[0], v->args[1]);
    v->n_args--;
    memmove(v->args, v->args + 1, (size_t)v->n_args * sizeof(v->args[0]));
    v->args[0] = word;
}

/* `quoit help admin status` explains that verb. */
static int help(struct cli *cli)
{
    struct opt_values topic = cli->opt;
    char word[64];

    topic.n_args--;
    memmove(topic.args, topic.args + 1, (size_t)topic.n_args * sizeof(topic.args[0]));
    join_verb(&topic, word, sizeof(word));
    return help_main(topic.n_args > 0 ? topic.args[0] : NULL);
}

int main(int argc, char **argv)
{
    struct cli cli = {0};
    char message[256], joined[64];
    const char *word;

    if (argc == 2 && !strcmp(argv[1], "__tables"))
        return cli_finish(help_dump());
    if (opt_parse(argc, argv, &cli.opt, message, sizeof(message)) < 0) {
        report("%s", message);
        return CLI_USAGE;
    }
    if (cli.opt.of[OPT_VERSION]) {
        printf("quoit %s\n", quoit_version_string());
        return cli_finish(CLI_OK);
    }
    word = cli.opt.n_args > 0 ? cli.opt.args[0] : NULL;
    if (!word && !cli.opt.of[OPT_HELP]) {
        report("a verb is missing; `quoit help` lists them");
        return CLI_USAGE;
    }
    if (!word)
        return cli_finish(help_main(NULL));
    if (!strcmp(word, "help"))
        return cli_finish(help(&cli));
    join_verb(&cli.opt, joined, sizeof(joined));
    word = cli.opt.args[0];
    if (verb_is_group(word) && cli.opt.of[OPT_HELP])
        return cli_finish(help_main(word));
    cli.verb = verb_find(word);
    if (!cli.verb)
        return unknown_verb(word);
    return cli_finish(run_verb(&cli));
}
