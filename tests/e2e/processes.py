"""processes: stopping one so that it has stopped."""
import os
import signal
from pathlib import Path


def suspend(pid, wait_until):
    """SIGSTOP, which takes effect later; wait_until(what, condition) waits for every thread."""
    os.kill(pid, signal.SIGSTOP)
    tasks = Path(f"/proc/{pid}/task")

    def stopped():
        stats = [(task / "stat").read_text() for task in tasks.iterdir()]
        return all(stat.rpartition(")")[2].split()[0] == "T" for stat in stats)
    wait_until("the process has stopped", stopped)
