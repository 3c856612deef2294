#!/usr/bin/python3
"""repair: how replicas that differ come to agree, with real nodes on this machine.

Three nodes on loopback, each key on all three. One node loses something, and the others give it
back, without anybody asking for it. In the end the two others are killed and the one is read alone,
key by key, against what all of them held before: if anything is missing, the case fails.

    missed     it was down while keys were written
    removed    1 % of its records were removed behind its back while it was stopped
    set-back   1 % of them were replaced by older versions
    damaged    some of its records have a flipped bit

Printed: seconds from its "serving" until all is there, and bytes on its links in that time, both
ways, whatever they were for, beside the bytes of keys and values that differed.
And `idle`: what comparing costs when nothing differs, as CPU of each node.

    tests/bench/repair.py [--build build] [--keys 1000000] [--value-size 1000] [--only removed]
                          [--tap] (small, TAP, for the tests)
"""
import argparse
import hashlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "e2e"))
from harness import START_S, free_ports, wait_until  # noqa: E402

TICKS = os.sysconf("SC_CLK_TCK")
KEY_BYTES = 13  # of `quoit bench`: "bench:" and a number


def fail(text):
    raise AssertionError(text)



class Cluster:
    def __init__(self, build, directory):
        self.build, self.directory = build, Path(directory)
        self.client_ports, self.peer_ports = free_ports(3), free_ports(3)
        self.processes = [None] * 3
        self.starts = [0] * 3
        self.options = []

    def __enter__(self):
        for i in range(3):
            self.start(i)
        for i in range(3):
            self.wait_serving(i)
        return self

    def __exit__(self, *_):
        for p in self.processes:
            if p and p.poll() is None:
                p.kill()
                p.wait()

    def log_path(self, i):
        return self.directory / f"n{i + 1}.{self.starts[i]}.log"

    def start(self, i):
        self.starts[i] += 1
        peers = ",".join(f"127.0.0.1:{p}" for p in self.peer_ports)
        command = [self.build / "server/quoitd", "--data", self.directory / f"n{i + 1}",
                   "--name", f"n{i + 1}", "--listen", f"127.0.0.1:{self.client_ports[i]}",
                   "--peer-listen", f"127.0.0.1:{self.peer_ports[i]}", "--http-listen", "off",
                   "--cluster", peers,
                   *self.options]
        with open(self.log_path(i), "wb") as log:
            self.processes[i] = subprocess.Popen([str(c) for c in command], stdout=log, stderr=log,
                                                 stdin=subprocess.DEVNULL)

    def log(self, i):
        return self.log_path(i).read_text(errors="replace")

    def wait_serving(self, i):
        def serving():
            if self.processes[i].poll() is not None:
                fail(f"n{i + 1} ended:\n{self.log(i)}")
            return 'msg="quoitd: serving"' in self.log(i)
        wait_until(f"n{i + 1} serves", serving, START_S)

    def stop(self, i, number=signal.SIGTERM):
        self.processes[i].send_signal(number)
        self.processes[i].wait()

    def quoit(self, *args, nodes=(0, 1, 2), **options):
        endpoints = ",".join(f"127.0.0.1:{self.client_ports[i]}" for i in nodes)
        return subprocess.run([str(self.build / "client/quoit"), *map(str, args), "-q", "-e",
                               endpoints], check=True, **options)

    def load(self, keys, value_size, prefix="bench:", nodes=(0, 1, 2)):
        self.quoit("bench", "--keys", keys, "--value-size", value_size, "--duration", "0.1s",
                   "--warmup", "0s", "--reads", "100", "--clients", "8", "--depth", "16",
                   "--prefix", prefix, nodes=nodes, stdout=subprocess.DEVNULL)

    def contents(self, nodes=(0, 1, 2), level="quorum"):
        """A digest of all keys and values, in any order, and how many there are."""
        export = subprocess.Popen(
            [str(self.build / "client/quoit"), "export", "-q", "-c", level, "-e",
             ",".join(f"127.0.0.1:{self.client_ports[i]}" for i in nodes)], stdout=subprocess.PIPE)
        total, n = 0, 0
        for line in export.stdout:
            total ^= int.from_bytes(hashlib.blake2b(line, digest_size=8).digest(), "big")
            n += 1
        if export.wait() != 0:
            fail(f"export ended with {export.returncode}")
        return total, n

    def told(self, i, message):
        """The last running totals of its workers, added up."""
        last = {}
        for line in self.log(i).splitlines():
            if message in line:
                worker = re.search(r"worker=(\d+)", line).group(1)
                last[worker] = int(re.search(r"records_since_start=(\d+)", line).group(1))
        return sum(last.values())

    def traffic(self, i):
        """Bytes sent and received on its links to other nodes, as TCP counts them."""
        ports = " or ".join(f"sport = :{p} or dport = :{p}" for p in self.peer_ports)
        sockets = subprocess.run(["ss", "-tinpH", f"( {ports} )"], capture_output=True, text=True,
                                 check=True).stdout
        own = [s for s in re.split(r"\n(?=\S)", sockets) if f"pid={self.processes[i].pid}," in s]
        return sum(int(n) for n in re.findall(r"bytes_(?:sent|received):(\d+)", "".join(own)))

    def cpu_s(self, i):
        fields = Path(f"/proc/{self.processes[i].pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS


FETCHED = "fetched from other replicas what was missing here"
HEALED = "damaged records were healed"


class Case:
    def __init__(self, options, cluster, contents):
        self.o, self.c, self.contents = options, cluster, contents

    def come_back(self, n_expected, message):
        """Starts n3 and waits until it has all. Seconds since it serves, bytes of its links."""
        self.c.start(2)
        self.c.wait_serving(2)
        since = time.monotonic()
        wait_until(f"{n_expected} records of n3 were repaired",
                   lambda: self.c.told(2, message) >= n_expected, 600)
        return time.monotonic() - since, self.c.traffic(2)

    def read_alone(self):
        """n3 without the others has all that they had."""
        for i in (0, 1):
            self.c.stop(i, signal.SIGKILL)
        alone = self.c.contents(nodes=[2], level="one")
        for i in (0, 1):
            self.c.start(i)
        for i in (0, 1):
            self.c.wait_serving(i)
        if alone != self.contents:
            fail(f"n3 alone has {alone}, all had {self.contents}")

    def say(self, name, n, differing, seconds, traffic):
        text = f"{name:9} {n:9,} records  {seconds:6.1f} s"
        if differing:
            text += f"  {traffic:13,} bytes  {traffic / differing:5.2f} x what differed"
        print(("# " if self.o.tap else "") + text, flush=True)

    def missed(self):
        n = min(60000, self.o.keys)
        self.c.stop(2, signal.SIGKILL)
        self.c.load(n, self.o.value_size, prefix="other:", nodes=(0, 1))
        self.contents = self.c.contents(nodes=(0, 1))
        seconds, traffic = self.come_back(n, FETCHED)
        self.say("missed", n, n * (KEY_BYTES + self.o.value_size), seconds, traffic)
        self.read_alone()

    def tamper(self, how, n):
        subprocess.run([str(self.c.build / "tests/model/store_tamper"),
                        str(self.c.directory / "n3/store"), how, str(n), "1"], check=True)

    def behind_its_back(self, how, n, message):
        self.c.stop(2)
        self.tamper(how, n)
        self.c.options = ["--scrub-rate", "1TiB"]  # all records are read at once, not in a day
        seconds, traffic = self.come_back(n, message)
        self.c.options = []
        self.say(how, n, n * (KEY_BYTES + self.o.value_size), seconds, traffic)
        self.read_alone()

    def removed(self):
        self.behind_its_back("remove", self.o.keys // 100, FETCHED)

    def set_back(self):
        self.behind_its_back("set-back", self.o.keys // 100, FETCHED)

    def damaged(self):
        self.behind_its_back("damage", 20, HEALED)

    def idle(self):
        """After what was written has long been applied and compared."""
        self.c.stop(2)
        self.c.start(2)  # without the scrub's rate
        self.c.wait_serving(2)
        time.sleep(20)
        before = [self.c.cpu_s(i) for i in range(3)]
        seconds = 60
        time.sleep(seconds)
        cpu = [100 * (self.c.cpu_s(i) - b) / seconds for i, b in enumerate(before)]
        print("idle      " + "  ".join(f"n{i + 1} {p:.2f} % of a core" for i, p in enumerate(cpu)))


CASES = ["missed", "removed", "set-back", "damaged", "idle"]


def run(options, names):
    with tempfile.TemporaryDirectory(prefix="quoit-repair-", dir=options.build) as directory:
        with Cluster(options.build, directory) as cluster:
            cluster.load(options.keys, options.value_size)
            case = Case(options, cluster, cluster.contents())
            for name in names:
                yield name, lambda name=name: getattr(case, name.replace("-", "_"))()


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=Path("build"))
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--value-size", type=int, default=1000)
    parser.add_argument("--only", choices=CASES)
    parser.add_argument("--tap", action="store_true")
    options = parser.parse_args()
    options.build = options.build.resolve()
    if options.tap:
        options.keys, options.value_size = 20_000, 100
    names = [options.only] if options.only else CASES[:4] if options.tap else CASES
    if options.tap:
        print(f"1..{len(names)}", flush=True)
    failed = 0
    for number, (name, case) in enumerate(run(options, names), 1):
        try:
            case()
            if options.tap:
                print(f"ok {number} - {name}", flush=True)
        except (AssertionError, subprocess.CalledProcessError) as error:
            failed += 1
            if not options.tap:
                sys.exit(f"repair: {name}: {error}")
            print(f"# {error}\nnot ok {number} - {name}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
