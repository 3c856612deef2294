/* log_room: how much may be admitted so that it certainly fits. Pure arithmetic. See log_room.c.
 */
#ifndef QUOIT_STORAGE_LOG_ROOM_H
#define QUOIT_STORAGE_LOG_ROOM_H

#include "storage/log.h"

/* What follows from the size of a segment. */
struct log_room_limits {
    uint64_t group_bytes; /* a group of several records takes at most this on disk */
    uint64_t atom_bytes;  /* any group: one record of the largest size alone */
    uint64_t reserve_bytes;
    uint64_t ahead_bytes;   /* kept ready, at least */
    uint64_t segment_bytes; /* of a new segment, and of a smaller one */
    uint64_t segment_bytes_min;
};

#define LOG_ROOM_CLASSES 20u

/* Admitted and not yet placed. */
struct log_room {
    struct log_room_limits limits;
    uint64_t charged;
    uint32_t n_of_class[LOG_ROOM_CLASSES];
    uint64_t atom_of_class[LOG_ROOM_CLASSES]; /* largest since the class was empty */
};

/* segment_bytes: of log_options, not 0. */
void log_room_init(struct log_room *r, uint32_t segment_bytes);

/* Most bytes that the records of one piece may have together, headers of records included. */
size_t log_room_piece_bytes(const struct log_room *r);
/* The largest record, header included. */
size_t log_room_record_bytes(const struct log_room *r);

/* What a list of so many bytes takes on disk at most; 0 for none. */
uint64_t log_room_charge(const struct log_room *r, size_t bytes);
/* The largest group that a list of so many bytes may bring, or has been charged; whichever is more.
 */
uint64_t log_room_atom(const struct log_room *r, size_t bytes);
void log_room_take(struct log_room *r, size_t bytes);
void log_room_give(struct log_room *r, size_t bytes);

/* Of one stretch after the other: what groups of at most atom bytes can count on. Start with {0}.
 */
struct log_room_sum {
    uint64_t before; /* the last stretch excluded */
    uint64_t last;
};
void log_room_add(struct log_room_sum *sum, uint64_t atom, uint64_t bytes);

static inline uint64_t log_room_total(const struct log_room_sum *sum)
{
    return sum->before + sum->last;
}

#endif
