"""harness: what tests of real processes share: checks that say what they saw, waiting for a
condition, ports that are free, and TAP."""

import socket
import sys
import time
import traceback

START_S = 120  # generous: sanitizers, and a machine that others use as well
TAKEN = set()


class Skip(Exception):
    """It cannot be tried here; the sentence says why."""


def check(condition, text):
    if not condition:
        raise AssertionError(text)


def equal(got, expected, what="result"):
    check(got == expected, f"{what}: got {got!r}, expected {expected!r}")


def has(text, part):
    """In the text, wherever it breaks its lines."""
    text = text.decode() if isinstance(text, bytes) else text
    check(part in text or part in " ".join(text.split()), f"{part!r} is not in:\n{text}")


def wait_until(what, condition, seconds=START_S):
    deadline = time.monotonic() + seconds
    while not condition():
        check(time.monotonic() < deadline, f"{what} within {seconds} s")
        time.sleep(0.01)


def free_ports(n):
    """Ports of loopback that nobody has now, and that are not given out again here. They are held
    until all are known, so that they differ."""
    sockets = []
    while len(sockets) < n:
        s = socket.socket()
        s.bind(("127.0.0.1", 0))
        if s.getsockname()[1] not in TAKEN:
            sockets.append(s)
    ports = [s.getsockname()[1] for s in sockets]
    TAKEN.update(ports)
    for s in sockets:
        s.close()
    return ports


def free_port():
    return free_ports(1)[0]


def run_one(number, test, *args):
    """One line of TAP. Whether it is good."""
    began = time.monotonic()
    try:
        test(*args)
        print(f"ok {number} - {test.__name__}  # {time.monotonic() - began:.2f} s", flush=True)
    except Skip as reason:
        print(f"ok {number} - {test.__name__} # SKIP {reason}", flush=True)
    except Exception:  # whatever it is, it is this test's failure
        print("".join("# " + l for l in traceback.format_exc().splitlines(True)), end="")
        print(f"not ok {number} - {test.__name__}", flush=True)
        return False
    return True


def chosen(tests, names):
    return [t for t in tests if not names or t.__name__ in names]


def run_all(tests, *args):
    """All lines of TAP, and the exit code."""
    print(f"1..{len(tests)}", flush=True)
    good = [run_one(number, test, *args) for number, test in enumerate(tests, 1)]
    return 0 if all(good) else 1


def main(tests, names):
    sys.exit(run_all(chosen(tests, names)))
