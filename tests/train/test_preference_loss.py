"""Losses that compare answers: values and gradients as plain autograd has them by the papers' formulas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional

from tests.train.tiny import make_model, make_tokenizer, pair_row, text_row
from train.data.dataset import Row
from train.data.rendering import Example, Renderer, preference_examples
from train.loop import Trainer
from train.model.batch import BatchSampler
from train.model.capabilities import capabilities_of
from train.recipe import Objective, Recipe, build_recipe

TEXTS = [
    ("the red cat", "sat on a mat", "ran away from home", 1.0),
    ("who said hello to one small dog", "maybe", "no no no no", 1.0),
    ("far away", "one small cat and a dog", "yes", 0.5),
    ("hello", "hello to one", "no", 1.0),
]


def rows() -> list[Row]:
    """Some pairs of several lengths, one of them with a weight."""
    return [replace(pair_row(f"p{n}", *text[:3]), weight=text[3]) for n, text in enumerate(TEXTS)]


def rendered(objective: Objective) -> list[Example]:
    """The examples of `rows`."""
    return list(preference_examples(Renderer(make_tokenizer(), objective, 256), rows(), "", None).examples)  # type: ignore[arg-type]


def replayed() -> Example:
    """A text that is trained along."""
    text = Renderer(make_tokenizer(), "sft", 256).render_uncut(text_row("t", "the small dog ran home"))
    return replace(text, is_replay=True, second_text=(len(text.ids), 0))


def ours(model: Any, examples: Sequence[Example], recipe: Recipe, reference: torch.Tensor) -> torch.Tensor:
    """The loss of one step of all examples; gradients are left at the parameters."""
    sampler = BatchSampler(examples, recipe, is_packed=capabilities_of(model).has_packing)
    model.zero_grad()
    return Trainer(model, sampler, reference=reference).backward(sampler[0])


def logp(model: Any, example: Example) -> torch.Tensor:
    """The log-probability of an example's trained tokens, read alone."""
    logits = model(input_ids=torch.tensor([example.ids]), use_cache=False).logits[0, :-1].float()
    targets = torch.tensor([t if is_on else -100 for t, is_on in zip(example.ids, example.mask, strict=True)])[1:]
    return -functional.cross_entropy(logits, targets, ignore_index=-100, reduction="sum")


def reference_of(examples: Sequence[Example]) -> torch.Tensor:
    """What another model gives the texts, [records, 2]."""
    other = make_model(seed=7)
    with torch.no_grad():
        return torch.tensor([[logp(other, part).item() for part in (e.texts * 2)[:2]] for e in examples])


def oracle(model: Any, examples: Sequence[Example], reference: torch.Tensor, options: dict[str, Any]) -> Any:
    """The loss of the papers, by autograd; see `train.model.preference` for them."""
    objective, beta = options["objective"], options.get("beta", 0.1)
    compared = [(e, r) for e, r in zip(examples, reference, strict=True) if not e.is_replay]
    total, weight = torch.zeros(()), sum(e.row_weight for e in examples)
    sides = [[logp(model, part) for part in e.texts] for e, _ in compared]
    sizes = [[part.num_supervised for part in e.texts] for e, _ in compared]
    kl = torch.stack([s[1].detach() - r[1] for s, (_, r) in zip(sides, compared, strict=True)]).mean().clamp(min=0)
    for (e, r), (a, b), (n, m) in zip(compared, sides, sizes, strict=True):
        if objective == "kto":
            value = options.get("desirable_weight", 1) if e.sign > 0 else options.get("undesirable_weight", 1)
            loss = value * (1 - torch.sigmoid(beta * e.sign * (a - r[0] - kl)))
        elif objective == "orpo":
            odds = [p / k - torch.log(1 - torch.exp(p / k)) for p, k in ((a, n), (b, m))]
            loss = -beta * functional.logsigmoid(odds[0] - odds[1])
        else:
            is_ipo = options.get("loss") == "ipo"
            if is_ipo or options.get("length_normalised"):
                margin = (a - r[0]) / n - (b - r[1]) / m
            else:
                margin = (a - r[0]) - (b - r[1])
            eps = options.get("label_smoothing", 0)
            loss = (
                (margin - 1 / (2 * beta)) ** 2
                if is_ipo
                else (-(1 - eps) * functional.logsigmoid(beta * margin) - eps * functional.logsigmoid(-beta * margin))
            )
        total = total + e.row_weight * loss
    if objective == "orpo":
        tokens = sum(e.row_weight * n for (e, _), (n, _) in zip(compared, sizes, strict=True))
        mean = -sum(e.row_weight * a for (e, _), (a, _) in zip(compared, sides, strict=True)) / tokens
        total = total + mean * sum(e.row_weight for e, _ in compared)
    for e in examples:
        if e.is_replay:
            total = total - logp(model, e.texts[0]) / e.num_supervised
    return total / weight


CASES: list[dict[str, Any]] = [
    {"objective": "dpo"},
    {"objective": "dpo", "beta": 0.5, "label_smoothing": 0.1},
    {"objective": "dpo", "beta": 2.0, "length_normalised": True},
    {"objective": "dpo", "loss": "ipo"},
    {"objective": "orpo", "beta": 0.3},
    {"objective": "kto"},
    {"objective": "kto", "beta": 0.3, "desirable_weight": 1.5, "undesirable_weight": 0.5},
]


def recipe_of(options: dict[str, Any], **more: Any) -> Recipe:
    """One step of all records."""
    preference = {name: value for name, value in options.items() if name != "objective"}
    values = {
        "objective": options["objective"],
        "preference": preference,
        "num_train_epochs": 1,
        "global_batch_size": 64,
        **more,
    }
    return build_recipe(values)


@pytest.mark.parametrize("has_replay", [False, True])
@pytest.mark.parametrize("options", CASES, ids=str)
def test_loss_and_gradient_are_those_of_the_papers(options: dict[str, Any], has_replay: bool) -> None:
    examples = [*rendered(options["objective"]), *([replayed()] if has_replay else [])]
    reference, model = reference_of(examples), make_model()
    expected = oracle(model, examples, reference, options)
    expected.backward()
    wanted = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    # In several micro-batches, which change nothing.
    split = {"global_batch_size": "auto", "per_device_train_batch_size": 22, "gradient_accumulation_steps": 3}
    found = ours(model, examples, recipe_of(options, **split), reference)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    for name, parameter in model.named_parameters():
        assert torch.allclose(parameter.grad, wanted[name], atol=2e-6, rtol=1e-4), name
