"""A verdict says why it is withheld, with its counts, in the same words wherever it stands."""

from __future__ import annotations

import html as escaping
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.train.sides import joined, report_of, sides_of, write_finished
from train.cli import cli
from train.evaluate.predictions import write_predictions
from train.report import Report, model_card, table, write_report

TOO_FEW = "? too few (24 of 30)"
LEGEND = (
    "Verdicts: + improved, better beyond chance; ! regressed, worse beyond chance; ~ inconclusive, within noise; "
    "= within margin, worse beyond chance by less than the margin; "
    "? too few, fewer independent records than a verdict takes. "
    "Beyond chance: 95 % interval without 0, p < .05 (Holm)."
)


def _report() -> Report:
    """Return a report in which each verdict occurs once."""
    slips = sides_of("slips", num=1000, base=0.995, tuned=0.981)
    return report_of(
        *joined(
            sides_of("rises"), sides_of("falls", base=0.9, tuned=0.3), sides_of("stays", base=0.5, tuned=0.5),
            slips, sides_of("thin", num=24, base=0.0, tuned=1.0),
        )
    )  # fmt: skip


def test_each_verdict_has_its_reason_and_numbers_as_fields(tmp_path: Path) -> None:
    write_report(_report(), tmp_path)
    (split,) = json.loads((tmp_path / "report.json").read_text())["splits"]
    results = {one["category"]: (one["verdict"], one["reason"]) for one in split["categories"]}
    assert results == {
        "rises": ("improved", "better"), "falls": ("regressed", "worse"), "stays": ("inconclusive", "within-noise"),
        "slips": ("inconclusive", "within-margin"), "thin": ("inconclusive", "too-few"),
    }  # fmt: skip
    (thin,) = (one for one in split["categories"] if one["category"] == "thin")
    assert (thin["num_clusters"], thin["p_adjusted"] < 0.001) == (24, True)
    assert (split["macro"]["verdict"], split["macro"]["reason"]) == ("improved", "better")
    assert split["macro"]["num_clusters"] == 40 + 40 + 40 + 1000 + 24


def test_a_withheld_verdict_says_so_in_table_and_pages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = sides_of("thin", num=24, base=0.0, tuned=1.0)
    write_finished(tmp_path, *parts)
    assert cli.main(["eval", str(tmp_path)], standalone_mode=False) == 0
    page = escaping.unescape((tmp_path / "report.html").read_text(encoding="utf-8"))
    texts = {"table": capsys.readouterr().out, "page": re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)}
    texts["markdown"] = _unescaped(tmp_path / "report.md")
    record = json.loads((tmp_path / "run.json").read_bytes()) | {"objective": "sft", "dataset": {"sha256": "0"}}
    record |= {"facts": {"base": "0"}, "recipe": {"base": "base", "method": "full", "seed": 0, "bf16": False}}
    card = model_card(Report.load(tmp_path), record, {"name": "v1"}, library="transformers")
    texts["card"] = escaping.unescape(card)
    for name, text in texts.items():
        assert TOO_FEW in text, name
        assert "p < .001" in text or "< .001" in text, name
        assert "within noise" not in text, name
        assert "~" not in text, name
    (row,) = (line for line in texts["table"].splitlines() if line.startswith("thin"))
    assert "inconclusive" not in row


def _unescaped(path: Path) -> str:
    return escaping.unescape(path.read_text(encoding="utf-8")).replace("\\", "")


def test_the_legend_is_the_same_in_table_and_pages(tmp_path: Path) -> None:
    report = _report()
    write_report(report, tmp_path)
    page = escaping.unescape((tmp_path / "report.html").read_text(encoding="utf-8"))
    for text in (table(report), page, _unescaped(tmp_path / "report.md")):
        assert text.count(LEGEND) == 1
    for label in ("+ improved", "! regressed", "~ inconclusive", "= within margin", TOO_FEW):
        assert label in table(report)
        assert f">{label}<" in page
    # Of verdicts that do not occur nothing is said.
    assert "regressed" not in table(report_of(*sides_of("rises")))


def test_clusters_are_what_is_counted() -> None:
    base, tuned = sides_of("a", base=0.0, tuned=1.0)
    sides = [[replace(one, cluster=f"c{number // 2}") for number, one in enumerate(side)] for side in (base, tuned)]
    report = report_of(*sides)
    assert "? too few (20 of 30)" in table(report)
    assert report.main().categories[0].note == "too few to judge (20 of 30): its 40 records are 20 clusters"


def test_two_runs_are_compared_in_the_same_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, tuned in (("one", 0.0), ("two", 1.0)):
        parts = sides_of("thin", num=24, base=0.0, tuned=tuned)
        write_predictions(*parts, tmp_path / name)
        write_report(report_of(*parts), tmp_path / name)
    assert cli.main(["compare", str(tmp_path / "one"), str(tmp_path / "two")], standalone_mode=False) == 0
    printed = capsys.readouterr().out
    assert TOO_FEW in printed
    assert "inconclusive" not in printed
