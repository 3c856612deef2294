/* quoit.h: the client library of quoit, a distributed key-value store.
 *
 *     struct quoit_config config;
 *     struct quoit *q;
 *     struct quoit_result r;
 *
 *     quoit_config_init(&config);
 *     config.endpoints = "10.0.0.1:7400,10.0.0.2:7400";
 *     if (quoit_new(&config, &q) < 0) ...
 *     if (quoit_put(q, "user:42", 7, "Ada", 3, NULL, &r) < 0)
 *         fprintf(stderr, "%s\n", r.text);
 *     if (quoit_get(q, "user:42", 7, NULL, &r) == 0)
 *         fwrite(r.value, 1, r.value_len, stdout);
 *     quoit_free(q);
 *
 * One handle is one event loop, driven by the thread that calls it: nothing happens behind your
 * back, and nothing happens unless you call. Asynchronous calls (quoit_x_async) queue a request and
 * return; their callbacks run inside quoit_poll. Blocking calls (quoit_x) are the same request and
 * a loop of polls; callbacks of other requests may run meanwhile. A handle is NOT thread-safe: use
 * one per thread. Different handles share nothing.
 *
 * What the library does by itself, always within the timeout of the call:
 *   - connects when needed, and again after a loss, with jittered exponential back-off;
 *   - learns the cluster's ring and sends a request straight to the primary owner of its key, or to
 *     another owner, or to any endpoint (`direct` turns this off);
 *   - moves a get, scan, ping or ring on to another node when a connection is lost, a node does not
 *     answer for a third of the timeout, or refuses with OVERLOADED, NOT_READY, SHUTTING_DOWN,
 *     TOO_MANY_CONNECTIONS, CLOCK or NO_MEMORY (these with back-off), and, a few times only, with
 *     NO_QUORUM; the same with a put or del that was certainly not sent, or was refused so;
 *   - NEVER sends a put or del a second time that may have been received: the call ends with
 *     QUOIT_ERR_UNKNOWN_OUTCOME, and it may have been stored or may still be. QUOIT_REPEAT in the
 *     options of the call allows it, where writing the same value twice does no harm.
 *
 * Failures are negative: -QUOIT_ERR_x, 0 is success, QUOIT_NOT_FOUND (positive) is a result. Bytes
 * in a result are borrowed: in a callback until it returns, after a blocking call until the next
 * call with the same handle.
 */
#ifndef QUOIT_H
#define QUOIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef QUOIT_API
#define QUOIT_API __attribute__((visibility("default")))
#endif

#define QUOIT_KEY_BYTES_MAX 400u         /* key and sort key together */
#define QUOIT_VALUE_BYTES_MAX (8u << 20) /* one value */
#define QUOIT_TIMEOUT_MS_MAX 60000u      /* longest timeout of one call */
#define QUOIT_ENDPOINTS_MAX 64u
#define QUOIT_CONNECTIONS_MAX 4096u
#define QUOIT_REQUESTS_MAX (1u << 20)
#define QUOIT_DEFAULT_PORT 7400
#define QUOIT_OWNERS_MAX 8

/* ---- outcomes ------------------------------------------------------------------------------ */

#define QUOIT_NOT_FOUND 1 /* get: there is no such key */

