"""Stages: several trainings one after another, one exam for all, and what training data give away of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.train.test_preferences import pairs
from tests.train.tiny import chat_row, some_rows, text_row, write_dataset
from train.base.errors import TrainError
from train.cli import cli
from train.data.dataset import Row, open_dataset
from train.data.overlap import find_contaminated, flag_exam_copies
from train.evaluate.predictions import read_predictions
from train.pipeline.prepare import prepare
from train.pipeline.stages import open_stages
from train.recipe import load_recipe
from train.report import Report
from train.report.write import markdown

# peft reads a property that transformers renamed.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
FAST = "eval.max_new_tokens = 4\neval.resamples = 100\nglobal_batch_size = 8\nlearning_rate = 0.01\n"


def _call(*arguments: str) -> Any:
    return CliRunner().invoke(cli, [*arguments], standalone_mode=False)


@pytest.fixture
def recipe(dataset: Path, bases: Callable[..., Path], tmp_path: Path) -> Path:
    """A recipe of three stages: a text, the records of the dataset, and pairs."""
    (tmp_path / "book.txt").write_text("the small dog ran home\n\nthe red cat said hello to one small dog\n")
    rows = {"train": pairs(12, "p"), "validation": pairs(4, "q"), "test": pairs(12, "z")}
    write_dataset(tmp_path / "pairs", rows)
    path = tmp_path / "recipe.toml"
    path.write_text(
        f'base = "{bases()}"\n{FAST}'
        '[[stage]]\nname = "text"\ndata = "book.txt"\nmax_steps = 2\n'
        "[[stage]]\nmax_steps = 2\n"
        '[[stage]]\nname = "pairs"\ndata = "pairs"\nobjective = "dpo"\nmax_steps = 4\ncontinued = true\n'
    )
    return path


@pytest.mark.ci
def test_stages_are_one_series_with_one_exam(recipe: Path, dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs" / "a"
    done = _call("run", str(dataset), "--recipe", str(recipe), "--out", str(out))
    assert done.exception is None, done.exception
    assert "plan: 3 runs of 2 to 4 steps, 8 in all" in done.stderr
    assert "stages: text\n" in done.stderr
    series = json.loads((out / "series.json").read_text())
    assert series["kind"] == "stages"
    assert [member["name"] for member in series["members"]] == ["text", "stage-2", "pairs"]
    report = Report.load(out)
    (stages,) = [part for part in report.tables if part.part == "stages"]
    assert stages.heads == ("category", "base", "text", "stage-2", "pairs")
    last = Report.load(out / "pairs")
    assert report.measured().tables == last.measured().tables
    assert any("of the last stage" in remark for remark in report.remarks)
    (said,) = stages.sentences
    for part in ("text (domain, 2 records;", "stage-2 (sft, 24 records;", "pairs (dpo, 12 records;",
                 "the base is run text, whose adapter is merged in memory",
                 "the base is run stage-2, whose adapter is continued"):  # fmt: skip
        assert part in said
    # All columns are of the same records: those of the dataset, and of the pairs.
    sides = [read_predictions(out / name / "predictions.jsonl") for name in ("text", "stage-2", "pairs")]
    names = [{record.id for record in side if record.split == "test"} for pair in sides for side in pair]
    assert names == [{*(f"x{n}" for n in range(6)), *(f"pairs/z{n}" for n in range(12))}] * 6
    # Each stage begins where the one before ended.
    for (_, before), (after, _) in pairwise(sides):
        ends = {record.id: record.nll for record in before if record.split == "test"}
        assert {r.id: r.nll for r in after if r.split == "test"} == pytest.approx(ends, rel=1e-3)
    # The table has a column for each, and says what was forgotten at each border.
    assert "Stages: scores on the test split" in done.stdout
    assert "general text, bits" in done.stdout
    assert done.stdout.count("General text (the built-in general.txt") >= 4
    assert [row[0] for row in stages.rows][-2:] == ["better answer likelier", "general text, bits"]
    assert "Stages: scores" in markdown(report)
    assert "Stages: scores" in (out / "report.html").read_text()
    assert report.likelier is not None


@pytest.mark.ci
def test_likelihoods_of_other_tokens_are_counted(dataset: Path, bases: Callable[..., Path], tmp_path: Path) -> None:
    """An objective that reads the prompts too says nothing of the same tokens as one of answers."""
    (tmp_path / "recipe.toml").write_text(
        f'base = "{bases()}"\n{FAST}[[stage]]\nobjective = "domain"\nmax_steps = 1\n[[stage]]\nmax_steps = 1\n'
    )
    out = tmp_path / "a"
    done = _call("run", str(dataset), "--recipe", str(tmp_path / "recipe.toml"), "--out", str(out))
    assert done.exception is None, done.exception
    report = Report.load(out)
    num = len(read_predictions(out / "stage-2" / "predictions.jsonl")[1])
    (remark,) = [remark for remark in report.remarks if "other tokens" in remark]
    assert 0 < int(remark.split()[0]) <= num
    assert remark in " ".join(done.stdout.split())
    assert remark in markdown(report)
    assert report.main().macro is not None, "scores are of answers, which both have"


@pytest.mark.ci
def test_a_stage_is_priced_by_its_tokens(recipe: Path, dataset: Path) -> None:
    loaded = load_recipe(recipe)
    text, answers, pairs = (
        prepare(stage.data, load_recipe(loaded, {**stage.changes, "continue_adapter": False})).steps
        for stage in open_stages(loaded, recipe.parent, open_dataset(dataset))
    )
    assert [len(text), len(answers), len(pairs)] == [2, 2, 4]
    # A pair is read on both sides.
    assert pairs.num_tokens() / len(pairs) > 1.5 * answers.num_tokens() / len(answers)


@pytest.mark.ci
def test_a_series_of_stages_goes_on(recipe: Path, dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs" / "a"
    done = _call("run", str(dataset), "--recipe", str(recipe), "--out", str(out))
    assert done.exception is None, done.exception
    before = (out / "text" / "report.json").stat().st_mtime_ns
    book = recipe.with_name("book.txt")
    text = book.read_text()
    book.write_text("another text\n")
    error = _call("run", str(dataset), "--resume", "--out", str(out)).exception
    assert isinstance(error, TrainError)
    assert error.code == "E870 series-changed"
    book.write_text(text)
    # As if it had been killed in the last stage; dataset and series lie elsewhere meanwhile.
    about = json.loads((out / "pairs" / "run.json").read_text())
    (out / "pairs" / "run.json").write_text(json.dumps(about | {"status": "running"}))
    out, dataset = out.rename(tmp_path / "moved"), dataset.rename(tmp_path / "elsewhere")
    again = _call("run", str(dataset), "--resume", "--out", str(out))
    assert "resuming from checkpoint-4" in again.stderr
    assert again.exception is None, again.exception
    assert json.loads((out / "series.json").read_text())["status"] == "finished"
    assert (out / "pairs" / "report.json").exists()
    assert (out / "text" / "report.json").stat().st_mtime_ns == before
    # What a stage is trained on lies in no folder, and is put together again.
    for words in (["eval", str(out / "stage-2"), "--rescore"], ["export", str(out), "--to", "adapter", "--check", "0"]):
        done = _call(*words, "--dataset", str(dataset))
        assert done.exception is None, done.exception


@pytest.mark.ci
def test_records_of_the_exam_are_not_trained_on_and_what_overlaps_is_told(
    dataset: Path, bases: Callable[..., Path], tmp_path: Path
) -> None:
    def sliced(rows: list[Row]) -> list[Row]:
        return [replace(row, slices={"tone": ["ab"[n % 2]]}) for n, row in enumerate(rows)]

    long = "the red cat sat on a mat and said hello to one small dog who ran far away from home"
    exam = [chat_row("v", long, "yes"), *some_rows(4, prefix="v")]
    dataset = write_dataset(
        tmp_path / "exam",
        {"train": some_rows(8), "validation": exam, "test": sliced(some_rows(4, prefix="x"))},
        slices=["tone"],
    )
    other = [chat_row("same", long, "yes"), chat_row("near", f"maybe {long}", "no"), *some_rows(8, prefix="o", seed=5)]
    write_dataset(tmp_path / "other", {"train": other})
    path = tmp_path / "recipe.toml"
    stages = '[[stage]]\ndata = "other"\nmax_steps = 1\n[[stage]]\nmax_steps = 1\nreplay = "leak.txt"\n'
    path.write_text(f'base = "{bases()}"\n{FAST}{stages}')
    (tmp_path / "leak.txt").write_text(f"{long}\nyes\n\nthe sea is salt\n")
    done = _call("run", str(dataset), "--recipe", str(path), "--out", str(tmp_path / "a"))
    assert done.exception is None, done.exception
    assert "stage-1: 1 of 10 training records are exam records; left out" in done.stderr
    assert "exam records share 13 words in a row with training records, of validation v" in done.stderr
    assert "1 of 2 replayed texts are test records or those of eval.general; left out" in done.stderr
    said = {part.part: " ".join(part.sentences) for part in Report.load(tmp_path / "a").tables}
    assert "tone" in said["slices"]
    assert "9 records; 1 left out as exam records; 1 exam records share 13 words" in said["stages"]


def test_overlap() -> None:
    words = [f"w{n}" for n in range(30)]
    exam = [text_row("a", " ".join(words)), text_row("b", "short")]
    assert find_contaminated([text_row("t", " ".join(["x", *words[3:16], "y"]))], exam) == [0]
    assert find_contaminated([text_row("t", " ".join(["x", *words[3:15], "y"]))], exam) == []
    assert flag_exam_copies([text_row("t", " short\n"), text_row("u", "shorter")], exam) == [True, False]
    near = [chat_row("a", "3 + 4 =", "7"), chat_row("b", "a != b", "🙂")]
    assert flag_exam_copies([chat_row("t", "3 * 4", "7"), chat_row("u", "a == b", "🙁")], near) == [False, False]
    (call,), messages = [{"function": {"name": "f", "arguments": "1"}}], near[0].messages or []
    called = replace(near[0], messages=[*messages[:-1], {**messages[-1], "tool_calls": [call]}])
    assert flag_exam_copies([called, replace(called, id="c")], [called]) == [True, True]
    assert flag_exam_copies([called], near) == [False]


@pytest.mark.parametrize(
    ("stages", "code", "what"),
    [
        ('[[stage]]\nname = "a"\n[[stage]]\nname = "a"\n', "E883 bad-stage", "need the same folder, 'a'"),
        ("[[stage]]\ncontinued = true\n", "E920 bad-recipe", "there is none"),
        ('[[stage]]\ndata = "nothing.txt"\n', "E883 bad-stage", "nothing.txt: No such file"),
        ('[[stage]]\nobjective = "dpo"\n', "E880 no-pair", "compares no answers"),
        ('[[stage]]\nobjectve = "dpo"\n', "E920 bad-recipe", "unknown key 'stage.objectve': did you mean 'objective'?"),
        ('[[stage]]\nname = "../a"\n', "E920 bad-recipe", "stage"),
        ('[[stage]]\ndata = "../../secret"\n', "E920 bad-recipe", "leads out"),
    ],
)  # fmt: skip
def test_stages_that_cannot_begin_are_refused_before_the_first(
    stages: str, code: str, what: str, dataset: Path, bases: Callable[..., Path], tmp_path: Path
) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(f'base = "{bases()}"\n{FAST}{stages}')
    done = _call("run", str(dataset), "--recipe", str(path), "--out", str(tmp_path / "a"))
    assert isinstance(done.exception, TrainError)
    assert done.exception.code == code
    assert what in done.exception.message
    assert not (tmp_path / "a").exists()


def test_another_scorer_for_the_same_category_is_refused(
    dataset: Path, bases: Callable[..., Path], tmp_path: Path
) -> None:
    rows = {"train": some_rows(4, prefix="o"), "validation": some_rows(2, prefix="y")}
    write_dataset(tmp_path / "other", rows, categories={"cats": {"scorer": "contains", "options": {}}})
    path = tmp_path / "recipe.toml"
    path.write_text(f'base = "{bases()}"\n{FAST}[[stage]]\ndata = "other"\n')
    done = _call("run", str(dataset), "--recipe", str(path), "--out", str(tmp_path / "a"))
    assert isinstance(done.exception, TrainError)
    assert done.exception.code == "E883 bad-stage"
