"""`curate schema migrate`: which records break under the next schema, and what a rename or a default does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from curate.base.events import Drop, Edit, Label
from curate.base.record import CurateError, Exit
from curate.cli.apply_edits import command as apply_edits
from curate.cli.schema_ import command
from curate.cli.undo import command as undo
from curate.project.project import open_project

TEXT = {"type": "string", "minLength": 1}


def schema(required: list[str], *names: str, **more: Any) -> str:
    properties = dict.fromkeys(("id", "question", *names), TEXT) | more
    completion = "/output" if "output" in names else "/answer"
    view = {"id": "/id", "prompt": ["/question"], "completion": completion}
    document = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return json.dumps(document | {"x-record": view})


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "one.json").write_text(schema(["id", "question", "answer"], "answer"))
    (tmp_path / "both.json").write_text(schema(["id", "question", "output"], "answer", "output", lang=TEXT))
    (tmp_path / "wide.json").write_text(schema(["id", "question"], "answer", "output", lang=TEXT))
    (tmp_path / "two.json").write_text(schema(["id", "question", "output"], "output", lang=TEXT))
    (tmp_path / "curate.toml").write_text('# ours\nschema = "one.json" # of old\ndata = ["data/*.jsonl"]\n')
    rows = [{"id": f"r{n}", "question": f"Q{n}?", "answer": f"A{n}."} for n in range(5)]
    (tmp_path / "data/a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def migrate(root: Path, *arguments: str) -> Result:
    words = ["migrate", *arguments[:2], str(root), "--by", "ana", *arguments[2:]]
    return CliRunner().invoke(command, words, standalone_mode=False)


def tree(root: Path) -> dict[str, bytes]:
    paths = (path for path in root.rglob("*") if path.is_file() and ".curate" not in path.parts)
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}


def values(root: Path) -> list[dict[str, Any]]:
    with open_project(root, "ana") as project:
        return [dict(record.data) for record in project.data.records()]


def test_what_breaks_is_counted_by_rule_and_nothing_is_written(workspace: Path) -> None:
    with open_project(workspace, "bo") as project:
        project.apply([Edit("r1", {"answer": "Bo's."}), Drop("r2", "off topic")])
    before = tree(workspace)
    result = migrate(workspace, "one.json", "two.json")
    assert result.return_value == Exit.FINDINGS
    assert "one.json -> two.json: 5 records, 5 break as they are" in result.output
    assert "/: 'output' is missing" in result.output
    assert "/answer: unknown key 'answer'" in result.output
    assert "r0, r1, r2" in result.output
    assert "nothing was written; --rename" in result.output
    # A rename alone is not enough where the lines themselves are refused.
    result = migrate(workspace, "one.json", "two.json", "--rename", "/answer=/output")
    assert "after these changes: 5 break" in result.output
    assert "its line in the file, before decisions" in result.output
    assert tree(workspace) == before


def test_renames_and_defaults_are_one_act_and_the_settings_keep_their_comments(workspace: Path) -> None:
    with open_project(workspace, "bo") as project:
        project.apply([Edit("r1", {"answer": "Bo's."}), Label("r1", "tone", "kind")])
    changes = ("--rename", "/answer=/output", "--default", "/lang=en")
    before = tree(workspace)
    dry = migrate(workspace, "one.json", "wide.json", *changes, "--dry-run")
    assert tree(workspace) == before
    assert (dry.return_value, "after these changes: 0 break" in dry.output) == (Exit.OK, True)
    assert "changed  r1" in dry.output
    assert "Bo's." in dry.output
    wet = migrate(workspace, "one.json", "wide.json", *changes)
    assert "saved: 5 edits; curate.toml names wide.json" in wet.output
    assert (workspace / "curate.toml").read_text() == (
        '# ours\nschema = "wide.json" # of old\ndata = ["data/*.jsonl"]\n'
    )
    assert values(workspace)[1] == {"id": "r1", "question": "Q1?", "output": "Bo's.", "lang": "en"}
    with open_project(workspace, "ana") as project:
        assert project.data.state("r1").answers == {"tone": {"bo": "kind"}}  # type: ignore[union-attr]
    # One more time there is nothing to do, and one undo takes all of it back.
    assert CliRunner().invoke(undo, [str(workspace), "--by", "ana"]).exit_code == 0
    assert values(workspace)[1] == {"id": "r1", "question": "Q1?", "answer": "Bo's."}


def test_after_edits_are_applied_the_schema_can_be_tightened(workspace: Path) -> None:
    migrate(workspace, "one.json", "wide.json", "--rename", "/answer=/output")
    refused = migrate(workspace, "wide.json", "two.json")
    assert "its line in the file, before decisions" in refused.output
    assert "migrate to a schema that takes them as they are" in refused.output
    assert CliRunner().invoke(apply_edits, [str(workspace)]).exit_code == 0
    done = migrate(workspace, "wide.json", "two.json")
    assert done.return_value == Exit.OK
    assert "0 break as they are" in done.output
    assert [line["output"] for line in values(workspace)] == [f"A{n}." for n in range(5)]


def test_broken_records_are_left_behind_only_when_that_is_said(workspace: Path) -> None:
    (workspace / "short.json").write_text(
        schema(["id", "question", "answer"], "answer", lang=TEXT).replace(
            '"answer": {"type": "string", "minLength": 1}', '"answer": {"type": "string", "pattern": "^A[0-3]"}'
        )
    )
    arguments = ("one.json", "short.json", "--default", '/lang="en"')
    before = tree(workspace)
    assert "4 break" not in migrate(workspace, *arguments).output
    assert tree(workspace) == before
    result = migrate(workspace, *arguments, "--allow-broken")
    assert "after these changes: 1 break" in result.output
    assert "saved: 4 edits" in result.output
    assert [line["lang"] for line in values(workspace)] == ["en"] * 4


def test_bad_calls_are_refused(workspace: Path) -> None:
    refused = migrate(workspace, "two.json", "one.json").exception
    assert isinstance(refused, CurateError)
    assert refused.number == "E902"
    assert "is not /OLD=/NEW" in str(migrate(workspace, "one.json", "two.json", "--rename", "answer=output").exception)
    missing = migrate(workspace, "one.json", "none.json").exception
    assert isinstance(missing, CurateError)
    # A value does not move where another one stands.
    result = migrate(workspace, "one.json", "one.json", "--rename", "/answer=/question", "--default", "/id/x=1")
    assert "saved: 0 edits" in result.output
