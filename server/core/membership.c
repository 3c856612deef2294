/* membership: the step: messages, timers, and what follows from them.
 *
 *   every 200 ms   one member is probed (membership_probe.c)
 *   every 100 ms   while there are news: to three members (membership_tell.c)
 *   every 10 s     all that is known is compared with one member, by a digest; if it differs both
 *                  tell each other everything
 *   every 1 s      one of those that are down is pinged: it may be back, or never have been away
 *
 * So a node sends some ten to twenty messages a second in a cluster of any size. A link that breaks
 * is a reason to probe at once: a process that was killed is suspected within a probe's time by all
 * who had a link to it.
 *
 * A tick that comes late shows that this process, or its machine, stood still: whoever waited for
 * an answer meanwhile waits that much longer, for the answer may be in the next message.
 */
#include "server/core/membership_impl.h"

#include <stdlib.h>

/* Goodbyes are said to so many: they tell the rest. */
#define GOODBYES 8u

/* ---- messages ------------------------------------------------------------------------------ */

static void learn_all(struct membership *m, const struct wire_gossip *g)
{
    for (size_t i = 0; i < g->n_rumours; i++)
        table_learn(m, &g->rumours[i]);
}

static void recv_sync(struct membership *m, struct node *from, const struct wire_gossip *g,
                      struct membership_effects *out)
{
    if (g->digest != table_digest(m))
        tell_all(m, from, GOSSIP_SYNC_REPLY, out);
    else
        tell(m, from, GOSSIP_SYNC_REPLY, 0, NULL, out);
}

/* What it has told is learnt by now: if that was not all, it lacks something. */
static void recv_sync_reply(struct membership *m, struct node *from, const struct wire_gossip *g,
                            struct membership_effects *out)
{
    if (g->digest && g->digest != table_digest(m))
        tell_all(m, from, GOSSIP_RUMOURS, out);
}

static void recv_message(struct membership *m, uint32_t handle, const struct wire_gossip *g,
                         uint64_t ring_epoch, struct membership_effects *out)
{
    struct node *from = table_node(m, handle);

    if (!from || handle == 0)
        return; /* its link has told us first */
    from->heard_ms = m->now_ms;
    ring_said(m, from, ring_epoch);
    table_set_load(from, &g->load);
    learn_all(m, g);
    switch (g->kind) {
    case GOSSIP_PING:
        tell(m, from, GOSSIP_ACK, g->number, NULL, out);
        break;
    case GOSSIP_ACK:
        probe_acked(m, from, g, out);
        break;
    case GOSSIP_PING_REQUEST:
        probe_favour(m, from, g->number, &g->target, out);
        break;
    case GOSSIP_NACK:
        probe_nacked(m, g->number);
        break;
    case GOSSIP_SYNC:
        recv_sync(m, from, g, out);
        break;
    case GOSSIP_SYNC_REPLY:
        recv_sync_reply(m, from, g, out);
        break;
    case GOSSIP_RUMOURS:
    case GOSSIP_NONE:
        break;
    }
}

/* ---- links --------------------------------------------------------------------------------- */

static void recv_link_up(struct membership *m, const struct membership_event *in,
                         struct membership_effects *out)
{
    struct node *n = table_intern(m, &in->u.link.id);
    bool first = m->n_there <= 1;

    if (!n || n->handle == 0)
        return;
    table_heard(m, n, in->u.link.boot);
    ring_said_hello(m, n, in->u.link.ring_epoch);
    if (!node_is_there(n) || n->state == MEMBER_SUSPECT)
        tell(m, n, GOSSIP_PING, ++m->next_number, NULL, out); /* with what is said of it */
    if (first)
        m->sync_ms = m->now_ms; /* what we have missed */
}

static void recv_link_down(struct membership *m, uint32_t handle, struct membership_effects *out)
{
    struct node *n = table_node(m, handle);

    if (n && handle != 0 && n->state == MEMBER_ALIVE && !m->stopping)
        probe_start(m, n, out);
}

/* ---- what the node itself says ------------------------------------------------------------- */

static void expect(struct membership *m, const struct wire_member *members, size_t n)
{
    for (size_t i = 0; i < n; i++)
        table_intern(m, &members[i].id);
}

static void set_load(struct membership *m, const struct wire_load *load)
{
    uint32_t number = m->nodes[0]->load.number + 1;

    m->nodes[0]->load = *load;
    m->nodes[0]->load.number = number;
}

static void say_goodbye(struct membership *m, struct membership_effects *out)
{
    uint32_t except[GOODBYES];
    struct node *n;

    table_stop(m);
    for (uint32_t i = 0; i < GOODBYES && (n = pick_node(m, node_is_there, except, i)); i++) {
        except[i] = n->handle;
        tell_news(m, m->nodes[0], false); /* to each of them */
        tell(m, n, GOSSIP_RUMOURS, 0, NULL, out);
    }
}