/* The same numbers as on the wire; calls return them negated. */
enum quoit_error {
    QUOIT_ERR_INTERNAL = 1,
    QUOIT_ERR_BAD_REQUEST = 2,   /* an argument is not valid, or a call inside a callback */
    QUOIT_ERR_UNSUPPORTED = 3,   /* the node speaks another version */
    QUOIT_ERR_KEY_TOO_LARGE = 4, /* limit and actual in the result */
    QUOIT_ERR_KEY_EMPTY = 5,
    QUOIT_ERR_VALUE_TOO_LARGE = 6, /* limit and actual in the result */
    QUOIT_ERR_FRAME_TOO_LARGE = 7,
    QUOIT_ERR_UNKNOWN_BUCKET = 8,
    QUOIT_ERR_OVERLOADED = 9,
    QUOIT_ERR_TOO_MANY_CONNECTIONS = 10,
    QUOIT_ERR_DEADLINE = 11,        /* no answer in time; nothing was written */
    QUOIT_ERR_UNKNOWN_OUTCOME = 12, /* put, del: may have been stored, or may still be */
    QUOIT_ERR_NO_QUORUM = 13,       /* too few replicas are up; nothing was written */
    QUOIT_ERR_NO_SPACE = 14,        /* writes are refused; reads and deletes work */
    QUOIT_ERR_CLOCK = 15,
    QUOIT_ERR_NOT_OWNER = 16,
    QUOIT_ERR_NOT_YET = 17,
    QUOIT_ERR_CORRUPT = 18, /* the stored record fails its checksum */
    QUOIT_ERR_NOT_READY = 19,
    QUOIT_ERR_SHUTTING_DOWN = 20,
    QUOIT_ERR_WRONG_CLUSTER = 21,
    QUOIT_ERR_STALE_BOOT = 22,
    QUOIT_ERR_NO_MEMORY = 23,
    QUOIT_ERR_IO = 24,
    QUOIT_ERR_UNREACHABLE = 25, /* no node could be reached; nothing was sent */
    QUOIT_ERR_CLOSED = 26,      /* the handle was freed before the answer; nothing was sent */
    QUOIT_ERR_FORMAT = 27,
    QUOIT_ERR_IN_USE = 28,
    QUOIT_ERR_CONFIG = 29, /* quoit_new: the configuration is not valid */
    QUOIT_ERR_FULL = 30,   /* max_requests or max_bytes are under way: poll, then try again */
    QUOIT_ERR_SLOW = 31,
    QUOIT_ERR_SUSPECT = 32
};

/* Name ("NO_QUORUM") and sentence of a code of either sign; static storage. */
QUOIT_API const char *quoit_error_name(int code);
QUOIT_API const char *quoit_error_text(int code);
/* "0.1.0" */
QUOIT_API const char *quoit_version_string(void);

/* ---- the handle ---------------------------------------------------------------------------- */

struct quoit;
struct quoit_status;

/* How many replicas must have synced a write, or answered a read. */
enum quoit_level {
    QUOIT_LEVEL_DEFAULT = 0, /* the handle's, and there: quorum */
    QUOIT_ONE = 1,
    QUOIT_QUORUM = 2,
    QUOIT_ALL = 3
};

/* Always set by quoit_config_init first, so that new fields get their defaults. */
struct quoit_config {
    const char *endpoints;  /* "host:port,..."; [::1]:port for IPv6; default 127.0.0.1:7400 */
    uint32_t timeout_ms;    /* of a call, unless its options say otherwise; default 5000 */
    enum quoit_level level; /* likewise; default quorum */
    bool direct;            /* use exactly the endpoints given: no ring, no routing */
    uint32_t connections;   /* to each node; default 1 */
    uint32_t max_requests;  /* under way at once; default 4096; beyond: -QUOIT_ERR_FULL */
    size_t max_bytes;       /* of keys and values under way; default 32 MiB */
    const char *client;     /* name for the nodes' logs; default "libquoit <version>" */
    void *reserved[4];
};

QUOIT_API void quoit_config_init(struct quoit_config *config);

/* Copies the configuration; connects to nothing yet. If the process has left SIGPIPE at its
 * default, it is set to be ignored: writing to a lost connection must be an error and not the end.
 * 0, -QUOIT_ERR_CONFIG, -QUOIT_ERR_NO_MEMORY. */
QUOIT_API int quoit_new(const struct quoit_config *config, struct quoit **ret);

