"""Every hostile input of ../shared/badinputs that concerns reading and validating gives what its manifest says."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from curate import cli
from curate.base.record import CurateError
from curate.schema import load_shape
from tests.effort import EFFORT

BADINPUTS = Path(__file__).resolve().parents[2].parent / "shared" / "badinputs"
MANIFEST = BADINPUTS / "MANIFEST.jsonl"
CASES = [json.loads(line) for line in MANIFEST.read_text(encoding="utf-8").splitlines()] if MANIFEST.is_file() else []

# The manifest's classes in our codes. Where a class has two, the first case decides which one fits.
SHORT_LINES = 200_000 * EFFORT
"""How many of the ten million of the case."""
CODES: dict[str, set[str]] = {
    "duplicate-key": {"S105"},
    "non-finite": {"S106"},
    "number-range": {"S107"},
    "lone-surrogate": {"S108"},
    "utf8": {"S103"},
    "bom": {"S118"},
    "crlf": {"S119"},
    "syntax": {"S101", "S124"},
    "nul": {"X703"},
    "nul-tail": {"S122"},
    "depth": {"S110"},
    "truncated": {"S111"},
    "blank-line": {"S120"},
    "not-object": {"S112"},
    "empty": {"S121"},
    "conflict-marker": {"S113"},
    "lfs-pointer": {"S114"},
    "compressed": {"S115"},
    # Packed files are never unpacked, so that neither their size nor the paths in them matter.
    "size-limit": {"S115"},
    "path-traversal": {"S115", "S127"},
    "line-too-long": {"S116"},
    "schema": {"S102"},
    "too-many-keys": {"S117"},
    "duplicate-id": {"S104"},
    "id-normal-form": {"S126"},
    "confusable-id": {"S123"},
    "empty-text": {"Q201"},
    "control-char": {"S109", "X703"},
    "invisible-or-bidi": {"X704"},
    "special-token": {"X705", "X706"},
    "schema-unknown-keyword": {"S125"},
}

# Faults that come with another: both sides of a merge keep the id.
COMPANIONS = {"conflict-marker": {"S104"}}
# Findings about how much data there is, and that prompt and answer are one text, say nothing about what is attacked.
BESIDE = {"P502", "B801", "B802", "B803", "Q202"}

ELSEWHERE = {
    "config": "config and template and model: tests/train/test_badinputs.py",
    "train": "config and template and model: tests/train/test_badinputs.py",
    "export": "export: tests/curate/test_export_badinputs.py",
    "report": "export: tests/curate/test_export_badinputs.py",
    "journal": "journal: tests/curate/journal/test_faults.py",
    "merge": "none: curate no longer merges; what git leaves is tests/curate/test_unmerged.py",
    "save": "save: tests/curate/test_compact.py",
    "eval": "judge: the furnace issue",
}

STRING = {"type": "string"}
FILLED = {"type": "string", "minLength": 1}
TAIL = {
    "category": STRING,
    "meta": {"type": "object"},
    "score": {"type": ["number", "null"]},
    "n": {"type": "integer"},
    "note": {"type": ["string", "null"]},
    "tags": {"type": "array"},
}
DIALECT = "https://json-schema.org/draft/2020-12/schema"
ROWS = {
    "$schema": DIALECT,
    "type": "object",
    "required": ["instruction", "output"],
    "additionalProperties": False,
    "properties": {"id": FILLED, "instruction": FILLED, "output": STRING, **TAIL},
    "x-record": {"id": "/id", "prompt": "/instruction", "completion": "/output", "category": "/category"},
}
MESSAGES = {
    "$schema": DIALECT,
    "type": "object",
    "required": ["messages"],
    "additionalProperties": False,
    "properties": {
        "id": FILLED,
        "messages": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["role", "content"],
                "additionalProperties": False,
                "properties": {"role": {"enum": ["system", "user", "assistant", "tool"]}, "content": STRING},
            },
        },
        **TAIL,
    },
    "x-record": {"id": "/id", "messages": "/messages", "category": "/category"},
}
# These two rows are saved or trained on elsewhere; here they only have to be read, with keys of their own.
FREE = {"jsonl.number_spelling.jsonl"}

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
VALUE_WORDS = ("AKIAIOSFODNN7EXAMPLE", "jane.doe", "4111 1111", "hf_xxxx", "BEGIN RSA")


def cases_of(*stages: str) -> list[Any]:
    return [pytest.param(case, id=case["id"]) for case in CASES if case["stage"] in stages]


def is_schema_case(case: dict[str, Any]) -> bool:
    return case.get("file", "").startswith("schema/")


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the command line in this process and return (exit code, stdout, stderr)."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE)}

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["curate", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    yield run
    for number, handler in kept.items():
        signal.signal(number, handler)


def schema_for(case: dict[str, Any], folder: Path) -> Path:
    schema = MESSAGES if case.get("file", "").startswith("tokens/") else ROWS
    if case["id"] in FREE:
        schema = {**ROWS, "additionalProperties": True}
    path = folder / "row.schema.json"
    path.write_text(json.dumps(schema), encoding="utf-8")
    return path


def assert_harmless(text: str) -> None:
    assert not CONTROL.search(text)
    assert not [line for line in text.splitlines() if line.lstrip().startswith(("::", "##"))]
    assert "Traceback" not in text


def assert_as_said(case: dict[str, Any], code: int, verdict: dict[str, Any]) -> None:
    expect, cls = case["expect"], case.get("cls")
    findings = verdict["findings"]
    errors = [finding for finding in findings if finding["severity"] == "error"]
    if cls == "special-token" and "plain_role" in case["id"]:
        # The manifest's note allows a warning: a plain role word is no token of any vocabulary.
        expect = "accept+warn"
    if expect == "reject":
        assert code == 1
        assert errors
        assert {f["code"] for f in errors} <= CODES[cls] | COMPANIONS.get(cls, set())
        named = errors[0]
    else:
        assert code == 0
        assert not errors
        named = next((f for f in findings if cls and f["code"] in CODES[cls]), None)
        assert (named is not None) == (expect == "accept+warn")
        if expect == "accept":
            assert {f["code"] for f in findings} <= BESIDE
    if "line" in case and named:
        assert named["line"] == case["line"]
    if "col" in case:
        assert named["column"] == case["col"]
    if "records" in case:
        assert verdict["records"] == case["records"]
    if "errors" in case:
        assert verdict["errors"] == case["errors"]
    if "other_line" in case:
        assert f":{case['other_line']}" in named["message"]


@pytest.mark.skipif(not CASES, reason="needs ../shared/badinputs, which is not here")
def test_the_manifest_is_complete() -> None:
    assert len(CASES) == 153
    known = {"load", "validate", "import", "view", "ci"} | ELSEWHERE.keys()
    assert {case["stage"] for case in CASES} <= known


@pytest.mark.parametrize("case", [p for p in cases_of(*ELSEWHERE) if "records" not in p.values[0]])
def test_other_parts(case: dict[str, Any]) -> None:
    pytest.skip(ELSEWHERE[case["stage"]])


READ = [
    param
    for param in cases_of("load", "validate", "import", "view", "ci", "train", "save")
    if "file" in param.values[0]
    and not is_schema_case(param.values[0])
    and (param.values[0]["stage"] not in ELSEWHERE or "records" in param.values[0])
]


@pytest.mark.parametrize("case", READ)
def test_lines(case: dict[str, Any], call: Any, tmp_path: Path) -> None:
    path = BADINPUTS / case["file"]
    schema = schema_for(case, tmp_path)
    started = time.monotonic()
    code, out, err = call("validate", str(path), "--schema", str(schema), "--format", "json")
    assert time.monotonic() - started < 10
    assert_as_said(case, code, json.loads(out))
    assert_harmless(out + err)
    for options in (["text"], ["text", "--show-values"], ["concise"], ["jsonl"]):
        again, out, err = call("validate", str(path), "--schema", str(schema), "--format", *options)
        assert again == code
        assert_harmless(out + err)
        if "--show-values" not in options:
            assert not [word for word in VALUE_WORDS if word in out + err]


@pytest.mark.parametrize("name", ["crlf.jsonl", "bom.jsonl"])
@pytest.mark.skipif(not CASES, reason="needs ../shared/badinputs, which is not here")
def test_line_ends_do_not_change_records(name: str, tmp_path: Path) -> None:
    from curate.base.record import Record
    from curate.checks.runner import read_records

    shape = load_shape("instruction")
    raw = (BADINPUTS / "jsonl" / name).read_bytes()
    plain = tmp_path / "plain.jsonl"
    plain.write_bytes(raw.replace(b"\r\n", b"\n").removeprefix(b"\xef\xbb\xbf"))
    odd = tmp_path / "odd.jsonl"
    odd.write_bytes(raw)
    both = [[r.data for r in read_records([p], shape) if isinstance(r, Record)] for p in (plain, odd)]
    assert both[0] == both[1] != []


def test_the_path_is_data_too(call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("file name with %0A::error::x.jsonl", "::error::x.jsonl", "##[error]x.jsonl", "a\n::error::b.jsonl"):
        Path(name).write_text('{"id": 1}\n', encoding="utf-8")
        for style in ("text", "concise", "json", "jsonl"):
            code, out, err = call("validate", "--format", style, "--", name)
            assert code == 1
            assert_harmless(out + err)
    code, out, err = call("validate", "no\n::error::such.jsonl")
    assert code == 2
    assert_harmless(out + err)


def test_links_and_pipes(call: Any, tmp_path: Path) -> None:
    workspace = tmp_path / "work"
    (workspace / "data").mkdir(parents=True)
    (workspace / "curate.toml").write_text('schema = "instruction"\n', encoding="utf-8")
    secret = tmp_path / "secret.jsonl"
    secret.write_text("hush:x:0:0\n", encoding="utf-8")
    (workspace / "data" / "train.jsonl").symlink_to(secret)
    os.mkfifo(workspace / "data" / "pipe.jsonl")
    (workspace / "data" / "folder.jsonl").mkdir()
    (workspace / "data" / "gone.jsonl").symlink_to(workspace / "nothing")
    code, out, _ = call("validate", str(workspace), "--format", "json")
    findings = json.loads(out)["findings"]
    assert code == 1
    assert [f["code"] for f in findings if f["severity"] == "error"] == ["S127"] * 4
    assert "hush" not in out


def schema_of(raw: str) -> tuple[str, list[Any]]:
    """Return the text of the schema and the instances of a schema case; the text may be too deep to parse."""
    try:
        both = json.loads(raw)
    except RecursionError:
        start = raw.index(":", raw.index('"schema"')) + 1
        end = re.search(r',\s*"instances"', raw)
        return raw[start : end.start() if end else raw.rindex("}")], []
    return json.dumps(both["schema"]), both["instances"]


@pytest.mark.parametrize("case", [p for p in cases_of("validate") if is_schema_case(p.values[0])])
def test_schemas(case: dict[str, Any], tmp_path: Path, call: Any) -> None:
    text, instances = schema_of((BADINPUTS / case["file"]).read_text(encoding="utf-8"))
    path = tmp_path / "own.schema.json"
    path.write_text(text, encoding="utf-8")
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in instances if isinstance(row, dict)), encoding="utf-8")
    started = time.monotonic()
    code, out, err = call("validate", str(data), "--schema", str(path), "--format", "json")
    assert time.monotonic() - started < 2
    assert_harmless(out + err)
    if case["expect"] == "reject":
        assert code == 2
        with pytest.raises(CurateError) as refused:
            load_shape(str(path))
        assert refused.value.code == "E903 bad-schema"
        assert f": {case['cls']}: " in refused.value.message
        assert "root:" not in out + err
        return
    codes = {finding["code"] for finding in json.loads(out)["findings"]} if code != 2 else set()
    match case["expect"]:
        case "accept":
            assert (code, codes) == (0, set())
        case "accept+warn":
            assert code == 0
            assert codes == CODES[case["cls"]]
        case "reject-instance":
            assert code == 1
            assert codes == {"S102"}
        case _:
            assert case["expect"] == "fast"
            # A schema that could cost too much may also be refused.
            assert code in (0, 1) or (code, case.get("cls")) == (2, "schema-cost")


def run_measured(path: Path, *options: str) -> tuple[subprocess.CompletedProcess[str], float]:
    """Validate in a process of its own and return its result and its peak memory in MiB."""
    command = [sys.executable, "-c", MEASURED, "validate", str(path), "--format", "json", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    peak = float(done.stderr.rsplit("peak ", 1)[1])
    return done, peak


MEASURED = """
import resource, sys
from pathlib import Path
from curate.cli import main
try:
    main()
