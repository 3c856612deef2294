/* heap: see heap.h. */
#include "tests/sim/heap.h"

#include <stdlib.h>

static bool before(const struct item *a, const struct item *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->sequence < b->sequence;
}

void heap_push(struct heap *h, struct item item)
{
    size_t i = h->n;

    if (h->n == h->cap) {
        h->cap = h->cap ? h->cap * 2 : 1024;
        h->items = realloc(h->items, h->cap * sizeof(item));
        if (!h->items)
            abort();
    }
    item.sequence = h->sequence++;
    h->n++;
    for (; i > 0 && before(&item, &h->items[(i - 1) / 2]); i = (i - 1) / 2)
        h->items[i] = h->items[(i - 1) / 2];
    h->items[i] = item;
}

struct item heap_pop(struct heap *h)
{
    struct item top = h->items[0], last = h->items[--h->n];
    size_t i = 0, child;

    while ((child = 2 * i + 1) < h->n) {
        if (child + 1 < h->n && before(&h->items[child + 1], &h->items[child]))
            child++;
        if (!before(&h->items[child], &last))
            break;
        h->items[i] = h->items[child];
        i = child;
    }
    h->items[i] = last;
    return top;
}
