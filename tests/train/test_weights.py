"""Weights: of a message and of a record, from the row to the gradient, exactly."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from tests.train.tiny import chat_row, make_model, make_tokenizer, some_rows, steps_of, text_row, write_dataset
from train.base.errors import Exit, TrainError
from train.cli import cli
from train.data.dataset import Row, open_dataset, parse_row_line
from train.data.rendering import Example, Renderer
from train.loop import fit
from train.model.batch import BatchSampler, collate
from train.model.capabilities import capabilities_of
from train.model.loss import linear_cross_entropy, nll_per_example, supervised_loss
from train.pipeline.prepare import prepare
from train.recipe import build_recipe

RENDERER = Renderer(make_tokenizer(), "chat", 256)
WEIGHTS = [0.5, 1.0, 2.0, 3.0]


def _weighed(rows: list[Row]) -> list[Row]:
    return [replace(row, weight=WEIGHTS[n % 4]) for n, row in enumerate(rows)]


def _marked(*marks: dict[str, Any]) -> Row:
    """A conversation of as many answers as marks; each answer is a word of its own."""
    words = ("yes", "no", "maybe")
    row = chat_row("m", *(text for n in range(len(marks)) for text in ("hello", words[n])))
    answers = iter(marks)
    messages = [m | (next(answers) if m["role"] == "assistant" else {}) for m in row.messages or ()]
    return replace(row, messages=messages)


def _trained(example: Example) -> str:
    return RENDERER.encoder.decode([i for i, m in zip(example.ids, example.mask, strict=True) if m], has_control=False)


@pytest.mark.parametrize("chunk_bytes", [1, 1 << 20])
@pytest.mark.parametrize("has_bias", [True, False])
def test_the_head_weighs_as_cross_entropy_does(chunk_bytes: int, has_bias: bool) -> None:
    torch.manual_seed(0)
    parts = [torch.randn(50, 8), torch.randn(30, 8), torch.randn(30)]
    targets, weights = torch.randint(0, 30, (50,)), torch.rand(50) * 3
    found = []
    for is_ours in (True, False):
        x, w, b = (part.clone().requires_grad_() for part in parts)
        bias = b if has_bias else None
        if is_ours:
            loss, nll = linear_cross_entropy(
                x, w, bias, targets, weights=weights, scale=1 / float(weights.sum()), chunk_bytes=chunk_bytes
            )
            assert not nll.requires_grad
        else:
            nll = functional.cross_entropy(functional.linear(x, w, bias), targets, reduction="none")
            loss = (nll * weights).sum() / weights.sum()
        loss.backward()  # type: ignore[no-untyped-call]
        found.append([loss.detach(), nll.detach(), x.grad, w.grad, *([b.grad] if has_bias else [])])
    for ours, theirs in zip(*found, strict=True):
        assert ours is not None
        assert theirs is not None
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", ["qwen3", "llama"])
def test_packed_and_padded_weigh_as_one_by_one(kind: str) -> None:
    rows = [*_weighed(some_rows(5)), replace(text_row("t", "the red cat"), weight=0.25)]
    rows.append(_marked({"weight": 0.5}, {"train": False}, {"weight": 2}))
    examples = RENDERER.render(rows).examples
    model = make_model(kind)
    assert capabilities_of(model).has_packing
    total = sum(example.weight for example in examples)
    wanted = torch.zeros(())
    for example in examples:
        logits = model(input_ids=torch.tensor([example.ids])).logits[0, :-1]
        nll = functional.cross_entropy(logits, torch.tensor(example.ids[1:]), reduction="none")
        weights = example.weights or [1.0] * len(example.ids)
        kept = [w if m else 0.0 for w, m in zip(weights[1:], example.mask[1:], strict=True)]
        wanted = wanted + (nll * torch.tensor(kept)).sum() / total
    gradients = torch.autograd.grad(wanted, list(model.parameters()))
    # Where a head is not plain, the full logits are weighed.
    wrapped = deepcopy(model)
    wrapped.lm_head = torch.nn.Sequential(wrapped.lm_head)
    assert not capabilities_of(wrapped).has_linear_head
    for tried, is_packed in ((model, True), (model, False), (wrapped, True)):
        loss, _ = supervised_loss(tried, collate(examples, is_packed=is_packed), scale=1 / total)
        torch.testing.assert_close(loss, wanted, atol=1e-6, rtol=1e-5)
        for ours, theirs in zip(torch.autograd.grad(loss, list(tried.parameters())), gradients, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(
    "changes", [{"per_device_train_batch_size": 8, "gradient_accumulation_steps": 4}, {"micro_batch_tokens": 40}]
)
def test_splitting_a_weighted_step_does_not_change_it(tmp_path: Path, changes: dict[str, Any]) -> None:
    examples = RENDERER.render(_weighed(some_rows(32))).examples
    seen: list[dict[str, torch.Tensor]] = []
    losses = []
    for name, more in (("whole", {}), ("split", changes)):
        model, sums = make_model(), {}
        for key, parameter in model.named_parameters():
            parameter.register_hook(lambda g, key=key, sums=sums: sums.__setitem__(key, sums.get(key, 0) + g))
        run = tmp_path / name
        run.mkdir()
        values = {"per_device_train_batch_size": 32, "max_steps": 1, "max_grad_norm": 0.0, "method": "full", **more}
        recipe = build_recipe(values)
        losses.append(fit(model, steps_of(model, examples, recipe), run).loss)
        seen.append(sums)
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    assert all(torch.allclose(seen[0][key], seen[1][key], atol=1e-6) for key in seen[0])


def test_the_normaliser_is_the_sum_of_weights_of_the_step() -> None:
    examples = RENDERER.render(_weighed(some_rows(12))).examples
    steps = BatchSampler(examples, build_recipe({"global_batch_size": 5, "num_train_epochs": 1}))
    for step in (steps[number] for number in range(len(steps))):
        places = [place for group in step.micro_batches for place in group]
        wanted = sum(WEIGHTS[place % 4] * examples[place].num_supervised for place in places)
        assert step.weight == pytest.approx(wanted)
        assert step.num_supervised == sum(examples[place].num_supervised for place in places)


def test_a_weight_of_one_is_no_weight() -> None:
    plain, told = RENDERER.render_row(_marked({}, {})), RENDERER.render_row(_marked({"train": True, "weight": 1}, {}))
    assert plain == told
    assert told.weights is None
    assert told.weight == told.num_supervised
    assert collate([told]).weights is None


def test_a_turn_that_is_not_trained_is_read_and_not_learnt() -> None:
    whole, part = (
        RENDERER.render_row(_marked({}, {}, {})),
        RENDERER.render_row(_marked({}, {"train": False}, {"weight": 0.5})),
    )
    assert part.ids == whole.ids
    assert _trained(whole) == "yesnomaybe"
    assert _trained(part) == "yesmaybe"
    assert part.num_bytes == len("yesmaybe")
    assert part.weights is not None
    counts = [w for w, m in zip(part.weights, part.mask, strict=True) if m]
    assert set(counts) == {1.0, 0.5}
    assert counts == sorted(counts, reverse=True), "the first turn is whole, the last is half"
    assert _trained(RENDERER.render_row(_marked({}, {"weight": 0}, {}))) == "yesmaybe"


def test_the_marks_reach_no_template_and_change_no_prompt() -> None:
    leaking = make_tokenizer()
    leaking.chat_template = leaking.chat_template.replace("{{ m.role", "{{ m.weight }}{{ m.train }}{{ m.role").replace(
        "m.role + '\\n'", "(m.weight | string) + m.role + '\\n'"
    )
    renderer = Renderer(leaking, "chat", 256)
    marked, plain = _marked({"train": False}, {"weight": 0.5}), _marked({}, {})
    assert renderer.render_row(marked).ids == renderer.render_row(plain).ids
    assert RENDERER.render_prompt(marked) == RENDERER.render_prompt(plain)


def test_a_record_without_a_trained_answer_is_set_aside_by_name() -> None:
    silent = [_marked({"train": False}), _marked({"weight": 0}, {"train": False})]
    rendered = RENDERER.render([*silent, *some_rows(2)])
    assert list(rendered.left_out) == ["m"]
    assert len(rendered.examples) == 2
    last = Renderer(make_tokenizer(), "sft", 256).render([_marked({}, {"train": False}), _marked({"weight": 0}, {})])
    assert list(last.left_out) == ["m"], "with sft only the last answer counts"
    assert len(last.examples) == 1


def test_domain_refuses_marks_that_it_would_ignore() -> None:
    domain = Renderer(make_tokenizer(), "domain", 256)
    assert domain.render_row(_marked({"train": True})).num_supervised
    with pytest.raises(TrainError, match="trains all tokens alike"):
        domain.render_row(_marked({"weight": 0.5}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight": -1}, "weight: "),
        ({"weight": True}, "weight: "),
        ({"weight": "1"}, "weight: "),
        ({"messages": [{"role": "assistant", "content": "a", "weight": 2000}]}, "messages.0..weight"),
        ({"messages": [{"role": "assistant", "content": "a", "train": 0}]}, "messages.0..train: "),
        ({"messages": [{"role": "user", "content": "a", "train": True}]}, "messages.0.: .* only what it says"),
    ],
)
def test_a_weight_that_is_none_is_refused_with_its_line(changes: dict[str, Any], message: str) -> None:
    row = {"id": "a", "kind": "chat", "category": "", "cluster": "", "messages": [{"role": "user", "content": "a"}]}
    with pytest.raises(TrainError, match=f"f.jsonl:3: {message}"):
        parse_row_line(json.dumps(row | changes).encode(), "f.jsonl:3")


def test_weights_come_through_the_files_of_a_dataset(
    tmp_path: Path, bases: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [*_weighed(some_rows(6)), replace(chat_row("zero", "a", "b"), weight=0.0), _marked({"train": False})]
    folder = write_dataset(tmp_path / "v1", {"train": rows, "validation": some_rows(2, prefix="v")})
    assert [row.weight for row in open_dataset(folder).splits["train"]] == [row.weight for row in rows]
    prepared = prepare(folder, build_recipe({"base": str(bases()), "objective": "chat", "device": "cpu"}))
    assert [example.id for example in prepared.steps.examples] == [f"r{n}" for n in range(6)]
    said = capsys.readouterr().err
    assert (
        "1 train record skipped, no answer of the record may be trained (train is false, or the weight is 0): m" in said
    )
    assert "1 records of weight 0 are not trained: zero" in said
    nothing = write_dataset(tmp_path / "v2", {"train": rows[6:], "validation": some_rows(2, prefix="v")})
    with pytest.raises(TrainError, match="no training record is left; 1 skipped"):
        prepare(nothing, build_recipe({"base": str(bases()), "objective": "chat", "device": "cpu"}))


def test_the_preview_shows_what_a_token_counts(tmp_path: Path, bases: Any, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_dataset(tmp_path / "v1", {"train": [_marked({}, {"train": False}, {"weight": 0.5})]})
    told = ["preview", str(folder), "--base", str(bases()), "--set", "objective=chat", "-n", "1"]
    assert cli.main(told, standalone_mode=False) == Exit.OK
    lines = capsys.readouterr().out.splitlines()
    marks = {line.split("|")[1]: line[:7].strip() for line in lines[1:]}
    # The end token is trained with its answer.
    assert {text: mark for text, mark in marks.items() if mark} == {"yes": "trained", "maybe": "x 0.5", "<": "x 0.5"}
    assert marks["no"] == ""


def test_evaluation_weighs_nothing() -> None:
    rows = some_rows(4)
    plain, weighed = (RENDERER.render(these).examples for these in (rows, _weighed(rows)))
    model = make_model()
    assert nll_per_example(model, plain) == nll_per_example(model, weighed)
