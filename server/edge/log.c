/* log: one line per event on stderr, in logfmt or as a JSON object:
 *
 *   time=2026-11-21T21:54:28.123Z level=info msg="quoitd: listening" for=clients address=...
 *   {"time":"2026-11-21T21:54:28.123Z","level":"info","msg":"quoitd: listening","for":"clients",...
 *
 * One write per line, so that lines of several threads (and of several processes on one terminal)
 * do not mix. A line that cannot be written is lost: logging never blocks the data path for long
 * and never fails it.
 *
 * Repeats: each message text may pass LOG_REPEATS_MAX times per window; what is held back is told
 * by `held_back=N` on the first line of the next window. So a peer that flaps or a client that
 * sends rubbish cannot fill the disk. The text is a literal in the program, so its address is the
 * key.
 *
 * Deliberately not done: files, rotation, syslog. stderr is what service managers collect.
 */
#include "server/edge/log.h"
#include "proto/err.h"
#include "server/edge/log_json.h"
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static const char *const level_names[] = {"error", "warn", "info", "debug"};

void log_init(struct log *log, enum log_level level, int fd)
{
    *log = (struct log){.level = level, .fd = fd};
    pthread_mutex_init(&log->lock, NULL);
}

void log_deinit(struct log *log)
{
    pthread_mutex_destroy(&log->lock);
}

int log_level_parse(const char *text, enum log_level *ret)
{
    for (unsigned i = 0; i < sizeof(level_names) / sizeof(level_names[0]); i++)
        if (strcmp(text, level_names[i]) == 0) {
            *ret = (enum log_level)i;
            return 0;
        }
    return -ERR_CONFIG;
}

int log_format_parse(const char *text, enum log_format *ret)
{
    static const char *const names[] = {"logfmt", "json"};

    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(text, names[i]) == 0) {
            *ret = (enum log_format)i;
            return 0;
        }
    return -ERR_CONFIG;
}

static uint64_t monotonic_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* Whether a line with this text may pass; *ret_held = lines held back before it. Texts beyond the
 * table always pass. Called with the lock held. */
static bool log_admit(struct log *log, const char *msg, uint32_t *ret_held)
{
    uint64_t now_ms = monotonic_ms();
    struct log_repeat *r = NULL;

    *ret_held = 0;
    for (unsigned i = 0; i < LOG_TEXTS_MAX && !r; i++)
        if (log->repeats[i].msg == msg || !log->repeats[i].msg)
            r = &log->repeats[i];
    if (!r)
        return true;
    if (!r->msg || now_ms - r->since_ms >= LOG_WINDOW_MS) {
        if (r->msg && r->n > LOG_REPEATS_MAX)
            *ret_held = r->n - LOG_REPEATS_MAX;
        *r = (struct log_repeat){.msg = msg, .since_ms = now_ms};
    }
    return ++r->n <= LOG_REPEATS_MAX;
}

#define STAMP_BYTES 32

static void log_stamp(char ret[STAMP_BYTES])
{
    struct timespec ts;
    struct tm tm;
    size_t n;

    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);
    n = strftime(ret, STAMP_BYTES, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(ret + n, STAMP_BYTES - n, ".%03ldZ", ts.tv_nsec / 1000000);
}

/* A line to be: what it says, and where it goes. */
struct line {
    enum log_level level;
    const char *msg, *fmt, *fields;
    uint32_t held;
};

/* As much as was printed of n bytes into a place for cap - 1. */
static size_t printed(int n, size_t cap)
{
    return n < 0 ? 0 : (size_t)n < cap ? (size_t)n : cap - 1;
}

static size_t make_logfmt(char *out, size_t cap, const struct line *l)
{
    char stamp[STAMP_BYTES];
    size_t n;

    log_stamp(stamp);
    n = printed(snprintf(out, cap, "time=%s level=%s msg=\"quoitd: %s\"%s%s", stamp,
                         level_names[l->level], l->msg, l->fields[0] ? " " : "", l->fields),
                cap);
    if (l->held && n + 24 < cap)
        n += printed(snprintf(out + n, cap - n, " held_back=%u", l->held), cap - n);
    return n;
}

static size_t make_json(char *out, size_t cap, const struct line *l)
{
    size_t end = cap - 32; /* kept for the last member and the brace */
    char stamp[STAMP_BYTES];
    size_t n;

    log_stamp(stamp);
    n = printed(snprintf(out, end, "{\"time\":\"%s\",\"level\":\"%s\",\"msg\":\"quoitd: %s\"",
                         stamp, level_names[l->level], l->msg),
                end);
    n += log_json_fields(out + n, end - n, l->fmt, l->fields);
    if (l->held)
        n += printed(snprintf(out + n, cap - n, ",\"held_back\":%u", l->held), cap - n);
    out[n++] = '}';
    return n;
}

void log_write(struct log *log, enum log_level level, const char *msg, const char *fmt, ...)
{
    char fields[LOG_LINE_BYTES], out[LOG_LINE_BYTES];
    struct line line = {.level = level, .msg = msg, .fmt = fmt, .fields = fields};
    va_list args;

    if (level > log->level)
        return;
    va_start(args, fmt);
    if (vsnprintf(fields, sizeof(fields), fmt, args) < 0)
        fields[0] = '\0';
    va_end(args);
    pthread_mutex_lock(&log->lock);
    if (log_admit(log, msg, &line.held)) {
        size_t n = log->format == LOG_JSON ? make_json(out, sizeof(out) - 1, &line)
                                           : make_logfmt(out, sizeof(out) - 1, &line);

        out[n++] = '\n';
        ssize_t written = write(log->fd, out, n);
        (void)written;
    }
    pthread_mutex_unlock(&log->lock);
}

struct log_text log_text(struct slice s)
{
    static const char hex[] = "0123456789abcdef";
    struct log_text t;
    bool quote = s.len == 0;
    size_t n = 0;

    for (size_t i = 0; i < s.len; i++)
        quote |= s.data[i] <= ' ' || s.data[i] == '"' || s.data[i] == '=' || s.data[i] >= 127;
    if (quote)
        t.s[n++] = '"';
    for (size_t i = 0; i < s.len && n + 8 < sizeof(t.s); i++) {
        uint8_t c = s.data[i];
        if (c == '"' || c == '\\') {
            t.s[n++] = '\\';
            t.s[n++] = (char)c;
        } else if (c < ' ' || c >= 127) {
            t.s[n++] = '\\';
            t.s[n++] = 'x';
            t.s[n++] = hex[c >> 4];
            t.s[n++] = hex[c & 15];
        } else {
            t.s[n++] = (char)c;
        }
    }
    if (quote)
        t.s[n++] = '"';
    t.s[n] = 0;
    return t;
}

struct log_text log_id(const struct wire_id *id)
{
    struct log_text t;
    snprintf(t.s, sizeof(t.s), "%02x%02x%02x", id->b[0], id->b[1], id->b[2]);
    return t;
}
