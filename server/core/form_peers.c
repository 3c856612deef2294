/* form_peers: who the listed nodes are, whether they fit together, and what ring they make.
 *
 * Everything here either succeeds or writes the sentence with which the process will end: a person
 * has typed lists, names and flags on several machines, and is told which two do not agree and what
 * to do about it. The protocol itself is in form.c.
 */
#include "server/core/form_peers.h"

#include <stdarg.h>
#include <stdio.h>

void form_explain(struct form *f, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(f->why, sizeof(f->why), format, args);
    va_end(args);
}

/* ---- who is who -------------------------------------------------------------------------- */

static struct slice keep_text(struct slice s, uint8_t **at)
{
    struct slice copy = slice_of(*at, s.len);

    if (s.len > 0)
        memcpy(*at, s.data, s.len);
    *at += s.len;
    return copy;
}

bool form_keep_member(struct form_peer *peer, const struct wire_member *m)
{
    uint8_t *at = peer->text;

    if (m->name.len > LIMIT_NAME_BYTES || m->zone.len > LIMIT_NAME_BYTES ||
        m->client_address.len > LIMIT_ADDRESS_BYTES || m->peer_address.len > LIMIT_ADDRESS_BYTES)
        return false;
    peer->member = *m;
    peer->member.name = keep_text(m->name, &at);
    peer->member.zone = keep_text(m->zone, &at);
    peer->member.client_address = keep_text(m->client_address, &at);
    peer->member.peer_address = keep_text(m->peer_address, &at);
    peer->heard = true;
    return true;
}

/* Whether two nodes can be members of one ring; else explains. */
static bool distinct(struct form *f, size_t a, size_t b)
{
    const struct wire_member *x = &f->peers[a].member, *y = &f->peers[b].member;

    if (wire_id_equal(&x->id, &y->id)) {
        form_explain(
            f,
            "%.*s and %.*s have the same node id: one data directory is a copy of the other; "
            "start that node on an empty directory",
            TEXT(f->list[a]), TEXT(f->list[b]));
        return false;
    }
    if (slice_equal(x->name, y->name)) {
        form_explain(f, "%.*s and %.*s are both named \"%.*s\": give each node a --name of its own",
                     TEXT(f->list[a]), TEXT(f->list[b]), TEXT(x->name));
        return false;
    }
    return true;
}

bool form_fits(struct form *f, size_t from, const struct wire_form *m)
{
    if (m->list_hash != f->list_hash) {
        form_explain(f,
                     "%.*s was started with another --cluster list: give each first node the same",
                     TEXT(f->list[from]));
        return false;
    }
    if (m->replicas != f->replicas) {
        form_explain(f, "%.*s was started with --replicas %u and this node with %u",
                     TEXT(f->list[from]), m->replicas, f->replicas);
        return false;
    }
    if (!slice_equal(m->self.peer_address, f->list[from]) ||
        !form_keep_member(&f->peers[from], &m->self)) {
        form_explain(f,
                     "the node at %.*s says that its peer address is %.*s: use that in --cluster",
                     TEXT(f->list[from]), TEXT(m->self.peer_address));
        return false;
    }
    for (size_t i = 0; i < f->n; i++)
        if (i != from && f->peers[i].heard && !distinct(f, i, from))
            return false;
    return true;
}

int form_member_at(const struct wire_ring *w, struct slice peer_address)
{
    for (size_t i = 0; i < w->n_members; i++)
        if (slice_equal(w->members[i].peer_address, peer_address))
            return (int)i;
    return -1;
}

bool form_adopt(struct form *f, const struct wire_ring *wire, const char *whence)
{
    struct ring *ring;
    int r = ring_new(wire, NULL, NULL, &ring);
    const struct wire_ring *w;
    bool ours;

    if (r < 0) {
        form_explain(f, "the first ring %s cannot be used: %s", whence, err_text(r));
        return false;
    }
    w = ring_wire(ring);
    ours = w->n_members == f->n;
    for (size_t i = 0; ours && i < f->n; i++)
        ours = form_member_at(w, f->list[i]) >= 0;
    if (!ours) {
        form_explain(
            f,
            "the first ring %s is of other nodes than the --cluster list names: start with "
            "the list of the first attempt, or on an empty directory",
            whence);
        ring_unref(ring);
        return false;
    }
    if (ring_member_of(ring, &form_self(f)->id) != form_member_at(w, f->list[f->self_index])) {
        form_explain(f, "the first ring %s was made with another data directory at %.*s", whence,
                     TEXT(f->list[f->self_index]));
        ring_unref(ring);
        return false;
    }
    f->ring = ring;
    f->bare = *w;
    f->bare.fence = f->bare.primary = f->bare.slot_member = f->bare.slot_state = NULL;
    f->bare.slot_incarnation = NULL;
    return true;
}

bool form_same_cluster(const struct form *f, const struct wire_ring *ring)
{
    return ring && f->ring && wire_id_equal(&ring->cluster_id, &ring_wire(f->ring)->cluster_id);
}

/* ---- the first ring -------------------------------------------------------------------------- */

bool form_propose(struct form *f)
{
    struct ring_form_input in = {
        .n_members = f->n, .replicas = f->replicas, .cluster_id = f->cluster_id, .space = f->space};
    struct wire_member *members = arena_alloc(&f->arena, f->n * sizeof(*members));
    struct wire_ring wire;
    int r = -ERR_NO_MEMORY;

    if (members) {
        for (size_t i = 0; i < f->n; i++)
            members[i] = f->peers[i].member;
        in.members = members;
        r = ring_form(&in, &f->arena, &wire);
    }
    if (r < 0) {
        form_explain(f, "cannot make the first ring: %s", err_text(r));
        return false;
    }
    return form_adopt(f, &wire, "that these nodes would make");
}

/* ---- waiting --------------------------------------------------------------------------------- */

bool form_explain_wait(struct form *f)
{
    size_t at = 0, n_missing = 0;

    for (size_t i = 0; i < f->n; i++) {
        const struct form_peer *p = &f->peers[i];
        bool missing = f->state == FORM_STATE_GATHER ? !p->heard
                       : form_is_leader(f)           ? !p->synced
                                                     : i == 0;
        int n;

        if (i == f->self_index || !missing)
            continue;
        n = snprintf(f->why + at, sizeof(f->why) - at, "%s%.*s%s",
                     n_missing++ ? ", " : "waiting to form a cluster with ", TEXT(f->list[i]),
                     p->up ? "" : " (not reachable)");
        at += n > 0 ? (size_t)n : 0;
        if (at >= sizeof(f->why))
            break;
    }
    return n_missing > 0;
}
