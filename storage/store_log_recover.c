/* store_log_recover: what the last process left in the log.
 *
 * Every record after the applied sequence number goes into the tables again, merged by version, as
 * it did the first time; that some of them are on disk already does no harm, for the apply decides
 * by version too, and reads look at both until then. What passes had behind them (pass_place)
 * is left where it is, on disk: its memory had been given to others. A wipe hides the entries
 * before it, whether it is done on disk or not; one that is done (its number is in the zone's
 * summary) does not hide what the disk holds, for that came later. The number of workers may have
 * changed: tables are chosen by token.
 *
 * The log's id is written into the data file before anything is appended, so a log and a data file
 * that do not belong together are refused.
 */
#include "storage/store_log_impl.h"

#include <stdio.h>
#include <stdlib.h>

#include "storage/bytes.h"
#include "storage/clean_mark.h"
#include "storage/fault_guard.h"

struct recovery {
    struct store_log *s;
};

static void note_entry(struct part *p, uint64_t lsn)
{
    if (atomic_load(&p->active_first) == LSN_NONE)
        atomic_store(&p->active_first, lsn);
    atomic_store(&p->active_last, lsn);
    p->active->lsn_last = lsn;
    atomic_store(&p->bytes, p->active->disk_bytes);
    /* The disk may hold something newer: a load, which the log knows nothing of. */
    p->loaded_lsn = lsn;
    atomic_store(&p->unsettled, lsn);
}

static int replay_state(struct recovery *rec, uint64_t seq, uint64_t lsn, struct slice payload)
{
    struct store_log *s = rec->s;
    const struct memtable_entry *e;
    struct version *max;
    struct slice store_key = {0};
    struct table_need need = {0};
    struct state state = {0};
    struct part *p;
    struct key key;
    uint64_t token = 0;
    int r = log_record_state_decode(payload, &store_key, &state);

    if (r == 0)
        r = store_key_decode(store_key, &token, &key);
    if (r < 0)
        return r;
    p = &s->parts[part_of(s, token)];
    max = &s->zone_max[zone_of(token)];
    if (version_compare(state.version, *max) > 0)
        *max = state.version;
    if (pass_place_is_behind(&s->apply.pass.place, token, seq))
        return 0;
    if (p->active->n_wipes > 0 && table_find(p->active, token, store_key, &e) == 1 &&
        version_compare(e->version, state.version) >= 0)
        return 0;
    table_need_add(&need, token, store_key.len + state.value.len);
    r = table_reserve(p->active, &need);
    if (r < 0)
        return r;
    if (p->active->n_wipes > 0)
        table_put(p->active, store_key, &state, lsn, NULL);
    else if (!table_put_newer(p->active, store_key, &state, lsn))
        return 0;
    p->active->disk_bytes += table_disk_bytes(store_key.len, state.value.len);
    note_entry(p, lsn);
    return 0;
}

static int replay_wipe(struct recovery *rec, uint64_t lsn, struct slice payload)
{
    struct store_log *s = rec->s;
    struct store_range range;
    uint64_t number;
    int r = log_record_wipe_decode(payload, &range, &number);

    if (r == 0 && range.first > range.last)
        r = -ERR_CORRUPT;
    if (r < 0)
        return r;
    if (number > atomic_load(&s->wipe_number))
        atomic_store(&s->wipe_number, number);
    for (uint32_t z = zone_of(range.first); r == 0 && z <= zone_of(range.last); z++) {
        struct store_range zone = zone_range(z);
        struct part *p = &s->parts[part_of(s, zone.first)];

        if (s->zone_wiped[z] == WIPE_UNKNOWN)
            return -ERR_CORRUPT; /* once more, it might take what was loaded since */
        zone.first = zone.first > range.first ? zone.first : range.first;
        zone.last = zone.last < range.last ? zone.last : range.last;
        r = table_wipe(p->active, zone, lsn, number, number <= s->zone_wiped[z]);
        if (r == 0)
            note_entry(p, lsn);
    }
    return r;
}

static int on_record(void *ctx, struct log_pos pos, uint64_t lsn, uint8_t type,
                     struct slice payload)
{
    struct recovery *rec = ctx;
    struct slice name, value;
    int r;

    switch ((enum log_type)type) {
    case LOG_STATE:
        return replay_state(rec, pos.seq, lsn, payload);
    case LOG_FACT:
        r = log_record_fact_decode(payload, &name, &value);
        return r < 0 ? r : facts_replay(rec->s, name, value, lsn);
    case LOG_WIPE:
        return replay_wipe(rec, lsn, payload);
    }
    return -ERR_FORMAT;
}

