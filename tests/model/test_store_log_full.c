/* test_store_log_full: a full disk and a full map under the store with a log, on a tmpfs of this
 * test's own (see test_store_full.c).
 *
 * Here a put is acknowledged before it has its place in the data file. So what was acknowledged
 * must outlast a disk on which it cannot be applied: closing, opening, and the way back once there
 * is room.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <time.h>
#include <unistd.h>

#include "storage/clean_mark.h"
#include "tests/model/fault_store.h"
#include "tests/model/log_shim.h"

#define FS_MIB 160u
#define WAIT_S 30
#define BALLAST_STEP (256u << 10)
#define VALUE_BYTES (32u << 10)
#define DELETED_HLC 100u
#define PASS_KEYS 300u
#define PASS_SLICE 16u
#define PASS_LARGE 500000u /* of the values that find no room */
#define PASS_ROOM (480u << 10)

struct world {
    char dir[64]; /* where the file system is mounted */
    uint64_t map_bytes;
    struct fault_store f;
    uint8_t *value;
    size_t len;
    bool some_large;    /* a few of the second half of the ring have PASS_LARGE bytes */
    uint64_t n_stored;  /* keys 0 .. n_stored - 1 are acknowledged, of len_of bytes */
    uint64_t n_deleted; /* and the first of them deleted again */
    uint64_t fact;      /* the last acknowledged */
};

static bool mount_tmpfs(const char *dir, unsigned mib)
{
    char options[64];

    snprintf(options, sizeof(options), "size=%um,mode=0700", mib);
    return mount("quoit-test", dir, "tmpfs", 0, options) == 0;
}

static bool write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

    if (fd >= 0)
        close(fd);
    return ok;
}

/* A namespace in which this user is root, where the kernel lets anyone have one. */
static bool enter_user_namespace(void)
{
    unsigned uid = geteuid(), gid = getegid();
    char uid_map[32], gid_map[32];

    snprintf(uid_map, sizeof(uid_map), "0 %u 1\n", uid);
    snprintf(gid_map, sizeof(gid_map), "0 %u 1\n", gid);
    return unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 &&
           write_text("/proc/self/setgroups", "deny") &&
           write_text("/proc/self/uid_map", uid_map) && write_text("/proc/self/gid_map", gid_map);
}

/* Makes mounts of this process its own, and finds out whether it may mount at all. */
static bool enter_namespace(void)
{
    if (unshare(CLONE_NEWNS) != 0 && !enter_user_namespace())
        return false;
    return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 && mount_tmpfs("/mnt", 1) &&
           umount("/mnt") == 0;
}

static void start(struct world *w)
{
    char why[STORE_WHY_BYTES];

    if (fault_store_open(&w->f, w->dir, w->map_bytes, false, why) != 0)
        fail_msg("%s", why);
}

static void set_up(struct world *w, uint64_t map_bytes, size_t len)
{
    *w = (struct world){.map_bytes = map_bytes, .len = len, .value = calloc(1, LIMIT_VALUE_BYTES)};
    assert_non_null(w->value);
    rig_dir_make(w->dir);
    if (!mount_tmpfs(w->dir, FS_MIB))
        fail_msg("mount: %s", strerror(errno));
    start(w);
}

static void tear_down(struct world *w)
{
    fault_store_close(&w->f);
    umount(w->dir);
    rmdir(w->dir);
    free(w->value);
}

static void restart(struct world *w)
{
    fault_store_close(&w->f);
    start(w);
}

static struct store_op numbered(uint64_t i, char name[24], uint64_t hlc, struct slice value)
{
    snprintf(name, 24, "%llu", (unsigned long long)i);
    return rig_merge_op(slice_str(name), hlc, value);
}

static size_t len_of(const struct world *w, uint64_t token)
{
    return w->some_large && token > UINT64_MAX / 2 && token % 32 == 0 ? PASS_LARGE : w->len;
}

static int put(struct world *w, uint64_t i, uint64_t hlc, size_t len)
{
    char name[24];
    struct store_op op = numbered(i, name, hlc, slice_of(w->value, len));

    return fault_store_do(&w->f, &op);
}

static int delete (struct world *w, uint64_t i)
{
    char name[24];
    struct store_op op = numbered(i, name, DELETED_HLC, (struct slice){0});

    op.state.deleted = true;
    return fault_store_do(&w->f, &op);
}

