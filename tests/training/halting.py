"""Workers that stop together: `python halting.py FOLDER STEPS HEARS...` starts one for each HEARS.

HEARS is the step at which that worker hears that it must go; -1 for never. Each leaves `FOLDER/<rank>.json`: the step
after which it stopped, what the lineage of all then held, and the seconds a step took.
"""

import json
import os
import sys
import time
from pathlib import Path

import torch

from training.halt import Halt, Reason
from training.lineage import Lineage
from training.loop import Seat


def work(folder: Path, rank: int, steps: int, hears: list[int]) -> None:
    """Learn from rows 10 * step + rank until all stop."""
    world = len(hears)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=world)
    seat, lineage = Seat(rank, world), Lineage(corpus_rows=1000)
    halt = Halt(seat, lambda step: Reason.NONE, lambda step: Reason.PREEMPTED if step == hears[rank] else Reason.NONE)
    began = time.monotonic()
    for step in range(1, steps + 1):
        lineage.note((f"train-{10 * step + rank:08d}",))
        if halt(step):
            break
    seconds = (time.monotonic() - began) / step
    lineage.gather(seat, halt.group)
    found = {"step": step, "rows": lineage.learnt.tolist(), "seconds_a_step": seconds}
    Path(folder, f"{rank}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    folder, steps, hears = Path(sys.argv[1]), int(sys.argv[2]), [int(word) for word in sys.argv[3:]]
    torch.set_num_threads(1)
    children = []
    for rank in range(len(hears)):
        child = os.fork()
        if child == 0:
            work(folder, rank, steps, hears)
            os._exit(0)
        children.append(child)
    sys.exit(any(os.waitpid(child, 0)[1] for child in children))
