"""trial: a cluster under load, with its checker; what every part of the chaos does is said here.

    with Trial(tools, directory, n=5, seed=1) as t:
        t.begin()
        gap = t.fault([node], node.kill, 4.0)     what clients of the others notice of it
        t.check_living()                          every key at quorum through each node that runs
        node.start(); node.wait_stores()
        t.check_whole()                           every key at quorum, then at all, through each

Checks rest the load, and raise Violated, with the keys in it, as soon as anything is not true.
"""

import dataclasses
import time

from cluster import Cluster, wait_until
from harness import Skip  # noqa: F401  where cluster has put it in reach
from history import History
from load import QUORUM, Failed, Load

HEALED_S = 60.0  # after healing everything is as it was within this long
DETECT_S = 4.0  # whoever is gone for longer than this must be known to be


class Violated(Exception):
    """The store has broken a promise; the sentences name the keys."""



@dataclasses.dataclass
class Tools:
    """What every trial needs: the daemon, the command (or None), the schemas."""
    quoitd: object
    quoit: object
    pb: object
    # Demand after each fault that replicas agree without having been read at quorum.
    converge: bool = False


@dataclasses.dataclass
class Gap:
    """What clients of the nodes that were not hit noticed of a fault."""
    ok: int
    failed: int
    seconds: float  # from the fault to the end of the last operation that failed
    detected_s: float  # until all of them knew; None: that was not waited for
    failed_after: int  # of those begun after that
    slowest_s: float  # of those that succeeded
    by_code: dict  # (kind, code) -> number
    hit_ok: int  # the same of the clients of those that were hit
    hit_by_code: dict


def sum_codes(counts):
    """((node, kind, code), n)... without the nodes."""
    total = {}
    for (_, kind, code), n in counts:
        total[kind, code] = total.get((kind, code), 0) + n
    return total


class Trial:
    def __init__(self, tools, directory, n, seed, hosts=None, options=(), rate=3000, keys=2000,
                 tell=lambda text: None):
        self.tools, self.seed, self.tell = tools, seed, tell
        self.cluster = Cluster(tools.quoitd, tools.pb, directory, n, hosts, options)
        self.history = History()
        self.load = None
        self.longest_lag_s = 0.0  # for which the checker stood still
        self.load_options = {"rate": rate, "n_keys": keys}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stop_load()
        self.cluster.remove()

    def _stop_load(self):
        load, self.load = self.load, None
        if load is not None:
            load.stop()

    @property
    def nodes(self):
        return self.cluster.nodes

    def begin(self):
        """Forms the cluster, fills every key, and lets the clients in."""
        self.cluster.start()
        self.load = Load(self.tools.pb, self.cluster.names, self.cluster.addresses, self.history,
                         self.seed, **self.load_options)
        wait_until("the clients reach every node", self.load.engine.reaches_all)
        self.load.start()
        self.run_for(1.0)

    def run_for(self, seconds):
        """Lets the load run; notices if that has failed."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.load.check()
            time.sleep(max(0.0, min(0.05, until - time.monotonic())))

    # ---- faults

    def detected(self, victims, by):
        """A condition: each of `by` has said of each victim, since now, that it is down."""
        def count(node, victim):
            return len(node.lines("member is down", f"node={victim.name} ")) + \
                len(node.lines("member has stopped", f"node={victim.name} "))
        before = {(n.name, v.name): count(n, v) for n in by for v in victims}
        return lambda: all(count(n, v) > before[n.name, v.name] for n in by for v in victims)

    def fault(self, victims, strike, seconds, detects=True):
        """Strikes, lets the load run for that long, and tells what the others' clients noticed."""
        others = self.cluster.others(*victims)
        known = self.detected(victims, others) if detects else None
        watch, struck, detected = self.load.watch(), time.monotonic(), None
        strike()
        while known and time.monotonic() < struck + seconds:
            if known():
                detected = time.monotonic()
                break
            self.run_for(0.02)
        self.run_for(max(0.0, struck + seconds - time.monotonic()))
        if detects and detected is None and seconds >= DETECT_S:
            names = ", ".join(v.name for v in victims)
            raise Failed(f"not everybody has noticed within {seconds:.1f} s that {names} is gone")
        return self.gap(watch, victims, struck, detected)

    def gap(self, watch, victims, struck, detected):
        hit = {v.index for v in victims}
        failures = [f for f in list(watch.failures) if f[2] not in hit]
        counts = list(watch.n_failed.items())
        since = detected if detected is not None else float("inf")
        others = [n.index for n in self.cluster.others(*victims)]
        return Gap(ok=sum(watch.ok[i] for i in others), failed=len(failures),
                   seconds=max((f[1] - struck for f in failures), default=0.0),
                   detected_s=None if detected is None else detected - struck,
                   failed_after=sum(f[0] > since for f in failures),
                   slowest_s=max((watch.longest_s[i] for i in others), default=0.0),
                   by_code=sum_codes(c for c in counts if c[0][0] not in hit),
                   hit_ok=sum(watch.ok[i] for i in hit),
                   hit_by_code=sum_codes(c for c in counts if c[0][0] in hit))

    # ---- checks

    def demand_truth(self):
        found = self.history.violations
        if found:
            first = "\n".join(f"  key {key.decode(errors='replace')}: {sentence}"
                              for key, sentence in found[:10])
            raise Violated(f"{self.history.n_violations} answers cannot be true:\n{first}")

    def check_living(self):
        """Every key, at quorum, through each node that runs."""
        self.load.pause()
        for node in self.nodes:
            if node.runs():
                self.load.sweep(node.index, QUORUM)
        self.demand_truth()
        self.load.start()

    def check_whole(self, resume=True, converge=None):
        """All nodes run and nothing hinders them any more. Returns how long it took until each
        reached all replicas, and until the replicas agreed by themselves (None: not asked for,
        neither here nor by the tools)."""
        self.load.pause()
        whole_s, agreed_s = self.cluster.wait_whole(HEALED_S), None
        if self.tools.converge if converge is None else converge:
            agreed_s = self.load.converge(range(len(self.nodes)), HEALED_S)
            agreed_s += self.cluster.wait_equal(HEALED_S)
        for node in self.nodes:
            self.load.sweep(node.index, QUORUM)
        self.load.settle(range(len(self.nodes)))
        self.demand_truth()
        if resume:
            self.load.start()
        return whole_s, agreed_s

    def end(self, converge=None):
        """The last check, and an orderly end."""
        self.check_whole(resume=False, converge=converge)
        self.longest_lag_s = self.load.engine.longest_lag_s
        self._stop_load()
        self.cluster.stop()
