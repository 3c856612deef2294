/* parked: see parked.h. */
#include "server/edge/parked.h"

#include <assert.h>

void parked_deinit(struct parked *p)
{
    for (uint32_t i = 0; i < p->n_used; i++)
        if (p->items[i].kind == PARKED_GET || p->items[i].kind == PARKED_MERGE)
            blob_unref(p->items[i].op.owner);
}

uint64_t parked_next(const struct parked *p)
{
    return p->free ? p->free - 1 : p->n_used;
}

void parked_put(struct parked *p, enum parked_kind kind, const struct store_op *op)
{
    struct parked_item *item = &p->items[parked_next(p)];

    assert(parked_next(p) < STORE_FETCH_MAX && kind != PARKED_FREE);
    if (p->free)
        p->free = item->next_free;
    else
        p->n_used++;
    item->kind = kind;
    if (kind != PARKED_GONE)
        item->op = *op;
    p->n_merges += kind == PARKED_MERGE;
}

enum parked_kind parked_take(struct parked *p, uint64_t cookie, struct store_op *ret)
{
    struct parked_item *item = &p->items[cookie];
    enum parked_kind kind;

    assert(cookie < p->n_used && item->kind != PARKED_FREE);
    kind = item->kind;
    *ret = item->op;
    p->n_merges -= kind == PARKED_MERGE;
    item->kind = PARKED_FREE;
    item->next_free = p->free;
    p->free = (uint32_t)cookie + 1;
    return kind;
}

bool parked_hurry(struct parked *p, struct store_op *ret)
{
    for (uint32_t i = 0; p->n_merges > 0 && i < p->n_used; i++) {
        if (p->items[i].kind != PARKED_MERGE)
            continue;
        *ret = p->items[i].op;
        p->items[i].kind = PARKED_GONE;
        p->n_merges--;
        return true;
    }
    return false;
}
