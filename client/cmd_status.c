/* cmd_status: `quoit admin status`: the verdict, a line per member, what is wrong and what to do.
 *
 * Everything is the answering node's; here it is only laid out, at most 80 columns wide. Members
 * that are not up come first. The JSON names are in client/README.md.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli.h"
#include "client/text.h"

#define COLUMNS 80
#define NAME_COLUMNS 11 /* what is longer is cut */
#define ZONE_COLUMNS 6
#define ID_DIGITS 6

static const char *const verdict_words[] = {"?", "HEALTHY", "DEGRADED", "UNAVAILABLE"};
static const char *const state_words[] = {"unheard", "up", "suspect", "down", "stopped"};
static const char *const problem_words[] = {"other",    "down",  "stopped", "never_came",
                                            "no_space", "clock", "more"};

static const char *problem_word(uint32_t kind)
{
    return kind < sizeof(problem_words) / sizeof(problem_words[0]) ? problem_words[kind]
                                                                   : problem_words[0];
}

static bool is_up(const struct quoit_member *m)
{
    return m->state == QUOIT_UP || m->state == QUOIT_SUSPECT;
}

static void id_hex(const uint8_t id[16], char ret[33])
{
    for (int i = 0; i < 16; i++)
        snprintf(ret + 2 * i, 3, "%02x", id[i]);
}

/* Of all members, or of the one asked for. */
static bool is_wanted(const struct quoit_member *m, const struct quoit_member *only)
{
    return !only || m == only;
}

/* ---- JSON -------------------------------------------------------------------------------- */

static void set_int(json_t *object, const char *name, uint64_t value)
{
    json_object_set_new(object, name, json_integer((json_int_t)value));
}

static void set_id(json_t *object, const char *name, const uint8_t id[16])
{
    char hex[33];

    id_hex(id, hex);
    json_object_set_new(object, name, json_string(hex));
}

static json_t *load_json(const struct quoit_member *m)
{
    json_t *object;

    if (!m->has_load)
        return json_null();
    object = json_object();
    set_int(object, "keys", m->n_keys);
    set_int(object, "bytes", m->n_bytes);
    set_int(object, "ops_per_s", m->ops_per_s);
    set_int(object, "p99_us", m->p99_us);
    set_int(object, "disk_percent", m->disk_percent);
    json_object_set_new(object, "no_space", json_boolean(m->no_space));
    json_object_set_new(object, "clock_off", json_boolean(m->clock_off));
    return object;
}

static json_t *member_json(const struct quoit_member *m)
{
    json_t *object = json_object();

    json_object_set_new(object, "node", json_string(m->name));
    set_id(object, "id", m->id);
    json_object_set_new(object, "state", json_string(state_words[m->state]));
    set_int(object, "state_ms", m->state_ms);
    json_object_set_new(object, "heard_ms",
                        m->heard_ms < 0 ? json_null() : json_integer(m->heard_ms));
    json_object_set_new(object, "zone", json_string(m->zone));
    set_int(object, "weight", m->weight);
    json_object_set_new(object, "voter", json_boolean(m->voter));
    set_int(object, "slots", m->n_slots);
    set_int(object, "slots_joining", m->n_joining);
    set_int(object, "boot", m->boot);
    json_object_set_new(object, "software", json_string(m->software));
    json_object_set_new(object, "clients", json_string(m->client));
    json_object_set_new(object, "peers", json_string(m->peer));
    json_object_set_new(object, "load", load_json(m));
    return object;
}

static json_t *problem_json(const struct quoit_problem *p)
{
    json_t *object = json_object();

    json_object_set_new(object, "kind", json_string(problem_word(p->kind)));
    json_object_set_new(object, "node", p->member ? json_string(p->member->name) : json_null());
    json_object_set_new(object, "text", json_string(p->text));
    json_object_set_new(object, "advice", json_string(p->advice));
    return object;
}

static void set_count(json_t *object, const char *name, const struct quoit_replica *r, uint64_t n)
{
    json_object_set_new(object, name, r->counted ? json_integer((json_int_t)n) : json_null());
}

