/* disk: the data directory: its lock, and who this node is. See disk.c. */
#ifndef QUOIT_EDGE_DISK_H
#define QUOIT_EDGE_DISK_H

#include "proto/wire.h"

#define DISK_FORMAT 1
#define DISK_WHY_BYTES 1024
#define DISK_PATH_BYTES 4200

struct disk {
    char dir[DISK_PATH_BYTES];
    char store[DISK_PATH_BYTES]; /* DATA/store: exists after disk_open */
    int lock_fd, dir_fd;
    struct wire_id node_id;
    struct wire_id cluster_id; /* zero: none yet */
    bool candidate;            /* of that cluster: no ring of it has ever named this node */
    uint64_t boot;             /* of this run: synced before disk_open returns */
    char name[LIMIT_NAME_BYTES + 1];
    bool fresh;    /* the directory was empty: a new node */
    bool outdated; /* an old copy: disk_set_outdated */
};

/* Takes the directory: makes it if need be, locks it, reads or makes quoit.json, and syncs boot
 * + 1. name "" = keep the one on disk, or make one from the id. 0, or -ERR_IN_USE, -ERR_FORMAT,
 * -ERR_CORRUPT, -ERR_STALE_BOOT, -ERR_IO with a sentence in why; nothing is held then. */
int disk_open(struct disk *d, const char *dir, const char *name, char why[DISK_WHY_BYTES]);
void disk_close(struct disk *d);
/* The cluster is decided, and whether a ring of it names this node: syncs both. */
int disk_set_cluster(struct disk *d, const struct wire_id *cluster_id, bool candidate,
                     char why[DISK_WHY_BYTES]);
/* Another process was the node after this one: syncs that the directory may not be started again.
 * Should that fail, the next start is told so again. */
int disk_set_outdated(struct disk *d, char why[DISK_WHY_BYTES]);

void disk_id_text(const struct wire_id *id, char out[2 * WIRE_ID_BYTES + 1]);
int disk_id_parse(const char *text, struct wire_id *ret);

#endif
