/* memtable: recent records in memory, in the order of store keys (storage/record.h).
 *
 * A B+tree with wide nodes over entries in an arena. One thread writes and reads it while it is
 * active; frozen (nobody writes any more) it may be read by any number of threads without a lock,
 * once it was handed to them with a barrier. Entries are never moved or freed before the whole
 * table is, so what a reader was lent stays good although its key is written again.
 *
 * Keys are whole store keys: 14 .. STORE_KEY_BYTES_MAX bytes, the first eight the token.
 */
#ifndef QUOIT_STORAGE_MEMTABLE_H
#define QUOIT_STORAGE_MEMTABLE_H

#include "proto/state.h"

/* Values of at least this many bytes that lie in a blob are referenced, smaller ones copied: a
 * reference to a small value would keep a whole receive buffer alive. */
#define MEMTABLE_REF_BYTES_MIN 4096u

struct memtable;

/* One record, immutable. */
struct memtable_entry {
    struct version version;
    uint64_t lsn; /* which made it */
    const uint8_t *value;
    uint32_t value_len;
    uint16_t key_len;
    uint8_t kind; /* enum state_kind */
    bool deleted;
    uint8_t key[]; /* the store key; a copied value lies behind it */
};

/* Where a walk stands; entry NULL: past the end. Ends when the table is written. */
struct memtable_iter {
    const struct memtable_entry *entry;
    const void *leaf;
    uint32_t index;
};

struct memtable *memtable_new(void); /* or NULL */
/* Entries, and the references to blobs that they hold. Accepts NULL. */
void memtable_free(struct memtable *m);

/* Makes sure that `n` puts with `bytes` of keys and copied values in all will find memory. 0, or
 * -ERR_NO_MEMORY: the table is as it was. */
int memtable_reserve(struct memtable *m, size_t n, size_t bytes);
/* Sets the record of the key, whatever was there before (merging is the caller's). Never fails
 * within what was reserved; asserts otherwise. owner: the blob in which state->value lies, of which
 * a reference is taken if the value is large enough, or NULL. */
const struct memtable_entry *memtable_put(struct memtable *m, struct slice store_key,
                                          const struct state *state, uint64_t lsn,
                                          struct blob *owner);
/* The same, copied, unless the key has this version or a higher one: then NULL, and nothing is
 * done. */
const struct memtable_entry *memtable_put_newer(struct memtable *m, struct slice store_key,
                                                const struct state *state, uint64_t lsn);
const struct memtable_entry *memtable_get(const struct memtable *m, struct slice store_key);

/* The first entry whose key is not below `from` (any bytes; empty: the first of all). */
void memtable_seek(const struct memtable *m, struct slice from, struct memtable_iter *ret);
void memtable_next(struct memtable_iter *it);

size_t memtable_count(const struct memtable *m);
/* What it costs: its arena as far as used, superseded entries included, and referenced values. */
size_t memtable_bytes(const struct memtable *m);

static inline struct slice memtable_key(const struct memtable_entry *e)
{
    return slice_of(e->key, e->key_len);
}

static inline struct state memtable_state(const struct memtable_entry *e)
{
    return (struct state){.kind = e->kind,
                          .deleted = e->deleted,
                          .version = e->version,
                          .value = slice_of(e->value, e->value_len)};
}

#endif
