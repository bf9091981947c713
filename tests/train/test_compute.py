"""Packed attention gives what the model's own code gives, value and gradient."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    Llama4ForCausalLM,
    Llama4TextConfig,
    MistralConfig,
    MistralForCausalLM,
)

from tests.train.tiny import SHAPE, make_model, make_tokenizer, some_rows
from train.data.rendering import Example, Renderer
from train.model import add_lora, attention
from train.model.attention import pack, packing
from train.model.batch import batch_by_length, collate
from train.model.capabilities import capabilities_of
from train.model.loss import supervised_loss
from train.recipe import Recipe


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    return Renderer(make_tokenizer(), "chat", 256).render(some_rows(9)).examples


def gradients(model: Any, examples: list[Example], *, is_packed: bool) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad()
    loss, _ = supervised_loss(model, collate(examples, is_packed=is_packed), scale=1 / len(examples))
    loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", ["qwen3", "llama"])
def test_packed_examples_give_the_gradients_of_padded_ones(kind: str, examples: list[Example]) -> None:
    torch.manual_seed(0)
    model = make_model(kind)
    expected, wanted = gradients(model, examples, is_packed=False)
    assert capabilities_of(model).has_packing
    loss, found = gradients(model, examples, is_packed=True)
    assert loss == pytest.approx(expected, rel=1e-6)
    assert found.keys() == wanted.keys()
    for name, gradient in found.items():
        assert (gradient - wanted[name]).norm() <= 1e-5 * wanted[name].norm() + 1e-9, name
    # And the model pads as before where nobody packs.
    assert gradients(model, examples, is_packed=False)[0] == pytest.approx(expected, rel=1e-6)


def test_adapters_leave_it_packed() -> None:
    model = make_model("qwen3")
    capabilities_of(model)
    tuned = add_lora(model, Recipe(), dtype=torch.bfloat16, seed=0)
    assert capabilities_of(tuned).has_packing
    assert model.config._attn_implementation == attention.NAME


def test_an_example_does_not_see_its_neighbours(examples: list[Example]) -> None:
    model = make_model()
    assert capabilities_of(model).has_packing
    alone = [supervised_loss(model, collate([one], is_packed=True))[1] for one in examples]
    _, together = supervised_loss(model, collate(examples, is_packed=True))
    assert torch.allclose(torch.cat(alone), together, atol=1e-5)
    batch = collate(examples, is_packed=True)
    with packing(pack([batch.ids.shape[1]])):
        mixed = model(input_ids=batch.ids, position_ids=batch.packed.positions, use_cache=False).logits[
            0, batch.logit_indices
        ]
    nll = functional.cross_entropy(mixed, batch.targets, reduction="none")
    assert not torch.allclose(nll, together, atol=1e-2), "as one example they would"


@pytest.mark.parametrize("window", [None, 5, 300])
@pytest.mark.parametrize("heads", [(4, 2), (3, 3)])
def test_a_row_is_causal_attention_over_each_example(window: int | None, heads: tuple[int, int]) -> None:
    torch.manual_seed(1)
    lengths = (37, 1, 16, 20)
    q = torch.randn(heads[0], sum(lengths), 8, requires_grad=True)
    k, v = (torch.randn(heads[1], sum(lengths), 8, requires_grad=True) for _ in range(2))
    parts = []
    for begin, length in zip(itertools.accumulate((0, *lengths)), lengths, strict=False):
        place = torch.arange(length)
        seen = place[:, None] >= place
        if window is not None:
            seen &= place[:, None] - place < window
        cut = (t[None, :, begin : begin + length] for t in (q, k, v))
        parts.append(functional.scaled_dot_product_attention(*cut, attn_mask=seen, scale=0.3, enable_gqa=True)[0])
    wanted = torch.cat(parts, 1)
    found = pack(lengths).attend(0, q[None], k[None], v[None], 0.3, window)[0].transpose(0, 1)
    assert torch.allclose(found, wanted, atol=1e-5)
    towards = torch.randn_like(wanted)
    ours = torch.autograd.grad(found, (q, k, v), towards)
    theirs = torch.autograd.grad(wanted, (q, k, v), towards)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(ours, theirs, strict=True))


def test_a_model_with_a_window_packs_what_it_sees(examples: list[Example]) -> None:
    torch.manual_seed(0)
    model = MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=6, attn_implementation="sdpa"))
    expected, wanted = gradients(model, examples, is_packed=False)
    assert capabilities_of(model).has_packing
    loss, found = gradients(model, examples, is_packed=True)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert all(torch.allclose(found[name], wanted[name], atol=1e-5) for name in wanted)


@pytest.mark.parametrize("window", [4, 40])
def test_windows_that_some_layers_have_are_packed(window: int, examples: list[Example]) -> None:
    torch.manual_seed(0)
    kinds = ["sliding_attention", "full_attention"]
    config = Gemma3TextConfig(**SHAPE, sliding_window=window, layer_types=kinds)
    model = Gemma3ForCausalLM(config)
    expected, wanted = gradients(model, examples, is_packed=False)
    assert capabilities_of(model).has_packing
    loss, found = gradients(model, examples, is_packed=True)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert all(torch.allclose(found[name], wanted[name], atol=1e-5) for name in wanted)


def test_chunks_that_are_longer_than_what_is_tried_are_not_packed() -> None:
    config = Llama4TextConfig(
        **SHAPE, intermediate_size_mlp=64, attention_chunk_size=30, moe_layers=[], num_local_experts=1
    )
    assert "chunked_attention" in config.layer_types
    assert not capabilities_of(Llama4ForCausalLM(config)).has_packing


def test_a_model_that_attends_otherwise_is_left_as_it_was() -> None:
    capped = Gemma2ForCausalLM(Gemma2Config(**SHAPE, attn_implementation="eager"))
    dropping = GPT2LMHeadModel(GPT2Config(vocab_size=400, n_embd=32, n_layer=1, n_head=4, attention_dropout=0.1))
    for model in (capped, dropping):
        before = model.config._attn_implementation
        assert not capabilities_of(model).has_packing
        assert model.config._attn_implementation == before


def test_half_the_precision_is_near(examples: list[Example]) -> None:
    model = make_model("qwen3")
    expected, _ = gradients(model, examples, is_packed=False)
    capabilities_of(model)
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = supervised_loss(model, collate(examples, is_packed=True), scale=1 / len(examples))
    assert loss.item() == pytest.approx(expected, rel=2e-2)


def test_packed_batches_waste_nothing() -> None:
    lengths = [5, 90, 7, 60, 33, 100]
    groups = batch_by_length(lengths, 120, is_packed=True)
    assert sorted(place for group in groups for place in group) == list(range(6))
    assert all(sum(lengths[place] for place in group) <= 120 for group in groups)
    assert len(groups) < len(batch_by_length(lengths, 120))
