/* store_rig: see store_rig.h. */
#include "tests/model/store_rig.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

bool rig_no_sync;
uint32_t rig_segment_bytes;
uint32_t rig_slice_records;
uint32_t rig_owners;
bool rig_log_beside;

static void on_notify(void *ctx, uint32_t queue)
{
    struct rig *rig = ctx;

    pthread_mutex_lock(&rig->lock);
    rig->n_notified[queue]++;
    pthread_cond_broadcast(&rig->woken);
    pthread_mutex_unlock(&rig->lock);
}

static void on_fatal(void *ctx, const char *sentence)
{
    struct rig *rig = ctx;

    pthread_mutex_lock(&rig->lock);
    snprintf(rig->fatal, sizeof(rig->fatal), "%s", sentence);
    pthread_cond_broadcast(&rig->woken);
    pthread_mutex_unlock(&rig->lock);
}

static void dir_make_in(const char *base, char dir[64])
{
    snprintf(dir, 64, "%.40s/quoit-store-XXXXXX", base && *base ? base : "/tmp");
    if (!mkdtemp(dir))
        fail_msg("mkdtemp %s: %s", dir, strerror(errno));
}

void rig_dir_make(char dir[64])
{
    dir_make_in(getenv("TMPDIR"), dir);
}

void rig_dir_make_in_memory(char dir[64])
{
    dir_make_in(access("/dev/shm", W_OK) == 0 ? "/dev/shm" : getenv("TMPDIR"), dir);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

void rig_dir_remove(const char *dir)
{
    nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

void rig_start(struct rig *rig)
{
    struct store_config config = {.n_workers = RIG_WORKERS,
                                  .n_owners = rig_owners ? rig_owners : 1,
                                  .notify = on_notify,
                                  .fatal = on_fatal,
                                  .ctx = rig};
    struct store_lmdb_options options = {.dir = rig->dir, .map_bytes = rig->map_bytes};
    struct store_log_options with_log = {.log_dir = rig_log_beside ? rig->dir : NULL,
                                         .tables_bytes = rig->tables_bytes,
                                         .segment_bytes = rig_segment_bytes,
                                         .slice_records = rig_slice_records};
    char why[STORE_WHY_BYTES] = "";
    int r;

#ifdef STORE_LMDB_UNSAFE_TEST
    options.no_sync = rig_no_sync;
#endif
    if (rig->engine == RIG_MEM)
        r = store_mem_open(&config, &rig->s);
    else if (rig->engine == RIG_LOG)
        r = store_log_open(&config, (with_log.lmdb = options, &with_log), &rig->s, why);
    else
        r = store_lmdb_open(&config, &options, &rig->s, why);
    if (r != 0)
        fail_msg("open: %s (%s)", err_name(r), why);
}

void rig_open(struct rig *rig, enum rig_engine engine, uint64_t map_bytes)
{
    rig_open_with(rig, engine, map_bytes, 0);
}

void rig_open_with(struct rig *rig, enum rig_engine engine, uint64_t map_bytes,
                   uint64_t tables_bytes)
{
    *rig = (struct rig){.engine = engine, .map_bytes = map_bytes, .tables_bytes = tables_bytes};
    pthread_mutex_init(&rig->lock, NULL);
    pthread_cond_init(&rig->woken, NULL);
    if (engine != RIG_MEM)
        rig_dir_make(rig->dir);
    rig_start(rig);
}

void rig_close(struct rig *rig)
{
    rig->s->ops->close(rig->s);
    if (rig->engine != RIG_MEM)
        rig_dir_remove(rig->dir);
    pthread_cond_destroy(&rig->woken);
    pthread_mutex_destroy(&rig->lock);
}

void rig_reopen(struct rig *rig)
{
    if (rig->engine == RIG_MEM) {
        store_mem_sync(rig->s, UINT64_MAX);
        store_mem_crash(rig->s, UINT64_MAX, RIG_WORKERS);
        return;
    }
    rig_stop(rig);
    rig_start(rig);
}

void rig_stop(struct rig *rig)
{
    rig->s->ops->close(rig->s);
}

void rig_wait_notified(struct rig *rig, uint32_t queue)
{
    struct timespec until;
    int r = 0;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += RIG_WAIT_S;
    pthread_mutex_lock(&rig->lock);
    while (!rig->n_notified[queue] && !rig->fatal[0] && r == 0)
        r = pthread_cond_timedwait(&rig->woken, &rig->lock, &until);
    rig->n_notified[queue] = 0;
    pthread_mutex_unlock(&rig->lock);
    if (r != 0 || rig->fatal[0])
        fail_msg("no outcome: %s", r ? "the store does not answer" : rig->fatal);
}

void rig_reap(struct rig *rig, uint32_t queue, struct store_done *out, size_t n)
{
    size_t got = rig->s->ops->reap(rig->s, queue, out, n);

    while (got < n) {
        if (rig->engine == RIG_MEM)
            store_mem_sync(rig->s, UINT64_MAX);
        rig_wait_notified(rig, queue);
        got += rig->s->ops->reap(rig->s, queue, out + got, n - got);
    }
    for (size_t i = 0; i < n; i++)
        assert_true(out[i].lsn <= rig->s->ops->durable(rig->s));
}

int rig_submit(struct rig *rig, uint32_t queue, const struct store_op *ops, size_t n,
               uint64_t *ret_lsn)
{
    int r;

    while ((r = rig->s->ops->submit(rig->s, queue, ops, n, ret_lsn)) == -ERR_FULL) {
        rig_wait_notified(rig, queue);
        rig->s->ops->reap(rig->s, queue, NULL, 0); /* nothing is outstanding: its chores */
    }
    return r;
}

struct store_scrub rig_scrub(struct rig *rig, uint32_t queue, const struct store_scrub_place *from,
                             size_t bytes_max)
{
    struct store_scrub out;

    assert_int_equal(rig->s->ops->scrub(rig->s, queue, from, bytes_max), 0);
    while (!rig->s->ops->scrubbed(rig->s, queue, &out))
        rig_wait_notified(rig, queue);
    rig->s->ops->read_end(rig->s, queue);
    return out;
}

struct store_done rig_do(struct rig *rig, const struct store_op *op)
{
    struct store_done done;
    uint64_t lsn;

    assert_int_equal(rig_submit(rig, 0, op, 1, &lsn), 0);
    rig_reap(rig, 0, &done, 1);
    assert_int_equal(done.cookie, op->cookie);
    assert_int_equal(done.lsn, lsn);
    return done;
}

uint64_t rig_token(struct slice partition_key)
{
    struct test_random r = {.s = partition_key.len};

    for (size_t i = 0; i < partition_key.len; i++)
        r.s = (r.s ^ partition_key.data[i]) * 0x100000001b3u;
    return test_random_u64(&r);
}

struct key rig_key(struct slice partition_key)
{
    return (struct key){.bucket = BUCKET_DEFAULT, .partition = partition_key};
}

struct store_op rig_merge_op(struct slice partition_key, uint64_t hlc, struct slice value)
{
    return (struct store_op){
        .type = STORE_OP_MERGE,
        .cookie = hlc,
        .token = rig_token(partition_key),
        .key = rig_key(partition_key),
        .state = {.kind = STATE_LWW, .version = {.hlc = hlc, .actor = 7}, .value = value},
    };
}

struct store_done rig_put(struct rig *rig, const char *key, uint64_t hlc, const char *value)
{
    struct store_op op = rig_merge_op(slice_str(key), hlc, slice_str(value));

    return rig_do(rig, &op);
}

struct store_done rig_delete(struct rig *rig, const char *key, uint64_t hlc)
{
    struct store_op op = rig_merge_op(slice_str(key), hlc, (struct slice){0});

    op.state.deleted = true;
    return rig_do(rig, &op);
}

int rig_load(struct rig *rig, const struct store_item *items, size_t n)
{
    struct store_done done;

    assert_int_equal(rig->s->ops->load(rig->s, 0, 99, items, n), 0);
    rig_reap(rig, 0, &done, 1);
    assert_int_equal(done.cookie, 99);
    return done.error;
}

void rig_wipe(struct rig *rig, uint64_t first, uint64_t last)
{
    struct store_done done;

    assert_int_equal(
        rig->s->ops->wipe(rig->s, 0, 98, (struct store_range){.first = first, .last = last}), 0);
    rig_reap(rig, 0, &done, 1);
    assert_int_equal(done.cookie, 98);
    assert_int_equal(done.error, 0);
}

void rig_purge(struct rig *rig, uint64_t first, uint64_t last, uint64_t floor)
{
    struct store_range range = {.first = first, .last = last};
    struct store_done done;

    assert_int_equal(rig->s->ops->purge(rig->s, 0, 97, range, floor), 0);
    rig_reap(rig, 0, &done, 1);
    assert_int_equal(done.cookie, 97);
    assert_int_equal(done.error, 0);
}

struct state rig_get(struct rig *rig, const char *key)
{
    struct key k = rig_key(slice_str(key));
    struct state state;
    uint64_t lsn;

    assert_int_equal(rig->s->ops->get(rig->s, 0, rig_token(k.partition), &k, &state, &lsn), 0);
    assert_true(lsn == 0 || lsn > rig->s->ops->durable(rig->s));
    return state;
}
