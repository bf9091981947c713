"""The options of `curate validate` that say what fails: baseline, since, stdin, watch, and what must not go along."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import click
import pytest
from click.testing import CliRunner, Result

from curate.base.record import CurateError, Exit
from curate.base.resources import shipped
from curate.cli import cli
from curate.cli.validate import command
from curate.project.data import load_data
from curate.project.publish import export_dataset, require_clean
from curate.project.validation import validate_data
from curate.schema import build_validator
from curate.schema.settings import Target


def run(*arguments: str | Path, stdin: str | None = None) -> Result:
    return CliRunner().invoke(cli, ["validate", *map(str, arguments)], input=stdin, standalone_mode=False)


def line(number: int, output: str = "Yes.", **more: Any) -> str:
    return json.dumps({"id": f"r{number}", "instruction": f"Is it {number}?", "output": output, **more}) + "\n"


def workspace(folder: Path, settings: str = "", **files: str) -> Path:
    root = folder / "ws"
    (root / "data").mkdir(parents=True)
    (root / "curate.toml").write_text(settings, encoding="utf-8")
    for name, text in files.items():
        (root / "data" / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return root


def test_targets_are_those_of_the_settings() -> None:
    option = next(param for param in command.params if param.name == "target")
    assert ["", *option.type.choices] == list(get_args(Target))  # type: ignore[attr-defined]


def test_a_baseline_from_first_to_last(tmp_path: Path) -> None:
    root = workspace(tmp_path, '[checks]\nbaseline = "known.json"\n', a=line(1, "") + line(2, ""), b=line(3, ""))
    with pytest.raises(CurateError) as caught:
        raise run(root).exception or AssertionError
    assert caught.value.code == "E904 no-such-file"
    first = run(root, "--update-baseline")
    assert first.return_value == Exit.OK
    assert "3 findings now (3 new, 0 gone)" in first.stderr
    known = root / "known.json"
    schema = json.loads((shipped("schemas") / "baseline.schema.json").read_text(encoding="utf-8"))
    assert build_validator(schema, {}).is_valid(json.loads(known.read_text()))
    again = run(root, "--update-baseline")
    assert "stays as it is" in again.stderr
    clean = run(root)
    assert clean.return_value == Exit.OK
    assert clean.stdout == ""
    assert "3 old findings forgiven by the baseline" in clean.stderr
    # A part of the workspace is forgiven too, and does not take the rest for mended.
    part = run(root / "data" / "b.jsonl")
    assert "1 old finding forgiven" in part.stderr
    assert "gone" not in part.stderr
    (root / "data" / "a.jsonl").write_text(line(2, "") + line(4, "") + line(1))
    worse = run(root, "--format", "concise")
    assert worse.return_value == Exit.FINDINGS
    assert "1 finding of the baseline is gone" in worse.stderr
    assert [one.split(":")[1] for one in worse.stdout.splitlines()] == ["2"]
    run(root, "--update-baseline")
    assert len(json.loads(known.read_text())["entries"]) == 3


def test_a_baseline_is_not_guessed_and_not_written_over_data(tmp_path: Path) -> None:
    root = workspace(tmp_path, '[checks]\nbaseline = "known.json"\n', a=line(1, ""), b=line(3, ""))
    data = root / "data" / "a.jsonl"
    calls: list[tuple[list[str | Path], str]] = [
        ([root, "--baseline", data, "--update-baseline"], "one of the files"),
        ([data, "--update-baseline"], "whole workspace"),
        ([root, "--update-baseline", "--baseline", root / "curate.toml"], "is no baseline"),
    ]
    for arguments, words in calls:
        assert words in str(run(*arguments).exception)
    assert data.read_text() == line(1, "")
    assert not (root / "known.json").exists()
    (tmp_path / "c.jsonl").write_text(line(1, ""))
    assert "which" in str(run(tmp_path / "c.jsonl", "--update-baseline").exception)
    (root / "curate.toml").write_text('[checks]\nbaseline = "../known.json"\n')
    assert "leads out" in str(run(root, "--update-baseline").exception)


def test_the_gate_of_an_export_sees_what_validate_sees(tmp_path: Path) -> None:
    settings = (
        '[checks]\nignore = ["P5"]\n[checks.tolerance.Q201]\nmax_count = 1\n[checks.tolerance.D301]\nmax_count = 0\n'
    )
    root = workspace(tmp_path, settings, a=line(1, "") + line(2))
    assert run(root).return_value == Exit.OK
    require_clean(validate_data(load_data(root)))
    data = root / "data" / "a.jsonl"
    data.write_text(line(1, "") + line(2) + line(3, "Yes.", instruction="Is it 2?"))
    failing = run(root)
    assert failing.return_value == Exit.FINDINGS
    assert "D301: 1, and its tolerance allows 0" in failing.stderr
    assert "Q201: 1 within its tolerance" in failing.stderr
    assert run(root, "--exit-zero").return_value == Exit.OK
    with pytest.raises(CurateError) as caught:
        require_clean(validate_data(load_data(root)))
    assert caught.value.code == "E907 dirty-data"
    assert "D301" in caught.value.message
    assert "Q201" not in caught.value.message


def test_a_baseline_lets_old_findings_out_but_no_unreadable_line(tmp_path: Path) -> None:
    root = workspace(tmp_path, '[checks]\nignore = ["P5"]\nbaseline = "known.json"\n', a=line(1, "") + line(2))
    run(root, "--update-baseline")
    require_clean(validate_data(load_data(root)))
    with (root / "data" / "a.jsonl").open("a") as file:
        file.write("{'id': 1}\n")
    run(root, "--update-baseline")
    assert run(root).return_value == Exit.OK
    with pytest.raises(CurateError) as caught:
        require_clean(validate_data(load_data(root)))
    assert "S101" in caught.value.message
    assert "Q201" not in caught.value.message


def test_stdin_is_named_and_ruled_as_if_it_lay_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = workspace(tmp_path, '[checks.per_path."data/old*"]\nignore = ["Q201"]\n', a=line(9))
    lines = line(1, "") + line(2) + line(2)
    plain = run("-", "--format", "jsonl", "--schema", "instruction", stdin=lines)
    assert plain.return_value == Exit.FINDINGS
    found = [json.loads(one) for one in plain.stdout.splitlines()]
    assert {one["file"] for one in found} == {"-"}
    assert any("-:2" in one["message"] for one in found)
    text = run("-", "--schema", "instruction", stdin=lines)
    assert "-:1:" in text.stdout
    assert "  1 | " in text.stdout
    for name, codes in (("old.jsonl", {"S104", "D301"}), ("new.jsonl", {"Q201", "S104", "D301"})):
        path = str(root / "data" / name)
        named = run("-", "--stdin-filename", path, "--format", "jsonl", stdin=lines)
        found = [json.loads(one) for one in named.stdout.splitlines()]
        assert {one["code"] for one in found} == codes
        assert {one["file"] for one in found} == {path}
    monkeypatch.chdir(tmp_path)
    outside = run("-", "--stdin-filename", "../x.jsonl", "--schema", "instruction", "--format", "concise", stdin=lines)
    assert outside.stdout.startswith("../x.jsonl:1:")
    empty = run("-", "--schema", "instruction", stdin="")
    assert "the file holds no line" in empty.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["-", "a.jsonl"], ["-", "--fix"], ["-", "--unsafe-fixes"], ["-", "--diff"], ["-", "--watch"],
        ["-", "--since", "HEAD"], ["a.jsonl", "--stdin-filename", "b"], ["a.jsonl", "--watch", "--fix"],
        ["a.jsonl", "--watch", "--update-baseline"], ["a.jsonl", "--since", "HEAD", "--update-baseline"],
        ["a.jsonl", "--since", "HEAD", "--fix"], ["a.jsonl", "--update-baseline", "--fix"],
        ["a.jsonl", "--max-length", "9"],
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_a_usage_error(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.jsonl"
    path.write_text(line(1, " Yes. "))
    assert isinstance(run(*arguments, stdin="{}").exception, click.UsageError)
    assert path.read_text() == line(1, " Yes. ")


@pytest.mark.skipif(not shutil.which("git"), reason="needs the program git")
def test_since_on_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(line(1, "") + line(2))
    own = ["-c", "user.name=someone", "-c", "user.email=someone@example.org", "-c", "commit.gpgsign=false"]
    for question in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "first"]):
        subprocess.run(["git", "-C", str(tmp_path), *own, *question], check=True, capture_output=True)
    assert run(path).return_value == Exit.FINDINGS
    assert run(path, "--since", "HEAD").return_value == Exit.OK
    path.write_text(line(1, "") + line(2, ""))
    new = run(path, "--since", "HEAD", "--format", "concise")
    assert new.return_value == Exit.FINDINGS
    assert [one.split(":")[1] for one in new.stdout.splitlines()] == ["2"]
    assert "in 1 changed line of 2" in new.stderr
    assert "E957" in getattr(run(path, "--since=-x").exception, "code", "")


def _until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


@pytest.mark.ci
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, Exit.INTERRUPTED), (signal.SIGTERM, Exit.TERMINATED)])
def test_watch_answers_changes_until_it_is_stopped(number: int, code: int, tmp_path: Path) -> None:
    root = workspace(tmp_path, "", a=line(1))
    talk, own = tmp_path / "talk", root / "data" / "o.json"
    with talk.open("wb") as file:
        watcher = subprocess.Popen(
            [sys.executable, "-m", "curate", "validate", str(root), "--watch", "--output", str(own)],
            stdout=subprocess.DEVNULL, stderr=file, env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip

    def rounds() -> int:
        return talk.read_text().count("watching for changes")

    try:
        _until(lambda: rounds() == 1)
        (root / "data" / "b.jsonl").write_text(line(2, ""))
        _until(lambda: rounds() == 2)
        assert "1 record, 0 errors" in talk.read_text()
        assert "2 records, 1 error" in talk.read_text()
        # Settings that are half typed are told, and do not end it.
        (root / "curate.toml").write_text("[checks")
        _until(lambda: rounds() == 3)
        assert "E902" in talk.read_text()
        (root / "curate.toml").write_text('[checks]\nignore = ["Q201"]\n')
        _until(lambda: rounds() == 4)
        assert talk.read_text().count("2 records, 0 errors") == 1
        # What it writes itself does not wake it.
        time.sleep(0.5)
        assert rounds() == 4
    finally:
        watcher.send_signal(number)
        assert watcher.wait(timeout=20) == code


def test_what_was_forgiven_stands_in_the_manifest(tmp_path: Path) -> None:
    text = "".join(line(number, "" if number == 3 else f"It is {number * 7}.") for number in range(40))
    root = workspace(tmp_path, '[split]\nseed = 1\n[checks]\nbaseline = "known.json"\n', a=text)
    run(root, "--update-baseline")
    export_dataset(load_data(root))
    manifest = json.loads((root / "dataset" / "v1" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["findings"]["Q201"] == 1


@pytest.mark.parametrize("streams", ["<&-", "2>&-", "2>/dev/full", "<&- 2>&-"])
def test_streams_that_are_closed_or_full_change_no_verdict(streams: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(line(1), encoding="utf-8")
    call = f"{sys.executable} -m curate validate {path} --schema instruction --ignore B8,P502 {streams}"
    done = subprocess.run(["bash", "-c", call], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, done.stderr if "2>" not in streams else "")
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.ci
def test_a_closed_stdout_is_no_traceback(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(line(1, ""), encoding="utf-8")
    for call, code in ((f"{path} >&-", 1), ("- <&-", 0), (f"{path} --limit 99999999999999999999", 2)):
        command = f"{sys.executable} -m curate validate --schema instruction {call}"
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
        assert (done.returncode, "Traceback" in done.stderr) == (code, False), (call, done.stderr)


def test_what_is_read_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(line(1), encoding="utf-8")
    base = str(tmp_path / "b.json")
    for call in (
        ["stats", str(path), "--html", str(path)],
        ["diff", str(path), str(path), "--output", str(path)],
        ["diff", str(tmp_path), str(tmp_path), "--output", str(path)],
        ["validate", str(path), "--output", str(path)],
        ["validate", str(path), "--baseline", base, "--update-baseline", "--output", base],
    ):
        done = CliRunner().invoke(cli, call)
        assert done.exit_code == 2, call
        assert path.read_text(encoding="utf-8") == line(1)


def test_a_baseline_with_a_nul_in_its_name_is_a_bad_setting(tmp_path: Path) -> None:
    root = workspace(tmp_path, '[checks]\nbaseline = "b\\u0000"\n', a=line(1))
    done = CliRunner().invoke(cli, ["validate", str(root)], standalone_mode=False)
    assert getattr(done.exception, "code", "") == "E902 bad-settings"
