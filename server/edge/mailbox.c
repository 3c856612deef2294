/* mailbox: what loops send one another. Many writers, one reader.
 *
 * A list under a mutex. A writer collects the letters of one wake-up and posts them under one lock;
 * the reader takes the whole list under one lock and is woken once (loop_wake coalesces). So the
 * lock is held for a few pointer moves, and its cost is shared by the letters of a wake-up.
 *
 * A letter is a single allocation with the message's bytes behind it: the sender's bytes are gone
 * after its step. Large values that lie in a blob are shared by reference instead of copied.
 *
 * Room: only requests can be refused (see MAILBOX_REQUESTS_MAX). Replies always fit, since each
 * answers a request that their reader has in flight; a refused reply would turn a full queue into
 * a lost answer.
 */
#include "server/edge/mailbox.h"
#include "server/core/ring.h"
#include <assert.h>
#include <stdlib.h>
#include <unistd.h>

struct letter *letters_pop(struct list *letters)
{
    struct letter *l = list_entry(letters->next, struct letter, link);
    list_remove(&l->link);
    assert(letters->next != &l->link);
    return l;
}

void letters_free(struct list *letters)
{
    while (!list_empty(letters))
        letter_free(letters_pop(letters));
}

void mailbox_init(struct mailbox *m)
{
    pthread_mutex_init(&m->lock, NULL);
    list_init(&m->letters);
    m->n_requests = 0;
}

void mailbox_deinit(struct mailbox *m)
{
    letters_free(&m->letters);
    pthread_mutex_destroy(&m->lock);
}

bool peer_is_request(const struct wire_peer *msg)
{
    return msg->type == PEER_GET || msg->type == PEER_PUT || msg->type == PEER_SCAN ||
           msg->type == PEER_COMPARE || msg->type == PEER_PULL || msg->type == PEER_PURGE;
}

static bool letter_is_request(const struct letter *l)
{
    return l->type == LETTER_PEER && peer_is_request(&l->u.peer.msg);
}

bool mailbox_post(struct mailbox *m, struct list *batch)
{
    struct list refused;
    list_init(&refused);

    pthread_mutex_lock(&m->lock);
    bool was_empty = list_empty(&m->letters);
    while (!list_empty(batch)) {
        struct letter *l = letters_pop(batch);
        bool request = letter_is_request(l);
        if (request && m->n_requests >= MAILBOX_REQUESTS_MAX) {
            list_append(&refused, &l->link);
            continue;
        }
        m->n_requests += request;
        list_append(&m->letters, &l->link);
    }
    bool wake = was_empty && !list_empty(&m->letters);
    pthread_mutex_unlock(&m->lock);
    list_splice(batch, &refused);
    return wake;
}

void mailbox_take(struct mailbox *m, struct list *out)
{
    pthread_mutex_lock(&m->lock);
    list_splice(out, &m->letters);
    m->n_requests = 0;
    pthread_mutex_unlock(&m->lock);
}

struct letter *letter_new(enum letter_type type, uint32_t from)
{
    struct letter *l = calloc(1, sizeof(*l));
    if (!l)
        return NULL;
    list_init(&l->link);
    l->type = type;
    l->from = from;
    return l;
}

void letter_free(struct letter *l)
{
    if (!l)
        return;
    if (l->type == LETTER_PEER) {
        blob_unref(l->u.peer.owner);
    } else if (l->type == LETTER_SOCKET) {
        if (l->u.socket.fd >= 0)
            close(l->u.socket.fd);
        blob_unref(l->u.socket.unread);
    } else if (l->type == LETTER_DAMAGED) {
        blob_unref(l->u.damaged.store_key);
    } else if (l->type == LETTER_RING) {
        ring_unref(l->u.ring.ring);
    } else if (l->type == LETTER_STATUS || l->type == LETTER_ANSWER) {
        blob_unref(l->u.status.counts);
        blob_unref(l->u.status.frame);
    }
    free(l);
}

/* ---- deep copy of a peer message ----------------------------------------------------------- */

/* One pass measures (at == NULL), the next one copies. */
struct copier {
    const struct blob *owner;
    uint8_t *at;
    size_t len;
};

static bool in_owner(const struct copier *c, struct slice s)
{
    return c->owner && s.data >= c->owner->data && s.data + s.len <= c->owner->data + c->owner->len;
}

static void copy_slice(struct copier *c, struct slice *s)
{
    if (s->len == 0 || in_owner(c, *s))
        return;
    if (c->at) {
        memcpy(c->at + c->len, s->data, s->len);
        s->data = c->at + c->len;
    }
    c->len += s->len;
}

static void copy_key(struct copier *c, struct key *key)
{
    copy_slice(c, &key->partition);
    copy_slice(c, &key->sort);
}

