/* scrub_fold: see scrub_fold.h. */
#include "storage/scrub_fold.h"

#include "storage/bytes.h"
#include "storage/merge.h"
#include "storage/range_fold.h"
#include "storage/record.h"

void scrub_fold_begin(struct scrub_fold *f, const struct zone *told,
                      const struct store_scrub_place *from, size_t bytes_max,
                      struct store_scrub *out)
{
    *f = (struct scrub_fold){.told = told, .out = out, .at = *from, .bytes_max = bytes_max};
    f->whole = f->sure = store_scrub_at_zone(from);
    if (f->whole)
        f->at = (struct store_scrub_place){.zone = from->zone};
    else
        f->sure = told && told->leaves[from->leaf % ZONE_LEAVES] == from->leaf_told;
    f->skip = f->at.n_behind;
    f->at.n_behind = 0;
    if (f->bytes_max > STORE_SCRUB_BYTES_MAX)
        f->bytes_max = STORE_SCRUB_BYTES_MAX;
    out->zone = from->zone;
    out->error = 0;
    out->n_records = out->n_bytes = out->n_bad = 0;
    out->n_named = 0;
    out->remade = false;
}

bool scrub_fold_is_full(const struct scrub_fold *f)
{
    return f->bytes > 0 && (f->bytes >= f->bytes_max || f->out->n_named == STORE_SCRUB_BAD_MAX);
}

/* All leaves before this one have been counted. */
static void close_leaves(struct scrub_fold *f, uint32_t before)
{
    for (; f->at.leaf < before; f->at.leaf++) {
        if (f->told && f->sure && f->told->leaves[f->at.leaf] != f->at.leaf_counted)
            f->at.differs = true;
        f->at.leaf_counted = 0;
        f->sure = true;
    }
}

/* Of what is damaged or out of order: whether it is new. */
static bool pass_behind(struct scrub_fold *f, struct slice store_key)
{
    f->at.n_behind++;
    if (f->skip > 0) {
        f->skip--;
        return false;
    }
    f->bytes += store_key.len + RECORD_HEADER_BYTES;
    return true;
}

void scrub_fold_misplaced(struct scrub_fold *f, struct slice store_key, bool damaged)
{
    f->at.differs = true; /* reads may miss it, or others because of it */
    f->out->n_bad += pass_behind(f, store_key) && damaged;
}

void scrub_fold_bad(struct scrub_fold *f, struct slice store_key)
{
    struct store_scrub *out = f->out;

    if (!pass_behind(f, store_key))
        return;
    out->n_bad++;
    if (out->n_named < STORE_SCRUB_BAD_MAX && store_key.len <= STORE_CURSOR_BYTES_MAX) {
        struct store_scrub_bad *bad = &out->bad[out->n_named++];

        bad->len = store_key.len;
        memcpy(bad->cursor, store_key.data, store_key.len);
    }
}

void scrub_fold_record(struct scrub_fold *f, struct slice store_key, uint64_t token,
                       const struct key *key, const struct state *state)
{
    uint32_t leaf = (uint32_t)(range_leaf(token) % ZONE_LEAVES);

    if (zone_of(token) != f->at.zone || leaf < f->at.leaf) { /* not in the order of the place */
        scrub_fold_misplaced(f, store_key, false);
        return;
    }
    close_leaves(f, leaf);
    f->at.leaf_counted ^= merge_digest(key, state);
    f->counted.n_records++;
    f->counted.n_tombstones += state->deleted;
    f->counted.n_bytes += key->partition.len + key->sort.len + state->value.len;
    if (version_compare(state->version, f->counted.max_version) > 0)
        f->counted.max_version = state->version;
    f->bytes += store_key.len + RECORD_HEADER_BYTES + state->value.len;
    f->skip = f->at.n_behind = 0;
    f->at.after_len = store_key.len;
    memcpy(f->at.after, store_key.data, store_key.len);
}

static bool counts_differ(const struct scrub_fold *f)
{
    const struct store_info *told = &f->told->info, *counted = &f->counted;

    return told->n_records != counted->n_records || told->n_tombstones != counted->n_tombstones ||
           told->n_bytes != counted->n_bytes ||
           version_compare(counted->max_version, told->max_version) > 0;
}

static struct store_scrub_place zone_after(uint32_t zone)
{
    return (struct store_scrub_place){.zone = (zone + 1) % ZONES};
}

bool scrub_fold_end(struct scrub_fold *f, bool zone_has_ended)
{
    struct store_scrub *out = f->out;

    out->n_records = f->counted.n_records;
    out->n_bytes = f->counted.n_bytes;
    if (!zone_has_ended) {
        f->at.leaf_told = f->told ? f->told->leaves[f->at.leaf] : 0;
        if (!f->sure) /* says something that no summary will */
            f->at.leaf_told = ~f->at.leaf_told;
        if (f->at.after_len == 0) { /* nothing whole yet */
            f->at.after_len = 8;
            bytes_put_token(f->at.after, zone_range(f->at.zone).first);
        }
        out->next = f->at;
        return false;
    }
    close_leaves(f, ZONE_LEAVES);
    if (f->told && f->whole && counts_differ(f))
        f->at.differs = true;
    out->next = zone_after(f->at.zone);
    return f->at.differs;
}

void scrub_fold_fail(struct store_scrub *out, const struct store_scrub_place *from, int error)
{
    bool damage = error == -ERR_CORRUPT || error == -ERR_FORMAT;

    out->error = error;
    out->next = damage ? zone_after(from->zone) : (struct store_scrub_place){.zone = from->zone};
}