/* Text: numbers in JSON end at 2^63. */
static void set_digest(json_t *object, const struct quoit_replica *r)
{
    char text[17];

    snprintf(text, sizeof(text), "%016" PRIx64, r->digest);
    json_object_set_new(object, "digest", r->counted ? json_string(text) : json_null());
}

static json_t *vnode_json(uint32_t number, const struct quoit_partition *p)
{
    json_t *object = json_object(), *slots = json_array(), *slot;

    set_int(object, "partition", number);
    set_int(object, "fence", p->fence);
    set_int(object, "primary", p->primary);
    set_int(object, "live", p->n_live);
    for (uint32_t i = 0; i < p->n_replicas; i++) {
        const struct quoit_replica *r = &p->replicas[i];

        slot = json_object();
        set_int(slot, "slot", r->slot);
        json_object_set_new(slot, "node", json_string(r->member->name));
        set_int(slot, "incarnation", r->incarnation);
        json_object_set_new(slot, "joining", json_boolean(r->joining));
        set_count(slot, "records", r, r->n_records);
        set_count(slot, "tombstones", r, r->n_tombstones);
        set_digest(slot, r);
        json_array_append_new(slots, slot);
    }
    json_object_set_new(object, "slots", slots);
    return object;
}

static void add_lists(json_t *root, const struct quoit_status *s, const struct quoit_member *only)
{
    json_t *nodes = json_array(), *problems = json_array(), *vnodes = json_array();
    json_t *candidates = json_array();

    for (size_t i = 0; i < s->n_members; i++)
        if (is_wanted(&s->members[i], only))
            json_array_append_new(nodes, member_json(&s->members[i]));
    for (size_t i = 0; i < s->n_candidates; i++)
        if (is_wanted(&s->candidates[i], only))
            json_array_append_new(candidates, member_json(&s->candidates[i]));
    for (size_t i = 0; i < s->n_problems; i++)
        if (is_wanted(s->problems[i].member, only))
            json_array_append_new(problems, problem_json(&s->problems[i]));
    json_object_set_new(root, "nodes", nodes);
    json_object_set_new(root, "candidates", candidates);
    json_object_set_new(root, "problems", problems);
    for (uint32_t p = 0; s->partitions && p < s->n_partitions; p++)
        json_array_append_new(vnodes, vnode_json(p, &s->partitions[p]));
    if (s->partitions)
        json_object_set_new(root, "vnodes", vnodes);
    else
        json_decref(vnodes);
}

static int print_json(struct cli *cli, const struct quoit_status *s,
                      const struct quoit_member *only)
{
    json_t *root = json_object(), *by_live = json_array();

    json_object_set_new(root, "verdict", json_string(verdict_words[s->verdict]));
    json_object_set_new(root, "text", json_string(s->text));
    set_id(root, "answered_by", s->node_id);
    set_id(root, "cluster", s->cluster_id);
    set_int(root, "epoch", s->epoch);
    set_int(root, "partitions", s->n_partitions);
    set_int(root, "replicas", s->n_replicas);
    set_int(root, "nodes_up", s->n_up);
    for (uint32_t i = 0; i <= s->n_replicas && i <= QUOIT_OWNERS_MAX; i++)
        json_array_append_new(by_live, json_integer(s->n_by_live[i]));
    json_object_set_new(root, "partitions_by_live", by_live);
    set_int(root, "partitions_no_quorum", s->n_no_quorum);
    set_int(root, "partitions_no_write", s->n_no_write);
    add_lists(root, s, only);
    return cli_json_print(cli, root);
}

/* ---- the screen -------------------------------------------------------------------------- */

/* Words, from column `indent` on; the cursor is there already. */
static void print_words(const char *text, int indent)
{
    int column = indent;

    while (*text) {
        int len = (int)strcspn(text, " ");

        if (column > indent && column + 1 + len > COLUMNS) {
            printf("\n%*s", indent, "");
            column = indent;
        } else if (column > indent) {
            putchar(' ');
            column++;
        }
        printf("%.*s", len, text);
        column += len;
        text += len + (text[len] == ' ');
    }
    putchar('\n');
}

