/* config: what the operator asked for, from the command line and the YAML file.
 *
 * One table lists every option: its name, what it takes, and its help. Both sources go through
 * config_set, so a value means the same in both. Order: defaults, the file, the command line (which
 * wins), then config_check for what must hold between options.
 *
 * Everything that is wrong is told in one sentence before anything is touched; the caller prints it
 * and ends with status 2. Unknown names get the nearest known one as a suggestion.
 *
 * A few bounds (idle-timeout ...) stand only in the file: operators rarely need them, tests do.
 */
#include "server/edge/config.h"
#include "proto/err.h"
#include "server/core/worker.h"
#include "storage/store_lmdb.h"
#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#define DEFAULT_LISTEN "127.0.0.1:7400"
#define DEFAULT_PEER_LISTEN "127.0.0.1:7401"
#define DEFAULT_HTTP_LISTEN "127.0.0.1:7402"
#define DEFAULT_REPLICAS 3u

/* A quiet client is told nothing and costs half a kilobyte, so it may stay long. */
#define DEFAULT_IDLE_MS 600000u
/* A frame that was begun must be complete after this (plus a second per MiB). */
#define DEFAULT_FRAME_MS 10000u
/* A connection that takes nothing of what we have for it. */
#define DEFAULT_STALL_MS 10000u
/* What is in flight gets this long when the node stops. */
#define DEFAULT_STOP_MS 5000u
/* Connections of clients: memory for 16384 idle ones is some 10 MiB. */
#define DEFAULT_CONNECTIONS_MAX 16384u

/* LMDB maps 64 TiB at most on x86-64. */
#define MAP_BYTES_MAX (64ull << 40)

/* Faster than any disk, or a store of one GiB in three days: beyond these somebody meant something
 * else. */
#define SCRUB_RATE_LIMIT (1ull << 40)
#define SCRUB_RATE_LEAST 4096u

static const struct argp_option options[] = {
    {NULL, 0, NULL, 0, "Where this node lives", 1},
    {"data", KEY_DATA, "DIR", 0, "Directory for the node's data; made if it does not exist", 1},
    {"name", KEY_NAME, "NAME", 0, "Name shown to people, unique in the cluster [n-<id>]", 1},
    {"config", KEY_CONFIG, "FILE", 0, "YAML file with any of these options, without the dashes", 1},
    {NULL, 0, NULL, 0, "Addresses", 2},
    {"listen", KEY_LISTEN, "HOST:PORT", 0, "Where clients connect [" DEFAULT_LISTEN "]", 2},
    {"peer-listen", KEY_PEER_LISTEN, "HOST:PORT", 0,
     "Where other nodes connect [" DEFAULT_PEER_LISTEN "]", 2},
    {"http-listen", KEY_HTTP_LISTEN, "HOST:PORT", 0,
     "Where monitors find /metrics, /healthz and /readyz, or off [" DEFAULT_HTTP_LISTEN "]", 2},
    {"advertise", KEY_ADVERTISE, "HOST:PORT", 0,
     "What clients are told to dial, if it is not the listen address", 2},
    {"peer-advertise", KEY_PEER_ADVERTISE, "HOST:PORT", 0, "The same for the other nodes", 2},
    {"insecure", KEY_INSECURE, NULL, 0,
     "Allow addresses that are not loopback although nothing is encrypted or checked", 2},
    {NULL, 0, NULL, 0, "Cluster (looked at only while the data directory is empty)", 3},
    {"cluster", KEY_CLUSTER, "PEER,PEER,...", 0,
     "Form a cluster of these peer addresses: give the same list, with its own address in it, to "
     "each first node",
     3},
    {"join", KEY_JOIN, "PEER,...", 0, "Join the cluster of these peers: wait there to be added", 3},
    {"replicas", KEY_REPLICAS, "N", 0, "Nodes that hold each key [3]", 3},
    {"zone", KEY_ZONE, "ZONE", 0, "Rack or site: replicas of a key go to different zones", 3},
    {"weight", KEY_WEIGHT, "N", 0, "Share of the data relative to other nodes [1]", 3},
    {NULL, 0, NULL, 0, "Running", 4},
    {"workers", KEY_WORKERS, "N", 0, "Threads that serve requests [cores - 1]", 4},
    {"log-dir", KEY_LOG_DIR, "DIR", 0,
     "Directory of the write-ahead log, for a device of its own; made if it does not exist "
     "[in the data directory]",
     4},
    {"map-size", KEY_MAP_SIZE, "SIZE", 0, "The largest the data may grow to [64GiB]", 4},
    {"purge-age", KEY_PURGE_AGE, "TIME", 0,
     "What is left of a deletion is kept at least so long, then removed once all replicas agree; "
     "the same on all nodes [10m]",
     4},
    {"scrub-rate", KEY_SCRUB_RATE, "SIZE", 0,
     "Stored records are read again and checked, so many bytes per second, 4KiB or more; 0: never "
     "[all in a day, at most 1MiB]",
     4},
    {"log-level", KEY_LOG_LEVEL, "LEVEL", 0, "error, warn, info or debug [info]", 4},
    {"log-format", KEY_LOG_FORMAT, "FORMAT", 0, "logfmt, or json: one object a line [logfmt]", 4},
    {"accept-suspect", KEY_ACCEPT_SUSPECT, NULL, 0,
     "Start once on data that saw a failed sync; says what may be lost", 4},
    {"check-config", KEY_CHECK_CONFIG, NULL, 0, "Check options and file, then exit", 4},
    {"version", KEY_VERSION, NULL, 0, "Print the version and exit", 4},
    {0}};

