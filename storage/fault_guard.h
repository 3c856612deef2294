/* fault_guard: a damaged file behind a memory map ends in a sentence, not in a core dump. */
#ifndef QUOIT_STORAGE_FAULT_GUARD_H
#define QUOIT_STORAGE_FAULT_GUARD_H

#include <stdbool.h>

/* Watches every mapping of the open file fd; `path` is its name for the sentence. Process-wide, one
 * file. False if the mapping was not found or the handlers could not be installed. */
bool fault_guard_install(int fd, const char *path);

#endif
