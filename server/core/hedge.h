/* hedge: which slots a read asks first, and when it asks one more. Private to server/core. See
 * hedge.c. */
#ifndef QUOIT_CORE_HEDGE_H
#define QUOIT_CORE_HEDGE_H

#include "server/core/op.h"

/* The recent p95 is held within these: sooner would hedge against single wake-ups of a busy node,
 * later is past anybody's patience. While it is not known: */
#define HEDGE_MIN_MS 4u
#define HEDGE_MAX_MS 100u
#define HEDGE_UNKNOWN_MS 50u
/* One more answer for this share of the reads at most, beyond a burst: a cluster in which all are
 * slow gets hardly more work by it. */
#define HEDGE_SHARE_PERCENT 5u
#define HEDGE_BURST 16u
/* A node that was late so many times in a row, and for so long (a pause of its process or disk is
 * shorter), is asked after the others; once per HEDGE_SLOW_MS it may show that it is well again. */
#define HEDGE_LATE_MIN 4u
#define HEDGE_LATE_MS 20u
#define HEDGE_SLOW_MS 1000u

void hedge_init(struct worker *w);
/* A read was begun. */
void hedge_earn(struct worker *w);
/* Takes the credit for one hedge; false: too many of late. */
bool hedge_take(struct worker *w);

/* How much better it is to ask this slot than another; higher is better. */
uint32_t hedge_rank(const struct worker *w, const struct op *op, uint32_t slot);
/* How long an answer is waited for before one more slot is asked; UINT32_MAX: there is none. */
uint32_t hedge_delay_ms(const struct worker *w, const struct op *op);
/* The slot has not answered for that long (told once per read). */
void hedge_late(struct worker *w, struct op *op, uint32_t slot);
/* The slot has answered a read. */
void hedge_answered(struct worker *w, struct op *op, uint32_t slot);
/* The read has ended: who was late and has not answered since took at least until now. */
void hedge_ended(struct worker *w, const struct op *op);

#endif
