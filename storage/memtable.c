/* memtable: a B+tree over entries that never move.
 *
 *   inner   word[64] | least entry[64] | child[64]        the root; children's least keys
 *     |
 *   leaf    word[64] | entry[64] | next ----> leaf ----> leaf
 *                          |
 *                        entry: version, lsn, value -> behind the key, or into a blob; key
 *
 * A node is searched by the word, the first eight bytes of the key as a number: no entry is touched
 * unless words are equal. They are for records of one partition, so the rest of the key decides in
 * a run of equal words. An inner node knows the least entry of a child from the day the child was
 * made; at index 0 nobody looks, because keys below all others go to the leftmost child too. A
 * separator whose record was written again still has the right key, because entries stay.
 *
 * Splits: an inner node in the middle, so all but the root are half full at least. A leaf that is
 * being filled in ascending order (the insertion before went just in front of this one) is cut at
 * that point: its left part fills up, then stays full. Any other leaf is cut in the middle.
 *
 * Memory: chunks of 1 MiB, used from the front; `current` is preferred, `spare` takes what does not
 * fit into it. A reservation holds when one of the two alone has room for the worst case, whatever
 * the other one still takes. Memory behind `at` is not touched. The worst case of n puts: each
 * splits one node per level, and the levels that grow on top take at most one node per put: a node
 * born half full must take 31 more before it splits.
 *
 * Deliberately not done: no removal (a tombstone is a record), no locks, no parent pointers.
 */
#include "storage/memtable.h"

#include <assert.h>
#include <stdlib.h>

#include "proto/err.h"
#include "storage/record.h"

#define NODE_WIDTH 64u
#define NODE_LEVELS_MAX 16u /* 2 * 32^14 leaves: never reached */
#define NO_INSERTION (2 * NODE_WIDTH)
#define CHUNK_BYTES ((1u << 20) - 64u) /* in all, with room for malloc's own header */
#define WORD_BYTES 8u
#define ALIGN_BYTES 8u

struct chunk {
    struct chunk *next;
    uint8_t *at, *end; /* used up to at */
    uint8_t bytes[];
};

struct node {
    uint32_t n;
    uint32_t last; /* leaf: where the last insertion went, or NO_INSERTION */
    uint64_t word[NODE_WIDTH];
    const struct memtable_entry *entry[NODE_WIDTH];
};

struct leaf {
    struct node node;
    struct leaf *next;
};

struct inner {
    struct node node;
    struct node *child[NODE_WIDTH];
};

/* A reference to give back. */
struct ref {
    struct ref *next;
    struct blob *blob;
};

struct memtable {
    struct node *root;
    uint32_t n_levels; /* 0: empty; 1: the root is a leaf */
    size_t n_entries;
    size_t n_bytes;
    struct chunk *current, *spare; /* each NULL or in chunks */
    struct chunk *chunks;          /* all */
    struct ref *refs;
};

/* What is looked for. */
struct probe {
    uint64_t word;
    struct slice rest;
};

/* Which child of an inner node was taken. */
struct step {
    struct inner *inner;
    uint32_t at;
};

/* ---- memory ------------------------------------------------------------------------------- */

static size_t aligned(size_t n)
{
    return (n + ALIGN_BYTES - 1) & ~(size_t)(ALIGN_BYTES - 1);
}

static size_t room(const struct chunk *c)
{
    return c ? (size_t)(c->end - c->at) : 0;
}

static struct chunk *chunk_new(size_t n)
{
    size_t size = CHUNK_BYTES;
    struct chunk *c;

    if (n > SIZE_MAX - sizeof(*c))
        return NULL;
    if (n > size - sizeof(*c))
        size = sizeof(*c) + n;
    c = malloc(size);
    if (!c)
        return NULL;
    c->at = c->bytes;
    c->end = (uint8_t *)c + size;
    return c;
}

/* Within what was reserved. */
static void *take(struct memtable *m, size_t n)
{
    struct chunk *c = m->current;
    void *p;

    n = aligned(n);
    if (room(c) < n) {
        c = m->spare;
        assert(c && room(c) >= n);
        if (room(c) - n >= room(m->current)) {
            m->current = c;
            m->spare = NULL;
        }
    }
    p = c->at;
    c->at += n;
    m->n_bytes += n;
    return p;
}

