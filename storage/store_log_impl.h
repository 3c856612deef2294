/* store_log_impl: what the files of the store with a log share.
 *
 *   store_log.c          open, close, stats, the table of functions
 *   store_log_submit.c   submit, reap, wipe, load; freezing and dropping tables (owner's thread)
 *   store_log_read.c     get, scan, sums (owner's thread)
 *   store_log_cold.c     reads that would wait for the disk
 *   store_log_facts.c    small facts and the clock bound (any thread)
 *   store_log_apply.c    the apply thread: tables and loads into LMDB
 *   store_log_slice.c    one transaction of it
 *   store_log_purge.c   tombstones below a floor: asking, when it may be done, telling
 *   store_log_scrub.c    the scrub thread: records on disk against their summaries
 *   store_log_recover.c  what the log of the last process holds
 *
 * A *part* is what one worker owns: its tables. The queue of the worker is its only writer and
 * reader, but for a frozen table, which nobody writes and the apply reads as well.
 */
#ifndef QUOIT_STORAGE_STORE_LOG_IMPL_H
#define QUOIT_STORAGE_STORE_LOG_IMPL_H

#include <pthread.h>

#include "storage/cold.h"
#include "storage/log.h"
#include "storage/log_record.h"
#include "storage/memtable.h"
#include "storage/pass_place.h"
#include "storage/reader_pool.h"
#include "storage/space.h"
#include "storage/store_lmdb_env.h"
#include "storage/store_log.h"
#include "storage/zone.h"

#define META_NAME_LOG_ID "s:log"
#define META_NAME_APPLIED "s:applied"
#define META_NAME_PLACE "s:place"

/* The zone's summary was damaged when the store was opened. */
#define WIPE_UNKNOWN UINT64_MAX

/* "No record": above every LSN. */
#define LSN_NONE UINT64_MAX

/* Before the first time that a thread's page faults were counted. */
#define FAULTS_UNKNOWN UINT64_MAX

/* Wipes that one table remembers; then it is frozen first. */
#define TABLE_WIPES_MAX 4096u
/* A table is cut into so many ranges of tokens, whose memory is given back one by one. A multiple
 * of zones each. */
#define TABLE_RANGE_BITS 4u
#define TABLE_RANGES (1u << TABLE_RANGE_BITS)
#define TABLE_RANGE_ZONES (ZONES / TABLE_RANGES)
/* Of the budget: what the active table may take at once while the frozen one is as large as it
 * gets. The rest is for the frozen one at first, and range by range for the active one. */
#define TABLE_FREE_PART 8u
#define PROGRESS_WHOLE 1024u
/* Names of facts: some per node, never per key. */
#define FACTS_MAX 4096u

/* A wiped range within one zone: entries of this table that are older are as good as gone. */
struct table_wipe {
    struct store_range range;
    uint64_t lsn;
    uint64_t number; /* of the wipe: zones remember the highest that is done */
    bool done; /* on disk as well (only after a restart): what is not here is looked up there */
};

struct table {
    struct table *next; /* retired: the one before */
    /* By token; NULL: given back. A frozen table's are looked at by the apply as well, but only
     * from where it stands. */
    struct memtable *ranges[TABLE_RANGES];
    uint32_t
        n_given_back;    /* the owner's: ranges below are on disk, and nobody asks for them here */
    size_t n_bytes;      /* of memory, without what was given back */
    size_t frozen_bytes; /* when it was frozen */
    struct table_wipe *wipes; /* in the order of their LSNs */
    size_t n_wipes, cap_wipes;
    uint64_t lsn_last;
    uint64_t disk_bytes; /* what its entries may take on disk */
};

/* A walk over a table in key order; entry NULL: past the end. */
struct table_iter {
    const struct memtable_entry *entry;
    const struct table *table;
    uint32_t range;
    struct memtable_iter it;
};

