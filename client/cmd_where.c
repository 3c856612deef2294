/* cmd_where: which nodes hold a key, by the ring. */
#include <inttypes.h>
#include <stdio.h>

#include "client/cli.h"
#include "client/text.h"

static void id_hex(const uint8_t id[16], char ret[33])
{
    int i;

    for (i = 0; i < 16; i++)
        snprintf(ret + 2 * i, 3, "%02x", id[i]);
}

static int where_json(struct cli *cli, struct slice key, const struct quoit_place *place)
{
    json_t *object = json_object(), *owners = json_array(), *owner;
    char text[33];
    uint32_t i;

    cli_json_bytes(object, "key", key);
    snprintf(text, sizeof(text), "%016" PRIx64, place->token);
    json_object_set_new(object, "token", json_string(text));
    json_object_set_new(object, "partition", json_integer(place->partition));
    json_object_set_new(object, "epoch", json_integer((json_int_t)place->epoch));
    for (i = 0; i < place->n_owners; i++) {
        const struct quoit_owner *o = &place->owners[i];

        owner = json_object();
        cli_json_bytes(owner, "node", slice_str(o->node));
        id_hex(o->id, text);
        json_object_set_new(owner, "id", json_string(text));
        json_object_set_new(owner, "slot", json_integer(o->slot));
        cli_json_bytes(owner, "client", slice_str(o->client));
        cli_json_bytes(owner, "peer", slice_str(o->peer));
        json_object_set_new(owner, "primary", json_boolean(o->primary));
        json_array_append_new(owners, owner);
    }
    json_object_set_new(object, "owners", owners);
    return cli_json_print(cli, object);
}

static int where_table(struct slice key, const struct quoit_place *place)
{
    char shown[200], name[80], client[300], peer[300];
    uint32_t i;

    text_show(key, shown, sizeof(shown));
    printf("%s   partition %u of %u   token %016" PRIx64 "   epoch %" PRIu64 "\n\n", shown,
           place->partition, place->n_partitions, place->token, place->epoch);
    printf("SLOT  NODE          CLIENTS                 PEERS\n");
    for (i = 0; i < place->n_owners; i++) {
        const struct quoit_owner *o = &place->owners[i];

        text_show(slice_str(o->node), name, sizeof(name));
        text_show(slice_str(o->client), client, sizeof(client));
        text_show(slice_str(o->peer), peer, sizeof(peer));
        printf("%4u  %-12s  %-22s  %-22s%s\n", o->slot, name, client, peer,
               o->primary ? "  primary" : "");
    }
    return CLI_OK;
}

static int where(struct cli *cli, struct quoit *q, struct slice key)
{
    struct quoit_options options = {.flags = QUOIT_FAIL_FAST};
    struct quoit_place place;
    struct quoit_result r;
    int code;

    if (quoit_ring(q, &options, &r) < 0)
        return report_result(cli, "where", key, &r);
    code = quoit_locate(q, key.data, key.len, NULL, &place);
    if (code < 0) {
        r.code = code;
        r.text = quoit_error_text(code);
        r.limit = QUOIT_KEY_BYTES_MAX;
        r.actual = key.len;
        return report_result(cli, "where", key, &r);
    }
    if (cli->output == OUTPUT_JSON || cli->output == OUTPUT_JSONL)
        return where_json(cli, key, &place);
    return where_table(key, &place);
}

int cmd_where(struct cli *cli)
{
    struct quoit *q;
    struct buf key;
    int code;

    buf_init(&key);
    code = cli_key(cli, cli->opt.args[1], &key);
    if (code == CLI_OK)
        code = cli_connect(cli, &q);
    if (code == CLI_OK) {
        code = where(cli, q, buf_slice(&key));
        quoit_free(q);
    }
    buf_deinit(&key);
    return code;
}
