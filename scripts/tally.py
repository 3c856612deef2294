"""Sums what test runs left in their logs: tally.py [--skips FILE] RUN=PREFIX...

PREFIX.junit.xml and PREFIX.json are meson's logs of one run. The first knows each case but not the
executable that crashed, hung or stopped short after its last one; the second knows that and no
cases; so both are read. Prints a line per run, names what is wrong, and ends with "N passed, N
failed, N skipped"; exit code 1 if anything failed. A run without a single test counts as a failure
(a suite that silently ran nothing must not look green), and so does a skipped test that FILE does
not name. FILE holds one regular expression per line, matched against "test/case", and after a blank
the reason why it may be skipped.
"""

import json
import re
import sys
import xml.etree.ElementTree as xml
from collections import Counter

OUTCOMES = ("passed", "failed", "skipped")


class Case:
    def __init__(self, test, name, how):
        self.test, self.how = test, how
        self.text = f"{test}/{name}" if name else test


def outcome(case):
    if case.find("failure") is not None or case.find("error") is not None:
        return "failed"
    return "skipped" if case.find("skipped") is not None else "passed"


def read_cases(path):
    """Every case; a test that reports no cases is one itself."""
    for suite in xml.parse(path).getroot().iter("testsuite"):
        test = suite.get("name").partition(".")[2]
        for case in suite.iter("testcase"):
            name = case.get("name")
            yield Case(test or name, name if test else "", outcome(case))


def read_broken(path, cases):
    """A case for each test that failed otherwise than by one of its cases."""
    failed = {case.test for case in cases if case.how == "failed"}
    with open(path, encoding="utf-8") as log:
        for test in map(json.loads, log):
            if test["result"] not in ("OK", "SKIP") and test["name"] not in failed:
                how = f"{test['result'].lower()}, exit code {test['returncode']}"
                yield Case(test["name"], how, "failed")


def read_skips(path):
    lines = (line.split(None, 1) for line in open(path, encoding="utf-8"))
    return [re.compile(words[0]) for words in lines if words and not words[0].startswith("#")]


def judge(run, prefix, skips):
    """(counts, sentences about what is wrong) of one run."""
    try:
        cases = list(read_cases(f"{prefix}.junit.xml"))
        cases += list(read_broken(f"{prefix}.json", cases))
    except (OSError, ValueError, xml.ParseError) as error:
        return Counter(failed=1), [f"{run}: {error}"]
    if not cases:
        return Counter(failed=1), [f"{run}: no test ran"]
    counts, wrong = Counter(), []
    for case in cases:
        if case.how == "skipped" and not any(skip.search(case.text) for skip in skips):
            case.how = "failed"
            wrong.append(f"{run}: {case.text} was skipped, and may not be")
        elif case.how == "failed":
            wrong.append(f"{run}: {case.text} failed")
        counts[case.how] += 1
    return counts, wrong


def main(arguments):
    skips = []
    if arguments[:1] == ["--skips"]:
        skips = read_skips(arguments[1])
        arguments = arguments[2:]
    total, wrong = Counter(), []
    for argument in arguments:
        run, _, prefix = argument.partition("=")
        counts, sentences = judge(run, prefix, skips)
        total += counts
        wrong += sentences
        print(f"  {run:<28}" + ", ".join(f"{counts[how]} {how}" for how in OUTCOMES))
    for line in wrong:
        print(f"  WRONG  {line}")
    print(", ".join(f"{total[how]} {how}" for how in OUTCOMES))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
