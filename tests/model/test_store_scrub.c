/* test_store_scrub: what a scrub finds of what was done to a stopped store behind its back, and
 * what becomes of it: records that were removed, set back or damaged, summaries that lie; healing;
 * and that a healthy store, whatever it is doing, is never accused of anything.
 *
 *   test_store_scrub [STEPS [SEED]]      steps of a_store_at_work_never_disagrees
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "storage/bytes.h"
#include "storage/clean_mark.h"
#include "storage/range_fold.h"
#include "storage/zone.h"
#include "tests/model/fault_store.h"
#include "tests/model/fault_tamper.h"
#include "tests/model/log_disk.h"

#define N_KEYS 2000u
#define N_ZONES 16u       /* in which the keys lie */
#define QUEUE RIG_WORKERS /* that asks for scrubs: control's */
#define SLICE_BYTES 700u  /* some records */
#define SEGMENT_BYTES (256u << 10)
#define STEPS 3000u
#define STEPS_QUICK 600u

static unsigned steps;
static uint64_t first_seed = 1;

/* ---- keys ---------------------------------------------------------------------------------- */

static struct key key_of(unsigned i, char name[16])
{
    snprintf(name, 16, "key-%u", i);
    return rig_key(slice_str(name));
}

static uint64_t test_token(unsigned i)
{
    char name[16];
    uint64_t token = rig_token(key_of(i, name).partition);

    return token >> ZONE_BITS | (uint64_t)(i % N_ZONES * (ZONES / N_ZONES)) << (64 - ZONE_BITS);
}

static unsigned number_of(const struct key *key)
{
    char name[16];

    snprintf(name, sizeof(name), "%.*s", (int)key->partition.len,
             (const char *)key->partition.data);
    return (unsigned)strtoul(name + strlen("key-"), NULL, 10);
}

/* The value tells its version. */
static struct store_op put_op(unsigned i, uint64_t hlc, char name[16], char value[32])
{
    snprintf(value, 32, "value %u of %llu", i, (unsigned long long)hlc);
    return (struct store_op){.type = STORE_OP_MERGE,
                             .token = test_token(i),
                             .key = key_of(i, name),
                             .state = {.kind = STATE_LWW,
                                       .version = {.hlc = hlc, .actor = 7},
                                       .value = slice_str(value)}};
}

static struct store_done put(struct rig *rig, unsigned i, uint64_t hlc, bool heal)
{
    char name[16], value[32];
    struct store_op op = put_op(i, hlc, name, value);

    op.heal = heal;
    return rig_do(rig, &op);
}

static void put_all(struct rig *rig, uint64_t hlc)
{
    enum {
        BATCH = 50
    };
    static char names[BATCH][16], values[BATCH][32];
    struct store_op ops[BATCH];
    struct store_done done[BATCH];
    uint64_t lsn;

    for (unsigned i = 0; i < N_KEYS; i += BATCH) {
        for (unsigned k = 0; k < BATCH; k++)
            ops[k] = put_op(i + k, hlc, names[k], values[k]);
        assert_int_equal(rig_submit(rig, 0, ops, BATCH, &lsn), 0);
        rig_reap(rig, 0, done, BATCH);
    }
}

/* 0 absent, its version, or negative. */
static int64_t get(struct rig *rig, unsigned i)
{
    char name[16];
    struct key key = key_of(i, name);
    struct state st;
    uint64_t lsn;
    int r = rig->s->ops->get(rig->s, 0, test_token(i), &key, &st, &lsn);
    int64_t found = r < 0 ? r : st.kind == STATE_NONE ? 0 : (int64_t)st.version.hlc;

    rig->s->ops->read_end(rig->s, 0);
    return found;
}

static unsigned number_of_cursor(const uint8_t *bytes, size_t len)
{
    uint64_t token;
    struct key key;

    assert_int_equal(store_cursor_decode(slice_of(bytes, len), &token, &key), 0);
    assert_true(token == test_token(number_of(&key)));
    return number_of(&key);
}

/* ---- once around --------------------------------------------------------------------------- */

struct round {
    uint64_t n_records, n_bytes, n_bad, n_slices, n_remade, n_errors;
    bool remade[ZONES], visited[ZONES];
    struct store_scrub_bad named[N_KEYS];
    size_t n_named;
};

static void round_add(struct round *r, const struct store_scrub *out)
{
    r->n_slices++;
    r->n_records += out->n_records;
    r->n_bytes += out->n_bytes;
    r->n_bad += out->n_bad;
    r->n_errors += out->error != 0;
    r->visited[out->zone] = true;
    r->n_remade += out->remade;
    r->remade[out->zone] |= out->remade;
    for (size_t i = 0; i < out->n_named && r->n_named < N_KEYS; i++)
        r->named[r->n_named++] = out->bad[i];
}

static void scrub_round(struct rig *rig, size_t bytes_max, struct round *ret)
{
    struct store_scrub_place at = {0};

    memset(ret, 0, sizeof(*ret));
    do {
        struct store_scrub out = rig_scrub(rig, QUEUE, &at, bytes_max);

        assert_true(out.n_records <= 2 + bytes_max / RECORD_HEADER_BYTES);
        round_add(ret, &out);
        at = out.next;
    } while (at.zone != 0 || !store_scrub_at_zone(&at));
    for (uint32_t z = 0; z < ZONES; z++)
        assert_true(ret->visited[z]);
}

