/* log_json: a log line as a JSON object. See log_json.c. */
#ifndef QUOIT_EDGE_LOG_JSON_H
#define QUOIT_EDGE_LOG_JSON_H

#include <stddef.h>

/* Turns the fields of a line in logfmt ("node=n1 boot=3") into members of a JSON object and appends
 * them, each with a comma before it. fmt is the format that made them: what was printed as a
 * decimal number there is a number here, everything else a string, whatever it looks like. Fields
 * that do not fit whole are left out. Returns the bytes appended to out[cap]. */
size_t log_json_fields(char *out, size_t cap, const char *fmt, const char *fields);
/* Appends "name":"text", escaped; nothing if it does not fit. */
size_t log_json_string(char *out, size_t cap, const char *name, const char *text, size_t len);

#endif