static int set_fact(struct world *w)
{
    uint64_t value = w->fact + 1;
    struct store_op op = {.type = STORE_OP_META,
                          .name = slice_str("fact"),
                          .value = slice_of((const uint8_t *)&value, sizeof(value))};
    int r = fault_store_do(&w->f, &op);

    w->fact += r == 0;
    return r;
}

static void put_until_refused(struct world *w)
{
    int r;

    while ((r = put(w, w->n_stored, 1, w->len)) == 0)
        w->n_stored++;
    assert_int_equal(r, -ERR_NO_SPACE);
}

static void delete_one(struct world *w)
{
    assert_int_equal(delete (w, w->n_deleted), 0);
    w->n_deleted++;
}

/* The store finds out by itself that there is room; the disk may need a moment. */
static void put_with_patience(struct world *w)
{
    time_t until = time(NULL) + WAIT_S;
    int r;

    while ((r = put(w, w->n_stored, 1, w->len)) == -ERR_NO_SPACE && time(NULL) < until)
        continue;
    assert_int_equal(r, 0);
    w->n_stored++;
}

static void assert_all_there(struct world *w)
{
    struct store *s = w->f.s;
    struct buf b;

    for (uint64_t i = 0; i < w->n_stored; i++) {
        char name[24];
        struct store_op op = numbered(i, name, 1, (struct slice){0});
        struct state state;
        uint64_t lsn;

        assert_int_equal(s->ops->get(s, 0, op.token, &op.key, &state, &lsn), 0);
        assert_int_equal(state.kind, STATE_LWW);
        assert_int_equal(state.deleted, i < w->n_deleted);
        assert_int_equal(state.value.len, i < w->n_deleted ? 0 : len_of(w, op.token));
        if (i % 64 == 0)
            s->ops->read_end(s, 0);
    }
    s->ops->read_end(s, 0);
    buf_init(&b);
    assert_int_equal(s->ops->meta_get(s, 0, slice_str("fact"), &b), w->fact ? 0 : 1);
    assert_true(!w->fact || memcmp(b.data, &w->fact, sizeof(w->fact)) == 0);
    buf_deinit(&b);
    s->ops->read_end(s, 0);
}

/* Takes so much of the file system, or what is left of it to the last page. */
static void add_ballast(const struct world *w, uint64_t bytes)
{
    char path[128];
    size_t step = BALLAST_STEP;
    int fd;

    snprintf(path, sizeof(path), "%s/ballast", w->dir);
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    assert_true(fd >= 0);
    while (step && bytes) {
        ssize_t n = write(fd, w->value, step < bytes ? step : bytes);

        if (n <= 0)
            step /= 2;
        else
            bytes -= (uint64_t)n;
    }
    close(fd);
}

static void remove_ballast(const struct world *w)
{
    char path[128];

    snprintf(path, sizeof(path), "%s/ballast", w->dir);
    assert_int_equal(unlink(path), 0);
}

static void a_full_disk_takes_deletes_and_facts_and_loses_nothing(void **state)
{
    struct world w;

    set_up(&w, 1ull << 30, VALUE_BYTES);
    add_ballast(&w, 4u << 20); /* so that there is something to remove */
    put_until_refused(&w);
    print_message("# %llu MiB of %u stored before puts were refused\n",
                  (unsigned long long)(w.n_stored * w.len >> 20), FS_MIB);
    assert_true(w.n_stored * w.len > (uint64_t)(FS_MIB << 20) / 4);
    for (unsigned i = 0; i < 100; i++) {
        delete_one(&w);
        assert_int_equal(set_fact(&w), 0);
    }
    add_ballast(&w, UINT64_MAX);
    for (unsigned i = 0; i < 100; i++) { /* the log has made its room before */
        delete_one(&w);
        assert_int_equal(set_fact(&w), 0);
    }
    put_until_refused(&w); /* it has not looked at the disk for a moment */
    assert_all_there(&w);
    restart(&w); /* on a full disk */
    assert_all_there(&w);
    put_until_refused(&w);
    delete_one(&w);
    restart(&w);
    assert_all_there(&w);
    remove_ballast(&w);
    for (uint64_t i = w.n_deleted; i < w.n_stored; i++) /* the file does not shrink */
        delete_one(&w);
    put_with_patience(&w);
    restart(&w);
    assert_all_there(&w);
    tear_down(&w);
}

