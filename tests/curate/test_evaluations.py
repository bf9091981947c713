"""Evaluations of one model lie beside the runs: they are listed as what they are, and are no run."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from curate.project.data import ProjectData
from curate.sessions.run_comparison import compare_models
from curate.sessions.runs import evaluations_of, run_folder, runs_of
from tests.curate.called import call
from tests.curate.evaluations import write_evaluation


@pytest.fixture
def data(make_workspace: Callable[..., ProjectData]) -> ProjectData:
    data = make_workspace()
    write_evaluation(data.root / "runs/eval-model", {"r003": 1.0}, shots=4)
    counts = {"results": 1, "unanswered": {"E963 no-answer": 2, "E925 too-long": 1}, "skipped": 0, "held_back": 0}
    write_evaluation(data.root / "runs/eval-lame", {"r003": 0.0}, status="stopped", counts=counts)
    return data


def test_they_are_listed_as_such_and_never_resumed(data: ProjectData) -> None:
    said = call("runs", data.root)
    assert "eval-model  finished   evaluated org/model behind 4 examples" in said.stdout
    assert "3 records have no answer; the same `train eval` asks them again" in said.stdout
    rows = [json.loads(line) for line in call("runs", data.root, "--format", "jsonl").stdout.splitlines()]
    assert {row["id"]: row["evaluated"] for row in rows} == {
        "eval-model": "org/model behind 4 examples", "eval-lame": "org/model",
    }  # fmt: skip
    assert runs_of(data) == []
    assert [run.can_resume for run in evaluations_of(data) if run.standing == "finished"] == [False]
    assert not run_folder(data, ["--resume"]).name.startswith("eval-")
    assert "there is no run yet" in call("runs", data.root, "--follow").stderr


def test_a_report_is_that_of_a_run(data: ProjectData) -> None:
    said = call("report", data.root / "runs/eval-model", "--workspace", data.root)
    assert said.exit_code == 2
    assert "is an evaluation of one model, and has no report" in said.stderr
    # Where there are evaluations alone, they and the command that compares them are named.
    alone = call("report", "--workspace", data.root)
    assert alone.exit_code == 2
    assert "holds no finished run, and evaluations of one model, which have no report: eval-model" in alone.stderr
    assert f"Compare them: `train compare {data.root}/runs/eval-model RUN`" in alone.stderr
    other = write_evaluation(data.root / "runs/eval-other", {"r003": 0.0})
    assert f"`train compare {data.root}/runs/eval-model {other}`" in call("report", "--workspace", data.root).stderr


def test_a_damaged_one_is_found(data: ProjectData) -> None:
    (data.root / "runs/eval-lame/eval.json").write_text("{")
    said = call("doctor", data.root)
    assert "eval.json" in said.stdout
    assert evaluations_of(data)[0].standing in ("finished", "failed")


@pytest.mark.ci
def test_records_that_are_test_records_now_are_not_shown(data: ProjectData, monkeypatch: pytest.MonkeyPatch) -> None:
    other = write_evaluation(data.root / "runs/eval-other", {"r003": 0.0, "r005": 1.0})
    write_evaluation(data.root / "runs/eval-third", {"r003": 1.0, "r005": 1.0})
    chosen = [run for run in evaluations_of(data) if run.id in (other.name, "eval-third")]
    (shown,) = compare_models(data, chosen)
    assert {pair.id for pair in shown.records} == {"r003", "r005"}
    monkeypatch.setattr(ProjectData, "pins", lambda _: {"r005": "test"})
    (shown,) = compare_models(data, chosen)
    assert {pair.id for pair in shown.records} == {"r003"}
    assert shown.changed[0].is_same
