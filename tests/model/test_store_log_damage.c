/* test_store_log_damage: bits that flip and files that are cut or gone, in the data file and in the
 * log of a store with a log.
 *
 * A good store is left behind by a process that ended without closing: part of its records is in
 * the data file, part in the log only, the last one alone in the last group. Then, many times over,
 * a child opens a damaged copy, reads every key, scans, adds up and writes.
 *
 *   data file   as test_store_damage: keys may be missing, the store may be refused or stop with a
 *               sentence; no wrong value, no death by signal
 *   log         refused with a sentence, or everything that was acknowledged is there, but for the
 *               last group: a bit that flips in it makes it a torn one
 *
 *   test_store_log_damage [ROUNDS [SEED]]
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/model/fault_damage.h"

#define N_KEYS 400u
#define ROUNDS 160u
#define ROUNDS_QUICK 40u
#define PAGE 4096u
#define N_WRITES 20u
#define FILES_MAX 16u

struct file {
    char name[40]; /* in the store's directory */
    struct buf good;
};

struct world {
    char dir[64];
    struct file files[FILES_MAX]; /* the first is the data file */
    size_t n_files;
    bool may_lose; /* keys may be missing */
    char what[160];
};

static unsigned rounds;
static uint64_t first_seed = 1;

/* ---- a good store -------------------------------------------------------------------------- */

struct put_each {
    const char *dir;
    uint64_t hlc;
};

static void put_each(const void *arg, int fd)
{
    const struct put_each *p = arg;
    uint8_t bytes[FAULT_VALUE_MAX];
    char name[16], why[STORE_WHY_BYTES];
    struct fault_store f;

    if (fault_store_open(&f, p->dir, FAULT_MAP_BYTES, false, why) != 0)
        _exit(FAULT_EXIT_OPEN);
    for (unsigned i = 0; i < N_KEYS; i++) {
        struct store_op op = fault_put(i, p->hlc, name, bytes);

        if (fault_store_do(&f, &op) != 0)
            _exit(FAULT_EXIT_UNEXPECTED);
    }
    /* Without closing. */
}

static void put_all(const struct world *w, uint64_t hlc)
{
    struct put_each p = {.dir = w->dir, .hlc = hlc};
    struct fault_acks none = {0};
    struct fault_child child = fault_child_start(put_each, &p);

    assert_int_equal(fault_child_end(&child, &none), 0);
}

static void path_of(const char *dir, const char *name, char path[160])
{
    snprintf(path, 160, "%.60s/%.60s", dir, name);
}

static void add_file(struct world *w, const char *name)
{
    struct file *f = &w->files[w->n_files++];
    char path[160];

    assert_true(w->n_files <= FILES_MAX);
    snprintf(f->name, sizeof(f->name), "%s", name);
    buf_init(&f->good);
    path_of(w->dir, name, path);
    fault_file_read(path, &f->good);
}

static void set_up(struct world *w)
{
    char path[160];
    const struct dirent *e;
    DIR *all;

    *w = (struct world){.n_files = 0};
    rig_dir_make(w->dir);
    put_all(w, 1);
    add_file(w, "data.mdb");
    path_of(w->dir, "log", path);
    all = opendir(path);
    assert_non_null(all);
    while ((e = readdir(all))) {
        snprintf(path, sizeof(path), "log/%.30s", e->d_name);
        if (e->d_name[0] != '.')
            add_file(w, path);
    }
    closedir(all);
    assert_true(w->n_files > 2);
}

static void tear_down(struct world *w)
{
    for (size_t i = 0; i < w->n_files; i++)
        buf_deinit(&w->files[i].good);
    rig_dir_remove(w->dir);
}

static void write_file(const struct world *w, const char *name, const uint8_t *bytes, size_t len)
{
    char path[160];

    path_of(w->dir, name, path);
    fault_file_write(path, bytes, len);
}

/* The good store again. */
static void restore(const struct world *w)
{
    char path[160];

    path_of(w->dir, "log", path);
    rig_dir_remove(path);
    assert_int_equal(mkdir(path, 0700), 0);
    for (size_t i = 0; i < w->n_files; i++)
        write_file(w, w->files[i].name, w->files[i].good.data, w->files[i].good.len);
    path_of(w->dir, "SUSPECT", path);
    unlink(path);
}

/* ---- the child ----------------------------------------------------------------------------- */

static void use_damaged(const void *arg, int fd)
{
    const struct world *w = arg;
    struct fault_damaged damaged = {.dir = w->dir,
                                    .n_keys = N_KEYS,
                                    .n_acked = w->may_lose ? 0 : N_KEYS - 1,
                                    .n_writes = N_WRITES,
                                    .strict = !w->may_lose};

    fault_use_damaged(&damaged);
}

static int run_child(struct world *w)
{
    struct fault_acks none = {0};
    struct fault_child child = fault_child_start(use_damaged, w);
    int status = fault_child_end(&child, &none);

    if (!WIFEXITED(status))
        fail_msg("%s: killed by signal %d", w->what, WTERMSIG(status));
    status = WEXITSTATUS(status);
    if (status != 0 && status != FAULT_EXIT_SENTENCE && status != FAULT_EXIT_OPEN)
        fail_msg("%s: exit status %d", w->what, status);
    return status;
}

/* ---- kinds of damage ----------------------------------------------------------------------- */

/* Damages bytes[*len] of a file. */
typedef void damage_fn(struct world *w, uint8_t *bytes, size_t *len, struct test_random *random);

