/* coordinator_scan: one page of a partition, merged from W slots.
 *
 * Each slot asked sends a page of its records in key order, tombstones included. Up to the least
 * key at which a page breaks off, every record that any of the W slots holds is known: the newest
 * version of each key up to there is the answer, and the cursor stands after the last key looked
 * at. Tombstones are left out, and so is what a page lacks whose purge floor is not below it: that
 * is deleted. A page of an answer is cut like a page of a slot (bytes, records), so it fits a frame
 * whatever the replicas send. A scan writes nothing back: it is for export and comparison, and each
 * key by itself is as fresh as a quorum get that started with the page.
 */
#include "server/core/op.h"
#include "server/core/records.h"
#include <assert.h>
#include <stdlib.h>

/* ---- asking -------------------------------------------------------------------------------- */

static uint32_t scan_page_bytes(const struct op *op)
{
    return op->page_bytes && op->page_bytes < LIMIT_SCAN_PAGE_BYTES ? op->page_bytes
                                                                    : LIMIT_SCAN_PAGE_BYTES;
}

static void scan_ask(struct worker *w, struct op *op, uint32_t slot, struct effects *out)
{
    struct wire_peer msg;

    msg.type = PEER_SCAN;
    msg.u.scan.cursor = op->cursor;
    msg.u.scan.page_bytes = scan_page_bytes(op);
    op_ask(w, op, slot, &msg, out);
}

/* ---- keeping a slot's page ----------------------------------------------------------------- */

static int scan_keep(struct worker *w, struct op *op, struct scan_answer *answer,
                     const struct wire_record *records, size_t n)
{
    worker_bury(w, answer->blob); /* of an incarnation that is no more */
    answer->blob = NULL;
    if (!op_charge(w, op, records_size(records, n)))
        return -ERR_OVERLOADED;
    answer->blob = records_copy(records, n, &answer->records);
    answer->n = n;
    return answer->blob ? 0 : -ERR_NO_MEMORY;
}

/* ---- merging ------------------------------------------------------------------------------- */

struct scan_head {
    uint64_t token;
    const struct wire_record *record; /* NULL: the page is used up */
};

struct scan_merge {
    struct worker *w;
    struct op *op;
    struct scan_head heads[LIMIT_SLOTS_MAX];
    size_t at[LIMIT_SLOTS_MAX];
    struct wire_record *out;
    size_t n_out, bytes_out;
    struct scan_head last; /* last key looked at */
    bool dead;             /* a live record lies below the floor of a page that lacks it */
    bool cut;              /* the page ended before the partition did */
};

/* The order of store keys (storage/record.h). */
static int head_compare(const struct scan_head *a, const struct scan_head *b)
{
    const struct key *x = &a->record->key, *y = &b->record->key;
    int c;

    if (a->token != b->token)
        return a->token < b->token ? -1 : 1;
    if (x->bucket != y->bucket)
        return x->bucket < y->bucket ? -1 : 1;
    if (x->partition.len != y->partition.len)
        return x->partition.len < y->partition.len ? -1 : 1;
    c = slice_compare(x->partition, y->partition);
    return c ? c : slice_compare(x->sort, y->sort);
}

static void merge_advance(struct scan_merge *m, uint32_t slot)
{
    const struct scan_answer *answer = &m->op->scans[slot];
    struct scan_head *head = &m->heads[slot];

    head->record = m->at[slot] < answer->n ? &answer->records[m->at[slot]++] : NULL;
    if (head->record)
        head->token = ring_token(m->w->ring, &head->record->key);
    else if (answer->more)
        m->cut = true; /* beyond here this slot's records are not known */
}

/* The least head, or -1. */
static int merge_least(const struct scan_merge *m)
{
    int least = -1;

    for (uint32_t i = 0; i < m->op->entry.n_slots; i++)
        if (m->heads[i].record && (least < 0 || head_compare(&m->heads[i], &m->heads[least]) < 0))
            least = (int)i;
    return least;
}

/* Takes the least key from all heads that have it; the newest version goes out. */
static void merge_take(struct scan_merge *m, int least)
{
    const struct wire_record *newest = NULL;
    uint64_t floor = 0; /* of those that lack it */

    m->last = m->heads[least];
    for (uint32_t i = 0; i < m->op->entry.n_slots; i++) {
        struct scan_head *head = &m->heads[i];

        if (!head->record || head_compare(head, &m->last) != 0) {
            if (m->op->slots[i].phase == PHASE_DONE && m->op->scans[i].floor > floor)
                floor = m->op->scans[i].floor;
            continue;
        }
        if (!newest || version_compare(head->record->state.version, newest->state.version) > 0)
            newest = head->record;
        merge_advance(m, i);
    }
    if (!newest || newest->state.deleted)
        return;
    m->dead |= newest->state.version.hlc <= floor;
    if (newest->state.version.hlc > floor) {
        m->out[m->n_out++] = *newest;
        m->bytes_out += record_bytes(newest);
    }
}

