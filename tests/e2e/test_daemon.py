#!/usr/bin/python3
"""quoitd as a process: options, its directory, its addresses, signals, forming, and bad company.

What the client protocol promises is test_client.py's; here a node is started wrongly, twice, on
used and foreign directories, told to stop, and connected to by those who send nothing, take
nothing, or are no nodes.

    test_daemon.py QUOITD SCHEMAS       prints TAP
"""

import importlib
import json
import os
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from client import Client, QuoitError, frame, load_schemas
from harness import START_S, check, equal, free_ports, has, main, wait_until
from processes import suspend

QUOITD = Path(sys.argv[1]).resolve()
SCRATCH = tempfile.TemporaryDirectory(prefix="quoit-daemon-")
PB = load_schemas(sys.argv[2], SCRATCH.name)
subprocess.run(["protoc", f"--proto_path={sys.argv[2]}", f"--python_out={SCRATCH.name}",
                "peer.proto"], check=True)
PEER = importlib.import_module("peer_pb2")

BAD_REQUEST, UNSUPPORTED, TOO_MANY_CONNECTIONS, NOT_READY, SHUTTING_DOWN = 2, 3, 10, 19, 20
NO_QUORUM = 13
WRONG_CLUSTER, STALE_BOOT, SLOW = 21, 22, 31
LINE = re.compile(r'time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z level=(error|warn|info|debug) '
                  r'msg="quoitd: [^"]+"( [a-z_]+=("([^"\\]|\\.)*"|[^ "]+))*')






def fresh_dir():
    fresh_dir.n = getattr(fresh_dir, "n", 0) + 1
    path = Path(SCRATCH.name) / f"d{fresh_dir.n}"
    path.mkdir()
    return path


def run(*args):
    """A quoitd that is expected to end by itself: (status, stdout, stderr)."""
    alone = [] if "--http-listen" in args else ["--http-listen", "off"]
    p = subprocess.run([str(QUOITD), *alone, *map(str, args)], capture_output=True, text=True,
                       timeout=START_S, stdin=subprocess.DEVNULL)
    return p.returncode, p.stdout, p.stderr


def usage_error(expect, *args):
    status, out, err = run(*args)
    equal((status, out), (2, ""), "status and stdout")
    check(err.startswith("quoitd: "), err)
    has(err, expect)


class Node:
    """A quoitd that is expected to run; killed at the end of the with block if it still does."""

    def __init__(self, *options, data=None, settings=None, wait="serving", **popen):
        self.dir = fresh_dir()
        self.data = Path(data or self.dir / "data")
        command = [str(QUOITD), "--data", str(self.data)]
        if "--listen" not in options:
            command += ["--listen", "127.0.0.1:0"]
        if "--peer-listen" not in options:
            command += ["--peer-listen", "127.0.0.1:0"]
        if "--http-listen" not in options:
            command += ["--http-listen", "off"]
        if settings:
            (self.dir / "quoit.yaml").write_text(
                "".join(f"{k}: {v}\n" for k, v in settings.items()))
            command += ["--config", str(self.dir / "quoit.yaml")]
        self.log_path = self.dir / "log"
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(command + [str(o) for o in options], stdout=log,
                                            stderr=log, stdin=subprocess.DEVNULL, **popen)
        try:
            if wait:
                self.wait_line(wait)
        except Exception:
            self.process.kill()
            self.process.wait()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def log(self):
        return self.log_path.read_text(errors="replace")

    def lines(self, text):
        """Log lines with this message."""
        return [l for l in self.log().splitlines() if f'msg="quoitd: {text}"' in l]

    def wait_line(self, text):
        def there():
            check(self.lines(text) or self.process.poll() is None,
                  f"the node ended by itself:\n{self.log()}")
            return self.lines(text)
        wait_until(f"the line {text!r}", there)

    def port(self, whom):
        return int(re.search(rf"listening\" for={whom} address=127\.0\.0\.1:(\d+)",
                             self.log()).group(1))

    def client(self, **options):
        return Client(PB, ("127.0.0.1", self.port("clients")), **options)

    def peer(self):
        return socket.create_connection(("127.0.0.1", self.port("peers")), START_S)

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        equal(self.process.wait(START_S), 0, f"exit status; log:\n{self.log()}")

    def ends(self):
        """It is expected to end by itself: (status, all it said)."""
        return self.process.wait(START_S), self.log()



def closed_within(sock, seconds):
    """Whether the other side ends the stream; what it says before is returned in pieces."""
    sock.settimeout(seconds)
    said = b""
    try:
        while True:
            part = sock.recv(65536)
            if not part:
                return said
            said += part
    except ConnectionResetError:
        return said
    except socket.timeout:
        raise AssertionError(f"still open after {seconds} s") from None


# ---- options ---------------------------------------------------------------------------------