/* What requests meet where replicas are missing or full; NULL: nothing to say. */
static const char *consequence(const struct quoit_status *s)
{
    if (s->n_no_quorum > 0)
        return "Requests for the keys there are refused (exit 8), but at `one`, while one "
               "replica is up.";
    if (s->n_no_write > 0)
        return "Gets and deletes go on; puts there are refused for want of space (exit 1), or "
               "left open where a replica still has room (exit 6).";
    if (s->verdict == QUOIT_HEALTHY || s->n_by_live[s->n_replicas] == s->n_partitions)
        return NULL;
    return "Requests at `one` and `quorum` go on; `all` fails there (exit 8).";
}

/* Colour is never the only carrier of meaning. */
static void print_verdict(const struct cli *cli, const struct quoit_status *s)
{
    static const char *const colours[] = {"", "32", "33", "31"};
    const char *word = verdict_words[s->verdict], *text = consequence(s);
    bool colour = cli->out_tty && !getenv("NO_COLOR");
    int len = (int)strlen(word), indent = len < 8 ? 10 : len + 2;

    if (colour)
        printf("\033[1;%sm%s\033[0m%*s", colours[s->verdict], word, indent - len, "");
    else
        printf("%-*s", indent, word);
    print_words(s->text, indent);
    if (!text)
        return;
    printf("%*s", indent, "");
    print_words(text, indent);
}

static const struct quoit_member *answerer(const struct quoit_status *s)
{
    for (size_t i = 0; i < s->n_members; i++)
        if (!memcmp(s->members[i].id, s->node_id, sizeof(s->node_id)))
            return &s->members[i];
    return NULL;
}

static void print_cluster(const struct quoit_status *s)
{
    const struct quoit_member *by = answerer(s);
    char id[33], text[1024];
    size_t n = 0, n_away = 0;

    id_hex(s->cluster_id, id);
    printf("\ncluster %.*s   epoch %" PRIu64 "   %u partitions x %u   seen by %s\n", ID_DIGITS, id,
           s->epoch, s->n_partitions, s->n_replicas, by ? by->name : "a node outside the ring");
    for (size_t i = 0; i < s->n_members && n < sizeof(text) - 1; i++) {
        if (!s->members[i].voter)
            continue;
        n_away += !is_up(&s->members[i]);
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%s ", s->members[i].name);
    }
    if (n == 0 || n >= sizeof(text))
        return;
    n--;
    if (n_away > 0)
        snprintf(text + n, sizeof(text) - n, ", %zu not up", n_away);
    else
        snprintf(text + n, sizeof(text) - n, ", all up");
    printf("voters ");
    print_words(text, 7);
}

/* "12 s", "4 min", "3 h", "2 d" */
static void show_duration(uint64_t ms, char *ret, size_t size)
{
    static const struct {
        uint64_t ms;
        const char *unit;
    } units[] = {{86400000, "d"}, {3600000, "h"}, {60000, "min"}, {1000, "s"}, {1, "ms"}};
    size_t i = 0;

    while (i < 4 && ms < units[i].ms)
        i++;
    snprintf(ret, size, "%" PRIu64 " %s", ms / units[i].ms, units[i].unit);
}

static void show_state(const struct quoit_member *m, char *ret, size_t size)
{
    char since[32];

    show_duration(m->state_ms, since, sizeof(since));
    if (m->state == QUOIT_DOWN)
        snprintf(ret, size, "DOWN %s", since);
    else if (m->candidate)
        snprintf(ret, size, "candidate");
    else
        snprintf(ret, size, "%s", m->n_joining && is_up(m) ? "filling" : state_words[m->state]);
}

static void show_rate(uint64_t n, char *ret, size_t size)
{
    if (n < 1000)
        snprintf(ret, size, "%" PRIu64, n);
    else if (n < 1000000)
        snprintf(ret, size, "%.1fk", (double)n / 1e3);
    else
        snprintf(ret, size, "%.1fM", (double)n / 1e6);
}

/* What it says of itself; of one that is away, nothing. */
struct shown_load {
    char data[32], disk[16], ops[24], p99[32];
};

static void show_load(const struct quoit_member *m, struct shown_load *ret)
{
    *ret = (struct shown_load){.data = "-", .disk = "-", .ops = "-", .p99 = "-"};
    if (!m->has_load || !is_up(m))
        return;
    text_show_bytes(m->n_bytes, ret->data, sizeof(ret->data));
    snprintf(ret->disk, sizeof(ret->disk), "%u %%", m->disk_percent);
    show_rate(m->ops_per_s, ret->ops, sizeof(ret->ops));
    if (m->p99_us)
        text_show_us(m->p99_us, ret->p99, sizeof(ret->p99));
}

