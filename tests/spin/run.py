#!/usr/bin/python3
"""Checks the models of the protocols with Spin: what is right holds in every order of steps, and
each mistake that a model knows is caught.

    run.py [NAME ...]      prints TAP; NAME: a part of a line's name

A model that is searched to its end without an error holds, within its bounds; one that is not
searched to its end within CPU_S has failed as well. A mistake must end in an error.
"""

import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
CPU_S = 280  # of a processor: others may be at work as well
DEPTH = 1_000_000
SMALL = ["ONEROUND", "READS=1"]
FOUR = ["NB=4"]
TWO = ["START=3", "ONE=7", "TWO=11"]

# (what it says, model, switches, whether it holds)
RUNS = [
    ("floors hold, and frozen slots may thaw by themselves", "purge",
     SMALL + ["THAW", "CLOSE_DROPS"], True),
    ("mistake: a round of a majority", "purge", SMALL + ["BUG_MAJORITY"], False),
    ("mistake: a round without a slot that is down", "purge", SMALL + ["BUG_DOWN"], False),
    ("mistake: a floor that is not synced", "purge", SMALL + ["BUG_NOSYNC"], False),
    ("mistake: repair that pushes", "purge", SMALL + ["BUG_PUSH"], False),
    ("mistake: lists that count although something has entered", "purge",
     SMALL + ["BUG_NO_VOID"], False),
    ("mistake: absent answers without the floor", "purge", SMALL + ["BUG_NO_READ_FLOOR"], False),
    ("mistake: no freeze, and stale answers are taken", "purge",
     SMALL + ["BUG_NO_FREEZE", "BUG_PULL_STALE"], False),
    ("voters are added and removed one at a time", "voters", FOUR, True),
    ("voters are added to two, with rivals, in five attempts", "voters", ["NB=5"] + TWO, True),
    ("no mistake: only a majority of the old voters decides", "voters",
     FOUR + ["BUG_OLD_ONLY"], True),
    ("mistake: two voters change at once", "voters", FOUR + ["BUG_SWAP"], False),
    ("mistake: two voters change at once, majorities of both", "voters",
     FOUR + ["BUG_SWAP_JOINT"], False),
    ("mistake: a ring is written whoever was asked", "voters", FOUR + ["BUG_STALE"], False),
    ("mistake: a ring is computed from what was not read", "voters", FOUR + ["BUG_CACHE"], False),
    ("mistake: a majority of the new voters", "voters", FOUR + ["BUG_NEW_ONLY"], False),
    ("mistake: who finishes a change of voters forgets the old ones", "voters",
     FOUR + ["BUG_REWRITE"], False),
    ("mistake: a ring follows one that is not decided", "voters", FOUR + ["BUG_UNDECIDED"], False),
    ("mistake: a promise is forgotten, or not kept", "voters", FOUR + ["BUG_LOWER"], False),
    ("mistake: what was accepted first is read", "voters", FOUR + ["BUG_FIRST"], False),
]


def limit_time():
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S + 10))


def search(model, switches):
    """(errors found, or None if the search came to no end; what it said)"""
    with tempfile.TemporaryDirectory(prefix="spin-") as work:
        flags = [f"-D{s}" for s in switches]
        subprocess.run(["spin", "-a", *flags, HERE / f"{model}.pml"], cwd=work, check=True,
                       stdout=subprocess.DEVNULL)
        subprocess.run(["gcc", "-O2", "-w", "-DSAFETY", "-DCOLLAPSE", "-DMEMLIM=6000",
                        "-DVECTORSZ=2048", "-o", "pan", "pan.c"], cwd=work, check=True)
        run = subprocess.run(["./pan", "-E", f"-m{DEPTH}", "-w24"], cwd=work, text=True,
                             stdout=subprocess.PIPE, preexec_fn=limit_time, check=False)
        if run.returncode == -signal.SIGXCPU:
            return None, f"no end within {CPU_S} s of CPU"
        out = run.stdout
    told = [line.strip() for line in out.splitlines() if "errors: " in line or "stored" in line]
    ended = "max search depth too small" not in out and "out of memory" not in out
    errors = [int(line.split("errors: ")[1]) for line in told if "errors: " in line]
    if not errors or (not ended and errors[0] == 0):
        return None, "; ".join(told)
    return errors[0], "; ".join(told)


def main():
    runs = [r for r in RUNS if not sys.argv[1:] or any(n in r[0] for n in sys.argv[1:])]
    failed = 0
    print(f"1..{len(runs)}", flush=True)
    for number, (name, model, switches, holds) in enumerate(runs, 1):
        errors, told = search(model, switches)
        good = errors is not None and (errors == 0) == holds
        failed += not good
        print(f"{'ok' if good else 'not ok'} {number} - {name}\n# {model} {' '.join(switches)}: "
              f"{told}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