static struct round *round_new(void)
{
    struct round *r = calloc(1, sizeof(*r));

    assert_non_null(r);
    return r;
}

/* ---- what the sums say, and what is there -------------------------------------------------- */

struct sums {
    struct store_info info;
    uint64_t leaves[1u << STORE_LEAF_BITS];
};

static struct sums *sums_new(void)
{
    struct sums *s = calloc(1, sizeof(*s));

    assert_non_null(s);
    return s;
}

static const struct store_range all = {0, UINT64_MAX};

static void sums_told(struct rig *rig, struct sums *ret)
{
    uint64_t lsn;

    assert_int_equal(rig->s->ops->vnode_info(rig->s, 0, all, &ret->info), 0);
    assert_int_equal(rig->s->ops->leaves(rig->s, 0, all, ret->leaves, &lsn), 0);
    rig->s->ops->read_end(rig->s, 0);
}

/* By a scan that steps over what is damaged. */
static void sums_counted(struct rig *rig, struct sums *ret)
{
    struct wire_record items[64];
    struct store_page page = {.items = items, .cap = ARRAY_LEN(items)};
    struct range_fold f;
    int r;

    range_fold_init(&f, all, ret->leaves);
    do {
        r = rig->s->ops->scan(rig->s, 0, all, slice_of(page.cursor, page.cursor_len), 1 << 16,
                              &page);
        for (size_t i = 0; r == 0 && i < page.n; i++)
            range_fold_add(&f, test_token(number_of(&items[i].key)), &items[i].key, &items[i].state,
                           0);
        rig->s->ops->read_end(rig->s, 0);
    } while (page.cursor_len && (r == -ERR_CORRUPT || (r == 0 && page.more)));
    ret->info = f.info;
}

static bool sums_agree(const struct sums *a, const struct sums *b)
{
    return a->info.n_records == b->info.n_records && a->info.n_tombstones == b->info.n_tombstones &&
           a->info.n_bytes == b->info.n_bytes &&
           memcmp(a->leaves, b->leaves, sizeof(a->leaves)) == 0;
}

static bool sums_are_true(struct rig *rig)
{
    struct sums *told = sums_new(), *counted = sums_new();
    bool same;

    sums_told(rig, told);
    sums_counted(rig, counted);
    same = sums_agree(told, counted);
    free(told);
    free(counted);
    return same;
}

static void set_up(struct rig *rig, enum rig_engine engine)
{
    rig_open(rig, engine, RIG_MAP_BYTES);
    put_all(rig, 10);
    if (engine != RIG_MEM)
        rig_reopen(rig); /* all of it is in the data file */
}

static void tamper(struct rig *rig, enum fault_tampering what, size_t n, uint64_t seed,
                   struct fault_tampered *out)
{
    struct test_random random = {.s = seed};

    rig_stop(rig);
    fault_tamper(rig->dir, what, n, &random, out);
    rig_start(rig);
}

/* ---- a healthy store ----------------------------------------------------------------------- */

static void a_round_reads_everything_once_and_finds_nothing(void **state)
{
    static const size_t budgets[] = {1, SLICE_BYTES, SIZE_MAX};
    struct round *r = round_new();
    struct rig rig;

    for (enum rig_engine engine = 0; engine < RIG_ENGINES; engine++) {
        set_up(&rig, engine);
        for (size_t i = 0; i < ARRAY_LEN(budgets); i++) {
            scrub_round(&rig, budgets[i], r);
            assert_int_equal(r->n_records, N_KEYS);
            assert_int_equal(r->n_bad + r->n_remade + r->n_errors, 0);
            /* A slice of one record each, or a slice per zone. */
            assert_in_range(r->n_slices, i == 0 ? N_KEYS : ZONES, i == 2 ? ZONES : N_KEYS + ZONES);
        }
        rig_close(&rig);
    }
    free(r);
}

static void one_slice_at_a_time_and_only_for_who_asked(void **state)
{
    struct store_scrub_place start = {0};
    struct store_scrub out;
    struct rig rig;

    for (enum rig_engine engine = 0; engine < RIG_ENGINES; engine++) {
        set_up(&rig, engine);
        assert_false(rig.s->ops->scrubbed(rig.s, QUEUE, &out));
        assert_int_equal(rig.s->ops->scrub(rig.s, QUEUE, &start, 1), 0);
        assert_int_equal(rig.s->ops->scrub(rig.s, QUEUE, &start, 1), -ERR_FULL);
        assert_int_equal(rig.s->ops->scrub(rig.s, 0, &start, 1), -ERR_FULL);
        rig_wait_notified(&rig, QUEUE);
        assert_false(rig.s->ops->scrubbed(rig.s, 0, &out));
        assert_int_equal(rig.s->ops->scrub(rig.s, 0, &start, 1), -ERR_FULL); /* not taken yet */
        assert_true(rig.s->ops->scrubbed(rig.s, QUEUE, &out));
        assert_false(rig.s->ops->scrubbed(rig.s, QUEUE, &out));
        assert_int_equal(rig.s->ops->scrub(rig.s, 0, &start, 1), 0);
        rig_close(&rig); /* with one that nobody will take */
    }
}

/* ---- records removed and set back ---------------------------------------------------------- */

