/* parked: gets and merges that wait until what they need is in memory. See store.h, fetch.
 *
 *   effect --fetch says: later--> parked[cookie] --fetched tells the cookie--> taken, carried out
 *
 * The cookie of a fetch is its place here. A place whose operation could not wait any longer stays
 * until its cookie has come, so that it is never given to two. Loop thread only.
 */
#ifndef QUOIT_EDGE_PARKED_H
#define QUOIT_EDGE_PARKED_H

#include "storage/store.h"

enum parked_kind {
    PARKED_FREE,
    PARKED_GET,
    PARKED_MERGE,
    PARKED_GONE
};

struct parked_item {
    enum parked_kind kind;
    uint32_t next_free; /* as parked.free */
    struct store_op op; /* GET: cookie, token, key, owner */
};

/* Zeroed: empty. Places that were never used are never touched. */
struct parked {
    uint32_t n_used, n_merges;
    uint32_t free; /* a list of places, each as its number + 1; 0: its end */
    struct parked_item items[STORE_FETCH_MAX]; /* [n_used] */
};

void parked_deinit(struct parked *p); /* drops the references of what waits */
/* The place that parked_put will fill; STORE_FETCH_MAX if all are taken. */
uint64_t parked_next(const struct parked *p);
/* Fills it. The operation's bytes lie in its owner, whose reference is taken. GONE: nothing waits,
 * but the cookie will come. */
void parked_put(struct parked *p, enum parked_kind kind, const struct store_op *op);
/* What waited there, with its reference; the place is free again. */
enum parked_kind parked_take(struct parked *p, uint64_t cookie, struct store_op *ret);
/* A merge that must not wait any longer, with its reference. False: there is none. */
bool parked_hurry(struct parked *p, struct store_op *ret);

#endif
