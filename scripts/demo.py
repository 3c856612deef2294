"""The story of scripts/demo: three nodes, a real data set, one kill -9, and a comparison.

Every figure that it prints is measured in this run. What counts as lost is decided here, outside
the system under test: the driver keeps the source file and the list of writes that the command
reported as stored, and compares both with what `quoit export` reads through each node. A write
whose outcome the command calls unknown is not counted as acknowledged; it is repeated, as a real
program would.

Nothing is left behind: nodes die with this process (also when it is killed with -9), data is
removed in every exit path, and all files stay under build/demo. --keep asks for the opposite.
"""

import collections
import ctypes
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
QUOITD = ROOT / "build/server/quoitd"
QUOIT = ROOT / "build/client/quoit"
DEMO = ROOT / "build/demo"
PIDS = DEMO / "pids"
FAILED_LOGS = ROOT / "build/demo-logs"
LOCK = ROOT / "build/demo.lock"
SOURCE = Path("/usr/share/unicode/UnicodeData.txt")

NODES = 3
FIRST_PORT = 7400
PORTS = 3 * NODES     # of each for clients, other nodes and monitors
START_S = 30          # a node that does not answer after this long has failed
STOP_S = 15           # a SIGTERM not obeyed after this long is a bug, and ends in SIGKILL
BATCH = 4000          # records per import of the load: long enough that kill -9 falls into one
REPEATS_MAX = 10      # a load whose writes are still refused after so many batches has failed
LOAD_AFTER_KILL_S = 3
WITHOUT_S = 5

EXIT_NOT_FOUND = 3
EXIT_PARTIAL = 10


class Failed(Exception):
    """The demo's verdict is no: the sentence says why."""


class Interrupted(Exception):
    """Ctrl-C, or a request to stop."""


# ---- what the user sees ---------------------------------------------------------------------

class Screen:
    """One line per step: on a terminal what is being done, and in the end what came of it."""

    def __init__(self, steps):
        self.steps, self.step, self.head = steps, 0, ""
        self.tty = sys.stdout.isatty()

    def start(self, name, text):
        self.step += 1
        self.head = f"  {self.step}/{self.steps}  {name:<8} "
        self.began = time.monotonic()
        self.progress(text)

    def progress(self, text):
        if self.tty:
            print(f"\r\033[K{self.head}{text}", end=" ", flush=True)

    def done(self, text):
        clear = "\r\033[K" if self.tty else ""
        print(f"{clear}{self.head}{text}  ({time.monotonic() - self.began:.1f} s)", flush=True)
        self.head = ""

    def broken_off(self):
        """Leaves the line of a step that was not done."""
        if self.head:
            print("" if self.tty else self.head + "...", flush=True)


def number(n):
    return f"{n:,.0f}"


def duration(us):
    """A latency in microseconds, in the unit that reads best."""
    return f"{us / 1000:.1f} ms" if us < 100_000 else f"{us / 1000:.0f} ms"


# ---- nodes ----------------------------------------------------------------------------------

LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