static int compare_members(const void *a, const void *b)
{
    const struct quoit_member *m = *(const struct quoit_member *const *)a;
    const struct quoit_member *n = *(const struct quoit_member *const *)b;

    if (m->candidate != n->candidate)
        return m->candidate ? 1 : -1;
    if (is_up(m) != is_up(n))
        return is_up(m) ? 1 : -1;
    return strverscmp(m->name, n->name);
}

static int cut_columns(const char *text, int max)
{
    int len = (int)strlen(text);

    return len < max ? len : max;
}

static void print_row(const struct quoit_member *m, int name_columns, int zone_columns)
{
    char name[NAME_COLUMNS + 1], zone[ZONE_COLUMNS + 1], state[48];
    struct shown_load load;

    text_show(slice_str(m->name), name, sizeof(name));
    text_show(slice_str(*m->zone ? m->zone : "-"), zone, sizeof(zone));
    show_state(m, state, sizeof(state));
    show_load(m, &load);
    printf("%-*s %c  %-10s  %-*s  %6u  %5u  %9s  %5s  %6s  %7s\n", name_columns, name,
           m->voter ? 'v' : ' ', state, zone_columns, zone, m->weight, m->n_slots, load.data,
           load.disk, load.ops, load.p99);
}

/* Candidates last. */
static int print_members(const struct quoit_status *s)
{
    size_t n_all = s->n_members + s->n_candidates;
    const struct quoit_member **sorted = calloc(n_all + 1, sizeof(*sorted));
    int name_columns = 4, zone_columns = 4, n;

    if (!sorted) {
        report("out of memory");
        return CLI_ERROR;
    }
    for (size_t i = 0; i < n_all; i++) {
        sorted[i] = i < s->n_members ? &s->members[i] : &s->candidates[i - s->n_members];
        n = cut_columns(sorted[i]->name, NAME_COLUMNS);
        name_columns = n > name_columns ? n : name_columns;
        n = cut_columns(sorted[i]->zone, ZONE_COLUMNS);
        zone_columns = n > zone_columns ? n : zone_columns;
    }
    qsort(sorted, n_all, sizeof(*sorted), compare_members);
    printf("\n%-*s    %-10s  %-*s  %6s  %5s  %9s  %5s  %6s  %7s\n", name_columns, "NODE", "STATE",
           zone_columns, "ZONE", "WEIGHT", "SLOTS", "DATA", "DISK", "OPS/S", "P99");
    for (size_t i = 0; i < n_all; i++)
        print_row(sorted[i], name_columns, zone_columns);
    free(sorted);
    return CLI_OK;
}

/* All that is known of one. */
static void print_member(const struct quoit_member *m)
{
    char id[33], state[48], heard[32] = "never", keys[32];
    struct shown_load load;

    id_hex(m->id, id);
    show_state(m, state, sizeof(state));
    show_load(m, &load);
    if (m->heard_ms >= 0)
        show_duration((uint64_t)m->heard_ms, heard, sizeof(heard));
    text_show_count(m->n_keys, keys, sizeof(keys));
    printf("%-9s %s%s\n", "node", m->name, m->voter ? ", a voter" : "");
    printf("%-9s %s; heard %s%s\n", "state", state, heard, m->heard_ms >= 0 ? " ago" : "");
    printf("%-9s %s, start %" PRIu64 ", %s\n", "id", id, m->boot,
           *m->software ? m->software : "software not known");
    printf("%-9s %s\n%-9s %s\n", "clients", m->client, "peers", m->peer);
    printf("%-9s %s, weight %u\n", "zone", *m->zone ? m->zone : "none", m->weight);
    printf("%-9s %u, %u of them being filled\n", "slots", m->n_slots, m->n_joining);
    if (m->has_load && is_up(m))
        printf("%-9s %s in %s; %s of the disk used\n%-9s %s per second, p99 %s\n", "keys", keys,
               load.data, load.disk, "requests", load.ops, load.p99);
}

