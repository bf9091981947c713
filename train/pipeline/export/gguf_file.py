"""A model of transformers written as a .gguf file: its numbers, its vocabulary, its template and its tensors.

llama.cpp computes by names of its own, and reads texts by rules that are compiled into it. Nothing here knows whether
it then computes the same: `gguf.py` has it do so and compares. So what stands here refuses only what such a comparison
cannot see, and what has no name there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from train.base import console
from train.base.errors import TrainError
from train.data.rendering import Renderer

FORMATS = {"f32": "F32", "f16": "F16", "bf16": "BF16", "q8_0": "Q8_0", "q5_1": "Q5_1", "q4_0": "Q4_0"}
"""Number formats of weights that are written here, and their names in the package gguf."""
_INSTEAD = "Use --to merged, and convert_hf_to_gguf.py of llama.cpp."


@dataclass(frozen=True)
class _Architecture:
    """How llama.cpp computes an architecture, where transformers has it otherwise.

    ``is_interleaved``: the rows of queries and keys alternate between the halves of a head. ``norm_offset`` is added to
    the weights of norms. ``is_windowed`` says which layers see a window of tokens only; None where none of them does.
    """

    name: str
    is_interleaved: bool = False
    norm_offset: float = 0.0
    is_windowed: Callable[[int], bool] | None = None


_ARCHITECTURES = {
    "llama": _Architecture("LLAMA", is_interleaved=True),
    "mistral": _Architecture("LLAMA", is_interleaved=True),
    "qwen2": _Architecture("QWEN2"),
    "qwen3": _Architecture("QWEN3"),
    "gemma3_text": _Architecture("GEMMA3", norm_offset=1.0, is_windowed=lambda layer: (layer + 1) % 6 != 0),
    "phi3": _Architecture("PHI3"),
}
"""By the model_type of a config."""

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_WORD_RULES = {
    (("ByteLevel", True),): "gpt-2",
    (("Digits", True), ("ByteLevel", True)): "smollm",
    (("Split", rf"{_CONTRACTIONS}\p{{N}}{_REST}"), ("ByteLevel", False)): "qwen2",
    (("Split", rf"{_CONTRACTIONS}\p{{N}}{{1,3}}{_REST}"), ("ByteLevel", False)): "llama-bpe",
}
"""How a text is cut into words, by the steps of a tokenizer.json, and the name that llama.cpp has for it."""


def write_gguf(path: Path, model: Any, renderer: Renderer, name: str, quant: str) -> None:
    """Write ``model``, merged and in float32, to ``path`` with its weights in the format ``quant`` of `FORMATS`.

    Vectors stay float32, and so does a matrix whose rows the format cannot cut into blocks; it is said. The head, and
    embeddings that are the head too, are kept in 8 bits by the formats below 8. Raises TrainError: E905 cannot-express
    with what llama.cpp has no name for, E936 write-failed.
    """
    import gguf

    config = model.config
    known = _ARCHITECTURES.get(config.model_type)
    if known is None:
        raise _inexpressible(f"no .gguf file is written for the architecture {config.model_type!r}")
    arch = gguf.MODEL_ARCH[known.name]
    writer = gguf.GGUFWriter(None, gguf.MODEL_ARCH_NAMES[arch])
    writer.add_name(name)
    writer.add_file_type(gguf.LlamaFileType[f"{'ALL' if quant == 'f32' else 'MOSTLY'}_{FORMATS[quant]}"])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    _add_all(writer, {f"{writer.arch}.{key}": value for key, value in _numbers(config, known).items()})
    weights = _weights(model, known, gguf.get_tensor_name_map(arch, config.num_hidden_layers))
    _add_all(writer, _vocabulary(renderer, len(weights["token_embd.weight"])))
    formats = {key: _format_of(key, weight.shape, quant, set(weights)) for key, weight in weights.items()}
    if plain := [key for key, weight in weights.items() if weight.ndim > 1 and formats[key] == "F32" != FORMATS[quant]]:
        console.talk(f"kept in float32: {console.join_names(plain)}, whose rows have no blocks of {quant}")
    for key, weight in weights.items():
        kind = gguf.GGMLQuantizationType[formats[key]]
        shape = gguf.quant_shape_to_byte_shape(weight.shape, kind)
        writer.add_tensor_info(key, shape, np.dtype(np.uint8), int(np.prod(shape)), raw_dtype=kind)
    with closing(writer):
        writer.write_header_to_file(path)
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for key, weight in weights.items():
            # One at a time: only what is being written stands in memory twice.
            with np.errstate(over="ignore"):
                numbers = gguf.quants.quantize(weight.detach().cpu().numpy(), gguf.GGMLQuantizationType[formats[key]])
            if not np.isfinite(numbers).all():
                raise _inexpressible(f"{key} holds numbers beyond {quant}", "Use --quant bf16 or f32.")
            writer.write_tensor_data(numbers.view(np.uint8))


def _inexpressible(what: str, hint: str = _INSTEAD) -> TrainError:
    return TrainError("E905 cannot-express", what, hint)


def _add_all(writer: Any, values: Mapping[str, Any]) -> None:
    add = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
    for key, value in values.items():
        add.get(type(value), writer.add_array)(key, value)


def _numbers(config: Any, known: _Architecture) -> dict[str, Any]:
    """Return the numbers of the header that say what is computed, without the architecture's name before them."""
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    whole, windowed = _rope(config)
    window, reads = _window(config, known), config.max_position_embeddings
    if window and known.is_windowed is None and window < reads:
        console.talk(f"the file reads {window:,} tokens and not {reads:,}: llama.cpp has no window of tokens for it")
        window, reads = 0, window
    numbers = {
        "context_length": reads,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size,
        "vocab_size": config.vocab_size,
        "attention.head_count": heads,
        "attention.head_count_kv": getattr(config, "num_key_value_heads", None) or heads,
        "attention.key_length": width,
        "attention.value_length": width,
        "attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        "rope.dimension_count": int(width * whole.get("partial_rotary_factor", 1.0)),
        "rope.freq_base": float(whole["rope_theta"]),
        "attention.sliding_window": window if known.is_windowed else 0,
        "rope.freq_base_swa": float(windowed.get("rope_theta", 0.0)),
    }
    if whole.get("rope_type") == "linear":
        numbers |= {"rope.scaling.type": "linear", "rope.scaling.factor": float(whole["factor"])}
    return {key: value for key, value in numbers.items() if value}


