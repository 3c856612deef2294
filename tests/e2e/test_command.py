#!/usr/bin/python3
"""The command `quoit` against real nodes: every exit code that can be provoked, what goes to stdout
and what to stderr, any bytes through keys, values, import and export, and the library through its
header.

    test_command.py QUOITD QUOIT LIBRARY_PROGRAM        prints TAP

LIBRARY_PROGRAM is library.c, linked with the shared library.
"""

import base64
import json
import os
import pty
import random
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from harness import (START_S, check, chosen, equal, free_port, has, run_all,
                     wait_until)
from processes import suspend

QUOITD, QUOIT, LIBRARY = (Path(a).resolve() for a in sys.argv[1:4])
SCRATCH = tempfile.TemporaryDirectory(prefix="quoit-command-")
OK, ERROR, USAGE, NOT_FOUND, UNREACHABLE, UNKNOWN, NO_QUORUM = 0, 1, 2, 3, 5, 6, 8
PARTIAL, ASSERTION, INTERRUPTED = 10, 11, 130







class Node:
    def __init__(self, name="n1", ports=None, cluster=None, options=()):
        self.port, self.peer_port = ports or (free_port(), free_port())
        self.address = f"127.0.0.1:{self.port}"
        self.dir = Path(SCRATCH.name) / f"node{self.port}"
        self.dir.mkdir()
        self.command = [str(QUOITD), "--data", str(self.dir / "data"), "--name", name,
                        "--listen", self.address, "--peer-listen", f"127.0.0.1:{self.peer_port}",
                        "--http-listen", "off", "--map-size", "1GiB", *options]
        if cluster:
            self.command += ["--cluster", ",".join(f"127.0.0.1:{p}" for p in cluster)]
        self.process = None
        self.start()

    def start(self):
        with open(self.dir / "log", "ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL)

    def wait_serving(self):
        def serving():
            check(self.process.poll() is None,
                  "quoitd ended:\n" + (self.dir / "log").read_text(errors="replace"))
            return quoit("ping", e=self, ok=None, q=True).code == OK
        wait_until("serving", serving)
        return self

    def kill(self):
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self.wait_serving()

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.kill()


class Run:
    def __init__(self, p):
        self.code, self.out, self.err = p.returncode, p.stdout, p.stderr

    def json(self):
        return json.loads(self.out)


def quoit(*args, e=None, stdin=b"", ok=OK, env=None, q=False, timeout=START_S):
    """Runs the command; e: a node or an address; ok: the exit code expected, None for any."""
    command = [str(QUOIT)]
    if e is not None:
        command += ["-e", e if isinstance(e, str) else e.address]
    command += (["-q"] if q else []) + [a if isinstance(a, bytes) else str(a) for a in args]
    clean = {k: v for k, v in os.environ.items() if not k.startswith("QUOIT_")}
    p = subprocess.run(command, input=stdin, capture_output=True, timeout=timeout,
                       env={**clean, **(env or {})})
    if ok is not None and p.returncode != ok:
        raise AssertionError(f"{args} exits {p.returncode}, expected {ok}:\n{p.stdout[:500]!r}\n"
                             f"{p.stderr.decode(errors='replace')}")
    return Run(p)


# ---- one node --------------------------------------------------------------------------------


def put_get_del(n):
    run = quoit("put", "user:42", "Ada", e=n)
    equal((run.out, run.err), (b"", b""), "put says")
    equal(quoit("get", "user:42", e=n).out, b"Ada", "the value, and no newline")
    equal(quoit("del", "user:42", e=n).out, b"", "del says")
    run = quoit("get", "user:42", e=n, ok=NOT_FOUND)
    equal(run.out, b"")
    has(run.err, "not found")
    quoit("del", "user:42", e=n)


def options_before_and_after_the_verb(n):
    quoit("put", "o", "1", e=n)
    equal(quoit("get", "o", "--endpoints", n.address).out, b"1")
    equal(quoit("--timeout", "2s", "-c", "all", "get", "o", e=n).out, b"1")
    equal(quoit("get", "o", env={"QUOIT_ENDPOINTS": n.address, "QUOIT_OUTPUT": "json"}).json()
          ["value"], "1")
    quoit("get", "o", e=n, env={"QUOIT_ENDPOINTS": "127.0.0.1:1"})  # the option wins


def values_from_everywhere(n):
    path = Path(SCRATCH.name) / "value"
    blob = os.urandom(100_000)
    path.write_bytes(blob)
    quoit("put", "f", f"@{path}", e=n)
    equal(quoit("get", "f", e=n).out, blob)
    quoit("put", "s", "-", e=n, stdin=blob + b"x")
    equal(quoit("get", "s", e=n).out, blob + b"x")
    quoit("put", "l", "--value", "@literal", e=n)
    equal(quoit("get", "l", e=n).out, b"@literal")
    quoit("put", "l", "--value=-", e=n)
    equal(quoit("get", "l", e=n).out, b"-")
    quoit("put", "--", "--dash", "-v-", e=n)
    equal(quoit("get", "--", "--dash", e=n).out, b"-v-")
    quoit("put", "empty", "", e=n)
    equal(quoit("get", "empty", e=n).out, b"")


def binary_keys(n):
    quoit("put", "--hex", "00ff10", "bin", e=n)
    equal(quoit("get", "--hex", "00FF10", e=n).out, b"bin")
    equal(quoit("get", "--hex", "00ff10", "-o", "json", e=n).json()["key_b64"],
          base64.b64encode(b"\0\xff\x10").decode())
    quoit("put", b"\xff\xfe", "raw bytes in an argument", e=n)
    equal(quoit("get", "--hex", "fffe", e=n).out, b"raw bytes in an argument")
    longest = "ff" * 400
    quoit("put", "--hex", longest, "x", e=n)
    equal(quoit("get", "--hex", longest, e=n).out, b"x")
    has(quoit("get", "--hex", "0g", e=n, ok=USAGE).err, "hexadecimal")
    quoit("put", "--hex", "--hex-value", "00", "00fF0a", e=n)
    equal(quoit("get", "--hex", "00", e=n).out, b"\0\xff\n")
    quoit("put", "--hex-value", "bin", "--value", "40", e=n)
    equal(quoit("get", "bin", e=n).out, b"@")
    quoit("put", "--hex-value", "bin", "", e=n)
    equal(quoit("get", "bin", e=n).out, b"")
    for wrong in ["-", "@file", "0"]:
        has(quoit("put", "--hex-value", "bin", "--", wrong, e=n, ok=USAGE).err, "hexadecimal")


def limits_are_named(n):
    run = quoit("put", "k" * 401, "v", e=n, ok=ERROR)
    has(run.err, "key is 401 bytes, the limit is 400 bytes")
    has(quoit("get", "k" * 401, e=n, ok=ERROR).err, "limit is 400 bytes")
    has(quoit("put", "", "v", e=n, ok=ERROR).err, "empty")
    path = Path(SCRATCH.name) / "big.iso"
    with open(path, "wb") as f:
        f.truncate(13_002_342)
    run = quoit("put", "big", f"@{path}", e=n, ok=ERROR)
    has(run.err, "value is 12.4 MiB, the limit is 8 MiB. Split it.")
    with open(path, "wb") as f:
        f.truncate(8 << 20)
    quoit("put", "big", f"@{path}", e=n)
    equal(len(quoit("get", "big", e=n).out), 8 << 20)
    quoit("del", "big", e=n)


def json_of_get_put_del(n):
    written = quoit("-o", "json", "put", "j", "\u20ac", e=n).json()
    equal((written["key"], written["replicas"]), ("j", 1))
    check(re.fullmatch(r"[0-9a-f]{16}-[0-9a-f]{16}", written["version"]), written["version"])
    got = quoit("get", "j", "-o", "json", e=n).json()
    equal((got["found"], got["value"], got["version"], got["replicas"]),
          (True, "\u20ac", written["version"], 1))
    quoit("put", "--hex", "6a62", "-", e=n, stdin=b"\xff")
    equal(quoit("get", "jb", "-o", "json", e=n).json()["value_b64"], "/w==")
    deleted = quoit("del", "j", "-o", "jsonl", e=n)
    equal(deleted.out.count(b"\n"), 1)
    check(deleted.json()["version"] > written["version"], "a later write is newer")
    absent = quoit("get", "j", "-o", "json", e=n, ok=NOT_FOUND).json()
    equal(absent["found"], False)
    table = quoit("get", "jb", "-o", "table", e=n).out.decode()
    check("\\xff" in table and "1 bytes" in table, table)


def where_has_fixed_names(n):
    w = quoit("where", "user:42", "-o", "json", e=n).json()
    equal(list(w), ["key", "token", "partition", "epoch", "owners"])
    check(re.fullmatch(r"[0-9a-f]{16}", w["token"]), w["token"])
    equal(w["partition"], int(w["token"], 16) >> 54, "top bits of 1024 partitions")
    equal(w["epoch"], 1)
    owner, = w["owners"]
    equal(list(owner), ["node", "id", "slot", "client", "peer", "primary"])
    check(re.fullmatch(r"[0-9a-f]{32}", owner["id"]), owner["id"])
    equal((owner["node"], owner["slot"], owner["client"], owner["peer"], owner["primary"]),
          ("n1", 0, n.address, f"127.0.0.1:{n.peer_port}", True))
    has(quoit("where", "user:42", e=n).out, "primary")


def ping_tells_each_endpoint(n):
    dead = f"127.0.0.1:{free_port()}"
    has(quoit("ping", e=n).out, "serving")
    pings = quoit("ping", "-o", "json", e=f"{n.address},{dead}", ok=PARTIAL).json()
    equal([p["ok"] for p in pings], [True, False])
    equal((pings[0]["node"], pings[0]["serving"], pings[1]["error"]), ("n1", True, "UNREACHABLE"))
    quoit("ping", e=dead, ok=UNREACHABLE)


def usage_errors_teach(n):
    cases = [
        (["gte", "k"], "did you mean get?"),
        (["get", "--consistancy", "one", "k"], "did you mean --consistency?"),
        (["get"], "get needs KEY"),
        (["get", "a", "b"], "too many arguments"),
        (["put", "k"], "needs a value"),
        (["put", "k", "v", "--value", "w"], "not both"),
        (["get", "k", "--jsonl"], "does not take --jsonl"),
        (["get", "k", "-c", "most"], "one, quorum or all"),
        (["get", "k", "-t", "soon"], "--timeout soon"),
        (["get", "k", "-t", "2h"], "1ms to 60s"),
        (["get", "k", "-o", "xml"], "not a format"),
        (["put", "k", "v", "-o", "table"], "no format table"),
        (["import", "file"], "did you mean @file?"),
        (["bench", "--mix", "e"], "range scans"),
        (["bench", "--assert", "p99"], "--assert"),
        (["bench", "--assert", "p99_us<5,errs=0"], "no result is named 'errs'"),
        (["export", "-o", "table"], "no format table"),
        (["bench", "--clients", "0"], "a number from 1"),
        (["admin"], "admin needs a verb"),
        (["admin", "stats"], "did you mean admin status?"),
        (["admin", "status", "a", "b"], "too many arguments"),
        ([], "a verb is missing"),
        (["help", "nothing"], "no help on nothing"),
    ]
    for args, text in cases:
        run = quoit(*args, e=n, ok=USAGE)
        equal(run.out, b"", f"{args} on stdout")
        has(run.err, text)
    has(quoit("get", "k", e="a:b:c", ok=USAGE).err, "HOST:PORT")
    has(quoit("get", "k", e="a,,b", ok=USAGE).err, "HOST:PORT")


def formats_fit_their_verbs(n):
    quoit("put", "format", "1", e=n)
    for args in [["-o", "json"], ["-o", "jsonl"], ["--jsonl"]]:
        lines = [json.loads(l) for l in quoit("export", *args, e=n).out.splitlines()]
        check({"key": "format", "value": "1"} in lines, f"export {args}")
    for name, out in [("table", b"format\t1\n"), ("jsonl", b'{"key":"format","value":"1"}\n')]:
        check(out in quoit("export", e=n, env={"QUOIT_OUTPUT": name}).out, f"QUOIT_OUTPUT={name}")
    quoit("put", "format", "2", e=n, env={"QUOIT_OUTPUT": "table"})
    has(quoit("get", "format", e=n, env={"QUOIT_OUTPUT": "xml"}, ok=USAGE).err, "not a format")


def help_is_on_stdout_and_80_columns_wide(n):
    topics = [["help"], ["--help"], ["help", "exit-codes"], ["help", "environment"], ["--version"]]
    verbs = ["get", "put", "del", "import", "export", "where", "ping", "bench", "admin status"]
    topics += [[*v.split(), "--help"] for v in verbs] + [["help", *v.split()] for v in verbs]
    topics += [["help", "admin"], ["admin", "--help"]]
    for args in topics:
        run = quoit(*args)
        equal(run.err, b"")
        for line in run.out.decode().splitlines():
            check(len(line) <= 80, f"{args}: {len(line)} columns: {line}")
    for verb in verbs:
        has(quoit("help").out, verb)


def a_newline_only_on_a_terminal(n):
    quoit("put", "tty", "v", e=n)
    master, slave = pty.openpty()
    p = subprocess.Popen([str(QUOIT), "-e", n.address, "get", "tty"], stdout=slave,
                         stderr=subprocess.DEVNULL)
    equal(p.wait(START_S), OK)
    os.close(slave)
    equal(os.read(master, 100), b"v\r\n")
    os.close(master)


def stdout_that_breaks_is_an_error(n):
    quoit("put", "full", "v", e=n)
    with open("/dev/full", "wb") as full:
        p = subprocess.run([str(QUOIT), "-e", n.address, "get", "full"], stdout=full,
                           stderr=subprocess.PIPE, timeout=START_S)
    equal(p.returncode, ERROR)
    has(p.stderr, "cannot write to standard output")


# ---- import and export -----------------------------------------------------------------------


def escape(b):
    return b.replace(b"\\", b"\\\\").replace(b"\t", b"\\t").replace(b"\n", b"\\n")


def random_records(seed, n):
    rng = random.Random(seed)
    records = {}
    for _ in range(n):
        key = rng.randbytes(rng.randint(1, 40))
        records[key] = rng.randbytes(rng.choice([0, 1, 5, 100, 3000]))
    records[b"\0" * 400] = rng.randbytes(1 << 20)
    records[b"\xff" * 400] = b"\n\t\\"
    records["grüße\r".encode()] = "text\u2028".encode()
    return records


def lines_of(records):
    return {escape(k) + b"\t" + escape(v) for k, v in records.items()}


def raw_lines(run):
    return set(run.out.split(b"\n")[:-1])


def random_bytes_survive_import_and_export(_):
    records = random_records(7, 2000)
    with Node() as a, Node() as b:
        summary = quoit("import", "-", "-o", "json", e=a,
                        stdin=b"\n".join(lines_of(records))).json()
        equal(sorted(summary), sorted(["records", "bytes", "seconds", "ops_per_s", "errors",
                                       "p50_us", "p99_us", "max_us"]))
        equal((summary["records"], summary["errors"]), (len(records), 0))
        equal(summary["bytes"], sum(len(k) + len(v) for k, v in records.items()))
        raw = quoit("export", e=a)
        equal(raw_lines(raw), lines_of(records), "what was imported")
        jsonl = quoit("export", "--jsonl", e=a)
        for line in jsonl.out.splitlines():
            r = json.loads(line)
            key = base64.b64decode(r["key_b64"]) if "key_b64" in r else r["key"].encode()
            value = base64.b64decode(r["value_b64"]) if "value_b64" in r else r["value"].encode()
            equal(records[key], value)
        quoit("import", "--jsonl", "-", e=b, stdin=jsonl.out)
        equal(raw_lines(quoit("export", e=b)), lines_of(records), "what came over as JSON lines")
        equal(quoit("export", e=a).out, raw.out, "two exports of the same data")
        for key in list(records)[:20]:
            equal(quoit("get", "--hex", key.hex(), e=b).out, records[key])


def a_partial_import_names_the_lines(n):
    lines = [b"good1\t1", b"no tab", b"k" * 401 + b"\tv", b"", b"bad\\x\tv", b"good2\t2"]
    run = quoit("import", "-", "-o", "json", e=n, stdin=b"\n".join(lines), ok=PARTIAL)
    equal((run.json()["records"], run.json()["errors"]), (2, 3))
    has(run.err, "2 of 5 lines stored, 3 refused:")
    has(run.err, "line 2: no TAB; line 3: key is 401 bytes, limit 400; line 5: a backslash")
    has(run.err, "importing a line twice does no harm")
    equal(quoit("get", "good2", e=n).out, b"2")
    run = quoit("import", "-", e=n, stdin=b"nothing\nhere\n", ok=ERROR)
    equal(run.out, b"")
    run = quoit("import", "-", "--max-errors", "2", e=n, stdin=b"x\n" * 50, ok=ERROR)
    has(run.err, "and 48 more")
    run = quoit("import", "-", "--max-errors", "5000", e=n, stdin=b"x\n" * 3000, ok=ERROR)
    equal([int(l.replace(b",", b"")) for l in re.findall(rb"\bline ([\d,]+): no TAB", run.err)],
          list(range(1, 3001)), "every refused line")
    run = quoit("import", "-", "--jsonl", e=n, ok=PARTIAL,
                stdin=b'{"key":"a","value":"b"}\nnot json\n{"key":"a"}\n')
    has(run.err, "line 2: not JSON; line 3: no value")
    run = quoit("import", "-", e=n, stdin=b"")
    has(run.err, "0 records")
    has(quoit("import", "@/does/not/exist", e=n, ok=ERROR).err, "No such file")


def the_last_of_equal_keys_wins(n):
    rounds = 2000
    lines = [b"same%d\t%d\n" % (i % 3, i) for i in range(rounds)]
    quoit("import", "-", stdin=b"".join(lines), e=n, q=True)
    for i in range(rounds - 3, rounds):
        equal(quoit("get", f"same{i % 3}", e=n).out, b"%d" % i)
    objects = [{"key": "same", "sort_key": str(i % 2), "value": str(i)} for i in range(500)]
    quoit("import", "--jsonl", "-", e=n, q=True,
          stdin=b"".join(json.dumps(o).encode() + b"\n" for o in objects))
    stored = [json.loads(l) for l in quoit("export", "--jsonl", e=n).out.splitlines()]
    for o in objects[-2:]:
        check(o in stored, f"{o} is the last of its key")
    # the first is refused once, and tried again after a pause: the second must not go in between
    proxy = Refuse(n, 9, b"too much", after=1, times=1)
    quoit("--direct", "import", "-", stdin=b"turn\tfirst\nturn\tsecond\n", e=proxy.address, q=True)
    equal(quoit("get", "turn", e=n).out, b"second")


def a_large_import_is_bounded_and_complete(n):
    path = Path(SCRATCH.name) / "large.tsv"
    with open(path, "wb") as f:
        for i in range(10_000):
            f.write(b"large:%d\t%s\n" % (i, b"x" * (i % 500)))
    summary = quoit("import", f"@{path}", "-o", "json", "--in-flight", "64", e=n).json()
    equal((summary["records"], summary["errors"]), (10_000, 0))
    check(0 < summary["p50_us"] <= summary["p99_us"] <= summary["max_us"], summary)
    mine = {l for l in raw_lines(quoit("export", e=n)) if l.startswith(b"large:")}
    equal(mine, set(path.read_bytes().split(b"\n")[:-1]))


def big_values_pass_the_bounds_of_the_library(n):
    """More bytes than the library holds at once: it waits instead of failing."""
    lines = b"".join(b"huge:%d\t%s\n" % (i, bytes([65 + i]) * (7 << 20)) for i in range(10))
    equal(quoit("import", "-", "-o", "json", e=n, stdin=lines).json()["records"], 10)
    for i in range(10):
        equal(quoit("get", f"huge:{i}", e=n).out, bytes([65 + i]) * (7 << 20))
        quoit("del", f"huge:{i}", e=n)


def an_import_from_a_slow_pipe_stores_as_it_reads(n):
    p = subprocess.Popen([str(QUOIT), "-e", n.address, "import", "-"], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    p.stdin.write(b"slow:1\tv\n")
    p.stdin.flush()
    wait_until("the first line is stored while the pipe is open",
               lambda: quoit("get", "slow:1", e=n, ok=None, q=True).code == OK)
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=START_S)
    equal((p.returncode, out), (INTERRUPTED, b""))
    has(err, "interrupted at line 1")


def an_export_into_a_closed_pipe_ends(n):
    quoit("import", "-", e=n, q=True,
          stdin=b"".join(b"pipe:%d\t%s\n" % (i, b"y" * 1000) for i in range(2000)))
    p = subprocess.Popen([str(QUOIT), "-e", n.address, "export"], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE)
    p.stdout.read(10)
    p.stdout.close()
    equal((p.wait(START_S), p.stderr.read()), (ERROR, b""))
    p.stderr.close()


# ---- bench -----------------------------------------------------------------------------------

BENCH = ["--keys", "200", "--duration", "300ms", "--warmup", "50ms", "--clients", "4"]
BENCH_NAMES = ["ops", "seconds", "ops_per_s", "errors", "not_found", "p50_us", "p99_us", "p999_us",
               "max_us", "reads", "writes"]


def bench_measures_every_mix(n):
    cases = [["--mix", m] for m in "abcdf"]
    cases += [["--reads", "30"], ["--distribution", "zipf"], ["--distribution", "latest"],
              ["--depth", "8"], ["--value-size", "0"], ["--threads", "2"], ["--direct"]]
    for case in cases:
        b = quoit("bench", *BENCH, *case, "-o", "json", e=n).json()
        for name in BENCH_NAMES:
            check(name in b, f"{case}: no {name}")
        equal((b["errors"], b["not_found"]), (0, 0), f"{case}")
        check(b["ops"] > 0 and b["seconds"] >= 0.3, f"{case}: {b}")
        check(abs(b["ops_per_s"] - b["ops"] / b["seconds"]) <= 1e-3 * b["ops_per_s"], f"{case}")
        check(b["p50_us"] <= b["p99_us"] <= b["p999_us"] <= b["max_us"], f"{case}: {b}")
        equal(b["ops"], b["reads"]["ops"] + b["writes"]["ops"])
    equal(quoit("bench", *BENCH, "--mix", "c", "-o", "json", e=n).json()["writes"]["ops"], 0)
    has(quoit("bench", *BENCH, e=n).out, "P99.9")


def bench_counts_what_is_not_there(n):
    b = quoit("bench", *BENCH, "--reads", "100", "--prefix", "never:", "--no-load", "-o", "json",
              e=n).json()
    equal((b["errors"], b["not_found"]), (0, b["ops"]))


def bench_keeps_its_rate(n):
    b = quoit("bench", *BENCH, "--rate", "400", "--duration", "1s", "-o", "json", e=n).json()
    check(395 <= b["ops"] <= 405, f"{b['ops']} operations at 400/s in 1 s")


def bench_counts_latency_from_the_schedule(n):
    """A node that stops for a while delays everything due meanwhile, not one request per client."""
    p = subprocess.Popen([str(QUOIT), "-e", n.address, "bench", *BENCH, "--reads", "100", "--rate",
                          "1000", "--duration", "3s", "--no-load", "-o", "json"],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(1.2)  # into the window: what is stopped is the measured load
    suspend(n.process.pid, wait_until)
    time.sleep(0.6)  # the length of the stall is the input of this test
    n.process.send_signal(signal.SIGCONT)
    out, err = p.communicate(timeout=START_S)
    equal(p.returncode, OK, err.decode())
    b = json.loads(out)
    equal(b["ops"], 3000)
    check(b["max_us"] >= 500_000, b)
    # 600 of 3000 were due in the stall: a fifth waited, so p99 is near its length
    check(b["p99_us"] >= 400_000, f"the stall is hidden: {b}")


def bench_asserts(n):
    quoit("bench", *BENCH, "--assert", "errors=0,p99_us>0,reads.ops>0", e=n)
    run = quoit("bench", *BENCH, "--assert", "errors=0,p99_us<0.001", e=n, ok=ASSERTION)
    has(run.err, "assertion failed: p99_us is")
    run = quoit("bench", *BENCH, "--prefix", "unasked:", "--assert", "nothing<1", e=n, ok=USAGE)
    has(run.err, "no result is named 'nothing'")
    quoit("get", "unasked:000000000000", e=n, ok=NOT_FOUND)  # refused before any load
    result = quoit("bench", *BENCH, "-o", "json", e=n).json()
    names = [k for k, v in result.items() if isinstance(v, (int, float))]
    names += [f"{side}.{k}" for side in ("reads", "writes") for k in result[side]]
    check(len(names) > 20, names)
    quoit("bench", *BENCH, "--assert", ",".join(f"{k}>=0" for k in names), e=n)


def failures_do_not_stretch_what_bench_measures(n):
    """The operations that hang end long after the window, by their timeout."""
    quoit("put", "bench:000000000000", "v", e=n)
    proxy = Swallow(n, after=200)
    b = quoit("--direct", "-t", "3s", "bench", "--no-load", "--keys", "1", "--reads", "100",
              "--clients", "2", "--warmup", "0s", "--duration", "500ms", "-o", "json",
              e=proxy.address).json()
    check(b["errors"] > 0 and b["ops"] > 0, b)
    equal(b["seconds"], 0.5)


def bench_is_interrupted_with_a_result(n):
    p = subprocess.Popen([str(QUOIT), "-e", n.address, "bench", "--keys", "10", "--warmup", "0s",
                          "--duration", "60s", "-o", "json", "--clients", "2", "--prefix", "int:"],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_until("loaded", lambda: quoit("get", "int:" + "0" * 11 + "9", e=n, ok=None,
                                       q=True).code == OK)
    time.sleep(0.3)  # some of the window: an interrupt before it has nothing to tell
    p.send_signal(signal.SIGINT)
    out, _ = p.communicate(timeout=START_S)
    equal(p.returncode, INTERRUPTED)
    check(json.loads(out)["ops"] > 0 and json.loads(out)["seconds"] < 30, out)


# ---- nodes that are not there, or do not answer ----------------------------------------------


def nobody_listens(_):
    dead = f"127.0.0.1:{free_port()}"
    for args in (["get", "k"], ["put", "k", "v"], ["del", "k"], ["where", "k"], ["export"],
                 ["import", "-"], ["bench", "--duration", "1s"]):
        began = time.monotonic()
        run = quoit(*args, e=dead, ok=UNREACHABLE)
        check(time.monotonic() - began < 3, f"{args} waits for the timeout")
        equal(run.out, b"")
        has(run.err, f"no node answers at {dead} (connection refused). Is quoitd running?")


def the_next_endpoint_is_tried(n):
    dead = [f"127.0.0.1:{free_port()}" for _ in range(3)]
    for order in ([*dead, n.address], [dead[0], n.address, dead[1]], [n.address, *dead]):
        quoit("put", "next", "v", e=",".join(order))
        equal(quoit("--direct", "get", "next", e=",".join(order)).out, b"v")
    equal(quoit("get", "next", e=f"localhost:{n.port}").out, b"v", "a name")


def a_stopped_node_costs_the_timeout_and_no_more(_):
    """Accepted by the kernel, answered by nobody: certainly not sent, so not 'unknown'."""
    with Node() as n:
        quoit("put", "k", "v", e=n)
        suspend(n.process.pid, wait_until)
        for args in (["get", "k"], ["put", "k", "w"]):
            began = time.monotonic()
            quoit(*args, "-t", "500ms", e=n, ok=UNREACHABLE)
            check(0.4 < time.monotonic() - began < 5, f"{args} took {time.monotonic() - began}")


class Swallow:
    """A proxy to a node that swallows every answer but the first, which is to the hello, and the
    `after` next. With `cut` it closes the connection when the node has answered a request."""

    def __init__(self, node, cut=False, after=0):
        self.node, self.cut, self.after = node, cut, after
        self.server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.server.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.server.accept()
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        node = socket.create_connection(("127.0.0.1", self.node.port))
        greeted, left = False, self.after
        with client, node:
            while True:
                for s in select.select([client, node], [], [])[0]:
                    data = s.recv(65536)
                    if not data or (s is node and greeted and self.cut):
                        return
                    if s is client:
                        node.sendall(data)
                    elif not greeted or left > 0:
                        client.sendall(data)
                        left -= greeted
                        greeted = True


def varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 128:
            return value, at


def written_varint(value):
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


class Refuse(Swallow):
    """Lets the hello and `after` requests through, answers the next `times` itself, with an error,
    and lets the others through."""

    def __init__(self, node, code, text, after=0, times=1 << 30):
        self.times = times
        self.error = b"\x08" + bytes([code]) + b"\x12" + bytes([len(text)]) + text
        super().__init__(node, after=after)

    def serve(self, client):
        node = socket.create_connection(("127.0.0.1", self.node.port))
        stream, answers, n = client.makefile("rb"), node.makefile("rb"), 0
        with client, node, stream, answers:
            while length := stream.read(4):
                request = stream.read(int.from_bytes(length, "big"))
                if 1 + self.after <= n < 1 + self.after + self.times:
                    equal(request[0], 8, "the id comes first")
                    body = b"\x08" + written_varint(varint(request, 1)[0])
                    body += b"\x22" + bytes([len(self.error)]) + self.error
                    client.sendall(len(body).to_bytes(4, "big") + body)
                else:
                    node.sendall(length + request)
                    length = answers.read(4)
                    client.sendall(length + answers.read(int.from_bytes(length, "big")))
                n += 1


def messages_say_what_was_written(n):
    proxy = Refuse(n, 11, b"too late")
    run = quoit("--direct", "put", "k", "v", e=proxy.address, ok=ERROR)
    has(run.err, "nothing was written")
    check(b"UNKNOWN" not in run.err, run.err)
    has(quoit("--direct", "del", "k", e=proxy.address, ok=ERROR).err, "nothing was written")
    run = quoit("--direct", "get", "k", e=proxy.address, ok=UNKNOWN)
    check(b"written" not in run.err, run.err)
    load = ["--direct", "-t", "400ms", "bench", *BENCH]
    run = quoit(*load, "--clients", "1", e=Refuse(n, 11, b"too late", after=1).address, ok=ERROR)
    has(run.err, "nothing was written")
    run = quoit(*load, e=Swallow(n, after=1).address, ok=UNKNOWN)
    has(run.err, "OUTCOME UNKNOWN")
    check(b"`quoit get bench:0000" in b"".join(run.err.split(b"\n       ")) or
          b"`quoit get bench:0000" in run.err.replace(b"\n       ", b" "), run.err)


def a_write_without_an_answer_is_unknown(n):
    proxy = Swallow(n)
    run = quoit("--direct", "-t", "400ms", "put", "unknown", "1", e=proxy.address, ok=UNKNOWN)
    has(run.err, "no answer in 0.4 s. OUTCOME UNKNOWN: it may have been stored, or may still be. "
        "Look first (`quoit get unknown`), then decide.")
    equal(quoit("get", "unknown", e=n).out, b"1", "as it happens")
    has(quoit("--direct", "-t", "400ms", "del", "x", e=proxy.address, ok=UNKNOWN).err, "UNKNOWN")
    run = quoit("--direct", "-t", "400ms", "get", "unknown", e=proxy.address, ok=UNKNOWN)
    has(run.err, "get unknown: no answer in 0.4 s")
    check(b"UNKNOWN" not in run.err, "a read has no outcome to doubt")


def a_lost_connection_repeats_reads_and_leaves_writes_open(n):
    both = f"{n.address},{Swallow(n, cut=True).address}"  # the rotation begins with the second
    has(quoit("--direct", "put", "lost", "1", e=both, ok=UNKNOWN).err, "OUTCOME UNKNOWN")
    equal(quoit("--direct", "get", "lost", e=both).out, b"1")
    quoit("--direct", "put", "--repeat", "lost", "2", e=both)
    equal(quoit("get", "lost", e=n).out, b"2")


def a_read_leaves_a_silent_node(n):
    proxy = Swallow(n)
    quoit("put", "silent", "v", e=n)
    began = time.monotonic()
    equal(quoit("--direct", "-t", "3s", "get", "silent",
                e=f"{n.address},{proxy.address}").out, b"v")
    check(time.monotonic() - began < 2.8, "before the timeout")


def what_is_no_node_is_told_apart(n):
    """Garbage, silence that ends, and an endless frame: named, and the next endpoint is used."""
    for answer in (b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", b"\0\0\0\x04\xff\xff\xff\xff",
                   b"\0\0\0\0"):
        with socket.create_server(("127.0.0.1", 0)) as server:
            def serve(server=server, answer=answer):
                try:
                    while True:
                        with server.accept()[0] as s:
                            s.sendall(answer)
                            s.recv(1000)
                except OSError:
                    pass  # closed: the test is over
            threading.Thread(target=serve, daemon=True).start()
            address = f"127.0.0.1:{server.getsockname()[1]}"
            run = quoit("put", "k", "v", e=address, ok=UNREACHABLE)
            has(run.err, "no quoit node" if answer else "closed the connection")
            quoit("put", "k", "v", e=f"{n.address},{address}")
            server.shutdown(socket.SHUT_RDWR)


def a_node_that_waits_for_its_cluster_is_not_serving(_):
    ports = [(free_port(), free_port()) for _ in range(2)]
    n = Node(ports=ports[0], cluster=[p for _, p in ports])
    try:
        wait_until("it listens", lambda: b"false" in quoit("ping", "-o", "json", e=n, ok=None).out
                   and b"serving" in quoit("ping", "-o", "json", e=n, ok=None).out)
        equal(quoit("ping", "-o", "json", e=n, ok=UNREACHABLE).json()[0]["serving"], False)
        has(quoit("-t", "400ms", "get", "k", e=n, ok=UNREACHABLE).err, "serves nothing yet")
        has(quoit("-t", "400ms", "where", "k", e=n, ok=UNREACHABLE).err, "serves nothing yet")
    finally:
        n.kill()


def three_nodes(_):
    ports = [(free_port(), free_port()) for _ in range(3)]
    nodes = [Node(f"n{i + 1}", p, [q for _, q in ports]) for i, p in enumerate(ports)]
    everywhere = ",".join(n.address for n in nodes)
    try:
        for n in nodes:
            n.wait_serving()
        quoit("import", "-", e=everywhere, q=True,
              stdin=b"".join(b"k%d\t%d\n" % (i, i) for i in range(3000)))
        exports = [quoit("--direct", "export", e=n).out for n in nodes]
        equal(len(exports[0].splitlines()), 3000)
        equal(exports[1:], [exports[0]] * 2, "through each node")
        w = quoit("where", "k1", "-o", "json", e=everywhere).json()
        equal(sorted(o["node"] for o in w["owners"]), ["n1", "n2", "n3"])
        equal(sum(o["primary"] for o in w["owners"]), 1)
        put = quoit("-o", "json", "put", "-c", "all", "k1", "1", e=everywhere)
        equal(put.json()["replicas"], 3)

        nodes[1].kill()
        for i in range(20):
            quoit("put", f"k{i}", f"{i}", e=everywhere)
            equal(quoit("get", f"k{i}", e=everywhere).out, b"%d" % i)
        has(quoit("put", "-t", "2s", "-c", "all", "k1", "1", e=nodes[0], ok=NO_QUORUM).err,
            "refused, nothing was written")
        b = quoit("bench", *BENCH, "-o", "json", e=everywhere).json()
        equal((b["errors"], b["not_found"]), (0, 0), "bench without n2")

        nodes[2].kill()
        run = quoit("put", "-t", "2s", "k1", "2", e=nodes[0], ok=NO_QUORUM)
        has(run.err, "put k1: refused, nothing was written")
        equal(quoit("-c", "one", "get", "k1", e=nodes[0]).out, b"1", "one replica is up")
        quoit("get", "-t", "2s", "k1", e=nodes[0], ok=NO_QUORUM)
        has(quoit("-t", "500ms", "export", e=nodes[0], ok=NO_QUORUM).err, "INCOMPLETE: given up")
        nodes[1].start()
        nodes[1].wait_serving()
        quoit("put", "k1", "3", e=everywhere)
        equal(quoit("get", "k1", e=nodes[1]).out, b"3")
    finally:
        for n in nodes:
            n.kill()


def a_rolling_restart_gives_no_errors(_):
    """Each node in turn is told to stop and started again, under a load of reads and writes."""
    ports = [(free_port(), free_port()) for _ in range(3)]
    nodes = [Node(f"n{i + 1}", p, [q for _, q in ports]) for i, p in enumerate(ports)]
    everywhere = ",".join(n.address for n in nodes)
    try:
        for n in nodes:
            n.wait_serving()
        p = subprocess.Popen([str(QUOIT), "-e", everywhere, "bench", "--keys", "200", "--clients",
                              "4", "--warmup", "0s", "--duration", "30s", "-o", "json"],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        wait_until("the load has begun", lambda: quoit(
            "get", "bench:000000000199", e=everywhere, ok=None, q=True).code == OK)
        for n in nodes:
            n.process.send_signal(signal.SIGTERM)
            equal(n.process.wait(START_S), 0, "exit of quoitd")
            n.start()
            n.wait_serving()
        p.send_signal(signal.SIGINT)
        out, err = p.communicate(timeout=START_S)
        b = json.loads(out)
        equal((b["errors"], b["error_codes"]), (0, {}), err.decode())
        check(b["ops"] > 0, "something was done")
    finally:
        for n in nodes:
            n.kill()


def a_node_dies_under_import(_):
    """Repeats make the import whole although a node is killed in the middle of it."""
    ports = [(free_port(), free_port()) for _ in range(3)]
    nodes = [Node(f"n{i + 1}", p, [q for _, q in ports]) for i, p in enumerate(ports)]
    everywhere = ",".join(n.address for n in nodes)
    try:
        for n in nodes:
            n.wait_serving()
        p = subprocess.Popen([str(QUOIT), "-e", everywhere, "import", "-", "-o", "json"],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        lines = [b"d%d\tv%d\n" % (i, i) for i in range(20_000)]
        p.stdin.write(b"".join(lines[:10_000]))
        p.stdin.flush()
        wait_until("some of it is stored",
                   lambda: quoit("get", "d2000", e=nodes[0], ok=None, q=True).code == OK)
        nodes[1].kill()
        out, err = p.communicate(b"".join(lines[10_000:]), timeout=START_S)
        equal(p.returncode, OK, err.decode())
        equal(json.loads(out)["records"], 20_000)
        exported = quoit("--direct", "export", e=nodes[0]).out
        equal(set(exported.splitlines(True)), set(lines))
    finally:
        for n in nodes:
            n.kill()


# ---- the library -----------------------------------------------------------------------------


def the_library_through_its_header(n):
    p = subprocess.run([str(LIBRARY), n.address, f"127.0.0.1:{free_port()}"], capture_output=True,
                       timeout=START_S)
    equal(p.returncode, 0, p.stderr.decode() + p.stdout.decode())


def a_put_after_a_restart_is_no_unknown_outcome(_):
    with Node() as n:
        p = subprocess.Popen([str(LIBRARY), "again", n.address], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE)
        equal(p.stdout.readline(), b"stored\n")
        n.kill()
        n.start()
        n.wait_serving()
        out = p.communicate(b"\n", timeout=START_S)[0]
        equal((p.returncode, out.split()[1:2]), (0, [b"1"]), out.decode())


def it_installs_and_builds_by_pkg_config(_):
    """As a program outside the tree would: only what is installed, found by pkg-config."""
    build = QUOIT.parents[1]
    root = Path(SCRATCH.name) / "root"
    subprocess.run(["meson", "install", "-C", build, "--no-rebuild", "--destdir", root],
                   check=True, capture_output=True)
    found = {p.name: p for p in root.rglob("*") if p.is_file()}
    for name in ("quoit", "quoitd", "quoit.h", "libquoit.a", "libquoit.pc", "quoit.bash", "_quoit",
                 "quoit.fish"):
        check(name in found, f"{name} is not installed")
    env = {**os.environ, "PKG_CONFIG_PATH": str(found["libquoit.pc"].parent),
           "PKG_CONFIG_SYSROOT_DIR": str(root)}
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "libquoit"], env=env, check=True,
                           capture_output=True, text=True).stdout.split()
    source = Path(SCRATCH.name) / "outside.c"
    source.write_text("#include <quoit.h>\n#include <stdio.h>\n"
                      "int main(void) { return puts(quoit_version_string()) < 0; }\n")
    program = Path(SCRATCH.name) / "outside"
    # libraries of a sanitizer build leave symbols to the program
    extra = ["-Wl,--unresolved-symbols=ignore-in-shared-libs"]
    subprocess.run(["cc", str(source), "-o", str(program), *extra, *flags], check=True,
                   capture_output=True)
    needed = subprocess.run(["readelf", "-d", program], check=True, capture_output=True,
                            text=True).stdout
    has(needed, "libquoit.so.0")


def completions_complete(_):
    script = QUOIT.parent / "quoit.bash"

    def complete(*words):
        line = " ".join(words)
        code = (f"source {script}; COMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1));"
                "_quoit; printf '%s\\n' \"${COMPREPLY[@]}\"")
        return subprocess.run(["bash", "-c", code], capture_output=True, text=True,
                              check=True).stdout.split()
    equal(complete("quoit", "imp"), ["import"])
    equal(complete("quoit", "-e", "n1:7400", "get", "--he"), ["--hex", "--help"])
    equal(complete("quoit", "put", "--consistency", "q"), ["quorum"])
    equal(complete("quoit", "export", "-o", '""'), ["raw", "json", "jsonl"])
    equal(complete("quoit", "adm"), ["admin"])
    equal(complete("quoit", "admin", "st"), ["status"])
    equal(complete("quoit", "admin", "status", "--vn"), ["--vnodes"])
    equal(complete("quoit", "admin", "status", "-o", "t"), ["table"])
    check("--jsonl" not in complete("quoit", "get", "--"), "an option of another verb")


def man_pages_are_clean(_):
    for name in ("quoit.1", "quoitd.1"):
        page = QUOIT.parent / name
        if not page.exists():  # built without scdoc
            continue
        text = page.read_text()
        check(not re.search(r"@[A-Z]+@", text), f"{name}: something was not filled in")
        for verb in ("get", "import", "bench") if name == "quoit.1" else ("data", "cluster"):
            has(text, verb)


def only_the_header_is_exported(_):
    needed = subprocess.run(["ldd", str(LIBRARY)], capture_output=True, text=True,
                            check=True).stdout
    path = re.search(r"libquoit\.so\.0 => (\S+)", needed).group(1)
    names = subprocess.run(["nm", "-D", "--defined-only", path], capture_output=True, text=True,
                           check=True).stdout.split()[2::3]
    header = (Path(__file__).resolve().parents[2] / "client/quoit.h").read_text()
    declared = re.findall(r"QUOIT_API[^;(]*?\b(quoit_\w+)\(", header)
    equal(sorted(names), sorted(declared))


# ---- running ---------------------------------------------------------------------------------

TESTS = [put_get_del, options_before_and_after_the_verb, values_from_everywhere, binary_keys,
         limits_are_named, json_of_get_put_del, where_has_fixed_names, ping_tells_each_endpoint,
         usage_errors_teach, formats_fit_their_verbs,
         help_is_on_stdout_and_80_columns_wide, a_newline_only_on_a_terminal,
         stdout_that_breaks_is_an_error, random_bytes_survive_import_and_export,
         a_partial_import_names_the_lines, a_large_import_is_bounded_and_complete,
         the_last_of_equal_keys_wins,
         big_values_pass_the_bounds_of_the_library, an_import_from_a_slow_pipe_stores_as_it_reads,
         an_export_into_a_closed_pipe_ends, bench_measures_every_mix,
         bench_counts_what_is_not_there, bench_keeps_its_rate,
         bench_counts_latency_from_the_schedule, bench_asserts,
         failures_do_not_stretch_what_bench_measures, bench_is_interrupted_with_a_result,
         nobody_listens, the_next_endpoint_is_tried, a_stopped_node_costs_the_timeout_and_no_more,
         a_write_without_an_answer_is_unknown, messages_say_what_was_written,
         a_lost_connection_repeats_reads_and_leaves_writes_open, a_read_leaves_a_silent_node,
         what_is_no_node_is_told_apart, a_node_that_waits_for_its_cluster_is_not_serving,
         three_nodes, a_rolling_restart_gives_no_errors, a_node_dies_under_import,
         the_library_through_its_header, a_put_after_a_restart_is_no_unknown_outcome,
         it_installs_and_builds_by_pkg_config,
         completions_complete, man_pages_are_clean, only_the_header_is_exported]


if __name__ == "__main__":
    with Node() as shared:
        sys.exit(run_all(chosen(TESTS, sys.argv[4:]), shared))