static void what_was_removed_or_set_back_is_missed(enum fault_tampering what)
{
    const size_t n = N_KEYS / 100;
    struct fault_tampered gone[N_KEYS / 100];
    struct sums *before = sums_new(), *after = sums_new();
    bool expected[ZONES] = {0};
    struct round *r = round_new();
    struct rig rig;

    set_up(&rig, RIG_LOG);
    sums_told(&rig, before);
    tamper(&rig, what, n, 1, gone);
    for (size_t i = 0; i < n; i++)
        expected[zone_of(bytes_get_be(gone[i].bytes, 8))] = true;
    sums_told(&rig, after);
    assert_true(sums_agree(before, after)); /* the summaries still tell the old tale */
    assert_false(sums_are_true(&rig));
    scrub_round(&rig, SLICE_BYTES, r);
    assert_memory_equal(r->remade, expected, sizeof(expected));
    assert_int_equal(r->n_bad + r->n_errors, 0); /* what is there is whole */
    assert_true(sums_are_true(&rig));
    sums_told(&rig, after);
    assert_int_equal(after->info.n_records, N_KEYS - (what == TAMPER_REMOVE ? n : 0));
    assert_int_equal(after->info.max_version.hlc, 10);
    scrub_round(&rig, SIZE_MAX, r);
    assert_int_equal(r->n_remade, 0);
    rig_reopen(&rig);
    assert_true(sums_are_true(&rig));
    rig_close(&rig);
    free(before);
    free(after);
    free(r);
}

static void removed_records_are_missed(void **state)
{
    what_was_removed_or_set_back_is_missed(TAMPER_REMOVE);
}

static void records_set_back_are_missed(void **state)
{
    what_was_removed_or_set_back_is_missed(TAMPER_SET_BACK);
}

/* Entries of the tables, over keys that are gone, damaged or whole on disk, before a summary is
 * made anew and after it. */
static void what_is_in_tables_is_counted_over_a_new_summary(void **state)
{
    const size_t n = N_KEYS / 100;
    struct fault_tampered gone[N_KEYS / 100], bad[N_KEYS / 100];
    struct round *r = round_new();
    struct rig rig;

    set_up(&rig, RIG_LOG);
    tamper(&rig, TAMPER_REMOVE, n, 1, gone);
    tamper(&rig, TAMPER_RECORD, n, 2, bad);
    for (size_t i = 0; i < n; i += 2) {
        put(&rig, number_of_cursor(gone[i].bytes, gone[i].len), 20, false);
        put(&rig, number_of_cursor(bad[i].bytes, bad[i].len), 10, true);
        put(&rig, (unsigned)i, 30, false);
    }
    scrub_round(&rig, SLICE_BYTES, r);
    assert_true(r->n_remade > 0);
    assert_int_equal(r->n_bad, n); /* on disk nothing is healed yet */
    assert_true(sums_are_true(&rig));
    for (size_t i = 1; i < n; i += 2) {
        put(&rig, number_of_cursor(gone[i].bytes, gone[i].len), 20, false);
        put(&rig, number_of_cursor(bad[i].bytes, bad[i].len), 10, true);
        put(&rig, (unsigned)i, 30, false);
    }
    assert_true(sums_are_true(&rig));
    rig_reopen(&rig);
    assert_true(sums_are_true(&rig));
    scrub_round(&rig, SLICE_BYTES, r);
    assert_int_equal(r->n_remade + r->n_bad, 0);
    assert_int_equal(r->n_records, N_KEYS);
    rig_close(&rig);
    free(r);
}

/* What is not blind must stay so, though the record that had the highest version is gone. */
static void the_highest_version_is_remembered(void **state)
{
    struct test_random random = {.s = 1};
    uint8_t bytes[STORE_KEY_BYTES_MAX];
    struct round *r = round_new();
    struct store_info info;
    struct rig rig;
    char name[16];
    struct key key = key_of(7, name);

    set_up(&rig, RIG_LOG);
    put(&rig, 7, 50, false);
    rig_stop(&rig);
    fault_tamper_one(rig.dir, TAMPER_REMOVE,
                     slice_of(bytes, store_key_encode(test_token(7), &key, bytes)), &random);
    rig_start(&rig);
    scrub_round(&rig, SIZE_MAX, r);
    assert_int_equal(r->n_remade, 1);
    rig_reopen(&rig);
    assert_int_equal(rig.s->ops->vnode_info(rig.s, 0, zone_range(zone_of(test_token(7))), &info),
                     0);
    assert_int_equal(info.max_version.hlc, 50);
    rig.s->ops->read_end(rig.s, 0);
    rig_close(&rig);
    free(r);
}

/* A put that is above all that the zone has seen is not looked up. What came from elsewhere must
 * count as seen once it is known. */
static void a_put_is_not_blind_to_what_came_from_elsewhere(void **state)
{
    struct fault_tampered one;
    struct store_done done;
    struct round *r = round_new();
    struct rig rig;
    uint64_t token;
    struct key key;

    set_up(&rig, RIG_LOG);
    tamper(&rig, TAMPER_SET_ON, 1, 1, &one);
    scrub_round(&rig, SIZE_MAX, r);
    assert_int_equal(r->n_remade, 1);
    assert_int_equal(store_cursor_decode(slice_of(one.bytes, one.len), &token, &key), 0);
    done = put(&rig, number_of(&key), 20, false);
    assert_int_equal(done.outcome, OUTCOME_SUPERSEDED);
    assert_int_equal(done.version.hlc, 10 + TAMPER_ON);
    rig_close(&rig);
    free(r);
}

