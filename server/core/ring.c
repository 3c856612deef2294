/* ring: an immutable placement, copied once and looked up millions of times.
 *
 * ring_new takes a ring as it came from a peer, a disk or ring_form, and believes nothing of it.
 * Every count is compared with its limit before it takes part in a product, so no size can
 * overflow, and every rule that the rest of the core builds on is checked here, once:
 *
 *   - epoch, ids and the numbers of partitions, slots, replicas, voters and buckets are in range;
 *   - ids and names of members are distinct, buckets ascend, voters are distinct members;
 *   - an entry has a fence version from 1, between one and n_replicas READY slots, each node at
 * most once, incarnations distinct and below next_incarnation, and a primary that is READY.
 *
 * One allocation holds everything:
 *
 *   struct ring | entries, packed for ring_lookup | the flat arrays of ring_wire | members |
 * strings
 *
 * The flat arrays exist for ring_wire (clients and peers ask for the ring as it travels). A lookup
 * reads the packed copy: one partition's slots are neighbours in memory and already carry the node
 * handle, so the path of a request touches one or two cache lines and searches nothing.
 *
 * The reference count is atomic, and nothing else ever changes: a ring may be shared by all
 * threads.
 */
#include "server/core/ring.h"

#include <assert.h>
#include <stdlib.h>

struct ring {
    atomic_uint refs;
    uint32_t partition_shift; /* 64 - log2(n_partitions) */
    struct wire_ring wire;
    struct ring_slot *slots;          /* [n_partitions * n_slots] */
    struct ring_head *heads;          /* [n_partitions] */
    uint32_t *nodes;                  /* [n_members]: handle of each member */
    const struct wire_member **by_id; /* [n_members], ascending by id */
};

struct ring_head {
    uint32_t fence;
    uint16_t primary, n_ready;
};

/* ---- checks ------------------------------------------------------------------------------ */

static bool text_ok(struct slice s, size_t len_min, size_t len_max)
{
    if (s.len < len_min || s.len > len_max || (s.len > 0 && !s.data))
        return false;
    for (size_t i = 0; i < s.len; i++)
        if (s.data[i] < 0x20 || s.data[i] == 0x7f)
            return false;
    return true;
}

static int compare_ids(const void *a, const void *b)
{
    const struct wire_member *const *x = a, *const *y = b;

    return memcmp((*x)->id.b, (*y)->id.b, WIRE_ID_BYTES);
}

static int compare_names(const void *a, const void *b)
{
    const struct wire_member *const *x = a, *const *y = b;

    return slice_compare((*x)->name, (*y)->name);
}

static bool counts_ok(const struct wire_ring *w)
{
    return w->epoch > 0 && !wire_id_is_zero(&w->cluster_id) &&
           w->n_partitions >= LIMIT_PARTITIONS_MIN && w->n_partitions <= LIMIT_PARTITIONS_MAX &&
           (w->n_partitions & (w->n_partitions - 1)) == 0 && w->n_replicas >= 1 &&
           w->n_replicas <= LIMIT_REPLICAS_MAX && w->n_slots >= 1 &&
           w->n_slots <= LIMIT_SLOTS_MAX && w->n_members >= 1 &&
           w->n_members <= LIMIT_MEMBERS_MAX && w->n_voters >= 1 &&
           w->n_voters <= LIMIT_VOTERS_MAX && w->n_voters <= w->n_members && w->n_buckets >= 1 &&
           w->n_buckets <= LIMIT_BUCKETS_MAX && w->members && w->voters && w->buckets && w->fence &&
           w->primary && w->slot_member && w->slot_incarnation && w->slot_state;
}

