"""How many CPU cores a run may count on: those it may use, less those that others are using now.

Threads that wait for a core that another program holds cost far more than they bring: with two of them on a busy
machine of two cores torch was fifty times slower than with one.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

_SAMPLE_SECONDS = 0.25
STAT = Path("/proc/stat")
QUOTAS = (Path("/sys/fs/cgroup/cpu.max"), Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"))
"""Of the second version of control groups, and of the first."""


def usable_cores() -> int:
    """Return the cores that this process may run on: by its affinity, and by the quota of its container if lower."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota()
    return max(1, min(allowed, allowed if quota is None else round(quota)))


def free_cores() -> int:
    """Return how many usable cores are idle, 1 at the least; it samples for a quarter of a second.

    Not by the load average: that remembers what this very command did a minute ago. Where the system has no /proc/stat,
    all usable cores count as free.
    """
    usable = usable_cores()
    before = _idle_and_all()
    if usable == 1 or before is None:
        return usable
    time.sleep(_SAMPLE_SECONDS)
    after = _idle_and_all()
    if after is None or len(after) != len(before):
        # Cores were switched off or on meanwhile.
        return usable
    idle = sum(
        (later[0] - sooner[0]) / (later[1] - sooner[1])
        for sooner, later in zip(before, after, strict=True)
        if later[1] > sooner[1]
    )
    return max(1, min(usable, round(idle)))


def _idle_and_all() -> list[tuple[int, int]] | None:
    """Return (idle, total) ticks of each core that we may run on; None where the system does not report them."""
    try:
        lines = STAT.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    ours = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    times = [[int(field) for field in line.split()[1:9]] for line in lines if line.split(" ", 1)[0] in ours]
    # user, nice, system, idle, waiting for a disk, interrupts twice, stolen by the host
    return [(ticks[3] + ticks[4], sum(ticks)) for ticks in times] or None


def _quota() -> float | None:
    """Return the cores that a container's quota amounts to, None without one."""
    second, first = QUOTAS
    try:
        if second.is_file():
            limit, period = second.read_text(encoding="ascii").split()[:2]
            return None if limit == "max" else int(limit) / int(period)
        if first.is_file():
            limit = first.read_text(encoding="ascii").strip()
            period = first.with_name("cpu.cfs_period_us").read_text(encoding="ascii").strip()
            return int(limit) / int(period) if int(limit) > 0 else None
    except (OSError, ValueError):
        # A system that words it otherwise has no quota that we know of.
        return None
    return None
