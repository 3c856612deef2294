#!/usr/bin/python3
"""Short forms of scripts/chaos: real nodes under load, faults, and a checker of every answer.

Each case is one fault or two on three nodes, with the code and the checks of tests/chaos; the long
forms are run by scripts/chaos. The last case turns it round: the store is set back behind
everybody's back, and the checker must say so.

    test_chaos.py QUOITD SCHEMAS [NAME...]       prints TAP
"""

import os
import random
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "chaos"))
import clocks  # noqa: E402
import disks  # noqa: E402
import kills  # noqa: E402
import network  # noqa: E402
import partitions  # noqa: E402
from client import load_schemas  # noqa: E402
from harness import check, main  # noqa: E402
from trial import Skip, Tools, Trial, Violated  # noqa: E402

# Why there is no namespace; if there can be one, this program starts anew in it.
NO_NETWORK = network.enter([sys.executable, "-B", *sys.argv])
QUICK = bool(os.environ.get("QUOIT_TEST_QUICK"))  # under sanitizers: one of each
SCRATCH = tempfile.TemporaryDirectory(prefix="quoit-chaos-")
TOOLS = Tools(Path(sys.argv[1]), None, load_schemas(sys.argv[2], SCRATCH.name))
SEED = 1
GONE_S = 3.0  # long enough for the others to notice, also on a machine that is busy


def say(text):
    print(f"# {text}", flush=True)


def trial(name, n=3, **options):
    return Trial(TOOLS, Path(SCRATCH.name) / name, n, f"{SEED}/{name}", rate=600, keys=300,
                 tell=say, **options)



def few(nodes):
    return nodes[:1] if QUICK else nodes


def check_gap(gap):
    """All knew of it, and from then on nobody was hurt by it."""
    check(gap.detected_s is not None, f"not everybody has noticed within {GONE_S} s")
    check(gap.failed_after == 0, "operations fail after all know")
    check(gap.seconds < 2.0, f"operations fail for {gap.seconds:.1f} s")


def a_killed_node_is_not_noticed_and_loses_nothing():
    rng = random.Random(SEED)
    with trial("kill") as t:
        t.begin()
        for node in few(t.nodes):
            gap, back_s = kills.kill_one(t, node, rng, GONE_S)
            say(f"{node.name}: {kills.gap_text(gap)}; back after {back_s:.1f} s")
            check_gap(gap)
        if not QUICK:
            kills.kill_and_start(t, t.nodes[1], rng)
        kills.kill_all(t, rng)
        t.end()


def a_stopped_node_is_not_waited_for_and_loses_nothing():
    rng = random.Random(SEED)
    with trial("stop") as t:
        t.begin()
        for node in few(t.nodes):
            gap = kills.stop_one(t, node, rng, GONE_S)
            say(f"{node.name}: {kills.gap_text(gap)}")
            check_gap(gap)
        t.end()


def cuts_of_every_kind_heal():
    if NO_NETWORK:
        raise Skip(NO_NETWORK)
    rng = random.Random(SEED)
    net, t = partitions.trial_with_network(trial, "partition", 3)
    with net, t:
        t.begin()
        for kind in ["full"] if QUICK else ["full", "partial", "deaf", "mute", "one-way"]:
            victims, gap, whole_s, _ = partitions.cut_and_heal(t, net, kind, rng, 1.5)
            say(f"{kind}, {', '.join(v.name for v in victims)}: {kills.gap_text(gap)}; "
                f"whole after {whole_s:.1f} s")
            check(gap.seconds < 2.0, f"{kind}: clients of the others fail for {gap.seconds:.1f} s")
        t.end(converge=True)


def a_node_whose_clock_is_off_refuses_to_stamp():
    with trial("clock") as t:
        clocks.give_clocks(t)
        t.begin()
        for node, how, seconds in few([(t.nodes[0], clocks.jump, clocks.JUMP),
                                       (t.nodes[1], clocks.jump, -clocks.JUMP),
                                       (t.nodes[2], clocks.jump_while_dead, -clocks.JUMP)]):
            gap, knew_s, right_s = how(t, node, seconds, 1.0)
            say(f"{node.name} {seconds:+d} s: refuses after {knew_s:.1f} s, stamps {right_s:.1f} s "
                f"after it is right; {kills.hit_text(gap)}; {kills.gap_text(gap)}")
        t.end()


def disks_that_are_not_the_nodes_own_are_refused():
    with trial("disk") as t:
        t.begin()
        if not QUICK:
            disks.empty_in_its_place(t, t.nodes[2], t.nodes[1])
            disks.clone_beside(t, t.nodes[1])
        disks.image_in_its_place(t, t.nodes[0], starts=2 if QUICK else 5)
        t.end()


def the_checker_sees_a_cluster_that_was_set_back():
    """All disks are replaced by older images at once, so that no node can know of it."""
    with trial("back") as t:
        t.begin()
        t.load.pause()
        t.cluster.stop()
        for node in t.nodes:
            shutil.copytree(node.data, disks.spare(t, node, "image"))
            node.start()
        t.cluster.wait_whole()
        t.load.start()
        t.run_for(1.0)
        t.load.pause()
        t.cluster.stop()
        for node in t.nodes:
            shutil.rmtree(node.data)
            (node.data.parent / f"{node.name}-image").rename(node.data)
            node.start()
        t.cluster.wait_whole()
        try:
            t.check_whole(resume=False)
        except Violated as told:
            check("chaos/" in str(told), f"no key is named: {told}")
            say(str(told).splitlines()[0])
            return
        raise AssertionError("nothing was noticed")


TESTS = [a_killed_node_is_not_noticed_and_loses_nothing,
         a_stopped_node_is_not_waited_for_and_loses_nothing, cuts_of_every_kind_heal,
         a_node_whose_clock_is_off_refuses_to_stamp, disks_that_are_not_the_nodes_own_are_refused,
         the_checker_sees_a_cluster_that_was_set_back]


# TSan does not see what libfaketime does in between to waits for a condition, and takes the next
# lock for a double one. No thread more or less is in this case than in the others.
if b"__tsan_init" in TOOLS.quoitd.read_bytes():
    TESTS.remove(a_node_whose_clock_is_off_refuses_to_stamp)

if __name__ == "__main__":
    main(TESTS, sys.argv[3:])