/* Whether the same was advised already. */
static bool is_told(const struct quoit_status *s, size_t i, const struct quoit_member *only)
{
    for (size_t j = 0; j < i; j++)
        if (is_wanted(s->problems[j].member, only) &&
            !strcmp(s->problems[j].advice, s->problems[i].advice))
            return true;
    return false;
}

static void print_problems(const struct quoit_status *s, const struct quoit_member *only)
{
    bool first = true;

    putchar('\n');
    for (size_t i = 0; i < s->n_problems; i++) {
        if (!is_wanted(s->problems[i].member, only))
            continue;
        printf("%-8s", first ? "WRONG" : "");
        print_words(s->problems[i].text, 8);
        first = false;
    }
    printf("%-8s", "TO DO");
    if (first)
        puts("nothing");
    for (size_t i = 0, n = 0; i < s->n_problems; i++) {
        const char *advice = s->problems[i].advice;

        if (!is_wanted(s->problems[i].member, only) || !*advice || is_told(s, i, only))
            continue;
        printf("%s", n++ ? "        " : "");
        print_words(advice, 8);
    }
}

static int print_screen(const struct cli *cli, const struct quoit_status *s,
                        const struct quoit_member *only)
{
    int code = CLI_OK;

    if (only) {
        print_member(only);
    } else {
        print_verdict(cli, s);
        print_cluster(s);
        code = print_members(s);
    }
    print_problems(s, only);
    return code;
}

/* ---- the verb ---------------------------------------------------------------------------- */

/* A candidate may have a member's name: the member is meant, the other has its id. */
static int find_member(const struct quoit_status *s, const char *name,
                       const struct quoit_member **ret)
{
    size_t len = strlen(name);
    char id[33], names[512];
    size_t n = 0;

    for (size_t i = 0; i < s->n_members + s->n_candidates; i++) {
        const struct quoit_member *m =
            i < s->n_members ? &s->members[i] : &s->candidates[i - s->n_members];

        id_hex(m->id, id);
        if (!strcmp(m->name, name) || (len >= 4 && !strncmp(id, name, len))) {
            *ret = m;
            return CLI_OK;
        }
        if (n < sizeof(names) - 1)
            n += (size_t)snprintf(names + n, sizeof(names) - n, " %s", m->name);
    }
    report("admin status: there is no node %s; there are%s", name, names);
    return CLI_NOT_FOUND;
}

/* Healthy as a whole; of one member, that nothing is wrong with it. */
static bool is_healthy(const struct quoit_status *s, const struct quoit_member *only)
{
    if (!only)
        return s->verdict == QUOIT_HEALTHY;
    for (size_t i = 0; i < s->n_problems; i++)
        if (s->problems[i].member == only)
            return false;
    return is_up(only);
}

static int show(struct cli *cli, const struct quoit_status *s)
{
    const struct quoit_member *only = NULL;
    bool json = cli->output == OUTPUT_JSON || cli->output == OUTPUT_JSONL;
    int code = CLI_OK;

    if (cli->opt.n_args > 1)
        code = find_member(s, cli->opt.args[1], &only);
    if (code != CLI_OK)
        return code;
    if (json)
        code = print_json(cli, s, only);
    else if (!cli->quiet)
        code = print_screen(cli, s, only);
    if (code == CLI_OK && cli->opt.of[OPT_CHECK] && !is_healthy(s, only))
        return CLI_ASSERTION;
    return code;
}

int cmd_admin_status(struct cli *cli)
{
    struct quoit_options options = {.flags = QUOIT_FAIL_FAST};
    bool json = cli->output == OUTPUT_JSON || cli->output == OUTPUT_JSONL;
    struct quoit_result r;
    struct quoit *q;
    int code;

    if (cli->opt.of[OPT_VNODES] && !json)
        return report_usage(cli, "--vnodes needs -o json: there are thousands of them");
    code = cli_connect(cli, &q);
    if (code != CLI_OK)
        return code;
    if (quoit_status(q, cli->opt.of[OPT_VNODES] != NULL, &options, &r) < 0)
        code = report_result(cli, "admin status", slice_of(NULL, 0), &r);
    else
        code = show(cli, r.status);
    quoit_free(q);
    return code;
}
