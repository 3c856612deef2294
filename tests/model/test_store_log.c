/* test_store_log: what only the store with a log can get wrong, one case at a time: what is not
 * durable is told so, a load beside tables and wipes, frozen tables whose bytes are lent out, facts
 * beside the apply, the upgrade of a plain store.
 *
 * Where the moment matters, log_shim holds a sync until the test lets it go, or a function of the
 * store is wrapped; nothing waits for time to pass.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "storage/bytes.h"
#include "storage/clean_mark.h"
#include "storage/cold.h"
#include "storage/log_group.h"
#include "storage/log_segment.h"
#include "storage/store_lmdb_env.h"
#include "storage/store_log_impl.h"
#include "tests/model/fault_store.h"
#include "tests/model/log_disk.h"

#define TABLES_BYTES (4u << 20)
#define SEGMENT_BYTES (8u << 20) /* for values of some MiB */

static void set_up(struct rig *rig)
{
    rig_open_with(rig, RIG_LOG, RIG_MAP_BYTES, TABLES_BYTES);
}

static struct store_op put_op(const char *key, uint64_t hlc)
{
    struct store_op op = rig_merge_op(slice_str(key), hlc, slice_str("value"));

    return op;
}

static uint64_t submit(struct rig *rig, const struct store_op *op)
{
    uint64_t lsn;

    assert_int_equal(rig_submit(rig, 0, op, 1, &lsn), 0);
    return lsn;
}

static struct store_item item_of(const char *key, uint64_t hlc)
{
    struct store_op op = put_op(key, hlc);

    return (struct store_item){.token = op.token, .key = op.key, .state = op.state};
}

/* What a get says: version (0: absent), and the LSN to wait for. */
static uint64_t get(struct rig *rig, const char *name, uint64_t *ret_lsn)
{
    struct key key = rig_key(slice_str(name));
    struct state state;
    uint64_t lsn;

    assert_int_equal(rig->s->ops->get(rig->s, 0, rig_token(key.partition), &key, &state,
                                      ret_lsn ? ret_lsn : &lsn),
                     0);
    return state.kind == STATE_NONE ? 0 : state.version.hlc;
}

static struct store_page scan_all(struct rig *rig, struct wire_record *items, size_t cap)
{
    struct store_page page = {.items = items, .cap = cap};

    assert_int_equal(rig->s->ops->scan(rig->s, 0, (struct store_range){0, UINT64_MAX},
                                       (struct slice){0}, SIZE_MAX, &page),
                     0);
    return page;
}

/* What the sums reveal: of all by counts, and of one zone by leaves. */
static uint64_t sums_lsn(struct rig *rig, const char *name)
{
    uint64_t token = rig_token(slice_str(name)), leaves[1u << 10], lsn;
    struct store_range zone = {token & ~(UINT64_MAX >> 10), token | UINT64_MAX >> 10};
    struct store_info info;

    assert_int_equal(rig->s->ops->vnode_info(rig->s, 0, (struct store_range){0, UINT64_MAX}, &info),
                     0);
    assert_int_equal(rig->s->ops->leaves(rig->s, 0, zone, leaves, &lsn), 0);
    assert_int_equal(lsn, info.lsn);
    return lsn;
}

/* Puts so much that the active table is frozen, applied and dropped. */
static void freeze_all(struct rig *rig, const char *key, uint64_t hlc)
{
    struct store_item item = item_of(key, hlc);

    /* A load behind a wipe waits until the wipe, and with it the table, is on disk. */
    rig_wipe(rig, 1, 1);
    assert_int_equal(rig_load(rig, &item, 1), 0);
}

/* ---- what is not durable ------------------------------------------------------------------- */

static void what_is_not_durable_is_told(void **state)
{
    struct wire_record items[4];
    struct store_done dones[2];
    struct store_op op = put_op("k", 1);
    struct store_page page;
    struct rig rig;
    uint64_t lsn, told;

    set_up(&rig);
    log_shim_hold_sync();
    lsn = submit(&rig, &op);
    log_shim_wait_held();
    assert_int_equal(get(&rig, "k", &told), 1);
    assert_int_equal(told, lsn);
    page = scan_all(&rig, items, 4);
    assert_int_equal(page.n, 1);
    assert_int_equal(page.lsn, lsn);
    assert_int_equal(sums_lsn(&rig, "k"), lsn);
    assert_int_equal(rig.s->ops->reap(rig.s, 0, dones, 2), 0);
    rig.s->ops->read_end(rig.s, 0);
    log_shim_let_go();
    rig_reap(&rig, 0, dones, 1);
    assert_int_equal(get(&rig, "k", &told), 1);
    assert_int_equal(told, 0);
    page = scan_all(&rig, items, 4);
    assert_int_equal(page.lsn, 0);
    assert_int_equal(sums_lsn(&rig, "k"), 0);
    rig_close(&rig);
}

static unsigned n_steps;

int __real_lmdb_walk_next(struct lmdb_walk *w);
int __wrap_lmdb_walk_next(struct lmdb_walk *w);

/* What the next getrusage adds to the page faults of the owner's thread; what a step adds. */
static long more_faults, faults_of_a_step;

int __wrap_lmdb_walk_next(struct lmdb_walk *w)
{
    n_steps++;
    more_faults += faults_of_a_step;
    return __real_lmdb_walk_next(w);
}

/* Far more is wiped than is left, on disk all of it; what comes after the wipe is seen. */
static void a_scan_goes_around_what_is_wiped(void **state)
{
    struct store_range wiped;
    struct wire_record items[64];
    struct store_item load[512];
    char names[512][8];
    struct store_page page;
    struct rig rig;

    set_up(&rig);
    for (unsigned i = 0; i < ARRAY_LEN(load); i++) {
        snprintf(names[i], sizeof(names[i]), "%03u", i);
        load[i] = item_of(names[i], 1);
        load[i].token = (uint64_t)i << 55;
    }
    wiped = (struct store_range){load[32].token, load[479].token + 5};
    assert_int_equal(rig_load(&rig, load, ARRAY_LEN(load)), 0);
    log_shim_hold_data_sync(0); /* the wipe is not applied */
    rig_wipe(&rig, wiped.first, wiped.last);
    n_steps = 0;
    page = scan_all(&rig, items, ARRAY_LEN(items));
    assert_in_range(n_steps, 60, 64);
    assert_int_equal(page.n, 64);
    assert_false(page.more);
    for (unsigned i = 0; i < 64; i++)
        assert_true(slice_equal(items[i].key.partition, slice_str(names[i < 32 ? i : i + 448])));
    rig.s->ops->read_end(rig.s, 0);
    log_shim_let_go();
    rig_close(&rig);
}