/* Closes all connections. Callbacks of requests under way run first, with -QUOIT_ERR_CLOSED, or
 * -QUOIT_ERR_UNKNOWN_OUTCOME for a write that was sent; what they queue is refused so. Not from a
 * callback. Accepts NULL. */
QUOIT_API void quoit_free(struct quoit *q);

/* Sends what is queued, waits until at least one callback has run or timeout_ms has passed (0: does
 * not wait; negative: waits as long as requests are under way), and returns how many callbacks ran.
 * -QUOIT_ERR_BAD_REQUEST inside a callback. */
QUOIT_API int quoit_poll(struct quoit *q, int timeout_ms);

/* Requests whose callbacks have not run yet. */
QUOIT_API size_t quoit_pending(const struct quoit *q);

/* For other event loops: call quoit_poll(q, 0) when this descriptor is readable, and after at most
 * quoit_wait_ms(q) milliseconds (negative: no limit), and after queueing requests. */
QUOIT_API int quoit_fd(const struct quoit *q);
QUOIT_API int quoit_wait_ms(struct quoit *q);

/* ---- results ------------------------------------------------------------------------------- */

/* When and by whom a record was written; compare hlc, then actor. */
struct quoit_version {
    uint64_t hlc; /* milliseconds since 1970 << 16 | counter */
    uint64_t actor;
};

struct quoit_record {
    const void *key;
    size_t key_len;
    const void *sort_key; /* NULL and 0: none */
    size_t sort_key_len;
    const void *value;
    size_t value_len;
    struct quoit_version version;
};

/* Fields that the call does not fill are zero. */
struct quoit_result {
    int code;                     /* 0, QUOIT_NOT_FOUND or -QUOIT_ERR_x: what the call returns */
    const char *text;             /* what went wrong, in a sentence; never NULL, "" on success */
    const char *node;             /* address that answered, or was tried last; never NULL */
    uint64_t limit, actual;       /* where a limit was exceeded: the limit, and what was given */
    uint32_t attempts;            /* times the request was sent; 0: never */
    uint32_t replicas;            /* get: answers counted; put, del: replicas that had synced it */
    struct quoit_version version; /* get: of the value, or of its deletion; put, del: written */

    const void *value; /* get */
    size_t value_len;

    const struct quoit_record *records; /* scan: one page, in key order */
    size_t n_records;
    const void *cursor; /* scan: for the next page; cursor_len 0: the partition is done */
    size_t cursor_len;

    uint8_t node_id[16];  /* ping */
    const char *name;     /* ping: the node's name */
    const char *software; /* ping: "quoitd 0.1.0" */
    bool serving;         /* ping: false while the node belongs to no ring */

    uint64_t epoch;        /* ring */
    uint32_t n_partitions; /* ring */

    const struct quoit_status *status; /* status; lives until the next status of this handle */
};

/* Runs inside quoit_poll or a blocking call; may queue requests, must not poll, block or free. */
typedef void (*quoit_callback)(struct quoit *q, const struct quoit_result *result, void *ctx);

/* ---- requests ------------------------------------------------------------------------------ */

enum quoit_flag {
    QUOIT_REPEAT = 1,   /* put, del: may be sent again after a loss: twice does no harm */
    QUOIT_FAIL_FAST = 2 /* UNREACHABLE as soon as every node has failed once, not at the timeout */
};

/* NULL, or all zero, for the defaults. */
struct quoit_options {
    enum quoit_level level;
    uint32_t timeout_ms; /* 0: the handle's; at most QUOIT_TIMEOUT_MS_MAX */
    uint32_t flags;      /* enum quoit_flag */
    uint32_t lane;       /* 1 + index of the connection to use of those to a node; 0: any */
    uint32_t bucket;     /* 0: the default bucket */
    const void *sort_key;
    size_t sort_key_len;
};