def die_with_parent():
    """In the child, before exec: a SIGTERM when the demo is gone, however it went."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Node:
    def __init__(self, index, port):
        self.name = f"n{index + 1}"
        self.client = f"127.0.0.1:{port}"
        self.peer = f"127.0.0.1:{port + 1}"
        self.http = f"127.0.0.1:{port + 2}"
        self.data = DEMO / self.name
        self.log = DEMO / f"{self.name}.log"
        self.process = None

    def start(self, cluster, keep):
        command = [QUOITD, "--data", self.data, "--name", self.name, "--listen", self.client,
                   "--peer-listen", self.peer, "--http-listen", self.http, "--cluster", cluster]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, preexec_fn=None if keep else die_with_parent)

    def check_alive(self):
        if self.process.poll() is not None:
            raise Failed(f"{self.name} ended by itself (exit {self.process.returncode}):\n"
                         + tail(self.log))

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        """SIGTERM; true if it ended by itself with 0."""
        if self.process is None or self.process.poll() is not None:
            return True
        self.process.terminate()
        try:
            return self.process.wait(STOP_S) == 0
        except subprocess.TimeoutExpired:
            self.kill()
            return False


def tail(path, lines=15):
    text = path.read_text(errors="replace").splitlines()[-lines:]
    return "\n".join(f"    | {line}" for line in text)


def port_free(port):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_ports():
    """The first of PORTS neighbouring free ports, the default ones if they are."""
    for first in range(FIRST_PORT, FIRST_PORT + 1000, PORTS):
        if all(port_free(port) for port in range(first, first + PORTS)):
            return first
    raise Failed(f"no {PORTS} neighbouring free ports above {FIRST_PORT}")


# ---- the command ----------------------------------------------------------------------------

def quoit(nodes, *args, stdin=None, direct=False, ok=(0,)):
    """Runs the command against these nodes; returns the finished process."""
    command = [QUOIT, "--endpoints", ",".join(n.client for n in nodes)]
    command += ["--direct"] if direct else []
    # A group of its own, so that Ctrl-C ends this program first and it then ends the command.
    run = subprocess.run([*command, *args], input=stdin, capture_output=True, check=False,
                         start_new_session=True, preexec_fn=die_with_parent)
    if ok is not None and run.returncode not in ok:
        raise Failed(f"`quoit {' '.join(map(str, args))}` exits {run.returncode}:\n"
                     + run.stderr.decode(errors="replace").strip())
    return run


def wait_until(nodes, what, condition):
    """Polls a condition until it holds; fails when a node ends or START_S have passed."""
    deadline = time.monotonic() + START_S
    while not condition():
        for node in nodes:
            node.check_alive()
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not after {START_S} s\n"
                         + "\n".join(f"{n.name}:\n{tail(n.log)}" for n in nodes))
        time.sleep(0.02)


def serves(node):
    """Does this node, asked itself, coordinate a quorum read?"""
    run = quoit([node], "get", "nothing-is-stored-here", direct=True, ok=None)
    return run.returncode == EXIT_NOT_FOUND


def stores(node):
    """Does this node, asked itself, coordinate a quorum write? A node that has just started waits
    until no version that it may have given out before lies ahead of its clock."""
    return quoit([node], "put", "probe", node.name, direct=True, ok=None).returncode == 0


def import_lines(nodes, lines):
    """(summary, numbers of the lines that were not acknowledged)."""
    run = quoit(nodes, "-o", "json", "--max-errors", "10000", "import", "-",
                stdin=b"".join(lines), ok=(0, EXIT_PARTIAL))
    summary = json.loads(run.stdout)
    refused = {int(n.replace(b",", b"")) - 1
               for n in re.findall(rb"\bline ([\d,]+):", run.stderr)}
    if len(refused) != summary["errors"]:
        raise Failed(f"import reports {summary['errors']} errors and names {len(refused)} lines:\n"
                     + run.stderr.decode(errors="replace"))
    return summary, refused


def export(node):
    return quoit([node], "export", direct=True).stdout.splitlines(keepends=True)


# ---- what must be true ----------------------------------------------------------------------

def load_source():
    """The data set as import lines: U+0041<TAB>the rest of the line."""
    lines = []
    for line in SOURCE.read_bytes().splitlines():
        code, _, rest = line.partition(b";")
        lines.append(b"U+" + code + b"\t" + rest + b"\n")
    if any(b"\\" in line or line.count(b"\t") != 1 for line in lines):
        raise Failed(f"{SOURCE} holds what import lines would have to escape")
    return lines


def differences(exported, source, writer):
    """Sentences about everything that is not as it must be."""
    kinds = collections.defaultdict(list)
    for line in exported:
        kinds[line[:2]].append(line)
    found = []
    if sorted(kinds[b"U+"]) != sorted(source):
        missing = set(source) - set(kinds[b"U+"])
        found.append(f"{number(len(missing))} of {number(len(source))} imported records are "
                     f"missing or differ, {len(kinds[b'U+'])} are there")
    if writer is not None:
        written = set(kinds[b"w/"])
        if len(written) != len(kinds[b"w/"]):
            found.append("a key of the load is exported twice")
        lost = writer.acknowledged - written
        if lost:
            found.append(f"{number(len(lost))} acknowledged writes of the load are lost, "
                         f"{min(lost)!r} first")
        if not written <= writer.sent:
            found.append("there are records that nobody wrote")
    return found


def compare(screen, nodes, source, writer=None):
    for node in nodes:
        screen.progress(f"comparing through {node.name} ...")
        found = differences(export(node), source, writer)
        if found:
            raise Failed(f"read through {node.name}: " + "; ".join(found))


class Writer(threading.Thread):
    """Load: imports batch after batch through all nodes and remembers what was acknowledged."""

    def __init__(self, nodes):
        super().__init__(daemon=True)
        self.nodes, self.ending, self.failure = nodes, threading.Event(), None
        self.sent, self.acknowledged = set(), set()
        self.unknown, self.batches, self.longest_us = 0, 0, 0

    def run(self):
        try:
            again, repeats = [], 0
            while not self.ending.is_set() or again:
                again = self.batch(again)
                repeats = repeats + 1 if again else 0
                if repeats > REPEATS_MAX:
                    raise Failed(f"{len(again)} writes of the load find no answer")
        except Exception as error:  # handed to the main thread by end()
            self.failure = error

    def batch(self, again):
        first = len(self.sent)
        lines = again + [b"w/%08d\twritten under load, record %d\n" % (n, n)
                         for n in range(first, first + BATCH - len(again))]
        self.sent.update(lines)
        summary, refused = import_lines(self.nodes, lines)
        self.acknowledged.update(line for i, line in enumerate(lines) if i not in refused)
        self.longest_us = max(self.longest_us, summary["max_us"])
        self.unknown += len(refused)
        self.batches += 1
        return [lines[i] for i in sorted(refused)]

    def wait_batches(self, n):
        while self.batches < n and self.is_alive():
            time.sleep(0.01)

    def end(self):
        self.ending.set()
        self.join()
        if self.failure is not None:
            raise self.failure


# ---- the story ------------------------------------------------------------------------------

class Demo:
    def __init__(self, keep):
        self.keep = keep
        self.screen = Screen(8)
        self.source = load_source()
        first = free_ports()
        self.nodes = [Node(i, first + 3 * i) for i in range(NODES)]
        self.cluster = ",".join(n.peer for n in self.nodes)
        self.writer = None

    def start(self):
        self.screen.start("start", "three nodes ...")
        for node in self.nodes:
            node.start(self.cluster, self.keep)
        wait_until(self.nodes, "the three nodes form a cluster",
                   lambda: all(map(serves, self.nodes)) and all(map(stores, self.nodes)))
        self.screen.done(", ".join(f"{n.name} at {n.client}" for n in self.nodes))

    def load(self):
        self.screen.start("import", f"{SOURCE} ...")
        self.imported, refused = import_lines(self.nodes, self.source)
        if refused:
            raise Failed(f"{len(refused)} of {len(self.source)} records were refused")
        self.screen.done(f"{number(len(self.source))} records, from {SOURCE}")

    def read(self):
        self.screen.start("read", "")
        compare(self.screen, self.nodes, self.source)
        self.screen.done("all of it through each node at quorum: equal to the source")

    def kill(self):
        victim = self.nodes[1]
        self.screen.start("kill -9", "writing ...")
        self.writer = Writer(self.nodes)
        self.writer.start()
        self.writer.wait_batches(2)
        victim.kill()
        killed = time.monotonic()
        self.screen.progress(f"{victim.name} is dead; writing on ...")
        self.writer.wait_batches(self.writer.batches + 3)
        while time.monotonic() < killed + LOAD_AFTER_KILL_S and self.writer.is_alive():
            time.sleep(0.05)
        self.writer.end()
        self.screen.done(f"{victim.name} under load: {number(len(self.writer.acknowledged))} "
                         "writes acknowledged")

    def go_on(self):
        alive = [self.nodes[0], self.nodes[2]]
        self.screen.start("without", f"{self.nodes[1].name}: reading and writing ...")
        run = quoit(alive, "-o", "json", "bench", "--reads", "60", "--keys", "10000",
                    "--duration", f"{WITHOUT_S}s")
        self.without = json.loads(run.stdout)
        if self.without["errors"] or self.without["not_found"]:
            raise Failed(f"with {self.nodes[1].name} dead: {self.without['errors']} errors and "
                         f"{self.without['not_found']} keys not found")
        compare(self.screen, alive, self.source, self.writer)
        self.screen.done(f"{self.nodes[1].name}: reads and writes go on; everything is there")

    def restart(self):
        node = self.nodes[1]
        self.screen.start("restart", f"{node.name} ...")
        began = time.monotonic()
        node.start(self.cluster, self.keep)
        wait_until(self.nodes, f"{node.name} serves again", lambda: serves(node) and stores(node))
        self.back_s = time.monotonic() - began
        self.screen.done(f"{node.name} serves again")

    def compare(self):
        self.screen.start("compare", "")
        compare(self.screen, self.nodes, self.source, self.writer)
        self.screen.done("through each node: every acknowledged record is there, and equal")

    def stop(self):
        self.screen.start("stop", "")
        obeyed = [node.stop() for node in self.nodes]
        if not all(obeyed):
            raise Failed("a node did not end with 0 after SIGTERM")
        self.screen.done("the three nodes")

    def tell_how_to_talk(self):
        PIDS.write_text("".join(f"{n.process.pid} {n.data}\n" for n in self.nodes))
        self.screen.start("keep", "")
        self.screen.done("the three nodes go on running")

    def run(self):
        for step in (self.start, self.load, self.read, self.kill, self.go_on, self.restart,
                     self.compare, self.tell_how_to_talk if self.keep else self.stop):
            step()

    def summary(self, seconds):
        imported, writer, without = self.imported, self.writer, self.without
        names = ", ".join(n.name for n in self.nodes)
        n = len(self.source)
        victim = self.nodes[1].name
        megabytes = sum(map(len, self.source)) / 1e6
        repeated = f"{number(writer.unknown)} repeated, " if writer.unknown else ""
        total = n + len(writer.acknowledged)
        print(f"""
