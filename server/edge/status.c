/* status: how the cluster is, as this node sees it; and a client's question on its way.
 *
 *     client --frame--> worker --LETTER_STATUS--> control: ring, gossip, loads -> verdict, troubles
 *                                (with the ring: by way of all workers, which count)
 *            <--frame--        <--LETTER_ANSWER--    the packed response
 *
 * Everything is put together when somebody asks. What others hold and do is what they have said of
 * themselves by gossip; the verdict and the sentences are the core's.
 */
#include "server/edge/status.h"
#include "proto/err.h"
#include "server/core/ring.h"
#include "server/core/trouble.h"
#include "server/core/verdict.h"
#include "server/edge/client.h"
#include "server/edge/control.h"
#include "server/edge/worker_loop.h"

/* ---- the picture --------------------------------------------------------------------------- */

/* Where it says it is now, if that differs from the ring. */
static void take_addresses(const struct wire_profile *profile, struct wire_member *ret)
{
    if (profile && profile->member.client_address.len)
        ret->client_address = profile->member.client_address;
    if (profile && profile->member.peer_address.len)
        ret->peer_address = profile->member.peer_address;
}

static void take_view(struct control *c, uint32_t node, const struct membership_view *view,
                      struct wire_member_status *ret)
{
    uint64_t now_ms = loop_now_ms(&c->loop);

    ret->state = view->state;
    ret->state_ms = now_ms > view->since_ms ? now_ms - view->since_ms : 0;
    ret->boot = view->boot;
    ret->software = view->profile ? view->profile->software : (struct slice){0};
    ret->load = view->load;
    if (node == 0)
        ret->heard_ms = 1;
    else if (view->heard_ms)
        ret->heard_ms = 1 + (now_ms > view->heard_ms ? now_ms - view->heard_ms : 0);
}

static void look_at_member(struct control *c, uint32_t index, struct wire_member_status *ret)
{
    uint32_t node = ring_member_node(c->ring, index);
    struct membership_view view;

    *ret = (struct wire_member_status){.member = ring_wire(c->ring)->members[index]};
    if (!gossip_view(&c->gossip, node, &view))
        return;
    take_addresses(view.profile, &ret->member);
    take_view(c, node, &view, ret);
}

static bool is_candidate(const struct control *c, const struct membership_view *view)
{
    return view->profile && view->profile->candidate && verdict_is_up(view->state) &&
           ring_member_of(c->ring, &view->id) < 0;
}

/* Those that are there; ret: LIMIT_CANDIDATES_MAX. Returns how many. */
static size_t look_for_candidates(struct control *c, struct wire_member_status *ret)
{
    struct membership_view view;
    size_t n = 0;

    for (uint32_t node = 0; node < LIMIT_NODES_MAX && n < LIMIT_CANDIDATES_MAX; node++) {
        if (!gossip_view(&c->gossip, node, &view) || !is_candidate(c, &view))
            continue;
        ret[n] = (struct wire_member_status){.member = view.profile->member};
        take_view(c, node, &view, &ret[n++]);
    }
    return n;
}

static void count_slots(const struct wire_ring *wire, struct wire_member_status *members)
{
    for (size_t i = 0; i < (size_t)wire->n_partitions * wire->n_slots; i++) {
        if (wire->slot_state[i] == SLOT_NONE)
            continue;
        members[wire->slot_member[i]].n_slots++;
        members[wire->slot_member[i]].n_joining += wire->slot_state[i] == SLOT_JOINING;
    }
    for (size_t i = 0; i < wire->n_voters; i++)
        members[wire->voters[i]].voter = true;
}

static int judge(struct control *c, struct arena *arena, const struct wire_member_status *members,
                 struct wire_status_result *ret)
{
    size_t n = ring_wire(c->ring)->n_members;
    struct verdict_member *seen = arena_alloc(arena, n * sizeof(*seen));
    char *text = arena_alloc(arena, LIMIT_ERROR_TEXT_BYTES);
    struct verdict v;

    if (!seen || !text)
        return -ERR_NO_MEMORY;
    for (size_t i = 0; i < n; i++)
        seen[i] =
            (struct verdict_member){.state = members[i].state, .flags = members[i].load.flags};
    verdict_of(c->ring, seen, &v);
    ret->verdict = v.state;
    ret->text = slice_of(text, verdict_text(&v, text, LIMIT_ERROR_TEXT_BYTES));
    ret->n_partitions = v.n_partitions;
    ret->n_replicas = v.n_replicas;
    ret->n_up = v.n_up;
    memcpy(ret->n_by_live, v.n_by_live, sizeof(ret->n_by_live));
    ret->n_no_quorum = v.n_no_quorum;
    ret->n_no_write = v.n_no_write;
    return 0;
}

