/* parked: see parked.h. */
#include "server/edge/parked.h"

#include <assert.h>
#include <stdlib.h>

void parked_init(struct parked *p)
{
    *p = (struct parked){0};
}

void parked_deinit(struct parked *p)
{
    for (uint32_t i = 0; p->items && i < STORE_FETCH_MAX; i++)
        if (p->items[i].kind == PARKED_GET || p->items[i].kind == PARKED_MERGE)
            blob_unref(p->items[i].op.owner);
    free(p->items);
    *p = (struct parked){0};
}

static bool make_items(struct parked *p)
{
    p->items = calloc(STORE_FETCH_MAX, sizeof(*p->items));
    if (!p->items)
        return false;
    for (uint32_t i = 0; i < STORE_FETCH_MAX; i++)
        p->items[i].next_free = i + 1;
    p->free = 0;
    return true;
}

bool parked_next(struct parked *p, uint64_t *ret_cookie)
{
    if (!p->items && !make_items(p))
        return false;
    *ret_cookie = p->free;
    return true;
}

void parked_put(struct parked *p, enum parked_kind kind, const struct store_op *op)
{
    struct parked_item *item = &p->items[p->free];

    assert(p->free < STORE_FETCH_MAX && kind != PARKED_FREE);
    p->free = item->next_free;
    item->kind = kind;
    if (kind != PARKED_GONE)
        item->op = *op;
    p->n_merges += kind == PARKED_MERGE;
}

enum parked_kind parked_take(struct parked *p, uint64_t cookie, struct store_op *ret)
{
    struct parked_item *item = &p->items[cookie];
    enum parked_kind kind;

    assert(p->items && cookie < STORE_FETCH_MAX && item->kind != PARKED_FREE);
    kind = item->kind;
    *ret = item->op;
    p->n_merges -= kind == PARKED_MERGE;
    item->kind = PARKED_FREE;
    item->next_free = p->free;
    p->free = (uint32_t)cookie;
    return kind;
}

bool parked_hurry(struct parked *p, struct store_op *ret)
{
    for (uint32_t i = 0; p->n_merges > 0 && i < STORE_FETCH_MAX; i++) {
        if (p->items[i].kind != PARKED_MERGE)
            continue;
        *ret = p->items[i].op;
        p->items[i].kind = PARKED_GONE;
        p->n_merges--;
        return true;
    }
    return false;
}
