/* fault_store: see fault_store.h. */
#include "tests/model/fault_store.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/token.h"
#include "storage/range_fold.h"
#include "storage/zone.h"

bool fault_guarded;

struct fault_engine fault_engine = {
    .tables_bytes = 256u << 10,
    .segment_bytes = 1u << 20,
    .log_bytes_max = 8u << 20,
    .slice_records = 100,
};

void fault_main(int *argc, char ***argv)
{
    if (*argc < 2 || strcmp((*argv)[1], "log") != 0)
        return;
    fault_engine.log = fault_engine.few_zones = true;
    --*argc;
    ++*argv;
}

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

static int open_with_log(const struct store_config *config, struct store_lmdb_options lmdb,
                         struct store **ret, char *why)
{
    struct store_log_options options = {.lmdb = lmdb,
                                        .log_dir = fault_engine.log_beside ? lmdb.dir : NULL,
                                        .tables_bytes = fault_engine.tables_bytes,
                                        .segment_bytes = fault_engine.segment_bytes,
                                        .log_bytes_max = fault_engine.log_bytes_max,
                                        .slice_records = fault_engine.slice_records};
    int r = store_log_open(config, &options, ret, why);

    if (r == 0 && fault_guarded)
        store_log_guard_faults(*ret);
    return r;
}

int fault_store_open(struct fault_store *f, const char *dir, uint64_t map_bytes,
                     bool accept_suspect, char why[STORE_WHY_BYTES])
{
    struct store_config config = {.n_workers = fault_engine.n_workers,
                                  .n_owners = fault_engine.n_owners,
                                  .notify = on_notify,
                                  .fatal = on_fatal,
                                  .ctx = f};
    struct store_lmdb_options options = {
        .dir = dir, .map_bytes = map_bytes, .accept_suspect = accept_suspect};
    int r;

#ifdef STORE_LMDB_UNSAFE_TEST
    options.no_sync = rig_no_sync;
#endif
    *f = (struct fault_store){.n_queues = fault_engine.n_workers + 1};
    sem_init(&f->woken, 0, 0);
    why[0] = 0;
    if (fault_engine.log)
        return open_with_log(&config, options, &f->s, why);
    r = store_lmdb_open(&config, &options, &f->s, why);
    if (r == 0 && fault_guarded)
        store_lmdb_guard_faults(f->s);
    return r;
}

void fault_store_close(struct fault_store *f)
{
    f->s->ops->close(f->s);
    sem_destroy(&f->woken);
    free(f->stash);
}

uint32_t fault_queue(uint64_t token)
{
    uint32_t owners = fault_engine.n_owners ? fault_engine.n_owners : fault_engine.n_workers;

    return owners ? token_worker(token, owners) : 0;
}

/* Until the store has notified. */
static void wait_woken(struct fault_store *f)
{
    while (sem_wait(&f->woken) != 0 && errno == EINTR)
        continue;
}

static size_t reap_all(struct fault_store *f, struct store_done *out, size_t max)
{
    size_t n = 0;

    for (uint32_t q = 0; q < f->n_queues && n < max; q++)
        n += f->s->ops->reap(f->s, q, out + n, max - n);
    return n;
}

static void stash(struct fault_store *f)
{
    struct store_done dones[64];
    size_t n;

    while ((n = reap_all(f, dones, ARRAY_LEN(dones))) > 0) {
        if (f->n_stash + n > f->cap_stash) {
            f->cap_stash = 2 * (f->n_stash + n);
            f->stash = realloc(f->stash, f->cap_stash * sizeof(*f->stash));
            if (!f->stash)
                _exit(FAULT_EXIT_UNEXPECTED);
        }
        memcpy(f->stash + f->n_stash, dones, n * sizeof(*dones));
        f->n_stash += n;
    }
}

int fault_store_submit(struct fault_store *f, uint32_t queue, const struct store_op *ops, size_t n)
{
    uint64_t lsn;
    int r;

    while ((r = f->s->ops->submit(f->s, queue, ops, n, &lsn)) == -ERR_FULL) {
        wait_woken(f);
        stash(f);
    }
    return r;
}

size_t fault_store_reap(struct fault_store *f, struct store_done *out, size_t max)
{
    size_t n = f->n_stash < max ? f->n_stash : max;

    if (n) {
        memcpy(out, f->stash, n * sizeof(*out));
        memmove(f->stash, f->stash + n, (f->n_stash - n) * sizeof(*out));
        f->n_stash -= n;
        return n;
    }
    while ((n = reap_all(f, out, max)) == 0)
        wait_woken(f);
    return n;
}

