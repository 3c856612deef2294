/* membership_probe: is it there?
 *
 *   0 ms          PING to the target
 *   100 ms        no ACK: PING again, and PING_REQUEST to three others, who ping it themselves
 *   200 ms        no ACK from anybody: the target is suspect
 *
 * Helpers answer for themselves too: ACK if the target answered them, NACK before the end if not.
 * Who hears neither from the target nor from its helpers should doubt itself: it gets slower in
 * judging others (`health`, Lifeguard's local health multiplier), and quicker again with each
 * success.
 */
#include "server/core/membership_impl.h"

/* Of the time that a favour has left: then the helper says that it had no answer yet. */
#define FAVOUR_NACK_PART 5u

uint64_t patience(const struct membership *m, uint64_t ms)
{
    return ms * (m->stats.health + 1);
}

void health_change(struct membership *m, int by)
{
    int health = (int)m->stats.health + by;

    m->stats.health = health < 0                            ? 0
                      : health > (int)MEMBERSHIP_HEALTH_MAX ? MEMBERSHIP_HEALTH_MAX
                                                            : (uint32_t)health;
}

/* ---- own probes ---------------------------------------------------------------------------- */

static struct probe *probe_of(struct membership *m, uint64_t number)
{
    for (uint32_t i = 0; i < PROBES_MAX; i++)
        if (m->probes[i].target != NODE_NONE && m->probes[i].number == number)
            return &m->probes[i];
    return NULL;
}

static bool is_being_probed(const struct membership *m, uint32_t handle)
{
    for (uint32_t i = 0; i < PROBES_MAX; i++)
        if (m->probes[i].target == handle)
            return true;
    return false;
}

void probe_start(struct membership *m, struct node *target, struct membership_effects *out)
{
    for (uint32_t i = 0; i < PROBES_MAX && !is_being_probed(m, target->handle); i++) {
        struct probe *p = &m->probes[i];

        if (p->target != NODE_NONE)
            continue;
        *p = (struct probe){.target = target->handle,
                            .number = ++m->next_number,
                            .wall_ms = m->wall_ms,
                            .indirect_ms = m->now_ms + patience(m, MEMBERSHIP_PING_MS),
                            .end_ms = m->now_ms + patience(m, MEMBERSHIP_PROBE_MS)};
        m->stats.n_probes++;
        tell(m, target, GOSSIP_PING, p->number, NULL, out);
        return;
    }
}

static void shuffle(struct membership *m)
{
    for (uint32_t i = m->n_order; i > 1; i--) {
        uint32_t other = (uint32_t)prng_below(&m->prng, i), last = m->order[i - 1];

        m->order[i - 1] = m->order[other];
        m->order[other] = last;
    }
}

/* Each is met once in a round through all: no member is forgotten by chance. */
struct node *probe_next(struct membership *m)
{
    for (uint32_t i = 0; i < m->n_order; i++) {
        struct node *n;

        if (m->order_at >= m->n_order) {
            m->order_at = 0;
            shuffle(m);
        }
        n = m->nodes[m->order[m->order_at++]];
        if (node_is_there(n) || n->state == MEMBER_UNKNOWN)
            return n;
    }
    return NULL;
}

static void ask_helpers(struct membership *m, struct probe *p, struct membership_effects *out)
{
    struct node *target = m->nodes[p->target], *helper;
    uint32_t except[MEMBERSHIP_HELPERS + 1] = {p->target};

    p->indirect = true;
    tell(m, target, GOSSIP_PING, p->number, NULL, out);
    while (p->n_helpers < MEMBERSHIP_HELPERS &&
           (helper = pick_node(m, node_is_there, except, p->n_helpers + 1u)) != NULL) {
        except[++p->n_helpers] = helper->handle;
        tell(m, helper, GOSSIP_PING_REQUEST, p->number, &target->id, out);
    }
}

static void probe_failed(struct membership *m, struct probe *p)
{
    struct node *target = m->nodes[p->target];

    p->target = NODE_NONE;
    if (!node_is_there(target) && target->state != MEMBER_UNKNOWN)
        return; /* it has said goodbye meanwhile */
    m->stats.n_failed_probes++;
    if (p->n_helpers == 0)
        health_change(m, 1);
    else
        health_change(m, p->n_helpers - p->n_nacks);
    table_suspect(m, target);
}

