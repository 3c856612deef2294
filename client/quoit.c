/* quoit: the command. Reads the command line, finds the verb, runs it. */
#include <stdio.h>
#include <string.h>

#include "client/cli.h"

static int unknown_verb(const char *word)
{
    const char *meant = verb_suggest(word);

    if (meant)
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

int main(int argc, char **argv)
{
    struct cli cli = {0};
    char message[256];
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
    if (!word || !strcmp(word, "help"))
        return cli_finish(help_main(cli.opt.n_args > 1 ? cli.opt.args[1] : NULL));
    cli.verb = verb_find(word);
    if (!cli.verb)
        return unknown_verb(word);
    return cli_finish(run_verb(&cli));
}
