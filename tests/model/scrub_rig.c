/* scrub_rig: see scrub_rig.h. */
#include "tests/model/scrub_rig.h"

#include <stdio.h>
#include <stdlib.h>

#include "storage/range_fold.h"
#include "storage/zone.h"

/* ---- keys ---------------------------------------------------------------------------------- */

struct key scrub_key(unsigned i, char name[16])
{
    snprintf(name, 16, "key-%u", i);
    return rig_key(slice_str(name));
}

uint64_t scrub_token(unsigned i)
{
    char name[16];
    uint64_t token = rig_token(scrub_key(i, name).partition);

    return token >> ZONE_BITS | (uint64_t)(i % SCRUB_KEY_ZONES * (ZONES / SCRUB_KEY_ZONES))
                                    << (64 - ZONE_BITS);
}

unsigned scrub_number(const struct key *key)
{
    char name[16];

    snprintf(name, sizeof(name), "%.*s", (int)key->partition.len,
             (const char *)key->partition.data);
    return (unsigned)strtoul(name + strlen("key-"), NULL, 10);
}

/* The value tells its version. */
struct store_op scrub_put_op(unsigned i, uint64_t hlc, char name[16], char value[32])
{
    snprintf(value, 32, "value %u of %llu", i, (unsigned long long)hlc);
    return (struct store_op){.type = STORE_OP_MERGE,
                             .token = scrub_token(i),
                             .key = scrub_key(i, name),
                             .state = {.kind = STATE_LWW,
                                       .version = {.hlc = hlc, .actor = 7},
                                       .value = slice_str(value)}};
}

struct store_done scrub_put(struct rig *rig, unsigned i, uint64_t hlc, bool heal)
{
    char name[16], value[32];
    struct store_op op = scrub_put_op(i, hlc, name, value);

    op.heal = heal;
    return rig_do(rig, &op);
}

void scrub_put_all(struct rig *rig, uint64_t hlc)
{
    enum {
        BATCH = 50
    };
    static char names[BATCH][16], values[BATCH][32];
    struct store_op ops[BATCH];
    struct store_done done[BATCH];
    uint64_t lsn;

    for (unsigned i = 0; i < SCRUB_KEYS; i += BATCH) {
        for (unsigned k = 0; k < BATCH; k++)
            ops[k] = scrub_put_op(i + k, hlc, names[k], values[k]);
        assert_int_equal(rig_submit(rig, 0, ops, BATCH, &lsn), 0);
        rig_reap(rig, 0, done, BATCH);
    }
}

/* 0 absent, its version, or negative. */
int64_t scrub_get(struct rig *rig, unsigned i)
{
    char name[16];
    struct key key = scrub_key(i, name);
    struct state st;
    uint64_t lsn;
    int r = rig->s->ops->get(rig->s, 0, scrub_token(i), &key, &st, &lsn);
    int64_t found = r < 0 ? r : st.kind == STATE_NONE ? 0 : (int64_t)st.version.hlc;

    rig->s->ops->read_end(rig->s, 0);
    return found;
}

unsigned scrub_number_at(const uint8_t *bytes, size_t len)
{
    uint64_t token;
    struct key key;

    assert_int_equal(store_cursor_decode(slice_of(bytes, len), &token, &key), 0);
    assert_true(token == scrub_token(scrub_number(&key)));
    return scrub_number(&key);
}

/* ---- once around --------------------------------------------------------------------------- */

static void round_add(struct scrub_round *r, const struct store_scrub *out)
{
    r->n_slices++;
    r->n_records += out->n_records;
    r->n_bytes += out->n_bytes;
    r->n_bad += out->n_bad;
    r->n_errors += out->error != 0;
    r->visited[out->zone] = true;
    r->n_remade += out->remade;
    r->remade[out->zone] |= out->remade;
    for (size_t i = 0; i < out->n_named && r->n_named < SCRUB_KEYS; i++)
        r->named[r->n_named++] = out->bad[i];
}

void scrub_round_run(struct rig *rig, size_t bytes_max, struct scrub_round *ret)
{
    struct store_scrub_place at = {0};

    memset(ret, 0, sizeof(*ret));
    do {
        struct store_scrub out = rig_scrub(rig, SCRUB_QUEUE, &at, bytes_max);

        assert_true(out.n_records <= 2 + bytes_max / RECORD_HEADER_BYTES);
        round_add(ret, &out);
        at = out.next;
    } while (at.zone != 0 || !store_scrub_at_zone(&at));
    for (uint32_t z = 0; z < ZONES; z++)
        assert_true(ret->visited[z]);
}

struct scrub_round *scrub_round_new(void)
{
    struct scrub_round *r = calloc(1, sizeof(*r));

    assert_non_null(r);
    return r;
}

/* ---- what the sums say, and what is there -------------------------------------------------- */

struct scrub_sums *scrub_sums_new(void)
{
    struct scrub_sums *s = calloc(1, sizeof(*s));

    assert_non_null(s);
    return s;
}

const struct store_range scrub_all = {0, UINT64_MAX};

void scrub_sums_told(struct rig *rig, struct scrub_sums *ret)
{
    uint64_t lsn;

    assert_int_equal(rig->s->ops->vnode_info(rig->s, 0, scrub_all, &ret->info), 0);
    assert_int_equal(rig->s->ops->leaves(rig->s, 0, scrub_all, ret->leaves, &lsn), 0);
    rig->s->ops->read_end(rig->s, 0);
}

/* By a scan that steps over what is damaged. */
static void sums_counted(struct rig *rig, struct scrub_sums *ret)
{
    struct wire_record items[64];
    struct store_page page = {.items = items, .cap = ARRAY_LEN(items)};
    struct range_fold f;
    int r;

    range_fold_init(&f, scrub_all, ret->leaves);
    do {
        r = rig->s->ops->scan(rig->s, 0, scrub_all, slice_of(page.cursor, page.cursor_len), 1 << 16,
                              &page);
        for (size_t i = 0; r == 0 && i < page.n; i++)
            range_fold_add(&f, scrub_token(scrub_number(&items[i].key)), &items[i].key,
                           &items[i].state, 0);
        rig->s->ops->read_end(rig->s, 0);
    } while (page.cursor_len && (r == -ERR_CORRUPT || (r == 0 && page.more)));
    ret->info = f.info;
}

bool scrub_sums_agree(const struct scrub_sums *a, const struct scrub_sums *b)
{
    return a->info.n_records == b->info.n_records && a->info.n_tombstones == b->info.n_tombstones &&
           a->info.n_bytes == b->info.n_bytes &&
           memcmp(a->leaves, b->leaves, sizeof(a->leaves)) == 0;
}

bool scrub_sums_are_true(struct rig *rig)
{
    struct scrub_sums *told = scrub_sums_new(), *counted = scrub_sums_new();
    bool same;

    scrub_sums_told(rig, told);
    sums_counted(rig, counted);
    same = scrub_sums_agree(told, counted);
    free(told);
    free(counted);
    return same;
}

void scrub_set_up(struct rig *rig, enum rig_engine engine)
{
    rig_open(rig, engine, RIG_MAP_BYTES);
    scrub_put_all(rig, 10);
    if (engine != RIG_MEM)
        rig_reopen(rig); /* all of it is in the data file */
}

void scrub_tamper(struct rig *rig, enum fault_tampering what, size_t n, uint64_t seed,
                  struct fault_tampered *out)
{
    struct test_random random = {.s = seed};

    rig_stop(rig);
    fault_tamper(rig->dir, what, n, &random, out);
    rig_start(rig);
}