/* Work for the apply that does not go through the log: sorted items, or nothing but an outcome. */
struct load {
    struct load *next;
    uint32_t queue;
    struct commit_batch *batch; /* its items: owned */
    size_t next_item;
    uint64_t after_lsn; /* wipes up to here must be on disk first */
    int error;
};

enum purge_state {
    PURGE_FREE,
    PURGE_ASKED, /* the apply has it */
    PURGE_DONE   /* to be reaped */
};

/* Where a purge stands. */
struct purge_place {
    uint32_t zone;
    struct lmdb_purge walk; /* of the zone */
};

/* A purge that a queue has asked for. */
struct purge {
    _Atomic uint32_t state; /* enum purge_state: whose the rest is */
    uint64_t cookie;
    struct store_range range;
    uint64_t floor;
    int error;
    struct purge_place at;
};

struct part {
    /* the owner's thread only */
    struct table *active, *frozen; /* frozen may be NULL */
    struct table *retired;         /* on disk, but their bytes may be lent out: a list */
    uint64_t loaded_lsn;           /* entries up to here may be older than what a load brought */
    uint32_t n_loading;
    bool read; /* slices may be lent out */
    /* Of this wake-up: looks into the data file, and those among them that were tried although it
     * is cold. */
    uint32_t n_disk_reads, n_tried;
    uint64_t n_faults; /* of the thread, when they were counted last */
    uint32_t watched;  /* wake-ups to come whose faults are counted from their first read on */
    struct cold cold;
    uint32_t n_fetching;
    /* Outcomes in the order of their LSNs, a ring; and what each holds of the queue's bytes. */
    struct store_done *dones;
    size_t *done_bytes;
    size_t cap_dones, dones_at, n_dones;
    size_t bytes_out;             /* loads included */
    struct memtable_entry **made; /* scratch of a submit */
    /* shared */
    _Atomic uint64_t active_first, frozen_first; /* bounds below the first LSN not applied */
    _Atomic uint64_t active_last;                /* of the newest entry: is it idle? */
    _Atomic uint64_t bytes;                      /* that the tables may need on disk */
    _Atomic uint32_t progress;                   /* 0 .. PROGRESS_WHOLE: as pass_progress */
    _Atomic uint32_t n_ranges_applied;  /* of the frozen table: on disk, may be given back */
    atomic_bool applied;                /* the frozen table is on disk: may be dropped */
    atomic_bool wants_freeze;           /* asked for by the apply */
    atomic_bool held_up;                /* was refused as FULL: to be notified */
    pthread_mutex_t lock;               /* of loaded, and of zone_raised of its zones */
    struct load *loaded, **loaded_tail; /* done, to be reaped */
    atomic_bool has_loaded;
    atomic_bool has_raised; /* zone_raised says something new of its zones; under lock */
    /* What the log holds up to this LSN may be older than what is on disk, and must not be seen
     * there again: no tombstone goes before that is settled. LSN_NONE: a load is under way. */
    _Atomic uint64_t unsettled;
    struct purge purge;
} __attribute__((aligned(64)));

struct fact_value {
    struct fact_value *next;
    uint64_t lsn;
    struct blob *bytes;
};

struct fact {
    uint8_t name[META_NAME_BYTES_MAX];
    size_t name_len;
    struct fact_value *value; /* the newest that is durable, then those that are not; by LSN */
    bool dirty;               /* there is one that is not on disk */
};

struct facts {
    pthread_mutex_t lock;
    struct fact *fact; /* [n], in no order */
    size_t n, cap;
    _Atomic uint64_t first; /* like a part's active_first */
};