/* That a key is gone can be lost again as well, wherever the key was: in the table, or on disk. */
static void a_wipe_that_is_not_durable_is_told(void **state)
{
    struct wire_record items[4];
    struct store_done done;
    struct rig rig;
    uint64_t told;

    set_up(&rig);
    rig_put(&rig, "disk", 1, "v");
    freeze_all(&rig, "disk", 1);
    rig_put(&rig, "table", 1, "v");
    rig.s->ops->read_end(rig.s, 0);
    log_shim_hold_sync();
    assert_int_equal(rig.s->ops->wipe(rig.s, 0, 7, (struct store_range){0, UINT64_MAX}), 0);
    log_shim_wait_held();
    assert_int_equal(get(&rig, "disk", &told), 0);
    assert_true(told > rig.s->ops->durable(rig.s));
    assert_int_equal(get(&rig, "table", &told), 0);
    assert_true(told > rig.s->ops->durable(rig.s));
    assert_int_equal(scan_all(&rig, items, 4).n, 0);
    assert_int_equal(scan_all(&rig, items, 4).lsn, told);
    assert_int_equal(sums_lsn(&rig, "disk"), told);
    rig.s->ops->read_end(rig.s, 0);
    log_shim_let_go();
    rig_reap(&rig, 0, &done, 1);
    assert_int_equal(done.lsn, told);
    assert_int_equal(get(&rig, "disk", &told), 0);
    assert_int_equal(told, 0);
    rig_close(&rig);
}

/* An outcome that was decided by what is not durable waits for it. */
static void an_outcome_waits_for_what_decided_it(void **state)
{
    struct store_done dones[2];
    struct store_op op = put_op("k", 5), late = put_op("k", 3);
    struct rig rig;

    set_up(&rig);
    log_shim_hold_sync();
    submit(&rig, &op);
    log_shim_wait_held();
    submit(&rig, &late);
    assert_int_equal(rig.s->ops->reap(rig.s, 0, dones, 2), 0);
    log_shim_let_go();
    rig_reap(&rig, 0, dones, 2);
    assert_int_equal(dones[1].outcome, OUTCOME_SUPERSEDED);
    assert_int_equal(dones[1].version.hlc, 5);
    rig_close(&rig);
}

/* ---- loads beside tables and wipes --------------------------------------------------------- */

/* Wiped records are on disk until the apply comes by: a load on its way, which makes reads look at
 * both, must not bring them back. */
static void a_load_does_not_bring_back_what_is_wiped(void **state)
{
    struct store_item item = item_of("other", 1);
    struct wire_record items[4];
    struct store_op late = put_op("k", 3);
    struct store_done dones[2];
    struct rig rig;

    set_up(&rig);
    rig_put(&rig, "k", 5, "v");
    freeze_all(&rig, "k", 5);
    /* Nothing is applied while the log is held. */
    log_shim_hold_sync();
    assert_int_equal(rig.s->ops->wipe(rig.s, 0, 7, (struct store_range){0, UINT64_MAX}), 0);
    log_shim_wait_held();
    submit(&rig, &late);
    assert_int_equal(rig.s->ops->load(rig.s, 0, 8, &item, 1), 0);
    assert_int_equal(get(&rig, "k", NULL), 3);
    assert_int_equal(scan_all(&rig, items, 4).n, 1);
    assert_int_equal(items[0].state.version.hlc, 3);
    rig.s->ops->read_end(rig.s, 0);
    log_shim_let_go();
    rig_reap(&rig, 0, dones, 2);
    assert_int_equal(dones[1].outcome, OUTCOME_STORED);
    rig_reap(&rig, 0, dones, 1);
    assert_int_equal(get(&rig, "k", NULL), 3);
    rig_close(&rig);
}

/* In a load's reap: between looking for loads that are done and the snapshot. */
static struct rig *while_snapshot;

int __real_lmdb_snapshot_next(struct lmdb_env *e, uint32_t queue);
int __wrap_lmdb_snapshot_next(struct lmdb_env *e, uint32_t queue);

static void wait_for_outcome(struct rig *rig)
{
    pthread_mutex_lock(&rig->lock);
    while (!rig->n_notified[0])
        pthread_cond_wait(&rig->woken, &rig->lock);
    rig->n_notified[0] = 0;
    pthread_mutex_unlock(&rig->lock);
}

int __wrap_lmdb_snapshot_next(struct lmdb_env *e, uint32_t queue)
{
    int r = __real_lmdb_snapshot_next(e, queue);
    struct rig *rig = queue == 0 ? while_snapshot : NULL; /* the owner's, not a reader's */

    if (rig) {
        while_snapshot = NULL;
        log_shim_let_go();
        wait_for_outcome(rig);
    }
    return r;
}

/* Reads of a queue see all that the queue has reaped, also when a load comes to its end in the
 * middle of the reap of another. */
static void a_load_that_was_reaped_is_seen(void **state)
{
    struct store_item first = item_of("first", 1), second = item_of("second", 1);
    struct store_done dones[2];
    struct rig rig;
    size_t n;

    set_up(&rig);
    assert_int_equal(get(&rig, "first", NULL), 0); /* a snapshot is open */
    assert_int_equal(rig.s->ops->load(rig.s, 0, 1, &first, 1), 0);
    wait_for_outcome(&rig);
    log_shim_hold_data_sync(0);
    assert_int_equal(rig.s->ops->load(rig.s, 0, 2, &second, 1), 0);
    log_shim_wait_held();
    while_snapshot = &rig;
    n = rig.s->ops->reap(rig.s, 0, dones, 2);
    assert_null(while_snapshot);
    assert_true(n >= 1);
    assert_int_equal(get(&rig, "first", NULL), 1);
    assert_int_equal(get(&rig, "second", NULL), n == 2 ? 1 : 0);
    if (n == 1)
        rig_reap(&rig, 0, dones, 1);
    assert_int_equal(get(&rig, "second", NULL), 1);
    rig_close(&rig);
}

#define LARGE_ITEMS 4000u
#define LARGE_VALUE 2048u

/* LARGE_ITEMS records in key order, twice what the smallest map holds. */
static struct store_item *large_items(char (**ret_names)[8], uint8_t **ret_value)
{
    struct store_item *items = calloc(LARGE_ITEMS, sizeof(*items));

    *ret_names = calloc(LARGE_ITEMS, sizeof(**ret_names));
    *ret_value = calloc(1, LARGE_VALUE);
    assert_true(items && *ret_names && *ret_value);
    for (unsigned i = 0; i < LARGE_ITEMS; i++) {
        snprintf((*ret_names)[i], sizeof((*ret_names)[i]), "%05u", i);
        items[i] = (struct store_item){.token = i,
                                       .key = rig_key(slice_str((*ret_names)[i])),
                                       .state = {.kind = STATE_LWW,
                                                 .version = {.hlc = 1},
                                                 .value = slice_of(*ret_value, LARGE_VALUE)}};
    }
    return items;
}

/* It must not take what is kept for deletes, nor keep the apply from them. */
static void a_load_that_finds_no_room_ends_and_deletes_go_on(void **state)
{
    struct store_item *items;
    char(*names)[8];
    uint8_t *value;
    struct rig rig;

    rig_open_with(&rig, RIG_LOG, STORE_LMDB_MAP_MIN, TABLES_BYTES);
    items = large_items(&names, &value);
    assert_int_equal(rig_load(&rig, items, LARGE_ITEMS), -ERR_NO_SPACE);
    assert_int_equal(rig_delete(&rig, "k", 1).outcome, OUTCOME_STORED);
    rig_wipe(&rig, 0, UINT64_MAX);
    rig_reopen(&rig); /* brings both to disk */
    assert_int_equal(get(&rig, "k", NULL), 0);
    rig.s->ops->read_end(rig.s, 0);
    assert_int_equal(rig_put(&rig, "k", 2, "v").outcome, OUTCOME_STORED);
    rig_close(&rig);
    free(value);
    free(names);
    free(items);
}

