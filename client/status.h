/* status: from the wire's status to the public one. */
#ifndef QUOIT_CLIENT_STATUS_H
#define QUOIT_CLIENT_STATUS_H

#include "client/quoit.h"
#include "proto/wire.h"

/* 16384 partitions of 8 replicas, and 1024 members with their texts. */
#define STATUS_ARENA_BYTES (16u << 20)

/* Everything in *ret lives in the arena. 0 or -ERR_NO_MEMORY. */
int status_fill(const struct wire_status_result *from, struct arena *arena,
                const struct quoit_status **ret);

#endif