/* Keys of the file that are no options. */
static const struct {
    const char *name;
    enum config_key key;
} file_only[] = {{"idle-timeout", KEY_IDLE_TIMEOUT},
                 {"frame-timeout", KEY_FRAME_TIMEOUT},
                 {"stall-timeout", KEY_STALL_TIMEOUT},
                 {"stop-timeout", KEY_STOP_TIMEOUT},
                 {"max-connections", KEY_MAX_CONNECTIONS}};
#define N_FILE_ONLY (sizeof(file_only) / sizeof(file_only[0]))
#define N_OPTIONS (sizeof(options) / sizeof(options[0]) - 1)

static const char doc[] =
    "Runs one node of quoit, a distributed key-value store.\v"
    "Examples:\n"
    "  quoitd --data /var/lib/quoit          one node, a working store by itself\n"
    "  quoitd --data n1 --listen 127.0.0.1:7410 --peer-listen 127.0.0.1:7411 \\\n"
    "         --http-listen 127.0.0.1:7412 \\\n"
    "         --cluster 127.0.0.1:7411,127.0.0.1:7421,127.0.0.1:7431\n"
    "      one of three nodes that form a cluster\n"
    "  quoitd --config /etc/quoit/quoit.yaml --check-config\n\n"
    "The file may also hold bounds that rarely need a change: idle-timeout (10m), "
    "frame-timeout (10s), stall-timeout (10s), stop-timeout (5s), max-connections "
    "(16384).\n\n"
    "SIGTERM finishes what is in flight and exits 0. The log goes to stderr.\n"
    "Exit: 0 stopped, 1 cannot run, 2 wrong usage or configuration.";

const char *config_key_name(enum config_key key)
{
    for (size_t i = 0; i < N_OPTIONS; i++)
        if (options[i].key == (int)key)
            return options[i].name;
    for (size_t i = 0; i < N_FILE_ONLY; i++)
        if (file_only[i].key == key)
            return file_only[i].name;
    return "?";
}

