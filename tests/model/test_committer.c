/* test_committer: what the writer thread makes of each answer of an engine, with an engine that
 * answers what the test says and keeps a list of what it was asked. */
#include <errno.h>
#include <semaphore.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/committer.h"
#include "storage/suspect.h"
#include "tests/model/store_rig.h"

#define SCRIPT_MAX 16u

struct stage {
    struct committer c;
    char dir[64];
    sem_t woken;
    int script[SCRIPT_MAX]; /* answers of transact, in turn; then COMMIT_OK */
    char trace[256];        /* "try" or "try-", the latter with growth refused */
    unsigned n_calls;
    size_t group_max; /* items per transaction */
    char fatal[1024];
};

static void on_notify(void *ctx, uint32_t queue)
{
    struct stage *st = ctx;

    sem_post(&st->woken);
}

static void on_fatal(void *ctx, const char *sentence)
{
    struct stage *st = ctx;

    snprintf(st->fatal, sizeof(st->fatal), "%s", sentence);
    sem_post(&st->woken);
}

static int transact(void *ctx, struct commit_pos from, bool refuse_growth,
                    struct commit_pos *ret_to, char why[COMMIT_WHY_BYTES])
{
    struct stage *st = ctx;
    unsigned call = st->n_calls++;
    int r = call < SCRIPT_MAX ? st->script[call] : COMMIT_OK;
    size_t len = strlen(st->trace);

    snprintf(st->trace + len, sizeof(st->trace) - len, "%s ", refuse_growth ? "try-" : "try");
    snprintf(why, COMMIT_WHY_BYTES, "the script says so");
    if (r != COMMIT_OK) { /* the first item was thought stored before there was no room */
        from.batch->items[from.index].done.outcome = OUTCOME_STORED;
        from.batch->items[from.index].done.version.hlc = 1;
        return r;
    }
    for (size_t n = 0; from.batch && n < st->group_max; n++) {
        struct commit_item *item = &from.batch->items[from.index];

        item->done.error = item->grows && refuse_growth ? -ERR_NO_SPACE : 0;
        item->done.outcome = OUTCOME_NONE;
        item->done.version = (struct version){0};
        if (++from.index == from.batch->n)
            from = (struct commit_pos){.batch = from.batch->next};
    }
    *ret_to = from;
    return COMMIT_OK;
}

static uint64_t used_bytes(void *ctx)
{
    return 0;
}

static const struct commit_engine scripted = {.transact = transact, .used_bytes = used_bytes};

static void set_up(struct stage *st)
{
    struct store_config config = {
        .n_workers = 1, .notify = on_notify, .fatal = on_fatal, .ctx = st};

    rig_dir_make(st->dir);
    sem_init(&st->woken, 0, 0);
    st->group_max = st->group_max ? st->group_max : 100;
    assert_int_equal(committer_init(&st->c, &config, &scripted, st, st->dir, 1u << 30), 0);
    assert_int_equal(committer_start(&st->c), 0);
}

static void tear_down(struct stage *st)
{
    committer_stop(&st->c);
    committer_deinit(&st->c);
    rig_dir_remove(st->dir);
}

/* A put, a delete and a fact in one batch, with their errors once answered. */
static void run_batch(struct stage *st, int errors[3])
{
    struct store_op ops[3] = {rig_merge_op(slice_str("a"), 1, slice_str("v")),
                              rig_merge_op(slice_str("b"), 1, (struct slice){0}),
                              {.type = STORE_OP_META, .name = slice_str("n")}};
    struct store_done dones[3];
    struct commit_batch *b = NULL;
    uint64_t lsn;
    int r;

    ops[1].state.deleted = true;
    r = commit_batch_of_ops(ops, 3, &b);
    assert_int_equal(committer_submit(&st->c, 0, r, b, &lsn), 0);
    while (sem_wait(&st->woken) != 0)
        continue;
    if (st->fatal[0])
        return;
    assert_int_equal(commit_queue_reap(&st->c.queue, 0, dones, 3), 3);
    assert_int_equal(atomic_load(&st->c.durable), lsn);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(dones[i].lsn, lsn - 2 + i);
        assert_int_equal(dones[i].cookie, ops[i].cookie);
        assert_int_equal(dones[i].outcome, OUTCOME_NONE);
        assert_int_equal(dones[i].version.hlc, 0);
        errors[i] = dones[i].error;
    }
}

static void a_group_that_fits_is_tried_once(void **state)
{
    struct stage st = {.n_calls = 0};
    int errors[3];

    set_up(&st);
    run_batch(&st, errors);
    assert_string_equal(st.trace, "try ");
    assert_true(!errors[0] && !errors[1] && !errors[2]);
    tear_down(&st);
}

static void without_room_puts_are_refused_and_the_rest_is_tried_again(void **state)
{
    struct stage st = {.script = {COMMIT_FULL}};
    int errors[3];

    set_up(&st);
    run_batch(&st, errors);
    assert_string_equal(st.trace, "try try- ");
    assert_int_equal(errors[0], -ERR_NO_SPACE);
    assert_true(!errors[1] && !errors[2]);
    run_batch(&st, errors); /* nothing is held against later ones */
    assert_int_equal(errors[0], 0);
    tear_down(&st);
}

