/* claim_seats: the table in the making.
 *
 * Rows of seats, and beside them what the steps of claim ask again and again: which partitions a
 * node holds (a list per node in one array, with each seat's place in it, so that both directions
 * are one look), how many partitions two nodes share, and how far each node is from its quota. A
 * node never holds more than it held at first or is to hold, which bounds its list.
 *
 * Rows are *extendable* at every moment: no zone is above its cap, and the free seats suffice for
 * all zones that are below their floor. The two legality checks keep that.
 *
 * The potentials of claim_path.c belong to vertices that change with a row: a zone without a floor
 * has a vertex of its own only while it has a holder here (that of its lowest seat), and is one
 * with its partition's vertex otherwise. So seats hand potentials on as they change hands.
 */
#include "server/core/claim_impl.h"

#include "proto/err.h"

#include <assert.h>

void *claim_alloc(struct arena *arena, size_t n, size_t size, int fill)
{
    void *p = arena_alloc(arena, n * size);

    if (p)
        memset(p, fill, n * size);
    return p;
}

static uint16_t *row_of(const struct claim_work *w, uint32_t partition)
{
    return &w->row[(size_t)partition * w->cluster.n_seats];
}

/* ---- questions --------------------------------------------------------------------------- */

bool claim_seats_has(const struct claim_work *w, uint32_t partition, uint32_t node)
{
    const uint16_t *row = row_of(w, partition);

    for (uint32_t s = 0; s < w->cluster.n_seats; s++)
        if (row[s] == node)
            return true;
    return false;
}

bool claim_seats_had(const struct claim_work *w, uint32_t partition, uint32_t node)
{
    const uint16_t *old = &w->old[(size_t)partition * w->n_old];

    for (uint32_t s = 0; s < w->n_old; s++)
        if (old[s] == node)
            return true;
    return false;
}

uint32_t claim_seats_in_zone(const struct claim_work *w, uint32_t partition, uint32_t zone)
{
    const uint16_t *row = row_of(w, partition);
    uint32_t n = 0;

    for (uint32_t s = 0; s < w->cluster.n_seats; s++)
        n += row[s] != NOBODY && w->cluster.zone[row[s]] == zone;
    return n;
}

uint32_t claim_seats_needed(const struct claim_work *w, uint32_t partition)
{
    uint32_t needed = 0;

    for (uint32_t f = 0; f < w->n_floors; f++) {
        uint32_t zone = w->floor_zone[f], lo = w->cluster.lo[zone];
        uint32_t n = claim_seats_in_zone(w, partition, zone);

        needed += n < lo ? lo - n : 0;
    }
    return needed;
}

/* A zone has room for one more, beside the seats that it needs anyway. */
static bool has_room(const struct claim_work *w, uint32_t zone, uint32_t n)
{
    return n < w->cluster.cap[zone] && w->cluster.lo[zone] < w->cluster.cap[zone];
}

bool claim_seats_may_add(const struct claim_work *w, uint32_t partition, uint32_t node)
{
    uint32_t free = w->cluster.n_seats - w->n_held[partition], zone = w->cluster.zone[node], n;

    if (free == 0 || claim_seats_has(w, partition, node))
        return false;
    n = claim_seats_in_zone(w, partition, zone);
    if (n < w->cluster.lo[zone])
        return true;
    return has_room(w, zone, n) && claim_seats_needed(w, partition) < free;
}

bool claim_seats_may_swap(const struct claim_work *w, uint32_t partition, uint32_t from,
                          uint32_t to)
{
    uint32_t zone_from = w->cluster.zone[from], zone_to = w->cluster.zone[to];

    if (claim_seats_has(w, partition, to))
        return false;
    return zone_from == zone_to ||
           (has_room(w, zone_to, claim_seats_in_zone(w, partition, zone_to)) &&
            claim_seats_in_zone(w, partition, zone_from) > w->cluster.lo[zone_from]);
}

/* ---- vertices ---------------------------------------------------------------------------- */

uint32_t claim_vertex(const struct claim_work *w, uint32_t partition)
{
    return w->cluster.n_nodes + partition * w->n_vertices;
}

