/* membership_ring: the ring of those who have a newer one.
 *
 * Every control message and every hello says which ring its sender has. Whoever has an older one
 * asks for that, one node at a time, and gets it whole:
 *
 *            a newer one was heard of               it is good
 *      IDLE ---------------------------> ASKED ---------------------> TAKEN   being synced
 *        ^                                 |                            |
 *        +--- refused, bad, or time ------+                            |
 *        +--------- served; or it could not be synced ------------------+
 *
 * Nothing is decided here. A ring comes from whoever has it; it is taken because of what it says:
 * sound in itself, of our cluster, and nothing in it goes backward against the ring held
 * (ring_next.c). That is checked whoever sends it, and an answer that comes late is as good as any.
 * One that is bad is not asked for again from the same node, until that node has a newer one.
 *
 * A candidate, whom no ring has named yet, takes each. Else a ring that does not name this node is
 * left alone, and not asked for again: what is to become of a node that was removed is not settled
 * by gossip, and until it is settled the node serves what it has, and is refused by those who know
 * better.
 *
 * Once a ring is served, everybody who hears of this node hears of its epoch, and it sees to it
 * that some hear at once. So there is always one more to be asked, and nobody is asked by all;
 * beyond MEMBERSHIP_RING_TELLS in a second a node refuses, for a large ring is a megabyte.
 */
#include "server/core/membership_impl.h"

static uint64_t held_epoch(const struct membership *m)
{
    return m->ring.held ? ring_epoch(m->ring.held) : 0;
}

/* It has what we want. */
static bool has_newer(const struct membership *m, const struct node *n)
{
    return m->ring.held && n->handle != 0 && n->ring_epoch > held_epoch(m) &&
           n->ring_epoch > m->ring.without_us && n->ring_epoch > n->ring_refused;
}

/* Nobody is asked until then. */
static void wait_to_ask(struct membership *m, uint64_t due_ms)
{
    m->ring.hunt = RING_IDLE;
    m->ring.due_ms = due_ms > m->ring.rest_ms ? due_ms : m->ring.rest_ms;
}

void ring_said(struct membership *m, struct node *n, uint64_t epoch)
{
    n->ring_epoch = epoch;
    if (!has_newer(m, n))
        return;
    m->ring.behind = true;
    if (m->ring.hunt == RING_IDLE && !n->ring_failed_ms)
        wait_to_ask(m, 0); /* whoever has failed need not be waited for */
}

/* On a new link: what was asked on one before may be lost with it. */
void ring_said_hello(struct membership *m, struct node *n, uint64_t epoch)
{
    if (m->ring.hunt == RING_ASKED && m->ring.asked == n->handle)
        wait_to_ask(m, 0);
    ring_said(m, n, epoch);
}

/* ---- asking -------------------------------------------------------------------------------- */

/* Whoever has failed least lately, and of those the one with the newest; NULL: nobody has one.
 * *ret_due_ms: when it may be asked, 0: now, or as soon as somebody has one. */
static struct node *choose(struct membership *m, uint64_t *ret_due_ms)
{
    struct node *best = NULL;

    for (uint32_t i = 0; i < m->n_order; i++) { /* from where probing is in its shuffled list */
        struct node *n = m->nodes[m->order[(m->order_at + i) % m->n_order]];

        if (!has_newer(m, n) || !node_is_there(n))
            continue;
        if (!best || n->ring_failed_ms < best->ring_failed_ms ||
            (n->ring_failed_ms == best->ring_failed_ms && n->ring_epoch > best->ring_epoch))
            best = n;
    }
    *ret_due_ms =
        best && best->ring_failed_ms ? best->ring_failed_ms + MEMBERSHIP_RING_RETRY_MS : 0;
    return best;
}

/* It is left alone for a while. */
static void failed(const struct membership *m, struct node *n)
{
    n->ring_failed_ms = m->now_ms;
}

void ring_run(struct membership *m, struct membership_effects *out)
{
    uint64_t due_ms;
    struct node *n;

    if (m->ring.hunt == RING_ASKED) /* in vain */
        failed(m, m->nodes[m->ring.asked]);
    n = choose(m, &due_ms);
    m->ring.behind = n != NULL;
    if (!n || due_ms > m->now_ms) {
        wait_to_ask(m, due_ms);
        return;
    }
    n->ring_asked = true;
    m->ring.hunt = RING_ASKED;
    m->ring.asked = n->handle;
    m->ring.rest_ms = m->now_ms + MEMBERSHIP_RING_ASK_MS;
    m->ring.due_ms = m->now_ms + MEMBERSHIP_RING_ANSWER_MS;
    out->list[out->n++] =
        (struct membership_effect){.type = MEMBERSHIP_RING_ASK, .node = n->handle};
}

