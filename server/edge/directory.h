/* directory: the process-wide numbers of nodes, and the highest boot heard of each. Thread-safe. */
#ifndef QUOIT_EDGE_DIRECTORY_H
#define QUOIT_EDGE_DIRECTORY_H

#include "proto/wire.h"
#include <pthread.h>

/* Nodes heard of within the life of a process: members of rings, and no others. The core keeps as
 * many. */
#define DIRECTORY_NODES_MAX LIMIT_NODES_MAX
#define DIRECTORY_NONE UINT32_MAX

struct directory {
    pthread_mutex_t lock;
    uint32_t n;
    struct directory_node {
        struct wire_id id;
        uint64_t boot;  /* highest heard of; 0 = none yet */
        uint64_t start; /* of that boot: the process that was heard first */
    } nodes[DIRECTORY_NODES_MAX];
};

/* The own node gets handle 0. */
void directory_init(struct directory *d, const struct wire_id *own_id, uint64_t own_boot,
                    uint64_t own_start);
void directory_deinit(struct directory *d);
/* The node's handle, given out if need be; DIRECTORY_NONE when the directory is full. */
uint32_t directory_intern(struct directory *d, const struct wire_id *id);
uint32_t directory_find(struct directory *d, const struct wire_id *id);
/* Handles given out. */
uint32_t directory_n(struct directory *d);
/* A node said that these are its boot and its start: 0 (remembered), or -ERR_STALE_BOOT if a higher
 * boot was heard, or this boot of another start. */
int directory_check_boot(struct directory *d, uint32_t node, uint64_t boot, uint64_t start);

#endif
