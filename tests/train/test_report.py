"""The report: right numbers, and a gate that closes."""

from __future__ import annotations

import json
import math
import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from curate.project.feedback import changed_files
from tests.train.sides import joined, report_of, sides_of, write_finished
from train.base.errors import Exit, TrainError
from train.cli import cli
from train.evaluate.predictions import Scored, read_predictions, write_feedback, write_predictions
from train.report import Report, read_curve, table, write_report
from train.report.write import html


def test_the_numbers_are_those_of_the_records() -> None:
    base, tuned = joined(
        sides_of("a"), sides_of("b", base=0.5, tuned=0.5, metric="rouge_l"), sides_of("a", split="validation")
    )
    report = report_of(base, tuned)
    first, second = report.main().categories
    assert (report.headline, first.category, first.n, first.num_clusters) == ("test", "a", 40, 40)
    assert first.base.value == pytest.approx(0.1)
    assert first.tuned.value == pytest.approx(0.8)
    assert first.difference.value == pytest.approx(0.7)
    assert (first.test, first.better, first.worse) == ("mcnemar", 28, 0)
    assert first.p == pytest.approx(2 / 2**28)
    assert first.p_adjusted == pytest.approx(2 * first.p)
    assert first.difference.low < 0.7 < first.difference.high
    assert first.verdict == "improved"
    assert first.sentence == "a went from .10 to .80 (n = 40, +.70, 95 % +.48 to +.82, p < .001)."
    mine = [one for one in base if one.category == "a" and one.split == "test"]
    assert first.bits_per_byte is not None
    assert first.bits_per_byte.base == pytest.approx(sum(one.nll for one in mine) / (math.log(2) * 20 * 40))
    behaviour = report.main().behaviour
    assert (behaviour["stopped"].base, behaviour["repetition"].tuned) == (0.5, 0.25)
    assert (second.verdict, second.test) == ("inconclusive", "sign-flip")
    assert report.main().macro is not None
    assert report.main().macro.tuned.value == pytest.approx((first.tuned.value + second.tuned.value) / 2)
    assert "rouge_l" in table(report)


def test_a_cluster_in_two_categories_counts_once_in_the_test_of_their_mean() -> None:
    sides = joined(*(sides_of(name, num=5, base=0.0, tuned=1.0) for name in "ab"))
    shared = [[replace(one, cluster=one.id[-3:]) for one in side] for side in sides]
    apart, together = (report_of(*both).main().macro for both in (sides, shared))
    assert apart is not None
    assert together is not None
    # Of all patterns of signs, two reach this mean.
    assert (apart.p, together.p) == (2 / 2**10, 2 / 2**5)


def test_a_category_that_got_worse_closes_the_gate() -> None:
    base, tuned = joined(sides_of("good"), sides_of("bad", base=0.9, tuned=0.3))
    report = report_of(base, tuned)
    assert report.failing() == ["bad"]
    assert "bad went from .90 to .30" in report.main().categories[0].sentence
    outcome = "better than the base in 1 of 2 categories and worse in bad. What it forgot was not measured. Next:"
    assert outcome in html(report)
    assert report.tables[0].heads[:2] == ("category", "verdict")


def test_thin_repeated_and_unscored_records_are_said_aloud() -> None:
    thin, repeated, odd = sides_of("thin", num=12), sides_of("repeated"), sides_of("odd")
    repeated = tuple([replace(one, cluster=f"c{n // 4}") for n, one in enumerate(side)] for side in repeated)  # type: ignore[assignment]
    odd = tuple([replace(one, scores={}) if n < 2 else one for n, one in enumerate(side)] for side in odd)  # type: ignore[assignment]
    report = report_of(*joined(thin, repeated, odd))
    results = {one.category: one for one in report.main().categories}
    assert results["thin"].note == "too few to judge (12 of 30)"
    assert results["repeated"].note == "too few to judge (10 of 30): its 40 records are 10 clusters"
    assert results["repeated"].test == "sign-flip"
    assert (results["odd"].n, results["odd"].num_unscored) == (38, 2)
    assert "38 of 40" in table(report)
    assert "Forgetting is not" in "\n".join(report.notes)


