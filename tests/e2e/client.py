"""A small client of quoit in Python, written from proto/README.md and the schemas alone.

Shows that any language with protobuf can speak the protocol: one blocking connection, framing,
ids, deadlines, the clock echo, the ring, the token. It does not follow the ring, reconnect or pool;
it is what the tests need and what a reader can take apart.

    pb = load_schemas(directory of the .proto files, a scratch directory)
    with Client(pb, ("127.0.0.1", 7400)) as c:
        c.put(b"greeting", b"hello")
        print(c.get(b"greeting").value)
"""

import importlib
import socket
import struct
import subprocess
import sys

import murmur3

FRAME_BYTES_MAX = 9 << 20


class QuoitError(Exception):
    """An Error of the node."""

    def __init__(self, request_id, error):
        super().__init__(f"{error.code}: {error.text.decode()}")
        self.request_id = request_id
        self.code = error.code
        self.text = error.text.decode()
        self.retryable = error.retryable
        self.limit = error.limit
        self.actual = error.actual


def load_schemas(schemas, scratch):
    """Generates and imports the Python code of quoit.proto; returns the module."""
    subprocess.run(["protoc", f"--proto_path={schemas}", f"--python_out={scratch}",
                    "ring.proto", "quoit.proto"], check=True)
    sys.path.insert(0, str(scratch))
    return importlib.import_module("quoit_pb2")


def frame(body):
    return struct.pack(">I", len(body)) + body


class Client:
    def __init__(self, pb, address, timeout_s=10.0):
        self.pb = pb
        self.socket = socket.create_connection(address, timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.next_id = 1
        self.hlc = 0
        self.ring_epoch = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    # ---- frames

    def send_bytes(self, data):
        self.socket.sendall(data)

    def _receive(self, n):
        parts = []
        while n:
            part = self.socket.recv(min(n, 1 << 20))
            if not part:
                raise ConnectionError("closed by the node")
            parts.append(part)
            n -= len(part)
        return b"".join(parts)

    def receive(self):
        """The next Response, whichever request it answers."""
        (length,) = struct.unpack(">I", self._receive(4))
        if not 1 <= length <= FRAME_BYTES_MAX:
            raise ConnectionError(f"frame of {length} bytes")
        response = self.pb.Response.FromString(self._receive(length))
        self.hlc = max(self.hlc, response.hlc)
        return response

    # ---- requests

    def request(self, **op):
        """A Request with the next id, ready to be changed and sent."""
        request = self.pb.Request(id=self.next_id, ring_epoch=self.ring_epoch, hlc=self.hlc, **op)
        self.next_id += 1
        return request

    def send(self, request):
        self.send_bytes(frame(request.SerializeToString()))
        return request.id

    def call(self, deadline_ms=0, **op):
        """One request, its result; raises QuoitError."""
        request = self.request(**op)
        request.deadline_ms = deadline_ms
        self.send(request)
        response = self.receive()
        while response.id not in (request.id, 0):
            response = self.receive()
        if response.HasField("error"):
            raise QuoitError(response.id, response.error)
        return getattr(response, response.WhichOneof("result"))

    def key(self, partition_key, sort_key=b"", bucket=0):
        return self.pb.Key(bucket=bucket, partition_key=partition_key, sort_key=sort_key)

    def hello(self, worker=0):
        return self.call(hello=self.pb.HelloRequest(
            protocol=1, client=b"quoit-python 1", worker=worker))

    def ping(self):
        return self.call(ping=self.pb.PingRequest())

    def get(self, partition_key, sort_key=b"", level=0, **options):
        return self.call(get=self.pb.GetRequest(
            key=self.key(partition_key, sort_key), level=level), **options)

    def put(self, partition_key, value, sort_key=b"", level=0, **options):
        return self.call(put=self.pb.PutRequest(
            key=self.key(partition_key, sort_key), level=level, value=value), **options)

    def delete(self, partition_key, sort_key=b"", level=0, **options):
        # "del" is a word of Python, so it goes in as a dictionary.
        return self.call(**{"del": self.pb.DeleteRequest(
            key=self.key(partition_key, sort_key), level=level)}, **options)

    def ring(self):
        ring = self.call(ring=self.pb.RingRequest()).ring
        self.ring_epoch = ring.epoch
        return ring

    def digests(self):
        """The root of the hash tree of each replica that the node holds, by partition."""
        told = self.call(status=self.pb.StatusRequest(ring=True))
        return {p: told.vnode_digests[p] for p, n in enumerate(told.vnode_records) if n > 0}

    def scan_page(self, partition, n_partitions, cursor=b"", page_bytes=0, **options):
        return self.call(scan=self.pb.ScanRequest(
            partition=partition, n_partitions=n_partitions, cursor=cursor,
            page_bytes=page_bytes), **options)

    def scan(self, partition, n_partitions, page_bytes=0):
        """All records of a partition; asks for page after page until the cursor is empty."""
        cursor = b""
        while True:
            page = self.scan_page(partition, n_partitions, cursor, page_bytes)
            yield from page.records
            cursor = page.cursor
            if not cursor:
                return


def token_of(ring, partition_key, bucket=1):
    return murmur3.token(ring.token_seed, ring.token_secret, bucket, partition_key)


def partition_of(ring, partition_key, bucket=1):
    return token_of(ring, partition_key, bucket) >> (64 - (ring.n_partitions.bit_length() - 1))


def owners_of(ring, partition):
    """Members that hold the partition, the one to prefer first."""
    base = partition * ring.n_slots
    slots = [s for s in range(ring.n_slots) if ring.slot_state[base + s] == 1]
    slots.sort(key=lambda s: s != ring.primary[partition])
    return [ring.members[ring.slot_member[base + s]] for s in slots]
