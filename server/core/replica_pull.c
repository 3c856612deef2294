/* replica_pull: what a slot sends to another that lacks something of certain leaves.
 *
 * The asker tells what it has of them. We read the same stretch of keys and send what it does not
 * have, and what we have in a higher version; the rest needs no byte. Neighbouring leaves are read
 * in one scan, one scan after the other, until the answer is full or enough was looked at; the
 * cursor says up to where, and the asker goes on from there. A record of ours that fails its
 * checksum is left out: of it we know nothing.
 */
#include "server/core/antientropy.h"
#include "server/core/floor.h"
#include "server/core/heal.h"
#include "server/core/records.h"
#include "server/core/replica.h"
#include "storage/merge.h"
#include <stdlib.h>

/* Records looked at for one answer: some milliseconds. */
#define PULL_LOOKED_MAX 4096u
#define PULL_RECORDS_MAX 1024u

struct pull_job {
    struct blob *blob; /* in which it lies */
    uint32_t slot, quiet_ms;
    uint32_t at, end, n_leaves; /* leaves at .. end - 1 are being scanned */
    struct place after, until, looked;
    const uint32_t *leaves;
    const struct wire_known *known; /* by hash */
    bool *had;                      /* which of them we have as well, or newer */
    size_t n_known, n_looked;
    struct wire_record *records; /* their slices' data are offsets into bytes */
    size_t n_records, cap;
    struct buf bytes;
    size_t size; /* of keys and values in it */
    uint64_t lsn;
    uint64_t closed; /* our purge floor */
    bool young;
};

struct blob *pull_job_end(struct pull_job *job)
{
    if (!job)
        return NULL;
    buf_deinit(&job->bytes);
    free(job->records);
    return job->blob;
}

static int by_hash(const void *a, const void *b)
{
    uint64_t x = ((const struct wire_known *)a)->key_hash;
    uint64_t y = ((const struct wire_known *)b)->key_hash;

    return x < y ? -1 : x > y;
}

/* The question, copied. NULL: no memory. */
static struct pull_job *job_new(const struct wire_peer *msg)
{
    size_t n_known = msg->u.pull.n_known, n_leaves = msg->u.pull.n_leaves;
    struct wire_known *known;
    uint32_t *leaves;
    struct blob *blob = blob_new(sizeof(struct pull_job) + n_known * (sizeof *known + 1) +
                                 n_leaves * sizeof *leaves);
    struct pull_job *job;

    if (!blob)
        return NULL;
    job = (struct pull_job *)(void *)blob->data;
    *job = (struct pull_job){.blob = blob};
    buf_init(&job->bytes);
    known = (struct wire_known *)(job + 1);
    leaves = (uint32_t *)(known + n_known);
    job->had = (bool *)(leaves + n_leaves);
    memset(job->had, 0, n_known);
    if (n_known) {
        memcpy(known, msg->u.pull.known, n_known * sizeof *known);
        qsort(known, n_known, sizeof *known, by_hash);
    }
    memcpy(leaves, msg->u.pull.leaves, n_leaves * sizeof *leaves);
    job->known = known;
    job->n_known = n_known;
    job->leaves = leaves;
    job->n_leaves = (uint32_t)n_leaves;
    job->slot = msg->u.pull.slot;
    job->quiet_ms = msg->u.pull.quiet_ms;
    place_set(&job->after, msg->u.pull.after);
    place_set(&job->until, msg->u.pull.until);
    return job;
}

/* ---- which records ------------------------------------------------------------------------- */

/* The write that made it may be on its way to the asker. What lies in the future was not made by a
 * good clock, and would never grow old. */
static bool is_young(const struct worker *w, const struct pull_job *job, struct version v)
{
    uint64_t ms = version_wall_ms(v.hlc);

    return job->quiet_ms && ms + job->quiet_ms > w->wall_ms &&
           ms <= w->wall_ms + LIMIT_CLOCK_AHEAD_MS;
}

