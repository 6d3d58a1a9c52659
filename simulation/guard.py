"""What ends a local Ray session whose starter was killed and could not: a small process that outlives it by seconds.

Ray's own processes notice such a death, but its agents first try for a minute to report it to a control service that
died with them, and nobody removes the session folder. Run by `simulation.cluster`, never by hand:
`python -m simulation.guard FOLDER DESCRIPTION STARTER PID...`.
"""

import os
import shutil
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

POLL_S = 0.5
SETTLE_S = 5.0
"""How long workers take to see that their node is gone; until then they write logs."""
TRIES = 6
"""How often the folder is removed, since a worker in the middle of a computation notices later."""


def guard(folder: Path, description: Path, starter: int, processes: list[psutil.Process]) -> None:
    """Wait until the starter is gone, then end `processes` and remove the folder and the description that names it."""
    while os.getppid() == starter:
        time.sleep(POLL_S)
    for process in processes:
        with suppress(psutil.Error):
            process.kill()  # only the same one: psutil remembers when it began
    if description.exists() and str(folder) in description.read_text():
        description.unlink()
    for _ in range(TRIES):
        time.sleep(SETTLE_S)
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return


def _existing(pids: list[str]) -> list[psutil.Process]:
    return [psutil.Process(int(pid)) for pid in pids if psutil.pid_exists(int(pid))]


if __name__ == "__main__":
    guard(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), _existing(sys.argv[4:]))