def version_and_help():
    status, out, _ = run("--version")
    equal(status, 0)
    check(re.fullmatch(r"quoitd \d+\.\d+\.\d+\n", out), out)
    status, out, _ = run("--help")
    equal(status, 0)
    for option in ("data", "name", "listen", "peer-listen", "http-listen", "advertise",
                   "peer-advertise",
                   "cluster", "join", "replicas", "zone", "weight", "workers", "log-dir",
                   "map-size", "scrub-rate", "log-level", "log-format", "insecure", "config",
                   "check-config", "version"):
        has(out, f"--{option}")


def wrong_usage():
    usage_error("--data DIR is needed")
    usage_error("unknown option --lisen (did you mean --listen?)", "--data", "d", "--lisen", "x")
    usage_error("unexpected argument \"d\"", "d")
    usage_error("--replicas: \"9\": a number from 1 to 7", "--data", "d", "--replicas", "9")
    usage_error("--cluster must list", "--data", "d", "--cluster", "127.0.0.1:9")
    status, _, err = run("--data")
    equal(status, 2)
    check(not Path("d").exists(), "nothing was made")


def config_files():
    path = fresh_dir() / "quoit.yaml"
    path.write_text("data: /nonexistent/never/made\nlisten: 127.0.0.1:0\n")
    status, out, err = run("--config", path, "--check-config")
    equal((status, err), (0, ""))
    has(out, "valid")
    path.write_text("data: x\n\n  \nlisen: 127.0.0.1:0\n")
    usage_error(f'{path}:4:1: unknown key "lisen"; did you mean "listen"?', "--config", path)
    path.write_text("data: x\nworkers: many\n")
    usage_error(f"{path}:2:1: workers: \"many\"", "--config", path, "--check-config")
    usage_error("cannot open", "--config", path / "no")


def open_addresses_need_insecure():
    data = fresh_dir() / "data"
    usage_error("--insecure", "--data", data, "--listen", "0.0.0.0:0", "--advertise", "a:1")
    check(not data.exists(), "nothing was made")
    with Node("--listen", "0.0.0.0:0", "--advertise", "127.0.0.1:1", "--insecure") as node:
        has(node.log(), "INSECURE")
        node.stop()


# ---- directory and addresses -----------------------------------------------------------------

def the_log_may_be_json():
    with Node("--log-format", "json", "--name", "n1", wait=None) as node:
        wait_until("serving", lambda: '"quoitd: serving"' in node.log())
        node.stop()
    lines = [json.loads(line) for line in node.log().splitlines()]
    for line in lines:
        check({"time", "level", "msg"} <= set(line), line)
    serving, = (line for line in lines if line["msg"] == "quoitd: serving")
    equal((serving["node"], serving["partitions"], serving["level"]), ("n1", 1024, "info"))
    usage_error("--log-format: \"xml\": logfmt or json is needed", "--data", "d", "--log-format",
                "xml")


def one_quoitd_per_directory():
    with Node() as node:
        status, _, err = run("--data", node.data, "--listen", "127.0.0.1:0")
        equal(status, 1)
        equal(err, f"quoitd: {node.data} is in use by process {node.process.pid}: "
                   "one quoitd each.\n")
        with node.client() as c:
            c.put(b"still", b"here")
        node.stop()


def one_listener_per_address():
    with Node() as node:
        for option, whom in (("--listen", "clients"), ("--peer-listen", "peers")):
            other = "--peer-listen" if option == "--listen" else "--listen"
            status, _, err = run("--data", fresh_dir(), option, f"127.0.0.1:{node.port(whom)}",
                                 other, "127.0.0.1:0")
            equal(status, 1)
            has(err, f"cannot listen for {whom}")
            has(err, "in use")
            has(err, option)
        node.stop()


def boots_are_counted_and_synced():
    with Node("--name", "n1") as node:
        identity = json.loads((node.data / "quoit.json").read_text())
        equal((identity["format"], identity["boot"], identity["name"]), (1, 1, "n1"))
        node.process.kill()
        node.process.wait()
    with Node(data=node.data) as again:
        after = json.loads((node.data / "quoit.json").read_text())
        equal(after["boot"], 2)
        equal((after["node_id"], after["cluster_id"], after["name"]),
              (identity["node_id"], identity["cluster_id"], "n1"))
        check(not again.lines("formed a NEW cluster of this node alone"), "formed twice")
        again.stop()


def a_newer_format_is_refused():
    data = fresh_dir()
    (data / "quoit.json").write_text('{"format": 2}')
    status, _, err = run("--data", data, "--listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0")
    equal(status, 1)
    has(err, "newer quoit")


def a_lost_store_is_noticed():
    with Node() as node:
        node.stop()
    shutil.rmtree(node.data / "store")
    status, _, err = run("--data", node.data, "--listen", "127.0.0.1:0", "--peer-listen",
                         "127.0.0.1:0")
    equal(status, 1)
    has(err, "its store has no ring")


