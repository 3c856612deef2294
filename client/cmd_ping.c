/* cmd_ping: asks each endpoint by itself, so that the answer is about that node. */
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "client/address.h"
#include "client/cli.h"
#include "client/text.h"
#include "proto/err.h"

struct ping {
    struct quoit_result r;
    uint64_t us;
    char endpoint[LIMIT_ADDRESS_BYTES + 16];
};

static uint64_t clock_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static json_t *ping_json(const struct ping *p)
{
    json_t *object = json_object();
    struct buf id;

    json_object_set_new(object, "endpoint", json_string(p->endpoint));
    json_object_set_new(object, "ok", json_boolean(p->r.code == 0));
    if (p->r.code < 0) {
        json_object_set_new(object, "error", json_string(quoit_error_name(p->r.code)));
        cli_json_bytes(object, "text", slice_str(p->r.text));
        return object;
    }
    buf_init(&id);
    if (text_hex_encode(slice_of(p->r.node_id, sizeof(p->r.node_id)), &id) == 0)
        json_object_set_new(object, "id", json_stringn((char *)id.data, id.len));
    buf_deinit(&id);
    cli_json_bytes(object, "node", slice_str(p->r.name));
    cli_json_bytes(object, "software", slice_str(p->r.software));
    json_object_set_new(object, "serving", json_boolean(p->r.serving));
    json_object_set_new(object, "us", json_integer((json_int_t)p->us));
    return object;
}

static void ping_print(const struct ping *p)
{
    char name[80], software[80], us[32];

    if (p->r.code < 0)
        return; /* reported on stderr */
    text_show(slice_str(p->r.name), name, sizeof(name));
    text_show(slice_str(p->r.software), software, sizeof(software));
    text_show_us(p->us, us, sizeof(us));
    printf("%-24s %-12s %-12s %-11s %s\n", p->endpoint, name, software,
           p->r.serving ? "serving" : "not serving", us);
}

/* One endpoint; a second ping on the open connection gives the time of a round trip alone. */
static int ping_one(struct cli *cli, const char *entry, size_t len, json_t *list)
{
    struct quoit_options options = {.flags = QUOIT_FAIL_FAST};
    struct cli alone = *cli;
    struct ping p;
    struct quoit *q;
    int code;

    snprintf(p.endpoint, sizeof(p.endpoint), "%.*s", (int)len, entry);
    alone.config.endpoints = p.endpoint;
    alone.config.direct = true;
    alone.opt.of[OPT_ENDPOINTS] = p.endpoint;
    code = cli_connect(&alone, &q);
    if (code != CLI_OK)
        return code;
    if (quoit_ping(q, &options, &p.r) == 0) {
        p.us = clock_us();
        quoit_ping(q, &options, &p.r);
        p.us = clock_us() - p.us;
    }
    code = exit_of_code(p.r.code);
    if (p.r.code < 0)
        report_result(&alone, "ping", slice_of(NULL, 0), &p.r);
    else if (!p.r.serving)
        code = CLI_UNREACHABLE;
    if (list)
        json_array_append_new(list, ping_json(&p));
    else
        ping_print(&p);
    quoit_free(q);
    return code;
}

int cmd_ping(struct cli *cli)
{
    bool json = cli->output == OUTPUT_JSON || cli->output == OUTPUT_JSONL;
    json_t *list = json ? json_array() : NULL;
    const char *cursor = cli->config.endpoints, *entry;
    int code, first_bad = CLI_OK, n_ok = 0, r;
    size_t len;

    while ((r = address_next(&cursor, &entry, &len)) == 1) {
        code = ping_one(cli, entry, len, list);
        if (code == CLI_USAGE) {
            json_decref(list);
            return code;
        }
        if (code == CLI_OK)
            n_ok++;
        else if (first_bad == CLI_OK)
            first_bad = code;
    }
    if (r < 0) {
        json_decref(list);
        return report_usage(cli, "--endpoints %s: an empty entry", cli->config.endpoints);
    }
    if (json)
        cli_json_print(cli, list);
    return first_bad == CLI_OK ? CLI_OK : n_ok > 0 ? CLI_PARTIAL : first_bad;
}