void probe_nacked(struct membership *m, uint64_t number)
{
    struct probe *p = probe_of(m, number);

    if (p && p->n_nacks < p->n_helpers)
        p->n_nacks++;
}

/* ---- favours ------------------------------------------------------------------------------- */

void probe_favour(struct membership *m, struct node *from, uint64_t number,
                  const struct wire_id *target, struct membership_effects *out)
{
    struct node *to = table_intern(m, target);

    for (uint32_t i = 0; to && to->handle != 0 && i < FAVOURS_MAX; i++) {
        struct favour *f = &m->favours[i];
        uint64_t left_ms = MEMBERSHIP_PROBE_MS - MEMBERSHIP_PING_MS;

        if (f->from != NODE_NONE)
            continue;
        *f = (struct favour){.from = from->handle,
                             .from_number = number,
                             .number = ++m->next_number,
                             .nack_ms = m->now_ms + left_ms - left_ms / FAVOUR_NACK_PART,
                             .end_ms = m->now_ms + MEMBERSHIP_PROBE_MS * MEMBERSHIP_HEALTH_MAX};
        tell(m, to, GOSSIP_PING, f->number, NULL, out);
        return;
    }
}

static void favour_acked(struct membership *m, uint64_t number, struct membership_effects *out)
{
    for (uint32_t i = 0; i < FAVOURS_MAX; i++) {
        struct favour *f = &m->favours[i];

        if (f->from == NODE_NONE || f->number != number)
            continue;
        tell(m, m->nodes[f->from], GOSSIP_ACK, f->from_number, NULL, out);
        f->from = NODE_NONE;
        return;
    }
}

void probe_acked(struct membership *m, struct node *from, const struct wire_gossip *g,
                 struct membership_effects *out)
{
    struct probe *p = probe_of(m, g->number);

    if (!p) {
        favour_acked(m, g->number, out);
        return;
    }
    clock_said(m, from, p->wall_ms, g->wall_ms);
    p->target = NODE_NONE;
    health_change(m, -1);
}

/* ---- time ---------------------------------------------------------------------------------- */

bool probe_run(struct membership *m, struct membership_effects *out)
{
    for (uint32_t i = 0; i < PROBES_MAX; i++) {
        struct probe *p = &m->probes[i];

        if (p->target == NODE_NONE)
            continue;
        if (p->end_ms <= m->now_ms) {
            probe_failed(m, p);
        } else if (!p->indirect && p->indirect_ms <= m->now_ms) {
            if (!has_room(out))
                return false;
            ask_helpers(m, p, out);
        }
    }
    for (uint32_t i = 0; i < FAVOURS_MAX; i++) {
        struct favour *f = &m->favours[i];

        if (f->from != NODE_NONE && !f->nacked && f->nack_ms <= m->now_ms) {
            if (!has_room(out))
                return false;
            tell(m, m->nodes[f->from], GOSSIP_NACK, f->from_number, NULL, out);
            f->nacked = true;
        }
        if (f->from != NODE_NONE && f->end_ms <= m->now_ms)
            f->from = NODE_NONE;
    }
    return true;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t probe_deadline_ms(const struct membership *m)
{
    uint64_t first = UINT64_MAX;

    for (uint32_t i = 0; i < PROBES_MAX; i++)
        if (m->probes[i].target != NODE_NONE)
            first = earlier(first,
                            m->probes[i].indirect ? m->probes[i].end_ms : m->probes[i].indirect_ms);
    for (uint32_t i = 0; i < FAVOURS_MAX; i++)
        if (m->favours[i].from != NODE_NONE)
            first =
                earlier(first, m->favours[i].nacked ? m->favours[i].end_ms : m->favours[i].nack_ms);
    return first;
}

void probe_postpone(struct membership *m, uint64_t ms)
{
    for (uint32_t i = 0; i < PROBES_MAX; i++) {
        m->probes[i].indirect_ms += ms;
        m->probes[i].end_ms += ms;
    }
}
