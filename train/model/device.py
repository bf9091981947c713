"""Where a run computes: device, number format, threads, the memory that there is and the peak of a piece of work.

Every figure of a plan and every choice that is "auto" begins here, so this is the only place that asks the machine.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from train.base.errors import Exit, TrainError
from train.recipe import Recipe

if TYPE_CHECKING:
    import torch


SMALL_MODEL = 20_000_000
_CPU_INFO = Path("/proc/cpuinfo")
_SAMPLE_SECONDS = 0.25
STAT = Path("/proc/stat")
QUOTAS = (Path("/sys/fs/cgroup/cpu.max"), Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"))
"""Of the second version of control groups, and of the first."""


def pick_device(wanted: str) -> torch.device:
    """Return the torch device for "auto", "cpu", "mps" or "cuda"; raises TrainError "E941 no-device" (exit 3)."""
    import torch

    if wanted == "auto":
        there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
        wanted = next(kind for kind, is_there in there.items() if is_there)
    device = torch.device(wanted)
    is_there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}.get(device.type, True)
    if not is_there or (device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()):
        raise TrainError(
            "E941 no-device", f"this machine has no {wanted}", "Add --set device=cpu.", exit_code=Exit.MISSING
        )
    return device


def pick_dtype(recipe: Recipe, device: torch.device, num_parameters: int) -> torch.dtype:
    """Return the format of the products: bfloat16 where the hardware computes in it and the model is not tiny.

    Raises TrainError "E941 no-device" (exit 3) where a GPU lacks the bfloat16 that the recipe asks for.
    """
    import torch

    if recipe.bf16 is False:
        return torch.float32
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        if recipe.bf16 == "auto":
            return torch.float32
        name = torch.cuda.get_device_name(device)
        raise TrainError("E941 no-device", f"{name} has no bfloat16", "Add --set bf16=auto.", exit_code=Exit.MISSING)
    if recipe.bf16 is True or device.type == "cuda":
        return torch.bfloat16
    flags = ""
    if device.type == "cpu":
        # Other systems have no such file, and some containers hide it.
        with suppress(OSError):
            lines = _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
            flags = next((line for line in lines if line.startswith("flags")), "")
    has_bf16 = "avx512_bf16" in flags.split()
    return torch.bfloat16 if has_bf16 and num_parameters >= SMALL_MODEL else torch.float32


def pick_threads(recipe: Recipe, num_parameters: int, num_ranks: int = 1) -> int:
    """Return the CPU threads: one for small models, which lose by sharing work, else one for each core that is free.

    Ranks of one machine divide its cores among them, as each of them would find those of the others busy.
    """
    if recipe.threads != "auto":
        return recipe.threads
    if num_parameters < SMALL_MODEL:
        return 1
    return free_cores() if num_ranks == 1 else max(1, usable_cores() // num_ranks)


@contextmanager
def computing(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Within, matrix products are in ``dtype``: autocast for bfloat16, TF32 for float32 on a GPU that has it.

    Each weight is cast once until the outermost ends, so none may change within.
    """
    import torch

    outer = _casts.get()
    token = _casts.set({} if outer is None else outer)
    matmul: Any = torch.backends.cuda.matmul
    # Not by torch.get_float32_matmul_precision(), which raises where the caller has set it this way. New in torch 2.9.
    before = getattr(matmul, "fp32_precision", None)
    if before and device.type == "cuda" and dtype == torch.float32:
        matmul.fp32_precision = "tf32"
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
            yield
    finally:
        _casts.reset(token)
        if before:
            matmul.fp32_precision = before


_casts: ContextVar[dict[tuple[torch.Tensor, torch.dtype], torch.Tensor] | None] = ContextVar("casts", default=None)


