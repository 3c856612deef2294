/* what another node may send. The property is in fuzz_message.h.
 */
#include "proto/wire.h"

#define FUZZ_STRUCT wire_peer
#define FUZZ_UNPACK wire_peer_unpack
#define FUZZ_PACK wire_peer_pack
#define FUZZ_HEADER LIMIT_FRAME_HEADER_BYTES

#include "tests/fuzz/fuzz_message.h"
