"""load: many clients at once, in one thread, that write, delete and read, and know what came of it.

An engine of one thread owns a connection to each node, pipelined, and runs *tasks*: generators
that yield what they want (an Op, or a pause in seconds) and are sent what came of it. Some hundred
operations are in flight at a time, which gives some thousand operations per second.

    outcome = yield Op(node, "put", key, value)      -> (code, response)
    yield 0.05                                       -> None, after 50 ms

code is 0, an error of the node, LOST (it was sent and not answered in time, or the connection
ended) or UNSENT. On top of it stand the clients (a mix of operations, told to the history) and the
sweeps (every key, through a node). The caller's thread starts and ends those; while none runs
nothing is under way.

Clients are as real ones: each has a node that it talks to, moves on when that fails, and at times
without a reason. One half passes the nodes' clock on with each request, as the protocol asks for,
the other half does not: what is promised to one client's own order must hold between clients.
"""

import collections
import heapq
import random
import selectors
import socket
import struct
import threading
import time

from history import NONE, value_of

ONE, QUORUM, ALL = 1, 2, 3
LEVELS = {ONE: "one", QUORUM: "quorum", ALL: "all"}
LOST, UNSENT = -1, -2
INTERNAL, UNKNOWN_OUTCOME, NO_QUORUM, CLOCK = 1, 12, 13, 15  # errors of a node
OPEN = {INTERNAL, UNKNOWN_OUTCOME, LOST}  # outcomes of a write that leave it open

REDIAL_S = 0.1  # between two attempts to connect, and so long one may take until it is asked again
CONNECT_S = 1.0
LOOK_S = 0.05  # between two searches for operations that are not answered
GRACE_S = 0.5  # how long after its deadline an answer is waited for
FAILURE_PAUSE_S = 0.02  # a client that was refused does not ask again at once
MOVE_ON = 0.02  # share of operations after which a client turns to another node
SWEEPERS = 64
FAILURES_MAX = 100_000  # of one watch, kept


class Failed(Exception):
    """What was tried cannot be done; the sentence says why. Not a violation."""


class Op:
    __slots__ = ("node", "kind", "key", "value", "level", "hlc", "deadline_ms", "task", "began",
                 "expires")

    def __init__(self, node, kind, key, value=b"", level=QUORUM, hlc=0, deadline_ms=2000):
        self.node, self.kind, self.key, self.value = node, kind, key, value
        self.level, self.hlc, self.deadline_ms = level, hlc, deadline_ms


class Watch:
    """What happened at the clients in a stretch of time, by node."""

    def __init__(self, now):
        self.began = now
        self.ok = collections.Counter()  # by node
        self.failures = []  # (began, ended, node, kind, code)
        self.n_failed = collections.Counter()  # by (node, kind, code)
        self.longest_s = collections.Counter()  # by node: the slowest success

    def add(self, op, code, now):
        if code == 0:
            self.ok[op.node] += 1
            took = now - op.began
            if took > self.longest_s[op.node]:
                self.longest_s[op.node] = took
            return
        self.n_failed[op.node, op.kind, code] += 1
        if len(self.failures) < FAILURES_MAX:
            self.failures.append((op.began, now, op.node, op.kind, code))


