"""Sums the JUnit files of test runs: tally.py [--skips FILE] RUN=FILE...

Prints a line per run, names what is wrong, and ends with "N passed, N failed, N skipped"; exit code
1 if anything failed. A run without a single test counts as a failure (a suite that silently ran
nothing must not look green), and so does a skipped test that FILE does not name. FILE holds one
regular expression per line, matched against "suite/test", and after a blank the reason why it may
be skipped.
"""

import re
import sys
import xml.etree.ElementTree as xml
from collections import Counter

OUTCOMES = ("passed", "failed", "skipped")


def outcome(case):
    if case.find("failure") is not None or case.find("error") is not None:
        return "failed"
    return "skipped" if case.find("skipped") is not None else "passed"


def cases(path):
    """(name, outcome) of each case. An executable that reports its cases is a suite of its own."""
    for suite in xml.parse(path).getroot().iter("testsuite"):
        for case in suite.iter("testcase"):
            yield f"{suite.get('name')}/{case.get('name')}", outcome(case)


def read_skips(path):
    lines = (line.split(None, 1) for line in open(path, encoding="utf-8"))
    return [re.compile(words[0]) for words in lines if words and not words[0].startswith("#")]


def judge(run, path, skips):
    """(counts, sentences about what is wrong) of one run."""
    try:
        found = list(cases(path))
    except (OSError, xml.ParseError) as error:
        return Counter(failed=1), [f"{run}: {error}"]
    if not found:
        return Counter(failed=1), [f"{run}: no test ran"]
    counts, wrong = Counter(), []
    for name, how in found:
        if how == "skipped" and not any(skip.search(name) for skip in skips):
            counts["failed"] += 1
            wrong.append(f"{run}: {name} was skipped, and may not be")
            continue
        counts[how] += 1
        if how == "failed":
            wrong.append(f"{run}: {name} failed")
    return counts, wrong


def main(arguments):
    skips = []
    if arguments[:1] == ["--skips"]:
        skips = read_skips(arguments[1])
        arguments = arguments[2:]
    total, wrong = Counter(), []
    for argument in arguments:
        run, _, path = argument.partition("=")
        counts, sentences = judge(run, path, skips)
        total += counts
        wrong += sentences
        print(f"  {run:<28}" + ", ".join(f"{counts[how]} {how}" for how in OUTCOMES))
    for line in wrong:
        print(f"  WRONG  {line}")
    print(", ".join(f"{total[how]} {how}" for how in OUTCOMES))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
