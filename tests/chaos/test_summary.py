#!/usr/bin/python3
"""What the end of scripts/chaos says of a run that was skipped, wholly or in part. TAP; suite unit.
"""

import argparse
import contextlib
import io
import sys

import chaos
from harness import check, equal, has, main  # cluster, which chaos asks for, knows where it is


class Part:
    name = "kill"


def end_of(done, skipped):
    """The exit code and the last words of a run of which this was done and that skipped."""
    run = chaos.Chaos.__new__(chaos.Chaos)  # without a cluster
    run.options, run.began = argparse.Namespace(seed=1), 0.0
    run.totals = {"writes": 9, "acknowledged": 8, "unknown": 1, "reads": 7, "keys": 2}
    run.done, run.skipped, run.longest_lag_s = done, skipped, 0.0
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        code = run.summary()
    return code, told.getvalue()


def a_run_of_skips_has_not_passed():
    code, told = end_of([], [("clock", "no libfaketime"), ("partition", "no nft")])
    equal(code, 1, "exit code")
    has(told, "NOTHING RAN")
    check("PASSED" not in told, told)
    has(told, "clock      SKIPPED: no libfaketime")
    has(told, "partition  SKIPPED: no nft")


def what_has_run_has_passed_and_says_what_was_skipped():
    code, told = end_of([(Part, ["5 kills"])], [("clock", "no libfaketime")])
    equal(code, 0, "exit code")
    has(told, "PASSED")
    check("NOTHING RAN" not in told, told)
    has(told, "kill       5 kills")
    has(told, "clock      SKIPPED: no libfaketime")


TESTS = [a_run_of_skips_has_not_passed, what_has_run_has_passed_and_says_what_was_skipped]


if __name__ == "__main__":
    main(TESTS, sys.argv[1:])