/* The lowest seat of a partition that is held in the zone; n_seats: none. */
static uint32_t zone_seat(const struct claim_work *w, uint32_t partition, uint32_t zone)
{
    const uint16_t *row = row_of(w, partition);
    uint32_t s = 0;

    while (s < w->cluster.n_seats && (row[s] == NOBODY || w->cluster.zone[row[s]] != zone))
        s++;
    return s;
}

uint32_t claim_vertex_zone(const struct claim_work *w, uint32_t partition, uint32_t zone)
{
    uint32_t first = claim_vertex(w, partition), seat;

    if (w->floor_index[zone] != CLAIM_NONE)
        return first + 1 + w->cluster.n_seats + w->floor_index[zone];
    seat = zone_seat(w, partition, zone);
    return seat < w->cluster.n_seats ? first + 1 + seat : first;
}

/* The holder of the seat is about to go: the zone's potential stays with the zone's next seat. */
static void leave_zone(struct claim_work *w, uint32_t partition, uint32_t seat)
{
    uint32_t first = claim_vertex(w, partition), zone = w->cluster.zone[row_of(w, partition)[seat]];
    const uint16_t *row = row_of(w, partition);

    if (w->floor_index[zone] != CLAIM_NONE || zone_seat(w, partition, zone) != seat)
        return;
    for (uint32_t s = seat + 1; s < w->cluster.n_seats; s++)
        if (row[s] != NOBODY && w->cluster.zone[row[s]] == zone) {
            w->potential[first + 1 + s] = w->potential[first + 1 + seat];
            return;
        }
}

/* A node of the zone is about to have the seat. */
static void enter_zone(struct claim_work *w, uint32_t partition, uint32_t seat, uint32_t zone)
{
    uint32_t vertex = claim_vertex_zone(w, partition, zone);

    w->potential[claim_vertex(w, partition) + 1 + seat] = w->potential[vertex];
}

/* ---- changes ----------------------------------------------------------------------------- */

static void count_pairs(struct claim_work *w, uint32_t partition, uint32_t node, int change)
{
    const uint16_t *row = row_of(w, partition);
    uint32_t n = w->cluster.n_nodes;

    for (uint32_t s = 0; s < w->cluster.n_seats; s++)
        if (row[s] != NOBODY && row[s] != node) {
            uint16_t *pair = &w->pair[(size_t)node * n + row[s]];

            *pair = (uint16_t)(*pair + change);
            w->pair[(size_t)row[s] * n + node] = *pair;
        }
}

static void list_partition(struct claim_work *w, uint32_t partition, uint32_t seat, uint32_t node)
{
    uint32_t at = w->held_at[node] + w->n_held_by[node]++;

    assert(at < w->held_at[node + 1]);
    w->held[at] = partition;
    w->place[(size_t)partition * w->cluster.n_seats + seat] = at;
}

/* The last of the list takes the place. */
static void unlist_partition(struct claim_work *w, uint32_t partition, uint32_t seat, uint32_t node)
{
    uint32_t at = w->place[(size_t)partition * w->cluster.n_seats + seat];
    uint32_t last = w->held[w->held_at[node] + --w->n_held_by[node]];
    const uint16_t *row = row_of(w, last);

    w->held[at] = last;
    for (uint32_t s = 0; s < w->cluster.n_seats; s++)
        if (row[s] == node)
            w->place[(size_t)last * w->cluster.n_seats + s] = at;
}

/* The first seat of the node; there is one. */
static uint32_t seat_of(const struct claim_work *w, uint32_t partition, uint32_t node)
{
    const uint16_t *row = row_of(w, partition);
    uint32_t s = 0;

    while (row[s] != node) {
        s++;
        assert(s < w->cluster.n_seats);
    }
    return s;
}

static void take_seat(struct claim_work *w, uint32_t partition, uint32_t seat, uint32_t node)
{
    count_pairs(w, partition, node, 1);
    row_of(w, partition)[seat] = (uint16_t)node;
    list_partition(w, partition, seat, node);
    w->n_lost[partition] = (uint8_t)(w->n_lost[partition] - claim_seats_had(w, partition, node));
}

