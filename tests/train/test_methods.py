"""Kinds of adapters: each begins as the base, computes the same on every path, learns, and is itself once reloaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch.nn import functional
from transformers import AutoModelForCausalLM

from tests.train.tiny import make_model, make_tokenizer, sha256_of_tensors, some_rows, steps_of, write_dataset
from train.base.errors import Exit, TrainError
from train.data.rendering import Renderer
from train.loop import fit, trainable_tensors
from train.loop.checkpoint import Checkpoint
from train.model import add_lora, autocasting
from train.model.batch import collate
from train.model.capabilities import capabilities_of
from train.model.loss import supervised_loss
from train.pipeline.execute import start_run
from train.recipe import Recipe, build_recipe

# peft reads a property that transformers 5 renamed; that is between the two of them.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
EXAMPLES = Renderer(make_tokenizer(), "chat", 256).render(some_rows(12)).examples
KINDS: dict[str, dict[str, Any]] = {
    "lora": {}, "rslora": {"use_rslora": True}, "dora": {"use_dora": True},
    "dora and rslora": {"use_dora": True, "use_rslora": True},
    "orthogonal": {"init_lora_weights": "orthogonal"},
}  # fmt: skip
IDS = torch.tensor([EXAMPLES[0].ids])


def _recipe(kind: str) -> Recipe:
    return Recipe.model_validate({"lora_r": 4, "lora_alpha": 8, **KINDS[kind]})


def _logits(model: Any) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=IDS, use_cache=False).logits
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_begins_as_the_base_and_computes_the_same_packed_padded_and_alone(kind: str) -> None:
    before = _logits(make_model("llama"))
    model = make_model("llama")
    assert capabilities_of(model).has_packing
    tuned = add_lora(model, _recipe(kind), dtype=torch.float32, seed=0)
    torch.testing.assert_close(_logits(tuned), before, atol=2e-4, rtol=2e-3)
    assert capabilities_of(tuned).has_linear_head
    assert capabilities_of(tuned).has_packing
    tuned.train()
    with torch.no_grad():
        for _, parameter in sorted(trained(tuned).items()):
            parameter.add_(torch.randn_like(parameter) * 0.05)
    scale = 1 / sum(example.num_supervised for example in EXAMPLES)
    wanted = torch.zeros(())
    for example in EXAMPLES:
        logits = tuned(input_ids=torch.tensor([example.ids]), use_cache=False).logits[0, :-1]
        nll = functional.cross_entropy(logits, torch.tensor(example.ids[1:]), reduction="none")
        wanted = wanted + scale * nll[torch.tensor(example.mask[1:])].sum()
    gradients = torch.autograd.grad(wanted, list(trained(tuned).values()))
    for is_packed in (True, False):
        loss, _ = supervised_loss(tuned, collate(EXAMPLES, is_packed=is_packed), scale=scale)
        torch.testing.assert_close(loss, wanted, atol=1e-5, rtol=1e-5)
        for ours, theirs in zip(torch.autograd.grad(loss, list(trained(tuned).values())), gradients, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-3)


def trained(model: Any) -> dict[str, Any]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.ci
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_learns_and_is_an_adapter_of_the_base_on_the_disk(
    tmp_path: Path, kind: str, bases: Callable[..., Path]
) -> None:
    base = bases("llama")
    tuned = add_lora(AutoModelForCausalLM.from_pretrained(base), _recipe(kind), dtype=torch.float32, seed=0)
    recipe = build_recipe({"global_batch_size": 12, "max_steps": 12, "learning_rate": 5e-3, "warmup_steps": 0})
    start = supervised_loss(tuned, collate(EXAMPLES))[0].item()
    fit(tuned, steps_of(tuned, EXAMPLES, recipe), tmp_path)
    assert supervised_loss(tuned, collate(EXAMPLES))[0].item() < start - 1
    tuned.save_pretrained(tmp_path / "adapter")
    again = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "adapter")
    torch.testing.assert_close(_logits(again), _logits(tuned), atol=2e-4, rtol=2e-3)
    with again.disable_adapter():
        torch.testing.assert_close(_logits(again), _logits(AutoModelForCausalLM.from_pretrained(base)))


def test_rank_stabilised_scales_by_the_root() -> None:
    plain, stable = (add_lora(make_model(), _recipe(kind), dtype=torch.float32, seed=0) for kind in ("lora", "rslora"))
    scales = [next(m.scaling["default"] for m in model.modules() if hasattr(m, "lora_A")) for model in (plain, stable)]
    assert scales == [2.0, 4.0]


@pytest.mark.ci
@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_in_bfloat16_the_frozen_matrices_are_stored_in_it_and_the_loss_is_near(kind: str) -> None:
    losses = []
    for dtype in (torch.float32, torch.bfloat16):
        tuned = add_lora(make_model(), _recipe(kind), dtype=dtype, seed=0)
        with autocasting(torch.device("cpu"), dtype):
            loss, _ = supervised_loss(tuned, collate(EXAMPLES), scale=0.01)
        loss.backward()  # type: ignore[no-untyped-call]
        assert all(parameter.grad is not None for parameter in trained(tuned).values())
        assert tuned.get_base_model().get_input_embeddings().weight.dtype == torch.float32, "tied with the head"
        losses.append(loss.item())
    assert losses[1] == pytest.approx(losses[0], rel=2e-3)


@pytest.mark.ci
def test_a_resume_is_bit_exact_for_adapters_that_look_at_the_weights(tmp_path: Path) -> None:
    recipe = build_recipe({"global_batch_size": 4, "max_steps": 4, "learning_rate": 5e-3, "save_steps": 2})
    found = []
    for name, resume in (("whole", None), ("again", tmp_path / "whole" / "checkpoint-2")):
        (tmp_path / name).mkdir()
        tuned = add_lora(make_model(), _recipe("dora"), dtype=torch.float32, seed=3)
        steps, checkpoint = steps_of(tuned, EXAMPLES, recipe), None if resume is None else Checkpoint.read(resume)
        fit(tuned, steps, tmp_path / name, resume=checkpoint)
        tuned.save_pretrained(tmp_path / name / "adapter")
        found.append((sha256_of_tensors(trainable_tensors(tuned)),
                      (tmp_path / name / "adapter" / "adapter_model.safetensors").read_bytes()))  # fmt: skip
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"init_lora_weights": "orthogonal", "lora_r": 3},
            "init_lora_weights .orthogonal. needs an even lora_r, not 3",
        ),
        ({"init_lora_weights": "eva"}, "init_lora_weights must be"),
        ({"load_in_4bit": "int8"}, "load_in_4bit must be"),
        ({"method": "full", "load_in_4bit": True}, "freezes the weights that method"),
    ],
)
def test_what_does_not_fit_together_is_refused_in_words(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainError, match=message) as caught:
        build_recipe(settings)
    assert caught.value.code == "E920 bad-recipe"
    assert "a dict" not in caught.value.message


@pytest.mark.ci
def test_a_run_with_everything_on_ends_in_an_adapter_that_loads(tmp_path: Path, bases: Callable[..., Path]) -> None:
    splits = {name: some_rows(4, prefix=name) for name in ("validation", "test")} | {"train": some_rows(16)}
    dataset = write_dataset(tmp_path / "v1", splits)
    recipe = build_recipe({
        "base": str(bases()), "device": "cpu", "max_steps": 4, "global_batch_size": 4,
        "learning_rate": 5e-3,
        "lora_r": 4, "lora_alpha": 8, "use_rslora": True, "mixing": {"temperature": 2.0},
        "eval": {"max_new_tokens": 4},
    })  # fmt: skip
    assert start_run(dataset, recipe, out=tmp_path / "run")[1] is Exit.OK
    again = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(bases()), tmp_path / "run" / "adapter")
    assert not torch.allclose(_logits(again), _logits(AutoModelForCausalLM.from_pretrained(bases())), atol=1e-3)
