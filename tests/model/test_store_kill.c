/* test_store_kill: a writer is killed with SIGKILL at random moments, many times over on the same
 * store; every key that it reported as acknowledged must be there afterwards, and counts and leaves
 * must be those of the records.
 *
 * This says that the store's order of things is right (an outcome only after its commit) and that
 * it always opens again. It says nothing about syncs: the page cache outlives a killed process.
 * That is the part of test_store_power and test_store_log_power.
 *
 * The looking is done by a child too, which sometimes ends without closing: then the next one finds
 * what was left by several deaths. Some are killed while they open, recover or close. With a log
 * the number of workers changes from round to round.
 *
 *   test_store_kill [log] [ROUNDS [SEED]]
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
#define OPEN_SPINS_MAX 20000000u
#define CLOSES_AFTER 300u /* acknowledgements */

struct round {
    char dir[64];
    uint64_t seed, number;
    const struct fault_acks *acks;
    bool closes;
};

static unsigned rounds;
static uint64_t first_seed = 1;

static void open_or_exit(struct fault_store *f, const char *dir)
{
    char why[STORE_WHY_BYTES];

    if (fault_store_open(f, dir, FAULT_MAP_BYTES, false, why) == 0)
        return;
    fprintf(stderr, "# %s\n", why);
    _exit(FAULT_EXIT_OPEN);
}

/* Some keys, all of one queue. */
static void submit_some(struct fault_store *f, struct test_random *random, uint64_t *hlc,
                        size_t *n_out)
{
    static uint8_t values[BATCH_MAX][FAULT_VALUE_MAX];
    static char names[BATCH_MAX][16];
    struct store_op ops[BATCH_MAX];
    size_t n = 0, wanted = 1 + test_random_below(random, BATCH_MAX);
    uint32_t queue = 0;

    while (n < wanted) {
        unsigned i = (unsigned)test_random_below(random, N_KEYS);

        if (n > 0 && fault_queue(fault_token(i)) != queue)
            continue;
        queue = fault_queue(fault_token(i));
        ops[n] = fault_put(i, ++*hlc, names[n], values[n]);
        if (test_random_below(random, 8) == 0) {
            ops[n].state.deleted = true;
            ops[n].state.value = (struct slice){0};
        }
        n++;
    }
    if (fault_store_submit(f, queue, ops, n) != 0)
        _exit(FAULT_EXIT_UNEXPECTED);
    *n_out += n;
}

/* Until it is killed, or has closed. */
static void write_until(const void *arg, int fd)
{
    const struct round *round = arg;
    struct test_random random = {.s = round->seed};
    struct store_done dones[OUTSTANDING_MAX];
    uint64_t hlc = round->number * 1000000;
    size_t n_out = 0, n_acked = 0;
    struct fault_store f;

    open_or_exit(&f, round->dir);
    while (!round->closes || n_acked < CLOSES_AFTER) {
        size_t n;

        while (n_out + BATCH_MAX <= OUTSTANDING_MAX)
            submit_some(&f, &random, &hlc, &n_out);
        n = fault_store_reap(&f, dones, OUTSTANDING_MAX);
        n_out -= n;
        n_acked += n;
        for (size_t i = 0; i < n; i++) {
            if (dones[i].error)
                _exit(FAULT_EXIT_UNEXPECTED);
            fault_report(fd, dones[i].cookie);
        }
    }
    fault_report(fd, UINT64_MAX); /* no key: tells that it is about to close */
    fault_store_close(&f);
}

static void open_and_wait(const void *arg, int fd)
{
    const struct round *round = arg;
    struct fault_store f;

    fault_report(fd, UINT64_MAX);
    open_or_exit(&f, round->dir);
    for (;;)
        pause();
}

