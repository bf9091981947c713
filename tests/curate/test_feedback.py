import hashlib
import json
import re

import pytest

from curate.base import console
from curate.base.record import CurateError
from curate.project.feedback import latest_run, read_results, render_records, render_scores, report_findings, worst
from curate.project.publish import export_dataset
from tests.curate.called import call
from tests.curate.conftest import support_lines
from train.data.dataset import open_dataset


def line(name, score, nll=1.0, split="validation", **more):
    said = {"completion_tuned": "no"} if split == "validation" else {}
    return {"id": name, "split": split, "category": "billing", "nll_base": 2.0, "nll_tuned": nll, "score_base": 1.0,
            "score_tuned": score, "verdict": "broken", **said, **more}  # fmt: skip


def make_run(folder, said, lines):
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps(said), encoding="utf-8")
    text = "".join(json.dumps(one) + "\n" for one in lines)
    (folder / "feedback.jsonl").write_text(text, encoding="utf-8")
    return folder


def test_worst_validation_records_come_with_their_place(make_workspace, make_report):
    workspace = make_workspace()
    lines = [
        line("r001", 0.5),
        line("r003", 0.0, 1.0),
        line("r005", 0.0, 9.0),
        line("r007", 1.0, verdict="ok"),
        line("r009", 0.0, split="train"),
        line("gone", 0.25),
        line("r000", None, category="returns", verdict="unscored"),
    ]
    results = read_results(make_run(workspace.root / "runs/a", make_report(), lines))
    found = worst(workspace, results, per_category=4)
    assert [(bad.outcome.id, bad.record and bad.record.source.line) for bad in found["billing"]] == [
        ("r005", 6),
        ("r003", 4),
        ("gone", None),
        ("r001", 2),
    ]
    assert [bad.outcome.id for bad in found["returns"]] == ["r000"]
    assert list(worst(workspace, results, per_category=1)) == ["billing", "returns"]


def test_a_record_that_changed_since_the_run_has_neither_line_nor_text(make_workspace, make_report):
    lines = [line | {"split": "train" if number > 5 else "validation"} for number, line in enumerate(support_lines())]
    workspace = make_workspace(lines)
    export_dataset(workspace)
    rows = open_dataset(workspace.root / "dataset/v1").splits["validation"]
    run = make_run(workspace.root / "runs/a", make_report(), [line(row.id, 0.0, digest=row.digest) for row in rows])
    # One is edited, two change their ids, one becomes a test record, one goes, and one stays as it was in a new place.
    lines[0]["output"] = "Another answer."
    lines[1]["id"], lines[2]["id"] = lines[2]["id"], lines[1]["id"]
    lines[3]["split"] = "test"
    lines[5] |= {"category": "other", "weight": 2, "labels": {"topic": "x"}}
    text = "".join(json.dumps(one) + "\n" for one in [lines[5], *lines[:4], *lines[6:]])
    (workspace.root / "data/a.jsonl").write_text(text)
    said = call("report", run, "--workspace", workspace.root, "--format", "jsonl", "--worst", 9)
    told = {row["id"]: (row["standing"], row["line"]) for row in map(json.loads, said.stdout.splitlines())}
    assert told == {"r000": ("changed", None), "r001": ("changed", None), "r002": ("changed", None),
                    "": ("test", None), "r004": ("gone", None), "r005": ("same", 1)}  # fmt: skip
    text = call("report", run, "--workspace", workspace.root, "--worst", 9).stdout
    assert "  r000 (changed since the run): broken, score 0.00\n    got    no\n" in text
    assert "  a record (now in test): broken, score 0.00\n  " in text
    assert "  data/a.jsonl:1 r005: broken, score 0.00\n    wanted answer5 says" in text
    assert text.count("wanted") == 1
    assert "earlier version" not in text


def test_regression_and_staleness_are_findings(make_workspace, make_report):
    workspace = make_workspace()
    made, _ = export_dataset(workspace)
    path = made.path / "manifest.json"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    fresh = read_results(make_run(workspace.root / "runs/a", make_report(digest), []))
    assert [(one.code, one.message) for one in report_findings(fresh, path)] == [
        ("R602", "billing: exact went from 0.700 to 0.300")
    ]
    assert fresh.regressed == ["billing"]
    stale = read_results(make_run(workspace.root / "runs/b", make_report("0" * 64, "inconclusive"), []))
    assert [one.code for one in report_findings(stale, path)] == ["R601"]
    assert report_findings(stale, None) == []


def test_told_for_people(make_workspace, make_report, monkeypatch):
    workspace = make_workspace()
    export_dataset(workspace)
    results = read_results(make_run(workspace.root / "runs/a", make_report("0" * 64), [line("r003", 0.0)]))
    text = "\n".join([*render_scores(results), *render_records(workspace, results)])
    assert re.search(r"billing +20 +- +0.70 +0.30 +-0.40 .*! regressed", text)
    assert max(map(len, render_scores(results))) <= console.width()
    monkeypatch.setenv("COLUMNS", "60")
    assert max(map(len, render_scores(results))) <= 60
    assert "R601 stale-report" in text
    assert "data/a.jsonl:4 r003: broken, score 0.00\n    wanted answer3 says" in text
    assert "\n    got    no" in text


def test_the_newest_finished_run_is_found(tmp_path, make_report):
    assert latest_run(tmp_path / "runs") is None
    make_run(tmp_path / "runs/2026-01-01-a", make_report(), [])
    make_run(tmp_path / "runs/2026-01-02-a", make_report(), [])
    (tmp_path / "runs/2026-01-03-a").mkdir()
    assert latest_run(tmp_path / "runs") == tmp_path / "runs/2026-01-02-a"


@pytest.mark.parametrize(
    "lines", [[line("a", 0.0, split="test")], [line("a", 0.0, verdict="fine")], [line("a", "bad")], [{"id": "a"}]]
)
def test_bad_feedback_is_refused_with_its_line(tmp_path, make_report, lines):
    folder = make_run(tmp_path / "a", make_report(), [line("ok", 1.0), *lines])
    with pytest.raises(CurateError, match=r"feedback\.jsonl:2") as caught:
        read_results(folder)
    assert caught.value.code == "E918 bad-report"


@pytest.mark.parametrize("text", ["", "nonsense", "{}", '{"version": 2}'])
def test_bad_reports_are_refused(tmp_path, make_report, text):
    folder = make_run(tmp_path / "a", make_report(), [])
    (folder / "report.json").write_text(text, encoding="utf-8")
    with pytest.raises(CurateError) as caught:
        read_results(folder)
    assert caught.value.code == "E918 bad-report"


def test_missing_feedback_is_told(tmp_path, make_report):
    folder = make_run(tmp_path / "a", make_report(), [])
    (folder / "feedback.jsonl").unlink()
    with pytest.raises(CurateError, match="feedback"):
        read_results(folder)