finally:
    # The peak of getrusage is inherited from the process that started us; that of this program's own memory is not.
    own = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
    sys.stderr.write(f"peak {max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1024}")
"""


def recipe_of(name: str) -> dict[str, Any]:
    found = [case for case in CASES if case["id"] == name]
    if not found:
        pytest.skip("needs ../shared/badinputs, which is not here")
    return found[0]


@pytest.mark.ci
def test_a_line_of_100_mb(tmp_path: Path) -> None:
    case = recipe_of("jsonl.one_line_100mb")
    recipe, path = case["recipe"], tmp_path / "long.jsonl"
    with path.open("wb") as file:
        file.write(recipe["prefix"].encode())
        for _ in range(recipe["count"] // 2**20):
            file.write(recipe["unit"].encode() * 2**20)
        file.write(recipe["suffix"].encode())
    done, peak = run_measured(path, "--schema", str(schema_for(case, tmp_path)))
    assert_as_said(case, done.returncode, json.loads(done.stdout))
    assert peak < 300


@pytest.mark.ci
def test_millions_of_short_lines(tmp_path: Path) -> None:
    case = recipe_of("jsonl.ten_million_short_lines")
    recipe, path = case["recipe"], tmp_path / "short.jsonl"
    num_lines = min(recipe["count"], SHORT_LINES)
    with path.open("wb") as file:
        for _ in range(num_lines // 100_000):
            file.write(recipe["line"].encode() * 100_000)
    done, peak = run_measured(path, "--schema", str(schema_for(case, tmp_path)), "--jobs", "1")
    verdict = json.loads(done.stdout)
    assert_as_said(case, done.returncode, verdict)
    assert verdict["lines"] == num_lines
    assert verdict["errors"] == 2 * num_lines
    assert verdict["shown"] == 1000
    assert peak < 300
