/* fault_tamper: see fault_tamper.h.
 *
 * Whole records are changed in a transaction of LMDB's, as its tools would. Bits are flipped in the
 * file itself, after the environment has been closed: where a key or a record lies in the map is
 * where it lies in the file.
 */
#include "tests/model/fault_tamper.h"

#include <fcntl.h>
#include <inttypes.h>
#include <lmdb.h>
#include <stdio.h>
#include <unistd.h>

#include "storage/bytes.h"
#include "storage/zone.h"

#define MAP_BYTES (64ull << 30) /* room for any store that tests make */

struct tamper {
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi kv, zones;
    const char *dir;
    int fd; /* the data file */
};

static void begin(struct tamper *t, const char *dir)
{
    char path[160];

    *t = (struct tamper){.dir = dir};
    snprintf(path, sizeof(path), "%.120s/data.mdb", dir);
    t->fd = open(path, O_RDWR);
    assert_true(t->fd >= 0);
    assert_int_equal(mdb_env_create(&t->env), 0);
    assert_int_equal(mdb_env_set_maxdbs(t->env, 4), 0);
    assert_int_equal(mdb_env_set_mapsize(t->env, MAP_BYTES), 0);
    assert_int_equal(mdb_env_open(t->env, dir, 0, 0600), 0);
    assert_int_equal(mdb_txn_begin(t->env, NULL, 0, &t->txn), 0);
    assert_int_equal(mdb_dbi_open(t->txn, "kv", 0, &t->kv), 0);
    if (mdb_dbi_open(t->txn, "zones", 0, &t->zones) != 0)
        t->zones = 0; /* a plain store */
}

static void commit(struct tamper *t)
{
    assert_int_equal(mdb_txn_commit(t->txn), 0);
    mdb_env_close(t->env);
    close(t->fd);
}

static MDB_val val_of(const struct fault_tampered *key)
{
    return (MDB_val){.mv_size = key->len, .mv_data = (void *)(uintptr_t)key->bytes};
}

/* Where these bytes of the map lie in the file. LMDB does not tell where its map is. */
static off_t offset_of(const struct tamper *t, const void *bytes)
{
    uintptr_t at = (uintptr_t)bytes, first, end;
    char line[512], *path;
    FILE *maps = fopen("/proc/self/maps", "r");
    off_t offset = -1;

    assert_non_null(maps);
    while (offset < 0 && fgets(line, sizeof(line), maps)) {
        path = strchr(line, '/');
        if (path && strstr(path, t->dir) && strstr(path, "data.mdb") &&
            sscanf(line, "%" SCNxPTR "-%" SCNxPTR, &first, &end) == 2 && at >= first && at < end)
            offset = (off_t)(at - first);
    }
    fclose(maps);
    assert_true(offset >= 0);
    return offset;
}

/* ---- what may be done ---------------------------------------------------------------------- */

static void put_other(struct tamper *t, const struct fault_tampered *key, MDB_val record,
                      bool newer)
{
    static const char value[] = "put behind the store's back";
    uint8_t bytes[RECORD_HEADER_BYTES + sizeof(value)];
    struct slice store_key = slice_of(key->bytes, key->len);
    MDB_val k = val_of(key), v = {.mv_size = sizeof(bytes), .mv_data = bytes};
    struct state state;

    assert_int_equal(record_decode(store_key, slice_of(record.mv_data, record.mv_size), &state), 0);
    assert_true(state.version.hlc > 0);
    state.version.hlc += newer ? TAMPER_ON : (uint64_t)-1;
    state.deleted = false;
    state.value = slice_of((const uint8_t *)value, sizeof(value));
    record_header_encode(store_key, &state, bytes);
    memcpy(bytes + RECORD_HEADER_BYTES, value, sizeof(value));
    assert_int_equal(mdb_put(t->txn, t->kv, &k, &v, 0), 0);
}

/* A byte of the file that is to be changed. */
struct change {
    off_t at; /* -1: it is done */
    uint8_t keep, turn;
};

/* LMDB's header of an entry in a leaf page: lengths and flags of two bytes, then the key. */
#define NODE_FLAGS (-4)
#define NODE_KEY_LENGTH (-2)
#define NODE_OWN_PAGES 0x01u

