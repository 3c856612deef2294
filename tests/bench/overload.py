#!/usr/bin/python3
"""overload: what is left of the throughput when more comes in than can be done.

For reads, writes and a half of each, on one node and on three, it looks for the most that a closed
loop gets through (the peak), then offers multiples of that in an open loop: requests start on
schedule whether or not earlier ones were answered. Counted is what succeeded within its timeout.

    goodput    successes per second, and in per cent of the peak
    refused    what the client was told in the end, by code; the library repeats refusals
               that wrote nothing, as long as its timeout allows

The servers get one set of CPUs and the client another, so that neither starves the other.

    tests/bench/overload.py [--build build] [--seconds 8] [--factors 1,2,4] [--timeout 1s]
                            [--nodes 1,3] [--reads 0,50,100] [--server-cpus 0] [--client-cpus 1]
                            [-o json]
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile

import compare

# The closed loops, of which the best is the peak: enough under way to keep every queue busy.
PEAKS = ((32, 8), (32, 32))
# The open loop: as many hands as it takes to have a timeout's worth of requests under way, so that
# the client itself is not what slows the load down.
CLIENTS, DEPTH = 64, 1024


def bench(args, endpoints, reads, more, timeout=None):
    argv = ["taskset", "-c", args.client_cpus, os.path.join(args.build, "client/quoit"),
            "--endpoints", endpoints, "--timeout", timeout or args.timeout, "bench", "--keys",
            str(compare.KEYS), "--value-size", str(compare.VALUE), "--reads", str(reads),
            "--duration", f"{args.seconds}s", "-o", "json"] + more
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if not done.stdout.startswith("{"):
        sys.exit(f"overload: {' '.join(argv)} failed:\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout)


def run_case(args, nodes, reads):
    """The peak and what is left of it at each factor."""
    directory = tempfile.mkdtemp(prefix="quoit-overload-", dir=args.directory)
    here = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {int(c) for c in args.server_cpus.split(",")})
    server, endpoints = compare.start_quoit(directory, args.build, nodes)
    os.sched_setaffinity(0, here)
    try:
        # the first run loads the keys
        bench(args, endpoints, reads, ["--clients", str(compare.CLIENTS), "--depth", "16"], "20s")
        peak = max(bench(args, endpoints, reads, ["--clients", str(clients), "--depth",
                                                  str(depth), "--no-load"])["ops_per_s"]
                   for clients, depth in PEAKS)
        rows = []
        for factor in args.factors:
            r = bench(args, endpoints, reads,
                      ["--clients", str(CLIENTS), "--depth", str(DEPTH), "--no-load",
                       "--rate", str(int(peak * factor))])
            rows.append({"factor": factor, "goodput": r["ops_per_s"],
                         "of_peak": r["ops_per_s"] / peak, "p50_us": r["p50_us"],
                         "p99_us": r["p99_us"], "errors": r["errors"],
                         "client_cpu": r["client_cpu_seconds"] / r["seconds"],
                         "error_codes": r["error_codes"]})
        return {"nodes": nodes, "reads": reads, "peak": peak, "rows": rows}
    finally:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)


def print_case(case):
    print(f"{case['nodes']} node(s), {case['reads']} % reads: peak {case['peak']:,.0f}/s",
          flush=True)
    for r in case["rows"]:
        codes = ", ".join(f"{n} x {c}" for c, n in sorted(r["error_codes"].items()))
        print(f"  {r['factor']:g} x: {r['goodput']:>9,.0f}/s {100 * r['of_peak']:>5.0f} %"
              f"   p50 {r['p50_us'] / 1000:>7.1f} ms   p99 {r['p99_us'] / 1000:>7.1f} ms"
              f"   client {100 * r['client_cpu']:.0f} % CPU   {codes}", flush=True)


def numbers(kind):
    return lambda text: [kind(x) for x in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build")
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--factors", type=numbers(float), default=[1, 2, 4])
    parser.add_argument("--timeout", default="1s")
    parser.add_argument("--nodes", type=numbers(int), default=[1, 3])
    parser.add_argument("--reads", type=numbers(int), default=[0, 50, 100])
    parser.add_argument("--server-cpus", default="0")
    parser.add_argument("--client-cpus", default="1")
    parser.add_argument("--directory", help="where data lives [the build directory]")
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    args = parser.parse_args()
    args.build = os.path.abspath(args.build)
    args.directory = args.directory or args.build
    everything = []
    for nodes in args.nodes:
        for reads in args.reads:
            everything.append(run_case(args, nodes, reads))
            if args.output == "table":
                print_case(everything[-1])
    if args.output == "json":
        print(json.dumps(everything, indent=1))


if __name__ == "__main__":
    main()
