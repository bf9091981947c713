"""Check a .gguf file before any library opens it: its header is whole, and its tensors lie in the file.

Source of the format: docs/gguf.md of ggml. Libraries read a cut file to its end and then report a buffer of theirs.
"""

from __future__ import annotations

import importlib.util
import mmap
import struct
from collections.abc import Mapping
from math import prod
from pathlib import Path

from train.base.errors import Exit, TrainError

_AGAIN = "copy the file again"
_VERSIONS = (2, 3)
_WIDTHS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of a value, by its type."""
_STRING, _ARRAY, _UINT32 = 8, 9, 4
_MOST_DIMS = 8


def check_gguf(path: Path) -> None:
    """Refuse a file that is no GGUF, or one that is cut or damaged.

    Raises TrainError "E921 bad-model" that names the file and what is wrong with it, or "E940 missing-extra" where the
    package gguf is not there, which knows how many bytes each format of a tensor takes.
    """
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise TrainError("E921 bad-model", f"{path}: not a GGUF file", _AGAIN)
        if importlib.util.find_spec("gguf") is None:
            message = "a .gguf base needs the package gguf"
            raise TrainError("E940 missing-extra", message, "pip install gguf", exit_code=Exit.MISSING)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            fault = _fault_in(data)
    if fault:
        raise TrainError("E921 bad-model", f"{path}: a damaged GGUF file: {fault}", _AGAIN)


def _fault_in(data: mmap.mmap) -> str:
    """Return what is wrong with the bytes of a file, "" where nothing is."""
    from gguf.constants import GGML_QUANT_SIZES

    try:
        end = _Header(data).read({int(kind): sizes for kind, sizes in GGML_QUANT_SIZES.items()})
    except struct.error:
        return f"it ends within its header, after {len(data):,} bytes"
    except ValueError as error:
        return str(error)
    return f"it should have {end:,} bytes and has {len(data):,} (cut)" if end > len(data) else ""


class _Header:
    """The bytes of a file, and how far they were read."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self.offset = 4
        self.alignment = 32

    def read(self, formats: Mapping[int, tuple[int, int]]) -> int:
        """Return where the last tensor ends; ``formats`` has the numbers and bytes of a block, by the tensor's type.

        Raises ValueError for what no writer writes, and struct.error where the file ends before its header does.
        """
        version = self._number("I")
        if version not in _VERSIONS:
            raise ValueError(f"it is of version {version}, and 2 and 3 are read")
        num_tensors, num_values = self._number("Q"), self._number("Q")
        for _ in range(num_values):
            name, kind = self._text(), self._number("I")
            if name == b"general.alignment" and kind == _UINT32:
                self.alignment = struct.unpack_from("<I", self.data, self.offset)[0]
            self._skip(kind)
        ends = [self._tensor(formats) for _ in range(num_tensors)]
        if self.alignment == 0 or self.alignment & (self.alignment - 1):
            raise ValueError(f"its alignment is {self.alignment}, no power of two")
        begin = -(-self.offset // self.alignment) * self.alignment
        return begin + max(ends, default=0)

    def _tensor(self, formats: Mapping[int, tuple[int, int]]) -> int:
        """Pass over the description of a tensor, and return where its data ends, counted from the first tensor's."""
        name, num_dims = self._text(), self._number("I")
        if num_dims > _MOST_DIMS:
            raise ValueError(f"the tensor {_printable(name)} has {num_dims:,} dimensions")
        shape = [self._number("Q") for _ in range(num_dims)]
        kind, offset = self._number("I"), self._number("Q")
        if kind not in formats:
            raise ValueError(f"the tensor {_printable(name)} is of a format {kind} that is not known")
        num_numbers, num_bytes = formats[kind]
        return offset + prod(shape) // num_numbers * num_bytes

    def _skip(self, kind: int) -> None:
        """Pass over a value."""
        if kind == _STRING:
            self._text()
        elif kind == _ARRAY:
            inner, count = self._number("I"), self._number("Q")
            if inner in _WIDTHS:
                self._pass(_WIDTHS[inner] * count)
            elif inner == _STRING:
                for _ in range(count):
                    self._text()
            else:
                raise ValueError(f"it has a list of values of the type {inner}, which is not known")
        elif kind in _WIDTHS:
            self._pass(_WIDTHS[kind])
        else:
            raise ValueError(f"it has a value of the type {kind}, which is not known")

    def _text(self) -> bytes:
        length = self._number("Q")
        start = self.offset
        self._pass(length)
        return self.data[start : self.offset]

    def _number(self, form: str) -> int:
        number: int = struct.unpack_from(f"<{form}", self.data, self.offset)[0]
        self.offset += struct.calcsize(form)
        return number

    def _pass(self, num_bytes: int) -> None:
        if num_bytes > len(self.data) - self.offset:
            raise struct.error
        self.offset += num_bytes


def _printable(name: bytes) -> str:
    return repr(name[:80].decode("utf-8", "replace"))
