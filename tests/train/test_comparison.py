"""`train compare` of several models: one reference, p values adjusted together, and what follows in one line each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest
from click.testing import CliRunner

from tests.train.sides import joined, report_of, sides_of
from train.cli import cli
from train.evaluate.predictions import PREDICTIONS, Scored, prediction_line, read_predictions, write_predictions
from train.report import write_report

ROOT = Path(__file__).resolve().parents[2]


def put_run(folder: Path, tuned: float, *, base: float = 0.2, num: int = 60) -> tuple[list[Scored], list[Scored]]:
    parts = [sides_of(c, split=s, base=base, tuned=tuned, num=num) for c in ("a", "b") for s in ("test", "validation")]
    sides = joined(*parts)
    write_predictions(*sides, folder)
    write_report(report_of(*sides), folder)
    return sides


def put_evaluation(
    folder: Path, records: Sequence[Scored], *, kind: str = "base", shots: int = 0, cost: float | None = None
) -> Path:
    """Write an evaluation that knows no likelihoods."""
    folder.mkdir()
    usage = {"seconds": 0.25, "new_tokens": 4} | ({} if cost is None else {"cost": cost})
    lines = [replace(r, nll=None, num_bytes=0, num_tokens=0, usage=usage) for r in records]
    (folder / PREDICTIONS).write_text("".join(map(prediction_line, lines)))
    record = {
        "version": 1, "id": folder.name, "status": "finished", "contestant": {"name": "x", "kind": kind, "digest": "d"},
        "prompting": {"system": "", "shots": shots}, "max_new_tokens": 256, "general_text": "",
    }  # fmt: skip
    (folder / "eval.json").write_text(json.dumps(record))
    return folder


def compare(*arguments: object, code: int = 0) -> str:
    done = CliRunner().invoke(cli, ["compare", *map(str, arguments)], standalone_mode=False)
    assert done.exception is None, done.exception
    assert done.return_value == code
    return done.stdout


def table_of(*arguments: object) -> dict[str, Any]:
    value = json.loads(compare(*arguments, "--json"))
    schema = json.loads((ROOT / "schemas/report.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(value)
    assert "-test-" not in json.dumps(value)
    value["pairs"] = [{"splits": value["splits"]}, *value["others"]]
    return value


@pytest.mark.ci
def test_a_run_its_base_and_another_run_stand_in_one_table(tmp_path: Path) -> None:
    put_run(tmp_path / "one", 0.6)
    put_run(tmp_path / "two", 0.9)
    names = [f"{tmp_path / 'one'}:base", tmp_path / "one", tmp_path / "two"]
    table = table_of(*names)
    assert [model["kind"] for model in table["models"]] == ["base", "run", "run"]
    test = [{s["split"]: s for s in pair["splits"]}["test"] for pair in table["pairs"]]
    scores = [[(c["base"]["value"], c["tuned"]["value"]) for c in split["categories"]] for split in test]
    assert scores == [[(pytest.approx(0.2), pytest.approx(0.6))] * 2, [(pytest.approx(0.2), pytest.approx(0.9))] * 2]
    printed = compare(*names)
    assert f"base = {tmp_path / 'one'}:base, tuned = {tmp_path / 'two'}, on the test split" in printed
    assert "+ improved" in printed
    other = table_of(tmp_path / "two", tmp_path / "one", f"{tmp_path / 'one'}:base")
    assert other["models"][0]["name"] == str(tmp_path / "two")
    assert "regressed" in {c["verdict"] for pair in other["pairs"] for s in pair["splits"] for c in s["categories"]}
    compare(*reversed(names), "--fail-on", "worse", code=1)
    compare(*names, "--fail-on", "worse")


CHANGES = {"equal": (1000, 25, 25), "open": (300, 8, 8), "worse": (400, 4, 30), "few": (12, 0, 0)}
"""Of how many records how many get better and worse."""


def put_pair(folder: Path, names: Sequence[str]) -> tuple[Path, Path]:
    before = [r for name in names for r in sides_of(name, base=0.5, num=CHANGES[name][0])[0]]
    after, left = [], {name: list(CHANGES[name][1:]) for name in names}
    for record in before:
        side = int(record.score == 1)
        is_changed = left[record.category][side] > 0
        left[record.category][side] -= is_changed
        scores = {**(record.scores or {}), "exact": float(side != is_changed)}
        after.append(replace(record, scores=scores))
    return put_evaluation(folder / "hosted", before, kind="endpoint"), put_evaluation(folder / "own", after)


def test_a_model_is_not_worse_only_where_the_loss_is_ruled_out(tmp_path: Path) -> None:
    hosted, own = put_pair(tmp_path, list(CHANGES))
    for more in ([], [own]):
        split = table_of(hosted, own, *more, "--not-worse-than", ".02")["pairs"][0]["splits"][0]
        words = {row["category"]: row["reason"] for row in split["categories"]} | {"MEAN": split["macro"]["reason"]}
        assert words == {
            "equal": "not-worse", "open": "cannot-tell", "worse": "worse-by-margin", "few": "too-few",
            "MEAN": "cannot-tell",
        }  # fmt: skip
        printed = compare(hosted, own, *more, "--not-worse-than", ".02")
        assert "is a loss of .02 ruled out?" in printed
        assert all(
            f" {words}" in printed for words in ("= not worse", "? cannot tell", "! worse", "? too few (12 of 30)")
        )
        assert "of two equal models 1,229 records mostly would" in printed


def test_few_losses_rule_out_no_loss_by_their_interval_alone(tmp_path: Path) -> None:
    """Of 400 records three got worse: the interval ends above -.02, and the score test has p = .037."""
    before = sides_of("a", base=1.0, num=400)[0]
    after = [replace(r, scores={**(r.scores or {}), "exact": float(n > 2)}) for n, r in enumerate(before)]
    pair = put_evaluation(tmp_path / "a", before), put_evaluation(tmp_path / "b", after)
    (row,) = table_of(*pair, "--not-worse-than", ".02")["pairs"][0]["splits"][0]["categories"]
    assert (row["reason"], row["is_no_worse"]) == ("cannot-tell", False)
    assert row["difference"]["low"] > -0.02
    assert row["margin_p"] == pytest.approx(0.037, abs=0.001)


@pytest.mark.parametrize(
    ("names", "gate", "code"),
    [
        (["equal"], "not-shown", 0), (["equal"], "worse", 0), (["open"], "worse", 0), (["open"], "not-shown", 1),
        (["worse"], "worse", 1), (["equal", "few"], "not-shown", 1), (["equal", "few"], "worse", 0),
    ],
)  # fmt: skip
def test_a_gate_asks_for_what_is_worse_or_for_what_is_not_shown(
    tmp_path: Path, names: list[str], gate: str, code: int
) -> None:
    compare(*put_pair(tmp_path, names), "--not-worse-than", ".02", "--fail-on", gate, code=code)


def read_predictions_of(folder: Path) -> list[Scored]:
    return read_predictions(folder / PREDICTIONS)[1]


def leave_unanswered(folder: Path, num: int, name: str, *, is_all: bool, split: str = "test") -> None:
    lines = (folder / PREDICTIONS).read_text().splitlines(keepends=True)
    unasked = {"category": name, "split": split}
    kept = [line for line in lines if not (is_all and unasked.items() <= json.loads(line).items())]
    (folder / PREDICTIONS).write_text("".join(kept))
    record = json.loads((folder / "eval.json").read_bytes()) | {"unanswered": {"test": {name: num}}, "counts": {}}
    (folder / "eval.json").write_text(json.dumps(record))


@pytest.mark.parametrize("is_all", [False, True])
def test_a_gate_does_not_pass_what_nobody_answered(tmp_path: Path, is_all: bool) -> None:
    """Of a category without any answer there is a row, too, and then no mean."""
    hosted, own = put_pair(tmp_path, ["equal", "open"])
    leave_unanswered(own, 300 if is_all else 40, "open", is_all=is_all)
    for more in ([], [own]):
        printed = compare(hosted, own, *more, "--fail-on", "worse", code=1)
        compare(hosted, own, *more, "--not-worse-than", ".02", "--fail-on", "not-shown", code=1)
        assert ("0 of 300  " if is_all else "? in part (300 of 340)") in printed
        assert ("MEAN" in printed) is not is_all
    assert "open has no figure, and so the mean has none: 0 of 300 records can be compared." in printed or not is_all


def closes(*arguments: object) -> str:
    """Return what is printed where both gates close."""
    for gate in ("worse", "not-shown"):
        printed = compare(*arguments, "--not-worse-than", ".02", "--fail-on", gate, code=1)
    return printed


def test_a_category_that_is_scored_by_other_options_is_not_compared_and_leaves_no_mean(tmp_path: Path) -> None:
    hosted, own = put_pair(tmp_path, ["equal", "open"])
    records = [replace(r, options="casefold") if r.category == "open" else r for r in read_predictions_of(own)]
    other = put_evaluation(tmp_path / "other", records)
    for more in ([], [own]):
        printed = closes(hosted, other, *more)
        assert "MEAN" not in printed
        assert "open has no figure, and so the mean has none: 0 of 300 records can be compared" in printed


def test_a_test_split_without_any_answer_is_not_judged_by_another_split(tmp_path: Path) -> None:
    parts = [sides_of("a", split=split, num=60)[1] for split in ("validation", "test")]
    whole = put_evaluation(tmp_path / "whole", [*parts[0], *parts[1]])
    half = put_evaluation(tmp_path / "half", [*parts[0], *parts[1]])
    leave_unanswered(half, 60, "a", is_all=True, split="test")
    for more in ([], [whole]):
        printed = closes(whole, half, *more)
        assert "0 of 60 records can be compared" in printed
        assert "on the validation split (n = 60)" not in printed


def test_a_third_model_gives_no_second_one_its_easy_records(tmp_path: Path) -> None:
    hosted, own = put_pair(tmp_path, ["worse"])
    right = [record for record in read_predictions_of(own) if record.score]
    third = put_evaluation(tmp_path / "third", right)
    leave_unanswered(third, 400 - len(right), "worse", is_all=False)
    assert "! worse" in closes(hosted, own)
    assert "not worse" not in closes(hosted, own, third)


def test_a_cluster_in_several_categories_is_one_piece_of_evidence(tmp_path: Path) -> None:
    """60 documents, each asked in six categories: the mean is as sure as that of 60 records, not of 360."""
    alone = sides_of("a", base=0.5, tuned=0.6, num=60)
    sides = joined(*[tuple([replace(r, category=name, id=f"{name}{r.id}") for r in side] for side in alone)
                     for name in "abcdef"])  # fmt: skip
    one, six = ([put_evaluation(tmp_path / f"{word}{n}", side) for n, side in enumerate(pair)]
                for word, pair in (("one", alone), ("six", sides)))  # fmt: skip
    each = [table_of(*pair)["pairs"][0]["splits"][0]["macro"] for pair in (one, six)]
    widths = [[m[side]["high"] - m[side]["low"] for side in ("base", "tuned", "difference")] for m in each]
    assert widths[1] == pytest.approx(widths[0], rel=0.15)
    assert [m["is_no_worse"] for m in each] == [each[0]["is_no_worse"]] * 2
    assert each[1]["margin_p"] == pytest.approx(each[0]["margin_p"], rel=0.1)


@pytest.mark.parametrize("words", [["compare", "a", "b", "--not-worse-than"], ["eval", "a", "--margin"]])
@pytest.mark.parametrize("loss", ["nan", "1", "-0.1"])
def test_a_loss_is_a_number_below_one(words: list[str], loss: str) -> None:
    done = CliRunner().invoke(cli, [*words, loss], standalone_mode=False)
    assert isinstance(done.exception, click.BadParameter)


def test_what_is_to_be_shown_must_be_named(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["compare", "a", "b", "--fail-on", "not-shown"], standalone_mode=False)
    assert "such as --not-worse-than .02" in str(done.exception)


@pytest.mark.ci
def test_p_values_are_adjusted_for_all_models_together(tmp_path: Path) -> None:
    """Beside another model the same difference weighs less: Holm goes over categories and pairs."""
    put_run(tmp_path / "one", 0.3)
    put_run(tmp_path / "two", 0.35)
    put_run(tmp_path / "three", 0.4)
    few = json.loads(compare(tmp_path / "one", tmp_path / "three", "--json"))["splits"][-1]["categories"]
    both = table_of(tmp_path / "one", tmp_path / "two", tmp_path / "three")["pairs"][1]["splits"][-1]["categories"]
    for alone, beside in zip(few, both, strict=True):
        assert beside["p"] == alone["p"]
        assert beside["p_adjusted"] == pytest.approx(2 * alone["p_adjusted"])


@pytest.mark.ci
def test_the_mean_of_few_records_is_not_said_to_be_sure(tmp_path: Path) -> None:
    """One record of each of two categories, and answers that are all wrong."""
    first = put_run(tmp_path / "run", 0.9, base=0.0)[0]
    lone = [r for r in first if r.id.endswith("-000")]
    few = [put_evaluation(tmp_path / name, lone, kind="endpoint") for name in ("few", "others")]
    for sides in (few, [tmp_path / "run:base", put_evaluation(tmp_path / "bad", first), tmp_path / "run"]):
        (split,) = [s for s in table_of(*sides)["pairs"][0]["splits"] if s["split"] == "test"]
        assert split["macro"]["base"]["value"] == 0
        assert split["macro"]["base"]["high"] > 0.01
    one = [put_evaluation(tmp_path / name, lone[:1]) for name in ("one", "other")]
    assert "1 category " in compare(*one)


@pytest.mark.ci
def test_costs_stand_beside_the_scores(tmp_path: Path) -> None:
    records = put_run(tmp_path / "run", 0.6)[1]
    paid = put_evaluation(tmp_path / "paid", records, kind="endpoint", cost=0.002)
    table = table_of(tmp_path / "run", paid)
    assert [(m["seconds"], m["cost"]) for m in table["models"]] == [(None, None), (250.0, pytest.approx(2.0))]
    assert "2.0000" in compare(tmp_path / "run", paid)
    assert all(c["bits_per_byte"] is None for s in table["pairs"][0]["splits"] for c in s["categories"])


@pytest.mark.ci
def test_general_text_is_compared_with_the_same_one_alone(tmp_path: Path) -> None:
    """Passages of two texts have the same ids; as records they are neither changed nor lacking."""
    sides = put_run(tmp_path / "run", 0.6)
    write_predictions(*joined(sides, sides_of("", split="general", num=20)), tmp_path / "run")
    other = put_evaluation(tmp_path / "other", [*sides[1], *sides_of("", split="general", num=24, seed=2)[1]])
    record = json.loads((other / "eval.json").read_text())
    (other / "eval.json").write_text(json.dumps(record | {"general_text": "another.txt"}))
    for models in ([tmp_path / "run", other], [tmp_path / "run", other, f"{tmp_path / 'run'}:base"]):
        printed = compare(*models)
        assert "left out" not in printed
        assert "General text (" not in printed


@pytest.mark.ci
def test_evaluations_chose_no_checkpoint(tmp_path: Path) -> None:
    records = [r for r in put_run(tmp_path / "run", 0.6)[1] if r.split == "validation"]
    one, other = (put_evaluation(tmp_path / name, records) for name in ("one", "other"))
    assert "Verdicts are on the validation split (n = 120).\n" in compare(one, other)
    assert "The best checkpoint was chosen on validation" in compare(tmp_path / "run", other)


def test_answers_that_another_template_spells_in_other_bytes_are_compared_by_their_scores(tmp_path: Path) -> None:
    sides = put_run(tmp_path / "one", 0.6)
    raw = [replace(r, id=f"raw{r.id}", text=None, stopped=None, metric="", scores=None) for r in sides[1][:5]]
    for name, more in (("one", 0), ("two", 3)):
        texts = [replace(r, num_bytes=r.num_bytes + more) for r in raw]
        longer = [replace(r, num_bytes=r.num_bytes + more, scores={**(r.scores or {}), "exact": 1.0}) for r in sides[1]]
        write_predictions(*joined(sides, (texts, texts)), tmp_path / name)
        put_evaluation(tmp_path / f"eval-{name}", [])
        lines = map(prediction_line, [*longer, *texts])
        (tmp_path / f"eval-{name}" / PREDICTIONS).write_text("".join(lines))
    for others in ([], [f"{tmp_path / 'one'}:base"]):
        table = table_of(tmp_path / "one", tmp_path / "eval-two", *others)
        assert {(row["n"], row["bits_per_byte"]) for row in table["pairs"][0]["splits"][-1]["categories"]} == {
            (60, None)
        }
        note = "240 records have other bytes for some of the models"
        assert any(each.startswith(note) for each in table["notes"])
        assert "5 records changed between the models" in " ".join(table["notes"])
    same = table_of(tmp_path / "one", tmp_path / "eval-one")
    assert "bytes" not in " ".join(same["notes"])
    assert same["splits"][-1]["categories"][0]["bits_per_byte"] is not None
