#!/usr/bin/python3
"""compare: quoit beside redis-server, in one run, on this machine.

For each case it starts the servers on loopback with data under a directory of its own, loads, runs
the load generator (`quoit bench` or `redis-benchmark`, same clients, depth, key count and value
size), and measures

    ops/s      as the load generator reports it
    CPU/op     user + system time of all server processes (/proc/PID/stat) divided by operations

Cases run in turn, several rounds, and the median is printed with its ratio to Redis. Absolute
figures belong to the machine and its disk; ratios of one run are what to quote.

    tests/bench/compare.py [--build build] [--rounds 3] [--seconds 4] [--only set] [--depth 1]
                           [--quick] [-o json]
"""
import argparse
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

TICKS = os.sysconf("SC_CLK_TCK")
KEYS = 100_000
VALUE = 100
CLIENTS = 50


def free_ports(n):
    """Ports that are free now; the sockets are held until all are known."""
    socks = [socket.socket() for _ in range(n)]
    for s in socks:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in socks]
    for s in socks:
        s.close()
    return ports


def cpu_seconds(pids):
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def wait_until(what, check, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if check():
            return
        time.sleep(0.02)
    sys.exit(f"compare: {what} did not come up in {seconds} s")


class Server:
    """Processes started for one case; stopped and removed with it."""

    def __init__(self, directory):
        self.directory = directory
        self.processes = []

    def start(self, argv, executable=None):
        log = open(os.path.join(self.directory, f"log{len(self.processes)}"), "w")
        self.processes.append(subprocess.Popen(argv, executable=executable, stdout=log, stderr=log,
                                               cwd=self.directory))

    def pids(self):
        return [p.pid for p in self.processes]

    def stop(self):
        for p in self.processes:
            p.send_signal(signal.SIGTERM)
        for p in self.processes:
            try:
                p.wait(10)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()


# One program under two names; the second is in redis-tools, which starts no service.
REDIS_PROGRAM = shutil.which("redis-server") or shutil.which("redis-check-rdb")


def start_redis(directory, durable):
    port = free_ports(1)[0]
    server = Server(directory)
    server.start(["redis-server", "--port", str(port), "--save", "", "--dir", directory,
                  "--appendonly", "yes" if durable else "no", "--appendfsync", "always"],
                 executable=REDIS_PROGRAM)
    wait_until("redis-server", lambda: subprocess.run(
        ["redis-cli", "-p", str(port), "ping"], capture_output=True).stdout == b"PONG\n")
    return server, port


def start_quoit(directory, build, n):
    ports = free_ports(2 * n)
    peers = ",".join(f"127.0.0.1:{p}" for p in ports[n:])
    server = Server(directory)
    for i in range(n):
        argv = [os.path.join(build, "server/quoitd"), "--data", os.path.join(directory, f"n{i}"),
                "--name", f"n{i}", "--listen", f"127.0.0.1:{ports[i]}",
                "--peer-listen", f"127.0.0.1:{ports[n + i]}", "--http-listen", "off",
                "--map-size", "4GiB"]
        if n > 1:
            argv += ["--cluster", peers]
        server.start(argv)
    endpoints = ",".join(f"127.0.0.1:{p}" for p in ports[:n])
    quoit = os.path.join(build, "client/quoit")
    for p in ports[:n]:
        wait_until("quoitd", lambda: subprocess.run(
            [quoit, "--endpoints", f"127.0.0.1:{p}", "--timeout", "1s", "put", "ready", "1"],
            capture_output=True).returncode == 0)
    return server, endpoints


def measure(server, argv, parse):
    """Runs the load and returns (ops/s, server CPU us per op)."""
    before = cpu_seconds(server.pids())
    done = subprocess.run(argv, capture_output=True, text=True)
    after = cpu_seconds(server.pids())
    if done.returncode:
        sys.exit(f"compare: {' '.join(argv)} failed:\n{done.stdout}{done.stderr}")
    ops_per_s, ops = parse(done.stdout)
    return {"ops_per_s": ops_per_s, "cpu_us": (after - before) * 1e6 / ops}


def redis_case(args, case, directory):
    server, port = start_redis(directory, case["durable"])
    load = ["redis-benchmark", "-p", str(port), "-c", str(case["clients"]), "-d", str(VALUE),
            "-r", str(KEYS), "--csv"]
    try:
        subprocess.run(load + ["-t", "set", "-n", str(KEYS), "-P", "16"], capture_output=True,
                       check=True)
        # enough operations for the wanted seconds, from a short probe
        command = ["-t", case["op"], "-P", str(case["depth"])]
        probe = measure(server, load + command + ["-n", "20000"], parse_redis(20000))
        n = max(20000, int(probe["ops_per_s"] * args.seconds))
        return measure(server, load + command + ["-n", str(n)], parse_redis(n))
    finally:
        server.stop()


def parse_redis(n):
    return lambda text: (float(text.splitlines()[-1].split(",")[1].strip('"')), n)


def quoit_case(args, case, directory):
    server, endpoints = start_quoit(directory, args.build, case["nodes"])
    bench = [os.path.join(args.build, "client/quoit"), "--endpoints", endpoints, "bench",
             "--keys", str(KEYS), "--value-size", str(VALUE), "--warmup", "0s", "-o", "json"]
    run = ["--clients", str(case["clients"]), "--depth", str(case["depth"]), "--reads",
           "100" if case["op"] == "get" else "0", "--duration", f"{args.seconds}s", "--no-load"]
    try:
        # the first run loads the keys; what it costs the server is not part of the second
        subprocess.run(bench + ["--clients", str(CLIENTS), "--depth", "16", "--duration", "1s"],
                       capture_output=True, check=True)
        return measure(server, bench + run, parse_quoit)
    finally:
        server.stop()


def parse_quoit(text):
    result = json.loads(text)
    if result["errors"] or result["not_found"]:
        sys.exit(f"compare: errors or missing keys in {text}")
    return result["ops_per_s"], result["ops"]


def cases():
    out = []
    for op in ("get", "set"):
        for depth in (1, 16):
            out.append({"op": op, "depth": depth, "clients": CLIENTS, "durable": op == "set"})
    for clients in (1, 16, 64):
        out.append({"op": "set", "depth": 1, "clients": clients, "durable": True})
    return out


def run_one(run, args, case):
    directory = tempfile.mkdtemp(prefix="quoit-compare-", dir=args.directory)
    try:
        return run(args, case, directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def median(results, field):
    return statistics.median(r[field] for r in results)


def compare_case(args, case):
    arms = [("redis", redis_case, case), ("quoit", quoit_case, dict(case, nodes=1)),
            ("quoit x3", quoit_case, dict(case, nodes=3))]
    results = {name: [] for name, _, _ in arms}
    for _ in range(args.rounds):
        for name, run, c in arms:
            results[name].append(run_one(run, args, c))
    return {name: {"ops_per_s": median(r, "ops_per_s"), "cpu_us": median(r, "cpu_us")}
            for name, r in results.items()}


def print_case(case, result):
    redis = result["redis"]
    what = f"{case['op']} clients {case['clients']} depth {case['depth']}"
    if case["durable"]:
        what += " (synced)"
    for name, r in result.items():
        print(f"{what:36} {name:9} {r['ops_per_s']:>10,.0f} ops/s {r['cpu_us']:>8.2f} us CPU"
              f"   {r['ops_per_s'] / redis['ops_per_s']:5.2f} x ops"
              f"   {r['cpu_us'] / redis['cpu_us']:5.2f} x CPU", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--only", choices=["get", "set"], help="only these cases")
    parser.add_argument("--depth", type=int, choices=[1, 16], help="only these cases")
    parser.add_argument("--quick", action="store_true", help="one round of one second")
    parser.add_argument("--directory", help="where data lives [the build directory]")
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    args = parser.parse_args()
    args.build = os.path.abspath(args.build)
    args.directory = args.directory or args.build
    if args.quick:
        args.rounds, args.seconds = 1, 1
    everything = []
    for case in (c for c in cases()
                 if args.only in (None, c["op"]) and args.depth in (None, c["depth"])):
        result = compare_case(args, case)
        everything.append({"case": case, "result": result})
        if args.output == "table":
            print_case(case, result)
    if args.output == "json":
        print(json.dumps(everything, indent=1))


if __name__ == "__main__":
    main()