/* Levenshtein distance, for short names; anything long counts as far. */
static unsigned edit_distance(const char *a, const char *b)
{
    unsigned row[65];
    size_t la = strlen(a), lb = strlen(b);

    if (la > 64 || lb > 64)
        return 64;
    for (unsigned j = 0; j <= lb; j++)
        row[j] = j;
    for (unsigned i = 1; i <= la; i++) {
        unsigned diagonal = row[0];
        row[0] = i;
        for (unsigned j = 1; j <= lb; j++) {
            unsigned best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[lb];
}

const char *config_suggest(const char *name, bool in_file)
{
    const char *best = NULL;
    unsigned distance, nearest = (unsigned)strlen(name) / 3 + 2;

    for (size_t i = 0; i < N_OPTIONS; i++) {
        if (!options[i].name || (in_file && options[i].key > KEY_FILE_END))
            continue;
        distance = edit_distance(name, options[i].name);
        if (distance < nearest) {
            nearest = distance;
            best = options[i].name;
        }
    }
    for (size_t i = 0; in_file && i < N_FILE_ONLY; i++) {
        distance = edit_distance(name, file_only[i].name);
        if (distance < nearest) {
            nearest = distance;
            best = file_only[i].name;
        }
    }
    return best;
}

static void config_defaults(struct config *c)
{
    memset(c, 0, sizeof(*c));
    (void)address_parse(DEFAULT_LISTEN, &c->listen);
    (void)address_parse(DEFAULT_PEER_LISTEN, &c->peer_listen);
    (void)address_parse(DEFAULT_HTTP_LISTEN, &c->http_listen);
    c->replicas = DEFAULT_REPLICAS;
    c->weight = 1;
    c->map_bytes = STORE_LMDB_MAP_DEFAULT;
    c->purge_age_ms = WORKER_PURGE_AGE_MS;
    c->scrub_rate = CONFIG_SCRUB_RATE_AUTO;
    c->log_level = LOG_INFO;
    c->idle_ms = DEFAULT_IDLE_MS;
    c->frame_ms = DEFAULT_FRAME_MS;
    c->stall_ms = DEFAULT_STALL_MS;
    c->stop_ms = DEFAULT_STOP_MS;
    c->connections_max = DEFAULT_CONNECTIONS_MAX;
}

/* ---- setting one option -------------------------------------------------------------------- */

static int set_path(char *to, const char *text, char *why)
{
    if (!text[0] || strlen(text) >= CONFIG_PATH_BYTES) {
        snprintf(why, CONFIG_WHY_BYTES, "needs a path");
        return -ERR_CONFIG;
    }
    snprintf(to, CONFIG_PATH_BYTES, "%s", text);
    return 0;
}

/* Names go into tables, rings and file names: short, printable, no blanks. */
static int set_name(char *to, const char *text, char *why)
{
    size_t len = strlen(text);
    bool ok = len > 0 && len <= LIMIT_NAME_BYTES;
    for (size_t i = 0; ok && i < len; i++)
        ok = text[i] > ' ' && text[i] < 127 && !strchr("\"',\\", text[i]);
    if (!ok) {
        snprintf(why, CONFIG_WHY_BYTES,
                 "\"%.80s\" is no name: 1 to %u printable characters, no "
                 "blanks, quotes or commas",
                 text, LIMIT_NAME_BYTES);
        return -ERR_CONFIG;
    }
    memcpy(to, text, len + 1);
    return 0;
}

static int set_address(struct address *to, const char *text, char *why)
{
    if (address_parse(text, to) == 0)
        return 0;
    snprintf(why, CONFIG_WHY_BYTES,
             "\"%.80s\" is no address: HOST:PORT is needed, an IPv6 host in brackets", text);
    return -ERR_CONFIG;
}

static int set_http_listen(struct config *c, const char *text, char *why)
{
    if (strcmp(text, "off") != 0)
        return set_address(&c->http_listen, text, why);
    c->http_listen = (struct address){0};
    return 0;
}

static bool addresses_have(const struct config_addresses *list, const struct address *a)
{
    for (uint32_t i = 0; i < list->n; i++)
        if (list->list[i].port == a->port && strcmp(list->list[i].host, a->host) == 0)
            return true;
    return false;
}

static int set_addresses(struct config_addresses *to, const char *text, char *why)
{
    struct config_addresses list = {0};
    char one[ADDRESS_TEXT_BYTES];

    for (const char *p = text;; p++) {
        size_t len = strcspn(p, ",");
        struct address a;
        if (len >= sizeof(one)) {
            snprintf(why, CONFIG_WHY_BYTES, "an address is too long");
            return -ERR_CONFIG;
        }
        snprintf(one, sizeof(one), "%.*s", (int)len, p);
        if (set_address(&a, one, why) < 0)
            return -ERR_CONFIG;
        if (a.port == 0 || addresses_have(&list, &a) || list.n == CONFIG_ADDRESSES_MAX) {
            snprintf(why, CONFIG_WHY_BYTES, "%s: %s", one,
                     a.port == 0                      ? "port 0 cannot be dialled"
                     : list.n == CONFIG_ADDRESSES_MAX ? "the list is too long"
                                                      : "is listed twice");
            return -ERR_CONFIG;
        }
        list.list[list.n++] = a;
        p += len;
        if (!*p)
            break;
    }
    *to = list;
    return 0;
}

static int set_number(uint32_t *to, uint32_t min, uint32_t max, const char *text, char *why)
{
    if (config_number_parse(text, min, max, to) == 0)
        return 0;
    snprintf(why, CONFIG_WHY_BYTES, "\"%.40s\": a number from %u to %u is needed", text, min, max);
    return -ERR_CONFIG;
}

static int set_bool(bool *to, const char *text, char *why)
{
    if (config_bool_parse(text, to) == 0)
        return 0;
    snprintf(why, CONFIG_WHY_BYTES, "\"%.40s\": true or false is needed", text);
    return -ERR_CONFIG;
}

static int set_duration(uint32_t *to, const char *text, char *why)
{
    uint32_t ms;
    if (config_duration_parse(text, &ms) == 0 && ms >= 10) {
        *to = ms;
        return 0;
    }
    snprintf(why, CONFIG_WHY_BYTES, "\"%.40s\": a time such as 250ms, 10s or 5m is needed", text);
    return -ERR_CONFIG;
}

static int set_map_size(struct config *c, const char *text, char *why)
{
    uint64_t n;
    if (config_size_parse(text, &n) == 0 && n >= STORE_LMDB_MAP_MIN && n <= MAP_BYTES_MAX) {
        c->map_bytes = n & ~4095ull; /* whole pages */
        return 0;
    }
    snprintf(why, CONFIG_WHY_BYTES, "\"%.40s\": a size from 4MiB to 64TiB is needed, as in 64GiB",
             text);
    return -ERR_CONFIG;
}

static int set_scrub_rate(struct config *c, const char *text, char *why)
{
    uint64_t n;
    if (config_size_parse(text, &n) == 0 && n <= SCRUB_RATE_LIMIT &&
        (n == 0 || n >= SCRUB_RATE_LEAST)) {
        c->scrub_rate = n;
        return 0;
    }
    snprintf(why, CONFIG_WHY_BYTES,
             "\"%.40s\": a size from 4KiB to 1TiB is needed, as in 10MiB, or 0", text);
    return -ERR_CONFIG;
}

static int set_log_level(struct config *c, const char *text, char *why)
{
    if (log_level_parse(text, &c->log_level) == 0)
        return 0;
    snprintf(why, CONFIG_WHY_BYTES, "\"%.40s\": error, warn, info or debug is needed", text);
    return -ERR_CONFIG;
}

static int set_log_format(struct config *c, const char *text, char *why)
{
    if (log_format_parse(text, &c->log_format) == 0)
        return 0;
    snprintf(why, CONFIG_WHY_BYTES, "\"%.40s\": logfmt or json is needed", text);
    return -ERR_CONFIG;
}

int config_set(struct config *c, enum config_key key, const char *text, char why[CONFIG_WHY_BYTES])
{
    switch (key) {
    case KEY_DATA:
        return set_path(c->data, text, why);
    case KEY_CONFIG:
        return set_path(c->file, text, why);
    case KEY_LOG_DIR:
        return set_path(c->log_dir, text, why);
    case KEY_NAME:
        return set_name(c->name, text, why);
    case KEY_ZONE:
        return set_name(c->zone, text, why);
    case KEY_LISTEN:
        return set_address(&c->listen, text, why);
    case KEY_PEER_LISTEN:
        return set_address(&c->peer_listen, text, why);
    case KEY_HTTP_LISTEN:
        return set_http_listen(c, text, why);
    case KEY_ADVERTISE:
        return set_address(&c->advertise, text, why);
    case KEY_PEER_ADVERTISE:
        return set_address(&c->peer_advertise, text, why);
    case KEY_CLUSTER:
        return set_addresses(&c->cluster, text, why);
    case KEY_JOIN:
        return set_addresses(&c->join, text, why);
    case KEY_REPLICAS:
        return set_number(&c->replicas, 1, LIMIT_REPLICAS_MAX, text, why);
    case KEY_WEIGHT:
        return set_number(&c->weight, 1, CONFIG_WEIGHT_MAX, text, why);
    case KEY_WORKERS:
        return set_number(&c->workers, 1, LIMIT_WORKERS_MAX, text, why);
    case KEY_MAP_SIZE:
        return set_map_size(c, text, why);
    case KEY_PURGE_AGE:
        return set_duration(&c->purge_age_ms, text, why);
    case KEY_SCRUB_RATE:
        return set_scrub_rate(c, text, why);
    case KEY_LOG_LEVEL:
        return set_log_level(c, text, why);
    case KEY_LOG_FORMAT:
        return set_log_format(c, text, why);
    case KEY_INSECURE:
        return set_bool(&c->insecure, text, why);
    case KEY_ACCEPT_SUSPECT:
        return set_bool(&c->accept_suspect, text, why);
    case KEY_CHECK_CONFIG:
        return set_bool(&c->check_config, text, why);
    case KEY_IDLE_TIMEOUT:
        return set_duration(&c->idle_ms, text, why);
    case KEY_FRAME_TIMEOUT:
        return set_duration(&c->frame_ms, text, why);
    case KEY_STALL_TIMEOUT:
        return set_duration(&c->stall_ms, text, why);
    case KEY_STOP_TIMEOUT:
        return set_duration(&c->stop_ms, text, why);
    case KEY_MAX_CONNECTIONS:
        return set_number(&c->connections_max, 1, 1000000, text, why);
    case KEY_FILE_END:
    case KEY_VERSION:
    case KEY_END:
        break;
    }
    return -ERR_CONFIG;
}

/* ---- the two sources ----------------------------------------------------------------------- */

/* What the command line said, applied after the file. The texts are argv's. */
struct given {
    const char *text[KEY_END - KEY_DATA];
    const char *stray; /* an argument that is no option */
    bool version;
};

static error_t on_option(int key, char *arg, struct argp_state *state)
{
    struct given *given = state->input;
    if (key == ARGP_KEY_ARG) {
        given->stray = arg;
        return 0;
    }
    if (key < KEY_DATA || key >= KEY_END)
        return ARGP_ERR_UNKNOWN;
    if (key == KEY_VERSION)
        given->version = true;
    given->text[key - KEY_DATA] = arg ? arg : "true";
    return 0;
}

static bool option_known(const char *name, size_t len)
{
    static const char *const argps[] = {"help", "usage"};
    for (size_t i = 0; i < N_OPTIONS; i++) /* getopt takes abbreviations, so prefixes are known */
        if (options[i].name && strncmp(options[i].name, name, len) == 0)
            return true;
    for (size_t i = 0; i < sizeof(argps) / sizeof(argps[0]); i++)
        if (strncmp(argps[i], name, len) == 0)
            return true;
    return false;
}

/* getopt's own words for an unknown option suggest nothing, so it is looked for first. */
static int check_names(int argc, char **argv, char why[CONFIG_WHY_BYTES])
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        char name[64];
        size_t len = strncmp(argv[i], "--", 2) == 0 ? strcspn(argv[i] + 2, "=") : 0;
        if (len == 0 || option_known(argv[i] + 2, len))
            continue;
        snprintf(name, sizeof(name), "%.*s", (int)(len < 63 ? len : 63), argv[i] + 2);
        const char *near = config_suggest(name, false);
        snprintf(why, CONFIG_WHY_BYTES, "unknown option --%s%s%s%s", name,
                 near ? " (did you mean --" : "", near ? near : "", near ? "?)" : "");
        return -ERR_CONFIG;
    }
    return 0;
}

