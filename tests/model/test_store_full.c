/* test_store_full: a full disk and a full map, on a tmpfs of this test's own.
 *
 * The file system is mounted in a private mount namespace, so it goes away with the process and
 * nobody else sees it. Without the right to do so the test is skipped.
 *
 *   test_store_full [MIB]      size of the file system; 512, or 128 under QUOIT_TEST_QUICK
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "storage/suspect.h"
#include "tests/model/disk_shim.h"
#include "tests/model/fault_store.h"

#define VALUE_BYTES (64u << 10)
#define FS_MIB 512u
#define FS_MIB_QUICK 128u
#define WAIT_S 30
#define BALLAST_STEP (256u << 10)

static unsigned fs_mib;

struct world {
    char dir[64]; /* where the file system is mounted */
    struct fault_store f;
    uint8_t *value;
    uint64_t n_stored; /* keys 0 .. n_stored - 1 are acknowledged */
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

static void start(struct world *w, uint64_t map_bytes)
{
    char why[STORE_WHY_BYTES];

    if (fault_store_open(&w->f, w->dir, map_bytes, false, why) != 0)
        fail_msg("%s", why);
}

static void set_up(struct world *w, unsigned mib, uint64_t map_bytes)
{
    *w = (struct world){.value = calloc(1, LIMIT_VALUE_BYTES)};
    assert_non_null(w->value);
    rig_dir_make(w->dir);
    if (!mount_tmpfs(w->dir, mib))
        fail_msg("mount: %s", strerror(errno));
    start(w, map_bytes);
}

static void tear_down(struct world *w)
{
    fault_store_close(&w->f);
    umount(w->dir);
    rmdir(w->dir);
    free(w->value);
}

static struct store_op numbered(uint64_t i, char name[24], uint64_t hlc, struct slice value)
{
    snprintf(name, 24, "%llu", (unsigned long long)i);
    return rig_merge_op(slice_str(name), hlc, value);
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
    struct store_op op = numbered(i, name, 100, (struct slice){0});

    op.state.deleted = true;
    return fault_store_do(&w->f, &op);
}

static int set_fact(struct world *w, size_t len)
{
    struct store_op op = {
        .type = STORE_OP_META, .name = slice_str("fact"), .value = slice_of(w->value, len)};

    return fault_store_do(&w->f, &op);
}

static int set_clock(struct world *w, uint64_t clock)
{
    struct store_op op = {.type = STORE_OP_CLOCK, .clock = clock};

    return fault_store_do(&w->f, &op);
}

static void put_until_refused(struct world *w, size_t len)
{
    int r;

    while ((r = put(w, w->n_stored, 1, len)) == 0)
        w->n_stored++;
    assert_int_equal(r, -ERR_NO_SPACE);
}

static void assert_all_there(struct world *w, uint64_t first, size_t len)
{
    for (uint64_t i = first; i < w->n_stored; i++) {
        char name[24];
        struct store_op op = numbered(i, name, 1, (struct slice){0});
        struct state s;
        uint64_t lsn;

        assert_int_equal(w->f.s->ops->get(w->f.s, 0, op.token, &op.key, &s, &lsn), 0);
        assert_int_equal(s.kind, STATE_LWW);
        assert_int_equal(s.value.len, len);
        if (i % 64 == 0)
            w->f.s->ops->read_end(w->f.s, 0);
    }
    w->f.s->ops->read_end(w->f.s, 0);
}

static bool file_exists(const struct world *w, const char *name)
{
    char path[128];

    snprintf(path, sizeof(path), "%s/%s", w->dir, name);
    return access(path, F_OK) == 0;
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

static struct store_stats stats_of(struct world *w)
{
    struct store_stats stats;

    assert_int_equal(w->f.s->ops->stats(w->f.s, 0, &stats), 0);
    return stats;
}

static uint64_t now_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec;
}

/* Each operation makes the store look at its space again. */
static void go_on_until_reserve_is_back(struct world *w)
{
    uint64_t until = now_s() + WAIT_S;

    for (uint64_t clock = 200; !file_exists(w, "reserve"); clock++) {
        assert_true(now_s() < until);
        assert_int_equal(set_clock(w, clock), 0);
    }
}

