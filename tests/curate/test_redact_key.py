"""The key of a redaction: it alone brings the values back, and nothing else may see it."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest
from filelock import FileLock
from redacting import CARD, EMAIL, PHONE, PRIVATE_KEY, outputs, record, redact, written

from curate.cli import redact as redact_cli
from curate.places import shipped
from curate.record import CurateError
from curate.redact import Key, is_private, read_key, write_key

pytestmark = pytest.mark.usefixtures("in_own_folder")

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
