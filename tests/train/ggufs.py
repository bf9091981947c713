"""The tiny base as a .gguf file of float32, with whatever a test wants to be otherwise in its header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
from safetensors.torch import load_file

TINY = Path(__file__).resolve().parents[2] / "samples" / "tiny-base"


def write_gguf(path: Path, *, template: str | None = "", extra: Mapping[str, Any] | None = None) -> Path:
    """Write the file: with its own template, or another, or none; ``extra`` are numbers of the header, over its own."""
    config = json.loads((TINY / "config.json").read_bytes())
    tokenizer = json.loads((TINY / "tokenizer.json").read_bytes())
    numbers = {
        "qwen3.context_length": config["max_position_embeddings"],
        "qwen3.embedding_length": config["hidden_size"],
        "qwen3.block_count": config["num_hidden_layers"],
        "qwen3.feed_forward_length": config["intermediate_size"],
        "qwen3.attention.head_count": config["num_attention_heads"],
        "qwen3.attention.head_count_kv": config["num_key_value_heads"],
        "qwen3.attention.key_length": config["head_dim"],
        "qwen3.attention.value_length": config["head_dim"],
        "qwen3.rope.freq_base": config["rope_parameters"]["rope_theta"],
        "qwen3.attention.layer_norm_rms_epsilon": config["rms_norm_eps"],
        "tokenizer.ggml.eos_token_id": config["eos_token_id"],
        "tokenizer.ggml.padding_token_id": config["pad_token_id"],
    } | dict(extra or {})
    writer = gguf.GGUFWriter(str(path), "qwen3")
    for name, number in numbers.items():
        (writer.add_float32 if isinstance(number, float) else writer.add_uint32)(name, number)
    words = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].__getitem__)
    control = {token["id"] for token in tokenizer["added_tokens"]}
    writer.add_tokenizer_model("gpt2")
    # Digits one by one, then the words of GPT-2: as tokenizer.json has it.
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(words)
    writer.add_token_types(
        [gguf.TokenType.CONTROL if n in control else gguf.TokenType.NORMAL for n in range(len(words))]
    )
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    writer.add_add_bos_token(False)
    if template is not None:
        writer.add_chat_template(template or (TINY / "chat_template.jinja").read_text(encoding="utf-8"))
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN3, config["num_hidden_layers"])
    for name, tensor in load_file(TINY / "model.safetensors").items():
        writer.add_tensor(names.get_name(name, (".weight",)), tensor.float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