/* All that one put may take besides its key and value. */
static size_t put_overhead(const struct memtable *m)
{
    size_t levels = m->n_levels ? m->n_levels : 1;

    return sizeof(struct memtable_entry) + ALIGN_BYTES + sizeof(struct ref) + sizeof(struct leaf) +
           levels * sizeof(struct inner);
}

static void drop_untouched_spare(struct memtable *m)
{
    struct chunk **at = &m->chunks;

    if (!m->spare || m->spare->at != m->spare->bytes)
        return;
    while (*at != m->spare)
        at = &(*at)->next;
    *at = m->spare->next;
    free(m->spare);
}

static int reserve_slowly(struct memtable *m, size_t need)
{
    struct chunk *c;

    if (room(m->spare) >= need)
        return 0;
    c = chunk_new(need);
    if (!c)
        return -ERR_NO_MEMORY;
    drop_untouched_spare(m);
    c->next = m->chunks;
    m->chunks = c;
    m->spare = c;
    return 0;
}

int memtable_reserve(struct memtable *m, size_t n, size_t bytes)
{
    size_t need;

    if (__builtin_mul_overflow(n, put_overhead(m), &need) ||
        __builtin_add_overflow(need, bytes, &need))
        return -ERR_NO_MEMORY;
    if (room(m->current) >= need)
        return 0;
    return reserve_slowly(m, need);
}

struct memtable *memtable_new(void)
{
    return calloc(1, sizeof(struct memtable));
}

void memtable_free(struct memtable *m)
{
    if (!m)
        return;
    for (const struct ref *ref = m->refs; ref; ref = ref->next)
        blob_unref(ref->blob);
    while (m->chunks) {
        struct chunk *c = m->chunks;

        m->chunks = c->next;
        free(c);
    }
    free(m);
}

/* ---- search ------------------------------------------------------------------------------- */

/* The word of bytes that are too short is filled up with zeros: no key of the table is as short, so
 * where words are equal such bytes are a prefix, and below. */
static struct probe probe_of(struct slice key)
{
    uint8_t head[WORD_BYTES] = {0};
    size_t len = key.len < WORD_BYTES ? key.len : WORD_BYTES;
    struct probe p = {0};

    if (len)
        memcpy(head, key.data, len);
    memcpy(&p.word, head, WORD_BYTES);
    if (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__)
        p.word = __builtin_bswap64(p.word);
    if (key.len > WORD_BYTES)
        p.rest = slice_of(key.data + WORD_BYTES, key.len - WORD_BYTES);
    return p;
}

static int entry_compare_rest(const struct memtable_entry *e, struct slice rest)
{
    return slice_compare(slice_of(e->key + WORD_BYTES, e->key_len - WORD_BYTES), rest);
}

/* How many of the n words are below w. Without branches that depend on them. */
static uint32_t words_below(const uint64_t *words, uint32_t n, uint64_t w)
{
    const uint64_t *base = words;

    if (n == 0)
        return 0;
    while (n > 1) {
        uint32_t half = n / 2;

        base = base[half - 1] < w ? base + half : base;
        n -= half;
    }
    return (uint32_t)(base - words) + (*base < w);
}

/* Index behind the run of words equal to w that begins at `at`. */
static uint32_t run_end(const struct node *x, uint32_t at, uint64_t w)
{
    if (at + 1 == x->n || x->word[at + 1] != w)
        return at + 1;
    return w == UINT64_MAX ? x->n : at + words_below(x->word + at, x->n - at, w + 1);
}

/* Index of the first entry, from `first` on, that is not below p. */
static uint32_t node_find(const struct node *x, uint32_t first, const struct probe *p,
                          bool *ret_equal)
{
    uint32_t at = first + words_below(x->word + first, x->n - first, p->word), end;

    *ret_equal = false;
    if (at == x->n || x->word[at] != p->word)
        return at;
    end = run_end(x, at, p->word);
    while (at < end) {
        uint32_t middle = at + (end - at) / 2;
        int order = entry_compare_rest(x->entry[middle], p->rest);

        if (order == 0) {
            *ret_equal = true;
            return middle;
        }
        if (order < 0)
            at = middle + 1;
        else
            end = middle;
    }
    return at;
}

/* The leaf where p is or belongs; path, if not NULL, gets a step per inner level, the root first.
 * The table is not empty. */
