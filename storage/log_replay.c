/* log_replay: what the last process left.
 *
 *   1. search   every block of every segment: all whole groups of this log above applied_seq, and
 *               the highest one up to it. Behind a whole group the search goes on at its end.
 *   2. judge    sorted by sequence they must be applied_seq + 1, + 2, ... without a gap. One that
 *               is missing below another is damage: it was synced before the other was written.
 *               What is torn at the end was never durable; nothing tells it from a bit that flipped
 *               in the very last group afterwards.
 *   3. hand out each record, in order.
 *   4. rewrite  the last group, identically, and sync it: a process that died before its sync left
 *               it in the page cache, where this one has just read it.
 *
 * The search is exhaustive on purpose, although block 0 of each segment would tell nearly all: a
 * write that a disk lost shows only as a later group that stands somewhere. It costs one pass over
 * the files, as fast as the disk reads. Blocks inside a torn group hold what clients wrote, and are
 * looked at too: without the log's id nothing there passes.
 *
 * A log that ends below applied_seq, or below another group of which the store knows that it was
 * durable, is the wrong one, or a part of it is gone: the last durable group is never overwritten
 * before the next is durable (log.c), so one at or above them is always there. To go on there would
 * give the numbers of groups that were lost to others, and what the store remembers of those would
 * be taken for these. Groups of another log are recognised in block 0 only, where clients cannot
 * write; anything that looks so further inside may be a client's invention.
 *
 * After a clean stop nothing is left to be found, and the store knows where the last group stands
 * (log_replay.last): if it is there, whole, and nothing that looks like a later one where the next
 * would have been written, nothing is searched. The store must forget that before anything is
 * appended.
 *
 * Opening changes nothing but that one rewrite, so it may be cut off anywhere and repeated.
 *
 * Generations may only grow along the walk. Of two groups of one sequence the higher generation
 * counts: the other is a torn one that a later write elsewhere happened to complete.
 */
#include "storage/log_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "proto/err.h"

struct found {
    struct log_group group;
    struct log_segment *segment;
    uint64_t offset;
};

struct search {
    struct log *l;
    const struct log_replay *replay;
    char *why;
    uint64_t log_id; /* 0: a new store, no group is wanted */
    struct found *found;
    size_t n, cap;
    struct found base; /* the highest up to applied_seq; seq 0: none */
    uint64_t generation;
    uint8_t *bytes; /* the segment in memory */
    size_t cap_bytes;
    uint64_t lsn;
};

static uint64_t end_of(const struct found *f)
{
    return f->offset + log_group_disk_bytes(f->group.length);
}

__attribute__((format(printf, 5, 6))) static int explain(const struct search *s, int error,
                                                         const struct log_segment *segment,
                                                         uint64_t offset, const char *format, ...)
{
    char name[LOG_FILE_NAME_BYTES], text[LOG_WHY_BYTES - 64];
    va_list args;

    log_segment_name(segment->number, name);
    va_start(args, format);
    /* clang 14 does not see va_start: NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized) */
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    snprintf(s->why, LOG_WHY_BYTES, "%s at byte %llu: %s", name, (unsigned long long)offset, text);
    return -error;
}

static int say(const struct search *s, int error, const char *sentence)
{
    snprintf(s->why, LOG_WHY_BYTES, "%s", sentence);
    return -error;
}

/* ---- 1. search ---------------------------------------------------------------------------- */

static int load(struct search *s, struct log_segment *segment, uint64_t offset, size_t len)
{
    if (len > s->cap_bytes) {
        free(s->bytes);
        s->cap_bytes = 0;
        s->bytes = malloc(len);
        if (!s->bytes)
            return -ERR_NO_MEMORY;
        s->cap_bytes = len;
    }
    return log_segment_read(segment, offset, s->bytes, len, s->why);
}

static int note(struct search *s, const struct found *f)
{
    struct found *more;

    if (f->group.generation > s->generation)
        s->generation = f->group.generation;
    if (f->group.seq <= s->replay->applied_seq) {
        if (f->group.seq > s->base.group.seq)
            s->base = *f;
        return 0;
    }
    if (f->group.format != LOG_GROUP_FORMAT)
        return explain(s, ERR_FORMAT, f->segment, f->offset,
                       "written by a newer version of quoit (log format %u, this version knows "
                       "%u); start that version or a newer one",
                       f->group.format, LOG_GROUP_FORMAT);
    if (s->n == s->cap) {
        more = realloc(s->found, (s->cap ? 2 * s->cap : 64) * sizeof(*more));
        if (!more)
            return -ERR_NO_MEMORY;
        s->found = more;
        s->cap = s->cap ? 2 * s->cap : 64;
    }
    s->found[s->n++] = *f;
    return 0;
}