def the_log_may_have_a_directory_of_its_own():
    log_dir = fresh_dir() / "log"
    with Node("--log-dir", log_dir) as node:
        with node.client() as c:
            c.put(b"k", b"v")
        check(any(log_dir.iterdir()), "the log is there")
        check(not (node.data / "store" / "log").exists(), "and nowhere else")
        node.process.kill()
        node.process.wait()
    # Without it the node would forget what only the log has.
    addresses = "--listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0"
    status, _, err = run("--data", node.data, *addresses)
    equal(status, 1)
    has(err, "log")
    # Nor does the log of another node do.
    with Node("--log-dir", fresh_dir() / "log") as other:
        other.stop()
    status, _, err = run("--data", other.data, "--log-dir", log_dir, *addresses)
    equal(status, 1)
    has(err, "log")
    with Node("--log-dir", log_dir, data=node.data) as node:
        with node.client() as c:
            equal(c.get(b"k").value, b"v")
        node.stop()


def a_suspect_store_is_served_only_on_demand():
    with Node() as node:
        with node.client() as c:
            c.put(b"k", b"v")
        node.stop()
    (node.data / "store" / "SUSPECT").write_text("fdatasync failed: Input/output error\n")
    status, _, err = run("--data", node.data, "--listen", "127.0.0.1:0", "--peer-listen",
                         "127.0.0.1:0")
    equal(status, 1)
    has(err, "--accept-suspect")
    with Node("--accept-suspect", data=node.data) as node:
        has(node.log(), "a suspect store is accepted")
        with node.client() as c:
            equal(c.get(b"k").value, b"v")
        node.stop()
    with Node(data=node.data) as node:
        node.stop()


# ---- signals ---------------------------------------------------------------------------------

def signals_stop_it_cleanly():
    for number in (signal.SIGTERM, signal.SIGINT):
        with Node("--workers", 3) as node:
            with node.client() as c, socket.create_connection(c.socket.getpeername()) as half:
                c.put(b"k", b"v")
                half.sendall(b"\0\0")  # a frame that was only begun keeps nobody
                began = time.monotonic()
                node.stop(number)
                check(time.monotonic() - began < 4, "it did not wait for idle connections")
            has(node.log(), 'msg="quoitd: stopped"')


def a_stopping_node_answers_who_does_not_know_yet():
    quiet_s = 0.1  # so long it waits for more (STOP_QUIET_MS)
    with Node("--workers", 2) as node, node.client() as c:
        asked = time.monotonic()  # a slow machine may show the line when the time is over
        longest = 0  # time without a question
        node.process.send_signal(signal.SIGTERM)
        node.wait_line("stopping")
        refused, said, until = 0, b"", time.monotonic() + 0.5
        while refused < 5 or time.monotonic() < until:
            try:
                now = time.monotonic()
                longest, asked = max(longest, now - asked), now
                c.get(b"k")
            except QuoitError as error:
                equal(error.code, SHUTTING_DOWN)
                refused += 1
            except OSError:  # only if this test was held up
                longest = max(longest, time.monotonic() - asked)
                check(longest > quiet_s, f"closed after {refused} answers")
                break
        else:
            said = closed_within(c.socket, 10)
        equal(said, b"", "what follows the last answer")
        c.close()
        equal(node.process.wait(START_S), 0)


def stopping_while_waiting_to_form():
    ports = free_ports(2)
    cluster = ",".join(f"127.0.0.1:{p}" for p in ports)
    with Node("--peer-listen", f"127.0.0.1:{ports[0]}", "--cluster", cluster,
              wait="listening") as node:
        with node.client() as c:
            check(not c.ping().serving, "it serves without a ring")
            try:
                c.get(b"k")
                raise AssertionError("a get was served without a ring")
            except QuoitError as error:
                equal(error.code, NOT_READY)
        node.stop()


# ---- forming ---------------------------------------------------------------------------------

class Cluster:
    def __init__(self, n, *options):
        self.ports = free_ports(n)
        self.list = ",".join(f"127.0.0.1:{p}" for p in self.ports)
        self.nodes = []
        try:
            for i, port in enumerate(self.ports):
                self.nodes.append(Node("--peer-listen", f"127.0.0.1:{port}", "--name", f"n{i + 1}",
                                       "--cluster", self.list, *options, wait=None))
            for node in self.nodes:
                node.wait_line("serving")
                self.wait_linked(node)
        except Exception:
            self.__exit__()
            raise

    def wait_linked(self, node):
        """Until then some workers still refuse what needs a quorum."""
        workers = int(re.search(r"workers=(\d+)", node.lines("serving")[0]).group(1))
        links = workers * (len(self.nodes) - 1)
        wait_until(f"{links} links", lambda: len(node.lines("node up")) >= links)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for node in self.nodes:
            node.__exit__()