def test_raw_text_is_compared_by_bits_per_byte() -> None:
    base, tuned = sides_of("text")
    base = [replace(one, text=None, stopped=None, metric="", scores={}, nll=30.0 + n % 5) for n, one in enumerate(base)]
    tuned = [replace(one, nll=one.nll - 6 - n % 3) for n, one in enumerate(base)]
    (result,) = report_of(base, tuned).main().categories
    assert (result.metric, result.higher_is_better, result.verdict, result.num_unscored) == (
        "bits_per_byte",
        False,
        "improved",
        0,
    )
    assert result.tuned.value == pytest.approx(sum(one.nll for one in tuned) / (math.log(2) * 20 * 40))
    assert result.sentence.startswith("text went from 2.31 to 1.8")
    (back,) = report_of(tuned, base).main().categories
    assert back.verdict == "regressed"
    assert report_of(base, tuned).main().macro is None


@pytest.mark.parametrize(("factor", "word"), [(1.05, "forgot"), (1.0, "held"), (0.9, "held")])
def test_forgetting_is_a_rise_of_bits_on_general_text(factor: float, word: str) -> None:
    base, tuned = sides_of("a")
    general = [Scored(f"g{n}", "general", "", f"g{n}", "", 200.0 + n, 60, 150) for n in range(24)]
    report = report_of([*base, *general], [*tuned, *(replace(one, nll=one.nll * factor) for one in general)])
    assert report.forgetting is not None
    assert report.forgetting.word == word
    assert report.forgetting.difference.value == pytest.approx((factor - 1) * report.forgetting.base.value)


def test_what_is_learned_of_other_text_hides_no_forgetting_of_known_text() -> None:
    base, tuned = sides_of("a")
    parts = {"known": 1.05, "other": 0.5}
    general = [
        Scored(f"{part}{n}", "general", part, f"{part}{n}", "", 200.0 + n, 60, 150) for part in parts for n in range(24)
    ]
    report = report_of(
        [*base, *general], [*tuned, *(replace(one, nll=one.nll * parts[one.category]) for one in general)]
    )
    assert report.forgetting is not None
    assert [(part.text, part.word) for part in report.forgetting.parts] == [("known", "forgot"), ("other", "held")]
    assert report.forgetting.word == "forgot"
    assert "known, n = 24" in table(report)
    assert "other, n = 24" in table(report)


@pytest.mark.parametrize("sizes", [[150], [150] * 3, [0, 0, 150], [0, 150]])
def test_a_few_documents_never_show_or_rule_out_forgetting(sizes: list[int]) -> None:
    base, tuned = sides_of("a")
    general = [Scored(f"g{n}", "general", "", f"g{n}", "", 200.0 + n, 60, size) for n, size in enumerate(sizes)]
    report = report_of([*base, *general], [*tuned, *(replace(one, nll=one.nll * 2) for one in general)])
    assert report.forgetting is not None
    assert report.forgetting.word == "inconclusive"
    assert report.forgetting.n == sum(map(bool, sizes))
    assert "too few documents" in table(report)


def test_a_report_can_be_computed_again_from_its_predictions(tmp_path: Path) -> None:
    base, tuned = joined(sides_of("a"), sides_of("b", metric="chrf"), sides_of("a", split="validation"))
    report = report_of(base, tuned)
    path = write_predictions(base, tuned, tmp_path)
    assert read_predictions(path) == (base, tuned)
    assert report_of(*read_predictions(path)).splits == report.splits
    shuffled = list(zip(base, tuned, strict=True))
    random.Random(3).shuffle(shuffled)
    again = report_of([b for b, _ in shuffled], [t for _, t in shuffled])
    assert again.splits[1].categories[0] == report.splits[1].categories[0]


