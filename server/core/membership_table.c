/* membership_table: what is known of each node.
 *
 *            refuted (higher refutation), or a higher boot
 *        +-----------------------------------------------------+
 *        v                                                     |
 *      ALIVE --a probe failed, or a rumour--> SUSPECT --time--> DOWN
 *        |                                                     ^
 *        +--it said goodbye--> STOPPED        UNKNOWN ---------+  named by a ring, never heard of
 *
 * A rumour is newer if its boot is higher, or at one boot its refutation, or at one refutation its
 * state is graver. So only the node itself can take back what others believe: it raises its
 * refutation, or starts again.
 *
 * How long a suspect has to refute depends on how many suspect it: as long as it is one node alone,
 * that one may well be the slow one (Lifeguard). A clock that stood still postpones all of it.
 */
#include "server/core/membership_impl.h"

#include <stdlib.h>

/* ---- entries ------------------------------------------------------------------------------- */

/* At a random place: if all nodes went through their lists in the same order, they would all look
 * at the same member, and for minutes nobody at the others. */
static void enter_order(struct membership *m, uint32_t handle)
{
    uint32_t at = (uint32_t)prng_below(&m->prng, m->n_order + 1);

    m->order[m->n_order++] = m->order[at];
    m->order[at] = handle;
}

static struct node *node_new(struct membership *m, uint32_t handle, const struct wire_id *id)
{
    struct node *n = calloc(1, sizeof(*n));

    if (!n)
        return NULL;
    n->id = *id;
    n->handle = handle;
    n->n_sent = n->n_profile_sent = SENDS_MAX;
    n->since_ms = m->now_ms;
    n->in_ring = !m->ring.held;
    list_init(&n->telling);
    list_init(&n->suspects);
    list_init(&n->changed);
    m->nodes[handle] = n;
    if (handle != 0)
        enter_order(m, handle);
    return n;
}

struct node *table_node(const struct membership *m, uint32_t handle)
{
    return handle < LIMIT_NODES_MAX ? m->nodes[handle] : NULL;
}

struct node *table_intern(struct membership *m, const struct wire_id *id)
{
    uint32_t handle = m->intern(m->ctx, id);

    if (handle >= LIMIT_NODES_MAX)
        return NULL;
    return m->nodes[handle] ? m->nodes[handle] : node_new(m, handle, id);
}

bool node_is_there(const struct node *n)
{
    return n->state == MEMBER_ALIVE || n->state == MEMBER_SUSPECT;
}

static void set_changed(struct membership *m, struct node *n)
{
    if (list_empty(&n->changed) && n->handle != 0)
        list_append(&m->changed, &n->changed);
}

static void set_state(struct membership *m, struct node *n, enum wire_member_state state)
{
    if (n->state == state)
        return;
    m->n_there -= node_is_there(n);
    n->state = state;
    m->n_there += node_is_there(n);
    n->since_ms = m->now_ms;
    n->n_confirmers = 0;
    n->by = (struct wire_id){{0}};
    list_remove(&n->suspects);
    if (state == MEMBER_SUSPECT)
        list_append(&m->suspects, &n->suspects);
    set_changed(m, n);
}

void table_set_load(struct node *n, const struct wire_load *load)
{
    if (load->number > n->load.number)
        n->load = *load;
}

/* ---- profiles ------------------------------------------------------------------------------ */

static uint8_t *put_text(uint8_t *at, struct slice from, struct slice *ret)
{
    if (from.len)
        memcpy(at, from.data, from.len);
    *ret = slice_of(at, from.len);
    return at + from.len;
}

/* Copies it. 0, -ERR_NO_MEMORY. */
int table_set_profile(struct membership *m, struct node *n, const struct wire_profile *profile)
{
    const struct wire_member *from = &profile->member;
    struct wire_profile copy = *profile;
    struct blob *bytes =
        blob_new(from->name.len + from->client_address.len + from->peer_address.len +
                 from->zone.len + profile->software.len + 1);
    uint8_t *at;

    if (!bytes)
        return -ERR_NO_MEMORY;
    at = put_text(bytes->data, from->name, &copy.member.name);
    at = put_text(at, from->client_address, &copy.member.client_address);
    at = put_text(at, from->peer_address, &copy.member.peer_address);
    at = put_text(at, from->zone, &copy.member.zone);
    put_text(at, profile->software, &copy.software);
    blob_unref(n->profile_bytes);
    n->profile_bytes = bytes;
    n->profile = copy;
    set_changed(m, n);
    return 0;
}

