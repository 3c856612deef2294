/* lines: records as lines of text, in the two formats of import and export. Pure.
 *
 *   raw     key TAB value NEWLINE, with TAB, newline and backslash inside written \t \n \\ ; every
 *           other byte stands for itself, NUL and bytes that are not text included
 *   jsonl   {"key":"...","value":"..."} NEWLINE; a part that is not UTF-8 is given as key_b64 or
 *           value_b64. A sort key travels as sort_key; raw has no place for one.
 *
 * Any bytes survive a round trip through either.
 */
#ifndef QUOIT_CLIENT_LINES_H
#define QUOIT_CLIENT_LINES_H

#include "proto/slice.h"

struct line_record {
    struct slice key, sort_key, value;
};

/* Appends one line. 0 or -ERR_NO_MEMORY. Raw: the record has no sort key. */
int line_write_raw(const struct line_record *record, struct buf *out);
int line_write_json(const struct line_record *record, struct buf *out);

/* The parts of a line without its newline; bytes are in `scratch` (emptied first), or in the line.
 * 0; -ERR_NO_MEMORY; -ERR_BAD_REQUEST with *ret_why a phrase that says what is wrong (static, or in
 * scratch). */
int line_read_raw(struct slice line, struct buf *scratch, struct line_record *ret,
                  const char **ret_why);
int line_read_json(struct slice line, struct buf *scratch, struct line_record *ret,
                   const char **ret_why);

#endif