uint64_t ring_deadline_ms(const struct membership *m)
{
    if (m->ring.hunt == RING_TAKEN || (m->ring.hunt == RING_IDLE && !m->ring.behind))
        return UINT64_MAX;
    return m->ring.due_ms;
}

/* ---- answers ------------------------------------------------------------------------------- */

/* 0: it is good; 1: it is not, *ret_why; -ERR_NO_MEMORY. */
static int check(struct membership *m, const struct wire_ring *wire, const char **ret_why)
{
    struct ring *ring;
    int r = ring_new(wire, NULL, NULL, &ring);

    if (r == -ERR_NO_MEMORY)
        return r;
    if (r < 0) {
        *ret_why = "it contradicts itself";
        return 1;
    }
    *ret_why = ring_next_fault(m->ring.held, ring);
    if (!*ret_why && ring_member_of(ring, &m->nodes[0]->id) < 0 &&
        !m->nodes[0]->profile.candidate) {
        m->ring.without_us = wire->epoch;
        *ret_why = "it does not name this node";
    }
    ring_unref(ring);
    return *ret_why != NULL;
}

/* A ring that was asked for. */
static void consider(struct membership *m, struct node *n, const struct wire_ring *wire,
                     struct membership_effects *out)
{
    struct membership_effect *e = &out->list[out->n];
    const char *why;
    int r;

    if (wire->epoch <= held_epoch(m) && !has_newer(m, n))
        return; /* another was quicker */
    r = check(m, wire, &why);
    if (r < 0) {
        failed(m, n);
        return;
    }
    out->n++;
    if (r > 0) {
        n->ring_refused = n->ring_epoch;
        failed(m, n);
        *e = (struct membership_effect){
            .type = MEMBERSHIP_RING_REFUSED, .node = n->handle, .why = why};
        return;
    }
    n->ring_failed_ms = 0;
    m->ring.hunt = RING_TAKEN;
    *e = (struct membership_effect){.type = MEMBERSHIP_RING_TAKE, .node = n->handle};
}

void ring_replied(struct membership *m, uint32_t handle, const struct wire_ring *wire,
                  struct membership_effects *out)
{
    struct node *n = table_node(m, handle);

    if (!n || !n->ring_asked)
        return;
    n->ring_asked = false;
    if (m->ring.hunt == RING_TAKEN || m->stopping)
        return;
    if (m->ring.hunt == RING_ASKED && m->ring.asked == handle)
        wait_to_ask(m, 0);
    if (wire)
        consider(m, n, wire, out);
    else
        failed(m, n);
}

/* ---- our own ring -------------------------------------------------------------------------- */

static void mark_members(struct membership *m, const struct ring *ring)
{
    const struct wire_ring *wire = ring_wire(ring);

    for (uint32_t i = 0; i < LIMIT_NODES_MAX; i++)
        if (m->nodes[i])
            m->nodes[i]->in_ring = false;
    for (size_t i = 0; i < wire->n_members; i++) {
        struct node *n = table_intern(m, &wire->members[i].id);

        if (n)
            n->in_ring = true;
    }
}

void ring_set(struct membership *m, struct ring *ring)
{
    bool news = m->ring.held != NULL;

    mark_members(m, ring);
    ring_unref(m->ring.held);
    m->ring.held = ring_ref(ring);
    wait_to_ask(m, 0);
    m->ring.behind = true; /* perhaps still */
    if (m->nodes[0]->profile.candidate && ring_member_of(ring, &m->nodes[0]->id) >= 0) {
        m->nodes[0]->profile.candidate = false;
        m->nodes[0]->profile.number++;
        tell_news(m, m->nodes[0], true);
    }
    if (news)
        tell_news(m, m->nodes[0], false); /* of nothing but the epoch, which goes with it */
}

void ring_lost(struct membership *m)
{
    m->ring.rest_ms = m->now_ms + MEMBERSHIP_RING_RETRY_MS;
    wait_to_ask(m, 0);
}

void ring_asked(struct membership *m, uint32_t handle, uint64_t epoch,
                struct membership_effects *out)
{
    struct node *n = table_node(m, handle);
    struct membership_effect *e = &out->list[out->n];

    if (n && handle != 0)
        ring_said(m, n, epoch);
    if (epoch >= held_epoch(m))
        return;
    if (m->now_ms >= m->ring.tell_ms + MEMBERSHIP_RING_TELL_MS) {
        m->ring.tell_ms = m->now_ms;
        m->ring.n_told = 0;
    }
    *e = (struct membership_effect){.type = MEMBERSHIP_RING_TELL, .node = handle};
    e->error = m->ring.n_told < MEMBERSHIP_RING_TELLS ? 0 : ERR_OVERLOADED;
    m->ring.n_told += e->error == 0;
    out->n++;
}
