/* verdict: see verdict.h. */
#include "server/core/verdict.h"

#include "server/core/quorum.h"
#include <stdarg.h>
#include <stdio.h>

bool verdict_is_up(enum wire_member_state state)
{
    return state == MEMBER_ALIVE || state == MEMBER_SUSPECT;
}

static void look_at(const struct ring_entry *e, uint32_t wanted,
                    const struct verdict_member *members, struct verdict *ret)
{
    uint32_t need = quorum_need(LEVEL_QUORUM, e->n_ready), n_live = 0, n_writable = 0;

    for (uint32_t s = 0; s < e->n_slots; s++) {
        const struct ring_slot *slot = &e->slots[s];

        ret->n_joining += slot->state == SLOT_JOINING;
        if (slot->state != SLOT_READY || !verdict_is_up(members[slot->member].state))
            continue;
        n_live++;
        n_writable += !(members[slot->member].flags & LOAD_NO_SPACE);
    }
    ret->n_by_live[n_live]++;
    ret->n_full += n_live >= wanted && n_live == e->n_ready;
    ret->n_no_quorum += n_live < need;
    ret->n_no_write += n_writable < need;
    if (e->n_ready > ret->n_replicas)
        ret->n_replicas = e->n_ready;
}

void verdict_of(const struct ring *ring, const struct verdict_member *members, struct verdict *ret)
{
    const struct wire_ring *wire = ring_wire(ring);
    struct ring_entry entry;
    uint32_t wanted;
    bool flagged = false;

    *ret = (struct verdict){.n_partitions = wire->n_partitions,
                            .n_members = (uint32_t)wire->n_members};
    ret->n_replicas = wire->n_replicas < wire->n_members ? wire->n_replicas : ret->n_members;
    wanted = ret->n_replicas;
    for (size_t i = 0; i < wire->n_members; i++) {
        ret->n_up += verdict_is_up(members[i].state);
        flagged |= (members[i].flags & (LOAD_NO_SPACE | LOAD_CLOCK)) != 0;
    }
    for (uint32_t p = 0; p < wire->n_partitions; p++) {
        ring_lookup(ring, p, &entry);
        look_at(&entry, wanted, members, ret);
    }
    if (ret->n_no_quorum > 0 || ret->n_no_write > 0)
        ret->state = VERDICT_UNAVAILABLE;
    else if (ret->n_up < ret->n_members || ret->n_full < ret->n_partitions || flagged)
        ret->state = VERDICT_DEGRADED;
    else
        ret->state = VERDICT_HEALTHY;
}

/* ---- in words ------------------------------------------------------------------------------ */

struct text {
    char *at;
    size_t size, len;
};

static void add(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void add(struct text *t, const char *fmt, ...)
{
    va_list args;
    int n;

    va_start(args, fmt);
    n = vsnprintf(t->at + t->len, t->size - t->len, fmt, args);
    va_end(args);
    if (n > 0)
        t->len = t->len + (size_t)n < t->size ? t->len + (size_t)n : t->size - 1;
}

static const char *plural(uint32_t n, const char *one, const char *more)
{
    return n == 1 ? one : more;
}

static void add_nodes(struct text *t, const struct verdict *v)
{
    uint32_t n_away = v->n_members - v->n_up;

    if (n_away == 0)
        add(t, "%u of %u nodes up", v->n_up, v->n_members);
    else
        add(t, "%u of %u nodes %s not up", n_away, v->n_members, plural(n_away, "is", "are"));
}

/* Of those that miss a replica, the fewest that any of them has. */
static void add_replicas(struct text *t, const struct verdict *v)
{
    uint32_t live = 0;

    if (v->n_full == v->n_partitions) {
        add(t, "; every key has its %u %s", v->n_replicas,
            plural(v->n_replicas, "replica", "replicas"));
        return;
    }
    while (live < v->n_replicas && v->n_by_live[live] == 0)
        live++;
    add(t, "; %u of %u partitions %s %u of %u replicas", v->n_by_live[live], v->n_partitions,
        plural(v->n_by_live[live], "has", "have"), live, v->n_replicas);
}

size_t verdict_text(const struct verdict *v, char *ret, size_t size)
{
    struct text t = {.at = ret, .size = size};

    ret[0] = '\0';
    if (v->n_no_quorum > 0)
        add(&t, "%u of %u partitions cannot be read or written at quorum; ", v->n_no_quorum,
            v->n_partitions);
    else if (v->n_no_write > 0)
        add(&t, "%u of %u partitions cannot be written at quorum; ", v->n_no_write,
            v->n_partitions);
    add_nodes(&t, v);
    add_replicas(&t, v);
    if (v->n_joining > 0)
        add(&t, "; %u %s being filled", v->n_joining,
            plural(v->n_joining, "replica is", "replicas are"));
    return t.len;
}
