"""Compiled loops are chosen for much text, or on request; without numba there are those of numpy."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

from curate.similarity.compiled import COMPILED_FROM

ROOMS = ("curate.similarity.dedupe.kernels", "curate.similarity.leaks.kernels")


@pytest.mark.parametrize("room", ROOMS)
def test_the_compiled_loops_are_for_much_text_or_on_request(room: str) -> None:
    pytest.importorskip("numba", reason="the extra `fast` is not installed")
    kernels = import_module(room)
    compiled = kernels.kernels_for(0, is_compiled=True)
    assert compiled != kernels.NUMPY
    assert kernels.kernels_for(COMPILED_FROM - 1) == kernels.NUMPY
    assert kernels.kernels_for(COMPILED_FROM) == compiled
    assert kernels.kernels_for(10 * COMPILED_FROM, is_compiled=False) == kernels.NUMPY


_WITHOUT = """
import sys
sys.modules["numba"] = None
from curate.similarity.compiled import COMPILED_FROM
from {room} import NUMPY, kernels_for
assert kernels_for(COMPILED_FROM) == NUMPY
try:
    kernels_for(0, is_compiled=True)
except ImportError:
    print("refused")
"""


@pytest.mark.parametrize("room", ROOMS)
def test_without_numba_there_is_numpy(room: str) -> None:
    code = _WITHOUT.format(room=room)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "refused\n"
