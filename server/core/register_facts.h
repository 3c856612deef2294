/* register_facts: what a voter of the register has on disk. See register_facts.c. */
#ifndef QUOIT_CORE_REGISTER_FACTS_H
#define QUOIT_CORE_REGISTER_FACTS_H

#include "proto/wire.h"

#define REGISTER_FACT_PROMISE "register.promise"
#define REGISTER_FACT_ACCEPTED "register.accepted"

#define REGISTER_PROMISE_BYTES 33u
/* In front of the packed ring. */
#define REGISTER_ACCEPTED_HEAD_MAX (REGISTER_PROMISE_BYTES + 1 + LIMIT_VOTERS_MAX * WIRE_ID_BYTES)

struct register_accepted {
    struct wire_ballot ballot;
    size_t n_before;
    struct wire_id before[LIMIT_VOTERS_MAX];
    struct slice ring; /* packed; of the bytes that were read */
};

void register_promise_pack(const struct wire_ballot *promise, uint8_t out[REGISTER_PROMISE_BYTES]);
/* Each: 0, -ERR_CORRUPT, -ERR_FORMAT (a newer version wrote it). The ring is not looked into. */
int register_promise_unpack(struct slice fact, struct wire_ballot *ret);
int register_accepted_unpack(struct slice fact, struct register_accepted *ret);
/* One reference, or NULL: no memory. */
struct blob *register_accepted_pack(const struct register_accepted *accepted);

#endif
