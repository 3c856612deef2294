/* scrub: how fast what is stored is read again, and what is told of it. See scrub.c. */
#ifndef QUOIT_EDGE_SCRUB_H
#define QUOIT_EDGE_SCRUB_H

#include "storage/store.h"
#include <uv.h>

struct control;

/* Once around in a day: a copy that has rotted is found long before another one is likely to. */
#define SCRUB_ROUND_S 86400u
/* But no faster than this, unless told to: some tenths of a percent of a core, and a hundredth of
 * what a slow disk reads. A store of more than 84 GiB takes longer than a day then. */
#define SCRUB_RATE_MAX (1u << 20)
/* One slice: some milliseconds of a disk, and not many wake-ups. */
#define SCRUB_SLICE_BYTES (256u << 10)
/* What reading a slice costs besides its records: the zone's summary. */
#define SCRUB_SLICE_COST_BYTES 8192u
/* Of a record: its header and its place in a page. */
#define SCRUB_RECORD_COST_BYTES 64u
/* After a slice that found no room or no memory. */
#define SCRUB_RETRY_MS 60000u
/* The end of a round is told if it took so long or found something. */
#define SCRUB_TELL_ROUND_MS 600000u

/* Since the start of the process, or of a round. */
struct scrub_counts {
    uint64_t n_records, n_bytes, n_bad, n_remade, n_errors;
};

struct scrub {
    struct control *control;
    uv_timer_t timer;
    struct store_scrub_place at;
    struct store_scrub found; /* scratch */
    uint32_t first_zone;      /* of the round: somewhere, as starts may be many */
    uint64_t round_began_ms;
    struct scrub_counts round, total;
    uint64_t n_rounds;
    bool asked, stopped;
};

/* Begins, on the control thread; nothing if the configuration says 0. */
void scrub_start(struct scrub *s, struct control *c);
/* The store has woken the loop: takes an outcome if there is one. */
void scrub_woken(struct scrub *s);
/* Asks for nothing more. */
void scrub_stop(struct scrub *s);

/* The pause after a slice that cost so much, in ms. Pure; for the tests too. */
uint64_t scrub_pause_ms(uint64_t cost_bytes, uint64_t rate);
/* The rate when none is configured, for a store that uses so many bytes. Pure. */
uint64_t scrub_rate_of(uint64_t used_bytes);

#endif