static void a_full_map_refuses_puts_and_a_wipe_makes_room(void **state)
{
    struct world w;
    struct store_done done;

    set_up(&w, 64ull << 20, 4000);
    put_until_refused(&w);
    print_message("# %llu KiB of a map of 64 MiB stored before puts were refused\n",
                  (unsigned long long)(w.n_stored * w.len >> 10));
    for (unsigned i = 0; i < 100; i++)
        delete_one(&w);
    assert_int_equal(set_fact(&w), 0);
    assert_all_there(&w);
    restart(&w);
    assert_all_there(&w);
    assert_int_equal(w.f.s->ops->wipe(w.f.s, 0, 1, (struct store_range){0, UINT64_MAX}), 0);
    fault_store_reap(&w.f, &done, 1);
    assert_int_equal(done.error, 0);
    w.n_stored = w.n_deleted = 0;
    put_with_patience(&w);
    restart(&w);
    assert_all_there(&w);
    tear_down(&w);
}

static void large_values_are_refused_while_they_still_fit(void **state)
{
    struct world w;

    set_up(&w, 32ull << 20, LIMIT_VALUE_BYTES);
    put_until_refused(&w);
    assert_true(w.n_stored >= 1);
    assert_all_there(&w);
    restart(&w);
    assert_all_there(&w);
    while (w.n_deleted < w.n_stored)
        delete_one(&w);
    w.len = 1000;
    put_with_patience(&w);
    w.len = LIMIT_VALUE_BYTES;
    tear_down(&w);
}

/* Wiped, then written, and the apply in the middle of it; what it has behind it is given back. */
static void pass_set_up(struct world *w)
{
    struct store_item item = {.token = 77,
                              .key = rig_key(slice_str("loaded")),
                              .state = {.kind = STATE_LWW, .version = {.hlc = 1}}};
    struct store_done done;
    struct store *s;

    set_up(w, 1ull << 30, 20);
    w->some_large = true;
    s = w->f.s;
    assert_int_equal(s->ops->wipe(s, 0, 1, (struct store_range){0, UINT64_MAX}), 0);
    fault_store_reap(&w->f, &done, 1);
    for (w->n_stored = 0; w->n_stored < PASS_KEYS; w->n_stored++) {
        char name[24];
        struct store_op op = numbered(w->n_stored, name, 1, (struct slice){0});

        assert_int_equal(put(w, w->n_stored, 1, len_of(w, op.token)), 0);
    }
    log_shim_hold_data_sync(PASS_KEYS / PASS_SLICE / 2);
    assert_int_equal(s->ops->load(s, 0, 7, &item, 1), 0); /* freezes */
    log_shim_wait_held();
    s->ops->read_end(s, 0);
}

/* There is room for what the pass has behind it, once more, but not for the rest: to begin it again
 * would wipe what came after the wipe and has been given back. */
static void a_stop_on_a_full_disk_in_the_middle_of_a_pass_loses_nothing(void **state)
{
    struct fault_engine before = fault_engine;
    struct store_stats stats;
    struct world w;
    char reserve[128], mark[128];

    fault_engine.slice_records = PASS_SLICE;
    pass_set_up(&w);
    assert_all_there(&w);
    snprintf(reserve, sizeof(reserve), "%s/reserve", w.dir);
    assert_int_equal(unlink(reserve), 0); /* as if given up before */
    assert_int_equal(w.f.s->ops->stats(w.f.s, 0, &stats), 0);
    add_ballast(&w, stats.fs_free_bytes - PASS_ROOM);
    log_shim_let_go();
    fault_store_close(&w.f);
    snprintf(mark, sizeof(mark), "%s/" CLEAN_MARK_NAME, w.dir);
    assert_int_equal(access(mark, F_OK), -1); /* there was no room */
    remove_ballast(&w);
    start(&w);
    assert_all_there(&w);
    tear_down(&w);
    fault_engine = before;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_disk_takes_deletes_and_facts_and_loses_nothing),
        cmocka_unit_test(a_full_map_refuses_puts_and_a_wipe_makes_room),
        cmocka_unit_test(large_values_are_refused_while_they_still_fit),
        cmocka_unit_test(a_stop_on_a_full_disk_in_the_middle_of_a_pass_loses_nothing),
    };

    /* Values of 8 MiB must fit a segment. */
    fault_engine = (struct fault_engine){.log = true,
                                         .tables_bytes = 4u << 20,
                                         .segment_bytes = 20u << 20,
                                         .log_bytes_max = 40u << 20};
    if (!enter_namespace()) {
        printf("1..0 # SKIP no right to a mount namespace: %s\n", strerror(errno));
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
