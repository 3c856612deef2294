/* wire_sample: one or more messages of every kind, with every field set to something that cannot be
 * mistaken for another field or a default. Used by the tests of the wire and to seed the fuzzers.
 */
#ifndef QUOIT_TESTS_UNIT_WIRE_SAMPLE_H
#define QUOIT_TESTS_UNIT_WIRE_SAMPLE_H

#include "proto/wire.h"

#define SAMPLE_REQUESTS 10
#define SAMPLE_RESPONSES 12
#define SAMPLE_PEERS 40

/* All bytes are static. */
void sample_requests(struct wire_request out[SAMPLE_REQUESTS]);
void sample_responses(struct wire_response out[SAMPLE_RESPONSES]);
void sample_peers(struct wire_peer out[SAMPLE_PEERS]);

/* A ring with n_members members and its table, all arrays from malloc; sample_ring_free. */
struct wire_ring *sample_ring(uint32_t n_partitions, uint32_t n_slots, uint32_t n_members);
void sample_ring_free(struct wire_ring *ring);

#endif
