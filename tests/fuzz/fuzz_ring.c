/* the ring as it lies on the disk. The property is in fuzz_message.h.
 */
#include "proto/wire.h"

#define FUZZ_STRUCT wire_ring
#define FUZZ_UNPACK wire_ring_unpack
#define FUZZ_PACK wire_ring_pack
#define FUZZ_HEADER 0

#include "tests/fuzz/fuzz_message.h"
