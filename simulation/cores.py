"""How many CPUs this process may use. What the machine has is no guide: a container may get two of sixty-four."""

import os
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""CPU time a container (cgroup v2) may use in each period, and that period; "max" where there is no limit."""


def cores() -> int:
    """CPUs by the affinity of this process, or by the quota of its container if that is less; at least 1."""
    allowed = len(os.sched_getaffinity(0))
    try:
        quota, period = QUOTA.read_text().split()
        return min(allowed, max(1, int(quota) // int(period)))
    except (OSError, ValueError):  # no cgroup v2, or no limit
        return allowed
