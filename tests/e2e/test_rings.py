#!/usr/bin/python3
"""A newer ring reaches everybody: real nodes, one of which has it on its disk.

Nothing decides about rings in a running cluster yet, so ring_tamper writes a later epoch into the
store of a node that is stopped. What is checked: all nodes come to serve that epoch, also when the
one that brought it is killed on the way; it is on their disks; keys can be read and written; and a
ring in which something goes backward is taken by nobody.

    test_rings.py QUOITD QUOIT RING_TAMPER        prints TAP
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import START_S, check, chosen, equal, free_ports, has, run_all, wait_until

WAIT_S = 60
QUOITD, QUOIT, TAMPER = (Path(a).resolve() for a in sys.argv[1:4])
SCRATCH = tempfile.TemporaryDirectory(prefix="quoit-rings-")


class Cluster:
    def __init__(self, n=3):
        self.clients, self.peers = free_ports(n), free_ports(n)
        self.processes = [None] * n
        self.root = Path(tempfile.mkdtemp(dir=SCRATCH.name))

    def __enter__(self):
        self.start()
        self.all_have(1)
        return self

    def __exit__(self, *_):
        for p in self.processes:
            if p and p.poll() is None:
                p.kill()
                p.wait()

    def nodes(self, nodes):
        return range(len(self.processes)) if nodes is None else nodes

    def data(self, i):
        return self.root / f"n{i}"

    def start(self, nodes=None):
        for i in self.nodes(nodes):
            with open(self.root / f"n{i}.log", "ab") as log:
                self.processes[i] = subprocess.Popen(
                    [str(QUOITD), "--data", str(self.data(i)), "--name", f"n{i}",
                     "--listen", f"127.0.0.1:{self.clients[i]}",
                     "--peer-listen", f"127.0.0.1:{self.peers[i]}", "--http-listen", "off",
                     "--workers", str(i % 2 + 1), "--map-size", "1GiB",
                     "--cluster", ",".join(f"127.0.0.1:{p}" for p in self.peers)],
                    stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def stop(self, nodes=None, number=signal.SIGTERM):
        for i in self.nodes(nodes):
            self.processes[i].send_signal(number)
        for i in self.nodes(nodes):
            status = self.processes[i].wait(START_S)
            if number == signal.SIGTERM:
                equal(status, 0, f"status of n{i}")

    def tamper(self, i, *args):
        """Writes a ring of a later epoch into the store of a node that is stopped."""
        subprocess.run([str(TAMPER), str(self.data(i) / "store"), *map(str, args)], check=True,
                       timeout=START_S)

    def quoit(self, i, *args):
        clean = {k: v for k, v in os.environ.items() if not k.startswith("QUOIT_")}
        return subprocess.run([str(QUOIT), "-e", f"127.0.0.1:{self.clients[i]}", *args],
                              capture_output=True, text=True, timeout=START_S, env=clean)

    def epoch(self, i):
        """0: it does not say."""
        p = self.quoit(i, "admin", "status", "-o", "json")
        try:
            return json.loads(p.stdout)["epoch"]
        except ValueError:
            return 0

    def all_have(self, epoch, nodes=None):
        for i in self.nodes(nodes):
            check(self.processes[i].poll() is None, f"n{i} has ended:\n{self.log(i)}")
            wait_until(f"n{i} serves epoch {epoch}", lambda: self.epoch(i) == epoch,
                       WAIT_S)

    def log(self, i):
        return (self.root / f"n{i}.log").read_text(errors="replace")


def primary(c, i, key):
    p = c.quoit(i, "where", key, "-o", "json")
    equal(p.returncode, 0, p.stderr)
    return p.stdout


def works(c):
    for i in c.nodes(None):
        wait_until(f"n{i} takes writes for all replicas",
                   lambda: c.quoit(i, "put", "-c", "all", f"k{i}", f"v{i}").returncode == 0)
        for j in c.nodes(None):
            equal(c.quoit(j, "get", f"k{i}").stdout.strip(), f"v{i}", f"k{i} at n{j}")


def all_come_to_serve_it():
    with Cluster() as c:
        before = primary(c, 0, "k0")
        c.stop()
        c.tamper(1, 2)
        c.start()
        c.all_have(2)
        works(c)
        for i in (0, 2):
            has(c.log(i), "a member has a newer ring")
        after = primary(c, 0, "k0")
        check(before != after, "the ring has changed: " + after)
        equal([primary(c, i, "k0") for i in (1, 2)], [after] * 2, "where k0 lies")
        c.stop()  # it is on every disk
        for i in c.nodes(None):
            c.start([i])
            c.all_have(2, [i])
            c.stop([i])


def a_member_that_was_down_is_brought_it():
    with Cluster() as c:
        c.stop([2])
        c.stop([0])
        c.tamper(0, 5)
        c.start([0])
        c.all_have(5, [0, 1])
        c.start([2])
        c.all_have(5)
        works(c)


def who_has_heard_of_it_tells_on():
    """The one that brought it is gone before the third comes."""
    with Cluster() as c:
        c.stop()
        c.tamper(0, 3)
        c.start([0, 1])
        c.all_have(3, [1])
        c.stop([0], signal.SIGKILL)
        c.start([2])
        c.all_have(3, [1, 2])
        c.start([0])
        c.all_have(3)
        works(c)


def it_is_killed_on_the_way_and_comes_back():
    """As soon as it listens, says hello, is asked, or later: wherever that hits."""
    with Cluster() as c:
        for epoch, words in enumerate(("listening", "serving", "member is there", "epoch="), 2):
            c.stop()
            c.tamper(0, epoch)
            seen = c.log(0).count(words)
            c.start()
            wait_until(f"n0 says {words}", lambda: c.log(0).count(words) > seen)
            c.stop([0], signal.SIGKILL)
            c.start([0])
            c.all_have(epoch)
        works(c)


def a_ring_that_goes_backward_is_taken_by_nobody():
    with Cluster() as c:
        c.stop()
        c.tamper(0, 2, 10)  # some incarnations have been given out
        c.start()
        c.all_have(2)
        c.stop()
        c.tamper(1, 4, -10)  # decided without them
        c.start()
        for i in (0, 2):
            wait_until(f"n{i} refuses it", lambda: "is not taken" in c.log(i))
            has(c.log(i), "its number of the next incarnation goes backward")
            equal(c.epoch(i), 2, f"epoch of n{i}")
        c.stop([1])
        c.tamper(1, 5, 10)
        c.start([1])
        c.all_have(5)
        equal([c.log(i).count("is not taken") for i in (0, 2)], [1, 1], "times that it is told")


TESTS = [all_come_to_serve_it, a_member_that_was_down_is_brought_it, who_has_heard_of_it_tells_on,
         it_is_killed_on_the_way_and_comes_back, a_ring_that_goes_backward_is_taken_by_nobody]


if __name__ == "__main__":
    sys.exit(run_all(chosen(TESTS, sys.argv[4:])))
