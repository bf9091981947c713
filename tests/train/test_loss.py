"""The chunked loss is cross-entropy, value and gradient, on every kind of head."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import Gemma2Config, Gemma2ForCausalLM

from tests.train.tiny import make_model, make_tokenizer, some_rows
from train.data.rendering import Example, Renderer
from train.model import add_lora
from train.model.batch import collate
from train.model.capabilities import capabilities_of
from train.model.loss import (
    _LinearCrossEntropy,
    linear_cross_entropy,
    loss_chunk_bytes,
    nll_per_example,
    supervised_loss,
)
from train.recipe import Recipe


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    return Renderer(make_tokenizer(), "chat", 256).render(some_rows(9)).examples


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("chunk_bytes", [1, 1 << 16, 1 << 30])
def test_it_is_torchs_cross_entropy(has_bias: bool, chunk_bytes: int) -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(150, 16, requires_grad=True), torch.randn(101, 16, requires_grad=True)
    bias = torch.randn(101, requires_grad=True) if has_bias else None
    targets = torch.randint(0, 101, (150,))
    expected = functional.cross_entropy(functional.linear(hidden, weight, bias), targets, reduction="none")
    wanted = torch.autograd.grad(expected.sum() * 0.3, [t for t in (hidden, weight, bias) if t is not None])
    loss, nll = linear_cross_entropy(hidden, weight, bias, targets, scale=0.3, chunk_bytes=chunk_bytes)
    found = torch.autograd.grad(loss * 1.0, [t for t in (hidden, weight, bias) if t is not None])
    assert torch.allclose(nll, expected, atol=1e-6)
    assert loss.item() == pytest.approx(expected.sum().item() * 0.3, rel=1e-6)
    for ours, theirs in zip(found, wanted, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)


class _Moved(TorchDispatchMode):
    """Counts the bytes that are read and written, and the matrix products."""

    num_bytes = num_products = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, torch.Tensor)]
            self.num_bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
            self.num_products += "mm" in str(func)
        return out


def test_a_large_gpu_reads_a_large_head_a_third_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    # Qwen3's vocabulary, of 0.6 B; nothing is computed on this device.
    given = {"device": "meta", "dtype": torch.bfloat16}
    hidden = torch.empty(4096, 1024, **given, requires_grad=True)
    weight = torch.empty(151_936, 1024, device="meta", requires_grad=True)
    targets, moved = torch.empty(4096, dtype=torch.long, device="meta"), {}
    for gib in (8, 24, 80):
        monkeypatch.setattr("train.model.loss.memory_limit", lambda _device, gib=gib: gib << 30)
        chunk = loss_chunk_bytes(torch.device("cuda"))
        with _Moved() as moved[gib]:
            cast = torch.empty(151_936, 1024, **given)
            loss, _ = _LinearCrossEntropy.apply(hidden, weight, None, targets, None, 1.0, cast, chunk)
            loss.backward()
    # Three of a chunk.
    assert [one.num_products // 3 for one in moved.values()] == [11, 7, 3]
    assert moved[80].num_bytes < 0.68 * moved[8].num_bytes
    assert loss_chunk_bytes(torch.device("cpu")) == 256 << 20


def _reference(model: Any, examples: list[Example]) -> tuple[float, dict[str, torch.Tensor]]:
    """One example at a time, the model's own logits, no padding: the loss and gradients that must come out."""
    total, count = torch.zeros(()), sum(e.num_supervised for e in examples)
    for example in examples:
        logits = model(input_ids=torch.tensor([example.ids]), use_cache=False).logits[0, :-1].float()
        labels = torch.tensor([t if is_on else -100 for t, is_on in zip(example.ids, example.mask, strict=True)])[1:]
        total = total + functional.cross_entropy(logits, labels, ignore_index=-100, reduction="sum") / count
    total.backward()
    return total.item(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", ["qwen3", "llama"])
def test_padded_batches_give_the_gradients_of_single_examples(kind: str, examples: list[Example]) -> None:
    model = make_model(kind)
    expected, wanted = _reference(model, examples)
    model.zero_grad()
    loss, _ = supervised_loss(model, collate(examples), scale=1 / sum(e.num_supervised for e in examples))
    loss.backward()
    assert capabilities_of(model).has_linear_head
    assert loss.item() == pytest.approx(expected, abs=1e-6)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert torch.allclose(parameter.grad, wanted[name], atol=1e-6), name


def test_a_soft_capped_head_falls_back_to_the_models_own_logits(examples: list[Example]) -> None:
    torch.manual_seed(0)
    model = Gemma2ForCausalLM(
        Gemma2Config(
            vocab_size=400,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=1,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=8,
            final_logit_softcapping=2.0,
            pad_token_id=0,
            bos_token_id=None,
            eos_token_id=2,
        )
    )
    expected, wanted = _reference(model, examples)
    model.zero_grad()
    loss, nll = supervised_loss(model, collate(examples), scale=1 / sum(e.num_supervised for e in examples))
    loss.backward()
    assert not capabilities_of(model).has_linear_head
    assert loss.item() == pytest.approx(expected, abs=1e-5)
    assert not nll.requires_grad
    assert all(torch.allclose(p.grad, wanted[n], atol=1e-5) for n, p in model.named_parameters() if p.grad is not None)


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "lm_head"]])
def test_an_adapted_model_scores_as_itself_and_its_base_as_before(examples: list[Example], targets: Any) -> None:
    model = make_model("llama")
    before = nll_per_example(model, examples)
    tuned = add_lora(model, Recipe(lora_target_modules=targets), dtype=torch.float32, seed=0)
    with torch.no_grad():
        for parameter in tuned.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.3)
    after = nll_per_example(tuned, examples)
    with torch.no_grad():
        logits = tuned(input_ids=torch.tensor([examples[0].ids]), use_cache=False).logits[0, :-1]
    nll = functional.cross_entropy(logits, torch.tensor(examples[0].ids[1:]), reduction="none")
    assert after[0].nll == pytest.approx(float(nll[torch.tensor(examples[0].mask[1:])].sum()), rel=1e-5)
    assert [n.nll for n in after] != pytest.approx([n.nll for n in before], rel=1e-2)
    with tuned.disable_adapter():
        assert [n.nll for n in nll_per_example(tuned, examples)] == pytest.approx([n.nll for n in before], rel=1e-6)


def test_likelihoods_do_not_depend_on_the_batch_and_keep_the_order(examples: list[Example]) -> None:
    model = make_model()
    alone, together = nll_per_example(model, examples, batch_tokens=16), nll_per_example(model, examples)
    assert [n.id for n in together] == [e.id for e in examples]
    assert [n.nll for n in together] == pytest.approx([n.nll for n in alone], abs=1e-4)
    assert [(n.num_tokens, n.num_bytes) for n in together] == [(e.num_supervised, e.num_bytes) for e in examples]
    assert nll_per_example(model, []) == []
