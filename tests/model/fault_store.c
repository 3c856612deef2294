/* fault_store: see fault_store.h. */
#include "tests/model/fault_store.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

bool fault_guarded;

static void on_notify(void *ctx, uint32_t queue)
{
    struct fault_store *f = ctx;

    sem_post(&f->woken);
}

static void on_fatal(void *ctx, const char *sentence)
{
    fprintf(stderr, "# fatal: %s\n", sentence);
    _exit(FAULT_EXIT_SENTENCE);
}

int fault_store_open(struct fault_store *f, const char *dir, uint64_t map_bytes,
                     bool accept_suspect, char why[STORE_WHY_BYTES])
{
    struct store_config config = {.n_workers = 0, .notify = on_notify, .fatal = on_fatal, .ctx = f};
    struct store_lmdb_options options = {
        .dir = dir, .map_bytes = map_bytes, .accept_suspect = accept_suspect};
    int r;

    sem_init(&f->woken, 0, 0);
    why[0] = 0;
    r = store_lmdb_open(&config, &options, &f->s, why);
    if (r == 0 && fault_guarded)
        store_lmdb_guard_faults(f->s);
    return r;
}

void fault_store_close(struct fault_store *f)
{
    f->s->ops->close(f->s);
    sem_destroy(&f->woken);
}

size_t fault_store_reap(struct fault_store *f, struct store_done *out, size_t max)
{
    size_t n = f->s->ops->reap(f->s, 0, out, max);

    while (n == 0) {
        while (sem_wait(&f->woken) != 0 && errno == EINTR)
            continue;
        n = f->s->ops->reap(f->s, 0, out, max);
    }
    return n;
}

int fault_store_do(struct fault_store *f, const struct store_op *op)
{
    struct store_done done;
    uint64_t lsn;
    int r = f->s->ops->submit(f->s, 0, op, 1, &lsn);

    if (r < 0)
        return r;
    fault_store_reap(f, &done, 1);
    return done.error;
}

/* Long ones take pages of their own. */
struct slice fault_value(unsigned i, uint64_t hlc, uint8_t bytes[FAULT_VALUE_MAX])
{
    struct test_random r = {.s = hlc * 1000003 + i};
    size_t len = test_random_below(&r, 5) ? test_random_below(&r, 200)
                                          : test_random_below(&r, FAULT_VALUE_MAX);

    for (size_t n = 0; n < len; n++)
        bytes[n] = (uint8_t)test_random_u64(&r);
    return slice_of(bytes, len);
}

static struct key key_of(unsigned i, char name[16])
{
    snprintf(name, 16, "key-%u", i);
    return rig_key(slice_str(name));
}

struct store_op fault_put(unsigned i, uint64_t hlc, char name[16], uint8_t bytes[FAULT_VALUE_MAX])
{
    struct store_op op = rig_merge_op(key_of(i, name).partition, hlc, fault_value(i, hlc, bytes));

    op.cookie = fault_mark(i, hlc);
    return op;
}

int fault_check(struct store *s, unsigned i, uint64_t acked, char what[128])
{
    uint8_t bytes[FAULT_VALUE_MAX];
    char name[16];
    struct key key = key_of(i, name);
    struct state state;
    uint64_t lsn, found;
    int r = s->ops->get(s, 0, rig_token(key.partition), &key, &state, &lsn);

    found = r == 0 && state.kind != STATE_NONE ? state.version.hlc : 0;
    snprintf(what, 128, "%s was acknowledged at version %llu, found %llu (error %d)", name,
             (unsigned long long)acked, (unsigned long long)found, r);
    if (r < 0 || found < acked)
        return FAULT_EXIT_LOST;
    if (found && !state.deleted && !slice_equal(state.value, fault_value(i, found, bytes)))
        return FAULT_EXIT_WRONG;
    return 0;
}

void fault_acks_add(struct fault_acks *acks, uint64_t mark)
{
    uint64_t i = mark >> 32, hlc = mark & UINT32_MAX;

    if (i < acks->n_keys && hlc > acks->hlc[i])
        acks->hlc[i] = hlc;
    acks->n++;
}

struct fault_child fault_child_start(void (*run)(const void *arg, int fd), const void *arg)
{
    const int deadly[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    struct fault_child c;
    int fds[2];

    if (pipe(fds) != 0)
        fail_msg("pipe: %s", strerror(errno));
    fflush(NULL);
    c = (struct fault_child){.pid = fork(), .fd = fds[0]};
    if (c.pid == 0) {
        /* cmocka's handlers would go on with the test in the child. */
        for (size_t i = 0; i < ARRAY_LEN(deadly); i++)
            signal(deadly[i], SIG_DFL);
        close(fds[0]);
        run(arg, fds[1]);
        _exit(0);
    }
    close(fds[1]);
    if (c.pid < 0)
        fail_msg("fork: %s", strerror(errno));
    return c;
}

bool fault_child_read(struct fault_child *c, struct fault_acks *acks, size_t n)
{
    uint64_t mark;
    ssize_t got;

    for (; n > 0; n--) {
        do
            got = read(c->fd, &mark, sizeof(mark));
        while (got < 0 && errno == EINTR);
        if (got != (ssize_t)sizeof(mark))
            return false;
        fault_acks_add(acks, mark);
    }
    return true;
}

int fault_child_end(struct fault_child *c, struct fault_acks *acks)
{
    int status;

    fault_child_read(c, acks, SIZE_MAX);
    close(c->fd);
    while (waitpid(c->pid, &status, 0) < 0) {
        if (errno != EINTR)
            fail_msg("waitpid: %s", strerror(errno));
    }
    return status;
}

void fault_report(int fd, uint64_t mark)
{
    if (write(fd, &mark, sizeof(mark)) != (ssize_t)sizeof(mark))
        _exit(FAULT_EXIT_UNEXPECTED);
}

bool fault_is_quick(void)
{
    const char *s = getenv("QUOIT_TEST_QUICK");

    return s && *s && strcmp(s, "0") != 0;
}