static struct change tamper_with(struct tamper *t, enum fault_tampering what,
                                 const struct fault_tampered *key, struct test_random *random)
{
    struct change c = {-1, 0xff, (uint8_t)(1u << test_random_below(random, 8))};
    MDB_val k = val_of(key), v, zone_k;
    uint8_t zone[4];
    MDB_cursor *cursor;

    assert_int_equal(mdb_cursor_open(t->txn, t->kv, &cursor), 0);
    assert_int_equal(mdb_cursor_get(cursor, &k, &v, MDB_SET_KEY), 0);
    switch (what) {
    case TAMPER_REMOVE:
        assert_int_equal(mdb_cursor_del(cursor, 0), 0);
        break;
    case TAMPER_SET_BACK:
    case TAMPER_SET_ON:
        put_other(t, key, v, what == TAMPER_SET_ON);
        break;
    case TAMPER_RECORD:
        c.at = offset_of(t, v.mv_data) + (off_t)test_random_below(random, v.mv_size);
        break;
    case TAMPER_KEY:
        c.at = offset_of(t, k.mv_data) + (off_t)test_random_below(random, k.mv_size);
        break;
    case TAMPER_KEY_AWAY:
        c = (struct change){offset_of(t, k.mv_data), 0xff, 0x80};
        break;
    case TAMPER_KEY_LENGTH:
        c = (struct change){offset_of(t, k.mv_data) + NODE_KEY_LENGTH, 0, 0};
        break;
    case TAMPER_PLACE:
        c = (struct change){offset_of(t, k.mv_data) + NODE_FLAGS, 0xff, NODE_OWN_PAGES};
        break;
    case TAMPER_SUMMARY:
        bytes_put_be(zone, zone_of(bytes_get_be(key->bytes, 8)), sizeof(zone));
        zone_k = (MDB_val){.mv_size = sizeof(zone), .mv_data = zone};
        assert_int_equal(mdb_get(t->txn, t->zones, &zone_k, &v), 0);
        c.at = offset_of(t, v.mv_data) + (off_t)test_random_below(random, v.mv_size);
        break;
    }
    mdb_cursor_close(cursor);
    return c;
}

static void change(const struct tamper *t, const struct change *c)
{
    uint8_t byte;

    assert_int_equal(pread(t->fd, &byte, 1, c->at), 1);
    byte = (byte & c->keep) ^ c->turn;
    assert_int_equal(pwrite(t->fd, &byte, 1, c->at), 1);
}

static void tamper_all(struct tamper *t, enum fault_tampering what, size_t n,
                       struct test_random *random, const struct fault_tampered *keys)
{
    struct change *changes = calloc(n, sizeof(*changes));

    assert_non_null(changes);
    for (size_t i = 0; i < n; i++)
        changes[i] = tamper_with(t, what, &keys[i], random);
    for (size_t i = 0; i < n; i++)
        if (changes[i].at >= 0)
            change(t, &changes[i]);
    free(changes);
}

/* ---- whom ---------------------------------------------------------------------------------- */

/* n of all keys, each choice as likely as any other. */
static void pick(struct tamper *t, size_t n, struct test_random *random, struct fault_tampered *out)
{
    MDB_cursor *cursor;
    MDB_val k, v;
    size_t seen = 0;

    assert_int_equal(mdb_cursor_open(t->txn, t->kv, &cursor), 0);
    for (; mdb_cursor_get(cursor, &k, &v, MDB_NEXT) == 0; seen++) {
        size_t i = seen < n ? seen : (size_t)test_random_below(random, seen + 1);

        if (i >= n)
            continue;
        out[i].len = k.mv_size;
        memcpy(out[i].bytes, k.mv_data, k.mv_size);
    }
    mdb_cursor_close(cursor);
    assert_true(seen >= n);
}

void fault_tamper(const char *dir, enum fault_tampering what, size_t n, struct test_random *random,
                  struct fault_tampered *out)
{
    struct tamper t;

    begin(&t, dir);
    pick(&t, n, random, out);
    tamper_all(&t, what, n, random, out);
    commit(&t);
}

void fault_tamper_these(const char *dir, enum fault_tampering what, size_t n,
                        struct test_random *random, const struct fault_tampered *these)
{
    struct tamper t;

    begin(&t, dir);
    tamper_all(&t, what, n, random, these);
    commit(&t);
}

void fault_tamper_one(const char *dir, enum fault_tampering what, struct slice store_key,
                      struct test_random *random)
{
    struct fault_tampered one = {.len = store_key.len};

    memcpy(one.bytes, store_key.data, store_key.len);
    fault_tamper_these(dir, what, 1, random, &one);
}