class Connection:
    def __init__(self, engine, node, address):
        self.engine, self.node, self.address = engine, node, address
        self.socket = None
        self.connected = self.up = False  # up: it has said hello, and is of our cluster
        self.retry = 0.0
        self.next_id = 1
        self._empty()

    def _empty(self):
        self.pending, self.out, self.left, self.got = {}, [], b"", b""

    def dial(self, now):
        self.retry = now + CONNECT_S
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self.socket.connect(self.address)
        except BlockingIOError:
            pass
        except OSError:
            self.close(now)
            return
        self.engine.selector.register(self.socket, selectors.EVENT_WRITE, self)

    def close(self, now):
        """Everything that was asked for is lost."""
        if self.socket is not None:
            if self.socket in self.engine.selector.get_map():
                self.engine.selector.unregister(self.socket)
            self.socket.close()
        lost, self.socket, self.retry = self.pending, None, now + REDIAL_S
        self.connected = self.up = False
        self._empty()
        for op in lost.values():
            self.engine.finish(op, LOST, None, now)

    def ready(self, events, now):
        try:
            if not self.connected:
                error = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if error:
                    raise OSError(error, "connect")
                self.connected = True
                self.engine.selector.modify(self.socket, selectors.EVENT_READ, self)
                hello = self.engine.pb.HelloRequest(protocol=1, client=b"quoit-chaos 1")
                self.send(self.engine.pb.Request(id=self.next_id, hello=hello))
            if events & selectors.EVENT_WRITE:
                self.flush()
            if events & selectors.EVENT_READ:
                self.receive(now)
        except OSError:
            self.close(now)

    def flush(self):
        data = self.left + b"".join(self.out)
        self.out.clear()
        try:
            sent = self.socket.send(data) if data else 0
        except BlockingIOError:
            sent = 0
        had, self.left = self.left, data[sent:]
        if bool(had) != bool(self.left):
            want = selectors.EVENT_READ | (selectors.EVENT_WRITE if self.left else 0)
            self.engine.selector.modify(self.socket, want, self)

    def receive(self, now):
        try:
            part = self.socket.recv(1 << 18)
        except BlockingIOError:
            return
        if not part:
            raise OSError("closed by the node")
        data, at = self.got + part, 0
        while len(data) - at >= 4:
            (length,) = struct.unpack_from(">I", data, at)
            if len(data) - at - 4 < length:
                break
            response = self.engine.pb.Response.FromString(data[at + 4:at + 4 + length])
            at += 4 + length
            if not self.up:
                self.greeted(response)
            op = self.pending.pop(response.id, None)
            if op is not None:
                self.engine.finish(op, response.error.code, response, now)
        self.got = data[at:]

    def greeted(self, response):
        """A node of another cluster at this address is not asked: its keys are not these."""
        cluster = response.hello.cluster_id
        if not cluster or cluster != (self.engine.cluster_id or cluster):
            raise OSError("not of our cluster")
        self.engine.cluster_id = cluster
        self.up = True

    def send(self, request):
        data = request.SerializeToString()
        self.out.append(struct.pack(">I", len(data)) + data)
        self.next_id += 1

    def ask(self, op):
        pb = self.engine.pb
        key = pb.Key(partition_key=op.key)
        if op.kind == "get":
            body = {"get": pb.GetRequest(key=key, level=op.level)}
        elif op.kind == "put":
            body = {"put": pb.PutRequest(key=key, level=op.level, value=op.value)}
        else:
            body = {"del": pb.DeleteRequest(key=key, level=op.level)}
        self.pending[self.next_id] = op
        self.send(pb.Request(id=self.next_id, deadline_ms=op.deadline_ms, hlc=op.hlc, **body))


class Batch:
    """Tasks that were started together."""

    def __init__(self, n):
        self.left, self.failure = n, None
        self.done = threading.Event()
        if n == 0:
            self.done.set()

    def one_ended(self, failure):
        self.left -= 1
        self.failure = self.failure or failure
        if self.left == 0:
            self.done.set()

    def wait(self, seconds=None):
        if not self.done.wait(seconds):
            raise Failed(f"{self.left} tasks of the load have not ended within {seconds:.0f} s")
        if self.failure is not None:
            raise self.failure