static void loads_are_bounded(void **state)
{
    const size_t n = STORE_QUEUE_BYTES_MAX / sizeof(struct commit_item) / 4 * 3;
    struct store_item *items = calloc(n, sizeof(*items));
    struct rig rig;

    assert_non_null(items);
    for (size_t i = 0; i < n; i++)
        items[i] = item_of("k", 1);
    set_up(&rig);
    log_shim_hold_data_sync(0);
    /* Alone one may be larger than the bound; with another it may not. */
    assert_int_equal(rig.s->ops->load(rig.s, 0, 1, items, n), 0);
    assert_int_equal(rig.s->ops->load(rig.s, 0, 2, items, n), -ERR_FULL);
    assert_int_equal(rig.s->ops->load(rig.s, 0, 2, items, n), -ERR_FULL);
    log_shim_let_go();
    rig_close(&rig);
    free(items);
}

/* The wipe's table cannot be frozen before the one that is on its way. */
static void a_load_behind_a_wipe_is_done_when_the_store_is_closed(void **state)
{
    struct store_op big = put_op("big", 1);
    struct store_item item = item_of("k", 1);
    uint8_t *bytes = calloc(1, TABLES_BYTES);
    struct store_done done;
    struct rig rig;

    assert_non_null(bytes);
    set_up(&rig);
    big.state.value = slice_of(bytes, TABLES_BYTES / 8 * 7);
    log_shim_hold_data_sync(0);
    assert_int_equal(rig_do(&rig, &big).error, 0);
    rig.s->ops->reap(rig.s, 0, &done, 1); /* freezes */
    log_shim_wait_held();
    rig_wipe(&rig, 0, UINT64_MAX);
    assert_int_equal(rig.s->ops->load(rig.s, 0, 1, &item, 1), 0);
    log_shim_let_go();
    rig_reopen(&rig);
    assert_int_equal(get(&rig, "k", NULL), 1);
    assert_int_equal(get(&rig, "big", NULL), 0);
    rig_close(&rig);
    free(bytes);
}

/* ---- a clean stop -------------------------------------------------------------------------- */

int __real_log_segment_read(const struct log_segment *s, uint64_t offset, void *bytes, size_t len,
                            char *why);
int __wrap_log_segment_read(const struct log_segment *s, uint64_t offset, void *bytes, size_t len,
                            char *why);

static size_t log_bytes_read;
static bool headers_cannot_be_read; /* alone; with what follows they can */

int __wrap_log_segment_read(const struct log_segment *s, uint64_t offset, void *bytes, size_t len,
                            char *why)
{
    log_bytes_read += len;
    if (headers_cannot_be_read && len == LOG_GROUP_HEADER_BYTES)
        return -ERR_IO;
    return __real_log_segment_read(s, offset, bytes, len, why);
}

static void replace_by_copy(struct rig *rig, const char *suffix)
{
    char command[256];

    rig_dir_remove(rig->dir);
    snprintf(command, sizeof(command), "mv %s%s %s", rig->dir, suffix, rig->dir);
    assert_int_equal(system(command), 0);
}

static void make_copy(struct rig *rig, const char *suffix)
{
    char command[256];

    /* A segment that is being made may get its name under cp's hands. */
    snprintf(command, sizeof(command), "cp -a %s %s%s 2>/dev/null; test -f %s%s/data.mdb", rig->dir,
             rig->dir, suffix, rig->dir, suffix);
    assert_int_equal(system(command), 0);
}

static bool has_clean_mark(const struct rig *rig)
{
    char path[128];

    snprintf(path, sizeof(path), "%s/" CLEAN_MARK_NAME, rig->dir);
    return access(path, F_OK) == 0;
}

/* The log is read only as far as its last group, and what is put afterwards is found as ever. */
static void after_a_clean_stop_the_log_is_not_searched(void **state)
{
    struct rig rig;

    set_up(&rig);
    for (uint64_t hlc = 1; hlc <= 20; hlc++)
        rig_put(&rig, "k", hlc, "value");
    rig.s->ops->read_end(rig.s, 0);
    rig_stop(&rig);
    assert_true(has_clean_mark(&rig));
    log_bytes_read = 0;
    rig_start(&rig);
    assert_false(has_clean_mark(&rig)); /* before anything is put */
    assert_true(log_bytes_read > 0 && log_bytes_read < SEGMENT_BYTES);
    assert_int_equal(get(&rig, "k", NULL), 20);
    rig_put(&rig, "k", 21, "value");
    rig.s->ops->read_end(rig.s, 0);
    make_copy(&rig, ".killed"); /* nothing is on disk but the log */
    log_bytes_read = 0;
    rig_stop(&rig);
    replace_by_copy(&rig, ".killed");
    rig_start(&rig);
    assert_true(log_bytes_read > SEGMENT_BYTES);
    assert_int_equal(get(&rig, "k", NULL), 21);
    rig_close(&rig);
}

/* Where it cannot be told whether the log goes on, it is searched. */
static void a_log_that_cannot_be_read_behind_its_end_is_searched(void **state)
{
    struct rig rig;

    set_up(&rig);
    rig_put(&rig, "k", 1, "value");
    rig.s->ops->read_end(rig.s, 0);
    log_bytes_read = 0;
    headers_cannot_be_read = true;
    rig_reopen(&rig);
    headers_cannot_be_read = false;
    assert_true(log_bytes_read > SEGMENT_BYTES);
    assert_int_equal(get(&rig, "k", NULL), 1);
    rig_close(&rig);
}

static void move(const struct rig *rig, const char *from, const char *to)
{
    char paths[2][128];

    snprintf(paths[0], sizeof(paths[0]), "%s%s", rig->dir, from);
    snprintf(paths[1], sizeof(paths[1]), "%s%s", rig->dir, to);
    assert_int_equal(rename(paths[0], paths[1]), 0);
}

/* As if a version that knows nothing of marks had written to the store in between. */
static void write_behind_a_mark(size_t value_len)
{
    uint8_t *bytes = calloc(1, value_len);
    struct store_op op = put_op("k", 2);
    struct rig rig;

    assert_non_null(bytes);
    op.state.value = slice_of(bytes, value_len);
    set_up(&rig);
    rig_put(&rig, "k", 1, "value");
    rig.s->ops->read_end(rig.s, 0);
    rig_stop(&rig);
    move(&rig, "/" CLEAN_MARK_NAME, ".mark");
    rig_start(&rig);
    assert_int_equal(rig_do(&rig, &op).outcome, OUTCOME_STORED);
    rig.s->ops->read_end(rig.s, 0);
    make_copy(&rig, ".killed");
    rig_stop(&rig);
    replace_by_copy(&rig, ".killed");
    move(&rig, ".mark", "/" CLEAN_MARK_NAME);
    rig_start(&rig);
    assert_int_equal(get(&rig, "k", NULL), 2);
    rig_close(&rig);
    free(bytes);
}

static void a_mark_that_was_left_behind_hides_nothing(void **state)
{
    write_behind_a_mark(100);
    write_behind_a_mark(LOG_GROUP_BYTES_MAX); /* a record that is a group of its own */
    write_behind_a_mark(2 * LOG_GROUP_BYTES_MAX);
}

/* ---- a pass half way ----------------------------------------------------------------------- */