static int look_at_first_block(struct search *s, struct log_segment *segment, struct slice bytes)
{
    struct log_group g;

    if (s->log_id == 0 && log_group_has_magic(bytes))
        return explain(s, ERR_CORRUPT, segment, 0,
                       "the store is new, but its log directory holds the log of another store; "
                       "give it an empty one, or the store that belongs to it");
    if (s->log_id && log_group_decode(bytes, 0, &g) && g.log_id != s->log_id)
        return explain(s, ERR_CORRUPT, segment, 0,
                       "this is the log of another store; give the store its own log directory");
    return 0;
}

static int search_segment(struct search *s, struct log_segment *segment)
{
    struct found f = {.segment = segment};
    struct slice all;
    int r = load(s, segment, 0, (size_t)segment->size);

    if (r < 0)
        return r;
    all = slice_of(s->bytes, (size_t)segment->size);
    r = look_at_first_block(s, segment, all);
    if (r < 0 || s->log_id == 0)
        return r;
    while (f.offset < segment->size) {
        struct slice rest = slice_of(all.data + f.offset, all.len - (size_t)f.offset);

        if (!log_group_decode(rest, s->log_id, &f.group)) {
            f.offset += LOG_BLOCK_BYTES;
            continue;
        }
        r = note(s, &f);
        if (r < 0)
            return r;
        f.offset = end_of(&f);
    }
    return 0;
}

static int open_segments(struct search *s)
{
    uint32_t *numbers = NULL;
    size_t n = 0;
    int r = log_segment_list(s->l->dir_fd, &numbers, &n, s->why);

    for (size_t i = 0; r == 0 && i < n; i++) {
        struct log_segment *segment;

        /* Made one after the other, each with its directory synced, and never removed. */
        if (numbers[i] != i + 1) {
            snprintf(s->why, LOG_WHY_BYTES, "segment %zu is missing, while segment %u is there",
                     i + 1, numbers[i]);
            r = -ERR_CORRUPT;
            break;
        }
        r = log_segment_open(s->l->dir_fd, numbers[i], &segment, s->why);
        if (r < 0)
            break;
        r = log_add_segment(s->l, segment);
        if (r < 0)
            log_segment_free(segment);
    }
    free(numbers);
    return r;
}

static int search_all(struct search *s)
{
    int r = 0;

    for (size_t i = 0; i < s->l->n_segments; i++) /* the disk may begin to read all of it */
        posix_fadvise(s->l->segments[i]->fd, 0, 0, POSIX_FADV_WILLNEED);
    for (size_t i = 0; r == 0 && i < s->l->n_segments; i++)
        r = search_segment(s, s->l->segments[i]);
    return r;
}

static bool decode_at(struct search *s, struct found *f, size_t len)
{
    return load(s, f->segment, f->offset, len) == 0 &&
           log_group_decode(slice_of(s->bytes, len), s->log_id, &f->group);
}

/* Whether a group, whole or torn, may stand where the next one would have been written: behind the
 * last one, or in block 0 of another segment. Whatever cannot be read may be one. */
static bool is_followed(struct search *s, const struct found *last)
{
    for (size_t i = 0; i < s->l->n_segments; i++) {
        const struct log_segment *segment = s->l->segments[i];
        uint64_t offset = segment == last->segment ? end_of(last) : 0, seq;
        uint8_t head[LOG_GROUP_HEADER_BYTES];

        if (segment->size - offset < LOG_BLOCK_BYTES)
            continue;
        if (log_segment_read(segment, offset, head, sizeof(head), s->why) < 0 ||
            (log_group_claims(slice_of(head, sizeof(head)), s->log_id, &seq) &&
             seq > last->group.seq))
            return true;
    }
    return false;
}

/* The group that the store remembers as the last one is where it ought to be: the log has ended
 * with it. Anything else is a matter for the search. */
static bool is_clean(struct search *s)
{
    const struct log_place *last = &s->replay->last;
    struct found f = {.offset = last->offset};
    size_t n = s->l->n_segments, rest, len;
    bool whole;

    if (last->seq == 0 || last->seq != s->replay->applied_seq || s->log_id == 0 ||
        last->segment == 0 || last->segment > n)
        return false;
    f.segment = s->l->segments[last->segment - 1];
    if (last->offset % LOG_BLOCK_BYTES || last->offset + LOG_BLOCK_BYTES > f.segment->size)
        return false;
    rest = (size_t)(f.segment->size - last->offset);
    len = rest < LOG_GROUP_BYTES_MAX ? rest : LOG_GROUP_BYTES_MAX;
    whole = decode_at(s, &f, len) || (len < rest && decode_at(s, &f, rest)); /* a single record */
    return whole && f.group.seq == last->seq && f.group.format == LOG_GROUP_FORMAT &&
           !is_followed(s, &f) && note(s, &f) == 0;
}

