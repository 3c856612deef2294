#!/usr/bin/python3
"""A newer ring reaches everybody, and a node that no ring names waits for one.

Real nodes, one of which has a newer ring on its disk.

Nothing decides about rings in a running cluster yet, so ring_tamper writes a later epoch into the
store of a node that is stopped. What is checked: all nodes come to serve that epoch, also when the
one that brought it is killed on the way; it is on their disks; keys can be read and written; and a
ring in which something goes backward is taken by nobody.

    test_rings.py QUOITD QUOIT RING_TAMPER        prints TAP
"""

import json
import os
import re
import shutil
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

    def add(self):
        """Room for one more, which joins."""
        self.clients += free_ports(1)
        self.peers += free_ports(1)
        self.processes.append(None)
        return len(self.processes) - 1

    def start(self, nodes=None, how=None):
        """how: options in place of --cluster."""
        how = how or ["--cluster", ",".join(f"127.0.0.1:{p}" for p in self.peers)]
        for i in self.nodes(nodes):
            with open(self.root / f"n{i}.log", "ab") as log:
                self.processes[i] = subprocess.Popen(
                    [str(QUOITD), "--data", str(self.data(i)), "--name", f"n{i}",
                     "--listen", f"127.0.0.1:{self.clients[i]}",
                     "--peer-listen", f"127.0.0.1:{self.peers[i]}", "--http-listen", "off",
                     "--workers", str(i % 2 + 1), "--map-size", "1GiB", *how],
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

    def status(self, i):
        """{}: it does not say."""
        p = self.quoit(i, "admin", "status", "-o", "json")
        try:
            return json.loads(p.stdout)
        except ValueError:
            return {}

    def epoch(self, i):
        return self.status(i).get("epoch", 0)

    def identity(self, i):
        return json.loads((self.data(i) / "quoit.json").read_text())

    def join(self, i, *by):
        self.start([i], ["--join", ",".join(f"127.0.0.1:{self.peers[k]}" for k in by)])

    def wait_candidates(self, names, nodes=None):
        def seen(i):
            told = self.status(i)
            return told and sorted(m["node"] for m in told["candidates"] if m["state"] == "up")
        for i in self.nodes(nodes):
            wait_until(f"n{i} sees the candidates {names}", lambda: seen(i) == names, WAIT_S)

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
    works_at(c, c.nodes(None))


def works_at(c, nodes):
    for i in nodes:
        wait_until(f"n{i} takes writes for all replicas",
                   lambda: c.quoit(i, "put", "-c", "all", f"k{i}", f"v{i}").returncode == 0)
        for j in nodes:
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


def a_node_that_joins_is_seen_and_holds_nothing():
    with Cluster() as c:
        new = c.add()
        c.join(new, 1)
        c.wait_candidates(["n3"])
        equal([c.status(i)["verdict"] for i in c.nodes(None)], ["HEALTHY"] * 4)
        equal([m["slots"] for m in c.status(0)["candidates"]], [0])
        equal(sorted(m["node"] for m in c.status(new)["nodes"]), ["n0", "n1", "n2"])
        check(re.search(r"^n3 +candidate ", c.quoit(0, "admin", "status").stdout, re.M), "a row")
        equal(c.quoit(new, "put", "-t", "300ms", "k", "v").returncode, 5, "it serves")
        both = ",".join(f"127.0.0.1:{c.clients[i]}" for i in (0, new))
        for _ in range(3):  # a client that knows it as well is served by the other
            equal(c.quoit(0, "-e", both, "put", "k", "v").returncode, 0)
        equal(c.quoit(0, "put", "-c", "all", "k", "v").returncode, 0)
        identity = c.identity(new)
        equal(identity["candidate"], True)
        c.stop([new])
        c.wait_candidates([], [0, 1, 2])
        c.start([new], ["--workers", "1"])  # it knows where it belongs
        c.wait_candidates(["n3"])
        equal(c.identity(new)["node_id"], identity["node_id"])
        c.stop([1])
        c.tamper(1, 2)
        c.start([1])
        c.all_have(2)
        works_at(c, [0, 1, 2])


def a_node_whose_disk_is_empty_is_another_node():
    with Cluster() as c:
        ids = {m["node"]: m["id"] for m in c.status(0)["nodes"]}
        c.stop([2], signal.SIGKILL)
        c.data(2).rename(c.root / "lost")
        c.start([2])  # as ever, with the list of its cluster
        c.wait_candidates(["n2"])
        told = c.status(0)
        check(told["candidates"][0]["id"] != ids["n2"], "the new node has an id of its own")
        equal([m["id"] for m in told["nodes"]], [ids[m["node"]] for m in told["nodes"]])
        wait_until("the member of that name is down", lambda: [
            m["state"] for m in c.status(0)["nodes"] if m["node"] == "n2"] == ["down"], WAIT_S)
        equal(c.status(0)["verdict"], "DEGRADED")
        has(c.quoit(0, "admin", "status").stdout, "bring back the data directory of n2")
        equal(c.quoit(0, "put", "k", "v").returncode, 0)
        equal(c.quoit(0, "put", "-c", "all", "k", "v").returncode, 8)
        c.stop([2])
        c.data(2).rename(c.root / "empty")
        (c.root / "lost").rename(c.data(2))
        c.start([2])
        c.wait_candidates([])
        works(c)


def it_is_a_member_once_a_ring_names_it():
    with Cluster() as c:
        new = c.add()
        c.join(new, 0, 2)
        c.wait_candidates(["n3"])
        c.stop([0])
        c.tamper(0, 2, 0, c.identity(new)["node_id"], "n3", f"127.0.0.1:{c.clients[new]}",
                 f"127.0.0.1:{c.peers[new]}")
        c.start([0])
        c.all_have(2)
        works(c)  # through the new one as well
        c.wait_candidates([])
        equal([sorted((m["node"], m["state"]) for m in c.status(i)["nodes"])
               for i in c.nodes(None)], [[(f"n{i}", "up") for i in range(4)]] * 4)
        check("candidate" not in c.identity(new), c.identity(new))
        c.stop([new])
        c.start([new])
        c.all_have(2)
        works(c)


def who_joins_waits_for_a_cluster():
    c = Cluster()
    try:
        new = c.add()
        c.join(new, 0)
        wait_until("it looks", lambda: "looking for a cluster to join" in c.log(new))
        c.start([0], ["--cluster", f"127.0.0.1:{c.peers[0]}"])
        c.wait_candidates(["n3"], [0, new])
        c.start([1], ["--cluster", f"127.0.0.1:{c.peers[1]}"])
        c.all_have(1, [1])
        mixed = c.add()
        both = ",".join(f"127.0.0.1:{c.peers[k]}" for k in (0, 1))
        status = c.status(0)["cluster"], c.status(1)["cluster"]
        check(status[0] != status[1], "two clusters")
        for how in (["--join", both], ["--cluster", f"{both},127.0.0.1:{c.peers[mixed]}"]):
            c.start([mixed], how)
            equal(c.processes[mixed].wait(START_S), 1)
            has(c.log(mixed), "--join and --cluster must list peers of one cluster")
            shutil.rmtree(c.data(mixed))
            (c.root / f"n{mixed}.log").unlink()
    finally:
        c.__exit__()


TESTS = [all_come_to_serve_it, a_member_that_was_down_is_brought_it, who_has_heard_of_it_tells_on,
         it_is_killed_on_the_way_and_comes_back, a_ring_that_goes_backward_is_taken_by_nobody,
         a_node_that_joins_is_seen_and_holds_nothing, a_node_whose_disk_is_empty_is_another_node,
         it_is_a_member_once_a_ring_names_it, who_joins_waits_for_a_cluster]


if __name__ == "__main__":
    sys.exit(run_all(chosen(TESTS, sys.argv[4:])))
