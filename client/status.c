/* status: see status.h. Copies all of it, so that it outlives the frame that it came in. */
#include "client/status.h"

static const char *copy(struct arena *arena, struct slice from, bool *ok)
{
    char *text = arena_alloc(arena, from.len + 1);

    *ok &= text != NULL;
    if (!text)
        return "";
    if (from.len)
        memcpy(text, from.data, from.len);
    text[from.len] = '\0';
    return text;
}

static void fill_load(const struct wire_load *from, struct quoit_member *to)
{
    to->has_load = from->number > 0;
    to->n_keys = from->n_keys;
    to->n_bytes = from->n_bytes;
    to->ops_per_s = from->ops_per_s;
    to->p99_us = from->p99_us;
    to->disk_percent = from->disk_percent;
    to->no_space = from->flags & LOAD_NO_SPACE;
    to->clock_off = from->flags & LOAD_CLOCK;
}

/* 1 + the milliseconds, 0 for never; a node may say anything. */
static int64_t heard_ms(uint64_t from)
{
    return from > INT64_MAX ? INT64_MAX : (int64_t)from - 1;
}

static void fill_member(const struct wire_member_status *from, struct arena *arena, bool *ok,
                        struct quoit_member *to)
{
    *to = (struct quoit_member){.name = copy(arena, from->member.name, ok),
                                .zone = copy(arena, from->member.zone, ok),
                                .client = copy(arena, from->member.client_address, ok),
                                .peer = copy(arena, from->member.peer_address, ok),
                                .software = copy(arena, from->software, ok),
                                .weight = from->member.weight,
                                .state = (enum quoit_state)from->state,
                                .state_ms = from->state_ms,
                                .heard_ms = heard_ms(from->heard_ms),
                                .voter = from->voter,
                                .n_slots = from->n_slots,
                                .n_joining = from->n_joining,
                                .boot = from->boot};
    memcpy(to->id, from->member.id.b, WIRE_ID_BYTES);
    fill_load(&from->load, to);
}

static void fill_problem(const struct wire_problem *from, const struct quoit_member *members,
                         struct arena *arena, bool *ok, struct quoit_problem *to)
{
    *to = (struct quoit_problem){.kind = (uint32_t)from->kind,
                                 .member = from->member ? &members[from->member - 1] : NULL,
                                 .text = copy(arena, from->text, ok),
                                 .advice = copy(arena, from->advice, ok)};
}

static void fill_counts(const struct wire_status_result *from, uint32_t p, struct quoit_replica *to)
{
    if (!from->vnode_records || from->vnode_records[p] == 0 || from->vnode_tombstones[p] == 0 ||
        memcmp(to->member->id, from->node_id.b, WIRE_ID_BYTES) != 0)
        return;
    to->counted = true;
    to->n_records = from->vnode_records[p] - 1;
    to->n_tombstones = from->vnode_tombstones[p] - 1;
    to->digest = from->vnode_digests[p];
}

static void fill_partition(const struct wire_status_result *from, uint32_t p,
                           const struct quoit_member *members, struct quoit_partition *to)
{
    const struct wire_ring *ring = from->ring;

    *to = (struct quoit_partition){.fence = ring->fence[p], .primary = ring->primary[p]};
    for (uint32_t s = 0; s < ring->n_slots; s++) {
        size_t at = (size_t)p * ring->n_slots + s;
        const struct quoit_member *m;
        bool ready = ring->slot_state[at] == SLOT_READY;

        if (ring->slot_state[at] == SLOT_NONE)
            continue;
        m = &members[ring->slot_member[at]];
        to->n_live += ready && (m->state == QUOIT_UP || m->state == QUOIT_SUSPECT);
        to->replicas[to->n_replicas] = (struct quoit_replica){
            .slot = s, .member = m, .incarnation = ring->slot_incarnation[at], .joining = !ready};
        fill_counts(from, p, &to->replicas[to->n_replicas++]);
    }
}

static int fill_partitions(const struct wire_status_result *from, struct arena *arena,
                           struct quoit_status *to)
{
    const struct wire_ring *ring = from->ring;
    struct quoit_partition *list = arena_alloc(arena, ring->n_partitions * sizeof(*list));

    if (!list)
        return -ERR_NO_MEMORY;
    for (uint32_t p = 0; p < ring->n_partitions; p++)
        fill_partition(from, p, to->members, &list[p]);
    to->n_partitions = ring->n_partitions;
    to->partitions = list;
    return 0;
}

static void fill_numbers(const struct wire_status_result *from, struct quoit_status *to)
{
    *to = (struct quoit_status){.verdict = (enum quoit_verdict)from->verdict,
                                .epoch = from->epoch,
                                .n_partitions = from->n_partitions,
                                .n_replicas = from->n_replicas,
                                .n_up = from->n_up,
                                .n_no_quorum = from->n_no_quorum,
                                .n_no_write = from->n_no_write,
                                .n_members = from->n_members,
                                .n_problems = from->n_problems,
                                .n_candidates = from->n_candidates};
    memcpy(to->node_id, from->node_id.b, WIRE_ID_BYTES);
    memcpy(to->cluster_id, from->cluster_id.b, WIRE_ID_BYTES);
    for (uint32_t i = 0; i <= LIMIT_SLOTS_MAX; i++)
        to->n_by_live[i] = from->n_by_live[i];
}

int status_fill(const struct wire_status_result *from, struct arena *arena,
                const struct quoit_status **ret)
{
    struct quoit_status *to = arena_alloc(arena, sizeof(*to));
    struct quoit_member *members = arena_alloc(arena, (from->n_members + 1) * sizeof(*members));
    struct quoit_problem *problems = arena_alloc(arena, (from->n_problems + 1) * sizeof(*problems));
    struct quoit_member *candidates =
        arena_alloc(arena, (from->n_candidates + 1) * sizeof(*candidates));
    bool ok = to && members && problems && candidates;

    if (!ok)
        return -ERR_NO_MEMORY;
    fill_numbers(from, to);
    to->text = copy(arena, from->text, &ok);
    for (size_t i = 0; i < from->n_members; i++)
        fill_member(&from->members[i], arena, &ok, &members[i]);
    for (size_t i = 0; i < from->n_candidates; i++) {
        fill_member(&from->candidates[i], arena, &ok, &candidates[i]);
        candidates[i].candidate = true;
    }
    for (size_t i = 0; i < from->n_problems; i++)
        fill_problem(&from->problems[i], members, arena, &ok, &problems[i]);
    to->members = members;
    to->problems = problems;
    to->candidates = candidates;
    if (!ok || (from->ring && fill_partitions(from, arena, to) < 0))
        return -ERR_NO_MEMORY;
    *ret = to;
    return 0;
}