/* ---- damaged records ----------------------------------------------------------------------- */

static bool is_named(const struct round *r, const struct fault_tampered *t)
{
    for (size_t i = 0; i < r->n_named; i++)
        if (slice_equal(slice_of(r->named[i].cursor, r->named[i].len), slice_of(t->bytes, t->len)))
            return true;
    return false;
}

/* One after the other, as a healer does. */
static void heal_all(struct rig *rig, const struct round *r)
{
    for (size_t i = 0; i < r->n_named; i++) {
        unsigned k = number_of_cursor(r->named[i].cursor, r->named[i].len);

        assert_int_equal(get(rig, k), -ERR_CORRUPT);
        assert_int_equal(put(rig, k, 10, false).error, -ERR_CORRUPT);
        assert_int_equal(get(rig, k), -ERR_CORRUPT);
        assert_int_equal(put(rig, k, 10, true).outcome, OUTCOME_STORED);
        assert_int_equal(get(rig, k), 10);
        assert_int_equal(put(rig, k, 10, true).outcome, OUTCOME_DUPLICATE);
    }
}

static void damaged_records_are_named_and_healed(enum rig_engine engine)
{
    enum {
        N = 400
    }; /* of a zone more than one slice names */
    struct fault_tampered bad[N];
    struct sums *before = sums_new(), *after = sums_new();
    struct round *r = round_new();
    struct rig rig;

    set_up(&rig, engine);
    sums_told(&rig, before);
    tamper(&rig, TAMPER_RECORD, N, 2, bad);
    scrub_round(&rig, SIZE_MAX, r);
    assert_int_equal(r->n_bad, N);
    assert_int_equal(r->n_named, N);
    assert_int_equal(r->n_records, N_KEYS - N);
    assert_int_equal(r->n_errors, 0);
    for (size_t i = 0; i < N; i++)
        assert_true(is_named(r, &bad[i]));
    assert_int_equal(r->n_remade > 0, engine == RIG_LOG);
    sums_told(&rig, after);
    assert_int_equal(after->info.n_records, N_KEYS - N); /* what is damaged counts nothing */
    assert_true(sums_are_true(&rig));
    heal_all(&rig, r);
    for (unsigned restarts = 0; restarts < 2; restarts++) {
        sums_told(&rig, after);
        assert_true(sums_agree(before, after));
        rig_reopen(&rig);
    }
    scrub_round(&rig, SIZE_MAX, r);
    assert_int_equal(r->n_bad + r->n_remade + r->n_errors, 0);
    assert_int_equal(r->n_records, N_KEYS);
    rig_close(&rig);
    free(before);
    free(after);
    free(r);
}

static void damaged_records_are_named_and_healed_with_a_log(void **state)
{
    damaged_records_are_named_and_healed(RIG_LOG);
}

static void damaged_records_are_named_and_healed_plain(void **state)
{
    damaged_records_are_named_and_healed(RIG_LMDB);
}

static void damaged_records_are_named_and_healed_in_the_model(void **state)
{
    struct round *r = round_new();
    struct rig rig;
    char name[16];

    set_up(&rig, RIG_MEM);
    for (unsigned i = 0; i < N_KEYS; i += 100) {
        struct key key = key_of(i, name);

        assert_int_equal(store_mem_corrupt(rig.s, test_token(i), &key), 0);
    }
    scrub_round(&rig, SLICE_BYTES, r);
    assert_int_equal(r->n_bad, N_KEYS / 100);
    assert_int_equal(r->n_named, N_KEYS / 100);
    assert_int_equal(r->n_records, N_KEYS - N_KEYS / 100);
    assert_true(sums_are_true(&rig));
    heal_all(&rig, r);
    scrub_round(&rig, SLICE_BYTES, r);
    assert_int_equal(r->n_bad, 0);
    assert_int_equal(r->n_records, N_KEYS);
    rig_close(&rig);
    free(r);
}

/* By walking too, as sums of a part of a zone are made, or beside a wipe that is not applied. */
static void sums_step_over_what_is_damaged(void **state)
{
    /* The ring, cut in the middle of its first zone, in which there are keys. */
    const struct store_range halves[2] = {{0, UINT64_MAX >> (ZONE_BITS + 1)},
                                          {(UINT64_MAX >> (ZONE_BITS + 1)) + 1, UINT64_MAX}};
    struct fault_tampered bad[20];
    struct store_info info[2];
    struct rig rig;
    char name[16];

    for (enum rig_engine engine = 0; engine < RIG_ENGINES; engine++) {
        set_up(&rig, engine);
        if (engine != RIG_MEM)
            tamper(&rig, TAMPER_RECORD, ARRAY_LEN(bad), 6, bad);
        for (unsigned i = 0; engine == RIG_MEM && i < ARRAY_LEN(bad); i++) {
            struct key key = key_of(i, name);

            assert_int_equal(store_mem_corrupt(rig.s, test_token(i), &key), 0);
        }
        rig_wipe(&rig, 1, 1); /* nobody */
        assert_true(sums_are_true(&rig));
        for (unsigned i = 0; i < 2; i++)
            assert_int_equal(rig.s->ops->vnode_info(rig.s, 0, halves[i], &info[i]), 0);
        assert_int_equal(info[0].n_records + info[1].n_records, N_KEYS - ARRAY_LEN(bad));
        rig.s->ops->read_end(rig.s, 0);
        rig_close(&rig);
    }
}

