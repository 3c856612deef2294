/* log: what orders everything durable of a node.
 *
 *   worker 0 --log_append--> +---------+            +------------+ pwritev, fdatasync,
 *   worker 1 --log_append--> | pending | --group--> | log thread | one group in flight
 *   control  --log_append--> +---------+            +------------+
 *       ^                                                |
 *       +---- on_durable(lsn, queues of the group) ------+
 *
 * Records are opaque here (log_record.h): a type and bytes. Each appended list gets consecutive
 * LSNs from one counter of this process (one per operation, also for operations that need no
 * record); a record's place that outlives the process is its position: sequence number of its
 * group and index in it.
 *
 * Files, in options.dir: segments of LOG_SEGMENT_BYTES (the first and last ones may be shorter),
 * zero-written and synced with their directory before anything is written into them, so that
 * writing a group never allocates. Segments whose records are all applied are reused in place; the
 * log never shrinks.
 *
 * A group is a header {magic, format, log id, generation, sequence, record count, length, CRC-32C},
 * its records, and zeroes up to the next multiple of 4 KiB; at most LOG_GROUP_BYTES_MAX, or one
 * record that is larger. The checksum covers header and records and is seeded with the log's random
 * id, so that no value a client sends can look like a group. Exactly one group is in flight: a
 * group is written only after the one before it is synced.
 *
 * Recovery walks the groups from the one after `applied_seq` on, by sequence number. What ends the
 * walk is the torn tail, unless a valid group with a higher sequence number stands anywhere in any
 * segment: then it is damage, an error that names file and offset. (A bit that flips in the very
 * last group cannot be told from a torn one: it is cut.) The last good group is written
 * again and synced before anything is handed out (it may have been seen by the reader of a process
 * that died before its sync).
 */
#ifndef QUOIT_STORAGE_LOG_H
#define QUOIT_STORAGE_LOG_H

#include "proto/slice.h"

#define LOG_SEGMENT_BYTES_DEFAULT (64u << 20)
#define LOG_BLOCK_BYTES 4096u
#define LOG_GROUP_BYTES_MAX (1u << 20)
/* The longest record: a value of LIMIT_VALUE_BYTES, its key and headers. */
#define LOG_RECORD_BYTES_MAX ((8u << 20) + 4096u)
/* Ready ahead of the head, at least; if less, another segment is made. */
#define LOG_AHEAD_BYTES (16u << 20)
#define LOG_QUEUES_MAX 65u
#define LOG_WHY_BYTES 512

struct log;

struct log_pos {
    uint64_t seq;
    uint32_t index;
};

/* Where a group stands; seq 0: none. */
struct log_place {
    uint64_t seq, offset;
    uint32_t segment;
};

struct log_options {
    const char *dir; /* exists */
    uint32_t
        segment_bytes;  /* 0: default; a multiple of LOG_BLOCK_BYTES, >= 2 * LOG_RECORD_BYTES_MAX
                               (tests may go down to 64 KiB if their records are small) */
    uint64_t bytes_max; /* of all segments, >= 2 * segment_bytes: beyond it appends are FULL */
    uint32_t n_queues;
    /* From the log's thread. durable has risen to lsn; touched[q]: the queue has something among
     * it. Must only wake up. */
    void (*on_durable)(void *ctx, uint64_t lsn, const bool *touched);
    /* From any thread: there is room again after log_admit refused, or the refusal's
     * reason has changed (no space on the disk). Must only wake up. */
    void (*on_room)(void *ctx);
    /* A write or sync failed: the content of the disk is unknown. Nothing is made durable any more.
     */
    void (*on_fatal)(void *ctx, const char *sentence);
    void *ctx;
};

/* What the last process left. */
struct log_replay {
    /* Each record after the group applied_seq, in order, with the LSN that it gets in this process
     * (from 1 on, all durable). 0 to go on, or an error that open returns. Slices end with the
     * call. */
    int (*record)(void *ctx, struct log_pos pos, uint64_t lsn, uint8_t type, struct slice payload);
    void *ctx;
    uint64_t log_id;      /* as the store remembers it; 0: a new store, the directory must hold no
                             segment with groups */
    uint64_t applied_seq; /* groups up to here need no replay */
    uint64_t known_seq;   /* this group was durable: a log that ends before it is an older copy */
    /* The store knows that nothing was written behind this group, applied_seq: no search. */
    struct log_place last;
};