static bool is_wanted(struct pull_job *job, const struct wire_record *r)
{
    struct wire_known key = {.key_hash = merge_key_hash(&r->key)};
    const struct wire_known *has =
        job->n_known ? bsearch(&key, job->known, job->n_known, sizeof key, by_hash) : NULL;
    int order;

    if (!has)
        return true;
    order = version_compare(r->state.version, has->version);
    if (order >= 0)
        job->had[has - job->known] = true;
    return order > 0;
}

/* Of the whole stretch that was asked about, we lack something that the asker has. What is young is
 * on its way here, and would not be given: two slots that lack a young one of each other would ask
 * without end. */
static bool lacks_something(const struct worker *w, const struct pull_job *job)
{
    for (size_t i = 0; i < job->n_known; i++)
        if (!job->had[i] && !is_young(w, job, job->known[i].version))
            return true;
    return false;
}

static int append(struct pull_job *job, struct slice *s)
{
    size_t at = job->bytes.len;
    int r = buf_append_slice(&job->bytes, *s);

    s->data = (const uint8_t *)(uintptr_t)at;
    return r;
}

static int job_add(struct pull_job *job, const struct wire_record *r)
{
    struct wire_record *copy;

    if (job->n_records == job->cap) {
        size_t cap = job->cap ? 2 * job->cap : 32;

        copy = realloc(job->records, cap * sizeof *copy);
        if (!copy)
            return -ERR_NO_MEMORY;
        job->records = copy;
        job->cap = cap;
    }
    copy = &job->records[job->n_records];
    *copy = *r;
    if (append(job, &copy->key.partition) < 0 || append(job, &copy->key.sort) < 0 ||
        append(job, &copy->state.value) < 0)
        return -ERR_NO_MEMORY;
    job->n_records++;
    job->size += record_bytes(r);
    return 0;
}

/* ---- the answer ---------------------------------------------------------------------------- */

static void settle(struct slice *s, const struct buf *bytes)
{
    if (s->len)
        s->data = bytes->data + (uintptr_t)s->data;
}

static void answer(struct worker *w, struct pending *p, bool done, struct effects *out)
{
    struct pull_job *job = p->pull;
    struct wire_peer reply;

    for (size_t i = 0; i < job->n_records; i++) {
        settle(&job->records[i].key.partition, &job->bytes);
        settle(&job->records[i].key.sort, &job->bytes);
        settle(&job->records[i].state.value, &job->bytes);
    }
    replica_reply_init(w, &reply, PEER_PULL_REPLY, p->id, &p->replica, 0);
    p->bytes = records_copy(job->records, job->n_records, &reply.u.pull_reply.records);
    if (!p->bytes) {
        pending_refuse(w, p, ERR_NO_MEMORY, out);
        return;
    }
    if (done && lacks_something(w, job))
        antientropy_hint(w, p->replica.partition, job->slot, job->leaves, job->n_leaves);
    w->antientropy->stats.n_told += job->n_records;
    w->antientropy->stats.n_told_bytes += job->size;
    reply.u.pull_reply.n_records = job->n_records;
    reply.u.pull_reply.young = job->young;
    if (!done)
        reply.u.pull_reply.cursor = place_slice(&job->looked); /* lives as long as p does */
    pending_answer(w, p, &reply, job->lsn, out);
}

/* ---- reading ------------------------------------------------------------------------------- */

static void emit_scan(struct worker *w, struct pending *p, struct slice cursor, struct effects *out)
{
    const struct pull_job *job = p->pull;
    uint64_t first = partition_range(w, p->replica.partition).first;
    struct effect *e = worker_emit(out, EFFECT_SCAN);

    e->u.scan.cookie = pending_cookie(w, p);
    e->u.scan.range.first = first + ((uint64_t)job->leaves[job->at] << (64 - TREE_LEAF_BITS));
    e->u.scan.range.last = first + ((uint64_t)job->leaves[job->end - 1] << (64 - TREE_LEAF_BITS)) +
                           (UINT64_MAX >> TREE_LEAF_BITS);
    e->u.scan.cursor = cursor;
    e->u.scan.bytes_max = LIMIT_SCAN_PAGE_BYTES;
}

