"""Redaction: nothing sensitive stays unsaid, who is who stays, and only the key brings the values back."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest
from filelock import FileLock

from curate import cli
from curate.cli import redact as redact_cli
from curate.journal import Decision
from curate.places import shipped
from curate.record import CurateError
from curate.redact import Key, is_private, read_key, write_key
from curate.workspace import Workspace, open_workspace

EMAIL = "ana.kovac@parcels.shop"
PHONE = "+44 20 7183 8750"
CARD = "4111 1111 1111 1111"
PRIVATE_KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIfake\nb3BlbnNzaC1rZXktdjEAAAAA\n-----END RSA PRIVATE KEY-----"


def redact(*arguments: str | Path) -> int:
    return int(cli.cli.main(["redact", *map(str, arguments)], standalone_mode=False) or 0)


def written(path: Path, *values: dict[str, Any], ensure_ascii: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(value, ensure_ascii=ensure_ascii) + "\n" for value in values), encoding="utf-8")
    return path


def record(output: str, instruction: str = "Do it.", **more: Any) -> dict[str, Any]:
    return {"id": "r1", "instruction": instruction, "output": output, **more}


def outputs(path: Path) -> list[str]:
    return [json.loads(raw)["output"] for raw in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# --- files -----------------------------------------------------------------------------------------------------------


def test_the_same_value_is_the_same_placeholder_in_every_turn_record_file_and_run(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": f"I am {EMAIL}"}, {"role": "assistant", "content": f"Hi {EMAIL}, {PHONE}?"}]
    one = written(tmp_path / "one.jsonl", {"id": "1", "messages": turns}, {"id": "2", "messages": turns})
    two = written(tmp_path / "two.jsonl", record("Ana.Kovac@parcels.shop and tom.li@parcels.shop"))
    assert redact(one, two) == 0
    assert one.read_text().count("[EMAIL_1]") == 4
    assert one.read_text().count("[PHONE_1]") == 2
    assert outputs(two) == ["[EMAIL_1] and [EMAIL_2]"]
    three = written(tmp_path / "three.jsonl", record(f"tom.li@parcels.shop, eve.ng@parcels.shop, {PHONE}"))
    assert redact(three) == 0
    assert outputs(three) == ["[EMAIL_2], [EMAIL_3], [PHONE_1]"]
    assert redact(one, two, three) == 0
    assert outputs(three) == ["[EMAIL_2], [EMAIL_3], [PHONE_1]"]


def test_placeholders_that_are_there_already_are_not_given_out(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        f'{{"instruction": "See [EMAIL_1].", "output": "\\u005bEMAIL_2] {EMAIL}"}}\n'
        + '{"instruction": "See [EMAIL_4].", "output": "tom.li@parcels.shop"}\n'
    )
    before = path.read_bytes()
    assert redact(path) == 0
    assert outputs(path) == ["[EMAIL_2] [EMAIL_3]", "[EMAIL_5]"]
    assert b"\\u005bEMAIL_2]" in path.read_bytes()
    assert redact(path, "--restore") == 0
    assert path.read_bytes() == before


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


def test_arguments_of_a_tool_call_are_redacted_and_come_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = json.dumps({"to": f"Hi,\n{EMAIL}", "who": "José", "key": "Key:\nAKIAIOSFODNN7EXAMPLE"})
    call = {"id": "c", "type": "function", "function": {"name": "send", "arguments": arguments}}
    turns = [{"role": "user", "content": EMAIL}, {"role": "assistant", "content": "", "tool_calls": [call]}]
    path = written(tmp_path / "a.jsonl", {"id": "1", "messages": turns}, ensure_ascii=True)
    before = path.read_bytes()
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
    assert redact(path, "--restore") == 0
    assert path.read_bytes() == before


def test_what_restoring_would_not_bring_back_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = json.dumps({"card": 4111111111111111})
    path = written(tmp_path / "a.jsonl", record("José García and José", arguments), record('{"who": "Zoë"}'))
    (tmp_path / "people.txt").write_text("José García|José\nZoë\n", encoding="utf-8")
    for how in ("--dry-run", "--terms"):
        assert redact(path, "--terms", tmp_path / "people.txt", *(["--dry-run"] if how == "--dry-run" else [])) == 0
        err = capsys.readouterr().err
        assert "spelled in more than one way: 1 value; --restore writes the first" in err
        assert "no longer bare: 1 bare number in JSON within a text; --restore writes strings" in err
        assert "spelled by other escapes after --restore: 1 JSON text" in err
    assert redact(path, "--restore") == 0
    err = capsys.readouterr().err
    assert "written as the first of several names: 2 names of people" in err
    assert "restored as strings: 1 number in JSON within a text" in err
    assert outputs(path) == ["José García and José García", '{"who": "Zo\\u00eb"}']


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


# --- the key ---------------------------------------------------------------------------------------------------------


def test_the_key_brings_every_byte_back(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", record(f"{EMAIL} {PHONE} café {PRIVATE_KEY}"), record(CARD), record("fine"))
    before = path.read_bytes()
    assert redact(path) == 0
    assert path.read_bytes() != before
    assert redact(path, "--restore") == 0
    assert path.read_bytes() == before


@pytest.mark.parametrize("ensure_ascii", [True, False])
def test_names_come_back_as_the_file_spells_them(tmp_path: Path, ensure_ascii: bool) -> None:
    path = written(tmp_path / "a.jsonl", record("Ask Ana Kovač."), record("déjà vu"), ensure_ascii=ensure_ascii)
    before = path.read_bytes()
    (tmp_path / "people.txt").write_text("Ana Kovač\n", encoding="utf-8")
    assert redact(path, "--terms", tmp_path / "people.txt") == 0
    assert outputs(path)[0] == "Ask [PERSON_1]."
    assert redact(path, "--restore") == 0
    assert path.read_bytes() == before


def test_the_key_is_private_and_fits_its_schema(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", record(f"{EMAIL} and Ana"))
    (tmp_path / "people.txt").write_text("Ana|Kovac\n")
    assert redact(path, "--terms", tmp_path / "people.txt") == 0
    key = tmp_path / ".curate" / "redact.key.json"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert is_private(key)
    content = json.loads(key.read_bytes())
    jsonschema.validate(content, json.loads((shipped("schemas") / "redaction.schema.json").read_bytes()))
    assert [entry["value"] for entry in content["entries"]] == [EMAIL, "Ana"]


def test_without_a_key_nothing_is_kept(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", record(EMAIL))
    assert redact(path, "--no-key") == 0
    assert [item.name for item in tmp_path.iterdir()] == ["a.jsonl"]
    path.write_text(path.read_text() + json.dumps(record("tom.li@parcels.shop")) + "\n")
    assert redact(path, "--no-key") == 0
    assert outputs(path) == ["[EMAIL_1]", "[EMAIL_2]"]


def test_without_a_key_no_placeholder_of_the_key_is_given_out(tmp_path: Path) -> None:
    one, two = (
        written(tmp_path / "1.jsonl", record(EMAIL)),
        written(tmp_path / "2.jsonl", record("tom.li@parcels.shop")),
    )
    assert redact(one) == 0
    assert redact(two, "--no-key") == 0
    assert outputs(two) == ["[EMAIL_2]"]
    assert redact(two, "--restore") == 0
    assert outputs(two) == ["[EMAIL_2]"]


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"version": 2, "entries": []}',
        '{"version": 1, "entries": [{"placeholder": "EMAIL", "kind": "e", "value": "hidden@parcels.shop"}]}',
        '{"version": 1, "entries": [{"placeholder": "[EMAIL_1]", "kind": "e", "value": 7}]}',
        json.dumps(
            {"version": 1, "entries": [{"placeholder": "[EMAIL_1]", "kind": "e", "value": "hidden@parcels.shop"}] * 2}
        ),
    ],
)
def test_what_is_no_key_is_refused_and_not_shown(tmp_path: Path, content: str) -> None:
    path = written(tmp_path / "a.jsonl", record(EMAIL))
    (tmp_path / "k.json").write_text(content)
    with pytest.raises(CurateError) as raised:
        redact(path, "--key", tmp_path / "k.json")
    assert raised.value.code == "E958 bad-key"
    assert "hidden" not in raised.value.message
    assert (tmp_path / "k.json").read_text() == content
    assert outputs(path) == [EMAIL]


def test_a_key_reads_as_it_was_written(tmp_path: Path) -> None:
    key = Key()
    assert key.placeholder("e-mail address", EMAIL) == "[EMAIL_1]"
    assert key.placeholder("person", "Ana", ["Kovac"]) == "[PERSON_1]"
    write_key(tmp_path / "k.json", key)
    again = read_key(tmp_path / "k.json")
    assert again.placeholder("e-mail address", EMAIL.title()) == "[EMAIL_1]"
    assert again.placeholder("person", "Kovac", ["A. Kovac"]) == "[PERSON_1]"
    assert again.placeholder("e-mail address", "tom.li@parcels.shop") == "[EMAIL_2]"


def test_the_key_is_written_before_any_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from curate.door import rewrite

    path = written(tmp_path / "a.jsonl", record(EMAIL))
    before = path.read_bytes()

    def fail(*_: object, **__: object) -> str:
        raise CurateError("E906 write-failed", "the disk is full")

    monkeypatch.setattr(rewrite, "write_atomic", fail)
    with pytest.raises(CurateError, match="disk is full"):
        redact(path)
    assert path.read_bytes() == before
    assert read_key(tmp_path / ".curate" / "redact.key.json").value("[EMAIL_1]") == EMAIL


def call(*arguments: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "curate", "redact", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_call_in_the_middle_of_another_loses_no_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = written(tmp_path / "one.jsonl", record(EMAIL))
    two = written(tmp_path / "two.jsonl", record("tom.li@parcels.shop"))
    before = one.read_bytes(), two.read_bytes()
    go_through = redact_cli._plan
    others = [two]

    def go_through_and_be_late(*arguments: Any, **options: Any) -> None:
        go_through(*arguments, **options)
        if others:
            assert redact(others.pop()) == 0

    monkeypatch.setattr(redact_cli, "_plan", go_through_and_be_late)
    assert redact(one) == 0
    assert (outputs(one), outputs(two)) == (["[EMAIL_2]"], ["[EMAIL_1]"])
    assert redact(one, two, "--restore") == 0
    assert (one.read_bytes(), two.read_bytes()) == before


def test_many_calls_at_once_share_one_key(tmp_path: Path) -> None:
    paths = [
        written(tmp_path / f"{n}.jsonl", *(record(f"user{n}x{m}@parcels.shop, {EMAIL}") for m in range(50)))
        for n in range(4)
    ]
    before = [path.read_bytes() for path in paths]
    for child in [call(path) for path in paths]:
        assert "Traceback" not in child.communicate(timeout=120)[1]
        assert child.returncode == 0
    assert len(read_key(tmp_path / ".curate" / "redact.key.json").entries) == 4 * 50 + 1
    assert redact(*paths, "--restore") == 0
    assert [path.read_bytes() for path in paths] == before


@pytest.mark.parametrize("more", [(), ("--restore",)])
def test_who_has_to_wait_for_the_key_is_told_so(tmp_path: Path, more: tuple[str, ...]) -> None:
    path = written(tmp_path / "a.jsonl", record(EMAIL))
    key = tmp_path / "k.json"
    write_key(key, Key())
    with FileLock(f"{key}.lock"):
        child = call(path, "--key", key, *more)
        assert child.stderr is not None
        assert child.stderr.readline() == f"waiting for another `curate redact` with the key {key}\n"
        assert outputs(path) == [EMAIL]
        assert child.poll() is None
    child.communicate(timeout=60)
    assert child.returncode == 0
    assert outputs(path) == [EMAIL if more else "[EMAIL_1]"]


def test_a_value_that_comes_after_the_key_was_saved_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "a.jsonl", record(EMAIL))
    keep = redact_cli._keep_key

    def keep_and_be_late(*arguments: Any) -> None:
        keep(*arguments)
        written(path, record(EMAIL), record("tom.li@parcels.shop"))

    monkeypatch.setattr(redact_cli, "_keep_key", keep_and_be_late)
    with pytest.raises(CurateError) as raised:
        redact(path)
    assert raised.value.code == "E959 not-rewritten"
    assert outputs(path) == [EMAIL, "tom.li@parcels.shop"]


def test_a_key_that_we_cannot_write_is_good_for_what_it_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "a.jsonl", record(EMAIL))
    key = tmp_path / "mounted" / "k.json"
    assert redact(path, "--key", key) == 0
    (key.parent / "k.json.lock").unlink()
    # A test may run as root, for whom no folder is closed.
    monkeypatch.setattr("os.access", lambda _, mode, **__: mode != os.W_OK)
    assert redact(path, "--key", key, "--restore") == 0
    assert redact(path, "--key", key) == 0
    assert outputs(path) == ["[EMAIL_1]"]
    assert [item.name for item in key.parent.iterdir()] == ["k.json"]


def test_a_list_of_names_does_not_go_with_restoring(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", record(EMAIL))
    assert redact(path) == 0
    with pytest.raises(click.UsageError):
        redact(path, "--restore", "--terms", tmp_path / "missing.txt")
    assert outputs(path) == ["[EMAIL_1]"]


# --- workspaces ------------------------------------------------------------------------------------------------------


def test_neither_git_nor_an_export_takes_the_key(make_workspace: Callable[..., Workspace], tmp_path: Path) -> None:
    lines = [
        {"instruction": f"Ask number {n} {n * 7}", "output": f"Mail user{n}@parcels.shop {n * 13}"} for n in range(40)
    ]
    root = make_workspace(lines).root
    assert redact(root) == 0
    key = root / ".curate" / "redact.key.json"
    value = "user7@parcels.shop"
    assert value in key.read_text()
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    subprocess.run(["git", "-C", str(root), "add", "-A"], check=True)
    listed = subprocess.run(["git", "-C", str(root), "ls-files"], check=True, capture_output=True, text=True).stdout
    assert "data/a.jsonl" in listed
    assert ".curate" not in listed
    assert cli.cli.main(["export", str(root)], standalone_mode=False) == 0
    exported = [
        path for path in root.rglob("*") if path.is_file() and ".curate" not in path.parts and ".git" not in path.parts
    ]
    assert any("dataset" in path.parts for path in exported)
    assert not [path for path in exported if value.encode() in path.read_bytes()]


@pytest.mark.parametrize("place", ["key.json", "data/key.jsonl", "dataset/v1/key.json", ".curate/../key.json"])
def test_a_key_that_would_be_shared_is_refused(make_workspace: Callable[..., Workspace], place: str) -> None:
    root = make_workspace([record(EMAIL)]).root
    with pytest.raises(CurateError) as raised:
        redact(root, "--key", root / place)
    assert raised.value.code == "E958 bad-key"
    assert redact(root, "--key", root.parent / "elsewhere.json") == 0


@pytest.mark.parametrize("key", [None, ".curate/k.json"])
def test_a_key_that_a_link_takes_out_of_the_workspace_is_refused(
    make_workspace: Callable[..., Workspace], key: str | None
) -> None:
    root = make_workspace([record(EMAIL)]).root
    (root.parent / "outside").mkdir()
    if (root / ".curate").exists():
        shutil.rmtree(root / ".curate")
    (root / ".curate").symlink_to(root.parent / "outside")
    with pytest.raises(CurateError) as raised:
        redact(root, *(["--key", root / key] if key else []))
    assert raised.value.code == "E914 outside-workspace"
    assert not list((root.parent / "outside").iterdir())
    assert outputs(root / "data" / "a.jsonl") == [EMAIL]


def test_copies_with_values_are_told_of(
    make_workspace: Callable[..., Workspace], capsys: pytest.CaptureFixture[str]
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


def test_decisions_find_records_whose_text_has_changed(make_workspace: Callable[..., Workspace]) -> None:
    lines = [{"instruction": "Mail?", "output": value} for value in (EMAIL, EMAIL, "tom.li@parcels.shop")]
    workspace = make_workspace(lines)
    first, second, third = [one.id for one in workspace.records()]
    workspace.apply([Decision("drop", second, fields={"reason": "twice"})], by="ana")
    assert redact(workspace.root) == 0
    again = open_workspace(workspace.root)
    assert [state.record.id for state in again.states()][:2] == [first, second]
    assert again.dropped() == {second: "twice"}
    assert [one.completion for one in again.records()] == ["[EMAIL_1]", "[EMAIL_2]"]
    assert third not in [one.id for one in again.records()]
    assert not again.remarks()
    assert redact(workspace.root, "--restore") == 0
    assert open_workspace(workspace.root).dropped() == {second: "twice"}


def test_records_whose_decisions_may_be_out_of_order_are_told_of(
    make_workspace: Callable[..., Workspace], capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = make_workspace([record(EMAIL)])
    workspace.apply([Decision("drop", "r1", fields={"reason": "x"})], by="ana").apply(
        [Decision("restore", "r1")], by="ben"
    )
    assert redact(workspace.root) == 1
    assert "look again at 1 record decided on in several sittings" in capsys.readouterr().err


def test_decisions_that_hold_values_are_told_of(
    make_workspace: Callable[..., Workspace], capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = make_workspace([record("fine")])
    workspace.apply([Decision("edit", "r1", fields={"changes": {"output": f"Mail {EMAIL}"}})], by="ana")
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


def test_public_sentences_hold_nothing_that_a_check_finds(tmp_path: Path, shared: Path) -> None:
    rows = json.loads((shared / "data" / "presidio-pii" / "synth_dataset_v2.json").read_text(encoding="utf-8"))
    path = written(tmp_path / "a.jsonl", *(record(row["full_text"], id=f"r{n}") for n, row in enumerate(rows)))
    before = path.read_bytes()
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
    assert redact(path, "--restore") == 0
    assert path.read_bytes() == before


def test_hostile_lines_hold_nothing_that_a_check_finds(tmp_path: Path, shared: Path) -> None:
    path = tmp_path / "pii.jsonl"
    path.write_bytes((shared / "badinputs" / "pii" / "secrets_and_pii.jsonl").read_bytes())
    assert redact(path) == 0
    assert outputs(path) == [
        "[SECRET_1] / [SECRET_2]", "hf_" + "x" * 34, "mail jane.doe@example.com", "card [CARD_1]", "ssn [SSN_1]",
        "[SECRET_3]",
    ]  # fmt: skip


def test_hostile_files_are_redacted_and_restored_without_loss(tmp_path: Path, shared: Path) -> None:
    folders = [shared / "badinputs" / name for name in ("jsonl", "text", "tokens")]
    for number, source in enumerate(sorted(path for folder in folders for path in folder.iterdir() if path.is_file())):
        path = tmp_path / f"{number}.jsonl"
        path.write_bytes(source.read_bytes())
        assert redact(path) in (0, 1)
        if (tmp_path / ".curate").exists():
            assert redact(path, "--restore") == 0
        assert path.read_bytes() == source.read_bytes(), source
