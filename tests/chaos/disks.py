"""disks: a node that comes back with a disk that is not its own, or not its newest.

    empty     its directory is gone, and an empty one is started under its name: it is a new node,
              which is not taken for the member of that name and votes for nothing
    image     an older copy of its directory is started in its place, again and again: refused
    clone     a copy is started beside it: refused, and the node goes on
In each case the right disk comes back at last, and nothing is missing.
"""

import json
import shutil
import time

from cluster import Node, QuoitError, free_ports, wait_until
from load import NO_QUORUM
from trial import Violated


def identity(path):
    return json.loads((path / "quoit.json").read_text())


def spare(t, node, name):
    """A directory for another disk of this node; made empty."""
    path = t.cluster.directory / f"{node.name}-{name}"
    shutil.rmtree(path, ignore_errors=True)
    return path


def demand(condition, sentence):
    if not condition:
        raise Violated(sentence)


def code_of_put(node):
    """What a write through it ends in: 0, an error, or None without an answer."""
    try:
        with node.client() as c:
            c.put(b"chaos-probe", b"", deadline_ms=2000)
    except QuoitError as error:
        return error.code
    except OSError:
        return None
    return 0


def demand_no_vote(t, node, other):
    """With another member dead as well there is no quorum."""
    t.load.pause()
    other.kill()
    (third,) = t.cluster.others(node, other)
    wait_until(f"{third.name} has no quorum", lambda: code_of_put(third) == NO_QUORUM)
    other.start()
    other.wait_stores()
    t.load.start()


def empty_in_its_place(t, node, other):
    """An empty directory under the name and at the addresses of a member, of three."""
    path = spare(t, node, "empty")
    old_id = identity(node.data)["node_id"]
    node.kill()
    node.start(data=path)  # with the list of its cluster
    wait_until(f"an empty {node.name} waits to be added",
               lambda: node.lines("waiting to be added to the cluster"))
    demand(identity(path)["node_id"] != old_id, f"an empty disk became {node.name} itself")
    demand(not node.serves(), f"an empty {node.name} serves")
    demand_no_vote(t, node, other)
    node.kill()
    shutil.rmtree(path)
    node.start_command(node.command(data=path))  # and without it
    wait_until(f"an empty {node.name} serves alone", node.serves)
    with node.client() as c:
        new_id = c.ping().node_id.hex()
    demand(new_id != old_id, f"an empty disk became {node.name} itself")
    wait_until("the others refuse it", lambda: node.lines("refused a node", "WRONG_CLUSTER"))
    demand_no_vote(t, node, other)
    node.kill()
    shutil.rmtree(path)
    node.start()
    node.wait_stores()
    t.check_whole()


def copy_stopped(t, node, path):
    """A copy of its directory, as it is now; the node is stopped for that."""
    node.terminate()
    shutil.copytree(node.data, path)


def demand_outdated(node, status, where):
    demand(status == 1, f"{where} of {node.name} runs on (status {status}):\n{node.tail()}")
    demand("old copy" in node.tail(), f"{where} of {node.name} ends without a reason:\n"
                                      f"{node.tail()}")


def image_in_its_place(t, node, starts=5):
    """An old image of its disk is started in its place, as a supervisor would: again and again."""
    path = spare(t, node, "image")
    copy_stopped(t, node, path)
    for _ in range(3):  # it goes on: there are later starts, and writes that the image has not
        node.start()
        node.wait_stores()
        t.run_for(0.5)
        node.kill()
    boots = set()
    for _ in range(starts):
        node.start(data=path)
        demand_outdated(node, node.ended(), "an old image")
        boots.add(identity(path)["boot"])
    demand(max(boots) <= identity(node.data)["boot"],
           f"the image has overtaken {node.name}: boots {boots}")
    shutil.rmtree(path)
    node.start()
    node.wait_stores()
    t.check_whole()


def clone_beside(t, node):
    """A copy of its disk is started beside it, at other addresses."""
    path = spare(t, node, "clone")
    copy_stopped(t, node, path)
    node.start()
    node.wait_stores()
    twin = Node(t.cluster, node.index, node.host, free_ports(2))
    twin.wrap, twin.env = node.wrap, node.env
    twin.log_path = node.log_path.with_suffix(".clone.log")
    twin.start_command(twin.command(data=path))
    try:
        demand_outdated(twin, twin.ended(), "a clone")
    finally:
        twin.kill()
    t.run_for(0.5)
    node.check_runs()
    demand(node.stores(), f"{node.name} no longer stores, after its clone came")
    shutil.rmtree(path)
    t.check_whole()


class Disks:
    name = "disk"

    def __init__(self):
        self.n = 0

    def run(self, t, rng, until):
        while True:
            for node in rng.sample(t.nodes, len(t.nodes)):
                empty_in_its_place(t, node, rng.choice(t.cluster.others(node)))
                t.tell(f"{node.name} with an empty disk: a new node, voted for nothing")
                image_in_its_place(t, node)
                t.tell(f"{node.name} with an old image of its disk, five times: refused")
                clone_beside(t, node)
                t.tell(f"a clone beside {node.name}: refused, and {node.name} goes on")
                self.n += 1
            if time.monotonic() >= until:
                return

    def summary(self):
        return [f"{self.n} times each: an empty disk under a member's name (a new node, voted for "
                "nothing), an old image started 5 times, a clone beside (refused)"]