/* Each copies what it is given, queues the request and returns 0, or a failure without ever running
 * the callback: -QUOIT_ERR_FULL, -QUOIT_ERR_NO_MEMORY, -QUOIT_ERR_KEY_EMPTY,
 * -QUOIT_ERR_KEY_TOO_LARGE, -QUOIT_ERR_VALUE_TOO_LARGE, -QUOIT_ERR_BAD_REQUEST. Otherwise the
 * callback (may be NULL) runs exactly once, at the timeout at the latest. */
QUOIT_API int quoit_get_async(struct quoit *q, const void *key, size_t key_len,
                              const struct quoit_options *options, quoit_callback callback,
                              void *ctx);
QUOIT_API int quoit_put_async(struct quoit *q, const void *key, size_t key_len, const void *value,
                              size_t value_len, const struct quoit_options *options,
                              quoit_callback callback, void *ctx);
QUOIT_API int quoit_del_async(struct quoit *q, const void *key, size_t key_len,
                              const struct quoit_options *options, quoit_callback callback,
                              void *ctx);
/* Asks any endpoint. */
QUOIT_API int quoit_ping_async(struct quoit *q, const struct quoit_options *options,
                               quoit_callback callback, void *ctx);
/* One page of a partition, 0 .. n_partitions - 1 of the ring known (call quoit_ring first). cursor
 * as a page before returned it, or NULL, 0. page_bytes 0: as much as a node gives (256 KiB; a page
 * holds at least one record whatever its size). */
QUOIT_API int quoit_scan_async(struct quoit *q, uint32_t partition, const void *cursor,
                               size_t cursor_len, uint32_t page_bytes,
                               const struct quoit_options *options, quoit_callback callback,
                               void *ctx);
/* Fetches the ring, for quoit_locate and quoit_scan. Routing does it by itself. */
QUOIT_API int quoit_ring_async(struct quoit *q, const struct quoit_options *options,
                               quoit_callback callback, void *ctx);

/* The same, waiting. Return result->code; `ret` may be NULL. Its bytes live until the next call
 * with this handle. -QUOIT_ERR_BAD_REQUEST inside a callback. */
QUOIT_API int quoit_get(struct quoit *q, const void *key, size_t key_len,
                        const struct quoit_options *options, struct quoit_result *ret);
QUOIT_API int quoit_put(struct quoit *q, const void *key, size_t key_len, const void *value,
                        size_t value_len, const struct quoit_options *options,
                        struct quoit_result *ret);
QUOIT_API int quoit_del(struct quoit *q, const void *key, size_t key_len,
                        const struct quoit_options *options, struct quoit_result *ret);
QUOIT_API int quoit_ping(struct quoit *q, const struct quoit_options *options,
                         struct quoit_result *ret);
QUOIT_API int quoit_scan(struct quoit *q, uint32_t partition, const void *cursor, size_t cursor_len,
                         uint32_t page_bytes, const struct quoit_options *options,
                         struct quoit_result *ret);
QUOIT_API int quoit_ring(struct quoit *q, const struct quoit_options *options,
                         struct quoit_result *ret);

/* ---- how the cluster is --------------------------------------------------------------------- */

enum quoit_verdict {
    QUOIT_HEALTHY = 1,    /* every partition has all its replicas, nothing is wrong */
    QUOIT_DEGRADED = 2,   /* something is wrong; everything can be read and written at quorum */
    QUOIT_UNAVAILABLE = 3 /* some partitions cannot */
};

enum quoit_state {
    QUOIT_UNHEARD = 0, /* since the answering node started */
    QUOIT_UP = 1,
    QUOIT_SUSPECT = 2, /* for a second or so; counts as up */
    QUOIT_DOWN = 3,
    QUOIT_STOPPED = 4 /* it said goodbye */
};

