/* register_value: rings as the register sees them: bytes that never change, an epoch, and who
 * votes. A ring is unpacked and checked once, when it comes in; then only its bytes are kept, for
 * they are what is stored, compared and told.
 */
#include "server/core/register_impl.h"
#include "server/core/ring.h"

#include <stdlib.h>

int ballot_compare(const struct wire_ballot *a, const struct wire_ballot *b)
{
    int by_node = memcmp(a->node.b, b->node.b, WIRE_ID_BYTES);

    if (a->counter != b->counter)
        return a->counter < b->counter ? -1 : 1;
    if (by_node != 0)
        return by_node < 0 ? -1 : 1;
    return a->boot < b->boot ? -1 : a->boot > b->boot;
}

/* ---- sets of voters ------------------------------------------------------------------------ */

bool set_has(const struct voter_set *set, const struct wire_id *id)
{
    for (uint32_t i = 0; i < set->n; i++)
        if (wire_id_equal(&set->ids[i], id))
            return true;
    return false;
}

void set_add(struct voter_set *set, const struct wire_id *id)
{
    if (!set_has(set, id))
        set->ids[set->n++] = *id;
}

static uint32_t n_lacking(const struct voter_set *a, const struct voter_set *of)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < a->n; i++)
        n += !set_has(of, &a->ids[i]);
    return n;
}

uint32_t set_distance(const struct voter_set *a, const struct voter_set *b)
{
    return n_lacking(a, b) + n_lacking(b, a);
}

bool set_equal(const struct voter_set *a, const struct voter_set *b)
{
    return set_distance(a, b) == 0;
}

bool set_majority(const struct voter_set *set, const struct voter_set *answered)
{
    return set->n - n_lacking(set, answered) > set->n / 2;
}

/* ---- rings --------------------------------------------------------------------------------- */

/* 0 and a ring with one reference, or negative. */
static int unpack(struct slice bytes, struct ring **ret)
{
    struct wire_ring wire;
    struct arena arena;
    int r;

    if (bytes.len > LIMIT_REGISTER_RING_BYTES)
        return -ERR_BAD_REQUEST;
    arena_init(&arena, WIRE_ARENA_BUDGET_RING);
    r = wire_ring_unpack(bytes, &arena, &wire);
    if (r == 0)
        r = ring_new(&wire, NULL, NULL, ret);
    arena_deinit(&arena);
    return r;
}

int value_cluster(struct slice ring, struct wire_id *ret)
{
    struct ring *good = NULL;
    int r = unpack(ring, &good);

    if (r < 0)
        return r;
    *ret = ring_wire(good)->cluster_id;
    ring_unref(good);
    return 0;
}

static bool take_sets(struct register_value *v, const struct wire_ring *w,
                      const struct wire_id *before, size_t n_before)
{
    for (size_t i = 0; i < w->n_voters; i++)
        set_add(&v->voters, &w->members[w->voters[i]].id);
    for (size_t i = 0; i < n_before; i++)
        set_add(&v->before, &before[i]);
    if (n_before == 0)
        v->before = v->voters;
    return v->before.n <= LIMIT_VOTERS_MAX && set_distance(&v->before, &v->voters) <= 1;
}

int value_new(struct slice ring, const struct wire_id *before, size_t n_before,
              const struct wire_id *cluster, struct register_value **ret)
{
    struct register_value *v;
    struct ring *good = NULL;
    int r = n_before > LIMIT_VOTERS_MAX ? -ERR_BAD_REQUEST : unpack(ring, &good);

    if (r < 0)
        return r;
    v = calloc(1, sizeof(*v));
    if (!v || !(v->bytes = blob_copy(ring))) {
        r = -ERR_NO_MEMORY;
    } else {
        v->refs = 1;
        v->epoch = ring_epoch(good);
        if (!take_sets(v, ring_wire(good), before, n_before) ||
            (cluster && !wire_id_equal(cluster, &ring_wire(good)->cluster_id)))
            r = -ERR_BAD_REQUEST;
    }
    ring_unref(good);
    if (r < 0) {
        if (v)
            blob_unref(v->bytes);
        free(v);
        return r;
    }
    *ret = v;
    return 0;
}

struct register_value *value_ref(struct register_value *v)
{
    if (v)
        v->refs++;
    return v;
}

void value_unref(struct register_value *v)
{
    if (!v || --v->refs > 0)
        return;
    blob_unref(v->bytes);
    free(v);
}

bool value_same(const struct register_value *a, const struct register_value *b)
{
    return a == b || slice_equal(blob_slice(a->bytes), blob_slice(b->bytes));
}

const char *value_next_fault(const struct register_value *held, const struct register_value *next)
{
    struct ring *before = NULL, *after = NULL;
    const char *why;

    if (next->epoch != held->epoch + 1)
        return "it does not follow the ring that holds";
    if (set_distance(&held->voters, &next->voters) > 1)
        return "it changes more than one voter";
    if (unpack(blob_slice(held->bytes), &before) < 0)
        return "there is no memory to check it";
    if (unpack(blob_slice(next->bytes), &after) < 0) {
        ring_unref(before);
        return "there is no memory to check it";
    }
    why = ring_next_fault(before, after);
    ring_unref(before);
    ring_unref(after);
    return why;
}
