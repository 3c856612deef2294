/* progress: one line on stderr that says how far a long command is, redrawn a few times a second,
 * on a terminal only. And the flag that Ctrl-C sets, so that such commands end with a summary. */
#ifndef QUOIT_CLIENT_PROGRESS_H
#define QUOIT_CLIENT_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct cli;

struct progress {
    bool shown; /* wanted: a terminal, and not --quiet */
    bool drawn;
    const char *what;
    uint64_t last_ns;
};

void progress_init(struct progress *p, const struct cli *cli, const char *what);
/* fraction 0..1, or negative when the end is not known. Cheap to call often. */
void progress_show(struct progress *p, double fraction, uint64_t count, double per_second);
void progress_clear(struct progress *p);

uint64_t clock_ns(void); /* monotonic */

/* From now on the first SIGINT or SIGTERM only sets the flag; the second ends the process. */
void interrupt_catch(void);
bool interrupted(void);

#endif
