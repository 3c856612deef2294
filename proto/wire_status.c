/* wire_status: the cluster as one node sees it, for operators; and the loads it is made of.
 *
 * A status is checked like everything else that crosses a wire: texts are printable and bounded,
 * for they go to a terminal; a problem names a member that is there. Verdicts and states that this
 * version does not know are refused, since whoever acts on them would act on a guess; a problem of
 * a kind not known is kept, for its texts say what it is.
 */
#include "proto/wire_pb.h"

#include <stdlib.h>

struct member_parts {
    Quoit__MemberStatus status;
    Quoit__Member member;
    Quoit__Load load;
};

/* ---- packing ------------------------------------------------------------------------------- */

Quoit__Load *pb_write_load(const struct wire_load *load, Quoit__Load *ret)
{
    if (!load->number)
        return NULL;
    quoit__load__init(ret);
    ret->number = load->number;
    ret->n_keys = load->n_keys;
    ret->n_bytes = load->n_bytes;
    ret->ops_per_s = load->ops_per_s;
    ret->disk_percent = load->disk_percent;
    ret->p99_us = load->p99_us;
    ret->flags = load->flags;
    return ret;
}

static void write_member(const struct wire_member_status *from, struct member_parts *parts)
{
    Quoit__MemberStatus *ret = &parts->status;

    quoit__member_status__init(ret);
    pb_write_member(&from->member, &parts->member);
    ret->member = &parts->member;
    ret->state = (uint32_t)from->state;
    ret->state_ms = from->state_ms;
    ret->heard_ms = from->heard_ms;
    ret->voter = from->voter;
    ret->n_slots = from->n_slots;
    ret->n_joining = from->n_joining;
    ret->boot = from->boot;
    ret->software = pb_bytes(from->software);
    ret->load = pb_write_load(&from->load, &parts->load);
}

static void write_problem(const struct wire_problem *from, Quoit__Problem *ret)
{
    quoit__problem__init(ret);
    ret->kind = (Quoit__ProblemKind)from->kind;
    ret->member = from->member;
    ret->text = pb_bytes(from->text);
    ret->advice = pb_bytes(from->advice);
}

static void write_numbers(const struct wire_status_result *from, Quoit__StatusResult *ret)
{
    ret->verdict = (Quoit__Verdict)from->verdict;
    ret->text = pb_bytes(from->text);
    ret->node_id = pb_id(&from->node_id);
    ret->cluster_id = pb_id(&from->cluster_id);
    ret->epoch = from->epoch;
    ret->n_partitions = from->n_partitions;
    ret->n_replicas = from->n_replicas;
    ret->n_up = from->n_up;
    ret->n_n_by_live = LIMIT_SLOTS_MAX + 1;
    ret->n_by_live = (uint32_t *)from->n_by_live; /* the generated struct knows no const */
    ret->n_no_quorum = from->n_no_quorum;
    ret->n_no_write = from->n_no_write;
}

/* The generated struct knows no const. */
static void write_counts(const struct wire_status_result *from, Quoit__StatusResult *ret)
{
    if (!from->vnode_records)
        return;
    ret->n_vnode_records = ret->n_vnode_tombstones = ret->n_vnode_digests =
        from->ring->n_partitions;
    ret->vnode_records = (uint64_t *)from->vnode_records;
    ret->vnode_tombstones = (uint64_t *)from->vnode_tombstones;
    ret->vnode_digests = (uint64_t *)from->vnode_digests;
}

int pb_write_status(const struct wire_status_result *status, Quoit__StatusResult *ret,
                    struct pb_ring *ring, void **ret_block)
{
    size_t n_ring = status->n_members, n = n_ring + status->n_candidates, m = status->n_problems;
    /* One block: members and candidates, problems, then the pointers that protobuf-c wants. */
    struct member_parts *members =
        calloc(1, n * (sizeof(*members) + sizeof(void *)) +
                      (m + 1) * (sizeof(Quoit__Problem) + sizeof(void *)));
    Quoit__Problem *problems;
    Quoit__MemberStatus **to_members;
    Quoit__Problem **to_problems;

    if (!members)
        return -ERR_NO_MEMORY;
    *ret_block = members;
    problems = (Quoit__Problem *)(members + n);
    to_members = (Quoit__MemberStatus **)(problems + m);
    to_problems = (Quoit__Problem **)(to_members + n);
    for (size_t i = 0; i < n; i++) {
        write_member(i < n_ring ? &status->members[i] : &status->candidates[i - n_ring],
                     &members[i]);
        to_members[i] = &members[i].status;
    }
    for (size_t i = 0; i < m; i++) {
        write_problem(&status->problems[i], &problems[i]);
        to_problems[i] = &problems[i];
    }
    quoit__status_result__init(ret);
    write_numbers(status, ret);
    ret->n_members = n_ring;
    ret->members = to_members;
    ret->n_candidates = status->n_candidates;
    ret->candidates = to_members + n_ring;
    ret->n_problems = m;
    ret->problems = to_problems;
    if (!status->ring)
        return 0;
    write_counts(status, ret);
    ret->ring = &ring->ring;
    return pb_write_ring(status->ring, ring);
}

/* ---- unpacking ----------------------------------------------------------------------------- */

void pb_read_load(const Quoit__Load *pb, struct wire_load *ret)
{
    if (pb)
        *ret = (struct wire_load){.number = pb->number,
                                  .n_keys = pb->n_keys,
                                  .n_bytes = pb->n_bytes,
                                  .ops_per_s = pb->ops_per_s,
                                  .disk_percent = pb->disk_percent,
                                  .p99_us = pb->p99_us,
                                  .flags = pb->flags};
}

