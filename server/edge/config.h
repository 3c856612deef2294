/* config: what the operator asked for, from the command line and the YAML file. See config.c. */
#ifndef QUOIT_EDGE_CONFIG_H
#define QUOIT_EDGE_CONFIG_H

#include "server/core/form.h"
#include "server/edge/address.h"
#include "server/edge/log.h"

#define CONFIG_WHY_BYTES 512
#define CONFIG_ADDRESSES_MAX FORM_NODES_MAX
#define CONFIG_PATH_BYTES 4096

#define CONFIG_WEIGHT_MAX 65535u

/* As the store's size says: see scrub.h. */
#define CONFIG_SCRUB_RATE_AUTO UINT64_MAX

struct config_addresses {
    uint32_t n;
    struct address list[CONFIG_ADDRESSES_MAX];
};

struct config {
    char data[CONFIG_PATH_BYTES];
    char log_dir[CONFIG_PATH_BYTES]; /* "": within data */
    char file[CONFIG_PATH_BYTES];    /* "" = none */
    char name[LIMIT_NAME_BYTES + 1]; /* "" = made from the node's id */
    char zone[LIMIT_NAME_BYTES + 1];
    struct address listen, peer_listen, http_listen; /* http_listen: host "" = off */
    struct sockaddr_storage listen_addr, peer_listen_addr, http_listen_addr; /* by config_check */
    socklen_t listen_len, peer_listen_len, http_listen_len;
    struct address advertise, peer_advertise; /* host "": the listen address, with its real port */
    struct config_addresses cluster, join;
    uint32_t replicas, weight;
    uint32_t workers; /* 0 = cores - 1, at least 1 */
    uint64_t map_bytes;
    uint64_t scrub_rate; /* bytes per second; 0: none */
    uint32_t purge_age_ms;
    enum log_level log_level;
    enum log_format log_format;
    bool insecure, accept_suspect, check_config;

    /* Only in the file: bounds that tests and unusual sites change. */
    uint32_t idle_ms, frame_ms, stall_ms, stop_ms;
    uint32_t connections_max;
};

enum config_outcome {
    CONFIG_GO = 0,   /* start the node */
    CONFIG_DONE = 1, /* --version or --check-config: told on stdout; exit 0 */
};

/* Defaults, then the file, then the command line. CONFIG_GO, CONFIG_DONE, or -ERR_CONFIG with a
 * sentence in why. --help and --usage print and end the process with status 0. */
int config_load(struct config *c, int argc, char **argv, char why[CONFIG_WHY_BYTES]);

/* All listen addresses are loopback. */
bool config_is_local(const struct config *c);

/* ---- parts, for config_*.c and tests ----------------------------------------------------------
 */

/* "64GiB", "500MB", "4096". 0 or -ERR_CONFIG. */
int config_size_parse(const char *text, uint64_t *ret);
/* "250ms", "10s", "5m", "1h". 0 or -ERR_CONFIG. */
int config_duration_parse(const char *text, uint32_t *ret_ms);
/* Decimal, min .. max. 0 or -ERR_CONFIG. */
int config_number_parse(const char *text, uint32_t min, uint32_t max, uint32_t *ret);
int config_bool_parse(const char *text, bool *ret);

enum config_key {
    KEY_DATA = 256,
    KEY_NAME,
    KEY_LISTEN,
    KEY_PEER_LISTEN,
    KEY_HTTP_LISTEN,
    KEY_ADVERTISE,
    KEY_PEER_ADVERTISE,
    KEY_CLUSTER,
    KEY_JOIN,
    KEY_REPLICAS,
    KEY_ZONE,
    KEY_WEIGHT,
    KEY_WORKERS,
    KEY_LOG_DIR,
    KEY_MAP_SIZE,
    KEY_SCRUB_RATE,
    KEY_PURGE_AGE,
    KEY_LOG_LEVEL,
    KEY_LOG_FORMAT,
    KEY_INSECURE,
    KEY_ACCEPT_SUSPECT,
    KEY_IDLE_TIMEOUT,
    KEY_FRAME_TIMEOUT,
    KEY_STALL_TIMEOUT,
    KEY_STOP_TIMEOUT,
    KEY_MAX_CONNECTIONS,
    KEY_FILE_END, /* what stands before may stand in the file */
    KEY_CONFIG,
    KEY_CHECK_CONFIG,
    KEY_VERSION,
    KEY_END
};
#define CONFIG_N_FILE_KEYS (KEY_FILE_END - KEY_DATA)

/* Sets one option from its text. 0 or -ERR_CONFIG with why = what is wrong with the text. */
int config_set(struct config *c, enum config_key key, const char *text, char why[CONFIG_WHY_BYTES]);
const char *config_key_name(enum config_key key);
/* The known name nearest to a mistyped one, or NULL if none is near. */
const char *config_suggest(const char *name, bool in_file);
/* Values of the file, by key - KEY_DATA; NULL where absent. Freed by config_file_free. */
struct config_file {
    char *values[CONFIG_N_FILE_KEYS];
    struct config_list {
        char **entries;
        unsigned n;
    } cluster, join; /* only while the file is read; then they are texts in values */
};
int config_file_load(const char *path, struct config_file **ret, char why[CONFIG_WHY_BYTES]);
void config_file_free(struct config_file *file);
/* Line and column (from 1) of a key of the file's top mapping. 0, or -ERR_CONFIG. */
int config_file_locate(const char *path, const char *key, unsigned *ret_line, unsigned *ret_column);
/* What must hold between options; looks names up. */
int config_check(struct config *c, char why[CONFIG_WHY_BYTES]);

#endif