static int apply_file(struct config *c, const char *path, char why[CONFIG_WHY_BYTES])
{
    struct config_file *file;
    char what[CONFIG_WHY_BYTES];
    int rc = config_file_load(path, &file, why);

    if (rc < 0)
        return rc;
    for (int i = 0; rc == 0 && i < CONFIG_N_FILE_KEYS; i++) {
        enum config_key key = (enum config_key)(KEY_DATA + i);
        if (!file->values[i])
            continue;
        rc = config_set(c, key, file->values[i], what);
        if (rc < 0) {
            unsigned line = 0, column = 0;
            config_file_locate(path, config_key_name(key), &line, &column);
            snprintf(why, CONFIG_WHY_BYTES, "%.180s:%u:%u: %s: %.280s", path, line, column,
                     config_key_name(key), what);
        }
    }
    config_file_free(file);
    return rc;
}

static int apply_given(struct config *c, const struct given *given, char why[CONFIG_WHY_BYTES])
{
    char what[CONFIG_WHY_BYTES];
    for (int i = 0; i < KEY_END - KEY_DATA; i++) {
        enum config_key key = (enum config_key)(KEY_DATA + i);
        if (!given->text[i] || key == KEY_VERSION)
            continue;
        if (config_set(c, key, given->text[i], what) < 0) {
            snprintf(why, CONFIG_WHY_BYTES, "--%s: %.400s", config_key_name(key), what);
            return -ERR_CONFIG;
        }
    }
    return 0;
}

