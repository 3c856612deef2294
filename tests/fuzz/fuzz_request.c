/* what a client may send. The property is in fuzz_message.h.
 */
#include "proto/wire.h"

#define FUZZ_STRUCT wire_request
#define FUZZ_UNPACK wire_request_unpack
#define FUZZ_PACK wire_request_pack
#define FUZZ_HEADER LIMIT_FRAME_HEADER_BYTES

#include "tests/fuzz/fuzz_message.h"
