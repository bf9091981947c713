"""The allocator of the C library, which is the whole process's: a command sets it, and a library must not."""

from __future__ import annotations

import ctypes

# From malloc.h of glibc; the numbers are part of its interface.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_NEVER, _AT_ONCE = 2**31 - 1, 64 << 20


def keep_freed_memory() -> None:
    """Tell glibc's allocator to keep what is freed; the process then stays at its largest size until it ends.

    Nothing happens with another C library.
    """
    # Tensors over 32 MB are else mapped anew each time, and the kernel fills every page with zeros first: at a
    # vocabulary of 152,000 that costs more than the matrix products.
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        for setting in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _NEVER), (_TOP_PAD, _AT_ONCE)):
            mallopt(*setting)