/* ---- what the data file says --------------------------------------------------------------- */

static int read_number(struct store_log *s, const char *name, uint64_t *ret)
{
    struct slice value;
    int r = lmdb_env_fact(&s->env, 0, slice_str(name), &value);

    *ret = 0;
    if (r != 0)
        return r < 0 ? r : 0;
    if (value.len != 8)
        return -ERR_CORRUPT;
    *ret = bytes_get_le(value.data, 8);
    return 0;
}

static int read_place(struct store_log *s)
{
    struct slice value;
    int r = lmdb_env_fact(&s->env, 0, slice_str(META_NAME_PLACE), &value);

    return r == 0 ? pass_place_decode(value, &s->apply.pass.place) : r < 0 ? r : 0;
}

/* A summary that cannot be read is made anew when its zone is written next; until then nothing in
 * it is taken for new. */
static int read_zone(struct recovery *rec, uint32_t number)
{
    struct store_log *s = rec->s;
    struct store_info info;
    struct slice bytes;
    uint64_t wiped = 0;
    int r = lmdb_env_zone(&s->env, 0, number, &bytes);

    if (r != 0)
        return r < 0 ? r : 0;
    r = zone_decode_info(bytes, number, &info, &wiped);
    if (r == -ERR_CORRUPT) {
        s->zone_max[number] = (struct version){UINT64_MAX, UINT64_MAX};
        s->zone_wiped[number] = WIPE_UNKNOWN;
        return 0;
    }
    if (r < 0)
        return r;
    s->zone_max[number] = info.max_version;
    atomic_store_explicit(&s->zone_tombstones[number], info.n_tombstones, memory_order_relaxed);
    s->zone_wiped[number] = wiped;
    if (wiped > atomic_load(&s->wipe_number))
        atomic_store(&s->wipe_number, wiped);
    return 0;
}

static int read_all(struct recovery *rec)
{
    struct store_log *s = rec->s;
    int r = lmdb_snapshot_next(&s->env, 0);

    if (r < 0)
        return r;
    r = read_number(s, META_NAME_LOG_ID, &s->log_id);
    if (r == 0)
        r = read_number(s, META_NAME_APPLIED, &s->applied_seq);
    if (r == 0)
        r = read_place(s);
    for (uint32_t z = 0; r == 0 && z < ZONES; z++)
        r = read_zone(rec, z);
    lmdb_snapshots_end(&s->env, 0);
    return r;
}

static int put_log_id(struct store_log *s, uint64_t id)
{
    struct lmdb_txn t;
    int rc = lmdb_txn_begin(&s->env, &t);

    if (rc != 0)
        return rc;
    rc = lmdb_txn_number_put(&t, META_NAME_LOG_ID, id);
    if (rc == 0)
        return lmdb_txn_commit(&t);
    lmdb_txn_abort(&t);
    return rc;
}

static int write_log_id(struct store_log *s, uint64_t id)
{
    int rc;

    fault_guard_enter();
    rc = put_log_id(s, id);
    fault_guard_leave();
    return lmdb_err(rc);
}

static int recover(struct recovery *rec, const struct log_options *options, char *why)
{
    struct store_log *s = rec->s;
    struct log_replay replay = {.record = on_record, .ctx = rec};
    char log_why[LOG_WHY_BYTES] = "";
    uint64_t id;
    int r = read_all(rec);

    if (r < 0) {
        snprintf(why, STORE_WHY_BYTES, "store %.200s: its own facts cannot be read", s->dir);
        return r;
    }
    replay.log_id = s->log_id;
    replay.applied_seq = s->applied_seq;
    replay.known_seq = pass_place_last(&s->apply.pass.place);
    clean_mark_read(s->dir, s->log_id, &replay.last);
    r = log_open(options, &replay, &s->log, &id, log_why);
    if (r < 0) {
        snprintf(why, STORE_WHY_BYTES, "store %.150s: %.340s", s->dir, log_why);
        return r;
    }
    r = s->log_id ? 0 : write_log_id(s, id);
    if (r < 0)
        snprintf(why, STORE_WHY_BYTES, "store %.200s: cannot write the id of its log", s->dir);
    s->log_id = id;
    if (r == 0 && !clean_mark_clear(s->dir)) { /* before anything is appended */
        snprintf(why, STORE_WHY_BYTES, "store %.200s: cannot remove " CLEAN_MARK_NAME " from it",
                 s->dir);
        r = -ERR_IO;
    }
    return r;
}

int store_log_recover(struct store_log *s, const struct log_options *log, char *why)
{
    struct recovery rec = {.s = s};

    return recover(&rec, log, why);
}