/* A state that heals is merged with all that is whole, wherever it is. */
static void healing_is_a_merge_where_nothing_is_damaged(void **state)
{
    struct fault_tampered bad;
    struct rig rig;
    unsigned k;

    for (enum rig_engine engine = 0; engine < RIG_ENGINES; engine++) {
        set_up(&rig, engine);
        assert_int_equal(put(&rig, 1, 9, true).outcome, OUTCOME_SUPERSEDED);
        assert_int_equal(put(&rig, 1, 10, true).outcome, OUTCOME_DUPLICATE);
        assert_int_equal(put(&rig, 1, 11, true).outcome, OUTCOME_STORED);
        assert_int_equal(get(&rig, 1), 11);
        rig_close(&rig);
    }
    set_up(&rig, RIG_LOG);
    tamper(&rig, TAMPER_RECORD, 1, 3, &bad);
    k = number_of_cursor(bad.bytes, bad.len);
    assert_int_equal(put(&rig, k, 20, false).outcome, OUTCOME_STORED); /* in the table, blind */
    assert_int_equal(put(&rig, k, 15, true).outcome, OUTCOME_SUPERSEDED);
    assert_int_equal(get(&rig, k), 20);
    rig_close(&rig);
}

/* While a load is under way reads look at disk and table: what heals must not replace a newer state
 * in the table because the disk has a damaged one. */
static void healing_beside_a_load_keeps_what_is_newer(void **state)
{
    struct fault_tampered bad;
    char name[16], value[32];
    struct store_op op;
    struct store_item item;
    struct store_done done;
    struct rig rig;
    unsigned k;

    set_up(&rig, RIG_LOG);
    tamper(&rig, TAMPER_RECORD, 1, 4, &bad);
    k = number_of_cursor(bad.bytes, bad.len);
    assert_int_equal(put(&rig, k, 20, false).outcome, OUTCOME_STORED);
    op = put_op(k == 5 ? 6 : 5, 12, name, value);
    item = (struct store_item){.token = op.token, .key = op.key, .state = op.state};
    log_shim_hold_data_sync(0);
    assert_int_equal(rig.s->ops->load(rig.s, 0, 1, &item, 1), 0);
    log_shim_wait_held();
    assert_int_equal(get(&rig, k), -ERR_CORRUPT); /* what the load brings may be newer */
    done = put(&rig, k, 15, true);
    assert_int_equal(done.outcome, OUTCOME_SUPERSEDED);
    assert_int_equal(done.version.hlc, 20);
    log_shim_let_go();
    rig_reap(&rig, 0, &done, 1);
    rig_reopen(&rig);
    assert_int_equal(get(&rig, k), 20);
    rig_close(&rig);
}

/* Nobody knows whether it is newer than the damaged one. */
static void a_load_leaves_damaged_records_alone(void **state)
{
    struct fault_tampered bad;
    char names[2][16], values[2][32];
    struct store_item items[2];
    struct rig rig;

    for (enum rig_engine engine = RIG_LMDB; engine < RIG_ENGINES; engine++) {
        unsigned k;

        set_up(&rig, engine);
        tamper(&rig, TAMPER_RECORD, 1, 5, &bad);
        k = number_of_cursor(bad.bytes, bad.len);
        for (unsigned i = 0; i < 2; i++) {
            struct store_op op = put_op(i ? k + N_KEYS * N_ZONES : k, 30, names[i], values[i]);

            items[i] = (struct store_item){.token = op.token, .key = op.key, .state = op.state};
        }
        if (items[0].token > items[1].token) {
            struct store_item first = items[1];

            items[1] = items[0];
            items[0] = first;
        }
        assert_int_equal(rig_load(&rig, items, 2), -ERR_CORRUPT);
        assert_int_equal(get(&rig, k), -ERR_CORRUPT);
        assert_int_equal(get(&rig, k + N_KEYS * N_ZONES), 30); /* the others are taken */
        rig_wipe(&rig, 0, UINT64_MAX);
        assert_int_equal(rig_load(&rig, items, 2), 0);
        assert_int_equal(get(&rig, k), 30);
        rig_close(&rig);
    }
}

/* ---- damaged keys and summaries ------------------------------------------------------------ */

/* Wherever the damaged keys seem to belong, all others are found and counted. */
static void damaged_keys_hide_nobody_from_a_scrub(void **state)
{
    enum {
        N = 8
    };
    struct fault_tampered bad[N];
    struct round *r = round_new();
    struct sums *told = sums_new();
    struct rig rig;

    for (uint64_t seed = 1; seed <= 12; seed++) {
        set_up(&rig, RIG_LOG);
        tamper(&rig, TAMPER_KEY, N, seed, bad);
        scrub_round(&rig, SLICE_BYTES * 4, r);
        assert_int_equal(r->n_errors, 0);
        assert_in_range(r->n_bad, 1, N); /* not those that hide before a zone's first record */
        assert_true(r->n_remade > 0);
        assert_in_range(r->n_records, N_KEYS - N - N, N_KEYS - N);
        sums_told(&rig, told);
        assert_int_equal(told->info.n_records, r->n_records);
        for (size_t i = 0; i < N; i++) /* nobody can know whose they were */
            assert_int_equal(get(&rig, number_of_cursor(bad[i].bytes, bad[i].len)), 0);
        scrub_round(&rig, SIZE_MAX, r);
        assert_int_equal(r->n_remade, 0);
        rig_close(&rig);
    }
    free(told);
    free(r);
}

