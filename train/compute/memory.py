"""What a long run on a CPU keeps in memory: what tensors left, for the next step, and not too many compiled kernels."""

from __future__ import annotations

import ctypes
import os
import sys

# From malloc.h of glibc; the numbers are part of its interface.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_NEVER, _AT_ONCE = 2**31 - 1, 64 << 20


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


def keep_few_kernels() -> None:
    """Let oneDNN keep 256 compiled kernels instead of 1,024, unless the environment says how many.

    Each takes half a megabyte, and most are of a shape that does not come again. It listens only until it is first
    used.
    """
    # It knows the older name too.
    if "DNNL_PRIMITIVE_CACHE_CAPACITY" not in os.environ:
        os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "256")