static bool members_ok(const struct wire_ring *w)
{
    for (size_t i = 0; i < w->n_members; i++) {
        const struct wire_member *m = &w->members[i];

        if (wire_id_is_zero(&m->id) || !text_ok(m->name, 1, LIMIT_NAME_BYTES) ||
            !text_ok(m->zone, 0, LIMIT_NAME_BYTES) ||
            !text_ok(m->client_address, 0, LIMIT_ADDRESS_BYTES) ||
            !text_ok(m->peer_address, 0, LIMIT_ADDRESS_BYTES))
            return false;
    }
    return true;
}

static bool voters_ok(const struct wire_ring *w)
{
    for (size_t i = 0; i < w->n_voters; i++) {
        if (w->voters[i] >= w->n_members)
            return false;
        for (size_t j = 0; j < i; j++)
            if (w->voters[j] == w->voters[i])
                return false;
    }
    return true;
}

static bool buckets_ok(const struct wire_ring *w)
{
    for (size_t i = 0; i < w->n_buckets; i++)
        if (w->buckets[i] <= (i ? w->buckets[i - 1] : 0))
            return false;
    return true;
}

/* One slot of an entry against those before it. */
static bool slot_ok(const struct wire_ring *w, size_t first, uint32_t slot)
{
    size_t at = first + slot;
    bool exists = w->slot_state[at] != SLOT_NONE;

    if (w->slot_state[at] > SLOT_JOINING || exists != (w->slot_incarnation[at] != 0))
        return false;
    if (!exists)
        return true;
    if (w->slot_member[at] >= w->n_members || w->slot_incarnation[at] >= w->next_incarnation)
        return false;
    for (size_t i = first; i < at; i++)
        if (w->slot_state[i] != SLOT_NONE && (w->slot_member[i] == w->slot_member[at] ||
                                              w->slot_incarnation[i] == w->slot_incarnation[at]))
            return false;
    return true;
}

/* The number of READY slots, or 0 if the entry is not sound. */
static uint32_t entry_check(const struct wire_ring *w, uint32_t partition)
{
    size_t first = (size_t)partition * w->n_slots;
    uint32_t n_ready = 0;

    for (uint32_t s = 0; s < w->n_slots; s++) {
        if (!slot_ok(w, first, s))
            return 0;
        n_ready += w->slot_state[first + s] == SLOT_READY;
    }
    if (w->fence[partition] == 0 || n_ready > w->n_replicas ||
        w->primary[partition] >= w->n_slots ||
        w->slot_state[first + w->primary[partition]] != SLOT_READY)
        return 0;
    return n_ready;
}

/* ---- building ---------------------------------------------------------------------------- */

struct layout {
    size_t at;
};

static size_t reserve(struct layout *l, size_t n, size_t size)
{
    size_t at = (l->at + 15) & ~(size_t)15;

    l->at = at + n * size;
    return at;
}

static size_t strings_bytes(const struct wire_ring *w)
{
    size_t n = 0;

    for (size_t i = 0; i < w->n_members; i++)
        n += w->members[i].name.len + w->members[i].client_address.len +
             w->members[i].peer_address.len + w->members[i].zone.len;
    return n;
}

static struct slice copy_text(struct slice s, uint8_t **at)
{
    struct slice copy = {.data = *at, .len = s.len};

    if (s.len > 0)
        memcpy(*at, s.data, s.len);
    *at += s.len;
    return copy;
}

static void copy_members(struct wire_member *to, const struct wire_ring *w, uint8_t *text)
{
    for (size_t i = 0; i < w->n_members; i++) {
        const struct wire_member *m = &w->members[i];

        to[i] = *m;
        to[i].name = copy_text(m->name, &text);
        to[i].client_address = copy_text(m->client_address, &text);
        to[i].peer_address = copy_text(m->peer_address, &text);
        to[i].zone = copy_text(m->zone, &text);
    }
}

