"""scripts/tally.py must not call green what is not: meson's logs are written by hand here, one way
of going wrong at a time, as meson 1.0 writes them. Output is TAP.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

PASSED = '<testcase name="1 - a"/>'
FAILED = '<testcase name="2 - b"><failure/></testcase>'
SKIPPED = '<testcase name="3 - c"><skipped/></testcase>'


def log(result, code=0):
    return json.dumps({"name": "t", "result": result, "returncode": code}) + "\n"


# Name: cases of the test t, meson's word for it, permitted skips, expected last line.
STORIES = {
    "all passed": (PASSED, log("OK"), "", "1 passed, 0 failed, 0 skipped"),
    "a failed case counts once": (PASSED + FAILED, log("FAIL", 1), "",
                                  "1 passed, 1 failed, 0 skipped"),
    "a crash after passed cases": (PASSED, log("ERROR", -11), "", "1 passed, 1 failed, 0 skipped"),
    "a time-out after passed cases": (PASSED, log("TIMEOUT", -15), "",
                                      "1 passed, 1 failed, 0 skipped"),
    "no case at all": ("", log("OK"), "", "0 passed, 1 failed, 0 skipped"),
    "a skip without leave": (SKIPPED, log("OK"), "# t/.*\nu/ why\n",
                             "0 passed, 1 failed, 0 skipped"),
    "a skip with leave": (PASSED + SKIPPED, log("OK"), "t/3 no root here\n",
                          "1 passed, 0 failed, 1 skipped"),
    "no log": (None, "", "", "0 passed, 1 failed, 0 skipped"),
    "half a log": ("<testcase", log("OK"), "", "0 passed, 1 failed, 0 skipped"),
}


def run(tally, folder, cases, meson_log, skips):
    (folder / "skips").write_text(skips)
    if cases is not None:
        (folder / "run.junit.xml").write_text(
            f'<testsuites><testsuite name="quoit.t">{cases}</testsuite></testsuites>')
        (folder / "run.json").write_text(meson_log)
    command = [sys.executable, "-B", tally, "--skips", folder / "skips", f"run={folder}/run"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def main(tally):
    print(f"1..{len(STORIES)}")
    for number, (name, (cases, meson_log, skips, expected)) in enumerate(STORIES.items(), 1):
        with tempfile.TemporaryDirectory() as folder:
            got = run(tally, Path(folder), cases, meson_log, skips)
        last = got.stdout.splitlines()[-1]
        good = last == expected and got.returncode == int(" 0 failed" not in expected)
        print(f"{'ok' if good else 'not ok'} {number} - {name}")
        if not good:
            print(f"# {last!r}, exit code {got.returncode}; expected {expected!r}")
            print("\n".join(f"# {line}" for line in got.stderr.splitlines()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
