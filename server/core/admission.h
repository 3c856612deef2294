/* admission: how many requests a worker takes at a time. Pure. See admission.c. */
#ifndef QUOIT_CORE_ADMISSION_H
#define QUOIT_CORE_ADMISSION_H

#include <stdbool.h>
#include <stdint.h>

/* So many are always taken: enough to share syncs and wake-ups among them, and few enough that a
 * node which does a thousand a second keeps its promises. */
#define ADMISSION_MIN 256u
/* The first limit, until answers have shown that more are done in time. */
#define ADMISSION_FIRST 1024u
/* A request is late once it has used up this part of its time: beyond, clients begin to ask
 * elsewhere, and what they asked here is done for nobody. But never before ADMISSION_LATE_MS: who
 * is in such a hurry must not make the node small for all. */
#define ADMISSION_LATE_PART 4u
#define ADMISSION_LATE_MS 100u
/* Judged when so much time has passed and so many have ended. */
#define ADMISSION_WINDOW_MS 50u
#define ADMISSION_WINDOW_MIN 16u

struct admission {
    uint32_t max, limit;
    uint64_t changed_ms; /* when it was last judged: only what was begun since counts */
    uint64_t window_ms;  /* when the first of those ended */
    uint32_t n, n_late;
    uint64_t allowed_ms; /* sum of what they were allowed to take */
    bool full;           /* somebody was refused in this window */
    bool fell;           /* the limit has been too high once: growing carefully */
};

void admission_init(struct admission *a, uint32_t max);
/* Whether one more may be taken while so many are in flight. */
bool admission_takes(struct admission *a, uint32_t in_flight);
/* A request has ended, whatever came of it. patience_ms: what it was given when it began. */
void admission_ended(struct admission *a, uint64_t now_ms, uint64_t begun_ms, uint64_t patience_ms);

#endif
