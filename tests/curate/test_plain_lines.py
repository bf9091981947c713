"""`curate validate --plain` and `curate dedupe --plain`: each line is a command, and everything is saved."""

import json

import pytest
from click.testing import CliRunner

from curate.cli import cli
from curate.project.data import load_data
from tests.curate.called import call

pytestmark = pytest.mark.usefixtures("problems_sought_here")

SECRET = "AKIA" + "2QWERZ7SAMP4LE9Q"
TROUBLED = [
    {"id": "r0", "instruction": "Where is it?", "output": ""},
    {"id": "r1", "instruction": "Which key is it?", "output": f"Use {SECRET} as the key id."},
    {"id": "r2", "instruction": "What time is it? ", "output": "It is ten."},
    {"id": "r3", "instruction": "Who is there?", "output": "Nobody is there at the moment."},
]
ASKED = "Which shelf holds the box of blue paper clips in the north store room today?"
HOUR = "Give the opening hour of the shop in Riga on a Sunday in May."
ALIKE = [
    {"id": "a0", "instruction": ASKED, "output": "It is on shelf nine."},
    {"id": "a1", "instruction": ASKED, "output": "It is on shelf nine."},
    {
        "id": "b0",
        "instruction": HOUR,
        "output": "The third one from the top.",
    },
    {
        "id": "b1",
        "instruction": HOUR,
        "output": "The third one from the top.",
    },
    {"id": "c0", "instruction": "How many legs has a spider?", "output": "Eight."},
]


def said(verb, root, script, *options, by="ana"):
    """Return what a verb says to the lines of ``script``, and to what they were: stdout, stderr and the exit code."""
    result = CliRunner().invoke(
        cli, [verb, str(root), "--plain", "--by", by, *options], input=script, standalone_mode=False
    )
    if result.exception is not None:
        raise result.exception
    return result.stdout, result.stderr, int(result.return_value or 0)


def states(root):
    return {state.record.id: state for state in load_data(root).states()}


@pytest.fixture
def troubled(make_workspace):
    return make_workspace(TROUBLED, "[split]\nseed = 1\n").root


@pytest.mark.ci
@pytest.mark.child
def test_findings_are_dropped_excused_and_taken_back_one_by_one(troubled):
    out, err, code = said("validate", troubled, "d off topic\nu\ni\nnonsense\n?\nq\n")
    assert out.count("error Q201 empty-completion") == 2
    assert "data/a.jsonl:1  r0  /output" in out
    assert ">      1  " in out
    lines = err.splitlines()
    assert lines[:4] == [
        "r0 dropped (saved)",
        "taken back: drop of r0",
        "r0 is excused from Q201 (saved)",
        "nonsense: no command; ? lists them",
    ]
    assert "excuse the record from this check" in err
    assert (lines[-1].endswith("block export"), code) == (True, int(not lines[-1].endswith(" 0 block export")))
    assert states(troubled)["r0"].record.data["x-ignore"] == ["Q201"]


def test_the_last_decision_can_be_taken_back_when_no_finding_is_left(make_workspace):
    root = make_workspace([{"id": "r0", "instruction": "Ask.", "output": ""}], "[split]\nseed = 1\n").root
    out, err, code = said("validate", root, "d\nu\nd\nq\n")
    assert out.count("no other finding") == 2
    assert err.splitlines()[:3] == ["r0 dropped (saved)", "taken back: drop of r0", "r0 dropped (saved)"]
    assert code == 0


def test_a_drop_keeps_its_reason_and_what_is_left_comes_again_in_the_next_call(troubled):
    first, err, _ = said("validate", troubled, "s\ns\np\nd because\n")
    again, _, _ = said("validate", troubled, "")
    dropped = [name for name, state in states(troubled).items() if state.dropped is not None]
    assert len(dropped) == 1
    assert f"{dropped[0]} dropped (saved)" in err
    assert "because" in call("log", troubled, dropped[0]).stdout
    assert "Q201" in again
    assert first.count("error Q201") == 1


def test_no_secret_is_printed_and_the_end_of_the_input_loses_nothing(troubled):
    out, err, _ = said("validate", troubled, "s\n" * 20)
    assert "X702" in out
    assert SECRET not in out + err
    assert "no other finding" in out


def test_a_fix_shows_what_it_changes_and_is_an_edit(make_workspace):
    lines = [{"id": "r0", "instruction": "Say it.", "output": "Fine\u200b and good."}]
    root = make_workspace(lines, "[split]\nseed = 1\n").root
    out, err, _ = said("validate", root, "f\n" * 3)
    assert "f fix, " in out
    assert "- Fine<U+200B> and good.\n+ Fine and good." in out
    assert "r0 fixed (saved)" in err
    assert states(root)["r0"].record.completion == "Fine and good."
    assert (root / "data" / "a.jsonl").read_text(encoding="utf-8").count("\\u200b") + (
        root / "data" / "a.jsonl"
    ).read_text(encoding="utf-8").count("\u200b") == 1


