"""partitions: nodes that cannot hear each other, wholly, partly, or in one direction.

    full        one node cannot talk to the others, in either direction
    split       two nodes of five or more can talk to each other, and not to the rest: keys with two
                replicas of three among them have no quorum on the other side
    partial     two nodes cannot talk to each other; both talk to everybody else
    deaf        a node hears nobody, and everybody hears it
    mute        a node hears everybody, and nobody hears it
    one-way     what one node sends does not reach one other

Clients talk to all nodes all the time. What may fail: requests through nodes that have no quorum,
with errors that say what is true. What may not: anything acknowledged. After healing all is whole
within a minute, although TCP may wait longer than that before it tries again, and the replicas
agree within a minute more without having been read at quorum.
"""

import time

from kills import gap_text, gaps_text, hit_text
from network import Network
from trial import HEALED_S


def isolate(network, hit, rest):
    for a in hit:
        for b in rest:
            network.cut(a, b)


def strike_full(network, rng, n, n_hit=1):
    hit = rng.sample(range(n), n_hit)
    isolate(network, hit, [i for i in range(n) if i not in hit])
    return hit


def strike_split(network, rng, n):
    return strike_full(network, rng, n, 2)


def strike_partial(network, rng, n):
    a, b = rng.sample(range(n), 2)
    network.cut(a, b)
    return [a, b]


def strike_deaf(network, rng, n):
    hit = rng.randrange(n)
    for i in range(n):
        if i != hit:
            network.drop(i, hit)
    return [hit]


def strike_mute(network, rng, n):
    hit = rng.randrange(n)
    for i in range(n):
        if i != hit:
            network.drop(hit, i)
    return [hit]


def strike_one_way(network, rng, n):
    a, b = rng.sample(range(n), 2)
    network.drop(a, b)
    return [a, b]


# name -> makes the cut; returns the nodes that are hit
CUTS = {"full": strike_full, "partial": strike_partial, "deaf": strike_deaf, "mute": strike_mute,
        "one-way": strike_one_way, "split": strike_split}
SPLIT_NODES_MIN = 5


def cut_and_heal(t, network, kind, rng, seconds, converge=None):
    """Cuts, waits, heals and checks; (gap at those not hit, seconds until all was whole, until the
    replicas agreed or None)."""
    t.load.check()
    struck = time.monotonic()
    watch = t.load.watch()
    hit = CUTS[kind](network, rng, len(t.nodes))
    victims = [t.nodes[i] for i in hit]
    t.run_for(seconds)
    gap = t.gap(watch, victims, struck, None)
    t.load.watch()
    healed = time.monotonic()
    network.heal()
    t.cluster.wait_whole(HEALED_S)
    whole_s = time.monotonic() - healed
    _, agreed_s = t.check_whole(converge=converge)
    return victims, gap, whole_s, agreed_s


class Partitions:
    name = "partition"

    def __init__(self, longest_s):
        self.longest_s = longest_s
        self.gaps, self.split_gaps, self.whole_s, self.agreed_s, self.n = [], [], [], [], 0

    def run(self, t, network, rng, until):
        while True:
            for kind in CUTS:
                if kind == "split" and len(t.nodes) < SPLIT_NODES_MIN:
                    continue
                seconds = rng.uniform(3.0, self.longest_s)
                victims, gap, whole_s, agreed_s = cut_and_heal(t, network, kind, rng, seconds,
                                                               converge=True)
                self.n += 1
                (self.split_gaps if kind == "split" else self.gaps).append(gap)
                self.whole_s.append(whole_s)
                self.agreed_s.append(agreed_s)
                names = ", ".join(v.name for v in victims)
                t.tell(f"{kind}, {names} for {seconds:.0f} s: {hit_text(gap)}; {gap_text(gap)}; "
                       f"whole {whole_s:.1f} s after healing, replicas agreed {agreed_s:.1f} s "
                       "later")
            if time.monotonic() >= until:
                return

    def summary(self):
        lines = [f"{self.n} cuts of 3 to {self.longest_s:.0f} s ({', '.join(CUTS)}); whole again "
                 f"{max(self.whole_s):.1f} s after healing at most", *gaps_text(self.gaps)]
        if self.split_gaps:
            failed, ok = (sum(g.failed for g in self.split_gaps),
                          sum(g.ok for g in self.split_gaps))
            lines.append(f"split: {failed:,} of {ok + failed:,} failed on the larger side, for "
                         "want of a quorum of the key")
        return [*lines, f"replicas agreed {max(self.agreed_s):.1f} s after that at most, without "
                        "being read at quorum"]


def trial_with_network(make, name, n, **options):
    """(network, trial): nodes in namespaces of their own. make(name, n, ...) makes the trial."""
    network = Network(n)
    t = make(name, n, hosts=network.hosts, options=["--insecure"], **options)
    for node in t.nodes:
        node.wrap = network.inside(node.index)
    return network, t