struct quoit_member {
    uint8_t id[16];
    const char *name, *zone;
    const char *client, *peer; /* "host:port" for clients, between nodes */
    const char *software;      /* "": not known */
    uint32_t weight;
    enum quoit_state state;
    uint64_t state_ms; /* for so long */
    int64_t heard_ms;  /* so long ago the answering node has heard it; -1: never */
    bool candidate;    /* in no ring yet: it holds nothing */
    bool voter;
    uint32_t n_slots, n_joining; /* replicas that it holds; of these, those being filled */
    uint64_t boot;               /* starts of its data directory */
    bool has_load;               /* what follows is known: what it said last, some seconds ago */
    uint64_t n_keys, n_bytes;    /* records, deleted ones included; bytes of its data file */
    uint64_t ops_per_s, p99_us;  /* of clients' requests answered by it */
    uint32_t disk_percent;       /* used */
    bool no_space, clock_off;    /* takes no writes for want of space; of clients, for its clock */
};

struct quoit_problem {
    uint32_t kind;                     /* as in proto/README.md; 0: of a newer version */
    const struct quoit_member *member; /* NULL: of none */
    const char *text, *advice;
};

struct quoit_replica {
    uint32_t slot;
    const struct quoit_member *member;
    uint64_t incarnation;
    bool joining; /* being filled: serves nothing yet */
    bool counted; /* what follows is known: of the answering node's replicas only */
    uint64_t n_records, n_tombstones; /* deleted ones included; and those of them */
    uint64_t digest;                  /* of its records: the same where replicas agree */
};

struct quoit_partition {
    uint32_t fence;
    uint32_t primary; /* slot */
    uint32_t n_live;  /* replicas that serve, on members that are up */
    uint32_t n_replicas;
    struct quoit_replica replicas[QUOIT_OWNERS_MAX]; /* in order of slot */
};

/* The cluster as the answering node sees it. */
struct quoit_status {
    enum quoit_verdict verdict;
    const char *text; /* the verdict in a sentence */
    uint8_t node_id[16], cluster_id[16];
    uint64_t epoch;
    uint32_t n_partitions, n_replicas;        /* that each is to have */
    uint32_t n_up;                            /* members */
    uint32_t n_by_live[QUOIT_OWNERS_MAX + 1]; /* partitions with so many live replicas */
    uint32_t n_no_quorum, n_no_write;         /* partitions that cannot be read, or written */
    size_t n_members, n_problems, n_candidates;
    const struct quoit_member *members;
    const struct quoit_member *candidates; /* those that are up */
    const struct quoit_problem *problems;
    const struct quoit_partition *partitions; /* [n_partitions], or NULL unless asked for */
};

/* Asks any endpoint; with `partitions`, for who holds what as well (some hundred KiB). */
QUOIT_API int quoit_status_async(struct quoit *q, bool partitions,
                                 const struct quoit_options *options, quoit_callback callback,
                                 void *ctx);
QUOIT_API int quoit_status(struct quoit *q, bool partitions, const struct quoit_options *options,
                           struct quoit_result *ret);

/* ---- where a key lives --------------------------------------------------------------------- */

struct quoit_owner {
    const char *node; /* name */
    uint8_t id[16];
    uint32_t slot;      /* replica index */
    const char *client; /* "host:port" for clients */
    const char *peer;   /* "host:port" between nodes */
    bool primary;
};

struct quoit_place {
    uint64_t token;
    uint64_t epoch;
    uint32_t partition, n_partitions;
    uint32_t n_owners;
    struct quoit_owner owners[QUOIT_OWNERS_MAX]; /* in order of slot; strings as in results */
};

/* Computed from the ring known, without asking anyone: 0, -QUOIT_ERR_NOT_READY when no ring has
 * been fetched yet (quoit_ring), -QUOIT_ERR_KEY_EMPTY, -QUOIT_ERR_KEY_TOO_LARGE. */
QUOIT_API int quoit_locate(struct quoit *q, const void *key, size_t key_len,
                           const struct quoit_options *options, struct quoit_place *ret);

#ifdef __cplusplus
}
#endif

#endif
