#!/usr/bin/python3
"""The protocol as proto/README.md promises it, spoken by a client that shares no code with quoitd.

Starts real nodes and talks to them through client.py: every operation, paging, pipelining, the
token computed in Python, and each error that can be provoked from outside: malformed requests and
limits by sending them; OVERLOADED, UNKNOWN_OUTCOME and SHUTTING_DOWN with a disk that syncs slowly
(strace delays fdatasync); NO_SPACE with a small map; CORRUPT with a flipped bit; NO_QUORUM and
DEADLINE by killing and stopping the other nodes of three.

    test_client.py QUOITD SCHEMAS       prints TAP
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from client import (FRAME_BYTES_MAX, Client, QuoitError, frame, load_schemas, owners_of,
                    partition_of, token_of)
from harness import START_S, check, chosen, equal, free_ports, run_one, wait_until
from processes import suspend

SLOW_SYNC_MS = 700  # of a slow disk: longer than what must happen during one sync, shorter than the
                    # second for which a node leases its time in advance

(INTERNAL, BAD_REQUEST, UNSUPPORTED, KEY_TOO_LARGE, KEY_EMPTY, VALUE_TOO_LARGE, FRAME_TOO_LARGE,
 UNKNOWN_BUCKET, OVERLOADED, TOO_MANY_CONNECTIONS, DEADLINE, UNKNOWN_OUTCOME, NO_QUORUM,
 NO_SPACE, CLOCK, NOT_OWNER, NOT_YET, CORRUPT, NOT_READY, SHUTTING_DOWN) = range(1, 21)
SLOW = 31

QUOITD = Path(sys.argv[1]).resolve()
SCRATCH = tempfile.TemporaryDirectory(prefix="quoit-e2e-")
PB = load_schemas(sys.argv[2], SCRATCH.name)






# ---- nodes -----------------------------------------------------------------------------------

class Node:
    """A quoitd of its own, gone at the end of the with block."""

    count = 0

    def __init__(self, *options, settings=None, slow_sync=False, prepare=None,
                 ports=None):
        Node.count += 1
        self.dir = Path(SCRATCH.name) / f"node-{Node.count}"
        self.dir.mkdir()
        client, peer = ports or free_ports(2)
        self.address = ("127.0.0.1", client)
        self.command = [str(QUOITD), "--data", str(self.dir / "data"), "--listen",
                        f"127.0.0.1:{client}", "--peer-listen", f"127.0.0.1:{peer}",
                        "--http-listen", "off", *options]
        if settings:
            (self.dir / "quoit.yaml").write_text(
                "".join(f"{k}: {v}\n" for k, v in settings.items()))
            self.command += ["--config", str(self.dir / "quoit.yaml")]
        self.tracer = []
        self.process = None
        self.forms_alone = "--cluster" not in options
        self.start()
        if not slow_sync:
            return
        self.wait_for_start()  # its files are made while syncs are fast
        if prepare:
            with self.client(timeout_s=60) as c:
                prepare(c)
        check(self.stop(), f"the node did not stop cleanly:\n{self.log()}")
        self.tracer = [
            "strace", "-f", "-qqq", "--seccomp-bpf", "-o", str(self.dir / "strace"), "-e",
            "trace=fdatasync", "-e", f"inject=fdatasync:delay_enter={SLOW_SYNC_MS * 1000}",
        ]
        self.start()

    def start(self):
        environment = dict(os.environ)
        if self.tracer:  # the leak check cannot work while another traces
            environment["ASAN_OPTIONS"] = environment.get("ASAN_OPTIONS", "") + ":detect_leaks=0"
        with open(self.dir / "log", "ab") as log:
            self.process = subprocess.Popen(self.tracer + self.command, stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, env=environment)

    def wait_for_start(self):
        wait_until("the node answers", self.answers)
        if self.forms_alone:
            wait_until("the node serves", self.serves)

    def __enter__(self):
        try:
            self.wait_for_start()
        except BaseException as e:
            self.stop()
            raise AssertionError(f"the node did not start:\n{self.log()}") from e
        return self

    def __exit__(self, kind, *_):
        clean = self.stop()
        if kind is None:
            check(clean, f"the node did not stop cleanly:\n{self.log()}")

    def answers(self):
        check(self.process.poll() is None, f"the node ended by itself:\n{self.log()}")
        try:
            with self.client() as c:
                c.ping()
                return True
        except OSError:
            return False

    def serves(self):
        with self.client() as c:
            return c.ping().serving

    def client(self, **options):
        return Client(PB, self.address, **options)

    def log(self):
        return (self.dir / "log").read_text(errors="replace")[-4000:]

    def pid(self):
        """Of quoitd, not of its tracer."""
        if not self.tracer:
            return self.process.pid
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        check(len(children) == 1, "the tracer has one child")
        return int(children[0])

    def signal(self, number):
        os.kill(self.pid(), number)

    def pause(self):
        suspend(self.pid(), wait_until)

    def stop(self):
        """SIGTERM and, if that is not obeyed, SIGKILL. True after a clean end."""
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
            try:
                self.process.wait(START_S)
            except subprocess.TimeoutExpired:
                self.signal(signal.SIGKILL)
                self.process.wait()
                return False
        return self.process.returncode == 0

    def restart(self):
        check(self.stop(), f"the node did not stop cleanly:\n{self.log()}")
        self.start()
        self.wait_for_start()


def refused(code, call, *args, **kwargs):
    """Calls, and returns the QuoitError of that code that must come."""
    try:
        result = call(*args, **kwargs)
    except QuoitError as e:
        equal(e.code, code, f"code of «{e}»")
        check(re.fullmatch(r"[ -~]+", e.text), "the text is printable")
        return e
    raise AssertionError(f"expected error {code}, got {result}")


def refused_and_closed(code, node, data):
    """Bytes that end the connection: an error under id 0, then the end of the stream."""
    with node.client() as c:
        c.send_bytes(data)
        response = c.receive()
        equal(response.id, 0, "id")
        equal(response.error.code, code, "code")
        equal(c.socket.recv(1), b"", "end of the stream")
        return response.error


# ---- operations ------------------------------------------------------------------------------

def names_itself(node):
    with node.client() as c:
        hello, ping = c.hello(), c.ping()
        equal(hello.protocol, 1, "protocol")
        equal(len(hello.node_id), 16, "length of the node id")
        equal(len(hello.cluster_id), 16, "length of the cluster id")
        check(hello.software.startswith(b"quoitd "), "software")
        check(hello.worker < hello.n_workers, "worker")
        equal(ping.node_id, hello.node_id, "node id of ping")
        check(ping.serving, "serving")
        equal(c.ring().cluster_id, hello.cluster_id, "cluster id of the ring")


def put_get_delete(node):
    with node.client() as c:
        check(not c.get(b"cycle").found, "absent at first")
        first = c.put(b"cycle", b"one")
        equal(c.get(b"cycle").value, b"one")
        second = c.put(b"cycle", b"two")
        check(second.version.hlc > first.version.hlc, "versions grow")
        got = c.get(b"cycle")
        check(got.found, "found")
        equal(got.value, b"two")
        equal(got.version, second.version, "version")
        equal(got.replicas, 1, "replicas")
        third = c.delete(b"cycle")
        check(third.version.hlc > second.version.hlc, "a deletion has a version")
        check(not c.get(b"cycle").found, "deleted")
        c.delete(b"cycle")
        c.delete(b"never was there")


def any_bytes(node):
    with node.client() as c:
        keys = [bytes([b]) for b in range(256)]
        keys += [b"\0" * 400, b"\xff" * 400, b"a\0", b"a\0\0", bytes(range(256))]
        for key in keys:
            c.put(key, b"<" + key + b">")
        for key in keys:
            equal(c.get(key).value, b"<" + key + b">", f"value of {key[:8]!r}")


def any_value(node):
    with node.client() as c:
        for size in (0, 1, 255, 65535, 65536, 1 << 20, 8 << 20):
            value = os.urandom(size)
            c.put(b"value", value)
            got = c.get(b"value")
            check(got.found and got.value == value, f"value of {size} bytes")


def every_level(node):
    with node.client() as c:
        for level in (PB.LEVEL_DEFAULT, PB.LEVEL_ONE, PB.LEVEL_QUORUM, PB.LEVEL_ALL):
            equal(c.put(b"level", b"%d" % level, level=level).replicas, 1, "replicas")
            equal(c.get(b"level", level=level).value, b"%d" % level)


def the_clock_is_echoed(node):
    with node.client() as a, node.client() as b:
        version = a.put(b"clock", b"a").version
        check(a.hlc >= version.hlc, "an answer carries a clock no older than what it tells")
        b.get(b"clock")
        check(b.hlc >= version.hlc, "and so does a read of it")
        check(b.put(b"clock", b"b").version.hlc > a.hlc, "what was seen orders what is written")


def pipelined(node):
    with node.client() as c:
        puts = [c.request(put=PB.PutRequest(key=c.key(b"pipe %d" % i), value=b"%d" % i))
                for i in range(500)]
        c.send_bytes(b"".join(frame(r.SerializeToString()) for r in puts))
        answered = sorted(c.receive().id for _ in puts)
        equal(answered, [r.id for r in puts], "ids answered")
        gets = {}
        for i in range(500):
            gets[c.send(c.request(get=PB.GetRequest(key=c.key(b"pipe %d" % i))))] = b"%d" % i
        for _ in range(500):
            response = c.receive()
            equal(response.get.value, gets.pop(response.id), "value")


def in_small_pieces(node):
    with node.client() as c:
        request = c.request(put=PB.PutRequest(key=c.key(b"pieces"), value=b"x" * 40))
        for byte in frame(request.SerializeToString()):
            c.send_bytes(bytes([byte]))
        equal(c.receive().id, request.id, "id")
        equal(c.get(b"pieces").value, b"x" * 40)


def unknown_fields_are_ignored(node):
    with node.client() as c:
        request = c.request(ping=PB.PingRequest())
        future = b"\xa2\x06\x03new" + b"\xa8\x06\x01"  # fields 100 (bytes) and 101 (number)
        c.send_bytes(frame(request.SerializeToString() + future))
        equal(c.receive().id, request.id, "id")


def ring_and_token(node):
    with node.client() as c:
        ring = c.ring()
        n = ring.n_partitions
        check(n >= 64 and n & (n - 1) == 0, "a power of two")
        equal(len(ring.members), 1, "members")
        for name in ("fence", "primary"):
            equal(len(getattr(ring, name)), n, name)
        for name in ("slot_member", "slot_incarnation", "slot_state"):
            equal(len(getattr(ring, name)), n * ring.n_slots, name)
        for i in range(50):
            key = b"token %d" % i
            c.put(key, b"%d" % i)
            partition = partition_of(ring, key)
            equal([m.id for m in owners_of(ring, partition)], [c.hello().node_id], "owners")
            found = [r for r in c.scan(partition, n) if r.key.partition_key == key]
            equal(len(found), 1, f"records of {key!r} in the partition that its token names")
        port = node.address[1]
        equal(ring.members[0].client_address, b"127.0.0.1:%d" % port, "address")


def scan_order(ring, record):
    key = record.key
    return (token_of(ring, key.partition_key), key.bucket, len(key.partition_key),
            key.partition_key, key.sort_key)


def scans_page_by_page(node):
    with node.client() as c:
        ring = c.ring()
        partition = partition_of(ring, b"scan")
        model = {}
        for i in range(300):
            sort_key, value = b"%03d" % i, b"v" * (i % 50)
            c.put(b"scan", value, sort_key)
            model[sort_key] = value
        for i in range(0, 300, 3):
            c.delete(b"scan", b"%03d" % i)
            del model[b"%03d" % i]
        for page_bytes in (0, 1, 500, 1 << 30):
            records = list(c.scan(partition, ring.n_partitions, page_bytes))
            ours = [r for r in records if r.key.partition_key == b"scan"]
            equal([r.key.sort_key for r in ours], sorted(model), "sort keys, in order")
            equal({r.key.sort_key: r.value for r in ours}, model, "values")
            order = [scan_order(ring, r) for r in records]
            equal(order, sorted(order), "order of the partition")
        page = c.scan_page(partition, ring.n_partitions, page_bytes=500)
        check(page.cursor and 0 < len(page.records) < 200, "a small page is a part")


def everything_by_scans(node):
    with node.client() as c:
        ring = c.ring()
        model = {}
        for i in range(400):
            key = b"all %d" % i
            c.put(key, os.urandom(20))
            model[key] = c.get(key).value
        seen = {}
        for partition in range(ring.n_partitions):
            for r in c.scan(partition, ring.n_partitions):
                equal(partition_of(ring, r.key.partition_key), partition, "partition")
                if r.key.partition_key.startswith(b"all "):
                    check(r.key.partition_key not in seen, "seen once")
                    seen[r.key.partition_key] = r.value
        equal(seen, model, "all records")


def survives_a_restart(node):
    with node.client() as c:
        version = c.put(b"durable", b"yes").version
        before = c.hello().node_id
    node.restart()
    with node.client() as c:
        got = c.get(b"durable")
        equal((got.value, got.version), (b"yes", version))
        equal(c.hello().node_id, before, "node id")
        check(c.put(b"durable", b"again").version.hlc > version.hlc, "the clock did not go back")


def moves_to_the_worker_asked_for():
    with Node("--workers", "3") as node:
        for worker in (0, 1, 2, 1):
            with node.client() as c:
                hello = c.hello(worker=1 + worker)
                equal((hello.n_workers, hello.worker), (3, worker), "workers, worker")
                c.put(b"moved", b"%d" % worker)
                equal(c.get(b"moved").value, b"%d" % worker)
        with node.client() as c:  # a hello with requests right behind it
            hello = c.request(hello=PB.HelloRequest(protocol=1, worker=3))
            ping = c.request(ping=PB.PingRequest())
            c.send_bytes(frame(hello.SerializeToString()) + frame(ping.SerializeToString()))
            equal({c.receive().id, c.receive().id}, {hello.id, ping.id}, "ids")


# ---- errors: what a request can be --------------------------------------------------------------

def malformed_requests(node):
    with node.client() as c:
        ring = c.ring()
        n = ring.n_partitions
        e = refused(BAD_REQUEST, c.get, b"k", level=9)
        check(not e.retryable, "not retryable")
        refused(BAD_REQUEST, c.put, b"k", b"v", level=1000000)
        refused(BAD_REQUEST, c.call)
        refused(BAD_REQUEST, c.scan_page, n, n)
        refused(BAD_REQUEST, c.scan_page, 0, n * 2)
        refused(BAD_REQUEST, c.scan_page, 0, n, cursor=b"x" * 1000)
        refused(BAD_REQUEST, c.call, hello=PB.HelloRequest(protocol=1, client=b"a\nb"))
        refused(BAD_REQUEST, c.call, hello=PB.HelloRequest(protocol=1, client=b"x" * 65))
        check(c.ping().serving, "the connection goes on")


def an_unknown_op(node):
    with node.client() as c:
        request = c.request()
        c.send_bytes(frame(request.SerializeToString() + b"\xa2\x06\x03new"))
        response = c.receive()
        equal((response.id, response.error.code), (request.id, UNSUPPORTED))
        check(c.ping().serving, "the connection goes on")


def keys_beyond_the_limits(node):
    with node.client() as c:
        for call in (c.get, c.delete, lambda *a: c.put(a[0], b"v", *a[1:])):
            refused(KEY_EMPTY, call, b"")
            refused(KEY_EMPTY, call, b"", b"sort")
            for key, sort_key in ((b"k" * 401, b""), (b"k" * 400, b"s"), (b"k", b"s" * 400)):
                e = refused(KEY_TOO_LARGE, call, key, sort_key)
                equal((e.limit, e.actual), (400, len(key + sort_key)), "limit, actual")
            refused(KEY_TOO_LARGE, call, b"k" * 100000)
        c.put(b"k" * 200, b"v", b"s" * 200)
        check(c.get(b"k" * 200, b"s" * 200).found, "the limit itself is allowed")


def values_beyond_the_limit(node):
    with node.client() as c:
        e = refused(VALUE_TOO_LARGE, c.put, b"large", bytes((8 << 20) + 1))
        equal((e.limit, e.actual), (8 << 20, (8 << 20) + 1), "limit, actual")
        check(not c.get(b"large").found, "nothing was written")


def an_unknown_bucket(node):
    with node.client() as c:
        refused(UNKNOWN_BUCKET, c.call, get=PB.GetRequest(key=c.key(b"k", bucket=99)))
        refused(UNKNOWN_BUCKET, c.call,
                put=PB.PutRequest(key=c.key(b"k", bucket=99), value=b"v"))


def broken_streams(node):
    error = refused_and_closed(FRAME_TOO_LARGE, node, (FRAME_BYTES_MAX + 1).to_bytes(4, "big"))
    equal((error.limit, error.actual), (FRAME_BYTES_MAX, FRAME_BYTES_MAX + 1), "limit, actual")
    refused_and_closed(FRAME_TOO_LARGE, node, b"GET / HTTP/1.1\r\n\r\n")
    refused_and_closed(FRAME_TOO_LARGE, node, b"\xff" * 4)
    refused_and_closed(BAD_REQUEST, node, b"\0\0\0\0")
    refused_and_closed(BAD_REQUEST, node, frame(b"\xff\xff\xff\xff"))


# ---- errors: what a node can be ------------------------------------------------------------------

def too_many_connections():
    with Node(settings={"max-connections": 2}) as node:
        def free_again():  # the connection of `answers` may not be forgotten yet
            try:
                with node.client() as a, node.client() as b:
                    return a.ping() and b.ping()
            except (QuoitError, OSError):
                return False
        wait_until("two connections are served", free_again)

        def third_is_refused():
            with node.client() as a, node.client() as b, node.client() as third:
                try:
                    a.ping(), b.ping()
                except (QuoitError, OSError):
                    return False
                response = third.receive()
                equal(response.id, 0, "id")
                equal(response.error.code, TOO_MANY_CONNECTIONS, "code")
                check(response.error.retryable, "retryable")
                equal(third.socket.recv(1), b"", "end of the stream")
                return True
        wait_until("the third one is refused", third_is_refused)
        wait_until("and later taken", free_again)


def slow_frames():
    with Node(settings={"frame-timeout": "300ms"}) as node:
        with node.client() as slow, node.client() as quiet:
            slow.send_bytes(b"\0\0\0\x20half")
            response = slow.receive()
            equal((response.id, response.error.code), (0, SLOW))
            equal(slow.socket.recv(1), b"", "end of the stream")
            check(quiet.ping().serving, "who sends nothing is not slow")


def not_ready():
    ports = free_ports(4)
    cluster = ",".join(f"127.0.0.1:{p}" for p in ports[1:])
    with Node("--cluster", cluster, ports=ports[:2]) as node:
        with node.client() as c:
            check(not c.ping().serving, "not serving")
            equal(c.hello().cluster_id, b"", "cluster id")
            for call in (lambda: c.get(b"k"), lambda: c.put(b"k", b"v"), lambda: c.delete(b"k"),
                         c.ring, lambda: c.scan_page(0, 1024)):
                check(refused(NOT_READY, call).retryable, "retryable")


def no_space():
    with Node("--map-size", "4MiB") as node:
        with node.client() as c:
            stored = []
            for i in range(200):
                try:
                    c.put(b"fill %d" % i, bytes(64 << 10))
                    stored.append(b"fill %d" % i)
                except QuoitError as e:
                    equal(e.code, NO_SPACE, "code")
                    check(e.retryable, "retryable")
                    break
            check(5 < len(stored) < 200, f"{len(stored)} puts before it was full")
            for key in stored:
                check(c.get(key).found, "reads work")
            for key in stored:
                c.delete(key)
            check(not any(c.get(key).found for key in stored), "deletes work")


def flip_value(node, marker):
    """Flips one bit of the value that holds the marker, wherever it lies on the disk."""
    n = 0
    for path in (node.dir / "data").rglob("*"):
        if not path.is_file():
            continue
        with open(path, "r+b") as f:
            content = f.read()
            at = content.find(marker)
            while at >= 0:
                f.seek(at)
                f.write(bytes([content[at] ^ 1]))
                n += 1
                at = content.find(marker, at + 1)
    return n


def corrupt():
    with Node() as node:
        marker = b"marker of the record to be damaged"
        with node.client() as c:
            c.put(b"damaged", marker)
            c.put(b"sound", b"value")
        check(node.stop(), "clean stop")
        check(flip_value(node, marker) > 0, "the value lies on the disk")
        node.start()
        node.wait_for_start()
        with node.client() as c:
            check(not refused(CORRUPT, c.get, b"damaged").retryable, "not retryable")
            equal(c.get(b"sound").value, b"value")
            # What is newer than anything the store has seen there replaces it.
            c.put(b"damaged", b"new value")
            equal(c.get(b"damaged").value, b"new value")
        check(node.stop(), "clean stop")
        node.start()
        node.wait_for_start()
        with node.client() as c:
            equal(c.get(b"damaged").value, b"new value")


def unknown_outcome():
    with Node(slow_sync=True) as node:
        with node.client() as c:
            c.put(b"before", b"v", deadline_ms=30000)
            e = refused(UNKNOWN_OUTCOME, c.put, b"slow", b"v", deadline_ms=SLOW_SYNC_MS // 7)
            check(not e.retryable, "not retryable")
            # It was not lost either: after the sync it is there.
            wait_until("the write becomes visible", lambda: c.get(b"slow").found)


def overloaded():
    def grow_the_log(c):
        for i in range(20):
            c.put(b"grow %d" % i, bytes(7 << 20), deadline_ms=60000)

    with Node("--workers", "1", slow_sync=True, prepare=grow_the_log) as node:
        clients = [node.client(timeout_s=60) for _ in range(3)]
        for c in clients:
            for j in range(4):
                key = c.key(b"load %d" % j)
                request = c.request(put=PB.PutRequest(key=key, value=bytes(7 << 20)))
                request.deadline_ms = 60000
                c.send(request)
        codes = [c.receive().error.code for c in clients for _ in range(4)]
        equal(set(codes), {0, OVERLOADED}, "codes")
        check(codes.count(0) >= 4, "what fits is served")
        for c in clients:
            check(c.ping().serving, "the node goes on")
            c.close()


def shutting_down():
    with Node(slow_sync=True) as node:
        with node.client() as c:
            pending = c.send(c.request(put=PB.PutRequest(key=c.key(b"pending"), value=b"v")))
            c.ping()  # answered: so the put before it has been taken
            node.signal(signal.SIGTERM)
            answers = {}

            def refused_by_now():
                request = c.request(get=PB.GetRequest(key=c.key(b"k")))
                c.send(request)
                while request.id not in answers:
                    response = c.receive()
                    answers[response.id] = response
                return answers[request.id].error.code == SHUTTING_DOWN
            wait_until("a request is refused", refused_by_now)
            check(max(answers) and answers[max(answers)].error.retryable, "retryable")
            while pending not in answers:
                response = c.receive()
                answers[response.id] = response
            equal(answers[pending].error.code, 0, "what was in flight is finished")
        equal(node.process.wait(START_S), 0, "exit status")


def with_two_of_three_gone():
    ports = free_ports(6)
    cluster = ",".join(f"127.0.0.1:{p}" for p in ports[3:])
    nodes = [Node("--cluster", cluster, "--name", f"n{i}", ports=(ports[i], ports[3 + i]))
             for i in range(3)]
    try:
        for node in nodes:
            wait_until("the node answers", node.answers)
            wait_until("the cluster serves", node.serves)
        with nodes[0].client(timeout_s=60) as c:
            equal(len(c.ring().members), 3, "members")
            wait_until("all take part", lambda: put_ok(c, b"k", PB.LEVEL_ALL))
            check(c.put(b"k", b"v", level=PB.LEVEL_ALL).replicas == 3, "replicas of ALL")
            check(c.put(b"k", b"v").replicas >= 2, "replicas of QUORUM")
            # Stopped processes keep their connections: nobody answers, nobody is known to be gone.
            for node in nodes[1:]:
                node.pause()
            refused(DEADLINE, c.get, b"k", level=PB.LEVEL_ALL, deadline_ms=500)
            refused(UNKNOWN_OUTCOME, c.put, b"k", b"w", level=PB.LEVEL_ALL, deadline_ms=500)
            for node in nodes[1:]:
                node.signal(signal.SIGKILL)
                node.process.wait()
            wait_until("the loss is noticed", lambda: code_of(c.put, b"n", b"v") == NO_QUORUM)
            check(refused(NO_QUORUM, c.put, b"n", b"v").retryable, "retryable")
            refused(NO_QUORUM, c.get, b"k")
            equal(code_of(c.get, b"n", level=PB.LEVEL_ONE), 0, "code of a read at ONE")
    finally:
        for node in nodes:
            if node.process.poll() is None:
                node.process.kill()
                node.process.wait()


def code_of(call, *args, **kwargs):
    try:
        call(*args, **kwargs)
        return 0
    except QuoitError as e:
        return e.code


def put_ok(c, key, level):
    return code_of(c.put, key, b"v", level=level) == 0


# ---- running ------------------------------------------------------------------------------------

ON_ONE_NODE = [names_itself, put_get_delete, any_bytes, any_value, every_level, the_clock_is_echoed,
               pipelined, in_small_pieces, unknown_fields_are_ignored, ring_and_token,
               scans_page_by_page, everything_by_scans, malformed_requests, an_unknown_op,
               keys_beyond_the_limits, values_beyond_the_limit, an_unknown_bucket, broken_streams,
               survives_a_restart]
ALONE = [moves_to_the_worker_asked_for, too_many_connections, slow_frames, not_ready, no_space,
         corrupt, unknown_outcome, overloaded, shutting_down, with_two_of_three_gone]


def main():
    shared, alone = chosen(ON_ONE_NODE, sys.argv[3:]), chosen(ALONE, sys.argv[3:])
    print(f"1..{len(shared) + len(alone)}", flush=True)
    good = True
    if shared:
        with Node() as node:
            for i, test in enumerate(shared):
                good &= run_one(1 + i, test, node)
    for i, test in enumerate(alone):
        good &= run_one(1 + len(shared) + i, test)
    return 0 if good else 1


if __name__ == "__main__":
    with SCRATCH:
        sys.exit(main())
