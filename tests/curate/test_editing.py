"""Records that are edited by hand: what is saved, refused, kept as a draft, and what others change meanwhile."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curate.base.events import Assign, Edit, Label
from curate.base.record import CurateError
from curate.project.data import load_data
from curate.sessions.edits import EditSession, answer_pointer, copied_edit, new_edit, open_edit
from tests import commands


def record_in(root: Path, name: str) -> dict[str, Any]:
    """Return a record as the next one to open the workspace finds it."""
    return dict(next(state.record.data for state in load_data(root).states() if state.record.id == name))


# -- a record under edit ----------------------------------------------------------------------------------------------


def test_an_edit_is_one_decision_on_the_keys_that_changed(make_workspace: Any, hold: Any) -> None:
    workspace = make_workspace()
    edit = open_edit(hold(workspace), "r003")
    edit.form.enter("/output", "Another answer.")
    edit.form.enter("/input", "Given this.")
    edit.keep()
    assert edit.draft_path.is_file()
    assert edit.save() == "saved r003: output, input"
    assert not edit.draft_path.exists()
    assert not edit.is_changed
    found = record_in(workspace.root, "r003")
    assert (found["output"], found["input"], found["category"]) == ("Another answer.", "Given this.", "billing")
    events = hold(workspace).history("r003")
    assert [(event.op, event.decision.changes) for event in events] == [
        ("edit", {"output": "Another answer.", "input": "Given this."})
    ]


def test_nothing_is_saved_that_the_schema_refuses(make_workspace: Any, hold: Any) -> None:
    workspace = make_workspace()
    edit = open_edit(hold(workspace), "r003")
    edit.form.replace_line({**edit.form.to_line(), "output": 5})
    edit.keep()
    with pytest.raises(CurateError, match="must be a string") as caught:
        edit.save()
    assert caught.value.code == "E972 unfit-line"
    assert edit.draft_path.is_file()
    assert hold(workspace).history("r003") == []


def test_a_draft_is_gone_on_with_and_goes_when_it_says_nothing_new(make_workspace: Any, hold: Any) -> None:
    workspace = make_workspace()
    edit = open_edit(hold(workspace), "r003")
    edit.form.enter("/output", "Half")
    edit.form.enter("/meta", "{")
    edit.keep()
    again = open_edit(hold(workspace), "r003")
    assert again.form.to_line()["output"] == "Half"
    assert again.form.typed["/meta"].text == "{"
    assert any("going on with your draft" in note for note in again.notes)
    assert not any("older state" in note for note in again.notes)
    again.discard()
    assert not again.is_changed
    assert not again.draft_path.exists()
    edit.form.undo()
    edit.form.undo()
    edit.keep()
    assert not edit.draft_path.exists()
    assert open_edit(hold(workspace), "r003").notes == []


def test_a_draft_of_an_older_state_says_so_and_goes_on_from_the_present_one(make_workspace: Any, hold: Any) -> None:
    workspace = make_workspace()
    edit = open_edit(hold(workspace), "r003")
    edit.form.enter("/output", "Mine")
    edit.keep()
    hold(workspace, "bo").apply([Edit("r003", {"input": "Theirs"})])
    again = open_edit(hold(workspace), "r003")
    assert any("older state" in note for note in again.notes)
    assert (again.form.to_line()["output"], again.form.to_line()["input"]) == ("Mine", "Theirs")
    assert again.save() == "saved r003: output"
    found = record_in(workspace.root, "r003")
    assert (found["output"], found["input"]) == ("Mine", "Theirs")


def test_what_others_change_meanwhile_is_taken_in(make_workspace: Any, hold: Any) -> None:
    workspace = make_workspace()
    mine, theirs = hold(workspace), hold(workspace, "bo")
    edit = open_edit(mine, "r003")
    edit.form.enter("/output", "Mine")
    theirs.apply([Edit("r003", {"input": "Theirs"})])
    mine.refresh()
    assert edit.follow() == ["the record was changed meanwhile; your edit goes on from there"]
    assert edit.follow() == []
    assert (edit.form.to_line()["output"], edit.form.to_line()["input"]) == ("Mine", "Theirs")
    edit.save()
    found = record_in(workspace.root, "r003")
    assert (found["output"], found["input"]) == ("Mine", "Theirs")


def test_saving_over_what_somebody_else_has_changed_asks_once(make_workspace: Any, hold: Any) -> None:
    workspace = make_workspace()
    edit = open_edit(hold(workspace), "r003")
    edit.form.enter("/output", "Mine")
    hold(workspace, "bo").apply([Edit("r003", {"output": "Theirs"})])
    with pytest.raises(CurateError, match="somebody else has changed output") as caught:
        edit.save()
    assert caught.value.code == "E986 changed-meanwhile"
    assert record_in(workspace.root, "r003")["output"] == "Theirs"
    assert edit.form.to_line()["output"] == "Mine"
    edit.save()
    assert record_in(workspace.root, "r003")["output"] == "Mine"


def test_a_dispute_outlives_the_session_that_met_it(make_workspace: Any, hold: Any) -> None:
    workspace = make_workspace()
    edit = open_edit(hold(workspace), "r003")
    edit.form.enter("/output", "Mine")
    hold(workspace, "bo").apply([Edit("r003", {"output": "Theirs"})])
    with pytest.raises(CurateError, match="somebody else has changed output"):
        edit.save()
    edit.keep()
    again = open_edit(hold(workspace), "r003")
    assert any("changed by somebody else since: output" in note for note in again.notes)
    with pytest.raises(CurateError, match="somebody else has changed output"):
        again.save()
    again.save()
    assert record_in(workspace.root, "r003")["output"] == "Mine"
    assert open_edit(hold(workspace), "r003").notes == []


def test_a_new_record_gets_a_fresh_id(make_workspace: Any, hold: Any) -> None:
    workspace = make_workspace()
    edit = new_edit(hold(workspace))
    assert not edit.is_changed
    with pytest.raises(CurateError, match="instruction"):
        edit.save()
    edit.form.enter("/instruction", "Ask")
    edit.form.enter("/output", "Tell")
    edit.keep()
    name = edit.name
    assert new_edit(hold(workspace), name).form.to_line() == {"instruction": "Ask", "output": "Tell"}
    assert edit.save() == f"saved the new record {name}"
    assert record_in(workspace.root, name) == {"id": name, "instruction": "Ask", "output": "Tell"}
    assert not edit.is_new
    edit.form.enter("/output", "Tell more")
    edit.save()
    assert record_in(workspace.root, name)["output"] == "Tell more"


def test_a_new_record_may_have_an_id_of_its_own_but_not_that_of_another(make_workspace: Any, hold: Any) -> None:
    workspace = make_workspace()
    edit = new_edit(hold(workspace))
    for pointer, text in (("/id", "r003"), ("/instruction", "Ask"), ("/output", "Tell")):
        edit.form.enter(pointer, text)
    with pytest.raises(CurateError, match="already"):
        edit.save()
    edit.form.enter("/id", "mine")
    edit.save()
    assert record_in(workspace.root, "mine")["instruction"] == "Ask"


def test_a_copy_has_no_id_and_no_decisions(make_workspace: Any, hold: Any) -> None:
    workspace = make_workspace()
    edit = copied_edit(hold(workspace), "r003")
    line = edit.form.to_line()
    assert "id" not in line
    assert line["category"] == "billing"
    edit.form.enter("/output", "Another")
    edit.save()
    assert len(load_data(workspace.root).states()) == 61


def test_what_label_and_split_decide_is_not_for_the_form(make_workspace: Any, hold: Any) -> None:
    workspace = make_workspace()
    project = hold(workspace)
    project.apply(
        [
            Label("r003", "quality", "good"),
            Assign("r003", "test"),
        ]
    )
    form = open_edit(project, "r003").form
    fixed = {field.name for field in form.root.fields if field.fixed}
    assert fixed == {"id", "labels", "split"}
    assert {field.name for field in open_edit(project, "r004").form.root.fields if field.fixed} == {"id"}


def test_the_categories_of_the_settings_are_offered(make_workspace: Any, hold: Any) -> None:
    settings = "[split]\nseed = 1\n[categories.billing]\n[categories.returns]\n"
    edit = open_edit(hold(make_workspace(settings=settings)), "r003")
    field = edit.form.field("/category")
    assert field is not None
    assert list(field.options) == ["billing", "returns"]


def test_text_from_an_editor(make_workspace: Any, hold: Any) -> None:
    workspace = make_workspace()
    edit = open_edit(hold(workspace), "r003")
    text = edit.written(as_json=True)
    assert text.startswith('{\n  "id": "r003",\n')
    assert edit.take(text) == []
    assert not edit.is_changed
    assert edit.take('{"id": "r003",\n  "output" "x"}') == ["line 2, column 12: a colon after the key was expected"]
    assert edit.written() == '{"id": "r003",\n  "output" "x"}'
    assert edit.take("[1]") == ["line 1, column 1: a record is an object in braces"]
    with pytest.raises(CurateError, match="cannot be read yet"):
        edit.save()
    edit.keep()
    assert open_edit(hold(workspace), "r003").text == "[1]"
    bad = text.replace('"category": "billing"', '"category": 7')
    assert edit.take(bad) == ["line 5, column 15: /category must be a string, not a number"]
    assert edit.take(text.replace("billing", "other")) == []
    edit.save()
    assert record_in(workspace.root, "r003")["category"] == "other"


def test_toml_from_an_editor(make_workspace: Any, hold: Any) -> None:
    line = {"id": "r003", "instruction": "Ask\nwhy \\frac", "output": "b", "category": "billing", "meta": {"n": 1.0}}
    workspace = make_workspace(lines=[line])
    edit = open_edit(hold(workspace), "r003")
    text = edit.written()
    assert "instruction = '''\nAsk\nwhy \\frac'''\n" in text
    assert edit.editor_path(text).name == "r003.toml"
    assert edit.take(text) == []
    assert not edit.is_changed
    for fault in ("2020-01-01", "nan", "99999999999999999999", '"open'):
        assert edit.take(text.replace('"billing"', fault))[0].startswith("line ")
        assert edit.text, "what cannot be read is kept"
    assert edit.take(text.replace('"billing"', "7")) == ["/category must be a string, not a number"]
    assert edit.take(text.replace("billing", "other").replace("why", "So: why")) == []
    edit.save()
    assert record_in(workspace.root, "r003") == {**line, "category": "other", "instruction": "Ask\nSo: why \\frac"}


def test_the_contract_of_a_category_is_found(make_workspace: Any, hold: Any) -> None:
    root = make_workspace().root
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    (root / "answer.json").write_text(json.dumps(schema), encoding="utf-8")
    settings = '[split]\nseed = 1\n[categories.billing]\nschema = "answer.json"\n[categories.returns]\n'
    (root / "curate.toml").write_text(settings, encoding="utf-8")
    edit = open_edit(hold(load_data(root)), "r003")
    found = edit.contract()
    assert found is not None
    assert (found[0], found[1].schema) == ("/output", schema)
    edit.form.set("/category", "returns")
    assert edit.contract() is None


def test_the_answer_of_a_conversation_is_its_last(make_workspace: Any) -> None:
    shape = make_workspace(lines=[], settings='schema = "chat"\n').shape
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    assert answer_pointer({"messages": turns}, shape) == "/messages/1/content"
    called = [*turns, {"role": "assistant", "content": None, "tool_calls": [{}]}]
    assert answer_pointer({"messages": called}, shape) == ""
    assert answer_pointer({"messages": []}, shape) == ""


@pytest.mark.ci
def test_huge_records_are_told(make_workspace: Any, hold: Any) -> None:
    lines = [
        {"id": "big", "instruction": "x" * 262_144, "output": "y"},
        {"id": "small", "instruction": "x", "output": "y"},
    ]
    project = hold(make_workspace(lines=lines))
    assert open_edit(project, "big").is_huge
    assert not open_edit(project, "small").is_huge


def test_an_unknown_record(make_workspace: Any, hold: Any) -> None:
    with pytest.raises(CurateError, match="no record"):
        open_edit(hold(make_workspace()), "nobody")


def test_a_draft_that_cannot_be_written_is_an_error(make_workspace: Any, hold: Any, monkeypatch: Any) -> None:
    workspace = make_workspace()
    edit: EditSession = open_edit(hold(workspace), "r003")
    edit.form.enter("/output", "Mine")

    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(CurateError, match="No space left"):
        edit.keep()


# -- the command line -------------------------------------------------------------------------------------------------


@pytest.fixture
def edit_with(monkeypatch: Any, tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """Return a function that runs `curate edit` with an editor that is a few lines of Python; TERM is dumb."""

    def run(root: Path, name: str, program: str, *more: str) -> tuple[int, str]:
        script = tmp_path / "editor.py"
        head = "import json, sys\nfrom pathlib import Path\npath = Path(sys.argv[1])\ntext = path.read_text()\n"
        script.write_text(head + program, encoding="utf-8")
        environment = {
            **os.environ,
            "TERM": "dumb",
            "VISUAL": f"{sys.executable} {script}",
            "CURATE_ANNOTATOR": "ana",
        }
        words = [name, str(root)] if name else [str(root)]
        done = commands.run("curate", "edit", *words, *more, env=environment)
        assert done.stdout == ""
        return done.returncode, done.stderr

    return run


def test_curate_edit_saves_a_decision(make_workspace: Any, edit_with: Any) -> None:
    root = make_workspace().root
    code, told = edit_with(root, "r003", "path.write_text(text.replace('billing', 'other'))")
    assert (code, told) == (0, "saved r003: category\n")
    assert record_in(root, "r003")["category"] == "other"
    assert not [path for path in (root / ".curate" / "drafts").rglob("*") if path.suffix in (".json", ".toml")]


def test_curate_edit_of_nothing_saves_nothing(make_workspace: Any, edit_with: Any) -> None:
    root = make_workspace().root
    assert edit_with(root, "r003", "") == (0, "nothing changed\n")
    assert not (root / "journal").exists()


@pytest.mark.ci
def test_curate_edit_keeps_what_is_refused_as_a_draft(make_workspace: Any, edit_with: Any) -> None:
    root = make_workspace().root
    code, told = edit_with(root, "r003", "path.write_text(text.replace('\"category\": ', '\"category\" '))", "--json")
    assert code == 1
    assert told.startswith("line 5, column 14: a colon after the key was expected\nnot saved; kept as a draft in ")
    assert not (root / "journal").exists()
    program = "assert '\"category\" \"billing' in text\npath.write_text(text.replace('y\" ', 'y\": 5#'))"
    code, told = edit_with(root, "r003", program, "--json")
    assert code == 1
    code, told = edit_with(root, "r003", "path.write_text(text.replace('5#\"billing\"', '5'))", "--json")
    assert code == 1
    assert "line 5, column 15: /category must be a string, not a number" in told
    code, told = edit_with(root, "r003", "path.write_text(text.replace(': 5', ': \"five\"'))", "--json")
    assert code == 0
    assert "going on with your draft" in told
    assert record_in(root, "r003")["category"] == "five"


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_bytes_of_another_encoding_are_refused_and_kept(make_workspace: Any, edit_with: Any, more: Any) -> None:
    root = make_workspace(lines=[{"id": "r", "instruction": "Ask the mayor.", "output": "b"}]).root
    program = "path.write_bytes(path.read_bytes().replace(b'the', b'f\\xfcr'))"
    code, told = edit_with(root, "r", program, *more)
    assert code == 1
    assert "byte 0xFC is not UTF-8" in told
    assert "UTF-8" in told.split("byte 0xFC is not UTF-8")[1]
    assert "not saved; kept as a draft in " in told
    assert record_in(root, "r")["instruction"] == "Ask the mayor."
    draft = json.loads(Path(told.split("kept as a draft in ")[1].strip()).read_text(encoding="utf-8"))
    assert "Ask f\udcfcr mayor." in draft["text"]


def test_line_ends_of_windows_and_an_empty_file(make_workspace: Any, edit_with: Any) -> None:
    root = make_workspace(lines=[{"id": "r", "instruction": "Ask\nus.", "output": "b"}]).root
    program = "path.write_bytes(path.read_bytes().replace(b'us', b'them').replace(b'\\n', b'\\r\\n'))"
    assert edit_with(root, "r", program) == (0, "saved r: instruction\n")
    assert record_in(root, "r")["instruction"] == "Ask\nthem."
    code, told = edit_with(root, "r", "path.write_text('')")
    assert code == 2
    assert "the editor left an empty file" in told
    assert "Nothing was changed." in told


def test_a_call_that_cannot_be_run_is_not_saved_unless_it_is_excused(make_workspace: Any, hold: Any) -> None:
    call = {"function": {"name": "find", "arguments": "{}"}}
    turns = [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": None, "tool_calls": [call]}]
    workspace = make_workspace([{"id": "c", "messages": turns}], 'schema = "chat"\n[split]\nseed = 1\n')
    edit = open_edit(hold(workspace), "c")
    pointer = "/messages/1/tool_calls/0/function/arguments"
    edit.form.set(pointer, "{}x")
    assert [(fault.problem.pointer, fault.problem.message) for fault in edit.form.problems()] == [
        (pointer, "the arguments of the call are not JSON")
    ]
    with pytest.raises(CurateError, match="the arguments of the call are not JSON"):
        edit.save()
    edit.form.set("/x-ignore", ["Q217"])
    edit.save()
    saved = record_in(workspace.root, "c")["messages"][1]["tool_calls"][0]["function"]
    assert saved["arguments"] == "{}x"


def test_curate_edit_discards_a_draft_when_asked(make_workspace: Any, edit_with: Any) -> None:
    root = make_workspace().root
    edit_with(root, "r003", "path.write_text('{')")
    assert edit_with(root, "r003", "assert 'billing' in text", "--discard-draft") == (0, "nothing changed\n")


@pytest.mark.ci
def test_curate_edit_of_new_records_and_copies(make_workspace: Any, edit_with: Any) -> None:
    root = make_workspace().root
    line = '{"id": "fresh", "instruction": "Ask", "output": "Tell"}'
    assert edit_with(root, "", f"path.write_text({line!r})", "--new") == (0, "saved the new record fresh\n")
    code, told = edit_with(root, "fresh", "path.write_text(text.replace('Tell', 'Tell more'))", "--copy")
    assert code == 0
    assert told.startswith("saved the new record ")
    outputs = [state.record.data["output"] for state in load_data(root).states()]
    # Two sittings have no order but that of their numbers.
    assert sorted(outputs[-2:]) == ["Tell", "Tell more"]


def test_curate_edit_shows_no_control_character_and_keeps_each(make_workspace: Any, edit_with: Any) -> None:
    root = make_workspace(lines=[{"id": "r", "instruction": "a\x1b[2J\u202e\x7f", "output": "b"}]).root
    program = "assert text.replace('\\n', '').isprintable()\npath.write_text(text.replace('\"b\"', '\"c\"'))"
    assert edit_with(root, "r", program) == (0, "saved r: output\n")
    assert record_in(root, "r") == {"id": "r", "instruction": "a\x1b[2J\u202e\x7f", "output": "c"}


@pytest.mark.ci
def test_curate_edit_without_a_record_or_an_editor(make_workspace: Any, edit_with: Any, monkeypatch: Any) -> None:
    root = make_workspace().root
    code, told = edit_with(root, "nobody", "")
    assert code == 2
    assert "E916" in told
    code, told = edit_with(root, "r003", "sys.exit(1)")
    assert (code, told) == (2, "the editor gave up; nothing was changed\n")
    code, told = edit_with(root, "r003", "path.write_text('{}')\nsys.exit(1)")
    assert code == 2
    assert "r003.toml" in told
    from curate.sessions.own_editor import editor_command

    monkeypatch.setenv("VISUAL", "/no/such/editor")
    with pytest.raises(CurateError, match="not there") as caught:
        editor_command()
    assert caught.value.exit_code == 3
    monkeypatch.setenv("VISUAL", "a 'b")
    with pytest.raises(CurateError, match="no command"):
        editor_command()