/* The array first (the copier starts aligned), then the bytes of each record. */
static void copy_records(struct copier *c, const struct wire_record **records, size_t n)
{
    struct wire_record *copy = c->at ? (struct wire_record *)(void *)(c->at + c->len) : NULL;
    if (copy && n > 0)
        memcpy(copy, *records, n * sizeof(*copy));
    c->len += n * sizeof(*copy);
    for (size_t i = 0; i < n; i++) {
        struct wire_record r = (*records)[i];
        copy_key(c, &r.key);
        copy_slice(c, &r.state.value);
        if (copy)
            copy[i] = r;
    }
    if (copy)
        *records = copy;
}

/* An array, at the next place where one may stand. */
static const void *copy_array(struct copier *c, const void *array, size_t bytes)
{
    void *copy = c->at ? c->at + c->len : NULL;

    if (copy && bytes > 0)
        memcpy(copy, array, bytes);
    c->len += (bytes + 7) & ~(size_t)7;
    return copy ? copy : array;
}

static void copy_pull(struct copier *c, struct wire_peer *msg)
{
    msg->u.pull.leaves =
        copy_array(c, msg->u.pull.leaves, msg->u.pull.n_leaves * sizeof(*msg->u.pull.leaves));
    msg->u.pull.known =
        copy_array(c, msg->u.pull.known, msg->u.pull.n_known * sizeof(*msg->u.pull.known));
    copy_slice(c, &msg->u.pull.after);
    copy_slice(c, &msg->u.pull.until);
}

static void copy_peer(struct copier *c, struct wire_peer *msg)
{
    switch (msg->type) {
    case PEER_GET:
        copy_key(c, &msg->u.get.key);
        break;
    case PEER_GET_REPLY:
        copy_slice(c, &msg->u.get_reply.state.value);
        break;
    case PEER_PUT:
        copy_key(c, &msg->u.put.key);
        copy_slice(c, &msg->u.put.state.value);
        break;
    case PEER_SCAN:
        copy_slice(c, &msg->u.scan.cursor);
        break;
    case PEER_SCAN_REPLY:
        copy_records(c, &msg->u.scan_reply.records, msg->u.scan_reply.n_records);
        copy_slice(c, &msg->u.scan_reply.cursor);
        break;
    case PEER_COMPARE:
        msg->u.compare.arcs =
            copy_array(c, msg->u.compare.arcs, msg->u.compare.n_arcs * sizeof(uint32_t));
        break;
    case PEER_COMPARE_REPLY:
        msg->u.compare_reply.parts = copy_array(c, msg->u.compare_reply.parts,
                                                msg->u.compare_reply.n_parts * sizeof(uint32_t));
        break;
    case PEER_PULL:
        copy_pull(c, msg);
        break;
    case PEER_PULL_REPLY:
        copy_records(c, &msg->u.pull_reply.records, msg->u.pull_reply.n_records);
        copy_slice(c, &msg->u.pull_reply.cursor);
        break;
    case PEER_PURGE:
        msg->u.purge.leaves =
            copy_array(c, msg->u.purge.leaves, msg->u.purge.n_leaves * sizeof(uint32_t));
        break;
    case PEER_PURGE_REPLY:
        msg->u.purge_reply.digests = copy_array(c, msg->u.purge_reply.digests,
                                                msg->u.purge_reply.n_digests * sizeof(uint64_t));
        break;
    case PEER_NONE: /* no bytes, or never sent between workers */
    case PEER_HELLO:
    case PEER_HELLO_REPLY:
    case PEER_PUT_REPLY:
    case PEER_FORM:
    case PEER_GOSSIP:
    case PEER_RING_ASK:
    case PEER_RING_REPLY:
    case PEER_REGISTER_PREPARE:
    case PEER_REGISTER_PREPARE_REPLY:
    case PEER_REGISTER_ACCEPT:
    case PEER_REGISTER_ACCEPT_REPLY:
        break;
    }
}

struct letter *letter_peer(uint32_t from, const struct wire_peer *msg, struct blob *owner)
{
    struct copier c = {.owner = owner};
    struct wire_peer measured = *msg;

    copy_peer(&c, &measured);
    size_t head = (sizeof(struct letter) + 15) & ~(size_t)15;
    struct letter *l = malloc(head + c.len);
    if (!l)
        return NULL;
    list_init(&l->link);
    l->type = LETTER_PEER;
    l->from = from;
    l->u.peer.msg = *msg;
    l->u.peer.owner = blob_ref(owner);
    l->u.peer.sent_ms = 0;
    c.at = (uint8_t *)l + head;
    c.len = 0;
    copy_peer(&c, &l->u.peer.msg);
    return l;
}