def three_nodes_form_one_cluster():
    with Cluster(3, "--workers", 2) as cluster:
        rings = []
        for node in cluster.nodes:
            with node.client() as c:
                rings.append(c.ring().SerializeToString())
            for text in ("formed a NEW cluster",):
                equal(len(node.lines(text)), 1, text)
        # Each node shows its own addresses; all else is one value.
        ring = PB.Ring if hasattr(PB, "Ring") else importlib.import_module("ring_pb2").Ring
        rings = [ring.FromString(r) for r in rings]
        equal(len({(r.epoch, r.cluster_id, tuple(r.slot_member)) for r in rings}), 1, "rings")
        equal(sorted(m.name for m in rings[0].members), [b"n1", b"n2", b"n3"])
        for i in range(60):  # every node coordinates, every worker owns some
            with cluster.nodes[i % 3].client() as c:
                c.put(b"key %d" % i, b"value %d" % i)
            with cluster.nodes[(i + 1) % 3].client() as c:
                equal(c.get(b"key %d" % i).value, b"value %d" % i)
        for node in cluster.nodes:
            for line in node.log().splitlines():
                check(LINE.fullmatch(line), f"no log line: {line!r}")
            node.stop()


def a_node_that_hangs_is_taken_for_down_and_not_waited_for():
    with Cluster(3) as cluster:
        one, _, three = cluster.nodes

        def seen(text):
            return sum("node=n3" in line for line in one.lines(text))
        for node in ("n2", "n3"):
            wait_until(f"gossip with {node}", lambda node=node: any(
                f"node={node}" in line for line in one.lines("member is there")))
        suspend(three.process.pid, wait_until)
        wait_until("n3 is taken for down", lambda: seen("member is down"))
        with one.client() as c:
            c.put(b"k", b"quorum")
            equal(c.get(b"k").value, b"quorum")
            for ask in (lambda: c.put(b"k", b"all", level=3, deadline_ms=60000),
                        lambda: c.get(b"k", level=3, deadline_ms=60000)):
                try:  # told at once: its links are whole, but nobody waits for them
                    ask()
                    check(False, "all was reached without n3")
                except QuoitError as e:
                    equal(e.code, NO_QUORUM)
            equal(c.get(b"k").value, b"quorum")
        three.process.send_signal(signal.SIGCONT)
        wait_until("n3 has refuted", lambda: seen("member is there") >= 2)
        equal(len([l for l in three.lines("member is down")]), 0, "what n3 believed of others")
        with one.client() as c:
            c.put(b"k", b"all", level=3)
        three.stop()
        wait_until("n3 has said goodbye", lambda: seen("member has stopped"))


def addresses_may_be_names():
    ports = free_ports(2)
    cluster = ",".join(f"localhost:{p}" for p in ports)
    # One listens where the name leads first, the other where it may lead second.
    with Node("--peer-listen", f"localhost:{ports[0]}", "--cluster", cluster, wait=None) as one, \
         Node("--peer-listen", f"127.0.0.1:{ports[1]}", "--peer-advertise",
              f"localhost:{ports[1]}", "--cluster", cluster, wait=None) as two:
        for node in (one, two):
            node.wait_line("serving")
            node.wait_line("node up")
        with one.client() as c:
            c.put(b"k", b"v", level=3)
        for node in (one, two):
            node.stop()


def used_directories_form_nothing():
    with Cluster(3) as cluster:
        node = cluster.nodes[0]
        old = json.loads((node.data / "quoit.json").read_text())
        node.stop()
        with Node("--peer-listen", f"127.0.0.1:{cluster.ports[0]}", "--cluster", cluster.list,
                  data=node.data) as again:
            again.wait_line("this data directory is in use already: --cluster and --join form and "
                            "join nothing")
            equal(json.loads((node.data / "quoit.json").read_text())["cluster_id"],
                  old["cluster_id"])
            again.wait_line("node up")
            again.stop()


def joining_oneself_is_refused():
    port = free_ports(1)[0]
    status, _, err = run("--data", fresh_dir(), "--join", f"127.0.0.1:{port}", "--listen",
                         "127.0.0.1:0", "--peer-listen", f"127.0.0.1:{port}")
    equal(status, 1)
    has(err, "--join lists this node alone")


def clusters_are_not_mixed():
    with Node() as one, Node() as two:
        theirs = json.loads((one.data / "quoit.json").read_text())["cluster_id"]
        ours = json.loads((two.data / "quoit.json").read_text())["cluster_id"]
        two.stop()
        with Node("--join", f"127.0.0.1:{one.port('peers')}", data=two.data, wait=None) as mixed:
            status, said = mixed.ends()
            equal(status, 1)
            has(said, f"belongs to cluster {theirs[:6]}, this data to {ours[:6]}. "
                      "They cannot be mixed.")
        own = free_ports(1)[0]  # naming itself is no mistake that matters
        with Node("--peer-listen", f"127.0.0.1:{own}", "--join", f"127.0.0.1:{own}",
                  data=two.data) as two:
            two.wait_line("this data directory is in use already: --cluster and --join form and "
                          "join nothing")
            with two.client() as c:
                c.put(b"k", b"v")
            two.stop()
        one.stop()


