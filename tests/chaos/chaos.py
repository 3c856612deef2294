"""chaos: real nodes under load, faults, and a checker that knows every acknowledged write.

Called by scripts/chaos, which has built what is needed. Every figure printed is measured in this
run. See README.md in this folder.
"""

import argparse
import fcntl
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import clocks
import disks
import kills
import network
import partitions
from cluster import die_with_parent
from client import load_schemas  # cluster knows where it is
from load import Failed
from trial import Skip, Tools, Trial, Violated

ROOT = Path(__file__).resolve().parent.parent.parent
DIRECTORY = ROOT / "build/chaos"
LOGS = ROOT / "build/chaos-logs"
PARTS = ["kill", "stop", "partition", "clock", "disk"]

HELP = """\
Usage: scripts/chaos [OPTION...]        Hurt a cluster of real nodes, and check every answer.

Clients write, delete and read some thousand times per second and remember what
was acknowledged, refused, or left open. Meanwhile nodes are killed with -9,
stopped, cut off, given wrong clocks, and started on wrong disks. After each
fault every key is read at quorum through each node: nothing acknowledged may be
missing, nothing deleted may come back, nothing may go back to an older value.
What is wrong is told with its key.

  scripts/chaos                         all parts, one round each at least
  scripts/chaos --minutes 60            an hour, in equal parts
  scripts/chaos --only kill,partition
  scripts/chaos --seed 17               the same choices again (not the same
                                        run: processes have a timing of their own)

      --only PART,...    of: kill       -9, each node in turn, and all at once
                             stop       SIGSTOP: a node that hangs
                             partition  cuts: full, partial, one-way (*)
                             clock      jumps of 3 hours, ahead and behind (**)
                             disk       empty, old and copied disks
      --minutes N        how long in all; each part does one round at least [5]
      --seed N           of the choices [drawn, and printed]
      --nodes N          of kill, stop and partition: 3 to 9 [5]
      --rate OPS         operations per second that the clients begin [3000]
      --converge         demand after each fault that the replicas agree within a
                         minute by themselves; without it after cuts only
      --keep-logs        keep the nodes' logs also when all went well
  -h, --help

(*)  needs the right to make network namespaces, and Debian's iproute2 and
     nftables; nothing outside of the namespace is touched
(**) needs Debian's libfaketime
Where that is missing the part is skipped, with the reason.

Exit: 0 nothing was wrong, 1 a promise was broken, a node did not come back, or
      every part was skipped, 2 usage, 130 interrupted
See also: tests/chaos/README.md; scripts/test runs short forms of all parts
"""


class Beside(threading.Thread):
    """`quoit bench` beside the checker, one short run after another: what the library sees."""

    RUN_S = 5

    def __init__(self, quoit, addresses):
        super().__init__(daemon=True)
        self.command = [str(quoit), "--endpoints", ",".join(f"{h}:{p}" for h, p in addresses),
                        "-q", "-o", "json", "bench", "--rate", "300", "--clients", "2", "--keys",
                        "1000", "--warmup", "0s", "--duration", f"{self.RUN_S}s"]
        self.ending, self.process = False, None
        self.ops = self.errors = self.runs = 0
        self.failure = None

    def run(self):
        more = []
        while not self.ending:
            self.process = subprocess.Popen(self.command + more, stdout=subprocess.PIPE,
                                            stderr=subprocess.PIPE, text=True,
                                            preexec_fn=die_with_parent)
            out, err = self.process.communicate()
            if self.ending:
                return
            if self.process.returncode != 0:
                self.failure = f"`quoit bench` ends with {self.process.returncode}: {err.strip()}"
                return
            result = json.loads(out)
            self.ops += result["ops"]
            self.errors += result["errors"]
            self.runs += 1
            more = ["--no-load"]

    def stop(self):
        self.ending = True
        if self.process is not None:
            self.process.kill()
        self.join()

    def summary(self):
        if self.failure is not None:
            raise Failed(self.failure)
        return f"`quoit bench` beside it, through all nodes: {self.errors} of " \
               f"{self.ops + self.errors:,} operations failed"


