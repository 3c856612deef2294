/* repair: write-backs that no client waits for. Private to server/core. See repair.c. */
#ifndef QUOIT_CORE_REPAIR_H
#define QUOIT_CORE_REPAIR_H

#include "server/core/core.h"

/* How long the place of a write-back that is not answered stays taken. */
#define REPAIR_PATIENCE_MS 1000u
/* In message ids, in place of an operation's index: no operation has one as high. */
#define REPAIR_INDEX 0xff00u

/* Sends the state of a get that has W holders to the other slots, as far as there is room. */
void repair_rest(struct worker *w, struct op *op, struct effects *out);
/* Whether the answer is one to such a write; then its place is free again. */
bool repair_recv(struct worker *w, const struct wire_peer *msg);

#endif