static int read_member(const Quoit__MemberStatus *pb, struct wire_member_status *ret)
{
    *ret = (struct wire_member_status){.state = (enum wire_member_state)pb->state,
                                       .state_ms = pb->state_ms,
                                       .heard_ms = pb->heard_ms,
                                       .voter = pb->voter,
                                       .n_slots = pb->n_slots,
                                       .n_joining = pb->n_joining,
                                       .boot = pb->boot};
    pb_read_load(pb->load, &ret->load);
    if (pb->state > MEMBER_STOPPED || !pb->member || pb_read_member(pb->member, &ret->member) < 0)
        return -ERR_BAD_REQUEST;
    return pb_read_text(pb->software, LIMIT_NAME_BYTES, &ret->software);
}

static int read_problem(const Quoit__Problem *pb, size_t n_members, struct wire_problem *ret)
{
    bool known = (unsigned int)pb->kind <= PROBLEM_MORE;

    *ret = (struct wire_problem){.kind = known ? (enum wire_problem_kind)pb->kind : PROBLEM_NONE,
                                 .member = pb->member};
    if (pb->member > n_members || pb_read_text(pb->text, LIMIT_ERROR_TEXT_BYTES, &ret->text) < 0)
        return -ERR_BAD_REQUEST;
    return pb_read_text(pb->advice, LIMIT_ERROR_TEXT_BYTES, &ret->advice);
}

static int read_numbers(const Quoit__StatusResult *pb, struct wire_status_result *ret)
{
    *ret = (struct wire_status_result){.verdict = (enum wire_verdict)pb->verdict,
                                       .epoch = pb->epoch,
                                       .n_partitions = pb->n_partitions,
                                       .n_replicas = pb->n_replicas,
                                       .n_up = pb->n_up,
                                       .n_no_quorum = pb->n_no_quorum,
                                       .n_no_write = pb->n_no_write,
                                       .n_members = pb->n_members,
                                       .n_problems = pb->n_problems,
                                       .n_candidates = pb->n_candidates};
    if ((unsigned int)pb->verdict < VERDICT_HEALTHY ||
        (unsigned int)pb->verdict > VERDICT_UNAVAILABLE || pb->n_replicas > LIMIT_SLOTS_MAX ||
        pb->n_n_by_live > LIMIT_SLOTS_MAX + 1 || pb->n_members > LIMIT_MEMBERS_MAX ||
        pb->n_problems > LIMIT_PROBLEMS_MAX || pb->n_candidates > LIMIT_CANDIDATES_MAX ||
        pb_read_id(pb->node_id, &ret->node_id) < 0 ||
        pb_read_id(pb->cluster_id, &ret->cluster_id) < 0)
        return -ERR_BAD_REQUEST;
    for (size_t i = 0; i < pb->n_n_by_live; i++)
        ret->n_by_live[i] = pb->n_by_live[i];
    return pb_read_text(pb->text, LIMIT_ERROR_TEXT_BYTES, &ret->text);
}

/* The ring of a status names the same members. */
static int read_ring(const Quoit__Ring *pb, struct arena *arena, struct wire_status_result *ret)
{
    struct wire_ring *ring = arena_alloc(arena, sizeof(*ring));
    int r = ring ? pb_read_ring(pb, arena, false, ring) : -ERR_NO_MEMORY;

    if (r < 0)
        return r;
    ret->ring = ring;
    return ring->n_members == ret->n_members ? 0 : -ERR_BAD_REQUEST;
}

/* As many as the ring has partitions, or none. */
static int read_counts(const Quoit__StatusResult *pb, struct wire_status_result *ret)
{
    size_t n = pb->n_vnode_records;

    if (n == 0 && pb->n_vnode_tombstones == 0 && pb->n_vnode_digests == 0)
        return 0;
    if (!ret->ring || n != ret->ring->n_partitions || n != pb->n_vnode_tombstones ||
        n != pb->n_vnode_digests)
        return -ERR_BAD_REQUEST;
    ret->vnode_records = pb->vnode_records;
    ret->vnode_tombstones = pb->vnode_tombstones;
    ret->vnode_digests = pb->vnode_digests;
    return 0;
}

int pb_read_status(const Quoit__StatusResult *pb, struct arena *arena,
                   const struct wire_status_result **ret)
{
    struct wire_status_result *status = arena_alloc(arena, sizeof(*status));
    struct wire_member_status *members, *candidates;
    struct wire_problem *problems;
    int r = status ? read_numbers(pb, status) : -ERR_NO_MEMORY;

    if (r < 0)
        return r;
    members = arena_alloc(arena, (pb->n_members + 1) * sizeof(*members)); /* never nothing */
    problems = arena_alloc(arena, (pb->n_problems + 1) * sizeof(*problems));
    candidates = arena_alloc(arena, (pb->n_candidates + 1) * sizeof(*candidates));
    if (!members || !problems || !candidates)
        return -ERR_NO_MEMORY;
    for (size_t i = 0; r == 0 && i < pb->n_members; i++)
        r = read_member(pb->members[i], &members[i]);
    for (size_t i = 0; r == 0 && i < pb->n_candidates; i++)
        r = read_member(pb->candidates[i], &candidates[i]);
    for (size_t i = 0; r == 0 && i < pb->n_problems; i++)
        r = read_problem(pb->problems[i], pb->n_members, &problems[i]);
    status->members = members;
    status->problems = problems;
    status->candidates = candidates;
    if (r == 0 && pb->ring)
        r = read_ring(pb->ring, arena, status);
    if (r == 0)
        r = read_counts(pb, status);
    if (r == 0)
        *ret = status;
    return r;
}
