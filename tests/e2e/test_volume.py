#!/usr/bin/python3
"""quoitd and volume: large frames, large answers, and those who are slow to send or to take them.

    test_volume.py QUOITD SCHEMAS [TEST ...]       prints TAP
"""

import socket
import struct
import sys
import threading
import time
import traceback
from pathlib import Path

from client import QuoitError, frame
from test_daemon import PB, Node, check, closed_within, equal, wait_until

OVERLOADED = 9
MIB = 1 << 20


def varint3(n):
    return bytes([n & 127 | 128, n >> 7 & 127 | 128, n >> 14])


def unread(sock):
    """Bytes of this connection that the node has not read, in the kernel's table of sockets."""
    mine = "%08X:%04X" % (struct.unpack("=I", socket.inet_aton(sock.getsockname()[0]))[0],
                          sock.getsockname()[1])
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[2] == mine:
            return int(fields[4].split(":")[1], 16)
    return None


def large_hellos_do_not_move():
    """Around the size from which a frame gets a buffer of its own, in two pieces."""
    with Node("--workers", "2") as node:
        for size in (65531, 65532, 65533, 65535, 65536, 65537):
            for worker in (1, 2):
                with node.client() as c:
                    body = c.request(hello=PB.HelloRequest(
                        protocol=1, client=b"large", worker=worker)).SerializeToString()
                    # Field 100, unknown: 2 bytes of tag and 3 of length in front.
                    body += b"\xa2\x06" + varint3(size - len(body) - 5)
                    body += bytes(size - len(body))
                    equal(len(body), size)
                    c.send_bytes(frame(body)[:2000])
                    wait_until("the first piece is read", lambda: unread(c.socket) == 0)
                    c.send_bytes(frame(body)[2000:])
                    response = c.receive()
                    check(response.HasField("hello"), f"size {size}: {response}")
        node.stop()


TESTS = [large_hellos_do_not_move]


def main():
    chosen = [t for t in TESTS if not sys.argv[3:] or t.__name__ in sys.argv[3:]]
    failed = 0
    print(f"1..{len(chosen)}", flush=True)
    for number, test in enumerate(chosen, 1):
        began = time.monotonic()
        try:
            test()
            print(f"ok {number} - {test.__name__}  # {time.monotonic() - began:.2f} s", flush=True)
        except Exception:  # whatever it is, it is this test's failure
            failed += 1
            print("".join("# " + l for l in traceback.format_exc().splitlines(True)), end="")
            print(f"not ok {number} - {test.__name__}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