class Engine(threading.Thread):
    def __init__(self, pb, addresses):
        super().__init__(daemon=True)
        self.pb = pb
        self.selector = selectors.DefaultSelector()
        self.connections = [Connection(self, i, a) for i, a in enumerate(addresses)]
        self.runnable = collections.deque()  # (task, what it is sent)
        self.pauses, self.n_pauses = [], 0  # heap of (when, number, task)
        self.batches = {}  # task -> Batch
        self.posted = collections.deque()
        self.wake_read, self.wake_write = socket.socketpair()
        self.wake_read.setblocking(False)
        self.selector.register(self.wake_read, selectors.EVENT_READ, None)
        self.cluster_id = None  # of the first node met
        self.ending = False
        self.watch = None
        self.longest_lag_s = 0.0  # of this loop: what it could not see is not the nodes' fault

    # ---- called by any thread

    def reaches_all(self):
        return all(c.up for c in self.connections)

    def run_tasks(self, tasks):
        tasks = list(tasks)
        batch = Batch(len(tasks))
        self.posted.append((batch, tasks))
        self.wake_write.send(b"x")
        return batch

    def stop(self):
        self.ending = True
        self.wake_write.send(b"x")
        self.join()
        self.wake_read.close()
        self.wake_write.close()

    # ---- its own thread

    def finish(self, op, code, response, now):
        if self.watch is not None:
            self.watch.add(op, code, now)
        self.runnable.append((op.task, (code, response)))

    def _start(self, task, op, now):
        connection = self.connections[op.node]
        op.task, op.began = task, now
        op.expires = now + op.deadline_ms / 1000 + GRACE_S
        if connection.up:
            connection.ask(op)
        else:
            self.finish(op, UNSENT, None, now)

    def _step(self, task, outcome, now):
        try:
            want = task.send(outcome)
        except StopIteration:
            self.batches.pop(task).one_ended(None)
        except Exception as failure:  # told by Batch.wait to whoever waits
            self.batches.pop(task).one_ended(failure)
        else:
            if isinstance(want, Op):
                self._start(task, want, now)
            else:
                self.n_pauses += 1
                heapq.heappush(self.pauses, (now + want, self.n_pauses, task))

    def _drain(self, now):
        while self.posted:
            batch, tasks = self.posted.popleft()
            for task in tasks:
                self.batches[task] = batch
                self.runnable.append((task, None))
        while self.pauses and self.pauses[0][0] <= now:
            self.runnable.append((heapq.heappop(self.pauses)[2], None))
        for _ in range(len(self.runnable)):  # what becomes runnable now has its turn next time
            self._step(*self.runnable.popleft(), now)
        for connection in self.connections:
            if connection.out:
                try:
                    connection.flush()
                except OSError:
                    connection.close(now)

    def _look(self, now):
        for connection in self.connections:
            if connection.socket is None and now >= connection.retry:
                connection.dial(now)
            elif connection.socket is not None and not connection.up and now >= connection.retry:
                connection.close(now)
            late = [i for i, op in connection.pending.items() if now >= op.expires]
            for number in late:
                self.finish(connection.pending.pop(number), LOST, None, now)

    def run(self):
        looked = time.monotonic()
        while not self.ending:
            now = time.monotonic()
            due = min(looked + LOOK_S, self.pauses[0][0] if self.pauses else now + LOOK_S)
            ready = self.selector.select(0 if self.runnable else max(0, due - now))
            now = time.monotonic()
            self.longest_lag_s = max(self.longest_lag_s, now - due)
            for key, events in ready:
                if key.data is not None:
                    key.data.ready(events, now)
                else:
                    self.wake_read.recv(4096)
            if now >= looked + LOOK_S:
                looked = now
                self._look(now)
            self._drain(now)
        for connection in self.connections:
            connection.close(time.monotonic())
        self.selector.close()


