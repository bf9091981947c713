"""Records that compare answers, from the export's file to the report."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from click.testing import CliRunner

from tests.train.tiny import chat_row, make_tokenizer, pair_row, some_rows, write_dataset
from train.base.errors import TrainError
from train.cli import cli
from train.data.dataset import RatedAnswer, Row, open_dataset, parse_row
from train.data.rendering import Renderer, preference_examples
from train.evaluate.predictions import Scored
from train.recipe import Objective, build_recipe
from train.report import Report
from train.report.diagnostics import preferences

# peft reads a property that transformers renamed.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
ROOT = Path(__file__).resolve().parents[2]


def pairs(number: int, prefix: str) -> list[Row]:
    """Rows whose better answer is of cats and whose worse one is of dogs."""
    return [
        replace(pair_row(row.id, row.messages[0]["content"], "yes the cat sat on a mat", "no the dog ran away",
                         category=row.category), cluster=row.cluster)
        for row in some_rows(number, prefix=prefix) if row.messages
    ]  # fmt: skip


def verdict(record: str, answer: str, rating: float) -> Row:
    """A row of one answer; as an export marks it where it was not liked."""
    row = chat_row(record, f"who said {record}", answer)
    said = {"role": "assistant", "content": answer}
    marked = said if rating > 0 else said | {"train": False}
    return replace(row, messages=[*(row.messages or ())[:-1], marked], answers=(RatedAnswer([said], rating),))


def _render(rows: list[Row], objective: Objective = "dpo", most: int = 256, **settings: Any) -> Any:
    return preference_examples(Renderer(make_tokenizer(), objective, most, **settings), rows, "", None)


def _run(dataset: Path, base: Path, out: Path, *settings: str) -> Any:
    fast = ["eval.max_new_tokens=4", "eval.resamples=100", "global_batch_size=8", *settings]
    arguments = [argument for setting in fast for argument in ("--set", setting)]
    done = CliRunner().invoke(
        cli, ["run", str(dataset), "--base", str(base), "--out", str(out), *arguments], standalone_mode=False
    )
    assert done.exception is None, done.exception
    return done


def test_both_sides_are_rendered_and_trained_from_the_answer_on() -> None:
    (example,) = _render([pair_row("a", "who sat", "the cat", "the dog")]).examples
    decode = make_tokenizer().decode
    for part, answer in zip(example.texts, ("the cat", "the dog"), strict=True):
        trained = [token for token, is_on in zip(part.ids, part.mask, strict=True) if is_on]
        assert decode(trained) == f"{answer}<|im_end|>"


def test_all_turns_of_an_answer_count_and_none_of_the_conversation_before_it() -> None:
    before = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hello to one"}]
    asked = {"role": "user", "content": "who sat"}
    turns = [{"role": "assistant", "content": "the cat"}, {"role": "user", "content": "and"},
             {"role": "assistant", "content": "the dog"}]  # fmt: skip
    worse = [{"role": "assistant", "content": "no"}]
    row = Row(
        "a", "", "a", [*before, asked, *turns], None, None, answers=(RatedAnswer(turns, 2), RatedAnswer(worse, 1))
    )
    (example,) = _render([row]).examples
    trained = [t for t, is_on in zip(example.texts[0].ids, example.texts[0].mask, strict=True) if is_on]
    assert make_tokenizer().decode(trained) == "the cat<|im_end|>the dog<|im_end|>"


def test_pairs_that_are_none_are_left_out_with_their_reason() -> None:
    same = "the red cat sat on a mat and said hello to one small dog"
    rows = [
        pair_row("good", "who", "yes", "no"),
        pair_row("cut", "who", f"{same} yes", f"{same} no"),
        pair_row("equal", "who", "yes", "yes"),
        replace(pair_row("tied", "who", "yes", "no"), answers=[RatedAnswer([], 1), RatedAnswer([], 1)]),
        verdict("single", "yes", 1),
        chat_row("plain", "who", "yes"),
    ]
    rendered = _render(rows, most=22, on_too_long="cut")
    assert [example.id for example in rendered.examples] == ["good"]
    assert rendered.left_out == {
        "cut": ("E881 equal-sides", "both answers are the same up to max_length, where they are cut"),
        "equal": ("E881 equal-sides", "both answers are the same"),
        "tied": ("E880 no-pair", "the answers have the same rating, so that none is the better one"),
        "single": ("E880 no-pair", "the record has one answer, and a pair needs two"),
        "plain": ("E880 no-pair", "the record compares no answers"),
    }


def test_kto_takes_verdicts_and_both_answers_of_a_pair() -> None:
    rows = [
        verdict("a", "yes", 1),
        verdict("b", "no", 0).with_trained_answer,
        pair_row("c", "who", "the cat", "the dog"),
    ]
    examples = _render(rows, "kto").examples
    assert [(example.id, example.sign) for example in examples] == [("a", 1), ("b", -1), ("c", 1), ("c (worse)", -1)]
    # Beside each stands its prompt with another's answer.
    decode = make_tokenizer().decode
    assert decode(examples[0].texts[1].ids).replace("who said a", "X") == (
        decode(examples[1].texts[0].ids).replace("who said b", "X")
    )


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"answers": []}, "answers: .*1 item"),
        ({"answers": [{"messages": [{"role": "assistant", "content": "yes"}], "rating": True}]}, "rating"),
        ({"answers": [{"messages": [{"role": "assistant", "content": "other"}], "rating": 1}]}, "must end with"),
        ({"answers": [{"messages": [{"role": "assistant", "content": "yes"}], "rating": rate} for rate in (0, 1)]},
         "in the order of their ratings"),
        ({"answers": [{"messages": 3, "rating": 1}]}, "messages: .*list"),
    ],
)  # fmt: skip
def test_bad_answers_are_refused_with_their_line(change: dict[str, Any], what: str) -> None:
    row = {"id": "a", "kind": "preference", "category": "", "cluster": "a", "messages": [
        {"role": "user", "content": "who"}, {"role": "assistant", "content": "yes"}]}  # fmt: skip
    with pytest.raises(TrainError, match=what) as caught:
        parse_row(row | change, "train.jsonl:1")
    assert "train.jsonl:1" in caught.value.message


@pytest.mark.ci
def test_a_run_of_dpo(bases: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAIN_CACHE", str(tmp_path / "cache"))
    splits = {"train": [*pairs(24, "t"), pair_row("same", "who", "yes", "yes")], "validation": pairs(6, "v"),
              "test": pairs(12, "x")}  # fmt: skip
    dataset = write_dataset(tmp_path / "dataset" / "v1", splits)
    done = _run(dataset, bases(), tmp_path / "a", "objective=dpo", "max_steps=6", "learning_rate=0.01")
    assert "1 train record skipped, both answers are the same: same" in done.stderr
    assert "reading 48 answers with the model that training begins from" in done.stderr
    report = Report.load(tmp_path / "a")
    assert report.run.objective == "dpo"
    (shown,) = [part for part in report.tables if part.part == "preferences"]
    assert shown.rows[-1][:3] == ("ALL", "12", "1.00")
    assert float(shown.rows[-1][4]) > 1
    assert shown.sentences[0] in " ".join(done.stdout.split())
    assert "What people prefer" in (tmp_path / "a" / "report.md").read_text()
    assert "What people prefer" in (tmp_path / "a" / "report.html").read_text()
    validator = jsonschema_rs.validator_for(json.loads((ROOT / "schemas/predictions.schema.json").read_text()))
    for line in (tmp_path / "a" / "predictions.jsonl").read_text().splitlines():
        validator.validate(json.loads(line))
    # The first loss is that of no preference, ln 2, and validation is the share that moved as people prefer.
    events = [json.loads(line) for line in (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()]
    assert next(e["loss"] for e in events if e["event"] == "step") == pytest.approx(0.6931, abs=1e-3)
    assert [e["score"] for e in events if e["event"] == "eval"][-1] == 1
    # The report computed again is the same.
    again = CliRunner().invoke(cli, ["eval", str(tmp_path / "a")], standalone_mode=False)
    assert again.exception is None
    assert Report.load(tmp_path / "a").tables == report.tables
    _run(dataset, bases(), tmp_path / "b", "objective=dpo", "max_steps=1", "preference.loss=ipo")


@pytest.mark.ci
def test_runs_of_orpo_and_kto(bases: Callable[..., Path], tmp_path: Path) -> None:
    rows = {"train": pairs(16, "t"), "validation": pairs(4, "v"), "test": pairs(4, "x")}
    dataset = write_dataset(tmp_path / "dataset" / "v1", rows)
    replay = tmp_path / "general.txt"
    replay.write_text("the small dog ran home\n\nthe red cat said hello\n")
    done = _run(dataset, bases(), tmp_path / "orpo", "objective=orpo", "max_steps=2", f"mixing.replay={replay}")
    assert "with the model that training begins from" not in done.stderr
    verdicts = {
        split: [verdict(f"{split}{n}", ("yes", "no")[n % 2], 1 - n % 2) for n in range(number)]
        for split, number in (("train", 12), ("validation", 4), ("test", 12))
    }
    one_sided = write_dataset(tmp_path / "dataset" / "v2", verdicts)
    _run(one_sided, bases(), tmp_path / "kto", "objective=kto", "max_steps=8", "learning_rate=0.01")
    report = Report.load(tmp_path / "kto")
    (shown,) = [part for part in report.tables if part.part == "preferences"]
    assert shown.rows[-1][1] == "12"
    assert float(shown.rows[-1][2]) > 0.8
    said = {row.id: row.digest for rows in open_dataset(one_sided).splits.values() for row in rows}
    told = list(map(json.loads, (tmp_path / "kto" / "feedback.jsonl").read_text().splitlines()))
    assert {row["id"]: row["digest"] for row in told} == {
        name: said[name] for name in said if not name.startswith("test")
    }
    # No score and no loss is that of an answer which nobody liked, and none of them is held to over-fit.
    assert sum(result.n for result in report.main().categories) == 6
    assert not any(
        "max_steps" in text for part in report.tables if part.part == "over-fitting" for text in part.sentences
    )


@pytest.mark.ci
@pytest.mark.parametrize("objective", ["dpo", "kto"])
def test_a_resumed_run_ends_with_the_same_bits(objective: str, bases: Callable[..., Path], tmp_path: Path) -> None:
    rows = {"train": pairs(16, "t"), "validation": pairs(4, "v"), "test": pairs(4, "x")}
    dataset = write_dataset(tmp_path / "dataset" / "v1", rows)
    whole, again = tmp_path / "whole", tmp_path / "again"
    settings = (f"objective={objective}", "max_steps=6", "learning_rate=0.01", "save_steps=3", "eval_steps=6")
    _run(dataset, bases(), whole, *settings)
    # As if it had been killed after the third step.
    shutil.copytree(whole, again)
    for name in ("checkpoint-6", "adapter"):
        shutil.rmtree(again / name)
    (again / "run.json").write_text((again / "run.json").read_text().replace('"finished"', '"running"'))
    done = CliRunner().invoke(cli, ["run", str(dataset), "--resume", "--out", str(again)], standalone_mode=False)
    assert done.exception is None, done.exception
    assert "resuming from checkpoint-3" in done.stderr
    name = "adapter/adapter_model.safetensors"
    assert (again / name).read_bytes() == (whole / name).read_bytes()


def test_without_pairs_the_run_is_refused_before_it_begins(dataset: Path, bases: Callable[..., Path]) -> None:
    done = CliRunner().invoke(
        cli, ["run", str(dataset), "--base", str(bases()), "--set", "objective=dpo"], standalone_mode=False
    )
    assert isinstance(done.exception, TrainError)
    assert done.exception.code == "E880 no-pair"
    assert "24 skipped, the record compares no answers" in done.exception.message
    assert "preference" in (done.exception.hint or "")


def test_half_of_the_pairs_is_no_success() -> None:
    sides = []
    for n in range(40):
        before = Scored(f"r{n}", "test", "ask", f"r{n}", "", 10.0, 4, 16, rejected={"nll": 9.0, "num_tokens": 4})
        sides.append((before, replace(before, nll=8.0 if n < 22 else 12.0)))
    (found,), _ = preferences(sides, "test")
    assert "55.0 % of the 40 test records" in found.sentences[0]
    assert "any change of weights moves about half" in found.sentences[0]


@pytest.mark.ci
def test_an_exam_that_compares_no_answers_is_told(bases: Callable[..., Path], tmp_path: Path) -> None:
    rows = {"train": pairs(12, "t"), "validation": some_rows(3, prefix="v"), "test": some_rows(3, prefix="x")}
    dataset = write_dataset(tmp_path / "dataset" / "v1", rows)
    budget = "eval.max_reasoning_tokens=2"
    done = _run(dataset, bases(), tmp_path / "a", "objective=dpo", "max_steps=1", budget)
    told = "No validation or test record compares answers, so nothing shows whether training moved them as wanted."
    assert f"warning: {told[:-1]}" in done.stderr
    assert told in Report.load(tmp_path / "a").remarks
    assert "warning: the chat template marks no reasoning, so eval.max_reasoning_tokens ends none" in done.stderr


def test_what_a_recipe_says_of_preferences() -> None:
    with pytest.raises(TrainError, match=r'preference\.loss is of the objective "dpo", and this one is "orpo"'):
        build_recipe({"objective": "orpo", "preference": {"loss": "ipo"}})
    assert build_recipe({"preference": {"loss": "ipo"}}).preference.is_length_normalised
    assert build_recipe({"preference": {"length_normalised": True}}).preference.resolved_beta == 5
    with pytest.raises(TrainError, match="takes every pair as it is"):
        build_recipe({"preference": {"loss": "ipo", "label_smoothing": 0.1}})
