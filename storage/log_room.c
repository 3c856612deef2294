/* log_room: a promise about space, kept by counting.
 *
 * Groups go into one stretch of ready blocks after the other: the rest of the head, then each free
 * segment. A group never straddles two, so the end of a stretch may stay unused. Lists are cut into
 * atoms when they are filled: whole lists that fit one group, or pieces of a larger one; a group is
 * one atom or several that fit together, and the log thread takes fewer of them rather than leave
 * a stretch. So
 *
 *   - what a list takes is at most the sum of its atoms, each with a header and rounded up: charge;
 *   - what a stretch loses is less than the atom that did not fit any more.
 *
 * With w = largest atom - 1 block, everything charged fits if it is at most
 *
 *     sum of max(0, stretch - w) over all stretches but the last, + the last.
 *
 * Proof: an atom that fits nowhere did not fit the last stretch either, so what lies in that plus
 * the atom is more than it; and each stretch before lost at most w. Placing a group takes as much
 * from the sum as from the charges, or less; giving up a stretch takes nothing, since its rest is
 * at most w. Another free segment anywhere only adds. So what held when something was admitted
 * holds until it is written.
 *
 * Pieces of a list of b bytes: two neighbours together exceed a piece's maximum m, so there are at
 * most 2b/m + 1, each with a header and up to a block of padding.
 *
 * The largest atom outstanding is known by classes (powers of two of blocks): a single large record
 * counts as long as it, or something about as large, is outstanding.
 */
#include "storage/log_room.h"
#include "storage/log_group.h"

#include <assert.h>

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static uint64_t blocks_down(uint64_t bytes)
{
    return bytes / LOG_BLOCK_BYTES * LOG_BLOCK_BYTES;
}

void log_room_init(struct log_room *r, uint32_t segment_bytes)
{
    uint64_t half = blocks_down(segment_bytes / 2);
    uint64_t largest = log_group_disk_bytes(LOG_RECORD_HEADER_BYTES + LOG_RECORD_BYTES_MAX);

    *r = (struct log_room){0};
    r->limits = (struct log_room_limits){
        .group_bytes = min_u64(LOG_GROUP_BYTES_MAX, half),
        /* Segments of tests may be too small for the largest record. */
        .atom_bytes = segment_bytes >= 2 * LOG_RECORD_BYTES_MAX ? largest : half,
        .reserve_bytes = min_u64(LOG_RESERVE_BYTES, blocks_down(segment_bytes / 4)),
        .ahead_bytes = min_u64(LOG_AHEAD_BYTES, segment_bytes),
        .segment_bytes = segment_bytes,
        .segment_bytes_min = min_u64(2 * LOG_AHEAD_BYTES, segment_bytes),
    };
}

size_t log_room_piece_bytes(const struct log_room *r)
{
    return (size_t)r->limits.group_bytes - LOG_GROUP_HEADER_BYTES;
}

size_t log_room_record_bytes(const struct log_room *r)
{
    return (size_t)min_u64(r->limits.atom_bytes - LOG_GROUP_HEADER_BYTES,
                           LOG_RECORD_HEADER_BYTES + LOG_RECORD_BYTES_MAX);
}

uint64_t log_room_charge(const struct log_room *r, size_t bytes)
{
    uint64_t piece = log_room_piece_bytes(r), n_pieces;

    if (bytes == 0)
        return 0;
    if (bytes <= piece)
        return log_group_disk_bytes(bytes);
    n_pieces = 2 * (uint64_t)bytes / piece + 1;
    return blocks_down(bytes + n_pieces * (LOG_GROUP_HEADER_BYTES + LOG_BLOCK_BYTES - 1) +
                       LOG_BLOCK_BYTES - 1);
}

static uint64_t atom_of(const struct log_room *r, size_t bytes)
{
    return bytes ? min_u64(log_group_disk_bytes(bytes), r->limits.atom_bytes) : 0;
}

uint64_t log_room_atom(const struct log_room *r, size_t bytes)
{
    for (unsigned c = LOG_ROOM_CLASSES; c-- > 0;) {
        if (r->n_of_class[c])
            return max_u64(r->atom_of_class[c], atom_of(r, bytes));
    }
    return atom_of(r, bytes);
}

static unsigned class_of(uint64_t atom)
{
    unsigned c = 0;

    for (uint64_t blocks = atom / LOG_BLOCK_BYTES; blocks > 1; blocks /= 2)
        c++;
    assert(c < LOG_ROOM_CLASSES);
    return c;
}

void log_room_take(struct log_room *r, size_t bytes)
{
    uint64_t atom = atom_of(r, bytes);
    unsigned c = class_of(atom);

    if (bytes == 0)
        return;
    if (r->n_of_class[c]++ == 0)
        r->atom_of_class[c] = 0;
    r->atom_of_class[c] = max_u64(r->atom_of_class[c], atom);
    r->charged += log_room_charge(r, bytes);
}

void log_room_give(struct log_room *r, size_t bytes)
{
    uint64_t charge = log_room_charge(r, bytes);
    unsigned c = class_of(atom_of(r, bytes));

    if (bytes == 0)
        return;
    /* Who appends without being admitted, or more than was. */
    assert(r->charged >= charge && r->n_of_class[c] > 0);
    r->n_of_class[c]--;
    r->charged -= charge;
}

void log_room_add(struct log_room_sum *sum, uint64_t atom, uint64_t bytes)
{
    uint64_t lost = atom > LOG_BLOCK_BYTES ? atom - LOG_BLOCK_BYTES : 0;

    if (sum->last > lost)
        sum->before += sum->last - lost;
    sum->last = bytes;
}
