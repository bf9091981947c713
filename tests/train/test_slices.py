"""Answers compared by slices: a planted source of flipped answers is named, chance is not, and all forms say it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from tests.train.finished import call, make_run
from tests.train.sides import report_of
from tests.train.tiny import chat_row, write_dataset
from train.base.errors import TrainError
from train.cli import cli
from train.data.dataset import Row, open_dataset
from train.evaluate.predictions import Scored, read_predictions, write_predictions
from train.report import Report, Rules
from train.report.write import html, markdown

_PLACES = ("home", "far away", "the mat", "a small dog", "one red cat", "the red mat")


def _rows(prefix: str, number: int, *, source: str, is_flipped: bool = False) -> list[Row]:
    rows = []
    for n in range(number):
        place = n % len(_PLACES)
        answer = ("yes", "no")[is_flipped]
        row = chat_row(f"{prefix}{source}{n}", f"is it {_PLACES[place]}", answer, category="choose")
        rows.append(replace(row, slices={"source": [source], "tokens": [n + 1]}))
    return rows


def _pairs(effect: float, seed: int, number: int = 200) -> tuple[list[Scored], list[Scored]]:
    """Return base and tuned of two categories, of which the harder one is mostly from B; B gains ``effect`` less."""
    rng = np.random.default_rng(seed)
    base, tuned = [], []
    for n in range(number):
        category = "ab"[int(rng.random() < 0.4)]
        is_b = bool(rng.random() < (0.2 if category == "a" else 0.6))
        before, after = {"a": (0.2, 0.8), "b": (0.5, 0.7)}[category]
        scores = [float(rng.random() < share) for share in (before, after - effect * is_b)]
        slices = {"source": ["B" if is_b else "A"], "/meta/rare": [f"secret {n}"], "tokens": [n]}
        for side, score in zip((base, tuned), scores, strict=True):
            side.append(Scored(f"r{n}", "test", category, f"r{n}", "ref", 1.0, 1, 1, "x", True, "exact",
                               {"exact": score}, slices=slices))  # fmt: skip
    return base, tuned


@pytest.mark.ci
def test_a_source_of_flipped_answers_is_named(bases: Callable[..., Path], tmp_path: Path) -> None:
    splits = {
        "train": [*_rows("t", 60, source="A"), *_rows("t", 18, source="B", is_flipped=True)],
        "validation": [*_rows("v", 6, source="A"), *_rows("v", 6, source="B", is_flipped=True)],
        "test": [*_rows("x", 36, source="A"), *_rows("x", 36, source="B", is_flipped=True)],
    }
    dataset = write_dataset(tmp_path / "dataset" / "v1", splits, slices=["source", "tokens"])
    run = make_run(dataset, bases(), tmp_path / "runs" / "a", "eval.resamples=400")
    report = Report.load(run)
    said = _said(report)
    assert re.match(r"By field: source = A gained \+[.\d]+ beside others of the same categories \(95 % \+", said)
    assert "n = 36 and 36" in said
    shown = call("eval", str(run)).output
    assert said in " ".join(shown.split())
    assert Report.load(run) == report, "computed again from predictions.jsonl"
    assert said in unescape(html(report))
    assert said in unescape(markdown(report)).replace("\\", "")


def _said(report: Report) -> str:
    return " ".join(text for part in report.tables if part.part == "slices" for text in part.sentences)


@pytest.mark.ci
def test_two_runs_are_compared_by_slice(tmp_path: Path) -> None:
    for name, effect in (("a", 0.0), ("b", 0.6)):
        base, tuned = _pairs(effect, seed=1)
        folder = tmp_path / name
        folder.mkdir()
        (folder / "report.json").write_text(report_of(base, tuned).model_dump_json(), encoding="utf-8")
        write_predictions(base, tuned, folder)
    done = CliRunner().invoke(cli, ["compare", str(tmp_path / "a"), str(tmp_path / "b")])
    assert "By field: source = A gained +" in done.stdout
    done = CliRunner().invoke(cli, ["compare", *(str(tmp_path / name) for name in ("a", "a:base", "b")), "--json"])
    notes = json.loads(done.stdout)["notes"]
    assert any(f"{tmp_path / 'b'}: By field: source = A gained" in note for note in notes)


def _gap(effect: float, seed: int) -> re.Match[str] | None:
    said = _said(report_of(*_pairs(effect, seed), rules=Rules(resamples=300))).replace("\u2212", "-")
    return re.search(r"source = A gained \S+ beside [a-z ]+\(95 % ([-+.\d]+) to ([-+.\d]+)", said)


@pytest.mark.ci
def test_what_a_harder_category_does_is_no_disparity() -> None:
    # B holds most of the category that gains little, so that its plain mean gains far less.
    assert sum(_gap(0.0, seed) is not None for seed in range(40)) <= 2


@pytest.mark.ci
def test_a_planted_effect_is_found_and_covered() -> None:
    gaps = [gap for seed in range(40) if (gap := _gap(0.4, seed))]
    assert len(gaps) >= 25
    assert sum(float(gap[1]) <= 0.4 <= float(gap[2]) for gap in gaps) >= 0.9 * len(gaps)


def test_no_rare_value_is_named() -> None:
    report = report_of(*_pairs(0.5, seed=2))
    assert _said(report).startswith("By field: source = A gained")
    assert "tokens" not in _said(report)
    assert "secret" not in report.model_dump_json() + html(report) + markdown(report)


def test_slices_travel_with_predictions(tmp_path: Path) -> None:
    base, tuned = _pairs(0.0, seed=3, number=4)
    write_predictions(base, tuned, tmp_path)
    assert [record.slices for record in read_predictions(tmp_path / "predictions.jsonl")[0]] == [
        {"source": ["B" if "B" in (record.slices or {})["source"] else "A"], "/meta/rare": [f"secret {n}"],
         "tokens": [n]}
        for n, record in enumerate(base)
    ]  # fmt: skip
    spoilt = (tmp_path / "predictions.jsonl").read_text().replace('["A"]', '[["A"]]').replace('["B"]', '[["B"]]')
    (tmp_path / "predictions.jsonl").write_text(spoilt)
    with pytest.raises(TrainError, match="slices") as caught:
        read_predictions(tmp_path / "predictions.jsonl")
    assert caught.value.code == "E935 bad-predictions"


@pytest.mark.parametrize("slices", [[], {"a": "b"}, {"a": [None]}, {"a": [{}]}, {"a": [True]}])
def test_a_row_with_other_slices_is_refused(slices: Any, tmp_path: Path) -> None:
    rows: Sequence[Row] = [replace(chat_row("r", "who", "a dog"), slices=slices)]
    with pytest.raises(TrainError, match=r"train.jsonl:1: slices") as caught:
        open_dataset(write_dataset(tmp_path / "v1", {"train": rows}))
    assert caught.value.code == "E912 bad-dataset"


def test_without_slices_nothing_is_said() -> None:
    base, tuned = _pairs(0.0, seed=4)
    plain = [[replace(record, slices=None) for record in side] for side in (base, tuned)]
    report = report_of(*plain)
    assert not _said(report)
    assert "By field" not in html(report)