int fault_store_do(struct fault_store *f, const struct store_op *op)
{
    struct store_done done;
    int r = fault_store_submit(f, op->type == STORE_OP_MERGE ? fault_queue(op->token) : 0, op, 1);

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

uint64_t fault_token(unsigned i)
{
    char name[16];
    uint64_t token = rig_token(key_of(i, name).partition);

    if (!fault_engine.few_zones)
        return token;
    /* The zones lie in arcs of different workers. */
    return token >> ZONE_BITS | (uint64_t)(i % FAULT_ZONES * (ZONES / FAULT_ZONES))
                                    << (64 - ZONE_BITS);
}

struct store_op fault_put(unsigned i, uint64_t hlc, char name[16], uint8_t bytes[FAULT_VALUE_MAX])
{
    struct store_op op = rig_merge_op(key_of(i, name).partition, hlc, fault_value(i, hlc, bytes));

    op.cookie = fault_mark(i, hlc);
    op.token = fault_token(i);
    return op;
}

int fault_check(struct store *s, unsigned i, uint64_t acked, char what[128])
{
    uint8_t bytes[FAULT_VALUE_MAX];
    char name[16];
    struct key key = key_of(i, name);
    struct state state;
    uint64_t token = fault_token(i), lsn, found;
    int r = s->ops->get(s, fault_queue(token), token, &key, &state, &lsn);

    found = r == 0 && state.kind != STATE_NONE ? state.version.hlc : 0;
    snprintf(what, 128, "%s was acknowledged at version %llu, found %llu (error %d)", name,
             (unsigned long long)acked, (unsigned long long)found, r);
    if (r < 0 || found < acked)
        return FAULT_EXIT_LOST;
    if (found && !state.deleted && !slice_equal(state.value, fault_value(i, found, bytes)))
        return FAULT_EXIT_WRONG;
    return 0;
}

/* ---- sums ---------------------------------------------------------------------------------- */

/* A part of the ring that belongs to one worker, whatever their number. */
#define ARCS (1u << TOKEN_WORKER_BITS)
#define ARC_LEAVES ((1u << STORE_LEAF_BITS) / ARCS)

struct arc_sums {
    struct store_info told;
    struct range_fold counted;
    uint64_t leaves[ARC_LEAVES], counted_leaves[ARC_LEAVES];
};

/* Records of a page do not tell their tokens, but names do. */
static unsigned number_of(const struct key *key)
{
    unsigned n = 0;

    for (size_t i = strlen("key-"); i < key->partition.len; i++)
        n = n * 10 + (unsigned)(key->partition.data[i] - '0');
    return n;
}

static int count_arc(struct store *s, uint32_t queue, struct store_range range,
                     struct range_fold *f)
{
    struct wire_record items[64];
    struct store_page page = {.items = items, .cap = ARRAY_LEN(items)};
    int r;

    do {
        r = s->ops->scan(s, queue, range, slice_of(page.cursor, page.cursor_len), 1 << 16, &page);
        for (size_t i = 0; r == 0 && i < page.n; i++) {
            uint64_t token;
            struct key key;

            key = items[i].key;
            token = fault_token(number_of(&key));
            range_fold_add(f, token, &key, &items[i].state, 0);
        }
    } while (r == 0 && page.more);
    return r;
}

static int check_arc(struct store *s, struct arc_sums *sums, uint32_t arc)
{
    uint64_t first = (uint64_t)arc << (64 - TOKEN_WORKER_BITS);
    struct store_range range = {.first = first, .last = first + (UINT64_MAX >> TOKEN_WORKER_BITS)};
    uint32_t queue = fault_queue(first);
    const struct store_info *told = &sums->told, *counted = &sums->counted.info;
    uint64_t lsn;
    int r = s->ops->vnode_info(s, queue, range, &sums->told);

    if (r == 0)
        r = s->ops->leaves(s, queue, range, sums->leaves, &lsn);
    range_fold_init(&sums->counted, range, sums->counted_leaves);
    if (r == 0)
        r = count_arc(s, queue, range, &sums->counted);
    s->ops->read_end(s, queue);
    if (r < 0)
        return r;
    return told->n_records == counted->n_records && told->n_tombstones == counted->n_tombstones &&
           told->n_bytes == counted->n_bytes &&
           version_compare(told->max_version, counted->max_version) >= 0 &&
           memcmp(sums->leaves, sums->counted_leaves, sizeof(sums->leaves)) == 0;
}

int fault_check_sums(struct store *s, char what[128])
{
    struct arc_sums *sums = malloc(sizeof(*sums));
    int r = sums ? 1 : -ERR_NO_MEMORY;

    /* With few zones no key is in an arc between. */
    for (uint32_t arc = 0; r == 1 && arc < ARCS;
         arc += fault_engine.few_zones ? ARCS / FAULT_ZONES : 1) {
        r = check_arc(s, sums, arc);
        if (r != 1)
            snprintf(what, 128, "arc %u: %llu records are told, %llu counted (%s)", arc,
                     (unsigned long long)sums->told.n_records,
                     (unsigned long long)sums->counted.info.n_records,
                     r < 0 ? err_name(r) : "sums differ");
    }
    free(sums);
    return r == 1 ? 0 : FAULT_EXIT_WRONG;
}

/* ---- children ------------------------------------------------------------------------------ */

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
