"""What `curate report` and the comparison of runs say of scores: the trainer's verdicts, in the trainer's words."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from curate.cli import cli
from curate.project import feedback
from curate.sessions.run_comparison import compare_runs
from curate.sessions.runs import read_run
from tests.curate.score_reports import write_run
from train.report import Report, table, wording
from train.report.stats import Reason

REASONS: list[Reason] = ["better", "worse", "within-noise", "within-margin", "too-few"]


def report_command(workspace, run):
    done = CliRunner().invoke(cli, ["report", str(run), "--workspace", str(workspace.root)], standalone_mode=False)
    assert done.exception is None, done.exception
    return done.stdout


def test_a_withheld_verdict_is_told_with_its_counts_and_no_p_is_zero(make_workspace):
    workspace = make_workspace()
    text = report_command(workspace, write_run(workspace.root / "runs/a", 24))
    (row,) = (line for line in text.splitlines() if line.startswith("billing"))
    assert "? too few (24 of 30)" in row
    assert "< .001" in row
    for word in (".0000", "inconclusive", "within noise", "~"):
        assert word not in text
    legend = "Verdicts: ? too few, fewer independent records than a verdict takes. Beyond chance: 95 % interval"
    assert legend in " ".join(text.split())
    assert "+ improved" in report_command(workspace, write_run(workspace.root / "runs/b", 40))


def test_general_text_is_named_and_what_forgets_says_what_to_do_next(make_workspace):
    workspace = make_workspace()
    text = report_command(workspace, write_run(workspace.root / "runs/a", 40, factor=1.5))
    assert "General text (general.jsonl, n = 20) went from" in text
    assert 'next: lr 0.003 is 2.0 times the automatic 0.0015: lr = "auto"' in text
    assert '[mixing]  replay = "FILE.jsonl"' in text
    assert 'method = "lora"' in text
    held = report_command(workspace, write_run(workspace.root / "runs/b", 40))
    assert "General text (general.jsonl, n = 20)" in held
    assert "next:" not in held


@pytest.mark.ci
def test_two_runs_have_the_trainers_verdicts(make_workspace, tmp_path):
    workspace = make_workspace()

    def compare(first, second):
        return compare_runs(workspace, read_run(first), read_run(second))

    first = write_run(tmp_path / "a", 24, tuned=0.0)
    found = compare(first, write_run(tmp_path / "b", 24))
    assert [row.verdict.label for row in found.rows] == ["? too few (24 of 30)"]
    assert found.macro.verdict.label == "? too few (24 of 30)"
    first = write_run(tmp_path / "c", 40, tuned=0.0)
    found = compare(first, write_run(tmp_path / "d", 40))
    assert [row.verdict.label for row in found.rows] == ["+ improved"]
    assert [row.verdict.label for row in compare(first, first).rows] == ["~ inconclusive"]


@pytest.mark.parametrize("reason", REASONS)
def test_both_packages_call_a_verdict_the_same(tmp_path, reason):
    folder = write_run(tmp_path / "a", 40)
    path = folder / "report.json"
    value = json.loads(path.read_text(encoding="utf-8"))
    (result,) = value["splits"][0]["categories"]
    result["reason"] = reason
    path.write_text(json.dumps(value), encoding="utf-8")
    theirs, ours = Report.load(folder), feedback.read_results(folder)
    (one,) = ours.categories
    verdict = ours.verdict(one)
    (category,) = theirs.main().categories
    assert verdict.label == wording.verdict(category, theirs.fewest)
    assert verdict.label in table(theirs)
    assert feedback.legend([verdict]) == wording.legend([category])
    for p in (0.0, 0.0009, 0.001, 0.0312, 0.1, 0.5, 1.0):
        assert feedback.p_value(p) == wording.p_value(p).removeprefix("p ").removeprefix("= ")


def test_a_report_of_an_earlier_version_is_still_read(tmp_path):
    folder = write_run(tmp_path / "a", 24)
    path = folder / "report.json"
    value = json.loads(path.read_text(encoding="utf-8"))
    (split,) = value["splits"]
    del split["categories"][0]["reason"], value["run"]["tuning"], value["run"]["general_text"]
    for name in ("verdict", "reason", "num_clusters"):
        del split["macro"][name]
    for name in ("text", "remedies"):
        del value["forgetting"][name]
    path.write_text(json.dumps(value), encoding="utf-8")
    results = feedback.read_results(folder)
    assert results.verdict(results.categories[0]).label == "~ inconclusive"
    assert results.verdict(results.macro) is None
    assert len(results.forgetting) == 1
