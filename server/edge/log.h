/* log: one line per event on stderr, in logfmt or JSON. See log.c. Thread-safe. */
#ifndef QUOIT_EDGE_LOG_H
#define QUOIT_EDGE_LOG_H

#include "proto/slice.h"
#include "proto/wire.h"
#include <pthread.h>

enum log_level {
    LOG_ERROR = 0,
    LOG_WARN,
    LOG_INFO,
    LOG_DEBUG
};

enum log_format {
    LOG_LOGFMT = 0,
    LOG_JSON
};

/* Lines of one message text that pass per window; the rest is counted and told with the next one.
 */
#define LOG_REPEATS_MAX 10u
#define LOG_WINDOW_MS 10000u
/* Message texts that are counted at a time. More than there are in the program. */
#define LOG_TEXTS_MAX 64u
/* One line, so that one write carries it whole. */
#define LOG_LINE_BYTES 2048u

struct log_repeat {
    const char *msg;
    uint64_t since_ms;
    uint32_t n;
};

struct log {
    pthread_mutex_t lock;
    enum log_level level;
    enum log_format format;
    int fd;
    struct log_repeat repeats[LOG_TEXTS_MAX];
};

/* In logfmt, unless log.format is set before the first line. */
void log_init(struct log *log, enum log_level level, int fd);
void log_deinit(struct log *log);

/* 0, or -ERR_CONFIG: "error", "warn", "info", "debug". */
int log_level_parse(const char *text, enum log_level *ret);
/* 0, or -ERR_CONFIG: "logfmt", "json". */
int log_format_parse(const char *text, enum log_format *ret);

/* msg is a literal (it is the key by which repeats are counted). fmt and what follows are the
 * fields, "name=%s ..."; text that came from elsewhere goes through log_text. */
void log_write(struct log *log, enum log_level level, const char *msg, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

#define log_error(log, msg, ...) log_write(log, LOG_ERROR, msg, __VA_ARGS__)
#define log_warn(log, msg, ...) log_write(log, LOG_WARN, msg, __VA_ARGS__)
#define log_info(log, msg, ...) log_write(log, LOG_INFO, msg, __VA_ARGS__)
#define log_debug(log, msg, ...) log_write(log, LOG_DEBUG, msg, __VA_ARGS__)

/* A field's value made safe for one line: quoted if need be, control bytes as \xNN, cut to fit. */
struct log_text {
    char s[160];
};
struct log_text log_text(struct slice s);
struct log_text log_id(const struct wire_id *id); /* first six hex digits */

#define LOG_STR(text) (log_text(slice_str(text)).s)
#define LOG_SLICE(slice) (log_text(slice).s)
#define LOG_ID(id) (log_id(id).s)

#endif
