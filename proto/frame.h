/* frame: a stream of bytes cut into messages.
 *
 *   +----------------------+------------------------+
 *   | length, 4 bytes, big | one protobuf message   |   length counts the message only,
 *   | endian               | of that many bytes     |   1 .. LIMIT_FRAME_BYTES
 *   +----------------------+------------------------+
 *
 * Pure: bytes in, frames out. Nothing is allocated; frame_next looks at what has arrived so far.
 */
#ifndef QUOIT_PROTO_FRAME_H
#define QUOIT_PROTO_FRAME_H

#include "proto/slice.h"

/* Looks for a whole frame at the front of `in`.
 *   1  a frame: *ret_body borrows its message from `in`, *ret_used = bytes to consume
 *   0  more bytes are needed: *ret_used = 0, and *ret_want = the total length that the frame will
 *      have (header included), or LIMIT_FRAME_HEADER_BYTES while that is unknown
 *  -ERR_FRAME_TOO_LARGE, -ERR_BAD_REQUEST (length 0): the stream is beyond repair; close it. */
int frame_next(struct slice in, struct slice *ret_body, size_t *ret_used, size_t *ret_want);

/* Writes the header for a message of len bytes. */
void frame_header(uint8_t out[4], uint32_t len);

#endif
