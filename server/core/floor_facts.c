/* floor_facts: see floor_facts.h.
 *
 *   name     floor/PPPPP/IIIIIIIIIIIIIIII   partition and incarnation, in hexadecimal
 *   value    opened, closed: 8 bytes each, most significant first
 *
 * Named by incarnation: what was promised for one residence of a slot binds no other.
 */
#include "server/core/floor_facts.h"
#include "server/core/ring.h"
#include <stdio.h>
#include <stdlib.h>

struct slice floor_fact_name(uint32_t partition, uint64_t incarnation,
                             char out[STORE_META_NAME_MAX + 1])
{
    int len = snprintf(out, STORE_META_NAME_MAX + 1, "floor/%05x/%016llx", partition,
                       (unsigned long long)incarnation);

    return slice_of(out, (size_t)len);
}

void floor_fact_pack(uint64_t opened, uint64_t closed, uint8_t out[FLOOR_FACT_BYTES])
{
    for (unsigned i = 0; i < 8; i++) {
        out[i] = (uint8_t)(opened >> (56 - 8 * i));
        out[8 + i] = (uint8_t)(closed >> (56 - 8 * i));
    }
}

static void unpack(const uint8_t in[FLOOR_FACT_BYTES], struct floor_fact *ret)
{
    for (unsigned i = 0; i < 8; i++) {
        ret->opened = ret->opened << 8 | in[i];
        ret->closed = ret->closed << 8 | in[8 + i];
    }
}

int floor_fact_read(struct store *store, uint32_t queue, struct floor_fact *fact)
{
    char name[STORE_META_NAME_MAX + 1];
    struct buf value;
    int r;

    buf_init(&value);
    r = store->ops->meta_get(store, queue,
                             floor_fact_name(fact->partition, fact->incarnation, name), &value);
    if (r == 0 && value.len != FLOOR_FACT_BYTES)
        r = -ERR_CORRUPT;
    if (r == 0)
        unpack(value.data, fact);
    buf_deinit(&value);
    return r < 0 ? r : r == 0;
}

/* The incarnation of the node's slot; 0: it has none. */
static uint64_t incarnation_of(const struct ring *ring, uint32_t partition, uint32_t node)
{
    struct ring_entry entry;
    int slot;

    ring_lookup(ring, partition, &entry);
    slot = ring_entry_slot(&entry, node);
    return slot < 0 ? 0 : entry.slots[slot].incarnation;
}

int floor_facts_read(struct store *store, uint32_t queue, const struct ring *ring, uint32_t node,
                     uint32_t worker, uint32_t n_workers, struct floor_facts *ret)
{
    uint32_t n_partitions = ring_wire(ring)->n_partitions;

    *ret = (struct floor_facts){.list = malloc(n_partitions * sizeof *ret->list)};
    if (!ret->list)
        return -ERR_NO_MEMORY;
    for (uint32_t p = 0; p < n_partitions; p++) {
        struct floor_fact fact = {.partition = p, .incarnation = incarnation_of(ring, p, node)};
        int r;

        if (!fact.incarnation ||
            token_worker(token_partition_first(p, n_partitions), n_workers) != worker)
            continue;
        r = floor_fact_read(store, queue, &fact);
        if (r < 0)
            return r;
        if (r > 0)
            ret->list[ret->n++] = fact;
    }
    return 0;
}

void floor_facts_free(struct floor_facts *facts)
{
    free(facts->list);
    *facts = (struct floor_facts){0};
}
