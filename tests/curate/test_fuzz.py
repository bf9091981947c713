"""Whatever happens to a line, reading it never raises, says where it is faulty, and spares its neighbours."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from curate.base.record import Exit, Finding
from curate.cli import cli
from curate.formats.reports import format_names
from curate.jsonl import FAULTS, Entry, locate, read_entries
from tests.effort import draws

LINES = [
    json.dumps(value, ensure_ascii=is_ascii).encode()
    for is_ascii in (True, False)
    for value in (
        {"id": "r1", "instruction": "Sag Grüße an Zoë 😀.", "output": 'a\tb\n"c" \\ \u2028'},
        {
            "id": "r2",
            "messages": [{"role": "user", "content": None}],
            "n": -12.5e3,
            "meta": {"a": [True, {}, []], "": 0},
        },
    )
]
BEFORE, AFTER = b'{"id": "before"}', b'{"id": "after"}'
PIECES = [b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"\\u", b"\\ud800", b"\x00", b"\x1b", b"\r", b"\xff",
          b"\xc3", b"NaN", b"1e999", b"9" * 25, b"\xef\xbb\xbf", b'"id":1,', b"[" * 70, b"<<<<<<< ours"]  # fmt: skip


@st.composite
def broken_lines(draw: st.DrawFn) -> bytes:
    """Draw a valid line that was flipped, cut, stretched or doubled in up to four places."""
    raw = draw(st.sampled_from(LINES))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(raw)))
        end = draw(st.integers(start, min(len(raw), start + 20)))
        match draw(st.sampled_from(["flip", "cut", "insert", "double", "drop"])):
            case "flip" if start < len(raw):
                raw = raw[:start] + bytes([raw[start] ^ 1 << draw(st.integers(0, 7))]) + raw[start + 1 :]
            case "cut":
                raw = raw[:start]
            case "insert":
                raw = raw[:start] + draw(st.sampled_from(PIECES) | st.binary(max_size=3)) + raw[start:]
            case "double":
                raw = raw[:end] + raw[start:]
            case "drop":
                raw = raw[:start] + raw[end:]
    return raw.replace(b"\n", b"")


@given(broken_lines())
@example(b'{"id": "a"' + b"\x00" * 40)
@settings(max_examples=draws(400), deadline=None)
def test_a_broken_line_is_told_and_its_neighbours_are_read(raw: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_bytes(b"\n".join([BEFORE, raw, AFTER, b""]))
        items = list(read_entries(path))
    entries = {item.line.source.line: item for item in items if isinstance(item, Entry)}
    findings = [item for item in items if isinstance(item, Finding)]
    assert (entries[1].line.raw, entries[3].line.raw) == (BEFORE, AFTER)
    assert {finding.line for finding in findings} <= {2}
    # The line is an object or a fault, never both, never neither.
    told = [finding for finding in findings if finding.code != "S119"]
    assert len(told) + (2 in entries) == 1
    for finding in told:
        assert finding.code in FAULTS
        assert 1 <= finding.column <= len(raw) + 1
        assert finding.message


@given(broken_lines())
@settings(max_examples=draws(200), deadline=None)
def test_what_is_read_is_what_a_lenient_parser_reads(raw: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_bytes(BEFORE + b"\n" + raw + b"\n")
        entry = next(
            (item for item in read_entries(path) if isinstance(item, Entry) and item.line.source.line == 2), None
        )
    if entry is not None:
        assert entry.value == json.loads(entry.line.raw)
        for key in entry.value:
            pointer = "/" + key.replace("~", "~0").replace("/", "~1")
            column = locate(entry.line.raw, pointer)
            value, _ = json.JSONDecoder().raw_decode(entry.line.raw[column - 1 :].decode())
            assert value == entry.value[key]


@pytest.mark.ci
@given(st.lists(broken_lines(), min_size=25, max_size=25), st.sampled_from(format_names()), st.booleans())
@settings(max_examples=draws(100), deadline=None, suppress_health_check=list(HealthCheck))
def test_broken_lines_end_in_a_verdict(raws: list[bytes], form: str, is_mended: bool) -> None:
    """Lines, checks, fixes and every output format together: files of 25 lines."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_bytes(b"".join(raw + b"\n" for raw in raws))
        more = ["--fix"] if is_mended else []
        done = CliRunner().invoke(cli, ["validate", str(path), "--schema", "instruction", "--format", form, *more])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
    assert done.exit_code in (Exit.OK, Exit.FINDINGS)
    assert "Traceback" not in done.output
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", done.stdout)