static void merge_run(struct scan_merge *m)
{
    uint32_t bytes_max = scan_page_bytes(m->op);
    int least;

    for (uint32_t i = 0; i < m->op->entry.n_slots; i++)
        if (m->op->slots[i].phase == PHASE_DONE)
            merge_advance(m, i);
    while (!m->cut && (least = merge_least(m)) >= 0) {
        assert(m->heads[least].record);
        /* A record that would take the answer past what a frame holds waits for the next page. */
        if (m->n_out && (m->bytes_out >= bytes_max || m->n_out >= LIMIT_SCAN_PAGE_RECORDS ||
                         m->bytes_out + record_bytes(m->heads[least].record) >
                             LIMIT_VALUE_BYTES + LIMIT_SCAN_PAGE_BYTES)) {
            m->cut = true;
            return;
        }
        merge_take(m, least);
    }
}

/* As in coordinator_get.c. */
static void scan_contradiction(struct worker *w, struct op *op, struct effects *out)
{
    if (op->reread) {
        w->stats.n_corrupt++;
        worker_trace(out, TRACE_CORRUPT, op->partition, 0);
        op_reply_error(w, op, ERR_CORRUPT, out);
        return;
    }
    op->reread = true;
    op->round++;
    for (uint32_t i = 0; i < op->entry.n_slots; i++)
        if (op->slots[i].phase == PHASE_DONE || op->slots[i].phase == PHASE_ASKED)
            op->slots[i].phase = PHASE_IDLE;
    read_review(w, op, scan_ask, out);
}

static void scan_reply(struct worker *w, struct op *op, struct effects *out)
{
    struct wire_response res = {.type = RESULT_SCAN};
    struct scan_merge m = {.w = w, .op = op};
    struct blob *records, *cursor = NULL;
    size_t n = 1;

    for (uint32_t i = 0; i < op->entry.n_slots; i++)
        n += op->scans[i].n;
    records = blob_new(n * sizeof *m.out + 16);
    if (!records) {
        op_reply_error(w, op, ERR_NO_MEMORY, out);
        return;
    }
    worker_bury(w, records);
    m.out = (struct wire_record *)(((uintptr_t)records->data + 15) & ~(uintptr_t)15);
    merge_run(&m);
    if (m.dead) {
        scan_contradiction(w, op, out);
        return;
    }
    if (m.cut && m.last.record) {
        cursor = blob_new(STORE_CURSOR_BYTES_MAX);
        if (!cursor) {
            op_reply_error(w, op, ERR_NO_MEMORY, out);
            return;
        }
        worker_bury(w, cursor);
        res.u.scan.cursor = slice_of(
            cursor->data, store_cursor_encode(m.last.token, &m.last.record->key, cursor->data));
    }
    res.u.scan.records = m.out;
    res.u.scan.n_records = m.n_out;
    op_reply(w, op, &res, out);
}

/* ---- answers ------------------------------------------------------------------------------- */

void scan_recv(struct worker *w, struct op *op, uint32_t slot, const struct wire_peer *msg,
               struct effects *out)
{
    struct scan_answer *answer = &op->scans[slot];
    int rc;

    if (msg->error == ERR_CORRUPT) {
        w->stats.n_corrupt++;
        worker_trace(out, TRACE_CORRUPT, op->partition, 0);
    }
    if (msg->error) {
        read_refused(w, op, slot, msg->error, scan_ask, out);
        return;
    }
    rc = scan_keep(w, op, answer, msg->u.scan_reply.records, msg->u.scan_reply.n_records);
    if (rc < 0) {
        op_reply_error(w, op, -rc, out);
        return;
    }
    answer->more = msg->u.scan_reply.cursor.len > 0;
    answer->floor = msg->u.scan_reply.floor;
    op->slots[slot].phase = PHASE_DONE;
    if (op_tally(op).done >= op->need)
        scan_reply(w, op, out);
}

void scan_start(struct worker *w, struct op *op, struct effects *out)
{
    op->stage = STAGE_SCAN;
    op->reread = false;
    read_start(w, op, scan_ask, out);
}

void scan_review(struct worker *w, struct op *op, struct effects *out)
{
    read_review(w, op, scan_ask, out);
}
