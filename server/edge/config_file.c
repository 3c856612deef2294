/* config_file: the YAML file, one flat mapping with the names of the command line's options.
 *
 *     data: /var/lib/quoit
 *     listen: 10.0.0.1:7400
 *     cluster: 10.0.0.1:7401,10.0.0.2:7401,10.0.0.3:7401
 *     insecure: true
 *
 * libcyaml loads and validates; every value is loaded as text and goes through the same setter as
 * the command line's, so there is one grammar for sizes, addresses and truths. libcyaml names the
 * offending key but places it at the start of its mapping, so the place shown is found by a walk
 * over the events of libyaml (which libcyaml is built on).
 */
#include "proto/err.h"
#include "server/edge/config.h"
#include <cyaml/cyaml.h>
#include <stdio.h>
#include <stdlib.h>
#include <yaml.h>

#define FILE_VALUE_BYTES 65536

#define FIELD(key, name)                                                                           \
    CYAML_FIELD_STRING_PTR(name, CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct config_file,     \
                           values[(key)-KEY_DATA], 0, FILE_VALUE_BYTES)

static const cyaml_schema_field_t file_fields[] = {
    FIELD(KEY_DATA, "data"),
    FIELD(KEY_NAME, "name"),
    FIELD(KEY_LISTEN, "listen"),
    FIELD(KEY_PEER_LISTEN, "peer-listen"),
    FIELD(KEY_ADVERTISE, "advertise"),
    FIELD(KEY_PEER_ADVERTISE, "peer-advertise"),
    FIELD(KEY_CLUSTER, "cluster"),
    FIELD(KEY_JOIN, "join"),
    FIELD(KEY_REPLICAS, "replicas"),
    FIELD(KEY_ZONE, "zone"),
    FIELD(KEY_WEIGHT, "weight"),
    FIELD(KEY_WORKERS, "workers"),
    FIELD(KEY_MAP_SIZE, "map-size"),
    FIELD(KEY_LOG_LEVEL, "log-level"),
    FIELD(KEY_INSECURE, "insecure"),
    FIELD(KEY_ACCEPT_SUSPECT, "accept-suspect"),
    FIELD(KEY_IDLE_TIMEOUT, "idle-timeout"),
    FIELD(KEY_FRAME_TIMEOUT, "frame-timeout"),
    FIELD(KEY_STALL_TIMEOUT, "stall-timeout"),
    FIELD(KEY_STOP_TIMEOUT, "stop-timeout"),
    FIELD(KEY_MAX_CONNECTIONS, "max-connections"),
    CYAML_FIELD_END,
};

static const cyaml_schema_value_t file_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct config_file, file_fields),
};

/* What libcyaml said, first line kept, and the place of its first backtrace line. */
struct complaint {
    char text[256];
    unsigned line, column;
};

__attribute__((format(printf, 3, 0))) static void complaint_take(cyaml_log_t level, void *ctx,
                                                                 const char *fmt, va_list args)
{
    struct complaint *c = ctx;
    char line[512];

    if (level < CYAML_LOG_WARNING)
        return;
    vsnprintf(line, sizeof(line), fmt, args);
    const char *body = strncmp(line, "Load: ", 6) == 0 ? line + 6 : line;
    const char *place = strstr(line, "(line: ");
    if (place && c->line == 0)
        sscanf(place, "(line: %u, column: %u)", &c->line, &c->column);
    else if (!place && !c->text[0])
        snprintf(c->text, sizeof(c->text), "%.*s", (int)strcspn(body, "\n"), body);
}

int config_file_locate(const char *path, const char *key, unsigned *ret_line, unsigned *ret_column)
{
    yaml_parser_t parser;
    yaml_event_t event;
    FILE *f = fopen(path, "r");
    int depth = 0, rc = -ERR_CONFIG;
    bool at_key = true, end = false;

    if (!f)
        return -ERR_CONFIG;
    if (!yaml_parser_initialize(&parser)) {
        fclose(f);
        return -ERR_NO_MEMORY;
    }
    yaml_parser_set_input_file(&parser, f);
    while (!end && rc < 0 && yaml_parser_parse(&parser, &event)) {
        bool opens =
            event.type == YAML_MAPPING_START_EVENT || event.type == YAML_SEQUENCE_START_EVENT;
        bool closes = event.type == YAML_MAPPING_END_EVENT || event.type == YAML_SEQUENCE_END_EVENT;
        bool scalar = event.type == YAML_SCALAR_EVENT;
        if (scalar && depth == 1 && at_key &&
            strcmp((const char *)event.data.scalar.value, key) == 0) {
            *ret_line = (unsigned)event.start_mark.line + 1;
            *ret_column = (unsigned)event.start_mark.column + 1;
            rc = 0;
        }
        depth += opens ? 1 : closes ? -1 : 0;
        if (depth == 1)
            at_key = scalar ? !at_key : true; /* a nested value that ended, or the mapping began */
        end = event.type == YAML_STREAM_END_EVENT;
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    fclose(f);
    return rc;
}

static int complain(const char *path, struct complaint *c, cyaml_err_t err,
                    char why[CONFIG_WHY_BYTES])
{
    static const char unexpected[] = "Unexpected key: ";

    if (err == CYAML_ERR_FILE_OPEN) {
        snprintf(why, CONFIG_WHY_BYTES, "cannot open the configuration file %s", path);
    } else if (strncmp(c->text, unexpected, strlen(unexpected)) == 0) {
        const char *key = c->text + strlen(unexpected);
        const char *near = config_suggest(key, true);
        config_file_locate(path, key, &c->line, &c->column);
        snprintf(why, CONFIG_WHY_BYTES, "%s:%u:%u: unknown key \"%s\"%s%s%s", path, c->line,
                 c->column, key, near ? "; did you mean \"" : "", near ? near : "",
                 near ? "\"?" : "");
    } else {
        snprintf(why, CONFIG_WHY_BYTES, "%s:%u:%u: %s", path, c->line, c->column,
                 c->text[0] ? c->text : cyaml_strerror(err));
    }
    return -ERR_CONFIG;
}

int config_file_load(const char *path, struct config_file **ret, char why[CONFIG_WHY_BYTES])
{
    struct complaint complaint = {0};
    struct config_file *file = NULL;
    const cyaml_config_t config = {.log_fn = complaint_take,
                                   .log_ctx = &complaint,
                                   .mem_fn = cyaml_mem,
                                   .log_level = CYAML_LOG_WARNING};

    cyaml_err_t err = cyaml_load_file(path, &config, &file_schema, (cyaml_data_t **)&file, NULL);
    if (err != CYAML_OK)
        return complain(path, &complaint, err, why);
    if (!file && !(file = calloc(1, sizeof(*file)))) /* an empty file: no keys */
        return -ERR_NO_MEMORY;
    *ret = file;
    return 0;
}

void config_file_free(struct config_file *file)
{
    static const cyaml_config_t config = {.mem_fn = cyaml_mem};
    cyaml_free(&config, &file_schema, file, 0);
}