#define HALF_KEYS 400u
#define HALF_SLICE 16u
#define HALF_WIPED (UINT64_MAX / 8) /* last token */

static const char *half_key(unsigned i, char name[16])
{
    snprintf(name, 16, "half-%u", i);
    return name;
}

static bool half_is_wiped(unsigned i)
{
    char name[16];

    return rig_token(slice_str(half_key(i, name))) <= HALF_WIPED;
}

/* A table with a wipe in it; every second of the wiped keys was written again. The apply stands in
 * the middle of it. */
static void half_set_up(struct rig *rig)
{
    struct store_item item = item_of("loaded", 1);
    char name[16];

    rig_slice_records = HALF_SLICE;
    rig_segment_bytes = 128u << 10;
    set_up(rig);
    for (unsigned i = 0; i < HALF_KEYS; i++)
        rig_put(rig, half_key(i, name), 1, "first");
    rig_wipe(rig, 0, HALF_WIPED);
    for (unsigned i = 0; i < HALF_KEYS; i += 2)
        rig_put(rig, half_key(i, name), 2, "second");
    rig->s->ops->read_end(rig->s, 0);
    log_shim_hold_data_sync(HALF_KEYS / HALF_SLICE / 2);
    rig_wipe(rig, UINT64_MAX, UINT64_MAX);
    assert_int_equal(rig->s->ops->load(rig->s, 0, 7, &item, 1), 0); /* freezes */
    log_shim_wait_held();
}

/* Returns how many keys there are. */
static size_t half_check_keys(struct rig *rig)
{
    char name[16];
    size_t n = 0;

    for (unsigned i = 0; i < HALF_KEYS; i++) {
        uint64_t expected = i % 2 == 0 ? 2 : half_is_wiped(i) ? 0 : 1;

        assert_int_equal(get(rig, half_key(i, name), NULL), expected);
        n += expected > 0;
        if (i % 16 == 0)
            rig->s->ops->read_end(rig->s, 0);
    }
    return n;
}

static void half_check(struct rig *rig)
{
    static struct wire_record items[HALF_KEYS + 1];
    struct store_range all = {0, UINT64_MAX};
    struct store_info info;
    size_t n = half_check_keys(rig);

    n += get(rig, "loaded", NULL);
    assert_int_equal(scan_all(rig, items, HALF_KEYS + 1).n, n);
    assert_int_equal(rig->s->ops->vnode_info(rig->s, 0, all, &info), 0);
    assert_int_equal(info.n_records, n);
    rig->s->ops->read_end(rig->s, 0);
}

/* On disk and in tables. */
static uint64_t half_n_records(struct rig *rig)
{
    struct store_stats stats;

    rig->s->ops->read_end(rig->s, 0); /* gives back what it may */
    assert_int_equal(rig->s->ops->stats(rig->s, 0, &stats), 0);
    return stats.n_records;
}

static void half_end(struct rig *rig)
{
    rig_close(rig);
    rig_slice_records = 0;
    rig_segment_bytes = SEGMENT_BYTES;
}

/* What the apply has behind it is read from disk, and takes no memory any more. */
static void a_frozen_table_is_given_back_range_by_range(void **state)
{
    struct store_done done;
    char name[16];
    struct rig rig;

    half_set_up(&rig);
    assert_true(half_n_records(&rig) < HALF_KEYS + HALF_KEYS / 8);
    half_check(&rig);
    for (unsigned i = 0; i < HALF_KEYS; i += 40) /* on both sides of the apply */
        rig_put(&rig, half_key(i, name), 2, "again");
    half_check(&rig);
    log_shim_let_go();
    rig_reap(&rig, 0, &done, 1);
    half_check(&rig);
    half_end(&rig);
}

/* As it stood in the page cache when the process was killed. */
static void a_replay_brings_back_only_what_the_pass_had_before_it(void **state)
{
    struct rig rig;

    half_set_up(&rig);
    make_copy(&rig, ".killed");
    log_shim_let_go();
    rig_stop(&rig);
    replace_by_copy(&rig, ".killed");
    rig_start(&rig);
    assert_true(half_n_records(&rig) < HALF_KEYS + HALF_KEYS / 8);
    half_check(&rig);
    rig_reopen(&rig);
    half_check(&rig);
    half_end(&rig);
}

/* What the pass before the crash had given back does not come again when the next one, which has
 * hardly begun, dies as well. */
static void a_replay_brings_back_nothing_that_any_pass_had_behind_it(void **state)
{
    struct store_item item = item_of("again", 1);
    char name[16];
    struct rig rig;
    uint64_t n;

    half_set_up(&rig);
    for (unsigned i = 1; i < HALF_KEYS; i += 4) /* for the next pass, on both sides of this one */
        rig_put(&rig, half_key(HALF_KEYS + i, name), 1, "more");
    make_copy(&rig, ".killed");
    log_shim_let_go();
    rig_stop(&rig);
    replace_by_copy(&rig, ".killed");
    rig_start(&rig);
    log_shim_hold_data_sync(1);
    rig_wipe(&rig, UINT64_MAX, UINT64_MAX);
    assert_int_equal(rig.s->ops->load(rig.s, 0, 7, &item, 1), 0); /* freezes */
    log_shim_wait_held();
    n = half_n_records(&rig);
    make_copy(&rig, ".killed");
    log_shim_let_go();
    rig_stop(&rig);
    replace_by_copy(&rig, ".killed");
    rig_start(&rig);
    assert_in_range(half_n_records(&rig), HALF_KEYS, n);
    for (unsigned i = 1; i < HALF_KEYS; i += 4)
        assert_int_equal(get(&rig, half_key(HALF_KEYS + i, name), NULL), 1);
    half_check_keys(&rig);
    half_end(&rig);
}

/* Flips a bit of the group with the highest number. */
static void damage_last_group(const struct rig *rig)
{
    char name[LOG_FILE_NAME_BYTES], path[128], last[128] = "";
    uint64_t seq, last_seq = 0;
    off_t at = 0;
    int fd;

    for (uint32_t i = 1;; i++) {
        uint8_t head[LOG_GROUP_HEADER_BYTES];

        log_segment_name(i, name);
        snprintf(path, sizeof(path), "%s/log/%s", rig->dir, name);
        fd = open(path, O_RDONLY);
        if (fd < 0)
            break;
        for (off_t o = 0; pread(fd, head, sizeof(head), o) == sizeof(head); o += LOG_BLOCK_BYTES) {
            if (!log_group_claims(slice_of(head, sizeof(head)), bytes_get_le(head + 16, 8), &seq) ||
                seq <= last_seq)
                continue;
            last_seq = seq;
            at = o;
            memcpy(last, path, sizeof(last));
        }
        close(fd);
    }
    fd = open(last, O_WRONLY);
    assert_true(fd >= 0 && pwrite(fd, "Q", 1, at) == 1);
    close(fd);
}

/* To take it for torn would give its number to what comes, and the next replay would go around
 * that. */