/* ---- 2. judge ----------------------------------------------------------------------------- */

static int by_seq(const void *a, const void *b)
{
    const struct found *x = a, *y = b;

    if (x->group.seq != y->group.seq)
        return x->group.seq < y->group.seq ? -1 : 1;
    return x->group.generation > y->group.generation ? -1
                                                     : x->group.generation < y->group.generation;
}

static void drop_doubles(struct search *s)
{
    size_t n = 0;

    for (size_t i = 0; i < s->n; i++) {
        if (n == 0 || s->found[i].group.seq != s->found[n - 1].group.seq)
            s->found[n++] = s->found[i];
    }
    s->n = n;
}

/* A group is missing between prev (NULL: not known) and next: says where it ought to be. */
static int explain_hole(struct search *s, const struct found *prev, const struct found *next,
                        uint64_t seq)
{
    struct log_segment *segment = next->segment;
    uint64_t offset = 0;
    char name[LOG_FILE_NAME_BYTES];
    uint8_t head[LOG_GROUP_HEADER_BYTES];

    log_segment_name(next->segment->number, name);
    if (prev && prev->segment == next->segment) {
        offset = end_of(prev);
    } else if (prev && end_of(prev) < prev->segment->size &&
               (next->offset == 0 ||
                (log_segment_read(prev->segment, end_of(prev), head, sizeof(head), s->why) == 0 &&
                 log_group_has_magic(slice_of(head, sizeof(head)))))) {
        segment = prev->segment;
        offset = end_of(prev);
    }
    return explain(s, ERR_CORRUPT, segment, offset,
                   "group %llu ought to be here and is damaged or missing, while group %llu is "
                   "whole in %s at byte %llu: the disk lost what was durable. Restore the log, or "
                   "remove the node's data and let it be replaced",
                   (unsigned long long)seq, (unsigned long long)next->group.seq, name,
                   (unsigned long long)next->offset);
}

static int judge_walk(struct search *s)
{
    const struct found *prev =
        s->base.group.seq == s->replay->applied_seq && s->base.segment ? &s->base : NULL;

    for (size_t i = 0; i < s->n; i++) {
        const struct found *f = &s->found[i];

        if (f->group.seq != s->replay->applied_seq + 1 + i)
            return explain_hole(s, prev, f, s->replay->applied_seq + 1 + i);
        if (prev && f->group.generation < prev->group.generation)
            return explain(s, ERR_CORRUPT, f->segment, f->offset,
                           "group %llu is of an older generation than the one before it",
                           (unsigned long long)f->group.seq);
        prev = f;
    }
    return 0;
}

static int judge(struct search *s)
{
    uint64_t known = s->replay->known_seq > s->replay->applied_seq ? s->replay->known_seq
                                                                   : s->replay->applied_seq;
    uint64_t end;

    if (s->log_id == 0)
        return 0;
    if (s->l->n_segments == 0)
        return say(s, ERR_CORRUPT,
                   "the log is gone: the directory holds none. What the node acknowledged last may "
                   "have been in it only. Restore it, or remove the node's data and let it be "
                   "replaced");
    if (s->n)
        qsort(s->found, s->n, sizeof(*s->found), by_seq);
    drop_doubles(s);
    end = s->n ? s->found[s->n - 1].group.seq : s->base.group.seq;
    if (end < known) {
        snprintf(s->why, LOG_WHY_BYTES,
                 "the log ends with group %llu, but the store has applied group %llu: the log is "
                 "an older copy or a part of it is lost, and with it perhaps what the node "
                 "acknowledged last. Restore it, or remove the node's data and let it be replaced",
                 (unsigned long long)end, (unsigned long long)known);
        return -ERR_CORRUPT;
    }
    return judge_walk(s);
}

/* ---- 3. hand out -------------------------------------------------------------------------- */

