/* scrub_fold: one slice of a scrub (store.h): records on one side, a zone's summary on the other.
 *
 *   begin --> record, bad, record, ... --> end      next slice --> begin ...
 *
 * Records come in key order, so at any moment one leaf is being counted, those before it are
 * compared. A leaf may be larger than a slice and than what one snapshot should be held for: then
 * the place carries what was counted of it and what the summary said of it. If the next slice, from
 * a later snapshot, finds the same said of it, its records are the same too (a leaf is a digest of
 * them) and the count goes on; if not, this leaf is not compared this time.
 *
 * A place is that of a whole record in order, which a search finds again, and a number of others
 * behind it: from slice to slice the one grows or the other does, so damaged keys lead nobody in a
 * circle.
 *
 * The counts of a zone are compared only by a slice that read all of it. They cannot be wrong while
 * the leaves are right, unless by a mistake of ours. Pure.
 */
#ifndef QUOIT_STORAGE_SCRUB_FOLD_H
#define QUOIT_STORAGE_SCRUB_FOLD_H

#include "storage/zone.h"

struct scrub_fold {
    const struct zone *told; /* NULL: nothing to compare with */
    struct store_scrub *out;
    struct store_scrub_place at;
    struct store_info counted; /* by this slice */
    size_t bytes, bytes_max;
    uint32_t skip; /* records behind the place that were told before */
    bool whole;    /* from the beginning of the zone */
    bool sure;     /* the leaf at hand was counted from one state of it */
};

/* Empties *out. told: the summary in the snapshot of this slice; NULL: the engine has none, or it
 * is damaged (then the caller sets at.differs). All pointers are kept until the end. */
void scrub_fold_begin(struct scrub_fold *f, const struct zone *told,
                      const struct store_scrub_place *from, size_t bytes_max,
                      struct store_scrub *out);
/* The slice has what it was asked for: go on after the last record that it was given. */
bool scrub_fold_is_full(const struct scrub_fold *f);
/* The next record of the zone, whole. */
void scrub_fold_record(struct scrub_fold *f, struct slice store_key, uint64_t token,
                       const struct key *key, const struct state *state);
/* The next one, which fails its checksum. */
void scrub_fold_bad(struct scrub_fold *f, struct slice store_key);
/* The next one, which is out of order, whole or damaged. */
void scrub_fold_misplaced(struct scrub_fold *f, struct slice store_key, bool damaged);
/* Sets out->next. Returns whether the zone has ended with a summary that is not that of its
 * records; out->next is then at the next zone. */
bool scrub_fold_end(struct scrub_fold *f, bool zone_has_ended);
/* Instead of that: the slice cannot go on. What is damaged is left out, else it is for later. */
void scrub_fold_fail(struct store_scrub *out, const struct store_scrub_place *from, int error);

#endif
