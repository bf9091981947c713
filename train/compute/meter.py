"""The peak of memory of a piece of work, and how much there is: a resident set, or what a GPU's allocator gave."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from contextlib import suppress
from pathlib import Path

import torch

_STATUS, _CLEAR, _LIMIT = Path("/proc/self/status"), Path("/proc/self/clear_refs"), Path("/sys/fs/cgroup/memory.max")


class Meter:
    """Measures from when it is made: ``grown()`` is the peak since then over what there was at that time, in bytes."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self.before = torch.cuda.memory_allocated(device)
            return
        _give_back()
        # 5 sets the peak back to what is resident now (proc(5)); where that is not allowed the peak is older.
        with suppress(OSError):
            _CLEAR.write_text("5")
        self.before = _resident("VmRSS")

    def grown(self) -> int:
        """Return the bytes that the peak lies above the beginning."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) - self.before
        return max(0, _resident("VmHWM") - self.before)


def memory_limit(device: torch.device) -> int:
    """Return how many bytes of memory the device has for us: a GPU's own, or the machine's or the process's limit."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    limits += [one for one in (resource.getrlimit(resource.RLIMIT_AS)[0],) if one != resource.RLIM_INFINITY]
    # No control group, or one without a limit ("max").
    with suppress(OSError, ValueError):
        limits.append(int(_LIMIT.read_text()))
    return min(limits)


def _resident(name: str) -> int:
    """A line of /proc/self/status in bytes; elsewhere the highest peak ever, which is all that other systems tell."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def _give_back() -> None:
    """Let glibc return what was freed, which is else used again without growing."""
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