static int hand_out_group(struct search *s, const struct found *f)
{
    const struct log_replay *replay = s->replay;
    struct log_pos pos = {.seq = f->group.seq};
    struct log_group again;
    struct slice records, payload;
    size_t at = 0;
    uint8_t type;
    int r = load(s, f->segment, f->offset, LOG_GROUP_HEADER_BYTES + f->group.length);

    if (r < 0)
        return r;
    records = slice_of(s->bytes, LOG_GROUP_HEADER_BYTES + f->group.length);
    if (!log_group_decode(records, s->log_id, &again) || again.seq != f->group.seq)
        return explain(s, ERR_IO, f->segment, f->offset, "the disk reads differently each time");
    records = slice_of(s->bytes + LOG_GROUP_HEADER_BYTES, f->group.length);
    if (!f->segment->last_seq)
        f->segment->lsn_before = s->lsn;
    while ((r = log_record_next(records, &at, &type, &payload)) == 1) {
        r = replay->record(replay->ctx, pos, ++s->lsn, type, payload);
        if (r < 0)
            return explain(s, -r, f->segment, f->offset, "record %u of group %llu: %s", pos.index,
                           (unsigned long long)pos.seq, err_text(r));
        pos.index++;
        s->l->n_replayed++;
        s->l->n_replayed_bytes += payload.len;
    }
    if (r < 0 || pos.index != f->group.count)
        return explain(s, ERR_CORRUPT, f->segment, f->offset,
                       "group %llu passes its checksum, but its records make no sense",
                       (unsigned long long)pos.seq);
    f->segment->last_seq = pos.seq;
    f->segment->lsn_max = s->lsn;
    return 0;
}

/* ---- 4. rewrite, and the new state -------------------------------------------------------- */

/* The bytes of the last group are those that hand_out_group has loaded. */
static int rewrite(struct search *s, const struct found *last)
{
    static const uint8_t zero[LOG_BLOCK_BYTES];
    size_t used = LOG_GROUP_HEADER_BYTES + last->group.length;
    struct iovec iov[2] = {
        {.iov_base = s->bytes, .iov_len = used},
        {.iov_base = (void *)(uintptr_t)zero,
         .iov_len = (size_t)log_group_disk_bytes(last->group.length) - used},
    };

    return log_segment_write(last->segment, iov, iov[1].iov_len ? 2 : 1, last->offset, s->why);
}

static void settle(struct search *s, const struct found *last)
{
    struct log *l = s->l;

    l->generation = s->generation + 1;
    l->seq_released = s->replay->applied_seq;
    l->seq_last = last ? last->group.seq : s->replay->applied_seq;
    l->lsn_last = s->lsn;
    atomic_store(&l->durable, s->lsn);
    l->free = NULL;
    l->free_tail = &l->free;
    for (size_t i = 0; i < l->n_segments; i++) {
        struct log_segment *segment = l->segments[i];

        posix_fadvise(segment->fd, 0, 0, POSIX_FADV_DONTNEED);
        segment->next = NULL;
        if (last && segment == last->segment) {
            segment->use = LOG_SEGMENT_HEAD;
            segment->last_seq = last->group.seq;
            segment->lsn_max = s->lsn;
            l->head = segment;
            l->head_offset = end_of(last);
            l->last = (struct log_place){
                .seq = last->group.seq, .segment = segment->number, .offset = last->offset};
        } else if (segment->last_seq > l->seq_released) {
            segment->use = LOG_SEGMENT_USED;
        } else {
            log_free_segment(l, segment);
        }
    }
    log_publish_used(l);
}

static int recover(struct search *s)
{
    const struct found *last;
    int r = open_segments(s);

    if (r == 0 && !is_clean(s))
        r = search_all(s);
    if (r == 0)
        r = judge(s);
    for (size_t i = 0; r == 0 && i < s->n; i++)
        r = hand_out_group(s, &s->found[i]);
    if (r < 0)
        return r;
    last = s->n ? &s->found[s->n - 1] : s->base.segment ? &s->base : NULL;
    if (s->n)
        r = rewrite(s, last);
    if (r == 0)
        settle(s, last);
    return r;
}

static int new_log_id(struct search *s)
{
    uint64_t id = 0;

    while (id == 0) {
        if (getrandom(&id, sizeof(id), 0) != (ssize_t)sizeof(id) && errno != EINTR)
            return say(s, ERR_IO, "the system has no random numbers");
    }
    s->l->log_id = id;
    return 0;
}

int log_replay_run(struct log *l, const struct log_replay *replay, char why[LOG_WHY_BYTES])
{
    struct search s = {.l = l, .replay = replay, .why = why, .log_id = replay->log_id};
    int r = recover(&s);

    l->log_id = replay->log_id;
    if (r == 0 && l->log_id == 0)
        r = new_log_id(&s);
    free(s.found);
    free(s.bytes);
    return r;
}
