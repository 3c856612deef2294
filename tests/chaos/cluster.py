"""cluster: quoitds as real processes, and what can be done to them.

A node is a directory, two addresses, and a process that is started, killed, stopped with a signal
that it cannot refuse, and started again. `wrap` puts words before its command (to enter a network
namespace) and `env` is added to its environment (for a clock of its own), so what a fault needs is
given from outside. Every process dies with this one, however it ends.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "e2e"))
from client import Client, QuoitError  # noqa: E402
from harness import free_ports  # noqa: E402
from load import Failed  # noqa: E402
from processes import suspend  # noqa: E402

START_S = 60  # a node that does not serve after this long has failed
STOP_S = 30
READY = 1  # ring.proto: slot_state
LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


def die_with_parent():
    """In the child, before exec."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def wait_until(what, condition, seconds=START_S):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.01)



class Node:
    def __init__(self, cluster, index, host, ports):
        self.cluster, self.index, self.name = cluster, index, f"n{index + 1}"
        self.host, (self.client_port, self.peer_port) = host, ports
        self.data = cluster.directory / self.name
        self.log_path = cluster.directory / f"{self.name}.log"
        self.wrap, self.env = [], {}
        self.process = None

    def command(self, *options, data=None):
        return [*self.wrap, str(self.cluster.quoitd), "--data", str(data or self.data),
                "--name", self.name, "--listen", f"{self.host}:{self.client_port}",
                "--peer-listen", f"{self.host}:{self.peer_port}", "--http-listen", "off",
                *self.cluster.options,
                *map(str, options)]

    def start(self, *options, data=None):
        """Begins a process; it may not serve yet."""
        return self.start_command(self.command(*options, "--cluster", self.cluster.list, data=data))

    def start_command(self, command):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, preexec_fn=die_with_parent,
                                            env={**os.environ, **self.env})
        return self

    def runs(self):
        return self.process is not None and self.process.poll() is None

    def check_runs(self):
        if not self.runs():
            raise Failed(f"{self.name} has ended by itself (status "
                         f"{self.process and self.process.returncode}):\n{self.tail()}")

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def terminate(self):
        """SIGTERM, which must end it with 0."""
        self.process.terminate()
        try:
            status = self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failed(f"{self.name} does not obey SIGTERM:\n{self.tail()}") from None
        if status != 0:
            raise Failed(f"{self.name} ends with {status} after SIGTERM:\n{self.tail()}")

    def suspend(self):
        suspend(self.process.pid, wait_until)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def ended(self, seconds=START_S):
        """The status with which it ends by itself, or None if it does not."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def lines(self, text, *parts):
        """Lines of the log with this message and these parts."""
        return [line for line in self.log().splitlines()
                if f'msg="quoitd: {text}"' in line and all(p in line for p in parts)]

    def tail(self, n=15):
        return "\n".join(f"    | {line}" for line in self.log().splitlines()[-n:])

    def client(self, timeout_s=5.0):
        return Client(self.cluster.pb, (self.host, self.client_port), timeout_s)

    def _tries(self, ask):
        self.check_runs()
        try:
            with self.client(timeout_s=3.0) as c:
                return ask(c)
        except (OSError, QuoitError):
            return False

    def serves(self):
        """Has it a ring?"""
        return self._tries(lambda c: c.ping().serving)

    def stores(self, level=2):
        """Does a write through it, at quorum unless told otherwise, find an answer?"""
        return self._tries(lambda c: c.put(b"chaos-probe", b"", level=level, deadline_ms=2000))

    def reads(self, level=2):
        return self._tries(lambda c: c.get(b"chaos-probe", level=level, deadline_ms=2000))

    def wait_stores(self, level=2, seconds=START_S):
        """Returns how long that took."""
        began = time.monotonic()
        wait_until(f"{self.name} stores", lambda: self.stores(level), seconds)
        return time.monotonic() - began


class Cluster:
    def __init__(self, quoitd, pb, directory, n, hosts=None, options=()):
        """hosts: an address per node, which then uses the default ports; else all on loopback."""
        self.quoitd, self.pb = Path(quoitd).resolve(), pb
        self.directory, self.options = Path(directory), list(options)
        self.directory.mkdir(parents=True, exist_ok=True)
        ports = [7400, 7401] * n if hosts else free_ports(2 * n)
        self.nodes = [Node(self, i, hosts[i] if hosts else "127.0.0.1", ports[2 * i:2 * i + 2])
                      for i in range(n)]
        self.list = ",".join(f"{node.host}:{node.peer_port}" for node in self.nodes)

    @property
    def names(self):
        return [node.name for node in self.nodes]

    @property
    def addresses(self):
        return [(node.host, node.client_port) for node in self.nodes]

    def start(self):
        for node in self.nodes:
            node.start()
        self.wait_whole()

    def wait_whole(self, seconds=START_S):
        """Until each node, asked itself, writes to and reads from every replica. Returns how long
        that took."""
        began = time.monotonic()
        for node in self.nodes:
            wait_until(f"{node.name} reaches all replicas", lambda n=node: n.stores(level=3),
                       seconds)
        return time.monotonic() - began

    def wait_equal(self, seconds):
        """Until the hash trees of all replicas of each partition are equal, while nobody writes.
        Returns how long that took."""
        began = time.monotonic()
        wait_until("the replicas' trees are equal", lambda: not self.differing(), seconds)
        return time.monotonic() - began

    def differing(self):
        """Partitions whose replicas differ, or could not all be asked."""
        told = []
        for node in self.nodes:
            with node.client() as c:
                told.append(c.digests())
                ring = c.ring()
        held = [sum(p in digests for digests in told) for p in range(ring.n_partitions)]
        return [p for p in range(ring.n_partitions)
                if held[p] != sum(1 for s in range(ring.n_slots)
                                  if ring.slot_state[p * ring.n_slots + s] == READY)
                or len({digests[p] for digests in told if p in digests}) != 1]

    def others(self, *nodes):
        return [node for node in self.nodes if node not in nodes]

    def stop(self):
        """As an operator would."""
        for node in self.nodes:
            if node.runs():
                node.terminate()

    def remove(self):
        """Leaves no process and no data, whatever has happened."""
        for node in self.nodes:
            node.kill()
        shutil.rmtree(self.directory, ignore_errors=True)