/* ---- suspicion ----------------------------------------------------------------------------- */

/* 10 * log10 of how many are there, at least 10; rounded up to a whole binary digit. */
static uint32_t log10_tenths(const struct membership *m)
{
    uint32_t digits = 0;

    while (digits < 31 && (1u << digits) < m->n_there)
        digits++;
    return 3 * digits > 10 ? 3 * digits : 10;
}

/* Of 64ths: what each confirmation takes off the difference: log(c + 1) / log(k + 1), k
 * confirmations being all that may come. */
static uint32_t confirmed_64ths(uint32_t n, uint32_t of)
{
    if (n >= of)
        return 64;
    return n == 0 ? 0 : 40; /* 1 of 2 */
}

static uint64_t suspect_until_ms(const struct membership *m, const struct node *n)
{
    uint64_t least_ms =
        (uint64_t)MEMBERSHIP_PROBE_MS * MEMBERSHIP_SUSPECT_TENTHS * log10_tenths(m) / 100;
    uint64_t more_ms = least_ms * (MEMBERSHIP_SUSPECT_ALONE - 1);
    /* Who may confirm: all but the suspect and the first who suspects it. */
    uint32_t others = m->n_there > 2 ? m->n_there - 2 : 0;
    uint32_t of = others < MEMBERSHIP_CONFIRMATIONS ? others : MEMBERSHIP_CONFIRMATIONS;
    uint32_t n_confirmed = n->n_confirmers > 0 ? n->n_confirmers - 1u : 0;

    return n->since_ms + least_ms + more_ms * (64 - confirmed_64ths(n_confirmed, of)) / 64;
}

/* A further node suspects it: worth telling. */
static bool confirm(struct node *n, uint32_t by, const struct wire_id *by_id)
{
    for (uint32_t i = 0; i < n->n_confirmers; i++)
        if (n->confirmers[i] == by)
            return false;
    if (n->n_confirmers == MEMBERSHIP_CONFIRMATIONS + 1)
        return false;
    n->confirmers[n->n_confirmers++] = by;
    n->by = *by_id;
    return true;
}

static void suspect_by(struct membership *m, struct node *n, const struct wire_id *by)
{
    const struct node *from = wire_id_is_zero(by) ? NULL : table_intern(m, by);

    set_state(m, n, MEMBER_SUSPECT);
    if (from && confirm(n, from->handle, by))
        tell_news(m, n, false);
}

void table_suspect(struct membership *m, struct node *n)
{
    if (node_is_there(n) || n->state == MEMBER_UNKNOWN)
        suspect_by(m, n, &m->nodes[0]->id);
}

void table_expire(struct membership *m)
{
    struct list *next;

    for (struct list *l = m->suspects.next; l != &m->suspects; l = next) {
        struct node *n = list_entry(l, struct node, suspects);

        next = l->next;
        if (suspect_until_ms(m, n) > m->now_ms)
            continue;
        set_state(m, n, MEMBER_DOWN);
        tell_news(m, n, false);
    }
}

uint64_t table_expiry_ms(const struct membership *m)
{
    uint64_t first = UINT64_MAX;

    for (const struct list *l = m->suspects.next; l != &m->suspects; l = l->next) {
        uint64_t until = suspect_until_ms(m, list_entry(l, struct node, suspects));

        first = until < first ? until : first;
    }
    return first;
}

void table_postpone(struct membership *m, uint64_t ms)
{
    for (struct list *l = m->suspects.next; l != &m->suspects; l = l->next)
        list_entry(l, struct node, suspects)->since_ms += ms;
}

/* ---- this node ----------------------------------------------------------------------------- */