static void a_log_that_ends_before_what_a_pass_has_written_is_refused(void **state)
{
    char why[STORE_WHY_BYTES];
    struct fault_store f;
    struct rig rig;

    half_set_up(&rig);
    make_copy(&rig, ".killed");
    log_shim_let_go();
    rig_stop(&rig);
    replace_by_copy(&rig, ".killed");
    damage_last_group(&rig);
    assert_int_equal(fault_store_open(&f, rig.dir, RIG_MAP_BYTES, false, why), -ERR_CORRUPT);
    assert_non_null(strstr(why, "older copy"));
    sem_destroy(&f.woken);
    rig_dir_remove(rig.dir);
    rig_slice_records = 0;
    rig_segment_bytes = SEGMENT_BYTES;
}

void __real_log_stop(struct log *l);
void __wrap_log_stop(struct log *l);

static bool heal_in_close;

/* When a store is closed: the apply's thread has ended, and what it left is not applied yet. */
void __wrap_log_stop(struct log *l)
{
    if (heal_in_close)
        log_shim_heal();
    __real_log_stop(l);
}

/* The disk is full from here on until the store is closed, or (`heals`) while it is. */
static void stop_on_a_full_disk(struct rig *rig, bool heals)
{
    log_shim_fail(LOG_SHIM_DATA, 1, ENOSPC, true);
    log_shim_let_go();
    heal_in_close = heals;
    rig_stop(rig);
    heal_in_close = false;
    assert_true(log_shim_has_failed());
    log_shim_heal();
}

/* Closing goes on with the pass where it stands: what was written behind a wipe, and given back
 * since, is not wiped again. */
static void a_pass_that_was_cut_off_is_not_begun_again(void **state)
{
    for (int heals = 0; heals < 2; heals++) {
        struct rig rig;

        half_set_up(&rig);
        assert_true(half_n_records(&rig) < HALF_KEYS + HALF_KEYS / 8);
        half_check(&rig);
        stop_on_a_full_disk(&rig, heals);
        assert_int_equal(has_clean_mark(&rig), heals);
        rig_start(&rig);
        half_check(&rig);
        half_end(&rig);
    }
}

#define ONE_RANGE_KEYS 16u

/* All of the table is in the first range, and nothing else is to be done than to end the pass. */
static void a_pass_that_was_cut_off_before_its_end_is_ended(void **state)
{
    uint8_t *bytes = calloc(1, TABLES_BYTES / ONE_RANGE_KEYS);
    struct rig rig;
    char name[16];

    assert_non_null(bytes);
    rig_slice_records = ONE_RANGE_KEYS;
    set_up(&rig);
    log_shim_hold_data_sync(0);
    for (unsigned i = 0; i < ONE_RANGE_KEYS; i++) {
        struct store_op op = put_op(half_key(i, name), 1);

        op.token = UINT64_MAX / TABLE_RANGES; /* its last zone */
        op.state.value = slice_of(bytes, TABLES_BYTES / ONE_RANGE_KEYS / 32 * 29);
        assert_int_equal(rig_do(&rig, &op).error, 0); /* the last one freezes */
    }
    log_shim_wait_held();
    rig.n_notified[0] = 0; /* of puts */
    log_shim_fail(LOG_SHIM_DATA, 1, ENOSPC, true);
    log_shim_let_go();
    wait_for_outcome(&rig); /* the range is on disk */
    assert_int_equal(half_n_records(&rig), ONE_RANGE_KEYS);
    heal_in_close = true;
    rig_stop(&rig);
    heal_in_close = false;
    assert_true(log_shim_has_failed());
    assert_true(has_clean_mark(&rig));
    log_shim_heal();
    rig_start(&rig);
    assert_int_equal(half_n_records(&rig), ONE_RANGE_KEYS);
    half_end(&rig);
    free(bytes);
}

#define HOT_VALUE 16384u
#define HOT_FROZEN (TABLES_BYTES / 64 * 53 / HOT_VALUE) /* nearly freezes a table */
#define HOT_SLICE 16u

/* A put of one partition. */
static struct store_op hot_op(unsigned i, char name[16])
{
    static const uint8_t value[HOT_VALUE];
    struct store_op op = put_op(half_key(i, name), 1);

    op.token = 5;
    op.state.value = slice_of(value, sizeof(value));
    return op;
}

/* However far the apply is: as long as a range is not given back, its memory is none that others
 * may have. */
static void memory_of_a_hot_partition(void **state)
{
    struct store_item item = item_of("loaded", 1);
    struct store_done done;
    struct store_op op;
    struct rig rig;
    unsigned n = 0;
    char name[16];
    uint64_t lsn;

    rig_slice_records = HOT_SLICE;
    set_up(&rig);
    for (; n < HOT_FROZEN; n++) {
        op = hot_op(n, name);
        assert_int_equal(rig_do(&rig, &op).error, 0);
    }
    log_shim_hold_data_sync(HOT_FROZEN / HOT_SLICE - 1);
    rig_wipe(&rig, UINT64_MAX, UINT64_MAX);
    assert_int_equal(rig.s->ops->load(rig.s, 0, 7, &item, 1), 0); /* freezes */
    log_shim_wait_held();
    rig.s->ops->read_end(rig.s, 0);
    while (op = hot_op(n, name), rig.s->ops->submit(rig.s, 0, &op, 1, &lsn) == 0) {
        rig_reap(&rig, 0, &done, 1);
        n++;
    }
    assert_in_range((uint64_t)n * HOT_VALUE, TABLES_BYTES / 64 * 60,
                    TABLES_BYTES + TABLES_BYTES / TABLE_RANGES + HOT_VALUE);
    log_shim_let_go();
    rig_reap(&rig, 0, &done, 1); /* the load */
    assert_int_equal(rig_do(&rig, &op).error, 0);
    half_end(&rig);
}

/* However little the frozen table holds: on a disk that hangs the active one is bounded too. */
static void tables_are_bounded_while_the_disk_hangs(void **state)
{
    struct store_item item = item_of("loaded", 1);
    uint8_t *bytes = calloc(1, TABLES_BYTES);
    struct store_op op = put_op("large", 1);
    struct store_done done;
    struct rig rig;
    size_t taken = 0;
    uint64_t lsn;

    assert_non_null(bytes);
    set_up(&rig);
    rig_put(&rig, "small", 1, "value");
    log_shim_hold_data_sync(0);
    rig_wipe(&rig, 1, 1);
    assert_int_equal(rig.s->ops->load(rig.s, 0, 7, &item, 1), 0); /* freezes */
    log_shim_wait_held();
    op.state.value = slice_of(bytes, TABLES_BYTES / 64);
    while (rig.s->ops->submit(rig.s, 0, &op, 1, &lsn) == 0) {
        assert_true(++taken <= 64);
        rig_reap(&rig, 0, &done, 1);
        op.state.version.hlc++;
    }
    assert_true(taken > 32); /* and is not stopped by a frozen table that is next to nothing */
    log_shim_let_go();
    rig_reap(&rig, 0, &done, 1); /* the load */
    assert_int_equal(rig_do(&rig, &op).error, 0);
    rig_close(&rig);
    free(bytes);
}

/* ---- the hand-over of an applied table ----------------------------------------------------- */

/* Bytes that were lent from a table are good until read_end, though the table was applied and
 * dropped meanwhile; small ones lie in the table, large ones in the caller's blob. */
