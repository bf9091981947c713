"""Base models so small that a run on them takes a second: a token is a byte, and the weights are drawn by a seed.

They are written file by file, so that nothing that makes them costs a test the import of torch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

TURNS = (
    "{% for m in messages %}{{ '<turn>' + m.role + '\n' + m.content + '<end>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<turn>assistant\n' }}{% endif %}"
)
SPECIAL = ["<pad>", "<turn>", "<end>", "<bos>"]
"""Their ids are their places; the third ends a turn."""
_WIDTH, _INNER, _HEADS, _SIZE = 16, 32, 2, 320


def make_base(folder: Path, template: str = TURNS, *, adds_bos: bool = False, seed: int = 0) -> Path:
    """Write a Llama of one layer, whose chat template is ``template``, as a folder that `transformers` loads."""
    folder.mkdir(parents=True)
    _write(folder / "config.json", {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "float32", "vocab_size": _SIZE,
        "hidden_size": _WIDTH, "intermediate_size": _INNER, "num_hidden_layers": 1, "num_attention_heads": _HEADS,
        "num_key_value_heads": _HEADS, "max_position_embeddings": 512, "rms_norm_eps": 1e-6, "hidden_act": "silu",
        "tie_word_embeddings": False, "pad_token_id": 0, "eos_token_id": 2, "bos_token_id": 3 if adds_bos else None,
    })  # fmt: skip
    _write(folder / "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast", "pad_token": SPECIAL[0], "eos_token": SPECIAL[2],
        "clean_up_tokenization_spaces": False, "model_max_length": 512,
        **({"bos_token": SPECIAL[3]} if adds_bos else {}),
    })  # fmt: skip
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    _tokenizer(adds_bos=adds_bos).save(str(folder / "tokenizer.json"))
    save_file(_weights(np.random.default_rng(seed)), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _tokenizer(*, adds_bos: bool) -> Tokenizer:
    vocabulary = SPECIAL + sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={token: number for number, token in enumerate(vocabulary)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    if adds_bos:
        core.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 3)])
    return core


def _weights(draw: np.random.Generator) -> dict[str, np.ndarray]:
    layer = "model.layers.0"
    shapes = {
        "model.embed_tokens": (_SIZE, _WIDTH), "lm_head": (_SIZE, _WIDTH), "model.norm": (_WIDTH,),
        f"{layer}.input_layernorm": (_WIDTH,), f"{layer}.post_attention_layernorm": (_WIDTH,),
        f"{layer}.mlp.gate_proj": (_INNER, _WIDTH), f"{layer}.mlp.up_proj": (_INNER, _WIDTH),
        f"{layer}.mlp.down_proj": (_WIDTH, _INNER),
        **{f"{layer}.self_attn.{name}_proj": (_WIDTH, _WIDTH) for name in "qkvo"},
    }  # fmt: skip
    return {
        f"{name}.weight": np.ones(shape, "float32") if len(shape) == 1 else draw.normal(0, 0.2, shape).astype("float32")
        for name, shape in shapes.items()
    }


def _write(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")
