/* bench_assert: 'p99_us<5000,ops_per_s>10000' against the numbers of a result. Pure.
 *
 * Names are those of the JSON object, `reads.p99_us` for one inside another; operators are
 * < <= > >= = !=; numbers are plain. All assertions must hold.
 */
#ifndef QUOIT_CLIENT_BENCH_ASSERT_H
#define QUOIT_CLIENT_BENCH_ASSERT_H

#include <jansson.h>
#include <stddef.h>

/* Checks one after another. 1 all hold; 0 one does not, *message says which and what the value is;
 * -ERR_CONFIG the text is not assertions or names nothing, *message says where. With result NULL
 * only the form and the names are checked. */
int bench_assert(const char *text, const json_t *result, char *message, size_t size);

#endif
