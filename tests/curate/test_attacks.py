"""Inputs made to hurt: each was once a crash, a leak, a lost fault, an order to a build server, or a long wait."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curate import cli
from curate.base.console import markdown_cell
from curate.base.record import CurateError, Source, normalised
from curate.base.storage import write_atomic
from curate.checks.answer import truncated
from curate.checks.characters import bidi_or_invisible
from curate.checks.identity import skeleton
from curate.checks.runner import CheckPlan, Verdict, validate
from curate.checks.special_tokens import special_token_in_text
from curate.formats.intake import take_in
from curate.formats.spreadsheet import guarded
from curate.schema import load_shape
from curate.schema.settings import Settings, read_settings
from tests import commands

Call = Callable[..., tuple[int, str, str]]
GOOD = '{"id": "r1", "instruction": "Say it.", "output": "It is said."}\n'
RAW = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]")


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Any:
    """Run the command line in ``tmp_path`` and return (exit code, stdout, stderr), which hold nothing that is alive."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE)}
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["curate", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capsys.readouterr()
        for line in (out + err).splitlines():
            assert not RAW.search(line)
            assert not line.lstrip().startswith(("::", "##"))
        return int(stop.value.code or 0), out, err

    yield run
    for number, handler in kept.items():
        signal.signal(number, handler)


def examined(path: Path, raw: bytes) -> Verdict:
    path.write_bytes(raw)
    return validate([path], CheckPlan(load_shape("instruction"), Settings()))


@pytest.mark.parametrize(
    ("head", "code"),
    [
        (b"\x78\x9cabc", "S115"),
        (b"\x5d\x00\x00\x80", "S115"),
        (b"\x1f\x9d\x90", "S115"),
        (b"\xff\x06\x00\x00sNaPpY", "S115"),
        (b"!<arch>\ndebian-binary", "S115"),
        (b"070701" + b"0" * 104, "S115"),
        (b"\x80\x04\x95\x10", "S115"),
        (b"\x93NUMPY\x01\x00", "S115"),
        (b"GGUF\x03\x00", "S115"),
        (b"version https://hawser.github.com/spec/v1\noid sha256:0\n", "S114"),
        (b"\xef\xbb\xbfversion https://git-lfs.github.com/spec/v1\noid sha256:0\n", "S114"),
        (b"# xet version 0\n", "S114"),
        (GOOD.encode("utf-16-le"), "S103"),
        (GOOD.encode("utf-32-be"), "S103"),
        (b"<head><title>Sign in</title>", "S124"),
    ],
)
def test_disguises_get_one_finding(head: bytes, code: str, tmp_path: Path) -> None:
    verdict = examined(tmp_path / "rows.jsonl", head)
    assert [(f.code, f.line) for f in verdict.findings if f.severity == "error"] == [(code, 1)]


@pytest.mark.parametrize(
    "marker", ["<<<<<<<<< Temporary merge branch 1", "=========", "%%%%%%% Changes from base", "+++++++ Side #2"]
)
def test_markers_of_other_merges(marker: str, tmp_path: Path) -> None:
    verdict = examined(tmp_path / "rows.jsonl", f"{GOOD}{marker}\n".encode())
    assert [(f.code, f.line, f.column) for f in verdict.findings if f.severity == "error"] == [("S113", 2, 1)]


@pytest.mark.ci
@pytest.mark.parametrize("unit", ["[],", "{},", '"ab",', "1.5,"])
def test_a_crowd_of_values_is_refused_before_it_is_built(unit: str, tmp_path: Path) -> None:
    raw = b'{"id": "x", "meta": {"a": [' + unit.encode() * 1_000_001 + b"1]}}\n" + GOOD.encode()
    verdict = examined(tmp_path / "rows.jsonl", raw)
    assert [(f.code, f.line) for f in verdict.findings if f.severity == "error"] == [("S117", 1)]
    assert verdict.num_records == 1


@pytest.mark.parametrize(
    "text",
    [
        "[gMASK]<sop>", "<unused42>", "[IMG][IMG_END]", "[THINK]a[/THINK]", "<PRE> a <SUF>", "[|user|]hi[|endofturn|]",
        "<reserved_106>", "<SPECIAL_10>System", "<|0.00|>", "<|tool|>[]<|/tool|>", "<tool_call>{}</tool_call>",
        "[CLS] a [SEP]", "hi<eoh>", "<file_sep>", "]~b]user", "<0x0A>", "<[begin\u2581of\u2581sentence]>",
        "<|START_OF_TURN_TOKEN|>", "<｜User｜>", "<|vision_start|>", "<|endofprompt|>", "<fim_prefix>",
    ],
)  # fmt: skip
def test_control_tokens_of_other_families(text: str) -> None:
    record = load_shape("instruction").record({"instruction": text, "output": "ok"}, Source("f", 1))
    assert [problem.pointer for problem in special_token_in_text(record, Settings())] == ["/instruction"]


@pytest.mark.parametrize("text", ["ab\u061ccd", "a\u2800b", "a\U0001bca0b", "a\U00013430b"])
def test_more_invisible_characters(text: str) -> None:
    record = load_shape("instruction").record({"instruction": "Say.", "output": text}, Source("f", 1))
    assert list(bidi_or_invisible(record, Settings()))


@pytest.mark.parametrize(
    ("one", "other"),
    [("rec1", "rec\ufe0f1"), ("rec1", "r\u034fec1"), ("rec-1", "rec\u20131"), ("a'b", "a\u2019b"), ("a/b", "a\u2215b"),
     ("id1", "\u0131d1"), ("data", "d\u0251ta"), ("ABC", "\u13aaBC"), ("k1", "\u043a1"), ("rec1", "rec1\u3164")],
)  # fmt: skip
def test_more_confusable_ids(one: str, other: str) -> None:
    assert skeleton(one) == skeleton(other)


def test_an_unfinished_sentence_is_told_without_its_words() -> None:
    output = "Of all that you have asked me for here is the token of it: hunter2secret,"
    record = load_shape("instruction").record({"instruction": "Why?", "output": output}, Source("f", 1))
    messages = [problem.message for problem in truncated(record, Settings())]
    assert len(messages) == 1
    assert "secret" not in messages[0]


BASE: dict[str, Any] = {"type": "object", "properties": {"output": {"type": "string"}}}


def twice(count: int, keyword: str) -> dict[str, Any]:
    parts: dict[str, Any] = {f"d{n}": {keyword: [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(count)}
    return {**BASE, "$ref": "#/$defs/d0", "$defs": parts | {f"d{count}": {"type": "array"}}}


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({**BASE, "allOf": [{"$ref": "http://[::1"}]}, "schema-invalid"),
        ({**BASE, "$id": "http://[bad"}, "schema-invalid"),
        ({**BASE, "allOf": [{"$ref": "a\x00.json"}]}, "missing-ref"),
        ({**BASE, "allOf": [{"$ref": "x" * 5000 + ".json"}]}, "missing-ref"),
        ({**BASE, "$ref": "#/x-a", "x-a": {"$ref": "#/x-a"}}, "schema-recursion"),
        ({**BASE, "$ref": "#/enum/0", "enum": [{"$ref": "#/enum/0"}]}, "schema-recursion"),
        ({**BASE, "$ref": "#/x-a", "x-a": {"$ref": "http://127.0.0.1:9/z"}}, "remote-ref"),
        (twice(30, "allOf"), "schema-cost"),
        (twice(25, "anyOf"), "schema-cost"),
        (twice(25, "oneOf"), "schema-cost"),
    ],
)
def test_hostile_schemas_are_refused(schema: dict[str, Any], reason: str, tmp_path: Path) -> None:
    path = tmp_path / "own.schema.json"
    path.write_text(json.dumps(schema), encoding="utf-8")
    with pytest.raises(CurateError) as refused:
        load_shape(str(path))
    assert refused.value.code == "E903 bad-schema"
    assert f": {reason}: " in refused.value.message


def test_a_schema_that_branches_at_every_level(tmp_path: Path) -> None:
    node = {"anyOf": [{"properties": {"a": {"$ref": "#/$defs/n"}}, "required": [key]} for key in ("y", "z")]}
    path = tmp_path / "own.schema.json"
    path.write_text(json.dumps({"properties": {"meta": {"$ref": "#/$defs/n"}}, "$defs": {"n": node}}), encoding="utf-8")
    shape = load_shape(str(path))
    value: Any = 1
    for _ in range(40):
        value = {"a": value}
    started = time.monotonic()
    assert "too deep" in shape.problems({"meta": value})[0].message
    assert not shape.is_valid({"meta": value})
    assert shape.is_valid({"meta": {"a": 1, "y": 2}})
    assert time.monotonic() - started < 1


def test_a_recursive_schema_of_everyday_is_not_held_back(tmp_path: Path) -> None:
    node = {"type": "object", "properties": {"left": {"$ref": "#/$defs/n"}, "right": {"$ref": "#/$defs/n"}}}
    path = tmp_path / "own.schema.json"
    path.write_text(json.dumps({"properties": {"meta": {"$ref": "#/$defs/n"}}, "$defs": {"n": node}}), encoding="utf-8")
    value: Any = {}
    for _ in range(60):
        value = {"left": value}
    assert load_shape(str(path)).is_valid({"meta": value})


@pytest.mark.parametrize(
    ("view", "pointer"),
    [
        ({"prompt": "/o", "completion": "/s"}, "/o"),
        ({"prompt": ["/s", "/n"], "completion": "/s"}, "/n"),
        ({"completion": "/n"}, "/n"),
        ({"messages": "/s"}, "/s"),
        ({"messages": "/l"}, "/l"),
        ({"text": "/o"}, "/o"),
        ({"completion": "/s", "meta": "/s"}, "/s"),
        ({"completion": "/s", "tools": "/n"}, "/n"),
        ({"completion": "/s", "ignore": "/n"}, "/n"),
        ({"completion": "/s", "split": "/l"}, "/l"),
    ],
)
def test_a_view_that_does_not_fit_the_line_is_a_finding(view: dict[str, Any], pointer: str, tmp_path: Path) -> None:
    path = tmp_path / "own.schema.json"
    path.write_text(json.dumps({"type": "object", "x-record": view}), encoding="utf-8")
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"s": "text", "n": 5, "o": {"a": 1}, "l": [1, null]}\n', encoding="utf-8")
    verdict = validate([rows], CheckPlan(load_shape(str(path)), Settings()))
    assert pointer in {f.pointer for f in verdict.findings if f.code == "S102"}
    assert verdict.num_records == 0


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 20_000 + "]" * 20_000,
        "[split]\nseed = " + "9" * 6000,
        'data = [""]',
        'data = ["."]',
        'data = ["\\u0000"]',
    ],
)
def test_settings_that_break_their_parser(text: str, tmp_path: Path) -> None:
    (tmp_path / "curate.toml").write_text(text, encoding="utf-8")
    with pytest.raises(CurateError) as refused:
        read_settings(tmp_path)
    assert refused.value.code == "E902 bad-settings"


