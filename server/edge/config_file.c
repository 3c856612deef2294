/* config_file: the YAML file, one flat mapping with the names of the command line's options.
 *
 *     data: /var/lib/quoit
 *     listen: 10.0.0.1:7400
 *     cluster:
 *       - 10.0.0.1:7401
 *       - 10.0.0.2:7401
 *       - 10.0.0.3:7401
 *     insecure: true
 *
 * cluster and join may be lists, as above, or one text with commas, as on the command line. A
 * schema of libcyaml knows one shape for a key, so a walk finds the shapes out first; a list
 * becomes the text with commas.
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
#define FILE_ENTRIES_MAX 4096

#define FIELD(key, name)                                                                           \
    CYAML_FIELD_STRING_PTR(name, CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct config_file,     \
                           values[(key)-KEY_DATA], 0, FILE_VALUE_BYTES)

static const cyaml_schema_field_t file_fields[] = {
    FIELD(KEY_DATA, "data"),
    FIELD(KEY_NAME, "name"),
    FIELD(KEY_LISTEN, "listen"),
    FIELD(KEY_PEER_LISTEN, "peer-listen"),
    FIELD(KEY_HTTP_LISTEN, "http-listen"),
    FIELD(KEY_ADVERTISE, "advertise"),
    FIELD(KEY_PEER_ADVERTISE, "peer-advertise"),
    FIELD(KEY_CLUSTER, "cluster"),
    FIELD(KEY_JOIN, "join"),
    FIELD(KEY_REPLICAS, "replicas"),
    FIELD(KEY_ZONE, "zone"),
    FIELD(KEY_WEIGHT, "weight"),
    FIELD(KEY_WORKERS, "workers"),
    FIELD(KEY_LOG_DIR, "log-dir"),
    FIELD(KEY_MAP_SIZE, "map-size"),
    FIELD(KEY_SCRUB_RATE, "scrub-rate"),
    FIELD(KEY_LOG_LEVEL, "log-level"),
    FIELD(KEY_LOG_FORMAT, "log-format"),
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

static const cyaml_schema_value_t entry_schema = {
    CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 0, FILE_VALUE_BYTES),
};

#define LIST_FIELD(name, member)                                                                   \
    CYAML_FIELD_SEQUENCE_COUNT(name, CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct config_file, \
                               member.entries, member.n, &entry_schema, 0, FILE_ENTRIES_MAX)

/* Instead of the fields of the same name in file_fields. */
static const cyaml_schema_field_t list_fields[] = {
    LIST_FIELD("cluster", cluster),
    LIST_FIELD("join", join),
};

#define N_FIELDS (sizeof(file_fields) / sizeof(file_fields[0]))
#define N_LIST_FIELDS (sizeof(list_fields) / sizeof(list_fields[0]))

/* ---- shapes -------------------------------------------------------------------------------- */

/* What the walk over the file found. */
struct shapes {
    bool nothing;              /* no document, or an empty one */
    bool lists[N_LIST_FIELDS]; /* a list stands there, not a text */
    int key, list;             /* of the entry being walked: index in the tables, or -1 */
    unsigned line, column;     /* of its key */
    const char *wrong;         /* what is wrong with its shape, or NULL */
};

static int field_of(const cyaml_schema_field_t *fields, size_t n, const char *key)
{
    for (size_t i = 0; i < n; i++)
        if (fields[i].key && strcmp(fields[i].key, key) == 0)
            return (int)i;
    return -1;
}

static void shape_root(struct shapes *s, const yaml_event_t *e)
{
    static const char wrong[] = "the file must be a mapping: one \"option: value\" a line";
    const char *text = e->type == YAML_SCALAR_EVENT ? (const char *)e->data.scalar.value : NULL;

    if (text && (!text[0] || strcmp(text, "~") == 0 || strcmp(text, "null") == 0))
        s->nothing = true;
    else if (text || e->type == YAML_SEQUENCE_START_EVENT)
        s->wrong = wrong;
    else if (e->type == YAML_MAPPING_START_EVENT)
        s->nothing = false;
}

static void shape_key(struct shapes *s, const yaml_event_t *e)
{
    const char *key = (const char *)e->data.scalar.value;

    s->key = field_of(file_fields, N_FIELDS, key);
    s->list = field_of(list_fields, N_LIST_FIELDS, key);
    s->line = (unsigned)e->start_mark.line + 1;
    s->column = (unsigned)e->start_mark.column + 1;
}

/* A list or a mapping begins as the value of a key, or (inner) as an entry of that. */
static void shape_value(struct shapes *s, const yaml_event_t *e, bool inner)
{
    if (s->list >= 0 && !inner && e->type == YAML_SEQUENCE_START_EVENT)
        s->lists[s->list] = true;
    else if (s->list >= 0)
        s->wrong = "a list of addresses is wanted, or one text with commas between them";
    else if (s->key >= 0)
        s->wrong = "one value is wanted, not a list or a mapping";
}

