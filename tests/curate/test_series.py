"""Several runs as one, in `curate runs`, `curate report`, Compare and Train."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from curate.cli import cli
from curate.sessions.run_comparison import compare_models, gate_command
from curate.sessions.runs import members_of, read_run, resumed_dataset, runs_of
from tests.curate.score_reports import SERIES_ID as ID
from tests.curate.score_reports import write_run, write_series


def test_runs_lists_a_series_and_its_runs(make_workspace) -> None:
    workspace = make_workspace()
    write_series(workspace.root / "runs")
    done = CliRunner().invoke(cli, ["runs", str(workspace.root)])
    lines = done.output.splitlines()
    assert [line.split()[0] for line in lines] == [ID, f"{ID}/seed-0", f"{ID}/seed-1"]
    assert "seeds: 2 of 2 runs are finished" in lines[0]
    # What a run stands at begins in one column, however long the names of a series' runs are.
    assert len({line.index("finished") for line in lines}) == 1
    told = CliRunner().invoke(cli, ["runs", str(workspace.root), "--format", "jsonl"]).output
    rows = [json.loads(line) for line in told.splitlines()]
    assert [(row["id"], row["series"]) for row in rows] == [(ID, None), (f"{ID}/seed-0", ID), (f"{ID}/seed-1", ID)]
    alone = CliRunner().invoke(cli, ["runs", str(workspace.root), "--run", f"{ID}/seed-1"]).output
    assert alone.startswith(f"{ID}/seed-1")


def test_report_is_that_of_the_series(make_workspace) -> None:
    workspace = make_workspace()
    write_series(workspace.root / "runs")
    write_run(workspace.root / "runs/2026-11-25-a", 40, tuned=0.2)
    done = CliRunner().invoke(cli, ["report", ID, "--workspace", str(workspace.root)])
    assert done.exit_code == 0, done.output
    assert "Figures are means over 2 training seeds" in " ".join(done.output.split())
    assert "+.90" in done.output
    gate = gate_command(None, read_run(workspace.root / "runs" / ID))
    assert gate == f"train eval {workspace.root}/runs/{ID}/seed-1 --dry-run --fail-on worse"


def test_a_series_that_was_stopped_is_gone_on_with_on_its_dataset(make_workspace) -> None:
    workspace = make_workspace()
    folder = write_series(workspace.root / "runs", "stopped")
    (workspace.root / "dataset/v1").mkdir(parents=True)
    run = read_run(folder)
    assert (run.standing, run.can_resume, run.has_report) == ("stopped", True, False)
    assert run.metrics_folder == folder / "seed-1"
    assert run.selected == run
    assert gate_command(None, run) == ""
    assert resumed_dataset(folder) == workspace.root / "dataset/v1"


@pytest.mark.ci
def test_compare_shows_a_series_beside_its_base_and_its_model_beside_others(make_workspace) -> None:
    workspace = make_workspace()
    series = read_run(write_series(workspace.root / "runs"))
    other = read_run(write_run(workspace.root / "runs/2026-11-23-a", 40, tuned=0.5))
    (alone,) = compare_models(workspace, [series])
    assert any(text.startswith("Figures are means over 2 training seeds") for text in alone.general)
    assert alone.rows[0].difference == pytest.approx(0.9)
    (pair,) = compare_models(workspace, [other, series])
    assert pair.second.id == f"{ID}/seed-1"
    assert pair.rows[0].difference == pytest.approx(0.5)


@pytest.mark.parametrize("name", ["../../outside", "/etc", ".."])
def test_a_member_lies_in_its_series(make_workspace, name: str) -> None:
    workspace = make_workspace()
    folder = write_series(workspace.root / "runs")
    about = json.loads((folder / "series.json").read_text())
    about["members"][0]["name"] = about["selected"] = name
    (folder / "series.json").write_text(json.dumps(about | {"members": [*about["members"], 7]}))
    (run,) = runs_of(workspace)
    assert [member.id for member in members_of(run)] == [f"{ID}/seed-1"]
    assert run.selected == run


def test_what_stages_did_and_people_prefer_is_said(make_workspace) -> None:
    workspace = make_workspace()
    folder = write_run(workspace.root / "runs/2026-11-23-a", 40, tuned=0.9)
    path = folder / "report.json"
    report = json.loads(path.read_text())
    for part, sentence in (("stages", "Two stages."), ("preferences", "Nine moved.")):
        empty = {"title": "", "heads": [], "rows": [], "code": [], "left": [], "given_up": [], "files_only": []}
        report["tables"].append({"part": part, "sentences": [sentence], **empty, "has_total": False,
                                 "is_in_terminal": True})  # fmt: skip
    path.write_text(json.dumps(report))
    done = CliRunner().invoke(cli, ["report", "--workspace", str(workspace.root)])
    assert done.exit_code == 0, done.output
    assert "Two stages.\nNine moved." in done.output
    (alone,) = compare_models(workspace, [read_run(folder)])
    assert alone.general[-2:] == ("Two stages.", "Nine moved.")
