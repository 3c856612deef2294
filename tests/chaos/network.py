"""network: a network namespace for each node, and cuts between them.

      this process (a namespace of its own)              node i
        bridge  10.77.0.254 ---- veth i  <------------>  eth0  10.77.0.(i+1)    drop rules here

The process that runs the trial first moves into a new namespace (enter), so that nothing that it
makes is seen outside, no rule of the machine is touched, and the kernel removes everything when the
last process in it ends, however that happens. Root does this with a namespace alone; others with a
user namespace as well, where the kernel lets them (plain Debian 12 does).

A cut is a set of rules in a node's namespace which drop what *arrives* from certain nodes. So each
direction is its own rule, and connections break the way cables break them: silently. Clients stand
at the bridge and are never cut off, which is the harder case: they can still talk to a node that
cannot talk to the others.
"""

import os
import shutil
import signal
import subprocess
import sys

from cluster import LIBC, PR_SET_PDEATHSIG
from trial import Skip

PREFIX = "10.77.0."
HUB = PREFIX + "254"
INSIDE = "QUOIT_CHAOS_NAMESPACE"  # set in the environment of a process that has moved
PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"  # where ip and nft are, also for users


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False,
                          env={**os.environ, "PATH": PATH})
    if done.returncode != 0:
        raise Skip(f"`{' '.join(command)}`: {done.stderr.strip()}")
    return done.stdout


def enter(again):
    """Moves into a namespace of its own by starting this program anew in one: `again` is its
    command line. Returns None there, and a sentence if it cannot be done."""
    if os.environ.get(INSIDE):
        run("ip", "link", "set", "lo", "up")  # which a new namespace has, and switched off
        return None
    for tool, package in (("ip", "iproute2"), ("nft", "nftables"), ("unshare", "util-linux")):
        if shutil.which(tool, path=PATH) is None:
            return f"there is no `{tool}` (Debian package {package})"
    how = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--net"]
    # All that will be needed, tried once where it leaves nothing behind.
    trial = "ip link add x type bridge && ip link add y type veth peer name z && nft add table t"
    tried = subprocess.run([*how, "sh", "-c", trial], capture_output=True, text=True, check=False,
                           env={**os.environ, "PATH": PATH})
    if tried.returncode != 0:
        return "no right to make a network namespace: " + (tried.stderr.strip() or "refused")
    sys.stdout.flush()
    sys.stderr.flush()
    os.execvpe(how[0], [*how, *again], {**os.environ, "PATH": PATH, INSIDE: "1"})


class Network:
    """The bridge and the nodes' namespaces. Made in the namespace that enter() has led to."""

    def __init__(self, n):
        if not os.environ.get(INSIDE):
            raise Skip("no network namespace")
        self.hosts = [f"{PREFIX}{i + 1}" for i in range(n)]
        self.holders = []
        run("ip", "link", "add", "hub", "type", "bridge")
        run("ip", "address", "add", f"{HUB}/24", "dev", "hub")
        run("ip", "link", "set", "hub", "up")
        try:
            for i in range(n):
                self._add(i)
        except Skip:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _add(self, i):
        """A process that holds the node's namespace open while the node is dead."""
        def hold():
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo there; exec sleep infinity"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, preexec_fn=hold)
        self.holders.append(holder)
        if holder.stdout.readline() != b"there\n":
            raise Skip("a node's network namespace cannot be made")
        run("ip", "link", "add", f"node{i + 1}", "type", "veth", "peer", "name", "eth0", "netns",
            str(holder.pid))
        run("ip", "link", "set", f"node{i + 1}", "master", "hub", "up")
        for command in (["ip", "link", "set", "lo", "up"],
                        ["ip", "address", "add", f"{self.hosts[i]}/24", "dev", "eth0"],
                        ["ip", "link", "set", "eth0", "up"],
                        ["nft", "add table ip cut; add chain ip cut arriving "
                                "{ type filter hook input priority 0; }"]):
            run(*self.inside(i), *command)

    def inside(self, i):
        """What to put before a command that is to run in node i's namespace."""
        return ["nsenter", f"--net=/proc/{self.holders[i].pid}/ns/net"]

    def drop(self, sender, receiver):
        """Whatever node `sender` sends no longer reaches node `receiver`."""
        run(*self.inside(receiver), "nft",
            f"add rule ip cut arriving ip saddr {self.hosts[sender]} drop")

    def cut(self, a, b):
        self.drop(a, b)
        self.drop(b, a)

    def heal(self):
        for i in range(len(self.hosts)):
            run(*self.inside(i), "nft", "flush chain ip cut arriving")

    def close(self):
        for holder in self.holders:
            holder.kill()
            holder.wait()
            holder.stdout.close()
        self.holders = []
        subprocess.run(["ip", "link", "delete", "hub"], capture_output=True, check=False,
                       env={**os.environ, "PATH": PATH})
