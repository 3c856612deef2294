#!/usr/bin/python3
"""quoitd and volume: large frames, large answers, and those who are slow to send or to take them.

    test_volume.py QUOITD SCHEMAS [TEST ...]       prints TAP
"""

import re
import socket
import struct
import sys
import threading
import time
from pathlib import Path

from client import QuoitError, frame
from harness import check, equal, main, wait_until
from test_daemon import PB, Node

OVERLOADED = 9
MIB = 1 << 20
# A gigabyte of values under a sanitizer, on a machine that does other things too.
PATIENCE_S = 120
# Then resident memory is mostly the sanitizer's own.
SANITIZED = re.search(rb"__[at]san_init", Path(sys.argv[1]).read_bytes()) is not None


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


def resident(node):
    for line in Path(f"/proc/{node.process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) << 10
    raise AssertionError("no VmRSS")


def pipelined_large_gets_are_answered():
    """Whoever asks for far more than the bounds and reads gets an answer to each, and repeating the
    refused ones ends."""
    with Node("--workers", "4") as node, node.client(timeout_s=60) as c:
        for i in range(8):  # most are of other workers, so that the answers come late
            c.put(b"big%d" % i, b"x" * (8 * MIB))
        waiting, rounds, refused = 64, 0, 0
        while waiting:
            c.send_bytes(b"".join(
                frame(c.request(get=PB.GetRequest(key=c.key(b"big%d" % (i % 8))),
                                deadline_ms=60000).SerializeToString())  # 512 MiB, sanitized
                for i in range(waiting)))  # at once: taken before any answer is known
            again = 0
            for _ in range(waiting):
                response = c.receive()
                if response.HasField("error"):
                    equal(response.error.code, OVERLOADED)
                    again += 1
                else:
                    equal(len(response.get.value), 8 * MIB)
            check(rounds == 0 or again == 0, "a steady size is not refused")
            waiting, rounds, refused = again, rounds + 1, refused + again
        node.stop()


def many_who_take_nothing_are_bounded():
    """One get of 8 MiB each, unread: together they may cost the loop's bound and no more."""
    patient = {"stall-timeout": "5m"}  # the crowd is to stay, however slow all of this is
    with Node("--workers", "1", settings=patient) as node, node.client(timeout_s=30) as c:
        for i in range(10):
            c.put(b"big%d" % i, b"x" * (8 * MIB))
        before = resident(node)
        crowd = []
        try:
            for i in range(110):
                s = socket.socket()
                s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                s.connect(("127.0.0.1", node.port("clients")))
                crowd.append(s)
                s.sendall(frame(c.request(
                    get=PB.GetRequest(key=c.key(b"big%d" % (i % 10)))).SerializeToString()))
            wait_until("all are read", lambda: all(unread(s) == 0 for s in crowd), PATIENCE_S)
            try:
                c.get(b"big0")
                raise AssertionError("not refused")
            except QuoitError as e:
                equal(e.code, OVERLOADED)
            check(c.ping().serving, "small requests are answered")
            # 256 MiB, one answer more, buffers that grow by doubling; 110 would be more than 600.
            grown = resident(node) - before
            if not SANITIZED:
                check(grown < 360 * MIB, f"{grown >> 20} MiB more")
        finally:
            for s in crowd:
                s.close()

        def served():
            try:
                return c.get(b"big0").found
            except QuoitError:
                return False
        wait_until("gets work again", served, PATIENCE_S)
        node.stop()


def slow_large_frames_do_not_keep_others_out():
    """Twelve who announce 9 MiB, send 70 KB and then a byte now and again, and come back."""
    with Node("--workers", "1") as node, node.client(timeout_s=30) as c:
        crowd, stop = [], threading.Event()

        def announce():
            s = socket.create_connection(("127.0.0.1", node.port("clients")))
            s.sendall(struct.pack(">I", 9 * MIB) + bytes(70000))
            return s

        def dribble():
            while not stop.wait(0.1):
                for i, s in enumerate(crowd):
                    try:
                        s.sendall(b"y")
                    except OSError:
                        s.close()
                        crowd[i] = announce()
        crowd.extend(announce() for _ in range(12))
        wait_until("the room is taken", lambda: sum(unread(s) == 0 for s in crowd) >= 10)
        thread = threading.Thread(target=dribble)
        thread.start()
        try:
            began = time.monotonic()
            for i in range(3):
                c.put(b"large%d" % i, b"x" * (8 * MIB))
            took = time.monotonic() - began
            check(took < 10, f"three puts took {took:.1f} s")  # a frame's time limit is 19 s
        finally:
            stop.set()
            thread.join()
            for s in crowd:
                s.close()
        node.stop()


TESTS = [large_hellos_do_not_move, slow_large_frames_do_not_keep_others_out,
         pipelined_large_gets_are_answered, many_who_take_nothing_are_bounded]

if __name__ == "__main__":
    main(TESTS, sys.argv[3:])
