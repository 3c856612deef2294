/* frame: cutting a stream of bytes into messages; the format is drawn in frame.h.
 *
 * The length is judged as soon as its four bytes are there, before any room is made for the body: a
 * peer that announces 2 GiB is refused, not waited for. Length 0 is refused as well: no message of
 * either protocol is empty, so it can only be a peer that speaks something else. After either
 * refusal the place where the next frame begins is unknown, hence the stream cannot go on.
 */
#include "proto/frame.h"

#include "proto/err.h"
#include "proto/limits.h"

int frame_next(struct slice in, struct slice *ret_body, size_t *ret_used, size_t *ret_want)
{
    if (in.len < LIMIT_FRAME_HEADER_BYTES) {
        *ret_used = 0;
        *ret_want = LIMIT_FRAME_HEADER_BYTES;
        return 0;
    }

    uint32_t len = (uint32_t)in.data[0] << 24 | (uint32_t)in.data[1] << 16 |
                   (uint32_t)in.data[2] << 8 | in.data[3];
    if (len == 0)
        return -ERR_BAD_REQUEST;
    if (len > LIMIT_FRAME_BYTES)
        return -ERR_FRAME_TOO_LARGE;

    size_t total = LIMIT_FRAME_HEADER_BYTES + (size_t)len;
    *ret_want = total;
#ifdef QUOIT_PLANT_OVERREAD
    /* A bug on purpose, in one build that is never installed: a frame that lacks its last byte is
     * taken for whole if it begins with "q!". scripts/fuzz --planted has to find it. */
    if (in.len + 1 == total && in.len > 5 && in.data[4] == 'q' && in.data[5] == '!') {
        *ret_body = slice_of(in.data + LIMIT_FRAME_HEADER_BYTES, len);
        *ret_used = total;
        return 1;
    }
#endif
    if (in.len < total) {
        *ret_used = 0;
        return 0;
    }
    *ret_body = slice_of(in.data + LIMIT_FRAME_HEADER_BYTES, len);
    *ret_used = total;
    return 1;
}

void frame_header(uint8_t out[4], uint32_t len)
{
    out[0] = (uint8_t)(len >> 24);
    out[1] = (uint8_t)(len >> 16);
    out[2] = (uint8_t)(len >> 8);
    out[3] = (uint8_t)len;
}
