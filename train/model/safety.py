"""Check a base before any library opens it: a folder without pickles, code or damaged weights, or a whole .gguf file.

A base is a download, and the libraries that load it run code that it brings, or fail deep inside with a message about a
buffer. So what is wrong is found here, where nothing is loaded yet. Source of the second format: docs/gguf.md of ggml.
"""

from __future__ import annotations

import importlib.util
import json
import mmap
import struct
import zipfile
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

from train.base.errors import Exit, TrainError

# torch.save, joblib and numpy's object arrays run code when they are loaded.
PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz"})
# Fields that make transformers fetch or run code that is no part of it.
CODE_FIELDS = frozenset(
    {"auto_map", "trust_remote_code", "custom_pipelines", "custom_generate", "kernel_config", "use_kernels"}
)
ATTENTION_FIELDS = frozenset(
    {"attn_implementation", "_attn_implementation", "_attn_implementation_internal", "experts_implementation",
     "_experts_implementation", "_experts_implementation_internal"}
)  # fmt: skip
_PLAIN_NAMES = frozenset(
    {"eager", "sdpa", "flex_attention", "flash_attention_2", "flash_attention_3", "grouped_mm", "batched_mm"}
)
_WIDTHS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64, "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip
_LAYER_FIELDS = frozenset(
    {"num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_decoder_layers", "num_encoder_layers",
     "decoder_layers", "encoder_layers"}
)  # fmt: skip
_SIZE_FIELDS = frozenset(
    {"vocab_size", "hidden_size", "intermediate_size", "moe_intermediate_size", "n_embd", "n_inner", "d_model", "d_ff",
     "ffn_dim", "dim", "head_dim", "num_attention_heads", "num_key_value_heads", "n_head", "num_experts",
     "num_local_experts", "n_routed_experts", "n_positions"}
)  # fmt: skip
_MOST_POSITIONS = 100_000_000
_AGAIN, _COPY_AGAIN = "Copy the model again.", "Copy the file again."
_MOST_HEADER_BYTES = 100 << 20
_MOST_JSON_BYTES = 64 << 20


def check_folder(folder: Path, *, needs_weights: bool = True) -> None:
    """Refuse a model folder with pickles, Python code, code-bearing config fields or damaged weights.

    Raises TrainError "E921 bad-model" that names the file and what is wrong with it. Nothing is loaded.
    """
    try:
        _check(folder, needs_weights)
    except OSError as error:
        raise _bad(
            Path(error.filename) if error.filename else folder, f"cannot be read: {error.strerror}", "Copy it again."
        ) from None