class Chaos:
    def __init__(self, options, quoitd, quoit):
        self.options, self.began = options, time.monotonic()
        self.scratch = tempfile.TemporaryDirectory(prefix="quoit-chaos-")
        self.tools = Tools(Path(quoitd), Path(quoit),
                           load_schemas(str(ROOT / "proto"), self.scratch.name),
                           converge=options.converge)
        self.share_s = options.minutes * 60 / len(options.only)
        self.done, self.skipped = [], []  # (part, lines), (name, reason)
        self.totals = {"writes": 0, "acknowledged": 0, "unknown": 0, "reads": 0, "keys": 0}
        self.longest_lag_s = 0.0

    # ---- a part

    def tell(self, text):
        print(f"    {time.monotonic() - self.began:6.1f} s  {text}", flush=True)

    def _trial(self, name, n, **more):
        return Trial(self.tools, DIRECTORY / name, n, f"{self.options.seed}/{name}",
                     rate=self.options.rate, tell=self.tell, **more)

    def _count(self, t):
        h = t.history
        for name, n in (("writes", h.n_writes), ("acknowledged", h.n_acknowledged),
                        ("unknown", h.n_unknown), ("reads", h.n_reads), ("keys", len(h.keys))):
            self.totals[name] += n
        self.longest_lag_s = max(self.longest_lag_s, t.longest_lag_s)

    def _with_bench(self, t, part, rng, until):
        beside = Beside(self.tools.quoit, t.cluster.addresses)
        beside.start()
        try:
            part.run(t, rng, until)
        finally:
            beside.stop()
        return [beside.summary()]

    def _run(self, part, t, run):
        rng = kills.rng_of(self.options.seed, part.name)
        try:
            t.begin()
            more = run(t, part, rng, time.monotonic() + self.share_s) or []
            t.end()
            self._count(t)
        except BaseException:
            self.save_logs(t)
            raise
        if self.options.keep_logs:
            self.save_logs(t)
        self.done.append((part, part.summary() + more))

    def kill(self):
        n = self.options.nodes
        with self._trial("kill", n) as t:
            self._run(kills.Kills(n), t, self._with_bench)

    def stop(self):
        with self._trial("stop", self.options.nodes) as t:
            self._run(kills.Stops(20.0), t, self._with_bench)

    def partition(self):
        reason = self.options.no_namespace
        if reason:
            raise Skip(reason)
        net, t = partitions.trial_with_network(self._trial, "partition", self.options.nodes)
        with net, t:
            self._run(partitions.Partitions(20.0), t,
                      lambda t, part, rng, until: part.run(t, net, rng, until))

    def clock(self):
        with self._trial("clock", 3) as t:
            clocks.give_clocks(t)
            self._run(clocks.Clocks(), t, lambda t, part, rng, until: part.run(t, rng, until))

    def disk(self):
        with self._trial("disk", 3) as t:
            self._run(disks.Disks(), t, lambda t, part, rng, until: part.run(t, rng, until))

    # ---- all of it

    def run(self):
        for name in self.options.only:
            print(f"  {name}", flush=True)
            try:
                getattr(self, name)()
            except Skip as reason:
                self.skipped.append((name, str(reason)))
                self.tell(f"skipped: {reason}")

    def save_logs(self, t):
        LOGS.mkdir(parents=True, exist_ok=True)
        for path in t.cluster.directory.glob("*.log"):
            shutil.copy(path, LOGS / f"{t.cluster.directory.name}-{path.name}")
        print(f"  the nodes' logs are kept in {LOGS.relative_to(ROOT)}", flush=True)

    def summary(self):
        """Tells what came of it all; the exit code."""
        if self.done:
            self._tell_done()
        else:
            print("\nNOTHING RAN, so nothing is known: every part was skipped.\n")
        for name, reason in self.skipped:
            print(f"  {name:<10} SKIPPED: {reason}")
        return 0 if self.done else 1

    def _tell_done(self):
        n = self.totals
        print(f"\nPASSED in {time.monotonic() - self.began:.0f} s, seed {self.options.seed}. 0 of "
              f"{n['acknowledged']:,} acknowledged writes lost, no deleted key came back.\n")
        print(f"  {n['writes']:,} writes (of {n['unknown']:,} the outcome was unknown) and "
              f"{n['reads']:,} reads checked, on {n['keys']:,} keys")
        for part, lines in self.done:
            for i, line in enumerate(lines):
                print(f"  {part.name if i == 0 else '':<10} {line}")
        if self.longest_lag_s > 0.1:
            print(f"  The checker itself once stood still for {self.longest_lag_s * 1000:.0f} ms: "
                  "shorter times say nothing.")


def parse(arguments):
    parser = argparse.ArgumentParser(add_help=False, usage="scripts/chaos [OPTION...]")
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--nodes", type=int, default=5)
    parser.add_argument("--rate", type=int, default=3000)
    parser.add_argument("--converge", action="store_true")
    parser.add_argument("--keep-logs", action="store_true")
    options = parser.parse_args(arguments)
    options.only = options.only.split(",")
    for name in options.only:
        if name not in PARTS:
            parser.error(f"--only: there is no part {name!r}, only {', '.join(PARTS)}")
    if not 3 <= options.nodes <= 9:
        parser.error("--nodes: 3 to 9")
    if options.minutes < 0 or options.rate < 1:
        parser.error("--minutes and --rate are positive numbers")
    if options.seed is None:
        options.seed = time.time_ns() // 1_000_000 % 1_000_000
    return options


def main():
    quoitd, quoit, *arguments = sys.argv[1:]
    if "-h" in arguments or "--help" in arguments:
        print(HELP, end="")
        return 0
    options = parse(arguments)
    options.no_namespace = None
    if "partition" in options.only:
        again = [sys.executable, "-B", __file__, quoitd, quoit, *arguments]
        if "--seed" not in arguments:
            again += ["--seed", str(options.seed)]
        options.no_namespace = network.enter(again)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a shell has ignored it
    with open(ROOT / "build/chaos.lock", "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("chaos: another one is running here", file=sys.stderr)
            return 1
        for left in (LOGS, DIRECTORY):  # by an earlier run; data only if that was killed
            shutil.rmtree(left, ignore_errors=True)
        DIRECTORY.mkdir(parents=True)
        return judged(options, quoitd, quoit)


def judged(options, quoitd, quoit):
    print(f"chaos: seed {options.seed}; {', '.join(options.only)}; {options.minutes:g} min",
          flush=True)
    try:
        chaos = Chaos(options, quoitd, quoit)
        chaos.run()
        return chaos.summary()
    except (Violated, Failed) as failure:
        what = "A PROMISE WAS BROKEN" if isinstance(failure, Violated) else "It cannot go on"
        print(f"\nFAILED, seed {options.seed}. {what}:\n{failure}", flush=True)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; nodes stopped, data removed", flush=True)
        return 130
    finally:
        shutil.rmtree(DIRECTORY, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