PASSED in {seconds:.0f} s. 0 of {number(total)} acknowledged records lost.

  {NODES} nodes on loopback, each key on all {NODES}; an ack means: on 2 disks, synced
  import   {number(n)} records, {megabytes:.1f} MB   {number(imported['ops_per_s'])}/s   """
              f"p50 {duration(imported['p50_us'])}   p99 {duration(imported['p99_us'])}"
              f"""
  read     through {names} at quorum: all {NODES} x {number(n)} equal to the source
  kill -9  {victim}, under load: {number(len(writer.acknowledged))} writes, 0 failed, {repeated}"""
              f"longest {duration(writer.longest_us)}"
              f"""
  without  {victim}: {number(without['writes']['ops'])} writes and """
              f"{number(without['reads']['ops'])} reads in {without['seconds']:.0f} s, "
              f"{without['errors']} errors"
              f"""
  restart  {victim} was serving again after {self.back_s:.1f} s; everything compared: equal""")

    def save_logs(self):
        shutil.rmtree(FAILED_LOGS, ignore_errors=True)
        FAILED_LOGS.mkdir()
        for node in self.nodes:
            if node.log.exists():
                shutil.copy(node.log, FAILED_LOGS)
        print(f"the nodes' logs are kept in {FAILED_LOGS.relative_to(ROOT)}", file=sys.stderr)

    def clean(self):
        """Leaves no process and no data, whatever has happened."""
        if self.writer is not None:
            self.writer.ending.set()
        for node in self.nodes:
            node.stop()
        if self.writer is not None and self.writer.is_alive():
            self.writer.join(STOP_S)
        shutil.rmtree(DEMO, ignore_errors=True)


# ---- keeping and stopping -------------------------------------------------------------------

def kept_pids():
    """Processes of an earlier --keep: those that have the same data directory in their command."""
    if not PIDS.exists():
        return []
    found = []
    for line in PIDS.read_text().splitlines():
        pid, _, data = line.partition(" ")
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if data.encode() in command:
            found.append(int(pid))
    return found


def stop_kept():
    pids = kept_pids()
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_S
    while kept_pids():
        if time.monotonic() > deadline:
            raise Failed(f"nodes do not stop: processes {kept_pids()}")
        time.sleep(0.05)
    existed = DEMO.exists()
    shutil.rmtree(DEMO, ignore_errors=True)
    print(f"{len(pids)} nodes stopped; data removed." if pids or existed else "Nothing to stop.")


def print_keep(nodes):
    endpoints = ",".join(n.client for n in nodes)
    print(f"""
