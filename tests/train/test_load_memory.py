"""What a model takes while it is loaded: no more than its file has, where it stays frozen or is cut into shards."""

from __future__ import annotations

import json
import struct
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM, Qwen3Config

from tests.train.tiny import make_model, make_tokenizer
from train.model import add_lora, load_adapter, load_base
from train.model.capabilities import capabilities_of
from train.pipeline.execute import run
from train.pipeline.prepare import prepare
from train.recipe import build_recipe, load_recipe

# Qwen3-32B's.
SIZES: dict[str, Any] = {
    "vocab_size": 151_936, "hidden_size": 5120, "intermediate_size": 25_600, "num_hidden_layers": 64,
    "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 128, "tie_word_embeddings": False,
    "pad_token_id": 0, "eos_token_id": 2, "bos_token_id": None,
}  # fmt: skip


class _Live(TorchDispatchMode):
    """Counts the bytes of the fake tensors that live at once."""

    def __init__(self) -> None:
        super().__init__()
        self.live, self.peak, self.sizes = 0, 0, dict[int, int]()

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call ``func`` and count what it made."""
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, FakeTensor) and tensor.device.type != "meta":
                storage = tensor.untyped_storage()
                place = storage._cdata
                if place not in self.sizes:
                    self.sizes[place] = storage.nbytes()
                    weakref.finalize(storage, self._end, place)
                    self.live += storage.nbytes()
                    self.peak = max(self.peak, self.live)
        return made

    def _end(self, place: int) -> None:
        self.live -= self.sizes.pop(place)


def _write_hollow(folder: Path) -> int:
    """Write a model of SIZES in bfloat16 whose files are holes, which take no room; return the bytes of its weights."""
    config = Qwen3Config(**SIZES, dtype="bfloat16", architectures=["Qwen3ForCausalLM"])
    config.save_pretrained(folder)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    files: dict[str, dict[str, Any]] = {}
    total = 0
    for name, weight in model.state_dict().items():
        # A file of 65 GB is more than some machines map at once.
        header = files.setdefault(f"model-{total >> 32:05}.safetensors", {"__metadata__": {"format": "pt"}})
        start = max((entry["data_offsets"][1] for entry in header.values() if "dtype" in entry), default=0)
        stop = start + 2 * weight.numel()
        header[name] = {"dtype": "BF16", "shape": list(weight.shape), "data_offsets": [start, stop]}
        total += stop - start
    for name, header in files.items():
        raw = json.dumps(header).encode()
        with (folder / name).open("wb") as file:
            file.write(struct.pack("<Q", len(raw)) + raw)
            file.truncate(8 + len(raw) + max(entry["data_offsets"][1] for entry in header.values() if "dtype" in entry))
    index = {name: file for file, header in files.items() for name in header if name != "__metadata__"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    make_tokenizer().save_pretrained(folder)
    return total


@pytest.mark.ci
def test_32_billion_parameters_are_loaded_for_adapters_in_the_bytes_of_their_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = _write_hollow(tmp_path)
    recipe = build_recipe({"bf16": True})
    # Loaded in the thread that counts; what looks into weights has nothing to see.
    monkeypatch.setenv("HF_DEACTIVATE_ASYNC_LOAD", "1")
    monkeypatch.setattr("train.model.capabilities.capabilities_of", lambda model: model)
    monkeypatch.setattr("train.model.capabilities.first_not_finite", lambda _: None)
    fake = FakeTensorMode(allow_non_fake_inputs=True)

    def read(part: Any, device: Any = None, dtype: torch.dtype | None = None) -> torch.Tensor:
        with unset_fake_temporarily():
            tensor = part[...]
        # A copy as a card gets one; of a CPU the file itself would stand in for it.
        return fake.from_tensor(tensor).to(device=device, dtype=dtype, copy=True)

    monkeypatch.setattr("transformers.core_model_loading._materialize_copy", read)
    # A fake weight cannot be moved to where it is.
    monkeypatch.setattr("transformers.PreTrainedModel.to", lambda model, _: model)
    monkeypatch.setattr("torch.nn.Module.to", lambda module, *_, **__: module)
    with fake, _Live() as card:
        model, _ = load_base(str(tmp_path), device="cpu", frozen_for=recipe)
        assert size / 2 == sum(weight.numel() for weight in model.parameters())
        tuned = add_lora(model, recipe, dtype=torch.bfloat16, seed=0)
        assert {p.dtype for p in tuned.parameters() if p.requires_grad} == {torch.float32}
    assert card.peak <= 1.05 * size, card.peak / size


@pytest.mark.parametrize("kind", ["qwen3", "llama"])
def test_matrices_in_bfloat16_compute_what_rounded_ones_do(
    dataset: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "base"
    make_model(kind).bfloat16().save_pretrained(base)
    make_tokenizer().save_pretrained(base)
    ended = []
    for is_half in (True, False):
        if not is_half:
            monkeypatch.setattr("train.model.load._is_half", lambda *_: False)
        settings = {"bf16": True, "max_steps": 2, "eval.max_new_tokens": 4, "eval.resamples": 100, "threads": 1}
        prepared = prepare(dataset, load_recipe(None, settings, str(base)))
        kept = {name: p.dtype for name, p in prepared.model.named_parameters() if p.dim() == 2}
        assert (torch.bfloat16 in kept.values()) == is_half, kept
        assert kept["model.embed_tokens.weight"] == torch.float32
        assert capabilities_of(prepared.model).has_packing
        assert capabilities_of(prepared.model).has_linear_head
        run(dataset, base=str(base), settings=settings, out=tmp_path / str(is_half), cache=False)
        rows = [json.loads(line) for line in (tmp_path / str(is_half) / "predictions.jsonl").read_text().splitlines()]
        ended.append([row["base"] for row in rows])
    assert ended[0] == ended[1]


def test_an_adapter_that_goes_on_is_not_rounded(tmp_path: Path) -> None:
    base = make_model("llama")
    tuned = add_lora(base, build_recipe({}), dtype=torch.float32, seed=0)
    weights = {name: p.detach().clone() for name, p in tuned.named_parameters() if "lora_" in name}
    tuned.save_pretrained(tmp_path)
    again = load_adapter(make_model("llama").bfloat16(), tmp_path)
    assert all(torch.equal(weights[name], p) for name, p in again.named_parameters() if "lora_" in name)