static void what_a_table_lent_outlives_it(void **state)
{
    struct blob *owner = blob_new(20000);
    struct store_op large;
    struct state small_lent, large_lent;
    struct wire_record items[4];
    struct store_page page;
    struct rig rig;

    assert_non_null(owner);
    memset(owner->data, 'x', owner->len);
    set_up(&rig);
    rig_put(&rig, "small", 1, "lent");
    large = rig_merge_op(slice_str("large"), 1, slice_of(owner->data, owner->len));
    large.owner = owner;
    assert_int_equal(rig_do(&rig, &large).error, 0);
    blob_unref(owner); /* the store's own from here on */
    small_lent = rig_get(&rig, "small");
    large_lent = rig_get(&rig, "large");
    page = scan_all(&rig, items, 4);
    assert_int_equal(page.n, 2);
    freeze_all(&rig, "other", 1); /* in the same wake-up */
    for (uint64_t hlc = 2; hlc < 5; hlc++)
        rig_put(&rig, "small", hlc, "again");
    assert_true(slice_equal(small_lent.value, slice_str("lent")));
    assert_int_equal(large_lent.value.len, 20000);
    for (size_t i = 0; i < large_lent.value.len; i++)
        assert_int_equal(large_lent.value.data[i], 'x');
    for (size_t i = 0; i < page.n; i++)
        assert_true(slice_equal(items[i].key.partition, slice_str("small"))
                        ? slice_equal(items[i].state.value, slice_str("lent"))
                        : slice_equal(items[i].state.value, large_lent.value));
    assert_int_equal(get(&rig, "small", NULL), 4);
    rig.s->ops->read_end(rig.s, 0);
    assert_int_equal(rig_get(&rig, "large").value.len, 20000); /* from disk */
    rig_close(&rig);
}

/* A late put is decided by what is there, wherever it lies. */
static void late_puts_meet_tables_and_disk(void **state)
{
    static const char *const keys[] = {"active", "frozen", "disk"};
    struct rig rig;

    set_up(&rig);
    for (unsigned i = 3; i-- > 0;) {
        rig_put(&rig, keys[i], 10, "v");
        if (i > 0)
            freeze_all(&rig, "other", 1);
    }
    for (unsigned i = 0; i < 3; i++) {
        struct store_done done = rig_put(&rig, keys[i], 9, "late");

        assert_int_equal(done.outcome, OUTCOME_SUPERSEDED);
        assert_int_equal(done.version.hlc, 10);
        assert_int_equal(rig_put(&rig, keys[i], 10, "v").outcome, OUTCOME_DUPLICATE);
        assert_int_equal(rig_delete(&rig, keys[i], 11).outcome, OUTCOME_STORED);
        assert_int_equal(rig_put(&rig, keys[i], 10, "v").outcome, OUTCOME_SUPERSEDED);
    }
    rig_reopen(&rig);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(get(&rig, keys[i], NULL), 11);
    rig_close(&rig);
}

/* The least key there is, and the longest of its kind: in the table, on disk, wiped. */
static void a_key_of_zero_bytes_is_a_key(void **state)
{
    static const uint8_t zero[400];
    struct wire_record items[4];
    struct store_op op;
    struct rig rig;

    set_up(&rig);
    for (size_t len = 1; len <= sizeof(zero); len += 399) {
        op = rig_merge_op(slice_of(zero, len), 1, slice_of(zero, 1));
        op.token = 0;
        assert_int_equal(rig_do(&rig, &op).outcome, OUTCOME_STORED);
    }
    for (unsigned where = 0; where < 3; where++) {
        struct store_page page;
        struct state st;
        uint64_t lsn;

        assert_int_equal(rig.s->ops->get(rig.s, 0, 0, &op.key, &st, &lsn), 0);
        assert_int_equal(st.kind, STATE_LWW);
        page = scan_all(&rig, items, 4);
        assert_true(page.n >= 2);
        assert_int_equal(items[0].key.partition.len, 1);
        assert_true(slice_equal(items[1].key.partition, op.key.partition));
        rig.s->ops->read_end(rig.s, 0);
        if (where == 0)
            freeze_all(&rig, "other", 1);
        else if (where == 1)
            rig_reopen(&rig);
    }
    rig_wipe(&rig, 0, 0);
    assert_int_equal(scan_all(&rig, items, 4).n, 1);
    rig_reopen(&rig);
    assert_int_equal(scan_all(&rig, items, 4).n, 1);
    rig_close(&rig);
}

/* ---- facts beside the apply ---------------------------------------------------------------- */

#define N_FACTS 300u

/* Threads that set facts are slow behind the log's back, so that passes come between. */
static _Thread_local bool slow;

uint64_t __real_log_append(struct log *l, struct log_list *list, uint32_t queue, uint64_t n_ops);
uint64_t __wrap_log_append(struct log *l, struct log_list *list, uint32_t queue, uint64_t n_ops);

uint64_t __wrap_log_append(struct log *l, struct log_list *list, uint32_t queue, uint64_t n_ops)
{
    uint64_t lsn = __real_log_append(l, list, queue, n_ops);

    if (slow)
        usleep(500); /* not waiting for anything: it only makes a rare order of things common */
    return lsn;
}

struct fact_setter {
    struct rig *rig;
    uint32_t queue;
    atomic_bool done;
};

static void *set_facts(void *arg)
{
    struct fact_setter *f = arg;
    char name[16];

    slow = true;
    for (unsigned i = f->queue; i < N_FACTS; i += RIG_WORKERS) {
        struct store_op ops[2] = {
            {.type = STORE_OP_META, .value = slice_str("set")},
            {.type = STORE_OP_CLOCK, .clock = 1000 + i},
        };
        struct store_done dones[2];
        uint64_t lsn;

        snprintf(name, sizeof(name), "fact-%u", i);
        ops[0].name = slice_str(name);
        if (f->rig->s->ops->submit(f->rig->s, f->queue, ops, 2, &lsn) != 0)
            break;
        rig_reap(f->rig, f->queue, dones, 2);
    }
    atomic_store(&f->done, true);
    return NULL;
}

static void assert_facts(struct rig *rig)
{
    char name[16];

    assert_int_equal(rig->s->ops->clock_bound(rig->s), 1000 + N_FACTS - 1);
    for (unsigned i = 1; i < N_FACTS; i++) {
        struct buf b;

        buf_init(&b);
        snprintf(name, sizeof(name), "fact-%u", i);
        if (rig->s->ops->meta_get(rig->s, 0, slice_str(name), &b) != 0)
            fail_msg("%s is not there", name);
        buf_deinit(&b);
        rig->s->ops->read_end(rig->s, 0);
    }
}

/* Facts come from all workers; passes write them and then let the log forget them. */
static void no_fact_is_lost_between_log_and_apply(void **state)
{
    struct fact_setter setters[RIG_WORKERS];
    pthread_t threads[RIG_WORKERS];
    struct rig rig;

    set_up(&rig);
    for (uint32_t i = 0; i < RIG_WORKERS; i++) {
        setters[i] = (struct fact_setter){.rig = &rig, .queue = i + 1};
        assert_int_equal(pthread_create(&threads[i], NULL, set_facts, &setters[i]), 0);
    }
    for (uint64_t hlc = 1; !atomic_load(&setters[0].done) || !atomic_load(&setters[1].done); hlc++)
        freeze_all(&rig, "k", hlc);
    for (uint32_t i = 0; i < RIG_WORKERS; i++)
        pthread_join(threads[i], NULL);
    freeze_all(&rig, "k", 1);
    assert_facts(&rig);
    rig_reopen(&rig);
    assert_facts(&rig);
    rig_close(&rig);
}