class Load:
    """Clients of all nodes and sweeps, over an engine, for one history."""

    def __init__(self, pb, names, addresses, history, seed, n_keys=2000, n_clients=96, rate=3000):
        self.names, self.history, self.seed = names, history, seed
        self.keys = [b"chaos/%06d" % i for i in range(n_keys)]
        self.n_shared = max(1, n_keys // 10)  # written by every client; the others by one each
        self.n_clients, self.rate = n_clients, rate
        self.engine = Engine(pb, addresses)
        self.engine.start()
        self.clients, self.ending, self.round = None, False, 0

    # ---- clients

    def _move(self, rng, node):
        """The node to talk to next: this one, or one of those that can be talked to."""
        up = [c.node for c in self.engine.connections if c.up]
        if up and (node not in up or rng.random() < MOVE_ON):
            return rng.choice(up)
        return node

    def _key_to_write(self, rng, number):
        if rng.random() < 0.1:
            return self.keys[rng.randrange(self.n_shared)]
        mine = range(self.n_shared + number, len(self.keys), self.n_clients)
        return self.keys[rng.choice(mine)] if mine else self.keys[rng.randrange(self.n_shared)]

    def _client(self, number, rng):
        node, hlc, passes_on = number % len(self.names), 0, number % 2
        next_at = time.monotonic() + rng.random() * self.n_clients / self.rate
        while not self.ending:
            now = time.monotonic()
            if next_at > now:
                yield next_at - now
            next_at = max(next_at, now - 1.0) + self.n_clients / self.rate
            node = self._move(rng, node)
            if rng.random() < 0.5:
                code, response = yield from self.read(
                    node, self.keys[rng.randrange(len(self.keys))], QUORUM, hlc)
            else:
                code, response = yield from self.write(
                    node, self._key_to_write(rng, number), rng.random() < 0.2, hlc=hlc)
            if passes_on and response is not None:
                hlc = max(hlc, response.hlc)
            if code != 0:
                yield FAILURE_PAUSE_S
                node = rng.randrange(len(self.names))

    def write(self, node, key, deletes, level=QUORUM, hlc=0, deadline_ms=2000):
        """A task's put of the next value, or delete; told to the history."""
        write = self.history.begin_write(key, deletes, time.monotonic())
        value = b"" if deletes else value_of(write.number)
        code, response = yield Op(node, "del" if deletes else "put", key, value, level, hlc,
                                  deadline_ms)
        if code == 0:
            version = response.write.version
            self.history.acknowledge(write, (version.hlc, version.actor), time.monotonic())
        elif code in OPEN:
            self.history.leave_open(write)
        else:
            self.history.refuse(write)
        return code, response

    def read(self, node, key, level=QUORUM, hlc=0, deadline_ms=2000):
        """A task's get; told to the history unless its level promises nothing."""
        read = self.history.begin_read(key)
        code, response = yield Op(node, "get", key, b"", level, hlc, deadline_ms)
        if code == 0 and level != ONE:
            got = response.get
            self.history.answer(read, got.found, got.value, (got.version.hlc, got.version.actor),
                                f"a read at {LEVELS[level]} through {self.names[node]}")
        return code, response

    def start(self):
        """The clients begin."""
        self.ending, self.round = False, self.round + 1
        self.clients = self.engine.run_tasks(
            self._client(i, random.Random(f"{self.seed}/{self.round}/{i}"))
            for i in range(self.n_clients))

    def pause(self):
        """The clients end what they have begun; then nothing is under way."""
        if self.clients is not None:
            self.ending = True
            self.clients.wait(60)
            self.clients = None

    def check(self):
        """Raises what has gone wrong in a client, which is a mistake of this program."""
        if self.clients is not None and self.clients.failure is not None:
            raise self.clients.failure

    def stop(self):
        self.ending = True
        self.engine.stop()

    def watch(self):
        """Watches the clients anew from now on."""
        self.engine.watch = Watch(time.monotonic())
        return self.engine.watch

    # ---- sweeps

    def _sweeper(self, names, node, level, until, into):
        for name in names:
            while True:
                code, response = yield from self.read(node, name, level, deadline_ms=5000)
                if code == 0:
                    got = response.get
                    into[name] = (got.found, bytes(got.value),
                                  (got.version.hlc, got.version.actor))
                    break
                if time.monotonic() > until:
                    raise Failed(f"{name.decode()} cannot be read at {LEVELS[level]} through "
                                 f"{self.names[node]}: error {code}")
                yield FAILURE_PAUSE_S

    def sweep(self, node, level, names=None, patience_s=20.0):
        """Reads every key through a node; what was read, by name. The clients rest."""
        into, left = {}, iter(self.keys if names is None else names)
        until = time.monotonic() + patience_s
        self.engine.run_tasks(self._sweeper(left, node, level, until, into)
                              for _ in range(SWEEPERS)).wait(600)
        return into

    def settle(self, nodes, patience_s=60.0):
        """Reads every key at all through each node, demands that they say the same, and tells the
        history that this is what the keys hold. All nodes are up and nothing is under way."""
        first = self.sweep(nodes[0], ALL, patience_s=patience_s)
        for node in nodes[1:]:
            for name, got in self.sweep(node, ALL, patience_s=patience_s).items():
                if got != first[name]:
                    self.history.contradict(name, f"all replicas read through {self.names[node]} "
                                            f"give {brief(got)}, and through "
                                            f"{self.names[nodes[0]]} {brief(first[name])}")
        for name, (found, value, version) in first.items():
            self.history.settle(name, found, value, version, time.monotonic())

    def converge(self, nodes, within_s):
        """Reads at one through each node, which asks its own replica, until all say the same.
        Returns the seconds that it took, or raises Failed."""
        began, left = time.monotonic(), list(self.keys)
        while True:
            said = [self.sweep(node, ONE, left) for node in nodes]
            left = [name for name in left if any(s[name] != said[0][name] for s in said)]
            took = time.monotonic() - began
            if not left:
                return took
            if took > within_s:
                name = left[0]
                raise Failed(f"after {took:.0f} s the replicas of {len(left)} of {len(self.keys)} "
                             f"keys differ, {name.decode()} first: " + ", ".join(
                                 f"{self.names[n]} {brief(s[name])}" for n, s in zip(nodes, said)))


def brief(got):
    found, value, version = got
    what = value[:16].decode(errors="replace") if found else "nothing"
    return f"{what} {version if version != NONE else ''}".strip()
