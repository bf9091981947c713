"""What Home says is next: each step is counted, and what nobody has counted is no number."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from curate.base.events import Drop, Edit, Label, Propose, Undo
from curate.project.data import load_data
from curate.project.project import open_project
from curate.project.publish import export_dataset
from curate.sessions.overview import NUM_BINS, next_steps, not_done, noted, overview, scores
from curate.sessions.problems import problems_of
from curate.sessions.runs import Run


@pytest.fixture
def opened(make_workspace):
    """Return a function that opens and loads a workshop on some lines."""
    held = []

    def make(lines=None, settings="[split]\nseed = 1\n"):
        project = open_project(make_workspace(lines, settings).root, "ana")
        project.load()
        held.append(project)
        return project

    yield make
    for project in held:
        project.close()


def told(project, runs=()) -> list[str]:
    seen = overview(project, has_findings=problems_of(project).problems is not None)
    return [step.text for step in next_steps(project, seen, runs)]


def test_nothing_is_counted_that_nobody_has_looked_at(opened) -> None:
    project = opened()
    seen = overview(project, has_findings=False)
    assert seen.statuses == {"dropped": 0}
    assert all(one.num_ok is None for one in seen.categories)
    assert told(project) == [
        "not validated yet", "duplicates not counted yet", "60 records in no split",
    ]  # fmt: skip


def test_what_was_counted_is_told(opened) -> None:
    project = opened()
    problems_of(project).search()
    note = noted(project)
    assert note is noted(project)
    note.num_clusters, note.num_leaks = 3, 1
    assert "3 clusters of duplicates, 1 between splits" in told(project)
    assert not [text for text in told(project) if " yet" in text]
    note.num_clusters = note.num_leaks = 0
    assert not [text for text in told(project) if "repeat" in text]


def test_what_was_counted_is_not_known_of_records_read_anew(opened) -> None:
    project = opened()
    before = noted(project)
    before.num_clusters, before.num_leaks = 3, 1
    project.reload()
    assert noted(project) is not before
    assert "duplicates not counted yet" in told(project)


def test_the_overview_counts_categories_splits_and_labels(opened) -> None:
    lines = [
        {"id": f"r{number}", "instruction": f"q {number}", "output": "x" * 4 * (number + 1), "split": split,
         "category": category}
        for number, (category, split) in enumerate([("a", "train"), ("a", "test"), ("b", "train"), ("", "validation")])
    ]  # fmt: skip
    project = opened(lines)
    project.apply([Drop("r2", reason="x")])
    seen = overview(project, has_findings=False)
    assert (seen.num_records, seen.num_unread, seen.num_unlabelled) == (4, 0, 1)
    assert seen.statuses["dropped"] == 1
    assert {one.name: (one.num_records, one.num_labelled, one.splits) for one in seen.categories} == {
        "a": (2, 2, (1, 0, 1)), "": (1, 0, (0, 1, 0)),
    }  # fmt: skip
    assert seen.lengths is not None
    assert sum(seen.lengths.bins) == 3
    assert len(seen.lengths.bins) == NUM_BINS
    assert seen.lengths.longest <= seen.lengths.top


def test_own_questions_decide_what_is_labelled(opened) -> None:
    project = opened(settings='[split]\nseed = 1\n[[label.questions]]\nname = "quality"\nvalues = ["good", "bad"]\n')
    assert overview(project, has_findings=False).num_unlabelled == 60
    project.apply([Label("r001", "quality", "good")])
    assert overview(project, has_findings=False).num_unlabelled == 59


def test_a_line_that_is_no_record_is_an_error_to_fix(make_workspace) -> None:
    workspace = make_workspace()
    with (workspace.root / "data" / "a.jsonl").open("a", encoding="utf-8") as file:
        file.write("{broken\n")
    with open_project(workspace.root, "ana") as project:
        project.load()
        assert told(project)[0] == "1 line is no record"
        problems_of(project).search()
        assert told(project)[0] == "1 error to fix"


def test_a_dataset_older_than_the_data_is_stale(make_workspace) -> None:
    workspace = make_workspace()
    export, _ = export_dataset(workspace)
    old = 1_000_000_000
    os.utime(workspace.root / "data" / "a.jsonl", (old, old))
    with open_project(workspace.root, "ana") as project:
        project.load()
        assert not [text for text in told(project) if "older" in text]
    new = 4_000_000_000
    os.utime(workspace.root / "data" / "a.jsonl", (new, new))
    with open_project(workspace.root, "ana") as project:
        project.load()
        assert [text for text in told(project) if text.startswith("dataset v1 is older than the data")]
    # An export that finds the same data again says so here as well.
    manifest = export.path / "manifest.json"
    manifest.write_text(re.sub(r'"created": ?"[^"]*"', '"created":"2002-01-01T00:00:00Z"', manifest.read_text()))
    os.utime(manifest, (old, old))
    os.utime(workspace.root / "data" / "a.jsonl", (old + 100_000_000, old + 100_000_000))
    with open_project(workspace.root, "ana") as project:
        project.load()
        assert "dataset v1 is older" in " ".join(told(project))
        assert not project.export().is_new
        assert "dataset v1 is older" not in " ".join(told(project))


def test_what_models_propose_makes_no_dataset_stale(make_workspace) -> None:
    workspace = make_workspace()
    export_dataset(workspace)
    os.utime(workspace.root / "data" / "a.jsonl", (1_000_000_000, 1_000_000_000))
    at = "2100-01-01T00:00:00Z"

    def stale(project):
        return [text for text in told(project) if "older" in text]

    with open_project(workspace.root, "ana") as project:
        project.load()
        project.apply([Propose("r001", "model:m@1", {}, {"output": "New words."}, at=at)])
        assert not stale(project)
        assert "1 proposal of models: take or reject" in [step.text for step in not_done(project)]
        project.apply([Undo("r001", project.recent(1)[0].event, at=at)])
        assert not stale(project)
        project.apply([Edit("r001", {"output": "Newer words."}, at=at)])
        assert stale(project)


@pytest.mark.parametrize(
    ("standing", "has_report", "text", "screen"),
    [
        ("running", False, "run x is running", "train"), ("stopping", False, "run x is stopping", "train"),
        ("finished", True, "run x is ready", "compare"), ("failed", False, "run x failed", "train"),
        ("dead", False, "run x ended and left no message", "train"), ("stopped", False, "run x was stopped", "train"),
    ],
)  # fmt: skip
def test_runs_are_steps(opened, standing, has_report, text, screen) -> None:
    project = opened()
    run = Run(Path("x"), standing, "", {}, None, has_report)
    steps = next_steps(project, overview(project, has_findings=False), [run])
    what = {"runs": ["x"]} if screen == "compare" else {"run": "x"}
    assert (steps[-1].text, steps[-1].screen, steps[-1].what) == (text, screen, what)


def test_a_run_tells_what_its_report_comes_to(tmp_path, make_report) -> None:
    folders = {name: tmp_path / name for name in ("scored", "unscored", "damaged", "none")}
    for folder in folders.values():
        folder.mkdir()
    report = make_report()
    (folders["unscored"] / "report.json").write_text(json.dumps(report), encoding="utf-8")
    estimate = {"value": 0.75, "low": 0.7, "high": 0.8}
    report["splits"][0]["macro"] = {
        "category": "MEAN", "metric": "2 categories", "n": 40, "test": "sign-flip", "p": 0.01, "p_adjusted": 0.01,
        "base": {**estimate, "value": 0.47}, "tuned": estimate, "num_clusters": 40,
        "difference": {"value": 0.28, "low": 0.2, "high": 0.3},
    }  # fmt: skip
    (folders["scored"] / "report.json").write_text(json.dumps(report), encoding="utf-8")
    (folders["damaged"] / "report.json").write_text("{", encoding="utf-8")
    for name in ("scored", "unscored"):
        (folders[name] / "feedback.jsonl").write_text("", encoding="utf-8")
    runs = [Run(folder, "finished", "", {}, None, name != "none") for name, folder in folders.items()]
    assert scores(runs) == {
        "scored": "macro 0.75 (+0.28)", "unscored": "nothing was scored",
        "damaged": "E918 bad-report: its report cannot be read",
    }  # fmt: skip


def test_an_empty_workspace_has_one_step(opened) -> None:
    project = opened([])
    assert told(project) == ["there are no records yet: write the first"]
    assert overview(project, has_findings=False).lengths is None
    assert load_data(project.root).records() == []
