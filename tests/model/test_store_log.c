/* test_store_log: what only the store with a log can get wrong, one case at a time: what is not
 * durable is told so, a load beside tables and wipes, frozen tables whose bytes are lent out, facts
 * beside the apply, the upgrade of a plain store.
 *
 * Where the moment matters, log_shim holds a sync until the test lets it go, or a function of the
 * store is wrapped; nothing waits for time to pass.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "storage/zone.h"
#include "tests/model/fault_store.h"
#include "tests/model/log_shim.h"

static void set_up(struct rig *rig)
{
    rig_open_with(rig, RIG_LOG, RIG_MAP_BYTES, 4 << 20);
}

static struct store_op put_op(const char *key, uint64_t hlc)
{
    struct store_op op = rig_merge_op(slice_str(key), hlc, slice_str("value"));

    return op;
}

static uint64_t submit(struct rig *rig, const struct store_op *op)
{
    uint64_t lsn;

    assert_int_equal(rig_submit(rig, 0, op, 1, &lsn), 0);
    return lsn;
}

static struct store_item item_of(const char *key, uint64_t hlc)
{
    struct store_op op = put_op(key, hlc);

    return (struct store_item){.token = op.token, .key = op.key, .state = op.state};
}

/* What a get says: version (0: absent), and the LSN to wait for. */
static uint64_t get(struct rig *rig, const char *name, uint64_t *ret_lsn)
{
    struct key key = rig_key(slice_str(name));
    struct state state;
    uint64_t lsn;

    assert_int_equal(rig->s->ops->get(rig->s, 0, rig_token(key.partition), &key, &state,
                                      ret_lsn ? ret_lsn : &lsn),
                     0);
    return state.kind == STATE_NONE ? 0 : state.version.hlc;
}

static struct store_page scan_all(struct rig *rig, struct wire_record *items, size_t cap)
{
    struct store_page page = {.items = items, .cap = cap};

    assert_int_equal(rig->s->ops->scan(rig->s, 0, (struct store_range){0, UINT64_MAX},
                                       (struct slice){0}, SIZE_MAX, &page),
                     0);
    return page;
}

/* Puts so much that the active table is frozen, applied and dropped. */
static void freeze_all(struct rig *rig, const char *key, uint64_t hlc)
{
    struct store_item item = item_of(key, hlc);

    /* A load behind a wipe waits until the wipe, and with it the table, is on disk. */
    rig_wipe(rig, 1, 1);
    assert_int_equal(rig_load(rig, &item, 1), 0);
}

/* ---- what is not durable ------------------------------------------------------------------- */

static void what_is_not_durable_is_told(void **state)
{
    struct wire_record items[4];
    struct store_done dones[2];
    struct store_op op = put_op("k", 1);
    struct store_page page;
    struct rig rig;
    uint64_t lsn, told;

    set_up(&rig);
    log_shim_hold_sync();
    lsn = submit(&rig, &op);
    log_shim_wait_held();
    assert_int_equal(get(&rig, "k", &told), 1);
    assert_int_equal(told, lsn);
    page = scan_all(&rig, items, 4);
    assert_int_equal(page.n, 1);
    assert_int_equal(page.lsn, lsn);
    assert_int_equal(rig.s->ops->reap(rig.s, 0, dones, 2), 0);
    rig.s->ops->read_end(rig.s, 0);
    log_shim_let_go();
    rig_reap(&rig, 0, dones, 1);
    assert_int_equal(get(&rig, "k", &told), 1);
    assert_int_equal(told, 0);
    page = scan_all(&rig, items, 4);
    assert_int_equal(page.lsn, 0);
    rig_close(&rig);
}

/* That a key is gone can be lost again as well, wherever the key was: in the table, or on disk. */
static void a_wipe_that_is_not_durable_is_told(void **state)
{
    struct wire_record items[4];
    struct store_done done;
    struct rig rig;
    uint64_t told;

    set_up(&rig);
    rig_put(&rig, "disk", 1, "v");
    freeze_all(&rig, "disk", 1);
    rig_put(&rig, "table", 1, "v");
    rig.s->ops->read_end(rig.s, 0);
    log_shim_hold_sync();
    assert_int_equal(rig.s->ops->wipe(rig.s, 0, 7, (struct store_range){0, UINT64_MAX}), 0);
    log_shim_wait_held();
    assert_int_equal(get(&rig, "disk", &told), 0);
    assert_true(told > rig.s->ops->durable(rig.s));
    assert_int_equal(get(&rig, "table", &told), 0);
    assert_true(told > rig.s->ops->durable(rig.s));
    assert_int_equal(scan_all(&rig, items, 4).n, 0);
    assert_int_equal(scan_all(&rig, items, 4).lsn, told);
    rig.s->ops->read_end(rig.s, 0);
    log_shim_let_go();
    rig_reap(&rig, 0, &done, 1);
    assert_int_equal(done.lsn, told);
    assert_int_equal(get(&rig, "disk", &told), 0);
    assert_int_equal(told, 0);
    rig_close(&rig);
}

/* An outcome that was decided by what is not durable waits for it. */
static void an_outcome_waits_for_what_decided_it(void **state)
{
    struct store_done dones[2];
    struct store_op op = put_op("k", 5), late = put_op("k", 3);
    struct rig rig;

    set_up(&rig);
    log_shim_hold_sync();
    submit(&rig, &op);
    log_shim_wait_held();
    submit(&rig, &late);
    assert_int_equal(rig.s->ops->reap(rig.s, 0, dones, 2), 0);
    log_shim_let_go();
    rig_reap(&rig, 0, dones, 2);
    assert_int_equal(dones[1].outcome, OUTCOME_SUPERSEDED);
    assert_int_equal(dones[1].version.hlc, 5);
    rig_close(&rig);
}

/* ---- loads beside tables and wipes --------------------------------------------------------- */

/* Wiped records are on disk until the apply comes by: a load on its way, which makes reads look at
 * both, must not bring them back. */
static void a_load_does_not_bring_back_what_is_wiped(void **state)
{
    struct store_item item = item_of("other", 1);
    struct wire_record items[4];
    struct store_op late = put_op("k", 3);
    struct store_done dones[2];
    struct rig rig;

    set_up(&rig);
    rig_put(&rig, "k", 5, "v");
    freeze_all(&rig, "k", 5);
    /* Nothing is applied while the log is held. */
    log_shim_hold_sync();
    assert_int_equal(rig.s->ops->wipe(rig.s, 0, 7, (struct store_range){0, UINT64_MAX}), 0);
    log_shim_wait_held();
    submit(&rig, &late);
    assert_int_equal(rig.s->ops->load(rig.s, 0, 8, &item, 1), 0);
    assert_int_equal(get(&rig, "k", NULL), 3);
    assert_int_equal(scan_all(&rig, items, 4).n, 1);
    assert_int_equal(items[0].state.version.hlc, 3);
    rig.s->ops->read_end(rig.s, 0);
    log_shim_let_go();
    rig_reap(&rig, 0, dones, 2);
    assert_int_equal(dones[1].outcome, OUTCOME_STORED);
    rig_reap(&rig, 0, dones, 1);
    assert_int_equal(get(&rig, "k", NULL), 3);
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_durable_is_told),
        cmocka_unit_test(a_wipe_that_is_not_durable_is_told),
        cmocka_unit_test(an_outcome_waits_for_what_decided_it),
        cmocka_unit_test(a_load_does_not_bring_back_what_is_wiped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