static struct leaf *find_leaf(const struct memtable *m, const struct probe *p, struct step *path)
{
    struct node *x = m->root;

    for (uint32_t level = 1; level < m->n_levels; level++) {
        struct inner *inner = (struct inner *)x;
        bool equal;
        uint32_t at = node_find(x, 1, p, &equal);

        at -= !equal;
        if (path)
            *path++ = (struct step){.inner = inner, .at = at};
        x = inner->child[at];
    }
    return (struct leaf *)x;
}

const struct memtable_entry *memtable_get(const struct memtable *m, struct slice store_key)
{
    struct probe p = probe_of(store_key);
    const struct leaf *leaf;
    uint32_t at;
    bool equal;

    if (m->n_levels == 0)
        return NULL;
    leaf = find_leaf(m, &p, NULL);
    at = node_find(&leaf->node, 0, &p, &equal);
    return equal ? leaf->node.entry[at] : NULL;
}

/* ---- insertion ---------------------------------------------------------------------------- */

static struct leaf *leaf_new(struct memtable *m, struct leaf *next)
{
    struct leaf *leaf = take(m, sizeof(*leaf));

    leaf->node.n = 0;
    leaf->node.last = NO_INSERTION;
    leaf->next = next;
    return leaf;
}

/* Moves what stands from `keep` on to the end of the empty node `to`. */
static void node_move(struct node *x, uint32_t keep, struct node *to)
{
    to->n = x->n - keep;
    x->n = keep;
    memcpy(to->word, x->word + keep, to->n * sizeof(*x->word));
    memcpy(to->entry, x->entry + keep, to->n * sizeof(*x->entry));
}

/* There is room. */
static void node_insert(struct node *x, uint32_t at, uint64_t word,
                        const struct memtable_entry *entry)
{
    uint32_t behind = x->n - at;

    memmove(x->word + at + 1, x->word + at, behind * sizeof(*x->word));
    memmove(x->entry + at + 1, x->entry + at, behind * sizeof(*x->entry));
    x->word[at] = word;
    x->entry[at] = entry;
    x->n++;
}

/* Returns the new leaf behind it if it had to split, or NULL. */
static struct node *leaf_insert(struct memtable *m, struct leaf *leaf, uint32_t at, uint64_t word,
                                const struct memtable_entry *entry)
{
    struct node *x = &leaf->node, *to = x;
    struct leaf *right = NULL;

    if (x->n == NODE_WIDTH) {
        uint32_t keep = at == x->last + 1 ? at : NODE_WIDTH / 2;

        right = leaf_new(m, leaf->next);
        leaf->next = right;
        node_move(x, keep, &right->node);
        x->last = NO_INSERTION;
        if (at > keep || keep == NODE_WIDTH) {
            to = &right->node;
            at -= keep;
        }
    }
    node_insert(to, at, word, entry);
    to->last = at;
    return right ? &right->node : NULL;
}

static void inner_insert_child(struct inner *inner, uint32_t at, struct node *child)
{
    memmove(inner->child + at + 1, inner->child + at, (inner->node.n - at) * sizeof(*inner->child));
    inner->child[at] = child;
    node_insert(&inner->node, at, child->word[0], child->entry[0]);
}

/* Puts child at index `at` > 0. Returns the new node behind it if it had to split, or NULL. */
static struct node *inner_insert(struct memtable *m, struct inner *inner, uint32_t at,
                                 struct node *child)
{
    const uint32_t keep = NODE_WIDTH / 2;
    struct inner *right;

    if (inner->node.n < NODE_WIDTH) {
        inner_insert_child(inner, at, child);
        return NULL;
    }
    right = take(m, sizeof(*right));
    node_move(&inner->node, keep, &right->node);
    memcpy(right->child, inner->child + keep, right->node.n * sizeof(*right->child));
    if (at > keep)
        inner_insert_child(right, at - keep, child);
    else
        inner_insert_child(inner, at, child);
    return &right->node;
}

static void grow_root(struct memtable *m, struct node *right)
{
    struct inner *root = take(m, sizeof(*root));

    assert(m->n_levels < NODE_LEVELS_MAX);
    root->node.n = 0;
    inner_insert_child(root, 0, m->root);
    inner_insert_child(root, 1, right);
    m->root = &root->node;
    m->n_levels++;
}

