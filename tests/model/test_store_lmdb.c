/* test_store_lmdb: what only the engine on disk does. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "storage/suspect.h"
#include "tests/model/disk_shim.h"
#include "tests/model/fault_store.h"

static int get(struct rig *rig, const char *name)
{
    struct key key = rig_key(slice_str(name));
    struct state s;
    uint64_t lsn;

    return rig->s->ops->get(rig->s, 0, rig_token(key.partition), &key, &s, &lsn);
}

static void snapshots_between_two_read_ends_are_bounded(void **state)
{
    struct rig rig;
    unsigned n = 0;

    rig_open(&rig, RIG_LMDB, RIG_MAP_BYTES);
    do
        rig_put(&rig, "k", ++n, "v");
    while (get(&rig, "k") == 0 && n < 100);
    assert_int_equal(n, 9);
    assert_int_equal(get(&rig, "k"), -ERR_FULL);
    rig.s->ops->read_end(rig.s, 0);
    assert_int_equal(get(&rig, "k"), 0);
    rig_close(&rig);
}

/* Reading every key from one snapshot, while the writer goes on, does not make the file grow for
 * ever: the pages are used again after read_end. */
static void pages_are_used_again_after_read_end(void **state)
{
    struct rig rig;
    struct store_stats before, after;
    struct stat st;
    char path[128];
    off_t size = 0;

    rig_open(&rig, RIG_LMDB, RIG_MAP_BYTES);
    snprintf(path, sizeof(path), "%s/data.mdb", rig.dir);
    rig_put(&rig, "k", 1, "v");
    assert_int_equal(rig.s->ops->stats(rig.s, 0, &before), 0);
    for (unsigned i = 2; i < 400; i++) {
        rig_put(&rig, "k", i, "v");
        assert_int_equal(get(&rig, "k"), 0);
        rig.s->ops->read_end(rig.s, 0);
        assert_int_equal(stat(path, &st), 0);
        if (i == 50)
            size = st.st_size;
    }
    assert_int_equal(st.st_size, size);
    assert_int_equal(rig.s->ops->stats(rig.s, 0, &after), 0);
    assert_true(after.used_bytes <= before.used_bytes + 2 * 4096); /* the list of free pages */
    rig_close(&rig);
}

/* What a snapshot that is held keeps from the writer is told: how far behind it is, and, once it is
 * given back, the pages that may be used again. */
static void a_snapshot_that_is_held_is_told(void **state)
{
    struct store_stats held, given_back;
    struct rig rig;

    rig_open(&rig, RIG_LMDB, RIG_MAP_BYTES);
    rig_put(&rig, "k", 1, "v");
    assert_int_equal(get(&rig, "k"), 0);
    for (unsigned i = 2; i < 7; i++)
        rig_put(&rig, "k", i, "v"); /* each a commit */
    assert_int_equal(get(&rig, "k"), 0);
    assert_int_equal(rig.s->ops->stats(rig.s, 0, &held), 0);
    rig.s->ops->read_end(rig.s, 0);
    assert_int_equal(rig.s->ops->stats(rig.s, 0, &given_back), 0);
    assert_true(held.snapshot_age >= 5);
    assert_int_equal(given_back.snapshot_age, 0);
    assert_true(given_back.free_bytes > 0);
    assert_true(given_back.free_bytes + given_back.used_bytes <= given_back.map_bytes);
    rig_close(&rig);
}

static void a_map_too_small_for_the_data_takes_deletes_and_no_puts(void **state)
{
    struct store_op op;
    struct rig rig;

    rig_open(&rig, RIG_LMDB, RIG_MAP_BYTES);
    op = rig_merge_op(slice_str("big"), 1, (struct slice){0});
    op.state.value = slice_of(calloc(1, LIMIT_VALUE_BYTES), LIMIT_VALUE_BYTES);
    assert_non_null(op.state.value.data);
    assert_int_equal(rig_do(&rig, &op).error, 0);
    rig.map_bytes = 1; /* the least is STORE_LMDB_MAP_MIN, less than the value */
    rig_reopen(&rig);
    assert_true(slice_equal(rig_get(&rig, "big").value, op.state.value));
    rig.s->ops->read_end(rig.s, 0);
    assert_int_equal(rig_put(&rig, "k", 1, "v").error, -ERR_NO_SPACE);
    assert_int_equal(rig_delete(&rig, "big", 2).error, 0);
    free((void *)(uintptr_t)op.state.value.data);
    rig_close(&rig);
}

