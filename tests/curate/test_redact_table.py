"""The table of redactions: the same value has the same number, and the file of the table holds no value."""

from __future__ import annotations

import hashlib
import hmac
import json
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest
from filelock import FileLock

import curate.checks.redact
from curate.base.record import CurateError
from curate.base.resources import shipped
from curate.checks.redact import PlaceholderTable, is_private, read_table, write_table
from curate.jsonl import rewrite
from tests.curate.redacting import EMAIL, outputs, record, redact, written

pytestmark = pytest.mark.usefixtures("in_own_folder")

OTHER = "tom.li@parcels.shop"
SCHEMA = shipped("schemas") / "redaction.schema.json"


def table_of(folder: Path) -> Path:
    return folder / ".curate" / "redaction.json"


# --- the table -------------------------------------------------------------------------------------------------------


def test_the_table_is_private_fits_its_schema_and_holds_no_value(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", record(f"{EMAIL} and Ana"))
    (tmp_path / "people.txt").write_text("Ana|Kovac\n")
    assert redact(path, "--terms", tmp_path / "people.txt") == 0
    table = table_of(tmp_path)
    assert stat.S_IMODE(table.stat().st_mode) == 0o600
    assert is_private(table)
    content = json.loads(table.read_bytes())
    jsonschema.validate(content, json.loads(SCHEMA.read_bytes()))
    key = bytes.fromhex(content["key"])
    wanted: dict[str, dict[str, int]] = {"EMAIL": {}, "PERSON": {}}
    for label, name in (("EMAIL", EMAIL), ("PERSON", "Ana"), ("PERSON", "Kovac")):
        wanted[label][hmac.new(key, f"{label}\0{name}".encode(), hashlib.sha256).hexdigest()] = 1
    assert content["numbers"] == wanted
    for file in (tmp_path / ".curate").iterdir():
        assert not [name for name in (EMAIL, "ana", "Ana", "Kovac", "parcels") if name in file.read_text()]


def test_two_tables_have_different_keys(tmp_path: Path) -> None:
    for name in ("a", "b"):
        path = written(tmp_path / f"{name}.jsonl", record(EMAIL))
        assert redact(path, "--table", tmp_path / name / "t.json") == 0
    one, two = (json.loads((tmp_path / name / "t.json").read_bytes()) for name in ("a", "b"))
    assert one["key"] != two["key"]
    assert not one["numbers"]["EMAIL"].keys() & two["numbers"]["EMAIL"].keys()


@pytest.mark.ci
def test_thousands_of_values_have_the_same_numbers_in_the_next_run(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", *(record(f"user{n}x@parcels.shop") for n in range(2500)))
    before = path.read_bytes()
    assert redact(path) == 0
    after = path.read_bytes()
    assert outputs(path)[-1] == "[EMAIL_2500]"
    path.write_bytes(b"".join(reversed(before.splitlines(keepends=True))))
    assert redact(path) == 0
    assert path.read_bytes().splitlines() == after.splitlines()[::-1]


def test_without_a_table_nothing_is_kept(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", record(EMAIL))
    assert redact(path, "--no-table") == 0
    assert [item.name for item in tmp_path.iterdir()] == ["a.jsonl"]
    path.write_text(path.read_text() + json.dumps(record(OTHER)) + "\n")
    assert redact(path, "--no-table") == 0
    assert outputs(path) == ["[EMAIL_1]", "[EMAIL_2]"]
    with pytest.raises(click.UsageError):
        redact(path, "--no-table", "--table", tmp_path / "t.json")


def test_without_a_table_no_placeholder_of_the_table_is_given_out(tmp_path: Path) -> None:
    one, two = written(tmp_path / "1.jsonl", record(EMAIL)), written(tmp_path / "2.jsonl", record(OTHER))
    assert redact(one) == 0
    content = table_of(tmp_path).read_bytes()
    assert redact(two, "--no-table") == 0
    assert outputs(two) == ["[EMAIL_2]"]
    assert table_of(tmp_path).read_bytes() == content


def test_a_table_that_others_may_read_is_told_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "a.jsonl", record(EMAIL))
    write_table(tmp_path / "t.json", PlaceholderTable())
    (tmp_path / "t.json").chmod(0o644)
    assert redact(path, "--table", tmp_path / "t.json") == 0
    assert f"warning: others may read the table {tmp_path / 't.json'}" in capsys.readouterr().err
    assert is_private(tmp_path / "t.json")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"version": 1, "entries": []}',
        json.dumps({"version": 2, "key": "00" * 32, "numbers": {"EMAIL": {"hidden@parcels.shop": 1}}}),
        json.dumps({"version": 2, "key": "00" * 32, "numbers": {"EMAIL": {"00" * 32: 0}}}),
        json.dumps({"version": 2, "key": "hidden", "numbers": {}}),
    ],
)
def test_what_is_no_table_is_refused_and_not_shown(tmp_path: Path, content: str) -> None:
    path = written(tmp_path / "a.jsonl", record(EMAIL))
    (tmp_path / "t.json").write_text(content)
    with pytest.raises(CurateError) as raised:
        redact(path, "--table", tmp_path / "t.json")
    assert raised.value.code == "E958 bad-key"
    assert "hidden" not in raised.value.message
    assert (tmp_path / "t.json").read_text() == content
    assert outputs(path) == [EMAIL]