int config_load(struct config *c, int argc, char **argv, char why[CONFIG_WHY_BYTES])
{
    static const struct argp argp = {options, on_option, NULL, doc, NULL, NULL, NULL};
    struct given given = {0};
    int rc = check_names(argc, argv, why);

    if (rc < 0)
        return rc;
    argp_err_exit_status = 2;
    error_t err = argp_parse(&argp, argc, argv, 0, NULL, &given);
    if (err) {
        snprintf(why, CONFIG_WHY_BYTES, "%s", strerror(err));
        return -ERR_CONFIG;
    }
    if (given.version) {
        printf("quoitd %s\n", QUOIT_VERSION);
        return CONFIG_DONE;
    }
    if (given.stray) {
        snprintf(why, CONFIG_WHY_BYTES, "unexpected argument \"%.80s\"; see quoitd --help",
                 given.stray);
        return -ERR_CONFIG;
    }
    config_defaults(c);
    const char *path = given.text[KEY_CONFIG - KEY_DATA];
    if (path)
        rc = apply_file(c, path, why);
    if (rc == 0)
        rc = apply_given(c, &given, why);
    if (rc == 0)
        rc = config_check(c, why);
    if (rc < 0)
        return rc;
    if (c->check_config) {
        printf("quoitd: the configuration is valid\n");
        return CONFIG_DONE;
    }
    return CONFIG_GO;
}