def cast_weight(weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return ``weight`` in ``dtype``, without a gradient; of a parameter the same tensor everywhere in `computing`."""
    import torch

    casts = _casts.get()
    if casts is None or weight.dtype == dtype or not isinstance(weight, torch.nn.Parameter):
        return weight.detach().to(dtype)
    if (weight, dtype) not in casts:
        casts[weight, dtype] = weight.detach().to(dtype)
    return casts[weight, dtype]


def usable_cores() -> int:
    """Return the cores that this process may run on: by its affinity, and by the quota of its container if lower."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota()
    return max(1, min(allowed, allowed if quota is None else round(quota)))


def free_cores() -> int:
    """Return how many usable cores are idle, 1 at the least, all where the system has no /proc/stat; takes 0.25 s."""
    # Not by the load average: that remembers what this very command did a minute ago.
    # Threads that wait for a core that another program holds cost far more than they bring: with two of them on a busy
    # machine of two cores torch was fifty times slower than with one.
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
    # Return (idle, total) ticks of each core that we may run on; None where the system does not report them.
    try:
        lines = STAT.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    ours = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    times = [[int(field) for field in line.split()[1:9]] for line in lines if line.split(" ", 1)[0] in ours]
    # user, nice, system, idle, waiting for a disk, interrupts twice, stolen by the host
    return [(ticks[3] + ticks[4], sum(ticks)) for ticks in times] or None


def _quota() -> float | None:
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


_STATUS, _CLEAR, _LIMIT = Path("/proc/self/status"), Path("/proc/self/clear_refs"), Path("/sys/fs/cgroup/memory.max")
_MACHINE = Path("/proc/meminfo")


class Meter:
    """Measures from when it is made: ``grown()`` is the peak since then over what there was at that time, in bytes."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            import torch

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
            import torch

            return torch.cuda.max_memory_allocated(self.device) - self.before
        return max(0, _resident("VmHWM") - self.before)


_PEAKS = {
    "B200": 2250, "H200": 989, "H100 PCIe": 756, "H100": 989, "A100": 312, "L40S": 362, "L4": 121, "A10G": 70,
    "A10": 125, "T4": 65, "3090": 71, "4090": 165, "5090": 209,
}  # fmt: skip
"""TF/s of dense products in bfloat16 that are added up in float32, by words of a card's name; the T4's in float16."""


def peak_flops(device: torch.device) -> float | None:
    """Return the floating-point operations a second that a GPU is sold for, without sparsity; None where not known."""
    if device.type != "cuda":
        return None
    import torch

    words = torch.cuda.get_device_name(device).replace("-", " ").split()
    return next((1e12 * peak for name, peak in _PEAKS.items() if {*name.split()}.issubset(words)), None)


def peak_memory(device: torch.device) -> int | None:
    """Return the most bytes of a GPU that tensors took since a `Meter` was made; None on a CPU."""
    if device.type != "cuda":
        return None
    import torch

    return torch.cuda.max_memory_allocated(device)


def memory_limit(device: torch.device | None = None) -> int:
    """Return how many bytes of memory the device has for us: a GPU's own, or the machine's or the process's limit."""
    if device is not None and device.type == "cuda":
        import torch

        return int(torch.cuda.get_device_properties(device).total_memory)
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    limits += [limit for limit in (resource.getrlimit(resource.RLIMIT_AS)[0],) if limit != resource.RLIM_INFINITY]
    # No control group, or one without a limit ("max").
    with suppress(OSError, ValueError):
        limits.append(int(_LIMIT.read_text()))
    return min(limits)


def free_memory(device: torch.device | None = None) -> int:
    """Return how many bytes of the device's memory nobody uses now, as far as the system tells; at most its limit.

    Without a device it is the machine's.
    """
    if device is not None and device.type == "cuda":
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    limit = memory_limit(device)
    with suppress(OSError, ValueError, StopIteration):
        lines = _MACHINE.read_text().splitlines()
        return min(limit, next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")))
    return limit


def require_memory(what: str, needed: int, hint: str, device: torch.device | None = None) -> None:
    """Raise TrainError "E947 out-of-memory" (exit 3) where ``what`` needs more bytes than are free.

    Without a device they are the machine's.
    """
    if needed > (free := free_memory(device)):
        message = f"{what} takes about {needed / 1e6:,.0f} MB, and {free / 1e6:,.0f} MB are free"
        raise TrainError("E947 out-of-memory", message, hint, exit_code=Exit.MISSING)


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