static void a_damaged_summary_is_made_anew(void **state)
{
    struct fault_tampered near;
    struct round *r = round_new();
    struct rig rig;

    set_up(&rig, RIG_LOG);
    tamper(&rig, TAMPER_SUMMARY, 1, 1, &near);
    scrub_round(&rig, SLICE_BYTES, r);
    assert_int_equal(r->n_remade, 1);
    assert_true(r->remade[zone_of(bytes_get_be(near.bytes, 8))]);
    assert_true(sums_are_true(&rig));
    scrub_round(&rig, SLICE_BYTES, r);
    assert_int_equal(r->n_remade, 0);
    rig_reopen(&rig);
    assert_int_equal(put(&rig, number_of_cursor(near.bytes, near.len), 9, false).outcome,
                     OUTCOME_SUPERSEDED);
    rig_close(&rig);
    free(r);
}

/* A plain store that is given a log: its first summaries count what is whole. */
static void an_upgrade_counts_what_is_whole(void **state)
{
    enum {
        N = 20
    };
    struct fault_tampered bad[N];
    struct round *r = round_new();
    struct store_info info;
    struct rig rig;

    set_up(&rig, RIG_LMDB);
    tamper(&rig, TAMPER_RECORD, N, 7, bad);
    rig_stop(&rig);
    rig.engine = RIG_LOG;
    rig_start(&rig);
    assert_int_equal(rig.s->ops->vnode_info(rig.s, 0, all, &info), 0);
    assert_int_equal(info.n_records, N_KEYS - N);
    rig.s->ops->read_end(rig.s, 0);
    assert_true(sums_are_true(&rig));
    scrub_round(&rig, SLICE_BYTES, r);
    assert_int_equal(r->n_remade, 0);
    assert_int_equal(r->n_bad, N);
    heal_all(&rig, r);
    rig_reopen(&rig);
    scrub_round(&rig, SLICE_BYTES, r);
    assert_int_equal(r->n_remade + r->n_bad, 0);
    rig_close(&rig);
    free(r);
}

/* ---- a leaf that is larger than a slice ---------------------------------------------------- */

#define LEAF_KEYS 40u

static struct store_op leaf_op(unsigned i, uint64_t hlc, char name[16], char value[32])
{
    struct store_op op = put_op(i, hlc, name, value);

    op.token = 12345; /* as of one partition key with many sort keys */
    return op;
}

static void put_leaf(struct rig *rig, uint64_t hlc, unsigned first, unsigned step)
{
    char name[16], value[32];

    for (unsigned i = first; i < LEAF_KEYS; i += step) {
        struct store_op op = leaf_op(i, hlc, name, value);

        assert_int_equal(rig_do(rig, &op).error, 0);
    }
}

/* From the first record to the end of the zone, writing between the slices if asked to. */
static bool scrub_leaf(struct rig *rig, bool disturb)
{
    struct store_scrub_place at = {0};
    uint64_t hlc = 100;
    bool remade = false;

    do {
        struct store_scrub out = rig_scrub(rig, QUEUE, &at, 1);

        remade |= out.remade;
        at = out.next;
        if (disturb && at.zone == 0) {
            hlc++;
            put_leaf(rig, hlc, (unsigned)(hlc % LEAF_KEYS), LEAF_KEYS);
            rig_reopen(rig);
        }
    } while (at.zone == 0);
    return remade;
}

static void a_leaf_larger_than_a_slice_is_compared(void **state)
{
    struct fault_tampered gone;
    struct rig rig;

    rig_open(&rig, RIG_LOG, RIG_MAP_BYTES);
    put_leaf(&rig, 1, 0, 1);
    rig_reopen(&rig);
    assert_false(scrub_leaf(&rig, false));
    assert_false(scrub_leaf(&rig, true)); /* what changes under the scrub is not its business */
    tamper(&rig, TAMPER_REMOVE, 1, 1, &gone);
    assert_true(scrub_leaf(&rig, false));
    assert_false(scrub_leaf(&rig, false));
    rig_close(&rig);
}

/* ---- a disk that is full ------------------------------------------------------------------- */

static void without_room_a_summary_waits_for_the_next_time(void **state)
{
    struct fault_tampered gone;
    struct store_scrub_place at = {0};
    struct store_scrub out;
    struct rig rig;

    set_up(&rig, RIG_LOG);
    tamper(&rig, TAMPER_REMOVE, 1, 1, &gone);
    at.zone = zone_of(bytes_get_be(gone.bytes, 8));
    log_shim_fail(LOG_SHIM_DATA, 1, ENOSPC, false);
    out = rig_scrub(&rig, QUEUE, &at, SIZE_MAX);
    assert_true(log_shim_has_failed());
    assert_int_equal(out.error, -ERR_NO_SPACE);
    assert_false(out.remade);
    assert_int_equal(out.next.zone, at.zone);
    assert_true(store_scrub_at_zone(&out.next));
    log_shim_heal();
    assert_false(sums_are_true(&rig));
    at = out.next;
    out = rig_scrub(&rig, QUEUE, &at, SIZE_MAX);
    assert_int_equal(out.error, 0);
    assert_true(out.remade);
    assert_int_equal(out.next.zone, at.zone + 1);
    assert_true(sums_are_true(&rig));
    assert_int_equal(put(&rig, 1, 20, false).outcome, OUTCOME_STORED);
    rig_close(&rig);
}