int status_look(struct control *c, struct arena *arena, struct wire_status_result *ret)
{
    const struct wire_ring *wire = c->ring ? ring_wire(c->ring) : NULL;
    struct wire_member_status *members, *candidates;
    struct wire_problem *problems;
    int n;

    if (!wire)
        return -ERR_NOT_READY;
    members = arena_alloc(arena, wire->n_members * sizeof(*members));
    problems = arena_alloc(arena, LIMIT_PROBLEMS_MAX * sizeof(*problems));
    candidates = arena_alloc(arena, LIMIT_CANDIDATES_MAX * sizeof(*candidates));
    if (!members || !problems || !candidates)
        return -ERR_NO_MEMORY;
    for (uint32_t i = 0; i < wire->n_members; i++)
        look_at_member(c, i, &members[i]);
    count_slots(wire, members);
    *ret = (struct wire_status_result){.node_id = c->node->disk.node_id,
                                       .cluster_id = wire->cluster_id,
                                       .epoch = wire->epoch,
                                       .members = members,
                                       .n_members = wire->n_members,
                                       .problems = problems,
                                       .candidates = candidates,
                                       .n_candidates = look_for_candidates(c, candidates)};
    n = trouble_list(ret, arena, problems);
    if (n < 0)
        return n;
    ret->n_problems = (size_t)n;
    return judge(c, arena, members, ret);
}

/* ---- the question's way -------------------------------------------------------------------- */

/* Worker: the answer goes out, or an error in its place. */
static void reply(struct worker_loop *wl, struct conn *conn, uint64_t id, uint64_t tag,
                  const struct blob *frame, int error)
{
    struct buf *out = conn_out(conn);

    conn_answered(conn, frame ? frame->len : 0);
    if (frame && !conn_takes_answer(conn, frame->len))
        error = ERR_OVERLOADED;
    meter_answered(&wl->meters, tag, meter_outcome_of(error));
    if (error || !frame)
        client_send_error(conn, id, error, 0, 0);
    else if (out && buf_append_slice(out, blob_slice(frame)) == 0)
        conn_sent(conn);
    else
        conn_close(conn, -ERR_NO_MEMORY);
}

void status_ask(struct worker_loop *wl, struct conn *conn, const struct wire_request *req,
                uint64_t tag)
{
    struct letter *letter =
        wl->n_statuses < STATUS_WAITING_MAX ? letter_new(LETTER_STATUS, wl->index) : NULL;

    if (!letter) {
        reply(wl, conn, req->id, tag, NULL, ERR_OVERLOADED);
        return;
    }
    letter->u.status.conn = conn->id;
    letter->u.status.id = req->id;
    letter->u.status.tag = tag;
    letter->u.status.ring = req->u.status.ring;
    wl->n_statuses++;
    if (req->u.status.ring)
        counts_ask(wl, letter);
    else
        loop_post_one(&wl->node->control->loop, letter);
}

/* A packed frame, or NULL: no memory. */
static struct blob *pack(struct control *c, const struct letter *letter, struct arena *arena)
{
    struct wire_status_result status;
    struct wire_response res = {.id = letter->u.status.id,
                                .ring_epoch = c->ring ? ring_epoch(c->ring) : 0};
    int rc = status_look(c, arena, &status);
    struct blob *frame = NULL;
    struct buf out;

    buf_init(&out);
    if (rc == 0) {
        if (letter->u.status.ring) {
            status.ring = ring_wire(c->ring);
            counts_of(letter, c->ring, &status);
        }
        res.type = RESULT_STATUS;
        res.u.status = &status;
    } else {
        res.error = (struct wire_error){
            .code = -rc, .text = slice_str(err_text(rc)), .retryable = err_retryable(rc)};
    }
    if (wire_response_pack(&res, &out) == 0)
        frame = blob_copy(buf_slice(&out));
    buf_deinit(&out);
    return frame;
}

void status_answer(struct control *c, struct letter *letter)
{
    uint32_t worker = letter->from;
    struct arena arena;

    arena_init(&arena, STATUS_ARENA_BYTES);
    letter->type = LETTER_ANSWER;
    letter->from = c->loop.index;
    letter->u.status.frame = pack(c, letter, &arena);
    arena_deinit(&arena);
    loop_post_one(&c->node->workers[worker]->loop, letter);
}

void status_take(struct worker_loop *wl, const struct letter *letter)
{
    struct conn *conn = loop_find_conn(&wl->loop, letter->u.status.conn);

    wl->n_statuses--;
    if (conn)
        reply(wl, conn, letter->u.status.id, letter->u.status.tag, letter->u.status.frame,
              letter->u.status.frame ? 0 : ERR_NO_MEMORY);
}