static void check(const void *arg, int fd)
{
    const struct round *round = arg;
    struct fault_store f;
    char what[128];
    int r = 0;

    open_or_exit(&f, round->dir);
    for (unsigned i = 0; r == 0 && i < N_KEYS; i++)
        r = fault_check(f.s, i, round->acks->hlc[i], what);
    for (uint32_t q = 0; q < f.n_queues; q++)
        f.s->ops->read_end(f.s, q);
    if (r == 0)
        r = fault_check_sums(f.s, what);
    if (r != 0) {
        fprintf(stderr, "# %s\n", what);
        _exit(r);
    }
    if (round->closes)
        fault_store_close(&f);
}

/* Some time between two system calls of the child, or in the middle of one. */
static void spin(uint64_t n)
{
    for (volatile uint64_t i = 0; i < n; i = i + 1)
        continue;
}

static void kill_child(struct fault_child *c, struct fault_acks *acks)
{
    int status;

    kill(c->pid, SIGKILL);
    status = fault_child_end(c, acks);
    if (!(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) && status != 0)
        fail_msg("the child ended with status %x", (unsigned)status);
}

static void choose_workers(struct test_random *random)
{
    static const uint32_t workers[] = {0, 1, 3};

    if (!fault_engine.log)
        return;
    fault_engine.n_workers = workers[test_random_below(random, ARRAY_LEN(workers))];
    fault_engine.n_owners = fault_engine.n_workers
                                ? (uint32_t)test_random_below(random, fault_engine.n_workers + 1)
                                : 0;
}

static void write_and_kill(struct round *round, struct fault_acks *acks, struct test_random *random)
{
    struct fault_child child;

    round->seed = test_random_u64(random);
    round->closes = test_random_below(random, 4) == 0;
    child = fault_child_start(write_until, round);
    if (round->closes) {
        /* To its end but for the closing, or somewhere in the middle. */
        fault_child_read(&child, acks, CLOSES_AFTER + test_random_below(random, OUTSTANDING_MAX));
        spin(test_random_below(random, OPEN_SPINS_MAX));
    } else {
        /* Sometimes before the first acknowledgement. */
        fault_child_read(&child, acks, test_random_below(random, ACKS_MAX));
        spin(test_random_below(random, SPINS_MAX));
    }
    kill_child(&child, acks);
}

static void open_and_kill(struct round *round, struct fault_acks *acks, struct test_random *random)
{
    struct fault_child child = fault_child_start(open_and_wait, round);

    fault_child_read(&child, acks, 1);
    spin(test_random_below(random, OPEN_SPINS_MAX));
    kill_child(&child, acks);
}

static void check_acked(struct round *round, const struct fault_acks *acks)
{
    struct fault_acks none = {0};
    struct fault_child child;
    int status;

    round->acks = acks;
    child = fault_child_start(check, round);
    status = fault_child_end(&child, &none);
    if (status != 0)
        fail_msg("round %llu: looking ended with status %x", (unsigned long long)round->number,
                 (unsigned)status);
}

static void killed_at_any_moment_nothing_acknowledged_is_lost(void **state)
{
    struct fault_acks acks = {.hlc = calloc(N_KEYS, sizeof(uint64_t)), .n_keys = N_KEYS};
    struct test_random random = {.s = first_seed};
    struct round round = {0};

    assert_non_null(acks.hlc);
    rig_dir_make(round.dir);
    for (round.number = 1; round.number <= rounds; round.number++) {
        choose_workers(&random);
        write_and_kill(&round, &acks, &random);
        for (uint64_t n = test_random_below(&random, 3); n > 0; n--) {
            choose_workers(&random);
            open_and_kill(&round, &acks, &random);
        }
        choose_workers(&random);
        round.closes = test_random_below(&random, 2);
        check_acked(&round, &acks);
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

    fault_main(&argc, &argv);
    rounds = test_is_quick() ? ROUNDS_QUICK : ROUNDS;
    if (argc > 1)
        rounds = (unsigned)strtoul(argv[1], NULL, 10);
    if (argc > 2)
        first_seed = strtoull(argv[2], NULL, 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