static void puts_stop_before_the_disk_is_full_and_the_rest_goes_on(void **state)
{
    struct world w;
    uint64_t bytes;

    set_up(&w, fs_mib, 4ull << 30);
    assert_true(file_exists(&w, "reserve"));
    put_until_refused(&w, VALUE_BYTES);
    /* A sixteenth is the reserve, 15 % stay free, LMDB needs a little. */
    bytes = w.n_stored * VALUE_BYTES;
    print_message("# %llu MiB of %u stored before puts were refused\n",
                  (unsigned long long)(bytes >> 20), fs_mib);
    assert_true(bytes > (uint64_t)fs_mib * (1 << 20) / 100 * 70);
    assert_true(stats_of(&w).space_low);
    assert_true(file_exists(&w, "reserve"));
    assert_int_equal(set_fact(&w, 100), 0);
    assert_int_equal(set_clock(&w, 5), 0);
    for (uint64_t i = 0; i < w.n_stored / 2; i++)
        assert_int_equal(delete (&w, i), 0);
    assert_int_equal(put(&w, 0, 200, 10), -ERR_NO_SPACE); /* the file does not shrink */
    assert_all_there(&w, w.n_stored / 2, VALUE_BYTES);
    tear_down(&w);
}

static void the_reserve_is_given_up_for_deletes_and_facts_and_comes_back(void **state)
{
    struct world w;

    set_up(&w, fs_mib, 4ull << 30);
    add_ballast(&w, ((uint64_t)fs_mib << 20) / 8); /* what an operator could remove */
    put_until_refused(&w, VALUE_BYTES);
    add_ballast(&w, UINT64_MAX);
    assert_int_equal(set_fact(&w, 1u << 20), 0); /* larger than any page left over */
    assert_false(file_exists(&w, "reserve"));
    assert_int_equal(set_clock(&w, 5), 0);
    for (uint64_t i = 0; i < w.n_stored / 2; i++)
        assert_int_equal(delete (&w, i), 0);
    assert_int_equal(put(&w, w.n_stored, 1, 10), -ERR_NO_SPACE);
    assert_all_there(&w, w.n_stored / 2, VALUE_BYTES);
    remove_ballast(&w);
    go_on_until_reserve_is_back(&w);
    assert_int_equal(put(&w, w.n_stored, 1, VALUE_BYTES), 0);
    tear_down(&w);
}

/* Facts may use the reserve; when that is gone too they are refused, and the store lives. */
static void a_disk_without_a_page_left_refuses_and_lives(void **state)
{
    struct world w;
    char why[STORE_WHY_BYTES];
    int r;

    set_up(&w, fs_mib, 4ull << 30);
    put_until_refused(&w, VALUE_BYTES);
    add_ballast(&w, UINT64_MAX);
    assert_int_equal(set_fact(&w, 1u << 20), 0);
    add_ballast(&w, UINT64_MAX); /* the reserve's room as well */
    r = set_fact(&w, LIMIT_VALUE_BYTES);
    assert_int_equal(r, -ERR_NO_SPACE);
    assert_all_there(&w, 0, VALUE_BYTES);
    fault_store_close(&w.f);
    start(&w, 4ull << 30); /* a restart on a full disk */
    assert_all_there(&w, 0, VALUE_BYTES);
    assert_int_equal(put(&w, w.n_stored, 1, 10), -ERR_NO_SPACE);
    remove_ballast(&w);
    assert_int_equal(set_fact(&w, 10), 0);
    assert_int_equal(fault_store_open(&(struct fault_store){0}, "/nowhere", 0, false, why),
                     -ERR_IO);
    tear_down(&w);
}

#define LOW_FS_MIB 48u

/* Child: the next call of a kind fails with EIO, on a disk that is small but not full. */
static void put_with_a_failing_disk(const char *dir, enum shim_kind kind, int fd)
{
    struct fault_store f;
    uint8_t bytes[FAULT_VALUE_MAX];
    char name[16], why[STORE_WHY_BYTES];
    struct store_op op = fault_put(1, 1, name, bytes);

    if (fault_store_open(&f, dir, LOW_FS_MIB << 20, false, why) != 0)
        _exit(FAULT_EXIT_OPEN);
    shim_watch("/data.mdb");
    shim_fail(kind, 1, EIO, false);
    if (fault_store_do(&f, &op) == 0)
        fault_report(fd, op.cookie);
    _exit(shim_has_failed() ? FAULT_EXIT_UNEXPECTED : 0);
}

