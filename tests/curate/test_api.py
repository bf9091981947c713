"""The public Python API: what `import curate` gives a notebook, as HOUSE and docs/python.md have it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import curate
from curate.cli import cli


@pytest.fixture
def root(make_workspace: Any) -> Path:
    lines = [
        {
            "id": f"r{number:03}",
            "instruction": f"Please tell item{number} apart from thing{number * 7} and from part{number * 13} today.",
            "output": f"answer{number} says that stuff{number * 3} differs{number} a lot{number * 5}.",
            "category": "billing" if number % 2 else "returns",
        }
        for number in range(20)
    ]
    folder: Path = make_workspace([*lines, {"id": "empty", "instruction": "Say.", "output": ""}]).root
    return folder


def listed(root: Path, where: str) -> list[str]:
    done = CliRunner().invoke(cli, ["list", str(root), "--where", where, "--format", "jsonl"])
    assert done.exit_code == 0, done.output
    return [json.loads(line)["id"] for line in done.stdout.splitlines()]


def test_every_name_is_there_and_no_other() -> None:
    assert {name: getattr(curate, name) for name in curate.__all__}.keys() <= set(dir(curate))
    assert curate.Record.__module__ == "curate.base.record"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = curate.nothing  # type: ignore[attr-defined]


@pytest.mark.parametrize("form", [str, Path])
def test_a_workspace_is_opened_by_text_or_path(root: Path, form: type) -> None:
    with curate.open(form(root)) as project:
        assert repr(project) == f"<Project {str(root)!r}: not read yet>"
        assert len(project.frame) == 21
        assert repr(project) == f"<Project {str(root)!r}: 21 records, instruction>"


def test_reading_needs_no_name(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("no name")

    monkeypatch.setattr("getpass.getuser", nobody)
    monkeypatch.delenv("CURATE_ANNOTATOR", raising=False)
    project = curate.open(root)
    assert len(project.frame) == 21
    assert len(list(project.records("category:billing"))) == 10
    assert project.history("r001") == []
    with pytest.raises(curate.CurateError, match="no name of an annotator is known"):
        project.apply([curate.Drop("r001", "off topic")])
    assert not (root / "journal").exists()


def test_the_frame_has_a_row_for_each_record_as_decided(root: Path) -> None:
    with curate.open(root, by="ana") as project:
        project.apply(
            [curate.Edit("r001", {"output": "Other words."}), curate.Drop("r002"), curate.Assign("r003", "test")]
        )
        frame = project.frame
        assert frame.columns == [
            "id", "category", "split", "status", "tokens", "kind", "source", "file", "line", "prompt", "completion",
            "labels",
        ]  # fmt: skip
        rows = {row["id"]: row for row in frame.iter_rows(named=True)}
    assert (rows["r001"]["completion"], rows["r002"]["status"], rows["r003"]["split"]) == (
        "Other words.",
        "dropped",
        "test",
    )
    assert (rows["r000"]["file"], rows["r000"]["line"], rows["r000"]["category"]) == ("data/a.jsonl", 1, "returns")


@pytest.mark.parametrize(
    "where",
    ["category:billing", "-category:billing tokens:>5", "label.quality:bad", "-label.quality:bad", "status:dropped",
     "status:error", "category:billing -label.quality:bad", '"answer7 "'],
)  # fmt: skip
def test_records_are_those_of_the_list(root: Path, where: str) -> None:
    with curate.open(root, by="ana") as project:
        project.apply([curate.Label("r001", "quality", "bad"), curate.Drop("r005", reason="off topic")])
    with curate.open(root) as project:
        names = [record.id for record in project.records(where)]
    assert names == listed(root, where)
    assert len(names) < 21


def test_what_is_applied_says_what_changed_and_is_taken_back(root: Path) -> None:
    project = curate.open(root, by="ana")
    applied = project.apply([curate.Label("r001", "quality", "good"), curate.Drop("r007", reason="off topic")])
    assert applied.ids == ["r001", "r007"]
    assert repr(applied) == "<saved: label, drop of r001, r007>"
    assert "r007" not in [record.id for record in project.records()]
    undone = project.undo()
    assert repr(undone) == "<taken back: label, drop of r001, r007>"
    assert "r007" in [record.id for record in project.records()]
    assert repr(project.redo()) == "<done again: label, drop of r001, r007>"
    assert [event.op for event in project.history("r007")] == ["drop", "undo", "undo"]
    project.undo()
    assert project.undo() is None
    assert project.apply([]) == []


def test_others_decisions_come_with_refresh(root: Path) -> None:
    with curate.open(root, by="ana") as ana, curate.open(root, by="bo") as bo:
        assert len(ana.frame) == 21
        bo.apply([curate.Resolve("r004", "quality", "good"), curate.Restore("r005")])
        assert ana.refresh() == {"r004", "r005"}


def test_a_decision_that_cannot_be_taken_says_why_and_writes_nothing(root: Path) -> None:
    with curate.open(root, by="ana") as project, pytest.raises(curate.CurateError) as caught:
        project.apply([curate.Drop("r001"), curate.Add("r002", {"instruction": "Say.", "output": "Hi."})])
    assert str(caught.value) == "there already is a record 'r002'"
    assert caught.value.__notes__ == ["E916 unknown-record. Nothing was saved."]
    assert not (root / "journal").exists()


def test_a_folder_without_settings_is_no_workspace(tmp_path: Path) -> None:
    with pytest.raises(curate.CurateError) as caught:
        curate.open(tmp_path)
    assert caught.value.code == "E901 no-workspace"


def test_validate_says_what_the_command_says(root: Path) -> None:
    verdict = curate.open(root).validate()
    done = CliRunner().invoke(cli, ["validate", str(root), "--format", "jsonl"])
    assert [finding.code for finding in verdict.findings] == [
        json.loads(line)["code"] for line in done.stdout.splitlines()
    ]
    assert repr(verdict).startswith("<fails: 1 error, ")
    assert repr(verdict).endswith(" in 21 records>")


def test_files_are_validated_without_a_workspace(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "loose.jsonl"
    path.write_bytes((root / "data/a.jsonl").read_bytes())
    verdict = curate.validate(path)
    assert verdict.counts["Q201"] == 1
    assert verdict.counts == curate.validate([str(path)], schema="instruction").counts
    assert (verdict.num_records, verdict.findings[-1].file) == (21, str(path))
    assert isinstance(verdict.findings[0], curate.Finding)
    assert curate.validate(path, schema="chat").num_records == 0
    with pytest.raises(curate.CurateError) as caught:
        curate.validate(tmp_path / "none.jsonl")
    assert caught.value.code == "E904 no-such-file"


def test_an_export_is_a_dataset_that_is_made_once(root: Path) -> None:
    with curate.open(os.fspath(root), by="ana") as project:
        with pytest.raises(curate.CurateError, match="1 error blocks the export"):
            project.export()
        project.apply([curate.Drop("empty", reason="no answer")])
        dataset = project.export()
        assert dataset.path == root / "dataset/v1"
        assert repr(dataset) == f"<dataset {str(dataset.path)!r}: 16 train, 3 validation, 1 test>"
        assert repr(project.export()).endswith("; nothing has changed>")