static void flip_bits(struct world *w, uint8_t *bytes, size_t *len, struct test_random *random)
{
    size_t at = test_random_below(random, *len);

    snprintf(w->what, sizeof(w->what), "a bit flipped at %zu", at);
    bytes[at] ^= (uint8_t)(1 << test_random_below(random, 8));
}

/* Where LMDB and the log keep their own numbers. */
static void flip_header(struct world *w, uint8_t *bytes, size_t *len, struct test_random *random)
{
    size_t at = test_random_below(random, *len / PAGE) * PAGE + test_random_below(random, 128);

    snprintf(w->what, sizeof(w->what), "a bit flipped at %zu", at);
    bytes[at] ^= (uint8_t)(1 << test_random_below(random, 8));
}

static void overwrite_page(struct world *w, uint8_t *bytes, size_t *len, struct test_random *random)
{
    size_t at = test_random_below(random, *len / PAGE) * PAGE;
    size_t from = test_random_below(random, *len / PAGE) * PAGE;

    snprintf(w->what, sizeof(w->what), "page at %zu overwritten with that at %zu", at, from);
    memmove(bytes + at, bytes + from, PAGE);
}

static void cut_short(struct world *w, uint8_t *bytes, size_t *len, struct test_random *random)
{
    *len = test_random_below(random, *len);
    snprintf(w->what, sizeof(w->what), "cut to %zu bytes", *len);
}

static void run(bool of_log, damage_fn *damage, const char *name)
{
    struct test_random random = {.s = first_seed};
    unsigned n[256] = {0};
    struct world w;

    set_up(&w);
    w.may_lose = !of_log;
    for (unsigned i = 0; i < rounds / 8; i++) {
        struct file *f = &w.files[of_log ? 1 + test_random_below(&random, w.n_files - 1) : 0];
        size_t len = f->good.len;
        uint8_t *bytes = malloc(len);

        assert_non_null(bytes);
        memcpy(bytes, f->good.data, len);
        damage(&w, bytes, &len, &random);
        restore(&w);
        write_file(&w, f->name, bytes, len);
        free(bytes);
        n[run_child(&w)]++;
    }
    print_message("# %s, %s: %u survived, %u stopped with a sentence, %u refused at open\n",
                  of_log ? "log" : "data", name, n[0], n[FAULT_EXIT_SENTENCE], n[FAULT_EXIT_OPEN]);
    tear_down(&w);
}

static void a_damaged_data_file_serves_nothing_wrong(void **state)
{
    run(false, flip_bits, "bits");
    run(false, flip_header, "headers");
    run(false, overwrite_page, "pages");
    run(false, cut_short, "cut");
}

static void a_damaged_log_is_refused_or_loses_nothing(void **state)
{
    run(true, flip_bits, "bits");
    run(true, flip_header, "headers");
    run(true, overwrite_page, "pages");
    run(true, cut_short, "cut");
}

static void assert_refused(struct world *w, const char *word)
{
    struct fault_store f;
    char why[STORE_WHY_BYTES];

    assert_int_equal(fault_store_open(&f, w->dir, FAULT_MAP_BYTES, false, why), -ERR_CORRUPT);
    if (!strstr(why, word))
        fail_msg("%s: %s", word, why);
}

static void a_log_that_is_gone_or_anothers_is_refused(void **state)
{
    struct world w, other;
    char path[160];

    set_up(&w);
    set_up(&other);
    path_of(w.dir, "log", path);
    rig_dir_remove(path);
    assert_refused(&w, "the log is gone");
    restore(&w);
    path_of(w.dir, "log/log.000001", path);
    assert_int_equal(unlink(path), 0);
    assert_refused(&w, "segment 1 is missing");
    restore(&w);
    for (size_t i = 1; i < other.n_files && i < w.n_files; i++)
        write_file(&w, other.files[i].name, other.files[i].good.data, other.files[i].good.len);
    assert_refused(&w, "another store");
    restore(&w);
    assert_int_equal(run_child(&w), 0); /* nothing of that did any harm */
    tear_down(&w);
    tear_down(&other);
}

/* A data file from a backup does not fit a log that has gone on: what is between is lost. */
static void an_older_data_file_is_refused(void **state)
{
    struct world w;

    set_up(&w);
    restore(&w);
    put_all(&w, 3); /* more than the log has room for */
    write_file(&w, "data.mdb", w.files[0].good.data, w.files[0].good.len);
    assert_refused(&w, "ought to be here");
    tear_down(&w);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_damaged_data_file_serves_nothing_wrong),
        cmocka_unit_test(a_damaged_log_is_refused_or_loses_nothing),
        cmocka_unit_test(a_log_that_is_gone_or_anothers_is_refused),
        cmocka_unit_test(an_older_data_file_is_refused),
    };

    fault_engine = (struct fault_engine){.log = true,
                                         .few_zones = true,
                                         .tables_bytes = 512u << 10,
                                         .segment_bytes = 256u << 10,
                                         .log_bytes_max = 1u << 20,
                                         .slice_records = 50};
    rounds = test_is_quick() ? ROUNDS_QUICK : ROUNDS;
    if (argc > 1)
        rounds = (unsigned)strtoul(argv[1], NULL, 10);
    if (argc > 2)
        first_seed = strtoull(argv[2], NULL, 0);
    /* Files come and go by the hundred, and nothing here is about syncs. */
    if (access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