def _rope(config: Any) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return how positions are turned in layers that see all tokens, and in those that see a window.

    Texts are shorter than what these stretch, so no comparison would see a difference.
    """
    rope = config.rope_parameters
    whole, windowed = rope.get("full_attention", rope), rope.get("sliding_attention", {})
    for each, kinds in ((whole, ("default", "linear", "llama3")), (windowed, ("default",))):
        if (kind := each.get("rope_type", "default")) not in kinds:
            raise _inexpressible(f"no .gguf file is written with positions of the kind {kind!r}")
    return whole, windowed


def _window(config: Any, known: _Architecture) -> int:
    """Return how many tokens the layers with a window see, 0 where there is none; raises TrainError as `write_gguf`."""
    window = getattr(config, "sliding_window", None)
    if not window or getattr(config, "use_sliding_window", None) is False:
        return 0
    layers = range(config.num_hidden_layers)
    kinds = getattr(config, "layer_types", None) or ["sliding_attention" for _ in layers]
    windowed = [layer for layer in layers if kinds[layer] == "sliding_attention"]
    if known.is_windowed and windowed != [layer for layer in layers if known.is_windowed(layer)]:
        raise _inexpressible(f"the layers {windowed} see a window of tokens; llama.cpp has others do so")
    return int(window) if windowed else 0


def _weights(model: Any, known: _Architecture, names: Any) -> dict[str, Any]:
    """Return the tensors by the names that llama.cpp has for them, as it computes with them."""
    config = model.config
    weights: dict[str, Any] = {}
    embedding = model.get_input_embeddings().weight
    for name, weight in model.state_dict().items():
        # Where head and embedding are one, llama.cpp takes the embedding for both.
        if weight.data_ptr() == embedding.data_ptr() and weights.get("token_embd.weight") is not None:
            continue
        key = names.get_name(name, (".weight", ".bias"))
        if key is None:
            raise _inexpressible(f"the package gguf has no name for the tensor {name}")
        if known.is_interleaved and (part := name.split(".")[-2]) in ("q_proj", "k_proj"):
            heads = config.num_attention_heads if part == "q_proj" else config.num_key_value_heads
            weights[key] = weight.view(heads, 2, -1, *weight.shape[1:]).transpose(1, 2).reshape(weight.shape)
        else:
            weights[key] = weight + known.norm_offset if known.norm_offset and "norm" in key else weight
    if _rope(config)[0].get("rope_type") == "llama3":
        rotary = model.model.rotary_emb
        width = 2 * len(rotary.inv_freq)
        plain = _rope(config)[0]["rope_theta"] ** -(rotary.inv_freq.new_tensor(range(0, width, 2)) / width)
        weights["rope_freqs.weight"] = plain / rotary.inv_freq
    return weights


def _format_of(key: str, shape: Sequence[int], quant: str, keys: set[str]) -> str:
    if len(shape) == 1:
        return "F32"
    is_head = key == "output.weight" or (key == "token_embd.weight" and "output.weight" not in keys)
    # The probabilities come from it; llama.cpp keeps more of it, too.
    name = "Q8_0" if is_head and quant in ("q5_1", "q4_0") else FORMATS[quant]
    return "F32" if name.startswith("Q") and shape[-1] % 32 else name


def _vocabulary(renderer: Renderer, num_rows: int) -> dict[str, Any]:
    """Return what the header says of the tokenizer and the template; the embedding has ``num_rows`` rows.

    Raises TrainError as `write_gguf` does.
    """
    import gguf

    tokenizer, kinds = renderer.tokenizer, gguf.TokenType
    spec = json.loads(tokenizer.backend_tokenizer.to_str())
    if spec["model"]["type"] != "BPE":
        raise _inexpressible(f"no .gguf file is written for a tokenizer of the type {spec['model']['type']}")
    # Pairs, or texts with a space between the two in files of earlier versions.
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in spec["model"]["merges"]]
    words = [f"[PAD{number}]" for number in range(num_rows)]
    types = [kinds.UNUSED] * num_rows
    for word, number in spec["model"]["vocab"].items():
        words[number], types[number] = word, kinds.NORMAL
    if spec["model"].get("byte_fallback"):
        values, of_bytes = _pieces(spec, words, merges)
        for number in of_bytes:
            types[number] = kinds.BYTE
    else:
        values = {"model": "gpt2", "pre": _word_rules(spec), "merges": merges}
    for token in spec["added_tokens"]:
        words[token["id"]] = token["content"]
        types[token["id"]] = kinds.CONTROL if token["id"] in renderer.encoder.special_ids else kinds.USER_DEFINED
    if (unknown := tokenizer.unk_token_id) is not None and values["model"] == "llama":
        types[unknown] = kinds.UNKNOWN
    stops = dict.fromkeys([tokenizer.eos_token_id, *renderer.stop_ids])
    # Three may be named; of further ones llama.cpp knows some by their texts.
    ends = zip(("eos", "eot", "eom"), [stop for stop in stops if stop is not None], strict=False)
    ids = {**dict(ends), "bos": tokenizer.bos_token_id, "padding": tokenizer.pad_token_id, "unknown": unknown}
    values |= {f"{name}_token_id": number for name, number in ids.items() if number is not None}
    values |= {"tokens": words, "token_type": types, "add_bos_token": renderer.encoder.is_adding_bos}
    return {
        **{f"tokenizer.ggml.{key}": value for key, value in values.items()},
        "tokenizer.chat_template": renderer.served_template,
    }


def _word_rules(spec: Mapping[str, Any]) -> str:
    before = spec["pre_tokenizer"] or {}
    steps = before.get("pretokenizers", [before])
    is_plain = (spec["normalizer"] or {"type": "NFC"})["type"] == "NFC" and not any(
        step.get("add_prefix_space") or step.get("invert") or step.get("behavior", "Isolated") != "Isolated"
        for step in steps
    )
    rules = tuple(
        (step.get("type"), next((step[key] for key in ("use_regex", "individual_digits") if key in step), None)
         or step.get("pattern", {}).get("Regex", False))
        for step in steps
    )  # fmt: skip
    if not is_plain or rules not in _WORD_RULES:
        raise _inexpressible("llama.cpp has no name that is known here for how the tokenizer cuts a text into words")
    return _WORD_RULES[rules]


def _pieces(spec: Mapping[str, Any], words: Sequence[str], merges: Sequence[str]) -> tuple[dict[str, Any], list[int]]:
    """Return how pieces of SentencePiece are joined, and the ids of those that stand for a byte.

    llama.cpp joins the pair whose piece has the highest score, so a score is how early a merge makes the piece.
    """
    ranks: dict[str, int] = {}
    for rank, pair in enumerate(merges):
        ranks.setdefault(pair.replace(" ", ""), rank)
    scores = [float(-ranks.get(word, len(merges))) for word in words]
    steps = [step for part in ("normalizer", "pre_tokenizer") if (whole := spec[part])
             for step in whole.get("normalizers", [whole])]  # fmt: skip
    has_prefix = any(step["type"] == "Prepend" or step.get("prepend_scheme", "never") != "never" for step in steps)
    of_bytes = [number for number, word in enumerate(words) if len(word) == 6 and word.startswith("<0x")]
    return {"model": "llama", "pre": "default", "scores": scores, "add_space_prefix": has_prefix}, of_bytes
