"""Memory: reuse of freed memory, the peak of a piece of work, and how much memory there is."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from contextlib import suppress
from pathlib import Path

import torch

# From malloc.h of glibc; the numbers are part of its interface.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_NEVER, _AT_ONCE = 2**31 - 1, 64 << 20
_STATUS, _CLEAR, _LIMIT = Path("/proc/self/status"), Path("/proc/self/clear_refs"), Path("/sys/fs/cgroup/memory.max")


def keep_freed_memory() -> bool:
    """Tell glibc's allocator to keep what is freed; return whether there is one that listens.

    Tensors over 32 MB are else mapped anew each time, and the kernel fills every page with zeros first: at a vocabulary
    of 152,000 that costs more than the matrix products. The process then stays at its largest size until it ends.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        # Another C library, such as musl's.
        return False
    return all(mallopt(*setting) for setting in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _NEVER), (_TOP_PAD, _AT_ONCE)))


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
    limits += [limit for limit in (resource.getrlimit(resource.RLIMIT_AS)[0],) if limit != resource.RLIM_INFINITY]
    # No control group, or one without a limit ("max").
    with suppress(OSError, ValueError):
        limits.append(int(_LIMIT.read_text()))
    return min(limits)


def _resident(name: str) -> int:
    # A line of /proc/self/status in bytes; on other systems the highest peak ever, as they report nothing else.
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def _give_back() -> None:
    # Let glibc return what was freed, which is else used again without growing.
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
