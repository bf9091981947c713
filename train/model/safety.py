"""Check a base before it is loaded: a folder without pickles, code or damaged weights, or a whole .gguf file.

A base is a download, and the libraries that load it run code that it brings, or fail deep inside with a message about a
buffer. So what is wrong is found here, where nothing is loaded yet.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

from train.base.errors import TrainError, require_extra

# torch.save, joblib and numpy's object arrays run code when they are loaded.
PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz"})
# Fields that make transformers fetch or run code that is no part of it.
CODE_FIELDS = frozenset(
    {"auto_map", "trust_remote_code", "custom_pipelines", "custom_generate", "kernel_config", "use_kernels"}
)
_KERNEL_FIELDS = (
    "attn_implementation", "attn_implementation_internal", "experts_implementation", "experts_implementation_internal",
)  # fmt: skip
_PLAIN_NAMES = frozenset(
    {"eager", "sdpa", "flex_attention", "flash_attention_2", "flash_attention_3", "grouped_mm", "batched_mm"}
)
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
_NO_CODE = "Use a model that transformers knows; code that a model brings is never run."
_MOST_JSON_BYTES, _MOST_NUMBERS = 64 << 20, 4096


def check_folder(folder: Path, *, needs_weights: bool = True) -> None:
    """Refuse a model folder with pickles, Python code, code-bearing config fields or damaged weights.

    Raises TrainError "E921 bad-model" that names the file and what is wrong with it. Nothing is loaded.
    """
    try:
        files = [
            path
            for path in sorted(folder.rglob("*"))
            if not path.is_dir() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        ]
        for path in files:
            _refuse_code(path)
        for path in files:
            if path.suffix == ".json" and path.name not in ("tokenizer.json", "vocab.json"):
                _check_config(path)
        headers = [check_safetensors(path) for path in files if path.suffix == ".safetensors"]
        if needs_weights and not headers:
            raise _bad(folder, "has no .safetensors weights", "Name a folder in Hugging Face format.")
        if needs_weights:
            _check_sizes(folder / "config.json", [tensor["shape"] for header in headers for tensor in header.values()])
    except OSError as error:
        path = Path(error.filename) if error.filename else folder
        raise _bad(path, f"cannot be read: {error.strerror}", "Copy it again.") from None


def _refuse_code(path: Path) -> None:
    if not path.is_file():
        raise _bad(path, "is not a regular file", "Remove it.")
    if path.suffix.lower() in (".py", ".pyc", ".so"):
        raise _bad(path, "is code; models that bring their own code are never loaded", _NO_CODE)
    with path.open("rb") as file:
        head = file.read(4)
        file.seek(max(0, path.stat().st_size - 1))
        # Protocols 2 to 5. A safetensors header of 128 + n * 256 bytes may begin like one.
        is_pickle = path.suffix != ".safetensors" and head[:1] == b"\x80" and head[1:2] in b"\2\3\4\5"
        is_pickle = is_pickle and file.read(1) == b"."
    if head == b"PK\x03\x04" and zipfile.is_zipfile(path):
        # An archive of torch.save, whatever its name.
        with zipfile.ZipFile(path) as archive:
            is_pickle = any(name.endswith(".pkl") for name in archive.namelist())
    if is_pickle or path.suffix.lower() in PICKLE_SUFFIXES:
        raise _bad(path, "is a pickle, which runs code when it is loaded",
                   "Remove it; weights are read from .safetensors only.")  # fmt: skip


def check_safetensors(path: Path) -> dict[str, Any]:
    """Return dtype, shape and data_offsets of each tensor of a safetensors file whose header describes its bytes.

    Raises TrainError "E921 bad-model".
    """
    from safetensors import SafetensorError, safe_open

    try:
        # It proves that the header is bounded, and that the tensors cover the file without a gap; nothing is read.
        with safe_open(path, "np"), path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    except SafetensorError as error:
        raise _bad(path, f"damaged weights: {error}") from None
    header.pop("__metadata__", None)
    for name, tensor in header.items():
        if name.endswith(".weight") and not tensor["dtype"].startswith(("F", "BF")):
            raise _bad(path, f"the weight {name!r} holds {tensor['dtype']}, which are no floating-point numbers")
    return dict(header)


def _check_sizes(path: Path, shapes: list[list[int]]) -> None:
    # A model is built before it is filled: a million layers, or a matrix of a billion rows, would take all time and
    # memory for it. So what the config asks for must be in the weights.
    largest = max(map(prod, shapes), default=0)
    for key, value in _pairs(_json(path)):
        if type(value) is not int:
            continue
        if key in _LAYER_FIELDS and value > len(shapes):
            raise _bad(path, f"asks for {value:,} layers ({key}), the weights have {len(shapes):,} tensors")
        if key in _SIZE_FIELDS and value > largest:
            raise _bad(path, f"asks for a size of {value:,} ({key}), no tensor has over {largest:,} numbers")
        if key == "max_position_embeddings" and not 1 <= value <= _MOST_POSITIONS:
            raise _bad(path, f"has {value:,} as max_position_embeddings")


def _check_config(path: Path) -> None:
    value = _json(path)
    for key, inner in _pairs(value):
        if key in CODE_FIELDS and inner not in (None, False, {}, []):
            raise _bad(path, f"names code to run ({key})", _NO_CODE)
        if key.endswith(_KERNEL_FIELDS) and inner is not None and inner not in list(_PLAIN_NAMES):
            raise _bad(path, f"names a kernel to fetch and run ({key})", "Remove the field.")
    if not path.name.endswith(".safetensors.index.json"):
        return
    parts = value.get("weight_map") if isinstance(value, dict) else None
    if not isinstance(parts, dict):
        raise _bad(path, "has no weight_map")
    for part in map(str, parts.values()):
        # Plain file names beside it.
        if Path(part).name != part or not part.endswith(".safetensors") or not (path.parent / part).is_file():
            raise _bad(path, f"names {part[:120]!r}, which is not a weights file beside it")


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
        raise _bad(path, f"is over {_MOST_JSON_BYTES:,} bytes")
    try:
        return json.loads(path.read_bytes(), parse_constant=_finite)
    except (ValueError, RecursionError):
        raise _bad(path, "is not JSON") from None


def _finite(constant: str) -> float:
    # Infinity stands in configs that are in use (time_step_limit of Mamba); NaN makes every result one.
    if constant == "NaN":
        raise ValueError("NaN is no number")
    return float(constant)


def _bad(path: Path, what: str, hint: str = "Copy the model again.") -> TrainError:
    return TrainError("E921 bad-model", f"{path}: {what}", hint)


def check_gguf(path: Path) -> dict[str, Any]:
    """Return the values in the header of a GGUF file by name, after all its tensors proved to lie within the file.

    Of a list of texts, and of one of over 4,096 numbers, it is only their number. Raises TrainError "E921 bad-model"
    that names the file and what is wrong with it, or "E940 missing-extra" without the package gguf.
    """
    require_extra("gguf", "a .gguf base", "gguf")
    import numpy as np
    from gguf import GGUFReader, GGUFValueType

    class BoundedReader(GGUFReader):
        # What lies beyond the end is an empty array to it, so it would loop over a count of 2^60 that a file claims.
        def _get(self, offset: int, dtype: Any, count: int = 1, override_order: Any = None) -> Any:
            end, size = int(offset) + np.dtype(dtype).itemsize * int(count), len(self.data)
            if end > size:
                raise ValueError(f"it should have {end:,} bytes or more and has {size:,} (cut)")
            return super()._get(offset, dtype, count, override_order)

    try:
        with np.errstate(all="raise"):
            fields = BoundedReader(path).fields
    except (ValueError, LookupError, ArithmeticError, RecursionError) as error:
        raise _bad(path, f"a damaged GGUF file: {str(error)[:200]}", "Copy the file again.") from None
    is_long = {
        name: field.types[0] == GGUFValueType.ARRAY
        and (field.types[-1] == GGUFValueType.STRING or len(field.data) > _MOST_NUMBERS)
        for name, field in fields.items()
    }
    return {name: len(field.data) if is_long[name] else field.contents() for name, field in fields.items()}