def a_stray_at_a_members_address_ends_nobody():
    stranger = "a listed peer's address is answered by a node of another cluster"
    for n in (2, 3):  # with a third member that confirms the cluster, and without
        with Cluster(n) as cluster:
            for node in cluster.nodes[:2]:
                node.stop()
            with Node("--peer-listen", f"127.0.0.1:{cluster.ports[1]}") as stray, \
                 Node("--peer-listen", f"127.0.0.1:{cluster.ports[0]}", "--cluster", cluster.list,
                      data=cluster.nodes[0].data) as again:
                again.wait_line("the listed peers have been looked at")
                equal(len(again.lines(stranger)), 1, "told once")
                if n == 3:
                    again.wait_line("node up")
                    with again.client() as c:
                        c.put(b"k", b"v")
                again.stop()
                stray.stop()


def a_list_of_another_cluster_ends_the_start():
    with Cluster(2) as theirs, Cluster(2) as ours:
        for node in ours.nodes:
            node.stop()
        own = f"127.0.0.1:{ours.ports[0]}"
        with Node("--peer-listen", own, "--cluster", f"{own},{theirs.list}",
                  data=ours.nodes[0].data, wait=None) as mixed:
            status, said = mixed.ends()
            equal(status, 1)
            has(said, "They cannot be mixed.")


def equal_names_do_not_form():
    ports = free_ports(2)
    cluster = ",".join(f"127.0.0.1:{p}" for p in ports)
    with Node("--peer-listen", f"127.0.0.1:{ports[0]}", "--cluster", cluster, "--name", "same",
              wait=None) as one, \
         Node("--peer-listen", f"127.0.0.1:{ports[1]}", "--cluster", cluster, "--name", "same",
              wait=None) as two:
        wait_until("one of them gives up",
                   lambda: one.process.poll() == 1 or two.process.poll() == 1)
        has(one.log() + two.log(), 'both named "same"')


def an_old_copy_of_a_node_is_refused():
    with Cluster(2) as cluster:
        node = cluster.nodes[1]
        node.stop()
        copy = fresh_dir() / "copy"
        shutil.copytree(node.data, copy)
        for _ in range(2):  # the node goes on: its boot grows
            with Node("--peer-listen", f"127.0.0.1:{cluster.ports[1]}", data=node.data) as again:
                again.wait_line("node up")
                again.stop()
        for start in range(4):  # as a supervisor would: it must not overtake the node
            with Node("--peer-listen", f"127.0.0.1:{cluster.ports[1]}", data=copy,
                      wait=None) as old:
                status, said = old.ends()
                equal(status, 1, f"status of start {start}")
                has(said, "old copy")
                check(not old.lines("node up"), "the copy got a link")
        with Node("--peer-listen", f"127.0.0.1:{cluster.ports[1]}", data=node.data) as again:
            again.wait_line("node up")
            again.stop()


def a_copy_of_the_same_boot_is_refused():
    with Cluster(2) as cluster:
        node = cluster.nodes[1]
        node.stop()
        copy = fresh_dir() / "copy"
        shutil.copytree(node.data, copy)
        with Node("--peer-listen", f"127.0.0.1:{cluster.ports[1]}", data=node.data) as again:
            again.wait_line("node up")
            with Node(data=copy, wait="listening") as twin:
                boots = [json.loads((d / "quoit.json").read_text())["boot"]
                         for d in (node.data, copy)]
                equal(boots[0], boots[1], "boots")
                status, said = twin.ends()
                equal(status, 1)
                has(said, "old copy")
                check(not twin.lines("node up"), "the copy got a link")
            with again.client() as c:
                c.put(b"k", b"v", level=3)
            again.stop()


# ---- bad company -----------------------------------------------------------------------------

def idle_clients_are_closed():
    with Node(settings={"idle-timeout": "300ms"}) as node:
        with node.client() as busy, node.client() as idle:
            until = time.monotonic() + 1.2
            while time.monotonic() < until:  # one that talks stays
                busy.ping()
                time.sleep(0.05)
            equal(closed_within(idle.socket, 10), b"", "last words")
            busy.ping()
        node.stop()


def who_takes_no_answers_is_closed():
    with Node(settings={"stall-timeout": "500ms"}) as node:
        with node.client() as c:
            c.put(b"big", b"x" * (1 << 20))
            request = c.request(get=PB.GetRequest(key=c.key(b"big")))
            try:
                for _ in range(200):  # far more answers than any socket buffer takes
                    c.send(request)
            except OSError:
                pass
            wait_until("it is closed", lambda: closed_by_node(c.socket))
        with node.client() as c:
            c.ping()
        node.stop()


