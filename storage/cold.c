/* cold: see the picture in cold.h. */
#include "storage/cold.h"

static void turn_to(struct cold *c, bool on)
{
    *c = (struct cold){.on = on};
}

bool cold_defers(struct cold *c)
{
    return c->on && ++c->turn % COLD_TRY_ONE_IN != 0;
}

static void note_warm(struct cold *c, uint64_t n_faults)
{
    if (n_faults >= COLD_FAULTS_AT_ONCE || c->n_faults > COLD_WINDOW_FAULTS)
        turn_to(c, true);
    else if (c->n_reads >= COLD_WINDOW_READS)
        turn_to(c, false);
}

static void note_cold(struct cold *c)
{
    if (c->n_reads < COLD_TRIES)
        return;
    if (c->n_faults <= COLD_TRY_FAULTS)
        turn_to(c, false);
    else
        c->n_reads = c->n_faults = 0;
}

void cold_note(struct cold *c, uint32_t n_reads, uint64_t n_faults)
{
    c->n_reads += n_reads;
    c->n_faults += n_faults < COLD_WINDOW_READS ? (uint32_t)n_faults : COLD_WINDOW_READS;
    if (c->on)
        note_cold(c);
    else
        note_warm(c, n_faults);
}