/* ---- crashes ------------------------------------------------------------------------------- */

static const enum log_disk_cut cuts[] = {LOG_DISK_STRICT, LOG_DISK_RANDOM, LOG_DISK_KILLED};

static void save_store_file(const char *dir)
{
    char path[128];
    FILE *file;

    snprintf(path, sizeof(path), "%s/STORE", dir);
    file = fopen(path, "w");
    assert_non_null(file);
    fputs("quoit store 2\n", file);
    fclose(file);
}

/* As a power cut left it: it opens, whatever it says of sums is put right by a round, and no record
 * that was there is missing. */
static void check_image(const char *dir, struct round *r)
{
    struct rig rig = {.engine = RIG_LOG, .map_bytes = RIG_MAP_BYTES};

    assert_true(clean_mark_clear(dir)); /* of the image before this one */
    snprintf(rig.dir, sizeof(rig.dir), "%s", dir);
    pthread_mutex_init(&rig.lock, NULL);
    pthread_cond_init(&rig.woken, NULL);
    rig_start(&rig);
    scrub_round(&rig, SIZE_MAX, r);
    assert_int_equal(r->n_records, N_KEYS - N_KEYS / 100);
    assert_int_equal(r->n_bad + r->n_errors, 0);
    assert_true(sums_are_true(&rig));
    rig_stop(&rig);
    pthread_cond_destroy(&rig.woken);
    pthread_mutex_destroy(&rig.lock);
}

static void a_summary_is_the_old_or_the_new_one_at_every_power_cut(void **state)
{
    struct fault_tampered gone[N_KEYS / 100];
    struct log_shim_journal journal = {0};
    struct test_random random = {.s = 1};
    struct round *r = round_new();
    struct log_disk disk;
    unsigned n_images = 0, n_old = 0;
    char dir[64];
    struct rig rig;

    rig_log_beside = true;
    set_up(&rig, RIG_LOG);
    tamper(&rig, TAMPER_REMOVE, N_KEYS / 100, 1, gone);
    rig_stop(&rig);
    log_disk_load(&disk, rig.dir);
    disk.journal = &journal;
    log_shim_record(&journal, rig.dir);
    rig_start(&rig);
    scrub_round(&rig, SIZE_MAX, r);
    assert_true(r->n_remade >= 5);
    rig_stop(&rig);
    log_shim_record(NULL, NULL);
    rig_dir_make_in_memory(dir);
    save_store_file(dir);
    for (size_t at = 0; at < journal.n; at++) {
        log_disk_event(&disk, at);
        if (test_is_quick() && test_random_below(&random, 3) != 0)
            continue;
        log_disk_save(&disk, dir, cuts[test_random_below(&random, ARRAY_LEN(cuts))], 0, &random);
        check_image(dir, r);
        n_images++;
        n_old += r->n_remade > 0;
    }
    assert_true(n_images > 10 && n_old > 5 && n_old < n_images);
    log_disk_deinit(&disk);
    log_shim_journal_deinit(&journal);
    rig_dir_remove(dir);
    rig_start(&rig);
    rig_close(&rig);
    rig_log_beside = false;
    free(r);
}

/* ---- a healthy store at work --------------------------------------------------------------- */

#define WORK_TABLES_BYTES (96u << 10) /* so few that tables freeze and go to disk all the time */
#define WORK_SLICE_RECORDS 40u
#define WORK_BATCH 32u
#define WORK_LOAD 8u

struct work {
    struct rig rig;
    struct test_random random;
    struct store_scrub_place at;
    bool asked;
    uint64_t hlc, n_slices, n_records;
};

static uint64_t below(struct work *w, uint64_t n)
{
    return test_random_below(&w->random, n);
}

static uint64_t any_version(struct work *w)
{
    return below(w, 4) ? ++w->hlc : 1 + below(w, w->hlc);
}

static void work_put(struct work *w)
{
    static char names[WORK_BATCH][16], values[WORK_BATCH][32];
    struct store_op ops[WORK_BATCH];
    struct store_done done[WORK_BATCH];
    size_t n = 1 + below(w, WORK_BATCH);
    uint64_t lsn;

    for (size_t i = 0; i < n; i++) {
        ops[i] = put_op((unsigned)below(w, N_KEYS), any_version(w), names[i], values[i]);
        ops[i].heal = below(w, 4) == 0;
        if (ops[i].state.version.hlc % 7 == 0) {
            ops[i].state.deleted = true;
            ops[i].state.value = (struct slice){0};
        }
    }
    assert_int_equal(rig_submit(&w->rig, 0, ops, n, &lsn), 0);
    rig_reap(&w->rig, 0, done, n);
}

static void work_wipe(struct work *w)
{
    struct store_range range = zone_range(zone_of(test_token((unsigned)below(w, N_KEYS))));

    if (below(w, 2))
        range.last = test_token((unsigned)below(w, N_KEYS));
    if (range.first <= range.last)
        rig_wipe(&w->rig, range.first, range.last);
}

