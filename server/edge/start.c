/* start: brings a node up and takes it down.
 *
 * Each step only after the one before: lock and identity (boot + 1 synced) -> listening sockets ->
 * store -> guard against damaged files -> workers -> the ring, if one was decided; else the former
 * makes one, and until then the workers answer NOT_READY.
 *
 * A failure is a sentence on stderr and status 1. Once threads may run it ends the process at once:
 * nothing has been acknowledged yet, and the kernel gives everything back.
 */
#include "server/edge/start.h"
#include "proto/err.h"
#include "server/core/ring.h"
#include "server/edge/control.h"
#include "server/edge/worker_loop.h"
#include "storage/store_log.h"
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

/* Descriptors for all but clients: the store, listeners, links, files. */
#define RESERVED_FDS 256u

/* ---- start --------------------------------------------------------------------------------- */

static int fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static int fail(const char *fmt, ...)
{
    char text[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    dprintf(STDERR_FILENO, "quoitd: %s\n", text);
    return -1;
}

static int cannot_listen(const struct address *a, const char *whom, const char *option)
{
    char text[ADDRESS_TEXT_BYTES];
    int error = errno;
    address_text(a, text);
    return fail("cannot listen for %s on %s: %s. Choose another address with --%s.", whom, text,
                strerror(error), option);
}

/* An event loop, or its watch of a socket, was refused. */
static int cannot_watch(int rc)
{
    if (rc == -ERR_NO_MEMORY)
        return fail("out of memory");
    return fail("the system refuses to watch sockets for this process. Look at how many open files "
                "it may have.");
}

/* The address told to others: as configured, else the one listened on, with its real port. */
static void settle_address(const struct address *advertise, const struct address *listen,
                           const struct sockaddr_storage *bound, struct address *ret,
                           char text[ADDRESS_TEXT_BYTES])
{
    *ret = advertise->host[0] ? *advertise : *listen;
    if (!advertise->host[0])
        ret->port = address_sockaddr_port(bound);
    address_text(ret, text);
}

/* One socket per worker on the clients' address. The first bind, unshared, finds out whether
 * anybody is there; it is given back before the shared ones are made. */
static int bind_clients(struct node *n, int fds[LIMIT_WORKERS_MAX])
{
    struct config *k = &n->config;
    int probe = listener_bind(&k->listen_addr, k->listen_len, false);

    if (probe < 0)
        return cannot_listen(&k->listen, "clients", "listen");
    close(probe); /* listen_addr now has the port */
    for (uint32_t i = 0; i < n->n_workers; i++) {
        fds[i] = listener_bind(&k->listen_addr, k->listen_len, true);
        if (fds[i] < 0)
            return cannot_listen(&k->listen, "clients", "listen");
    }
    settle_address(&k->advertise, &k->listen, &k->listen_addr, &n->client_address, n->client_text);
    return 0;
}

static int bind_peers(struct node *n, int *ret_fd)
{
    struct config *k = &n->config;

    *ret_fd = listener_bind(&k->peer_listen_addr, k->peer_listen_len, false);
    if (*ret_fd < 0)
        return cannot_listen(&k->peer_listen, "peers", "peer-listen");
    settle_address(&k->peer_advertise, &k->peer_listen, &k->peer_listen_addr, &n->peer_address,
                   n->peer_text);
    return 0;
}

/* -1: nobody is to ask. */
static int bind_monitors(struct node *n, int *ret_fd)
{
    struct config *k = &n->config;

    *ret_fd = -1;
    if (!k->http_listen.host[0])
        return 0;
    *ret_fd = listener_bind(&k->http_listen_addr, k->http_listen_len, false);
    if (*ret_fd < 0)
        return cannot_listen(&k->http_listen, "monitors", "http-listen");
    n->http_address = k->http_listen;
    n->http_address.port = address_sockaddr_port(&k->http_listen_addr);
    return 0;
}

static void store_fatal(void *ctx, const char *sentence)
{
    dprintf(STDERR_FILENO, "quoitd: %s\n", sentence);
    _exit(1);
}

static void store_notify(void *ctx, uint32_t queue)
{
    struct node *node = ctx;
    if (queue >= node->n_workers)
        loop_wake(&node->control->loop);
    else if (atomic_load(&node->workers_ready))
        loop_wake(&node->workers[queue]->loop);
}

static int open_store(struct node *n)
{
    char why[STORE_WHY_BYTES];
    struct store_config config = {
        .n_workers = n->n_workers, .notify = store_notify, .fatal = store_fatal, .ctx = n};
    struct store_log_options options = {
        .lmdb = {.dir = n->disk.store,
                 .map_bytes = n->config.map_bytes,
                 .accept_suspect = n->config.accept_suspect},
        .log_dir = n->config.log_dir[0] ? n->config.log_dir : NULL,
    };

    int rc = store_log_open(&config, &options, &n->store, why);
    if (rc == -ERR_SUSPECT)
        return fail("%s\nThe node does not serve it. Replace this node, or, to take the risk that "
                    "its last acknowledged writes are lost, start it once with --accept-suspect.",
                    why);
    if (rc < 0)
        return fail("%s", why);
    if (n->config.accept_suspect)
        log_warn(&n->log,
                 "a suspect store is accepted: what was acknowledged shortly before the "
                 "failed sync may be missing on this node",
                 "data=%s", LOG_STR(n->disk.dir));
    store_log_guard_faults(n->store);
    return 0;
}

static uint32_t default_workers(void)
{
    unsigned cores = uv_available_parallelism();
    return cores <= 2 ? 1 : cores - 1 < LIMIT_WORKERS_MAX ? cores - 1 : LIMIT_WORKERS_MAX;
}

static void settle_limits(struct node *n)
{
    struct rlimit limit;

    n->clients_max = n->config.connections_max;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
        uint64_t fds =
            limit.rlim_cur > 2 * RESERVED_FDS ? limit.rlim_cur - RESERVED_FDS : limit.rlim_cur / 2;
        if (fds < n->clients_max)
            n->clients_max = (uint32_t)fds;
    }
}