NAMES = [b"a\n::error::x.jsonl", b"##vso[task]x.jsonl", b"\x1b[2Jx.jsonl", b"caf\xe9.jsonl", b"\xc2\x9b1m.jsonl",
         b"-x.jsonl", b"n" * 249 + b".jsonl"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_file_names_are_data(name: bytes, call: Call, tmp_path: Path) -> None:
    file = os.fsdecode(name)
    Path(file).write_text(GOOD + '{"id": 1}\n', encoding="utf-8")
    assert call("init", "work", "--schema", "instruction")[0] == 0
    for arguments in (["validate", "--format", "json", "--", file], ["validate", "--", file]):
        assert call(*arguments)[0] == 1
    expected = 2 if len(name) > 250 else 1
    assert call("import", "--into", "work", "--", file)[0] == expected
    kept, aside = tmp_path / "work" / "data", tmp_path / "work" / "quarantine"
    if expected == 1:
        assert [p.read_text(encoding="utf-8").count("\n") for p in (*kept.iterdir(), *aside.iterdir())] == [1, 1]
    for arguments in (["validate", "--", "no" + file], ["import", "--into", "work", "--", "no" + file]):
        assert call(*arguments)[0] == 2


@pytest.mark.parametrize(
    "arguments",
    [["\x1b[2J"], ["validate", "--\x1b[2J"], ["validate", "--format", "\x1b]0;x\x07"], ["rule", "\n::error::\x1b"],
     ["validate", "no\x9b.jsonl"], ["init", "x", "\n##[group]\x1b"], ["schema", "check", "\x1b[2J"]],
)  # fmt: skip
def test_what_the_user_typed_is_data(arguments: list[str], call: Call) -> None:
    assert call(*arguments)[0] == 2


def test_schema_infer_of_empty_objects(call: Call) -> None:
    Path("rows.jsonl").write_text("{}\n{}\n", encoding="utf-8")
    code, out, _ = call("schema", "infer", "rows.jsonl")
    assert (code, json.loads(out)["properties"]) == (0, {})


def test_counterexamples_that_are_no_list(call: Call) -> None:
    Path("own.json").write_text('{"type": "object", "x-counterexamples": 5}', encoding="utf-8")
    assert call("schema", "check", "own.json")[0] == 1


def test_findings_never_land_on_the_data(call: Call) -> None:
    Path("rows.jsonl").write_text(GOOD, encoding="utf-8")
    Path("link").symlink_to("rows.jsonl")
    os.mkfifo("pipe")
    for output in ("rows.jsonl", "link", "pipe"):
        assert call("validate", "rows.jsonl", "--output", output)[0] == 2
    assert Path("rows.jsonl").read_text(encoding="utf-8") == GOOD
    assert Path("link").is_symlink()


def test_two_imports_never_write_over_one_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "data" / "rows.jsonl"
    write_atomic(target, [b"theirs\n"], is_new=True)
    with pytest.raises(CurateError, match="is there already"):
        write_atomic(target, [b"ours\n"], is_new=True)
    assert target.read_bytes() == b"theirs\n"
    assert [path.name for path in target.parent.iterdir()] == ["rows.jsonl"]
    # Between the look and the writing another process puts the same file there.
    rows = tmp_path / "rows.jsonl"
    rows.write_text(GOOD, encoding="utf-8")
    target.write_text(GOOD, encoding="utf-8")
    real, looks = Path.exists, iter([False])
    monkeypatch.setattr(Path, "exists", lambda path: next(looks, True) if path == target else real(path))
    intake = take_in(rows, tmp_path, load_shape("instruction"))
    assert (intake.num_records, intake.is_unchanged) == (1, True)


@pytest.mark.parametrize("cell", ["\x0b=1", "\u2003=1", "﹦1", "﹢1", "−5+1", "\x00=1", "\u200b=1", "\t=1"])
def test_more_formula_forms(cell: str) -> None:
    assert guarded(cell) == "'" + cell


def test_a_category_cannot_steer_the_reader_of_the_card() -> None:
    assert not RAW.search(markdown_cell("a\x1b[2J\x9b1m\u202eb"))


def test_long_texts_are_normalised_as_short_ones_are() -> None:
    text = " Ａ b\n\u2003C\u0301 " * 60_000
    assert normalised(text) == " ".join(["a b ć"] * 60_000)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.ci
def test_a_signal_ends_all_workers_at_once(number: int, code: int, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f'{{"id": "{n}", "instruction": "Say {n}.", "output": "{n}"}}\n' for n in range(600_000)))
    command = [sys.executable, "-m", "curate", "validate", str(path), "--jobs", "2"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    time.sleep(2)
    started = time.monotonic()
    os.killpg(child.pid, number)
    _, err = child.communicate(timeout=30)
    assert child.returncode == code
    assert b"Traceback" not in err
    assert time.monotonic() - started < 5


@pytest.mark.ci
def test_ctrl_c_while_a_worker_starts_is_left_to_the_parent(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f'{{"id": "{n}", "instruction": "Say {n}.", "output": "{n}"}}\n' for n in range(2_000)))
    command = [sys.executable, "-m", "curate", "validate", str(path), "--jobs", "2"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as parent:
        interrupted: set[int] = set()
        while parent.poll() is None:
            try:
                children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
                for child in (int(child) for child in children):
                    if child not in interrupted and b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                        time.sleep(0.05)
                        os.kill(child, signal.SIGINT)
                        interrupted.add(child)
            except OSError:
                continue
        assert parent.stderr
        assert (parent.returncode, b"Traceback" in parent.stderr.read()) == (0, False)
        assert interrupted


def test_lists_for_programs_hold_no_raw_control_of_the_data(tmp_path: Path) -> None:
    text = "a\u009b2J\u202eb\U000e0041"
    (tmp_path / "data").mkdir()
    line = {"id": "x", "instruction": text, "output": "fine", "category": text}
    (tmp_path / "data/a.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    (tmp_path / "curate.toml").write_text("[split]\nseed = 1\n", encoding="utf-8")
    for command in (["list", "--format", "jsonl"], ["stats", "--format", "jsonl"]):
        done = commands.run("curate", command[0], tmp_path, *command[1:])
        assert done.returncode == 0, done.stderr
        assert done.stdout.isascii()
        assert json.loads(done.stdout.splitlines()[0])["category"] == text
