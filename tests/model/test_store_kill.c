/* test_store_kill: a writer is killed with SIGKILL at random moments, many times over on the same
 * store; every key that it reported as acknowledged must be there afterwards.
 *
 * This says that the store's order of things is right (an outcome only after its commit) and that
 * it always opens again. It says nothing about syncs: the page cache outlives a killed process.
 * That is test_store_power's part.
 *
 *   test_store_kill [ROUNDS [SEED]]
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/model/fault_store.h"

#define N_KEYS 2000u
#define ROUNDS 40u
#define ROUNDS_QUICK 8u
#define BATCH_MAX 16u
#define OUTSTANDING_MAX 64u
#define ACKS_MAX 600u
#define SPINS_MAX 200000u

struct round {
    char dir[64];
    uint64_t seed, number;
};

static unsigned rounds;
static uint64_t first_seed = 1;

static void submit_some(struct fault_store *f, struct test_random *random, uint64_t *hlc,
                        size_t *n_out)
{
    static uint8_t values[BATCH_MAX][FAULT_VALUE_MAX];
    static char names[BATCH_MAX][16];
    struct store_op ops[BATCH_MAX];
    size_t n = 1 + test_random_below(random, BATCH_MAX);
    uint64_t lsn;

    for (size_t b = 0; b < n; b++)
        ops[b] =
            fault_put((unsigned)test_random_below(random, N_KEYS), ++*hlc, names[b], values[b]);
    if (f->s->ops->submit(f->s, 0, ops, n, &lsn) != 0)
        _exit(FAULT_EXIT_UNEXPECTED);
    *n_out += n;
}

/* The writer: until it is killed. */
static void write_for_ever(const void *arg, int fd)
{
    const struct round *round = arg;
    struct test_random random = {.s = round->seed};
    struct store_done dones[OUTSTANDING_MAX];
    struct fault_store f;
    uint64_t hlc = round->number * 1000000;
    char why[STORE_WHY_BYTES];
    size_t n_out = 0;

    if (fault_store_open(&f, round->dir, FAULT_MAP_BYTES, false, why) != 0) {
        fprintf(stderr, "# %s\n", why);
        _exit(FAULT_EXIT_OPEN);
    }
    for (;;) {
        size_t n;

        while (n_out + BATCH_MAX <= OUTSTANDING_MAX)
            submit_some(&f, &random, &hlc, &n_out);
        n = fault_store_reap(&f, dones, OUTSTANDING_MAX);
        n_out -= n;
        for (size_t i = 0; i < n; i++) {
            if (dones[i].error)
                _exit(FAULT_EXIT_UNEXPECTED);
            fault_report(fd, dones[i].cookie);
        }
    }
}

/* Some time between two system calls of the writer, or in the middle of one. */
static void spin(uint64_t n)
{
    for (volatile uint64_t i = 0; i < n; i = i + 1)
        continue;
}

static void check_acked(const char *dir, const struct fault_acks *acks)
{
    char why[STORE_WHY_BYTES], what[128];
    struct fault_store f;

    if (fault_store_open(&f, dir, FAULT_MAP_BYTES, false, why) != 0)
        fail_msg("%s", why);
    for (unsigned i = 0; i < N_KEYS; i++) {
        if (fault_check(f.s, i, acks->hlc[i], what) != 0)
            fail_msg("%s", what);
    }
    f.s->ops->read_end(f.s, 0);
    fault_store_close(&f);
}

static void killed_at_any_moment_nothing_acknowledged_is_lost(void **state)
{
    struct fault_acks acks = {.hlc = calloc(N_KEYS, sizeof(uint64_t)), .n_keys = N_KEYS};
    struct test_random random = {.s = first_seed};
    struct round round = {0};

    assert_non_null(acks.hlc);
    rig_dir_make(round.dir);
    for (round.number = 1; round.number <= rounds; round.number++) {
        struct fault_child child;
        int status;

        round.seed = test_random_u64(&random);
        child = fault_child_start(write_for_ever, &round);
        /* Sometimes before the first acknowledgement. */
        fault_child_read(&child, &acks, test_random_below(&random, ACKS_MAX));
        spin(test_random_below(&random, SPINS_MAX));
        kill(child.pid, SIGKILL);
        status = fault_child_end(&child, &acks);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        check_acked(round.dir, &acks);
    }
    print_message("# %u kills, %zu acknowledgements, none lost (seed %llu)\n", rounds, acks.n,
                  (unsigned long long)first_seed);
    assert_true(acks.n > rounds);
    rig_dir_remove(round.dir);
    free(acks.hlc);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_at_any_moment_nothing_acknowledged_is_lost),
    };

    rounds = fault_is_quick() ? ROUNDS_QUICK : ROUNDS;
    if (argc > 1)
        rounds = (unsigned)strtoul(argv[1], NULL, 10);
    if (argc > 2)
        first_seed = strtoull(argv[2], NULL, 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