static int by_token(const void *a, const void *b)
{
    const struct store_item *x = a, *y = b;

    return x->token < y->token ? -1 : x->token > y->token;
}

static void work_load(struct work *w)
{
    char names[WORK_LOAD][16], values[WORK_LOAD][32];
    struct store_item items[WORK_LOAD];
    unsigned first = (unsigned)below(w, N_KEYS);

    for (unsigned i = 0; i < WORK_LOAD; i++) {
        uint64_t hlc = any_version(w);
        struct store_op op =
            put_op((first + i) % N_KEYS, hlc + (hlc % 7 == 0), names[i], values[i]);

        items[i] = (struct store_item){.token = op.token, .key = op.key, .state = op.state};
    }
    qsort(items, WORK_LOAD, sizeof(*items), by_token);
    assert_int_equal(rig_load(&w->rig, items, WORK_LOAD), 0);
}

/* There is always one under way. */
static void work_scrub(struct work *w)
{
    static const size_t budgets[] = {1, SLICE_BYTES, SIZE_MAX};
    const struct store_ops *ops = w->rig.s->ops;
    struct store_scrub out;

    if (w->asked && ops->scrubbed(w->rig.s, QUEUE, &out)) {
        if (out.remade || out.n_bad || out.error)
            fail_msg("zone %u: %s, %llu bad, error %d", out.zone,
                     out.remade ? "was made anew" : "as it was", (unsigned long long)out.n_bad,
                     out.error);
        w->asked = false;
        w->n_slices++;
        w->n_records += out.n_records;
        w->at = out.next;
        if (store_scrub_at_zone(&w->at)) /* most zones are empty */
            w->at.zone = zone_of(test_token((unsigned)below(w, N_KEYS)));
    }
    if (!w->asked)
        assert_int_equal(ops->scrub(w->rig.s, QUEUE, &w->at, budgets[below(w, 3)]), 0);
    w->asked = true;
}

static void work_step(struct work *w)
{
    uint64_t dice = below(w, 200);

    if (dice < 2)
        work_wipe(w);
    else if (dice < 10)
        work_load(w);
    else
        work_put(w);
    work_scrub(w);
    w->rig.s->ops->read_end(w->rig.s, 0);
    if (dice == 199 && below(w, 4) == 0) {
        rig_reopen(&w->rig);
        w->asked = false;
    }
}

static void a_store_at_work_never_disagrees(void **state)
{
    struct work w = {.random = {.s = first_seed}, .hlc = 1};

    print_message("# seed %llu\n", (unsigned long long)first_seed);
    rig_slice_records = WORK_SLICE_RECORDS;
    rig_open_with(&w.rig, RIG_LOG, RIG_MAP_BYTES, WORK_TABLES_BYTES);
    for (unsigned i = 0; i < steps; i++)
        work_step(&w);
    print_message("# %llu slices, %llu records\n", (unsigned long long)w.n_slices,
                  (unsigned long long)w.n_records);
    assert_true(w.n_slices > steps / 10 && w.n_records > steps);
    assert_true(sums_are_true(&w.rig));
    rig_close(&w.rig);
    rig_slice_records = 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_round_reads_everything_once_and_finds_nothing),
        cmocka_unit_test(one_slice_at_a_time_and_only_for_who_asked),
        cmocka_unit_test(removed_records_are_missed),
        cmocka_unit_test(records_set_back_are_missed),
        cmocka_unit_test(what_is_in_tables_is_counted_over_a_new_summary),
        cmocka_unit_test(the_highest_version_is_remembered),
        cmocka_unit_test(a_put_is_not_blind_to_what_came_from_elsewhere),
        cmocka_unit_test(damaged_records_are_named_and_healed_with_a_log),
        cmocka_unit_test(damaged_records_are_named_and_healed_plain),
        cmocka_unit_test(damaged_records_are_named_and_healed_in_the_model),
        cmocka_unit_test(sums_step_over_what_is_damaged),
        cmocka_unit_test(healing_is_a_merge_where_nothing_is_damaged),
        cmocka_unit_test(healing_beside_a_load_keeps_what_is_newer),
        cmocka_unit_test(a_load_leaves_damaged_records_alone),
        cmocka_unit_test(damaged_keys_hide_nobody_from_a_scrub),
        cmocka_unit_test(a_damaged_summary_is_made_anew),
        cmocka_unit_test(an_upgrade_counts_what_is_whole),
        cmocka_unit_test(a_leaf_larger_than_a_slice_is_compared),
        cmocka_unit_test(without_room_a_summary_waits_for_the_next_time),
        cmocka_unit_test(a_summary_is_the_old_or_the_new_one_at_every_power_cut),
        cmocka_unit_test(a_store_at_work_never_disagrees),
    };

    /* Syncs are counted here, not needed. */
    if (access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 1);
    rig_segment_bytes = SEGMENT_BYTES;
    steps = test_is_quick() ? STEPS_QUICK : STEPS;
    if (argc > 2)
        first_seed = strtoull(argv[2], NULL, 0);
    if (argc > 1) {
        const struct CMUnitTest one[] = {cmocka_unit_test(a_store_at_work_never_disagrees)};

        steps = (unsigned)strtoul(argv[1], NULL, 10);
        return cmocka_run_group_tests(one, NULL, NULL);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
