"""Tiny models, tokenizers of every kind, and datasets for the tests of `train`; random weights, bytes as vocabulary."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from train.data.dataset import RatedAnswer, Row
from train.data.rendering import Example
from train.model.batch import BatchSampler
from train.model.capabilities import capabilities_of
from train.recipe import Recipe

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}{% generation %}"
    "{{ m.content + '<|im_end|>' }}{% endgeneration %}{% else %}{{ m.content + '<|im_end|>' }}{% endif %}{{ '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CHATML_WITHOUT_MARKS = CHATML.replace("{% generation %}", "").replace("{% endgeneration %}", "")
# Writes its BOS itself, as Llama 3 does, strips contents, and has its end token inside the turn.
LLAMA_LIKE = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}<|sep|>\n\n{{ m.content | trim }}<|im_end|>"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant<|sep|>\n\n{% endif %}"
)
SHAPE: dict[str, Any] = {
    "vocab_size": 400, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 256, "pad_token_id": 0, "eos_token_id": 2,
    "bos_token_id": None,
}  # fmt: skip
"""Of a tiny model of any kind."""
KINDS = ("marked", "unmarked", "bos", "pad-is-eos", "adds-eos", "no-template")
WORDS = [
    "the",
    "red",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "and",
    "said",
    "hello",
    "to",
    "one",
    "small",
    "dog",
    "who",
    "ran",
    "far",
    "away",
    "from",
    "home",
    "yes",
    "no",
    "maybe",
]


def make_tokenizer(kind: str = "marked") -> PreTrainedTokenizerFast:
    """A byte-level BPE of 400 tokens; ``kind`` is one of KINDS."""
    special = ["<|pad|>", "<|im_start|>", "<|im_end|>", "<|bos|>", "<|sep|>"]
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator([" ".join(WORDS), "user\nassistant\nsystem\n"] * 4, trainer)
    extra: dict[str, Any] = {"pad_token": "<|im_end|>" if kind == "pad-is-eos" else "<|pad|>"}
    if kind == "bos":
        extra["bos_token"] = "<|bos|>"
        core.post_processor = processors.TemplateProcessing(single="<|bos|> $A", special_tokens=[("<|bos|>", 3)])
    if kind == "adds-eos":
        core.post_processor = processors.TemplateProcessing(single="$A <|im_end|>", special_tokens=[("<|im_end|>", 2)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>", "<|sep|>"],
        clean_up_tokenization_spaces=False,
        **extra,
    )
    templates = {"marked": CHATML, "bos": LLAMA_LIKE, "no-template": None}
    tokenizer.chat_template = templates.get(kind, CHATML_WITHOUT_MARKS)
    return tokenizer


def make_model(kind: str = "qwen3", *, seed: int = 0) -> Any:
    """Random weights: "qwen3" has tied embeddings, "llama" a head of its own and a wider group of keys."""
    torch.manual_seed(seed)
    if kind == "qwen3":
        return Qwen3ForCausalLM(Qwen3Config(**SHAPE, tie_word_embeddings=True))
    return LlamaForCausalLM(LlamaConfig(**SHAPE, tie_word_embeddings=False))


def chat_row(record: str, *contents: str, category: str = "general", system: str | None = None) -> Row:
    """A row whose contents are user, assistant, user, assistant ..."""
    messages = [{"role": "system", "content": system}] if system is not None else []
    messages += [{"role": ("user", "assistant")[n % 2], "content": content} for n, content in enumerate(contents)]
    return Row(record, category, record, messages, None, None)


def pair_row(record: str, prompt: str, better: str, worse: str, *, category: str = "general") -> Row:
    """A row that compares two answers."""
    answers = [RatedAnswer([{"role": "assistant", "content": text}], rate) for text, rate in ((better, 1), (worse, 0))]
    return replace(chat_row(record, prompt, better, category=category), answers=answers)


def text_row(record: str, text: str) -> Row:
    """A raw-text row."""
    return Row(record, "general", record, None, None, text)


def some_rows(number: int, *, prefix: str = "r", seed: int = 0) -> list[Row]:
    """Rows of many lengths in two categories."""
    r = random.Random(f"{seed}{prefix}")
    return [
        chat_row(
            f"{prefix}{n}",
            " ".join(r.choices(WORDS, k=r.randint(1, 20))),
            " ".join(r.choices(WORDS, k=r.randint(1, 8))),
            category=("cats", "dogs")[n % 2],
        )
        for n in range(number)
    ]


def write_dataset(folder: Path, splits: Mapping[str, Sequence[Row]], **manifest: Any) -> Path:
    """Write an export as `curate export` does; ``manifest`` overrides its fields."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for split in ("train", "validation", "test"):
        lines = [
            json.dumps(
                {
                    "id": row.id,
                    "kind": "chat" if row.text is None else "domain",
                    "category": row.category,
                    "cluster": row.cluster,
                    "messages": row.messages,
                    "tools": row.tools,
                    "text": row.text,
                    "source": f"data.jsonl:{number}",
                    "weight": None if row.weight == 1 else row.weight,
                    **({"answers": [vars(answer) for answer in row.answers]} if row.answers else {}),
                }
                | ({} if row.slices is None else {"slices": row.slices})
            )
            for number, row in enumerate(splits.get(split, ()), 1)
        ]
        raw = "".join(f"{line}\n" for line in lines).encode()
        (folder / f"{split}.jsonl").write_bytes(raw)
        files[f"{split}.jsonl"] = {"sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw), "records": len(lines)}
    categories = sorted({row.category for rows in splits.values() for row in rows})
    value = {
        "version": 1,
        "name": "v1",
        "objective_hint": "sft",
        "files": files,
        "categories": {name: {"scorer": "exact", "options": {}} for name in categories},
    } | manifest
    (folder / "manifest.json").write_text(json.dumps(value), encoding="utf-8")
    return folder


def steps_of(model: Any, examples: Sequence[Example], recipe: Recipe) -> BatchSampler:
    """The steps that a run makes of examples for ``model``."""
    return BatchSampler(examples, recipe, is_packed=capabilities_of(model).has_packing)


def sha256_of_tensors(tensors: Mapping[str, Any]) -> str:
    """Return a SHA-256 over the names, types, shapes and bytes of tensors in the order of their names."""
    return hashlib.sha256(
        save({name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)})
    ).hexdigest()


def louder(model: Any) -> Any:
    """Random weights four times as large: the argmax is clear, and outputs differ from prompt to prompt."""
    with torch.no_grad():
        for weights in model.parameters():
            weights.mul_(4)
    return model.eval()


def one_by_one(model: Any, prompt: list[int], new: int, stop: list[int]) -> tuple[list[int], bool]:
    """What transformers itself generates from one prompt."""
    with torch.no_grad():
        out = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=new,
            do_sample=False,
            eos_token_id=stop,
            pad_token_id=0,
        )[0].tolist()[len(prompt) :]
    stopped = bool(out) and out[-1] in stop
    return (out[:-1] if stopped else out), stopped