/* ---- time ---------------------------------------------------------------------------------- */

/* Next multiple from `was` on that lies ahead; a time that was missed is not made up for. */
static uint64_t later(const struct membership *m, uint64_t was, uint64_t every)
{
    return was + every > m->now_ms ? was + every : m->now_ms + every;
}

static void look_at_clock(struct membership *m, uint64_t now_ms)
{
    uint64_t due = membership_deadline_ms(m);
    uint64_t late = due < now_ms ? now_ms - due : 0;

    m->now_ms = now_ms;
    if (late < MEMBERSHIP_LATE_MS)
        return;
    probe_postpone(m, late);
    table_postpone(m, late);
}

static void tell_some(struct membership *m, struct membership_effects *out)
{
    uint32_t except[MEMBERSHIP_RUMOUR_NODES];
    struct node *n;

    m->rumour_ms = later(m, m->rumour_ms, MEMBERSHIP_RUMOUR_MS);
    for (uint32_t i = 0; i < MEMBERSHIP_RUMOUR_NODES && m->n_telling > 0; i++) {
        n = pick_node(m, node_is_there, except, i);
        if (!n)
            break;
        except[i] = n->handle;
        tell(m, n, GOSSIP_RUMOURS, 0, NULL, out);
    }
    if (m->n_telling == 0)
        m->rumour_ms = UINT64_MAX;
}

static void probe_one(struct membership *m, struct membership_effects *out)
{
    struct node *n = probe_next(m);

    m->probe_ms = later(m, m->probe_ms, patience(m, MEMBERSHIP_PROBE_MS));
    if (n)
        probe_start(m, n, out);
}

static void sync_with_one(struct membership *m, struct membership_effects *out)
{
    struct node *n = pick_node(m, node_is_there, NULL, 0);

    m->sync_ms = later(m, m->sync_ms, MEMBERSHIP_SYNC_MS);
    if (!n)
        return;
    tell(m, n, GOSSIP_SYNC, 0, NULL, out);
    out->list[out->n - 1].gossip.digest = table_digest(m);
}

/* Candidates that are gone may be gone for good, and are nobody's loss; who comes back dials. */
static bool is_to_be_revived(const struct node *n)
{
    return n->state == MEMBER_DOWN && n->in_ring;
}

static void revive_one(struct membership *m, struct membership_effects *out)
{
    struct node *n = pick_node(m, is_to_be_revived, NULL, 0);

    m->revive_ms = later(m, m->revive_ms, MEMBERSHIP_REVIVE_MS);
    if (n)
        tell(m, n, GOSSIP_PING, ++m->next_number, NULL, out);
}

/* False: there is more. */
static bool run_timers(struct membership *m, struct membership_effects *out)
{
    void (*const work[])(struct membership *, struct membership_effects *) = {
        probe_one, tell_some, sync_with_one, revive_one};
    uint64_t *const due_ms[] = {&m->probe_ms, &m->rumour_ms, &m->sync_ms, &m->revive_ms};

    if (m->stopping)
        return true;
    if (!probe_run(m, out))
        return false;
    table_expire(m);
    if (ring_deadline_ms(m) <= m->now_ms) {
        if (!has_room(out))
            return false;
        ring_run(m, out);
    }
    for (size_t i = 0; i < sizeof(due_ms) / sizeof(due_ms[0]); i++) {
        if (*due_ms[i] > m->now_ms)
            continue;
        if (!has_room(out))
            return false;
        work[i](m, out);
    }
    return true;
}

uint64_t membership_deadline_ms(const struct membership *m)
{
    const uint64_t due_ms[] = {m->probe_ms,        m->rumour_ms,         m->sync_ms,
                               m->revive_ms,       probe_deadline_ms(m), table_expiry_ms(m),
                               ring_deadline_ms(m)};
    uint64_t first = UINT64_MAX;

    for (size_t i = 0; !m->stopping && i < sizeof(due_ms) / sizeof(due_ms[0]); i++)
        first = due_ms[i] < first ? due_ms[i] : first;
    return first;
}

/* ---- the step ------------------------------------------------------------------------------ */

static bool announce(struct membership *m, struct membership_effects *out)
{
    if (m->outdated && out->n < MEMBERSHIP_EFFECTS_MAX) {
        out->list[out->n++] =
            (struct membership_effect){.type = MEMBERSHIP_OUTDATED, .boot = m->outdated_boot};
        m->outdated = false;
    }
    if (m->clock.changed && out->n < MEMBERSHIP_EFFECTS_MAX) {
        out->list[out->n++] =
            (struct membership_effect){.type = MEMBERSHIP_CLOCK,
                                       .clock = {.right = m->clock.verdict == CLOCK_IS_RIGHT,
                                                 .offset_ms = m->clock.offset_ms,
                                                 .behind_ms = m->clock.behind_ms}};
        m->clock.told_ms = m->clock.offset_ms;
        m->clock.changed = false;
    }
    while (!list_empty(&m->changed)) {
        struct node *n = list_entry(m->changed.next, struct node, changed);

        if (out->n == MEMBERSHIP_EFFECTS_MAX)
            return false;
        list_remove(&n->changed);
        out->list[out->n++] =
            (struct membership_effect){.type = MEMBERSHIP_CHANGED, .node = n->handle};
    }
    return true;
}

