#!/usr/bin/python3
"""What operators see of real nodes: `quoit admin status` as a screen, as JSON and for monitors;
what /metrics, /healthz and /readyz say.

Three nodes; one is killed, comes back, and is stopped politely. The table of client/README.md is
held against the JSON in both directions. The page of metrics is read line by line by a small parser
that is strict about what Prometheus asks for; promtool reads it as well where there is one.

    test_status.py QUOITD QUOIT ROOT        prints TAP
"""

import json
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from harness import (START_S, Skip, check, chosen, equal, free_port, has, run_all,
                     wait_until)

QUOITD, QUOIT, ROOT = (Path(a).resolve() for a in sys.argv[1:4])
SCRATCH = tempfile.TemporaryDirectory(prefix="quoit-status-")
OK, USAGE, NOT_FOUND, UNREACHABLE, ASSERTION = 0, 2, 3, 5, 11







class Node:
    def __init__(self, name, peer_port, cluster, *options):
        self.name = name
        self.port, self.peer_port, self.http_port = free_port(), peer_port, free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.dir = Path(SCRATCH.name) / f"{name}-{self.port}"
        self.dir.mkdir()
        self.command = [str(QUOITD), "--data", str(self.dir / "data"), "--name", name,
                        "--listen", self.address, "--peer-listen", f"127.0.0.1:{peer_port}",
                        "--http-listen", f"127.0.0.1:{self.http_port}", *options]
        if cluster:
            self.command += ["--cluster", ",".join(f"127.0.0.1:{p}" for p in cluster)]
        self.process = None
        self.start()

    def start(self):
        with open(self.dir / "log", "ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL)

    def log(self):
        return (self.dir / "log").read_text(errors="replace")

    def end(self, number=signal.SIGKILL):
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(START_S)


    def http(self, path, method="GET", body=None):
        """(status, content type, body)"""
        request = urllib.request.Request(f"http://127.0.0.1:{self.http_port}{path}", body,
                                         method=method)
        try:
            with urllib.request.urlopen(request, timeout=START_S) as r:
                return r.status, r.headers["Content-Type"], r.read().decode()
        except urllib.error.HTTPError as e:
            return e.code, e.headers["Content-Type"], e.read().decode()


class Cluster:
    """One node for each size of a map; the first has one worker, the next two, ..."""
    def __init__(self, sizes=("1GiB",) * 3, options=()):
        ports = [free_port() for _ in sizes]
        self.nodes = [Node(f"n{i + 1}", p, ports, "--zone", f"z{i + 1}", "--workers", str(i + 1),
                           "--map-size", size, *options)
                      for i, (p, size) in enumerate(zip(ports, sizes))]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for node in self.nodes:
            node.end()


def quoit(*args, e, ok=OK):
    """Runs the command; ok: the exit code expected, None for any."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("QUOIT_")}
    p = subprocess.run([str(QUOIT), "-e", e.address, *args], capture_output=True, text=True,
                       timeout=START_S, env=clean)
    if ok is not None and p.returncode != ok:
        raise AssertionError(f"{args} exits {p.returncode}, expected {ok}:\n{p.stdout}\n{p.stderr}")
    return p


def status(node, *args, ok=OK):
    return json.loads(quoit("admin", "status", "-o", "json", *args, e=node, ok=ok).stdout)


def is_healthy(node):
    return quoit("admin", "status", "--check", "-q", e=node, ok=None).returncode == OK


def node_of(told, name):
    return next(n for n in told["nodes"] if n["node"] == name)


# ---- metrics ---------------------------------------------------------------------------------

SAMPLE = re.compile(r'([a-z_:][a-z0-9_:]*)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\[\\"n])*",?)*)\})? (\S+)')
LABEL = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"')



def read_metrics(text):
    """The page as {(name, labels): value}, of which the form is checked as promtool would."""
    check(text.endswith("\n"), "the last line ends")
    values, kinds, helped, family = {}, {}, set(), None
    for line in text.splitlines():
        if line.startswith("# HELP "):
            family, help_text = line[7:].split(" ", 1)
            check(family not in helped and help_text, line)
            helped.add(family)
        elif line.startswith("# TYPE "):
            name, kind = line[7:].split(" ")
            check(name == family and name not in kinds, f"{line}: follows its HELP")
            kinds[name] = kind
            check((kind == "counter") == name.endswith("_total"), line)
        else:
            m = SAMPLE.fullmatch(line)
            check(m, f"no sample: {line}")
            name, labels = m.group(1), tuple(sorted(LABEL.findall(m.group(2) or "")))
            parts = "_(bucket|sum|count)$" if kinds[family] == "histogram" else "^$"
            check(re.sub(parts, "", name) == family, f"{line}: stands under {family}")
            check((name, labels) not in values, f"{line}: twice")
            values[name, labels] = float(m.group(3))
            check(not math.isnan(values[name, labels]) and values[name, labels] >= 0, line)
    equal(set(kinds), helped, "each has help and type")
    check_histograms(values, [n for n, k in kinds.items() if k == "histogram"])
    return values


def check_histograms(values, names):
    check(names, "there is a histogram")
    for name in names:
        verbs = {dict(labels)["verb"] for n, labels in values if n == f"{name}_count"}
        for verb in verbs:
            buckets = [(float(dict(labels)["le"]), v) for (n, labels), v in values.items()
                       if n == f"{name}_bucket" and dict(labels)["verb"] == verb]
            equal(buckets, sorted(buckets), f"{name} of {verb}: bounds and counts grow")
            equal(buckets[-1], (math.inf, values[f"{name}_count", (("verb", verb),)]), name)


def metrics(node):
    status_, type_, text = node.http("/metrics")
    equal((status_, type_), (200, "text/plain; version=0.0.4; charset=utf-8"))
    return read_metrics(text)


def value(values, name, **labels):
    return values[name, tuple(sorted(labels.items()))]


# ---- the tests, in this order on one cluster ---------------------------------------------------

def each_node_says_that_all_is_well(c):
    for node in c.nodes:
        wait_until(f"{node.name} healthy", lambda n=node: is_healthy(n))
        told = status(node)
        equal((told["verdict"], told["nodes_up"]), ("HEALTHY", 3), node.name)
        equal(told["answered_by"], node_of(told, node.name)["id"], "who answers")
        equal(told["partitions_by_live"], [0, 0, 0, 1024])
        equal([n["state"] for n in told["nodes"]], ["up"] * 3)
        equal(sum(n["slots"] for n in told["nodes"]), 3 * 1024)
        equal(told["problems"], [])
    screen = quoit("admin", "status", e=c.nodes[0]).stdout
    check(screen.startswith("HEALTHY   3 of 3 nodes up; every key has its 3 replicas\n"), screen)
    has(screen, "TO DO nothing")
    for name in ("n1", "n2", "n3"):
        check(re.search(rf"^{name} +v +up +z{name[1]} +1 +1024 ", screen, re.M), screen)


def loads_travel_by_gossip(c):
    lines = "".join(f"key{i}\tvalue\n" for i in range(300))
    (Path(SCRATCH.name) / "lines").write_text(lines)
    quoit("import", f"@{SCRATCH.name}/lines", e=c.nodes[0])

    def all_know():
        for asked in c.nodes:
            for told in status(asked)["nodes"]:
                load = told["load"]
                if not load or load["keys"] != 300 or load["bytes"] == 0:
                    return False
        return True
    wait_until("everybody knows how many keys everybody has", all_know)
    first = c.nodes[0]

    def has_a_rate():
        for _ in range(10):
            quoit("get", "key1", e=first)
        load = node_of(status(first), "n1")["load"]
        return load["ops_per_s"] > 0 and load["p99_us"] > 0
    wait_until("a rate and a time", has_a_rate)
    load = node_of(status(c.nodes[2]), "n2")["load"]
    check(0 <= load["disk_percent"] <= 100, load)
    equal((load["no_space"], load["clock_off"]), (False, False))


def the_json_is_what_the_page_says(c):
    page = (ROOT / "client/README.md").read_text().split("## Status as JSON")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| `([^`]+)` \| (\w+\??) \|", page, re.M))
    check(len(rows) > 40, f"{len(rows)} rows read")
    kinds = {str: "string", bool: "boolean", int: "integer", list: "array", dict: "object"}
    seen = set()

    def walk(value, path):
        check(path in rows, f"{path} is not on the page")
        kind = rows[path]
        seen.add(path)
        if value is None:
            check(kind.endswith("?"), f"{path} is null")
        else:
            equal(kinds[type(value)], kind.rstrip("?"), path)
        if isinstance(value, dict):
            walk_fields(value, path + ".")
        for item in value if isinstance(value, list) else []:
            if isinstance(item, dict):
                walk_fields(item, path + "[].")
            else:
                walk(item, path + "[]")

    def walk_fields(value, prefix):
        for name, item in value.items():
            walk(item, prefix + name)

    walk_fields(status(c.nodes[0], "--vnodes"), "")
    # problems are walked while there are some, below
    equal({r for r in rows if not r.startswith("problems[]")} - seen, set(), "on the page only")
    c.rows_walked = walk_fields, rows, seen


def a_vnode_is_told_with_its_owners(c):
    told = status(c.nodes[1], "--vnodes")
    equal(len(told["vnodes"]), 1024)
    for p, vnode in enumerate(told["vnodes"]):
        equal((vnode["partition"], vnode["live"]), (p, 3))
        equal(sorted(s["node"] for s in vnode["slots"]), ["n1", "n2", "n3"])
        for what in ["records", "tombstones", "digest"]:
            equal([s["node"] for s in vnode["slots"] if s[what] is not None], ["n2"], what)
    check("vnodes" not in status(c.nodes[1]), "only when asked for")
    has(quoit("admin", "status", "--vnodes", e=c.nodes[1], ok=USAGE).stderr, "-o json")


def counts(node):
    """(records, tombstones) of each partition, of the node's own replicas."""
    return [(s["records"], s["tombstones"]) for s in own_slots(node)]


def own_slots(node):
    told = status(node, "--vnodes")["vnodes"]
    return [next(s for s in v["slots"] if s["node"] == node.name) for v in told]


def a_replicas_records_are_counted(c):
    keys = [f"vnode{i}" for i in range(20)]
    put, gone = [0] * 1024, [0] * 1024
    for i, key in enumerate(keys):
        where = json.loads(quoit("where", "-o", "json", key, e=c.nodes[0]).stdout)["partition"]
        put[where] += 1
        gone[where] += i % 4 == 0
    before = [counts(node) for node in c.nodes]
    for i, key in enumerate(keys):
        quoit("put", "-c", "all", key, "v", e=c.nodes[0])
        if i % 4 == 0:
            quoit("del", "-c", "all", key, e=c.nodes[0])
    for node, old in zip(c.nodes, before):
        equal(counts(node), [(n + put[p], m + gone[p]) for p, (n, m) in enumerate(old)], node.name)


def replicas_that_hold_the_same_have_one_digest(c):
    def digests(node):
        return [s["digest"] for s in own_slots(node)]

    before = digests(c.nodes[0])
    where = json.loads(quoit("where", "-o", "json", "digest", e=c.nodes[0]).stdout)["partition"]
    quoit("put", "-c", "all", "digest", "v", e=c.nodes[0])
    after = digests(c.nodes[0])
    check(re.fullmatch("[0-9a-f]{16}", after[where]), after[where])
    equal([p for p, (a, b) in enumerate(zip(before, after)) if a != b], [where])
    for node in c.nodes[1:]:
        equal(digests(node), after, node.name)


def one_node_is_told_alone(c):
    told = status(c.nodes[0], "n2")
    equal([n["node"] for n in told["nodes"]], ["n2"])
    screen = quoit("admin", "status", "n2", e=c.nodes[0]).stdout
    has(screen, f"peers 127.0.0.1:{c.nodes[1].peer_port}")
    id_ = told["nodes"][0]["id"]
    equal(quoit("admin", "status", id_[:8], e=c.nodes[0]).stdout.split("\n")[2],
          screen.split("\n")[2], "by its id")
    run = quoit("admin", "status", "n9", e=c.nodes[0], ok=NOT_FOUND)
    has(run.stderr, "there is no node n9")
    equal(run.stdout, "")


def metrics_count_what_is_asked(c):
    node = c.nodes[0]
    before = metrics(node)
    for i in range(7):
        quoit("put", "--direct", f"counted{i}", "v", e=node)
    quoit("get", "--direct", "counted1", e=node)
    quoit("get", "--direct", "not there", e=node, ok=NOT_FOUND)
    quoit("del", "--direct", "counted1", e=node)
    after = metrics(node)

    def grown(name, **labels):
        return value(after, name, **labels) - value(before, name, **labels)
    equal(grown("quoit_requests_total", verb="put", outcome="ok"), 7)
    equal(grown("quoit_requests_total", verb="get", outcome="ok"), 1)
    equal(grown("quoit_requests_total", verb="get", outcome="not_found"), 1)
    equal(grown("quoit_requests_total", verb="del", outcome="ok"), 1)
    equal(grown("quoit_request_seconds_count", verb="put"), 7)
    equal(grown("quoit_request_seconds_count", verb="get"), 2)
    took = grown("quoit_request_seconds_sum", verb="put")
    check(0 < took < 7 * START_S, f"{took} s for 7 puts")
    for name in ("n1", "n2", "n3"):
        equal(value(after, "quoit_peer_up", node=name), 1)
    equal(value(after, "quoit_cluster_verdict", verdict="healthy"), 1)
    equal(value(after, "quoit_cluster_partitions", live="3"), 1024)
    equal(value(after, "quoit_ring_epoch"), 1)
    equal(value(after, "quoit_store_map_bytes"), 1 << 30)
    for name in ("healed_records_total", "damaged_records", "heals_put_off_total"):
        equal(value(after, "quoit_repair_" + name), 0)  # nothing is damaged
    check(value(after, "quoit_store_syncs_total") > 0, "syncs")
    check(value(after, "quoit_gossip_messages_total") > 0, "gossip")
    # a second later it has been counted what the store holds: 300 and 7, one of them deleted
    wait_until("the keys are told", lambda: value(metrics(node), "quoit_store_keys") >= 307)


def metrics_are_as_many_whatever_the_ring(c):
    check(len(metrics(c.nodes[1])) < 400, "no line for each partition")


def promtool_finds_nothing(c):
    promtool = shutil.which("promtool")
    if not promtool:
        raise Skip("promtool is not here")
    for node in c.nodes:
        run = subprocess.run([promtool, "check", "metrics"], input=node.http("/metrics")[2],
                             capture_output=True, text=True, timeout=START_S)
        equal((run.returncode, run.stdout + run.stderr), (0, ""), "promtool check metrics")


def n_accepted(port):
    """Connections at the port that are established and not in the kernel's queue: those have no
    inode yet."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1].endswith(f":{port:04X}") and row[3] == "01" and row[9] != "0"
               for row in rows)


def monitors_are_answered(c):
    node = c.nodes[0]
    equal(node.http("/healthz")[::2], (200, "ok\n"))
    wait_until("ready", lambda: node.http("/readyz")[::2] == (200, "ready\n"))
    equal(node.http("/metrics", method="HEAD")[::2], (200, ""))
    equal(node.http("/nothing")[0], 404)
    equal(node.http("/metrics/../etc/passwd")[0], 404)
    equal(node.http("/metrics", method="POST", body=b"x" * 100000)[0], 405)
    # more connections than are taken, then nonsense: afterwards all is as before
    idle = [socket.create_connection(("127.0.0.1", node.http_port), START_S) for _ in range(40)]
    wait_until("32 connections are taken", lambda: n_accepted(node.http_port) >= 32)
    for s in idle:
        s.close()
    equal(node.http("/healthz")[0], 200)
    with socket.create_connection(("127.0.0.1", node.http_port), START_S) as s:
        s.sendall(b"\0\xff" * 20000 + b"\r\n\r\n")
        equal(node.http("/healthz")[0], 200)
    equal(node.http("/healthz")[0], 200)


def a_busy_port_is_a_sentence(c):
    node = c.nodes[0]
    p = subprocess.run([str(QUOITD), "--data", str(node.dir / "other"), "--listen", "127.0.0.1:0",
                        "--peer-listen", "127.0.0.1:0", "--http-listen",
                        f"127.0.0.1:{node.http_port}"], capture_output=True, text=True,
                       timeout=START_S, stdin=subprocess.DEVNULL)
    equal(p.returncode, 1)
    has(p.stderr, f"cannot listen for monitors on 127.0.0.1:{node.http_port}: Address already in "
                  "use. Choose another address with --http-listen.")


def a_node_that_is_killed_is_told_as_down(c):
    n1, n2, n3 = c.nodes
    n3.end()
    for asked in (n1, n2):
        wait_until("n3 is down", lambda a=asked: node_of(status(a), "n3")["state"] == "down")
        told = status(asked)
        equal((told["verdict"], told["nodes_up"]), ("DEGRADED", 2))
        equal(told["partitions_by_live"], [0, 0, 1024, 0])
        equal((told["partitions_no_quorum"], told["partitions_no_write"]), (0, 0))
        problem, = told["problems"]
        equal((problem["kind"], problem["node"]), ("down", "n3"))
        has(problem["text"], f"127.0.0.1:{n3.peer_port} does not answer")
        check(node_of(told, "n3")["load"]["keys"] >= 300, "its last word")
    run = quoit("admin", "status", "--check", e=n1, ok=ASSERTION)
    has(run.stdout, "DEGRADED 1 of 3 nodes is not up; 1024 of 1024 partitions have 2 of 3 replicas")
    has(run.stdout, "`all` fails there (exit 8)")
    has(run.stdout, "WRONG n3 is down for")
    has(run.stdout, "TO DO start quoitd on n3")
    walk_fields, names, seen = c.rows_walked
    walk_fields(status(n1), "")
    equal(set(names) - seen, set(), "on the page only")
    rows = [l for l in run.stdout.splitlines() if re.match(r"n\d ", l)]
    check(re.match(r"n3 +v +DOWN \d+ (ms|s) ", rows[0]), rows)
    check(all(len(l) <= 80 for l in run.stdout.splitlines()), run.stdout)
    equal(quoit("admin", "status", "--check", "-q", e=n1, ok=ASSERTION).stdout, "", "quiet")
    seen_from = metrics(n1)
    equal(value(seen_from, "quoit_peer_up", node="n3"), 0)
    equal(value(seen_from, "quoit_peer_up", node="n2"), 1)
    equal(value(seen_from, "quoit_cluster_verdict", verdict="degraded"), 1)
    equal(value(seen_from, "quoit_cluster_members", state="down"), 1)
    equal(n1.http("/readyz")[0], 200, "n1 itself is well")
    # of one node: that one
    quoit("admin", "status", "n3", "--check", e=n1, ok=ASSERTION)
    quoit("admin", "status", "n2", "--check", e=n1)
    # the verdict is true: what it says goes on goes on, and what it says fails fails
    quoit("put", "k", "v", e=n1)
    quoit("put", "-c", "all", "k", "v", e=n1, ok=8)


def two_away_are_too_many(c):
    n1, n2, _ = c.nodes
    n2.end()
    wait_until("n2 is down", lambda: node_of(status(n1), "n2")["state"] == "down")
    told = status(n1, "--check", ok=ASSERTION)
    equal((told["verdict"], told["partitions_no_quorum"]), ("UNAVAILABLE", 1024))
    equal(sorted(p["node"] for p in told["problems"]), ["n2", "n3"])
    has(quoit("admin", "status", e=n1).stdout,
        "UNAVAILABLE 1024 of 1024 partitions cannot be read or written at quorum")
    quoit("get", "k", e=n1, ok=8)
    quoit("get", "-c", "one", "k", e=n1)


def they_come_back_and_all_is_well(c):
    for node in c.nodes[1:]:
        node.start()
    for node in c.nodes:
        wait_until(f"{node.name} healthy", lambda n=node: is_healthy(n))
    equal(node_of(status(c.nodes[0]), "n2")["boot"], 2)


def a_node_that_stops_says_so(c):
    n1, _, n3 = c.nodes
    equal(n3.end(signal.SIGTERM), 0, "exit status")
    wait_until("n3 has stopped", lambda: node_of(status(n1), "n3")["state"] == "stopped")
    problem, = status(n1)["problems"]
    equal(problem["kind"], "stopped")
    has(problem["advice"], "start quoitd on n3 again")


def a_member_that_never_came_is_told(c):
    n1, n2, _ = c.nodes
    n2.end()
    n1.end()
    n1.start()
    wait_until("n1 answers", lambda: quoit("ping", "-q", e=n1, ok=None).returncode == OK)
    told = status(n1)
    equal(node_of(told, "n3")["heard_ms"], None)
    equal(node_of(told, "n3")["load"], None)
    wait_until("both are missed", lambda: len(status(n1)["problems"]) == 2)
    check({p["kind"] for p in status(n1)["problems"]} <= {"never_came", "down"}, status(n1))


def nobody_answers(c):
    c.nodes[0].end()
    quoit("admin", "status", e=c.nodes[0], ok=UNREACHABLE)


def a_node_that_waits_for_its_cluster_says_so(_):
    ports = [free_port(), free_port()]
    node = Node("lonely", ports[0], ports)
    try:
        wait_until("it listens", lambda: "listening" in node.log())
        run = quoit("--timeout", "1s", "admin", "status", e=node, ok=UNREACHABLE)
        has(run.stderr, "serves nothing yet")
        equal(node.http("/healthz")[0], 200)
        equal(node.http("/readyz")[::2], (503, "not ready: the node belongs to no ring yet\n"))
        values = metrics(node)
        equal((value(values, "quoit_ready"), value(values, "quoit_ring_epoch")), (0, 0))
        equal(node.end(signal.SIGTERM), 0, "exit status")
    finally:
        node.end()


def what_is_full_is_told_with_what_goes_on(_):
    """One node, which is full; and two of three, while the third still takes what it is sent."""
    def fill(node):
        """A put more, until every node that can be full has said so."""
        quoit("--timeout", "200ms", "put", f"fill {os.urandom(4).hex()}", f"@{value_path}",
              e=node, ok=None)
        return status(node)["partitions_no_write"] == 1024

    value_path = Path(SCRATCH.name) / "fill"
    value_path.write_bytes(bytes(64 << 10))
    with Cluster(["4MiB"]) as alone, Cluster(["4MiB", "4MiB", "1GiB"]) as three:
        nodes = [alone.nodes[0], three.nodes[2]]
        for node in nodes:
            wait_until("healthy", lambda at=node: is_healthy(at))
            quoit("put", "kept", "v", e=node)
        wait_until("full", lambda: all([fill(node) for node in nodes]), 60)
        for node, exit_of_a_put in zip(nodes, [1, 6]):
            run = quoit("admin", "status", "--check", e=node, ok=ASSERTION)
            has(run.stdout, "UNAVAILABLE 1024 of 1024 partitions cannot be written at quorum")
            has(run.stdout, "Gets and deletes go on; puts there are refused for want of space "
                "(exit 1), or left open where a replica still has room (exit 6).")
            equal(status(node)["partitions_no_quorum"], 0)
            # and so it is
            quoit("--timeout", "1s", "put", "k", f"@{value_path}", e=node, ok=exit_of_a_put)
            quoit("get", "kept", e=node)
            quoit("del", "kept", e=node)
            quoit("get", "kept", e=node, ok=NOT_FOUND)


def what_deletions_leave_behind_is_purged(_):
    """Also after a node has missed the deletions; what was deleted stays so on each of them."""
    def tombstones(node):
        return value(metrics(node), "quoit_store_tombstones")

    def purged(node):
        return value(metrics(node), "quoit_store_purged_total")

    def delete(at, keys):
        for key in keys:
            quoit("del", key, e=at)

    early, late, kept = ([f"{word} {i}" for i in range(12)] for word in ("early", "late", "kept"))
    with Cluster(options=("--purge-age", "1s")) as c:
        n1, n2, n3 = c.nodes
        wait_until("healthy", lambda: all(is_healthy(n) for n in c.nodes))
        for key in early + late + kept:
            quoit("put", key, "v", e=n1)
        delete(n1, early)
        wait_until("early ones are gone", lambda: all(purged(n) >= 12 for n in c.nodes), 60)
        n3.end()
        wait_until("n3 is missed", lambda: not is_healthy(n1))
        delete(n2, late)
        wait_until("late ones lie on disk", lambda: tombstones(n1) + tombstones(n2) >= 24, 60)
        n3.start()
        wait_until("late ones are gone", lambda: all(purged(n) >= 12 and tombstones(n) == 0
                                                     for n in c.nodes), 90)
        n1.end()
        n1.start()  # the floors are known from before
        wait_until("healthy", lambda: all(is_healthy(n) for n in c.nodes))
        for node in c.nodes:
            for key in early + late:
                quoit("get", "-c", "one", "--direct", key, e=node, ok=NOT_FOUND)
            for key in kept:
                equal(quoit("get", "-c", "all", key, e=node).stdout, "v")
        check(value(metrics(n2), "quoit_purge_rounds_total") > 0, "n2 has driven some")


TESTS = [each_node_says_that_all_is_well, loads_travel_by_gossip, the_json_is_what_the_page_says,
         a_vnode_is_told_with_its_owners, a_replicas_records_are_counted,
         replicas_that_hold_the_same_have_one_digest, one_node_is_told_alone,
         metrics_count_what_is_asked,
         metrics_are_as_many_whatever_the_ring, promtool_finds_nothing, monitors_are_answered,
         a_busy_port_is_a_sentence,
         a_node_that_is_killed_is_told_as_down, two_away_are_too_many,
         they_come_back_and_all_is_well, a_node_that_stops_says_so,
         a_member_that_never_came_is_told, nobody_answers,
         a_node_that_waits_for_its_cluster_says_so, what_is_full_is_told_with_what_goes_on,
         what_deletions_leave_behind_is_purged]


if __name__ == "__main__":
    with Cluster() as three:
        sys.exit(run_all(chosen(TESTS, sys.argv[4:]), three))