The cluster goes on running; logs and data are in build/demo. Talk to it:
  export QUOIT_ENDPOINTS={endpoints}
  PATH="{QUOIT.parent}:$PATH"
  quoit get U+1F600
  quoit put hello world
  quoit where hello
  quoit admin status
  quoit bench --reads 90 --duration 5s
Stop it and remove its data: scripts/demo --stop            Next: README, "Tour\"""")


def print_ending():
    print("""Nodes stopped; data removed. Your figures depend on this machine's disk.
Keep a cluster to play with: scripts/demo --keep       Next: README, "Tour\"""")


def require_space():
    """A node refuses writes when its file system is nearly full; say so before it does."""
    fs = os.statvfs(DEMO.parent)
    free, size = fs.f_bavail * fs.f_frsize, fs.f_blocks * fs.f_frsize
    needed = min(size * 15 // 100, 4 << 30) + (1 << 30)
    if free < needed:
        raise Failed(f"{DEMO.parent} has {free >> 20} MiB free; a node keeps a reserve, so that "
                     f"the demo needs {needed >> 20} MiB")


def interrupt(signum, frame):
    raise Interrupted(signal.Signals(signum).name)


def main(arguments):
    keep = "--keep" in arguments
    LOCK.parent.mkdir(exist_ok=True)
    lock = open(LOCK, "w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise Failed("another demo is running here") from None
    if "--stop" in arguments:
        stop_kept()
        return 0
    if kept_pids():
        raise Failed("a cluster kept by an earlier demo is running; first: scripts/demo --stop")
    require_space()
    shutil.rmtree(DEMO, ignore_errors=True)
    DEMO.mkdir()
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, interrupt)
    demo = Demo(keep)
    began = time.monotonic()
    left_running = False
    try:
        demo.run()
        demo.summary(time.monotonic() - began)
        left_running = keep
    except Failed:
        demo.save_logs()
        raise
    finally:
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, signal.SIG_IGN)
        if not left_running:
            demo.screen.broken_off()
            demo.clean()
    print_keep(demo.nodes) if keep else print_ending()
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Failed as failure:
        print(f"\nFAILED: {failure}", file=sys.stderr)
        sys.exit(1)
    except Interrupted:
        print("\ninterrupted; nodes stopped, data removed", file=sys.stderr)
        sys.exit(130)
