"""A model written as a .gguf file, by the names and numbers that llama.cpp computes with.

llama.cpp reads texts by rules that are compiled into it, so a file is proved after it is written, by
`train.pipeline.export`. Refused here is what such a comparison cannot see, and what has no name there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from train.base import console
from train.base.errors import TrainError
from train.data.rendering import Renderer

FORMATS = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "q8_0": "Q8_0"}
"""Number formats of weights that are written here, and their names in the package gguf."""


_ARCHITECTURES = {
    "llama": "LLAMA", "mistral": "LLAMA", "qwen2": "QWEN2", "qwen3": "QWEN3", "gemma3_text": "GEMMA3", "phi3": "PHI3",
}  # fmt: skip
"""The names in the package gguf by the model_type of a config."""

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_WORD_RULES = {
    ("ByteLevel",): "gpt-2",
    ("Digits", "ByteLevel"): "smollm",
    (rf"{_CONTRACTIONS}\p{{N}}{_REST}", "ByteLevel"): "qwen2",
    (rf"{_CONTRACTIONS}\p{{N}}{{1,3}}{_REST}", "ByteLevel"): "llama-bpe",
}
"""How a text is cut into words, by the steps of a tokenizer.json, and the name that llama.cpp has for it."""


def _inexpressible(message: str) -> TrainError:
    return TrainError("E905 cannot-express", message, "Use --to merged, and convert_hf_to_gguf.py of llama.cpp.")


def write_gguf(path: Path, model: Any, renderer: Renderer, name: str, dtype: str) -> None:
    """Write ``model``, merged and in float32, to ``path`` with its weights in the format ``dtype`` of `FORMATS`.

    Vectors stay float32, and so does a matrix whose rows the format cannot cut into blocks. Raises TrainError:
    E905 cannot-express with what llama.cpp has no name for, E936 write-failed.
    """
    import gguf

    config = model.config
    if config.model_type not in _ARCHITECTURES:
        raise _inexpressible(f"no .gguf file is written for the architecture {config.model_type!r}")
    arch = gguf.MODEL_ARCH[_ARCHITECTURES[config.model_type]]
    weights = _weights(model, gguf.get_tensor_name_map(arch, config.num_hidden_layers))
    # Weights wait in a temporary file, so that only one stands in memory twice.
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[arch], use_temp_file=True)
    with closing(writer):
        writer.add_name(name)
        writer.add_file_type(gguf.LlamaFileType[f"{'ALL' if dtype == 'float32' else 'MOSTLY'}_{FORMATS[dtype]}"])
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        values = {f"{writer.arch}.{key}": value for key, value in _numbers(config).items()}
        # By itself the package writes numbers with a sign, which llama.cpp refuses.
        kinds = {bool: "BOOL", int: "UINT32", float: "FLOAT32", str: "STRING"}
        for key, value in (values | _vocabulary(renderer, len(weights["token_embd.weight"]))).items():
            writer.add_key_value(key, value, gguf.GGUFValueType[kinds.get(type(value), "ARRAY")])
        for key, weight in weights.items():
            is_plain = weight.ndim == 1 or (dtype == "q8_0" and weight.shape[-1] % 32)
            kind = gguf.GGMLQuantizationType["F32" if is_plain else FORMATS[dtype]]
            numbers = gguf.quantize(weight.detach().cpu().numpy(), kind)
            writer.add_tensor(key, numbers, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()


def _numbers(config: Any) -> dict[str, Any]:
    """Return the numbers of the header that say what is computed, without the architecture's name before them."""
    heads, reads = config.num_attention_heads, config.max_position_embeddings
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    # Texts are shorter than what these stretch, so no comparison would see a difference.
    rope = config.rope_parameters
    whole, windowed = rope.get("full_attention", rope), rope.get("sliding_attention", {})
    if odd := {whole.get("rope_type"), windowed.get("rope_type")} - {None, "default", "llama3"}:
        raise _inexpressible(f"no .gguf file is written with positions of the kind {odd.pop()!r}")
    is_gemma, window = _ARCHITECTURES[config.model_type] == "GEMMA3", getattr(config, "sliding_window", None) or 0
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"]
    if not is_gemma and "sliding_attention" in kinds and 0 < window < reads:
        console.info(f"the file reads {window:,} tokens and not {reads:,}: llama.cpp has no window of tokens for it")
        reads = window
    numbers = {
        "context_length": reads,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": heads,
        "attention.head_count_kv": getattr(config, "num_key_value_heads", None) or heads,
        "attention.key_length": width,
        "attention.value_length": width,
        "attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        "attention.sliding_window": window if is_gemma else 0,
        "rope.dimension_count": int(width * whole.get("partial_rotary_factor", 1.0)),
        "rope.freq_base": float(whole["rope_theta"]),
        "rope.freq_base_swa": float(windowed.get("rope_theta", 0.0)),
    }
    return {key: value for key, value in numbers.items() if value}


