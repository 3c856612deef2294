/* store: what a storage engine promises, as a struct of functions.
 *
 * A store holds records (a state per key, merged, never overwritten blindly) and a few small
 * durable facts. It speaks LSNs: every accepted operation gets a log sequence number from one
 * growing counter, and `durable` says up to which one a power cut can take nothing back. No caller
 * knows whether there are transactions behind it.
 *
 *   submit(ops) ------> lsn             operations of one queue take effect in the order submitted
 *        ...            notify(queue)   something to reap, or durable has moved
 *   reap(queue) ------> dones           each operation's outcome, only once it is durable
 *   get/scan    ------> state + lsn     may show what is not durable yet: whoever tells the world
 *                                       must wait until durable >= lsn
 *
 * Queues: one per worker, plus one for control (index n_workers). All calls of one queue come from
 * one thread; different queues need no locking by the caller. Reads of a queue see all that the
 * same queue has reaped. Bytes that a read returns are borrowed until read_end of that queue, which
 * also gives back the snapshot (call it at the end of each wake-up; a pinned snapshot costs disk).
 *
 * Failures: -ERR_NO_SPACE for operations that need room (see SPACE below), -ERR_CORRUPT for a
 * record that fails its checksum (never served, never taken for absent), -ERR_NO_MEMORY, -ERR_FULL
 * (queue bound reached: take it later). A failed write or sync that leaves the disk's content
 * unknown is fatal: the store marks its directory SUSPECT, calls config.fatal (which must not
 * return to it and normally ends the process) and acknowledges nothing more.
 *
 * SPACE: past STORE_SPACE_PERCENT of the map, or with less than min(15 %, 4 GiB) of the file system
 * free, puts are refused; deletes and small facts may use the rest. A put that would store nothing
 * (DUPLICATE, SUPERSEDED) is answered as ever: it takes no room.
 *
 * Engines: store_log (a node's), store_lmdb (plain, its twin), store_mem (the simulator's disk, the
 * oracle of the tests). Of store_log's queues only the owner of a token touches its records.
 */
#ifndef QUOIT_STORAGE_STORE_H
#define QUOIT_STORAGE_STORE_H

#include "proto/err.h"
#include "proto/limits.h"
#include "proto/state.h"
#include "proto/wire.h"

#define STORE_SPACE_PERCENT 85u

/* Leaves of the hash tree: the top 20 bits of the token. Absolute: independent of partitions. */
#define STORE_LEAF_BITS TREE_LEAF_BITS

/* Operations that one queue may have submitted and not reaped, and their bytes. */
#define STORE_QUEUE_OPS_MAX 65536u
#define STORE_QUEUE_BYTES_MAX (128u << 20)

/* Operations in one submit. */
#define STORE_SUBMIT_MAX 4096u

/* A cursor is a store key (storage/record.h), opaque to callers. */
#define STORE_CURSOR_BYTES_MAX (14u + LIMIT_KEY_BYTES)

/* Writes the cursor that stands after this record to out[STORE_CURSOR_BYTES_MAX]; returns its
 * length. For whoever cuts a page short. (record.c) */
size_t store_cursor_encode(uint64_t token, const struct key *key, uint8_t *out);
/* The record that a cursor names; slices borrow from it. 0; -ERR_CORRUPT: it is none, so of a
 * record on disk the key itself is damaged, and nobody can tell whose it was. (record.c) */
int store_cursor_decode(struct slice cursor, uint64_t *ret_token, struct key *ret);

/* The token of the key that a cursor names. Of what is no cursor: any. */
uint64_t store_cursor_token(struct slice cursor);

/* Reads that one queue may have announced (fetch) and not been told of: some tens of milliseconds
 * of a disk's time. They are served in turn, those that are refused beyond are not; many more would
 * only be read for clients that have asked again meanwhile. */
#define STORE_FETCH_MAX 1024u

enum store_fetch {
    STORE_FETCH_NOW,   /* make it now; that is no promise that it does not wait */
    STORE_FETCH_LATER, /* it would wait: `fetched` tells when it will not */
    STORE_FETCH_FULL   /* it would wait, and so do too many others: refuse it as overloaded */
};

/* Longest name of a small fact. */
#define STORE_META_NAME_MAX 32u