static void refute(struct membership *m, uint32_t refutation)
{
    struct node *self = m->nodes[0];

    if (refutation < self->refutation || m->stopping)
        return;
    self->refutation = refutation + 1;
    m->stats.n_refuted++;
    health_change(m, 1);
    tell_news(m, self, false);
}

void table_stop(struct membership *m)
{
    m->stopping = true;
    set_state(m, m->nodes[0], MEMBER_STOPPED);
    tell_news(m, m->nodes[0], false);
}

static void learn_of_self(struct membership *m, const struct wire_rumour *r)
{
    struct node *self = m->nodes[0];

    if (r->boot > self->boot) {
        m->outdated = true;
        m->outdated_boot = r->boot > m->outdated_boot ? r->boot : m->outdated_boot;
    } else if (r->boot < self->boot) {
        tell_news(m, self, true);
    } else if (r->state != MEMBER_ALIVE || r->refutation > self->refutation) {
        refute(m, r->refutation); /* nobody but us raises it: such an ALIVE is of a copy */
    }
}

/* ---- rumours ------------------------------------------------------------------------------- */

static bool is_newer(const struct wire_rumour *r, const struct node *n)
{
    if (r->boot != n->boot)
        return r->boot > n->boot;
    if (r->refutation != n->refutation)
        return r->refutation > n->refutation;
    return r->state > n->state;
}

static void learn_state(struct membership *m, const struct wire_rumour *r, struct node *n)
{
    if (r->boot > n->boot) {
        n->profile.number = 0; /* what is known stays known until the new one is */
        n->load.number = 0;
        set_changed(m, n);
    }
    /* An older suspicion is over, its time as well. */
    if (n->state == MEMBER_SUSPECT && r->state == MEMBER_SUSPECT)
        set_state(m, n, MEMBER_ALIVE);
    n->boot = r->boot;
    n->refutation = r->refutation;
    if (r->state == MEMBER_SUSPECT)
        suspect_by(m, n, &r->by);
    else
        set_state(m, n, r->state);
    tell_news(m, n, false);
}

static void learn_profile(struct membership *m, const struct wire_rumour *r, struct node *n)
{
    if (r->profile && r->profile->number > n->profile.number &&
        table_set_profile(m, n, r->profile) == 0)
        tell_news(m, n, true);
}

void table_learn(struct membership *m, const struct wire_rumour *r)
{
    struct node *n = table_intern(m, &r->id);

    if (!n)
        return;
    if (n->handle == 0) {
        learn_of_self(m, r);
        return;
    }
    if (is_newer(r, n))
        learn_state(m, r, n);
    else if (r->state == MEMBER_SUSPECT && n->state == MEMBER_SUSPECT && r->boot == n->boot &&
             r->refutation == n->refutation)
        suspect_by(m, n, &r->by);
    if (r->boot != n->boot)
        return;
    table_set_load(n, &r->load);
    learn_profile(m, r, n);
}

/* A process that talks is there, whatever was said of those before it. One of which it was said
 * that it is gone, at this boot, must refute that itself. */
void table_heard(struct membership *m, struct node *n, uint64_t boot)
{
    struct wire_rumour alive = {.id = n->id, .boot = boot, .state = MEMBER_ALIVE};

    n->heard_ms = m->now_ms;
    if (boot > n->boot || (boot == n->boot && n->state == MEMBER_UNKNOWN))
        table_learn(m, &alive);
}

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* Finalizer of splitmix64 (Steele, Lea, Flood 2014) over the fields; the nodes in any order. */
uint64_t table_digest(const struct membership *m)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < LIMIT_NODES_MAX; i++) {
        const struct node *n = m->nodes[i];
        uint64_t id[2];

        if (!n || n->state == MEMBER_UNKNOWN)
            continue;
        memcpy(id, n->id.b, sizeof(id));
        sum ^= mix(mix(mix(mix(id[0]) + id[1]) + n->boot) +
                   ((uint64_t)n->refutation << 32 | n->profile.number << 3 | n->state));
    }
    return sum;
}