static const uint8_t *take_reference(struct memtable *m, struct blob *owner, struct slice value)
{
    struct ref *ref = take(m, sizeof(*ref));

    ref->blob = blob_ref(owner);
    ref->next = m->refs;
    m->refs = ref;
    m->n_bytes += value.len;
    return value.data;
}

static struct memtable_entry *entry_new(struct memtable *m, struct slice key,
                                        const struct state *state, uint64_t lsn, struct blob *owner)
{
    bool by_reference = owner && state->value.len >= MEMTABLE_REF_BYTES_MIN;
    struct memtable_entry *e =
        take(m, sizeof(*e) + key.len + (by_reference ? 0 : state->value.len));

    e->version = state->version;
    e->lsn = lsn;
    e->value_len = (uint32_t)state->value.len;
    e->key_len = (uint16_t)key.len;
    e->kind = state->kind;
    e->deleted = state->deleted;
    memcpy(e->key, key.data, key.len);
    if (by_reference) {
        e->value = take_reference(m, owner, state->value);
    } else {
        e->value = e->key + key.len;
        if (state->value.len)
            memcpy(e->key + key.len, state->value.data, state->value.len);
    }
    return e;
}

/* only_newer: NULL if what is there has this version or a higher one. */
static const struct memtable_entry *put(struct memtable *m, struct slice store_key,
                                        const struct state *state, uint64_t lsn, struct blob *owner,
                                        bool only_newer)
{
    struct step path[NODE_LEVELS_MAX];
    struct probe p = probe_of(store_key);
    const struct memtable_entry *e;
    struct leaf *leaf;
    struct node *right;
    uint32_t at;
    bool equal;

    assert(store_key.len >= STORE_KEY_HEADER_BYTES && store_key.len <= STORE_KEY_BYTES_MAX);
    assert(state->value.len <= LIMIT_VALUE_BYTES);
    if (m->n_levels == 0) {
        m->root = &leaf_new(m, NULL)->node;
        m->n_levels = 1;
    }
    leaf = find_leaf(m, &p, path);
    at = node_find(&leaf->node, 0, &p, &equal);
    if (equal && only_newer && version_compare(leaf->node.entry[at]->version, state->version) >= 0)
        return NULL;
    e = entry_new(m, store_key, state, lsn, owner);
    if (equal) {
        leaf->node.entry[at] = e;
        return e;
    }
    m->n_entries++;
    right = leaf_insert(m, leaf, at, p.word, e);
    for (uint32_t i = m->n_levels - 1; right && i-- > 0;)
        right = inner_insert(m, path[i].inner, path[i].at + 1, right);
    if (right)
        grow_root(m, right);
    return e;
}

const struct memtable_entry *memtable_put(struct memtable *m, struct slice store_key,
                                          const struct state *state, uint64_t lsn,
                                          struct blob *owner)
{
    return put(m, store_key, state, lsn, owner, false);
}

const struct memtable_entry *memtable_put_newer(struct memtable *m, struct slice store_key,
                                                const struct state *state, uint64_t lsn)
{
    return put(m, store_key, state, lsn, NULL, true);
}

/* ---- walks -------------------------------------------------------------------------------- */

static void stand_at(struct memtable_iter *it, const struct leaf *leaf, uint32_t at)
{
    if (leaf && at == leaf->node.n) {
        leaf = leaf->next;
        at = 0;
    }
    *it = (struct memtable_iter){
        .entry = leaf ? leaf->node.entry[at] : NULL, .leaf = leaf, .index = at};
}

void memtable_seek(const struct memtable *m, struct slice from, struct memtable_iter *ret)
{
    struct probe p = probe_of(from);
    const struct leaf *leaf = NULL;
    uint32_t at = 0;
    bool equal;

    if (m->n_levels > 0) {
        leaf = find_leaf(m, &p, NULL);
        at = node_find(&leaf->node, 0, &p, &equal);
    }
    stand_at(ret, leaf, at);
}

void memtable_next(struct memtable_iter *it)
{
    if (it->entry)
        stand_at(it, it->leaf, it->index + 1);
}

size_t memtable_count(const struct memtable *m)
{
    return m->n_entries;
}

size_t memtable_bytes(const struct memtable *m)
{
    return m->n_bytes;
}