def _weights(model: Any, names: Any) -> dict[str, Any]:
    """Return the tensors by the names that llama.cpp has for them, as it computes with them."""
    config, weights = model.config, dict[str, Any]()
    arch, embedding = _ARCHITECTURES[config.model_type], model.get_input_embeddings().weight
    for name, tensor in model.state_dict().items():
        # Where head and embedding are one, llama.cpp takes the embedding for both.
        if tensor.data_ptr() == embedding.data_ptr() and "token_embd.weight" in weights:
            continue
        key, weight = names.get_name(name, (".weight", ".bias")), tensor
        if key is None:
            raise _inexpressible(f"the package gguf has no name for the tensor {name}")
        if arch == "GEMMA3" and "norm" in key:
            weight = tensor + 1.0
        if arch == "LLAMA" and (part := name.split(".")[-2]) in ("q_proj", "k_proj"):
            # The rows of queries and keys alternate between the halves of a head.
            heads = config.num_attention_heads if part == "q_proj" else config.num_key_value_heads
            weight = tensor.view(heads, 2, -1, *tensor.shape[1:]).transpose(1, 2).reshape(tensor.shape)
        weights[key] = weight
    rope = config.rope_parameters
    if rope.get("rope_type") == "llama3":
        turns = model.model.rotary_emb.inv_freq
        plain = rope["rope_theta"] ** -(turns.new_tensor(range(len(turns))) / len(turns))
        weights["rope_freqs.weight"] = plain / turns
    return weights


def _vocabulary(renderer: Renderer, num_rows: int) -> dict[str, Any]:
    """Return what the header says of the tokenizer and the template; the embedding has ``num_rows`` rows.

    Raises TrainError as `write_gguf` does.
    """
    import gguf

    tokenizer, kinds = renderer.tokenizer, gguf.TokenType
    spec = json.loads(tokenizer.backend_tokenizer.to_str())
    core = spec["model"]
    if core["type"] != "BPE":
        raise _inexpressible(f"no .gguf file is written for a tokenizer of the type {core['type']}")
    # Pairs, or texts with a space between the two in files of earlier versions.
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in core["merges"]]
    is_pieces, unknown = bool(core.get("byte_fallback")), tokenizer.unk_token_id
    words, types = [f"[PAD{number}]" for number in range(num_rows)], [kinds.UNUSED] * num_rows
    for word, number in core["vocab"].items():
        is_byte = is_pieces and re.fullmatch("<0x..>", word)
        words[number], types[number] = word, kinds.BYTE if is_byte else kinds.NORMAL
    for token in spec["added_tokens"]:
        words[token["id"]] = token["content"]
        types[token["id"]] = kinds.CONTROL if token["id"] in renderer.encoder.special_ids else kinds.USER_DEFINED
    if is_pieces and unknown is not None:
        types[unknown] = kinds.UNKNOWN
    stops = dict.fromkeys([tokenizer.eos_token_id, *renderer.stop_ids])
    # Three may be named; of further ones llama.cpp knows some by their texts.
    ends = zip(("eos", "eot", "eom"), [stop for stop in stops if stop is not None], strict=False)
    ids = {**dict(ends), "bos": tokenizer.bos_token_id, "padding": tokenizer.pad_token_id, "unknown": unknown}
    values = {
        **(_pieces(spec, words, merges) if is_pieces else {"model": "gpt2", "pre": _rule(spec), "merges": merges}),
        **{f"{name}_token_id": number for name, number in ids.items() if number is not None},
        "tokens": words, "token_type": types, "add_bos_token": renderer.encoder.is_adding_bos,
    }  # fmt: skip
    named = {f"tokenizer.ggml.{key}": value for key, value in values.items()}
    return {**named, "tokenizer.chat_template": renderer.served_template}


def _rule(spec: Mapping[str, Any]) -> str:
    # Returns the name of how a text is cut into words; what else a step says is seen in the tokens of a text.
    before = spec["pre_tokenizer"] or {}
    steps = before.get("pretokenizers", [before])
    rule = _WORD_RULES.get(tuple(step.get("pattern", {}).get("Regex") or step.get("type") for step in steps))
    if rule is None:
        raise _inexpressible("llama.cpp has no name that is known here for how the tokenizer cuts a text into words")
    return rule


def _pieces(spec: Mapping[str, Any], words: Sequence[str], merges: Sequence[str]) -> dict[str, Any]:
    # Returns how pieces of SentencePiece are joined. llama.cpp joins the pair whose piece has the highest score, so a
    # score is how early a merge makes the piece.
    ranks = {pair.replace(" ", ""): rank for rank, pair in reversed([*enumerate(merges)])}
    steps = json.dumps([spec["normalizer"], spec["pre_tokenizer"]])
    has_prefix = '"Prepend"' in steps or '"prepend_scheme": "first"' in steps or '"prepend_scheme": "always"' in steps
    scores = [float(-ranks.get(word, len(merges))) for word in words]
    return {"model": "llama", "pre": "default", "scores": scores, "add_space_prefix": has_prefix}