/* Allocates the ring and copies the wire struct with all its arrays. The counts are checked. */
static struct ring *ring_copy(const struct wire_ring *w)
{
    size_t n_flat = (size_t)w->n_partitions * w->n_slots;
    struct layout l = {sizeof(struct ring)};
    size_t slots = reserve(&l, n_flat, sizeof(struct ring_slot));
    size_t heads = reserve(&l, w->n_partitions, sizeof(struct ring_head));
    size_t nodes = reserve(&l, w->n_members, sizeof(uint32_t));
    size_t by_id = reserve(&l, w->n_members, sizeof(struct wire_member *));
    size_t incarnation = reserve(&l, n_flat, sizeof(uint64_t));
    size_t member = reserve(&l, n_flat, sizeof(uint32_t));
    size_t state = reserve(&l, n_flat, sizeof(uint32_t));
    size_t fence = reserve(&l, w->n_partitions, sizeof(uint32_t));
    size_t primary = reserve(&l, w->n_partitions, sizeof(uint32_t));
    size_t voters = reserve(&l, w->n_voters, sizeof(uint32_t));
    size_t buckets = reserve(&l, w->n_buckets, sizeof(uint32_t));
    size_t members = reserve(&l, w->n_members, sizeof(struct wire_member));
    size_t text = reserve(&l, strings_bytes(w), 1);
    uint8_t *base = malloc(l.at);
    struct ring *ring = (struct ring *)base;

    if (!ring)
        return NULL;
    atomic_init(&ring->refs, 1);
    ring->partition_shift = 64 - (uint32_t)__builtin_ctz(w->n_partitions);
    ring->wire = *w;
    ring->slots = (struct ring_slot *)(base + slots);
    ring->heads = (struct ring_head *)(base + heads);
    ring->nodes = (uint32_t *)(base + nodes);
    ring->by_id = (const struct wire_member **)(base + by_id);
    ring->wire.slot_incarnation =
        memcpy(base + incarnation, w->slot_incarnation, n_flat * sizeof(uint64_t));
    ring->wire.slot_member = memcpy(base + member, w->slot_member, n_flat * sizeof(uint32_t));
    ring->wire.slot_state = memcpy(base + state, w->slot_state, n_flat * sizeof(uint32_t));
    ring->wire.fence = memcpy(base + fence, w->fence, w->n_partitions * sizeof(uint32_t));
    ring->wire.primary = memcpy(base + primary, w->primary, w->n_partitions * sizeof(uint32_t));
    ring->wire.voters = memcpy(base + voters, w->voters, w->n_voters * sizeof(uint32_t));
    ring->wire.buckets = memcpy(base + buckets, w->buckets, w->n_buckets * sizeof(uint32_t));
    copy_members((struct wire_member *)(base + members), w, base + text);
    ring->wire.members = (const struct wire_member *)(base + members);
    return ring;
}

/* Sorts by name into by_id to see whether names are distinct, then by id, which stays. */
static bool index_members(struct ring *ring)
{
    size_t n = ring->wire.n_members;

    for (size_t i = 0; i < n; i++)
        ring->by_id[i] = &ring->wire.members[i];
    qsort(ring->by_id, n, sizeof(ring->by_id[0]), compare_names);
    for (size_t i = 1; i < n; i++)
        if (compare_names(&ring->by_id[i - 1], &ring->by_id[i]) == 0)
            return false;
    qsort(ring->by_id, n, sizeof(ring->by_id[0]), compare_ids);
    for (size_t i = 1; i < n; i++)
        if (compare_ids(&ring->by_id[i - 1], &ring->by_id[i]) == 0)
            return false;
    return true;
}

static bool pack_entries(struct ring *ring)
{
    const struct wire_ring *w = &ring->wire;

    for (uint32_t p = 0; p < w->n_partitions; p++) {
        uint32_t n_ready = entry_check(w, p);

        if (n_ready == 0)
            return false;
        ring->heads[p] = (struct ring_head){
            .fence = w->fence[p], .primary = (uint16_t)w->primary[p], .n_ready = (uint16_t)n_ready};
        for (uint32_t s = 0; s < w->n_slots; s++) {
            size_t at = (size_t)p * w->n_slots + s;
            struct ring_slot *slot = &ring->slots[at];

            if (w->slot_state[at] == SLOT_NONE)
                *slot = (struct ring_slot){.state = SLOT_NONE};
            else
                *slot = (struct ring_slot){.member = w->slot_member[at],
                                           .node = ring->nodes[w->slot_member[at]],
                                           .incarnation = w->slot_incarnation[at],
                                           .state = (enum wire_slot_state)w->slot_state[at]};
        }
    }
    return true;
}