static void then_the_reserve_is_given_up(void **state)
{
    struct stage st = {.script = {COMMIT_FULL, COMMIT_FULL}};
    int errors[3];
    char path[128];

    set_up(&st);
    snprintf(path, sizeof(path), "%s/reserve", st.dir);
    assert_int_equal(access(path, F_OK), 0);
    run_batch(&st, errors);
    assert_string_equal(st.trace, "try try- try- ");
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(errors[0], -ERR_NO_SPACE);
    assert_true(!errors[1] && !errors[2]);
    tear_down(&st);
}

static void what_finds_no_room_at_all_is_refused_whole(void **state)
{
    struct stage st = {.script = {COMMIT_FULL, COMMIT_FULL, COMMIT_FULL}};
    int errors[3];

    set_up(&st);
    run_batch(&st, errors);
    assert_string_equal(st.trace, "try try- try- ");
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(errors[i], -ERR_NO_SPACE);
    assert_false(atomic_load(&st.c.failed));
    tear_down(&st);
}

static void without_memory_a_batch_is_refused_and_the_store_lives(void **state)
{
    struct stage st = {.script = {COMMIT_NO_MEMORY}};
    int errors[3];

    set_up(&st);
    run_batch(&st, errors);
    assert_string_equal(st.trace, "try ");
    assert_int_equal(errors[2], -ERR_NO_MEMORY);
    run_batch(&st, errors);
    assert_int_equal(errors[2], 0);
    tear_down(&st);
}

static void anything_else_is_fatal_and_never_tried_again(void **state)
{
    const int answers[] = {COMMIT_IO_ERROR, -ERR_IO, -ERR_CORRUPT};

    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        struct stage st = {.script = {answers[i]}};
        char why[256];
        int errors[3];

        set_up(&st);
        run_batch(&st, errors);
        committer_stop(&st.c);
        assert_string_equal(st.trace, "try ");
        assert_non_null(strstr(st.fatal, "the script says so"));
        assert_true(suspect_is_marked(st.dir, why, sizeof(why)));
        assert_memory_equal(why, st.fatal, strlen(why));
        assert_string_equal(st.fatal + strlen(why), ". The directory is marked " SUSPECT_NAME);
        assert_int_equal(atomic_load(&st.c.durable), 0);
        tear_down(&st);
    }
}

/* Nothing can be written to the directory any more, as when the file system went read-only. */
static void a_mark_that_cannot_be_made_is_told(void **state)
{
    struct stage st = {.script = {-ERR_IO}};
    int errors[3];

    set_up(&st);
    rig_dir_remove(st.dir);
    run_batch(&st, errors);
    committer_stop(&st.c);
    assert_non_null(strstr(st.fatal, "the script says so"));
    assert_non_null(strstr(st.fatal, "could NOT be marked " SUSPECT_NAME));
    assert_non_null(strstr(st.fatal, strerror(ENOENT)));
    assert_int_equal(mkdir(st.dir, 0700), 0);
    tear_down(&st);
}

static void a_batch_may_take_several_groups_and_is_reported_once_whole(void **state)
{
    struct stage st = {.group_max = 2};
    int errors[3];

    set_up(&st);
    run_batch(&st, errors);
    assert_string_equal(st.trace, "try try ");
    assert_int_equal(atomic_load(&st.c.n_ops), 3);
    assert_int_equal(atomic_load(&st.c.n_syncs), 2);
    tear_down(&st);
}

static void stopping_finishes_what_was_submitted(void **state)
{
    struct stage st = {.group_max = 1};
    struct store_op op = rig_merge_op(slice_str("a"), 1, slice_str("v"));
    struct store_done dones[50];
    uint64_t lsn;

    set_up(&st);
    for (unsigned i = 0; i < 50; i++) {
        struct commit_batch *b = NULL;
        int r = commit_batch_of_ops(&op, 1, &b);

        assert_int_equal(committer_submit(&st.c, i % 2, r, b, &lsn), 0);
    }
    committer_stop(&st.c);
    assert_int_equal(commit_queue_reap(&st.c.queue, 0, dones, 50), 25);
    assert_int_equal(commit_queue_reap(&st.c.queue, 1, dones, 50), 25);
    assert_int_equal(atomic_load(&st.c.durable), 50);
    tear_down(&st);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_group_that_fits_is_tried_once),
        cmocka_unit_test(without_room_puts_are_refused_and_the_rest_is_tried_again),
        cmocka_unit_test(then_the_reserve_is_given_up),
        cmocka_unit_test(what_finds_no_room_at_all_is_refused_whole),
        cmocka_unit_test(without_memory_a_batch_is_refused_and_the_store_lives),
        cmocka_unit_test(anything_else_is_fatal_and_never_tried_again),
        cmocka_unit_test(a_mark_that_cannot_be_made_is_told),
        cmocka_unit_test(a_batch_may_take_several_groups_and_is_reported_once_whole),
        cmocka_unit_test(stopping_finishes_what_was_submitted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