/* How far a pass is: after each transaction of it, what is on disk. */
struct pass {
    struct table **tables; /* [n_parts], NULL where there is none */
    uint32_t zone;
    size_t wipe;                        /* next one of the zone's table */
    uint8_t after[STORE_KEY_BYTES_MAX]; /* entries of the zone up to this key are applied */
    size_t after_len;
    struct {
        uint64_t bytes, n_entries;
    } ranges[TABLE_RANGES];             /* of all tables together, as frozen */
    uint64_t n_applied;                 /* entries of the range where it stands */
    uint64_t seq_of[LIMIT_WORKERS_MAX]; /* of each owner's table: the log's last group for it */
    struct pass_place place;            /* of all passes: kept from one to the next */
    bool finished;                      /* tables, facts and applied_seq are on disk */
    uint64_t durable;                   /* finished: as of the last transaction */
    uint64_t seq;                       /* the log is applied up to here */
};

struct apply {
    pthread_t thread;
    bool started;
    pthread_mutex_t lock;
    pthread_cond_t more;
    /* under lock */
    struct table **frozen; /* [n_parts]: handed over, not taken yet */
    struct load *loads, **loads_tail;
    struct load *loading; /* the one at hand; the thread's own */
    bool loaded_last;     /* its last work was a slice of a load */
    bool purged_last;     /* or of a purge */
    uint32_t purge_queue; /* whose purge comes next */
    uint64_t purge_ms;    /* not before */
    bool stopping, kicked;
    uint32_t remake;           /* a zone whose summary is to be made anew, or ZONES */
    _Atomic uint64_t wait_lsn; /* to be woken when this is durable */
    /* the thread's own */
    struct table **taken;      /* [n_parts]: of the pass */
    struct pass pass;          /* the one at hand */
    bool passing;              /* there is one */
    uint64_t *lsn_applied;     /* [n_parts]: of the last table that is on disk */
    uint64_t *lsn_seen;        /* [n_parts]: active_last at the last tick */
    uint32_t *ticks_unchanged; /* [n_parts] */
    uint32_t facts_ticks;
    uint64_t seq_applied; /* as the last pass left it on disk */
    struct zone *zone;    /* scratch */
};

enum scrub_state {
    SCRUB_IDLE,
    SCRUB_ASKED, /* the thread has it */
    SCRUB_DONE   /* to be taken by `scrubbed` */
};

struct scrubber {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t more;
    /* under lock */
    bool started, stopping;
    enum scrub_state state;
    uint32_t queue; /* that has asked */
    struct store_scrub_place from;
    size_t bytes_max;
    bool remaking; /* the apply has not answered yet */
    int remake_error;
    struct store_scrub out; /* DONE; before that the thread's own */
    /* the thread's own */
    struct zone told;
};

struct store_log {
    struct store store;
    struct store_config config;
    struct lmdb_env env;
    struct log *log;
    struct space space;
    struct facts facts;
    struct apply apply;
    struct scrubber scrubber;
    struct reader_pool pool;
    struct part *parts; /* [n_parts], one per queue */
    uint32_t n_parts, n_owners;
    struct version *zone_max;    /* [ZONES]: each its owner's; never falls */
    struct version *zone_raised; /* [ZONES]: zone_max is to be as high; under their part's lock */
    uint64_t *zone_wiped;        /* [ZONES]: the apply's, as in the summaries; WIPE_UNKNOWN */
    _Atomic uint64_t *zone_tombstones; /* [ZONES], any thread: deleted records in the data file */
    _Atomic uint64_t wipe_number;      /* last one given out */
    bool log_bytes_fixed;
    uint64_t tables_bytes;           /* as asked for; 0: by the size of the data */
    _Atomic uint64_t part_bytes_max; /* of one part's tables */
    _Atomic uint64_t log_bytes_max;  /* beyond three quarters of it tables go to disk early */
    size_t slice_records;
    uint64_t log_id, applied_seq; /* as found */
    char *dir;
    atomic_bool failed;
    _Atomic uint64_t n_ops, n_fetched, n_purged;
};

static inline struct store_log *log_of(struct store *s)
{
    return (struct store_log *)s;
}

