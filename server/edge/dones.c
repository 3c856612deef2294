/* dones: done events that wait for the end of the effect list.
 *
 * The core's effects are a list that its next step overwrites, so what an effect brings at once (a
 * read, a failed submit) cannot be told while the list is being carried out. It waits here, in a
 * ring that starts at its beginning whenever it runs empty, so that it stays in the pages that were
 * touched before.
 */
#include "server/edge/dones.h"
#include "proto/err.h"
#include "server/edge/mailbox.h"
#include <assert.h>
#include <stdlib.h>

int dones_init(struct dones *d)
{
    *d = (struct dones){.ring = malloc(DONES_MAX * sizeof(*d->ring))};
    return d->ring ? 0 : -ERR_NO_MEMORY;
}

void dones_deinit(struct dones *d)
{
    for (uint32_t i = 0; i < d->n; i++) {
        free(d->ring[(d->head + i) % DONES_MAX].page);
        free(d->ring[(d->head + i) % DONES_MAX].leaves);
    }
    free(d->ring);
    free(d->spare);
}

struct done *dones_add(struct dones *d, enum event_type type)
{
    assert(d->n < DONES_MAX);
    if (d->n == 0)
        d->head = 0;
    struct done *done = &d->ring[(d->head + d->n++) % DONES_MAX];
    done->event.type = type;
    done->page = NULL;
    done->leaves = NULL;
    return done;
}

void peer_refusal(const struct wire_peer *request, int error, struct wire_peer *ret)
{
    static const enum wire_peer_type replies[] = {
        [PEER_GET] = PEER_GET_REPLY,   [PEER_PUT] = PEER_PUT_REPLY,
        [PEER_SCAN] = PEER_SCAN_REPLY, [PEER_COMPARE] = PEER_COMPARE_REPLY,
        [PEER_PULL] = PEER_PULL_REPLY, [PEER_PURGE] = PEER_PURGE_REPLY};

    *ret = (struct wire_peer){.type =
                                  peer_is_request(request) ? replies[request->type] : request->type,
                              .id = request->id,
                              .hlc = request->hlc,
                              .ring_epoch = request->ring_epoch,
                              .replica = request->replica,
                              .error = error};
}

void dones_refuse(struct dones *d, const struct addr *from, uint32_t node,
                  const struct wire_peer *request)
{
    struct wire_peer msg;

    if (d->n_refusals >= DONES_REFUSALS_MAX)
        return;
    d->n_refusals++;
    peer_refusal(request, ERR_OVERLOADED, &msg);
    struct done *done = dones_add(d, EVENT_PEER);
    memset(&done->event.u.peer, 0, sizeof(done->event.u.peer));
    done->event.u.peer.from = *from;
    done->event.u.peer.node = node;
    done->refusal = (struct refusal){.type = msg.type,
                                     .id = msg.id,
                                     .hlc = msg.hlc,
                                     .ring_epoch = msg.ring_epoch,
                                     .replica = msg.replica,
                                     .error = msg.error};
}

void refusal_message(const struct refusal *r, struct wire_peer *ret)
{
    *ret = (struct wire_peer){.type = r->type,
                              .id = r->id,
                              .hlc = r->hlc,
                              .ring_epoch = r->ring_epoch,
                              .replica = r->replica,
                              .error = r->error};
}

bool dones_take(struct dones *d, struct done *ret)
{
    if (d->n == 0)
        return false;
    *ret = d->ring[d->head];
    d->head = (d->head + 1) % DONES_MAX;
    d->n--;
    d->n_refusals -= ret->event.type == EVENT_PEER;
    return true;
}

void dones_release(struct dones *d, struct done *done)
{
    if (done->page && !d->spare)
        d->spare = done->page;
    else
        free(done->page);
    free(done->leaves);
    done->page = NULL;
    done->leaves = NULL;
}

struct scan_page *dones_page(struct dones *d)
{
    struct scan_page *page = d->spare ? d->spare : malloc(sizeof(*page));

    d->spare = NULL;
    if (page)
        page->page = (struct store_page){.items = page->items, .cap = LIMIT_SCAN_PAGE_RECORDS};
    return page;
}
