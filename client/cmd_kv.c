/* cmd_kv: get, put, del: one key each. */
#include <inttypes.h>
#include <stdio.h>

#include "client/cli.h"
#include "client/text.h"

static struct quoit_options one_shot(const struct cli *cli)
{
    struct quoit_options o = {.flags = QUOIT_FAIL_FAST};

    if (cli->opt.of[OPT_REPEAT])
        o.flags |= QUOIT_REPEAT;
    return o;
}

static void print_table(struct slice key, const struct quoit_result *r)
{
    char shown[512], size[32];

    text_show(key, shown, sizeof(shown));
    printf("KEY        %s\n", shown);
    text_show(slice_of(r->value, r->value_len), shown, sizeof(shown));
    text_show_bytes(r->value_len, size, sizeof(size));
    printf("VALUE      %s\n", shown);
    printf("SIZE       %s\n", size);
    printf("VERSION    %016" PRIx64 "-%016" PRIx64 "\n", r->version.hlc, r->version.actor);
    printf("REPLICAS   %u answered\n", r->replicas);
}

static int print_get(struct cli *cli, struct slice key, const struct quoit_result *r)
{
    json_t *object;

    if (cli->output == OUTPUT_JSON || cli->output == OUTPUT_JSONL) {
        object = json_object();
        cli_json_bytes(object, "key", key);
        json_object_set_new(object, "found", json_boolean(r->code == 0));
        if (r->code == 0)
            cli_json_bytes(object, "value", slice_of(r->value, r->value_len));
        cli_json_version(object, &r->version);
        json_object_set_new(object, "replicas", json_integer(r->replicas));
        return cli_json_print(cli, object);
    }
    if (r->code != 0)
        return CLI_OK;
    if (cli->output == OUTPUT_TABLE) {
        print_table(key, r);
        return CLI_OK;
    }
    if (r->value_len > 0)
        fwrite(r->value, 1, r->value_len, stdout);
    if (cli->out_tty)
        putchar('\n');
    return CLI_OK;
}

static int get(struct cli *cli, struct quoit *q, struct slice key)
{
    struct quoit_options options = one_shot(cli);
    struct quoit_result r;
    char shown[200];
    int code;

    quoit_get(q, key.data, key.len, &options, &r);
    if (r.code < 0)
        return report_result(cli, "get", key, &r);
    code = print_get(cli, key, &r);
    if (r.code != QUOIT_NOT_FOUND)
        return code;
    if (!cli->quiet) {
        text_show(key, shown, sizeof(shown));
        report("get %s: not found", shown);
    }
    return CLI_NOT_FOUND;
}

int cmd_get(struct cli *cli)
{
    struct quoit *q;
    struct buf key;
    int code;

    buf_init(&key);
    code = cli_key(cli, cli->opt.args[1], &key);
    if (code == CLI_OK)
        code = cli_connect(cli, &q);
    if (code == CLI_OK) {
        code = get(cli, q, buf_slice(&key));
        quoit_free(q);
    }
    buf_deinit(&key);
    return code;
}

/* What a put or del says of itself: an object if asked for, a line for people when they look. */
static int print_written(struct cli *cli, const char *what, struct slice key,
                         const struct quoit_result *r)
{
    char shown[200];
    json_t *object;

    if (cli->output == OUTPUT_JSON || cli->output == OUTPUT_JSONL) {
        object = json_object();
        cli_json_bytes(object, "key", key);
        cli_json_version(object, &r->version);
        json_object_set_new(object, "replicas", json_integer(r->replicas));
        return cli_json_print(cli, object);
    }
    if (cli->verbose || (cli->err_tty && !cli->quiet)) {
        text_show(key, shown, sizeof(shown));
        report("%s %s: synced on %u %s (%s)", what, shown, r->replicas,
               r->replicas == 1 ? "replica" : "replicas", r->node);
    }
    return CLI_OK;
}

static int write_key(struct cli *cli, struct quoit *q, const char *what, struct slice key,
                     const struct buf *value)
{
    struct quoit_options options = one_shot(cli);
    struct quoit_result r;

    if (value)
        quoit_put(q, key.data, key.len, value->data, value->len, &options, &r);
    else
        quoit_del(q, key.data, key.len, &options, &r);
    if (r.code < 0)
        return report_result(cli, what, key, &r);
    return print_written(cli, what, key, &r);
}

static int put_argument(struct cli *cli, struct buf *value)
{
    const char *literal = cli->opt.of[OPT_VALUE], *text;

    if (literal && cli->opt.n_args == 3)
        return report_usage(cli, "put takes a value or --value, not both");
    if (!literal && cli->opt.n_args < 3)
        return report_usage(cli, "put needs a value: an argument, `-`, @FILE or --value");
    text = literal ? literal : cli->opt.args[2];
    if (!cli->opt.of[OPT_HEX_VALUE])
        return cli_value(cli, text, literal != NULL, value);
    if (text_hex_decode(slice_str(text), value) < 0)
        return report_usage(cli, "--hex-value %s: pairs of hexadecimal digits, like 00ff10", text);
    return CLI_OK;
}

int cmd_put(struct cli *cli)
{
    struct buf key, value;
    struct quoit *q;
    int code;

    buf_init(&key);
    buf_init(&value);
    code = cli_key(cli, cli->opt.args[1], &key);
    if (code == CLI_OK)
        code = put_argument(cli, &value);
    if (code == CLI_OK)
        code = cli_connect(cli, &q);
    if (code == CLI_OK) {
        code = write_key(cli, q, "put", buf_slice(&key), &value);
        quoit_free(q);
    }
    buf_deinit(&key);
    buf_deinit(&value);
    return code;
}

int cmd_del(struct cli *cli)
{
    struct quoit *q;
    struct buf key;
    int code;

    buf_init(&key);
    code = cli_key(cli, cli->opt.args[1], &key);
    if (code == CLI_OK)
        code = cli_connect(cli, &q);
    if (code == CLI_OK) {
        code = write_key(cli, q, "del", buf_slice(&key), NULL);
        quoit_free(q);
    }
    buf_deinit(&key);
    return code;
}
