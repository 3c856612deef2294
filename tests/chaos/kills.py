"""kills: kill -9 and SIGSTOP of each node in turn, and of all at once, under load.

A killed node must cost clients of the others nothing that they notice, and lose nothing; one that
is stopped (a machine that hangs, a disk that stalls) the same, though its connections stay open.
"""

import random
import time

from cluster import wait_until


def kill_one(t, node, rng, down_s):
    """One node dies, is missed for a while, and returns; (gap, seconds until it served)."""
    gap = t.fault([node], node.kill, down_s)
    t.check_living()
    node.start()
    began = time.monotonic()
    node.wait_stores()
    back_s = time.monotonic() - began
    t.run_for(rng.uniform(0.0, 1.0))
    t.check_whole()
    return gap, back_s


def kill_all(t, rng):
    """Every node at once, in the middle of writes; seconds until all served."""
    t.load.watch()
    for node in t.nodes:
        node.process.kill()
    for node in t.nodes:
        node.kill()
    began = time.monotonic()
    for node in t.nodes:
        node.start()
    t.cluster.wait_whole()
    back_s = time.monotonic() - began
    t.run_for(rng.uniform(0.0, 1.0))
    t.check_whole()
    return back_s


def kill_and_start(t, node, rng):
    """Dies and is started again at once, so that nobody may have noticed yet."""
    node.kill()
    t.run_for(rng.uniform(0.0, 0.2))
    node.start()
    back_s = node.wait_stores()
    t.check_whole()
    return back_s


def stop_one(t, node, rng, stopped_s):
    """One node hangs for a while and then goes on as if nothing had been."""
    gap = t.fault([node], node.suspend, stopped_s)
    t.load.watch()
    node.resume()
    wait_until(f"{node.name} stores", node.stores)
    t.run_for(rng.uniform(0.0, 1.0))
    t.check_whole()
    return gap


class Kills:
    """Cycles of kills until the time is over: each node in turn, at least once."""
    name = "kill"

    def __init__(self, n_nodes):
        self.n_nodes = n_nodes
        self.gaps, self.back_s, self.n_at_once, self.n_quick = [], [], 0, 0

    def run(self, t, rng, until):
        while True:
            for node in rng.sample(t.nodes, len(t.nodes)):
                gap, back_s = kill_one(t, node, rng, rng.uniform(2.0, 6.0))
                self.gaps.append(gap)
                self.back_s.append(back_s)
                t.tell(f"kill -9 {node.name}: {gap_text(gap)}; back after {back_s:.1f} s")
            node = rng.choice(t.nodes)
            back_s = kill_and_start(t, node, rng)
            self.n_quick += 1
            t.tell(f"kill -9 {node.name} and start it at once: back after {back_s:.1f} s")
            back_s = kill_all(t, rng)
            self.n_at_once += 1
            t.tell(f"kill -9 of all at once: whole again after {back_s:.1f} s")
            if time.monotonic() >= until:
                return

    def summary(self):
        n = len(self.gaps) + self.n_quick + self.n_at_once * self.n_nodes
        return [f"{n} kills, {self.n_at_once} times all {self.n_nodes} at once; one was serving "
                f"again after {max(self.back_s):.1f} s at most", *gaps_text(self.gaps)]


class Stops:
    name = "stop"

    def __init__(self, longest_s):
        self.longest_s, self.gaps = longest_s, []

    def run(self, t, rng, until):
        while True:
            for node in rng.sample(t.nodes, len(t.nodes)):
                stopped_s = rng.choice([rng.uniform(0.1, 2.0), rng.uniform(2.0, self.longest_s)])
                gap = stop_one(t, node, rng, stopped_s)
                self.gaps.append(gap)
                t.tell(f"SIGSTOP {node.name} for {stopped_s:.1f} s: {gap_text(gap)}")
            if time.monotonic() >= until:
                return

    def summary(self):
        return [f"{len(self.gaps)} stops of 0.1 to {self.longest_s:.0f} s", *gaps_text(self.gaps)]


def gap_text(gap):
    text = f"clients of the others: {gap.failed} of {gap.ok + gap.failed:,} failed"
    if gap.failed:
        text += f", the last after {gap.seconds:.2f} s {codes_text(gap.by_code)}"
    if gap.detected_s is not None:
        text += f", {gap.failed_after} after all knew ({gap.detected_s:.2f} s)"
    return text + f"; slowest {gap.slowest_s * 1000:.0f} ms"


def codes_text(by_code):
    return "(" + ", ".join(f"{n} {kind} error {code}" for (kind, code), n in by_code.items()) + ")"


def hit_text(gap):
    failed = sum(gap.hit_by_code.values())
    return f"clients of those hit: {failed:,} of {failed + gap.hit_ok:,} failed " \
           f"{codes_text(gap.hit_by_code)}".rstrip(" ()")


def gaps_text(gaps):
    """The sum of many."""
    detected = [g.detected_s for g in gaps if g.detected_s is not None]
    failed, ok = sum(g.failed for g in gaps), sum(g.ok for g in gaps)
    lines = [f"clients of the others: {failed:,} of {ok + failed:,} operations failed, the last "
             f"{max((g.seconds for g in gaps), default=0.0):.2f} s after the fault; slowest "
             f"{max((g.slowest_s for g in gaps), default=0.0) * 1000:.0f} ms"]
    if detected:
        lines.append(f"all knew after {max(detected):.2f} s at most; "
                     f"{sum(g.failed_after for g in gaps)} failed after that")
    return lines


def rng_of(seed, name):
    return random.Random(f"{seed}/{name}")
