/* suspect: the mark of a store whose disk is not to be trusted.
 *
 * A file SUSPECT in the store's directory, holding the sentence that says why. It is left behind
 * when a write or a sync failed in a way that leaves the disk's content unknown: the page cache may
 * then show what the disk never got, so a restart that "works" proves nothing. Only an operator, or
 * wiping the directory, takes it away.
 */
#ifndef QUOIT_STORAGE_SUSPECT_H
#define QUOIT_STORAGE_SUSPECT_H

#include <stdbool.h>
#include <stddef.h>

#define SUSPECT_NAME "SUSPECT"

/* Room for what suspect_mark_told adds. */
#define SUSPECT_SENTENCE_BYTES 320u

/* As durably as the failing disk still allows; true if it could be written and synced, otherwise
 * errno says why not. */
bool suspect_mark(const char *dir, const char *sentence);
/* The same, and writes to told the sentence with what became of the mark: a disk that failed often
 * takes no mark either, and then nothing but the operator stands between it and a restart. */
bool suspect_mark_told(const char *dir, const char *sentence, char *told, size_t told_len);
/* True if dir is marked; the sentence (may be empty) goes to why, without its newline. */
bool suspect_is_marked(const char *dir, char *why, size_t why_len);
bool suspect_clear(const char *dir);

#endif
