"""A few answers to validation records at each validation, and how far the measurement of a model is."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from safetensors.torch import load_file

from tests.train.tiny import chat_row, some_rows, text_row, write_dataset
from train.evaluate.evaluation import sample_ids
from train.evaluate.predictions import Scored, make_sample, read_predictions
from train.pipeline import execute
from train.pipeline.execute import start_run

ROOT = Path(__file__).resolve().parents[2]
FAST = ["eval.max_new_tokens=4", "eval.resamples=100", "global_batch_size=8", "max_steps=4", "eval_steps=2"]


def events_of(run: Path, kind: str = "") -> list[dict[str, Any]]:
    events = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [event for event in events if kind in ("", event["event"])]


def run_to(run: Path, dataset: Path, base: Path, *settings: str, **options: Any) -> Path:
    start_run(dataset, None, settings=[*FAST, *settings], base=str(base), out=run, **options)
    return run


@pytest.fixture
def metrics_schema() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads((ROOT / "schemas/metrics.schema.json").read_text()))


@pytest.mark.ci
def test_the_same_three_validation_records_are_answered_at_each_validation(
    dataset: Path, bases: Callable[..., Path], tmp_path: Path, metrics_schema: jsonschema.Draft202012Validator
) -> None:
    run = run_to(tmp_path / "r", dataset, bases())
    for event in events_of(run):
        metrics_schema.validate(event)
    watched = [event for event in events_of(run) if event.get("samples")]
    assert [(event["event"], event["step"]) for event in watched] == [("start", 0), ("eval", 2), ("eval", 4)]
    ids = [[sample["id"] for sample in event["samples"]] for event in watched]
    assert len(ids[0]) == len(set(ids[0])) == 3
    assert ids[0] == ids[1] == ids[2]
    assert all(name.startswith("v") for name in ids[0]), "of no other split"
    assert {sample["category"] for sample in watched[0]["samples"]} == {"cats", "dogs"}
    # The first are the base's answers, those that the report has of it.
    base, _ = read_predictions(run / "predictions.jsonl")
    answers = {record.id: (record.reference, record.text) for record in base}
    assert [(s["expected"], s["got"]) for s in watched[0]["samples"]] == [answers[name] for name in ids[0]]


@pytest.mark.ci
def test_a_run_with_samples_is_bit_for_bit_the_run_without(
    dataset: Path, bases: Callable[..., Path], tmp_path: Path
) -> None:
    runs = [run_to(tmp_path / f"{num}", dataset, bases(), f"eval.samples={num}") for num in (0, 3)]
    assert not any("samples" in event and event["samples"] for event in events_of(runs[0]))
    losses = [[(e["step"], e["loss"], e["grad_norm"]) for e in events_of(run, "step")] for run in runs]
    assert losses[0] == losses[1]
    scores = [[(e["loss"], e["score"], e["by_category"]) for e in events_of(run, "eval")] for run in runs]
    assert scores[0] == scores[1]
    without, with_samples = (load_file(run / "adapter/adapter_model.safetensors") for run in runs)
    assert without.keys() == with_samples.keys()
    assert all(without[name].equal(with_samples[name]) for name in without)
    facts = [json.loads((run / "run.json").read_text())["facts"] for run in runs]
    assert facts[0] == facts[1], "switching them off does not make it another run"


@pytest.mark.ci
def test_no_more_is_generated_for_them(
    dataset: Path, bases: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from train.evaluate import evaluation

    num_prompts: list[int] = []
    generate = evaluation.generate

    def counting(model: Any, prompts: Any, **options: Any) -> Any:
        num_prompts.append(len(prompts))
        return generate(model, prompts, **options)

    monkeypatch.setattr(evaluation, "generate", counting)
    run_to(tmp_path / "a", dataset, bases(), "eval.samples=0", is_cached=False)
    without = list(num_prompts)
    num_prompts.clear()
    run_to(tmp_path / "b", dataset, bases(), is_cached=False)
    assert num_prompts == without


def test_a_long_answer_is_cut_and_says_how_long_it_was() -> None:
    record = Scored("a", "validation", "cats", "a", "x" * 600, 1.0, 1, 1, text="y\ud800", stopped=True)
    sample = make_sample(record)
    assert (len(sample["expected"]), sample["expected_length"]) == (500, 600)
    assert (sample["got"], sample["got_length"], sample["score"]) == ("y\ufffd", 2, None)


def test_samples_are_of_many_categories_and_never_raw_text() -> None:
    rows = [chat_row(f"v{n}", "hello", "yes", category="common") for n in range(20)]
    rows += [chat_row("rare", "hello", "no", category="rare"), text_row("text", "the cat")]
    first = sample_ids(rows, 3)
    assert "rare" in first
    assert "text" not in first
    assert sample_ids(rows[::-1], 3) == first
    assert sample_ids(rows, 0) == []


@pytest.mark.ci
def test_a_resumed_run_keeps_the_answers_of_the_base(dataset: Path, bases: Callable[..., Path], tmp_path: Path) -> None:
    whole = run_to(tmp_path / "r", dataset, bases(), "save_steps=2")
    before = events_of(whole, "start")
    (whole / "checkpoint-4").rename(tmp_path / "gone")
    record = json.loads((whole / "run.json").read_text())
    (whole / "run.json").write_text(json.dumps(record | {"status": "stopped"}))
    start_run(dataset, None, out=whole, is_resumed=True)
    assert events_of(whole, "start") == before
    assert [event["step"] for event in events_of(whole, "eval") if event["samples"]] == [2, 4]


@pytest.mark.ci
def test_the_measurement_of_base_and_tuned_says_how_far_it_is(
    bases: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    metrics_schema: jsonschema.Draft202012Validator,
) -> None:  # fmt: skip
    splits = {"train": some_rows(24, prefix="t"), "validation": some_rows(6, prefix="v")}
    # One that is skipped for its length is not waited for.
    splits["validation"].append(chat_row("long", "hello " * 300, "yes"))
    dataset = write_dataset(tmp_path / "dataset/v1", splits)
    of_the_base: list[dict[str, Any]] = []
    compute_ref_logps = execute.compute_ref_logps

    def after_the_base(*arguments: Any) -> Any:
        of_the_base.extend(events_of(tmp_path / "r"))
        return compute_ref_logps(*arguments)

    monkeypatch.setattr(execute, "compute_ref_logps", after_the_base)
    run = run_to(tmp_path / "r", dataset, bases(), "on_too_long=skip", "eval.batch_tokens=64")
    for event in [*of_the_base, *events_of(run)]:
        metrics_schema.validate(event)
    first, *_, last = of_the_base
    assert {event["event"] for event in of_the_base} == {"measure"}
    num = 24 + 7 + 7
    assert (first["model"], first["done"], first["of"], first["eta_seconds"]) == ("base", 0, num, None)
    assert (last["done"], last["of"]) == (num, num)
    assert math.isclose(last["eta_seconds"], 0)
    # The loop began the file anew, and what is measured after it stands behind its end.
    kinds = [event["event"] for event in events_of(run)]
    assert kinds[0] == "start"
    assert set(kinds[kinds.index("end") + 1 :]) == {"measure"}
    last = events_of(run, "measure")[-1]
    assert (last["model"], last["step"], last["done"]) == ("tuned", 4, num)