/* The part that owns a token. */
static inline uint32_t part_of(const struct store_log *s, uint64_t token)
{
    return token_worker(token, s->n_owners);
}

/* ---- store_log.c */
/* Any thread; once: SUSPECT mark, config.fatal. */
void store_log_fail(struct store_log *s, const char *sentence);
/* How much memory and log the data deserve: at the beginning, and as it grows. */
void store_log_resize(struct store_log *s);

/* ---- tables: store_log_table.c */
struct table *table_new(void); /* or NULL */
void table_free(struct table *t);
/* What a record may take on disk: pages that are not full, or pages of its own. */
uint64_t table_disk_bytes(size_t key_len, size_t value_len);
bool table_is_empty(const struct table *t);
size_t table_count(const struct table *t);
/* For n[i] puts with bytes[i] of keys and values into range i. 0, -ERR_NO_MEMORY. */
struct table_need {
    size_t n[TABLE_RANGES], bytes[TABLE_RANGES];
};
void table_need_add(struct table_need *need, uint64_t token, size_t bytes);
int table_reserve(struct table *t, const struct table_need *need);
/* Within what was reserved: as memtable_put. */
const struct memtable_entry *table_put(struct table *t, struct slice store_key,
                                       const struct state *state, uint64_t lsn, struct blob *owner);
/* As memtable_put_newer: wipes are not looked at. */
bool table_put_newer(struct table *t, struct slice store_key, const struct state *state,
                     uint64_t lsn);
const struct memtable_entry *table_get(const struct table *t, struct slice store_key);
void table_seek(const struct table *t, struct slice from, struct table_iter *ret);
void table_next(struct table_iter *it);
/* Owner, of a frozen table, while none of its bytes are lent out: ranges below n are on disk, and
 * so are the wipes there. */
void table_give_back(struct table *t, uint32_t n);
/* Owner: the token's range was given back, entries and wipes: look behind the table. */
static inline bool table_is_behind(const struct table *t, uint64_t token)
{
    return token >> (64 - TABLE_RANGE_BITS) < t->n_given_back;
}
/* Entries of the token up to this LSN are wiped; 0: none. *ret_done: what is not in this table may
 * be looked up behind it. */
uint64_t table_wiped(const struct table *t, uint64_t token, bool *ret_done);
/* The last token up to which all from this one on are covered by a wipe that is not on disk yet;
 * the token itself if it is not. */
uint64_t table_wiped_until(const struct table *t, uint64_t token);
/* 1: *ret is its entry. 0: not here, look further. 2: wiped here, there is nothing behind. */
int table_find(const struct table *t, uint64_t token, struct slice store_key,
               const struct memtable_entry **ret);
/* Splits the range by zones. -ERR_NO_MEMORY: nothing added. */
int table_wipe(struct table *t, struct store_range range, uint64_t lsn, uint64_t number, bool done);

/* ---- store_log_submit.c */
int store_log_submit(struct store *store, uint32_t queue, const struct store_op *ops, size_t n,
                     uint64_t *ret_lsn);
size_t store_log_reap(struct store *store, uint32_t queue, struct store_done *out, size_t max);
int store_log_load(struct store *store, uint32_t queue, uint64_t cookie,
                   const struct store_item *items, size_t n);
int store_log_wipe(struct store *store, uint32_t queue, uint64_t cookie, struct store_range range);
/* Owner: drops what is applied, freezes what should be. */
void part_chores(struct store_log *s, uint32_t queue);
void part_free_retired(struct part *p);

/* ---- store_log_read.c */
/* From now on slices may be lent out: no table is dropped before part_end. */
void part_begin(struct store_log *s, uint32_t queue);
void part_end(struct store_log *s, uint32_t queue);
/* The merged state of a key as its owner sees it. *ret_lsn: of the entry, 0 if from disk. If what
 * is on disk is damaged and counts, -ERR_CORRUPT, and *ret is what the tables know. */