/* Makes the log of a directory ready: replays, cuts the torn tail, rewrites the last group, makes
 * the first segment. *ret_log_id: to be remembered by the store, before anything is appended. 0 and
 * *ret; -ERR_IO, -ERR_NO_SPACE, -ERR_NO_MEMORY, -ERR_CORRUPT (names file and offset), -ERR_FORMAT,
 * -ERR_IN_USE (by another process), -ERR_CONFIG (bytes_max), or what replay->record said, with a
 * sentence in why. No thread runs yet. */
int log_open(const struct log_options *options, const struct log_replay *replay, struct log **ret,
             uint64_t *ret_log_id, char why[LOG_WHY_BYTES]);
int log_start(struct log *l);
/* Writes and syncs what was appended, unless the log has failed; ends the threads. */
void log_stop(struct log *l);
void log_free(struct log *l); /* accepts NULL */

/* ---- appending: any thread, each with its own list ---- */

/* Records on their way: owned by the caller until log_append takes it. */
struct log_list;

struct log_list *log_list_new(struct log *l); /* reuses memory of lists gone through; or NULL */
void log_list_free(struct log *l, struct log_list *list);
/* The last piece of a record is referenced from this length on; a reference to a few bytes would
 * keep a whole receive buffer alive. */
#define LOG_REF_BYTES_MIN 4096u
/* Appends a record made of the pieces, copied; a last piece of LOG_REF_BYTES_MIN is referenced
 * instead if `owner` is given (the blob it lies in). 0 or -ERR_NO_MEMORY (list as before). */
int log_list_add(struct log_list *list, uint8_t type, const struct slice *pieces, size_t n_pieces,
                 struct blob *owner);
size_t log_list_bytes(const struct log_list *list);

/* Whether the list may be appended once it holds up to so many bytes: of payloads, and
 * LOG_RECORD_OVERHEAD_BYTES for each record. At most once per list, before or after it is filled.
 * What was admitted always finds zero-written room, whatever the disk does: it is charged at once,
 * until log_append or log_list_free takes the list. 0; -ERR_FULL: not now, on_room tells when;
 * -ERR_NO_SPACE: the disk has no room for another segment (on_room tells when it has, or when the
 * reason has changed); -ERR_IO: the log has failed. Up to LOG_RECORD_BYTES_MAX and its overhead are
 * never refused for ever; 0 bytes never. reserve: this one may use the last LOG_RESERVE_BYTES too
 * (facts, deletes). */
#define LOG_RECORD_OVERHEAD_BYTES 8u
#define LOG_RESERVE_BYTES (4u << 20)
int log_admit(struct log *l, struct log_list *list, size_t bytes, bool reserve);
/* Takes the list (admitted, or empty), which stands for n_ops operations of the queue; returns the
 * LSN of the first. An empty list makes its queue touched when all before it is durable. */
uint64_t log_append(struct log *l, struct log_list *list, uint32_t queue, uint64_t n_ops);

/* ---- any thread ---- */
uint64_t log_durable(const struct log *l);
/* Bytes of segments that hold what is not released, of bytes_max. */
uint64_t log_used_bytes(const struct log *l);
/* The disk has no room for a segment that is wanted: only what is released helps. */
bool log_is_short(const struct log *l);
uint64_t log_n_syncs(const struct log *l);
uint64_t log_n_replayed(const struct log *l); /* records that log_open handed out */
/* The last group that is durable. When the threads have ended. */
struct log_place log_last(const struct log *l);

/* ---- releasing: one thread ---- */
/* The highest group sequence all whose records have an LSN of at most `lsn` (not beyond durable):
 * what the store may remember as applied. */
uint64_t log_seq_of(struct log *l, uint64_t lsn);
/* Whether all records with an LSN of at most `lsn`, which is durable, stand in groups up to seq. */
bool log_is_behind(struct log *l, uint64_t lsn, uint64_t seq);
/* The store remembers, durably, that all groups up to seq are applied: segments are reused. */
void log_release(struct log *l, uint64_t seq);

#endif