static void next_run(struct worker *w, struct pending *p, struct effects *out)
{
    struct pull_job *job = p->pull;

    job->at = job->end;
    if (job->at == job->n_leaves) {
        answer(w, p, true, out);
        return;
    }
    job->end = job->at + 1;
    while (job->end < job->n_leaves && job->leaves[job->end] == job->leaves[job->end - 1] + 1)
        job->end++;
    emit_scan(w, p, job->at == 0 ? place_slice(&job->after) : (struct slice){0}, out);
}

void replica_pull(struct worker *w, struct addr from, const struct wire_peer *msg,
                  struct effects *out)
{
    uint32_t bits = tree_partition_bits(ring_wire(w->ring)->n_partitions);
    size_t n = msg->u.pull.n_leaves;
    struct pending *p;

    if (n == 0 || msg->u.pull.leaves[n - 1] >= tree_n_leaves(bits)) {
        replica_refuse(w, from, msg, ERR_BAD_REQUEST, out);
        return;
    }
    p = pending_new(w, PENDING_PULL, from, msg);
    if (!p) {
        replica_refuse(w, from, msg, ERR_OVERLOADED, out);
        return;
    }
    p->pull = job_new(msg);
    if (p->pull) {
        p->pull->closed = floor_closed(w, msg->replica.partition);
        next_run(w, p, out);
    } else
        pending_refuse(w, p, ERR_NO_MEMORY, out);
}

enum page_end {
    PAGE_READ,  /* all of it */
    PAGE_FULL,  /* the answer is full */
    PAGE_BEYOND /* what comes now is not asked for */
};

/* 0 and how far it came, or negative. */
static int read_page(struct worker *w, struct pull_job *job, const struct store_page *page,
                     enum page_end *ret)
{
    for (size_t i = 0; i < page->n; i++) {
        const struct wire_record *r = &page->items[i];
        uint8_t key[STORE_CURSOR_BYTES_MAX];
        struct slice at =
            slice_of(key, store_cursor_encode(ring_token(w->ring, &r->key), &r->key, key));
        bool young = is_young(w, job, r->state.version);

        *ret = PAGE_BEYOND;
        if (job->until.len && slice_compare(at, place_slice(&job->until)) > 0)
            return 0;
        *ret = PAGE_FULL;
        if (job->size >= LIMIT_SCAN_PAGE_BYTES || job->n_records == PULL_RECORDS_MAX ||
            job->n_looked == PULL_LOOKED_MAX)
            return 0;
        job->n_looked++;
        place_set(&job->looked, at);
        if (floor_hides(job->closed, &r->state) || !is_wanted(job, r))
            continue;
        job->young |= young;
        if (!young && job_add(job, r) < 0)
            return -ERR_NO_MEMORY;
    }
    *ret = PAGE_READ;
    return 0;
}

void replica_pull_scanned(struct worker *w, struct pending *p, const struct event *in,
                          struct effects *out)
{
    const struct store_page *page = in->u.scanned.page;
    struct pull_job *job = p->pull;
    enum page_end end = PAGE_READ;
    int r = in->u.scanned.error;
    int err = pending_check(w, p);

    if (!err && r == -ERR_CORRUPT && page && page->cursor_len > 0) {
        place_set(&job->looked, slice_of(page->cursor, page->cursor_len)); /* step over it */
        heal_record(w, place_slice(&job->looked));
        emit_scan(w, p, place_slice(&job->looked), out);
        return;
    }
    if (!err && r == 0)
        r = read_page(w, job, page, &end);
    if (err || r < 0) {
        pending_refuse(w, p, err ? err : -r, out);
        return;
    }
    job->lsn = page->lsn > job->lsn ? page->lsn : job->lsn;
    if (end != PAGE_READ) {
        answer(w, p, end == PAGE_BEYOND, out);
        return;
    }
    if (!page->more) {
        next_run(w, p, out);
        return;
    }
    place_set(&job->looked, slice_of(page->cursor, page->cursor_len));
    emit_scan(w, p, place_slice(&job->looked), out);
}