int part_find(struct store_log *s, uint32_t queue, uint64_t token, struct slice store_key,
              struct state *ret, uint64_t *ret_lsn);
/* Whether a read of the key looks into the data file. */
bool part_needs_disk(struct store_log *s, uint32_t queue, uint64_t token, struct slice store_key);
int store_log_get(struct store *store, uint32_t queue, uint64_t token, const struct key *key,
                  struct state *ret, uint64_t *ret_lsn);
int store_log_scan(struct store *store, uint32_t queue, struct store_range range,
                   struct slice cursor, size_t bytes_max, struct store_page *page);
void store_log_read_end(struct store *store, uint32_t queue);
int store_log_vnode_info(struct store *store, uint32_t queue, struct store_range range,
                         struct store_info *ret);
int store_log_meta_get(struct store *store, uint32_t queue, struct slice name, struct buf *out);
int store_log_leaves(struct store *store, uint32_t queue, struct store_range range, uint64_t *ret,
                     uint64_t *ret_lsn);

/* ---- store_log_cold.c */
int store_log_cold_init(struct store_log *s); /* undone by reader_pool_deinit */
/* Before a get, or the look of a merge, that goes to the data file. */
void part_count_read(struct part *p);
/* At the end of a wake-up, or of a submit outside of one: did its reads wait for the disk? */
void part_note_reads(struct part *p);
/* Around reads whose faults are not to be counted. */
uint64_t part_faults_begin(void);
void part_faults_end(struct part *p, uint64_t begin);
enum store_fetch store_log_fetch(struct store *store, uint32_t queue, uint64_t cookie,
                                 uint64_t token, const struct key *key, const struct version *put);
size_t store_log_fetched(struct store *store, uint32_t queue, uint64_t *cookies, size_t max);

/* ---- store_log_facts.c */
int facts_init(struct facts *f);
void facts_deinit(struct facts *f);
/* A fact's or the clock's name as it is in the meta database. */
struct slice facts_name(const struct store_op *op, uint8_t out[META_NAME_BYTES_MAX]);
/* Before facts_append: the value, and a place for it. 0, -ERR_NO_MEMORY. */
int facts_prepare(struct store_log *s, const struct store_op *op, struct fact_value **ret);
/* log_append, and sets the facts among the operations: values[i] of ops[i], which it takes, or
 * NULL. */
uint64_t facts_append(struct store_log *s, struct log_list *list, uint32_t queue,
                      const struct store_op *ops, size_t n, struct fact_value **values);
void fact_value_free(struct fact_value *v);
/* As found in the log: durable. */
int facts_replay(struct store_log *s, struct slice name, struct slice value, uint64_t lsn);
/* Appends what is known in memory to be durable: 0; 1: not known here, look on disk. */
int facts_get(struct store_log *s, struct slice name, struct buf *out);
uint64_t store_log_clock_bound(struct store *store);
/* In the apply's transaction: all that are durable up to there and not on disk. rc. */
int facts_write(struct store_log *s, struct lmdb_txn *t, uint64_t durable);
/* A bound below the first LSN that facts_write did not write. */
uint64_t facts_first_after(struct store_log *s, uint64_t durable);
/* That transaction is on disk. */
void facts_written(struct store_log *s, uint64_t durable);

/* ---- store_log_apply.c */
/* Most records of one transaction. */
#define SLICE_RECORDS_MAX 20000u
int apply_init(struct store_log *s);
void apply_deinit(struct store_log *s);
int apply_start(struct store_log *s);
/* Queues must not be used any more: what is in tables and log goes to disk. */
void apply_stop(struct store_log *s);
/* Wakes the thread. */
void apply_kick(struct store_log *s);
/* The log has come so far. */
void apply_durable(struct store_log *s, uint64_t lsn);
/* Who closes the store, when the threads have ended: all that is left, tables, then loads. 0;
 * COMMIT_FULL: there is no room; negative: the store has failed. */
