"""Inner loops compiled with numba (extra ``fast``), where it is installed and the texts are many enough to repay it.

Each loop has a counterpart in numpy beside it, and a test that both find the same.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from types import FunctionType
from typing import Any, TypeVar

import numpy as np

from curate.base.hashing import MIX_A, MIX_B

# Characters of text from which loading the compiled loops is repaid.
COMPILED_FROM = 20_000_000
_COMPILING = Lock()
_T = TypeVar("_T")
_COMPILED: dict[str, dict[str, Callable[..., Any]]] = {}


def compile_loops(module: str, *loops: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
    """Compile (once, cached on disk) and return the ``loops`` of a module by name; threads wait for the first of them.

    Raises:
        ImportError: numba is not installed.
    """
    with _COMPILING:
        if module not in _COMPILED:
            _COMPILED[module] = _compiled(loops)
        return _COMPILED[module]


def chosen(num_chars: int, is_compiled: bool | None, loops: Callable[[], object], numpy: _T, numba: _T) -> _T:
    """Return ``numba`` where compiled ``loops`` are asked for, or are installed and repaid by ``num_chars``.

    Raises:
        ImportError: compiled loops are asked for and numba is not installed.
    """
    if is_compiled is False or (is_compiled is None and num_chars < COMPILED_FROM):
        return numpy
    try:
        loops()
    except ImportError:
        if is_compiled:
            raise
        return numpy
    return numba


def _compiled(loops: tuple[Callable[..., Any], ...]) -> dict[str, Callable[..., Any]]:
    # Heavy (a second and a compiler), and optional: that is why the loops are compiled here and not by a decorator.
    import numba

    # numba looks the names in a loop up among the globals of its function. Each loop is made anew with globals of its
    # own, in which those before it are the compiled ones; their modules stay as they are.
    compiled: dict[str, Callable[..., Any]] = {}
    for loop in loops:
        assert isinstance(loop, FunctionType)
        function = FunctionType(loop.__code__, {**loop.__globals__, **compiled}, loop.__name__)
        try:
            compiled[loop.__name__] = numba.njit(cache=True, nogil=True)(function)
        except RuntimeError:
            # Neither the installation nor the home folder can be written to, so nothing is kept for the next time.
            compiled[loop.__name__] = numba.njit(nogil=True)(function)
    return compiled


# What loops of more than one module call. numba keeps a compiled loop by the file that it stands in, and does not see
# when one that it calls from another file has changed: these two are fixed by what they compute.


def mix_scalar(hashed: np.uint64) -> np.uint64:
    """Return what `curate.base.hashing.mix` makes of one hash."""
    hashed = (hashed ^ (hashed >> np.uint64(30))) * np.uint64(MIX_A)
    hashed = (hashed ^ (hashed >> np.uint64(27))) * np.uint64(MIX_B)
    return hashed ^ (hashed >> np.uint64(31))


def lowered(eight: np.uint64) -> np.uint64:
    """Return 8 bytes with the letters A to Z made small, all at once (Warren, Hacker's Delight, chapter 6)."""
    sevens = eight & np.uint64(0x7F7F7F7F7F7F7F7F)
    from_a = sevens + np.uint64(0x3F3F3F3F3F3F3F3F)
    past_z = sevens + np.uint64(0x2525252525252525)
    return eight | (((from_a ^ past_z) & ~eight & np.uint64(0x8080808080808080)) >> np.uint64(2))
