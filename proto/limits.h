/* limits: every bound of the contract, each with its reason. Exceeding one is tested.
 */
#ifndef QUOIT_PROTO_LIMITS_H
#define QUOIT_PROTO_LIMITS_H

/* Partition key + sort key: with the 14 bytes of token, bucket and length in front of it
 * (store_key) a key of this size always fits LMDB's 511 bytes, and leaves room for an index prefix.
 */
#define LIMIT_KEY_BYTES 400u

/* One value. Larger objects belong in pieces: a value is held in memory whole on its way. */
#define LIMIT_VALUE_BYTES (8u << 20)

/* One frame of either protocol: a value, its key and its envelope, nothing else of that size. */
#define LIMIT_FRAME_BYTES (9u << 20)

/* Length of the big-endian length in front of each frame. */
#define LIMIT_FRAME_HEADER_BYTES 4u

/* Requests in flight per node, in bytes of key and value; beyond it OVERLOADED. Bounds memory. */
#define LIMIT_INFLIGHT_BYTES (64u << 20)

/* A page of a scan stops after this many bytes; a page holds at least one record, so it can reach
 * LIMIT_VALUE_BYTES more, which still fits a frame. */
#define LIMIT_SCAN_PAGE_BYTES (256u << 10)
#define LIMIT_SCAN_PAGE_RECORDS 4096u

/* A scan's cursor: a stored key (8 bytes of token, 4 of bucket, 2 of length, then the key). */
#define LIMIT_CURSOR_BYTES (14u + LIMIT_KEY_BYTES)

/* The sentence of an error; a longer one is replaced by the table's. */
#define LIMIT_ERROR_TEXT_BYTES 1024u

/* Names of nodes and zones, addresses ("host:port"): printable, short enough for a table. */
#define LIMIT_NAME_BYTES 64u
#define LIMIT_ADDRESS_BYTES 262u

/* Comparing replicas. Arcs in one question, each of up to 32 parts, two bytes each: an answer of 4
 * KiB. */
#define LIMIT_COMPARE_ARCS 64u
#define LIMIT_COMPARE_PARTS (16u * LIMIT_COMPARE_ARCS)
/* Leaves in one request for what differs, and records that the asker tells it has (24 KiB). */
#define LIMIT_PULL_LEAVES 256u
#define LIMIT_PULL_KNOWN 1024u
/* Digests in one answer of a purge round: of every leaf of the largest partition. */
#define LIMIT_PURGE_DIGESTS (1u << 14)

/* The ring. Partitions: PLACEMENT of vnodes is balanced and cheap between these. */
#define LIMIT_PARTITIONS_MIN 64u
#define LIMIT_PARTITIONS_MAX 16384u
#define LIMIT_PARTITIONS_DEFAULT 1024u
#define LIMIT_REPLICAS_MAX 7u /* replicas per key; one more slot may be JOINING */
#define LIMIT_SLOTS_MAX (LIMIT_REPLICAS_MAX + 1u)
#define LIMIT_MEMBERS_MAX 1024u
#define LIMIT_VOTERS_MAX 7u
/* Nodes that one process can tell apart: members, and what is on its way to be one or no longer is.
 * A message about all of them fits a frame, with a KiB and more for each. */
#define LIMIT_NODES_MAX (LIMIT_MEMBERS_MAX + 64u)
#define LIMIT_RUMOURS_MAX LIMIT_NODES_MAX
#define LIMIT_BUCKETS_MAX 256u
/* One ring, packed, as the register decides about it: the largest that the limits above allow takes
 * 2.4 MiB (1024 members with the longest names, 16384 partitions of 8 slots), one of 1000
 * members and 16384 partitions of 3 slots 370 KiB. With its envelope it fits a frame, and with
 * its ballot a fact of the store (LIMIT_VALUE_BYTES). */
#define LIMIT_REGISTER_RING_BYTES (4u << 20)
/* Counters of ballots: a thousand attempts a second reach it in nine thousand years, so one above
 * it is no counter, and adding one to the highest cannot wrap. */
#define LIMIT_REGISTER_COUNTER (1ull << 48)

/* Problems told in one status: more than anybody reads before acting on the first. */
#define LIMIT_PROBLEMS_MAX 64u
/* Nodes outside the ring told in one status: more than anybody adds at a time. */
#define LIMIT_CANDIDATES_MAX 64u

/* Workers per node: the owner worker is a function of the top six bits of the token. */
#define LIMIT_WORKERS_MAX 64u

/* A request without a deadline gets this one; none may ask for more. Milliseconds. */
#define LIMIT_DEADLINE_DEFAULT_MS 5000u
#define LIMIT_DEADLINE_MAX_MS 60000u

/* Remote clocks further ahead than this are not adopted, and first-hand puts stamped so are refused
 * (milliseconds). NTP keeps machines within tens of milliseconds. */
#define LIMIT_CLOCK_AHEAD_MS 500u

#endif