enum store_op_type {
    STORE_OP_MERGE = 1, /* merge state into key; `heal` says what to do with a damaged record */
    STORE_OP_CLOCK = 2, /* raise the clock bound (a maximum; never falls) */
    STORE_OP_META = 3   /* set the small fact `name` to `value` */
};

struct store_op {
    enum store_op_type type;
    uint64_t cookie;    /* the caller's; comes back in store_done */
    uint64_t until_ms;  /* the caller's: when it is too late; 0: never. Engines do not look */
    uint64_t token;     /* MERGE */
    struct key key;     /* MERGE */
    struct state state; /* MERGE */
    struct blob *owner; /* MERGE: NULL (the store copies key and value during submit), or the blob
                           in which they lie (the store may take a reference instead) */
    /* MERGE: put the state in the place of a record that fails its checksum, as if there were none;
     * what is whole is merged as ever. Only for whoever has merged the state from a majority of the
     * other replicas: what the damaged record said is known to nobody else any more. */
    bool heal;
    /* MERGE: not NULL: a purge floor (a clock, as of a version), read during submit. What would be
     * stored at or below it is not: SUPERSEDED_FLOOR, version {*floor, 0}. What is there at that
     * version or newer is told as ever. */
    const uint64_t *floor;
    uint64_t clock;     /* CLOCK: milliseconds since 1970 */
    struct slice name;  /* META */
    struct slice value; /* META: at most LIMIT_VALUE_BYTES */
};

struct store_done {
    uint64_t cookie;
    int error;                 /* 0, or negative: nothing was stored */
    enum wire_outcome outcome; /* MERGE: STORED, DUPLICATE, SUPERSEDED (version: by which),
                                  SUPERSEDED_FLOOR */
    struct version version;
    uint64_t lsn; /* what it reveals; durable when reaped */
};

/* Tokens first .. last, both included. */
struct store_range {
    uint64_t first, last;
};

struct store_item {
    uint64_t token;
    struct key key;
    struct state state;
};

/* One page of a scan. The caller provides items[cap]; slices are borrowed until read_end. */
struct store_page {
    struct wire_record *items;
    size_t cap;
    size_t n;     /* out */
    size_t bytes; /* out: keys and values */
    uint64_t lsn; /* out: highest that the page reveals */
    bool more;    /* out: the range goes on after the last item */
    uint8_t cursor[STORE_CURSOR_BYTES_MAX];
    size_t cursor_len; /* out: store key of the last item, to go on after; 0 if none */
};

struct store_info {
    uint64_t n_records; /* tombstones included */
    uint64_t n_tombstones;
    uint64_t n_bytes;           /* keys and values */
    struct version max_version; /* none is higher; an engine may remember those that are gone */
    uint64_t lsn; /* what it reveals: to be told to nobody before that is durable; 0: it is */
};

struct store_stats {
    uint64_t map_bytes, used_bytes; /* of the map: limit, pages in use (free list not counted) */
    uint64_t free_bytes;            /* of the data file: pages to be used again */
    uint64_t snapshot_age; /* commits since the oldest snapshot that is read: each keeps the pages
                              free that it replaced; 0: none is behind */
    uint64_t fs_free_bytes, fs_bytes;
    uint64_t n_records;       /* an engine may count twice what is on its way to disk */
    uint64_t n_in_memory;     /* of these: this queue's, on their way to the data file */
    uint64_t in_memory_bytes; /* that all of those may take there */
    uint64_t n_tombstones;    /* deleted records in the data file; of store_log only */
    uint64_t n_syncs, n_ops;  /* since start */
    uint64_t n_purged;        /* since start: tombstones removed by purge */
    uint64_t n_fetched;       /* since start: reads that were announced and deferred */
    uint64_t durable;
    bool space_low; /* puts are refused */
};

/* ---- scrub: what lies on disk is read again, a slice at a time ---- */

/* The ring in so many equal parts, which a scrub goes through one after the other. */
#define STORE_ZONES 1024u
/* Bytes that one slice may be asked to read: while it does, it pins a snapshot. */
#define STORE_SCRUB_BYTES_MAX (8u << 20)
/* Bad records of one slice, which ends with the last of them: so that each is named. */
#define STORE_SCRUB_BAD_MAX 16u

