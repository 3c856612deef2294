/* what a client may get, from a node that lies. The property is in fuzz_message.h.
 */
#include "proto/wire.h"

#define FUZZ_STRUCT wire_response
#define FUZZ_UNPACK wire_response_unpack
#define FUZZ_PACK wire_response_pack
#define FUZZ_HEADER LIMIT_FRAME_HEADER_BYTES

#include "tests/fuzz/fuzz_message.h"