def closed_by_node(sock):
    """Without reading: a write to a socket that the other side has closed fails."""
    try:
        sock.setblocking(False)
        sock.send(b"\0")
        return False
    except BlockingIOError:
        return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
    except OSError:
        return True


def strangers_at_the_peer_address():
    with Node() as node:
        silent = node.peer()
        for rubbish in (b"GET / HTTP/1.1\r\n\r\n", frame(b"\xff" * 20), frame(b"x" * 5000),
                        struct.pack(">I", 1 << 30), b"\0\0\0\0"):
            with node.peer() as s:
                s.sendall(rubbish)
                closed_within(s, 10)
        with node.peer() as s:  # no hello first
            s.sendall(frame(PEER.Message(id=1, get=PEER.Get(
                key=PB.Key(partition_key=b"k"))).SerializeToString()))
            equal(closed_within(s, 10), b"")
        equal(closed_within(silent, 30), b"", "what is said to a silent one")
        silent.close()
        node.stop()


def hello(node, **fields):
    """Says hello at the peer address; the answer's (error, hello)."""
    known = dict(protocol=1, link=PEER.LINK_WORKER, node_id=os.urandom(16), boot=1, name=b"x",
                 n_workers=1, software=b"test")
    known.update(fields)
    with node.peer() as s:
        s.settimeout(10)
        s.sendall(frame(PEER.Message(hello=PEER.Hello(**known)).SerializeToString()))
        head = b""
        while len(head) < 4:
            part = s.recv(4 - len(head))
            check(part, "closed without an answer")
            head += part
        body = b""
        while len(body) < struct.unpack(">I", head)[0]:
            body += s.recv(65536)
        message = PEER.Message.FromString(body)
        return message.error, message.hello_reply


def hellos_are_checked():
    with Cluster(2) as cluster:
        one, two = cluster.nodes
        identity = json.loads((two.data / "quoit.json").read_text())
        own = json.loads((one.data / "quoit.json").read_text())
        ours = bytes.fromhex(identity["cluster_id"])
        member = bytes.fromhex(identity["node_id"])
        one.wait_line("node up")

        start = hello(two, cluster_id=os.urandom(16))[1].start
        check(start and start != hello(one, cluster_id=os.urandom(16))[1].start, "no nonces")
        error, reply = hello(one, cluster_id=ours, node_id=member, boot=identity["boot"],
                             start=start)
        equal((error, reply.n_workers, reply.node_id), (0, reply.n_workers or 1,
                                                        bytes.fromhex(own["node_id"])))
        equal(hello(one, cluster_id=ours, node_id=member, boot=identity["boot"] - 1)[0],
              STALE_BOOT, "an older boot")
        equal(hello(one, cluster_id=ours, node_id=member, boot=identity["boot"],
                    start=start ^ 1)[0], STALE_BOOT, "another process of this boot")
        equal(hello(one, cluster_id=os.urandom(16), node_id=member)[0], WRONG_CLUSTER)
        equal(hello(one, node_id=member)[0], WRONG_CLUSTER, "no cluster")
        equal(hello(one, cluster_id=ours)[0], WRONG_CLUSTER, "no member")
        equal(hello(one, cluster_id=ours, node_id=member, protocol=2)[0], UNSUPPORTED)
        equal(hello(one, cluster_id=ours, node_id=member, link=0)[0], UNSUPPORTED)
        equal(hello(one, cluster_id=ours, node_id=bytes.fromhex(own["node_id"]),
                    boot=own["boot"], start=reply.start)[0], BAD_REQUEST, "itself")
        equal(hello(one, cluster_id=ours, node_id=bytes.fromhex(own["node_id"]),
                    boot=own["boot"], start=reply.start ^ 1)[0], STALE_BOOT, "its twin")
        equal(hello(one, cluster_id=ours, node_id=bytes.fromhex(own["node_id"]),
                    boot=own["boot"] + 1)[0], STALE_BOOT, "a copy of itself")
        error, reply = hello(one, cluster_id=ours, node_id=member, boot=identity["boot"],
                             start=start, worker_to=1000000)
        equal(error, 0, "worker numbers wrap")
        for node in cluster.nodes:
            node.stop()


def peer_frame(sock):
    sock.settimeout(10)
    head = sock.recv(4, socket.MSG_WAITALL)
    check(len(head) == 4, "closed without an answer")
    return PEER.Message.FromString(sock.recv(struct.unpack(">I", head)[0], socket.MSG_WAITALL))