/* ---- making, and upgrading a plain store --------------------------------------------------- */

#define N_KEYS 200u

/* The directory of the log is made after STORE was finished, and must outlast a power cut too. */
static void the_entry_of_the_log_is_synced(void **state)
{
    struct log_shim_journal journal = {0};
    unsigned n_syncs = 0;
    size_t last_meta = 0;
    char dir[64], why[STORE_WHY_BYTES];
    struct fault_store f;

    rig_dir_make(dir);
    log_shim_record(&journal, dir);
    assert_int_equal(fault_store_open(&f, dir, FAULT_MAP_BYTES, false, why), 0);
    log_shim_record(NULL, NULL);
    for (size_t i = 0; i < journal.n; i++)
        last_meta = journal.events[i].kind == LOG_SHIM_META ? i : last_meta;
    /* Of STORE as begun and as finished, and of the log, before its id is remembered. */
    for (size_t i = 0; i < last_meta; i++)
        n_syncs += journal.events[i].kind == LOG_SHIM_DIR_SYNC;
    assert_int_equal(n_syncs, 3);
    log_shim_journal_deinit(&journal);
    fault_store_close(&f);
    rig_dir_remove(dir);
}

static void make_plain(const char *dir)
{
    uint8_t bytes[FAULT_VALUE_MAX];
    char name[16], why[STORE_WHY_BYTES];
    struct store_op fact = {
        .type = STORE_OP_META, .name = slice_str("fact"), .value = slice_str("plain")};
    struct fault_store f;

    fault_engine.log = false;
    assert_int_equal(fault_store_open(&f, dir, FAULT_MAP_BYTES, false, why), 0);
    for (unsigned i = 0; i < N_KEYS; i++) {
        struct store_op op = fault_put(i, 1, name, bytes);

        assert_int_equal(fault_store_do(&f, &op), 0);
    }
    assert_int_equal(fault_store_do(&f, &fact), 0);
    fault_store_close(&f);
    fault_engine.log = true;
}

static void assert_upgraded(const char *dir)
{
    char why[STORE_WHY_BYTES], what[128];
    struct fault_store f;
    struct buf b;

    if (fault_store_open(&f, dir, FAULT_MAP_BYTES, false, why) != 0)
        fail_msg("%s", why);
    for (unsigned i = 0; i < N_KEYS; i++)
        if (fault_check(f.s, i, 1, what) != 0)
            fail_msg("%s", what);
    f.s->ops->read_end(f.s, 0);
    if (fault_check_sums(f.s, what) != 0)
        fail_msg("%s", what);
    buf_init(&b);
    assert_int_equal(f.s->ops->meta_get(f.s, 0, slice_str("fact"), &b), 0);
    assert_true(slice_equal(buf_slice(&b), slice_str("plain")));
    buf_deinit(&b);
    f.s->ops->read_end(f.s, 0);
    fault_store_close(&f);
}

static void assert_plain_refused(const char *dir)
{
    char why[STORE_WHY_BYTES];
    struct fault_store f;

    fault_engine.log = false;
    assert_int_equal(fault_store_open(&f, dir, FAULT_MAP_BYTES, false, why), -ERR_FORMAT);
    fault_engine.log = true;
}

static void write_store_file(const char *dir, const char *text)
{
    char path[128];
    FILE *file;

    snprintf(path, sizeof(path), "%s/STORE", dir);
    file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void a_plain_store_is_upgraded_and_then_is_no_plain_store(void **state)
{
    char dir[64];

    rig_dir_make(dir);
    make_plain(dir);
    assert_upgraded(dir);
    assert_plain_refused(dir);
    write_store_file(dir, "quoit store 1\n"); /* the data file knows by itself */
    assert_plain_refused(dir);
    assert_upgraded(dir);
    rig_dir_remove(dir);
}

/* ---- reads that wait for the disk ---------------------------------------------------------- */

int __real_getrusage(int who, struct rusage *ret);
int __wrap_getrusage(int who, struct rusage *ret);

int __wrap_getrusage(int who, struct rusage *ret)
{
    static long faults;
    int r = __real_getrusage(who, ret);

    faults += more_faults;
    more_faults = 0;
    ret->ru_majflt = faults;
    return r;
}

/* One wake-up with so many gets of what is on disk only. */
static void wake_up(struct rig *rig, unsigned n_gets, long faults)
{
    for (unsigned i = 0; i < n_gets; i++)
        assert_int_equal(get(rig, "disk", NULL), 1);
    more_faults += faults;
    rig->s->ops->read_end(rig->s, 0);
}

static enum store_fetch fetch(struct rig *rig, uint64_t cookie, const char *name, uint64_t put_hlc)
{
    struct key key = rig_key(slice_str(name));
    struct version put = {.hlc = put_hlc, .actor = 1};

    return rig->s->ops->fetch(rig->s, 0, cookie, rig_token(key.partition), &key,
                              put_hlc ? &put : NULL);
}

/* Waits until a cookie has come. */
static uint64_t fetched(struct rig *rig)
{
    uint64_t cookies[2];
    size_t n;

    while ((n = rig->s->ops->fetched(rig->s, 0, cookies, 2)) == 0)
        wait_for_outcome(rig);
    assert_int_equal(n, 1);
    return cookies[0];
}

/* A fault may have been made by anything before; the second time it was a read. */
static void make_cold(struct rig *rig)
{
    rig_put(rig, "disk", 1, "v");
    freeze_all(rig, "disk", 1);
    wake_up(rig, 1, 0);
    wake_up(rig, 10, 50);
    assert_int_equal(fetch(rig, 0, "disk", 0), STORE_FETCH_NOW);
    wake_up(rig, 10, 5);
}

static void cold_reads_are_announced(void **state)
{
    struct store_stats stats;
    struct rig rig;

    set_up(&rig);
    make_cold(&rig);
    rig_put(&rig, "table", 5, "v");
    assert_int_equal(fetch(&rig, 2, "disk", 0), STORE_FETCH_LATER);
    assert_int_equal(fetched(&rig), 2);
    assert_int_equal(fetch(&rig, 3, "nowhere", 0), STORE_FETCH_LATER);
    assert_int_equal(fetched(&rig), 3);
    assert_int_equal(fetch(&rig, 4, "table", 0), STORE_FETCH_NOW);  /* not on disk at all */
    assert_int_equal(fetch(&rig, 5, "disk", 1), STORE_FETCH_LATER); /* a late put must look */
    assert_int_equal(fetched(&rig), 5);
    assert_int_equal(fetch(&rig, 6, "disk", UINT64_MAX), STORE_FETCH_NOW);
    assert_int_equal(rig.s->ops->stats(rig.s, 0, &stats), 0);
    assert_int_equal(stats.n_fetched, 3);
    assert_int_equal(fetch(&rig, 7, "disk", 0), STORE_FETCH_LATER); /* the store is closed */
    rig_close(&rig);
}

/* As the data file has them: known from the start on, and again when a pass has written more. */
static void tombstones_are_counted(void **state)
{
    static const bool deleted[][3] = {{false, true, true}, {true, true, true}, {true, false, true}};
    static const unsigned n[] = {2, 3, 2};
    static const char *const keys[] = {"a", "b", "c"};
    struct store_stats stats;
    struct rig rig;

    set_up(&rig);
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < 3; i++) {
            struct store_op op = put_op(keys[i], round + 1);

            op.state.deleted = deleted[round][i];
            op.state.value = op.state.deleted ? (struct slice){0} : slice_str("v");
            assert_int_equal(rig_do(&rig, &op).error, 0);
        }
        rig_reopen(&rig); /* what was in memory is on disk now */
        assert_int_equal(rig.s->ops->stats(rig.s, 0, &stats), 0);
        assert_int_equal(stats.n_tombstones, n[round]);
    }
    rig_close(&rig);
}