int apply_rest(struct store_log *s);
/* Owner: hands the part's frozen table over. */
void apply_give(struct store_log *s, uint32_t queue, struct table *frozen);
void apply_give_load(struct store_log *s, struct load *load);
/* Makes a zone's summary anew; scrubber_remade tells when. One at a time. */
void apply_give_remake(struct store_log *s, uint32_t zone);
/* What a disk without room, or none at all, makes of a transaction: COMMIT_OK, COMMIT_FULL,
 * COMMIT_NO_MEMORY; negative: the store has failed. Apply thread. */
typedef int slice_fn(struct store_log *s, void *what, size_t records_max,
                     char why[COMMIT_WHY_BYTES]);
int apply_try_slice(struct store_log *s, slice_fn *slice, void *what, size_t records_max);
/* Milliseconds that only grow. */
uint64_t apply_now_ms(void);
/* To queues that were refused as FULL. Any thread. */
void notify_held_up(struct store_log *s);

/* ---- store_log_slice.c: transactions of the apply. All return enum commit_result, or negative
 * with why: the store is beyond repair. */

/* One synced transaction from where the pass is. */
int slice_apply(struct store_log *s, struct pass *pass, size_t records_max,
                char why[COMMIT_WHY_BYTES]);
/* One transaction of a load. */
int slice_load(struct store_log *s, struct load *load, size_t records_max,
               char why[COMMIT_WHY_BYTES]);
/* One transaction of a purge, which does not begin with a zone that is not settled. */
int slice_purge(struct store_log *s, struct purge *purge, size_t records_max,
                char why[COMMIT_WHY_BYTES]);
/* A zone's summary anew from the records. *ret_error -ERR_CORRUPT: they cannot be walked, and
 * nothing is changed. */
int slice_remake(struct store_log *s, uint32_t number, int *ret_error, char why[COMMIT_WHY_BYTES]);
/* All zones anew from the records, and the format: for a store that had no log. */
int slice_make_zones(struct store_log *s, char why[COMMIT_WHY_BYTES]);

/* ---- store_log_purge.c */
int store_log_purge(struct store *store, uint32_t queue, uint64_t cookie, struct store_range range,
                    uint64_t floor);
/* Owner: the outcome, if there is one and max allows. */
size_t part_reap_purge(struct store_log *s, uint32_t queue, struct store_done *out, size_t max);
/* Owner: an outcome waits for the end of what is lent out. */
bool part_has_purged(const struct part *p);
/* May tombstones of the zone go from disk? *ret_seq: then what its records stand in, up to
 * this group of the log, is on disk, and the transaction must say so; 0: that need not be said. */
bool purge_is_settled(struct store_log *s, uint32_t zone, uint64_t *ret_seq);
/* Apply, at each tick: owners are asked for what a purge waits for. */
void purge_ask_owners(struct store_log *s);
/* Apply: whether there is a slice to be made now; else *ret_wait_ms, if there will be one sooner
 * than that, is lowered. */
bool purge_is_due(struct store_log *s, uint64_t *ret_wait_ms);
/* Apply: one slice. Negative: the store has failed. */
int purge_run(struct store_log *s);

/* ---- store_log_scrub.c */
void scrubber_init(struct store_log *s);
/* Before the apply ends. */
void scrubber_stop(struct store_log *s);
void scrubber_deinit(struct store_log *s);
/* The apply's answer. */
void scrubber_remade(struct store_log *s, int error);
int store_log_scrub(struct store *store, uint32_t queue, const struct store_scrub_place *from,
                    size_t bytes_max);
bool store_log_scrubbed(struct store *store, uint32_t queue, struct store_scrub *ret);

/* ---- store_log_recover.c */
/* Opens the log and fills the tables. Single thread. */
int store_log_recover(struct store_log *s, const struct log_options *log, char *why);

#endif
