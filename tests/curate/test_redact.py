"""Redaction: nothing sensitive stays unsaid, and who is who stays."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from curate import cli
from curate.base.events import Drop, Edit
from curate.base.record import CurateError
from curate.project.data import ProjectData, load_data
from tests.curate.deciding import decide
from tests.curate.redacting import EMAIL, PHONE, outputs, record, redact, written

pytestmark = pytest.mark.usefixtures("in_own_folder")

# --- files -----------------------------------------------------------------------------------------------------------


def test_the_same_value_is_the_same_placeholder_in_every_turn_record_and_file(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": f"I am {EMAIL}"}, {"role": "assistant", "content": f"Hi {EMAIL}, {PHONE}?"}]
    one = written(tmp_path / "one.jsonl", {"id": "1", "messages": turns}, {"id": "2", "messages": turns})
    two = written(tmp_path / "two.jsonl", record("Ana.Kovac@parcels.shop and tom.li@parcels.shop"))
    assert redact(one, two) == 0
    assert one.read_text().count("[EMAIL_1]") == 4
    assert one.read_text().count("[PHONE_1]") == 2
    assert outputs(two) == ["[EMAIL_1] and [EMAIL_2]"]
    three = written(tmp_path / "three.jsonl", record(f"tom.li@parcels.shop, eve.ng@parcels.shop, {PHONE}"))
    assert redact(three) == 0
    # Nothing remembers a value; a placeholder in the files never gets another meaning.
    assert outputs(three) == ["[EMAIL_1], [EMAIL_2], [PHONE_1]"]
    four = written(tmp_path / "four.jsonl", record("eve.ng@parcels.shop"))
    assert redact(two, four) == 0
    assert (outputs(two), outputs(four)) == (["[EMAIL_1] and [EMAIL_2]"], ["[EMAIL_3]"])


def test_placeholders_that_are_there_already_are_not_given_out(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        f'{{"instruction": "See [EMAIL_1].", "output": "\\u005bEMAIL_2] {EMAIL}"}}\n'
        + '{"instruction": "See [EMAIL_4].", "output": "tom.li@parcels.shop"}\n'
    )
    assert redact(path) == 0
    assert outputs(path) == ["[EMAIL_2] [EMAIL_3]", "[EMAIL_5]"]
    assert b"\\u005bEMAIL_2]" in path.read_bytes()


def test_only_the_values_change(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    lines = [
        b'\xef\xbb\xbf{ "output":"caf\\u00e9 \\/ %s", "n": 1.50e3,"instruction" : "x " }\r\n' % EMAIL.encode(),
        b'{"instruction": "nothing here \\/ ",   "output": "1"}\n',
        b"\n",
        b"{broken %s\n" % EMAIL.encode(),
        b'{"instruction": "at the end", "output": "%s"}' % PHONE.encode(),
    ]
    path.write_bytes(b"".join(lines))
    assert redact(path) == 1
    lines[0] = lines[0].replace(EMAIL.encode(), b"[EMAIL_1]")
    lines[4] = lines[4].replace(PHONE.encode(), b"[PHONE_1]")
    assert path.read_bytes() == b"".join(lines)


def test_arguments_of_a_tool_call_are_redacted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = json.dumps({"to": f"Hi,\n{EMAIL}", "who": "José", "key": "Key:\nAKIAIOSFODNN7EXAMPLE"})
    call = {"id": "c", "type": "function", "function": {"name": "send", "arguments": arguments}}
    turns = [{"role": "user", "content": EMAIL}, {"role": "assistant", "content": "", "tool_calls": [call]}]
    path = written(tmp_path / "a.jsonl", {"id": "1", "messages": turns}, ensure_ascii=True)
    check = ["validate", str(path), "--schema", "chat", "--select", "X701,X702", "--format", "jsonl"]
    assert cli.cli.main(check, standalone_mode=False) == 1
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["code"], one["pointer"]) for one in found][1:] == [
        ("X701", "/messages/1/tool_calls/0/function/arguments"),
        ("X702", "/messages/1/tool_calls/0/function/arguments"),
    ]
    (tmp_path / "people.txt").write_text("José\n", encoding="utf-8")
    assert redact(path, "--terms", tmp_path / "people.txt") == 0
    call = json.loads(path.read_bytes())["messages"][1]["tool_calls"][0]["function"]
    assert json.loads(call["arguments"]) == {
        "to": "Hi,\n[EMAIL_1]", "who": "[PERSON_1]", "key": "Key:\n[SECRET_1]",
    }  # fmt: skip
    assert not cli.cli.main(check, standalone_mode=False)


def test_only_what_changes_is_spelled_anew_in_a_file_of_either_kind(tmp_path: Path) -> None:
    for ensure_ascii in (True, False):
        path = written(tmp_path / "a.jsonl", record("Ask Ana Kovač."), record("déjà vu"), ensure_ascii=ensure_ascii)
        before = path.read_text(encoding="utf-8")
        (tmp_path / "people.txt").write_text("Ana Kovač\n", encoding="utf-8")
        assert redact(path, "--terms", tmp_path / "people.txt") == 0
        name = "Ana Kova\\u010d" if ensure_ascii else "Ana Kovač"
        assert path.read_text(encoding="utf-8") == before.replace(name, "[PERSON_1]")


def test_what_stays_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(
        tmp_path / "a.jsonl",
        {"id": EMAIL, "instruction": "a", "output": f"b {PHONE}", "category": f"of {EMAIL}"},
        {"id": "r2", "instruction": "a", "output": "b", "meta": {EMAIL: 1, "card": 4111111111111111}},
    )
    with path.open("a") as file:
        file.write("{broken\n")
    assert redact(path) == 1
    err = capsys.readouterr().err
    assert "redacted 1 value in 1 of 3 lines: 1 PHONE" in err
    assert "left: 4 values in ids, categories, splits, keys or numbers" in err
    for place in (f"{path}:1 /id", f"{path}:1 /category", f"{path}:2 /meta", f"{path}:2 /meta/card"):
        assert place in err
    assert "not looked into: 1 line without a JSON object" in err
    assert "no rule finds the names of people" in err
    assert EMAIL not in err


def test_a_diff_shows_no_value_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "a.jsonl", record(f"Mail {EMAIL}"), record("fine"))
    before = path.read_bytes()
    assert redact(path, "--diff") == 1
    out, err = capsys.readouterr()
    assert f"+++ {path}\n@@ -1 +1 @@ EMAIL\n" in out
    assert '"output": "Mail [EMAIL_1]"' in out
    assert EMAIL not in out + err
    assert redact(path, "--diff", "--show-values") == 1
    assert EMAIL in capsys.readouterr().out
    assert redact(path, "--dry-run") == 0
    assert "would redact 1 value in 1 of 2 lines" in capsys.readouterr().err
    assert path.read_bytes() == before
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a.jsonl"]


def test_output_leaves_the_files_and_replaces_none(tmp_path: Path) -> None:
    one = written(tmp_path / "in" / "one.jsonl", record(EMAIL))
    two = written(tmp_path / "in" / "two.jsonl", record("fine"))
    before = one.read_bytes()
    assert redact(one, two, "--output", tmp_path / "out") == 0
    assert one.read_bytes() == before
    assert outputs(tmp_path / "out" / "one.jsonl") == ["[EMAIL_1]"]
    assert (tmp_path / "out" / "two.jsonl").read_bytes() == two.read_bytes()
    assert redact(one, "--output", tmp_path / "single.jsonl") == 0
    assert outputs(tmp_path / "single.jsonl") == ["[EMAIL_1]"]
    for taken in ("out", "single.jsonl"):
        with pytest.raises(CurateError) as raised:
            redact(one, "--output", tmp_path / taken)
        assert raised.value.code == "E919 would-overwrite"


# --- workspaces ------------------------------------------------------------------------------------------------------


def test_copies_with_values_are_told_of(
    make_workspace: Callable[..., ProjectData], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [{"instruction": f"Ask {n} {n * 7}", "output": json.dumps({"a": f"{n}\n{PHONE}"})} for n in range(40)]
    root = make_workspace(lines).root
    assert cli.cli.main(["export", str(root)], standalone_mode=False) == 0
    copies = [
        *sorted((root / "dataset" / "v1").iterdir()),
        written(root / "runs" / "2026-01-01-a" / "predictions.jsonl", record(EMAIL)),
        root / "quarantine" / "a.csv.jsonl",
    ]
    copies[-1].parent.mkdir()
    copies[-1].write_text(f'{{"broken": {EMAIL}\n\xef', encoding="latin-1")
    before = [path.read_bytes() for path in copies]
    (root / "runs" / "2026-01-01-a" / "metrics.jsonl").write_text(EMAIL)
    assert redact(root) == 1
    err = capsys.readouterr().err
    places = "1 in quarantine, 40 in dataset/v1, 1 in runs/2026-01-01-a"
    assert f"left: 42 values in copies, which are not rewritten: {places}; delete them, and export again" in err
    assert EMAIL not in err
    assert [path.read_bytes() for path in copies] == before
    for name in ("dataset/v1", "runs", "quarantine"):
        shutil.rmtree(root / name)
    assert redact(root) == 0
    (root.parent / "outside").mkdir()
    (root / "quarantine").symlink_to(root.parent / "outside")
    assert redact(root) == 1
    assert "not looked into: 1 folder of copies that lead outside" in capsys.readouterr().err


def test_decisions_find_records_whose_text_has_changed(make_workspace: Callable[..., ProjectData]) -> None:
    lines = [{"instruction": "Mail?", "output": value} for value in (EMAIL, EMAIL, "tom.li@parcels.shop")]
    workspace = make_workspace(lines)
    first, second, third = [one.id for one in workspace.records()]
    decide(workspace, [Drop(second, reason="twice")], by="ana")
    assert redact(workspace.root) == 0
    again = load_data(workspace.root)
    assert [state.record.id for state in again.states()][:2] == [first, second]
    assert again.dropped() == {second: "twice"}
    assert [one.completion for one in again.records()] == ["[EMAIL_1]", "[EMAIL_2]"]
    assert third not in [one.id for one in again.records()]
    assert not again.remarks()


@pytest.mark.parametrize("is_decided", [False, True])
def test_no_number_of_the_workspace_is_given_out_again(
    make_workspace: Callable[..., ProjectData], is_decided: bool
) -> None:
    workspace = make_workspace([record(EMAIL)])
    other = written(workspace.root / "data" / "b.jsonl", record("tom.li@parcels.shop", id="r2"))
    if is_decided:
        decide(load_data(workspace.root), [Edit("r2", {"output": "[EMAIL_1]"})], by="ana")
        assert redact(workspace.root / "data" / "a.jsonl") == 0
    else:
        assert redact(workspace.root / "data" / "a.jsonl") == 0
        assert redact(other) == 0
    texts = [state.record.completion for state in load_data(workspace.root).states()]
    assert sorted(texts) == ["[EMAIL_1]", "[EMAIL_2]"]


def test_decisions_that_hold_values_are_told_of(
    make_workspace: Callable[..., ProjectData], capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = make_workspace([record("fine")])
    decide(workspace, [Edit("r1", {"output": f"Mail {EMAIL}"})], by="ana")
    assert redact(workspace.root) == 1
    err = capsys.readouterr().err
    assert "left: 1 decision in the journal" in err
    assert EMAIL not in err


# --- public data -----------------------------------------------------------------------------------------------------

_TYPES = {
    "EMAIL_ADDRESS": 1.0,
    "CREDIT_CARD": 0.98,
    "IBAN_CODE": 1.0,
    "US_SSN": 1.0,
    "IP_ADDRESS": 1.0,
    "PHONE_NUMBER": 0.85,
}


@pytest.mark.ci
def test_public_sentences_hold_nothing_that_a_check_finds(tmp_path: Path, shared: Path) -> None:
    rows = json.loads((shared / "data" / "presidio-pii" / "synth_dataset_v2.json").read_text(encoding="utf-8"))
    path = written(tmp_path / "a.jsonl", *(record(row["full_text"], id=f"r{n}") for n, row in enumerate(rows)))
    validate = ["validate", str(path), "--schema", "instruction", "--select", "X701,X702", "--format", "jsonl"]
    cli.cli.main([*validate, "--output", str(tmp_path / "before")], standalone_mode=False)
    assert len((tmp_path / "before").read_text().splitlines()) > 250
    assert redact(path) == 0
    cli.cli.main([*validate, "--output", str(tmp_path / "after")], standalone_mode=False)
    assert (tmp_path / "after").read_text() == ""
    hits: Counter[str] = Counter()
    spans: Counter[str] = Counter()
    for row, output in zip(rows, outputs(path), strict=True):
        for span in row["spans"]:
            spans[span["entity_type"]] += 1
            hits[span["entity_type"]] += span["entity_value"] not in output
    for kind, wanted in _TYPES.items():
        assert spans[kind] >= 10
        assert hits[kind] >= wanted * spans[kind], (kind, hits[kind], spans[kind])


def test_hostile_lines_hold_nothing_that_a_check_finds(tmp_path: Path, shared: Path) -> None:
    path = tmp_path / "pii.jsonl"
    path.write_bytes((shared / "badinputs" / "pii" / "secrets_and_pii.jsonl").read_bytes())
    assert redact(path) == 0
    assert outputs(path) == [
        "[SECRET_1] / [SECRET_2]", "hf_" + "x" * 34, "mail jane.doe@example.com", "card [CARD_1]", "ssn [SSN_1]",
        "[SECRET_3]",
    ]  # fmt: skip


@pytest.mark.ci
def test_hostile_files_without_a_value_stay_byte_for_byte(tmp_path: Path, shared: Path) -> None:
    folders = [shared / "badinputs" / name for name in ("jsonl", "text", "tokens")]
    for number, source in enumerate(sorted(path for folder in folders for path in folder.iterdir() if path.is_file())):
        path = tmp_path / f"{number}.jsonl"
        path.write_bytes(source.read_bytes())
        assert redact(path) in (0, 1)
        assert path.read_bytes() == source.read_bytes(), source
    assert not (tmp_path / ".curate").exists()
