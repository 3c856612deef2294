/* coordinator: clients' requests. See coordinator.c. Private to server/core. */
#ifndef QUOIT_CORE_COORDINATOR_H
#define QUOIT_CORE_COORDINATOR_H

#include "server/core/core.h"

/* waited_ms: on this node, before this step. */
void coordinator_recv_request(struct worker *w, uint64_t conn, const struct wire_request *req,
                              uint64_t waited_ms, struct effects *out);
/* An answer of a slot; dropped when it is nobody's. */
void coordinator_recv_reply(struct worker *w, uint32_t node, const struct wire_peer *msg,
                            struct effects *out);
void coordinator_timer(struct worker *w, struct op *op, struct effects *out);
/* Nodes came or went, or a ring was published: looks at one operation again. */
void coordinator_review(struct worker *w, struct op *op, struct effects *out);

#endif
