/* node: what the loops of one process share. See README.md for who owns what. */
#ifndef QUOIT_EDGE_NODE_H
#define QUOIT_EDGE_NODE_H

#include "server/edge/config.h"
#include "server/edge/directory.h"
#include "server/edge/disk.h"
#include "server/edge/log.h"
#include "storage/store.h"
#include <stdatomic.h>

struct worker_loop;
struct control;

/* Set up by control before the workers run, read-only afterwards but for what says otherwise. */
struct node {
    struct config config;
    struct disk disk;                            /* control only, but for node_id, boot and name */
    uint64_t start;                              /* random: this process, not a copy of its data */
    struct log log;                              /* thread-safe */
    struct store *store;                         /* thread-safe by queue */
    struct directory *directory;                 /* thread-safe */
    struct address client_address, peer_address; /* as told to others */
    struct address http_address;                 /* host "": none */
    char client_text[ADDRESS_TEXT_BYTES], peer_text[ADDRESS_TEXT_BYTES];
    uint32_t n_workers;
    struct worker_loop *workers[LIMIT_WORKERS_MAX]; /* n_workers of them */
    atomic_bool workers_ready; /* the store, which has threads of its own before, may wake them */
    struct control *control;
    atomic_uint n_clients; /* connections of clients, all workers */
    uint32_t clients_max;
};

/* What this node says in a hello, but for link, workers and cluster. */
static inline void node_hello(const struct node *n, struct wire_hello *ret)
{
    *ret = (struct wire_hello){.protocol = WIRE_PROTOCOL,
                               .node_id = n->disk.node_id,
                               .boot = n->disk.boot,
                               .start = n->start,
                               .name = slice_str(n->disk.name),
                               .software = slice_str("quoitd " QUOIT_VERSION),
                               .n_workers = n->n_workers};
}

#endif
