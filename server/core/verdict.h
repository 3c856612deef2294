/* verdict: is the cluster healthy? A function of a ring and of how its members are seen. Pure.
 *
 * A replica is live when its member is taken to be there; one that is only suspected is, since
 * requests still go to it and most suspicions are refuted within a second. It takes writes when its
 * member has room for them as well. Counted are READY slots: one that is being filled serves
 * nothing yet. A partition is to have as many as the ring wants, or as there are members.
 *
 *   HEALTHY       every partition has all its replicas, and no member has a problem
 *   DEGRADED      something is wrong, but every partition can be read and written at quorum
 *   UNAVAILABLE   some partitions cannot be read, or cannot be written, at quorum
 */
#ifndef QUOIT_CORE_VERDICT_H
#define QUOIT_CORE_VERDICT_H

#include "server/core/ring.h"

/* How a member is seen. */
struct verdict_member {
    enum wire_member_state state;
    uint32_t flags; /* enum wire_load_flag, as it said last */
};

struct verdict {
    enum wire_verdict state;
    uint32_t n_partitions;
    uint32_t n_replicas; /* that a partition is to have */
    uint32_t n_members, n_up;
    uint32_t n_full;                         /* partitions all of whose replicas are live */
    uint32_t n_by_live[LIMIT_SLOTS_MAX + 1]; /* partitions with so many live replicas */
    uint32_t n_no_quorum, n_no_write;        /* partitions */
    uint32_t n_joining;                      /* slots that are being filled */
};

/* members: one for each member of the ring, in its order. */
void verdict_of(const struct ring *ring, const struct verdict_member *members, struct verdict *ret);

/* The verdict in a sentence without its first word: "9 of 9 nodes up; every key has its 3
 * replicas". Cut to size - 1 printable bytes. Returns its length. */
size_t verdict_text(const struct verdict *v, char *ret, size_t size);

bool verdict_is_up(enum wire_member_state state);

#endif