static void put_with_a_failing_sync(const void *dir, int fd)
{
    put_with_a_failing_disk(dir, SHIM_SYNC, fd);
}

static void put_with_a_failing_write(const void *dir, int fd)
{
    put_with_a_failing_disk(dir, SHIM_WRITE, fd);
}

/* Little room is not no room: a sync that fails there is the disk, and is not tried again. */
static void a_disk_with_little_room_that_fails_is_not_taken_for_full(void **state)
{
    void (*const runs[])(const void *, int) = {put_with_a_failing_sync, put_with_a_failing_write};

    for (size_t i = 0; i < ARRAY_LEN(runs); i++) {
        struct fault_acks acks = {.n_keys = 0};
        struct fault_child child;
        char dir[64], why[256];
        int status;

        rig_dir_make(dir);
        if (!mount_tmpfs(dir, LOW_FS_MIB))
            fail_msg("mount: %s", strerror(errno));
        child = fault_child_start(runs[i], dir);
        status = fault_child_end(&child, &acks);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), FAULT_EXIT_SENTENCE);
        assert_int_equal(acks.n, 0);
        assert_true(suspect_is_marked(dir, why, sizeof(why)));
        umount(dir);
        rmdir(dir);
    }
}

#define MAP_MIB 16u

static void a_full_map_refuses_puts_and_a_wipe_makes_room(void **state)
{
    struct world w;
    struct store_done done;

    set_up(&w, fs_mib, (uint64_t)MAP_MIB << 20);
    put_until_refused(&w, 1000);
    assert_true(stats_of(&w).used_bytes > (uint64_t)MAP_MIB * (1 << 20) / 100 * 80);
    assert_true(stats_of(&w).used_bytes < (uint64_t)MAP_MIB * (1 << 20) / 100 * 90);
    assert_int_equal(set_fact(&w, 100), 0);
    assert_int_equal(delete (&w, 0), 0);
    assert_all_there(&w, 1, 1000);
    assert_int_equal(w.f.s->ops->wipe(w.f.s, 0, 1, (struct store_range){0, UINT64_MAX}), 0);
    fault_store_reap(&w.f, &done, 1);
    assert_int_equal(done.error, 0);
    assert_int_equal(put(&w, 0, 1, 1000), 0);
    assert_false(stats_of(&w).space_low);
    tear_down(&w);
}

/* Two values of 8 MiB do not fit 16 MiB: LMDB itself says so, in the middle of a transaction. */
static void what_does_not_fit_the_map_is_refused_and_smaller_puts_go_on(void **state)
{
    struct world w;

    set_up(&w, fs_mib, (uint64_t)MAP_MIB << 20);
    assert_int_equal(put(&w, 1, 1, LIMIT_VALUE_BYTES), 0);
    assert_int_equal(put(&w, 2, 1, LIMIT_VALUE_BYTES), -ERR_NO_SPACE);
    assert_int_equal(put(&w, 3, 1, 1000), 0);
    assert_int_equal(delete (&w, 1), 0);
    assert_int_equal(put(&w, 4, 1, 1000), 0); /* its pages are free one transaction later */
    /* A little smaller: pages for the tree itself come out of the same run. */
    assert_int_equal(put(&w, 2, 1, LIMIT_VALUE_BYTES - (64u << 10)), 0);
    tear_down(&w);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(puts_stop_before_the_disk_is_full_and_the_rest_goes_on),
        cmocka_unit_test(the_reserve_is_given_up_for_deletes_and_facts_and_comes_back),
        cmocka_unit_test(a_disk_without_a_page_left_refuses_and_lives),
        cmocka_unit_test(a_disk_with_little_room_that_fails_is_not_taken_for_full),
        cmocka_unit_test(a_full_map_refuses_puts_and_a_wipe_makes_room),
        cmocka_unit_test(what_does_not_fit_the_map_is_refused_and_smaller_puts_go_on),
    };

    fs_mib = test_is_quick() ? FS_MIB_QUICK : FS_MIB;
    if (argc > 1)
        fs_mib = (unsigned)strtoul(argv[1], NULL, 10);
    if (!enter_namespace()) {
        printf("1..0 # SKIP no right to a mount namespace: %s\n", strerror(errno));
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