/* Where a scrub stands. Zeroed: at the beginning of the ring; nothing but `zone` set: at the
 * beginning of that part. The rest is the engine's. */
struct store_scrub_place {
    uint32_t zone;
    bool differs; /* a leaf of the zone, behind this place, is not that of its records */
    /* The leaf in the middle of which it stands: number in the zone, what the summary said of it,
     * what was counted. */
    uint32_t leaf;
    uint64_t leaf_told, leaf_counted;
    size_t after_len;                      /* 0: at the beginning of the zone */
    uint8_t after[STORE_CURSOR_BYTES_MAX]; /* the last whole record, */
    uint32_t n_behind;                     /* and how many others directly behind it */
};

/* What a slice has found. */
struct store_scrub {
    struct store_scrub_place next; /* to go on with */
    uint32_t zone;                 /* looked at, or a part of it */
    /* 0; -ERR_CORRUPT: pages in the zone cannot be read, the rest of it is left out, or records in
     * it stand in no order, so that reads may miss them (-ERR_FORMAT: a newer version wrote it);
     * others, as -ERR_NO_SPACE: `next` is the beginning of the same zone, to be tried again later.
     */
    int error;
    uint64_t n_records, n_bytes; /* read; of keys and values */
    bool remade; /* the zone's summary was not that of its records, and was made anew */
    /* Records that fail their checksum, n_named of them by their cursor: to be decoded and healed,
     * or too damaged for that (-ERR_CORRUPT). The others stand where no such key can stand: there
     * is nothing to heal. */
    uint64_t n_bad;
    size_t n_named;
    struct store_scrub_bad {
        size_t len;
        uint8_t cursor[STORE_CURSOR_BYTES_MAX];
    } bad[STORE_SCRUB_BAD_MAX];
};

static inline bool store_scrub_at_zone(const struct store_scrub_place *at)
{
    return at->after_len == 0;
}

struct store_config {
    uint32_t n_workers; /* queues 0 .. n_workers - 1, and n_workers for control */
    /* Records belong to the queues of the first n_owners workers, by token_worker(token, n_owners);
     * 0: to all of them. See store_log.h: not every engine cares. */
    uint32_t n_owners;
    /* Called from the store's threads, or from inside a call of any queue: this queue has something
     * to reap, durable has moved, or what was FULL is worth trying again. Must only wake it up. */
    void (*notify)(void *ctx, uint32_t queue);
    /* The disk's content is unknown, or the store is damaged. `sentence` says what and what to do.
     */
    void (*fatal)(void *ctx, const char *sentence);
    void *ctx;
};

struct store;

struct store_ops {
    /* Takes all n operations or none, 1 <= n <= STORE_SUBMIT_MAX. 0 and *ret_lsn = the last one's
     * LSN; -ERR_FULL, -ERR_NO_MEMORY, -ERR_IO after a fatal failure, or the typed refusal of a key,
     * name or value beyond its limit. -ERR_NO_SPACE, and -ERR_CORRUPT when the record to merge with
     * fails its checksum (an engine that knows the new version to be higher may store it) and the
     * operation does not heal, are told per operation in its store_done.
     *
     * Whoever hears -ERR_FULL waits for notify (which may have come already, if not all was
     * reaped); after the reap that follows the same submit is worth trying again, or a smaller one
     * if it has more than one operation: one of any legal size is not refused for ever. */
    int (*submit)(struct store *s, uint32_t queue, const struct store_op *ops, size_t n,
                  uint64_t *ret_lsn);
    /* Takes up to max outcomes that are durable, in LSN order (but loads, whenever they are done).
     * Returns how many. */
    size_t (*reap)(struct store *s, uint32_t queue, struct store_done *out, size_t max);
    /* Any thread. */
    uint64_t (*durable)(struct store *s);