def test_results_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    base, tuned = sides_of("a")
    for other in (tuned[1:], [replace(tuned[0], id="x"), *tuned[1:]], [*tuned, tuned[0]]):
        with pytest.raises(TrainError) as caught:
            report_of(base, other)
        assert caught.value.code == "E933 unpaired-results"
    with pytest.raises(TrainError) as caught:
        report_of(base, [replace(tuned[0], nll=math.nan), *tuned[1:]])
    assert (caught.value.code, caught.value.exit_code) == ("E934 not-finite", Exit.FAILED)
    assert tuned[0].id in caught.value.message
    with pytest.raises(TrainError) as caught:
        report_of([], [])
    assert caught.value.code == "E937 nothing-to-report"
    (tmp_path / "predictions.jsonl").write_text('{"id": "a"}\n')
    with pytest.raises(TrainError, match=r"predictions.jsonl:1: KeyError"):
        read_predictions(tmp_path / "predictions.jsonl")


def test_feedback_never_names_a_test_record(tmp_path: Path) -> None:
    train = sides_of("a", split="train", num=5)
    train = tuple([replace(one, text=None, metric="", scores={}) for one in side] for side in train)  # type: ignore[assignment]
    parts = joined(
        train, sides_of("a", split="validation", num=10), sides_of("a"), sides_of("", split="general", num=3)
    )
    rows = [json.loads(line) for line in write_feedback(*parts, tmp_path).read_text().splitlines()]
    assert {row["split"] for row in rows} == {"train", "validation"}
    assert len(rows) == 15
    assert "-test-" not in (tmp_path / "feedback.jsonl").read_text()
    assert all(("completion_tuned" in row) == (row["split"] == "validation") for row in rows)
    assert {row["verdict"] for row in rows} == {"unscored", "ok", "fixed", "still-wrong"}
    assert rows[0].keys() == {
        "id",
        "split",
        "category",
        "nll_base",
        "nll_tuned",
        "score_base",
        "score_tuned",
        "verdict",
    }


def test_a_curve_is_read_from_the_events_of_a_run(tmp_path: Path) -> None:
    events = [{"event": "start"}]
    events += [{"event": "step", "step": n, "loss": 1 / n} for n in [*range(1, 1501), 1500]]
    events += [{"event": "eval", "step": 750, "loss": 0.5, "score": None}, {"event": "end"}]
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(event) + "\n" for event in events) + '{"event": "st')
    curve = read_curve(path)
    assert 300 <= len(curve.training) <= 401
    assert (curve.training[0][0], curve.training[-1][0]) == (1, 1500)
    assert curve.validation == [(750, 0.5)]
    assert read_curve(tmp_path / "none.jsonl").training == []
    path.write_text('{"event": "step", "step": 1}\n')
    with pytest.raises(TrainError, match=r"metrics.jsonl: KeyError"):
        read_curve(path)


@pytest.mark.ci
def test_eval_prints_the_table_and_closes_the_gate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = joined(sides_of("good"), sides_of("bad", base=0.9, tuned=0.3))
    # Its metrics are not there, so that no checkpoint is known to be the best.
    report = report_of(*parts, remarks=["kept"], curve=read_curve(tmp_path / "metrics.jsonl"))
    write_finished(tmp_path, *parts, report)
    before = [path.read_bytes() for path in write_report(report, tmp_path)]
    assert cli.main(["eval", str(tmp_path)], standalone_mode=False) == Exit.OK
    printed = capsys.readouterr()
    assert printed.out == table(report) + "\n"
    assert [path.read_bytes() for path in write_report(Report.load(tmp_path), tmp_path)] == before
    assert cli.main(["eval", str(tmp_path), "--fail-on", "worse", "--dry-run"], standalone_mode=False) == Exit.FAILED
    assert "--fail-on worse: bad" in capsys.readouterr().err
    with pytest.raises(TrainError, match=r"no finished run") as caught:
        cli.main(["eval", str(tmp_path / "none")], standalone_mode=False)
    assert caught.value.exit_code == Exit.USAGE