void claim_seats_add(struct claim_work *w, uint32_t partition, uint32_t node)
{
    uint32_t seat = seat_of(w, partition, NOBODY);

    enter_zone(w, partition, seat, w->cluster.zone[node]);
    take_seat(w, partition, seat, node);
    w->n_held[partition]++;
}

void claim_seats_swap(struct claim_work *w, uint32_t partition, uint32_t from, uint32_t to)
{
    uint32_t seat = seat_of(w, partition, from);
    bool same_zone = w->cluster.zone[from] == w->cluster.zone[to];

    count_pairs(w, partition, from, -1);
    unlist_partition(w, partition, seat, from);
    if (!same_zone)
        leave_zone(w, partition, seat);
    row_of(w, partition)[seat] = NOBODY;
    w->n_lost[partition] = (uint8_t)(w->n_lost[partition] + claim_seats_had(w, partition, from));
    if (!same_zone)
        enter_zone(w, partition, seat, w->cluster.zone[to]);
    take_seat(w, partition, seat, to);
}

/* ---- making ------------------------------------------------------------------------------ */

static int list_floors(struct claim_work *w)
{
    struct claim_cluster *c = &w->cluster;

    w->floor_index = claim_alloc(&w->scratch, c->n_zones, sizeof(uint32_t), 0xff);
    w->floor_zone = claim_alloc(&w->scratch, c->n_seats, sizeof(uint32_t), 0);
    if (!w->floor_index || !w->floor_zone)
        return -ERR_NO_MEMORY;
    for (uint32_t z = 0; z < c->n_zones; z++)
        if (c->lo[z] > 0) {
            assert(w->n_floors < c->n_seats); /* floors add up to n_seats at most */
            w->floor_index[z] = w->n_floors;
            w->floor_zone[w->n_floors++] = z;
        }
    w->n_vertices = 1 + c->n_seats + w->n_floors;
    return 0;
}

int claim_seats_init(struct claim_work *w)
{
    const struct claim_cluster *c = &w->cluster;
    size_t n_rows = (size_t)c->n_partitions * c->n_seats;
    uint32_t at = 0;

    if (list_floors(w) < 0)
        return -ERR_NO_MEMORY;
    w->row = claim_alloc(&w->scratch, n_rows, sizeof(uint16_t), 0xff);
    w->place = claim_alloc(&w->scratch, n_rows, sizeof(uint32_t), 0);
    w->n_held = claim_alloc(&w->scratch, c->n_partitions, 1, 0);
    w->n_lost = claim_alloc(&w->scratch, c->n_partitions, 1, 0);
    w->surplus = claim_alloc(&w->scratch, c->n_nodes, sizeof(int32_t), 0);
    w->n_held_by = claim_alloc(&w->scratch, c->n_nodes, sizeof(uint32_t), 0);
    w->held_at = claim_alloc(&w->scratch, c->n_nodes + 1, sizeof(uint32_t), 0);
    w->pair = claim_alloc(&w->scratch, (size_t)c->n_nodes * c->n_nodes, sizeof(uint16_t), 0);
    w->potential = claim_alloc(&w->scratch, c->n_nodes + (size_t)c->n_partitions * w->n_vertices,
                               sizeof(int32_t), 0);
    if (!w->row || !w->place || !w->n_held || !w->n_lost || !w->surplus || !w->n_held_by ||
        !w->held_at || !w->pair || !w->potential)
        return -ERR_NO_MEMORY;
    for (uint32_t i = 0; i < c->n_nodes; i++) {
        w->held_at[i] = at;
        at += w->before[i] > w->quota[i] ? w->before[i] : w->quota[i];
        w->surplus[i] = (int32_t)w->before[i] - (int32_t)w->quota[i];
    }
    w->held_at[c->n_nodes] = at;
    for (size_t k = 0; k < (size_t)c->n_partitions * w->n_old; k++)
        w->n_lost[k / w->n_old] = (uint8_t)(w->n_lost[k / w->n_old] + (w->old[k] != NOBODY));
    w->held = claim_alloc(&w->scratch, at, sizeof(uint32_t), 0);
    return w->held ? 0 : -ERR_NO_MEMORY;
}
