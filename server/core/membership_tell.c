/* membership_tell: which rumours go out next, and messages with them.
 *
 * News are told MEMBERSHIP_SENDS times the digits of the size of the cluster, those told least
 * first; a newer rumour about a node takes the place of the older one. They travel in whatever is
 * sent anyway and in messages of their own (membership.c). A receiver hears first what is said
 * about itself: a suspect is to know (the "buddy system" of Lifeguard).
 */
#include "server/core/membership_impl.h"

#include <stdlib.h>

/* How often news are sent. */
static uint32_t sends(const struct membership *m)
{
    uint32_t digits = 1;

    for (uint32_t n = m->n_there; n >= 10; n /= 10)
        digits++;
    return MEMBERSHIP_SENDS * digits < SENDS_MAX ? MEMBERSHIP_SENDS * digits : SENDS_MAX;
}

void tell_news(struct membership *m, struct node *n, bool of_profile)
{
    m->n_telling += list_empty(&n->telling);
    list_remove(&n->telling);
    list_append(&m->telling[0], &n->telling);
    n->n_sent = 0;
    if (of_profile)
        n->n_profile_sent = 0;
    if (m->rumour_ms == UINT64_MAX)
        m->rumour_ms = m->now_ms;
}

static void fill(struct wire_rumour *r, const struct node *n, bool profile)
{
    *r = (struct wire_rumour){.id = n->id,
                              .boot = n->boot,
                              .refutation = n->refutation,
                              .state = n->state,
                              .by = n->by,
                              .profile = profile && n->profile.number ? &n->profile : NULL};
}

/* It was sent once more. */
static void count_sent(struct membership *m, struct node *n)
{
    uint32_t max = sends(m);

    list_remove(&n->telling);
    if (n->n_profile_sent < SENDS_MAX)
        n->n_profile_sent++;
    if (++n->n_sent < max)
        list_append(&m->telling[n->n_sent], &n->telling);
    else
        m->n_telling--;
}

/* Those that were told least, without a change: counting moves them. */
static uint32_t find_least_told(struct membership *m, uint32_t max, struct node **out)
{
    uint32_t n = 0;

    for (uint32_t i = 0; n < max && i < SENDS_MAX; i++)
        for (struct list *l = m->telling[i].next; n < max && l != &m->telling[i]; l = l->next)
            out[n++] = list_entry(l, struct node, telling);
    return n;
}

static struct membership_effect *send_to(struct membership *m, struct node *to,
                                         enum wire_gossip_kind kind, uint64_t number,
                                         struct membership_effects *out)
{
    struct membership_effect *e = &out->list[out->n++];

    e->type = MEMBERSHIP_SEND;
    e->node = to->handle;
    e->gossip = (struct wire_gossip){.kind = kind, .number = number, .load = m->nodes[0]->load};
    if (kind == GOSSIP_ACK)
        e->gossip.wall_ms = m->wall_ms;
    m->stats.n_sent++;
    return e;
}

void tell(struct membership *m, struct node *to, enum wire_gossip_kind kind, uint64_t number,
          const struct wire_id *target, struct membership_effects *out)
{
    struct membership_effect *e = send_to(m, to, kind, number, out);
    struct wire_rumour *told = &m->told[m->n_told];
    uint32_t max = STEP_RUMOURS - m->n_told, n_news, n = 0;
    struct node *news[MEMBERSHIP_RUMOURS];

    max = max < MEMBERSHIP_RUMOURS ? max : MEMBERSHIP_RUMOURS;
    if (target)
        e->gossip.target = *target;
    if (max > 0 &&
        (to->state == MEMBER_SUSPECT || to->state == MEMBER_DOWN || to->state == MEMBER_STOPPED))
        fill(&told[n++], to, false);
    n_news = find_least_told(m, max - n, news);
    for (uint32_t i = 0; i < n_news; i++) {
        if (news[i] != to || n == 0)
            fill(&told[n++], news[i], news[i]->n_profile_sent < sends(m));
        count_sent(m, news[i]);
    }
    m->n_told += n;
    e->gossip.rumours = told;
    e->gossip.n_rumours = n;
}

void tell_all(struct membership *m, struct node *to, enum wire_gossip_kind kind,
              struct membership_effects *out)
{
    struct membership_effect *e = send_to(m, to, kind, 0, out);
    uint32_t n = 0;

    free(m->all);
    m->all = malloc((m->n_order + 1) * sizeof(*m->all));
    for (uint32_t i = 0; m->all && i < LIMIT_NODES_MAX; i++) {
        const struct node *node = m->nodes[i];

        if (!node || node->state == MEMBER_UNKNOWN)
            continue;
        fill(&m->all[n], node, true);
        m->all[n++].load = node->load;
    }
    e->gossip.digest = table_digest(m);
    e->gossip.rumours = m->all;
    e->gossip.n_rumours = n;
}

static bool is_among(uint32_t handle, const uint32_t *handles, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (handles[i] == handle)
            return true;
    return false;
}

struct node *pick_node(struct membership *m, node_fits_fn *fits, const uint32_t *except,
                       uint32_t n_except)
{
    uint32_t start = m->n_order ? (uint32_t)prng_below(&m->prng, m->n_order) : 0;

    for (uint32_t i = 0; i < m->n_order; i++) {
        struct node *n = m->nodes[m->order[(start + i) % m->n_order]];

        if (fits(n) && !is_among(n->handle, except, n_except))
            return n;
    }
    return NULL;
}