def test_a_table_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", record(EMAIL))
    assert redact(path) == 0
    content = table_of(tmp_path).read_bytes().rstrip()
    after = path.read_bytes()
    for size in range(0, len(content), 7):
        table_of(tmp_path).write_bytes(content[:size])
        with pytest.raises(CurateError) as raised:
            redact(path)
        assert raised.value.code == "E958 bad-key"
        assert path.read_bytes() == after


def test_the_table_reads_as_it_was_written(tmp_path: Path) -> None:
    table = PlaceholderTable()
    assert table.placeholder("e-mail address", EMAIL) == "[EMAIL_1]"
    assert table.placeholder("person", "Ana", ["Kovac"]) == "[PERSON_1]"
    write_table(tmp_path / "t.json", table)
    again = read_table(tmp_path / "t.json")
    assert again.placeholder("e-mail address", EMAIL.title()) == "[EMAIL_1]"
    assert again.placeholder("person", "Kovac", ["A. Kovac"]) == "[PERSON_1]"
    assert again.placeholder("person", "A. Kovac") == "[PERSON_1]"
    assert again.placeholder("e-mail address", OTHER) == "[EMAIL_2]"


# --- crashes and other calls -----------------------------------------------------------------------------------------


def test_the_table_is_written_before_any_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "a.jsonl", record(EMAIL))
    before = path.read_bytes()

    def fail(*_: object, **__: object) -> str:
        raise CurateError("E906 write-failed", "the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(rewrite, "write_atomic", fail)
        with pytest.raises(CurateError, match="disk is full"):
            redact(path)
    assert path.read_bytes() == before
    assert read_table(table_of(tmp_path)).placeholder("e-mail address", EMAIL) == "[EMAIL_1]"
    other = written(tmp_path / "b.jsonl", record(OTHER))
    assert redact(other) == 0
    assert outputs(other) == ["[EMAIL_2]"]


def call(*arguments: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "curate", "redact", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.ci
def test_many_calls_at_once_share_one_table(tmp_path: Path) -> None:
    paths = [
        written(tmp_path / f"{n}.jsonl", *(record(f"user{n}x{m}@parcels.shop, {EMAIL}") for m in range(50)))
        for n in range(4)
    ]
    for child in [call(path) for path in paths]:
        assert "Traceback" not in child.communicate(timeout=120)[1]
        assert child.returncode == 0
    pairs = [output.split(", ") for path in paths for output in outputs(path)]
    assert len({own for own, _ in pairs}) == 4 * 50
    assert len({shared for _, shared in pairs}) == 1
    assert read_table(table_of(tmp_path)).num_values == 4 * 50 + 1


@pytest.mark.ci
def test_who_waits_for_the_table_goes_by_what_another_call_added(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", record(EMAIL))
    file = tmp_path / "t.json"
    write_table(file, PlaceholderTable())
    with FileLock(f"{file}.lock"):
        child = call(path, "--table", file)
        assert child.stderr is not None
        assert child.stderr.readline() == f"waiting for another `curate redact` with the table {file}\n"
        assert outputs(path) == [EMAIL]
        assert child.poll() is None
        table = read_table(file)
        assert table.placeholder("e-mail address", OTHER) == "[EMAIL_1]"
        write_table(file, table)
    child.communicate(timeout=60)
    assert child.returncode == 0
    assert outputs(path) == ["[EMAIL_2]"]
    assert read_table(file).placeholder("e-mail address", OTHER) == "[EMAIL_1]"


def test_a_value_that_comes_after_the_table_was_saved_is_not_given_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "a.jsonl", record(EMAIL))

    def write_and_be_late(file: Path, table: PlaceholderTable) -> None:
        write_table(file, table)
        written(path, record(EMAIL), record(OTHER))

    monkeypatch.setattr(curate.checks.redact, "write_table", write_and_be_late)
    with pytest.raises(CurateError) as raised:
        redact(path)
    assert raised.value.code == "E959 not-rewritten"
    assert outputs(path) == [EMAIL, OTHER]


def test_a_table_that_we_cannot_write_is_good_for_what_it_knows(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", record(EMAIL))
    table = tmp_path / "mounted" / "t.json"
    assert redact(path, "--table", table) == 0
    (table.parent / "t.json.lock").unlink()
    before = table.stat()
    written(path, record(EMAIL))
    assert redact(path, "--table", table) == 0
    assert outputs(path) == ["[EMAIL_1]"]
    assert [item.name for item in table.parent.iterdir()] == ["t.json"]
    assert (table.stat().st_ino, table.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


# --- an old key ------------------------------------------------------------------------------------------------------

OLD_ENTRIES = [
    {"placeholder": "[EMAIL_7]", "kind": "e-mail address", "value": EMAIL, "also": []},
    {"placeholder": "[PERSON_2]", "kind": "person", "value": "Ana Kovac", "also": ["Kovac, Ana"]},
    {"placeholder": "[SECRET_1]", "kind": "password", "value": "tR7!kQz29bLm"},
]


def old_key(folder: Path, content: Any = None) -> Path:
    path = folder / ".curate" / "redact.key.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"version": 1, "entries": OLD_ENTRIES} if content is None else content))
    path.chmod(0o600)
    return path


def test_an_old_key_is_converted_and_left_until_a_person_says_yes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = old_key(tmp_path)
    content = key.read_bytes()
    path = written(tmp_path / "a.jsonl", record(f'{OTHER} {EMAIL.upper()} Kovac, Ana password = "tR7!kQz29bLm"'))
    (tmp_path / "people.txt").write_text("Kovac, Ana\n")
    for _ in range(2):
        assert redact(path, "--terms", tmp_path / "people.txt") == 0
        err = capsys.readouterr().err
        assert "old key: .curate/redact.key.json holds 3 values in clear text" in err
        assert "their numbers are in .curate/redaction.json now" in err
        assert "run the command again with --yes to delete it" in err
        assert EMAIL not in err
        assert outputs(path) == ['[EMAIL_1] [EMAIL_7] [PERSON_2] password = "[SECRET_1]"']
        assert key.read_bytes() == content
    table = table_of(tmp_path).read_bytes()
    assert redact(path, "--yes") == 0
    assert "deleted: .curate/redact.key.json" in capsys.readouterr().err
    assert not key.exists()
    assert table_of(tmp_path).read_bytes() == table
    written(path, record(f"{EMAIL} Kovac, Ana"))
    assert redact(path, "--terms", tmp_path / "people.txt") == 0
    assert outputs(path) == ["[EMAIL_7] [PERSON_2]"]
    assert "old key" not in capsys.readouterr().err


@pytest.mark.parametrize(("answer", "is_deleted"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_a_person_at_a_terminal_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, is_deleted: bool
) -> None:
    key = old_key(tmp_path)
    path = written(tmp_path / "a.jsonl", record("fine"))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: answer.strip())
    assert redact(path) == 0
    assert key.exists() != is_deleted
    assert read_table(table_of(tmp_path)).placeholder("e-mail address", EMAIL) == "[EMAIL_7]"


@pytest.mark.parametrize("option", ["--dry-run", "--diff", "--no-table"])
def test_what_writes_no_table_leaves_an_old_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    key = old_key(tmp_path)
    path = written(tmp_path / "a.jsonl", record(EMAIL))
    redact(path, option, "--yes")
    assert key.exists()
    assert not table_of(tmp_path).exists()
    out, err = capsys.readouterr()
    if option == "--no-table":
        assert outputs(path) == ["[EMAIL_1]"]
    else:
        assert "their numbers would be taken over by .curate/redaction.json" in err
    assert ("[EMAIL_7]" in out) == (option == "--diff")


def test_an_old_key_is_deleted_only_when_the_table_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = old_key(tmp_path)
    path = written(tmp_path / "a.jsonl", record(EMAIL))

    def fail(*_: object) -> None:
        raise CurateError("E906 write-failed", "the disk is full")

    monkeypatch.setattr(curate.checks.redact, "write_table", fail)
    with pytest.raises(CurateError, match="disk is full"):
        redact(path, "--yes")
    assert key.exists()
    assert outputs(path) == [EMAIL]


def test_numbers_that_the_table_has_given_away_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "a.jsonl", record(OTHER))
    assert redact(path) == 0
    old_key(tmp_path, {"version": 1, "entries": [{"placeholder": "[EMAIL_1]", "kind": "e", "value": EMAIL}]})
    written(path, record(f"{OTHER} {EMAIL}"))
    assert redact(path) == 0
    assert "1 value of .curate/redact.key.json get other numbers" in capsys.readouterr().err
    assert outputs(path) == ["[EMAIL_1] [EMAIL_2]"]


@pytest.mark.parametrize(
    "content",
    [
        [],
        {"version": 2, "entries": []},
        {"version": 1, "entries": [{"placeholder": "EMAIL", "kind": "e", "value": "hidden@parcels.shop"}]},
        {"version": 1, "entries": [{"placeholder": "[EMAIL_1]", "kind": "e", "value": 7}]},
        {"version": 1, "entries": [{"placeholder": "[EMAIL_1]", "kind": "e", "value": "hidden@parcels.shop"}] * 2},
    ],
)
def test_what_is_no_old_key_is_refused_and_not_shown(tmp_path: Path, content: Any) -> None:
    path = written(tmp_path / "a.jsonl", record(EMAIL))
    key = old_key(tmp_path, content)
    with pytest.raises(CurateError) as raised:
        redact(path, "--yes")
    assert raised.value.code == "E958 bad-key"
    assert "hidden" not in raised.value.message
    assert json.loads(key.read_text()) == content
    assert outputs(path) == [EMAIL]