int ring_new(const struct wire_ring *wire, uint32_t (*intern)(void *, const struct wire_id *),
             void *ctx, struct ring **ret)
{
    struct ring *ring;

    if (!counts_ok(wire) || !members_ok(wire) || !voters_ok(wire) || !buckets_ok(wire))
        return -ERR_BAD_REQUEST;
    ring = ring_copy(wire);
    if (!ring)
        return -ERR_NO_MEMORY;
    if (!index_members(ring)) {
        ring_unref(ring);
        return -ERR_BAD_REQUEST;
    }
    for (uint32_t i = 0; i < ring->wire.n_members; i++)
        ring->nodes[i] = intern ? intern(ctx, &ring->wire.members[i].id) : i;
    if (!pack_entries(ring)) {
        ring_unref(ring);
        return -ERR_BAD_REQUEST;
    }
    *ret = ring;
    return 0;
}

struct ring *ring_ref(struct ring *ring)
{
    if (ring)
        atomic_fetch_add_explicit(&ring->refs, 1, memory_order_relaxed);
    return ring;
}

void ring_unref(struct ring *ring)
{
    if (ring && atomic_fetch_sub_explicit(&ring->refs, 1, memory_order_acq_rel) == 1)
        free(ring);
}

/* ---- questions --------------------------------------------------------------------------- */

const struct wire_ring *ring_wire(const struct ring *ring)
{
    return &ring->wire;
}

uint64_t ring_epoch(const struct ring *ring)
{
    return ring->wire.epoch;
}

uint64_t ring_token(const struct ring *ring, const struct key *key)
{
    return token_of(&ring->wire.space, key->bucket, key->partition);
}

uint32_t ring_partition(const struct ring *ring, uint64_t token)
{
    return (uint32_t)(token >> ring->partition_shift);
}

bool ring_has_bucket(const struct ring *ring, uint32_t bucket)
{
    const uint32_t *buckets = ring->wire.buckets;
    size_t low = 0, high = ring->wire.n_buckets;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (buckets[mid] == bucket)
            return true;
        if (buckets[mid] < bucket)
            low = mid + 1;
        else
            high = mid;
    }
    return false;
}

int ring_member_of(const struct ring *ring, const struct wire_id *id)
{
    size_t low = 0, high = ring->wire.n_members;

    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int order = memcmp(ring->by_id[mid]->id.b, id->b, WIRE_ID_BYTES);

        if (order == 0)
            return (int)(ring->by_id[mid] - ring->wire.members);
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return -1;
}

uint32_t ring_member_node(const struct ring *ring, uint32_t member)
{
    assert(member < ring->wire.n_members);
    return ring->nodes[member];
}

void ring_lookup(const struct ring *ring, uint32_t partition, struct ring_entry *ret)
{
    const struct ring_head *head = &ring->heads[partition];
    uint32_t n_slots = ring->wire.n_slots;

    assert(partition < ring->wire.n_partitions);
    ret->fence = head->fence;
    ret->primary = head->primary;
    ret->n_slots = n_slots;
    ret->n_ready = head->n_ready;
    memcpy(ret->slots, &ring->slots[(size_t)partition * n_slots], n_slots * sizeof(ret->slots[0]));
}

int ring_entry_slot(const struct ring_entry *entry, uint32_t node)
{
    for (uint32_t i = 0; i < entry->n_slots; i++)
        if (entry->slots[i].state != SLOT_NONE && entry->slots[i].node == node)
            return (int)i;
    return -1;
}