def a_peer_with_fewer_workers_than_before():
    """A node that vanishes between two links, and answers the second with fewer workers."""
    with Cluster(2, "--workers", 1) as cluster:
        one, two = cluster.nodes
        one.wait_line("node up")
        identity = json.loads((two.data / "quoit.json").read_text())
        two.stop()
        one.wait_line("node down")

        def accepted(server):
            """The next link of a worker, and the worker it asks for; control's are left alone."""
            while True:
                sock = server.accept()[0]
                asked = peer_frame(sock).hello
                if asked.link == PEER.LINK_WORKER:
                    return sock, asked.worker_to
                control.append(sock)

        def answer(sock, n_workers):
            sock.sendall(frame(PEER.Message(hello_reply=PEER.Hello(
                protocol=1, link=PEER.LINK_WORKER, node_id=bytes.fromhex(identity["node_id"]),
                cluster_id=bytes.fromhex(identity["cluster_id"]), boot=identity["boot"] + 1,
                start=1, name=b"n2", n_workers=n_workers, software=b"test")).SerializeToString()))

        control = []
        with socket.create_server(("127.0.0.1", cluster.ports[1])) as server:
            server.settimeout(START_S)
            first, worker = accepted(server)
            equal(worker, 0)
            answer(first, 2)
            second, worker = accepted(server)
            equal(worker, 1)
            first.close()
            wait_until("the first link is lost", lambda: len(one.lines("node down")) == 2)
            answer(second, 1)
            wait_until("the second is given up", lambda: "fewer workers" in one.log())
            with one.client() as c:  # nobody to wait for
                began = time.monotonic()
                try:
                    c.get(b"k", level=3)
                    raise AssertionError("both have answered")
                except QuoitError:
                    pass
                took = time.monotonic() - began
                check(took < 1, f"it waited {took:.1f} s for a node without links")
            for sock in [second] + control:
                sock.close()
        one.stop()


def control_links_of_strangers_end():
    with Node() as node:
        greeting = frame(PEER.Message(hello=PEER.Hello(
            protocol=1, link=PEER.LINK_CONTROL, node_id=os.urandom(16), boot=1, start=1, name=b"x",
            n_workers=1, software=b"test")).SerializeToString())
        with node.peer() as silent, node.peer() as asks:
            for s in (silent, asks):
                s.sendall(greeting)
                message = peer_frame(s)
                equal((message.error, message.WhichOneof("body")), (0, "hello_reply"))
            asks.sendall(frame(PEER.Message(form=PEER.Form(
                phase=PEER.FORM_EMPTY, list_hash=1)).SerializeToString()))
            equal(peer_frame(asks).form.phase, PEER.FORM_MEMBER, "the answer")
            equal(closed_within(asks, 10), b"", "after the answer")
            equal(closed_within(silent, 10), b"", "what is said to a silent one")
        node.stop()


def the_peer_address_says_when_it_is_full():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    check(hard >= 8192, f"the hard limit of descriptors, {hard}, is too low for this test")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with Node() as node:
        crowd = []
        try:
            while not node.lines("too many connections at the peer address"):
                check(len(crowd) < 16384, "nothing was said")
                crowd += [node.peer() for _ in range(512)]
        finally:
            for s in crowd:
                s.close()
        check(len(crowd) > 4096, f"full at {len(crowd)}")

        def greeted():
            try:
                return hello(node, link=PEER.LINK_CONTROL)[0] == 0
            except (OSError, AssertionError):
                return False
        wait_until("there is room again", greeted)
        node.stop()


def too_few_descriptors_are_a_sentence():
    """With one more at each start, until it serves: whatever could not be opened is named."""
    told = []
    for limit in range(12, 100):
        with Node("--http-listen", "127.0.0.1:0", wait=None, preexec_fn=lambda n=limit: (
                resource.setrlimit(resource.RLIMIT_NOFILE, (n, n)))) as node:
            wait_until("it serves or has ended",
                       lambda at=node: at.lines("serving") or at.process.poll() is not None)
            if node.lines("serving"):
                break
            equal(node.process.wait(), 1, f"exit code with {limit} descriptors")
            told.append(node.log())
    check(node.lines("serving"), "it never serves")
    check(not any("out of memory" in text for text in told), "\n".join(told))
    check(any("refuses to watch sockets" in text for text in told), "\n".join(told))


def running_out_of_descriptors():
    def few():
        resource.setrlimit(resource.RLIMIT_NOFILE, (120, 120))
    with Node(preexec_fn=few) as node:
        crowd = []
        try:
            for _ in range(200):
                s = socket.socket()
                s.setblocking(False)
                s.connect_ex(("127.0.0.1", node.port("peers")))
                crowd.append(s)
            node.wait_line("cannot take connections for a moment")
        finally:
            for s in crowd:
                s.close()

        def served():
            try:
                with node.client(timeout_s=2) as c:
                    return c.ping().serving
            except OSError:
                return False
        wait_until("it serves again", served)
        # The listener that had to rest listens again: a node gets its answer there.
        equal(hello(node, link=PEER.LINK_CONTROL)[0], 0, "a hello afterwards")
        node.stop()