@pytest.mark.parametrize("cut", ["train.report.write_report", "train.report.build.summary_for_run_record"])
def test_a_report_that_was_cut_off_is_taken_by_nobody_and_the_same_command_finishes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: str
) -> None:
    write_finished(tmp_path, *sides_of("good"))
    cli.main(["eval", str(tmp_path)], standalone_mode=False)
    before = (tmp_path / "run.json").read_bytes(), (tmp_path / "report.json").read_bytes()

    def killed(*_: Any) -> None:
        raise SystemExit

    command = ["eval", str(tmp_path), "--margin", "0.2"]
    with monkeypatch.context() as broken:
        broken.setattr(cut, killed)
        with pytest.raises(SystemExit):
            cli.main(command, standalone_mode=False)
    with pytest.raises(TrainError, match=r"report.json was cut off while it was written") as caught:
        Report.load(tmp_path)
    assert caught.value.code == "E952 run-changed"
    assert [path.name for path, _ in changed_files(tmp_path)] == ["report.json"]
    assert cli.main(command, standalone_mode=False) == Exit.OK
    assert Report.load(tmp_path).margin == 0.2
    assert (
        cli.main(["eval", str(tmp_path), "--margin", str(json.loads(before[1])["margin"])], standalone_mode=False) == 0
    )
    assert ((tmp_path / "run.json").read_bytes(), (tmp_path / "report.json").read_bytes()) == before


def test_compare_pairs_the_tuned_models_of_two_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, tuned in (("one", 0.2), ("two", 0.9)):
        parts = sides_of("a", tuned=tuned)
        parts = (parts[0][: 40 if name == "one" else 38], parts[1][: 40 if name == "one" else 38])
        write_predictions(*parts, tmp_path / name)
        write_report(report_of(*parts), tmp_path / name)
    assert cli.main(["compare", str(tmp_path / "one"), str(tmp_path / "two")], standalone_mode=False) == Exit.OK
    printed = capsys.readouterr().out
    assert re.search(r"a +\+ improved +38 +exact +- +\.21 +\.95 +\+\.74", printed)
    assert "2 records were evaluated by some of the models only" in printed
    arguments = ["compare", str(tmp_path / "two"), str(tmp_path / "one"), "--fail-on", "worse"]
    assert cli.main(arguments, standalone_mode=False) == Exit.FAILED


def test_compare_of_runs_without_a_record_says_so(tmp_path: Path) -> None:
    write_report(report_of(*sides_of("a")), tmp_path)
    (tmp_path / "predictions.jsonl").write_text("")
    with pytest.raises(TrainError) as caught:
        cli.main(["compare", str(tmp_path), str(tmp_path)], standalone_mode=False)
    assert caught.value.code == "E937 nothing-to-report"


def test_compare_tells_flips_and_prints_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, tuned in (("one", 0.2), ("two", 0.9)):
        parts = joined(sides_of("a", tuned=tuned), sides_of("a", split="validation", tuned=tuned))
        write_predictions(*parts, tmp_path / name)
        write_report(report_of(*parts), tmp_path / name)
    folders = [str(tmp_path / "one"), str(tmp_path / "two")]
    assert cli.main(["compare", *folders], standalone_mode=False) == Exit.OK
    printed = capsys.readouterr().out
    assert "On validation 28 records went from wrong to right and 0 back" in printed
    assert re.search(r"fixed +a-validation-\d+ +a +\.00 to 1\.00\n", printed)
    assert "-test-" not in printed
    assert cli.main(["compare", *folders, "--json"], standalone_mode=False) == Exit.OK
    told = json.loads(capsys.readouterr().out)
    (one,) = Report.model_validate(told).main().categories
    assert (one.better, one.worse, one.verdict) == (28, 0, "improved")
    assert "-test-" not in json.dumps(told)
