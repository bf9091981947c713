"""Where a run computes: device, number format, threads, the memory that there is and the peak of a piece of work.

Every figure of a plan and every choice that is "auto" begins here, so this is the only place that asks the machine.
"""

from __future__ import annotations

import ctypes
import os
import resource
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
_QUOTA, _LIMIT = Path("/sys/fs/cgroup/cpu.max"), Path("/sys/fs/cgroup/memory.max")
_STATUS, _CLEAR, _CPU_INFO = Path("/proc/self/status"), Path("/proc/self/clear_refs"), Path("/proc/cpuinfo")
_SAMPLE_SECONDS = 0.25


def pick_device(name: str) -> torch.device:
    """Return the torch device for "auto", "cpu", "mps", "cuda" or "cuda:1"; raises TrainError "E941 no-device"
    (exit 3).
    """
    import torch

    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    counts = {"cuda": num_gpus, "mps": int(torch.backends.mps.is_available()), "cpu": 1}
    device = torch.device(next(kind for kind, num in counts.items() if num) if name == "auto" else name)
    if (device.index or 0) >= counts.get(device.type, 1):
        raise TrainError(
            "E941 no-device", f"this machine has no {name}", "Add --set device=cpu.", exit_code=Exit.MISSING
        )
    return device


def pick_dtype(recipe: Recipe, device: torch.device, num_parameters: int) -> torch.dtype:
    """Return the compute dtype: bfloat16 where the hardware computes in it and the model is not tiny.

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
    has_bf16 = False
    if device.type == "cpu":
        # Other systems have no such file, and some containers hide it.
        with suppress(OSError):
            has_bf16 = " avx512_bf16 " in _CPU_INFO.read_text(encoding="utf-8", errors="replace")
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
def autocasting(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
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
    """Return ``weight`` in ``dtype``, without gradient; of a parameter the same tensor everywhere in `autocasting`."""
    import torch

    casts = _casts.get()
    if casts is None or weight.dtype == dtype or not isinstance(weight, torch.nn.Parameter):
        return weight.detach().to(dtype)
    if (weight, dtype) not in casts:
        casts[weight, dtype] = weight.detach().to(dtype)
    return casts[weight, dtype]


def usable_cores() -> int:
    """Return the cores that this process may run on: by its affinity, and by the quota of its container if lower."""
    import psutil

    allowed = len(psutil.Process().cpu_affinity()) if hasattr(psutil.Process, "cpu_affinity") else os.cpu_count() or 1
    # No control group of version 2, or one without a quota ("max").
    with suppress(OSError, ValueError):
        quota, period = map(int, _QUOTA.read_text(encoding="ascii").split())
        allowed = min(allowed, round(quota / period))
    return max(1, allowed)


def free_cores() -> int:
    """Return how many usable cores are idle, 1 at the least; takes 0.25 s."""
    import psutil

    # Threads that wait for a core that another program holds cost far more than they bring: with two of them on a busy
    # machine of two cores torch was fifty times slower than with one. The load average remembers this very command.
    idle = sum(1 - busy / 100 for busy in psutil.cpu_percent(_SAMPLE_SECONDS, percpu=True))
    return max(1, min(usable_cores(), round(idle)))


class MemoryMeter:
    """Measures the memory of a piece of work, which begins where the meter is made."""

    def __init__(self, device: torch.device) -> None:
        import psutil

        self.device = device
        if device.type == "cuda":
            import torch

            torch.cuda.reset_peak_memory_stats(device)
            self.before = torch.cuda.memory_allocated(device)
            return
        # Let glibc return what was freed, which is else used again without growing.
        with suppress(AttributeError, OSError):
            ctypes.CDLL(None).malloc_trim(0)
        # 5 sets the peak back to what is resident now (proc(5)); where that is not allowed the peak is older.
        with suppress(OSError):
            _CLEAR.write_text("5")
        self.before = psutil.Process().memory_info().rss

    def peak_increase_bytes(self) -> int:
        """Return the bytes by which the peak lies above the beginning."""
        import psutil

        if (peak := peak_memory(self.device)) is None:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1024 if psutil.LINUX else 1)
            # Not that of getrusage, which cannot be set back.
            with suppress(OSError, StopIteration):
                lines = _STATUS.read_text().splitlines()
                peak = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
        return max(0, peak - self.before)


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
    """Return the most bytes of a GPU that tensors took since a `MemoryMeter` was made; None on a CPU."""
    if device.type != "cuda":
        return None
    import torch

    return torch.cuda.max_memory_allocated(device)


def memory_limit(device: torch.device | None = None) -> int:
    """Return how many bytes of memory the device has for us: a GPU's own, or the machine's or the process's limit."""
    import psutil

    if device is not None and device.type == "cuda":
        import torch

        return int(torch.cuda.get_device_properties(device).total_memory)
    limits = [psutil.virtual_memory().total, resource.getrlimit(resource.RLIMIT_AS)[0]]
    # No control group, or one without a limit ("max").
    with suppress(OSError, ValueError):
        limits.append(int(_LIMIT.read_text()))
    return min(limit for limit in limits if limit != resource.RLIM_INFINITY)


def free_memory(device: torch.device | None = None) -> int:
    """Return how many bytes of the device's memory nobody uses now, at most its limit; without one the machine's."""
    import psutil

    if device is not None and device.type == "cuda":
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    return min(memory_limit(device), psutil.virtual_memory().available)


def require_memory(name: str, num_bytes: int, hint: str, device: torch.device | None = None) -> None:
    """Raise TrainError "E947 out-of-memory" (exit 3) where the model ``name`` needs more bytes than are free."""
    if num_bytes > (free := free_memory(device)):
        message = f"{name} takes about {num_bytes / 1e6:,.0f} MB, and {free / 1e6:,.0f} MB are free"
        raise TrainError("E947 out-of-memory", message, hint, exit_code=Exit.MISSING)
