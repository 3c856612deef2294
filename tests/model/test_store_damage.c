/* test_store_damage: data files that were cut short or have bits flipped.
 *
 * A good store is made once. Then, many times over, a damaged copy of its file is opened by a child
 * that reads every key, scans, adds up and writes. It may find keys missing (a flip in an index
 * page hides what is below it), be refused, or stop with a sentence and exit status 1. It must not
 * be killed by a signal, and it must never be given a value that was not written.
 *
 *   test_store_damage [ROUNDS [SEED]]
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/model/fault_damage.h"

#define N_KEYS 1500u
#define ROUNDS 240u
#define ROUNDS_QUICK 40u
#define PAGE 4096u
#define N_WRITES 20u

struct damage {
    const char *dir;
    const struct buf *good;
    uint8_t *bytes; /* the damaged copy */
    size_t len;
    char what[128];
};

static unsigned rounds;
static uint64_t first_seed = 1;

static void make_good_store(const char *dir)
{
    static uint8_t values[16][FAULT_VALUE_MAX];
    static char names[16][16];
    struct store_op ops[16];
    struct store_done done;
    struct fault_store f;
    char why[STORE_WHY_BYTES];
    uint64_t lsn;

    if (fault_store_open(&f, dir, FAULT_MAP_BYTES, false, why) != 0)
        fail_msg("%s", why);
    for (unsigned i = 0; i < N_KEYS;) {
        size_t n = 0;

        for (; n < 16 && i < N_KEYS; n++, i++)
            ops[n] = fault_put(i, 1, names[n], values[n]);
        assert_int_equal(f.s->ops->submit(f.s, 0, ops, n, &lsn), 0);
        for (size_t k = 0; k < n; k++)
            fault_store_reap(&f, &done, 1);
    }
    fault_store_close(&f);
}

static void path_of(const char *dir, char path[128])
{
    snprintf(path, 128, "%s/data.mdb", dir);
}

/* ---- the child ---------------------------------------------------------------------------- */

static void use_damaged(const void *arg, int fd)
{
    const struct damage *d = arg;
    struct fault_damaged damaged = {.dir = d->dir, .n_keys = N_KEYS, .n_writes = N_WRITES};

    fault_use_damaged(&damaged);
}

/* ---- kinds of damage ---------------------------------------------------------------------- */

static void flip_bits(struct damage *d, struct test_random *random)
{
    unsigned n = 1 + (unsigned)test_random_below(random, 3);

    snprintf(d->what, sizeof(d->what), "%u bits flipped", n);
    for (unsigned i = 0; i < n; i++)
        d->bytes[test_random_below(random, d->len)] ^= (uint8_t)(1 << test_random_below(random, 8));
}

/* Where LMDB keeps its own numbers: the first 128 bytes of a page. */
static void flip_header(struct damage *d, struct test_random *random)
{
    uint64_t page = test_random_below(random, d->len / PAGE);
    uint64_t at = page * PAGE + test_random_below(random, 128);

    snprintf(d->what, sizeof(d->what), "a bit flipped at offset %llu", (unsigned long long)at);
    d->bytes[at] ^= (uint8_t)(1 << test_random_below(random, 8));
}

static void cut_short(struct damage *d, struct test_random *random)
{
    d->len = test_random_below(random, d->len);
    if (test_random_below(random, 2))
        d->len -= d->len % PAGE;
    snprintf(d->what, sizeof(d->what), "cut to %zu bytes", d->len);
}

static void overwrite_page(struct damage *d, struct test_random *random)
{
    uint64_t page = test_random_below(random, d->len / PAGE), kind = test_random_below(random, 3);
    uint8_t *to = d->bytes + page * PAGE;

    snprintf(d->what, sizeof(d->what), "page %llu overwritten with %s", (unsigned long long)page,
             kind == 0 ? "zeros" : (kind == 1 ? "noise" : "another page"));
    if (kind == 2)
        memcpy(to, d->good->data + test_random_below(random, d->len / PAGE) * PAGE, PAGE);
    for (unsigned i = 0; i < PAGE && kind < 2; i++)
        to[i] = kind == 0 ? 0 : (uint8_t)test_random_u64(random);
}

