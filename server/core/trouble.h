/* trouble: what is wrong with the members of a cluster, and what to do about it, in sentences for
 * operators. Pure: a function of how the members are seen.
 */
#ifndef QUOIT_CORE_TROUBLE_H
#define QUOIT_CORE_TROUBLE_H

#include "proto/wire.h"

/* One text or advice: a name, an address and a duration with room to spare; longer ones are cut. */
#define TROUBLE_TEXT_BYTES 512u

/* Of the status members and candidates are read. Fills out[LIMIT_PROBLEMS_MAX], the gravest first;
 * texts live in the arena. Returns how many; what has no room there is counted by the last one, of
 * kind PROBLEM_MORE. 0 as well when nothing is wrong; -ERR_NO_MEMORY. */
int trouble_list(const struct wire_status_result *status, struct arena *arena,
                 struct wire_problem *out);

/* "850 ms", "12 s", "4 min 10 s", "3 h 5 min", "2 days 4 h". */
#define TROUBLE_DURATION_BYTES 48u
void trouble_duration(uint64_t ms, char ret[TROUBLE_DURATION_BYTES]);

#endif
