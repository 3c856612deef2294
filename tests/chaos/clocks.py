"""clocks: wall clocks that jump by hours, forwards and backwards, under load and across a start.

Each node runs with libfaketime before it, which adds what a file of its own says to the wall clock
and leaves the monotonic one alone: that is what a wrong NTP server or a dead battery does.

A node whose clock is off must refuse to stamp writes, with an error that may be retried elsewhere,
and, once it knows, never leave open whether it has written; it goes on as a replica; the others
serve; nothing is lost; and when its clock is right again, so is the node.
"""

import os
import time
from glob import glob

from cluster import wait_until
from disks import code_of_put
from kills import gap_text, gaps_text, hit_text
from load import ALL, CLOCK, OPEN
from trial import Skip, Violated

FILE_READ_S = 1  # libfaketime looks at the file so often
KNOWS_S = 5.0  # a node refuses so long after the jump at most, and stamps so long after its end
JUMP = 3 * 3600


def library():
    """Where libfaketime is; raises Skip."""
    found = glob("/usr/lib/*/faketime/libfaketimeMT.so.1")
    if not found:
        raise Skip("there is no libfaketimeMT.so.1 (Debian package libfaketime)")
    return found[0]


def give_clocks(t):
    """Before the start: from now on every node's clock can be set."""
    for node in t.nodes:
        node.clock = t.cluster.directory / f"{node.name}.clock"
        node.env = {"LD_PRELOAD": library(), "FAKETIME_TIMESTAMP_FILE": str(node.clock),
                    "FAKETIME_CACHE_DURATION": str(FILE_READ_S),
                    "FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1",
                    # ASan wants to be loaded first; nothing that matters here depends on it.
                    "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "")
                                    + ":verify_asan_link_order=0"}
        set_clock(node, 0)


def set_clock(node, seconds):
    new = node.clock.with_suffix(".new")
    new.write_text(f"{seconds:+d}s\n")
    new.replace(node.clock)  # never seen half written


def refuses(node):
    """Does a write through it end in CLOCK, which may be retried?"""
    node.check_runs()
    return code_of_put(node) == CLOCK


def demand_refusal(t, node, hold_s):
    """The node's clock is off and it knows: what its clients and those of the others see."""
    watch, since = t.load.watch(), time.monotonic()
    t.run_for(hold_s)
    gap = t.gap(watch, [node], since, None)
    if any(kind != "get" and code in OPEN for kind, code in gap.hit_by_code):
        raise Violated(f"{node.name}, whose clock is off, leaves open what it has written: "
                       f"{hit_text(gap)}")
    if any(kind == "get" for kind, _ in gap.hit_by_code):
        raise Violated(f"{node.name}, whose clock is off, fails reads: {hit_text(gap)}")
    if gap.failed:
        raise Violated(f"{node.name}'s clock is off, and clients of the others suffer: "
                       f"{gap_text(gap)}")
    other = t.cluster.others(node)[0]
    wait_until(f"{node.name} goes on as a replica: all replicas take a write through "
               f"{other.name}", lambda: other.stores(ALL), KNOWS_S)
    return gap


def put_right(t, node):
    """Its clock is right again; seconds until it stamps."""
    set_clock(node, 0)
    return node.wait_stores(seconds=KNOWS_S + FILE_READ_S)


def jump(t, node, seconds, hold_s):
    """The clock of a running node jumps, stays, and jumps back."""
    began = time.monotonic()
    set_clock(node, seconds)
    wait_until(f"{node.name}, {seconds:+d} s off, refuses to stamp", lambda: refuses(node),
               KNOWS_S + FILE_READ_S)
    knew_s = time.monotonic() - began
    gap = demand_refusal(t, node, hold_s)
    right_s = put_right(t, node)
    t.check_whole()
    return gap, knew_s, right_s


def jump_while_dead(t, node, seconds, hold_s):
    """A node is started with a clock that is off."""
    node.kill()
    set_clock(node, seconds)
    began = time.monotonic()
    node.start()
    wait_until(f"{node.name}, started {seconds:+d} s off, reads", node.reads)
    wait_until(f"{node.name}, started {seconds:+d} s off, refuses to stamp",
               lambda: refuses(node), KNOWS_S)
    knew_s = time.monotonic() - began
    t.run_for(1.0)
    gap = demand_refusal(t, node, hold_s)
    right_s = put_right(t, node)
    t.check_whole()
    return gap, knew_s, right_s


def jump_together(t):
    """All clocks jump ahead, and some time later back, and ahead again. In between nobody may
    stamp; everything can be read all the time."""
    for node in t.nodes:
        set_clock(node, JUMP)
    t.run_for(FILE_READ_S + 1.0)
    for node in t.nodes:
        node.wait_stores()
    t.check_whole()
    for node in t.nodes:
        set_clock(node, 0)
    for node in t.nodes:
        wait_until(f"{node.name} refuses to stamp", lambda n=node: refuses(n),
                   KNOWS_S + FILE_READ_S)
    t.check_living()
    for node in t.nodes:
        set_clock(node, JUMP)
    for node in t.nodes:
        node.wait_stores(seconds=KNOWS_S + FILE_READ_S)
    t.check_whole()


class Clocks:
    name = "clock"

    def __init__(self):
        self.gaps, self.knew_s, self.right_s, self.n_together = [], [], [], 0

    def _one(self, t, how, node, seconds, hold_s):
        gap, knew_s, right_s = how(t, node, seconds, hold_s)
        self.gaps.append(gap)
        self.knew_s.append(knew_s)
        self.right_s.append(right_s)
        what = "started" if how is jump_while_dead else "running"
        t.tell(f"{node.name}, {what}, {seconds / 3600:+.0f} h: refuses after {knew_s:.1f} s, "
               f"stamps {right_s:.1f} s after it is right; {hit_text(gap)}; {gap_text(gap)}")

    def run(self, t, rng, until):
        while True:
            for node in rng.sample(t.nodes, len(t.nodes)):
                for how in (jump, jump_while_dead):
                    for seconds in (JUMP, -JUMP):
                        self._one(t, how, node, seconds, rng.uniform(2.0, 5.0))
            if time.monotonic() >= until:
                break
        jump_together(t)
        self.n_together = 1
        t.tell("all clocks together, 3 h ahead, back, ahead: nothing lost")

    def summary(self):
        return [f"{len(self.gaps)} jumps of 3 hours, ahead and behind, running and before a start, "
                f"and all clocks together; one refused {max(self.knew_s):.1f} s after at most, and "
                f"stamped {max(self.right_s):.1f} s after it was right", *gaps_text(self.gaps)]