/* ---- after a fatal failure, should config.fatal come back --------------------------------- */

struct witness {
    sem_t told;
    char sentence[1024];
};

static void witness_notify(void *ctx, uint32_t queue)
{
}

static void witness_fatal(void *ctx, const char *sentence)
{
    struct witness *w = ctx;

    snprintf(w->sentence, sizeof(w->sentence), "%s", sentence);
    sem_post(&w->told);
}

static void a_store_that_failed_acknowledges_nothing_more_and_can_be_closed(void **state)
{
    struct witness w = {.sentence = ""};
    struct store_config config = {
        .n_workers = 1, .notify = witness_notify, .fatal = witness_fatal, .ctx = &w};
    struct store_lmdb_options options;
    struct store_op op = rig_merge_op(slice_str("k"), 1, slice_str("v"));
    struct store_done done;
    char dir[64], why[STORE_WHY_BYTES];
    struct store *s;
    uint64_t lsn;

    rig_dir_make(dir);
    options = (struct store_lmdb_options){.dir = dir, .map_bytes = FAULT_MAP_BYTES};
    sem_init(&w.told, 0, 0);
    assert_int_equal(store_lmdb_open(&config, &options, &s, why), 0);
    shim_watch("/data.mdb");
    shim_fail(SHIM_SYNC, 1, EIO, false);
    assert_int_equal(s->ops->submit(s, 0, &op, 1, &lsn), 0);
    while (sem_wait(&w.told) != 0)
        continue;
    shim_watch(NULL);
    assert_non_null(strstr(w.sentence, dir));
    assert_non_null(strstr(w.sentence, SUSPECT_NAME));
    assert_int_equal(s->ops->submit(s, 0, &op, 1, &lsn), -ERR_IO);
    assert_int_equal(s->ops->submit(s, 1, &op, 1, &lsn), -ERR_IO);
    assert_int_equal(s->ops->reap(s, 0, &done, 1), 0);
    assert_int_equal(s->ops->durable(s), 0);
    s->ops->close(s);
    assert_int_equal(store_lmdb_open(&config, &options, &s, why), -ERR_SUSPECT);
    rig_dir_remove(dir);
}

static void a_directory_that_is_not_there_is_a_sentence(void **state)
{
    struct store_config config = {.notify = witness_notify, .fatal = witness_fatal};
    struct store_lmdb_options options = {.dir = "/nowhere/at/all"};
    char why[STORE_WHY_BYTES] = "";
    struct store *s;

    assert_int_equal(store_lmdb_open(&config, &options, &s, why), -ERR_IO);
    assert_non_null(strstr(why, "/nowhere/at/all"));
    assert_non_null(strstr(why, "No such file or directory"));
}

/* ---- faults that are not the file's ------------------------------------------------------- */

/* The kernel is to see this fault, not UBSan. */
__attribute__((no_sanitize("undefined"))) static void fault_elsewhere(const void *arg, int fd)
{
    struct fault_store f;
    char why[STORE_WHY_BYTES];
    volatile int *nowhere = (volatile int *)(uintptr_t) * (const uint64_t *)arg;

    fault_guarded = true;
    if (fault_store_open(&f, getenv("FAULT_DIR"), FAULT_MAP_BYTES, false, why) != 0)
        _exit(FAULT_EXIT_OPEN);
    if (nowhere)
        raise(SIGSEGV); /* sent, not earned: whatever the address */
    *nowhere = 1;
}

static void a_fault_of_the_program_itself_still_kills_it(void **state)
{
    char dir[64];

    rig_dir_make(dir);
    setenv("FAULT_DIR", dir, 1);
    for (uint64_t raised = 0; raised < 2; raised++) {
        struct fault_acks none = {0};
        struct fault_child child = fault_child_start(fault_elsewhere, &raised);
        int status = fault_child_end(&child, &none);

        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), SIGSEGV);
    }
    rig_dir_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(snapshots_between_two_read_ends_are_bounded),
        cmocka_unit_test(pages_are_used_again_after_read_end),
        cmocka_unit_test(a_snapshot_that_is_held_is_told),
        cmocka_unit_test(a_map_too_small_for_the_data_takes_deletes_and_no_puts),
        cmocka_unit_test(a_store_that_failed_acknowledges_nothing_more_and_can_be_closed),
        cmocka_unit_test(a_directory_that_is_not_there_is_a_sentence),
        cmocka_unit_test(a_fault_of_the_program_itself_still_kills_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
