/* fault_guard: a damaged file behind a memory map ends in a sentence, not in a core dump. */
#ifndef QUOIT_STORAGE_FAULT_GUARD_H
#define QUOIT_STORAGE_FAULT_GUARD_H

#include <stdbool.h>

/* Set by a thread while it is inside the code that walks the mapped file: see fault_guard.c. */
extern _Thread_local bool fault_guard_inside;

static inline void fault_guard_enter(void)
{
    fault_guard_inside = true;
}

static inline void fault_guard_leave(void)
{
    fault_guard_inside = false;
}

/* Watches every mapping of the open file fd; `path` is its name for the sentence. Process-wide, one
 * file. False if the mapping was not found or the handlers could not be installed. */
bool fault_guard_install(int fd, const char *path);
/* Puts back the handlers that were there before. */
void fault_guard_remove(void);

#endif