    /* 0 with ret->kind STATE_NONE when absent; -ERR_CORRUPT, -ERR_IO. *ret_lsn: 0 when all that it
     * shows is known to be durable. */
    int (*get)(struct store *s, uint32_t queue, uint64_t token, const struct key *key,
               struct state *ret, uint64_t *ret_lsn);
    /* Records of the range in key order, after `cursor` (empty: from the start), tombstones
     * included, until page->cap records or bytes_max bytes (at least one record). -ERR_CORRUPT for
     * a bad record: page->cursor then names it, so that the caller can step over (and decode it,
     * to have it healed); cursor_len 0: what comes next cannot be told. */
    int (*scan)(struct store *s, uint32_t queue, struct store_range range, struct slice cursor,
                size_t bytes_max, struct store_page *page);
    void (*read_end)(struct store *s, uint32_t queue);

    /* Announces a get of the key, or (put not NULL) a merge of that version with it. LATER: others
     * wait for the disk instead, and `fetched` tells the cookie after a notify: then make it,
     * without asking again. Both functions are NULL in an engine that asks nobody to wait. */
    enum store_fetch (*fetch)(struct store *s, uint32_t queue, uint64_t cookie, uint64_t token,
                              const struct key *key, const struct version *put);
    /* Returns how many. In any order. */
    size_t (*fetched)(struct store *s, uint32_t queue, uint64_t *cookies, size_t max);

    /* Small facts, as last made durable. Appends to out; 0, -ERR_IO, or 1 when never set. */
    int (*meta_get)(struct store *s, uint32_t queue, struct slice name, struct buf *out);
    /* The clock bound as last made durable; 0 if never set. */
    uint64_t (*clock_bound)(struct store *s);

    /* Bulk: merges items sorted by store key in as few transactions as sensible, or deletes a
     * range for good (no tombstones). Reported by reap like an operation. Bytes are copied; a load
     * of more than STORE_QUEUE_BYTES_MAX is -ERR_BAD_REQUEST. A damaged record that a load meets
     * stays as it is, and the outcome of the whole is -ERR_CORRUPT. */
    int (*load)(struct store *s, uint32_t queue, uint64_t cookie, const struct store_item *items,
                size_t n);
    int (*wipe)(struct store *s, uint32_t queue, uint64_t cookie, struct store_range range);

    /* Removes for good, from disk, the tombstones of the range (whole leaves) whose version's clock
     * is at or below the floor; what is still in memory on its way there stays for another time.
     * In slices, so that others' operations do not wait for it. Reported by reap like an operation,
     * when it has reached the disk; one at a time per queue, -ERR_FULL while another is under way.
     * Only once the floor is durable: a purge is in no log, and the caller asks again after a start
     * that came before the outcome. Tombstones may come back by a crash, never what they hid. */
    int (*purge)(struct store *s, uint32_t queue, uint64_t cookie, struct store_range range,
                 uint64_t floor);

    /* Counts of a range, and its leaves (XOR of merge_digest per leaf; ret has one u64 per leaf
     * from the leaf of range.first to that of range.last) with what they reveal, as in store_info.
     * May read the whole range. A record that fails its checksum counts nothing, at the latest when
     * a scrub has met it: leaves tell that a record is missing, and only reading it why. */
    int (*vnode_info)(struct store *s, uint32_t queue, struct store_range range,
                      struct store_info *ret);
    int (*leaves)(struct store *s, uint32_t queue, struct store_range range, uint64_t *ret,
                  uint64_t *ret_lsn);

    /* Reads the next records on disk from there on, some of one zone, about bytes_max bytes of them
     * (at most STORE_SCRUB_BYTES_MAX, at least one record), and compares them with their checksums
     * and with the zone's summary, all of one moment. A summary that disagrees is made anew before
     * that is told. On a thread of the store's own where reading may wait: `scrubbed` then has the
     * outcome after a notify. One slice at a time: -ERR_FULL while another is under way or not
     * taken; -ERR_NO_MEMORY; 0. What is not on disk yet is not looked at; how fast a store is gone
     * through is the caller's. */
    int (*scrub)(struct store *s, uint32_t queue, const struct store_scrub_place *from,
                 size_t bytes_max);
    /* True: *ret is the outcome of the slice that this queue asked for. */
    bool (*scrubbed)(struct store *s, uint32_t queue, struct store_scrub *ret);

    int (*stats)(struct store *s, uint32_t queue, struct store_stats *ret);
    /* Finishes what was submitted, then frees. Queues must not be used any more. */
    void (*close)(struct store *s);
};

/* Engines embed this as their first member. */
struct store {
    const struct store_ops *ops;
};

#endif