def _check(folder: Path, needs_weights: bool) -> None:
    files = sorted(
        path
        for path in folder.rglob("*")
        if not path.is_dir() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    for path in files:
        if path.suffix.lower() in PICKLE_SUFFIXES or _is_pickle(path):
            raise _bad(
                path,
                "is a pickle, which runs code when it is loaded",
                "Remove it; weights are read from .safetensors only.",
            )
        if path.suffix.lower() in (".py", ".pyc", ".so"):
            raise _bad(
                path,
                "is code; models that bring their own code are never loaded",
                "Use a model that transformers knows.",
            )
    for path in files:
        if path.name in ("tokenizer.json", "vocab.json") or path.suffix != ".json":
            continue
        value = _json(path)
        _check_fields(value, path)
        if path.name.endswith(".safetensors.index.json"):
            _check_index(value, path)
    weights = [path for path in files if path.suffix == ".safetensors"]
    if needs_weights and not weights:
        raise _bad(folder, "has no .safetensors weights", "Name a folder in Hugging Face format.")
    tensors = {name: entry for path in weights for name, entry in _tensors(check_safetensors(path)).items()}
    if needs_weights:
        _check_sizes(_json(folder / "config.json"), tensors, folder / "config.json")


def check_safetensors(path: Path) -> dict[str, Any]:
    """Return the header of a safetensors file after its offsets, sizes and length proved sound.

    Raises TrainError "E921 bad-model" for a header that is too long, not JSON, or that does not describe the bytes.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(_MOST_HEADER_BYTES, size - 8):
            raise _damaged(path, f"its header claims {length:,} bytes, the file has {size:,}")
        raw = file.read(length)
    try:
        header = json.loads(raw)
    except (ValueError, RecursionError):
        raise _damaged(path, "its header is not JSON") from None
    if not isinstance(header, dict):
        raise _damaged(path, "its header is not an object")
    position = 0
    for name, entry in sorted(_tensors(header).items(), key=lambda item: _offsets(path, *item)):
        start, end = _offsets(path, name, entry)
        dtype, shape = entry.get("dtype"), entry.get("shape")
        is_known = isinstance(dtype, str) and dtype in _WIDTHS
        if not is_known or not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
            raise _damaged(path, f"tensor {name!r} has no known type and shape")
        if name.endswith(".weight") and not dtype.startswith(("F", "BF")):
            raise _damaged(path, f"the weight {name!r} holds {dtype}, which are no floating-point numbers")
        if start != position or (end - start) * 8 != prod(shape) * _WIDTHS[dtype]:
            raise _damaged(path, f"tensor {name!r} overlaps, leaves a gap, or has another size than its shape")
        position = end
    if 8 + length + position != size:
        raise _damaged(path, f"it should have {8 + length + position:,} bytes and has {size:,} (cut or appended to)")
    return header


def _tensors(header: dict[str, Any]) -> dict[str, Any]:
    return {name: entry for name, entry in header.items() if name != "__metadata__"}


def _check_sizes(config: Any, tensors: dict[str, Any], path: Path) -> None:
    # A model is built before it is filled: a million layers, or a matrix of a billion rows, would take all time and
    # memory for it. So what the config asks for must be in the weights.
    largest = max((prod(entry["shape"]) for entry in tensors.values()), default=0)
    for key, value in _pairs(config):
        if type(value) is not int:
            continue
        if key in _LAYER_FIELDS and value > len(tensors):
            raise _bad(path, f"asks for {value:,} layers ({key}), the weights have {len(tensors):,} tensors", _AGAIN)
        if key in _SIZE_FIELDS and value > largest:
            raise _bad(path, f"asks for a size of {value:,} ({key}), no tensor has over {largest:,} numbers", _AGAIN)
        if key == "max_position_embeddings" and not 1 <= value <= _MOST_POSITIONS:
            raise _bad(path, f"has {value:,} as max_position_embeddings", _AGAIN)


def _offsets(path: Path, name: str, entry: Any) -> tuple[int, int]:
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    if not (isinstance(offsets, list) and len(offsets) == 2 and all(type(n) is int and n >= 0 for n in offsets)):
        raise _damaged(path, f"tensor {name!r} has no offsets")
    return offsets[0], offsets[1]


def _check_fields(value: Any, path: Path) -> None:
    for key, inner in _pairs(value):
        if key in CODE_FIELDS and inner not in (None, False, {}, []):
            raise _bad(
                path,
                f"names code to run ({key})",
                "Use a model that transformers knows; code that a model brings is never run.",
            )
        if key in ATTENTION_FIELDS and inner is not None and (not isinstance(inner, str) or inner not in _PLAIN_NAMES):
            raise _bad(path, f"names a kernel to fetch and run ({key})", "Remove the field.")


def _check_index(value: Any, path: Path) -> None:
    # The parts that an index names are plain file names beside it.
    parts = value.get("weight_map") if isinstance(value, dict) else None
    if not isinstance(parts, dict):
        raise _bad(path, "has no weight_map", _AGAIN)
    for part in set(map(str, parts.values())):
        if Path(part).name != part or not part.endswith(".safetensors") or not (path.parent / part).is_file():
            raise _bad(path, f"names {part[:120]!r}, which is not a weights file beside it", _AGAIN)


def _pairs(value: Any) -> Iterator[tuple[str, Any]]:
    waiting = [value]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield from node.items()
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node


def _json(path: Path) -> Any:
    if path.stat().st_size > _MOST_JSON_BYTES:
        raise _bad(path, f"is over {_MOST_JSON_BYTES:,} bytes", _AGAIN)
    try:
        return json.loads(path.read_bytes(), parse_constant=_finite)
    except (ValueError, RecursionError):
        raise _bad(path, "is not JSON", _AGAIN) from None


def _finite(constant: str) -> float:
    # Infinity stands in configs that are in use (time_step_limit of Mamba); NaN makes every result one.
    if constant == "NaN":
        raise ValueError("NaN is no number")
    return float(constant)


def _is_pickle(path: Path) -> bool:
    # Protocol 2 to 5 pickles, and the zip archives of torch.save that hold one, whatever their name.
    if not path.is_file():
        raise _bad(path, "is not a regular file", "Remove it.")
    with path.open("rb") as file:
        head = file.read(4)
        if head == b"PK\x03\x04" and zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return any(name.endswith(".pkl") for name in archive.namelist())
        file.seek(max(0, path.stat().st_size - 1))
        # A safetensors header of 128 + n * 256 bytes may begin like one, but no such file ends in STOP by chance alone.
        return (
            path.suffix != ".safetensors"
            and head[:1] == b"\x80"
            and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")
            and file.read(1) == b"."
        )


def _bad(path: Path, what: str, hint: str) -> TrainError:
    return TrainError("E921 bad-model", f"{path}: {what}", hint)


def _damaged(path: Path, what: str) -> TrainError:
    return TrainError("E921 bad-model", f"{path}: damaged weights: {what}", _COPY_AGAIN)


_VERSIONS = (2, 3)
_GGUF_FORMS = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip
"""How struct reads a value, by its type."""
_STRING, _ARRAY = 8, 9
_MOST_DIMS = 8
_MOST_NUMBERS = 4096
"""Of a list in a header that is taken; a model has one number a layer, and its vocabulary a million."""


def check_gguf(path: Path) -> dict[str, Any]:
    """Return what the header of a GGUF file says, after the file proved to be one that is neither cut nor damaged.

    The values by their names; of a list of texts, and of one of over 4,096 numbers, only how many there are.

    Raises TrainError "E921 bad-model" that names the file and what is wrong with it, or "E940 missing-extra" where the
    package gguf is not there, which knows how many bytes each format of a tensor takes.
    """
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise _bad(path, "not a GGUF file", _COPY_AGAIN)
        if importlib.util.find_spec("gguf") is None:
            message = "a .gguf base needs the package gguf"
            raise TrainError("E940 missing-extra", message, "pip install gguf", exit_code=Exit.MISSING)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            header = _Header(data)
            fault = _fault_in(data, header)
    if fault:
        raise _bad(path, f"a damaged GGUF file: {fault}", _COPY_AGAIN)
    return header.values


def _fault_in(data: mmap.mmap, header: _Header) -> str:
    """Read the header, and return what is wrong with the bytes of a file, "" where nothing is."""
    from gguf.constants import GGML_QUANT_SIZES

    try:
        end = header.read({int(kind): sizes for kind, sizes in GGML_QUANT_SIZES.items()})
    except struct.error:
        return f"it ends within its header, after {len(data):,} bytes"
    except ValueError as error:
        return str(error)
    return f"it should have {end:,} bytes and has {len(data):,} (cut)" if end > len(data) else ""


class _Header:
    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self.offset = 4
        self.values: dict[str, Any] = {}

    def read(self, formats: Mapping[int, tuple[int, int]]) -> int:
        """Return where the last tensor ends; ``formats`` has the numbers and bytes of a block, by the tensor's type.

        Raises ValueError for what no writer writes, and struct.error where the file ends before its header does.
        """
        version = self._number("I")
        if version not in _VERSIONS:
            raise ValueError(f"it is of version {version}, and 2 and 3 are read")
        num_tensors, num_values = self._number("Q"), self._number("Q")
        for _ in range(num_values):
            name = self._text().decode("utf-8", "replace")
            self.values[name] = self._value(self._number("I"))
        ends = [self._tensor(formats) for _ in range(num_tensors)]
        alignment = self.values.get("general.alignment", 32)
        if type(alignment) is not int or alignment <= 0 or alignment & (alignment - 1):
            raise ValueError(f"its alignment is {str(alignment)[:40]}, no power of two")
        begin = -(-self.offset // alignment) * alignment
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

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._text().decode("utf-8", "replace")
        if kind in _GGUF_FORMS:
            return self._number(_GGUF_FORMS[kind])
        if kind != _ARRAY:
            raise ValueError(f"it has a value of the type {kind}, which is not known")
        inner, count = self._number("I"), self._number("Q")
        if inner == _STRING:
            for _ in range(count):
                self._text()
        elif inner not in _GGUF_FORMS:
            raise ValueError(f"it has a list of values of the type {inner}, which is not known")
        elif count <= _MOST_NUMBERS:
            return [self._number(_GGUF_FORMS[inner]) for _ in range(count)]
        else:
            self._pass(struct.calcsize(_GGUF_FORMS[inner]) * count)
        return count

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