static void recv_event(struct membership *m, const struct membership_event *in,
                       struct membership_effects *out)
{
    switch (in->type) {
    case MEMBERSHIP_TICK:
    case MEMBERSHIP_MORE:
        break;
    case MEMBERSHIP_MESSAGE:
        recv_message(m, in->u.message.node, in->u.message.gossip, in->u.message.ring_epoch, out);
        break;
    case MEMBERSHIP_LINK_UP:
        recv_link_up(m, in, out);
        break;
    case MEMBERSHIP_LINK_DOWN:
        recv_link_down(m, in->u.link.node, out);
        break;
    case MEMBERSHIP_EXPECT:
        expect(m, in->u.expect.members, in->u.expect.n);
        break;
    case MEMBERSHIP_RING:
        ring_set(m, in->u.ring);
        break;
    case MEMBERSHIP_RING_LOST:
        ring_lost(m);
        break;
    case MEMBERSHIP_RING_ASKED:
        ring_asked(m, in->u.asked.node, in->u.asked.ring_epoch, out);
        break;
    case MEMBERSHIP_RING_REPLY:
        ring_replied(m, in->u.reply.node, in->u.reply.ring, out);
        break;
    case MEMBERSHIP_LOAD:
        set_load(m, &in->u.load);
        break;
    case MEMBERSHIP_STOP:
        say_goodbye(m, out);
        break;
    }
}

int membership_step(struct membership *m, const struct membership_event *in,
                    struct membership_effects *out)
{
    out->n = 0;
    m->n_told = 0;
    if (in->type != MEMBERSHIP_MORE) /* what is left of a step is not late */
        look_at_clock(m, in->now_ms);
    clock_watch(m, in->wall_ms);
    recv_event(m, in, out);
    clock_judge(m);
    return run_timers(m, out) && announce(m, out) ? 0 : STEP_MORE;
}

/* ---- life ---------------------------------------------------------------------------------- */

static void init_lists(struct membership *m)
{
    for (uint32_t i = 0; i < SENDS_MAX; i++)
        list_init(&m->telling[i]);
    list_init(&m->suspects);
    list_init(&m->changed);
    for (uint32_t i = 0; i < PROBES_MAX; i++)
        m->probes[i].target = NODE_NONE;
    for (uint32_t i = 0; i < FAVOURS_MAX; i++)
        m->favours[i].from = NODE_NONE;
}

struct membership *membership_new(const struct membership_config *config)
{
    struct membership *m = calloc(1, sizeof(*m));
    struct wire_profile profile = config->profile;
    struct node *self;

    if (!m)
        return NULL;
    init_lists(m);
    m->intern = config->intern;
    m->ctx = config->ctx;
    m->now_ms = config->now_ms;
    m->clock.stepped_ms = m->now_ms;
    prng_init(&m->prng, config->seed);
    m->probe_ms = m->now_ms + prng_below(&m->prng, MEMBERSHIP_PROBE_MS);
    m->sync_ms = m->now_ms + prng_below(&m->prng, MEMBERSHIP_SYNC_MS);
    m->revive_ms = m->now_ms + prng_below(&m->prng, MEMBERSHIP_REVIVE_MS);
    m->rumour_ms = UINT64_MAX;
    self = table_intern(m, &profile.member.id);
    profile.number = 1;
    if (!self || self->handle != 0 || table_set_profile(m, self, &profile) < 0) {
        membership_free(m);
        return NULL;
    }
    self->boot = config->boot;
    self->state = MEMBER_ALIVE;
    m->n_there = 1;
    tell_news(m, self, true);
    return m;
}

void membership_free(struct membership *m)
{
    if (!m)
        return;
    for (uint32_t i = 0; i < LIMIT_NODES_MAX; i++) {
        if (m->nodes[i])
            blob_unref(m->nodes[i]->profile_bytes);
        free(m->nodes[i]);
    }
    ring_unref(m->ring.held);
    free(m->all);
    free(m);
}

bool membership_view(const struct membership *m, uint32_t node, struct membership_view *ret)
{
    const struct node *n = table_node(m, node);

    if (!n)
        return false;
    *ret = (struct membership_view){.id = n->id,
                                    .state = n->state,
                                    .boot = n->boot,
                                    .since_ms = n->since_ms,
                                    .heard_ms = n->heard_ms,
                                    .profile = n->profile_bytes ? &n->profile : NULL,
                                    .load = n->load};
    return true;
}

void membership_stats(const struct membership *m, struct membership_stats *ret)
{
    *ret = m->stats;
}
