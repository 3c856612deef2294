/* directory: the process-wide numbers of nodes, and the highest boot heard of each.
 *
 * The core speaks of nodes by small numbers (server/core/ring.h); this is where they come from. A
 * number is never given back: the set is bounded by the members that rings name during one run of
 * the process and some candidates (caller.c), and a linear search over it happens once per link and
 * per ring, never per message.
 *
 * The boot numbers catch an old copy of a data directory: whoever arrives with a lower boot than
 * its node has shown before is not that node any more. A copy of the newest state starts with the
 * very boot of the original, and is told from it by the random number that each start chooses: of
 * one boot, whoever was heard first is the node. Kept in memory: a peer that restarts learns
 * them anew from the links of the nodes that are up.
 */
#include "server/edge/directory.h"
#include "proto/err.h"

void directory_init(struct directory *d, const struct wire_id *own_id, uint64_t own_boot,
                    uint64_t own_start)
{
    pthread_mutex_init(&d->lock, NULL);
    d->n = 1;
    d->nodes[0] = (struct directory_node){.id = *own_id, .boot = own_boot, .start = own_start};
}

void directory_deinit(struct directory *d)
{
    pthread_mutex_destroy(&d->lock);
}

static uint32_t find(const struct directory *d, const struct wire_id *id)
{
    for (uint32_t i = 0; i < d->n; i++)
        if (wire_id_equal(&d->nodes[i].id, id))
            return i;
    return DIRECTORY_NONE;
}

uint32_t directory_find(struct directory *d, const struct wire_id *id)
{
    pthread_mutex_lock(&d->lock);
    uint32_t node = find(d, id);
    pthread_mutex_unlock(&d->lock);
    return node;
}

uint32_t directory_n(struct directory *d)
{
    pthread_mutex_lock(&d->lock);
    uint32_t n = d->n;
    pthread_mutex_unlock(&d->lock);
    return n;
}

uint32_t directory_intern(struct directory *d, const struct wire_id *id)
{
    pthread_mutex_lock(&d->lock);
    uint32_t node = find(d, id);
    if (node == DIRECTORY_NONE && d->n < DIRECTORY_NODES_MAX) {
        node = d->n++;
        d->nodes[node] = (struct directory_node){.id = *id};
    }
    pthread_mutex_unlock(&d->lock);
    return node;
}

int directory_check_boot(struct directory *d, uint32_t node, uint64_t boot, uint64_t start)
{
    struct directory_node *n = &d->nodes[node];
    int rc = 0;

    pthread_mutex_lock(&d->lock);
    if (boot < n->boot || (boot == n->boot && boot > 0 && start != n->start)) {
        rc = -ERR_STALE_BOOT;
    } else {
        n->boot = boot;
        n->start = start;
    }
    pthread_mutex_unlock(&d->lock);
    return rc;
}