def more_clients_than_descriptors():
    def few():
        resource.setrlimit(resource.RLIMIT_NOFILE, (120, 120))
    with Node(preexec_fn=few) as node:
        crowd = [node.client() for _ in range(60)]  # 120 / 2 are taken
        with node.client() as late:
            response = late.receive()
            equal((response.error.code, response.error.limit), (TOO_MANY_CONNECTIONS, 60))
            equal(closed_within(late.socket, 10), b"")
        for c in crowd:
            c.ping()
            c.close()
        node.stop()


# ---- data that is not in memory -------------------------------------------------------------

def evict(path):
    """Its pages leave the page cache. Nothing may have it mapped."""
    with open(path, "rb") as f:
        os.fsync(f.fileno())
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def data_that_is_not_in_memory_is_waited_for_by_others():
    n, value = 3000, bytes(range(256)) * 32

    def gets(c):
        return b"".join(frame(c.request(get=PB.GetRequest(key=c.key(b"k%d" % i)))
                              .SerializeToString()) for i in range(n))

    def all_read(node):
        with node.client(timeout_s=START_S) as c:
            c.send_bytes(gets(c))
            for _ in range(n):
                response = c.receive()
                equal(response.error.code, 0)
                check(response.get.value == value, "the value")

    with Node("--workers", "1") as node:
        with node.client() as c:
            for i in range(n):
                c.send(c.request(put=PB.PutRequest(key=c.key(b"k%d" % i), value=value)))
            for i in range(n):
                equal(c.receive().error.code, 0)
        node.stop()
    evict(node.data / "store" / "data.mdb")
    line = "the data is not in memory: reads wait for the disk"
    with Node("--workers", "1", data=node.data) as node:
        all_read(node)
        # Where nothing is ever evicted (a file system in memory) nothing is waited for.
        if subprocess.run(["stat", "-f", "-c", "%T", node.data], capture_output=True, text=True,
                          check=True).stdout.strip() != "tmpfs":
            node.wait_line(line)
        all_read(node)
        node.stop()


def flip_where(path, text):
    """One bit in each copy of the text in the file; says how many there were."""
    content = bytearray(path.read_bytes())
    n = content.count(text)
    for found in re.finditer(re.escape(text), bytes(content)):
        content[found.start()] ^= 1
    path.write_bytes(content)
    return n


def a_damaged_record_is_found_without_being_asked_for():
    n, value = 200, b"the value that the disk will spoil"
    with Node("--scrub-rate", "0") as node:
        with node.client() as c:
            for i in range(n):
                c.put(b"k%d" % i, value if i == 77 else b"sound")
        node.stop()
        equal(len(node.lines("all stored records were read again")), 0, "rounds")
    check(flip_where(node.data / "store" / "data.mdb", value) > 0, "the value is in the data file")
    with Node("--scrub-rate", "1GiB", data=node.data) as node:
        node.wait_line("all stored records were read again")
        has(node.lines("stored records fail their checksum")[0], "records=1 first=k77 ")
        has(node.lines("all stored records were read again")[0],
            f"records={n - 1} bytes={5 * (n - 1) + sum(len(b'k%d' % i) for i in range(n)) - 3} "
            "damaged=1 sums_made_anew=1 ")
        node.stop()


# ---- running ---------------------------------------------------------------------------------

TESTS = [version_and_help, wrong_usage, config_files, open_addresses_need_insecure,
         the_log_may_be_json, one_quoitd_per_directory, one_listener_per_address,
         boots_are_counted_and_synced,
         a_newer_format_is_refused, a_lost_store_is_noticed,
         the_log_may_have_a_directory_of_its_own,
         a_suspect_store_is_served_only_on_demand, signals_stop_it_cleanly,
         a_stopping_node_answers_who_does_not_know_yet, stopping_while_waiting_to_form,
         three_nodes_form_one_cluster,
         a_node_that_hangs_is_taken_for_down_and_not_waited_for, addresses_may_be_names,
         used_directories_form_nothing,
         joining_oneself_is_refused, clusters_are_not_mixed,
         a_stray_at_a_members_address_ends_nobody, a_list_of_another_cluster_ends_the_start,
         equal_names_do_not_form, an_old_copy_of_a_node_is_refused,
         a_copy_of_the_same_boot_is_refused, idle_clients_are_closed,
         who_takes_no_answers_is_closed, strangers_at_the_peer_address,
         a_peer_with_fewer_workers_than_before, control_links_of_strangers_end,
         the_peer_address_says_when_it_is_full, hellos_are_checked,
         too_few_descriptors_are_a_sentence, running_out_of_descriptors,
         more_clients_than_descriptors, data_that_is_not_in_memory_is_waited_for_by_others,
         a_damaged_record_is_found_without_being_asked_for]

if __name__ == "__main__":
    main(TESTS, sys.argv[3:])
