/* voters: which members decide about rings.
 *
 * Usable is who has a weight: a member that is being drained is not to be needed. As many are
 * wanted as voters_count says, from the zones in turn, so that no zone holds a majority when that
 * can be; in a zone those that are voters already, then the lowest ids. So the set changes only
 * for a reason, and every node computes the same, in whatever order the members stand.
 *
 * A ring changes by one voter at a time, added or removed (register.h says why), so the way leads
 * through even numbers. Added before removed, as long as there is room: a cluster on its way is
 * never weaker than at both ends. Who is up takes no part in it: that is for whoever asks for a
 * change.
 */
#include "server/core/voters.h"

static bool holds(const uint32_t *list, size_t n, uint32_t member)
{
    for (size_t i = 0; i < n; i++)
        if (list[i] == member)
            return true;
    return false;
}

uint32_t voters_count(size_t n_usable)
{
    return n_usable >= VOTERS_SEVEN_FROM   ? 7
           : n_usable >= VOTERS_FIVE_FROM  ? 5
           : n_usable >= VOTERS_THREE_FROM ? 3
                                           : n_usable > 0;
}

static uint32_t n_in_zone(const struct wire_ring *ring, const uint32_t *chosen, uint32_t n,
                          uint32_t member)
{
    uint32_t in_zone = 0;

    for (uint32_t i = 0; i < n; i++)
        in_zone += slice_equal(ring->members[chosen[i]].zone, ring->members[member].zone);
    return in_zone;
}

static bool is_better(const struct wire_ring *ring, const uint32_t *chosen, uint32_t n, uint32_t a,
                      uint32_t b)
{
    uint32_t zone_a = n_in_zone(ring, chosen, n, a), zone_b = n_in_zone(ring, chosen, n, b);
    bool is_a = holds(ring->voters, ring->n_voters, a),
         is_b = holds(ring->voters, ring->n_voters, b);

    if (zone_a != zone_b)
        return zone_a < zone_b;
    if (is_a != is_b)
        return is_a;
    return memcmp(ring->members[a].id.b, ring->members[b].id.b, WIRE_ID_BYTES) < 0;
}

static void insert(uint32_t *list, uint32_t n, uint32_t member)
{
    while (n > 0 && list[n - 1] > member) {
        list[n] = list[n - 1];
        n--;
    }
    list[n] = member;
}

uint32_t voters_wanted(const struct wire_ring *ring, uint32_t out[LIMIT_VOTERS_MAX])
{
    size_t n_usable = 0;
    uint32_t n;

    for (size_t i = 0; i < ring->n_members; i++)
        n_usable += ring->members[i].weight > 0;
    if (n_usable == 0) { /* nobody better is there */
        for (uint32_t i = 0; i < ring->n_voters; i++)
            insert(out, i, ring->voters[i]);
        return (uint32_t)ring->n_voters;
    }
    n = voters_count(n_usable);
    for (uint32_t k = 0; k < n; k++) {
        uint32_t best = UINT32_MAX;

        for (uint32_t i = 0; i < ring->n_members; i++)
            if (ring->members[i].weight > 0 && !holds(out, k, i) &&
                (best == UINT32_MAX || is_better(ring, out, k, i, best)))
                best = i;
        insert(out, k, best);
    }
    return n;
}

struct voters_step voters_next(const struct wire_ring *ring)
{
    uint32_t wanted[LIMIT_VOTERS_MAX], n = voters_wanted(ring, wanted);
    struct voters_step add = {0}, remove = {0};

    for (uint32_t i = n; i-- > 0;)
        if (!holds(ring->voters, ring->n_voters, wanted[i]))
            add = (struct voters_step){VOTERS_ADD, wanted[i]};
    for (size_t i = 0; i < ring->n_voters; i++)
        if (!holds(wanted, n, ring->voters[i]))
            remove = (struct voters_step){VOTERS_REMOVE, ring->voters[i]};
    if (add.move == VOTERS_STAY || ring->n_voters > n || ring->n_voters == LIMIT_VOTERS_MAX)
        return remove;
    return add;
}