static void faults_of_scans_make_nothing_cold(void **state)
{
    struct wire_record items[4];
    struct rig rig;

    set_up(&rig);
    rig_put(&rig, "disk", 1, "v");
    freeze_all(&rig, "disk", 1);
    wake_up(&rig, 1, 0);
    wake_up(&rig, 5, 1); /* from now on each is counted exactly */
    assert_int_equal(get(&rig, "disk", NULL), 1);
    faults_of_a_step = 100;
    assert_int_equal(scan_all(&rig, items, 4).n, 1);
    faults_of_a_step = 0;
    assert_int_equal(more_faults, 0); /* they were looked at */
    rig.s->ops->read_end(rig.s, 0);
    assert_int_equal(fetch(&rig, 1, "disk", 0), STORE_FETCH_NOW);
    wake_up(&rig, 5, 5); /* while those of gets are */
    assert_int_equal(fetch(&rig, 1, "disk", 0), STORE_FETCH_LATER);
    assert_int_equal(fetched(&rig), 1);
    rig_close(&rig);
}

static void announced_reads_are_bounded(void **state)
{
    uint64_t cookies[STORE_FETCH_MAX];
    unsigned n_out = 0, n_back = 0;
    enum store_fetch r;
    struct rig rig;

    set_up(&rig);
    make_cold(&rig);
    for (unsigned i = 0; (r = fetch(&rig, i, "disk", 0)) != STORE_FETCH_FULL; i++)
        n_out += r == STORE_FETCH_LATER; /* the others are tries */
    assert_int_equal(n_out, STORE_FETCH_MAX);
    while (n_back < n_out) {
        size_t n = rig.s->ops->fetched(rig.s, 0, cookies, STORE_FETCH_MAX);

        n_back += (unsigned)n;
        if (n == 0)
            wait_for_outcome(&rig);
    }
    assert_true(fetch(&rig, 1, "disk", 0) != STORE_FETCH_FULL);
    rig_close(&rig);
}

static void reads_are_warm_again_when_nothing_waits(void **state)
{
    struct rig rig;
    unsigned n = 0;

    set_up(&rig);
    make_cold(&rig);
    for (unsigned in_a_row = 0; in_a_row < 2; n++) { /* a try is alone */
        bool now = fetch(&rig, 1, "disk", 0) == STORE_FETCH_NOW;

        assert_true(n <= COLD_TRIES * COLD_TRY_ONE_IN + 2);
        in_a_row = now ? in_a_row + 1 : 0;
        if (!now)
            assert_int_equal(fetched(&rig), 1);
        wake_up(&rig, 1, 0);
    }
    assert_true(n > COLD_TRIES);
    rig_close(&rig);
}

/* The upgrade is cut off at any of its writes; STORE may be the old one until the end. */
static void an_upgrade_that_is_cut_off_is_done_again(void **state)
{
    static const enum log_disk_cut cuts[] = {LOG_DISK_STRICT, LOG_DISK_RANDOM, LOG_DISK_KILLED};
    struct test_random random = {.s = 1};
    struct log_shim_journal journal = {0};
    struct log_disk disk;
    char dir[64];

    fault_engine.log_beside = true;
    rig_dir_make(dir);
    make_plain(dir);
    log_disk_load(&disk, dir);
    disk.journal = &journal;
    log_shim_record(&journal, dir);
    assert_upgraded(dir);
    log_shim_record(NULL, NULL);
    assert_true(journal.n > 10);
    for (size_t at = 0; at < journal.n; at++) {
        log_disk_event(&disk, at);
        if (test_random_below(&random, 4) != 0)
            continue;
        log_disk_save(&disk, dir, cuts[test_random_below(&random, ARRAY_LEN(cuts))], 0, &random);
        write_store_file(dir, "quoit store 1\n");
        assert_upgraded(dir);
    }
    log_disk_deinit(&disk);
    log_shim_journal_deinit(&journal);
    rig_dir_remove(dir);
    fault_engine.log_beside = false;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_durable_is_told),
        cmocka_unit_test(a_wipe_that_is_not_durable_is_told),
        cmocka_unit_test(a_scan_goes_around_what_is_wiped),
        cmocka_unit_test(an_outcome_waits_for_what_decided_it),
        cmocka_unit_test(a_load_does_not_bring_back_what_is_wiped),
        cmocka_unit_test(a_load_that_was_reaped_is_seen),
        cmocka_unit_test(a_load_that_finds_no_room_ends_and_deletes_go_on),
        cmocka_unit_test(loads_are_bounded),
        cmocka_unit_test(a_load_behind_a_wipe_is_done_when_the_store_is_closed),
        cmocka_unit_test(a_frozen_table_is_given_back_range_by_range),
        cmocka_unit_test(a_replay_brings_back_only_what_the_pass_had_before_it),
        cmocka_unit_test(a_replay_brings_back_nothing_that_any_pass_had_behind_it),
        cmocka_unit_test(a_log_that_ends_before_what_a_pass_has_written_is_refused),
        cmocka_unit_test(a_pass_that_was_cut_off_is_not_begun_again),
        cmocka_unit_test(a_pass_that_was_cut_off_before_its_end_is_ended),
        cmocka_unit_test(memory_of_a_hot_partition),
        cmocka_unit_test(tables_are_bounded_while_the_disk_hangs),
        cmocka_unit_test(after_a_clean_stop_the_log_is_not_searched),
        cmocka_unit_test(a_log_that_cannot_be_read_behind_its_end_is_searched),
        cmocka_unit_test(a_mark_that_was_left_behind_hides_nothing),
        cmocka_unit_test(what_a_table_lent_outlives_it),
        cmocka_unit_test(late_puts_meet_tables_and_disk),
        cmocka_unit_test(a_key_of_zero_bytes_is_a_key),
        cmocka_unit_test(no_fact_is_lost_between_log_and_apply),
        cmocka_unit_test(the_entry_of_the_log_is_synced),
        cmocka_unit_test(a_plain_store_is_upgraded_and_then_is_no_plain_store),
        cmocka_unit_test(tombstones_are_counted),
        cmocka_unit_test(cold_reads_are_announced),
        cmocka_unit_test(announced_reads_are_bounded),
        cmocka_unit_test(faults_of_scans_make_nothing_cold),
        cmocka_unit_test(reads_are_warm_again_when_nothing_waits),
        cmocka_unit_test(an_upgrade_that_is_cut_off_is_done_again),
    };

    /* Syncs are waited for or counted here, not needed. */
    if (access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 1);
    fault_engine.log = true;
    fault_engine.few_zones = true;
    rig_segment_bytes = SEGMENT_BYTES;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