typedef void damage_fn(struct damage *d, struct test_random *random);

static void run(const char *name, damage_fn *make)
{
    struct test_random random = {.s = first_seed};
    struct fault_acks none = {0};
    struct buf good;
    char dir[64], path[128];
    struct damage d = {.dir = dir, .good = &good};
    unsigned n[256] = {0};

    buf_init(&good);
    rig_dir_make(dir);
    make_good_store(dir);
    path_of(dir, path);
    fault_file_read(path, &good);
    d.bytes = malloc(good.len);
    assert_non_null(d.bytes);
    for (unsigned i = 0; i < rounds / 4; i++) {
        struct fault_child child;
        char mark[96];
        int status;

        memcpy(d.bytes, good.data, good.len);
        d.len = good.len;
        make(&d, &random);
        fault_file_write(path, d.bytes, d.len);
        child = fault_child_start(use_damaged, &d);
        status = fault_child_end(&child, &none);
        if (!WIFEXITED(status))
            fail_msg("%s: killed by signal %d", d.what, WTERMSIG(status));
        status = WEXITSTATUS(status);
        if (status != 0 && status != FAULT_EXIT_SENTENCE && status != FAULT_EXIT_OPEN)
            fail_msg("%s: exit status %d", d.what, status);
        n[status]++;
        snprintf(mark, sizeof(mark), "%s/SUSPECT", dir);
        unlink(mark);
    }
    print_message("# %s: %u survived, %u stopped with a sentence, %u refused at open\n", name, n[0],
                  n[FAULT_EXIT_SENTENCE], n[FAULT_EXIT_OPEN]);
    rig_dir_remove(dir);
    free(d.bytes);
    buf_deinit(&good);
}

static void flipped_bits_serve_nothing_wrong(void **state)
{
    run("bits", flip_bits);
}

static void flipped_bits_in_page_headers_do_not_kill(void **state)
{
    run("headers", flip_header);
}

static void files_cut_short_do_not_kill(void **state)
{
    run("cut", cut_short);
}

static void overwritten_pages_do_not_kill(void **state)
{
    run("pages", overwrite_page);
}

static void a_data_file_that_is_gone_is_not_an_empty_store(void **state)
{
    struct fault_store f;
    char dir[64], path[128], why[STORE_WHY_BYTES];

    rig_dir_make(dir);
    make_good_store(dir);
    path_of(dir, path);
    assert_int_equal(truncate(path, 0), 0);
    assert_int_equal(fault_store_open(&f, dir, FAULT_MAP_BYTES, false, why), -ERR_CORRUPT);
    assert_non_null(strstr(why, "gone or empty"));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(fault_store_open(&f, dir, FAULT_MAP_BYTES, false, why), -ERR_CORRUPT);
    assert_int_not_equal(access(path, F_OK), 0);
    rig_dir_remove(dir);
}

static void a_newer_format_is_refused_with_a_sentence(void **state)
{
    struct fault_store f;
    char dir[64], path[128], why[STORE_WHY_BYTES];
    FILE *file;

    rig_dir_make(dir);
    make_good_store(dir);
    snprintf(path, sizeof(path), "%s/STORE", dir);
    file = fopen(path, "w");
    assert_non_null(file);
    fputs("quoit store 2\n", file);
    fclose(file);
    assert_int_equal(fault_store_open(&f, dir, FAULT_MAP_BYTES, false, why), -ERR_FORMAT);
    assert_non_null(strstr(why, "newer version"));
    rig_dir_remove(dir);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flipped_bits_serve_nothing_wrong),
        cmocka_unit_test(flipped_bits_in_page_headers_do_not_kill),
        cmocka_unit_test(files_cut_short_do_not_kill),
        cmocka_unit_test(overwritten_pages_do_not_kill),
        cmocka_unit_test(a_data_file_that_is_gone_is_not_an_empty_store),
        cmocka_unit_test(a_newer_format_is_refused_with_a_sentence),
    };

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