/* What cannot be parsed ends the walk: libcyaml tells it. */
static void shapes_walk(struct shapes *s, FILE *f)
{
    yaml_parser_t parser;
    yaml_event_t e;
    int depth = 0;
    bool at_key = true, end = false;

    *s = (struct shapes){.nothing = true, .key = -1, .list = -1, .line = 1, .column = 1};
    if (!yaml_parser_initialize(&parser))
        return;
    yaml_parser_set_input_file(&parser, f);
    while (!end && !s->wrong && yaml_parser_parse(&parser, &e)) {
        bool opens = e.type == YAML_MAPPING_START_EVENT || e.type == YAML_SEQUENCE_START_EVENT;
        bool closes = e.type == YAML_MAPPING_END_EVENT || e.type == YAML_SEQUENCE_END_EVENT;
        bool scalar = e.type == YAML_SCALAR_EVENT;
        if (depth == 0)
            shape_root(s, &e);
        else if (depth == 1 && at_key && scalar)
            shape_key(s, &e);
        else if (opens)
            shape_value(s, &e, depth > 1);
        depth += opens ? 1 : closes ? -1 : 0;
        if (depth == 1)
            at_key = scalar || e.type == YAML_ALIAS_EVENT ? !at_key : true;
        end = e.type == YAML_STREAM_END_EVENT || e.type == YAML_DOCUMENT_END_EVENT;
        yaml_event_delete(&e);
    }
    if (!end && !s->wrong)
        s->nothing = false;
    yaml_parser_delete(&parser);
}

/* ---- complaints ---------------------------------------------------------------------------- */

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

/* ---- loading ------------------------------------------------------------------------------- */

/* The list becomes one text, as on the command line. Frees the list. */
static int join_list(struct config_list *list, char **ret)
{
    size_t len = 1;

    for (unsigned i = 0; i < list->n; i++)
        len += strlen(list->entries[i]) + 1;
    char *text = list->entries ? calloc(1, len) : NULL;
    char *at = text;
    for (unsigned i = 0; i < list->n; i++) {
        if (text)
            at += sprintf(at, "%s%s", i ? "," : "", list->entries[i]);
        free(list->entries[i]);
    }
    bool failed = list->entries && !text;
    free(list->entries);
    *list = (struct config_list){0};
    if (text)
        *ret = text;
    return failed ? -ERR_NO_MEMORY : 0;
}

static int load_shaped(const char *path, const struct shapes *shapes, struct config_file **ret,
                       char why[CONFIG_WHY_BYTES])
{
    cyaml_schema_field_t fields[N_FIELDS];
    const cyaml_schema_value_t schema = {
        CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct config_file, fields),
    };
    struct complaint complaint = {0};
    const cyaml_config_t config = {.log_fn = complaint_take,
                                   .log_ctx = &complaint,
                                   .mem_fn = cyaml_mem,
                                   .log_level = CYAML_LOG_WARNING};

    memcpy(fields, file_fields, sizeof(fields));
    for (size_t i = 0; i < N_LIST_FIELDS; i++)
        if (shapes->lists[i])
            fields[field_of(file_fields, N_FIELDS, list_fields[i].key)] = list_fields[i];
    cyaml_err_t err = cyaml_load_file(path, &config, &schema, (cyaml_data_t **)ret, NULL);
    return err == CYAML_OK ? 0 : complain(path, &complaint, err, why);
}

int config_file_load(const char *path, struct config_file **ret, char why[CONFIG_WHY_BYTES])
{
    struct config_file *file = NULL;
    struct shapes shapes = {0};
    FILE *f = fopen(path, "r");

    if (f) { /* else the load says so */
        shapes_walk(&shapes, f);
        fclose(f);
    }
    if (shapes.wrong) {
        snprintf(why, CONFIG_WHY_BYTES, "%s:%u:%u: %s%s%s", path, shapes.line, shapes.column,
                 shapes.key >= 0 ? file_fields[shapes.key].key : "", shapes.key >= 0 ? ": " : "",
                 shapes.wrong);
        return -ERR_CONFIG;
    }
    int rc = shapes.nothing ? 0 : load_shaped(path, &shapes, &file, why);
    if (rc < 0)
        return rc;
    if (!file && !(file = calloc(1, sizeof(*file)))) /* an empty file: no keys */
        return -ERR_NO_MEMORY;
    int a = join_list(&file->cluster, &file->values[KEY_CLUSTER - KEY_DATA]);
    int b = join_list(&file->join, &file->values[KEY_JOIN - KEY_DATA]);
    if (a < 0 || b < 0) {
        snprintf(why, CONFIG_WHY_BYTES, "out of memory");
        config_file_free(file);
        return -ERR_NO_MEMORY;
    }
    *ret = file;
    return 0;
}

void config_file_free(struct config_file *file)
{
    static const cyaml_config_t config = {.mem_fn = cyaml_mem};
    cyaml_free(&config, &file_schema, file, 0);
}