static int start_workers(struct node *n, const int fds[LIMIT_WORKERS_MAX])
{
    uint64_t bound_ms = n->store->ops->clock_bound(n->store);
    int rc = 0;

    for (uint32_t i = 0; rc == 0 && i < n->n_workers; i++)
        rc = worker_loop_new(n, i, fds[i], bound_ms, &n->workers[i]);
    if (rc < 0)
        return cannot_watch(rc);
    atomic_store(&n->workers_ready, true);
    for (uint32_t i = 0; i < n->n_workers; i++)
        loop_wake(&n->workers[i]->loop); /* for what the store wanted to tell before */
    for (uint32_t i = 0; i < n->n_workers; i++)
        if (worker_loop_start(n->workers[i]) < 0)
            control_die(n->control, "cannot start a thread.");
    return 0;
}

/* The ring of an earlier run. 0 set, 1 none yet, negative. */
static int load_ring(struct control *c)
{
    struct store *s = c->node->store;
    struct wire_ring wire;
    struct arena arena;
    struct buf bytes;

    buf_init(&bytes);
    arena_init(&arena, WIRE_ARENA_BUDGET_RING);
    int rc = s->ops->meta_get(s, c->loop.index, slice_str(FORM_META_RING), &bytes);
    s->ops->read_end(s, c->loop.index); /* control has no wake-ups: it would pin this snapshot */
    if (rc == 0)
        rc = wire_ring_unpack(buf_slice(&bytes), &arena, &wire);
    if (rc == 0)
        control_set_ring(c, &wire);
    arena_deinit(&arena);
    buf_deinit(&bytes);
    return rc;
}