def test_secrets_are_redacted_all_alike_as_one_act(make_workspace):
    lines = [{**TROUBLED[1], "id": f"r{number}"} for number in range(2)]
    root = make_workspace(lines, '[split]\nseed = 1\n[checks]\nselect = ["X7"]\n').root
    out, err, _ = said("validate", root, "f\na\n")
    assert "finding [r redact, a redact all 2, d drop, i excuse, e edit, " in out
    assert "f does nothing about X702 here; e edits the record" in err
    assert "redacted 2 records" in err
    assert {state.record.completion for state in states(root).values()} == {"Use [SECRET_1] as the key id."}


def test_the_editor_mends_a_record_and_a_line_that_is_none(troubled, tmp_path, monkeypatch):
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i \'s/^# output$/# output\\n\\nOn shelf two./; s/"answer"/"output"/\' "$1"\n')
    editor.chmod(0o755)
    monkeypatch.setenv("EDITOR", str(editor))
    monkeypatch.delenv("VISUAL", raising=False)
    with (troubled / "data" / "a.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"id": "r9", "instruction": "Which?", "answer": "This one."}) + "\n")
    out, err, _ = said("validate", troubled, "s\nd\ne\n" + "s\n" * 20)
    assert "this line is no record; e edits it" in err
    assert "data/a.jsonl:5 is the record r9 now" in err
    assert states(troubled)["r9"].record.completion == "This one."
    assert "S1" in out
    _, err, _ = said("validate", troubled, "e\n")
    assert states(troubled)["r0"].record.completion == "On shelf two."


def test_what_is_right_needs_no_answer(make_workspace):
    root = make_workspace(TROUBLED[3:], '[split]\nseed = 1\n[checks]\nselect = ["Q201"]\n').root
    assert said("validate", root, "") == ("", "0 findings left, 0 block export\n", 0)


def test_clusters_are_kept_left_and_written_as_one_act(make_workspace):
    root = make_workspace(ALIKE, "[split]\nseed = 1\n").root
    out, err, code = said("dedupe", root, "a\nl\nW\n")
    assert "cluster 1 of 2: exact 1.00, 2 records" in out
    assert "A: a0  no split" in out
    assert "USER A and B: Which shelf" in out
    assert err.splitlines() == [
        "keep a0, 1 record dropped (staged)",
        "leave as it is (staged)",
        "2 choices written, 1 record dropped (u undoes all)",
        "0 clusters left",
    ]
    assert code == 0
    assert [name for name, state in states(root).items() if state.dropped is not None] == ["a1"]
    out, err, code = said("dedupe", root, "u\nq\n")
    assert "no cluster left [u undo, q quit] >" in out
    assert "taken back" in err
    assert code == 1
    assert not any(state.dropped for state in states(root).values())


def test_blanks_by_which_two_records_differ_are_counted(make_workspace):
    records = [
        {"id": "b0", "instruction": "Where is  my parcel now?", "output": "On its way to you.", "category": "a"},
        {"id": "b1", "instruction": "Where is my parcel now?", "output": "On its way to you. ", "category": "a"},
    ]
    out, _, _ = said("dedupe", make_workspace(records).root, "q\n")
    assert "/instruction: 2 blanks -> 1 blank\n" in out
    assert "/output: - -> 1 blank\n" in out


def test_choices_stay_staged_for_the_next_call_and_go_back_one_by_one(make_workspace):
    root = make_workspace(ALIKE, "[split]\nseed = 1\n").root
    _, err, code = said("dedupe", root, "b\nx\nd\n?\nwhat\n")
    assert "keep: 1 more cluster (staged)" in err
    assert "2 choices staged and not written; W writes, also in the next call" in err
    assert "what: no command; ? lists them" in err
    assert code == 1
    assert not any(state.dropped for state in states(root).values())
    out, err, _ = said("dedupe", root, "u\nW\nu\nq\n")
    assert "staged: keep a1, 1 record dropped" in out
    assert "not staged any more" in err
    assert "written" in err


@pytest.mark.parametrize("verb", ["validate", "dedupe"])
def test_plain_is_of_one_workspace_and_of_what_its_settings_ask(verb, troubled):
    option = ("--select", "Q2") if verb == "validate" else ("--ngram", "4")
    wrong = call(verb, troubled, "--plain", *option)
    assert (wrong.exit_code, option[0] in wrong.stderr) == (2, True)
    assert "one workspace" in call(verb, troubled, troubled, "--plain").stderr
    assert call(verb, troubled / "data" / "a.jsonl", "--plain").exit_code == 2
