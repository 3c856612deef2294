/* load: what this node holds and does, looked at once a second. Control thread. See load.c. */
#ifndef QUOIT_EDGE_LOAD_H
#define QUOIT_EDGE_LOAD_H

#include "server/edge/meter.h"
#include "storage/store.h"
#include <uv.h>

struct control;

#define LOAD_TICK_MS 1000u
/* Rates and times are those of the last 5 to 10 seconds. */
#define LOAD_WINDOW_MS 5000u

/* Answers by their times, of all workers since start. */
struct load_mark {
    uint64_t at_ms;
    uint64_t took[METER_BUCKETS];
};

struct load {
    struct control *control;
    uv_timer_t timer;
    struct load_mark from, next; /* the window's start; what it will be, LOAD_WINDOW_MS later */
    struct store_stats store;    /* as of the last look; all zero if there was none */
    struct wire_load now;        /* what the others are told */
};

/* Looks at once, and from then on. The workers exist. */
void load_start(struct load *l, struct control *c);

/* Of data in use by a map or a file system, in whole percent, rounded down: 100 is full. */
uint32_t load_percent(uint64_t used, uint64_t all);

#endif