static int start_ring(struct control *c)
{
    struct node *n = c->node;
    int rc = load_ring(c);

    if (rc < 0)
        return fail("the ring in %s cannot be read: %s", n->disk.dir, err_text(rc));
    if (rc == 0)
        rc = former_look(&c->former, c);
    else if (!wire_id_is_zero(&n->disk.cluster_id))
        return fail("quoit.json in %s names cluster %s, but its store has no ring: the store was "
                    "lost or replaced. Take the directory from a backup, or remove it whole to "
                    "start as a new node.",
                    n->disk.dir, LOG_ID(&n->disk.cluster_id));
    else if (n->config.join.n > 0)
        rc = former_join(&c->former, c);
    else
        rc = former_start(&c->former, c);
    return rc < 0 ? fail("cannot form or join a cluster: %s", err_text(rc)) : 0;
}

/* 0 or -1. */
static int take_disk(struct node *n)
{
    const struct config *k = &n->config;
    char why[DISK_WHY_BYTES];

    return disk_open(&n->disk, k->data, k->name, why) < 0 ? fail("%s", why) : 0;
}

static int start(struct control *c)
{
    struct node *n = c->node;
    int fds[LIMIT_WORKERS_MAX] = {0}, peer_fd, http_fd, rc;

    n->n_workers = n->config.workers ? n->config.workers : default_workers();
    settle_limits(n);
    if (getrandom(&n->start, sizeof(n->start), 0) != sizeof(n->start))
        return fail("no random numbers: %s", strerror(errno));
    rc = control_init(c);
    if (rc < 0)
        return cannot_watch(rc);
    log_info(&n->log, "starting", "version=%s node=%s id=%s boot=%" PRIu64 " data=%s",
             QUOIT_VERSION, LOG_STR(n->disk.name), LOG_ID(&n->disk.node_id), n->disk.boot,
             LOG_STR(n->disk.dir));
    if (!config_is_local(&n->config))
        log_warn(&n->log,
                 "INSECURE: nothing is encrypted or checked; whoever reaches the ports can "
                 "read and change all data",
                 "reason=--insecure");
    directory_init(n->directory, &n->disk.node_id, n->disk.boot, n->start);
    if (bind_clients(n, fds) < 0 || bind_peers(n, &peer_fd) < 0 || bind_monitors(n, &http_fd) < 0 ||
        open_store(n) < 0 || start_workers(n, fds) < 0)
        return -1;
    rc = control_start(c, peer_fd, http_fd);
    if (rc < 0)
        return cannot_watch(rc);
    return start_ring(c);
}

static void finish(struct control *c)
{
    struct node *n = c->node;

    n->store->ops->close(n->store); /* its threads may wake loops until here */
    for (uint32_t i = 0; i < n->n_workers; i++)
        worker_loop_free(n->workers[i]);
    control_deinit(c);
    directory_deinit(n->directory);
    disk_close(&n->disk);
    log_info(&n->log, "stopped", "node=%s", LOG_STR(n->disk.name));
    log_deinit(&n->log);
}

static void node_free(struct node *n)
{
    if (!n)
        return;
    free(n->control);
    free(n->directory);
    free(n);
}

static struct node *node_new(const struct config *config)
{
    struct node *n = calloc(1, sizeof(*n));

    if (!n)
        return NULL;
    n->config = *config;
    n->control = calloc(1, sizeof(*n->control));
    n->directory = calloc(1, sizeof(*n->directory));
    if (!n->control || !n->directory) {
        node_free(n);
        return NULL;
    }
    n->control->node = n;
    log_init(&n->log, config->log_level, STDERR_FILENO);
    n->log.format = config->log_format;
    return n;
}

int node_run(const struct config *config)
{
    struct node *n = node_new(config);
    int status = 1;

    if (!n) {
        fail("out of memory");
    } else if (take_disk(n) < 0) {
        status = 1;
    } else if (start(n->control) < 0) {
        _exit(1); /* threads may run */
    } else {
        loop_run(&n->control->loop);
        finish(n->control);
        status = 0;
    }
    node_free(n);
    return status;
}
