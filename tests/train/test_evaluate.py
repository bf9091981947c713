"""Generation equals one-by-one greedy decoding, likelihoods equal plain cross-entropy, and both end in one report."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from tests.train.tiny import louder, one_by_one
from train.base.errors import TrainError
from train.data.dataset import Row, open_dataset
from train.data.rendering import Renderer
from train.evaluate.answers import generate
from train.evaluate.evaluation import evaluate_model, evaluate_splits, generate_answers, summarise_validation
from train.evaluate.general import general_rows
from train.evaluate.predictions import Scored, read_predictions
from train.evaluate.scoring import Answer, category_specs, rescore, score_answers
from train.model import add_lora, load_base
from train.model.loss import Nll
from train.recipe import Recipe
from train.report import Run, build_report
from train.report.build import write_results

RECIPE = Recipe.model_validate({"bf16": False, "eval": {"max_new_tokens": 12, "batch_tokens": 300}})


def _prompts(vocabulary: int, num: int = 30) -> list[list[int]]:
    rng = random.Random(4)
    return [[rng.randrange(3, vocabulary) for _ in range(rng.randint(1, 40))] for _ in range(num)]


@pytest.mark.ci
@pytest.mark.parametrize("kind", ["qwen3", "llama", "gpt2"])
@pytest.mark.parametrize("batch_tokens", [1, 300, 100_000])
def test_batched_decoding_is_one_by_one_decoding(bases: Callable[..., Path], kind: str, batch_tokens: int) -> None:
    if kind == "gpt2":
        torch.manual_seed(0)
        config = GPT2Config(
            vocab_size=400, n_embd=32, n_layer=2, n_head=4, n_positions=256, bos_token_id=None, eos_token_id=None
        )
        model = louder(GPT2LMHeadModel(config))
    else:
        model = louder(load_base(str(bases(kind)), device="cpu")[0])
    prompts, stop = _prompts(400), [7, *range(20, 50)]
    got = generate(model, prompts, max_new_tokens=16, stop_ids=stop, batch_tokens=batch_tokens)
    assert [(one.ids, one.stopped) for one in got] == [one_by_one(model, prompt, 16, stop) for prompt in prompts]
    assert len({tuple(one.ids) for one in got}) > 10, "the prompts must matter"
    assert 0 < sum(one.stopped for one in got) < len(got)


@pytest.mark.ci
def test_a_real_model_is_decoded_asone_by_one(shared: Path) -> None:
    folder = shared / "models/stories260k"
    if not (folder / "config.json").exists():
        pytest.skip("needs the public model stories260k")
    model, tokenizer = load_base(str(folder), device="cpu")
    starts = ["Once upon a time", "Tom and Lily", "The dog", "One day, a small girl named Mia went", "A"]
    prompts = [tokenizer(start)["input_ids"] for start in starts]
    got = generate(model, prompts, max_new_tokens=40, stop_ids=[2], batch_tokens=4096)
    assert [(one.ids, one.stopped) for one in got] == [one_by_one(model, prompt, 40, [2]) for prompt in prompts]
    assert " " in tokenizer.decode(got[0].ids)


def test_nothing_is_generated_beyond_the_positions_of_the_model(bases: Callable[..., Path]) -> None:
    model, _ = load_base(str(bases()), device="cpu")
    model.train()
    got = generate(model, [[5] * 250, [5] * 256, [5] * 300], max_new_tokens=50, stop_ids=[], batch_tokens=100)
    assert [len(one.ids) for one in got] == [6, 0, 0]
    assert not any(one.stopped for one in got)
    assert model.training
    with pytest.raises(ValueError, match="at least one token"):
        generate(model, [[]], max_new_tokens=1, stop_ids=[], batch_tokens=100)


def test_likelihoods_are_those_of_plain_cross_entropy(bases: Callable[..., Path], dataset: Path) -> None:
    model, tokenizer = load_base(str(bases()), device="cpu")
    renderer = Renderer(tokenizer, "sft", 256)
    rows = open_dataset(dataset).splits["test"]
    scored = evaluate_model(model, renderer, rows, {}, RECIPE, split="test", is_generating=False)
    for one, row in zip(scored, rows, strict=True):
        example = renderer.render_row(row)
        ids = torch.tensor([example.ids])
        with torch.no_grad():
            log_p = model(ids).logits[0].log_softmax(-1)
        expected = -sum(float(log_p[t - 1, example.ids[t]]) for t, is_trained in enumerate(example.mask) if is_trained)
        assert one.nll == pytest.approx(expected, rel=1e-5)
        assert (one.text, one.num_tokens, one.num_bytes) == (None, sum(example.mask), example.num_bytes)


def test_answers_are_generated_scored_and_kept_in_order(bases: Callable[..., Path], dataset: Path) -> None:
    model, tokenizer = load_base(str(bases()), device="cpu")
    renderer = Renderer(louder(model) and tokenizer, "sft", 256)
    rows = open_dataset(dataset).splits["test"]
    said = generate_answers(model, renderer, rows, max_new_tokens=12, batch_tokens=300)
    specs = category_specs({"cats": {"scorer": "exact"}, "dogs": {}})
    scored = evaluate_model(model, renderer, rows, specs, RECIPE, split="test")
    assert [one.id for one in scored] == [one.id for one in said] == [row.id for row in rows]
    for one, prediction, row in zip(scored, said, rows, strict=True):
        prompt = renderer.render_prompt(row)
        assert prompt is not None
        ids, stopped = one_by_one(model, prompt.ids, 12, renderer.stop_ids)
        assert (prediction.text, prediction.stopped) == (one.text, one.stopped) == (renderer.decode(ids), stopped)
        assert row.messages is not None
        assert one.reference == row.messages[-1]["content"]
        assert one.metric == {"cats": "exact", "dogs": "token_f1"}[row.category]
        assert {one.metric, "behaviour.empty", "behaviour.repetition", "behaviour.length_ratio"} == set(
            one.scores or {}
        )


def test_a_right_answer_scores_one_and_raw_text_has_no_answer() -> None:
    rows = [
        Row(
            "a",
            "cats",
            "a",
            [{"role": "user", "content": "q"}, {"role": "assistant", "content": "yes"}],
            None,
            None,
        ),
        Row(
            "b",
            "cats",
            "b",
            [{"role": "user", "content": "q"}, {"role": "assistant", "content": "no"}],
            None,
            None,
        ),
        Row("c", "text", "c", None, None, "raw"),
        Row("skipped", "text", "d", None, None, "raw"),
    ]
    nlls = [Nll("c", 3.0, 2, 3), Nll("a", 1.0, 2, 3), Nll("b", 2.0, 4, 2)]
    said = [Answer("b", "yes", True), Answer("a", " yes\n", False)]
    scored = score_answers(
        rows, {"a": "yes", "b": "no"}, said, nlls, category_specs({"cats": {"scorer": "exact"}}), split="test"
    )
    assert [(one.id, one.score, one.nll) for one in scored] == [("a", 1.0, 1.0), ("b", 0.0, 2.0), ("c", None, 3.0)]
    assert (scored[0].stopped, scored[2].text, scored[2].metric) == (False, None, "")
    means = summarise_validation(scored)
    assert (means.loss, means.score, means.by_category) == (6 / 8, 0.5, {"cats": 0.5})
    assert summarise_validation([]).score is None
    assert math.isnan(summarise_validation([]).loss)


def test_categories_weigh_the_same_in_the_score_of_a_run() -> None:
    def one(record: str, category: str, value: float) -> Scored:
        return Scored(record, "validation", category, record, "", 1.0, 1, 1, "", True, "exact", {"exact": value})

    means = summarise_validation([one("1", "a", 1), one("2", "a", 1), one("3", "a", 1), one("4", "b", 0)])
    assert (means.score, means.by_category) == (0.5, {"a": 1.0, "b": 0.0})


def test_a_bad_scorer_names_its_category() -> None:
    with pytest.raises(TrainError, match="category 'billing': there is no scorer 'exakt'") as caught:
        category_specs({"billing": {"scorer": "exakt", "options": {}}})
    assert caught.value.code == "E931 unknown-metric"


def test_the_base_is_the_same_after_training_with_adapters(bases: Callable[..., Path], dataset: Path) -> None:
    model, tokenizer = load_base(str(bases()), device="cpu")
    renderer = Renderer(tokenizer, "sft", 256)
    rows = open_dataset(dataset).splits["validation"]
    before = evaluate_model(model, renderer, rows, {}, RECIPE, split="validation")
    model = add_lora(model, Recipe(), seed=0, dtype=torch.float32)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "lora_B" in name:
                weights.normal_(std=0.5)
    tuned = evaluate_model(model, renderer, rows, {}, RECIPE, split="validation")
    with model.disable_adapter():
        after = evaluate_model(model, renderer, rows, {}, RECIPE, split="validation")
    assert [one.text for one in after] == [one.text for one in before]
    assert [one.nll for one in after] == pytest.approx([one.nll for one in before], rel=1e-6)
    assert [one.nll for one in tuned] != pytest.approx([one.nll for one in before], rel=1e-3)


@pytest.mark.ci
def test_a_run_is_published_and_can_be_computed_again(
    bases: Callable[..., Path], dataset: Path, tmp_path: Path
) -> None:
    model, tokenizer = load_base(str(bases()), device="cpu")
    renderer = Renderer(tokenizer, "sft", 256)
    opened, specs = open_dataset(dataset), category_specs({"cats": {"scorer": "exact"}})
    base = evaluate_splits(model, renderer, opened, specs, RECIPE)
    tuned = evaluate_splits(louder(model), renderer, opened, specs, RECIPE)
    report = write_results(
        base, tuned, dataset=opened, categories=specs, recipe=RECIPE, run=Run(id="r"), folder=tmp_path / "run"
    )
    assert [split.n for split in report.splits] == [6, 6]
    assert "No scorer is set for dogs; the default one was used." in report.remarks
    assert report.forgetting is not None
    assert report.forgetting.n == len(general_rows())
    assert report.forgetting.word == "forgot"
    again = build_report(*read_predictions(tmp_path / "run/predictions.jsonl"), run=Run(id="r"))
    assert again.splits == report.splits
    lines = [json.loads(line) for line in (tmp_path / "run/predictions.jsonl").read_text().splitlines()]
    assert {line["split"] for line in lines} == {"validation", "test", "general"}
    common = {"id", "split", "category", "cluster", "reference", "metric", "trivial_score", "digest"}
    assert lines[0].keys() == common | {"base", "tuned"}
    feedback = [json.loads(line) for line in (tmp_path / "run/feedback.jsonl").read_text().splitlines()]
    test_ids = {row.id for row in opened.splits["test"]}
    assert {line["id"] for line in feedback} == {
        row.id for split in ("train", "validation") for row in opened.splits[split]
    }
    assert not test_ids & {line["id"] for line in feedback}
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "predictions.jsonl",
        "feedback.jsonl",
        "report.json",
        "report.md",
        "report.html",
    }


def test_the_general_slice_is_ours_or_a_file_and_faults_have_a_place(tmp_path: Path) -> None:
    ours = general_rows()
    assert len(ours) == 24
    assert len({row.cluster for row in ours}) == 24
    assert all(row.messages is None and row.text and len(row.text) < 400 for row in ours)
    text = tmp_path / "general.txt"
    text.write_text("one\n\n" + "word " * 500 + "\n\n\n", encoding="utf-8")
    rows = general_rows(text)
    assert [row.cluster for row in rows] == ["general-0001"] + ["general-0002"] * 3
    assert " ".join(row.text or "" for row in rows[1:]) == ("word " * 500).strip()
    lines = tmp_path / "general.jsonl"
    lines.write_text('{"text": "fine"}\n{"txt": 1}\n', encoding="utf-8")
    with pytest.raises(TrainError, match=r"general.jsonl:2"):
        general_rows(lines)
    lines.write_text('{"text": ' + "[" * 100_000)
    with pytest.raises(TrainError, match=r"general.jsonl:1"):
        general_rows(lines)
    lines.write_text("\n", encoding="utf-8")
    with pytest.raises(TrainError, match="no text"):
        general_rows(lines)
    with pytest.raises(TrainError, match=r"none.txt"):
        general_rows(tmp_path / "none.txt")


@pytest.mark.ci
def test_a_model_that_gives_no_number_is_never_called_a_success(
    bases: Callable[..., Path], dataset: Path, tmp_path: Path
) -> None:
    model, tokenizer = load_base(str(bases()), device="cpu")
    renderer, opened = Renderer(tokenizer, "sft", 256), open_dataset(dataset)
    base = evaluate_splits(model, renderer, opened, {}, RECIPE)
    with torch.no_grad():
        model.model.norm.weight.fill_(math.nan)
    tuned = evaluate_splits(model, renderer, opened, {}, RECIPE)
    with pytest.raises(TrainError) as caught:
        write_results(
            base, tuned, dataset=opened, categories={}, recipe=RECIPE, run=Run(id="r"), folder=tmp_path / "run"
        )
    assert caught.value.code == "E934 not-finite"
    assert not (tmp_path / "run").exists()


def asked(number: int, answer: str) -> Row:
    turns = [{"role": "user", "content": f"(A) or (B), {number}?"}, {"role": "assistant", "content": answer}]
    return Row(str(number), "cats", str(number), turns, None, None)


@pytest.mark.parametrize(
    ("scorer", "answers", "label", "expected"),
    [
        ({}, ["(A)", "(B)", "(B)"] * 3, "(B)", 1.0),
        ({"scorer": "choice"}, ["(A)", "(A)", "(B)"] * 3, "(A)", 0.0),
        ({"scorer": "choice_logprob", "options": {"choices": ["(A)", "(B)"]}}, ["(B)", "(B)", "(A)"] * 3, "(B)", 1.0),
        ({"scorer": "contains"}, [f"free text {n}" for n in range(9)], None, 1.0),
        ({"scorer": "judge"}, ["(B)"] * 9, "(B)", None),
    ],
)
def test_the_trivial_answer_is_the_commonest_label_or_a_copy_of_the_prompt(
    scorer: dict[str, Any], answers: list[str], label: str | None, expected: float | None
) -> None:
    specs = category_specs({"cats": scorer}, [asked(n, answer) for n, answer in enumerate(answers)])
    given = Answer("77", "no idea", True, logprobs=[-1.0, -2.0] if "options" in scorer else ())
    (scored,) = score_answers([asked(77, "(B)")], {"77": "(B)"}, [given], None, specs, split="test")
    assert (scored.trivial_answer, scored.trivial_score) == (label, expected)


def test_the_trivial_answer_is_never_the_reference() -> None:
    answer, thanks = {"role": "assistant", "content": "(B)"}, {"role": "user", "content": "(A), thanks!"}
    for turns, expected in ([asked(1, "(B)").messages[0], answer, thanks], 0.0), ([answer], None):
        row = replace(asked(1, "(B)"), messages=turns)
        specs = category_specs({"cats": {"scorer": "exact"}})
        (scored,) = score_answers([row], {"1": "(B)"}, [Answer("1", "(B)", True)], None, specs, split="test")
        assert (scored.trivial_answer, scored.trivial_score) == (None, expected)
        # What the user said last is no label either.
        assert category_specs({"cats": {}}, [row] * 3)["cats"].label == "(B)"
    silent = replace(asked(1, ""), messages=[thanks])
    assert category_specs({"cats": {}}, [silent] * 3)["cats"].label is None


@pytest.mark.parametrize(
    ("text", "answer", "reasoning"),
    [
        ("<think>\nB or C\n</think>\n\nB", "B", "B or C"),
        (" <THINK></THINK>B", "B", ""),
        ("[THINK]hm[/THINK]B", "B", "hm"),
        ("\u25c1think\u25b7hm\u25c1/think\u25b7B", "B", "hm"),
        ("<|begin_of_thought|>hm<|end_of_thought|> B", "B", "hm"),
        ("<reasoning>hm</reasoning>\nB", "B", "hm"),
        ("<think>a</think>b</think>", "b</think>", "a"),
        # The prompt had begun it.
        ("B or C\n</think>\n\nB", "B", "B or C"),
        ("</think>\n\nB", "B", ""),
        # It was cut off.
        ("<think>\nB, or", "", "B, or"),
        ("B", "B", None),
        ("it ends with </think> in HTML", "it ends with </think> in HTML", None),
        ("[Reasoning] hm [Answer] B", "[Reasoning] hm [Answer] B", None),
        ("<thin>B</thin>", "<thin>B</thin>", None),
    ],
)
def test_reasoning_in_a_text_is_none_of_the_answer(text: str, answer: str, reasoning: str | None) -> None:
    given = Answer("1", text, True)
    assert (given.text, given.reasoning) == (answer, reasoning)
    # A reference is parted likewise, so that it is right as an answer to itself.
    specs = category_specs({"cats": {"scorer": "exact"}})
    (scored,) = score_answers([asked(1, text)], {"1": text}, [given], None, specs, split="test")
    assert (scored.text, scored.reasoning, scored.reference) == (answer, reasoning, answer)
    assert scored.score == (1.0 if answer else None)


def test_reasoning_that_was_parted_already_stays() -> None:
    given = Answer("1", "<think>B", True, "hm")
    assert (given.text, given.reasoning) == ("<think>B", "hm")


@pytest.mark.parametrize(
    ("content", "kept", "expected"),
    [
        ("Return", "n", "Return"),
        ("Return", "", "Return"),
        ("<b>x</b> y", "y", "<b>x</b> y"),
        ("<think>so</think>\nReturn", "Return", "Return"),
        ("<think>so</think>\nReturn", "turn", "Return"),
        ("[THINK]so[/THINK]Return", "Return", "Return"),
    ],
)
def test_a_reference_is_the_answer_of_the_dataset_without_its_reasoning(content: str, kept: str, expected: str) -> None:
    row = asked(1, content)
    old = Scored("1", "test", "cats", "1", kept, None, 0, 0, text=kept, stopped=True, metric="exact")
    splits = {"train": [], "validation": [], "test": [row]}
    dataset = SimpleNamespace(manifest={"categories": {"cats": {"scorer": "exact"}}}, splits=splits)
    [[new]] = rescore([[old]], cast("Any", dataset), {"test": 1})
    assert (new.reference, new.score) == (expected, float(kept == expected))
