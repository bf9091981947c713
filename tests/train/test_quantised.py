"""4-bit bases: refused in words where they cannot be, and loaded with the right arguments where they can."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers

from tests.train.tiny import make_model, make_tokenizer, some_rows, write_dataset
from train.base.errors import Exit, TrainError
from train.model import add_lora, load_base, num_parameters, pick_four_bit_dtype
from train.model.load import check_quantised, four_bit_arguments
from train.pipeline.prepare import prepare
from train.recipe import Recipe, build_recipe


class _Packed(torch.nn.Parameter):
    """What bitsandbytes keeps of a matrix: packed bytes, and beside them the shape that they stand for."""

    quant_state: Any


def _packed(weight: torch.Tensor) -> _Packed:
    packed = _Packed(torch.zeros((weight.numel() // 2, 1), dtype=torch.uint8), requires_grad=False)
    packed.quant_state = SimpleNamespace(shape=weight.shape)
    return packed


@pytest.fixture
def _cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that says it has one GPU; nothing is computed on it."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)


@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_without_cuda_it_is_refused_before_anything_is_loaded(
    tmp_path: Path, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = write_dataset(tmp_path / "v1", {"train": some_rows(2), "test": some_rows(2, prefix="x")})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", lambda *_, **__: pytest.fail("loaded"))
    with pytest.raises(TrainError) as caught:
        prepare(dataset, build_recipe({"load_in_4bit": True, "device": device}))
    assert (caught.value.code, caught.value.exit_code) == ("E941 no-device", Exit.MISSING)
    assert "needs a CUDA device, and this run would be on cpu" in caught.value.message
    assert "load_in_4bit=false" in caught.value.hint


@pytest.mark.usefixtures("_cuda")
def test_without_bitsandbytes_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(TrainError) as caught:
        pick_four_bit_dtype(build_recipe({"load_in_4bit": True}))
    assert (caught.value.code, caught.value.exit_code) == ("E940 missing-extra", Exit.MISSING)
    assert caught.value.hint == "pip install 'pairsmith[quantize]'"


def test_without_bitsandbytes_moments_of_8_bits_are_refused_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", lambda *_, **__: pytest.fail("loaded"))
    with pytest.raises(TrainError, match=r"adamw_8bit.*bitsandbytes") as caught:
        prepare(tmp_path, build_recipe({"method": "full", "optim": "adamw_8bit"}))
    assert (caught.value.code, caught.value.exit_code) == ("E940 missing-extra", Exit.MISSING)
    assert caught.value.hint == "pip install 'pairsmith[quantize]'"


@pytest.mark.usefixtures("_cuda")
def test_whole_weights_ask_for_nothing_and_four_bits_for_nf4() -> None:
    assert pick_four_bit_dtype(build_recipe({})) is None
    assert pick_four_bit_dtype(build_recipe({"load_in_4bit": True})) is torch.bfloat16
    assert pick_four_bit_dtype(build_recipe({"load_in_4bit": True, "bf16": False})) is torch.float32
    arguments = four_bit_arguments(torch.device("cuda:1"), torch.bfloat16)
    config = arguments["quantization_config"].to_dict()
    assert config["load_in_4bit"] is True
    assert (config["bnb_4bit_quant_type"], config["bnb_4bit_use_double_quant"]) == ("nf4", True)
    assert config["bnb_4bit_compute_dtype"] in ("bfloat16", torch.bfloat16)
    assert arguments["device_map"] == {"": 1}


@pytest.mark.usefixtures("_cuda")
def test_the_base_is_loaded_onto_its_device_and_never_moved(
    bases: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, seen = make_model("llama"), {}
    model.model.layers[0].mlp.up_proj.weight = _packed(model.model.layers[0].mlp.up_proj.weight)

    def load(**arguments: Any) -> tuple[Any, Any]:
        seen.update(arguments)
        return model, {}

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", load)
    monkeypatch.setattr(model, "to", lambda *_: pytest.fail("moved"))
    monkeypatch.setattr("train.model.capabilities.capabilities_of", lambda given: given)
    loaded, tokenizer = load_base(str(bases("llama")), device="cuda", four_bits=torch.bfloat16)
    assert loaded is model
    assert len(tokenizer) == len(make_tokenizer())
    assert seen["device_map"] == {"": 0}
    assert seen["quantization_config"].bnb_4bit_quant_type == "nf4"
    assert seen["dtype"] is torch.float32
    assert seen["trust_remote_code"] is False


def test_a_gguf_file_is_no_base_for_it(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(b"GGUF")
    with pytest.raises(TrainError, match="needs whole weights"):
        load_base(str(path), device="cpu", four_bits=torch.bfloat16)


def test_what_was_quantised_is_looked_at() -> None:
    model = make_model("llama")
    with pytest.raises(TrainError, match="no weight of this base could be quantised"):
        check_quantised(model)
    whole = num_parameters(model)
    model.model.layers[0].mlp.up_proj.weight = _packed(model.model.layers[0].mlp.up_proj.weight)
    check_quantised(model)
    assert num_parameters(model) == whole > sum(p.numel() for p in model.parameters())
    model.lm_head.weight = _packed(model.lm_head.weight)
    with pytest.raises(TrainError, match="the head of this base was quantised"):
        check_quantised(model)


def test_trained_parameters_are_counted_apart() -> None:
    model = make_model("llama")
    tuned = add_lora(model, Recipe(lora_r=4), dtype=torch.float32, seed=0)
    adapters = sum(p.numel() for p in tuned.parameters() if p.requires_grad)
    assert num_parameters(tuned, is_trained_only=True) == adapters
